/* Logs: parsing, finding the last lines without reading whole files, and following a file as it grows and
 * is replaced. The files are the agent's; control gets descriptors of them, oldest file first. */
#include "core/logs.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/core-priv.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536
#define HEAD 80 /* time, stream and tag of a line fit */
#define LINE_LIMIT (1 << 20)
#define FLUSH_BYTES 32768
#define STEP_BYTES (1 << 20)

bool log_entry_parse(const char *line, size_t len, struct log_entry *out) {
	struct str rest = {line, len};
	struct str when = str_cut(&rest, ' ');
	struct str stream = str_cut(&rest, ' ');
	struct str tag = str_cut(&rest, ' ');
	if (when.len == 0 || when.len >= TIME_TEXT_MAX)
		return false;
	if (!str_is(stream, "stdout") && !str_is(stream, "stderr"))
		return false;
	if (tag.len == 0 || (tag.p[0] != 'F' && tag.p[0] != 'P'))
		return false;
	*out = (struct log_entry){
		.stream = str_is(stream, "stdout") ? 1 : 2,
		.partial = tag.p[0] == 'P',
		.time_text = when.p,
		.time_len = when.len,
		.text = rest.p,
		.len = rest.len,
	};
	return true;
}

/* ---- the last lines ---- */

/* Walks back over the lines of a file. */
struct back {
	int fd;
	int64_t n;     /* lines wanted */
	int64_t lines; /* whole ones that were seen */
	int64_t next;  /* where the line seen last begins; the size at first */
};

static bool is_partial(const char *line, size_t len) {
	struct log_entry e;
	return log_entry_parse(line, len, &e) && e.partial;
}

/* A line begins at start; `have` bytes of it are at p. true: the one behind it is where to begin. */
static bool back_line(struct back *b, int64_t start, const char *p, size_t have) {
	char head[HEAD];
	if (have < HEAD) {
		ssize_t n = pread(b->fd, head, sizeof head, start);
		p = head;
		have = n > 0 ? (size_t)n : 0;
	}
	if (b->lines == 0 || !is_partial(p, MIN(have, (size_t)HEAD)))
		b->lines++;
	if (b->lines > b->n)
		return true;
	b->next = start;
	return false;
}

static bool back_block(struct back *b, int64_t from, const char *block, int64_t n, int64_t size) {
	for (int64_t i = n - 1; i >= 0; i--)
		if (block[i] == '\n' && from + i + 1 < size && back_line(b, from + i + 1, block + i + 1, (size_t)(n - i - 1)))
			return true;
	return false;
}

int64_t log_tail_offset(int fd, int64_t n, int64_t *found) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	struct back b = {fd, n, 0, st.st_size};
	_cleanup_(free_ptr) char *block = alloc_zero(BLOCK);
	bool over = st.st_size == 0;
	for (int64_t at = st.st_size; at > 0 && !over;) {
		int64_t from = MAX(at - BLOCK, 0);
		ssize_t got = pread(fd, block, (size_t)(at - from), from);
		if (got < 0)
			return -errno;
		over = back_block(&b, from, block, got, st.st_size) || (from == 0 && back_line(&b, 0, block, (size_t)got));
		at = from;
	}
	*found = MIN(b.lines, n);
	return b.next;
}

/* ---- reading ---- */

struct log_reader {
	struct core *core;
	struct entry *entry;
	char *id;
	struct log_filter filter;
	struct log_sink sink;
	int fds[WIRE_FDS_MAX];
	size_t n, at; /* files; the one that is read */
	int64_t offset;
	struct buf line;  /* the beginning of a line that is not whole yet */
	size_t unflushed;
	bool past_until;
};

static void files_close(struct log_reader *r) {
	for (size_t i = 0; i < r->n; i++)
		close_fd(&r->fds[i]);
	r->n = 0;
}

static void reader_free(struct log_reader *r) {
	files_close(r);
	buf_free(&r->line);
	entry_unref(r->core, r->entry);
	free(r->id);
	free(r);
}

