/* Routes of machines that move from one daemon to another: what the one that has it does, and what the other one takes. */
#include "core/migrations.h"
#include "dialect/native/native-priv.h"
#include "model/task.h"

#include <unistd.h>

#define P "/v1/projects/{project}"
#define TICKET P "/migrations/{ticket}"

static void migrate(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct migration_request dto;
	char *task = NULL;
	if (!dto_parse(req, &migration_request_table, &dto, NULL))
		return;
	int r = instance_migrate(core_of(req), project_of(req), name_of(req), &dto, &task, &err);
	fields_free(&migration_request_table, &dto);
	reply_json(req, r, 202, &task, &err);
}

static void offer(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct migration_offer dto;
	struct migration_ticket ticket = {0};
	if (!dto_parse(req, &migration_offer_table, &dto, NULL))
		return;
	int r = migration_offer(core_of(req), project_of(req), &dto, &ticket, &err);
	fields_free(&migration_offer_table, &dto);
	if (r < 0)
		return fail(req, &err);
	reply_table(req, 201, &migration_ticket_table, &ticket);
	fields_free(&migration_ticket_table, &ticket);
}

static void arrive(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct migration_arrival dto;
	if (!dto_parse(req, &migration_arrival_table, &dto, NULL))
		return;
	int r = migration_arrive(core_of(req), project_of(req), http_param(req, "ticket"), &dto, &err);
	fields_free(&migration_arrival_table, &dto);
	if (r < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void connect_channel(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	struct migration_channel dto;
	if (!dto_parse(req, &migration_channel_table, &dto, NULL))
		return;
	int r = migration_expects(core_of(req), http_param(req, "ticket"), &dto, &err);
	int fd = r == 0 ? http_upgrade(req, "wabe-stream", &early) : -1;
	if (fd >= 0 && early.len) /* whoever speaks before its turn has lost it */
		close(fd);
	else if (fd >= 0)
		migration_connect(core_of(req), http_param(req, "ticket"), dto.channel, fd);
	fields_free(&migration_channel_table, &dto);
	if (r < 0)
		fail(req, &err);
}

const struct native_route migration_routes[] = {
	{"POST", P "/instances/{name}/migrate", migrate, .summary = "Moves a machine to another daemon while it runs",
	 .request = &migration_request_table, .reply = &task_table, .status = 202},
	{"POST", P "/migrations", offer, .summary = "Leave for a machine to come here", .request = &migration_offer_table,
	 .reply = &migration_ticket_table, .status = 201},
	{"POST", TICKET, arrive, .summary = "The machine that comes", .request = &migration_arrival_table, .status = 204},
	{"POST", TICKET "/connect", connect_channel, .summary = "One of its connections", .request = &migration_channel_table,
	 .what = "upgrade to wabe-stream: what QEMU and the agents say to each other", .status = 101},
	{0},
};
