"""Keys in stores: what their addresses say, and what `exec:` and a room without a network sign."""

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from ecdsa import NIST256p
from ecdsa import SigningKey as Witness
from hypothesis import given
from hypothesis import strategies as st

from fota_signer import images
from fota_signer.identity import device_class
from fota_wire import host_crypto, host_keys, image, suit
from fota_wire.errors import FotaError, InputError
from fota_wire.host_keys import STORES, held, place_of
from fota_wire.host_pkcs11 import Which

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
SIGN = ("-o", "app.img", "--version", "1.1.0", "--security-counter", 3, *MODEL)
TOOL = """
import pathlib, sys
digest = sys.stdin.buffer.read()
assert len(digest) == 32 and sys.argv[1:] == ["--slot", "a b"], sys.argv
from ecdsa import NIST256p, SigningKey
from ecdsa.util import sigencode_der, sigencode_string
key = SigningKey.from_string(pathlib.Path("scalar").read_bytes(), NIST256p)
sys.stdout.buffer.write(key.sign_digest(digest, sigencode={form}))
"""


@pytest.fixture
def tool(tmp_path):
    """A program that signs by the library `ecdsa` with a key of its own; the public half says what for."""

    def make(form="sigencode_der", text=TOOL, role="image"):
        key = ec.generate_private_key(ec.SECP256R1())
        (tmp_path / "scalar").write_bytes(key.private_numbers().private_value.to_bytes(32, "big"))
        (tmp_path / "tool.py").write_text(text.replace("{form}", form))
        from fota_signer.keys import PublicKey, label_line

        public = PublicKey(xy=host_crypto.public_xy(key))
        (tmp_path / "hsm.pub.pem").write_bytes(label_line(public, f"{role}/hsm") + public.pem())
        return f"exec:{sys.executable} tool.py --slot 'a b'?public=hsm.pub.pem"

    return make


# --- addresses


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("pkcs11:token=a;object=b?module-path=/m&pin-value=1234", "use pin-source"),
        ("pkcs11:object=b?module-path=/m", "without token"),
        ("pkcs11:token=a;token=b;object=c?module-path=/m", "'token' twice"),
        ("pkcs11:token=a;library-version=3;object=c?module-path=/m", "'library-version' in a"),
        ("pkcs11:token=a;object=c;type=public?module-path=/m", "a private key is wanted"),
        ("pkcs11:token=a;object=c?module-path=/m&pin-source=|cat", "pin-source is a file"),
        ("pkcs11:token=a;pin-source=/pin?module-path=/m", "'pin-source' in a"),
        ("pkcs11:token=a;object=%zz", "object in a pkcs11: address has"),
        ("pkcs11:token=a;object=", "object in a pkcs11: address has no value"),
        ("pkcs11:token=%ff;object=b", "token in a pkcs11: address is not UTF-8"),
        ("pkcs11:token=a;slot-id=one", "slot-id in a pkcs11: address is a number"),
        ("pkcs11:", "'' in a"),
        ("awskms:alias/x", "an awskms: address is"),
        ("awskms://localhost/alias/x", "an awskms: address is"),
        ("awskms:///alias/a b", "an awskms: address is"),
        ("exec:", "an exec: address is"),
        ("exec:sign-it", "an exec: address is"),
        ("exec:?public=k.pem", "an exec: address is"),
        ("exec:sign 'it?public=k.pem", "quotes do not close"),
    ],
)
def test_address_that_names_no_key_is_refused(text: str, word: str) -> None:
    with pytest.raises(InputError) as told:
        place_of(text)
    assert word in str(told.value)
    assert "1234" not in str(told.value)


def test_address_says_what_rfc_7512_says() -> None:
    found = place_of(
        "pkcs11:token=The%20token;serial=07;slot-id=3;object=a%3Bb;id=%01%ff;type=private"
        "?module-path=/m.so&pin-source=file:/etc/pin"
    )
    assert found.which == Which("The token", serial="07", slot_id=3)
    assert (found.label, found.id, found.module) == ("a;b", b"\x01\xff", "/m.so")
    assert found.pin_file == Path("/etc/pin")
    assert found.name.endswith(";type=private")


@given(st.sampled_from([*STORES]), st.text(max_size=60))
def test_address_of_any_text_is_a_place_or_refused(scheme: str, rest: str) -> None:
    try:
        place = place_of(f"{scheme}:{rest}")
    except FotaError:
        return
    assert place.name.startswith(f"{scheme}:")


def test_name_of_a_file_that_looks_like_an_address_is_a_name_with_its_folder() -> None:
    assert place_of("./exec:x") == Path("exec:x")
    assert place_of("keys/a.pem") == Path("keys/a.pem")


# --- signatures


