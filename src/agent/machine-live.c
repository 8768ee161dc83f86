/* Changes of a machine that runs: what QEMU has is brought in line with what is wanted, by comparing the two, so that what a crash has
 * cut off is finished or undone by the same again. The callers have the instance's lock, unless it is said. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/network/network.h"
#include "driver/qemu/live.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_WAIT (60 * NS_PER_SEC) /* for all that is asked of QEMU; the guest has its own time */

static int connect_to(const struct agent *a, const char *id, struct qmp **q, int64_t *deadline, struct error *err) {
	*deadline = time_mono_ns() + ANSWER_WAIT;
	return machine_monitor(a, id, *deadline, q, err);
}

/* Another start would not give the same machine: its memory is not to be saved. Before the change, so that a crash does not matter. */
void machine_mark_changed(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, CHANGED_FILE);
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		log_warn("machine %.12s: cannot make %s: %s", id, path, strerror(errno));
}

bool machine_is_changed(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, CHANGED_FILE);
	return fs_exists(path);
}

/* --- processors and memory --- */

/* What was not to change is looked at all the same, for a crash may have left it changed; that it stays so is no failure, nor
 * that QEMU has just ended. */
static int change_size(const struct agent *a, const struct msg_instance_create *old, const struct msg_instance_create *new, bool back,
		       struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int64_t deadline, cpus, memory, had_cpus, had_memory;
	machine_size(&old->instance.spec, &had_cpus, &had_memory);
	machine_size(&new->instance.spec, &cpus, &memory);
	bool same = cpus == had_cpus && memory == had_memory;
	if (memory != had_memory && machine_hugepage(&new->instance.spec.machine))
		return error_field(err, "spec.limits.memory", "memory of huge pages stays as it is while the machine runs: stop it first");
	int r = connect_to(a, new->instance.id, &q, &deadline, same ? NULL : err);
	if (r < 0)
		return same ? 0 : r;
	if (!same)
		machine_mark_changed(a, new->instance.id);
	bool must = cpus != had_cpus && !back;
	r = live_cpus(q, cpus, deadline, must ? err : NULL);
	if (cpus != had_cpus)
		fault_point("live.cpus");
	if (r < 0 && must)
		return r;
	r = live_memory(q, memory, deadline, memory == had_memory ? NULL : err);
	if (memory != had_memory)
		fault_point("live.memory");
	return memory == had_memory ? 0 : r;
}

/* Those that have come run where they are to run, too. */
static int change_pins(const struct agent *a, const struct msg_instance_create *old, const struct msg_instance_create *new,
		       const struct run_state *run, struct error *err) {
	return old->instance.spec.machine.pin || new->instance.spec.machine.pin ? machine_pin(a, new, run, err) : 0;
}

int machine_update(const struct agent *a, const struct msg_instance_create *old, const struct instance_spec *spec, bool back,
		   const struct run_state *run, struct error *err) {
	const struct cgroup_state *group = &run->container.cgroup;
	struct msg_instance_create new = *old;
	_cleanup_(cgroup_config_free) struct cgroup_config before = {0};
	_cleanup_(cgroup_config_free) struct cgroup_config after = {0};
	new.instance.spec = *spec;
	int r = machine_limits(a, old, &before.limits, err);
	if (r == 0)
		r = machine_limits(a, &new, &after.limits, err);
	if (r < 0)
		return r;
	bool grows = after.limits.memory > before.limits.memory;
	if (grows) /* room before it is used */
		r = cgroup_update(group, &after.limits, err);
	if (r == 0)
		r = change_size(a, old, &new, back, err);
	if (r == 0)
		r = cgroup_update(group, &after.limits, err);
	if (r == 0)
		r = change_pins(a, old, &new, run, err);
	if (r < 0) {
		change_size(a, old, old, true, NULL);
		cgroup_update(group, &before.limits, NULL);
		change_pins(a, &new, old, run, NULL);
	}
	return r;
}

