/* Bytes as base64. */
#pragma once

#include "base/util.h"

/* RFC 4648, with padding; free it. */
char *base64_encode(const void *data, size_t n);
