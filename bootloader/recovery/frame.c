#include "recovery/frame.h"

#include "port.h"
#include "recovery/big_endian.h"

enum { IDLE, FIRST_MARK, NEXT_MARK, DIGITS };
enum {
  FIRST_0 = 0x06, /* marks of a first line */
  FIRST_1 = 0x09,
  NEXT_0 = 0x04, /* and of one that goes on */
  NEXT_1 = 0x14,
  LINE_GROUPS = 31, /* 124 digits: a line is at most 127 characters */
  NO_DIGIT = 0xff,
};

static uint16_t crc16(uint16_t crc, uint8_t byte) {
  crc ^= (uint16_t)(byte << 8);
  for (int bit = 0; bit < 8; bit++)
    crc = (uint16_t)(crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0));
  return crc;
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

/* A group is complete: three bytes, or fewer if it was padded. False if there is no room. */
static bool store_group(fota_frame_t *f) {
  const uint32_t count = 3u - f->padding;
  if (count > FOTA_FRAME_SIZE - f->size) return false;
  for (uint32_t i = 0; i < count; i++) {
    f->bytes[f->size] = (uint8_t)(f->group >> (16 - 8 * i));
    f->size++;
  }
  f->group = 0;
  f->digits = 0;
  return true;
}

/* False if the character cannot stand here. Padding ends the line's digits. */
static bool take_digit(fota_frame_t *f, uint8_t c) {
  uint8_t value = digit_value(c);
  if (c == '=' && f->digits >= 2) {
    f->padding++;
    value = 0;
  } else if (value == NO_DIGIT || f->padding != 0) {
    return false;
  }
  f->group = f->group << 6 | value;
  f->digits++;
  return f->digits < 4 || store_group(f);
}

static bool is_complete(const fota_frame_t *f) {
  uint16_t crc = 0;
  if (f->size < FOTA_FRAME_EXTRA || load_be16(f->bytes) != f->size - 2) return false;
  for (uint32_t i = 2; i < f->size - 2; i++)
    crc = crc16(crc, f->bytes[i]);
  return load_be16(f->bytes + f->size - 2) == crc;
}

/* The line is over: keeps an unfinished frame for the lines that follow. */
static bool end_line(fota_frame_t *f) {
  f->state = IDLE;
  if (f->digits != 0) {
    drop(f);
    return false;
  }
  if (f->size >= 2 && f->size < 2u + load_be16(f->bytes)) return false;
  if (is_complete(f)) return true;
  drop(f);
  return false;
}

static void start_line(fota_frame_t *f) {
  f->state = DIGITS;
  f->group = 0;
  f->digits = 0;
  f->padding = 0;
}

bool fota_frame_take(fota_frame_t *f, uint8_t byte) {
  const uint8_t state = f->state;
  if (state == DIGITS && byte == '\n') return end_line(f);
  if (state == DIGITS && (byte == '\r' || take_digit(f, byte))) return false;
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
  uint32_t group;
  uint32_t bytes;  /* in the group */
  uint32_t groups; /* in the line */
} line_t;

static void put_char(char c) {
  const char text[2] = {c, '\0'};
  fota_port_put(text);
}

static void put_mark(char first, char second) {
  put_char(first);
  put_char(second);
}

static void put_group(line_t *line) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (line->groups == LINE_GROUPS) {
    put_char('\n');
    put_mark(NEXT_0, NEXT_1);
    line->groups = 0;
  }
  for (uint32_t i = 0; i < 4; i++) {
    put_char(i <= line->bytes ? digits[line->group >> (18 - 6 * i) & 63] : '=');
  }
  line->groups++;
  line->group = 0;
  line->bytes = 0;
}

static void put_byte(line_t *line, uint8_t byte) {
  line->group |= (uint32_t)byte << (16 - 8 * line->bytes);
  line->bytes++;
  if (line->bytes == 3) put_group(line);
}

static void put_u16(line_t *line, uint32_t value) {
  put_byte(line, (uint8_t)(value >> 8));
  put_byte(line, (uint8_t)value);
}

void fota_frame_send(const uint8_t *message, uint32_t size) {
  line_t line = {0};
  uint16_t crc = 0;
  put_mark(FIRST_0, FIRST_1);
  put_u16(&line, size + 2);
  for (uint32_t i = 0; i < size; i++) {
    crc = crc16(crc, message[i]);
    put_byte(&line, message[i]);
  }
  put_u16(&line, crc);
  if (line.bytes != 0) put_group(&line);
  put_char('\n');
}
