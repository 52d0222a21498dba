/* Taking the chip over from reset, and handing it on as if from reset. */
#ifndef FOTA_STM32_CHIP_H
#define FOTA_STM32_CHIP_H

#include <stdnoreturn.h>

void fota_chip_start(void);
void fota_chip_stop(void);

/* A system reset: as good as a power cut, but for RAM. */
noreturn void fota_chip_restart(void);

#endif
