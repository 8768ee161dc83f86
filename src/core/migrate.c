/* A machine that moves to another daemon: what it is goes there over that one's API, with the ticket that it has given; then come
 * three connections, which the agent gets. The machine keeps its id, its addresses and its hardware ones. */
#include "core/migrations.h"

#include "core/tasks-priv.h"
#include "core/volumes-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "client/client.h"

#include <time.h>
#include <unistd.h>

#define SETTLE_TRIES 600
#define SETTLE_PAUSE_MAX 10 /* s */

struct migration {
	char *project, *id;
	struct migration_request wanted;
};

static void migration_free(void *arg) {
	struct migration *m = arg;
	free(m->project);
	free(m->id);
	fields_free(&migration_request_table, &m->wanted);
	free(m);
}

/* --- what cannot move --- */

static int check(const struct instance *i, const struct migration_request *r, struct error *err) {
	const struct instance_spec *s = &i->spec;
	if (!instance_is_machine(s))
		return error_set(err, ERROR_CONFLICT, "instance %s is a container: only a machine can move while it runs", s->name);
	if (!str_same(i->status.state, "running"))
		return error_set(err, ERROR_CONFLICT, "machine %s is %s: only one that runs can move", s->name, i->status.state);
	if (!r->with_disks)
		return error_field(err, "with_disks", "is needed: the other daemon does not see the disk of machine %s", s->name);
	if (s->owner.workload)
		return error_set(err, ERROR_UNSUPPORTED, "machine %s is a workload's, which makes another one when it goes", s->name);
	if (s->mounts.n > MIGRATION_DISKS_MAX)
		return error_set(err, ERROR_UNSUPPORTED, "machine %s has %zu volumes: %d can move along", s->name, s->mounts.n,
				 MIGRATION_DISKS_MAX);
	for (size_t k = 0; k < s->mounts.n; k++) {
		const struct mount *mount = &s->mounts.items[k];
		const struct volume_use *use = mount_is_volume(mount) ? volume_use_named(i, mount->source) : NULL;
		if (!use || !str_same(use->kind, "block") || mount->read_only)
			return error_set(err, ERROR_UNSUPPORTED, "machine %s has %s, which cannot move along: only block volumes that it writes to can; "
					 "detach it first", s->name, mount->source ? mount->source : mount->target);
	}
	return 0;
}

/* --- what it is --- */

static void take(char **to, const char *value) {
	free(*to);
	*to = copy_or_null(value);
}

/* What was picked here stays the same there. */
static void pin_networks(const struct instance *i, struct instance_spec *s) {
	size_t had = s->networks.n;
	s->networks.items = alloc_resize(s->networks.items, MAX(i->nics.n, had) + 1, sizeof *s->networks.items);
	for (size_t k = 0; k < i->nics.n; k++) {
		struct attachment *a = &s->networks.items[k];
		const struct nic *n = &i->nics.items[k];
		if (k >= had)
			*a = (struct attachment){0};
		take(&a->network, n->network);
		take(&a->ipv4, n->ipv4);
		take(&a->ipv6, n->ipv6);
		take(&a->mac, n->mac);
		take(&a->interface, n->interface);
	}
	s->networks.n = MAX(i->nics.n, had);
}

/* Its size. CONFLICT: it has snapshots, which would be lost. */
static int look_at_disk(struct core *c, const char *pool_id, const char *id, const char *what, bool keep, int64_t *size, struct error *err) {
	struct msg_volume_ref ref = {.pool_id = (char *)pool_id, .id = (char *)id};
	struct msg_volume_usage usage = {0};
	int r = agent_call(c, "volume-usage", &ref, &usage, err);
	if (r < 0)
		return r;
	*size = usage.size;
	if (usage.snapshots.n && !keep)
		r = error_set(err, ERROR_CONFLICT, "%s has snapshots, which do not move along: remove them, or keep the machine here as well", what);
	else if (usage.size <= 0)
		r = error_set(err, ERROR_INTERNAL, "the agent does not tell the size of the disk");
	fields_free(&msg_volume_usage_table, &usage);
	return r;
}

