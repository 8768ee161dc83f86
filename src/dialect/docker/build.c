/* Building images: POST /build with the classic builder's protocol. What BuildKit's asks for is in the files buildkit-*.c. */
#include "dialect/docker/build-priv.h"
#include "dialect/docker/buildkit-priv.h"
#include "dialect/docker/images-priv.h"
#include "dialect/docker/networks-priv.h"

#include "base/fs.h"
#include "build/build.h"

#include <strings.h>

/* ---- the request ---- */

struct build_call {
	struct http_request *req;
	struct http_stream *stream; /* from the first line on */
	struct build_request o;
	struct pairs labels;
	struct ulimit *ulimits;
	char **names, **extra_hosts, **build_args, **cache_from;
	char *network;
	struct tree *context;
	struct build_running running;
	bool broken; /* the client takes no more */
};

static void call_free(struct build_call *c) {
	strv_free(c->names);
	strv_free(c->extra_hosts);
	strv_free(c->build_args);
	strv_free(c->cache_from);
	pairs_free(&c->labels);
	free(c->network);
	free(c->o.limits.cpuset_cpus);
	free(c->o.limits.cpuset_mems);
	for (size_t i = 0; i < c->o.n_logins; i++) {
		struct build_login *l = (struct build_login *)&c->o.logins[i];
		free(l->server);
		free(l->username);
		if (l->password)
			explicit_bzero(l->password, strlen(l->password));
		free(l->password);
	}
	free((void *)c->o.logins);
	for (size_t i = 0; i < c->o.n_ulimits; i++)
		free(c->ulimits[i].name);
	free(c->ulimits);
	tree_free(c->context);
}

/* A parameter that is JSON; NULL: absent, or (*ok false) an error has been answered. */
static json_t *query_json(struct http_request *req, const char *name, bool *ok) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *text = http_query(req, name);
	*ok = true;
	if (!text || !*text)
		return NULL;
	json_t *json = json_parse(text, strlen(text), &err);
	if (json || str_same(text, "null"))
		return json;
	docker_fail(req, 400, "error parsing %s: %s", name, error_text(&err));
	*ok = false;
	return NULL;
}

static bool wrong_type(struct http_request *req, const char *name, const char *wanted) {
	docker_fail(req, 400, "error parsing %s: %s is wanted", name, wanted);
	return false;
}

static bool take_build_args(struct build_call *c) {
	bool ok;
	const char *name;
	json_t *value;
	_cleanup_(json_free_ptr) json_t *args = query_json(c->req, "buildargs", &ok);
	if (!ok)
		return false;
	if (args && !json_is_object(args) && !json_is_null(args))
		return wrong_type(c->req, "buildargs", "an object of strings");
	json_object_foreach(args, name, value) {
		if (!json_is_string(value) && !json_is_null(value))
			return wrong_type(c->req, "buildargs", "an object of strings");
		strv_take(&c->build_args, json_is_null(value) ? str_copy(name)
							      : str_format("%s=%s", name, json_string_value(value)));
	}
	return true;
}

