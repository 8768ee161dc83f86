/* Addresses: who has which on a network, in memory for instances (whose own objects say it) and in the store for
 * reservations. Picking one takes the same time however many there are. */
#include "core/core-priv.h"

#include "base/str.h"

#include <inttypes.h>
#include <sys/socket.h>

/* ---- what is taken on one network ---- */

static void claim_free(void *p) {
	struct address_claim *a = p;
	free(a->instance);
	free(a->mac);
	free(a->description);
	free(a);
}

struct network_use *network_use_new(void) {
	struct network_use *u = NEW(struct network_use);
	u->addresses = map_new(claim_free);
	u->macs = map_new(free);
	u->instances = map_new(NULL);
	return u;
}

void network_use_free(void *use) {
	struct network_use *u = use;
	map_free(u->addresses);
	map_free(u->macs);
	map_free(u->instances);
	strv_free(u->group_ids);
	free(u);
}

static struct address_claim *claim_of(struct network_use *u, const char *address) {
	struct address_claim *a = map_get(u->addresses, address);
	if (a)
		return a;
	a = NEW(struct address_claim);
	map_set(u->addresses, address, a);
	return a;
}

static void claim_drop_unused(struct network_use *u, const char *address) {
	const struct address_claim *a = map_get(u->addresses, address);
	if (a && !a->instance && !a->gateway && !a->aside && !a->reserved && !a->balancer)
		map_remove(u->addresses, address);
}

void network_use_subnets(struct network_use *u, const struct network_spec *s) {
	u->n_spaces = 0;
	for (size_t i = 0; i < s->subnets.n && i < ARRAY_SIZE(u->spaces); i++) {
		const struct subnet *n = &s->subnets.items[i];
		struct address_space *a = &u->spaces[u->n_spaces];
		struct ip gateway;
		char text[46];
		if (cidr_parse(n->cidr, &a->subnet) < 0 || cidr_parse(n->range ? n->range : n->cidr, &a->range) < 0)
			continue; /* the table has checked them */
		a->next = 0;
		u->n_spaces++;
		if (n->gateway && ip_parse(n->gateway, &gateway) == 0) {
			ip_format(&gateway, text);
			claim_of(u, text)->gateway = true;
		}
		for (size_t k = 0; k < n->aside.n; k++) {
			if (ip_parse(n->aside.items[k].value, &gateway) < 0)
				continue;
			ip_format(&gateway, text);
			claim_of(u, text)->aside = true;
		}
	}
}

const struct address_space *address_space_of(const struct network_use *u, int family) {
	for (size_t i = 0; i < u->n_spaces; i++)
		if (u->spaces[i].subnet.ip.family == family)
			return &u->spaces[i];
	return NULL;
}

static bool same_ip(const struct ip *a, const struct ip *b) {
	return a->family == b->family && memcmp(a->bytes, b->bytes, a->family == AF_INET ? 4 : 16) == 0;
}

/* The first of a subnet means the subnet (IPv6: any router of it), the last of an IPv4 one everybody. */
static bool is_special(const struct cidr *subnet, const struct ip *ip) {
	struct ip last;
	if (same_ip(&subnet->ip, ip))
		return true;
	return ip->family == AF_INET && cidr_nth(subnet, cidr_size(subnet) - 1, &last) && same_ip(&last, ip);
}

static const char *instance_name_of(struct core *c, const char *id) {
	const struct entry *e = map_get(c->by_id, id);
	return e ? e->snap->instance.spec.name : id;
}

bool instance_is_up(struct core *c, const char *id) {
	const struct entry *e = map_get(c->by_id, id);
	return e && state_is_up(e->snap->instance.status.state);
}

