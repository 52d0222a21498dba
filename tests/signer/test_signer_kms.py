"""Keys in AWS KMS: moto is the judge, a front before it fails."""

import json

import boto3
import pytest
from kms import SECRET, served

from fota_signer.keys import PublicKey
from fota_wire import host_kms
from fota_wire.host_keys import place_of

MODEL = ("--vendor-domain", "example.com", "--model", "demo")
SIGN = ("-o", "app.img", "--version", "1.1.0", "--security-counter", 3, *MODEL)


@pytest.fixture(scope="module")
def module_kms():
    with served() as kms, pytest.MonkeyPatch.context() as patch:
        for name, value in kms.environment.items():
            patch.setenv(name, value)
        one = boto3.Session()
        kms.session = lambda: one
        yield kms


@pytest.fixture
def kms(module_kms, monkeypatch):
    """What is asked once is asked once: waiting between tries is the library's own."""
    module_kms.mode, module_kms.asked = "", []
    monkeypatch.setattr(boto3, "Session", module_kms.session)  # a new one reads its own library for a second
    monkeypatch.setattr(host_kms, "ATTEMPTS", 1)
    return module_kms


@pytest.fixture(scope="module")
def made(module_kms):
    """An IMAGE and a ROOT key, made once: their URIs, and the public half of the latter."""
    (image, _), (root, xy) = (place_of("awskms:///").make(f"{role}/made", None) for role in ("image", "root"))
    return image, root, PublicKey(xy=xy).pem()


@pytest.fixture(scope="module")
def names():
    return iter(range(1000))


@pytest.fixture
def new(fota, kms, names):
    def make(role="image", name=None):
        label = f"{role}/{next(names)}"
        made = fota("keys", "new", label, "-o", name or f"{role}.pub", "--store", "awskms:///", "--json")
        assert made.returncode == 0, made.stderr
        kms.asked.clear()
        return json.loads(made.stdout)["key"]

    return make


def done(made):
    assert made.returncode == 0, made.stderr
    assert SECRET not in made.stdout + made.stderr
    return made.stdout


def test_release_is_signed_by_keys_that_were_made_in_kms(fota, kms, new, firmware, key_dir):
    image, release, root = (new(role) for role in ("image", "release", "root"))
    assert image.startswith("awskms:///alias/image/")
    done(fota("sign", firmware, *SIGN, "--key", image))
    assert kms.asked == ["GetPublicKey", "Sign"]
    done(fota("verify", "app.img", "--key", "image.pub", *MODEL))
    names = ("--root-key", "root.pub", "--root-key", key_dir / "root-1.pub.pem",
             "--assign-key", key_dir / "assign.pub.pem", "--release-key", "release.pub",
             "--release-threshold", 1)  # fmt: skip
    done(fota("root", "new", *names, "--sign", root, "--sign", key_dir / "root-1.pem", "-o", "root.cbor"))
    done(fota("root", "verify", "root.cbor"))
    done(fota("manifest", "new", "app.img", "-o", "m", "--sequence", 7, *MODEL))
    done(fota("manifest", "sign", "m", "-o", "m", "--key", release, "--root", "root.cbor"))
    done(fota("manifest", "verify", "m", "--root", "root.cbor"))


def test_key_in_kms_is_known_by_alias_id_and_arn(fota, kms, new, firmware, tmp_path):
    alias = new()
    pem = done(fota("keys", "public", alias))
    assert pem == (tmp_path / "image.pub").read_text()
    client = boto3.Session().client("kms", region_name="eu-central-1")
    found = client.describe_key(KeyId=alias.removeprefix("awskms:///"))["KeyMetadata"]
    client.close()
    for key in (found["KeyId"], found["Arn"]):
        assert done(fota("keys", "public", f"awskms:///{key}")) == pem.partition("\n")[2]
        done(fota("sign", firmware, *SIGN, "--force", "--key", f"awskms:///{key}"))
        done(fota("verify", "app.img", "--key", "image.pub", *MODEL))


