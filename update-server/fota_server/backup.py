"""A server's data folder in one other folder, while the server runs, and back again.

``backup.json`` names every file with its SHA-256. The database is one file there, without a WAL, as of one
moment; every artifact that its releases name is beside it. Of PostgreSQL the database is not in it: that is
pg_dump's, and the backup names the command. Private keys are in it, unless left out: such a
backup is as secret as the server. Tokens are in it as hashes only.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, text

from fota_server import release_log
from fota_server.artifacts import ArtifactsAway, ArtifactStore, sync_folder
from fota_server.bucket import open_artifacts
from fota_server.config import SECRETS, database_url, load_config
from fota_server.database import beside, now, read_url, sqlite_path
from fota_server.migrations import SCHEMA_VERSION, require_current
from fota_wire.errors import InputError, StorageError, VerifyError
from fota_wire.files import alone_at, read_input, require_folder, write_atomic
from fota_wire.host_keys import place_of
from fota_wire.host_sqlite import sqlite_told

FORMAT = 1
_NAMES = re.compile(
    r"config\.json|fota\.db|keys/[A-Za-z0-9][A-Za-z0-9._-]*|artifacts/[0-9a-f]{2}/[0-9a-f]{64}"
)
_DIGESTS = (
    "SELECT file_digest FROM releases WHERE pruned_at IS NULL UNION SELECT digest FROM ddi_files"
    " WHERE release_id IN (SELECT id FROM releases WHERE pruned_at IS NULL)"
)
_DIGESTS_OF_BEFORE = "SELECT file_digest FROM releases UNION SELECT digest FROM ddi_files"
_COUNTS = ("devices", "retirements", "releases", "rollouts", "tokens", "audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a backup holds. ``outside``: what config.json names elsewhere; ``missing``: lost artifacts;
    ``dump``, ``load``: the commands that take a database of PostgreSQL along and back, else empty.
    """

    made_at: int
    has_keys: bool
    rows: dict[str, int]
    outside: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    dump: str = ""
    load: str = ""


def back_up(data: Path, target: Path, *, with_keys: bool = True) -> Summary:
    """Write a backup of ``data`` into the new folder ``target``, all of it or nothing.

    Raises:
        InputError: ``target`` exists, is inside of ``data`` or of no folder, or ``data`` is no server's.
        StorageError: the disk refused.
    """
    if target.exists():
        raise InputError(f"{target} exists already: name a new folder")
    config = load_config(data, {})
    if target.resolve().is_relative_to(data.resolve()):
        raise InputError(f"{target} is in {data}, and would be lost with it: name a folder elsewhere")
    url = read_url(config.database_url, data)
    source = sqlite_path(url)
    if source is not None and not source.exists():
        raise InputError(f"{data}: no database there; has the server been started once?")
    with _new_folder(target) as folder:
        if source is not None:
            _copy_database(source, folder / "fota.db", str(target))
            rows, digests = _content(folder / "fota.db")
        else:
            with beside(url, data) as connection:
                rows, digests = _look_up(connection)
        artifacts = open_artifacts(config)
        missing, left = (
            _look_for(artifacts, digests)
            if artifacts.shared
            else (_copy_artifacts(artifacts, digests, folder), ())
        )
        write_atomic(folder / "config.json", read_input(data / "config.json", 65536), 0o600)
        named = config.files | {f"image_keys[{number}]": key for number, key in enumerate(config.image_keys)}
        if (data / release_log.KEY).exists():
            named["log_key"] = data / release_log.KEY
        if isinstance(place := place_of(config.receipt_key), Path) and config.receipt_key:
            named["receipt_key"] = data / place
        outside = _copy_keys(named, data, folder, with_keys)
        summary = Summary(
            made_at=now(),
            has_keys=with_keys,
            rows=rows,
            outside=(*left, *outside),
            missing=tuple(missing),
            dump="" if source else _dump(url),
            load="" if source else _load(url),
        )
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        listed = {name: _sha256(folder / name) for name in files}
        about = {
            "format": FORMAT,
            "schema": SCHEMA_VERSION,
            "made_at": summary.made_at,
            "keys": with_keys,
            "rows": rows,
            "files": listed,
            "database": "sqlite" if source else "postgresql",
        }
        write_atomic(folder / "backup.json", json.dumps(about, indent=2).encode() + b"\n", 0o600)
    return summary


