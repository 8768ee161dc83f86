/* Processes beside the first one, that the host starts through the agent. Their output is kept until it is asked for. */
#include "guest/guest-priv.h"

#include "base/base64.h"
#include "base/fs.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX ((size_t)16 << 20) /* of each stream, as QEMU's own agent has it */
#define EXECS_MAX 256                 /* whose end nobody has asked about */

struct stream {
	int fd; /* -1: closed */
	struct loop_source *source;
	struct buf data;
	bool truncated;
};
struct exec {
	struct exec *next;
	pid_t pid;
	bool ended;
	int how; /* wait status */
	struct stream out, err;
};
struct execs {
	struct guest *guest;
	struct exec *first;
};

struct execs *execs_new(struct guest *g) {
	struct execs *x = NEW(struct execs);
	x->guest = g;
	return x;
}

/* --- streams --- */

static void stream_close(struct stream *s) {
	loop_remove(s->source);
	s->source = NULL;
	close_fd(&s->fd);
	s->fd = -1;
}

static void on_output(UNUSED struct loop_source *source, UNUSED uint32_t events, void *arg) {
	struct stream *s = arg;
	char chunk[16384];
	ssize_t n = read(s->fd, chunk, sizeof chunk);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		stream_close(s);
		return;
	}
	size_t room = OUTPUT_MAX - s->data.len;
	s->truncated |= (size_t)n > room;
	buf_add(&s->data, chunk, MIN((size_t)n, room));
}

static int stream_open(struct loop *loop, struct stream *s, int *writer, struct error *err) {
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	fd_set_nonblock(p[0], true);
	s->fd = p[0];
	s->source = loop_add_fd(loop, s->fd, EPOLLIN, on_output, s);
	*writer = p[1];
	return 0;
}

static int input_open(const char *text, int *fd, struct error *err) {
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	if (!text)
		return 0;
	if (base64_decode(text, &data) < 0)
		return error_set(err, ERROR_INVALID, "input-data is no base64");
	*fd = memfd_create("input", MFD_CLOEXEC);
	if (*fd < 0 || fs_write_all(*fd, buf_str(&data), data.len) < 0 || lseek(*fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "cannot keep the input");
	return 0;
}

/* --- start --- */

static void exec_free(struct exec *e) {
	stream_close(&e->out);
	stream_close(&e->err);
	buf_free(&e->out.data);
	buf_free(&e->err.data);
	free(e);
}

/* As root, at the root. */
static int describe(const struct guest_config *g, const json_t *q, struct container_process *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **args = json_get_strv(q, "arg"), **env = json_get_strv(q, "env");
	const char *path = json_get_str(q, "path");
	if (!path)
		return error_set(err, ERROR_INVALID, "path is missing");
	strv_add(&p->args, path);
	for (char **a = args; a && *a; a++)
		strv_add(&p->args, *a);
	p->env = strv_copy(g->env);
	for (char **e = env; e && *e; e++)
		strv_env_set(&p->env, *e);
	p->user = str_copy("0");
	p->cwd = str_copy("/");
	return 0;
}

static int run(struct execs *x, const json_t *q, struct exec *e, struct error *err) {
	_cleanup_(container_process_free) struct container_process p = {0};
	_cleanup_(close_fd) int in = -1, out = -1, errors = -1;
	int r = describe(&x->guest->config, q, &p, err);
	if (r == 0)
		r = input_open(json_get_str(q, "input-data"), &in, err);
	if (r == 0 && json_get_bool(q, "capture-output")) {
		r = stream_open(x->guest->loop, &e->out, &out, err);
		if (r == 0)
			r = stream_open(x->guest->loop, &e->err, &errors, err);
	}
	struct container_stdio io = {.in = in, .out = out, .err = errors, .terminal_master = -1};
	return r < 0 ? r : container_exec(&x->guest->state, &p, true, &io, &e->pid, err);
}

static size_t count(const struct execs *x) {
	size_t n = 0;
	for (const struct exec *e = x->first; e; e = e->next)
		n++;
	return n;
}

int execs_start(struct execs *x, const json_t *arguments, json_t **out, struct error *err) {
	if (count(x) >= EXECS_MAX)
		return error_set(err, ERROR_BUSY, "%d processes were started whose end nobody has asked about", EXECS_MAX);
	struct exec *e = NEW(struct exec);
	e->out.fd = e->err.fd = -1;
	int r = run(x, arguments, e, err);
	if (r < 0) {
		exec_free(e);
		return r;
	}
	e->next = x->first;
	x->first = e;
	*out = json_pack("{s:I}", "pid", (json_int_t)e->pid);
	return 0;
}

/* --- end --- */

void execs_ended(struct execs *x, pid_t pid, int how) {
	for (struct exec *e = x->first; e; e = e->next)
		if (e->pid == pid && !e->ended) {
			e->ended = true;
			e->how = how;
		}
}

static void print_stream(json_t *o, const struct stream *s, const char *data, const char *truncated) {
	if (!s->data.len)
		return;
	_cleanup_(free_ptr) char *text = base64_encode(s->data.data, s->data.len);
	json_set_str(o, data, text);
	if (s->truncated)
		json_set_bool(o, truncated, true);
}

static json_t *print_end(const struct exec *e) {
	json_t *o = json_pack("{s:b}", "exited", 1);
	if (WIFSIGNALED(e->how))
		json_set_int(o, "signal", WTERMSIG(e->how));
	else
		json_object_set_new(o, "exitcode", json_integer(WEXITSTATUS(e->how)));
	print_stream(o, &e->out, "out-data", "out-truncated");
	print_stream(o, &e->err, "err-data", "err-truncated");
	return o;
}

/* Ended when its output has, too; then it is forgotten. */
int execs_status(struct execs *x, const json_t *arguments, json_t **out, struct error *err) {
	int64_t pid = json_get_int(arguments, "pid");
	for (struct exec **at = &x->first; *at; at = &(*at)->next) {
		struct exec *e = *at;
		if (e->pid != pid)
			continue;
		if (!e->ended || e->out.fd >= 0 || e->err.fd >= 0) {
			*out = json_pack("{s:b}", "exited", 0);
			return 0;
		}
		*out = print_end(e);
		*at = e->next;
		exec_free(e);
		return 0;
	}
	return error_set(err, ERROR_NOT_FOUND, "there is no process %lld of this kind", (long long)pid);
}
