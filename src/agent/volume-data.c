/* Volumes out of wabe and into it: file systems as a tar, block volumes as they are (raw) or as qcow2. What comes from
 * outside is only parsed by children that see the volume alone. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "image/layer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define PROGRESS_EVERY (200 * NS_PER_MS)

static int check_format(const char *format, bool block, struct error *err) {
	if (str_same(format, "tar") != block)
		return 0;
	return error_field(err, "format", block ? "a block volume is raw or qcow2" : "a file-system volume is a tar");
}

/* --- export --- */

/* The first size bytes of it, which may be more than there are. */
static int copy_out(int from, int to, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	for (int64_t at = 0; size < 0 || at < size;) {
		ssize_t n = RETRY_EINTR(read(from, chunk, size < 0 ? CHUNK : (size_t)MIN((int64_t)CHUNK, size - at)));
		if (n < 0)
			return error_errno(err, errno, "cannot read the volume");
		if (n == 0)
			break;
		int r = fs_write_all(to, chunk, (size_t)n);
		if (r < 0)
			return error_errno(err, r, "the volume's content is not wanted any more");
		at += n;
	}
	return 0;
}

static int export_qcow2(struct job *j, int volume, int *writer, struct error *err) {
	_cleanup_(close_fd) int spool = open_spool(j->agent, err);
	if (spool < 0)
		return spool;
	int r = qemu_img_convert(volume, "raw", spool, "qcow2", NULL, NULL, err);
	fault_point("export.converted");
	if (r == 0)
		r = answer_stream(j, NULL, writer, err);
	if (r == 0 && lseek(spool, 0, SEEK_SET) < 0)
		r = error_errno(err, errno, "cannot read the image");
	return r < 0 ? r : copy_out(spool, *writer, -1, err);
}

static int export_open(struct job *j, const char *path, const struct volume *v, struct error *err) {
	const struct msg_volume_data *m = j->body;
	bool block = volume_is_block(v);
	_cleanup_(close_fd) int writer = -1;
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | (block ? 0 : O_DIRECTORY));
	if (fd < 0)
		return error_errno(err, errno, "cannot open %s", path);
	int r = str_same(m->format, "qcow2") ? export_qcow2(j, fd, &writer, err) : answer_stream(j, NULL, &writer, err);
	if (r == 0 && str_same(m->format, "tar"))
		r = tree_pack(fd, "/", ".", 0, writer, err);
	else if (r == 0 && str_same(m->format, "raw"))
		r = copy_out(fd, writer, v->spec.size, err);
	fault_point("export.written");
	if (r == 0)
		guard_finish(&writer);
	return r;
}

int work_volume_export(struct job *j, struct error *err) {
	const struct msg_volume_data *m = j->body;
	const struct pool_entry *e;
	struct storage_handle h = {0};
	struct volume v = {0};
	_cleanup_(volume_unlock) int lock = -1;
	if (!m->volume.id)
		return error_field(err, "volume.id", "is required");
	int r = pool_ready(j, m->pool_id, &e, err);
	if (r == 0)
		r = volume_hold(e, m->volume.id, LOCK_SH, &lock, &v, err);
	if (r < 0)
		return r;
	bool block = volume_is_block(&v);
	r = check_format(m->format, block, err);
	if (r == 0)
		r = pool_failed(j, e, volume_open(e, v.id, block, m->snapshot, &h, err), err);
	if (r == 0 && block && !m->snapshot)
		r = volume_sync(e, v.id, true, h.path, err);
	if (r == 0)
		r = export_open(j, h.path, &v, err);
	volume_unlock(&lock);
	if (h.path)
		volume_close_unused(j->agent, e, v.id, block, m->snapshot, NULL);
	storage_handle_free(&h);
	fields_free(&volume_table, &v);
	return r;
}

/* --- import --- */

struct import {
	struct job *job;
	int64_t next; /* time of the next progress */
};

