#include "port/stm32u5/journal_flash.h"

#include "port.h"
#include "port/stm32u5/banks.h"
#include "port/stm32u5/memory.h"
#include "port/stm32u5/registers.h"

static volatile bool ecc_fault;

void fota_flash_nmi(void) {
  if (FLASH_ECCR & ECCR_ECCD) {
    FLASH_ECCR = ECCR_ECCD;
    ecc_fault = true;
  }
}

bool fota_flash_ecc_fault(void) {
  barrier();
  const bool seen = ecc_fault;
  ecc_fault = false;
  return seen;
}

/* The instruction cache serves data reads of flash as well, and would hide what was just
 * programmed. Switching it off empties it: confirm on silicon. The bootloader never switches it on.
 */
static uint32_t cache_off(void) {
  const uint32_t saved = ICACHE_CR;
  ICACHE_CR = saved & ~ICACHE_EN;
  while (ICACHE_SR & ICACHE_BUSY) {
  }
  return saved;
}

__attribute__((noinline)) bool fota_banks_swapped(void) {
  return REG(BANK_LOW + LAYOUT_OFFSET) >= BANK_HIGH; /* where slot A is */
}

/* Journal page n starts where flash page n of the journal does, and is the shorter one. */
static uintptr_t address_of(uint32_t offset) {
  const uint32_t bank = fota_banks_swapped() ? (uint32_t)BANK_LOW : (uint32_t)BANK_HIGH;
  return bank + JOURNAL_OFFSET + offset / JOURNAL_PAGE * FLASH_PAGE + offset % JOURNAL_PAGE;
}

static fota_status_t read(const void *context, uint32_t offset, void *data, uint32_t length) {
  (void)context;
  const uint32_t saved = cache_off();
  const volatile uint8_t *from = (const uint8_t *)address_of(offset);
  uint8_t *to = data;
  (void)fota_flash_ecc_fault();
  for (uint32_t i = 0; i < length; i++)
    to[i] = from[i];
  ICACHE_CR = saved;
  return fota_flash_ecc_fault() ? FOTA_FLASH_ECC : FOTA_OK;
}

void fota_flash_begin(uint32_t control) {
  while (FLASH_NSSR & SR_BUSY) {
  }
  FLASH_NSKEYR = 0x45670123;
  FLASH_NSKEYR = 0xcdef89ab;
  FLASH_NSSR = SR_ERRORS; /* any old error flag would fail the next operation */
  FLASH_NSCR = CR_OPTLOCK | control;
}

/* True if the operation went well. */
static bool end(void) {
  while (FLASH_NSSR & SR_BUSY) {
  }
  const bool good = (FLASH_NSSR & SR_ERRORS) == 0;
  FLASH_NSCR = CR_OPTLOCK | CR_LOCK;
  return good;
}

fota_status_t fota_flash_program(uintptr_t at, const uint32_t *data, uint32_t length) {
  volatile uint32_t *to = (volatile uint32_t *)at;
  bool good = (at | length) % QUAD_WORD == 0;
  for (uint32_t i = 0; i < length / 4 && good; i += 4) {
    uint32_t masked;
    fota_flash_begin(CR_PG);
    __asm__ volatile("mrs %0, primask\n\tcpsid i"
                     : "=r"(masked)); /* nothing between the quarters */
    for (uint32_t j = i; j < i + 4; j++)
      to[j] = data[j];
    __asm__ volatile("msr primask, %0" ::"r"(masked));
    good = end();
  }
  return good ? FOTA_OK : FOTA_FLASH_PROGRAM;
}

fota_status_t fota_flash_erase(uint32_t page) {
  fota_flash_begin(CR_PER | page);
  FLASH_NSCR = CR_OPTLOCK | CR_PER | page | CR_STRT;
  return end() ? FOTA_OK : FOTA_FLASH_ERASE;
}

/* A record is one quad-word: it is there as a whole, or it is torn. */
static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  (void)context;
  return fota_flash_program(address_of(offset), data, length);
}

static fota_status_t erase(const void *context, uint32_t offset) {
  (void)context; /* BKER names the physical bank: the journal is in bank 2, wherever it is mapped */
  return fota_flash_erase(CR_BKER | CR_PNB(JOURNAL_OFFSET / FLASH_PAGE + offset / JOURNAL_PAGE));
}

const fota_flash_t fota_journal_flash = {
    .page_size = JOURNAL_PAGE,
    .read = read,
    .program = program,
    .erase = erase,
};
