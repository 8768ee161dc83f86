/* The agent itself: its directories, what it finds of an earlier life, its loop and its end. */
#include "agent/network-priv.h"
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define UID_POOL 524288
#define PREFIX_BYTES 6
/* So long, at most, are requests kept waiting for recovery. */
#define RECOVERY_WAIT (15 * NS_PER_SEC)

static void on_end_signal(int signo, void *arg) {
	log_info("signal %d: the agent ends, instances run on", signo);
	loop_stop(((struct agent *)arg)->loop);
}

static void on_recovery_timeout(void *arg) {
	struct agent *a = arg;
	if (!a->serving)
		log_warn("recovery takes long; requests are served meanwhile");
	peers_serve(a);
}

/* Tell the daemons of one host apart: by their control groups, and by what they have on the network. */
static void set_tag(struct agent *a, const char *state) {
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	_cleanup_(free_ptr) char *real = realpath(state, NULL);
	const char *path = real ? real : state;
	EVP_Digest(path, strlen(path), digest, NULL, EVP_sha256(), NULL);
	hex_encode(digest, NETWORK_TAG_LEN / 2, a->tag);
}

static char *cgroup_prefix(const char *state) {
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	char hex[2 * PREFIX_BYTES + 1];
	EVP_Digest(state, strlen(state), digest, NULL, EVP_sha256(), NULL);
	hex_encode(digest, PREFIX_BYTES, hex);
	return str_format("wabe/%s", hex);
}

static char *find_shim(const char *wanted) {
	const char *env = getenv("WABE_SHIM");
	if (wanted || env)
		return str_copy(wanted ? wanted : env);
	_cleanup_(free_ptr) char *self = container_program_path();
	const char *slash = self ? strrchr(self, '/') : NULL;
	_cleanup_(free_ptr) char *beside = str_format("%.*s/wabe-shim", slash ? (int)(slash - self) : 0,
						      self ? self : "");
	return access(beside, X_OK) == 0 ? TAKE_PTR(beside) : str_copy("/usr/libexec/wabe/wabe-shim");
}

static uint32_t uid_pool(uint32_t wanted) {
	const char *env = getenv("WABE_UID_POOL");
	uint64_t first;
	if (!wanted && env && str_to_u64(env, 10, &first) == 0 && first >= UID_RANGE && first < UINT32_MAX - UID_RANGE)
		return (uint32_t)first;
	return wanted ? wanted : UID_POOL;
}

static int make_dirs(struct agent *a, struct error *err) {
	const char *const dirs[] = {a->dir, a->instances, a->layers, a->tmp, a->shims, a->pool_dirs, a->storage};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		int r = fs_mkdir_p(dirs[i], i == 0 || i == 4 ? 0755 : 0700);
		if (r == 0 && chmod(dirs[i], 0700) < 0)
			r = -errno;
		if (r < 0)
			return error_errno(err, r, "cannot make %s", dirs[i]);
	}
	return 0;
}

/* The layer between an image and what an instance writes: the places that wabe mounts something on, so that they
 * are no change of the instance's own; and the list of mounts under the name by which old programs know it. */
static int make_base(struct agent *a, struct error *err) {
	static const char *const dirs[] = {"", "/dev", "/etc", "/proc", "/sys"};
	static const char *const files[] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(free_ptr) char *path = str_format("%s%s", a->base, dirs[i]);
		if ((mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
			return error_errno(err, errno, "cannot make %s", path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(free_ptr) char *path = str_format("%s%s", a->base, files[i]);
		_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0 || fchmod(fd, 0644) < 0)
			return error_errno(err, errno, "cannot make %s", path);
	}
	_cleanup_(free_ptr) char *table = str_format("%s/etc/mtab", a->base);
	if (symlink("/proc/mounts", table) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", table);
	return 0;
}

/* Is there anything to do about it before requests come? */
static bool needs_recovery(const struct agent *a, const struct msg_instance_create *r) {
	_cleanup_(free_ptr) char *run = run_path(a, r->instance.id, "state.json");
	return !(state_bit(r->instance.status.state) & (S_CREATED | S_EXITED | S_SUSPENDED)) || fs_exists(run);
}

/* It can be seen and removed, and its uid range stays its own. */
static void load_damaged(struct agent *a, const char *id, const struct error *why) {
	_cleanup_(free_ptr) char *dir = instance_path(a, id, NULL);
	struct stat st = {0};
	stat(dir, &st);
	log_error("instance %s cannot be read: %s", id, error_text(why));
	struct inst *i = inst_add(a, id, st.st_gid);
	status_set_state(&i->status, "dead");
	status_set_error(&i->status, error_text(why));
}

static void load_instance(struct agent *a, const char *id) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (record_load(a, id, &r, &err) < 0) {
		load_damaged(a, id, &err);
		return;
	}
	struct inst *i = inst_add(a, id, (uint32_t)r.instance.uid_base);
	fields_free(&instance_status_table, &i->status);
	fields_copy(&instance_status_table, &r.instance.status, &i->status);
	inst_set_nics(i, &r.instance.nics);
	inst_set_ports(i, &r.instance.ports);
	i->recover = needs_recovery(a, &r);
}

static int load_instances(struct agent *a, struct error *err) {
	DIR *d = opendir(a->instances);
	if (!d)
		return error_errno(err, errno, "cannot read %s", a->instances);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.' && instance_id_check(e->d_name, NULL) == 0)
			load_instance(a, e->d_name);
	closedir(d);
	return 0;
}

void cleanup_start(struct agent *a) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct job j = {.agent = a, .handler = &job_cleanup, .sock = -1, .listen_fd = -1};
	if (worker_start(a, &j, &err) < 0)
		log_error("what is left over cannot be removed: %s", error_text(&err));
}

