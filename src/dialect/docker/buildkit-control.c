/* BuildKit's Control, as buildx's docker driver uses it, and LLBBridge, through which a newer buildx asks for the front end
 * itself: it opens a solve without one, asks the bridge for what the Dockerfile makes, and returns that to the solve. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#include "dialect/docker/build-priv.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- messages ---- */

/* The one message of a call that has one. *out: to be freed. */
static int receive_one(struct grpc_call *call, const ProtobufCMessageDescriptor *d, ProtobufCMessage **out, struct error *err) {
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	int r = grpc_receive(call, &message, err);
	if (r == 0)
		return error_set(err, ERROR_INVALID, "there is no request");
	*out = r < 0 ? NULL : protobuf_c_message_unpack(d, NULL, message.len, (const uint8_t *)buf_str(&message));
	return r < 0 || *out ? MIN(r, 0) : error_set(err, ERROR_INVALID, "the request is no such message");
}

static void message_free(ProtobufCMessage **m) {
	if (*m)
		protobuf_c_message_free_unpacked(*m, NULL);
}

static void take_texts(Bk__Text *const *texts, size_t n, struct pairs *to) {
	for (size_t i = 0; i < n; i++)
		pairs_set(to, texts[i]->key, texts[i]->value);
}

static bool call_gone(void *arg) {
	return grpc_call_over(arg);
}

static int no_fd(UNUSED void *arg) {
	return -1;
}

/* ---- Solve ---- */

static void on_status(void *arg, const void *data, size_t n) {
	bk_job_say(arg, data, n);
}

/* What the Dockerfile front end is called: itself, or by an image of it, which the engine's own stands for. */
static int check_frontend(const char *name, Bk__Text *const *opts, size_t n, struct error *err) {
	if (str_same(name, "dockerfile.v0"))
		return 0;
	for (size_t i = 0; i < n && str_same(name, "gateway.v0"); i++)
		if (str_same(opts[i]->key, "source") && strstr(opts[i]->value, "docker/dockerfile"))
			return 0;
	return error_set(err, ERROR_UNSUPPORTED, "front end %.64s is not supported by this engine: dockerfile.v0 alone is", name);
}

static int refuse_definition(const Bk__Definition *d, size_t n_inputs, struct error *err) {
	if (d && d->n_def)
		return error_set(err, ERROR_UNSUPPORTED, "LLB definitions are not built by this engine: ask for the front end dockerfile.v0");
	return n_inputs ? error_set(err, ERROR_UNSUPPORTED, "inputs of a front end are not supported by this engine") : 0;
}

static int check_request(const Bk__SolveRequest *q, struct error *err) {
	int r = refuse_definition(q->definition, q->n_frontend_inputs, err);
	if (r == 0 && *q->frontend)
		r = check_frontend(q->frontend, q->frontend_attrs, q->n_frontend_attrs, err);
	if (r == 0 && !*q->ref)
		r = error_set(err, ERROR_INVALID, "the solve has no reference");
	if (r == 0 && q->n_exporters > 1)
		r = error_set(err, ERROR_UNSUPPORTED, "multiple outputs not supported");
	for (size_t i = 0; r == 0 && q->cache && i < q->cache->n_exports; i++)
		if (!str_same(q->cache->exports[i]->type, "inline"))
			r = error_set(err, ERROR_UNSUPPORTED, "cache export is not supported by this engine: %.32s", q->cache->exports[i]->type);
	return r;
}

static void take_request(const Bk__SolveRequest *q, struct bk_solve *s) {
	take_texts(q->frontend_attrs, q->n_frontend_attrs, &s->attrs);
	if (q->n_exporters)
		take_texts(q->exporters[0]->attrs, q->exporters[0]->n_attrs, &s->exporter_attrs);
	else
		take_texts(q->exporter_attrs, q->n_exporter_attrs, &s->exporter_attrs);
	s->exporter = q->n_exporters ? q->exporters[0]->type : q->exporter;
}

