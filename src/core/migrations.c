/* Machines that come from another daemon. Whoever has a ticket says what comes, which makes the machine, as part of an operation
 * (transient) with the id that it has there; a task waits for its connections and hands them to the agent, which starts it. It is
 * kept when the agent's record says that it has been started, and removed otherwise, whenever that is found out. */
#include "core/migrations.h"

#include "core/tasks-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <time.h>
#include <unistd.h>

#define TICKETS_MAX 64
#define TICKET_LASTS (60 * NS_PER_SEC)
#define CONNECTIONS_WAIT (30 * NS_PER_SEC)

struct ticket {
	int refs; /* the map's, the task's */
	struct core *core;
	char *id, *secret, *project, *name;
	int64_t given; /* mono ns */
	bool used;     /* a machine has come with it */
	bool post_copy;
	struct entry *entry; /* which the task has a reference of */
	size_t channels; /* that it takes */
	int fds[MIGRATION_CHANNELS];
};

/* Needs the lock, but for the last of all. */
void ticket_free(void *p) {
	struct ticket *t = p;
	if (--t->refs > 0)
		return;
	for (size_t i = 0; i < MIGRATION_CHANNELS; i++)
		close_fd(&t->fds[i]);
	free(t->id);
	free(t->secret);
	free(t->project);
	free(t->name);
	free(t);
}

/* Needs the lock. */
static void drop_stale(struct core *c) {
	const char *id;
	void *value;
	for (size_t i = 0; map_next(c->tickets, &i, &id, &value);) {
		struct ticket *t = value;
		if (!t->used && time_mono_ns() - t->given > TICKET_LASTS)
			map_remove(c->tickets, id);
	}
}

int migration_offer(struct core *c, const char *project, const struct migration_offer *o, struct migration_ticket *out,
		    struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	drop_stale(c);
	if (map_count(c->tickets) >= TICKETS_MAX)
		return error_set(err, ERROR_BUSY, "%d machines are to come already; try again in a minute", TICKETS_MAX);
	struct ticket *t = NEW(struct ticket);
	*t = (struct ticket){.refs = 1, .core = c, .id = random_hex(32), .secret = random_hex(32), .project = str_copy(project),
			     .name = copy_or_null(o->name), .given = time_mono_ns()};
	for (size_t i = 0; i < MIGRATION_CHANNELS; i++)
		t->fds[i] = -1;
	map_set(c->tickets, t->id, t);
	*out = (struct migration_ticket){str_copy(t->id), str_copy(t->secret)};
	return 0;
}

/* As long for any difference. */
static bool is_secret(const char *have, const char *given) {
	unsigned differ = strlen(have) != strlen(given);
	for (size_t i = 0; have[i] && given[i]; i++)
		differ |= (unsigned char)have[i] ^ (unsigned char)given[i];
	return differ == 0;
}

/* Needs the lock. */
static struct ticket *find(struct core *c, const char *id, const char *secret, struct error *err) {
	drop_stale(c);
	struct ticket *t = map_get(c->tickets, id);
	if (t && is_secret(t->secret, secret))
		return t;
	error_set(err, ERROR_DENIED, "there is no such ticket for a machine (any more)");
	return NULL;
}

/* --- what comes --- */

/* Its disk is on its way; the image is whose it says that it is. */
static int check_image(struct core *c, const struct migration_arrival *a, struct error *err) {
	WITH_LOCK(c);
	if (instance_is_blank(&a->spec))
		return 0;
	if (!image_find(c, a->spec.image, NULL))
		return error_field(err, "spec.image", "%s is not on that daemon: take it there with \"wabe image save\" and \"wabe image load\"",
				   a->spec.image);
	return 0;
}

/* Each is one that comes: none is to be found here, or made as for any instance. */
static int check_disks(const struct migration_arrival *a, struct error *err) {
	const struct instance_spec *s = &a->spec;
	if (s->mounts.n != a->disks.n)
		return error_field(err, "disks", "are others than the machine mounts");
	for (size_t k = 0; k < s->mounts.n; k++) {
		const struct migration_disk *d = &a->disks.items[k];
		if (!mount_is_volume(&s->mounts.items[k]) || !str_same(s->mounts.items[k].source, d->spec.name))
			return error_field(err, "disks", "are others than the machine mounts, or in another order");
		if (!str_same(d->spec.kind, "block"))
			return error_field(err, "disks", "%s is not a block volume", d->spec.name);
	}
	return 0;
}

static int check(struct core *c, const struct migration_arrival *a, struct error *err) {
	if (!instance_is_machine(&a->spec))
		return error_field(err, "spec.kind", "is no machine's");
	if (a->spec.root_size <= 0)
		return error_field(err, "spec.root_size", "is the size of the disk that comes");
	int r = check_disks(a, err);
	return r < 0 ? r : check_image(c, a, err);
}

/* --- the task --- */

/* Needs the lock. */
static bool is_complete(const struct ticket *t) {
	for (size_t i = 0; i < t->channels; i++)
		if (t->fds[i] < 0)
			return false;
	return true;
}