static void tell(struct import *x, int64_t done) {
	int64_t now = time_mono_ns();
	fault_point("import.progress");
	if (now < x->next || x->job->sock < 0)
		return;
	x->next = now + PROGRESS_EVERY;
	job_progress(x->job, "importing", done, 0);
}

static bool is_zero(const char *p, size_t n) {
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Blocks of zeros become holes in a file; a device has them written. */
static int copy_in(struct import *x, int from, int to, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	struct stat st;
	bool sparse = fstat(to, &st) == 0 && S_ISREG(st.st_mode);
	for (int64_t at = 0;; tell(x, at)) {
		ssize_t n = RETRY_EINTR(read(from, chunk, CHUNK));
		if (n < 0)
			return error_errno(err, errno, "cannot read the data");
		if (n == 0)
			break;
		if (size >= 0 && n > size - at)
			return error_set(err, ERROR_TOO_LARGE, "the data is larger than the volume, which has %lld bytes",
					 (long long)size);
		if ((!sparse || !is_zero(chunk, (size_t)n)) && pwrite(to, chunk, (size_t)n, at) != n)
			return error_errno(err, errno, "cannot write the volume");
		at += n;
	}
	return 0;
}

/* An image's parser wants to go back and forth in it. */
static int import_qcow2(struct import *x, int data, int volume, struct error *err) {
	_cleanup_(close_fd) int spool = open_spool(x->job->agent, err);
	if (spool < 0)
		return spool;
	int r = copy_in(x, data, spool, -1, err);
	fault_point("import.spooled");
	return r < 0 ? r : qemu_img_convert(spool, "qcow2", volume, "raw", NULL, NULL, err);
}

static int fill(struct import *x, const char *path, struct error *err) {
	const struct msg_volume_data *m = x->job->body;
	bool block = volume_is_block(&m->volume);
	int data = x->job->fds[0];
	_cleanup_(close_fd) int fd = open(path, (block ? O_RDWR : O_RDONLY | O_DIRECTORY) | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot open %s", path);
	struct unpack_options o = {.keep_owner = true};
	int r;
	if (!block)
		r = tree_unpack(data, fd, "/", &o, err);
	else if (str_same(m->format, "qcow2"))
		r = import_qcow2(x, data, fd, err);
	else
		r = copy_in(x, data, fd, m->volume.spec.size, err);
	if (r == 0 && (block ? fsync(fd) : syncfs(fd)) < 0)
		r = error_errno(err, errno, "cannot write back the volume");
	fault_point("import.written");
	return r;
}

static int make(const struct job *j, const struct pool_entry *e, const struct storage_volume *v, void *arg,
		struct error *err) {
	struct import x = {.job = arg};
	struct storage_handle h = {0};
	int r = e->driver->volume_create(&e->ref, v, err);
	if (r == 0)
		r = volume_open(e, v->id, v->block, NULL, &h, err);
	if (r == 0)
		r = fill(&x, h.path, err);
	if (h.path) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (volume_close(e, v->id, v->block, &why) < 0)
			log_warn("%s: %s", j->handler->name, error_text(&why));
	}
	storage_handle_free(&h);
	return r;
}

int work_volume_import(struct job *j, struct error *err) {
	const struct msg_volume_data *m = j->body;
	const struct pool_entry *e = NULL;
	_cleanup_(volume_unlock) int pool = -1, lock = -1;
	if (!m->volume.id)
		return error_field(err, "volume.id", "is required: 64 hexadecimal digits");
	int r = check_format(m->format, volume_is_block(&m->volume), err);
	if (r == 0)
		r = pool_use(j, m->pool_id, &e, &pool, err);
	if (r == 0)
		r = volume_check_new(e, &m->volume, err);
	if (r == 0)
		r = volume_lock(e, m->volume.id, LOCK_EX, &lock, err);
	if (r == 0)
		r = volume_make(j, e, &m->volume, make, j, err);
	if (r < 0)
		return e ? pool_failed(j, e, r, err) : r;
	return job_answer(j, NULL, NULL, 0, err);
}
