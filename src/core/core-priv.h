/* The struct behind core.h and what its files share. `lock` guards everything here but what is marked; it is
 * never held over a call to the agent, the store or a sink. */
#pragma once

#include "base/crew.h"
#include "base/map.h"
#include "core/core.h"
#include "core/events.h"
#include "core/images.h"
#include "core/instances.h"
#include "core/networks-priv.h"
#include "core/nouns.h"
#include "image/content.h"
#include "store/store.h"
#include "wire/messages.h"

#include <pthread.h>

/* ---- follow.c: one thread steps through everything that waits for something to happen ---- */
enum follow_result { FOLLOW_WAIT, FOLLOW_SOON /* look again in a moment */, FOLLOW_END };
struct follower {
	struct follower *next;
	enum follow_result (*step)(struct follower *f);
	void (*drop)(struct follower *f, bool ended); /* frees it; ended false: the core is closing */
};
struct follow;
struct follow *follow_new(void);
void follow_stop(struct follow *f); /* drops all followers; more may still be added */
void follow_free(struct follow *f);
void follow_add(struct follow *f, struct follower *one); /* takes it; its first step comes at once */
void follow_wake(struct follow *f);
/* Has every follower stepped when the file behind fd is written to or renamed. A watch or -errno. */
int follow_watch_file(struct follow *f, int fd);
void follow_unwatch_file(struct follow *f, int watch);

/* ---- instances ---- */
struct entry {
	int refs;
	struct instance_snap *snap;
	bool creating; /* not visible yet; keeps its id, name and image */
	bool busy;     /* being changed or removed by one verb */
	bool loaded;   /* from the store: what the agent says of it is newer in any case */
	bool orphan;   /* part of an operation of a process before this one: to be removed */
	bool removed;  /* gone: only who held it before still sees it */
	bool leaving;  /* gone from store and agent: it uses no volume any more */
	bool unsure;   /* a change of it was cut off: the agent may have it, the store has not */
	unsigned restarts; /* that are under way: its end is not for good */
	unsigned exits;
	unsigned starts, ends; /* that the agent's events have told */
};

/* ---- nouns.c ---- */
struct noun_kind {
	const char *prefix; /* of keys, and the member of a list: "volumes" */
	const char *noun;   /* in messages, and the type of events: "volume" */
	const struct field_table *table;
	size_t id, name, labels;
	size_t project;     /* NO_PROJECT: it belongs to the host */
};
#define NO_PROJECT ((size_t)-1)
struct nouns;

/* ---- images ---- */
struct image_entry {
	struct image_snap *snap;
};

struct layer_entry {
	char *digest; /* of the blob that was unpacked; "" if not known */
	int64_t size; /* of the files in it, -1: not known */
};
struct map *layers_new(void);
struct list_cache {
	char *key;
	uint64_t generation;
	int64_t revision;
	struct list_text *text;
};

/* ---- events.c ---- */
#define EVENTS_KEPT 10000
#define EVENTS_IN_MEMORY 1024
struct event_item {
	int refs;
	struct event event;
	char *json;
	size_t len;
};
struct event_chunk {
	int64_t first;
	size_t n;
};
struct events {
	int64_t revision;  /* of the newest */
	int64_t oldest;    /* the oldest that can still be had */
	struct event_item *ring[EVENTS_IN_MEMORY]; /* by revision % size */
	int64_t ring_first;
	int64_t saved;     /* newest revision in the store or in a transaction under way */
	struct event_chunk *chunks; /* in the store, oldest first */
	size_t n_chunks, n_stored;
};

struct core {
	struct store *store;
	struct content *content;
	char *agent_socket, *id;
	char *state; /* directory of control's own */
	char **mirrors;
	const int *certificates;
	void (*on_shutdown)(void *arg);
	void *arg;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* broadcast at each change of an instance */
	struct map *by_id, *by_name; /* of struct entry: id; project/name */
	uint64_t generation; /* of all instances together */
	struct list_cache lists[4];
	unsigned next_list;