static int answer_solve(struct grpc_call *call, const struct bk_solve *s, const char *image_id, struct error *err) {
	Bk__SolveResponse answer = BK__SOLVE_RESPONSE__INIT;
	Bk__Text digest = BK__TEXT__INIT, config = BK__TEXT__INIT, *all[] = {&digest, &config};
	digest.key = (char *)"containerimage.digest";
	config.key = (char *)"containerimage.config.digest";
	digest.value = config.value = (char *)image_id;
	if (bk_solve_makes_image(s)) {
		answer.exporter_response = all;
		answer.n_exporter_response = ARRAY_SIZE(all);
	}
	return bk_send(call, &answer.base, err);
}

static int run_solve(struct grpc_call *call, const Bk__SolveRequest *q, struct bk_solve *s, struct bk_job *job, struct error *err) {
	_cleanup_(free_ptr) char *image_id = NULL;
	take_request(q, s);
	int r = bk_solve_check_export(s, err);
	if (r == 0 && *q->frontend)
		r = bk_solve_build(s, &image_id, err);
	else if (r == 0)
		r = bk_job_await_return(job, call_gone, call, &image_id, err);
	if (r == 0 && *s->exporter && !image_id)
		r = error_set(err, ERROR_INVALID, "nothing was made that could be exported");
	if (r == 0)
		r = bk_solve_export(s, image_id, err);
	return r < 0 ? r : answer_solve(call, s, image_id ? image_id : "", err);
}

static int solve_in_job(struct grpc_call *call, const Bk__SolveRequest *q, struct bk_solve *s, struct error *err) {
	struct bk_job *job = NULL;
	int r = bk_job_begin(q->ref, s->session, &job, err);
	if (r < 0)
		return r;
	s->progress = bk_progress_new(on_status, job);
	r = run_solve(call, q, s, job, err);
	bk_progress_free(s->progress);
	bk_job_end(job);
	return r;
}

static int solve(struct grpc_call *call, void *core, struct error *err) {
	_cleanup_(message_free) ProtobufCMessage *m = NULL;
	_cleanup_(grpc_unref_ptr) struct grpc_connection *session = NULL;
	int r = receive_one(call, &bk__solve_request__descriptor, &m, err);
	const Bk__SolveRequest *q = (const Bk__SolveRequest *)m;
	if (r == 0 && *q->session)
		r = bk_session_find(q->session, call_gone, call, &session, err);
	if (r == 0)
		r = check_request(q, err);
	if (r < 0)
		return r;
	struct bk_solve s = {.core = core, .session = session, .gone = call_gone, .gone_fd = no_fd, .arg = call};
	r = solve_in_job(call, q, &s, err);
	pairs_free(&s.attrs);
	pairs_free(&s.exporter_attrs);
	return r;
}

/* ---- Status ---- */

static int status(struct grpc_call *call, UNUSED void *core, struct error *err) {
	_cleanup_(message_free) ProtobufCMessage *m = NULL;
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	struct bk_job *job = NULL;
	int r = receive_one(call, &bk__status_request__descriptor, &m, err);
	if (r == 0)
		r = bk_job_find(((const Bk__StatusRequest *)m)->ref, call_gone, call, &job, err);
	while (r == 0 && bk_job_next(job, call_gone, call, &message))
		r = grpc_send(call, buf_str(&message), message.len, err);
	bk_job_unref(job);
	return r;
}

/* ---- Session: a connection within a call ---- */

struct tunnel {
	struct grpc_call *call;
	int near, far; /* ours, the session's */
	char *id, *shared;
	struct error err;
};

static void *tunnel_session(void *arg) {
	struct tunnel *t = arg;
	bk_session_run(t->id, t->shared, t->far, NULL, -1, &t->err);
	return NULL;
}

static int run_tunnel(struct tunnel *t, struct error *err) {
	pthread_t session;
	int failed = pthread_create(&session, NULL, tunnel_session, t);
	if (failed) {
		close_fd(&t->far);
		return error_errno(err, failed, "starting a thread");
	}
	int r = bk_relay(t->call, t->near, err);
	pthread_join(session, NULL);
	return r == 0 && t->err.kind ? error_move(err, &t->err) : r;
}