static int files_open(struct log_reader *r, struct error *err) {
	const struct wire_request *row = wire_request_find("instance-logs");
	if (!row)
		return error_set(err, ERROR_UNSUPPORTED, "this build has no logs");
	_cleanup_(free_ptr) void *reply = alloc_zero(row->reply->size);
	struct msg_id body = {.id = r->id};
	struct wire_call call = {
		.socket_path = r->core->agent_socket,
		.request = row,
		.body = &body,
		.reply = reply,
		.reply_fds = r->fds,
		.reply_fds_max = WIRE_FDS_MAX,
	};
	int result = wire_call(&call, err);
	if (result < 0)
		return result;
	fields_free(row->reply, reply);
	r->n = call.reply_nfds;
	return 0;
}

static bool in_time(struct log_reader *r, const struct log_entry *e) {
	if (!r->filter.since && !r->filter.until)
		return true;
	char text[TIME_TEXT_MAX];
	int64_t ns;
	memcpy(text, e->time_text, e->time_len);
	text[e->time_len] = 0;
	if (time_parse(text, &ns) < 0)
		return false;
	if (r->filter.until && ns > r->filter.until)
		r->past_until = true;
	return ns >= r->filter.since && !r->past_until;
}

static void take_line(struct log_reader *r, const char *line, size_t len) {
	struct log_entry e;
	if (!log_entry_parse(line, len, &e) || !in_time(r, &e))
		return;
	if (e.stream == 1 ? !r->filter.want_stdout : !r->filter.want_stderr)
		return;
	r->sink.entry(r->sink.arg, &e);
	r->unflushed += len;
}

static void take_bytes(struct log_reader *r, const char *data, size_t n) {
	struct str rest = {data, n};
	while (rest.len) {
		const char *end = memchr(rest.p, '\n', rest.len);
		size_t len = end ? (size_t)(end - rest.p) : rest.len;
		if (r->line.len || !end)
			buf_add(&r->line, rest.p, len);
		if (end && r->line.len)
			take_line(r, r->line.data, r->line.len);
		else if (end)
			take_line(r, rest.p, len);
		if (end || r->line.len > LINE_LIMIT)
			buf_truncate(&r->line, 0);
		size_t used = len + (end != NULL);
		rest.p += used;
		rest.len -= used;
	}
}

/* Reads a block: 1 when there was something, 0 at the end of the newest file. */
static int read_block(struct log_reader *r) {
	char block[BLOCK / 4];
	while (r->at < r->n && !r->past_until) {
		ssize_t got = pread(r->fds[r->at], block, sizeof block, r->offset);
		if (got < 0)
			return -errno;
		if (got > 0) {
			r->offset += got;
			take_bytes(r, block, (size_t)got);
			return 1;
		}
		if (r->at + 1 == r->n)
			return 0;
		r->at++;
		r->offset = 0;
	}
	return 0;
}

static int seek_tail(struct log_reader *r, struct error *err) {
	int64_t wanted = r->filter.tail;
	for (size_t i = r->n; wanted >= 0 && i-- > 0;) {
		int64_t found, offset = log_tail_offset(r->fds[i], wanted, &found);
		if (offset < 0)
			return error_errno(err, (int)offset, "reading the log of %.12s", r->id);
		r->at = i;
		r->offset = offset;
		wanted -= found;
		if (wanted == 0)
			break;
	}
	return 0;
}

static int flush(struct log_reader *r, bool block) {
	int result = r->sink.flush(r->sink.arg, block);
	if (result == 0)
		r->unflushed = 0;
	return result;
}

/* Everything that is there by now. */
static int read_past(struct log_reader *r) {
	int result;
	while ((result = read_block(r)) > 0)
		if (r->unflushed >= FLUSH_BYTES && (result = flush(r, true)) < 0)
			return result;
	return result < 0 ? result : flush(r, true);
}

/* ---- following ---- */

struct log_follower {
	struct follower base;
	struct log_reader *reader;
	int watch; /* of the newest file, or negative */
};

/* The newest file is called "log", and gets another name when a newer one takes its place. */
static bool was_rotated(const struct log_reader *r) {
	char path[FD_PATH_MAX], name[PATH_MAX];
	if (r->n == 0)
		return false;
	ssize_t n = readlink(fd_path(r->fds[r->n - 1], path), name, sizeof name - 1);
	if (n < 0)
		return false;
	name[n] = 0;
	return !str_ends(name, "/log");
}

