#include "driver/container/processes.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

#define COMMAND_SHOWN ((size_t)4096)

static int64_t boot_time_ns(void) {
	return time_now_ns() - time_mono_ns();
}

static uint32_t read_owner(pid_t pid) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/status", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 65536, &text) < 0)
		return 0;
	const char *line = strstr(buf_str(&text), "\nUid:");
	return line ? (uint32_t)strtoul(line + 5, NULL, 10) : 0;
}

static char *read_command(pid_t pid, struct str name) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/cmdline", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(COMMAND_SHOWN + 16384);
	fs_read(path, COMMAND_SHOWN, &text);
	size_t n = MIN(text.len, COMMAND_SHOWN);
	while (n && text.data[n - 1] == '\0')
		n--;
	char *command = n ? str_copyn(text.data, n) : str_format("[%.*s]", (int)name.len, name.p);
	for (size_t i = 0; n && i < n; i++) {
		unsigned char c = (unsigned char)text.data[i];
		command[i] = c == '\0' ? ' ' : c < ' ' || c >= 0x7f ? '?' : (char)c;
	}
	command[n ? n : strlen(command)] = '\0';
	return command;
}

int process_look(pid_t pid, struct process_info *out) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/stat", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 65536, &text) < 0)
		return -ESRCH;
	const char *from = strchr(buf_str(&text), '('), *end = strrchr(buf_str(&text), ')');
	char state;
	int parent;
	unsigned long long user, system, start;
	long resident;
	if (!from || !end ||
	    sscanf(end + 1,
		   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %*u %ld", &state,
		   &parent, &user, &system, &start, &resident) != 6)
		return -ESRCH;
	int64_t tick = NS_PER_SEC / sysconf(_SC_CLK_TCK);
	*out = (struct process_info){
		.parent = parent,
		.uid = read_owner(pid),
		.state = state,
		.command = read_command(pid, (struct str){from + 1, (size_t)(end - from - 1)}),
		.memory = resident * sysconf(_SC_PAGESIZE),
		.cpu_ns = (int64_t)(user + system) * tick,
		.started_at = boot_time_ns() + (int64_t)start * tick,
	};
	return 0;
}
