/* Image archives, and tars that are to become images, into a content store of the fuzzer's own. */
#include "base/fs.h"
#include "base/str.h"
#include "image/archive.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/wabe-fuzz-XXXXXX";
static struct content *content;

static void finish(void) {
	content_close(content);
	fs_remove_tree(dir);
}

static bool keep_none(UNUSED const char *digest, UNUSED void *arg) {
	return false;
}

static void begin(void) {
	if (!mkdtemp(dir) || content_open(dir, &content, NULL) < 0)
		abort();
	atexit(finish);
}

static void as_image(int fd) {
	struct image *images;
	size_t n;
	if (archive_load(content, fd, &images, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (!content_has(content, images[i].id) || !content_has(content, images[i].digest))
			abort(); /* an image without its blobs */
		fields_free(&image_table, &images[i]);
	}
	free(images);
}

static void as_layer(int fd) {
	struct image image;
	if (image_from_tar(content, fd, &(struct build_options){.compression = "none"}, &image, NULL) == 0)
		fields_free(&image_table, &image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (!content)
		begin();
	int fd = memfd_create("archive", MFD_CLOEXEC);
	if (fd < 0 || fs_write_all(fd, data, size) < 0)
		abort();
	lseek(fd, 0, SEEK_SET);
	as_image(fd);
	lseek(fd, 0, SEEK_SET);
	as_layer(fd);
	close(fd);
	content_collect(content, keep_none, NULL, NULL, NULL);
	return 0;
}
