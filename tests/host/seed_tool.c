/* The media of src/seed, for tests: seed_tool FILE, with a struct cloud_init as JSON on standard input. */
#include "base/fs.h"
#include "seed/seed.h"

#include <fcntl.h>
#include <stdio.h>

static char *addresses[] = {(char *)"10.84.0.5/20", (char *)"fd00:1::5/64", NULL},
	    *gateways[] = {(char *)"10.84.0.1", (char *)"fd00:1::1", NULL}, *dns[] = {(char *)"10.84.0.1", NULL},
	    *search[] = {(char *)"default.wabe", NULL};
static const struct seed_nic nics[] = {
	{"eth0", "02:00:00:00:00:05", addresses, gateways, dns, search, 1400},
	{.interface = "eth1", .mac = "02:00:00:00:00:06"},
};

static int run(const char *path, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct cloud_init config = {0};
	struct seed s = {.config = &config, .id = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
			 .hostname = "web.example", .nics = nics, .n_nics = ARRAY_SIZE(nics)};
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fs_read_fd(0, 1 << 24, &text) < 0)
		return error_errno(err, errno, "cannot use %s", path);
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&text), text.len, err);
	int r = o ? fields_parse(&cloud_init_table, o, 0, &config, err) : -(int)err->kind;
	if (r == 0)
		r = seed_write(&s, fd, err);
	fields_free(&cloud_init_table, &config);
	return r;
}

int main(int argc, char **argv) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (argc == 2 && run(argv[1], &err) == 0)
		return 0;
	fprintf(stderr, "seed_tool: %s: %s\n", err.field ? err.field : "", error_text(&err));
	return 1;
}
