/* How far long things are: on standard error, once they have taken a second. */
#include "cli/cli.h"

#include "base/time.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define BAR 30

struct progress {
	int64_t started, last; /* ns; last: when something was shown */
	bool terminal, shown;
	char *message;         /* that was shown last, or that of an upload */
	struct client *client; /* of an upload */
	int64_t total;
};

struct progress *progress_new(void) {
	struct progress *p = NEW(struct progress);
	p->started = time_mono_ns();
	p->terminal = isatty(STDERR_FILENO);
	return p;
}

static void show_bar(struct progress *p, const char *message, int64_t done, int64_t total) {
	_cleanup_(free_ptr) char *have = format_bytes(done), *all = format_bytes(total);
	fprintf(stderr, "\r\033[K%s", message);
	if (total > 0) {
		int filled = (int)((double)MIN(done, total) / (double)total * BAR);
		fprintf(stderr, " [%.*s%*s] %s of %s", filled, "==============================", BAR - filled, "", have,
			all);
	} else if (done) {
		fprintf(stderr, " %s", have);
	}
	fflush(stderr);
	p->shown = true;
}

/* Lines come as the message changes, and every ten seconds. */
static void show_line(struct progress *p, const char *message, int64_t done, int64_t total, int64_t now) {
	if (str_same(p->message, message) && now - p->last < 10 * NS_PER_SEC)
		return;
	_cleanup_(free_ptr) char *have = format_bytes(done), *all = format_bytes(total);
	if (total > 0)
		fprintf(stderr, "%s: %s of %s\n", message, have, all);
	else if (done)
		fprintf(stderr, "%s: %s\n", message, have);
	else
		fprintf(stderr, "%s\n", message);
	p->last = now;
	free(p->message);
	p->message = str_copy(message);
}

void progress_update(struct progress *p, const char *text, int64_t done, int64_t total) {
	int64_t now = time_mono_ns();
	if (now - p->started < NS_PER_SEC)
		return;
	_cleanup_(free_ptr) char *message = text_shown(text ? text : "working");
	if (!p->terminal) {
		show_line(p, message, done, total, now);
	} else if (now - p->last >= 100 * NS_PER_MS) {
		p->last = now;
		show_bar(p, message, done, total);
	}
}

void progress_end(struct progress *p) {
	if (p->shown)
		fprintf(stderr, "\r\033[K");
	if (p->client)
		client_on_upload(p->client, NULL, NULL);
	free(p->message);
	free(p);
}

static void on_upload(uint64_t sent, void *arg) {
	struct progress *p = arg;
	_cleanup_(free_ptr) char *message = str_copy(p->message);
	progress_update(p, message, (int64_t)sent, p->total);
}

struct progress *progress_of_upload(struct client *c, const char *message, int fd) {
	struct progress *p = progress_new();
	struct stat st;
	p->message = str_copy(message);
	p->client = c;
	p->total = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
	client_on_upload(c, on_upload, p);
	return p;
}

struct waiting {
	struct progress *progress; /* NULL: quiet */
	json_t *task;
};

static int on_task(const json_t *task, void *arg) {
	struct waiting *w = arg;
	json_decref(w->task);
	w->task = json_deep_copy(task);
	if (w->progress && str_same(json_get_str(task, "state"), "running"))
		progress_update(w->progress, json_get_str(task, "message"), json_get_int(task, "done"),
				json_get_int(task, "total"));
	return 0;
}

static int judge(json_t *task, const char *id, struct error *err) {
	const char *state = json_get_str(task, "state"), *kind = json_get_str(task, "error_kind"),
		   *message = json_get_str(task, "error");
	if (str_same(state, "done"))
		return 0;
	if (str_same(state, "cancelled"))
		return error_set(err, ERROR_CANCELLED, "task %s was cancelled", id);
	if (str_same(state, "failed"))
		return error_set(err, kind ? error_kind_from_name(kind) : ERROR_INTERNAL, "%s",
				 message ? message : "it failed");
	return error_set(err, ERROR_UNAVAILABLE, "task %s goes on, but the daemon ended the connection", id);
}

static int wait_and_judge(const struct invocation *in, const char *id, struct waiting *w, struct error *err) {
	int r = api_lines(in, "GET", api_path(in, "/tasks/%s/wait", id), NULL, on_task, w, err);
	return r < 0 ? r : judge(w->task, id, err);
}

int task_wait(const struct invocation *in, const char *id, bool quiet, json_t **task, struct error *err) {
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	_cleanup_(close_fd) int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	struct waiting w = {.progress = quiet ? NULL : progress_new()};
	client_cancel_on(in->client, signals);
	struct error e = ERROR_INIT;
	int r = wait_and_judge(in, id, &w, &e);
	client_cancel_on(in->client, -1);
	struct signalfd_siginfo info;
	struct error late = ERROR_INIT;
	if (r == -ERROR_CANCELLED && read(signals, &info, sizeof info) > 0 &&
	    api_call(in, "POST", api_path(in, "/tasks/%s/cancel", id), NULL, NULL, &late) == -ERROR_CONFLICT)
		error_move(&e, &late); /* it goes on */
	error_free(&late);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (w.progress)
		progress_end(w.progress);
	if (r < 0) {
		json_decref(w.task);
		return error_move(err, &e);
	}
	if (task)
		*task = w.task;
	else
		json_decref(w.task);
	return 0;
}
