/* USB of a machine: devices of the host, opened here and lent to QEMU, and those that come as a stream of usbredir, whose other end QEMU
 * gets over QMP. */
#include "agent/machine-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/host-devices.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define USB_DEVICES "/sys/bus/usb/devices"
#define USB_NODES "/dev/bus/usb"
#define ANSWER_WAIT (10 * NS_PER_SEC)

/* --- the host's --- */

/* QEMU's as long as QEMU has it open: the lock goes along. */
static int open_free(char *const *nodes, const char *wanted, struct error *err) {
	int last = 0;
	for (char *const *n = nodes; *n; n++) {
		_cleanup_(free_ptr) char *path = str_format(USB_NODES "/%s", *n);
		_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			return TAKE_FD(fd);
		last = errno;
	}
	return last == EWOULDBLOCK ? error_set(err, ERROR_CONFLICT, "another machine has the USB device %s", wanted)
				   : error_errno(err, last, "cannot open the USB device %s", wanted);
}

int machine_usb_open(struct machine_start *m, struct error *err) {
	char *const *wanted = m->config.spec->usb_devices;
	_cleanup_(close_fd) int sysfs = open(USB_DEVICES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m->usb_fds = alloc_array(strv_len(wanted) + 1, sizeof *m->usb_fds);
	m->config.usb_fds = m->usb_fds;
	int r = 0;
	for (; r >= 0 && wanted && *wanted; wanted++) {
		_cleanup_(strv_free_ptr) char **nodes = NULL;
		r = host_usb_find(sysfs, *wanted, &nodes, err);
		if (r == 0)
			r = open_free(nodes, *wanted, err);
		if (r >= 0)
			m->usb_fds[m->config.n_usb_fds++] = r;
	}
	if (r < 0)
		error_in_field(err, "spec.machine.usb_devices");
	return MIN(r, 0);
}

/* --- redirected --- */

/* One that has a client takes no other. */
static int hand_over(struct qmp *q, const char *port, int fd, struct error *err) {
	int64_t deadline = time_mono_ns() + ANSWER_WAIT;
	int r = qmp_give(q, "usb", fd, deadline, err);
	json_t *client = json_pack("{ss, ss}", "protocol", port, "fdname", "usb");
	return r < 0 ? json_decref(client), r : qmp_call(q, "add_client", client, -1, deadline, NULL, err);
}

int work_machine_usb(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create record = {0};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int r = machine_open(j, &lock, &record, &q, err), pair[2];
	if (r < 0)
		return r;
	int64_t ports = record.instance.spec.machine.usb_redirects;
	if (!ports)
		return error_set(err, ERROR_CONFLICT, "machine %.12s has no place for USB devices of a client: make it with --usb-redirect 1", j->id);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a pair of sockets");
	_cleanup_(close_fd) int own = pair[0], theirs = pair[1];
	r = -ERROR_INTERNAL;
	for (int64_t i = 0; r == -ERROR_INTERNAL && i < ports; i++) {
		_cleanup_(free_ptr) char *port = machine_redirect_name((int)i);
		_cleanup_(error_free) struct error taken = ERROR_INIT;
		r = hand_over(q, port, theirs, &taken);
		if (r < 0 && r != -ERROR_INTERNAL)
			return error_move(err, &taken);
	}
	if (r < 0)
		return error_set(err, ERROR_CONFLICT, "each of the %lld places of machine %.12s for USB devices of a client has one", (long long)ports,
				 j->id);
	return job_answer(j, NULL, &own, 1, err);
}
