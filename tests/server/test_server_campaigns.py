"""Where ROOT names CAMPAIGN keys, the server plans by what people signed, and hands it out; the device has
the last word (tests/agent/test_agent_campaign.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import BOTH, beside
from server_world import Built, Device, Keys, Server, build_release, new_key

from fota_server.campaigns import OUTSIDE, OVER
from fota_wire import campaign, checkin, cose, host_crypto
from fota_wire import root as roots

DATABASES = BOTH
SIGNERS = tuple(new_key() for _ in range(3))
LONG = 1 << 40
WHOLE = (0, LONG, campaign.WHOLE, "")


def document(built: Built, *waves: tuple[int, int, int, str], by: tuple[Any, ...] = SIGNERS[:2]) -> bytes:
    raw = campaign.build_campaign(built.manifest_digest, list(waves))
    for key in by:
        kid = cose.kid_of(host_crypto.public_xy(key))
        raw = campaign.FORM.add_signature(raw, kid, host_crypto.signer(key))
    return raw


@pytest.fixture
def own(keys: Keys, tmp_path: Path, database_kind: str) -> Iterator[Server]:
    running = Server(keys, tmp_path / "data").init().start()
    yield running
    running.stop()


@pytest.fixture
def built(own: Server, keys: Keys) -> Built:
    made = build_release(keys, "1.1.0", 2, 2)
    assert own.publish(made)[0] == 201
    return made


def devices(own: Server, *groups: str | None) -> list[Device]:
    found = [Device(own) for _ in groups]
    for device, group in zip(found, groups, strict=True):
        device.group = group
        device.check_in()
    own.api("POST", "groups", {"name": "all"})
    ids = [device.id for device in found]
    assert own.api("POST", "groups/all/devices", {"devices": ids})[0] == 200
    return found


def want_campaigns(own: Server, keys: Keys) -> tuple[int, Any]:
    return own.api("POST", "roots", raw=keys.root_document(2, campaign=SIGNERS))


def set_campaign(own: Server, built: Built, raw: bytes) -> tuple[int, Any]:
    return own.api("POST", f"releases/{built.version}/campaign", raw=raw)


def left_out(own: Server, built: Built) -> dict[str, int]:
    order = {"version": built.version, "group": "all", "dry_run": True}
    seen = own.api("POST", "rollouts", order)[1]
    return {row["reason"]: row["devices"] for row in seen["left_out"]} | {"": seen["total"]}


def test_root_that_agents_of_before_would_refuse_is_not_published_while_there_are_some(
    own: Server, keys: Keys
) -> None:
    _, old = devices(own, "", None)
    status, answer = want_campaigns(own, keys)
    assert (status, answer["error"]["code"]) == (409, "root-danger")
    assert (
        "1 devices have not said that they take a ROOT with CAMPAIGN keys, and would refuse it and all after"
    )
    assert old.id in answer["error"]["message"]
    old.group = ""
    old.check_in()
    assert want_campaigns(own, keys)[0] == 201


def test_plan_leaves_out_whom_the_campaign_does_not_reach(own: Server, keys: Keys, built: Built) -> None:
    found = devices(own, "", "", "", "canary")
    assert want_campaigns(own, keys)[0] == 201
    (why,) = set(left_out(own, built)) - {""}
    assert "ROOT asks for a CAMPAIGN" in why
    places = {one.id: campaign.place_of(built.manifest_digest, bytes.fromhex(one.id)) for one in found[:3]}
    share = sorted(places.values())[1]  # the lowest is inside, the one at the bound is not
    waves = (0, 1, campaign.WHOLE, ""), (LONG - 1, LONG, share, ""), (0, LONG, campaign.WHOLE, "canary")
    status, answer = set_campaign(own, built, document(built, *waves))
    assert (status, [wave["group"] for wave in answer["waves"]]) == (200, ["", "", "canary"])
    assert left_out(own, built) == {OUTSIDE: 2, "": 2}
    rollout = own.api("POST", "rollouts", {"version": built.version, "group": "all"})[1]
    left = own.api("GET", f"rollouts/{rollout['id']}/left-out")[1]["devices"]
    assert {row["device_id"] for row in left} == {one for one, place in places.items() if place >= share}


def test_document_comes_with_what_it_is_for_and_as_long_as_the_device_does_not_run_it(
    own: Server, keys: Keys, built: Built
) -> None:
    now, later = devices(own, "canary", "")
    assert want_campaigns(own, keys)[0] == 201
    raw = document(built, (0, LONG, campaign.WHOLE, "canary"), (LONG - 1, LONG, campaign.WHOLE, ""))
    assert set_campaign(own, built, raw)[0] == 200
    assert own.api("POST", "rollouts", {"version": built.version, "group": "all"})[1]["total"] == 2
    assert now.check_in().response.roots
    for _ in range(2):  # asked again, it is offered again
        answer = now.check_in()
        assert (answer.wanted, answer.response.campaign) == (built.manifest_digest, raw)
        found = campaign.open_campaign(raw, now.root, built.manifest_digest, host_crypto.verify)
        assert found.until(bytes.fromhex(now.id), "canary", answer.assignment.time) == LONG
    for _ in range(3):
        answer = later.check_in()
        assert (answer.wanted, answer.response.campaign) == (None, None)
    now.take(built)
    now.check_in()
    now.state = "confirmed"
    answer = now.check_in()
    assert answer.wanted == built.manifest_digest


def test_document_that_ends_ends_what_is_handed_out(own: Server, keys: Keys, built: Built) -> None:
    (device,) = devices(own, "")
    assert want_campaigns(own, keys)[0] == 201
    assert set_campaign(own, built, document(built, WHOLE))[0] == 200
    own.api("POST", "rollouts", {"version": built.version, "group": "all"})
    device.check_in()
    assert device.check_in().wanted == built.manifest_digest
    over = document(built, (0, 1, campaign.WHOLE, ""))
    status, answer = set_campaign(own, built, over)
    assert (status, answer["error"]["code"]) == (400, "campaign-over")
    assert device.check_in().wanted == built.manifest_digest, "what was there is in force still"
    with beside(own.data / "fota.db") as connection:  # as if it had ended meanwhile
        connection.execute("UPDATE campaigns SET document = ?", (over,))
    assert device.check_in().wanted is None
    assert left_out(own, built) == {"rollout 1 wants this release of it already": 1, "": 0}
    new = build_release(keys, "1.2.0", 2, 3)
    assert own.publish(new)[0] == 201
    assert set_campaign(own, new, document(new, (0, LONG, campaign.WHOLE, "")))[0] == 200
    with beside(own.data / "fota.db") as connection:
        ended = document(new, (0, 1, campaign.WHOLE, "")), new.manifest_digest.hex()
        connection.execute(
            "UPDATE campaigns SET document = ? WHERE release_id ="
            " (SELECT id FROM releases WHERE manifest_digest = ?)",
            ended,
        )
    assert left_out(own, new) == {OVER: 1, "": 0}
    assert set_campaign(own, built, document(built, WHOLE))[0] == 200
    assert device.check_in().wanted == built.manifest_digest


def test_what_devices_would_refuse_is_not_kept(own: Server, keys: Keys, built: Built) -> None:
    other = build_release(keys, "1.2.0", 3, 3)
    assert own.publish(other)[0] == 201
    good = document(built, WHOLE)
    assert set_campaign(own, built, good)[1]["error"]["code"] == "campaign"  # ROOT names no keys
    assert want_campaigns(own, keys)[0] == 201
    for raw, code in (
        (document(built, WHOLE, by=SIGNERS[:1]), "threshold"),
        (document(built, WHOLE, by=tuple(keys.release[:2])), "threshold"),
        (document(other, WHOLE), "campaign-manifest"),
        (b"\xff", None),
        (good[:-1] + bytes([good[-1] ^ 1]), "signature"),
    ):
        status, answer = set_campaign(own, built, raw)
        assert status in (400, 409), answer
        assert code in (None, answer["error"]["code"])
    assert own.rows("SELECT release_id FROM campaigns") == []
    assert set_campaign(own, built, good)[0] == 200
    assert len(own.rows("SELECT release_id FROM campaigns")) == 1


def test_document_of_keys_that_root_has_replaced_is_handed_out_no_more(
    own: Server, keys: Keys, built: Built
) -> None:
    (device,) = devices(own, "")
    assert want_campaigns(own, keys)[0] == 201
    assert set_campaign(own, built, document(built, WHOLE))[0] == 200
    others = SIGNERS[0], new_key(), new_key()
    assert own.api("POST", "roots", raw=keys.root_document(3, campaign=others))[0] == 201
    (why,) = set(left_out(own, built)) - {""}
    assert "ROOT asks for a CAMPAIGN" in why
    own.api("POST", "rollouts", {"version": built.version, "group": "all"})
    assert device.check_in().wanted is None


def test_document_has_room_beside_root_steps_or_comes_with_the_next_answer() -> None:
    response = checkin.Response(bytes(512), [], bytes(3000), 60, bytes(16), "none")
    response.campaign = bytes(checkin.MAX_CAMPAIGN)
    assert len(checkin.encode_response(response)) <= checkin.LEAST_ANSWER
    assert roots.CAMPAIGN == 3


def test_releases_are_shown_with_the_campaign_that_is_in_force_or_the_want_of_one(
    own: Server, keys: Keys, built: Built
) -> None:
    def shown() -> list[Any]:
        listed = own.api("GET", "releases")[1]["releases"]
        assert own.api("GET", f"releases/{built.version}")[1] in listed
        return [one["campaign"] for one in listed]

    assert shown() == [None]
    assert want_campaigns(own, keys)[0] == 201
    assert shown() == [[]]
    assert set_campaign(own, built, document(built, WHOLE))[0] == 200
    assert shown() == [[dict(zip(("not_before", "not_after", "share", "group"), WHOLE, strict=True))]]
    other = tuple(new_key() for _ in range(3))
    assert own.api("POST", "roots", raw=keys.root_document(3, campaign=other))[0] == 201
    assert shown() == [[]]


def test_order_that_starts_when_its_campaign_has_ended_reaches_nobody_and_says_so(
    own: Server, keys: Keys, built: Built
) -> None:
    devices(own, "")
    assert want_campaigns(own, keys)[0] == 201
    assert set_campaign(own, built, document(built, (0, 1 << 34, campaign.WHOLE, "")))[0] == 200
    for start_at, seen in (((1 << 34) + 1, OVER), (1 << 34, None)):
        policy = {"waves": ["rest"], "start_at": start_at}
        order = {"version": built.version, "group": "all", "dry_run": True, "policy": policy}
        found = own.api("POST", "rollouts", order)[1]
        assert found.get("total") == (None if seen else 1)
        assert (seen is None) or seen in found["error"]["message"]