	struct map *images, *refs; /* id → image_entry; name → image_entry of images */
	struct map *orphans; /* id → image_entry, see image-orphans.c */
	pthread_mutex_t images_write; /* one change of images and names at a time; taken before lock */

	struct map *layers; /* diff_id → struct layer_entry: what the agent has unpacked */
	struct map *unpacking; /* diff_id: being unpacked or removed just now */
	struct map *templates; /* "<pool's id>/<digits>": disks of images that the agent has as volumes */
	struct map *layers_held; /* diff_id: found or unpacked under a hold, see collect.c */
	unsigned layer_holds;
	struct crew *unpackers, *jobs, *runners, *senders;

	struct objects networks, groups, balancers; /* objects-priv.h */
	pthread_mutex_t net_write; /* one change of them at a time; taken before lock */
	struct port_claims *ports;
	struct selections *selections;

	struct events events;
	pthread_mutex_t flush_lock; /* one writer of events at a time; taken before lock */

	struct map *execs; /* id → struct exec, see execs.c */
	struct map *tasks; /* id → struct task_run */
	struct map *tickets; /* id → struct ticket, see migrations.c */
	struct map *held;  /* names of core_hold */

	struct nouns *pools, *volumes, *workloads, *secrets, *configs, *clusters;
	struct map *lent;      /* secrets in memory alone and sockets, by name: see kept.c; NULL: none yet */
	struct map *making;    /* ids of volumes that the agent is making */
	char **left_volumes;   /* ids of those that an operation had when control ended; as they were at the start */
	struct map *snapshots; /* id of a volume or instance → its set, see snapshots.c */
	pthread_t clock_thread;
	pthread_cond_t clock_wanted;

	struct follow *follow;
	struct stats_clock *stats; /* stats.c */

	/* the agent, see agent.c */
	pthread_t agent_thread, flush_thread;
	bool threads, closing, synced;
	bool stopping; /* core_shutdown: nothing is to be started any more */
	pthread_cond_t sync_changed, flush_wanted;
	int agent_fd; /* of the events stream, -1 */
	struct msg_hello host;
	int64_t started_at;
};

void core_lock(struct core *c);
void core_unlock(struct core *c);
static inline void core_unlock_ptr(struct core **c) {
	core_unlock(*c);
}
/* Holds the lock to the end of the block. */
#define WITH_LOCK(c)                                                  \
	_cleanup_(core_unlock_ptr) UNUSED struct core *locked_core_ = (c); \
	core_lock(c)

/* ---- agent.c ---- */
/* One request; reply NULL: not wanted. */
int agent_call(struct core *c, const char *request, const void *body, void *reply, struct error *err);
/* The same with descriptors: sends `send_fd` (-1: none), takes one into *recv_fd (NULL: none). */
int agent_call_fd(struct core *c, const char *request, const void *body, int send_fd, void *reply, int *recv_fd,
		  struct error *err);
/* The same, with what is told on the way. */
int agent_call_fds(struct core *c, const char *request, const void *body, const int *fds, size_t nfds, void *reply, struct error *err);
int agent_call_watched(struct core *c, const char *request, const void *body, int send_fd, void *reply,
		       void (*progress)(const json_t *body, void *arg), void *arg, struct error *err);
/* The same as the call says, in which connection and request are filled in; as many descriptors as there is room for must come. */
int agent_call_as(struct core *c, const char *request, struct wire_call *call, struct error *err);
/* The same for a task: shows progress, ends when the task is cancelled. *recv_fd: the stream of the answer, which must
 * have one then; NULL: none. */
struct task_run;
/* The same with n descriptors in the answer. */
int agent_task_fds(struct core *c, struct task_run *t, const char *request, const void *body, int *fds, size_t n, struct error *err);
int agent_task(struct core *c, struct task_run *t, const char *request, const void *body, int *recv_fd,
	       struct error *err);
