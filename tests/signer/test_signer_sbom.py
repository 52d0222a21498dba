"""`fota release sbom`: what the linker put into the firmware, held by CycloneDX's and SPDX's own readers."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from evidence_judges import CYCLONEDX, SPDX, judge
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from fota_signer import components, linker_map
from fota_wire.errors import InputError, VerifyError

REPO = Path(__file__).parents[2]
FIRMWARE = REPO / "agent/firmware/components.toml"
BOOTLOADER = REPO / "bootloader/components.toml"

MAP = """\
Archive member included to satisfy reference by file (symbol)

/lib/gcc/arm/12.2.1/libgcc.a(div.o)
                              build/app.o (__div)

Linker script and memory map

LOAD build/app.o
LOAD build/lib/tls.o
LOAD build/lib/unused.o
LOAD /lib/gcc/arm/12.2.1/libgcc.a

.text           0x08004200      0x300
 *(.text*)
 .text.main     0x08004200      0x100 build/app.o
                0x08004200                main
 .text.a_function_with_a_name
                0x08004300       0x80 build/lib/tls.o
 *fill*         0x08004380        0x4 00de
                0x0800438c        0x4 LONG 0x12345678
 .text          0x08004384       0x20 /lib/gcc/arm/12.2.1/libgcc.a(div.o)

.bss            0x20000000       0x10
 .bss           0x20000000       0x10 build/app.o

.debug_info     0x00000000     0x9999
 .debug_info    0x00000000     0x9999 build/lib/unused.o
