/* TIM2 counts milliseconds, DWT the core's cycles. */
#ifndef FOTA_FIRMWARE_STM32_COUNTER_H
#define FOTA_FIRMWARE_STM32_COUNTER_H

#include "registers.h"

#define APB1_TIM2 BIT(0) /* its clock, in the first enable register of APB1 */

/* Starts both; TIM2 has its clock, and the core runs at CORE_MHZ. */
void fota_count(void);

#endif
