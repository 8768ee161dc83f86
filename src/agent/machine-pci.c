/* PCI devices of the host in a machine. Which ones a run has, and which of them had another driver before, stands in its run directory
 * before anything is changed: whoever puts the run away gives them back. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "driver/qemu/host-devices.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define PCI "/sys/bus/pci"
#define GROUPS "/dev/vfio"
#define FILE_NAME "pci" /* a line for each device: "+" and its address, or "=" where vfio-pci had it already */
#define FILE_MAX 4096

static int open_sysfs(void) {
	return open(PCI, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int find_groups(int sysfs, struct machine_start *m, struct error *err) {
	char *const *wanted = m->config.spec->pci;
	int r = 0;
	for (size_t i = 0; r == 0 && wanted[i]; i++) {
		char *group = NULL;
		r = host_pci_group(sysfs, wanted[i], &group, err);
		if (r == 0)
			strv_take(&m->pci_groups, group);
		if (r == 0)
			r = host_pci_check(sysfs, wanted[i], wanted, err);
	}
	m->config.pci_groups = m->pci_groups;
	return r;
}

/* --- whose they are: with the directory of all runs locked --- */

static bool has(const struct agent *a, const char *id, const char *address) {
	_cleanup_(free_ptr) char *path = run_path(a, id, FILE_NAME);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read(path, FILE_MAX, &text) == 0 && strstr(buf_str(&text), address);
}

static int check_others(const struct agent *a, const char *id, int shims, char *const *wanted, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = NULL;
	int r = fs_names(shims, &ids);
	if (r < 0)
		return error_errno(err, r, "cannot list %s", a->shims);
	for (char **other = ids; other && *other; other++)
		for (char *const *w = wanted; !str_same(*other, id) && *w; w++)
			if (has(a, *other, *w))
				return error_set(err, ERROR_CONFLICT, "machine %.12s has the PCI device %s", *other, *w);
	return 0;
}

static int mark(const struct agent *a, const char *id, int sysfs, char *const *wanted, struct error *err) {
	_cleanup_(close_fd) int shims = open(a->shims, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(free_ptr) char *path = run_path(a, id, FILE_NAME);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = shims < 0 ? -errno : lock_file(shims, LOCK_EX, LOCK_WAIT);
	if (r < 0)
		return error_errno(err, r, "cannot lock %s", a->shims);
	r = check_others(a, id, shims, wanted, err);
	for (char *const *w = wanted; *w; w++)
		buf_addf(&text, "%c%s\n", host_pci_is_free(sysfs, *w) ? '=' : '+', *w);
	if (r == 0 && (r = file_replace(path, text.data, text.len, 0600)) < 0)
		r = error_errno(err, r, "cannot write %s", path);
	fault_point("pci.marked");
	return r;
}

/* --- the whole --- */

static int check_group(const char *group, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format(GROUPS "/%s", group);
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return error_set(err, ERROR_CONFLICT, "another program of this host uses the devices of IOMMU group %s", group);
	return fd < 0 ? error_errno(err, errno, "cannot open %s", path) : 0;
}

static int take_all(const struct agent *a, const char *id, int sysfs, struct machine_start *m, struct error *err) {
	char *const *wanted = m->config.spec->pci;
	int r = find_groups(sysfs, m, err);
	if (r == 0)
		r = mark(a, id, sysfs, wanted, err);
	for (char *const *w = wanted; r == 0 && *w; w++)
		if (!host_pci_is_free(sysfs, *w))
			r = host_pci_take(sysfs, *w, err);
	fault_point("pci.taken");
	for (char **g = m->pci_groups; r == 0 && g && *g; g++)
		r = check_group(*g, err);
	return r;
}

int machine_pci_take(const struct agent *a, const char *id, struct machine_start *m, struct error *err) {
	if (!m->config.spec->pci || !*m->config.spec->pci)
		return 0;
	_cleanup_(close_fd) int sysfs = open_sysfs();
	int r = sysfs < 0 ? error_set(err, ERROR_UNSUPPORTED, "this host has no PCI (%s)", PCI) : take_all(a, id, sysfs, m, err);
	if (r < 0)
		error_in_field(err, "spec.machine.pci");
	return r;
}

void machine_pci_give_back(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, FILE_NAME);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, FILE_MAX, &text) < 0)
		return;
	_cleanup_(close_fd) int sysfs = open_sysfs();
	for (struct str rest = str_view(buf_str(&text)); rest.len;) {
		struct str line = str_cut(&rest, '\n');
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *address = str_copyn(line.p, line.len);
		if (address[0] == '+' && host_pci_give_back(sysfs, address + 1, &err) < 0)
			log_warn("machine %.12s: %s", id, error_text(&err));
	}
	fault_point("pci.given_back");
	unlink(path);
}
