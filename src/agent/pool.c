/* The agent's cache of pools: which there are, what workers have found out about them, when one whose server was away
 * is tried again. Nothing here touches a pool: that is for workers (pool-work.c). */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKOFF_FIRST (1 * NS_PER_SEC)
#define BACKOFF_MAX (60 * NS_PER_SEC)

struct pool_entry *pool_get(const struct agent *a, const char *id) {
	return id && *id ? map_get(a->pools, id) : NULL;
}

char *pool_path(const struct pool_entry *e, const char *name) {
	return str_format("%s/%s", e->dir, name);
}

struct pool_capabilities pool_can(const struct pool_entry *e) {
	bool known = str_same(e->pool.status.state, "ready");
	return known ? e->pool.status.capabilities : e->driver->can;
}

static void entry_free(void *value) {
	struct pool_entry *e = value;
	loop_remove(e->timer);
	fields_free(&pool_table, &e->pool);
	free(e->dir);
	free(e->data);
	free(e);
}

/* Takes what is in *pool. */
static struct pool_entry *entry_add(struct agent *a, struct pool *pool) {
	struct pool_entry *e = NEW(struct pool_entry);
	*e = (struct pool_entry){.agent = a, .pool = *pool, .backoff = BACKOFF_FIRST};
	*pool = (struct pool){0};
	e->dir = str_format("%s/%s", a->pool_dirs, e->pool.id);
	e->data = str_format("%s/data", e->dir);
	e->driver = storage_driver_find(e->pool.spec.driver);
	e->ref = (struct storage_pool){e->driver, &e->pool, e->data};
	fields_free(&pool_status_table, &e->pool.status);
	map_set(a->pools, e->pool.id, e);
	return e;
}

/* --- records --- */

int pool_record_load(const struct agent *a, const char *id, const char *file, struct pool *out, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s/%s", a->pool_dirs, id, file);
	return object_load(&pool_table, path, out, err);
}

int pool_record_save(const struct pool_entry *e, const char *file, struct error *err) {
	_cleanup_(free_ptr) char *path = pool_path(e, file);
	_cleanup_(json_free_ptr) json_t *json = fields_print(&pool_table, &e->pool);
	json_object_del(json, "status");
	json_set_str(json_object_get(json, "spec"), "secret", e->pool.spec.secret);
	_cleanup_(free_ptr) char *text = json_print(json);
	int r = fs_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

/* --- workers for a pool --- */

static void start_job(struct pool_entry *e) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct job j = {.agent = e->agent, .handler = &job_pool, .sock = -1, .listen_fd = -1};
	memcpy(j.pool_id, e->pool.id, sizeof j.pool_id);
	if (worker_start(e->agent, &j, &err) < 0)
		log_error("pool %s: %s", e->pool.spec.name, error_text(&err));
}

bool pool_is_awaited(const struct agent *a, const struct job *j) {
	const struct pool_entry *e = j->handler == &job_pool ? pool_get(a, j->pool_id) : NULL;
	return e && !e->driver->can.shared;
}

static void on_retry(void *arg) {
	struct pool_entry *e = arg;
	e->timer = NULL;
	start_job(e);
}

static void retry_later(struct pool_entry *e) {
	if (e->timer || e->agent->stopping)
		return;
	e->timer = loop_add_timer(e->agent->loop, time_mono_ns() + e->backoff, on_retry, e);
	e->backoff = MIN(e->backoff * 2, BACKOFF_MAX);
}

/* --- what workers report --- */

static void take_record(struct pool_entry *e) {
	struct pool pool;
	if (pool_record_load(e->agent, e->pool.id, "pool.json", &pool, NULL) < 0)
		return;
	fields_free(&pool_status_table, &pool.status);
	pool.status = e->pool.status;
	e->pool.status = (struct pool_status){0};
	fields_free(&pool_table, &e->pool);
	e->pool = pool;
}

static void take_status(struct pool_entry *e, const json_t *json) {
	struct pool_status status;
	if (!json || fields_parse(&pool_status_table, json, FIELDS_TRUSTED, &status, NULL) < 0)
		return;
	bool was = str_same(e->pool.status.state, "ready"), is = str_same(status.state, "ready");
	if (was && !is)
		log_warn("pool %s is %s: %s", e->pool.spec.name, status.state, status.error);
	fields_free(&pool_status_table, &e->pool.status);
	e->pool.status = status;
	if (is)
		e->backoff = BACKOFF_FIRST;
	if (is && !was)
		cleanup_start(e->agent); /* roots that could not be removed while it was away */
}

void pool_reported(struct agent *a, const json_t *report) {
	struct pool_entry *e = pool_get(a, json_get_str(report, "id"));
	if (!e)
		return;
	if (json_get_bool(report, "gone")) {
		map_remove(a->pools, e->pool.id);
		return;
	}
	if (json_get_bool(report, "reload")) {
		e->creating = false;
		take_record(e);
	}
	take_status(e, json_object_get(report, "status"));
	if (json_get_bool(report, "again") || (e->pool.status.state && !str_same(e->pool.status.state, "ready")))
		retry_later(e);
}

void pool_worker_ended(struct child *c) {
	struct pool_entry *e = pool_get(c->agent, c->pool_id);
	if (!e)
		return;
	if (e->creating)
		map_remove(c->agent->pools, c->pool_id); /* what it left, the next start of the agent removes */
	else
		e->removing = false;
}

/* --- requests --- */

