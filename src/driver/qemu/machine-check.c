/* Whether a machine can be had: what QEMU would only say in its own words, or after it has started. */
#include "driver/qemu/machine-priv.h"

#include "base/fs.h"

#include <ctype.h>

#define MEMORY_MIN (INT64_C(8) << 20)
#define MEMORY_STEP (INT64_C(2) << 20) /* of virtio-mem */
#define CPUS_MAX 255
#define SATA_PLACES 6
#define IDE_PLACES 4
#define SERIAL_MAX 20

bool machine_is(const struct machine_config *m, const char *chipset) {
	return str_same(m->spec->chipset ? m->spec->chipset : "q35", chipset);
}

const char *disk_bus(const struct machine_config *m, const struct machine_disk *d) {
	const char *bus = d->bus ? d->bus : "virtio";
	if (!d->cdrom || (strcmp(bus, "virtio") != 0 && strcmp(bus, "nvme") != 0))
		return bus;
	return machine_is(m, "q35") ? "sata" : machine_is(m, "pc") ? "ide" : "scsi";
}

const char *machine_firmware_vars(const struct machine_spec *spec) {
	if (!str_same(spec->firmware, "uefi"))
		return NULL;
	return spec->secure_boot ? OVMF_VARS_SECURE : OVMF_VARS;
}

int64_t machine_cpus_max(const struct machine_config *m) {
	const struct machine_spec *s = m->spec;
	int64_t each = MAX(s->cores, 1) * MAX(s->threads, 1), most = MAX(MAX(s->cpus_max, m->cpus), s->sockets * each);
	return (most + each - 1) / each * each;
}

static int unsupported(struct error *err, const char *field, const char *text) {
	error_set(err, ERROR_UNSUPPORTED, "%s", text);
	error_in_field(err, field);
	return -ERROR_UNSUPPORTED;
}

static int check_size(const struct machine_config *m, struct error *err) {
	const struct machine_spec *s = m->spec;
	if (m->memory < MEMORY_MIN || m->memory % (1 << 20))
		return error_field(err, "spec.limits.memory", "a machine has at least 8 MiB of memory, in whole MiB");
	if (m->cpus < 1 || m->cpus > CPUS_MAX)
		return error_field(err, "spec.limits.cpus", "a machine has between 1 and %d processors", CPUS_MAX);
	int64_t product = MAX(s->sockets, 1) * MAX(s->cores, 1) * MAX(s->threads, 1), most = machine_cpus_max(m);
	if (s->sockets && product < m->cpus)
		return error_field(err, "spec.machine.sockets", "%lld processors do not fit on sockets, cores and threads for %lld",
				   (long long)m->cpus, (long long)product);
	if (most > CPUS_MAX)
		return error_field(err, "spec.machine.sockets", "sockets, cores and threads make %lld processors, and %d are the most",
				   (long long)most, CPUS_MAX);
	if (s->memory_max && (s->memory_max % MEMORY_STEP || m->memory % MEMORY_STEP || s->memory_max < m->memory))
		return error_field(err, "spec.machine.memory_max", "and the memory are multiples of %d MiB, and not less than the memory",
				   (int)(MEMORY_STEP >> 20));
	return 0;
}

static int64_t pages(int64_t size, const char *what) {
	_cleanup_(free_ptr) char *path = str_format("/sys/kernel/mm/hugepages/hugepages-%lldkB/%s", (long long)(size >> 10), what);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read(path, 64, &text) < 0 ? -1 : strtoll(buf_str(&text), NULL, 10);
}

/* Else QEMU would end, or the guest be killed at its first write. */
static int check_hugepages(const struct machine_config *m, struct error *err) {
	int64_t size = machine_hugepage(m->spec);
	if (!size)
		return 0;
	if (m->memory % size)
		return error_field(err, "spec.limits.memory", "is to be a multiple of the %lld MiB of a huge page", (long long)(size >> 20));
	int64_t there = pages(size, "free_hugepages"), more = pages(size, "nr_overcommit_hugepages") - pages(size, "surplus_hugepages");
	if (there < 0)
		return unsupported(err, "spec.machine.hugepages", "this host has no huge pages of that size");
	there += MAX(more, 0) - pages(size, "resv_hugepages");
	if (there >= m->memory / size)
		return 0;
	error_set(err, ERROR_NO_SPACE, "the machine takes %lld huge pages of %lld MiB, and the host has %lld free ones (sysctl vm.nr_hugepages)",
		  (long long)(m->memory / size), (long long)(size >> 20), (long long)there);
	error_in_field(err, "spec.machine.hugepages");
	return -ERROR_NO_SPACE;
}

static int check_firmware(const struct machine_config *m, struct error *err) {
	const struct machine_spec *s = m->spec;
	if (s->secure_boot && !machine_is(m, "q35"))
		return error_field(err, "spec.machine.secure_boot", "needs chipset q35");
	if (!str_same(s->firmware, "uefi"))
		return 0;
	if (!fs_exists(s->secure_boot ? OVMF_CODE_SECURE : OVMF_CODE) || !fs_exists(machine_firmware_vars(s)))
		return unsupported(err, "spec.machine.firmware", "uefi needs OVMF, which is not installed on this host (package ovmf)");
	return m->vars_fd < 0 ? error_set(err, ERROR_INTERNAL, "the variables of the firmware are missing") : 0;
}

