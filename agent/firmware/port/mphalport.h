/* What MicroPython and its modules ask of a chip. */
#ifndef FOTA_FIRMWARE_MPHALPORT_H
#define FOTA_FIRMWARE_MPHALPORT_H

#include <stddef.h>
#include <stdint.h>

/* Milliseconds since the start of this boot, sleep included. Asked at least once in 49 days, which
 * `fota_feed` sees to: the watchdog does not give anybody so long. */
uint64_t fota_ticks_ms(void);

/* The watchdog starts to count anew. */
void fota_feed(void);

/* How long one wait may be until the next `fota_feed`: half of what the watchdog gives. */
uint32_t fota_longest_wait_ms(void);

static inline mp_uint_t mp_hal_ticks_ms(void) {
  return (mp_uint_t)fota_ticks_ms();
}

static inline void mp_hal_set_interrupt_char(int c) {
  (void)c; /* nobody types here */
}

#endif
