/* The log of a container, in the form of the Kubernetes container runtime interface. It is written at once,
 * rotated by size, and whatever befalls the disk does not reach the container. */
#include "shim/shim-priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ENTRY_TEXT 16384
#define PREFIX_MAX 64

static struct log_options options;
static int fd = -1;
static int64_t size;
static int64_t lost; /* bytes of output since the last entry that could be written */
/* Whole entries that wait for one write(), and how much of the container's output is in them. */
static char pending[65536];
static size_t pending_len, pending_output;

static void open_log(void) {
	struct stat st;
	fd = open(options.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	size = fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
}

void log_start(const struct log_options *o) {
	options = *o;
	if (options.path)
		open_log();
}

void log_reopen(void) {
	if (!options.path)
		return;
	if (fd >= 0)
		close(fd);
	open_log();
}

static const char *numbered(char out[PATH_MAX + 24], int64_t n) {
	char *p = put_text(out, options.path);
	if (n) {
		*p++ = '.';
		p = put_number(p, n);
	}
	*p = '\0';
	return out;
}

/* Without a second file the log starts anew. Where renaming fails it goes on in the same file. */
static void rotate(void) {
	char from[PATH_MAX + 24], to[PATH_MAX + 24];
	if (options.max_files <= 1) {
		if (ftruncate(fd, 0) == 0)
			size = 0;
		return;
	}
	for (int64_t i = options.max_files - 1; i > 0; i--)
		if (rename(numbered(from, i - 1), numbered(to, i)) < 0 && errno != ENOENT && i == 1)
			return;
	log_reopen();
}

/* All or nothing: an entry that was cut off by a full disk is taken away again. */
static bool write_whole(const char *data, size_t n) {
	size_t done = 0;
	while (done < n) {
		ssize_t r = write(fd, data + done, n - done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			if (done && ftruncate(fd, size) < 0)
				size += (int64_t)done;
			return false;
		}
		done += (size_t)r;
	}
	size += (int64_t)n;
	return true;
}

/* "2026-11-22T23:09:46.123456789Z " of the moment; the days are counted by the civil calendar's 400-year
 * eras, which begin in March. */
static char *put_time(char *p) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	int64_t days = t.tv_sec / 86400, second = t.tv_sec % 86400;
	int64_t z = days + 719468, era = z / 146097, of_era = z - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), m = (5 * of_year + 2) / 153;
	int64_t month = m < 10 ? m + 3 : m - 9;
	const struct {
		int64_t value;
		int digits;
		char after;
	} parts[] = {
		{year + era * 400 + (month <= 2), 4, '-'},
		{month, 2, '-'},
		{of_year - (153 * m + 2) / 5 + 1, 2, 'T'},
		{second / 3600, 2, ':'},
		{second / 60 % 60, 2, ':'},
		{second % 60, 2, '.'},
		{t.tv_nsec, 9, 'Z'},
	};
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		int64_t v = parts[i].value;
		for (int k = parts[i].digits; k-- > 0; v /= 10)
			p[k] = (char)('0' + v % 10);
		p += parts[i].digits;
		*p++ = parts[i].after;
	}
	*p++ = ' ';
	return p;
}

static bool write_note(void) {
	char note[PREFIX_MAX + 128];
	char *p = put_text(put_time(note), "stderr F wabe: ");
	p = put_number(p, lost);
	p = put_text(p, " bytes of output are missing here: the log could not be written\n");
	return write_whole(note, (size_t)(p - note));
}

static void flush(void) {
	if (fd < 0)
		open_log();
	if (lost && fd >= 0 && write_note())
		lost = 0;
	if (fd < 0 || lost || !write_whole(pending, pending_len))
		lost += (int64_t)pending_output;
	pending_len = pending_output = 0;
}

static void add_entry(const char *prefix, size_t prefix_len, const char *text, size_t n, bool full) {
	size_t whole = prefix_len + 2 + n + 1;
	bool over = options.max_size && size + (int64_t)(pending_len + whole) > options.max_size;
	if (pending_len && (over || pending_len + whole > sizeof pending))
		flush();
	if (over && size && fd >= 0)
		rotate();
	char *p = pending + pending_len;
	memcpy(p, prefix, prefix_len);
	p += prefix_len;
	*p++ = full ? 'F' : 'P';
	*p++ = ' ';
	memcpy(p, text, n);
	p[n] = '\n';
	pending_len += whole;
	pending_output += n + full;
}

void log_add(const char *stream, const char *data, size_t n) {
	if (!options.path || !n)
		return;
	char prefix[PREFIX_MAX];
	char *p = put_text(put_time(prefix), stream);
	*p++ = ' ';
	while (n) {
		size_t reach = n < ENTRY_TEXT ? n : ENTRY_TEXT;
		const char *newline = memchr(data, '\n', reach);
		size_t text = newline ? (size_t)(newline - data) : reach;
		add_entry(prefix, (size_t)(p - prefix), data, text, newline != NULL);
		data += text + (newline != NULL);
		n -= text + (newline != NULL);
	}
	flush();
}
