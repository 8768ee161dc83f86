/* From the networks that an instance's spec asks for to its interfaces: ids, addresses, MACs, names inside. */
#include "core/core-priv.h"

#include "base/str.h"
#include "image/hash.h"

#include <ctype.h>
#include <sys/socket.h>


void instance_claim(struct core *c, const struct instance *i) {
	for (size_t k = 0; k < i->nics.n; k++)
		nic_claim(c, &i->nics.items[k], i->id);
	for (size_t k = 0; k < i->ports.n; k++)
		port_claim(c, &i->ports.items[k], i->id);
}

void instance_unclaim(struct core *c, const struct instance *i) {
	for (size_t k = 0; k < i->nics.n; k++)
		nic_unclaim(c, &i->nics.items[k], i->id);
	for (size_t k = 0; k < i->ports.n; k++)
		port_unclaim(c, &i->ports.items[k], i->id);
}

/* ---- addresses ---- */

static void replace(char **member, const char *value) {
	free(*member);
	*member = value ? str_copy(value) : NULL;
}

/* The static address, the one it had, or a free one. */
static int choose_address(struct core *c, const struct object *o, int family, const char *wanted, const char *had,
			  const char *self, bool share, char **out, struct error *err) {
	char text[46];
	struct ip ip;
	int r = 0;
	if (wanted && ip_parse(wanted, &ip) == 0)
		ip_format(&ip, text);
	if (wanted)
		r = address_usable(c, o, text, self, share, err);
	else if (!address_space_of(use_of(o), family))
		return 0;
	else if (had && address_usable(c, o, had, self, false, NULL) == 0)
		snprintf(text, sizeof text, "%s", had);
	else
		r = address_pick(o, family, text, err);
	if (r < 0) {
		error_in_field(err, family == AF_INET ? "ipv4" : "ipv6");
		return r;
	}
	replace(out, text);
	return 0;
}

/* ---- MACs ---- */

/* The same for the same network and address, so that neighbours need not learn anew: 02 and 5 bytes of a digest. */
static void derive_mac(const char *network_id, const char *what, unsigned attempt, char out[18]) {
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	hash_add(h, network_id, strlen(network_id));
	hash_add(h, what, strlen(what));
	hash_add(h, &attempt, attempt ? sizeof attempt : 0);
	_cleanup_(free_ptr) char *digest = hash_digest(h);
	const char *hex = digest + strlen("sha256:");
	snprintf(out, 18, "02:%.2s:%.2s:%.2s:%.2s:%.2s", hex, hex + 2, hex + 4, hex + 6, hex + 8);
}

/* Whether the one that has the MAC runs, or does not share it. */
static bool keeps_mac(struct core *c, const struct object *o, const char *owner, const char *mac, bool share) {
	const struct entry *e = map_get(c->by_id, owner);
	bool shared = share && e && !instance_is_up(c, owner);
	for (size_t k = 0; shared && k < e->snap->instance.nics.n; k++) {
		const struct nic *n = &e->snap->instance.nics.items[k];
		if (str_same(n->network_id, object_id(o)) && str_same(n->mac, mac))
			return !n->share;
	}
	return true;
}

