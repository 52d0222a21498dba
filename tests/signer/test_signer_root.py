"""``fota root``: steps are for ever, so what nobody could live with is not made, not signed, not verified."""

import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

sys.path.insert(0, str(Path(__file__).parent))

from ca_world import DAY, NO_CERT_SIGN, make_ca

from fota_signer.examples import example_key
from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.host_ca import certificate_der

XY = {name: host_crypto.public_xy(example_key(name)) for name in ("root-1", "root-2", "release-1", "assign")}


@pytest.fixture
def words(key_dir):
    """Options that name all keys and sign with two of three."""
    named = [word for n in (1, 2, 3) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
    named += [word for n in (1, 2, 3) for word in ("--release-key", key_dir / f"release-{n}.pub.pem")]
    return *named, "--assign-key", key_dir / "assign.pub.pem", *signing(key_dir)


def signing(key_dir):
    return [word for n in (1, 2) for word in ("--sign", key_dir / f"root-{n}.pem")]


@pytest.fixture
def genesis(fota, words):
    """ROOT 1 with minima 5 and 7, a revocation, two servers and a CA; made by the command."""
    ca_file("ca.crt")
    minima = "--min-sequence", 5, "--min-security-counter", 7, "--revoke", "ab" * 32
    servers = "--server-url", "https://a.example", "--server-url", "https://b.example:8443"
    made(fota("root", "new", *words, *minima, *servers, "--server-ca", "ca.crt", "-o", "1.cbor"))
    return read("1.cbor")


def made(result):
    assert result.returncode == 0, result.stderr
    return result


def read(name):
    return roots.unsafe_read_root(Path(name).read_bytes())


def ca_file(name, **changes):
    certificate, _ = make_ca(name=name, **changes)
    Path(name).write_bytes(certificate.public_bytes(Encoding.PEM))
    return certificate_der(certificate)


def raw_root(version, roles, *signers, **more):
    """A ROOT as nobody's tool refuses to make it."""
    raw = roots.build_root(version, roles, **more)
    for name in signers:
        raw = roots.FORM.add_signature(raw, cose.kid_of(XY[name]), host_crypto.signer(example_key(name)))
    return raw


def test_root_names_servers_and_shows_them(genesis, fota):
    assert genesis.servers == ["https://a.example", "https://b.example:8443"]
    shown = fota("root", "show", "1.cbor").stdout
    assert "https://a.example" in shown
    assert "CN=ca.crt, until 20" in shown
    assert json.loads(fota("inspect", "1.cbor", "--json").stdout)["servers"] == genesis.servers


def test_next_root_says_what_the_one_before_says_unless_told_otherwise(genesis, fota, key_dir):
    made(fota("root", "new", "--previous", "1.cbor", *signing(key_dir), "-o", "2.cbor"))
    two = roots.step(genesis, Path("2.cbor").read_bytes(), host_crypto.verify)
    for name in ("roles", "keys", "min_sequence", "min_secver", "revoked", "servers", "server_cas"):
        assert getattr(two, name) == getattr(genesis, name), name
    assert two.version == 2


def test_new_servers_are_tried_first_and_dropping_is_explicit(genesis, fota, key_dir):
    new_ca = ca_file("new.crt")
    moved = "--server-url", "https://c.example", "--server-ca", "new.crt"
    made(fota("root", "new", "--previous", "1.cbor", *moved, *signing(key_dir), "-o", "2.cbor"))
    assert read("2.cbor").servers == ["https://c.example", *genesis.servers]
    assert read("2.cbor").server_cas == [new_ca, *genesis.server_cas]
    gone = [word for url in genesis.servers for word in ("--drop-server", url)]
    made(
        fota("root", "new", "--previous", "2.cbor", *gone, "--drop-server-ca", "ca.crt", *signing(key_dir),
             "--root-version", 3, "-o", "3.cbor")
    )  # fmt: skip
    assert (read("3.cbor").servers, read("3.cbor").server_cas) == (["https://c.example"], [new_ca])


def test_retired_image_key_is_named_no_more(fota, words, key_dir):
    a, b = (key_dir / f"image-{name}.pub.pem" for name in "ab")
    made(fota("root", "new", *words, "--image-key", a, "--image-key", b, "-o", "1.cbor"))
    step = "--previous", "1.cbor", "--retire-image-key", a, *signing(key_dir), "-o", "2.cbor"
    made(fota("root", "new", *step))
    one, two = read("1.cbor"), read("2.cbor")
    assert len(one.image_keys) == 2
    assert list(two.image_keys.values()) == [host_crypto.load_public_key(b)]
    assert [*two.image_keys, *two.retired] == [*reversed(one.image_keys)]


def test_image_keys_are_not_all_retired(fota, refused, words, key_dir):
    both = [key_dir / "image-a.pub.pem", "--image-key", key_dir / "image-b.pub.pem"]
    made(fota("root", "new", *words, "--image-key", *both, "-o", "1.cbor"))
    both = [word if word != "--image-key" else "--retire-image-key" for word in both]
    step = ("root", "new", "--previous", "1.cbor", "--retire-image-key", *both, "-o", "2.cbor")
    refused(1, *step, says="no IMAGE key is left to sign for devices")


def test_image_key_that_is_root_too_is_refused(refused, words, key_dir):
    image = "--image-key", key_dir / "root-2.pub.pem"
    refused(1, "root", "new", *words, *image, "-o", "1.cbor", says="is root and image: each key has one role")


def test_server_to_drop_that_was_never_named_is_refused(genesis, refused, key_dir):
    words = ("root", "new", "--previous", "1.cbor", *signing(key_dir), "-o", "2.cbor")
    refused(3, *words, "--drop-server", "https://z.example", says="no such address")


@pytest.mark.parametrize(
    "url",
    ["http://a.example", "https://a.example/v1", "https://u@a.example", "a.example", "https://A.example"],
)
def test_server_url_of_another_form_is_refused(words, refused, url):
    refused(3, "root", "new", *words, "--server-url", url, "-o", "1.cbor", says=f"--server-url {url}: ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"starts": -9 * DAY, "ends": -DAY}, "has expired on"),
        ({"starts": 5 * DAY}, "is not valid before"),
        ({"ca": False}, "CA:TRUE"),
        ({"usage": NO_CERT_SIGN}, "keyCertSign"),
    ],
)
def test_server_ca_that_no_device_could_use_is_refused(words, fota, refused, changes, says):
    der = ca_file("bad.crt", **changes)
    refused(3, "root", "new", *words, "--server-ca", "bad.crt", "-o", "1.cbor", says=says)
    one = {role: (1, [XY[name]]) for role, name in enumerate(("root-1", "release-1", "assign"))}
    Path("made.cbor").write_bytes(raw_root(1, one, "root-1", server_cas=(der,)))
    refused(1, "root", "verify", "made.cbor", says=says)


