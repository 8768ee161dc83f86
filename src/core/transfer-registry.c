/* Pull and push as tasks: one image, or all tags of a repository; each layer is a part of the task. */
#include "core/core-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "image/artifact.h"
#include "image/registry.h"

#define PARALLEL 3 /* blobs at once */
#define TELL_EVERY (50 * NS_PER_MS)

/* What a pull or push was asked for. */
struct transfer {
	char *project, *image, *name, *username, *password;
	char *os, *architecture, *variant;
	bool plain_http, insecure_tls, all_tags, all_platforms;

	/* progress over all blobs */
	struct core *core;
	struct task_run *task;
	pthread_mutex_t lock;
	struct map *blobs; /* digest → struct blob */
	int64_t told;      /* mono ns */
	const char *at;    /* the image that is under way, in full */
	struct unpack_batch *unpack;
};

struct blob {
	uint64_t done, total;
	char *part;       /* NULL: none that is shown */
	const char *step; /* that it is in */
};

static void blob_free(void *p) {
	struct blob *b = p;
	free(b->part);
	free(b);
}

static void transfer_free(void *arg) {
	struct transfer *t = arg;
	free(t->project);
	free(t->image);
	free(t->name);
	free(t->username);
	if (t->password)
		explicit_bzero(t->password, strlen(t->password));
	free(t->password);
	free(t->os);
	free(t->architecture);
	free(t->variant);
	map_free(t->blobs);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* "linux/amd64[/v8]", "all" */
static int platform_parse(struct transfer *t, const char *platform, struct error *err) {
	t->all_platforms = str_same(platform, "all");
	if (!platform || !*platform || t->all_platforms)
		return 0;
	_cleanup_(strv_free_ptr) char **parts = strv_split(platform, '/');
	size_t n = strv_len(parts);
	if (n < 2 || n > 3)
		return error_field(err, "platform", "%.64s is not OS/ARCHITECTURE[/VARIANT]", platform);
	t->os = str_copy(parts[0]);
	t->architecture = str_copy(parts[1]);
	t->variant = n == 3 ? str_copy(parts[2]) : NULL;
	return 0;
}

static struct transfer *transfer_new(const char *project, const struct image_pull_options *o, struct error *err) {
	struct transfer *t = NEW(struct transfer);
	pthread_mutex_init(&t->lock, NULL);
	t->blobs = map_new(blob_free);
	t->project = str_copy(project);
	t->username = copy_or_null(o->username);
	t->password = copy_or_null(o->password);
	t->plain_http = o->plain_http;
	t->insecure_tls = o->insecure_tls;
	t->all_tags = o->all_tags;
	int r = platform_parse(t, o->platform, err);
	if (r == 0 && o->name)
		r = image_name_full(o->name, &t->name, err);
	if (r < 0) {
		transfer_free(t);
		return NULL;
	}
	return t;
}

/* ---- progress ---- */

static void show(struct transfer *t, const char *part, const char *step, int64_t done, int64_t total) {
	task_step(t->core, t->task, part, step, done, total);
}

/* Needs t->lock. A step of the part begins, or goes on. */
static void blob_step(struct transfer *t, struct blob *b, const char *step, uint64_t done, uint64_t total) {
	if (!b->part || str_same(b->step, "present"))
		return;
	if (!str_same(b->step, step))
		show(t, b->part, step, (int64_t)done, (int64_t)total);
	else
		task_step_progress(t->core, t->task, b->part, (int64_t)done, (int64_t)total);
	b->step = step;
}

/* What registry_pull says that is a step as well; the ends of blobs are told apart by direction. */
static bool is_step(const char *what) {
	return str_same(what, "downloading") || str_same(what, "retrying") || str_same(what, "verifying") ||
	       str_same(what, "uploading");
}

static void on_progress(const char *digest, uint64_t done, uint64_t total, const char *what, void *arg) {
	struct transfer *t = arg;
	uint64_t all_done = 0, all = 0;
	pthread_mutex_lock(&t->lock);
	struct blob *b = digest ? map_get(t->blobs, digest) : NULL;
	if (digest && total && !b)
		map_set(t->blobs, digest, b = NEW(struct blob));
	if (b && total) {
		b->done = done;
		b->total = total;
	}
	if (b && is_step(what))
		blob_step(t, b, what, done, total);
	else if (b)
		blob_step(t, b, t->unpack ? "downloaded" : what, done, total);
	void *value;
	for (size_t i = 0; map_next(t->blobs, &i, NULL, &value);) {
		all_done += ((struct blob *)value)->done;
		all += ((struct blob *)value)->total;
	}
	bool due = all_done == all || time_mono_ns() - t->told >= TELL_EVERY;
	if (due)
		t->told = time_mono_ns();
	pthread_mutex_unlock(&t->lock);
	if (due)
		task_progress(t->core, t->task, what, (int64_t)all_done, (int64_t)all);
}

static void on_unpacked(const char *digest, int64_t done, int64_t total, void *arg) {
	struct transfer *t = arg;
	pthread_mutex_lock(&t->lock);
	struct blob *b = map_get(t->blobs, digest);
	if (b)
		blob_step(t, b, total ? "unpacking" : "done", (uint64_t)done, (uint64_t)total);
	pthread_mutex_unlock(&t->lock);
}

static bool is_unpacked(struct core *c, const char *diff_id) {
	WITH_LOCK(c);
	return map_get(c->layers, diff_id) != NULL;
}

/* Needs t->lock. */
static struct blob *blob_part(struct transfer *t, const char *digest, const char *part) {
	struct blob *b = map_get(t->blobs, digest);
	if (!b)
		map_set(t->blobs, digest, b = NEW(struct blob));
	free(b->part);
	b->part = str_copy(part);
	b->step = NULL;
	return b;
}

static void on_resolved(const struct image *image, void *arg) {
	struct transfer *t = arg;
	size_t coming = 0;
	show(t, t->at, "found", 0, 0);
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < image->layers.n; i++) {
		const struct image_layer *l = &image->layers.items[i];
		bool present = content_has(t->core->content, l->digest) &&
			       (!image_is_oci(image) || is_unpacked(t->core, l->diff_id));
		blob_step(t, blob_part(t, l->digest, l->digest), present ? "present" : "queued", 0, 0);
		coming += !present;
	}
	for (size_t i = 0, n = 0; coming > PARALLEL && i < image->layers.n; i++) {
		struct blob *b = map_get(t->blobs, image->layers.items[i].digest);
		if (str_same(b->step, "queued") && n++ >= PARALLEL)
			blob_step(t, b, "waiting", 0, 0);
	}
	pthread_mutex_unlock(&t->lock);
}

