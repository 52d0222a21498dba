"""Everything about a server that can be looked at from beside it."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from fota_server import release_log
from fota_server.artifacts import ArtifactsAway, ArtifactStore, free_space
from fota_server.bucket import open_artifacts
from fota_server.certificates import read_tls_files, utc_now
from fota_server.config import load_config
from fota_server.database import beside, read_url
from fota_server.migrations import SCHEMA_VERSION, version_of
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.host_audit import verify_chain

Named = tuple[str, str]


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
        StorageError, DatabaseUnavailable: its database cannot be read.
    """
    config = load_config(data, {})
    url = read_url(config.database_url, data)
    report = Report()
    with beside(url, data) as connection:
        _database(connection, report)
        _audit(connection, report)
        _release_log(connection, report)
        releases, attached = _named(connection)
    _artifacts(
        releases, attached, open_artifacts(config), report
    )  # by now, no transaction waits for a bucket
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


def _database(connection: Connection, report: Report) -> None:
    if connection.dialect.name == "sqlite":
        word = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if word != "ok":
            report.wrong.append(f"the database is damaged: {word}")
    else:  # whose pages are looked over by its own pg_amcheck
        word = "PostgreSQL " + connection.exec_driver_sql("SHOW server_version").scalar_one()
    if not inspect(connection).has_table("meta"):
        raise InputError("the database has no tables: has the server been started once?")
    found = version_of(connection)
    report.facts["database"] = f"schema {found or 'none'}, {word}"
    if found != SCHEMA_VERSION:
        report.warnings.append(f"this program's schema is {SCHEMA_VERSION}: a start of the server changes it")


def _meta(connection: Connection, key: str) -> str | None:
    return connection.execute(text("SELECT value FROM meta WHERE key = :key"), {"key": key}).scalar()


def _audit(connection: Connection, report: Report) -> None:
    if "hash" not in {column["name"] for column in inspect(connection).get_columns("audit")}:
        report.warnings.append("the audit trail is not chained yet: start the server once")
        return
    try:
        query = text("SELECT * FROM audit ORDER BY id").execution_options(yield_per=1000)
        rows = connection.execute(query).mappings()
        report.facts["audit trail"] = "whole, head " + verify_chain(rows, _meta(connection, "audit_head"))
    except VerifyError as exc:
        report.wrong.append(str(exc))


def _release_log(connection: Connection, report: Report) -> None:
    if version_of(connection) != SCHEMA_VERSION:  # it has none, or not whole
        return
    try:
        report.facts["release log"] = release_log.require_sound(connection)
    except VerifyError as exc:
        report.wrong.append(str(exc))


def _named(connection: Connection) -> tuple[list[Named], list[Named]]:
    """Return version and digest of each release's file that is kept, and of each attached for DDI devices."""
    columns = {column["name"] for column in inspect(connection).get_columns("releases")}
    kept = "pruned_at IS NULL" if "pruned_at" in columns else "1 = 1"  # a database of before has none
    releases = "SELECT version, file_digest FROM releases WHERE {} ORDER BY id"
    attached = (
        "SELECT version, digest FROM ddi_files JOIN releases ON releases.id = release_id"
        " WHERE attached_by IS NOT NULL AND {} ORDER BY releases.id"
    )
    queries = (text(sql.format(kept)) for sql in (releases, attached))
    first, second = ([(a, b) for a, b in connection.execute(query)] for query in queries)
    return first, second


def _artifacts(releases: list[Named], attached: list[Named], store: ArtifactStore, report: Report) -> None:
    report.facts["artifacts"] = f"{len(releases)} releases, in {store.where}"
    away = store.why_not() if store.shared else None  # before a first release, too
    if away:
        report.wrong.append(away)
        return
    for version, digest in (*releases, *attached):
        try:
            store.read(digest)
        except ArtifactsAway as exc:
            report.wrong.append(str(exc))
            break
        except VerifyError as exc:
            report.wrong.append(f"release {version}: {exc}")
