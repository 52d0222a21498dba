/* The sample application on an ESP32-C3: start-up, console, ticks, as the bootloader leaves the
 * chip. */
#include <string.h>

#include "bytes.h"
#include "port.h"
#include "port/esp32c3/descriptor.h"
#include "port/esp32c3/journal_flash.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/registers.h"
#include "port/esp32c3/segments.h"
#include "sample/board.h"
#include "sha256.h"

enum {
  TIMER_LINE = 5,
  CHUNK = 256,
  HASH_SIZE = 32,
};

FOTA_DESCRIPTOR("fota-sample", APP_VERSION);

static volatile uint32_t tick_ms = 100; /* with a value: it comes in a segment of data */
static uint32_t next_tick;              /* low word of the system timer */

static uint32_t now(void) {
  SYSTIMER_UNIT0_OP = SYSTIMER_UPDATE;
  while ((SYSTIMER_UNIT0_OP & SYSTIMER_VALID) == 0) {
  }
  return SYSTIMER_VALUE_LO;
}

void board_start(void) {
  SYSTIMER_CONF |= SYSTIMER_TARGET0_ON;
  SYSTIMER_INT_ENA = 1;
  INT_MAP_SYSTIMER0 = TIMER_LINE;
  INT_PRIORITY(TIMER_LINE) = 1;
  INT_THRESHOLD = 1;
  INT_ENABLE = BIT(TIMER_LINE); /* it only ends a WFI: interrupts are off */
  next_tick = now();
}

void board_put(char byte) {
  while ((UART0_STATUS & UART_TX_COUNT) >= UART_TX_ROOM) {
  }
  UART0_FIFO = (uint8_t)byte;
}

int board_get(void) {
  return UART0_STATUS & UART_RX_COUNT ? (int)(UART0_FIFO & 0xff) : -1;
}

void board_wait_tick(void) {
  next_tick += tick_ms * 1000 * TIMER_MHZ;
  (void)now();
  SYSTIMER_INT_CLR = 1;
  SYSTIMER_TARGET0_HI = SYSTIMER_VALUE_HI + (next_tick < SYSTIMER_VALUE_LO);
  SYSTIMER_TARGET0_LO = next_tick;
  SYSTIMER_TARGET0_CONF = 0;
  SYSTIMER_COMP0_LOAD = 1;
  while ((SYSTIMER_INT_RAW & 1) == 0)
    __asm__ volatile("wfi");
}

noreturn void board_restart(void) {
  for (;;)
    RTC_OPTIONS0 |= OPTIONS0_RESET;
}

void fota_port_feed(void) {
  RTC_WDT_PROTECT = WDT_KEY; /* no effect unless the bootloader started it */
  RTC_WDT_FEED = WDT_FEED_NOW;
  RTC_WDT_PROTECT = 0;
}

/* --- the image in flash --- */

/* Bytes up to the signature sector, of the image whose segments begin behind its header. */
static uint32_t covered(uint32_t slot) {
  uint32_t word[2];
  uint32_t at = FOTA_SEGMENTS_START;
  if (fota_spi_read(slot, word, 4) != FOTA_OK) return 0;
  for (uint32_t left = word[0] >> 8 & 0xff; left != 0; left--) {
    if (fota_spi_read(slot + at, word, 8) != FOTA_OK) return 0;
    at += 8 + word[1];
  }
  at = (at + 16) / 16 * 16 + HASH_SIZE;
  return (at + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
}

void board_image_digest(uint8_t digest[32]) {
  const uint32_t slot = MMU_TABLE(MMU_ENTRIES - 1) * MMU_PAGE; /* the bootloader left it there */
  const uint32_t size = covered(slot);
  uint32_t chunk[CHUNK / 4];
  fota_sha256_t sha;
  fota_sha256_init(&sha);
  for (uint32_t at = 0; at < size; at += CHUNK) {
    if (at % MMU_PAGE == 0) fota_port_feed();
    if (fota_spi_read(slot + at, chunk, CHUNK) != FOTA_OK) break;
    fota_sha256_update(&sha, chunk, CHUNK);
  }
  fota_sha256_final(&sha, digest);
}

/* --- start-up: app_reset in sample_start.S comes here --- */

extern uint8_t linker_bss_start[], linker_bss_end[];

noreturn void app_start(void);
noreturn void app_start(void) {
  memset(linker_bss_start, 0, (size_t)(linker_bss_end - linker_bss_start));
  app_main();
}
