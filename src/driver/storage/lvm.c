/* The lvm program: arguments, tags, reports. */
#include "driver/storage/lvm-priv.h"

#include "base/json.h"
#include "base/proc.h"
#include "base/time.h"

#include <stdio.h>

#define DEADLINE (120 * NS_PER_SEC)
#define FULL_PERCENT 95.0
#define REPORT_MAX ((size_t)64 << 20)

int lvm_source(const struct storage_pool *p, char **vg, char **thin, struct error *err) {
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-";
	const char *source = p->pool->spec.source, *slash = strchr(source, '/');
	if (!slash || slash == source || !slash[1] || strspn(slash + 1, allowed) != strlen(slash + 1) ||
	    strspn(source, allowed) != (size_t)(slash - source) || *source == '-' || slash[1] == '-')
		return error_field(err, "source", "must be VG/THINPOOL, not %s", source);
	*vg = str_copyn(source, (size_t)(slash - source));
	*thin = str_copy(slash + 1);
	return 0;
}

static int run(char **argv, struct buf *out, struct error *err) {
	_cleanup_(buf_free) struct buf errors = BUF_INIT_MAX(65536);
	struct proc x = {.argv = argv, .output = out, .errors = &errors, .deadline_ns = DEADLINE};
	int r = proc_run(&x, err);
	if (r < 0 || x.status == 0)
		return r;
	const char *why = errors.len ? buf_str(&errors) : "no reason given";
	enum error_kind kind = ERROR_INTERNAL;
	if (strstr(why, "insufficient") || strstr(why, "free space") || strstr(why, "No space"))
		kind = ERROR_NO_SPACE;
	else if (strstr(why, "not found") || strstr(why, "Failed to find"))
		kind = ERROR_NOT_FOUND;
	else if (strstr(why, "in use"))
		kind = ERROR_BUSY;
	return error_set(err, kind, "%s failed: %.*s", argv[0], (int)strcspn(why, "\n"), why);
}

#define RUN(err, ...) run((char *[]){__VA_ARGS__, NULL}, NULL, err)

/* The report's rows. */
static json_t *report(char **argv, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT_MAX(REPORT_MAX);
	if (run(argv, &out, err) < 0)
		return NULL;
	_cleanup_(json_free_ptr) json_t *all = json_parse(buf_str(&out), out.len, err);
	json_t *rows = json_object_get(json_array_get(json_object_get(all, "report"), 0), "lv");
	if (all && !rows)
		error_set(err, ERROR_INTERNAL, "lvs gave no report");
	return json_incref(rows);
}

static int64_t number(const json_t *row, const char *key) {
	int64_t n = 0;
	const char *text = json_get_str(row, key);
	return text && str_to_i64(text, &n) == 0 ? n : 0;
}

static double share(const json_t *row, const char *key) {
	const char *text = json_get_str(row, key);
	return text ? strtod(text, NULL) : 0;
}

int lvm_thin_pool(const struct storage_pool *p, struct lvm_pool *out, struct error *err) {
	_cleanup_(free_ptr) char *source = str_copy(p->pool->spec.source);
	char *argv[] = {"lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "lv_size,data_percent,metadata_percent,segtype",
			source, NULL};
	_cleanup_(json_free_ptr) json_t *rows = report(argv, err);
	if (!rows)
		return error_wrap(err, "looking at %s", source);
	const json_t *row = json_array_get(rows, 0);
	const char *type = json_get_str(row, "segtype");
	if (!type || strcmp(type, "thin-pool") != 0)
		return error_field(err, "source", "%s is no thin pool (make one: lvcreate -T -L SIZE %s)", source, source);
	*out = (struct lvm_pool){number(row, "lv_size"), share(row, "data_percent"), share(row, "metadata_percent")};
	return 0;
}

static void read_tags(const char *text, struct lv *out) {
	_cleanup_(strv_free_ptr) char **tags = strv_split(text, ',');
	for (size_t i = 0; tags && tags[i]; i++) {
		if (str_starts(tags[i], "wabe-volume-"))
			out->volume = str_copy(tags[i] + strlen("wabe-volume-"));
		else if (str_starts(tags[i], "wabe-snapshot-"))
			out->snapshot = str_copy(tags[i] + strlen("wabe-snapshot-"));
		out->block = out->block || strcmp(tags[i], "wabe-block") == 0;
		out->unfinished = out->unfinished || strcmp(tags[i], "wabe-unfinished") == 0;
		out->restored = out->restored || strcmp(tags[i], "wabe-restored") == 0;
	}
}

int lvm_list(const struct storage_pool *p, struct lvs *out, struct error *err) {
	_cleanup_(free_ptr) char *vg = NULL, *thin = NULL, *ours = str_format("@wabe-pool-%s", p->pool->id);
	*out = (struct lvs){0};
	int r = lvm_source(p, &vg, &thin, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *select = str_format("vg_name=%s", vg);
	char *argv[] = {"lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--config",
			"report/time_format=\"%s\"", "-o", "lv_name,lv_size,data_percent,lv_tags,lv_time", "-S", select, ours, NULL};
	_cleanup_(json_free_ptr) json_t *rows = report(argv, err);
	if (!rows)
		return error_wrap(err, "listing the volume group %s", vg);
	out->items = alloc_array(json_array_size(rows) + 1, sizeof *out->items);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		const json_t *row = json_array_get(rows, i);
		const char *name = json_get_str(row, "lv_name"), *tags = json_get_str(row, "lv_tags");
		struct lv one = {.size = number(row, "lv_size"), .created_at = number(row, "lv_time") * NS_PER_SEC,
				 .percent = share(row, "data_percent")};
		read_tags(tags ? tags : "", &one);
		one.name = str_copy(name ? name : "");
		out->items[out->n++] = one;
	}
	return 0;
}

