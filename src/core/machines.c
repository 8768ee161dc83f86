/* What only machines have: a screen, and a guest that tells of itself. */
#include "core/machines.h"

#include "core/core-priv.h"

int machine_display(struct core *c, const char *project, const char *name, int *fd, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_id body = {.id = snap->instance.id};
	*fd = -1;
	r = agent_call_fd(c, "machine-display", &body, -1, NULL, fd, err);
	return r < 0 || *fd >= 0 ? r : error_set(err, ERROR_INTERNAL, "the agent gave no stream");
}

int machine_inside(struct core *c, const char *project, const char *name, struct inside *out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_id body = {.id = snap->instance.id};
	return agent_call(c, "machine-inside", &body, out, err);
}

int machine_set_password(struct core *c, const char *project, const char *name, const struct inside_password *p, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_machine_password body = {.id = snap->instance.id, .change = *p};
	return agent_call(c, "machine-password", &body, NULL, err);
}
