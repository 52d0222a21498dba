"""A fleet of three moves to another host and another CA, by ROOT and nothing else: a chip that is its own
agent, a Linux gateway, a virtual device with the agent beside it. Real TLS on loopback.
"""

import datetime
import ipaddress
import json
import socket
import subprocess
import sys
import time

import chip_world
import pytest
import two_devices
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lifeline import HANG_S, until

from fota_agent.boards.linux import storage
from fota_agent.engine.state import decode
from fota_wire.host_chips import DEFAULT

pytestmark = pytest.mark.slow

LOOPBACK = ipaddress.ip_address("127.0.0.1")

HOST = "localhost"  # the trust stores say 127.0.0.1


def certify(subject, key, issuer, issuer_key, extensions):
    """Return a certificate of ten years."""
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder().serial_number(x509.random_serial_number()).public_key(key.public_key())
    )
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=3650))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def new_pki(folder):
    """Write new-ca.crt, new.crt and new.pem."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in "ab")
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    ski = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = certify("new ca", ca_key, "new ca", ca_key, [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.KeyUsage(**{**usage, "key_cert_sign": True, "crl_sign": True}), True),
        (ski, False),
    ])  # fmt: skip
    server = certify(HOST, key, "new ca", ca_key, [
        (x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(LOOPBACK)]), False),
        (x509.KeyUsage(**{**usage, "digital_signature": True}), True),
        (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), False),
    ])  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "new-ca.crt").write_bytes(ca.public_bytes(pem))
    (folder / "new.crt").write_bytes(server.public_bytes(pem))
    (folder / "new.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "new.pem").chmod(0o600)


class Fleet(two_devices.TwoDevices):
    """And a virtual device with the agent of CPython beside it, in a file of its own."""

    def make_third(self):
        image = self.sign("1.0.0", 2, model="third")
        first, first_id = self.device, self.device_id
        self.device = self.folder / "third.vdev"
        self.fota("vdev", "create", self.device)
        import uuid

        from world import BUILD, VENDOR_ID

        report = self.json(
            "vdev", "provision", self.device, "--bootloader", BUILD / "bootloader/stm32l4/bootloader.elf",
            "--image", image, "--class", uuid.uuid5(VENDOR_ID, "third"), "--vendor-id", VENDOR_ID,
            "--image-key-a", self.keys / "image-a.pub.pem", "--image-key-b", self.keys / "image-b.pub.pem",
            "--root", self.root, "--server-ca", self.keys / "server-ca.crt",
            "--server-url", self.device_url, "--ca-key", self.keys / "device-ca.pem",
            "--ca-cert", self.keys / "device-ca.crt",
        )  # fmt: skip
        self.third, self.third_id = self.device, report["device_id"]
        self.device, self.device_id = first, first_id

    def third_checks_in(self):
        self.fota("agent", "run", "--vdev", self.third, "--until-idle", "--duration", HANG_S)

    def everybody_checks_in(self):
        """Return once each of the three has had a check-in after this was called."""
        since = int(time.time()) + 1
        time.sleep(1)
        self.third_checks_in()
        waiting = [self.device_id, self.third_id, *([self.gateway_id] if self.gateway_id else [])]
        while waiting:
            waiting = [one for one in waiting if self.json("device", "show", one)["last_seen"] < since]
            if self.device_id in waiting:
                self.machine.run(time_ms=20_000)
            else:
                time.sleep(0.5)

    def restart_elsewhere(self, port):
        """The same server with a certificate of another CA at another address: the old one is gone."""
        self.stop()
        data = self.folder / "server"
        (data / "server.json").unlink(missing_ok=True)
        config = json.loads((data / "config.json").read_text())
        config |= {"host": "127.0.0.1", "port": port, "tls_cert": str(self.folder / "new.crt"),
                   "tls_key": str(self.folder / "new.pem")}  # fmt: skip
        (data / "config.json").write_text(json.dumps(config))
        with (self.folder / "server2.log").open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "fota_cli", "server", "run", "--data", str(data)],
                stdout=log, stderr=log, env=self.environment,
            )  # fmt: skip
        until((data / "server.json").exists, "the server's address", self._server)
        urls = json.loads((data / "server.json").read_text())
        assert urls["device_url"].endswith(f":{port}")
        self.environment |= {"FOTA_SERVER": urls["operator_url"], "FOTA_CA": str(self.folder / "new-ca.crt")}

    def confirms(self, device, version):
        """Return once the server knows that ``device`` has confirmed ``version``."""

        def confirmed():
            if device == self.device_id:
                self.machine.run(time_ms=5_000)
            return (self.json("device", "show", device)["confirmed"] or {}).get("version") == version

        until(confirmed, f"{version} on {device}")

    def servers_that_worked(self):
        """Return the ROOT version whose servers worked last, by each device's own memory."""
        self.machine.run(time_ms=1)
        found = {}
        if self.gateway_id:
            found["gateway"] = decode(storage.read_store(self.folder / "gateway/store")).server
        return found


@pytest.fixture
def fleet(tmp_path):
    if chip_world.why_not():
        pytest.skip(chip_world.why_not())
    world = Fleet(tmp_path / "fleet", DEFAULT)
    try:
        world.make_keys()
        world.start_server()
        world.make_chip()
        if not world.make_gateway():
            pytest.skip("no SoftHSM2: install Debian's package softhsm2")
        world.make_third()
        yield world
    finally:
        world.close()
        world._lock.close()


def test_fleet_of_three_moves_to_another_host_and_another_ca(fleet):
    new_pki(fleet.folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    fleet.run_chip("agent 1.0.0: settled")
    fleet.everybody_checks_in()
    assert fleet.device_url.startswith("https://127.0.0.1:")

    # ROOT 2 names another host and another CA; nothing answers there yet: everybody stays with the old one
    fleet.fota("root", "new", "--previous", fleet.root, "--server-url", f"https://{HOST}:{port}",
               "--server-ca", fleet.folder / "new-ca.crt", "--sign", fleet.keys / "root-1.pem",
               "--sign", fleet.keys / "root-2.pem", "-o", fleet.folder / "root2.cbor")  # fmt: skip
    fleet.fota(
        "release", "root", fleet.folder / "root2.cbor", ends=1
    )  # no device would find this server by it
    fleet.fota("release", "root", fleet.folder / "root2.cbor", "--force")
    fleet.everybody_checks_in()
    rows = {row["id"]: row for row in fleet.json("device", "list")["devices"]}
    for device in (fleet.device_id, fleet.gateway_id, fleet.third_id):
        assert fleet.json("device", "show", device)["root_version"] == 2, rows[device]

    # the move: the old address is gone, and no certificate of the old CA is shown any more
    fleet.restart_elsewhere(port)
    fleet.everybody_checks_in()
    assert fleet.servers_that_worked() == {"gateway": 2}

    # and the fleet is one that can be updated
    fleet.release_chip("1.1.0", 2)
    fleet.gateways.release("2.1.0", 12, two_devices.PROGRAM)
    for device, version in ((fleet.device_id, "1.1.0"), (fleet.gateway_id, "2.1.0")):
        fleet.fota("rollout", "start", version, "--device", device)
    said = fleet.run_chip("agent 1.1.0: confirmed")
    said += fleet.run_chip("agent 1.1.0: settled")
    fleet.everybody_checks_in()
    for device, version in ((fleet.device_id, "1.1.0"), (fleet.gateway_id, "2.1.0")):
        fleet.confirms(device, version)
    assert "MemoryError" not in said
