/* A run of an instance on its networks: what is made for it before its first process is let go, how it is brought in line
 * with a changed record while it runs, and how all of it goes again. RUN/shim/<id>/network.json, the wiring, says at each
 * moment at least what there is: whoever finds it can finish or undo. */
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- one interface --- */

/* The default route goes over the network that leads anywhere and has the highest priority; the first of several. */
const struct nic *gateway_nic(const struct agent *a, const nics *list) {
	const struct nic *best = NULL;
	for (size_t i = 0; i < list->n; i++) {
		const struct nic *one = &list->items[i];
		const struct net *net = net_get(a, one->network_id);
		if (net && !net->network.spec.internal && net->network.spec.subnets.n &&
		    (!best || one->gateway_priority > best->gateway_priority))
			best = one;
	}
	return best;
}

static const struct nic *nic_on(const nics *list, const char *network) {
	for (size_t i = 0; i < list->n; i++)
		if (str_same(list->items[i].network_id, network))
			return &list->items[i];
	return NULL;
}

/* On what an earlier call left, all is set again. When it fails, nothing is left. */
static int link_nic(const struct agent *a, const struct network_driver *d, const struct network *n, const char *id,
		    const struct nic *nic, bool gateway, int netns, struct error *err) {
	int r = d->attach(a->tag, n, id, nic, gateway, netns, err);
	if (r < 0)
		return r;
	r = network_nic_sysctls(netns, nic, err);
	if (r < 0)
		d->detach(a->tag, n, id, nic, netns, NULL);
	return r;
}

static int link_one(const struct agent *a, const char *id, const struct nic *nic, bool gateway, int netns, struct error *err) {
	const struct net *net = net_get(a, nic->network_id);
	if (!net)
		return error_set(err, ERROR_NOT_FOUND, "the agent has no network %s (%s)", nic->network_id, nic->network);
	if (net->damaged)
		return error_set(err, ERROR_CORRUPT, "network %s: %s", nic->network, net->network.status.error);
	const struct network_driver *d = network_driver_of(&net->network, err);
	int r = d ? link_nic(a, d, &net->network, id, nic, gateway, netns, err) : -ERROR_UNSUPPORTED;
	return r < 0 ? error_wrap(err, "network %s", nic->network) : 0;
}

static int link_all(const struct agent *a, const char *id, const nics *list, int netns, struct error *err) {
	const struct nic *gateway = gateway_nic(a, list);
	int r = 0;
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = link_one(a, id, &list->items[i], &list->items[i] == gateway, netns, err);
	return r;
}

static void unlink_one(const struct agent *a, const char *id, const struct nic *nic, int netns) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct net *net = net_get(a, nic->network_id);
	const struct network_driver *d = net ? network_driver_find(net->network.spec.driver) : NULL;
	char name[16];
	network_veth_name(a->tag, id, nic->network_id, name);
	int r = d ? d->detach(a->tag, &net->network, id, nic, netns, &err) : network_link_remove(name, &err);
	if (r < 0)
		log_warn("instance %.12s, network %s: %s", id, nic->network, error_text(&err));
}

/* --- names --- */

static int name_one(const struct agent *a, const struct msg_instance_create *r, const struct nic *nic, struct error *err) {
	const struct net *net = net_get(a, nic->network_id);
	if (!net || !network_has_resolver(&net->network))
		return 0;
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	resolver_args(a, &net->network, &args);
	return resolver_host_set(&args.resolver, r->instance.id, r->instance.spec.name, nic, err);
}

static void unname_one(const struct agent *a, const char *id, const struct nic *nic) {
	const struct net *net = net_get(a, nic->network_id);
	if (!net || !network_has_resolver(&net->network))
		return;
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	resolver_args(a, &net->network, &args);
	if (resolver_host_remove(&args.resolver, id, &err) < 0)
		log_warn("instance %.12s, network %s: %s", id, nic->network, error_text(&err));
}

static int name_all(const struct agent *a, const struct msg_instance_create *r, struct error *err) {
	int result = 0;
	for (size_t i = 0; result == 0 && i < r->instance.nics.n; i++)
		result = name_one(a, r, &r->instance.nics.items[i], err);
	return result;
}

/* On several networks it makes them neighbours: their resolvers then know of each other. */
static int make_neighbours(const struct job *j, const nics *list, struct error *err) {
	int result = 0;
	for (size_t i = 0; list->n > 1 && result == 0 && i < list->n; i++) {
		const struct net *net = net_get(j->agent, list->items[i].network_id);
		if (net && network_has_resolver(&net->network))
			result = network_name(j, &net->network, err);
	}
	return result;
}

