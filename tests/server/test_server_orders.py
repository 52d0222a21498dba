"""Orders to thousands: bounded steps, a number at once, check-ins in between; a kill in the middle, too."""

import asyncio
import secrets
import uuid
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from fleet_world import GROUP, Fleet, counted, device_id, hash_of, identity_of, in_fleet, release
from server_world import CLASS, Keys
from sqlalchemy import insert, select, update

from fota_server import groups, orders, renewals, rollouts, schema
from fota_server.catalog import Catalog, set_withdrawn
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_server.plan import Scope
from fota_wire import certify
from fota_wire.checkin import Request
from fota_wire.errors import InputError, VerifyError

SIZE = 700
PAGES = -(-SIZE // rollouts.PAGE)
STATEMENTS = 26
"""More than a page takes; fewer than a twentieth of its devices."""


DATABASES = BOTH


@pytest.mark.parametrize(
    ("kind", "version"), [("update", "1.2.0"), ("rollback", None), ("rollback", "1.0.0")]
)
def test_order_to_thousands_is_planned_in_bounded_transactions(
    tmp_path: Path, keys: Keys, kind: str, version: str | None
) -> None:
    async def work(fleet: Fleet) -> None:
        with counted(fleet.engine) as done:
            answer = await fleet.order(kind, version)
            assert (answer["status"], answer["total"]) == ("planning", rollouts.PAGE)
            while await fleet.planner.step():
                pass
        assert PAGES <= len(done.statements) <= PAGES + 1
        assert max(done.statements) <= STATEMENTS
        assert max(done.rows) <= 4 * rollouts.PAGE
        shown = await fleet.show(answer["id"])
        assert (shown["status"], shown["total"], shown["progress"]["pending"]) == ("running", SIZE, SIZE)
        goal = 3 if version == "1.2.0" else 1
        assert await fleet.wanted() == [(device_id(n), goal, "pending") for n in range(SIZE)]
        assert len(str(answer)) < 2000, "the answer names no devices"

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


def test_no_check_in_waits_for_more_than_two_steps(tmp_path: Path, keys: Keys) -> None:
    """Of the planner, while it plans for thousands; the device's own target changes under way."""

    async def work(fleet: Fleet) -> None:
        signer = AssignSigner(keys.assign)
        checkins = CheckIns(fleet.database, Catalog(), fleet.trust, signer, Policy(), lambda: 1_700_000_000)
        checkins.start()
        steps = 0
        waited: list[int] = []

        async def plan() -> None:
            nonlocal steps
            while await fleet.planner.step():
                steps += 1

        async def visit() -> None:
            number = 0
            while not planning.done():
                before = steps
                await checkins.answer(
                    identity_of(device_id(10_000 + number)), Request(secrets.token_bytes(16), 1, None, None)
                )
                waited.append(steps - before)
                number += 1

        await fleet.order("rollback", None)
        planning = asyncio.create_task(plan())
        await visit()
        await planning
        await checkins.stop()
        assert steps == PAGES - 1
        assert len(waited) >= PAGES - 2, "they came in between"
        assert max(waited) <= 2

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


@pytest.mark.parametrize("steps", [0, 1])
def test_planning_that_was_cut_off_is_finished_by_the_next_server(
    tmp_path: Path, keys: Keys, steps: int
) -> None:
    path = tmp_path / "fota.db"

    async def begin(fleet: Fleet) -> int:
        number = int((await fleet.order("rollback", None))["id"])
        for _ in range(steps):
            assert await fleet.planner.step()
        return number

    async def go_on(fleet: Fleet) -> Any:
        assert (await fleet.show(number))["status"] == "planning"
        while await fleet.planner.step():
            pass
        return await fleet.wanted()

    number = in_fleet(path, keys, SIZE, begin)
    assert in_fleet(path, keys, 0, go_on) == [(device_id(n), 1, "pending") for n in range(SIZE)]


def test_younger_order_has_the_last_word_while_the_older_is_planned(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        first = await fleet.order("rollback", None)
        last = Scope(device=device_id(SIZE - 1), group=None)
        second = await fleet.order("update", "1.2.0", last)
        assert second["status"] == "planning", "it waits for its turn"
        while await fleet.planner.step():
            pass
        assert (await fleet.wanted())[-1] == (device_id(SIZE - 1), 3, "pending")
        assert (await fleet.show(first["id"]))["progress"]["superseded"] == 1
        assert (await fleet.show(second["id"]))["status"] == "running"

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


@pytest.mark.parametrize("planned", [True, False])
def test_cancelling_thousands_takes_bounded_transactions(tmp_path: Path, keys: Keys, planned: bool) -> None:
    async def work(fleet: Fleet) -> None:
        number = (await fleet.order("update", "1.2.0"))["id"]
        while planned and await fleet.planner.step():
            pass
        with counted(fleet.engine) as done:
            await fleet.database.write(rollouts.cancel, number, "tester")
            while await fleet.planner.step():
                pass
        assert max(done.statements) <= STATEMENTS
        assert max(done.rows) <= 4 * rollouts.PAGE
        shown = await fleet.show(number)
        wanted = SIZE if planned else rollouts.PAGE
        assert (shown["status"], shown["progress"]["cancelled"], shown["total"]) == (
            "cancelled",
            wanted,
            wanted,
        )
        assert shown["ended_at"] is not None

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


def test_withdrawal_closes_thousands_in_bounded_transactions(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        number = (await fleet.order("update", "1.2.0"))["id"]
        while await fleet.planner.step():
            pass
        with fleet.engine.begin() as connection:
            set_withdrawn(connection, "1.2.0", True, "tester")
        with counted(fleet.engine) as done:
            while await fleet.planner.step():
                pass
        assert len(done.statements) == PAGES + 1
        assert max(done.statements) <= STATEMENTS
        shown = await fleet.show(number)
        assert (shown["status"], shown["progress"]["withdrawn"]) == ("withdrawn", SIZE)

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


def test_group_of_thousands_is_filled_emptied_and_told_in_bounded_transactions(
    tmp_path: Path, keys: Keys
) -> None:
    ids = [device_id(number) for number in range(SIZE)]

    async def work(fleet: Fleet) -> None:
        with fleet.engine.begin() as connection:
            groups.create_group(connection, "more", "tester")
        with counted(fleet.engine) as done:
            added = await groups.add_members(fleet.database, "more", ids, "tester")
            again = await groups.add_members(fleet.database, "more", ids[:3], "tester")
            told = await renewals.want_of_group(fleet.database, "more", certify.ROTATE, "tester")
            removed = await groups.remove_members(fleet.database, "more", ids[1:], "tester")
            gone = await groups.delete_group(fleet.database, "all", "tester")
        assert (added["added"], again["added"], removed, gone) == (SIZE, 0, SIZE - 1, SIZE)
        assert told == {"wanted": SIZE, "shut_out": 0}
        assert max(done.statements) <= STATEMENTS
        assert max(done.rows) <= 4 * rollouts.PAGE
        with fleet.engine.begin() as connection:
            wanted = select(schema.device_keys.c.device_id).where(schema.device_keys.c.wanted.is_not(None))
            assert len(connection.execute(wanted).all()) == SIZE
            assert groups.list_groups(connection, "", 10) == [
                {"name": "more", "created_at": pytest.approx(2e9, rel=0.5), "devices": 1}
                | {"filter": None, "filling": False}
            ]

    in_fleet(tmp_path / "fota.db", keys, SIZE, work)


# What an order means, device by device


def _change(number: int, **values: Any) -> Any:
    return update(schema.devices).where(schema.devices.c.id == device_id(number)).values(**values)


def test_preview_counts_where_devices_go_and_why_some_stay(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        with fleet.engine.begin() as connection:
            other = release("1.0.0", 1, class_id="ff" * 16, image_hash=hash_of("other"))
            connection.execute(insert(schema.releases).values(**other))
            connection.execute(_change(0, revoked=True))
            connection.execute(_change(1, floor=2))
            connection.execute(_change(2, running_hash=hash_of("other"), running_version="9.9.9"))
            connection.execute(_change(3, running_hash=hash_of("unpublished"), running_version="0.1.0"))
        with fleet.engine.begin() as connection:
            order = orders.order_for(connection, "update", "1.2.0", GROUP)
            seen = orders.preview(connection, order, fleet.trust.current)
            rows = orders.preview_devices(connection, order, fleet.trust.current, "", 4)
            rest = orders.preview_devices(connection, order, fleet.trust.current, rows[-1]["device_id"], 99)
        moves = {(move["runs"], move["version"]): move["devices"] for move in seen["moves"]}
        assert moves == {("1.1.0", "1.2.0"): 6, ("0.1.0", "1.2.0"): 1}
        reasons = {item["reason"]: (item["devices"], item["first"]) for item in seen["left_out"]}
        assert reasons == {
            "the device is revoked": (1, device_id(0)),
            "PO1 rollback: security counter 1 is below the device's floor 2": (1, device_id(1)),
            "the device runs firmware of another class": (1, device_id(2)),
        }
        assert [row["device_id"] for row in rows + rest] == [device_id(n) for n in range(10)]
        assert [bool(row["reason"]) for row in rows] == [True, True, True, False]
        assert await fleet.wanted() == [(device_id(n), 2, "confirmed") for n in range(10)], "nothing was done"

    in_fleet(tmp_path / "fota.db", keys, 10, work)


def test_version_of_two_classes_means_that_of_the_devices_or_is_refused_with_the_choices(
    tmp_path: Path, keys: Keys
) -> None:
    async def work(fleet: Fleet) -> None:
        digest = "abcd" * 16
        with fleet.engine.begin() as connection:
            other = release(
                "1.2.0", 9, class_id="ff" * 16, image_hash=hash_of("other"), manifest_digest=digest
            )
            connection.execute(insert(schema.releases).values(**other))
        assert (await fleet.order("update", "1.2.0"))["versions"] == ["1.2.0"]
        with fleet.engine.begin() as connection:
            connection.execute(_change(0, confirmed_hash=None, running_hash=hash_of("other")))
        with pytest.raises(InputError, match="several releases are called") as refused:
            await fleet.order("update", "1.2.0")
        assert "abcdabcdabcdabcd of class ffffffff-ffff-ffff-ffff-ffffffffffff" in str(refused.value)
        assert str(uuid.UUID(bytes=CLASS)) in str(refused.value)
        named = await fleet.order("update", digest[:16])
        assert (named["total"], named["left_out"][0]["reason"]) == (
            1,
            "the device runs firmware of another class",
        )

    in_fleet(tmp_path / "fota.db", keys, 3, work)


def test_rollback_typed_again_is_refused_whether_it_is_under_way_or_done(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        first = (await fleet.order("rollback", None))["id"]
        with pytest.raises(VerifyError, match=rf"rollback {first} is under way for it: .* --to .*and 2 more"):
            await fleet.order("rollback", None)
        with fleet.engine.begin() as connection:
            connection.execute(update(schema.targets).values(state="confirmed"))
            connection.execute(update(schema.devices).values(confirmed_hash=hash_of("1.0.0")))
            rows = [{"device_id": device_id(n), "image_hash": hash_of("1.0.0"), "at": 9} for n in range(3)]
            connection.execute(insert(schema.confirmations), rows)
        with pytest.raises(VerifyError, match=f"rollback {first} brought it back already"):
            await fleet.order("rollback", None)
        assert (await fleet.order("rollback", "1.1.0"))["total"] == 3, "named, it goes anywhere"
        with pytest.raises(VerifyError, match="wants this release of it already"):
            await fleet.order("rollback", "1.1.0")

    in_fleet(tmp_path / "fota.db", keys, 3, work)


def test_rollout_of_what_is_in_force_reaches_only_those_that_joined(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        with pytest.raises(VerifyError, match="rollout 1 brought this release to it already"):
            await fleet.order("update", "1.1.0")
        first = await fleet.order("update", "1.2.0")
        with fleet.engine.begin() as connection:
            joined = {"id": device_id(77), "admitted_by": "x", "revoked": False}
            connection.execute(insert(schema.devices).values(**joined))
        told = await groups.add_members(fleet.database, "all", [device_id(77)], "tester")
        assert told == {"name": "all", "added": 1, "rollouts": [first["id"]]}
        assert (await fleet.show(first["id"]))["not_covered"] == 1
        again = await fleet.order("update", "1.2.0")
        assert again["total"] == 1
        assert again["left_out"][0]["reason"] == f"rollout {first['id']} wants this release of it already"
        assert (await fleet.show(first["id"]))["status"] == "running", "it was not taken over"

    in_fleet(tmp_path / "fota.db", keys, 3, work)
