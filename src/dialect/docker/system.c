/* The host as Docker's clients see it. What wabe has no equal of has the value that dockerd gives where it has none. */
#include "dialect/docker/inside.h"

#include "base/fs.h"
#include "base/time.h"

#include <strings.h>
#include <sys/utsname.h>

static void ping(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *swarm = docker_swarm_info(core_of(req));
	const char *state = json_get_str(swarm, "LocalNodeState");
	http_reply_header(req, "Builder-Version", "2");
	http_reply_header(req, "Swarm", state && str_same(state, "active") ? "active/manager" : "inactive");
	http_reply_header(req, "Cache-Control", "no-cache, no-store, must-revalidate");
	http_reply_header(req, "Pragma", "no-cache");
	bool head = str_same(http_method(req), "HEAD");
	http_reply(req, 200, "text/plain; charset=utf-8", "OK", head ? 0 : 2);
}

/* ---- version ---- */

/* What the agent has said of the host, in info; its own words where it has not been reached yet. */
static const char *host_text(const json_t *info, const char *key, const char *otherwise) {
	const char *text = json_get_str(json_object_get(info, "agent"), key);
	return text && *text ? text : otherwise;
}

static json_t *engine(const char *architecture, const char *kernel) {
	return json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}}", "Name", "Engine", "Version", WABE_VERSION,
			 "Details", "ApiVersion", DOCKER_API, "Arch", architecture, "BuildTime", "", "Experimental", "true",
			 "GitCommit", "", "GoVersion", "", "KernelVersion", kernel, "MinAPIVersion", DOCKER_API_MIN, "Os",
			 "linux");
}

static void version(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *info = core_info(core_of(req));
	struct utsname u;
	uname(&u);
	const char *architecture = host_text(info, "architecture", u.machine), *kernel = host_text(info, "kernel", u.release);
	docker_reply(req, 200,
		     json_pack("{s:{s:s}, s:[o], s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Platform", "Name", "wabe",
			       "Components", engine(architecture, kernel), "Version", WABE_VERSION, "ApiVersion", DOCKER_API,
			       "MinAPIVersion", DOCKER_API_MIN, "GitCommit", "", "GoVersion", "", "Os", "linux", "Arch",
			       architecture, "KernelVersion", kernel, "BuildTime", ""));
}

/* ---- info ---- */

/* A line "KEY=value" or KEY="value" of the system's description of itself; NULL: not there. Free it. */
static char *os_release(const char *key) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read("/usr/lib/os-release", 65536, &text) < 0)
		return NULL;
	struct str rest = {buf_str(&text), text.len};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n'), name = str_cut(&line, '=');
		if (!str_is(name, key))
			continue;
		if (line.len >= 2 && line.p[0] == '"')
			return str_copyn(line.p + 1, line.len - 2);
		return str_copyn(line.p, line.len);
	}
	return NULL;
}

