/* RUN --mount: what a command has for its own time. A cache is a volume that stays for later builds, a bind a volume that is filled
 * for this command and goes with it, a tmpfs is one. Secrets and agents of ssh come from whoever wants the build, and are files and
 * sockets of the instance. Where they are not required the command does without, as it does in BuildKit. */
#include "build/build-priv.h"

#include "base/str.h"
#include "build/ignore.h"
#include "core/volumes.h"
#include "core/workloads.h"
#include "image/hash.h"

#include <strings.h>

/* ---- "type=cache,target=/x" ---- */

struct run_mount {
	char *type, *target, *source, *from, *id, *sharing;
	bool read_only, required;
	int64_t uid, gid, mode, size; /* mode -1: not given */
};

static void mount_free(struct run_mount *m) {
	char *texts[] = {m->type, m->target, m->source, m->from, m->id, m->sharing};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		free(texts[i]);
}

static int invalid(const char *key, const char *value, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(value);
	return error_set(err, ERROR_INVALID, "--mount: invalid value for %s: %s", key, shown);
}

static int take_bool(const char *key, const char *value, bool *out, struct error *err) {
	*out = !*value || strcasecmp(value, "true") == 0 || str_same(value, "1");
	return *out || strcasecmp(value, "false") == 0 || str_same(value, "0") ? 0 : invalid(key, value, err);
}

static int take_number(const char *key, const char *value, int base, int64_t max, int64_t *out, struct error *err) {
	uint64_t n;
	if (str_to_u64(value, base, &n) < 0 || n > (uint64_t)max)
		return invalid(key, value, err);
	*out = (int64_t)n;
	return 0;
}

static int take_text(const char *value, char **out) {
	free(*out);
	*out = str_copy(value);
	return 0;
}

static int take_one(struct run_mount *m, const char *key, const char *value, struct error *err) {
	bool yes;
	int r;
	if (str_same(key, "type"))
		return take_text(value, &m->type);
	if (str_same(key, "target") || str_same(key, "dst") || str_same(key, "destination"))
		return take_text(value, &m->target);
	if (str_same(key, "source") || str_same(key, "src"))
		return take_text(value, &m->source);
	if (str_same(key, "from"))
		return take_text(value, &m->from);
	if (str_same(key, "id"))
		return take_text(value, &m->id);
	if (str_same(key, "sharing"))
		return str_same(value, "shared") || str_same(value, "private") || str_same(value, "locked") ? take_text(value, &m->sharing)
													: invalid(key, value, err);
	if (str_same(key, "ro") || str_same(key, "readonly"))
		return take_bool(key, value, &m->read_only, err);
	if (str_same(key, "rw") || str_same(key, "readwrite")) {
		r = take_bool(key, value, &yes, err);
		m->read_only = !yes;
		return r;
	}
	if (str_same(key, "env"))
		return error_set(err, ERROR_UNSUPPORTED, "--mount: a secret in a variable (env=%.64s) is not supported by this engine: read it from "
				 "its file", value);
	if (str_same(key, "required"))
		return take_bool(key, value, &m->required, err);
	if (str_same(key, "uid"))
		return take_number(key, value, 10, 65535, &m->uid, err);
	if (str_same(key, "gid"))
		return take_number(key, value, 10, 65535, &m->gid, err);
	if (str_same(key, "mode"))
		return take_number(key, value, 8, 07777, &m->mode, err);
	if (str_same(key, "size"))
		return str_to_size(value, &m->size) < 0 || m->size < 0 ? invalid(key, value, err) : 0;
	_cleanup_(free_ptr) char *shown = text_shown(key);
	return error_set(err, ERROR_INVALID, "--mount: unexpected key '%s'", shown);
}

static int check(struct run_mount *m, struct error *err) {
	static const char *const types[] = {"bind", "cache", "tmpfs", "secret", "ssh"};
	bool known = false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		known |= str_same(m->type, types[i]);
	if (!known)
		return error_set(err, ERROR_UNSUPPORTED, "--mount: unsupported mount type \"%.32s\"", m->type);
	bool passed = str_same(m->type, "secret") || str_same(m->type, "ssh");
	if (!passed && (!m->target || !*m->target))
		return error_set(err, ERROR_INVALID, "--mount: a mount of type %s needs a target", m->type);
	return 0;
}

static int parse(struct stage *s, const char *text, struct run_mount *m, struct error *err) {
	_cleanup_(free_ptr) char *expanded = NULL;
	*m = (struct run_mount){.type = str_copy("bind"), .mode = -1};
	int r = stage_expand(s, text, &expanded, err);
	_cleanup_(strv_free_ptr) char **words = strv_split(expanded ? expanded : "", ',');
	bool ro_given = false;
	for (char **w = words; r == 0 && *w; w++) {
		size_t n = strcspn(*w, "=");
		_cleanup_(free_ptr) char *key = str_copyn(*w, n);
		for (char *c = key; *c; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c | 0x20 : *c);
		r = take_one(m, key, (*w)[n] ? *w + n + 1 : "", err);
		ro_given |= str_starts(key, "r") && !str_same(key, "required");
	}
	if (r == 0 && !ro_given)
		m->read_only = str_same(m->type, "bind");
	return r < 0 ? r : check(m, err);
}

