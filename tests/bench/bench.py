"""make bench: what the project claims about speed, measured; writes build/reports/bench.json.

Instruction counts are exact (the virtual device counts). Times are medians over alternating runs of ours and
the rival, whole processes, on whatever machine this is. An exact figure over its budget ends this with 1; a
time over its budget is said, and may be the machine's doing.

Each part is printed when it is measured, and keeps no other from being measured. What could not be had is
named at the end with its reason: something this machine lacks, which is no error, or a failure, which ends
this with 1.
"""

import json
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench_agent
import bench_chip
import bench_esp32c3
import bench_rehearsal
import lifeline
from missing import Missing

from fota_cli.rehearsal import flash_hex
from fota_signer.examples import example_files, example_key
from fota_signer.factory.ca import make_ca
from fota_signer.factory.flash import Firmware, bootloader_image, factory_hex
from fota_signer.factory.i2c import I2cTransport
from fota_signer.factory.line import Job, provision_chip
from fota_signer.firmware import load_firmware
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_payload
from fota_vdev.atecc608.chip import Atecc608
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.places import places
from fota_vdev.view import journal_pages
from fota_wire import journal, layout
from fota_wire.host_chips import DEFAULT, STM32, Chip, Stm32, stm32
from fota_wire.host_crypto import public_xy

REPO = Path(__file__).resolve().parents[2]
BUILD = REPO / "build"
VENDOR_ID, CLASS_ID = uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes
A, B = layout.SLOT_A, layout.SLOT_B
RUNS = 15
Rows = list[tuple[str, float, float | None]]
BUDGETS = {
    "boot_instructions_256k": 10_000_000,
    "sha256_instructions_per_byte": 36,
    "update_page_erases": 2,
    "update_double_words": 16,
    "sign_512k_ms": 80,
    "sign_list_each_ms": 1,
}
U5_BUDGETS = {
    "stm32u5.boot_instructions_256k": 10_000_000,
    "stm32u5.update_page_erases": 2,
    "stm32u5.update_double_words": 16,
}


def image(version: str, payload_size: int, chip: Stm32) -> bytes:
    """Return a signed sample application whose payload has exactly ``payload_size`` bytes."""
    make = ["make", "-s", "-C", str(REPO / "bootloader"), f"PORT={chip.PORT}", "sample", f"VERSION={version}"]
    subprocess.run(make, check=True, capture_output=True)
    folder = BUILD / "sample" / ("" if chip.NAME == DEFAULT else chip.PORT)
    payload = load_firmware((folder / f"app-{version}.elf").read_bytes(), version, chip=chip)
    payload += secrets.token_bytes(payload_size - len(payload))
    return sign_payload(
        payload,
        key=example_key("image-a"),
        version=tuple(map(int, (version + ".0").split("."))),  # type: ignore[arg-type]
        sec_cnt=1,
        device_class=DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID),
        chip=chip,
    )


def factory(
    first: bytes, folder: Path, chip: Chip, loader: Path | None = None, table: bytes = b""
) -> Machine:
    """Return a machine with ``first`` in slot A as the factory's steps and its HEX leave it, switched off.

    ``loader`` is a bootloader that is flashed as it is, ``table`` the partition table of an ESP32.
    """
    make = ["make", "-s", "-C", str(REPO / "bootloader"), f"PORT={chip.PORT}", "bootloader"]
    subprocess.run(make, check=True, capture_output=True)
    machine = Machine(element=Atecc608(), chip=MODELS[chip.NAME])
    machine.power_on()
    roots = public_xy(example_key("image-a")), public_xy(example_key("image-b"))
    job = Job(root_a_xy=roots[0], root_b_xy=roots[1], ca=make_ca("bench", 2), work=folder)
    report = provision_chip(I2cTransport(machine.i2c, machine.sleep_us), job)
    machine.power_off()
    elf = BUILD / f"bootloader/{chip.PORT}/bootloader.elf"
    firmware = Firmware(
        chip=chip,
        bootloader=loader.read_bytes() if loader else bootloader_image(elf.read_bytes(), elf.name, chip),
        image=first,
        class_id=CLASS_ID,
        vendor_id=VENDOR_ID,
        root_a_xy=roots[0],
        root_b_xy=roots[1],
        genesis_root=b"\xa0",
        server_ca_der=b"",
        server_url="https://localhost",
        table=table,
    )
    flash_hex(machine, factory_hex(firmware, report.record), "the HEX")
    return machine


def in_application(machine: Machine) -> bool:
    """Tell whether the bootloader has handed over."""
    return machine.application_runs and bool(machine.mem32[machine.chip.row.BOOT_REPORT_ADDRESS])


