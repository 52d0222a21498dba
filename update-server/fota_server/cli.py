"""``fota server``: run the update server, set it up, manage its tokens."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_server.config import FILES, database_url, find_sources, has_password, init_data, load_config
from fota_server.signer_cli import signer
from fota_server.upkeep_cli import backup, doctor, migrate, openapi, prune, restore
from fota_wire.errors import InputError, StorageError
from fota_wire.files import STREAM, check_output, write_output
from fota_wire.host_options import (
    CERTIFICATE,
    FILE,
    FOLDER,
    JSON,
    PRIVATE_KEY,
    PUBLIC_KEY,
    ROOT,
    SERVER,
    Group,
    OneOf,
    Whole,
)
from fota_wire.host_values import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fota_server.service import Running

_data = click.option(
    "--data", type=SERVER, required=True, help="Folder of the server's database, artifacts, config."
)


def _file_options(command: Any) -> Any:  # noqa: ANN401 - a decorator of click's own types
    command = click.option(
        "--image-key",
        "image_keys",
        type=PUBLIC_KEY,
        multiple=True,
        help="Public IMAGE key (PEM) that images are checked by, if ROOT names none; repeat.",
    )(command)
    for name, kind, text in (
        (
            "--assign-key",
            PRIVATE_KEY,
            "Private key (PEM) that signs ASSIGNMENTs, or the socket of 'fota server signer'.",
        ),
        ("--root", ROOT, "Genesis ROOT document."),
        ("--device-ca", CERTIFICATE, "Certificate (PEM) of the CA that signs device certificates."),
        ("--tls-key", PRIVATE_KEY, "Private key (PEM) of the server certificate."),
        ("--tls-cert", CERTIFICATE, "Server certificate (PEM), with its chain."),
    ):
        command = click.option(name, type=kind, help=text)(command)
    return command


def _database_url(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    if url is not None and has_password(url):
        raise UsageError(
            "--database-url: everybody on this machine can read an argument: leave the password out, and name"
            " a file of it by PGPASSFILE, or write the URL into config.json"
        )
    if url is not None:
        from fota_server.database import read_url

        read_url(url, Path())
    return url


def _setting_options(command: Any) -> Any:  # noqa: ANN401 - a decorator of click's own types
    for args, kwargs in (
        (
            ("--allow-example-keys",),
            {"is_flag": True, "default": None, "help": "Rehearse with published keys."},
        ),
        (
            ("--database-url",),
            {
                "metavar": "URL",
                "callback": _database_url,
                "help": "postgresql://USER@HOST/DATABASE in place of a file in the folder; its password comes"
                " from the file that PGPASSFILE names.",
            },
        ),
        (
            ("--interval", "interval_s"),
            {"type": Whole(1, 604800), "help": "Seconds between check-ins [300]."},
        ),
        (
            ("--admission",),
            {
                "type": OneOf("auto", "known"),
                "help": "Who may check in: any device with a certificate, or those admitted [auto].",
            },
        ),
        (
            ("--workers",),
            {
                "metavar": "N",
                "type": Whole(1, 64),
                "help": "Processes that serve devices on the one port; the first serves operators, too [1].",
            },
        ),
        (
            ("--log",),
            {"type": OneOf("text", "json"), "help": "Lines of the log: words, or an object each [text]."},
        ),
        (
            ("--ddi-tenant",),
            {
                "metavar": "NAME",
                "help": "Serve hawkBit's device API, too, to clients of tenant NAME [DEFAULT].",
            },
        ),
        (
            ("--operator-port",),
            {"type": Whole(0, 65535), "help": "Operator plane; 0: any free one [8444]."},
        ),
        (("--operator-host",), {"help": "Address of the operator plane [127.0.0.1]."}),
        (("--port",), {"type": Whole(0, 65535), "help": "Device plane; 0: any free one [8443]."}),
        (("--host",), {"help": "Address of the device plane [0.0.0.0: every one of this machine]."}),
    ):
        command = click.option(*args, **kwargs)(command)
    return command


@click.group(cls=Group)
def server() -> None:
    """Run the update server."""


@server.command()
@_data
@_file_options
@_setting_options
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Start although the database is missing where one has been, or was copied without its last writes.",
)
def run(data: Path, accept_loss: bool, **options: Any) -> None:  # noqa: ANN401 - click passes what it parsed
    """Run the server until it is told to stop.

    Options come before what 'fota server init' wrote into config.json, and are not written there. Database,
    artifacts and the first token are made where they are missing.
    """
    import asyncio
    import signal

    from fota_server.locks import data_lock
    from fota_server.logs import log_to_stderr
    from fota_server.service import serve

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # one that comes before it is listened for ends nothing

    for name in FILES:
        if options[name] is not None:
            options[name] = options[name].absolute()
    options["image_keys"] = tuple(path.absolute() for path in options["image_keys"])
    config = load_config(data, options)
    os.umask(0o077)  # the database tells who has what; it is nobody else's business
    with data_lock(data, config.database_url):
        log = log_to_stderr(config.log)
        try:
            asyncio.run(serve(config, _say_ready, accept_loss=accept_loss))
        finally:
            log.finish()


def _say_ready(running: "Running") -> None:
    everywhere = f" (listening on {running.everywhere})" if running.everywhere else ""
    click.echo(
        f"fota-server ready: devices {running.device_url}{everywhere}, operators {running.operator_url}"
    )


@server.command()
@_data
@click.option("--keys", type=FOLDER, help="Folder to take all from.")
@_file_options
@_setting_options
def init(data: Path, keys: Path | None, **options: Any) -> None:  # noqa: ANN401 - click passes what it parsed
    """Copy keys and certificates into the data folder and write its config.json.

    The password of an encrypted ASSIGN key comes from FOTA_ASSIGN_PASSWORD, here and when the server runs.
    """
    from fota_server.assign_socket import AssignSocket
    from fota_server.crypto import load_assign_signer
    from fota_server.release_log import KEY, new_key
    from fota_server.service import load_image_keys, require_usable

    named = {name: options.pop(name) for name in FILES}
    image_keys = options.pop("image_keys")
    sources = find_sources(keys, {name: path for name, path in named.items() if path})
    allow = bool(options["allow_example_keys"])
    if sources["assign_key"].is_socket():
        AssignSocket(sources["assign_key"])
    else:
        password = os.environ.get("FOTA_ASSIGN_PASSWORD")
        load_assign_signer(sources["assign_key"], password=password, allow_example_keys=allow, new=True)
    require_usable(sources, allow_example_keys=allow)
    load_image_keys(image_keys, allow)
    log_key = new_key()
    init_data(data, sources, options, image_keys, {KEY: log_key.to_text()})
    click.echo(f"set up {data}: start it with 'fota server run --data {data}'")
    click.echo(f"key of its release log, for whoever watches it: {log_key.public}")
    if not image_keys and not _root_names_image_keys(sources["root"]):
        click.echo(
            "fota: warning: neither this ROOT nor --image-key names an IMAGE key: images will be published"
            " without a check of their signatures",
            err=True,
        )


def _root_names_image_keys(root: Path) -> bool:
    from fota_wire.files import read_input
    from fota_wire.root import MAX_ROOT, unsafe_read_root

    return bool(unsafe_read_root(read_input(root, MAX_ROOT)).image_keys)


@server.command()
@_data
@JSON
def audit(data: Path, as_json: bool) -> None:
    """Print what operators did, oldest first."""
    from sqlalchemy import select

    from fota_server import schema

    def work(connection: "Connection") -> list[dict[str, Any]]:
        query = select(schema.audit).order_by(schema.audit.c.id)
        return [dict(row) for row in connection.execute(query).mappings()]

    rows: list[dict[str, Any]] = _in_database(data, work)
    if as_json:
        click.echo(json.dumps({"audit": [row | {"detail": json.loads(row["detail"])} for row in rows]}))
        return
    for row in rows:
        at = datetime.fromtimestamp(row["at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        click.echo(f"{at}  {row['actor']:<20} {row['action']:<16} {row['subject']}  {row['detail']}")


@server.group()
def token() -> None:
    """Make, list and revoke the tokens of operators."""


@token.command("create")
@click.argument("name")
@_data
@click.option(
    "--role",
    type=OneOf("viewer", "publisher", "operator", "admin"),
    default="viewer",
    show_default=True,
    help="publisher: hands in releases (CI); operator: rollouts, groups, devices; admin: all, also what has"
    " no way back.",
)
@click.option("--expires", "days", metavar="DAYS", type=Whole(1, 3650), help="Days until it ends [never].")
@click.option(
    "--group",
    "-g",
    "groups",
    metavar="NAME",
    multiple=True,
    help="A group that it is for; repeat [all].",
)
@click.option("--person", metavar="NAME", help="Who holds it: one of two, where a policy wants two.")
@click.option(
    "-o", "--output", type=FILE, required=True, help="File for the token, mode 0600; it is never printed."
)
def create(
    name: str,
    data: Path,
    role: str,
    days: int | None,
    groups: tuple[str, ...],
    person: str | None,
    output: Path,
) -> None:
    """Make a token and write it to a file."""
    from fota_server import tokens
    from fota_server.clock import now

    check_output(output, force=False)

    written = False

    def work(connection: "Connection") -> None:
        nonlocal written
        ends = now() + days * 86400 if days else None
        secret = tokens.create_token(
            connection, name, role, "server-cli", expires_at=ends, groups=groups, person=person
        )
        write_output(output, secret.encode() + b"\n", secret=True)
        written = True

    try:
        _in_database(data, work)
    except BaseException:
        if written and output != STREAM and output.is_file():  # a token that no server knows
            output.unlink()
        raise
    place = "on standard output" if output == STREAM else f"in {output}"
    click.echo(f"token {name} ({role}) is {place}", err=output == STREAM)


@token.command("list")
@_data
@JSON
def list_(data: Path, as_json: bool) -> None:
    """List tokens; their secrets are not known to anybody but their holders."""
    from fota_server import tokens

    rows: list[dict[str, Any]] = _in_database(data, tokens.list_tokens)
    if as_json:
        click.echo(json.dumps({"tokens": rows}))
        return
    for row in rows:
        groups = f", for group {', '.join(row['groups'])}" if row["groups"] else ""
        person = f", {row['person']}'s" if row["person"] else ""
        click.echo(f"{row['name']:<32} {row['role']:<10} {_in_force(row)}{groups}{person}")


@token.command("revoke")
@click.argument("name")
@_data
def revoke(name: str, data: Path) -> None:
    """Make a token useless from now on."""
    from fota_server import tokens

    def work(connection: "Connection") -> None:
        tokens.revoke_token(connection, name, "server-cli")

    _in_database(data, work)
    click.echo(f"token {name} is revoked")


@server.command("log-key")
@_data
@click.option("--new", is_flag=True, help="Make another key: the one before is lost, or was stolen.")
@click.option("--name", metavar="NAME", help="With --new: what the log is called from now on [as before].")
def log_key(data: Path, new: bool, name: str | None) -> None:
    """Print the public key of the release log, for whoever watches it ('fota log').

    A new key is made while the server is stopped. Who watches the log finds that it is signed by another, and
    has to be told why.
    """
    from fota_server import release_log
    from fota_server.locks import data_lock

    if name and not new:
        raise UsageError("--name goes with --new")
    if new:
        with data_lock(data, database_url(data)):
            found = str(
                _in_database(data, lambda connection: release_log.renew(connection, data, name)).public
            )
    else:
        found = _in_database(data, release_log.key_of) or ""
        if not found:
            raise InputError(f"{data}: the release log has no key yet: start the server once")
    click.echo(found)


def _in_force(row: dict[str, Any]) -> str:
    if row["revoked_at"]:
        return "revoked"
    if row["expires_at"] is None:
        return "in force"
    end = datetime.fromtimestamp(row["expires_at"], UTC)
    return f"{'expired on' if end <= datetime.now(UTC) else 'in force until'} {end:%Y-%m-%d %H:%M}Z"


def _in_database(data: Path, work: Any) -> Any:  # noqa: ANN401 - passes through whatever ``work`` returns
    from fota_server.database import read_url, sqlite_path
    from fota_server.locks import data_lock
    from fota_server.migrations import require_current
    from fota_server.service import open_database
    from fota_server.whole import require_whole

    url = database_url(data)
    path = sqlite_path(read_url(url, data))
    if path and not path.exists():
        raise InputError(f"{data}: no database there; has the server been started once?")
    with suppress(StorageError), data_lock(data, url):  # a server that runs has it, and its database is whole
        if path:
            require_whole(path, data)

    def transaction(connection: "Connection") -> Any:  # noqa: ANN401 - see above
        require_current(connection)
        return work(connection)

    database = open_database(url, data)
    try:
        return database.transact(transaction)
    finally:
        database.close()


for _command in (backup, restore, migrate, doctor, openapi, prune, signer):
    server.add_command(_command)
