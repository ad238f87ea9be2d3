"""What drives a peer. A line `alone SECONDS` or `flood SECONDS` comes in, a line of JSON goes out: jobs, seconds, and of jobs alone the
time of each in microseconds. A peer gives three functions: one job done, from its making to its answer; a group that is sent; and
the answers of such a group.
"""

import collections
import json
import sys
import time

import shout

EXPECTED = shout.TEXT.upper()
# Jobs of one group, and groups that are out at once.
GROUP, OUT = 250, 4


def alone(seconds, one):
    begun, micros = time.perf_counter(), []
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        assert one(shout.TEXT) == EXPECTED
        micros.append((time.perf_counter() - at) * 1e6)
    return len(micros), time.perf_counter() - begun, micros


def flood(seconds, send, answers):
    begun, jobs, out = time.perf_counter(), 0, collections.deque()
    while True:
        going = time.perf_counter() - begun < seconds
        while going and len(out) < OUT:
            out.append(send([shout.TEXT] * GROUP))
        if not out:
            return jobs, time.perf_counter() - begun, []
        assert list(answers(out.popleft())) == [EXPECTED] * GROUP
        jobs += GROUP


def drive(one, send, answers):
    for line in sys.stdin:
        how, seconds = line.split()
        if how == "alone":
            jobs, took, micros = alone(float(seconds), one)
        else:
            jobs, took, micros = flood(float(seconds), send, answers)
        print(json.dumps({"jobs": jobs, "seconds": took, "micros": micros}), flush=True)
