/* What the files of the Docker dialect share. A handler decodes its request, calls a verb of the core and renders the
 * answer; policy, waiting and storage are the core's. */
#pragma once

#include "core/images.h"
#include "core/instances.h"
#include "dialect/dialect.h"
#include "dialect/docker/docker.h"
#include "model/field.h"

/* The one project that Docker's clients see. */
#define DOCKER_PROJECT "default"

/* ---- routes: what docs/docker.md is made of ---- */
enum docker_support {
	DOCKER_WORKS,
	DOCKER_DIFFERS, /* how is in the note */
	DOCKER_MISSING, /* answered with an error that says so; why is in the note */
};
struct docker_route {
	const char *method, *path; /* without the version */
	http_handler handler;
	unsigned flags;            /* http_route_flags */
	enum docker_support support;
	const char *note;          /* NULL where it works as documented */
};
/* A table each, in the file of its topic; NULL-method row last. */
extern const struct docker_route docker_container_routes[], docker_inside_routes[], docker_image_routes[],
	docker_build_routes[], docker_network_routes[], docker_volume_routes[], docker_system_routes[],
	docker_swarm_routes[], docker_plugin_routes[];

/* What is to be said of single fields ("HostConfig.CgroupParent"), sorted by name; NULL-field row last (notes.c). */
struct docker_field_note {
	const char *field;
	enum docker_support support;
	const char *note;
};
extern const struct docker_field_note docker_field_notes[];

/* ---- requests (reply.c) ---- */
/* The minor number of the version in the path ("/v1.41/…" is 41), DOCKER_API's without one. A version that is not
 * spoken has been refused before any handler. */
int docker_api(struct http_request *req);
/* Docker's idea of a boolean: absent, "", "0", "no", "false" and "none", in any case, are false. */
bool docker_query_bool(struct http_request *req, const char *name);
bool docker_query_bool_or(struct http_request *req, const char *name, bool otherwise);
/* One of those that are true or false alone; false where it is absent or empty. false: an error has been answered. */
bool docker_query_flag(struct http_request *req, const char *name, bool *out);
/* otherwise where it is absent or empty; false: an error has been answered. */
bool docker_query_int(struct http_request *req, const char *name, int64_t otherwise, int64_t *out);
/* The body as JSON, or parsed by a table into dto (unknown members are skipped, as dockerd does; null is as absent; a
 * wrong type is 400). An empty body is {}. NULL, false: an error has been answered. */
json_t *docker_body(struct http_request *req);
bool docker_parse(struct http_request *req, const struct field_table *t, void *dto);
bool docker_parse_json(struct http_request *req, const struct field_table *t, const json_t *json, void *dto);
/* A part of a body by a table whose name is the part's; json NULL: the defaults. */
int docker_parse_part(const struct field_table *t, const json_t *json, void *dto, struct error *err);
/* [rows, columns] of a terminal. */
bool docker_is_size(const json_t *json);
/* Seconds since 1970 or a time; 0 where it is absent, empty or "0". false: an error has been answered. */
bool docker_query_time(struct http_request *req, const char *name, int64_t *out);

/* ---- filters: {"label":["a=b"]} or {"label":{"a=b":true}} ---- */
/* Decodes ?filters=; known: NULL-terminated names, any other one is 400 as in dockerd ("invalid filter 'x'"). NULL: an error
 * has been answered. Free it with json_decref: an object of arrays of strings. */
json_t *docker_filters(struct http_request *req, const char *const *known);
/* The values of one filter: true from fits for any of them (and when there are none) is true. */
bool docker_filter_any(const json_t *filters, const char *name, bool (*fits)(const char *value, const void *arg),
		       const void *arg);
/* For it: some part of the text fits the value as a regular expression (one that could cost too much stands for itself); the
 * value is the text. */
bool docker_text_fits(const char *pattern, const void *text);
bool docker_same_text(const char *wanted, const void *text);
/* All of the label filters ("key" or "key=value", also "label!" for those that must not fit) against labels. */
bool docker_filter_labels(const json_t *filters, const struct pairs *labels);
/* The one boolean value of a filter such as dangling; otherwise where it is not given. -1: an error has been answered. */
int docker_filter_bool(struct http_request *req, const json_t *filters, const char *name, bool otherwise);

