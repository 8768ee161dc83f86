/* All messages: the tables of their bodies, and the list of requests. */
#include "wire/messages.h"

#include "base/str.h"
#include "model/git.h"

#define TABLE(var_, name_, struct_, fields_, doc_) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_)}

#define ID_FIELD(struct_) \
	FIELD(struct_, id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = "Of the instance")
#define EXEC_ID_FIELD(struct_, flags_) \
	FIELD(struct_, exec_id, FIELD_STRING, .flags = flags_, .check = instance_id_check, .doc = "Of the exec")
#define COUNT_FIELD(struct_, member_, doc_) FIELD(struct_, member_, FIELD_INT, .def = "0", .doc = doc_)
#define BYTES_FIELD(struct_, member_, doc_) FIELD(struct_, member_, FIELD_SIZE, .def = "0", .doc = doc_)

/* A path inside an instance; it is looked up beneath its root, so that ".." and odd bytes do no harm. */
static int inside_path_check(const char *path, struct error *err) {
	return path[0] == '/' ? 0 : error_set(err, ERROR_INVALID, "must be an absolute path");
}

const struct field_table msg_empty_table = {"msg_empty", "Nothing", sizeof(struct msg_empty), NULL, 0};

static const struct field hello_fields[] = {
	FIELD(struct msg_hello, version, FIELD_STRING, .doc = "Of the agent"),
	FIELD(struct msg_hello, cgroup_version, FIELD_INT, .max = 2, .doc = "1 or 2"),
	FIELD(struct msg_hello, kernel, FIELD_STRING, .doc = "Release of the kernel"),
	FIELD(struct msg_hello, architecture, FIELD_STRING, .doc = "As in GOARCH"),
	FIELD(struct msg_hello, cpus, FIELD_INT, .doc = "Online"),
	FIELD(struct msg_hello, memory, FIELD_SIZE, .doc = "Of the host"),
	FIELD(struct msg_hello, engine, FIELD_STRING, .doc = "What runs machines: kvm or tcg"),
	FIELD(struct msg_hello, engine_reason, FIELD_STRING, .doc = "Why it is not kvm"),
	FIELD(struct msg_hello, userns, FIELD_BOOL, .doc = "User name spaces can be made"),
	FIELD(struct msg_hello, idmapped_mounts, FIELD_BOOL, .doc = "Bind mounts can be idmapped"),
	FIELD(struct msg_hello, overlay_idmap, FIELD_BOOL, .doc = "Lower layers can be idmapped"),
	FIELD(struct msg_hello, cpu_list, FIELD_STRING, .max = 4096, .doc = "Processors that are on line"),
	FIELD(struct msg_hello, node_list, FIELD_STRING, .max = 4096, .doc = "Memory nodes that are on line"),
	FIELD(struct msg_hello, swap_limit, FIELD_BOOL, .doc = "Swap can be limited"),
	FIELD(struct msg_hello, directory, FIELD_STRING, .doc = "Where it keeps what it has, on the host"),
};
TABLE(msg_hello_table, "msg_hello", struct msg_hello, hello_fields, "What the agent and its host are");

static const struct field id_fields[] = {ID_FIELD(struct msg_id)};
TABLE(msg_id_table, "msg_id", struct msg_id, id_fields, "An instance");

static int medium_check(const char *name, struct error *err) {
	static const char *const known[] = {"kernel", "initrd", "seed", "cdrom0", "cdrom1", "cdrom2", "cdrom3", "floppy0", NULL};
	return strv_has((char *const *)known, name) ? 0 : error_set(err, ERROR_INVALID, "is no medium of a machine");
}

static const struct field medium_fields[] = {
	FIELD(struct msg_medium, name, FIELD_STRING, .flags = FIELD_REQUIRED, .check = medium_check, .doc = "What it is for"),
};
static TABLE(medium_table, "msg_medium", struct msg_medium, medium_fields, "A file that a machine gets");

static const struct field media_fields[] = {
	ID_FIELD(struct msg_instance_media),
	FIELD(struct msg_instance_media, media, FIELD_LIST, .max = MEDIA_MAX, .sub = &medium_table, .doc = "In the order of the descriptors"),
};
static const struct field input_fields[] = {
	ID_FIELD(struct msg_machine_input),
	FIELD(struct msg_machine_input, input, FIELD_OBJECT, .sub = &machine_input_table, .doc = "What is done"),
};
TABLE(msg_machine_input_table, "msg_machine_input", struct msg_machine_input, input_fields, "Keys and pointer of a machine");