/* ---- the mount of an instance ---- */

static char *inside(const struct stage *s, const char *target) {
	_cleanup_(free_ptr) char *joined = *target == '/' ? str_copy(target)
							  : str_format("%s/%s", s->config.workdir ? s->config.workdir : "", target);
	_cleanup_(free_ptr) char *clean = path_clean(joined);
	return str_format("/%s", clean);
}

static struct mount *add_mount(struct stage *s, struct run_mounts *all, const char *type, const struct run_mount *m) {
	all->list.items = alloc_resize(all->list.items, all->list.n + 1, sizeof *all->list.items);
	struct mount *to = &all->list.items[all->list.n++];
	fields_init(&mount_table, to);
	free(to->type);
	to->type = str_copy(type);
	to->read_only = m->read_only;
	to->target = inside(s, m->target);
	return to;
}

static void add_tmpfs(struct stage *s, struct run_mounts *all, const struct run_mount *m) {
	add_mount(s, all, "tmpfs", m)->size = m->size;
}

/* The one thing that source and from name. */
static int find_source(struct stage *s, const struct run_mount *m, const char *otherwise, struct copy_sources *out, struct error *err) {
	struct instruction as_copy = {.kind = DOCKER_COPY, .from = m->from};
	char *words[] = {m->source && *m->source ? m->source : (char *)otherwise, (char *)"/", NULL};
	int r = copy_sources_find(s, &as_copy, words, out, err);
	if (r == 0 && out->n != 1)
		r = error_set(err, ERROR_INVALID, "a pattern does not name one source");
	return r < 0 ? error_wrap(err, "--mount: %s", words[0]) : 0;
}

/* ---- caches ---- */

/* Who wants one for itself waits for the others of this process, which all builds run in. */
static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cache_changed = PTHREAD_COND_INITIALIZER;
static char **caches_taken;

static bool take_cache(struct stage *s, const char *name) {
	struct timespec until;
	pthread_mutex_lock(&cache_lock);
	while (strv_has(caches_taken, name) && !build_gone(s->b)) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++; /* a build that is given up has no signal here */
		pthread_cond_timedwait(&cache_changed, &cache_lock, &until);
	}
	bool gone = build_gone(s->b);
	if (!gone)
		strv_add(&caches_taken, name);
	pthread_mutex_unlock(&cache_lock);
	return !gone;
}

static void drop_cache(const char *name) {
	pthread_mutex_lock(&cache_lock);
	size_t n = strv_len(caches_taken);
	for (size_t i = 0; i < n; i++)
		if (str_same(caches_taken[i], name)) {
			free(caches_taken[i]);
			caches_taken[i] = caches_taken[n - 1];
			caches_taken[n - 1] = NULL;
			break;
		}
	pthread_cond_broadcast(&cache_changed);
	pthread_mutex_unlock(&cache_lock);
}

/* from: what it begins with; n 0: nothing. */
static int make_cache(struct stage *s, const char *name, const char *id, const struct run_mount *m, const struct copy_sources *from,
		      struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	struct volume_spec spec;
	struct error why = ERROR_INIT;
	if (volume_find(s->b->core, s->b->o->project, name, &o, NULL) == 0)
		return 0;
	fields_init(&volume_spec_table, &spec);
	spec.name = str_copy(name);
	spec.uid = m->uid;
	spec.gid = m->gid;
	spec.mode = m->mode >= 0 ? m->mode : 0755;
	pairs_set(&spec.labels, BUILD_CACHE_LABEL, id);
	int r = from->n ? copy_to_kept_volume(s, from, &spec, &why) : volume_create(s->b->core, s->b->o->project, &spec, &o, &why);
	if (r == -ERROR_EXISTS) { /* by another build, just now */
		error_free(&why);
		return 0;
	}
	return r < 0 ? error_move(err, &why) : 0;
}

