/* From flags to the spec of an instance: what only the client can know or read; and its creation. */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/time.h"
#include "model/image.h"

#include <limits.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 20)

/* Calls fn for each line of a file that is not empty and no comment. */
static int each_line(const char *path, void (*fn)(const char *line, void *arg), void *arg, struct error *err) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	int r = fs_read(path, FILE_MAX, &b);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", path);
	_cleanup_(strv_free_ptr) char **lines = strv_split(buf_str(&b), '\n');
	for (size_t i = 0; lines[i]; i++) {
		char *line = lines[i] + strspn(lines[i], " \t");
		line[strcspn(line, "\r")] = '\0';
		if (*line && *line != '#')
			fn(line, arg);
	}
	return 0;
}

static void add_env(const char *line, void *arg) {
	strv_env_set(arg, line);
}

static void add_label(const char *line, void *arg) {
	_cleanup_(free_ptr) char *key = str_copyn(line, strcspn(line, "="));
	const char *value = line + strlen(key);
	if (!pairs_get(arg, key)) /* flags win */
		pairs_set(arg, key, *value ? value + 1 : "");
}

/* Files first, flags over them; KEY alone takes the client's own value, if it has one. */
static int finish_env(struct instance_spec *spec, char *const *files, struct error *err) {
	char **env = NULL;
	int r = 0;
	for (size_t i = 0; r == 0 && files && files[i]; i++)
		r = each_line(files[i], add_env, &env, err);
	for (size_t i = 0; spec->env && spec->env[i]; i++)
		strv_env_set(&env, spec->env[i]);
	for (size_t i = 0; env && env[i]; i++) {
		const char *own = strchr(env[i], '=') ? NULL : getenv(env[i]);
		if (!own)
			continue;
		char *entry = str_format("%s=%s", env[i], own);
		free(env[i]);
		env[i] = entry;
	}
	strv_free(spec->env);
	spec->env = env;
	return r;
}

/* --security-opt seccomp=FILE */
static int finish_seccomp(struct instance_spec *spec, struct error *err) {
	const char *s = spec->seccomp;
	if (!s || s[0] == '{' || strcmp(s, "default") == 0 || strcmp(s, "unconfined") == 0)
		return 0;
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	int r = fs_read(s, FILE_MAX, &b);
	if (r < 0)
		return error_errno(err, r, "cannot read the seccomp profile %s", s);
	free(spec->seccomp);
	spec->seccomp = buf_steal(&b);
	return 0;
}

/* "-v ./dir:/x": a source with a slash is a path, from the working directory. */
static int finish_volume(struct mount *m, struct error *err) {
	if (!str_same(m->type, "volume") || !m->source || (!strchr(m->source, '/') && m->source[0] != '.'))
		return 0;
	char *path = realpath(m->source, NULL);
	if (!path)
		return error_errno(err, errno, "cannot mount %s", m->source);
	free(m->source);
	m->source = path;
	free(m->type);
	m->type = str_copy("bind");
	return 0;
}

static void replace(char **member, const char *value) {
	if (!value)
		return;
	free(*member);
	*member = str_copy(value);
}

/* --ip and the like, which say something of the first network: that is "default" if none is given. */
static int finish_network(struct instance_spec *spec, const struct create_options *o, struct error *err) {
	if (!o->aliases && !o->ip && !o->ip6 && !o->mac)
		return 0;
	if (!str_same(spec->network, "private"))
		return error_set(err, ERROR_INVALID, "--ip, --ip6, --mac-address and --network-alias need a network, not %s",
				 spec->network);
	if (!spec->networks.n) {
		spec->networks.items = alloc_array(1, sizeof *spec->networks.items);
		fields_init(&attachment_table, &spec->networks.items[spec->networks.n++]);
		spec->networks.items[0].network = str_copy("default");
	}
	struct attachment *a = &spec->networks.items[0];
	for (size_t i = 0; o->aliases && o->aliases[i]; i++)
		strv_add(&a->aliases, o->aliases[i]);
	replace(&a->ipv4, o->ip);
	replace(&a->ipv6, o->ip6);
	replace(&a->mac, o->mac);
	return 0;
}

#define MACHINE_STOP_TIMEOUT (60 * NS_PER_SEC) /* a whole system takes its time to power down */

/* Whether the image is here and is a disk, or none is wanted. */
static bool image_is_disk(const struct invocation *in, const struct instance_spec *spec) {
	_cleanup_(json_free_ptr) json_t *image = NULL;
	if (instance_is_blank(spec))
		return true;
	if (api_call(in, "GET", api_path(in, "/images/%s", spec->image), NULL, &image, NULL) < 0)
		return false;
	const char *kind = json_get_str(image, "kind");
	return kind && strcmp(kind, "oci") != 0;
}

/* Its console is a terminal, but where a container's image says what runs on it. */
static void finish_machine(const struct invocation *in, struct instance_spec *spec) {
	if (image_is_disk(in, spec)) {
		spec->tty = spec->stdin_open = true;
		spec->stdin_once = false;
	}
	if (!strv_has(in->fields_given, "stop-timeout"))
		spec->stop_timeout = MACHINE_STOP_TIMEOUT;
}

int spec_finish(const struct invocation *in, const struct create_options *o, struct error *err) {
	struct instance_spec *spec = in->fields;
	spec->image = str_copy(in->args[0]);
	spec->command = in->args[1] ? strv_copy(in->args + 1) : NULL;
	if (instance_is_machine(spec))
		finish_machine(in, spec);
	int r = finish_env(spec, o->env_files, err);
	for (size_t i = 0; r == 0 && o->label_files && o->label_files[i]; i++)
		r = each_line(o->label_files[i], add_label, &spec->labels, err);
	if (r == 0)
		r = finish_seccomp(spec, err);
	for (size_t i = 0; r == 0 && i < spec->mounts.n; i++)
		r = finish_volume(&spec->mounts.items[i], err);
	if (r == 0)
		r = finish_network(spec, o, err);
	return r == 0 ? fields_validate(&instance_spec_table, spec, err) : r;
}

