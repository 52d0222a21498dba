"""SWUpdate, a client of hawkBit's that was not written here, updates itself from our server."""

import hashlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import swupdate
from ddi_world import Ddi
from lifeline import until
from server_world import Built, Keys, Server, build_release, cert_pem, key_pem, make_cert, new_key
from swupdate import FAILED, SUCCESS, Box

pytestmark = pytest.mark.skipif(bool(swupdate.why_not()), reason=swupdate.why_not() or "-")
CONTENT = b"firmware 1.1.0\n" * 50_000
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def ddi_server(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("swupdate") / "data"
    running = Server(keys, data).init("--ddi-tenant", "DEFAULT", "--interval", "1").start()
    yield running
    code, stderr = running.stop()
    assert code == 0, stderr
    assert "Traceback" not in stderr, stderr


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    found = Box(tmp_path / "box")
    yield found
    found.stop()
    shutil.rmtree(found.sockets)


@pytest.fixture
def release(ddi_server: Server, box: Box) -> Built:
    """A release of ours with the .swu that SWUpdate installs."""
    number = next(NUMBERS)
    built = build_release(ddi_server.keys, f"1.1.{number}", 1, number)
    assert ddi_server.publish(built)[0] == 201
    swu = box.swu(built.version, CONTENT)
    digest = hashlib.sha256(swu).hexdigest()
    ddi_server.api("PUT", f"artifacts/{digest}", raw=swu)
    body = {"digest": digest, "name": "press.swu"}
    assert ddi_server.api("POST", f"releases/{built.version}/ddi", body)[0] == 200
    return built


def until_state(one: Ddi, box: Box, state: str) -> None:
    until(lambda: one.twin()["wanted"]["state"] == state, f"{one.name} is {state}", box.running[-1])


def until_installed(box: Box) -> None:
    # The file grows as it is written; what SWUpdate does after that is told in its log.
    until(lambda: "SWUPDATE successful !" in box.log, "SWUpdate has installed", box.running[-1])
    assert box.installed == CONTENT


@pytest.mark.parametrize("way", ["token", "certificate"])
def test_it_updates_and_confirms_after_its_reboot(
    ddi_server: Server, box: Box, release: Built, way: str
) -> None:
    name, keys, key, pem = f"{way}-{next(NUMBERS)}", ddi_server.keys, new_key(), None
    if way == "certificate":
        pem = box.folder / "client.pem"
        pem.write_bytes(cert_pem(make_cert(name, key, (keys.device_ca, keys.device_ca_key))) + key_pem(key))
    one = Ddi(ddi_server, name, by=way, pem=pem)
    rollout = one.roll_out(release.version)
    box.start(ddi_server, name, token=one.token, pem=pem)
    until_installed(box)
    until(lambda: "pending testing" in box.log, "it waits for its reboot", box.running[-1])
    assert one.twin()["wanted"]["state"] == "offered", "installed is not running"
    assert one.twin()["ddi"]["attributes"] == {"hw": "rev-A"}
    box.stop()
    box.start(ddi_server, name, token=one.token, pem=pem, confirm=SUCCESS)
    until_state(one, box, "said")
    assert one.twin()["ddi"]["said"]["version"] == release.version
    assert ddi_server.api("GET", f"rollouts/{rollout}")[1]["status"] == "said"
    assert one.twin()["refusals"] == [], "it met nothing that it did not understand"


def test_update_that_fails_after_its_reboot_is_failed(ddi_server: Server, box: Box, release: Built) -> None:
    one = Ddi(ddi_server, f"bad-{next(NUMBERS)}")
    one.roll_out(release.version)
    box.start(ddi_server, one.name, token=one.token)
    until_installed(box)
    box.stop()
    box.start(ddi_server, one.name, token=one.token, confirm=FAILED)
    until_state(one, box, "failed")
    assert one.twin()["ddi"]["said"] is None


def test_cancelled_action_is_stopped_by_it_and_the_next_one_is_taken(
    ddi_server: Server, box: Box, release: Built
) -> None:
    one = Ddi(ddi_server, f"stopped-{next(NUMBERS)}")
    rollout = one.roll_out(release.version)
    action = one.action()
    ddi_server.api("POST", f"rollouts/{rollout}/cancel")
    box.start(ddi_server, one.name, token=one.token)
    until(lambda: "cancelAction" not in one.links(), "it says that it stopped", box.running[-1])
    assert box.installed == b""
    assert one.twin()["wanted"]["state"] == "cancelled"
    one.roll_out(release.version)
    until_installed(box)
    assert one.action() != action
