/* Quotes, escapes and variables in a word of a Dockerfile, as its instructions ADD, ARG, COPY, ENV, EXPOSE, FROM, LABEL,
 * STOPSIGNAL, USER, VOLUME and WORKDIR have them. Pure data, no I/O. */
#pragma once

#include "base/error.h"

/* Takes off quotes, resolves escapes, puts in variables from env ("KEY=VALUE", the first one counts; one that is not there
 * is empty): $x ${x} ${x:-word} ${x-word} ${x:+word} ${x+word} ${x:?message} ${x?message}. Free *out. INVALID. */
int word_expand(const char *word, char escape, char *const *env, char **out, struct error *err);
/* Text that is no word, as a here-document: quotes stand for themselves; variables, and escapes of them, count. */
int text_expand(const char *text, char escape, char *const *env, char **out, struct error *err);
/* As word_expand, and then it is split at white space that is not quoted; strv_free *out. */
int word_expand_split(const char *word, char escape, char *const *env, char ***out, struct error *err);
