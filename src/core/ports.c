/* Ports of the host: which instance or balancer of this daemon has which. The host's own sockets are the agent's to ask. */
#include "core/core-priv.h"

#include "base/str.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>

#define PICK_FIRST 32768
#define PICK_LAST 60999

/* One port, of one owner. */
struct port_holder {
	char *owner;   /* id of an instance or balancer */
	int family;    /* AF_UNSPEC: both */
	char *address; /* canonical; NULL: any of the family */
};
struct port_holders {
	struct port_holder *items;
	size_t n;
};
struct port_claims {
	struct map *by_port; /* "tcp/8080" → port_holders */
	int64_t next;        /* to be picked */
};

static void holder_free(struct port_holder *h) {
	free(h->owner);
	free(h->address);
}

static void holders_free(void *p) {
	struct port_holders *l = p;
	for (size_t i = 0; i < l->n; i++)
		holder_free(&l->items[i]);
	free(l->items);
	free(l);
}

/* Daemons on one host begin at different places, so that they seldom pick the same. */
struct port_claims *port_claims_new(void) {
	struct port_claims *p = NEW(struct port_claims);
	uint16_t random = 0;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
		random = 0;
	p->by_port = map_new(holders_free);
	p->next = PICK_FIRST + random % (PICK_LAST - PICK_FIRST + 1);
	return p;
}

void port_claims_free(struct port_claims *p) {
	if (!p)
		return;
	map_free(p->by_port);
	free(p);
}

/* The family and canonical address that a port is published on. */
static struct port_holder holder_of(const struct port *p, const char *owner) {
	struct port_holder h = {.owner = (char *)owner, .family = AF_UNSPEC};
	struct ip ip;
	char text[46];
	static const struct ip any;
	if (!p->address || ip_parse(p->address, &ip) < 0)
		return h;
	h.family = ip.family;
	ip_format(&ip, text);
	if (memcmp(ip.bytes, any.bytes, sizeof any.bytes) != 0)
		h.address = str_copy(text);
	return h;
}

static bool overlap(const struct port_holder *a, const struct port_holder *b) {
	if (a->family != AF_UNSPEC && b->family != AF_UNSPEC && a->family != b->family)
		return false;
	return !a->address || !b->address || str_same(a->address, b->address);
}

static char *key_of(const struct port *p, int64_t nth) {
	return str_format("%s/%lld", p->protocol, (long long)(p->host_port + nth));
}

/* Who else has the n-th port of p; NULL. */
static const struct port_holder *taken_by(struct core *c, const struct port *p, int64_t nth, const char *owner,
					  bool instances) {
	_cleanup_(free_ptr) char *key = key_of(p, nth);
	const struct port_holders *l = map_get(c->ports->by_port, key);
	struct port_holder wanted = holder_of(p, owner);
	const struct port_holder *found = NULL;
	for (size_t i = 0; l && !found && i < l->n; i++)
		if (!str_same(l->items[i].owner, owner) && overlap(&l->items[i], &wanted) &&
		    (instances || !map_get(c->by_id, l->items[i].owner)))
			found = &l->items[i];
	free(wanted.address);
	return found;
}

static int tell_taken(struct core *c, const struct port *p, int64_t nth, const struct port_holder *h,
		      struct error *err) {
	const struct entry *e = map_get(c->by_id, h->owner);
	const struct object *o = map_get(c->balancers.by_id, h->owner);
	return error_set(err, ERROR_CONFLICT, "port %lld/%s of %s is published by %s %s already", (long long)(p->host_port + nth),
			 p->protocol, p->address ? p->address : "the host", o ? "balancer" : "instance",
			 o ? object_name(&c->balancers, o) : e ? e->snap->instance.spec.name : h->owner);
}

int port_check(struct core *c, const struct port *p, const char *owner, bool instances, struct error *err) {
	for (int64_t k = 0; k < p->count; k++) {
		const struct port_holder *h = taken_by(c, p, k, owner, instances);
		if (h)
			return tell_taken(c, p, k, h, err);
	}
	return 0;
}

