"""The core's own Xtensa code in Debian's QEMU, led by its debugger: functions are called, and what a chip
would give them is served from here, by breakpoints on the functions of ``port/esp32/outside.c``.

QEMU's core is the LX106, whose instructions the ESP32's LX6 has all; its RAM is where the ELF is linked.
"""

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

PC, REGISTERS = 16, 17  # of QEMU's LX106: a0..a15, pc
RETURN = 0x4007FFF0  # nothing is there
EXCEPTIONS = {0x40000000 + at: name for at, name in ((0x20, "NMI"), (0x30, "kernel"), (0x50, "user"))}
EXCEPTIONS[0x40000070] = "double"
HEAP = 0x60000000  # RAM that is QEMU's alone
LONGEST_READ = 0x700  # bytes in one packet


class Debugger:
    """GDB's remote protocol, as much of it as is needed, over the pipes of a QEMU."""

    def __init__(self, elf: Path) -> None:
        command = ["qemu-system-xtensa", "-M", "sim", "-cpu", "lx106", "-display", "none", "-monitor", "none"]
        command += ["-serial", "none", "-S", "-gdb", "stdio", "-kernel", str(elf)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._seen = b""

    def ask(self, text: str) -> str:
        """Send a packet and return the answer; raises EOFError when QEMU has ended."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"$%s#%02x" % (text.encode(), sum(text.encode()) % 256))
        while True:
            start = self._seen.find(b"$")
            end = self._seen.find(b"#", start)
            if 0 <= start < end and len(self._seen) >= end + 3:
                answer = self._seen[start + 1 : end].decode()
                self._seen = self._seen[end + 3 :]
                stdin.write(b"+")
                return answer
            more = stdout.read(65536)
            if not more:
                raise EOFError("qemu-system-xtensa has ended")
            self._seen += more

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


class Trap(Exception):
    """The code came to an exception, or where nobody serves."""


class Xtensa:
    """A core in QEMU. ``serve[name]`` is called with a2..a7 in place of that function: its result."""

    def __init__(self, elf: Path) -> None:
        self.debugger = Debugger(elf)
        listed = subprocess.run(["xtensa-lx106-elf-nm", str(elf)], check=True, capture_output=True, text=True)
        rows = [line.split() for line in listed.stdout.splitlines()]
        self.symbols = {name: int(address, 16) for address, _, name in rows}
        self.serve: dict[str, Callable[..., int | None]] = {}
        self._outside = {
            int(address, 16): name
            for address, kind, name in rows
            if kind == "T" and name.startswith(("fota_port_", "outside_"))
        }
        for address in (RETURN, *EXCEPTIONS, *self._outside):
            assert self.debugger.ask(f"Z0,{address:x},2") == "OK"
        self._rest = self.debugger.ask("g")[8 * REGISTERS :]
        self._heap = HEAP
        self.registers = [0] * REGISTERS  # as they were at the last stop

    def close(self) -> None:
        self.debugger.close()

    def read(self, address: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            size = min(LONGEST_READ, length - len(data))
            data += bytes.fromhex(self.debugger.ask(f"m{address + len(data):x},{size:x}"))
        return data

    def write(self, address: int | str, data: bytes) -> None:
        at = self.symbols[address] if isinstance(address, str) else address
        for start in range(0, len(data), LONGEST_READ):
            part = data[start : start + LONGEST_READ]
            assert self.debugger.ask(f"M{at + start:x},{len(part):x}:{part.hex()}") == "OK"

    def place(self, data: bytes) -> int:
        """Put bytes into RAM of their own, until the next call has returned; returns their address."""
        address, self._heap = self._heap, self._heap + -(-len(data) // 16) * 16 + 16
        self.write(address, data)
        return address

    def call(self, name: str, *arguments: int | bytes) -> int:
        """Call a function (bytes are placed first) and return its result.

        Raises Trap: an exception, or a function that nobody serves.
        """
        words = [self.place(a) if isinstance(a, bytes) else a for a in arguments]
        registers = [0] * REGISTERS
        registers[0], registers[1], registers[PC] = (
            RETURN,
            self.symbols["fota_stack_top"] - 16,
            self.symbols[name],
        )
        registers[2 : 2 + len(words)] = words
        while True:
            self.debugger.ask("G" + struct.pack(f"<{REGISTERS}I", *registers).hex() + self._rest)
            self.debugger.ask("c")
            registers = list(struct.unpack_from(f"<{REGISTERS}I", bytes.fromhex(self.debugger.ask("g"))))
            if registers[PC] == RETURN:
                self._heap = HEAP
                return registers[2]
            self.registers = registers
            where = self._outside.get(registers[PC], "")
            if where not in self.serve:
                at = EXCEPTIONS.get(registers[PC], hex(registers[PC]))
                raise Trap(f"{name}: {where or at + ' exception'}, called from {registers[0]:#x}")
            answer = self.serve[where](*registers[2:8])
            registers[2] = registers[2] if answer is None else answer & 0xFFFFFFFF
            registers[PC] = registers[0]
