"""What one transaction looks at does not grow with the fleet: one failure more, few devices of a million."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from fleet_world import GROUP, Fleet, device_id, hash_of, in_fleet, machine_steps
from server_world import Keys
from sqlalchemy import Connection, select, text, update

from fota_server import orders, schema, wave_work
from fota_server.clock import Watch
from fota_server.decide import CLOSED, GIVEN_UP, TargetState
from fota_server.plan import Scope, page_end
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


INDEXES = ("targets_rank", "targets_forgiven", "targets_out")  # all of (rollout_id, rank, state)


def steps_of_a_failure(path: Path, keys: Keys, size: int) -> set[int]:
    """Return the steps of SQLite's machine for ``stop_failed`` in a fleet of ``size``, with its indexes made
    in any order: a new database has them in any.
    """

    def made_anew(connection: Connection, names: Sequence[str]) -> None:
        by_name = {index.name: index for index in schema.targets.indexes}
        for name in names:
            by_name[name].drop(connection)
            by_name[name].create(connection)

    async def run(fleet: Fleet) -> set[int]:
        number = await rollout(fleet)

        def look(connection: Connection, names: Sequence[str]) -> int:
            made_anew(connection, names)
            found = []
            now = 1_800_000_000
            steps = machine_steps(
                connection, lambda: found.append(wave_work.stop_failed(connection, number, now))
            )
            assert found == [None, None]
            return steps

        orders_of_all = permutations(INDEXES)
        return {await fleet.database.write(partial(look, names=names)) for names in orders_of_all}

    return set(in_fleet(path, keys, size, run))


def test_a_failure_costs_no_more_in_a_large_fleet_than_in_a_small_one(tmp_path: Path, keys: Keys) -> None:
    small, large = (steps_of_a_failure(tmp_path / f"{size}.db", keys, size) for size in (20, 2000))
    assert max(large) <= min(small) + 50, (small, large)


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


SINCE = Scope(device=None, group=None, since=10)


def given_to(fleet: Fleet, numbers: Sequence[int]) -> None:
    """Have these been given their last release at 10, and have confirmed it at 20."""
    ids, last = [device_id(number) for number in numbers], hash_of("1.1.0")
    given, proved = schema.targets.c, schema.confirmations.c

    def change(connection: Connection) -> None:
        connection.execute(update(schema.targets).where(given.device_id.in_(ids)).values(given_at=10))
        of = proved.device_id.in_(ids), proved.image_hash == last
        connection.execute(update(schema.confirmations).where(*of).values(at=20))

    fleet.database.transact(change)


@pytest.mark.parametrize("look", [1, 3, 7, 500])
@pytest.mark.parametrize("numbers", [[0], [39], [0, 1, 2, 3, 38, 39], range(40)])
def test_whoever_is_looked_for_is_found_in_steps_of_any_size(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, look: int, numbers: Sequence[int]
) -> None:
    monkeypatch.setattr(orders, "LOOK", look)
    monkeypatch.setattr(orders, "PAGE", 4)

    async def run(fleet: Fleet) -> tuple[int, set[str], str]:
        given_to(fleet, numbers)
        number = (await fleet.order("rollback", None, SINCE))["id"]
        steps = 0
        while await fleet.planner.step():
            steps += 1
        back = {one for one, release, state in await fleet.wanted() if (release, state) == (1, "pending")}
        return steps, back, str((await fleet.show(number))["state"])

    steps, back, state = in_fleet(tmp_path / "fota.db", keys, 40, run)
    assert (back, state) == ({device_id(number) for number in numbers}, "running")
    assert steps + 1 >= 40 // min(look, 40)


def test_a_step_looks_at_so_many_devices_and_no_more(tmp_path: Path, keys: Keys) -> None:
    def steps(size: int) -> int:
        async def run(fleet: Fleet) -> int:
            given_to(fleet, [size - 1])
            return await fleet.database.read(
                lambda connection: machine_steps(
                    connection, lambda: connection.execute(page_end(SINCE, None, 4, 50)).scalar_one()
                )
            )

        return int(in_fleet(tmp_path / f"{size}.db", keys, size, run))

    assert steps(1500) <= steps(60) + 20


@pytest.mark.parametrize(
    ("kind", "version", "scope"),
    [("update", "1.2.0", GROUP), ("rollback", None, GROUP), ("rollback", None, SINCE)],
)
def test_what_an_order_is_answered_by_does_not_grow_with_those_whom_it_reaches(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, kind: str, version: str | None, scope: Scope
) -> None:
    monkeypatch.setattr(orders, "LOOK", 300)

    def steps(size: int) -> int:
        async def run(fleet: Fleet) -> int:
            given_to(fleet, range(size))
            root = fleet.trust.current

            def answer(connection: Connection) -> None:
                order = orders.order_for(connection, kind, version, scope)
                orders.require_effect(connection, order, root)

            return await fleet.database.read(
                lambda connection: machine_steps(connection, partial(answer, connection))
            )

        return int(in_fleet(tmp_path / f"{size}.db", keys, size, run))

    small, large = steps(400), steps(2000)
    assert large <= small + 50, (small, large)


@pytest.mark.parametrize("jump_s", [0, 7200])
def test_a_wave_soaks_and_is_silent_from_a_jump_of_the_clock_on(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    began, times = 1_800_000_000, {"wall": 1_800_000_000.0}
    monkeypatch.setattr(wave_work, "watch", Watch(lambda: times["wall"], lambda: 5.0))

    async def run(fleet: Fleet) -> tuple[int, bool]:
        number = await rollout(fleet, failed=0)
        times["wall"] += jump_s
        now = began + 7200
        policy = parse_policy({"waves": ["90%", "rest"], "silence_s": 3600})

        def look(connection: Connection) -> tuple[int, bool]:
            given = update(schema.targets).where(schema.targets.c.rollout_id == number)
            connection.execute(given.values(given_at=began))
            _, wave = wave_work.standings(connection, number, policy, now)[0]
            return wave.since, bool(wave.counts.silent)

        return await fleet.database.write(look)

    since, silent = in_fleet(tmp_path / "fota.db", keys, 20, run)
    assert (since == began + jump_s, silent) == (True, jump_s == 0)
