/* What MicroPython and its modules ask of a chip. */
#ifndef FOTA_FIRMWARE_MPHALPORT_H
#define FOTA_FIRMWARE_MPHALPORT_H

#include <stddef.h>
#include <stdint.h>

/* Milliseconds since the start of this boot, sleep included; to be called at least every 89 s. */
uint64_t fota_ticks_ms(void);

static inline mp_uint_t mp_hal_ticks_ms(void) {
  return (mp_uint_t)fota_ticks_ms();
}

static inline void mp_hal_set_interrupt_char(int c) {
  (void)c; /* nobody types here */
}

#endif
