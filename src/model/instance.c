/* The tables of the instance. Checks are in instance-check.c, flag texts in instance-flags.c. */
#include "model/instance.h"

#include "model/image.h"
#include "model/instance-priv.h"

static const struct field restart_fields[] = {
	FIELD(struct restart_policy, policy, FIELD_ENUM, .def = "no", .flags = FIELD_LIVE,
	      .values = (const char *const[]){"no", "on-failure", "always", "unless-stopped", NULL},
	      .doc = "When it starts again by itself"),
	FIELD(struct restart_policy, max_retries, FIELD_INT, .max = 1000000, .flags = FIELD_LIVE,
	      .doc = "How often at most after failures in a row, for on-failure; 0: without end"),
};
static const struct field_table restart_table = {
	"restart_policy", "When an instance that ended starts again", sizeof(struct restart_policy),
	restart_fields, ARRAY_SIZE(restart_fields), restart_validate,
};

static const struct field health_fields[] = {
	FIELD(struct health_check, command, FIELD_STRINGS, .max = 8192, .flag = "health-cmd", .placeholder = "COMMAND",
	      .parse = parse_health_command,
	      .doc = "What to run inside: [\"CMD\", argument…], [\"CMD-SHELL\", text] or [\"NONE\"]"),
	FIELD(struct health_check, interval, FIELD_DURATION, .flag = "health-interval", .placeholder = "TIME",
	      .doc = "Time between checks; 0: 30s"),
	FIELD(struct health_check, timeout, FIELD_DURATION, .flag = "health-timeout", .placeholder = "TIME",
	      .doc = "How long one check may take; 0: 30s"),
	FIELD(struct health_check, start_period, FIELD_DURATION, .flag = "health-start-period", .placeholder = "TIME",
	      .doc = "Time after the start in which failures do not count"),
	FIELD(struct health_check, start_interval, FIELD_DURATION, .flag = "health-start-interval", .placeholder = "TIME",
	      .doc = "Time between checks within the start period; 0: as otherwise"),
	FIELD(struct health_check, retries, FIELD_INT, .max = 1000, .flag = "health-retries", .placeholder = "N",
	      .doc = "Failures in a row until it is unhealthy; 0: 3"),
	{.name = "no_healthcheck", .type = FIELD_BOOL, .flags = FIELD_ALIAS, .flag = "no-healthcheck",
	 .parse = parse_no_healthcheck, .doc = "No health check, even if the image has one"},
};
const struct field_table health_check_table = {
	"health_check", "How an instance is seen to be well", sizeof(struct health_check),
	health_fields, ARRAY_SIZE(health_fields), health_validate,
};

static const struct field ulimit_fields[] = {
	FIELD(struct ulimit, name, FIELD_STRING, .flags = FIELD_REQUIRED, .check = ulimit_name_check,
	      .doc = "nofile, nproc, core …"),
	FIELD(struct ulimit, soft, FIELD_INT, .min = -1, .doc = "The limit in effect; -1: unlimited"),
	FIELD(struct ulimit, hard, FIELD_INT, .min = -1, .doc = "How far a process may raise it; -1: unlimited"),
};
static const struct field_table ulimit_table = {
	"ulimit", "A resource limit of each process", sizeof(struct ulimit),
	ulimit_fields, ARRAY_SIZE(ulimit_fields), ulimit_validate,
};

static const struct field device_fields[] = {
	FIELD(struct device, path, FIELD_STRING, .flags = FIELD_REQUIRED, .check = path_check, .doc = "On the host"),
	FIELD(struct device, target, FIELD_STRING, .check = mount_target_check, .doc = "Inside; the same if not given"),
	FIELD(struct device, permissions, FIELD_STRING, .max = 3, .check = device_permissions_check,
	      .doc = "Of r (read), w (write), m (make nodes); all if not given"),
};
static const struct field_table device_table = {
	"device", "A device of the host inside the instance", sizeof(struct device), device_fields,
	ARRAY_SIZE(device_fields),
};

