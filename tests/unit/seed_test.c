/* Media for cloud-init: what is in them, read back by another library; that they are the same each time. What cloud-init makes of
 * them is tests/host/seed_test.py's. */
#include "seed/seed.h"

#include "base/fs.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define BLOCK 2048

static char *addresses[] = {(char *)"10.84.0.5/20", (char *)"fd00:1::5/64", NULL}, *gateways[] = {(char *)"10.84.0.1", NULL},
	    *dns[] = {(char *)"10.84.0.1", NULL};
static const struct seed_nic nics[] = {
	{.interface = "eth0", .mac = "02:00:00:00:00:05", .addresses = addresses, .gateways = gateways, .dns = dns, .mtu = 1400},
	{.interface = "eth1", .mac = "02:00:00:00:00:06"},
};

static struct seed seed_of(const struct cloud_init *c) {
	return (struct seed){.config = c, .id = ID, .hostname = "web.example", .nics = nics, .n_nics = ARRAY_SIZE(nics)};
}

static const char *file(const struct seed_file *files, const char *path) {
	for (; files->path; files++)
		if (str_same(files->path, path))
			return files->data;
	return NULL;
}

static json_t *parsed(const char *text) {
	struct error err = ERROR_INIT;
	assert_non_null(text);
	json_t *o = json_parse(text, strlen(text), &err);
	if (!o)
		fail_msg("%s in %s", error_text(&err), text);
	return o;
}

static void wanted(UNUSED void **state) {
	char *keys[] = {(char *)"ssh-ed25519 AAAA", NULL};
	assert_false(seed_wanted(&(struct cloud_init){0}));
	assert_false(seed_wanted(&(struct cloud_init){.datasource = (char *)"none"}));
	assert_true(seed_wanted(&(struct cloud_init){.datasource = (char *)"nocloud"}));
	assert_true(seed_wanted(&(struct cloud_init){.ssh_keys = keys}));
	assert_true(seed_wanted(&(struct cloud_init){.upgrade = true}));
}

static void nocloud(UNUSED void **state) {
	char *keys[] = {(char *)"ssh-ed25519 AAAA me@there", NULL}, *packages[] = {(char *)"vim", NULL};
	struct cloud_init c = {.user = (char *)"alice", .password = (char *)"secret", .ssh_keys = keys, .packages = packages};
	struct seed s = seed_of(&c);
	struct seed_file files[SEED_FILES_MAX];
	assert_int_equal(seed_files(&s, files, NULL), 0);
	const char *user_data = file(files, "user-data");
	assert_true(str_starts(user_data, "#cloud-config\n"));
	_cleanup_(json_free_ptr) json_t *config = parsed(user_data + strlen("#cloud-config\n")), *meta = parsed(file(files, "meta-data")),
					*network = parsed(file(files, "network-config"));
	json_t *user = json_object_get(config, "user");
	assert_string_equal(json_get_str(user, "name"), "alice");
	assert_true(str_starts(json_get_str(user, "hashed_passwd"), "$y$"));
	assert_null(strstr(user_data, "secret"));
	assert_null(json_object_get(config, "merge_how"));
	assert_string_equal(json_get_str(meta, "local-hostname"), "web.example");
	assert_true(str_starts(json_get_str(meta, "instance-id"), "wabe-001122334455-"));
	assert_null(file(files, "vendor-data"));
	assert_int_equal(json_get_int(network, "version"), 2);
	json_t *ethernets = json_object_get(network, "ethernets"), *eth0 = json_object_get(ethernets, "eth0");
	assert_string_equal(json_get_str(json_object_get(eth0, "match"), "macaddress"), "02:00:00:00:00:05");
	assert_int_equal(json_array_size(json_object_get(eth0, "addresses")), 2);
	assert_int_equal(json_get_int(eth0, "mtu"), 1400);
	assert_true(json_get_bool(json_object_get(ethernets, "eth1"), "dhcp4"));
	seed_files_free(files);
}