static int add_cache(struct stage *s, struct run_mounts *all, const struct run_mount *m, struct error *err) {
	struct mount *to = add_mount(s, all, "volume", m);
	_cleanup_(copy_sources_free) struct copy_sources from = {0};
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	const char *id = m->id && *m->id ? m->id : to->target;
	if (m->source && !m->from)
		return error_set(err, ERROR_INVALID, "--mount: %s of a cache that begins empty: from is wanted", m->source);
	int r = m->from ? find_source(s, m, "/", &from, err) : 0;
	if (r == 0 && m->from && !S_ISDIR(from.items[0].node->mode))
		r = error_set(err, ERROR_INVALID, "--mount: %s is no directory that a cache could begin with", m->source);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *begins = m->from ? copy_sources_digest(&from) : str_copy("");
	hash_add(h, id, strlen(id) + !!*begins);
	hash_add(h, begins, strlen(begins));
	_cleanup_(free_ptr) char *digest = hash_digest(h), *name = str_format("build-cache-%.24s", digest + strlen("sha256:"));
	if (m->sharing && !str_same(m->sharing, "shared") && !strv_has(all->taken, name)) {
		if (!take_cache(s, name))
			return build_cancelled(err);
		strv_add(&all->taken, name);
	}
	to->source = TAKE_PTR(name);
	strv_add(&to->options, "nocopy");
	return make_cache(s, to->source, id, m, &from, err);
}

/* ---- binds ---- */

static struct bind *add_bind(struct stage *s, struct run_mounts *all, const struct run_mount *m) {
	all->binds = alloc_resize(all->binds, all->n_binds + 1, sizeof *all->binds);
	struct bind *b = &all->binds[all->n_binds++];
	*b = (struct bind){.at = all->list.n};
	strv_add(&add_mount(s, all, "volume", m)->options, "nocopy");
	return b;
}

/* What it shows counts for the step's name in the cache; it is read there already. */
static int find_bind(struct stage *s, struct run_mounts *all, const struct run_mount *m, struct error *err) {
	struct bind *b = add_bind(s, all, m);
	int r = find_source(s, m, ".", &b->from, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *digest = copy_sources_digest(&b->from);
	strv_take(&all->digests, str_format("%s %s", all->list.items[b->at].target, digest));
	return 0;
}

/* A script is a file that the command has for itself, too. */
int run_mounts_add_script(struct stage *s, struct run_mounts *all, const struct heredoc *doc, struct error *err) {
	_cleanup_(free_ptr) char *target = str_format("/dev/pipes/%s", doc->name);
	struct run_mount m = {.target = target, .read_only = true};
	return copy_source_text(s, doc->name, 0755, doc->content, &add_bind(s, all, &m)->from, err);
}

static int fill_bind(struct stage *s, struct run_mounts *all, struct bind *b, struct error *err) {
	const struct copy_source *one = &b->from.items[0];
	struct mount *to = &all->list.items[b->at];
	int r = copy_to_volume(s, &b->from, &to->source, err);
	if (r == 0 && !S_ISDIR(one->node->mode))
		to->subpath = str_copy(one->name);
	return r;
}

/* ---- secrets ---- */

static const char *last_part(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static int ask_secret(struct builder *b, const char *id, struct buf *out, struct error *err) {
	const struct build_client *client = b->o->client;
	if (!client || !client->secret)
		return error_set(err, ERROR_NOT_FOUND, "secret %s: not found", id);
	pthread_mutex_lock(&b->asking);
	int r = client->secret(client->arg, id, out, err);
	pthread_mutex_unlock(&b->asking);
	return r;
}

/* A file of the instance, as the mount has it; target: taken. */
static void describe_file(const struct run_mount *m, const char *kind, char *target, int64_t mode, struct instance_file *f) {
	fields_init(&instance_file_table, f);
	free(f->kind);
	f->kind = str_copy(kind);
	f->target = target;
	f->uid = m->uid;
	f->gid = m->gid;
	free(f->mode);
	f->mode = str_format("%04llo", (unsigned long long)(m->mode >= 0 ? m->mode : mode));
}

/* source: taken. */
static void give_file(struct run_mounts *all, const struct instance_file *as, char *source) {
	all->files.items = alloc_resize(all->files.items, all->files.n + 1, sizeof *all->files.items);
	struct instance_file *f = &all->files.items[all->files.n++];
	fields_copy(&instance_file_table, as, f);
	free(f->source);
	f->source = source;
}

static int add_secret(struct run_mounts *all, const struct run_mount *m, struct error *err) {
	const char *id = m->id && *m->id ? m->id : m->target && *m->target ? last_part(m->target) : NULL;
	if (!id)
		return error_set(err, ERROR_INVALID, "--mount: one of id and target is needed for a secret");
	const char *target = m->target && *m->target ? m->target : last_part(id);
	all->secrets = alloc_resize(all->secrets, all->n_secrets + 1, sizeof *all->secrets);
	struct secret *one = &all->secrets[all->n_secrets++];
	*one = (struct secret){.id = str_copy(id), .required = m->required};
	describe_file(m, "secret", *target == '/' ? str_copy(target) : str_format("/run/secrets/%s", target), 0400, &one->file);
	return 0;
}

static int fill_secret(struct stage *s, struct run_mounts *all, struct secret *one, struct error *err) {
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	struct error why = ERROR_INIT;
	int r = ask_secret(s->b, one->id, &data, &why);
	if (r == -ERROR_NOT_FOUND && !one->required) {
		error_free(&why);
		return 0;
	}
	if (r < 0)
		return error_move(err, &why);
	give_file(all, &one->file, kept_lend(s->b->core, buf_str(&data), data.len));
	if (data.len)
		explicit_bzero(data.data, data.len);
	return 0;
}

/* ---- agents of ssh ---- */

static void add_agent(const struct stage *s, struct run_mounts *all, const struct run_mount *m) {
	bool given = m->target && *m->target;
	char *target = given ? inside(s, m->target) : str_format("/run/buildkit/ssh_agent.%zu", all->n_agents);
	all->agents = alloc_resize(all->agents, all->n_agents + 1, sizeof *all->agents);
	struct ssh_mount *one = &all->agents[all->n_agents++];
	*one = (struct ssh_mount){.id = str_copy(m->id && *m->id ? m->id : "default"), .required = m->required};
	describe_file(m, "socket", target, 0600, &one->file);
}

static int fill_agent(struct stage *s, struct run_mounts *all, struct ssh_mount *one, struct error *err) {
	struct error why = ERROR_INIT;
	int r = ssh_agent_new(s->b->o->client, &s->b->asking, one->id, &one->agent, &why);
	if (r == -ERROR_NOT_FOUND && !one->required) {
		error_free(&why);
		return 0;
	}
	if (r < 0)
		return error_move(err, &why);
	give_file(all, &one->file, kept_lend_socket(s->b->core, ssh_agent_socket(one->agent)));
	return 0;
}

const char *run_mounts_agent(const struct run_mounts *all) {
	return all->n_agents && all->agents[0].agent ? all->agents[0].file.target : NULL;
}

int run_mounts_serve(struct run_mounts *all, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < all->n_agents; i++)
		r = all->agents[i].agent ? ssh_agent_serve(all->agents[i].agent, err) : 0;
	return r;
}

/* ---- all ---- */

int run_mounts_find(struct stage *s, const struct instruction *i, struct run_mounts *all, struct error *err) {
	int r = 0;
	for (char **text = i->mounts; r == 0 && text && *text; text++) {
		struct run_mount m;
		r = parse(s, *text, &m, err);
		if (r == 0 && str_same(m.type, "tmpfs"))
			add_tmpfs(s, all, &m);
		else if (r == 0 && str_same(m.type, "cache"))
			r = add_cache(s, all, &m, err);
		else if (r == 0 && str_same(m.type, "bind"))
			r = find_bind(s, all, &m, err);
		else if (r == 0 && str_same(m.type, "secret"))
			r = add_secret(all, &m, err);
		else if (r == 0)
			add_agent(s, all, &m);
		mount_free(&m);
	}
	return r;
}

int run_mounts_fill(struct stage *s, struct run_mounts *all, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < all->n_binds; i++)
		r = fill_bind(s, all, &all->binds[i], err);
	for (size_t i = 0; r == 0 && i < all->n_secrets; i++)
		r = fill_secret(s, all, &all->secrets[i], err);
	for (size_t i = 0; r == 0 && i < all->n_agents; i++)
		r = fill_agent(s, all, &all->agents[i], err);
	return r;
}

