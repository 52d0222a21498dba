/* What port/armv7m/mem.c has of it: bare metal builds need no C library. */
#ifndef FOTA_STRING_H
#define FOTA_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
