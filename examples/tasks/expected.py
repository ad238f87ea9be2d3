"""Writes the expected outputs of the example tasks again, from their samples, without running any task.

    python3 examples/tasks/expected.py      then `git diff` shows what changed

Where coreutils can say it (wc, sha256sum), they do; the rest is computed here in another way than in the task.
thumbnail/expected*.png are not made here: the same pixels compress to other bytes in every PNG writer. They
are the task's own output, and this script compares their pixels with Pillow's scaling when Pillow is installed.
"""

import csv
import io
import itertools
import json
import math
import os
import re
import subprocess
import tomllib
from decimal import Decimal
from pathlib import Path

TASKS = Path(__file__).resolve().parent
REPO = TASKS.parent.parent


def tool(*command: str, stdin: bytes = b"", cwd: Path = TASKS) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, input=stdin, cwd=cwd, env=environment, check=True, capture_output=True)
    return done.stdout.decode()


def wordcount(folder: Path) -> dict[str, str]:
    files = sorted(path for path in (folder / "sample").rglob("*") if path.is_file())
    whole = tool("wc", stdin=b"".join(path.read_bytes() for path in files))
    # Through a pipe each, since wc chooses other widths for files.
    lines = []
    sums = [0, 0, 0]
    for path in files:
        line = tool("wc", stdin=path.read_bytes()).rstrip("\n")
        sums = [one + int(more) for one, more in zip(sums, line.split())]
        lines.append(f"{line} /in/{path.relative_to(folder / 'sample')}\n")
    lines.append("%7d %7d %7d total\n" % tuple(sums))
    notes = tool("wc", stdin=(folder / "sample/notes.txt").read_bytes())
    return {"expected.txt": whole, "expected-files.txt": "".join(lines), "expected-stdin.txt": notes}


def csv_report(folder: Path) -> dict[str, str]:
    # Exact decimals here, floating point in the task.
    groups: dict[str, list[Decimal]] = {}
    with open(folder / "sample.csv", newline="") as file:
        for row in csv.DictReader(file):
            groups.setdefault(row["region"], []).append(Decimal(row["amount"]))
    rows = [["region", "count", "sum", "mean", "min", "max"]]
    for name in sorted(groups, key=str.encode):
        values = groups[name]
        numbers = [sum(values), sum(values) / len(values), min(values), max(values)]
        rows.append([name, str(len(values)), *(f"{number:.2f}" for number in numbers)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]) + "\n")
    return {"expected.txt": "".join(lines)}


def primes(folder: Path) -> dict[str, str]:
    # Each number by its divisors here, a sieve in the task.
    up_to = 1_000_000
    found = [2]
    for number in range(3, up_to + 1, 2):
        root = math.isqrt(number)
        if all(number % prime for prime in itertools.takewhile(lambda prime: prime <= root, found)):
            found.append(number)
    result = {"up_to": up_to, "primes": len(found), "largest": found[-1]}
    return {
        "expected.txt": f"{len(found)} primes up to {up_to}, the largest is {found[-1]}\n",
        "expected-none.txt": "no primes up to 1\n",
        "expected-none.json": '{"up_to":1,"primes":0,"largest":null}\n',
        "expected-result.json": json.dumps(result, separators=(",", ":")) + "\n",
    }


def sha256sum(folder: Path) -> dict[str, str]:
    names = ["abc.txt", "block.bin", "empty.txt"]
    listed = tool("sha256sum", *names, cwd=folder / "sample").replace("  ", "  /in/")
    # Another first digit, so that the first file's digest is wrong.
    one_wrong = format(int(listed[0], 16) ^ 1, "x") + listed[1:]
    return {
        "expected.txt": tool("sha256sum", stdin=(folder / "sample.txt").read_bytes()),
        "expected-files.txt": listed,
        "list.txt": listed,
        "expected-check.txt": "".join(f"/in/{name}: OK\n" for name in names),
        "bad.txt": one_wrong,
        "expected-bad.txt": "/in/abc.txt: FAILED\n" + "".join(f"/in/{name}: OK\n" for name in names[1:]),
    }


