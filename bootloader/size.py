"""Flash, RAM and worst-case stack of each port's bootloader, from its ELF: ``size.py OBJECT_DIR... REPORT``.

A port is named as its directory of object files.

Stack: the deepest path in the call graph of the linked code. Frames are GCC's (``-fstack-usage``), or for
assembly what its push and sub instructions add up to; an indirect call may reach every function whose
address is taken; an NMI may come on top of all.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

EXCEPTION_FRAME = 32 + 4  # eight words, and one to align
FLASH = {"stm32u5": 8192 + 0x6E0}  # with what its bootloader.ld has behind the settings
ROOT = "fota_reset"
NMI = "fota_flash_nmi"
# reached through pointers: the journal's flash and the jump from RAM
INDIRECT = ("read", "program", "erase", "enter")


def tool(*command: str) -> str:
    """Return what a command of the tool chain prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def frames(objects: Path) -> dict[str, int]:
    """Return bytes of stack of each C function, by name."""
    out = {}
    for path in objects.rglob("*.su"):
        for line in path.read_text().splitlines():
            place, size, kind = line.split("\t")
            if "dynamic" in kind:
                raise SystemExit(f"size: {place} has a frame of unknown size")
            out[place.rsplit(":", 1)[1]] = int(size)
    return out


def register_count(text: str) -> int:
    """Return how many registers ``r0-r2, r4, lr`` names."""
    count = 0
    for part in text.split(","):
        ends = re.findall(r"r(\d+)", part)
        count += int(ends[1]) - int(ends[0]) + 1 if len(ends) == 2 else 1
    return count


def disassemble(elf: Path) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Return (function -> functions it calls, function -> stack its push and sub instructions take)."""
    calls: dict[str, set[str]] = defaultdict(set)
    pushed: dict[str, int] = defaultdict(int)
    name = ""
    for line in tool("arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(elf)).splitlines():
        if match := re.match(r"[0-9a-f]{8} <(\S+)>:", line):
            name = match[1]
        elif re.search(r"\tbl?x\s+(?!lr)", line):
            calls[name].update(INDIRECT)
        elif match := re.search(r"\tb(?:l|\.w|\.n)?\s+[0-9a-f]+ <([^>+]+)>", line):
            calls[name].add(match[1])
        elif match := re.search(r"\t(?:push|stmdb\s+sp!,)\s*\{(.*)\}", line):
            pushed[name] += 4 * register_count(match[1])
        elif match := re.search(r"\tsub(?:\.w)?\s+sp, (?:sp, )?#(\d+)", line):
            pushed[name] += int(match[1])
    return calls, pushed


def deepest(elf: Path, objects: Path) -> tuple[int, list[str]]:
    """Return (bytes, call path) of the deepest path from reset, an NMI at its end included."""
    calls, pushed = disassemble(elf)
    known = frames(objects)

    @cache
    def depth(name: str) -> tuple[int, tuple[str, ...]]:
        below = [depth(callee) for callee in calls[name] - {name}]
        size, path = max(below, default=(0, ()))
        return known.get(name, pushed[name]) + size, (name, *path)

    size, path = depth(ROOT)
    return size + EXCEPTION_FRAME + known[NMI], list(path)


def measure(objects: Path) -> dict[str, int]:
    """Print and return the numbers of the port whose object files lie in ``objects``."""
    elf = objects / "bootloader.elf"
    sections = {}
    for line in tool("arm-none-eabi-size", "-A", str(elf)).splitlines():
        if match := re.match(r"(\.\w+)\s+(\d+)\s+\d+", line):
            sections[match[1]] = int(match[2])
    stack, path = deepest(elf, objects)
    numbers = {
        "flash_bytes": sections[".text"] + sections.get(".tail", 0) + sections[".data"],
        "ram_bytes": sections[".data"] + sections[".bss"],
        "stack_bytes": stack,
    }
    print(f"{objects.name}: flash {numbers['flash_bytes']} of {FLASH.get(objects.name, 8192)} bytes")
    print(f"{objects.name}: RAM   {numbers['ram_bytes']} of 400 bytes")
    print(f"{objects.name}: stack {stack} of 1024 bytes: {' > '.join(path)}, NMI")
    return numbers


def main() -> None:
    """Print the numbers of every port and write the report."""
    *ports, report = map(Path, sys.argv[1:])
    numbers = {objects.name: measure(objects) for objects in ports}
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main()
