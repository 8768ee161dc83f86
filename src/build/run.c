/* RUN: an instance of the step's image runs the command; what it changed is the step's layer. */
#include "build/build-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "core/instances.h"
#include "image/manifest.h"
#include "shim/protocol.h"

#include <poll.h>
#include <unistd.h>

/* ---- the command ---- */

/* The here-document that is all of the command; NULL. */
static const struct heredoc *script_of(const struct instruction *i) {
	return i->n_heredocs == 1 && str_same(i->args[0], i->heredocs[0].word) ? &i->heredocs[0] : NULL;
}

static bool has_interpreter(const struct heredoc *script) {
	return script && str_starts(script->content, "#!");
}

/* What the shell gets: the line with its here-documents behind it, as it reads them itself; or the one that it is. */
static char *shell_text(const struct instruction *i) {
	struct buf text = BUF_INIT;
	const struct heredoc *script = script_of(i);
	if (script)
		return str_copy(script->content);
	buf_adds(&text, i->args[0]);
	for (size_t k = 0; k < i->n_heredocs; k++)
		buf_addf(&text, "\n%s%s", i->heredocs[k].content, i->heredocs[k].name);
	return buf_steal(&text);
}

static char **command_of(const struct stage *s, const struct instruction *i) {
	char **argv = NULL;
	if (i->json)
		return strv_copy(i->args);
	if (has_interpreter(script_of(i))) {
		strv_take(&argv, str_format("/dev/pipes/%s", i->heredocs[0].name));
		return argv;
	}
	if (s->config.shell)
		argv = strv_copy(s->config.shell);
	else {
		strv_add(&argv, "/bin/sh");
		strv_add(&argv, "-c");
	}
	strv_take(&argv, shell_text(i));
	return argv;
}

/* The command as the history has it: "|2 A=1 B=2 " before it where arguments of the build counted. */
static char *history_of(const struct instruction *i, char *const *argv, char *const *args, const struct run_mounts *mounts) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *plain = strv_join(argv, " ");
	buf_adds(&text, plain);
	if (has_interpreter(script_of(i)))
		buf_addf(&text, " <<%s\n%s%s", i->heredocs[0].name, i->heredocs[0].content, i->heredocs[0].name);
	for (char **m = i->mounts; m && *m; m++)
		buf_addf(&text, " # --mount=%s", *m);
	for (char **d = mounts->digests; d && *d; d++)
		buf_addf(&text, " # %s", *d);
	_cleanup_(free_ptr) char *command = str_copy(buf_str(&text));
	_cleanup_(strv_free_ptr) char **counted = NULL;
	for (char *const *a = args; a && *a; a++) {
		_cleanup_(free_ptr) char *name = str_copyn(*a, strcspn(*a, "="));
		if (!args_is_builtin(name))
			strv_add(&counted, *a);
	}
	if (!counted)
		return TAKE_PTR(command);
	_cleanup_(free_ptr) char *joined = strv_join(counted, " ");
	return str_format("|%zu %s %s", strv_len(counted), joined, command);
}

/* ---- the instance ---- */

static void set_network(struct instance_spec *spec, const char *network) {
	if (!network || !*network || str_same(network, "default") || str_same(network, "bridge"))
		return;
	if (str_same(network, "none") || str_same(network, "host") || str_starts(network, "instance:")) {
		free(spec->network);
		spec->network = str_copy(network);
		return;
	}
	spec->networks.items = alloc_array(1, sizeof *spec->networks.items);
	spec->networks.items[0].network = str_copy(network);
	spec->networks.n = 1;
}

static void set_limits(struct limits *to, const struct limits *from) {
	to->cpu_shares = from->cpu_shares;
	to->cpu_quota = from->cpu_quota;
	to->cpu_period = from->cpu_period;
	to->cpuset_cpus = from->cpuset_cpus ? str_copy(from->cpuset_cpus) : NULL;
	to->cpuset_mems = from->cpuset_mems ? str_copy(from->cpuset_mems) : NULL;
	to->memory = from->memory;
	to->memory_swap = from->memory_swap;
	if (from->shm_size)
		to->shm_size = from->shm_size;
}

