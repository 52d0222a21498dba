"""One server process: what runs, in which order it starts, and how it ends."""

import asyncio
import ctypes
import json
import logging
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket

from sqlalchemy import Connection, func, insert, select

from fota_server import changes, device_plane, operator_plane, receipts, release_log, schema, tls
from fota_server.assign_socket import AssignSocket
from fota_server.bucket import open_artifacts
from fota_server.certificates import TlsFiles, read_aside, read_tls_files, utc_now
from fota_server.chips import learn_chips
from fota_server.config import ServerConfig
from fota_server.connection import Limits
from fota_server.crypto import Assigner, load_assign_signer
from fota_server.database import Database, DatabaseUnavailable, now, open_engine, read_url, sqlite_path
from fota_server.device_side import DeviceSide
from fota_server.door import Room
from fota_server.front import Front, bind_front
from fota_server.handshake import Patience
from fota_server.listener import TlsListener, bind
from fota_server.oidc import Provider, read_settings
from fota_server.operator_events import EventHandlers
from fota_server.planner import Planner
from fota_server.presented import Presented
from fota_server.release_log import LogKeys
from fota_server.root_check import server_dangers
from fota_server.standing import Standing
from fota_server.tokens import create_token
from fota_server.trust import TrustChain
from fota_server.webhook_work import Sender
from fota_server.whole import checkpoint, mark_running, require_whole
from fota_server.workers import Workers
from fota_wire.errors import FotaError, InputError, StorageError, VerifyError
from fota_wire.files import read_input, write_atomic
from fota_wire.host_crypto import load_public_key, refuse_example_key

