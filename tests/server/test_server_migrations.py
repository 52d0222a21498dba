"""A database that an earlier server made becomes one of today, whole, or stays what it was."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import databases
import pytest
from databases import BOTH, SQLITE, beside, rows, url_of
from lifeline import HANG_S
from server_world import Device, Keys, Server, fota
from sqlalchemy import Connection, Engine, event, inspect

from fota_server import migrations, schema, tokens
from fota_server.database import Database, open_engine, read_url
from fota_server.migrations import SCHEMA_VERSION
from fota_wire.errors import InputError

DATABASES = BOTH
FIRST = {"sqlite": (1, "schema1.sql"), "postgresql": (7, "schema7_postgresql.sql")}
"""What the first server on each of them made."""
ADDED_WITHIN_SCHEMA_1 = ("release_keys", "retirements", "device_keys", "attestations", "telemetry")
ROWS = (
    "INSERT INTO tokens (id, name, secret_hash, role, created_at)"
    " VALUES ('0123456789abcdef', 'ci', 'feed', 'operate', 1700000000)",
    "INSERT INTO tokens (id, name, secret_hash, role, created_at)"
    " VALUES ('fedcba9876543210', 'eyes', 'f00d', 'read', 1700000001)",
    "INSERT INTO devices (id, admitted_by, revoked) VALUES ('012345678901234567', 'ci', (1 = 1))",
    "INSERT INTO audit (id, at, actor, action, subject, detail)"
    " VALUES (1, 1700000000, 'server', 'token.create', 'ci', '{}')",
)


def old_database(path: Path, *, without: tuple[str, ...] = (), rows: tuple[str, ...] = ROWS) -> Path:
    script = (Path(__file__).parent / FIRST[databases.kind][1]).read_text()
    if databases.kind == SQLITE:
        path.touch()
    url_of(path)
    with beside(path) as connection:
        if databases.kind == SQLITE:
            connection._connection.executescript(script)
        else:
            connection._connection.execute(script)
        for sql in (*rows, *(f"DROP TABLE {table}" for table in without)):
            connection.execute(sql)
    return path


@contextmanager
def engine_of(path: Path) -> Iterator[Engine]:
    engine = open_engine(read_url(url_of(path), path.parent))
    try:
        yield engine
    finally:
        engine.dispose()


def bring_up_to_date(path: Path, stop_at: int = 0) -> bool:
    """``stop_at``: the machine ends before this statement that writes, counted from 1."""
    with engine_of(path) as engine:
        if stop_at:
            done = count(1)

            @event.listens_for(engine, "before_cursor_execute")
            def _(_connection: object, _cursor: object, statement: str, *_: object) -> None:
                reads = statement.lstrip().upper().startswith(("SELECT", "PRAGMA"))
                if not reads and next(done) == stop_at:
                    raise Cut

        database = Database(engine)
        try:
            return database.bring_up_to_date()
        finally:
            database.close()


class Cut(Exception):
    """The power is gone."""


def shape(path: Path) -> dict[str, Any]:
    """Return all that a database is but its rows; the order of columns does not count."""
    with engine_of(path) as engine:
        look = inspect(engine)
        found: dict[str, Any] = {
            table: (
                sorted(
                    (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(table)
                ),
                look.get_pk_constraint(table)["constrained_columns"],
                sorted(
                    (i["name"], i["column_names"], i["unique"], _where(i)) for i in look.get_indexes(table)
                ),
                sorted(u["column_names"] for u in look.get_unique_constraints(table)),
            )
            for table in look.get_table_names()
        }
    triggers = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1",
        "postgresql": "SELECT tgname AS name FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    }
    return found | {"triggers": [row["name"] for row in rows(path, triggers[databases.kind])]}


def _where(index: Any) -> str:
    return " ".join(str(value) for value in index.get("dialect_options", {}).values())


def version(path: Path) -> Any:
    with engine_of(path) as engine, engine.begin() as connection:
        return migrations.version_of(connection)


def test_revisions_are_numbered_one_after_the_other() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "fota_server:migrations")
    found = ScriptDirectory.from_config(config)
    names = [one.revision for one in found.walk_revisions()]
    assert names == [f"{number:04}" for number in range(SCHEMA_VERSION, 0, -1)]


@pytest.mark.parametrize("old", [False, True])
def test_alembic_finds_nothing_to_do_on_a_database_of_today(tmp_path: Path, old: bool) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    path = old_database(tmp_path / "a.db") if old else tmp_path / "a.db"
    bring_up_to_date(path)
    with engine_of(path) as engine, engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_heads() == (f"{SCHEMA_VERSION:04}",)
        assert compare_metadata(context, schema.metadata) == []


def test_database_of_today_loads_no_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from fota_server.database import Database, open_engine, read_url\n"
        "for _ in range(2):\n"
        "    d = Database(open_engine(read_url(sys.argv[1], Path()))); d.bring_up_to_date(); d.close()\n"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, url_of(tmp_path / "a.db")],
        capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("without", [(), ADDED_WITHIN_SCHEMA_1])
def test_database_of_the_first_server_gets_the_shape_of_a_new_one(
    tmp_path: Path, without: tuple[str, ...]
) -> None:
    new, old = tmp_path / "new.db", old_database(tmp_path / "old.db", without=without)
    assert bring_up_to_date(new)
    assert not bring_up_to_date(old)
    assert shape(old) == shape(new)
    assert not bring_up_to_date(old), "and stays so"


def test_rows_of_the_first_server_are_kept(tmp_path: Path) -> None:
    path = old_database(tmp_path / "old.db")
    bring_up_to_date(path)
    roles = {"sqlite": ("admin", "viewer"), "postgresql": ("operate", "read")}[databases.kind]
    assert [
        (r["name"], r["role"], r["expires_at"]) for r in rows(path, "SELECT * FROM tokens ORDER BY name")
    ] == [
        ("ci", roles[0], None),  # it may what it could; on PostgreSQL there were no such roles any more
        ("eyes", roles[1], None),
    ]
    assert [(r["id"], r["revoked"]) for r in rows(path, "SELECT * FROM devices")] == [
        ("012345678901234567", 1)
    ]
    assert rows(path, "SELECT id, subject FROM audit")[0] == {"id": 1, "subject": "ci"}


def test_failures_that_a_number_forgave_are_forgiven(tmp_path: Path) -> None:
    path = old_database(tmp_path / "fota.db")
    bring_up_to_date(path)
    before = shape(path)
    with beside(path) as connection:
        connection.execute("ALTER TABLE waves ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0")
        connection.execute("UPDATE alembic_version SET version_num = '0008'")
        for rollout in (1, 2):
            connection.execute(
                "INSERT INTO rollouts (id, kind, scope, paused, created_at, created_by)"
                " VALUES (?, 'update', 'group:a', (1 = 0), 0, 'ci')",
                (rollout,),
            )
        connection.execute(
            "INSERT INTO releases (id, version, vendor_id, class_id, sequence, manifest_digest, file_digest,"
            " file_size, image_hash, sec_cnt, envelope, published_at, published_by)"
            " VALUES (1, '1', '', '', 1, '', '', 1, '', 1, '', 0, 'ci')"
        )
        connection.execute("INSERT INTO waves VALUES (1, 1, 'rest', 3, 9, 'open', 0, 1)")
        for number, state in enumerate(("reverted", "confirmed", "trial")):
            device = f"{number:018}"
            connection.execute(
                "INSERT INTO devices (id, admitted_by, revoked) VALUES (?, 'ci', (1 = 0))", (device,)
            )
            connection.executemany(
                "INSERT INTO targets (rollout_id, device_id, state, release_id, updated_at)"
                " VALUES (?, ?, ?, 1, 0)",
                [(rollout, device, state) for rollout in (1, 2)],
            )
    bring_up_to_date(path)
    found = rows(path, "SELECT rollout_id, device_id FROM targets WHERE forgiven")
    assert (found, shape(path)) == ([{"rollout_id": 1, "device_id": "0" * 18}], before)


def test_migration_cut_at_any_statement_leaves_an_earlier_schema_whole_and_goes_on(tmp_path: Path) -> None:
    """Each start ends one statement later than the one before, and goes on from where that one came."""
    path = old_database(tmp_path / "old.db")
    shapes, seen = {version(path): shape(path)}, [version(path)]
    for stop_at in count(1):
        try:
            bring_up_to_date(path, stop_at)
        except Cut:
            seen.append(version(path))
            assert shapes.setdefault(seen[-1], shape(path)) == shape(path), (stop_at, seen)
        else:
            break
    assert seen == sorted(seen)
    assert seen[0] == FIRST[databases.kind][0]
    assert version(path) == SCHEMA_VERSION
    bring_up_to_date(tmp_path / "new.db")
    assert shape(path) == shape(tmp_path / "new.db")
    assert rows(path, "SELECT count(*) AS n FROM tokens") == [{"n": 2}]


@pytest.mark.parametrize("found", [f"{SCHEMA_VERSION + 1:04}", "0", "-1", "x", "9" * 32])
def test_schema_that_this_server_does_not_know_is_refused_untouched(tmp_path: Path, found: str) -> None:
    path = tmp_path / "new.db"
    bring_up_to_date(path)
    with beside(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (found,))
    with pytest.raises(InputError, match="used by a newer server"):
        bring_up_to_date(path)
    assert rows(path, "SELECT version_num FROM alembic_version") == [{"version_num": found}]


def test_servers_from_before_alembic_find_no_number_of_theirs(tmp_path: Path) -> None:
    """They refuse what is none by name, as of a newer server; where there is no row, they would make one."""
    for path in (tmp_path / "new.db", old_database(tmp_path / "old.db")):
        bring_up_to_date(path)
        assert rows(path, "SELECT value FROM meta WHERE key = 'schema'") == [{"value": "alembic"}]


def test_server_starts_on_the_database_of_the_first_one(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init()
    old_database(own.data / "fota.db")
    (own.data / "operator.token").write_text("none was made: the database has tokens\n")
    own.start()
    try:
        device = Device(own)
        device.check_in()
        assert own.rows("SELECT version_num FROM alembic_version") == [
            {"version_num": f"{SCHEMA_VERSION:04}"}
        ]
    finally:
        own.stop()


def test_commands_beside_the_server_do_not_change_an_old_database(tmp_path: Path) -> None:
    path = old_database(tmp_path / "old.db")

    def work(connection: Connection) -> None:
        migrations.require_current(connection)
        tokens.list_tokens(connection)

    before = shape(path)
    with engine_of(path) as engine:
        database = Database(engine)
        with pytest.raises(InputError, match="start the server once"):
            database.transact(work)
        database.close()
    assert (shape(path), version(path)) == (before, FIRST[databases.kind][0])


def test_migrate_brings_an_old_database_forward_and_a_second_time_changes_nothing(
    keys: Keys, tmp_path: Path
) -> None:
    own = Server(keys, tmp_path / "data").init()
    path = old_database(own.data / "fota.db")
    said = f"the database of {own.data} has schema {SCHEMA_VERSION}\n"
    for _ in range(2):
        done = fota("server", "migrate", "--data", str(own.data))
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    bring_up_to_date(tmp_path / "new.db")
    assert shape(path) == shape(tmp_path / "new.db")


def test_migrate_leaves_a_server_that_runs_alone(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init().start()
    done = fota("server", "migrate", "--data", str(own.data))
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "in use by another server" in done.stderr
    assert own.stop()[0] == 0
