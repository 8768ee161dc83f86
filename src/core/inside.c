/* What reaches into an instance: attach, exec, statistics, files. */
#include "core/core-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "image/archive.h"
#include "image/compress.h"
#include "shim/protocol.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHIM_WAIT_MS 5000
#define ATTACH_TRIES 3

static void publish(struct core *c, const struct instance_snap *s, const char *action, const char *key,
		    const char *value) {
	const struct instance *i = &s->instance;
	WITH_LOCK(c);
	event_add(c, "instance", action, i->project, i->id, i->spec.name, "image", i->spec.image, key, value, NULL);
}

/* A request whose body is the instance's id alone. */
static int call_id(struct core *c, const char *project, const char *name, const char *request, void *out,
		   struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_id body = {.id = snap->instance.id};
	return agent_call(c, request, &body, out, err);
}

int stream_expected(int fd, struct error *err) {
	return fd >= 0 ? 0 : error_set(err, ERROR_INTERNAL, "the agent has sent no stream");
}

static int attach(struct core *c, const struct instance_snap *s, const char *exec_id, bool in, bool out, bool errors,
		  int *fd, struct error *err) {
	struct msg_attach body = {
		.id = s->instance.id,
		.exec_id = (char *)exec_id,
		.stdin_ = in,
		.stdout_ = out,
		.stderr_ = errors,
	};
	int r = agent_call_fd(c, exec_id ? "exec-attach" : "attach", &body, -1, NULL, fd, err);
	return r < 0 ? r : stream_expected(*fd, err);
}

/* Until the shim has taken the attach: what it sends first says so. */
static bool wait_for_shim(int fd) {
	struct pollfd p = {fd, POLLIN, 0};
	return RETRY_EINTR(poll(&p, 1, SHIM_WAIT_MS)) == 1;
}

int instance_attach(struct core *c, const char *project, const char *name, bool in, bool out, bool errors, int *fd,
		    struct error *err) {
	struct entry *e;
	int r = entry_get(c, project, name, &e, err);
	if (r < 0)
		return r;
	for (int tries = 0; tries < ATTACH_TRIES; tries++) {
		core_lock(c);
		unsigned ends = e->ends;
		core_unlock(c);
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
		bool up = state_is_up(snap->instance.status.state);
		r = attach(c, snap, NULL, in, out, errors, fd, err);
		if (r == 0 && up)
			wait_for_shim(*fd);
		if (r == 0)
			publish(c, snap, "attach", NULL, NULL);
		if (r != -ERROR_CONFLICT || !up)
			break;
		event_await(c, &e->ends, ends); /* that run is just ending: the next one can be attached to */
	}
	entry_unref(c, e);
	return r;
}

int instance_exec_attach(struct core *c, const char *project, const char *name, const char *exec_id, int *fd,
			 struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	return r < 0 ? r : attach(c, snap, exec_id, true, true, true, fd, err);
}

int terminal_resize(struct core *c, const char *id, const char *exec_id, int64_t rows, int64_t columns, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	struct msg_attach body = {.id = (char *)id, .exec_id = (char *)exec_id};
	const char frame[SHIM_HEADER + 4] = {SHIM_RESIZE, 0, 0, 0, 0, 0, 0, 4,
					     (char)(rows >> 8), (char)rows, (char)(columns >> 8), (char)columns};
	if (rows < 0 || rows > UINT16_MAX || columns < 0 || columns > UINT16_MAX)
		return error_set(err, ERROR_INVALID, "a terminal has at most %d rows and columns", UINT16_MAX);
	int r = agent_call_fd(c, exec_id ? "exec-attach" : "attach", &body, -1, NULL, &fd, err);
	if (r == 0)
		r = stream_expected(fd, err);
	if (r < 0)
		return r;
	/* it goes in before the attach is answered: a shim that cannot answer any more takes nothing */
	if (send(fd, frame, sizeof frame, MSG_NOSIGNAL) != (ssize_t)sizeof frame || !wait_for_shim(fd))
		return error_set(err, ERROR_CONFLICT, "the terminal of %.12s has ended", exec_id ? exec_id : id);
	return 0;
}

