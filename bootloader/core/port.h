/* What the core needs of a chip and must not be redirected at run time: resolved by the linker. */
#ifndef FOTA_PORT_H
#define FOTA_PORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "flash.h"
#include "report.h"
#include "status.h"

extern const fota_flash_t *const fota_port_journal; /* the flash of the two journal pages */
extern const uint8_t fota_port_settings[];          /* the settings page */
extern fota_report_t fota_port_report;              /* in RAM that outlives the jump: SPEC 4 */
extern uint32_t fota_port_health;

/* True if an ECC fault was seen since the last call: some memory-mapped read gave wrong data. */
bool fota_port_ecc_fault(void);

/* Microseconds since power-up of the clock, waits included; wraps. */
uint32_t fota_port_time_us(void);

/* Sleeps at least `us` microseconds, at most 300,000. */
void fota_port_wait_us(uint32_t us);

/* 32 fresh bytes of the hardware random number generator; FOTA_RANDOM if it is not healthy. */
FOTA_MUST_USE fota_status_t fota_port_random(uint8_t random[32]);

/* Bus of the crypto element; `address` is the 7-bit form. FOTA_ELEMENT_ABSENT if it is not
 * acknowledged, or the bus is stuck. Bounded in time. */
FOTA_MUST_USE fota_status_t fota_port_bus_write(uint8_t address, const uint8_t *data,
                                                uint32_t length);
FOTA_MUST_USE fota_status_t fota_port_bus_read(uint8_t address, uint8_t *data, uint32_t length);

/* Frees a bus that is held in the middle of a byte, then pulls SDA low for at least 60 us. */
void fota_port_bus_wake(void);

/* The console; waits for room. */
void fota_port_put(const char *text);

/* The watchdog: resets the chip after `seconds` (1..30). It cannot be stopped. */
void fota_port_watchdog(uint32_t seconds);

/* Feeds the watchdog, if it runs (hardware may have started it at reset); never starts it. Whoever
 * begins something bounded calls this (a command to the element, a stretch of a hash, a pause), and
 * no loop that waits: half a second passes between two feeds at most, and a hang is never fed. */
void fota_port_feed(void);

/* Called before anything is written about the image at `base`, which is to boot. For chips whose
 * banks change places by a reset: does that, if need be, and does not return; the next boot comes
 * to the same choice and finds the image where it runs. The weak one of the core does nothing.
 * Harmless for an image that was not verified: nothing is taken over into the next boot. */
void fota_port_map(const uint8_t *base);

/* Hands the chip over to the image at `base`, as after reset. Refuses (by reset) unless `proof` is
 * FOTA_PROOF(base) and `base` is what is really mapped at the run address then. */
noreturn void fota_port_boot(const uint8_t *base, uint32_t proof);

/* Recovery, if one is linked (recovery/); the weak one of the core does nothing. Called with 0
 * before a boot, and with the reason before a halt. Returns if it is not wanted. */
void fota_recover(fota_status_t why);

/* Called right before a verified image is started. Does nothing unless the latch option is linked
 * in (latch/latch.c). */
void fota_release(void);

/* Stops until the watchdog resets the chip, which tries everything again. */
noreturn void fota_port_halt(void);

#endif