/* With descriptors that go along. */
int agent_task_give(struct core *c, struct task_run *t, const char *request, const void *body, const int *fds, size_t n, void *reply,
		    struct error *err);
int agent_start(struct core *c, struct error *err);
void agent_stop(struct core *c);

/* ---- entries.c ---- */
struct instance_snap *instance_snap_new(const struct instance *i); /* copies */
void entry_unref(struct core *c, struct entry *e); /* lock not held */
char *name_key(const char *project, const char *name);
bool is_id_prefix(const char *text); /* at least 4 digits of an id */
static inline char *copy_or_null(const char *s) {
	return s ? str_copy(s) : NULL;
}
/* Needs the lock; the entry is not referenced. */
struct entry *entry_find(struct core *c, const char *project, const char *name, struct error *err);
/* Takes the lock itself; gives a reference. */
int entry_get(struct core *c, const char *project, const char *name, struct entry **out, struct error *err);
/* Replaces the state; needs the lock. Takes snap. */
void entry_set(struct core *c, struct entry *e, struct instance_snap *snap);
/* Takes over what the agent says unless it is older than what is known; needs the lock. */
void entry_apply(struct core *c, struct entry *e, const struct instance_status *status, int64_t uid_base);
/* What the agent has answered, which is freed. Takes the lock. */
void entry_take_state(struct core *c, struct entry *e, struct msg_instance_state *state);
struct instance_snap *entry_snap(struct core *c, struct entry *e); /* takes the lock; a reference */
/* Waits until no other verb changes the entry. NOT_FOUND when it is gone by then. Take the lock. */
int entry_acquire(struct core *c, struct entry *e, struct error *err);
void entry_release(struct core *c, struct entry *e);
/* Has an instance removed that was to go when it ends, if it has, and is not about to start anew. Needs the lock. */
void entry_check_end(struct core *c, struct entry *e);
/* Is the state one in which processes live or will again by themselves? */
bool state_is_up(const char *state);

struct entry_ref {
	struct core *core;
	struct entry *entry;
};
void entry_ref_drop(struct entry_ref *r); /* for _cleanup_ */

/* ---- instances.c ---- */
int instances_load(struct core *c, struct error *err);
char *instance_key(const char *project, const char *id);
/* "key=value" or "key" */
bool label_fits(const struct pairs *labels, const char *wanted);
/* "NAME:ALIAS" of its links becomes "ID:ALIAS". Needs the lock. */
int links_resolve(struct core *c, const char *project, struct instance_spec *s, struct error *err);
/* Another instance, as which one begins. */
struct task_run;
struct migration_arrival;
struct instance_origin {
	struct msg_volume_ref root;
	bool linked; /* sharing what is common */
	bool memory; /* of a machine: going on with its memory */
	struct task_run *task; /* that it is part of */
	const struct migration_arrival *arrives; /* or nothing of the above: it comes from another daemon; its disks are empty so far */
};
/* instance_create, with an origin. */
int instance_create_from(struct core *c, const char *project, struct instance_spec *spec, const struct instance_origin *from,
			 struct instance_snap **out, struct error *err);
/* instance_update that may change mounts of type volume also while it runs: who calls it mounts them. */
/* Another host port takes the place of the k-th, which was picked. */
int instance_repick_port(struct core *c, const struct instance *i, size_t k, struct error *err);
int instance_change_mounts(struct core *c, const char *project, const char *name, const json_t *patch,
			   struct instance_snap **out, struct error *err);
int instance_remove_entry(struct core *c, struct entry *e, bool force, struct error *err);
/* Of one that comes from another daemon: removes it, or keeps it where it has been started. On failure the next time that the agent
 * is there tries again. */
int instance_arrival_end(struct core *c, struct entry *e, struct error *err);
/* ---- migrate.c, migrations.c ---- */
/* Has the agent end a migration away from here, asking the other daemon if need be; waits until that answers. */
void migration_settle(struct core *c, struct entry *e);
struct ticket;
void ticket_free(void *ticket);
/* Has the agent make the instance (again). from NULL: of its image alone. */
int instance_make(struct core *c, const struct instance *i, const struct instance_origin *from, struct msg_instance_state *state,
		  struct error *err);

