"""A database that an earlier server made becomes one of today, whole, or stays what it was."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from server_world import Device, Keys, Server, fota
from sqlalchemy import Connection, text

from fota_server import migrations, tokens
from fota_server.database import Database, open_engine, sqlite_url
from fota_wire.errors import InputError

SCHEMA_1 = (Path(__file__).parent / "schema1.sql").read_text()
ADDED_WITHIN_SCHEMA_1 = ("release_keys", "retirements", "device_keys", "attestations", "telemetry")
ROWS = """
INSERT INTO tokens VALUES ('0123456789abcdef', 'ci', 'feed', 'operate', 1700000000, NULL);
INSERT INTO tokens VALUES ('fedcba9876543210', 'eyes', 'f00d', 'read', 1700000001, NULL);
INSERT INTO devices (id, admitted_by, revoked) VALUES ('012345678901234567', 'ci', 1);
INSERT INTO audit VALUES (1, 1700000000, 'server', 'token.create', 'ci', '{}');
"""


def old_database(path: Path, *, without: tuple[str, ...] = ()) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1 + ROWS)
    for table in without:
        connection.execute(f"DROP TABLE {table}")
    connection.commit()
    connection.close()
    return path


def bring_up_to_date(path: Path) -> bool:
    database = Database(open_engine(sqlite_url(path)))
    try:
        return database.bring_up_to_date()
    finally:
        database.close()


def shape(path: Path) -> dict[str, Any]:
    """Return all that a database is but its rows; the order of columns does not count."""
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'trigger')")
    found: dict[str, Any] = {f"{kind} {name}": None for kind, name in names}
    for key in list(found):
        kind, table = key.split()
        if kind == "table":
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            indexes = connection.execute(f"PRAGMA index_list({table})").fetchall()
            covers = [
                (index[2], [row[2] for row in connection.execute(f"PRAGMA index_info({index[1]})")])
                for index in indexes
            ]
            found[key] = sorted(column[1:] for column in columns), sorted(covers)
    connection.close()
    return found


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
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name, role, expires_at FROM tokens ORDER BY name").fetchall() == [
        ("ci", "admin", None),  # it may what it could
        ("eyes", "viewer", None),
    ]
    assert connection.execute("SELECT id, revoked FROM devices").fetchall() == [("012345678901234567", 1)]
    assert connection.execute("SELECT id, subject FROM audit").fetchall()[0] == (1, "ci")
    connection.close()


def test_failures_that_a_number_forgave_are_forgiven(tmp_path: Path) -> None:
    path = tmp_path / "fota.db"
    bring_up_to_date(path)
    before = shape(path)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE waves ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0")
    step = migrations.STEPS.index(migrations._forgiven) + 1
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (step,))
    connection.execute("INSERT INTO waves VALUES (1, 1, 'rest', 3, 9, 'open', 0, 1)")
    targets = [(1, "reverted"), (2, "confirmed"), (3, "trial")]
    rows = [(rollout, f"{n}", state) for rollout in (1, 2) for n, state in targets]
    insert = (
        "INSERT INTO targets (rollout_id, device_id, state, release_id, updated_at) VALUES (?, ?, ?, 1, 0)"
    )
    connection.executemany(insert, rows)
    connection.commit()
    connection.close()
    bring_up_to_date(path)
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT rollout_id, device_id FROM targets WHERE forgiven").fetchall()
    connection.close()
    assert (found, shape(path)) == ([(1, "1")], before)


def test_step_that_fails_leaves_the_earlier_schema_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_database(tmp_path / "old.db")

    def halfway(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE groups ADD COLUMN half INTEGER"))
        connection.execute(text("DELETE FROM tokens"))
        raise RuntimeError("power")

    before = shape(path)
    monkeypatch.setattr(migrations, "STEPS", (halfway, *migrations.STEPS[1:]))
    with pytest.raises(RuntimeError):
        bring_up_to_date(path)
    assert shape(path) == before
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("found", [str(migrations.SCHEMA_VERSION + 1), "0", "-1", "x", "9" * 40])
def test_schema_that_this_server_does_not_know_is_refused_untouched(tmp_path: Path, found: str) -> None:
    path = tmp_path / "new.db"
    bring_up_to_date(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (found,))
    connection.commit()
    with pytest.raises(InputError, match="used by a newer server"):
        bring_up_to_date(path)
    assert connection.execute("SELECT value FROM meta").fetchall() == [(found,)]
    connection.close()


def test_server_starts_on_the_database_of_the_first_one(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init()
    old_database(own.data / "fota.db")
    (own.data / "operator.token").write_text("none was made: the database has tokens\n")
    own.start()
    try:
        device = Device(own)
        device.check_in()
        assert own.rows("SELECT value FROM meta WHERE key = 'schema'") == [
            {"value": str(migrations.SCHEMA_VERSION)}
        ]
    finally:
        own.stop()


def test_commands_beside_the_server_do_not_change_an_old_database(tmp_path: Path) -> None:
    path = old_database(tmp_path / "old.db")

    def work(connection: Connection) -> None:
        migrations.require_current(connection)
        tokens.list_tokens(connection)

    database = Database(open_engine(sqlite_url(path)))
    with pytest.raises(InputError, match="start the server once"):
        database.transact(work)
    database.close()
    assert "expires_at" not in str(shape(path))


def test_migrate_brings_an_old_database_forward_and_a_second_time_changes_nothing(
    keys: Keys, tmp_path: Path
) -> None:
    own = Server(keys, tmp_path / "data").init()
    path = old_database(own.data / "fota.db")
    said = f"the database of {own.data} has schema {migrations.SCHEMA_VERSION}\n"
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
