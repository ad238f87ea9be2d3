"""Drives Celery."""

from celery import group

from celery_app import upper
from drive import drive

drive(
    lambda text: upper.delay(text).get(timeout=60, interval=0.001),
    lambda texts: group(upper.s(text) for text in texts).apply_async(),
    lambda sent: sent.join_native(timeout=120),
)