static int compare_pairs(const void *a, const void *b) {
	return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

static bool take_labels(struct build_call *c) {
	bool ok;
	const char *name;
	json_t *value;
	_cleanup_(json_free_ptr) json_t *labels = query_json(c->req, "labels", &ok);
	if (!ok)
		return false;
	if (labels && !json_is_object(labels) && !json_is_null(labels))
		return wrong_type(c->req, "labels", "an object of strings");
	json_object_foreach(labels, name, value) {
		if (!json_is_string(value))
			return wrong_type(c->req, "labels", "an object of strings");
		pairs_set(&c->labels, name, json_string_value(value));
	}
	if (c->labels.n)
		qsort(c->labels.items, c->labels.n, sizeof *c->labels.items, compare_pairs);
	return true;
}

static bool take_cache_from(struct build_call *c) {
	bool ok;
	size_t i;
	json_t *value;
	_cleanup_(json_free_ptr) json_t *from = query_json(c->req, "cachefrom", &ok);
	if (!ok)
		return false;
	if (from && !json_is_array(from) && !json_is_null(from))
		return wrong_type(c->req, "cachefrom", "a list of strings");
	json_array_foreach(from, i, value) {
		if (!json_is_string(value))
			return wrong_type(c->req, "cachefrom", "a list of strings");
		strv_add(&c->cache_from, json_string_value(value));
	}
	return true;
}

/* [{"Name":"nofile","Soft":1024,"Hard":2048}] */
static bool take_ulimits(struct build_call *c) {
	bool ok;
	size_t i;
	json_t *one;
	_cleanup_(json_free_ptr) json_t *all = query_json(c->req, "ulimits", &ok);
	if (!ok)
		return false;
	if (all && !json_is_array(all) && !json_is_null(all))
		return wrong_type(c->req, "ulimits", "a list of objects");
	c->ulimits = alloc_array(json_array_size(all) + 1, sizeof *c->ulimits);
	json_array_foreach(all, i, one) {
		const char *name = json_get_str(one, "Name");
		if (!name || !json_is_integer(json_object_get(one, "Soft")) || !json_is_integer(json_object_get(one, "Hard")))
			return wrong_type(c->req, "ulimits", "Name, Soft and Hard of each");
		c->ulimits[c->o.n_ulimits++] = (struct ulimit){str_copy(name), json_get_int(one, "Soft"), json_get_int(one, "Hard")};
	}
	c->o.ulimits = c->ulimits;
	return true;
}

static char *copy_query(struct http_request *req, const char *name) {
	const char *value = http_query(req, name);
	return value && *value ? str_copy(value) : NULL;
}

static bool take_limits(struct build_call *c) {
	struct http_request *req = c->req;
	struct limits *l = &c->o.limits;
	const struct {
		const char *name;
		int64_t *to;
	} numbers[] = {{"memory", &l->memory},	     {"memswap", &l->memory_swap}, {"cpushares", &l->cpu_shares},
		       {"cpuperiod", &l->cpu_period}, {"cpuquota", &l->cpu_quota},  {"shmsize", &l->shm_size}};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (!docker_query_int(req, numbers[i].name, 0, numbers[i].to))
			return false;
	l->cpuset_cpus = copy_query(req, "cpusetcpus");
	l->cpuset_mems = copy_query(req, "cpusetmems");
	return true;
}

/* Docker's network modes in wabe's words. */
static void take_network(struct build_call *c) {
	const char *mode = http_query(c->req, "networkmode");
	if (mode && str_starts(mode, "container:"))
		c->network = str_format("instance:%s", mode + strlen("container:"));
	else if (mode && *mode)
		c->network = str_copy(mode);
	c->o.network = c->network;
}

static bool take_names(struct build_call *c) {
	c->names = http_query_all(c->req, "t");
	size_t n = 0;
	for (size_t i = 0; c->names && c->names[i]; i++) {
		struct image_ref ref;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *name = c->names[i];
		c->names[i] = NULL;
		if (!*name)
			continue;
		if (image_ref_parse(name, &ref, &err) < 0) {
			for (size_t k = i + 1; c->names[k]; k++)
				free(c->names[k]);
			docker_fail(c->req, 400, "invalid reference format");
			return false;
		}
		image_ref_free(&ref);
		c->names[n++] = TAKE_PTR(name);
	}
	c->o.names = c->names;
	return true;
}

static bool refuse_what_is_not_there(struct http_request *req) {
	const char *version = http_query(req, "version"), *outputs = http_query(req, "outputs"),
		   *remote = http_query(req, "remote"),
		   *parent = http_query(req, "cgroupparent"), *isolation = http_query(req, "isolation");
	if (version && *version && !str_same(version, "1")) {
		docker_fail(req, 400, "invalid version: %.32s: 1 is the classic builder, 2 BuildKit's", version);
		return false;
	}
	if (outputs && *outputs && !str_same(outputs, "[]") && !str_same(outputs, "null")) {
		docker_fail(req, 400, "custom outputs require BuildKit: version=2");
		return false;
	}
	if (remote && str_same(remote, "client-session")) {
		docker_fail(req, 400, "experimental session with v1 builder is no longer supported, use builder version v2 "
				      "(BuildKit) instead");
		return false;
	}
	if (parent && *parent) {
		docker_fail(req, 501, "cgroupparent: control groups of one's own are not supported");
		return false;
	}
	if (isolation && *isolation && strcasecmp(isolation, "default") != 0) {
		docker_fail(req, 400, "Unsupported isolation: \"%.32s\"", isolation);
		return false;
	}
	return true;
}

static bool take_request(struct build_call *c) {
	struct http_request *req = c->req;
	const char *dockerfile = http_query(req, "dockerfile");
	if (!refuse_what_is_not_there(req) || !take_names(c) || !take_build_args(c) || !take_labels(c) ||
	    !take_cache_from(c) || !take_limits(c) || !take_ulimits(c))
		return false;
	take_network(c);
	c->extra_hosts = http_query_all(req, "extrahosts");
	c->o.project = DOCKER_PROJECT;
	c->o.dockerfile = dockerfile && *dockerfile ? dockerfile : "Dockerfile";
	c->o.extra_hosts = c->extra_hosts;
	c->o.build_args = c->build_args;
	c->o.cache_from = c->cache_from;
	c->o.labels = &c->labels;
	c->o.target = http_query(req, "target");
	c->o.platform = http_query(req, "platform");
	c->o.quiet = docker_query_bool(req, "q");
	c->o.no_cache = docker_query_bool(req, "nocache");
	c->o.pull = docker_query_bool(req, "pull");
	c->o.force_remove = docker_query_bool(req, "forcerm");
	c->o.keep = !docker_query_bool_or(req, "rm", true) && !c->o.force_remove;
	c->o.squash = docker_query_bool(req, "squash");
	c->running.id = http_query(req, "buildid");
	return true;
}

/* ---- X-Registry-Config: base64 of {"server": credentials as in X-Registry-Auth} ---- */

static bool take_logins(struct build_call *c) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *header = http_header(c->req, "X-Registry-Config"), *server;
	json_t *one;
	if (!header || !*header)
		return true;
	_cleanup_(json_free_ptr) json_t *all = docker_header_json("X-Registry-Config", header, &err);
	struct build_login *logins = alloc_array(json_object_size(all) + 1, sizeof *logins);
	c->o.logins = logins;
	json_object_foreach(all, server, one) {
		struct docker_auth a;
		if (docker_auth_parse_json(one, &a, &err) < 0)
			break;
		free(a.server);
		logins[c->o.n_logins++] = (struct build_login){str_copy(server), a.username, a.password};
	}
	if (err.kind)
		fail(c->req, &err);
	return !err.kind;
}