/* Strings that would be something else in YAML, or end it. */
static void hostile_strings(UNUSED void **state) {
	static const char *const bad[] = {"a: b", "- x", "\"q\" 'q' \\ ", "#no comment", "{{ jinja }}", "%YAML", "tab\there", "~", "yes",
					  "0x10", "*anchor", "\xc2\x85next", "\xe2\x80\xa8line", "del\x7f", "\xf0\x9f\x98\x80",
					  "\xef\xbb\xbf" "bom", "\xc3\xa4\xe2\x82\xac"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *keys[] = {(char *)bad[i], NULL};
		struct cloud_init c = {.ssh_keys = keys};
		struct seed s = seed_of(&c);
		struct seed_file files[SEED_FILES_MAX];
		assert_int_equal(seed_files(&s, files, NULL), 0);
		const char *text = file(files, "user-data");
		for (const char *p = text; *p; p++)
			assert_true(*p != 0x7f && !str_starts(p, "\xc2\x85") && !str_starts(p, "\xe2\x80\xa8") &&
				    !str_starts(p, "\xef\xbb\xbf"));
		_cleanup_(json_free_ptr) json_t *config = parsed(text + strlen("#cloud-config\n"));
		assert_string_equal(json_string_value(json_array_get(json_object_get(config, "ssh_authorized_keys"), 0)), bad[i]);
		seed_files_free(files);
	}
}

static char *instance_id(const struct seed *s, const char *path, const char *key) {
	struct seed_file files[SEED_FILES_MAX];
	assert_int_equal(seed_files(s, files, NULL), 0);
	_cleanup_(json_free_ptr) json_t *meta = parsed(file(files, path));
	char *id = str_copy(json_get_str(meta, key));
	seed_files_free(files);
	return id;
}

static void a_new_id_for_what_is_new(UNUSED void **state) {
	struct cloud_init variants[] = {
		{.user = (char *)"alice"},
		{.user = (char *)"alice", .password = (char *)"a"},
		{.user = (char *)"alice", .password = (char *)"b"},
		{.user = (char *)"alice", .vendor_data = (char *)"#cloud-config\n{}\n"},
		{.user = (char *)"alice", .network_config = (char *)"version: 1\n"},
		{.user_data = (char *)"#!/bin/sh\n"},
	};
	_cleanup_(strv_free_ptr) char **seen = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct seed s = seed_of(&variants[i]);
		_cleanup_(free_ptr) char *again = instance_id(&s, "meta-data", "instance-id");
		char *id = instance_id(&s, "meta-data", "instance-id");
		assert_string_equal(id, again);
		assert_false(strv_has(seen, id));
		strv_take(&seen, id);
	}
	struct seed other = seed_of(&variants[0]);
	other.hostname = "db.example";
	char *id = instance_id(&other, "meta-data", "instance-id");
	assert_false(strv_has(seen, id));
	free(id);
	other.n_nics = 1;
	_cleanup_(free_ptr) char *one_nic = instance_id(&other, "meta-data", "instance-id");
	assert_false(strv_has(seen, one_nic));
}

static void config_drive(UNUSED void **state) {
	char *keys[] = {(char *)"ssh-ed25519 AAAA", NULL};
	struct cloud_init c = {.datasource = (char *)"config-drive", .ssh_keys = keys, .vendor_data = (char *)"#!/bin/sh\necho \"x\"\n"};
	struct seed s = seed_of(&c);
	struct seed_file files[SEED_FILES_MAX];
	assert_int_equal(seed_files(&s, files, NULL), 0);
	_cleanup_(json_free_ptr) json_t *meta = parsed(file(files, "openstack/latest/meta_data.json")),
					*vendor = parsed(file(files, "openstack/latest/vendor_data.json")),
					*network = parsed(file(files, "openstack/latest/network_data.json"));
	assert_string_equal(json_get_str(json_object_get(meta, "public_keys"), "key0"), keys[0]);
	assert_string_equal(json_get_str(vendor, "cloud-init"), c.vendor_data);
	json_t *networks = json_object_get(network, "networks"), *first = json_array_get(networks, 0);
	assert_int_equal(json_array_size(networks), 3);
	assert_string_equal(json_get_str(first, "ip_address"), "10.84.0.5");
	assert_string_equal(json_get_str(first, "netmask"), "255.255.240.0");
	assert_string_equal(json_get_str(json_array_get(networks, 1), "ip_address"), "fd00:1::5/64");
	assert_string_equal(json_get_str(json_array_get(networks, 2), "type"), "ipv4_dhcp");
	seed_files_free(files);

	struct error err = ERROR_INIT;
	c.network_config = (char *)"version: 2\n";
	c.user_data = (char *)"#cloud-config\n";
	assert_int_equal(seed_files(&s, files, &err), -ERROR_INVALID);
	assert_string_equal(err.field, "network_config");
	error_free(&err);
	c.network_config = (char *)"{\"links\": [], \"networks\": []}";
	assert_int_equal(seed_files(&s, files, NULL), 0);
	assert_string_equal(file(files, "openstack/latest/network_data.json"), c.network_config);
	seed_files_free(files);
}

