/* The last steps before the exec: working directory, identity, capabilities, filter, and the exec itself
 * with its look-up in PATH. The parent's part is what the child may lack the power for (limits). */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <grp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ADMIN (UINT64_C(1) << CAP_SYS_ADMIN)

static const struct {
	const char *name;
	int resource;
} rlimits[] = {
	{"AS", RLIMIT_AS}, {"CORE", RLIMIT_CORE}, {"CPU", RLIMIT_CPU}, {"DATA", RLIMIT_DATA},
	{"FSIZE", RLIMIT_FSIZE}, {"LOCKS", RLIMIT_LOCKS}, {"MEMLOCK", RLIMIT_MEMLOCK},
	{"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE}, {"NOFILE", RLIMIT_NOFILE},
	{"NPROC", RLIMIT_NPROC}, {"RSS", RLIMIT_RSS}, {"RTPRIO", RLIMIT_RTPRIO},
	{"RTTIME", RLIMIT_RTTIME}, {"SIGPENDING", RLIMIT_SIGPENDING}, {"STACK", RLIMIT_STACK},
};

static int rlimit_number(const char *type) {
	for (size_t i = 0; type && str_starts(type, "RLIMIT_") && i < ARRAY_SIZE(rlimits); i++)
		if (strcmp(type + strlen("RLIMIT_"), rlimits[i].name) == 0)
			return rlimits[i].resource;
	return -1;
}

int process_check(const struct container_process *p, struct error *err) {
	if (!p->args || !p->args[0])
		return error_field(err, "process.args", "there is no command to run");
	if (p->cwd && p->cwd[0] && p->cwd[0] != '/')
		return error_field(err, "process.cwd", "the working directory %s is not absolute", p->cwd);
	if (p->apparmor_profile && *p->apparmor_profile && !fs_exists("/sys/kernel/security/apparmor"))
		return error_set(err, ERROR_UNSUPPORTED, "this kernel has no AppArmor, but the profile %s is asked for",
				 p->apparmor_profile);
	if (p->selinux_label && *p->selinux_label && !fs_exists("/sys/fs/selinux"))
		return error_set(err, ERROR_UNSUPPORTED, "this kernel has no SELinux, but the label %s is asked for",
				 p->selinux_label);
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct container_rlimit *l = &p->rlimits[i];
		if (rlimit_number(l->type) < 0)
			return error_field(err, "process.rlimits", "there is no resource limit called %s", l->type);
		if (l->soft > l->hard)
			return error_field(err, "process.rlimits", "the soft limit of %s is over the hard one", l->type);
		for (size_t j = 0; j < i; j++)
			if (str_same(p->rlimits[j].type, l->type))
				return error_field(err, "process.rlimits", "%s is given twice", l->type);
	}
	return 0;
}

int process_set_oom_score(const struct container_process *p, pid_t pid, struct error *err) {
	if (!p->has_oom_score_adj)
		return 0;
	char path[64], value[24];
	snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
	snprintf(value, sizeof value, "%lld", (long long)p->oom_score_adj);
	int r = fs_write_value(path, value);
	return r < 0 ? error_errno(err, r, "cannot set oom_score_adj to %s", value) : 0;
}

int process_set_rlimits(const struct container_process *p, pid_t pid, struct error *err) {
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct container_rlimit *l = &p->rlimits[i];
		struct rlimit64 now = {0}, wanted = {l->soft, l->hard};
		int resource = rlimit_number(l->type);
		if (prlimit64(pid, resource, &wanted, NULL) == 0)
			continue;
		int errnum = errno;
		prlimit64(pid, resource, NULL, &now);
		if (errnum != EPERM)
			return error_errno(err, errnum, "cannot set %s", l->type);
		return error_set(err, ERROR_DENIED,
				 "cannot raise %s to %llu: the hard limit here is %llu, and raising it needs CAP_SYS_RESOURCE", l->type,
				 (unsigned long long)l->hard, (unsigned long long)now.rlim_max);
	}
	return 0;
}

/* Magic links (/proc/self/fd/N) are not followed, and the kernel must agree that the place lies beneath the
 * root (CVE-2024-21626). */
