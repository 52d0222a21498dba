"""The device under test: bootloaders built by GCC, by clang, or with a seeded bug; tiny images; a provisioned
machine whose secrets are constants, so that every case repeats."""

import fcntl
import hashlib
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import campaign_esp32c3
from chip_host import ChipHost
from emulated_factory import provision_element

from fota_signer.esp_firmware import load_application
from fota_signer.examples import example_key
from fota_signer.factory.flash import layout_words
from fota_signer.firmware import load_firmware
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_application
from fota_vdev import view
from fota_vdev.atecc608.chip import Atecc608
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.parts.elf import segments
from fota_vdev.places import Places, places
from fota_wire import host_chips, host_crypto, image, journal
from fota_wire.cose import key_hash
from fota_wire.host_chips import Chip, Stm32
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE
from fota_wire.settings import NO_PLACES, Settings, TrustStore, pack, pack_trust_store

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/campaign"
CLASS_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
A, B, NONE = SLOT_A, SLOT_B, SLOT_NONE
BANK = {A: 1, B: 2}
IO_KEY, MAC_KEY = (hashlib.sha256(label).digest() for label in (b"campaign io", b"campaign mac"))
APP_ENTRY = 0x0800_4240
U5, C3 = "stm32u585-", "esp32c3-"  # begin the names of builds for these chips
_built = False
# seeded bugs: (file, what stands there, what stands there instead)
MUTANTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    # hardening of the floor removed: verdicts are branched on, not added up, and not looked at again
    "branch-only": (
        ("core/hardened.h", "(proof) += status_;", "(proof) += FOTA_OK;"),
        ("core/boot.c", "check_key(b) + check_floor(b) +", "check_key(b) + FOTA_OK +"),
    ),
    # the active page is erased before its successor holds the record, instead of the other one
    "journal-order": (
        ("core/journal.c", "flash->page_size - journal->active;", "journal->active;"),
    ),
    # the answer of the element is believed without its MAC
    "mac-unchecked": (
        (
            "crypto_element/atecc608.c",
            "return fota_verdict_or(fota_compare(expected, evidence->mac, 32), FOTA_ELEMENT_FORGED);",
            "return fota_verdict_or(fota_compare(expected, expected, 32), FOTA_ELEMENT_FORGED);",
        ),
    ),
    # the ESP32-C3's: the stock loader's order, where the application's message is taken away first
    "message-first": (
        (
            "port/esp32c3/messages.c",
            "  fota_journal_open_itself(journal, flash);\n",
            "  read_otadata();\n  (void)!fota_spi_erase(fota_otadata_place + PAGE_SIZE);\n"
            "  fota_journal_open_itself(journal, flash);\n",
        ),
        (
            "port/esp32c3/messages.c",
            "  read_otadata();\n  if (!fota_otadata_join",
            "  if (!fota_otadata_join",
        ),
    ),
    # the image is mapped from where its slot should be, whatever the window showed that was hashed
    "window-believed": (
        (
            "port/esp32c3/jump.c",
            "const uint32_t slot = shown_by(((uintptr_t)base - DROM_START) / MMU_PAGE);",
            "const uint32_t slot = fota_places.slot[base == fota_layout.slot[1]];",
        ),
    ),
    # the ROM is told to write where a register says, which one skipped instruction leaves as it was
    "write-anywhere": (
        (
            "port/esp32c3/journal_flash.c",
            "failed = rom_write(address, data, length);",
            "failed = esp_rom_spiflash_write(address, data, (int32_t)length);",
        ),
        ("port/esp32c3/journal_flash.c", "INLINE int32_t rom_write(",
         "__attribute__((unused)) INLINE int32_t rom_write("),
    ),
}  # fmt: skip


class BuildError(Exception):
    """The compiler refused, or is not there."""


def chip_of(name: str) -> Chip:
    """The chip that a build is for."""
    return host_chips.chip(next((p[:-1] for p in (U5, C3) if name.startswith(p)), host_chips.DEFAULT))


def kind_of(name: str) -> str:
    """What a build is without its chip: "gcc", "clang" or the name of a mutant."""
    return name.removeprefix(U5).removeprefix(C3)


def build(name: str, sources: Path | None = None, extra: tuple[str, ...] = ()) -> Path:
    """Build one bootloader into its own directory; return the ELF."""
    out = BUILD / name
    out.mkdir(parents=True, exist_ok=True)
    port = f"PORT={chip_of(name).PORT}"
    make([str(sources or ROOT / "bootloader"), f"BUILD={out}", port, *extra, "bootloader"])
    return elf_of(name)