static void on_layer(const struct image_layer *layer, void *arg) {
	if (!blob_type_find(layer->media_type))
		unpack_add(((struct transfer *)arg)->unpack, layer);
}

static struct registry_options registry_options_of(struct transfer *t) {
	return (struct registry_options){
		.username = t->username,
		.password = t->password,
		.plain_http = t->plain_http,
		.insecure_tls = t->insecure_tls,
		.mirrors = t->core->mirrors,
		.certificates = t->core->certificates,
		.architecture = t->architecture,
		.os = t->os,
		.variant = t->variant,
		.all_platforms = t->all_platforms,
		.parallel = PARALLEL,
		.progress = on_progress,
		.arg = t,
		.cancel = task_cancel_flag(t->task),
	};
}

/* ---- pull ---- */

static int fetch(struct transfer *t, const struct image_ref *ref, struct image *image, struct error *err) {
	struct registry_options o = registry_options_of(t);
	t->unpack = unpack_begin(t->core, o.cancel, on_unpacked, t);
	o.layer_ready = on_layer;
	o.resolved = on_resolved;
	int r = registry_pull(t->core->content, ref, &o, image, err);
	task_progress(t->core, t->task, "unpacking", 0, 0);
	struct error unpack = ERROR_INIT;
	int u = unpack_end(t->unpack, &unpack);
	if (r == 0 && u < 0) {
		fields_free(&image_table, image);
		return error_move(err, &unpack);
	}
	error_free(&unpack);
	return r;
}

/* Which image has the name now; free it. */
static char *holder_of(struct core *c, const char *full) {
	WITH_LOCK(c);
	const struct image_entry *e = map_get(c->refs, full);
	return e ? str_copy(e->snap->image.id) : NULL;
}

/* The last steps of one image. */
static void show_pulled(struct transfer *t, const struct image *image, const char *before) {
	const char *at = image->digests ? strchr(image->digests[0], '@') : NULL;
	_cleanup_(free_ptr) char *digest = str_format("digest %s", at ? at + 1 : image->digest);
	show(t, t->at, digest, 0, 0);
	show(t, t->at, str_same(before, image->id) ? "unchanged" : "new", 0, 0);
}

