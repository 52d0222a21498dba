/* Bound: none. One byte more, whatever came before: what holds before it holds after it.
 * Sources:
 * Unwind: 1022 */
#include "recovery/frame.c" /* for its states; the CRC below takes the place of its own */

#include "prove.h"

static bool sound(const fota_frame_t *f) {
  return f->size <= FOTA_FRAME_SIZE && f->state <= DIGITS && (f->state != DIGITS || f->count < 8);
}

int main(void) {
  static fota_frame_t frame;
  frame.size = ANY(uint32_t);
  frame.bits = ANY(uint32_t);
  frame.count = ANY(uint8_t);
  frame.padded = ANY(bool);
  frame.state = ANY(uint8_t);
  __CPROVER_havoc_object(frame.bytes);
  ASSUME(sound(&frame));
  const bool complete = fota_frame_take(&frame, ANY(uint8_t));
  PROVE(sound(&frame), "the decoder's state stays sound");
  if (!complete) return 0;
  uint32_t size;
  const uint8_t *message = fota_frame_message(&frame, &size);
  PROVE(size <= FOTA_FRAME_SIZE - FOTA_FRAME_EXTRA, "the message fits");
  PROVE(__CPROVER_r_ok(message, size), "the message lies in the frame");
}
