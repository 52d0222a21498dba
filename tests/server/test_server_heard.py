"""What says nothing new waits to be written; what is new is on the disk before its answer (ADR 70)."""

import itertools
import secrets
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH
from fleet_world import GROUP, Fleet, counted, device_id, hash_of, in_fleet
from server_world import Device, Keys, Server, new_key
from sqlalchemy import select, update

from fota_server import facts, hand_out, heard, orders, schema
from fota_server.admission import Forbidden
from fota_server.catalog import Catalog
from fota_server.checkins import CheckIns, Policy
from fota_server.crypto import AssignSigner
from fota_server.database import Database, DatabaseUnavailable
from fota_server.identity import Identity
from fota_server.wave_policy import parse_policy
from fota_wire import checkin, cose, host_crypto, report

DATABASES = BOTH
CLOCK = itertools.count(1_795_000_000)
NEVER = 1e6
KEY = new_key()


class Visitor:
    """A device of the fleet that checks in, here or there."""

    def __init__(self, number: int = 0) -> None:
        self.id, self.nonce = device_id(number), b""
        self.identity = Identity(
            device_id=self.id,
            public_key=host_crypto.public_xy(KEY),
            certificate=b"",
            attestation=None,
            not_before=0.0,
            not_after=4e9,
        )
        self.says: dict[str, Any] = {
            "slot": "A",
            "image_hash": bytes.fromhex(hash_of("1.1.0")),
            "version": "1.1.0",
            "sec_cnt": 1,
            "floor": 0,
            "root_version": 1,
            "state": "confirmed",
            "installed": None,
            "events": [],
            "reset_cause": 4,
        }

    def report(self, nonce: bytes | None = None) -> bytes:
        return report.build(
            nonce=nonce or self.nonce,
            device_id=bytes.fromhex(self.id),
            kid=cose.kid_of(self.identity.public_key),
            sign=host_crypto.signer(KEY),
            **self.says,
        )

    async def visit(
        self, server: CheckIns, raw: bytes | None = None, *, telemetry: Any = (), root: int = 1
    ) -> checkin.Response:
        request = checkin.Request(secrets.token_bytes(16), root, None, raw)
        request.telemetry = list(telemetry)
        answer = checkin.parse_response(await server.answer(self.identity, request))
        self.nonce = answer.nonce
        return answer

    async def settle(self, server: CheckIns) -> None:
        """Have all that it says be known."""
        await self.visit(server)
        for _ in range(2):
            assert (await self.visit(server, self.report())).report_status == "accepted"

    async def stored(self, fleet: Fleet) -> Any:
        query = select(schema.devices).where(schema.devices.c.id == self.id)
        return await fleet.database.read(lambda connection: connection.execute(query).one())


def server_of(fleet: Fleet, keys: Keys, flush_s: float = NEVER) -> CheckIns:
    policy, signer = Policy(flush_s=flush_s), AssignSigner(keys.assign)
    server = CheckIns(fleet.database, Catalog(), fleet.trust, signer, policy, lambda: next(CLOCK))
    server.start()
    return server


def visits(
    path: Path,
    keys: Keys,
    work: Callable[[Fleet, CheckIns, Visitor], Awaitable[None]],
    flush_s: float = NEVER,
) -> None:
    async def run(fleet: Fleet) -> None:
        server, visitor = server_of(fleet, keys, flush_s), Visitor()
        await visitor.settle(server)
        await work(fleet, server, visitor)
        await server.stop()

    in_fleet(path / "fota.db", keys, 3, run)


