/* ESP32-C3: clocks, watchdogs, time, console. */
#include "port/esp32c3/chip.h"

#include "port.h"
#include "port/esp32c3/registers.h"
#include "port/esp32c3/rom.h"
#include "port/esp32c3/segments.h"

enum {
  START_WATCHDOG_S = 8, /* until the settings are read */
  TIMER_LINE = 5,       /* CPU interrupt line that ends a wait */
  USB_PATIENCE = 20000, /* register reads for one byte: nobody may listen there */
  CONSOLE_BAUD = 115200,
  WAKE_CAUSE = 5,
};

fota_chip_t fota_chip;

static bool watchdog_wanted; /* somebody asked for it: it runs on in the application */

/* --- watchdogs --- */

static void rtc_watchdog(uint32_t seconds) {
  /* eFuses scale stage 0: by two at least */
  const uint32_t scale = 1 + (EFUSE_DATA1 >> 16 & 3u);
  RTC_WDT_PROTECT = WDT_KEY;
  RTC_WDT_CONFIG1 = seconds * SLOW_HZ >> scale;
  RTC_WDT_CONFIG0 = RTC_WDT_ON;
  RTC_WDT_FEED = WDT_FEED_NOW;
  RTC_WDT_PROTECT = 0;
}

static void rtc_watchdog_off(void) {
  RTC_WDT_PROTECT = WDT_KEY;
  RTC_WDT_CONFIG0 = 0;
  RTC_WDT_PROTECT = 0;
}

/* The mask ROM leaves all three as reset does, in their flash boot mode, where seconds are all that
 * one has. One is ours from here on; the others are what ESP-IDF leaves to an application. */
static void take_watchdogs(void) {
  rtc_watchdog(START_WATCHDOG_S);
  TIMG0_WDT_PROTECT = WDT_KEY;
  TIMG0_WDT_CONFIG0 = (TIMG0_WDT_CONFIG0 & ~TIMG_FLASH_BOOT) | TIMG_UPDATE;
  TIMG0_WDT_PROTECT = 0;
  RTC_SWD_PROTECT = SWD_KEY;
  RTC_SWD_CONF |= SWD_AUTO_FEED;
  RTC_SWD_PROTECT = 0;
}

void fota_port_watchdog(uint32_t seconds) {
  watchdog_wanted = true;
  rtc_watchdog(seconds);
}

void fota_port_feed(void) {
  RTC_WDT_PROTECT = WDT_KEY;
  RTC_WDT_FEED = WDT_FEED_NOW;
  RTC_WDT_PROTECT = 0;
}

noreturn void fota_port_halt(void) {
  INT_ENABLE = 0;
  for (;;) {
    /* the second branch is for the fault that skips the first */
    __asm__ volatile("0: wfi\n\tj 0b\n\tj 0b");
  }
}

/* Also where any trap goes: what led there was not good, and a hang would be for ever. */
noreturn void fota_chip_restart(void) {
  for (;;)
    RTC_OPTIONS0 |= OPTIONS0_RESET;
}

/* --- clocks --- */

/* From the crystal to 80 MHz. The mask ROM has the PLL at 480 MHz for USB: confirm on silicon. */
static void take_pll(void) {
  SYSTEM_CPU_PER_CONF = CPU_PER_PLL_480;
  SYSTEM_SYSCLK_CONF = (SYSTEM_SYSCLK_CONF & ~SYSCLK_SEL) | SYSCLK_PLL;
  ets_update_cpu_frequency(CORE_MHZ);
  /* applications read here what the clocks are */
  RTC_STORE4 = 0x00010001u * (XTAL_HZ / 1000000);
  RTC_STORE5 = 0x00010001u * (CORE_MHZ * 1000000u >> 12);
}

static void read_efuses(void) {
  const uint32_t minor = (EFUSE_SYS5 >> 23 & 1u) << 3 | (EFUSE_SYS3 >> 18 & 7u);
  fota_chip.revision = (EFUSE_SYS5 >> 24 & 3u) * 100 + minor;
  fota_chip.block = (EFUSE_PART1_4 & 3u) * 100 + (EFUSE_SYS3 >> 24 & 7u);
  fota_chip.no_upper = EFUSE_DATA4 & 3u;
}

void fota_chip_start(void) {
  take_watchdogs();
  take_pll();
  UART0_CLK_CONF |= UART_CLOCK_XTAL;
  uart_div_modify(0, XTAL_HZ / (CONSOLE_BAUD / 16));
  SYSTEM_CLK_EN1 |= EN1_SHA;
  SYSTEM_RST_EN1 &= ~(EN1_SHA | EN1_DS_HMAC);
  SYSTIMER_CONF |= SYSTIMER_TARGET0_ON;
  SYSTIMER_INT_ENA = 1;
  INT_MAP_SYSTIMER0 = TIMER_LINE;
  INT_PRIORITY(TIMER_LINE) = 1;
  INT_THRESHOLD = 1;
  INT_ENABLE = BIT(TIMER_LINE);
  read_efuses();
  fota_bus_start();
}

