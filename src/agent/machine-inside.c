/* What a machine's guest tells of itself: its processes (wabe-init by a command of its own, a system by its ps), its system and its
 * addresses; and passwords inside. */
#include "agent/machine-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/guest.h"
#include "driver/qemu/lines.h"

#include <stdio.h>

#define CALL_WAIT (30 * NS_PER_SEC)
#define SHORT_WAIT (5 * NS_PER_SEC) /* wabe show waits for it */
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

/* --- its system --- */

static int check_machine(const struct job *j, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	int result = record_load(j->agent, j->id, &r, err);
	if (result == 0 && !instance_is_machine(&r.instance.spec))
		result = error_set(err, ERROR_CONFLICT, "instance %.12s is a container: this is for machines", j->id);
	return result;
}

static void take_interfaces(struct guest_interfaces *from, struct inside *to) {
	to->interfaces.items = alloc_array(from->n + 1, sizeof *to->interfaces.items);
	for (; to->interfaces.n < from->n; to->interfaces.n++) {
		struct guest_interface *i = &from->items[to->interfaces.n];
		to->interfaces.items[to->interfaces.n] =
			(struct inside_interface){TAKE_PTR(i->name), TAKE_PTR(i->mac), TAKE_PTR(i->addresses)};
	}
	guest_interfaces_free(from);
}

/* An agent need not know all of it. */
static int ask_all(struct guest *g, int64_t deadline, struct inside *out, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	struct guest_interfaces interfaces = {0};
	struct guest_os os = {0};
	int r = guest_interfaces(g, deadline, &interfaces, &why);
	take_interfaces(&interfaces, out);
	if (r == 0 || r == -ERROR_UNSUPPORTED)
		r = guest_os(g, deadline, &os, &why);
	out->os = TAKE_PTR(os.name);
	out->kernel = TAKE_PTR(os.kernel);
	guest_os_free(&os);
	if (r == 0 || r == -ERROR_UNSUPPORTED)
		r = guest_host_name(g, deadline, &out->hostname, &why);
	return r == 0 || r == -ERROR_UNSUPPORTED ? 0 : error_move(err, &why);
}

int work_machine_inside(struct job *j, struct error *err) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	struct inside inside = {0};
	int64_t deadline = time_mono_ns() + SHORT_WAIT;
	int r = check_machine(j, err);
	if (r == 0)
		r = machine_guest_open(j->agent, j->id, deadline, &g, err);
	if (r == 0)
		r = ask_all(g, deadline, &inside, err);
	if (r == 0)
		r = job_answer(j, &inside, NULL, 0, err);
	fields_free(&inside_table, &inside);
	return r;
}

int work_machine_password(struct job *j, struct error *err) {
	const struct msg_machine_password *m = j->body;
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	int64_t deadline = time_mono_ns() + CALL_WAIT;
	int r = check_machine(j, err);
	if (r == 0)
		r = machine_guest_open(j->agent, j->id, deadline, &g, err);
	if (r == 0)
		r = guest_set_password(g, m->change.user, m->change.password, m->change.hashed, deadline, err);
	return r < 0 ? r : job_answer(j, NULL, NULL, 0, err);
}