static int pull_one(struct transfer *t, const char *name, char **result, struct error *err) {
	struct image_ref ref;
	struct image image;
	t->at = name;
	int r = image_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	r = fetch(t, &ref, &image, err);
	image_ref_free(&ref);
	if (r < 0)
		return r;
	strv_free(TAKE_PTR(image.names));
	strv_add(&image.names, name);
	_cleanup_(free_ptr) char *before = holder_of(t->core, name);
	r = layers_ensure(t->core, &image, err); /* those whose blobs were here before */
	if (r == 0)
		r = layers_check(t->core, &image, err);
	if (r == 0)
		r = image_store(t->core, t->project, &image, NULL, err);
	if (r == 0) {
		image_publish(t->core, t->project, "pull", image.id, name);
		show_pulled(t, &image, before);
		free(*result);
		*result = str_copy(image.id);
	}
	fields_free(&image_table, &image);
	return r;
}

static int pull_all(struct transfer *t, char **result, struct error *err) {
	struct image_ref ref;
	_cleanup_(strv_free_ptr) char **tags = NULL;
	struct registry_options o = registry_options_of(t);
	int r = image_ref_parse(t->name, &ref, err);
	if (r < 0)
		return r;
	r = registry_tags(&ref, &o, &tags, err);
	for (char **tag = tags; r == 0 && tag && *tag; tag++) {
		_cleanup_(free_ptr) char *text = str_format("%s/%s:%s", ref.registry, ref.repository, *tag), *name = NULL;
		r = image_name_full(text, &name, err);
		if (r == 0)
			r = pull_one(t, name, result, err);
	}
	image_ref_free(&ref);
	return r;
}

static int pull_run(struct core *c, struct task_run *task, void *arg, char **result, struct error *err) {
	struct transfer *t = arg;
	t->core = c;
	t->task = task;
	images_hold(c);
	int r = t->all_tags ? pull_all(t, result, err) : pull_one(t, t->name, result, err);
	images_release(c);
	if (r < 0)
		free(TAKE_PTR(*result));
	return r;
}

int image_pull(struct core *c, const char *project, const struct image_pull_options *o, char **task, struct error *err) {
	if (!o->name)
		return error_field(err, "name", "which image? name is missing");
	struct transfer *t = transfer_new(project, o, err);
	if (!t)
		return -ERROR_INVALID;
	_cleanup_(free_ptr) char *target = str_copy(t->name);
	_cleanup_(free_ptr) char *key = str_format("%s %d %s %s", t->name, o->all_tags, o->platform ? o->platform : "",
						   o->username ? o->username : "");
	return task_start_flags(c, project, "image-pull", target, key, o->followed ? TASK_FOLLOWED : 0, pull_run, t, transfer_free,
				task, err);
}

/* ---- push ---- */

/* The layers, as those who push know them: by their content. */
static void show_layers(struct transfer *t, const struct image *image) {
	show(t, t->at, "pushing", 0, 0);
	pthread_mutex_lock(&t->lock);
	for (size_t i = image->layers.n; i > 0; i--) {
		const struct image_layer *l = &image->layers.items[i - 1];
		struct blob *b = blob_part(t, l->digest, l->diff_id);
		blob_step(t, b, "queued", 0, 0);
		if (image->layers.n - i >= PARALLEL)
			blob_step(t, b, "waiting", 0, 0);
	}
	pthread_mutex_unlock(&t->lock);
}

/* The repository knows the image by its manifest's digest from now on. */
static int note_digest(struct transfer *t, const struct image *image, const struct image_ref *ref, struct error *err) {
	_cleanup_(free_ptr) char *digest = image_ref_digest(ref, image_pushed_digest(image, ref));
	char *digests[] = {digest, NULL};
	struct image known = *image;
	known.names = NULL;
	known.digests = digests;
	return image_store(t->core, t->project, &known, NULL, err);
}

static void show_pushed(struct transfer *t, const char *digest) {
	uint64_t size = 0;
	int fd = content_blob(t->core->content, digest, &size, NULL);
	if (fd >= 0)
		close_fd(&fd);
	_cleanup_(free_ptr) char *step = str_format("pushed %s %llu", digest, (unsigned long long)size);
	show(t, t->at, step, 0, 0);
}

