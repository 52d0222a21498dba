"""Everything that this model takes for granted without a public document to stand on: one list.

Each field is an assumption with the value that the model uses; give another to see what your host code
does if silicon behaves otherwise: ``Atecc608(assumptions=Assumptions(watchdog_ms=700))``.
"""

from dataclasses import dataclass, field, fields
from typing import TypeVar

T = TypeVar("T")


def _because(default: T, why: str) -> T:
    """Return a field with its default and the sentence that `fota vdev limits` prints."""
    made: T = field(default=default, metadata={"why": why})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Unverified on silicon. Units are in the names."""

    wake_low_us: float = _because(60.0, "SDA has to be low for at least 60 us to wake the chip")
    wake_delay_us: int = _because(1500, "reads are not acknowledged for 1500 us after the wake pulse")
    watchdog_ms: int = _because(1300, "typical watchdog; the guaranteed minimum is lower")
    long_watchdog_ms: int = _because(13_000, "watchdog with ChipMode bit 2")
    execution: float = _because(
        0.6, "a command takes this part of the library's maximum time; 1.0 is the worst case"
    )
    unlocked_random: bytes = _because(
        b"\xff\xff\x00\x00", "Random and Nonce repeat this pattern until the configuration is locked"
    )
    past_end: int = _because(0xFF, "bytes read after the end of a response")
    past_slot: int = _because(0x00, "what a 32-byte read returns beyond the end of a slot")
    revision: bytes = _because(b"\x00\x00\x60\x03", "revision of a 608B")
    clear_after_use: bool = _because(
        True,
        "TempKey and message digest buffer are invalid after the command that used them, and after errors",
    )
    sign_needs_data_lock: bool = _because(
        True, "Sign, Verify, MAC and GenDig of a slot fail until the data zone is locked"
    )
    unlocked_writes_are_blocks: bool = _because(
        True, "before the data zone is locked, slots take 32-byte writes only and cannot be read"
    )
    gendig_counter_feeds_mac: bool = _because(
        True, "GenDig zone 4 hashes the counter into TempKey, and MAC may use that TempKey"
    )
    cut_increment_may_add_one: bool = _because(
        True, "a power cut during Counter increment leaves the old count, the new one, or one more"
    )
    write_survives_watchdog: bool = _because(
        True, "a write under way when the watchdog puts the chip to sleep is completed"
    )

    @classmethod
    def explain(cls) -> list[tuple[str, str]]:
        """Return (name, sentence) of every assumption."""
        return [(f.name, str(f.metadata["why"])) for f in fields(cls)]