/* Nobody else has it: it goes away with the machine. */
static int describe_disk(struct core *c, const struct migration *m, const struct instance *i, const struct volume_use *u,
			 struct migration_disk *out, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(free_ptr) char *what = str_format("volume %s", u->name);
	int r = noun_get(c, c->volumes, i->project, u->volume_id, &o, err);
	if (r < 0)
		return r;
	core_lock(c);
	const char *other = volume_other_user(c, u->volume_id, i->id);
	if (other)
		r = error_set(err, ERROR_CONFLICT, "%s is mounted by instance %s as well: it cannot move along", what, other);
	core_unlock(c);
	out->id = str_copy(u->volume_id);
	fields_copy(&volume_spec_table, &((const struct volume *)o->of)->spec, &out->spec);
	return r < 0 ? r : look_at_disk(c, u->pool_id, u->volume_id, what, m->wanted.keep, &out->spec.size, err);
}

static int describe_disks(struct core *c, const struct migration *m, const struct instance *i, struct migration_arrival *a,
			  struct error *err) {
	_cleanup_(free_ptr) char *what = str_format("machine %s", i->spec.name);
	int r = look_at_disk(c, i->pool_id ? i->pool_id : POOL_LOCAL_ID, i->id, what, m->wanted.keep, &a->spec.root_size, err);
	a->disks.items = alloc_array(i->spec.mounts.n + 1, sizeof *a->disks.items);
	for (size_t k = 0; r == 0 && k < i->spec.mounts.n; k++) {
		const struct volume_use *use = volume_use_named(i, i->spec.mounts.items[k].source);
		r = describe_disk(c, m, i, use, &a->disks.items[a->disks.n++], err);
	}
	return r;
}

static int describe(struct core *c, const struct migration *m, const struct instance *i, json_t **out, struct error *err) {
	struct migration_arrival a = {.secret = str_copy(m->wanted.secret), .id = str_copy(i->id), .post_copy = m->wanted.post_copy};
	fields_copy(&instance_spec_table, &i->spec, &a.spec);
	pin_networks(i, &a.spec);
	int r = describe_disks(c, m, i, &a, err);
	if (r == 0) {
		*out = fields_print_secrets(&migration_arrival_table, &a);
		json_object_del(json_object_get(*out, "spec"), "owner"); /* nobody's, and not to be said */
	}
	fields_free(&migration_arrival_table, &a);
	return r;
}

/* --- the other daemon --- */

static struct client *reach(const char *to, struct error *err) {
	_cleanup_(free_ptr) char *dir = migration_directory(to, err);
	return dir ? client_new(dir) : NULL;
}

static int announce(struct core *c, struct task_run *t, const struct migration *m, struct client *there, const struct instance *i,
		    struct error *err) {
	_cleanup_(json_free_ptr) json_t *what = NULL;
	_cleanup_(free_ptr) char *path = client_path("/v1/projects/%s/migrations/%s", m->project, m->wanted.ticket);
	task_progress(c, t, "asking the other daemon", 0, 0);
	int r = describe(c, m, i, &what, err);
	if (r == 0)
		r = client_call(there, "POST", path, what, NULL, err);
	return r < 0 ? error_wrap(err, "machine %s cannot go to %s", i->spec.name, m->wanted.to) : 0;
}

static int connect_channels(const struct migration *m, struct client *there, int *fds, size_t n, struct error *err) {
	_cleanup_(free_ptr) char *path = client_path("/v1/projects/%s/migrations/%s/connect", m->project, m->wanted.ticket);
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_(buf_free) struct buf early = BUF_INIT;
		_cleanup_(json_free_ptr) json_t *body =
			json_pack("{s:s,s:s}", "secret", m->wanted.secret, "channel", migration_channels[i]);
		r = client_upgrade(there, path, body, &fds[i], &early, err);
		if (r == 0 && early.len)
			r = error_set(err, ERROR_CORRUPT, "the other daemon speaks before its turn");
	}
	return r;
}

/* --- how it ended --- */

/* True: it is settled, or somebody else's matter. */
static bool settle_by(struct core *c, struct entry *e, bool asked, bool there) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
	struct msg_machine_settle body = {.id = snap->instance.id, .asked = asked, .there = there};
	struct msg_instance_state state = {0};
	int r = agent_call(c, "machine-settle", &body, &state, &err);
	if (r < 0) {
		log_debug("migration of %.12s: %s", snap->instance.id, error_text(&err));
		return r == -ERROR_NOT_FOUND;
	}
	bool open = state.status.moves_to != NULL;
	entry_take_state(c, e, &state);
	return !open;
}

