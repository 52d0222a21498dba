"""A factory HEX on a virtual device first: the bootloader's machine code, and the agent's start."""

import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fota_agent.agent import Agent
from fota_cli.boards import BOARDS
from fota_cli.station import on_machine
from fota_signer.factory.ca import make_ca
from fota_signer.factory.flash import chip_of_hex, load_hex, serial_of_hex
from fota_signer.factory.line import Job, provision_chip
from fota_vdev.atecc608 import Atecc608
from fota_vdev.atecc608.memory import Nvm, factory_config
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.view import report_of, reported
from fota_wire.errors import FotaError, InputError, TransportError, VerifyError
from fota_wire.host_chips import ESPRESSIF, STM32, Stm32
from fota_wire.layout import SLOT_NAMES
from fota_wire.status import IM13

if TYPE_CHECKING:
    from fota_signer.factory.inspection import Chip
    from fota_signer.factory.record import DeviceRecord
    from fota_wire.host_chips import Chip as Row

BOOT_MS = 20_000


def flash_hex(machine: Machine, text: str, name: str) -> int:
    """Write a factory HEX into a virtual device and protect its pages; return the number of bytes.

    Raises:
        InputError: no Intel HEX, one for another chip or device, or something in it is outside the factory's
            banks.
    """
    chip = machine.chip.row.NAME
    parts = load_hex(text, name)
    said = chip_of_hex(parts)
    if said not in ("", chip):
        raise InputError(f"{name}: is for chip {said}, and the virtual device is of {chip}", IM13)
    serial = serial_of_hex(parts, machine.chip.row)
    if machine.element is not None and serial not in (b"", machine.element.serial):
        raise InputError(
            f"{name}: is the HEX of device {serial.hex()}, and the element of this virtual device is"
            f" {machine.element.serial.hex()}, which would not know its keys"
        )
    places = _places_on_stm32(parts, name, STM32[chip]) if chip in STM32 else _offsets(parts, name, chip)
    for place in places:
        machine.flash.write_phys(*place)
    if chip in STM32:
        row = STM32[chip]
        for bank in row.FACTORY_BANKS:
            machine.flash.protect(bank, 0, row.SLOT_OFFSET // row.PAGE_SIZE - 1)
    return sum(len(data) for _, data in parts)


def _offsets(parts: list[tuple[int, bytes]], name: str, chip: str) -> list[tuple[int, int, bytes]]:
    """Return (1, offset, bytes) of the parts of a HEX for an ESP32, whose addresses are offsets in flash."""
    for offset, data in parts:
        if offset + len(data) > ESPRESSIF[chip].FLASH_SIZE:
            raise InputError(f"{name}: 0x{offset:08x} + {len(data)} bytes is outside the flash of {chip}")
    return [(1, offset, data) for offset, data in parts]


def _places_on_stm32(parts: list[tuple[int, bytes]], name: str, row: Stm32) -> list[tuple[int, int, bytes]]:
    """Return (bank, offset, bytes) of the parts of a HEX."""
    places = []
    for address, data in parts:
        bank, offset = divmod(address - row.FLASH_BASE, row.BANK_SIZE)
        if bank + 1 not in row.FACTORY_BANKS or offset + len(data) > row.BANK_SIZE:
            banks = f"bank {' and '.join(map(str, row.FACTORY_BANKS))} of {row.NAME}"
            raise InputError(f"{name}: 0x{address:08x} + {len(data)} bytes is outside {banks}")
        places.append((bank + 1, offset, data))
    return places


def rehearse(text: str, record: "DeviceRecord", chip: "Chip", say: Callable[[str], object]) -> str:
    """Return what the boot report says, once a twin of the chip has booted the HEX and its agent has started.

    The twin has the same serial number, firmware roots, pairing keys and floor; private keys of its own, so
    nothing is sent anywhere. ``say`` is told what its console prints.

    Raises:
        VerifyError: it starts no application, or the agent does not start; code ``rehearsal``.
    """
    beside = record.path.parent  # the twin's record holds the same keys, and is kept as well
    roots = chip.root_a_xy, chip.root_b_xy
    with (
        tempfile.TemporaryDirectory(dir=beside) as folder,
        twin(record, chip.row, roots, chip.floor, Path(folder)) as machine,
    ):
        flash_hex(machine, text, "the HEX")
        machine.power_on()
        machine.run(time_ms=BOOT_MS, until=reported)
        for line in bytes(machine.uart).decode("ascii", "replace").splitlines():
            say(f"device| {line}")
        if not reported(machine):
            raise VerifyError("not written: on a virtual device it starts no application", "rehearsal")
        report = report_of(machine)
        try:
            _start_agent(machine)
        except FotaError as exc:
            raise VerifyError(f"not written: its agent does not start: {exc}", "rehearsal") from exc
    return f"slot {SLOT_NAMES[report.running]} boots {report.version_text}, and its agent starts"


class _Nowhere:
    """A way to no server: a rehearsal speaks with nobody."""

    valid_until = 0

    def request(self, *_: object) -> NoReturn:
        """Say that there is no network."""
        raise TransportError("a rehearsal has no network")

    def close(self) -> None:
        """Do nothing."""


def twin(record: "DeviceRecord", row: "Row", roots: tuple[bytes, bytes], floor: int, folder: Path) -> Machine:
    """Return a virtual board whose element holds what the chip's does, by the factory's own steps; without
    power. ``roots``: x||y of both. ``folder``: for its record, which holds the same keys.
    """
    revision = Atecc608().assumptions.revision
    element = Atecc608(nvm=Nvm(bytearray(factory_config(record.serial, revision))))
    machine = Machine(element=element, chip=MODELS[row.NAME])
    path = folder / f"{record.serial.hex()}.json"
    replace(record, path=path, certificate=None, request=None, identity=None, attestation=None).save()
    job = Job(
        root_a_xy=roots[0],
        root_b_xy=roots[1],
        ca=make_ca("rehearsal", 2),
        work=folder,
        floor=floor,
        latched=record.latched == b"\x01",
    )
    provision_chip(on_machine(machine, record.address[0]), job)
    machine.power_off()
    return machine


def _start_agent(machine: Machine) -> None:
    board = BOARDS[machine.chip.row.NAME](
        machine.mem32, machine.i2c, machine.read, machine.sleep_us, lambda: time.monotonic_ns() // 1_000_000,
        secrets.randbelow,
    )  # fmt: skip
    agent = Agent(board, transport=_Nowhere())
    agent.step()
    agent.close(save=False)
