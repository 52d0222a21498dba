/* What clang calls in place of memcpy() and memset() (Run-time ABI for the Arm
 * Architecture, 4.3.4). */
#include <string.h>

void __aeabi_memclr(void *to, size_t n);
void __aeabi_memclr4(void *to, size_t n);
void __aeabi_memclr8(void *to, size_t n);
void __aeabi_memcpy(void *to, const void *from, size_t n);
void __aeabi_memcpy4(void *to, const void *from, size_t n);

void __aeabi_memclr(void *to, size_t n) {
  memset(to, 0, n);
}

void __aeabi_memclr4(void *to, size_t n) {
  memset(to, 0, n);
}

void __aeabi_memclr8(void *to, size_t n) {
  memset(to, 0, n);
}

void __aeabi_memcpy(void *to, const void *from, size_t n) {
  memcpy(to, from, n);
}

void __aeabi_memcpy4(void *to, const void *from, size_t n) {
  memcpy(to, from, n);
}
