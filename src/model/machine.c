/* The tables of what is wanted of a machine. */
#include "model/instance-priv.h"

#include "base/str.h"

#include <ctype.h>

#define TEXT_MAX (1 << 20) /* of user-data and the like */
#define NODES_MAX 8
#define MIB ((int64_t)1 << 20)

static int cpu_model_check(const char *model, struct error *err) {
	for (const char *p = model; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_.+=,", *p))
			return error_set(err, ERROR_INVALID, "\"%s\" is no model of a processor, with +FEATURE or -FEATURE after commas", model);
	return 0;
}

static int boot_check(const char *device, struct error *err) {
	if (!strcmp(device, "disk") || !strcmp(device, "cdrom") || !strcmp(device, "network") || !strcmp(device, "floppy"))
		return 0;
	return error_set(err, ERROR_INVALID, "\"%.80s\" is none of disk, cdrom, network, floppy", device);
}

/* "046d:c52b"; or of the kernel's names of devices, "1-4.2", the bus and the ports up to it. */
static int usb_check(const char *device, struct error *err) {
	size_t n = strspn(device, "0123456789abcdefABCDEF"), bus = strspn(device, "0123456789"), ports = strspn(device + bus + 1, "0123456789.");
	bool model = n == 4 && device[4] == ':' && strspn(device + 5, "0123456789abcdefABCDEF") == 4 && !device[9];
	bool place = bus > 0 && device[bus] == '-' && ports > 0 && !device[bus + 1 + ports] && device[bus + 1] != '.' && !str_ends(device, ".");
	return model || place ? 0 : error_set(err, ERROR_INVALID, "\"%.80s\" is neither VENDOR:PRODUCT, such as 046d:c52b, nor BUS-PORT, such as "
					      "1-4.2", device);
}

/* "0000:01:00.0" */
static int pci_check(const char *address, struct error *err) {
	static const char form[] = "xxxx:xx:xx.7";
	bool good = strlen(address) == strlen(form);
	for (size_t i = 0; good && form[i]; i++)
		good = form[i] == 'x'   ? strchr("0123456789abcdef", address[i]) != NULL
		       : form[i] == '7' ? strchr("01234567", address[i]) != NULL
					: address[i] == form[i];
	return good ? 0 : error_set(err, ERROR_INVALID, "\"%.80s\" is no address of a PCI device such as 0000:01:00.0", address);
}

static int cloud_init_validate(const void *object, struct error *err) {
	const struct cloud_init *c = object;
	if (str_same(c->datasource, "none") && (c->user_data || c->vendor_data || c->network_config || c->user || c->password || c->ssh_keys || c->packages))
		return error_field(err, "datasource", "is none, so nothing of the rest would reach the guest");
	return 0;
}

static const struct field cloud_init_fields[] = {
	FIELD(struct cloud_init, datasource, FIELD_ENUM, .flag = "cloud-init", .placeholder = "KIND",
	      .values = (const char *const[]){"none", "nocloud", "config-drive", NULL},
	      .doc = "How the guest gets it; nocloud if anything is given"),
	FIELD(struct cloud_init, user_data, FIELD_STRING, .max = TEXT_MAX, .flag = "user-data", .placeholder = "TEXT",
	      .doc = "User data, as cloud-init takes it"),
	FIELD(struct cloud_init, vendor_data, FIELD_STRING, .max = TEXT_MAX, .doc = "Vendor data"),
	FIELD(struct cloud_init, network_config, FIELD_STRING, .max = TEXT_MAX,
	      .doc = "Network configuration, version 1 or 2; made of its interfaces if not given"),
	FIELD(struct cloud_init, user, FIELD_STRING, .max = 64, .check = text_check, .flag = "cloud-user", .placeholder = "NAME",
	      .doc = "Its default user; the image's if not given"),
	FIELD(struct cloud_init, password, FIELD_STRING, .flags = FIELD_SECRET, .max = 256, .check = text_check,
	      .doc = "Password of that user"),
	FIELD(struct cloud_init, ssh_keys, FIELD_STRINGS, .max = 256, .check = text_check, .flag = "ssh-key", .placeholder = "KEY",
	      .doc = "Public keys that may log in as that user"),
	FIELD(struct cloud_init, packages, FIELD_STRINGS, .max = 1024, .check = text_check, .flag = "package", .placeholder = "NAME",
	      .doc = "Packages to be installed at its first start"),
	FIELD(struct cloud_init, upgrade, FIELD_BOOL, .doc = "Packages are upgraded at its first start"),
};
const struct field_table cloud_init_table = {
	"cloud_init", "What a machine's guest is told at its first start", sizeof(struct cloud_init),
	cloud_init_fields, ARRAY_SIZE(cloud_init_fields), cloud_init_validate,
};

int64_t machine_numa_memory(const struct machine_spec *m) {
	int64_t sum = 0;
	for (size_t i = 0; i < m->numa.n; i++) {
		if (!m->numa.items[i].memory)
			return 0;
		sum += m->numa.items[i].memory;
	}
	return sum;
}

static int numa_validate(const void *object, struct error *err) {
	const struct machine_numa *n = object;
	if (n->memory % MIB)
		return error_field(err, "memory", "of a node is in whole MiB");
	if (n->policy && !n->host_nodes)
		return error_field(err, "policy", "says how the memory lies on nodes of the host: give host_nodes too");
	return 0;
}

static const struct field numa_fields[] = {
	FIELD(struct machine_numa, cpus, FIELD_STRING, .max = 1024, .check = cpuset_check,
	      .doc = "Its processors; where no node says any, all have the same number of them"),
	FIELD(struct machine_numa, memory, FIELD_SIZE, .max = (int64_t)1 << 44, .doc = "Its memory; 0: as much as the others that say none"),
	FIELD(struct machine_numa, host_nodes, FIELD_STRING, .max = 1024, .check = cpuset_check, .doc = "Nodes of the host on which its memory lies"),
	FIELD(struct machine_numa, policy, FIELD_ENUM, .values = (const char *const[]){"bind", "preferred", "interleave", NULL},
	      .doc = "How it lies there; bind if not given"),
};
static const struct field_table numa_table = {
	"machine_numa", "A NUMA node of a machine", sizeof(struct machine_numa), numa_fields, ARRAY_SIZE(numa_fields), numa_validate,
};

/* Given, and not what it is anyway. */
static bool is_other(const char *value, const char *usual) {
	return value && strcmp(value, usual) != 0;
}

static int machine_validate(const void *object, struct error *err) {
	const struct machine_spec *m = object;
	if (m->secure_boot && !str_same(m->firmware, "uefi"))
		return error_field(err, "secure_boot", "needs firmware uefi");
	if (str_same(m->chipset, "microvm") &&
	    (is_other(m->firmware, "bios") || m->tpm || is_other(m->video, "none") || is_other(m->disk_bus, "virtio") ||
	     is_other(m->nic_model, "virtio") || is_other(m->watchdog, "none") || m->usb || m->audio || m->cpus_max || m->memory_max ||
	     m->numa.n || m->usb_devices || m->usb_redirects || m->pci || m->floppy_drive || m->floppy))
		return error_field(err, "chipset", "microvm has neither UEFI, TPM, video, USB, floppies, NUMA nor other devices than virtio's, and nothing "
				   "is plugged into it while it runs");
	if (m->vsock_cid && (!m->vsock || m->vsock_cid < 3))
		return error_field(err, "vsock_cid", "is a number from 3 on, for a machine with vsock");
	if (is_other(m->hugepages, "none") && m->memory_max)
		return error_field(err, "hugepages", "and memory_max do not go together: memory of huge pages stays as it is while it runs");
	if (str_same(m->chipset, "pc") && str_same(m->disk_bus, "sata"))
		return error_field(err, "disk_bus", "chipset pc has no SATA: take q35, or disk_bus ide");
	if (!is_other(m->chipset, "q35") && str_same(m->disk_bus, "ide"))
		return error_field(err, "disk_bus", "chipset q35 has no IDE: take pc, or disk_bus sata");
	return 0;
}

static const char *const chipsets[] = {"q35", "pc", "microvm", NULL}, *const firmwares[] = {"bios", "uefi", NULL},
	*const disk_buses[] = {"virtio", "scsi", "sata", "ide", "nvme", NULL},
	*const nic_models[] = {"virtio", "e1000e", "e1000", "rtl8139", NULL}, *const videos[] = {"none", "vga", "virtio", "qxl", NULL};

static const struct field machine_fields[] = {
	FIELD(struct machine_spec, accel, FIELD_ENUM, .values = (const char *const[]){"auto", "kvm", "tcg", NULL},
	      .flag = "accel", .placeholder = "ENGINE", .doc = "What runs it: hardware (kvm), the translator (tcg), or the better that works (auto)"),
	FIELD(struct machine_spec, chipset, FIELD_ENUM, .values = chipsets,
	      .flag = "chipset", .placeholder = "KIND", .doc = "Its board; q35 if not given"),
	FIELD(struct machine_spec, firmware, FIELD_ENUM, .values = firmwares,
	      .flag = "firmware", .placeholder = "KIND", .doc = "What starts its boot loader; bios if not given"),
	FIELD(struct machine_spec, secure_boot, FIELD_BOOL, .flag = "secure-boot", .doc = "UEFI starts signed systems only"),
	FIELD(struct machine_spec, tpm, FIELD_BOOL, .flag = "tpm", .doc = "A TPM 2.0 of its own"),
	FIELD(struct machine_spec, cpu_model, FIELD_STRING, .max = 1024, .check = cpu_model_check, .flag = "cpu-model",
	      .placeholder = "MODEL", .doc = "Model of its processors; the best that there is if not given"),
	FIELD(struct machine_spec, sockets, FIELD_INT, .max = 64, .flag = "sockets", .placeholder = "N", .doc = "Sockets; 0: as many as processors"),
	FIELD(struct machine_spec, cores, FIELD_INT, .max = 256, .flag = "cores", .placeholder = "N", .doc = "Cores of each socket; 0: 1"),
	FIELD(struct machine_spec, threads, FIELD_INT, .max = 8, .flag = "threads", .placeholder = "N", .doc = "Threads of each core; 0: 1"),
	FIELD(struct machine_spec, cpus_max, FIELD_INT, .max = 255, .flag = "cpus-max", .placeholder = "N",
	      .doc = "Processors that it may get while it runs; 0: no more than at its start"),
	FIELD(struct machine_spec, memory_max, FIELD_SIZE, .flag = "memory-max", .placeholder = "BYTES",
	      .doc = "Memory that it may get while it runs; 0: no more than at its start"),
	FIELD(struct machine_spec, hugepages, FIELD_ENUM, .values = (const char *const[]){"none", "2m", "1g", NULL}, .flag = "page-size",
	      .placeholder = "SIZE", .doc = "Its memory is of huge pages that the host keeps ready (vm.nr_hugepages); none if not given"),
	FIELD(struct machine_spec, numa, FIELD_LIST, .max = NODES_MAX, .sub = &numa_table, .flag = "numa", .placeholder = "SPEC",
	      .parse = parse_numa, .doc = "A NUMA node of its own: cpus=0-1,memory=BYTES,host-nodes=LIST,policy=bind; once more: the next one"),
	FIELD(struct machine_spec, pin, FIELD_STRINGS, .flags = FIELD_LIVE, .max = 255, .check = cpuset_check, .flag = "pin", .placeholder = "LIST",
	      .doc = "CPUs of the host on which its first processor runs; once more: the next one"),
	FIELD(struct machine_spec, drives, FIELD_INT, .max = 4, .flag = "drives", .placeholder = "N",
	      .doc = "Drives for CDs, also without one in them; at least as many as CDs"),
	FIELD(struct machine_spec, floppy_drive, FIELD_BOOL, .flag = "floppy-drive", .doc = "A drive for floppies, also without one in it"),
	FIELD(struct machine_spec, floppy, FIELD_STRING, .flags = FIELD_LIVE, .max = 512, .check = text_check, .flag = "floppy",
	      .placeholder = "IMAGE", .doc = "Image of kind floppy in its drive, write-protected"),
	FIELD(struct machine_spec, boot, FIELD_STRINGS, .max = 4, .check = boot_check, .flag = "boot", .placeholder = "DEVICE",
	      .doc = "What it boots from, in order: disk, cdrom, network, floppy; the first three if not given"),
	FIELD(struct machine_spec, disk_bus, FIELD_ENUM, .values = disk_buses, .flag = "disk-bus", .placeholder = "BUS",
	      .doc = "How its disks are connected; virtio if not given"),
	FIELD(struct machine_spec, nic_model, FIELD_ENUM, .values = nic_models, .flag = "nic-model", .placeholder = "MODEL",
	      .doc = "Its network cards; virtio if not given"),
	FIELD(struct machine_spec, video, FIELD_ENUM, .values = videos, .flag = "video", .placeholder = "MODEL",
	      .doc = "Its graphics card, for the graphical console; none if not given"),
	FIELD(struct machine_spec, watchdog, FIELD_ENUM,
	      .values = (const char *const[]){"none", "reset", "poweroff", "pause", NULL}, .flag = "watchdog", .placeholder = "ACTION",
	      .doc = "A watchdog, and what happens when it is not fed; none if not given"),
	FIELD(struct machine_spec, usb, FIELD_BOOL, .flag = "usb", .doc = "A USB controller with a tablet"),
	FIELD(struct machine_spec, usb_devices, FIELD_STRINGS, .max = 8, .check = usb_check, .flag = "usb-device", .placeholder = "DEVICE",
	      .doc = "USB devices of the host: VENDOR:PRODUCT, or BUS-PORT as its kernel names it"),
	FIELD(struct machine_spec, usb_redirects, FIELD_INT, .max = 4, .flag = "usb-redirect", .placeholder = "N",
	      .doc = "Places for USB devices of clients (wabe usb-redirect)"),
	FIELD(struct machine_spec, audio, FIELD_BOOL, .flag = "audio", .doc = "A sound card, silent on the host"),
	FIELD(struct machine_spec, pci, FIELD_STRINGS, .max = 8, .check = pci_check, .flag = "pci", .placeholder = "ADDRESS",
	      .doc = "PCI devices of the host, by the names that its kernel gives them: 0000:01:00.0"),
	FIELD(struct machine_spec, vsock, FIELD_BOOL, .flag = "vsock", .doc = "A virtio socket to its host, at a number that the status has"),
	FIELD(struct machine_spec, vsock_cid, FIELD_INT, .max = UINT32_MAX - 1, .flag = "vsock-cid", .placeholder = "N",
	      .doc = "That number, from 3 on; 0: one that is free"),
	FIELD(struct machine_spec, cdroms, FIELD_STRINGS, .flags = FIELD_LIVE, .max = 4, .check = text_check, .flag = "cdrom", .placeholder = "IMAGE",
	      .doc = "Images of kind iso in its drives"),
	FIELD(struct machine_spec, kernel, FIELD_STRING, .max = 512, .check = text_check, .flag = "kernel", .placeholder = "IMAGE",
	      .doc = "Image of kind kernel that is started directly"),
	FIELD(struct machine_spec, kernel_args, FIELD_STRING, .max = 2048, .check = text_check, .flag = "kernel-args",
	      .placeholder = "TEXT", .doc = "Further arguments of that kernel"),
	FIELD(struct machine_spec, cloud_init, FIELD_OBJECT, .sub = &cloud_init_table, .doc = "What the guest is told at its first start"),
};
const struct field_table machine_spec_table = {
	"machine_spec", "What is wanted of a machine", sizeof(struct machine_spec), machine_fields, ARRAY_SIZE(machine_fields),
	machine_validate,
};

static const struct field hardware_fields[] = {
	FIELD(struct machine_hardware, cpus, FIELD_INT, .max = 256, .doc = "Processors; 0: not told"),
	FIELD(struct machine_hardware, memory, FIELD_SIZE, .max = (int64_t)1 << 44, .doc = "Memory; 0: not told"),
	FIELD(struct machine_hardware, firmware, FIELD_ENUM, .values = firmwares, .doc = "What starts its boot loader"),
	FIELD(struct machine_hardware, secure_boot, FIELD_BOOL, .doc = "UEFI starts signed systems only"),
	FIELD(struct machine_hardware, tpm, FIELD_BOOL, .doc = "A TPM 2.0"),
	FIELD(struct machine_hardware, chipset, FIELD_ENUM, .values = chipsets, .doc = "Its board"),
	FIELD(struct machine_hardware, disk_bus, FIELD_ENUM, .values = disk_buses, .doc = "How its disks are connected"),
	FIELD(struct machine_hardware, drives, FIELD_INT, .max = 4, .doc = "Drives for CDs"),
	FIELD(struct machine_hardware, nic_model, FIELD_ENUM, .values = nic_models, .doc = "Its network cards"),
	FIELD(struct machine_hardware, networks, FIELD_STRINGS, .max = 16, .check = text_check,
	      .doc = "Of each network card the network, by the name that it had where the image comes from"),
	FIELD(struct machine_hardware, video, FIELD_ENUM, .values = videos, .doc = "Its graphics card"),
	FIELD(struct machine_hardware, usb, FIELD_BOOL, .doc = "A USB controller with a tablet"),
	FIELD(struct machine_hardware, audio, FIELD_BOOL, .doc = "A sound card"),
};
const struct field_table machine_hardware_table = {
	"machine_hardware", "What a disk image says about the machine that it is of", sizeof(struct machine_hardware), hardware_fields,
	ARRAY_SIZE(hardware_fields),
};

static int input_validate(const void *object, struct error *err) {
	const struct machine_input *in = object;
	if (!in->keys && !in->text && !in->move && !in->click)
		return error_set(err, ERROR_INVALID, "nothing is to be done: give keys, text, move or click");
	return !in->move && (in->x || in->y) ? error_field(err, "move", "must say whether x and y are where to, or by how much") : 0;
}

static const struct field input_fields[] = {
	FIELD(struct machine_input, keys, FIELD_STRINGS, .max = 64, .check = text_check, .doc = "Keys, those with - between them at once: ctrl-alt-delete"),
	FIELD(struct machine_input, text, FIELD_STRING, .max = 256, .doc = "What is typed then, as on an American keyboard"),
	FIELD(struct machine_input, move, FIELD_ENUM, .values = (const char *const[]){"to", "by", NULL},
	      .doc = "The pointer: to a point of the screen (with a USB tablet), or by so many steps of a mouse"),
	FIELD(struct machine_input, x, FIELD_INT, .min = -32768, .max = 32767, .doc = "To the right"),
	FIELD(struct machine_input, y, FIELD_INT, .min = -32768, .max = 32767, .doc = "Down"),
	FIELD(struct machine_input, click, FIELD_ENUM,
	      .values = (const char *const[]){"left", "middle", "right", "wheel-up", "wheel-down", NULL}, .doc = "A button of the pointer"),
	FIELD(struct machine_input, times, FIELD_INT, .def = "1", .min = 1, .max = 16, .doc = "How often it is clicked"),
};
const struct field_table machine_input_table = {
	"machine_input", "What a person in front of a machine does", sizeof(struct machine_input), input_fields, ARRAY_SIZE(input_fields),
	input_validate,
};