static int set_up(struct agent *a, const struct agent_options *o, struct error *err) {
	a->options = *o;
	accel_probe(&a->accel);
	a->dir = str_format("%s/agent", o->state);
	a->instances = str_format("%s/instances", a->dir);
	a->layers = str_format("%s/layers", a->dir);
	a->base = str_format("%s/base", a->dir);
	a->tmp = str_format("%s/tmp", a->dir);
	a->shims = str_format("%s/shim", o->run);
	a->networks = str_format("%s/networks", a->dir);
	a->firewall = str_format("%s/firewall", a->dir);
	a->resolvers = str_format("%s/networks", o->run);
	a->pool_dirs = str_format("%s/pools", a->dir);
	a->storage = str_format("%s/storage", a->dir);
	int r = make_dirs(a, err);
	if (r == 0)
		r = make_base(a, err);
	if (r < 0)
		return r;
	a->cgroup = cgroup_prefix(o->state);
	set_tag(a, o->state);
	a->shim = find_shim(o->shim);
	a->uid_pool = uid_pool(o->uid_pool);
	a->loop = loop_new();
	a->insts = map_new(inst_free);
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &a->nofile);
	struct rlimit most = {a->nofile.rlim_max, a->nofile.rlim_max};
	setrlimit(RLIMIT_NOFILE, &most);
	if (loop_add_signal(a->loop, SIGTERM, on_end_signal, a) < 0 ||
	    loop_add_signal(a->loop, SIGINT, on_end_signal, a) < 0)
		return error_errno(err, errno, "cannot watch signals");
	return requests_complete(err) ? peers_listen(a, err) : -ERROR_INTERNAL;
}

static void tear_down(struct agent *a) {
	bool idle = true;
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);)
		idle &= ((struct inst *)value)->shim == NULL;
	struct cgroup_state top = {.path = a->cgroup, .version = cgroup_version()};
	if (idle && a->cgroup)
		cgroup_remove(&top, NULL);
	if (a->loop) {
		peers_free(a);
		children_free(a);
		networks_end(a);
		map_free(a->insts);
		pools_free(a);
		loop_free(a->loop);
	}
	close_fd(&a->listen_fd);
	free(a->dir);
	free(a->instances);
	free(a->layers);
	free(a->base);
	free(a->tmp);
	free(a->shims);
	free(a->networks);
	free(a->firewall);
	free(a->resolvers);
	free(a->pool_dirs);
	free(a->storage);
	free(a->cgroup);
	free(a->shim);
}

int agent_main(const struct agent_options *o, struct error *err) {
	struct agent a = {.listen_fd = -1};
	fault_init();
	umask(0022);
	int r = set_up(&a, o, err);
	if (r == 0)
		r = pools_load(&a, err);
	if (r == 0) {
		cleanup_start(&a);
		r = load_instances(&a, err);
	}
	if (r == 0)
		r = networks_begin(&a, err);
	if (r == 0 && a.n_recovering == 0)
		peers_serve(&a);
	if (r == 0) {
		loop_add_timer(a.loop, time_mono_ns() + RECOVERY_WAIT, on_recovery_timeout, &a);
		log_info("ready: %zu instances in %s", map_count(a.insts), a.dir);
		int failed = loop_run(a.loop);
		r = failed < 0 ? error_errno(err, failed, "the event loop failed") : (int)a.end;
	}
	tear_down(&a);
	return r;
}
