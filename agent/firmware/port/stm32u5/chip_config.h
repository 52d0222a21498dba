/* What MicroPython says of this chip. */
#define MICROPY_PY_SYS_PLATFORM "fota-stm32u5"
#define MICROPY_HW_MCU_NAME "STM32U585"
#define MICROPY_PY_HASHLIB_MD5 (0)
