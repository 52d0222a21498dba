"""The language of filters: what is one, and that Python and both databases mean the same by it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH, url_of
from fleet_world import Fleet, counted, device, device_id
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lifeline import HANG_S
from server_world import Keys
from sqlalchemy import Connection, delete, insert, select, update
from starlette.requests import Request

from fota_server import attributes, devices, dynamic, filters, groups, hand_out, orders, schema
from fota_server.database import READERS, Database, open_engine, read_url
from fota_server.filter_sql import condition
from fota_server.filters import MAX_DEPTH, MAX_FILTER, MAX_TESTS, MAX_VALUE, matches, parse_filter
from fota_server.operator_devices import DeviceHandlers
from fota_server.operator_orders import OrderHandlers
from fota_server.tokens import Operator
from fota_wire.errors import InputError, VerifyError

DATABASES = BOTH
NAMES = ("a", "b", "zone-x", "id", "version")
VALUES = (
    "",
    "A",
    "a",
    "aB",
    "%",
    "_",
    "*",
    'say "x" \\ y',
    "ä",
    "ä" * 2,
    "𝄞x",
    "1.10",
    device_id(3),
    "or",
    "a b",
)


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


values = st.sampled_from(VALUES).map(quoted)
tests = st.one_of(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["=", "!="]), values, st.sampled_from(["", "*"])).map(
        lambda parts: f"{parts[0]} {parts[1]} {parts[2]}{parts[3]}"
    ),
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from(["in", "not in"]), st.lists(values, min_size=1, max_size=3)
    ).map(lambda parts: f"{parts[0]} {parts[1]} ({', '.join(parts[2])})"),
)
texts = st.recursive(
    tests,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' and '.join(parts)})"),
        st.lists(inner, min_size=2, max_size=3).map(" or ".join),
    ),
    max_leaves=6,
).filter(lambda text: len(text) <= MAX_FILTER)
known = st.dictionaries(st.sampled_from(NAMES[:3]), st.sampled_from(VALUES), max_size=3)


@pytest.fixture(scope="module")
def fleet(keys: Keys, tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[Fleet]:
    """Twelve devices of two versions, the last three not seen yet."""
    made = Fleet(tmp_path_factory.mktemp(f"filters-{database_kind}") / "fota.db", keys)
    made.database.bring_up_to_date()
    made.database.transact(_fill)
    yield made
    made.database.close()


def _fill(connection: Connection) -> None:
    rows = [device(device_id(number), 0) for number in range(12)]
    for number, row in enumerate(rows):
        row |= {"running_version": None if number > 8 else ("1.10", "1.1")[number % 2], "target_id": None}
    connection.execute(insert(schema.devices), rows)


def give_all(connection: Connection, facts: list[dict[str, str]]) -> None:
    connection.execute(delete(schema.attributes))
    rows = [
        {"device_id": device_id(number), "name": name, **dict.fromkeys(("given", "said")), word: value}
        for number, mine in enumerate(facts)
        for name, value in mine.items()
        for word in [("given", "said")[number % 2]]
    ]
    if rows:
        connection.execute(insert(schema.attributes), rows)


def held_by_sql(connection: Connection, text: str) -> list[str]:
    query = select(schema.devices.c.id).where(condition(parse_filter(text)))
    return sorted(connection.execute(query).scalars())


def held_by_python(connection: Connection, text: str) -> list[str]:
    facts = attributes.facts(connection, [device_id(number) for number in range(12)])
    return sorted(one for one, mine in facts.items() if matches(parse_filter(text), mine))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(known, min_size=12, max_size=12), st.lists(texts, min_size=1, max_size=4))
@example([{"a": "ab"}] * 12, ['a = "A"*', 'a = "_"*', "not version", 'a != "x"', 'a not in ("x")'])
def test_database_and_python_mean_the_same_by_a_filter(
    fleet: Fleet, facts: list[dict[str, str]], found: list[str]
) -> None:
    def work(connection: Connection) -> None:
        give_all(connection, facts)
        for text in found:
            assert held_by_sql(connection, text) == held_by_python(connection, text), text
        connection.rollback()

    fleet.database.transact(work)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("hardware", True), ("tag", True), ("region", False), ("not region", True), ("hardware = C", True),
        ("hardware = c", False), ("hardware=C and tag", True), ("hardware != C or tag", True),
        ("region != eu", True), ("region not in (eu, us)", True), ("hardware in (A,B , C)", True),
        ("not (hardware = C)", False), ("not not tag", True), ("a or tag and b", False),
        ("tag or a and b", True), ("(tag or a) and b", False), ("zone = Europe/*", True),
        ("zone = europe/*", False), ('zone = "Europe/"*', True), ('zone = "Europe/*"', False),
        ("id = 01*", True), ("id = ABCD*", False), ("version = 1.1*", True), ('tag = ""', True),
        ('hardware = "and"', False),        ("hardware = and", False),
    ],
)  # fmt: skip
def test_filter_means_what_it_says(text: str, holds: bool) -> None:
    facts = {"hardware": "C", "tag": "", "zone": "Europe/Berlin", "id": "01ab", "version": "1.10"}
    assert matches(parse_filter(text), facts) is holds


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "text",
    [
        "", " ", "and", "a and", "a or or b", "not", "a =", "a = =", "= a", "a b", "(a", "a)", "()", "a in",
        "a in ()", "a in (b", "a in (b,)", "a in (b*)", "a not b", "a not = b", "A = b", "1a", '"a" = b',
        'a = "b', "a = 'b'", 'a = "\\n"', "a == b", "a <> b", "a < b", "a\0", "a = \x1b", "a = \ud800",
        "\ufeff", "a; drop", "a = b or", "a" * 28, "a = " + "b" * (MAX_VALUE + 1), "a " * MAX_FILTER,
        "not " * (MAX_DEPTH + 2) + "a", "(" * (MAX_DEPTH + 2) + "a" + ")" * (MAX_DEPTH + 2),
        "or".join([" a "] * (MAX_TESTS + 1)),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    assert caught.value.code == "filter"
    assert str(caught.value).isprintable()


@pytest.mark.sqlite
@given(st.text(max_size=40) | st.text('ab()=!,*"\\ notrid', max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(InputError):
        assert matches(parse_filter(text), {"a": "b"}) in (True, False)


@pytest.mark.sqlite
def test_limits_of_a_filter_are_the_last_that_pass() -> None:
    assert parse_filter("a = " + "b" * MAX_VALUE)
    assert parse_filter("not " * MAX_DEPTH + "a")
    assert parse_filter("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    assert parse_filter(" or ".join(["a"] * MAX_TESTS))
    assert parse_filter("a" + " " * (MAX_FILTER - 1))


# Who is in a group


def in_fleet(path: Path, keys: Keys, size: int, work: Callable[[Fleet], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        fleet = Fleet(path, keys)
        try:
            fleet.fill(size)
            return await work(fleet)
        finally:
            fleet.database.close()

    return asyncio.run(run())


def inside(connection: Connection, name: str) -> list[str]:
    query = select(schema.members.c.device_id).where(schema.members.c.group_name == name)
    return sorted(connection.execute(query).scalars())


def fill_group(fleet: Fleet, name: str, text: str) -> int:
    """Make a group, and have the planner's steps fill it; return how many it took."""
    fleet.database.transact(groups.create_group, name, "tester", text)
    steps = 0
    while fleet.database.transact(dynamic.fill_page):
        steps += 1
    return steps


