/* Images come and go: pull, push, bootstrap as tasks; load, save, import. All that adds takes a hold, so
 * that nothing is collected that is just on its way to being needed. */
#include "core/core-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "core/tasks.h"
#include "image/archive.h"
#include "image/registry.h"

#include <unistd.h>

static void publish(struct core *c, const char *project, const char *action, const char *id, const char *name) {
	WITH_LOCK(c);
	event_add(c, "image", action, project, id, name, NULL);
}

/* What a pull or push was asked for. */
struct transfer {
	char *project, *image, *name, *username, *password;
	char *os, *architecture, *variant;
	bool plain_http, insecure_tls;

	/* progress over all blobs */
	struct core *core;
	struct task_run *task;
	pthread_mutex_t lock;
	struct map *blobs; /* digest → struct blob */
	struct unpack_batch *unpack;
};

struct blob {
	uint64_t done, total;
};

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

/* "linux/amd64[/v8]" */
static int platform_parse(struct transfer *t, const char *platform, struct error *err) {
	if (!platform || !*platform)
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
	t->blobs = map_new(free);
	t->project = str_copy(project);
	t->username = copy_or_null(o->username);
	t->password = copy_or_null(o->password);
	t->plain_http = o->plain_http;
	t->insecure_tls = o->insecure_tls;
	int r = platform_parse(t, o->platform, err);
	if (r == 0 && o->name)
		r = image_name_full(o->name, &t->name, err);
	if (r < 0) {
		transfer_free(t);
		return NULL;
	}
	return t;
}

static void on_progress(const char *digest, uint64_t done, uint64_t total, const char *what, void *arg) {
	struct transfer *t = arg;
	uint64_t all_done = 0, all = 0;
	pthread_mutex_lock(&t->lock);
	if (digest && total) {
		struct blob *b = map_get(t->blobs, digest);
		if (!b)
			map_set(t->blobs, digest, b = NEW(struct blob));
		*b = (struct blob){done, total};
	}
	void *value;
	for (size_t i = 0; map_next(t->blobs, &i, NULL, &value);) {
		all_done += ((struct blob *)value)->done;
		all += ((struct blob *)value)->total;
	}
	pthread_mutex_unlock(&t->lock);
	task_progress(t->core, t->task, what, (int64_t)all_done, (int64_t)all);
}

static void on_layer(const struct image_layer *layer, void *arg) {
	unpack_add(((struct transfer *)arg)->unpack, layer);
}

static struct registry_options registry_options_of(struct transfer *t) {
	return (struct registry_options){
		.username = t->username,
		.password = t->password,
		.plain_http = t->plain_http,
		.insecure_tls = t->insecure_tls,
		.mirrors = t->core->mirrors,
		.architecture = t->architecture,
		.os = t->os,
		.variant = t->variant,
		.progress = on_progress,
		.arg = t,
		.cancel = task_cancel_flag(t->task),
	};
}

/* ---- pull ---- */