def restore(source: Path, data: Path) -> Summary:
    """Make the data folder ``data`` of a backup, all of it or nothing; nothing is ever overwritten.

    Raises:
        VerifyError: ``data`` is in use, or a file is not the one that was backed up.
        InputError: ``source`` is no backup that this program can read.
        StorageError: the disk refused.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise VerifyError(f"{data} is not empty: a restore overwrites nothing; name a new folder", "in-use")
    about = _about(source)
    if data.exists():
        data.rmdir()
    with _new_folder(data) as folder:
        for name, digest in about["files"].items():
            if not (source / name).is_file() or _sha256(source / name) != digest:
                raise VerifyError(f"{source / name} is not what was backed up: use another backup", "damaged")
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _copy_file(source / name, folder / name)
        if about["database"] == "sqlite":
            rows, _ = _content(folder / "fota.db")
            load = ""
        else:
            rows, load = about["rows"], _load(read_url(database_url(folder), data))
    return Summary(made_at=about["made_at"], has_keys=about["keys"], rows=rows, load=load)


def _about(source: Path) -> dict[str, Any]:
    if not (source / "backup.json").is_file():
        what = "there is no backup.json in it" if source.is_dir() else "there is no such folder"
        raise InputError(f"{source}: no backup of a server: {what}")
    try:
        about = json.loads(read_input(source / "backup.json", 64 << 20))
        form, files = about["format"], about["files"]
        schema, made_at, keys = about["schema"], about["made_at"], about["keys"]
        database, rows = about.setdefault("database", "sqlite"), about["rows"]
        typed = [type(item) for item in (schema, made_at, keys, files)] == [int, int, bool, dict]
        typed = typed and database in ("sqlite", "postgresql")
        typed = typed and all(type(rows[name]) is int for name in _COUNTS)
        datetime.fromtimestamp(made_at, UTC)
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as exc:
        raise _not_ours(source) from exc
    if not typed:
        raise _not_ours(source)
    if form != FORMAT or schema > SCHEMA_VERSION:
        raise InputError(f"{source} was made by a newer program: restore it with that one")
    whole = {"config.json"} | ({"fota.db"} if database == "sqlite" else set())
    if not whole <= files.keys() or any(not _NAMES.fullmatch(str(name)) for name in files):
        raise InputError(f"{source / 'backup.json'}: names a file that no backup has, or not all")
    return dict(about)


def _not_ours(source: Path) -> InputError:
    return InputError(f"{source / 'backup.json'}: not written by 'fota server backup'")


def _copy_database(source: Path, target: Path, name: str) -> None:
    """Copy one moment of ``source``; ``name``: what errors call the copy."""
    place = f"file:{quote(str(source.resolve()))}?mode=rw"
    with sqlite_told(source), closing(sqlite3.connect(place, uri=True, timeout=10)) as original:
        original.execute("SELECT count(*) FROM sqlite_master").fetchone()  # what is wrong with it shows here
        with sqlite_told(target, name), closing(sqlite3.connect(target, isolation_level=None)) as copy:
            original.backup(copy)  # no writer waits
            copy.execute("PRAGMA journal_mode = DELETE")
            copy.execute("DELETE FROM meta WHERE key = 'running'")
    target.chmod(0o600)


def _content(path: Path) -> tuple[dict[str, int], list[str]]:
    """Check a database; return the number of rows of what matters, and the artifacts that releases name."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            (word,) = connection.execute("PRAGMA integrity_check").fetchone()
            if word != "ok":
                raise VerifyError(f"the database is damaged: {word}", "damaged")
            rows = {
                name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608 - ours
                for name in _COUNTS
            }
            columns = [row[1] for row in connection.execute("PRAGMA table_info(releases)")]
            query = _DIGESTS if "pruned_at" in columns else _DIGESTS_OF_BEFORE
            digests = connection.execute(query).fetchall()
    except sqlite3.Error as exc:
        raise VerifyError(f"the database is damaged: {exc}", "damaged") from exc
    return rows, [digest for (digest,) in digests]


def _look_up(connection: Connection) -> tuple[dict[str, int], list[str]]:
    """As `_content`, of a database that is not copied."""
    require_current(connection)
    rows = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in _COUNTS}  # noqa: S608 - ours
    return rows, list(connection.execute(text(_DIGESTS)).scalars())


def _dump(url: URL) -> str:
    return f"pg_dump --format=custom --file=fota.dump {shlex.quote(_plain(url))}"


def _load(url: URL) -> str:
    return f"pg_restore --no-owner --exit-on-error --dbname={shlex.quote(_plain(url))} fota.dump"


def _plain(url: URL) -> str:
    """Return a URL as PostgreSQL's programs take it, and without what nobody is to read on a screen."""
    query = {name: value for name, value in url.query.items() if name != "password"}
    plain = url.set(drivername="postgresql", query=query)
    return URL.create(
        plain.drivername, plain.username, None, plain.host, plain.port, plain.database, plain.query
    ).render_as_string()


def _look_for(store: ArtifactStore, digests: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return which artifacts a bucket lacks, and what is said of the bucket: it is not copied."""
    said = f"{len(digests)} artifacts of {store.where}"
    try:
        return [digest for digest in digests if not store.has(digest)], (said,)
    except ArtifactsAway as exc:
        return [], (f"{said}, which were not looked for: {exc}",)


def _copy_artifacts(store: ArtifactStore, digests: list[str], folder: Path) -> list[str]:
    missing = []
    for digest in digests:
        try:
            content = store.read(digest)
        except VerifyError:
            missing.append(digest)
            continue
        place = folder / "artifacts" / digest[:2] / digest
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(place, content, 0o600)
    return missing


def _copy_keys(files: dict[str, Path], data: Path, folder: Path, with_keys: bool) -> tuple[str, ...]:
    """Copy the files that are the folder's own; return those that are somebody else's to back up."""
    outside = []
    for name, path in files.items():
        if (data / "keys").resolve() not in path.resolve().parents:
            outside.append(f"{name} {path}")
        elif with_keys or name not in SECRETS:
            (folder / "keys").mkdir(mode=0o700, exist_ok=True)
            _copy_file(path, folder / "keys" / path.name)
    return tuple(outside)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as original, target.open("xb") as copy:
        target.chmod(0o600)
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give a folder that becomes ``target`` at the end, or is gone; for one process at a time."""
    folder = target.with_name(f".{target.name}.unfinished")
    require_folder(target.parent)  # never made here: it may be a disk that is not there today
    try:
        with alone_at(target):
            shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
            try:
                if target.exists():
                    raise InputError(f"{target} exists already: name a new folder")
                folder.mkdir(mode=0o700)
                yield folder
                folder.rename(target)
                sync_folder(target.parent)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as exc:
        raise StorageError(f"cannot write {target}: {exc.strerror}") from exc
