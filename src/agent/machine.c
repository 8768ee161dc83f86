/* The start of a machine: its disks and sockets become descriptors of QEMU, its control group gets room for QEMU itself; and
 * what is asked of a machine that runs, over QMP. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/network/network.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define MEMORY_DEFAULT ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)
#define QMP_WAIT (10 * NS_PER_SEC)
#define SERIAL_MAX 20 /* characters of a disk's serial number: virtio-blk */

void machine_start_init(struct machine_start *m) {
	*m = (struct machine_start){0};
	container_config_init(&m->inner);
	m->config = (struct machine_config){.qmp_fd = -1, .events_fd = -1, .guest_fd = -1, .kernel_fd = -1,
					    .initrd_fd = -1, .vars_fd = -1, .vsock_fd = -1, .memory_fd = -1};
	m->state_fd = -1;
}

void machine_start_free(struct machine_start *m) {
	int fds[] = {m->config.qmp_fd, m->config.events_fd, m->config.guest_fd, m->config.kernel_fd,
		     m->config.initrd_fd, m->config.vars_fd, m->config.vsock_fd, m->config.memory_fd, m->state_fd};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close_fd(&fds[i]);
	for (size_t i = 0; i < m->config.n_disks; i++)
		close_fd(&m->disks[i].fd);
	for (size_t i = 0; i < m->config.n_usb_fds; i++)
		close_fd(&m->usb_fds[i]);
	free(m->usb_fds);
	strv_free(m->pci_groups);
	free(m->disks);
	free(m->nics);
	free(m->pass);
	strv_free(m->names);
	container_config_free(&m->inner);
	machine_start_init(m);
}

const char *machine_keep(struct machine_start *m, char *text) {
	strv_take(&m->names, text);
	return text;
}

/* --- sockets --- */

static int listen_in(const char *dir, const char *name, int *out, struct error *err) {
	_cleanup_(close_fd) int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(free_ptr) char *path = str_format("/proc/self/fd/%d/%s", at, name);
	*out = at < 0 ? -errno : sock_listen_unix(path, 0600);
	return *out < 0 ? error_errno(err, *out, "cannot listen at %s/%s", dir, name) : 0;
}

static int open_sockets(const struct job *j, struct machine_start *m, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(j->agent, j->id, NULL);
	int r = listen_in(dir, "qmp", &m->config.qmp_fd, err);
	if (r == 0)
		r = listen_in(dir, "qmp-events", &m->config.events_fd, err);
	return r < 0 ? r : listen_in(dir, "guest", &m->config.guest_fd, err);
}

/* --- disks --- */

static const char *disk_bus(const struct machine_spec *s) {
	return s->disk_bus ? s->disk_bus : "virtio";
}

/* "disk" (the usual first), "cdrom", "network" or "floppy": from 1 on; 0: it is not booted from. */
static int boot_place(const struct machine_spec *s, const char *kind) {
	static const char *const usual[] = {"disk", "cdrom", "network"};
	bool given = s->boot && *s->boot;
	for (int i = 0; given ? s->boot[i] != NULL : i < (int)ARRAY_SIZE(usual); i++)
		if (strcmp(given ? s->boot[i] : usual[i], kind) == 0)
			return 1 + 16 * i; /* room for several of a kind */
	return 0;
}

int machine_add_disk(struct machine_start *m, const char *id, const char *path, bool read_only, const char *serial, struct error *err) {
	size_t n = m->config.n_disks;
	int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot open the disk %s", path);
	m->disks = alloc_resize(m->disks, n + 1, sizeof *m->disks);
	m->disks[m->config.n_disks++] = (struct machine_disk){
		.id = id,
		.fd = fd,
		.format = "raw",
		.bus = disk_bus(m->config.spec),
		.serial = serial ? machine_keep(m, str_copyn(serial, strnlen(serial, SERIAL_MAX))) : NULL,
		.read_only = read_only,
	};
	m->config.disks = m->disks;
	return 0;
}

static int add_disks(const char *root, const struct volume_mounts *volumes, struct machine_start *m, struct error *err) {
	int r = machine_add_disk(m, machine_keep(m, machine_disk_id(NULL)), root, false, "root", err);
	if (r == 0)
		m->disks[m->config.n_disks - 1].boot_index = boot_place(m->config.spec, "disk");
	for (size_t i = 0; r == 0 && i < volumes->n; i++) {
		const struct volume_mount *v = &volumes->items[i];
		if (!v->block)
			return error_field(err, "spec.mounts", "the volume %s is a file system: a machine of this image takes block volumes",
					   v->mount->source);
		r = machine_add_disk(m, machine_keep(m, machine_disk_id(v->id)), v->node, v->mount->read_only, v->mount->source, err);
	}
	return r;
}

/* --- media --- */

