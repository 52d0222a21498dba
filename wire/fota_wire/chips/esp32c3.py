"""ESP32-C3 with 4 MiB of SPI flash: slots where the partition table says, mapped by the MMU. SPEC 1.

Flash addresses are offsets in flash; those of journal and stores are offsets in the partition ``fota``.
"""

NAME = "esp32c3"
TITLE = "ESP32-C3"
PORT = "esp32c3"
FORM = "espressif"
CHIP_ID = 5  # in the header of images
ELF_MACHINE = 243  # RISC-V
MAX_REVISION = 199  # 100 * major + minor: IDF's images ask for no more

FLASH_BASE = 0
FLASH_SIZE = 0x400000
PAGE_SIZE = 4096
WRITE_SIZE = 4

BOOTLOADER_OFFSET = 0x0000
BOOTLOADER_SIZE = 0x7000
SETTINGS_OFFSET = 0x7000
SETTINGS_SIZE = 0x1000
PLACES_OFFSET = 172  # in the settings: where partition table and OTA data said that everything is
TABLE_OFFSET = 0x8000
TABLE_SIZE = 0x1000

STORE_TYPE, STORE_SUBTYPE = 0x40, 0x01  # of the partition "fota"
STORE_LABEL = "fota"
STORE_SIZE = 0x8000
JOURNAL_OFFSET = 0x0000
JOURNAL_STRIDE = PAGE_SIZE
TRUST_STORE_OFFSET = 0x2000
TRUST_STORE_SIZE = 0x2000
AGENT_STORE_OFFSET = 0x4000
AGENT_STORE_SIZE = 0x4000

SLOT_SIZE = 0x3F0000  # at most
SLOT_ALIGNMENT = 0x10000
SLOT_ADDRESS = 0x3C000000  # of slot A, while the bootloader runs
INACTIVE_SLOT_ADDRESS = 0x3C400000  # of slot B

RAM_BASE = 0x3FC80000
RAM_SIZE = 0x60000
BOOT_REPORT_ADDRESS = 0x50001F00  # in RTC RAM, behind what applications of ESP-IDF have at its begin
HEALTH_ADDRESS = BOOT_REPORT_ADDRESS + 128

# Where segments of images may go: begin and end. What flash shows, by one table of pages for both windows;
# RAM as both buses see it, below the bootloader; RAM that a reset leaves alone, below the report.
MMU_PAGE = 0x10000
DROM = (0x3C000000, 0x3C7F0000)  # the last page's entry is the bootloader's
IROM = (0x42000000, 0x427F0000)
IRAM = (0x40380000, 0x403CE710)
DRAM = (0x3FC80000, 0x3FCCE710)
RTC_RAM = (0x50000000, BOOT_REPORT_ADDRESS)
