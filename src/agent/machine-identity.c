/* Who a machine is that goes on with the memory of another one: its guest believes that it is that one. Its network cards are
 * unplugged until the agent in the guest has made it learn its host name, machine id and addresses of cards, and given its
 * random numbers something new. (That the kernel's go another way from the start on, vmgenid sees to.) A file in the instance's
 * directory says that this is to be done, whoever dies meanwhile; a start from the beginning needs none of it. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/guest.h"
#include "driver/qemu/qmp.h"

#include <poll.h>
#include <unistd.h>

#define IDENTITY_FILE "identity" /* the addresses that its guest takes for its own, one a line */
#define IDENTITY_MAX ((size_t)4096)
#define AGENT_WAIT (60 * NS_PER_SEC)
#define LOOK_FIRST 10 /* ms */
#define LOOK_MAX 500

/* $1 host name, $2 machine id, then pairs of addresses: the card's old one, its new one. What is not there is not needed; only the
 * addresses of cards must become its own. */
static const char script[] =
	"cat >/dev/urandom\n"
	"old=$(cat /proc/sys/kernel/hostname) host=$1 id=$2 bad=0\n"
	"shift 2\n"
	"echo \"$host\" >/proc/sys/kernel/hostname\n"
	"[ ! -f /etc/hostname ] || echo \"$host\" >/etc/hostname\n"
	"[ ! -f /etc/hosts ] || sed -i \"s/\\([[:space:]]\\)$old\\([[:space:].]\\|\\$\\)/\\1$host\\2/g\" /etc/hosts\n"
	"for f in /etc/machine-id /var/lib/dbus/machine-id; do\n"
	"	[ ! -f $f ] || [ -L $f ] || echo \"$id\" >$f\n"
	"done\n"
	"rm -f /var/lib/systemd/random-seed\n"
	"while [ $# -gt 1 ]; do\n"
	"	found=\n"
	"	for card in /sys/class/net/*; do\n"
	"		[ \"$(cat $card/address)\" = \"$1\" ] || continue\n"
	"		found=${card##*/}\n"
	"		ip link set $found down && ip addr flush dev $found && ip link set $found address $2 || bad=1\n"
	"	done\n"
	"	[ \"$found\" ] || bad=1\n"
	"	shift 2\n"
	"done\n"
	"if command -v systemctl >/dev/null; then\n"
	"	systemctl try-restart systemd-networkd networking NetworkManager\n"
	"else\n"
	"	for card in /sys/class/net/*; do ip link set ${card##*/} up; done\n"
	"fi\n"
	"exit $bad\n";

int identity_wanted(const struct agent *a, const char *id, char *const *macs, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, IDENTITY_FILE), *text = strv_join(macs, "\n");
	if (fs_exists(path)) /* the memory is this machine's own, of before it has learned */
		return 0;
	int r = file_replace(path, text ? text : "", text ? strlen(text) : 0, 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

bool identity_is_wanted(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, IDENTITY_FILE);
	return fs_exists(path);
}

void identity_drop(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, IDENTITY_FILE);
	unlink(path);
}

static char **arguments(const struct msg_instance_create *r, char *macs) {
	const nics *list = &r->instance.nics;
	const struct instance_spec *spec = &r->instance.spec;
	char **argv = NULL, *rest = macs;
	strv_add(&argv, "/bin/sh");
	strv_add(&argv, "-c");
	strv_add(&argv, script);
	strv_add(&argv, "wabe");
	strv_add(&argv, spec->hostname ? spec->hostname : spec->name); /* as cloud-init is told */
	strv_take(&argv, str_copyn(r->instance.id, 32));
	for (size_t i = 0; i < list->n; i++) {
		const char *old = strsep(&rest, "\n");
		if (!old || !*old)
			break;
		strv_add(&argv, old);
		strv_add(&argv, list->items[i].mac);
	}
	return argv;
}

/* Until it has ended; it says nothing by itself. */
static int await_end(struct guest *g, int64_t pid, struct error *err) {
	int64_t until = time_mono_ns() + AGENT_WAIT;
	for (int ms = LOOK_FIRST; time_mono_ns() < until; ms = MIN(2 * ms, LOOK_MAX)) {
		struct guest_result result = {0};
		int r = guest_exec_status(g, pid, until, &result, err);
		bool exited = result.exited;
		int status = result.status;
		guest_result_free(&result);
		if (r < 0)
			return r;
		if (exited)
			return status ? error_set(err, ERROR_INTERNAL, "the guest cannot be told who it is (status %d)", status) : 0;
		poll(NULL, 0, ms);
	}
	return error_set(err, ERROR_TIMEOUT, "the guest takes too long to learn who it is");
}

static int teach(const struct agent *a, const struct msg_instance_create *r, char *macs, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(a, r->instance.id, NULL), *seed = random_hex(64);
	_cleanup_(strv_free_ptr) char **argv = arguments(r, macs);
	const struct guest_command command = {.argv = argv, .input = seed, .input_len = strlen(seed)};
	struct guest *g = NULL;
	int64_t pid, deadline = time_mono_ns() + AGENT_WAIT;
	int result = guest_open(dir, "guest", deadline, &g, err);
	if (result == 0)
		result = guest_set_time(g, time_now_ns(), deadline, NULL) == -ERROR_TIMEOUT ? -ERROR_TIMEOUT : 0;
	if (result == 0)
		result = guest_exec(g, &command, deadline, &pid, err);
	if (result == 0)
		result = await_end(g, pid, err);
	guest_free(g);
	return result;
}

static int plug_in(const struct agent *a, const struct msg_instance_create *r, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int64_t deadline = time_mono_ns() + AGENT_WAIT;
	int result = machine_monitor(a, r->instance.id, deadline, &q, err);
	for (size_t i = 0; result == 0 && i < r->instance.nics.n; i++) {
		_cleanup_(free_ptr) char *name = machine_nic_id(&r->instance.nics.items[i]);
		result = qmp_call(q, "set_link", json_pack("{ss,sb}", "name", name, "up", 1), -1, deadline, NULL, err);
	}
	return result;
}

int work_machine_identity(struct job *j, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(free_ptr) char *path = instance_path(j->agent, j->id, IDENTITY_FILE);
	_cleanup_(buf_free) struct buf macs = BUF_INIT;
	int result = fs_read(path, IDENTITY_MAX, &macs);
	if (result < 0)
		return result == -ENOENT ? 0 : error_errno(err, result, "cannot read %s", path);
	result = record_load(j->agent, j->id, &r, err);
	_cleanup_(free_ptr) char *text = str_copy(buf_str(&macs));
	if (result == 0)
		result = teach(j->agent, &r, text, err);
	if (result == 0)
		result = plug_in(j->agent, &r, err);
	fault_point("identity.given");
	if (result < 0) {
		job_report(j, "identity_failed", NULL, NULL);
		return error_wrap(err, "the clone does not know who it is: its network cards stay unplugged until it is stopped and "
				  "started from the beginning");
	}
	identity_drop(j->agent, j->id);
	job_report(j, "identity", NULL, NULL);
	return 0;
}
