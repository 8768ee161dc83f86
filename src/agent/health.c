/* Health checks: a timer in the agent for each running instance that has one; each check is an exec that a
 * worker starts, waits for and judges by its exit status. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEFAULT_INTERVAL (30 * NS_PER_SEC)
#define DEFAULT_TIMEOUT (30 * NS_PER_SEC)
#define DEFAULT_RETRIES 3

struct health {
	struct loop_source *timer;
	int64_t interval, start_period, retries, failures;
	int64_t began;
	bool waits; /* for the result of a check */
};

/* --- what is to be checked --- */

const struct health_check *health_effective(const struct msg_instance_create *r) {
	return r->instance.spec.health.command ? &r->instance.spec.health : &r->config.health;
}

bool health_wanted(const struct msg_instance_create *r) {
	const struct health_check *h = health_effective(r);
	return h->command && h->command[0] && h->command[1] && strcmp(h->command[0], "NONE") != 0;
}

json_t *health_print(const struct msg_instance_create *r) {
	if (!health_wanted(r))
		return NULL;
	const struct health_check *h = health_effective(r);
	json_t *json = json_object();
	json_set_int(json, "interval", h->interval ? h->interval : DEFAULT_INTERVAL);
	json_set_int(json, "start_period", h->start_period);
	json_set_int(json, "retries", h->retries ? h->retries : DEFAULT_RETRIES);
	return json;
}

/* --- in the agent --- */

static void on_timer(void *arg);

static void schedule(struct inst *i) {
	loop_remove(i->health->timer);
	i->health->timer = loop_add_timer(i->agent->loop, time_mono_ns() + i->health->interval, on_timer, i);
}

static void on_timer(void *arg) {
	struct inst *i = arg;
	i->health->timer = NULL;
	if (!str_same(i->status.state, "running")) { /* paused: later */
		schedule(i);
		return;
	}
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct job j = {.agent = i->agent, .handler = &job_health, .sock = -1, .listen_fd = -1};
	memcpy(j.id, i->id, sizeof j.id);
	i->health->waits = true;
	if (worker_start(i->agent, &j, &err) < 0) {
		log_warn("health check of %.12s: %s", i->id, error_text(&err));
		schedule(i);
	}
}

void health_start(struct inst *i, const json_t *check) {
	health_stop(i);
	i->health = NEW(struct health);
	*i->health = (struct health){
		.interval = MAX(json_get_int(check, "interval"), NS_PER_MS),
		.start_period = json_get_int(check, "start_period"),
		.retries = json_get_int(check, "retries"),
		.began = time_mono_ns(),
	};
	schedule(i);
}

void health_stop(struct inst *i) {
	if (!i->health)
		return;
	loop_remove(i->health->timer);
	free(i->health);
	i->health = NULL;
}

static void set_health(struct inst *i, const char *to) {
	if (str_same(i->status.health, to))
		return;
	free(i->status.health);
	i->status.health = str_copy(to);
	event_emit(i->agent, "health", i->id, NULL, 0, &i->status);
}

void health_result(struct inst *i, bool ok) {
	struct health *h = i->health;
	if (!h || !h->waits)
		return;
	h->waits = false;
	schedule(i);
	if (ok) {
		h->failures = 0;
		set_health(i, "healthy");
		return;
	}
	bool starting = str_same(i->status.health, "starting");
	if (starting && time_mono_ns() < h->began + h->start_period)
		return;
	if (++h->failures >= h->retries)
		set_health(i, "unhealthy");
}

void health_ended(struct inst *i) {
	health_result(i, false);
}

/* --- in the worker --- */

/* True when the child ends with status 0 in time. */
static bool judge(pid_t pid, int64_t timeout) {
	_cleanup_(close_fd) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {pidfd, POLLIN, 0};
	if (RETRY_EINTR(poll(&p, 1, (int)MIN(timeout / NS_PER_MS + 1, 3600000))) == 0)
		kill(pid, SIGKILL);
	return proc_wait(pid) == 0;
}

static int check(struct job *j, bool *ok, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create record = {0};
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(instance_unlock) int lock = -1;
	struct container_stdio io = {-1, -1, -1, 0, -1};
	pid_t pid;
	int r = instance_lock(j->agent, j->id, LOCK_SH, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &record, err);
	if (r == 0)
		r = run_load(j->agent, j->id, &run, err);
	if (r < 0)
		return r;
	const struct health_check *h = health_effective(&record);
	_cleanup_(strv_free_ptr) char **command = NULL;
	if (strcmp(h->command[0], "CMD-SHELL") == 0) {
		strv_add(&command, "/bin/sh");
		strv_add(&command, "-c");
	}
	for (size_t i = 1; h->command[i]; i++)
		strv_add(&command, h->command[i]);
	struct container_config c;
	r = config_exec(&record, command, NULL, NULL, NULL, &c, err);
	if (r == 0)
		r = container_exec(&run.container, &c.process, false, &io, &pid, err);
	container_config_free(&c);
	instance_unlock(&lock);
	if (r == 0)
		*ok = judge(pid, h->timeout ? h->timeout : DEFAULT_TIMEOUT);
	return r;
}

int health_work(struct job *j, struct error *err) {
	bool ok = false;
	int r = check(j, &ok, err);
	json_t *extra = json_object();
	json_set_bool(extra, "healthy", ok);
	job_report(j, NULL, NULL, extra);
	/* a bad check is no bad agent */
	return r == -ERROR_NOT_FOUND || r == -ERROR_NO_COMMAND || r == -ERROR_NO_EXEC ? 0 : r;
}
