/* The protocol of QEMU's guest agent, on its virtio port: a JSON object is a request, a line is an answer. The host may come and
 * go, and may be hostile no more than it is anyway; what it sends is bounded all the same.
 * https://www.qemu.org/docs/master/interop/qemu-ga-ref.html */
#include "guest/guest-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PORT "org.qemu.guest_agent.0"
#define REQUEST_MAX ((size_t)24 << 20)
#define ANSWERS_MAX ((size_t)64 << 20)

/* Where in a request the parser stands. */
struct scanner {
	int depth;
	bool string, escaped;
};

struct guest_agent {
	struct guest *guest;
	struct execs *execs;
	int fd; /* -1: the port is not there */
	struct buf in, out;
	struct scanner scanner;
};

struct guest_agent *guest_agent_new(struct guest *g, struct execs *x) {
	struct guest_agent *a = NEW(struct guest_agent);
	*a = (struct guest_agent){.guest = g, .execs = x, .fd = -1, .in = BUF_INIT_MAX(REQUEST_MAX), .out = BUF_INIT_MAX(ANSWERS_MAX)};
	return a;
}

/* --- answers --- */

/* What the host does not take now waits; a host that has gone gets nothing. */
static void flush(struct guest_agent *a) {
	while (a->out.len) {
		ssize_t n = write(a->fd, a->out.data, a->out.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		buf_consume(&a->out, (size_t)n);
	}
	if (buf_overflowed(&a->out))
		buf_free(&a->out);
}

static void answer(struct guest_agent *a, json_t *reply, const json_t *id, bool delimited) {
	if (id)
		json_object_set(reply, "id", (json_t *)id);
	_cleanup_(free_ptr) char *text = json_print(reply);
	if (delimited)
		buf_addc(&a->out, (char)0xff);
	buf_adds(&a->out, text);
	buf_addc(&a->out, '\n');
	json_decref(reply);
}

static json_t *error_reply(const struct error *err) {
	return json_pack("{s:{s:s,s:s}}", "error", "class", err->kind == ERROR_UNSUPPORTED ? "CommandNotFound" : "GenericError", "desc",
			 error_text(err));
}

static void take_request(struct guest_agent *a, const char *text, size_t n) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *request = json_parse(text, n, &err), *result = NULL;
	const char *name = json_get_str(request, "execute");
	if (request && !name)
		error_set(&err, ERROR_INVALID, "a request has a member \"execute\"");
	int r = name ? command_run(a->guest, a->execs, name, json_object_get(request, "arguments"), &result, &err) : -1;
	if (r < 0)
		answer(a, error_reply(&err), json_object_get(request, "id"), false);
	else if (result)
		answer(a, json_pack("{s:O}", "return", result), json_object_get(request, "id"), str_same(name, "guest-sync-delimited"));
}

/* --- requests --- */

/* Whether c ends a request. What is between requests is nobody's. */
static bool scan(struct scanner *s, char c) {
	if (s->string) {
		if (!s->escaped && c == '"')
			s->string = false;
		s->escaped = !s->escaped && c == '\\';
		return false;
	}
	if (c == '"')
		s->string = true;
	else if (c == '{' || c == '[')
		s->depth++;
	else if ((c == '}' || c == ']') && s->depth > 0)
		return --s->depth == 0;
	return false;
}

static void forget(struct guest_agent *a) {
	buf_free(&a->in);
	a->in = BUF_INIT_MAX(REQUEST_MAX);
	a->scanner = (struct scanner){0};
}

static void take_byte(struct guest_agent *a, char c) {
	if (c == (char)0xff) { /* a host that begins anew */
		forget(a);
		return;
	}
	if (a->scanner.depth == 0 && c != '{')
		return;
	buf_addc(&a->in, c);
	if (!scan(&a->scanner, c))
		return;
	if (buf_overflowed(&a->in)) {
		struct error err = ERROR_INIT;
		error_set(&err, ERROR_TOO_LARGE, "a request may have %zu bytes", REQUEST_MAX);
		answer(a, error_reply(&err), NULL, false);
		error_free(&err);
	} else {
		take_request(a, a->in.data, a->in.len);
	}
	forget(a);
}

/* Edges, for a port whose host is away is at its end all the time. */
static void on_port(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct guest_agent *a = arg;
	char chunk[16384];
	for (ssize_t n; (n = read(a->fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR);)
		for (ssize_t i = 0; i < n; i++)
			take_byte(a, chunk[i]);
	flush(a);
}

/* --- the port --- */

char **ports_find(const char *begin, char ***names) {
	_cleanup_(close_fd) int dir = open("/sys/class/virtio-ports", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **all = NULL;
	char **found = NULL;
	if (dir < 0 || fs_names(dir, &all) < 0)
		return NULL;
	for (char **n = all; n && *n; n++) {
		_cleanup_(free_ptr) char *file = str_format("%s/name", *n);
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		if (fs_read_at(dir, file, 256, &text) < 0 || !str_starts(buf_str(&text), begin))
			continue;
		strv_take(&found, str_format("/dev/%s", *n));
		if (names)
			strv_take(names, str_copyn(text.data, text.len - 1)); /* without the end of the line */
	}
	return found;
}

void guest_agent_look(struct guest_agent *a) {
	if (a->fd >= 0)
		return;
	_cleanup_(strv_free_ptr) char **paths = ports_find(PORT, NULL);
	a->fd = paths ? open(paths[0], O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
	if (a->fd >= 0)
		loop_add_fd(a->guest->loop, a->fd, EPOLLIN | EPOLLOUT | EPOLLET, on_port, a);
}
