/* GET /containers/{id}/top: the processes, in the columns that ps would show for the arguments that are given. */
#include "dialect/docker/containers.h"

#include "base/time.h"

#include <time.h>

/* One process, and what its columns are reckoned from. */
struct row {
	const struct process_row *p;
	int64_t now, memory; /* of the host */
};

/* ---- columns: each gives a text to be freed ---- */

static char *number(int64_t n) {
	return str_format("%lld", (long long)n);
}

static char *pid(const struct row *r) {
	return number(r->p->pid);
}

static char *parent(const struct row *r) {
	return number(r->p->parent);
}

static char *user(const struct row *r) {
	const char *id = r->p->user ? r->p->user : "?";
	return str_copy(str_same(id, "0") ? "root" : id);
}

static char *uid(const struct row *r) {
	return str_copy(r->p->user ? r->p->user : "?");
}

static char *state(const struct row *r) {
	return str_copy(r->p->state ? r->p->state : "?");
}

static char *arguments(const struct row *r) {
	return str_copy(r->p->command ? r->p->command : "");
}

/* The program's own name: the last part of its path. */
static char *program(const struct row *r) {
	const char *text = r->p->command ? r->p->command : "";
	_cleanup_(free_ptr) char *path = str_copyn(text, strcspn(text, " "));
	const char *slash = strrchr(path, '/');
	return str_copy(slash ? slash + 1 : path);
}

static char *resident(const struct row *r) {
	return number(r->p->memory / 1024);
}

static double elapsed(const struct row *r) {
	return (double)MAX(r->now - r->p->started_at, NS_PER_SEC);
}

static char *cpu(const struct row *r) {
	return str_format("%d", (int)MIN((double)r->p->cpu_ns * 100 / elapsed(r), 99));
}

static char *cpu_percent(const struct row *r) {
	return str_format("%.1f", (double)r->p->cpu_ns * 100 / elapsed(r));
}

static char *memory_percent(const struct row *r) {
	return str_format("%.1f", r->memory ? (double)r->p->memory * 100 / (double)r->memory : 0);
}

static char *clock_text(int64_t s, bool hours) {
	int64_t d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60;
	if (d)
		return str_format("%lld-%02d:%02d:%02d", (long long)d, (int)h, (int)m, (int)(s % 60));
	if (h || hours)
		return str_format("%02d:%02d:%02d", (int)h, (int)m, (int)(s % 60));
	return str_format("%02d:%02d", (int)m, (int)(s % 60));
}

static char *cpu_time(const struct row *r) {
	return clock_text(r->p->cpu_ns / NS_PER_SEC, true);
}

/* Minutes and seconds, as BSD's ps has it. */
static char *cpu_minutes(const struct row *r) {
	int64_t s = r->p->cpu_ns / NS_PER_SEC;
	return str_format("%lld:%02d", (long long)(s / 60), (int)(s % 60));
}

static char *elapsed_time(const struct row *r) {
	return clock_text((r->now - r->p->started_at) / NS_PER_SEC, false);
}

static char *elapsed_seconds(const struct row *r) {
	return number((r->now - r->p->started_at) / NS_PER_SEC);
}

static char *time_text(const struct row *r, const char *format) {
	time_t at = (time_t)(r->p->started_at / NS_PER_SEC);
	struct tm tm;
	char text[64];
	localtime_r(&at, &tm);
	strftime(text, sizeof text, format, &tm);
	return str_copy(text);
}

/* The time of day for a day, then the day. */
static char *start_time(const struct row *r) {
	return time_text(r, r->now - r->p->started_at < 86400 * NS_PER_SEC ? "%H:%M" : "%b%d");
}

static char *full_start(const struct row *r) {
	return time_text(r, "%a %b %e %H:%M:%S %Y");
}

static char *terminal(UNUSED const struct row *r) {
	return str_copy("?");
}

struct column {
	const char *name, *title;
	char *(*text)(const struct row *r);
};

static const struct column columns[] = {
	{"pid", "PID", pid}, {"tgid", "TGID", pid}, {"ppid", "PPID", parent}, {"user", "USER", user}, {"euser", "EUSER", user},
	{"ruser", "RUSER", user}, {"uname", "USER", user}, {"uid", "UID", uid}, {"euid", "EUID", uid}, {"ruid", "RUID", uid},
	{"s", "S", state}, {"stat", "STAT", state}, {"state", "S", state}, {"args", "COMMAND", arguments},
	{"cmd", "CMD", arguments}, {"command", "COMMAND", arguments}, {"comm", "COMMAND", program},
	{"ucmd", "CMD", program}, {"ucomm", "COMMAND", program}, {"rss", "RSS", resident}, {"rssize", "RSS", resident},
	{"rsz", "RSZ", resident}, {"c", "C", cpu}, {"pcpu", "%CPU", cpu_percent}, {"%cpu", "%CPU", cpu_percent},
	{"pmem", "%MEM", memory_percent}, {"%mem", "%MEM", memory_percent}, {"time", "TIME", cpu_time},
	{"cputime", "TIME", cpu_time}, {"bsdtime", "TIME", cpu_minutes}, {"etime", "ELAPSED", elapsed_time},
	{"etimes", "ELAPSED", elapsed_seconds}, {"start", "STARTED", start_time}, {"start_time", "START", start_time},
	{"stime", "STIME", start_time}, {"bsdstart", "START", start_time}, {"lstart", "STARTED", full_start},
	{"tty", "TT", terminal}, {"tt", "TT", terminal}, {"tname", "TTY", terminal},
};

