/* Which physical bank is mapped low, and changing it. */
#ifndef FOTA_STM32U5_BANKS_H
#define FOTA_STM32U5_BANKS_H

#include <stdbool.h>
#include <stdint.h>

/* True while bank 2 is mapped at BANK_LOW. Told by the layout that the factory left in each bank,
 * and not by OPTR.SWAP_BANK: a reset between programming the option bytes and loading them leaves a
 * register that may name one bank and a mapping of the other. */
bool fota_banks_swapped(void);

#endif
