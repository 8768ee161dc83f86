/* The bodies about swarm mode: what each member must be. What is kept of them as it came, and read member by member, is of
 * the right kinds then; and names are as documented: dockerd takes them in any case, and its own description of
 * ServiceSpec says HealthCheck where the member is Healthcheck. */
#include "dialect/docker/swarm-priv.h"

#include <strings.h>

enum kind { TEXT, INT, NUMBER, BOOL, TEXTS, PAIRS, OBJECT, LIST };

struct swarm_member {
	const char *name;
	enum kind kind;
	const struct swarm_member *of; /* of an object, or of a list's objects; NULL: any */
};

static const struct swarm_member nothing[] = {{0}},
	driver[] = {{"Name", TEXT, 0}, {"Options", PAIRS, 0}, {0}},
	seccomp[] = {{"Mode", TEXT, 0}, {"Profile", TEXT, 0}, {0}},
	apparmor[] = {{"Mode", TEXT, 0}, {0}},
	privileges[] = {{"CredentialSpec", OBJECT, nothing}, {"SELinuxContext", OBJECT, nothing}, {"Seccomp", OBJECT, seccomp},
			{"AppArmor", OBJECT, apparmor}, {"NoNewPrivileges", BOOL, 0}, {0}},
	health[] = {{"Test", TEXTS, 0}, {"Interval", INT, 0}, {"Timeout", INT, 0}, {"StartPeriod", INT, 0}, {"StartInterval", INT, 0},
		    {"Retries", INT, 0}, {0}},
	dns[] = {{"Nameservers", TEXTS, 0}, {"Search", TEXTS, 0}, {"Options", TEXTS, 0}, {0}},
	file[] = {{"Name", TEXT, 0}, {"UID", TEXT, 0}, {"GID", TEXT, 0}, {"Mode", INT, 0}, {0}},
	secret[] = {{"File", OBJECT, file}, {"SecretID", TEXT, 0}, {"SecretName", TEXT, 0}, {0}},
	config[] = {{"File", OBJECT, file}, {"Runtime", OBJECT, nothing}, {"ConfigID", TEXT, 0}, {"ConfigName", TEXT, 0}, {0}},
	ulimit[] = {{"Name", TEXT, 0}, {"Soft", INT, 0}, {"Hard", INT, 0}, {0}},
	container[] = {{"Image", TEXT, 0}, {"Labels", PAIRS, 0}, {"Command", TEXTS, 0}, {"Args", TEXTS, 0}, {"Hostname", TEXT, 0},
		       {"Env", TEXTS, 0}, {"Dir", TEXT, 0}, {"User", TEXT, 0}, {"Groups", TEXTS, 0}, {"Privileges", OBJECT, privileges},
		       {"Init", BOOL, 0}, {"StopSignal", TEXT, 0}, {"TTY", BOOL, 0}, {"OpenStdin", BOOL, 0}, {"ReadOnly", BOOL, 0},
		       {"Mounts", LIST, nothing}, {"StopGracePeriod", INT, 0}, {"Healthcheck", OBJECT, health}, {"Hosts", TEXTS, 0},
		       {"DNSConfig", OBJECT, dns}, {"Secrets", LIST, secret}, {"Configs", LIST, config}, {"Isolation", TEXT, 0},
		       {"Sysctls", PAIRS, 0}, {"CapabilityAdd", TEXTS, 0}, {"CapabilityDrop", TEXTS, 0}, {"Ulimits", LIST, ulimit},
		       {"OomScoreAdj", INT, 0}, {0}},
	limits[] = {{"NanoCPUs", INT, 0}, {"MemoryBytes", INT, 0}, {"Pids", INT, 0}, {0}},
	reservations[] = {{"NanoCPUs", INT, 0}, {"MemoryBytes", INT, 0}, {"GenericResources", LIST, nothing}, {0}},
	resources[] = {{"Limits", OBJECT, limits}, {"Reservations", OBJECT, reservations}, {0}},
	restart[] = {{"Condition", TEXT, 0}, {"Delay", INT, 0}, {"MaxAttempts", INT, 0}, {"Window", INT, 0}, {0}},
	spread[] = {{"SpreadDescriptor", TEXT, 0}, {0}},
	preference[] = {{"Spread", OBJECT, spread}, {0}},
	platform[] = {{"Architecture", TEXT, 0}, {"OS", TEXT, 0}, {0}},
	placement[] = {{"Constraints", TEXTS, 0}, {"Preferences", LIST, preference}, {"MaxReplicas", INT, 0}, {"Platforms", LIST, platform},
		       {0}},
	network[] = {{"Target", TEXT, 0}, {"Aliases", TEXTS, 0}, {"DriverOpts", PAIRS, 0}, {0}},
	attachment[] = {{"ContainerID", TEXT, 0}, {0}},
	task[] = {{"ContainerSpec", OBJECT, container}, {"PluginSpec", OBJECT, nothing}, {"NetworkAttachmentSpec", OBJECT, attachment},
		  {"Resources", OBJECT, resources}, {"RestartPolicy", OBJECT, restart}, {"Placement", OBJECT, placement},
		  {"Networks", LIST, network}, {"LogDriver", OBJECT, driver}, {"ForceUpdate", INT, 0}, {"Runtime", TEXT, 0}, {0}},
	replicated[] = {{"Replicas", INT, 0}, {0}},
	job[] = {{"MaxConcurrent", INT, 0}, {"TotalCompletions", INT, 0}, {0}},
	mode[] = {{"Replicated", OBJECT, replicated}, {"Global", OBJECT, nothing}, {"ReplicatedJob", OBJECT, job}, {"GlobalJob", OBJECT, nothing},
		  {0}},
	rollout[] = {{"Parallelism", INT, 0}, {"Delay", INT, 0}, {"FailureAction", TEXT, 0}, {"Monitor", INT, 0},
		     {"MaxFailureRatio", NUMBER, 0}, {"Order", TEXT, 0}, {0}},
	port[] = {{"Name", TEXT, 0}, {"Protocol", TEXT, 0}, {"TargetPort", INT, 0}, {"PublishedPort", INT, 0}, {"PublishMode", TEXT, 0}, {0}},
	endpoint[] = {{"Mode", TEXT, 0}, {"Ports", LIST, port}, {0}},
	service[] = {{"Name", TEXT, 0}, {"Labels", PAIRS, 0}, {"TaskTemplate", OBJECT, task}, {"Mode", OBJECT, mode},
		     {"UpdateConfig", OBJECT, rollout}, {"RollbackConfig", OBJECT, rollout}, {"Networks", LIST, network},
		     {"EndpointSpec", OBJECT, endpoint}, {0}},
	orchestration[] = {{"TaskHistoryRetentionLimit", INT, 0}, {0}},
	raft[] = {{"SnapshotInterval", INT, 0}, {"KeepOldSnapshots", INT, 0}, {"LogEntriesForSlowFollowers", INT, 0}, {"ElectionTick", INT, 0},
		  {"HeartbeatTick", INT, 0}, {0}},
	dispatcher[] = {{"HeartbeatPeriod", INT, 0}, {0}},
	authority[] = {{"Protocol", TEXT, 0}, {"URL", TEXT, 0}, {"Options", PAIRS, 0}, {"CACert", TEXT, 0}, {0}},
	authorities[] = {{"NodeCertExpiry", INT, 0}, {"ExternalCAs", LIST, authority}, {"SigningCACert", TEXT, 0}, {"SigningCAKey", TEXT, 0},
			 {"ForceRotate", INT, 0}, {0}},
	defaults[] = {{"LogDriver", OBJECT, driver}, {0}},
	encryption[] = {{"AutoLockManagers", BOOL, 0}, {0}},
	swarm[] = {{"Name", TEXT, 0}, {"Labels", PAIRS, 0}, {"Orchestration", OBJECT, orchestration}, {"Raft", OBJECT, raft},
		   {"Dispatcher", OBJECT, dispatcher}, {"CAConfig", OBJECT, authorities}, {"TaskDefaults", OBJECT, defaults},
		   {"EncryptionConfig", OBJECT, encryption}, {0}},
	kept_driver[] = {{"Driver", OBJECT, driver}, {"Templating", OBJECT, driver}, {0}},
	init[] = {{"Spec", OBJECT, swarm}, {0}};

