/* GET /containers/{id}/json: all that is known of one container. */
#include "dialect/docker/containers.h"

#include "base/time.h"

/* ---- State ---- */

static bool is_checked(const struct instance *i, const struct image_config *image) {
	char *const *command = i->spec.health.command ? i->spec.health.command : image ? image->health.command : NULL;
	return command && command[0] && command[1] && !str_same(command[0], "NONE");
}

/* Of one that has ended, dockerd says that it is unhealthy, and keeps what the checks of its last run have found. */
static json_t *health(struct core *c, const struct instance *i) {
	struct msg_health log;
	json_t *o = json_object(), *entries = json_array();
	json_set_str(o, "Status", i->status.health ? i->status.health : "unhealthy");
	if (instance_health(c, i->project, i->id, &log, NULL) < 0) {
		json_set_int(o, "FailingStreak", 0);
		json_object_set_new(o, "Log", entries);
		return o;
	}
	json_set_int(o, "FailingStreak", log.failures);
	for (size_t k = 0; k < log.results.n; k++) {
		const struct health_result *r = &log.results.items[k];
		json_t *entry = json_object();
		json_object_set_new(entry, "Start", docker_time(r->started_at));
		json_object_set_new(entry, "End", docker_time(r->finished_at));
		json_set_int(entry, "ExitCode", r->exit_code);
		set_text(entry, "Output", r->output);
		json_array_append_new(entries, entry);
	}
	json_object_set_new(o, "Log", entries);
	fields_free(&msg_health_table, &log);
	return o;
}

static json_t *state(struct core *c, const struct instance *i, const struct image_config *image) {
	const struct instance_status *s = &i->status;
	json_t *o = json_object();
	set_text(o, "Status", docker_state(i));
	json_set_bool(o, "Running", docker_runs(i));
	json_set_bool(o, "Paused", str_same(s->state, "paused"));
	json_set_bool(o, "Restarting", str_same(s->state, "restarting"));
	json_set_bool(o, "OOMKilled", s->oom_killed);
	json_set_bool(o, "Dead", str_same(s->state, "dead"));
	json_set_int(o, "Pid", s->pid);
	json_set_int(o, "ExitCode", s->exit_code);
	set_text(o, "Error", s->error);
	json_object_set_new(o, "StartedAt", docker_time(s->started_at));
	json_object_set_new(o, "FinishedAt", docker_time(s->finished_at));
	if (s->health || (s->started_at && !docker_runs(i) && is_checked(i, image)))
		json_object_set_new(o, "Health", health(c, i));
	return o;
}

/* ---- the rest ---- */

static void set_path(json_t *o, const struct instance *i, const struct image_config *image) {
	_cleanup_(free_ptr) const char **argv = docker_argv(i, image);
	json_t *args = json_array();
	for (size_t k = 1; argv[0] && argv[k]; k++)
		json_array_append_new(args, json_from_str(argv[k]));
	set_text(o, "Path", argv[0]);
	json_object_set_new(o, "Args", args);
}

static void set_size(struct core *c, json_t *o, const struct instance *i, const struct image *image) {
	int64_t size = 0;
	if (instance_size(c, i->project, i->id, &size, NULL) < 0)
		size = 0;
	json_set_int(o, "SizeRw", size);
	json_set_int(o, "SizeRootFs", size + (image ? image->size : 0));
}

static void set_file(struct core *c, json_t *o, const char *key, const struct instance *i, const char *name) {
	_cleanup_(free_ptr) char *path = name ? instance_file(c, i, name) : NULL;
	set_text(o, key, path);
}

static json_t *describe(struct core *c, const struct instance *i, const struct image *image, bool size, int api) {
	const struct image_config *config = image ? &image->config : NULL;
	json_t *o = json_object();
	set_text(o, "Id", i->id);
	json_object_set_new(o, "Created", docker_time(i->created_at));
	set_path(o, i, config);
	json_object_set_new(o, "State", state(c, i, config));
	set_text(o, "Image", i->image_id);
	set_file(c, o, "ResolvConfPath", i, i->status.started_at ? "resolv.conf" : NULL);
	set_file(c, o, "HostnamePath", i, i->status.started_at ? "hostname" : NULL);
	set_file(c, o, "HostsPath", i, i->status.started_at ? "hosts" : NULL);
	set_file(c, o, "LogPath", i, str_same(i->spec.log.driver, "none") ? NULL : "log/log");
	_cleanup_(free_ptr) char *name = str_format("/%s", i->spec.name);
	set_text(o, "Name", name);
	json_set_int(o, "RestartCount", i->status.restart_count);
	set_text(o, "Driver", "overlay2");
	set_text(o, "Platform", image && image->os ? image->os : "linux");
	set_text(o, "MountLabel", NULL);
	set_text(o, "ProcessLabel", NULL);
	set_text(o, "AppArmorProfile", NULL);
	json_object_set_new(o, "ExecIDs", json_null());
	json_object_set_new(o, "HostConfig", docker_host_config(c, i, api));
	json_object_set_new(o, "GraphDriver", json_pack("{snss}", "Data", "Name", "overlay2"));
	if (size)
		set_size(c, o, i, image);
	json_object_set_new(o, "Mounts", docker_mounts(c, i));
	json_object_set_new(o, "Config", docker_container_config(i, config, api));
	json_object_set_new(o, "NetworkSettings", docker_network_settings(c, i, api));
	return o;
}

void docker_inspect(struct http_request *req) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (!docker_container(req, http_param(req, "id"), &snap))
		return;
	struct core *c = core_of(req);
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = instance_image(c, &snap->instance);
	docker_reply(req, 200, describe(c, &snap->instance, image ? &image->image : NULL, docker_query_bool(req, "size"),
					docker_api(req)));
}
