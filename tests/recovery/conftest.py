"""Fixtures: a provisioned virtual STM32 with the recovery build, and its console as a serial port.

All of it is done on each STM32 that there is.
"""

import os
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bootloader_make import BUILD, make
from lifeline import HANG_S

from fota_wire.host_chips import STM32, Stm32

CLASS_ID, VENDOR_ID = bytes(range(16)), bytes(range(16, 32))
BANK = {"A": 1, "B": 2}
BUTTON = 13  # of port C
HELD = {"stm32l476": 0, "stm32u585": 1}  # as the boards of ST have it


@pytest.fixture(scope="session", params=STM32)
def row(request: Any) -> Stm32:
    return STM32[request.param]


@pytest.fixture(scope="session")
def recovery_elf(row: Stm32) -> Path:
    make("bootloader", "recovery", port=row.PORT)
    return BUILD / "bootloader" / row.PORT / "bootloader-recovery.elf"


@pytest.fixture(scope="session")
def signed(row: Stm32) -> Callable[..., bytes]:
    """signed("1.1.0", key="assign") -> image file, by default by the device's firmware root A."""
    from fota_signer.examples import example_key
    from fota_signer.firmware import load_firmware
    from fota_signer.identity import DeviceClass
    from fota_signer.images import sign_payload

    samples = BUILD / "sample" / ("" if row.PORT == "stm32l4" else row.PORT)

    def build(version: str, *, key: str = "image-a", pad: int = 0) -> bytes:
        make("sample", f"VERSION={version}", f"PAD={pad}", port=row.PORT)
        name = f"app-{version}{f'-pad{pad}' if pad else ''}.elf"
        major, minor, revision = map(int, version.split("."))
        return sign_payload(
            load_firmware((samples / name).read_bytes(), name, chip=row),
            key=example_key(key),
            version=(major, minor, revision, 0),
            sec_cnt=1,
            device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID),
            chip=row,
        )

    return build


class SerialPort(threading.Thread):
    """A pseudo terminal on the console: while it is open, the machine runs on this thread."""

    def __init__(self, machine: Any) -> None:
        super().__init__(daemon=True)
        self._machine = machine
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        sent = len(self._machine.uart)
        try:
            while not self._over.is_set():
                with suppress(BlockingIOError):
                    self._machine.uart_input(os.read(self._master, 4096))
                self._machine.run(time_ms=2)
                new = bytes(self._machine.uart[sent:])
                sent += os.write(self._master, new) if new else 0
        except BaseException as exc:
            self.error = exc

    def __enter__(self) -> str:
        self.start()
        return self.path

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(timeout=HANG_S)
        os.close(self._master)
        os.close(self._slave)
        if self.error is not None:
            raise self.error


class Device:
    """A provisioned machine, and the questions that tests ask of it."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.flash = machine.flash
        self.row = machine.chip.row

    def install(self, slot: str, image: bytes) -> None:
        rest = b"\xff" * (-len(image) % self.row.PAGE_SIZE)
        self.flash.write_phys(BANK[slot], self.row.SLOT_OFFSET, image + rest)

    def spoil(self, slot: str) -> None:
        """Flip a bit of the payload."""
        at = self.row.VECTOR_ADDRESS + 0x10 - self.row.FLASH_BASE
        byte = self.flash.read_phys(BANK[slot], at, 1)[0]
        self.flash.write_phys(BANK[slot], at, bytes([byte ^ 1]))

    def slot(self, slot: str, n: int | None = None) -> bytes:
        return bytes(self.flash.read_phys(BANK[slot], self.row.SLOT_OFFSET, n or self.row.SLOT_SIZE))

    def set_watchdog(self, seconds: int) -> None:
        from fota_wire.settings import pack, unpack

        for bank in self.row.FACTORY_BANKS:
            settings = unpack(self.flash.read_phys(bank, self.row.SETTINGS_OFFSET, 256))
            settings.watchdog_s = seconds
            self.flash.write_phys(bank, self.row.SETTINGS_OFFSET, pack(settings))

    def hold_button(self) -> None:
        self.machine.board.gpio["C"].driven[BUTTON] = HELD[self.row.NAME]

    def run(self, until: str, time_ms: int = 60_000) -> str:
        """Run until a text appears; returns what was said on the way."""
        start = len(self.machine.uart)
        if not self.machine.powered:
            self.machine.power_on()
        for _ in range(0, time_ms, 20):
            self.machine.run(time_ms=20)
            if until.encode() in self.machine.uart[start:]:
                break
        said = bytes(self.machine.uart[start:]).decode("latin-1")
        assert until in said, said
        return said

    def serial_port(self) -> SerialPort:
        return SerialPort(self.machine)

    def state(self) -> Any:
        """The journal's record."""
        from fota_vdev.places import places
        from fota_wire import journal

        first, second = (
            page.read(self.machine)[: journal.PAGE_SIZE] for page in places(self.machine).journal
        )
        return journal.scan(first, second)[0]

    def write_record(self, *fields: int) -> None:
        """Write the first record of a blank journal: confirmed, candidate, state..."""
        from fota_wire import journal

        record = journal.pack(journal.Record(1, *fields))
        self.flash.write_phys(self.row.JOURNAL_BANK, self.row.JOURNAL_OFFSET, record)

    def ask(self, *raw: bytes, time_ms: int = 300) -> list[bytes]:
        """Type bytes into the console, one after the other; returns the frames that came back, at most one
        for each.
        """
        return [answer for part in raw for answer in self._ask(part, time_ms)]

    def _ask(self, raw: bytes, time_ms: int) -> list[bytes]:
        from smp.packet import decode

        start, decoder = len(self.machine.uart), decode()
        next(decoder)
        self.machine.uart_input(raw)
        for _ in range(0, time_ms, 10):
            self.machine.run(time_ms=10)
            said = bytes(self.machine.uart[start:])
            if (said.startswith(b"\x06\x09") and said.endswith(b"=\n")) or said.count(b"\n") > 2:
                break
        try:
            for line in said.splitlines(keepends=True):
                decoder.send(line)
        except StopIteration as done:
            return [done.value]
        assert said == b"", said
        return []


@pytest.fixture(scope="session")
def factory_device(row: Stm32, recovery_elf: Path, signed: Callable[..., bytes]) -> Any:
    from emulated_factory import example_device

    from fota_vdev.atecc608.chip import Atecc608
    from fota_vdev.machine import Machine
    from fota_vdev.models import MODELS

    machine = Machine(element=Atecc608(), chip=MODELS[row.NAME])
    example_device(
        machine, bootloader=recovery_elf, image=signed("1.0.0"), class_id=CLASS_ID, vendor_id=VENDOR_ID
    )
    return SimpleNamespace(machine=machine, fresh=machine.snapshot())


@pytest.fixture
def device(factory_device: Any) -> Iterator[Device]:
    """As it leaves the factory: 1.0.0 in slot A, journal and slot B blank."""
    machine = factory_device.machine
    machine.restore(factory_device.fresh)
    machine.resets.clear()
    yield Device(machine)
    machine.board.gpio["C"].driven.clear()


@pytest.fixture
def dead_device(device: Device) -> Device:
    """Confirmed slot A rotten, slot B blank: it has nothing to boot, and waits for somebody."""
    from fota_wire import journal
    from fota_wire.layout import SLOT_A, SLOT_NONE

    device.write_record(SLOT_A, SLOT_NONE, journal.NONE)
    device.spoil("A")
    said = device.run("fota-boot: recovery\r\n")
    assert "fota-boot: halt: PO3" in said
    return device
