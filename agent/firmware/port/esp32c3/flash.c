/* Module `esp`: SPI flash by its offsets, with the functions that MicroPython's own port for this
 * chip has under that name. Transfers go through RAM in whole words: that is what the mask ROM
 * takes, and a constant may be in flash. */
#include <string.h>

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mperrno.h"
#include "py/runtime.h"

#include "port/esp32c3/journal_flash.h"
#include "port/esp32c3/memory.h"
// clang-format on

enum { CHUNK = PAGE_SIZE, WORD = 4 };

static uint32_t words[CHUNK / WORD];

/* The driver writes in the two sectors that begin at a place it is told, and nowhere else (ADR 46):
 * here where Python says, but never loader, settings or partition table. */
static void aim(uint32_t offset) {
  fota_otadata_place = offset < TABLE_OFFSET + TABLE_SIZE ? 0 : offset / PAGE_SIZE * PAGE_SIZE;
}

static uint32_t smaller(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

/* flash_read(offset, buffer): any offset and length. OSError(EIO): it is not in the flash. */
static mp_obj_t esp_flash_read(mp_obj_t offset_in, mp_obj_t buffer_in) {
  mp_buffer_info_t buffer;
  mp_get_buffer_raise(buffer_in, &buffer, MP_BUFFER_WRITE);
  uint32_t offset = (uint32_t)mp_obj_get_int_truncated(offset_in);
  for (uint32_t done = 0; done < buffer.len;) {
    const uint32_t before = offset % WORD;
    const uint32_t part = smaller(buffer.len - done, CHUNK - before);
    const uint32_t whole = (before + part + WORD - 1) / WORD * WORD;
    if (fota_spi_read(offset - before, words, whole) != FOTA_OK) mp_raise_OSError(MP_EIO);
    memcpy((uint8_t *)buffer.buf + done, (const uint8_t *)words + before, part);
    offset += part;
    done += part;
  }
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(esp_flash_read_obj, esp_flash_read);

/* flash_write(offset, buffer): whole words; bits are only cleared. OSError(EIO): the flash or its
 * ROM says no, or nothing of ours is there. */
static mp_obj_t esp_flash_write(mp_obj_t offset_in, mp_obj_t buffer_in) {
  mp_buffer_info_t buffer;
  mp_get_buffer_raise(buffer_in, &buffer, MP_BUFFER_READ);
  const uint32_t offset = (uint32_t)mp_obj_get_int_truncated(offset_in);
  if (offset % WORD != 0 || buffer.len % WORD != 0)
    mp_raise_ValueError(MP_ERROR_TEXT("whole words of flash only"));
  for (uint32_t done = 0; done < buffer.len;) {
    const uint32_t part = smaller(buffer.len - done, CHUNK);
    memcpy(words, (const uint8_t *)buffer.buf + done, part);
    aim(offset + done);
    if (fota_spi_write(offset + done, words, part) != FOTA_OK) mp_raise_OSError(MP_EIO);
    done += part;
  }
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(esp_flash_write_obj, esp_flash_write);

/* flash_erase(number): the sector of 4096 bytes. OSError(EIO), as there. */
static mp_obj_t esp_flash_erase(mp_obj_t sector) {
  const uint32_t offset = (uint32_t)mp_obj_get_int(sector) * PAGE_SIZE;
  aim(offset);
  if (fota_spi_erase(offset) != FOTA_OK) mp_raise_OSError(MP_EIO);
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(esp_flash_erase_obj, esp_flash_erase);

static const mp_rom_map_elem_t table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_esp)},
    {MP_ROM_QSTR(MP_QSTR_flash_read), MP_ROM_PTR(&esp_flash_read_obj)},
    {MP_ROM_QSTR(MP_QSTR_flash_write), MP_ROM_PTR(&esp_flash_write_obj)},
    {MP_ROM_QSTR(MP_QSTR_flash_erase), MP_ROM_PTR(&esp_flash_erase_obj)},
};
static MP_DEFINE_CONST_DICT(globals, table);

const mp_obj_module_t fota_esp_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_esp, fota_esp_module);
