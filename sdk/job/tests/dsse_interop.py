"""Verifies our golden envelopes with a DSSE implementation that we did not write: securesystemslib (PyPI).

Usage: dsse_interop.py DIRECTORY, where DIRECTORY holds job.json, batch.json and principal.pub.
Needs: pip install 'securesystemslib[crypto]'
Prints one line per envelope; any failure is an exception and a non-zero status.
"""

import base64
import json
import pathlib
import sys

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def key_from(text: str) -> SSlibKey:
    scheme, _, digits = text.strip().partition(":")
    assert scheme == "ed25519", scheme
    return SSlibKey(text.strip(), "ed25519", "ed25519", {"public": digits})


def is_refused(envelope: Envelope, key: SSlibKey) -> bool:
    try:
        envelope.verify([key], 1)
    except VerificationError:
        return True
    return False


def check(path: pathlib.Path, payload_type: str, key: SSlibKey, stranger: SSlibKey) -> None:
    text = json.loads(path.read_text())
    envelope = Envelope.from_dict(json.loads(path.read_text()))
    assert list(envelope.verify([key], 1)) == [key.keyid]
    assert envelope.payload_type == payload_type, envelope.payload_type
    body = json.loads(envelope.payload)
    assert body["version"] == 1 and body["context"]["tenant"] == "acme", body
    # What they sign is what we sign: type, lengths and body.
    head = f"DSSEv1 {len(payload_type)} {payload_type} {len(envelope.payload)} ".encode()
    assert envelope.pae() == head + envelope.payload

    assert is_refused(envelope, stranger), "a good signature of nobody's"
    flipped = bytearray(envelope.payload)
    flipped[len(flipped) // 2] ^= 1
    text["payload"] = base64.b64encode(bytes(flipped)).decode()
    assert is_refused(Envelope.from_dict(text), key), "a changed body"
    print(f"{path.name}: verified, {len(envelope.payload)} bytes")


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    key = key_from((directory / "principal.pub").read_text())
    # The host's key of the golden files: a good key that did not sign.
    other = "ed25519:8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"
    stranger = key_from(other)
    stranger.keyid = key.keyid
    check(directory / "job.json", "application/vnd.strongroom.job.v1+json", key, stranger)
    check(directory / "batch.json", "application/vnd.strongroom.batch.v1+json", key, stranger)


main()