def histogram(folder: Path) -> dict[str, str]:
    data = (folder / "sample.txt").read_bytes()
    lengths = [len(line) for line in data.split(b"\n")]
    if lengths[-1] == 0:
        lengths.pop()
    ranges = [(0, 0)]
    while ranges[-1][1] < max(lengths):
        low = ranges[-1][1] + 1
        ranges.append((low, 2 * low - 1))
    counts = [sum(low <= length <= high for length in lengths) for low, high in ranges]
    text = f"{len(lengths)} lines, {len(data)} bytes, longest line {max(lengths)}\n"
    for (low, high), count in zip(ranges, counts):
        bar = "#" * -(-40 * count // max(counts))
        text += f"{low:8} to {high:<8} {count:8}  {bar}\n"
    return {"expected.txt": text}


def log_summary(folder: Path) -> dict[str, str]:
    line_form = re.compile(r'\S+ \S+ \S+ \[[^]]*\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)(?: .*)?')
    statuses: dict[int, int] = {}
    paths: dict[str, int] = {}
    size = 0
    lines = (folder / "sample.log").read_text().splitlines()
    for line in lines:
        request, status, sent = line_form.fullmatch(line).groups()
        statuses[int(status)] = statuses.get(int(status), 0) + 1
        words = re.fullmatch(r"[^ ]* ([^ ?]*)(?:\?[^ ]*)? [^ ]*", request)
        path = words[1] if words else request
        paths[path] = paths.get(path, 0) + 1
        size += 0 if sent == "-" else int(sent)
    text = f"requests {len(lines)}\nbytes {size}\n"
    text += "".join(f"status {status} {statuses[status]}\n" for status in sorted(statuses))
    order = sorted(paths, key=lambda path: (-paths[path], path))
    return {
        "expected.txt": text + "".join(f"path {paths[path]} {path}\n" for path in order[:5]),
        "expected-top.txt": text + "".join(f"path {paths[path]} {path}\n" for path in order[:100]),
    }


def markdown_toc(folder: Path) -> dict[str, str]:
    text = (folder / "sample.md").read_text()
    text = re.sub(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n(?:.*\n)*? {0,3}\1.*$", "", text, flags=re.M)
    seen: dict[str, int] = {}
    toc: list[tuple[int, str]] = []
    for marks, title in re.findall(r"^ {0,3}(#{1,6}) +(.*?)(?: +#+)? *$", text, flags=re.M):
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        repeats = seen[anchor] = seen.get(anchor, -1) + 1
        link = f"{anchor}-{repeats}" if repeats else anchor
        toc.append((len(marks), f"{'  ' * (len(marks) - 1)}- [{title}](#{link})\n"))
    return {
        "expected.txt": "".join(line for _, line in toc),
        "expected-depth.txt": "".join(line for level, line in toc if level <= 2),
    }


def jsonl_group(folder: Path) -> dict[str, str]:
    groups: dict[str, dict] = {}
    for line in (folder / "sample.jsonl").read_text().splitlines():
        if not line:
            continue
        one = json.loads(line)
        key = one.get("user", {}).get("country")
        group = groups.setdefault(json.dumps(key), {"key": key, "count": 0, "sum": 0})
        group["count"] += 1
        group["sum"] += one.get("amount", 0)
    text = io.StringIO()
    for name in sorted(groups):
        group = groups[name]
        # JavaScript has one kind of number.
        group["sum"] = int(group["sum"]) if group["sum"] == int(group["sum"]) else group["sum"]
        text.write(json.dumps(group, separators=(",", ":"), ensure_ascii=False) + "\n")
    return {"expected.txt": text.getvalue()}


def build_order(folder: Path) -> dict[str, str]:
    needs = tomllib.loads((folder / "sample.toml").read_text())["build"]

    def wave(name: str) -> int:
        return max((wave(one) + 1 for one in needs.get(name, [])), default=0)

    def text(names: set[str]) -> str:
        waves: dict[int, list[str]] = {}
        for name in sorted(names):
            waves.setdefault(wave(name), []).append(name)
        return "".join(" ".join(waves[number]) + "\n" for number in sorted(waves))

    def closure(name: str) -> set[str]:
        return {name}.union(*(closure(one) for one in needs.get(name, [])))

    everything = set(needs).union(*needs.values())
    return {"expected.txt": text(everything), "expected-ui.txt": text(closure("ui"))}


def compare_thumbnails(folder: Path) -> None:
    try:
        from PIL import Image, ImageChops, ImageOps
    except ImportError:
        print("thumbnail: not compared (no Pillow)")
        return
    for sample, result, most in [
        ("sample.png", "expected.png", 64),
        ("sample.jpg", "expected-jpeg.png", 128),
    ]:
        with Image.open(folder / sample) as picture, Image.open(folder / result) as small:
            upright = ImageOps.exif_transpose(picture)
            scale = most / max(upright.size)
            size = tuple(round(side * scale) for side in upright.size)
            assert small.size == size, f"{result}: {small.size} is not {size}"
            # By channel: Pillow weighs colours by their opacity, the task does not.
            ours = [channel.resize(size, Image.Resampling.BILINEAR) for channel in upright.split()]
            worst = max(ImageChops.difference(a, b).getextrema()[1] for a, b in zip(ours, small.split()))
            assert worst <= 4, f"{result}: differs by {worst} of 255 from Pillow's"
            print(f"thumbnail: {result} differs from Pillow's by at most {worst} of 255")


def main() -> None:
    for make in [
        wordcount, csv_report, primes, sha256sum, histogram, log_summary, markdown_toc, jsonl_group, build_order,
    ]:
        folder = TASKS / make.__name__.replace("_", "-")
        for name, text in make(folder).items():
            (folder / name).write_bytes(text.encode())
            print(f"wrote {(folder / name).relative_to(REPO)}")
    compare_thumbnails(TASKS / "thumbnail")


if __name__ == "__main__":
    main()
