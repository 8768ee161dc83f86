/* How long one instance more or less takes in the firewall, as there are more of them. Prints "N add MS remove MS" for some N,
 * medians of the changes around it. In the network name space that it is started in. Usage: rules_bench COUNT PORTS GROUPS:
 * each instance publishes PORTS ports and has one of GROUPS groups of rules (0: none). */
#include "base/str.h"
#include "base/time.h"
#include "driver/network/firewall.h"

#include <stdio.h>
#include <time.h>

#define TAG "0b0b0b0b"
#define AROUND 10

struct bench {
	struct subnet subnet;
	struct network network;
	const struct network *networks[1];
	struct rule rule;
	struct rule_group *groups;
	const struct rule_group **group_refs;
	struct nic *nics;
	struct port *ports;
	struct firewall_instance *instances;
	struct firewall_state s;
	double *added, *removed;
};

static void prepare(struct bench *b, size_t count, size_t ports, size_t groups) {
	b->subnet = (struct subnet){.cidr = "10.84.0.0/16", .gateway = "10.84.0.1"};
	b->network = (struct network){.id = "ffff000000000000000000000000000000000000000000000000000000000000", .spec = {.driver = "bridge", .nat = true, .publish = "open"}};
	b->network.spec.subnets.items = &b->subnet;
	b->network.spec.subnets.n = 1;
	b->networks[0] = &b->network;
	b->rule = (struct rule){.direction = "ingress", .action = "allow", .protocol = "tcp", .ports = "80"};
	b->groups = alloc_array(groups + 1, sizeof *b->groups);
	b->group_refs = alloc_array(groups + 1, sizeof *b->group_refs);
	for (size_t i = 0; i < groups; i++) {
		b->groups[i].id = str_format("%064zx", i);
		b->groups[i].spec.rules.items = &b->rule;
		b->groups[i].spec.rules.n = 1;
		b->group_refs[i] = &b->groups[i];
	}
	b->nics = alloc_array(count, sizeof *b->nics);
	b->instances = alloc_array(count, sizeof *b->instances);
	b->ports = alloc_array(count * ports + 1, sizeof *b->ports);
	for (size_t i = 0; i < count; i++) {
		char **rules = NULL;
		if (groups)
			strv_add(&rules, b->groups[i % groups].id);
		for (size_t p = 0; p < ports; p++)
			b->ports[i * ports + p] = (struct port){.host_port = (int64_t)(1024 + i * ports + p), .port = 80, .count = 1, .protocol = "tcp"};
		b->nics[i] = (struct nic){.network_id = b->network.id, .interface = "eth0", .rules = rules,
					  .mac = str_format("02:00:0a:54:%02zx:%02zx", (i + 2) >> 8, (i + 2) & 255),
					  .ipv4 = str_format("10.84.%zu.%zu", (i + 2) >> 8, (i + 2) & 255),
					  .ipv6 = str_format("fd00:84::%zx", i + 2)};
		b->instances[i] = (struct firewall_instance){.id = str_format("%064zx", i), .nics = &b->nics[i], .n_nics = 1,
							     .ports = &b->ports[i * ports], .n_ports = ports};
	}
	b->s = (struct firewall_state){.tag = TAG, .networks = b->networks, .n_networks = 1, .groups = b->group_refs, .n_groups = groups};
	b->added = alloc_array(count, sizeof *b->added);
	b->removed = alloc_array(count, sizeof *b->removed);
}

static void check(int r, const struct error *err) {
	if (r < 0) {
		fprintf(stderr, "rules_bench: %s\n", error_text(err));
		exit(1);
	}
}

/* Time on a CPU, here and in the kernel: other programs are left out. */
static int64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

static double ms_since(int64_t start) {
	return (double)(now_ns() - start) / (double)NS_PER_MS;
}

static int compare(const void *a, const void *b) {
	return *(const double *)a < *(const double *)b ? -1 : 1;
}

/* Of those from `n` - AROUND to `n` + AROUND, as far as there are. */
static double median(const double *times, size_t n, size_t count) {
	double near[2 * AROUND + 1];
	size_t from = n > AROUND ? n - AROUND : 0, k = 0;
	for (size_t i = from; i < count && i < n + AROUND; i++)
		near[k++] = times[i];
	qsort(near, k, sizeof *near, compare);
	return near[k / 2];
}

int main(int argc, char **argv) {
	struct error err = ERROR_INIT;
	struct bench b = {0};
	if (argc != 4)
		return 2;
	size_t count = strtoul(argv[1], NULL, 10);
	prepare(&b, count, strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
	check(firewall_load(&b.s, &err), &err);
	for (size_t i = 0; i < count; i++) {
		int64_t start = now_ns();
		check(firewall_instance_add(&b.s, &b.instances[i], &err), &err);
		b.added[i] = ms_since(start);
	}
	for (size_t i = count; i-- > 0;) {
		int64_t start = now_ns();
		check(firewall_instance_remove(&b.s, &b.instances[i], &err), &err);
		b.removed[i] = ms_since(start);
	}
	for (size_t n = 10; n <= count; n *= 10)
		printf("%zu add %.3f remove %.3f\n", n, median(b.added, n, count), median(b.removed, n, count));
	b.s.instances = b.instances;
	b.s.n_instances = count;
	int64_t start = now_ns();
	check(firewall_load(&b.s, &err), &err);
	printf("load %.1f\n", ms_since(start));
	check(firewall_unload(TAG, &err), &err);
	return 0;
}