log = logging.getLogger("fota.server")

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not listened on
MAX_FILES, OWN_FILES = 65536, 128
HOUSE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where a started server is reached from this machine. ``everywhere``: the device plane's address if that
    stands for every one of this machine, else empty.
    """

    device_url: str
    operator_url: str
    everywhere: str


def open_database(config_url: str | None, data: Path, *, shared: bool = False) -> Database:
    """Return the database of a data folder, or the one that the configuration names. ``shared``: several
    processes of this machine write to it.
    """
    url = read_url(config_url, data)
    return Database(open_engine(url), data / "turn" if shared and sqlite_path(url) else None)


def load_trust(connection: Connection) -> TrustChain:
    """Return the chain of ROOT documents of a database that was begun."""
    query = select(schema.roots.c.raw).order_by(schema.roots.c.version)
    return TrustChain(list(connection.execute(query).scalars()))


def prepare(config: ServerConfig, database: Database, genesis: bytes) -> TrustChain:
    """Make tables and first token if there are none, and return the verified chain of ROOT documents.

    Raises:
        VerifyError: the database was begun with another genesis ROOT.
    """
    database.bring_up_to_date()
    return database.transact(_begin, config, genesis)


def _begin(connection: Connection, config: ServerConfig, genesis: bytes) -> TrustChain:
    rows = connection.execute(select(schema.roots).order_by(schema.roots.c.version)).all()
    documents = [row.raw for row in rows] or [genesis]
    trust = TrustChain(documents)
    if documents[0] != genesis and genesis not in documents:
        raise VerifyError(f"{config.root} is not the ROOT that {config.data} was set up with", "root")
    if not rows:
        row = {"version": trust.current.version, "raw": genesis, "added_at": now()}
        connection.execute(insert(schema.roots).values(**row))
    if not connection.execute(select(func.count()).select_from(schema.tokens)).scalar_one():
        token = create_token(connection, "first-operator", "admin", "server")
        # Written before the commit: a crash in between leaves a file that the next start replaces.
        write_atomic(config.data / "operator.token", token.encode() + b"\n", 0o600)
    return trust


def load_signer(config: ServerConfig) -> Assigner:
    """Return the ASSIGN signer: a key's, its password from the environment, or the one behind a socket.

    Raises:
        InputError, VerifyError: the key is missing, not usable, or a published example.
        SignerUnavailable: nobody holds a key behind the socket.
    """
    if config.assign_key.is_socket():
        return AssignSocket(config.assign_key)
    password = os.environ.get("FOTA_ASSIGN_PASSWORD")
    return load_assign_signer(
        config.assign_key, password=password, allow_example_keys=config.allow_example_keys
    )


def load_image_keys(paths: Sequence[Path], allow_example_keys: bool) -> tuple[bytes, ...]:
    """Return x||y of the IMAGE keys in ``paths``.

    Raises:
        InputError, VerifyError: a file holds none, one of another role, or an example key.
    """
    keys = [(path, load_public_key(path, "image")) for path in paths]
    for path, xy in keys:
        refuse_example_key(xy, allow_example_keys, str(path))
    return tuple(xy for _, xy in keys)


def require_usable(files: Mapping[str, Path], *, allow_example_keys: bool) -> None:
    """Return if a server can start with these files (names as in config.json): TLS pair, device CA, ROOT.

    Raises:
        InputError, VerifyError: it could not; the file is named.
    """
    tls.require_device_ca(files["device_ca"], every=True)
    read_tls_files(files, allow_example_keys=allow_example_keys)
    genesis = read_input(files["root"], 4096)
    try:
        TrustChain([genesis])
    except (InputError, VerifyError) as exc:
        raise type(exc)(f"{files['root']}: not a genesis ROOT: {exc}", exc.code) from exc


async def serve(
    config: ServerConfig,
    on_ready: Callable[[Running], None],
    limits: Limits | None = None,
    *,
    accept_loss: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT; ``on_ready`` is called once both planes accept connections.

    ``accept_loss``: start although the database is gone, or is not whole.
    """
    signer = load_signer(config)
    receipt_key = receipts.load_key(config)
    image_keys = load_image_keys(config.image_keys, config.allow_example_keys)
    tls_files = read_tls_files(config.files, allow_example_keys=config.allow_example_keys)
    path = sqlite_path(read_url(config.database_url, config.data))
    if path:
        require_whole(path, config.data, accept_loss=accept_loss)
    database = open_database(config.database_url, config.data, shared=config.workers > 1)
    try:
        trust = prepare(config, database, read_input(config.root, 4096))
        trust.require_assign_key(signer)
        log_keys = LogKeys(database.transact(release_log.begin, config.data), receipt_key)
        try:
            database.transact(release_log.sign, log_keys)
            receipts.require_key(trust.current, receipt_key)
        except VerifyError as exc:  # devices are served on
            log.warning("nothing is published: %s", exc)
        await _Service(config, database, trust, signer, tls_files, image_keys, limits, log_keys).run(on_ready)
    finally:
        database.close()
    if path:
        mark_running(path, running=False)


