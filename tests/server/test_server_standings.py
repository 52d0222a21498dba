"""How waves stand is counted with what it costs: one more failure is no reason to read the fleet."""

from dataclasses import replace
from pathlib import Path

import pytest
from fleet_world import GROUP, Fleet, in_fleet
from server_world import Keys
from sqlalchemy import Connection, select, text, update

from fota_server import orders, schema, wave_work
from fota_server.decide import CLOSED, GIVEN_UP, TargetState
from fota_server.wave_policy import parse_policy

FAILED = 4


async def rollout(fleet: Fleet, failed: int = FAILED) -> int:
    """Start one whose first wave has all but one device, which take it; some fail."""
    policy = parse_policy({"waves": ["90%", "rest"], "confirmed": "50%", "errors": "50%"})
    order = await fleet.database.read(
        orders.order_for, "update", "1.2.0", GROUP, orders.InWaves(policy=policy, seed="1")
    )
    root = fleet.trust.current
    plan = await fleet.database.read(orders.preview_waves, order, root, 300)
    promised = replace(order, digest=plan["digest"])
    number = int((await orders.place(fleet.database, promised, "1.2.0", root, "sim"))["id"])
    while await fleet.planner.step():
        pass
    await fleet.planner.look(1_800_000_000)
    targets = schema.targets.c

    def take(connection: Connection) -> None:
        mine = select(targets.id).where(targets.rollout_id == number).order_by(targets.rank)
        ids = list(connection.execute(mine).scalars())
        taken = update(schema.targets).where(targets.rollout_id == number).values(state="offered")
        connection.execute(taken)
        connection.execute(update(schema.targets).where(targets.id.in_(ids[:failed])).values(state="failed"))

    await fleet.database.write(take)
    return number


def steps_of_a_failure(path: Path, keys: Keys, size: int) -> int:
    """Return the steps of SQLite's machine for ``stop_failed`` in a fleet of ``size``."""

    async def run(fleet: Fleet) -> int:
        number = await rollout(fleet)

        def look(connection: Connection) -> int:
            steps = 0

            def step() -> None:
                nonlocal steps
                steps += 1

            driver = connection.connection.driver_connection
            assert driver
            driver.set_progress_handler(step, 1)
            assert wave_work.stop_failed(connection, number, 1_800_000_000) is None
            driver.set_progress_handler(None, 0)
            return steps

        return await fleet.database.write(look)

    return int(in_fleet(path, keys, size, run))


def test_a_failure_costs_no_more_in_a_large_fleet_than_in_a_small_one(tmp_path: Path, keys: Keys) -> None:
    small, large = (steps_of_a_failure(tmp_path / f"{size}.db", keys, size) for size in (20, 2000))
    assert large <= small + 50


@pytest.mark.parametrize("state", [*GIVEN_UP, *CLOSED])
def test_whoever_is_out_is_in_the_index_of_those(tmp_path: Path, keys: Keys, state: TargetState) -> None:
    async def run(fleet: Fleet) -> tuple[int, int]:
        number = await rollout(fleet, failed=0)

        def look(connection: Connection) -> tuple[int, int]:
            one = select(schema.targets.c.id).where(schema.targets.c.rollout_id == number)
            first = one.order_by(schema.targets.c.rank).limit(1)
            change = update(schema.targets).where(schema.targets.c.id == first.scalar_subquery())
            connection.execute(change.values(state=state))
            out = select(schema.targets.c.id).where(text(schema.OUT))
            policy = parse_policy({"waves": ["90%", "rest"]})
            found = wave_work.standings(connection, number, policy, 1_800_000_000, ended=True)
            counts = [wave.counts for _, wave in found]
            return len(connection.execute(out).all()), sum(c.failed + c.closed for c in counts)

        return await fleet.database.write(look)

    assert in_fleet(tmp_path / "fota.db", keys, 20, run) == (1, 1)
