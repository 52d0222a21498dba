"""Manifest, signatures and verification know the IMAGE keys: what no device could take leaves none of the
stations.
"""

import json
import os
import pty
import subprocess
import sys

import pytest
from lifeline import HANG_S

from fota_wire import cose, der, host_crypto, image, suit
from fota_wire import root as roots

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
CLASS = "a811ee0d-5553-5b3e-b13c-41922315f230"


@pytest.fixture
def root_file(fota, key_dir):
    """A ROOT by the example keys; ``image_key`` names what devices know."""

    def run(*more, name="root.cbor", image_key="image-a"):
        words = [word for n in (1, 2, 3) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
        words += [word for n in (1, 2, 3) for word in ("--release-key", key_dir / f"release-{n}.pub.pem")]
        words += ["--assign-key", key_dir / "assign.pub.pem", "-o", name, *more]
        words += ["--sign", key_dir / "root-1.pem", "--sign", key_dir / "root-2.pem"]
        if image_key:
            words += ["--image-key", key_dir / f"{image_key}.pub.pem"]
        return fota("root", "new", *words, "--json")

    return run


@pytest.fixture
def images(sign, firmware, tmp_path):
    """good.img; bad.img with one bit of its signature flipped; dev.img by another key."""
    sign(firmware, tmp_path / "good.img")
    sign(firmware, tmp_path / "dev.img", key="image-b")
    good = (tmp_path / "good.img").read_bytes()
    at = good.rindex(der.from_raw(image.parse_image(good).signature)) + 40
    (tmp_path / "bad.img").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    return tmp_path


@pytest.fixture
def signed_manifest(fota, key_dir):
    """A manifest about an image, made and signed twice by people who were told of no IMAGE key."""

    def run(name):
        words = ("manifest", "new", name, "-o", "m", "--force", "--sequence", 7, *MODEL)
        result = fota(*words)
        assert result.returncode == 0, result.stderr
        assert "warning: the image's signature was not checked: no IMAGE key is known" in result.stderr
        for signer in ("release-1", "release-2"):
            assert (
                fota("manifest", "sign", "m", "--key", key_dir / f"{signer}.pem", "-o", "m").returncode == 0
            )

    return run


REFUSED = [("bad.img", "IM10 image-signature: "), ("dev.img", "IM8 image-key: ")]


@pytest.mark.parametrize(("name", "says"), REFUSED)
@pytest.mark.parametrize("by", ["root", "key"])
def test_image_that_no_device_takes_gets_no_manifest(root_file, images, refused, key_dir, name, says, by):
    root_file()
    known = ("--root", "root.cbor") if by == "root" else ("--image-key", key_dir / "image-a.pub.pem")
    refused(1, "manifest", "new", name, "-o", "m", "--sequence", 7, *MODEL, *known, says=f"{name}: {says}")


@pytest.mark.parametrize(("name", "says"), REFUSED)
@pytest.mark.parametrize("by", ["root", "key"])
def test_image_that_no_device_takes_gets_no_signature(
    root_file, images, signed_manifest, refused, key_dir, name, says, by
):
    root_file()
    signed_manifest(name)
    known = ("--root", "root.cbor") if by == "root" else ("--image-key", key_dir / "image-a.pub.pem")
    words = ("manifest", "sign", "m", "--key", key_dir / "release-3.pem", "-o", "m", "--image", name)
    refused(1, *words, *known, says=says)


@pytest.mark.parametrize(("name", "says"), REFUSED)
@pytest.mark.parametrize("by", ["root", "key"])
def test_image_that_no_device_takes_is_not_verified(
    root_file, images, signed_manifest, refused, key_dir, name, says, by
):
    root_file(image_key="image-a" if by == "root" else None)
    signed_manifest(name)
    words = ("manifest", "verify", "m", "--root", "root.cbor", "--image", name)
    known = () if by == "root" else ("--image-key", key_dir / "image-a.pub.pem")
    refused(1, *words, *known, says=says)


def test_what_root_says_counts_more_than_an_option(root_file, images, refused, key_dir):
    root_file()
    known = ("--root", "root.cbor", "--image-key", key_dir / "image-b.pub.pem")
    refused(1, "manifest", "new", "dev.img", "-o", "m", "--sequence", 7, *MODEL, *known, says="IM8")


def test_good_image_passes_every_station_and_each_says_that_it_looked(root_file, images, fota, key_dir):
    root_file()
    by_root = ("--root", "root.cbor")
    result = fota("manifest", "new", "good.img", "-o", "m", "--sequence", 7, *MODEL, *by_root, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["image_signature"] == "verified"
    for signer in ("release-1", "release-2"):
        words = (
            "manifest",
            "sign",
            "m",
            "--key",
            key_dir / f"{signer}.pem",
            "-o",
            "m",
            "--image",
            "good.img",
        )
        result = fota(*words, *by_root, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        shown = json.loads(result.stdout)
        assert (shown["image_version"], shown["security_counter"]) == ("1.1.0", 3)
        assert (shown["sequence"], shown["image_signature"]) == (7, "verified")
    result = fota("manifest", "verify", "m", *by_root, "--image", "good.img", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["image_signature"] == "verified"


def test_verifying_without_a_known_key_says_that_the_signature_was_not_looked_at(
    root_file, images, signed_manifest, fota
):
    root_file(image_key=None)
    signed_manifest("bad.img")
    result = fota("manifest", "verify", "m", "--root", "root.cbor", "--image", "bad.img")
    assert result.returncode == 0
    assert "warning: the image's signature was not checked: no IMAGE key is known" in result.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--min-sequence", 8), "sequence 7 is below 8, the minimum of ROOT 1"),
        (("--min-security-counter", 4), "security counter 3 is below 4, the minimum of ROOT 1"),
    ],
)
def test_release_below_the_minima_of_root_is_refused_from_the_first_station_on(
    root_file, images, refused, signed_manifest, key_dir, more, says
):
    root_file(*more)
    words = ("--root", "root.cbor")
    refused(1, "manifest", "new", "good.img", "-o", "m", "--sequence", 7, *MODEL, *words, says=says)
    signed_manifest("good.img")
    sign = ("manifest", "sign", "m", "--key", key_dir / "release-3.pem", "-o", "m", "--image", "good.img")
    refused(1, *sign, *words, says=says)
    refused(1, "manifest", "verify", "m", *words, "--image", "good.img", says=says)


def test_image_of_a_retired_key_gets_no_manifest(root_file, images, refused, key_dir):
    root_file("--retire-image-key", key_dir / "image-b.pub.pem", image_key=None)
    words = ("manifest", "new", "dev.img", "-o", "m", "--sequence", 7, *MODEL, "--root", "root.cbor")
    refused(1, *words, says="signed by an IMAGE key that ROOT 1 retired")


def test_signature_that_would_not_count_is_not_made(
    root_file, images, signed_manifest, refused, key_dir, fota
):
    root_file()
    signed_manifest("good.img")
    assert (
        fota(
            "keys", "new", "release/eve", "-o", "eve.pem", env={"FOTA_KEY_PASSWORD": "correct horse"}
        ).returncode
        == 0
    )
    words = ("manifest", "sign", "m", "--key", "eve.pem", "-o", "m", "--root", "root.cbor")
    refused(1, *words, says="is no RELEASE key of ROOT 1", env={"FOTA_KEY_PASSWORD": "correct horse"})


def test_manifest_of_another_image_gets_no_signature(
    images, signed_manifest, refused, key_dir, sign, firmware
):
    signed_manifest("good.img")
    sign(firmware, images / "other.img", version="1.2.0")
    words = ("manifest", "sign", "m", "--key", key_dir / "release-3.pem", "-o", "m", "--image", "other.img")
    refused(1, *words, says="about another image file")
    # one of the same size: a bit of its signature differs, and nobody here knows by which key it is
    words = ("manifest", "sign", "m", "--key", key_dir / "release-3.pem", "-o", "m", "--image", "bad.img")
    refused(1, *words, says="about another image file: digests differ")


def test_root_shows_its_image_keys(root_file, fota, key_dir, tmp_path):
    shown = json.loads(root_file().stdout)
    xy = host_crypto.load_public_key(key_dir / "image-a.pub.pem")
    assert shown["image_keys"] == [cose.key_hash(xy).hex()]
    root = roots.open_genesis((tmp_path / "root.cbor").read_bytes(), host_crypto.verify)
    assert root.image_keys == {cose.key_hash(xy): xy}


def test_key_known_and_retired_at_once_refused(root_file, key_dir):
    result = root_file("--retire-image-key", key_dir / "image-a.pub.pem")
    assert result.returncode == 3
    assert "under --image-key, and retired" in result.stderr


# --- signing apart, in place and together


def processes(*lines, cwd):
    """Run command lines at the same time; return their exit codes."""
    code = "from fota_cli.main import main; main()"
    env = {**os.environ, "FOTA_ALLOW_EXAMPLE_KEYS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)],
            cwd=cwd,
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for words in lines
    ]
    for process in started:
        process.communicate()
    return [process.returncode for process in started]


def signers(path):
    return len(suit.parse_envelope(path.read_bytes()).signatures)


@pytest.fixture
def unsigned(images, fota):
    assert fota("manifest", "new", "good.img", "-o", "m", "--sequence", 7, *MODEL).returncode == 0
    return images


def test_three_who_sign_in_place_at_once_lose_no_signature(unsigned, key_dir):
    lines = [("manifest", "sign", "m", "--key", key_dir / f"release-{n}.pem", "-o", "m") for n in (1, 2, 3)]
    assert processes(*lines, cwd=unsigned) == [0, 0, 0]
    assert signers(unsigned / "m") == 3


def test_of_several_runs_onto_one_output_one_is_told_that_it_wrote(unsigned, key_dir, firmware):
    sign = (
        "sign",
        firmware,
        "-o",
        "one.img",
        "--key",
        key_dir / "image-a.pem",
        *MODEL,
        "--security-counter",
        3,
    )
    lines = [(*sign, "--version", f"1.0.{n}") for n in range(4)]
    codes = processes(*lines, cwd=unsigned)
    assert sorted(codes) == [0, 3, 3, 3]
    written = image.parse_image((unsigned / "one.img").read_bytes())
    assert written.version == (1, 0, codes.index(0), 0)


def test_signatures_made_apart_are_merged(unsigned, fota, key_dir, root_file):
    root_file()
    for n in (1, 2, 3):
        words = ("manifest", "sign", "m", "--key", key_dir / f"release-{n}.pem", "-o", f"m{n}")
        assert fota(*words).returncode == 0
    assert fota("manifest", "merge", "m1", "m2", "m1", "-o", "both").returncode == 0
    assert signers(unsigned / "both") == 2
    assert fota("manifest", "merge", "m", "both", "m3", "-o", "all").returncode == 0
    assert signers(unsigned / "all") == 3
    assert fota("manifest", "verify", "both", "--root", "root.cbor").returncode == 0


def test_signatures_of_two_manifests_are_not_merged(unsigned, fota, refused, key_dir):
    assert fota("manifest", "new", "good.img", "-o", "other", "--sequence", 8, *MODEL).returncode == 0
    refused(
        1, "manifest", "merge", "m", "other", "-o", "all", says="other: these are two different manifests"
    )


def test_one_key_with_two_signatures_is_not_merged(unsigned, fota, refused, key_dir):
    words = ("manifest", "sign", "m", "--key", key_dir / "release-1.pem", "-o", "m1")
    assert fota(*words).returncode == 0
    raw = bytearray((unsigned / "m1").read_bytes())
    signature = suit.parse_envelope(bytes(raw)).signatures[0].signature
    raw[raw.index(signature) + 5] ^= 1
    (unsigned / "m2").write_bytes(raw)
    refused(1, "manifest", "merge", "m1", "m2", "-o", "all", says="signed differently in both")


@pytest.fixture
def flip(tmp_path):
    """Break the first signature in a manifest or ROOT."""

    def run(name, signature):
        raw = bytearray((tmp_path / name).read_bytes())
        raw[raw.index(signature) + 5] ^= 1
        (tmp_path / name).write_bytes(raw)

    return run


def test_nobody_signs_beside_a_signature_that_does_not_hold(
    root_file, images, signed_manifest, refused, fota, key_dir, flip
):
    root_file()
    signed_manifest("good.img")
    flip("m", suit.parse_envelope((images / "m").read_bytes()).signatures[0].signature)
    words = ("manifest", "sign", "m", "--key", key_dir / "release-3.pem", "-o", "m", "--root", "root.cbor")
    kid = cose.kid_of(host_crypto.load_public_key(key_dir / "release-1.pub.pem")).hex()
    refused(1, *words, says=f"m: signature of key {kid} is wrong")


def test_nobody_signs_a_root_beside_a_signature_that_does_not_hold(
    root_file, refused, fota, key_dir, tmp_path, flip
):
    root_file(name="one")
    flip("one", (tmp_path / "one").read_bytes()[-64:])
    kid = cose.kid_of(host_crypto.load_public_key(key_dir / "root-2.pub.pem")).hex()
    says = f"one: signature of key {kid} is wrong"
    refused(1, "root", "sign", "one", "--key", key_dir / "root-3.pem", "-o", "two", says=says)
    refused(1, "root", "merge", "one", "-o", "two", says=says)
    root_file()
    step = ("--previous", "root.cbor")
    kept = [word for n in (1, 2) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
    key = ("--sign", key_dir / "root-3.pem")  # of the one before, and not of this one
    assert fota("root", "new", *step, *kept, *key, "-o", "next").returncode == 0
    flip("next", (tmp_path / "next").read_bytes()[-64:])
    words = ("root", "sign", "next", "--key", key_dir / "root-1.pem", *step, "-o", "two")
    refused(1, *words, says="next: signature of key")


def test_what_is_signed_is_shown_before_the_password_is_asked_for(unsigned, fota, tmp_path):
    env = {"FOTA_KEY_PASSWORD": "correct horse"}
    assert fota("keys", "new", "release/eve", "-o", "eve.pem", env=env).returncode == 0
    main, side = pty.openpty()
    code = "from fota_cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "manifest",
        "sign",
        "m",
        "--key",
        "eve.pem",
        "-o",
        "m",
        "--image",
        "good.img",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=side, stdout=side, stderr=side, start_new_session=True
    )
    os.close(side)
    seen = b""
    while b"Password of" not in seen:
        seen += os.read(main, 1024)
    process.terminate()
    process.wait(HANG_S)
    os.close(main)
    for fact in (b"sequence", b"1.1.0", b"security counter", b"image digest", CLASS.encode()):
        assert fact in seen
    assert signers(tmp_path / "m") == 0


def test_root_is_signed_in_place_by_several_at_once_or_merged(root_file, fota, key_dir, tmp_path):
    words = [word for n in (1, 2, 3) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
    words += ["--release-key", key_dir / "release-1.pub.pem", "--release-threshold", 1]
    words += ["--assign-key", key_dir / "assign.pub.pem", "-o", "r"]
    assert fota("root", "new", *words).returncode == 0
    for n in (1, 2):
        assert fota("root", "sign", "r", "--key", key_dir / f"root-{n}.pem", "-o", f"r{n}").returncode == 0
    assert fota("root", "merge", "r1", "r2", "-o", "both").returncode == 0
    roots.open_genesis((tmp_path / "both").read_bytes(), host_crypto.verify)
    lines = [("root", "sign", "r", "--key", key_dir / f"root-{n}.pem", "-o", "r") for n in (1, 2, 3)]
    assert processes(*lines, cwd=tmp_path) == [0, 0, 0]
    assert len(roots.FORM.signers_of((tmp_path / "r").read_bytes())) == 3


def test_two_different_roots_are_not_merged(root_file, refused):
    root_file(name="one")
    root_file("--min-sequence", 3, name="two")
    refused(1, "root", "merge", "one", "two", "-o", "all", says="two: these are two different ROOT documents")


def test_who_signs_a_root_sees_what_it_changes(root_file, fota, key_dir):
    root_file()
    digest = "ab" * 32
    words = ("--previous", "root.cbor", "--min-sequence", 5, "--revoke", digest, "--image-key")
    words += (key_dir / "image-b.pub.pem", "--sign", key_dir / "root-1.pem", "-o", "next")
    assert fota("root", "new", *words).returncode == 0
    result = fota(
        "root",
        "sign",
        "next",
        "--key",
        key_dir / "root-2.pem",
        "--previous",
        "root.cbor",
        "-o",
        "next",
        "--json",
    )
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["verified"] is True
    a, b = (cose.key_hash(host_crypto.load_public_key(key_dir / f"image-{x}.pub.pem")).hex() for x in "ab")
    assert shown["changes"] == [
        "version: 1 -> 2",
        "min sequence: 0 -> 5",
        f"image keys: - {a}",
        f"image keys: + {b}",
        f"revoked: + {digest}",
    ]


def test_verify_takes_its_keys_from_root(root_file, images, fota, refused):
    root_file("--min-security-counter", 3)
    assert fota("verify", "good.img", "--root", "root.cbor").returncode == 0
    refused(1, "verify", "bad.img", "--root", "root.cbor", says="IM10 image-signature")
    refused(1, "verify", "dev.img", "--root", "root.cbor", says="IM8 image-key")
    refused(2, "verify", "good.img", says="say which keys devices accept")
    root_file("--min-security-counter", 4, "--force")
    refused(1, "verify", "good.img", "--root", "root.cbor", says="security counter 3 is below 4")


def test_verify_holds_an_image_against_its_vendor(images, fota, refused, key_dir):
    key = ("--key", key_dir / "image-a.pub.pem")
    assert fota("verify", "good.img", *key, "--vendor-domain", "example.com").returncode == 0
    refused(1, "verify", "good.img", *key, "--vendor-domain", "example.org", says="image is of vendor")


# --- who has signed, and who is asked next


@pytest.fixture
def kid(key_dir):
    return lambda name: cose.kid_of(host_crypto.load_public_key(key_dir / f"{name}.pub.pem")).hex()


@pytest.fixture
def status(fota):
    def run(name, *more):
        result = fota("manifest", "status", name, "--root", "root.cbor", "--json", *more)
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        return found, {key["kid"]: key["state"] for key in found["keys"]}

    return run


def signed_by(fota, key_dir, *names):
    for name in names:
        assert fota("manifest", "sign", "m", "--key", key_dir / f"{name}.pem", "-o", "m").returncode == 0


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_status_counts_what_is_there_and_what_is_missing(
    unsigned,
    root_file,
    fota,
    key_dir,
    status,
    kid,
    number,
):
    root_file()
    people = [f"release-{n}" for n in (1, 2, 3)]
    signed_by(fota, key_dir, *people[:number])
    found, states = status("m")
    assert states == {
        kid(name): "signed" if place < number else "not yet" for place, name in enumerate(people)
    }
    assert [found[name] for name in ("good", "threshold", "missing")] == [number, 2, max(2 - number, 0)]
    verified = fota("manifest", "verify", "m", "--root", "root.cbor").returncode == 0
    assert found["complete"] == verified == (number >= 2)


def test_a_key_that_root_does_not_name_is_shown_and_does_not_count(
    unsigned,
    root_file,
    fota,
    key_dir,
    status,
    kid,
):
    root_file()
    signed_by(fota, key_dir, "release-1", "root-1")
    found, states = status("m")
    assert states[kid("root-1")] == "does not count"
    assert (found["good"], found["complete"]) == (1, False)


def test_a_wrong_signature_is_never_complete(
    images,
    root_file,
    signed_manifest,
    fota,
    key_dir,
    status,
    kid,
    flip,
):
    root_file()
    signed_manifest("good.img")
    signed_by(fota, key_dir, "release-3")
    flip("m", suit.parse_envelope((images / "m").read_bytes()).signatures[0].signature)
    found, states = status("m")
    assert (states[kid("release-1")], found["good"], found["complete"]) == ("wrong", 2, False)
    assert fota("manifest", "verify", "m", "--root", "root.cbor").returncode == 1
    shown = fota("manifest", "status", "m", "--root", "root.cbor").stdout
    assert shown.splitlines()[-1] == "refused: a signature is wrong"


def test_what_root_refuses_is_not_complete_however_many_sign(
    images,
    root_file,
    signed_manifest,
    fota,
    status,
):
    signed_manifest("good.img")
    root_file("--min-sequence", 8)
    found, _ = status("m")
    assert (found["missing"], found["complete"]) == (0, False)
    assert "7" in found["refused"]
    shown = fota("manifest", "status", "m", "--root", "root.cbor").stdout
    assert shown.splitlines()[-1] == f"refused, however many sign: {found['refused']}"


def test_people_are_called_by_the_file_of_their_key(
    unsigned,
    root_file,
    fota,
    key_dir,
    status,
    kid,
):
    root_file()
    signed_by(fota, key_dir, "release-2")
    named = [word for n in (1, 2) for word in ("--release-key", key_dir / f"release-{n}.pub.pem")]
    found, _ = status("m", *named)
    files = {key["kid"]: key["file"] for key in found["keys"]}
    wanted = {kid(f"release-{n}"): f"release-{n}.pub.pem" for n in (1, 2)} | {kid("release-3"): None}
    assert files == wanted
    shown = fota("manifest", "status", "m", "--root", "root.cbor", *named).stdout.splitlines()
    assert f"{kid('release-2')}  signed   release-2.pub.pem" in shown
    assert shown[-2:] == ["1 of 2 signatures by ROOT 1", "1 more needed"]


@pytest.mark.parametrize("file", ["good.img", "nothing", "root.cbor"])
def test_what_is_no_envelope_is_refused_in_one_line(images, root_file, fota, file):
    root_file()
    result = fota("manifest", "status", file, "--root", "root.cbor")
    assert (result.returncode, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1
