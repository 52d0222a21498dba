"""Keys at rest: what a password costs to guess, who can read the file, and what the key is for."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fota_signer import passwords
from fota_signer.pkcs8 import encrypted_pem
from fota_wire.host_crypto import public_xy

PASSWORD = "correct horse"
ENV = {"FOTA_KEY_PASSWORD": PASSWORD}
MODEL = ("--vendor-domain", "example.com", "--model", "demo")
SIGN = ("-o", "app.img", "--version", "1.0.0", "--security-counter", 1, *MODEL)


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def private(path, password=PASSWORD):
    return load_pem_private_key(Path(path).read_bytes(), password.encode() if password else None)


def made(result):
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture
def plain(tmp_path):
    """An unlabelled P-256 key as openssl makes it, mode 0600."""
    path = tmp_path / "plain.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    path.chmod(0o600)
    return path


def test_new_key_costs_a_guesser_a_memory_hard_tenth_of_a_second(fota):
    made(fota("keys", "new", "image/a", "-o", "a.pem", env=ENV))
    shown = subprocess.run(["openssl", "asn1parse", "-in", "a.pem"], capture_output=True, text=True).stdout
    for word in (":PBES2", ":scrypt", ":aes-256-cbc", ":4000\n", ":08\n", ":05\n"):
        assert word in shown, shown


def test_openssl_opens_what_is_encrypted_here_and_no_other_password_does(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "k.pem").write_bytes(encrypted_pem(key, b"correct horse"))
    openssl("pkey", "-in", tmp_path / "k.pem", "-passin", "pass:correct horse", "-out", tmp_path / "p.pem")
    assert public_xy(private(tmp_path / "p.pem", None)) == public_xy(key)
    with pytest.raises(ValueError, match=r"(?i)password|decrypt"):
        load_pem_private_key(encrypted_pem(key, b"correct horse"), b"correct hors")


@pytest.mark.parametrize(
    "weak",
    ["x", "elevenchars", "password1234!", "Passw0rd2026!", "aaaaaaaaaaaaaa", "abababababab", "12345678901234",
     "qwertyuiop12", "changeme-2026", "correct horse battery staple"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["keys", "ca"])
def test_weak_password_is_refused_with_the_rule(refused, command, weak):
    words = ("keys", "new", "root/1", "-o", "k.pem")
    if command == "ca":
        words = ("ca", "new", "--name", "F", "-o", "k.pem", "--cert", "c.crt")
    refused(3, *words, says="at least 12 characters", env={"FOTA_KEY_PASSWORD": weak})


@pytest.mark.parametrize(
    "good", ["twelve chars", "correct horse", "Xk4!mq9#Lw2z", "дванадцять слів", "0123456789ab"]
)
def test_password_of_some_length_is_taken(good):
    assert passwords.checked(good.encode()) == good.encode()


def test_old_key_with_a_weak_password_still_opens_and_can_be_given_a_better_one(fota, refused, plain):
    """Made by an earlier version: 2,048 rounds of PBKDF2, and one letter."""
    openssl(
        "pkcs8", "-topk8", "-in", plain, "-passout", "pass:x", "-out", "old.pem", "-v2prf", "hmacWithSHA256"
    )
    body = Path("old.pem").read_bytes()
    kid = hashlib.sha256(b"").hexdigest()[:16]
    Path("old.pem").write_bytes(f"# fota image/a {kid}\n".encode() + body)
    Path("old.pem").chmod(0o600)
    old = {"FOTA_KEY_PASSWORD": "x"}
    made(fota("keys", "show", "old.pem", env=old))
    new = {"FOTA_NEW_KEY_PASSWORD": PASSWORD}
    refused(3, "keys", "password", "old.pem", says="wrong password", env=new | {"FOTA_KEY_PASSWORD": "y"})
    refused(3, "keys", "password", "old.pem", says="too weak", env=old | {"FOTA_NEW_KEY_PASSWORD": "x"})
    made(fota("keys", "password", "old.pem", env=old | new))
    assert public_xy(private("old.pem")) == public_xy(private(plain, None))
    assert Path("old.pem").stat().st_mode & 0o777 == 0o600
    assert Path("old.pem").read_bytes().startswith(b"# fota image/a ")
    assert subprocess.run(["grep", "-c", "BEGIN", "old.pem"], capture_output=True).stdout == b"1\n"


def forms(plain, folder):
    """Every form in which a P-256 private key comes along: (file, its password)."""
    ec_words = ("ec", "-in", plain)
    for name, words in {
        "sec1.pem": (*ec_words,),
        "explicit.pem": (*ec_words, "-param_enc", "explicit"),
        "compressed.pem": (*ec_words, "-conv_form", "compressed"),
        "no-public.pem": (*ec_words, "-no_public"),
        "sec1.der": (*ec_words, "-outform", "DER"),
        "pkcs8.pem": ("pkcs8", "-topk8", "-nocrypt", "-in", plain),
        "pkcs8.der": ("pkcs8", "-topk8", "-nocrypt", "-in", plain, "-outform", "DER"),
    }.items():
        openssl(*words, "-out", folder / name)
        yield folder / name, None
    for name, words in {
        "traditional.pem": (*ec_words, "-aes256"),
        "pbkdf2.pem": ("pkcs8", "-topk8", "-in", plain),
        "scrypt.pem": ("pkcs8", "-topk8", "-scrypt", "-in", plain),
        "encrypted.der": ("pkcs8", "-topk8", "-in", plain, "-outform", "DER"),
    }.items():
        openssl(*words, "-passout", "pass:theirs", "-out", folder / name)
        yield folder / name, "theirs"


def test_key_of_any_form_is_imported_with_role_and_password(fota, plain, tmp_path, firmware):
    want = public_xy(private(plain, None))
    for number, (source, theirs) in enumerate(forms(plain, tmp_path)):
        output = tmp_path / f"mine-{number}.pem"
        env = ENV if theirs is None else {"FOTA_KEY_PASSWORD": theirs, "FOTA_NEW_KEY_PASSWORD": PASSWORD}
        made(fota("keys", "import", source, "--role", "image/line", "-o", output, env=env))
        assert public_xy(private(output)) == want, source.name
        assert output.read_bytes().startswith(b"# fota image/line ")
        assert output.stat().st_mode & 0o777 == 0o600
    made(fota("sign", firmware, "--key", output, *SIGN, env=ENV))


def test_new_password_that_is_missing_is_asked_for_by_its_own_name(refused, plain):
    openssl("pkcs8", "-topk8", "-in", plain, "-passout", f"pass:{PASSWORD}", "-out", "theirs.pem")
    says = "no password: set FOTA_NEW_KEY_PASSWORD or give --new-password-file"
    refused(3, "keys", "import", "theirs.pem", "--role", "image/a", "-o", "a.pem", says=says, env=ENV)


def test_of_two_keys_in_one_file_none_is_left_out(fota, refused, plain, firmware, tmp_path):
    for name in ("a", "b"):
        made(fota("keys", "new", f"image/{name}", "-o", f"{name}.pem", env=ENV))
        made(fota("keys", "public", f"{name}.pem", "-o", f"{name}.pub", env=ENV))
    made(fota("sign", firmware, "--key", "a.pem", *SIGN, env=ENV))
    for kind in ("pem", "pub"):
        (tmp_path / f"two.{kind}").write_bytes(b"".join(Path(f"{n}.{kind}").read_bytes() for n in "ab"))
    (tmp_path / "two.pem").chmod(0o600)
    private_keys, public_keys = (
        "two.pem: holds 2 private keys, and one",
        "two.pub: holds 2 public keys, and one",
    )
    for says, *words in (
        (private_keys, "keys", "show", "two.pem"),
        (private_keys, "keys", "import", "two.pem", "--role", "image/a", "-o", "c.pem"),
        (private_keys, "keys", "password", "two.pem"),
        (private_keys, "sign", firmware, "--key", "two.pem", *SIGN, "--force"),
        (public_keys, "keys", "show", "two.pub"),
        (public_keys, "inspect", "two.pub"),
        (public_keys, "verify", "app.img", "--key", "two.pub"),
    ):
        refused(3, *words, says=says, env=ENV | {"FOTA_NEW_KEY_PASSWORD": PASSWORD})


def test_params_in_front_of_a_key_are_passed_over(fota, tmp_path):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", tmp_path / "both.pem")
    assert b"BEGIN EC PARAMETERS" in (tmp_path / "both.pem").read_bytes()
    made(fota("keys", "import", "both.pem", "--role", "image/a", "-o", "a.pem", env=ENV))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (("genpkey", "-algorithm", "RSA", "-out"), "not a P-256 key"),
        (("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out"), "not a P-256 key"),
        (("genpkey", "-algorithm", "ED25519", "-out"), "not a P-256 key"),
    ],
)
def test_key_of_another_kind_is_not_imported(refused, tmp_path, make, says):
    openssl(*make, tmp_path / "other.pem")
    refused(3, "keys", "import", "other.pem", "--role", "image/a", "-o", "a.pem", says=says, env=ENV)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"\x30\x03\x02\x01\x00"]
)
def test_file_that_holds_no_key_is_not_imported(refused, tmp_path, content):
    (tmp_path / "no.pem").write_bytes(content)
    refused(
        3, "keys", "import", "no.pem", "--role", "image/a", "-o", "a.pem", says="not a private key", env=ENV
    )


def test_key_of_another_role_is_not_imported_for_this_one(fota, refused):
    made(fota("keys", "new", "root/1", "-o", "r.pem", env=ENV))
    words = ("keys", "import", "r.pem", "--role", "image/a", "-o", "a.pem")
    refused(3, *words, says="the key root/1", env=ENV)


def test_key_that_does_not_say_what_it_is_for_signs_nothing(refused, plain, firmware):
    says = f"fota keys import {plain} --role image/NAME -o NEW"
    refused(3, "sign", firmware, "--key", plain, *SIGN, says=says)
    refused(3, "sign", firmware, "--key", plain, "--json", *SIGN, says=says)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_private_key_that_others_can_read_signs_nothing(fota, refused, firmware, tmp_path, mode):
    made(fota("keys", "new", "image/a", "-o", "a.pem", env=ENV))
    key = tmp_path / "a.pem"
    key.chmod(mode)
    refused(3, "sign", firmware, "--key", key, *SIGN, says=f"(mode {mode:o}): chmod 600 {key}", env=ENV)
    key.chmod(0o400)
    made(fota("sign", firmware, "--key", key, *SIGN, env=ENV))