TABLE(msg_instance_media_table, "msg_instance_media", struct msg_instance_media, media_fields, "What a machine gets besides its disk");

static const struct field create_fields[] = {
	FIELD(struct msg_instance_create, instance, FIELD_OBJECT, .sub = &instance_table, .doc = "The instance"),
	FIELD(struct msg_instance_create, config, FIELD_OBJECT, .sub = &image_config_table, .doc = "Of its image"),
	FIELD(struct msg_instance_create, layers, FIELD_STRINGS, .max = 512, .check = digest_check,
	      .doc = "diff_ids, lowest first"),
	FIELD(struct msg_instance_create, disk, FIELD_STRING, .check = digest_check, .doc = "Of the disk image that its disk begins as"),
	FIELD(struct msg_instance_create, root, FIELD_OBJECT, .sub = &msg_volume_ref_table,
	      .doc = "Another instance's root that its own begins as"),
	FIELD(struct msg_instance_create, linked, FIELD_BOOL, .doc = "Sharing what is common with it"),
	FIELD(struct msg_instance_create, memory, FIELD_BOOL, .doc = "Going on with that one's memory"),
	FIELD(struct msg_instance_create, media, FIELD_LIST, .max = MEDIA_MAX, .sub = &medium_table, .doc = "What it gets besides"),
};
TABLE(msg_instance_create_table, "msg_instance_create", struct msg_instance_create, create_fields, "A new instance");

static const struct field state_fields[] = {
	ID_FIELD(struct msg_instance_state),
	FIELD(struct msg_instance_state, uid_base, FIELD_INT, .max = UINT32_MAX, .doc = "First host id of its range"),
	FIELD(struct msg_instance_state, status, FIELD_OBJECT, .sub = &instance_status_table, .doc = "What it is"),
};
TABLE(msg_instance_state_table, "msg_instance_state", struct msg_instance_state, state_fields, "State of an instance");

static const struct field states_fields[] = {
	FIELD(struct msg_instance_states, instances, FIELD_LIST, .max = 65536, .sub = &msg_instance_state_table,
	      .doc = "All of the agent's"),
};
TABLE(msg_instance_states_table, "msg_instance_states", struct msg_instance_states, states_fields, "All instances");

static const struct field stop_fields[] = {
	ID_FIELD(struct msg_instance_stop),
	FIELD(struct msg_instance_stop, signal, FIELD_STRING, .max = 32, .check = signal_check,
	      .doc = "Its own if not given"),
	FIELD(struct msg_instance_stop, timeout, FIELD_DURATION, .min = INT64_C(-86400000000000), .def = "-1s",
	      .doc = "Until it is killed; negative: its own"),
};
TABLE(msg_instance_stop_table, "msg_instance_stop", struct msg_instance_stop, stop_fields, "How to stop an instance");

static const struct field kill_fields[] = {
	ID_FIELD(struct msg_instance_kill),
	FIELD(struct msg_instance_kill, signal, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 32, .check = signal_check,
	      .doc = "Name or number"),
};
TABLE(msg_instance_kill_table, "msg_instance_kill", struct msg_instance_kill, kill_fields, "A signal to an instance");

static const struct field delete_fields[] = {
	ID_FIELD(struct msg_instance_delete),
	FIELD(struct msg_instance_delete, force, FIELD_BOOL, .doc = "Kills it first"),
	FIELD(struct msg_instance_delete, unstarted, FIELD_BOOL, .doc = "Only if it has never been started"),
};
TABLE(msg_instance_delete_table, "msg_instance_delete", struct msg_instance_delete, delete_fields, "Which to delete");

static const struct field update_fields[] = {
	ID_FIELD(struct msg_instance_update),
	FIELD(struct msg_instance_update, spec, FIELD_OBJECT, .sub = &instance_spec_table,
	      .doc = "All of the new spec"),
	FIELD(struct msg_instance_update, ports, FIELD_LIST, .max = 256, .sub = &port_table, .doc = "As published"),
	FIELD(struct msg_instance_update, volumes, FIELD_LIST, .max = 256, .sub = &volume_use_table, .doc = "That it mounts"),
	FIELD(struct msg_instance_update, back, FIELD_BOOL, .doc = "Processors that a machine keeps are no failure"),
};
TABLE(msg_instance_update_table, "msg_instance_update", struct msg_instance_update, update_fields, "A changed spec");