/* --- the start --- */

static struct wiring wiring_of(const struct msg_instance_create *r) {
	return (struct wiring){.id = r->instance.id, .name = r->instance.spec.name, .nics = r->instance.nics, .ports = r->instance.ports};
}

static int add_rules(const struct agent *a, const struct wiring *w, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(free_ptr) char *wiring = run_path(a, w->id, "network.json");
	int r = firewall_lock(a, &lock, err);
	if (r < 0 || !fs_exists(wiring)) /* the start has been undone meanwhile */
		return r;
	return rules_add_instance(a, w, err);
}

/* The rules need no interface, unless ports are published: a process of its own adds them while the container is made, which
 * is a wait for others for the most part. */
static void begin_rules(const struct agent *a, const struct wiring *w, struct network_start *s) {
	pid_t parent = getpid(), pid = w->ports.n ? -1 : fork();
	s->rules = MAX(pid, 0); /* without one they are added later */
	if (pid != 0)
		return;
	struct error err = ERROR_INIT;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(getppid() != parent || add_rules(a, w, &err) < 0);
}

bool network_start_wait(struct network_start *s) {
	int status = -1;
	pid_t pid = s->rules;
	s->rules = 0;
	return pid > 0 && RETRY_EINTR(waitpid(pid, &status, 0)) == pid && status == 0;
}

void network_start_free(struct network_start *s) {
	network_start_wait(s);
	free(s->held); /* the sockets are the shim's, or go with this process */
}

int network_prepare(const struct agent *a, const struct msg_instance_create *r, struct network_start *s, struct error *err) {
	const struct instance *i = &r->instance;
	if (!str_same(i->spec.network, "private") || !i->nics.n)
		return 0;
	int result = ports_check(a, &i->nics, &i->ports, err);
	if (result == 0)
		result = nics_check_others(a, i->id, &i->nics, err);
	if (result == 0)
		result = ports_check_others(a, i->id, &i->ports, err);
	if (result == 0 && i->ports.n)
		result = ports_reserve(i->ports.items, i->ports.n, &s->held, &s->n_held, err);
	if (result < 0)
		return result;
	fault_point("net.attach.reserved");
	struct wiring w = wiring_of(r);
	result = wiring_save(a, &w, err);
	fault_point("net.attach.wired");
	if (result == 0)
		begin_rules(a, &w, s);
	return result;
}

static int open_netns(const struct container_state *c) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/ns/net", c->pid);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	return container_state_alive(c) ? TAKE_FD(fd) : -1;
}

int network_netns(const struct agent *a, const char *id, const struct run_state *run) {
	_cleanup_(free_ptr) char *wiring = run_path(a, id, "network.json");
	return run->created && fs_exists(wiring) ? open_netns(&run->container) : -1;
}

/* Somebody may have removed what the networks consist of: they are made again, once. */
static int link_again(const struct job *j, const struct msg_instance_create *r, int netns, struct error *err) {
	const struct agent *a = j->agent;
	const nics *list = &r->instance.nics;
	_cleanup_(instance_unlock) int lock = -1;
	log_warn("instance %.12s: %s; its networks are brought up again", r->instance.id, error_text(err));
	error_free(err);
	int result = networks_lock(a, LOCK_EX, &lock, err);
	for (size_t i = 0; result == 0 && i < list->n; i++) {
		const struct net *net = net_get(a, list->items[i].network_id);
		if (net && !net->damaged)
			result = network_bring_up(a, &net->network, err);
	}
	return result < 0 ? result : link_all(a, r->instance.id, list, netns, err);
}

static int attach_links(const struct job *j, const struct msg_instance_create *r, int netns, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	int result = networks_lock(j->agent, LOCK_SH, &lock, err);
	if (result < 0)
		return result;
	result = link_all(j->agent, r->instance.id, &r->instance.nics, netns, err);
	instance_unlock(&lock);
	return result < 0 ? link_again(j, r, netns, err) : 0;
}

int network_attach(const struct job *j, const struct msg_instance_create *r, const struct container_state *c,
		   struct network_start *s, struct error *err) {
	struct wiring w = wiring_of(r);
	if (!str_same(r->instance.spec.network, "private") || !w.nics.n)
		return 0;
	_cleanup_(close_fd) int netns = open_netns(c);
	if (netns < 0)
		return error_set(err, ERROR_INTERNAL, "the first process ended before its networks were there");
	int result = attach_links(j, r, netns, err);
	fault_point("net.attach.links");
	if (!network_start_wait(s) && result == 0)
		result = add_rules(j->agent, &w, err);
	fault_point("net.attach.rules");
	if (result == 0 && w.nics.n > 1) {
		_cleanup_(instance_unlock) int lock = -1;
		result = networks_lock(j->agent, LOCK_EX, &lock, err);
		if (result == 0)
			result = make_neighbours(j, &w.nics, err);
	}
	if (result == 0)
		result = name_all(j->agent, r, err);
	fault_point("net.attach.names");
	return result;
}

