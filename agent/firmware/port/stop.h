/* How this firmware ends, whatever went wrong. */
#ifndef FOTA_FIRMWARE_STOP_H
#define FOTA_FIRMWARE_STOP_H

#include <stdnoreturn.h>

/* Prints why, and waits for the watchdog. A firmware in its trial counts the tries down this way, a
 * confirmed one starts again after up to 16 s: no fast loop of crashes. */
noreturn void fota_stop(const char *why);

#endif
