/* Errors with a kind, a message and the field that they are about. */
#include "base/error.h"

#include "base/buf.h"

static const char *const kind_names[ERROR_KINDS] = {
	[ERROR_NONE] = "none",
	[ERROR_INVALID] = "invalid",
	[ERROR_NOT_FOUND] = "not-found",
	[ERROR_EXISTS] = "exists",
	[ERROR_CONFLICT] = "conflict",
	[ERROR_BUSY] = "busy",
	[ERROR_DENIED] = "denied",
	[ERROR_QUOTA] = "quota",
	[ERROR_NO_SPACE] = "no-space",
	[ERROR_TOO_LARGE] = "too-large",
	[ERROR_UNSUPPORTED] = "unsupported",
	[ERROR_UNAVAILABLE] = "unavailable",
	[ERROR_TIMEOUT] = "timeout",
	[ERROR_CANCELLED] = "cancelled",
	[ERROR_CORRUPT] = "corrupt",
	[ERROR_UNAUTHORIZED] = "unauthorized",
	[ERROR_NO_COMMAND] = "no-command",
	[ERROR_NO_EXEC] = "no-exec",
	[ERROR_INTERNAL] = "internal",
};

const char *error_kind_name(enum error_kind kind) {
	return kind < ERROR_KINDS ? kind_names[kind] : "internal";
}

enum error_kind error_kind_from_name(const char *name) {
	for (enum error_kind k = ERROR_NONE; k < ERROR_KINDS; k++)
		if (strcmp(kind_names[k], name) == 0)
			return k;
	return ERROR_INTERNAL;
}

enum error_kind error_kind_from_errno(int errnum) {
	switch (abs(errnum)) {
	case EINVAL:
	case ENAMETOOLONG:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case EDOM:
	case ERANGE:
		return ERROR_INVALID;
	case ENOENT:
	case ENODEV:
	case ESRCH:
	case ENXIO:
		return ERROR_NOT_FOUND;
	case EEXIST:
		return ERROR_EXISTS;
	case EBUSY:
	case ETXTBSY:
	case EAGAIN:
		return ERROR_BUSY;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERROR_DENIED;
	case EDQUOT:
		return ERROR_QUOTA;
	case ENOSPC:
		return ERROR_NO_SPACE;
	case EFBIG:
	case E2BIG:
	case EMSGSIZE:
		return ERROR_TOO_LARGE;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERROR_UNSUPPORTED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return ERROR_UNAVAILABLE;
	case ETIMEDOUT:
	case ETIME:
		return ERROR_TIMEOUT;
	case ECANCELED:
		return ERROR_CANCELLED;
	case EBADMSG:
	case EILSEQ:
	case EUCLEAN:
		return ERROR_CORRUPT;
	default:
		return ERROR_INTERNAL;
	}
}

static int set_message(struct error *err, enum error_kind kind, int errnum, char *message, char *field) {
	if (!err) {
		free(message);
		free(field);
		return -(int)kind;
	}
	error_free(err);
	*err = (struct error){.kind = kind, .errnum = errnum, .message = message, .field = field};
	return -(int)kind;
}

int error_set(struct error *err, enum error_kind kind, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	char *message = str_vformat(fmt, ap);
	va_end(ap);
	return set_message(err, kind, 0, message, NULL);
}

int error_field(struct error *err, const char *field, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	char *message = str_vformat(fmt, ap);
	va_end(ap);
	return set_message(err, ERROR_INVALID, 0, message, str_copy(field));
}

int error_errno(struct error *err, int errnum, const char *fmt, ...) {
	errnum = abs(errnum);
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *what = str_vformat(fmt, ap);
	va_end(ap);
	char *message = str_format("%s: %s", what, strerror(errnum));
	return set_message(err, error_kind_from_errno(errnum), errnum, message, NULL);
}

int error_wrap(struct error *err, const char *fmt, ...) {
	if (!err)
		return -ERROR_INTERNAL;
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *what = str_vformat(fmt, ap);
	va_end(ap);
	char *message = str_format("%s: %s", what, error_text(err));
	free(err->message);
	err->message = message;
	if (err->kind == ERROR_NONE)
		err->kind = ERROR_INTERNAL;
	return -(int)err->kind;
}

void error_in_field(struct error *err, const char *prefix) {
	if (!err)
		return;
	char *field;
	if (!err->field)
		field = str_copy(prefix);
	else if (err->field[0] == '[')
		field = str_format("%s%s", prefix, err->field);
	else
		field = str_format("%s.%s", prefix, err->field);
	free(err->field);
	err->field = field;
}

void error_said(struct error *err, const char *code, const char *text) {
	if (!err || err->kind == ERROR_NONE)
		return;
	free(err->said);
	err->said = str_format("%s: %s", code, text);
}

int error_move(struct error *to, struct error *from) {
	int r = from->kind == ERROR_NONE ? -ERROR_INTERNAL : -(int)from->kind;
	if (!to) {
		error_free(from);
		return r;
	}
	if (to != from) {
		error_free(to);
		*to = *from;
		*from = ERROR_INIT;
	}
	return r;
}

void error_free(struct error *err) {
	free(err->message);
	free(err->field);
	free(err->said);
	*err = ERROR_INIT;
}

const char *error_text(const struct error *err) {
	return err->message ? err->message : "unknown error";
}