static const struct field mount_fields[] = {
	FIELD(struct mount, type, FIELD_ENUM, .def = "bind",
	      .values = (const char *const[]){"bind", "tmpfs", "volume", "image", NULL}, .doc = "What is mounted"),
	FIELD(struct mount, source, FIELD_STRING, .check = text_check,
	      .doc = "bind: a path on the host; volume: its name; image: a reference"),
	FIELD(struct mount, target, FIELD_STRING, .flags = FIELD_REQUIRED, .check = mount_target_check,
	      .doc = "Where, inside"),
	FIELD(struct mount, read_only, FIELD_BOOL, .doc = "Nobody can write through it"),
	FIELD(struct mount, recursive, FIELD_BOOL, .def = "true", .doc = "bind: what is mounted below comes along"),
	FIELD(struct mount, propagation, FIELD_ENUM,
	      .values = (const char *const[]){"private", "rprivate", "slave", "rslave", "shared", "rshared", NULL},
	      .doc = "bind: whether later mounts show on the other side"),
	FIELD(struct mount, subpath, FIELD_STRING, .check = subpath_check, .doc = "Only this path beneath the source"),
	FIELD(struct mount, size, FIELD_SIZE, .doc = "tmpfs: bytes; 0: half the memory"),
	FIELD(struct mount, mode, FIELD_STRING, .max = 5, .check = octal_mode_check,
	      .doc = "tmpfs: octal; 1777 if not given"),
	FIELD(struct mount, uid, FIELD_INT, .max = 65535, .doc = "tmpfs: whose it is"),
	FIELD(struct mount, gid, FIELD_INT, .max = 65535, .doc = "tmpfs: its group"),
	FIELD(struct mount, inodes, FIELD_INT, .doc = "tmpfs: most files; 0: by its size"),
	FIELD(struct mount, create, FIELD_BOOL, .doc = "bind: a source that is not there is made, a directory"),
	FIELD(struct mount, anonymous, FIELD_BOOL, .doc = "volume: made for this mount, it goes with the instance"),
	FIELD(struct mount, options, FIELD_STRINGS, .max = 32, .check = mount_option_check,
	      .doc = "nosuid, nodev, noexec, noatime …"),
};
const struct field_table mount_table = {
	"mount", "Something mounted inside the instance", sizeof(struct mount),
	mount_fields, ARRAY_SIZE(mount_fields), mount_validate,
};

static const struct field file_fields[] = {
	FIELD(struct instance_file, kind, FIELD_ENUM, .def = "secret", .values = (const char *const[]){"secret", "config", "socket", NULL},
	      .doc = "What it is; socket: one at which the builder listens, nobody else has any"),
	FIELD(struct instance_file, source, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 256, .check = instance_name_check,
	      .doc = "Its name or id"),
	FIELD(struct instance_file, target, FIELD_STRING, .check = mount_target_check,
	      .doc = "Where, inside; /run/secrets/NAME or /NAME if not given"),
	FIELD(struct instance_file, uid, FIELD_INT, .max = UINT16_MAX, .doc = "Its owner inside"),
	FIELD(struct instance_file, gid, FIELD_INT, .max = UINT16_MAX, .doc = "Its group inside"),
	FIELD(struct instance_file, mode, FIELD_STRING, .max = 5, .check = octal_mode_check, .doc = "Octal; 0444 if not given"),
	FIELD(struct instance_file, size, FIELD_SIZE, .flags = FIELD_READONLY, .doc = "Bytes that it holds"),
};
const struct field_table instance_file_table = {
	"instance_file", "A secret or config inside the instance, as a file in memory", sizeof(struct instance_file),
	file_fields, ARRAY_SIZE(file_fields),
};

static const struct field owner_fields[] = {
	FIELD(struct instance_owner, workload, FIELD_STRING, .flags = FIELD_READONLY, .check = instance_id_check,
	      .doc = "Id of the workload that it is one of"),
	FIELD(struct instance_owner, run, FIELD_STRING, .flags = FIELD_READONLY, .max = 25, .check = text_check,
	      .doc = "Told apart from others of its slot by this"),
	FIELD(struct instance_owner, slot, FIELD_INT, .flags = FIELD_READONLY, .doc = "Which of the workload's instances it is"),
	FIELD(struct instance_owner, generation, FIELD_INT, .flags = FIELD_READONLY, .doc = "Of the template that it was made from"),
	FIELD(struct instance_owner, attempt, FIELD_INT, .flags = FIELD_READONLY,
	      .doc = "How many of this generation in its slot have ended before it, in a row"),
};
const struct field_table instance_owner_table = {
	"instance_owner", "The workload that an instance is one of", sizeof(struct instance_owner), owner_fields,
	ARRAY_SIZE(owner_fields),
};

static const struct field weight_fields[] = {
	FIELD(struct io_weight, device, FIELD_STRING, .flags = FIELD_REQUIRED, .check = path_check,
	      .doc = "Path of a block device on the host"),
	FIELD(struct io_weight, weight, FIELD_INT, .min = 10, .max = 1000, .doc = "Against others, 10 to 1000"),
};
static const struct field_table weight_table = {
	"io_weight", "Weight of I/O on a block device", sizeof(struct io_weight), weight_fields, ARRAY_SIZE(weight_fields),
};

