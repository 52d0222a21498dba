/* Module `chip`: what the agent's board code needs and Python cannot do itself, or not fast enough.
 */
#include <string.h>

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/objstr.h"
#include "py/runtime.h"

#include "core/port.h"
#include "mbedtls/ecdsa.h"
#include "mbedtls/error.h"
#include "port/stm32l4/journal_flash.h"
#include "port/stm32l4/memory.h"
#include "port/stm32l4/registers.h"
// clang-format on

enum {
  FLASH_SIZE = 1024 * 1024,
  RAM_LOW = 0x20000000,
  RAM_SIZE = 96 * 1024,
  LONGEST_SLEEP_US = 300000,
};

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
static mp_obj_t chip_view(mp_obj_t address_in, mp_obj_t length_in) {
  const uint32_t length = (uint32_t)mp_obj_get_int(length_in);
  return mp_obj_new_memoryview('B', length, memory(address_in, length));
}
static MP_DEFINE_CONST_FUN_OBJ_2(chip_view_obj, chip_view);

/* read(address, length) -> bytes of flash or RAM. A torn double word shows in ecc_fault(). */
static mp_obj_t chip_read(mp_obj_t address_in, mp_obj_t length_in) {
  const uint32_t address = (uint32_t)mp_obj_get_int_truncated(address_in);
  const uint32_t length = (uint32_t)mp_obj_get_int(length_in);
  if (!inside(address, length, BANK_LOW, FLASH_SIZE) && !inside(address, length, RAM_LOW, RAM_SIZE))
    mp_raise_ValueError(MP_ERROR_TEXT("neither flash nor RAM"));
  return mp_obj_new_bytes((const byte *)(uintptr_t)address, length);
}
static MP_DEFINE_CONST_FUN_OBJ_2(chip_read_obj, chip_read);

/* ecc_fault() -> True if a read since the last call hit a torn double word: the NMI tells. */
static mp_obj_t chip_ecc_fault(void) {
  return mp_obj_new_bool(fota_flash_ecc_fault());
}
static MP_DEFINE_CONST_FUN_OBJ_0(chip_ecc_fault_obj, chip_ecc_fault);

/* is_blank(address, length) -> True if it is erased flash, without faults. */
static mp_obj_t chip_is_blank(mp_obj_t address_in, mp_obj_t length_in) {
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
static MP_DEFINE_CONST_FUN_OBJ_2(chip_is_blank_obj, chip_is_blank);

static bool reads_back(uint32_t address, const mp_buffer_info_t *data) {
  (void)fota_flash_ecc_fault();
  const bool same = memcmp((const void *)(uintptr_t)address, data->buf, data->len) == 0;
  return same && !fota_flash_ecc_fault();
}

/* program(address, data): double words into erased flash. Those that are all ones hold that value
 * already and are left alone. OSError(EIO) if the controller reports an error, or the flash does
 * not read back. */
static mp_obj_t chip_program(mp_obj_t address_in, mp_obj_t data_in) {
  const uint32_t address = (uint32_t)mp_obj_get_int_truncated(address_in);
  mp_buffer_info_t data;
  mp_get_buffer_raise(data_in, &data, MP_BUFFER_READ);
  if (!inside(address, data.len, BANK_LOW, FLASH_SIZE) || address % 8 != 0 || data.len % 8 != 0)
    mp_raise_ValueError(MP_ERROR_TEXT("whole double words of flash only"));
  const fota_flash_t *flash = &fota_journal_bank2_runs; /* its context is the start of all flash */
  for (uint32_t at = 0; at < data.len; at += 8) {
    uint32_t words[2];
    memcpy(words, (const uint8_t *)data.buf + at, sizeof words);
    if ((words[0] & words[1]) == UINT32_MAX) continue;
    const uint32_t offset = address - BANK_LOW + at;
    if (flash->program(flash->context, offset, words, sizeof words) != FOTA_OK)
      mp_raise_OSError(MP_EIO);
  }
  if (!reads_back(address, &data)) mp_raise_OSError(MP_EIO);
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(chip_program_obj, chip_program);

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
    {MP_ROM_QSTR(MP_QSTR_read), MP_ROM_PTR(&chip_read_obj)},
    {MP_ROM_QSTR(MP_QSTR_view), MP_ROM_PTR(&chip_view_obj)},
    {MP_ROM_QSTR(MP_QSTR_is_blank), MP_ROM_PTR(&chip_is_blank_obj)},
    {MP_ROM_QSTR(MP_QSTR_ecc_fault), MP_ROM_PTR(&chip_ecc_fault_obj)},
    {MP_ROM_QSTR(MP_QSTR_program), MP_ROM_PTR(&chip_program_obj)},
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
