/* POST /session, and POST /build as BuildKit's clients ask for it (version=2): the parameters become attributes of the Dockerfile
 * front end, the progress lines of JSON. */
#include "dialect/docker/build-priv.h"
#include "dialect/docker/buildkit-priv.h"
#include "dialect/docker/images-priv.h"

#include "base/base64.h"

#include <pthread.h>
#include <time.h>

#define UPLOAD "upload-request"
#define UPLOAD_WAIT 10 /* seconds: it is asked for and sent at the same time */

/* ---- connections ---- */

/* The request's connection as one of HTTP/2, with what has been read of that already; -1: it is answered. *stop is readable when
 * the client is gone, and when the server stops. */
static int take_connection(struct http_request *req, struct buf *early, int *stop) {
	const char *protocol = http_header(req, "Upgrade");
	if (!str_same(protocol, "h2c")) {
		docker_fail(req, 400, "protocol %.32s not supported", protocol ? protocol : "");
		return -1;
	}
	*stop = http_client_fd(req);
	return http_upgrade(req, "h2c", early);
}

void buildkit_session(struct http_request *req) {
	const char *id = http_header(req, "X-Docker-Expose-Session-Uuid"), *key = http_header(req, "X-Docker-Expose-Session-Sharedkey");
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	_cleanup_(free_ptr) char *own = id ? str_copy(id) : NULL, *shared = key ? str_copy(key) : NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (!id || !*id || strlen(id) > 256)
		return docker_fail(req, 400, "X-Docker-Expose-Session-Uuid: the session has no id");
	int stop, fd = take_connection(req, &early, &stop);
	if (fd >= 0)
		bk_session_run(own, shared, fd, &early, stop, &err); /* a second one of that id is cut off */
}

void buildkit_grpc(struct http_request *req) {
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct core *c = core_of(req);
	int stop, fd = take_connection(req, &early, &stop);
	if (fd < 0)
		return;
	_cleanup_(grpc_unref_ptr) struct grpc_connection *connection = grpc_open(fd, &early, bk_control_methods, c, &err);
	if (connection)
		grpc_run(connection, stop);
}

/* ---- contexts that come in a request of their own ---- */

struct upload {
	struct upload *next;
	const char *id;
	struct tree *tree; /* when it is here */
	bool ended, taken;
};
static struct upload *uploads;
static pthread_mutex_t uploads_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t uploads_changed = PTHREAD_COND_INITIALIZER;

/* With the lock. */
static void wait_a_moment(void) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_cond_timedwait(&uploads_changed, &uploads_lock, &until);
}

static int read_tree(int fd, void *arg, struct error *err) {
	return tree_read(arg, fd, "", false, err);
}

static int read_body(struct http_request *req, struct tree **out, struct error *err) {
	int spool = core_spool(core_of(req), err);
	if (spool < 0)
		return spool;
	*out = tree_new(spool);
	return with_body(req, read_tree, *out, err);
}

static void upload_publish(struct upload *u) {
	pthread_mutex_lock(&uploads_lock);
	u->next = uploads;
	uploads = u;
	pthread_cond_broadcast(&uploads_changed);
	pthread_mutex_unlock(&uploads_lock);
}

/* Until the build has it, or has not come in time. */
static void upload_end(struct upload *u, struct tree *tree) {
	pthread_mutex_lock(&uploads_lock);
	u->tree = tree;
	u->ended = true;
	pthread_cond_broadcast(&uploads_changed);
	for (int i = 0; u->tree && i < UPLOAD_WAIT; i++)
		wait_a_moment();
	struct upload **at = &uploads;
	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	pthread_mutex_unlock(&uploads_lock);
	tree_free(u->tree);
}