static int push_one(struct transfer *t, const char *image, const char *name, char **result, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	struct image_ref ref;
	t->at = name;
	int r = image_get(t->core, t->project, image, &snap, err);
	if (r == 0)
		r = image_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	struct registry_options o = registry_options_of(t);
	show_layers(t, &snap->image);
	image_keep(t->core, &snap->image);
	r = registry_push(t->core->content, &snap->image, &ref, &o, err);
	if (r == 0)
		r = note_digest(t, &snap->image, &ref, err);
	const char *digest = image_pushed_digest(&snap->image, &ref);
	image_ref_free(&ref);
	if (r == 0) {
		image_publish(t->core, t->project, "push", snap->image.id, name);
		show_pushed(t, digest);
		free(*result);
		*result = str_copy(digest);
	}
	return r;
}

/* The names of the repository that any image has here. */
static char **names_in(struct core *c, const char *full) {
	WITH_LOCK(c);
	char **names = NULL;
	const char *name;
	for (size_t i = 0; map_next(c->refs, &i, &name, NULL);)
		if (!strchr(name, '@') && image_ref_same_repository(name, full))
			strv_add(&names, name);
	return names;
}

static int push_all(struct transfer *t, char **result, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = names_in(t->core, t->name);
	if (!names)
		return error_set(err, ERROR_NOT_FOUND, "no image has a name in the repository of %s", t->name);
	int r = 0;
	for (char **n = names; r == 0 && *n; n++)
		r = push_one(t, *n, *n, result, err);
	return r;
}

static int push_run(struct core *c, struct task_run *task, void *arg, char **result, struct error *err) {
	struct transfer *t = arg;
	t->core = c;
	t->task = task;
	images_hold(c);
	int r = t->all_tags ? push_all(t, result, err) : push_one(t, t->image, t->name, result, err);
	images_release(c);
	if (r < 0)
		free(TAKE_PTR(*result));
	return r;
}

int image_push(struct core *c, const char *project, const char *image, const struct image_pull_options *o, char **task,
	       struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	int r = o->all_tags ? 0 : image_get(c, project, image, &snap, err);
	if (r < 0)
		return r;
	struct image_pull_options named = *o;
	if (!named.name)
		named.name = image;
	struct transfer *t = transfer_new(project, &named, err);
	if (!t)
		return -ERROR_INVALID;
	t->image = str_copy(snap ? snap->image.id : t->name);
	_cleanup_(free_ptr) char *target = str_copy(t->name);
	_cleanup_(free_ptr) char *key = str_format("%s %s %d", t->image, t->name, o->all_tags);
	return task_start_flags(c, project, "image-push", target, key, o->followed ? TASK_FOLLOWED : 0, push_run, t, transfer_free,
				task, err);
}

/* ---- questions ---- */

static struct registry_options options_for(struct core *c, const struct image_pull_options *o) {
	return (struct registry_options){
		.username = o->username,
		.password = o->password,
		.plain_http = o->plain_http,
		.insecure_tls = o->insecure_tls,
		.mirrors = c->mirrors,
		.certificates = c->certificates,
	};
}

int image_registry_login(struct core *c, const char *registry, const struct image_pull_options *o, struct error *err) {
	const struct registry_options options = options_for(c, o);
	return registry_login(registry, &options, err);
}

int image_registry_search(struct core *c, const char *registry, const char *term, int limit, const struct image_pull_options *o,
			  json_t **results, struct error *err) {
	const struct registry_options options = options_for(c, o);
	return registry_search(registry, term, limit, &options, results, err);
}

int image_registry_describe(struct core *c, const struct image_pull_options *o, json_t **description, struct error *err) {
	const struct registry_options options = options_for(c, o);
	struct registry_description d;
	struct image_ref ref;
	int r = image_ref_parse(o->name, &ref, err);
	if (r < 0)
		return r;
	r = registry_describe(&ref, &options, &d, err);
	image_ref_free(&ref);
	if (r < 0)
		return r;
	json_t *platforms = json_array();
	for (size_t i = 0; i < d.platforms.n; i++) {
		json_t *one = json_object();
		json_set_str(one, "architecture", d.platforms.items[i].architecture);
		json_set_str(one, "os", d.platforms.items[i].os);
		json_set_str(one, "variant", d.platforms.items[i].variant);
		json_array_append_new(platforms, one);
	}
	*description = json_object();
	json_set_str(*description, "media_type", d.media_type);
	json_set_str(*description, "digest", d.digest);
	json_set_int(*description, "size", d.size);
	json_object_set_new(*description, "platforms", platforms);
	registry_description_free(&d);
	return 0;
}
