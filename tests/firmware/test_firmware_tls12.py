"""TLS 1.2 on the chip, for networks that break 1.3: the firmware of `TLS12=1`, a server that stops at 1.2."""

import socket
import ssl
import subprocess

import chip_world
import pytest
from test_firmware_build import IMAGE, sections

pytestmark = pytest.mark.slow
TEXT12 = 210 * 1024
OLD_SERVER = """openssl_conf = all
[all]
ssl_conf = modules
[modules]
system_default = tls
[tls]
MaxProtocol = TLSv1.2
"""


@pytest.fixture(scope="module")
def firmware12(elf):
    return chip_world.firmware("1.0.0-tls12")


@pytest.fixture(scope="module")
def world(elf, tmp_path_factory):
    """The real server, whose OpenSSL is told to stop at TLS 1.2."""
    world = chip_world.ChipWorld(tmp_path_factory.mktemp("tls12"))
    settings = world.folder / "openssl.cnf"
    settings.write_text(OLD_SERVER)
    world.environment["OPENSSL_CONF"] = str(settings)
    try:
        world.make_keys()
        world.start_server()
        yield world
    finally:
        world.stop()
        world._lock.close()


def boot(world, elf, counter):
    world.device = world.folder / f"device-{counter}.vdev"
    world.provision(world.sign("1.0.0", counter, elf=elf))
    world.switch_on()


def test_server_of_this_test_refuses_tls_1_3(world):
    port = world.device_url.rpartition(":")[2].strip("/")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", int(port))) as sock:
        context.wrap_socket(sock)


def test_chip_checks_in_over_tls_1_2_with_the_key_in_the_element(world, firmware12):
    boot(world, firmware12, 2)
    world.release_chip("1.0.0", 1)
    assert "slot A runs 1.0.0, confirmed" in world.run_chip("agent 1.0.0: settled")
    assert world.twin()["status"] == "confirmed"
    assert world.machine.faults == []
    world.switch_off()


def test_firmware_without_tls_1_2_does_not_talk_to_such_a_server_and_says_why(world, elf):
    boot(world, elf, 3)
    said = world.run_chip("agent 1.0.0: idle")
    assert ": TLS: refused by the server: its TLS is another version, or " in said
    assert world.device_id not in {row["id"] for row in world.json("device", "list")["devices"]}
    world.switch_off()


def test_image_with_tls_1_2_fits_its_budgets_and_cannot_sign_in_software(firmware12):
    size = sections(firmware12)
    assert size[".text"] + size[".data"] <= TEXT12
    assert size[".text"] + size[".data"] + 0x200 + 1024 <= IMAGE
    out = subprocess.run(["arm-none-eabi-nm", firmware12], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in out.splitlines()}
    assert "mbedtls_ecdsa_sign" not in names
    assert "__wrap_mbedtls_ecdsa_sign" in names