def test_server_ca_that_ends_within_a_year_is_a_note(words, fota):
    ca_file("soon.crt", ends=100 * DAY)
    result = made(fota("root", "new", *words, "--server-ca", "soon.crt", "-o", "1.cbor"))
    assert "fota: note: server CA CN=soon.crt, until 20" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--min-security-counter", 300000), "no image can carry the minimum security counter 300000"),
        (("--min-security-counter", 256), "out of reach for devices with floor 0, which take at most 255"),
        (("--min-security-counter", 900, "--device-floor", 600), "devices with floor 600"),
        (("--min-sequence", 0xFFFFFFFF), "no room for releases"),
        (("--root-version", 2), "version 2 follows another ROOT: name that with --previous"),
    ],
)
def test_root_that_no_device_could_live_with_is_not_made(words, refused, options, says):
    refused(1, "root", "new", *words, *options, "-o", "1.cbor", says=says)


@pytest.mark.parametrize(
    "options",
    [
        ("--min-security-counter", 255),
        ("--min-security-counter", 855, "--device-floor", 600),
        ("--min-sequence", 20261127),
    ],
)
def test_root_at_the_edge_of_what_devices_reach_is_made(words, fota, options):
    made(fota("root", "new", *words, *options, "-o", "1.cbor"))
    made(fota("root", "verify", "1.cbor", *(options[2:] and ("--device-floor", 600))))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--min-sequence", 4), "lowers the minimum sequence, 5 to 4"),
        (("--min-security-counter", 6), "lowers the minimum security counter, 7 to 6"),
        (("--root-version", 3), "ROOT 3 does not follow ROOT 1"),
        (("--root-version", 1), "ROOT 1 does not follow ROOT 1"),
        (("--min-security-counter", 7 + 256), "devices with floor 7, which take at most 262"),
    ],
)
def test_step_that_no_device_takes_is_not_made(genesis, refused, key_dir, options, says):
    words = ("root", "new", "--previous", "1.cbor", *signing(key_dir), "-o", "2.cbor")
    refused(1, *words, *options, says=says)


