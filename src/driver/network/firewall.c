/* The table as a whole, and what each verb changes in it. Both are made of the same functions, one for each topic, that write
 * commands for nft; see firewall-priv.h. */
#include "driver/network/firewall.h"

#include "base/log.h"
#include "base/str.h"
#include "driver/network/firewall-priv.h"

static const char *const table_families[] = {"bridge", "inet", "ip", "ip6"};

/* ---- a whole table ---- */

static void render_instance(struct script *c, const struct firewall_instance *i) {
	for (size_t k = 0; k < i->n_nics; k++) {
		spoof_nic(c, i->id, &i->nics[k]);
		nat_nic(c, &i->nics[k]);
		rules_nic(c, &i->nics[k]);
	}
	publish_instance(c, i);
}

static void render_groups(struct script *c) {
	const struct firewall_state *s = c->s;
	for (size_t i = 0; i < s->n_groups; i++) {
		rules_group_peers(c, s->groups[i]);
		rules_group_chains(c, s->groups[i]);
	}
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i].addresses && s->members[i].addresses[0])
			rules_peer(c, &s->members[i]);
	for (size_t i = 0; i < s->n_groups; i++)
		rules_group(c, s->groups[i]);
}

static void render(const struct firewall_state *s, bool detour, struct buf *out) {
	_cleanup_(map_free_ptr) struct map *seen = map_new(NULL);
	struct script c = {.s = s, .out = out, .seen = seen};
	spoof_tables(&c);
	filter_tables(&c);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		nat_tables(&c, &families[i], detour);
	render_groups(&c);
	for (size_t i = 0; i < s->n_networks; i++)
		if (network_filters(s->networks[i])) {
			filter_network(&c, s->networks[i]);
			nat_network(&c, s->networks[i]);
			rules_network(&c, s->networks[i]);
		}
	for (size_t i = 0; i < s->n_instances; i++)
		render_instance(&c, &s->instances[i]);
	for (size_t i = 0; i < s->n_balancers; i++)
		balancer_script(&c, s->balancers[i]);
}

void firewall_render(const struct firewall_state *s, struct buf *out) {
	render(s, true, out);
}

/* Commands that take the tables away, whether or not they are there. */
static void script_delete(const char *tag, struct buf *out) {
	for (size_t i = 0; i < ARRAY_SIZE(table_families); i++)
		buf_addf(out, "add table %s wabe_%s\ndelete table %s wabe_%s\n", table_families[i], tag, table_families[i], tag);
}

static int load_tables(const struct firewall_state *s, bool detour, struct error *err) {
	_cleanup_(buf_free) struct buf script = BUF_INIT;
	script_delete(s->tag, &script);
	render(s, detour, &script);
	return nft_run(&script, err);
}

static bool needs_detour(const struct firewall_state *s) {
	for (size_t i = 0; i < s->n_instances; i++)
		if (publish_needs_detour(s, &s->instances[i]))
			return true;
	for (size_t i = 0; i < s->n_balancers; i++)
		if (balancer_needs_detour(s, s->balancers[i]))
			return true;
	return false;
}

static int no_detour(struct error *err) {
	return error_set(err, ERROR_UNSUPPORTED,
			 "ports with the policy \"host\" are not reached from outside: this kernel has no nft_dup_ipv4 and "
			 "nft_dup_ipv6; publish them with the network's policy \"open\"");
}

/* A kernel that takes the table but for the detour gets it without: all else works. */
static int load(const struct firewall_state *s, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = detour_up(s->tag, err);
	if (r < 0)
		return r;
	r = load_tables(s, true, err);
	if (r == 0 || load_tables(s, false, &why) < 0)
		return r;
	log_warn("nftables without the detour: %s", error_text(err));
	r = detour_down(s->tag, err);
	if (r == 0 && needs_detour(s))
		r = no_detour(err);
	else if (err)
		error_free(err);
	return r;
}

static bool instance_filters(const struct firewall_state *s, const struct firewall_instance *i, const char *network) {
	for (size_t k = 0; k < i->n_nics; k++)
		if (str_same(i->nics[k].network_id, network) && rules_on_nic(s, &i->nics[k]))
			return true;
	return false;
}

static int prepare_networks(const struct firewall_state *s, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < s->n_networks; i++) {
		const struct network *n = s->networks[i];
		bool filtered = rules_on_network(s, n);
		for (size_t k = 0; !filtered && k < s->n_instances; k++)
			filtered = instance_filters(s, &s->instances[k], n->id);
		if (network_filters(n))
			r = host_network(s, n, filtered, err);
	}
	return r;
}

int firewall_load(const struct firewall_state *s, struct error *err) {
	int r = load(s, err);
	/* what is allowed is known: now packets may pass */
	int prepared = host_prepare(s, r < 0 ? NULL : err);
	if (prepared == 0)
		prepared = prepare_networks(s, r < 0 ? NULL : err);
	return r < 0 ? r : prepared;
}

int firewall_unload(const char *tag, struct error *err) {
	_cleanup_(buf_free) struct buf script = BUF_INIT;
	script_delete(tag, &script);
	int r = nft_run(&script, err);
	return r < 0 ? r : detour_down(tag, err);
}

