/* One boot: carries out what policy.h decides, and says so in the report and on the console. */
#ifndef FOTA_BOOT_H
#define FOTA_BOOT_H

#include <stdint.h>
#include <stdnoreturn.h>

/* `reset_cause`: RCC_CSR bits 31..24 or their like (SPEC 4). Ends in an application or a halt. */
noreturn void fota_boot(uint8_t reset_cause);

#endif