static int open_medium(const struct agent *a, const struct msg_instance_create *r, const char *name, int *fd, struct error *err) {
	int opened = media_open(a, r, name, err);
	*fd = opened == MEDIUM_NONE ? -1 : opened;
	return opened < 0 && opened != MEDIUM_NONE ? opened : 0;
}

/* A drive that needs nothing in it to be there is `empty`. bus: of CDs NULL. */
static int add_drive(const struct agent *a, const struct msg_instance_create *r, const char *name, const char *bus, bool empty, int place,
		     struct machine_start *m, struct error *err) {
	int fd, result = open_medium(a, r, name, &fd, err);
	if (result < 0 || (fd < 0 && !empty))
		return result;
	m->disks = alloc_resize(m->disks, m->config.n_disks + 1, sizeof *m->disks);
	m->disks[m->config.n_disks++] = (struct machine_disk){
		.id = name, .fd = fd, .format = "raw", .bus = bus, .cdrom = !bus, .read_only = true, .boot_index = place};
	m->config.disks = m->disks;
	return 0;
}

static int add_media(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct error *err) {
	static const char *const drives[] = {"cdrom0", "cdrom1", "cdrom2", "cdrom3"};
	int place = boot_place(m->config.spec, "cdrom");
	int result = open_medium(a, r, "kernel", &m->config.kernel_fd, err);
	if (result == 0)
		result = open_medium(a, r, "initrd", &m->config.initrd_fd, err);
	for (int i = 0; result == 0 && i < (int)ARRAY_SIZE(drives); i++)
		result = add_drive(a, r, drives[i], NULL, i < m->config.spec->drives, place ? place + i : 0, m, err);
	if (result == 0)
		result = add_drive(a, r, "floppy0", "floppy", m->config.spec->floppy_drive, boot_place(m->config.spec, "floppy"), m, err);
	m->config.append = m->config.spec->kernel_args;
	return result;
}

/* cloud-init's medium is where the guest's other disks are, behind them: kernels for clouds have no driver for a CD of the
 * board's. cloud-init finds it by its label. */
static int add_seed(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct error *err) {
	const char *bus = disk_bus(m->config.spec);
	size_t before = m->config.n_disks;
	int result = add_drive(a, r, "seed", NULL, false, 0, m, err);
	if (result < 0 || m->config.n_disks == before)
		return result;
	m->disks[before].bus = bus;
	m->disks[before].cdrom = !str_same(bus, "virtio") && !str_same(bus, "nvme");
	return 0;
}

/* --- network cards --- */

/* By the network, of which there is one card at most: the others may change while it runs. */
char *machine_nic_id(const struct nic *n) {
	return str_format("nic%.12s", n->network_id);
}

char *machine_tap_name(const struct nic *n) {
	return str_format("tap%.12s", n->network_id);
}

bool machine_is_tap(const char *interface) {
	return str_starts(interface, "tap") && strspn(interface + 3, "0123456789abcdef") == strlen(interface + 3);
}

static void add_nics(const struct msg_instance_create *r, struct machine_start *m) {
	const nics *list = &r->instance.nics;
	m->nics = alloc_array(list->n + 1, sizeof *m->nics);
	for (size_t i = 0; str_same(r->instance.spec.network, "private") && i < list->n; i++) {
		int place = m->config.kernel_fd >= 0 ? 0 : boot_place(m->config.spec, "network");
		m->nics[m->config.n_nics++] = (struct machine_nic){
			.id = machine_keep(m, machine_nic_id(&list->items[i])),
			.tap = machine_keep(m, machine_tap_name(&list->items[i])),
			.mac = list->items[i].mac,
			.model = m->config.spec->nic_model ? m->config.spec->nic_model : "virtio",
			.boot_index = place ? place + (int)i : 0,
		};
	}
	m->config.nics = m->nics;
}

int machine_link(const struct msg_instance_create *r, const struct container_state *c, struct error *err) {
	const nics *list = &r->instance.nics;
	if (!str_same(r->instance.spec.network, "private") || !list->n)
		return 0;
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/ns/net", c->pid);
	_cleanup_(close_fd) int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0 || !container_state_alive(c))
		return error_set(err, ERROR_INTERNAL, "the first process ended before its networks were there");
	int result = 0;
	for (size_t i = 0; result == 0 && i < list->n; i++) {
		_cleanup_(free_ptr) char *tap = machine_tap_name(&list->items[i]);
		result = network_tap(netns, list->items[i].interface, tap, (uint32_t)r->instance.uid_base, err);
	}
	return result;
}

/* --- the whole --- */

/* As RFC 9562 has it, version 4. */
char *machine_uuid(const char *id) {
	return str_format("%.8s-%.4s-4%.3s-8%.3s-%.12s", id, id + 8, id + 13, id + 17, id + 20);
}

