"""Drives Dramatiq, with the same lines as `celery_drive.py`."""

import collections
import json
import sys
import time

from dramatiq import group

import shout
from dramatiq_app import upper

EXPECTED = shout.TEXT.upper()
# Messages of one group, and groups that are out at once.
GROUP, OUT = 250, 4


def alone(seconds):
    begun, micros = time.perf_counter(), []
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        assert upper.send(shout.TEXT).get_result(block=True, timeout=60_000) == EXPECTED
        micros.append((time.perf_counter() - at) * 1e6)
    return len(micros), time.perf_counter() - begun, micros


def flood(seconds):
    begun, jobs, out = time.perf_counter(), 0, collections.deque()
    while True:
        going = time.perf_counter() - begun < seconds
        while going and len(out) < OUT:
            out.append(group([upper.message(shout.TEXT) for _ in range(GROUP)]).run())
        if not out:
            return jobs, time.perf_counter() - begun, []
        done = list(out.popleft().get_results(block=True, timeout=120_000))
        assert done == [EXPECTED] * GROUP
        jobs += GROUP


for line in sys.stdin:
    how, seconds = line.split()
    jobs, took, micros = {"alone": alone, "flood": flood}[how](float(seconds))
    print(json.dumps({"jobs": jobs, "seconds": took, "micros": micros}), flush=True)
