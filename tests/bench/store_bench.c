/* Acknowledged writes a second, from one thread and from eight, against a bare loop of pwrite and fdatasync on
 * the same file system. Each phase takes about a second. Usage: store_bench [DIRECTORY] */
#include "base/fs.h"
#include "base/time.h"
#include "store/store.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define PHASE NS_PER_SEC
#define VALUE ((size_t)1500)

struct writer {
	pthread_t thread;
	struct store *store;
	int number;
	uint64_t done;
	int64_t end;
};

static char value[VALUE];

static void *write_on(void *arg) {
	struct writer *w = arg;
	char key[32];

	snprintf(key, sizeof(key), "instances/default/%d", w->number);
	while (time_mono_ns() < w->end) {
		if (store_put(w->store, key, value, STORE_ANY, NULL, NULL))
			abort();
		w->done++;
	}
	return NULL;
}

static double writes_per_second(struct store *s, int threads) {
	struct writer w[8];
	int64_t start = time_mono_ns();
	uint64_t sum = 0;

	for (int i = 0; i < threads; i++) {
		w[i] = (struct writer){.store = s, .number = i, .end = start + PHASE};
		pthread_create(&w[i].thread, NULL, write_on, &w[i]);
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(w[i].thread, NULL);
		sum += w[i].done;
	}
	return (double)sum * 1e9 / (double)(time_mono_ns() - start);
}

static double bare_per_second(const char *dir) {
	_cleanup_(free_ptr) char *path = str_format("%s/bare", dir);
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int64_t start = time_mono_ns(), end = start + PHASE;
	uint64_t n = 0;

	if (fd < 0)
		abort();
	for (; time_mono_ns() < end; n++)
		if (pwrite(fd, value, VALUE, (off_t)((n % 1000) * VALUE)) < 0 || fdatasync(fd))
			abort();
	return (double)n * 1e9 / (double)(time_mono_ns() - start);
}

static double reads_per_second(struct store *s) {
	int64_t start = time_mono_ns(), end = start + PHASE;
	uint64_t n = 0;

	for (; time_mono_ns() < end; n++) {
		struct store_item i;
		if (store_get(s, "instances/default/0", &i, NULL))
			abort();
		store_item_free(&i);
	}
	return (double)n * 1e9 / (double)(time_mono_ns() - start);
}

int main(int argc, char **argv) {
	_cleanup_(free_ptr) char *dir = str_format("%s/store-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp"), *path = NULL;
	struct error err = ERROR_INIT;
	struct store *s;
	double bare, one, eight;

	memset(value, 'v', VALUE - 1);
	if (!mkdtemp(dir))
		return 1;
	path = str_format("%s/store.db", dir);
	if (store_open_sqlite(path, &s, &err)) {
		fprintf(stderr, "%s\n", error_text(&err));
		return 1;
	}
	bare = bare_per_second(dir);
	one = writes_per_second(s, 1);
	eight = writes_per_second(s, 8);
	printf("bare pwrite+fdatasync  %9.0f a second\n", bare);
	printf("store, 1 thread        %9.0f a second   %5.2f x bare\n", one, one / bare);
	printf("store, 8 threads       %9.0f a second   %5.2f x bare\n", eight, eight / bare);
	printf("store, reads           %9.0f a second\n", reads_per_second(s));
	store_close(s);
	fs_remove_tree(dir);
	return 0;
}
