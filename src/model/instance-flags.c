/* The texts that flags of an instance take, as Docker's command line writes them. Values are checked later, by
 * the tables. */
#include "base/str.h"
#include "model/instance-priv.h"

static char *str_text(struct str s) {
	return str_copyn(s.p, s.len);
}

static void replace(char **member, char *value) {
	free(*member);
	*member = value;
}

int parse_restart(const char *text, void *to, struct error *err) {
	struct restart_policy *p = &((struct instance_spec *)to)->restart;
	struct str rest = str_view(text);
	replace(&p->policy, str_text(str_cut(&rest, ':')));
	p->max_retries = 0;
	if (rest.len && str_to_i64(rest.p, &p->max_retries) < 0)
		return error_set(err, ERROR_INVALID, "must be no, always, unless-stopped or on-failure[:RETRIES]");
	return 0;
}

int parse_health_command(const char *text, void *to, UNUSED struct error *err) {
	struct health_check *h = to;
	strv_free(h->command);
	h->command = NULL;
	strv_add(&h->command, "CMD-SHELL");
	strv_add(&h->command, text);
	return 0;
}

int parse_vm(const char *text, void *to, struct error *err) {
	struct instance_spec *s = to;
	if (text && strcmp(text, "true") != 0)
		return error_set(err, ERROR_INVALID, "takes no value");
	free(s->kind);
	s->kind = str_copy("machine");
	return 0;
}

int parse_no_healthcheck(const char *text, void *to, struct error *err) {
	struct health_check *h = to;
	if (text && strcmp(text, "true") != 0)
		return error_set(err, ERROR_INVALID, "takes no value");
	strv_free(h->command);
	h->command = NULL;
	strv_add(&h->command, "NONE");
	return 0;
}

int parse_security_option(const char *text, void *to, struct error *err) {
	struct instance_spec *s = to;
	if (strcmp(text, "no-new-privileges") == 0 || strcmp(text, "no-new-privileges=true") == 0 ||
	    strcmp(text, "no-new-privileges:true") == 0) {
		s->no_new_privileges = true;
	} else if (str_starts(text, "seccomp=") || str_starts(text, "seccomp:")) {
		replace(&s->seccomp, str_copy(text + strlen("seccomp=")));
	} else if (strcmp(text, "systempaths=unconfined") == 0) {
		s->unmask_paths = true;
	} else {
		_cleanup_(free_ptr) char *shown = text_shown(text);
		return error_set(err, ERROR_UNSUPPORTED,
				 "there is no security option \"%s\": no-new-privileges, seccomp=…, "
				 "systempaths=unconfined are known",
				 shown);
	}
	return 0;
}

int parse_device(const char *text, void *to, UNUSED struct error *err) {
	struct device *d = to;
	struct str rest = str_view(text);
	replace(&d->path, str_text(str_cut(&rest, ':')));
	while (rest.len) {
		char *part = str_text(str_cut(&rest, ':'));
		replace(part[0] == '/' || d->permissions ? &d->target : &d->permissions, part);
	}
	return 0;
}

int parse_ulimit(const char *text, void *to, struct error *err) {
	struct ulimit *u = to;
	struct str rest = str_view(text);
	replace(&u->name, str_text(str_cut(&rest, '=')));
	_cleanup_(free_ptr) char *soft = str_text(str_cut(&rest, ':'));
	if (str_to_i64(soft, &u->soft) < 0 || (rest.len && str_to_i64(rest.p, &u->hard) < 0))
		return error_set(err, ERROR_INVALID, "must be written NAME=SOFT[:HARD]");
	if (!rest.len)
		u->hard = u->soft;
	return 0;
}

int parse_weight(const char *text, void *to, struct error *err) {
	struct io_weight *w = to;
	const char *colon = strrchr(text, ':');
	if (!colon || str_to_i64(colon + 1, &w->weight) < 0)
		return error_set(err, ERROR_INVALID, "must be written DEVICE:N");
	replace(&w->device, str_copyn(text, (size_t)(colon - text)));
	return 0;
}