static const struct field throttle_fields[] = {
	FIELD(struct io_throttle, device, FIELD_STRING, .flags = FIELD_REQUIRED, .check = path_check,
	      .doc = "Path of a block device on the host"),
	FIELD(struct io_throttle, rate, FIELD_SIZE, .min = 1, .doc = "Bytes or operations a second"),
};
static const struct field_table throttle_table = {
	"io_throttle", "How fast a block device may be used", sizeof(struct io_throttle), throttle_fields,
	ARRAY_SIZE(throttle_fields),
};

static const struct field hugepage_fields[] = {
	FIELD(struct hugepage_limit, size, FIELD_STRING, .flags = FIELD_REQUIRED, .check = hugepage_size_check,
	      .doc = "Size of the pages: 2MB, 1GB"),
	FIELD(struct hugepage_limit, limit, FIELD_SIZE, .doc = "Bytes in such pages"),
};
static const struct field_table hugepage_table = {
	"hugepage_limit", "How much memory in huge pages", sizeof(struct hugepage_limit), hugepage_fields,
	ARRAY_SIZE(hugepage_fields),
};

#define THROTTLE(member_, flag_, doc_)                                                                    \
	FIELD(struct limits, member_, FIELD_LIST, .flags = FIELD_LIVE, .sub = &throttle_table, .flag = flag_, \
	      .placeholder = "DEVICE:RATE", .parse = parse_throttle, .doc = doc_)

static const struct field limits_fields[] = {
	FIELD(struct limits, cpus, FIELD_CPUS, .flags = FIELD_LIVE, .max = 1000000000000000, .flag = "cpus",
	      .placeholder = "N", .doc = "How many CPUs' time (1.5); 0: unlimited"),
	FIELD(struct limits, cpu_shares, FIELD_INT, .flags = FIELD_LIVE, .max = 262144, .flag = "cpu-shares,c",
	      .placeholder = "N", .doc = "Weight against others, 2 to 262144; 1024 is usual"),
	FIELD(struct limits, cpu_quota, FIELD_INT, .flags = FIELD_LIVE, .min = -1, .max = 1000000000000,
	      .flag = "cpu-quota", .placeholder = "US", .doc = "Microseconds of CPU time a period; -1: unlimited"),
	FIELD(struct limits, cpu_period, FIELD_INT, .flags = FIELD_LIVE, .max = 1000000, .flag = "cpu-period",
	      .placeholder = "US", .doc = "Length of a period, 1000 to 1000000 microseconds; 0: 100000"),
	FIELD(struct limits, cpuset_cpus, FIELD_STRING, .flags = FIELD_LIVE, .max = 1024, .check = cpuset_check,
	      .flag = "cpuset-cpus", .placeholder = "LIST", .doc = "CPUs it may use: 0-3,6"),
	FIELD(struct limits, cpuset_mems, FIELD_STRING, .flags = FIELD_LIVE, .max = 1024, .check = cpuset_check,
	      .flag = "cpuset-mems", .placeholder = "LIST", .doc = "NUMA nodes it may use: 0,1"),
	FIELD(struct limits, memory, FIELD_SIZE, .flags = FIELD_LIVE, .flag = "memory,m", .placeholder = "BYTES",
	      .doc = "Memory, at least 6MiB; 0: unlimited"),
	FIELD(struct limits, memory_swap, FIELD_SIZE, .flags = FIELD_LIVE, .min = -1, .flag = "memory-swap",
	      .placeholder = "BYTES", .doc = "Memory and swap together; -1: unlimited swap"),
	FIELD(struct limits, memory_reservation, FIELD_SIZE, .flags = FIELD_LIVE, .flag = "memory-reservation",
	      .placeholder = "BYTES", .doc = "Memory that is left to it when the host runs short"),
	FIELD(struct limits, pids, FIELD_INT, .flags = FIELD_LIVE, .min = -1, .max = 4194304, .flag = "pids-limit",
	      .placeholder = "N", .doc = "Processes and threads; 0 or -1: unlimited"),
	FIELD(struct limits, io_weight, FIELD_INT, .flags = FIELD_LIVE, .max = 1000, .flag = "blkio-weight",
	      .placeholder = "N", .doc = "Weight of block I/O against others, 10 to 1000; 0: the default"),
	FIELD(struct limits, io_weights, FIELD_LIST, .flags = FIELD_LIVE, .sub = &weight_table, .flag = "blkio-weight-device",
	      .placeholder = "DEVICE:N", .parse = parse_weight, .doc = "The same for one device"),
	THROTTLE(io_read_bps, "device-read-bps", "Bytes a second read from a device"),
	THROTTLE(io_write_bps, "device-write-bps", "Bytes a second written to a device"),
	THROTTLE(io_read_iops, "device-read-iops", "Reads a second from a device"),
	THROTTLE(io_write_iops, "device-write-iops", "Writes a second to a device"),
	FIELD(struct limits, hugepages, FIELD_LIST, .flags = FIELD_LIVE, .max = 16, .sub = &hugepage_table,
	      .flag = "hugepages", .placeholder = "SIZE=BYTES", .parse = parse_hugepages,
	      .doc = "Memory in huge pages of a size: 2MB=64MiB"),
	FIELD(struct limits, shm_size, FIELD_SIZE, .min = 4096, .def = "64MiB", .flag = "shm-size",
	      .placeholder = "BYTES", .doc = "Size of /dev/shm"),
};
const struct field_table limits_table = {
	"limits", "What an instance may use of its host", sizeof(struct limits),
	limits_fields, ARRAY_SIZE(limits_fields), limits_validate,
};