static const struct field attach_fields[] = {
	ID_FIELD(struct msg_attach),
	EXEC_ID_FIELD(struct msg_attach, 0),
	{.name = "stdin", .type = FIELD_BOOL, .offset = offsetof(struct msg_attach, stdin_), .doc = "Gives input"},
	{.name = "stdout", .type = FIELD_BOOL, .offset = offsetof(struct msg_attach, stdout_), .doc = "Wants output"},
	{.name = "stderr", .type = FIELD_BOOL, .offset = offsetof(struct msg_attach, stderr_), .doc = "Wants errors"},
};
TABLE(msg_attach_table, "msg_attach", struct msg_attach, attach_fields, "What to attach to");

static const struct field exec_start_fields[] = {
	ID_FIELD(struct msg_exec_start),
	EXEC_ID_FIELD(struct msg_exec_start, FIELD_REQUIRED),
	FIELD(struct msg_exec_start, command, FIELD_STRINGS, .flags = FIELD_REQUIRED, .max = 8192,
	      .doc = "What to run"),
	FIELD(struct msg_exec_start, env, FIELD_STRINGS, .max = 4096, .check = env_check,
	      .doc = "Beside the instance's"),
	FIELD(struct msg_exec_start, user, FIELD_STRING, .max = 256, .check = text_check, .doc = "user[:group]"),
	FIELD(struct msg_exec_start, workdir, FIELD_STRING, .check = path_check, .doc = "Working directory"),
	FIELD(struct msg_exec_start, tty, FIELD_BOOL, .doc = "Gives it a terminal"),
	FIELD(struct msg_exec_start, stdin_open, FIELD_BOOL, .doc = "Keeps its input open"),
	FIELD(struct msg_exec_start, privileged, FIELD_BOOL, .doc = "With all capabilities"),
	FIELD(struct msg_exec_start, detach, FIELD_BOOL, .doc = "Nobody is attached"),
	FIELD(struct msg_exec_start, rows, FIELD_INT, .max = 65535, .doc = "Of the terminal; 0: not set"),
	FIELD(struct msg_exec_start, columns, FIELD_INT, .max = 65535, .doc = "Of the terminal; 0: not set"),
};
TABLE(msg_exec_start_table, "msg_exec_start", struct msg_exec_start, exec_start_fields, "A further process");

static const struct field exec_started_fields[] = {COUNT_FIELD(struct msg_exec_started, pid, "On the host")};
TABLE(msg_exec_started_table, "msg_exec_started", struct msg_exec_started, exec_started_fields, "A started exec");

static const struct field exec_fields[] = {ID_FIELD(struct msg_exec), EXEC_ID_FIELD(struct msg_exec, FIELD_REQUIRED)};
TABLE(msg_exec_table, "msg_exec", struct msg_exec, exec_fields, "An exec");

static const struct field exec_state_fields[] = {
	FIELD(struct msg_exec_state, running, FIELD_BOOL, .def = "false", .doc = "It has not ended"),
	COUNT_FIELD(struct msg_exec_state, pid, "On the host; 0: it has ended"),
	FIELD(struct msg_exec_state, exit_code, FIELD_INT, .def = "0", .min = -1, .max = 255, .doc = "How it ended"),
};
TABLE(msg_exec_state_table, "msg_exec_state", struct msg_exec_state, exec_state_fields, "State of an exec");

#define COUNTER(member_, doc_) COUNT_FIELD(struct nic_counters, member_, doc_)
static const struct field counter_fields[] = {
	FIELD(struct nic_counters, name, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = text_check, .doc = "Inside"),
	COUNTER(rx_bytes, "Received"), COUNTER(rx_packets, "Received"), COUNTER(rx_errors, "Received damaged"),
	COUNTER(rx_dropped, "Received and dropped"), COUNTER(tx_bytes, "Sent"), COUNTER(tx_packets, "Sent"),
	COUNTER(tx_errors, "That could not be sent"), COUNTER(tx_dropped, "Dropped before they were sent"),
};
static TABLE(nic_counters_table, "nic_counters", struct nic_counters, counter_fields, "What has gone over an interface");

