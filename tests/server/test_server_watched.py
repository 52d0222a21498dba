"""PostgreSQL asked from the event loop: what the driver would have said, whatever happens to a connection."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databases
import pytest
from databases import POSTGRESQL
from fleet_world import Fleet, device_id
from lifeline import until
from server_world import Keys
from sqlalchemy import Boolean, Integer, LargeBinary, String, bindparam, func, literal, select

from fota_server import judging
from fota_server.database import DatabaseUnavailable
from fota_server.quick import Reader, Statement, open_reader

DATABASES = (POSTGRESQL,)
MANY = 200

KINDS = Statement(
    select(
        bindparam("text", type_=String).label("text"),
        bindparam("number", type_=Integer).label("number"),
        bindparam("truth", type_=Boolean).label("truth"),
        bindparam("raw", type_=LargeBinary).label("raw"),
        literal("100 %").label("constant"),
        bindparam("text", type_=String).label("again"),
    )
)
WAIT = Statement(select(func.pg_sleep(bindparam("seconds", type_=Integer)).label("slept")))
DIVIDE = Statement(select((10 / bindparam("by", type_=Integer)).label("found")))
WHO = Statement(select(func.pg_backend_pid().label("pid")))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "fota.db"


@pytest.fixture
def fleet(keys: Keys, place: Path) -> Iterator[Fleet]:
    fleet = Fleet(place, keys)
    fleet.fill(MANY)
    yield fleet
    fleet.database.close()


def asked(fleet: Fleet, work: Any) -> Any:
    async def run() -> Any:
        reader = open_reader(fleet.database)
        try:
            return await work(reader)
        finally:
            reader.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "values",
    [
        {"text": "%s $1 %(text)s ' \\", "number": -5, "truth": True, "raw": bytes(range(256))},
        {"text": "", "number": 1 << 30, "truth": False, "raw": b""},
        {"text": None, "number": None, "truth": None, "raw": None},
        {"text": "more than a socket takes at once", "number": 0, "truth": True, "raw": bytes(10_000_000)},
    ],
)
def test_what_comes_is_what_went(fleet: Fleet, values: dict[str, object]) -> None:
    (row,) = asked(fleet, lambda reader: reader.rows(KINDS, **values))
    assert row._asdict() == {**values, "constant": "100 %", "again": values["text"]}


def test_a_text_with_a_nul_is_asked_as_the_database_can_hold_it(fleet: Fleet) -> None:
    values = {"text": "a\0b", "number": 1, "truth": True, "raw": b""}
    (row,) = asked(fleet, lambda reader: reader.rows(KINDS, **values))
    assert row.text == "a\ufffdb"


@pytest.mark.parametrize("number", [1, 3, MANY])
def test_rows_are_those_of_a_transaction(fleet: Fleet, number: int) -> None:
    ids = [device_id(n) for n in range(number)]
    found = asked(fleet, lambda reader: reader.rows(judging.TWINS, ids=ids))
    assert sorted(found) == sorted(fleet.database.transact(lambda c: judging.TWINS.rows(c, ids=ids)))
    assert len(found) == number


def test_many_at_once_each_have_their_own_answer(fleet: Fleet) -> None:
    async def work(reader: Reader) -> list[list[str]]:
        async def one(number: int) -> list[str]:
            return [row.id for row in await reader.rows(judging.TWINS, ids=[device_id(number)])]

        return await asyncio.gather(*(one(number) for number in range(MANY)))

    assert asked(fleet, work) == [[device_id(number)] for number in range(MANY)]


def test_a_connection_that_died_while_it_was_idle_is_replaced(fleet: Fleet, place: Path) -> None:
    async def work(reader: Reader) -> tuple[int, int]:
        before = (await reader.first(WHO)).pid
        with databases.beside(place) as connection:
            connection.execute("SELECT pg_terminate_backend(?, 10000)", (before,))
        return before, (await reader.first(WHO)).pid

    before, after = asked(fleet, work)
    assert before != after


def test_what_the_database_refuses_is_said_and_the_next_is_answered(fleet: Fleet) -> None:
    async def work(reader: Reader) -> int:
        with pytest.raises(DatabaseUnavailable, match="zero"):
            await reader.first(DIVIDE, by=0)
        return int((await reader.first(DIVIDE, by=5)).found)

    assert asked(fleet, work) == 2


def test_who_gives_up_leaves_no_answer_of_his_to_the_next(fleet: Fleet) -> None:
    async def work(reader: Reader) -> list[Any]:
        await reader.first(WHO)
        gone = asyncio.ensure_future(reader.first(WAIT, seconds=1))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        return [row.id for row in await reader.rows(judging.TWINS, ids=[device_id(7)])]

    assert asked(fleet, work) == [device_id(7)]


def test_a_statement_is_prepared_once_and_its_connection_stays(fleet: Fleet) -> None:
    async def work(reader: Reader) -> list[int]:
        return [(await reader.first(WHO)).pid for _ in range(3)]

    assert len(set(asked(fleet, work))) == 1


def test_its_connections_are_closed_with_it(fleet: Fleet, place: Path) -> None:
    pid = asked(fleet, lambda reader: reader.first(WHO)).pid

    def gone() -> bool:
        with databases.beside(place) as connection:
            return not connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = ?", (pid,)).fetchall()

    until(gone, "the end of a connection")