static int64_t processors(const struct instance_spec *s) {
	const struct machine_spec *m = &s->machine;
	if (m->sockets || m->cores || m->threads)
		return MAX(m->sockets, 1) * MAX(m->cores, 1) * MAX(m->threads, 1);
	return MAX((s->limits.cpus + 999999999) / 1000000000, 1);
}

void machine_size(const struct instance_spec *spec, int64_t *cpus, int64_t *memory) {
	*cpus = processors(spec);
	*memory = spec->limits.memory ? spec->limits.memory / MIB * MIB : machine_numa_memory(&spec->machine);
	*memory = *memory ? *memory : MEMORY_DEFAULT;
}

static int describe(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	struct machine_config *c = &m->config;
	c->spec = &spec->machine;
	c->name = spec->name;
	c->uuid = machine_keep(m, machine_uuid(r->instance.id));
	machine_size(spec, &c->cpus, &c->memory);
	c->tty = spec->tty;
	return accel_choose(c->spec, &a->accel, &c->kvm, err);
}

/* The guest's memory, and what QEMU itself takes, which is not the guest's to know. */
static int limit(const struct msg_instance_create *r, const struct machine_config *m, struct cgroup_limits *out, struct error *err) {
	struct limits l = r->instance.spec.limits;
	l.memory = m->memory + machine_overhead(m);
	l.memory_swap = 0;
	return limits_to_cgroup(&l, out, err);
}

int machine_limits(const struct agent *a, const struct msg_instance_create *r, struct cgroup_limits *out, struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	struct machine_config c = {.spec = &spec->machine, .n_disks = 1 + r->instance.volumes.n + r->media.n, .n_shares = guest_is(r)};
	machine_size(spec, &c.cpus, &c.memory);
	int result = accel_choose(c.spec, &a->accel, &c.kvm, err);
	return result < 0 ? result : limit(r, &c, out, err);
}

int machine_build(const struct job *j, const struct msg_instance_create *r, const char *root, const struct volume_mounts *volumes,
		  struct machine_start *m, struct container_config *c, struct error *err) {
	const struct agent *a = j->agent;
	container_config_init(c);
	c->id = str_copy(r->instance.id);
	c->cgroup.path = str_format("%s/%s", a->cgroup, r->instance.id);
	config_maps(r, c);
	int result = describe(a, r, m, err);
	if (result == 0)
		result = add_media(a, r, m, err);
	if (result == 0)
		result = machine_firmware(a, r, m, c, err);
	if (result == 0)
		result = machine_usb_open(m, err);
	if (result == 0)
		result = machine_vsock_open(a, r, m, err);
	if (result == 0)
		result = machine_pci_take(a, j->id, m, err);
	if (result == 0)
		result = guest_is(r) ? guest_build(j, r, root, volumes, m, c, err) : add_disks(root, volumes, m, err);
	if (result == 0)
		result = add_seed(a, r, m, err);
	if (result == 0)
		result = open_sockets(j, m, err);
	if (result < 0)
		return result;
	add_nics(r, m);
	_cleanup_(free_ptr) char *skeleton = str_format("%s/machine-root", a->dir);
	result = machine_skeleton(skeleton, err);
	if (result == 0)
		result = machine_check(&m->config, err);
	if (result == 0)
		result = memory_prepare(j, r, m, err);
	if (result == 0)
		result = machine_args(&m->config, &c->process.args, &m->pass, &m->n_pass, err);
	if (result == 0)
		result = machine_confine(&m->config, skeleton, c, err);
	return result < 0 ? result : limit(r, &m->config, &c->cgroup.limits, err);
}

/* --- while it runs --- */

int machine_monitor(const struct agent *a, const char *id, int64_t deadline, struct qmp **q, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(a, id, NULL);
	return qmp_open(dir, "qmp", deadline, q, err);
}

int machine_call(const struct agent *a, const char *id, const char *name, json_t **ret, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int r = machine_monitor(a, id, time_mono_ns() + QMP_WAIT, &q, err);
	return r < 0 ? r : qmp_call(q, name, NULL, -1, time_mono_ns() + QMP_WAIT, ret, err);
}

int machine_power_down(const struct agent *a, const char *id, struct error *err) {
	if (machine_guest_shutdown(a, id))
		return 0;
	return machine_call(a, id, "system_powerdown", NULL, err);
}

int machine_pause(const struct agent *a, const char *id, bool on, struct error *err) {
	return machine_call(a, id, on ? "stop" : "cont", NULL, err);
}

int work_machine_resume(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(json_free_ptr) json_t *status = NULL;
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = machine_call(j->agent, j->id, "query-status", &status, err);
	return r == 0 && str_same(json_get_str(status, "status"), "io-error") ? machine_pause(j->agent, j->id, false, err) : r;
}
