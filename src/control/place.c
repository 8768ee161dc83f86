#include "control/place.h"

#include "base/str.h"
#include "core/cluster.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NANO INT64_C(1000000000)

/* Without a cluster the host is its own node. */
void node_facts_read(struct core *c, struct node_facts *f) {
	struct utsname u;
	struct sysinfo s;
	*f = (struct node_facts){0};
	uname(&u);
	cluster_get(c, &f->cluster, NULL);
	f->hostname = str_copy(u.nodename);
	f->id = f->cluster ? str_copyn(((const struct cluster *)f->cluster->of)->node.id, 25) : str_copy(u.nodename);
	f->os = str_copy("linux");
	f->arch = str_copy(u.machine);
	f->cpus = sysconf(_SC_NPROCESSORS_ONLN) * NANO;
	if (sysinfo(&s) == 0)
		f->memory = (int64_t)s.totalram * s.mem_unit;
}

void node_facts_free(struct node_facts *f) {
	free(f->id);
	free(f->hostname);
	free(f->os);
	free(f->arch);
	noun_unref(f->cluster);
}

static const struct node_spec *spec_of(const struct node_facts *f) {
	return f->cluster ? &((const struct cluster *)f->cluster->of)->node.spec : NULL;
}

/* NULL: the node has no such thing. */
static const char *fact(const struct node_facts *f, const char *key) {
	const struct node_spec *s = spec_of(f);
	if (str_same(key, "node.id"))
		return f->id;
	if (str_same(key, "node.hostname"))
		return f->hostname;
	if (str_same(key, "node.role"))
		return s ? s->role : "manager";
	if (str_same(key, "node.platform.os"))
		return f->os;
	if (str_same(key, "node.platform.arch"))
		return f->arch;
	return str_starts(key, "node.labels.") && s ? pairs_get(&s->labels, key + strlen("node.labels.")) : NULL;
}

static bool fits(const char *text, const struct node_facts *f) {
	struct constraint k;
	if (constraint_parse(text, &k, NULL) < 0)
		return false;
	const char *have = fact(f, k.key);
	bool same = have && strcasecmp(have, k.value) == 0;
	free(k.key);
	free(k.value);
	return k.unequal ? !same : same;
}

enum plan_place place_of(const struct workload_spec *s, const struct node_facts *f) {
	const struct node_spec *n = spec_of(f);
	for (char *const *c = s->constraints; c && *c; c++)
		if (!fits(*c, f))
			return PLACE_EVICT;
	if (!n || str_same(n->availability, "active"))
		return PLACE_HERE;
	return str_same(n->availability, "drain") ? PLACE_EVICT : PLACE_NONE;
}

static int64_t places(int64_t all, int64_t taken, int64_t each) {
	return each ? MAX(all - taken, 0) / each : INT64_MAX;
}

int64_t place_room(const struct workload_spec *s, const struct node_facts *f) {
	const struct reservations *r = &s->reservations;
	if (!r->cpus && !r->memory)
		return -1;
	return MIN(places(f->cpus, f->cpus_reserved, r->cpus), places(f->memory, f->memory_reserved, r->memory));
}
