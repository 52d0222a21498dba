"""The text of a manifest (SPEC 5.1): for people, and yet every device reads it, so that it has a limit."""

import pytest

from fota_signer.examples import example_key
from fota_wire import cose, host_crypto, suit, suit_profile
from fota_wire.errors import FormatError

KEY = example_key("release-1")
XY = host_crypto.public_xy(KEY)
DIGEST = bytes(range(32))


def envelope_of(size):
    """An unsigned envelope whose text has ``size`` bytes."""
    text = suit.build_text("v", "m", "1.0.0", "x" * 300)
    text = suit.build_text("v", "m", "1.0.0", "x" * (300 + size - len(text)))
    assert len(text) == size
    return suit.build_envelope(suit.build_manifest(1, bytes(16), bytes(16), DIGEST, 4096, text), [], text)


def test_longest_text_is_signed_and_read_whatever_letters_it_is_in():
    raw = suit.add_signature(envelope_of(suit_profile.MAX_TEXT), cose.kid_of(XY), host_crypto.signer(KEY))
    manifest = suit.open_envelope(raw, {cose.kid_of(XY): XY}, 1, host_crypto.verify)
    assert manifest.text["version"] == "1.0.0"


def test_longer_text_is_signed_by_nobody():
    raw = envelope_of(suit_profile.MAX_TEXT + 1)
    for read in (
        lambda: suit.add_signature(raw, cose.kid_of(XY), host_crypto.signer(KEY)),
        lambda: suit.unsafe_read_manifest(raw),
    ):
        with pytest.raises(FormatError, match="text of 1025 bytes is longer than 1024") as refused:
            read()
        assert refused.value.code == "limit"
