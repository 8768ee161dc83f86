/* Copies of disks of a machine that runs, all of one moment. QEMU writes each into a qcow2 image that it is lent, and saves what the guest
 * overwrites before it does; the guest goes on. A checkpoint is a bitmap of what has been written since: the next copy can be
 * of that alone (live-checkpoints.c). Of a disk "x" the image is the node "x-image" upon "x-backup", the job "backup-x". */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "driver/qemu/machine-priv.h"

static char *named(const char *id, const char *what) {
	return str_format("%s-%s", id, what);
}

static char *job_name(const char *id) {
	return str_format("backup-%s", id);
}

/* --- copies --- */

int live_backup_prepare(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *file = named(id, "backup"), *image = named(id, "image");
	return live_image_make(q, id, file, image, fd, deadline, err);
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
	return live_bitmap_add(data, name, false);
}

int live_backup_begin(struct qmp *q, const char *const *ids, const char *since, const char *checkpoint, int64_t deadline, struct error *err) {
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
	_cleanup_(free_ptr) char *job = job_name(id);
	int r = live_job_end(q, job, deadline, err);
	return r < 0 ? r : live_image_end(q, id, "backup", "image", deadline, err);
}