class _Service:
    """All parts of a running server, put together."""

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        trust: TrustChain,
        signer: Assigner,
        tls_files: TlsFiles,
        image_keys: tuple[bytes, ...],
        limits: Limits | None,
        log_keys: LogKeys,
    ) -> None:
        self._config = config
        self._database = database
        self._trust = trust
        self._tls_files = tls_files
        self._reading: asyncio.Task[None] | None = None
        artifacts = self._artifacts = open_artifacts(config)
        artifacts.prepare()
        self._planner = Planner(database, trust)
        self._sockets = (
            *device_sockets(config),
            bind(config.operator_host, config.operator_port),
        )
        device_room, operator_room, front_room = rooms(
            config.device_connections,
            config.newcomers,
            config.newcomers_per_address,
            front=bool(config.front),
        )
        limits = limits or Limits(per_client=config.connections_per_device)
        wake = self._planner.wake
        side = self._side = DeviceSide(
            config,
            database,
            trust,
            signer,
            artifacts,
            tls_files,
            self._sockets[0],
            replace(limits, room=device_room),
            wake,
        )
        self._workers = Workers(config, self._sockets[1:-1], wake)
        self._standing = Standing(
            database, artifacts.folder, lambda: self._tls_files, side.checkins.waiting, self._workers.counted
        )
        self._events = EventHandlers(database)
        of_operators = operator_plane.OperatorPlane(
            database,
            artifacts,
            trust,
            signer,
            side.retired,
            side.refusals,
            lambda: self._tls_files,
            self._planner,
            self._standing,
            self._events,
            image_keys,
            config.interval_s,
            Provider(read_settings(config.data / config.oidc)) if config.oidc else None,
            log_keys,
            config.log_public,
        )
        self._front: Front | None = None
        self._presented = Presented(tls_files.device_cas)
        if config.front:
            self._front = Front(
                side.app,
                bind_front(config.data / config.front),
                config.front_user,
                config.front_files,
                lambda: self._presented,
                device_plane.error_body,
                replace(limits, room=front_room),
                device_plane.HEADERS,
                device_plane.gate(side.retired, side.refusals),
                device_plane.note_unread(side.refusals),
            )
        self._operators = TlsListener(
            "operator",
            of_operators.app(),
            self._sockets[-1],
            tls_files.operator,
            operator_plane.error_body,
            # Who uploads does not read until all is sent, however long that takes at 1 KiB/s or more: twice
            # the size has room for TLS and for too much.
            replace(
                limits, room=operator_room, patience=Patience(size=2 * config.max_artifact, again=40 << 10)
            ),
            operator_plane.HEADERS,
        )
        self._standing.doors = {"device": side.listener.door, "operator": self._operators.door}
        side.retired.on_retire.append(self._close_gates)
        if self._front:
            self._standing.doors["front"] = self._front.door

    def _close_gates(self, _device_id: str) -> None:
        if self._front:
            self._front.close_gate()
        self._workers.tell("follow")

    async def run(self, on_ready: Callable[[Running], None]) -> None:
        """Accept connections until a signal says to stop."""
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        path = sqlite_path(self._database.url)
        if path:
            await asyncio.to_thread(mark_running, path, running=True)
        await self._side.begin()
        self._planner.start()
        aside = [
            *([asyncio.create_task(_keep_checkpoints(path))] if path else []),
            asyncio.create_task(malloc_trimmed()),
            asyncio.create_task(self._forget_changes()),
            asyncio.create_task(Sender(self._database, now).keep_sending()),
            asyncio.create_task(self._watch_certificates()),
            *([] if path else [asyncio.create_task(self._side.keep_following(self._planner.wake))]),
        ]
        await learn_chips(self._database, self._artifacts)
        await self._workers.start()
        self._side.listener.start()
        self._operators.start()
        if self._front:
            self._front.start()
        running = Running(
            device_url=_url(self._config.host, self._sockets[0].getsockname()[1]),
            operator_url=_url(self._config.operator_host, self._sockets[-1].getsockname()[1]),
            everywhere=self._config.host if self._config.host in ANYWHERE else "",
        )
        _publish_urls(self._config.data, running)
        on_ready(running)
        await stop.wait()
        self._events.stop()
        fronts = [self._front.stop()] if self._front else []
        listeners = self._side.listener.stop(), self._operators.stop(), *fronts
        await asyncio.gather(*listeners, self._workers.stop())
        await self._side.finish()
        await self._planner.stop()
        for task in aside:
            task.cancel()
        await asyncio.gather(*aside, return_exceptions=True)
        (self._config.data / "server.json").unlink(missing_ok=True)

    def _reload(self) -> None:
        """Take certificates, key and device CAs from their files; what cannot be used changes nothing.

        Connections go on with what they began with; the next ones get the new. The last signal counts: a
        reading that has not ended by then is given up.
        """
        if self._reading:
            self._reading.cancel()
        self._reading = asyncio.create_task(self._read_again())

    async def _read_again(self) -> None:
        config = self._config
        try:
            found = await read_aside(config.files, allow_example_keys=config.allow_example_keys)
        except FotaError as exc:
            log.warning("SIGHUP: the server goes on with the certificates that it has: %s", exc)
            return
        self._tls_files = found
        self._side.listener.context, self._operators.context = found.device, found.operator
        self._presented = Presented(found.device_cas)
        self._workers.tell("reload")
        log.warning("SIGHUP: certificates, key and device CAs are read again and in use")
        self._tell_notices()

    def _tell_notices(self) -> None:
        for notice in self._tls_files.notices(utc_now()):
            log.log(logging.ERROR if notice.failing else logging.WARNING, "%s", notice.text)
        for danger in server_dangers(self._trust.current, self._tls_files):
            log.error("devices that go by ROOT %s: %s", self._trust.current.version, danger)

    async def _forget_changes(self) -> None:
        """Every minute: take away the changes that nobody is to read any more, a page at a time."""
        while True:
            await asyncio.sleep(HOUSE_S)
            before = now() - self._config.keep_changes_days * 86400
            try:
                while await self._database.write(changes.prune, before) == changes.PAGE:
                    pass
            except (DatabaseUnavailable, StorageError) as exc:
                log.warning("%s", exc)

    async def _watch_certificates(self) -> None:
        while True:
            self._tell_notices()
            await asyncio.sleep(86400)


