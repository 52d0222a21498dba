"""Keys that work only after a verified boot: the latch build on a chip that was provisioned with --latch."""

from types import SimpleNamespace

import pytest
from bootloader_make import BUILD, make

from fota_agent.boards.atecc608 import Atecc608 as Driver
from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_wire.chips.stm32l476 import BOOTLOADER_SIZE, FLASH_BASE, SETTINGS_OFFSET
from fota_wire.element import IDENTITY_SLOT, NEXT_SLOT
from fota_wire.errors import DeviceError
from fota_wire.host_crypto import public_xy, verify

from .conftest import CLASS_ID, VENDOR_ID, Device
from .test_bootloader_watchdog import UNFED_MS, Feeds, hardware_watchdog, settle

STACK_BOTTOM, STACK_SIZE = 0x20000000, 1024
DIGEST = bytes(range(32))
VERIFYING = 10  # commands of the session that verifies an image: two counters of four, a nonce, Verify


@pytest.fixture(scope="session")
def latch_elf():
    make("latch")
    return BUILD / "bootloader/stm32l4/bootloader-latch.elf"


@pytest.fixture(scope="session")
def latched_factory(latch_elf, signed, keys, tmp_path_factory):
    """One device of a factory that works with --latch, as its HEX leaves it."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificate

    from fota_signer.factory.ca import DeviceCa, new_ca
    from fota_signer.factory.flash import Firmware, bootloader_image, factory_hex, load_hex
    from fota_signer.factory.i2c import I2cTransport
    from fota_signer.factory.line import Job, provision_chip

    key, certificate = new_ca("factory", 10, b"pw")
    ca = DeviceCa(key=load_pem_private_key(key, b"pw"), certificate=load_pem_x509_certificate(certificate))
    machine = Machine(element=Atecc608(seed=4), seed=4)
    machine.power_on()
    roots = {"root_a_xy": public_xy(keys.root_a), "root_b_xy": public_xy(keys.root_b)}
    job = Job(**roots, ca=ca, work=tmp_path_factory.mktemp("work"), latched=True)
    transport = I2cTransport(machine.i2c, machine.sleep_us)
    report = provision_chip(transport, job)
    image = signed("1.0.0")
    firmware = Firmware(
        bootloader=bootloader_image(latch_elf.read_bytes(), "latch"),
        image=image,
        class_id=CLASS_ID,
        vendor_id=VENDOR_ID,
        **roots,
        genesis_root=b"\xa0",
        server_ca_der=b"",
        server_url="https://localhost",
        tries=3,
        watchdog_s=16,
        max_step=255,
        watchdog_always=True,
    )
    for address, data in load_hex(factory_hex(firmware, report.record), "hex"):
        machine.flash.write_phys(1, address - FLASH_BASE, data)
    report.record.without_secrets().save()
    machine.power_off()
    return SimpleNamespace(machine=machine, fresh=machine.snapshot(), report=report, job=job, image=image)


@pytest.fixture
def device(latched_factory):
    machine = latched_factory.machine
    machine.restore(latched_factory.fresh)
    machine.i2c_tamper = None
    machine.resets.clear()
    yield Device(machine)
    machine.i2c_tamper = None
    machine.board.i2c_bus.listener = None


def driver(device):
    if not device.machine.powered:
        device.machine.power_on()
    return Driver(device.machine.i2c, device.machine.sleep_us)


def mute(device):
    """True if the element signs nothing in the device's name."""
    for slot in (IDENTITY_SLOT, NEXT_SLOT):
        with pytest.raises(DeviceError, match="refused command 0x41"):
            driver(device).sign(DIGEST, slot)
    with pytest.raises(DeviceError, match="refused command 0x41"):
        driver(device).attest(bytes(20))
    return True


def test_keys_work_after_a_verified_boot_and_not_before(device, latched_factory):
    assert mute(device)
    report = device.boot()
    assert report.version == (1, 0, 0, 0)
    element = driver(device)
    identity = latched_factory.report.identity
    assert verify(identity, DIGEST, element.sign(DIGEST, IDENTITY_SLOT))
    assert element.sign(DIGEST, NEXT_SLOT)
    assert element.attest(bytes(20))
    device.restart()  # the element keeps power: the latch stays, and is set again
    assert verify(identity, DIGEST, driver(device).sign(DIGEST, IDENTITY_SLOT))
    device.machine.power_off()
    assert mute(device)


def test_image_of_root_b_releases_the_keys_as_well(device, signed, keys):
    device.install("B", signed("1.1.0", sec_cnt=2, key=keys.root_b))
    device.boot()
    device.request("B")
    device.machine.power_off()
    report = device.boot()
    assert report.version == (1, 1, 0, 0)
    assert driver(device).sign(DIGEST, IDENTITY_SLOT)


def test_bootloader_that_was_replaced_cannot_speak_in_the_devices_name(device, bootloader_elf):
    """Its place is taken by one that boots the same image, and asks the element for nothing."""
    from fota_signer.factory.flash import bootloader_image

    other = bootloader_image(bootloader_elf.read_bytes(), "other")
    device.flash.write_phys(1, 0, other.ljust(BOOTLOADER_SIZE, b"\xff"))
    report = device.boot()
    assert report.version == (1, 0, 0, 0)
    assert mute(device)


