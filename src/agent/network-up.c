/* Making networks and taking them away: their interfaces, their resolvers, their part of the firewall. A record is there
 * before anything on the host, and until all of it is gone, so that a repair, which brings the host in line with the
 * records, finishes whatever a crash has cut off. */
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const struct network_driver *network_driver_of(const struct network *n, struct error *err) {
	const struct network_driver *d = network_driver_find(n->spec.driver);
	if (!d)
		error_set(err, ERROR_UNSUPPORTED, "there is no network driver %s", n->spec.driver ? n->spec.driver : "at all");
	return d;
}

/* A bridge that had to be made anew lacks the interfaces of instances that run. */
int network_bring_up(const struct agent *a, const struct network *n, struct error *err) {
	const struct network_driver *d = network_driver_of(n, err);
	char bridge[16];
	network_bridge_name(a->tag, n, bridge);
	bool there = if_nametoindex(bridge) != 0;
	int r = d ? d->up(a->tag, n, err) : -ERROR_UNSUPPORTED;
	if (r < 0)
		return error_wrap(err, "network %s", n->spec.name);
	network_rewire(a, n, !there);
	if (!there)
		balancers_place(a, n);
	return 0;
}

static void report_state(const struct job *j, const struct network *n, const struct error *why) {
	json_t *extra = json_object();
	json_set_str(extra, "network", n->id);
	json_set_str(extra, "state", why ? "failed" : "up");
	_cleanup_(free_ptr) char *text = why ? str_format("%.4000s", error_text(why)) : NULL;
	json_set_str(extra, "error", text);
	job_report(j, NULL, NULL, extra);
}

/* --- resolvers --- */

bool network_has_resolver(const struct network *n) {
	const struct network_driver *d = network_driver_find(n->spec.driver);
	return d && d->names && n->spec.subnets.n && (n->spec.dns || n->spec.dhcp);
}

static const char *first_gateway(const struct network *n) {
	for (size_t i = 0; i < n->spec.subnets.n; i++)
		if (n->spec.subnets.items[i].gateway)
			return n->spec.subnets.items[i].gateway;
	return NULL;
}

/* "domain gateway" of another network that an instance on n is on as well. */
static void add_neighbour(const struct agent *a, const struct network *n, const char *other, char ***list) {
	const struct net *net = net_get(a, other);
	if (!net || net->damaged || str_same(other, n->id) || !net->network.spec.dns || !network_has_resolver(&net->network))
		return;
	const char *gateway = first_gateway(&net->network), *domain = net->network.spec.domain;
	if (!gateway || !domain)
		return;
	_cleanup_(free_ptr) char *entry = str_format("%s %s", domain, gateway);
	if (!strv_has(*list, entry))
		strv_add(list, entry);
}

static bool is_on(const struct inst *i, const char *network) {
	for (size_t k = 0; k < i->nics.n; k++)
		if (str_same(i->nics.items[k].network_id, network))
			return true;
	return false;
}

void resolver_args(const struct agent *a, const struct network *n, struct resolver_args *out) {
	*out = (struct resolver_args){0};
	out->run = str_format("%s/%s", a->resolvers, n->id);
	out->leases = network_path(a, n->id, "leases");
	network_bridge_name(a->tag, n, out->interface);
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		for (size_t k = 0; i->nics.n > 1 && is_on(i, n->id) && k < i->nics.n; k++)
			add_neighbour(a, n, i->nics.items[k].network_id, &out->neighbours);
	}
	out->resolver = (struct resolver){.run = out->run, .leases = out->leases, .network = n, .interface = out->interface,
					  .neighbours = out->neighbours};
}

void resolver_args_free(struct resolver_args *r) {
	free(r->run);
	free(r->leases);
	strv_free(r->neighbours);
}

static pid_t pid_of(int pidfd) {
	_cleanup_(free_ptr) char *path = str_format("/proc/self/fdinfo/%d", pidfd);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 4096, &text) < 0)
		return 0;
	const char *line = strstr(buf_str(&text), "\nPid:");
	return line ? (pid_t)strtol(line + strlen("\nPid:"), NULL, 10) : 0;
}

int network_name(const struct job *j, const struct network *n, struct error *err) {
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	_cleanup_(close_fd) int pidfd = -1;
	resolver_args(j->agent, n, &args);
	if (!network_has_resolver(n))
		return resolver_stop(&args.resolver, err);
	bool known = fs_exists(args.run); /* with the names that balancers have, as instances have theirs */
	int r = resolver_start(&args.resolver, &pidfd, err);
	if (r < 0)
		return error_wrap(err, "network %s: its resolver", n->spec.name);
	if (!known)
		balancers_place(j->agent, n);
	pid_t pid = pid_of(pidfd);
	json_t *extra = json_object();
	json_set_str(extra, "resolver", n->id);
	json_set_int(extra, "pid", pid);
	json_set_int(extra, "start", (int64_t)pid_start_time(pid));
	job_report(j, NULL, NULL, extra);
	return 0;
}

