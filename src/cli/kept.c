/* What the commands of secrets and configs share. */
#include "base/base64.h"
#include "base/fs.h"
#include "cli/cli.h"
#include "model/workload.h"

#include <unistd.h>

int kept_create(const struct invocation *in, const char *path, struct error *err) {
	const char *file = in->args[1] ? in->args[1] : "-";
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	_cleanup_(json_free_ptr) json_t *body = fields_print(&secret_spec_table, in->fields), *made = NULL;
	_cleanup_(close_fd) int fd = open_input(file, err);
	if (fd < 0)
		return fd;
	int r = fs_read_fd(fd, KEPT_DATA_MAX, &data);
	if (r < 0)
		return error_errno(err, r, "reading %s (at most %zu bytes)", file, KEPT_DATA_MAX);
	_cleanup_(free_ptr) char *text = base64_encode(buf_str(&data), data.len);
	json_set_str(body, "name", in->args[0]);
	json_set_str(body, "data", text);
	r = api_call(in, "POST", api_path(in, "/%s", path), body, &made, err);
	if (r == 0)
		puts(in->args[0]);
	return r;
}

int kept_ls(const struct invocation *in, const char *path, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/%s", path), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *all = json_object_get(reply, path);
	if (in->json) {
		print_json(all);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "SIZE", "CREATED", "CHANGED", NULL});
	size_t i;
	json_t *one;
	json_array_foreach(all, i, one) {
		_cleanup_(free_ptr) char *created = format_age(json_get_str(one, "created_at")),
					 *changed = format_age(json_get_str(one, "updated_at")),
					 *size = format_bytes(json_get_int(one, "size"));
		table_add(t, json_get_str(json_object_get(one, "spec"), "name"), size, created, changed);
	}
	table_print(t, true);
	return 0;
}
