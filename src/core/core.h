/* The verbs of wabe: what control does with instances, images and tasks, whatever dialect asked for it.
 *
 * A core owns the store, the content store and the connection to the agent. All functions may be called
 * from several threads at once and block until they are done, unless said otherwise.
 *
 * What is durable. Acknowledged creation, change and removal of an instance, an image or a name is on disk
 * (one transaction each). The status of an instance is the agent's knowledge: it lives in memory here and is
 * asked for again after every reconnection, never written by itself. Events are written in batches, with the
 * next transaction or about a second later: the last ones may be lost with the process, their revisions are
 * never given twice. Tasks live in memory alone: what they have reached is in the stores.
 *
 * Keys of the store:
 *   instances/<project>/<id>   the instance
 *   names/<project>/<name>     its id
 *   images/<project>/<id>      the image, without its names
 *   refs/<project>/<name>      an image's id
 *   networks/<project>/<id>, network-names/<project>/<name>: networks; rules/…, rule-names/… rule groups; balancers/…,
 *                              balancer-names/… balancers
 *   addresses/<project>/<network's id>/<address>  a reserved address (those of instances stand in these)
 *   changing/<project>/<id>    a change of that instance is under way: the agent may be ahead of the store
 *   pools/<id>, volumes/<project>/<id>, workloads/<project>/<id>, secrets/<project>/<id>, configs/<project>/<id>, clusters/<id>
 *   snapshots/<id>             all snapshots of one volume or instance
 *   daemon/id                                     random, made with the store
 *   events/<first revision>    a batch of events, a JSON line each; the last 10,000 events are kept */
#pragma once

#include "base/error.h"
#include "base/buf.h"
#include "base/json.h"

struct core;

struct core_config {
	const char *state;        /* directory of control's own: store.db, content/ */
	const char *agent_socket;
	bool memory_store;        /* for tests: nothing but blobs is kept on disk */
	char *const *mirrors;     /* registry mirrors for docker.io */
	const int *certificates;  /* of registries, as in registry_options; NULL: none. They stay the caller's */
	void (*on_shutdown)(void *arg); /* the daemon shall end: called once after core_shutdown */
	void *arg;
};

int core_open(const struct core_config *config, struct core **out, struct error *err);
/* Waits until the agent has been reached and its instances are known; false after timeout_ns. */
bool core_wait_agent(struct core *c, int64_t timeout_ns);
/* Ends the threads of the core; what followers wait for is cut off. */
void core_close(struct core *c);

/* An empty file of control's own without a name, for what is under way; it is gone with its descriptor. */
int core_spool(struct core *c, struct error *err);
/* NOT_FOUND for a project that does not exist. For now there is one, "default". */
int core_project_check(struct core *c, const char *project, struct error *err);
/* What this host is and holds, as the native API shows it. */
json_t *core_info(struct core *c);
/* Has the agent stop every instance, each within timeout ns, take away what it has made on the host, and end; then calls
 * on_shutdown. CONFLICT: one is under way. UNAVAILABLE: the agent has died of it; the daemon goes on. */
int core_shutdown(struct core *c, int64_t timeout, struct error *err);
/* Makes core_close quick: every waiting follower ends now. */
void core_stop_following(struct core *c);