/* ---- nouns.c ---- */
struct nouns *nouns_new(const struct noun_kind *kind);
void nouns_free(struct nouns *o);
/* All of the kind from the store, while nobody else is there. */
int nouns_load(struct core *c, struct nouns *o, struct error *err);
/* By name, id, or a prefix of at least 4 digits of an id; project is not looked at for kinds without. Needs the lock; not
 * referenced. NULL: NOT_FOUND, or INVALID when two have the prefix. */
struct noun *noun_find(struct core *c, struct nouns *o, const char *project, const char *name, struct error *err);
/* The same with the lock taken, referenced. */
int noun_get(struct core *c, struct nouns *o, const char *project, const char *name, struct noun **out,
	       struct error *err);
/* By id alone; needs the lock. */
struct noun *noun_by_id(struct nouns *o, const char *id);
/* EXISTS with field "name" when one of the project has that name. Needs the lock. */
int noun_name_free(struct nouns *o, const char *project, const char *name, struct error *err);
/* Walks in order of creation; needs the lock. For (size_t i = 0; (x = nouns_next(o, &i));). */
struct noun *nouns_next(const struct nouns *o, size_t *cursor);
size_t nouns_count(const struct nouns *o);
/* Stores a new object or a new state of one, in one transaction with `more`, then publishes it with an event. A name
 * that changes leaves the old one free. *out (NULL: not wanted) is referenced. */
int noun_save(struct core *c, struct nouns *o, const void *noun, const char *action, const struct store_op *more,
		size_t n_more, struct noun **out, struct error *err);
/* The same in memory alone, without an event: for what only the agent knows (a status). Needs the lock. */
void noun_replace(struct nouns *o, const void *noun);
int noun_delete(struct core *c, struct nouns *o, const void *noun, const struct store_op *more, size_t n_more,
		  struct error *err);
/* {"revision":N,"<prefix>":[…]}, the newest last; labels (NULL: any) as in instance_filter; free the text. */
int nouns_text(struct core *c, struct nouns *o, const char *project, char *const *labels, char **json, size_t *len,
		 struct error *err);
/* All of a project as they are now, in order of creation: for nouns_unref. */
int nouns_all(struct core *c, struct nouns *o, const char *project, struct noun ***out, struct error *err);
/* One verb at a time changes what `key` names ("volume/<id>"): waits for the other one. Not while the lock is held. */
void core_hold(struct core *c, const char *key);
void core_release(struct core *c, const char *key);
struct held {
	struct core *core;
	char *key;
};
/* _cleanup_(held_release) struct held h = hold(c, "volume", id); */
struct held hold(struct core *c, const char *noun, const char *id);
void held_release(struct held *h);

/* ---- pools.c, volumes.c, snapshots.c, mounts.c, mounts-live.c ---- */
extern const struct noun_kind pool_kind, volume_kind;
int pools_read(struct core *c, struct error *err);
int pools_resync(struct core *c, struct error *err);
/* Pools and volumes. */
int volumes_resync(struct core *c, struct error *err);
void volumes_note_left(struct core *c); /* once, when they are loaded */
void volumes_drop_left(struct core *c); /* those that nobody uses any more */
int snapshots_load(struct core *c, struct error *err);
void snapshots_run_schedules(struct core *c, int64_t now); /* takes and removes what schedules want */
void *snapshots_clock(void *core); /* a thread that does so in time */
/* Fills pool_id and volumes of an instance from its spec; volumes that are not there are made. *made: ids of those, to be
 * freed, for volumes_drop when the instance does not come to be. */
