/* Disks, drives and network cards of a machine that runs. Each has the names that it would have had at a start: device "x", node
 * "x-data" upon "x-file", back end "x-net", and a set of descriptors whose word is the device's id. */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/machine-priv.h"

/* --- what is there --- */

int live_list(struct qmp *q, const char *prefix, int64_t deadline, char ***ids, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	*ids = NULL;
	int r = qmp_call(q, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), -1, deadline, &all, err);
	for (size_t i = 0; r == 0 && i < json_array_size(all); i++) {
		const char *name = json_get_str(json_array_get(all, i), "name");
		if (name && str_starts(name, prefix) && strcmp(name, "type") != 0)
			strv_add(ids, name);
	}
	return r;
}

int live_has(struct qmp *q, const char *id, int64_t deadline, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = NULL;
	int r = live_list(q, id, deadline, &ids, err);
	return r < 0 ? r : strv_has(ids, id);
}

/* The port that a device is in, "port3", or NULL. */
static int port_of(struct qmp *q, const char *id, int64_t deadline, char **port, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("/machine/peripheral/%s", id);
	_cleanup_(json_free_ptr) json_t *bus = NULL;
	int r = qmp_call(q, "qom-get", json_pack("{s:s,s:s}", "path", path, "property", "parent_bus"), -1, deadline, &bus, err);
	const char *name = r == 0 && json_is_string(bus) ? strrchr(json_string_value(bus), '/') : NULL;
	*port = name && str_starts(name + 1, "port") ? str_copy(name + 1) : NULL;
	return r;
}

static int free_port(struct qmp *q, int64_t deadline, char **port, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = NULL, **taken = NULL;
	int r = live_list(q, "", deadline, &ids, err);
	for (char **id = ids; r == 0 && id && *id; id++) {
		char *one = NULL;
		r = port_of(q, *id, deadline, &one, err);
		if (one)
			strv_take(&taken, one);
	}
	for (char **id = ids; r == 0 && id && *id; id++)
		if (str_starts(*id, "port") && !strv_has(taken, *id)) {
			*port = str_copy(*id);
			return 0;
		}
	return r < 0 ? r : error_set(err, ERROR_CONFLICT, "the machine has no free place for another device: it can have more from its next "
				     "start on");
}

/* --- coming and going --- */

static int plug(struct qmp *q, const struct machine_spec *spec, json_t *device, int64_t deadline, struct error *err) {
	const struct machine_config m = {.spec = spec};
	_cleanup_(free_ptr) char *port = NULL;
	int r = machine_is(&m, "q35") && !json_object_get(device, "bus") ? free_port(q, deadline, &port, err) : 0;
	json_set_str(device, "bus", port);
	return r < 0 ? json_decref(device), r : qmp_call(q, "device_add", device, -1, deadline, NULL, err);
}

int live_unplug(struct qmp *q, const char *id, const char *what, int64_t deadline, struct error *err) {
	int64_t end = time_mono_ns() + LIVE_WAIT;
	int r = qmp_call(q, "device_del", json_pack("{s:s}", "id", id), -1, deadline, NULL, err);
	if (r == -ERROR_INTERNAL) /* the board knows no way while the guest has not set one up */
		return error_set(err, ERROR_CONFLICT, "the guest has no means to let go of the %s", what);
	while (r == 0) {
		_cleanup_(free_ptr) char *event = NULL;
		_cleanup_(json_free_ptr) json_t *data = NULL;
		struct error late = ERROR_INIT;
		r = qmp_event(q, NULL, end, &event, &data, &late);
		if (r == -ERROR_TIMEOUT) {
			error_free(&late);
			return error_set(err, ERROR_CONFLICT, "the guest has not let go of the %s within %d s", what, (int)(LIVE_WAIT / NS_PER_SEC));
		}
		if (r < 0)
			return error_move(err, &late);
		if (!str_same(json_get_str(data, "device"), id))
			continue;
		if (str_same(event, "DEVICE_DELETED"))
			return 0;
		if (str_same(event, "DEVICE_UNPLUG_GUEST_ERROR"))
			return error_set(err, ERROR_CONFLICT, "the guest does not let go of the %s", what);
	}
	return r;
}

