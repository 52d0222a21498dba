"""Fixtures: the STM32U5 bootloader and sample applications, and a device that the factory made of them."""

import ctypes
import hashlib
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bootloader_make import BUILD, make

from fota_vdev.atecc608.chip import Atecc608
from fota_vdev.chips.stm32u5 import STM32U585
from fota_vdev.machine import Machine, StopReason
from fota_wire import bootreport, host_chips, journal
from fota_wire.host_crypto import public_xy

sys.path.insert(0, str(Path(__file__).parent))
CLASS_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
VENDOR_ID = bytes.fromhex("ffeeddccbbaa99887766554433221100")
A, B = 0x5A, 0xA5
PAGE = journal.PAGE_SIZE
U5 = host_chips.stm32("stm32u585")
JOURNAL_OFFSETS = tuple(U5.JOURNAL_OFFSET + page * U5.JOURNAL_STRIDE for page in (0, 1))


@pytest.fixture(scope="session")
def u5_bootloader() -> Path:
    make("bootloader", port="stm32u5")
    return BUILD / "bootloader/stm32u5/bootloader.elf"


@pytest.fixture(scope="session")
def espressif_core() -> ctypes.CDLL:
    """The ESP32-C3's parsers on the host, with the undefined-behaviour sanitizer; MD5 is hashlib's."""
    make("host", port="stm32u5")
    core = ctypes.CDLL(str(BUILD / "bootloader/host/libfota_espressif.so"))
    kind = ctypes.CFUNCTYPE(
        None, ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint8)
    )

    def md5(data: Any, length: int, digest: Any) -> None:
        found = hashlib.md5(ctypes.string_at(data, length), usedforsecurity=False).digest()
        ctypes.memmove(digest, found, 16)

    core.keep = kind(md5)  # type: ignore[attr-defined]
    ctypes.c_void_p.in_dll(core, "fota_host_md5").value = ctypes.cast(core.keep, ctypes.c_void_p).value
    return core


@pytest.fixture(scope="session")
def keys() -> SimpleNamespace:
    from fota_signer.examples import example_key

    return SimpleNamespace(
        root_a=example_key("image-a"), root_b=example_key("image-b"), thief=example_key("assign")
    )


@pytest.fixture(scope="session")
def signed(keys: SimpleNamespace) -> Callable[..., bytes]:
    """signed("1.1.0", sec_cnt=2) -> image file, by the signer that serves the STM32L4 too."""
    from fota_signer.firmware import load_firmware
    from fota_signer.identity import DeviceClass
    from fota_signer.images import sign_payload

    def build(
        version: str, *, sec_cnt: int = 1, key: Any = None, fail: bool = False, chip: Any = U5
    ) -> bytes:
        # for both STM32s alike: what drives the U5's clocks would be signed for no other chip
        payload = struct.pack("<2I", U5.STACK_TOP_MAX, U5.VECTOR_ADDRESS + 9) + bytes(248)
        if chip is U5:
            make("sample", f"VERSION={version}", f"SELF_TEST={'fail' if fail else 'pass'}", port="stm32u5")
            name = f"app-{version}{'-fail' if fail else ''}.elf"
            payload = load_firmware((BUILD / "sample/stm32u5" / name).read_bytes(), name, chip=U5)
        major, minor, revision = map(int, version.split("."))
        return sign_payload(
            payload,
            key=key or keys.root_a,
            version=(major, minor, revision, 0),
            sec_cnt=sec_cnt,
            device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID),
            chip=chip,
        )

    return build


