"""Transactions: whole or not at all, writers in turn, readers beside them, never on the event loop."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import BOTH, rows, url_of
from lifeline import HANG_S
from server_world import fota
from sqlalchemy import Connection, func, insert, select, text

from fota_server import schema
from fota_server.database import Database, DatabaseUnavailable, open_engine, read_url
from fota_wire.errors import InputError

DATABASES = BOTH
FAILED = r"^(fota\.db: .*no such table|database t[0-9a-f]+ of this machine: relation .* does not exist)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(open_engine(read_url(url_of(tmp_path / "fota.db"), tmp_path)))
    made.bring_up_to_date()
    yield made
    made.close()


def add(connection: Connection, name: str) -> None:
    connection.execute(insert(schema.groups).values(name=name, created_at=0))


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(schema.groups.c.name).order_by(schema.groups.c.name)).scalars())


def test_exception_takes_back_all_that_was_written(database: Database) -> None:
    def work(connection: Connection) -> None:
        add(connection, "half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        asyncio.run(database.write(work))
    assert asyncio.run(database.read(names)) == []


@pytest.mark.parametrize("way", ["read", "write"])
def test_failure_of_the_driver_is_one_line_that_names_the_file(database: Database, way: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=FAILED) as told:
        asyncio.run(getattr(database, way)(lambda connection: connection.execute(text("SELECT * FROM x"))))
    assert "\n" not in str(told.value)


def test_transaction_that_only_reads_writes_nothing(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"read-?only"):
        asyncio.run(database.read(add, "no"))
    assert asyncio.run(database.read(names)) == []


def test_writers_take_turns_as_they_came_and_readers_go_on(database: Database) -> None:
    hold, begun, order = threading.Event(), threading.Event(), []

    def first(connection: Connection) -> None:
        add(connection, "first")
        begun.set()
        assert hold.wait(HANG_S)
        order.append("first")

    def later(connection: Connection, name: str) -> None:
        order.append(name)
        add(connection, name)

    async def work() -> None:
        writes = [asyncio.ensure_future(database.write(first))]
        while not begun.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        writes += [asyncio.ensure_future(database.write(later, f"later {n}")) for n in range(5)]
        for _ in range(20):
            assert await database.read(names) == [], "what is not committed is not seen, and nobody waits"
        assert order == []
        hold.set()
        await asyncio.gather(*writes)

    asyncio.run(work())
    assert order == ["first", *(f"later {n}" for n in range(5))]


def test_write_whose_caller_is_gone_runs_to_its_end(database: Database) -> None:
    hold, begun = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        begun.set()
        assert hold.wait(HANG_S)
        add(connection, "whole")

    async def work() -> None:
        task = asyncio.ensure_future(database.write(slow))
        while not begun.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.set()
        assert await database.write(names) == ["whole"], "the next one sees it"

    asyncio.run(work())


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "is no URL"),
        ("x", "is no URL"),
        ("sqlite:", "is no URL"),
        ("sqlite://", "names sqlite, which is not served"),
        ("sqlite:///a%00b", "is no URL"),
        ("sqlite:////srv/fota.db?mode=ro", "'?mode=ro' means nothing"),
        ("mysql://h/d", "names mysql, which is not served"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/a%00b", "is no URL"),
        ("postgresql://h:99999/d", "port 99999"),
        ("postgresql://h:0/d", "port 0"),
        ("postgresql://[::1/d", "is no URL"),
    ],
)
def test_url_of_no_database_is_refused_where_it_is_typed(tmp_path: Path, url: str, says: str) -> None:
    """`server init` took what `server run` then refused."""
    with pytest.raises(InputError, match=re.escape(says)):
        read_url(url, tmp_path)
    done = fota("server", "init", "--data", str(tmp_path / "data"), "--database-url", url)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert says in done.stderr
    assert not (tmp_path / "data").exists()


def test_closing_waits_for_what_is_under_way(database: Database, tmp_path: Path) -> None:
    begun = threading.Event()

    def slow(connection: Connection) -> None:
        begun.set()
        for number in range(200):
            add(connection, f"g{number:03}")

    async def work() -> None:
        task = asyncio.ensure_future(database.write(slow))
        while not begun.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(work())
    database.close()
    assert rows(tmp_path / "fota.db", "SELECT count(*) AS n FROM groups") == [{"n": 200}]


def test_event_loop_is_free_while_a_transaction_works(database: Database) -> None:
    loop_thread = threading.get_ident()

    async def work() -> None:
        for way in (database.read, database.write):
            assert await way(lambda _connection: threading.get_ident()) != loop_thread

    asyncio.run(work())
    assert database.transact(lambda _connection: threading.get_ident()) == loop_thread
    assert (
        database.transact(lambda c: c.execute(select(func.count()).select_from(schema.groups)).scalar()) == 0
    )
