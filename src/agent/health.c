/* Health checks in the agent: a timer for each running instance that has one, and what the results of checks mean. The
 * checks themselves are health-check.c. */
#include "agent/agent-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#define DEFAULT_INTERVAL (30 * NS_PER_SEC)
#define DEFAULT_RETRIES 3

struct health {
	struct loop_source *timer;
	int64_t interval, start_interval, start_period, retries, failures;
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
	json_set_int(json, "start_interval", h->start_interval ? h->start_interval : h->interval ? h->interval : DEFAULT_INTERVAL);
	json_set_int(json, "start_period", h->start_period);
	json_set_int(json, "retries", h->retries ? h->retries : DEFAULT_RETRIES);
	return json;
}

/* --- in the agent --- */

static void on_timer(void *arg);

/* Until it has been well for the first time, or its time to get so is over. */
static bool is_starting(const struct inst *i) {
	return str_same(i->status.health, "starting") && time_mono_ns() < i->health->began + i->health->start_period;
}

static void schedule(struct inst *i) {
	struct health *h = i->health;
	loop_remove(h->timer);
	h->timer = loop_add_timer(i->agent->loop, time_mono_ns() + (is_starting(i) ? h->start_interval : h->interval),
				  on_timer, i);
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
		.start_interval = MAX(json_get_int(check, "start_interval"), NS_PER_MS),
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
	if (ok) {
		h->failures = 0;
		set_health(i, "healthy");
	} else if (!is_starting(i) && ++h->failures >= h->retries) {
		set_health(i, "unhealthy");
	}
	schedule(i);
}

void health_ended(struct inst *i) {
	health_result(i, false);
}