static int fetch(struct transfer *t, const struct image_ref *ref, struct image *image, struct error *err) {
	struct registry_options o = registry_options_of(t);
	t->unpack = unpack_begin(t->core, o.cancel);
	o.layer_ready = on_layer;
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

static int pull_and_store(struct transfer *t, char **result, struct error *err) {
	struct image_ref ref;
	struct image image;
	int r = image_ref_parse(t->name, &ref, err);
	if (r < 0)
		return r;
	r = fetch(t, &ref, &image, err);
	image_ref_free(&ref);
	if (r < 0)
		return r;
	strv_free(TAKE_PTR(image.names));
	strv_add(&image.names, t->name);
	r = layers_ensure(t->core, &image, err); /* those whose blobs were here before */
	if (r == 0)
		r = layers_check(t->core, &image, err);
	if (r == 0)
		r = image_store(t->core, t->project, &image, NULL, err);
	if (r == 0) {
		publish(t->core, t->project, "pull", image.id, t->name);
		*result = str_copy(image.id);
	}
	fields_free(&image_table, &image);
	return r;
}

static int pull_run(struct core *c, struct task_run *task, void *arg, char **result, struct error *err) {
	struct transfer *t = arg;
	t->core = c;
	t->task = task;
	images_hold(c);
	int r = pull_and_store(t, result, err);
	images_release(c);
	return r;
}

int image_pull(struct core *c, const char *project, const struct image_pull_options *o, char **task, struct error *err) {
	if (!o->name)
		return error_field(err, "name", "which image? name is missing");
	struct transfer *t = transfer_new(project, o, err);
	if (!t)
		return -ERROR_INVALID;
	_cleanup_(free_ptr) char *target = str_copy(t->name);
	_cleanup_(free_ptr) char *key = str_format("%s %s %s", t->name, o->platform ? o->platform : "",
						   o->username ? o->username : "");
	return task_start(c, project, "image-pull", target, key, pull_run, t, transfer_free, task, err);
}

/* ---- push ---- */

static int push_run(struct core *c, struct task_run *task, void *arg, char **result, struct error *err) {
	struct transfer *t = arg;
	t->core = c;
	t->task = task;
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	struct image_ref ref;
	int r = image_get(c, t->project, t->image, &snap, err);
	if (r == 0)
		r = image_ref_parse(t->name, &ref, err);
	if (r < 0)
		return r;
	struct registry_options o = registry_options_of(t);
	images_hold(c);
	image_keep(c, &snap->image);
	r = registry_push(c->content, &snap->image, &ref, &o, err);
	images_release(c);
	image_ref_free(&ref);
	if (r == 0) {
		publish(c, t->project, "push", snap->image.id, t->name);
		*result = str_copy(snap->image.digest);
	}
	return r;
}

int image_push(struct core *c, const char *project, const char *image, const struct image_pull_options *o, char **task,
	       struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	int r = image_get(c, project, image, &snap, err);
	if (r < 0)
		return r;
	struct image_pull_options named = *o;
	if (!named.name)
		named.name = image;
	struct transfer *t = transfer_new(project, &named, err);
	if (!t)
		return -ERROR_INVALID;
	t->image = str_copy(snap->image.id);
	_cleanup_(free_ptr) char *target = str_copy(t->name);
	_cleanup_(free_ptr) char *key = str_format("%s %s", t->image, t->name);
	return task_start(c, project, "image-push", target, key, push_run, t, transfer_free, task, err);
}

/* ---- an image from a tree ---- */

/* The tar from fd as a new image under name. */
static int build_image(struct core *c, const char *project, const char *name, int fd, const struct build_options *o,
		       const char *action, struct image_snap **out, struct error *err) {
	struct image image;
	int r = image_from_tar(c->content, fd, o, &image, err);
	if (r < 0)
		return r;
	strv_free(TAKE_PTR(image.names));
	if (name)
		strv_add(&image.names, name);
	r = layers_ensure(c, &image, err);
	if (r == 0)
		r = image_store(c, project, &image, out, err);
	if (r == 0)
		publish(c, project, action, image.id, name ? name : image.id);
	fields_free(&image_table, &image);
	return r;
}

int image_import(struct core *c, const char *project, const char *name, int fd, const struct image_config *config,
		 const char *comment, struct image_snap **out, struct error *err) {
	_cleanup_(free_ptr) char *full = NULL;
	int r = core_project_check(c, project, err);
	if (r == 0 && name)
		r = image_name_full(name, &full, err);
	if (r < 0)
		return r;
	struct build_options o = {.config = config, .comment = comment, .created_by = "wabe image import"};
	images_hold(c);
	r = build_image(c, project, full, fd, &o, "import", out, err);
	images_release(c);
	return r;
}

/* ---- bootstrap ---- */

struct bootstrap {
	char *project, *name, *suite, *variant, **include;
	struct core *core;
	struct task_run *task;
};

static void bootstrap_free(void *arg) {
	struct bootstrap *b = arg;
	free(b->project);
	free(b->name);
	free(b->suite);
	free(b->variant);
	strv_free(b->include);
	free(b);
}

static int bootstrap_tree(struct bootstrap *b, int *fd, struct error *err) {
	struct msg_bootstrap body = {.suite = b->suite, .variant = b->variant, .include = b->include};
	return agent_task(b->core, b->task, "bootstrap", &body, fd, err);
}

static void on_bytes(uint64_t done, void *arg) {
	struct bootstrap *b = arg;
	task_progress(b->core, b->task, "packing the root file system", (int64_t)done, 0);
}

static int bootstrap_build(struct bootstrap *b, char **result, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	bool whole = str_same(b->variant, "system");
	char *shell[] = {(char *)"bash", NULL}, *init[] = {(char *)"/sbin/init", NULL};
	char *env[] = {(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	struct image_config config = {
		.command = whole ? init : shell,
		.env = env,
		.stop_signal = whole ? (char *)"SIGRTMIN+3" : NULL,
	};
	struct build_options o = {.config = &config, .created_by = "wabe image bootstrap", .progress = on_bytes, .arg = b};
	task_progress(b->core, b->task, "bootstrapping", 0, 0);
	int r = bootstrap_tree(b, &fd, err);
	if (r == 0)
		r = build_image(b->core, b->project, b->name, fd, &o, "bootstrap", &snap, err);
	if (r == 0)
		*result = str_copy(snap->image.id);
	return r;
}

static int bootstrap_run(struct core *c, struct task_run *task, void *arg, char **result, struct error *err) {
	struct bootstrap *b = arg;
	b->core = c;
	b->task = task;
	images_hold(c);
	int r = bootstrap_build(b, result, err);
	images_release(c);
	return r;
}

int image_bootstrap(struct core *c, const char *project, const char *name, const char *variant, char *const *include,
		    char **task, struct error *err) {
	struct image_ref ref;
	if (!name)
		return error_field(err, "name", "which image? name is missing, as in debian:bookworm");
	int r = image_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	bool plain = !ref.tag || str_same(ref.tag, "latest");
	struct bootstrap *b = NEW(struct bootstrap);
	*b = (struct bootstrap){
		.project = str_copy(project),
		.name = image_ref_print(&ref),
		.suite = str_copy(plain ? "bookworm" : ref.tag),
		.variant = str_copy(variant ? variant : "minbase"),
		.include = strv_copy(include),
	};
	image_ref_free(&ref);
	_cleanup_(free_ptr) char *target = str_copy(b->name);
	_cleanup_(free_ptr) char *more = strv_join(include, ",");
	_cleanup_(free_ptr) char *key = str_format("%s %s %s", b->name, b->variant, more);
	return task_start(c, project, "image-bootstrap", target, key, bootstrap_run, b, bootstrap_free, task, err);
}

/* ---- archives ---- */

static int store_loaded(struct core *c, const char *project, struct image *image, struct image_snap **out,
			struct error *err) {
	int r = layers_ensure(c, image, err);
	if (r == 0)
		r = layers_check(c, image, err);
	if (r == 0)
		r = image_store(c, project, image, out, err);
	if (r == 0)
		publish(c, project, "load", image->id, image->names ? image->names[0] : image->id);
	return r;
}

static int load_all(struct core *c, const char *project, int fd, struct image_snap ***out, struct error *err) {
	struct image *images = NULL;
	size_t n = 0, stored = 0;
	int r = archive_load(c->content, fd, &images, &n, err);
	if (r < 0)
		return r;
	struct image_snap **snaps = alloc_array(n + 1, sizeof(*snaps));
	for (; r == 0 && stored < n; stored += r == 0)
		r = store_loaded(c, project, &images[stored], &snaps[stored], err);
	for (size_t i = 0; i < n; i++)
		fields_free(&image_table, &images[i]);
	free(images);
	if (r == 0) {
		*out = snaps;
		return 0;
	}
	for (size_t i = 0; i < stored; i++)
		image_snap_unref(snaps[i]);
	free(snaps);
	return r;
}

int image_load(struct core *c, const char *project, int fd, struct image_snap ***images, struct error *err) {
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	images_hold(c);
	r = load_all(c, project, fd, images, err);
	images_release(c);
	return r;
}

/* The images asked for, each once, with the names it was asked for by (all of them for an id). */
struct chosen {
	struct image_snap **snaps;
	struct image *images; /* members belong to snaps, but for names */
	size_t n;
};

static void chosen_free(struct chosen *k) {
	for (size_t i = 0; i < k->n; i++) {
		strv_free(k->images[i].names);
		image_snap_unref(k->snaps[i]);
	}
	free(k->images);
	free(k->snaps);
}

static void choose(struct chosen *k, struct image_snap *snap, const char *name) {
	size_t i = 0;
	while (i < k->n && !str_same(k->images[i].id, snap->image.id))
		i++;
	if (i == k->n) {
		k->snaps[i] = image_snap_ref(snap);
		k->images[i] = snap->image;
		k->images[i].names = NULL;
		k->n++;
	}
	_cleanup_(free_ptr) char *full = NULL;
	if (image_name_full(name, &full, NULL) == 0 && strv_has(snap->image.names, full)) {
		strv_add(&k->images[i].names, full);
		return;
	}
	for (char **n = snap->image.names; n && *n; n++)
		if (!strv_has(k->images[i].names, *n))
			strv_add(&k->images[i].names, *n);
}

int image_save(struct core *c, const char *project, char *const *names, int fd, struct error *err) {
	size_t n = strv_len(names);
	if (n == 0)
		return error_field(err, "name", "which images? at least one name is needed");
	_cleanup_(chosen_free) struct chosen k = {
		.snaps = alloc_array(n, sizeof(struct image_snap *)),
		.images = alloc_array(n, sizeof(struct image)),
	};
	for (size_t i = 0; i < n; i++) {
		_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
		int r = image_get(c, project, names[i], &snap, err);
		if (r < 0)
			return r;
		choose(&k, snap, names[i]);
	}
	images_hold(c);
	for (size_t i = 0; i < k.n; i++)
		image_keep(c, &k.images[i]);
	int r = archive_save(c->content, k.images, k.n, fd, err);
	images_release(c);
	return r;
}
