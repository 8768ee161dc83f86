/* Machines by QEMU. A machine is a container whose first process is QEMU (or wabe-machine, which starts QEMU and its
 * companions): this turns what is wanted into QEMU's arguments and into the container that it runs in. Nothing here starts
 * a process; driver/container does. Facts: qemu(1) of 7.2, docs/system/ and docs/interop/ of its sources. */
#pragma once

#include "base/error.h"
#include "driver/container/container.h"
#include "model/machine.h"

#include <sched.h>

#define MACHINE_LAUNCHER "/wabe-machine" /* in the container of a machine that has companions */

/* What runs guests. */
struct accel {
	bool kvm;        /* else the translator */
	const char *why; /* static text: why not KVM; NULL when it is */
};
/* Whether /dev/kvm really runs 64-bit code: a few instructions in long mode, a million steps of a loop, in a process of its own
 * with a time limit (1.5 s of processor time; milliseconds are used where it works). The existence of the device says nothing. */
void accel_probe(struct accel *out);
/* spec->accel on this host: UNSUPPORTED with the reason when KVM is asked for and does not work. */
int accel_choose(const struct machine_spec *spec, const struct accel *host, bool *kvm, struct error *err);

/* A disk or drive. The descriptor is that of the caller, and becomes one of QEMU's (3, 4, …) in the order of the fds of
 * struct machine_config. */
struct machine_disk {
	const char *id;     /* [a-z][a-z0-9]*: of the device; its node is id + "-data" */
	int fd;             /* open as it is to be used; -1: an empty drive */
	const char *format; /* raw | qcow2 (no backing file is ever opened) */
	const char *bus;    /* virtio | scsi | sata | ide | nvme | floppy (one, fd may be -1); NULL: virtio. A CD drive that is to be on virtio or nvme, which
			     * have none, or says nothing, is on what the board has (sata on q35, ide on pc, scsi on microvm) */
	const char *serial; /* at most 20 characters (virtio); NULL */
	bool cdrom, read_only;
	int boot_index;     /* from 1 on; 0: not booted from */
};
struct machine_nic {
	const char *id;  /* "nic0" */
	const char *tap; /* name of a tap device in QEMU's network name space, owned by its user */
	const char *mac, *model;
	int boot_index;
	bool vhost;      /* /dev/vhost-net is there */
	int mtu;         /* told to the guest by virtio; 0: nothing is */
};
/* A directory of the container that the guest mounts by virtiofs. What is to be read-only is mounted so in the container:
 * virtiofsd of QEMU 7.2 has no such option. */
struct machine_share {
	const char *tag, *path;
};
struct machine_config {
	const struct machine_spec *spec;
	const char *name, *uuid;
	bool kvm;
	int64_t memory; /* bytes, a multiple of 1 MiB */
	int64_t cpus;   /* at the start: spec->memory_max and cpus_max say how many there may be later */
	const struct machine_disk *disks;
	size_t n_disks;
	const struct machine_nic *nics;
	size_t n_nics;
	const struct machine_share *shares;
	size_t n_shares;
	/* Listening unix sockets: QMP for commands, QMP for events, the guest agent's channel. -1: none. There is none for VNC,
	 * since QEMU 7.2 takes no descriptor for it: with a graphics card clients are handed over by QMP (getfd, add_client). */
	int qmp_fd, events_fd, guest_fd;
	int kernel_fd, initrd_fd; /* started directly; -1: none. Files that anybody may read: QEMU opens them once more */
	const char *append;       /* the kernel's command line */
	int vars_fd;              /* UEFI: this machine's variables, a raw file of the size of OVMF_VARS; -1 */
	char *const *pci_groups;  /* numbers of the IOMMU's groups of spec->pci, in their order */
	int vsock_fd;             /* /dev/vhost-vsock, which has the number vsock_cid already, for spec->vsock; else -1 */
	int64_t vsock_cid;
	const int *usb_fds;       /* nodes of the host's devices, for spec->usb_devices */
	size_t n_usb_fds;
	const char *tpm_dir;      /* directory of the container in which swtpm keeps its state, for spec->tpm */
	const char *launcher;     /* path of wabe-machine on the host, for what needs companions: shares and tpm */
	const char *status_file;  /* of the container: with shares, a file in which the guest writes a status that is to be QEMU's, or NULL */
	bool incoming;            /* waits for a state, and then for cont: migrate-incoming by QMP */
	bool held;                /* waits for cont */
	bool post_copy;           /* with incoming: serves the guest's page faults itself (userfaultfd), if the host lets it */
	int memory_fd;            /* of the guest: a file of its size that is this machine's alone, which QEMU opens once more, to
				   * write (QEMU 7.2 maps nothing else, and takes away what the balloon has); -1: none */
	const char *board;        /* the very version of the chipset, as the state that comes in has it; NULL: the newest */
	const char *generation;   /* UUID: another one tells the guest that it is not what it was; NULL: uuid */
	bool tty;                 /* the serial console is a terminal */
};
/* The file of this host that a new machine's variables are a copy of; NULL: it has none (BIOS). */
const char *machine_firmware_vars(const struct machine_spec *spec);
/* The processors that there is room for: whole sockets. */
int64_t machine_cpus_max(const struct machine_config *m);
/* The numbers of a list such as "0-3,6", below CPU_SETSIZE. */
void machine_cpu_list(const char *list, cpu_set_t *out);
/* What is wanted cannot be had: INVALID or UNSUPPORTED with the field (spec.machine.…). */
int machine_check(const struct machine_config *m, struct error *err);
/* The first process: *args, and *pass (malloc'd) are the descriptors of m in the order in which it has them, from 3 on. */
int machine_args(const struct machine_config *m, char ***args, int **pass, size_t *n_pass, struct error *err);
/* QEMU without a machine, for what only it does with disks: its monitor is the connected descriptor `monitor`. It ends with that. */
char **machine_none_args(int monitor);
/* The container around it: fills c, which has id, uid_maps, gid_maps, cgroup already, and mounts of its own (shares, tpm_dir),
 * which come after these; process.args stay the caller's to set (machine_args). skeleton: a directory of the host's that serves
 * as root (made by machine_skeleton), on a file system that can be mounted idmapped if there are uid_maps. NO_COMMAND with the
 * package's name when QEMU is not installed. */
int machine_confine(const struct machine_config *m, const char *skeleton, struct container_config *c, struct error *err);
/* Makes the directories and links of the root of all machines; nothing if they are there. */
int machine_skeleton(const char *dir, struct error *err);
/* QEMU's name for the guest's memory in what it saves. */
const char *machine_memory_block(const struct machine_config *m);
int64_t machine_ram(const struct machine_config *m); /* its size */
int64_t machine_hugepage(const struct machine_spec *s); /* of what its memory is made; 0: of ordinary pages */
/* Whether QEMU can tell the memory while the guest runs; else it must be halted for that. */
bool machine_ram_is_told(const struct machine_spec *s, bool kvm);
/* What must be the same when a machine goes on with the state of another one or of its own: QEMU's arguments, but for names and
 * addresses; strv_free them. */
int machine_shape(const struct machine_config *m, char ***shape, struct error *err);
/* What QEMU calls one of its spec->usb_redirects: free it. */
char *machine_redirect_name(int64_t i);
/* What QEMU needs of memory besides the guest's, bytes: for the control group. */
int64_t machine_overhead(const struct machine_config *m);
