/* Module `chip`: what the agent's board code needs of any chip and Python cannot do itself, or not
 * fast enough. */
#include <string.h>

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/objstr.h"
#include "py/runtime.h"

#include "core/port.h"
#include "mbedtls/ecdsa.h"
#include "mbedtls/error.h"
// clang-format on

enum { LONGEST_SLEEP_US = 300000 };

static int verify(const uint8_t *xy, const uint8_t *digest, const uint8_t *signature) {
  uint8_t point[65] = {4};
  mbedtls_ecp_group group;
  mbedtls_ecp_point key;
  mbedtls_mpi r;
  mbedtls_mpi s;
  memcpy(point + 1, xy, 64);
  mbedtls_ecp_group_init(&group);
  mbedtls_ecp_point_init(&key);
  mbedtls_mpi_init(&r);
  mbedtls_mpi_init(&s);
  int error = mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1);
  if (error == 0) error = mbedtls_ecp_point_read_binary(&group, &key, point, sizeof point);
  if (error == 0) error = mbedtls_ecp_check_pubkey(&group, &key);
  if (error == 0) error = mbedtls_mpi_read_binary(&r, signature, 32);
  if (error == 0) error = mbedtls_mpi_read_binary(&s, signature + 32, 32);
  if (error == 0) error = mbedtls_ecdsa_verify(&group, digest, 32, &key, &r, &s);
  mbedtls_mpi_free(&s);
  mbedtls_mpi_free(&r);
  mbedtls_ecp_point_free(&key);
  mbedtls_ecp_group_free(&group);
  return error;
}

/* p256_verify(x||y, digest, r||s) -> bool. False for anything but a good signature of a key on the
 * curve; MemoryError is no verdict. */
static mp_obj_t chip_p256_verify(mp_obj_t xy_in, mp_obj_t digest_in, mp_obj_t signature_in) {
  mp_buffer_info_t xy;
  mp_buffer_info_t digest;
  mp_buffer_info_t signature;
  mp_get_buffer_raise(xy_in, &xy, MP_BUFFER_READ);
  mp_get_buffer_raise(digest_in, &digest, MP_BUFFER_READ);
  mp_get_buffer_raise(signature_in, &signature, MP_BUFFER_READ);
  if (xy.len != 64 || digest.len != 32 || signature.len != 64) return mp_const_false;
  const int error = verify(xy.buf, digest.buf, signature.buf);
  if (error == MBEDTLS_ERR_MPI_ALLOC_FAILED || error == MBEDTLS_ERR_ECP_ALLOC_FAILED)
    mp_raise_type(&mp_type_MemoryError);
  return mp_obj_new_bool(error == 0);
}
static MP_DEFINE_CONST_FUN_OBJ_3(chip_p256_verify_obj, chip_p256_verify);

/* sleep_us(us): the core sleeps; the watchdog is fed meanwhile. */
static mp_obj_t chip_sleep_us(mp_obj_t us_in) {
  for (mp_int_t left = mp_obj_get_int(us_in); left > 0; left -= LONGEST_SLEEP_US) {
    fota_feed();
    fota_port_wait_us((uint32_t)(left < LONGEST_SLEEP_US ? left : LONGEST_SLEEP_US));
  }
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(chip_sleep_us_obj, chip_sleep_us);

/* ticks_ms() -> milliseconds since the start of this boot; never goes back. */
static mp_obj_t chip_ticks_ms(void) {
  return mp_obj_new_int_from_ull(fota_ticks_ms());
}
static MP_DEFINE_CONST_FUN_OBJ_0(chip_ticks_ms_obj, chip_ticks_ms);

/* random_below(n) -> 0..n-1, for jitter. OSError(EIO) if the generator is not healthy. */
static mp_obj_t chip_random_below(mp_obj_t limit_in) {
  uint8_t bytes[32];
  uint32_t word;
  if (fota_port_random(bytes) != FOTA_OK) mp_raise_OSError(MP_EIO);
  memcpy(&word, bytes, sizeof word);
  const mp_uint_t limit = (mp_uint_t)mp_obj_get_int_truncated(limit_in);
  return mp_obj_new_int_from_uint(limit == 0 ? 0 : word % limit);
}
static MP_DEFINE_CONST_FUN_OBJ_1(chip_random_below_obj, chip_random_below);

/* feed(): the watchdog starts to count anew. */
static mp_obj_t chip_feed(void) {
  fota_feed();
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(chip_feed_obj, chip_feed);

extern const mp_obj_str_t fota_version;

static const mp_rom_map_elem_t table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_chip)},
    {MP_ROM_QSTR(MP_QSTR_VERSION), MP_ROM_PTR(&fota_version)},
    {MP_ROM_QSTR(MP_QSTR_p256_verify), MP_ROM_PTR(&chip_p256_verify_obj)},
    {MP_ROM_QSTR(MP_QSTR_sleep_us), MP_ROM_PTR(&chip_sleep_us_obj)},
    {MP_ROM_QSTR(MP_QSTR_ticks_ms), MP_ROM_PTR(&chip_ticks_ms_obj)},
    {MP_ROM_QSTR(MP_QSTR_random_below), MP_ROM_PTR(&chip_random_below_obj)},
    {MP_ROM_QSTR(MP_QSTR_feed), MP_ROM_PTR(&chip_feed_obj)},
};
static MP_DEFINE_CONST_DICT(globals, table);

const mp_obj_module_t fota_chip_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_chip, fota_chip_module);
