/* Between the files of machine_args. */
#pragma once

#include "base/json.h"
#include "base/str.h"
#include "driver/qemu/machine.h"

#define QEMU "/usr/bin/qemu-system-x86_64"
#define OVMF_CODE "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define OVMF_CODE_SECURE "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
#define OVMF_VARS "/usr/share/OVMF/OVMF_VARS_4M.fd"
#define OVMF_VARS_SECURE "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
#define SWTPM "/usr/bin/swtpm"
#define VIRTIOFSD "/usr/lib/qemu/virtiofsd"

/* Inside the container. */
#define LAUNCHER MACHINE_LAUNCHER
#define TPM_SOCKET "/tmp/tpm"
#define SHARE_SOCKET "/tmp/share%zu"
#define INPUT_SOCKET "/tmp/input"
#define PCI_DIR "/tmp/pci" /* what of /sys QEMU looks at: each device's */

/* Express ports: one for each disk and card, so that all can be unplugged, and free ones for what is plugged in later. */
#define PORTS_FREE 8
#define PORTS_MAX 32
#define PORTS_SLOT 16 /* first of their slots, of eight functions each */
#define MEMORY_MORE "more" /* virtio-mem, for what comes later */
#define RAM_MORE 8192
#define TRANSLATION_MIB 256 /* buffer of the translator */

struct build {
	const struct machine_config *m;
	char **args;
	int *pass;
	size_t n_pass;
	size_t ports;               /* taken */
	size_t sata, ide;           /* taken places of the board's controllers */
	bool scsi;                  /* has its controller */
};

bool machine_is(const struct machine_config *m, const char *chipset);
/* machine-numa.c: what is wanted of nodes can be had; and whether memory is to lie on certain ones of the host. */
int numa_check(const struct machine_config *m, struct error *err);
bool numa_is_bound(const struct machine_spec *s);
/* The bus that the disk gets. */
const char *disk_bus(const struct machine_config *m, const struct machine_disk *d);

void build_arg(struct build *b, const char *option, const char *fmt, ...) PRINTF(3, 4);
/* The number that the descriptor has in QEMU. */
int build_pass(struct build *b, int fd);
/* Both take the value over. */
void build_json(struct build *b, const char *option, json_t *value);
void build_device(struct build *b, json_t *device);
/* "virtio-blk" is virtio-blk-pci, or on microvm virtio-blk-device. */
json_t *build_virtio(const struct build *b, const char *kind, const char *id);

/* What a disk and a card consist of, at the start and later: a file or device of that path, the format upon it, the device. */
json_t *disk_file_node(const struct machine_disk *d, const char *path);
json_t *disk_data_node(const struct machine_disk *d);
json_t *nic_device(const struct build *b, const struct machine_nic *n);

json_t *build_backend(const struct build *b, const char *id, int64_t size); /* of the guest's memory, or a part of it */
void build_numa(struct build *b);
void build_disks(struct build *b);
void build_nics(struct build *b);
void build_others(struct build *b);

/* Asks the guest to let go of a device, and waits for it. live-devices.c */
struct qmp;
/* live-job.c. CONFLICT: there is no such job; NO_SPACE, INTERNAL: it has failed. */
struct live_copy;
int live_job_look(struct qmp *q, const char *name, int64_t deadline, struct live_copy *out, struct error *err);
int live_job_await(struct qmp *q, const char *name, int64_t deadline, struct error *err); /* its end, and takes it away */
int live_job_cancel(struct qmp *q, const char *name, bool force, int64_t deadline, struct error *err);
int live_job_end(struct qmp *q, const char *name, int64_t deadline, struct error *err); /* by force; none is fine */
extern const char *const live_places[]; /* "file", where a disk begins, "moved"; NULL */
char *live_word(const char *id, const char *place); /* of the descriptors lent for it; free it */
int live_node_remove(struct qmp *q, const char *id, const char *kind, int64_t deadline, bool *used, struct error *err);
/* live-checkpoints.c: an image as large as the disk in the file behind fd, with nodes of those names, and its end, by what follows "id-" in
 * them; none is fine. One at a time. */
int live_image_make(struct qmp *q, const char *id, const char *file, const char *image, int fd, int64_t deadline, struct error *err);
int live_image_end(struct qmp *q, const char *id, const char *file, const char *image, int64_t deadline, struct error *err);
json_t *live_bitmap_add(const char *node, const char *name, bool persistent); /* of a transaction */
int live_unplug(struct qmp *q, const char *id, const char *what, int64_t deadline, struct error *err);
