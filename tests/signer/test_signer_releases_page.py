"""docs/releases.md, typed in, with its own policy in an empty folder; the ELF is one of the tests' making."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from elf_world import Elf

from fota_signer.release_policy import parse
from fota_wire.errors import InputError

PAGE = (Path(__file__).parents[2] / "docs/releases.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of the page in a language; its commands are in ```sh."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def type_in(folder: Path, elf: bytes) -> subprocess.CompletedProcess[str]:
    (folder / "sample").mkdir()
    (folder / "sample/app-1.1.0.elf").write_bytes(elf)
    product = folder / "product"
    product.mkdir()
    (product / "fota.toml").write_text(blocks("toml")[0])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FOTA", "GIT"))}
    roles, parts = ("AUTHOR", "COMMITTER"), ("NAME", "EMAIL")
    who = {f"GIT_{role}_{part}": "x@example.com" for role in roles for part in parts}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks("sh"))], cwd=product,
        env={**clean, **who, "PATH": path, "BUILD": str(folder), "GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_page_leads_from_a_policy_to_a_release_that_lacks_nothing(tmp_path):
    done = type_in(tmp_path, Elf().build())
    assert done.returncode == 0, done.stdout + done.stderr
    release = tmp_path / "product/release"
    said = json.loads((release / "release.json").read_text())
    assert (said["version"], said["sequence"], said["security_counter"]) == ("1.1.0", 1_001_000, 1)
    first, last = done.stdout.split("release lacks 2 of 13\n")
    assert "1 of 2 by ROOT 1; 1 more, of " in first
    assert "\n\nrelease is complete\n" in last
    assert (tmp_path / "product/technical-file.md").read_text().endswith(" not answered.\n")
    assert (tmp_path / "product/evidence.tar").stat().st_size
    assert (release / said["image"]["file"]).stat().st_size == said["image"]["size"]


def test_table_of_the_page_names_every_key_and_no_other():
    told: dict[str, set[str]] = {"sequence": set(), "security-counter": set()}
    for row in re.findall(r"^\| (`.*?`) \| .* \|$", PAGE.partition("## Build")[0], re.MULTILINE):
        table = ""
        for name in re.findall(r"`([a-z.-]+)`", row):
            table, _, key = name.rpartition(".") if "." in name else (table, "", name)
            told.setdefault(table, set()).add(key)
    assert told.pop("") == {"format"}
    known = {}
    for table in told:
        text = re.sub(rf"^\[{table}\]", rf"[{table}]\n0000000 = 1", blocks("toml")[0], flags=re.MULTILINE)
        with pytest.raises(InputError, match=r"known are ") as refused:
            parse(text)
        known[table] = set(str(refused.value).rpartition("known are ")[2].split(", "))
    numbers = {"number", "file", "major", "minor", "revision", "build", "plus"}
    assert (known.pop("sequence"), known.pop("security-counter")) == (numbers, numbers)
    assert known == {table: keys for table, keys in told.items() if table in known}