/* What b has that a has not, or has otherwise. */
static json_t *differences(const json_t *a, const json_t *b) {
	json_t *d = json_object();
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)b, key, value) {
		const json_t *old = json_object_get(a, key);
		if (old && json_equal(old, value))
			continue;
		json_object_set_new(d, key, json_is_object(old) && json_is_object(value) ? differences(old, value)
										       : json_deep_copy(value));
	}
	return d;
}

/* The member that a flag sets goes into the patch even if it has its default now: as null. */
static void set_given(const struct field_table *t, const char *flag, json_t *patch) {
	const struct field *f = fields_find_flag(t, flag, NULL);
	if (f->flags & FIELD_ALIAS)
		return;
	if (f >= t->fields && f < t->fields + t->n) {
		if (!json_object_get(patch, f->name))
			json_object_set_new(patch, f->name, json_null());
		return;
	}
	for (const struct field *o = t->fields; o < t->fields + t->n; o++) {
		if (o->type != FIELD_OBJECT || !fields_find_flag(o->sub, flag, NULL))
			continue;
		if (!json_object_get(patch, o->name))
			json_object_set_new(patch, o->name, json_object());
		set_given(o->sub, flag, json_object_get(patch, o->name));
		return;
	}
}

json_t *fields_given_patch(const struct invocation *in, const struct field_table *t) {
	_cleanup_(free_ptr) void *defaults = alloc_zero(t->size);
	fields_init(t, defaults);
	_cleanup_(json_free_ptr) json_t *before = fields_print(t, defaults);
	_cleanup_(json_free_ptr) json_t *after = fields_print(t, in->fields);
	fields_free(t, defaults);
	json_t *patch = differences(before, after);
	for (size_t i = 0; in->fields_given && in->fields_given[i]; i++)
		set_given(t, in->fields_given[i], patch);
	return patch;
}


int pull_image(const struct invocation *in, const json_t *request, bool quiet, char **id, struct error *err) {
	return task_result(in, api_path(in, "/images/pull"), request, quiet, id, err);
}

static int pull_for(const struct invocation *in, const char *name, const char *platform, bool quiet,
		    struct error *err) {
	_cleanup_(json_free_ptr) json_t *request = json_pack("{s:s}", "name", name);
	json_set_str(request, "platform", platform);
	if (!quiet)
		fprintf(stderr, "pulling %s\n", name);
	int r = pull_image(in, request, quiet, NULL, err);
	return r < 0 ? error_wrap(err, "cannot pull %s", name) : 0;
}

static bool is_reference(const char *name) {
	struct image_ref ref;
	if (image_ref_parse(name, &ref, NULL) < 0)
		return false;
	image_ref_free(&ref);
	return true;
}

/* A missing image rather than a missing instance whose name space was to be shared. */
static bool image_is_missing(int r, const struct error *err) {
	return r == -ERROR_NOT_FOUND &&
	       (!err->field || strcmp(err->field, "image") == 0 || strcmp(err->field, "spec.image") == 0);
}

static int create(const struct invocation *in, const struct create_options *o, json_t **instance, struct error *err) {
	const struct instance_spec *spec = in->fields;
	_cleanup_(json_free_ptr) json_t *body = fields_print(&instance_spec_table, spec);
	int r = strcmp(o->pull, "always") == 0 ? pull_for(in, spec->image, o->platform, o->quiet, err) : 0;
	if (r < 0)
		return r;
	struct error e = ERROR_INIT;
	r = api_call(in, "POST", api_path(in, "/instances"), body, instance, &e);
	if (image_is_missing(r, &e) && strcmp(o->pull, "missing") == 0 && is_reference(spec->image)) {
		error_free(&e);
		r = pull_for(in, spec->image, o->platform, o->quiet, &e);
		if (r == 0)
			r = api_call(in, "POST", api_path(in, "/instances"), body, instance, &e);
	}
	return r < 0 ? error_move(err, &e) : 0;
}

static void spec_take_console(const struct invocation *in, const json_t *instance) {
	struct instance_spec *spec = in->fields;
	const json_t *made = json_object_get(instance, "spec");
	if (!instance_is_machine(spec))
		return;
	spec->tty = json_get_bool(made, "tty");
	spec->stdin_open = json_get_bool(made, "stdin_open");
	spec->stdin_once = spec->stdin_once && json_get_bool(made, "stdin_once");
}

int spec_create(const struct invocation *in, const struct create_options *o, json_t **instance, struct error *err) {
	if (!strv_has((char *[]){"missing", "always", "never", NULL}, o->pull))
		return error_set(err, ERROR_INVALID, "--pull must be missing, always or never");
	if (o->cidfile && fs_exists(o->cidfile))
		return error_set(err, ERROR_EXISTS, "the file %s exists already", o->cidfile);
	int r = create(in, o, instance, err);
	if (r < 0)
		return r;
	const char *id = json_get_str(*instance, "id");
	if (!id)
		return error_set(err, ERROR_CORRUPT, "the daemon's answer has no id");
	r = o->cidfile ? fs_replace(o->cidfile, id, strlen(id), 0644) : 0;
	/* of an image that came only now the daemon knows whether it is a disk */
	spec_take_console(in, *instance);
	return r < 0 ? error_errno(err, r, "cannot write %s", o->cidfile) : 0;
}
