"""One server process: what runs, in which order it starts, and how it ends."""

import asyncio
import fcntl
import json
import logging
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, insert, select

from fota_server import device_plane, operator_plane, schema, tls
from fota_server.artifacts import ArtifactStore
from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.config import ServerConfig
from fota_server.crypto import AssignSigner, load_assign_signer
from fota_server.database import Database, now, open_engine, sqlite_url
from fota_server.listener import Limits, Listener, bind
from fota_server.retirement import Retired
from fota_server.tokens import create_token
from fota_server.trust import TrustChain
from fota_wire.errors import InputError, StorageError, VerifyError
from fota_wire.files import read_input, write_atomic
from fota_wire.host_crypto import load_public_key, refuse_example_key
from fota_wire.host_x509 import pem_certificate

log = logging.getLogger("fota.server")

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not listened on
MAX_FILES, OWN_FILES = 65536, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where a started server is reached from this machine. ``everywhere``: the device plane's address if that
    stands for every one of this machine, else empty.
    """

    device_url: str
    operator_url: str
    everywhere: str


@contextmanager
def data_lock(data: Path) -> Iterator[None]:
    """Hold the data folder for this process.

    Raises:
        StorageError: another server has it, or it cannot be written.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise StorageError(f"cannot use {data}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            pid = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise StorageError(
                f"{data} is in use by another server (process {pid}): stop it first", "locked"
            ) from exc
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def open_database(config_url: str | None, data: Path) -> Database:
    """Return the database of a data folder, or the one that the configuration names."""
    return Database(open_engine(config_url or sqlite_url(data / "fota.db")))


async def prepare(config: ServerConfig, database: Database, genesis: bytes) -> TrustChain:
    """Make tables and first token if there are none, and return the verified chain of ROOT documents.

    Raises:
        VerifyError: the database was begun with another genesis ROOT.
    """
    await database.bring_up_to_date()
    async with database.write() as connection:
        rows = (await connection.execute(select(schema.roots).order_by(schema.roots.c.version))).all()
        documents = [row.raw for row in rows] or [genesis]
        trust = TrustChain(documents)
        if documents[0] != genesis and genesis not in documents:
            raise VerifyError(f"{config.root} is not the ROOT that {config.data} was set up with", "root")
        if not rows:
            row = {"version": trust.current.version, "raw": genesis, "added_at": now()}
            await connection.execute(insert(schema.roots).values(**row))
        if not (await connection.execute(select(func.count()).select_from(schema.tokens))).scalar_one():
            token = await create_token(connection, "first-operator", "operate", "server")
            # Written before the commit: a crash in between leaves a file that the next start replaces.
            write_atomic(config.data / "operator.token", token.encode() + b"\n", 0o600)
    return trust


def load_keys(config: ServerConfig) -> AssignSigner:
    """Return the ASSIGN signer; every key of the server is checked not to be a published example first.

    Raises:
        InputError, VerifyError: a key is missing, not usable, or an example.
    """
    for path in (config.tls_cert, config.device_ca):
        refuse_example_key(load_public_key(path), config.allow_example_keys, str(path))
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


def require_usable(files: Mapping[str, Path]) -> None:
    """Return if a server can start with these files (names as in config.json): TLS pair, device CA, ROOT.

    Raises:
        InputError, VerifyError: it could not; the file is named.
    """
    tls.operator_context(files["tls_cert"], files["tls_key"])
    tls.require_device_ca(files["device_ca"], every=True)
    tls.device_context(files["tls_cert"], files["tls_key"], files["device_ca"])
    genesis = read_input(files["root"], 4096)
    try:
        TrustChain([genesis])
    except (InputError, VerifyError) as exc:
        raise type(exc)(f"{files['root']}: not a genesis ROOT: {exc}", exc.code) from exc


async def serve(
    config: ServerConfig, on_ready: Callable[[Running], None], limits: Limits | None = None
) -> None:
    """Run until SIGTERM or SIGINT; ``on_ready`` is called once both planes accept connections."""
    limits = limits or Limits(connections=room_for_connections())
    signer = load_keys(config)
    image_keys = load_image_keys(config.image_keys, config.allow_example_keys)
    operator_tls = tls.operator_context(config.tls_cert, config.tls_key)
    device_tls = tls.device_context(config.tls_cert, config.tls_key, config.device_ca)
    artifacts = ArtifactStore(config.data / "artifacts", config.max_artifact)
    artifacts.prepare()
    database = open_database(config.database_url, config.data)
    try:
        trust = await prepare(config, database, read_input(config.root, 4096))
        trust.require_assign_key(signer)
        auto = config.admission == "auto"
        policy = Policy(auto_admission=auto, interval_s=config.interval_s)
        checkins = CheckIns(database, Catalog(), trust, signer, policy, now)
        device_app = device_plane.DevicePlane(database, checkins, artifacts, auto).app()
        device_ca = pem_certificate(read_input(config.device_ca, 65536), str(config.device_ca))
        retired = Retired()
        async with database.read() as connection:
            await retired.load(connection)
        operator_app = operator_plane.OperatorPlane(
            database, artifacts, trust, signer, retired, device_ca, image_keys
        ).app()
        device_socket = bind(config.host, config.port)
        operator_socket = bind(config.operator_host, config.operator_port)
        gate = device_plane.gate(retired)
        listeners = (
            Listener(device_app, device_socket, device_tls, device_plane.error_body, limits, gate),
            Listener(operator_app, operator_socket, operator_tls, operator_plane.error_body, limits),
        )
        retired.on_retire.append(lambda _device_id: listeners[0].close_gate())
        stop = asyncio.Event()
        for sig in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sig, stop.set)
        checkins.start()
        for listener in listeners:
            await listener.start()
        running = Running(
            device_url=_url(config.host, device_socket.getsockname()[1]),
            operator_url=_url(config.operator_host, operator_socket.getsockname()[1]),
            everywhere=config.host if config.host in ANYWHERE else "",
        )
        _publish_urls(config.data, running)
        on_ready(running)
        await stop.wait()
        await asyncio.gather(*(listener.stop() for listener in listeners))
        await checkins.stop()
        (config.data / "server.json").unlink(missing_ok=True)
    finally:
        await database.close()


def room_for_connections() -> int:
    """Take all the open files that this process may have; return how many connections those are enough for.

    A connection may hold an artifact open, and there are two planes.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, (files - OWN_FILES) // 3)


def _url(host: str, port: int) -> str:
    return f"https://{ANYWHERE.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def _publish_urls(data: Path, running: Running) -> None:
    urls = {"device_url": running.device_url, "operator_url": running.operator_url, "pid": os.getpid()}
    write_atomic(data / "server.json", json.dumps(urls).encode() + b"\n")
