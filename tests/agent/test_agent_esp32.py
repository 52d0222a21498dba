"""The ESP32 board over a stand-in of ``esp32.Partition`` that keeps to MicroPython's documentation of it, and
a stand-in of the chip's bootloader that keeps to ESP-IDF's rules for otadata. No ESP32 was near.
"""

import hashlib
import struct
import zlib
from types import SimpleNamespace

import pytest

from fota_agent.agent import Agent
from fota_agent.boards.atecc608 import Atecc608
from fota_agent.boards.esp32 import BLOCK, Esp32Board, Ticks, describe
from fota_wire import journal, layout, settings, status, suit
from fota_wire.errors import DeviceError, VerifyError

SIZE = 40 * BLOCK
TABLE = {
    "otadata": (1, 0x00, 2 * BLOCK),
    "ota_0": (0, 0x10, SIZE),
    "ota_1": (0, 0x11, SIZE),
    "fota_trust": (1, 0x40, 2 * BLOCK),
    "fota_store": (1, 0x41, 4 * BLOCK),
}


def esp_image(version, secure_version=1, size=30_000):
    descriptor = struct.pack("<II8x32s", 0xABCD5432, secure_version, version.encode()) + bytes(256 - 48)
    body = descriptor + hashlib.shake_128(version.encode()).digest(size)
    head = bytes([0xE9, 1, 0, 0x20]) + bytes(19) + b"\x01"
    raw = head + struct.pack("<II", 0x3F400020, len(body)) + body
    raw += bytes(-(len(raw) + 1) % 16) + b"\xef"
    return raw + hashlib.sha256(raw).digest()


class Chip:
    """Flash, partition table, NVS and bootloader."""

    def __init__(self, image, trust):
        self.flash = {name: bytearray(b"\xff" * size) for name, (_, _, size) in TABLE.items()}
        self.flash["ota_0"][: len(image)] = image
        self.flash["fota_trust"][: len(trust)] = trust
        self.numbers, self.resets = {}, 0
        self.boot()

    def entry(self, sector):
        sequence, state, crc = struct.unpack_from("<I20xII", self.flash["otadata"], sector * BLOCK)
        good = zlib.crc32(struct.pack("<I", sequence), 0xFFFFFFFF) == crc and sequence != 0xFFFFFFFF
        return (sequence, state) if good else None

    def write_entry(self, sector, sequence, state):
        crc = zlib.crc32(struct.pack("<I", sequence), 0xFFFFFFFF)
        raw = struct.pack("<I", sequence) + b"\xff" * 20 + struct.pack("<II", state, crc)
        self.flash["otadata"][sector * BLOCK : sector * BLOCK + 32] = raw

    def boot(self):
        """NEW is tried as PENDING_VERIFY; what is still that at the next boot is ABORTED."""
        entries = {sector: self.entry(sector) for sector in (0, 1)}
        for sector, found in entries.items():
            if found and found[1] == 1:
                self.write_entry(sector, found[0], 4)
        good = [
            (found[0], sector)
            for sector in (0, 1)
            if (found := self.entry(sector)) and found[1] not in (3, 4)
        ]
        self.running = "ota_0"
        if good:
            sequence, sector = max(good)
            self.running = f"ota_{(sequence - 1) % 2}"
            if self.entry(sector)[1] == 0:
                self.write_entry(sector, sequence, 1)

    def set_boot(self, label):
        number = int(label[-1])
        sequence = max([found[0] for sector in (0, 1) if (found := self.entry(sector))], default=0) + 1
        while (sequence - 1) % 2 != number:
            sequence += 1
        if self.flash[label][0] != 0xE9:
            raise OSError("ESP_ERR_OTA_VALIDATE_FAILED")
        old = self.running
        if not any(self.entry(sector) for sector in (0, 1)):  # factory-fresh: give the running one its entry
            self.write_entry(0, int(old[-1]) + 1, 0xFFFFFFFF)
        self.write_entry((sequence - 1) % 2, sequence, 0)

    def module(self):
        chip = self

        class Partition:
            RUNNING = 1

            def __init__(self, name):
                self.label = chip.running if name == 1 else name

            @classmethod
            def find(cls, type=0, subtype=0xFF, label=None):
                return [
                    cls(name)
                    for name, (kind, sub, _) in TABLE.items()
                    if kind == type and subtype in (0xFF, sub) and label in (None, name)
                ]

            def info(self):
                kind, sub, size = TABLE[self.label]
                return kind, sub, 0x10000, size, self.label, False

            def readblocks(self, block, buf, offset=0):
                at = block * BLOCK + offset
                buf[:] = chip.flash[self.label][at : at + len(buf)]

            def writeblocks(self, block, buf, offset=None):
                at = block * BLOCK + (offset or 0)
                if offset is None:
                    chip.flash[self.label][at : at + len(buf)] = b"\xff" * len(buf)
                old = chip.flash[self.label][at : at + len(buf)]
                chip.flash[self.label][at : at + len(buf)] = bytes(
                    a & b for a, b in zip(old, buf, strict=True)
                )

            def ioctl(self, command, argument):
                assert command == 6
                chip.flash[self.label][argument * BLOCK : (argument + 1) * BLOCK] = b"\xff" * BLOCK

            def set_boot(self):
                chip.set_boot(self.label)

            @staticmethod
            def mark_app_valid_cancel_rollback():
                sector = max((chip.entry(s)[0], s) for s in (0, 1) if chip.entry(s))[1]
                chip.write_entry(sector, chip.entry(sector)[0], 2)

        class Nvs:
            def __init__(self, namespace):
                self.namespace = namespace

            def get_i32(self, key):
                if (self.namespace, key) not in chip.numbers:
                    raise OSError("ESP_ERR_NVS_NOT_FOUND")
                return chip.numbers[self.namespace, key]

            def set_i32(self, key, value):
                struct.pack("<i", value)
                chip.numbers[self.namespace, key] = value

            def commit(self):
                pass

        return SimpleNamespace(Partition=Partition, NVS=Nvs)


