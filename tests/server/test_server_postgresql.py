"""A server on PostgreSQL: replicas side by side, a database that goes and comes back, and no secret told."""

import asyncio
import json
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databases
import pytest
from databases import POSTGRESQL, postgres
from lifeline import until
from server_world import Built, Device, Keys, Refused, Server, fota
from sqlalchemy import Connection, select
from test_server_webhooks import Receiver

from fota_server import backup, changes, postgresql, rollouts, schema, tokens, webhooks
from fota_server.database import Database, DatabaseUnavailable, now, open_engine, read_url
from fota_server.postgresql import WEBHOOK_LOCK
from fota_server.webhook_work import Sender
from fota_wire.errors import StorageError

DATABASES = (POSTGRESQL,)


@pytest.fixture
def own(keys: Keys, tmp_path: Path, releases: dict[str, Built]) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    for built in releases.values():
        assert server.publish(built)[0] == 201
    yield server
    code, stderr = server.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr


@pytest.fixture
def twin(own: Server, tmp_path: Path) -> Iterator[Server]:
    """A second server on the same database."""
    server = Server(own.keys, tmp_path / "twin").init()
    server.configure(database_url=json.loads((own.data / "config.json").read_text())["database_url"])
    (server.data / "operator.token").write_text(own.token)
    server.start()
    yield server
    if server.process and server.process.returncode is None:
        code, stderr = server.stop()
        assert (code, "Traceback" in stderr) == (0, False), stderr


def at(device: Device, server: Server) -> Device:
    device.close()
    device.server = server
    return device


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(open_engine(read_url(databases.url_of(tmp_path / "x.db"), tmp_path)))
    made.bring_up_to_date()
    yield made
    made.close()


# -- upkeep --------------------------------------------------------------------------------------------------


def test_check_looks_over_a_database_that_it_cannot_copy(own: Server) -> None:
    done = fota("server", "doctor", "--data", str(own.data))
    assert done.returncode == 0, done.stderr
    assert ", PostgreSQL 1" in done.stdout
    assert "audit trail   whole, head 4 " in done.stdout
    assert "artifacts     3 releases" in done.stdout
    with databases.beside(own.data / "fota.db") as connection:
        connection.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE id = 2")
    lost = next(path for path in (own.data / "artifacts").glob("??/*") if path.is_file())
    lost.unlink()
    done = fota("server", "doctor", "--data", str(own.data))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "row 2 was altered" in done.stderr
    assert f"no artifact {lost.name}" in done.stderr


