/* Runs a fuzz target over each file of a directory, and over cut and damaged copies of it: its corpus as an
 * ordinary test (TAP). */
#include "base/fs.h"

#include <dirent.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Memory of exactly the size, so that the sanitizer sees reads past the end. */
static void run(const char *data, size_t n) {
	_cleanup_(free_ptr) uint8_t *copy = malloc(n ? n : 1);
	if (!copy)
		abort();
	memcpy(copy, data, n);
	LLVMFuzzerTestOneInput(copy, n);
}

static void replay(struct buf *b) {
	run(buf_str(b), b->len);
	size_t step = b->len / 64 + 1;
	for (size_t n = 0; n < b->len; n += step) {
		run(b->data, n);
		char kept = b->data[n];
		b->data[n] = (char)(kept ^ 0x21);
		run(b->data, b->len);
		b->data[n] = kept;
	}
}

int main(int argc, char **argv) {
	DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
	if (!d) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 1;
	}
	int n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		_cleanup_(buf_free) struct buf b = BUF_INIT;
		int r = fs_read_at(dirfd(d), e->d_name, 16 << 20, &b);
		if (r == 0)
			replay(&b);
		printf("%sok %d - %s\n", r == 0 ? "" : "not ", ++n, e->d_name);
		fflush(stdout);
	}
	closedir(d);
	printf("%sok %d - there are seeds\n1..%d\n", n ? "" : "not ", n + 1, n + 1);
	return 0;
}
