/* The image room as a program, for tests: one verb on one content directory. Prints the images as JSON
 * lines, or "KIND: message" on standard error and exits with 1. Options come from the environment:
 * TOOL_USERNAME, TOOL_PASSWORD, TOOL_PLAIN, TOOL_INSECURE, TOOL_MIRRORS (by commas), TOOL_CERTS, TOOL_ARCHITECTURE, TOOL_VARIANT,
 * TOOL_PARALLEL, TOOL_CANCEL_AFTER (bytes), TOOL_VERBOSE, TOOL_COMPRESSION, TOOL_TWICE (two pulls at once). */
#include "base/str.h"
#include "base/time.h"
#include "image/archive.h"
#include "image/registry.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile bool cancelled;
static uint64_t cancel_after;
static bool verbose;

static void on_progress(const char *blob, uint64_t done, uint64_t total, const char *what, UNUSED void *arg) {
	if (cancel_after && done >= cancel_after)
		__atomic_store_n(&cancelled, true, __ATOMIC_RELAXED);
	if (verbose || strcmp(what, "retrying") == 0)
		fprintf(stderr, "%s %s %" PRIu64 "/%" PRIu64 "\n", what, blob, done, total);
}

static void on_layer(const struct image_layer *layer, UNUSED void *arg) {
	printf("ready %s %s\n", layer->digest, layer->diff_id);
	fflush(stdout);
}

