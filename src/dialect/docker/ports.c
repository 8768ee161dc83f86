/* Ports in Docker's words: maps from "80/tcp" to lists of addresses and ports of the host. Docker has one entry for each
 * port; wabe has ranges. */
#include "base/str.h"
#include "dialect/docker/networks-priv.h"

#include <stdlib.h>

/* ---- in ---- */

static int bad_port(const char *text, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(text);
	return error_set(err, ERROR_INVALID, "invalid port specification: \"%s\"", shown);
}

/* "80/tcp", "80", "5000-5010/udp" */
static int parse_inside(const char *key, struct port *p, struct error *err) {
	fields_init(&port_table, p);
	if (!strchr(key, ':') && port_parse(key, p, NULL) == 0 && fields_validate(&port_table, p, NULL) == 0)
		return 0;
	fields_free(&port_table, p);
	return bad_port(key, err);
}

/* "8080", "8080-8090": any of them; "": any that is free. */
static int parse_host_port(const char *text, struct port *p, struct error *err) {
	const char *dash = strchr(text, '-');
	_cleanup_(free_ptr) char *first = str_copyn(text, dash ? (size_t)(dash - text) : strlen(text));
	int64_t from = 0, to = 0;
	if (!*text)
		return 0;
	if (str_to_i64(first, &from) < 0 || (dash && str_to_i64(dash + 1, &to) < 0) || from < 0 || from > 65535 || to > 65535 ||
	    (dash && to < from))
		return bad_port(text, err);
	p->host_port = from;
	if (to > from && p->count == 1)
		p->host_last = to;
	else if (to && to - from + 1 != p->count)
		return bad_port(text, err);
	return 0;
}

static int parse_binding(const char *key, const json_t *binding, struct port *p, struct error *err) {
	const char *address = json_get_str(binding, "HostIp"), *port = json_get_str(binding, "HostPort");
	struct ip ip;
	int r = parse_inside(key, p, err);
	if (r == 0)
		r = parse_host_port(port ? port : "", p, err);
	if (r == 0 && address && *address) {
		_cleanup_(free_ptr) char *shown = text_shown(address);
		if (ip_parse(address, &ip) < 0)
			r = error_set(err, ERROR_INVALID, "HostConfig.PortBindings: invalid IP address %s", shown);
		p->address = str_copy(address);
	}
	if (r < 0)
		fields_free(&port_table, p);
	return r;
}

static void ports_add(ports *list, const struct port *p) {
	list->items = alloc_resize(list->items, list->n + 1, sizeof *list->items);
	list->items[list->n++] = *p;
}

static int compare_text(const char *a, const char *b) {
	return a && b ? strcmp(a, b) : (a != NULL) - (b != NULL);
}

static int compare_ports(const void *x, const void *y) {
	const struct port *a = x, *b = y;
	int by_kind = compare_text(a->protocol, b->protocol);
	by_kind = by_kind ? by_kind : compare_text(a->address, b->address);
	if (by_kind)
		return by_kind;
	return a->port != b->port ? (a->port > b->port) - (a->port < b->port) : (a->host_port > b->host_port) - (a->host_port < b->host_port);
}

static bool continues(const struct port *a, const struct port *b) {
	return a->host_port && !a->host_last && !b->host_last && a->count + b->count <= 1024 && b->port == a->port + a->count &&
	       b->host_port == a->host_port + a->count && str_same(a->protocol, b->protocol) && str_same(a->address, b->address);
}

/* Neighbours become one range. */
static void merge(ports *list) {
	size_t n = 0;
	if (list->n)
		qsort(list->items, list->n, sizeof *list->items, compare_ports);
	for (size_t i = 0; i < list->n; i++) {
		struct port *p = &list->items[i];
		if (n && continues(&list->items[n - 1], p)) {
			list->items[n - 1].count += p->count;
			fields_free(&port_table, p);
		} else {
			list->items[n++] = *p;
		}
	}
	list->n = n;
}

static int parse_bindings(const char *key, const json_t *list, ports *out, struct error *err) {
	const json_t *binding;
	size_t i;
	struct port p;
	if (!json_is_array(list) && !json_is_null(list))
		return error_set(err, ERROR_INVALID, "HostConfig.PortBindings: must be an object of lists");
	int r = parse_inside(key, &p, err); /* also where nothing follows */
	if (r < 0)
		return r;
	fields_free(&port_table, &p);
	json_array_foreach(list, i, binding) {
		r = parse_binding(key, binding, &p, err);
		if (r < 0)
			return r;
		ports_add(out, &p);
	}
	return 0;
}