bool firewall_present(const char *tag) {
	_cleanup_(free_ptr) char *table = str_format("wabe_%s", tag);
	for (size_t i = 0; i < ARRAY_SIZE(table_families); i++)
		if (!nft_table_exists(table_families[i], table))
			return false;
	return true;
}

/* ---- changes: instances ---- */

static int check_groups(const struct firewall_state *s, const struct firewall_instance *i, struct error *err) {
	for (size_t k = 0; k < i->n_nics; k++)
		for (char *const *id = i->nics[k].rules; id && *id; id++)
			if (!rules_find(s, *id))
				return error_set(err, ERROR_NOT_FOUND, "there is no rule group %s, which %s has on the network %s", *id, i->id,
						 i->nics[k].network_id);
	return 0;
}

static int forget_ports(const struct firewall_state *s, const struct firewall_instance *i, bool gone, struct error *err) {
	const struct nic *nic = publish_nic(s, i);
	_cleanup_(strv_free_ptr) char **keep = NULL;
	char buffer[46];
	if (nic && !gone && ip_of(nic->ipv4, AF_INET, buffer))
		strv_add(&keep, buffer);
	if (nic && !gone && ip_of(nic->ipv6, AF_INET6, buffer))
		strv_add(&keep, buffer);
	for (size_t p = 0; nic && p < i->n_ports; p++)
		if (str_same(i->ports[p].protocol, "udp")) {
			int r = conntrack_forget(i->ports[p].address, i->ports[p].host_port, i->ports[p].count, keep, err);
			if (r < 0)
				return r;
		}
	return 0;
}

int firewall_instance_add(const struct firewall_state *s, const struct firewall_instance *i, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct script c = {.s = s, .out = &out};
	int r = check_groups(s, i, err);
	if (r == 0 && publish_needs_detour(s, i) && !detour_exists(s->tag))
		r = no_detour(err);
	for (size_t k = 0; r == 0 && k < i->n_nics; k++)
		if (rules_on_nic(s, &i->nics[k]))
			r = host_network(s, script_network(s, i->nics[k].network_id), true, err);
	if (r < 0)
		return r;
	render_instance(&c, i);
	r = nft_run(&out, err);
	return r < 0 ? r : forget_ports(s, i, false, err);
}

/* Chains that nobody uses any more. What cannot be removed waits for the next load. */
static void drop_policies(const struct firewall_state *s, const struct firewall_instance *i) {
	for (size_t k = 0; k < i->n_nics; k++) {
		_cleanup_(buf_free) struct buf out = BUF_INIT;
		struct script c = {.s = s, .out = &out};
		rules_drop_policy(&c, &i->nics[k]);
		nft_run(&out, NULL);
	}
}

static int remove_elements(const struct firewall_state *s, const struct firewall_instance *i, bool present, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct script c = {.s = s, .out = &out, .removing = true, .present = present};
	render_instance(&c, i);
	return nft_run(&out, err);
}

int firewall_instance_remove(const struct firewall_state *s, const struct firewall_instance *i, struct error *err) {
	int r = remove_elements(s, i, true, NULL);
	if (r < 0) /* a part of it has gone before */
		r = remove_elements(s, i, false, err);
	if (r < 0)
		return r;
	drop_policies(s, i);
	return forget_ports(s, i, true, err);
}

/* ---- changes: rules ---- */

int firewall_group_set(const struct firewall_state *s, const struct rule_group *g, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct script c = {.s = s, .out = &out};
	bool gone = !rules_find(s, g->id);
	if (!gone)
		rules_group_peers(&c, g);
	rules_group_chains(&c, g);
	if (gone) {
		script_line(&c, "delete chain", "inet", "group_%s_in", g->id);
		script_line(&c, "delete chain", "inet", "group_%s_out", g->id);
	} else {
		rules_group(&c, g);
	}
	int r = rules_drop_peers(&c, NULL, err);
	return r < 0 ? r : nft_run(&out, err);
}

int firewall_members_set(const struct firewall_state *s, const struct firewall_members *m, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct script c = {.s = s, .out = &out};
	rules_peer(&c, m);
	int r = m->addresses && m->addresses[0] ? 0 : rules_drop_peers(&c, m, err);
	return r < 0 ? r : nft_run(&out, err);
}

/* ---- changes: balancers ---- */

static int change_balancer(const struct firewall_state *s, const struct balancer *b, bool gone, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct script c = {.s = s, .out = &out, .removing = gone};
	if (!gone && balancer_needs_detour(s, b) && !detour_exists(s->tag))
		return no_detour(err);
	balancer_script(&c, b);
	int r = nft_run(&out, err);
	if (r == 0 && b->spec.inside)
		r = conntrack_forget(b->spec.address, 1, 65535, gone ? NULL : b->backends, err);
	else if (r == 0 && str_same(b->spec.protocol, "udp"))
		r = conntrack_forget(b->spec.address, balancer_port(b), 1, gone ? NULL : b->backends, err);
	return r;
}

int firewall_balancer_set(const struct firewall_state *s, const struct balancer *b, struct error *err) {
	return change_balancer(s, b, false, err);
}

int firewall_balancer_remove(const struct firewall_state *s, const struct balancer *b, struct error *err) {
	return change_balancer(s, b, true, err);
}
