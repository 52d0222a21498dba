"""The CAs that nobody can live with: refused where they are named, and OpenSSL is the judge of the others."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

sys.path.insert(0, str(Path(__file__).parent))

from ca_world import ANY, CLIENT, DAY, NO_CERT_SIGN, SERVER, make_ca, request_of

from fota_signer.factory.ca import FOR_EVER, LONGEST_NAMES, DeviceCa, issue, load_ca, notice
from fota_wire.certify import MAX_CERTIFICATE
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_ca import (
    DEVICE_CA,
    GATEWAYS_SERVER_CA,
    SERVER_CA,
    ca_faults,
    pem_certificates,
    require_ca,
)

SERIAL = bytes.fromhex("0123456789abcdefee")
OF_HOSTS = x509.NameConstraints([x509.DNSName("example.com")], None)
OF_PEOPLE = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Example"))], None)
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
BAD = {
    "no-keyCertSign": ({"usage": NO_CERT_SIGN}, "keyCertSign"),
    "no-CA": ({"ca": False}, "CA:TRUE"),
    "expired": ({"starts": -20 * DAY, "ends": -DAY}, "has expired on 20"),
    "future": ({"starts": 5 * DAY}, "is not valid before 20"),
    "for-servers": ({"purposes": [SERVER]}, "extended key usage"),
    "for-anything": ({"purposes": [ANY]}, "extended key usage"),
    "names-limited": ({"more": [(OF_PEOPLE, True)]}, "name constraints"),
    "names-limited-gently": ({"more": [(OF_PEOPLE, False)]}, "name constraints"),
    "unknown-critical": ({"more": [(STRANGE, True)]}, "critical extension"),
}
GOOD = {
    "plain": {},
    "as-short-as-can-be": {"usage": None, "key_id": None},
    "path-0": {"path_length": 0},
    "path-3": {"path_length": 3},
    "for-clients": {"purposes": [CLIENT, SERVER]},
    "another-key-id": {"key_id": b"\x01\x02\x03"},
    "unknown-but-gentle": {"more": [(STRANGE, False)]},
    "hosts-limited": {"more": [(OF_HOSTS, True)]},
    "ends-tomorrow": {"ends": DAY},
}


def openssl_takes(folder, certificate, leaf):
    (folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "leaf.crt").write_bytes(leaf)
    words = "openssl", "verify", "-partial_chain", "-purpose", "sslclient", "-CAfile", "ca.crt", "leaf.crt"
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def leaf_of(certificate, key):
    der = issue(request_of(SERIAL), SERIAL, DeviceCa(key=key, certificate=certificate))
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("kind", BAD)
def test_device_ca_whose_devices_nobody_believes_is_refused_as_openssl_does(kind, tmp_path):
    changes, says = BAD[kind]
    certificate, key = make_ca(**changes)
    leaf = leaf_of(make_ca(key=key)[0], key)  # by its sound twin: of the same name and key
    assert openssl_takes(tmp_path, certificate, leaf).returncode != 0
    with pytest.raises(InputError, match=says):
        require_ca(certificate, DEVICE_CA, "ca.crt")


@pytest.mark.parametrize("kind", GOOD)
def test_device_ca_that_openssl_believes_is_taken_and_so_are_its_devices(kind, tmp_path):
    certificate, key = make_ca(**GOOD[kind])
    judged = openssl_takes(tmp_path, certificate, leaf_of(certificate, key))
    assert judged.returncode == 0, judged.stderr
    assert ca_faults(certificate, DEVICE_CA, datetime.now(UTC)) == []


def test_device_ca_under_a_larger_one_is_taken(tmp_path):
    certificate, key = make_ca(issuer=make_ca(name="the larger"), name="the factory's")
    assert openssl_takes(tmp_path, certificate, leaf_of(certificate, key)).returncode == 0
    require_ca(certificate, DEVICE_CA, "ca.crt")


def test_device_ca_without_basic_constraints_is_refused_though_openssl_guesses():
    with pytest.raises(InputError, match="CA:TRUE"):
        require_ca(make_ca(ca=None)[0], DEVICE_CA, "ca.crt")


def named(size):
    """Return (certificate, key) of a CA whose name and key id have so many bytes."""
    name = len(make_ca()[0].subject.public_bytes())
    return make_ca(key_id=b"k" * (size - name))


def test_device_ca_whose_name_makes_certificates_too_long_is_refused_by_name(tmp_path):
    certificate, key = named(LONGEST_NAMES + 1)
    (tmp_path / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    with pytest.raises(InputError, match=f"{LONGEST_NAMES} at most"):
        load_ca(tmp_path / "ca.pem", tmp_path / "ca.crt")
    certificate, key = named(LONGEST_NAMES)
    longest = DeviceCa(key=key, certificate=certificate)
    attested = b"\x04\x20" + bytes(32)
    made = [issue(request_of(SERIAL), SERIAL, longest, FOR_EVER, attested, renewed=True) for _ in range(9)]
    assert MAX_CERTIFICATE - 12 < max(map(len, made)) <= MAX_CERTIFICATE


def test_every_fault_of_a_ca_is_named_at_once():
    certificate, _ = make_ca(ca=False, usage=NO_CERT_SIGN, ends=-DAY, starts=-2 * DAY)
    with pytest.raises(InputError) as refused:
        require_ca(certificate, DEVICE_CA, "here.crt")
    for says in ("here.crt: no usable device CA", "CA:TRUE", "keyCertSign", "expired"):
        assert says in str(refused.value)


@pytest.mark.parametrize("kind", ["no-keyCertSign", "no-CA", "expired", "future", "for-servers"])
def test_load_ca_refuses_before_it_asks_for_a_password(kind, tmp_path):
    certificate, key = make_ca(**BAD[kind][0])
    (tmp_path / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    encrypted = BestAvailableEncryption(b"never asked")
    (tmp_path / "ca.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted))
    with pytest.raises(InputError, match=BAD[kind][1]):
        load_ca(tmp_path / "ca.pem", tmp_path / "ca.crt")


@pytest.mark.parametrize("changes", [{"starts": -9 * DAY, "ends": -DAY}, {"starts": DAY}])
def test_ca_out_of_its_time_issues_nothing(changes):
    certificate, key = make_ca(**changes)
    with pytest.raises(VerifyError, match="the device CA "):
        issue(request_of(SERIAL), SERIAL, DeviceCa(key=key, certificate=certificate))


def test_certificate_that_would_outlive_its_ca_is_not_issued():
    certificate, key = make_ca(ends=30 * DAY)
    ca = DeviceCa(key=key, certificate=certificate)
    request = request_of(SERIAL)
    assert issue(request, SERIAL, ca, datetime.now(UTC) + 29 * DAY)
    with pytest.raises(VerifyError, match="outlive its CA, which ends on 20"):
        issue(request, SERIAL, ca, datetime.now(UTC) + 31 * DAY)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": rsa.generate_private_key(65537, 2048)}, "another kind of key"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "another kind of key"),
        ({"purposes": [CLIENT]}, "extended key usage"),
        ({"more": [(OF_HOSTS, True)]}, "critical extension"),
        ({"signed_with": ec.generate_private_key(ec.SECP256R1())}, "its own signature does not hold"),
    ],
)
def test_server_ca_that_chips_cannot_use_is_refused(changes, says):
    certificate, _ = make_ca(**changes)
    with pytest.raises(InputError, match=says):
        require_ca(certificate, SERVER_CA, "ca.crt")


def test_server_ca_of_rsa_is_for_gateways():
    certificate, _ = make_ca(key=rsa.generate_private_key(65537, 2048))
    require_ca(certificate, GATEWAYS_SERVER_CA, "ca.crt")


def by_openssl(folder, *, ec=(), req=()):
    """Return a CA that only the ``openssl`` command makes: (certificate, key)."""
    made = ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout")
    plain = subprocess.run(made, cwd=folder, capture_output=True, check=True).stdout
    key = subprocess.run(
        ["openssl", "ec", *ec], input=plain, cwd=folder, capture_output=True, check=True
    ).stdout
    (folder / "key.pem").write_bytes(key)
    more = ("-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE")
    words = ("openssl", "req", "-x509", "-key", "key.pem", "-subj", "/CN=a CA", *more, *req)
    pem = subprocess.run(words, cwd=folder, capture_output=True, check=True).stdout
    return x509.load_pem_x509_certificate(pem), load_pem_private_key(plain, None)


def test_ca_whose_curve_is_spelled_out_is_refused_as_openssl_does(tmp_path):
    certificate, key = by_openssl(tmp_path, ec=["-param_enc", "explicit"])
    judged = openssl_takes(tmp_path, certificate, leaf_of(make_ca(key=key)[0], key))
    assert "explicit ECC parameters" in judged.stderr
    for use in (DEVICE_CA, SERVER_CA, GATEWAYS_SERVER_CA):
        with pytest.raises(InputError, match="it spells its curve out"):
            require_ca(certificate, use, "ca.crt")


def test_ca_with_a_compressed_key_is_for_gateways(tmp_path):
    certificate, _ = by_openssl(tmp_path, ec=["-conv_form", "compressed"])
    require_ca(certificate, GATEWAYS_SERVER_CA, "ca.crt")
    with pytest.raises(InputError, match="it has a compressed key"):
        require_ca(certificate, SERVER_CA, "ca.crt")


def test_ca_signed_with_sha1_is_not_called_damaged(tmp_path):
    certificate, _ = by_openssl(tmp_path, req=["-sha1"])
    for use, says in ((SERVER_CA, "not signed with SHA-256"), (GATEWAYS_SERVER_CA, "cannot be checked any")):
        with pytest.raises(InputError, match=says) as refused:
            require_ca(certificate, use, "ca.crt")
        assert "damaged" not in str(refused.value)


def test_bundle_is_read_whole_or_not_at_all():
    one, two = (make_ca(name=name)[0].public_bytes(Encoding.PEM) for name in "ab")
    assert len(pem_certificates(one + b"text between\n" + two, "ca.crt")) == 2
    broken = two.replace(b"MII", b"AII")
    for pem in (one + broken, broken, b"", one + two[:80]):
        with pytest.raises(InputError, match="ca"):
            pem_certificates(pem, "ca.crt")


@pytest.mark.parametrize(("days", "told"), [(2 * 365 - 1, True), (2 * 365 + 1, False)])
def test_device_ca_that_ends_soon_is_worth_a_warning(days, told):
    certificate, _ = make_ca(ends=days * DAY)
    said = notice(certificate)
    assert (said is not None) == told
    assert said is None or f"{certificate.not_valid_after_utc:%Y-%m-%d}" in said