class Device:
    """A provisioned STM32U585, and the questions that tests ask of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.flash: Any = machine.flash

    def install(self, slot: str, image: bytes) -> None:
        """Put a file into a slot as a finished download leaves it."""
        self.flash.write_phys({"A": 1, "B": 2}[slot], 0x4000, image)

    def boot(self, until: str | None = "journal: record", time_ms: int = 60_000) -> Any:
        """Run from where the machine is until a text appears on the UART; returns its boot report."""
        start = len(self.machine.uart)
        self.machine.power_on()
        wanted = None if until is None else lambda m: until.encode() in bytes(m.uart[start:])
        result = self.machine.run(time_ms=time_ms, until=wanted)
        self.said = bytes(self.machine.uart[start:]).decode("latin-1")
        assert result.reason in (StopReason.UNTIL, StopReason.TIME, StopReason.POWER_CUT), (result, self.said)
        if result.reason is StopReason.POWER_CUT:
            return None
        assert until is None or until in self.said, self.said
        return bootreport.unpack(self.machine.read(0x20017F00, 128))

    def restart(self, until: str | None = "journal: record", **how: Any) -> Any:
        self.machine.reset("pin")
        return self.boot(until, **how)

    @property
    def low_bank(self) -> int:
        """The bank that is mapped low now."""
        return 2 if self.machine.board.swapped else 1

    def operations(self) -> list[str]:
        """Kinds of the flash operations since the log was cleared."""
        return [op.kind for op in self.flash.log]

    def pages(self) -> tuple[bytes, bytes]:
        """The journal as a reader sees it: zeros for a quad-word that faults."""
        pages = []
        for at in JOURNAL_OFFSETS:
            cells = bytearray(self.flash.read_phys(2, at, PAGE))
            for bank, bad in self.flash.ecc_bad:
                if bank == 2 and at <= bad < at + PAGE:
                    cells[bad - at : bad - at + 16] = bytes(16)
            pages.append(bytes(cells))
        return pages[0], pages[1]

    def state(self) -> journal.Record:
        return journal.scan(*self.pages())[0]

    def append(self, record: journal.Record) -> None:
        """Write a record as the application would: next cell, after an erase if need be."""
        _, page, cell = journal.scan(*self.pages())
        if cell == 0:
            self.flash.write_phys(2, JOURNAL_OFFSETS[page], b"\xff" * PAGE)
        self.flash.write_phys(2, JOURNAL_OFFSETS[page] + 16 * cell, journal.pack(record))

    def type(self, command: str, until: str) -> None:
        """Type a command to the sample application, which uses the client library on the chip itself."""
        self.machine.uart_input(command.encode())
        self.boot(until, time_ms=2000)

    @property
    def floor(self) -> int:
        assert self.machine.element is not None
        return self.machine.element.counters[0] // 8


@pytest.fixture(scope="session")
def factory_device(
    u5_bootloader: Path, signed: Callable[..., bytes], keys: SimpleNamespace, tmp_path_factory: Any
) -> Any:
    """One device as the factory's own steps and its HEX leave it."""
    from fota_cli.rehearsal import flash_hex
    from fota_signer.factory.ca import make_ca
    from fota_signer.factory.flash import Firmware, bootloader_image, factory_hex
    from fota_signer.factory.i2c import I2cTransport
    from fota_signer.factory.line import Job, provision_chip

    machine = Machine(element=Atecc608(), chip=STM32U585)
    machine.power_on()
    roots = {"root_a_xy": public_xy(keys.root_a), "root_b_xy": public_xy(keys.root_b)}
    job = Job(**roots, ca=make_ca("factory", 2), work=tmp_path_factory.mktemp("work"))
    record = provision_chip(I2cTransport(machine.i2c, machine.sleep_us), job).record
    machine.power_off()
    firmware = Firmware(
        chip=U5,
        bootloader=bootloader_image(u5_bootloader.read_bytes(), "bootloader.elf", U5),
        image=signed("1.0.0"),
        class_id=CLASS_ID,
        vendor_id=VENDOR_ID,
        **roots,
        genesis_root=b"\xa0",
        server_ca_der=b"\x30",
        server_url="https://localhost",
    )
    text = factory_hex(firmware, record)
    flash_hex(machine, text, "the HEX")
    return SimpleNamespace(machine=machine, fresh=machine.snapshot(), text=text, record=record, roots=roots)


@pytest.fixture
def device(factory_device: Any) -> Iterator[Device]:
    """As it leaves the factory: 1.0.0 in slot A with security counter 1, journal and slot B blank."""
    machine = factory_device.machine
    machine.restore(factory_device.fresh)
    machine.i2c_tamper = None
    machine.board.controller.keeps_request = True
    yield Device(machine)
    machine.i2c_tamper = None


@pytest.fixture
def staged(device: Device, signed: Callable[..., bytes]) -> Device:
    """1.0.0 runs confirmed in A; 1.1.0 (security counter 2) lies in B, requested, power off."""
    device.boot()
    device.install("B", signed("1.1.0", sec_cnt=2))
    device.append(journal.request(device.state(), A, B))
    device.machine.power_off()
    device.flash.log.clear()
    return device


