/* Routes that reach into containers: attach, exec, logs, files, statistics. */
#include "dialect/docker/inside.h"

const struct docker_route docker_inside_routes[] = {
	{"POST", "/containers/{id}/attach", docker_attach, 0, DOCKER_WORKS, NULL},
	{"GET", "/containers/{id}/attach/ws", docker_attach_websocket, 0, DOCKER_WORKS, NULL},
	{"GET", "/containers/{id}/stats", docker_stats, 0, DOCKER_WORKS, NULL},
	{"POST", "/containers/{id}/resize", docker_resize, 0, DOCKER_WORKS, NULL},
	{"GET", "/containers/{id}/logs", docker_logs, 0, DOCKER_WORKS, NULL},
	{"GET", "/containers/{id}/archive", docker_archive_get, 0, DOCKER_WORKS, NULL},
	{"PUT", "/containers/{id}/archive", docker_archive_put, HTTP_STREAM_BODY, DOCKER_DIFFERS,
	 "copyUIDGID changes no owner"},
	{"POST", "/containers/{id}/exec", docker_exec_create, 0, DOCKER_WORKS, NULL},
	{"POST", "/exec/{id}/start", docker_exec_start, 0, DOCKER_WORKS, NULL},
	{"POST", "/exec/{id}/resize", docker_exec_resize, 0, DOCKER_WORKS, NULL},
	{"GET", "/exec/{id}/json", docker_exec_inspect, 0, DOCKER_WORKS, NULL},
	{0},
};
