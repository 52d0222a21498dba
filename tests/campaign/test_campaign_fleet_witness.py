"""What the witness of a run with faults sees; the runs themselves are of `make campaign`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

import fault_verdicts as verdicts
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


def test_verdicts_see_what_opposite_orders_must_not_leave() -> None:
    """Beside each that is well, what breaks its promise."""
    assert (
        verdicts.answered({"cancel": 409, "rollback": None}, {"cancel": (202, 409), "rollback": (202,)}) == []
    )
    assert verdicts.answered({"cancel": 500}, {"cancel": (202, 409)}) == ["cancel was answered 500"]

    assert [verdicts.halts(200, 409, {True}), verdicts.halts(200, 200, {False})] == [[], []]
    assert [len(verdicts.halts(200, *rest)) for rest in ((409, {False}), (200, {True, False}))] == [1, 1]

    well = [(200, 200, {True}, ["pause"]), (200, 200, {False}, ["pause", "resume"]), (None, 200, {False}, [])]
    assert [verdicts.pauses(*one) for one in well] == [[], [], []]
    lost, split, undone = (200, 200, {False}, []), (200, 200, {True, False}, ["pause"]), (200, 200, {False})
    assert [len(verdicts.pauses(*one)) for one in (lost, split, (*undone, ["pause"]))] == [1, 1, 1]

    assert [verdicts.taken_back(202, [7]), verdicts.taken_back(None, [])] == [[], []]
    assert [len(verdicts.taken_back(*one)) for one in ((202, []), (202, [7, 8]), (None, [7, 8]))] == [1, 1, 1]

    had = {"one"}
    assert verdicts.ended("2", "1", had, {"one": ["1", "2", "1"], "two": ["1"]}) == []
    for told in ({"two": ["1", "2"]}, {"one": ["1", "2", "1", "2"]}, {"one": ["1", "3"]}):
        assert len(verdicts.ended("2", "1", had, told)) == 1, told

    assert [verdicts.opened(200, "passed"), verdicts.opened(409, "approval")] == [[], []]
    assert [len(verdicts.opened(*one)) for one in ((200, "approval"), (409, "passed"))] == [1, 1]

    states = {7: ["superseded"], 8: ["confirmed"]}
    assert verdicts.of_two(states, 1, {"one": ["1", "3"], "two": ["3"]}) == []
    assert len(verdicts.of_two({7: ["offered"], 8: ["confirmed"]}, 1, {})) == 1
    assert len(verdicts.of_two({7: ["superseded"], 8: ["confirmed"] * 2}, 1, {})) == 1
    assert len(verdicts.of_two(states, 1, {"one": ["1", "3", "2"]})) == 1
    assert "7, 8, 9" in verdicts.of_two({**states, 9: ["confirmed"]}, 1, {})[0]

    once = {"one": ["1", "2", "1"]}
    assert [verdicts.back_once((201, 409), [7], "2", "1", once)] == [[]]
    assert verdicts.back_once((None, 409), [], "2", "1", once) == []
    assert len(verdicts.back_once((201, 201), [7, 8], "2", "1", once)) == 1
    assert len(verdicts.back_once((201, None), [], "2", "1", once)) == 1
    assert len(verdicts.back_once((201, 409), [7], "2", "1", {"one": ["1", "2", "1", "2", "1"]})) == 1
