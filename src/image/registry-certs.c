/* The certificates that the host's administrator has laid down for a registry, as Docker has them: in a directory of the
 * registry's name, *.crt are authorities to be trusted beside the host's own, NAME.cert and NAME.key are what this host shows of
 * itself. They are read anew for each transfer. curl's GnuTLS takes files, so authorities become one without a name. */
#include "image/registry-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PEM_MAX ((size_t)4 << 20)
#define PEM_CERTIFICATE "-----BEGIN CERTIFICATE-----"

void certificates_free(struct certificates *c) {
	close_fd(&c->directory);
	close_fd(&c->authorities);
	free(c->client);
	free(c->key);
	*c = (struct certificates){.directory = -1, .authorities = -1};
}

/* "/etc/docker/certs.d/HOST/NAME", for people. */
static char *shown(int directory, const char *name) {
	char link[FD_PATH_MAX], path[512];
	ssize_t n = readlink(fd_path(directory, link), path, sizeof path);
	return str_format("%.*s/%s", n > 0 ? (int)n : 3, n > 0 ? path : "...", name);
}

static int unreadable(int directory, const char *name, int r, struct error *err) {
	_cleanup_(free_ptr) char *path = shown(directory, name);
	return error_set(err, ERROR_UNAVAILABLE, "cannot read %s: %s%s", path, strerror(-r),
			 r == -EACCES ? " (the user wabe must be able to: chgrp wabe, chmod g+r)" : "");
}

static int add_pem(int directory, const char *name, struct buf *all, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read_at(directory, name, PEM_MAX, &text);
	if (r < 0)
		return unreadable(directory, name, r, err);
	if (!strstr(buf_str(&text), PEM_CERTIFICATE)) {
		_cleanup_(free_ptr) char *path = shown(directory, name);
		return error_set(err, ERROR_UNAVAILABLE, "%s holds no certificate in PEM", path);
	}
	buf_addc(all, '\n');
	buf_add(all, buf_str(&text), text.len);
	return 0;
}

/* The host's own, and those. */
static int keep_authorities(struct certificates *c, const struct buf *own, struct error *err) {
	_cleanup_(buf_free) struct buf hosts = BUF_INIT;
	const char *bundle = curl_version_info(CURLVERSION_NOW)->cainfo;
	if (bundle && fs_read(bundle, PEM_MAX, &hosts) < 0)
		buf_truncate(&hosts, 0); /* a host without the package ca-certificates */
	c->authorities = memfd_create("authorities", MFD_CLOEXEC);
	int r = c->authorities < 0 ? -errno : fs_write_all(c->authorities, buf_str(&hosts), hosts.len);
	if (r == 0)
		r = fs_write_all(c->authorities, buf_str(own), own->len);
	return r < 0 ? error_errno(err, r, "keeping the authorities of a registry") : 0;
}

/* NAME.cert, with NAME.key beside it. */
static int take_client(struct certificates *c, char *const *names, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *key = str_format("%.*s.key", (int)(strlen(name) - strlen(".cert")), name);
	_cleanup_(free_ptr) char *path = shown(c->directory, name);
	if (!strv_has(names, key))
		return error_set(err, ERROR_UNAVAILABLE, "missing key %s for client certificate %s. CA certificates must use the extension .crt",
				 key, path);
	if (c->client)
		return error_set(err, ERROR_UNAVAILABLE, "%s is a second client certificate: wabe shows a registry one", path);
	const char *files[] = {name, key};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(close_fd) int fd = openat(c->directory, files[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return unreadable(c->directory, files[i], -errno, err);
	}
	char own[FD_PATH_MAX];
	c->client = str_format("%s/%s", fd_path(c->directory, own), name);
	c->key = str_format("%s/%s", own, key);
	return 0;
}

static int check_key(const struct certificates *c, char *const *names, const char *key, struct error *err) {
	_cleanup_(free_ptr) char *name = str_format("%.*s.cert", (int)(strlen(key) - strlen(".key")), key);
	if (strv_has(names, name))
		return 0;
	_cleanup_(free_ptr) char *path = shown(c->directory, key);
	return error_set(err, ERROR_UNAVAILABLE, "missing client certificate %s for key %s", name, path);
}

static int read_directory(struct certificates *c, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(buf_free) struct buf authorities = BUF_INIT;
	int r = fs_names(c->directory, &names);
	if (r < 0)
		return unreadable(c->directory, "", r, err);
	for (char **n = names; r == 0 && n && *n; n++) {
		if (str_ends(*n, ".crt"))
			r = add_pem(c->directory, *n, &authorities, err);
		else if (str_ends(*n, ".cert"))
			r = take_client(c, names, *n, err);
		else if (str_ends(*n, ".key"))
			r = check_key(c, names, *n, err);
	}
	return r == 0 && authorities.len ? keep_authorities(c, &authorities, err) : r;
}

int certificates_read(struct certificates *c, const int *directories, const char *host, struct error *err) {
	const char *scheme = strstr(host, "://"), *first = scheme ? scheme + 3 : host;
	_cleanup_(free_ptr) char *name = str_copyn(first, strcspn(first, "/"));
	*c = (struct certificates){.directory = -1, .authorities = -1};
	if (!*name || *name == '.')
		return 0;
	for (const int *d = directories; d && *d >= 0; d++) {
		c->directory = openat(*d, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (c->directory >= 0)
			return read_directory(c, err);
		if (errno != ENOENT && errno != ENOTDIR)
			return unreadable(*d, name, -errno, err);
	}
	return 0;
}
