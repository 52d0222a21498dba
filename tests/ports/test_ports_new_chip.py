"""docs/new-chip.md: each file that it names is there, for each STM32 that there is."""

import re
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


@pytest.mark.parametrize("chip", list(STM32))
def test_page_leaves_out_no_file_of_the_port_that_both_have(chip: str) -> None:
    folders = [ROOT / "bootloader/port" / row.PORT for row in STM32.values()]
    both = set.intersection(*({path.name for path in folder.iterdir()} for folder in folders))
    named = {Path(name).name for name in NAMED if name.startswith("bootloader/port/<port>/")}
    assert both == named
    assert (ROOT / "bootloader/port" / STM32[chip].PORT).is_dir()