int address_usable(struct core *c, const struct object *network, const char *address, const char *self, bool share,
		  struct error *err) {
	const struct network_use *u = use_of(network);
	const char *name = network_of(network)->spec.name;
	struct ip ip;
	if (ip_parse(address, &ip) < 0)
		return error_set(err, ERROR_INVALID, "%.64s is not an IP address", address);
	const struct address_space *space = address_space_of(u, ip.family);
	if (!space)
		return error_set(err, ERROR_INVALID, "network %s has no IPv%c subnet", name, ip.family == AF_INET ? '4' : '6');
	char subnet[50];
	cidr_format(&space->subnet, subnet);
	if (!cidr_contains(&space->subnet, &ip))
		return error_set(err, ERROR_INVALID, "%s is not in %s, the subnet of network %s", address, subnet, name);
	if (is_special(&space->subnet, &ip))
		return error_set(err, ERROR_INVALID, "%s is no address for an instance: it stands for all of %s", address, subnet);
	const struct address_claim *a = map_get(u->addresses, address);
	if (a && a->gateway)
		return error_set(err, ERROR_CONFLICT, "%s is the gateway of network %s", address, name);
	if (a && a->balancer)
		return error_set(err, ERROR_CONFLICT, "%s on network %s is a balancer's", address, name);
	if (a && a->aside)
		return error_set(err, ERROR_CONFLICT, "%s is set aside on network %s", address, name);
	if (a && a->instance && !str_same(a->instance, self) && !(share && a->share && !instance_is_up(c, a->instance)))
		return error_set(err, ERROR_CONFLICT, "%s on network %s is taken by instance %s", address, name,
				 instance_name_of(c, a->instance));
	return 0;
}

int address_pick(const struct object *network, int family, char out[46], struct error *err) {
	struct network_use *u = use_of(network);
	struct address_space *space = (struct address_space *)address_space_of(u, family);
	uint64_t size = cidr_size(&space->range);
	/* each address that is taken is met at most once */
	uint64_t tries = MIN(size, (uint64_t)map_count(u->addresses) + 3);
	for (uint64_t i = 0; i < tries; i++) {
		struct ip ip;
		if (!cidr_nth(&space->range, space->next, &ip))
			continue;
		space->next = space->next + 1 < size ? space->next + 1 : 0;
		ip_format(&ip, out);
		if (!is_special(&space->subnet, &ip) && !map_get(u->addresses, out))
			return 0;
	}
	char range[50];
	cidr_format(&space->range, range);
	return error_set(err, ERROR_CONFLICT, "network %s has no free address left in %s: remove instances or release addresses",
			 network_of(network)->spec.name, range);
}

/* ---- balancers ---- */

int balancer_address(struct core *c, const char *project, struct balancer_spec *s, struct error *err) {
	const struct object *o = object_find(c, &c->networks, project, s->network, err);
	char text[46];
	struct ip ip;
	if (!o)
		return -ERROR_NOT_FOUND;
	int family = address_space_of(use_of(o), AF_INET) ? AF_INET : AF_INET6, r;
	const char *driver = network_of(o)->spec.driver;
	if (!str_same(driver, "bridge") && !str_same(driver, "vxlan"))
		return error_set(err, ERROR_UNSUPPORTED, "network %s has no bridge of this host, which would have the address",
				 network_of(o)->spec.name);
	if (!address_space_of(use_of(o), family))
		return error_set(err, ERROR_INVALID, "network %s has no subnet", network_of(o)->spec.name);
	if (!s->address)
		r = address_pick(o, family, text, err);
	else if (ip_parse(s->address, &ip) < 0)
		r = error_set(err, ERROR_INVALID, "%s is not an IP address", s->address);
	else
		r = address_usable(c, o, (ip_format(&ip, text), text), NULL, false, err);
	if (r < 0)
		return r;
	free(s->address);
	s->address = str_copy(text);
	return 0;
}

void balancer_claim(struct core *c, const struct balancer *b, bool held) {
	struct object *o = b->network_id ? map_get(c->networks.by_id, b->network_id) : NULL;
	if (!o)
		return;
	claim_of(use_of(o), b->spec.address)->balancer = held;
	claim_drop_unused(use_of(o), b->spec.address);
}

/* ---- interfaces of instances ---- */

static void claim_address(struct network_use *u, const char *address, const struct nic *nic, const char *instance) {
	if (!address)
		return;
	struct address_claim *a = claim_of(u, address);
	a->several = a->several || (a->instance && !str_same(a->instance, instance));
	free(a->instance);
	free(a->mac);
	a->instance = str_copy(instance);
	a->mac = nic->mac ? str_copy(nic->mac) : NULL;
	a->share = nic->share;
}

/* The nic of another instance on the network that has the address. */
static const struct nic *another_with(struct core *c, const struct object *o, const char *address, const char *but,
				      const char **instance) {
	for (size_t i = 0; map_next(use_of(o)->instances, &i, instance, NULL);) {
		const struct entry *e = str_same(*instance, but) ? NULL : map_get(c->by_id, *instance);
		for (size_t k = 0; e && k < e->snap->instance.nics.n; k++) {
			const struct nic *n = &e->snap->instance.nics.items[k];
			if (str_same(n->network_id, object_id(o)) && (str_same(n->ipv4, address) || str_same(n->ipv6, address)))
				return n;
		}
	}
	return NULL;
}