/* --- the end --- */

/* The wiring and the rules go under one lock: whoever loads all rules sees both or neither. */
static int remove_rules(const struct agent *a, const struct wiring *w, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	int r = firewall_lock(a, &lock, err);
	if (r < 0)
		return r;
	r = rules_remove_instance(a, w, err);
	fault_point("net.detach.rules");
	wiring_remove(a, w->id);
	if (r < 0) {
		log_warn("instance %.12s: %s; all rules are loaded again", w->id, error_text(err));
		error_free(err);
		r = rules_apply(a, NULL, err);
	}
	return r;
}

int network_release(const struct agent *a, const struct msg_instance_create *r, int netns, struct error *err) {
	_cleanup_(wiring_free) struct wiring w = {0};
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(error_free) struct error none = ERROR_INIT;
	int result = wiring_load(a, r->instance.id, &w, &none);
	if (result == -ERROR_NOT_FOUND)
		return 0;
	if (result < 0) { /* cut off by a power failure: the record knows as much */
		log_warn("instance %.12s: %s", r->instance.id, error_text(&none));
		struct wiring recorded = wiring_of(r);
		fields_copy(&wiring_table, &recorded, &w);
	}
	fault_point("net.detach.begin");
	result = networks_lock(a, LOCK_SH, &lock, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < w.nics.n; i++)
		unname_one(a, w.id, &w.nics.items[i]);
	fault_point("net.detach.names");
	for (size_t i = 0; i < w.nics.n; i++)
		unlink_one(a, w.id, &w.nics.items[i], netns);
	fault_point("net.detach.links");
	result = remove_rules(a, &w, err);
	fault_point("net.detach.done");
	return result;
}

/* --- while it runs --- */

/* Is one port of the host among these? */
static bool has_port(const ports *list, const struct port *wanted, int64_t host_port) {
	for (size_t i = 0; i < list->n; i++) {
		const struct port *p = &list->items[i];
		if (str_same(p->protocol, wanted->protocol) && (!p->address || str_same(p->address, wanted->address)) &&
		    host_port >= p->host_port && host_port < p->host_port + p->count)
			return true;
	}
	return false;
}

/* Ports that are new must be free. The shim, which holds those of the start, runs already: these are looked at now, and
 * held from the next start on; until then the agent alone keeps its own instances apart. */
static int try_ports(const struct wiring *old, const struct wiring *new, struct error *err) {
	_cleanup_(free_ptr) struct port *fresh = NULL;
	_cleanup_(free_ptr) int *fds = NULL;
	size_t n = 0, n_fds = 0;
	for (size_t i = 0; i < new->ports.n; i++) {
		struct port one = new->ports.items[i];
		int64_t end = one.host_port + one.count;
		for (one.count = 1; one.host_port < end; one.host_port++) {
			if (has_port(&old->ports, &one, one.host_port))
				continue;
			fresh = alloc_resize(fresh, n + 1, sizeof *fresh);
			fresh[n++] = one;
		}
	}
	int r = n ? ports_reserve(fresh, n, &fds, &n_fds, err) : 0;
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	if (r < 0 && err)
		free(TAKE_PTR(err->field)); /* its index is of another list */
	return r;
}

/* What there may be from now on: the old and the new. */
static int save_union(const struct agent *a, const struct wiring *old, const struct wiring *new, struct error *err) {
	struct wiring both = {.id = new->id, .ports = new->ports}; /* without a name: not yet in line */
	both.nics.items = alloc_array(old->nics.n + new->nics.n + 1, sizeof *both.nics.items);
	for (size_t i = 0; i < new->nics.n; i++)
		both.nics.items[both.nics.n++] = new->nics.items[i];
	for (size_t i = 0; i < old->nics.n; i++)
		if (!nic_on(&new->nics, old->nics.items[i].network_id))
			both.nics.items[both.nics.n++] = old->nics.items[i];
	int r = wiring_save(a, &both, err);
	free(both.nics.items);
	return r;
}