def test_key_in_kms_of_another_role_is_not_asked_for(refused, kms, new, firmware):
    release = new("release")
    refused(3, "sign", firmware, *SIGN, "--key", release, says="what is wanted here is a key of role image")
    assert kms.asked == []


def test_key_in_kms_is_not_made_twice(refused, kms, new):
    alias = new()
    label = alias.partition("alias/")[2]
    refused(3, "keys", "new", label, "-o", "two.pub", "--store", "awskms:///", says="choose another name")
    assert "CreateKey" not in kms.asked


@pytest.mark.parametrize(("spec", "usage"), [("RSA_2048", "SIGN_VERIFY"), ("ECC_NIST_P384", "SIGN_VERIFY")])
def test_key_in_kms_of_another_kind_signs_nothing(refused, kms, firmware, spec, usage):
    client = boto3.Session().client("kms", region_name="eu-central-1")
    key = client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
    client.close()
    words = ("sign", firmware, *SIGN, "--key", f"awskms:///{key}")
    refused(3, *words, says="not a key on P-256 that signs")


def test_key_that_is_not_there_is_bad_input(refused, kms, firmware):
    refused(3, "sign", firmware, *SIGN, "--key", "awskms:///alias/none", says="KMS answers NotFoundException")


@pytest.mark.parametrize("target", ["GetPublicKey", "Sign"])
@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [
        ((400, "AccessDeniedException"), 1, "KMS answers AccessDeniedException: AccessDeniedException it is"),
        ((403, "ExpiredTokenException"), 1, "KMS answers ExpiredTokenException"),
        ((400, "DisabledException"), 3, "KMS answers DisabledException"),
        ((400, "ThrottlingException"), 4, "KMS answers ThrottlingException"),
        ((500, "KMSInternalException"), 4, "KMS answers KMSInternalException"),
        ("gone", 4, "KMS does not answer: Connection was closed"),
        ("stuck", 4, "KMS does not answer: Read timeout"),
    ],
)
def test_kms_that_denies_or_is_silent_leaves_nothing_half_signed(
    refused, kms, made, firmware, key_dir, tmp_path, monkeypatch, target, mode, code, says
):
    image, root, pem = made
    (tmp_path / "root.pub").write_bytes(pem)
    names = ("--root-key", "root.pub", "--root-key", key_dir / "root-1.pub.pem", "--assign-key",
             key_dir / "assign.pub.pem", "--release-key", key_dir / "release-1.pub.pem",
             "--release-threshold", 1)  # fmt: skip
    if mode == "stuck":
        monkeypatch.setattr(host_kms, "READ_S", 0.01)
        kms.go_on.clear()
    kms.mode = {target: mode}
    refused(code, "sign", firmware, *SIGN, "--key", image, says=says)
    two = ("--sign", key_dir / "root-1.pem", "--sign", root)
    refused(code, "root", "new", *names, *two, "-o", "root.cbor", says=says)
    kms.go_on.set()


def test_signature_that_was_altered_on_its_way_is_taken_by_nobody(refused, kms, made, firmware):
    image, _, _ = made
    kms.mode = {"Sign": "other"}
    refused(6, "sign", firmware, *SIGN, "--key", image, says="does not hold by the key's public half")


def test_nobody_who_asks_or_no_region_is_said(refused, kms, firmware, monkeypatch):
    words = ("sign", firmware, *SIGN, "--key", "awskms:///alias/image/a")
    monkeypatch.setattr(boto3, "Session", boto3.session.Session)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(3, *words, says="no credentials of AWS")
    monkeypatch.delenv("AWS_REGION")
    refused(3, *words, says="in which region? Set AWS_REGION")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    refused(3, *words, says="nobody")


def test_alias_that_is_denied_says_where_the_new_key_is(refused, kms):
    kms.mode = {"CreateAlias": (400, "AccessDeniedException")}
    words = ("keys", "new", "image/denied", "-o", "k.pub", "--store", "awskms:///")
    refused(1, *words, says="(the key was made, and has no alias: awskms:///")
