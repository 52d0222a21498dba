"""The rollout that was planned is what happens: a sample of what `make campaign` does at length."""

import asyncio
import random
from pathlib import Path

import pytest
import sim_wire
from fleet_world import hash_of
from rollout_sim import Simulation
from rollout_witness import Scenario
from server_world import Keys, new_key

from fota_server import answers, hand_out, orders, rollouts
from fota_server.crypto import AssignSigner
from fota_server.trust import TrustChain
from fota_wire import assignment, checkin, host_crypto, report
from fota_wire.errors import FotaError


@pytest.mark.parametrize("seed", [1, 5, 9])
def test_rollout_does_what_its_plan_promised(tmp_path: Path, keys: Keys, seed: int) -> None:
    scenario = Scenario.of(seed, devices=40, days=3)
    witness = asyncio.run(Simulation(tmp_path / "fota.db", keys, scenario, seed).run())
    assert witness.found == [], f"seed {seed}: {scenario}"
    assert witness.given, "something happened"


class OneFails(Simulation):
    """One device went back and says so: in the moment in which all others ask for the release, or (``stop``)
    while its rollout is stopped by hand; then they ask as soon as that is lifted.
    """

    stop: str | None = None

    async def live(self, number: int) -> None:
        devices, database, checkins = list(self.devices.values()), self.fleet.database, self.new_life()
        await self.go_on()
        await database.write(hand_out.halt, "each shall be known, and given nothing yet", "test")
        await self.call(checkins, devices)
        await database.write(hand_out.unhalt, "test")
        bad = devices[10]
        while not bad.events:
            await self.call(checkins, [bad])
        if self.stop == "halt":
            await database.write(hand_out.halt, "drill", "test")
            await self.call(checkins, [bad])
            await database.write(hand_out.unhalt, "test")
        elif self.stop == "pause":
            await database.write(rollouts.set_paused, number, True, "test")
            await self.call(checkins, [bad])
            await database.write(orders.resume, number, "test")
        await self.call(checkins, devices)
        await checkins.stop()
        self.given = [one.id for one in devices if one.given_at is not None]
        self.shown = await self.fleet.show(number)


@pytest.mark.parametrize("stop", [None, "halt", "pause"])
@pytest.mark.parametrize(("on_failure", "state"), [("pause", "running"), ("rollback", "cancelling")])
def test_nobody_is_given_what_has_failed(
    tmp_path: Path, keys: Keys, on_failure: str, state: str, stop: str | None
) -> None:
    policy = {"waves": ["rest"], "errors": "0%", "on_failure": on_failure}
    simulation = OneFails(tmp_path / "fota.db", keys, Scenario(policy, devices=21, days=0, bad=100), 0)
    simulation.stop = stop
    asyncio.run(simulation.run())
    assert len(simulation.given) == 1
    assert simulation.shown["held"] == "wave 1: 1 of 21 device(s) in error (1 failed); at most 0% may"
    assert simulation.shown["state"] == state


def test_devices_of_a_simulated_fleet_say_and_read_as_those_of_the_wire(keys: Keys) -> None:
    root, signer = TrustChain([keys.genesis]).current, AssignSigner(keys.assign)
    key = new_key()
    speaker = sim_wire.Speaker(host_crypto.public_xy(key), host_crypto.signer(key))
    dice = random.Random(3)
    for state, installed, events in (("trial", bytes(32), []), ("confirmed", None, [("reverted", "AP1")])):
        nonce, device = dice.randbytes(16), dice.randbytes(9)
        raw = speaker.report(nonce, device, "1.1.0", state, installed, tuple(events))
        assert raw == report.build(
            nonce=nonce, device_id=device, slot="A", image_hash=bytes.fromhex(hash_of("1.1.0")),
            version="1.1.0", sec_cnt=1, floor=0, root_version=1, state=state, installed=installed,
            events=events, reset_cause=4, kid=speaker.kid, sign=speaker.sign,
        )  # fmt: skip
    asked = [(dice.randbytes(16), dice.randbytes(9)) for _ in range(11)]
    digests = [None, bytes(32)]
    payloads = [answers.payload(*one, 5, 2, digests[n % 2], 1, n % 2, 60) for n, one in enumerate(asked)]
    for signed, (nonce, device) in zip(signer.sign_all(payloads, [True] * 10 + [False]), asked, strict=True):
        for interval, status in ((9, "none"), (900, "refused: " + "x" * 30), (70_000, "accepted")):
            body = answers.response(
                signed, [], b"", interval, nonce, status, held=False, key_order=0, refused_values=()
            )
            mine, theirs = sim_wire.read_answer(body), checkin.parse_response(body)
            assert {**vars(mine), "manifest": None} == {**vars(theirs), "manifest": None}
        found = sim_wire.open_assignment(signed, root, nonce, device)
        wire = assignment.open_assignment(signed, root, nonce, device, host_crypto.verify)
        assert vars(found) | {"nonce": nonce, "device_id": device} == vars(wire)
        for place in range(0, len(signed), 7):
            torn = signed[:place] + bytes((signed[place] ^ 1,)) + signed[place + 1 :]
            with pytest.raises((FotaError, IndexError, KeyError)):
                sim_wire.open_assignment(torn, root, nonce, device)
        with pytest.raises(FotaError):
            sim_wire.open_assignment(signed, root, bytes(16), device)
