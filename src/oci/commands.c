/* The commands on a container that exists: state, kill, delete, list, ps, pause, resume, update. */
#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "model/instance.h"
#include "oci/oci-priv.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static json_t *print_state(const struct record *r) {
	const char *status = record_status(r);
	json_t *j = json_object();
	char created[TIME_TEXT_MAX];
	time_format(r->created, created);
	json_set_str(j, "ociVersion", OCI_VERSION);
	json_set_str(j, "id", r->state.id);
	json_set_int(j, "pid", str_same(status, "stopped") ? 0 : r->state.pid);
	json_set_str(j, "status", status);
	json_set_str(j, "bundle", r->bundle);
	json_set_str(j, "rootfs", json_get_str(r->state.config, "rootfs"));
	json_set_str(j, "created", created);
	json_object_set(j, "annotations", json_object_get(r->state.config, "annotations"));
	return j;
}

static int print_json(json_t *j) {
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_ENCODE_ANY);
	puts(text);
	free(text);
	return 0;
}

/* For commands that take an id alone. */
static int load_one(struct oci *o, const char *command, int argc, char **argv, struct record *r, struct error *err) {
	return argc != 2 ? oci_usage(o, command, err) : record_load(o, argv[1], r, err);
}

int oci_state(struct oci *o, int argc, char **argv, struct error *err) {
	_cleanup_(record_free) struct record r = {.lock = -1};
	int e = load_one(o, "state", argc, argv, &r, err);
	if (e < 0)
		return e;
	_cleanup_(json_free_ptr) json_t *j = print_state(&r);
	return print_json(j);
}

int oci_kill(struct oci *o, int argc, char **argv, struct error *err) {
	static const struct option options[] = {{"all", no_argument, NULL, 'a'}, {0}};
	bool all = false;
	for (int c; (c = getopt_long(argc, argv, "a", options, NULL)) != -1;) {
		if (c != 'a')
			return oci_usage(o, "kill", err);
		all = true;
	}
	if (optind >= argc || argc - optind > 2)
		return oci_usage(o, "kill", err);
	const char *name = optind + 1 < argc ? argv[optind + 1] : "TERM";
	int signo = signal_from_name(name);
	if (signo <= 0)
		return error_field(err, "signal", "there is no signal called %s", name);
	_cleanup_(record_free) struct record r = {.lock = -1};
	int e = record_load(o, argv[optind], &r, err);
	if (e < 0)
		return e;
	if (!all && str_same(record_status(&r), "stopped"))
		return error_set(err, ERROR_CONFLICT, "cannot signal the container %s: it has stopped (container not running)",
				 argv[optind]);
	return container_kill(&r.state, signo, all, err);
}

int oci_delete_record(struct oci *o, struct record *r, struct error *err) {
	int e = container_destroy(&r->state, err);
	if (e < 0)
		return e;
	struct error hook = ERROR_INIT;
	if (container_run_hooks(&r->state, HOOK_POSTSTOP, "stopped", &hook) < 0)
		oci_log(o, "warning", "%s", error_text(&hook));
	error_free(&hook);
	return record_remove(o, r->state.id, err);
}

int oci_delete(struct oci *o, int argc, char **argv, struct error *err) {
	static const struct option options[] = {{"force", no_argument, NULL, 'f'}, {0}};
	bool force = false;
	for (int c; (c = getopt_long(argc, argv, "f", options, NULL)) != -1;) {
		if (c != 'f')
			return oci_usage(o, "delete", err);
		force = true;
	}
	if (optind != argc - 1)
		return oci_usage(o, "delete", err);
	_cleanup_(record_free) struct record r = {.lock = -1};
	struct error loaded = ERROR_INIT;
	int e = record_load(o, argv[optind], &r, &loaded);
	if (e < 0) {
		/* what a create left that was killed before its end has no state to load */
		if (force && loaded.kind == ERROR_NOT_FOUND) {
			error_free(&loaded);
			return record_remove(o, argv[optind], err);
		}
		return error_move(err, &loaded);
	}
	const char *status = record_status(&r);
	if (!force && !str_same(status, "stopped") && !str_same(status, "created"))
		return error_set(err, ERROR_CONFLICT, "cannot delete the container %s: it is %s", argv[optind], status);
	return oci_delete_record(o, &r, err);
}

