"""docs/new-chip.md: each file that it names is there, for each STM32 that there is."""

import re
import subprocess
from pathlib import Path

import pytest

from fota_wire.host_chips import STM32

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`([\w./<>-]+/[\w./<>-]*|[A-Z]+\.md)`", (ROOT / "docs/new-chip.md").read_text())


@pytest.mark.parametrize("chip", list(STM32))
def test_every_file_that_the_page_names_is_there(chip: str) -> None:
    row = STM32[chip]
    paths = [name.replace("<name>", row.NAME).replace("<port>", row.PORT) for name in NAMED]
    assert len(paths) > 35
    assert [path for path in paths if not (ROOT / path).exists()] == []


OWN = re.compile(r"(chips|port|boards)/(\w+_)?stm32(u5|u585)\b|/test_\w+\.py$")
BY_THE_WAY = {"signer/fota_signer/cli.py"}  # an example in a help text


def test_no_file_names_the_second_chip_that_the_page_does_not() -> None:
    """A third one would have to be named there too. Tests may take it as an example of another chip."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.c", "*.h", "*.ld", "*.mk", "*Makefile"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    row = STM32["stm32u585"]
    page = (ROOT / "docs/new-chip.md").read_text().replace("<port>", row.PORT).replace("<name>", row.NAME)
    named = set(re.findall(r"`([\w./<>-]+)`", page))
    folders = tuple(name for name in named if name.endswith("/"))
    code = [name for name in listed if (ROOT / name).is_file() and not OWN.search(name)]
    assert len(code) > 300
    telling = {name for name in code if re.search("stm32u5", (ROOT / name).read_text(), re.IGNORECASE)}
    assert {name for name in telling - named - BY_THE_WAY if not name.startswith(folders)} == set()


@pytest.mark.parametrize("chip", list(STM32))
def test_page_leaves_out_no_file_of_the_port_that_both_have(chip: str) -> None:
    folders = [ROOT / "bootloader/port" / row.PORT for row in STM32.values()]
    both = set.intersection(*({path.name for path in folder.iterdir()} for folder in folders))
    named = {Path(name).name for name in NAMED if name.startswith("bootloader/port/<port>/")}
    assert both == named
    assert (ROOT / "bootloader/port" / STM32[chip].PORT).is_dir()


PLACES = {  # what SPEC calls it -> offset and size of the row
    "Bootloader": ("BOOTLOADER_OFFSET", "BOOTLOADER_SIZE"),
    "Trust store": ("TRUST_STORE_OFFSET", "TRUST_STORE_SIZE"),
    "Settings": ("SETTINGS_OFFSET", "SETTINGS_SIZE"),
    "Slot A": ("SLOT_OFFSET", "SLOT_SIZE"),
    "Slot B": ("SLOT_OFFSET", "SLOT_SIZE"),
    "Agent store": ("AGENT_STORE_OFFSET", "AGENT_STORE_SIZE"),
}


def number(text: str) -> int:
    """Read a size or an offset as SPEC writes it."""
    digits, _, unit = text.replace(",", "").replace("_", "").partition(" ")
    return int(digits, 0) * (1024 if unit.startswith("KiB") else 1)


@pytest.mark.parametrize("chip", list(STM32))
def test_places_in_spec_are_those_of_the_row(chip: str) -> None:
    row = STM32[chip]
    text = (ROOT / "SPEC.md").read_text().partition(f"\n**`{chip}`**: ")[2]
    said, _, table = text.partition("\n\n")
    for words in (
        f"{row.BANK_SIZE // row.PAGE_SIZE} pages of {row.PAGE_SIZE // 1024} KiB",
        f"({row.WRITE_SIZE} bytes)",
    ):
        assert words in said
    found = dict(
        re.findall(r"^\| ([A-Za-z ]+?)(?: \([\d.]+\))? \| (.+) \|$", table.partition("\n\n")[0], re.MULTILINE)
    )
    for what, (offset, size) in PLACES.items():
        _, offset_said, size_said, _ = found[what].split(" | ")
        assert number(offset_said) == getattr(row, offset), what
        assert number(size_said) == getattr(row, size), what
    bank, offset_said, size_said, _ = found["Boot journal"].split(" | ")
    first = row.JOURNAL_OFFSET // row.PAGE_SIZE
    assert (int(bank), number(offset_said)) == (row.JOURNAL_BANK, row.JOURNAL_OFFSET)
    assert size_said.startswith(f"2 pages ({first}, {first + 1})")
