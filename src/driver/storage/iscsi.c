/* The driver iscsi: an iSCSI target, by open-iscsi. Its LUNs are the volumes (luns-priv.h). */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/luns-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define DEADLINE (30 * NS_PER_SEC) /* of one that answers, see luns_ask */
#define LOGGED_IN_ALREADY 15 /* iscsiadm's status for it */
#define NO_SUCH_RECORD 21
#define RECORDS "/etc/iscsi/nodes"

static int iscsi_probe(struct error *err) {
	int r = storage_need_program("iscsiadm", "open-iscsi", err);
	return r < 0 || fs_exists("/sys/class/iscsi_transport/tcp") ? r
								     : storage_load_module("iscsi_tcp", "iSCSI initiator", err);
}

static bool in_session(const char *block, const char *target) {
	_cleanup_(free_ptr) char *link = str_format("/sys/block/%s", block), *path = realpath(link, NULL);
	const char *session = path ? strstr(path, "/session") : NULL;
	if (!session)
		return false;
	session++;
	_cleanup_(free_ptr) char *name = str_copyn(session, strcspn(session, "/"));
	_cleanup_(free_ptr) char *file = str_format("/sys/class/iscsi_session/%s/targetname", name), *got = luns_read(file);
	return str_same(got, target);
}

int iscsi_luns(const struct storage_pool *p, struct luns *out, struct error *err) {
	_cleanup_(close_fd) int dir = open("/sys/block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = dir < 0 ? -errno : fs_names(dir, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read /sys/block");
	for (size_t i = 0; names && names[i]; i++)
		if (str_starts(names[i], "sd") && in_session(names[i], p->pool->spec.source))
			luns_add(out, names[i]);
	return 0;
}

static int run(const struct storage_pool *p, const char *portal, const char *const *more, int fine, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	const char *const first[] = {"iscsiadm", "-m", "node", "-T", p->pool->spec.source, "-p", portal};
	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		strv_add(&argv, first[i]);
	for (size_t i = 0; more[i]; i++)
		strv_add(&argv, more[i]);
	_cleanup_(buf_free) struct buf errors = BUF_INIT_MAX(65536);
	struct proc x = {.argv = argv, .errors = &errors, .deadline_ns = DEADLINE};
	int r = proc_run(&x, err);
	if (r < 0 || x.status == 0 || x.status == fine)
		return r;
	/* what follows "reported error" is why; the lines about it only say that */
	const char *why = strstr(buf_str(&errors), "reported error");
	why = why ? why : buf_str(&errors);
	return error_set(err, x.status == 24 ? ERROR_UNAUTHORIZED : ERROR_UNAVAILABLE, "iscsiadm failed for %s at %s: %.*s",
			 p->pool->spec.source, portal, (int)strcspn(why, "\n"), why);
}
#define RUN(p, portal, fine, err, ...) run(p, portal, (const char *const[]){__VA_ARGS__, NULL}, fine, err)

/* One of the record's settings, by its file: a secret in arguments could be read by everybody on the host. */
static int set_secret(const char *record, const char *secret, struct error *err) {
	static const char key[] = "node.session.auth.password = ", last[] = "# END RECORD";
	_cleanup_(buf_free) struct buf old = BUF_INIT, new = BUF_INIT;
	int r = fs_read(record, 65536, &old);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", record);
	struct str rest = {buf_str(&old), old.len};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		if (line.len >= sizeof key - 1 && memcmp(line.p, key, sizeof key - 1) == 0)
			continue;
		if (str_is(line, last))
			buf_addf(&new, "%s%s\n", key, secret);
		buf_add(&new, line.p, line.len);
		buf_addc(&new, '\n');
	}
	r = fs_replace(record, new.data, new.len, 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", record) : 0;
}

/* The record's file: RECORDS/TARGET/HOST,PORT,GROUP/default, or without the last one or two. */
static int set_secrets(const struct storage_pool *p, const char *host, const char *port, struct error *err) {
	_cleanup_(free_ptr) char *dir = str_format("%s/%s", RECORDS, p->pool->spec.source), *start = str_format("%s,%s", host, port);
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	bool found = false;
	int r = fd < 0 ? -errno : fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", dir);
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		const char *rest = str_starts(names[i], start) ? names[i] + strlen(start) : "-";
		if (*rest && *rest != ',')
			continue;
		found = true;
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, names[i]), *inner = str_format("%s/default", path);
		r = set_secret(fs_exists(inner) ? inner : path, p->pool->spec.secret, err);
	}
	return r < 0 || found ? r : error_set(err, ERROR_INTERNAL, "iscsiadm has made no record of %s in %s", start, dir);
}

