"""More of SPEC's limits at their edge on the chip: a server whose address has 255 characters, the longest
device certificate, and beside both all the events and values that an agent queues: no check-in has room for
that, and an update comes through all the same (ADR 54).
"""

import ipaddress
import socket
import sqlite3

import chip_world
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from test_firmware_limits import MEMORY, key
from test_firmware_servers import certify

from fota_agent.engine import state as store
from fota_agent.engine import telemetry
from fota_agent.engine.exchange import LOST
from fota_signer.factory import ca
from fota_wire import address, checkin
from fota_wire.certify import MAX_CERTIFICATE
from fota_wire.chips import stm32l476
from fota_wire.host_chips import DEFAULT

pytestmark = pytest.mark.slow
LOOPBACK = "127.0.0.1"
KEY_ID = 20  # bytes
MARK = 48  # bytes that a certificate ordered over the air has beside, at most


def longest_host(port):
    """Return a host's name with which ``https://HOST:port`` has as many characters as it may have."""
    size = address.MAX_ADDRESS - len(f"https://:{port}")
    return ".".join(["h" * 63] * (size // 64) + ["h" * (size % 64)])


def long_named_ca(world, size):
    """Give the device CA a name that has ``size`` bytes together with its key id."""
    private = key(world, "device-ca")
    old = x509.load_pem_x509_certificate((world.keys / "device-ca.crt").read_bytes())
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60) for _ in range(6)]
    for letters in range(1, 65):
        last = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o" * letters)
        for more in (0, 32, 64):
            extra = [x509.NameAttribute(NameOID.COMMON_NAME, "c" * more)] if more else []
            name = x509.Name([*extra, *units, last])
            if len(name.public_bytes()) + KEY_ID == size:
                builder = x509.CertificateBuilder(name, name, private.public_key(), old.serial_number)
                builder = builder.not_valid_before(old.not_valid_before_utc)
                builder = builder.not_valid_after(old.not_valid_after_utc)
                for extension in old.extensions:
                    builder = builder.add_extension(extension.value, extension.critical)
                made = builder.sign(private, hashes.SHA256())
                (world.keys / "device-ca.crt").write_bytes(made.public_bytes(Encoding.PEM))
                return
    raise AssertionError(f"no name of {size} bytes")


def name_the_server(world, host):
    """Give the server a certificate for ``host``, too."""
    names = [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
    ca = x509.load_pem_x509_certificate((world.keys / "server-ca.crt").read_bytes())
    issuer = ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    made = certify("server", key(world, "server"), issuer, key(world, "server-ca"), [
        (x509.SubjectAlternativeName(names), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key(world, "server-ca").public_key()), False),
    ])  # fmt: skip
    (world.keys / "server.crt").write_bytes(made.public_bytes(Encoding.PEM))


@pytest.fixture(scope="module")
def world(elf, tmp_path_factory):
    """A chip that finds its server by the longest address, and shows the longest certificate."""
    world = chip_world.ChipWorld(tmp_path_factory.mktemp("edges"), DEFAULT)
    try:
        world.make_keys()
        with socket.create_server((LOOPBACK, 0)) as probe:
            port = probe.getsockname()[1]
        host = longest_host(port)
        name_the_server(world, host)
        long_named_ca(world, ca.LONGEST_NAMES)
        world.start_server(port)
        world.device_url = f"https://{host}:{port}"
        world.certificate = world.folder / "device.crt"
        world.provision(world.sign("1.0.0", 2, elf=elf), "--certificate-out", world.certificate)
        world.switch_on()
        connect = world.net.connect
        world.net.connect = lambda _host, port: connect(LOOPBACK, port)  # as a DNS would
        yield world
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
    raw = b"".join(store.pack_copy(1000, kept.parts(stm32l476.AGENT_STORE_SIZE // 2 - store.HEADER_SIZE)))
    world.machine.flash.write_phys(stm32l476.AGENT_STORE_BANK, stm32l476.AGENT_STORE_OFFSET, raw)


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
    said = world.run_chip("agent 1.0.0: settled")
    assert MEMORY not in said

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
    assert said.count("beginning anew") <= 1  # the boot after one begins with nothing that waits
    assert world.twin()["status"] == "confirmed"
    assert lost_in_silence(world, kept) <= 0
    assert world.machine.faults == []
    assert [cause for _, cause in world.machine.resets if cause == "iwdg"] == []
