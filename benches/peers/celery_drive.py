"""Drives Celery. A line `alone SECONDS` or `flood SECONDS` comes in, a line of JSON goes out: jobs, seconds, and of jobs alone
the time of each in microseconds."""

import collections
import json
import sys
import time

from celery import group

import shout
from celery_app import upper

EXPECTED = shout.TEXT.upper()
# Tasks of one group, and groups that are out at once.
GROUP, OUT = 250, 4


def alone(seconds):
    begun, micros = time.perf_counter(), []
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        assert upper.delay(shout.TEXT).get(timeout=60, interval=0.001) == EXPECTED
        micros.append((time.perf_counter() - at) * 1e6)
    return len(micros), time.perf_counter() - begun, micros


def flood(seconds):
    begun, jobs, out = time.perf_counter(), 0, collections.deque()
    while True:
        going = time.perf_counter() - begun < seconds
        while going and len(out) < OUT:
            out.append(group(upper.s(shout.TEXT) for _ in range(GROUP)).apply_async())
        if not out:
            return jobs, time.perf_counter() - begun, []
        done = out.popleft().join_native(timeout=120)
        assert done == [EXPECTED] * GROUP
        jobs += GROUP


for line in sys.stdin:
    how, seconds = line.split()
    jobs, took, micros = {"alone": alone, "flood": flood}[how](float(seconds))
    print(json.dumps({"jobs": jobs, "seconds": took, "micros": micros}), flush=True)
