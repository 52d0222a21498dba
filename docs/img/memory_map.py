"""Draw ``memory-map.svg`` from the very numbers that signer, agent and virtual device work by.

``python docs/img/memory_map.py > docs/img/memory-map.svg``; tests/layout holds the two together.
"""

from dataclasses import dataclass

from fota_wire.chips import stm32l476 as row

INK, PAPER, LINE = "#1f2933", "#ffffff", "#7b8794"
FIXED, FREE, SLOT, SHARED = "#f7d9a8", "#f4f6f8", "#bfe3d0", "#c9d8f5"
COLUMN, GAP, TOP, KIB = 210, 96, 74, 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One region of a column: bytes from ``start``, ``size`` of them; ``height`` in pixels, not to scale."""

    start: int
    size: int
    name: str
    note: str
    colour: str
    height: int


BANK_1 = (
    Part(row.BOOTLOADER_OFFSET, row.BOOTLOADER_SIZE, "bootloader", "write-protected", FIXED, 46),
    Part(
        row.TRUST_STORE_OFFSET,
        row.TRUST_STORE_SIZE,
        "trust store",
        "genesis ROOT, certificates",
        FIXED,
        46,
    ),
    Part(row.SETTINGS_OFFSET, row.SETTINGS_SIZE, "settings", "class, pairing keys", FIXED, 46),
    Part(row.SLOT_OFFSET, row.SLOT_SIZE, "slot A", "512 B header, then vectors", SLOT, 130),
)
BANK_2 = (
    Part(
        row.JOURNAL_OFFSET,
        2 * row.PAGE_SIZE,
        "boot journal",
        "two pages, 128 records each",
        SHARED,
        46,
    ),
    Part(
        row.AGENT_STORE_OFFSET,
        row.AGENT_STORE_SIZE,
        "agent store",
        "state of the agent",
        SHARED,
        92,
    ),
    Part(row.SLOT_OFFSET, row.SLOT_SIZE, "slot B", "the same, at the same address", SLOT, 130),
)
_REPORT = row.BOOT_REPORT_ADDRESS - row.RAM_BASE
SRAM = (
    Part(0, _REPORT, "application", "the stack begins at most at its end", FREE, 222),
    Part(_REPORT, row.RAM_SIZE - _REPORT, "boot report", "and the health word", SHARED, 46),
)


def _text(x: int, y: int, words: str, size: int = 13, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{INK}">{words}</text>'
    )


def _column(x: int, title: str, subtitle: str, parts: tuple[Part, ...], base: int) -> list[str]:
    lines = [_text(x, TOP - 34, title, 15, weight="bold"), _text(x, TOP - 14, subtitle, 12)]
    y = TOP
    for part in parts:
        size = f"{part.size / KIB:g} KiB" if part.size >= KIB else f"{part.size} B"
        lines += [
            f'<rect x="{x}" y="{y}" width="{COLUMN}" height="{part.height}" '
            f'fill="{part.colour}" stroke="{LINE}"/>',
            _text(x + 10, y + 19, f"{part.name}, {size}", weight="bold"),
            _text(x + 10, y + 36, part.note, 11),
            _text(
                x - 8,
                y + 12,
                f"{base + part.start:#07x}" if base == 0 else f"{base + part.start:#010x}",
                11,
                "end",
            ),
        ]
        y += part.height
    return lines


def draw() -> str:
    """Return the picture as SVG."""
    x1, x2, x3 = GAP, 2 * GAP + COLUMN, 3 * GAP + 2 * COLUMN
    width, bottom = x3 + COLUMN + 24, TOP + 268
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 110}" '
        f'font-family="sans-serif" role="img" aria-label="Memory of the STM32L4 reference device">',
        f'<rect width="{width}" height="{bottom + 110}" fill="{PAPER}"/>',
        *_column(x1, "Flash, bank 1 (512 KiB)", "offsets in the physical bank", BANK_1, 0),
        *_column(x2, "Flash, bank 2 (512 KiB)", "offsets in the physical bank", BANK_2, 0),
        *_column(x3, "SRAM1 (96 KiB)", "addresses", SRAM, row.RAM_BASE),
        _text(x1, bottom + 26, "FB_MODE = 0: bank 1 is mapped low, slot A runs.", 13, weight="bold"),
        _text(x1, bottom + 46, "FB_MODE = 1: bank 2 is mapped low, slot B runs.", 13, weight="bold"),
        _text(
            x1,
            bottom + 70,
            f"Whichever runs, runs at {row.SLOT_ADDRESS:#010x}, "
            f"vectors at {row.VECTOR_ADDRESS:#010x}; "
            f"the other one is at {row.INACTIVE_SLOT_ADDRESS:#010x}.",
        ),
        _text(x1, bottom + 92, "Orange is written by the factory and locked. Heights are not to scale.", 12),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(draw(), end="")