def boot_instructions(machine: Machine) -> int:
    """Reset; return the exact number of instructions until the application runs."""
    machine.reset("pin")
    start = machine.snapshot()
    low, high = 0, machine.run(until=in_application, time_ms=20_000).instructions
    while high - low > 1:
        middle = (low + high) // 2
        machine.restore(start)
        machine.run(max_instructions=middle)
        low, high = (low, middle) if machine.application_runs else (middle, high)
    machine.restore(start)
    machine.run(until=in_application, time_ms=20_000)
    return high


def append(machine: Machine, record: journal.Record | None, page: int, cell: int) -> None:
    """Write a journal record as a factory programmer would: it does not count."""
    if record is not None:
        row = stm32(machine.chip.row.NAME)
        at = row.JOURNAL_OFFSET + page * row.JOURNAL_STRIDE + cell * journal.RECORD_SIZE
        machine.flash.write_phys(row.JOURNAL_BANK, at, journal.pack(record))


def scan(machine: Machine) -> Any:
    """Return (state, page, next cell) of the journal."""
    return journal.scan(*journal_pages(machine, places(machine)))


def flash_work(machine: Machine) -> tuple[int, int]:
    """Return (page erases, double words or quad-words) of the whole device so far."""
    counters = machine.flash.counters
    return sum(counters.erases.values()), sum(counters.double_words.values())


def bootloader(chip: Stm32) -> dict[str, float]:
    """Instructions of a boot, of the hash, and the flash work of one whole update."""
    with tempfile.TemporaryDirectory() as name:
        machine = factory(image("1.0.0", 128 << 10, chip), Path(name), chip)
    machine.power_on()
    machine.run(until=in_application, time_ms=20_000)
    small = boot_instructions(machine)
    new = image("1.1.0", 256 << 10, chip)
    machine.flash.write_phys(2, chip.SLOT_OFFSET, new)
    record, page, cell = scan(machine)
    append(machine, journal.request(record, A, B), page, cell)
    before = flash_work(machine)
    machine.reset("pin")
    machine.run(until=in_application, time_ms=20_000)  # trial
    record, page, cell = scan(machine)
    append(machine, journal.confirm(record, B), page, cell)
    machine.reset("pin")
    machine.run(until=in_application, time_ms=20_000)  # confirmed
    after = flash_work(machine)
    large = boot_instructions(machine)
    return {
        "boot_instructions_256k": large,
        "sha256_instructions_per_byte": round((large - small) / (128 << 10), 2),
        "update_page_erases": after[0] - before[0],
        "update_double_words": after[1] - before[1],
    }


def bootloader_u5() -> dict[str, float]:
    """The same on the STM32U585, under its port's name; what is programmed at once there is a quad-word."""
    return {f"stm32u5.{what}": value for what, value in bootloader(STM32["stm32u585"]).items()}


def bootloader_c3() -> dict[str, float]:
    """The ESP32-C3's, with the SHA engine and without."""
    return bench_esp32c3.measure(factory, DeviceClass(vendor_id=VENDOR_ID, class_id=CLASS_ID))