const struct swarm_member *const swarm_service_shape = service, *const swarm_spec_shape = swarm, *const swarm_init_shape = init,
				  *const swarm_kept_shape = kept_driver;

static const struct swarm_member *member_of(const struct swarm_member *m, const char *name) {
	for (; m->name; m++)
		if (strcasecmp(m->name, name) == 0)
			return m;
	return NULL;
}

static bool all_texts(const json_t *value) {
	const char *key;
	json_t *item;
	size_t i;
	json_array_foreach(value, i, item)
		if (!json_is_string(item))
			return false;
	json_object_foreach((json_t *)value, key, item)
		if (!json_is_string(item))
			return false;
	return true;
}

static bool is_kind(const json_t *value, enum kind kind) {
	switch (kind) {
	case TEXT: return json_is_string(value);
	case INT: return json_is_integer(value);
	case NUMBER: return json_is_number(value);
	case BOOL: return json_is_boolean(value);
	case TEXTS: return json_is_array(value) && all_texts(value);
	case PAIRS: return json_is_object(value) && all_texts(value);
	case OBJECT: return json_is_object(value);
	case LIST: return json_is_array(value);
	}
	return false;
}

static int check_object(json_t *object, const struct swarm_member *members, const char *path, struct error *err);

static int check_member(json_t *value, const struct swarm_member *m, const char *path, struct error *err) {
	static const char *const wanted[] = {
		[TEXT] = "a text", [INT] = "an integer", [NUMBER] = "a number", [BOOL] = "true or false", [TEXTS] = "a list of texts",
		[PAIRS] = "an object of texts", [OBJECT] = "an object", [LIST] = "a list"};
	json_t *item;
	size_t i;
	int r = 0;
	if (!is_kind(value, m->kind))
		return error_set(err, ERROR_INVALID, "%s: must be %s", path, wanted[m->kind]);
	if (m->kind == OBJECT)
		return check_object(value, m->of, path, err);
	if (m->kind == LIST)
		json_array_foreach(value, i, item)
			if (r == 0 && !json_is_null(item))
				r = json_is_object(item) ? check_object(item, m->of, path, err)
							 : error_set(err, ERROR_INVALID, "%s: must be a list of objects", path);
	return r;
}

static int check_object(json_t *object, const struct swarm_member *members, const char *path, struct error *err) {
	const char *key;
	json_t *value;
	void *next;
	json_object_foreach_safe(object, next, key, value) {
		const struct swarm_member *m = member_of(members, key);
		if (!m || json_is_null(value))
			continue;
		_cleanup_(free_ptr) char *at = str_format("%s%s%s", path, *path ? "." : "", m->name);
		int r = check_member(value, m, at, err);
		if (r < 0)
			return r;
		if (str_same(key, m->name))
			continue;
		json_object_set(object, m->name, value);
		json_object_del(object, key);
	}
	return 0;
}

json_t *swarm_body(struct http_request *req, const struct swarm_member *shape) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	json_t *body = docker_body(req);
	if (!body)
		return NULL;
	if (json_is_object(body) && check_object(body, shape, "", &err) == 0)
		return body;
	json_decref(body);
	docker_fail(req, 400, "%s", err.kind ? error_text(&err) : "the body must be an object");
	return NULL;
}
