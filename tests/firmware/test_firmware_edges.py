"""More of SPEC's limits at their edge on the STM32s: a server whose address has 255 characters, the longest
device certificate, and beside both all the events and values that an agent queues: the STM32L476 has no room
for a check-in with that, and an update comes through all the same (ADR 54). Then, beside both, ROOTs of
4,096 bytes that eight of eight sign, with 16 keys and four CAs, and a release whose manifest has four
signatures and the longest text.
"""

import socket
import sqlite3

import chip_world
import pytest
from crowd import Crowd
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from longest import (
    ANEW,
    EIGHT,
    LOOPBACK,
    MEMORY,
    RELEASERS,
    four_cas,
    got_over,
    long_named_ca,
    longest_host,
    longest_manifest,
    longest_root,
    more_keys,
    name_the_server,
    signed,
)

from fota_agent.engine import state as store
from fota_agent.engine import telemetry
from fota_agent.engine.state import LOST
from fota_signer.factory import ca
from fota_wire import address, checkin
from fota_wire import root as roots
from fota_wire.certify import MAX_CERTIFICATE
from fota_wire.host_chips import DEFAULT

pytestmark = pytest.mark.slow
MARK = 60  # bytes that a certificate ordered over the air has beside, at most
SETTLES = 8  # check-ins within which a ROOT is taken


@pytest.fixture(scope="module", params=[DEFAULT, "stm32u585"])
def world(request, elf, tmp_path_factory):
    """A chip that finds its server by the longest address, shows the longest certificate, and gets the
    longest ASSIGNMENTs.
    """
    world = chip_world.ChipWorld(tmp_path_factory.mktemp("edges"), request.param)
    world.make_keys()
    more_keys(world)
    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    host = longest_host(port)
    name_the_server(world, host)
    long_named_ca(world, ca.LONGEST_NAMES)
    with Crowd(world.keys / "assign.pem") as crowd:
        try:
            world.start_server(port, "--assign-key", crowd.path)
            world.device_url = f"https://{host}:{port}"
            world.certificate = world.folder / "device.crt"
            image = world.sign("1.0.0", 2, elf=chip_world.firmware("1.0.0", request.param))
            world.provision(image, "--certificate-out", world.certificate)
            world.switch_on()
            connect = world.net.connect
            world.net.connect = lambda _host, port: connect(LOOPBACK, port)  # as a DNS would
            world.said = world.run_chip("agent 1.0.0: settled")
            yield world
            assert crowd.shared, "every ASSIGNMENT was the longest that there is"
            world.switch_off()
        finally:
            world.stop()
            world._lock.close()


def full_store(nonce):
    """Return a store with all the events and values that an agent keeps, and ``nonce`` for a report, so that
    all of it is to go with one check-in.
    """
    kept = store.State()
    kept.nonce = nonce
    for number in range(store.MAX_EVENTS):
        kept.add_event("failed", f"{number:02d}" + "e" * (store.MAX_DETAIL - 2))
    size = telemetry.MAX_BYTES // checkin.MAX_TELEMETRY
    for number in range(checkin.MAX_TELEMETRY):
        topic = f"{number:02d}" + "t" * (checkin.MAX_TOPIC - 2)
        telemetry.add(kept, (topic, 1_700_000_000, '"' + "v" * (size - len(topic) - 2) + '"'))
    assert sum(len(topic) + len(text) for topic, _, text in kept.telemetry) == telemetry.MAX_BYTES
    return kept


def put_into(world, kept):
    """Have the chip find ``kept`` in its store at its next boot."""
    row = world.row
    raw = b"".join(store.pack_copy(1000, kept.parts(row.AGENT_STORE_SIZE // 2 - store.HEADER_SIZE)))
    world.machine.flash.write_phys(row.AGENT_STORE_BANK, row.AGENT_STORE_OFFSET, raw)


def lost_in_silence(world, kept):
    """Return how many of ``kept`` the server neither has nor was told of. An event of the chip's own may have
    taken the place of the oldest.
    """
    twin = world.twin()
    told = [event["detail"] for event in twin["events"] if event["code"] != LOST]
    told += [value["topic"] for value in twin["telemetry"]]
    lost = [int(event["detail"].split()[0]) for event in twin["events"] if event["code"] == LOST]
    return len(kept.events) + len(kept.telemetry) - len(told) - sum(lost)


def test_longest_address_and_certificate_hold_and_a_full_queue_keeps_no_update_away(world):
    assert len(world.device_url) == address.MAX_ADDRESS
    shown = x509.load_pem_x509_certificate(world.certificate.read_bytes()).public_bytes(Encoding.DER)
    assert MAX_CERTIFICATE - MARK <= len(shown) <= MAX_CERTIFICATE
    assert MEMORY not in world.said

    world.machine.power_off()
    with sqlite3.connect(world.folder / "server/fota.db") as database:
        (nonce,) = database.execute("SELECT report_nonce FROM devices").fetchone()
    kept = full_store(nonce)
    put_into(world, kept)
    world.release_chip("1.1.0", 2)
    world.fota("rollout", "start", "1.1.0", "--device", world.device_id)
    world.machine.power_on()
    said = world.run_chip("agent 1.1.0: settled")
    assert "agent store ignored" not in said
    assert said.count(ANEW) <= 1  # the boot after one begins with nothing that waits
    assert world.twin()["status"] == "confirmed"
    assert lost_in_silence(world, kept) <= 0
    assert world.machine.faults == []
    assert [cause for _, cause in world.machine.resets if cause == "iwdg"] == []


def publish_root(world, before):
    """Publish the longest ROOT after ``before``, by eight of eight; return it."""
    cas = four_cas(world, 1)  # there is no room for longer names
    raw = longest_root(world, before, cas, signers=EIGHT, releasers=RELEASERS, k=(8, 2))
    raw = signed(world, raw, EIGHT)
    assert len(raw) == roots.MAX_ROOT
    file = world.folder / f"root-{before.version + 1}.cbor"
    file.write_bytes(raw)
    world.fota("release", "root", file)
    return roots.unsafe_read_root(raw)


def settled(world, version, root):
    """Run until the chip has taken ``root``, as the server knows; return what it said."""
    said = ""
    for _ in range(SETTLES):
        said += world.run_chip(f"agent {version}: settled")
        if world.twin()["root_version"] == root.version:
            return said
    raise AssertionError(f"ROOT {root.version} not taken:\n{said}")


def test_longest_root_and_release_with_the_longest_manifest_hold_beside_both(world):
    now = world.boot_report().version_text
    other = {"1.0.0": "1.1.0", "1.1.0": "1.0.0"}[now]
    root = publish_root(world, roots.unsafe_read_root(world.root.read_bytes()))
    said = settled(world, now, root)
    image = world.sign("1.3.0", 2, elf=chip_world.firmware(other, world.row.NAME))
    world.fota("release", "publish", image, longest_manifest(world, image, 3))
    world.fota("rollout", "start", "1.3.0", "--device", world.device_id)
    said += world.run_chip(f"agent {other}: confirmed")
    root = publish_root(world, root)
    said += settled(world, other, root)
    assert got_over(world, said), said
    assert "store not written" not in said
    assert world.twin()["confirmed"]["version"] == "1.3.0"
    assert world.machine.faults == []
    assert [cause for _, cause in world.machine.resets if cause == "iwdg"] == []
