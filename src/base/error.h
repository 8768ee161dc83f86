/* What went wrong, in words for a person and in a kind for a program.
 *
 * base returns 0 or -errno. From model up, a function that can fail takes `struct error *err` last and
 * returns 0 or a negative number (the negated kind). err may be NULL where the caller does not care. A
 * message says what failed, on what, and what to do; it starts in lower case and has no full stop. */
#pragma once

#include "base/util.h"

enum error_kind {
	ERROR_NONE,
	ERROR_INVALID,        /* the request itself is wrong */
	ERROR_NOT_FOUND,
	ERROR_EXISTS,
	ERROR_CONFLICT,       /* not possible in the present state, or the revision has moved on */
	ERROR_BUSY,           /* possible in a moment: another operation holds the object */
	ERROR_DENIED,
	ERROR_QUOTA,
	ERROR_NO_SPACE,
	ERROR_TOO_LARGE,
	ERROR_UNSUPPORTED,    /* this host or this build cannot do it */
	ERROR_UNAVAILABLE,    /* another party (agent, registry, node) cannot be reached */
	ERROR_TIMEOUT,
	ERROR_CANCELLED,
	ERROR_CORRUPT,        /* data fails its digest or its format */
	ERROR_UNAUTHORIZED,   /* credentials are missing or wrong */
	ERROR_NO_COMMAND,     /* the instance has no such command: exit status 127 */
	ERROR_NO_EXEC,        /* the command cannot be executed: exit status 126 */
	ERROR_INTERNAL,
	ERROR_KINDS
};

struct error {
	enum error_kind kind;
	int errnum;       /* the errno behind it, or 0 */
	char *message;
	char *field;      /* path of the offending field ("limits.memory"), or NULL */
	char *said;       /* another party's own words, "CODE: text" of a registry, or NULL */
};

#define ERROR_INIT ((struct error){0})

/* Each sets *err (dropping what it held), and returns -kind. */
int error_set(struct error *err, enum error_kind kind, const char *fmt, ...) PRINTF(3, 4);
int error_field(struct error *err, const char *field, const char *fmt, ...) PRINTF(3, 4); /* kind invalid */
/* The kind follows from errnum (positive or negative); ": strerror" is added to the message. */
int error_errno(struct error *err, int errnum, const char *fmt, ...) PRINTF(3, 4);
/* Puts "text: " before the message that is there; returns -kind. */
int error_wrap(struct error *err, const char *fmt, ...) PRINTF(2, 3);
/* Puts "prefix." (or prefix alone, or prefix before "[") before the field path. */
void error_in_field(struct error *err, const char *prefix);
/* Sets err->said where there is an error: see there. */
void error_said(struct error *err, const char *code, const char *text);
/* Moves *from into *to, returns -kind. */
int error_move(struct error *to, struct error *from);
void error_free(struct error *err);

const char *error_text(const struct error *err);              /* the message, never NULL */
const char *error_kind_name(enum error_kind kind);             /* "not-found" */
enum error_kind error_kind_from_name(const char *name);        /* ERROR_INTERNAL if unknown */
enum error_kind error_kind_from_errno(int errnum);