def signing() -> dict[str, float]:
    """Whole processes, alternating: `fota sign` and `imgtool sign` on what fills a slot of a 512 KiB bank."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = folder / "image-a.pem"
        key.write_bytes(example_files()["image-a.pem"])
        raw = folder / "app.bin"
        # A slot holds 496 KiB: the largest payload that we would sign, the same for both. Behind the sample
        # is noise that is no pointer: who signs a raw binary looks for the address that it is linked for.
        sample = load_firmware((BUILD / "sample/app-1.0.0.elf").read_bytes(), "sample")
        noise = bytearray(secrets.token_bytes(STM32[DEFAULT].SLOT_SIZE - 2048 - len(sample)))
        noise[3::4] = bytes(byte | 0x10 for byte in noise[3::4])
        raw.write_bytes(sample + noise)
        out = str(folder / "out.img")
        bin_dir = Path(sys.executable).parent
        ours = [str(bin_dir / "fota"), "sign", str(raw), "-o", out, "--key", str(key), "--version", "1.0.0",
                "--security-counter", "1", "--vendor-domain", "fota.example", "--model", "bench", "--force",
                "--allow-example-keys"]  # fmt: skip
        theirs = [str(bin_dir / "imgtool"), "sign", "--key", str(key), "--header-size", "0x200",
                  "--pad-header", "--slot-size", "0x100000", "--version", "1.0.0", "--security-counter", "1",
                  "--align", "8",
                  str(raw), out]  # fmt: skip
        # Both as pip installs them: with compiled bytecode.
        for package in ("wire", "signer", "cli"):
            subprocess.run([sys.executable, "-m", "compileall", "-q", str(REPO / package)], check=True)
        times: dict[str, list[float]] = {"sign_512k_ms": [], "imgtool_sign_512k_ms": []}
        for _ in range(RUNS):
            for label, command in (("sign_512k_ms", ours), ("imgtool_sign_512k_ms", theirs)):
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                times[label].append((time.perf_counter() - started) * 1000)
        medians = {label: round(statistics.median(values), 1) for label, values in times.items()}
        return medians | {"sign_list_each_ms": round(_listed(folder, ours), 2)}


def _listed(folder: Path, single: list[str]) -> float:
    """Return the processor time of an image of a list, ms: of 101 in one call, without what one costs."""
    elf = BUILD / "sample/app-1.0.0.elf"
    words = "--version 1.0.0 --security-counter 1 --vendor-domain fota.example --model bench"
    spent = []
    for count in (1, 101) * 3:
        lines = [f"{elf} -o {folder}/{count}-{number}.img {words}\n" for number in range(count)]
        (folder / "images.txt").write_text("".join(lines))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [single[0], "sign-list", str(folder / "images.txt"), "--key", str(folder / "image-a.pem")]
        subprocess.run([*command, "--force", "--allow-example-keys"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (statistics.median(spent[1::2]) - statistics.median(spent[::2])) * 1000 / 100


def is_wall_clock(what: str) -> bool:
    """Tell whether the figure depends on what else the machine does; budgets of these are for an idle one."""
    return what.endswith("_ms")


def judged(rows: Rows) -> bool:
    """Print rows of the table; tell whether every exact figure is within its budget."""
    exact_are_good = True
    for what, value, budget in rows:
        over = budget is not None and value > budget
        verdict = "" if not over else "   over (idle machine?)" if is_wall_clock(what) else "   over"
        exact_are_good = exact_are_good and (not over or is_wall_clock(what))
        print(f"{what:36}{value:>14,}{budget if budget is not None else '-':>14}{verdict}", flush=True)
    return exact_are_good


PARTS: dict[str, tuple[Callable[[], dict[str, float]], dict[str, float]]] = {
    "bootloader": (lambda: bootloader(STM32[DEFAULT]), BUDGETS),
    "bootloader, STM32U5": (bootloader_u5, U5_BUDGETS),
    "bootloader, ESP32-C3": (bootloader_c3, bench_esp32c3.BUDGETS),
    "signing": (signing, BUDGETS),
    "rehearsal": (bench_rehearsal.measure, bench_rehearsal.BUDGETS),
    "agent on a gateway": (bench_agent.measure, bench_agent.BUDGETS),
    "agent on the chip": (bench_chip.measure, bench_chip.BUDGETS),
    "agent on the STM32U585": (partial(bench_chip.measure_other, bench_chip.U5), bench_chip.OTHER_BUDGETS),
    "agent on the ESP32-C3": (partial(bench_chip.measure_other, bench_chip.C3), bench_chip.OTHER_BUDGETS),
    "agent's heap": (bench_chip.measure_heap, bench_chip.BUDGETS),
}


def measured(parts: dict[str, Any]) -> tuple[dict[str, dict[str, float]], dict[str, str], bool]:
    """Measure and print part after part; return figures and reasons by part, and whether all went well."""
    print(f"{'what':36}{'measured':>14}{'budget':>14}")
    figures, reasons, good = {}, {}, True
    for number, (name, (measure, budgets)) in enumerate(parts.items(), 1):
        print(f"[{number}/{len(parts)}] {name}", flush=True)
        try:
            figures[name] = measure()
        except Missing as exc:
            reasons[name] = str(exc)
            continue
        except Exception as exc:  # whatever it was, the other figures can be had
            reasons[name] = f"failed: {type(exc).__name__}: {exc}"
            good = False
            continue
        good = judged([(what, value, budgets.get(what)) for what, value in figures[name].items()]) and good
    for name, reason in reasons.items():
        print(f"could not be had: {name}: {reason}")
    return figures, reasons, good


def main() -> int:
    """Measure, print, write the report; return 1 if an exact figure is over its budget or a part failed."""
    lifeline.hold()
    figures, reasons, good = measured(PARTS)
    print("budgets in ms are for an idle machine")
    results: dict[str, Any] = {"agent": {}, "could_not_be_had": reasons}
    for name, values in figures.items():
        for what, value in values.items():
            port, dot, figure = what.partition(".")
            home = results["agent"] if name.startswith("agent") else results
            (home.setdefault(port, {}) if dot else home)[figure if dot else what] = value
    report = BUILD / "reports" / "bench.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {report.relative_to(REPO)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
