/* Holding instances still while what they write to is copied or a snapshot is taken: their locks, then the file systems of a
 * machine's guest where it has an agent, then the cgroup freezer. Whoever is killed meanwhile leaves them frozen, which recovery
 * of the instances finds and ends. */
#include "agent/machine-priv.h"

#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

/* A guest without an agent is held still as if its power failed. */
static void freeze_guest(const char *id, struct frozen *f) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	if (record_load(f->agent, id, &r, NULL) < 0 || !instance_is_machine(&r.instance.spec) ||
	    !str_same(r.instance.status.state, "running"))
		return;
	if (machine_guest_freeze(f->agent, id))
		strv_add(&f->guests, id);
	fault_point("freeze.guest");
}

/* One that was paused already stays so afterwards. */
static int freeze_one(const struct job *j, const char *id, struct frozen *f, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	struct run_state run = {0};
	int r = instance_lock(j->agent, id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == -ERROR_NOT_FOUND) {
		error_free(err);
		return 0;
	}
	if (r < 0)
		return r;
	bool up = run_load(j->agent, id, &run, NULL) == 0 && run.created && container_state_alive(&run.container);
	if (!up || cgroup_is_frozen(&run.container.cgroup)) {
		run_free(&run); /* the lock is kept all the same: nothing of it starts meanwhile */
	} else {
		freeze_guest(id, f);
		r = cgroup_freeze(&run.container.cgroup, true, err);
		fault_point("freeze.frozen");
	}
	f->locks[f->n] = TAKE_FD(lock);
	f->runs[f->n++] = run;
	return r;
}

int freeze_users(const struct job *j, char *const *ids, struct frozen *out, struct error *err) {
	size_t n = strv_len(ids);
	_cleanup_(strv_free_ptr) char **sorted = strv_copy(ids); /* so that two of us do not wait for each other */
	strv_sort(sorted);
	*out = (struct frozen){.agent = j->agent, .locks = alloc_array(n + 1, sizeof(int)), .runs = alloc_array(n + 1, sizeof *out->runs)};
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = freeze_one(j, sorted[i], out, err);
	if (r < 0)
		frozen_thaw(out);
	return r;
}

void frozen_thaw(struct frozen *f) {
	for (size_t i = 0; i < f->n; i++) {
		if (f->runs[i].created)
			cgroup_freeze(&f->runs[i].container.cgroup, false, NULL);
		run_free(&f->runs[i]);
	}
	for (char **id = f->guests; id && *id; id++)
		machine_guest_thaw(f->agent, *id);
	for (size_t i = 0; i < f->n; i++)
		instance_unlock(&f->locks[i]);
	strv_free(f->guests);
	free(f->locks);
	free(f->runs);
	*f = (struct frozen){0};
}

int sync_dir_fs(const char *path) {
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}