static int static_mac(struct core *c, const struct object *o, const char *mac, const char *self, bool share, char **out,
		      struct error *err) {
	_cleanup_(free_ptr) char *lower = str_copy(mac);
	for (char *p = lower; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	const char *owner = map_get(use_of(o)->macs, lower);
	if (owner && !str_same(owner, self) && keeps_mac(c, o, owner, lower, share)) {
		const struct entry *e = map_get(c->by_id, owner);
		error_set(err, ERROR_CONFLICT, "%s on network %s is taken by instance %s", lower, network_of(o)->spec.name,
			  e ? e->snap->instance.spec.name : owner);
		error_in_field(err, "mac");
		return -ERROR_CONFLICT;
	}
	replace(out, lower);
	return 0;
}

static bool same_text(const char *a, const char *b) {
	return str_same(a, b);
}

static int choose_mac(struct core *c, const struct object *o, const char *wanted, const struct nic *had,
		      const char *self, struct nic *n, struct error *err) {
	const char *driver = network_of(o)->spec.driver;
	if (wanted && str_same(driver, "ipvlan"))
		return error_field(err, "mac", "cannot be chosen on network %s: with ipvlan all share the parent's",
				   network_of(o)->spec.name);
	if (wanted)
		return static_mac(c, o, wanted, self, n->share, &n->mac, err);
	if (str_same(driver, "ipvlan") || str_same(driver, "physical"))
		return 0; /* as the interface has it */
	if (had && had->mac && same_text(had->ipv4, n->ipv4) && same_text(had->ipv6, n->ipv6)) {
		replace(&n->mac, had->mac);
		return 0;
	}
	char mac[18];
	unsigned attempt = 0;
	do
		derive_mac(n->network_id, n->ipv4 ? n->ipv4 : n->ipv6 ? n->ipv6 : self, attempt++, mac);
	while (map_get(use_of(o)->macs, mac) && !str_same(map_get(use_of(o)->macs, mac), self));
	replace(&n->mac, mac);
	return 0;
}

/* ---- one interface ---- */

static const struct nic *nic_on(const nics *list, const char *network_id) {
	for (size_t i = 0; i < list->n; i++)
		if (str_same(list->items[i].network_id, network_id))
			return &list->items[i];
	return NULL;
}

static bool name_taken(const nics *list, const attachments *wanted, const char *name) {
	for (size_t i = 0; i < list->n; i++)
		if (str_same(list->items[i].interface, name))
			return true;
	for (size_t i = 0; i < wanted->n; i++)
		if (str_same(wanted->items[i].interface, name))
			return true;
	return false;
}

static int choose_interface(const struct attachment *a, const struct network_spec *s, const nics *done, const attachments *all,
			    const nics *before, struct nic *n, struct error *err) {
	const struct nic *had = nic_on(before, n->network_id);
	static const attachments none = {0};
	char name[16];
	if (a->interface) {
		if (name_taken(done, &none, a->interface) || str_same(a->interface, "lo"))
			return error_field(err, "interface", "%s is the name of another of its interfaces", a->interface);
		replace(&n->interface, a->interface);
		return 0;
	}
	if (had && !name_taken(done, all, had->interface)) {
		replace(&n->interface, had->interface);
		return 0;
	}
	for (unsigned k = 0;; k++) {
		snprintf(name, sizeof name, "%s%u", s->interface_prefix ? s->interface_prefix : "eth", k);
		if (name_taken(done, all, name))
			continue;
		bool later = false; /* one that follows keeps the name that it has */
		for (size_t i = 0; i < before->n; i++)
			later = later || str_same(before->items[i].interface, name);
		if (!later)
			break;
	}
	replace(&n->interface, name);
	return 0;
}

static struct object *find_network(struct core *c, const char *project, const char *name, const nics *done,
				   struct error *err) {
	struct object *o = object_find(c, &c->networks, project, name, err);
	if (o && o->removing) {
		error_set(err, ERROR_CONFLICT, "network %s is being removed", name);
		o = NULL;
	} else if (o && nic_on(done, object_id(o))) {
		error_set(err, ERROR_INVALID, "network %s is given twice", network_of(o)->spec.name);
		o = NULL;
	}
	error_in_field(err, "network");
	return o;
}

/* n is initialised; the caller frees it on failure, too. */
static int nic_resolve(struct core *c, const struct instance *i, const struct attachment *a, const attachments *all,
		       const nics *done, struct nic *n, struct error *err) {
	struct object *o = find_network(c, i->project, a->network, done, err);
	if (!o)
		return err && err->kind ? -(int)err->kind : -ERROR_NOT_FOUND;
	const struct nic *had = nic_on(&i->nics, object_id(o));
	replace(&n->network_id, object_id(o));
	replace(&n->network, network_of(o)->spec.name);
	n->share = a->share;
	int r = choose_address(c, o, AF_INET, a->ipv4, had ? had->ipv4 : NULL, i->id, a->share, &n->ipv4, err);
	if (r == 0)
		r = choose_address(c, o, AF_INET6, a->ipv6, had ? had->ipv6 : NULL, i->id, a->share, &n->ipv6, err);
	if (r == 0)
		r = choose_mac(c, o, a->mac, had, i->id, n, err);
	if (r == 0)
		r = choose_interface(a, &network_of(o)->spec, done, all, &i->nics, n, err);
	if (r == 0)
		r = group_ids(c, i->project, a->rules, "rules", &n->rules, err);
	n->aliases = strv_copy(a->aliases);
	n->ingress_rate = a->ingress_rate;
	n->egress_rate = a->egress_rate;
	n->allow_spoofing = a->allow_spoofing;
	n->gateway_priority = a->gateway_priority;
	pairs_add(&n->sysctls, &a->sysctls);
	if (r == 0 && a->sysctls.n && instance_is_machine(&i->spec))
		r = error_field(err, "sysctls", "a machine's kernel has its own");
	return r;
}

/* ---- all of them ---- */

static void nics_free(nics *list) {
	for (size_t k = 0; k < list->n; k++)
		fields_free(&nic_table, &list->items[k]);
	free(list->items);
	*list = (nics){0};
}

/* Gives up what a resolution that failed has claimed, and holds what there was. */
static void restore_claims(struct core *c, const struct instance *i, const nics *new) {
	for (size_t k = 0; k < new->n; k++)
		nic_unclaim(c, &new->items[k], i->id);
	for (size_t k = 0; k < i->nics.n; k++)
		nic_claim(c, &i->nics.items[k], i->id);
}

int nics_resolve(struct core *c, struct instance *i, struct error *err) {
	struct attachment implied = {.network = (char *)DEFAULT_NETWORK};
	attachments all = i->spec.networks;
	nics new = {0};
	int r = 0;
	if (!str_same(i->spec.network, "private"))
		all = (attachments){0};
	else if (!all.n)
		all = (attachments){&implied, 1};
	new.items = alloc_array(all.n + 1, sizeof *new.items);
	for (size_t k = 0; r == 0 && k < all.n; k++) {
		struct nic *n = &new.items[k];
		fields_init(&nic_table, n);
		r = nic_resolve(c, i, &all.items[k], &all, &new, n, err);
		if (r == 0) {
			nic_claim(c, n, i->id);
			new.n++;
		} else {
			_cleanup_(free_ptr) char *field = str_format("networks[%zu]", k);
			error_in_field(err, field);
			fields_free(&nic_table, n);
		}
	}
	if (r < 0) {
		restore_claims(c, i, &new);
		nics_free(&new);
		return r;
	}
	nics_free(&i->nics);
	i->nics = new;
	return 0;
}

/* ---- an instance's networks and ports ---- */

/* Ports lead to interfaces that this host bridges. */
static int check_reachable(struct core *c, const struct instance *i, struct error *err) {
	if (!i->ports.n)
		return 0;
	for (size_t k = 0; k < i->nics.n; k++) {
		const struct object *o = map_get(c->networks.by_id, i->nics.items[k].network_id);
		if (o && (str_same(network_of(o)->spec.driver, "bridge") || str_same(network_of(o)->spec.driver, "vxlan")))
			return 0;
	}
	return error_field(err, "ports", "can be published of an instance that is on a network of driver bridge or vxlan");
}

int instance_resolve(struct core *c, struct instance *i, const struct instance *old, bool nics, bool ports,
		     struct error *err) {
	struct image_entry *image = image_of_instance(c, i);
	int r = nics ? nics_resolve(c, i, err) : 0;
	if (r == 0 && ports)
		r = ports_resolve(c, i, image ? image->snap->image.config.exposed_ports : NULL, err);
	if (r == 0 && (nics || ports))
		r = check_reachable(c, i, err);
	if (r < 0) {
		instance_unclaim(c, i);
		if (old)
			instance_claim(c, old);
	}
	return r;
}

void instance_resolved_free(struct instance *i) {
	nics_free(&i->nics);
	for (size_t k = 0; k < i->ports.n; k++)
		fields_free(&port_table, &i->ports.items[k]);
	free(i->ports.items);
	i->ports = (ports){0};
	strv_free(TAKE_PTR(i->exposed));
}

/* ---- the network that is there without being asked for ---- */

static bool wants_default(const struct instance_spec *s) {
	if (!str_same(s->network, "private"))
		return false;
	for (size_t i = 0; i < s->networks.n; i++)
		if (str_same(s->networks.items[i].network, DEFAULT_NETWORK))
			return true;
	return s->networks.n == 0;
}

static int default_network_make(struct core *c, const char *project, struct error *err) {
	struct network_spec spec;
	struct error e = ERROR_INIT;
	fields_init(&network_spec_table, &spec);
	spec.name = str_copy(DEFAULT_NETWORK);
	_cleanup_(object_snap_unref_ptr) struct object_snap *made = NULL;
	if (network_create(c, project, &spec, &made, &e) == 0)
		return 0;
	if (e.kind != ERROR_EXISTS) {
		error_wrap(&e, "making the network " DEFAULT_NETWORK);
		return error_move(err, &e);
	}
	error_free(&e); /* somebody else has made it just now */
	return 0;
}

int default_network_ensure(struct core *c, const char *project, const struct instance_spec *s, struct error *err) {
	if (!wants_default(s))
		return 0;
	core_lock(c);
	bool there = object_find(c, &c->networks, project, DEFAULT_NETWORK, NULL);
	core_unlock(c);
	if (there)
		return 0;
	return default_network_make(c, project, err);
}

int network_default(struct core *c, const char *project, struct object_snap **out, struct error *err) {
	struct instance_spec wish = {.network = (char *)"private"};
	int r = default_network_ensure(c, project, &wish, err);
	return r < 0 ? r : network_get(c, project, DEFAULT_NETWORK, out, err);
}
