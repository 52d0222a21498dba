"""Which figure over its budget fails `make bench`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bench
from missing import Missing


def test_exact_figure_over_its_budget_fails(capsys):
    assert not bench.judged([("boot_instructions_256k", 11, 10), ("sign_512k_ms", 1, 2)])
    assert capsys.readouterr().out.splitlines()[0].endswith("   over")


def test_time_over_its_budget_is_said_and_does_not_fail(capsys):
    assert bench.judged([("boot_instructions_256k", 10, 10), ("sign_512k_ms", 3, 2)])
    assert "over (idle machine?)" in capsys.readouterr().out.splitlines()[1]


def raises(error):
    def part():
        raise error

    return part


def test_part_that_fails_or_is_missing_keeps_no_figure_from_being_measured(capsys):
    last = (lambda: {"erases": 2}, {"erases": 2})
    parts = {
        "one": (raises(Missing("no such tool")), {}),
        "two": (raises(OSError("broken")), {}),
        "three": last,
    }
    figures, reasons, good = bench.measured(parts)
    assert figures == {"three": {"erases": 2}}
    assert reasons == {"one": "no such tool", "two": "failed: OSError: broken"}
    assert not good
    said = capsys.readouterr().out
    assert "could not be had: one: no such tool\n" in said
    assert "erases" in said
    parts.pop("two")
    assert bench.measured(parts)[2], "what this machine lacks is no error"
