"""``fota server backup | restore | migrate | doctor``: what keeps a server alive beyond its machine."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_wire.errors import VerifyError
from fota_wire.host_options import BACKUP, FOLDER, JSON, SERVER, Command, OneOf, Whole

if TYPE_CHECKING:
    from fota_server.backup import Summary

_data = click.option("--data", type=SERVER, required=True, help="Folder of the server.")


@click.command(cls=Command)
@click.argument("target", type=FOLDER)
@_data
@click.option("--without-keys", is_flag=True, help="Leave the private keys out: TLS and ASSIGN.")
@JSON
def backup(target: Path, data: Path, without_keys: bool, as_json: bool) -> None:
    """Write all of a server, which may be running, into the new folder TARGET.

    \b
    Example:
      fota server backup --data srv /mnt/backup/fota-2026-11-27

    In it: database, artifacts, config.json, certificates, and the private keys of TLS and ASSIGN, unless left
    out. Tokens are in it as hashes only. Whoever has it with its keys can speak as this server.

    A database in PostgreSQL is not in it (its pg_dump is named), nor are artifacts in a bucket.
    """
    from fota_server.backup import back_up

    done = back_up(data, target, with_keys=not without_keys)
    if as_json:
        click.echo(json.dumps(_facts(done)))
    else:
        keys = "with the private keys: keep it like the server itself" if done.has_keys else "without keys"
        click.echo(f"{target} holds {_rows(done)}, {keys}")
        for name in done.outside:
            click.echo(f"not in it, as it lies elsewhere: {name}")
        if done.dump:
            click.echo(f"not in it: the database; a dump belongs to it that is made before it: {done.dump}")
    if done.missing:
        raise VerifyError(
            f"the backup lacks {len(done.missing)} artifacts, missing or damaged where they are kept: "
            + ", ".join(digest[:16] for digest in done.missing[:8]),
            "artifact-missing",
        )


@click.command(cls=Command)
@click.argument("source", type=BACKUP)
@_data
@JSON
def restore(source: Path, data: Path, as_json: bool) -> None:
    """Make a server's folder of the backup SOURCE. The folder must not be there, or be empty.

    \b
    Example:
      fota server restore /mnt/backup/fota-2026-11-27 --data srv
    """
    from fota_server.backup import restore as make

    done = make(source, data)
    if as_json:
        click.echo(json.dumps(_facts(done)))
        return
    made = f"{datetime.fromtimestamp(done.made_at, UTC):%Y-%m-%d %H:%M}Z"
    click.echo(f"{data} is as the server was on {made}: {_rows(done)}")
    if done.load:
        click.echo(
            f"its database comes from a dump, into an empty one, before the server starts: {done.load}"
        )
    click.echo("what was retired, revoked, published or ordered after that is not in it: do it again")
    if not done.has_keys:
        click.echo(f"the backup was made without private keys: put them into {data / 'keys'} first")


@click.command(cls=Command)
@_data
def migrate(data: Path) -> None:
    """Bring the database to this program's schema, without starting the server.

    \b
    Example:
      fota server migrate --data srv

    'fota server run' does it by itself. A step is a transaction: what is interrupted goes on the next time.
    """
    from fota_server.config import load_config
    from fota_server.database import read_url, sqlite_path
    from fota_server.locks import data_lock
    from fota_server.migrations import SCHEMA_VERSION
    from fota_server.service import open_database
    from fota_server.whole import require_whole

    config = load_config(data, {})
    with data_lock(data, config.database_url):
        path = sqlite_path(read_url(config.database_url, data))
        if path:
            require_whole(path, data)
        database = open_database(config.database_url, data)
        try:
            database.bring_up_to_date()
        finally:
            database.close()
    click.echo(f"the database of {data} has schema {SCHEMA_VERSION}")


@click.command(cls=Command)
@_data
@click.option(
    "--withdrawn-for",
    "days",
    metavar="DAYS",
    type=Whole(1, 3650),
    default=30,
    show_default=True,
    help="How long a release has to have been withdrawn.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@JSON
def prune(data: Path, days: int, dry_run: bool, as_json: bool) -> None:
    """Delete the files of releases that were withdrawn long ago: no device can be given them.

    A server may be running. The releases stay, in lists and in what devices confirmed; 'fota release publish'
    brings a file back.
    """
    from fota_server.bucket import open_artifacts
    from fota_server.config import load_config
    from fota_server.migrations import require_current
    from fota_server.prune import candidates
    from fota_server.prune import prune as take
    from fota_server.service import open_database

    config = load_config(data, {})
    database = open_database(config.database_url, data)
    try:
        database.transact(require_current)
        if dry_run:
            gone = database.transact(candidates, days)
        else:
            gone = take(database, open_artifacts(config), days, "server-cli")
    finally:
        database.close()
    if as_json:
        click.echo(json.dumps({"pruned": [asdict(one) for one in gone], "dry_run": dry_run}))
        return
    for one in gone:
        at = datetime.fromtimestamp(one.withdrawn_at, UTC)
        click.echo(f"{one.version:<20} withdrawn {at:%Y-%m-%d}  {one.size} bytes")
    size = sum(one.size for one in gone)
    click.echo(f"{len(gone)} releases, {size} bytes: " + ("nothing was deleted" if dry_run else "deleted"))


@click.command(cls=Command)
@_data
@JSON
def doctor(data: Path, as_json: bool) -> None:
    """Look over a server that runs or not: database, audit trail, artifacts, certificates, disk.

    Ends with 1 if something is wrong; what ends within 30 days is a warning.
    """
    from fota_server.checkup import examine

    report = examine(data)
    if as_json:
        click.echo(json.dumps({"facts": report.facts, "warnings": report.warnings, "wrong": report.wrong}))
    else:
        for name, value in report.facts.items():
            click.echo(f"{name:<13} {value}")
        for text in report.warnings:
            click.echo(f"warning       {text}")
    if report.wrong:
        raise VerifyError("; ".join(report.wrong), "check")


@click.command(cls=Command)
@click.option(
    "--plane", type=OneOf("operator", "device"), default="operator", show_default=True, help="Which one."
)
def openapi(plane: str) -> None:
    """Print what a plane serves as an OpenAPI 3.1 document, made of the routes and shapes in this program.

    \b
    Example:
      fota server openapi --plane operator
    """
    from starlette.routing import Mount

    from fota_server import ddi_plane, device_plane
    from fota_server.openapi import of_devices, of_operators

    if plane == "operator":
        document = of_operators()
    else:
        ddi = Mount(ddi_plane.PATH, routes=ddi_plane.routes(ddi_plane.DdiPlane))
        document = of_devices([*device_plane.routes(device_plane.DevicePlane), ddi])
    click.echo(json.dumps(document, indent=1))


def _facts(done: "Summary") -> dict[str, object]:
    return {
        "made_at": done.made_at,
        "keys": done.has_keys,
        "rows": done.rows,
        "outside": list(done.outside),
        "missing": list(done.missing),
        "dump": done.dump or None,
        "load": done.load or None,
    }


def _rows(done: "Summary") -> str:
    rows = done.rows
    return f"{rows['devices']} devices ({rows['retirements']} retired), {rows['releases']} releases"
