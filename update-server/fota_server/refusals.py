"""Who was turned away on the device plane: counted in memory, kept in the database, bounded everywhere.

Each refusal is a row of who, why and from where, with a count. ``proved`` tells whether the device's
certificate was good, so that it is this device, or whoever holds its key; otherwise the name is only what
somebody claimed, and such rows, which anybody can make up, do not push out the others.
"""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from sqlalchemy import Connection, case, delete, func, select

from fota_server import schema
from fota_server.database import Database, DatabaseUnavailable, now
from fota_server.logs import one_line
from fota_server.metrics import count_refusal
from fota_wire.errors import StorageError

log = logging.getLogger("fota.server")

FLUSH_S = 10.0
MAX_PENDING = 1024
KEPT = {True: 4096, False: 1024}
"""Rows, by ``proved``."""
KEPT_OF_ONE = 16
SHOWN = 1000

_CODES = {  # X509_V_ERR_*, openssl/x509_vfy.h
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    26: "certificate-purpose",
} | dict.fromkeys((2, 7, 18, 19, 20, 21, 24), "certificate-foreign")


@dataclass(slots=True)
class _Tally:
    detail: str
    proved: bool
    first_at: int
    last_at: int
    count: int = 0


class Refusals:
    """What was noted and is not in the database yet."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, str, str], _Tally] = {}

    def note(self, who: str, code: str, address: str, detail: str, *, proved: bool) -> None:
        """Count one refusal of ``who``, a device id or another name, at most 64 characters."""
        count_refusal("device", code)
        who, detail = one_line(who), one_line(detail)  # both may be a stranger's words, for terminals
        key = (who[:64], code[:32], address[:45])
        if key not in self._pending:
            log.warning("device plane: refused %s from %s: %s: %s", who or "nobody", address, code, detail)
            if len(self._pending) >= MAX_PENDING:
                key, proved = ("", "others", ""), False
        at = now()
        tally = self._pending.setdefault(key, _Tally(detail[:256], proved, at, at))
        tally.count += 1
        tally.last_at = at

    def note_handshake(self, reason: ssl.SSLError, presented: bytes | None, address: str) -> None:
        """Count a TLS handshake that failed; without a certificate there is nobody to name."""
        if presented is None:
            log.warning("device plane: TLS handshake with %s failed: %s", address, _words(reason))
            return
        code = _CODES.get(getattr(reason, "verify_code", 0), "certificate")
        self.note(*_named(presented, code, address, _words(reason)), proved=False)

    async def flush(self, database: Database) -> None:
        """Write what is pending; what the database does not take now stays pending."""
        if not self._pending:
            return
        taken, self._pending = self._pending, {}
        try:
            await database.write(_store, taken)
        except (DatabaseUnavailable, StorageError) as exc:
            log.warning("refusals are not stored yet: %s", exc)
            for key, tally in self._pending.items():
                if key in taken:
                    taken[key].count += tally.count
                    taken[key].last_at = tally.last_at
                else:
                    taken[key] = tally
            self._pending = taken

    async def keep_flushing(self, database: Database) -> None:
        """Write what is pending every ``FLUSH_S`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush(database)


def list_refusals(
    connection: Connection, *, who: str | None = None, limit: int = SHOWN
) -> list[dict[str, Any]]:
    """Return the refusals of all, or of one, the newest first."""
    table = schema.refusals
    query = select(table).order_by(table.c.last_at.desc(), table.c.who, table.c.code).limit(limit)
    if who is not None:
        query = query.where(table.c.who == who)
    return [dict(row) for row in connection.execute(query).mappings()]


def _store(connection: Connection, taken: dict[tuple[str, str, str], _Tally]) -> None:
    table = schema.refusals
    rows = [
        {
            "who": who,
            "code": code,
            "address": address,
            "detail": tally.detail,
            "proved": tally.proved,
            "first_at": tally.first_at,
            "last_at": tally.last_at,
            "count": tally.count,
        }
        for (who, code, address), tally in taken.items()
    ]
    wording = schema.insert_or(connection, table)
    new = wording.excluded
    changes = {"detail": new.detail, "last_at": new.last_at, "count": table.c.count + new.count}
    connection.execute(
        wording.on_conflict_do_update(index_elements=["who", "code", "address"], set_=changes), rows
    )
    newest = (table.c.last_at.desc(), table.c.count.desc())
    rank = func.row_number().over(partition_by=(table.c.proved, table.c.who), order_by=newest)
    of_all = func.row_number().over(partition_by=table.c.proved, order_by=newest)
    ranked = select(table.c.id, table.c.proved, rank.label("own"), of_all.label("all")).subquery()
    too_many = (ranked.c.own > KEPT_OF_ONE) | (
        ranked.c.all > case((ranked.c.proved, KEPT[True]), else_=KEPT[False])
    )
    connection.execute(delete(table).where(table.c.id.in_(select(ranked.c.id).where(too_many))))


def _words(reason: ssl.SSLError) -> str:
    text = getattr(reason, "verify_message", "") or (reason.reason or str(reason))
    return text.lower().replace("_", " ")


def _named(presented: bytes, code: str, address: str, why: str) -> tuple[str, str, str, str]:
    """Return what to note about a certificate that nobody has verified."""
    try:
        certificate = x509.load_der_x509_certificate(presented)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        who = str(names[0].value) if names else ""
        detail = f"{why}; {_marks(certificate)}"
    except ValueError:
        return "", code, address, f"{why}; not readable as a certificate"
    return who, code, address, detail


def described(pem: str) -> str:
    """Return what tells a certificate from others, for a trace of one that was refused; "" if unreadable."""
    try:
        return _marks(x509.load_pem_x509_certificate(pem.encode()))
    except ValueError:
        return ""


def _marks(certificate: x509.Certificate) -> str:
    return (
        f"serial {certificate.serial_number:x}, issuer {certificate.issuer.rfc4514_string()}, "
        f"until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z, "
        f"SHA-256 {certificate.fingerprint(SHA256()).hex()[:16]}"
    )