"""
PARTS = """\
format = 1
[product]
name = "sensor"
license = "LicenseRef-Example"
supplier = "Example Ltd"
cpe = "cpe:2.3:o:example:sensor:1.2.3:*:*:*:*:*:*:*"
files = ["build/*.o"]
[[component]]
name = "tls"
version = "3.6.6"
license = "Apache-2.0"
purl = "pkg:github/Mbed-TLS/mbedtls@v3.6.6"
lock = "sources.lock"
files = ["build/lib/*.o"]
[[component]]
name = "libgcc"
version-in-path = "/gcc/arm/*/"
license = "GPL-3.0-or-later WITH GCC-exception-3.1"
files = ["*/libgcc.a(*)"]
[[component]]
name = "not-linked"
version = "1"
license = "MIT"
files = ["*/other/*"]
"""
LOCK = f"# archives\ntls tls_3.6.6.tar.gz {'ab' * 32}\n"


@pytest.fixture
def sbom(fota, product):
    """`fota release sbom` of a product; returns (result, what was written)."""
    (product.folder / "build/app.map").write_text(MAP)
    (product.folder / "components.toml").write_text(PARTS)
    (product.folder / "sources.lock").write_text(LOCK)
    product.commit()
    product.change("[refuse]", "[refuse]")

    def run(form, *more):
        output = product.folder / f"build/{form}.json"
        line = ("release", "sbom", "--map", "build/app.map", "--components", "components.toml")
        result = fota(*line, "--format", form, "-o", output, "--force", *more)
        return result, output

    return run


def test_sbom_has_what_is_linked_by_size_version_and_source(sbom, product):
    result, file = sbom("cyclonedx", "--json")
    assert result.returncode == 0, result.stderr
    listed = [tuple(one.values()) for one in json.loads(result.stdout)["components"]]
    assert listed == [("sensor", "1.2.3", 0x110, 1), ("tls", "3.6.6", 0x80, 1), ("libgcc", "12.2.1", 0x20, 1)]
    told = json.loads(file.read_text())
    assert told["metadata"]["component"]["name"] == "sensor"
    source = told["components"][0]["externalReferences"][0]
    assert (source["url"], source["hashes"][0]["content"]) == ("tls_3.6.6.tar.gz", "ab" * 32)
    assert told["dependencies"][0]["dependsOn"] == ["component/tls", "component/libgcc"]


@pytest.mark.parametrize(("form", "script"), [("cyclonedx", CYCLONEDX), ("spdx", SPDX)])
def test_sbom_is_one_for_its_formats_own_reader_and_always_the_same(sbom, form, script, product):
    result, file = sbom(form)
    assert result.returncode == 0, result.stderr
    raw = file.read_bytes()
    said = judge(script, file)
    assert said.returncode == 0, said.stderr
    assert sbom(form)[1].read_bytes() == raw
    wrong = raw.replace(b'"type": "library"', b'"type": "nothing"').replace(
        b"software_Package", b"software_None"
    )
    file.write_bytes(wrong)
    assert judge(script, file).returncode
    assert sbom(form, "--version", "1.2.4")[1].read_bytes() != raw


@pytest.mark.parametrize("chip", ["", "esp32c3", "stm32u5"])
@pytest.mark.parametrize(("form", "script"), [("cyclonedx", CYCLONEDX), ("spdx", SPDX)])
def test_own_firmware_has_an_sbom_of_every_byte_that_is_linked(fota, tmp_path, chip, form, script):
    folder = REPO / "build/agent-firmware" / chip
    linked_by = folder / "obj/firmware.map"
    if not linked_by.exists():
        pytest.skip("no agent firmware here: make agent-firmware")
    line = ("release", "sbom", "--map", linked_by, "--components", FIRMWARE, "--format", form, "--json")
    result = fota(*line, "--version", "1.0.0", "-o", tmp_path / "sbom.json")
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    sizes = {one["name"].partition("-")[0]: one["bytes"] for one in said["components"]}
    assert set(sizes) == {"fota", "mbedtls", "picolibc", "libgcc", "micropython"}
    versions = {one["name"]: one["version"] for one in said["components"]}
    assert (versions["mbedtls"], versions["micropython"]) == ("3.6.6", "1.25.0")
    named = (folder / "obj/firmware.map").read_text().rpartition("OUTPUT(")[2].split()[0]
    with (folder / Path(named).name).open("rb") as file:
        loaded = sum(part["sh_size"] for part in ELFFile(file).iter_sections() if part["sh_flags"] & 2)
    told = sum(sizes.values()) + said["merged_bytes"]
    assert loaded * 0.99 < told <= loaded  # the rest is between files: fill
    judged = judge(script, tmp_path / "sbom.json")
    assert judged.returncode == 0, judged.stderr


@pytest.mark.parametrize("chip", ["stm32l4", "stm32u5", "esp32c3"])
def test_own_bootloader_has_an_sbom(fota, tmp_path, chip):
    linked_by = REPO / f"build/bootloader/{chip}/bootloader.map"
    line = ("release", "sbom", "--map", linked_by, "--components", BOOTLOADER, "--version", "1.0.0")
    result = fota(*line, "-o", tmp_path / "sbom.json")
    assert result.returncode == 0, result.stderr
    assert judge(CYCLONEDX, tmp_path / "sbom.json").returncode == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "says"),
    [
        (
            "components.toml",
            "build/*.o",
            "src/*.o",
            1,
            "files are linked that no component claims, 'build/app.o'",
        ),
        ("components.toml", '"3.6.6"', '"3.6.5"', 1, "tls: 3.6.5, and sources.lock has 'tls_3.6.6.tar.gz'"),
        ("components.toml", "/gcc/arm/*/", "/gcc/mips/*/", 3, "version-in-path comes to 'none'"),
        ("components.toml", "sources.lock", "other.lock", 3, "components.toml: lock: "),
        ("components.toml", "format = 1", "format = 2", 3, "components.toml: format: 2 is not the number 1"),
        ("components.toml", "[[component]]", "[component]", 3, "components.toml: not TOML"),
        ("components.toml", 'license = "MIT"', "", 3, "component[3].license is missing"),
        ("components.toml", 'license = "MIT"', 'licence = "MIT"', 3, "component[3].license is missing"),
        ("components.toml", 'version = "1"', "", 3, "write one of version and version-in-path"),
        ("components.toml", '"not-linked"', '"tls"', 3, "two have one name"),
        ("components.toml", "pkg:github", "github", 3, "is no package URL"),
        ("components.toml", "cpe:2.3:o", "cpe:2.3:x", 3, "is no CPE"),
        ("sources.lock", "tls tls", "ssl tls", 3, "has not one line 'tls ARCHIVE SHA-256'"),
        ("build/app.map", "Linker script", "Another script", 3, "no linker map of GNU ld"),
        ("build/app.map", " 0x", " 1x", 3, "nothing is linked by this map"),
    ],
)
def test_sbom_that_would_have_a_blank_is_not_made(sbom, product, file, old, new, code, says):
    path = product.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    result, output = sbom("spdx", "--version", "1.2.3")
    assert (result.returncode, result.stdout) == (code, "")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not output.exists()


def test_objects_that_were_optimised_together_are_listed_and_their_bytes_are_nobodys():
    raw = MAP.replace("0x80 build/lib/tls.o", "0x80 /tmp/ccX.ltrans0.ltrans.o")
    raw = raw.replace(
        "LOAD build/app.o", "LOAD build/app.o\nLOAD /tmp/ccX.ltrans0.ltrans.o\nLOAD /tmp/ccY.debug.temp.o"
    )
    found = linker_map.read_map(raw.encode(), "map")
    assert found.merged == 0x80
    assert found.files == {"build/app.o": 0x110, "/lib/gcc/arm/12.2.1/libgcc.a(div.o)": 0x20,
                           "build/lib/tls.o": 0, "build/lib/unused.o": 0}  # fmt: skip


@given(st.binary(max_size=300) | st.text().map(lambda text: (MAP + text).encode()))
def test_any_bytes_are_a_map_or_are_refused(raw):
    with suppress(InputError):
        linker_map.read_map(raw, "map")


@given(st.integers(0, len(PARTS)), st.text(max_size=4), st.integers(0, 30), st.text(max_size=30))
def test_any_text_is_a_list_of_components_or_is_refused(at, more, less, lock):
    with suppress(InputError, VerifyError):
        parts = components.parse(PARTS[:at] + more + PARTS[at + less :])
        locks = dict.fromkeys((one.lock or "" for one in parts.components), lock)
        components.linked(parts, linker_map.read_map(MAP.encode(), "map"), locks)


def test_components_of_the_page_are_what_the_command_takes():
    page = (REPO / "docs/releases.md").read_text()
    blocks = [block for block in page.split("```\n") if block.startswith("format = 1\n\n[product]")]
    parts = components.parse(blocks[0])
    assert [one.name for one in parts.components] == ["mbedtls", "libgcc"]
