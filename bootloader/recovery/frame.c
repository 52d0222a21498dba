#include "recovery/frame.h"

#include "port.h"
#include "recovery/big_endian.h"

enum { IDLE, FIRST_MARK, NEXT_MARK, DIGITS };
enum {
  FIRST_0 = 0x06, /* marks of a first line */
  FIRST_1 = 0x09,
  NEXT_0 = 0x04, /* and of one that goes on */
  NEXT_1 = 0x14,
  LINE_DIGITS = 124, /* whole groups of four; a line is at most 127 characters */
  NO_DIGIT = 0xff,
};

static uint32_t crc16(const uint8_t *data, uint32_t size) {
  uint32_t crc = 0;
  for (uint32_t i = 0; i < size; i++) {
    crc ^= (uint32_t)data[i] << 8;
    for (int bit = 0; bit < 8; bit++)
      crc = crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0);
  }
  return crc & 0xffff;
}

/* --- in --- */

static uint8_t digit_value(uint8_t c) {
  if (c >= 'A' && c <= 'Z') return (uint8_t)(c - 'A');
  if (c >= 'a' && c <= 'z') return (uint8_t)(c - 'a' + 26);
  if (c >= '0' && c <= '9') return (uint8_t)(c - '0' + 52);
  if (c == '+') return 62;
  return c == '/' ? 63 : NO_DIGIT;
}

static void drop(fota_frame_t *f) {
  f->size = 0;
  f->state = IDLE;
}

/* False if the character cannot stand here. */
static bool take_digit(fota_frame_t *f, uint8_t c) {
  const uint8_t value = digit_value(c);
  if (c == '=') f->padded = true;
  if (f->padded) return c == '=';
  if (value == NO_DIGIT) return false;
  f->bits = f->bits << 6 | value;
  f->count = (uint8_t)(f->count + 6);
  if (f->count < 8) return true;
  if (f->size == FOTA_FRAME_SIZE) return false;
  f->count = (uint8_t)(f->count - 8);
  f->bytes[f->size] = (uint8_t)(f->bits >> f->count);
  f->size++;
  return true;
}

static bool is_complete(const fota_frame_t *f) {
  if (f->size < FOTA_FRAME_EXTRA || load_be16(f->bytes) != f->size - 2) return false;
  const uint8_t *const end = f->bytes + f->size;
  return crc16(f->bytes + 2, f->size - FOTA_FRAME_EXTRA) == load_be16(end - 2);
}

/* The line is over: keeps an unfinished frame for the lines that follow. */
static bool end_line(fota_frame_t *f) {
  f->state = IDLE;
  if (f->size >= 2 && f->size < 2u + load_be16(f->bytes)) return false;
  if (is_complete(f)) return true;
  drop(f);
  return false;
}

static void start_line(fota_frame_t *f) {
  f->state = DIGITS;
  f->count = 0;
  f->padded = false;
}

bool fota_frame_take(fota_frame_t *f, uint8_t byte) {
  const uint8_t state = f->state;
  if (state == DIGITS && byte == '\n') return end_line(f);
  if (state == DIGITS && (byte == '\r' || take_digit(f, byte))) return false;
  if (state == DIGITS) drop(f); /* cut off in the middle of a line */
  if (state == FIRST_MARK && byte == FIRST_1) {
    f->size = 0;
    start_line(f);
  } else if (state == NEXT_MARK && byte == NEXT_1 && f->size != 0) {
    start_line(f);
  } else if (byte == FIRST_0) {
    f->state = FIRST_MARK;
  } else if (byte == NEXT_0) {
    f->state = NEXT_MARK;
  } else {
    drop(f);
  }
  return false;
}

const uint8_t *fota_frame_message(const fota_frame_t *frame, uint32_t *size) {
  *size = frame->size - FOTA_FRAME_EXTRA;
  return frame->bytes + 2;
}

/* --- out --- */

typedef struct line {
  uint32_t bits; /* that were not sent yet, in the low `count` */
  uint32_t count;
  uint32_t digits; /* in the line */
} line_t;

static char digit_of(uint32_t value) {
  if (value < 26) return (char)('A' + value);
  if (value < 52) return (char)('a' + value - 26);
  if (value < 62) return (char)('0' + value - 52);
  return value == 62 ? '+' : '/';
}

static void put_char(line_t *line, char c) {
  const char text[2] = {c, '\0'};
  if (line->digits == LINE_DIGITS) {
    fota_port_put("\n\x04\x14");
    line->digits = 0;
  }
  fota_port_put(text);
  line->digits++;
}

static void put_byte(line_t *line, uint8_t byte) {
  line->bits = line->bits << 8 | byte;
  line->count += 8;
  while (line->count >= 6) {
    line->count -= 6;
    put_char(line, digit_of(line->bits >> line->count & 63));
  }
}

static void put_rest(line_t *line) {
  if (line->count != 0) put_char(line, digit_of(line->bits << (6 - line->count) & 63));
  while (line->digits % 4 != 0)
    put_char(line, '=');
}

static void put_u16(line_t *line, uint32_t value) {
  put_byte(line, (uint8_t)(value >> 8));
  put_byte(line, (uint8_t)value);
}

void fota_frame_send(const uint8_t *message, uint32_t size) {
  line_t line = {0};
  fota_port_put("\x06\x09");
  put_u16(&line, size + 2);
  for (uint32_t i = 0; i < size; i++)
    put_byte(&line, message[i]);
  put_u16(&line, crc16(message, size));
  put_rest(&line);
  fota_port_put("\n");
}
