/* Copies of disks of a machine that runs, all of one moment. QEMU writes each into a qcow2 image that it is lent, and saves what the guest
 * overwrites before it does; the guest goes on. A checkpoint is a bitmap of what has been written since: the next copy can be
 * of that alone. Bitmaps lie in QEMU's memory, since the disks are raw, and end with it. Of a disk "x" the image is the node
 * "x-image" upon "x-backup", the job "backup-x". */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "driver/qemu/machine-priv.h"

static char *named(const char *id, const char *what) {
	return str_format("%s-%s", id, what);
}

static char *job_name(const char *id) {
	return str_format("backup-%s", id);
}

/* --- checkpoints --- */

/* The disk's node as QEMU describes it; free it. */
static int describe(struct qmp *q, const char *id, int64_t deadline, json_t **node, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	_cleanup_(free_ptr) char *name = named(id, "data");
	*node = NULL;
	int r = qmp_call(q, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), -1, deadline, &all, err);
	for (size_t i = 0; r == 0 && !*node && i < json_array_size(all); i++)
		if (str_same(json_get_str(json_array_get(all, i), "node-name"), name))
			*node = json_incref(json_array_get(all, i));
	return r < 0 || *node ? r : error_set(err, ERROR_NOT_FOUND, "the machine has no disk %s", id);
}

int live_checkpoints(struct qmp *q, const char *id, int64_t deadline, char ***names, struct error *err) {
	_cleanup_(json_free_ptr) json_t *node = NULL;
	int r = describe(q, id, deadline, &node, err);
	const json_t *maps = r == 0 ? json_object_get(node, "dirty-bitmaps") : NULL;
	*names = NULL;
	for (size_t i = 0; i < json_array_size(maps); i++) {
		const char *name = json_get_str(json_array_get(maps, i), "name");
		if (name)
			strv_add(names, name);
	}
	return r;
}

int live_checkpoint_remove(struct qmp *q, const char *id, const char *name, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *node = named(id, "data");
	return qmp_call(q, "block-dirty-bitmap-remove", json_pack("{s:s,s:s}", "node", node, "name", name), -1, deadline, NULL, err);
}

/* --- copies --- */

static int make_image(struct qmp *q, const char *id, int64_t size, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *job = named("create", id), *file = named(id, "backup"), *image = named(id, "image");
	int r = qmp_call(q, "blockdev-create", json_pack("{s:s,s:{s:s,s:s,s:I}}", "job-id", job, "options", "driver", "qcow2", "file", file,
							 "size", (json_int_t)size), -1, deadline, NULL, err);
	if (r == 0)
		r = live_job_await(q, job, deadline, err);
	return r < 0 ? r : qmp_call(q, "blockdev-add", json_pack("{s:s,s:s,s:s,s:n}", "driver", "qcow2", "node-name", image, "file", file,
								 "backing"), -1, deadline, NULL, err);
}

int live_backup_prepare(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *node = NULL;
	_cleanup_(free_ptr) char *file = named(id, "backup"), *set = NULL;
	int r = describe(q, id, deadline, &node, err);
	if (r == 0)
		r = qmp_lend(q, file, fd, deadline, &set, err);
	if (r == 0)
		r = qmp_call(q, "blockdev-add", json_pack("{s:s,s:s,s:s,s:s}", "driver", "file", "node-name", file, "filename", set, "discard",
							  "unmap"), -1, deadline, NULL, err);
	return r < 0 ? r : make_image(q, id, json_get_int(json_object_get(node, "image"), "virtual-size"), deadline, err);
}

static json_t *copy_action(const char *id, const char *since) {
	_cleanup_(free_ptr) char *job = job_name(id), *data = named(id, "data"), *image = named(id, "image");
	json_t *args = json_pack("{s:s,s:s,s:s,s:s,s:b}", "job-id", job, "device", data, "target", image, "sync", since ? "bitmap" : "full",
				 "auto-dismiss", 0);
	json_set_str(args, "bitmap", since);
	json_set_str(args, "bitmap-mode", since ? "never" : NULL);
	return json_pack("{s:s,s:o}", "type", "blockdev-backup", "data", args);
}

static json_t *checkpoint_action(const char *id, const char *name) {
	_cleanup_(free_ptr) char *data = named(id, "data");
	return json_pack("{s:s,s:{s:s,s:s}}", "type", "block-dirty-bitmap-add", "data", "node", data, "name", name);
}

int live_backup_begin(struct qmp *q, char *const *ids, const char *since, const char *checkpoint, int64_t deadline, struct error *err) {
	json_t *actions = json_array();
	for (; *ids; ids++) {
		json_array_append_new(actions, copy_action(*ids, since));
		if (checkpoint)
			json_array_append_new(actions, checkpoint_action(*ids, checkpoint));
	}
	return qmp_call(q, "transaction", json_pack("{s:o}", "actions", actions), -1, deadline, NULL, err);
}

int live_backup_look(struct qmp *q, const char *id, int64_t deadline, struct live_copy *out, struct error *err) {
	_cleanup_(free_ptr) char *job = job_name(id);
	return live_job_look(q, job, deadline, out, err);
}

int live_backup_end(struct qmp *q, const char *id, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *job = job_name(id), *create = named("create", id), *word = named(id, "backup");
	int r = live_job_end(q, job, deadline, err);
	if (r == 0)
		r = live_job_end(q, create, deadline, err);
	if (r == 0)
		r = live_node_remove(q, id, "image", deadline, NULL, err);
	if (r == 0)
		r = live_node_remove(q, id, "backup", deadline, NULL, err);
	if (r == 0)
		qmp_take_back(q, word, deadline);
	return r;
}
