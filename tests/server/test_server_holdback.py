"""Updated devices against those held back: the statistic by known values, the counts by a fleet."""

from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from fleet_world import GROUP, Fleet, in_fleet
from hypothesis import given
from hypothesis import strategies as st
from server_world import Keys
from sqlalchemy import Connection, insert, select, update

from fota_server import holdback, orders, schema
from fota_server.comparison import ALPHA, Arm, fisher, word
from fota_server.orders import InWaves
from fota_server.plan import Scope
from fota_server.wave_policy import parse_policy

DATABASES = BOTH
pure = pytest.mark.sqlite


def arms(a: int, n: int, b: int, m: int) -> tuple[Arm, Arm]:
    return Arm(cases=a, devices=n), Arm(cases=b, devices=m)


@pure
@pytest.mark.parametrize(
    ("table", "p"),
    [
        ((3, 4, 1, 4), 0.4857142857),  # Fisher's tea
        ((1, 10, 11, 14), 0.002759456),  # studying and not, R's and Wikipedia's example
        ((8, 9, 2, 7), 0.03496503),  # SciPy's
        ((10, 25, 10, 25), 1.0),
        ((0, 50, 0, 5), 1.0),
    ],
)
def test_chance_is_fishers(table: tuple[int, int, int, int], p: float) -> None:
    assert fisher(*arms(*table))[0] == pytest.approx(p, rel=1e-6)


