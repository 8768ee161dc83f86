/* A machine's virtio socket. The kernel of the host gives each number to one descriptor of its device, whoever has that: so it is set
 * here, where it can be said whose it is, and QEMU gets the descriptor. */
#include "agent/machine-priv.h"

#include "base/str.h"

#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#define DEVICE "/dev/vhost-vsock"
#define CID_MIN 3
#define TRIES 1000

static int take(int fd, int64_t cid) {
	uint64_t value = (uint64_t)cid;
	return ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &value) < 0 ? -errno : 0;
}

/* Usually the same at each start. */
static int take_free(int fd, const char *id, int64_t *cid) {
	_cleanup_(free_ptr) char *digits = str_copyn(id, 7);
	int64_t first = CID_MIN + strtol(digits, NULL, 16);
	int r = -EADDRINUSE;
	for (*cid = first; r == -EADDRINUSE && *cid < first + TRIES; (*cid)++)
		r = take(fd, *cid);
	(*cid)--;
	return r;
}

static const char *holder(const struct agent *a, int64_t cid) {
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		if (i->status.vsock_cid == cid && (state_bit(i->status.state) & S_UP))
			return i->id;
	}
	return NULL;
}

static int refuse(const struct agent *a, int64_t cid, int r, struct error *err) {
	if (r != -EADDRINUSE)
		return error_errno(err, r, "the host gives its virtio socket no number %lld", (long long)cid);
	const char *other = holder(a, cid);
	if (other)
		return error_set(err, ERROR_CONFLICT, "machine %.12s has the number %lld of a virtio socket", other, (long long)cid);
	return error_set(err, ERROR_CONFLICT, "another program of this host has the number %lld of a virtio socket", (long long)cid);
}

int machine_vsock_open(const struct agent *a, const struct msg_instance_create *record, struct machine_start *m, struct error *err) {
	const struct machine_spec *s = m->config.spec;
	int r = 0;
	if (!s->vsock)
		return 0;
	m->config.vsock_cid = s->vsock_cid;
	m->config.vsock_fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (m->config.vsock_fd < 0)
		r = error_set(err, ERROR_UNSUPPORTED, "this host has no virtio sockets (%s: %s): its kernel needs the module vhost_vsock", DEVICE,
			      strerror(errno));
	else if ((r = s->vsock_cid ? take(m->config.vsock_fd, s->vsock_cid)
				   : take_free(m->config.vsock_fd, record->instance.id, &m->config.vsock_cid)) < 0)
		r = refuse(a, m->config.vsock_cid, r, err);
	if (r < 0)
		error_in_field(err, s->vsock_cid && m->config.vsock_fd >= 0 ? "spec.machine.vsock_cid" : "spec.machine.vsock");
	return r;
}