static void upload(struct http_request *req, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct upload u = {.id = id};
	struct tree *tree = NULL;
	upload_publish(&u);
	int r = read_body(req, &tree, &err);
	if (r < 0) {
		tree_free(tree);
		tree = NULL;
	}
	upload_end(&u, tree);
	if (r < 0)
		docker_fail(req, 400, "%s", error_text(&err));
	else
		http_reply_empty(req, 200);
}

static struct upload *upload_find(const char *id) {
	struct upload *u = uploads;
	while (u && !str_same(u->id, id))
		u = u->next;
	return u;
}

static int upload_await(const char *id, bool (*gone)(void *arg), void *arg, struct tree **out, struct error *err) {
	struct upload *u;
	pthread_mutex_lock(&uploads_lock);
	for (int i = 0; !(u = upload_find(id)) && i < UPLOAD_WAIT && !gone(arg); i++)
		wait_a_moment();
	while ((u = upload_find(id)) && !u->ended && !gone(arg))
		wait_a_moment();
	*out = u ? TAKE_PTR(u->tree) : NULL;
	pthread_cond_broadcast(&uploads_changed);
	pthread_mutex_unlock(&uploads_lock);
	return *out ? 0 : error_set(err, ERROR_INVALID, "the build context has not come");
}

/* ---- /build ---- */

struct call {
	struct http_request *req;
	struct http_stream *stream; /* from the first line on */
	struct build_running running;
	struct bk_solve solve;
	char *exporter;
	pthread_mutex_t lock; /* lines come from several threads */
	bool quiet, broken;
};

static void call_free(struct call *c) {
	pairs_free(&c->solve.attrs);
	pairs_free(&c->solve.exporter_attrs);
	tree_free(c->solve.context);
	grpc_unref(c->solve.session);
	bk_progress_free(c->solve.progress);
	free(c->exporter);
	pthread_mutex_destroy(&c->lock);
}

static json_t *query_json(struct http_request *req, const char *name, bool wants_list, bool *ok) {
	const char *text = http_query(req, name);
	json_t *json = text && *text && !str_same(text, "null") ? json_parse(text, strlen(text), NULL) : json_null();
	*ok = json_is_null(json) || (wants_list ? json_is_array(json) : json_is_object(json));
	if (!*ok)
		docker_fail(req, 400, "error parsing %s: %s is wanted", name, wants_list ? "a list" : "an object");
	return json;
}

/* Each member as an attribute; null: the name is not given a value. */
static bool take_object(struct call *c, const char *name, const char *prefix) {
	bool ok;
	const char *key;
	json_t *value;
	_cleanup_(json_free_ptr) json_t *all = query_json(c->req, name, false, &ok);
	json_object_foreach(all, key, value) {
		_cleanup_(free_ptr) char *attr = str_format("%s%s", prefix, key);
		if (json_is_string(value))
			pairs_set(&c->solve.attrs, attr, json_string_value(value));
		else if (ok && !json_is_null(value))
			docker_fail(c->req, 400, "error parsing %s: an object of strings is wanted", name);
		ok &= json_is_string(value) || json_is_null(value);
	}
	return ok;
}

static bool take_cache_from(struct call *c) {
	bool ok;
	size_t i;
	json_t *value;
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(json_free_ptr) json_t *all = query_json(c->req, "cachefrom", true, &ok);
	json_array_foreach(all, i, value)
		strv_add(&names, json_is_string(value) ? json_string_value(value) : "");
	_cleanup_(free_ptr) char *text = names ? strv_join(names, ",") : NULL;
	if (text)
		pairs_set(&c->solve.attrs, "cache-from", text);
	return ok;
}

static bool take_ulimits(struct call *c) {
	bool ok;
	size_t i;
	json_t *one;
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(json_free_ptr) json_t *all = query_json(c->req, "ulimits", true, &ok);
	json_array_foreach(all, i, one) {
		const char *name = json_get_str(one, "Name");
		buf_addf(&text, "%s%s=%lld:%lld", i ? "," : "", name ? name : "", (long long)json_get_int(one, "Soft"),
			 (long long)json_get_int(one, "Hard"));
	}
	if (text.len)
		pairs_set(&c->solve.attrs, "ulimit", buf_str(&text));
	return ok;
}

