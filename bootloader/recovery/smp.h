/* The Simple Management Protocol as far as recovery needs it: one request in, one response out.
 *
 *   message: op and version u8 | flags u8 | length u16 | group u16 | sequence u8 | command u8,
 *            big endian, then `length` bytes of CBOR: one map
 *
 *   group command  request  what it does
 *   0     0        write    echo: {"d": text} -> {"r": text}
 *   0     5        write    reset, after the response
 *   0     6        read     parameters: {"buf_size", "buf_count"}
 *   1     0        read     images: {"images": [{"slot", "version", "hash", ...}]}
 *   1     1        write    upload: {"off", "data", and with off 0: "len", "sha"} -> {"off"}
 *
 * Everything else, and every error, is answered with {"rc": code}. */
#ifndef FOTA_SMP_H
#define FOTA_SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "recovery/upload.h"

enum { FOTA_SMP_RESPONSE_SIZE = 256 };

typedef struct fota_smp {
  fota_upload_t upload;
  bool reset; /* was asked for */
  uint8_t response[FOTA_SMP_RESPONSE_SIZE];
} fota_smp_t;

/* Carries out a request and puts the answer into `smp->response`. Returns the answer's size; 0 if
 * the message is no request that could be answered. */
uint32_t fota_smp_answer(fota_smp_t *smp, const uint8_t *message, uint32_t size);

#endif