static int change_links(const struct job *j, const struct msg_instance_create *r, const struct wiring *old, int netns,
			struct error *err) {
	const struct agent *a = j->agent;
	const nics *now = &r->instance.nics;
	for (size_t i = 0; i < old->nics.n; i++) {
		const struct nic *nic = &old->nics.items[i];
		if (nic_on(now, nic->network_id))
			continue;
		unname_one(a, r->instance.id, nic);
		unlink_one(a, r->instance.id, nic, netns);
	}
	fault_point("net.sync.removed");
	int result = link_all(a, r->instance.id, now, netns, err);
	struct inst *known = map_get(a->insts, r->instance.id);
	if (known) /* this process's copy is from before */
		inst_set_nics(known, now);
	if (result == 0)
		result = make_neighbours(j, now, err);
	return result < 0 ? result : name_all(a, r, err);
}

/* Has the new one all that the old one had, in the same order? */
static bool only_adds(const struct wiring *old, const struct wiring *new) {
	struct wiring first = {.id = new->id, .name = old->name, .nics = {new->nics.items, old->nics.n},
			       .ports = {new->ports.items, old->ports.n}};
	return old->nics.n && old->nics.n <= new->nics.n && old->ports.n <= new->ports.n && fields_equal(&wiring_table, old, &first);
}

/* What only comes is added, in a time that does not grow with the number of instances. */
static int change_rules(const struct agent *a, const struct wiring *old, const struct wiring *new, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	int r = firewall_lock(a, &lock, err);
	if (r == 0)
		r = wiring_save(a, new, err);
	if (r < 0)
		return r;
	return only_adds(old, new) ? rules_add_instance(a, new, err) : rules_apply(a, NULL, err);
}

int network_sync(const struct job *j, const struct msg_instance_create *r, const struct run_state *run, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(wiring_free) struct wiring old = {0};
	struct wiring new = wiring_of(r);
	if (!run->created || !str_same(r->instance.spec.network, "private"))
		return 0;
	if (wiring_load(a, new.id, &old, NULL) < 0)
		old.id = str_copy(new.id);
	if (fields_equal(&wiring_table, &old, &new))
		return 0;
	_cleanup_(close_fd) int netns = open_netns(&run->container);
	if (netns < 0)
		return 0; /* its end is near, and takes all away */
	_cleanup_(instance_unlock) int lock = -1;
	int result = ports_check_others(a, new.id, &new.ports, err);
	if (result == 0)
		result = try_ports(&old, &new, err);
	if (result == 0)
		result = networks_lock(a, LOCK_EX, &lock, err);
	if (result == 0)
		result = save_union(a, &old, &new, err);
	fault_point("net.sync.wired");
	if (result == 0)
		result = change_links(j, r, &old, netns, err);
	fault_point("net.sync.links");
	if (result == 0)
		result = change_rules(a, &old, &new, err);
	fault_point("net.sync.rules");
	return result;
}

struct rewire {
	const struct network *network;
	struct tagged_link *links;
	size_t n_links;
	bool all;
};

static bool has_link(const struct rewire *w, const char *id) {
	for (size_t i = 0; i < w->n_links; i++)
		if (strcmp(w->links[i].instance, id) == 0 && strcmp(w->links[i].network, w->network->id) == 0)
			return true;
	return false;
}

static void rewire_one(const struct agent *a, const char *id, void *arg) {
	const struct rewire *w = arg;
	const struct inst *known = inst_get(a, id);
	if (!known || !nic_on(&known->nics, w->network->id))
		return; /* most are not on it */
	const struct network_driver *d = network_driver_find(w->network->spec.driver);
	_cleanup_(wiring_free) struct wiring wiring = {0};
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if ((!w->all && has_link(w, id)) || wiring_load(a, id, &wiring, NULL) < 0)
		return;
	const struct nic *nic = nic_on(&wiring.nics, w->network->id);
	if (!nic || !d || run_load(a, id, &run, NULL) < 0)
		return;
	_cleanup_(close_fd) int netns = network_netns(a, id, &run);
	if (netns >= 0 && link_nic(a, d, w->network, id, nic, nic == gateway_nic(a, &wiring.nics), netns, &err) < 0)
		log_warn("instance %.12s, network %s: %s", id, w->network->spec.name, error_text(&err));
}

void network_rewire(const struct agent *a, const struct network *n, bool all) {
	const struct network_driver *d = network_driver_find(n->spec.driver);
	struct rewire w = {.network = n, .all = all};
	if (!d || !d->rules) /* what it has made lives with the instance, not on the host */
		return;
	if (network_tagged(a->tag, &w.links, &w.n_links, NULL) < 0)
		return;
	for_each_id(a->shims, rewire_one, a, &w);
	free(w.links);
}