static struct registry_options options_from_env(void) {
	const char *mirrors = getenv("TOOL_MIRRORS"), *parallel = getenv("TOOL_PARALLEL"),
		   *after = getenv("TOOL_CANCEL_AFTER");
	static int certs[2] = {-1, -1};
	if (getenv("TOOL_CERTS"))
		certs[0] = open(getenv("TOOL_CERTS"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (after)
		cancel_after = strtoull(after, NULL, 10);
	verbose = getenv("TOOL_VERBOSE");
	return (struct registry_options){
		.username = getenv("TOOL_USERNAME"),
		.password = getenv("TOOL_PASSWORD"),
		.plain_http = getenv("TOOL_PLAIN"),
		.insecure_tls = getenv("TOOL_INSECURE"),
		.mirrors = mirrors ? strv_split(mirrors, ',') : NULL,
		.certificates = certs,
		.architecture = getenv("TOOL_ARCHITECTURE"),
		.variant = getenv("TOOL_VARIANT"),
		.parallel = parallel ? atoi(parallel) : 0,
		.progress = on_progress,
		.layer_ready = on_layer,
		.cancel = &cancelled,
		.retry_delay = 10 * NS_PER_MS,
		.stall_timeout = 2 * NS_PER_SEC,
	};
}

static void print_image(const struct image *image) {
	json_t *o = fields_print(&image_table, image);
	char *text = json_print(o);
	puts(text);
	free(text);
	json_decref(o);
}

struct pulling {
	struct content *c;
	const struct image_ref *ref;
	const struct registry_options *o;
	struct image image;
	struct error err;
	int r;
};

static void *pull_thread(void *arg) {
	struct pulling *p = arg;
	p->r = registry_pull(p->c, p->ref, p->o, &p->image, &p->err);
	return NULL;
}

static int pull(struct content *c, const char *name, struct error *err) {
	struct image_ref ref;
	struct registry_options o = options_from_env();
	int r = image_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	struct pulling p[2] = {{.c = c, .ref = &ref, .o = &o}, {.c = c, .ref = &ref, .o = &o}};
	size_t n = getenv("TOOL_TWICE") ? 2 : 1;
	pthread_t threads[2];
	for (size_t i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, pull_thread, &p[i]);
	for (size_t i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		if (p[i].r < 0) {
			r = error_move(err, &p[i].err);
			continue;
		}
		print_image(&p[i].image);
		fields_free(&image_table, &p[i].image);
	}
	image_ref_free(&ref);
	strv_free((char **)o.mirrors);
	return r;
}

static int push(struct content *c, const char *digest, const char *name, struct error *err) {
	struct image_ref ref = {0};
	struct image image = {0};
	struct registry_options o = options_from_env();
	int r = image_ref_parse(name, &ref, err);
	if (r == 0)
		r = image_from_content(c, digest, NULL, &image, err);
	if (r == 0)
		r = registry_push(c, &image, &ref, &o, err);
	fields_free(&image_table, &image);
	image_ref_free(&ref);
	return r;
}

static int load(struct content *c, const char *dir, struct error *err) {
	struct image *images;
	size_t n;
	int r = dir ? archive_load_layout(c, dir, &images, &n, err) : archive_load(c, STDIN_FILENO, &images, &n, err);
	for (size_t i = 0; i < n; i++) {
		print_image(&images[i]);
		fields_free(&image_table, &images[i]);
	}
	free(images);
	return r;
}

/* save DIGEST NAME [DIGEST NAME …] */
static int save(struct content *c, char **args, struct error *err) {
	struct image images[16] = {0};
	size_t n = 0;
	int r = 0;
	for (; r == 0 && args[0] && args[1] && n < ARRAY_SIZE(images); args += 2) {
		r = image_from_content(c, args[0], NULL, &images[n], err);
		if (r == 0)
			strv_add(&images[n++].names, args[1]);
	}
	if (r == 0)
		r = archive_save(c, images, n, STDOUT_FILENO, err);
	for (size_t i = 0; i < n; i++)
		fields_free(&image_table, &images[i]);
	return r;
}

static int import(struct content *c, const char *base_digest, struct error *err) {
	struct image base = {0}, image;
	char *command[] = {"/bin/sh", NULL}, *env[] = {"A=1", NULL}, *test[] = {"CMD", "true", NULL};
	struct image_config config = {
		.command = command, .env = env, .health = {.command = test, .interval = 5 * NS_PER_SEC}};
	struct build_options o = {.config = base_digest ? NULL : &config,
				  .comment = "imported",
				  .created_by = "image_tool",
				  .compression = getenv("TOOL_COMPRESSION")};
	int r = base_digest ? image_from_content(c, base_digest, NULL, &base, err) : 0;
	if (base_digest)
		o.base = &base;
	if (r == 0)
		r = image_from_tar(c, STDIN_FILENO, &o, &image, err);
	if (r == 0) {
		print_image(&image);
		fields_free(&image_table, &image);
	}
	fields_free(&image_table, &base);
	return r;
}

static int show(struct content *c, const char *digest, struct error *err) {
	struct image image;
	struct registry_options o = options_from_env();
	int r = image_from_content(c, digest, &o, &image, err);
	if (r == 0) {
		print_image(&image);
		fields_free(&image_table, &image);
	}
	strv_free((char **)o.mirrors);
	return r;
}

static int run(struct content *c, int argc, char **argv, struct error *err) {
	const char *verb = argv[2];
	if (!strcmp(verb, "pull") && argc == 4)
		return pull(c, argv[3], err);
	if (!strcmp(verb, "push") && argc == 5)
		return push(c, argv[3], argv[4], err);
	if (!strcmp(verb, "load"))
		return load(c, argv[3], err);
	if (!strcmp(verb, "save"))
		return save(c, argv + 3, err);
	if (!strcmp(verb, "import"))
		return import(c, argv[3], err);
	if (!strcmp(verb, "show") && argc == 4)
		return show(c, argv[3], err);
	return error_set(err, ERROR_INVALID, "unknown verb %s", verb);
}

int main(int argc, char **argv) {
	if (argc < 3) {
		fprintf(stderr, "usage: image_tool DIR pull|push|load|save|import|show …\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct content *c;
	int r = content_open(argv[1], &c, &err);
	if (r == 0) {
		r = run(c, argc, argv, &err);
		content_close(c);
	}
	if (r == 0)
		return 0;
	fprintf(stderr, "%s: %s\n", error_kind_name(err.kind), error_text(&err));
	return r == -(int)err.kind ? 1 : 3;
}