def test_backup_and_the_dump_that_it_names_are_a_server_again(
    own: Server, releases: dict[str, Built], tmp_path: Path
) -> None:
    retired, device = Device(own), Device(own)
    retired.check_in()
    device.check_in()
    assert own.api("POST", f"devices/{retired.id}/retire", {"reason": "lost"})[0] == 200
    retired.close()
    done = fota("server", "backup", str(tmp_path / "first"), "--data", str(own.data), "--json")
    said = json.loads(done.stdout)
    assert (said["rows"]["devices"], said["rows"]["retirements"], said["missing"]) == (2, 1, [])
    run_for_database(said["dump"], tmp_path)
    done = fota("server", "backup", str(tmp_path / "copy"), "--data", str(own.data))
    assert done.returncode == 0, done.stderr
    assert "2 devices (1 retired), 3 releases" in done.stdout
    assert f"a dump belongs to it that is made before it: {said['dump']}" in done.stdout
    assert not (tmp_path / "copy" / "fota.db").exists()
    device.close()
    own.stop(signal.SIGKILL)
    own.process = None
    name = databases.name_of(own.data / "fota.db")
    with postgres().connect("postgres") as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    postgres().make(name)

    token = own.token
    done = fota("server", "restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert f"comes from a dump, into an empty one, before the server starts: {said['load']}" in done.stdout
    run_for_database(said["load"], tmp_path)
    own.data = tmp_path / "new"
    (own.data / "operator.token").write_text(token)  # a backup has no token in it
    own.start()
    with pytest.raises(Refused):
        retired.check_in()
    assert device.check_in() is not None
    assert fota("server", "doctor", "--data", str(own.data)).returncode == 0
    for built in releases.values():
        assert own.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 200


def run_for_database(command: str, folder: Path) -> None:
    words = shlex.split(command)
    words[0] = databases.program(words[0]) or words[0]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_backup_prints_of_a_database_has_no_password(tmp_path: Path) -> None:
    for url in (
        "postgresql://fota:word@db/fota",
        "postgresql://fota@db/fota?password=word&sslmode=verify-full",
    ):
        for text in (backup._dump(read_url(url, tmp_path)), backup._load(read_url(url, tmp_path))):
            assert "word" not in text
            assert "postgresql://fota@db/fota" in text
    assert "sslmode=verify-full" in text


# -- replicas ------------------------------------------------------------------------------------------------


def test_devices_and_operators_may_speak_to_either_server(
    own: Server, twin: Server, releases: dict[str, Built]
) -> None:
    device = Device(own)
    device.check_in()
    status, started = twin.api("POST", "rollouts", {"version": "1.1.0", "device": device.id})
    assert status == 201, started
    answer = at(device, twin).check_in()
    assert answer.wanted == releases["1.1.0"].manifest_digest
    assert answer.response.report_status == "accepted", "the nonce that the other server gave"
    assert own.api("GET", f"rollouts/{started['id']}")[1]["progress"]["offered"] == 1


def test_what_one_server_retires_the_other_hangs_up_on(own: Server, twin: Server) -> None:
    device = Device(twin)
    device.check_in()
    assert own.api("POST", f"devices/{device.id}/retire", {})[0] == 200
    with pytest.raises((OSError, Refused)):
        device.check_in()

    def gone() -> bool:
        device.close()
        try:
            device.check_in()
        except Refused:
            return "retired" in (own.api("GET", f"devices/{device.id}")[1]["status"],)
        except OSError:
            return True
        return False

    assert until(gone)


def test_root_that_one_server_takes_is_told_to_devices_by_the_other(
    own: Server, twin: Server, keys: Keys
) -> None:
    device = Device(twin)
    device.check_in()
    assert own.api("POST", "roots?force=1", raw=keys.root_document(2))[0] == 201
    until(lambda: twin.api("GET", "roots")[1]["version"] == 2)
    assert len(device.check_in().response.roots) == 1


def test_order_of_a_server_that_dies_is_finished_by_another(own: Server, twin: Server) -> None:
    size = 3000
    with databases.beside(own.data / "fota.db") as connection:
        ids = [f"0123{number:014x}" for number in range(size)]
        connection.executemany(
            "INSERT INTO devices (id, admitted_by, revoked) VALUES (?, 'x', false)", [(i,) for i in ids]
        )
        connection.execute("INSERT INTO groups (name, created_at) VALUES ('all', 0)")
        connection.executemany("INSERT INTO members VALUES ('all', ?)", [(one,) for one in ids])
    status, started = twin.api("POST", "rollouts", {"version": "1.1.0", "group": "all"})
    assert (status, started["status"]) == (202, "planning")
    twin.stop(signal.SIGKILL)
    until(lambda: own.api("GET", f"rollouts/{started['id']}")[1]["status"] == "running")
    shown = own.api("GET", f"rollouts/{started['id']}")[1]
    assert (shown["total"], shown["not_covered"]) == (size, 0)
    assert own.rows("SELECT count(*) AS n FROM targets") == [{"n": size}], "no device twice"


def test_two_servers_write_in_turn(database: Database) -> None:
    """Who reads before it writes has read what all before it have written: a sum of thirds comes out."""
    other = Database(open_engine(database.url))
    database.transact(lambda c: c.execute(schema.meta.insert().values(key="sum", value="0")))

    def add(connection: Connection) -> None:
        row = schema.meta.c.key == "sum"
        before = int(connection.execute(select(schema.meta.c.value).where(row)).scalar_one())
        connection.execute(schema.meta.update().where(row).values(value=str(before + 1)))

    def many(which: Database) -> None:
        for _ in range(40):
            which.transact(add)

    threads = [threading.Thread(target=many, args=(one,)) for one in (database, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    (total,) = database.transact(
        lambda c: c.execute(select(schema.meta.c.value).where(schema.meta.c.key == "sum")).scalars().all()
    )
    assert total == "80"


@pytest.mark.parametrize("apart", [-postgresql.CLOCK_S - 2, postgresql.CLOCK_S + 2])
def test_server_whose_clock_is_wrong_writes_nothing_and_reads(
    database: Database, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    database.transact(changes.note, "a.b", "before", None)
    monkeypatch.setattr(postgresql, "now", lambda: now() + apart)
    with pytest.raises(StorageError, match=r"s (ahead of|behind) the database's: nothing is written") as told:
        database.transact(changes.note, "a.b", "wrong", None)
    assert told.value.code == "clock"
    assert asyncio.run(database.read(changes.newest)) == 1
    monkeypatch.undo()
    database.transact(changes.note, "a.b", "after", None)
    assert asyncio.run(database.read(changes.newest)) == 2


def test_server_that_begins_beside_another_finds_the_tables_made(database: Database) -> None:
    again = Database(open_engine(database.url))
    assert again.bring_up_to_date() is False
    again.close()


def test_one_server_of_a_database_tells_webhooks_and_another_once_its_connection_is_gone(
    database: Database, tmp_path: Path
) -> None:
    receiver = Receiver()
    first, second = (Sender(one, now) for one in (database, Database(open_engine(database.url))))
    database.transact(webhooks.add, "x", receiver.url, ["a."], None, "admin")

    async def round_of(sender: Sender, subject: str) -> int:
        await database.write(changes.note, "a.b", subject, None)
        begun = await sender.begin()
        await asyncio.gather(*begun)
        return len(begun)

    async def work() -> None:
        assert [await round_of(one, "1") for one in (first, second)] == [1, 0]
        assert [await round_of(one, "2") for one in (second, first)] == [0, 1]
        with postgres().connect("postgres") as connection:  # as PostgreSQL finds it when a process is killed
            holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
            (pid,) = connection.execute(holder, (WEBHOOK_LOCK,)).fetchone()
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        assert await round_of(second, "3") == 1
        with pytest.raises(DatabaseUnavailable):
            await first.begin()
        assert [await round_of(one, "4") for one in (first, second)] == [0, 1]
        second.stop()
        assert await round_of(first, "5") == 1

    try:
        asyncio.run(work())
    finally:
        for sender in (first, second):
            sender.stop()
        second._database.close()
        receiver.close()
    assert "".join(receiver.subjects()) == "11223445", "each once, in order"


# -- a database that goes ------------------------------------------------------------------------------------


def test_database_that_stops_is_503_and_serves_again_once_it_is_back(own: Server) -> None:
    device = Device(own)
    device.check_in()
    postgres().stop()
    try:
        with pytest.raises(Refused) as refused:
            device.check_in()
        assert refused.value.args[0] == 503
        status, answer = own.api("GET", "devices")
        assert status == 503, answer
        assert "Traceback" not in json.dumps(answer)
        assert "\n" not in answer["error"]["message"]
    finally:
        postgres().start()
    device.close()
    assert device.check_in().response.report_status == "accepted"


@pytest.mark.parametrize("table", ["audit", "retirements"])
@pytest.mark.parametrize("verb", ["DELETE FROM {}", "UPDATE {} SET at = 0", "TRUNCATE {} CASCADE"])
def test_what_is_append_only_is_so_for_everybody(
    tmp_path: Path, database: Database, table: str, verb: str
) -> None:
    with (
        databases.beside(tmp_path / "x.db") as connection,
        pytest.raises(Exception, match=f"{table} is append-only"),
    ):
        connection.execute(verb.format(table))


# -- what it cannot hold, or must not tell -------------------------------------------------------------------


def test_text_with_nul_is_stored_without_it(database: Database) -> None:
    def work(connection: Connection) -> list[Any]:
        connection.execute(schema.groups.insert().values(name="a\0b", created_at=0))
        return list(connection.execute(select(schema.groups.c.name)).scalars())

    assert database.transact(work) == ["a\ufffdb"]


def test_numbers_of_32_bits_fit_whole(database: Database) -> None:
    top = (1 << 32) - 1

    def work(connection: Connection) -> Any:
        connection.execute(schema.roots.insert().values(version=top, raw=b"", added_at=top))
        return connection.execute(select(schema.roots.c.version, schema.roots.c.added_at)).one()

    assert tuple(database.transact(work)) == (top, top)


def test_names_are_in_the_order_of_their_bytes(database: Database) -> None:
    async def work() -> list[str]:
        for name in ("b", "A", "a", "B", "_"):
            await database.write(tokens.create_token, name, "viewer", "tester")
        query = select(schema.tokens.c.name).order_by(schema.tokens.c.name)
        return list(await database.read(lambda c: c.execute(query).scalars().all()))

    assert asyncio.run(work()) == ["A", "B", "_", "a", "b"]


SECRET = "s3cr3t-0f-th3-d4t4b4s3"


def test_password_is_never_told(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init()
    url = f"postgresql://fota:{SECRET}@127.0.0.1:1/fota"
    own.configure(database_url=url)
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert "database fota of 127.0.0.1" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    (own.data / "config.json").chmod(0o644)
    done = fota("server", "run", "--data", str(own.data), "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "chmod 600" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("form", ["postgresql://u:{}@h/d", "postgresql://u@h/d?password={}"])
@pytest.mark.parametrize("command", ["init", "run"])
def test_password_in_an_argument_is_refused(tmp_path: Path, form: str, command: str) -> None:
    url = form.format(SECRET)
    done = fota("server", command, "--data", str(tmp_path / "data"), "--database-url", url)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "PGPASSFILE" in done.stderr
    assert SECRET not in done.stderr
    assert not (tmp_path / "data").exists()


def test_commands_beside_the_server_work(own: Server, tmp_path: Path) -> None:
    out = tmp_path / "token"
    done = fota("server", "token", "create", "ci", "--role", "admin", "--data", str(own.data), "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert own.api("GET", "devices", token=out.read_text().strip())[0] == 200
    assert "token.create" in fota("server", "audit", "--data", str(own.data)).stdout


def test_driver_error_names_the_database_in_one_line(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"^database t[0-9a-f]{20} of this machine: ") as told:
        database.transact(lambda c: c.exec_driver_sql("SELECT 1 / 0"))
    assert "\n" not in str(told.value)
    assert "SELECT" not in str(told.value)
    assert database.transact(rollouts.list_all, None, 10) == []