def refused(device: Device, slot: str) -> str:
    """The status with which the bootloader refused a slot in the last run, or nothing."""
    found = re.findall(rf"slot {slot} refused: (\w+)", device.said)
    return found[-1] if found else ""


# --- ESP32-C3 ---


@pytest.fixture(scope="session")
def c3_bootloader() -> Path:
    """bootloader.elf; bootloader.bin lies beside it."""
    make("bootloader", port="esp32c3")
    return BUILD / "bootloader/esp32c3/bootloader.elf"


@pytest.fixture(scope="session")
def c3_software() -> Path:
    """The same without the SHA engine."""
    make("bootloader", "SHA=software", port="esp32c3")
    return BUILD / "bootloader/esp32c3-software/bootloader.elf"


@pytest.fixture(scope="session")
def c3_plain() -> Callable[..., bytes]:
    """c3_plain("1.1.0") -> the sample application as a .bin that nobody has signed."""
    from fota_signer.esp_firmware import load_application
    from fota_wire.host_chips import CHIPS

    def build(version: str, *, fail: bool = False, pad: int = 0) -> bytes:
        what = f"VERSION={version}", f"SELF_TEST={'fail' if fail else 'pass'}", f"PAD={pad}"
        make("sample", *what, port="esp32c3")
        name = f"app-{version}{'-fail' if fail else ''}{f'-pad{pad}' if pad else ''}.elf"
        return load_application((BUILD / "sample/esp32c3" / name).read_bytes(), name, CHIPS["esp32c3"])

    return build


@pytest.fixture(scope="session")
def c3_signed(c3_plain: Callable[..., bytes], keys: SimpleNamespace) -> Callable[..., bytes]:
    """c3_signed("1.1.0", sec_cnt=2) -> image file, by the signer."""
    from fota_signer.identity import DeviceClass
    from fota_signer.images import sign_application

    def build(
        version: str, *, sec_cnt: int = 1, key: Any = None, class_id: bytes = CLASS_ID, **how: Any
    ) -> bytes:
        major, minor, revision = map(int, version.split("."))
        return sign_application(
            c3_plain(version, **how),
            key=key or keys.root_a,
            version=(major, minor, revision, 0),
            sec_cnt=sec_cnt,
            device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=class_id),
        )

    return build


@pytest.fixture(scope="session")
def c3_factory(
    c3_bootloader: Path, c3_signed: Callable[..., bytes], keys: SimpleNamespace, tmp_path_factory: Any
) -> Any:
    """One device as the factory's own steps and its HEX leave it."""
    from espressif_forms import table

    from fota_cli.rehearsal import flash_hex
    from fota_signer.factory.ca import make_ca
    from fota_signer.factory.flash import Firmware, factory_hex
    from fota_signer.factory.i2c import I2cTransport
    from fota_signer.factory.line import Job, provision_chip
    from fota_vdev.chips.esp32c3 import ESP32C3

    machine = Machine(element=Atecc608(), chip=ESP32C3)
    machine.power_on()
    roots = {"root_a_xy": public_xy(keys.root_a), "root_b_xy": public_xy(keys.root_b)}
    job = Job(**roots, ca=make_ca("factory", 2), work=tmp_path_factory.mktemp("work"))
    record = provision_chip(I2cTransport(machine.i2c, machine.sleep_us), job).record
    machine.power_off()
    firmware = Firmware(
        chip=host_chips.CHIPS["esp32c3"],
        bootloader=c3_bootloader.with_suffix(".bin").read_bytes(),
        image=c3_signed("1.0.0"),
        class_id=CLASS_ID,
        vendor_id=VENDOR_ID,
        **roots,
        genesis_root=b"\xa0",
        server_ca_der=b"\x30",
        server_url="https://localhost",
        table=table(),
    )
    flash_hex(machine, factory_hex(firmware, record), "the HEX")
    return SimpleNamespace(machine=machine, fresh=machine.snapshot())


@pytest.fixture
def c3(c3_factory: Any) -> Iterator[Any]:
    """As it leaves the factory: 1.0.0 in slot A, security counter 1; journal, OTA data and slot B blank."""
    from esp32c3_world import Device

    machine = c3_factory.machine
    machine.restore(c3_factory.fresh)
    machine.i2c_tamper = None
    yield Device(machine)
    machine.i2c_tamper = None
