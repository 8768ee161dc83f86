/* A solve: what BuildKit's Dockerfile front end is given becomes a request of the builder's, whose result goes where the exporter
 * says. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/docker/docker-priv.h"

#include "build/ignore.h"
#include "core/images.h"
#include "core/instances.h"

#define IGNORE_MAX ((size_t)1 << 20)

/* One that is under way. */
struct solve {
	const struct bk_solve *s;
	struct grpc_connection *session; /* as in s */
	struct bk_progress *progress; /* as in s */
	struct build_request o;
	struct pairs labels;
	struct ulimit *ulimits;
	char **extra_hosts, **build_args, **cache_from;
	char *filename;
	struct tree *dockerfiles, *context;
	struct tree *part_of_context; /* that was not enough */
	char **excludes; /* of the context; from its .dockerignore or the Dockerfile's own */
	size_t step;	 /* that files come in for */
	const char *part;
};

static void solve_free(struct solve *v) {
	bk_pairs_free(&v->labels);
	for (size_t i = 0; i < v->o.n_ulimits; i++)
		free(v->ulimits[i].name);
	free(v->ulimits);
	strv_free(v->extra_hosts);
	strv_free(v->build_args);
	strv_free(v->cache_from);
	strv_free(v->excludes);
	free(v->filename);
	tree_free(v->dockerfiles);
	tree_free(v->context);
	tree_free(v->part_of_context);
}

static const char *attr(const struct solve *v, const char *name) {
	const char *value = pairs_get(&v->s->attrs, name);
	return value && *value ? value : NULL;
}

/* ---- attributes ---- */

static int take_number(const char *name, const char *text, int64_t *to, struct error *err) {
	return !text || str_to_i64(text, to) == 0 ? 0 : error_set(err, ERROR_INVALID, "invalid %s: %s is not a number", name, text);
}

/* "nofile=1024:2048,nproc=5" */
static int take_ulimits(struct solve *v, const char *text, struct error *err) {
	_cleanup_(strv_free_ptr) char **all = text ? strv_split(text, ',') : NULL;
	v->ulimits = alloc_array(strv_len(all) + 1, sizeof *v->ulimits);
	v->o.ulimits = v->ulimits;
	for (char **u = all; u && *u; u++) {
		_cleanup_(free_ptr) char *name = str_copyn(*u, strcspn(*u, "="));
		const char *soft = strchr(*u, '=') ? strchr(*u, '=') + 1 : "";
		_cleanup_(free_ptr) char *first = str_copyn(soft, strcspn(soft, ":"));
		const char *hard = strchr(soft, ':') ? strchr(soft, ':') + 1 : first;
		struct ulimit l = {0};
		if (str_to_i64(first, &l.soft) < 0 || str_to_i64(hard, &l.hard) < 0)
			return error_set(err, ERROR_INVALID, "invalid ulimit: %s", *u);
		l.name = TAKE_PTR(name);
		v->ulimits[v->o.n_ulimits++] = l;
	}
	return 0;
}

/* "name=address,…" */
static int take_hosts(struct solve *v, const char *text, struct error *err) {
	_cleanup_(strv_free_ptr) char **all = text ? strv_split(text, ',') : NULL;
	for (char **h = all; h && *h; h++) {
		size_t n = strcspn(*h, "=");
		if (!n || !(*h)[n])
			return error_set(err, ERROR_INVALID, "invalid extra host %s: name=address is wanted", *h);
		strv_take(&v->extra_hosts, str_format("%.*s:%s", (int)n, *h, *h + n + 1));
	}
	v->o.extra_hosts = v->extra_hosts;
	return 0;
}

/* Those whose names begin with a prefix, and single ones that do nothing here. */
static bool is_known(const char *name) {
	static const char *const all[] = {
		"target", "filename", "no-cache", "image-resolve-mode", "platform", "force-network-mode", "add-hosts", "shm-size",
		"ulimit", "cache-from", "context", "contextkey", "dockerfilekey", "contextsubdir", "cmdline", "multi-platform",
		"cache-imports", "frontend.caps", "source", NULL};
	for (const char *const *a = all; *a; a++)
		if (str_same(name, *a))
			return true;
	return str_starts(name, "build-arg:") || str_starts(name, "label:") || str_starts(name, "local-sessionid:") ||
	       str_starts(name, "localsessionid:") || str_starts(name, "vcs:");
}