@pure
@given(st.integers(0, 25), st.integers(0, 25), st.data())
def test_chance_is_that_of_whole_numbers(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    cases = a + b
    weights = [comb(n, k) * comb(m, cases - k) for k in range(max(0, cases - m), min(cases, n) + 1)]
    mine = comb(n, a) * comb(m, b)
    exact = Fraction(sum(one for one in weights if one <= mine), sum(weights))
    at_worst = Fraction(sum(one for one in weights if one <= weights[-1]), sum(weights))
    found = fisher(*arms(a, n, b, m))
    assert found == pytest.approx((float(exact), float(at_worst)), rel=1e-6)


@pure
@pytest.mark.parametrize(
    ("cases", "devices", "low", "high"),
    [(10, 100, 0.0552291, 0.1743657), (0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0), (0, 0, 0.0, 1.0)],
)
def test_share_lies_in_wilsons_interval(cases: int, devices: int, low: float, high: float) -> None:
    assert Arm(cases=cases, devices=devices).interval() == pytest.approx((low, high), abs=1e-6)


@pure
@pytest.mark.parametrize(
    ("table", "told"),
    [
        ((0, 950, 0, 50), "too few to tell"),
        ((3, 95, 0, 5), "too few to tell"),
        ((0, 10, 10, 10), "too few to tell"),  # significant, and ten are ten
        ((40, 950, 2, 50), "too few to tell"),  # 42 of 42 might have been chance
        ((100, 950, 5, 50), "no difference seen"),
        ((200, 950, 1, 50), "worse"),
        ((1, 950, 10, 50), "better"),
        ((0, 0, 0, 0), "too few to tell"),
    ],
)
def test_word_is_no_braver_than_its_numbers(table: tuple[int, int, int, int], told: str) -> None:
    assert word(*arms(*table)) == told


@pure
@given(st.integers(0, 60), st.integers(0, 60), st.data())
def test_better_needs_twenty_devices_in_each_arm(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    said = word(*arms(a, n, b, m))
    if said == "better":
        assert min(n, m) >= 20
    if said in ("better", "worse"):
        assert fisher(*arms(a, n, b, m))[0] <= ALPHA


def test_arms_are_counted_alike_and_kept_apart(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet) -> None:
        policy = parse_policy({"waves": ["rest"], "holdback": "20%", "silence_s": 100})
        order = await fleet.database.read(
            orders.order_for, "update", "1.2.0", GROUP, InWaves(policy=policy, seed="x")
        )
        number = (await orders.place(fleet.database, order, "1.2.0", fleet.trust.current, "t"))["id"]
        while await fleet.planner.step():
            pass
        await fleet.database.write(happens, number)
        at = await fleet.database.read(ordered_at, number)
        found = await fleet.database.read(holdback.compared, number, at + 500)
        assert found is not None
        assert (found["final"], found["silence_s"]) == (False, 100)
        rows = {row["question"]: (row["updated"], row["held_back"]) for row in found["questions"]}
        updated, held = (rows["failed"][n]["devices"] for n in (0, 1))
        assert (updated, held) == await fleet.database.read(sizes, number)
        quiet = (rows["watchdog"][n]["devices"] for n in (0, 1))
        assert tuple(quiet) == (updated, held), "who reported nothing was not reset, and is counted so"
        assert {name: tuple(arm["cases"] for arm in both) for name, both in rows.items()} == {
            "failed": (3, 1),
            "silent": (2, 0),
            "watchdog": (4, 1),
        }
        await nobody_held_back_is_given_it_meanwhile(fleet, number)

    in_fleet(tmp_path / "fota.db", keys, 300, work)


def ordered_at(connection: Connection, number: int) -> int:
    table = schema.rollouts
    return int(connection.execute(select(table.c.created_at).where(table.c.id == number)).scalar_one())


def arm(connection: Connection, number: int) -> tuple[list[str], list[str]]:
    """Who was given it, who is held back."""
    targets, left = schema.targets, schema.left_out
    updated = select(targets.c.device_id).where(targets.c.rollout_id == number).order_by(targets.c.device_id)
    held = select(left.c.device_id).where(left.c.rollout_id == number).order_by(left.c.device_id)
    return (list(connection.execute(updated).scalars()), list(connection.execute(held).scalars()))


def sizes(connection: Connection, number: int) -> tuple[int, int]:
    updated, held = arm(connection, number)
    return len(updated) - 2, len(held) - 1  # one was not given it, one of each has not called since


def happens(connection: Connection, number: int) -> None:
    """Some fail, some fall silent, some are reset by a watchdog; and what must not count."""
    updated, held = arm(connection, number)
    devices, targets, at = schema.devices, schema.targets, ordered_at(connection, number)
    assert len(held) > 30

    def change(ids: list[str], **values: Any) -> None:
        connection.execute(update(devices).where(devices.c.id.in_(ids)).values(**values))

    change([*updated, *held], last_seen=at + 450, report_at=at + 450, reset_cause=0x10)
    mine = targets.c.rollout_id == number
    connection.execute(update(targets).where(mine).values(given_at=at, state="confirmed"))
    connection.execute(
        update(targets).where(mine, targets.c.device_id.in_(updated[:2])).values(state="reverted")
    )
    told = [(updated[2], at), (updated[0], at), (held[0], at), (held[1], at - 1)]
    connection.execute(
        insert(schema.events),
        [{"device_id": one, "at": when, "code": "reverted", "detail": "AP1"} for one, when in told],
    )
    change(updated[3:5], last_seen=at + 300)
    change([*updated[5:9], held[2]], reset_cause=0x20)
    change([held[3]], reset_cause=0x40, report_at=at - 1)  # a boot of before
    change([updated[9], held[4]], last_seen=at - 1)  # nobody has seen them since
    one = update(targets).where(mine, targets.c.device_id == updated[10])
    connection.execute(one.values(given_at=None, state="pending"))


async def nobody_held_back_is_given_it_meanwhile(fleet: Fleet, number: int) -> None:
    root = fleet.trust.current
    _, held = await fleet.database.read(arm, number)
    order = await fleet.database.read(orders.order_for, "update", "1.2.0", Scope(device=held[0], group=None))
    seen = await fleet.database.read(orders.preview, order, root)
    assert (seen["total"], seen["left_out"][0]["reason"]) == (
        0,
        f"rollout {number} holds it back, for comparison, until it ends",
    )
    other = await fleet.database.read(
        orders.order_for, "rollback", "1.0.0", Scope(device=held[0], group=None)
    )
    assert (await fleet.database.read(orders.preview, other, root))["total"] == 1, "another release may come"
    await fleet.database.write(
        lambda connection: connection.execute(
            update(schema.rollouts).where(schema.rollouts.c.id == number).values(state="cancelled")
        )
    )
    assert (await fleet.database.read(orders.preview, order, root))["total"] == 1
    found = await fleet.database.read(holdback.compared, number, 1 << 40)
    assert found is not None
    assert found["final"]
