"""The lab: no device is given a release that the lab has not confirmed, in whatever way it is ordered."""

from collections.abc import Iterator
from typing import Any

import pytest
from databases import BOTH
from server_world import Built, Device, Keys, Server
from test_server_in_waves import end, fall_back, fleet, given

from fota_server.lab import Lab

DATABASES = BOTH


@pytest.fixture(scope="module")
def own(
    keys: Keys, releases: dict[str, Built], tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Iterator[Server]:
    """A server of this module's own: the lab is the whole fleet's."""
    server = Server(keys, tmp_path_factory.mktemp("lab") / "data").init().start()
    for built in releases.values():
        assert server.publish(built)[0] == 201
    yield server
    assert server.stop()[0] == 0


@pytest.fixture
def bench(own: Server, releases: dict[str, Built]) -> Iterator[tuple[str, list[Device]]]:
    """Three devices of which two have to confirm."""
    name, devices = fleet(own, releases, 3)
    assert own.api("POST", "policies/lab", {"group": name, "devices": 2})[0] == 200
    yield name, devices
    assert own.api("POST", "policies/lab", {"group": None})[0] == 200


def order(server: Server, path: str, **body: Any) -> dict[str, Any]:
    status, answer = server.api("POST", path, body)
    assert status == 201, answer
    return dict(answer)


def ids(devices: list[Device]) -> list[str]:
    return [device.id for device in devices]


@pytest.mark.sqlite
def test_lab_that_has_lost_devices_says_so() -> None:
    lab = Lab(group="bench", devices=3)
    assert lab.why_not(3, 0) is None, "three have confirmed it, whatever became of them"
    assert lab.why_not(2, 3) == "waits for lab bench: 2 of 3 confirmed"
    assert "only 2 device(s) in force" in str(lab.why_not(2, 2))
    assert "0 of 3 confirmed, and it has only 0" in str(lab.why_not(0, 0))


def test_no_way_of_ordering_passes_the_lab_by(
    own: Server, releases: dict[str, Built], bench: tuple[str, list[Device]]
) -> None:
    lab, members = bench
    new = releases["1.1.0"]
    (grouped, waved, single, named) = (fleet(own, releases, 1) for _ in range(4))
    orders = [
        order(own, "rollouts", version="1.1.0", group=grouped[0]),
        order(
            own,
            "rollouts",
            version="1.1.0",
            group=waved[0],
            policy={"waves": ["rest"], "expedite_until": 1 << 35},
        ),
        order(own, "rollouts", version="1.1.0", device=single[1][0].id),
        order(own, "rollbacks", to="1.1.0", device=named[1][0].id),
    ]
    field = [*grouped[1], *waved[1], *single[1], *named[1]]
    waits = f"waits for lab {lab}: 0 of 2 confirmed"
    assert [one["lab"] for one in orders] == [[{"version": "1.1.0", "devices": 1, "reason": waits}]] * 4
    order(own, "rollouts", version="1.1.0", group=lab)
    assert given(own, field, new) == []
    assert given(own, members, new) == members, "the lab itself is given it"
    end(members[:1], new)
    assert given(own, field, new) == [], "one of two"
    seen = own.api("POST", "rollouts", {"version": "1.1.0", "group": lab, "dry_run": True})[1]
    assert seen["lab"] == []
    shown = own.api("GET", f"rollouts/{orders[0]['id']}")[1]
    assert shown["lab"][0]["reason"] == f"waits for lab {lab}: 1 of 2 confirmed"
    end(members[1:2], new)
    assert set(ids(given(own, field, new))) == set(ids(field)), "proved: now everybody"
    assert own.api("GET", f"rollouts/{orders[0]['id']}")[1]["lab"] == []


def test_confirmation_that_was_taken_back_or_of_a_revoked_device_proves_nothing(
    own: Server, releases: dict[str, Built], bench: tuple[str, list[Device]]
) -> None:
    lab, members = bench
    new, old = releases["1.2.0"], releases["1.0.0"]
    order(own, "rollouts", version="1.2.0", group=lab)
    name, field = fleet(own, releases, 1)
    number = order(own, "rollouts", version="1.2.0", group=name)["id"]
    assert len(given(own, members, new)) == 3
    end(members[:2], new)
    fall_back(members[1], old, new)

    def told() -> str:
        return str(own.api("GET", f"rollouts/{number}")[1]["lab"][0]["reason"])

    assert given(own, field, new) == []
    assert told() == f"waits for lab {lab}: 1 of 2 confirmed", "it went back after all"
    end(members[2:], new)
    assert own.api("POST", f"devices/{members[0].id}/revoke")[0] == 200
    assert own.api("POST", f"groups/{lab}/remove", {"devices": [members[1].id]})[0] == 200
    assert given(own, field, new) == [], "a lab that shrinks proves nothing by that"
    assert told().startswith(f"waits for lab {lab}: 1 of 2 confirmed, and it has only 1 device(s) in force")
    status, answer = own.api("DELETE", f"groups/{lab}")
    assert (status, answer["error"]["code"]) == (409, "lab"), "nor is it made anew, by a filter say"
    assert given(own, field, new) == []


def test_device_may_go_back_to_what_it_had_confirmed(
    own: Server, releases: dict[str, Built], bench: tuple[str, list[Device]]
) -> None:
    old = releases["1.0.0"]
    assert own.api("POST", "policies/lab", {"group": None})[0] == 200
    name, field = fleet(own, releases, 2)
    order(own, "rollouts", version="1.1.0", group=name)
    end(given(own, field, releases["1.1.0"]), releases["1.1.0"])
    unproved, others = fleet(own, releases, 2)  # a lab that has not seen 1.0.0 confirmed since it went back
    assert own.api("POST", "policies/lab", {"group": unproved})[1]["lab"]["devices"] == 2
    assert own.api("POST", f"devices/{others[0].id}/revoke")[0] == 200
    back = order(own, "rollbacks", group=name)
    assert back["lab"] == []
    assert given(own, field, old) == field


def test_lab_is_a_group_filled_by_hand_with_as_many_devices(
    own: Server, releases: dict[str, Built], bench: tuple[str, list[Device]]
) -> None:
    lab, _ = bench
    own.api("POST", "groups", {"name": "hollow"})
    own.api("POST", "groups", {"name": "by-word", "filter": "region = mars"})
    for body, code in (
        ({"group": "nowhere"}, "unknown-group"),
        ({"group": "hollow"}, "lab"),
        ({"group": "by-word"}, "by-filter"),
        ({"group": lab, "devices": 4}, "lab"),
        ({"group": lab, "devices": 0}, "lab"),
        ({"group": lab, "devices": True}, "json"),
        ({"devices": 1}, "json"),
    ):
        assert own.api("POST", "policies/lab", body)[1]["error"]["code"] == code, body
    assert own.api("GET", "policies")[1]["lab"] == {"group": lab, "devices": 2, "in_force": 3}
    rows = own.rows("SELECT subject, detail FROM audit WHERE action = 'policy.lab' ORDER BY id DESC")
    assert (rows[0]["subject"], rows[0]["detail"]) == (lab, '{"devices": 2}')