static const struct field log_fields[] = {
	FIELD(struct log_config, driver, FIELD_ENUM, .def = "file",
	      .values = (const char *const[]){"file", "none", NULL}, .flag = "log-driver", .placeholder = "DRIVER",
	      .parse = parse_log_driver, .doc = "Where its output goes"),
	FIELD(struct log_config, max_size, FIELD_SIZE, .def = "10MiB",
	      .doc = "Bytes before a new file begins, at least 4KiB; 0: one file without end"),
	FIELD(struct log_config, max_files, FIELD_INT, .min = 1, .max = 100, .def = "5",
	      .doc = "Files kept, the current one counted"),
	{.name = "log_opt",
	 .type = FIELD_STRING,
	 .flags = FIELD_ALIAS,
	 .flag = "log-opt",
	 .placeholder = "KEY=VALUE",
	 .parse = parse_log_option,
	 .doc = "max-size=BYTES or max-file=N"},
};
static const struct field_table log_table = {
	"log_config", "What is kept of an instance's output", sizeof(struct log_config), log_fields,
	ARRAY_SIZE(log_fields), log_validate,
};

static const struct field spec_fields[] = {
	FIELD(struct instance_spec, name, FIELD_STRING, .flags = FIELD_LIVE, .min = 1, .max = 128,
	      .check = instance_name_check, .flag = "name", .placeholder = "NAME",
	      .doc = "Its name; made up if not given"),
	FIELD(struct instance_spec, kind, FIELD_ENUM, .flags = FIELD_IMMUTABLE, .def = "container",
	      .values = (const char *const[]){"container", "machine", NULL}, .doc = "What it is"),
	{.name = "vm", .type = FIELD_BOOL, .flags = FIELD_ALIAS, .flag = "vm", .parse = parse_vm, .doc = "A machine, with a kernel of its own"},
	FIELD(struct instance_spec, image, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .max = 512,
	      .check = text_check, .doc = "The image that it starts from: a reference or an id; scratch: an empty disk, for a machine"),
	FIELD(struct instance_spec, labels, FIELD_PAIRS, .flags = FIELD_LIVE, .flag = "label,l",
	      .placeholder = "KEY=VALUE", .doc = "Labels, to find it by"),
	FIELD(struct instance_spec, annotations, FIELD_PAIRS, .flags = FIELD_LIVE, .flag = "annotation",
	      .placeholder = "KEY=VALUE", .doc = "Notes that are kept with it, for programs"),

	FIELD(struct instance_spec, entrypoint, FIELD_STRINGS, .max = 8192, .flag = "entrypoint",
	      .placeholder = "COMMAND", .parse = parse_entrypoint,
	      .doc = "Program that gets the command as arguments, in place of the image's; one empty text: none"),
	FIELD(struct instance_spec, command, FIELD_STRINGS, .max = 8192, .doc = "Command, in place of the image's"),
	FIELD(struct instance_spec, env, FIELD_STRINGS, .max = 4096, .check = env_check, .flag = "env,e",
	      .placeholder = "KEY=VALUE", .doc = "Environment; KEY alone removes one of the image's"),
	FIELD(struct instance_spec, workdir, FIELD_STRING, .check = path_check, .flag = "workdir,w",
	      .placeholder = "PATH", .doc = "Working directory"),
	FIELD(struct instance_spec, user, FIELD_STRING, .max = 256, .check = user_check, .flag = "user,u",
	      .placeholder = "USER[:GROUP]", .doc = "Names or numbers of user and group"),
	FIELD(struct instance_spec, groups, FIELD_STRINGS, .max = 256, .check = text_check, .flag = "group-add",
	      .placeholder = "GROUP", .doc = "Further groups"),
	FIELD(struct instance_spec, tty, FIELD_BOOL, .flag = "tty,t", .doc = "Gives it a terminal"),
	FIELD(struct instance_spec, stdin_open, FIELD_BOOL, .flag = "interactive,i", .doc = "Keeps its input open"),
	FIELD(struct instance_spec, stdin_once, FIELD_BOOL,
	      .doc = "Input ends when the first client that gave it leaves"),
	FIELD(struct instance_spec, init, FIELD_BOOL, .flag = "init",
	      .doc = "A small first process that forwards signals and reaps"),
	FIELD(struct instance_spec, hostname, FIELD_STRING, .max = 64, .check = hostname_check, .flag = "hostname,h",
	      .placeholder = "NAME", .doc = "Host name inside"),
	FIELD(struct instance_spec, domainname, FIELD_STRING, .max = 64, .check = hostname_check, .flag = "domainname",
	      .placeholder = "NAME", .doc = "Domain name inside"),
	FIELD(struct instance_spec, stop_signal, FIELD_STRING, .flags = FIELD_LIVE, .max = 32, .check = signal_check,
	      .flag = "stop-signal", .placeholder = "SIGNAL", .doc = "Asks it to end; the image's or SIGTERM"),
	FIELD(struct instance_spec, stop_timeout, FIELD_DURATION, .flags = FIELD_LIVE, .def = "10s",
	      .flag = "stop-timeout", .placeholder = "TIME", .doc = "From then until it is killed"),
	FIELD(struct instance_spec, auto_remove, FIELD_BOOL, .flag = "rm", .doc = "Is removed when it ends"),
	FIELD(struct instance_spec, restart, FIELD_OBJECT, .flags = FIELD_LIVE, .sub = &restart_table,
	      .flag = "restart", .placeholder = "POLICY", .parse = parse_restart,
	      .doc = "no, always, unless-stopped, on-failure[:RETRIES]"),
	FIELD(struct instance_spec, health, FIELD_OBJECT, .sub = &health_check_table, .doc = "Health check"),

	FIELD(struct instance_spec, userns, FIELD_ENUM, .def = "private",
	      .values = (const char *const[]){"private", "host", NULL}, .flag = "userns", .placeholder = "MODE",
	      .doc = "User ids: private (its own range) or host"),
	FIELD(struct instance_spec, privileged, FIELD_BOOL, .flag = "privileged",
	      .doc = "No confinement: like root of the host"),
	FIELD(struct instance_spec, no_new_privileges, FIELD_BOOL, .doc = "Set-user-id programs gain nothing"),
	FIELD(struct instance_spec, read_only, FIELD_BOOL, .flag = "read-only", .doc = "Its root cannot be written"),
	FIELD(struct instance_spec, unmask_paths, FIELD_BOOL,
	      .doc = "Shows the parts of /proc and /sys that are hidden otherwise"),
	FIELD(struct instance_spec, cap_add, FIELD_STRINGS, .max = 64, .check = capability_check, .flag = "cap-add",
	      .placeholder = "CAP", .doc = "Capabilities beyond the usual ones, or ALL"),
	FIELD(struct instance_spec, cap_drop, FIELD_STRINGS, .max = 64, .check = capability_check, .flag = "cap-drop",
	      .placeholder = "CAP", .doc = "Capabilities taken away, or ALL"),
	FIELD(struct instance_spec, seccomp, FIELD_STRING, .max = 512 << 10, .def = "default", .check = seccomp_check,
	      .doc = "System call filter: default, unconfined, or a profile as JSON text"),
	{.name = "security_opt",
	 .type = FIELD_STRING,
	 .flags = FIELD_ALIAS,
	 .flag = "security-opt",
	 .placeholder = "OPTION",
	 .parse = parse_security_option,
	 .doc = "no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined"},
	FIELD(struct instance_spec, devices, FIELD_LIST, .sub = &device_table, .flag = "device",
	      .placeholder = "PATH[:TARGET[:rwm]]", .parse = parse_device, .doc = "Devices of the host inside"),
	FIELD(struct instance_spec, device_rules, FIELD_STRINGS, .max = 256, .check = device_rule_check,
	      .flag = "device-cgroup-rule", .placeholder = "RULE", .doc = "Devices that may be used: \"c 1:3 mr\""),
	FIELD(struct instance_spec, sysctls, FIELD_PAIRS, .max = 256, .check = sysctl_check, .flag = "sysctl",
	      .placeholder = "KEY=VALUE", .doc = "Kernel parameters of its own name spaces"),
	FIELD(struct instance_spec, ulimits, FIELD_LIST, .max = 32, .sub = &ulimit_table, .flag = "ulimit",
	      .placeholder = "NAME=SOFT[:HARD]", .parse = parse_ulimit, .doc = "Limits of each process"),
	FIELD(struct instance_spec, oom_score_adj, FIELD_INT, .min = -1000, .max = 1000, .flag = "oom-score-adj",
	      .placeholder = "N", .doc = "-1000 to 1000: the higher, the sooner it is killed when memory is out"),
	FIELD(struct instance_spec, limits, FIELD_OBJECT, .sub = &limits_table, .doc = "What it may use"),
	FIELD(struct instance_spec, machine, FIELD_OBJECT, .sub = &machine_spec_table, .doc = "What a machine is made of"),

	FIELD(struct instance_spec, pid_mode, FIELD_STRING, .def = "private", .check = pid_mode_check, .flag = "pid",
	      .placeholder = "MODE", .parse = parse_pid_mode, .doc = "Processes it sees: private, host, instance:NAME"),
	FIELD(struct instance_spec, ipc_mode, FIELD_STRING, .def = "private", .check = pid_mode_check, .flag = "ipc",
	      .placeholder = "MODE", .parse = parse_ipc_mode, .doc = "Shared memory: private, host, instance:NAME"),
	FIELD(struct instance_spec, uts_mode, FIELD_STRING, .def = "private", .check = uts_mode_check, .flag = "uts",
	      .placeholder = "MODE", .doc = "Host name: private or host"),
	FIELD(struct instance_spec, cgroup_mode, FIELD_STRING, .def = "private", .check = uts_mode_check,
	      .flag = "cgroupns", .placeholder = "MODE", .doc = "View of cgroups: private or host"),
	FIELD(struct instance_spec, network, FIELD_STRING, .def = "private", .check = network_check, .flag = "network,net",
	      .placeholder = "NAME[,ip=IP…]", .parse = parse_network,
	      .doc = "A network to be on (again for further ones), or none, host, instance:NAME"),
	FIELD(struct instance_spec, networks, FIELD_LIST, .max = 32, .sub = &attachment_table,
	      .doc = "Networks that it is on while network is private; none given: the network \"default\""),
	FIELD(struct instance_spec, ports, FIELD_LIST, .flags = FIELD_LIVE, .max = 256, .sub = &port_table,
	      .flag = "publish,p", .placeholder = "[[IP:]HOSTPORT:]PORT[/PROTOCOL]", .parse = parse_port,
	      .doc = "Ports of it on the host"),
	FIELD(struct instance_spec, publish_all, FIELD_BOOL, .flag = "publish-all,P",
	      .doc = "Also the ports that it exposes, each on a free one of the host"),
	FIELD(struct instance_spec, expose, FIELD_STRINGS, .check = exposed_check, .flag = "expose",
	      .placeholder = "PORT[/PROTOCOL]", .doc = "Ports that it listens on, besides its image's"),
	FIELD(struct instance_spec, links, FIELD_STRINGS, .max = 64, .check = link_check, .flag = "link",
	      .placeholder = "INSTANCE:ALIAS", .doc = "Further instances that it knows by a name of its own"),
	FIELD(struct instance_spec, dns, FIELD_STRINGS, .max = 16, .check = address_check, .flag = "dns",
	      .placeholder = "ADDRESS", .doc = "Name servers"),
	FIELD(struct instance_spec, dns_search, FIELD_STRINGS, .max = 32, .check = dns_search_check, .flag = "dns-search",
	      .placeholder = "DOMAIN", .doc = "Domains in which names are looked up; \".\": none"),
	FIELD(struct instance_spec, dns_options, FIELD_STRINGS, .max = 32, .check = text_check,
	      .flag = "dns-option,dns-opt", .placeholder = "OPTION", .doc = "Options of resolv.conf"),
	FIELD(struct instance_spec, extra_hosts, FIELD_STRINGS, .check = extra_host_check, .flag = "add-host",
	      .placeholder = "NAME:ADDRESS", .doc = "Further lines of /etc/hosts"),

	FIELD(struct instance_spec, mounts, FIELD_LIST, .max = 256, .sub = &mount_table, .flag = "mount",
	      .placeholder = "SPEC", .parse = parse_mount,
	      .doc = "type=bind|tmpfs,source=PATH,target=PATH[,readonly…]"),
	{.name = "volume",
	 .type = FIELD_LIST,
	 .offset = offsetof(struct instance_spec, mounts),
	 .max = 256,
	 .sub = &mount_table,
	 .flags = FIELD_ALIAS,
	 .flag = "volume,v",
	 .placeholder = "PATH:TARGET[:OPTIONS]",
	 .parse = parse_volume,
	 .doc = "A path of the host inside, with options such as ro"},
	{.name = "tmpfs",
	 .type = FIELD_LIST,
	 .offset = offsetof(struct instance_spec, mounts),
	 .max = 256,
	 .sub = &mount_table,
	 .flags = FIELD_ALIAS,
	 .flag = "tmpfs",
	 .placeholder = "TARGET[:OPTIONS]",
	 .parse = parse_tmpfs,
	 .doc = "A file system in memory, with options such as size=64m,noexec"},
	FIELD(struct instance_spec, files, FIELD_LIST, .flags = FIELD_IMMUTABLE, .max = 256, .sub = &instance_file_table,
	      .flag = "secret", .placeholder = "NAME[,target=PATH…]", .parse = parse_secret,
	      .doc = "Secrets inside as files: NAME,target=PATH,uid=N,gid=N,mode=MODE"),
	{.name = "config",
	 .type = FIELD_LIST,
	 .offset = offsetof(struct instance_spec, files),
	 .max = 256,
	 .sub = &instance_file_table,
	 .flags = FIELD_ALIAS,
	 .flag = "config",
	 .placeholder = "NAME[,target=PATH…]",
	 .parse = parse_config,
	 .doc = "Configs inside as files, in the same way"},
	FIELD(struct instance_spec, pool, FIELD_STRING, .flags = FIELD_IMMUTABLE, .def = "local", .max = 128,
	      .check = instance_name_check, .flag = "pool", .placeholder = "NAME", .doc = "Pool in which its root lives"),
	FIELD(struct instance_spec, root_size, FIELD_SIZE, .flags = FIELD_LIVE, .def = "0", .flag = "root-size",
	      .placeholder = "BYTES", .doc = "Most that its root may take; 0: no limit of its own"),
	FIELD(struct instance_spec, schedule, FIELD_OBJECT, .flags = FIELD_LIVE, .sub = &snapshot_schedule_table,
	      .doc = "Snapshots of its root by themselves"),
	FIELD(struct instance_spec, log, FIELD_OBJECT, .sub = &log_table, .doc = "Its log"),
	FIELD(struct instance_spec, owner, FIELD_OBJECT, .flags = FIELD_READONLY | FIELD_IMMUTABLE, .sub = &instance_owner_table,
	      .doc = "The workload that it is one of"),
};
const struct field_table instance_spec_table = {
	"instance_spec", "What is wanted of an instance", sizeof(struct instance_spec),
	spec_fields, ARRAY_SIZE(spec_fields), instance_spec_validate,
};

