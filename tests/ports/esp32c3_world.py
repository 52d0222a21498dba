"""A virtual ESP32-C3 that the factory made, and the questions that tests ask of it."""

import re
import struct
from typing import Any

from espressif_forms import VALID, ota_record

from fota_vdev.machine import Machine, StopReason
from fota_wire import bootreport, journal
from fota_wire.chips import esp32c3

STORE, OTADATA = 0x290000, 0xE000
SLOTS = {"A": 0x10000, "B": 0x150000}
A, B = 0x5A, 0xA5
PAGE = 2048
BANK = 1  # flash models count them


class Device:
    """A provisioned ESP32-C3."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.flash: Any = machine.flash
        self.said = ""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into flash, as a finished write of the application leaves them."""
        self.flash.write_phys(BANK, offset, data)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.flash.read_phys(BANK, offset, size))

    def install(self, slot: str, image: bytes) -> None:
        self.write(SLOTS[slot], image.ljust(-(-len(image) // 4096) * 4096, b"\xff"))

    def boot(self, until: str | None = "journal: record", time_ms: int = 60_000) -> Any:
        """Run from where the machine is until a text appears on the UART; returns its boot report."""
        start = len(self.machine.uart)
        if not self.machine.powered:
            self.machine.power_on()
        wanted = None if until is None else lambda m: until.encode() in bytes(m.uart[start:])
        result = self.machine.run(time_ms=time_ms, until=wanted)
        self.said = bytes(self.machine.uart[start:]).decode("latin-1")
        assert result.reason in (StopReason.UNTIL, StopReason.TIME, StopReason.POWER_CUT), (result, self.said)
        if result.reason is StopReason.POWER_CUT:
            return None
        assert until is None or until in self.said, self.said
        return bootreport.unpack(self.machine.read(esp32c3.BOOT_REPORT_ADDRESS, 128))

    def restart(self, until: str | None = "journal: record", **how: Any) -> Any:
        self.machine.reset("pin")
        return self.boot(until, **how)

    def operations(self) -> list[str]:
        """Kinds of the flash operations since the log was cleared."""
        return [op.kind for op in self.flash.log]

    # -- journal --

    def pages(self) -> tuple[bytes, bytes]:
        return self.read(STORE, PAGE), self.read(STORE + 0x1000, PAGE)

    def state(self) -> journal.Record:
        return journal.scan(*self.pages())[0]

    def append(self, record: journal.Record) -> None:
        """Write a record as the application would: next cell, after an erase if need be."""
        _, page, cell = journal.scan(*self.pages())
        at = STORE + 0x1000 * page
        if cell == 0:
            self.write(at, b"\xff" * 4096)
        self.write(at + 16 * cell, journal.pack(record))

    # -- OTA data, as an application of ESP-IDF writes it --

    def ota(self) -> list[tuple[int, int]]:
        """(sequence, state) of both sectors."""
        out = []
        for sector in range(2):
            sequence, state = struct.unpack("<I20xI4x", self.read(OTADATA + 4096 * sector, 32))
            out.append((sequence, state))
        return out

    def set_ota(self, sector: int, sequence: int, state: int) -> None:
        self.write(OTADATA + 4096 * sector, ota_record(sequence, state).ljust(4096, b"\xff"))

    def mark(self, sector: int, state: int = VALID) -> None:
        """``esp_ota_mark_app_valid_cancel_rollback()``, or its opposite."""
        self.set_ota(sector, self.ota()[sector][0], state)

    # -- the application's console --

    def type(self, command: str, until: str) -> None:
        self.machine.uart_input(command.encode())
        self.boot(until, time_ms=3000)

    @property
    def floor(self) -> int:
        assert self.machine.element is not None
        return self.machine.element.counters[0] // 8

    def refused(self, slot: str) -> str:
        """The status with which the bootloader refused a slot in the last run, or nothing."""
        found = re.findall(rf"slot {slot} refused: (\w+)", self.said)
        return found[-1] if found else ""