/* ---- the answer ---- */

/* wait: for room; else a line for which there is none is left out. */
static void send_line(struct build_call *c, json_t *line, bool wait) {
	_cleanup_(free_ptr) char *text = json_print(line);
	_cleanup_(free_ptr) char *whole = str_format("%s\r\n", text);
	json_decref(line);
	if (!c->stream && !c->broken)
		c->stream = http_stream_begin(c->req, 200, JSON_TYPE);
	int r = !c->stream ? -EPIPE : wait ? http_stream_write(c->stream, whole, strlen(whole))
					   : http_stream_push(c->stream, whole, strlen(whole));
	c->broken |= r == -EPIPE;
}

static void on_text(void *arg, const char *text) {
	json_t *line = json_object();
	json_object_set_new(line, "stream", json_from_str(text));
	send_line(arg, line, true);
}

static void on_stage(void *arg, const char *image_id) {
	struct build_call *c = arg;
	if (!c->o.quiet)
		send_line(c, json_pack("{s:{s:s}}", "aux", "ID", image_id), true);
}

static void on_pull(void *arg, const struct task_step *step) {
	struct build_call *c = arg;
	json_t *line = c->o.quiet ? NULL : docker_step_line(DOCKER_PULL, step);
	if (line)
		send_line(c, line, false);
}

static bool on_gone(void *arg) {
	struct build_call *c = arg;
	if (c->broken || build_running_cancelled(&c->running))
		return true;
	return c->stream ? http_stream_gone(c->stream) : http_client_gone(c->req);
}

static int on_gone_fd(void *arg) {
	struct build_call *c = arg;
	return c->stream ? http_stream_fd(c->stream) : http_client_fd(c->req);
}

/* dockerd's statuses: what the client gave is 400, all else 500. */
static int status_of(const struct error *err) {
	return err->kind == ERROR_INVALID ? 400 : err->kind == ERROR_NOT_FOUND ? 404 : 500;
}

static void send_error(struct build_call *c, const struct error *err, int64_t code) {
	if (!c->stream) {
		docker_fail(c->req, status_of(err), "%s", error_text(err));
		return;
	}
	send_line(c, docker_error_json(error_text(err), code), true);
}

/* ---- the context ---- */

static int read_context(int fd, void *arg, struct error *err) {
	struct build_call *c = arg;
	return tree_read(c->context, fd, "", false, err);
}

