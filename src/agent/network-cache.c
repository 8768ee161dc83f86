/* The agent's cache of networks: which there are, whether they work, what workers report of them. Requests about
 * networks are judged here, where all that is promised to anybody is known. All of it can be built again from disk. */
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>

#define BACKOFF_FIRST (100 * NS_PER_MS)
#define USERS_SHOWN 8 /* in a message */

static void net_free(void *value) {
	struct net *n = value;
	resolver_unwatch(n);
	network_free(&n->network);
	free(n);
}

struct net *net_get(const struct agent *a, const char *id) {
	return id && *id ? map_get(a->nets, id) : NULL;
}

static struct net *net_add(struct agent *a, const char *id) {
	struct net *n = NEW(struct net);
	n->agent = a;
	n->resolver = -1;
	n->backoff = BACKOFF_FIRST;
	fields_init(&network_table, &n->network);
	n->network.id = str_copy(id);
	map_set(a->nets, id, n);
	return n;
}

static void set_status(struct net *n, const char *state, const char *error) {
	struct network_status *s = &n->network.status;
	const struct network_driver *d = network_driver_find(n->network.spec.driver);
	char name[16];
	fields_free(&network_status_table, s);
	s->state = str_copy(state);
	s->error = error ? str_copy(error) : NULL;
	if (!d || !d->rules)
		return; /* it has no interface of its own */
	network_bridge_name(n->agent->tag, &n->network, name);
	s->interface = str_copy(name);
}

/* The record anew. What cannot be read can be seen, and removed. */
static void net_reload(struct net *n) {
	_cleanup_(free_ptr) char *id = str_copy(n->network.id);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct network loaded;
	network_free(&n->network);
	n->damaged = network_load(n->agent, id, &loaded, &err) < 0;
	if (!n->damaged) {
		n->network = loaded;
		set_status(n, "down", NULL);
		return;
	}
	log_error("network %.12s cannot be read: %s", id, error_text(&err));
	fields_init(&network_table, &n->network);
	n->network.id = TAKE_PTR(id);
	set_status(n, "failed", error_text(&err));
}

static void load_net(const struct agent *a, const char *id, UNUSED void *arg) {
	net_reload(net_add((struct agent *)a, id));
}

static int make_dirs(const struct agent *a, struct error *err) {
	const char *const kinds[] = {"groups", "members", "balancers"};
	int r = fs_mkdir_p(a->networks, 0700);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		_cleanup_(free_ptr) char *dir = firewall_path(a, kinds[i], NULL);
		r = fs_mkdir_p(dir, 0700);
	}
	if (r == 0)
		r = fs_mkdir_p(a->resolvers, 0755); /* resolvers run unprivileged */
	return r < 0 ? error_errno(err, r, "cannot make the directories of networks") : 0;
}

int networks_begin(struct agent *a, struct error *err) {
	a->nets = map_new(net_free);
	int r = make_dirs(a, err);
	if (r < 0)
		return r;
	for_each_id(a->networks, load_net, a, NULL);
	r = firewall_watch_begin(a, err);
	if (r == 0)
		networks_repair(a);
	return r;
}

void networks_end(struct agent *a) {
	firewall_watch_end(a);
	if (a->nets)
		map_free(a->nets);
	a->nets = NULL;
}

bool networks_shut_down(struct agent *a) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (map_count(a->nets) == 0)
		return false;
	firewall_watch_end(a);
	void *value;
	for (size_t at = 0; map_next(a->nets, &at, NULL, &value);)
		resolver_unwatch(value);
	struct job j = {.agent = a, .handler = &job_networks_down, .sock = -1, .listen_fd = -1};
	int r = worker_start(a, &j, &err);
	if (r < 0)
		log_error("networks stay on the host: %s", error_text(&err));
	return r == 0;
}

/* --- what workers report --- */

void network_report(struct agent *a, const json_t *report) {
	const char *changed = json_get_str(report, "network"), *gone = json_get_str(report, "network_gone");
	if (changed) {
		struct net *n = net_get(a, changed);
		if (!n)
			n = net_add(a, changed);
		n->creating = false;
		net_reload(n);
		n->deleting = false;
		if (!n->damaged)
			set_status(n, json_get_str(report, "state"), json_get_str(report, "error"));
		if (str_same(n->network.status.state, "failed"))
			network_again(n);
	}
	struct net *named = net_get(a, json_get_str(report, "resolver"));
	if (named)
		resolver_watch(named, (pid_t)json_get_int(report, "pid"), (uint64_t)json_get_int(report, "start"));
	if (gone)
		map_remove(a->nets, gone);
}

static bool is_work(const struct child *c, int (*work)(struct job *j, struct error *err)) {
	return c->handler && c->handler->work == work;
}

/* Instances whose recovery has waited for their networks. */
static void recover_instances(struct agent *a) {
	a->recovered = true;
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		struct inst *i = value;
		if (i->recover)
			inst_recover(a, i->id);
		i->recover = false;
	}
}