def test_key_in_two_roles_is_refused_but_on_a_desk(fota, refused, key_dir):
    one = key_dir / "root-1.pub.pem"
    words = ("root", "new", "--root-key", one, "--release-key", one, "--assign-key", one, "-o", "1.cbor",
             "--root-threshold", 1, "--release-threshold", 1, "--sign", key_dir / "root-1.pem")  # fmt: skip
    refused(1, *words, says="is root and release and assign: each key has one role")
    made(fota(*words, "--development"))
    refused(1, "root", "verify", "1.cbor", says="each key has one role")
    refused(1, "root", "sign", "1.cbor", "--key", key_dir / "root-1.pem", "-o", "s.cbor", says="one role")


def test_one_signature_that_decides_is_told(fota, key_dir):
    names = [("root", 1), ("release", 1)]
    words = [word for role, n in names for word in (f"--{role}-key", key_dir / f"{role}-{n}.pub.pem")]
    words += [word for role, _ in names for word in (f"--{role}-threshold", 1)]
    signed = "--assign-key", key_dir / "assign.pub.pem", "--sign", key_dir / "root-1.pem"
    result = made(fota("root", "new", *words, *signed, "-o", "1.cbor"))
    for says in ("one stolen root key is enough: 1 of 1", "one stolen release key", "one lost root key ends"):
        assert f"fota: note: {says}" in result.stderr


def test_verify_wants_the_one_before_and_checks_as_a_device_does(genesis, fota, refused, key_dir):
    step = ("root", "new", "--previous", "1.cbor", "-o", "2.cbor", "--sign", key_dir / "root-1.pem")
    assert json.loads(made(fota(*step, "--json")).stdout)["verified"] is False
    refused(1, "root", "verify", "2.cbor", "--previous", "1.cbor", says="1 of 2 necessary signatures")
    sign = ("root", "sign", "2.cbor", "--key", key_dir / "root-3.pem", "-o", "whole.cbor")
    refused(1, *sign, says="name that with --previous")
    made(fota(*sign, "--previous", "1.cbor"))
    made(fota("root", "verify", "whole.cbor", "--previous", "1.cbor"))
    refused(1, "root", "verify", "whole.cbor", says="it follows another ROOT: name that with --previous")
    assert json.loads(fota("root", "show", "whole.cbor", "--json").stdout)["verified"] is False
    refused(1, "root", "verify", "1.cbor", "--previous", "1.cbor", says="does not follow")


def test_step_signed_by_none_of_the_keys_before_is_refused(genesis, refused, fota, key_dir):
    """Keys that ROOT 2 brings along do not vouch for themselves."""
    other = {
        role: (2, [XY[name] for name in names])
        for role, names in enumerate((("release-1", "assign"), ("root-1", "root-2")))
    }
    raw = raw_root(2, {**other, 2: (1, [XY["root-1"]])}, "release-1", "assign", min_sequence=5, min_secver=7)
    Path("2.cbor").write_bytes(raw)
    refused(1, "root", "verify", "2.cbor", "--previous", "1.cbor", says="0 of 2 necessary signatures")


def test_previous_that_is_no_root_is_named(words, refused, key_dir):
    Path("not.cbor").write_bytes(b"\xff")
    refused(3, "root", "new", *words, "--previous", "not.cbor", "-o", "2.cbor", says="not.cbor: --previous: ")


def test_root_keys_that_change_need_signatures_of_both(genesis, fota, key_dir):
    """An old ROOT key signs for the last time, a new one for the first."""
    new = [
        word
        for name in ("root-2", "root-3", "release-1")
        for word in ("--root-key", key_dir / f"{name}.pub.pem")
    ]
    new += [word for n in (2, 3) for word in ("--release-key", key_dir / f"release-{n}.pub.pem")]
    made(fota("root", "new", "--previous", "1.cbor", *new, *signing(key_dir), "-o", "2.cbor"))
    assert json.loads(fota("root", "show", "2.cbor", "--previous", "1.cbor", "--json").stdout)["missing"] == (
        "1 of 2 necessary signatures"
    )
    sign = ("root", "sign", "2.cbor", "--key", key_dir / "root-3.pem", "--previous", "1.cbor", "-o", "w.cbor")
    made(fota(*sign))
    made(fota("root", "verify", "w.cbor", "--previous", "1.cbor"))
