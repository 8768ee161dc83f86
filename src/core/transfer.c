/* Images come and go: bootstrap as a task; load, save, import. All that adds takes a hold, so that nothing is collected
 * that is just on its way to being needed. */
#include "core/core-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "core/tasks.h"
#include "image/archive.h"
#include "image/disk.h"

#include <unistd.h>

void image_publish(struct core *c, const char *project, const char *action, const char *id, const char *name) {
	WITH_LOCK(c);
	event_add(c, "image", action, project, id, name, NULL);
}

void image_built(struct core *c, const char *project, const char *id) {
	image_publish(c, project, "create", id, id);
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
		image_publish(c, project, action, image.id, name ? name : image.id);
	fields_free(&image_table, &image);
	return r;
}

/* A root file system, of which head has been read. */
static int import_tar(struct core *c, const char *project, const struct image_import_options *o, const char *full, int fd,
		      const void *head, size_t n, struct image_snap **out, struct error *err) {
	struct build_options b = {
		.config = o->config,
		.os = o->os,
		.architecture = o->architecture,
		.variant = o->variant,
		.comment = o->comment,
		.created_by = IMPORTED_BY,
		.head = head,
		.n_head = n,
	};
	return build_image(c, project, full, fd, &b, "import", out, err);
}

/* By its first bytes, unless it is told. */
static int import_any(struct core *c, const char *project, const struct image_import_options *o, const char *full, int fd,
		      struct image_snap **out, struct error *err) {
	_cleanup_(free_ptr) char *head = alloc_zero(DISK_HEAD);
	ssize_t n = str_same(o->kind, "oci") ? 0 : fs_read_full(fd, head, DISK_HEAD);
	if (n < 0)
		return error_errno(err, (int)n, "cannot read the image");
	const char *format = o->format ? o->format : n ? disk_recognise(head, (size_t)n) : NULL;
	const struct blob_import b = {.project = project, .name = full, .kind = o->kind, .format = format, .comment = o->comment};
	if (!o->kind && !format)
		return import_tar(c, project, o, full, fd, head, (size_t)n, out, err);
	if (!str_same(o->kind, "oci") && str_same(format, "ova"))
		return ova_import(c, &b, head, (size_t)n, fd, out, err);
	return str_same(o->kind, "oci") ? import_tar(c, project, o, full, fd, NULL, 0, out, err)
					: blob_import(c, &b, head, (size_t)n, fd, out, err);
}

int image_import(struct core *c, const char *project, const struct image_import_options *o, int fd, struct image_snap **out,
		 struct error *err) {
	_cleanup_(free_ptr) char *full = NULL;
	int r = core_project_check(c, project, err);
	if (r == 0 && o->name)
		r = image_name_full(o->name, &full, err);
	if (r < 0)
		return r;
	images_hold(c);
	r = import_any(c, project, o, full, fd, out, err);
	images_release(c);
	if (r < 0)
		images_collect(c, NULL, NULL); /* what had come of it */
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

static int bootstrap_tree(struct bootstrap *b, int *fds, size_t n, struct error *err) {
	struct msg_bootstrap body = {.suite = b->suite, .variant = b->variant, .include = b->include};
	return agent_task_fds(b->core, b->task, "bootstrap", &body, fds, n, err);
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
	int r = bootstrap_tree(b, &fd, 1, err);
	if (r == 0)
		r = build_image(b->core, b->project, b->name, fd, &o, "bootstrap", &snap, err);
	if (r == 0)
		*result = str_copy(snap->image.id);
	return r;
}

static int bootstrap_kernel(struct bootstrap *b, char **result, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	int fds[2] = {-1, -1};
	task_progress(b->core, b->task, "fetching the kernel's package", 0, 0);
	int r = bootstrap_tree(b, fds, ARRAY_SIZE(fds), err);
	if (r < 0)
		return r;
	r = kernel_import(b->core, b->project, b->name, fds[0], fds[1], &snap, err);
	close(fds[0]);
	close(fds[1]);
	if (r == 0)
		*result = str_copy(snap->image.id);
	return r;
}

static int bootstrap_run(struct core *c, struct task_run *task, void *arg, char **result, struct error *err) {
	struct bootstrap *b = arg;
	b->core = c;
	b->task = task;
	images_hold(c);
	int r = str_same(b->variant, "kernel") ? bootstrap_kernel(b, result, err) : bootstrap_build(b, result, err);
	images_release(c);
	return r;
}

int image_bootstrap(struct core *c, const char *project, const char *name, const char *variant, char *const *include,
		    char **task, struct error *err) {
	struct image_ref ref;
	if (!name)
		return error_field(err, "name", "which image? name is missing, as in debian:bookworm");
	if (str_same(variant, "kernel") && strv_len(include))
		return error_field(err, "include", "a kernel's image has no further packages");
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
		image_publish(c, project, "load", image->id, image->names ? image->names[0] : image->id);
	return r;
}

static void add_loaded(char ***loaded, const struct image *image) {
	for (char **n = image->names; n && *n; n++)
		strv_add(loaded, *n);
	if (!image->names || !*image->names)
		strv_add(loaded, image->id);
}

static int load_all(struct core *c, const char *project, int fd, struct image_snap ***out, char ***loaded,
		    struct error *err) {
	struct image *images = NULL;
	size_t n = 0, stored = 0;
	int r = archive_load(c->content, fd, &images, &n, err);
	if (r < 0)
		return r;
	struct image_snap **snaps = alloc_array(n + 1, sizeof(*snaps));
	for (size_t i = 0; loaded && i < n; i++)
		add_loaded(loaded, &images[i]);
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

int image_load(struct core *c, const char *project, int fd, struct image_snap ***images, char ***loaded, struct error *err) {
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	images_hold(c);
	r = load_all(c, project, fd, images, loaded, err);
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

static int save_chosen(struct core *c, const struct chosen *k, int fd, struct error *err) {
	images_hold(c);
	for (size_t i = 0; i < k->n; i++)
		image_keep(c, &k->images[i]);
	int r = archive_save(c->content, k->images, k->n, fd, err);
	images_release(c);
	return r;
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
	return save_chosen(c, &k, fd, err);
}

int image_save_as(struct core *c, const char *project, const char *image, char *const *names, int fd, struct error *err) {
	_cleanup_(chosen_free) struct chosen k = {
		.snaps = alloc_array(1, sizeof(struct image_snap *)),
		.images = alloc_array(1, sizeof(struct image)),
	};
	int r = image_get(c, project, image, &k.snaps[0], err);
	if (r < 0)
		return r;
	k.n = 1;
	k.images[0] = k.snaps[0]->image;
	k.images[0].names = NULL;
	for (char *const *n = names; r == 0 && n && *n; n++) {
		char *full = NULL;
		r = image_name_full(*n, &full, err);
		if (r == 0)
			strv_take(&k.images[0].names, full);
	}
	return r < 0 ? r : save_chosen(c, &k, fd, err);
}
