/* I2C0: the crypto element's bus. The controller works through a list of commands; its FIFOs hold
 * 32 bytes, so that longer transfers stop in between (END) and go on with a new list. */
#include "port.h"
#include "port/esp32c3/chip.h"
#include "port/esp32c3/registers.h"

enum {
  FIFO = 32,
  PATIENCE_US = 30000, /* for a part: 33 bytes at 100 kHz take 3 ms, a clock stretch some more */
  FREE_US = 200,       /* nine clocks */
  FAST_HZ = 400000,
  WAKE_HZ = 100000, /* address 0 holds SDA low for eight bits, 80 us */
  FAILED = 1 << 30, /* no flag of the controller */
};

static void update(void) {
  I2C0_CTR |= I2C_UPDATE;
}

/* Timing as ESP-IDF has it, from the crystal, undivided. */
static void set_speed(uint32_t hz) {
  const uint32_t half = XTAL_HZ / hz / 2;
  const uint32_t wait_high = hz >= 80000 ? half / 2 - 2 : half / 4;
  I2C0_CLK_CONF = I2C_SCLK_ACTIVE;
  I2C0_SCL_LOW = half - 1;
  I2C0_SCL_HIGH = (half - wait_high) | wait_high << 9;
  I2C0_SDA_HOLD = half / 4 - 1;
  I2C0_SDA_SAMPLE = half / 2 - 1;
  I2C0_START_HOLD = half - 1;
  I2C0_RSTART_SETUP = half - 1;
  I2C0_STOP_HOLD = half - 1;
  I2C0_STOP_SETUP = half - 1;
  I2C0_TIMEOUT = I2C_TIMEOUT_ON | 20; /* 2^20 of its clocks: 26 ms */
  update();
}

static void reset_state(void) {
  I2C0_CTR = I2C_OPEN_DRAIN | I2C_MASTER | I2C_FSM_RESET;
  I2C0_CTR = I2C_OPEN_DRAIN | I2C_MASTER;
}

static void connect(uint32_t pin, uint32_t signal) {
  GPIO_OUT_W1TS = BIT(pin);
  GPIO_PIN(pin) = GPIO_PIN_OPEN_DRAIN;
  IO_MUX_PIN(pin) = IO_MUX_I2C;
  GPIO_OUT_SEL(pin) = signal;
  GPIO_IN_SEL(signal) = GPIO_IN_MATRIX | pin;
  GPIO_ENABLE_W1TS = BIT(pin);
}

static void disconnect(uint32_t pin, uint32_t signal) {
  GPIO_ENABLE_W1TC = BIT(pin);
  GPIO_OUT_SEL(pin) = GPIO_OUT_PLAIN;
  GPIO_IN_SEL(signal) = 0;
  GPIO_PIN(pin) = 0;
}

void fota_bus_start(void) {
  SYSTEM_CLK_EN0 |= EN0_I2C0;
  SYSTEM_RST_EN0 &= ~EN0_I2C0;
  connect(BOARD_SCL, SIGNAL_SCL);
  connect(BOARD_SDA, SIGNAL_SDA);
  reset_state();
  set_speed(FAST_HZ);
}

void fota_bus_stop(void) {
  disconnect(BOARD_SDA, SIGNAL_SDA);
  disconnect(BOARD_SCL, SIGNAL_SCL);
  SYSTEM_RST_EN0 |= EN0_I2C0;
  SYSTEM_RST_EN0 &= ~EN0_I2C0;
  SYSTEM_CLK_EN0 &= ~EN0_I2C0;
}

/* Starts the list and waits for `done`; what came instead otherwise. */
static uint32_t run(uint32_t done) {
  const uint32_t bad = I2C_NACK | I2C_TIMED_OUT | I2C_ARBITRATION_LOST;
  const uint32_t start_us = fota_port_time_us();
  I2C0_INT_CLR = ~0u;
  update();
  I2C0_CTR |= I2C_START;
  do {
    const uint32_t raw = I2C0_INT_RAW;
    if (raw & bad) return raw & bad;
    if (raw & done) return done;
  } while (fota_port_time_us() - start_us < PATIENCE_US);
  return FAILED;
}