static bool take_hosts(struct call *c) {
	_cleanup_(strv_free_ptr) char **hosts = http_query_all(c->req, "extrahosts");
	for (char **h = hosts; h && *h; h++) {
		char *colon = strchr(*h, ':');
		if (!colon || colon == *h || !colon[1]) {
			docker_fail(c->req, 400, "invalid host %.256s", *h);
			return false;
		}
		*colon = '=';
	}
	_cleanup_(free_ptr) char *text = hosts ? strv_join(hosts, ",") : NULL;
	if (text)
		pairs_set(&c->solve.attrs, "add-hosts", text);
	return true;
}

static void copy_query(struct call *c, const char *name, const char *attr) {
	const char *value = http_query(c->req, name);
	if (value && *value)
		pairs_set(&c->solve.attrs, attr, value);
}

static bool take_network(struct call *c) {
	const char *mode = http_query(c->req, "networkmode");
	if (!mode || !*mode || str_same(mode, "default"))
		return true;
	if (!str_same(mode, "host") && !str_same(mode, "none")) {
		docker_fail(c->req, 500, "network mode \"%.64s\" not supported by buildkit", mode);
		return false;
	}
	pairs_set(&c->solve.attrs, "force-network-mode", mode);
	return true;
}

/* [{"Type":"local","Attrs":{}}]: one at most. */
static bool take_outputs(struct call *c) {
	bool ok;
	_cleanup_(json_free_ptr) json_t *all = query_json(c->req, "outputs", true, &ok);
	const json_t *one = json_array_get(all, 0);
	const char *type = one ? json_get_str(one, "Type") : "moby";
	if (!ok)
		return false;
	if (json_array_size(all) > 1) {
		docker_fail(c->req, 500, "multiple outputs not supported");
		return false;
	}
	c->exporter = str_copy(!type || str_same(type, "cacheonly") ? "" : type);
	pairs_read(&c->solve.exporter_attrs, json_object_get(one, "Attrs"));
	_cleanup_(strv_free_ptr) char **names = http_query_all(c->req, "t");
	_cleanup_(free_ptr) char *joined = names ? strv_join(names, ",") : NULL;
	if (joined && *joined)
		pairs_set(&c->solve.exporter_attrs, "name", joined);
	return true;
}

static bool on_gone(void *arg) {
	struct call *c = arg;
	pthread_mutex_lock(&c->lock);
	bool gone = c->broken || (c->stream ? http_stream_gone(c->stream) : http_client_gone(c->req));
	pthread_mutex_unlock(&c->lock);
	return gone || build_running_cancelled(&c->running);
}

static bool take_session(struct call *c) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *id = http_query(c->req, "session");
	int r = id && *id ? bk_session_find(id, on_gone, c, &c->solve.session, &err) : 0;
	if (r < 0)
		docker_fail(c->req, 500, "%s", error_text(&err));
	return r == 0;
}

/* The session first: see there. */
static bool take_request(struct call *c) {
	const char *remote = http_query(c->req, "remote");
	int64_t shm;
	if (!take_session(c))
		return false;
	if (!take_object(c, "buildargs", "build-arg:") || !take_object(c, "labels", "label:") || !take_cache_from(c) ||
	    !take_ulimits(c) || !take_hosts(c) || !take_network(c) || !take_outputs(c) || !docker_query_int(c->req, "shmsize", 0, &shm))
		return false;
	copy_query(c, "target", "target");
	copy_query(c, "dockerfile", "filename");
	copy_query(c, "platform", "platform");
	if (shm)
		copy_query(c, "shmsize", "shm-size");
	if (docker_query_bool(c->req, "nocache"))
		pairs_set(&c->solve.attrs, "no-cache", "");
	if (docker_query_bool(c->req, "pull"))
		pairs_set(&c->solve.attrs, "image-resolve-mode", "pull");
	if (remote && *remote && !str_same(remote, "client-session") && !str_same(remote, UPLOAD))
		pairs_set(&c->solve.attrs, "context", remote);
	c->solve.exporter = c->exporter;
	c->quiet = docker_query_bool(c->req, "q");
	return true;
}

