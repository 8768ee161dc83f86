/* The rbd program and the kernel's list of what is mapped. */
#include "driver/storage/rbd-priv.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define DEADLINE (300 * NS_PER_SEC)
#define DEVICES "/sys/bus/rbd/devices"
#define KEY_HEAD 12 /* bytes of a key before those that count */

static char *file_of(const struct storage_pool *p, const char *name) {
	return str_format("%s/%s", p->dir, name);
}

static int write_private(const char *path, const struct buf *text, struct error *err) {
	int r = fs_replace(path, buf_str(text), text->len, 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

/* A key is its kind, the time it was made at and its bytes, with their number before them, in base64. What is none, librados
 * would tell to everybody. */
static int check_key(const char *secret, struct error *err) {
	_cleanup_(buf_free) struct buf key = BUF_INIT_MAX(4096);
	bool fits = base64_decode(secret, &key) == 0 && key.len > KEY_HEAD;
	const uint8_t *bytes = (const uint8_t *)key.data;
	if (!fits || key.len != KEY_HEAD + (size_t)(bytes[KEY_HEAD - 2] | bytes[KEY_HEAD - 1] << 8))
		return error_field(err, "secret", "is no key of Ceph, as `ceph auth get-key` prints it");
	return 0;
}

int rbd_configure(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *conf = file_of(p, "ceph.conf"), *keyring = file_of(p, "keyring");
	_cleanup_(free_ptr) char *monitors = strv_join(p->pool->spec.servers, ",");
	_cleanup_(buf_free) struct buf text = BUF_INIT, key = BUF_INIT;
	const char *secret = p->pool->spec.secret, *user = p->pool->spec.user ? p->pool->spec.user : "admin";
	buf_addf(&text, "[global]\nmon_host = %s\nkeyring = %s\nlog_to_stderr = false\nrados_mon_op_timeout = 10\n"
		 "rados_osd_op_timeout = 30\nclient_mount_timeout = 10\n", monitors, keyring);
	if (!secret)
		buf_adds(&text, "auth_client_required = none\n");
	if (strpbrk(monitors, "\n[]=") && !strchr(monitors, ':'))
		return error_field(err, "servers", "must be addresses of monitors, not %s", monitors);
	if (secret)
		buf_addf(&key, "[client.%s]\n\tkey = %s\n", user, secret);
	/* an empty one also: that there is none would be told with each error, as if that were it */
	int r = secret ? check_key(secret, err) : 0;
	if (r == 0)
		r = write_private(keyring, &key, err);
	return r < 0 ? r : write_private(conf, &text, err);
}

/* rbd says "(2) No such file or directory", ceph "[errno 2] …". */
static bool says(const char *why, int errnum) {
	char rbd[24], ceph[24];
	snprintf(rbd, sizeof rbd, "(%d) ", errnum);
	snprintf(ceph, sizeof ceph, "[errno %d]", errnum);
	return strstr(why, rbd) || strstr(why, ceph);
}

static enum error_kind kind_of(const char *why) {
	static const struct {
		int errnum;
		enum error_kind kind;
	} table[] = {
		{ENOENT, ERROR_NOT_FOUND},	{EEXIST, ERROR_EXISTS},		 {EBUSY, ERROR_BUSY},
		{ENOSPC, ERROR_NO_SPACE},	{EDQUOT, ERROR_QUOTA},		 {ETIMEDOUT, ERROR_UNAVAILABLE},
		{ECONNREFUSED, ERROR_UNAVAILABLE}, {EHOSTUNREACH, ERROR_UNAVAILABLE}, {ENETUNREACH, ERROR_UNAVAILABLE},
		{EACCES, ERROR_UNAUTHORIZED},	{EPERM, ERROR_UNAUTHORIZED},	 {ENOTEMPTY, ERROR_CONFLICT},
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (says(why, table[i].errnum))
			return table[i].kind;
	return ERROR_INTERNAL;
}

int rbd_run(const struct storage_pool *p, const char *const *args, struct buf *output, struct error *err) {
	_cleanup_(free_ptr) char *conf = file_of(p, "ceph.conf");
	_cleanup_(strv_free_ptr) char **argv = NULL;
	_cleanup_(buf_free) struct buf errors = BUF_INIT_MAX(65536);
	bool ceph = strcmp(args[0], "df") == 0;
	const char *const first[] = {ceph ? "ceph" : "rbd", "--conf", conf, "--id",
				     p->pool->spec.user ? p->pool->spec.user : "admin"};
	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		strv_add(&argv, first[i]);
	for (size_t i = 0; args[i]; i++)
		strv_add(&argv, args[i]);
	struct proc x = {.argv = argv, .output = output, .errors = &errors, .deadline_ns = DEADLINE};
	int r = proc_run(&x, err);
	if (r < 0 || x.status == 0)
		return r;
	const char *why = buf_str(&errors);
	return error_set(err, kind_of(why), "%s %s failed: %.1000s", first[0], args[0], why);
}

char *rbd_name(const struct storage_pool *p, const char *kind, const char *id) {
	return str_format("wabe-%.16s.%s.%s", p->pool->id, kind, id);
}

char *rbd_image(const struct storage_pool *p, const char *kind, const char *id) {
	return str_format("%s/wabe-%.16s.%s.%s", p->pool->spec.source, p->pool->id, kind, id);
}

bool rbd_split(const struct storage_pool *p, const char *name, char **kind, char **id) {
	_cleanup_(free_ptr) char *prefix = str_format("wabe-%.16s.", p->pool->id);
	if (!str_starts(name, prefix))
		return false;
	const char *rest = name + strlen(prefix), *dot = strchr(rest, '.');
	if (!dot)
		return false;
	*kind = str_copyn(rest, (size_t)(dot - rest));
	*id = str_copy(dot + 1);
	return true;
}

static json_t *rbd_json(const struct storage_pool *p, const char *const *args, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT_MAX((size_t)64 << 20);
	if (rbd_run(p, args, &out, err) < 0)
		return NULL;
	return json_parse(buf_str(&out), out.len, err);
}

int rbd_list(const struct storage_pool *p, char ***names, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all =
		rbd_json(p, (const char *const[]){"ls", "--format", "json", p->pool->spec.source, NULL}, err);
	*names = NULL;
	if (!all)
		return error_wrap(err, "listing the images of the Ceph pool %s", p->pool->spec.source);
	size_t i;
	json_t *one;
	json_array_foreach(all, i, one) {
		const char *name = json_string_value(one);
		char *kind, *id;
		if (name && rbd_split(p, name, &kind, &id)) {
			free(kind);
			free(id);
			strv_add(names, name);
		}
	}
	return 0;
}

int rbd_size(const struct storage_pool *p, const char *image, int64_t *size, struct error *err) {
	_cleanup_(json_free_ptr) json_t *info = rbd_json(p, (const char *const[]){"info", "--format", "json", image, NULL}, err);
	if (!info)
		return error_wrap(err, "looking at %s", image);
	*size = json_get_int(info, "size");
	return 0;
}

int rbd_rename(const struct storage_pool *p, const char *from, const char *to, struct error *err) {
	return RBD(p, err, "rename", from, to);
}

/* --- mapping --- */

static char *attribute(const char *number, const char *name) {
	_cleanup_(free_ptr) char *path = str_format(DEVICES "/%s/%s", number, name);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 4096, &text) < 0)
		return NULL;
	char *line = buf_steal(&text);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static bool is_mapped(const struct storage_pool *p, const char *number, const char *name, const char *snapshot) {
	_cleanup_(free_ptr) char *pool = attribute(number, "pool"), *image = attribute(number, "name");
	_cleanup_(free_ptr) char *snap = attribute(number, "current_snap");
	if (!str_same(pool, p->pool->spec.source) || !str_same(image, name))
		return false;
	return str_same(snapshot, "*") || str_same(snap, snapshot ? snapshot : "-");
}

/* The number of the device; NULL: not mapped. */
static char *mapped(const struct storage_pool *p, const char *name, const char *snapshot) {
	_cleanup_(close_fd) int fd = open(DEVICES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **numbers = NULL;
	if (fd < 0 || fs_names(fd, &numbers) < 0)
		return NULL;
	for (size_t i = 0; numbers && numbers[i]; i++)
		if (is_mapped(p, numbers[i], name, snapshot))
			return str_copy(numbers[i]);
	return NULL;
}

int rbd_map(const struct storage_pool *p, const char *name, const char *snapshot, char **device, struct error *err) {
	_cleanup_(free_ptr) char *image = str_format("%s/%s%s%s", p->pool->spec.source, name, snapshot ? "@" : "",
						     snapshot ? snapshot : "");
	_cleanup_(free_ptr) char *there = mapped(p, name, snapshot);
	/* requests that the cluster does not answer fail after this many seconds */
	int r = there ? 0 : snapshot ? RBD(p, err, "map", "--read-only", "-o", "noudev,osd_request_timeout=60", image)
				     : RBD(p, err, "map", "-o", "noudev,osd_request_timeout=60", image);
	_cleanup_(free_ptr) char *number = r < 0 ? NULL : mapped(p, name, snapshot);
	if (r == 0 && !number)
		return error_set(err, ERROR_INTERNAL, "%s was mapped but is not to be found in " DEVICES, image);
	if (r == 0)
		*device = str_format("/dev/rbd%s", number);
	return r;
}

int rbd_unmap(const struct storage_pool *p, const char *name, const char *snapshot, struct error *err) {
	for (int i = 0; i < 1024; i++) {
		_cleanup_(free_ptr) char *number = mapped(p, name, snapshot);
		if (!number)
			return 0;
		_cleanup_(free_ptr) char *device = str_format("/dev/rbd%s", number);
		int r = RBD(p, err, "unmap", "-o", "noudev", device);
		if (r < 0)
			return r;
	}
	return error_set(err, ERROR_BUSY, "%s is mapped again and again", name);
}
