"""TLS of both planes: 1.2 and 1.3, one server certificate; the device plane asks for a client certificate."""

import logging
import ssl
from pathlib import Path

from fota_server.handshake import show_presented_certificates
from fota_wire.errors import InputError
from fota_wire.files import read_input
from fota_wire.host_ca import DEVICE_CA, pem_certificates, require_ca

log = logging.getLogger("fota.server")

# TLS 1.2 with forward secrecy and authenticated encryption only, as 1.3 always is.
_CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
_FOR_SMALL_DEVICES = f"{_CIPHERS_1_2}:ECDHE+AESCCM:!AESCCM8"  # whose tags have 8 bytes of 16


def operator_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return the context of the operator plane.

    Raises:
        InputError: certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise InputError(f"TLS certificate {cert} with key {key}: {_why(exc)}") from exc
    return context


def device_context(cert: Path, key: Path, device_ca: Path) -> ssl.SSLContext:
    """Return the context of the device plane.

    A client certificate is optional in the handshake so that a device without one gets an answer that says so
    (401); one that is presented must be signed by the device CA and in its validity, or the handshake fails.

    Raises:
        InputError: certificate, key or CA cannot be used.
    """
    require_device_ca(device_ca)
    context = operator_context(cert, key)
    context.set_ciphers(_FOR_SMALL_DEVICES)
    show_presented_certificates(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    # Devices do not take sessions up again (ADR 84): two tickets, each with the device's own certificate in
    # it, are 1.2 KB that a slow link would carry for nothing.
    context.num_tickets = 0
    # The factory's CA is the anchor even when a larger CA signed it: other branches of that CA are not
    # devices.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=device_ca)
    except (OSError, ValueError) as exc:
        raise InputError(f"device CA {device_ca}: {_why(exc)}") from exc
    return context


def require_device_ca(path: Path, *, every: bool = False) -> None:
    """Return if devices of a CA in ``path`` are believed; ``every``: of each of its CAs, not only of one.

    One that is no good beside others is a warning: CAs end, and a server that runs has to start again.

    Raises:
        InputError: no CA in it is usable (``every``: one is not); says why.
    """
    certificates = pem_certificates(read_input(path, 65536), str(path))
    refusals = []
    for certificate in certificates:
        try:
            require_ca(certificate, DEVICE_CA, f"{path}, {certificate.subject.rfc4514_string()}")
        except InputError as exc:
            refusals.append(exc)
    if refusals and (every or len(refusals) == len(certificates)):
        raise refusals[0]
    for refusal in refusals:
        log.warning("%s", refusal)


def _no_password() -> str:
    raise ValueError("the key is encrypted; the server needs it unencrypted, readable by its own user only")


def _why(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or "not usable").lower().replace("_", " ")
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return str(exc)
