/* Stand-ins for endpoints.c and mounts.c: the network "default", no mounts. */
#include "dialect/docker/docker-priv.h"

int docker_spec_networks(UNUSED struct core *c, UNUSED const json_t *config, const json_t *host,
			 UNUSED const json_t *networking, struct instance_spec *spec, UNUSED struct error *err) {
	const char *mode = json_get_str(host, "NetworkMode");
	if (str_same(mode, "none") || str_same(mode, "host")) {
		free(spec->network);
		spec->network = str_copy(mode);
	}
	return 0;
}
json_t *docker_network_settings(UNUSED struct core *c, UNUSED const struct instance *i) {
	return json_object();
}
json_t *docker_network_settings_short(UNUSED struct core *c, UNUSED const struct instance *i) {
	return json_pack("{s{}}", "Networks");
}
json_t *docker_ports(UNUSED const struct instance *i) {
	return json_array();
}
int docker_spec_mounts(UNUSED struct core *c, UNUSED const json_t *config, UNUSED const json_t *host,
		       UNUSED const struct image *image, UNUSED struct instance_spec *spec, UNUSED struct error *err) {
	return 0;
}
json_t *docker_mounts(UNUSED struct core *c, UNUSED const struct instance *i) {
	return json_array();
}
int docker_remove_anonymous(UNUSED struct core *c, UNUSED const struct instance *i, UNUSED struct error *err) {
	return 0;
}
const char *docker_network_name(const char *own) {
	return str_same(own, "default") ? "bridge" : own;
}
const char *own_network_name(const char *docker) {
	return str_same(docker, "bridge") ? "default" : docker;
}
