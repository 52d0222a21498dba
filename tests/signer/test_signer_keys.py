"""``fota keys``, ``fota root``, ``fota manifest``, ``fota inspect``."""

import json
import os
import pty
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

from fota_signer.examples import example_files
from fota_wire import assignment, cbor, cose, example_keys, host_crypto, image, report, suit
from fota_wire import root as roots

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
REPOSITORY = Path(__file__).parents[2]
PASSWORD = {"FOTA_KEY_PASSWORD": "correct horse"}


@pytest.fixture
def new_key(fota, tmp_path):
    def run(label="release/alice", name="alice.pem"):
        result = fota("keys", "new", label, "-o", name, "--json", env=PASSWORD)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture
def root_file(fota, key_dir, tmp_path):
    def run(*signers, name="root.cbor", more=()):
        words = [word for n in (1, 2, 3) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
        words += [word for n in (1, 2, 3) for word in ("--release-key", key_dir / f"release-{n}.pub.pem")]
        words += ["--assign-key", key_dir / "assign.pub.pem", "-o", name, *more]
        words += [word for signer in signers for word in ("--sign", key_dir / f"{signer}.pem")]
        return fota("root", "new", *words, "--json")

    return run


@pytest.fixture
def release(fota, sign, firmware, key_dir, tmp_path):
    """An image and its manifest, signed by the given keys one after the other."""

    def run(*signers, sequence=7, counter=3):
        sign(firmware, tmp_path / "app.img", "--force", counter=counter)
        result = fota("manifest", "new", "app.img", "-o", "m", "--force", "--sequence", sequence, *MODEL)
        assert result.returncode == 0, result.stderr
        for signer in signers:
            result = fota("manifest", "sign", "m", "--key", key_dir / f"{signer}.pem", "-o", "m")
            assert result.returncode == 0, result.stderr
        return tmp_path / "m"

    return run


# --- keys


def test_new_key_is_encrypted_private_and_readable_with_its_password(new_key, fota, tmp_path):
    shown = new_key()
    path = tmp_path / "alice.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    again = json.loads(fota("keys", "show", "alice.pem", "--json", env=PASSWORD).stdout)
    assert again == shown
    xy = bytes.fromhex(shown["public"])
    assert (shown["kid"], shown["keyhash"]) == (cose.kid_of(xy).hex(), cose.key_hash(xy).hex())


def test_password_file_opens_the_key(new_key, fota, tmp_path):
    new_key()
    (tmp_path / "password").write_text("correct horse\n")
    assert fota("keys", "show", "alice.pem", "--password-file", "password").returncode == 0


def test_password_typed_twice_makes_a_key(tmp_path):
    master, slave = pty.openpty()
    command = [
        sys.executable,
        "-c",
        "from fota_cli.main import main; main()",
        "keys",
        "new",
        "image/x",
        "-o",
        "k",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = b""
    for _ in range(2):
        while not seen.endswith(b": "):
            seen += os.read(master, 1024)
        os.write(master, b"correct horse\n")
        seen = b""
    assert process.wait(HANG_S) == 0
    os.close(master)
    assert host_crypto.load_private_key(tmp_path / "k", b"correct horse")


def test_wrong_password_refused(new_key, refused):
    new_key()
    wrong = {"FOTA_KEY_PASSWORD": "wrong"}
    refused(3, "keys", "show", "alice.pem", says="alice.pem: wrong password", env=wrong)


def test_no_password_and_no_terminal_refused(new_key, refused):
    new_key()
    refused(3, "keys", "show", "alice.pem", says="set FOTA_KEY_PASSWORD")
    refused(3, "keys", "new", "image/x", "-o", "k", says="set FOTA_KEY_PASSWORD")


def test_password_never_in_arguments_or_output(fota):
    result = fota("keys", "new", "image/x", "-o", "k", env=PASSWORD)
    assert "correct horse" not in result.stdout + result.stderr
    assert "--password " not in fota("keys", "new", "--help").stdout


def test_key_file_is_not_replaced(new_key, refused):
    new_key()
    refused(3, "keys", "new", "image/x", "-o", "alice.pem", says="alice.pem exists", env=PASSWORD)


@pytest.mark.parametrize("label", ["alice", "boss/alice", "image/", "image/a b", "image/../x"])
def test_label_malformed_refused(refused, label):
    refused(3, "keys", "new", label, "-o", "k", says="is not ROLE/NAME", env=PASSWORD)


def test_public_half_is_what_openssl_says(fota, key_dir):
    pem = fota("keys", "public", key_dir / "image-a.pem").stdout
    assert pem == (key_dir / "image-a.pub.pem").read_text()
    command = ["openssl", "pkey", "-in", key_dir / "image-a.pem", "-pubout"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == pem


def test_encrypted_private_key_in_place_of_its_public_half_is_named(fota, new_key, key_dir):
    new_key("image/a", "a.pem")
    other = ("--image-key-b", key_dir / "image-b.pub.pem", "-o", "plan.json")
    failed = fota("provision", "plan", "--image-key-a", "a.pem", *other)
    assert failed.returncode == 3
    assert "a.pem: an encrypted private key: give its public half" in failed.stderr
    half = re.search("fota (keys public a.pem -o) NEW", failed.stderr)[1]
    assert fota(*half.split(), "a.pub.pem", env=PASSWORD).returncode == 0
    assert fota("provision", "plan", "--image-key-a", "a.pub.pem", *other).returncode == 0


def test_committed_example_keys_are_the_generated_ones(fota, tmp_path):
    assert fota("keys", "example", "made").returncode == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    committed = {path.name: path.read_bytes() for path in (REPOSITORY / "keys.example").iterdir()}
    assert made == committed == example_files()


def test_loader_refuses_every_example_key(key_dir, monkeypatch):
    monkeypatch.delenv("FOTA_ALLOW_EXAMPLE_KEYS", raising=False)
    found = [cose.kid_of(host_crypto.load_public_key(key_dir / f"{name}.pem")) for name in example_keys.NAMES]
    assert set(found) == example_keys.KIDS
    for name in example_keys.NAMES:
        with pytest.raises(host_crypto.VerifyError, match="published example key"):
            host_crypto.load_private_key(key_dir / f"{name}.pem")
        assert host_crypto.load_private_key(key_dir / f"{name}.pem", allow_example_keys=True)


MCUBOOT = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKstAPOj+7VukSZWhqR2u6Nu+GTfN
FPsvJFc35ZU5iNmUudZa69fN1TCK1v5IskpqgQ7l8H2LaDTMOmr8U476wQ==
-----END PUBLIC KEY-----
"""
"""root-ec-p256.pem of MCUboot, by which Zephyr signs unless told otherwise."""


def test_key_that_mcuboot_published_is_locked_into_no_chip(refused, new_key, fota, tmp_path):
    new_key("image/a", "a.pem")
    assert fota("keys", "public", "a.pem", "-o", "a.pub", env=PASSWORD).returncode == 0
    (tmp_path / "b.pub").write_text(MCUBOOT)
    words = ("provision", "plan", "--image-key-a", "a.pub", "--image-key-b", "b.pub", "-o", "plan.json")
    refused(1, *words, says="b.pub: a published example key", allow=False)


def test_example_certificates_hold_for_openssl(key_dir):
    for name, more in (("server", ["-verify_ip", "127.0.0.1"]), ("device-ca", [])):
        ca = "server-ca" if name == "server" else name
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-CAfile",
            key_dir / f"{ca}.crt",
            *more,
            key_dir / f"{name}.crt",
        ]
        assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["rsa:2048", "ec:secp384r1"])
def test_key_of_another_kind_refused(refused, tmp_path, kind):
    algorithm, _, size = kind.partition(":")
    option = f"rsa_keygen_bits:{size}" if algorithm == "rsa" else f"ec_paramgen_curve:{size}"
    command = ["openssl", "genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", tmp_path / "k.pem"]
    subprocess.run(command, check=True, capture_output=True)
    refused(3, "keys", "show", "k.pem", says="k.pem: not a P-256 key")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_file_without_key_refused(refused, firmware, tmp_path, content):
    (tmp_path / "k.pem").write_bytes(content)
    words = ("--version", "1.0.0", "--security-counter", 1, *MODEL)
    refused(3, "sign", firmware, "-o", "out", "--key", "k.pem", *words, says="k.pem: ")


# --- root


def test_root_signed_by_two_is_a_genesis(root_file, tmp_path):
    shown = json.loads(
        root_file("root-1", "root-3", more=("--min-sequence", 4, "--revoke", "00" * 32)).stdout
    )
    assert shown["verified"] is True
    root = roots.open_genesis((tmp_path / "root.cbor").read_bytes(), host_crypto.verify)
    assert (root.version, root.threshold(roots.RELEASE), root.min_sequence) == (1, 2, 4)
    assert root.revoked == [bytes(32)]


def test_root_signatures_are_added_apart(root_file, fota, key_dir):
    assert json.loads(root_file("root-1").stdout)["verified"] is False
    words = ("root", "sign", "root.cbor", "--key", key_dir / "root-2.pem", "-o", "two.cbor", "--json")
    assert json.loads(fota(*words).stdout)["verified"] is True
    assert json.loads(fota("root", "show", "two.cbor", "--json").stdout)["root"].startswith("2 of ")


def test_root_signed_by_a_key_of_another_role_refused(root_file, refused, key_dir):
    root_file("root-1")
    words = ("root", "sign", "root.cbor", "--key", key_dir / "release-1.pem", "-o", "two.cbor")
    refused(3, *words, says="not one of the ROOT keys")


def test_root_with_threshold_above_its_keys_refused(root_file, tmp_path):
    result = root_file(more=("--release-threshold", 4))
    assert result.returncode == 3
    assert "--release-threshold: 4 have to sign, and there are 3 of role release" in result.stderr
    assert not (tmp_path / "root.cbor").exists()


# --- manifest


def test_manifest_signed_by_two_of_three_verifies(root_file, release, fota, tmp_path):
    root_file("root-1", "root-2")
    release("release-1", "release-3")
    result = fota("manifest", "verify", "m", "--root", "root.cbor", "--image", "app.img", "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    file_digest = image.parse_image((tmp_path / "app.img").read_bytes()).file_digest.hex()
    assert (shown["verified"], shown["sequence"], shown["image_digest"]) == (True, 7, file_digest)
    assert shown["text"] == {"vendor": "example.com", "model": "demo", "version": "1.1.0"}


@pytest.mark.parametrize(
    ("signers", "says"),
    [
        ((), "0 of 2 necessary signatures"),
        (("release-1",), "1 of 2 necessary signatures"),
        (("release-1", "image-a"), "1 of 2 necessary signatures"),
        (("root-1", "root-2", "root-3"), "0 of 2 necessary signatures"),
    ],
)
def test_manifest_without_enough_signatures_refused(root_file, release, refused, signers, says):
    root_file("root-1", "root-2")
    release(*signers)
    refused(1, "manifest", "verify", "m", "--root", "root.cbor", says=says)


def test_manifest_signed_twice_by_one_refused(release, refused, key_dir):
    release("release-1")
    words = ("manifest", "sign", "m", "--key", key_dir / "release-1.pem", "-o", "m")
    refused(1, *words, says="has signed this envelope already")


def test_manifest_of_another_image_refused(root_file, release, refused, sign, firmware, tmp_path):
    root_file("root-1", "root-2")
    release("release-1", "release-2")
    sign(firmware, tmp_path / "other.img", version="1.2.0")
    words = ("manifest", "verify", "m", "--root", "root.cbor", "--image", "other.img")
    refused(1, *words, says="about another image file")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--min-sequence", 8), "sequence 7 is below"),
        (("--min-security-counter", 4), "security counter 3 is below"),
    ],
)
def test_manifest_below_the_minimum_of_root_refused(root_file, release, refused, more, says):
    root_file("root-1", "root-2", more=more)
    release("release-1", "release-2")
    refused(1, "manifest", "verify", "m", "--root", "root.cbor", "--image", "app.img", says=says)


def test_manifest_revoked_refused(root_file, release, refused, tmp_path):
    envelope = release("release-1", "release-2").read_bytes()
    digest = suit.unsafe_read_manifest(envelope).manifest_digest.hex()
    root_file("root-1", "root-2", more=("--revoke", digest))
    refused(1, "manifest", "verify", "m", "--root", "root.cbor", says="revokes this manifest")


def test_manifest_under_an_unsigned_root_refused(root_file, release, refused):
    root_file("root-1")
    release("release-1", "release-2")
    refused(1, "manifest", "verify", "m", "--root", "root.cbor", says="1 of 2 necessary signatures")


def test_manifest_for_another_class_refused(sign, firmware, refused, tmp_path):
    sign(firmware, tmp_path / "app.img")
    words = ("manifest", "new", "app.img", "-o", "m", "--sequence", 1, "--vendor-domain", "example.com")
    refused(3, *words, "--model", "other", says="the image is for class")


def test_manifest_about_no_image_refused(refused, firmware):
    refused(3, "manifest", "new", firmware, "-o", "m", "--sequence", 1, *MODEL, says="not a firmware image")


# --- inspect


@pytest.mark.parametrize("as_json", [True, False])
def test_inspect_names_what_it_sees(release, root_file, fota, key_dir, tmp_path, as_json):
    root_file("root-1")
    release("release-1")
    fields = {1: 1, 2: bytes(16), 3: bytes(9), 4: 1, 5: 7, 6: None, 7: 1, 8: 0, 9: 60}
    (tmp_path / "assignment").write_bytes(signed(fields, b"fota/assign/1"))
    shared = assignment.share([cbor.encode(fields), b""], bytes(8), lambda _: b"\1" * 64)[0]
    (tmp_path / "shared").write_bytes(shared)
    fields = {1: 1, 2: bytes(16), 3: bytes(9), 4: "A", 5: bytes(32), 6: "1.0.0", 7: 3, 8: 2, 9: 1}
    fields |= {10: "trial", 11: None, 12: [], 13: 4}
    (tmp_path / "report").write_bytes(signed(fields, report.AAD))
    kinds = {
        "app.img": "image",
        "m": "manifest",
        "root.cbor": "root",
        "assignment": "assignment",
        "shared": "assignment",
    }
    kinds |= {"report": "report", key_dir / "image-a.pem": "key", key_dir / "server.crt": "certificate"}
    for name, kind in kinds.items():
        result = fota("inspect", name, *["--json"] * as_json)
        assert result.returncode == 0, result.stderr
        shown = json.loads(result.stdout)["kind"] if as_json else result.stdout.split()[1]
        assert shown == kind


def signed(fields, aad):
    from fota_signer.examples import example_key

    key = example_key("assign")
    xy = host_crypto.public_xy(key)
    return cose.sign1(cbor.encode(fields), cose.kid_of(xy), host_crypto.signer(key), aad)


def test_inspect_never_prints_a_private_key(fota, key_dir):
    private = host_crypto.load_private_key(key_dir / "assign.pem", allow_example_keys=True)
    secret = f"{private.private_numbers().private_value:064x}"
    for words in (("inspect",), ("keys", "show"), ("keys", "public")):
        result = fota(*words, key_dir / "assign.pem")
        assert result.returncode == 0
        assert secret not in result.stdout


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\xd2\x80", b"\xd8\x6b\xa0", b"\x81\x40", b"\x3d\xb8\xf3\x96"]
)
def test_inspect_of_anything_else_refused(fota, tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    result = fota("inspect", "x")
    assert result.returncode in (1, 3)
    assert result.stderr.startswith("fota: error: ")
    assert result.stderr.count("\n") == 1
