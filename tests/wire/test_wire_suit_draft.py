"""The SUIT codec decodes the draft's examples, where FOTA_SUIT_VECTORS or ../shared/vectors/suit is."""

import os
from pathlib import Path

import pytest

from fota_wire import cbor, cose, host_crypto, suit, suit_profile
from fota_wire.errors import FormatError

FOLDER = Path(os.environ.get("FOTA_SUIT_VECTORS", Path(__file__).parents[3] / "shared" / "vectors" / "suit"))
FILES = sorted(FOLDER.glob("example*.hex")) + sorted(FOLDER.glob("own-*.hex"))

pytestmark = pytest.mark.skipif(not FILES, reason=f"the SUIT draft's examples are not at {FOLDER}")


def load(name):
    return bytes.fromhex("".join((FOLDER / name).read_text().split()))


def names(pattern=""):
    return [path.name for path in FILES if pattern in path.name]


@pytest.mark.parametrize("name", names())
def test_draft_example_decodes_and_its_digests_match(name):
    raw = load(name)
    envelope = suit.parse_envelope(raw, unsafe_draft=True)  # raises if the manifest digest is wrong
    assert cbor.encode(cbor.decode(raw, tags=(107,))) == raw
    suit_profile.check_severed(cbor.decode(envelope.manifest), envelope.members)
    assert len(envelope.signatures) == (0 if "unsigned" in name else 2 if "own" in name else 1)


@pytest.mark.parametrize("name", names("-signed-"))
def test_draft_example_signature_is_by_the_test_key(name):
    public = host_crypto.load_public_key(FOLDER / "test-key-public.pem")
    envelope = suit.parse_envelope(load(name), unsafe_draft=True)
    for signature in envelope.signatures:
        signature.check(public, b"", envelope.signed, host_crypto.verify)


@pytest.mark.parametrize("name", names("-signed-"))
def test_draft_example_refused_without_the_switch(name):
    with pytest.raises(FormatError):
        suit.parse_envelope(load(name))


@pytest.mark.parametrize("name", names("example2-full"))
def test_draft_example_with_swapped_members_refused(name):
    envelope = suit.parse_envelope(load(name), unsafe_draft=True)
    envelope.members[20], envelope.members[23] = envelope.members[23], envelope.members[20]
    with pytest.raises(suit.VerifyError):
        suit_profile.check_severed(cbor.decode(envelope.manifest), envelope.members)


def test_own_bank_envelope_is_inside_the_profile():
    envelope = suit.parse_envelope(load("own-bank-2of3-esp256.hex"), unsafe_draft=True)
    content = suit_profile.parse_manifest(envelope.manifest, envelope.members)
    assert content.sequence == 7
    assert content.size == 200000
    assert suit_profile.parse_text(content.text)["version"] == "1.4.2"


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("own-bank")])
def test_envelope_outside_the_profile_refused(name):
    envelope = suit.parse_envelope(load(name), unsafe_draft=True)
    with pytest.raises(FormatError):
        suit_profile.parse_manifest(envelope.manifest, envelope.members)


def test_proposed_assignment_and_root_are_cose_as_ours():
    assert cose.parse_sign1(load("proposal-assignment.hex"), unsafe_draft=True).kid == b"o1"
    parts = cbor.decode(load("proposal-root.hex"))
    assert [cose.parse_sign1(part, True, True).kid for part in parts[1:]] == [b"R1", b"R2"]
