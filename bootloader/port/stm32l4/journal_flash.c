#include "port/stm32l4/journal_flash.h"

#include "port/stm32l4/memory.h"
#include "port/stm32l4/registers.h"

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

/* The data cache must be off while flash is written (erratum 2.2.3), and while a torn cell may be
 * read: it would fetch the neighbours too and blame them on the wrong cell. */
static uint32_t cache_off(void) {
  const uint32_t saved = FLASH_ACR;
  FLASH_ACR = saved & ~ACR_DCEN;
  return saved;
}

static void cache_restore(uint32_t saved) {
  FLASH_ACR |= ACR_DCRST;
  FLASH_ACR = saved;
}

static fota_status_t read(const void *context, uint32_t offset, void *data, uint32_t length) {
  const uint32_t saved = cache_off();
  const volatile uint8_t *from = (const uint8_t *)context + offset;
  uint8_t *to = data;
  (void)fota_flash_ecc_fault();
  for (uint32_t i = 0; i < length; i++)
    to[i] = from[i];
  cache_restore(saved);
  return fota_flash_ecc_fault() ? FOTA_FLASH_ECC : FOTA_OK;
}

static void begin(uint32_t control) {
  while (FLASH_SR & SR_BSY) {
  }
  FLASH_KEYR = 0x45670123;
  FLASH_KEYR = 0xcdef89ab;
  FLASH_SR = SR_ERRORS; /* any old error flag would fail the next operation */
  FLASH_CR = CR_OPTLOCK | control;
}

/* True if the operation went well. */
static bool end(void) {
  while (FLASH_SR & SR_BSY) {
  }
  const bool good = (FLASH_SR & SR_ERRORS) == 0;
  FLASH_CR = CR_OPTLOCK | CR_LOCK;
  return good;
}

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  volatile uint32_t *to = (volatile uint32_t *)((uintptr_t)context + offset);
  const uint32_t *from = data;
  const uint32_t saved = cache_off();
  bool good = true;
  for (uint32_t i = 0; i < length / 4 && good; i += 2) {
    uint32_t masked;
    begin(CR_PG);
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(masked)); /* nothing between the halves */
    to[i] = from[i];
    to[i + 1] = from[i + 1];
    __asm__ volatile("msr primask, %0" ::"r"(masked));
    good = end();
  }
  cache_restore(saved);
  return good ? FOTA_OK : FOTA_FLASH_PROGRAM;
}

static fota_status_t erase(const void *context, uint32_t offset) {
  (void)context; /* BKER names the physical bank: the journal is in bank 2, wherever it is mapped */
  const uint32_t page = CR_PER | CR_BKER | CR_PNB(offset / PAGE_SIZE);
  const uint32_t saved = cache_off();
  begin(page);
  FLASH_CR = CR_OPTLOCK | page | CR_STRT;
  const bool good = end();
  cache_restore(saved);
  return good ? FOTA_OK : FOTA_FLASH_ERASE;
}

const fota_flash_t fota_journal_bank1_runs = {
    .context = (const void *)BANK_HIGH,
    .page_size = PAGE_SIZE,
    .read = read,
    .program = program,
    .erase = erase,
};

const fota_flash_t fota_journal_bank2_runs = {
    .context = (const void *)BANK_LOW,
    .page_size = PAGE_SIZE,
    .read = read,
    .program = program,
    .erase = erase,
};