void fota_chip_stop(void) {
  fota_bus_stop();
  uart_tx_wait_idle(0);
  INT_ENABLE = 0;
  INT_MAP_SYSTIMER0 = 0;
  INT_PRIORITY(TIMER_LINE) = 0;
  INT_THRESHOLD = 0;
  SYSTIMER_INT_ENA = 0;
  SYSTIMER_INT_CLR = 1;
  SYSTIMER_CONF &= ~SYSTIMER_TARGET0_ON;
  if (!watchdog_wanted) rtc_watchdog_off();
}

/* --- reset cause --- */

uint32_t fota_chip_woke(void) {
  return (RTC_RESET_STATE & 0x3f) == WAKE_CAUSE;
}

uint8_t fota_chip_reset_cause(void) {
  enum {
    OTHER = 0x01,
    PIN = 0x04,
    BROWN_OUT = 0x08,
    SOFTWARE = 0x10,
    WATCHDOG = 0x20,
    OTHER_WATCHDOG = 0x40,
    SLEEP = 0x80
  }; /* clang-format off */
  static const uint8_t causes[0x18] = {
      [0x01] = PIN | BROWN_OUT, /* power-on */
      [0x03] = SOFTWARE,        [0x05] = SLEEP,
      [0x07] = OTHER_WATCHDOG,  [0x08] = OTHER_WATCHDOG,
      [0x09] = WATCHDOG,        [0x0b] = OTHER_WATCHDOG,
      [0x0c] = SOFTWARE,        [0x0d] = WATCHDOG,
      [0x0f] = BROWN_OUT,       [0x10] = WATCHDOG,
      [0x11] = OTHER_WATCHDOG,  [0x12] = OTHER_WATCHDOG,
      [0x13] = OTHER,           [0x14] = OTHER,
      [0x15] = PIN,             [0x16] = PIN, /* by USB */
      [0x17] = BROWN_OUT,
  }; /* clang-format on */
  const uint32_t cause = RTC_RESET_STATE & 0x3f;
  return cause < sizeof causes && causes[cause] != 0 ? causes[cause] : (uint8_t)OTHER;
}

/* --- time --- */

static void read_timer(uint32_t *high, uint32_t *low) {
  SYSTIMER_UNIT0_OP = SYSTIMER_UPDATE;
  while ((SYSTIMER_UNIT0_OP & SYSTIMER_VALID) == 0) {
  }
  *low = SYSTIMER_VALUE_LO;
  *high = SYSTIMER_VALUE_HI;
}

uint32_t fota_port_time_us(void) {
  uint32_t high, low;
  read_timer(&high, &low);
  return low / TIMER_MHZ | high * (uint32_t)(0x100000000u / TIMER_MHZ);
}

/* WFI wakes though interrupts are not taken (RISC-V privileged specification): confirm on silicon.
 * A comparator that does not run would never wake it: rather too short a wait than one for ever. */
void fota_port_wait_us(uint32_t us) {
  uint32_t high, low;
  SYSTIMER_INT_CLR = 1;
  read_timer(&high, &low);
  const uint32_t end = low + us * TIMER_MHZ;
  SYSTIMER_TARGET0_HI = high + (end < low);
  SYSTIMER_TARGET0_LO = end;
  SYSTIMER_TARGET0_CONF = 0; /* once, by unit 0 */
  SYSTIMER_COMP0_LOAD = 1;
  while ((SYSTIMER_INT_RAW & 1) == 0 && (SYSTIMER_CONF & SYSTIMER_TARGET0_ON) != 0)
    __asm__ volatile("wfi");
  SYSTIMER_INT_CLR = 1;
}

/* --- console --- */

static void put_usb(uint8_t byte) {
  uint32_t patience = USB_PATIENCE;
  while ((USB_EP1_CONF & USB_IN_FREE) == 0 && --patience != 0) {
  }
  if (patience == 0) return;
  USB_EP1 = byte;
  if (byte == '\n') USB_EP1_CONF = USB_WRITE_DONE;
}

void fota_port_put(const char *text) {
  for (; *text != '\0'; text++) {
    while ((UART0_STATUS & UART_TX_COUNT) >= UART_TX_ROOM) {
    }
    UART0_FIFO = (uint8_t)*text;
    if (BOARD_CONSOLE_USB) put_usb((uint8_t)*text);
  }
}

bool fota_port_ecc_fault(void) {
  return false; /* this flash has no ECC: what is torn is told by CRC and hash */
}