@given(st.binary(min_size=32, max_size=32), st.integers(1, NIST256p.order - 1))
def test_signature_of_a_key_in_memory_is_what_rfc_6979_says_by_another_library(digest, scalar) -> None:
    ours = host_keys.in_memory(ec.derive_private_key(scalar, ec.SECP256R1()))
    other = Witness.from_secret_exponent(scalar, NIST256p)
    assert ours.sign(digest) == other.sign_digest_deterministic(digest, hashlib.sha256)
    assert ours.public == other.verifying_key.to_string()


@given(st.binary(max_size=80))
def test_bytes_that_are_no_signature_are_none(signature) -> None:
    key = host_keys.in_memory(ec.derive_private_key(7, ec.SECP256R1()))
    assert held(key.public, bytes(32), signature) is None
    assert held(key.public, bytes(32), key.sign(bytes(32))) == key.sign(bytes(32))


# --- another program


@pytest.mark.parametrize("form", ["sigencode_der", "sigencode_string"])
def test_image_signed_by_a_program_is_one_that_devices_take(fota, firmware, tool, tmp_path, form):
    address = tool(form)
    made = fota("sign", firmware, *SIGN, "--key", address)
    assert (made.returncode, made.stderr) == (0, "")
    made = fota("verify", "app.img", "--key", "hsm.pub.pem", *MODEL)
    assert made.returncode == 0, made.stderr


def test_image_is_the_same_but_for_its_signature_wherever_the_key_is(fota, firmware, tool, tmp_path):
    fota("sign", firmware, *SIGN, "--key", tool())
    parsed = image.parse_image((tmp_path / "app.img").read_bytes())
    key = ec.derive_private_key(int.from_bytes((tmp_path / "scalar").read_bytes(), "big"), ec.SECP256R1())
    words = {"version": (1, 1, 0, 0), "sec_cnt": 3}
    whom = device_class(class_uuid=None, domain="example.com", model="demo")
    ours = images.sign_payload(firmware.read_bytes(), key=key, device_class=whom, **words)
    assert image.parse_image(ours).image_hash == parsed.image_hash
    assert image.parse_image(ours).key_hash == parsed.key_hash


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("import sys; sys.exit(3)", 6, "ended with 3, and no signature"),
        ("print('hello')", 6, "does not hold by the key's public half"),
        ("", 6, "does not hold by the key's public half"),
        (TOOL.replace("digest, ", "digest[::-1], "), 6, "does not hold by the key's public half"),
    ],
)
def test_program_that_signs_nothing_or_something_else_leaves_no_image(
    refused, firmware, tool, text, code, says
):
    refused(code, "sign", firmware, *SIGN, "--key", tool(text=text), says=says)


def test_program_that_is_not_there_is_named(refused, firmware, tool):
    _, _, public = tool().rpartition("?")
    refused(3, "sign", firmware, *SIGN, "--key", f"exec:./no-such?{public}", says="exec:./no-such: No such")


def test_program_with_a_key_of_another_role_is_not_called(refused, firmware, tool):
    text = "import pathlib; pathlib.Path('called').touch()"
    refused(
        3, "sign", firmware, *SIGN, "--key", tool(text=text, role="release"),
        says="the key release/hsm; what is wanted here is a key of role image",
    )  # fmt: skip


def test_no_shell_reads_the_line(refused, firmware, tool, tmp_path):
    _, _, public = tool().rpartition("?")
    refused(
        6,
        "sign",
        firmware,
        *SIGN,
        "--key",
        f"exec:echo $(touch called); touch called?{public}",
        says="exec:echo",
    )


def test_key_is_made_by_no_program(refused, tool):
    refused(3, "keys", "new", "image/a", "-o", "k", "--store", tool(), says="no key is made by a program")


def test_public_half_of_a_programs_key_is_the_file(fota, tool, tmp_path):
    address = tool()
    assert fota("keys", "public", address).stdout == (tmp_path / "hsm.pub.pem").read_text()
    shown = json.loads(fota("keys", "show", address, "--json").stdout)
    assert shown["kid"] in (tmp_path / "hsm.pub.pem").read_text()


# --- a room without a network


@pytest.fixture
def room(fota, tmp_path):
    """A key of a role that openssl alone holds; what is carried in, and out."""

    def make(role):
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-out", tmp_path / f"{role}.room"], check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            [
                "openssl",
                "pkey",
                "-in",
                tmp_path / f"{role}.room",
                "-pubout",
                "-out",
                tmp_path / f"{role}.pub",
            ],
            check=True,
        )

        def sign(digest, signature):
            subprocess.run(
                ["openssl", "pkeyutl", "-sign", "-inkey", tmp_path / f"{role}.room", "-in", tmp_path / digest,
                 "-out", tmp_path / signature], check=True,
            )  # fmt: skip

        return sign

    return make


def two_steps(fota, sign, *words):
    made = fota(*words, "--prepare", "digest", "--force", "--json")
    assert made.returncode == 0, made.stderr
    sign("digest", "signature")
    made = fota(*words, "--attach", "signature", "--force")
    assert made.returncode == 0, made.stderr


