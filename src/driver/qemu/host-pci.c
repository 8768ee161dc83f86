/* PCI devices of the host (/sys/bus/pci), which a machine can have where an IOMMU keeps what they do to memory to the guest's: as whole
 * groups, with vfio-pci as their driver. Kernel documentation: driver-api/vfio.rst, ABI/testing/sysfs-bus-pci. */
#include "driver/qemu/host-devices.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#define DRIVER "vfio-pci"

static char *device_path(const char *address, const char *name) {
	return str_format("devices/%s/%s", address, name);
}

/* The last name of what a link of the device leads to; NULL: there is none. */
static char *link_name(int sysfs, const char *address, const char *name) {
	_cleanup_(free_ptr) char *path = device_path(address, name);
	char target[PATH_MAX];
	ssize_t n = readlinkat(sysfs, path, target, sizeof target - 1);
	if (n < 0)
		return NULL;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	return str_copy(slash ? slash + 1 : target);
}

static int write_to(int sysfs, const char *address, const char *name, const char *value) {
	_cleanup_(free_ptr) char *path = device_path(address, name);
	return fs_write_value_at(sysfs, path, value);
}

int host_pci_group(int sysfs, const char *address, char **group, struct error *err) {
	_cleanup_(free_ptr) char *path = device_path(address, "");
	if (faccessat(sysfs, path, F_OK, 0) < 0)
		return error_set(err, ERROR_NOT_FOUND, "the host has no PCI device %s (lspci -D lists those that it has)", address);
	*group = link_name(sysfs, address, "iommu_group");
	if (*group)
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "PCI device %s is in no group of an IOMMU: this host has none, or does not use it (switch VT-d or "
			 "AMD-Vi on in its firmware; Intel's needs intel_iommu=on on the kernel's command line)", address);
}

bool host_pci_is_free(int sysfs, const char *address) {
	_cleanup_(free_ptr) char *driver = link_name(sysfs, address, "driver");
	return str_same(driver, DRIVER);
}

static bool is_bridge(int sysfs, const char *address) {
	_cleanup_(free_ptr) char *path = device_path(address, "class");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read_at(sysfs, path, 64, &text) == 0 && str_starts(buf_str(&text), "0x06");
}

int host_pci_check(int sysfs, const char *address, char *const *wanted, struct error *err) {
	_cleanup_(free_ptr) char *path = device_path(address, "iommu_group/devices"), *group = link_name(sysfs, address, "iommu_group");
	_cleanup_(close_fd) int dir = openat(sysfs, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **members = NULL;
	int r = dir < 0 ? -errno : fs_names(dir, &members);
	if (r < 0)
		return error_errno(err, r, "cannot list the group of PCI device %s", address);
	for (char **m = members; m && *m; m++) {
		_cleanup_(free_ptr) char *driver = link_name(sysfs, *m, "driver");
		if (strv_has(wanted, *m) || !driver || str_same(driver, DRIVER) || is_bridge(sysfs, *m))
			continue;
		return error_set(err, ERROR_CONFLICT, "PCI device %s is in one IOMMU group (%s) with %s, which the host uses (driver %s): give the "
				 "machine that as well, or take it from its driver", address, group ? group : "", *m, driver);
	}
	return 0;
}

/* Whichever driver it has now, another is looked for. */
static int probe(int sysfs, const char *address, const char *override) {
	int r = write_to(sysfs, address, "driver_override", override);
	int left = write_to(sysfs, address, "driver/unbind", address);
	if (r == 0 && left < 0 && left != -ENOENT)
		r = left;
	return r < 0 ? r : fs_write_value_at(sysfs, "drivers_probe", address);
}

int host_pci_take(int sysfs, const char *address, struct error *err) {
	int r = probe(sysfs, address, DRIVER);
	if (r == 0 && host_pci_is_free(sysfs, address))
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "PCI device %s does not get the driver vfio-pci%s%s: is its module loaded (modprobe vfio-pci)?",
			 address, r < 0 ? ": " : "", r < 0 ? strerror(-r) : "");
}

int host_pci_give_back(int sysfs, const char *address, struct error *err) {
	int r = probe(sysfs, address, "\n");
	return r < 0 && r != -ENOENT ? error_errno(err, r, "PCI device %s does not get its driver back", address) : 0;
}