static int session(struct grpc_call *call, UNUSED void *core, struct error *err) {
	const char *id = grpc_header(call, "x-docker-expose-session-uuid"), *key = grpc_header(call, "x-docker-expose-session-sharedkey");
	int fds[2];
	if (!id || !*id)
		return error_set(err, ERROR_INVALID, "x-docker-expose-session-uuid: the session has no id");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return error_errno(err, errno, "making a pair of sockets");
	struct tunnel t = {.call = call, .near = fds[0], .far = fds[1], .id = str_copy(id), .shared = key ? str_copy(key) : NULL};
	int r = run_tunnel(&t, err);
	close(t.near);
	free(t.id);
	free(t.shared);
	return r;
}

/* ---- what there is ---- */

static void fill_version(Bk__Version *v) {
	v->package = (char *)"wabe";
	v->version = (char *)WABE_VERSION;
	v->revision = (char *)"";
}

static int list_workers(struct grpc_call *call, void *core, struct error *err) {
	_cleanup_(json_free_ptr) json_t *about = core_info(core);
	const char *architecture = json_get_str(json_object_get(about, "agent"), "architecture");
	Bk__ListWorkersResponse answer = BK__LIST_WORKERS_RESPONSE__INIT;
	Bk__Worker worker = BK__WORKER__INIT, *workers[] = {&worker};
	Bk__Platform platform = BK__PLATFORM__INIT, *platforms[] = {&platform};
	Bk__Version version = BK__VERSION__INIT;
	fill_version(&version);
	worker.id = (char *)"wabe";
	worker.version = &version;
	platform.os = (char *)"linux";
	platform.architecture = (char *)(architecture ? architecture : "");
	worker.platforms = platforms;
	worker.n_platforms = 1;
	answer.record = workers;
	answer.n_record = 1;
	return bk_send(call, &answer.base, err);
}

static int info(struct grpc_call *call, UNUSED void *core, struct error *err) {
	Bk__InfoResponse answer = BK__INFO_RESPONSE__INIT;
	Bk__Version version = BK__VERSION__INIT;
	fill_version(&version);
	answer.version = &version;
	return bk_send(call, &answer.base, err);
}

/* As in system df: what the cache holds is images without a name, which are counted there. */
static int disk_usage(struct grpc_call *call, UNUSED void *core, struct error *err) {
	Bk__DiskUsageResponse answer = BK__DISK_USAGE_RESPONSE__INIT;
	return bk_send(call, &answer.base, err);
}

static int send_pruned(struct grpc_call *call, const json_t *caches, uint64_t freed, struct error *err) {
	size_t i;
	json_t *name;
	int r = 0;
	json_array_foreach(caches, i, name) {
		Bk__UsageRecord one = BK__USAGE_RECORD__INIT;
		one.id = (char *)json_string_value(name);
		one.size = i == 0 ? (int64_t)freed : 0; /* all of them together have it */
		r = r == 0 ? bk_send(call, &one.base, err) : r;
	}
	return r;
}

static int prune(struct grpc_call *call, void *core, struct error *err) {
	_cleanup_(message_free) ProtobufCMessage *m = NULL;
	_cleanup_(json_free_ptr) json_t *caches = NULL;
	uint64_t freed = 0;
	int r = receive_one(call, &bk__prune_request__descriptor, &m, err);
	const Bk__PruneRequest *q = (const Bk__PruneRequest *)m;
	if (r == 0 && (q->n_filter || q->keep_duration || q->keep_bytes))
		r = error_set(err, ERROR_UNSUPPORTED, "filters of build prune are not supported yet");
	if (r == 0)
		r = docker_build_prune(core, &caches, &freed, err);
	return r < 0 ? r : send_pruned(call, caches, freed, err);
}

/* ---- LLBBridge ---- */

static int ping(struct grpc_call *call, UNUSED void *core, struct error *err) {
	static const char *const names[] = {"solve.base", "return", "proto.refarray", "gateway.solve.metadata", "gateway.solve.evaluate"};
	Bk__Pong answer = BK__PONG__INIT;
	Bk__Capability caps[ARRAY_SIZE(names)], *all[ARRAY_SIZE(names)];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		bk__capability__init(&caps[i]);
		caps[i].id = (char *)names[i];
		caps[i].enabled = 1;
		all[i] = &caps[i];
	}
	answer.frontend_caps = all;
	answer.n_frontend_caps = ARRAY_SIZE(all);
	return bk_send(call, &answer.base, err);
}

