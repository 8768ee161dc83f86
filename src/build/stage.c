/* A stage: its instructions one after the other, each a step. */
#include "build/build-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "build/ignore.h"
#include "build/words.h"

#include <ctype.h>

int stage_expand(struct stage *s, const char *word, char **out, struct error *err) {
	_cleanup_(strv_free_ptr) char **args = args_env(&s->args, &s->args.stage, s->config.env), **env = strv_copy(s->config.env);
	for (char **a = args; a && *a; a++)
		strv_add(&env, *a);
	return word_expand(word, s->b->file.escape, env, out, err);
}

int stage_expand_text(struct stage *s, const char *text, char **out, struct error *err) {
	_cleanup_(strv_free_ptr) char **args = args_env(&s->args, &s->args.stage, s->config.env), **env = strv_copy(s->config.env);
	for (char **a = args; a && *a; a++)
		strv_add(&env, *a);
	return text_expand(text, s->b->file.escape, env, out, err);
}

static int expand_split(struct stage *s, const char *word, char ***out, struct error *err) {
	_cleanup_(strv_free_ptr) char **args = args_env(&s->args, &s->args.stage, s->config.env), **env = strv_copy(s->config.env);
	for (char **a = args; a && *a; a++)
		strv_add(&env, *a);
	return word_expand_split(word, s->b->file.escape, env, out, err);
}

/* ["a" "b"] */
static char *quoted_list(char *const *v) {
	struct buf out = BUF_INIT;
	buf_addc(&out, '[');
	for (size_t i = 0; v && v[i]; i++) {
		_cleanup_(json_free_ptr) json_t *word = json_from_str(v[i]);
		_cleanup_(free_ptr) char *text = json_dumps(word, JSON_ENCODE_ANY);
		buf_addf(&out, "%s%s", i ? " " : "", text);
	}
	buf_addc(&out, ']');
	return buf_steal(&out);
}

/* ---- instructions ---- */

static int do_env(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(strv_free_ptr) char **values = NULL;
	int r = 0;
	buf_adds(&text, "ENV");
	for (size_t k = 0; r == 0 && k < i->pairs.n; k++) {
		_cleanup_(free_ptr) char *name = NULL, *value = NULL;
		r = stage_expand(s, i->pairs.items[k].key, &name, err);
		if (r == 0)
			r = stage_expand(s, i->pairs.items[k].value, &value, err);
		if (r == 0 && !*name)
			r = error_set(err, ERROR_INVALID, "ENV names can not be blank");
		if (r == 0)
			strv_take(&values, str_format("%s=%s", name, value));
	}
	for (char **v = values; r == 0 && v && *v; v++) {
		buf_addf(&text, " %s", *v);
		strv_env_set(&s->config.env, *v);
	}
	return r < 0 ? r : step_config(s, buf_str(&text), err);
}

static int do_label(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = 0;
	buf_adds(&text, "LABEL");
	for (size_t k = 0; r == 0 && k < i->pairs.n; k++) {
		const struct pair *p = &i->pairs.items[k];
		_cleanup_(free_ptr) char *name = NULL, *value = NULL;
		if (i->literal) {
			name = str_copy(p->key);
			value = str_copy(p->value);
		} else {
			r = stage_expand(s, p->key, &name, err);
			if (r == 0)
				r = stage_expand(s, p->value, &value, err);
		}
		if (r == 0 && !*name)
			r = error_set(err, ERROR_INVALID, "LABEL names can not be blank");
		if (r < 0)
			return r;
		pairs_set(&s->config.labels, name, value);
		buf_addf(&text, " %s=%s", name, value);
	}
	return r < 0 ? r : step_config(s, buf_str(&text), err);
}

static int do_arg(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	buf_adds(&text, "ARG");
	for (size_t k = 0; k < i->pairs.n; k++) {
		const struct pair *p = &i->pairs.items[k];
		_cleanup_(free_ptr) char *value = NULL;
		int r = p->value ? stage_expand(s, p->value, &value, err) : 0;
		if (r < 0)
			return r;
		args_add(&s->args.stage, p->key, value);
		buf_addf(&text, " %s%s%s", p->key, value ? "=" : "", value ? value : "");
	}
	return step_config(s, buf_str(&text), err);
}

static int do_command(struct stage *s, const struct instruction *i, char ***to, const char *name, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	if (!i->json && i->args) {
		if (s->config.shell)
			argv = strv_copy(s->config.shell);
		else {
			strv_add(&argv, "/bin/sh");
			strv_add(&argv, "-c");
		}
	}
	for (char **a = i->args; a && *a; a++)
		strv_add(&argv, *a);
	strv_free(*to);
	*to = strv_copy(argv);
	_cleanup_(free_ptr) char *list = quoted_list(argv), *text = str_format("%s %s", name, list);
	return step_config(s, text, err);
}

