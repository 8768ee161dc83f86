/* Base64 (RFC 4648, the alphabet with "+" and "/", padded). */
#pragma once

#include "base/buf.h"

#include <sys/types.h>

/* How many bytes the text stands for; -EINVAL. */
ssize_t base64_size(const char *text);
/* Appends them. 0 or -EINVAL, with nothing appended. */
int base64_decode(const char *text, struct buf *out);
/* Free it. */
char *base64_encode(const void *data, size_t n);
