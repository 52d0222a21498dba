/* chip.VERSION: the one object that differs between two releases of the same sources. */
#include "py/objstr.h"

extern const mp_obj_str_t fota_version;
const MP_DEFINE_STR_OBJ(fota_version, FOTA_VERSION);
