/* What only machines have: a screen, keys and a pointer, and a guest that tells of itself. */
#include "core/machines.h"

#include "core/core-priv.h"
#include "core/images.h"

static int call_stream(struct core *c, const char *project, const char *name, const char *request, int *fd, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_id body = {.id = snap->instance.id};
	*fd = -1;
	r = agent_call_fd(c, request, &body, -1, NULL, fd, err);
	return r < 0 || *fd >= 0 ? r : error_set(err, ERROR_INTERNAL, "the agent gave no stream");
}

int machine_display(struct core *c, const char *project, const char *name, int *fd, struct error *err) {
	return call_stream(c, project, name, "machine-display", fd, err);
}

int machine_usb(struct core *c, const char *project, const char *name, int *fd, struct error *err) {
	return call_stream(c, project, name, "machine-usb", fd, err);
}

int machine_screen(struct core *c, const char *project, const char *name, int *fd, struct error *err) {
	return call_stream(c, project, name, "machine-screen", fd, err);
}

int machine_input(struct core *c, const char *project, const char *name, const struct machine_input *in, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_machine_input body = {.id = snap->instance.id, .input = *in};
	return agent_call(c, "machine-input", &body, NULL, err);
}

int machine_inside(struct core *c, const char *project, const char *name, struct inside *out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_id body = {.id = snap->instance.id};
	return agent_call(c, "machine-inside", &body, out, err);
}

/* A stream that ends early is a failed read, so no half of a system becomes an image. */
int instance_convert(struct core *c, const char *project, const char *name, const char *image, const char *comment,
		     struct image_snap **out, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	char *init[] = {(char *)"/sbin/init", NULL};
	const struct image_config config = {.command = init};
	const struct image_import_options o = {.name = image, .kind = "oci", .comment = comment, .config = &config};
	int r = call_stream(c, project, name, "machine-tree", &fd, err);
	return r < 0 ? r : image_import(c, project, &o, fd, out, err);
}

int machine_set_password(struct core *c, const char *project, const char *name, const struct inside_password *p, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_machine_password body = {.id = snap->instance.id, .change = *p};
	return agent_call(c, "machine-password", &body, NULL, err);
}

int machine_export(struct core *c, const char *project, const char *name, const struct machine_export *e, int *fd, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	struct msg_machine_export body = {
		.id = snap->instance.id, .disk = (char *)e->disk, .since = (char *)e->since, .checkpoint = (char *)e->checkpoint};
	*fd = -1;
	r = agent_call_fd(c, "machine-export", &body, -1, NULL, fd, err);
	return r < 0 || *fd >= 0 ? r : error_set(err, ERROR_INTERNAL, "the agent gave no stream");
}

static int checkpoints(struct core *c, const char *project, const char *name, const char *remove, struct msg_checkpoints *out,
		       struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	struct msg_machine_export body = {.id = r == 0 ? snap->instance.id : NULL, .checkpoint = (char *)remove};
	return r < 0 ? r : agent_call(c, "machine-checkpoints", &body, out, err);
}

int machine_checkpoints(struct core *c, const char *project, const char *name, char **json, struct error *err) {
	struct msg_checkpoints list = {0};
	int r = checkpoints(c, project, name, NULL, &list, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_object_set_new(answer, "checkpoints", json_from_strv(list.checkpoints));
	*json = json_print(answer);
	fields_free(&msg_checkpoints_table, &list);
	return 0;
}

int machine_checkpoint_delete(struct core *c, const char *project, const char *name, const char *checkpoint, struct error *err) {
	struct msg_checkpoints list = {0};
	int r = checkpoints(c, project, name, checkpoint, &list, err);
	if (r == 0)
		fields_free(&msg_checkpoints_table, &list);
	return r;
}