static int find_job(struct grpc_call *call, struct bk_job **out, struct error *err) {
	const char *ref = grpc_header(call, "buildkit-controlapi-buildid");
	return bk_job_find(ref ? ref : "", call_gone, call, out, err);
}

static int build_for_bridge(struct grpc_call *call, struct core *core, const Bk__FrontendRequest *q, struct bk_job *job, char **image_id,
			    struct error *err) {
	struct bk_solve s = {.core = core, .session = bk_job_session(job), .exporter = "", .gone = call_gone, .gone_fd = no_fd, .arg = call};
	take_texts(q->frontend_opt, q->n_frontend_opt, &s.attrs);
	s.progress = bk_progress_new(on_status, job);
	int r = bk_solve_build(&s, image_id, err);
	bk_progress_free(s.progress);
	pairs_free(&s.attrs);
	return r;
}

static int bridge_solve(struct grpc_call *call, void *core, struct error *err) {
	_cleanup_(message_free) ProtobufCMessage *m = NULL;
	_cleanup_(free_ptr) char *image_id = NULL;
	Bk__FrontendResponse answer = BK__FRONTEND_RESPONSE__INIT;
	Bk__Result result = BK__RESULT__INIT;
	Bk__Ref ref = BK__REF__INIT;
	struct bk_job *job = NULL;
	int r = receive_one(call, &bk__frontend_request__descriptor, &m, err);
	const Bk__FrontendRequest *q = (const Bk__FrontendRequest *)m;
	if (r == 0)
		r = refuse_definition(q->definition, q->n_frontend_inputs, err);
	if (r == 0)
		r = check_frontend(q->frontend, q->frontend_opt, q->n_frontend_opt, err);
	if (r == 0)
		r = find_job(call, &job, err);
	if (r == 0)
		r = build_for_bridge(call, core, q, job, &image_id, err);
	bk_job_unref(job);
	if (r < 0)
		return r;
	ref.id = image_id;
	result.ref = &ref;
	answer.ref = q->allow_result ? (char *)"" : image_id;
	answer.result = q->allow_result ? &result : NULL;
	return bk_send(call, &answer.base, err);
}

/* All that was built is there already. */
static int bridge_evaluate(struct grpc_call *call, UNUSED void *core, struct error *err) {
	return grpc_send(call, "", 0, err);
}

/* The reference is an image's id that a solve of this job gave; another one's is that of an image which the client may have as well. */
static int bridge_return(struct grpc_call *call, UNUSED void *core, struct error *err) {
	_cleanup_(message_free) ProtobufCMessage *m = NULL;
	struct bk_job *job = NULL;
	int r = receive_one(call, &bk__return_request__descriptor, &m, err);
	const Bk__ReturnRequest *q = (const Bk__ReturnRequest *)m;
	if (r == 0)
		r = find_job(call, &job, err);
	if (r < 0)
		return r;
	const Bk__Result *result = q->result;
	const char *id = result && result->ref ? result->ref->id : result ? result->old_ref : "";
	bk_job_return(job, *id ? id : NULL, q->error ? q->error->message : NULL);
	bk_job_unref(job);
	return grpc_send(call, "", 0, err);
}

#define CONTROL "/moby.buildkit.v1.Control/"
#define BRIDGE "/moby.buildkit.v1.frontend.LLBBridge/"
const struct grpc_method bk_control_methods[] = {
	{CONTROL "Solve", solve},
	{CONTROL "Status", status},
	{CONTROL "Session", session},
	{CONTROL "ListWorkers", list_workers},
	{CONTROL "Info", info},
	{CONTROL "DiskUsage", disk_usage},
	{CONTROL "Prune", prune},
	{BRIDGE "Ping", ping},
	{BRIDGE "Solve", bridge_solve},
	{BRIDGE "Evaluate", bridge_evaluate},
	{BRIDGE "Return", bridge_return},
	{NULL, NULL},
};
