/* What is wanted of a machine beyond what every instance has. Its memory is limits.memory, the number of its processors
 * follows from limits.cpus where no topology is given. */
#pragma once

#include "model/field.h"

/* What a guest with cloud-init finds at its first start, and whenever it has changed (a new instance-id then).
 * https://cloudinit.readthedocs.io/en/22.4.2/reference/datasources/nocloud.html, …/configdrive.html */
struct cloud_init {
	char *datasource;  /* none (default unless something below is given) | nocloud | config-drive */
	char *user_data, *vendor_data; /* as cloud-init takes them: "#cloud-config", a script … */
	char *network_config; /* version 1 or 2; NULL: made of the machine's interfaces */
	char *user;        /* name of the default user; NULL: the image's */
	char *password;    /* of that user; only a hash goes into the guest */
	char **ssh_keys;
	char **packages;
	bool upgrade;      /* packages are upgraded at the first start */
};

/* A NUMA node of the guest's. */
struct machine_numa {
	char *cpus;       /* its processors, "0-3,6"; where no node says any, all have the same number of them */
	int64_t memory;   /* bytes; 0: as much as the others that say none */
	char *host_nodes; /* of the host, on which its memory lies: "0", "0-1"; NULL: on any */
	char *policy;     /* bind | preferred | interleave: how it lies there; NULL: bind */
};

/* What is NULL is what the first word says. A channel for the guest agent, a balloon and a source of random numbers are
 * always there. */
struct machine_spec {
	char *accel;     /* auto | kvm | tcg */
	char *chipset;   /* q35 | pc | microvm */
	char *firmware;  /* bios | uefi */
	bool secure_boot, tpm;
	char *cpu_model; /* as QEMU names them; NULL: host under KVM, max under TCG */
	int64_t sockets, cores, threads; /* 0: one each; all 0: as many sockets as processors */
	int64_t cpus_max, memory_max; /* how many and how much it may get while it runs; 0: no more than at its start */
	char *hugepages; /* none | 2m | 1g: of what size the pages are that its memory is made of */
	FIELD_LIST_OF(struct machine_numa) numa; /* none: one node */
	char **pin;      /* the host's CPUs on which each of its processors runs, in their order: "2", "0-3,6" */
	int64_t drives;  /* for CDs, also without one; at least as many as cdroms */
	bool floppy_drive; /* also without a floppy in it; with one it is there anyway */
	char *floppy;    /* name of an image of kind floppy; write-protected. NULL: none */
	char **boot;     /* disk, cdrom, network, floppy, in order; empty: disk, cdrom, network */
	char *disk_bus;  /* virtio | scsi | sata | ide | nvme */
	char *nic_model; /* virtio | e1000e | e1000 | rtl8139 */
	char *video;     /* none | vga | virtio | qxl */
	char *watchdog;  /* none | reset | poweroff | pause: what happens when it bites */
	bool usb, audio;
	char **usb_devices; /* of the host: "046d:c52b", a model, or "1-4.2", a place as its kernel calls it */
	int64_t usb_redirects; /* places for devices that come as streams */
	char **pci;      /* devices of the host, as its kernel calls them: "0000:01:00.0" */
	bool vsock;      /* a socket to its host */
	int64_t vsock_cid; /* its number there; 0: one that is free */
	char **cdroms;   /* names of images of kind iso */
	char *kernel;    /* name of an image of kind kernel, started without a boot loader; NULL: the disk's own boot loader,
			  * or, where the root is that of an OCI image, the kernel image that is there */
	char *kernel_args;
	struct cloud_init cloud_init;
};

/* What a disk image says about the machine that it is of: what a spec does not say is taken from here. */
struct machine_hardware {
	int64_t cpus, memory; /* 0: not told */
	char *firmware, *chipset, *disk_bus, *nic_model, *video; /* as in machine_spec */
	bool secure_boot, tpm, usb, audio;
	int64_t drives;
	char **networks; /* of each network card, as its network was called where the image comes from */
};

/* What a person in front of it does: the keys, one after the other, then the text, then the pointer. */
struct machine_input {
	char **keys; /* each a key, or several that are held together: "ctrl-alt-delete" */
	char *text;
	char *move;  /* the pointer: to | by; NULL: it stays */
	int64_t x, y; /* points of the screen; of `by` steps of the mouse */
	char *click; /* a button; NULL: none */
	int64_t times; /* of the click */
};

/* Of its nodes together, bytes; 0: one of them says none. */
int64_t machine_numa_memory(const struct machine_spec *m);

extern const struct field_table machine_spec_table, cloud_init_table, machine_hardware_table, machine_input_table;
