/* The arguments of QEMU: disks, network cards, and what is on every board. */
#include "driver/qemu/machine-priv.h"

#include <sys/stat.h>

#define USB_PORTS 15

/* On q35 whatever may be unplugged has a port of its own. */
static void place(struct build *b, json_t *device) {
	if (!machine_is(b->m, "q35"))
		return;
	_cleanup_(free_ptr) char *port = str_format("port%zu", b->ports++);
	json_set_str(device, "bus", port);
}

static void build_ports(struct build *b) {
	/* a guest that runs a container's image takes nothing later, and looks at each port for 10 ms */
	size_t spare = b->m->n_shares ? 0 : PORTS_FREE;
	size_t n = machine_is(b->m, "q35") ? b->m->n_disks + b->m->n_nics + spare : 0;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(free_ptr) char *id = str_format("port%zu", i);
		_cleanup_(free_ptr) char *address = str_format("%zx.%zu", PORTS_SLOT + i / 8, i % 8);
		build_device(b, json_pack("{s:s,s:s,s:s,s:s,s:i,s:b}", "driver", "pcie-root-port", "id", id, "bus", "pcie.0", "addr",
					  address, "chassis", (int)i + 1, "multifunction", 1));
	}
}

/* --- disks --- */

/* Two nodes: the descriptor, and what its bytes mean. */
json_t *disk_file_node(const struct machine_disk *d, const char *path) {
	struct stat st;
	bool device = fstat(d->fd, &st) == 0 && S_ISBLK(st.st_mode);
	_cleanup_(free_ptr) char *file = str_format("%s-file", d->id);
	return json_pack("{s:s,s:s,s:s,s:b,s:s}", "driver", device ? "host_device" : "file", "node-name", file, "filename", path,
			 "read-only", d->read_only, "discard", "unmap");
}

json_t *disk_data_node(const struct machine_disk *d) {
	_cleanup_(free_ptr) char *file = str_format("%s-file", d->id), *node = str_format("%s-data", d->id);
	json_t *format = json_pack("{s:s,s:s,s:s,s:b,s:s,s:s}", "driver", d->format, "node-name", node, "file", file, "read-only",
				   d->read_only, "discard", "unmap", "detect-zeroes", d->read_only ? "off" : "unmap");
	if (str_same(d->format, "qcow2"))
		json_object_set_new(format, "backing", json_null());
	return format;
}

static void build_nodes(struct build *b, const struct machine_disk *d) {
	int fd = build_pass(b, d->fd);
	_cleanup_(free_ptr) char *set = str_format("/dev/fdset/%d", fd);
	build_arg(b, "-add-fd", "fd=%d,set=%d,opaque=%s", fd, fd, d->id);
	build_json(b, "-blockdev", disk_file_node(d, set));
	build_json(b, "-blockdev", disk_data_node(d));
}

static void build_scsi(struct build *b) {
	if (!b->scsi)
		build_device(b, build_virtio(b, "virtio-scsi", "scsi"));
	b->scsi = true;
}

/* The places of the board's own controllers: each of sata's is a bus, ide's are two on each of two. */
static json_t *board_place(struct build *b, const char *bus, const char *driver) {
	bool sata = !strcmp(bus, "sata");
	size_t at = sata ? b->sata++ : b->ide++;
	_cleanup_(free_ptr) char *name = str_format("ide.%zu", sata ? at : at / 2);
	json_t *device = json_pack("{s:s,s:s}", "driver", driver, "bus", name);
	json_set_int(device, "unit", sata ? 0 : (int64_t)(at % 2));
	return device;
}

/* The pc's board has the controller, whose name says what is booted from. */
static json_t *floppy_device(struct build *b, const struct machine_disk *d) {
	if (machine_is(b->m, "q35"))
		build_device(b, json_pack("{s:s,s:s}", "driver", "isa-fdc", "id", "floppies"));
	if (d->boot_index)
		build_arg(b, "-global", "isa-fdc.bootindexA=%d", d->boot_index);
	return json_pack("{s:s,s:i,s:s}", "driver", "floppy", "unit", 0, "drive-type", "288");
}

