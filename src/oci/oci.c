/* `wabe oci`: global options and the table of commands. */
#include "oci/oci.h"

#include "base/fs.h"
#include "base/time.h"
#include "oci/oci-priv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

const struct oci_command oci_commands[] = {
	{"create", "[-b DIR] [--pid-file F] [--console-socket S] [--preserve-fds N] [--no-pivot] ID",
	 "make a container from a bundle", oci_create},
	{"start", "ID", "let a created container run its command", oci_start},
	{"run", "[-b DIR] [-d] [--keep] [--pid-file F] [--console-socket S] [--preserve-fds N] [--no-pivot] ID",
	 "create, start, wait for and delete a container", oci_run},
	{"exec", "[-p FILE] [-d] [-t] [-u UID[:GID]] [--cwd DIR] [-e K=V]… [--cap C]… ID COMMAND [ARG]…",
	 "run a further process in a container", oci_exec},
	{"state", "ID", "print the state of a container", oci_state},
	{"kill", "[-a] ID [SIGNAL]", "send a signal (TERM)", oci_kill},
	{"delete", "[-f] ID", "remove a stopped container", oci_delete},
	{"list", "[-q] [-f table|json]", "list the containers", oci_list},
	{"ps", "[-f table|json] ID", "list the processes of a container", oci_ps},
	{"pause", "ID", "freeze all processes", oci_pause},
	{"resume", "ID", "thaw them", oci_resume},
	{"update", "[-r FILE] [--memory N] [--cpu-quota N] … ID", "change the limits", oci_update},
	{"features", "", "print what the runtime can do", oci_features},
	{"spec", "[-b DIR]", "write a config.json to start from", oci_spec},
	{0},
};

void oci_log(struct oci *o, const char *level, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *text = str_vformat(fmt, ap);
	va_end(ap);
	if (o->log_fd < 0)
		return;
	char when[TIME_TEXT_MAX];
	time_format(time_now_ns(), when);
	_cleanup_(free_ptr) char *line = NULL;
	if (o->json_log) {
		_cleanup_(json_free_ptr) json_t *j = json_object();
		json_set_str(j, "level", level);
		json_set_str(j, "msg", text);
		json_set_str(j, "time", when);
		_cleanup_(free_ptr) char *printed = json_print(j);
		line = str_format("%s\n", printed);
	} else {
		line = str_format("time=\"%s\" level=%s msg=\"%s\"\n", when, level, text);
	}
	fs_write_all(o->log_fd, line, strlen(line));
}

static const struct oci_command *find(const char *name) {
	for (const struct oci_command *c = oci_commands; c->name; c++)
		if (str_same(c->name, name))
			return c;
	return NULL;
}

static void help(const struct oci *o) {
	printf("usage: %s [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] COMMAND …\n\n", o->name);
	for (const struct oci_command *c = oci_commands; c->name; c++)
		printf("  %-9s %s\n            %s\n", c->name, c->help, c->usage);
}

int oci_usage(struct oci *o, const char *command, struct error *err) {
	const struct oci_command *c = find(command);
	return error_set(err, ERROR_INVALID, "usage: %s %s %s", o->name, command, c ? c->usage : "");
}

static int open_log(struct oci *o, const char *path, struct error *err) {
	close_fd(&o->log_fd);
	o->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return o->log_fd < 0 ? error_errno(err, errno, "cannot open the log %s", path) : 0;
}

enum { OPT_ROOT = 256, OPT_LOG, OPT_FORMAT, OPT_SYSTEMD, OPT_DEBUG, OPT_LEVEL, OPT_CRIU, OPT_ROOTLESS, OPT_MANAGER };
static const struct option options[] = {
	{"root", required_argument, NULL, OPT_ROOT},
	{"log", required_argument, NULL, OPT_LOG},
	{"log-format", required_argument, NULL, OPT_FORMAT},
	{"log-level", required_argument, NULL, OPT_LEVEL},
	{"systemd-cgroup", no_argument, NULL, OPT_SYSTEMD},
	{"cgroup-manager", required_argument, NULL, OPT_MANAGER},
	{"debug", no_argument, NULL, OPT_DEBUG},
	{"criu", required_argument, NULL, OPT_CRIU},
	{"rootless", required_argument, NULL, OPT_ROOTLESS},
	{"version", no_argument, NULL, 'v'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/* 0 to go on, 1 when the option was all, negative on error. */
static int global_option(struct oci *o, int c, struct error *err) {
	switch (c) {
	case OPT_ROOT:
		free(o->root);
		o->root = str_copy(optarg);
		return 0;
	case OPT_LOG:
		return open_log(o, optarg, err);
	case OPT_FORMAT:
		o->json_log = str_same(optarg, "json");
		return 0;
	case OPT_SYSTEMD:
		o->systemd_cgroup = true;
		return 0;
	case OPT_MANAGER:
		o->systemd_cgroup = str_same(optarg, "systemd");
		return 0;
	case OPT_DEBUG:
	case OPT_LEVEL:
	case OPT_CRIU:
	case OPT_ROOTLESS:
		return 0;
	case 'v':
		printf("wabe oci version " WABE_VERSION "\nspec: " OCI_VERSION "\n");
		return 1;
	case 'h':
		help(o);
		return 1;
	default:
		return error_set(err, ERROR_INVALID, "unknown option; see %s --help", o->name);
	}
}

static int run(struct oci *o, int argc, char **argv, struct error *err) {
	opterr = 0;
	optind = 0;
	for (int c; (c = getopt_long(argc, argv, "+hv", options, NULL)) != -1;) {
		int r = global_option(o, c, err);
		if (r != 0)
			return r > 0 ? 0 : r;
	}
	const struct oci_command *command = optind < argc ? find(argv[optind]) : NULL;
	if (!command)
		return error_set(err, ERROR_INVALID, "%s%s; see %s --help", optind < argc ? "unknown command " : "no command",
				 optind < argc ? argv[optind] : "", o->name);
	/* only these start processes in containers */
	if (command->run == oci_create || command->run == oci_run || command->run == oci_exec) {
		int r = container_protect_self(err);
		if (r < 0)
			return r;
	}
	argc -= optind;
	argv += optind;
	optind = 0;
	return command->run(o, argc, argv, err);
}

static int exit_status(const struct error *err) {
	return err->kind == ERROR_NO_COMMAND ? 127 : err->kind == ERROR_NO_EXEC ? 126 : 125;
}

int oci_main(int argc, char **argv) {
	struct oci o = {.root = str_copy("/run/wabe-oci"), .log_fd = -1, .name = argv[0]};
	struct error err = ERROR_INIT;
	signal(SIGPIPE, SIG_IGN);
	int status = run(&o, argc, argv, &err);
	if (status < 0) {
		oci_log(&o, "error", "%s", error_text(&err));
		fprintf(stderr, "%s: %s%s%s\n", o.name, err.field ? err.field : "", err.field ? ": " : "", error_text(&err));
		status = exit_status(&err);
	}
	error_free(&err);
	free(o.root);
	close_fd(&o.log_fd);
	return status;
}
