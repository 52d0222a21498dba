"""Bytes that a device has in PostgreSQL, and bytes of its log for a check-in that says nothing new.

    python tests/bench/bench_scale.py [--fleet 100000]

A PostgreSQL of its own, filled through the program's schema: each device has confirmed two releases, the
second by a rollout, is in a group, has three attributes, two values of telemetry and two events.
docs/scale.md counts with what comes out.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import databases
from fleet_world import Fleet, device_id
from server_world import Keys
from sqlalchemy import Connection, insert

from fota_server import schema

AT_ONCE = 1000  # check-ins whose moments are written by one transaction (ADR 70)
NOW = 1_700_000_000


def more(connection: Connection, ids: list[str]) -> None:
    """Add what `Fleet.fill` leaves out."""
    first, last = ids[0], ids[-1]
    connection.exec_driver_sql(
        f"UPDATE devices SET first_seen = {NOW}, last_seen = {NOW}, report_at = {NOW}, root_version = 1,"
        " report_nonce = decode(md5(id), 'hex'), running_version = '1.1.0', running_slot = 'A',"
        " state = 'confirmed', sec_cnt = 1, floor = 1, reset_cause = 1 WHERE id BETWEEN %s AND %s",
        (first, last),
    )
    said = [
        {"device_id": one, "name": name, "given": value}
        for one in ids
        for name, value in (("region", "eu-west"), ("hardware", "B"), ("customer", "c1234"))
    ]
    connection.execute(insert(schema.attributes), said)
    values = [
        {"device_id": one, "topic": topic, "at": NOW, "received_at": NOW, "value": "21.5"}
        for one in ids
        for topic in ("temperature", "battery")
    ]
    connection.execute(insert(schema.telemetry), values)
    events = [
        {"device_id": one, "at": NOW, "code": code, "detail": "1.1.0"}
        for one in ids
        for code in ("update.started", "update.confirmed")
    ]
    connection.execute(insert(schema.events), events)


def sizes(connection: Connection, devices: int) -> dict[str, Any]:
    found = connection.exec_driver_sql(
        "SELECT relname, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables"
        " WHERE n_live_tup >= %s ORDER BY 1",
        (devices // 2,),
    )
    return {
        name: {"rows": rows, "row": round(table / rows), "index": round(index / rows)}
        for name, rows, table, index in found
    }


def log_of(database: Any, ids: list[str]) -> dict[str, float]:
    """Write moments and nonces as heard.py does; return bytes of log and how many rows stayed in place."""

    def end(connection: Connection) -> Any:
        return connection.exec_driver_sql("SELECT pg_current_wal_lsn()").scalar_one()

    def seen(connection: Connection, some: list[str], at: int) -> None:
        for one in some:
            connection.exec_driver_sql(
                "UPDATE devices SET last_seen = %s, report_at = %s, report_nonce = decode(md5(%s), 'hex')"
                " WHERE id = %s", (at, at, f"{one}{at}", one),
            )  # fmt: skip

    begin, begun = database.transact(end), time.perf_counter()
    for start in range(0, len(ids), AT_ONCE):
        database.transact(seen, ids[start : start + AT_ONCE], NOW + 1)
    spent, ended = time.perf_counter() - begun, database.transact(end)
    written = database.transact(
        lambda c: c.exec_driver_sql(f"SELECT '{ended}'::pg_lsn - '{begin}'").scalar_one()
    )
    return {"log_bytes": round(float(written) / len(ids)), "written_a_second": round(len(ids) / spent)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fleet", type=int, default=100_000)
    size = parser.parse_args().fleet
    databases.kind = databases.POSTGRESQL
    try:
        with tempfile.TemporaryDirectory() as name:
            fleet = Fleet(Path(name) / "fota.db", Keys(Path(name) / "keys"))
            fleet.fill(size)
            ids = [device_id(number) for number in range(size)]
            for start in range(0, size, 10_000):
                fleet.database.transact(more, ids[start : start + 10_000])
            with databases.beside(Path(name) / "fota.db") as connection:
                connection.execute("VACUUM FULL ANALYZE")
            print(json.dumps(fleet.database.transact(sizes, size), indent=1))
            print(json.dumps(log_of(fleet.database, ids), indent=1))
            fleet.database.close()
    finally:
        databases.end_postgres()


if __name__ == "__main__":
    main()