/* The translator keeps processors that are too many: the next change finds them. */
void machine_size_recover(const struct agent *a, const struct msg_instance_create *r, const struct run_state *run) {
	_cleanup_(cgroup_config_free) struct cgroup_config limits = {0};
	if (!machine_is_changed(a, r->instance.id) || change_size(a, r, r, true, NULL) < 0)
		return;
	if (machine_limits(a, r, &limits.limits, NULL) == 0)
		cgroup_update(&run->container.cgroup, &limits.limits, NULL);
}

/* --- disks --- */

char *machine_disk_id(const char *volume) {
	return volume ? str_format("volume%.12s", volume) : str_copy("root");
}

int machine_disk_attach(const struct agent *a, const struct msg_instance_create *r, const struct volume_mount *v, bool read_only,
			struct error *err) {
	const struct instance *i = &r->instance;
	if (guest_is(r))
		return error_set(err, ERROR_UNSUPPORTED, "a machine of a container's image takes no volume while it runs: attach it when it is stopped");
	if (!v->block)
		return error_set(err, ERROR_UNSUPPORTED, "a machine takes block volumes, and this one is a file system");
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(free_ptr) char *id = machine_disk_id(v->id);
	_cleanup_(close_fd) int fd = open(v->node, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	const struct machine_disk d = {.id = id, .fd = fd, .format = "raw", .bus = i->spec.machine.disk_bus, .serial = id, .read_only = read_only};
	int64_t deadline;
	if (fd < 0)
		return error_errno(err, errno, "cannot open the disk %s", v->node);
	int result = connect_to(a, i->id, &q, &deadline, err);
	if (result == 0)
		machine_mark_changed(a, i->id);
	if (result == 0)
		result = live_disk_add(q, &i->spec.machine, &d, deadline, err);
	fault_point("live.disk");
	return result;
}

int machine_disk_detach(const struct agent *a, const char *instance, const char *volume, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(free_ptr) char *id = machine_disk_id(volume);
	int64_t deadline;
	int r = connect_to(a, instance, &q, &deadline, err);
	if (r == 0)
		r = live_jobs_none(q, deadline, err);
	if (r == 0)
		machine_mark_changed(a, instance);
	if (r == 0)
		r = live_disk_remove(q, id, deadline, err);
	fault_point("live.unplugged");
	return r;
}

int machine_disk_resized(const struct agent *a, const char *instance, const char *volume, int64_t size, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(free_ptr) char *id = machine_disk_id(volume);
	int64_t deadline;
	int r = connect_to(a, instance, &q, &deadline, err);
	return r < 0 ? r : live_disk_resize(q, id, size, deadline, err);
}

void machine_volume_resized(const struct agent *a, const char *volume, int64_t size) {
	_cleanup_(strv_free_ptr) char **users = volume_users(a, volume, NULL);
	for (char **u = users; u && *u; u++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(record_free) struct msg_instance_create r = {0};
		if (record_load(a, *u, &r, NULL) < 0 || !instance_is_machine(&r.instance.spec))
			continue;
		if (machine_disk_resized(a, *u, volume, size, &err) < 0)
			log_warn("machine %.12s sees the new size of volume %.12s from its next start on: %s", *u, volume, error_text(&err));
	}
}

/* --- network cards --- */

static const struct nic *nic_of(const nics *list, const char *id) {
	for (size_t i = 0; i < list->n; i++) {
		_cleanup_(free_ptr) char *its = machine_nic_id(&list->items[i]);
		if (str_same(its, id))
			return &list->items[i];
	}
	return NULL;
}

/* The tap device ends with its name space; until then it leads nowhere. */
int machine_nics_remove(const struct agent *a, const struct msg_instance_create *r, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(strv_free_ptr) char **ids = NULL;
	int64_t deadline;
	int result = connect_to(a, r->instance.id, &q, &deadline, err);
	if (result == 0)
		result = live_list(q, "nic", deadline, &ids, err);
	for (char **id = ids; result == 0 && id && *id; id++) {
		if (nic_of(&r->instance.nics, *id))
			continue;
		machine_mark_changed(a, r->instance.id);
		result = live_nic_remove(q, *id, deadline, err);
		fault_point("live.nic.unplugged");
	}
	return result;
}

int machine_nics_add(const struct agent *a, const struct msg_instance_create *r, const struct container_state *c, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(strv_free_ptr) char **ids = NULL;
	int64_t deadline;
	int result = machine_link(r, c, err);
	if (result == 0)
		result = connect_to(a, r->instance.id, &q, &deadline, err);
	if (result == 0)
		result = live_list(q, "nic", deadline, &ids, err);
	for (size_t i = 0; result == 0 && i < r->instance.nics.n; i++) {
		const struct nic *n = &r->instance.nics.items[i];
		_cleanup_(free_ptr) char *id = machine_nic_id(n), *tap = machine_tap_name(n);
		const struct machine_nic card = {.id = id, .tap = tap, .mac = n->mac, .model = r->instance.spec.machine.nic_model};
		if (!strv_has(ids, id))
			machine_mark_changed(a, r->instance.id);
		result = live_nic_add(q, &r->instance.spec.machine, &card, deadline, err);
		fault_point("live.nic");
	}
	return result;
}

/* --- drives --- */

/* The file that comes for a drive, or -1. */
static int coming(const struct job *j, const media *list, const char *name) {
	for (size_t i = 0; i < list->n && i < j->nfds; i++)
		if (str_same(list->items[i].name, name))
			return j->fds[i];
	return -1;
}

static bool same_file(int a, int b) {
	struct stat one, other;
	return (a < 0 && b < 0) || (a >= 0 && b >= 0 && fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
				    one.st_ino == other.st_ino);
}

struct drive {
	const char *id, *field; /* of the spec */
	int has, comes;
	bool changes, changed;
};

static int look_at_drives(const struct job *j, const struct msg_instance_create *r, const media *list, struct drive *d, size_t n,
			  struct error *err) {
	for (size_t i = 0; i < n; i++) {
		int opened = media_open(j->agent, r, d[i].id, err);
		if (opened < 0 && opened != MEDIUM_NONE)
			return opened;
		d[i].has = opened == MEDIUM_NONE ? -1 : opened;
		d[i].comes = coming(j, list, d[i].id);
		d[i].changes = !same_file(d[i].has, d[i].comes);
	}
	return 0;
}

/* All drives are there before the first changes; what a guest refuses takes the others back with it. */
static int change_drives(struct qmp *q, struct drive *d, size_t n, int64_t deadline, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		int there = d[i].changes ? live_has(q, d[i].id, deadline, err) : 1;
		if (there == 0)
			r = error_field(err, d[i].field, "the machine has no drive %s until its next start", d[i].id);
		else
			r = MIN(there, 0);
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = d[i].changes ? live_medium(q, d[i].id, d[i].comes, deadline, err) : 0;
		fault_point("live.medium");
		d[i].changed = r == 0 && d[i].changes;
	}
	for (size_t i = 0; r < 0 && i < n; i++)
		if (d[i].changed)
			live_medium(q, d[i].id, d[i].has, deadline, NULL);
	return r;
}

int machine_media_change(const struct job *j, const struct msg_instance_create *r, const media *list, struct error *err) {
	struct drive drives[] = {{.id = "cdrom0", .field = "machine.cdroms"}, {.id = "cdrom1", .field = "machine.cdroms"},
				 {.id = "cdrom2", .field = "machine.cdroms"}, {.id = "cdrom3", .field = "machine.cdroms"},
				 {.id = "floppy0", .field = "machine.floppy"}};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	bool any = false;
	int64_t deadline;
	for (size_t i = 0; i < ARRAY_SIZE(drives); i++)
		drives[i].has = drives[i].comes = -1;
	int result = look_at_drives(j, r, list, drives, ARRAY_SIZE(drives), err);
	for (size_t i = 0; i < ARRAY_SIZE(drives); i++)
		any |= drives[i].changes;
	if (result == 0 && any)
		result = connect_to(j->agent, r->instance.id, &q, &deadline, err);
	if (result == 0 && any)
		result = change_drives(q, drives, ARRAY_SIZE(drives), deadline, err);
	for (size_t i = 0; i < ARRAY_SIZE(drives); i++)
		close_fd(&drives[i].has);
	return result;
}
