"""The same thing asked for twice at one instant, and changes in the middle of an order: by real processes."""

import asyncio
import hashlib
import resource
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from fleet_world import Fleet, device_id, in_fleet
from lifeline import until
from server_world import FOTA, Built, Keys, Server, build_release
from sqlalchemy import Connection, event, func, insert, select

from fota_server import groups, rollouts, schema
from fota_server.operator_releases import ReleaseHandlers
from fota_server.tokens import Operator
from fota_server.trust import TrustChain
from fota_wire.errors import InputError, VerifyError

SIZE = 1100
ROUNDS = 6


DATABASES = BOTH


@pytest.fixture
def own(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    server = Server(keys, tmp_path / "data").init().start()
    yield server
    code, stderr = server.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr


@pytest.fixture
def large(keys: Keys, tmp_path: Path) -> Iterator[Server]:
    """A server of 1,100 devices in the group "all"."""
    server = Server(keys, tmp_path / "data").init().start()
    assert server.stop()[0] == 0

    async def nothing(_fleet: Fleet) -> None:
        pass

    in_fleet(server.data / "fota.db", keys, SIZE, nothing)
    server.start()
    yield server
    code, stderr = server.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Return what each call returns, all of them begun together."""
    answers: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def one(number: int, call: Callable[[], Any]) -> None:
        barrier.wait()
        answers[number] = call()

    threads = [threading.Thread(target=one, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def statuses(answers: list[tuple[int, Any]]) -> Counter[int]:
    return Counter(status for status, _ in answers)


# -- publications --------------------------------------------------------------------------------------------


def test_release_that_two_publish_at_once_is_published_once(own: Server, keys: Keys) -> None:
    for number in range(ROUNDS):
        built = build_release(keys, f"1.{number}.0", 1, number + 1)
        answers = at_once(*(4 * [lambda built=built: own.publish(built)]))
        assert statuses(answers) == {201: 1, 200: 3}
        assert own.api("GET", f"releases/{built.version}")[0] == 200
    published = [row for row in own.rows("SELECT action FROM audit") if row["action"] == "release.publish"]
    assert len(published) == len(own.rows("SELECT id FROM releases")) == ROUNDS


def test_refused_publication_takes_no_file_from_the_one_that_is_not(own: Server, keys: Keys) -> None:
    """One image, two manifests: one is refused, and its upload, the other one's too, cleaned away."""
    for number in range(ROUNDS):
        built = build_release(keys, f"2.{number}.0", 1, 10 + number)
        refused = Built(built.version, built.file, keys.envelope(built.file, 9))  # too low a sequence
        if number == 0:
            assert own.publish(build_release(keys, "1.9.9", 1, 9))[0] == 201
        assert own.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 201
        good = lambda built=built: own.api("POST", "releases", raw=built.envelope)  # noqa: E731
        bad = lambda refused=refused: own.api("POST", "releases", raw=refused.envelope)  # noqa: E731
        answers = at_once(bad, good, bad, bad)
        status, said = answers[1]
        kept = own.data / "artifacts" / built.digest[:2] / built.digest
        if status == 404:  # the refused one was first, and took it along: it is said, and sent again
            assert said["error"]["code"] == "artifact-missing"
            assert own.publish(built)[0] == 201
        else:
            assert status == 201
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == built.digest


# -- orders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [("rollouts", {"group": "all", "version": "1.2.0"}), ("rollbacks", {"group": "all"})],
)
def test_order_to_thousands_given_twice_at_once_is_one_order(large: Server, path: str, body: Any) -> None:
    answers = at_once(*(4 * [lambda: large.api("POST", path, body)]))
    told = statuses(answers)
    assert told[202] == 1, answers
    assert told[202] + told[409] == 4
    for status, answer in answers:
        assert status == 202 or answer["error"]["code"] in ("planning", "refused"), answer
    (number,) = [answer["id"] for status, answer in answers if status == 202]
    until(lambda: large.api("GET", f"rollouts/{number}")[1]["status"] != "planning")
    shown = large.api("GET", f"rollouts/{number}")[1]
    assert (shown["status"], shown["total"]) == ("running", SIZE)
    held = large.rows(
        "SELECT count(*) AS n, count(DISTINCT device_id) AS d FROM targets WHERE rollout_id > 1"
    )
    assert held == [{"n": SIZE, "d": SIZE}], "no device has two"
    wanted = "SELECT DISTINCT release_id FROM targets WHERE rollout_id = ?"
    assert large.rows(wanted, number) == [{"release_id": 3 if path == "rollouts" else 1}]


def test_order_cancelled_in_mid_planning_leaves_no_device_with_it(large: Server) -> None:
    status, answer = large.api("POST", "rollouts", {"group": "all", "version": "1.2.0"})
    assert status == 202
    at_once(*(2 * [lambda: large.api("POST", f"rollouts/{answer['id']}/cancel")]))
    until(lambda: large.api("GET", f"rollouts/{answer['id']}")[1]["status"] == "cancelled")
    left = large.rows(
        "SELECT DISTINCT t.state FROM devices d JOIN targets t ON t.id = d.target_id WHERE t.rollout_id > 1"
    )
    assert left in ([{"state": "cancelled"}], [])
    assert large.api("POST", "rollouts", {"group": "all", "version": "1.2.0"})[0] == 202, "nothing hinders it"