static int take_named(struct solve *v, struct error *err) {
	for (size_t i = 0; i < v->s->attrs.n; i++) {
		const struct pair *p = &v->s->attrs.items[i];
		if (str_starts(p->key, "build-arg:"))
			strv_take(&v->build_args, str_format("%s=%s", p->key + strlen("build-arg:"), p->value));
		else if (str_starts(p->key, "label:"))
			pairs_set(&v->labels, p->key + strlen("label:"), p->value);
		else if (!is_known(p->key) && *p->value)
			return error_set(err, ERROR_UNSUPPORTED, "the front end's option %.64s is not supported by this engine", p->key);
	}
	v->o.build_args = v->build_args;
	v->o.labels = &v->labels;
	return 0;
}

static void take_list(const char *text, char ***to) {
	_cleanup_(strv_free_ptr) char **all = text ? strv_split(text, ',') : NULL;
	for (char **a = all; a && *a; a++)
		if (**a)
			strv_add(to, *a);
}

static int take_attrs(struct solve *v, struct error *err) {
	const char *filename = attr(v, "filename"), *platform = attr(v, "platform");
	int r = take_named(v, err);
	if (r == 0 && platform && strchr(platform, ','))
		r = error_set(err, ERROR_UNSUPPORTED, "multiple platforms (%s) in one build are not supported by this engine", platform);
	if (r == 0)
		r = take_number("shm-size", attr(v, "shm-size"), &v->o.limits.shm_size, err);
	if (r == 0)
		r = take_ulimits(v, attr(v, "ulimit"), err);
	if (r == 0)
		r = take_hosts(v, attr(v, "add-hosts"), err);
	if (r < 0)
		return r;
	take_list(attr(v, "cache-from"), &v->cache_from);
	v->filename = str_copy(filename ? filename : "Dockerfile");
	v->o.project = DOCKER_PROJECT;
	v->o.dockerfile = v->filename;
	v->o.cache_from = v->cache_from;
	v->o.target = attr(v, "target");
	v->o.platform = platform;
	v->o.network = attr(v, "force-network-mode");
	/* a list of stages makes it so for those alone; all of them are built anew then */
	v->o.no_cache = pairs_get(&v->s->attrs, "no-cache") != NULL;
	v->o.pull = str_same(attr(v, "image-resolve-mode"), "pull");
	v->o.force_remove = true;
	return 0;
}

/* ---- files of the client ---- */

static void on_bytes(void *arg, uint64_t bytes) {
	struct solve *v = arg;
	bk_step_part(v->progress, v->step, v->part, (int64_t)bytes, 0, false);
}

/* One transfer of a step, into a tree of its own. */
static int receive(struct solve *v, const char *name, char *const *follow, char *const *exclude, const char *part, struct tree **out,
		   struct error *err) {
	const struct bk_directory d = {name, follow, exclude, on_bytes, v};
	int spool = core_spool(v->s->core, err);
	if (spool < 0)
		return spool;
	*out = tree_new(spool);
	v->part = part;
	bk_step_part(v->progress, v->step, part, 0, 0, false);
	int r = bk_receive_files(v->session, &d, *out, err);
	if (r < 0) {
		tree_free(*out);
		*out = NULL;
	}
	return r;
}

static int end_step(struct solve *v, int r, const struct error *err) {
	bk_step_end(v->progress, v->step, r < 0 ? error_text(err) : NULL);
	return r;
}

static const char *context_name(const struct solve *v) {
	const char *name = attr(v, "contextkey");
	return name ? name : "context";
}

static int receive_dockerfile(struct solve *v, struct error *err) {
	_cleanup_(strv_free_ptr) char **follow = NULL;
	_cleanup_(free_ptr) char *step = str_format("[internal] load build definition from %s", v->filename);
	const char *name = attr(v, "dockerfilekey");
	strv_add(&follow, v->filename);
	strv_take(&follow, str_format("%s.dockerignore", v->filename));
	if (str_same(v->filename, "Dockerfile"))
		strv_add(&follow, "dockerfile");
	v->step = bk_step_begin(v->progress, step);
	int r = receive(v, name ? name : "dockerfile", follow, NULL, "transferring dockerfile:", &v->dockerfiles, err);
	v->o.dockerfiles = v->dockerfiles;
	return end_step(v, r, err);
}

