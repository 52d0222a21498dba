"""The TLS files of a running server: read at the start, read again on SIGHUP, and watched for their end."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fota_server import tls
from fota_server.own_thread import in_own_thread
from fota_wire.errors import InputError
from fota_wire.files import read_input
from fota_wire.host_ca import pem_certificates
from fota_wire.host_crypto import public_xy, refuse_example_key, require_private
from fota_wire.host_pem import UNREADABLE

WARN_BEFORE = timedelta(days=30)
READ_S = 60
"""Seconds that the files of a running server may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A certificate that ends soon, or is not valid now: then ``failing``, as somebody is shut out."""

    text: str
    failing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """What was read: a context per plane, and the certificates themselves."""

    operator: ssl.SSLContext
    device: ssl.SSLContext
    server_chain: Sequence[x509.Certificate]
    device_cas: Sequence[x509.Certificate]

    def notices(self, now: datetime) -> list[Notice]:
        """Return what is to be said of the dates of these certificates."""
        server = [_notice(item, "the server certificate", now) for item in self.server_chain[:1]]
        chain = [_notice(item, "a CA in the server's chain", now) for item in self.server_chain[1:]]
        cas = [_notice(item, "the device CA", now) for item in self.device_cas]
        return [found for found in (*server, *chain, *cas) if found]


def read_tls_files(files: Mapping[str, Path], *, allow_example_keys: bool) -> TlsFiles:
    """Read the TLS pair and the device CAs; ``files`` has their names of config.json.

    Raises:
        InputError: one is missing or cannot be used, or others on this machine can read the private key.
        VerifyError: one is a published example (``example-key``).
    """
    cert, key, ca = files["tls_cert"], files["tls_key"], files["device_ca"]
    chain, cas = (pem_certificates(read_input(path, 1 << 20), str(path)) for path in (cert, ca))
    for path, certificate in ((cert, chain[0]), *((ca, item) for item in cas)):
        refuse_example_key(_p256(certificate, path), allow_example_keys, str(path))
    operator = tls.operator_context(cert, key)  # the key is that of the certificate, then
    require_private(key, _p256(chain[0], cert))
    return TlsFiles(
        operator=operator,
        device=tls.device_context(cert, key, ca),
        server_chain=chain,
        device_cas=cas,
    )


async def read_aside(files: Mapping[str, Path], *, allow_example_keys: bool) -> TlsFiles:
    """Do as ``read_tls_files`` without stopping anybody while it reads.

    A named pipe, or a network file system that has died, may hold it for ever (`own_thread.py`).

    Raises:
        InputError: as there; or they were not read within ``READ_S``.
        VerifyError: as there.
    """
    work = partial(read_tls_files, files, allow_example_keys=allow_example_keys)
    try:
        async with asyncio.timeout(READ_S):
            return await in_own_thread("tls-files", work)
    except TimeoutError:
        names = ", ".join(str(files[name]) for name in ("tls_cert", "tls_key", "device_ca"))
        raise InputError(
            f"not read within {READ_S} s: is one of {names} a pipe, or on a file system that has died?"
        ) from None


def _p256(certificate: x509.Certificate, path: Path) -> bytes:
    try:
        key = certificate.public_key()
    except UNREADABLE as exc:
        raise InputError(f"{path}: the key of a certificate cannot be read", "certificate") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError(f"{path}: not for a P-256 key: devices know no other", "key")
    return public_xy(key)


def _notice(certificate: x509.Certificate, what: str, now: datetime) -> Notice | None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    name = certificate.subject.rfc4514_string()
    if now < begin:
        return Notice(text=f"{what} {name} is not valid before {begin:%Y-%m-%d %H:%M}Z", failing=True)
    if now > end:
        return Notice(text=f"{what} {name} EXPIRED on {end:%Y-%m-%d %H:%M}Z", failing=True)
    if end - now > WARN_BEFORE:
        return None
    days = (end - now).days
    return Notice(text=f"{what} {name} expires in {days} days, on {end:%Y-%m-%d %H:%M}Z", failing=False)


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
