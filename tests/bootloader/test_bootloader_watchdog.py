"""No setting of the watchdog that the factory can write turns a slow boot into a loop of resets.

Every path is walked with the slowest element of the data sheet, full slots, and each watchdog in turn. How
long a path goes without feeding is measured as well, and has to fit the hardest case of all: the watchdog
that hardware starts at reset, 512 ms with LSI at its nominal 32 kHz.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fota_vdev.cells.board import IWDG_SW
from fota_vdev.parts.clock import PS_PER_MS
from fota_wire import journal
from fota_wire.chips.stm32l476 import SETTINGS_OFFSET, SLOT_SIZE
from fota_wire.layout import SEC_CNT_MAX, SLOT_A, SLOT_B
from fota_wire.settings import pack, unpack

LSI_FASTEST_HZ = 34_000  # STM32L476 data sheet, over temperature; nominal is 32,000
UNFED_MS = 512 * 32_000 / LSI_FASTEST_HZ * 0.9  # with a tenth to spare: flash has wait states, the model none
FLOOR_STEPS = 16  # SPEC 1.2: in one boot, at most
Device = Any
Build = Callable[..., bytes]
Path = Callable[[Device, Build], tuple[str, ...]]


def settle(device: Device, **changes: Any) -> None:
    """Change the factory's settings."""
    page = unpack(device.flash.read_phys(1, SETTINGS_OFFSET, 256))
    for name, value in changes.items():
        setattr(page, name, value)
    device.flash.write_phys(1, SETTINGS_OFFSET, pack(page))


def hardware_watchdog(device: Device, *, on: bool) -> None:
    options = device.flash.options
    options["optr"] = options["optr"] & ~IWDG_SW if on else options["optr"] | IWDG_SW


# (software's watchdog in seconds, in every boot, started by hardware at reset)
WATCHDOGS = {
    "shortest": (1, True, False),
    "shortest-in-trials-only": (1, False, False),
    "longest": (30, True, False),
    "hardware-then-shortest": (1, True, True),
    "hardware-and-trials-only": (30, False, True),
}
HARDEST = ("shortest", "hardware-and-trials-only")  # these with full slots


class Feeds:
    """The longest time without feeding, from reset to the application."""

    def __init__(self, machine: Any) -> None:
        self.machine, self.longest_ms, self.last_ps = machine, 0.0, machine.clock.ps
        self._write = machine.board.iwdg.write
        machine.board.iwdg.write = self._on_write

    def _on_write(self, offset: int, value: int) -> None:
        if offset == 0 and value == 0xAAAA:
            self.note()
        self._write(offset, value)

    def note(self) -> None:
        now = self.machine.clock.ps
        self.longest_ms = max(self.longest_ms, (now - self.last_ps) / PS_PER_MS)
        self.last_ps = now

    def stop(self) -> None:
        self.note()
        del self.machine.board.iwdg.write


@pytest.fixture
def slow(device: Device) -> Iterator[Device]:
    """The device with the slowest element that the data sheet allows."""
    element = device.machine.element
    usual = element.assumptions
    element.assumptions = dataclasses.replace(usual, execution=1.0)
    yield device
    element.assumptions = usual
    for name in ("acknowledge", "wake_pulse"):
        element.__dict__.pop(name, None)
    hardware_watchdog(device, on=False)


@pytest.fixture
def full(signed: Build, sample: Build) -> Build:
    """full("1.1.0", sec_cnt=2, ...) -> an image that leaves no room in its slot."""

    def build(version: str, **how: Any) -> bytes:
        pad = SLOT_SIZE - 0x200 - 1024 - len(sample(version))
        return signed(version, pad=pad, **how)

    return build


def silent(device: Device, *, sessions: int, command: int) -> None:
    """In the first ``sessions``, the element does not answer from the ``command``-th one on."""
    element = device.machine.element
    acknowledge, wake = element.acknowledge, element.wake_pulse
    woken: list[int] = []  # the number of commands at each wake pulse: two begin a session

    def on_wake(low_us: float) -> None:
        woken.append(len(element.commands))
        wake(low_us)

    def on_address(address: int, *, read: bool) -> bool:
        quiet = len(woken) <= 2 * sessions and len(element.commands) - woken[-1] >= command
        return acknowledge(address, read=read) and not (quiet and read)

    element.wake_pulse, element.acknowledge = on_wake, on_address


