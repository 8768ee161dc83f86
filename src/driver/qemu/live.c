/* Processors and memory of a machine that runs. */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/machine-priv.h"

#define PERIPHERAL "/machine/peripheral/"

/* --- processors --- */

/* QEMU lists the last first. */
static json_t *place_at(json_t *all, size_t i) {
	return json_array_get(all, json_array_size(all) - 1 - i);
}

static bool is_plugged(const json_t *place) {
	return json_get_str(place, "qom-path") != NULL;
}

static int cpu_plug(struct qmp *q, const json_t *place, size_t number, int64_t deadline, struct error *err) {
	const char *type = json_get_str(place, "type");
	_cleanup_(free_ptr) char *id = str_format("cpu%zu", number);
	json_t *device = json_pack("{s:s*,s:s}", "driver", type, "id", id);
	json_object_update(device, json_object_get(place, "props"));
	return qmp_call(q, "device_add", device, -1, deadline, NULL, err);
}

/* Its id, where it has been plugged in since the start. */
static const char *plugged_id(const json_t *place) {
	const char *path = json_get_str(place, "qom-path");
	return path && str_starts(path, PERIPHERAL) ? path + strlen(PERIPHERAL) : NULL;
}

static int cpus_list(struct qmp *q, int64_t deadline, json_t **all, int64_t *plugged, struct error *err) {
	int r = qmp_call(q, "query-hotpluggable-cpus", NULL, -1, deadline, all, err);
	*plugged = 0;
	for (size_t i = 0; r == 0 && i < json_array_size(*all); i++)
		*plugged += is_plugged(json_array_get(*all, i));
	return r;
}

static int cpus_more(struct qmp *q, json_t *all, int64_t missing, int64_t deadline, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && missing > 0 && i < json_array_size(all); i++)
		if (!is_plugged(place_at(all, i))) {
			r = cpu_plug(q, place_at(all, i), i, deadline, err);
			missing--;
		}
	return r;
}

/* QEMU 7.2's translator frees what the processor's thread still uses, and the machine is gone with it. */
static int check_unplug(struct qmp *q, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *kvm = NULL;
	int r = qmp_call(q, "query-kvm", NULL, -1, deadline, &kvm, err);
	if (r < 0 || json_get_bool(kvm, "enabled"))
		return r;
	return error_set(err, ERROR_UNSUPPORTED, "the translator takes no processor away while the machine runs: stop it, or let it have them");
}

static int cpus_fewer(struct qmp *q, json_t *all, int64_t surplus, int64_t deadline, struct error *err) {
	int r = check_unplug(q, deadline, err);
	for (size_t i = json_array_size(all); r == 0 && surplus > 0 && i > 0; i--) {
		const char *id = plugged_id(place_at(all, i - 1));
		if (!id)
			continue;
		r = live_unplug(q, id, "processor", deadline, err);
		surplus--;
	}
	return r;
}

/* Back to so many, as far as it goes. */
static void cpus_restore(struct qmp *q, int64_t n, int64_t deadline) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	int64_t now;
	if (cpus_list(q, deadline, &all, &now, NULL) == 0)
		(void)(now < n ? cpus_more(q, all, n - now, deadline, NULL) : cpus_fewer(q, all, now - n, deadline, NULL));
}

int live_cpus(struct qmp *q, int64_t n, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	int64_t now;
	int r = cpus_list(q, deadline, &all, &now, err);
	if (r < 0 || n == now)
		return r;
	if (n > (int64_t)json_array_size(all))
		return error_field(err, "spec.limits.cpus", "the machine runs with room for %zu processors: stop it, or give it a greater "
				   "cpus_max before its next start", json_array_size(all));
	r = n > now ? cpus_more(q, all, n - now, deadline, err) : cpus_fewer(q, all, now - n, deadline, err);
	if (r < 0)
		cpus_restore(q, now, deadline);
	return r;
}

#define MIB ((int64_t)1 << 20)

/* --- memory: in whole MiB (machine_ram may be a little more) --- */

struct memory {
	int64_t base;                  /* since the start */
	int64_t balloon;               /* what the guest has of that */
	int64_t most, asked, has, block; /* of virtio-mem; most 0: there is none */
};

