"""What the witness of a run with faults sees; the runs themselves are of `make campaign`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from fault_fleet import FaultDevice, FaultWitness
from server_world import Keys, build_release


def test_witness_sees_what_must_not_be(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    old, new, other = (build_release(keys, f"1.{n}.0", n + 1, n + 1) for n in range(3))
    one, two, stray = (FaultDevice(keys, number, "good", old) for number in range(3))
    witness = FaultWitness({one.id: 1, two.id: 2}, {1: 1, 2: 1}, budget=1)

    def told(device: FaultDevice, wanted: bytes | None) -> list[str]:
        device.wanted, device.heard, before = wanted, True, len(witness.found)
        witness.told(device, new)
        return witness.found[before:]

    assert told(one, new.manifest_digest) == []
    assert "and then" in told(one, other.manifest_digest)[0]
    assert "and then nothing" in told(one, None)[0]
    witness.may_halt = True  # SPEC 5.5: nothing is named while a rollout stands still
    assert [told(one, None), len(told(one, other.manifest_digest))] == [[], 1]
    witness.may_halt = False
    assert "2 devices on trial, 1 may be" in told(two, new.manifest_digest)[0]
    witness.says(two)
    witness.halted = True
    assert ["all is halted" in told(stray, new.manifest_digest)[0], stray.id in witness.given] == [True, True]
    assert "no wave has it" in witness.found[-2]
    wave = {"number": 2, "devices": 1, "phase": "waiting", "pending": 1, "on_trial": 1}
    wave |= dict.fromkeys(("confirmed", "said", "failed", "closed"), 0)
    del witness.found[:]
    witness.looks([wave])
    assert ["counts 2" in witness.found[0], "before wave 2 opened" in witness.found[1]] == [True, True]
    del witness.found[:]
    one.verdict, two.verdict = "confirmed", "reverted"
    witness.compares([one, two], {one.id: "confirmed", two.id: "offered"}, [wave | {"failed": 1}])
    assert witness.found == [f"{two.id} was acknowledged reverted, is offered"]