def wrongly_signed(device: Device, image: Build) -> tuple[str, ...]:
    """ "Bad signature" is believed once three sessions have said so; then comes slot A."""
    device.install("A", image("1.0.0"))
    spoilt = bytearray(image("1.1.0", sec_cnt=2))
    spoilt[-1] ^= 1
    device.install("B", bytes(spoilt))
    device.request("B")
    return "slot B refused: IM10", "slot A 1.0.0 confirmed"


def good_update(device: Device, image: Build) -> tuple[str, ...]:
    device.install("B", image("1.1.0", sec_cnt=2))
    device.request("B")
    return ("slot B 1.1.0 trial",)


def fallback(device: Device, image: Build) -> tuple[str, ...]:
    rotten = bytearray(image("1.0.0"))
    rotten[len(rotten) // 2] ^= 1
    device.install("A", bytes(rotten))
    device.install("B", image("1.1.0", sec_cnt=2))
    return "slot A refused: IM6", "slot B 1.1.0 fallback"


def first_boot(device: Device, image: Build) -> tuple[str, ...]:
    device.install("A", image("1.0.0"))
    device.flash.write_phys(2, 0, b"\xff" * 4096)
    return ("slot A 1.0.0 confirmed",)


def longest_leap(device: Device, image: Build) -> tuple[str, ...]:
    device.install("A", image("1.0.0", sec_cnt=SEC_CNT_MAX))
    return f"floor {1 + FLOOR_STEPS}\r\n", "slot A 1.0.0 confirmed"


def last_attempt(device: Device, image: Build) -> tuple[str, ...]:
    silent(device, sessions=2, command=9)  # Verify
    return "element: CE3", "slot A 1.0.0 confirmed"


def dead_element(device: Device, image: Build) -> tuple[str, ...]:
    silent(device, sessions=99, command=1)
    return "element: CE3", "halt: CE3"


def full_journal(device: Device, image: Build) -> tuple[str, ...]:
    """An erase comes before the record."""
    staged = [journal.Record(n, SLOT_A, SLOT_B, journal.STAGED) for n in range(1, 129)]
    device.flash.write_phys(2, 0, b"".join(map(journal.pack, staged)))
    device.flash.write_phys(2, 2048, bytes(2048))
    device.install("B", image("1.1.0", sec_cnt=2))
    return ("slot B 1.1.0 trial",)


PATHS = (wrongly_signed, good_update, fallback, first_boot, longest_leap, last_attempt, dead_element,
         full_journal)  # fmt: skip


CASES = [(path, watchdog) for watchdog in WATCHDOGS for path in (PATHS if watchdog in HARDEST else PATHS[:2])]


@pytest.mark.parametrize(
    ("path", "watchdog"), CASES, ids=[f"{path.__name__}-{watchdog}" for path, watchdog in CASES]
)
def test_every_setting_of_the_watchdog_leaves_time_for_the_slowest_path(
    slow: Device, full: Build, signed: Build, path: Path, watchdog: str
) -> None:
    seconds, always, hardware = WATCHDOGS[watchdog]
    slow.boot()
    *before, last = path(slow, full if watchdog in HARDEST else signed)
    slow.machine.power_off()
    settle(slow, watchdog_s=seconds, watchdog_always=always, max_step=SEC_CNT_MAX)
    hardware_watchdog(slow, on=hardware)
    slow.machine.resets.clear()
    slow.machine.power_on()
    feeds = Feeds(slow.machine)
    slow.boot(until=last)
    feeds.stop()
    assert [cause for _, cause in slow.machine.resets] == ["power"]
    assert [text for text in before if text not in slow.said] == [], slow.said
    print(f"unfed for {feeds.longest_ms:.0f} ms at most")
    assert feeds.longest_ms < UNFED_MS
