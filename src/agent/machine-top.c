/* The processes inside a machine, as its guest tells them: wabe-init by a command of its own, a system by its ps. */
#include "agent/machine-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/guest.h"
#include "driver/qemu/lines.h"

#include <stdio.h>

#define CALL_WAIT (30 * NS_PER_SEC)
#define PROCESSES_MAX 65536

static int ask_init(const struct agent *a, const char *id, struct msg_processes *out, struct error *err) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	_cleanup_(json_free_ptr) json_t *list = NULL;
	int64_t deadline = time_mono_ns() + CALL_WAIT;
	int r = machine_guest_open(a, id, deadline, &g, err);
	if (r == 0)
		r = guest_call(g, "io.wabe-processes", NULL, deadline, &list, err);
	return r < 0 ? r : fields_parse(&msg_processes_table, list, 0, out, err);
}

/* Six numbers and letters, then the command to the end of the line. */
static bool read_line(struct str line, int64_t now, struct process_row *row) {
	_cleanup_(free_ptr) char *text = str_copyn(line.p, line.len);
	long long pid, parent, uid, kib, cpu, age;
	char state;
	int at = 0;
	if (sscanf(text, "%lld %lld %lld %c %lld %lld %lld %n", &pid, &parent, &uid, &state, &kib, &cpu, &age, &at) < 7 || !at)
		return false;
	*row = (struct process_row){
		.pid = pid,
		.parent = parent,
		.user = str_format("%lld", uid),
		.state = str_format("%c", state),
		.command = lines_words(text + at),
		.memory = kib << 10,
		.cpu_ns = cpu * NS_PER_SEC,
		.started_at = now - age * NS_PER_SEC,
	};
	return true;
}

static int ask_ps(const struct agent *a, const char *id, struct msg_processes *out, struct error *err) {
	static char *const argv[] = {"ps", "-eo", "pid=,ppid=,uid=,s=,rss=,cputimes=,etimes=,args=", NULL};
	struct guest_result result;
	int r = machine_guest_run(a, id, argv, &result, err);
	struct str rest = {buf_str(&result.out), result.out.len};
	int64_t now = time_now_ns();
	if (r == 0 && result.status != 0) {
		_cleanup_(free_ptr) char *words = lines_words(buf_str(&result.err));
		r = error_set(err, ERROR_UNSUPPORTED, "the guest has no ps that tells its processes: %s", words);
	}
	while (r == 0 && rest.len && out->processes.n < PROCESSES_MAX) {
		struct process_row row;
		if (!read_line(str_cut(&rest, '\n'), now, &row))
			continue;
		out->processes.items = alloc_resize(out->processes.items, out->processes.n + 1, sizeof row);
		out->processes.items[out->processes.n++] = row;
	}
	guest_result_free(&result);
	return r;
}

int machine_processes(const struct agent *a, const struct msg_instance_create *r, struct msg_processes *out, struct error *err) {
	return guest_is(r) ? ask_init(a, r->instance.id, out, err) : ask_ps(a, r->instance.id, out, err);
}
