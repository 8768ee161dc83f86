/* Numbers and times for people. */
#include "cli/cli.h"

#include "base/time.h"

#include <inttypes.h>

char *format_bytes(int64_t bytes) {
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	size_t u = 0;
	for (; v >= 1000 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	return str_format(u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

char *format_age(const char *time) {
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {{"year", 31536000}, {"month", 2592000}, {"week", 604800},
		     {"day", 86400},	 {"hour", 3600},     {"minute", 60}};
	int64_t ns;
	if (!time || time_parse(time, &ns) < 0)
		return str_copy("-");
	int64_t seconds = MAX((time_now_ns() - ns) / NS_PER_SEC, INT64_C(0));
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		int64_t n = seconds / units[i].seconds;
		if (n)
			return str_format("%" PRId64 " %s%s", n, units[i].name, n == 1 ? "" : "s");
	}
	return str_format("%" PRId64 " second%s", seconds, seconds == 1 ? "" : "s");
}

char *format_seconds(int64_t ns) {
	int64_t s = ns / NS_PER_SEC;
	return str_format("%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
}

const char *short_id(const char *id, char out[13]) {
	if (!id)
		id = "";
	if (str_starts(id, "sha256:"))
		id += strlen("sha256:");
	snprintf(out, 13, "%s", id);
	return out;
}

static void add_range(struct buf *b, int64_t first, int64_t count) {
	buf_addf(b, "%" PRId64, first);
	if (count > 1)
		buf_addf(b, "-%" PRId64, first + count - 1);
}

char *format_ports(const json_t *ports) {
	struct buf b = BUF_INIT;
	size_t i;
	json_t *p;
	json_array_foreach(ports, i, p) {
		const char *address = json_get_str(p, "address"), *protocol = json_get_str(p, "protocol");
		int64_t count = json_get_int(p, "count");
		buf_adds(&b, i ? ", " : "");
		if (address)
			buf_addf(&b, strchr(address, ':') ? "[%s]:" : "%s:", address);
		add_range(&b, json_get_int(p, "host_port"), count);
		buf_adds(&b, "->");
		add_range(&b, json_get_int(p, "port"), count);
		buf_addf(&b, "/%s", protocol ? protocol : "tcp");
	}
	buf_adds(&b, "");
	return buf_steal(&b);
}

int parse_when(const char *text, char **out, struct error *err) {
	int64_t ns;
	bool digits = text[strspn(text, "0123456789.")] == '\0';
	if (!digits && str_to_duration(text, &ns) == 0)
		ns = time_now_ns() - ns;
	else if (time_parse(text, &ns) < 0)
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is neither a time (2026-11-22T23:09:46Z) nor a time ago (10m)", text);
	char formatted[TIME_TEXT_MAX];
	time_format(ns, formatted);
	free(*out);
	*out = str_copy(formatted);
	return 0;
}
