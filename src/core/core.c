/* Opening and closing of a core, and what it says about the host. */
#include "core/core-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <sys/utsname.h>

void core_lock(struct core *c) {
	pthread_mutex_lock(&c->lock);
}

void core_unlock(struct core *c) {
	pthread_mutex_unlock(&c->lock);
}

int core_project_check(struct core *c UNUSED, const char *project, struct error *err) {
	if (str_same(project, "default"))
		return 0;
	return error_set(err, ERROR_NOT_FOUND, "no project is called %.128s", project);
}

int core_spool(struct core *c, struct error *err) {
	int fd = open(c->state, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? error_errno(err, errno, "making a temporary file in %s", c->state) : fd;
}

static void core_init(struct core *c, const struct core_config *config) {
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->flush_lock, NULL);
	pthread_mutex_init(&c->images_write, NULL);
	pthread_cond_init(&c->changed, NULL);
	pthread_cond_init(&c->sync_changed, NULL);
	pthread_cond_init(&c->flush_wanted, NULL);
	pthread_cond_init(&c->clock_wanted, NULL);
	c->agent_socket = str_copy(config->agent_socket);
	c->state = copy_or_null(config->state);
	c->mirrors = strv_copy(config->mirrors);
	c->certificates = config->certificates;
	c->on_shutdown = config->on_shutdown;
	c->arg = config->arg;
	c->by_id = map_new(NULL);
	c->by_name = map_new(NULL);
	c->images = map_new(NULL);
	c->orphans = orphans_new();
	c->refs = map_new(NULL);
	c->layers = layers_new();
	c->unpacking = map_new(NULL);
	c->layers_held = map_new(NULL);
	c->templates = map_new(NULL);
	c->execs = execs_new();
	c->tasks = map_new(task_run_drop);
	c->held = map_new(NULL);
	c->making = map_new(NULL);
	c->pools = nouns_new(&pool_kind);
	c->volumes = nouns_new(&volume_kind);
	c->workloads = nouns_new(&workload_kind);
	c->secrets = nouns_new(&secret_kind);
	c->configs = nouns_new(&config_kind);
	c->clusters = nouns_new(&cluster_kind);
	c->unpackers = crew_new(2);
	c->jobs = crew_new(4);
	c->runners = crew_new(8);
	c->tickets = map_new(ticket_free);
	c->senders = crew_new(1);
	pthread_mutex_init(&c->net_write, NULL);
	objects_init(&c->networks, &network_kind, network_use_free);
	objects_init(&c->groups, &rules_kind, NULL);
	objects_init(&c->balancers, &balancer_kind, NULL);
	c->ports = port_claims_new();
	c->selections = selections_new();
	c->follow = follow_new();
	c->stats = stats_clock_new();
	c->agent_fd = -1;
	c->started_at = time_now_ns();
}

/* What tells this daemon from others, for as long as its store lives. */
static int load_id(struct core *c, struct error *err) {
	struct store_item item;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = store_get(c->store, "daemon/id", &item, &why);
	if (r == 0) {
		c->id = str_copy(item.value);
		store_item_free(&item);
		return 0;
	}
	if (why.kind != ERROR_NOT_FOUND)
		return error_move(err, &why);
	c->id = random_hex(16);
	return store_put(c->store, "daemon/id", c->id, STORE_ANY, NULL, err);
}

static int open_stores(struct core *c, const struct core_config *config, struct error *err) {
	_cleanup_(free_ptr) char *db = str_format("%s/store.db", config->state);
	_cleanup_(free_ptr) char *blobs = str_format("%s/content", config->state);
	int r = config->memory_store ? store_open_memory(&c->store, err) : store_open_sqlite(db, &c->store, err);
	if (r < 0)
		return r;
	r = content_open(blobs, &c->content, err);
	if (r < 0)
		return r;
	r = load_id(c, err);
	if (r == 0)
		r = events_load(c, err);
	if (r < 0)
		return r;
	r = images_load(c, err);
	if (r == 0)
		r = orphans_load(c, err);
	if (r == 0)
		r = networks_restore(c, err);
	if (r == 0)
		r = pools_read(c, err);
	if (r == 0)
		r = nouns_load(c, c->volumes, err);
	if (r == 0)
		volumes_note_left(c);
	if (r == 0)
		r = nouns_load(c, c->workloads, err);
	if (r == 0)
		r = nouns_load(c, c->secrets, err);
	if (r == 0)
		r = nouns_load(c, c->configs, err);
	if (r == 0)
		r = nouns_load(c, c->clusters, err);
	if (r == 0)
		r = snapshots_load(c, err);
	if (r == 0)
		r = instances_load(c, err);
	if (r == 0)
		selections_rebuild(c);
	if (r == 0)
		orphans_drop(c);
	return r;
}