static struct port_holder *find_holder(struct port_holders *l, const struct port_holder *wanted) {
	for (size_t i = 0; i < l->n; i++) {
		struct port_holder *h = &l->items[i];
		if (str_same(h->owner, wanted->owner) && h->family == wanted->family && str_same(h->address, wanted->address))
			return h;
	}
	return NULL;
}

void port_claim(struct core *c, const struct port *p, const char *owner) {
	for (int64_t k = 0; k < p->count; k++) {
		_cleanup_(free_ptr) char *key = key_of(p, k);
		struct port_holders *l = map_get(c->ports->by_port, key);
		if (!l)
			map_set(c->ports->by_port, key, l = NEW(struct port_holders));
		struct port_holder new = holder_of(p, owner);
		if (find_holder(l, &new)) {
			free(new.address);
			continue;
		}
		l->items = alloc_resize(l->items, l->n + 1, sizeof *l->items);
		new.owner = str_copy(owner);
		l->items[l->n++] = new;
	}
}

void port_unclaim(struct core *c, const struct port *p, const char *owner) {
	for (int64_t k = 0; k < p->count; k++) {
		_cleanup_(free_ptr) char *key = key_of(p, k);
		struct port_holders *l = map_get(c->ports->by_port, key);
		if (!l)
			continue;
		struct port_holder wanted = holder_of(p, owner), *h = find_holder(l, &wanted);
		free(wanted.address);
		if (h) {
			holder_free(h);
			*h = l->items[--l->n];
		}
		if (!l->n)
			map_remove(c->ports->by_port, key);
	}
}

/* ---- an instance's ---- */

static bool same_inside(const struct port *a, const struct port *b) {
	return a->port == b->port && a->count == b->count && str_same(a->protocol, b->protocol) &&
	       str_same(a->address, b->address);
}

static bool ranges_meet(const struct port *a, const struct port *b) {
	return a->host_port < b->host_port + b->count && b->host_port < a->host_port + a->count;
}

/* One of the list before it that has a port of its own on the host. */
static const struct port *meets_own(const ports *done, const struct port *p) {
	const struct port *found = NULL;
	struct port_holder mine = holder_of(p, "");
	for (size_t i = 0; !found && i < done->n; i++) {
		const struct port *d = &done->items[i];
		struct port_holder other = holder_of(d, "");
		if (str_same(d->protocol, p->protocol) && ranges_meet(d, p) && overlap(&mine, &other))
			found = d;
		free(other.address);
	}
	free(mine.address);
	return found;
}

static bool is_free(struct core *c, const ports *done, const struct port *p, const char *owner) {
	return port_check(c, p, owner, true, NULL) == 0 && !meets_own(done, p);
}

/* One of those that the wish names. */
static int pick_of(struct core *c, const ports *done, struct port *p, const char *owner, struct error *err) {
	int64_t first = p->host_port;
	for (; p->host_port <= p->host_last; p->host_port++)
		if (is_free(c, done, p, owner))
			return 0;
	return error_set(err, ERROR_CONFLICT, "none of the ports %lld to %lld of the host is free", (long long)first,
			 (long long)p->host_last);
}

static int pick(struct core *c, const ports *done, struct port *p, const char *owner, struct error *err) {
	for (int64_t tries = PICK_LAST - PICK_FIRST + 1; tries > 0; tries--) {
		p->host_port = c->ports->next;
		c->ports->next = c->ports->next < PICK_LAST ? c->ports->next + 1 : PICK_FIRST;
		if (p->host_port + p->count - 1 <= PICK_LAST && is_free(c, done, p, owner))
			return 0;
	}
	return error_set(err, ERROR_CONFLICT, "no %lld ports in a row are free in %d to %d", (long long)p->count, PICK_FIRST,
			 PICK_LAST);
}