static void close_dir(DIR **d) {
	if (*d)
		closedir(*d);
}

static int list_json(struct oci *o, json_t *out) {
	_cleanup_(close_dir) DIR *d = opendir(o->root);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_(record_free) struct record r = {.lock = -1};
		if (record_load(o, e->d_name, &r, NULL) == 0)
			json_array_append_new(out, print_state(&r));
	}
	return 0;
}

int oci_list(struct oci *o, int argc, char **argv, struct error *err) {
	static const struct option options[] = {{"quiet", no_argument, NULL, 'q'}, {"format", required_argument, NULL, 'f'}, {0}};
	bool quiet = false, json = false;
	for (int c; (c = getopt_long(argc, argv, "qf:", options, NULL)) != -1;) {
		if (c == '?')
			return oci_usage(o, "list", err);
		quiet |= c == 'q';
		json |= c == 'f' && str_same(optarg, "json");
	}
	_cleanup_(json_free_ptr) json_t *all = json_array();
	list_json(o, all);
	if (json)
		return print_json(all);
	if (!quiet)
		printf("%-24s %-8s %-8s %-32s %s\n", "ID", "PID", "STATUS", "CREATED", "BUNDLE");
	for (size_t i = 0; i < json_array_size(all); i++) {
		const json_t *j = json_array_get(all, i);
		if (quiet)
			puts(json_get_str(j, "id"));
		else
			printf("%-24s %-8lld %-8s %-32s %s\n", json_get_str(j, "id"), (long long)json_get_int(j, "pid"),
			       json_get_str(j, "status"), json_get_str(j, "created"), json_get_str(j, "bundle"));
	}
	return 0;
}

static void print_process(pid_t pid) {
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, (size_t)1 << 20, &text) < 0)
		return;
	for (size_t i = 0; i + 1 < text.len; i++)
		if (!text.data[i])
			text.data[i] = ' ';
	printf("%-8d %s\n", pid, buf_str(&text));
}

int oci_ps(struct oci *o, int argc, char **argv, struct error *err) {
	static const struct option options[] = {{"format", required_argument, NULL, 'f'}, {0}};
	bool json = false;
	for (int c; (c = getopt_long(argc, argv, "+f:", options, NULL)) != -1;) {
		if (c != 'f')
			return oci_usage(o, "ps", err);
		json = str_same(optarg, "json");
	}
	if (optind >= argc)
		return oci_usage(o, "ps", err);
	_cleanup_(record_free) struct record r = {.lock = -1};
	int e = record_load(o, argv[optind], &r, err);
	if (e < 0)
		return e;
	_cleanup_(free_ptr) pid_t *pids = NULL;
	size_t n = 0;
	e = cgroup_pids(&r.state.cgroup, &pids, &n, err);
	if (e < 0)
		return e;
	if (!json)
		printf("%-8s %s\n", "PID", "COMMAND");
	_cleanup_(json_free_ptr) json_t *list = json_array();
	for (size_t i = 0; i < n; i++) {
		json_array_append_new(list, json_integer(pids[i]));
		if (!json)
			print_process(pids[i]);
	}
	return json ? print_json(list) : 0;
}

static int freeze(struct oci *o, const char *command, bool on, int argc, char **argv, struct error *err) {
	_cleanup_(record_free) struct record r = {.lock = -1};
	int e = load_one(o, command, argc, argv, &r, err);
	if (e < 0)
		return e;
	const char *status = record_status(&r);
	if (on ? !str_same(status, "running") && !str_same(status, "created") : !str_same(status, "paused"))
		return error_set(err, ERROR_CONFLICT, "cannot %s the container %s: it is %s", command, argv[1], status);
	return cgroup_freeze(&r.state.cgroup, on, err);
}