/* --- the image --- */

static int medium(const struct seed *s) {
	int fd = memfd_create("seed", MFD_CLOEXEC);
	assert_true(fd >= 0);
	struct error err = ERROR_INIT;
	if (seed_write(s, fd, &err) < 0)
		fail_msg("%s", error_text(&err));
	return fd;
}

static void image_equals(int fd, const struct seed_file *files, const char *volume) {
	char descriptor[BLOCK];
	_cleanup_(free_ptr) char *padded = str_format("%-32s", volume);
	assert_int_equal(pread(fd, descriptor, BLOCK, 16 * BLOCK), BLOCK);
	assert_memory_equal(descriptor + 1, "CD001", 5);
	assert_memory_equal(descriptor + 40, padded, 32);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	size_t found = 0;
	archive_read_support_format_iso9660(a);
	assert_int_equal(archive_read_open_fd(a, fd, BLOCK), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		if (archive_entry_filetype(e) != AE_IFREG)
			continue;
		const char *path = archive_entry_pathname(e), *data = file(files, str_starts(path, "./") ? path + 2 : path);
		assert_non_null(data);
		size_t size = strlen(data);
		_cleanup_(free_ptr) char *read = alloc_zero(size + 2);
		assert_int_equal(archive_entry_size(e), size);
		assert_int_equal(archive_read_data(a, read, size + 1), size);
		assert_memory_equal(read, data, size);
		found++;
	}
	archive_read_free(a);
	for (; files->path; files++, found--)
		;
	assert_int_equal(found, 0);
}

static void image(UNUSED void **state) {
	_cleanup_(free_ptr) char *large = alloc_zero(300001);
	memset(large, 'x', 300000);
	memcpy(large, "#!", 2);
	for (int i = 0; i < 2; i++) {
		struct cloud_init c = {.datasource = (char *)(i ? "config-drive" : "nocloud"), .user_data = large, .upgrade = true};
		struct seed s = seed_of(&c);
		struct seed_file files[SEED_FILES_MAX];
		assert_int_equal(seed_files(&s, files, NULL), 0);
		_cleanup_(close_fd) int fd = medium(&s);
		image_equals(fd, files, i ? "config-2" : "cidata");
		seed_files_free(files);
	}
}

static void the_same_bytes(UNUSED void **state) {
	struct cloud_init c = {.user = (char *)"alice", .password = (char *)"secret"};
	struct seed s = seed_of(&c);
	_cleanup_(buf_free) struct buf one = BUF_INIT, two = BUF_INIT;
	_cleanup_(close_fd) int first = medium(&s);
	setenv("TZ", "Asia/Tokyo", 1);
	_cleanup_(close_fd) int second = medium(&s);
	lseek(first, 0, SEEK_SET);
	lseek(second, 0, SEEK_SET);
	assert_int_equal(fs_read_fd(first, BUF_DEFAULT_MAX, &one), 0);
	assert_int_equal(fs_read_fd(second, BUF_DEFAULT_MAX, &two), 0);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(buf_str(&one), buf_str(&two), one.len);
	assert_null(memmem(buf_str(&one), one.len, "secret", 6));
}

static void no_room(UNUSED void **state) {
	struct cloud_init c = {.upgrade = true};
	struct seed s = seed_of(&c);
	struct error err = ERROR_INIT;
	_cleanup_(close_fd) int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(seed_write(&s, fd, &err), -ERROR_NO_SPACE);
	error_free(&err);
	_cleanup_(close_fd) int again = medium(&s); /* and the library is as before */
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wanted),      cmocka_unit_test(nocloud), cmocka_unit_test(hostile_strings),
		cmocka_unit_test(a_new_id_for_what_is_new), cmocka_unit_test(config_drive),
		cmocka_unit_test(image),       cmocka_unit_test(the_same_bytes), cmocka_unit_test(no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
