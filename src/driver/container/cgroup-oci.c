/* Limits from the OCI runtime specification's linux.resources (config-linux.md#control-groups). */
#include "driver/container/cgroup-priv.h"

#include "base/str.h"

#include <stdio.h>

static int read_int(const json_t *o, const char *key, int64_t *out, struct error *err) {
	const json_t *v = json_object_get(o, key);
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v))
		return error_field(err, key, "must be a whole number");
	*out = json_integer_value(v);
	return 0;
}

static int read_uint(const json_t *o, const char *key, uint64_t *out, struct error *err) {
	int64_t v = (int64_t)*out;
	int r = read_int(o, key, &v, err);
	if (r == 0 && v < 0)
		return error_field(err, key, "cannot be negative");
	*out = (uint64_t)v;
	return r;
}

static int read_text(const json_t *o, const char *key, char **out, struct error *err) {
	const json_t *v = json_object_get(o, key);
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return error_field(err, key, "must be a text");
	if (json_string_length(v))
		*out = str_copy(json_string_value(v));
	return 0;
}

static int read_memory(const json_t *o, struct cgroup_limits *l, struct error *err) {
	const json_t *swappiness = json_object_get(o, "swappiness");
	int r = read_int(o, "limit", &l->memory, err);
	if (r == 0)
		r = read_int(o, "swap", &l->memory_swap, err);
	if (r == 0)
		r = read_int(o, "reservation", &l->memory_reservation, err);
	if (r == 0)
		r = read_int(o, "swappiness", &l->memory_swappiness, err);
	l->has_swappiness = json_is_integer(swappiness);
	l->oom_kill_disable = json_get_bool(o, "disableOOMKiller");
	return r;
}

static int read_cpu(const json_t *o, struct cgroup_limits *l, struct error *err) {
	int r = read_uint(o, "shares", &l->cpu_shares, err);
	if (r == 0)
		r = read_int(o, "quota", &l->cpu_quota, err);
	if (r == 0)
		r = read_uint(o, "period", &l->cpu_period, err);
	if (r == 0)
		r = read_int(o, "burst", &l->cpu_burst, err);
	if (r == 0)
		r = read_int(o, "realtimeRuntime", &l->realtime_runtime, err);
	if (r == 0)
		r = read_uint(o, "realtimePeriod", &l->realtime_period, err);
	if (r == 0)
		r = read_uint(o, "idle", &l->cpu_idle, err);
	if (r == 0)
		r = read_text(o, "cpus", &l->cpus, err);
	return r == 0 ? read_text(o, "mems", &l->mems, err) : r;
}

/* rate: what the number is called. */
static int read_rates(const json_t *o, const char *key, const char *rate, struct cgroup_throttle **out, size_t *n, struct error *err) {
	const json_t *list = json_object_get(o, key);
	*out = alloc_array(json_array_size(list) + 1, sizeof **out);
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		struct cgroup_throttle *t = &(*out)[*n];
		int r = read_int(item, "major", &t->major, err);
		if (r == 0)
			r = read_int(item, "minor", &t->minor, err);
		if (r == 0)
			r = read_uint(item, rate, &t->rate, err);
		if (r < 0) {
			error_in_field(err, key);
			return r;
		}
		++*n;
	}
	return 0;
}

static int read_throttles(const json_t *o, const char *key, struct cgroup_throttle **out, size_t *n, struct error *err) {
	return read_rates(o, key, "rate", out, n, err);
}

static int read_io(const json_t *o, struct cgroup_limits *l, struct error *err) {
	int r = read_uint(o, "weight", &l->io_weight, err);
	if (r == 0)
		r = read_rates(o, "weightDevice", "weight", &l->weights, &l->n_weights, err);
	if (r == 0)
		r = read_throttles(o, "throttleReadBpsDevice", &l->read_bps, &l->n_read_bps, err);
	if (r == 0)
		r = read_throttles(o, "throttleWriteBpsDevice", &l->write_bps, &l->n_write_bps, err);
	if (r == 0)
		r = read_throttles(o, "throttleReadIOPSDevice", &l->read_iops, &l->n_read_iops, err);
	return r == 0 ? read_throttles(o, "throttleWriteIOPSDevice", &l->write_iops, &l->n_write_iops, err) : r;
}