/* --- making --- */

/* The subnets of all other networks. */
static struct cidr *taken_subnets(const struct agent *a, const char *but, size_t *n) {
	network_list all;
	networks_load(a, &all);
	struct cidr *taken = alloc_array(2 * all.n + 1, sizeof *taken);
	*n = 0;
	for (size_t i = 0; i < all.n; i++)
		for (size_t k = 0; k < all.items[i].spec.subnets.n && k < 2; k++)
			if (!str_same(all.items[i].id, but) && cidr_parse(all.items[i].spec.subnets.items[k].cidr, &taken[*n]) == 0)
				(*n)++;
	networks_free(&all);
	return taken;
}

static void keep(char **wanted, const char *had) {
	if (!*wanted && had)
		*wanted = str_copy(had);
}

/* What was settled when the network was made stays; a request that says something else is refused. */
static int keep_settled(struct network *n, const struct network *old, struct error *err) {
	struct network_spec *s = &n->spec;
	const struct network_spec *o = &old->spec;
	subnets *have = &s->subnets;
	if (!have->n) {
		have->items = alloc_array(o->subnets.n + 1, sizeof *have->items);
		for (; have->n < o->subnets.n; have->n++)
			fields_copy(&subnet_table, &o->subnets.items[have->n], &have->items[have->n]);
	}
	for (size_t i = 0; i < have->n && i < o->subnets.n; i++) {
		keep(&have->items[i].gateway, o->subnets.items[i].gateway);
		keep(&have->items[i].range, o->subnets.items[i].range);
	}
	keep(&s->domain, o->domain);
	bool same = str_same(s->driver, o->driver) && str_same(s->interface, o->interface) && str_same(s->parent, o->parent) && str_same(s->mode, o->mode) &&
		    s->vlan == o->vlan && s->vni == o->vni && have->n == o->subnets.n;
	for (size_t i = 0; same && i < have->n; i++)
		same = fields_equal(&subnet_table, &have->items[i], &o->subnets.items[i]);
	return same ? 0
		    : error_set(err, ERROR_CONFLICT, "network %s is there with another driver, interface, parent or subnet: remove it first",
				o->name);
}

/* The spec with all that it leaves open; *old is what there was, if there was anything. */
static int settle(const struct agent *a, struct network *n, struct network *old, struct error *err) {
	_cleanup_(error_free) struct error none = ERROR_INIT;
	const struct network_driver *d = network_driver_of(n, err);
	int r = !d ? -ERROR_UNSUPPORTED : d->probe ? d->probe(err) : 0;
	if (r < 0)
		return r;
	if (network_load(a, n->id, old, &none) == 0)
		return keep_settled(n, old, err);
	_cleanup_(free_ptr) struct cidr *taken = NULL;
	size_t n_taken;
	taken = taken_subnets(a, n->id, &n_taken);
	return network_complete(n, taken, n_taken, err);
}

static int raise(struct job *j, const struct network *n, bool rules, struct error *err) {
	const struct agent *a = j->agent;
	int r = network_bring_up(a, n, err);
	fault_point("net.create.up");
	if (r == 0)
		r = network_name(j, n, err);
	fault_point("net.create.named");
	_cleanup_(instance_unlock) int lock = -1;
	if (r == 0 && rules)
		r = firewall_lock(a, &lock, err);
	if (r == 0 && rules)
		r = rules_apply(a, NULL, err);
	fault_point("net.create.rules");
	return r;
}

