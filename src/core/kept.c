/* Secrets and configs, and how they get to the agent: by descriptor, when an instance is made. */
#include "core/core-priv.h"

#include "base/base64.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "core/workloads.h"

#include <sys/mman.h>
#include <unistd.h>

#define FILES_MAX ((size_t)256 << 20) /* of one instance */

#define KEPT_KIND(prefix_, noun_, table_)                        \
	{                                                        \
		.prefix = prefix_,                               \
		.noun = noun_,                                   \
		.table = &table_,                                \
		.id = offsetof(struct kept, id),                 \
		.name = offsetof(struct kept, spec.name),        \
		.labels = offsetof(struct kept, spec.labels),    \
		.project = offsetof(struct kept, project),       \
	}
const struct noun_kind secret_kind = KEPT_KIND("secrets", "secret", secret_table);
const struct noun_kind config_kind = KEPT_KIND("configs", "config", config_table);

static struct nouns *nouns_of(struct core *c, enum kept_kind kind) {
	return kind == KEPT_SECRET ? c->secrets : c->configs;
}

static const char *kind_name(enum kept_kind kind) {
	return kind == KEPT_SECRET ? "secret" : "config";
}

static bool is_socket(const struct instance_file *f) {
	return str_same(f->kind, "socket");
}

static enum kept_kind kind_of(const struct instance_file *f) {
	return str_same(f->kind, "config") ? KEPT_CONFIG : KEPT_SECRET;
}

/* Without data it is one that somebody else keeps: there is nobody for that yet. */
static int store_new(struct core *c, enum kept_kind kind, const char *project, struct kept_spec *spec, struct noun **out,
		     struct error *err) {
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2);
	int64_t now = time_now_ns();
	struct kept k = {.id = id, .project = (char *)project, .created_at = now, .updated_at = now, .version = 1, .spec = *spec};
	if (!spec->data)
		return error_field(err, "data", "a %s needs data", kind_name(kind));
	k.size = base64_size(spec->data);
	if (kind == KEPT_SECRET && k.size == 0)
		return error_field(err, "data", "a secret must not be empty");
	core_lock(c);
	int r = core_project_check(c, project, err);
	if (r == 0)
		r = noun_name_free(nouns_of(c, kind), project, spec->name, err);
	core_unlock(c);
	return r < 0 ? r : noun_save(c, nouns_of(c, kind), &k, "create", NULL, 0, out, err);
}

int kept_create(struct core *c, enum kept_kind kind, const char *project, struct kept_spec *spec, struct noun **out,
		struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, kind_name(kind), "");
	int r = store_new(c, kind, project, spec, out, err);
	fields_free(&secret_spec_table, spec);
	return r;
}

int kept_get(struct core *c, enum kept_kind kind, const char *project, const char *name, struct noun **out, struct error *err) {
	return noun_get(c, nouns_of(c, kind), project, name, out, err);
}

int kept_list(struct core *c, enum kept_kind kind, const char *project, char *const *labels, char **json, size_t *len,
	      struct error *err) {
	return nouns_text(c, nouns_of(c, kind), project, labels, json, len, err);
}

int kept_all(struct core *c, enum kept_kind kind, const char *project, struct noun ***out, struct error *err) {
	return nouns_all(c, nouns_of(c, kind), project, out, err);
}

int kept_update(struct core *c, enum kept_kind kind, const char *project, const char *name, int64_t version,
		const json_t *patch, struct noun **out, struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, kind_name(kind), "");
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, nouns_of(c, kind), project, name, &o, err);
	if (r < 0)
		return r;
	const struct kept *old = o->of;
	if (version != ANY_VERSION && version != old->version)
		return error_set(err, ERROR_CONFLICT, "update out of sequence");
	struct kept new;
	fields_copy(&secret_table, old, &new);
	r = fields_patch(kind == KEPT_SECRET ? &secret_spec_table : &config_spec_table, patch, false, &new.spec, err);
	new.version++;
	new.updated_at = time_now_ns();
	if (r == 0)
		r = noun_save(c, nouns_of(c, kind), &new, "update", NULL, 0, out, err);
	fields_free(&secret_table, &new);
	return r;
}

/* ---- who gets it ---- */

static bool gets(const struct instance_spec *s, enum kept_kind kind, const struct kept *k) {
	for (size_t i = 0; i < s->files.n; i++)
		if (kind_of(&s->files.items[i]) == kind &&
		    (str_same(s->files.items[i].source, k->spec.name) || str_same(s->files.items[i].source, k->id)))
			return true;
	return false;
}

/* Needs the lock. */
static char **users_of(struct core *c, enum kept_kind kind, const struct kept *k) {
	char **users = NULL;
	struct noun *n;
	for (size_t i = 0; (n = nouns_next(c->workloads, &i));) {
		const struct workload *w = n->of;
		if (str_same(w->project, k->project) && gets(&w->spec.template, kind, k))
			strv_add(&users, w->spec.name);
	}
	return users;
}

char **kept_users(struct core *c, enum kept_kind kind, const char *project, const char *name) {
	WITH_LOCK(c);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct noun *n = noun_find(c, nouns_of(c, kind), project, name, &err);
	return n ? users_of(c, kind, n->of) : NULL;
}