int instance_resize(struct core *c, const char *project, const char *name, int64_t rows, int64_t columns,
		    struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	if (!state_is_up(snap->instance.status.state))
		return error_set(err, ERROR_CONFLICT, "instance %s is %s: it has no terminal", snap->instance.spec.name,
				 snap->instance.status.state);
	r = terminal_resize(c, snap->instance.id, NULL, rows, columns, err);
	if (r < 0)
		return r;
	char height[24], width[24];
	snprintf(height, sizeof height, "%lld", (long long)rows);
	snprintf(width, sizeof width, "%lld", (long long)columns);
	const struct instance *i = &snap->instance;
	WITH_LOCK(c);
	event_add(c, "instance", "resize", i->project, i->id, i->spec.name, "image", i->spec.image, "rows", height, "columns",
		  width, NULL);
	return 0;
}

void instance_detached(struct core *c, const char *project, const char *id, const char *exec_id) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (instance_get(c, project, id, &snap, NULL) == 0)
		publish(c, snap, exec_id ? "exec_detach" : "detach", exec_id ? "exec_id" : NULL, exec_id);
}

int instance_exec_state(struct core *c, const char *project, const char *name, const char *exec_id,
			struct msg_exec_state *out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	struct msg_exec body = {.id = snap ? snap->instance.id : NULL, .exec_id = (char *)exec_id};
	return r < 0 ? r : agent_call(c, "exec-state", &body, out, err);
}

int instance_stats(struct core *c, const char *project, const char *name, struct msg_stats *out, struct error *err) {
	return call_id(c, project, name, "instance-stats", out, err);
}

int instance_top(struct core *c, const char *project, const char *name, struct msg_processes *out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = call_id(c, project, name, "instance-top", out, err);
	if (r == 0 && instance_get(c, project, name, &snap, NULL) == 0)
		publish(c, snap, "top", NULL, NULL);
	return r;
}

int instance_health(struct core *c, const char *project, const char *name, struct msg_health *out, struct error *err) {
	return call_id(c, project, name, "instance-health", out, err);
}

int instance_size(struct core *c, const char *project, const char *name, int64_t *bytes, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	struct msg_volume_usage usage = {0};
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_volume_ref root = {.pool_id = snap->instance.pool_id, .id = snap->instance.id};
	r = agent_call(c, "volume-usage", &root, &usage, err);
	if (r < 0)
		return r;
	*bytes = usage.used;
	fields_free(&msg_volume_usage_table, &usage);
	return 0;
}

char *instance_file(struct core *c, const struct instance *i, const char *name) {
	WITH_LOCK(c);
	return c->host.directory ? str_format("%s/instances/%s/%s", c->host.directory, i->id, name) : NULL;
}

int instance_diff(struct core *c, const char *project, const char *name,
		  void (*fn)(char kind, const char *path, void *arg), void *arg, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(buf_free) struct buf all = BUF_INIT;
	_cleanup_(close_fd) int fd = -1;
	int r = instance_get(c, project, name, &snap, err);
	struct msg_id body = {.id = snap ? snap->instance.id : NULL};
	if (r == 0)
		r = agent_call_fd(c, "instance-diff", &body, -1, NULL, &fd, err);
	if (r == 0)
		r = stream_expected(fd, err);
	if (r < 0)
		return r;
	r = fs_read_fd(fd, CHANGES_MAX, &all);
	if (r < 0)
		return error_errno(err, r, "reading the changes of %s", name);
	for (const char *p = buf_str(&all), *end = p + all.len; p < end; p += strlen(p) + 1)
		fn(p[0], p + 1, arg);
	return 0;
}

/* ---- files ---- */

/* event: what is published when it is done; NULL: nothing. */
static int archive_call(struct core *c, const char *project, const char *name, const char *request, const char *event,
			struct msg_archive *body, int send_fd, void *out, int *recv_fd, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	if (!body->path || !*body->path)
		return error_field(err, "path", "a path inside the instance is needed");
	body->id = snap->instance.id;
	r = agent_call_fd(c, request, body, send_fd, out, recv_fd, err);
	if (r == 0 && event)
		publish(c, snap, event, "path", body->path);
	return r;
}

int instance_archive_stat(struct core *c, const char *project, const char *name, const char *path,
			  struct msg_file *out, struct error *err) {
	struct msg_archive body = {.path = (char *)path};
	return archive_call(c, project, name, "archive-stat", NULL, &body, -1, out, NULL, err);
}

int instance_archive_get(struct core *c, const char *project, const char *name, const char *path, struct msg_file *out,
			 int *fd, struct error *err) {
	struct msg_archive body = {.path = (char *)path};
	int r = archive_call(c, project, name, "archive-get", "archive_get", &body, -1, out, fd, err);
	return r < 0 ? r : stream_expected(*fd, err);
}