int parse_throttle(const char *text, void *to, struct error *err) {
	struct io_throttle *t = to;
	const char *colon = strrchr(text, ':');
	if (!colon || str_to_size(colon + 1, &t->rate) < 0)
		return error_set(err, ERROR_INVALID, "must be written DEVICE:RATE");
	replace(&t->device, str_copyn(text, (size_t)(colon - text)));
	return 0;
}

int parse_hugepages(const char *text, void *to, struct error *err) {
	struct hugepage_limit *h = to;
	struct str rest = str_view(text);
	replace(&h->size, str_text(str_cut(&rest, '=')));
	if (str_to_size(rest.p, &h->limit) < 0)
		return error_set(err, ERROR_INVALID, "must be written SIZE=BYTES, as 2MB=64MiB");
	return 0;
}

int parse_entrypoint(const char *text, void *to, UNUSED struct error *err) {
	struct instance_spec *s = to;
	strv_free(s->entrypoint);
	s->entrypoint = NULL;
	strv_add(&s->entrypoint, text);
	return 0;
}

/* Other names that the world uses for the modes of name spaces. */
static char *namespace_mode(const char *text, const char *same_as_private) {
	if (str_starts(text, "container:"))
		return str_format("instance:%s", text + strlen("container:"));
	if (same_as_private && strcmp(text, same_as_private) == 0)
		return str_copy("private");
	return str_copy(text);
}

int parse_pid_mode(const char *text, void *to, UNUSED struct error *err) {
	replace(&((struct instance_spec *)to)->pid_mode, namespace_mode(text, NULL));
	return 0;
}

int parse_ipc_mode(const char *text, void *to, UNUSED struct error *err) {
	replace(&((struct instance_spec *)to)->ipc_mode, namespace_mode(text, "shareable"));
	return 0;
}

int parse_network(const char *text, void *to, struct error *err) {
	struct instance_spec *s = to;
	_cleanup_(free_ptr) char *mode = namespace_mode(text, NULL);
	if (network_check(mode, NULL) == 0) {
		replace(&s->network, TAKE_PTR(mode));
		return 0;
	}
	replace(&s->network, str_copy("private"));
	s->networks.items = alloc_resize(s->networks.items, s->networks.n + 1, sizeof *s->networks.items);
	struct attachment *a = &s->networks.items[s->networks.n++];
	fields_init(&attachment_table, a);
	return attachment_parse(text, a, err);
}

int parse_port(const char *text, void *to, struct error *err) {
	return port_parse(text, to, err);
}

/* The next value of a line of comma-separated ones; a quoted one may hold commas, and "" for a quote. */
static char *take_csv(const char **s) {
	struct buf b = BUF_INIT;
	bool quoted = **s == '"';
	if (quoted)
		++*s;
	for (; **s && (quoted || **s != ','); ++*s) {
		if (quoted && **s == '"' && *++*s != '"')
			quoted = false;
		if (!quoted && (!**s || **s == ','))
			break;
		buf_addc(&b, **s);
	}
	if (**s == ',')
		++*s;
	return buf_steal(&b);
}

static int set_size(int64_t *to, const char *key, const char *value, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(value);
	if (str_to_size(value, to) < 0)
		return error_set(err, ERROR_INVALID, "%s=%s is not a size", key, shown);
	return 0;
}

