/* The Docker dialect's tables as text, for tests and for docs/docker.md, which is what this prints. With --list: one route a
 * line, method, path and support. */
#include "base/str.h"
#include "dialect/docker/docker-priv.h"

#include <stdio.h>

static const struct topic {
	const char *title;
	const struct docker_route *routes;
} topics[] = {
	{"System", docker_system_routes},       {"Containers", docker_container_routes}, {"Inside containers", docker_inside_routes},
	{"Images", docker_image_routes},        {"Building", docker_build_routes},       {"Networks", docker_network_routes},
	{"Volumes", docker_volume_routes},      {"Swarm", docker_swarm_routes},          {"Plugins", docker_plugin_routes},
};

static const char *const support_names[] = {"works", "differs", "not there"};

static const char introduction[] =
	"# The Docker dialect\n\n"
	"<!-- Printed by tests/host/docker_routes.c from the tables in src/dialect/docker; a check compares them. To print it anew:\n"
	"     build-asan/tests/host/docker_routes >docs/docker.md -->\n\n"
	"`RUN/docker.sock` answers the Docker Engine API, versions " DOCKER_API_MIN " to " DOCKER_API ". Root and the members of the group\n"
	"`wabe-docker` reach it: `export DOCKER_HOST=unix:///run/wabe/docker.sock`, and docker, docker-compose and what is built on them\n"
	"work on wabe's own instances, images, networks and volumes. Certificates of registries are read from `/etc/wabe/certs.d` and\n"
	"`/etc/docker/certs.d`; the user wabe must be able to read a client's key.\n\n"
	"Each route either works as Docker documents it, differs from that (how is said), or is not there (why is said) and answers with an\n"
	"error that names it. A field that can't be honoured is refused by its name, never ignored.\n";

static void print_topic(const struct topic *t) {
	printf("\n## %s\n\n| request | | |\n|---|---|---|\n", t->title);
	for (const struct docker_route *r = t->routes; r->method; r++)
		printf("| `%s %s` | %s | %s |\n", r->method, r->path, support_names[r->support], r->note ? r->note : "");
}

static void print_fields(void) {
	printf("\n## Fields\n\nA field that is not listed works as documented.\n\n| field | | |\n|---|---|---|\n");
	for (const struct docker_field_note *n = docker_field_notes; n->field; n++)
		printf("| `%s` | %s | %s |\n", n->field, support_names[n->support], n->note);
}

static void print_list(void) {
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		for (const struct docker_route *r = topics[i].routes; r->method; r++)
			printf("%s\t%s\t%s\t%s\n", r->method, r->path, support_names[r->support], r->note ? r->note : "");
}

/* How many rows the server has, to see that no table was forgotten here. */
static size_t served(void) {
	size_t n = 0;
	while (docker_routes()[n].method)
		n++;
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		for (const struct docker_route *r = topics[i].routes; r->method; r++)
			n--;
	return n;
}

int main(int argc, char **argv) {
	if (served() != 0) {
		fprintf(stderr, "docker_routes: the server has routes that are in no topic here\n");
		return 1;
	}
	if (argc == 2 && str_same(argv[1], "--list")) {
		print_list();
		return 0;
	}
	fputs(introduction, stdout);
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		print_topic(&topics[i]);
	print_fields();
	return 0;
}