def tag(numbers: range, name: str = "red") -> dict[str, dict[str, str | None]]:
    return {device_id(number): {name: ""} for number in numbers}


def test_group_is_filled_in_pages_and_takes_orders_when_it_is(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic, "FILL", 100)

    async def work(fleet: Fleet) -> None:
        fleet.database.transact(dynamic.give, tag(range(0, 1000, 2)), "tester")
        fleet.database.transact(groups.create_group, "red", "tester", "red")
        scope = orders.Scope(device=None, group="red")
        with pytest.raises(VerifyError, match="still being filled"):
            await fleet.order("update", "1.2.0", scope)
        with counted(fleet.engine) as seen:
            while fleet.database.transact(orders.work, fleet.trust.current):
                pass
        assert len(seen.statements) >= 11, "a page is a transaction"
        assert max(seen.statements) <= 9
        assert max(seen.rows) <= 2 * 100 + 4
        assert fleet.database.transact(inside, "red") == [device_id(n) for n in range(0, 1000, 2)]
        rollout = await fleet.order("update", "1.2.0", scope)
        while fleet.database.transact(orders.work, fleet.trust.current):
            pass
        assert (await fleet.show(rollout["id"]))["total"] == 500

    in_fleet(tmp_path / "fota.db", keys, 1000, work)


def test_device_that_changes_while_a_group_is_filled_is_where_it_belongs(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic, "FILL", 10)

    async def work(fleet: Fleet) -> None:
        fleet.database.transact(dynamic.give, tag(range(0, 30, 2)), "tester")
        fleet.database.transact(groups.create_group, "red", "tester", "red")
        fleet.database.transact(dynamic.fill_page)
        for numbers, value in ((range(0, 30, 4), None), (range(1, 30, 4), "")):
            words = {device_id(number): {"red": value} for number in numbers}
            fleet.database.transact(dynamic.give, words, "tester")
        while fleet.database.transact(dynamic.fill_page):
            pass
        expected = [device_id(n) for n in range(30) if n % 4 in (1, 2)]
        assert fleet.database.transact(inside, "red") == expected

    in_fleet(tmp_path / "fota.db", keys, 30, work)