static int await_connections(struct core *c, struct task_run *run, const struct ticket *t, struct error *err) {
	int64_t until = time_mono_ns() + CONNECTIONS_WAIT;
	WITH_LOCK(c);
	while (!is_complete(t)) {
		struct timespec soon;
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_sec++;
		if (*task_cancel_flag(run) || c->closing)
			return error_set(err, ERROR_CANCELLED, "cancelled");
		if (time_mono_ns() > until)
			return error_set(err, ERROR_TIMEOUT, "the machine did not come");
		pthread_cond_timedwait(&c->changed, &c->lock, &soon);
	}
	return 0;
}

static int receive(struct core *c, struct task_run *run, struct ticket *t, struct error *err) {
	struct msg_instance_state state = {0};
	struct msg_machine_receive body = {.id = t->entry->snap->instance.id, .secret = t->secret, .post_copy = t->post_copy};
	int r = await_connections(c, run, t, err);
	if (r == 0)
		r = agent_task_give(c, run, "machine-receive", &body, t->fds, t->channels, &state, err);
	core_lock(c);
	for (size_t i = 0; i < MIGRATION_CHANNELS; i++) /* the other side is to see an end when the agent's are closed */
		close_fd(&t->fds[i]);
	core_unlock(c);
	if (r == 0)
		entry_take_state(c, t->entry, &state);
	return r;
}

static int receive_run(struct core *c, struct task_run *run, void *arg, char **result, struct error *err) {
	struct ticket *t = arg;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	*result = NULL;
	int r = receive(c, run, t, err);
	const char *id = t->entry->snap->instance.id;
	if (r == 0)
		*result = str_copy(id);
	int ended = r == 0 ? instance_keep(c, t->project, id, &why) : instance_arrival_end(c, t->entry, &why);
	if (ended < 0)
		log_warn("machine %.12s, which came from another daemon: %s", id, error_text(&why));
	return r;
}

static void receive_drop(void *arg) {
	struct ticket *t = arg;
	struct core *c = t->core;
	entry_unref(c, t->entry);
	core_lock(c);
	map_remove(c->tickets, t->id);
	ticket_free(t);
	core_unlock(c);
}

/* --- the verbs --- */

static int make(struct core *c, struct ticket *t, const struct migration_arrival *a, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *made = NULL;
	const struct instance_origin origin = {.arrives = a};
	struct instance_spec spec;
	fields_copy(&instance_spec_table, &a->spec, &spec);
	if (t->name) {
		free(spec.name);
		spec.name = str_copy(t->name);
	}
	int r = instance_create_from(c, t->project, &spec, &origin, &made, err);
	return r < 0 ? r : entry_get(c, t->project, a->id, &t->entry, err);
}

int migration_arrive(struct core *c, const char *project, const char *ticket, const struct migration_arrival *a, struct error *err) {
	core_lock(c);
	struct ticket *t = find(c, ticket, a->secret, err);
	int r = !t || !str_same(t->project, project) ? -ERROR_DENIED : 0;
	if (t && r < 0)
		error_set(err, ERROR_DENIED, "the ticket is for another project");
	if (r == 0 && t->used)
		r = error_set(err, ERROR_CONFLICT, "a machine has come with this ticket already");
	if (r == 0) {
		t->used = true;
		t->post_copy = a->post_copy;
		t->channels = MIGRATION_CHANNELS_MIN + a->disks.n;
		t->refs++;
	}
	core_unlock(c);
	if (r < 0)
		return r;
	r = check(c, a, err);
	if (r == 0)
		r = make(c, t, a, err);
	_cleanup_(free_ptr) char *task = NULL;
	if (r == 0)
		return task_start(c, project, "instance-receive", t->entry->snap->instance.spec.name, NULL, receive_run, t, receive_drop, &task,
				  err);
	WITH_LOCK(c);
	map_remove(c->tickets, ticket);
	ticket_free(t);
	return r;
}

static size_t channel_index(const char *channel) {
	size_t i = 0;
	while (i < MIGRATION_CHANNELS && strcmp(migration_channels[i], channel) != 0)
		i++;
	return i;
}

int migration_expects(struct core *c, const char *ticket, const struct migration_channel *ch, struct error *err) {
	WITH_LOCK(c);
	const struct ticket *t = find(c, ticket, ch->secret, err);
	size_t i = channel_index(ch->channel);
	if (!t)
		return -ERROR_DENIED;
	return t->used && i < t->channels && t->fds[i] < 0 ? 0 : error_set(err, ERROR_CONFLICT, "no such connection is expected");
}

void migration_connect(struct core *c, const char *ticket, const char *channel, int fd) {
	WITH_LOCK(c);
	struct ticket *t = map_get(c->tickets, ticket);
	size_t i = channel_index(channel);
	if (!t || i == MIGRATION_CHANNELS || t->fds[i] >= 0) {
		close(fd);
		return;
	}
	t->fds[i] = fd;
	pthread_cond_broadcast(&c->changed);
}
