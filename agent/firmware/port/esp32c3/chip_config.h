/* What MicroPython says of this chip. */
#define MICROPY_PY_SYS_PLATFORM "fota-esp32c3"
#define MICROPY_HW_MCU_NAME "ESP32-C3"
#define MICROPY_PY_HASHLIB_MD5 (1) /* of partition tables */