static int take_excludes(struct solve *v, struct tree *t, const char *path, bool *found, struct error *err) {
	struct tree_node *n = tree_find(t, path);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct ignore ig;
	*found = n && S_ISREG(n->mode);
	int r = *found ? tree_content(t, n, IGNORE_MAX, &text, err) : 0;
	if (r < 0 || !*found)
		return r;
	ignore_parse(buf_str(&text), text.len, &ig);
	for (size_t i = 0; i < ig.n; i++)
		strv_take(&v->excludes, str_format("%s%s", ig.lines[i].except ? "!" : "", ig.lines[i].pattern));
	ignore_free(&ig);
	return 0;
}

/* The Dockerfile's own list goes before the context's. */
static int receive_ignore(struct solve *v, struct error *err) {
	_cleanup_(free_ptr) char *own = str_format("%s.dockerignore", v->filename);
	char *const follow[] = {(char *)".dockerignore", NULL};
	_cleanup_(tree_free_ptr) struct tree *t = NULL;
	bool found;
	v->step = bk_step_begin(v->progress, "[internal] load .dockerignore");
	int r = take_excludes(v, v->dockerfiles, own, &found, err);
	if (r == 0 && !found) {
		r = receive(v, context_name(v), follow, NULL, "transferring context:", &t, err);
		if (r == 0)
			r = take_excludes(v, t, ".dockerignore", &found, err);
	}
	return end_step(v, r, err);
}

/* struct build_client */
static int give_context(void *arg, char *const *paths, struct tree **out, struct error *err) {
	struct solve *v = arg;
	int r = v->context ? 0 : receive_ignore(v, err);
	if (r < 0)
		return r;
	v->part_of_context = TAKE_PTR(v->context);
	v->step = bk_step_begin(v->progress, "[internal] load build context");
	r = receive(v, context_name(v), paths, v->excludes, "transferring context:", &v->context, err);
	*out = v->context;
	return end_step(v, r, err);
}

static int give_secret(void *arg, const char *id, struct buf *out, struct error *err) {
	struct solve *v = arg;
	return bk_ask_secret(v->session, id, out, err);
}

static int give_login(void *arg, const char *registry, char **username, char **password, struct error *err) {
	struct solve *v = arg;
	return bk_ask_login(v->session, registry, username, password, err);
}

/* A context from elsewhere has the Dockerfile in it. */
static int fetch_context(struct solve *v, const char *url, struct error *err) {
	int spool = core_spool(v->s->core, err);
	if (spool < 0)
		return spool;
	v->context = tree_new(spool);
	v->step = bk_step_begin(v->progress, "[internal] load remote build context");
	return end_step(v, build_fetch_context(v->s->core, url, v->context, &v->o.dockerfile, err), err);
}

/* ---- the result ---- */

bool bk_solve_makes_image(const struct bk_solve *s) {
	return str_same(s->exporter, "moby") || str_same(s->exporter, "image");
}

int bk_solve_check_export(const struct bk_solve *s, struct error *err) {
	const char *type = s->exporter, *push = pairs_get(&s->exporter_attrs, "push");
	bool to_client = str_same(type, "local") || str_same(type, "tar");
	if (*type && !bk_solve_makes_image(s) && !to_client)
		return error_set(err, ERROR_UNSUPPORTED, "exporter \"%.32s\" could not be found", type);
	if (push && !str_same(push, "false"))
		return error_set(err, ERROR_UNSUPPORTED,
				 "the exporter's option push is not supported by this engine: push the image when it is built");
	_cleanup_(strv_free_ptr) char **names = NULL;
	take_list(pairs_get(&s->exporter_attrs, "name"), &names);
	for (char **n = names; n && *n; n++) {
		struct image_ref ref;
		if (image_ref_parse(*n, &ref, NULL) < 0)
			return error_set(err, ERROR_INVALID, "invalid reference format");
		image_ref_free(&ref);
	}
	return to_client && !s->session ? error_set(err, ERROR_INVALID, "exporter \"%s\" needs a session", type) : 0;
}

