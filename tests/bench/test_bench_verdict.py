"""Which figure over its budget fails `make bench`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bench


def test_exact_figure_over_its_budget_fails(capsys):
    assert not bench.judged([("boot_instructions_256k", 11, 10), ("sign_512k_ms", 1, 2)])
    assert capsys.readouterr().out.splitlines()[1].endswith("   over")


def test_time_over_its_budget_is_said_and_does_not_fail(capsys):
    assert bench.judged([("boot_instructions_256k", 10, 10), ("sign_512k_ms", 3, 2)])
    assert "over (idle machine?)" in capsys.readouterr().out.splitlines()[2]
