/* Requests, without their frames. Input: confirmed slot | [length u8 | message]... */
#include "recovery/smp.h"

#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "recovery/frame.h"
#include "recovery_host.h"

/* What is sent is what a decoder of frames gets back. */
static void check_frame(const fota_smp_t *smp, uint32_t size) {
  static fota_frame_t frame;
  memset(&frame, 0, sizeof frame);
  console_size = 0;
  fota_frame_send(smp->response, size);
  bool complete = false;
  for (uint32_t i = 0; i < console_size; i++) {
    complete = fota_frame_take(&frame, (uint8_t)console[i]);
  }
  uint32_t got;
  const uint8_t *message = fota_frame_message(&frame, &got);
  CHECK(complete && got == size && memcmp(message, smp->response, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static fota_smp_t smp;
  if (size == 0) return 0;
  host_start(&smp, data[0]);
  for (size_t at = 1; at < size;) {
    const size_t length = data[at] < size - at - 1 ? data[at] : size - at - 1;
    uint8_t *message = malloc(length + (length == 0));
    memcpy(message, data + at + 1, length);
    const uint32_t answer = fota_smp_answer(&smp, message, (uint32_t)length);
    free(message);
    CHECK(answer == 0 || (answer >= 8 && answer <= FOTA_SMP_RESPONSE_SIZE));
    CHECK(smp.upload.offset <= smp.upload.length && smp.upload.length <= SLOT_SIZE);
    if (answer != 0) check_frame(&smp, answer);
    at += 1 + length;
  }
  return 0;
}