/* Volumes first: whoever waits for a cache may have it only when nobody writes to it any more. */
void run_mounts_end(struct stage *s, struct run_mounts *all) {
	for (size_t i = 0; i < all->n_binds; i++) {
		const char *volume = all->list.items[all->binds[i].at].source;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (volume && volume_delete(s->b->core, s->b->o->project, volume, &err) < 0)
			output_text(&s->out, "Volume %s cannot be removed: %s\n", volume, error_text(&err));
		copy_sources_free(&all->binds[i].from);
	}
	for (char **name = all->taken; name && *name; name++)
		drop_cache(*name);
	for (size_t i = 0; i < all->files.n; i++) {
		kept_take_back(s->b->core, all->files.items[i].source);
		fields_free(&instance_file_table, &all->files.items[i]);
	}
	for (size_t i = 0; i < all->n_secrets; i++) {
		free(all->secrets[i].id);
		fields_free(&instance_file_table, &all->secrets[i].file);
	}
	for (size_t i = 0; i < all->n_agents; i++) {
		ssh_agent_free(all->agents[i].agent);
		free(all->agents[i].id);
		fields_free(&instance_file_table, &all->agents[i].file);
	}
	free(all->agents);
	free(all->files.items);
	free(all->secrets);
	for (size_t i = 0; i < all->list.n; i++)
		fields_free(&mount_table, &all->list.items[i]);
	free(all->list.items);
	free(all->binds);
	strv_free(all->taken);
	strv_free(all->digests);
	*all = (struct run_mounts){0};
}