static int parse_exposed(const json_t *exposed, char ***out, struct error *err) {
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)exposed, key, value) {
		struct port p;
		int r = parse_inside(key, &p, err);
		if (r < 0)
			return r;
		fields_free(&port_table, &p);
		_cleanup_(free_ptr) char *text = strchr(key, '/') ? str_copy(key) : str_format("%s/tcp", key);
		if (!strv_has(*out, text))
			strv_add(out, text);
	}
	return 0;
}

int docker_ports_parse(const json_t *bindings, const json_t *exposed, struct instance_spec *spec, struct error *err) {
	const char *key;
	json_t *list;
	if ((bindings && !json_is_object(bindings)) || (exposed && !json_is_object(exposed)))
		return error_set(err, ERROR_INVALID, "%s: must be an object", exposed && !json_is_object(exposed) ?
				 "Config.ExposedPorts" : "HostConfig.PortBindings");
	int r = parse_exposed(exposed, &spec->expose, err);
	json_object_foreach((json_t *)bindings, key, list) {
		if (r == 0)
			r = parse_bindings(key, list, &spec->ports, err);
	}
	if (r == 0 && !str_same(spec->network, "private")) {
		for (size_t i = 0; i < spec->ports.n; i++)
			fields_free(&port_table, &spec->ports.items[i]);
		spec->ports.n = 0;
	}
	merge(&spec->ports);
	return r;
}

/* ---- out ---- */

static char *port_key(int64_t port, const char *protocol) {
	return str_format("%lld/%s", (long long)port, protocol ? protocol : "tcp");
}

/* The list of a key, made if need be. */
static json_t *bindings_of(json_t *map, int64_t port, const char *protocol) {
	_cleanup_(free_ptr) char *key = port_key(port, protocol);
	json_t *list = json_object_get(map, key);
	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(map, key, list);
	}
	return list;
}

static void add_binding(json_t *list, const char *address, const char *port) {
	json_t *binding = json_object();
	json_set_str(binding, "HostIp", address);
	json_set_str(binding, "HostPort", port);
	json_array_append_new(list, binding);
}

/* Calls fn for each port that is exposed. */
static void each_exposed(const struct instance *i, void (*fn)(json_t *to, int64_t port, const char *protocol), json_t *to) {
	for (char **e = i->exposed; e && *e; e++) {
		struct port p;
		fields_init(&port_table, &p);
		if (port_parse(*e, &p, NULL) == 0)
			for (int64_t k = 0; k < p.count; k++)
				fn(to, p.port + k, p.protocol);
		fields_free(&port_table, &p);
	}
}

static void add_empty(json_t *map, int64_t port, const char *protocol) {
	_cleanup_(free_ptr) char *key = port_key(port, protocol);
	if (!json_object_get(map, key))
		json_object_set_new(map, key, json_null());
}

json_t *docker_port_map(const struct instance *i) {
	json_t *map = json_object();
	if (!docker_has_networks(i))
		return map;
	for (size_t n = 0; n < i->ports.n; n++) {
		const struct port *p = &i->ports.items[n];
		for (int64_t k = 0; k < p->count; k++) {
			_cleanup_(free_ptr) char *port = str_format("%lld", (long long)(p->host_port + k));
			json_t *list = bindings_of(map, p->port + k, p->protocol);
			add_binding(list, p->address ? p->address : "0.0.0.0", port);
			if (!p->address)
				add_binding(list, "::", port);
		}
	}
	each_exposed(i, add_empty, map);
	return map;
}

static void list_port(json_t *list, const char *address, int64_t inside, int64_t host, const char *protocol) {
	json_t *port = json_object();
	json_set_str(port, "IP", address);
	json_set_int(port, "PrivatePort", inside);
	if (host)
		json_set_int(port, "PublicPort", host);
	json_set_str(port, "Type", protocol ? protocol : "tcp");
	json_array_append_new(list, port);
}

json_t *docker_ports(const struct instance *i) {
	json_t *list = json_array(), *map = docker_port_map(i), *bindings, *binding;
	const char *key;
	size_t n;
	json_object_foreach(map, key, bindings) {
		const char *slash = strchr(key, '/');
		int64_t inside = strtoll(key, NULL, 10);
		if (!json_array_size(bindings))
			list_port(list, NULL, inside, 0, slash + 1);
		json_array_foreach(bindings, n, binding)
			list_port(list, json_get_str(binding, "HostIp"), inside,
				  strtoll(json_get_str(binding, "HostPort"), NULL, 10), slash + 1);
	}
	json_decref(map);
	return list;
}
