"""A device whose certificate names an attestation key has to attest its reports (SPEC 5.7)."""

import hashlib
import secrets
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from server_world import Device, Server, cert_pem, client_context, key_pem, make_cert, new_key

from fota_wire import attestation, checkin
from fota_wire.host_crypto import public_xy, signer


class Attesting(Device):
    """A device with a software attestation key that signs as the element does."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.attestation_key: Any = new_key()
        issuer = (self.keys.device_ca, self.keys.device_ca_key)
        plain = make_cert(self.id, self.key, issuer)
        value = attestation.extension_value(public_xy(self.attestation_key))
        named = x509.UnrecognizedExtension(x509.ObjectIdentifier(attestation.EXTENSION_OID), value)
        builder = x509.CertificateBuilder(
            plain.issuer,
            plain.subject,
            self.key.public_key(),
            7,
            plain.not_valid_before_utc,
            plain.not_valid_after_utc,
        )
        self.cert = builder.add_extension(named, critical=False).sign(issuer[1], hashes.SHA256())
        self.pem.write_bytes(cert_pem(self.cert) + key_pem(self.key))
        self.context = client_context(self.keys.server_ca, self.pem)
        self.counter = 8

    def attest(self, report: bytes, counter: int | None = None) -> bytes:
        counter = self.counter if counter is None else counter
        random = secrets.token_bytes(32)
        number = attestation.num_in(report)
        message = attestation.message(random, counter, number, bytes.fromhex(self.id), latched=False)
        signature = signer(self.attestation_key)(hashlib.sha256(message).digest())
        return attestation.build(random, counter, signature, public_xy(self.attestation_key))

    def tell(self, attested: bytes | None, report: bytes) -> str:
        """Check in with a report and what is said beside it; return the status of the report."""
        request = checkin.Request(secrets.token_bytes(16), 1, None, report)
        request.attestation = attested
        status, body = self.post(checkin.encode_request(request))
        assert status == 200, checkin.parse_error(body)
        response = checkin.parse_response(body)
        self.server_nonce = response.nonce
        return response.report_status


@pytest.fixture
def device(server: Server) -> Attesting:
    made = Attesting(server)
    made.check_in(with_report=False)
    return made


def test_attested_report_counts_and_the_floor_is_the_elements_own(server: Server, device: Attesting) -> None:
    device.counter = 8 * 5
    report = device.report()
    assert device.tell(device.attest(report), report) == "accepted"
    shown = server.api("GET", f"devices/{device.id}")[1]
    assert shown["attested"]["floor"] == 5
    device.counter += 8
    report = device.report()
    assert device.tell(device.attest(report), report) == "accepted"
    assert server.api("GET", f"devices/{device.id}")[1]["attested"]["floor"] == 6


def test_floor_of_a_device_is_what_its_element_says_and_not_its_firmware(
    server: Server, device: Attesting
) -> None:
    device.counter, device.floor = 8 * 5, 0
    report = device.report()
    assert device.tell(device.attest(report), report) == "accepted"
    assert server.api("GET", f"devices/{device.id}")[1]["floor"] == 5
    status, answer = server.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
    assert status == 409, answer
    assert "below the device's floor 5" in answer["error"]["message"]


def test_report_without_its_attestation_or_with_an_old_one_is_refused(
    server: Server, device: Attesting
) -> None:
    report = device.report()
    old = device.attest(report)
    assert device.tell(old, report) == "accepted"
    report = device.report()
    assert device.tell(None, report).startswith("refused: ")
    report = device.report()
    assert device.tell(old, report).startswith("refused: ATTESTATION is not of this REPORT")
    report = device.report()
    assert device.tell(b"\xa0", report).startswith("refused: ")
    shown = server.api("GET", f"devices/{device.id}")[1]
    assert shown["refused_report"]


def test_attestation_by_a_key_that_the_certificate_does_not_name_is_refused(device: Attesting) -> None:
    device.attestation_key = new_key()
    report = device.report()
    assert device.tell(device.attest(report), report).startswith("refused: ATTESTATION is by another key")


def test_device_without_an_attestation_key_reports_as_before(server: Server) -> None:
    device = Device(server)
    device.check_in()
    device.check_in()
    shown = server.api("GET", f"devices/{device.id}")[1]
    assert (shown["attested"], shown["refused_report"]) == (None, None)