static int refuse_change(const struct pool_entry *e, const struct pool *wanted, struct error *err) {
	const struct pool_spec *have = &e->pool.spec, *want = &wanted->spec;
	if (!str_same(have->driver, want->driver))
		return error_field(err, "spec.driver", "the pool %s has the driver %s", have->name, have->driver);
	if (!str_same(have->source, want->source) && !str_same(e->pool.id, POOL_LOCAL_ID))
		return error_field(err, "spec.source", "the source of the pool %s is settled", have->name);
	return 0;
}

static const struct pool_entry *pool_named(const struct agent *a, const char *name) {
	void *value;
	for (size_t at = 0; map_next(a->pools, &at, NULL, &value);)
		if (str_same(((struct pool_entry *)value)->pool.spec.name, name))
			return value;
	return NULL;
}

static int run_for(struct job *j, struct pool_entry *e, struct error *err) {
	memcpy(j->pool_id, e->pool.id, sizeof j->pool_id);
	return worker_start(j->agent, j, err);
}

static int busy(const struct pool_entry *e, struct error *err) {
	return error_set(err, ERROR_BUSY, "the pool %s is being %s", e->pool.spec.name, e->creating ? "made" : "removed");
}

int do_pool_create(struct job *j, struct error *err) {
	const struct pool *m = j->body;
	struct agent *a = j->agent;
	if (instance_id_check(m->id, err) < 0)
		return -ERROR_INVALID;
	struct pool_entry *e = pool_get(a, m->id);
	if (e && (e->creating || e->removing))
		return busy(e, err);
	if (e) {
		int r = refuse_change(e, m, err);
		return r < 0 ? r : run_for(j, e, err);
	}
	if (!storage_driver_find(m->spec.driver))
		return error_set(err, ERROR_UNSUPPORTED, "this build of wabe has no driver %s for pools", m->spec.driver);
	if (pool_named(a, m->spec.name))
		return error_set(err, ERROR_EXISTS, "there is a pool %s with another id", m->spec.name);
	struct pool copy;
	fields_copy(&pool_table, m, &copy);
	e = entry_add(a, &copy);
	e->creating = true;
	int r = run_for(j, e, err);
	if (r < 0)
		map_remove(a->pools, m->id);
	return r;
}

int do_pool_delete(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	struct pool_entry *e = pool_get(j->agent, m->id);
	if (str_same(m->id, POOL_LOCAL_ID))
		return error_set(err, ERROR_CONFLICT, "the pool local is part of wabe and cannot be removed");
	if (e && (e->creating || e->removing))
		return busy(e, err);
	if (!e) {
		peer_answer(j->peer, j->handler, NULL, NULL, 0);
		return 0;
	}
	int r = run_for(j, e, err);
	e->removing = r == 0;
	return r;
}

int do_pool_status(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	struct pool_entry *e = pool_get(j->agent, m->id);
	if (!e || e->creating)
		return error_set(err, ERROR_NOT_FOUND, "the agent has no pool %s", m->id);
	return run_for(j, e, err);
}

int do_pool_list(struct job *j, UNUSED struct error *err) {
	struct msg_pool_states reply = {0};
	void *value;
	reply.pools.items = alloc_array(map_count(j->agent->pools) + 1, sizeof *reply.pools.items);
	for (size_t at = 0; map_next(j->agent->pools, &at, NULL, &value);) {
		struct pool_entry *e = value;
		if (e->creating)
			continue;
		struct msg_pool_state *s = &reply.pools.items[reply.pools.n++];
		*s = (struct msg_pool_state){e->pool.id, e->pool.status};
		if (!s->status.state) {
			s->status.state = (char *)"unavailable";
			s->status.error = (char *)"it is being looked at";
		}
	}
	peer_answer(j->peer, j->handler, &reply, NULL, 0);
	free(reply.pools.items);
	return 0;
}

/* --- the agent's start and end --- */

/* The pool whose record is the program: in wabe's own directory, wherever that is now. */
static struct pool_entry *add_local(struct agent *a) {
	struct pool pool;
	fields_init(&pool_table, &pool);
	pool.id = str_copy(POOL_LOCAL_ID);
	pool.spec.name = str_copy("local");
	free(pool.spec.driver);
	pool.spec.driver = str_copy("dir");
	pool.spec.source = str_copy(a->storage);
	return entry_add(a, &pool);
}

static void load_one(struct agent *a, const char *id) {
	struct pool pool;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = pool_record_load(a, id, "pool.json", &pool, &err);
	bool unfinished = r == -ERROR_NOT_FOUND;
	if (unfinished)
		r = pool_record_load(a, id, ".tmp-pool.json", &pool, NULL);
	if (r < 0) {
		log_error("pool %s cannot be read: %s", id, error_text(&err));
		return;
	}
	struct pool_entry *e = entry_add(a, &pool);
	if (!e->driver) {
		log_error("pool %s has the driver %s, which this build of wabe lacks", id, e->pool.spec.driver);
		map_remove(a->pools, id);
		return;
	}
	e->creating = unfinished; /* its worker removes it, or its end does */
}

int pools_load(struct agent *a, struct error *err) {
	a->pools = map_new(entry_free);
	add_local(a);
	DIR *d = opendir(a->pool_dirs);
	if (!d)
		return error_errno(err, errno, "cannot read %s", a->pool_dirs);
	for (struct dirent *e; (e = readdir(d));)
		if (instance_id_check(e->d_name, NULL) == 0 && !pool_get(a, e->d_name))
			load_one(a, e->d_name);
	closedir(d);
	void *value;
	for (size_t at = 0; map_next(a->pools, &at, NULL, &value);)
		start_job(value);
	return 0;
}

void pools_free(struct agent *a) {
	if (a->pools)
		map_free(a->pools);
}
