/* Images out of the content store, and new ones from a tar: its bytes pass once, and on the way are checked
 * to be a whole tar, hashed, compressed, hashed again and stored. */
#include "image/archive.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "image/compress.h"
#include "image/hash.h"
#include "image/manifest.h"

#include <unistd.h>

#define CHUNK ((size_t)256 << 10)
#define TAR_BLOCK 512
#define TAR_END ((size_t)2 * TAR_BLOCK) /* zeros behind the last entry */
#define INDEX_DEPTH 4

int image_from_content(struct content *c, const char *manifest_digest, const struct registry_options *platform,
		       struct image *out, struct error *err) {
	_cleanup_(free_ptr) char *digest = str_copy(manifest_digest);
	for (int depth = 0; depth < INDEX_DEPTH; depth++) {
		_cleanup_(buf_free) struct buf text = BUF_INIT, config = BUF_INIT;
		struct manifest m = {0};
		const struct descriptor *d = NULL;
		int r = content_read(c, digest, &text, err);
		if (r == 0)
			r = manifest_parse(buf_str(&text), text.len, NULL, &m, err);
		if (r == 0 && m.index)
			r = manifest_select(&m, platform, &d, err);
		else if (r == 0)
			r = content_read(c, m.config.digest, &config, err);
		if (r == 0 && !m.index)
			r = image_from_parts(&m, digest, buf_str(&config), config.len, out, err);
		if (r == 0 && m.index) {
			free(digest);
			digest = str_copy(d->digest);
		}
		bool index = m.index;
		manifest_free(&m);
		if (r < 0 || !index)
			return r;
	}
	return error_set(err, ERROR_INVALID, "indexes refer to indexes without end");
}

struct builder {
	struct content *c;
	const struct build_options *o;
	int fd;
	struct ingest *ingest;
	struct hash *plain;	       /* of the uncompressed tar */
	struct compressor *compressor; /* NULL: the tar came compressed */
	enum compression kind;	       /* as stored */
	size_t head_passed;
	uint8_t first[TAR_BLOCK];
	size_t n_first;
	uint64_t size, zeros; /* of the uncompressed tar; zeros: at its end so far */
	char *digest, *diff_id;
	uint64_t stored;
};

/* --- the layer --- */

static int store(void *arg, const void *data, size_t n, struct error *err) {
	struct builder *b = arg;
	return ingest_write(b->ingest, data, n, err);
}

static void count_zeros(struct builder *b, const uint8_t *data, size_t n) {
	size_t at = n;
	while (at && data[at - 1] == 0)
		at--;
	b->zeros = at ? n - at : b->zeros + n;
}

/* Takes the uncompressed bytes. */
static int take_plain(void *arg, const void *data, size_t n, struct error *err) {
	struct builder *b = arg;
	size_t head = MIN(n, TAR_BLOCK - b->n_first);
	memcpy(b->first + b->n_first, data, head);
	b->n_first += head;
	b->size += n;
	count_zeros(b, data, n);
	hash_add(b->plain, data, n);
	return b->compressor ? compressor_add(b->compressor, data, n, err) : 0;
}

/* A header's checksum is the sum of its bytes, its own 8 taken as spaces. */
static bool is_tar_header(const uint8_t *h) {
	unsigned sum = 0, said = 0;
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : h[i];
	size_t i = 148;
	while (i < 156 && h[i] == ' ')
		i++;
	for (; i < 156 && h[i] >= '0' && h[i] <= '7'; i++)
		said = said * 8 + (unsigned)(h[i] - '0');
	return sum == said;
}

static int check_tar(const struct builder *b, struct error *err) {
	bool empty = b->zeros == b->size;
	if (b->n_first < TAR_BLOCK || (!empty && !is_tar_header(b->first)))
		return error_set(err, ERROR_INVALID, "it is not a tar archive, nor one compressed with gzip, bzip2, xz or zstd");
	if (b->zeros < TAR_END || b->size % TAR_BLOCK)
		return error_set(err, ERROR_CORRUPT, "the tar archive is cut off: its end mark is missing");
	return 0;
}

/* The next piece of the tar: what was read of it before comes first. */
static ssize_t next_piece(struct builder *b, char *chunk) {
	size_t had = MIN(b->o->n_head - b->head_passed, CHUNK);
	if (had)
		memcpy(chunk, (const char *)b->o->head + b->head_passed, had);
	b->head_passed += had;
	ssize_t n = fs_read_full(b->fd, chunk + had, CHUNK - had);
	return n < 0 ? n : n + (ssize_t)had;
}

/* As it came it becomes the blob, if a blob may be so. */
static int pass_compressed(struct builder *b, struct decompressor *d, const char *data, size_t n, struct error *err) {
	int r = b->compressor ? 0 : ingest_write(b->ingest, data, n, err);
	return r < 0 ? r : decompressor_add(d, data, n, err);
}

