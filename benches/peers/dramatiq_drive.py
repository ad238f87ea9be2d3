"""Drives Dramatiq."""

from dramatiq import group

from dramatiq_app import upper
from drive import drive

drive(
    lambda text: upper.send(text).get_result(block=True, timeout=60_000),
    lambda texts: group([upper.message(text) for text in texts]).run(),
    lambda sent: sent.get_results(block=True, timeout=120_000),
)