def _newest(connection: Connection, column: Any) -> Any:
    return connection.execute(select(func.max(column))).scalar_one()


# -- groups in the middle of it ------------------------------------------------------------------------------


def test_group_is_not_deleted_under_an_order_that_came_between_two_pages(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        write, answers, pages = fleet.database.write, [], 0

        async def with_an_order_between(*args: Any) -> Any:
            nonlocal pages
            pages += 1
            if pages == 2:
                fleet.database.write = write  # type: ignore[method-assign]
                answers.append(await fleet.order("update", "1.2.0"))
            return await write(*args)

        fleet.database.write = with_an_order_between  # type: ignore[method-assign]
        with pytest.raises(VerifyError, match="is being planned for group all: wait, 250 devices are out"):
            await groups.delete_group(fleet.database, "all", "tester")
        (answer,) = answers
        (group,) = await fleet.database.read(groups.list_groups, "", 10)
        assert 0 < group["devices"] < SIZE, "some were out already, and it says so"
        while await fleet.planner.step():
            pass
        shown = await fleet.show(answer["id"])
        assert (shown["status"], shown["total"]) == ("running", group["devices"])
        assert await groups.delete_group(fleet.database, "all", "tester") == group["devices"]

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


def test_order_whose_group_goes_before_it_is_stored_is_refused(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        write = fleet.database.write

        async def once_the_group_is_gone(*args: Any) -> Any:
            fleet.database.write = write  # type: ignore[method-assign]
            await groups.delete_group(fleet.database, "all", "tester")
            return await write(*args)

        fleet.database.write = once_the_group_is_gone  # type: ignore[method-assign]
        with pytest.raises(InputError, match="no group all"):
            await fleet.order("update", "1.2.0")
        assert await fleet.database.read(_newest, schema.rollouts.c.id) == 1, (
            "the one that the fleet began with"
        )

    in_fleet(tmp_path / "fota.db", keys, 3, work)


def test_device_that_leaves_or_joins_in_mid_planning_is_planned_as_its_page_finds_it(
    tmp_path: Path, keys: Keys
) -> None:
    async def work(fleet: Fleet) -> None:
        gone, joins = [device_id(n) for n in (3, SIZE - 1)], device_id(SIZE - 2)
        await groups.remove_members(fleet.database, "all", [joins], "tester")
        answer = await fleet.order("update", "1.2.0")
        assert answer["total"] == rollouts.PAGE
        await groups.remove_members(fleet.database, "all", gone, "tester")
        await groups.add_members(fleet.database, "all", [joins], "tester")
        while await fleet.planner.step():
            pass
        shown = await fleet.show(answer["id"])
        assert (shown["status"], shown["total"], shown["not_covered"]) == ("running", SIZE - 1, 0)
        wanted = {one: goal for one, goal, _ in await fleet.wanted()}
        assert [wanted[one] for one in (*gone, joins)] == [3, 2, 3]

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


# -- what is on the disk and what the process goes by --------------------------------------------------------


def test_root_whose_sender_goes_in_the_middle_of_the_commit_is_in_force_or_not_there(
    tmp_path: Path, keys: Keys
) -> None:
    async def work(fleet: Fleet) -> None:
        trust = TrustChain([keys.genesis])
        with fleet.engine.begin() as connection:
            connection.execute(insert(schema.roots).values(version=1, raw=keys.genesis, added_at=0))
        handlers = ReleaseHandlers(
            fleet.database,
            None,
            trust,
            None,
            None,
            fleet.planner,
            (),  # type: ignore[arg-type]
            None,
        )
        operator = Operator(name="tester", role="admin")
        begun = threading.Event()
        event.listen(fleet.engine, "begin", lambda _connection: begun.set())
        handling = asyncio.create_task(handlers._append_root(keys.root_document(2), 2, [], operator))
        while not begun.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling
        stored = await fleet.database.write(_newest, schema.roots.c.version)  # after the one under way
        assert (stored, trust.current.version) == (2, 2)

    in_fleet(tmp_path / "fota.db", keys, 1, work)


@pytest.mark.sqlite
def test_token_that_the_database_does_not_take_leaves_no_file(own: Server, tmp_path: Path) -> None:
    """Its disk is full at the commit: files may not grow beyond what the log of the database has already."""
    for number in range(40):
        own.api("POST", "groups", {"name": f"g{number}"})
    grown = (own.data / "fota.db-wal").stat().st_size
    assert grown > 100_000

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (grown // 2, grown // 2))

    out = tmp_path / "new.token"
    done = subprocess.run(
        [*FOTA, "server", "token", "create", "late", "--data", str(own.data), "-o", str(out)],
        capture_output=True, text=True, preexec_fn=full,
    )  # fmt: skip
    assert (done.returncode in (4, 5), done.stderr.count("\n")) == (True, 1), done.stderr
    assert not out.exists()
    assert own.rows("SELECT * FROM tokens WHERE name = 'late'") == []
    done = subprocess.run(
        [*FOTA, "server", "token", "create", "late", "--data", str(own.data), "-o", str(out)]
    )
    assert done.returncode == 0
    assert own.api("GET", "devices", token=out.read_text().strip())[0] == 200
