/* Packets of a client that sends its files: any are taken or refused, and what was made of them is a tree that can be walked and read.
 * The input is packets, each behind two bytes with its length. */
#include "base/fs.h"
#include "base/str.h"
#include "build/tree.h"
#include "dialect/docker/buildkit-priv.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct tree *t, const struct tree_node *dir) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	for (size_t i = 0; list[i]; i++) {
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		if (S_ISREG(list[i]->mode) && list[i]->digest && list[i]->size < 65536 && tree_content(t, list[i], 65536, &text, NULL) < 0)
			abort();
		if (S_ISDIR(list[i]->mode))
			walk(t, list[i]);
	}
}

static void take_all(struct bk_intake *i, const uint8_t *data, size_t size) {
	_cleanup_(buf_free) struct buf answer = BUF_INIT;
	int r = 0;
	while (r == 0 && size >= 2) {
		size_t n = MIN((size_t)(data[0] << 8 | data[1]), size - 2);
		r = bk_intake_packet(i, data + 2, n, NULL);
		data += 2 + n;
		size -= 2 + n;
		while (r == 0 && (r = bk_intake_answer(i, &answer, NULL)) > 0) {
			r = 0;
			buf_truncate(&answer, 0);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(memfd_create("spool", MFD_CLOEXEC));
	struct bk_intake *i = bk_intake_new(t, NULL);
	take_all(i, data, size);
	bk_intake_free(i);
	walk(t, tree_root(t));
	/* once more, when all of it has come before */
	_cleanup_(tree_free_ptr) struct tree *again = tree_new(memfd_create("spool", MFD_CLOEXEC));
	i = bk_intake_new(again, t);
	take_all(i, data, size);
	bk_intake_free(i);
	walk(again, tree_root(again));
	return 0;
}
