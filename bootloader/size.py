"""Flash, RAM and worst-case stack of each port's bootloader, from its ELF: ``size.py OBJECT_DIR... REPORT``.

A port is named as its directory of object files. Where recovery may be built in, its room and the stack of
that build too.

Stack: the deepest path in the call graph of the linked code. Frames are GCC's (``-fstack-usage``), or for
assembly what its push and sub instructions add up to; an indirect call may reach every function whose
address is taken; an NMI, or what a mask ROM takes for its own, may come on top of all.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

EXCEPTION_FRAME = 32 + 4  # eight words, and one to align
ROM_STACK = 256  # the ESP32-C3's flash and cache functions, which run on our stack
ROOT = "fota_reset"
NMI = "fota_flash_nmi"
# reached through pointers: the journal's flash and the jump from RAM
INDIRECT = ("read", "program", "erase", "enter")


@dataclass(frozen=True, slots=True)
class Port:
    """How to read a port's ELF, and its budgets in bytes."""

    tools: str = "arm-none-eabi-"
    flash: int = 8192
    ram: int = 400
    stack: int = 1024
    recovery: int = 0xF00  # behind what is left of the trust store; 0 = the port has none
    call: str = r"\tb(?:l|\.w|\.n)?\s+[0-9a-f]+ <([^>+]+)>"
    indirect: str = r"\tbl?x\s+(?!lr)"
    text_in_ram: bool = False


ARM = Port()
PORTS = {
    "stm32u5": replace(ARM, flash=8192 + 0x6E0),  # with what its bootloader.ld has behind the settings
    "esp32c3": Port(
        tools="riscv64-unknown-elf-",
        flash=0x7000,
        ram=16384,  # code, data and stack
        stack=1280,
        recovery=0,
        call=r"\t(?:jal|j)\s+(?:\w+,)?[0-9a-f]+ <([^>+]+)>",
        indirect=r"\tj(?:al)?r\s+(?:-?\d+\()?(?!ra|t0|t1)\w",  # through those: returns, and the mask ROM
        text_in_ram=True,
    ),
}


def tool(*command: str) -> str:
    """Return what a command of the tool chain prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def frames(objects: Path) -> dict[str, int]:
    """Return bytes of stack of each C function, by name."""
    out: dict[str, int] = {}
    for path in objects.rglob("*.su"):
        for line in path.read_text().splitlines():
            place, size, kind = line.split("\t")
            if "dynamic" in kind:
                raise SystemExit(f"size: {place} has a frame of unknown size")
            name = place.rsplit(":", 1)[1]
            out[name] = max(out.get(name, 0), int(size))  # names of static functions may be there twice
    return out


def register_count(text: str) -> int:
    """Return how many registers ``r0-r2, r4, lr`` names."""
    count = 0
    for part in text.split(","):
        ends = re.findall(r"r(\d+)", part)
        count += int(ends[1]) - int(ends[0]) + 1 if len(ends) == 2 else 1
    return count


def disassemble(elf: Path, port: Port) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Return (function -> functions it calls, function -> stack its push and sub instructions take)."""
    calls: dict[str, set[str]] = defaultdict(set)
    pushed: dict[str, int] = defaultdict(int)
    name = ""
    for line in tool(port.tools + "objdump", "-d", "--no-show-raw-insn", str(elf)).splitlines():
        if match := re.match(r"[0-9a-f]{8} <(\S+)>:", line):
            name = match[1]
        elif re.search(port.indirect, line):
            calls[name].update(INDIRECT)
        elif match := re.search(port.call, line):
            calls[name].add(match[1])
        elif match := re.search(r"\t(?:push|stmdb\s+sp!,)\s*\{(.*)\}", line):
            pushed[name] += 4 * register_count(match[1])
        elif match := re.search(r"\tsub(?:\.w)?\s+sp, (?:sp, )?#(\d+)", line):
            pushed[name] += int(match[1])
    return calls, pushed


def deepest(elf: Path, objects: Path, port: Port) -> tuple[int, list[str]]:
    """Return (bytes, call path) of the deepest path from reset, with what may come on top of it."""
    calls, pushed = disassemble(elf, port)
    known = frames(objects)

    @cache
    def depth(name: str) -> tuple[int, tuple[str, ...]]:
        below = [depth(callee) for callee in calls[name] - {name}]
        size, path = max(below, default=(0, ()))
        return known.get(name, pushed[name]) + size, (name, *path)

    size, path = depth(ROOT)
    if NMI in known:
        return size + EXCEPTION_FRAME + known[NMI], [*path, "NMI"]
    return size + ROM_STACK, [*path, "ROM"]


def measure(objects: Path) -> dict[str, int]:
    """Print and return the numbers of the port whose object files lie in ``objects``."""
    elf = objects / "bootloader.elf"
    port = PORTS.get(objects.name, ARM)
    sections = sections_of(elf, port)
    stack, path = deepest(elf, objects, port)
    code = sections[".text"] + sections[".tail"]
    ram = sections[".data"] + sections[".bss"]
    loaded = objects / "bootloader.bin"
    numbers = {
        "flash_bytes": loaded.stat().st_size if port.text_in_ram else code + sections[".data"],
        "ram_bytes": ram + code + sections[".stack"] if port.text_in_ram else ram,
        "stack_bytes": stack,
    }
    print(f"{objects.name}: flash {numbers['flash_bytes']} of {port.flash} bytes")
    print(f"{objects.name}: RAM   {numbers['ram_bytes']} of {port.ram} bytes")
    print(f"{objects.name}: stack {stack} of {port.stack} bytes: {' > '.join(path[:-1])}, {path[-1]}")
    return numbers | (measure_recovery(objects, port) if port.recovery else {})


def sections_of(elf: Path, port: Port) -> dict[str, int]:
    """Return bytes of each section that lies in memory."""
    sections: dict[str, int] = defaultdict(int)
    for line in tool(port.tools + "size", "-A", str(elf)).splitlines():
        if match := re.match(r"(\.\w+)\s+(\d+)\s+\d+", line):
            sections[match[1]] = int(match[2])
    return sections


def measure_recovery(objects: Path, port: Port) -> dict[str, int]:
    """Print and return what recovery adds in the build that has it, and the stack of that build."""
    elf = objects / "bootloader-recovery.elf"
    flash = sections_of(elf, port)[".recovery"]
    stack, path = deepest(elf, objects, port)
    print(f"{objects.name}: recovery {flash} of {port.recovery} bytes")
    print(
        f"{objects.name}: with it, stack {stack} of {port.stack} bytes: {' > '.join(path[:-1])}, {path[-1]}"
    )
    return {"recovery_bytes": flash, "recovery_stack_bytes": stack}


def main() -> None:
    """Print the numbers of every port and write the report."""
    *ports, report = map(Path, sys.argv[1:])
    numbers = {objects.name: measure(objects) for objects in ports}
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main()
