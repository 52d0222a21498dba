/* Module `flash`: an STM32's flash, at its mapped addresses; unit.h has what is one chip's. */
#include <string.h>

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mperrno.h"
#include "py/objstr.h"
#include "py/runtime.h"

#include "journal_flash.h"
#include "memory.h"
#include "unit.h"
// clang-format on

enum { RAM_LOW = 0x20000000 };

static bool inside(uint32_t address, uint32_t length, uint32_t base, uint32_t size) {
  return address >= base && address - base <= size && length <= size - (address - base);
}

/* Returns where `length` bytes of flash or RAM lie. ValueError if they are neither. */
static byte *memory(mp_obj_t address_in, uint32_t length) {
  const uint32_t address = (uint32_t)mp_obj_get_int_truncated(address_in);
  if (!inside(address, length, BANK_LOW, FLASH_SIZE) && !inside(address, length, RAM_LOW, RAM_SIZE))
    mp_raise_ValueError(MP_ERROR_TEXT("neither flash nor RAM"));
  return (byte *)(uintptr_t)address;
}

/* view(address, length) -> memoryview of flash or RAM, to read from where it lies. */
static mp_obj_t flash_view(mp_obj_t address_in, mp_obj_t length_in) {
  const uint32_t length = (uint32_t)mp_obj_get_int(length_in);
  return mp_obj_new_memoryview('B', length, memory(address_in, length));
}
static MP_DEFINE_CONST_FUN_OBJ_2(flash_view_obj, flash_view);

/* still(view) -> bytes of what view() shows, where it lies: TLS takes certificates as bytes only.
 */
static mp_obj_t flash_still(mp_obj_t view_in) {
  mp_buffer_info_t seen;
  mp_get_buffer_raise(view_in, &seen, MP_BUFFER_READ);
  mp_obj_str_t *lies = mp_obj_malloc(mp_obj_str_t, &mp_type_bytes);
  lies->data = seen.buf;
  lies->len = seen.len;
  lies->hash = qstr_compute_hash(lies->data, lies->len);
  return MP_OBJ_FROM_PTR(lies);
}
static MP_DEFINE_CONST_FUN_OBJ_1(flash_still_obj, flash_still);

/* read(address, length) -> bytes of flash or RAM. A torn unit shows in ecc_fault(). */
static mp_obj_t flash_read(mp_obj_t address_in, mp_obj_t length_in) {
  const uint32_t address = (uint32_t)mp_obj_get_int_truncated(address_in);
  const uint32_t length = (uint32_t)mp_obj_get_int(length_in);
  if (!inside(address, length, BANK_LOW, FLASH_SIZE) && !inside(address, length, RAM_LOW, RAM_SIZE))
    mp_raise_ValueError(MP_ERROR_TEXT("neither flash nor RAM"));
  return mp_obj_new_bytes((const byte *)(uintptr_t)address, length);
}
static MP_DEFINE_CONST_FUN_OBJ_2(flash_read_obj, flash_read);

/* ecc_fault() -> True if a read since the last call hit a torn unit: the NMI tells. */
static mp_obj_t flash_ecc_fault(void) {
  return mp_obj_new_bool(fota_flash_ecc_fault());
}
static MP_DEFINE_CONST_FUN_OBJ_0(flash_ecc_fault_obj, flash_ecc_fault);

/* is_blank(address, length) -> True if it is erased flash, without faults. */
static mp_obj_t flash_is_blank(mp_obj_t address_in, mp_obj_t length_in) {
  const uint32_t address = (uint32_t)mp_obj_get_int_truncated(address_in);
  const uint32_t length = (uint32_t)mp_obj_get_int(length_in);
  if (!inside(address, length, BANK_LOW, FLASH_SIZE) || address % 4 != 0)
    mp_raise_ValueError(MP_ERROR_TEXT("words of flash only"));
  const volatile uint32_t *word = (const uint32_t *)(uintptr_t)address;
  uint32_t all = UINT32_MAX;
  (void)fota_flash_ecc_fault();
  for (uint32_t i = 0; i < length / 4; i++)
    all &= word[i];
  return mp_obj_new_bool(!fota_flash_ecc_fault() && all == UINT32_MAX);
}
static MP_DEFINE_CONST_FUN_OBJ_2(flash_is_blank_obj, flash_is_blank);

static bool reads_back(uint32_t address, const mp_buffer_info_t *data) {
  (void)fota_flash_ecc_fault();
  const bool same = memcmp((const void *)(uintptr_t)address, data->buf, data->len) == 0;
  return same && !fota_flash_ecc_fault();
}

/* program(address, data): whole units into erased flash. Those that are all ones hold that value
 * already and are left alone. OSError(EIO) if the controller reports an error, or the flash does
 * not read back. */
static mp_obj_t flash_program(mp_obj_t address_in, mp_obj_t data_in) {
  const uint32_t address = (uint32_t)mp_obj_get_int_truncated(address_in);
  mp_buffer_info_t data;
  mp_get_buffer_raise(data_in, &data, MP_BUFFER_READ);
  if (!inside(address, data.len, BANK_LOW, FLASH_SIZE) || address % UNIT != 0 ||
      data.len % UNIT != 0)
    mp_raise_ValueError(MP_ERROR_TEXT("whole units of flash only"));
  for (uint32_t at = 0; at < data.len; at += UNIT) {
    uint32_t words[UNIT / 4];
    uint32_t all = UINT32_MAX;
    memcpy(words, (const uint8_t *)data.buf + at, UNIT);
    for (uint32_t i = 0; i < UNIT / 4; i++)
      all &= words[i];
    if (all == UINT32_MAX) continue;
    if (program_unit(address + at, words) != FOTA_OK) mp_raise_OSError(MP_EIO);
  }
  if (!reads_back(address, &data)) mp_raise_OSError(MP_EIO);
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(flash_program_obj, flash_program);

static const mp_rom_map_elem_t table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_flash)},
    {MP_ROM_QSTR(MP_QSTR_read), MP_ROM_PTR(&flash_read_obj)},
    {MP_ROM_QSTR(MP_QSTR_view), MP_ROM_PTR(&flash_view_obj)},
    {MP_ROM_QSTR(MP_QSTR_still), MP_ROM_PTR(&flash_still_obj)},
    {MP_ROM_QSTR(MP_QSTR_is_blank), MP_ROM_PTR(&flash_is_blank_obj)},
    {MP_ROM_QSTR(MP_QSTR_ecc_fault), MP_ROM_PTR(&flash_ecc_fault_obj)},
    {MP_ROM_QSTR(MP_QSTR_program), MP_ROM_PTR(&flash_program_obj)},
};
static MP_DEFINE_CONST_DICT(globals, table);

const mp_obj_module_t fota_flash_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_flash, fota_flash_module);
