/* The image, by libisofs: ISO 9660 with Joliet and Rock Ridge, so that every guest sees the files by their names. */
#include "seed/seed-priv.h"

#include "base/fs.h"

#define LIBISOFS_WITHOUT_LIBBURN /* it has struct burn_source itself then */
#include <libisofs/libisofs.h>
#include <pthread.h>

#define BLOCK 2048
/* Of everything on the medium: 2000-01-01. Whenever it is made, its bytes are the same. */
#define RECORDED ((time_t)946684800)
#define RECORDED_TEXT "2000010100000000"

/* libisofs keeps state of its own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int failed(int code, const char *what, struct error *err) {
	return error_set(err, ERROR_INTERNAL, "cannot %s of the medium for cloud-init: %s", what, iso_error_to_msg(code));
}

/* The directory of path, made if it is not there; *name is what is behind it. */
static int directory(IsoImage *image, const char *path, IsoDir **out, const char **name) {
	IsoDir *dir = iso_image_get_root(image);
	const char *p = path;
	for (const char *slash; (slash = strchr(p, '/')); p = slash + 1) {
		_cleanup_(free_ptr) char *part = str_copyn(p, (size_t)(slash - p));
		IsoNode *node = NULL;
		int r = iso_dir_get_node(dir, part, &node);
		if (r == 0) {
			IsoDir *made = NULL;
			r = iso_tree_add_new_dir(dir, part, &made);
			node = ISO_NODE(made);
		}
		if (r < 0)
			return r;
		dir = (IsoDir *)node;
	}
	*out = dir;
	*name = p;
	return 1;
}

static int file_add(IsoImage *image, const struct seed_file *f) {
	IsoDir *dir;
	IsoStream *stream;
	const char *name;
	size_t size = strlen(f->data);
	int r = directory(image, f->path, &dir, &name);
	if (r < 0)
		return r;
	unsigned char *data = malloc(size + 1); /* the stream's from here on */
	if (!data)
		return ISO_OUT_OF_MEM;
	memcpy(data, f->data, size + 1);
	r = iso_memory_stream_new(data, size, &stream);
	if (r < 0) {
		free(data);
		return r;
	}
	r = iso_tree_add_new_file(dir, name, stream, NULL);
	if (r < 0)
		iso_stream_unref(stream);
	return r;
}

static int options_set(IsoWriteOpts *o) {
	int r = 1;
	const int results[] = {
		iso_write_opts_set_iso_level(o, 3),
		iso_write_opts_set_rockridge(o, 1),
		iso_write_opts_set_joliet(o, 1),
		iso_write_opts_set_relaxed_vol_atts(o, 1), /* "cidata" is not to become "CIDATA" */
		iso_write_opts_set_appendable(o, 0),
		iso_write_opts_set_replace_mode(o, 2, 2, 2, 2),
		iso_write_opts_set_default_dir_mode(o, 0555),
		iso_write_opts_set_default_file_mode(o, 0400),
		iso_write_opts_set_default_uid(o, 0),
		iso_write_opts_set_default_gid(o, 0),
		iso_write_opts_set_replace_timestamps(o, 2),
		iso_write_opts_set_default_timestamp(o, RECORDED),
		iso_write_opts_set_always_gmt(o, 1),
		iso_write_opts_set_pvd_times(o, RECORDED, RECORDED, 0, 0, (char *)RECORDED_TEXT),
		iso_write_opts_set_output_charset(o, "UTF-8"),
	};
	for (size_t i = 0; i < ARRAY_SIZE(results) && r >= 0; i++)
		r = results[i];
	return r;
}

/* The library has a thread make it, and hands it over block by block. */
static int copy(IsoImage *image, IsoWriteOpts *options, int fd, struct error *err) {
	struct burn_source *source;
	unsigned char block[BLOCK];
	int n, r = iso_image_create_burn_source(image, options, &source);
	if (r < 0)
		return failed(r, "lay out the files", err);
	r = 0;
	while (r == 0 && (n = source->read_xt(source, block, BLOCK)) != 0)
		r = n < 0 ? failed(n, "read the blocks", err)
			  : (n = fs_write_all(fd, block, (size_t)n)) < 0 ? error_errno(err, n, "cannot write the medium for cloud-init") : 0;
	if (r < 0)
		source->cancel(source);
	source->free_data(source);
	free(source);
	return r;
}

static int image_fill(IsoImage *image, const struct seed_file *files) {
	int r = 1;
	for (; r >= 0 && files->path; files++)
		r = file_add(image, files);
	return r;
}

static int write_locked(const char *volume, const struct seed_file *files, int fd, struct error *err) {
	IsoImage *image = NULL;
	IsoWriteOpts *options = NULL;
	int result, r = iso_init();
	if (r >= 0)
		r = iso_image_new(volume, &image);
	if (r >= 0)
		r = image_fill(image, files);
	if (r >= 0)
		r = iso_write_opts_new(&options, 0);
	if (r >= 0)
		r = options_set(options);
	result = r < 0 ? failed(r, "take the files", err) : copy(image, options, fd, err);
	if (options)
		iso_write_opts_free(options);
	if (image)
		iso_image_unref(image);
	iso_finish();
	return result;
}

int iso_write(const char *volume, const struct seed_file *files, int fd, struct error *err) {
	pthread_mutex_lock(&lock);
	int r = write_locked(volume, files, fd, err);
	pthread_mutex_unlock(&lock);
	return r;
}
