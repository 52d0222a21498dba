"""What Espressif's chips call themselves, and the rows of those that this project boots."""

from fota_wire.chips import esp32c3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.host_chips import Espressif

CHIP_IDS = {
    0x00: "ESP32",
    0x02: "ESP32-S2",
    0x05: "ESP32-C3",
    0x09: "ESP32-S3",
    0x0C: "ESP32-C2",
    0x0D: "ESP32-C6",
    0x10: "ESP32-H2",
    0x12: "ESP32-P4",
    0x14: "ESP32-C61",
    0x17: "ESP32-C5",
    0x19: "ESP32-H21",
    0x1C: "ESP32-H4",
    0x20: "ESP32-S31",
}
"""Chip id, bytes 12 and 13 of an image, -> name."""

ROWS: "dict[int, Espressif]" = {esp32c3.CHIP_ID: esp32c3}
"""Chip id -> row."""