class Tape:
    """Listens to a boot, to play it back."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def wake(self): ...
    def nak(self, address): ...
    def read(self, address, data): ...

    def write(self, address, data):
        self.sent.append(data)


def test_firmware_without_the_settings_page_cannot_set_the_latch_whatever_it_knows(device, latched_factory):
    """It knows the signed image and all that went over the bus in a boot, and has the bus to itself."""
    tape = Tape()
    device.machine.board.i2c_bus.listener = tape
    device.boot()
    device.machine.board.i2c_bus.listener = None
    device.machine.power_off()
    device.flash.write_phys(1, SETTINGS_OFFSET, b"\xff" * 2048)
    from fota_signer.factory.i2c import I2cTransport
    from fota_signer.factory.packets import packet
    from fota_wire.image import parse_image

    device.machine.power_on()
    bus = I2cTransport(device.machine.i2c, device.machine.sleep_us)
    image = parse_image(latched_factory.image)
    from fota_wire.der import to_raw

    signature = to_raw(image.signature) if len(image.signature) != 64 else image.signature
    tries = [
        packet(0x30, 4, 3),  # simply set it
        packet(0x80, 0x05, 0, image.image_hash + signature),  # SecureBoot, in clear, with a genuine image
        packet(0x30, 4, 3),
        packet(0x08, 0x00, 6, bytes(32)),  # have the element make the proof itself: NoMac
        packet(0x15, 0x02, 6, b"\x15\x02\x06\x00"),
        packet(0x41, 0xA0, 0),
    ]
    for sent in tries:
        bus.execute(sent)
    assert mute(device)
    device.machine.power_off()
    device.machine.power_on()
    for message in tape.sent:  # play a whole boot back
        if message[0] == 3:
            bus.execute(message[1:])
    assert mute(device)


class Spoil:
    """Somebody on the bus who breaks every CheckMac."""

    def on_write(self, address, data):
        return data[:40] + bytes([data[40] ^ 1]) + data[41:] if data[2:3] == b"\x28" else data

    def on_read(self, address, data):
        return data


def test_element_that_will_not_release_leaves_a_device_that_boots_and_is_mute(device):
    device.machine.i2c_tamper = Spoil()
    report = device.boot()
    assert report.version == (1, 0, 0, 0)
    device.machine.i2c_tamper = None
    assert mute(device)


def test_element_that_goes_silent_before_the_release_starves_no_watchdog(device):
    """300 ms of patience, and three pauses of 200 ms, under the 512 ms that hardware starts at reset."""
    element, machine = device.machine.element, device.machine
    device.boot()  # raises the floor
    machine.power_off()
    machine.resets.clear()
    settle(device, watchdog_always=False)
    hardware_watchdog(device, on=True)
    acknowledge, first = element.acknowledge, len(element.commands) + VERIFYING
    element.acknowledge = lambda address, *, read: (
        acknowledge(address, read=read) and not (read and len(element.commands) > first)
    )
    machine.power_on()
    feeds = Feeds(machine)
    try:
        device.boot(until="journal: record")
    finally:
        feeds.stop()
        del element.acknowledge
        hardware_watchdog(device, on=False)
    assert [cause for _, cause in machine.resets] == ["power"]
    assert len(element.commands) == first + 1
    assert feeds.longest_ms < UNFED_MS


def test_refused_image_releases_nothing(device, signed, keys):
    device.install("A", signed("1.0.0", key=keys.thief))
    device.boot(until="halt")
    assert mute(device)


def test_stack_of_the_latch_build_holds(device):
    machine = device.machine
    machine.power_on()
    ram = machine.space.ram[STACK_BOTTOM]
    ram[:STACK_SIZE] = b"\xa5" * STACK_SIZE
    device.boot(until="fota-boot: slot A")
    while machine.element.commands[-1][:2] != ("Info", 4):
        machine.run(max_instructions=500)
    untouched = next(at for at in range(STACK_SIZE) if ram[at] != 0xA5)
    assert untouched >= 32, f"{untouched} bytes of stack are left"


def test_chip_remembers_how_it_was_provisioned_and_a_rerun_without_the_keys_is_fine(device, latched_factory):
    from dataclasses import replace

    from fota_signer.factory.i2c import I2cTransport
    from fota_signer.factory.line import provision_chip
    from fota_wire.errors import VerifyError

    device.machine.power_on()
    bus = I2cTransport(device.machine.i2c, device.machine.sleep_us)
    assert provision_chip(bus, latched_factory.job).changed == ()
    with pytest.raises(VerifyError, match="configured with --latch, and that is for ever"):
        provision_chip(bus, replace(latched_factory.job, latched=False))


def test_the_elements_own_secure_boot_latch_would_be_set_by_anybody_with_a_signed_image(keys):
    """Why it is not used: SecureBoot works in clear too, and a signed image is no secret (ADR)."""
    from chip_host import ChipHost
    from emulated_factory import provision_element

    from fota_wire import element
    from fota_wire.host_crypto import signer

    machine = Machine(element=Atecc608(seed=9), seed=9)
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    roots = {"root_a_xy": public_xy(keys.root_a), "root_b_xy": public_xy(keys.root_b)}
    usual = element.SECURE_BOOT
    element.SECURE_BOOT = bytes([usual[0] | 8, usual[1]])  # PersistEnable
    try:
        provision_element(machine, io_key=bytes(32), mac_key=bytes(32), **roots)
    finally:
        element.SECURE_BOOT = usual
    assert host.command(0x30, 4, 0) == bytes(4)
    host.command(0x80, 0x05, 0, DIGEST + signer(keys.root_a)(DIGEST))
    assert host.command(0x30, 4, 0)[0] == 1