static void begin(void) {
  I2C0_FIFO_CONF |= I2C_FIFO_RESET;
  I2C0_FIFO_CONF &= ~I2C_FIFO_RESET;
}

/* After a NACK the controller leaves the bus without STOP: a list of STOP alone ends the transfer.
 */
static fota_status_t finish(uint32_t seen) {
  if (seen == I2C_COMPLETE) return FOTA_OK;
  I2C0_COMMAND(0) = I2C_OP(I2C_STOP, 0);
  if (seen != I2C_NACK || run(I2C_COMPLETE) != I2C_COMPLETE) {
    reset_state();
    set_speed(FAST_HZ);
  }
  return FOTA_ELEMENT_ABSENT;
}

fota_status_t fota_port_bus_write(uint8_t address, const uint8_t *data, uint32_t length) {
  uint32_t first = 1; /* the first part has RESTART before it, and the address in it */
  begin();
  I2C0_DATA = (uint32_t)address << 1;
  I2C0_COMMAND(0) = I2C_OP(I2C_RESTART, 0);
  for (;;) {
    const uint32_t room = FIFO - first;
    const uint32_t part = length < room ? length : room;
    for (uint32_t i = 0; i < part; i++)
      I2C0_DATA = data[i];
    data += part;
    length -= part;
    I2C0_COMMAND(first) = I2C_OP(I2C_WRITE, first + part) | I2C_ACK_CHECK;
    I2C0_COMMAND(first + 1) = I2C_OP(length == 0 ? I2C_STOP : I2C_END, 0);
    const uint32_t done = length == 0 ? I2C_COMPLETE : I2C_END_DETECT;
    const uint32_t seen = run(done);
    if (seen != done || length == 0) return finish(seen);
    first = 0;
  }
}

fota_status_t fota_port_bus_read(uint8_t address, uint8_t *data, uint32_t length) {
  uint32_t n = 2; /* where in the list the reading begins */
  begin();
  I2C0_DATA = (uint32_t)address << 1 | 1;
  I2C0_COMMAND(0) = I2C_OP(I2C_RESTART, 0);
  I2C0_COMMAND(1) = I2C_OP(I2C_WRITE, 1) | I2C_ACK_CHECK;
  while (length != 0) {
    const uint32_t part = length < FIFO ? length : FIFO;
    const bool last = part == length;
    const uint32_t acked = last ? part - 1 : part; /* the very last byte is answered with NACK */
    if (acked != 0) {
      I2C0_COMMAND(n) = I2C_OP(I2C_READ, acked);
      n++;
    }
    if (last) {
      I2C0_COMMAND(n) = I2C_OP(I2C_READ, 1) | I2C_ACK_NONE;
      n++;
    }
    I2C0_COMMAND(n) = I2C_OP(last ? I2C_STOP : I2C_END, 0);
    const uint32_t done = last ? I2C_COMPLETE : I2C_END_DETECT;
    const uint32_t seen = run(done);
    if (seen != done) return finish(seen);
    for (uint32_t i = 0; i < part; i++)
      data[i] = (uint8_t)I2C0_DATA;
    data += part;
    length -= part;
    n = 0;
  }
  return FOTA_OK;
}

/* A slave that we left in the middle of a byte (watchdog reset) lets go of SDA within nine clocks.
 */
static void free_bus(void) {
  reset_state();
  I2C0_SCL_SP_CONF = I2C_RST_SLAVE | I2C_RST_PULSES(9);
  update();
  fota_port_wait_us(FREE_US);
  I2C0_SCL_SP_CONF = 0;
  update();
}

void fota_port_bus_wake(void) {
  set_speed(WAKE_HZ);
  free_bus();
  const fota_status_t nobody = fota_port_bus_write(0, (const uint8_t *)"", 0);
  (void)nobody; /* nobody acknowledges address 0 */
  reset_state();
  set_speed(FAST_HZ);
}
