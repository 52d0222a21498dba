"""What a check-in that says nothing new leaves: when the device was heard, and the nonce of its next report.

That needs no transaction of its own (ADR 70): it is kept in memory, counts at once, and is written for many
together. A server that is killed has forgotten at most `FLUSH_S` seconds of it: the twins are as old by that,
and a device whose report it had taken meanwhile has its next one refused, once. What is new is never in here.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, update

from fota_server import schema
from fota_server.facts import Judged
from fota_server.quick import Statement

FLUSH_S = 1.0
MAX_KEPT = 4096
"""Devices; with that many it is time to write, whatever the clock says."""

_devices, _attestations = schema.devices, schema.attestations
_mine = _devices.c.id == bindparam("device")
_SEEN = Statement(update(_devices).where(_mine).values(last_seen=bindparam("at")))
_REPORTED = Statement(
    update(_devices)
    .where(_mine, _devices.c.report_nonce == bindparam("base"))
    .values(last_seen=bindparam("at"), report_at=bindparam("report_at"), report_nonce=bindparam("nonce"))
)
_ATTESTED = Statement(
    update(_attestations).where(_attestations.c.device_id == bindparam("device")).values(at=bindparam("at"))
)


class _Heard(NamedTuple):
    """``base``: the nonce that the database has, ``nonce``: the one that is in force in its place;
    ``report_at``, ``attested_at``: None: as the database has it."""

    at: int
    base: bytes
    nonce: bytes
    report_at: int | None
    attested_at: int | None


class Heard:
    """What was heard and is not written yet, by device."""

    def __init__(self) -> None:
        self._of: dict[str, _Heard] = {}

    def __len__(self) -> int:
        """Return of how many devices."""
        return len(self._of)

    def nonce(self, row: Any) -> bytes | None:  # noqa: ANN401 - a driver's row
        """Return the nonce in force of a device, whose row is ``row``: another server may have written it."""
        one = self._of.get(row.id)
        found: bytes | None = row.report_nonce
        return one.nonce if one and one.base == found else found

    def note(self, item: Judged, row: Any, now: int) -> None:  # noqa: ANN401 - a driver's row
        """Keep what a check-in leaves that says nothing new; ``row``: as the database has it."""
        before = self._of.get(row.id)
        if before and before.base != row.report_nonce:
            before = None
        reported, attested = item.verdict.report is not None, item.verdict.attested is not None
        self._of[row.id] = _Heard(
            at=now,
            base=row.report_nonce,
            nonce=item.nonce,
            report_at=now if reported else before.report_at if before else None,
            attested_at=now if attested else before.attested_at if before else None,
        )

    def store(self, connection: Connection, ids: Iterable[str] | None = None) -> list[str]:
        """Write what is kept, of ``ids`` or of all; return of whom. It is kept until `forget`."""
        wanted = list(self._of) if ids is None else [one for one in ids if one in self._of]
        rows = {one: self._of[one] for one in wanted}
        _SEEN.each(connection, [_row(k, at=v.at) for k, v in rows.items() if v.report_at is None])
        _REPORTED.each(
            connection,
            [
                _row(k, at=v.at, report_at=v.report_at, base=v.base, nonce=v.nonce)
                for k, v in rows.items()
                if v.report_at is not None
            ],
        )
        attested = [(k, v.attested_at) for k, v in rows.items() if v.attested_at is not None]
        _ATTESTED.each(connection, [_row(k, at=at) for k, at in attested])
        return wanted

    def forget(self, ids: Iterable[str]) -> None:
        """What `store` wrote is committed."""
        for one in ids:
            self._of.pop(one, None)


def _row(device_id: str, **values: object) -> dict[str, object]:
    return {"device": device_id, **values}
