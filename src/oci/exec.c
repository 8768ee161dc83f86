/* exec: a further process, from a process.json or from options. */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/container/confine.h"
#include "oci/oci-priv.h"

#include <signal.h>
#include <sys/pidfd.h>

struct exec_options {
	const char *process_file, *user, *cwd, *pid_file, *console_socket, *apparmor, *label;
	char **env, **caps;
	uint32_t groups[64];
	size_t n_groups;
	int preserve_fds;
	bool tty, detach, no_new_privs, ignore_paused;
};

static void options_free(struct exec_options *q) {
	strv_free(q->env);
	strv_free(q->caps);
}

enum { OPT_CWD = 256, OPT_PID_FILE, OPT_CONSOLE, OPT_PRESERVE, OPT_NNP, OPT_APPARMOR, OPT_LABEL, OPT_CGROUP };

static int one_option(struct oci *o, struct exec_options *q, int c, struct error *err) {
	uint64_t n;
	switch (c) {
	case 'p':
		q->process_file = optarg;
		return 0;
	case 'd':
		q->detach = true;
		return 0;
	case 't':
		q->tty = true;
		return 0;
	case 'u':
		q->user = optarg;
		return 0;
	case 'e':
		strv_env_set(&q->env, optarg);
		return 0;
	case 'c':
		strv_add(&q->caps, optarg);
		return 0;
	case 'g':
		if (str_to_u64(optarg, 10, &n) < 0 || n >= UINT32_MAX || q->n_groups == ARRAY_SIZE(q->groups))
			return error_field(err, "additional-gids", "%s is no group id, or one too many", optarg);
		q->groups[q->n_groups++] = (uint32_t)n;
		return 0;
	case OPT_CWD:
		q->cwd = optarg;
		return 0;
	case OPT_PID_FILE:
		q->pid_file = optarg;
		return 0;
	case OPT_CONSOLE:
		q->console_socket = optarg;
		return 0;
	case OPT_PRESERVE:
		if (str_to_u64(optarg, 10, &n) < 0 || n > 1024)
			return error_field(err, "preserve-fds", "is a number up to 1024");
		q->preserve_fds = (int)n;
		return 0;
	case OPT_NNP:
		q->no_new_privs = true;
		return 0;
	case OPT_APPARMOR:
		q->apparmor = optarg;
		return 0;
	case OPT_LABEL:
		q->label = optarg;
		return 0;
	case OPT_CGROUP:
		return error_set(err, ERROR_UNSUPPORTED, "exec with --cgroup");
	default:
		return oci_usage(o, "exec", err);
	}
}

static int parse(struct oci *o, int argc, char **argv, struct exec_options *q, struct error *err) {
	static const struct option options[] = {
		{"process", required_argument, NULL, 'p'}, {"detach", no_argument, NULL, 'd'}, {"tty", no_argument, NULL, 't'},
		{"user", required_argument, NULL, 'u'},    {"env", required_argument, NULL, 'e'}, {"cap", required_argument, NULL, 'c'},
		{"additional-gids", required_argument, NULL, 'g'}, {"cwd", required_argument, NULL, OPT_CWD},
		{"pid-file", required_argument, NULL, OPT_PID_FILE}, {"console-socket", required_argument, NULL, OPT_CONSOLE},
		{"preserve-fds", required_argument, NULL, OPT_PRESERVE}, {"no-new-privs", no_argument, NULL, OPT_NNP},
		{"apparmor", required_argument, NULL, OPT_APPARMOR}, {"process-label", required_argument, NULL, OPT_LABEL},
		{"cgroup", required_argument, NULL, OPT_CGROUP}, {0},
	};
	for (int c; (c = getopt_long(argc, argv, "+p:dtu:e:c:g:", options, NULL)) != -1;) {
		int r = one_option(o, q, c, err);
		if (r < 0)
			return r;
	}
	if (optind >= argc || (!q->process_file && optind + 1 >= argc))
		return oci_usage(o, "exec", err);
	return 0;
}

static void replace(char **text, const char *by) {
	if (!by)
		return;
	free(*text);
	*text = str_copy(by);
}