static int pass_all(struct builder *b, struct decompressor *d, char *chunk, ssize_t n, struct error *err) {
	uint64_t done = 0;
	while (n > 0) {
		int r = d ? pass_compressed(b, d, chunk, (size_t)n, err) : take_plain(b, chunk, (size_t)n, err);
		if (r < 0)
			return r;
		done += (uint64_t)n;
		if (b->o->progress)
			b->o->progress(done, b->o->arg);
		n = next_piece(b, chunk);
	}
	if (n < 0)
		return error_errno(err, (int)n, "cannot read the tar archive");
	return d ? decompressor_finish(d, err) : 0;
}

static int wanted_compression(const struct builder *b, enum compression *out, struct error *err) {
	const char *name = b->o->compression ? b->o->compression : "gzip";
	*out = !strcmp(name, "gzip") ? COMPRESSION_GZIP : !strcmp(name, "zstd") ? COMPRESSION_ZSTD : COMPRESSION_NONE;
	return *out || !strcmp(name, "none") ? 0 : error_field(err, "compression", "compression must be gzip, zstd or none");
}

static int read_layer(struct builder *b, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	_cleanup_(decompressor_free_ptr) struct decompressor *d = NULL;
	ssize_t n = next_piece(b, chunk);
	enum compression came = compression_of(chunk, n > 0 ? (size_t)n : 0);
	int r = wanted_compression(b, &b->kind, err);
	if (r < 0)
		return r;
	if (came == COMPRESSION_NONE || !compression_of_layers(came))
		b->compressor = compressor_new(b->kind, store, b);
	else
		b->kind = came;
	if (came != COMPRESSION_NONE)
		d = decompressor_new(came, take_plain, b);
	r = pass_all(b, d, chunk, n, err);
	if (r == 0)
		r = check_tar(b, err);
	if (r == 0 && b->compressor)
		r = compressor_finish(b->compressor, err);
	return r;
}

static int store_layer(struct builder *b, struct error *err) {
	int r = content_ingest(b->c, NULL, &b->ingest, err);
	if (r < 0)
		return r;
	b->plain = hash_new();
	r = read_layer(b, err);
	if (r < 0) {
		ingest_abort(TAKE_PTR(b->ingest));
		return r;
	}
	b->stored = ingest_offset(b->ingest);
	b->diff_id = hash_digest(b->plain);
	return ingest_commit(TAKE_PTR(b->ingest), &b->digest, err);
}

/* --- config and manifest --- */

static json_t *read_config(const struct builder *b, const struct image *image, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (content_read(b->c, image->id, &text, err) < 0)
		return NULL;
	return json_parse(buf_str(&text), text.len, err);
}

/* The layers of the base alone; steps above it have none any more. */
static int squash_config(const struct builder *b, json_t *o, struct error *err) {
	_cleanup_(json_free_ptr) json_t *base = b->o->base ? read_config(b, b->o->base, err) : json_object();
	if (!base)
		return -ERROR_CORRUPT;
	json_t *history = json_object_get(o, "history");
	for (size_t i = json_array_size(json_object_get(base, "history")); i < json_array_size(history); i++)
		json_set_bool(json_array_get(history, i), "empty_layer", true);
	json_t *rootfs = json_object_get(base, "rootfs");
	if (rootfs)
		json_object_set(o, "rootfs", rootfs);
	else
		json_object_del(o, "rootfs");
	return 0;
}

/* The base's own configuration, so that what wabe does not know of stays; or a new one. */
static json_t *begin_config(const struct builder *b, struct error *err) {
	static const char *const stale[] = {"container", "container_config", "id", "parent", "docker_version"};
	const struct image *base = b->o->squashed ? b->o->squashed : b->o->base;
	json_t *o;
	if (base) {
		o = read_config(b, base, err);
		for (size_t i = 0; i < ARRAY_SIZE(stale); i++)
			json_object_del(o, stale[i]);
		return o && b->o->squashed && squash_config(b, o, err) < 0 ? (json_decref(o), NULL) : o;
	}
	o = json_object();
	const char *architecture = b->o->architecture ? b->o->architecture : host_architecture();
	json_set_str(o, "architecture", architecture);
	if (!b->o->architecture || strcmp(architecture, host_architecture()) == 0)
		json_set_str(o, "variant", b->o->variant ? b->o->variant : host_variant());
	else
		json_set_str(o, "variant", b->o->variant);
	json_set_str(o, "os", b->o->os ? b->o->os : "linux");
	return o;
}

/* The member, made if it is not there or of another type. */
static json_t *array_of(json_t *o, const char *key) {
	json_t *a = json_object_get(o, key);
	if (!json_is_array(a))
		json_object_set_new(o, key, a = json_array());
	return a;
}