static void watch_newest(struct log_follower *f) {
	struct log_reader *r = f->reader;
	if (f->watch >= 0)
		follow_unwatch_file(r->core->follow, f->watch);
	f->watch = r->n ? follow_watch_file(r->core->follow, r->fds[r->n - 1]) : -1;
}

/* Asks for the files anew and goes on behind the one that was read last. */
static int reopen(struct log_follower *f) {
	struct log_reader *r = f->reader;
	struct stat seen = {0}, st;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (r->n)
		fstat(r->fds[r->at], &seen);
	int64_t offset = r->offset;
	files_close(r);
	if (files_open(r, &err) < 0) {
		log_debug("following the log of %.12s: %s", r->id, error_text(&err));
		return -EPIPE;
	}
	r->at = 0;
	r->offset = 0;
	for (size_t i = 0; i < r->n; i++)
		if (fstat(r->fds[i], &st) == 0 && st.st_ino == seen.st_ino && st.st_dev == seen.st_dev) {
			r->at = i;
			r->offset = offset;
		}
	watch_newest(f);
	return 0;
}

static bool entry_is_up(struct core *c, struct entry *e) {
	WITH_LOCK(c);
	return !e->removed && state_is_up(e->snap->instance.status.state);
}

static enum follow_result log_step(struct follower *base) {
	struct log_follower *f = (struct log_follower *)base;
	struct log_reader *r = f->reader;
	if (r->sink.gone(r->sink.arg))
		return FOLLOW_END;
	bool up = entry_is_up(r->core, r->entry); /* asked before the file is read: what it wrote last is there */
	int result = 1;
	for (size_t total = 0; result > 0 && total < STEP_BYTES; total += BLOCK / 4) {
		if (r->unflushed >= FLUSH_BYTES && (result = flush(r, false)) < 0)
			break;
		result = read_block(r);
		if (result == 0 && was_rotated(r))
			result = reopen(f) < 0 ? -EPIPE : 1;
	}
	int flushed = result == -EAGAIN ? result : flush(r, false);
	if (result == -EAGAIN || flushed == -EAGAIN || result > 0)
		return FOLLOW_SOON;
	if (result < 0 || flushed < 0 || r->past_until || !up)
		return FOLLOW_END;
	if (r->filter.until && time_now_ns() > r->filter.until)
		return FOLLOW_END;
	return f->watch >= 0 || r->n == 0 ? FOLLOW_WAIT : FOLLOW_SOON;
}

static void log_drop(struct follower *base, bool ended) {
	struct log_follower *f = (struct log_follower *)base;
	struct log_reader *r = f->reader;
	if (f->watch >= 0)
		follow_unwatch_file(r->core->follow, f->watch);
	r->sink.end(r->sink.arg, ended);
	reader_free(r);
	free(f);
}

static void follow_log(struct log_reader *r) {
	struct log_follower *f = NEW(struct log_follower);
	*f = (struct log_follower){.base = {.step = log_step, .drop = log_drop}, .reader = r, .watch = -1};
	watch_newest(f);
	follow_add(r->core->follow, &f->base);
}

int instance_logs(struct core *c, const char *project, const char *name, const struct log_filter *filter,
		  const struct log_sink *sink, struct error *err) {
	struct entry *e;
	int result = entry_get(c, project, name, &e, err);
	if (result < 0)
		return result;
	struct log_reader *r = NEW(struct log_reader);
	*r = (struct log_reader){.core = c, .entry = e, .filter = *filter, .sink = *sink};
	core_lock(c);
	r->id = str_copy(e->snap->instance.id);
	core_unlock(c);
	bool up = entry_is_up(c, e);
	result = files_open(r, err);
	if (result == 0)
		result = seek_tail(r, err);
	if (result < 0) {
		reader_free(r);
		return result;
	}
	sink->begin(sink->arg);
	result = read_past(r);
	if (result == 0 && filter->follow && up && !r->past_until) {
		follow_log(r);
		return 0;
	}
	sink->end(sink->arg, result == 0);
	reader_free(r);
	return 0;
}
