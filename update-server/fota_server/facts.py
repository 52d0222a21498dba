"""What a batch of check-ins leaves in the database: a handful of statements, however many devices."""

from collections.abc import Iterable
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, Update, bindparam, case, delete, func, insert, select, update

from fota_server import changes, dynamic, schema, telemetry
from fota_server.decide import ON_TRIAL, TargetState, Twin, Verdict
from fota_server.identity import Identity
from fota_server.quick import Statement
from fota_server.rollouts import settle
from fota_wire.checkin import Request
from fota_wire.report import Report

EVENTS_KEPT = 100  # of one device, the newest
CONFIRMATIONS_KEPT = 64


def _change(table: Table, key: str, *names: str, prefix: str = "") -> Update:
    """Return the statement that sets columns of the row whose id is the parameter ``key``."""
    values: dict[str, Any] = {name: bindparam(prefix + name) for name in names}
    return update(table).where(table.c.id == bindparam(key)).values(values)


_OF_CONTACT = (
    *("public_key", "last_seen", "root_version", "report_nonce", "refused_report", "campaign_group"),
    "takes_receipts",
)
_OF_REPORT = (
    *("report_at", "installed_digest", "settled_digest", "running_hash", "running_version", "running_slot"),
    *("state", "sec_cnt", "floor", "reset_cause", "confirmed_hash"),
)
_MOMENTS = {"device", "last_seen", "report_at", "report_nonce"}
"""What each check-in changes that says nothing new."""
_LASTING = [name for name in _OF_CONTACT if name not in _MOMENTS]
_PROVED = [*_LASTING, *(name for name in _OF_REPORT if name not in _MOMENTS)]
KNOWN = tuple(schema.devices.c[name] for name in _PROVED)
"""What `is_news` compares."""
_SAID, _KNOWN = itemgetter(*_LASTING), attrgetter(*_LASTING)
_ALL_SAID, _ALL_KNOWN = itemgetter(*_PROVED), attrgetter(*_PROVED)
# Who was let in before it called has no moment of that yet.
_FIRST = func.coalesce(schema.devices.c.first_seen, schema.devices.c.last_seen, bindparam("now"))
_CONTACT = Statement(_change(schema.devices, "device", *_OF_CONTACT).values(first_seen=_FIRST))
_FACTS = Statement(_change(schema.devices, "device", *_OF_CONTACT, *_OF_REPORT).values(first_seen=_FIRST))
_MOVED = Statement(
    _change(schema.targets, "target", "state", "reason", "updated_at", prefix="new_").values(
        forgiven=case((schema.targets.c.state == bindparam("new_state"), schema.targets.c.forgiven)),
        given_at=func.coalesce(schema.targets.c.given_at, bindparam("new_given_at")),
    )
)


class Judged(NamedTuple):
    """One check-in and what was made of it.

    ``nonce``: of the next report. ``pinned``: x||y of the key that the device is known by from now on.
    ``campaign``: goes with what is wanted of it.
    """

    identity: Identity
    request: Request
    twin: Twin
    verdict: Verdict
    is_new: bool
    nonce: bytes
    pinned: bytes
    key_order: int
    campaign: bytes | None = None


def is_news(item: Judged, row: Any, now: int) -> bool:  # noqa: ANN401 - a driver's row
    """Tell whether a check-in leaves more than when it was and the nonce of the next report; ``row``: what is
    known of the device (`KNOWN`), None: nothing.
    """
    verdict, report = item.verdict, item.verdict.report
    if row is None or row.report_nonce is None or item.request.telemetry or _target_change(item, now):
        return True
    if verdict.asks or (item.request.report is not None and report is None):
        return True
    if report and (report.events or verdict.newly_confirmed):
        return True
    if verdict.attested and verdict.attested.counter != row.attested_counter:
        return True
    if report:
        return bool(_ALL_SAID(_facts(item, report, now)) != _ALL_KNOWN(row))
    return bool(_SAID(_contact(item, now)) != _KNOWN(row))


