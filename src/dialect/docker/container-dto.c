/* Bodies about containers: what Docker calls each member, and where it goes. Every member that the Engine API documents is
 * in one of these tables or is read by endpoints.c and mounts.c; what is none of that is skipped, as dockerd does. */
#include "dialect/docker/containers.h"

#define LONG_LIST 8192
#define TABLE(name_, struct_, fields_, doc_) \
	const struct field_table name_ = {#struct_, doc_, sizeof(struct struct_), fields_, ARRAY_SIZE(fields_)}

/* ---- Config ---- */

#define HEALTH(json_, member_, doc_) FIELD_AS(json_, struct docker_health, member_, FIELD_INT, .min = INT64_MIN, .doc = doc_)
static const struct field health_fields[] = {
	FIELD_AS("Test", struct docker_health, test, FIELD_STRINGS, .max = LONG_LIST, .doc = "What to run"),
	HEALTH("Interval", interval, "ns; 0: the image's, or 30 s"),
	HEALTH("Timeout", timeout, "ns; 0: the image's, or 30 s"),
	HEALTH("StartPeriod", start_period, "ns in which failures do not count"),
	HEALTH("StartInterval", start_interval, "ns between checks in the start period"),
	HEALTH("Retries", retries, "Failures in a row; 0: the image's, or 3"),
};
static TABLE(health_table, docker_health, health_fields, "Healthcheck");

#define CONFIG(json_, member_, kind_, ...) FIELD_AS(json_, struct docker_config, member_, kind_, __VA_ARGS__)
static const struct field config_fields[] = {
	CONFIG("Hostname", hostname, FIELD_STRING, .doc = "Host name inside"),
	CONFIG("Domainname", domainname, FIELD_STRING, .doc = "Domain name inside"),
	CONFIG("User", user, FIELD_STRING, .doc = "User and group inside"),
	CONFIG("AttachStdin", attach_stdin, FIELD_BOOL, .doc = "Kept for clients"),
	CONFIG("AttachStdout", attach_stdout, FIELD_BOOL, .doc = "Kept for clients"),
	CONFIG("AttachStderr", attach_stderr, FIELD_BOOL, .doc = "Kept for clients"),
	CONFIG("ExposedPorts", exposed_ports, FIELD_JSON, .doc = "Ports that may be published"),
	CONFIG("Tty", tty, FIELD_BOOL, .doc = "Gives it a terminal"),
	CONFIG("OpenStdin", open_stdin, FIELD_BOOL, .doc = "Keeps its input open"),
	CONFIG("StdinOnce", stdin_once, FIELD_BOOL, .doc = "Input ends with the first client"),
	CONFIG("Env", env, FIELD_STRINGS, .max = LONG_LIST, .doc = "Environment"),
	CONFIG("Cmd", command, FIELD_STRINGS, .max = LONG_LIST, .doc = "Command"),
	CONFIG("Entrypoint", entrypoint, FIELD_STRINGS, .max = LONG_LIST, .doc = "Program"),
	CONFIG("Healthcheck", health, FIELD_OBJECT, .sub = &health_table, .doc = "Health check"),
	CONFIG("ArgsEscaped", args_escaped, FIELD_BOOL, .doc = "Of Windows"),
	CONFIG("Image", image, FIELD_STRING, .doc = "What it starts from"),
	CONFIG("Volumes", volumes, FIELD_JSON, .doc = "Places for anonymous volumes"),
	CONFIG("WorkingDir", workdir, FIELD_STRING, .doc = "Working directory"),
	CONFIG("NetworkDisabled", network_disabled, FIELD_BOOL, .doc = "No network"),
	CONFIG("MacAddress", mac, FIELD_STRING, .doc = "MAC address on its network"),
	CONFIG("OnBuild", on_build, FIELD_STRINGS, .max = LONG_LIST, .doc = "For builds on top of it"),
	CONFIG("Labels", labels, FIELD_PAIRS, .max = 4096, .doc = "Labels"),
	CONFIG("StopSignal", stop_signal, FIELD_STRING, .doc = "Asks it to end"),
	CONFIG("StopTimeout", stop_timeout, FIELD_INT, .min = INT64_MIN, .def = "-2147483648", .doc = "Seconds until it is killed"),
	CONFIG("Shell", shell, FIELD_STRINGS, .max = LONG_LIST, .doc = "For the shell form of commands"),
};

static int check_config(const void *object, struct error *err) {
	const struct docker_config *c = object;
	if (c->exposed_ports && !json_is_object(c->exposed_ports))
		return error_field(err, "ExposedPorts", "must be an object");
	return c->volumes && !json_is_object(c->volumes) ? error_field(err, "Volumes", "must be an object") : 0;
}
const struct field_table docker_config_table = {
	"docker_config", "Config", sizeof(struct docker_config), config_fields, ARRAY_SIZE(config_fields), check_config,
};

/* ---- Resources ---- */

static const struct field throttle_fields[] = {
	FIELD_AS("Path", struct docker_throttle, path, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Block device"),
	FIELD_AS("Rate", struct docker_throttle, rate, FIELD_INT, .doc = "A second"),
};
static TABLE(throttle_table, docker_throttle, throttle_fields, "ThrottleDevice");

static const struct field weight_fields[] = {
	FIELD_AS("Path", struct docker_weight, path, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Block device"),
	FIELD_AS("Weight", struct docker_weight, weight, FIELD_INT, .doc = "Against others"),
};
static TABLE(weight_table, docker_weight, weight_fields, "WeightDevice");

static const struct field device_fields[] = {
	FIELD_AS("PathOnHost", struct docker_device, host, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "On the host"),
	FIELD_AS("PathInContainer", struct docker_device, target, FIELD_STRING, .doc = "Inside"),
	FIELD_AS("CgroupPermissions", struct docker_device, permissions, FIELD_STRING, .doc = "Of rwm"),
};
static TABLE(device_table, docker_device, device_fields, "DeviceMapping");

static const struct field device_request_fields[] = {
	FIELD_AS("Driver", struct docker_device_request, driver, FIELD_STRING, .doc = "Who gives the devices"),
	FIELD_AS("Count", struct docker_device_request, count, FIELD_INT, .min = -1, .doc = "How many; -1: all"),
	FIELD_AS("DeviceIDs", struct docker_device_request, ids, FIELD_STRINGS, .doc = "Which"),
	FIELD_AS("Capabilities", struct docker_device_request, capabilities, FIELD_JSON, .doc = "What they can do"),
	FIELD_AS("Options", struct docker_device_request, options, FIELD_JSON, .doc = "For the driver"),
};
static TABLE(device_request_table, docker_device_request, device_request_fields, "DeviceRequest");

static const struct field ulimit_fields[] = {
	FIELD_AS("Name", struct docker_ulimit, name, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "nofile, nproc …"),
	FIELD_AS("Soft", struct docker_ulimit, soft, FIELD_INT, .min = -1, .doc = "In effect"),
	FIELD_AS("Hard", struct docker_ulimit, hard, FIELD_INT, .min = -1, .doc = "The most"),
};
static TABLE(ulimit_table, docker_ulimit, ulimit_fields, "Ulimit");

static const struct field restart_fields[] = {
	FIELD_AS("Name", struct docker_restart, name, FIELD_STRING, .doc = "no, always, unless-stopped, on-failure"),
	FIELD_AS("MaximumRetryCount", struct docker_restart, max_retries, FIELD_INT, .min = INT64_MIN, .doc = "For on-failure"),
};
static TABLE(restart_table, docker_restart, restart_fields, "RestartPolicy");

/* The resources are the first member of struct docker_host: these rows serve both tables. */
_Static_assert(offsetof(struct docker_host, resources) == 0, "rows of resources are those of host too");
#define RES(json_, member_, kind_, ...) FIELD_AS(json_, struct docker_resources, member_, kind_, __VA_ARGS__)
#define RES_INT(json_, member_, doc_) RES(json_, member_, FIELD_INT, .min = INT64_MIN, .doc = doc_)
#define RES_LIST(json_, member_, sub_, doc_) RES(json_, member_, FIELD_LIST, .sub = &sub_, .doc = doc_)
#define RESOURCE_ROWS                                                                                                     \
	RES_INT("CpuShares", cpu_shares, "Weight against others"), RES_INT("Memory", memory, "Bytes"),                    \
	RES("CgroupParent", cgroup_parent, FIELD_STRING, .doc = "Refused"),                                               \
	RES_INT("NanoCpus", nano_cpus, "CPUs, in units of 10^-9"), RES_INT("BlkioWeight", io_weight, "10 to 1000"),       \
	RES_LIST("BlkioWeightDevice", weights, weight_table, "10 to 1000"),                                                  \
	RES_LIST("BlkioDeviceReadBps", read_bps, throttle_table, "Bytes read"),                                           \
	RES_LIST("BlkioDeviceWriteBps", write_bps, throttle_table, "Bytes written"),                                      \
	RES_LIST("BlkioDeviceReadIOps", read_iops, throttle_table, "Reads"),                                              \
	RES_LIST("BlkioDeviceWriteIOps", write_iops, throttle_table, "Writes"),                                           \
	RES_INT("CpuPeriod", cpu_period, "Microseconds"), RES_INT("CpuQuota", cpu_quota, "Microseconds a period"),        \
	RES_INT("CpuRealtimePeriod", cpu_rt_period, "Refused"), RES_INT("CpuRealtimeRuntime", cpu_rt_runtime, "Refused"), \
	RES("CpusetCpus", cpuset_cpus, FIELD_STRING, .doc = "CPUs"),                                                      \
	RES("CpusetMems", cpuset_mems, FIELD_STRING, .doc = "NUMA nodes"),                                                \
	RES_LIST("Devices", devices, device_table, "Devices of the host"),                                                \
	RES("DeviceCgroupRules", device_rules, FIELD_STRINGS, .doc = "Devices that may be used"),                         \
	RES_LIST("DeviceRequests", device_requests, device_request_table, "Refused"),                                     \
	RES_INT("KernelMemory", kernel_memory, "Refused"), RES_INT("KernelMemoryTCP", kernel_memory_tcp, "Refused"),      \
	RES_INT("MemoryReservation", memory_reservation, "Bytes"),                                                        \
	RES_INT("MemorySwap", memory_swap, "Bytes of memory and swap"),                                                   \
	RES("MemorySwappiness", swappiness, FIELD_INT, .min = INT64_MIN, .def = "-1", .doc = "Not in cgroup v2"),         \
	RES("OomKillDisable", oom_kill_disable, FIELD_BOOL, .doc = "Not in cgroup v2"),                                   \
	RES_INT("PidsLimit", pids, "Processes and threads"), RES_LIST("Ulimits", ulimits, ulimit_table, "Limits"),        \
	RES_INT("CpuCount", cpu_count, "Of Windows"), RES_INT("CpuPercent", cpu_percent, "Of Windows"),                   \
	RES_INT("IOMaximumIOps", io_max_ops, "Of Windows"),                                                               \
	RES_INT("IOMaximumBandwidth", io_max_bandwidth, "Of Windows"),                                                    \
	RES("RestartPolicy", restart, FIELD_OBJECT, .sub = &restart_table, .doc = "When it starts again")

static const struct field resources_fields[] = {RESOURCE_ROWS};
TABLE(docker_resources_table, docker_resources, resources_fields, "Resources");

/* ---- HostConfig ---- */

static const struct field log_fields[] = {
	FIELD_AS("Type", struct docker_log, type, FIELD_STRING, .doc = "json-file, local, none"),
	FIELD_AS("Config", struct docker_log, options, FIELD_PAIRS, .doc = "max-size, max-file …"),
};
static TABLE(log_table, docker_log, log_fields, "LogConfig");

#define HOST(json_, member_, kind_, ...) FIELD_AS(json_, struct docker_host, member_, kind_, __VA_ARGS__)
#define HOST_TEXT(json_, member_, doc_) HOST(json_, member_, FIELD_STRING, .doc = doc_)
static const struct field host_fields[] = {
	RESOURCE_ROWS,
	HOST_TEXT("ContainerIDFile", cidfile, "Kept for clients"),
	HOST("LogConfig", log, FIELD_OBJECT, .sub = &log_table, .doc = "Where its output goes"),
	HOST_TEXT("NetworkMode", network_mode, "Its network"),
	HOST("AutoRemove", auto_remove, FIELD_BOOL, .doc = "Is removed when it ends"),
	HOST("Annotations", annotations, FIELD_PAIRS, .doc = "Notes"),
	HOST("CapAdd", cap_add, FIELD_STRINGS, .doc = "Capabilities beyond the usual ones"),
	HOST("CapDrop", cap_drop, FIELD_STRINGS, .doc = "Capabilities taken away"),
	HOST_TEXT("CgroupnsMode", cgroupns_mode, "private, host"),
	HOST("GroupAdd", groups, FIELD_STRINGS, .doc = "Further groups"),
	HOST_TEXT("IpcMode", ipc_mode, "private, shareable, host, container:X"),
	HOST_TEXT("Cgroup", cgroup, "Refused"),
	HOST("OomScoreAdj", oom_score_adj, FIELD_INT, .min = INT64_MIN, .doc = "-1000 to 1000"),
	HOST_TEXT("PidMode", pid_mode, "host, container:X"),
	HOST("Privileged", privileged, FIELD_BOOL, .doc = "No confinement"),
	HOST("PublishAllPorts", publish_all, FIELD_BOOL, .doc = "All exposed ports"),
	HOST("ReadonlyRootfs", read_only, FIELD_BOOL, .doc = "Its root cannot be written"),
	HOST("SecurityOpt", security, FIELD_STRINGS, .doc = "no-new-privileges, seccomp=… …"),
	HOST("StorageOpt", storage, FIELD_PAIRS, .doc = "size"),
	HOST_TEXT("UTSMode", uts_mode, "host"),
	HOST_TEXT("UsernsMode", userns_mode, "host"),
	HOST("ShmSize", shm_size, FIELD_INT, .min = INT64_MIN, .doc = "Bytes of /dev/shm"),
	HOST("Sysctls", sysctls, FIELD_PAIRS, .doc = "Kernel parameters"),
	HOST_TEXT("Runtime", runtime, "runc"),
	HOST_TEXT("Isolation", isolation, "default"),
	HOST("Init", init, FIELD_BOOL, .doc = "A first process that reaps"),
	HOST("ConsoleSize", console_size, FIELD_JSON, .doc = "Kept for clients"),
	HOST("MaskedPaths", masked, FIELD_JSON, .doc = "[]: nothing is hidden"),
	HOST("ReadonlyPaths", read_only_paths, FIELD_JSON, .doc = "[]: nothing is read-only"),
};

static int check_host(const void *object, struct error *err) {
	const json_t *size = ((const struct docker_host *)object)->console_size;
	return size && !docker_is_size(size) ? error_field(err, "ConsoleSize", "must be [rows, columns]") : 0;
}
const struct field_table docker_host_table = {
	"docker_host", "HostConfig", sizeof(struct docker_host), host_fields, ARRAY_SIZE(host_fields), check_host,
};

/* ---- texts for lists ---- */

static void widen(json_t *object, const char *key) {
	const json_t *value = json_object_get(object, key);
	if (json_is_string(value))
		json_object_set_new(object, key, json_pack("[O]", value));
}

void docker_widen_lists(json_t *config, json_t *host) {
	static const char *const of_config[] = {"Cmd", "Entrypoint", "Shell"}, *const of_host[] = {"CapAdd", "CapDrop"};
	for (size_t i = 0; i < ARRAY_SIZE(of_config); i++)
		widen(config, of_config[i]);
	for (size_t i = 0; host && i < ARRAY_SIZE(of_host); i++)
		widen(host, of_host[i]);
}
