"""What the story has to know of a chip beside its row in the table of chips. Nothing else of it names one.

Imports nothing that has to be installed: `phases` looks here before anything is.
"""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "wire"))

from fota_wire.chips import esp32c3, stm32l476, stm32u585


class Kit(NamedTuple):
    """``words``: what its flash counts as programmed at once; a rollback writes fewer than ``most_words``, an
    image has more.
    """

    words: str
    most_words: int


KITS = {
    stm32l476.NAME: Kit(words="double words", most_words=256),
    stm32u585.NAME: Kit(words="quad-words", most_words=128),
    esp32c3.NAME: Kit(words="flash pages", most_words=64),
}


def why_no_story(chip: str) -> str:
    """Return why there is no story of a chip, or an empty string."""
    return "" if chip in KITS else f"no chip {chip!r} has this story: CHIP is one of {', '.join(KITS)}"
