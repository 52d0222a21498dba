"""``fota campaign``: what devices would refuse is not made, signatures merge, ROOT says whose count."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_signer_root import made, signing

from fota_signer.campaign_command import read_wave
from fota_wire import campaign, host_crypto, suit
from fota_wire import root as roots
from fota_wire.errors import InputError

DAY = 86_400


@pytest.fixture
def release(fota, key_dir, monkeypatch):
    """ROOT 1 with CAMPAIGN keys (2 of 3), and the manifest of a release."""
    monkeypatch.setenv("FOTA_KEY_PASSWORD", "correct horse battery")
    for name in "abc":
        made(fota("keys", "new", f"campaign/{name}", "-o", f"{name}.pem"))
        made(fota("keys", "public", f"{name}.pem", "-o", f"{name}.pub"))
    keys = [word for n in (1, 2, 3) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
    keys += [word for n in (1, 2, 3) for word in ("--release-key", key_dir / f"release-{n}.pub.pem")]
    keys += ["--assign-key", key_dir / "assign.pub.pem", *signing(key_dir)]
    keys += [word for name in "abc" for word in ("--campaign-key", f"{name}.pub")]
    made(fota("root", "new", *keys, "-o", "root.cbor"))
    manifest = suit.build_manifest(3, bytes(16), b"1" * 16, bytes(32), 9, suit.build_text("a", "b", "1.0.0"))
    Path("r.suit").write_bytes(suit.build_envelope(manifest, [], suit.build_text("a", "b", "1.0.0")))
    return suit.manifest_digest(manifest)


def new(fota, *waves, out="0.campaign"):
    words = [word for wave in waves for word in ("--wave", wave)]
    return fota("campaign", "new", "r.suit", *words, "-o", out)


def test_two_people_sign_in_turn_or_apart_and_a_device_takes_it(fota, release):
    made(new(fota, "5% 2096-12-01T08:00 2096-12-08 canary", "100% 2096-12-08 2097-01-01T00:00+01:00"))
    root = roots.unsafe_read_root(Path("root.cbor").read_bytes())
    by = "--root", "root.cbor", "--key"
    made(fota("campaign", "sign", "0.campaign", *by, "a.pem", "-o", "a.campaign"))
    made(fota("campaign", "sign", "0.campaign", *by, "b.pem", "-o", "b.campaign"))
    made(fota("campaign", "sign", "a.campaign", *by, "c.pem", "-o", "ac.campaign"))
    made(fota("campaign", "merge", "a.campaign", "b.campaign", "--root", "root.cbor", "-o", "ab.campaign"))
    for name in ("ab.campaign", "ac.campaign"):
        found = campaign.open_campaign(Path(name).read_bytes(), root, release, host_crypto.verify)
        assert found.waves == [
            (4_005_187_200, 4_005_763_200, 500, "canary"),
            (4_005_763_200, 4_007_833_200, 10_000, ""),
        ]
    shown = json.loads(fota("campaign", "show", "a.campaign", "--root", "root.cbor", "--json").stdout)
    assert (shown["verified"], shown["missing"]) == (False, "1 of 2 necessary signatures")
    assert shown["waves"][0] == "5% 2096-12-01T08:00:00Z 2096-12-08T00:00:00Z canary"
    assert shown["manifest_digest"] == release.hex()
    assert json.loads(fota("campaign", "show", "ab.campaign", "--root", "root.cbor", "--json").stdout)[
        "verified"
    ]
    assert json.loads(fota("inspect", "ab.campaign", "--json").stdout)["kind"] == "campaign"


def test_key_of_another_role_or_of_none_of_root_does_not_sign(fota, refused, release, key_dir):
    made(new(fota, "100% 2096-12-01 2096-12-02"))
    made(fota("keys", "new", "campaign/stranger", "-o", "d.pem"))
    made(fota("keys", "new", "release/alice", "-o", "alice.pem"))
    sign = "campaign", "sign", "0.campaign", "--root", "root.cbor", "-o", "x", "--key"
    refused(3, *sign, "d.pem", says="no CAMPAIGN key of ROOT 1")
    refused(3, *sign, "alice.pem", says="a key of role campaign")
    assert not Path("x").exists()


def test_two_documents_are_not_one(fota, refused, release):
    made(new(fota, "100% 2096-12-01 2096-12-02"))
    made(new(fota, "100% 2096-12-01 2096-12-03", out="1.campaign"))
    both = "0.campaign", "1.campaign", "-o", "x"
    refused(1, "campaign", "merge", *both, says="two different CAMPAIGN documents")


def test_signed_document_that_somebody_signed_wrongly_is_not_merged(fota, refused, release):
    made(new(fota, "100% 2096-12-01 2096-12-02"))
    made(fota("campaign", "sign", "0.campaign", "--key", "a.pem", "-o", "a.campaign"))
    raw = bytearray(Path("a.campaign").read_bytes())
    raw[-1] ^= 1
    Path("a.campaign").write_bytes(raw)
    both = "0.campaign", "a.campaign", "--root", "root.cbor", "-o", "x"
    refused(1, "campaign", "merge", *both, says="is wrong")


@pytest.mark.parametrize(
    ("wave", "word"),
    [
        ("100%", "is not 'SHARE FROM UNTIL [GROUP]'"),
        ("0% 2096-12-01 2096-12-02", "no share of 0.01% to 100%"),
        ("100.01% 2096-12-01 2096-12-02", "no share"),
        ("5 2096-12-01 2096-12-02", "no share"),
        ("5% soon 2096-12-02", "no time such as"),
        ("5% 1969-12-01 2096-12-02", "before 1970"),
        ("5% 2096-12-02 2096-12-01", "ends before it begins"),
        ("5% 2020-12-01 2020-12-02", "has ended: this machine's clock says 20"),
        ("5% 2096-12-01 2096-12-02 a/b", "campaign group is not"),
        ("5% 2096-12-01 2096-12-02 a b", "is not 'SHARE FROM UNTIL [GROUP]'"),
    ],
)
def test_wave_that_no_device_could_follow_is_refused_with_its_reason(wave, word):
    with pytest.raises(InputError, match=r".*") as caught:
        read_wave(wave)
    assert word in str(caught.value)


def test_document_that_has_ended_is_not_signed_and_says_so_when_it_is_shown(fota, refused, release):
    for name, waves in (
        ("over", [(0, 9, 500, ""), (5, 1 << 30, 10_000, "")]),
        ("half", [(0, 9, 500, "")] * 2),
    ):
        if name == "half":
            waves[1] = (0, 1 << 40, 500, "")
        Path(name).write_bytes(campaign.build_campaign(release, waves))
    sign = "campaign", "sign", "over", "--root", "root.cbor", "--key", "a.pem", "-o", "x"
    refused(
        3, *sign, says="all its waves have ended, so no device would begin anything by it: this machine's"
    )
    assert not Path("x").exists()
    assert json.loads(fota("campaign", "show", "over", "--json").stdout)["ended"] == [1, 2]
    made(fota("campaign", "sign", "half", "--root", "root.cbor", "--key", "a.pem", "-o", "y"))
    assert json.loads(fota("campaign", "show", "y", "--json").stdout)["ended"] == [1]


def test_what_is_wrong_is_named_and_not_the_file_beside_it(refused, fota, release, key_dir):
    del release
    made(new(fota, "5% 2096-12-01 2096-12-08"))
    refused(3, "campaign", "new", "r.suit", "--wave", "1%", "-o", "x", says="error: --wave: '1%' is not")
    none = "campaign", "show", "0.campaign", "--root", "none.cbor"
    refused(3, *none, says="error: none.cbor: No such file")
    made(
        fota(
            "root", "new", "--previous", "root.cbor", "--drop-campaigns", *signing(key_dir), "-o", "old.cbor"
        )
    )
    old = "campaign", "show", "0.campaign", "--root", "old.cbor"
    refused(3, *old, says="error: --root old.cbor: ROOT 2 names no CAMPAIGN keys")
    lone = "root", "new", "--previous", "old.cbor", "--campaign-key", "a.pub", "-o", "x"
    refused(3, *lone, says="error: --campaign-threshold: 2 have to sign, and there is 1 key of role campaign")


def test_shares_are_taken_to_the_hundredth_of_a_per_cent():
    found = [read_wave(f"{share}% 2096-12-01 2096-12-02")[2] for share in ("0.01", "2.5", "2.05", "100")]
    assert found == [1, 250, 205, 10_000]


def test_next_root_keeps_the_role_until_it_is_dropped(fota, refused, release, key_dir):
    step = "--previous", "root.cbor", *signing(key_dir)
    made(fota("root", "new", *step, "-o", "2.cbor"))
    made(fota("root", "new", *step, "--drop-campaigns", "-o", "none.cbor"))
    found = [roots.unsafe_read_root(Path(name).read_bytes()) for name in ("2.cbor", "none.cbor")]
    assert [root.threshold(roots.CAMPAIGN) for root in found] == [2, 0]
    both = "--drop-campaigns", "--campaign-threshold", 1
    refused(2, "root", "new", *step, *both, "-o", "x", says="one or the other")


def test_key_has_one_role_of_these_too(fota, refused, release, key_dir):
    step = "--previous", "root.cbor", *signing(key_dir), "--campaign-key", key_dir / "release-1.pub.pem"
    refused(1, "root", "new", *step, "--campaign-threshold", 1, "-o", "x", says="release")