static const struct field status_fields[] = {
	FIELD(struct instance_status, state, FIELD_ENUM, .def = "created",
	      .values = (const char *const[]){"created", "running", "paused", "restarting", "suspended", "exited", "dead", NULL},
	      .doc = "What it does now"),
	FIELD(struct instance_status, pid, FIELD_INT, .def = "0", .doc = "Its first process on the host; 0: none"),
	FIELD(struct instance_status, exit_code, FIELD_INT, .def = "0", .min = -1, .max = 255,
	      .doc = "How it ended last: the exit status, or 128 and the signal"),
	FIELD(struct instance_status, oom_killed, FIELD_BOOL, .def = "false", .doc = "It ran out of memory"),
	FIELD(struct instance_status, error, FIELD_STRING, .max = 65536, .doc = "Why the last start failed"),
	FIELD(struct instance_status, started_at, FIELD_TIME, .doc = "Last start"),
	FIELD(struct instance_status, finished_at, FIELD_TIME, .doc = "Last end"),
	FIELD(struct instance_status, restart_count, FIELD_INT, .def = "0", .doc = "Restarts by its policy"),
	FIELD(struct instance_status, vsock_cid, FIELD_INT, .doc = "Number of its virtio socket"),
	FIELD(struct instance_status, health, FIELD_ENUM,
	      .values = (const char *const[]){"starting", "healthy", "unhealthy", NULL}, .doc = "By its health check"),
	FIELD(struct instance_status, stopped_by_user, FIELD_BOOL, .doc = "Its restart policy leaves it alone"),
	FIELD(struct instance_status, moves_to, FIELD_STRING, .max = 4096, .doc = "The daemon that the machine is moving to"),
	FIELD(struct instance_status, moves_keep, FIELD_BOOL, .doc = "It stays here when it has moved, stopped"),
	FIELD(struct instance_status, moves_on, FIELD_BOOL, .doc = "The other daemon was told to run it, the rest of its memory follows"),
	FIELD(struct instance_status, moved, FIELD_BOOL, .doc = "It has moved to another daemon"),
	FIELD(struct instance_status, arriving, FIELD_BOOL, .doc = "The rest of its memory still comes from the daemon that had it"),
};
const struct field_table instance_status_table = {
	"instance_status", "What an instance is", sizeof(struct instance_status), status_fields,
	ARRAY_SIZE(status_fields),
};