/* The layers of images that it mounts are with the agent. */
int mounted_images_ensure(struct core *c, const struct instance *i, struct error *err);
int instance_resolve_storage(struct core *c, struct instance *i, char ***made, struct error *err);
/* Of a machine that begins as another one: the block volumes that it writes to become copies, which are its own. *made gets their ids. */
int arrival_disks_make(struct core *c, const char *project, const struct migration_arrival *a, char ***made, struct error *err);
int clone_disks_make(struct core *c, struct instance *i, const struct instance_origin *from, char ***made, struct error *err);
void volumes_drop(struct core *c, const char *project, char *const *ids);
bool mount_is_volume(const struct mount *m);
const struct volume_use *volume_use_named(const struct instance *i, const char *name);
/* Of an instance that runs the agent unmounts those volumes of old that new has not, and mounts those of new that old has not. */
int mounts_take(struct core *c, const struct instance *old, const struct instance *new, struct error *err);
int mounts_give(struct core *c, const struct instance *old, const struct instance *new, struct error *err);
/* The targets that differ, for mounts_settle: there the agent does what i says, whatever it has. */
json_t *mounts_changing(const struct instance *old, const struct instance *new);
int mounts_settle(struct core *c, const struct instance *i, const json_t *targets, struct error *err);

/* ---- kept.c, workloads.c ---- */
extern const struct noun_kind workload_kind, secret_kind, config_kind, cluster_kind;
/* Whether what the spec's files name is there; NOT_FOUND with field. Takes the lock. */
int kept_files_check(struct core *c, const char *project, const struct instance_spec *spec, struct error *err);
/* What is in them, one behind the other, in *fd: -1 where there are none. files: a copy of the spec's that gets their sizes. */
int kept_files_open(struct core *c, const char *project, instance_files *files, int *fd, struct error *err);
/* The sockets among them, as the agent wants them at each start. They stay the lender's. */
int kept_sockets(struct core *c, const instance_files *files, int fds[WIRE_FDS_MAX], size_t *nfds, struct error *err);

/* The name of a workload whose template names the network, or NULL. Needs the lock. */
const char *workload_on(struct core *c, const struct object *network);

/* ---- instance-change.c ---- */
/* Marks those whose change was cut off. */
int changes_load(struct core *c, struct error *err);
/* Has the agent take what the store says of such a one; its caller holds the entry. */
void change_settle(struct core *c, struct entry *e);

/* ---- images.c ---- */
struct image_snap *image_snap_new(const struct image *image, char *const *names); /* a copy with other names */
char *image_json(const struct image *i);
char *image_key(const char *project, const char *id);
char *image_ref_key(const char *project, const char *name);
/* Needs the lock, as image_find does. *by_id (may be NULL): it is named by its id. */
struct image_entry *image_find_how(struct core *c, const char *name, bool *by_id, struct error *err);
void image_forget_name(struct image_entry *e, const char *name); /* needs the lock */
int images_load(struct core *c, struct error *err);
/* id → image_entry, of all that the store has under the prefix. */
int images_read(struct core *c, const char *prefix, struct map *into, struct error *err);
/* Needs the lock; NULL and NOT_FOUND. */
struct image_entry *image_find(struct core *c, const char *name, struct error *err);
/* The reference as it is kept: "docker.io/library/debian:latest"; free it. */
int image_name_full(const char *text, char **full, struct error *err);
/* Makes the image known under its names (which leave the images that had them). */
int image_store(struct core *c, const char *project, const struct image *image, struct image_snap **out,
		struct error *err);

/* ---- media.c: what a machine gets besides its disk ---- */
struct media_files {
	int files;              /* of the spec's files, -1: none; the caller's to set, closed with the rest */
	struct msg_medium items[MEDIA_MAX];
	int fds[1 + MEDIA_MAX]; /* to be sent: files first, where there is one */
	size_t n, nfds;
};
/* What the spec names, as files. image: of its root, NULL for an empty disk. NOT_FOUND, INVALID with field (of the spec). */
int media_collect(struct core *c, const struct instance *i, const struct image *image, struct media_files *m, struct error *err);
void media_close(struct media_files *m);
/* Whether those of new are others than those of old. */
bool media_differ(const struct instance *old, const struct instance *new);
int media_send(struct core *c, const struct instance *i, struct error *err);

