/* What a chip would give the core, and this one does not yet: every function traps. The tests stand
 * there instead, by breakpoints, with a bus, a flash and a clock (tests/bootloader/xtensa.py). */
#include "layout.h"
#include "port.h"

#define OUTSIDE(name)                                                    \
  __asm__(".section .text." #name ", \"ax\"\n .align 4\n .global " #name \
          "\n"                                                           \
          ".type " #name ", @function\n" #name ": break 1, 15\n .previous")

OUTSIDE(fota_port_ecc_fault);
OUTSIDE(fota_port_time_us);
OUTSIDE(fota_port_wait_us);
OUTSIDE(fota_port_random);
OUTSIDE(fota_port_bus_write);
OUTSIDE(fota_port_bus_read);
OUTSIDE(fota_port_bus_wake);
OUTSIDE(fota_port_put);
OUTSIDE(fota_port_watchdog);
OUTSIDE(fota_port_feed);
OUTSIDE(fota_port_boot);
OUTSIDE(fota_port_halt);
OUTSIDE(outside_read);
OUTSIDE(outside_program);
OUTSIDE(outside_erase);

fota_status_t outside_read(const void *context, uint32_t offset, void *data, uint32_t length);
fota_status_t outside_program(const void *context, uint32_t offset, const void *data,
                              uint32_t length);
fota_status_t outside_erase(const void *context, uint32_t offset);

static const fota_flash_t journal = {
    .page_size = 2048,
    .read = outside_read,
    .program = outside_program,
    .erase = outside_erase,
};
const fota_flash_t *const fota_port_journal = &journal;

fota_report_t fota_port_report;
uint32_t fota_port_health;
const uint8_t fota_port_settings[256] = {0xff};
const fota_layout_t fota_layout = {.slot_size = 0};
