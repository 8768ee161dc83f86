/* Named places where a test may have a process killed. Without WABE_FAULT in the agent's environment a
 * fault point is one comparison. */
#include "agent/agent-priv.h"

#include "base/str.h"

#include <signal.h>
#include <unistd.h>

static const char *fault_name;
static bool fault_agent, fault_worker, fault_hold;
static pid_t agent_pid;

void fault_init(void) {
	const char *wanted = getenv("WABE_FAULT");
	const char *colon = wanted ? strchr(wanted, ':') : NULL;
	if (!colon)
		return;
	fault_agent = str_starts(wanted, "agent:") || str_starts(wanted, "both:");
	fault_worker = str_starts(wanted, "worker:") || str_starts(wanted, "both:");
	fault_hold = str_starts(wanted, "hold:");
	fault_name = colon + 1;
	agent_pid = getpid();
}

void fault_point(const char *name) {
	if (!fault_name || strcmp(fault_name, name) != 0)
		return;
	if (fault_agent && getpid() != agent_pid)
		kill(agent_pid, SIGKILL);
	if (fault_worker || fault_hold)
		kill(getpid(), fault_hold ? SIGSTOP : SIGKILL);
}