static int from_options(const struct exec_options *q, char **argv, struct container_process *p, struct error *err) {
	p->args = strv_copy(argv);
	for (size_t i = 0; q->env && q->env[i]; i++)
		strv_env_set(&p->env, q->env[i]);
	replace(&p->cwd, q->cwd);
	replace(&p->apparmor_profile, q->apparmor);
	replace(&p->selinux_label, q->label);
	if (q->user) {
		_cleanup_(strv_free_ptr) char **parts = strv_split(q->user, ':');
		uint64_t uid, gid = 0;
		if (str_to_u64(parts[0], 10, &uid) < 0 || (parts[1] && str_to_u64(parts[1], 10, &gid) < 0) || uid >= UINT32_MAX ||
		    gid >= UINT32_MAX)
			return error_field(err, "user", "%s is not UID[:GID]", q->user);
		p->uid = (uint32_t)uid;
		p->gid = (uint32_t)gid;
	}
	for (size_t i = 0; i < q->n_groups; i++) {
		p->additional_gids = alloc_resize(p->additional_gids, p->n_additional_gids + 1, sizeof(uint32_t));
		p->additional_gids[p->n_additional_gids++] = q->groups[i];
	}
	p->terminal = q->tty;
	p->no_new_privileges |= q->no_new_privs;
	uint64_t more;
	int r = cap_compute(p->cap_bounding, q->caps, NULL, &more, err);
	if (r < 0)
		return r;
	if (q->caps) {
		p->cap_bounding |= more;
		p->cap_permitted |= more;
		p->cap_effective |= more;
	}
	return 0;
}

/* The process of a file, or that of the bundle with what the options change. */
static int load_process(struct oci *o, const struct record *r, const struct exec_options *q, char **argv,
			struct container_process *p, struct error *err) {
	if (q->process_file) {
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		int e = fs_read(q->process_file, (size_t)16 << 20, &text);
		if (e < 0)
			return error_errno(err, e, "cannot read %s", q->process_file);
		_cleanup_(json_free_ptr) json_t *j = json_parse(buf_str(&text), text.len, err);
		return j ? spec_process(o, j, p, err) : error_wrap(err, "%s", q->process_file);
	}
	_cleanup_(container_config_free) struct container_config c;
	container_config_init(&c);
	int e = spec_load(o, r->bundle, r->state.id, &c, err);
	if (e < 0)
		return e;
	*p = c.process;
	c.process = (struct container_process){0};
	strv_free(TAKE_PTR(p->args));
	p->rows = p->columns = 0;
	return from_options(q, argv, p, err);
}

static int run(struct oci *o, struct exec_options *q, int argc, char **argv, struct error *err) {
	int e = parse(o, argc, argv, q, err);
	_cleanup_(record_free) struct record r = {.lock = -1};
	_cleanup_(container_process_free) struct container_process p = {0};
	if (e == 0)
		e = oci_check_preserved(q->preserve_fds, err);
	if (e == 0)
		e = record_load(o, argv[optind], &r, err);
	if (e == 0)
		e = load_process(o, &r, q, argv + optind + 1, &p, err);
	if (e < 0)
		return e;
	if (q->tty)
		p.terminal = true;
	if (p.terminal && q->detach && !q->console_socket)
		return error_set(err, ERROR_INVALID, "a terminal of a process in the background needs --console-socket");
	struct container_stdio io = {.in = 0, .out = 1, .err = 2, .preserve_fds = q->preserve_fds, .terminal_master = -1};
	pid_t pid;
	if (!q->detach && !p.terminal)
		oci_block_signals();
	e = container_exec(&r.state, &p, false, &io, &pid, err);
	if (e < 0)
		return e;
	_cleanup_(close_fd) int master = io.terminal_master, pidfd = pidfd_open(pid, 0);
	if (q->console_socket && master >= 0) {
		e = console_send(q->console_socket, master, err);
		close_fd(&master);
	}
	if (e == 0)
		e = oci_write_pid(q->pid_file, pid, err);
	if (e < 0) {
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		proc_wait(pid);
		return e;
	}
	return q->detach ? 0 : oci_wait(pid, pidfd, master);
}

int oci_exec(struct oci *o, int argc, char **argv, struct error *err) {
	_cleanup_(options_free) struct exec_options q = {0};
	return run(o, &q, argc, argv, err);
}
