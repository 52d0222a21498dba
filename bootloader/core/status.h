/* Status codes of every part (SPEC 6): one registry, append only, never renumbered.
 *
 * A code is two letters of the module in the high half and a number in the low half.
 * Success is a wide constant, so that neither zeroed memory nor a stray pointer means "good". */
#ifndef FOTA_STATUS_H
#define FOTA_STATUS_H

#include <stdint.h>

typedef uint32_t fota_status_t;

#define FOTA_MODULE(a, b) (((a) << 24) | ((b) << 16))

/* X(constant, first letter, second letter, number, name for people) */
#define FOTA_STATUS_LIST(X)                                           \
  X(FOTA_IMAGE_MAGIC, 'I', 'M', 1, "image-magic")                     \
  X(FOTA_IMAGE_HEADER, 'I', 'M', 2, "image-header")                   \
  X(FOTA_IMAGE_SIZE, 'I', 'M', 3, "image-size")                       \
  X(FOTA_IMAGE_TLV, 'I', 'M', 4, "image-tlv")                         \
  X(FOTA_IMAGE_TLV_NOT_ALLOWED, 'I', 'M', 5, "image-tlv-not-allowed") \
  X(FOTA_IMAGE_HASH, 'I', 'M', 6, "image-hash")                       \
  X(FOTA_IMAGE_CLASS, 'I', 'M', 7, "image-class")                     \
  X(FOTA_IMAGE_KEY, 'I', 'M', 8, "image-key")                         \
  X(FOTA_IMAGE_KEY_RETIRED, 'I', 'M', 9, "image-key-retired")         \
  X(FOTA_IMAGE_SIGNATURE, 'I', 'M', 10, "image-signature")            \
  X(FOTA_IMAGE_DER, 'I', 'M', 11, "image-der")                        \
  X(FOTA_IMAGE_VECTOR, 'I', 'M', 12, "image-vector")                  \
  X(FOTA_IMAGE_CHIP, 'I', 'M', 13, "image-chip")                      \
  X(FOTA_IMAGE_REVISION, 'I', 'M', 14, "image-revision")              \
  X(FOTA_IMAGE_SEGMENT, 'I', 'M', 15, "image-segment")                \
  X(FOTA_ROLLBACK, 'P', 'O', 1, "rollback")                           \
  X(FOTA_COUNTER_STEP, 'P', 'O', 2, "counter-step")                   \
  X(FOTA_NO_IMAGE, 'P', 'O', 3, "no-image")                           \
  X(FOTA_TRIES_EXHAUSTED, 'P', 'O', 4, "tries-exhausted")             \
  X(FOTA_ELEMENT_ABSENT, 'C', 'E', 1, "element-absent")               \
  X(FOTA_ELEMENT_CRC, 'C', 'E', 2, "element-crc")                     \
  X(FOTA_ELEMENT_TIMEOUT, 'C', 'E', 3, "element-timeout")             \
  X(FOTA_ELEMENT_FORGED, 'C', 'E', 4, "element-forged")               \
  X(FOTA_ELEMENT_REFUSED, 'C', 'E', 5, "element-refused")             \
  X(FOTA_ELEMENT_SELF_TEST, 'C', 'E', 6, "element-self-test")         \
  X(FOTA_FLASH_PROGRAM, 'F', 'L', 1, "flash-program")                 \
  X(FOTA_FLASH_ERASE, 'F', 'L', 2, "flash-erase")                     \
  X(FOTA_FLASH_ECC, 'F', 'L', 3, "flash-ecc")                         \
  X(FOTA_JOURNAL_WRITE, 'J', 'O', 1, "journal-write")                 \
  X(FOTA_JOURNAL_IN_TRIAL, 'J', 'O', 2, "journal-in-trial")           \
  X(FOTA_JOURNAL_RUNNING_SLOT, 'J', 'O', 3, "journal-running-slot")   \
  X(FOTA_JOURNAL_NO_TRIAL, 'J', 'O', 4, "journal-no-trial")           \
  X(FOTA_SETTINGS, 'S', 'E', 1, "settings")                           \
  X(FOTA_RANDOM, 'R', 'N', 1, "random")                               \
  X(FOTA_SELF_TEST, 'A', 'P', 1, "self-test")                         \
  X(FOTA_HEALTH, 'A', 'P', 2, "health")                               \
  X(FOTA_NO_CHECK_IN, 'A', 'P', 3, "no-check-in")                     \
  X(FOTA_PARTITION_TABLE, 'P', 'T', 1, "partition-table")             \
  X(FOTA_OTA_DATA, 'O', 'D', 1, "ota-data")

#define FOTA_STATUS_ENUM_(id, a, b, number, name) id = FOTA_MODULE(a, b) | (number),
enum { FOTA_OK = 0x5a3c96e1, FOTA_STATUS_LIST(FOTA_STATUS_ENUM_) };

#define FOTA_MUST_USE __attribute__((warn_unused_result))

/* Leave the calling function with the status of `expr` unless it is FOTA_OK. */
#define FOTA_TRY(expr)                      \
  do {                                      \
    const fota_status_t status_ = (expr);   \
    if (status_ != FOTA_OK) return status_; \
  } while (0)

#endif
