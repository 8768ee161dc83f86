/* An attached stream: standard input goes there, output comes from there, in the frames of shim/protocol.h.
 * The terminal is raw meanwhile; signals are taken from a descriptor, so that there is one way out, which
 * restores the terminal. */
#include "cli/cli.h"

#include "base/fs.h"
#include "shim/protocol.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEND_MAX ((size_t)256 << 10) /* that wait to be sent before input is left alone */

static int parse_key(struct str key, char *out) {
	static const char ctrl[] = "ctrl-";
	size_t n = sizeof ctrl - 1;
	if (key.len == 1) {
		*out = key.p[0];
		return 0;
	}
	if (key.len != n + 1 || memcmp(key.p, ctrl, n) != 0)
		return -EINVAL;
	char c = key.p[n];
	bool letter = c >= 'a' && c <= 'z';
	if (!letter && !(c >= '@' && c <= '_'))
		return -EINVAL;
	*out = (char)(c & 0x1f);
	return 0;
}

/* The bytes of "ctrl-p,ctrl-q"; out has room for as many as the text has. */
static int parse_keys(const char *text, char *out, size_t *n) {
	struct str rest = str_view(text);
	*n = 0;
	while (rest.len)
		if (parse_key(str_cut(&rest, ','), &out[(*n)++]) < 0)
			return -EINVAL;
	return 0;
}

int session_check(bool tty, bool input, const char *detach_keys, struct error *err) {
	_cleanup_(free_ptr) char *keys = alloc_zero(strlen(detach_keys) + 1);
	size_t n;
	if (parse_keys(detach_keys, keys, &n) < 0)
		return error_set(err, ERROR_INVALID, "\"%s\" are not keys such as ctrl-p,ctrl-q", detach_keys);
	if (tty && input && !isatty(STDIN_FILENO))
		return error_set(err, ERROR_INVALID, "standard input is no terminal: leave out -t, or -i");
	return 0;
}

static void hold_signals(struct session *s) {
	static const int always[] = {SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT},
			 forwarded[] = {SIGUSR1, SIGUSR2, SIGALRM};
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		sigaddset(&set, always[i]);
	for (size_t i = 0; s->signal_path && i < ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void queue_frame(struct session *s, enum shim_frame type, const void *data, size_t n) {
	char header[SHIM_HEADER];
	shim_header(header, type, n);
	buf_add(&s->to_send, header, sizeof header);
	buf_add(&s->to_send, data, n);
}

static void queue_size(struct session *s) {
	int rows, columns;
	if (!s->tty || !terminal_size(&rows, &columns))
		return;
	const char size[4] = {(char)(rows >> 8), (char)rows, (char)(columns >> 8), (char)columns};
	queue_frame(s, SHIM_RESIZE, size, sizeof size);
}

static int flush(struct session *s, struct error *err) {
	while (s->to_send.len) {
		ssize_t n = RETRY_EINTR(send(s->sock, s->to_send.data, s->to_send.len, MSG_NOSIGNAL));
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) { /* what it still said can be read */
			buf_truncate(&s->to_send, 0);
			s->input_open = false;
			return 0;
		}
		if (n < 0)
			return error_errno(err, errno, "cannot send to %s", s->name);
		buf_consume(&s->to_send, (size_t)n);
	}
	return 0;
}

int session_open(struct session *s, struct error *err) {
	s->sock = s->signal_fd = -1;
	int r = session_check(s->tty, s->input, s->detach_keys, err);
	if (r < 0)
		return r;
	s->keys = alloc_zero(strlen(s->detach_keys) + 1);
	parse_keys(s->detach_keys, s->keys, &s->n_keys);
	hold_signals(s);
	r = client_upgrade(s->in->client, s->path, s->body, &s->sock, &s->received, err);
	if (r < 0)
		return r;
	fd_set_nonblock(s->sock, true);
	s->input_open = s->input;
	queue_size(s);
	r = flush(s, err);
	if (r == 0 && s->tty && s->input)
		terminal_raw();
	return r;
}

void session_close(struct session *s) {
	terminal_restore();
	close_fd(&s->sock);
	close_fd(&s->signal_fd);
	buf_free(&s->received);
	buf_free(&s->to_send);
	free(s->keys);
	free(s->path);
	free(s->signal_path);
	json_decref(s->body);
	*s = (struct session){.sock = -1, .signal_fd = -1};
}

static int write_output(int fd, const char *data, size_t n, struct error *err) {
	while (n) {
		ssize_t w = RETRY_EINTR(write(fd, data, n));
		if (w < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){fd, POLLOUT, 0}, 1, -1);
			continue;
		}
		if (w < 0)
			return error_errno(err, errno, "cannot write the output");
		data += w;
		n -= (size_t)w;
	}
	return 0;
}

