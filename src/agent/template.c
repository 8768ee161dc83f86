/* Disk images, and the volumes that machines' disks begin as. A template is a block volume as others are, but that its id is
 * the digest of the image that it is of: whoever needs it finds it by that, and control, which knows the images, has it
 * removed when none of them has it any more. What comes is copied to a file of root's first, so that what is checked is what
 * is used. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define SIZE_MIN ((int64_t)1 << 20)

int open_spool(const struct agent *a, struct error *err) {
	int fd = open(a->tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? error_errno(err, errno, "cannot make a temporary file in %s", a->tmp) : fd;
}

/* A copy of the image that came along; extents are shared where the file system can. */
static int take_copy(const struct job *j, struct error *err) {
	_cleanup_(close_fd) int spool = open_spool(j->agent, err);
	if (spool < 0)
		return spool;
	int r = fs_copy(j->fds[0], spool, NULL);
	fault_point("disk.copied");
	return r < 0 ? error_errno(err, r, "cannot copy the disk image") : TAKE_FD(spool);
}

int work_disk_check(struct job *j, struct error *err) {
	const struct msg_disk *m = j->body;
	_cleanup_(close_fd) int spool = take_copy(j, err);
	int r = spool < 0 ? spool : qemu_img_check(spool, m->format, err);
	return r < 0 ? r : job_answer(j, NULL, NULL, 0, err);
}

/* ---- converting ---- */

int work_disk_convert(struct job *j, struct error *err) {
	const struct msg_disk *m = j->body;
	_cleanup_(close_fd) int spool = take_copy(j, err), made = spool < 0 ? -1 : open_spool(j->agent, err);
	if (made < 0)
		return made;
	if (!m->to)
		return error_field(err, "to", "is required");
	/* qemu-img writes a raw image into a file that is there and large enough */
	int r = ftruncate(made, str_same(m->to, "raw") ? m->size : 0) < 0 ? error_errno(err, errno, "cannot make the disk image") : 0;
	if (r == 0)
		r = qemu_img_convert(spool, m->format, made, m->to, NULL, NULL, err);
	fault_point("disk.converted");
	return r < 0 ? r : answer_file(j, made, err);
}

/* ---- a machine's disk, out ---- */

static int convert_root(struct job *j, const struct msg_instance_create *m, struct error *err) {
	_cleanup_(close_fd) int disk = root_open_disk(j, m, err), made = disk < 0 ? disk : open_spool(j->agent, err);
	int r = made < 0 ? made : 0;
	if (r == 0)
		r = qemu_img_convert(disk, "raw", made, "qcow2", NULL, NULL, err);
	fault_point("disk.exported");
	return r < 0 ? r : answer_file(j, made, err);
}

/* The instance's lock keeps it from starting meanwhile. */
int work_machine_disk(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create m = {0};
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &m, err);
	if (r < 0)
		return r;
	if (!root_is_block(&m))
		return error_set(err, ERROR_UNSUPPORTED, "instance %.12s has no disk but files: export those", j->id);
	r = convert_root(j, &m, err);
	root_close(j, &m);
	return r;
}

/* ---- templates ---- */

struct template {
	const struct msg_template *m;
	const struct job *job;
	int spool;
};

static void on_progress(int done, void *arg) {
	fault_point("template.progress");
	if (((const struct template *)arg)->job->sock >= 0)
		job_progress(((const struct template *)arg)->job, "preparing the disk", done, 1000);
}

static void hash_cleanup(EVP_MD_CTX **h) {
	EVP_MD_CTX_free(*h);
}

static int check_digest(int fd, const char *digest, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	_cleanup_(hash_cleanup) EVP_MD_CTX *h = EVP_MD_CTX_new();
	uint8_t sum[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	off_t at = 0;
	if (!h || !EVP_DigestInit_ex(h, EVP_sha256(), NULL))
		abort(); /* memory */
	for (ssize_t n; (n = RETRY_EINTR(pread(fd, chunk, CHUNK, at))) != 0; at += n) {
		if (n < 0)
			return error_errno(err, errno, "cannot read the disk image");
		EVP_DigestUpdate(h, chunk, (size_t)n);
	}
	EVP_DigestFinal_ex(h, sum, NULL);
	hex_encode(sum, 32, hex);
	if (str_same(hex, strchr(digest, ':') + 1))
		return 0;
	return error_set(err, ERROR_CORRUPT, "the disk image is sha256:%s, not %s", hex, digest);
}

static int fill(struct template *t, const char *path, struct error *err) {
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot open %s", path);
	int r = qemu_img_convert(t->spool, t->m->format, fd, "raw", on_progress, t, err);
	if (r == 0 && fsync(fd) < 0)
		r = error_errno(err, errno, "cannot write back the disk");
	fault_point("template.written");
	return r;
}

static int make(UNUSED const struct job *j, const struct pool_entry *e, const struct storage_volume *v, void *arg,
		struct error *err) {
	struct storage_handle h = {0};
	int r = e->driver->volume_create(&e->ref, v, err);
	if (r == 0)
		r = volume_open(e, v->id, true, NULL, &h, err);
	if (r == 0)
		r = fill(arg, h.path, err);
	if (h.path) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (volume_close(e, v->id, true, &why) < 0)
			log_warn("template %.12s: %s", v->id, error_text(&why));
	}
	storage_handle_free(&h);
	return r;
}

/* The copy is made and its digest looked at before anything is made of it. */
static int make_template(struct job *j, const struct pool_entry *e, const struct volume *v, struct error *err) {
	struct template t = {.m = j->body, .job = j, .spool = -1};
	struct volume have;
	if (volume_record_load(e, v->id, &have, NULL) == 0) {
		fields_free(&volume_table, &have);
		return 0;
	}
	_cleanup_(close_fd) int spool = take_copy(j, err);
	int r = spool < 0 ? spool : check_digest(spool, t.m->digest, err);
	t.spool = spool;
	return r < 0 ? r : volume_make(j, e, v, make, &t, err);
}

int work_template_make(struct job *j, struct error *err) {
	const struct msg_template *m = j->body;
	const struct pool_entry *e = NULL;
	_cleanup_(volume_unlock) int pool = -1, lock = -1;
	struct volume v;
	fields_init(&volume_table, &v);
	v.id = str_copy(strchr(m->digest, ':') + 1);
	v.spec.name = str_format("image-%.12s", v.id);
	v.spec.kind = str_copy("block");
	v.spec.size = MAX((m->size + 511) / 512 * 512, SIZE_MIN);
	int r = pool_use(j, m->pool_id, &e, &pool, err);
	if (r == 0)
		r = volume_check_new(e, &v, err);
	if (r == 0)
		r = volume_lock(e, v.id, LOCK_EX, &lock, err);
	if (r == 0)
		r = make_template(j, e, &v, err);
	fields_free(&volume_table, &v);
	if (r < 0)
		return e ? pool_failed(j, e, r, err) : r;
	return job_answer(j, NULL, NULL, 0, err);
}