static void unclaim_address(struct core *c, const struct object *o, const char *address, const char *instance) {
	struct address_claim *a = address ? map_get(use_of(o)->addresses, address) : NULL;
	const char *other;
	if (!a || !str_same(a->instance, instance))
		return;
	const struct nic *nic = a->several ? another_with(c, o, address, instance, &other) : NULL;
	free(TAKE_PTR(a->instance));
	free(TAKE_PTR(a->mac));
	if (nic)
		claim_address(use_of(o), address, nic, other);
	else
		claim_drop_unused(use_of(o), address);
}

void nic_claim(struct core *c, const struct nic *nic, const char *instance) {
	struct object *o = map_get(c->networks.by_id, nic->network_id);
	if (!o)
		return;
	struct network_use *u = use_of(o);
	claim_address(u, nic->ipv4, nic, instance);
	claim_address(u, nic->ipv6, nic, instance);
	if (nic->mac)
		map_set(u->macs, nic->mac, str_copy(instance));
	map_set(u->instances, instance, u);
}

void nic_unclaim(struct core *c, const struct nic *nic, const char *instance) {
	struct object *o = map_get(c->networks.by_id, nic->network_id);
	if (!o)
		return;
	struct network_use *u = use_of(o);
	unclaim_address(c, o, nic->ipv4, instance);
	unclaim_address(c, o, nic->ipv6, instance);
	if (nic->mac && str_same(map_get(u->macs, nic->mac), instance))
		map_remove(u->macs, nic->mac);
	map_remove(u->instances, instance);
}

/* ---- reservations ---- */

static char *reservation_key(const struct network *n, const char *address) {
	return str_format("addresses/%s/%s/%s", n->project, n->id, address);
}

char **address_reservations(const struct object *network) {
	char **keys = NULL;
	const char *address;
	void *value;
	for (size_t i = 0; map_next(use_of(network)->addresses, &i, &address, &value);)
		if (((struct address_claim *)value)->reserved)
			strv_take(&keys, reservation_key(network_of(network), address));
	return keys;
}

int addresses_load(struct core *c, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(c->store, "addresses/", &list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_(strv_free_ptr) char **path = strv_split(list.items[i].key, '/');
		struct object *o = strv_len(path) == 4 ? map_get(c->networks.by_id, path[2]) : NULL;
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		if (!json)
			return error_wrap(err, "reading %s", list.items[i].key);
		if (!o)
			continue;
		struct address_claim *a = claim_of(use_of(o), path[3]);
		a->reserved = true;
		const char *description = json_get_str(json, "description");
		a->description = description ? str_copy(description) : NULL;
	}
	return r;
}

/* Chooses or checks the address; needs the lock. */
static int choose_address(struct core *c, const struct object *o, struct address *a, struct error *err) {
	char text[46];
	struct ip ip;
	int family = address_space_of(use_of(o), AF_INET) ? AF_INET : AF_INET6;
	if (!a->address && !address_space_of(use_of(o), family))
		return error_set(err, ERROR_INVALID, "network %s has no subnet", network_of(o)->spec.name);
	int r = 0;
	if (!a->address) {
		r = address_pick(o, family, text, err);
	} else if (ip_parse(a->address, &ip) == 0) {
		ip_format(&ip, text);
		r = address_usable(c, o, text, NULL, false, err);
		const struct address_claim *have = r == 0 ? map_get(use_of(o)->addresses, text) : NULL;
		if (have && have->reserved)
			r = error_set(err, ERROR_EXISTS, "%s is reserved already", text);
	}
	if (r < 0) {
		error_in_field(err, "address");
		return r;
	}
	free(a->address);
	a->address = str_copy(text);
	free(a->network);
	a->network = str_copy(network_of(o)->spec.name);
	return 0;
}

static char *address_text(const struct address *a) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&address_table, a);
	return json_print(json);
}

