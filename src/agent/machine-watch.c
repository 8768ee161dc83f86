/* What machines tell of themselves: the agent keeps one monitor of each open and passes on what its users want to know. A disk
 * that ran full halts the machine; a worker lets it go on, again and again, until there is room. One that has powered down may have
 * checkpoints to be kept, which a worker does. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64 /* then others have their turn */
#define TRY_AGAIN (5 * NS_PER_SEC)
#define END_AGAIN (60 * NS_PER_SEC)

struct machine_watch {
	struct inst *inst;
	struct qmp *qmp;
	struct loop_source *source, *timer, *end_timer, *arrival_timer;
};

static void run(struct machine_watch *w, const struct handler *h) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct job j = {.agent = w->inst->agent, .handler = h, .sock = -1, .listen_fd = -1};
	snprintf(j.id, sizeof j.id, "%s", w->inst->id);
	if (worker_start(w->inst->agent, &j, &err) < 0)
		log_error("machine %.12s: %s", j.id, error_text(&err));
}

static void resume(void *arg) {
	struct machine_watch *w = arg;
	w->timer = NULL;
	if (!w->inst->agent->stopping)
		run(w, &job_machine_resume);
}

/* Again, as long as it has not ended. */
static void end(void *arg) {
	struct machine_watch *w = arg;
	run(w, &job_machine_end);
	w->end_timer = loop_add_timer(w->inst->agent->loop, time_mono_ns() + END_AGAIN, end, w);
}

static void disk_failed(struct machine_watch *w, const json_t *data) {
	bool full = json_get_bool(data, "nospace"), halted = str_same(json_get_str(data, "action"), "stop");
	log_warn("machine %.12s: its disk %.64s %s%s", w->inst->id, json_get_str(data, "device"), full ? "is full" : "fails",
		 halted ? ": it halts until it can be written to" : "");
	if (halted && !w->timer)
		w->timer = loop_add_timer(w->inst->agent->loop, time_mono_ns() + TRY_AGAIN, resume, w);
}

/* Again, until that is on record. */
static void look_for_memory(void *arg) {
	struct machine_watch *w = arg;
	w->arrival_timer = NULL;
	if (!w->inst->status.arriving)
		return;
	run(w, &job_machine_arrived);
	w->arrival_timer = loop_add_timer(w->inst->agent->loop, time_mono_ns() + END_AGAIN, look_for_memory, w);
}

/* Of one that runs here already. */
static void memory_came(struct machine_watch *w, const char *status) {
	if (str_same(status, "completed"))
		run(w, &job_machine_arrived);
	else if (str_same(status, "postcopy-paused") || str_same(status, "failed"))
		run(w, &job_machine_lost);
}

static void handle(struct machine_watch *w, const char *event, const json_t *data) {
	static const struct {
		const char *event, *action;
	} told[] = {{"GUEST_PANICKED", "panic"}, {"WATCHDOG", "watchdog"}, {"RESET", "reset"}, {"BLOCK_IO_ERROR", "io_error"}};
	for (size_t i = 0; i < ARRAY_SIZE(told); i++)
		if (str_same(event, told[i].event))
			event_emit(w->inst->agent, told[i].action, w->inst->id, NULL, 0, &w->inst->status);
	if (str_same(event, "BLOCK_IO_ERROR"))
		disk_failed(w, data);
	if (str_same(event, "MIGRATION") && w->inst->status.arriving)
		memory_came(w, json_get_str(data, "status"));
	if (str_same(event, "SHUTDOWN") && !w->end_timer && checkpoints_wait(w->inst->agent, w->inst->id))
		end(w);
}

static void on_events(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct machine_watch *w = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = 1;
	for (int n = 0; r > 0 && n < EVENTS_AT_ONCE; n++) {
		_cleanup_(free_ptr) char *event = NULL;
		_cleanup_(json_free_ptr) json_t *data = NULL;
		r = qmp_poll(w->qmp, &event, &data, &err);
		if (r > 0)
			handle(w, event, data);
	}
	if (r < 0) { /* it has ended, which its shim will tell */
		loop_remove(w->source);
		loop_remove(w->end_timer);
		loop_remove(w->arrival_timer);
		w->source = w->end_timer = w->arrival_timer = NULL;
	}
}

void machine_watch_stop(struct inst *i) {
	struct machine_watch *w = i->machine;
	i->machine = NULL;
	if (!w)
		return;
	loop_remove(w->source);
	loop_remove(w->timer);
	loop_remove(w->end_timer);
	loop_remove(w->arrival_timer);
	qmp_free(w->qmp);
	free(w);
}

void machine_watch_start(struct inst *i) {
	_cleanup_(free_ptr) char *dir = run_path(i->agent, i->id, NULL);
	_cleanup_(close_fd) int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(free_ptr) char *path = str_format("/proc/self/fd/%d/qmp-events", at);
	machine_watch_stop(i);
	int fd = at < 0 ? at : sock_connect_now(path);
	if (fd < 0)
		return; /* it has ended just now */
	struct machine_watch *w = NEW(struct machine_watch);
	*w = (struct machine_watch){.inst = i, .qmp = qmp_adopt(fd)};
	w->source = loop_add_fd(i->agent->loop, fd, EPOLLIN, on_events, w);
	i->machine = w;
	look_for_memory(w); /* it may have come while nobody listened */
	if (checkpoints_wait(i->agent, i->id)) /* it may have powered down while nobody listened */
		run(w, &job_machine_end);
}