static void fill_spec(const struct stage *s, const struct instruction *i, char *const *argv, char *const *env,
		      const struct run_mounts *mounts, struct instance_spec *spec) {
	const struct build_request *o = s->b->o;
	fields_init(&instance_spec_table, spec);
	spec->image = str_copy(s->image);
	spec->entrypoint = strv_copy(argv);
	spec->env = strv_copy(env);
	if (run_mounts_agent(mounts) && !strv_env_get(env, "SSH_AUTH_SOCK") && !strv_env_get(s->config.env, "SSH_AUTH_SOCK"))
		strv_take(&spec->env, str_format("SSH_AUTH_SOCK=%s", run_mounts_agent(mounts)));
	if (o->n_ulimits)
		spec->ulimits.items = alloc_array(o->n_ulimits, sizeof *spec->ulimits.items);
	for (; spec->ulimits.n < o->n_ulimits; spec->ulimits.n++) {
		const struct ulimit *u = &o->ulimits[spec->ulimits.n];
		spec->ulimits.items[spec->ulimits.n] = (struct ulimit){str_copy(u->name), u->soft, u->hard};
	}
	spec->extra_hosts = strv_copy((char *const *)o->extra_hosts);
	strv_free(TAKE_PTR(spec->health.command));
	strv_add(&spec->health.command, "NONE");
	free(spec->log.driver);
	spec->log.driver = str_copy("none");
	spec->mounts.items = alloc_array(mounts->list.n + 1, sizeof *spec->mounts.items);
	for (; spec->mounts.n < mounts->list.n; spec->mounts.n++)
		fields_copy(&mount_table, &mounts->list.items[spec->mounts.n], &spec->mounts.items[spec->mounts.n]);
	spec->files.items = alloc_array(mounts->files.n + 1, sizeof *spec->files.items);
	for (; spec->files.n < mounts->files.n; spec->files.n++)
		fields_copy(&instance_file_table, &mounts->files.items[spec->files.n], &spec->files.items[spec->files.n]);
	set_network(spec, i->network && !str_same(i->network, "default") ? i->network : o->network);
	set_limits(&spec->limits, &o->limits);
}

/* ---- its output ---- */

struct follow {
	struct stage *s;
	int fd;
	struct buf in;
	int64_t exit_code;
	bool exited;
};

static void take_frames(struct follow *f) {
	for (;;) {
		const uint8_t *h = (const uint8_t *)buf_str(&f->in);
		if (f->in.len < SHIM_HEADER)
			return;
		size_t n = shim_length(h);
		if (n > SHIM_FRAME_MAX || f->in.len < SHIM_HEADER + n)
			return;
		const char *data = (const char *)h + SHIM_HEADER;
		if (h[0] == SHIM_STDOUT || h[0] == SHIM_STDERR)
			output_command(&f->s->out, h[0] == SHIM_STDERR, data, n);
		if (h[0] == SHIM_EXIT && n == 4) {
			const uint8_t *c = (const uint8_t *)data;
			f->exit_code = (int64_t)c[0] << 24 | c[1] << 16 | c[2] << 8 | c[3];
			f->exited = true;
		}
		buf_consume(&f->in, SHIM_HEADER + n);
	}
}

/* Until the end of its process; CANCELLED when nobody wants the build any more. */
static int follow_output(struct follow *f, struct error *err) {
	const struct build_sink *sink = f->s->b->sink;
	while (!f->exited) {
		struct pollfd p[] = {{f->fd, POLLIN, 0}, {sink->gone_fd(sink->arg), POLLIN, 0}};
		/* another stage's failure has no descriptor: looked at now and then */
		if (RETRY_EINTR(poll(p, 2, 500)) < 0)
			return error_errno(err, errno, "waiting for the command");
		if (build_gone(f->s->b))
			return build_cancelled(err);
		if (!p[0].revents)
			continue;
		char *room = buf_room(&f->in, SHIM_FRAME_MAX + SHIM_HEADER);
		ssize_t n = room ? RETRY_EINTR(read(f->fd, room, SHIM_FRAME_MAX + SHIM_HEADER)) : -1;
		if (n <= 0)
			return error_set(err, ERROR_UNAVAILABLE, "the command's output broke off");
		buf_grown(&f->in, (size_t)n);
		take_frames(f);
	}
	return 0;
}

/* ---- the step ---- */

