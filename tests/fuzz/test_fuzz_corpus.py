"""The corpus of the fuzz targets under gcc's sanitizers; and bugs put in on purpose, which it must find."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BOOTLOADER = HERE.parents[1] / "bootloader"
TARGETS = ("image", "der", "journal", "cbor", "smp", "frame", "espressif", "partitions", "otadata")


def run_corpus(target: str, *variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-C", str(HERE), f"run-{target}", *variables], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_runs_clean_under_the_sanitizers(target: str) -> None:
    result = run_corpus(target)
    assert result.returncode == 0, result.stdout + result.stderr
    inputs = len(list((HERE / "corpus" / target).iterdir()))
    assert inputs >= 2
    assert f"{inputs} inputs" in result.stdout


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in (HERE / "corpus").rglob("*") if path.is_file()) < 100 * 1024


@pytest.mark.parametrize(
    ("target", "file", "right", "wrong"),
    [
        pytest.param("der", "core/der.c", "size > left - 2", "size > left + 9", id="DER-length"),
        pytest.param(
            "image",
            "core/image.c",
            "if (!fota_range_ok(*offset, total, slot_size)) return FOTA_IMAGE_SIZE;",
            "",
            id="TLV-area",
        ),
        pytest.param("journal", "core/journal.c", "used = at + CELL;", "used = at;", id="cell-written-twice"),
        pytest.param(
            "cbor", "recovery/cbor_reader.c", "if (item->number > in->left)", "if (0)", id="string-length"
        ),
        pytest.param(
            "smp",
            "recovery/upload.c",
            "if (size > u->length - u->offset) return FOTA_IMAGE_SIZE;",
            "",
            id="more-than-announced",
        ),
        pytest.param(
            "frame", "recovery/frame.c", "if (f->size == FOTA_FRAME_SIZE) return false;", "", id="frame-size"
        ),
        pytest.param(
            "espressif",
            "port/esp32c3/image.c",
            "if (!fota_range_ok(padded, PAGE_SIZE, slot_size)) return FOTA_IMAGE_SIZE;",
            "",
            id="sector-outside",
        ),
        pytest.param(
            "partitions", "port/esp32c3/partitions.c", "RECORDS = 96,", "RECORDS = 160,", id="table-length"
        ),
        pytest.param(
            "otadata",
            "port/esp32c3/otadata.c",
            "if (slot == state->confirmed) return false;",
            "",
            id="request-for-what-is-confirmed",
        ),
    ],
)
def test_seeded_bug_is_found_by_the_corpus(
    tmp_path: Path, target: str, file: str, right: str, wrong: str
) -> None:
    source = tmp_path / "bootloader"
    shutil.copytree(BOOTLOADER, source)
    path = source / file
    text = path.read_text()
    assert text.count(right) == 1, f"{file} no longer says: {right}"
    path.write_text(text.replace(right, wrong))
    result = run_corpus(target, f"SOURCE={source}", f"OUT={tmp_path / 'out'}")
    assert result.returncode != 0
    assert "Sanitizer" in result.stderr or "runtime error" in result.stderr or "not so" in result.stderr
