"""Pictures in the documents show the numbers that the code works by."""

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_memory_map_is_drawn_from_the_layout() -> None:
    drawn = subprocess.run(
        [sys.executable, "docs/img/memory_map.py"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    assert (REPO / "docs/img/memory-map.svg").read_text() == drawn, (
        "python docs/img/memory_map.py > docs/img/memory-map.svg"
    )
    assert "img/memory-map.svg" in (REPO / "SPEC.md").read_text()
