/* Statistics that go on: one thread, while anybody follows, asks the agent each second for each follower in turn. What they
 * cost then does not depend on how many there are at a time. */
#include "core/core-priv.h"

#include "base/time.h"

struct stats_follower {
	struct stats_follower *next;
	struct entry *entry;
	struct stats_sink sink;
};

struct stats_clock {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct stats_follower *followers; /* those that wait for the next second */
	bool running, closing;
	pthread_t thread;
	bool joinable;
};

struct stats_clock *stats_clock_new(void) {
	struct stats_clock *s = NEW(struct stats_clock);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	return s;
}

static void follower_end(struct core *c, struct stats_follower *f, bool complete) {
	f->sink.end(f->sink.arg, complete);
	entry_unref(c, f->entry);
	free(f);
}

/* false: it is over. */
static bool sample(struct core *c, struct stats_follower *f) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, f->entry);
	struct msg_id body = {.id = snap->instance.id};
	struct msg_stats stats;
	if (f->sink.gone(f->sink.arg) || agent_call(c, "instance-stats", &body, &stats, NULL) < 0)
		return false;
	int r = f->sink.stats(f->sink.arg, &snap->instance, &stats);
	fields_free(&msg_stats_table, &stats);
	return r >= 0;
}

/* Those that are over are gone from the list that comes back. */
static struct stats_follower *sample_all(struct core *c, struct stats_follower *list) {
	struct stats_follower *left = NULL;
	for (struct stats_follower *f = list, *next; f; f = next) {
		next = f->next;
		if (!sample(c, f)) {
			follower_end(c, f, true);
			continue;
		}
		f->next = left;
		left = f;
	}
	return left;
}

static void wait_until(struct stats_clock *s, int64_t due) {
	struct timespec until = {.tv_sec = due / NS_PER_SEC, .tv_nsec = due % NS_PER_SEC};
	while (!s->closing && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0)
		;
}

static void *clock_run(void *arg) {
	struct core *c = arg;
	struct stats_clock *s = c->stats;
	pthread_mutex_lock(&s->lock);
	while (s->followers && !s->closing) {
		wait_until(s, time_now_ns() + NS_PER_SEC);
		struct stats_follower *list = TAKE_PTR(s->followers), **end = &list;
		bool closing = s->closing;
		pthread_mutex_unlock(&s->lock);
		if (!closing)
			list = sample_all(c, list);
		pthread_mutex_lock(&s->lock);
		while (*end)
			end = &(*end)->next;
		*end = s->followers; /* who came meanwhile */
		s->followers = list;
	}
	s->running = false;
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Takes f. */
static void clock_add(struct core *c, struct stats_follower *f) {
	struct stats_clock *s = c->stats;
	pthread_mutex_lock(&s->lock);
	if (!s->running && s->joinable)
		pthread_join(s->thread, NULL); /* it has said that it ends, under this lock */
	f->next = s->followers;
	s->followers = f;
	if (!s->running)
		s->running = s->joinable = pthread_create(&s->thread, NULL, clock_run, c) == 0;
	bool lost = !s->running;
	if (lost)
		s->followers = f->next;
	pthread_mutex_unlock(&s->lock);
	if (lost)
		follower_end(c, f, false);
}

int instance_stats_follow(struct core *c, const char *project, const char *name, const struct stats_sink *sink,
			  struct error *err) {
	struct entry *e;
	int r = entry_get(c, project, name, &e, err);
	if (r < 0)
		return r;
	struct stats_follower *f = NEW(struct stats_follower);
	*f = (struct stats_follower){.entry = e, .sink = *sink};
	sink->begin(sink->arg);
	if (sample(c, f))
		clock_add(c, f);
	else
		follower_end(c, f, true);
	return 0;
}

void stats_clock_free(struct core *c) {
	struct stats_clock *s = c->stats;
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->joinable)
		pthread_join(s->thread, NULL);
	while (s->followers) {
		struct stats_follower *f = s->followers;
		s->followers = f->next;
		follower_end(c, f, false);
	}
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s);
}
