/* A disk of a machine that runs moves to another file. The mirror writes what the guest writes to both before the guest is told that
 * it is written, so a copy that has caught up stays so however fast the guest is. The node that the device has ("x-data") keeps
 * its name: what changes is the file beneath, "x-file" or "x-moved". */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "driver/qemu/machine-priv.h"

const char *const live_places[] = {"file", "moved", NULL};

char *live_word(const char *id, const char *place) {
	return str_same(place, live_places[0]) ? str_copy(id) : str_format("%s-%s", id, place);
}

static const char *other(const char *place) {
	return live_places[str_same(place, live_places[0])];
}

static char *job_name(const char *id) {
	return str_format("move-%s", id);
}

/* --- the places --- */

int live_move_place(struct qmp *q, const char *id, int64_t deadline, const char **place, struct error *err) {
	*place = NULL;
	for (const char *const *p = live_places; *p; p++) { /* one that is not used is left over */
		_cleanup_(free_ptr) char *word = live_word(id, *p);
		bool used;
		int r = live_node_remove(q, id, *p, deadline, &used, err);
		if (r < 0)
			return r;
		if (used)
			*place = other(*p);
		else
			qmp_take_back(q, word, deadline);
	}
	return *place ? 0 : error_set(err, ERROR_NOT_FOUND, "the machine has no disk %s", id);
}

static int add_node(struct qmp *q, const struct machine_disk *d, const char *place, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *word = live_word(d->id, place), *set = NULL, *name = str_format("%s-%s", d->id, place);
	int r = qmp_lend(q, word, d->fd, deadline, &set, err);
	if (r < 0)
		return r;
	json_t *node = disk_file_node(d, set);
	json_set_str(node, "node-name", name);
	return qmp_call(q, "blockdev-add", node, -1, deadline, NULL, err);
}

static int begin_mirror(struct qmp *q, const char *id, const char *place, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *job = job_name(id), *from = str_format("%s-data", id), *to = str_format("%s-%s", id, place);
	return qmp_call(q, "blockdev-mirror",
			json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "job-id", job, "device", from, "target", to, "sync", "full", "copy-mode",
				  "write-blocking", "auto-dismiss", 0), -1, deadline, NULL, err);
}

int live_move_begin(struct qmp *q, const struct machine_disk *d, const char *place, int64_t deadline, struct error *err) {
	int r = add_node(q, d, place, deadline, err);
	return r < 0 ? r : begin_mirror(q, d->id, place, deadline, err);
}

int live_move_look(struct qmp *q, const char *id, int64_t deadline, struct live_copy *out, struct error *err) {
	_cleanup_(free_ptr) char *job = job_name(id);
	int r = live_job_look(q, job, deadline, out, err);
	return r == 0 && out->over ? error_set(err, ERROR_CONFLICT, "the disk is not being copied any more") : r;
}

int live_move_put(struct qmp *q, const char *id, bool read_only, const char *place, int64_t deadline, struct error *err) {
	const struct machine_disk d = {.id = id, .fd = -1, .format = "raw", .read_only = read_only};
	_cleanup_(free_ptr) char *file = str_format("%s-%s", id, place);
	json_t *node = disk_data_node(&d);
	json_set_str(node, "file", file);
	return qmp_call(q, "blockdev-reopen", json_pack("{s:[o]}", "options", node), -1, deadline, NULL, err);
}

/* A mirror that is ready and is cancelled writes the rest and ends. */
int live_move_switch(struct qmp *q, const char *id, bool read_only, const char *place, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *job = job_name(id);
	int r = live_job_cancel(q, job, false, deadline, err);
	if (r == 0)
		r = live_job_await(q, job, deadline, err);
	return r < 0 ? r : live_move_put(q, id, read_only, place, deadline, err);
}

int live_move_end(struct qmp *q, const char *id, const char *place, int64_t deadline, bool *used, struct error *err) {
	_cleanup_(free_ptr) char *word = live_word(id, place), *job = job_name(id);
	*used = false;
	int r = live_job_end(q, job, deadline, err);
	if (r == 0)
		r = live_node_remove(q, id, place, deadline, used, err);
	if (r == 0 && !*used)
		qmp_take_back(q, word, deadline);
	return r;
}

int live_move_drop_other(struct qmp *q, const char *id, const char *place, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *word = live_word(id, other(place));
	int r = live_node_remove(q, id, other(place), deadline, NULL, err);
	if (r == 0)
		qmp_take_back(q, word, deadline);
	return r;
}
