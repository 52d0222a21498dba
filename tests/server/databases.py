"""The databases that the server is tried on: a SQLite file, and a PostgreSQL of our own, started by need.

A module that names ``DATABASES`` runs once on each of them. Tests say the path of the SQLite file; on
PostgreSQL it stands for a database of its own, which is made when it is asked for first.
"""

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lifeline import HANG_S, until

SQLITE, POSTGRESQL = "sqlite", "postgresql"
BOTH = (SQLITE, POSTGRESQL)
_FAST = (
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_wal_size=64MB",
    "min_wal_size=32MB",
    "dynamic_shared_memory_type=mmap",
)
"""Nobody cuts the power of a test's machine; what was committed outlives a server that is killed. What it
shares between processes lies in its own folder: from /dev/shm, systemd takes it away with any service that
the same user had.
"""

kind = SQLITE
"""The one in force."""
_postgres: "Postgres | None" = None


def program(name: str) -> str | None:
    """Return where a program of PostgreSQL is; Debian has most of them outside of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


class Postgres:
    """A server on a socket in a new folder, as an unprivileged user: it does not start as root.

    ``inside``: the folder that this one is made in.
    """

    def __init__(self, inside: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fota-pg-", dir=inside))
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        initdb = [
            str(program("initdb")),
            "-D",
            str(self.folder / "data"),
            "-U",
            "fota",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        self._run([*initdb, "--locale=C.UTF-8", "--auth=trust"])
        self.start()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, timeout=HANG_S, **self._as
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        settings = [
            f"-c{one}" for one in (*_FAST, "listen_addresses=", f"unix_socket_directories={self.folder}")
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(program("postgres")), "-D", str(self.folder / "data"), *settings],
                stdout=log, stderr=log, cwd=self.folder, **self._as,
            )  # fmt: skip
        until(self._answers, "PostgreSQL", self.process)

    def _answers(self) -> bool:
        command = [str(program("pg_isready")), "-q", "-h", str(self.folder), "-d", "postgres", "-U", "fota"]
        return subprocess.run(command, check=False).returncode == 0

    def fail_over(self) -> None:
        """Have it stop as `pg_ctl stop -m immediate` has it, and start again from what is on its disk."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        self.start()

    def use_up_log(self) -> bool:
        """Begin segments of its log until there is no room for one; return whether that was seen."""
        import psycopg

        for _ in range(32):
            try:
                with self.connect("postgres") as connection:
                    connection.execute("SELECT pg_logical_emit_message(true, 'full', 'x'), pg_switch_wal()")
            except psycopg.Error:
                return True
        return False

    def stand_up(self) -> None:
        """Start it again if it has ended by itself, as its service does."""
        until(lambda: self._answers() or self.process.poll() is not None, "PostgreSQL")
        if self.process.poll() is not None:
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
            self.start()

    def stop(self) -> None:
        """End it at once, as a machine ends."""
        self.process.kill()
        self.process.wait()
        for line in (self.folder / "data" / "postmaster.pid").read_text().splitlines()[:1]:
            assert int(line) == self.process.pid
        (self.folder / "data" / "postmaster.pid").unlink()

    def url(self, database: str) -> str:
        return f"postgresql://fota@/{database}?host={self.folder}"

    def connect(self, database: str) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.folder), user="fota", dbname=database, autocommit=True)

    def make(self, database: str) -> None:
        with self.connect("postgres") as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
            if not known:
                connection.execute(f'CREATE DATABASE "{database}"')


def why_no_postgresql() -> str | None:
    """Return why PostgreSQL cannot be tried here; None if it can."""
    missing = [name for name in ("initdb", "postgres", "pg_isready") if program(name) is None]
    return f"no PostgreSQL ({', '.join(missing)}): make oracles" if missing else None


def postgres(inside: Path | None = None) -> Postgres:
    """Return the server of this test run; the first time, it is made ``inside`` a folder."""
    global _postgres
    _postgres = _postgres or Postgres(inside)
    return _postgres


def end_postgres() -> None:
    global _postgres
    if _postgres is not None:
        _postgres.process.terminate()
        _postgres.process.wait()
        shutil.rmtree(_postgres.folder)
        _postgres = None


def name_of(path: Path) -> str:
    return "t" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:20]


def url_of(path: Path) -> str:
    """Return the URL of the database that ``path`` stands for, as config.json says it."""
    if kind == SQLITE:
        return f"sqlite:///{path.resolve()}"
    postgres().make(name_of(path))
    return postgres().url(name_of(path))


def is_open(path: Path) -> bool:
    """Return whether somebody has a database open, or had a SQLite file open that did not close it."""
    if kind == SQLITE:
        return path.with_name(f"{path.name}-wal").exists()
    with postgres().connect("postgres") as connection:
        asked = "SELECT 1 FROM pg_stat_activity WHERE datname = %s"
        return connection.execute(asked, (name_of(path),)).fetchone() is not None


class Beside:
    """A connection beside the server's; placeholders are question marks."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Any:
        return self._connection.execute(self._worded(sql), args)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.cursor().executemany(self._worded(sql), rows)

    def _worded(self, sql: str) -> str:
        return sql if kind == SQLITE else sql.replace("?", "%s")


@contextmanager
def beside(path: Path, how: str = "rw") -> Iterator[Beside]:
    """Open a database beside its server; what is done there stays."""
    if kind == SQLITE:
        with closing(sqlite3.connect(f"file:{path}?mode={how}", uri=True)) as connection, connection:
            yield Beside(connection)
    else:
        with postgres().connect(name_of(path)) as connection:
            yield Beside(connection)


def rows(path: Path, sql: str, *args: Any) -> list[dict[str, Any]]:
    """Return what a query finds."""
    with beside(path, "ro") as connection:
        found = connection.execute(sql, args)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