/* What the agent does not read, or what cannot be told yet as too little has come, goes through a file. *spool: that file; -1. */
static int plain_archive(struct core *c, int tar, int *spool, struct error *err) {
	char head[COMPRESSION_MAGIC];
	ssize_t n = RETRY_EINTR(recv(tar, head, sizeof head, MSG_PEEK));
	if (n == sizeof head && compression_of_layers(compression_of(head, sizeof head)))
		return 0;
	*spool = core_spool(c, err);
	int r = *spool < 0 ? *spool : decompress_stream(tar, *spool, err);
	return r == 0 && lseek(*spool, 0, SEEK_SET) < 0 ? error_errno(err, errno, "reading an archive again") : r;
}

int instance_archive_put(struct core *c, const char *project, const char *name, const char *path, bool keep_owner,
			 bool no_overwrite_dir, int tar, struct error *err) {
	struct msg_archive body = {
		.path = (char *)path,
		.keep_owner = keep_owner,
		.no_overwrite_dir = no_overwrite_dir,
	};
	_cleanup_(close_fd) int spool = -1;
	int r = plain_archive(c, tar, &spool, err);
	return r < 0 ? r : archive_call(c, project, name, "archive-put", "archive_put", &body, spool < 0 ? tar : spool, NULL, NULL, err);
}

static int open_tree(struct core *c, const struct instance_snap *snap, const char *request, bool pause, int *fd,
		     struct error *err) {
	struct msg_export body = {.id = snap->instance.id, .pause = pause};
	int r = agent_call_fd(c, request, &body, -1, NULL, fd, err);
	return r < 0 ? r : stream_expected(*fd, err);
}

int instance_export(struct core *c, const char *project, const char *name, int *fd, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r == 0)
		r = open_tree(c, snap, "instance-export", false, fd, err);
	if (r == 0)
		publish(c, snap, "export", NULL, NULL);
	return r;
}

/* ---- commit ---- */

static int commit_config(const struct image *base, const json_t *patch, struct image_config *out, struct error *err) {
	fields_copy(&image_config_table, &base->config, out);
	int r = patch ? fields_patch(&image_config_table, patch, false, out, err) : 0;
	if (r < 0) {
		error_in_field(err, "config");
		fields_free(&image_config_table, out);
	}
	return r;
}

static int commit_tree(struct core *c, const struct instance_snap *snap, const struct image_snap *base,
		       const struct commit_options *o, struct image *image, struct error *err) {
	struct image_config config;
	int r = commit_config(&base->image, o->config, &config, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = -1;
	_cleanup_(free_ptr) char *command = strv_join(snap->instance.spec.command, " ");
	struct build_options build = {
		.base = &base->image,
		.config = &config,
		.architecture = base->image.architecture,
		.comment = o->comment,
		.author = o->author,
		.created_by = command,
	};
	r = open_tree(c, snap, "instance-commit", o->pause, &fd, err);
	if (r == 0)
		r = image_from_tar(c->content, fd, &build, image, err);
	fields_free(&image_config_table, &config);
	return r;
}

/* NULL where it was removed while the instance had it. */
static char *parent_of(struct core *c, const char *project, const struct image *base) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *there = NULL;
	return image_get(c, project, base->id, &there, NULL) == 0 ? str_copy(base->id) : NULL;
}

static int commit_image(struct core *c, const struct instance_snap *snap, const struct commit_options *o,
			struct image_snap **out, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *base = instance_image(c, &snap->instance);
	if (!base)
		return error_set(err, ERROR_NOT_FOUND, "instance %s has no image to commit upon", snap->instance.spec.name);
	struct image image;
	int r = commit_tree(c, snap, base, o, &image, err);
	if (r < 0)
		return r;
	strv_free(TAKE_PTR(image.names));
	if (o->name)
		strv_add(&image.names, o->name);
	image.parent = parent_of(c, snap->instance.project, &base->image);
	r = image_store(c, snap->instance.project, &image, out, err);
	fields_free(&image_table, &image);
	return r;
}

int instance_commit(struct core *c, const char *project, const char *name, const struct commit_options *o,
		    struct image_snap **out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(free_ptr) char *full = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r == 0 && o->name)
		r = image_name_full(o->name, &full, err);
	if (r < 0)
		return r;
	struct commit_options named = *o;
	named.name = full;
	images_hold(c);
	r = commit_image(c, snap, &named, out, err);
	images_release(c);
	if (r == 0)
		publish(c, snap, "commit", "image_id", (*out)->image.id);
	return r;
}