int oci_pause(struct oci *o, int argc, char **argv, struct error *err) {
	return freeze(o, "pause", true, argc, argv, err);
}

int oci_resume(struct oci *o, int argc, char **argv, struct error *err) {
	return freeze(o, "resume", false, argc, argv, err);
}

/* --- update --- */

/* Each flag is a place in the resources object, and a number or a text. */
static const struct update_flag {
	const char *flag, *group, *key;
	bool text, size;
} update_flags[] = {
	{"memory", "memory", "limit", false, true},
	{"memory-swap", "memory", "swap", false, true},
	{"memory-reservation", "memory", "reservation", false, true},
	{"cpu-shares", "cpu", "shares", false, false},
	{"cpu-share", "cpu", "shares", false, false},
	{"cpu-quota", "cpu", "quota", false, false},
	{"cpu-period", "cpu", "period", false, false},
	{"cpu-burst", "cpu", "burst", false, false},
	{"cpu-idle", "cpu", "idle", false, false},
	{"cpuset-cpus", "cpu", "cpus", true, false},
	{"cpuset-mems", "cpu", "mems", true, false},
	{"pids-limit", "pids", "limit", false, false},
	{"blkio-weight", "blockIO", "weight", false, false},
};

static int set_flag(json_t *resources, const struct update_flag *f, const char *value, struct error *err) {
	json_t *group = json_object_get(resources, f->group);
	if (!group) {
		group = json_object();
		json_object_set_new(resources, f->group, group);
	}
	int64_t n = 0;
	if (f->text) {
		json_set_str(group, f->key, value);
		return 0;
	}
	if (str_to_i64(value, &n) < 0 && (!f->size || str_to_size(value, &n) < 0))
		return error_field(err, f->flag, "%s is not a number", value);
	json_set_int(group, f->key, n);
	return 0;
}

static json_t *read_resources(const char *file, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(close_fd) int fd = str_same(file, "-") ? dup(0) : -1;
	int r = fd >= 0 ? fs_read_fd(fd, (size_t)1 << 20, &text) : fs_read(file, (size_t)1 << 20, &text);
	if (r < 0) {
		error_errno(err, r, "cannot read %s", file);
		return NULL;
	}
	return json_parse(buf_str(&text), text.len, err);
}

static int parse_update(struct oci *o, int argc, char **argv, json_t **resources, struct error *err) {
	struct option options[ARRAY_SIZE(update_flags) + 2] = {0};
	for (size_t i = 0; i < ARRAY_SIZE(update_flags); i++)
		options[i] = (struct option){update_flags[i].flag, required_argument, NULL, 256 + (int)i};
	options[ARRAY_SIZE(update_flags)] = (struct option){"resources", required_argument, NULL, 'r'};
	*resources = json_object();
	for (int c; (c = getopt_long(argc, argv, "r:", options, NULL)) != -1;) {
		if (c == '?')
			return oci_usage(o, "update", err);
		if (c == 'r') {
			json_decref(*resources);
			*resources = read_resources(optarg, err);
			if (!*resources)
				return -ERROR_INVALID;
			continue;
		}
		int r = set_flag(*resources, &update_flags[c - 256], optarg, err);
		if (r < 0)
			return r;
	}
	return optind == argc - 1 ? 0 : oci_usage(o, "update", err);
}

int oci_update(struct oci *o, int argc, char **argv, struct error *err) {
	_cleanup_(json_free_ptr) json_t *resources = NULL;
	_cleanup_(record_free) struct record r = {.lock = -1};
	struct cgroup_limits limits = {0};
	int e = parse_update(o, argc, argv, &resources, err);
	if (e == 0)
		e = record_load(o, argv[optind], &r, err);
	if (e == 0)
		e = cgroup_limits_from_oci(resources, &limits, NULL, NULL, err);
	if (e == 0)
		e = cgroup_update(&r.state.cgroup, &limits, err);
	cgroup_limits_free(&limits);
	return e;
}