/* ---- answers (reply.c) ---- */
/* The error with a status of its own, where the kind of it does not say Docker's. */
void docker_fail(struct http_request *req, int status, const char *fmt, ...) PRINTF(3, 4);
/* Takes value. */
void docker_reply(struct http_request *req, int status, json_t *value);
/* Go has the system's words in lower case, and clients tell exit statuses from them: «exec: "/x": Permission denied». */
void docker_lower_reason(char *text);
/* Lines of JSON that are all there already; chunked as a stream of them is, which clients tell a stream by. */
void docker_reply_lines(struct http_request *req, const char *lines, size_t n);
/* "2026-11-22T23:09:46.123456789Z"; 0 is "0001-01-01T00:00:00Z", as Go prints it. */
json_t *docker_time(int64_t ns);
/* A list of strings; null, not [], for none, where dockerd says so. */
json_t *docker_strings_or_null(char *const *v);

/* ---- one container (containers.c) ---- */
/* By name, id or any beginning of an id. An error has been answered where it gives false. */
bool docker_container(struct http_request *req, const char *name, struct instance_snap **out);
/* The error of a verb on one container, in Docker's words. */
void docker_container_fail(struct http_request *req, const char *name, const struct error *e);

/* ---- parts of an instance (endpoints.c, mounts.c) ----
 *
 * config, host, networking: the bodies "Config", "HostConfig" and "NetworkingConfig" of containers/create as they came,
 * already known to be objects or NULL. Each fills its part of spec; what Docker would refuse is refused with its message. */

/* HostConfig.NetworkMode, PortBindings, PublishAllPorts, Links, Dns, DnsOptions, DnsSearch, ExtraHosts; Config.MacAddress,
 * ExposedPorts; NetworkingConfig.EndpointsConfig. */
int docker_spec_networks(struct core *c, const json_t *config, const json_t *host, const json_t *networking,
			 struct instance_spec *spec, struct error *err);
/* NetworkSettings of an inspect, and the shorter one of a list; "Ports" as a list has them. */
json_t *docker_network_settings(struct core *c, const struct instance *i, int api);
json_t *docker_network_settings_short(struct core *c, const struct instance *i, int api);
json_t *docker_ports(const struct instance *i);
/* HostConfig.Binds, Mounts, Tmpfs, VolumesFrom, VolumeDriver; Config.Volumes; and the image's volumes. Volumes that are not
 * there are made, anonymous ones too. */
int docker_spec_mounts(struct core *c, const json_t *config, const json_t *host, const struct image *image,
		       struct instance_spec *spec, struct error *err);
/* "Mounts" of an inspect and of a list. */
json_t *docker_mounts(struct core *c, const struct instance *i);
/* Removes the anonymous volumes that came with an instance: DELETE with v=1, and --rm. */
int docker_remove_anonymous(struct core *c, const struct instance *i, struct error *err);
/* A network of wabe under Docker's name, and back: "default" is "bridge". Free neither. */
const char *docker_network_name(const char *own);
const char *own_network_name(const char *docker);

/* ---- swarm.c ---- */
/* "Swarm" of /info; "LocalNodeState" in it is what /_ping and its header say. */
json_t *docker_swarm_info(struct core *c);

/* ---- inside.c, build.c, images.c ---- */
/* Credentials of X-Registry-Auth (base64url JSON: username, password, auth, identitytoken, serveraddress). Empty: none. */
struct docker_auth {
	char *username, *password, *server;
};
/* The object that a header has as base64 of JSON; NULL and INVALID. */
json_t *docker_header_json(const char *name, const char *header, struct error *err);
int docker_auth_parse(const char *header, struct docker_auth *out, struct error *err); /* header NULL: none */
int docker_auth_parse_json(const json_t *json, struct docker_auth *out, struct error *err);
void docker_auth_free(struct docker_auth *a);
