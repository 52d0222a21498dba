/* For the recovery build, whose tables have names in them. */
#include <stddef.h>

size_t strlen(const char *text);

size_t strlen(const char *text) {
  size_t n = 0;
  while (text[n] != '\0')
    n++;
  return n;
}
