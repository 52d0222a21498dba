/* Module `binascii`: the three functions that the agent uses. */
#include "core/crc32.h"
#include "py/objstr.h"
#include "py/runtime.h"

/* crc32(data) -> CRC-32/ISO-HDLC. */
static mp_obj_t binascii_crc32(mp_obj_t data_in) {
  mp_buffer_info_t data;
  mp_get_buffer_raise(data_in, &data, MP_BUFFER_READ);
  return mp_obj_new_int_from_uint(fota_crc32(data.buf, data.len));
}
static MP_DEFINE_CONST_FUN_OBJ_1(binascii_crc32_obj, binascii_crc32);

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