def store(connection: Connection, judged: list[Judged], now: int) -> None:
    """Write all facts of a batch."""
    new = [_admission(item.identity, now) for item in judged if item.is_new]
    if new:
        connection.execute(insert(schema.devices), new)
        changes.note_all(connection, [_change_of(str(row["id"]), "new") for row in new])
    reported = [_facts(item, item.verdict.report, now) for item in judged if item.verdict.report]
    silent = [_contact(item, now) for item in judged if item.verdict.report is None]
    _CONTACT.each(connection, silent)
    _FACTS.each(connection, reported)
    moved = [change for item in judged if (change := _target_change(item, now))]
    if moved:
        _MOVED.each(connection, moved)
        changed = {change["target"] for change in moved}
        moving = (item.twin.target for item in judged)
        changes.note_all(connection, [_moved(item) for item in judged if _target_change(item, now)])
        settle(connection, {one.rollout_id for one in moving if one and one.id in changed})
    confirmed = [
        {"device_id": item.twin.device_id, "image_hash": item.verdict.newly_confirmed.hex(), "at": now}
        for item in judged
        if item.verdict.newly_confirmed
    ]
    if confirmed:
        connection.execute(insert(schema.confirmations), confirmed)
        prune(
            connection, schema.confirmations, [str(row["device_id"]) for row in confirmed], CONFIRMATIONS_KEPT
        )
    for item in judged:
        if item.verdict.report and item.verdict.report.events:
            store_events(connection, item.twin.device_id, item.verdict.report.events, now)
    attested = [
        {"device_id": item.twin.device_id, "at": now, "counter": item.verdict.attested.counter}
        for item in judged
        if item.verdict.attested
    ]
    if attested:
        table = schema.attestations
        ids = [row["device_id"] for row in attested]
        connection.execute(delete(table).where(table.c.device_id.in_(ids)))
        connection.execute(insert(table), attested)
    for item in judged:
        if item.request.telemetry:
            telemetry.store(connection, item.twin.device_id, item.request.telemetry, now)
    said = {item.twin.device_id: telemetry.said(item.request) for item in judged if item.request.telemetry}
    others = [item for item in judged if _is_other_firmware(item)]
    changes.note_all(connection, [_runs(item) for item in others])
    news = [item.twin.device_id for item in judged if item.is_new or _is_other_firmware(item)]
    if news or any(said.values()):
        dynamic.learn(connection, news, said)


def _is_other_firmware(item: Judged) -> bool:
    report = item.verdict.report
    return report is not None and report.image_hash != item.twin.running_hash


def _change_of(device_id: str, what: str, **detail: object) -> dict[str, object]:
    return changes.row(f"device.{what}", device_id, f"device:{device_id}", **detail)


def _moved(item: Judged) -> dict[str, object]:
    target, verdict = item.twin.target, item.verdict
    assert target  # noqa: S101 - it has moved
    return _change_of(
        item.twin.device_id,
        "state",
        rollout=target.rollout_id,
        version=target.release.version,
        before=target.state,
        state=verdict.target_state,
        reason=verdict.target_reason,
    )


def _runs(item: Judged) -> dict[str, object]:
    report = item.verdict.report
    assert report  # noqa: S101 - it says what runs
    return _change_of(item.twin.device_id, "runs", version=report.version, image_hash=report.image_hash.hex())


def _admission(identity: Identity, now: int) -> dict[str, object]:
    return {
        "id": identity.device_id,
        "public_key": identity.public_key,
        "admitted_by": "certificate",
        "revoked": False,
        "first_seen": now,
    }


def _contact(item: Judged, now: int) -> dict[str, object]:
    refused = item.verdict.report_status if item.request.report is not None else None
    return {
        "device": item.twin.device_id,
        "public_key": item.pinned,
        "now": now,
        "last_seen": now,
        "root_version": item.request.root_version,
        "report_nonce": item.nonce,
        "refused_report": refused,
        "campaign_group": item.request.group,
        "takes_receipts": item.request.receipts,
    }


def _facts(item: Judged, report: Report, now: int) -> dict[str, object]:
    confirmed = report.image_hash if report.state == "confirmed" else item.twin.confirmed_hash
    return {
        **_contact(item, now),
        "refused_report": None,
        "report_at": now,
        "installed_digest": report.installed.hex() if report.installed else None,
        "settled_digest": item.verdict.settled.hex() if item.verdict.settled else None,
        "running_hash": report.image_hash.hex(),
        "running_version": report.version,
        "running_slot": report.slot,
        "state": report.state,
        "sec_cnt": report.sec_cnt,
        "floor": item.verdict.attested.floor if item.verdict.attested else report.floor,
        "reset_cause": report.reset_cause,
        "confirmed_hash": confirmed.hex() if confirmed else None,
    }


def _target_change(item: Judged, now: int) -> dict[str, object] | None:
    target, verdict = item.twin.target, item.verdict
    if target is None or (target.state, target.reason) == (verdict.target_state, verdict.target_reason):
        return None
    return {
        "target": target.id,
        "new_state": verdict.target_state,
        "new_reason": verdict.target_reason,
        "new_updated_at": now,
        "new_given_at": now if verdict.target_state in (*ON_TRIAL, TargetState.CONFIRMED) else None,
    }


def store_events(connection: Connection, device_id: str, reported: list[tuple[str, str]], now: int) -> None:
    """Keep what a device told, code and detail, the newest `EVENTS_KEPT`."""
    table = schema.events
    rows = [{"device_id": device_id, "at": now, "code": code, "detail": detail} for code, detail in reported]
    connection.execute(insert(table), rows)
    prune(connection, table, [device_id], EVENTS_KEPT)


def prune(connection: Connection, table: Table, device_ids: Iterable[str], kept: int) -> None:
    """Leave the newest ``kept`` rows of each device: whoever holds a key can make up as many as it likes."""
    mine = table.c.device_id == bindparam("device")
    oldest_kept = (
        select(table.c.id).where(mine).order_by(table.c.id.desc()).offset(kept - 1).limit(1)
    ).scalar_subquery()
    connection.execute(
        delete(table).where(mine, table.c.id < oldest_kept), [{"device": one} for one in device_ids]
    )
