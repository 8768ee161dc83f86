/* layer_unpack and tree_unpack: an archive through the decoder into the extractor, in a confined child. */
#include "image/layer.h"

#include "base/fs.h"
#include "base/str.h"
#include "image/layer-confine.h"
#include "image/layer-extract.h"
#include "image/layer-stream.h"
#include "image/layer-walk.h"

#include <archive.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PROGRESS_STEP ((uint64_t)1 << 20)

struct unpack {
	struct extract extract;
	enum layer_compression compression;
	struct layer_stream *stream;
	struct archive *archive;
	struct confined *self;
	uint64_t reported;
	struct error source; /* what the stream said */
	int target;	     /* parent: where opaque directories are marked */
};

static ssize_t read_stream(struct archive *a, void *arg, const void **block) {
	struct unpack *u = arg;
	ssize_t n = layer_stream_next(u->stream, block, &u->source);
	if (n < 0)
		archive_set_error(a, EIO, "%s", error_text(&u->source));
	return n < 0 ? -1 : n;
}

static void tell_progress(void *arg) {
	struct unpack *u = arg;
	uint64_t done = layer_stream_done(u->stream);
	if (done - u->reported < PROGRESS_STEP)
		return;
	u->reported = done;
	confined_progress(u->self, done, layer_stream_total(u->stream));
}

/* In the child. Nothing is freed: the child ends. */
static int prepare(struct confine_job *job, int archive, struct error *err) {
	struct unpack *u = job->data;
	int r = layer_stream_open(archive, u->compression, &u->stream, err);
	if (r < 0)
		return r;
	u->archive = archive_read_new();
	if (!u->archive || archive_read_support_format_tar(u->archive) != ARCHIVE_OK ||
	    archive_read_support_format_empty(u->archive) != ARCHIVE_OK)
		return error_set(err, ERROR_INTERNAL, "cannot set up libarchive");
	return 0;
}

static int start(struct confine_job *job, struct error *err) {
	struct unpack *u = job->data;
	return layer_stream_start(u->stream, err);
}

static int work(struct confine_job *job, struct confined *self, int root, struct confine_result *result,
		struct error *err) {
	struct unpack *u = job->data;
	u->self = self;
	u->extract.root = root;
	u->extract.progress = tell_progress;
	u->extract.arg = u;
	int r = 0;
	if (archive_read_open(u->archive, u, NULL, read_stream, NULL) != ARCHIVE_OK)
		r = error_set(err, ERROR_CORRUPT, "this is no tar archive: %s", archive_error_string(u->archive));
	if (r == 0)
		r = extract_archive(&u->extract, u->archive, err);
	if (r < 0)
		return u->source.kind == ERROR_NONE ? r : error_move(err, &u->source);
	r = layer_stream_finish(u->stream, result->digest, err);
	if (r < 0)
		return r;
	for (char **path = u->extract.opaque; path && *path; path++)
		confined_opaque(self, *path);
	result->size = u->extract.size;
	uint64_t done = layer_stream_done(u->stream);
	confined_progress(self, done, done);
	return 0;
}

/* In the parent: the child has no right to trusted.* attributes. It can at worst name directories of its
 * own target. */
static int mark_opaque(struct confine_job *job, const char *path, struct error *err) {
	const struct unpack *u = job->data;
	_cleanup_(close_fd) int fd = tree_open_in(u->target, path[0] ? path : "/", O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0; /* a later entry took it away */
	if (fd < 0)
		return error_errno(err, fd, "cannot open the opaque directory \"%s\"", path);
	if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return error_errno(err, errno, "cannot mark the directory \"%s\" opaque", path);
	return 0;
}

static int compression_of(const char *media_type, enum layer_compression *out, struct error *err) {
	static const struct {
		const char *media_type;
		enum layer_compression compression;
	} known[] = {
		{"application/vnd.oci.image.layer.v1.tar", LAYER_PLAIN},
		{"application/vnd.oci.image.layer.v1.tar+gzip", LAYER_GZIP},
		{"application/vnd.oci.image.layer.v1.tar+zstd", LAYER_ZSTD},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar", LAYER_PLAIN},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", LAYER_GZIP},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", LAYER_ZSTD},
		{"application/vnd.docker.image.rootfs.diff.tar", LAYER_PLAIN},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip", LAYER_GZIP},
		{"application/vnd.docker.image.rootfs.diff.tar.zstd", LAYER_ZSTD},
		{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", LAYER_GZIP},
	};
	*out = LAYER_DETECT;
	if (!media_type)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(media_type, known[i].media_type) == 0) {
			*out = known[i].compression;
			return 0;
		}
	return error_set(err, ERROR_UNSUPPORTED, "layers of media type \"%s\" are not supported", media_type);
}

int layer_unpack(int blob, const char *media_type, const char *diff_id, int target, uint64_t *size,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg, struct error *err) {
	struct unpack u = {.extract = {.layer = true, .keep_owner = true}, .target = target};
	int r = compression_of(media_type, &u.compression, err);
	if (r < 0)
		return r;
	struct confine_job job = {
		.archive = blob,
		.root = target,
		.prepare = prepare,
		.start = start,
		.work = work,
		.progress = progress,
		.opaque = mark_opaque,
		.arg = arg,
		.data = &u,
	};
	struct confine_result result = {0};
	r = confine_run(&job, &result, err);
	if (r < 0) {
		error_wrap(err, "cannot unpack the layer %s", diff_id);
		return r;
	}
	char digest[7 + 2 * LAYER_DIGEST_SIZE + 1] = "sha256:";
	hex_encode(result.digest, LAYER_DIGEST_SIZE, digest + 7);
	if (strcmp(digest, diff_id) != 0)
		return error_set(err, ERROR_CORRUPT, "the layer %s has the wrong content: its digest is %s", diff_id,
				 digest);
	if (size)
		*size = result.size;
	return 0;
}

static int mount_id(int fd, uint64_t *id) {
	struct statx sx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0)
		return -errno;
	*id = sx.stx_mnt_id;
	return 0;
}

int tree_unpack(int tar, int root, const char *path, const struct unpack_options *o, struct error *err) {
	_cleanup_(close_fd) int dir = fs_open_in_root(root, path, O_PATH | O_DIRECTORY, 0);
	if (dir < 0)
		return error_errno(err, dir, "cannot open the directory \"%s\"", path);
	if (tree_is_kernel_interface(dir))
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is an interface of the kernel: files cannot be copied there", path);
	uint64_t root_mount = 0, dir_mount = 0;
	int r = mount_id(root, &root_mount);
	if (r == 0)
		r = mount_id(dir, &dir_mount);
	if (r < 0)
		return error_errno(err, r, "cannot look at the directory \"%s\"", path);
	/* Links resolve as inside the container, unless path lies on a mount of its own (a volume): then
	 * they end at that. */
	bool own_mount = root_mount != dir_mount;
	_cleanup_(free_ptr) char *base = str_format("%s/", path);
	struct unpack u = {
		.extract =
			{
				.base = own_mount ? NULL : base,
				.uid_base = o->uid_base,
				.keep_owner = o->keep_owner,
				.no_overwrite_dir = o->no_overwrite_dir,
			},
		.compression = LAYER_DETECT,
	};
	struct confine_job job = {
		.archive = tar,
		.root = own_mount ? dir : root,
		.owner = o->uid_base,
		.prepare = prepare,
		.start = start,
		.work = work,
		.data = &u,
	};
	struct confine_result result = {0};
	r = confine_run(&job, &result, err);
	if (r < 0)
		error_wrap(err, "cannot unpack into \"%s\"", path);
	return r;
}
