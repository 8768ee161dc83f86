/* The driver nvme-tcp: an NVMe subsystem over TCP, by nvme-cli. Its namespaces are the volumes (luns-priv.h). */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/luns-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define DEADLINE (30 * NS_PER_SEC) /* of one that answers, see luns_ask */

static int nvme_probe(struct error *err) {
	int r = storage_need_program("nvme", "nvme-cli", err);
	return r < 0 || fs_exists("/sys/module/nvme_tcp") ? r : storage_load_module("nvme_tcp", "NVMe over TCP", err);
}

int nvme_luns(const struct storage_pool *p, struct luns *out, struct error *err) {
	_cleanup_(close_fd) int dir = open("/sys/block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = dir < 0 ? -errno : fs_names(dir, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read /sys/block");
	for (size_t i = 0; names && names[i]; i++) {
		if (!str_starts(names[i], "nvme") || strchr(names[i] + strlen("nvme"), 'c'))
			continue; /* with a c: one path to a namespace that has several */
		_cleanup_(free_ptr) char *file = str_format("/sys/block/%s/device/subsysnqn", names[i]), *nqn = luns_read(file);
		if (str_same(nqn, p->pool->spec.source))
			luns_add(out, names[i]);
	}
	return 0;
}

/* Requests to a server that is away fail after half a minute. */
static void fail_soon(const struct storage_pool *p) {
	_cleanup_(close_fd) int dir = open("/sys/class/nvme", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	if (dir < 0 || fs_names(dir, &names) < 0)
		return;
	for (size_t i = 0; names && names[i]; i++) {
		_cleanup_(free_ptr) char *file = str_format("/sys/class/nvme/%s/subsysnqn", names[i]), *nqn = luns_read(file);
		_cleanup_(free_ptr) char *limit = str_format("/sys/class/nvme/%s/fast_io_fail_tmo", names[i]);
		if (str_same(nqn, p->pool->spec.source))
			fs_write_value(limit, "30");
	}
}

static int connect_to(const struct storage_pool *p, const char *server, struct error *err) {
	_cleanup_(free_ptr) char *host = NULL, *port = NULL;
	_cleanup_(buf_free) struct buf errors = BUF_INIT_MAX(65536);
	int r = storage_portal(server, "4420", &host, &port, err);
	if (r == 0)
		r = storage_ask(host, port, err);
	if (r == 0)
		r = luns_set_logged_in(p, true, err);
	if (r < 0)
		return r;
	/* the server away: it is asked for again for ten minutes */
	char *argv[] = {"nvme", "connect", "-t", "tcp", "-a", host, "-s", port, "-n", p->pool->spec.source,
			"--ctrl-loss-tmo=600", NULL};
	struct proc x = {.argv = argv, .errors = &errors, .deadline_ns = DEADLINE};
	r = proc_run(&x, err);
	if (r < 0)
		return r;
	if (x.status == 0 || strstr(buf_str(&errors), "already connected")) {
		fail_soon(p);
		return 0;
	}
	return error_set(err, ERROR_UNAVAILABLE, "nvme cannot connect to %s at %s: %.*s", p->pool->spec.source, server,
			 (int)strcspn(buf_str(&errors), "\n"), buf_str(&errors));
}

static int nvme_activate(const struct storage_pool *p, struct error *err) {
	_cleanup_(luns_free) struct luns l = {0};
	int r = nvme_luns(p, &l, err);
	if (r < 0)
		return r;
	if (l.n)
		return luns_ask(p, err);
	r = error_field(err, "servers", "is required");
	for (size_t i = 0; r < 0 && p->pool->spec.servers && p->pool->spec.servers[i]; i++)
		r = connect_to(p, p->pool->spec.servers[i], err);
	return r < 0 ? r : luns_wait(p, err);
}

static int nvme_create(const struct storage_pool *p, struct error *err) {
	if (!str_starts(p->pool->spec.source, "nqn."))
		return error_field(err, "source", "must be the name of a subsystem (nqn.…), not %s", p->pool->spec.source);
	int r = luns_nobody_elses(p, err);
	return r < 0 ? r : nvme_activate(p, err);
}

static int nvme_deactivate(const struct storage_pool *p, struct error *err) {
	if (!luns_logged_in(p))
		return 0;
	char *argv[] = {"nvme", "disconnect", "-n", p->pool->spec.source, NULL};
	int r = proc_run_ok(&(struct proc){.argv = argv, .deadline_ns = DEADLINE}, err);
	return r < 0 ? r : luns_set_logged_in(p, false, err);
}

static int nvme_remove(const struct storage_pool *p, struct error *err) {
	int r = luns_release(p, err);
	return r < 0 ? r : nvme_deactivate(p, err);
}

const struct storage_driver storage_nvme_tcp = {
	.name = "nvme-tcp",
	.can = {.filesystems = true, .blocks = true, .quotas = true, .persistent = true, .full_safe = true},
	.probe = nvme_probe,
	.create = nvme_create,
	.activate = nvme_activate,
	.deactivate = nvme_deactivate,
	.remove = nvme_remove,
	LUNS_OPERATIONS,
};