/* ---- the answer ---- */

static void send_line(struct call *c, json_t *line) {
	_cleanup_(free_ptr) char *text = json_print(line);
	_cleanup_(free_ptr) char *whole = str_format("%s\r\n", text);
	json_decref(line);
	pthread_mutex_lock(&c->lock);
	if (!c->stream && !c->broken)
		c->stream = http_stream_begin(c->req, 200, JSON_TYPE);
	c->broken |= !c->stream || http_stream_write(c->stream, whole, strlen(whole)) < 0;
	pthread_mutex_unlock(&c->lock);
}

/* Those of a quiet build, too: its client shows them if it fails. */
static void on_status(void *arg, const void *data, size_t n) {
	_cleanup_(free_ptr) char *text = base64_encode(data, n);
	send_line(arg, json_pack("{s:s,s:s}", "id", "moby.buildkit.trace", "aux", text));
}

static int on_gone_fd(void *arg) {
	struct call *c = arg;
	pthread_mutex_lock(&c->lock);
	int fd = c->stream ? http_stream_fd(c->stream) : http_client_fd(c->req);
	pthread_mutex_unlock(&c->lock);
	return fd;
}

static void send_result(struct call *c, const char *image_id) {
	if (image_id)
		send_line(c, json_pack("{s:s,s:{s:s}}", "id", "moby.image.id", "aux", "ID", image_id));
	if (image_id && c->quiet) {
		_cleanup_(free_ptr) char *text = str_format("%s\n", image_id);
		send_line(c, json_pack("{s:s}", "stream", text));
	}
	if (!c->stream && !c->broken)
		http_reply_empty(c->req, 200);
}

static void send_failure(struct call *c, const struct error *err) {
	if (!c->stream)
		return docker_fail(c->req, 500, "%s", error_text(err));
	send_line(c, docker_error_json(error_text(err), 0));
}

static int take_context(struct call *c, struct error *err) {
	const char *remote = http_query(c->req, "remote"), *id = http_query(c->req, "buildid");
	if (str_same(remote, UPLOAD))
		return upload_await(id ? id : "", on_gone, c, &c->solve.context, err);
	return remote && *remote ? 0 : read_body(c->req, &c->solve.context, err);
}

static void run_call(struct call *c) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *image_id = NULL;
	int r = bk_solve_check_export(&c->solve, &err);
	if (r == 0)
		r = take_context(c, &err);
	if (r == 0)
		r = bk_solve_build(&c->solve, &image_id, &err);
	if (r == 0)
		r = bk_solve_export(&c->solve, image_id, &err);
	if (r == 0)
		send_result(c, bk_solve_makes_image(&c->solve) ? image_id : NULL);
	else
		send_failure(c, &err);
	if (c->stream)
		http_stream_end(c->stream, !c->broken);
}

void buildkit_build(struct http_request *req) {
	const char *id = http_query(req, "buildid");
	if (id && str_starts(id, UPLOAD ":"))
		return upload(req, id + strlen(UPLOAD ":"));
	_cleanup_(call_free) struct call c = {.req = req, .running.id = id};
	pthread_mutex_init(&c.lock, NULL);
	c.solve.core = core_of(req);
	c.solve.progress = bk_progress_new(on_status, &c);
	c.solve.gone = on_gone;
	c.solve.gone_fd = on_gone_fd;
	c.solve.arg = &c;
	if (!take_request(&c))
		return;
	build_running_add(&c.running);
	run_call(&c);
	build_running_remove(&c.running);
}