#define STAT(member_, doc_) COUNT_FIELD(struct msg_stats, member_, doc_)
#define STAT_BYTES(member_, doc_) BYTES_FIELD(struct msg_stats, member_, doc_)
static const struct field stats_fields[] = {
	FIELD(struct msg_stats, time, FIELD_TIME, .doc = "When this was read"),
	STAT(cpu_ns, "CPU time, nanoseconds"),
	STAT(cpu_user_ns, "Of it in programs"),
	STAT(cpu_system_ns, "Of it in the kernel"),
	STAT(throttled_ns, "Time it waited because of its quota"),
	STAT(throttled_periods, "Periods in which its quota ran out"),
	STAT(periods, "Periods of its quota"),
	STAT_BYTES(memory, "In use"),
	STAT_BYTES(memory_max, "Most that was in use"),
	FIELD(struct msg_stats, memory_limit, FIELD_SIZE, .def = "0", .min = -1,
	      .doc = "Its limit, or the host's memory"),
	STAT_BYTES(memory_cache, "Of it cache of files"),
	STAT(memory_failures, "How often the limit was hit"),
	STAT_BYTES(swap, "In swap"),
	STAT(pids, "Processes and threads"),
	FIELD(struct msg_stats, pids_limit, FIELD_INT, .def = "0", .min = -1, .doc = "Its limit; 0 or -1: none"),
	STAT_BYTES(read_bytes, "Read from block devices"),
	STAT_BYTES(write_bytes, "Written to block devices"),
	STAT(read_ops, "Reads of block devices"),
	STAT(write_ops, "Writes to block devices"),
	STAT(online_cpus, "Of the host"),
	STAT(system_cpu_ns, "CPU time of the whole host"),
	FIELD(struct msg_stats, interfaces, FIELD_LIST, .max = 1024, .sub = &nic_counters_table, .doc = "Of its own network"),
};
TABLE(msg_stats_table, "msg_stats", struct msg_stats, stats_fields, "What an instance uses");

static const struct field password_fields[] = {
	ID_FIELD(struct msg_machine_password),
	FIELD(struct msg_machine_password, change, FIELD_OBJECT, .sub = &inside_password_table, .doc = "Whose it is, and what it becomes"),
};
TABLE(msg_machine_password_table, "msg_machine_password", struct msg_machine_password, password_fields, "A password inside a machine");

#define SECRET_FIELD(struct_) \
	FIELD(struct_, secret, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_SECRET, .check = instance_id_check, \
	      .doc = "Key of the connections")
static const struct field migrate_fields[] = {
	ID_FIELD(struct msg_machine_migrate),
	FIELD(struct msg_machine_migrate, to, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 4096, .doc = "Where it goes"),
	SECRET_FIELD(struct msg_machine_migrate),
	FIELD(struct msg_machine_migrate, keep, FIELD_BOOL, .doc = "It stays here as well, stopped"),
	FIELD(struct msg_machine_migrate, post_copy, FIELD_BOOL, .doc = "It goes on there before all of its memory is there"),
	FIELD(struct msg_machine_migrate, downtime, FIELD_DURATION, .doc = "How long it may be halted"),
	BYTES_FIELD(struct msg_machine_migrate, bandwidth, "Of its memory, a second; 0: all that there is"),
};
TABLE(msg_machine_migrate_table, "msg_machine_migrate", struct msg_machine_migrate, migrate_fields, "A machine moves away");

static const struct field receive_fields[] = {
	ID_FIELD(struct msg_machine_receive),
	SECRET_FIELD(struct msg_machine_receive),
	FIELD(struct msg_machine_receive, post_copy, FIELD_BOOL, .doc = "It goes on before all of its memory is there"),
};
TABLE(msg_machine_receive_table, "msg_machine_receive", struct msg_machine_receive, receive_fields, "A machine comes");

static const struct field settle_fields[] = {
	ID_FIELD(struct msg_machine_settle),
	FIELD(struct msg_machine_settle, asked, FIELD_BOOL, .doc = "The other daemon was asked"),
	FIELD(struct msg_machine_settle, there, FIELD_BOOL, .doc = "It runs there, or has run"),
};
TABLE(msg_machine_settle_table, "msg_machine_settle", struct msg_machine_settle, settle_fields, "How a migration has ended");

static const struct field process_fields[] = {
	COUNT_FIELD(struct process_row, pid, "As the host sees it"),
	COUNT_FIELD(struct process_row, parent, "As the host sees it"),
	FIELD(struct process_row, user, FIELD_STRING, .max = 256, .doc = "Its id inside the instance"),
	FIELD(struct process_row, state, FIELD_STRING, .max = 64, .doc = "R, S, D, Z …"),
	FIELD(struct process_row, command, FIELD_STRING, .max = 65536, .doc = "Its arguments"),
	BYTES_FIELD(struct process_row, memory, "Resident"),
	COUNT_FIELD(struct process_row, cpu_ns, "CPU time, nanoseconds"),
	FIELD(struct process_row, started_at, FIELD_TIME, .doc = "When it began"),
};
static TABLE(process_table, "process_row", struct process_row, process_fields, "A process");