def elf_of(name: str) -> Path:
    """Where `build` leaves its ELF."""
    compiler = "-clang" if kind_of(name) == "clang" else ""
    return BUILD / name / f"bootloader/{chip_of(name).PORT}{compiler}/bootloader.elf"


def make(arguments: list[str]) -> None:
    """Run make in a directory, one at a time."""
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(["make", "-C", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"make {' '.join(arguments)}: {result.stdout[-1500:]}{result.stderr[-3000:]}")


def has_clang() -> bool:
    return shutil.which("clang") is not None


def use_built() -> None:
    """From now on take what another process has built."""
    global _built
    _built = True


@cache
def bootloader(name: str) -> Path:
    """ "gcc", "clang", or "<mutant>" of `MUTANTS`; behind `U5` and `C3` those of the other chips."""
    if _built and elf_of(name).exists():
        return elf_of(name)
    if kind_of(name) == "gcc":
        return build(name)
    if kind_of(name) == "clang":
        return build(name, extra=("COMPILER=clang",))
    sources = copy_sources(name)
    for file, old, new in MUTANTS[kind_of(name)]:
        replace(sources / file, old, new)
    return build(name, sources)


def copy_sources(name: str) -> Path:
    """Return a copy of the bootloader's sources, to be changed."""
    copy = BUILD / name / "bootloader-sources"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "bootloader", copy)
    return copy


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if text.count(old) != 1:
        raise BuildError(f"{path}: '{old}' does not stand there exactly once")
    path.write_text(text.replace(old, new))


# --- images ---


def key(name: str) -> Any:
    return {"a": example_key("image-a"), "b": example_key("image-b"), "thief": example_key("assign")}[name]


def payload(version: int) -> bytes:
    """Vector table and `wfi; b .-2`: the smallest application. ``version`` makes them differ."""
    vectors = struct.pack("<2I", 0x2001_7F00, APP_ENTRY | 1) + bytes(14 * 4)
    return vectors + b"\x30\xbf\xfd\xe7" + version.to_bytes(4, "little") * 2


@cache
def sample_image(version: str, *, fail: bool, chip: str) -> bytes:
    """The sample application (bootloader/sample, with the C client), signed; security counter 2."""
    name = f"app-{version}{'-fail' if fail else ''}.elf"
    row = host_chips.chip(chip)
    make(
        [str(ROOT / "bootloader"), f"BUILD={BUILD / 'sample'}", f"PORT={row.PORT}", "sample",
         f"VERSION={version}", f"SELF_TEST={'fail' if fail else 'pass'}"]
    )  # fmt: skip
    elf = BUILD / "sample/sample" / ("" if chip == host_chips.DEFAULT else row.PORT) / name
    if chip in host_chips.ESPRESSIF:
        return sign_application(
            load_application(elf.read_bytes(), name, row),
            key=key("a"),
            version=(1, 2, 0, 0),
            sec_cnt=2,
            device_class=DeviceClass(vendor_id=bytes(16), class_id=CLASS_ID),
        )
    return sign(load_firmware(elf.read_bytes(), name, chip=row), version=2, sec_cnt=2)


def make_image(
    version: int,
    *,
    sec_cnt: int = 1,
    signer: str = "a",
    claim: str | None = None,
    class_id: bytes = CLASS_ID,
    bad_signature: bool = False,
    chip: str = host_chips.DEFAULT,
) -> bytes:
    """The smallest image. ``claim`` names another key in KEYHASH; ``bad_signature`` flips one bit of s."""
    if chip in host_chips.ESPRESSIF:
        return campaign_esp32c3.make_image(
            version, sec_cnt=sec_cnt, signer=key(signer), claim=key(claim or signer), class_id=class_id,
            bad_signature=bad_signature,
        )  # fmt: skip
    return sign(payload(version), version, sec_cnt, signer, claim or signer, class_id, bad_signature)


def sign(
    body: bytes,
    version: int,
    sec_cnt: int,
    signer: str = "a",
    claim: str = "a",
    class_id: bytes = CLASS_ID,
    bad_signature: bool = False,
) -> bytes:
    protected = image.build_protected(sec_cnt, class_id)
    signed = image.build_header(len(body), len(protected), (1, version, 0, 0)) + body + protected
    digest = hashlib.sha256(signed).digest()
    signature = bytearray(host_crypto.signer(key(signer))(digest))
    if bad_signature:
        signature[-1] ^= 1
    names = key_hash(host_crypto.public_xy(key(claim)))
    return signed + image.build_unprotected(digest, names, bytes(signature))