static json_t *disk_device(struct build *b, const struct machine_disk *d) {
	const char *bus = disk_bus(b->m, d);
	if (!strcmp(bus, "sata") || !strcmp(bus, "ide"))
		return board_place(b, bus, d->cdrom ? "ide-cd" : "ide-hd");
	if (!strcmp(bus, "scsi")) {
		build_scsi(b);
		return json_pack("{s:s,s:s}", "driver", d->cdrom ? "scsi-cd" : "scsi-hd", "bus", "scsi.0");
	}
	if (!strcmp(bus, "floppy"))
		return floppy_device(b, d);
	json_t *device = !strcmp(bus, "nvme") ? json_pack("{s:s,s:s}", "driver", "nvme", "serial", d->id)
					      : build_virtio(b, "virtio-blk", d->id);
	place(b, device);
	return device;
}

static void build_disk(struct build *b, const struct machine_disk *d) {
	_cleanup_(free_ptr) char *node = str_format("%s-data", d->id);
	if (d->fd >= 0)
		build_nodes(b, d);
	json_t *device = disk_device(b, d);
	json_set_str(device, "id", d->id);
	if (d->fd >= 0)
		json_set_str(device, "drive", node);
	json_set_str(device, "serial", d->serial);
	if (d->boot_index && !str_same(d->bus, "floppy"))
		json_set_int(device, "bootindex", d->boot_index);
	build_device(b, device);
}

void build_disks(struct build *b) {
	build_ports(b);
	for (size_t i = 0; i < b->m->n_disks; i++)
		build_disk(b, &b->m->disks[i]);
}

/* --- network cards --- */

json_t *nic_device(const struct build *b, const struct machine_nic *n) {
	_cleanup_(free_ptr) char *net = str_format("%s-net", n->id);
	bool virtio = !n->model || !strcmp(n->model, "virtio");
	json_t *device = virtio ? build_virtio(b, "virtio-net", n->id) : json_pack("{s:s,s:s}", "driver", n->model, "id", n->id);
	json_set_str(device, "netdev", net);
	json_set_str(device, "mac", n->mac);
	if (virtio && n->mtu)
		json_set_int(device, "host_mtu", n->mtu);
	if (n->boot_index)
		json_set_int(device, "bootindex", n->boot_index);
	else if (!machine_is(b->m, "microvm"))
		json_set_str(device, "romfile", ""); /* not booted from: no firmware of the card's */
	return device;
}

static void build_nic(struct build *b, const struct machine_nic *n) {
	build_arg(b, "-netdev", "tap,id=%s-net,ifname=%s,script=no,downscript=no,vhost=%s", n->id, n->tap, n->vhost ? "on" : "off");
	json_t *device = nic_device(b, n);
	place(b, device);
	build_device(b, device);
}

void build_nics(struct build *b) {
	for (size_t i = 0; i < b->m->n_nics; i++)
		build_nic(b, &b->m->nics[i]);
}

/* --- others --- */

char *machine_redirect_name(int64_t i) {
	return str_format("redirect%lld", (long long)i);
}

/* A controller with the ports that it has, or as many as it can have where they may be too few; and what is plugged in. */
static void build_usb(struct build *b) {
	const struct machine_spec *s = b->m->spec;
	bool more = b->m->n_usb_fds || s->usb_redirects;
	json_t *controller = json_pack("{s:s,s:s}", "driver", "qemu-xhci", "id", "usb");
	if (more)
		json_object_update_new(controller, json_pack("{s:i,s:i}", "p2", USB_PORTS, "p3", USB_PORTS));
	build_device(b, controller);
	build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "usb-tablet", "id", "tablet", "bus", "usb.0"));
	for (size_t i = 0; i < b->m->n_usb_fds; i++) {
		int fd = build_pass(b, b->m->usb_fds[i]);
		_cleanup_(free_ptr) char *id = str_format("usb%zu", i), *node = str_format("/dev/fdset/%d", fd);
		build_arg(b, "-add-fd", "fd=%d,set=%d", fd, fd);
		build_device(b, json_pack("{s:s,s:s,s:s,s:s}", "driver", "usb-host", "id", id, "bus", "usb.0", "hostdevice", node));
	}
	for (int64_t i = 0; i < s->usb_redirects; i++) {
		_cleanup_(free_ptr) char *id = machine_redirect_name(i); /* clients are handed over */
		build_arg(b, "-chardev", "socket,id=%s,path=/tmp/%s,server=on,wait=off", id, id);
		build_device(b, json_pack("{s:s,s:s,s:s,s:s}", "driver", "usb-redir", "id", id, "bus", "usb.0", "chardev", id));
	}
}

