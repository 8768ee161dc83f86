/* Checkpoints of disks: dirty bitmaps, each of what has been written since a moment. The disks are raw, where QEMU can keep none, so
 * those of a disk "x" lie in its memory while it runs, and in between in a small qcow2 image of nothing else: the node "x-kept"
 * upon "x-keep". */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "driver/qemu/machine-priv.h"

#define GRANULARITY 65536 /* the same everywhere, whatever the disk's file has */

static char *named(const char *id, const char *what) {
	return str_format("%s-%s", id, what);
}

/* --- nodes --- */

/* As QEMU describes it; free it. */
static int describe(struct qmp *q, const char *name, int64_t deadline, json_t **node, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	*node = NULL;
	int r = qmp_call(q, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), -1, deadline, &all, err);
	for (size_t i = 0; r == 0 && !*node && i < json_array_size(all); i++)
		if (str_same(json_get_str(json_array_get(all, i), "node-name"), name))
			*node = json_incref(json_array_get(all, i));
	return r < 0 || *node ? r : error_set(err, ERROR_NOT_FOUND, "the machine has no disk %s", name);
}

static int add_file(struct qmp *q, const char *file, int fd, bool read_only, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *set = NULL;
	int r = qmp_lend(q, file, fd, deadline, &set, err);
	return r < 0 ? r : qmp_call(q, "blockdev-add", json_pack("{s:s,s:s,s:s,s:s,s:b}", "driver", "file", "node-name", file, "filename", set,
								 "discard", "unmap", "read-only", read_only), -1, deadline, NULL, err);
}

static int add_image(struct qmp *q, const char *file, const char *image, bool read_only, int64_t deadline, struct error *err) {
	return qmp_call(q, "blockdev-add", json_pack("{s:s,s:s,s:s,s:n,s:b}", "driver", "qcow2", "node-name", image, "file", file, "backing",
						     "read-only", read_only), -1, deadline, NULL, err);
}

int live_image_make(struct qmp *q, const char *id, const char *file, const char *image, int fd, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *node = NULL;
	_cleanup_(free_ptr) char *job = named("create", id), *data = named(id, "data");
	int r = describe(q, data, deadline, &node, err);
	if (r == 0)
		r = add_file(q, file, fd, false, deadline, err);
	json_int_t size = json_get_int(json_object_get(node, "image"), "virtual-size");
	if (r == 0)
		r = qmp_call(q, "blockdev-create", json_pack("{s:s,s:{s:s,s:s,s:I}}", "job-id", job, "options", "driver", "qcow2", "file", file,
							     "size", size), -1, deadline, NULL, err);
	if (r == 0)
		r = live_job_await(q, job, deadline, err);
	return r < 0 ? r : add_image(q, file, image, false, deadline, err);
}

int live_image_end(struct qmp *q, const char *id, const char *file, const char *image, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *job = named("create", id), *word = named(id, file);
	int r = live_job_end(q, job, deadline, err);
	if (r == 0)
		r = live_node_remove(q, id, image, deadline, NULL, err);
	if (r == 0)
		r = live_node_remove(q, id, file, deadline, NULL, err);
	if (r == 0)
		qmp_take_back(q, word, deadline);
	return r;
}

/* --- bitmaps --- */

static int bitmaps_of(struct qmp *q, const char *name, int64_t deadline, char ***names, struct error *err) {
	_cleanup_(json_free_ptr) json_t *node = NULL;
	int r = describe(q, name, deadline, &node, err);
	const json_t *maps = r == 0 ? json_object_get(node, "dirty-bitmaps") : NULL;
	*names = NULL;
	for (size_t i = 0; i < json_array_size(maps); i++) {
		const json_t *map = json_array_get(maps, i);
		if (json_get_str(map, "name") && !json_get_bool(map, "inconsistent"))
			strv_add(names, json_get_str(map, "name"));
	}
	return r;
}

json_t *live_bitmap_add(const char *node, const char *name, bool persistent) {
	return json_pack("{s:s,s:{s:s,s:s,s:i,s:b}}", "type", "block-dirty-bitmap-add", "data", "node", node, "name", name, "granularity",
			 GRANULARITY, "persistent", persistent);
}

static json_t *merge(const char *from, const char *to, const char *name) {
	return json_pack("{s:s,s:{s:s,s:s,s:[{s:s,s:s}]}}", "type", "block-dirty-bitmap-merge", "data", "node", to, "target", name, "bitmaps",
			 "node", from, "name", name);
}

/* All, or none. */
static int copy_bitmaps(struct qmp *q, const char *from, const char *to, char *const *names, bool persistent, int64_t deadline,
			struct error *err) {
	json_t *actions = json_array();
	for (; names && *names; names++) {
		json_array_append_new(actions, live_bitmap_add(to, *names, persistent));
		json_array_append_new(actions, merge(from, to, *names));
	}
	return qmp_call(q, "transaction", json_pack("{s:o}", "actions", actions), -1, deadline, NULL, err);
}

int live_checkpoints(struct qmp *q, const char *id, int64_t deadline, char ***names, struct error *err) {
	_cleanup_(free_ptr) char *node = named(id, "data");
	return bitmaps_of(q, node, deadline, names, err);
}

int live_checkpoint_remove(struct qmp *q, const char *id, const char *name, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *node = named(id, "data");
	return qmp_call(q, "block-dirty-bitmap-remove", json_pack("{s:s,s:s}", "node", node, "name", name), -1, deadline, NULL, err);
}

int live_checkpoints_save(struct qmp *q, const char *id, char *const *names, int fd, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *data = named(id, "data"), *file = named(id, "keep"), *image = named(id, "kept");
	int r = live_image_end(q, id, "keep", "kept", deadline, err); /* of one that was cut off */
	if (r == 0)
		r = live_image_make(q, id, file, image, fd, deadline, err);
	if (r == 0)
		r = copy_bitmaps(q, data, image, names, true, deadline, err);
	int end = live_image_end(q, id, "keep", "kept", deadline, r < 0 ? NULL : err); /* which writes them */
	return r < 0 ? r : end;
}

int live_checkpoints_load(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *data = named(id, "data"), *file = named(id, "keep"), *image = named(id, "kept");
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = add_file(q, file, fd, true, deadline, err);
	if (r == 0)
		r = add_image(q, file, image, true, deadline, err);
	if (r == 0)
		r = bitmaps_of(q, image, deadline, &names, err);
	if (r == 0 && names)
		r = copy_bitmaps(q, image, data, names, false, deadline, err);
	int end = live_image_end(q, id, "keep", "kept", deadline, r < 0 ? NULL : err);
	return r < 0 ? r : end;
}

int live_end_waits(struct qmp *q, int64_t deadline, struct error *err) {
	return qmp_call(q, "set-action", json_pack("{s:s}", "shutdown", "pause"), -1, deadline, NULL, err);
}