static int set_bool(bool *to, const char *key, const char *value, struct error *err) {
	if (!*value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		*to = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		*to = false;
	else
		return error_set(err, ERROR_INVALID, "%s must be true or false", key);
	return 0;
}

static bool key_is(const char *key, const char *a, const char *b, const char *c) {
	return strcmp(key, a) == 0 || (b && strcmp(key, b) == 0) || (c && strcmp(key, c) == 0);
}

static int set_mount_key(struct mount *m, const char *key, const char *value, struct error *err) {
	if (key_is(key, "type", NULL, NULL))
		replace(&m->type, str_copy(value));
	else if (key_is(key, "source", "src", NULL))
		replace(&m->source, str_copy(value));
	else if (key_is(key, "target", "destination", "dst"))
		replace(&m->target, str_copy(value));
	else if (key_is(key, "readonly", "ro", "read-only"))
		return set_bool(&m->read_only, key, value, err);
	else if (key_is(key, "recursive", NULL, NULL))
		return set_bool(&m->recursive, key, value, err);
	else if (key_is(key, "bind-propagation", "propagation", NULL))
		replace(&m->propagation, str_copy(value));
	else if (key_is(key, "subpath", "volume-subpath", NULL))
		replace(&m->subpath, str_copy(value));
	else if (key_is(key, "tmpfs-size", "size", NULL))
		return set_size(&m->size, key, value, err);
	else if (key_is(key, "tmpfs-mode", "mode", NULL))
		replace(&m->mode, str_copy(value));
	else if (key_is(key, "option", NULL, NULL))
		strv_add(&m->options, value);
	else
		return error_set(err, ERROR_INVALID, "unknown key \"%s\"", key);
	return 0;
}

/* "key=value" of a --mount; bind-nonrecursive is the one whose sense is turned round. */
static int set_mount_entry(struct mount *m, const char *entry, struct error *err) {
	_cleanup_(free_ptr) char *key = str_copyn(entry, strcspn(entry, "="));
	const char *value = entry + strlen(key);
	if (*value)
		value++;
	if (strcmp(key, "bind-nonrecursive") != 0)
		return set_mount_key(m, key, value, err);
	bool non_recursive;
	int r = set_bool(&non_recursive, key, value, err);
	m->recursive = !non_recursive;
	return r;
}

int parse_mount(const char *text, void *to, struct error *err) {
	int r = 0;
	for (const char *s = text; r == 0 && *s;) {
		_cleanup_(free_ptr) char *entry = take_csv(&s);
		r = set_mount_entry(to, entry, err);
	}
	return r;
}

static int set_volume_option(struct mount *m, const char *option, struct error *err) {
	static const char *const propagations[] = {"private", "rprivate", "slave", "rslave", "shared", "rshared"};
	static const char *const without_effect[] = {"", "rw", "z", "Z", "nocopy", "rbind", "cached", "delegated",
						     "consistent"};
	for (size_t i = 0; i < ARRAY_SIZE(without_effect); i++)
		if (strcmp(option, without_effect[i]) == 0)
			return 0;
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++)
		if (strcmp(option, propagations[i]) == 0) {
			replace(&m->propagation, str_copy(option));
			return 0;
		}
	if (strcmp(option, "ro") == 0)
		m->read_only = true;
	else if (strcmp(option, "bind") == 0)
		m->recursive = false;
	else if (str_starts(option, "size="))
		return set_size(&m->size, "size", option + strlen("size="), err);
	else if (str_starts(option, "mode="))
		replace(&m->mode, str_copy(option + strlen("mode=")));
	else
		strv_add(&m->options, option);
	return 0;
}

static int set_volume_options(struct mount *m, struct str options, struct error *err) {
	int r = 0;
	while (r == 0 && options.len) {
		_cleanup_(free_ptr) char *option = str_text(str_cut(&options, ','));
		r = set_volume_option(m, option, err);
	}
	return r;
}

int parse_volume(const char *text, void *to, struct error *err) {
	struct mount *m = to;
	struct str rest = str_view(text);
	char *first = str_text(str_cut(&rest, ':'));
	if (rest.len) {
		replace(&m->source, first);
		first = str_text(str_cut(&rest, ':'));
	}
	replace(&m->target, first);
	replace(&m->type, str_copy(m->source && m->source[0] == '/' ? "bind" : "volume"));
	return set_volume_options(m, rest, err);
}

int parse_tmpfs(const char *text, void *to, struct error *err) {
	struct mount *m = to;
	struct str rest = str_view(text);
	replace(&m->target, str_text(str_cut(&rest, ':')));
	replace(&m->type, str_copy("tmpfs"));
	return set_volume_options(m, rest, err);
}