/* In the form of a UUID; free it. */
static char *daemon_id(const json_t *info) {
	const char *id = json_get_str(info, "id");
	if (!id || strlen(id) < 32)
		return str_copy(id ? id : "");
	return str_format("%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20);
}

static void add_counts(json_t *o, const json_t *info) {
	const json_t *instances = json_object_get(info, "instances");
	int64_t total = json_get_int(instances, "total"), running = json_get_int(instances, "running"),
		paused = json_get_int(instances, "paused");
	json_set_int(o, "Containers", total);
	json_set_int(o, "ContainersRunning", running);
	json_set_int(o, "ContainersPaused", paused);
	json_set_int(o, "ContainersStopped", total - running - paused);
	json_set_int(o, "Images", json_get_int(info, "images"));
}

static void add_flags(json_t *o, bool swap) {
	static const char *const yes[] = {"MemoryLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit",
					  "IPv4Forwarding", "LiveRestoreEnabled", "ExperimentalBuild", NULL},
		   *const no[] = {"KernelMemory", "KernelMemoryTCP", "OomKillDisable", "BridgeNfIptables", "BridgeNfIp6tables",
				  "Debug", NULL};
	for (size_t i = 0; yes[i]; i++)
		json_set_bool(o, yes[i], true);
	for (size_t i = 0; no[i]; i++)
		json_set_bool(o, no[i], false);
	json_set_bool(o, "SwapLimit", swap);
}

static void add_texts(json_t *o, const char *const pairs[][2]) {
	for (size_t i = 0; pairs[i][0]; i++)
		json_object_set_new(o, pairs[i][0], json_from_str(pairs[i][1]));
}

static json_t *registries(const json_t *info, int api) {
	json_t *mirrors = json_object_get(info, "mirrors");
	mirrors = mirrors ? json_incref(mirrors) : json_array();
	json_t *o = json_pack("{s:[s], s:{s:{s:s, s:O, s:b, s:b}}, s:o}", "InsecureRegistryCIDRs", "127.0.0.0/8", "IndexConfigs",
			      "docker.io", "Name", "docker.io", "Mirrors", mirrors, "Secure", 1, "Official", 1, "Mirrors", mirrors);
	static const char *const gone[] = {"AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"};
	for (size_t i = 0; api < 49 && i < ARRAY_SIZE(gone); i++)
		json_object_set_new(o, gone[i], json_array());
	return o;
}

static json_t *plugins(void) {
	return json_pack("{s:[s], s:[s, s, s, s, s], s:n, s:[s, s]}", "Volume", "local", "Network", "bridge", "host", "macvlan",
			 "null", "overlay", "Authorization", "Log", "json-file", "local");
}

static void add_host(json_t *o, const json_t *info) {
	const json_t *agent = json_object_get(info, "agent");
	struct utsname u;
	uname(&u);
	_cleanup_(free_ptr) char *os = os_release("PRETTY_NAME"), *release = os_release("VERSION_ID");
	char now[TIME_TEXT_MAX];
	time_format(time_now_ns(), now);
	const char *const texts[][2] = {
		{"SystemTime", now},
		{"LoggingDriver", "json-file"},
		{"CgroupDriver", "cgroupfs"},
		{"CgroupVersion", json_get_int(agent, "cgroup_version") == 2 ? "2" : "1"},
		{"KernelVersion", host_text(info, "kernel", u.release)},
		{"OperatingSystem", os ? os : "Linux"},
		{"OSVersion", release ? release : ""},
		{"OSType", "linux"},
		{"Architecture", u.machine},
		{"IndexServerAddress", "https://index.docker.io/v1/"},
		{"Name", json_get_str(info, "hostname")},
		{"ServerVersion", WABE_VERSION},
		{"DefaultRuntime", "runc"},
		{"InitBinary", "docker-init"},
		{"HttpProxy", ""}, {"HttpsProxy", ""}, {"NoProxy", ""}, {"Isolation", ""}, {"ProductLicense", ""},
		{NULL, NULL},
	};
	add_texts(o, texts);
	json_set_int(o, "NCPU", json_get_int(agent, "cpus"));
	json_set_int(o, "MemTotal", json_get_int(agent, "memory"));
}

static void info_of_host(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *info = core_info(core_of(req));
	_cleanup_(free_ptr) char *id = daemon_id(info);
	bool swap = json_get_bool(json_object_get(info, "agent"), "swap_limit");
	json_t *o = json_object(), *warnings = json_array();
	json_set_str(o, "ID", id);
	add_counts(o, info);
	json_set_str(o, "Driver", "overlay2");
	json_object_set_new(o, "DriverStatus", json_pack("[[s, s], [s, s]]", "Pool", "local", "Native Overlay Diff", "true"));
	json_object_set_new(o, "SystemStatus", json_null());
	json_set_str(o, "DockerRootDir", json_get_str(info, "state") ? json_get_str(info, "state") : "/var/lib/wabe");
	json_object_set_new(o, "Plugins", plugins());
	add_flags(o, swap);
	add_host(o, info);
	json_set_int(o, "NFd", -1);
	json_set_int(o, "NGoroutines", 0);
	json_set_int(o, "NEventsListener", 0);
	json_object_set_new(o, "RegistryConfig", registries(info, docker_api(req)));
	json_object_set_new(o, "GenericResources", json_null());
	json_object_set_new(o, "Labels", json_array());
	json_object_set_new(o, "Runtimes", json_pack("{s:{s:s}, s:{s:s}}", "machine", "path", "wabe-machine", "runc", "path",
							"wabe-shim"));
	json_object_set_new(o, "Swarm", docker_swarm_info(core_of(req)));
	static const char *const bridge_nf[] = {"BridgeNfIptables", "BridgeNfIp6tables"};
	static const char *const commits[] = {"ContainerdCommit", "RuncCommit", "InitCommit", NULL};
	for (size_t i = 0; commits[i]; i++)
		json_object_set_new(o, commits[i], docker_api(req) < 49 ? json_pack("{s:s, s:s}", "ID", "N/A", "Expected", "N/A")
									: json_pack("{s:s}", "ID", "N/A"));
	if (docker_api(req) >= 49)
		json_object_set_new(o, "FirewallBackend", json_pack("{s:s}", "Driver", "nftables"));
	for (size_t i = 0; docker_api(req) >= 50 && i < ARRAY_SIZE(bridge_nf); i++)
		json_object_del(o, bridge_nf[i]);
	json_object_set_new(o, "SecurityOptions", json_pack("[s, s, s]", "name=seccomp,profile=builtin", "name=userns",
							    "name=cgroupns"));
	json_object_set_new(o, "DefaultAddressPools", json_array());
	json_object_set_new(o, "CDISpecDirs", json_array());
	if (!swap)
		json_array_append_new(warnings, json_string("WARNING: No swap limit support"));
	json_object_set_new(o, "Warnings", warnings);
	docker_reply(req, 200, o);
}

const struct docker_route docker_system_routes[] = {
	{"GET", "/_ping", ping, 0, DOCKER_WORKS, NULL},
	{"GET", "/version", version, 0, DOCKER_WORKS, NULL},
	{"GET", "/info", info_of_host, 0, DOCKER_WORKS, NULL},
	{"GET", "/system/df", docker_df, 0, DOCKER_WORKS, NULL},
	{"GET", "/events", docker_events, 0, DOCKER_WORKS, NULL},
	{0},
};