/* --- disks --- */

/* QEMU has one class for all errors. */
int live_node_remove(struct qmp *q, const char *id, const char *kind, int64_t deadline, bool *used, struct error *err) {
	_cleanup_(free_ptr) char *node = str_format("%s-%s", id, kind);
	struct error why = ERROR_INIT;
	int r = qmp_call(q, "blockdev-del", json_pack("{s:s}", "node-name", node), -1, deadline, NULL, &why);
	bool gone = r < 0 && strstr(error_text(&why), "Failed to find node");
	bool in_use = r < 0 && used && strstr(error_text(&why), "is in use");
	if (used)
		*used = in_use;
	if (gone || in_use) {
		error_free(&why);
		return 0;
	}
	return r < 0 ? error_move(err, &why) : 0;
}

static int node_remove(struct qmp *q, const char *id, const char *kind, int64_t deadline, struct error *err) {
	return live_node_remove(q, id, kind, deadline, NULL, err);
}

static int nodes_remove(struct qmp *q, const char *id, int64_t deadline, struct error *err) {
	int r = node_remove(q, id, "data", deadline, err);
	const char *const *place = live_places;
	for (; r == 0 && *place; place++) {
		_cleanup_(free_ptr) char *word = live_word(id, *place);
		r = node_remove(q, id, *place, deadline, err);
		if (r == 0)
			qmp_take_back(q, word, deadline);
	}
	return r;
}

int live_nodes_add(struct qmp *q, const struct machine_disk *d, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *set = NULL;
	int r = qmp_lend(q, d->id, d->fd, deadline, &set, err);
	if (r == 0)
		r = qmp_call(q, "blockdev-add", disk_file_node(d, set), -1, deadline, NULL, err);
	if (r == 0)
		r = qmp_call(q, "blockdev-add", disk_data_node(d), -1, deadline, NULL, err);
	if (r < 0)
		nodes_remove(q, d->id, deadline, NULL);
	return r;
}

/* A controller for SCSI is there where the machine began with such a disk. */
static int disk_device(struct qmp *q, const struct machine_spec *spec, const struct machine_disk *d, int64_t deadline, json_t **device,
		       struct error *err) {
	const char *bus = d->bus ? d->bus : "virtio";
	*device = NULL;
	if (str_same(spec->chipset, "microvm") || !strcmp(bus, "sata") || !strcmp(bus, "ide"))
		return error_set(err, ERROR_UNSUPPORTED, "a machine with disks on %s takes none while it runs: attach it when it is stopped",
				 str_same(spec->chipset, "microvm") ? "microvm" : bus);
	int scsi = strcmp(bus, "scsi") ? 0 : live_has(q, "scsi", deadline, err);
	if (scsi < 0)
		return scsi;
	if (!strcmp(bus, "nvme"))
		*device = json_pack("{s:s,s:s}", "driver", "nvme", "serial", d->serial ? d->serial : d->id);
	else if (scsi)
		*device = json_pack("{s:s,s:s}", "driver", "scsi-hd", "bus", "scsi.0");
	else
		*device = json_pack("{s:s}", "driver", "virtio-blk-pci");
	_cleanup_(free_ptr) char *node = str_format("%s-data", d->id);
	json_set_str(*device, "id", d->id);
	json_set_str(*device, "drive", node);
	json_set_str(*device, "serial", d->serial);
	return 0;
}

int live_disk_add(struct qmp *q, const struct machine_spec *spec, const struct machine_disk *d, int64_t deadline, struct error *err) {
	json_t *device;
	int r = live_has(q, d->id, deadline, err);
	if (r != 0)
		return MIN(r, 0);
	r = disk_device(q, spec, d, deadline, &device, err);
	if (r < 0)
		return r;
	nodes_remove(q, d->id, deadline, NULL); /* of one that was cut off */
	r = live_nodes_add(q, d, deadline, err);
	if (r < 0)
		return json_decref(device), r;
	r = plug(q, spec, device, deadline, err);
	if (r < 0)
		nodes_remove(q, d->id, deadline, NULL);
	return r;
}