/* Those of a workload go by their workload: they have their copy. Needs the lock. */
static int check_unused(struct core *c, enum kept_kind kind, const struct kept *k, struct error *err) {
	_cleanup_(strv_free_ptr) char **users = users_of(c, kind, k);
	_cleanup_(free_ptr) char *names = strv_join(users, ", ");
	if (users)
		return error_set(err, ERROR_CONFLICT, "%s %s is in use by workload %s", kind_name(kind), k->spec.name, names);
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct instance *one = &((const struct entry *)value)->snap->instance;
		if (str_same(one->project, k->project) && !one->spec.owner.workload && gets(&one->spec, kind, k))
			return error_set(err, ERROR_CONFLICT, "%s %s is in use by instance %s", kind_name(kind), k->spec.name,
					 one->spec.name);
	}
	return 0;
}

int kept_delete(struct core *c, enum kept_kind kind, const char *project, const char *name, struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, kind_name(kind), "");
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, nouns_of(c, kind), project, name, &o, err);
	if (r < 0)
		return r;
	core_lock(c);
	r = check_unused(c, kind, o->of, err);
	core_unlock(c);
	return r < 0 ? r : noun_delete(c, nouns_of(c, kind), o->of, NULL, 0, err);
}

/* ---- lent ones ---- */

struct lent {
	struct buf data;
	int socket; /* -1: a secret */
};

static void lent_free(void *value) {
	struct lent *l = value;
	if (l->data.len)
		explicit_bzero(l->data.data, l->data.len);
	buf_free(&l->data);
	free(l);
}

static char *lend(struct core *c, struct lent *l) {
	_cleanup_(free_ptr) char *random = random_hex(8);
	char *name = str_format("lent-%s", random);
	WITH_LOCK(c);
	if (!c->lent)
		c->lent = map_new(lent_free);
	map_set(c->lent, name, l);
	return name;
}

char *kept_lend(struct core *c, const void *data, size_t n) {
	struct lent *l = NEW(struct lent);
	*l = (struct lent){.socket = -1};
	buf_add(&l->data, data, n);
	return lend(c, l);
}

char *kept_lend_socket(struct core *c, int fd) {
	struct lent *l = NEW(struct lent);
	*l = (struct lent){.socket = fd};
	return lend(c, l);
}

void kept_take_back(struct core *c, const char *name) {
	WITH_LOCK(c);
	map_remove(c->lent, name);
}

/* Needs the lock. */
static const struct lent *lent_find(struct core *c, const struct instance_file *f) {
	const struct lent *l = c->lent && !str_same(f->kind, "config") ? map_get(c->lent, f->source) : NULL;
	return l && (l->socket >= 0) == is_socket(f) ? l : NULL;
}

static int nobody_listens(const struct instance_file *f, struct error *err) {
	return error_set(err, ERROR_NOT_FOUND, "nobody listens at socket %s", f->source);
}

/* Needs the lock. NULL and no error: it is a lent one. */
static const struct noun *kept_find(struct core *c, const char *project, const struct instance_file *f, const struct lent **lent,
				    struct error *err) {
	*lent = lent_find(c, f);
	if (*lent)
		return NULL;
	if (is_socket(f)) {
		nobody_listens(f, err);
		return NULL;
	}
	return noun_find(c, nouns_of(c, kind_of(f)), project, f->source, err);
}

/* ---- to the agent ---- */

int kept_files_check(struct core *c, const char *project, const struct instance_spec *spec, struct error *err) {
	WITH_LOCK(c);
	for (size_t i = 0; i < spec->files.n; i++) {
		const struct lent *lent;
		if (!kept_find(c, project, &spec->files.items[i], &lent, err) && !lent) {
			error_in_field(err, "files");
			return -ERROR_NOT_FOUND;
		}
	}
	return 0;
}

/* Needs the lock. */
static int files_collect(struct core *c, const char *project, instance_files *files, struct buf *all, struct error *err) {
	for (size_t i = 0; i < files->n; i++) {
		struct instance_file *f = &files->items[i];
		const struct lent *lent;
		const struct noun *n = kept_find(c, project, f, &lent, err);
		size_t before = all->len;
		if (!n && !lent)
			return err ? -(int)err->kind : -ERROR_NOT_FOUND;
		if (lent)
			buf_add(all, lent->data.data, lent->data.len);
		if ((n && base64_decode(((const struct kept *)n->of)->spec.data, all) < 0) || all->overflowed)
			return error_set(err, ERROR_TOO_LARGE, "%s %s: all files of an instance together are too large", f->kind,
					 f->source);
		f->size = (int64_t)(all->len - before);
	}
	return 0;
}

int kept_files_open(struct core *c, const char *project, instance_files *files, int *fd, struct error *err) {
	*fd = -1;
	if (!files->n)
		return 0;
	_cleanup_(buf_free) struct buf all = BUF_INIT_MAX(FILES_MAX);
	core_lock(c);
	int r = files_collect(c, project, files, &all, err);
	core_unlock(c);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int mem = memfd_create("files", MFD_CLOEXEC);
	if (mem < 0 || fs_write_all(mem, buf_str(&all), all.len) < 0 || lseek(mem, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "handing files to the agent");
	*fd = TAKE_FD(mem);
	return 0;
}

int kept_sockets(struct core *c, const instance_files *files, int fds[WIRE_FDS_MAX], size_t *nfds, struct error *err) {
	WITH_LOCK(c);
	*nfds = 0;
	for (size_t i = 0; i < files->n; i++) {
		const struct instance_file *f = &files->items[i];
		const struct lent *l = is_socket(f) ? lent_find(c, f) : NULL;
		if (is_socket(f) && !l)
			return nobody_listens(f, err);
		if (l && *nfds == WIRE_FDS_MAX)
			return error_set(err, ERROR_TOO_LARGE, "an instance may have %d sockets", WIRE_FDS_MAX);
		if (l)
			fds[(*nfds)++] = l->socket;
	}
	return 0;
}
