/* Taking the chip over from the mask ROM, and handing it on as an application expects it. */
#ifndef FOTA_ESP32C3_CHIP_H
#define FOTA_ESP32C3_CHIP_H

#include <stdint.h>
#include <stdnoreturn.h>

/* What is decided for a board; all else follows from the chip. */
enum {
  BOARD_SDA = 5, /* pins of the crypto element: none of them says how to boot */
  BOARD_SCL = 6,
  BOARD_CONSOLE_USB = 0, /* 1: lines go to USB-Serial-JTAG as well */
};

void fota_chip_start(void);
void fota_chip_stop(void);
void fota_bus_start(void);
void fota_bus_stop(void);

/* A system reset: as good as a power cut, but for RAM. */
noreturn void fota_chip_restart(void);

/* Why the chip was reset, in the bits of the boot report (SPEC 4). */
uint8_t fota_chip_reset_cause(void);

/* True if it was a wake from deep sleep: RTC memory is the application's. */
uint32_t fota_chip_woke(void);

#endif