static const struct field processes_fields[] = {
	FIELD(struct msg_processes, processes, FIELD_LIST, .max = 32768, .sub = &process_table,
	      .doc = "All of an instance"),
};
TABLE(msg_processes_table, "msg_processes", struct msg_processes, processes_fields, "Processes");

static const struct field health_result_fields[] = {
	FIELD(struct health_result, started_at, FIELD_TIME, .doc = "When it began"),
	FIELD(struct health_result, finished_at, FIELD_TIME, .doc = "When it ended"),
	FIELD(struct health_result, exit_code, FIELD_INT, .def = "0", .min = -1, .max = 255,
	      .doc = "Of the check; -1: it could not be run, or took too long"),
	FIELD(struct health_result, output, FIELD_STRING, .max = 3 * HEALTH_OUTPUT, .doc = "What it wrote"),
};
static TABLE(health_result_table, "health_result", struct health_result, health_result_fields, "How one health check went");

static const struct field health_fields[] = {
	COUNT_FIELD(struct msg_health, failures, "In a row"),
	FIELD(struct msg_health, results, FIELD_LIST, .max = HEALTH_RESULTS, .sub = &health_result_table,
	      .doc = "The last ones, oldest first"),
};
TABLE(msg_health_table, "msg_health", struct msg_health, health_fields, "What health checks have found");

static const struct field archive_fields[] = {
	ID_FIELD(struct msg_archive),
	FIELD(struct msg_archive, path, FIELD_STRING, .flags = FIELD_REQUIRED, .check = inside_path_check,
	      .doc = "Inside the instance"),
	FIELD(struct msg_archive, keep_owner, FIELD_BOOL, .doc = "put: owners from the archive"),
	FIELD(struct msg_archive, no_overwrite_dir, FIELD_BOOL, .doc = "put: no file in a directory's place"),
};
TABLE(msg_archive_table, "msg_archive", struct msg_archive, archive_fields, "Files of an instance");

static const struct field file_fields[] = {
	FIELD(struct msg_file, name, FIELD_STRING, .doc = "Last part of the path"),
	FIELD(struct msg_file, link_target, FIELD_STRING, .doc = "Of a symbolic link"),
	BYTES_FIELD(struct msg_file, size, "Of its content"),
	COUNT_FIELD(struct msg_file, mode, "Type and permissions, as st_mode"),
	FIELD(struct msg_file, mtime, FIELD_TIME, .min = INT64_MIN, .doc = "Last change of its content"),
};
TABLE(msg_file_table, "msg_file", struct msg_file, file_fields, "A file inside an instance");

static const struct field export_fields[] = {
	ID_FIELD(struct msg_export),
	FIELD(struct msg_export, pause, FIELD_BOOL, .doc = "Frozen meanwhile"),
	FIELD(struct msg_export, take, FIELD_BOOL, .doc = "Its changes become the layer's"),
};
TABLE(msg_export_table, "msg_export", struct msg_export, export_fields, "What to export");

static const struct field layer_fields[] = {
	FIELD(struct msg_layer, diff_id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = digest_check,
	      .doc = "Of the layer"),
	FIELD(struct msg_layer, media_type, FIELD_STRING, .max = 256, .check = text_check, .doc = "Of the blob"),
};
TABLE(msg_layer_table, "msg_layer", struct msg_layer, layer_fields, "A layer");

static const struct field unpacked_fields[] = {BYTES_FIELD(struct msg_layer_unpacked, size, "Of its content")};
TABLE(msg_layer_unpacked_table, "msg_layer_unpacked", struct msg_layer_unpacked, unpacked_fields, "An unpacked layer");

static const struct field tree_fields[] = {
	FIELD(struct msg_tree, layers, FIELD_STRINGS, .max = 512, .check = digest_check, .doc = "Lowest first"),
	FIELD(struct msg_tree, path, FIELD_STRING, .flags = FIELD_REQUIRED, .check = inside_path_check,
	      .doc = "In the tree that they make"),
	FIELD(struct msg_tree, follow, FIELD_BOOL, .doc = "A link at the path's end too"),
	FIELD(struct msg_tree, uid, FIELD_INT, .max = 65535, .doc = "Owner of directories that are made"),
	FIELD(struct msg_tree, gid, FIELD_INT, .max = 65535, .doc = "Group of directories that are made"),
};
TABLE(msg_tree_table, "msg_tree", struct msg_tree, tree_fields, "A path in the tree that layers make");