static int set_numa_key(struct machine_numa *n, const char *key, const char *value, struct error *err) {
	if (key_is(key, "cpus", NULL, NULL))
		replace(&n->cpus, str_copy(value));
	else if (key_is(key, "memory", NULL, NULL))
		return set_size(&n->memory, key, value, err);
	else if (key_is(key, "host-nodes", NULL, NULL))
		replace(&n->host_nodes, str_copy(value));
	else if (key_is(key, "policy", NULL, NULL))
		replace(&n->policy, str_copy(value));
	else
		return error_set(err, ERROR_INVALID, "unknown key \"%s\": there are cpus, memory, host-nodes, policy", key);
	return 0;
}

/* "cpus=0-1,4,memory=256m": what has no key belongs to the list before it. */
int parse_numa(const char *text, void *to, struct error *err) {
	_cleanup_(free_ptr) char *key = NULL, *value = NULL;
	int r = 0;
	for (const char *s = text; r == 0 && *s;) {
		_cleanup_(free_ptr) char *entry = take_csv(&s);
		size_t n = strcspn(entry, "=");
		bool more = !entry[n] && (str_same(key, "cpus") || str_same(key, "host-nodes"));
		char *whole = more ? str_format("%s,%s", value, entry) : str_copy(entry[n] ? entry + n + 1 : "");
		if (!more)
			replace(&key, str_copyn(entry, n));
		replace(&value, whole);
		r = set_numa_key(to, key, value, err);
	}
	return r;
}

int parse_log_driver(const char *text, void *to, UNUSED struct error *err) {
	bool file = strcmp(text, "json-file") == 0 || strcmp(text, "local") == 0;
	replace(&((struct log_config *)to)->driver, str_copy(file ? "file" : text));
	return 0;
}

int parse_log_option(const char *text, void *to, struct error *err) {
	struct log_config *l = to;
	if (str_starts(text, "max-size="))
		return set_size(&l->max_size, "max-size", text + strlen("max-size="), err);
	if (str_starts(text, "max-file="))
		return str_to_i64(text + strlen("max-file="), &l->max_files) == 0
			       ? 0
			       : error_set(err, ERROR_INVALID, "max-file must be a number");
	return error_set(err, ERROR_INVALID, "must be max-size=BYTES or max-file=N");
}

static int set_file_key(struct instance_file *f, const char *key, const char *value, struct error *err) {
	if (key_is(key, "source", "src", NULL))
		replace(&f->source, str_copy(value));
	else if (key_is(key, "target", NULL, NULL))
		replace(&f->target, value[0] == '/' ? str_copy(value) : str_format("/run/secrets/%s", value));
	else if (key_is(key, "mode", NULL, NULL))
		replace(&f->mode, str_copy(value));
	else if (key_is(key, "uid", "gid", NULL))
		return str_to_i64(value, key[0] == 'u' ? &f->uid : &f->gid) == 0
			       ? 0
			       : error_set(err, ERROR_INVALID, "%s must be a number", key);
	else
		return error_set(err, ERROR_INVALID, "unknown key \"%s\"", key);
	return 0;
}

/* "NAME,target=PATH,mode=0400" */
static int parse_file(const char *text, struct instance_file *f, const char *kind, struct error *err) {
	int r = 0;
	replace(&f->kind, str_copy(kind));
	for (const char *s = text; r == 0 && *s;) {
		_cleanup_(free_ptr) char *entry = take_csv(&s), *key = str_copyn(entry, strcspn(entry, "="));
		const char *value = entry + strlen(key);
		r = *value ? set_file_key(f, key, value + 1, err) : set_file_key(f, "source", key, err);
	}
	return r;
}

int parse_secret(const char *text, void *to, struct error *err) {
	return parse_file(text, to, "secret", err);
}

int parse_config(const char *text, void *to, struct error *err) {
	return parse_file(text, to, "config", err);
}
