/* A machine that comes from another daemon: a start whose guest goes on where it was there. QEMU waits for its memory, and has an
 * NBD server for its disk meanwhile; that one only listens, so two processes carry what comes over the connection to it. The machine
 * is this daemon's from the moment that its record says that it runs, and that is written only when the other side has said "go". */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/lines.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_WAIT (30 * NS_PER_SEC)
#define PIECE ((size_t)256 << 10)

struct receiver {
	struct job *job;
	const struct msg_machine_receive *wanted;
	struct saved_memory what; /* that comes */
	struct lines peer;
	struct qmp *q;
	struct msg_instance_create *record; /* of the start */
	pid_t carriers[2 * (1 + MIGRATION_DISKS_MAX)];
	bool loaded, go;
	bool rest; /* comes while it runs */
};

static int64_t soon(void) {
	return time_mono_ns() + ANSWER_WAIT;
}

/* --- what comes --- */

static bool is_generation(const char *text) {
	return strlen(text) == 36 && strspn(text, "0123456789abcdef-") == 36;
}

static int hear_what(struct receiver *f, struct error *err) {
	_cleanup_(json_free_ptr) json_t *message = NULL;
	int r = lines_await(&f->peer, time_mono_ns() + MIGRATION_WAIT, &message, err);
	if (r == 0)
		r = saved_parse(message, &f->what, err);
	if (r == 0 && (!board_is_name(f->what.board) || (f->what.generation && !is_generation(f->what.generation))))
		r = error_set(err, ERROR_INVALID, "it has no board, or is of a generation of no known form");
	return r < 0 ? error_wrap(err, "the machine that comes") : 0;
}

static int keep_generation(const struct agent *a, const char *id, const char *generation, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, GENERATION_FILE);
	int r = generation ? file_replace(path, generation, strlen(generation), 0600) : 0;
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

int receive_prepare(const struct agent *a, struct receiver *f, char *const *shape, struct machine_start *m, struct error *err) {
	const char *was, *is;
	if (shapes_differ(f->what.shape, shape, &was, &is))
		return error_set(err, ERROR_CONFLICT, "the machine would not be here what it is there: \"%s\" there, \"%s\" here", was, is);
	m->config.incoming = true;
	m->config.post_copy = f->wanted->post_copy;
	m->config.board = f->what.board;
	m->config.generation = f->what.generation;
	return keep_generation(a, f->job->id, f->what.generation, err);
}

/* --- its disks --- */

__attribute__((noreturn)) static void carry(int from, int to) {
	_cleanup_(free_ptr) char *piece = alloc_zero(PIECE);
	prctl(PR_SET_NAME, "wabe-carrier");
	worker_drop_powers();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(from, STDIN_FILENO) < 0 || dup2(to, STDOUT_FILENO) < 0)
		_exit(1);
	syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0); /* who closes a connection is to have closed it */
	for (;;) {
		ssize_t n = RETRY_EINTR(read(STDIN_FILENO, piece, PIECE));
		if (n <= 0 || fs_write_all(STDOUT_FILENO, piece, (size_t)n) < 0)
			break;
	}
	shutdown(STDOUT_FILENO, SHUT_WR);
	_exit(0);
}

static int start_carriers(pid_t *carriers, int disk, int server, struct error *err) {
	fd_set_nonblock(disk, false);
	for (int i = 0; i < 2; i++) {
		carriers[i] = fork();
		if (carriers[i] < 0)
			return error_errno(err, errno, "cannot start a process for the disk");
		if (carriers[i] == 0)
			carry(i ? server : disk, i ? disk : server);
	}
	return 0;
}

static void end_carriers(struct receiver *f) {
	for (size_t i = 0; i < ARRAY_SIZE(f->carriers); i++) {
		if (f->carriers[i] <= 0)
			continue;
		kill(f->carriers[i], SIGKILL);
		waitpid(f->carriers[i], NULL, 0);
		f->carriers[i] = 0;
	}
}

/* A socket of nobody's but QEMU's and this process's, and n connections to it. */
static int connect_server(const struct agent *a, const char *id, int *listener, int *servers, size_t n, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(a, id, NULL);
	_cleanup_(close_fd) int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(free_ptr) char *path = str_format("/proc/self/fd/%d/nbd", at);
	*listener = at < 0 ? -errno : sock_listen_unix(path, 0600);
	int r = MIN(*listener, 0);
	for (size_t i = 0; r == 0 && i < n; i++) {
		servers[i] = sock_connect_unix(path);
		r = MIN(servers[i], 0);
	}
	if (at >= 0)
		unlink(path);
	return r < 0 ? error_errno(err, r, "cannot listen in %s", dir) : 0;
}

