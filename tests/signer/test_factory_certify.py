"""Re-certification: what the device CA signs, and what it refuses, whatever a server or a device makes up."""

import contextlib
import hashlib
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).parent))

from factory_world import new_device_ca

from fota_cli.client import OperatorClient
from fota_cli.device_keys import _round
from fota_server.renewals import _ordered_key
from fota_signer.factory.ca import issue
from fota_signer.factory.certify import certify_order
from fota_wire import certify, cose, pkcs10
from fota_wire.errors import TransportError, VerifyError
from fota_wire.host_crypto import public_xy, signer

ID = "0123a1a2a3a4a5a6ee"


@pytest.fixture(scope="module")
def ca():
    return new_device_ca()


@pytest.fixture(scope="module")
def factory_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def new_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def certificate(ca, factory_key):
    """The one that the factory issued."""
    return issue(request(factory_key), bytes.fromhex(ID), ca)


def request(key, name=ID):
    xy = public_xy(key)
    digest = hashlib.sha256(pkcs10.request_info(name, xy)).digest()
    return pkcs10.assemble(name, xy, signer(key)(digest))


def order(key, csr, certificate):
    kid = cose.kid_of(public_xy(key))
    return certify.build_order(bytes.fromhex(ID), csr, certificate, kid, signer(key))


def test_ca_signs_what_the_factory_key_has_signed(ca, factory_key, new_key, certificate):
    raw = certify_order(order(factory_key, request(new_key), certificate), ID, ca, 90)
    issued = x509.load_der_x509_certificate(raw)
    issued.verify_directly_issued_by(ca.certificate)
    assert public_xy(issued.public_key()) == public_xy(new_key)
    assert 90 <= (issued.not_valid_after_utc - issued.not_valid_before_utc).days <= 91


def test_certificate_that_was_ordered_cannot_order_others(ca, factory_key, new_key, certificate):
    """Who has a rotated key, and the server too, gets no further."""
    rotated = certify_order(order(factory_key, request(new_key), certificate), ID, ca)
    with pytest.raises(VerifyError, match="was ordered itself"):
        certify_order(order(new_key, request(factory_key), rotated), ID, ca)


def test_ca_refuses_what_a_server_could_make_up(ca, factory_key, new_key, certificate):
    other_ca = issue(request(factory_key), bytes.fromhex(ID), new_device_ca())
    forged = {
        "signed by the new key": order(new_key, request(new_key), certificate),
        "other CA": order(factory_key, request(new_key), other_ca),
        "not a certificate": order(factory_key, request(new_key), b"-"),
        "other name": order(factory_key, request(new_key, "0123ffffffffffffee"), certificate),
    }
    for what, raw in forged.items():
        with pytest.raises(VerifyError):
            certify_order(raw, ID, ca)
        assert what
    with pytest.raises(VerifyError, match="another device"):
        certify_order(order(factory_key, request(new_key), certificate), "0123a1a2a3a4a5a6ef", ca)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_ca_certifies_keys_of_p256_alone(ca, factory_key, certificate, curve):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ID)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = builder.sign(ec.generate_private_key(curve), hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(VerifyError, match="P-256"):
        certify_order(order(factory_key, csr, certificate), ID, ca)


@pytest.mark.parametrize("flip", [0x01, 0x40])
@pytest.mark.parametrize("part", ["request", "factory certificate"])
def test_order_damaged_anywhere_certifies_nothing_else(ca, factory_key, new_key, certificate, part, flip):
    """The library has many ways to say no; none of them may end the process that watches for orders.

    It takes one bit of padding behind a signature as it comes, which changes nothing of what was signed.
    """
    parts = {"request": request(new_key), "factory certificate": certificate}
    for at in range(len(parts[part])):
        damaged = parts | {part: flipped(parts[part], at, flip)}
        raw = order(factory_key, damaged["request"], damaged["factory certificate"])
        with contextlib.suppress(VerifyError):
            issued = x509.load_der_x509_certificate(certify_order(raw, ID, ca))
            assert public_xy(issued.public_key()) == public_xy(new_key)
        with contextlib.suppress(VerifyError):
            assert _ordered_key(raw, ID, public_xy(factory_key)) == public_xy(new_key)


class Liar:
    """A server's operator plane that answers what it is given, and does not take what it refuses."""

    def __init__(self, answer, refuses=()):
        self.answer, self.refuses, self.taken = answer, refuses, []

    pages, url = OperatorClient.pages, "https://liar"

    def get(self, path, **_query):
        return self.answer

    def post(self, path, raw):
        device_id = path.split("/")[1]
        if device_id in self.refuses:
            raise VerifyError("the certificate is for another key or device", "certificate")
        self.taken.append(device_id)


def test_certificate_that_the_server_does_not_take_keeps_no_other_device_waiting(ca):
    ids = [f"0123a1a2a3a4a5a6{n}e" for n in "de"]
    orders = []
    for device_id in ids:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue(request(key, device_id), bytes.fromhex(device_id), ca)
        raw = certify.build_order(
            bytes.fromhex(device_id), request(key, device_id), certificate, cose.kid_of(public_xy(key)),
            signer(key),
        )  # fmt: skip
        orders.append({"device": device_id, "order": raw.hex()})
    server = Liar({"orders": orders}, refuses=ids[:1])
    result = _round(server, ca, None)
    assert (result["certified"], list(result["refused"]), server.taken) == (ids[1:], ids[:1], ids[1:])


@pytest.mark.parametrize(
    "answer", [{}, {"orders": 1}, {"orders": [1]}, {"orders": [{}]}, {"orders": [{"device": 1, "order": 2}]},
               {"orders": [{"device": "x", "order": "00"}]}]
)  # fmt: skip
def test_list_of_orders_that_is_none_is_one_error_or_one_refusal(ca, answer):
    with contextlib.suppress(TransportError):
        assert len(_round(Liar(answer), ca, None)["refused"]) == 1


def flipped(raw, at, bits):
    return raw[:at] + bytes([raw[at] ^ bits]) + raw[at + 1 :]