/* ---- arguments ---- */

#define COLUMNS_MAX 64
struct layout {
	const struct column *columns[COLUMNS_MAX];
	char *titles[COLUMNS_MAX];
	size_t n;
};

static void layout_free(struct layout *l) {
	while (l->n)
		free(l->titles[--l->n]);
}

static int add_column(struct layout *l, const char *name, const char *title, struct error *err) {
	for (size_t k = 0; k < ARRAY_SIZE(columns); k++)
		if (str_same(columns[k].name, name) && l->n < COLUMNS_MAX) {
			l->columns[l->n] = &columns[k];
			l->titles[l->n++] = str_copy(title ? title : columns[k].title);
			return 0;
		}
	_cleanup_(free_ptr) char *shown = text_shown(name);
	return error_set(err, ERROR_INVALID, "ps_args: the column \"%s\" is not known here", shown);
}

/* "pid,comm" or "pid=PROC" */
static int add_columns(struct layout *l, const char *list, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = strv_split(list, ',');
	int r = 0;
	for (size_t k = 0; r == 0 && names[k]; k++) {
		char *title = strchr(names[k], '=');
		if (title)
			*title++ = '\0';
		r = add_column(l, names[k], title, err);
	}
	return r;
}

static int add_named(struct layout *l, const char *const *names, struct error *err) {
	int r = 0;
	for (; r == 0 && names[0]; names += 2)
		r = add_column(l, names[0], names[1], err);
	return r;
}

static int add_usual(struct layout *l, bool full, bool bsd, struct error *err) {
	static const char *const of_full[] = {"user", "UID", "pid", NULL, "ppid", NULL, "c", NULL, "stime", NULL, "tname", NULL, "time", NULL, "cmd", NULL, NULL};
	static const char *const of_bsd[] = {"user", NULL, "pid", NULL, "%cpu", NULL, "%mem", NULL, "rss", NULL, "tname", NULL, "stat", NULL, "bsdstart", NULL, "bsdtime", NULL, "args", NULL, NULL};
	static const char *const of_short[] = {"pid", NULL, "tname", NULL, "time", NULL, "ucmd", NULL, NULL};
	/* pairs end with a name of NULL: a title of NULL is the column's own */
	return add_named(l, bsd ? of_bsd : full ? of_full : of_short, err);
}

/* Which processes is settled; of the letters only those that choose columns count. */
static int read_arguments(const char *text, struct layout *l, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = strv_split(text && *text ? text : "-ef", ' ');
	bool full = false, bsd = false;
	int r = 0;
	for (size_t k = 0; r == 0 && words[k]; k++) {
		const char *w = words[k] + (words[k][0] == '-');
		size_t n = strspn(w, "eAaxfu");
		full |= memchr(w, 'f', n) != NULL;
		bsd |= memchr(w, 'u', n) != NULL;
		if (w[n] == 'o' && w[n + 1])
			r = add_columns(l, w + n + 1, err);
		else if (w[n] == 'o' && words[k + 1])
			r = add_columns(l, words[++k], err);
		else if (w[n])
			r = error_set(err, ERROR_INVALID, "ps_args: only -ef, aux and -o with a list of columns are known here");
	}
	return r == 0 && !l->n ? add_usual(l, full, bsd, err) : r;
}

static bool has_pid(const struct layout *l) {
	for (size_t k = 0; k < l->n; k++)
		if (l->columns[k]->text == pid)
			return true;
	return false;
}

/* ---- the answer ---- */

static int64_t host_memory(struct core *c) {
	_cleanup_(json_free_ptr) json_t *info = core_info(c);
	return json_get_int(json_object_get(info, "agent"), "memory");
}

static json_t *render(struct core *c, const struct layout *l, const struct msg_processes *all) {
	json_t *titles = json_array(), *rows = json_array();
	struct row row = {.now = time_now_ns(), .memory = host_memory(c)};
	for (size_t k = 0; k < l->n; k++)
		json_array_append_new(titles, json_from_str(l->titles[k]));
	for (size_t i = 0; i < all->processes.n; i++) {
		json_t *line = json_array();
		row.p = &all->processes.items[i];
		for (size_t k = 0; k < l->n; k++) {
			_cleanup_(free_ptr) char *text = l->columns[k]->text(&row);
			json_array_append_new(line, json_from_str(text));
		}
		json_array_append_new(rows, line);
	}
	return json_pack("{soso}", "Processes", rows, "Titles", titles);
}

void docker_top(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(layout_free) struct layout l = {0};
	struct msg_processes all;
	if (!docker_container(req, http_param(req, "id"), &snap))
		return;
	const struct instance *i = &snap->instance;
	if (!docker_runs(i))
		return docker_fail(req, 409, "Container %s is not running", i->id);
	if (str_same(i->status.state, "restarting"))
		return docker_fail(req, 409, "Container %s is restarting, wait until the container is running", i->id);
	if (read_arguments(http_query(req, "ps_args"), &l, &err) < 0)
		return fail(req, &err);
	if (!has_pid(&l))
		return docker_fail(req, 500, "Couldn't find PID field in ps output");
	if (instance_top(core_of(req), DOCKER_PROJECT, i->id, &all, &err) < 0)
		return docker_container_fail(req, http_param(req, "id"), &err);
	docker_reply(req, 200, render(core_of(req), &l, &all));
	fields_free(&msg_processes_table, &all);
}
