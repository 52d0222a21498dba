"""Keys in a token, by PKCS#11 and a URI: SoftHSM2, in processes of their own as a release is signed."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hsm import PIN, Hsm
from lifeline import HANG_S

from fota_signer.examples import example_files
from fota_signer.factory.ca import pem
from fota_wire import host_crypto

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
FOTA = [sys.executable, "-c", "from fota_cli.entry import main; main()"]
SIGN = ("-o", "app.img", "--version", "1.1.0", "--security-counter", "3", *MODEL)


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def hsm(tmp_path_factory):
    made = Hsm(tmp_path_factory.mktemp("hsm"))
    made.pin_file.chmod(0o600)
    return made


class Room:
    """A folder where a release is signed, with a token in reach."""

    def __init__(self, folder, hsm):
        self.folder, self.hsm = folder, hsm
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
        self.environment |= {**hsm.environment, "FOTA_ALLOW_EXAMPLE_KEYS": "1"}

    def uri(self, key="", token="token=fota", pin=None, more=""):
        source = self.hsm.pin_file if pin is None else pin
        name = f"{token};object={key}" if key else token
        return f"pkcs11:{name}{more}?module-path={self.hsm.module}" + (
            f"&pin-source={source}" if source else ""
        )

    def fota(self, *words, **environment):
        return subprocess.run(
            [*FOTA, *map(str, words)], cwd=self.folder, env=self.environment | environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG_S,
        )  # fmt: skip

    def done(self, *words, **environment):
        made = self.fota(*words, **environment)
        assert made.returncode == 0, made.stderr
        assert PIN not in made.stdout + made.stderr
        return made.stdout

    def refused(self, code, *words, says, **environment):
        before = snapshot(self.folder)
        made = self.fota(*words, **environment)
        assert (made.returncode, made.stdout, made.stderr.count("\n")) == (code, "", 1), made.stderr
        assert made.stderr.startswith("fota: error: ")
        assert says in made.stderr
        assert PIN not in made.stderr
        assert snapshot(self.folder) == before

    def new(self, label, name=None, more=""):
        """Return the URI of a key that was made in the token."""
        words = ("keys", "new", label, "-o", name or label.replace("/", "-") + ".pub", "--json")
        return json.loads(self.done(*words, "--store", self.uri(more=more)))["key"]

    def add(self, label, id_="01", kind="ec", curve="P-256"):
        """Put a key of openssl's into the token."""
        key, option = self.folder / "made.pem", f"ec_paramgen_curve:{curve}"
        option = "rsa_keygen_bits:2048" if kind == "rsa" else option
        words = ["openssl", "genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", key]
        subprocess.run(words, check=True, capture_output=True)
        words = [
            "softhsm2-util",
            "--import",
            key,
            "--token",
            "fota",
            "--label",
            label,
            "--id",
            id_,
            "--pin",
            PIN,
        ]
        subprocess.run(words, check=True, capture_output=True, env=self.environment)
        key.unlink()


@pytest.fixture
def room(tmp_path, hsm, firmware):
    made = Room(tmp_path, hsm)
    for name, content in example_files().items():
        (tmp_path / name).write_bytes(content)
    return made


@pytest.fixture(scope="module", autouse=True)
def names():
    """A number for each key: the token is one for all tests."""
    return iter(range(1000))


def test_release_is_signed_by_keys_that_were_made_in_a_token(room, firmware, names):
    n = next(names)
    image, release, root = (room.new(f"{role}/{n}", f"{role}.pub") for role in ("image", "release", "root"))
    room.done("sign", firmware, *SIGN, "--key", image)
    room.done("verify", "app.img", "--key", "image.pub", *MODEL)
    room.done("root", "new", "--root-key", "root.pub", "--root-key", "root-1.pub.pem",
              "--release-key", "release.pub", "--release-threshold", 1, "--assign-key", "assign.pub.pem",
              "--image-key", "image.pub", "--sign", root, "--sign", "root-1.pem",
              "-o", "root.cbor")  # fmt: skip
    room.done("root", "verify", "root.cbor")
    room.done("manifest", "new", "app.img", "-o", "m", "--sequence", 7, *MODEL, "--root", "root.cbor")
    room.done(
        "manifest", "sign", "m", "-o", "m", "--key", release, "--root", "root.cbor", "--image", "app.img"
    )
    room.done("manifest", "verify", "m", "--root", "root.cbor", "--image", "app.img")


def test_public_half_of_a_key_in_a_token_says_what_it_is_for(room, names):
    label = f"release/{next(names)}"
    uri = room.new(label, "made.pub")
    assert room.done("keys", "public", uri) == (room.folder / "made.pub").read_text()
    assert (room.folder / "made.pub").read_text().startswith(f"# fota {label} ")
    shown = json.loads(room.done("keys", "show", uri, "--json"))
    assert shown["public"] == host_crypto.load_public_key(room.folder / "made.pub").hex()


