/* The NUMA nodes of a guest: which processors and how much of the memory each has, and where on the host that memory lies. */
#include "driver/qemu/machine-priv.h"

#include "base/fs.h"

#define NODES_ONLINE "/sys/devices/system/node/online"

void machine_cpu_list(const char *list, cpu_set_t *out) {
	struct str rest = str_view(list);
	CPU_ZERO(out);
	while (rest.len) {
		struct str part = str_cut(&rest, ',');
		unsigned long from = strtoul(part.p, NULL, 10), to = from;
		const char *dash = memchr(part.p, '-', part.len);
		if (dash)
			to = strtoul(dash + 1, NULL, 10);
		for (unsigned long cpu = from; cpu <= to && cpu < CPU_SETSIZE; cpu++)
			CPU_SET(cpu, out);
	}
}

struct node {
	cpu_set_t cpus;
	int64_t memory;
};

/* --- what each has --- */

static int share_cpus(const struct machine_config *m, struct node *out, struct error *err) {
	const struct machine_spec *s = m->spec;
	size_t n = s->numa.n, most = (size_t)machine_cpus_max(m);
	bool given = false;
	for (size_t i = 0; i < n; i++)
		given |= s->numa.items[i].cpus != NULL;
	for (size_t i = 0; i < n; i++) {
		CPU_ZERO(&out[i].cpus);
		for (size_t cpu = i * most / n; !given && cpu < (i + 1) * most / n; cpu++)
			CPU_SET(cpu, &out[i].cpus);
		if (s->numa.items[i].cpus)
			machine_cpu_list(s->numa.items[i].cpus, &out[i].cpus);
	}
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		size_t times = 0;
		for (size_t i = 0; i < n; i++)
			times += CPU_ISSET(cpu, &out[i].cpus) != 0;
		if (times != (cpu < most))
			return error_field(err, "spec.machine.numa", "processor %zu is in %zu nodes: each of the %zu that there is room for is to be "
					   "in one", cpu, times, most);
	}
	return 0;
}

/* Those that say none have the rest, in whole pages. */
static int share_memory(const struct machine_config *m, struct node *out, struct error *err) {
	const struct machine_spec *s = m->spec;
	int64_t rest = m->memory, step = MAX(machine_hugepage(s), INT64_C(1) << 20);
	size_t without = 0;
	for (size_t i = 0; i < s->numa.n; i++) {
		out[i].memory = s->numa.items[i].memory;
		rest -= out[i].memory;
		without += !out[i].memory;
		if (out[i].memory % step)
			return error_field(err, "spec.machine.numa", "the memory of node %zu is to be a multiple of the %lld MiB of a huge page", i,
					   (long long)(step >> 20));
	}
	int64_t each = without ? MAX(rest, 0) / (int64_t)without / step * step : 0;
	if (without ? !each : rest != 0)
		return error_field(err, "spec.machine.numa", "the memory of the nodes does not make the machine's %lld MiB",
				   (long long)(m->memory >> 20));
	for (size_t i = 0; i < s->numa.n; i++) {
		if (out[i].memory)
			continue;
		out[i].memory = --without ? each : rest;
		rest -= each;
	}
	return 0;
}

static int share(const struct machine_config *m, struct node **out, struct error *err) {
	*out = alloc_array(m->spec->numa.n + 1, sizeof **out);
	int r = share_cpus(m, *out, err);
	return r < 0 ? r : share_memory(m, *out, err);
}

/* --- the host's --- */

static int check_host_nodes(const char *list, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	cpu_set_t wanted, has;
	if (fs_read(NODES_ONLINE, 4096, &text) < 0)
		buf_adds(&text, "0"); /* a kernel without NUMA */
	machine_cpu_list(list, &wanted);
	machine_cpu_list(buf_str(&text), &has);
	for (size_t node = 0; node < CPU_SETSIZE; node++)
		if (CPU_ISSET(node, &wanted) && !CPU_ISSET(node, &has)) {
			_cleanup_(free_ptr) char *shown = str_copyn(buf_str(&text), strcspn(buf_str(&text), "\n"));
			error_set(err, ERROR_UNSUPPORTED, "this host has no node %zu for the memory: it has %s", node, shown);
			error_in_field(err, "spec.machine.numa");
			return -ERROR_UNSUPPORTED;
		}
	return 0;
}

int numa_check(const struct machine_config *m, struct error *err) {
	_cleanup_(free_ptr) struct node *nodes = NULL;
	int r = m->spec->numa.n ? share(m, &nodes, err) : 0;
	for (size_t i = 0; r == 0 && i < m->spec->numa.n; i++)
		if (m->spec->numa.items[i].host_nodes)
			r = check_host_nodes(m->spec->numa.items[i].host_nodes, err);
	return r;
}

bool numa_is_bound(const struct machine_spec *s) {
	for (size_t i = 0; i < s->numa.n; i++)
		if (s->numa.items[i].host_nodes)
			return true;
	return false;
}

/* --- arguments --- */

static void bind(const struct machine_numa *n, json_t *memory) {
	cpu_set_t set;
	if (!n->host_nodes)
		return;
	machine_cpu_list(n->host_nodes, &set);
	json_t *list = json_array();
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			json_array_append_new(list, json_integer(i));
	json_object_set_new(memory, "host-nodes", list);
	json_set_str(memory, "policy", n->policy ? n->policy : "bind");
}

void build_numa(struct build *b) {
	const struct machine_spec *s = b->m->spec;
	_cleanup_(free_ptr) struct node *nodes = NULL;
	if (!s->numa.n || share(b->m, &nodes, NULL) < 0) /* machine_check has said so */
		return;
	for (size_t i = 0; i < s->numa.n; i++) {
		_cleanup_(free_ptr) char *id = str_format("node%zu", i);
		_cleanup_(buf_free) struct buf line = BUF_INIT;
		json_t *memory = build_backend(b, id, nodes[i].memory);
		bind(&s->numa.items[i], memory);
		build_json(b, "-object", memory);
		buf_addf(&line, "node,nodeid=%zu,memdev=%s", i, id);
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
			if (CPU_ISSET(cpu, &nodes[i].cpus))
				buf_addf(&line, ",cpus=%d", cpu);
		build_arg(b, "-numa", "%s", buf_str(&line));
	}
}
