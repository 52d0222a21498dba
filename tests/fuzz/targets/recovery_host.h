/* A chip for recovery on the host: slots of 4 KiB, a journal, and a console that is kept. */
#ifndef RECOVERY_HOST_H
#define RECOVERY_HOST_H

#include <stdint.h>

#include "recovery/smp.h"

enum { SLOT_SIZE = 4096, PAGE_SIZE = 256, CONSOLE_SIZE = 4096 };

extern char console[CONSOLE_SIZE];
extern uint32_t console_size;
extern fota_journal_t journal;

/* Blank slots and journal; `confirmed` as the journal's only record, if it is a slot. */
void host_start(fota_smp_t *smp, uint8_t confirmed);

#endif