int live_disk_remove(struct qmp *q, const char *id, int64_t deadline, struct error *err) {
	int r = live_has(q, id, deadline, err);
	if (r > 0)
		r = live_unplug(q, id, "disk", deadline, err);
	return r < 0 ? r : nodes_remove(q, id, deadline, err);
}

int live_disk_resize(struct qmp *q, const char *id, int64_t size, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *node = str_format("%s-data", id);
	return qmp_call(q, "block_resize", json_pack("{s:s,s:I}", "node-name", node, "size", (json_int_t)size), -1, deadline, NULL, err);
}

/* --- drives --- */

static int drive(struct qmp *q, const char *command, const char *id, const char *node, int64_t deadline, struct error *err) {
	return qmp_call(q, command, json_pack("{s:s,s:s*}", "id", id, "node-name", node), -1, deadline, NULL, err);
}

/* A guest that has locked the drive is asked to open it, which it may do or not. */
static int open_drive(struct qmp *q, const char *id, int64_t deadline, struct error *err) {
	int r = drive(q, "blockdev-open-tray", id, NULL, deadline, err);
	if (r < 0)
		return r;
	struct error locked = ERROR_INIT;
	r = drive(q, "blockdev-remove-medium", id, NULL, deadline, &locked);
	if (r == 0)
		return 0;
	error_free(&locked);
	struct error late = ERROR_INIT;
	r = qmp_event(q, "DEVICE_TRAY_MOVED", time_mono_ns() + LIVE_WAIT, NULL, NULL, &late);
	error_free(&late);
	if (r == 0)
		r = drive(q, "blockdev-remove-medium", id, NULL, deadline, NULL);
	return r < 0 ? error_set(err, ERROR_CONFLICT, "the guest has locked the drive %s: unmount the medium there, or have it ejected", id) : 0;
}

int live_medium(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err) {
	const struct machine_disk d = {.id = id, .fd = fd, .format = "raw", .cdrom = true, .read_only = true};
	_cleanup_(free_ptr) char *node = str_format("%s-data", id);
	int r = live_has(q, id, deadline, err);
	if (r == 0)
		return error_set(err, ERROR_NOT_FOUND, "the machine has no drive %s until its next start", id);
	if (r > 0)
		r = open_drive(q, id, deadline, err);
	if (r < 0)
		return r;
	r = nodes_remove(q, id, deadline, err);
	if (r == 0 && fd >= 0)
		r = live_nodes_add(q, &d, deadline, err);
	if (r == 0 && fd >= 0)
		r = drive(q, "blockdev-insert-medium", id, node, deadline, err);
	int closed = drive(q, "blockdev-close-tray", id, NULL, deadline, r == 0 ? err : NULL);
	return r < 0 ? r : closed;
}

/* --- network cards --- */

int live_nic_add(struct qmp *q, const struct machine_spec *spec, const struct machine_nic *n, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *net = str_format("%s-net", n->id);
	if (str_same(spec->chipset, "microvm"))
		return error_set(err, ERROR_UNSUPPORTED, "chipset microvm takes no network card while it runs: connect it when it is stopped");
	int r = live_has(q, n->id, deadline, err);
	if (r != 0)
		return MIN(r, 0);
	qmp_call(q, "netdev_del", json_pack("{s:s}", "id", net), -1, deadline, NULL, NULL); /* of one that was cut off */
	r = qmp_call(q, "netdev_add", json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "type", "tap", "id", net, "ifname", n->tap, "script", "no",
						"downscript", "no", "vhost", n->vhost), -1, deadline, NULL, err);
	if (r < 0)
		return r;
	const struct machine_config m = {.spec = spec};
	const struct build b = {.m = &m};
	r = plug(q, spec, nic_device(&b, n), deadline, err);
	if (r < 0)
		qmp_call(q, "netdev_del", json_pack("{s:s}", "id", net), -1, deadline, NULL, NULL);
	return r;
}

int live_nic_remove(struct qmp *q, const char *id, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *net = str_format("%s-net", id);
	int r = live_has(q, id, deadline, err);
	if (r > 0)
		r = live_unplug(q, id, "network card", deadline, err);
	if (r < 0)
		return r;
	qmp_call(q, "netdev_del", json_pack("{s:s}", "id", net), -1, deadline, NULL, NULL); /* gone with one that was cut off */
	return 0;
}
