"""The chip's agent on this machine's MicroPython: the same frozen sources, so that their heap can be limited.

    micropython -X heapsize=64K -m main FOLDER

The board is the chip's. Its flash is the file FOLDER/flash, bank 1 and then bank 2; what the bootloader left
in RAM is FOLDER/report. The I2C bus is at the other end of the pipe: a line `w ADDRESS HEX`,
`r ADDRESS LENGTH` or `s MICROSECONDS` (sleep) on standard output is answered by one line on standard input,
hex or `nak`. Every other line says what happens. Ends when the chip would be reset.
"""

import gc

gc.threshold(1024)  # while modules load: what stays gets packed at the start of the heap

import select
import socket
import sys
import time

from fota_agent.agent import Agent
from fota_agent.boards.flash_stm32l4 import Flash
from fota_agent.boards.stm32 import Stm32Board
from fota_agent.hooks import Hooks
from fota_agent.transport.tls_micropython import transport_for
from fota_wire import p256
from fota_wire.checkin import LEAST_ANSWER
from fota_wire.chips.stm32l476 import BOOT_REPORT_ADDRESS, FLASH_BASE, PAGE_SIZE

BLANK = b"\xff" * PAGE_SIZE
ENODEV = 19


class FileFlash(Flash):
    """Flash in a file; programming clears bits, as it does on the chip."""

    def __init__(self, path: str, mem32: "Words") -> None:
        super().__init__(mem32, self.read, time.sleep_us)  # which is not asked for
        self._file = open(path, "r+b")  # noqa: PTH123, SIM115  MicroPython has no pathlib

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes."""
        self._file.seek(address - FLASH_BASE)
        return self._file.read(length)

    def take_fault(self) -> bool:
        """Return False: files have no torn double words."""
        return False

    def erase(self, address: int) -> None:
        """Erase a page."""
        self._write(address, BLANK)

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program a page, or less of one, at a time."""
        for at in range(0, len(data), PAGE_SIZE):
            part = data[at : at + PAGE_SIZE]
            if self.read(address + at, len(part)) != BLANK[: len(part)]:
                raise ValueError("programmed twice")
            self._write(address + at, part)

    def _write(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        self._file.seek(address - FLASH_BASE)
        self._file.write(data)
        self._file.flush()


class Words:
    """``machine.mem32``: the boot report, and zeros."""

    def __init__(self, report: bytes) -> None:
        self._report = report

    def __getitem__(self, address: int) -> int:
        at = address - BOOT_REPORT_ADDRESS
        return int.from_bytes(self._report[at : at + 4], "little") if 0 <= at < len(self._report) else 0

    def __setitem__(self, address: int, value: int) -> None:
        pass


class PipedI2c:
    """``machine.I2C`` at the other end of the pipe."""

    def writeto(self, addr: int, buf: bytes) -> None:
        """Write ``buf``."""
        self._ask(f"w {addr} {bytes(buf).hex() if buf else ''}")  # b"".hex() would be b"" here

    def readfrom_into(self, addr: int, buf: bytearray) -> None:
        """Fill ``buf``."""
        buf[:] = self._ask(f"r {addr} {len(buf)}")

    def sleep_us(self, us: int) -> None:
        """Let time pass for the element."""
        self._ask(f"s {us}")

    def _ask(self, line: str) -> bytes:
        print(line)
        answer = sys.stdin.readline().strip()
        if answer == "nak":
            raise OSError(ENODEV)
        return bytes.fromhex(answer)


class Saying(Hooks):
    """Says what happens."""

    def log(self, line: str) -> None:
        """Say it."""
        print("agent", line)


def read(name: str) -> bytes:
    """Return a file of the folder."""
    with open(f"{sys.argv[1]}/{name}", "rb") as file:  # noqa: PTH123  MicroPython has no pathlib
        return file.read()


def open_socket(_host: str, port: int) -> "socket.socket":
    """Return a socket that is connected to this machine's loopback."""
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", port)[0][-1])
    poll.register(sock, select.POLLIN)
    return sock


def wait(ms: int) -> None:
    """Wait for the network."""
    poll.poll(ms)


def random_below(limit: int) -> int:
    """Return jitter: none."""
    return limit // 2


def run() -> None:
    """Step the agent until it resets the chip."""
    mem32 = Words(read("report"))
    flash = FileFlash(sys.argv[1] + "/flash", mem32)
    i2c = PipedI2c()
    board = Stm32Board(mem32, i2c, flash.read, i2c.sleep_us, time.ticks_ms, random_below, flash)
    board.longest_answer = LEAST_ANSWER  # as the chip's
    transport = transport_for(board, open_socket, wait, passed=lambda: agent.passed_time(), clock=time.time)
    agent = Agent(board, transport, Saying(), p256.verify)
    gc.collect()
    gc.threshold(16384)
    phase = ""
    while not agent.rebooting:
        if agent.engine.phase != phase:
            phase = agent.engine.phase
            gc.collect()
            print("phase", phase, gc.mem_alloc())
        wait(agent.step())


poll = select.poll()
run()