/* All links that carry the network's id, whatever its driver made of it. */
static void sweep_links(const struct agent *a, const char *id) {
	struct tagged_link *links = NULL;
	size_t n = 0;
	if (network_tagged(a->tag, &links, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (strcmp(links[i].network, id) == 0)
			network_link_remove(links[i].name, NULL);
	free(links);
}

/* Host first, record last. */
static int lower(const struct job *j, const struct network *n, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	_cleanup_(instance_unlock) int lock = -1;
	const struct network_driver *d = network_driver_find(n->spec.driver);
	resolver_args(a, n, &args);
	int r = resolver_stop(&args.resolver, err);
	fault_point("net.delete.named");
	if (r == 0)
		r = firewall_lock(a, &lock, err);
	if (r == 0)
		r = rules_apply(a, n->id, err);
	fault_point("net.delete.rules");
	if (r == 0 && d)
		r = d->down(a->tag, n, err);
	if (r < 0)
		return r;
	sweep_links(a, n->id);
	fault_point("net.delete.down");
	_cleanup_(free_ptr) char *dir = network_path(a, n->id, NULL);
	_cleanup_(free_ptr) char *gone = str_format("%s/.del-%s", a->networks, n->id);
	fs_remove_tree(gone);
	if (rename(dir, gone) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot remove %s", dir);
	fs_fsync_dir(a->networks);
	fault_point("net.delete.renamed");
	fs_remove_tree(gone);
	fs_remove_tree(args.run);
	return 0;
}

static int answer_network(const struct job *j, struct network *n, struct error *err) {
	const struct network_driver *d = network_driver_find(n->spec.driver);
	struct msg_network_state reply = {.id = n->id, .subnets = n->spec.subnets, .status = {.state = (char *)"up"}};
	char name[16];
	network_bridge_name(j->agent->tag, n, name);
	if (d->rules)
		reply.status.interface = name;
	return job_answer(j, &reply, NULL, 0, err);
}

int work_network_create(struct job *j, struct error *err) {
	struct network *n = j->body;
	const struct agent *a = j->agent;
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(network_free) struct network old = {0};
	int r = networks_lock(a, LOCK_EX, &lock, err);
	if (r == 0)
		r = settle(a, n, &old, err);
	bool fresh = !old.id;
	bool changed = fresh || !fields_equal(&network_spec_table, &old.spec, &n->spec);
	fault_point("net.create.settled");
	if (r == 0 && changed)
		r = resolver_boot_check(&n->spec, err);
	if (r == 0 && changed)
		r = network_save(a, n, err);
	if (r < 0)
		return r;
	fault_point("net.create.saved");
	r = raise(j, n, changed || !firewall_present(a->tag), err);
	if (r < 0 && fresh) {
		_cleanup_(error_free) struct error left = ERROR_INIT;
		if (lower(j, n, &left) == 0) {
			job_report(j, NULL, NULL, json_pack("{ss}", "network_gone", n->id));
			return r;
		}
		log_error("network %s: %s", n->spec.name, error_text(&left));
	}
	if (!fresh && changed && r == 0)
		network_rewire(a, n, true);
	report_state(j, n, r < 0 ? err : NULL);
	fault_point("net.create.reported");
	return r < 0 ? r : answer_network(j, n, err);
}

int work_network_delete(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	const struct agent *a = j->agent;
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(network_free) struct network n = {0};
	int r = networks_lock(a, LOCK_EX, &lock, err);
	if (r < 0)
		return r;
	if (network_load(a, m->id, &n, NULL) < 0) { /* damaged: its links are found by their tag */
		fields_init(&network_table, &n);
		n.id = str_copy(m->id);
	}
	fault_point("net.delete.begin");
	r = lower(j, &n, err);
	if (r < 0) {
		error_wrap(err, "network %.12s", m->id);
		report_state(j, &n, err);
		return r;
	}
	job_report(j, NULL, NULL, json_pack("{ss}", "network_gone", m->id));
	fault_point("net.delete.reported");
	return job_answer(j, NULL, NULL, 0, err);
}

/* --- all of them --- */

/* Wirings that there are may still be in use, or be put away by their instance's recovery. */
static void remove_stale_links(const struct agent *a, bool all, const wiring_list *wirings) {
	struct tagged_link *links = NULL;
	size_t n = 0;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (network_tagged(a->tag, &links, &n, &err) < 0) {
		log_error("interfaces that are left over cannot be found: %s", error_text(&err));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		_cleanup_(free_ptr) char *record = network_path(a, links[i].network, "network.json");
		bool known = !links[i].instance[0] && !all && fs_exists(record); /* also a damaged one's */
		for (size_t k = 0; k < wirings->n && links[i].instance[0]; k++)
			known |= strcmp(wirings->items[k].id, links[i].instance) == 0;
		if (!known && network_link_remove(links[i].name, &err) < 0)
			log_warn("interface %s is left over: %s", links[i].name, error_text(&err));
	}
	free(links);
}

struct stale {
	const wiring_list *wirings;
	const struct resolver *resolver;
};

static void remove_stale_host(UNUSED const struct agent *a, const char *id, void *arg) {
	const struct stale *s = arg;
	for (size_t i = 0; i < s->wirings->n; i++)
		if (strcmp(s->wirings->items[i].id, id) == 0)
			return;
	resolver_host_remove(s->resolver, id, NULL);
}

static void remove_stale_hosts(const struct agent *a, const struct network *n, const wiring_list *wirings) {
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	resolver_args(a, n, &args);
	struct stale s = {wirings, &args.resolver};
	_cleanup_(free_ptr) char *hosts = str_format("%s/hosts", args.run);
	for_each_id(hosts, remove_stale_host, a, &s);
}

/* A resolver whose network is no more. */
static void stop_stale_resolver(const struct agent *a, const char *id, void *arg) {
	const network_list *networks = arg;
	for (size_t i = 0; i < networks->n; i++)
		if (strcmp(networks->items[i].id, id) == 0)
			return;
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	_cleanup_(free_ptr) char *record = network_path(a, id, "network.json");
	struct network n = {.id = (char *)id};
	if (fs_exists(record))
		return; /* damaged: it may be mended */
	resolver_args(a, &n, &args);
	if (resolver_stop(&args.resolver, NULL) == 0)
		fs_remove_tree(args.run);
}

static void remove_deleted(const struct agent *a) {
	DIR *d = opendir(a->networks);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_(free_ptr) char *path = network_path(a, e->d_name, NULL), *record = network_path(a, e->d_name, "network.json");
		if (str_starts(e->d_name, ".del-") || (e->d_name[0] != '.' && !fs_exists(record)))
			fs_remove_tree(path);
	}
	if (d)
		closedir(d);
}

static void raise_one(struct job *j, const struct network *n, const wiring_list *wirings) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = network_bring_up(j->agent, n, &err);
	if (r == 0) {
		remove_stale_hosts(j->agent, n, wirings);
		r = network_name(j, n, &err);
	}
	if (r < 0)
		log_error("%s", error_text(&err));
	report_state(j, n, r < 0 ? &err : NULL);
	fault_point("net.boot.one");
}

int work_networks(struct job *j, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(instance_unlock) int lock = -1, rules = -1;
	_cleanup_(networks_free) network_list networks = {0};
	_cleanup_(wirings_free) wiring_list wirings = {0};
	int r = networks_lock(a, LOCK_EX, &lock, err);
	if (r < 0)
		return r;
	remove_deleted(a);
	networks_load(a, &networks);
	wirings_load(a, &wirings);
	fault_point("net.boot.begin");
	for_each_id(a->resolvers, stop_stale_resolver, a, &networks);
	remove_stale_links(a, false, &wirings);
	for (size_t i = 0; i < networks.n; i++)
		raise_one(j, &networks.items[i], &wirings);
	r = firewall_lock(a, &rules, err);
	if (r == 0)
		r = rules_apply(a, NULL, err);
	fault_point("net.boot.rules");
	for (size_t i = 0; r < 0 && i < networks.n; i++)
		report_state(j, &networks.items[i], err);
	return r;
}

/* One that failed, or whose resolver has ended. */
int work_network(struct job *j, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(instance_unlock) int lock = -1, rules = -1;
	_cleanup_(network_free) struct network n = {0};
	int r = networks_lock(a, LOCK_EX, &lock, err);
	if (r == 0)
		r = network_load(a, j->id, &n, err);
	if (r < 0)
		return r == -ERROR_NOT_FOUND ? 0 : r;
	r = network_bring_up(a, &n, err);
	if (r == 0)
		r = network_name(j, &n, err);
	if (r == 0 && !firewall_present(a->tag))
		r = firewall_lock(a, &rules, err);
	if (r == 0 && rules >= 0)
		r = rules_apply(a, NULL, err);
	report_state(j, &n, r < 0 ? err : NULL);
	return r;
}

int work_networks_down(struct job *j, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(instance_unlock) int lock = -1, rules = -1;
	_cleanup_(networks_free) network_list networks = {0};
	int r = networks_lock(a, LOCK_EX, &lock, err);
	if (r == 0)
		r = firewall_lock(a, &rules, err);
	if (r < 0)
		return r;
	networks_load(a, &networks);
	for (size_t i = 0; i < networks.n; i++) {
		_cleanup_(resolver_args_free) struct resolver_args args = {0};
		const struct network_driver *d = network_driver_find(networks.items[i].spec.driver);
		resolver_args(a, &networks.items[i], &args);
		if (resolver_stop(&args.resolver, err) < 0 || (d && d->down(a->tag, &networks.items[i], err) < 0))
			log_error("network %s: %s", networks.items[i].spec.name, error_text(err));
		error_free(err);
		fault_point("net.down.one");
	}
	remove_stale_links(a, true, &(wiring_list){0});
	return firewall_unload(a->tag, err);
}