static int export_disks(struct qmp *q, const struct run_disk *disks, struct error *err) {
	int r = 0;
	for (const struct run_disk *d = disks; r == 0 && d->id; d++) {
		_cleanup_(free_ptr) char *node = str_format("%s-data", d->id);
		json_t *export = json_pack("{s:s,s:s,s:s,s:s,s:b}", "type", "nbd", "id", d->id, "node-name", node, "name", d->id, "writable", 1);
		r = qmp_call(q, "block-export-add", export, -1, soon(), NULL, err);
	}
	return r;
}

/* The other side picks by name which of them a connection is for. */
static int serve_disks(const struct agent *a, const char *id, struct receiver *f, const struct run_state *run, struct error *err) {
	_cleanup_(run_disks_free_ptr) struct run_disk *disks = run_disks(f->record, run);
	_cleanup_(close_fd) int listener = -1;
	size_t n = f->job->nfds - 2;
	int servers[1 + MIGRATION_DISKS_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		servers[i] = -1;
	int r = connect_server(a, id, &listener, servers, n, err);
	json_t *at = json_pack("{s:{s:s,s:{s:s}},s:s,s:i}", "addr", "type", "fd", "data", "str", "nbd", "tls-creds", TLS_ID,
			       "max-connections", (int)n);
	if (r == 0)
		r = qmp_give(f->q, "nbd", listener, soon(), err);
	r = r < 0 ? json_decref(at), r : qmp_call(f->q, "nbd-server-start", at, -1, soon(), NULL, err);
	if (r == 0)
		r = export_disks(f->q, disks, err);
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			r = start_carriers(&f->carriers[2 * i], f->job->fds[2 + i], servers[i], err);
		close_fd(&servers[i]);
	}
	return r;
}

/* --- its memory --- */

/* QEMU tries whether it can serve the guest's page faults. */
static int begin_settings(struct receiver *f, struct error *err) {
	int r = migration_capabilities(f->q, false, f->wanted->post_copy, err);
	if (r == 0 || !f->wanted->post_copy)
		return r;
	error_wrap(err, "no post-copy: QEMU before 8.0 needs vm.unprivileged_userfaultfd=1 of its host, later ones /dev/userfaultfd of Linux "
		   "6.1. Nothing has moved; without post-copy it can");
	err->kind = ERROR_UNSUPPORTED;
	return -ERROR_UNSUPPORTED;
}

static int begin_memory(struct receiver *f, struct error *err) {
	int r = migration_set(f->q, json_pack("{s:s}", "tls-creds", TLS_ID), err);
	if (r == 0)
		r = qmp_give(f->q, "memory", f->job->fds[1], soon(), err);
	return r < 0 ? r : qmp_call(f->q, "migrate-incoming", json_pack("{s:s}", "uri", "fd:memory"), -1, soon(), NULL, err);
}

static int take_events(struct receiver *f, struct error *err) {
	for (;;) {
		_cleanup_(free_ptr) char *event = NULL;
		_cleanup_(json_free_ptr) json_t *data = NULL;
		int r = qmp_poll(f->q, &event, &data, err);
		if (r <= 0)
			return r < 0 ? error_wrap(err, "QEMU") : 0;
		const char *status = str_same(event, "MIGRATION") ? json_get_str(data, "status") : NULL;
		f->loaded |= str_same(status, "completed");
		if (str_same(status, "failed"))
			return error_set(err, ERROR_CORRUPT, "QEMU does not take the memory that came");
	}
}

static void take_word(struct receiver *f, const json_t *message) {
	f->go |= json_get_bool(message, "go");
	f->rest |= json_get_bool(message, "rest") && f->wanted->post_copy;
}

static int take_words(struct receiver *f, struct error *err) {
	for (;;) {
		_cleanup_(json_free_ptr) json_t *message = NULL;
		int r = lines_next(&f->peer, &message, err);
		if (r > 0)
			take_word(f, message);
		else if (r == 0 && (r = lines_fill(&f->peer, err)) == 0)
			return 0;
		if (r < 0)
			return error_wrap(err, "the other daemon's agent");
	}
}

static bool is_ready(const struct receiver *f) {
	return f->go && (f->loaded || f->rest);
}

/* As long as the other side takes: its death ends it. */
static int await_machine(struct receiver *f, struct error *err) {
	for (;;) {
		int r = take_events(f, err);
		if (r == 0 && !is_ready(f))
			r = take_words(f, err);
		if (r < 0 || is_ready(f))
			return r;
		struct pollfd p[] = {{qmp_fd(f->q), POLLIN, 0}, {f->peer.fd, POLLIN, 0}};
		if (RETRY_EINTR(poll(p, ARRAY_SIZE(p), -1)) < 0)
			return error_errno(err, errno, "cannot wait");
	}
}