/* The record of a portal: where the secret is. */
static int make_record(const struct storage_pool *p, const char *portal, const char *host, const char *port,
		       struct error *err) {
	int r = RUN(p, portal, 0, err, "-o", "new");
	/* the server away: requests wait this long, then they fail */
	if (r == 0)
		r = RUN(p, portal, 0, err, "-o", "update", "-n", "node.session.timeo.replacement_timeout", "-v", "30");
	if (r == 0 && p->pool->spec.user)
		r = RUN(p, portal, 0, err, "-o", "update", "-n", "node.session.auth.authmethod", "-v", "CHAP", "-n",
			"node.session.auth.username", "-v", p->pool->spec.user);
	return r == 0 && p->pool->spec.secret ? set_secrets(p, host, port, err) : r;
}

static int log_in(const struct storage_pool *p, const char *server, struct error *err) {
	_cleanup_(free_ptr) char *host = NULL, *port = NULL;
	int r = storage_portal(server, "3260", &host, &port, err);
	if (r == 0)
		r = storage_ask(host, port, err);
	if (r == 0)
		r = luns_set_logged_in(p, true, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *portal = str_format(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	r = make_record(p, portal, host, port, err);
	if (r == 0)
		r = RUN(p, portal, LOGGED_IN_ALREADY, err, "-l");
	if (r < 0)
		RUN(p, portal, NO_SUCH_RECORD, NULL, "-o", "delete");
	return r;
}

static int log_out(const struct storage_pool *p, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && p->pool->spec.servers && p->pool->spec.servers[i]; i++) {
		_cleanup_(free_ptr) char *host = NULL, *port = NULL;
		r = storage_portal(p->pool->spec.servers[i], "3260", &host, &port, err);
		if (r < 0)
			return r;
		_cleanup_(free_ptr) char *portal = str_format(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
		r = RUN(p, portal, NO_SUCH_RECORD, err, "-u");
		if (r == 0)
			r = RUN(p, portal, NO_SUCH_RECORD, err, "-o", "delete");
	}
	return r;
}

/* One portal is enough; what went wrong with the last is told when none is there. */
static int iscsi_activate(const struct storage_pool *p, struct error *err) {
	_cleanup_(luns_free) struct luns l = {0};
	int r = iscsi_luns(p, &l, err);
	if (r < 0)
		return r;
	if (l.n)
		return luns_ask(p, err);
	r = error_field(err, "servers", "is required");
	for (size_t i = 0; r < 0 && p->pool->spec.servers && p->pool->spec.servers[i]; i++)
		r = log_in(p, p->pool->spec.servers[i], err);
	return r < 0 ? r : luns_wait(p, err);
}

static int iscsi_create(const struct storage_pool *p, struct error *err) {
	if (!str_starts(p->pool->spec.source, "iqn.") && !str_starts(p->pool->spec.source, "eui.") &&
	    !str_starts(p->pool->spec.source, "naa."))
		return error_field(err, "source", "must be the name of a target (iqn.…), not %s", p->pool->spec.source);
	int r = luns_nobody_elses(p, err);
	return r < 0 ? r : iscsi_activate(p, err);
}

static int iscsi_deactivate(const struct storage_pool *p, struct error *err) {
	if (!luns_logged_in(p))
		return 0;
	int r = log_out(p, err);
	return r < 0 ? r : luns_set_logged_in(p, false, err);
}

static int iscsi_remove(const struct storage_pool *p, struct error *err) {
	int r = luns_release(p, err);
	return r < 0 ? r : iscsi_deactivate(p, err);
}

const struct storage_driver storage_iscsi = {
	.name = "iscsi",
	.can = {.filesystems = true, .blocks = true, .quotas = true, .persistent = true, .full_safe = true},
	.probe = iscsi_probe,
	.create = iscsi_create,
	.activate = iscsi_activate,
	.deactivate = iscsi_deactivate,
	.remove = iscsi_remove,
	LUNS_OPERATIONS,
};
