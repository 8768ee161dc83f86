/* Layers (of even size) and trees: any bytes as a blob (plain, gzip or zstd), extracted without confinement into a
 * directory in memory, where openat2 alone keeps it inside; what came out is packed and compared. A file beside the
 * directory must never change. */
#include "base/fs.h"
#include "base/str.h"
#include "image/layer-extract.h"
#include "image/layer-stream.h"
#include "image/layer.h"

#include <archive.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((rlim_t)1 << 20)

static char *top;
static int top_fd = -1, sink = -1;

static void clean_up(void) {
	fs_remove_tree(top);
	free(top);
}

static void set_up(void) {
	top = str_format("/dev/shm/wabe-layer-fuzz.%d", getpid());
	if (fs_mkdir_p(top, 0700) < 0)
		abort();
	atexit(clean_up);
	top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int beside = openat(top_fd, "beside", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (top_fd < 0 || sink < 0 || beside < 0)
		abort();
	close(beside);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){FILE_MAX, FILE_MAX});
}

static ssize_t read_stream(struct archive *a, void *arg, const void **block) {
	ssize_t n = layer_stream_next(arg, block, NULL);
	if (n < 0)
		archive_set_error(a, EIO, "damaged");
	return n < 0 ? -1 : n;
}

static struct archive *new_archive(void) {
	struct archive *a = archive_read_new();
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	return a;
}

static void extract(struct archive *a, int root, bool layer) {
	struct extract x = {
		.root = root, .layer = layer, .uid_base = layer ? 0 : 100000, .keep_owner = true, .max_entries = 1000};
	extract_archive(&x, a, NULL);
	strv_free(x.opaque);
}

static void extract_plain(const uint8_t *data, size_t size, int root) {
	struct archive *a = new_archive();
	if (archive_read_open_memory(a, data, size) == ARCHIVE_OK)
		extract(a, root, size % 2 == 0);
	archive_read_free(a);
}

static void extract_stream(const uint8_t *data, size_t size, int root) {
	_cleanup_(close_fd) int blob = memfd_create("layer", MFD_CLOEXEC);
	_cleanup_(layer_stream_close_ptr) struct layer_stream *s = NULL;
	if (blob < 0 || fs_write_all(blob, data, size) < 0 || layer_stream_open(blob, LAYER_DETECT, &s, NULL) < 0 ||
	    layer_stream_start(s, NULL) < 0)
		abort();
	struct archive *a = new_archive();
	if (archive_read_open(a, s, NULL, read_stream, NULL) == ARCHIVE_OK)
		extract(a, root, size % 2 == 0);
	uint8_t digest[LAYER_DIGEST_SIZE];
	layer_stream_finish(s, digest, NULL);
	archive_read_free(a);
}

static void ignore_change(UNUSED char kind, UNUSED const char *path, UNUSED void *arg) {
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (!top)
		set_up();
	if (size > FILE_MAX)
		return 0;
	if (mkdirat(top_fd, "root", 0755) < 0)
		abort();
	_cleanup_(close_fd) int root = openat(top_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* the decoders and their thread only where there is something for them */
	if (size > 4 && (memcmp(data, "\x1f\x8b", 2) == 0 || memcmp(data, "\x28\xb5\x2f\xfd", 4) == 0))
		extract_stream(data, size, root);
	else
		extract_plain(data, size, root);
	layer_pack(root, 0, sink, NULL, NULL, NULL);
	layer_changes(root, &root, 1, ignore_change, NULL, NULL);
	struct stat st;
	if (fstatat(top_fd, "beside", &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size != 0 || st.st_nlink != 1)
		abort();
	if (fs_remove_tree_at(top_fd, "root") < 0)
		abort();
	return 0;
}