int process_enter_cwd(const struct container_process *p, struct error *err) {
	const char *cwd = p->cwd && *p->cwd ? p->cwd : "/";
	_cleanup_(close_fd) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fd) int dir = fs_open_in_root(root, cwd, O_PATH | O_DIRECTORY, 0);
	if (dir < 0)
		return error_errno(err, dir, "cannot enter the working directory %s", cwd);
	if (fchdir(dir) < 0)
		return error_errno(err, errno, "cannot enter the working directory %s", cwd);
	char where[PATH_MAX];
	long n = syscall(SYS_getcwd, where, sizeof where);
	if (n <= 0 || where[0] != '/')
		return error_set(err, ERROR_DENIED, "the working directory %s lies outside the container's root", cwd);
	return 0;
}

static int set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){
			.effective = (uint32_t)(effective >> (32 * i)),
			.permitted = (uint32_t)(permitted >> (32 * i)),
			.inheritable = (uint32_t)(inheritable >> (32 * i)),
		};
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int drop_bounding(uint64_t drop, struct error *err) {
	for (int cap = 0; cap < 64; cap++)
		if ((drop & (UINT64_C(1) << cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return error_errno(err, errno, "cannot drop the capability %s", cap_name(cap));
	return 0;
}

static int check_caps(const struct container_process *p, uint64_t possible, struct error *err) {
	uint64_t missing = (p->cap_permitted | p->cap_effective | p->cap_inheritable) & ~possible;
	for (int cap = 0; cap < 64; cap++)
		if (missing & (UINT64_C(1) << cap))
			return error_set(err, ERROR_DENIED, "the capability %s cannot be given: the host's root lacks it here",
					 cap_name(cap));
	return 0;
}

static int set_ids(const struct user_ids *u, struct error *err) {
	_cleanup_(free_ptr) gid_t *groups = alloc_array(u->n_groups + 1, sizeof(gid_t));
	for (size_t i = 0; i < u->n_groups; i++)
		groups[i] = u->groups[i];
	if (setgroups(u->n_groups, groups) < 0)
		return error_errno(err, errno, "cannot set the additional groups");
	if (setresgid(u->gid, u->gid, u->gid) < 0)
		return errno == EINVAL ? error_set(err, ERROR_INVALID, "group %u is not in the container's user namespace", u->gid)
				       : error_errno(err, errno, "cannot become the group %u", u->gid);
	if (setresuid(u->uid, u->uid, u->uid) < 0)
		return errno == EINVAL ? error_set(err, ERROR_INVALID, "user %u is not in the container's user namespace", u->uid)
				       : error_errno(err, errno, "cannot become the user %u", u->uid);
	return 0;
}

int process_take_identity(const struct container_process *p, const struct user_ids *u, bool keep_admin, struct error *err) {
	uint64_t extra = keep_admin ? ADMIN : 0, possible = cap_bounding();
	int r = check_caps(p, possible, err);
	if (r == 0)
		r = drop_bounding(possible & ~p->cap_bounding, err);
	if (r < 0)
		return r;
	if (p->has_umask)
		umask(p->umask);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "cannot keep capabilities");
	r = set_ids(u, err);
	if (r < 0)
		return r;
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	r = set_caps(p->cap_effective | extra, p->cap_permitted | extra, p->cap_inheritable);
	if (r < 0)
		return error_errno(err, r, "cannot set the capabilities");
	for (int cap = 0; cap < 64; cap++)
		if ((p->cap_ambient & (UINT64_C(1) << cap)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return error_errno(err, errno, "cannot make the capability %s ambient (is it permitted and inheritable?)",
					   cap_name(cap));
	return 0;
}

/* What a security module is to do at the next exec. The container may have covered parts of its /proc: the file
 * has to be in a procfs, reached without crossing a mount (CVE-2019-16884). */
static int write_exec_label(const char *file, const char *label, struct error *err) {
	_cleanup_(close_fd) int proc = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	if (proc < 0 || fstatfs(proc, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
		return error_set(err, ERROR_UNSUPPORTED, "a security label needs a /proc in the container");
	struct open_how how = {.flags = O_WRONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV};
	_cleanup_(close_fd) int fd = (int)syscall(SYS_openat2, proc, file, &how, sizeof how);
	if (fd < 0)
		return error_errno(err, errno, "cannot open /proc/%s", file);
	if (RETRY_EINTR(write(fd, label, strlen(label))) < 0)
		return error_errno(err, errno, "cannot set the security label \"%s\" (is the profile loaded?)", label);
	return 0;
}

static int set_labels(const struct container_process *p, struct error *err) {
	int r = 0;
	if (p->apparmor_profile && *p->apparmor_profile) {
		_cleanup_(free_ptr) char *text = str_format("exec %s", p->apparmor_profile);
		r = write_exec_label("thread-self/attr/apparmor/exec", text, err);
	}
	if (r == 0 && p->selinux_label && *p->selinux_label)
		r = write_exec_label("thread-self/attr/exec", p->selinux_label, err);
	return r;
}

int process_confine(const struct container_process *p, const struct sock_fprog *filter, unsigned flags, struct error *err) {
	int r = set_labels(p, err);
	if (r < 0)
		return r;
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "cannot set no_new_privs");
	if (!filter)
		return 0;
	r = seccomp_install(filter, flags, err);
	if (r < 0 || p->no_new_privileges)
		return r;
	r = set_caps(p->cap_effective, p->cap_permitted, p->cap_inheritable);
	return r < 0 ? error_errno(err, r, "cannot drop CAP_SYS_ADMIN (does the seccomp profile permit capset?)") : 0;
}

static int exec_error(const char *name, int errnum, bool searched, struct error *err) {
	if (searched && errnum == ENOENT)
		return error_set(err, ERROR_NO_COMMAND, "exec: \"%s\": executable file not found in $PATH", name);
	enum error_kind kind = errnum == ENOENT || errnum == ENOTDIR ? ERROR_NO_COMMAND : ERROR_NO_EXEC;
	error_errno(err, errnum, "exec: \"%s\"", name);
	if (err)
		err->kind = kind;
	return -(int)kind;
}

static int check_file(const char *file) {
	struct stat st;
	if (stat(file, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return faccessat(AT_FDCWD, file, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

int process_look_up(const struct container_process *p, struct error *err) {
	const char *path = strv_env_get(p->env, "PATH"), *name = p->args[0];
	if (!*name || strchr(name, '/')) {
		int r = *name ? check_file(name) : -ENOENT;
		return r < 0 ? exec_error(name, -r, false, err) : 0;
	}
	int seen = ENOENT;
	struct str dirs = str_view(path ? path : DEFAULT_PATH);
	do {
		struct str dir = str_cut(&dirs, ':');
		_cleanup_(free_ptr) char *file =
			dir.len ? str_format("%.*s/%s", (int)dir.len, dir.p, name) : str_format("./%s", name);
		int r = check_file(file);
		if (r == 0)
			return 0;
		if (r == -EACCES)
			seen = EACCES;
	} while (dirs.len);
	return exec_error(name, seen, true, err);
}

/* As execvp searches: what exists but may not be executed is remembered, and the search goes on. */
static int exec_search(const struct container_process *p, char *const *env, struct error *err) {
	const char *path = strv_env_get(env, "PATH"), *name = p->args[0];
	struct str dirs = str_view(path ? path : DEFAULT_PATH);
	int seen = ENOENT;
	do {
		struct str dir = str_cut(&dirs, ':');
		_cleanup_(free_ptr) char *file =
			dir.len ? str_format("%.*s/%s", (int)dir.len, dir.p, name) : str_format("./%s", name);
		struct stat st;
		if (stat(file, &st) == 0 && S_ISDIR(st.st_mode))
			continue;
		execve(file, p->args, env);
		if (errno != ENOENT && errno != ENOTDIR)
			seen = errno;
		if (seen != ENOENT && seen != EACCES)
			break;
	} while (dirs.len);
	return exec_error(name, seen, true, err);
}

int process_exec(const struct container_process *p, const char *home, struct error *err) {
	_cleanup_(strv_free_ptr) char **env = strv_copy(p->env);
	char *none[] = {NULL};
	if (home) {
		_cleanup_(free_ptr) char *set = str_format("HOME=%s", home);
		strv_env_set(&env, set);
	}
	const char *name = p->args[0];
	if (!*name)
		return exec_error(name, ENOENT, false, err);
	if (!strchr(name, '/'))
		return exec_search(p, env ? env : none, err);
	execve(name, p->args, env ? env : none);
	int errnum = errno;
	struct stat st;
	if (errnum == EACCES && stat(name, &st) == 0 && S_ISDIR(st.st_mode))
		errnum = EISDIR;
	return exec_error(name, errnum, false, err);
}
