/* The disks of a machine that does not run, read by a QEMU without a machine, so that copies and checkpoints of theirs are those of
 * one that runs. Nobody starts it meanwhile (the instance's lock is the caller's), nor uses its volumes (their locks). */
#include "agent/machine-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/live.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define ANSWER_WAIT (60 * NS_PER_SEC)

struct idle_disk {
	const struct run_disk *disk;
	const struct pool_entry *pool;
	int lock, kept;
};

int idle_open(const struct job *j, struct idle *x, struct error *err) {
	*x = (struct idle){.job = j};
	return qemu_none_start(&x->q, &x->pid, err);
}

void idle_end(struct idle *x) {
	qemu_none_end(&x->q, &x->pid);
	for (size_t i = 0; i < x->n; i++) {
		struct idle_disk *d = &x->disks[i];
		close_fd(&d->kept);
		volume_unlock(&d->lock);
		volume_close_unused(x->job->agent, d->pool, d->disk->volume, true, NULL, d->disk->root ? d->disk->volume : NULL);
	}
	free(x->disks);
	*x = (struct idle){0};
}

/* A root is its instance's alone. */
static int lock_disk(const struct idle *x, struct idle_disk *d, struct error *err) {
	const struct run_disk *its = d->disk;
	int r = pool_ready(x->job, its->pool, &d->pool, err);
	if (r == 0)
		r = volume_lock(d->pool, its->volume, its->root ? LOCK_SH : LOCK_EX, &d->lock, err);
	return r == 0 && !its->root ? volume_check_unused(x->job->agent, its->volume, "read without the machine", err) : r;
}

static int add_nodes(const struct idle *x, const struct idle_disk *d, struct error *err) {
	struct storage_handle h = {0};
	int r = pool_failed(x->job, d->pool, volume_open(d->pool, d->disk->volume, true, NULL, &h, err), err);
	if (r == 0)
		r = volume_sync(d->pool, d->disk->volume, true, h.path, err);
	_cleanup_(close_fd) int fd = r < 0 ? -1 : open(h.path, O_RDONLY | O_CLOEXEC);
	const struct machine_disk disk = {.id = d->disk->id, .fd = fd, .format = "raw", .read_only = true};
	if (r == 0 && fd < 0)
		r = error_errno(err, errno, "cannot open %s", h.path);
	storage_handle_free(&h);
	return r < 0 ? r : live_nodes_add(x->q, &disk, time_mono_ns() + ANSWER_WAIT, err);
}

int idle_add(struct idle *x, const struct run_disk *disk, struct error *err) {
	struct idle_disk d = {.disk = disk, .lock = -1, .kept = -1};
	int r = lock_disk(x, &d, err);
	if (r < 0) {
		volume_unlock(&d.lock);
		return r;
	}
	x->disks = alloc_resize(x->disks, x->n + 1, sizeof *x->disks);
	x->disks[x->n++] = d;
	r = add_nodes(x, &d, err);
	if (r == 0)
		checkpoints_take(x->job->agent, x->q, disk);
	return r;
}

int idle_keep(const struct idle *x, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < x->n; i++)
		r = checkpoints_write(x->job->agent, x->q, x->disks[i].disk, &x->disks[i].kept, err);
	fault_point("idle.kept");
	return r;
}

int idle_settle(const struct idle *x, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < x->n; i++)
		r = checkpoints_settle(x->job->agent, x->disks[i].disk->volume, x->disks[i].kept, err);
	return r;
}
