"""Everything about a server that can be looked at from beside it."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fota_server.artifacts import ArtifactsAway, ArtifactStore, free_space
from fota_server.bucket import open_artifacts
from fota_server.certificates import read_tls_files, utc_now
from fota_server.config import load_config
from fota_server.database import read_url, require_sqlite
from fota_server.migrations import SCHEMA_VERSION
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.host_audit import verify_chain
from fota_wire.host_sqlite import sqlite_told


@dataclass(slots=True)
class Report:
    """What was found; ``wrong`` is what somebody has to do something about now."""

    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def examine(data: Path) -> Report:
    """Look over the server of a data folder, without changing anything.

    Raises:
        InputError: there is none.
        StorageError: its database cannot be read.
    """
    config = load_config(data, {})
    path = require_sqlite(read_url(config.database_url, data), "'fota server check'")
    if not path.exists():
        raise InputError(f"{data}: no database there; has the server been started once?")
    report = Report()
    place = f"file:{quote(str(path.resolve()))}?mode=ro"
    with sqlite_told(path), closing(sqlite3.connect(place, uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        _database(connection, report)
        _audit(connection, report)
        _artifacts(connection, open_artifacts(config), report)
    try:
        notices = read_tls_files(config.files, allow_example_keys=config.allow_example_keys).notices(
            utc_now()
        )
        report.wrong += [notice.text for notice in notices if notice.failing]
        report.warnings += [notice.text for notice in notices if not notice.failing]
    except FotaError as exc:
        report.wrong.append(str(exc))
    report.facts["disk"] = f"{shutil.disk_usage(data).free >> 20} MiB free"
    if not free_space(data):
        report.wrong.append("the disk is nearly full")
    return report


def _database(connection: sqlite3.Connection, report: Report) -> None:
    (word,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    report.facts["database"] = f"schema {found[0] if found else 'none'}, {word}"
    if word != "ok":
        report.wrong.append(f"the database is damaged: {word}")
    if found is None or found[0] != str(SCHEMA_VERSION):
        report.warnings.append(f"this program's schema is {SCHEMA_VERSION}: a start of the server changes it")


def _audit(connection: sqlite3.Connection, report: Report) -> None:
    try:
        rows = connection.execute("SELECT * FROM audit ORDER BY id")
        head = connection.execute("SELECT value FROM meta WHERE key = 'audit_head'").fetchone()
        report.facts["audit trail"] = "whole, head " + verify_chain(rows, head[0] if head else None)
    except VerifyError as exc:
        report.wrong.append(str(exc))
    except (IndexError, sqlite3.OperationalError):
        report.warnings.append("the audit trail is not chained yet: start the server once")


def _artifacts(connection: sqlite3.Connection, store: ArtifactStore, report: Report) -> None:
    releases = connection.execute("SELECT version, file_digest FROM releases ORDER BY id").fetchall()
    attached = connection.execute(
        "SELECT version, digest AS file_digest FROM ddi_files JOIN releases ON releases.id = release_id"
        " WHERE attached_by IS NOT NULL ORDER BY releases.id"
    ).fetchall()
    for row in (*releases, *attached):
        try:
            store.read(row["file_digest"])
        except ArtifactsAway as exc:
            report.wrong.append(str(exc))
            break
        except VerifyError as exc:
            report.wrong.append(f"release {row['version']}: {exc}")
    report.facts["artifacts"] = f"{len(releases)} releases, in {store.where}"
