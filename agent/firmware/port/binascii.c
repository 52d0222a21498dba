/* Module `binascii`: the three functions that the agent uses. */
#include "py/objstr.h"
#include "py/runtime.h"

/* crc32(data[, that of what comes before it]) -> CRC-32/ISO-HDLC. */
static mp_obj_t binascii_crc32(size_t count, const mp_obj_t *args) {
  mp_buffer_info_t data;
  mp_get_buffer_raise(args[0], &data, MP_BUFFER_READ);
  uint32_t crc = count > 1 ? ~(uint32_t)mp_obj_get_int_truncated(args[1]) : UINT32_MAX;
  for (size_t at = 0; at < data.len; at++) {
    crc ^= ((const uint8_t *)data.buf)[at];
    for (int bit = 0; bit < 8; bit++)
      crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return mp_obj_new_int_from_uint(~crc);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(binascii_crc32_obj, 1, 2, binascii_crc32);

static mp_obj_t binascii_hexlify(mp_obj_t data) {
  return mp_obj_bytes_hex(1, &data, &mp_type_bytes);
}
static MP_DEFINE_CONST_FUN_OBJ_1(binascii_hexlify_obj, binascii_hexlify);

static mp_obj_t binascii_unhexlify(mp_obj_t text) {
  return mp_obj_bytes_fromhex(MP_OBJ_FROM_PTR(&mp_type_bytes), text);
}
static MP_DEFINE_CONST_FUN_OBJ_1(binascii_unhexlify_obj, binascii_unhexlify);

static const mp_rom_map_elem_t table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_binascii)},
    {MP_ROM_QSTR(MP_QSTR_hexlify), MP_ROM_PTR(&binascii_hexlify_obj)},
    {MP_ROM_QSTR(MP_QSTR_unhexlify), MP_ROM_PTR(&binascii_unhexlify_obj)},
    {MP_ROM_QSTR(MP_QSTR_crc32), MP_ROM_PTR(&binascii_crc32_obj)},
};
static MP_DEFINE_CONST_DICT(globals, table);

const mp_obj_module_t fota_binascii_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_binascii, fota_binascii_module);
