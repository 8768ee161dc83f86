/* USB devices of the host, as its kernel lists them (/sys/bus/usb/devices): "1-4.2" is a device, with its place, "1-4.2:1.0" an interface,
 * "usb1" a bus. */
#include "driver/qemu/host-devices.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>

#define CLASS_HUB 9

/* A file of a device as a number, or -1. */
static int64_t number_at(int device, const char *name, int base) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	uint64_t value;
	if (fs_read_at(device, name, 64, &text) < 0)
		return -1;
	_cleanup_(free_ptr) char *word = str_copyn(buf_str(&text), strcspn(buf_str(&text), "\n"));
	return str_to_u64(word, base, &value) < 0 || value > UINT32_MAX ? -1 : (int64_t)value;
}

static bool is_wanted(int device, const char *name, const char *wanted) {
	if (!strchr(wanted, ':'))
		return strcmp(name, wanted) == 0;
	_cleanup_(free_ptr) char *model = str_format("%04llx:%04llx", (long long)number_at(device, "idVendor", 16),
						     (long long)number_at(device, "idProduct", 16));
	return strcasecmp(model, wanted) == 0;
}

int host_usb_find(int sysfs, const char *wanted, char ***nodes, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	bool hub = false;
	*nodes = NULL;
	int r = sysfs < 0 ? 0 : fs_names(sysfs, &names);
	if (r < 0)
		return error_errno(err, r, "cannot list the host's USB devices");
	for (char **n = names; n && *n; n++) {
		_cleanup_(close_fd) int device = openat(sysfs, *n, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (device < 0 || strchr(*n, ':') || str_starts(*n, "usb") || !is_wanted(device, *n, wanted))
			continue;
		int64_t bus = number_at(device, "busnum", 10), number = number_at(device, "devnum", 10);
		hub |= number_at(device, "bDeviceClass", 16) == CLASS_HUB;
		if (!hub && bus > 0 && number > 0)
			strv_take(nodes, str_format("%03lld/%03lld", (long long)bus, (long long)number));
	}
	if (*nodes)
		return 0;
	if (hub)
		return error_set(err, ERROR_UNSUPPORTED, "USB device %s of the host is a hub: name what is plugged into it", wanted);
	return error_set(err, ERROR_NOT_FOUND, "the host has no USB device %s%s", wanted, names && *names ? "" : ", nor any other one");
}
