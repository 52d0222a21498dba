"""The agent on the chip: text, RAM, heap, stack, instructions of a TLS 1.3 handshake and of a 256 KiB
download; the heap of a whole update. Of other chips than the default under their names.

Real server, real TLS, the key in the modelled element; the chip counts instructions exactly. ``bench.py``
puts this under ``agent``; where MicroPython's sources cannot be had it says so and leaves it out.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

import chip_world
import unix_agent
from missing import Missing

from fota_wire.host_chips import DEFAULT

BUDGETS = {
    "chip_text_bytes": 207 * 1024,
    "chip_ram_bytes": 96 * 1024,
    "chip_stack_bytes": 7 * 1024,
    "chip_handshake_instructions": 70_000_000,
    "chip_download_256k_instructions": 90_000_000,
    "unix_heap_bytes": 64 * 1024,
}
HEAP_STEP = 4 * 1024
HEAP_RUNS = 5  # how the heap is broken up differs from run to run
IMAGE = 256 * 1024
U5, C3 = "stm32u585", "esp32c3"
OTHER_BUDGETS = {
    f"{U5}.chip_handshake_instructions": 72_000_000,
    f"{U5}.chip_download_256k_instructions": 76_000_000,
    f"{U5}.chip_stack_bytes": 8 * 1024,
    f"{C3}.chip_handshake_instructions": 90_000_000,
    f"{C3}.chip_download_256k_instructions": 280_000_000,
    f"{C3}.chip_stack_bytes": 8 * 1024,
}
TOOLS = {DEFAULT: "arm-none-eabi-", U5: "arm-none-eabi-", C3: "riscv64-unknown-elf-"}
IN_FLASH = {
    DEFAULT: (".text", ".data"),
    U5: (".text", ".data"),
    C3: (".flash.appdesc", ".flash.text", ".iram", ".dram"),
}
IN_RAM = {DEFAULT: (".data", ".bss"), U5: (".data", ".bss"), C3: (".iram", ".dram", ".bss")}


def sizes(elf: Path, name: str) -> dict[str, int]:
    """Return flash of the image, all RAM that it takes (variables, heap and stack), and of it the heap."""
    tool = [f"{TOOLS[name]}size", "-A", "-d", str(elf)]
    out = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    rows = {row[0]: int(row[1]) for row in map(str.split, out.splitlines()) if row and row[0][0] == "."}
    ends = chip_world.Machine.symbols(elf)
    heap = ends["linker_heap_end"] - ends["linker_heap_start"]
    return {
        "chip_text_bytes": sum(rows[part] for part in IN_FLASH[name]),
        "chip_ram_bytes": sum(rows[part] for part in IN_RAM[name]) + heap + ends["linker_stack_size"],
        "chip_heap_bytes": heap,
    }


def padded(elf: Path, folder: Path, size: int) -> Path:
    """Return the STM32's firmware as a binary whose signed image has ``size`` bytes."""
    out = folder / "padded.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(out)], check=True)
    tail = 0x200 + 230  # header, and the TLV areas of our images, rounded up
    out.write_bytes(out.read_bytes().ljust(size - tail, b"\xa5"))
    return out


def measure_other(name: str) -> dict[str, int]:
    """Return another chip's, under its name."""
    return {f"{name}.{what}": value for what, value in measure(name).items()}


def measure(name: str = DEFAULT) -> dict[str, int]:
    """Return all values of a chip but the heap that an update takes.

    Raises:
        Missing: there is no firmware.
    """
    if chip_world.why_not():
        raise Missing(chip_world.why_not())
    elf = chip_world.firmware("1.0.0", name)
    with tempfile.TemporaryDirectory() as folder:
        world = chip_world.ChipWorld(Path(folder), name)
        try:
            world.make_keys()
            world.start_server()
            world.provision(world.sign("1.0.0", 2, elf=elf))
            world.release_chip("1.0.0", 1)
            world.switch_on()
            world.paint_stack()
            handshake = measure_handshake(world)
            download = measure_download(world, elf)
            stack = world.stack_used()
            world.switch_off()
        finally:
            world.stop()
    return {
        **sizes(elf, name),
        "chip_stack_bytes": stack,
        "chip_handshake_instructions": handshake,
        "chip_download_256k_instructions": download,
    }


def measure_heap() -> dict[str, int]:
    """Return the smallest heap, by steps of 4 KiB, where this machine's MicroPython does a whole update.

    Raises:
        Missing: there is no such MicroPython.
    """
    if unix_agent.why_not():
        raise Missing(unix_agent.why_not())
    elf = chip_world.firmware("1.0.0")
    with tempfile.TemporaryDirectory() as folder:
        world = chip_world.ChipWorld(Path(folder, "world"))
        try:
            world.make_keys()
            world.start_server()
            world.provision(world.sign("1.0.0", 2, elf=elf))
            world.release_chip("1.0.0", 1)
            world.release_chip("1.1.0", 2)
            world.fota("device", "admit", world.device_id)
            world.fota("rollout", "start", "1.1.0", "--device", world.device_id)
            world.switch_on()
            agent = unix_agent.UnixAgent(world, Path(folder))
            heap = BUDGETS["unix_heap_bytes"]
            while all(agent.update(heap)[0] for _ in range(HEAP_RUNS)):
                heap -= HEAP_STEP
            world.switch_off()
        finally:
            world.stop()
    return {"unix_heap_bytes": heap + HEAP_STEP}


def measure_handshake(world: chip_world.ChipWorld) -> int:
    """From the connection to the first request on it: an upper bound, the request's encryption included."""
    world.run_chip("settled")
    events = world.net.events
    flights = [n for n, event in enumerate(events) if event[0] == "receive" and n > 2]
    return events[flights[0] - 1][1] - events[0][1]


def measure_download(world: chip_world.ChipWorld, elf: Path) -> int:
    """From the erase of the slot to the good digest of what was written: TLS, flash, and the hash of it."""
    app = padded(elf, world.folder, IMAGE) if world.row.NAME != C3 else elf  # as large as that by itself
    image = world.release_chip("1.4.0", 2, app=app)
    size = image.stat().st_size
    world.fota("rollout", "start", "1.4.0", "--device", world.device_id)
    world.run_chip(": erase\r\n")
    start = world.machine.instructions
    world.run_chip(": inspect\r\n")
    return (world.machine.instructions - start) * IMAGE // size


if __name__ == "__main__":
    for name, value in (measure() | measure_other(U5) | measure_other(C3) | measure_heap()).items():
        print(f"{name:42}{value:>14,}{(BUDGETS | OTHER_BUDGETS).get(name, 0):>14,}")
