/* What a solve has made goes where its exporter says: it gets names here, or goes to the client as files or an archive. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/docker/docker-priv.h"

#include "core/images.h"
#include "core/instances.h"

#include <errno.h>
#include <unistd.h>

bool bk_solve_makes_image(const struct bk_solve *s) {
	return str_same(s->exporter, "moby") || str_same(s->exporter, "image");
}

/* Of the image, as docker save has it, which is both Docker's and OCI's. */
static bool is_archive(const struct bk_solve *s) {
	return str_same(s->exporter, "docker") || str_same(s->exporter, "oci");
}

int bk_solve_check_export(const struct bk_solve *s, struct error *err) {
	const char *type = s->exporter, *push = pairs_get(&s->exporter_attrs, "push");
	bool to_client = str_same(type, "local") || str_same(type, "tar") || is_archive(s);
	const char *unpacked = pairs_get(&s->exporter_attrs, "tar");
	if (*type && !bk_solve_makes_image(s) && !to_client)
		return error_set(err, ERROR_UNSUPPORTED, "exporter \"%.32s\" could not be found", type);
	if (is_archive(s) && unpacked && !str_same(unpacked, "true"))
		return error_set(err, ERROR_UNSUPPORTED, "the exporter's option tar=%.32s is not supported by this engine: %s makes an archive", unpacked, type);
	if (push && !str_same(push, "false"))
		return error_set(err, ERROR_UNSUPPORTED,
				 "the exporter's option push is not supported by this engine: push the image when it is built");
	_cleanup_(strv_free_ptr) char **names = NULL;
	bk_take_list(pairs_get(&s->exporter_attrs, "name"), &names);
	for (char **n = names; n && *n; n++) {
		struct image_ref ref;
		if (image_ref_parse(*n, &ref, NULL) < 0)
			return error_set(err, ERROR_INVALID, "invalid reference format");
		image_ref_free(&ref);
	}
	return to_client && !s->session ? error_set(err, ERROR_INVALID, "exporter \"%s\" needs a session", type) : 0;
}

static int send_result(const struct bk_solve *s, int fd, bool as_tar, struct error *err) {
	if (as_tar)
		return bk_send_stream(s->session, fd, err);
	int spool = core_spool(s->core, err);
	if (spool < 0)
		return spool;
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool);
	int r = tree_read(t, fd, "", true, err);
	return r < 0 ? r : bk_send_files(s->session, t, err);
}

static int export_files(const struct bk_solve *s, size_t step, const char *image, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	struct msg_file file = {0};
	int r = image_tree(s->core, DOCKER_PROJECT, image, "/", &file, &fd, err);
	fields_free(&msg_file_table, &file);
	bk_step_part(s->progress, step, "copying files", 0, 0, false);
	return r < 0 ? r : send_result(s, fd, str_same(s->exporter, "tar"), err);
}

static int name_image(const struct bk_solve *s, size_t step, const char *image, const char *name, struct error *err) {
	struct image_snap *snap;
	struct image_ref ref;
	int r = image_tag(s->core, DOCKER_PROJECT, image, name, &snap, err);
	if (r == 0)
		r = image_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	image_snap_unref(snap);
	_cleanup_(free_ptr) char *whole = image_ref_print(&ref), *naming = str_format("naming to %s", whole);
	image_ref_free(&ref);
	bk_step_part(s->progress, step, naming, 0, 0, true);
	return 0;
}

static int export_image(const struct bk_solve *s, size_t step, const char *image, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(free_ptr) char *writing = str_format("writing image %s", image);
	bk_step_part(s->progress, step, "exporting layers", 0, 0, true);
	bk_step_part(s->progress, step, writing, 0, 0, true);
	bk_take_list(pairs_get(&s->exporter_attrs, "name"), &names);
	int r = 0;
	for (char **n = names; r == 0 && n && *n; n++)
		r = name_image(s, step, image, *n, err);
	return r;
}

static int export_archive(const struct bk_solve *s, size_t step, const char *image, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(close_fd) int fd = core_spool(s->core, err);
	if (fd < 0)
		return fd;
	bk_take_list(pairs_get(&s->exporter_attrs, "name"), &names);
	bk_step_part(s->progress, step, "exporting layers", 0, 0, false);
	int r = image_save_as(s->core, DOCKER_PROJECT, image, names, fd, err);
	if (r < 0)
		return r;
	bk_step_part(s->progress, step, "exporting layers", 0, 0, true);
	bk_step_part(s->progress, step, "sending tarball", 0, 0, false);
	return lseek(fd, 0, SEEK_SET) < 0 ? error_errno(err, errno, "reading the archive") : bk_send_stream(s->session, fd, err);
}

static const char *export_text(const struct bk_solve *s) {
	return bk_solve_makes_image(s) ? "exporting to image" : is_archive(s) ? "exporting to oci image format"
	       : str_same(s->exporter, "tar") ? "exporting to client tarball" : "exporting to client directory";
}

int bk_solve_export(const struct bk_solve *s, const char *image_id, struct error *err) {
	if (!*s->exporter)
		return 0;
	size_t step = bk_step_begin(s->progress, export_text(s));
	int r = bk_solve_makes_image(s) ? export_image(s, step, image_id, err)
	        : is_archive(s)		? export_archive(s, step, image_id, err)
					: export_files(s, step, image_id, err);
	bk_step_end(s->progress, step, r < 0 ? error_text(err) : NULL);
	return r;
}
