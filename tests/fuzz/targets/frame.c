/* The decoder of frames, byte by byte, and what is in a frame that it lets through. */
#include "recovery/frame.h"

#include <string.h>

#include "fuzz.h"
#include "recovery_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static fota_frame_t frame;
  static fota_smp_t smp;
  memset(&frame, 0, sizeof frame);
  host_start(&smp, FOTA_SLOT_A);
  for (size_t i = 0; i < size; i++) {
    if (!fota_frame_take(&frame, data[i])) continue;
    uint32_t length;
    const uint8_t *message = fota_frame_message(&frame, &length);
    CHECK(length <= FOTA_FRAME_SIZE - FOTA_FRAME_EXTRA);
    CHECK(message == frame.bytes + 2);
    (void)fota_smp_answer(&smp, message, length);
  }
  CHECK(frame.size <= FOTA_FRAME_SIZE);
  return 0;
}