enum answer { NO_ANSWER, NOT_THERE, COMING, THERE };

/* What has been started there has run there, whatever has become of it. */
static enum answer ask_there(const struct instance *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(client_free_ptr) struct client *there = reach(i->status.moves_to, &err);
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	_cleanup_(free_ptr) char *path = client_path("/v1/projects/%s/instances/%s", i->project, i->id);
	int r = there ? client_call(there, "GET", path, NULL, &reply, &err) : -ERROR_INVALID;
	if (r < 0)
		return r == -ERROR_NOT_FOUND ? NOT_THERE : NO_ANSWER;
	return json_get_str(json_object_get(reply, "status"), "started_at") ? THERE : COMING;
}

static bool pause_a_while(struct core *c, const struct entry *e, int tries) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += MIN(1 + tries / 10, SETTLE_PAUSE_MAX);
	WITH_LOCK(c);
	while (!c->closing && !e->removed && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
		;
	return !c->closing && !e->removed;
}

void migration_settle(struct core *c, struct entry *e) {
	for (int tries = 0; tries < SETTLE_TRIES; tries++) {
		if (settle_by(c, e, false, false))
			return;
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
		enum answer a = snap->instance.status.moves_to ? ask_there(&snap->instance) : NO_ANSWER;
		if ((a == THERE || a == NOT_THERE) && settle_by(c, e, true, a == THERE))
			return;
		if (!pause_a_while(c, e, tries))
			return;
	}
	log_error("machine %.12s: nobody says whether it runs where it was to go", e->snap->instance.id);
}

/* --- the task --- */

static int move(struct core *c, struct task_run *t, const struct migration *m, struct entry *e, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
	_cleanup_(client_free_ptr) struct client *there = reach(m->wanted.to, err);
	struct msg_machine_migrate body = {.id = m->id, .to = m->wanted.to, .secret = m->wanted.secret, .keep = m->wanted.keep,
					   .post_copy = m->wanted.post_copy, .downtime = m->wanted.downtime, .bandwidth = m->wanted.bandwidth};
	struct msg_instance_state state = {0};
	size_t n = MIGRATION_CHANNELS_MIN + snap->instance.spec.mounts.n;
	int fds[MIGRATION_CHANNELS];
	for (size_t i = 0; i < MIGRATION_CHANNELS; i++)
		fds[i] = -1;
	if (!there)
		return -(int)err->kind;
	int r = check(&snap->instance, &m->wanted, err); /* it may have changed since it was asked for */
	if (r == 0)
		r = announce(c, t, m, there, &snap->instance, err);
	if (r == 0)
		r = connect_channels(m, there, fds, n, err);
	if (r == 0)
		r = agent_task_give(c, t, "machine-migrate", &body, fds, n, &state, err);
	for (size_t i = 0; i < MIGRATION_CHANNELS; i++)
		close_fd(&fds[i]);
	if (r == 0)
		entry_take_state(c, e, &state);
	return r;
}

/* It is settled before the task ends, so that whoever asks then sees where the machine is. */
static int migrate_run(struct core *c, struct task_run *t, void *arg, char **result, struct error *err) {
	struct migration *m = arg;
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	int r = entry_get(c, m->project, m->id, &ref.entry, err);
	if (r == 0)
		r = move(c, t, m, ref.entry, err);
	if (r < 0 && ref.entry)
		migration_settle(c, ref.entry);
	if (r < 0 || m->wanted.keep)
		return r;
	*result = str_copy(m->id);
	return instance_remove_entry(c, ref.entry, false, err);
}

int instance_migrate(struct core *c, const char *project, const char *name, const struct migration_request *r, char **task,
		     struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int result = instance_get(c, project, name, &snap, err);
	if (result == 0)
		result = check(&snap->instance, r, err);
	if (result < 0)
		return result;
	struct migration *m = NEW(struct migration);
	*m = (struct migration){.project = str_copy(project), .id = str_copy(snap->instance.id)};
	fields_copy(&migration_request_table, r, &m->wanted);
	return task_start(c, project, "instance-migrate", snap->instance.spec.name, NULL, migrate_run, m, migration_free, task, err);
}
