/* Containers whose first process is systemd or another init: such a program wants a control group of its own that
 * it may divide, empty directories for its run-time files, to hear that it is in a container, and a signal of
 * its own to stop. Told by the command alone, so that an image of a whole system just runs. */
#include "agent/agent-priv.h"

#include "base/str.h"

#include <sys/mount.h>

bool runs_system(const struct msg_instance_create *r) {
	static const char *const programs[] = {
		"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/bin/systemd",
		"/usr/bin/systemd",
	};
	const struct instance_spec *spec = &r->instance.spec;
	_cleanup_(strv_free_ptr) char **args = NULL;
	if (spec->init || !str_same(spec->pid_mode, "private") || process_args(r, &args, NULL) < 0)
		return false; /* it would not be the first process */
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (str_same(args[0], programs[i]))
			return true;
	return false;
}

static void add_mount(const struct instance_spec *spec, const char *type, const char *target, const char *data,
		      struct container_config *c) {
	for (size_t i = 0; i < spec->mounts.n; i++)
		if (str_same(spec->mounts.items[i].target, target))
			return;
	struct container_mount *m = config_add_mount(c);
	m->type = str_copy(type);
	m->source = str_copy(type);
	m->target = str_copy(target);
	m->flags = MS_NOSUID | MS_NODEV;
	m->data = data ? str_copy(data) : NULL;
}

void config_system(const struct msg_instance_create *r, struct container_config *c) {
	const struct instance_spec *spec = &r->instance.spec;
	add_mount(spec, "tmpfs", "/run", "mode=755", c);
	add_mount(spec, "tmpfs", "/run/lock", "mode=1777", c);
	add_mount(spec, "tmpfs", "/tmp", "mode=1777", c);
	if (cgroup_can_delegate() && str_same(spec->cgroup_mode, "private"))
		add_mount(spec, "cgroup2", "/sys/fs/cgroup", NULL, c);
	bool told = false;
	for (size_t i = 0; c->process.env[i]; i++)
		told |= str_starts(c->process.env[i], "container=");
	if (!told)
		strv_add(&c->process.env, "container=wabe");
}