static void remove_instance(struct stage *s, const char *id, bool shown) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_delete(s->b->core, s->b->o->project, id, true, &err) < 0)
		output_text(&s->out, "Error removing intermediate container %.12s: %s\n", id, error_text(&err));
	else if (shown)
		output_text(&s->out, "Removing intermediate container %.12s\n", id);
}

static int failed_command(struct stage *s, char *const *argv, int64_t code, struct error *err) {
	_cleanup_(free_ptr) char *command = strv_join(argv, " ");
	s->exit_code = code;
	if (s->b->sink->event)
		return error_set(err, ERROR_INVALID, "process \"%s\" did not complete successfully: exit code: %lld", command,
				 (long long)code);
	return error_set(err, ERROR_INVALID, "The command '%s' returned a non-zero code: %lld", command, (long long)code);
}

static int run_instance(struct stage *s, const char *id, char *const *argv, struct run_mounts *mounts, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = NULL;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	struct core *c = s->b->core;
	int r = instance_attach(c, s->b->o->project, id, false, true, true, &fd, err);
	if (r == 0)
		r = instance_start(c, s->b->o->project, id, &snap, err);
	if (r == 0)
		r = run_mounts_serve(mounts, err);
	if (r < 0)
		return r;
	struct follow f = {.s = s, .fd = fd};
	r = follow_output(&f, err);
	buf_free(&f.in);
	if (r == 0)
		instance_await_end(c, snap);
	if (r == 0 && f.exit_code)
		return failed_command(s, argv, f.exit_code, err);
	return r;
}

/* The kernel's own word is that it is no program. */
static int foreign_program(const struct stage *s, struct error *err) {
	bool foreign = s->architecture && !str_same(s->architecture, host_architecture());
	if (!foreign || s->exit_code || err->kind == ERROR_CANCELLED)
		return -(int)err->kind;
	return error_wrap(err, "a command for %s/%s, which this host runs with binfmt_misc and an emulator only", s->os, s->architecture);
}

static int commit(struct stage *s, const char *id, const char *created_by, struct error *err) {
	struct image_step step = step_of(s, created_by);
	struct image_snap *snap;
	int r = image_step_instance(s->b->core, s->b->o->project, &step, id, &snap, err);
	if (r == 0)
		step_take(s, snap);
	return r;
}

/* A failed command's instance stays to be looked at, unless it was asked for otherwise, or nobody is there. */
static int run_command(struct stage *s, const struct instruction *i, char *const *argv, char *const *env, struct run_mounts *mounts,
		       const char *created_by, struct error *err) {
	const struct build_request *o = s->b->o;
	struct instance_spec spec;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = run_mounts_fill(s, mounts, err);
	if (r < 0)
		return r;
	fill_spec(s, i, argv, env, mounts, &spec);
	r = instance_create_passing(s->b->core, o->project, &spec, &snap, err);
	if (r < 0)
		return r;
	const char *id = snap->instance.id;
	output_text(&s->out, " ---> Running in %.12s\n", id);
	r = run_instance(s, id, argv, mounts, err);
	if (r < 0)
		r = foreign_program(s, err);
	if (r == 0)
		r = commit(s, id, created_by, err);
	bool gone = build_gone(s->b);
	bool stays = gone || mounts->n_binds ? false : r < 0 ? !o->force_remove : o->keep;
	struct error why = ERROR_INIT;
	if (!stays)
		remove_instance(s, id, !gone);
	else if (instance_keep(s->b->core, o->project, id, &why) < 0)
		output_text(&s->out, "Container %.12s cannot be kept: %s\n", id, error_text(&why));
	error_free(&why);
	return r;
}

int run_step(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = command_of(s, i), **env = args_env(&s->args, &s->args.stage, s->config.env);
	struct run_mounts mounts = {0};
	if (!s->image)
		return error_set(err, ERROR_INVALID, "No image was generated. Is your Dockerfile empty?");
	int r = run_mounts_find(s, i, &mounts, err);
	_cleanup_(free_ptr) char *created_by = history_of(i, argv, env, &mounts);
	if (r == 0 && !step_cached(s, created_by)) {
		r = has_interpreter(script_of(i)) ? run_mounts_add_script(s, &mounts, &i->heredocs[0], err) : 0;
		if (r == 0)
			r = run_command(s, i, argv, env, &mounts, created_by, err);
	}
	run_mounts_end(s, &mounts);
	return r;
}