static void build_video(struct build *b) {
	static const char *const names[][2] = {{"vga", "VGA"}, {"virtio", "virtio-vga"}, {"qxl", "qxl-vga"}};
	const struct machine_spec *s = b->m->spec;
	bool video = false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_same(s->video, names[i][0])) {
			build_device(b, json_pack("{s:s,s:s}", "driver", names[i][1], "id", "video"));
			video = true;
		}
	if (s->usb || video || b->m->n_usb_fds || s->usb_redirects)
		build_usb(b);
}

static void build_audio(struct build *b) {
	if (!b->m->spec->audio)
		return;
	build_arg(b, "-audiodev", "none,id=silence");
	build_device(b, json_pack("{s:s,s:s}", "driver", machine_is(b->m, "q35") ? "ich9-intel-hda" : "intel-hda", "id", "sound"));
	build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "hda-duplex", "bus", "sound.0", "audiodev", "silence"));
}

static void build_tpm(struct build *b) {
	const struct machine_spec *s = b->m->spec;
	if (!s->tpm)
		return;
	build_arg(b, "-chardev", "socket,id=tpm-control,path=%s", TPM_SOCKET);
	build_arg(b, "-tpmdev", "emulator,id=tpm-state,chardev=tpm-control");
	build_device(b, json_pack("{s:s,s:s,s:s}", "driver", str_same(s->firmware, "uefi") ? "tpm-crb" : "tpm-tis", "id", "tpm", "tpmdev",
				  "tpm-state"));
}

static void build_shares(struct build *b) {
	for (size_t i = 0; i < b->m->n_shares; i++) {
		_cleanup_(free_ptr) char *id = str_format("share%zu", i), *from = str_format("share%zu-socket", i);
		_cleanup_(free_ptr) char *path = str_format(SHARE_SOCKET, i);
		build_arg(b, "-chardev", "socket,id=%s,path=%s", from, path);
		json_t *device = build_virtio(b, "vhost-user-fs", id);
		json_set_str(device, "chardev", from);
		json_set_str(device, "tag", b->m->shares[i].tag);
		build_device(b, device);
	}
}

static void build_vsock(struct build *b) {
	if (!b->m->spec->vsock)
		return;
	json_t *device = build_virtio(b, "vhost-vsock", "vsock");
	_cleanup_(free_ptr) char *fd = str_format("%d", build_pass(b, b->m->vsock_fd));
	json_set_int(device, "guest-cid", b->m->vsock_cid);
	json_set_str(device, "vhostfd", fd);
	build_device(b, device);
}

static void build_pci(struct build *b) {
	char *const *addresses = b->m->spec->pci;
	for (size_t i = 0; addresses && addresses[i]; i++) {
		_cleanup_(free_ptr) char *id = str_format("pci%zu", i), *dir = str_format(PCI_DIR "/%s", addresses[i]);
		build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "vfio-pci", "id", id, "sysfsdev", dir));
	}
}

void build_others(struct build *b) {
	if (b->m->spec->memory_max > b->m->memory)
		build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "virtio-mem-pci", "id", MEMORY_MORE, "memdev", "more-memory"));
	json_t *balloon = build_virtio(b, "virtio-balloon", "balloon"), *rng = build_virtio(b, "virtio-rng", "rng");
	json_set_bool(balloon, "free-page-reporting", true);
	json_set_bool(balloon, "deflate-on-oom", true);
	build_device(b, balloon);
	build_json(b, "-object", json_pack("{s:s,s:s}", "qom-type", "rng-builtin", "id", "randomness"));
	json_set_str(rng, "rng", "randomness");
	build_device(b, rng);
	build_video(b);
	build_audio(b);
	build_tpm(b);
	build_vsock(b);
	build_pci(b);
	build_shares(b);
	if (machine_is(b->m, "microvm"))
		return;
	const char *generation = b->m->generation ? b->m->generation : b->m->uuid;
	if (generation)
		build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "vmgenid", "id", "generation", "guid", generation));
	build_device(b, json_pack("{s:s,s:s}", "driver", "pvpanic", "id", "panic"));
	if (b->m->spec->watchdog && strcmp(b->m->spec->watchdog, "none") != 0)
		build_device(b, json_pack("{s:s,s:s}", "driver", "i6300esb", "id", "watchdog"));
}
