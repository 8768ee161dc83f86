/* What the files about networks and mounts share within the Docker dialect. */
#pragma once

#include "dialect/docker/docker-priv.h"
#include "core/volumes.h"

#include <sys/socket.h>

/* ---- endpoints.c ---- */
#define DOCKER_ENDPOINT_INTERFACE "com.docker.network.endpoint.ifname"
#define DOCKER_ENDPOINT_SYSCTLS "com.docker.network.endpoint.sysctls"
struct docker_endpoint_ipam {
	char *ipv4, *ipv6, **link_local;
};
/* EndpointSettings, as far as clients give them. */
struct docker_endpoint {
	struct docker_endpoint_ipam ipam;
	char **links, **aliases, *mac;
	struct pairs options;
	int64_t gateway_priority;
};
extern const struct field_table docker_endpoint_table;
/* network: wabe's name. out is to be freed by its table, also on failure. */
int docker_attachment(const struct docker_endpoint *e, const char *network, struct attachment *out, struct error *err);
/* Adds Docker's links to those of a spec. */
int docker_links_add(struct core *c, char *const *links, char ***out, struct error *err);

/* ---- ports.c ---- */
/* PortBindings and ExposedPorts into a spec; those that are published only where its network is private. */
int docker_ports_parse(const json_t *bindings, const json_t *exposed, struct instance_spec *spec, struct error *err);
/* Ports of NetworkSettings: what is exposed, and where it is published. */
json_t *docker_port_map(const struct instance *i);

/* ---- network-settings.c ---- */
/* The predefined networks, which are modes in wabe: SHA-256 of "wabe network host" and "wabe network none". */
#define DOCKER_HOST_NETWORK_ID "8432581971d0af83ae08c7e4ff2a7a15d69a893c28a9e660738cdb45a568f8ad"
#define DOCKER_NONE_NETWORK_ID "efe7c79e2df34072b41a9b82279f378f3ce95f1f65d2d62216710659d40e0ffe"
/* Of an instance on a network: the same as long as it is on it. Free it. */
char *docker_endpoint_id(const char *instance_id, const char *network_id);
/* "/target:/name/alias" of each link; null for none. */
json_t *docker_links(struct core *c, const struct instance *i);
bool docker_has_networks(const struct instance *i); /* just now: it runs */
/* Address and length of the prefix in the subnet of its family; 0: there is none. */
int64_t docker_prefix_len(const struct network *n, const char *address);

/* ---- mount-parse.c: m is to be freed by its table, also on failure ---- */
/* A member of HostConfig.Mounts. */
struct docker_bind_options {
	char *propagation;
	bool non_recursive, create, ro_non_recursive, ro_force_recursive;
};
struct docker_volume_driver {
	char *name;
	struct pairs options;
};
struct docker_volume_options {
	bool no_copy;
	struct pairs labels;
	struct docker_volume_driver driver;
	char *subpath;
};
struct docker_tmpfs_options {
	int64_t size, mode;
	json_t *options;
};
struct docker_image_options {
	char *subpath;
};
struct docker_mount {
	char *type, *source, *target;
	bool read_only;
	struct docker_bind_options bind;
	struct docker_volume_options volume;
	struct docker_tmpfs_options tmpfs;
	struct docker_image_options image;
};
extern const struct field_table docker_mount_table;
/* None of these members of HostConfig.Mounts has the options of another type. */
int docker_mount_options_check(const json_t *mounts, struct error *err);
/* As Go's filepath.Clean: without doubled slashes, "." and "..". Free it. */
char *docker_clean_path(const char *path);
int docker_mount_parse(const struct docker_mount *d, struct mount *m, struct error *err);
int docker_bind_parse(const char *text, struct mount *m, struct error *err); /* "source:target:mode" */
int docker_tmpfs_parse(const char *target, const char *options, struct mount *m, struct error *err);
int docker_volume_name_check(const char *name, struct error *err);

/* ---- volumes.c ---- */
json_t *docker_volume_json(const struct volume *v);
/* All but those that the builder has for itself; see nouns_unref. */
int docker_volume_snaps(struct core *c, struct noun ***out, struct error *err);
/* The caches of RUN --mount that no build has just now; names are added to deleted. */
int docker_prune_build_caches(struct core *c, json_t *deleted, uint64_t *freed, struct error *err);
/* A volume of the driver "local" with such options and labels; one of that name that is there is fine. name NULL: an
 * anonymous one. *made: its name, to be freed. */
int docker_volume_make(struct core *c, const char *name, const struct docker_volume_driver *driver, const struct pairs *labels,
		       char **made, struct error *err);
/* "" or "local"; else Docker's error about a plugin that is not there. */
int docker_volume_driver_check(const char *name, struct error *err);

/* ---- network-spec.c ---- */
struct docker_ipam_config {
	char *subnet, *range, *gateway;
	struct pairs aside;
};
struct docker_ipam {
	char *driver;
	FIELD_LIST_OF(struct docker_ipam_config) config;
	struct pairs options;
};
struct docker_config_from {
	char *network;
};
/* The body of networks/create. */
struct docker_network {
	char *name, *driver, *scope;
	bool internal, attachable, ingress, config_only, ipv4, ipv6;
	struct docker_config_from config_from;
	struct docker_ipam ipam;
	struct pairs options, labels;
};
extern const struct field_table docker_network_table;
/* s is to be freed by its table, also on failure. */
int docker_network_spec(const struct docker_network *d, struct network_spec *s, struct error *err);
/* As list and inspect show it, without its containers. */
json_t *docker_network_json(const struct network *n);
