/* From reset.S to the program, and what Espressif's tools look for in an image. */
#include "start.h"

#include <stdint.h>
#include <string.h>

#include "port/esp32c3/descriptor.h"

extern uint8_t linker_bss_start[], linker_bss_end[];

FOTA_DESCRIPTOR("fota-agent", ""); /* the version is the FOTA block's */

noreturn void fota_begin(void);
noreturn void fota_begin(void) {
  memset(linker_bss_start, 0, (size_t)(linker_bss_end - linker_bss_start));
  fota_firmware_start();
  fota_run();
}