static const struct field layers_fields[] = {
	FIELD(struct msg_layers, diff_ids, FIELD_STRINGS, .max = 16384, .check = digest_check,
	      .doc = "All that are there"),
};
TABLE(msg_layers_table, "msg_layers", struct msg_layers, layers_fields, "Layers");

/* Names of suites and packages become arguments of a program: they never look like an option. */
static int package_check(const char *name, struct error *err) {
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-:~";
	if (name[0] == '-' || !name[0] || name[strspn(name, allowed)] || strlen(name) > 128)
		return error_set(err, ERROR_INVALID, "is not the name of a suite or package");
	return 0;
}

static const struct field bootstrap_fields[] = {
	FIELD(struct msg_bootstrap, suite, FIELD_STRING, .flags = FIELD_REQUIRED, .check = package_check,
	      .doc = "bookworm … as in the host's sources"),
	FIELD(struct msg_bootstrap, variant, FIELD_ENUM, .def = "minbase",
	      .values = (const char *const[]){"minbase", "system", "kernel", NULL}, .doc = "How much"),
	FIELD(struct msg_bootstrap, include, FIELD_STRINGS, .check = package_check, .doc = "Further packages"),
};
TABLE(msg_bootstrap_table, "msg_bootstrap", struct msg_bootstrap, bootstrap_fields, "A root file system to build");

static const struct field git_fields[] = {
	FIELD(struct msg_git, url, FIELD_STRING, .flags = FIELD_REQUIRED, .check = git_url_check, .doc = "Where it is"),
	FIELD(struct msg_git, authorization, FIELD_STRING, .flags = FIELD_SECRET, .max = 65536, .check = git_authorization_check,
	      .doc = "Who asks, for HTTP"),
	FIELD(struct msg_git, ref, FIELD_STRING, .check = git_ref_check, .doc = "A branch, a tag, a commit …; else HEAD"),
	FIELD(struct msg_git, directory, FIELD_STRING, .check = git_directory_check, .doc = "Beneath its top"),
	FIELD(struct msg_git, keep, FIELD_BOOL, .doc = "With .git"),
};
TABLE(msg_git_table, "msg_git", struct msg_git, git_fields, "A git repository");

static const struct field git_commit_fields[] = {
	FIELD(struct msg_git_commit, commit, FIELD_STRING, .flags = FIELD_REQUIRED, .check = git_commit_check, .doc = "Its id"),
};
TABLE(msg_git_commit_table, "msg_git_commit", struct msg_git_commit, git_commit_fields, "A commit");

static const struct field progress_fields[] = {
	FIELD(struct msg_progress, message, FIELD_STRING, .doc = "What happens, in a line"),
	BYTES_FIELD(struct msg_progress, done, "Bytes done"),
	BYTES_FIELD(struct msg_progress, total, "Bytes in all; 0: not known"),
	FIELD(struct msg_progress, final, FIELD_BOOL, .doc = "It cannot be called off any more"),
};
TABLE(msg_progress_table, "msg_progress", struct msg_progress, progress_fields, "How far it is");

static const struct field shutdown_fields[] = {
	FIELD(struct msg_shutdown, timeout, FIELD_DURATION, .doc = "Until instances are killed"),
};
TABLE(msg_shutdown_table, "msg_shutdown", struct msg_shutdown, shutdown_fields, "How to shut down");

static const struct field event_fields[] = {
	FIELD(struct msg_event, time, FIELD_TIME, .doc = "When"),
	FIELD(struct msg_event, action, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = text_check,
	      .doc = "start, die, oom, health …"),
	ID_FIELD(struct msg_event),
	EXEC_ID_FIELD(struct msg_event, 0),
	FIELD(struct msg_event, exit_code, FIELD_INT, .def = "0", .min = -1, .max = 255, .doc = "Of what ended"),
	FIELD(struct msg_event, status, FIELD_OBJECT, .sub = &instance_status_table, .doc = "Of the instance now"),
};
TABLE(msg_event_table, "msg_event", struct msg_event, event_fields, "Something happened to an instance");

#define REQUEST(name_, request_, reply_, doc_) {name_, &msg_##request_##_table, &msg_##reply_##_table, 0, 0, doc_}
#define REQUEST_FD(name_, request_, reply_, doc_) {name_, &msg_##request_##_table, &msg_##reply_##_table, 1, 1, doc_}