static int send_result(const struct bk_solve *s, int fd, bool as_tar, struct error *err) {
	if (as_tar)
		return bk_send_stream(s->session, fd, err);
	int spool = core_spool(s->core, err);
	if (spool < 0)
		return spool;
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool);
	int r = tree_read(t, fd, "", true, err);
	return r < 0 ? r : bk_send_files(s->session, t, err);
}

static int export_files(const struct bk_solve *s, size_t step, const char *image, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	struct msg_file file = {0};
	int r = image_tree(s->core, DOCKER_PROJECT, image, "/", &file, &fd, err);
	fields_free(&msg_file_table, &file);
	bk_step_part(s->progress, step, "copying files", 0, 0, false);
	return r < 0 ? r : send_result(s, fd, str_same(s->exporter, "tar"), err);
}

static int name_image(const struct bk_solve *s, size_t step, const char *image, const char *name, struct error *err) {
	struct image_snap *snap;
	struct image_ref ref;
	int r = image_tag(s->core, DOCKER_PROJECT, image, name, &snap, err);
	if (r == 0)
		r = image_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	image_snap_unref(snap);
	_cleanup_(free_ptr) char *whole = image_ref_print(&ref), *naming = str_format("naming to %s", whole);
	image_ref_free(&ref);
	bk_step_part(s->progress, step, naming, 0, 0, true);
	return 0;
}

static int export_image(const struct bk_solve *s, size_t step, const char *image, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(free_ptr) char *writing = str_format("writing image %s", image);
	bk_step_part(s->progress, step, "exporting layers", 0, 0, true);
	bk_step_part(s->progress, step, writing, 0, 0, true);
	take_list(pairs_get(&s->exporter_attrs, "name"), &names);
	int r = 0;
	for (char **n = names; r == 0 && n && *n; n++)
		r = name_image(s, step, image, *n, err);
	return r;
}

int bk_solve_export(const struct bk_solve *s, const char *image_id, struct error *err) {
	bool image = bk_solve_makes_image(s);
	if (!*s->exporter)
		return 0;
	size_t step = bk_step_begin(s->progress, image ? "exporting to image"
						      : str_same(s->exporter, "tar") ? "exporting to client tarball"
										     : "exporting to client directory");
	int r = image ? export_image(s, step, image_id, err) : export_files(s, step, image_id, err);
	bk_step_end(s->progress, step, r < 0 ? error_text(err) : NULL);
	return r;
}

/* ---- the whole ---- */

static void on_event(void *arg, const struct build_event *e) {
	struct solve *v = arg;
	bk_progress_event(v->progress, e);
}

static bool on_gone(void *arg) {
	struct solve *v = arg;
	return v->s->gone(v->s->arg) || (v->session && grpc_closed(v->session));
}

static int on_gone_fd(void *arg) {
	struct solve *v = arg;
	return v->s->gone_fd(v->s->arg);
}

static int run(struct solve *v, char **image_id, struct error *err) {
	const struct build_client client = {give_context, give_secret, give_login, v};
	const struct build_sink sink = {.event = on_event, .gone = on_gone, .gone_fd = on_gone_fd, .arg = v};
	const char *url = attr(v, "context");
	struct build_result result = {0};
	int r = take_attrs(v, err);
	if (r == 0 && !url && !v->s->context && !v->session)
		r = error_set(err, ERROR_INVALID, "there is no build context: neither a session nor a URL");
	if (r == 0 && url)
		r = fetch_context(v, url, err);
	else if (r == 0 && !v->s->context)
		r = receive_dockerfile(v, err);
	v->o.client = v->session ? &client : NULL;
	if (r == 0)
		r = build_run(v->s->core, &v->o, v->context ? v->context : v->s->context, &sink, &result, err);
	*image_id = result.image_id;
	return r;
}

int bk_solve_build(const struct bk_solve *s, char **image_id, struct error *err) {
	_cleanup_(solve_free) struct solve v = {.s = s, .session = s->session, .progress = s->progress};
	return run(&v, image_id, err);
}