static int load(const struct agent *a, const char *id, struct receiver *f, const struct run_state *run, struct error *err) {
	int r = machine_monitor(a, id, time_mono_ns() + MIGRATION_WAIT, &f->q, err);
	if (r == 0)
		r = begin_settings(f, err);
	if (r == 0)
		r = secure_begin(f->q, f->record, run, f->wanted->secret, true, err);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* once more: being another user for a moment has taken it away */
	if (r == 0)
		r = serve_disks(a, id, f, run, err);
	if (r == 0)
		r = begin_memory(f, err);
	fault_point("receive.serving");
	if (r == 0)
		r = migration_say(&f->peer, json_pack("{s:b}", "ready", 1), err);
	fault_point("receive.ready");
	if (r == 0)
		r = await_machine(f, err);
	/* the disk has come whole before the memory; the guest cannot have it for itself as long as it is served */
	if (r == 0)
		r = qmp_call(f->q, "nbd-server-stop", NULL, -1, soon(), NULL, err);
	fault_point("receive.loaded");
	return r;
}

int receive_load(const struct agent *a, const char *id, struct receiver *f, struct msg_instance_create *record, const struct run_state *run,
		 struct error *err) {
	f->record = record;
	int r = load(a, id, f, run, err);
	qmp_free(TAKE_PTR(f->q)); /* one at a time has the monitor */
	if (r == 0)
		prctl(PR_SET_PDEATHSIG, 0);
	return r;
}

bool receive_rest(const struct receiver *f) {
	return f->rest;
}

/* The key and the settings are of no use any more, unless a part is still to come. The client of the disk's server goes once it has
 * been told. */
void receive_gone(const struct agent *a, const char *id, struct receiver *f, const struct run_state *run) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (machine_monitor(a, id, soon(), &f->q, &err) < 0)
		log_warn("machine %.12s: %s", id, error_text(&err));
	if (f->q && !f->rest)
		secure_end(f->q, f->record, run);
	qmp_free(TAKE_PTR(f->q));
	end_carriers(f);
	error_free(&err);
	if (migration_say(&f->peer, json_pack("{s:b}", "runs", 1), &err) < 0)
		log_warn("machine %.12s: %s", id, error_text(&err)); /* it will ask */
	fault_point("receive.told");
}

static void receiver_free(struct receiver *f) {
	end_carriers(f);
	lines_free(&f->peer);
	saved_free(&f->what);
}

int work_machine_receive(struct job *j, struct error *err) {
	struct receiver f = {.job = j, .wanted = j->body};
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the next agent puts away what is begun, and is not kept waiting */
	lines_init(&f.peer, j->fds[0], MIGRATION_LINE);
	int r = hear_what(&f, err);
	if (r == 0)
		r = start_instance(j, &f, err); /* returns on failure alone */
	migration_say(&f.peer, json_pack("{s:s}", "error", error_text(err)), NULL);
	receiver_free(&f);
	return r;
}

/* --- what comes while it runs --- */

int arrival_look(const struct agent *a, struct msg_instance_create *r, const struct run_state *run, struct qmp *q, struct error *err) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	int result = qmp_call(q, "query-migrate", NULL, -1, soon(), &now, err);
	const char *status = json_get_str(now, "status");
	if (result == 0 && (str_same(status, "postcopy-paused") || str_same(status, "failed")))
		return container_kill(&run->container, SIGKILL, true, err);
	if (result < 0 || !str_same(status, "completed"))
		return result;
	secure_end(q, r, run);
	fault_point("arrival.whole");
	r->instance.status.arriving = false;
	return record_save(a, r, err);
}

static int arrived(struct job *j, bool lost, struct error *err) {
	_cleanup_(memory_saver_free) struct memory_saver s = MEMORY_SAVER_INIT;
	s.agent = j->agent;
	s.id = j->id;
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &s.lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &s.record, err);
	struct instance_status *st = &s.record.instance.status;
	if (r < 0 || !st->arriving || run_load(j->agent, j->id, &s.run, NULL) < 0)
		return r;
	if (lost) /* its monitor may wait for a page as well */
		return container_kill(&s.run.container, SIGKILL, true, err);
	r = machine_monitor(j->agent, j->id, soon(), &s.q, err);
	if (r == 0)
		r = arrival_look(j->agent, &s.record, &s.run, s.q, err);
	if (r == 0)
		job_report(j, st->arriving ? NULL : "arrived", st, NULL);
	return r;
}

int work_machine_arrived(struct job *j, struct error *err) {
	return arrived(j, false, err);
}

int work_machine_lost(struct job *j, struct error *err) {
	log_error("machine %.12s: the rest of its memory does not come any more: its guest is lost", j->id);
	return arrived(j, true, err);
}