static const struct field volume_use_fields[] = {
	FIELD(struct volume_use, name, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 128, .check = instance_name_check,
	      .doc = "As the mount's source"),
	FIELD(struct volume_use, volume_id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check,
	      .doc = "Of the volume"),
	FIELD(struct volume_use, pool_id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check,
	      .doc = "Of its pool"),
	FIELD(struct volume_use, kind, FIELD_ENUM, .def = "filesystem",
	      .values = (const char *const[]){"filesystem", "block", NULL}, .doc = "What it is"),
};
const struct field_table volume_use_table = {
	"volume_use", "A volume in use", sizeof(struct volume_use), volume_use_fields, ARRAY_SIZE(volume_use_fields),
};

static const struct field image_use_fields[] = {
	FIELD(struct image_use, name, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 512, .check = text_check, .doc = "As the mount's source"),
	FIELD(struct image_use, image_id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = digest_check, .doc = "Of the image"),
	FIELD(struct image_use, layers, FIELD_STRINGS, .max = 256, .check = digest_check, .doc = "Its layers, lowest first"),
};
const struct field_table image_use_table = {
	"image_use", "An image that is mounted", sizeof(struct image_use), image_use_fields, ARRAY_SIZE(image_use_fields),
};

static const struct field instance_fields[] = {
	FIELD(struct instance, id, FIELD_STRING, .flags = FIELD_READONLY | FIELD_REQUIRED, .check = instance_id_check,
	      .doc = "64 hexadecimal digits"),
	FIELD(struct instance, project, FIELD_STRING, .flags = FIELD_READONLY, .def = "default", .max = 128,
	      .check = instance_name_check, .doc = "Whose it is"),
	FIELD(struct instance, created_at, FIELD_TIME, .flags = FIELD_READONLY, .doc = "When it was made"),
	FIELD(struct instance, transient, FIELD_BOOL, .flags = FIELD_READONLY,
	      .doc = "Part of an operation, and gone with it"),
	FIELD(struct instance, image_id, FIELD_STRING, .flags = FIELD_READONLY, .check = text_check,
	      .doc = "Digest of its image's configuration"),
	FIELD(struct instance, uid_base, FIELD_INT, .flags = FIELD_READONLY, .max = UINT32_MAX,
	      .doc = "First host id of its range of 65536; 0: it shares the host's"),
	FIELD(struct instance, pool_id, FIELD_STRING, .flags = FIELD_READONLY, .check = instance_id_check,
	      .doc = "Of the pool in which its root lives"),
	FIELD(struct instance, nics, FIELD_LIST, .flags = FIELD_READONLY, .max = 32, .sub = &nic_table,
	      .doc = "Its network interfaces"),
	FIELD(struct instance, ports, FIELD_LIST, .flags = FIELD_READONLY, .max = 256, .sub = &port_table,
	      .doc = "Its published ports"),
	FIELD(struct instance, exposed, FIELD_STRINGS, .flags = FIELD_READONLY, .check = exposed_check,
	      .doc = "Ports that it listens on"),
	FIELD(struct instance, volumes, FIELD_LIST, .flags = FIELD_READONLY, .max = 256, .sub = &volume_use_table,
	      .doc = "Volumes that it mounts"),
	FIELD(struct instance, images, FIELD_LIST, .flags = FIELD_READONLY, .max = 64, .sub = &image_use_table,
	      .doc = "Images that it mounts"),
	FIELD(struct instance, spec, FIELD_OBJECT, .sub = &instance_spec_table, .doc = "What is wanted"),
	FIELD(struct instance, status, FIELD_OBJECT, .flags = FIELD_READONLY, .sub = &instance_status_table,
	      .doc = "What is"),
};
const struct field_table instance_table = {
	"instance", "One thing that runs", sizeof(struct instance), instance_fields, ARRAY_SIZE(instance_fields),
};
