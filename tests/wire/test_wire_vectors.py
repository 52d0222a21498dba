"""The vectors of tests/vectors: each is accepted, or refused with the error that it names."""

import importlib.util
import json
from functools import lru_cache
from pathlib import Path

import pytest

from fota_signer.examples import example_key
from fota_signer.images import Device, check_image
from fota_wire import assignment, campaign, cbor, cose, host_crypto, journal, receipt, report, status, suit
from fota_wire import root as roots
from fota_wire.errors import FotaError

VECTORS = Path(__file__).parent.parent / "vectors"
NONCE, DEVICE = bytes(range(16)), bytes.fromhex("0123aabbccddeeff01")
TABLES = ("cbor", "suit", "root", "campaign", "receipt", "assignment", "report", "image", "journal")


def load(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def cases():
    return [pytest.param(t, v, id=f"{t}-{v['name']}") for t in TABLES for v in load(t)]


def xy(name):
    return host_crypto.public_xy(example_key(name))


def genesis():
    return roots.open_genesis(bytes.fromhex(load("root")[0]["hex"]), host_crypto.verify)


@lru_cache
def script():
    spec = importlib.util.spec_from_file_location("make_vectors", VECTORS / "make_vectors.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def open_vector(table, name, raw):
    if table == "cbor":
        assert cbor.encode(cbor.decode(raw)) == raw
    elif table == "suit":
        keys = {cose.kid_of(xy(f"release-{n}")): xy(f"release-{n}") for n in (1, 2, 3)}
        suit.open_envelope(raw, keys, 2, host_crypto.verify)
    elif table == "root" and name.startswith("step"):
        roots.step(genesis(), raw, host_crypto.verify)
    elif table == "root":
        roots.open_genesis(raw, host_crypto.verify)
    elif table == "campaign":
        known = roots.open_genesis(script().campaign_root(), host_crypto.verify)
        found = campaign.open_campaign(raw, known, script().IMAGE_DIGEST, host_crypto.verify)
        assert found.until(DEVICE, script().CAMPAIGN_GROUP, script().CAMPAIGN_TIME) >= script().CAMPAIGN_TIME
    elif table == "receipt":
        known = roots.open_genesis(script().log_root(), host_crypto.verify)
        receipt.require_logged(raw, script().IMAGE_DIGEST, known, host_crypto.verify)
    elif table == "assignment":
        assignment.open_assignment(raw, genesis(), NONCE, DEVICE, host_crypto.verify)
    elif table == "report":
        report.open_report(raw, xy("image-b"), NONCE, DEVICE, host_crypto.verify)
    elif table == "image":
        check_image(raw, Device(roots=(xy("image-a"),)))
    else:
        record = journal.unpack(raw)
        if record is None:
            raise FotaError("absent", "absent")
        assert journal.pack(record) == raw


@pytest.mark.parametrize(("table", "vector"), cases())
def test_vector_gives_its_verdict(table, vector):
    raw = bytes.fromhex(vector["hex"])
    if vector["error"] is None:
        open_vector(table, vector["name"], raw)
        return
    with pytest.raises(FotaError) as caught:
        open_vector(table, vector["name"], raw)
    code = caught.value.code
    assert (status.STATUS[code][0] if isinstance(code, int) else code) == vector["error"]


def test_committed_vectors_are_those_of_the_script():
    for name, text in script().all_vectors().items():
        assert (VECTORS / name).read_text() == text, f"{name}: run tests/vectors/make_vectors.py"
