"""Readers of evidence that were not written here, in `build/evidence-judges`: securesystemslib
for DSSE, in-toto's own package, CycloneDX's validator, SPDX's model.
"""

import subprocess
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[1] / "build/evidence-judges/bin/python"

STATEMENT = """
import json, sys
from google.protobuf.json_format import Parse
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
envelope = Envelope.from_dict(json.loads(open(sys.argv[1]).read()))
keys = []
for kid, path in zip(sys.argv[2::2], sys.argv[3::2]):
    keys.append(SSlibKey.from_crypto(load_pem_public_key(open(path, "rb").read()), keyid=kid))
envelope.verify(keys, len(keys))
Statement.copy_from_pb(Parse(envelope.payload, statement_pb2.Statement())).validate()
"""
CYCLONEDX = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
assert found is None, found
"""
SPDX = """
import sys
from pathlib import Path
from spdx_python_model import v3_0_1 as model
objects = model.SHACLObjectSet()
with open(sys.argv[1]) as file:
    model.JSONLDDeserializer().read(file, objects)
missing = objects.link()
assert not missing, missing
assert not [one for one in objects.foreach() if type(one) is model.SHACLObject]
"""


def judge(script: str, *words: object) -> "subprocess.CompletedProcess[str]":
    """Return what a judge says of files; a test that has none is skipped, and says so."""
    if not PYTHON.exists():
        pytest.skip("no judges of evidence: make oracles")
    line = [str(PYTHON), "-c", script, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)