static int look(struct qmp *q, struct memory *m, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *sizes = NULL, *devices = NULL, *balloon = NULL;
	int r = qmp_call(q, "query-memory-size-summary", NULL, -1, deadline, &sizes, err);
	if (r == 0)
		r = qmp_call(q, "query-memory-devices", NULL, -1, deadline, &devices, err);
	if (r == 0)
		r = qmp_call(q, "query-balloon", NULL, -1, deadline, &balloon, err);
	*m = (struct memory){.base = json_get_int(sizes, "base-memory") / MIB * MIB, .balloon = json_get_int(balloon, "actual") / MIB * MIB};
	for (size_t i = 0; r == 0 && i < json_array_size(devices); i++) {
		const json_t *d = json_object_get(json_array_get(devices, i), "data");
		if (!str_same(json_get_str(d, "id"), MEMORY_MORE))
			continue;
		m->most = json_get_int(d, "max-size");
		m->asked = json_get_int(d, "requested-size");
		m->has = json_get_int(d, "size");
		m->block = json_get_int(d, "block-size");
	}
	return r;
}

static int ask_more(struct qmp *q, int64_t bytes, int64_t deadline, struct error *err) {
	return qmp_call(q, "qom-set", json_pack("{s:s,s:s,s:I}", "path", PERIPHERAL MEMORY_MORE, "property", "requested-size", "value",
						(json_int_t)bytes), -1, deadline, NULL, err);
}

static int ask_balloon(struct qmp *q, int64_t bytes, int64_t deadline, struct error *err) {
	return qmp_call(q, "balloon", json_pack("{s:I}", "value", (json_int_t)bytes), -1, deadline, NULL, err);
}

/* Each step of the guest's is an event, of which QEMU tells one a second. */
static int await_guest(struct qmp *q, int64_t more, int64_t balloon, int64_t deadline, struct error *err) {
	int64_t end = time_mono_ns() + LIVE_WAIT;
	for (;;) {
		struct memory now;
		int r = look(q, &now, deadline, err);
		if (r < 0 || (now.has == more && now.balloon <= balloon))
			return r;
		struct error late = ERROR_INIT;
		r = qmp_event(q, now.has != more ? "MEMORY_DEVICE_SIZE_CHANGE" : "BALLOON_CHANGE", end, NULL, NULL, &late);
		if (r == -ERROR_TIMEOUT) {
			error_free(&late);
			return error_set(err, ERROR_CONFLICT, "the guest has not %s within %d s: it needs a driver for %s, and memory to spare",
					 now.has < more ? "taken the memory" : "given the memory back", (int)(LIVE_WAIT / NS_PER_SEC),
					 now.has != more ? "virtio-mem" : "virtio's balloon");
		}
		if (r < 0)
			return error_move(err, &late);
	}
}

int live_memory(struct qmp *q, int64_t bytes, int64_t deadline, struct error *err) {
	struct memory was;
	int r = look(q, &was, deadline, err);
	if (r < 0)
		return r;
	int64_t more = MAX(bytes - was.base, 0), balloon = MIN(bytes, was.base);
	if (more == was.asked && more == was.has && balloon == was.balloon)
		return 0;
	if (more > was.most)
		return error_field(err, "spec.limits.memory", "the machine runs with room for %lld MiB: stop it, or give it a greater memory_max "
				   "before its next start", (long long)((was.base + was.most) >> 20));
	if (was.block && more % was.block)
		return error_field(err, "spec.limits.memory", "of a running machine grows in steps of %lld MiB", (long long)(was.block >> 20));
	if (more != was.asked)
		r = ask_more(q, more, deadline, err);
	if (r == 0) /* what goes as a whole goes first: the balloon would take of what is moved */
		r = await_guest(q, more, was.base, deadline, err);
	if (r == 0)
		r = ask_balloon(q, balloon, deadline, err);
	if (r == 0)
		r = await_guest(q, more, balloon, deadline, err);
	if (r < 0) {
		if (more != was.asked)
			ask_more(q, was.asked, deadline, NULL);
		ask_balloon(q, was.balloon, deadline, NULL);
	}
	return r;
}