static size_t history_layers(const json_t *history) {
	size_t n = 0, i;
	json_t *entry;
	json_array_foreach(history, i, entry) n += !json_get_bool(entry, "empty_layer");
	return n;
}

static void add_history(json_t *config, const struct builder *b, const char *now) {
	const struct build_options *o = b->o;
	json_t *history = array_of(config, "history"), *entry = json_object();
	/* a history must have one entry for each layer, or readers refuse it */
	for (size_t have = history_layers(history); o->base && have < o->base->layers.n; have++)
		json_array_append_new(history, json_object());
	if (o->history) {
		json_decref(entry);
		json_array_append_new(history, json_deep_copy(o->history));
		return;
	}
	json_set_str(entry, "created", now);
	json_set_str(entry, "author", o->author);
	json_set_str(entry, "created_by", o->created_by);
	json_set_str(entry, "comment", o->comment);
	if (!b->diff_id)
		json_set_bool(entry, "empty_layer", true);
	json_array_append_new(history, entry);
}

/* Members of the base's that wabe does not know of stay. */
static void set_process(json_t *config, const struct image_config *process) {
	static const char *const known[] = {"User",	 "ExposedPorts", "Env",	  "Entrypoint",	 "Cmd",	  "Volumes",
					    "WorkingDir", "StopSignal",	  "Labels", "Healthcheck", "Shell", "OnBuild"};
	json_t *own = json_object_get(config, "config");
	if (!json_is_object(own))
		json_object_set_new(config, "config", own = json_object());
	if (!process)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		json_object_del(own, known[i]);
	_cleanup_(json_free_ptr) json_t *wanted = config_print(process);
	json_object_update(own, wanted);
}

static char *make_config(const struct builder *b, struct error *err) {
	_cleanup_(json_free_ptr) json_t *config = begin_config(b, err);
	if (!config)
		return NULL;
	char now[TIME_TEXT_MAX];
	time_format(time_now_ns(), now);
	json_set_str(config, "created", now);
	json_set_str(config, "author", b->o->author);
	set_process(config, b->o->config);
	json_t *rootfs = json_object_get(config, "rootfs");
	if (!rootfs)
		json_object_set_new(config, "rootfs", rootfs = json_object());
	json_set_str(rootfs, "type", "layers");
	json_t *diff_ids = array_of(rootfs, "diff_ids");
	if (b->diff_id)
		json_array_append_new(diff_ids, json_string(b->diff_id));
	add_history(config, b, now);
	return json_print(config);
}

static void add_layer(struct image *image, const struct image_layer *l) {
	image->layers.items = alloc_resize(image->layers.items, image->layers.n + 1, sizeof *image->layers.items);
	image->layers.items[image->layers.n++] =
		(struct image_layer){str_copy(l->digest), str_copy(l->diff_id), str_copy(l->media_type), l->size};
}

static int store_image(struct builder *b, struct image *made, char **digest, struct error *err) {
	_cleanup_(free_ptr) char *config = make_config(b, err);
	if (!config)
		return err ? -(int)err->kind : -ERROR_INTERNAL;
	int r = content_put(b->c, config, strlen(config), &made->id, err);
	if (r < 0)
		return r;
	for (size_t i = 0; b->o->base && i < b->o->base->layers.n; i++)
		add_layer(made, &b->o->base->layers.items[i]);
	static const char *const types[] = {TYPE_OCI_LAYER, TYPE_OCI_LAYER "+gzip", TYPE_OCI_LAYER "+zstd"};
	const struct image_layer top = {b->digest, b->diff_id, (char *)(uintptr_t)types[b->kind], (int64_t)b->stored};
	if (b->o->layer || b->diff_id)
		add_layer(made, b->o->layer ? b->o->layer : &top);
	_cleanup_(free_ptr) char *manifest = manifest_print(made, (int64_t)strlen(config));
	return content_put(b->c, manifest, strlen(manifest), digest, err);
}

static int build(struct builder *b, struct image *out, struct error *err) {
	struct image made;
	_cleanup_(free_ptr) char *digest = NULL;
	fields_init(&image_table, &made);
	if (b->o->layer)
		b->diff_id = str_copy(b->o->layer->diff_id);
	int r = b->fd < 0 ? 0 : store_layer(b, err);
	if (r == 0)
		r = store_image(b, &made, &digest, err);
	fields_free(&image_table, &made);
	return r < 0 ? r : image_from_content(b->c, digest, NULL, out, err);
}

int image_from_tar(struct content *c, int fd, const struct build_options *o, struct image *out, struct error *err) {
	struct builder b = {.c = c, .o = o, .fd = fd};
	content_hold(c);
	int r = build(&b, out, err);
	content_release(c);
	compressor_free(b.compressor);
	hash_free(b.plain);
	free(b.digest);
	free(b.diff_id);
	return r;
}
