/* wabe stats: what instances use, measured between two readings. */
#include "cli/cli.h"

#include "base/time.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

struct options {
	bool no_stream;
};

static const struct option_row options[] = {
	OPTION(struct options, no_stream, BOOL, "no-stream", .doc = "Once, not each second"),
	{0},
};

struct reading {
	json_t *stats; /* NULL: it does not run */
	int64_t at;
};

static int read_one(const struct invocation *in, const char *name, struct reading *to, struct error *err) {
	struct reading new = {.at = time_mono_ns()};
	int r = api_call(in, "GET", api_path(in, "/instances/%s/stats", name), NULL, &new.stats, err);
	if (r < 0)
		return r;
	json_decref(to->stats);
	*to = new;
	return 0;
}

static double cpu_percent(const struct reading *before, const struct reading *now) {
	int64_t used = json_get_int(now->stats, "cpu_ns") - json_get_int(before->stats, "cpu_ns"),
		passed = now->at - before->at;
	return passed > 0 && used > 0 ? 100.0 * (double)used / (double)passed : 0;
}

static void add_row(struct table *t, const char *name, const struct reading *before, const struct reading *now) {
	const json_t *s = now->stats;
	int64_t memory = json_get_int(s, "memory"), limit = json_get_int(s, "memory_limit");
	_cleanup_(free_ptr) char *cpu = str_format("%.1f%%", cpu_percent(before, now));
	_cleanup_(free_ptr) char *used = format_bytes(memory),
				 *max = limit > 0 ? format_bytes(limit) : str_copy("unlimited");
	_cleanup_(free_ptr) char *both = str_format("%s / %s", used, max);
	_cleanup_(free_ptr) char *share =
		limit > 0 ? str_format("%.1f%%", 100.0 * (double)memory / (double)limit) : str_copy("-");
	_cleanup_(free_ptr) char *in = format_bytes(json_get_int(s, "read_bytes")),
				 *out = format_bytes(json_get_int(s, "write_bytes"));
	_cleanup_(free_ptr) char *io = str_format("%s / %s", in, out);
	_cleanup_(free_ptr) char *pids = str_format("%" PRId64, json_get_int(s, "pids"));
	table_add(t, name, cpu, both, share, io, pids);
}

static void show_json(char *const *names, const struct reading *now) {
	_cleanup_(json_free_ptr) json_t *all = json_object();
	for (size_t i = 0; names && names[i]; i++)
		json_object_set(all, names[i], now[i].stats);
	_cleanup_(free_ptr) char *line = json_print(all);
	puts(line);
}

static void show_table(char *const *names, const struct reading *before, const struct reading *now, bool clear) {
	struct table *t = table_new(
		(const char *const[]){"NAME", "CPU", "MEMORY / LIMIT", "SHARE", "READ / WRITTEN", "PIDS", NULL});
	for (size_t i = 0; names && names[i]; i++)
		add_row(t, names[i], &before[i], &now[i]);
	if (clear)
		printf("\033[H\033[2J");
	table_print(t, true);
}

static void show(const struct invocation *in, char *const *names, const struct reading *before,
		 const struct reading *now) {
	const struct options *o = in->options;
	if (in->json)
		show_json(names, now);
	else
		show_table(names, before, now, isatty(STDOUT_FILENO) && !o->no_stream);
	fflush(stdout);
}

/* All that run, where none is named. */
static int running_names(const struct invocation *in, char ***names, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/instances"), NULL, &reply, err);
	size_t i;
	json_t *instance;
	json_array_foreach(json_object_get(reply, "instances"), i, instance) {
		const char *name = json_get_str(json_object_get(instance, "spec"), "name");
		if (name)
			strv_add(names, name);
	}
	return r;
}

static int read_all(const struct invocation *in, char *const *names, struct reading *to, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && names && names[i]; i++)
		r = read_one(in, names[i], &to[i], err);
	return r;
}

static int watch(const struct invocation *in, char *const *names, struct reading *before, struct reading *now,
		 struct error *err) {
	const struct options *o = in->options;
	int r = read_all(in, names, before, err);
	while (r == 0) {
		nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
		r = read_all(in, names, now, err);
		if (r == 0)
			show(in, names, before, now);
		if (r < 0 || o->no_stream)
			return r;
		for (size_t i = 0; names && names[i]; i++) {
			json_decref(before[i].stats);
			before[i] = (struct reading){json_incref(now[i].stats), now[i].at};
		}
	}
	return r;
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = strv_copy(in->args);
	int r = names ? 0 : running_names(in, &names, err);
	if (r < 0)
		return r;
	size_t n = strv_len(names);
	struct reading *before = alloc_array(n, sizeof *before), *now = alloc_array(n, sizeof *now);
	r = watch(in, names, before, now, err);
	for (size_t i = 0; i < n; i++) {
		json_decref(before[i].stats);
		json_decref(now[i].stats);
	}
	free(before);
	free(now);
	return r;
}

const struct command command_stats = {
	.name = "stats",
	.group = "Instances",
	.usage = "[OPTION…] [INSTANCE…]",
	.doc = "Show what instances use",
	.examples = "wabe stats\nwabe stats --no-stream --json web",
	.options = options,
	.options_size = sizeof(struct options),
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "instance",
	.run = run,
};