def test_image_is_signed_in_a_room_without_a_network(fota, firmware, room, tmp_path):
    sign = room("image")
    made = fota("sign", firmware, *SIGN, "--key", "image.pub", "--prepare", "digest", "--json")
    said = json.loads(made.stdout)
    assert not (tmp_path / "app.img").exists()
    assert (tmp_path / "digest").read_bytes() == bytes.fromhex(said["digest"])
    sign("digest", "signature")
    made = fota("sign", firmware, *SIGN, "--key", "image.pub", "--attach", "signature")
    assert made.returncode == 0, made.stderr
    assert fota("verify", "app.img", "--key", "image.pub", *MODEL).returncode == 0
    assert image.parse_image((tmp_path / "app.img").read_bytes()).image_hash.hex() == said["digest"]


def test_what_people_sign_is_signed_in_a_room_without_a_network(
    fota, firmware, room, sign, key_dir, tmp_path
):
    sign(firmware, tmp_path / "app.img")
    fota("manifest", "new", "app.img", "-o", "m", "--sequence", 7, *MODEL)
    names = [word for n in (1, 2) for word in ("--root-key", key_dir / f"root-{n}.pub.pem")]
    in_room = {role: room(role) for role in ("root", "release", "campaign")}
    names += ["--root-key", "root.pub", "--release-key", "release.pub", "--campaign-key", "campaign.pub"]
    names += ["--release-threshold", 1, "--campaign-threshold", 1]
    made = fota("root", "new", *names, "--assign-key", key_dir / "assign.pub.pem", "-o", "root.cbor",
                "--sign", key_dir / "root-1.pem")  # fmt: skip
    assert made.returncode == 0, made.stderr
    two_steps(fota, in_room["root"], "root", "sign", "root.cbor", "-o", "root.cbor", "--key", "root.pub")
    assert fota("root", "verify", "root.cbor").returncode == 0
    two_steps(fota, in_room["release"], "manifest", "sign", "m", "-o", "m", "--key", "release.pub",
              "--root", "root.cbor")  # fmt: skip
    assert fota("manifest", "verify", "m", "--root", "root.cbor").returncode == 0
    fota("campaign", "new", "m", "--wave", "5% 2026-12-01 2026-12-08", "-o", "c")
    two_steps(fota, in_room["campaign"], "campaign", "sign", "c", "-o", "c", "--key", "campaign.pub")
    assert (
        json.loads(fota("campaign", "show", "c", "--root", "root.cbor", "--json").stdout)["verified"] is True
    )


def test_signature_of_anything_else_is_attached_to_nothing(fota, refused, firmware, room, tmp_path):
    sign = room("image")
    fota("sign", firmware, *SIGN, "--key", "image.pub", "--prepare", "digest")
    sign("digest", "signature")
    other = [word if word != "1.1.0" else "1.2.0" for word in SIGN]
    words = ("--key", "image.pub", "--attach", "signature")
    refused(1, "sign", firmware, *other, *words, says="signature: no signature of image.pub over ")
    good = (tmp_path / "signature").read_bytes()
    for broken in (b"", good[:-1], good + b"\n", bytes(64), good[:10] + bytes([good[10] ^ 1]) + good[11:]):
        (tmp_path / "signature").write_bytes(broken)
        refused(1, "sign", firmware, *SIGN, *words, says="signature: no signature of image.pub over ")


def test_two_steps_are_by_one_public_half(refused, firmware, tool, key_dir):
    address = tool()
    words = ("sign", firmware, *SIGN, "--key")
    refused(2, *words, address, "--prepare", "digest", says="--key is the file of the public half")
    refused(2, *words, "hsm.pub.pem", "--prepare", "digest", "--attach", firmware, says="two steps")
    refused(3, *words, "hsm.pub.pem", says="hsm.pub.pem is a public key, expected a private key")


def test_digest_replaces_no_file(refused, firmware, room, tmp_path):
    room("image")
    refused(
        3, "sign", firmware, *SIGN, "--key", "image.pub", "--prepare", "image.pub", says="image.pub exists"
    )


def test_published_key_prepares_nothing(refused, firmware, key_dir):
    words = ("--key", key_dir / "image-a.pub.pem", "--prepare", "digest")
    refused(1, "sign", firmware, *SIGN, *words, says="a published example key", allow=False)


def test_envelope_has_no_part_of_a_prepared_signature(fota, firmware, sign, room, tmp_path):
    room("release")
    sign(firmware, tmp_path / "app.img")
    fota("manifest", "new", "app.img", "-o", "m", "--sequence", 7, *MODEL)
    before = (tmp_path / "m").read_bytes()
    made = fota("manifest", "sign", "m", "-o", "m", "--key", "release.pub", "--prepare", "digest")
    assert (made.returncode, (tmp_path / "m").read_bytes()) == (0, before)
    assert "sequence" in made.stderr  # what is to be signed is shown, as before a password
    assert suit.parse_envelope(before).signatures == []
    assert stat.S_ISREG((tmp_path / "digest").stat().st_mode)