/* ---- image-disk.c ---- */
#define IMPORTED_BY "wabe image import"
/* Of the streams of a bootstrap of variant kernel. Under a hold. */
int kernel_import(struct core *c, const char *project, const char *name, int tar, int init, struct image_snap **out, struct error *err);
/* A disk, medium or kernel, of which n bytes (head) have been read from fd already. Under a hold. */
struct blob_import {
	const char *project, *name, *kind, *format, *comment; /* NULL: not known, none */
};
int blob_import(struct core *c, const struct blob_import *b, const void *head, size_t n, int fd, struct image_snap **out,
		struct error *err);
/* The same of an OVA: an image of its disks, with what it says of its machine. */
int ova_import(struct core *c, const struct blob_import *b, const void *head, size_t n, int fd, struct image_snap **out, struct error *err);
/* Of an image that is not one of files: its blobs are what its manifest and config say. INVALID, CORRUPT. */
int blobs_inspect(struct core *c, const struct image *image, struct error *err);
/* The image's disk is in that pool, as what disks of machines begin as: its id is the digest's digits. */
int template_ensure(struct core *c, const struct image *image, const char *pool_id, struct error *err);
/* Whether a volume that the agent has is the disk of an image; notes it. Needs the lock. */
bool template_known(struct core *c, const char *pool_id, const char *id);
int templates_drop(struct core *c, const char *pool_id, struct error *err); /* all in a pool that nobody uses any more */
/* Removes those whose digests are not among the needed. */
void templates_collect(struct core *c, const struct map *needed);
/* UNSUPPORTED where a verb is for images of files alone. */
int image_need_oci(const struct image *image, struct error *err);

/* ---- image-orphans.c: images that were removed while instances had them. All but the first two need the lock ---- */
int orphans_load(struct core *c, struct error *err);
void orphans_drop(struct core *c); /* those that no instance has any more */
struct map *orphans_new(void);
void orphan_add(struct core *c, struct image_entry *e); /* takes it */
char *orphan_key(const char *id); /* in the store */
struct image_entry *image_of_instance(struct core *c, const struct instance *i); /* filed or an orphan; NULL: it has none */
/* Walks over images and orphans: for (struct image_walk w = {0}; image_next(c, &w, &image);) */
struct image_walk {
	bool orphans;
	size_t at;
};
bool image_next(struct core *c, struct image_walk *w, const struct image **image);

/* ---- image-hardware.c ---- */
/* What the spec of a new machine does not say is taken from its image. Needs the lock. INVALID. */
int image_hardware_fill(struct core *c, const char *project, const struct image *image, struct instance_spec *s, struct error *err);
/* The image's disks but the first: volumes of the instance's own, mounted by its spec. *made gets their ids. */
int image_disks_make(struct core *c, struct instance *i, const struct image *image, char ***made, struct error *err);

/* Of an instance that is there now: from here on they are its own, and no operation's. */
void image_disks_keep(struct core *c, const struct instance_snap *s);

/* ---- transfer.c ---- */
void image_publish(struct core *c, const char *project, const char *action, const char *id, const char *name); /* an event */

/* ---- collect.c ---- */
/* Removes blobs and layers that no image needs. */
int images_collect(struct core *c, uint64_t *freed, struct error *err);
/* Between hold and release no collection removes a blob or layer that was added or found there meanwhile:
 * from before a pull, load or build until the image is stored. Holds nest. */
void images_hold(struct core *c);
void images_release(struct core *c);
/* The layer was found there. Needs the lock. */
void layer_note(struct core *c, const char *diff_id);
/* Under a hold: this image's blobs stay until its end, whatever happens to the image. */
void image_keep(struct core *c, const struct image *image);