def test_change_asks_of_the_device_alone_and_no_news_asks_nothing(keys: Keys, tmp_path: Path) -> None:
    async def work(fleet: Fleet) -> None:
        assert fill_group(fleet, "red", "red") == 2
        with counted(fleet.engine) as seen:
            assert fleet.database.transact(dynamic.give, tag(range(5, 6)), "tester") == 1
        assert fleet.database.transact(inside, "red") == [device_id(5)]
        assert seen.statements[0] <= 13
        assert seen.rows[0] < 20, "however many devices there are"
        with counted(fleet.engine) as seen:
            assert fleet.database.transact(dynamic.give, tag(range(5, 6)), "tester") == 0
            fleet.database.transact(dynamic.learn, [])
        assert seen.statements == [1, 0], "it is asked what is known of the device, and nothing is done"

    in_fleet(tmp_path / "fota.db", keys, 300, work)


def test_another_filter_takes_devices_out_and_in(keys: Keys, tmp_path: Path) -> None:
    async def work(fleet: Fleet) -> None:
        fleet.database.transact(dynamic.give, tag(range(5)) | tag(range(7, 9), "blue"), "tester")
        fill_group(fleet, "mine", "red")
        fleet.database.transact(dynamic.set_filter, "mine", "blue or version = 9", "tester")
        while fleet.database.transact(dynamic.fill_page):
            pass
        assert fleet.database.transact(inside, "mine") == [device_id(7), device_id(8)]
        with pytest.raises(VerifyError, match="by hand"):
            fleet.database.transact(dynamic.set_filter, "all", "red", "tester")
        with pytest.raises(InputError, match="no group"):
            fleet.database.transact(dynamic.set_filter, "none", "red", "tester")

    in_fleet(tmp_path / "fota.db", keys, 20, work)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts, min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 11), known), max_size=8))
def test_members_are_those_for_whom_the_filter_holds_whatever_changed(
    fleet: Fleet, found: list[str], changes: list[tuple[int, dict[str, str]]]
) -> None:
    def work(connection: Connection) -> None:
        give_all(connection, [{}] * 12)
        for number, text in enumerate(found):
            groups.create_group(connection, f"g{number}", "tester", text)
        while dynamic.fill_page(connection):
            pass
        for number, mine in changes:
            one = device_id(number)
            words: dict[str, str | None] = {name: mine.get(name) for name in NAMES[:3]}
            dynamic.give(connection, {one: words}, "tester")
            version = {"running_version": mine.get("a")}
            connection.execute(update(schema.devices).where(schema.devices.c.id == one).values(**version))
            dynamic.learn(connection, [one])
        for number, text in enumerate(found):
            assert inside(connection, f"g{number}") == held_by_python(connection, text), text
        connection.rollback()

    fleet.database.transact(work)


@pytest.mark.sqlite
@pytest.mark.sqlite
def test_questions_to_the_whole_fleet_leave_room_for_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 tests of each of 100,000 devices take many seconds; whoever may look may ask that many times."""
    database = Database(open_engine(read_url(url_of(tmp_path / "fota.db"), tmp_path)))
    database.bring_up_to_date()
    begun: list[None] = []
    gate = threading.Event()

    def slow(*_: object, **__: object) -> list[Any]:
        begun.append(None)
        gate.wait(HANG_S)
        return []

    for module, name in ((devices, "list_devices"), (dynamic, "preview"), (attributes, "names")):
        monkeypatch.setattr(module, name, slow)
    viewer = Operator(name="v", role="viewer")
    fleet_of: Any = (database, None, None, None)
    of_devices, of_orders = DeviceHandlers(*fleet_of), OrderHandlers(database, *fleet_of[1:3], 1)

    def asked(query: bytes) -> Request:
        return Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query})

    async def work() -> None:
        questions = [
            asyncio.create_task(one)
            for _ in range(READERS)
            for one in (
                of_devices.list_devices(asked(b"filter=a"), viewer),
                of_devices.list_attributes(asked(b""), viewer),
                of_orders._preview_filter("a"),
            )
        ]
        await asyncio.sleep(0)  # they are asked first
        other = asyncio.create_task(database.read(hand_out.limits))
        while not other.done() and len(begun) < READERS:  # noqa: ASYNC110 - whichever comes first
            await asyncio.sleep(0.01)
        try:
            assert other.done(), "the stop of everything waits for a viewer's filters"
            assert len(begun) == 1
        finally:
            gate.set()
            await asyncio.gather(*questions, other)

    asyncio.run(work())
    database.close()


def test_page_for_people_has_the_grammar_that_is_parsed() -> None:
    said = str(filters.__doc__).split("```")[1]
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
    assert said in page
    assert all(str(number) in page for number in (MAX_FILTER, MAX_VALUE, MAX_DEPTH, MAX_TESTS))
