/* spec and features: what a config.json may look like, and what of it this runtime does. */
#include "base/fs.h"
#include "base/str.h"
#include "driver/container/confine.h"
#include "oci/oci-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static const char *const namespaces[] = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", NULL};
static const char *const hooks[] = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop", NULL};
static const char *const mount_options[] = {
	"async", "atime", "bind", "defaults", "dev", "diratime", "exec", "idmap", "noatime", "nodev", "nodiratime", "noexec",
	"nostrictatime", "nosuid", "nosymfollow", "private", "rbind", "relatime", "ridmap", "ro", "rprivate", "rro", "rshared",
	"rslave", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "symfollow", "tmpcopyup", "unbindable", NULL};

static json_t *all_capabilities(void) {
	json_t *a = json_array();
	for (int i = 0; i < 64; i++)
		if (cap_all() & (UINT64_C(1) << i))
			json_array_append_new(a, json_string(cap_name(i)));
	return a;
}

int oci_features(struct oci *o, int argc, char **argv, struct error *err) {
	(void)argv;
	if (argc != 1)
		return oci_usage(o, "features", err);
	_cleanup_(json_free_ptr) json_t *j = json_pack(
		"{s:s, s:s, s:o, s:o, s:{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}}",
		"ociVersionMin", "1.0.0", "ociVersionMax", OCI_VERSION, "hooks", json_from_strv((char *const *)hooks), "mountOptions",
		json_from_strv((char *const *)mount_options), "linux", "namespaces", json_from_strv((char *const *)namespaces),
		"capabilities", all_capabilities(), "cgroup", "v1", 1, "v2", 1, "systemd", 0, "systemdUser", 0, "rdma", 0, "seccomp",
		"enabled", 1, "apparmor", "enabled", 1, "selinux", "enabled", 0, "intelRdt", "enabled", 0, "mountExtensions", "idmap",
		"enabled", 1);
	char *text = json_dumps(j, JSON_INDENT(2));
	puts(text);
	free(text);
	return 0;
}

static const char default_config[] =
	"{\"ociVersion\":\"1.1.0\",\"process\":{\"terminal\":true,\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"sh\"],"
	"\"env\":[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\"TERM=xterm\"],\"cwd\":\"/\","
	"\"capabilities\":{},\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":1024}],\"noNewPrivileges\":true},"
	"\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"wabe\",\"mounts\":["
	"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"strictatime\",\"mode=755\","
	"\"size=65536k\"]},"
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"nosuid\",\"noexec\","
	"\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},"
	"{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\",\"options\":[\"nosuid\",\"noexec\",\"nodev\","
	"\"mode=1777\",\"size=65536k\"]},"
	"{\"destination\":\"/dev/mqueue\",\"type\":\"mqueue\",\"source\":\"mqueue\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
	"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]},"
	"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"nosuid\",\"noexec\","
	"\"nodev\",\"relatime\",\"ro\"]}],"
	"\"linux\":{\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},\"namespaces\":[{\"type\":\"pid\"},"
	"{\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},{\"type\":\"cgroup\"}],"
	"\"maskedPaths\":[\"/proc/acpi\",\"/proc/asound\",\"/proc/kcore\",\"/proc/keys\",\"/proc/latency_stats\","
	"\"/proc/timer_list\",\"/proc/timer_stats\",\"/proc/sched_debug\",\"/sys/firmware\",\"/proc/scsi\"],"
	"\"readonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\",\"/proc/sysrq-trigger\"]}}";

static json_t *default_capabilities(void) {
	static const char *const sets[] = {"bounding", "effective", "permitted"};
	json_t *caps = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		json_object_set_new(caps, sets[i], json_pack("[sss]", "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"));
	return caps;
}

int oci_spec(struct oci *o, int argc, char **argv, struct error *err) {
	static const struct option options[] = {{"bundle", required_argument, NULL, 'b'}, {0}};
	const char *bundle = ".";
	for (int c; (c = getopt_long(argc, argv, "b:", options, NULL)) != -1;) {
		if (c != 'b')
			return oci_usage(o, "spec", err);
		bundle = optarg;
	}
	_cleanup_(json_free_ptr) json_t *j = json_parse(default_config, sizeof default_config - 1, err);
	json_object_set_new(json_object_get(j, "process"), "capabilities", default_capabilities());
	char *text = json_dumps(j, JSON_INDENT(8));
	_cleanup_(free_ptr) char *file = str_format("%s/config.json", bundle);
	_cleanup_(close_fd) int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : fs_write_all(fd, text, strlen(text));
	free(text);
	return r < 0 ? error_errno(err, r, "cannot write %s", file) : 0;
}