void lvm_list_free(struct lvs *l) {
	for (size_t i = 0; i < l->n; i++) {
		free(l->items[i].name);
		free(l->items[i].volume);
		free(l->items[i].snapshot);
	}
	free(l->items);
	*l = (struct lvs){0};
}

const struct lv *lvm_find(const struct lvs *l, const char *id, const char *snapshot) {
	const struct lv *found = NULL;
	for (size_t i = 0; i < l->n; i++) {
		const struct lv *one = &l->items[i];
		bool is = str_same(one->volume, id) && str_same(one->snapshot, snapshot) && !one->unfinished;
		if (is && (!found || one->restored))
			found = one;
	}
	return found;
}

/* What is promised to a pool that is about to be full harms those who write there already. */
static int has_room(const struct storage_pool *p, struct error *err) {
	struct lvm_pool now;
	int r = lvm_thin_pool(p, &now, err);
	if (r < 0 || (now.percent < FULL_PERCENT && now.metadata_percent < FULL_PERCENT))
		return r;
	return error_set(err, ERROR_NO_SPACE, "the thin pool %s is full to %.0f %% (its metadata to %.0f %%): extend it with "
			 "lvextend, or remove volumes", p->pool->spec.source, now.percent, now.metadata_percent);
}

int lvm_create(const struct storage_pool *p, const struct lvm_new *n, char **name, struct error *err) {
	_cleanup_(free_ptr) char *vg = NULL, *thin = NULL, *salt = random_hex(8), *made = str_format("wabe-%s", salt);
	_cleanup_(strv_free_ptr) char **argv = NULL;
	int r = lvm_source(p, &vg, &thin, err);
	if (r == 0)
		r = has_room(p, err);
	if (r < 0)
		return r;
	strv_add(&argv, "lvcreate");
	strv_add(&argv, "-q");
	strv_add(&argv, "-y");
	strv_add(&argv, "-n");
	strv_add(&argv, made);
	strv_add(&argv, "--addtag");
	strv_take(&argv, str_format("wabe-pool-%s", p->pool->id));
	strv_add(&argv, "--addtag");
	strv_take(&argv, str_format("wabe-volume-%s", n->volume));
	const char *tags[] = {n->block ? "wabe-block" : NULL, n->unfinished ? "wabe-unfinished" : NULL,
			      n->restored ? "wabe-restored" : NULL};
	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (tags[i]) {
			strv_add(&argv, "--addtag");
			strv_add(&argv, tags[i]);
		}
	if (n->snapshot) {
		strv_add(&argv, "--addtag");
		strv_take(&argv, str_format("wabe-snapshot-%s", n->snapshot));
		strv_add(&argv, "-pr");
	} else if (n->origin) {
		strv_add(&argv, "-prw");
	}
	if (n->origin) {
		strv_add(&argv, n->snapshot ? "-ky" : "-kn");
		strv_add(&argv, "-s");
		strv_take(&argv, str_format("%s/%s", vg, n->origin));
	} else {
		strv_add(&argv, "-Wn");
		strv_add(&argv, "-V");
		strv_take(&argv, str_format("%jdb", (intmax_t)n->size));
		strv_add(&argv, "-T");
		strv_take(&argv, str_format("%s/%s", vg, thin));
	}
	r = run(argv, NULL, err);
	if (r == 0)
		*name = TAKE_PTR(made);
	return r;
}

/* VG/LV. */
static char *full_name(const struct storage_pool *p, const char *name) {
	const char *source = p->pool->spec.source;
	return str_format("%.*s/%s", (int)strcspn(source, "/"), source, name);
}

int lvm_remove(const struct storage_pool *p, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *lv = full_name(p, name);
	return RUN(err, "lvremove", "-q", "-f", "-y", lv);
}

int lvm_untag(const struct storage_pool *p, const char *name, const char *tag, struct error *err) {
	_cleanup_(free_ptr) char *lv = full_name(p, name), *copy = str_copy(tag);
	return RUN(err, "lvchange", "-q", "-y", "--deltag", copy, lv);
}

int lvm_grow(const struct storage_pool *p, const char *name, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *lv = full_name(p, name), *bytes = str_format("%jdb", (intmax_t)size);
	int r = has_room(p, err);
	return r < 0 ? r : RUN(err, "lvextend", "-q", "-y", "-L", bytes, lv);
}

int lvm_activate(const struct storage_pool *p, const char *name, bool on, struct error *err) {
	_cleanup_(free_ptr) char *lv = full_name(p, name);
	return RUN(err, "lvchange", "-q", "-y", "-K", on ? "-ay" : "-an", lv);
}

char *lvm_device(const struct storage_pool *p, const char *name) {
	_cleanup_(free_ptr) char *lv = full_name(p, name);
	return str_format("/dev/%s", lv);
}
