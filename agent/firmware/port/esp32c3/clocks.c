/* ESP32-C3 as this firmware runs it: as the bootloader leaves it, at 80 MHz; the system timer tells
 * the time and ends waits, I2C0 leads to the element, UART1 to the modem. */
// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mphal.h"

#include "core/port.h"
#include "port/esp32c3/chip.h"
#include "port/esp32c3/registers.h"
#include "start.h"
// clang-format on

enum {
  TIMER_LINE = 5, /* CPU interrupt line that ends a wait */
  NO_WATCHDOG_MS = 60000,
};

void fota_firmware_start(void) {
  SYSTEM_CLK_EN1 |= EN1_SHA;
  SYSTEM_RST_EN1 &= ~(EN1_SHA | EN1_DS_HMAC);
  SYSTIMER_CONF |= SYSTIMER_TARGET0_ON;
  SYSTIMER_INT_ENA = 1;
  INT_MAP_SYSTIMER0 = TIMER_LINE;
  INT_PRIORITY(TIMER_LINE) = 1;
  INT_THRESHOLD = 1;
  INT_ENABLE = BIT(TIMER_LINE);
  fota_bus_start();
}

uint64_t fota_ticks_ms(void) {
  SYSTIMER_UNIT0_OP = SYSTIMER_UPDATE;
  while ((SYSTIMER_UNIT0_OP & SYSTIMER_VALID) == 0) {
  }
  const uint64_t low = SYSTIMER_VALUE_LO;
  return ((uint64_t)SYSTIMER_VALUE_HI << 32 | low) / (TIMER_MHZ * 1000);
}

void fota_feed(void) {
  fota_port_feed();
}

/* The watchdog is the RTC's, whose stage 0 eFuses scale; the bootloader starts it if the settings
 * say so. */
uint32_t fota_longest_wait_ms(void) {
  const uint32_t scale = 1 + (EFUSE_DATA1 >> 16 & 3u);
  if (RTC_WDT_CONFIG0 == 0) return NO_WATCHDOG_MS;
  return RTC_WDT_CONFIG1 / (SLOW_HZ / 1000) << scale >> 1;
}
