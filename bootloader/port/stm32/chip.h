/* Taking the chip over from reset, and handing it on as if from reset. */
#ifndef FOTA_STM32_CHIP_H
#define FOTA_STM32_CHIP_H

void fota_chip_start(void);
void fota_chip_stop(void);

#endif