def test_key_in_a_token_of_another_role_signs_nothing(room, firmware, names):
    uri = room.new(f"release/{next(names)}")
    room.refused(3, "sign", firmware, *SIGN, "--key", uri, says="what is wanted here is a key of role image")


def test_key_in_a_token_is_not_made_twice(room, names):
    label = f"image/{next(names)}"
    room.new(label, "one.pub")
    room.refused(
        3, "keys", "new", label, "-o", "two.pub", "--store", room.uri(), says="already: choose another"
    )


def test_key_that_others_put_into_a_token_signs_by_label_or_id(room, firmware, names):
    label = f"line{next(names)}"
    room.add(label, "0a0b")
    for number, more in enumerate((f"object={label}", "id=%0a%0b", f"object={label};id=%0A%0B;type=private")):
        uri = room.uri(more=f";{more}")
        (room.folder / "line.pub").write_text(room.done("keys", "public", uri))
        room.done("sign", firmware, *SIGN[2:], "-o", f"{number}.img", "--key", uri)
        room.done("verify", f"{number}.img", "--key", "line.pub", *MODEL)


def test_device_ca_in_a_token_issues_certificates_that_openssl_believes(room, names):
    uri = room.new(f"device-ca/{next(names)}", "ca.pub")
    room.done("ca", "new", "--key", uri, "--cert", "ca.crt", "--name", "factory")
    room.done("vdev", "create", "one.vdev")
    room.done("provision", "device", "one.vdev", "--image-key-a", "image-a.pub.pem", "--image-key-b",
              "image-b.pub.pem", "--ca-key", uri, "--ca-cert", "ca.crt")  # fmt: skip
    record = next((room.folder / "provisioning").glob("*.json"))
    (room.folder / "device.crt").write_text(pem(bytes.fromhex(json.loads(record.read_text())["certificate"])))
    done = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", "device.crt"],
                          cwd=room.folder, capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_key_that_wants_the_pin_for_each_signature_gets_it(room, firmware, names):
    label = f"image/{next(names)}"
    program = f"""
from pkcs11 import Attribute, KeyType, lib
from fota_wire.host_pkcs11 import P256
token = lib({str(room.hsm.module)!r}).get_token(token_label="fota")
with token.open(rw=True, user_pin={PIN!r}) as session:
    curve = session.create_domain_parameters(KeyType.EC, {{Attribute.EC_PARAMS: P256}}, local=True)
    each = {{Attribute.ALWAYS_AUTHENTICATE: True, Attribute.SENSITIVE: True}}
    curve.generate_keypair(store=True, label={label!r}, private_template=each)
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=room.environment)
    uri = room.uri(label)
    (room.folder / "each.pub").write_text(room.done("keys", "public", uri))
    room.done("sign", firmware, *SIGN, "--key", uri)
    room.done("verify", "app.img", "--key", "each.pub", *MODEL)


def test_module_of_an_address_without_one_is_this_machines(room, firmware, names):
    uri = room.new(f"image/{next(names)}")
    bare = uri.partition("?")[0] + f"?pin-source={room.hsm.pin_file}"
    room.refused(3, "sign", firmware, *SIGN, "--key", bare, says="set FOTA_PKCS11_MODULE")
    room.done("sign", firmware, *SIGN, "--key", bare, FOTA_PKCS11_MODULE=str(room.hsm.module))


# --- what a token refuses


def test_token_or_key_that_is_not_there_is_one_line(room, firmware, names):
    words = ("sign", firmware, *SIGN, "--key")
    room.refused(6, *words, room.uri("x", token="token=other"), says="no token other")
    room.refused(6, *words, room.uri("x", token="token=fota;serial=1"), says="no token fota serial 1")
    room.refused(6, *words, room.uri("no-such"), says="no such key")
    room.refused(3, *words, room.uri(), says="names no key: object=LABEL")
    bad = room.uri("x").replace(str(room.hsm.module), str(firmware))
    room.refused(6, *words, bad, says="is no module that can be loaded")


@pytest.mark.parametrize(("kind", "curve"), [("rsa", ""), ("ec", "P-384"), ("ec", "brainpoolP256r1")])
def test_key_of_another_kind_signs_nothing(room, firmware, names, kind, curve):
    label = f"other{next(names)}"
    room.add(label, f"{next(names):04x}", kind, curve)
    room.refused(6, "sign", firmware, *SIGN, "--key", room.uri(label), says=f"key {label} is not on P-256")


def test_of_two_keys_of_one_name_none_is_guessed(room, firmware, names):
    label = f"twice{next(names)}"
    room.add(label, "0101")
    room.add(label, "0102")
    words = ("sign", firmware, *SIGN, "--key")
    room.refused(6, *words, room.uri(label), says="more than one key is called that: say which by id=")
    room.done(*words, room.uri(label, more=";id=%01%02"))


def test_of_two_tokens_of_one_name_none_is_guessed(room, firmware, tmp_path_factory):
    two = Hsm(tmp_path_factory.mktemp("two"))
    two.pin_file.chmod(0o600)
    words = ("softhsm2-util", "--init-token", "--free", "--label", "fota", "--pin", PIN, "--so-pin", PIN)
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, **two.environment})
    other = Room(room.folder, two)
    other.refused(6, "sign", firmware, *SIGN, "--key", other.uri("x"), says="more than one token is fota")


def test_token_that_was_pulled_out_leaves_nothing_half_signed(room, firmware, names):
    image, root = room.new(f"image/{next(names)}"), room.new(f"root/{next(names)}", "root.pub")
    tokens = Path(room.hsm.environment["SOFTHSM2_CONF"]).parent / "tokens"
    away = tokens.with_name("away")
    tokens.rename(away)
    tokens.mkdir()
    try:
        room.refused(6, "sign", firmware, *SIGN, "--key", image, says="no token fota")
        whom = ("--root-key", "root.pub", "--root-key", "root-1.pub.pem", "--release-threshold", 1)
        whom += (
            "--release-key",
            "release-1.pub.pem",
            "--assign-key",
            "assign.pub.pem",
            "--sign",
            "root-1.pem",
        )
        room.refused(6, "root", "new", *whom, "--sign", root, "-o", "root.cbor", says="no token fota")
    finally:
        shutil.rmtree(tokens)
        away.rename(tokens)
    room.done("sign", firmware, *SIGN, "--key", image)


# --- the PIN


@pytest.fixture
def own(tmp_path_factory, tmp_path, firmware):
    """A room with a token of its own, for PINs that are wrong; the URI of a key in it, and no PIN."""
    hsm = Hsm(tmp_path_factory.mktemp("own"))
    hsm.pin_file.chmod(0o600)
    made = Room(tmp_path, hsm)
    made.key = made.new("image/a")
    made.bare = made.key.partition("&")[0]
    return made


def with_pin(room, pin, name="other-pin"):
    path = room.hsm.pin_file.with_name(name)
    path.write_text(pin + "\n")
    path.chmod(0o600)
    return f"{room.bare}&pin-source={path}"


def test_wrong_pin_of_a_file_is_tried_once_until_somebody_types_the_right_one(own, firmware):
    words = ("sign", firmware, *SIGN, "--key")
    own.refused(6, *words, with_pin(own, "000000"), says="refuses the PIN")
    for uri in (with_pin(own, "000000"), with_pin(own, "111111"), own.key):
        own.refused(6, *words, uri, says="a wrong PIN was tried on token fota")
    code, said = typed(own, PIN, "keys", "show", own.bare)
    assert (code, PIN in said) == (0, False), said
    own.done(*words, own.key)


def test_pin_comes_from_its_file_or_from_who_is_there_and_from_nowhere_else(own, firmware):
    words = ("sign", firmware, *SIGN)
    own.refused(
        3, *words, "--key", own.bare, says="PIN of token fota: name its file", FOTA_KEY_PASSWORD="000000"
    )
    own.refused(3, *words, "--key", f"{own.bare}&pin-value={PIN}", says="use pin-source")
    own.done(*words, "--key", own.bare, "--password-file", own.hsm.pin_file)  # so none was tried
    code, said = typed(own, "000000", *words, "--key", own.bare, "--force")
    assert (code, said.count("PIN of token")) == (6, 1), said


def test_pin_that_others_can_read_opens_nothing(own, firmware):
    own.hsm.pin_file.chmod(0o640)
    own.refused(3, "sign", firmware, *SIGN, "--key", own.key, says="can read this PIN (mode 640): chmod 600")


def test_token_is_asked_for_no_pin_before_it_is_there(own, firmware):
    code, said = typed(
        own, "", "sign", firmware, *SIGN, "--key", own.bare.replace("token=fota", "token=gone")
    )
    assert (code, "PIN of" in said) == (6, False), said


def typed(room, text, *words):
    """Run the command on a terminal where somebody types ``text`` when asked; return code and all output."""
    master, slave = pty.openpty()
    process = subprocess.Popen([*FOTA, *map(str, words)], cwd=room.folder, env=room.environment,
                               stdin=slave, stdout=slave, stderr=slave, start_new_session=True)  # fmt: skip
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 1024)
        except OSError:  # its end
            break
        if not piece:
            break
        seen += piece
        if seen.endswith(b"PIN of token fota: "):
            os.write(master, text.encode() + b"\n")
    os.close(master)
    return process.wait(HANG_S), seen.decode()
