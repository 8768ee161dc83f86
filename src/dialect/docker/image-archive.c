/* Images as archives: save, load; and import of a root file system. */
#include "build/build.h"
#include "dialect/docker/changes.h"
#include "dialect/docker/images-priv.h"

/* ---- save ---- */

struct save {
	struct core *core;
	char **names;
};

static int save_to(int fd, void *arg, struct error *err) {
	struct save *s = arg;
	return image_save(s->core, DOCKER_PROJECT, s->names, fd, err);
}

/* A name without tag and digest means all of the repository's tags, where it has any. */
static void add_names(struct image_snap *const *all, const char *name, char ***names) {
	const char *slash = strrchr(name, '/');
	size_t before = strv_len(*names);
	struct image_ref ref;
	if (!strpbrk(slash ? slash : name, ":@") && image_ref_parse(name, &ref, NULL) == 0) {
		_cleanup_(free_ptr) char *full = image_ref_print(&ref);
		for (; *all; all++)
			for (char **n = (*all)->image.names; n && *n; n++)
				if (!strchr(*n, '@') && image_ref_same_repository(*n, full))
					strv_add(names, *n);
		image_ref_free(&ref);
	}
	if (strv_len(*names) == before)
		strv_add(names, name);
}

/* Takes names. What is missing is answered before any byte is sent. */
static void save(struct http_request *req, char **names) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(image_snaps_free_ptr) struct image_snap **all = NULL;
	struct save s = {.core = core_of(req)};
	int r = image_snaps(s.core, DOCKER_PROJECT, &all, &err);
	if (r < 0)
		fail(req, &err);
	for (char **n = names; r == 0 && n && *n; n++) {
		_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
		add_names(all, *n, &s.names);
		r = image_get(s.core, DOCKER_PROJECT, s.names[strv_len(s.names) - 1], &snap, &err);
		if (r < 0)
			docker_image_fail(req, *n, &err);
		else if (!docker_platform_is(req, "platform", 48, &snap->image))
			r = -ERROR_NOT_FOUND;
	}
	if (r == 0)
		reply_written(req, TAR_TYPE, save_to, &s);
	strv_free(s.names);
	strv_free(names);
}

void docker_images_save(struct http_request *req) {
	char **given = http_query_all(req, "names"), **names = NULL;
	for (char **g = given; g && *g; g++) { /* "a,b" as well as names=a&names=b */
		_cleanup_(strv_free_ptr) char **parts = strv_split(*g, ',');
		for (char **p = parts; *p; p++)
			if (**p)
				strv_add(&names, *p);
	}
	strv_free(given);
	save(req, names);
}

void docker_image_save(struct http_request *req) {
	char **names = NULL;
	strv_add(&names, http_param(req, "name"));
	save(req, names);
}

/* ---- load ---- */

struct load {
	struct core *core;
	struct image_snap **images;
	char **loaded;
};

static int load_body(int fd, void *arg, struct error *err) {
	struct load *l = arg;
	return image_load(l->core, DOCKER_PROJECT, fd, &l->images, &l->loaded, err);
}

static void add_line(struct buf *text, const char *key, const char *value) {
	_cleanup_(json_free_ptr) json_t *line = json_object();
	json_set_str(line, key, value);
	_cleanup_(free_ptr) char *printed = json_print(line);
	buf_addf(text, "%s\n", printed);
}

static void add_loaded(struct buf *text, const char *name) {
	bool id = digest_check(name, NULL) == 0;
	_cleanup_(free_ptr) char *shown = id ? str_copy(name) : docker_familiar(name);
	_cleanup_(free_ptr) char *line = str_format("Loaded image%s: %s\n", id ? " ID" : "", shown);
	add_line(text, "stream", line);
}

void docker_images_load(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct load l = {.core = core_of(req)};
	const char *platform = docker_api(req) >= 48 ? http_query(req, "platform") : NULL;
	if (!docker_platform_is(req, "platform", 48, NULL))
		return;
	if (platform && *platform)
		return docker_fail(req, 501, "platform: all that an archive has is loaded");
	if (with_body(req, load_body, &l, &err) < 0) {
		_cleanup_(free_ptr) char *line = docker_error_line(error_text(&err));
		buf_addf(&text, "%s\n", line);
	}
	for (char **name = l.images ? l.loaded : NULL; name && *name; name++)
		add_loaded(&text, *name);
	strv_free(l.loaded);
	image_snaps_free(l.images);
	docker_reply_lines(req, buf_str(&text), text.len);
}

/* ---- import ---- */

struct import {
	struct core *core;
	const char *name, *comment;
	char **platform; /* as many of OS, ARCHITECTURE, VARIANT as are given */
	struct image_config config;
	struct image_snap *image;
};

static int import_body(int fd, void *arg, struct error *err) {
	struct import *i = arg;
	size_t n = strv_len(i->platform);
	const struct image_import_options o = {
		.name = i->name,
		.kind = "oci",
		.config = &i->config,
		.comment = i->comment,
		.os = n > 0 ? i->platform[0] : NULL,
		.architecture = n > 1 ? i->platform[1] : NULL,
		.variant = n > 2 ? i->platform[2] : NULL,
	};
	return image_import(i->core, DOCKER_PROJECT, &o, fd, &i->image, err);
}

/* "example.com/root.tar" is on http, as for dockerd. */
static int import_url(struct import *i, const char *from, struct error *err) {
	_cleanup_(free_ptr) char *url = strstr(from, "://") ? str_copy(from) : str_format("http://%s", from);
	_cleanup_(free_ptr) char *shown = text_shown(url);
	if (!str_starts(url, "http://") && !str_starts(url, "https://"))
		return error_set(err, ERROR_INVALID, "fromSrc: %s: a URL of http or https is wanted, or \"-\" for the body", shown);
	_cleanup_(close_fd) int fd = build_fetch(i->core, url, err);
	return fd < 0 ? fd : import_body(fd, i, err);
}

void docker_image_import(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *from = http_query(req, "fromSrc"), *repository = http_query(req, "repo"), *message = http_query(req, "message");
	_cleanup_(strv_free_ptr) char **changes = http_query_all(req, "changes");
	_cleanup_(free_ptr) char *full = NULL, *comment = from ? str_format("Imported from %s", from) : NULL;
	if (!from || !*from)
		return docker_fail(req, 400, "either fromImage or fromSrc is needed");
	if (repository && *repository && !(full = docker_reference(req, repository, http_query(req, "tag"))))
		return;
	_cleanup_(free_ptr) char *platform = docker_platform(docker_api(req) >= 32 ? http_query(req, "platform") : NULL, &err);
	if (!platform)
		return fail(req, &err);
	_cleanup_(strv_free_ptr) char **parts = *platform ? strv_split(platform, '/') : NULL;
	struct import i = {.core = core_of(req), .name = full, .comment = message && *message ? message : comment, .platform = parts};
	int r = docker_changes(changes, &i.config, &err);
	if (r == 0)
		r = str_same(from, "-") ? with_body(req, import_body, &i, &err) : import_url(&i, from, &err);
	fields_free(&image_config_table, &i.config);
	if (r < 0)
		return fail(req, &err);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	add_line(&text, "status", i.image->image.id);
	image_snap_unref(i.image);
	docker_reply_lines(req, text.data, text.len);
}