static int take_frame(struct session *s, int type, const char *data, size_t n, struct error *err) {
	const uint8_t *bytes = (const uint8_t *)data;
	switch (type) {
	case SHIM_STDOUT:
		return write_output(STDOUT_FILENO, data, n, err);
	case SHIM_STDERR:
		return write_output(STDERR_FILENO, data, n, err);
	case SHIM_EXIT:
		if (n != 4)
			return error_set(err, ERROR_CORRUPT, "%s sent an exit status of %zu bytes", s->name, n);
		s->status = bytes[3]; /* statuses are below 256 */
		s->ended = true;
		return 0;
	default: /* ready, and what later versions may say */
		return 0;
	}
}

static int take_frames(struct session *s, struct error *err) {
	size_t at = 0;
	int r = 0;
	while (r == 0 && !s->ended && s->received.len - at >= SHIM_HEADER) {
		const uint8_t *h = (const uint8_t *)s->received.data + at;
		size_t n = shim_length(h);
		if (n > SHIM_FRAME_MAX)
			return error_set(err, ERROR_CORRUPT, "%s sent a frame of %zu bytes", s->name, n);
		if (s->received.len - at < SHIM_HEADER + n)
			break;
		r = take_frame(s, h[0], (const char *)h + SHIM_HEADER, n, err);
		at += SHIM_HEADER + n;
	}
	buf_consume(&s->received, at);
	return r;
}

static int receive(struct session *s, struct error *err) {
	char *room = buf_room(&s->received, SHIM_HEADER + SHIM_FRAME_MAX);
	ssize_t n = RETRY_EINTR(recv(s->sock, room, SHIM_HEADER + SHIM_FRAME_MAX, 0));
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return error_set(err, ERROR_UNAVAILABLE, "the connection to %s broke off", s->name);
	buf_grown(&s->received, (size_t)n);
	return take_frames(s, err);
}

/* Passes input on, but for the detach keys; a part of them is held back until it is clear what it is. */
static void filter_input(struct session *s, const char *data, size_t n, struct buf *out) {
	for (size_t i = 0; i < n && !s->detached; i++) {
		if (s->keys_seen && data[i] != s->keys[s->keys_seen]) {
			buf_add(out, s->keys, s->keys_seen);
			s->keys_seen = 0;
		}
		if (s->n_keys && data[i] == s->keys[s->keys_seen])
			s->detached = ++s->keys_seen == s->n_keys;
		else
			buf_addc(out, data[i]);
	}
}

static void read_input(struct session *s) {
	char data[SHIM_FRAME_MAX / 2];
	ssize_t n = RETRY_EINTR(read(STDIN_FILENO, data, sizeof data));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		s->input_open = false;
		queue_frame(s, SHIM_STDIN, s->keys, s->keys_seen);
		if (s->keys_seen)
			queue_frame(s, SHIM_STDIN, NULL, 0);
		return;
	}
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	if (s->tty)
		filter_input(s, data, (size_t)n, &out);
	else
		buf_add(&out, data, (size_t)n);
	if (out.len)
		queue_frame(s, SHIM_STDIN, out.data, out.len);
}

static void forward(struct session *s, int signo) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "signal", signal_name(signo));
	client_call(s->in->client, "POST", s->signal_path, body, NULL, NULL); /* it may have ended just now */
}