class EspRelease:
    def __init__(self, world, version, sequence, image):
        self.image, self.sequence = image, sequence
        self.digest = hashlib.sha256(image).digest()
        text = suit.build_text("Example", "Model", version)
        identity = world.identity()
        manifest = suit.build_manifest(
            sequence, identity.vendor_id, identity.class_id, self.digest, len(image), text
        )
        self.envelope = suit.build_envelope(manifest, [], text)
        for key in world.release[:2]:
            self.envelope = suit.add_signature(self.envelope, key.kid, key.sign)
        self.manifest_digest = suit.manifest_digest(manifest)


@pytest.fixture
def chip(world):
    identity = world.identity()
    trust = settings.TrustStore(
        genesis_root=world.genesis,
        server_ca=b"-",
        device_cert=b"-",
        server_url="https://localhost",
        vendor_id=identity.vendor_id,
        class_id=identity.class_id,
    )
    return Chip(esp_image("1.0.0"), settings.pack_trust_store(trust))


def board(chip, device):
    def reset():
        chip.resets += 1

    element = Atecc608(device.machine.i2c, device.machine.sleep_us)
    return Esp32Board(chip.module(), element, reset, lambda: device.now, lambda limit: limit // 2)


def run(chip, device, hooks=None):
    agent = Agent(board(chip, device), device.network, hooks or device.hooks)
    return device.run(agent)


def offer(device, world, *args):
    release = EspRelease(world, *args)
    device.network.releases.append(release)
    device.network.wanted = release
    return release


def test_update_is_written_tried_and_kept(chip, device, world):
    release = offer(device, world, "1.1.0", 2, esp_image("1.1.0", 2))
    agent = run(chip, device)
    assert agent.rebooting
    assert chip.resets == 1
    assert chip.flash["ota_1"][: len(release.image)] == release.image
    chip.boot()
    report = board(chip, device).boot_report()
    assert (report.running, report.trial, report.version) == (layout.SLOT_B, True, (1, 1, 0, 0))
    assert report.image_hash == release.image[-32:]
    agent = run(chip, device)
    assert agent.engine.settled
    chip.boot()
    report = board(chip, device).boot_report()
    assert (report.running, report.trial, report.confirmed) == (layout.SLOT_B, False, layout.SLOT_B)
    states = [(told.slot, told.version, told.state) for told in device.network.reports]
    assert states[-1] == ("B", "1.1.0", "confirmed")


def test_trial_that_is_not_well_goes_back_with_its_reason(chip, device, world):
    offer(device, world, "1.2.0", 3, esp_image("1.2.0"))
    run(chip, device)
    chip.boot()
    device.hooks.health_check = lambda: False
    assert run(chip, device).rebooting
    chip.boot()
    report = board(chip, device).boot_report()
    assert (report.running, report.candidate, report.state) == (
        layout.SLOT_A,
        layout.SLOT_B,
        journal.REVERTED,
    )
    assert report.reason == status.AP1
    device.hooks.health_check = lambda: True
    run(chip, device)
    assert ("reverted", "AP1 self-test") in [
        event for told in device.network.reports for event in told.events
    ]


def test_brown_out_in_the_trial_is_the_end_of_it_as_the_chip_has_it(chip, device, world):
    offer(device, world, "1.2.0", 3, esp_image("1.2.0"))
    run(chip, device)
    chip.boot()
    chip.boot()
    report = board(chip, device).boot_report()
    assert (report.running, report.state, report.reason) == (layout.SLOT_A, journal.REVERTED, status.PO4)


def test_otadata_record_that_is_torn_counts_for_nothing(chip, device, world):
    offer(device, world, "1.2.0", 3, esp_image("1.2.0"))
    run(chip, device)
    chip.boot()
    assert board(chip, device).boot_report().trial
    for sector in (0, 1):
        chip.flash["otadata"][sector * BLOCK + 28] ^= 1
    assert not board(chip, device).boot_report().trial


def test_file_that_is_no_esp_image_is_never_asked_for(chip, device, world):
    offer(device, world, "1.3.0", 4, b"MZ" + esp_image("1.3.0"))
    agent = run(chip, device)
    assert not agent.rebooting
    assert chip.resets == 0
    assert any("not an ESP32 image" in line for line in device.hooks.lines)


@pytest.mark.parametrize(("at", "value"), [(0, 0x00), (1, 17), (23, 0), (31, 0x7F), (0x20, 0)])
def test_damaged_image_is_told_from_a_good_one(chip, device, at, value):
    slot = board(chip, device).running
    assert describe(slot)[1] == (1, 0, 0, 0)
    chip.flash["ota_0"][at] = value
    with pytest.raises(VerifyError):
        describe(slot)


def test_store_keeps_the_newer_copy_when_the_other_is_torn(chip, device):
    one = board(chip, device)
    assert one.load_store() is None
    for content in (b"a" * 3000, b"b" * 3000):
        one.save_store([content])
        assert one.load_store() == content
    chip.flash["fota_store"][2 * BLOCK + 100] ^= 1  # the second copy
    assert one.load_store() == b"a" * 3000


def test_missing_partition_is_told(chip, device, monkeypatch):
    monkeypatch.delitem(TABLE, "fota_store")
    with pytest.raises(DeviceError, match="fota_store is missing"):
        board(chip, device)


def test_ticks_go_on_over_the_wrap():
    now = [2**30 - 5]
    ticks = Ticks(lambda: now[0], lambda a, b: ((a - b + 2**29) % 2**30) - 2**29)
    now[0] = 10
    assert ticks() == 15
    now[0] = 2**28
    assert ticks() == 15 + 2**28 - 10