# --- the machine ---


def factory_machine(elf: Path, first: bytes | None = None, chip: str = host_chips.DEFAULT) -> Machine:
    """A provisioned machine without power: journal blank, ``first`` in slot A."""
    machine = Machine(element=Atecc608(seed=7), seed=7, chip=MODELS[chip])
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    serial = host.serial()
    roots = [host_crypto.public_xy(key(name)) for name in ("a", "b")]
    provision_element(
        machine, io_key=IO_KEY, mac_key=MAC_KEY, root_a_xy=roots[0], root_b_xy=roots[1], counters=(8, 0)
    )  # floor 1
    machine.power_off()
    espressif = chip in host_chips.ESPRESSIF
    page = pack(
        Settings(
            class_id=CLASS_ID,
            serial=serial,
            io_key=IO_KEY,
            mac_key=MAC_KEY,
            root_a=key_hash(roots[0]),
            root_b=key_hash(roots[1]),
            places=campaign_esp32c3.PLACES if espressif else NO_PLACES,
        )
    )
    store = TrustStore(
        genesis_root=b"\xa0",
        server_ca=b"",
        device_cert=b"",
        server_url="https://localhost",
        vendor_id=bytes(16),
        class_id=CLASS_ID,
    )
    if espressif:
        campaign_esp32c3.write_factory(machine, elf, page, pack_trust_store(store))
        machine.cpu.check_alignment(on=False)  # other tests do that
        machine.space.code = campaign_esp32c3.code_in_ram(elf)
    else:
        _write_banks(machine, host_chips.stm32(chip), elf, page, pack_trust_store(store))
    install(machine, A, first or b"")
    return machine


def _write_banks(machine: Machine, row: Stm32, elf: Path, page: bytes, store: bytes) -> None:
    """The flash of an STM32 as the factory leaves it."""
    parts = [(address - row.FLASH_BASE, data) for address, data in segments(elf)]
    room = all(at + len(data) <= row.TRUST_STORE_OFFSET or at >= row.TAIL_OFFSET for at, data in parts)
    parts += [(row.TRUST_STORE_OFFSET, store)] if room else []
    for bank in row.FACTORY_BANKS:
        own = [(row.LAYOUT_OFFSET, layout_words(row, bank))] if row.LAYOUT_OFFSET < row.SLOT_OFFSET else []
        for at, data in (*parts, (row.SETTINGS_OFFSET, page), *own):
            machine.flash.write_phys(bank, at, data)
        machine.flash.protect(bank, 0, row.SLOT_OFFSET // row.PAGE_SIZE - 1)


@cache
def where(machine: Machine) -> Places:
    """Where things are: no campaign changes that."""
    return places(machine)


def install(machine: Machine, slot: int, data: bytes) -> None:
    """Put a file into a slot as a finished download leaves it."""
    region = where(machine).slots[slot]
    page = machine.chip.row.PAGE_SIZE
    size = -(-len(data) // page) * page
    machine.flash.write_phys(region.bank, region.offset, data + b"\xff" * (size - len(data)))


def slot_at(machine: Machine, address: int) -> int:
    """The slot whose bytes are mapped at an address now, or NONE."""
    place = machine.space.physical(address)
    for slot, region in where(machine).slots.items():
        if place is not None and place[0] == region.bank and 0 <= place[1] - region.offset < region.size:
            return slot
    return NONE


def journal_pages(machine: Machine) -> tuple[bytes, bytes]:
    """The journal as a reader sees it: zeros for what faults."""
    return view.journal_pages(machine, where(machine))


def journal_state(machine: Machine) -> journal.Record:
    return journal.scan(*journal_pages(machine))[0]


def append(machine: Machine, record: journal.Record) -> None:
    """Write a record as a factory programmer would: next cell, the page blank before its first."""
    _, page, cell = journal.scan(*journal_pages(machine))
    region = where(machine).journal[page]
    if cell == 0:
        machine.flash.write_phys(region.bank, region.offset, b"\xff" * journal.PAGE_SIZE)
    machine.flash.write_phys(region.bank, region.offset + 16 * cell, journal.pack(record))


def fill_journal(machine: Machine, left: int) -> None:
    """Repeat the journal's record until ``left`` cells of the active page are free."""
    while journal.scan(*journal_pages(machine))[2] not in (128 - left, 0 if left == 0 else -1):
        r = journal_state(machine)
        append(machine, journal.Record(r.sequence + 1, r.confirmed, r.candidate, r.state, r.tries, r.reason))