static void take_signals(struct session *s) {
	struct signalfd_siginfo info;
	while (read(s->signal_fd, &info, sizeof info) == sizeof info) {
		int signo = (int)info.ssi_signo;
		if (signo == SIGWINCH)
			queue_size(s);
		else if (s->signal_path)
			forward(s, signo);
		else
			s->signo = signo;
	}
}

static int turn(struct session *s, struct error *err) {
	bool may_read = s->input_open && s->to_send.len < SEND_MAX;
	struct pollfd p[] = {
		{s->sock, (short)(POLLIN | (s->to_send.len ? POLLOUT : 0)), 0},
		{s->signal_fd, POLLIN, 0},
		{may_read ? STDIN_FILENO : -1, POLLIN, 0},
	};
	if (RETRY_EINTR(poll(p, 3, -1)) < 0)
		return error_errno(err, errno, "cannot wait for %s", s->name);
	if (p[1].revents)
		take_signals(s);
	if (p[2].revents)
		read_input(s);
	int r = flush(s, err);
	return r == 0 && p[0].revents & ~POLLOUT ? receive(s, err) : r;
}

int session_run(struct session *s, struct error *err) {
	queue_size(s);
	int r = take_frames(s, err);
	while (r == 0 && !s->ended && !s->detached && !s->signo)
		r = turn(s, err);
	terminal_restore();
	if (s->ended)
		return s->status;
	if (s->detached) {
		fprintf(stderr,
			s->is_exec ? "\ndetached: it goes on in %s\n" : "\ndetached: wabe attach %s comes back\n",
			s->name);
		return 0;
	}
	return r < 0 ? r : 128 + s->signo;
}

static void wait_settled(const struct session *s, const char *id, const char *policy, bool auto_remove) {
	if (policy && strcmp(policy, "no") != 0)
		return;
	char *path = api_path(s->in, "/instances/%s/wait", id);
	path_query(&path, "condition", auto_remove ? "removed" : "not-running");
	api_call(s->in, "POST", path, NULL, NULL, NULL); /* it may be gone already */
}

int session_run_to_end(struct session *s, const char *id, const char *policy, bool auto_remove, struct error *err) {
	struct error e = ERROR_INIT;
	int r = session_run(s, &e);
	if (s->ended)
		wait_settled(s, id, policy, auto_remove);
	if (r != -ERROR_UNAVAILABLE)
		return r < 0 ? error_move(err, &e) : r;
	_cleanup_(json_free_ptr) json_t *end = NULL;
	if (api_call(s->in, "POST", api_path(s->in, "/instances/%s/wait?condition=not-running", id), NULL, &end, NULL) <
	    0)
		return error_move(err, &e);
	error_free(&e);
	return (int)json_get_int(end, "exit_code");
}

int session_of_instance(const struct invocation *in, const char *name, const json_t *spec, bool input, bool sig_proxy,
			const char *detach_keys, bool start, struct error *err) {
	_cleanup_(session_close) struct session s = {
		.in = in,
		.path = api_path(in, "/instances/%s/attach?stdout=true&stderr=true", name),
		.signal_path = sig_proxy ? api_path(in, "/instances/%s/kill", name) : NULL,
		.name = name,
		.tty = json_get_bool(spec, "tty"),
		.input = input,
		.detach_keys = detach_keys,
	};
	path_query(&s.path, "stdin", input ? "true" : "false");
	int r = session_open(&s, err);
	if (r == 0 && start)
		r = api_call(in, "POST", api_path(in, "/instances/%s/start", name), NULL, NULL, err);
	if (r < 0)
		return r;
	const char *policy = json_get_str(json_object_get(spec, "restart"), "policy");
	return session_run_to_end(&s, name, policy, json_get_bool(spec, "auto_remove"), err);
}

int exit_status_of(const struct error *err) {
	if (err->kind == ERROR_NO_COMMAND)
		return 127;
	return err->kind == ERROR_NO_EXEC ? 126 : EXIT_WABE;
}
