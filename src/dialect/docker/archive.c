/* docker cp: files of a container as tars, and what is at a path of it. */
#include "dialect/docker/inside.h"

#include "base/base64.h"
#include "base/time.h"

#include <sys/stat.h>

/* ---- what is at a path ---- */

/* Go's FileMode: permissions as everywhere, the rest in bits of its own. */
static int64_t go_mode(int64_t mode) {
	static const struct {
		int64_t type, bits;
	} types[] = {
		{S_IFDIR, INT64_C(1) << 31}, {S_IFLNK, INT64_C(1) << 27}, {S_IFBLK, INT64_C(1) << 26},
		{S_IFCHR, INT64_C(1) << 26 | INT64_C(1) << 21}, {S_IFIFO, INT64_C(1) << 25}, {S_IFSOCK, INT64_C(1) << 24},
	};
	int64_t out = mode & 0777;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if ((mode & S_IFMT) == types[i].type)
			out |= types[i].bits;
	out |= mode & S_ISUID ? INT64_C(1) << 23 : 0;
	out |= mode & S_ISGID ? INT64_C(1) << 22 : 0;
	return out | (mode & S_ISVTX ? INT64_C(1) << 20 : 0);
}

/* The path without "." and "..", beginning with a slash: free it. */
static char *clean_path(const char *path) {
	_cleanup_(strv_free_ptr) char **parts = strv_split(path, '/');
	_cleanup_(free_ptr) const char **kept = alloc_array(strv_len(parts) + 1, sizeof *kept);
	struct buf out = BUF_INIT;
	size_t n = 0;
	for (size_t i = 0; parts[i]; i++) {
		if (str_same(parts[i], ".."))
			n -= n > 0;
		else if (*parts[i] && !str_same(parts[i], "."))
			kept[n++] = parts[i];
	}
	for (size_t i = 0; i < n; i++)
		buf_addf(&out, "/%s", kept[i]);
	if (!n)
		buf_addc(&out, '/');
	return buf_steal(&out);
}

/* Where a link at path leads, seen from the container's root; "" for what is none. */
static char *link_target(const char *path, const char *target) {
	if (!target || !*target)
		return str_copy("");
	_cleanup_(free_ptr) char *from = *target == '/' ? str_copy(target) : str_format("%s/../%s", path, target);
	return clean_path(from);
}

static void add_stat(struct http_request *req, const char *path, const struct msg_file *file) {
	_cleanup_(json_free_ptr) json_t *json = json_object();
	_cleanup_(free_ptr) char *target = link_target(path, file->link_target);
	json_object_set_new(json, "name", json_from_str(file->name));
	json_set_int(json, "size", file->size);
	json_set_int(json, "mode", go_mode(file->mode));
	json_object_set_new(json, "mtime", docker_time(file->mtime));
	json_object_set_new(json, "linkTarget", json_from_str(target));
	_cleanup_(free_ptr) char *text = json_print(json);
	_cleanup_(free_ptr) char *encoded = base64_encode(text, strlen(text));
	http_reply_header(req, "X-Docker-Container-Path-Stat", encoded);
}

/* ---- the requests ---- */

/* The path of the query, from the root; NULL: an error has been answered. Free it. */
static char *path_of(struct http_request *req) {
	const char *path = http_query(req, "path");
	if (path && *path)
		return *path == '/' ? str_copy(path) : str_format("/%s", path);
	docker_fail(req, 400, "bad parameter: 'path' cannot be empty");
	return NULL;
}

static void file_fail(struct http_request *req, const char *path, const struct error *err) {
	if (str_ends(error_text(err), ": Not a directory"))
		docker_fail(req, 400, "%s in container %s: not a directory", path, http_param(req, "id"));
	else if (err->kind == ERROR_NOT_FOUND)
		docker_fail(req, 404, "Could not find the file %s in container %s", path, http_param(req, "id"));
	else
		docker_container_fail(req, http_param(req, "id"), err);
}

void docker_archive_get(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(free_ptr) char *path = path_of(req);
	struct msg_file file;
	int fd = -1;
	if (!path || !docker_container(req, http_param(req, "id"), &snap))
		return;
	const char *id = snap->instance.id;
	bool look = str_same(http_method(req), "HEAD");
	int r = look ? instance_archive_stat(core_of(req), DOCKER_PROJECT, id, path, &file, &err)
		     : instance_archive_get(core_of(req), DOCKER_PROJECT, id, path, &file, &fd, &err);
	if (r < 0)
		return file_fail(req, path, &err);
	add_stat(req, path, &file);
	fields_free(&msg_file_table, &file);
	if (look)
		http_reply(req, 200, NULL, "", 0);
	else
		reply_stream_fd(req, TAR_TYPE, fd);
}

struct put {
	struct http_request *req;
	const char *id, *path;
};

static int put_body(int fd, void *arg, struct error *err) {
	struct put *p = arg;
	return instance_archive_put(core_of(p->req), DOCKER_PROJECT, p->id, p->path, true,
				    docker_query_bool(p->req, "noOverwriteDirNonDir"), fd, err);
}

/* Why nothing can be written there; NULL: it can. The innermost mount above the path counts, else the root. */
static const char *read_only(const struct instance_spec *spec, const char *path) {
	const struct mount *above = NULL;
	size_t longest = 0;
	for (size_t i = 0; i < spec->mounts.n; i++) {
		const struct mount *m = &spec->mounts.items[i];
		size_t n = strlen(m->target);
		if (n >= longest && str_starts(path, m->target) && (!path[n] || path[n] == '/')) {
			above = m;
			longest = n;
		}
	}
	if (above)
		return above->read_only ? "mounted volume is marked read-only" : NULL;
	return spec->read_only ? "container rootfs is marked read-only" : NULL;
}

static bool is_directory(struct http_request *req, const char *id, const char *path) {
	_cleanup_(free_ptr) char *followed = str_format("%s/.", path);
	struct msg_file file;
	if (instance_archive_stat(core_of(req), DOCKER_PROJECT, id, followed, &file, NULL) < 0)
		return false;
	fields_free(&msg_file_table, &file);
	return true;
}

/* Why it could not be unpacked there. */
static void put_failed(struct http_request *req, const struct put *p, const struct error *err) {
	struct msg_file file = {0};
	bool there = instance_archive_stat(core_of(req), DOCKER_PROJECT, p->id, p->path, &file, NULL) == 0;
	fields_free(&msg_file_table, &file);
	if (there && !is_directory(req, p->id, p->path))
		docker_fail(req, 400, "extraction point is not a directory");
	else
		file_fail(req, p->path, err);
}

void docker_archive_put(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(free_ptr) char *path = path_of(req);
	if (!path || !docker_container(req, http_param(req, "id"), &snap))
		return;
	const char *why_not = read_only(&snap->instance.spec, path);
	if (why_not)
		return docker_fail(req, 403, "%s", why_not);
	struct put p = {req, snap->instance.id, path};
	if (with_body(req, put_body, &p, &err) < 0)
		return put_failed(req, &p, &err);
	http_reply_empty(req, 200);
}