static int check_companions(const struct machine_config *m, struct error *err) {
	if (m->spec->tpm && !fs_exists(SWTPM))
		return unsupported(err, "spec.machine.tpm", "a TPM needs swtpm, which is not installed on this host (package swtpm)");
	if (m->n_shares && !fs_exists(VIRTIOFSD))
		return unsupported(err, "spec.mounts", "directories in a machine need virtiofsd, which is not installed on this "
				   "host (package qemu-system-common)");
	if (m->spec->tpm && !m->tpm_dir)
		return error_set(err, ERROR_INTERNAL, "the TPM has no directory for its state");
	if ((m->spec->tpm || m->n_shares) && !m->launcher)
		return error_set(err, ERROR_INTERNAL, "wabe-machine is missing");
	return 0;
}

static bool is_id(const char *id) {
	bool good = id && islower((unsigned char)id[0]);
	for (const char *p = id; good && *p; p++)
		good = islower((unsigned char)*p) || isdigit((unsigned char)*p);
	return good;
}

static int check_bus(const struct machine_config *m, const char *bus, struct error *err) {
	if (!strcmp(bus, "sata") && !machine_is(m, "q35"))
		return error_field(err, "spec.machine.disk_bus", "sata is on chipset q35 alone");
	if (!strcmp(bus, "ide") && !machine_is(m, "pc"))
		return error_field(err, "spec.machine.disk_bus", "ide is on chipset pc alone");
	if (!strcmp(bus, "nvme") && machine_is(m, "microvm"))
		return error_field(err, "spec.machine.disk_bus", "chipset microvm has no nvme");
	if (!strcmp(bus, "floppy") && machine_is(m, "microvm"))
		return error_field(err, "spec.machine.floppy", "chipset microvm has no drive for floppies");
	return 0;
}

static int check_disk(const struct machine_config *m, const struct machine_disk *d, struct error *err) {
	if (!is_id(d->id))
		return error_set(err, ERROR_INTERNAL, "\"%s\" is no id of a disk", d->id ? d->id : "");
	if (d->fd < 0 && !d->cdrom && !str_same(d->bus, "floppy"))
		return error_set(err, ERROR_INTERNAL, "the disk %s is missing", d->id);
	if (d->fd >= 0 && !str_same(d->format, "raw") && !str_same(d->format, "qcow2"))
		return error_field(err, "spec.disks", "%s is no format of a disk: raw or qcow2", d->format ? d->format : "nothing");
	if (d->serial && strlen(d->serial) > SERIAL_MAX)
		return error_field(err, "spec.disks", "\"%s\" is longer than the %d characters of a serial number", d->serial, SERIAL_MAX);
	return check_bus(m, disk_bus(m, d), err);
}

static int check_disks(const struct machine_config *m, struct error *err) {
	size_t sata = 0, ide = 0;
	if (m->n_disks + m->n_nics > PORTS_MAX - PORTS_FREE)
		return error_field(err, "spec.mounts", "a machine has room for %d disks and network cards together", PORTS_MAX - PORTS_FREE);
	for (size_t i = 0; i < m->n_disks; i++) {
		int r = check_disk(m, &m->disks[i], err);
		if (r < 0)
			return r;
		sata += !strcmp(disk_bus(m, &m->disks[i]), "sata");
		ide += !strcmp(disk_bus(m, &m->disks[i]), "ide");
	}
	if (sata > SATA_PLACES || ide > IDE_PLACES)
		return error_field(err, "spec.machine.disk_bus", "there are %d places for disks and drives on sata, %d on ide", SATA_PLACES,
				   IDE_PLACES);
	return 0;
}

static int check_chipset(const struct machine_config *m, struct error *err) {
	static const char *const names[] = {"q35", "pc", "microvm", NULL};
	const struct machine_spec *s = m->spec;
	if (s->chipset && !strv_has((char *const *)names, s->chipset))
		return error_field(err, "spec.machine.chipset", "\"%s\" is none of q35, pc, microvm", s->chipset);
	if (!machine_is(m, "microvm"))
		return 0;
	if (m->kernel_fd >= 0 && !m->kvm)
		return unsupported(err, "spec.machine.chipset", "microvm starts a kernel under KVM alone: the translator gives it no "
				   "clock that Linux could measure its time by; take q35");
	bool more = str_same(s->firmware, "uefi") || s->tpm || s->usb || s->audio || s->numa.n || s->usb_devices || s->usb_redirects || s->pci ||
		    (s->video && strcmp(s->video, "none") != 0) ||
		    (s->watchdog && strcmp(s->watchdog, "none") != 0) || (s->nic_model && strcmp(s->nic_model, "virtio") != 0);
	return more ? error_field(err, "spec.machine.chipset", "microvm has no other devices than virtio's") : 0;
}

int machine_check(const struct machine_config *m, struct error *err) {
	int r = check_chipset(m, err);
	if (r == 0)
		r = check_size(m, err);
	if (r == 0)
		r = numa_check(m, err);
	if (r == 0)
		r = check_hugepages(m, err);
	if (r == 0)
		r = check_firmware(m, err);
	if (r == 0)
		r = check_companions(m, err);
	return r < 0 ? r : check_disks(m, err);
}
