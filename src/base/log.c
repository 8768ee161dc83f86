/* The log of a process, on standard error. */
#include "base/log.h"

#include "base/buf.h"
#include "base/time.h"

#include <ctype.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *log_name = "wabe";
static enum log_level max_level = LOG_INFO;

void log_open(const char *name, enum log_level level) {
	log_name = name;
	max_level = level;
	const char *wanted = getenv("WABE_LOG");
	for (size_t i = 0; wanted && i < ARRAY_SIZE(level_names); i++)
		if (strcmp(wanted, level_names[i]) == 0)
			max_level = (enum log_level)i;
}

enum log_level log_level(void) {
	return max_level;
}

void log_at(enum log_level level, const char *fmt, ...) {
	if (level > max_level)
		return;
	int saved = errno;
	struct buf line = BUF_INIT_MAX(8192);
	char now[TIME_TEXT_MAX];
	time_format(time_now_ns(), now);
	buf_addf(&line, "%s %-5s %s: ", now, level_names[level], log_name);
	size_t from = line.len;
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(&line, fmt, ap);
	va_end(ap);
	for (size_t i = from; i < line.len; i++) /* one message, one line, and no escape sequences */
		if (iscntrl((unsigned char)line.data[i]))
			line.data[i] = ' ';
	buf_addc(&line, '\n');
	(void)!write(STDERR_FILENO, buf_str(&line), line.len);
	buf_free(&line);
	errno = saved;
}
