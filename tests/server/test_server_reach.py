"""A security counter too far above what devices have is told to who decides, not by the first device."""

import secrets
from typing import Any

import pytest
from databases import BOTH
from server_world import Built, Device, Keys, Server, build_release

from fota_server.reach import highest

DATABASES = BOTH
STEP = 255


class Line:
    """A class of its own: its releases in order, its devices in one group."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self.server, self.keys = server, keys
        self.class_id, self.count = secrets.token_bytes(16), 0
        self.group = "r-" + secrets.token_hex(4)
        assert server.api("POST", "groups", {"name": self.group})[0] == 201

    def publish(self, sec_cnt: int) -> tuple[int, Any, Built]:
        self.count += 1
        built = build_release(self.keys, f"7.0.{self.count}", sec_cnt, self.count, class_id=self.class_id)
        assert self.server.api("PUT", f"artifacts/{built.digest}", raw=built.file)[0] == 201
        return *self.server.api("POST", "releases", raw=built.envelope), built

    def device(self, built: Built, floor: int) -> Device:
        device = Device(self.server)
        device.check_in()
        device.floor = floor
        device.take(built, state="confirmed")
        device.check_in()
        path = f"groups/{self.group}/devices"
        assert self.server.api("POST", path, {"devices": [device.id]})[0] == 200
        return device


@pytest.fixture
def line(server: Server, keys: Keys) -> Any:
    yield Line(server, keys)
    assert server.api("POST", "limits", {"counter_step": None})[0] == 200


def test_release_that_no_device_of_its_class_could_take_is_refused_and_leaves_nothing(line: Line) -> None:
    status, shown, first = line.publish(1)
    assert (status, shown["warnings"]) == (201, [])
    low, high = line.device(first, 1), line.device(first, 4)
    status, answer, _ = line.publish(4 + STEP + 1)
    assert (status, answer["error"]["code"]) == (409, "PO2")
    for word in ("security counter 260", "more than 255", "the highest floor is 4", "with 259 at most"):
        assert word in answer["error"]["message"]
    assert len(line.server.rows("SELECT id FROM releases WHERE class_id = ?", line.class_id.hex())) == 1
    status, shown, _ = line.publish(4 + STEP)
    assert status == 201
    (warning,) = shown["warnings"]
    for word in ("1 device(s)", low.id, "security counter 259", "with 256 at most"):
        assert word in warning
    assert high.id not in warning
    assert line.publish(4 + 2 * STEP)[0] == 201, "by way of the one before"


def test_plan_leaves_out_who_cannot_go_so_far_and_names_why(line: Line) -> None:
    _, _, first = line.publish(1)
    low, high = line.device(first, 1), line.device(first, 4)
    _, _, far = line.publish(4 + STEP)
    order = {"version": far.version, "group": line.group}
    plan = line.server.api("POST", "rollouts", {**order, "policy": {"waves": ["rest"]}, "dry_run": True})[1]
    assert (plan["total"], plan["left_out"][0]["reason"]) == (
        1,
        "PO2: security counter 259 is more than 255 above the device's floor 1: it needs a release between"
        " first",
    )
    assert line.server.api("POST", "rollouts", order)[0] == 201
    assert [one.check_in(with_report=False).wanted for one in (low, high)] == [None, far.manifest_digest]
    status, answer = line.server.api("POST", "rollbacks", {"to": far.version, "device": low.id})
    assert (status, "PO2" in answer["error"]["message"]) == (409, True)


def test_what_factories_allow_is_said_once_for_plan_publication_and_root(line: Line) -> None:
    _, _, first = line.publish(1)
    low = line.device(first, 1)
    assert line.publish(500)[0] == 409
    status, limits = line.server.api("POST", "limits", {"counter_step": 499})
    assert (status, limits["counter_step"]) == (200, 499)
    status, shown, far = line.publish(500)
    assert (status, shown["warnings"]) == (201, [])
    assert line.server.api("POST", "rollouts", {"version": far.version, "group": line.group})[0] == 201
    assert low.check_in(with_report=False).wanted == far.manifest_digest
    assert line.server.api("GET", "limits")[1]["counter_step"] == 499
    for wrong in ({"counter_step": 0}, {"counter_step": 262144}, {"counter_step": True}, {}, {"steps": 1}):
        assert line.server.api("POST", "limits", wrong)[0] == 400
    assert line.server.api("GET", "limits")[1]["counter_step"] == 499
    assert line.server.api("POST", "limits", {"counter_step": None})[1]["counter_step"] == STEP


def test_device_that_has_left_service_counts_for_nobody(line: Line) -> None:
    _, _, first = line.publish(1)
    gone = line.device(first, 1)
    assert line.publish(257)[0] == 409
    assert line.server.api("POST", f"devices/{gone.id}/revoke")[0] == 200
    status, shown, _ = line.publish(257)
    assert (status, shown["warnings"]) == (201, [])


@pytest.mark.parametrize(
    ("floor", "counters", "most"),
    [(0, [], 255), (0, [255], 510), (0, [256], 255), (0, [510, 255, 1], 765), (9, [8, 264], 519)],
)
def test_highest_counter_is_come_to_step_by_step(floor: int, counters: list[int], most: int) -> None:
    assert highest(floor, STEP, counters) == most
