/* Volumes. */
#include "core/volumes.h"

#include "base/str.h"
#include "dialect/docker/networks-priv.h"

int docker_volume_driver_check(const char *name, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(name ? name : "");
	if (!name || !*name || str_same(name, "local"))
		return 0;
	return error_set(err, ERROR_INVALID, "error looking up volume plugin %s: plugin \"%s\" not found", shown, shown);
}

int docker_volume_make(struct core *c, const char *name, const struct docker_volume_driver *driver, const struct pairs *labels,
		       char **made, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = docker_volume_driver_check(driver->name, err);
	if (r < 0)
		return r;
	if (driver->options.n)
		return error_set(err, ERROR_UNSUPPORTED, "DriverOpts: options of the driver local are not there");
	struct volume_spec spec;
	struct error why = ERROR_INIT;
	fields_init(&volume_spec_table, &spec);
	spec.name = name ? str_copy(name) : random_hex(32);
	for (size_t i = 0; i < labels->n; i++)
		pairs_set(&spec.labels, labels->items[i].key, labels->items[i].value);
	*made = str_copy(spec.name);
	r = volume_create(c, DOCKER_PROJECT, &spec, &o, &why);
	if (r < 0 && why.kind != ERROR_EXISTS)
		return error_move(err, &why);
	error_free(&why);
	return 0;
}

const struct docker_route docker_volume_routes[] = {
	{0},
};