async def _keep_checkpoints(path: Path) -> None:
    """Every minute: bring the WAL of a SQLite file into it; a copy that lacks it shall not lack more."""
    while True:
        await asyncio.sleep(HOUSE_S)
        try:
            await asyncio.to_thread(checkpoint, path)
        except StorageError as exc:
            log.warning("%s", exc)


async def malloc_trimmed() -> None:
    """Every minute: give memory back. What a crowd of handshakes took is free after it, and the C library
    keeps it unless asked.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    while trim is not None:
        await asyncio.sleep(HOUSE_S)
        await asyncio.to_thread(trim, 0)


def device_sockets(config: ServerConfig) -> list[socket]:
    """Return a socket for each process that serves devices, all on one port."""
    first = bind(config.host, config.port, share=config.workers > 1)
    port = first.getsockname()[1]
    return [first, *(bind(config.host, port, share=True) for _ in range(config.workers - 1))]


def rooms(
    connections: int = 0, newcomers: int = 0, per_address: int = 0, *, front: bool = False
) -> tuple[Room, Room, Room]:
    """Take all the open files that this process may have; return how many connections devices, operators and
    a front have of them.

    A connection may hold an artifact open. The operators' part is set aside: no device can take it.
    ``connections`` and the others: what the configuration says for devices; 0: what the files allow.

    Raises:
        InputError: the configuration asks for more device connections than there are files for.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    total = max(8, (files - OWN_FILES) // 2)
    operators = min(512, total // 4)
    fronts = min(4096, (total - operators) // 2) if front else 0
    devices = total - operators - fronts
    if connections > devices:
        raise InputError(
            f"device_connections is {connections}, and the {files} files that this process may"
            f" open are enough for {devices}: raise LimitNOFILE (ulimit -n)"
        )
    of_front = Room(connections=fronts, newcomers=fronts, newcomers_per_address=fronts)
    return _room(connections or devices, newcomers, per_address), _room(operators), of_front


def _room(connections: int, newcomers: int = 0, per_address: int = 0) -> Room:
    """Return the room of a plane; 0: as fits the number before it."""
    newcomers = newcomers or max(1, min(2048, connections // 2))
    per_address = per_address or max(1, min(256, newcomers // 2))
    return Room(connections=connections, newcomers=newcomers, newcomers_per_address=per_address)


def _url(host: str, port: int) -> str:
    return f"https://{ANYWHERE.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def _publish_urls(data: Path, running: Running) -> None:
    urls = {"device_url": running.device_url, "operator_url": running.operator_url, "pid": os.getpid()}
    write_atomic(data / "server.json", json.dumps(urls).encode() + b"\n")
