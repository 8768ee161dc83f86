/* How a container looks from outside: its state in words, its command, what was noted of its creation. */
#include "dialect/docker/containers.h"

#include "base/time.h"

#include <inttypes.h>

bool docker_runs(const struct instance *i) {
	const char *s = i->status.state;
	return str_same(s, "running") || str_same(s, "paused") || str_same(s, "restarting");
}

/* Docker has no word for what is suspended. */
const char *docker_state(const struct instance *i) {
	if (str_same(i->status.state, "suspended"))
		return "exited";
	return i->status.state ? i->status.state : "created";
}

/* ---- "Up 5 minutes" ---- */

/* A length of time as Docker's clients are used to read it. */
static char *duration_text(int64_t ns) {
	int64_t s = MAX(ns, 0) / NS_PER_SEC, m = s / 60, h = (s + 1800) / 3600;
	if (s < 1)
		return str_copy("Less than a second");
	if (s == 1)
		return str_copy("1 second");
	if (s < 60)
		return str_format("%" PRId64 " seconds", s);
	if (m == 1)
		return str_copy("About a minute");
	if (m < 60)
		return str_format("%" PRId64 " minutes", m);
	if (h == 1)
		return str_copy("About an hour");
	if (h < 48)
		return str_format("%" PRId64 " hours", h);
	if (h < 24 * 7 * 2)
		return str_format("%" PRId64 " days", h / 24);
	if (h < 24 * 30 * 2)
		return str_format("%" PRId64 " weeks", h / 24 / 7);
	if (h < 24 * 365 * 2)
		return str_format("%" PRId64 " months", h / 24 / 30);
	return str_format("%" PRId64 " years", s / 3600 / 24 / 365);
}

char *docker_status_text(const struct instance *i, int64_t now) {
	const struct instance_status *s = &i->status;
	_cleanup_(free_ptr) char *up = duration_text(now - s->started_at), *down = duration_text(now - s->finished_at);
	if (str_same(s->state, "paused"))
		return str_format("Up %s (Paused)", up);
	if (str_same(s->state, "restarting"))
		return str_format("Restarting (%" PRId64 ") %s ago", s->exit_code, down);
	if (str_same(s->state, "running") && s->health)
		return str_format("Up %s (%s%s)", up, str_same(s->health, "starting") ? "health: " : "", s->health);
	if (str_same(s->state, "running"))
		return str_format("Up %s", up);
	if (str_same(s->state, "dead"))
		return str_copy("Dead");
	if (!s->started_at && !s->finished_at)
		return str_copy("Created");
	return str_format("Exited (%" PRId64 ") %s ago", s->exit_code, down);
}

/* ---- what runs ---- */

const char **docker_argv(const struct instance *i, const struct image_config *image) {
	const struct instance_spec *s = &i->spec;
	char *const *entry = s->entrypoint ? s->entrypoint : image ? image->entrypoint : NULL;
	char *const *command = s->command || s->entrypoint ? s->command : image ? image->command : NULL;
	const char **argv = alloc_array(strv_len(entry) + strv_len(command) + 1, sizeof *argv);
	size_t n = 0;
	for (; entry && *entry; entry++)
		if ((*entry)[0] || n || entry[1])
			argv[n++] = *entry;
	for (; command && *command; command++)
		argv[n++] = *command;
	return argv;
}

/* ---- notes ---- */

json_t *docker_note(const struct instance *i, const char *key) {
	const char *text = pairs_get(&i->spec.annotations, key);
	json_t *note = text ? json_parse(text, strlen(text), NULL) : NULL;
	if (json_is_object(note))
		return note;
	json_decref(note);
	return NULL;
}

char *docker_mode(const char *own) {
	if (!own || !str_starts(own, "instance:"))
		return str_copy(own ? own : "");
	return str_format("container:%s", own + strlen("instance:"));
}