void network_worker_ended(struct child *c, bool failed, bool crashed) {
	struct agent *a = c->agent;
	struct net *n = net_get(a, c->id);
	if (is_work(c, work_networks) && failed)
		networks_repair_later(a);
	if (is_work(c, work_networks) && !a->recovered)
		recover_instances(a);
	if (is_work(c, work_firewall) && failed)
		firewall_again(a);
	else if (is_work(c, work_firewall))
		firewall_settled(a);
	if (is_work(c, work_network) && n && failed)
		network_again(n);
	bool change = is_work(c, work_network_create) || is_work(c, work_network_delete);
	if (change && n) {
		n->deleting = false;
		if (n->creating)
			map_remove(a->nets, c->id); /* it did not report success; what is on disk is found by a repair */
	}
	if (crashed && (change || is_work(c, work_rules_set) || is_work(c, work_rules_delete) ||
			is_work(c, work_members_set) || is_work(c, work_balancer_set) || is_work(c, work_balancer_delete)))
		networks_repair(a);
}

/* --- requests --- */

int do_network_create(struct job *j, struct error *err) {
	const struct network *m = j->body;
	struct agent *a = j->agent;
	struct net *n = net_get(a, m->id);
	if (a->stopping)
		return error_set(err, ERROR_UNAVAILABLE, "the agent is shutting down");
	if (n && (n->creating || n->deleting))
		return error_set(err, ERROR_BUSY, "network %.12s is being %s; try again when it is done", m->id,
				 n->creating ? "made" : "removed");
	memcpy(j->id, m->id, sizeof j->id); /* 64 digits, as its table has checked */
	bool fresh = !n;
	if (fresh)
		net_add(a, m->id)->creating = true;
	int r = worker_start(a, j, err);
	if (r < 0 && fresh)
		map_remove(a->nets, m->id);
	return r;
}

int do_network_delete(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	struct agent *a = j->agent;
	struct net *n = net_get(a, m->id);
	if (!n) {
		peer_answer(j->peer, j->handler, NULL, NULL, 0);
		return 0;
	}
	if (n->creating || n->deleting)
		return error_set(err, ERROR_BUSY, "network %.12s is being %s; try again when it is done", m->id,
				 n->creating ? "made" : "removed");
	_cleanup_(buf_free) struct buf users = BUF_INIT;
	size_t count = 0;
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		for (size_t k = 0; k < i->nics.n; k++)
			if (str_same(i->nics.items[k].network_id, m->id) && count++ < USERS_SHOWN)
				buf_addf(&users, "%s%.12s", users.len ? ", " : "", i->id);
	}
	if (count)
		return error_set(err, ERROR_CONFLICT, "instances are on network %.12s: %s%s", m->id, buf_str(&users),
				 count > USERS_SHOWN ? " and more" : "");
	memcpy(j->id, m->id, sizeof j->id); /* 64 digits, as its table has checked */
	n->deleting = true;
	int r = worker_start(a, j, err);
	if (r < 0)
		n->deleting = false;
	return r;
}

int do_network_list(struct job *j, UNUSED struct error *err) {
	struct msg_network_states reply = {0};
	reply.networks.items = alloc_array(map_count(j->agent->nets) + 1, sizeof *reply.networks.items);
	void *value;
	for (size_t at = 0; map_next(j->agent->nets, &at, NULL, &value);) {
		struct net *n = value;
		if (!n->creating)
			reply.networks.items[reply.networks.n++] = (struct msg_network_state){
				.id = n->network.id, .subnets = n->network.spec.subnets, .status = n->network.status};
	}
	peer_answer(j->peer, j->handler, &reply, NULL, 0);
	free(reply.networks.items);
	return 0;
}

/* The address is taken from here on, although the worker has yet to write it down; in the end it reports what is true. */
int do_nic_set(struct job *j, struct error *err) {
	struct msg_nic_set *m = j->body;
	struct inst *i = inst_get(j->agent, j->id);
	nics wanted = {.items = alloc_array(i->nics.n + 1, sizeof *wanted.items)};
	bool there = false;
	for (size_t k = 0; k < i->nics.n; k++) {
		bool same = str_same(i->nics.items[k].network_id, m->nic.network_id);
		wanted.items[wanted.n++] = same ? m->nic : i->nics.items[k];
		there |= same;
	}
	if (!there)
		wanted.items[wanted.n++] = m->nic;
	int r = nics_check(j->agent, j->id, &wanted, err);
	for (size_t k = 0; k < wanted.n; k++) /* the check may have written addresses anew */
		if (str_same(wanted.items[k].network_id, m->nic.network_id))
			m->nic = wanted.items[k];
		else
			i->nics.items[k] = wanted.items[k];
	if (r == 0)
		r = worker_start(j->agent, j, err);
	if (r == 0)
		inst_set_nics(i, &wanted);
	free(wanted.items);
	return r;
}

/* The same for ports. */
int do_update(struct job *j, struct error *err) {
	const struct msg_instance_update *m = j->body;
	struct inst *i = inst_get(j->agent, j->id);
	bool up = state_bit(i->status.state) & S_UP;
	int r = ports_check(j->agent, &i->nics, &m->ports, err);
	if (r == 0 && up)
		r = ports_check_others(j->agent, j->id, &m->ports, err);
	if (r == 0)
		r = worker_start(j->agent, j, err);
	if (r == 0)
		inst_set_ports(i, &m->ports);
	return r;
}