/* "2MB", "1GB": it becomes part of a file's name. */
static bool is_page_size(const char *s) {
	size_t digits = s ? strspn(s, "0123456789") : 0;
	return digits && digits < 8 && (strcmp(s + digits, "KB") == 0 || strcmp(s + digits, "MB") == 0 || strcmp(s + digits, "GB") == 0);
}

static int read_hugepages(const json_t *list, struct cgroup_limits *l, struct error *err) {
	l->hugepages = alloc_array(json_array_size(list) + 1, sizeof *l->hugepages);
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		const char *size = json_get_str(item, "pageSize");
		if (!is_page_size(size))
			return error_field(err, "pageSize", "must be a size such as 2MB");
		struct cgroup_hugepage *h = &l->hugepages[l->n_hugepages++];
		h->size = str_copy(size);
		int r = read_uint(item, "limit", &h->limit, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_device(const json_t *o, struct cgroup_device_rule *out, struct error *err) {
	const char *type = json_get_str(o, "type"), *access = json_get_str(o, "access");
	*out = (struct cgroup_device_rule){.allow = json_get_bool(o, "allow"), .type = 'a', .major = -1, .minor = -1};
	if (type && *type) {
		if (strlen(type) != 1 || !strchr("abcup", *type))
			return error_field(err, "type", "“%s” is not a type of device", type);
		out->type = *type == 'u' ? 'c' : *type;
	}
	int r = read_int(o, "major", &out->major, err);
	if (r == 0)
		r = read_int(o, "minor", &out->minor, err);
	if (r < 0)
		return r;
	if (out->major > UINT32_MAX || out->minor > UINT32_MAX)
		return error_field(err, "major", "is over the range of device numbers");
	if (!access || !*access)
		access = "rwm";
	if (strspn(access, "rwm") != strlen(access) || strlen(access) > 3)
		return error_field(err, "access", "“%s” is not made of r, w and m", access);
	memcpy(out->access, access, strlen(access));
	return 0;
}

static int read_devices(const json_t *list, struct cgroup_device_rule **out, size_t *n, struct error *err) {
	*out = alloc_array(json_array_size(list) + 1, sizeof **out);
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		int r = read_device(item, &(*out)[*n], err);
		if (r < 0)
			return r;
		*n += (*out)[*n].type != 'p'; /* FIFOs are under nobody's control */
	}
	return 0;
}

static int read_part(const json_t *resources, const char *key, int (*fn)(const json_t *, struct cgroup_limits *, struct error *),
		     struct cgroup_limits *l, struct error *err) {
	int r = fn(json_object_get(resources, key), l, err);
	if (r < 0)
		error_in_field(err, key);
	return r;
}

static int read_pids(const json_t *o, struct cgroup_limits *l, struct error *err) {
	int r = read_int(o, "limit", &l->pids, err);
	if (l->pids < 0)
		l->pids = -1;
	return r;
}

static int read_unified(const json_t *o, struct cgroup_limits *l, UNUSED struct error *err) {
	l->unified = json_is_object(o) ? json_deep_copy(o) : NULL;
	return 0;
}

int cgroup_limits_from_oci(const json_t *resources, struct cgroup_limits *out, struct cgroup_device_rule **devices,
			   size_t *n_devices, struct error *err) {
	static const struct {
		const char *key;
		int (*fn)(const json_t *, struct cgroup_limits *, struct error *);
	} parts[] = {
		{"memory", read_memory}, {"cpu", read_cpu},         {"blockIO", read_io},
		{"pids", read_pids},     {"hugepageLimits", read_hugepages}, {"unified", read_unified},
	};
	*out = (struct cgroup_limits){0};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++)
		r = read_part(resources, parts[i].key, parts[i].fn, out, err);
	if (devices) {
		*devices = NULL;
		*n_devices = 0;
	}
	if (r == 0 && devices && (r = read_devices(json_object_get(resources, "devices"), devices, n_devices, err)) < 0)
		error_in_field(err, "devices");
	if (r < 0) {
		cgroup_limits_free(out);
		if (devices)
			free(TAKE_PTR(*devices));
	}
	return r;
}
