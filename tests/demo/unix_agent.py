"""A chip whose agent runs on this machine's MicroPython with a limited heap; bootloader, element and flash
are the chip's own.

The chip boots and stands still in its application. Its flash is copied into a file for the agent, which
reaches the element over a pipe; what the agent has written is put back, and the chip is reset.
"""

import subprocess
from contextlib import suppress
from pathlib import Path

import chip_world
from chip_world import BUILD, ChipWorld

from fota_vdev.machine import StopReason
from fota_wire.chips.stm32l476 import BANK_SIZE, BOOT_REPORT_ADDRESS, PAGE_SIZE
from fota_wire.layout import BOOT_REPORT_SIZE

MICROPYTHON = BUILD / "agent-firmware/unix/micropython"
MOST_LINES = 200_000  # an update is some thousand transfers with the element, a line each
ELF_32 = 1
NO_MEMORY = "MemoryError"  # its text is cut where there is no memory for that either


def why_not() -> str:
    """Return why there is no such MicroPython, or an empty string."""
    why = chip_world.why_not()
    if not why and MICROPYTHON.read_bytes()[4] != ELF_32:
        why = "MicroPython for this machine has pointers of 64 bits: install Debian's package gcc-multilib"
    return why


class UnixAgent:
    """The agent of ``world``'s chip, which is switched on; its files lie in ``folder``."""

    def __init__(self, world: ChipWorld, folder: Path) -> None:
        self._machine = world.machine
        self._folder = folder
        self._machine.run(until=lambda m: m.application_runs)
        self._machine.run(max_instructions=2_000)  # out of the bootloader
        report = self._machine.read(BOOT_REPORT_ADDRESS, BOOT_REPORT_SIZE)
        (folder / "report").write_bytes(report)
        self._before = b"".join(self._machine.flash.read_phys(bank, 0, BANK_SIZE) for bank in (1, 2))

    def update(self, heap_bytes: int) -> tuple[bool, list[str]]:
        """Run the agent on a fresh copy of the flash until it asks for a reset or first lacks memory.

        Returns whether it asked for a reset, and what it said.
        """
        (self._folder / "flash").write_bytes(self._before)
        command = [MICROPYTHON, "-X", f"heapsize={heap_bytes}", "-m", "main", self._folder]
        said: list[str] = []
        with suppress(BrokenPipeError), subprocess.Popen(
            list(map(str, command)), cwd=self._folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            for count, line in enumerate(process.stdout):
                if line[:2] in ("w ", "r ", "s "):
                    process.stdin.write(self._bus(line.split()) + "\n")
                    process.stdin.flush()
                else:
                    said.append(line.strip())
                if NO_MEMORY in line or count > MOST_LINES:
                    process.kill()
        return process.returncode == 0, said

    def _bus(self, words: list[str]) -> str:
        """Do one transfer with the chip's element, or let time pass; return the answer in hex, or `nak`."""
        address, rest = int(words[1]), "".join(words[2:])
        if words[0] == "s":
            self._machine.sleep_us(address)
            return ""
        try:
            if words[0] == "r":
                return self._machine.i2c.readfrom(address, int(rest)).hex()
            self._machine.i2c.writeto(address, bytes.fromhex(rest))
        except OSError:
            return "nak"
        return ""

    def boot(self, text: str) -> str:
        """Put back what the agent has written, reset the chip; return what it says up to ``text``."""
        machine = self._machine
        written = (self._folder / "flash").read_bytes()
        for at in range(0, len(written), PAGE_SIZE):
            page = written[at : at + PAGE_SIZE]
            if page != self._before[at : at + PAGE_SIZE]:
                machine.flash.write_phys(1 + at // BANK_SIZE, at % BANK_SIZE, page)
        start = len(machine.uart)
        machine.reset("software")
        result = machine.run(until=lambda m: m.uart.find(text.encode(), start) >= 0, time_ms=20_000)
        said = bytes(machine.uart[start:]).decode()
        assert result.reason is StopReason.UNTIL, said
        return said
