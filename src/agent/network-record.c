/* What the agent keeps of networks and rules on disk, and the locks over it. Every write replaces a whole file; what
 * cannot be read is told and passed over. Nothing here decides anything. */
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct field wiring_fields[] = {
	FIELD(struct wiring, id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = "Of the instance"),
	FIELD(struct wiring, name, FIELD_STRING, .max = 128, .doc = "As the instance is called"),
	FIELD(struct wiring, nics, FIELD_LIST, .max = 64, .sub = &nic_table, .doc = "Its interfaces"),
	FIELD(struct wiring, ports, FIELD_LIST, .max = 256, .sub = &port_table, .doc = "Its published ports"),
};
const struct field_table wiring_table = {"wiring", "What a run has on the host's networks", sizeof(struct wiring), wiring_fields,
					 ARRAY_SIZE(wiring_fields)};

char *network_path(const struct agent *a, const char *id, const char *name) {
	return name ? str_format("%s/%s/%s", a->networks, id, name) : str_format("%s/%s", a->networks, id);
}

char *firewall_path(const struct agent *a, const char *kind, const char *id) {
	return id ? str_format("%s/%s/%s.json", a->firewall, kind, id) : str_format("%s/%s", a->firewall, kind);
}

/* --- networks --- */

int network_load(const struct agent *a, const char *id, struct network *out, struct error *err) {
	_cleanup_(free_ptr) char *path = network_path(a, id, "network.json");
	int r = object_load(&network_table, path, out, err);
	if (r == 0 && !str_same(out->id, id)) {
		network_free(out);
		return error_set(err, ERROR_CORRUPT, "%s is the record of another network", path);
	}
	return r;
}

int network_save(const struct agent *a, const struct network *n, struct error *err) {
	_cleanup_(free_ptr) char *dir = network_path(a, n->id, NULL), *path = network_path(a, n->id, "network.json");
	int r = fs_mkdir_p(dir, 0700);
	if (r < 0)
		return error_errno(err, r, "cannot make %s", dir);
	r = object_save(&network_table, path, n, err);
	fs_fsync_dir(a->networks);
	return r;
}

void network_free(struct network *n) {
	fields_free(&network_table, n);
}

void for_each_id(const char *dir, void (*fn)(const struct agent *a, const char *id, void *arg), const struct agent *a,
		 void *arg) {
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_(free_ptr) char *id = str_copy(e->d_name);
		if (str_ends(id, ".json"))
			id[strlen(id) - strlen(".json")] = '\0';
		if (id[0] != '.' && instance_id_check(id, NULL) == 0)
			fn(a, id, arg);
	}
	if (d)
		closedir(d);
}

static void load_network(const struct agent *a, const char *id, void *arg) {
	network_list *l = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	l->items = alloc_resize(l->items, l->n + 1, sizeof *l->items);
	if (network_load(a, id, &l->items[l->n], &err) == 0)
		l->n++;
	else
		log_error("network %.12s cannot be read: %s", id, error_text(&err));
}

void networks_load(const struct agent *a, network_list *out) {
	*out = (network_list){0};
	for_each_id(a->networks, load_network, a, out);
}

void networks_free(network_list *l) {
	for (size_t i = 0; i < l->n; i++)
		network_free(&l->items[i]);
	free(l->items);
	*l = (network_list){0};
}

/* --- wirings --- */

int wiring_load(const struct agent *a, const char *id, struct wiring *out, struct error *err) {
	_cleanup_(free_ptr) char *path = run_path(a, id, "network.json");
	return object_load(&wiring_table, path, out, err);
}

int wiring_save(const struct agent *a, const struct wiring *w, struct error *err) {
	_cleanup_(free_ptr) char *path = run_path(a, w->id, "network.json");
	_cleanup_(json_free_ptr) json_t *json = fields_print(&wiring_table, w);
	_cleanup_(free_ptr) char *text = json_print(json);
	int r = file_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

void wiring_remove(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, "network.json");
	unlink(path);
}

void wiring_free(struct wiring *w) {
	fields_free(&wiring_table, w);
}

static void load_wiring(const struct agent *a, const char *id, void *arg) {
	wiring_list *l = arg;
	_cleanup_(free_ptr) char *instance = instance_path(a, id, NULL);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (!fs_exists(instance))
		return; /* what is left of one that is no more */
	l->items = alloc_resize(l->items, l->n + 1, sizeof *l->items);
	if (wiring_load(a, id, &l->items[l->n], &err) == 0)
		l->n++;
	else if (err.kind != ERROR_NOT_FOUND)
		log_error("instance %.12s: %s", id, error_text(&err));
}

void wirings_load(const struct agent *a, wiring_list *out) {
	*out = (wiring_list){0};
	for_each_id(a->shims, load_wiring, a, out);
}

void wirings_free(wiring_list *l) {
	for (size_t i = 0; i < l->n; i++)
		wiring_free(&l->items[i]);
	free(l->items);
	*l = (wiring_list){0};
}

/* --- locks --- */

static int lock_dir(const char *path, int how, int *lock, struct error *err) {
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : lock_file(fd, how, LOCK_WAIT);
	if (r == -EBUSY)
		return error_set(err, ERROR_BUSY, "another operation on networks goes on; try again when it is done");
	if (r < 0)
		return error_errno(err, r, "cannot lock %s", path);
	*lock = TAKE_FD(fd);
	return 0;
}

int networks_lock(const struct agent *a, int how, int *lock, struct error *err) {
	return lock_dir(a->networks, how, lock, err);
}

int firewall_lock(const struct agent *a, int *lock, struct error *err) {
	return lock_dir(a->firewall, LOCK_EX, lock, err);
}
