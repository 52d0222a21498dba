/* The modem at UART1: the number of a register, plus one to write it, then its four bytes, little
 * endian, from whoever has them. DATA has LENGTH bytes instead.
 *
 * One that does not answer in time is not waited for again: its connection is broken, until it
 * says who it is (MODEM_ID). */
#include "core/port.h"
#include "modem.h"
#include "port/esp32c3/registers.h"
#include "py/mphal.h"

enum {
  WRITE = 1,
  BAUD = 921600,
  TX_PIN = 7,
  RX_PIN = 10,
  SIGNAL_U1TX = 9,
  SIGNAL_U1RX = 9,
  LOOK_US = 500,
  NAME_MS = 1000,    /* until the modem has said who it is */
  ANSWER_MS = 90000, /* until it has done what it was told: to connect takes TCP 75 s at most */
};
#define EN0_UART1 BIT(5)
#define UART1_FIFO REG(0x60010000)
#define UART1_CLKDIV REG(0x60010014)
#define UART1_STATUS REG(0x6001001c)
#define UART1_CLK_CONF REG(0x60010078)
#define UART1_ID REG(0x60010080)
#define UART_CLOCK_ON BIT(22)
#define UART_UPDATE BIT(31) /* settings take effect in the clock domain of the line */
#define IO_MUX_OUTPUT (1u << 12)
#define IO_MUX_INPUT (1u << 12 | BIT(9) | BIT(8))

static bool started;

static void start(void) {
  started = true;
  SYSTEM_CLK_EN0 |= EN0_UART1;
  SYSTEM_RST_EN0 &= ~EN0_UART1;
  UART1_CLK_CONF = UART_CLOCK_XTAL | UART_CLOCK_ON;
  UART1_CLKDIV = XTAL_HZ / BAUD | (XTAL_HZ * 16u / BAUD % 16) << 20;
  UART1_ID |= UART_UPDATE;
  IO_MUX_PIN(TX_PIN) = IO_MUX_OUTPUT;
  GPIO_OUT_SEL(TX_PIN) = SIGNAL_U1TX;
  GPIO_ENABLE_W1TS = BIT(TX_PIN);
  IO_MUX_PIN(RX_PIN) = IO_MUX_INPUT;
  GPIO_IN_SEL(SIGNAL_U1RX) = GPIO_IN_MATRIX | RX_PIN;
}

static void put(uint8_t byte) {
  if (!started) start();
  while ((UART1_STATUS & UART_TX_COUNT) >= UART_TX_ROOM) {
  }
  UART1_FIFO = byte;
}

static bool silent;

static bool is_empty(void) {
  return (UART1_STATUS & UART_RX_COUNT) == 0;
}

static uint8_t get(uint32_t longest_ms) {
  if (!silent && is_empty()) { /* the time costs more to read than a byte */
    const uint64_t end = fota_ticks_ms() + longest_ms;
    while (!silent && is_empty()) {
      fota_feed();
      fota_port_wait_us(LOOK_US);
      silent = fota_ticks_ms() >= end;
    }
  }
  return silent ? 0 : (uint8_t)UART1_FIFO;
}

/* What came too late for whoever asked is not the answer to the next question. */
static void begin_anew(void) {
  silent = false;
  while (!is_empty())
    (void)UART1_FIFO;
}

uint32_t fota_modem_get(uint32_t reg) {
  uint32_t value = 0;
  if (reg == MODEM_ID) begin_anew();
  put((uint8_t)reg);
  for (uint32_t shift = 0; shift < 32; shift += 8)
    value |= (uint32_t)get(reg == MODEM_ID ? NAME_MS : ANSWER_MS) << shift;
  if (!silent) return value;
  return reg == MODEM_STATUS ? MODEM_BROKEN : 0;
}

void fota_modem_set(uint32_t reg, uint32_t value) {
  put((uint8_t)(reg | WRITE));
  for (uint32_t shift = 0; shift < 32; shift += 8)
    put((uint8_t)(value >> shift));
}

void fota_modem_push(const uint8_t *from, size_t length) {
  fota_modem_set(MODEM_LENGTH, length);
  put(MODEM_DATA | WRITE);
  for (size_t at = 0; at < length; at++)
    put(from[at]);
}

void fota_modem_pull(uint8_t *to, size_t length) {
  fota_modem_set(MODEM_LENGTH, length);
  put(MODEM_DATA);
  for (size_t at = 0; at < length; at++)
    to[at] = get(ANSWER_MS);
}
