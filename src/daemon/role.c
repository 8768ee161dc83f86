#include "daemon/role.h"

#include "base/fs.h"
#include "base/str.h"

#include <getopt.h>

static int number(const char *text, uint64_t max, struct error *err) {
	uint64_t value;
	if (str_to_u64(text, 10, &value) < 0 || value > max)
		return error_set(err, ERROR_INVALID, "%s is no number up to %llu", text, (unsigned long long)max);
	return (int)value;
}

static int take(struct role_options *o, int option, struct error *err) {
	int r = 0;
	switch (option) {
	case 's': o->state = optarg; break;
	case 'r': o->run = optarg; break;
	case 'm': strv_add(&o->mirrors, optarg); break;
	case 'c': strv_add(&o->certs, optarg); break;
	case 'u':
		r = number(optarg, INT32_MAX, err);
		o->uid = (uid_t)r;
		break;
	case 'g':
		r = number(optarg, INT32_MAX, err);
		o->gid = (gid_t)r;
		break;
	case 'y': r = o->ready_fd = number(optarg, 1023, err); break;
	case 'l':
		if (o->listening == CONTROL_SOCKETS)
			return error_set(err, ERROR_INVALID, "too many sockets");
		r = o->listen_fds[o->listening++] = number(optarg, 1023, err);
		break;
	default: return error_set(err, ERROR_INVALID, "an unknown option");
	}
	return r;
}

int role_parse(int argc, char **argv, struct role_options *o, struct error *err) {
	static const struct option known[] = {
		{"state", required_argument, NULL, 's'}, {"run", required_argument, NULL, 'r'},
		{"mirror", required_argument, NULL, 'm'}, {"certs", required_argument, NULL, 'c'}, {"uid", required_argument, NULL, 'u'},
		{"gid", required_argument, NULL, 'g'}, {"listen-fd", required_argument, NULL, 'l'},
		{"ready-fd", required_argument, NULL, 'y'}, {0},
	};
	*o = (struct role_options){.ready_fd = -1};
	for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		int r = take(o, c, err);
		if (r < 0)
			return r;
	}
	if (optind < argc || !o->state || !o->run || !o->uid || !o->listening)
		return error_set(err, ERROR_INVALID, "this program is started by `wabe daemon`");
	for (size_t i = 0; i < o->listening; i++)
		fd_set_cloexec(o->listen_fds[i], true);
	if (o->ready_fd >= 0)
		fd_set_cloexec(o->ready_fd, true);
	return 0;
}