int core_open(const struct core_config *config, struct core **out, struct error *err) {
	struct core *c = NEW(struct core);
	core_init(c, config);
	int r = open_stores(c, config, err);
	if (r == 0)
		r = agent_start(c, err);
	if (r < 0) {
		core_close(c);
		return r;
	}
	*out = c;
	return 0;
}

bool core_wait_agent(struct core *c, int64_t timeout_ns) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ns / NS_PER_SEC + 1;
	WITH_LOCK(c);
	while (!c->synced && !c->closing && pthread_cond_timedwait(&c->sync_changed, &c->lock, &until) == 0)
		;
	return c->synced;
}

static void drop_entries(struct core *c) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);)
		entry_unref(c, value);
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);) {
		struct image_entry *e = value;
		image_snap_unref(e->snap);
		free(e);
	}
}

void core_stop_following(struct core *c) {
	follow_stop(c->follow);
}

void core_close(struct core *c) {
	if (!c)
		return;
	tasks_cancel_all(c);
	agent_stop(c);
	crew_free(c->runners);
	crew_free(c->unpackers);
	crew_free(c->jobs);
	crew_free(c->senders);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (c->store && events_flush(c, &err) < 0)
		log_warn("the last events are lost: %s", error_text(&err));
	follow_free(c->follow);
	stats_clock_free(c);
	drop_entries(c);
	for (size_t i = 0; i < ARRAY_SIZE(c->lists); i++) {
		free(c->lists[i].key);
		list_text_unref(c->lists[i].text);
	}
	objects_free(&c->networks);
	objects_free(&c->groups);
	objects_free(&c->balancers);
	port_claims_free(c->ports);
	selections_free(c->selections);
	map_free(c->tickets);
	map_free(c->by_id);
	map_free(c->by_name);
	map_free(c->images);
	map_free(c->refs);
	map_free(c->orphans);
	map_free(c->layers);
	map_free(c->unpacking);
	map_free(c->layers_held);
	map_free(c->templates);
	map_free(c->execs);
	map_free(c->tasks);
	map_free(c->held);
	map_free(c->lent);
	map_free(c->making);
	nouns_free(c->pools);
	nouns_free(c->volumes);
	strv_free(c->left_volumes);
	nouns_free(c->workloads);
	nouns_free(c->secrets);
	nouns_free(c->configs);
	nouns_free(c->clusters);
	map_free(c->snapshots);
	events_free(c);
	fields_free(&msg_hello_table, &c->host);
	if (c->content)
		content_close(c->content);
	if (c->store)
		store_close(c->store);
	strv_free(c->mirrors);
	free(c->agent_socket);
	free(c->state);
	free(c->id);
	free(c);
}

json_t *core_info(struct core *c) {
	WITH_LOCK(c);
	struct utsname u;
	uname(&u);
	json_t *info = json_object();
	json_set_str(info, "version", WABE_VERSION);
	json_set_str(info, "hostname", u.nodename);
	json_set_str(info, "id", c->id);
	json_set_str(info, "state", c->state);
	json_object_set_new(info, "mirrors", json_from_strv(c->mirrors));
	json_t *agent = fields_print(&msg_hello_table, &c->host);
	json_set_bool(agent, "connected", c->synced);
	json_object_set_new(info, "agent", agent);
	int64_t running = 0, paused = 0, total = 0;
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct entry *e = value;
		if (e->creating)
			continue;
		total++;
		running += str_same(e->snap->instance.status.state, "running");
		paused += str_same(e->snap->instance.status.state, "paused");
	}
	json_t *instances = json_object();
	json_set_int(instances, "total", total);
	json_set_int(instances, "running", running);
	json_set_int(instances, "paused", paused);
	json_object_set_new(info, "instances", instances);
	json_set_int(info, "images", (int64_t)map_count(c->images));
	json_set_int(info, "workloads", (int64_t)nouns_count(c->workloads));
	json_set_int(info, "networks", (int64_t)map_count(c->networks.by_id));
	json_set_int(info, "tasks", (int64_t)map_count(c->tasks));
	json_set_int(info, "revision", c->events.revision);
	char text[TIME_TEXT_MAX];
	time_format(c->started_at, text);
	json_set_str(info, "started_at", text);
	return info;
}

int core_shutdown(struct core *c, int64_t timeout, struct error *err) {
	struct msg_shutdown body = {.timeout = timeout};
	core_lock(c);
	c->stopping = true;
	pthread_cond_broadcast(&c->changed);
	core_unlock(c);
	int r = agent_call(c, "shutdown", &body, NULL, err);
	if (r < 0) {
		c->stopping = false;
		return error_wrap(err, "stopping the instances");
	}
	if (c->on_shutdown)
		c->on_shutdown(c->arg);
	return 0;
}
