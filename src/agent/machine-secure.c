/* What both sides of a migration have in common: the key of its connections (TLS with a key that both know), QEMU's settings, which
 * are as they were before once it is over, and what the two agents say to each other. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/lines.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETTING_WAIT (30 * NS_PER_SEC)
#define KEY_DIR "migration" /* of /tmp, in QEMU's container */
#define KEY_FILE "keys.psk"
#define GROUP_FILE "dh-params.pem"

/* ffdhe2048 of RFC 7919: a server without a group looks for primes of its own first, for a good part of a second. */
static const char group[] = "-----BEGIN DH PARAMETERS-----\n"
			    "MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz\n"
			    "+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a\n"
			    "87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7\n"
			    "YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi\n"
			    "7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD\n"
			    "ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==\n"
			    "-----END DH PARAMETERS-----\n";

static int64_t soon(void) {
	return time_mono_ns() + SETTING_WAIT;
}

/* --- the key --- */

static int open_tmp(const struct run_state *run, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/root/tmp", run->container.pid);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int errnum = errno;
	if (fd >= 0 && container_state_alive(&run->container))
		return fd;
	close_fd(&fd);
	return error_errno(err, errnum, "cannot open the machine's /tmp");
}

/* As QEMU's user: the directory is of its container, and QEMU may do there what it likes. */
static int with_dir(int tmp, uid_t owner, int (*fn)(int tmp, const char *secret), const char *secret) {
	setfsgid(owner);
	setfsuid(owner);
	int r = fn(tmp, secret);
	setfsuid(0);
	setfsgid(0);
	return r;
}

static int write_in(int dir, const char *name, const char *text) {
	unlinkat(dir, name, 0);
	_cleanup_(close_fd) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fs_write_all(fd, text, strlen(text));
}

static int write_key(int tmp, const char *secret) {
	_cleanup_(free_ptr) char *text = str_format("qemu:%s\n", secret);
	if (mkdirat(tmp, KEY_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	_cleanup_(close_fd) int dir = openat(tmp, KEY_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	int r = write_in(dir, GROUP_FILE, group);
	return r < 0 ? r : write_in(dir, KEY_FILE, text);
}

static int remove_key(int tmp, UNUSED const char *secret) {
	_cleanup_(close_fd) int dir = openat(tmp, KEY_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0) {
		unlinkat(dir, KEY_FILE, 0);
		unlinkat(dir, GROUP_FILE, 0);
	}
	return unlinkat(tmp, KEY_DIR, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int secure_begin(struct qmp *q, const struct msg_instance_create *r, const struct run_state *run, const char *secret, bool server,
		 struct error *err) {
	_cleanup_(close_fd) int tmp = open_tmp(run, err);
	if (tmp < 0)
		return tmp;
	int result = with_dir(tmp, (uid_t)r->instance.uid_base, write_key, secret);
	if (result < 0)
		return error_errno(err, result, "cannot give QEMU the key of the migration");
	json_t *object = json_pack("{s:s,s:s,s:s,s:s}", "qom-type", "tls-creds-psk", "id", TLS_ID, "dir", "/tmp/" KEY_DIR, "endpoint",
				   server ? "server" : "client");
	return qmp_call(q, "object-add", object, -1, soon(), NULL, err);
}

void secure_end(struct qmp *q, const struct msg_instance_create *r, const struct run_state *run) {
	_cleanup_(close_fd) int tmp = open_tmp(run, NULL);
	migration_set(q, json_pack("{s:s}", "tls-creds", ""), NULL);
	migration_capabilities(q, false, false, NULL);
	qmp_call(q, "object-del", json_pack("{s:s}", "id", TLS_ID), -1, soon(), NULL, NULL);
	if (tmp >= 0)
		with_dir(tmp, (uid_t)r->instance.uid_base, remove_key, NULL);
}

/* --- settings --- */

int migration_set(struct qmp *q, json_t *parameters, struct error *err) {
	return qmp_call(q, "migrate-set-parameters", parameters, -1, soon(), NULL, err);
}

int migration_capabilities(struct qmp *q, bool on, bool post_copy, struct error *err) {
	json_t *list = json_pack("[{s:s,s:b},{s:s,s:b},{s:s,s:b},{s:s,s:b}]", "capability", "events", "state", 1, "capability",
				 "auto-converge", "state", on, "capability", "pause-before-switchover", "state", on, "capability",
				 "postcopy-ram", "state", post_copy);
	return qmp_call(q, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", list), -1, soon(), NULL, err);
}

/* --- between the agents --- */

int migration_say(struct lines *to, json_t *message, struct error *err) {
	_cleanup_(free_ptr) char *body = json_print(message), *text = str_format("%s\n", body);
	json_decref(message);
	int r = lines_send(to, text, strlen(text), -1, time_mono_ns() + MIGRATION_WAIT, err);
	return r < 0 ? error_wrap(err, "the other daemon's agent") : 0;
}

int migration_error(const json_t *message, struct error *err) {
	const char *text = json_get_str(message, "error");
	if (!text)
		return 0;
	_cleanup_(free_ptr) char *words = lines_words(text);
	return error_set(err, ERROR_CONFLICT, "the other daemon gives up: %s", words);
}

int migration_hear(struct lines *from, const char *word, struct error *err) {
	_cleanup_(json_free_ptr) json_t *message = NULL;
	int r = lines_await(from, time_mono_ns() + MIGRATION_WAIT, &message, err);
	if (r < 0)
		return error_wrap(err, "the other daemon's agent");
	r = migration_error(message, err);
	if (r == 0 && !json_get_bool(message, word))
		r = error_set(err, ERROR_CORRUPT, "the other daemon's agent says something else than \"%s\"", word);
	return r;
}
