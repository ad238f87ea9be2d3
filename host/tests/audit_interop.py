"""Checks logs with an implementation of the C2SP formats that we did not write: aics-tlog (PyPI).

Usage: audit_interop.py DIRECTORY, where each directory in DIRECTORY is a log as a host keeps it, with its key in log.pub.
Needs: pip install cryptography; pip install --no-deps --ignore-requires-python aics-tlog (it asks for Python 3.12, and runs with 3.11)
Prints one line per log: its name, and `passes` or `refused: ` and why. A fault that is not a refusal is an exception and a
non-zero status.
"""

import pathlib
import sys

import aics_tlog


def check(log: pathlib.Path) -> None:
    """Signature of the checkpoint, every tile and every bundle under its root, and the entries' own tree. ValueError, OSError: refused."""
    key = aics_tlog.read_vkey_file((log / "log.pub").read_text())
    note = aics_tlog.parse_note((log / "checkpoint").read_bytes())
    found = aics_tlog.verify_checkpoint(note, key, expected_origin=key.name)
    if not found.ok:
        raise ValueError(found.error)
    reader = aics_tlog.FileSystemTileReader(log)
    report = aics_tlog.audit_tiles(reader, found.size, found.root)
    assert report.size == found.size and report.bundles > 0, report
    entries = [aics_tlog.read_entry(reader, index, found.size) for index in range(found.size)]
    if aics_tlog.MerkleTree(entries).root() != found.root:
        raise ValueError("the entries make another root")
    # Each proof is made from the tiles, and checked against the signed root.
    for index in {0, found.size // 2, found.size - 1}:
        proof = aics_tlog.inclusion_proof_from_tiles(reader, index, found.size)
        if not aics_tlog.verify_inclusion(aics_tlog.leaf_hash(entries[index]), index, found.size, proof, found.root):
            raise ValueError(f"entry {index} is not proven")


def main() -> None:
    for log in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        try:
            check(log)
        except (ValueError, OSError) as refusal:
            print(f"{log.name}: refused: {refusal}")
        else:
            print(f"{log.name}: passes")


main()