static int take_context(struct build_call *c, const struct build_sink *sink, struct error *err) {
	const char *remote = http_query(c->req, "remote");
	int spool = core_spool(core_of(c->req), err);
	if (spool < 0)
		return spool;
	c->context = tree_new(spool);
	if (remote && *remote)
		return build_fetch_context(core_of(c->req), &c->o, sink, remote, c->context, &c->o.dockerfile, err);
	return with_body(c->req, read_context, c, err);
}

/* ---- the routes ---- */

static void run_build(struct build_call *c) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct build_sink sink = {
		.text = on_text, .stage = on_stage, .pull = on_pull, .gone = on_gone, .gone_fd = on_gone_fd, .arg = c};
	struct build_result result = {0};
	int r = take_context(c, &sink, &err);
	if (r == 0)
		r = build_run(core_of(c->req), &c->o, c->context, &sink, &result, &err);
	if (r == 0 && c->o.quiet) {
		_cleanup_(free_ptr) char *text = str_format("%s\n", result.image_id);
		on_text(c, text);
	}
	if (r < 0)
		send_error(c, &err, result.exit_code);
	if (c->stream)
		http_stream_end(c->stream, !c->broken);
	free(result.image_id);
}

static void build(struct http_request *req) {
	if (str_same(http_query(req, "version"), "2"))
		return buildkit_build(req);
	_cleanup_(call_free) struct build_call c = {.req = req};
	if (!take_request(&c) || !take_logins(&c))
		return;
	build_running_add(&c.running);
	run_build(&c);
	build_running_remove(&c.running);
}

static void cancel(struct http_request *req) {
	const char *id = http_query(req, "id");
	if (!id || !*id)
		return docker_fail(req, 400, "build ID not provided");
	build_running_cancel(id);
	http_reply_empty(req, 200);
}

int docker_build_prune(struct core *c, json_t **caches, uint64_t *freed, struct error *err) {
	_cleanup_(strv_free_ptr) char **deleted = NULL;
	int r = image_prune(c, DOCKER_PROJECT, false, &deleted, freed, err);
	if (r < 0)
		return r;
	*caches = json_from_strv(deleted);
	bk_kept_prune(*caches, freed);
	return docker_prune_build_caches(c, *caches, freed, err);
}

static void prune(struct http_request *req) {
	static const char *const known[] = {"until", "id", "parent", "type", "description", "inuse", "shared", "private", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known), *caches = NULL;
	uint64_t freed = 0;
	if (!filters)
		return;
	if (json_object_size(filters))
		return docker_fail(req, 501, "filters of build prune are not supported yet");
	static const char *const spaces[] = {"keep-storage", "reserved-space", "max-used-space", "min-free-space"};
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		int64_t space;
		if (!docker_query_int(req, spaces[i], 0, &space))
			return;
		if (space)
			return docker_fail(req, 501, "%s: all of the cache that nobody has just now goes, or none", spaces[i]);
	}
	if (docker_build_prune(core_of(req), &caches, &freed, &err) < 0)
		return fail(req, &err);
	json_t *answer = json_object();
	json_object_set(answer, "CachesDeleted", caches);
	json_set_int(answer, "SpaceReclaimed", (int64_t)freed);
	docker_reply(req, 200, answer);
}

const struct docker_route docker_build_routes[] = {
	{"POST", "/build", build, HTTP_STREAM_BODY, DOCKER_DIFFERS,
	 "both builders (version=2 is BuildKit's) are one, so that the classic one has here-documents, RUN --mount, COPY --link and "
	 "ADD --checksum as well. Agents of ssh are BuildKit's alone; cgroupparent is refused; a git repository as context comes without .git, but with BUILDKIT_CONTEXT_KEEP_GIT_DIR; outputs are images, archives of them (docker, oci), local and tar"},
	{"POST", "/build/prune", prune, 0, DOCKER_DIFFERS, "removes images without a name, the caches of RUN --mount and what clients have sent for builds; filters and sizes are refused"},
	{"POST", "/build/cancel", cancel, 0, DOCKER_WORKS, NULL},
	{"POST", "/session", buildkit_session, 0, DOCKER_WORKS, NULL},
	{"POST", "/grpc", buildkit_grpc, 0, DOCKER_DIFFERS,
	 "BuildKit's Control and LLBBridge, as far as buildx's docker driver builds Dockerfiles with them: the front end is the engine's, "
	 "LLB definitions, exporters of caches and attestations are refused"},
	{0},
};