/* ---- layers.c ---- */
/* Needs the lock. Takes over what the agent has, and what filed images say about it. */
void layers_set(struct core *c, char *const *diff_ids);
/* Layers of one image on their way into the agent, two at a time. */
struct unpack_batch;
/* progress (may be NULL, any thread): a layer's blob, how far it is; total 0: it is unpacked. */
struct unpack_batch *unpack_begin(struct core *c, const volatile bool *cancel,
				  void (*progress)(const char *digest, int64_t done, int64_t total, void *arg), void *arg);
void unpack_add(struct unpack_batch *b, const struct image_layer *layer); /* any thread */
int unpack_end(struct unpack_batch *b, struct error *err); /* waits for all; frees b */
int layers_ensure(struct core *c, const struct image *image, struct error *err);
/* Before an image is filed: its blobs hold what is unpacked. Those that nobody has looked into yet, as the layer came
 * with another image, are read. CORRUPT. */
int layers_check(struct core *c, const struct image *image, struct error *err);

/* ---- events.c ---- */
/* Publishes an event; attributes: "key", "value", …, NULL. Needs the lock. */
void event_add(struct core *c, const char *type, const char *action, const char *project, const char *id,
	       const char *name, ...) __attribute__((sentinel));
int events_load(struct core *c, struct error *err);
/* A transaction that takes the events waiting to be written along. */
int events_txn(struct core *c, const struct store_op *ops, size_t n, struct error *err);
int events_flush(struct core *c, struct error *err);
void events_free(struct core *c);

/* ---- inside.c, execs.c ---- */
/* Did the agent send a stream? */
int stream_expected(int fd, struct error *err);
/* The size of the terminal of an instance's first process, or of an exec (exec_id NULL: the former). */
int terminal_resize(struct core *c, const char *id, const char *exec_id, int64_t rows, int64_t columns, struct error *err);
struct map *execs_new(void);
struct stats_clock *stats_clock_new(void);
void stats_clock_free(struct core *c);
/* The instance has gone; an exec has ended. Need the lock. */
void execs_drop_instance(struct core *c, const char *id);
void execs_note_end(struct core *c, const char *exec_id, int64_t exit_code);

/* The agent's answer has come: waits for its event of the same (`told` is starts or ends of an entry, which was `before`), so
 * that what is published next comes behind it. Gives up after a moment. */
void event_await(struct core *c, const unsigned *told, unsigned before);

/* ---- tasks.c ---- */
struct task_run;
enum task_flags {
	TASK_FOLLOWED = 1 << 0, /* who starts it follows its steps, and it is cancelled when the last of those has gone;
				 * unless anybody has started it without this */
};
/* Starts fn on a thread of its own, or finds the running task with the same kind and key (NULL: never). Gives its JSON.
 * fn's arg is freed by drop after the run, or at once if there was such a task. */
int task_start_flags(struct core *c, const char *project, const char *kind, const char *target, const char *key, unsigned flags,
		     int (*fn)(struct core *c, struct task_run *t, void *arg, char **result, struct error *err), void *arg,
		     void (*drop)(void *arg), char **json, struct error *err);
int task_start(struct core *c, const char *project, const char *kind, const char *target, const char *key,
	       int (*fn)(struct core *c, struct task_run *t, void *arg, char **result, struct error *err), void *arg,
	       void (*drop)(void *arg), char **json, struct error *err);
void task_progress(struct core *c, struct task_run *t, const char *message, int64_t done, int64_t total);
/* A part begins a step; and how far its step is. */
void task_step(struct core *c, struct task_run *t, const char *part, const char *message, int64_t done, int64_t total);
void task_step_progress(struct core *c, struct task_run *t, const char *part, int64_t done, int64_t total);
volatile bool *task_cancel_flag(struct task_run *t);
int task_cancel_fd(struct task_run *t); /* readable once it is cancelled */
void task_final(struct core *c, struct task_run *t); /* its message says why it cannot be cancelled from here on */
void tasks_cancel_all(struct core *c);
void task_run_drop(void *t);
