/* Routes of what only machines have: the graphical console, as a raw stream for programs and as a websocket for browsers, and as a
 * picture; keys and pointer. */
#include "core/machines.h"
#include "dialect/native/native-priv.h"
#include "http/websocket.h"

#include <unistd.h>

#define P "/v1/projects/{project}"
#define ONE P "/instances/{name}"

static void display(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (machine_display(core_of(req), project_of(req), name_of(req), &fd, &err) < 0)
		return fail(req, &err);
	http_upgrade_relay(req, "rfb", fd);
}

static void usb(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (machine_usb(core_of(req), project_of(req), name_of(req), &fd, &err) < 0)
		return fail(req, &err);
	http_upgrade_relay(req, "usbredir", fd);
}

static void display_websocket(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	int fd;
	if (websocket_check(req, &err) < 0 || machine_display(core_of(req), project_of(req), name_of(req), &fd, &err) < 0)
		return fail(req, &err);
	int client = websocket_accept(req, &early);
	if (client < 0)
		close(fd);
	else
		websocket_relay(req, client, &early, fd);
}

static void screen(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (machine_screen(core_of(req), project_of(req), name_of(req), &fd, &err) < 0)
		return fail(req, &err);
	reply_stream_fd(req, "image/png", fd);
}

static void input(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct machine_input in;
	if (!dto_parse(req, &machine_input_table, &in, NULL))
		return;
	int r = machine_input(core_of(req), project_of(req), name_of(req), &in, &err);
	fields_free(&machine_input_table, &in);
	if (r < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void inside(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct inside told = {0};
	if (machine_inside(core_of(req), project_of(req), name_of(req), &told, &err) < 0)
		return fail(req, &err);
	reply_table(req, 200, &inside_table, &told);
	fields_free(&inside_table, &told);
}

static void password(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct inside_password dto;
	if (!dto_parse(req, &inside_password_table, &dto, NULL))
		return;
	int r = machine_set_password(core_of(req), project_of(req), name_of(req), &dto, &err);
	fields_free(&inside_password_table, &dto);
	if (r < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void backup(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct machine_export e = {http_query(req, "disk"), http_query(req, "since"), http_query(req, "checkpoint")};
	int fd;
	if (machine_export(core_of(req), project_of(req), name_of(req), &e, &fd, &err) < 0)
		return fail(req, &err);
	reply_stream_fd(req, e.disk ? "application/octet-stream" : TAR_TYPE, fd);
}

static void checkpoints(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	char *json = NULL;
	if (machine_checkpoints(core_of(req), project_of(req), name_of(req), &json, &err) < 0)
		return fail(req, &err);
	http_reply(req, 200, JSON_TYPE, json, strlen(json));
	free(json);
}

static void checkpoint_remove(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (machine_checkpoint_delete(core_of(req), project_of(req), name_of(req), http_param(req, "checkpoint"), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

const struct native_route machine_routes[] = {
	{"POST", ONE "/display", display, .summary = "A machine's graphical console", .what = "upgrade to rfb (RFC 6143)", .status = 101},
	{"GET", ONE "/display", display_websocket, .summary = "The same for browsers", .what = "upgrade to websocket with the stream in binary messages",
	 .status = 101},
	{"POST", ONE "/usb", usb, .summary = "A USB device of the caller's for a machine", .what = "upgrade to usbredir", .status = 101},
	{"GET", ONE "/screen", screen, .summary = "A picture of it", .what = "PNG", .status = 200},
	{"POST", ONE "/input", input, .summary = "Keys and pointer of a machine", .request = &machine_input_table, .status = 204},
	{"POST", ONE "/backup", backup, .summary = "The disks of a machine, of one moment: all, or what has been written since a checkpoint",
	 .query = "disk since checkpoint", .what = "tar of qcow2 images; with disk: one of them", .status = 200},
	{"GET", ONE "/checkpoints", checkpoints, .summary = "Checkpoints of its disks", .what = "{\"checkpoints\":[NAME…]}", .status = 200},
	{"DELETE", ONE "/checkpoints/{checkpoint}", checkpoint_remove, .summary = "Removes one", .status = 204},
	{"GET", ONE "/inside", inside, .summary = "What a machine's guest tells of itself, by the agent in it", .reply = &inside_table, .status = 200},
	{"POST", ONE "/inside/password", password, .summary = "Has a machine's guest change a user's password", .request = &inside_password_table,
	 .status = 204},
	{0},
};