int address_reserve(struct core *c, const char *project, struct address *a, struct error *err) {
	pthread_mutex_lock(&c->net_write);
	core_lock(c);
	struct object *o = object_find(c, &c->networks, project, a->network, err);
	int r = o ? choose_address(c, o, a, err) : -ERROR_NOT_FOUND;
	if (!o)
		error_in_field(err, "network");
	_cleanup_(free_ptr) char *key = NULL, *text = NULL;
	if (r == 0) { /* nobody gets it meanwhile */
		struct address_claim *claim = claim_of(use_of(o), a->address);
		claim->reserved = true;
		claim->description = a->description ? str_copy(a->description) : NULL;
		key = reservation_key(network_of(o), a->address);
		text = address_text(a);
	}
	core_unlock(c);
	if (r == 0) {
		struct store_op op = {STORE_PUT, key, text, STORE_ABSENT};
		r = events_txn(c, &op, 1, err);
		WITH_LOCK(c);
		if (r < 0) {
			claim_of(use_of(o), a->address)->reserved = false;
			claim_drop_unused(use_of(o), a->address);
		} else {
			event_add(c, "address", "reserve", project, object_id(o), a->address, "network", a->network, NULL);
		}
	}
	pthread_mutex_unlock(&c->net_write);
	return r;
}

/* The claim of a reserved address and its canonical text; needs the lock. */
static struct address_claim *find_reserved(const struct object *o, const char *address, char text[46],
					   struct error *err) {
	struct ip ip;
	struct address_claim *a = NULL;
	if (ip_parse(address, &ip) == 0) {
		ip_format(&ip, text);
		a = map_get(use_of(o)->addresses, text);
	}
	if (a && a->reserved)
		return a;
	error_set(err, ERROR_NOT_FOUND, "%.64s is not reserved on network %s", address, network_of(o)->spec.name);
	return NULL;
}

int address_release(struct core *c, const char *project, const char *network, const char *address, struct error *err) {
	char text[46];
	_cleanup_(free_ptr) char *key = NULL;
	pthread_mutex_lock(&c->net_write);
	core_lock(c);
	struct object *o = object_find(c, &c->networks, project, network, err);
	if (o && find_reserved(o, address, text, err))
		key = reservation_key(network_of(o), text);
	core_unlock(c);
	int r = -ERROR_NOT_FOUND;
	if (key) {
		struct store_op op = {STORE_DELETE, key, NULL, STORE_ANY};
		r = events_txn(c, &op, 1, err);
	}
	if (r == 0) {
		WITH_LOCK(c);
		struct address_claim *a = map_get(use_of(o)->addresses, text);
		a->reserved = false;
		free(TAKE_PTR(a->description));
		claim_drop_unused(use_of(o), text);
		event_add(c, "address", "release", project, object_id(o), text, "network", network_of(o)->spec.name, NULL);
	}
	pthread_mutex_unlock(&c->net_write);
	return r;
}

/* ---- list ---- */

/* Needs the lock. */
static void list_network(struct core *c, const struct object *o, struct buf *text) {
	const char *address;
	void *value;
	for (size_t i = 0; map_next(use_of(o)->addresses, &i, &address, &value);) {
		const struct address_claim *claim = value;
		if (!claim->instance && !claim->reserved && !claim->balancer)
			continue;
		struct address a = {
			.network = network_of(o)->spec.name,
			.address = (char *)address,
			.mac = claim->mac,
			.instance = claim->instance ? (char *)instance_name_of(c, claim->instance) : NULL,
			.description = claim->balancer ? (char *)"a balancer's" : claim->description,
		};
		_cleanup_(free_ptr) char *one = address_text(&a);
		buf_addf(text, "%s%s", text->data[text->len - 1] == '[' ? "" : ",", one);
	}
}

int address_list(struct core *c, const char *project, const char *network, char **json, size_t *len,
		 struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	struct object *only = r == 0 && network ? object_find(c, &c->networks, project, network, err) : NULL;
	if (r < 0 || (network && !only))
		return r < 0 ? r : -ERROR_NOT_FOUND;
	struct buf text = BUF_INIT;
	void *value;
	buf_addf(&text, "{\"revision\":%" PRId64 ",\"addresses\":[", c->events.revision);
	for (size_t i = 0; map_next(c->networks.by_id, &i, NULL, &value);) {
		const struct object *o = value;
		if (!o->creating && (!only || o == only) && str_same(network_of(o)->project, project))
			list_network(c, o, &text);
	}
	buf_adds(&text, "]}");
	*len = text.len;
	*json = buf_steal(&text);
	return 0;
}
