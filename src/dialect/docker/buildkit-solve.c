/* A solve: what BuildKit's Dockerfile front end is given becomes a request of the builder's. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/docker/docker-priv.h"

#include "build/ignore.h"
#include "core/images.h"
#include "core/instances.h"
#include "model/git.h"

#define IGNORE_MAX ((size_t)1 << 20)

/* One that is under way. */
struct solve {
	const struct bk_solve *s;
	const struct build_sink *sink;
	struct grpc_connection *session; /* as in s */
	struct bk_progress *progress; /* as in s */
	struct build_request o;
	struct pairs labels;
	struct ulimit *ulimits;
	char **extra_hosts, **build_args, **cache_from;
	char *filename;
	struct build_named *named;
	struct directory { /* of those that are directories */
		const char *key; /* at the client's; NULL: an image, or */
		const char *url;
		struct tree *tree;
	} *directories;
	struct tree *dockerfiles, *context;
	struct tree *part_of_context; /* that was not enough */
	struct tree *kept;	      /* of the build before */
	char *kept_key;
	char **excludes; /* of the context; from its .dockerignore or the Dockerfile's own */
	size_t step;	 /* that files come in for */
	const char *part;
};

static void solve_free(struct solve *v) {
	pairs_free(&v->labels);
	for (size_t i = 0; i < v->o.n_ulimits; i++)
		free(v->ulimits[i].name);
	free(v->ulimits);
	for (size_t i = 0; i < v->o.n_named; i++) {
		free(v->named[i].name);
		free(v->named[i].image);
		tree_free(v->directories[i].tree);
	}
	free(v->named);
	free(v->directories);
	strv_free(v->extra_hosts);
	strv_free(v->build_args);
	strv_free(v->cache_from);
	strv_free(v->excludes);
	free(v->filename);
	tree_free(v->dockerfiles);
	/* what the client has sent serves its next build */
	struct tree *latest = v->context ? v->context : v->part_of_context ? v->part_of_context : v->kept;
	struct tree *const came[] = {v->context, v->part_of_context, v->kept};
	for (size_t i = 0; i < ARRAY_SIZE(came); i++)
		if (came[i] != latest)
			tree_free(came[i]);
	bk_kept_put(v->kept_key, latest);
	free(v->kept_key);
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

/* "context:NAME": what the client means by a name in the Dockerfile. */
static int take_context(struct solve *v, const char *name, const char *value, struct error *err) {
	bool image = str_starts(value, "docker-image://"), local = str_starts(value, "local:"), url = build_is_url(value);
	if (strstr(name, "::") || (!image && !local && !url))
		return error_set(err, ERROR_UNSUPPORTED, "build context %.64s=%.64s is not supported by this engine: images (docker-image://), "
				 "directories, git repositories and URLs are", name, value);
	v->named = alloc_resize(v->named, v->o.n_named + 1, sizeof *v->named);
	v->directories = alloc_resize(v->directories, v->o.n_named + 1, sizeof *v->directories);
	v->directories[v->o.n_named] = (struct directory){.key = local ? value + strlen("local:") : NULL, .url = url ? value : NULL};
	v->named[v->o.n_named++] = (struct build_named){str_copy(name), image ? str_copy(value + strlen("docker-image://")) : NULL};
	v->o.named = v->named;
	return 0;
}

static int take_named(struct solve *v, struct error *err) {
	int r = 0;
	for (size_t i = 0; i < v->s->attrs.n; i++) {
		const struct pair *p = &v->s->attrs.items[i];
		if (str_starts(p->key, "build-arg:"))
			strv_take(&v->build_args, str_format("%s=%s", p->key + strlen("build-arg:"), p->value));
		else if (str_starts(p->key, "label:"))
			pairs_set(&v->labels, p->key + strlen("label:"), p->value);
		else if (str_starts(p->key, "context:"))
			r = take_context(v, p->key + strlen("context:"), p->value, err);
		else if (!is_known(p->key) && *p->value)
			r = error_set(err, ERROR_UNSUPPORTED, "the front end's option %.64s is not supported by this engine", p->key);
		if (r < 0)
			return r;
	}
	v->o.build_args = v->build_args;
	v->o.labels = &v->labels;
	return 0;
}

void bk_take_list(const char *text, char ***to) {
	_cleanup_(strv_free_ptr) char **all = text ? strv_split(text, ',') : NULL;
	for (char **a = all; a && *a; a++)
		if (**a)
			strv_add(to, *a);
}

/* [{"Type":"registry","Attrs":{"ref":"x"}}]: images that are here count; what else there is can be done without, as in BuildKit. */
static int take_imports(struct solve *v, const char *text, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = text ? json_parse(text, strlen(text), err) : NULL;
	size_t i;
	json_t *one;
	if (text && !json_is_array(all))
		return error_set(err, ERROR_INVALID, "cache-imports: a list is wanted");
	json_array_foreach(all, i, one) {
		const char *ref = json_get_str(json_object_get(one, "Attrs"), "ref");
		if (ref && str_same(json_get_str(one, "Type"), "registry"))
			strv_add(&v->cache_from, ref);
	}
	return 0;
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
	if (r == 0)
		r = take_imports(v, attr(v, "cache-imports"), err);
	if (r < 0)
		return r;
	bk_take_list(attr(v, "cache-from"), &v->cache_from);
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
static int receive(struct solve *v, const char *name, char *const *follow, char *const *exclude, const char *part, struct tree *old,
		   struct tree **out, struct error *err) {
	const struct bk_directory d = {name, follow, exclude, on_bytes, v};
	int spool = core_spool(v->s->core, err);
	if (spool < 0)
		return spool;
	*out = tree_new(spool);
	v->part = part;
	bk_step_part(v->progress, v->step, part, 0, 0, false);
	int r = bk_receive_files(v->session, &d, old, *out, err);
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
	int r = receive(v, name ? name : "dockerfile", follow, NULL, "transferring dockerfile:", NULL, &v->dockerfiles, err);
	v->o.dockerfiles = v->dockerfiles;
	return end_step(v, r, err);
}

static int take_excludes(struct tree *t, const char *path, char ***excludes, bool *found, struct error *err) {
	struct tree_node *n = tree_find(t, path);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct ignore ig;
	*found = n && S_ISREG(n->mode);
	int r = *found ? tree_content(t, n, IGNORE_MAX, &text, err) : 0;
	if (r < 0 || !*found)
		return r;
	ignore_parse(buf_str(&text), text.len, &ig);
	for (size_t i = 0; i < ig.n; i++)
		strv_take(excludes, str_format("%s%s", ig.lines[i].except ? "!" : "", ig.lines[i].pattern));
	ignore_free(&ig);
	return 0;
}

/* A directory's own. */
static int receive_excludes(struct solve *v, const char *name, char ***excludes, struct error *err) {
	char *const follow[] = {(char *)".dockerignore", NULL};
	_cleanup_(tree_free_ptr) struct tree *t = NULL;
	bool found;
	int r = receive(v, name, follow, NULL, "transferring context:", NULL, &t, err);
	return r < 0 ? r : take_excludes(t, ".dockerignore", excludes, &found, err);
}

/* The Dockerfile's own list goes before the context's. */
static int receive_ignore(struct solve *v, struct error *err) {
	_cleanup_(free_ptr) char *own = str_format("%s.dockerignore", v->filename);
	bool found;
	v->step = bk_step_begin(v->progress, "[internal] load .dockerignore");
	int r = take_excludes(v->dockerfiles, own, &v->excludes, &found, err);
	if (r == 0 && !found)
		r = receive_excludes(v, context_name(v), &v->excludes, err);
	return end_step(v, r, err);
}

static void find_kept(struct solve *v) {
	_cleanup_(free_ptr) char *shared = bk_session_shared(v->session);
	v->kept_key = shared ? str_format("%s %s", shared, context_name(v)) : NULL;
	v->kept = bk_kept_take(v->kept_key);
}

/* struct build_client */
static int give_context(void *arg, char *const *paths, struct tree **out, struct error *err) {
	struct solve *v = arg;
	int r = v->context ? 0 : receive_ignore(v, err);
	if (r < 0)
		return r;
	v->part_of_context = TAKE_PTR(v->context);
	if (!v->part_of_context)
		find_kept(v);
	v->step = bk_step_begin(v->progress, "[internal] load build context");
	r = receive(v, context_name(v), paths, v->excludes, "transferring context:", v->part_of_context ? v->part_of_context : v->kept,
		    &v->context, err);
	*out = v->context;
	return end_step(v, r, err);
}

/* A URL without the password that it may have. Free it. */
static char *shown_url(const char *url) {
	_cleanup_(git_source_free) struct git_source s = {0};
	return build_is_repository(url) && git_source_parse(url, &s, NULL) == 0 ? git_source_print(&s) : str_copy(url);
}

static int fetch_directory(struct solve *v, const char *name, const char *url, struct tree **out, struct error *err) {
	_cleanup_(free_ptr) char *shown = shown_url(url), *step = str_format("[context %s] %s", name, shown);
	int spool = core_spool(v->s->core, err);
	if (spool < 0)
		return spool;
	struct tree *t = tree_new(spool);
	v->step = bk_step_begin(v->progress, step);
	int r = build_fetch_directory(v->s->core, &v->o, v->sink, url, t, err);
	if (r == 0)
		*out = t;
	else
		tree_free(t);
	return end_step(v, r, err);
}

static int receive_directory(struct solve *v, const char *name, const char *key, struct tree **out, struct error *err) {
	_cleanup_(strv_free_ptr) char **excludes = NULL;
	_cleanup_(free_ptr) char *step = str_format("[context %s] load from client", name);
	v->step = bk_step_begin(v->progress, step);
	int r = receive_excludes(v, key, &excludes, err);
	if (r == 0)
		r = receive(v, key, NULL, excludes, "transferring context:", NULL, out, err);
	return end_step(v, r, err);
}

static int give_directory(void *arg, const char *name, struct tree **out, struct error *err) {
	struct solve *v = arg;
	size_t i = 0;
	while (!str_same(v->named[i].name, name))
		i++;
	struct directory *d = &v->directories[i];
	int r = 0;
	if (!d->tree)
		r = d->url ? fetch_directory(v, name, d->url, &d->tree, err) : receive_directory(v, name, d->key, &d->tree, err);
	*out = d->tree;
	return r;
}

static int give_secret(void *arg, const char *id, struct buf *out, struct error *err) {
	struct solve *v = arg;
	return bk_ask_secret(v->session, id, out, err);
}

static int give_login(void *arg, const char *registry, char **username, char **password, struct error *err) {
	struct solve *v = arg;
	return bk_ask_login(v->session, registry, username, password, err);
}

static int check_agent(void *arg, const char *id, struct error *err) {
	struct solve *v = arg;
	return bk_ask_agent(v->session, id, err);
}

static void serve_agent(void *arg, const char *id, int connection) {
	struct solve *v = arg;
	bk_forward_agent(v->session, id, connection);
}

/* A context from elsewhere has the Dockerfile in it. */
static int fetch_context(struct solve *v, const char *url, struct error *err) {
	_cleanup_(free_ptr) char *shown = shown_url(url);
	_cleanup_(free_ptr) char *step = build_is_repository(url) ? str_format("[internal] load git source %s", shown)
								   : str_copy("[internal] load remote build context");
	int spool = core_spool(v->s->core, err);
	if (spool < 0)
		return spool;
	v->context = tree_new(spool);
	v->step = bk_step_begin(v->progress, step);
	return end_step(v, build_fetch_context(v->s->core, &v->o, v->sink, url, v->context, &v->o.dockerfile, err), err);
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
	const struct build_client client = {give_context, give_directory, give_secret, give_login, check_agent, serve_agent, v};
	const struct build_sink sink = {.event = on_event, .gone = on_gone, .gone_fd = on_gone_fd, .arg = v};
	const char *url = attr(v, "context");
	struct build_result result = {0};
	int r = take_attrs(v, err);
	if (r == 0 && !url && !v->s->context && !v->session)
		r = error_set(err, ERROR_INVALID, "there is no build context: neither a session nor a URL");
	v->sink = &sink;
	v->o.client = v->session ? &client : NULL;
	if (r == 0 && url)
		r = fetch_context(v, url, err);
	else if (r == 0 && !v->s->context)
		r = receive_dockerfile(v, err);
	if (r == 0)
		r = build_run(v->s->core, &v->o, v->context ? v->context : v->s->context, &sink, &result, err);
	*image_id = result.image_id;
	return r;
}

int bk_solve_build(const struct bk_solve *s, char **image_id, struct error *err) {
	_cleanup_(solve_free) struct solve v = {.s = s, .session = s->session, .progress = s->progress};
	return run(&v, image_id, err);
}
