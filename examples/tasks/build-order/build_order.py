"""Order in which to build things that need each other: reads TOML from stdin, prints one line per wave.

    [build]
    app = ["core", "ui"]        # what app needs

Everything in one wave can be built at once, after all earlier waves. `build-order NAME...` keeps to what the named
things need. Exit: 0 done, 2 the input is wrong, 64 a name in the arguments is not in it.
"""

import sys
import tomllib
from graphlib import CycleError, TopologicalSorter

from wit_world import exports
from wit_world.imports import exit as wasi_exit

# Most bytes of input: a list written by people is far below.
MAX_BYTES = 4 * 1024 * 1024


EXIT_BAD_INPUT = 2
EXIT_USAGE = 64


class Failure(Exception):
    """What is wrong with the input or the arguments, in one sentence, and the exit code for it."""

    def __init__(self, message: str, code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


class Run(exports.Run):
    """The task's entry point, as wasi:cli/run names it."""

    def run(self) -> None:
        try:
            needs = restrict(parse(sys.stdin.buffer.read(MAX_BYTES + 1)), sys.argv[1:])
            for wave in waves(needs):
                print(" ".join(wave))
            sys.stdout.flush()
        except Failure as failure:
            print(f"build-order: {failure}", file=sys.stderr, flush=True)
            # Not sys.exit: it tells the host only that something failed.
            wasi_exit.exit_with_code(failure.code)


def parse(data: bytes) -> dict[str, list[str]]:
    """What each thing needs; things that are only needed need nothing."""
    if len(data) > MAX_BYTES:
        raise Failure(f"the input is longer than {MAX_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise Failure(f"the input is not UTF-8: byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"the input is not TOML: {error}") from error
    table = document.get("build")
    if not isinstance(table, dict) or not table:
        raise Failure("the input has no table [build]")
    for name, needed in table.items():
        if not isinstance(needed, list) or not all(isinstance(one, str) for one in needed):
            raise Failure(f"{name}: must be a list of names")
    return {one: [] for needed in table.values() for one in needed} | table


def restrict(needs: dict[str, list[str]], wanted: list[str]) -> dict[str, list[str]]:
    """The part of the graph that the wanted things need; all of it when nothing is named."""
    if not wanted:
        return needs
    kept: dict[str, list[str]] = {}
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in needs:
            raise Failure(f"{name}: nothing of that name in the input", EXIT_USAGE)
        if name not in kept:
            kept[name] = needs[name]
            pending.extend(needs[name])
    return kept


def waves(needs: dict[str, list[str]]) -> list[list[str]]:
    """Names in waves, sorted within each."""
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise Failure("these need each other: " + " -> ".join(reversed(error.args[1]))) from error
    found = []
    while sorter.is_active():
        wave = sorted(sorter.get_ready())
        found.append(wave)
        sorter.done(*wave)
    return found
