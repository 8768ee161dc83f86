/* From a workload's template to the spec of one of its instances. */
#pragma once

#include "model/workload.h"

struct expand_node {
	const char *id, *name;
};
/* out: free by instance_spec_table. In env, hostname, values of labels and sources of mounts these stand for what they say:
 * {{workload.id}} {{workload.name}} {{slot}} {{instance.id}} {{instance.name}} {{node.id}} {{node.name}}. */
void expand_template(const struct workload *w, int64_t slot, int64_t attempt, const struct expand_node *node,
		     struct instance_spec *out);
