"""Reads a golden receipt's statement with tools that we did not write: securesystemslib checks the DSSE signature, and
in-toto-attestation reads Statement v1 and SLSA provenance v1 by their protobuf schemas, in which an unknown field is an error.

Usage: receipt_interop.py DIRECTORY, where DIRECTORY holds attestation.json and host.pub.
Needs: pip install 'securesystemslib[crypto]' in-toto-attestation
Prints one line; any failure is an exception and a non-zero status.
"""

import base64
import json
import pathlib
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def is_refused(envelope: Envelope, key: SSlibKey) -> bool:
    try:
        envelope.verify([key], 1)
    except VerificationError:
        return True
    return False


def is_unreadable(text: str) -> bool:
    try:
        json_format.Parse(text, provenance_pb2.Provenance())
    except json_format.ParseError:
        return True
    return False


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    host = (directory / "host.pub").read_text().strip()
    scheme, _, digits = host.partition(":")
    assert scheme == "ed25519", scheme
    key = SSlibKey(host, "ed25519", "ed25519", {"public": digits})
    text = (directory / "attestation.json").read_text()

    envelope = Envelope.from_dict(json.loads(text))
    assert list(envelope.verify([key], 1)) == [key.keyid]
    assert envelope.payload_type == "application/vnd.in-toto+json", envelope.payload_type
    for place in range(0, len(envelope.payload), 97):
        flipped = bytearray(envelope.payload)
        flipped[place] ^= 1
        changed = json.loads(text)
        changed["payload"] = base64.b64encode(bytes(flipped)).decode()
        assert is_refused(Envelope.from_dict(changed), key), f"a changed byte {place}"

    statement = json_format.Parse(envelope.payload, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    names = [subject.name for subject in statement.subject]
    assert names == ["stdout", "stderr", "result", "artifacts/report.txt", 'artifacts/sub/a "b".txt'], names
    assert all(len(subject.digest["sha256"]) == 64 for subject in statement.subject)
    predicate = json.dumps(json.loads(envelope.payload)["predicate"])
    provenance = json_format.Parse(predicate, provenance_pb2.Provenance())
    assert provenance.run_details.builder.id == f"urn:strongroom:host:{host}"
    assert [one.name for one in provenance.build_definition.resolved_dependencies] == ["module", "envelope", "input"]
    assert [one.name for one in provenance.run_details.byproducts] == ["admitted", "finished", "checkpoint"]
    assert provenance.run_details.metadata.started_on.ToMilliseconds() == 1_700_000_000_456
    # The reader is strict: it would have said so if we used a field that the schema does not have.
    assert is_unreadable(predicate.replace('"builder"', '"builders"')), "the reader takes anything"
    print(f"attestation.json: verified and read, {len(envelope.payload)} bytes")


main()