const struct wire_request wire_requests[] = {
	REQUEST("hello", empty, hello, "What the agent and its host are"),
	{"instance-create", &msg_instance_create_table, &msg_instance_state_table, 0, 1 + MEDIA_MAX,
	 "Directories, uid range and record; again: the same. Descriptors: its files, one behind the other; its media"},
	{"instance-media", &msg_instance_media_table, &msg_empty_table, 0, MEDIA_MAX, "Other media for a machine, from its next start on"},
	{"instance-start", &msg_id_table, &msg_instance_state_table, 0, WIRE_FDS_MAX,
	 "Starts it; says whether its command could be executed. Descriptors: the sockets among its files, which have no name yet"},
	REQUEST("instance-stop", instance_stop, instance_state,
		"Signal, then after the timeout SIGKILL; waits for the end"),
	REQUEST("instance-kill", instance_kill, empty, "A signal to its first process"),
	REQUEST("instance-pause", id, instance_state, "Freezes it"),
	REQUEST("instance-unpause", id, instance_state, "Lets it go on"),
	REQUEST("instance-delete", instance_delete, empty, "Removes all of it; no error if it is gone"),
	REQUEST("instance-update", instance_update, instance_state, "A new spec; limits take effect at once"),
	REQUEST("instance-list", empty, instance_states, "All that the agent has"),
	REQUEST("attach", attach, empty, "Reply: a descriptor that speaks shim/protocol.h"),
	REQUEST("machine-suspend", id, instance_state, "Saves a machine's memory and ends it; the next start goes on from there"),
	REQUEST("machine-display", id, empty, "Reply: a descriptor that speaks RFB to a machine's screen"),
	REQUEST("machine-usb", id, empty, "Reply: a descriptor that speaks usbredir to one of a machine's places for devices of clients"),
	REQUEST("machine-disk", id, empty, "Reply: a stream with the disk of a machine that does not run, as qcow2"),
	REQUEST("machine-tree", id, empty, "Reply: a stream with a tar of the Linux system on the disk of a machine that does not run"),
	REQUEST("machine-screen", id, empty, "Reply: a pipe with a picture (PNG) of what its screen shows"),
	REQUEST("machine-input", machine_input, empty, "Keys and pointer"),
	{"machine-migrate", &msg_machine_migrate_table, &msg_instance_state_table, MIGRATION_CHANNELS_MIN, MIGRATION_CHANNELS,
	 "Moves a machine to another agent, over three connections"},
	{"machine-receive", &msg_machine_receive_table, &msg_instance_state_table, MIGRATION_CHANNELS_MIN, MIGRATION_CHANNELS,
	 "Starts a machine that comes from another agent"},
	REQUEST("machine-settle", machine_settle, instance_state, "Ends a migration that was cut off"),
	{"machine-inside", &msg_id_table, &inside_table, 0, 0, "What its guest tells of itself"},
	REQUEST("machine-export", machine_export, empty, "Reply: a stream of the disks of a machine, of one moment"),
	REQUEST("machine-checkpoints", machine_export, checkpoints, "Those of its disks; removes one"),
	REQUEST("machine-disk-move", disk_move, volume_ref, "Moves a disk of a machine that runs into another pool; progress"),
	REQUEST("machine-password", machine_password, empty, "Has its guest change a user's password"),
	REQUEST("exec-start", exec_start, exec_started, "Reply: the same, unless detached"),
	REQUEST("exec-state", exec, exec_state, "Whether it runs, or how it ended"),
	REQUEST("exec-attach", attach, empty, "As attach, to an exec: exec_id is given"),
	REQUEST("exec-delete", exec, empty, "Forgets an exec, killing what is left of it"),
	REQUEST("instance-logs", id, empty, "Reply: descriptors of the log files, newest last"),
	REQUEST("instance-stats", id, stats, "What it uses"),
	REQUEST("instance-top", id, processes, "Its processes"),
	REQUEST("instance-health", id, health, "What its last health checks have found"),
	REQUEST("archive-get", archive, file, "Reply: a pipe with a tar of the path"),
	REQUEST_FD("archive-put", archive, empty, "Unpacks the tar that comes along into the directory"),
	REQUEST("archive-stat", archive, file, "What is at the path"),
	REQUEST("instance-diff", id, empty, "Reply: a stream of the differences to its image"),
	REQUEST("instance-export", export, empty, "Reply: a pipe with a tar of the whole root"),
	REQUEST("instance-commit", export, empty, "Reply: a pipe with a tar of the differences, as an OCI layer"),
	REQUEST_FD("layer-unpack", layer, layer_unpacked, "Unpacks the blob that comes along, checking its diff_id"),
	REQUEST("tree-get", tree, file, "Reply: a pipe with a tar of a path in the tree that layers make"),
	REQUEST("tree-stat", tree, file, "What is at a path in the tree that layers make"),
	REQUEST_FD("layer-make", tree, empty,
		   "Unpacks the tar that comes along upon layers; reply: a pipe with the new layer's tar"),
	REQUEST("layer-list", empty, layers, "All that are unpacked"),
	REQUEST("layer-delete", layer, empty, "Removes an unpacked layer that no instance uses"),
	REQUEST("bootstrap", bootstrap, empty,
		"Builds a root file system; reply: a pipe with a tar, of variant kernel wabe-init too; progress before"),
	{"git-resolve", &msg_git_table, &msg_git_commit_table, 0, 1,
	 "Which commit of a git repository is meant. Descriptor: a socket without a name, of an agent of ssh; progress once it listens"},
	{"git-fetch", &msg_git_table, &msg_git_commit_table, 0, 1, "The same; reply: a pipe with a tar of its files"},
	{"network-create", &network_table, &msg_network_state_table, 0, 0, "Makes a network, or brings it in line"},
	REQUEST("network-delete", object, empty, "Removes it; no error if it is gone, CONFLICT while instances are on it"),
	REQUEST("network-list", empty, network_states, "All that the agent has"),
	REQUEST("nic-set", nic_set, empty, "Puts an instance on a network"),
	REQUEST("nic-remove", nic_remove, empty, "Takes it off; no error if it is not on it"),
	{"rules-set", &rule_group_table, &msg_empty_table, 0, 0, "A rule group, replacing what it was"},
	REQUEST("rules-delete", object, empty, "Forgets a rule group"),
	REQUEST("members-set", members, empty, "Whom a peer of rules means"),
	{"balancer-set", &balancer_table, &msg_empty_table, 0, 0, "A balancer, replacing what it was"},
	REQUEST("balancer-delete", object, empty, "Forgets a balancer"),
	REQUEST("firewall-list", empty, firewall, "Rule groups, members and balancers that the agent has"),
	{"pool-create", &pool_table, &msg_pool_state_table, 0, 0, "Makes a pool, or takes it into use again"},
	REQUEST("pool-delete", object, empty, "Removes an empty pool and what wabe made of it"),
	REQUEST("pool-status", object, pool_state, "Looks at it now"),
	REQUEST("pool-list", empty, pool_states, "All that the agent has"),
	REQUEST("volume-create", volume_create, volume_usage, "Makes a volume, maybe as a copy; progress"),
	REQUEST("volume-delete", volume_ref, empty, "Removes it and its snapshots; CONFLICT while it is in use"),
	REQUEST("volume-resize", volume_resize, empty, "A new size"),
	REQUEST("volume-usage", volume_ref, volume_usage, "What it takes"),
	REQUEST("volume-list", object, volumes, "All in the pool"),
	REQUEST("volume-export", volume_data, empty, "Reply: a stream with its content"),
	REQUEST_FD("volume-import", volume_data, empty, "A new volume with the content that comes along"),
	REQUEST_FD("disk-check", disk, empty, "Whether the disk image that comes along is whole"),
	REQUEST_FD("disk-convert", disk, empty, "Reply: a stream with the disk image that comes along in another format"),
	REQUEST_FD("template-make", template, empty, "A volume of the disk image that comes along; progress"),
	REQUEST("volume-attach", volume_attach, empty, "Mounts a volume in a running instance"),
	REQUEST("volume-detach", volume_attach, empty, "Unmounts what is at the target"),
	REQUEST("snapshot-create", snapshot, empty, "Takes a snapshot"),
	REQUEST("snapshot-delete", snapshot, empty, "Removes a snapshot"),
	REQUEST("snapshot-restore", snapshot, empty, "Goes back to a snapshot; newer ones stay"),
	REQUEST("events", empty, empty, "An empty ok, then an ok with a msg_event for each event"),
	REQUEST("shutdown", shutdown, empty, "Stops every instance, then the agent"),
	{0},
};

const struct wire_request *wire_request_find(const char *name) {
	for (const struct wire_request *r = wire_requests; r->name; r++)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}