/* p is a copy of the wish. */
static int port_resolve(struct core *c, const struct instance *i, const ports *done, struct port *p,
			struct error *err) {
	struct port wish = *p;
	if (p->host_port && !p->host_last) {
		const struct port *own = meets_own(done, p);
		if (own)
			return error_set(err, ERROR_INVALID, "port %lld/%s of the host is published twice",
					 (long long)MAX(p->host_port, own->host_port), p->protocol);
		return port_check(c, p, i->id, false, err); /* who starts first has what several instances want */
	}
	for (size_t k = 0; k < i->ports.n; k++) {
		p->host_port = i->ports.items[k].host_port;
		bool fits = p->host_port && (!wish.host_port || (p->host_port >= wish.host_port && p->host_port <= wish.host_last));
		if (fits && same_inside(p, &i->ports.items[k]) && is_free(c, done, p, i->id))
			return 0;
	}
	p->host_port = wish.host_port;
	return wish.host_port ? pick_of(c, done, p, i->id, err) : pick(c, done, p, i->id, err);
}

bool port_is_picked(const struct instance *i, size_t k) {
	const struct port *wish = k < i->spec.ports.n ? &i->spec.ports.items[k] : NULL;
	return k < i->ports.n && (!wish || !wish->host_port || wish->host_last);
}

static void list_free(ports *list) {
	for (size_t k = 0; k < list->n; k++)
		fields_free(&port_table, &list->items[k]);
	free(list->items);
	*list = (ports){0};
}

static struct port *list_add(ports *list, const struct port *p) {
	list->items = alloc_resize(list->items, list->n + 1, sizeof *list->items);
	fields_copy(&port_table, p, &list->items[list->n]);
	return &list->items[list->n++];
}

/* "80/tcp", "5000-5010/udp", once each, with their protocol. */
static void take_exposed(char *const *from, char ***to) {
	for (; from && *from; from++) {
		_cleanup_(free_ptr) char *text = strchr(*from, '/') ? str_copy(*from) : str_format("%s/tcp", *from);
		struct port p;
		fields_init(&port_table, &p);
		if (!strv_has(*to, text) && port_parse(text, &p, NULL) == 0 && fields_validate(&port_table, &p, NULL) == 0)
			strv_add(to, text);
		fields_free(&port_table, &p);
	}
}

/* Unless the spec has them already. */
static void add_exposed(const struct instance_spec *s, char *const *exposed, ports *wanted) {
	for (char *const *e = exposed; e && *e; e++) {
		struct port p;
		fields_init(&port_table, &p);
		bool given = port_parse(*e, &p, NULL) < 0;
		for (size_t k = 0; !given && k < s->ports.n; k++)
			given = s->ports.items[k].port == p.port && str_same(s->ports.items[k].protocol, p.protocol);
		if (!given)
			list_add(wanted, &p);
		fields_free(&port_table, &p);
	}
}

/* A network of the instance may say on which address of the host its ports are. */
static void fill_address(struct core *c, const struct instance *i, struct port *p) {
	for (size_t k = 0; !p->address && k < i->nics.n; k++) {
		const struct object *o = map_get(c->networks.by_id, i->nics.items[k].network_id);
		p->address = o ? copy_or_null(network_of(o)->spec.publish_address) : NULL;
	}
}

int ports_resolve(struct core *c, struct instance *i, char *const *image_exposes, struct error *err) {
	ports wanted = {0}, new = {0};
	char **exposed = NULL;
	int r = 0;
	take_exposed(image_exposes, &exposed);
	take_exposed(i->spec.expose, &exposed);
	for (size_t k = 0; k < i->spec.ports.n; k++)
		list_add(&wanted, &i->spec.ports.items[k]);
	if (i->spec.publish_all)
		add_exposed(&i->spec, exposed, &wanted);
	for (size_t k = 0; r == 0 && k < wanted.n; k++) {
		fill_address(c, i, &wanted.items[k]);
		r = port_resolve(c, i, &new, &wanted.items[k], err);
		if (r == 0) {
			wanted.items[k].host_last = 0;
			list_add(&new, &wanted.items[k]);
		} else {
			_cleanup_(free_ptr) char *field = str_format("ports[%zu]", k);
			error_in_field(err, field);
		}
	}
	list_free(&wanted);
	if (r < 0) {
		list_free(&new);
		strv_free(exposed);
		return r;
	}
	strv_free(i->exposed);
	i->exposed = exposed;
	for (size_t k = 0; k < new.n; k++)
		port_claim(c, &new.items[k], i->id);
	list_free(&i->ports);
	i->ports = new;
	return 0;
}