def test_who_says_nothing_new_costs_no_transaction_that_writes(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        before = await visitor.stored(fleet)
        with counted(fleet.engine) as done:
            for _ in range(3):
                told = await visitor.visit(server)
                assert (told.report_status, told.nonce) == ("none", visitor.nonce)
            for _ in range(3):
                assert (await visitor.visit(server, visitor.report())).report_status == "accepted"
        assert done.statements == []
        assert await visitor.stored(fleet) == before

    visits(tmp_path, keys, work)


def test_nonce_stays_until_a_report_was_made_with_it_and_counts_once(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        given = visitor.nonce
        assert (await visitor.visit(server)).nonce == given
        said = visitor.report()
        told = await visitor.visit(server, said)
        assert (told.report_status, told.nonce != given) == ("accepted", True)
        assert (await visitor.visit(server, said)).report_status.startswith("refused: REPORT answers another")

    visits(tmp_path, keys, work)


def test_what_was_heard_is_written_in_a_while_and_at_the_end(tmp_path: Path, keys: Keys) -> None:
    async def run(fleet: Fleet) -> None:
        for flush_s in (0.0, NEVER):
            server, visitor = server_of(fleet, keys, flush_s), Visitor()
            await visitor.settle(server)
            before = await visitor.stored(fleet)
            await visitor.visit(server, visitor.report())
            while flush_s == 0 and (await visitor.stored(fleet)).report_at == before.report_at:
                await visitor.visit(server)
            await server.stop()
            after = await visitor.stored(fleet)
            assert after.report_at > before.report_at
            assert after.last_seen >= after.report_at
            assert after.report_nonce == visitor.nonce != before.report_nonce

    in_fleet(tmp_path / "fota.db", keys, 1, run)


NEWS: dict[str, dict[str, Any]] = {
    "slot": {"slot": "B"},
    "image": {"image_hash": bytes(32)},
    "version": {"version": "1.1.1"},
    "counter": {"sec_cnt": 2},
    "floor": {"floor": 1},
    "state": {"state": "fallback"},
    "installed": {"installed": bytes(32)},
    "events": {"events": [("failed", "nothing")]},
    "reset": {"reset_cause": 5},
}


@pytest.mark.parametrize("what", NEWS)
def test_report_that_says_something_new_is_stored_when_it_is_answered(
    tmp_path: Path, keys: Keys, what: str
) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        before = await visitor.stored(fleet)
        visitor.says |= NEWS[what]
        assert (await visitor.visit(server, visitor.report())).report_status == "accepted"
        after = await visitor.stored(fleet)
        assert after.report_at > before.report_at
        assert after.report_nonce == visitor.nonce
        assert after.reset_cause == visitor.says["reset_cause"]

    visits(tmp_path, keys, work)


def test_values_roots_and_refusals_are_stored_when_they_are_answered(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        moments = [(await visitor.stored(fleet)).last_seen]

        async def written() -> Any:
            row = await visitor.stored(fleet)
            moments.append(row.last_seen)
            assert moments[-1] > moments[-2]
            return row

        await visitor.visit(server, telemetry=[("a", 0, "1")])
        await written()
        await visitor.visit(server, visitor.report(bytes(16)))
        assert "another nonce" in (await written()).refused_report
        await visitor.visit(server)
        assert (await written()).refused_report is None
        await visitor.visit(server, root=0)
        assert (await written()).root_version == 0

    visits(tmp_path, keys, work)


def test_revocation_counts_at_once_for_who_says_nothing_new(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        await visitor.visit(server)
        mine = schema.devices.c.id == visitor.id
        revoke = update(schema.devices).where(mine).values(revoked=True)
        await fleet.database.write(lambda connection: connection.execute(revoke) and None)
        with pytest.raises(Forbidden, match="is revoked"):
            await visitor.visit(server)

    visits(tmp_path, keys, work)


def test_servers_beside_each_other_never_put_an_older_nonce_in_a_newer_ones_place(
    tmp_path: Path, keys: Keys
) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        await visitor.visit(server, visitor.report())  # known to this one alone
        other = server_of(fleet, keys)
        assert (await visitor.visit(other, visitor.report())).report_status.startswith("refused")
        newest = visitor.nonce
        await server.stop()
        await other.stop()
        assert (await visitor.stored(fleet)).report_nonce == newest
        third = server_of(fleet, keys)
        assert (await visitor.visit(third, visitor.report())).report_status == "accepted"
        await third.stop()

    visits(tmp_path, keys, work)


def test_what_the_database_does_not_take_is_kept_for_the_next_time(tmp_path: Path, keys: Keys) -> None:
    async def work(fleet: Fleet, server: CheckIns, visitor: Visitor) -> None:
        before = await visitor.stored(fleet)
        await visitor.visit(server, visitor.report())
        server._database = _Full(fleet.engine)
        await server._write_heard()
        assert (await visitor.stored(fleet)).report_at == before.report_at
        assert (await visitor.visit(server, visitor.report())).report_status == "accepted"
        server._database = fleet.database
        await server._write_heard()
        assert (await visitor.stored(fleet)).report_nonce == visitor.nonce

    visits(tmp_path, keys, work)


class _Full(Database):
    async def write(self, *what: Any, **more: Any) -> Any:
        raise DatabaseUnavailable("no")


def test_halt_is_seen_by_who_says_nothing_new(tmp_path: Path, keys: Keys) -> None:
    async def run(fleet: Fleet) -> None:
        await fleet.order("update", "1.2.0")
        while await fleet.planner.step():
            pass
        server, visitor = server_of(fleet, keys), Visitor()
        await visitor.settle(server)  # it was given 1.2.0, and is waited for
        hurried = await visitor.visit(server, visitor.report())
        await fleet.database.write(hand_out.halt, "drill", "sim")
        halted = await visitor.visit(server, visitor.report())
        assert (hurried.report_status, halted.report_status) == ("accepted", "accepted")
        assert hurried.interval <= 36 < 240 <= halted.interval
        await server.stop()

    in_fleet(tmp_path / "fota.db", keys, 1, run)


def test_server_that_is_killed_has_each_device_report_once_more_and_knows_all_else(
    tmp_path: Path, keys: Keys
) -> None:
    own = Server(keys, tmp_path / "data").init().start()
    try:
        device = Device(own)
        for _ in range(4):
            device.check_in()
        shown = own.api("GET", f"devices/{device.id}")[1]
        own.stop(signal.SIGKILL)
        own.start()
        device.close()
        statuses = [device.check_in().response.report_status for _ in range(3)]
        assert statuses[-2:] == ["accepted", "accepted"]
        known = own.api("GET", f"devices/{device.id}")[1]
        for name in ("running", "confirmed", "installed", "floor", "events", "history"):
            assert known[name] == shown[name]
    finally:
        own.stop()


def test_everything_that_a_check_in_writes_is_compared_or_a_moment() -> None:
    written = {*facts._OF_CONTACT, *facts._OF_REPORT}
    assert {column.name for column in facts.KNOWN} | (facts._MOMENTS - {"device"}) == written
    assert heard.FLUSH_S <= 2


def test_who_waits_for_its_wave_costs_no_transaction_until_it_is_open(tmp_path: Path, keys: Keys) -> None:
    async def run(fleet: Fleet) -> None:
        policy = parse_policy({"waves": ["1", "rest"], "approval": True})
        waves = orders.InWaves(policy=policy, seed="1")
        order = await fleet.database.read(orders.order_for, "update", "1.2.0", GROUP, waves)
        root = fleet.trust.current
        plan = await fleet.database.read(orders.preview_waves, order, root, 300)
        promised = replace(order, digest=plan["digest"])
        number = (await orders.place(fleet.database, promised, "1.2.0", root, "sim"))["id"]
        while await fleet.planner.step():
            pass
        await fleet.planner.look(next(CLOCK))  # the first wave is open
        server = server_of(fleet, keys)
        everybody = [Visitor(number) for number in range(4)]
        for visitor in everybody:
            await visitor.settle(server)
        rank = select(schema.targets.c.device_id).where(schema.targets.c.state == "pending")
        waiting = set(await fleet.database.read(lambda c: c.execute(rank).scalars().all()))
        assert len(waiting) == 3
        held = [visitor for visitor in everybody if visitor.id in waiting]
        with counted(fleet.engine) as done:
            for visitor in held:
                assert (await visitor.visit(server, visitor.report())).manifest is None
        assert done.statements == []
        change = update(schema.rollouts).where(schema.rollouts.c.id == number).values(open_rank=1 << 62)
        await fleet.database.write(lambda connection: connection.execute(change) and None)
        for visitor in held:
            assert (await visitor.visit(server, visitor.report())).manifest is not None
        await server.stop()

    in_fleet(tmp_path / "fota.db", keys, 4, run)