static int do_entrypoint(struct stage *s, const struct instruction *i, struct error *err) {
	if (!s->command_set)
		strv_free(TAKE_PTR(s->config.command)); /* that of the base was for another entrypoint */
	return do_command(s, i, &s->config.entrypoint, "ENTRYPOINT", err);
}

static int do_cmd(struct stage *s, const struct instruction *i, struct error *err) {
	s->command_set = true;
	return do_command(s, i, &s->config.command, "CMD", err);
}

static int do_workdir(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	int r = stage_expand(s, i->args[0], &path, err);
	if (r < 0)
		return r;
	if (!*path)
		return error_set(err, ERROR_INVALID, "cannot normalize nothing");
	_cleanup_(free_ptr) char *joined = *path == '/' ? str_copy(path)
							 : str_format("%s/%s", s->config.workdir ? s->config.workdir : "", path);
	_cleanup_(free_ptr) char *clean = path_clean(joined);
	free(s->config.workdir);
	s->config.workdir = str_format("/%s", clean);
	return workdir_step(s, s->config.workdir, err);
}

static int do_user(struct stage *s, const struct instruction *i, struct error *err) {
	char *user = NULL;
	int r = stage_expand(s, i->args[0], &user, err);
	if (r < 0)
		return r;
	free(s->config.user);
	s->config.user = user;
	_cleanup_(free_ptr) char *text = str_format("USER %s", user);
	return step_config(s, text, err);
}

static void add_once(char ***v, const char *s) {
	if (!strv_has(*v, s))
		strv_add(v, s);
}

static int do_volume(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(strv_free_ptr) char **volumes = NULL;
	for (char **a = i->args; *a; a++) {
		char *path = NULL;
		int r = stage_expand(s, *a, &path, err);
		if (r < 0)
			return r;
		strv_take(&volumes, path);
		if (!path[strspn(path, " ")])
			return error_set(err, ERROR_INVALID, "VOLUME specified can not be an empty string");
		_cleanup_(free_ptr) char *clean = path_clean(path);
		_cleanup_(free_ptr) char *target = *path == '/' ? str_format("/%s", clean) : str_copy(path);
		add_once(&s->config.volumes, target);
	}
	_cleanup_(free_ptr) char *list = strv_join(volumes, " "), *text = str_format("VOLUME [%s]", list);
	return step_config(s, text, err);
}

