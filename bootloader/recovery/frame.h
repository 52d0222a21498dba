/* SMP over a serial console: lines of base64 that carry one message.
 *
 *   06 09 <base64> \n  then, as often as needed,  04 14 <base64> \n
 *   decoded: length u16 | message | CRC-16 u16; length = message and CRC; all big endian
 *
 * CRC-16/XMODEM over the message. A line that is anything else is somebody's console output. */
#ifndef FOTA_FRAME_H
#define FOTA_FRAME_H

#include <stdbool.h>
#include <stdint.h>

enum {
  FOTA_FRAME_SIZE = 1024, /* bytes decoded, length and CRC included */
  FOTA_FRAME_EXTRA = 4,   /* the length and the CRC */
};

/* A frame on its way in. All zero = waiting for one. */
typedef struct fota_frame {
  uint8_t bytes[FOTA_FRAME_SIZE];
  uint32_t size; /* bytes decoded so far */
  uint32_t bits; /* of base64 digits that do not make a byte yet, in the low `count` */
  uint8_t count;
  bool padded; /* the line's digits are over */
  uint8_t state;
} fota_frame_t;

/* Takes one byte from the line. True if it completes a frame whose CRC is right: then the message
 * is fota_frame_message(), until the next call. Any error drops the frame silently. */
bool fota_frame_take(fota_frame_t *frame, uint8_t byte);

/* The message of a complete frame: `*size` bytes at the address returned. */
const uint8_t *fota_frame_message(const fota_frame_t *frame, uint32_t *size);

/* Sends `size` bytes of `message` over fota_port_put(). At most FOTA_FRAME_SIZE. */
void fota_frame_send(const uint8_t *message, uint32_t size);

#endif
