/* Hooks: programs of the configuration that run at points of a container's life, with its state on their
 * standard input. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/container/container-priv.h"

static int run_one(const struct container_hook *h, const char *state, struct error *err) {
	char *own_args[] = {h->path, NULL};
	char *no_env[] = {NULL};
	_cleanup_(strv_free_ptr) char **args = strv_copy(h->args && h->args[0] ? h->args : own_args);
	free(args[0]);
	args[0] = str_copy(h->path); /* a hook is found by its path, whatever it is called */
	struct proc p = {
		.argv = args,
		.env = h->env ? h->env : no_env,
		.input = state,
		.input_len = strlen(state),
		.deadline_ns = h->timeout * NS_PER_SEC,
	};
	int r = proc_run_ok(&p, err);
	return r < 0 ? error_wrap(err, "the hook %s", h->path) : 0;
}

int hooks_run(const struct container_hook *hooks, size_t n, const char *state, struct error *err) {
	for (size_t i = 0; i < n; i++) {
		int r = run_one(&hooks[i], state, err);
		if (r < 0)
			return r;
	}
	return 0;
}

char *hooks_state(const char *id, const char *status, pid_t pid, const char *bundle, const struct pairs *annotations) {
	_cleanup_(json_free_ptr) json_t *o = json_object();
	json_set_str(o, "ociVersion", "1.1.0");
	json_set_str(o, "id", id);
	json_set_str(o, "status", status);
	if (pid > 0)
		json_set_int(o, "pid", pid);
	json_set_str(o, "bundle", bundle ? bundle : "");
	json_object_set_new(o, "annotations", pairs_print(annotations));
	return json_print(o);
}

json_t *hooks_print(const struct container_hook *hooks, size_t n) {
	json_t *a = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *o = json_object();
		json_set_str(o, "path", hooks[i].path);
		json_object_set_new(o, "args", json_from_strv(hooks[i].args));
		json_object_set_new(o, "env", json_from_strv(hooks[i].env));
		json_set_int(o, "timeout", hooks[i].timeout);
		json_array_append_new(a, o);
	}
	return a;
}

int container_run_hooks(const struct container_state *s, enum container_hook_kind kind, const char *status, struct error *err) {
	_cleanup_(container_config_free) struct container_config c;
	container_config_init(&c);
	int r = state_config_parse(s->config, &c, err);
	if (r < 0 || c.hooks[kind].n == 0)
		return r;
	_cleanup_(free_ptr) char *state =
		hooks_state(s->id, status, strcmp(status, "stopped") == 0 ? 0 : s->pid, c.bundle, &c.annotations);
	return hooks_run(c.hooks[kind].items, c.hooks[kind].n, state, err);
}

void container_hooks_parse(const json_t *list, struct container_hook **items, size_t *n) {
	*n = json_array_size(list);
	*items = alloc_array(*n + 1, sizeof **items);
	for (size_t i = 0; i < *n; i++) {
		const json_t *o = json_array_get(list, i);
		const char *path = json_get_str(o, "path");
		(*items)[i] = (struct container_hook){
			.path = str_copy(path ? path : ""),
			.args = json_get_strv(o, "args"),
			.env = json_get_strv(o, "env"),
			.timeout = json_get_int(o, "timeout"),
		};
	}
}