/* "80", "80/udp", "8000-8010": each port by itself. */
static int add_ports(struct stage *s, const char *word, struct error *err) {
	_cleanup_(free_ptr) char *range = str_copyn(word, strcspn(word, "/"));
	const char *protocol = strchr(word, '/') ? strchr(word, '/') + 1 : "tcp", *dash = strchr(range, '-');
	_cleanup_(free_ptr) char *low = str_copyn(range, strcspn(range, "-"));
	uint64_t from, to;
	_cleanup_(free_ptr) char *lower = str_copy(protocol), *shown = text_shown(word);
	for (char *c = lower; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (strchr(word, ':')) /* "host:container": what is meant is the container's */
		return add_ports(s, strrchr(word, ':') + 1, err);
	if (str_to_u64(low, 10, &from) < 0 || str_to_u64(dash ? dash + 1 : low, 10, &to) < 0 || from > to || to > 65535)
		return error_set(err, ERROR_INVALID, "invalid containerPort: %s", shown);
	if (!str_same(lower, "tcp") && !str_same(lower, "udp") && !str_same(lower, "sctp"))
		return error_set(err, ERROR_INVALID, "invalid proto: %s", shown);
	for (; from <= to; from++) {
		_cleanup_(free_ptr) char *port = str_format("%llu/%s", (unsigned long long)from, lower);
		add_once(&s->config.exposed_ports, port);
	}
	return 0;
}

static int do_expose(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = NULL;
	int r = 0;
	for (char **a = i->args; r == 0 && *a; a++) {
		_cleanup_(strv_free_ptr) char **some = NULL;
		r = expand_split(s, *a, &some, err);
		for (char **w = some; r == 0 && w && *w; w++) {
			strv_add(&words, *w);
			r = add_ports(s, *w, err);
		}
	}
	if (r < 0)
		return r;
	strv_sort(s->config.exposed_ports);
	_cleanup_(free_ptr) char *list = strv_join(words, " "), *text = str_format("EXPOSE %s", list);
	return step_config(s, text, err);
}

static int do_stopsignal(struct stage *s, const struct instruction *i, struct error *err) {
	char *name = NULL;
	int r = stage_expand(s, i->args[0], &name, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	free(s->config.stop_signal);
	s->config.stop_signal = name;
	if (signal_from_name(name) <= 0)
		return error_set(err, ERROR_INVALID, "Invalid signal: %s", shown);
	_cleanup_(free_ptr) char *text = str_format("STOPSIGNAL %s", name);
	return step_config(s, text, err);
}

/* As Go prints a duration: "1m0s". */
static char *go_duration(int64_t ns) {
	long long minutes = ns / (60 * NS_PER_SEC), h = minutes / 60, m = minutes % 60;
	if (ns < NS_PER_SEC || ns % NS_PER_SEC)
		return duration_to_str(ns);
	long long s = ns / NS_PER_SEC % 60;
	return h ? str_format("%lldh%lldm%llds", h, m, s) : m ? str_format("%lldm%llds", m, s) : str_format("%llds", s);
}

static int do_healthcheck(struct stage *s, const struct instruction *i, struct error *err) {
	struct health_check *h = &s->config.health;
	strv_free(h->command);
	*h = i->health;
	h->command = strv_copy(i->health.command);
	_cleanup_(free_ptr) char *list = quoted_list(h->command), *interval = go_duration(h->interval),
				 *timeout = go_duration(h->timeout), *start = go_duration(h->start_period),
				 *between = go_duration(h->start_interval), *more = str_format(" \"%s\"", between);
	_cleanup_(free_ptr) char *text = str_format("HEALTHCHECK &{%s \"%s\" \"%s\" \"%s\"%s '\\x%02llx'}", list, interval, timeout,
						    start, h->start_interval ? more : "", (unsigned long long)h->retries);
	return step_config(s, text, err);
}

static int do_shell(struct stage *s, const struct instruction *i, struct error *err) {
	strv_free(s->config.shell);
	s->config.shell = strv_copy(i->args);
	_cleanup_(free_ptr) char *list = strv_join(i->args, " "), *text = str_format("SHELL [%s]", list);
	return step_config(s, text, err);
}

static int do_onbuild(struct stage *s, const struct instruction *i, struct error *err) {
	strv_add(&s->config.on_build, i->args[0]);
	_cleanup_(free_ptr) char *text = str_format("ONBUILD %s", i->args[0]);
	return step_config(s, text, err);
}

static int do_maintainer(struct stage *s, const struct instruction *i, struct error *err) {
	free(s->maintainer);
	s->maintainer = str_copy(i->args[0]);
	_cleanup_(free_ptr) char *text = str_format("MAINTAINER %s", s->maintainer);
	return step_config(s, text, err);
}

static int do_from(UNUSED struct stage *s, UNUSED const struct instruction *i, struct error *err) {
	return error_set(err, ERROR_INVALID, "FROM is not possible here");
}

int stage_step(struct stage *s, const struct instruction *i, struct error *err) {
	static int (*const steps[DOCKER_KINDS])(struct stage *s, const struct instruction *i, struct error *err) = {
		[DOCKER_ADD] = copy_step,	    [DOCKER_ARG] = do_arg,
		[DOCKER_CMD] = do_cmd,		    [DOCKER_COPY] = copy_step,
		[DOCKER_ENTRYPOINT] = do_entrypoint, [DOCKER_ENV] = do_env,
		[DOCKER_EXPOSE] = do_expose,	    [DOCKER_FROM] = do_from,
		[DOCKER_HEALTHCHECK] = do_healthcheck, [DOCKER_LABEL] = do_label,
		[DOCKER_MAINTAINER] = do_maintainer, [DOCKER_ONBUILD] = do_onbuild,
		[DOCKER_RUN] = run_step,	    [DOCKER_SHELL] = do_shell,
		[DOCKER_STOPSIGNAL] = do_stopsignal, [DOCKER_USER] = do_user,
		[DOCKER_VOLUME] = do_volume,	    [DOCKER_WORKDIR] = do_workdir,
	};
	return build_gone(s->b) ? build_cancelled(err) : steps[i->kind](s, i, err);
}

int stage_run(struct stage *s, struct error *err) {
	size_t step = s->step;
	output_text(&s->out, "Step %zu/%zu : %s\n", step++, s->b->n_steps, s->text->from.text);
	event_begin(s, &s->text->from);
	int r = from_step(s, err);
	event_end(s, r, err);
	for (size_t i = 0; r == 0 && i < s->text->n; i++) {
		output_text(&s->out, "Step %zu/%zu : %s\n", step++, s->b->n_steps, s->text->items[i].text);
		event_begin(s, &s->text->items[i]);
		r = stage_step(s, &s->text->items[i], err);
		event_end(s, r, err);
		if (r == 0)
			output_text(&s->out, " ---> %.12s\n", s->image + 7);
	}
	return r;
}
