"""Fixtures: the built bootloader and sample applications, signed images, a provisioned virtual device."""

import ctypes
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bootloader_make import BUILD, make

CLASS_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
VENDOR_ID = bytes.fromhex("ffeeddccbbaa99887766554433221100")


@pytest.fixture(scope="session")
def bootloader_elf() -> Path:
    make("bootloader")
    return BUILD / "bootloader/stm32l4/bootloader.elf"


@pytest.fixture(scope="session")
def core() -> ctypes.CDLL:
    """The bootloader's core, built for the host with the undefined-behaviour sanitizer."""
    make("host")
    return ctypes.CDLL(str(BUILD / "bootloader/host/libfota_boot.so"))


@pytest.fixture(scope="session")
def sample() -> Callable[..., bytes]:
    """sample("1.1.0", fail=True, pad=0) -> payload of that sample application, as it is linked."""

    def build(version: str, *, fail: bool = False, pad: int = 0) -> bytes:
        from fota_signer.firmware import load_firmware

        make("sample", f"VERSION={version}", f"SELF_TEST={'fail' if fail else 'pass'}", f"PAD={pad}")
        name = f"app-{version}{'-fail' if fail else ''}{f'-pad{pad}' if pad else ''}.elf"
        return load_firmware((BUILD / "sample" / name).read_bytes(), name)

    return build


@pytest.fixture(scope="session")
def keys() -> SimpleNamespace:
    from fota_signer.examples import example_key

    return SimpleNamespace(
        root_a=example_key("image-a"), root_b=example_key("image-b"), thief=example_key("assign")
    )


@pytest.fixture(scope="session")
def signed(sample: Callable[..., bytes], keys: SimpleNamespace) -> Callable[..., bytes]:
    """signed("1.1.0", sec_cnt=2) -> image file; every ingredient can be replaced by a wrong one."""
    from fota_signer.identity import DeviceClass
    from fota_signer.images import sign_payload

    def build(
        version: str,
        *,
        sec_cnt: int = 1,
        key: Any = None,
        class_id: bytes = CLASS_ID,
        chip: Any = None,
        **how: Any,
    ) -> bytes:
        major, minor, revision = map(int, version.split("."))
        device_class = DeviceClass(vendor_id=VENDOR_ID, class_id=class_id)
        return sign_payload(
            sample(version, **how),
            key=key or keys.root_a,
            version=(major, minor, revision, 0),
            sec_cnt=sec_cnt,
            device_class=device_class,
            chip=chip,
        )

    return build


class Device:
    """A provisioned machine, and the questions that tests ask of it."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.flash = machine.flash

    @property
    def text(self) -> str:
        return self.machine.uart.decode("latin-1")

    def install(self, slot: str, image: bytes) -> None:
        """Put a file into a slot as a finished download leaves it."""
        bank = {"A": 1, "B": 2}[slot]
        size = -(-len(image) // 2048) * 2048
        self.flash.write_phys(bank, 0x4000, image + b"\xff" * (size - len(image)))

    def boot(self, until: str | None = "journal: record", time_ms: int = 60_000) -> Any:
        """Run from where the machine is until a text appears on the UART; returns its boot report."""
        from fota_vdev.machine import StopReason
        from fota_wire import bootreport

        start = len(self.machine.uart)
        if not self.machine.powered:
            self.machine.power_on()
        result = self.machine.run(
            time_ms=time_ms,
            until=None if until is None else lambda m: until.encode() in bytes(m.uart[start:]),
        )
        assert result.reason in (StopReason.UNTIL, StopReason.TIME, StopReason.POWER_CUT), result
        self.last = result
        self.said = bytes(self.machine.uart[start:]).decode("latin-1")
        if result.reason is StopReason.POWER_CUT:
            return None
        assert until is None or until in self.said, self.said
        return bootreport.unpack(self.machine.read(0x20017F00, 128))

    def restart(self, until: str | None = "journal: record", **how: Any) -> Any:
        self.machine.reset("pin")
        return self.boot(until, **how)

    def state(self) -> Any:
        """The journal's record."""
        from fota_wire import journal

        return journal.scan(*self.pages())[0]

    def pages(self) -> tuple[bytes, bytes]:
        """The journal as a reader sees it: zeros for a double word that faults."""
        cells = bytearray(self.flash.read_phys(2, 0, 4096))
        for bank, at in self.flash.ecc_bad:
            if bank == 2 and at < 4096:
                cells[at : at + 8] = bytes(8)
        return bytes(cells[:2048]), bytes(cells[2048:])

    def append(self, record: Any) -> None:
        """Write a record as the application would: next cell, after an erase if need be."""
        from fota_wire import journal

        _, page, cell = journal.scan(*self.pages())
        if cell == 0:
            self.flash.write_phys(2, 2048 * page, b"\xff" * 2048)
        self.flash.write_phys(2, 2048 * page + 16 * cell, journal.pack(record))

    def request(self, slot: str) -> None:
        from fota_wire import journal

        running, wanted = (0x5A, 0xA5) if slot == "B" else (0xA5, 0x5A)
        self.append(journal.request(self.state(), running, wanted))

    def confirm(self, slot: str) -> None:
        from fota_wire import journal

        record = journal.confirm(self.state(), 0x5A if slot == "A" else 0xA5)
        if record is not None:
            self.append(record)

    @property
    def floor(self) -> int:
        return self.machine.element.counters[0] // 8

    def status_of(self, slot: str) -> str:
        found = re.findall(rf"slot {slot} refused: (\w+)", self.said)
        return found[-1] if found else ""


@pytest.fixture(scope="session")
def factory_device(bootloader_elf: Path, signed: Callable[..., bytes]) -> Any:
    from emulated_factory import example_device

    from fota_vdev.atecc608.chip import Atecc608
    from fota_vdev.machine import Machine

    machine = Machine(element=Atecc608())
    example_device(
        machine, bootloader=bootloader_elf, image=signed("1.0.0"), class_id=CLASS_ID, vendor_id=VENDOR_ID
    )
    return SimpleNamespace(machine=machine, fresh=machine.snapshot())


@pytest.fixture
def device(factory_device: Any) -> Iterator[Device]:
    """As it leaves the factory: 1.0.0 in slot A with security counter 1, journal and slot B blank."""
    machine = factory_device.machine
    machine.restore(factory_device.fresh)
    machine.i2c_tamper = None
    machine.resets.clear()
    yield Device(machine)
    machine.i2c_tamper = None
