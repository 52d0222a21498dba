"""A device certificate that a front hands on, held against the device CAs once more (ADR 72).

The rules are those of the device plane's own handshakes (`tls.device_context`), which OpenSSL keeps there; a
test holds both against the same certificates. Only possession of the key is the front's word. Of a chain the
front hands on the leaf alone, so it has to be issued by a device CA itself.
"""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fota_wire.host_ca import DEVICE_CA, ca_faults
from fota_wire.host_panic import panics_refused
from fota_wire.host_pem import UNREADABLE

MAX_ESCAPED = 8192
"""Bytes of a certificate in PEM, URL-encoded: of one with 2,048 bytes in DER at most half."""
REMEMBERED = 16384
NOBODY: dict[object, object] = {"client_cert_chain": [], "client_cert_error": None}

_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD = (
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CERTIFICATE_POLICIES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was found out about one certificate; the times are seconds since 1970, of leaf and CA together."""

    pem: str
    fault: str | None
    begin: float = 0
    end: float = 0

    def fault_at(self, now: float) -> str | None:
        if self.fault is not None:
            return self.fault
        if now < self.begin:
            return "certificate-not-yet-valid: certificate is not yet valid"
        return "certificate-expired: certificate has expired" if now > self.end else None


class Presented:
    """The certificates that a front hands on, as far as the device CAs go. What was verified is remembered,
    but for the time.
    """

    def __init__(self, device_cas: Sequence[x509.Certificate]) -> None:
        self._cas = device_cas
        self._seen: dict[bytes, _Seen] = {}

    def tls(self, escaped: bytes | None) -> dict[object, object]:
        """Return the ASGI TLS extension for a certificate as nginx's ``$ssl_client_escaped_cert`` has it;
        None: there was none. ``client_cert_error``, "CODE: WHY", says that it is not to be believed.
        """
        if escaped is None:
            return NOBODY
        seen = self._seen.get(escaped)
        if seen is None:
            seen = self._look(escaped)
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[escaped] = seen
        return {"client_cert_chain": [seen.pem], "client_cert_error": seen.fault_at(time.time())}

    def _look(self, escaped: bytes) -> _Seen:
        try:
            with panics_refused():
                leaf = x509.load_pem_x509_certificate(unquote_to_bytes(escaped))
                pem = ssl.DER_cert_to_PEM_cert(leaf.public_bytes(Encoding.DER))
                return self._judge(leaf, pem)
        except UNREADABLE:
            return _Seen(pem="", fault="certificate: it cannot be read")

    def _judge(self, leaf: x509.Certificate, pem: str) -> _Seen:
        issuer = next((ca for ca in self._cas if _issued(leaf, ca)), None)
        if issuer is None:
            return _Seen(pem=pem, fault="certificate-foreign: it is not of a device CA")
        if ca_faults(issuer, DEVICE_CA, _within(issuer)):
            return _Seen(pem=pem, fault="certificate-foreign: its CA is no good as a device CA")
        if fault := _fault(leaf):
            return _Seen(pem=pem, fault=fault)
        both = leaf, issuer
        return _Seen(
            pem=pem,
            fault=None,
            begin=max(each.not_valid_before_utc.timestamp() for each in both),
            end=min(each.not_valid_after_utc.timestamp() for each in both),
        )


def _issued(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    if leaf.issuer != ca.subject or not isinstance(leaf.signature_hash_algorithm, _DIGESTS):
        return False
    try:
        leaf.verify_directly_issued_by(ca)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _within(certificate: x509.Certificate) -> datetime:
    """Return a time at which the certificate holds, if there is one: the time itself is asked later."""
    end = certificate.not_valid_after_utc
    return min(max(datetime.now(UTC), certificate.not_valid_before_utc), end)


def _fault(leaf: x509.Certificate) -> str | None:
    """Return why a certificate is no TLS client's, or None."""
    for extension in leaf.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            return "certificate: it has a critical extension that is not understood"
        value = extension.value
        wrong = (
            isinstance(value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in value
        ) or (isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.key_agreement))
        if wrong:
            return "certificate-purpose: it is not for TLS clients"
    return None
