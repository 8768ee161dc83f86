#!/usr/bin/env python3
"""Containers that mean harm: to their limits, to their log, to the processes around them, to the host. WABE_TEST_LONG=1:
the log that one writes is 1 GB."""
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from consistent import empty
from tap import LONG, contains, equal, need, note, run, test
from wabe import BUILD, WABE, Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"

# What no busybox applet does: system calls with what came of them, one line each.
PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
static void say(const char *what, long r) {
	printf("%s %s\n", what, r < 0 ? strerrorname_np(errno) : "works");
}
int main(int argc, char **argv) {
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char buffer[65536];
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	memcpy(a.sun_path + 1, argv[1], strlen(argv[1]));
	say("abstract", connect(s, (struct sockaddr *)&a, sizeof(sa_family_t) + 1 + strlen(argv[1])));
	say("keyctl", syscall(SYS_keyctl, 0, -5, 0));
	say("add_key", syscall(SYS_add_key, "user", "wabe-probe", "x", 1, -4));
	say("request_key", syscall(SYS_request_key, "user", "wabe-host-key", NULL, 0));
	say("bpf", syscall(SYS_bpf, 0, buffer, 48));
	say("perf", syscall(SYS_perf_event_open, buffer, 0, -1, -1, 0));
	say("mount", mount("none", "/tmp", "tmpfs", 0, ""));
	say("unshare", unshare(CLONE_NEWUSER));
	say("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
	say("module", syscall(SYS_init_module, buffer, 10, ""));
	say("open_by_handle", syscall(SYS_open_by_handle_at, AT_FDCWD, buffer, O_RDONLY));
	say("ptrace", ptrace(PTRACE_ATTACH, atoi(argv[2]), NULL, NULL));
	say("kill", kill(atoi(argv[2]), 0));
	say("dmesg", syscall(SYS_syslog, 3, buffer, sizeof buffer));
	say("settime", syscall(SYS_clock_settime, 0, &(long[2]){1, 0}));
	say("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
	say("swapon", syscall(SYS_swapon, "/swap", 0));
	say("userfaultfd", syscall(SYS_userfaultfd, 0));
	for (int fd = 3; fd < 1024; fd++)
		if (fd != s && fcntl(fd, F_GETFD) >= 0)
			printf("descriptor %d\n", fd);
	return 0;
}
"""


def setup():
    d = Daemon("cells")
    try:
        d.start()
        d.cli("image", "import", busybox_rootfs(d.dir + "/busybox.tar"), IMAGE)
        d.roles = d.pids()
    except BaseException:
        d.close()
        raise
    return d


def clean(d):
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)


def sh(d, script, *options, **kw):
    return d.cli("run", "--rm", *options, IMAGE, "sh", "-c", script, **kw)


# ---- limits and ends ----
@test
def fork_bombs(d):
    """a container that forks without end stays under its limit; the daemon answers; it can be stopped and removed"""
    for n in range(3):
        d.cli("run", "-d", "--name", f"bomb{n}", "--pids-limit", "60", "--memory", "64m", IMAGE, "sh", "-c",
              # a shell ends when it cannot fork: the first process is none, and what it began stays
              "f() { f & f & sleep 1000; }; f & (while :; do sleep 1000 & done) & exec sleep 1000")
    # zombies, which nobody reaps here, count as well; under cgroup v2 top does not see them
    wait_until(lambda: d.api("GET", "/v1/projects/default/instances/bomb0/stats")[1]["pids"] > 40, 60, "the bomb")
    assert len(d.out("top", "bomb0").split("\n")) <= 61
    equal(d.out("run", "--rm", IMAGE, "echo", "room"), "room")
    d.cli("stop", "-t", "0", "bomb0")
    equal(d.show("bomb0")["status"]["exit_code"], 137)
    d.cli("rm", "-f", "bomb0", "bomb1", "bomb2")
    empty(d)


@test
def memory_is_filled(d):
    """a container that fills memory, or its tmpfs, is ended under its limit, and the status says why at once"""
    for n in range(5):
        r = d.cli("run", "--name", "oom", "--memory", "24m", IMAGE, "tail", "/dev/zero", check=False)
        status = d.show("oom")["status"]
        equal((r.returncode, status["state"], status["exit_code"], status["oom_killed"]), (137, "exited", 137, True), f"round {n}")
        d.cli("rm", "oom")
    r = sh(d, "head -c 100000000 /dev/zero > /dev/shm/x", "--memory", "24m", check=False)
    assert r.returncode != 0, r
    equal(d.pids(), d.roles)
    empty(d)


@test
def stubborn(d):
    """one that ignores SIGTERM is killed after its time and has the status 137, visible when stop returns"""
    for n in range(3):
        d.cli("run", "-d", "--name", "deaf", IMAGE, "sh", "-c", "trap '' TERM INT HUP; echo up; while :; do sleep 1; done")
        wait_until(lambda: "up" in d.out("logs", "deaf"), 60, "the trap")
        d.cli("stop", "-t", "1", "deaf")
        status = d.show("deaf")["status"]
        equal((status["state"], status["exit_code"]), ("exited", 137))
        d.cli("rm", "deaf")
    d.cli("run", "-d", "--name", "frozen", IMAGE, "sleep", "1000")
    d.cli("pause", "frozen")
    d.cli("stop", "-t", "0", "frozen")
    equal(d.show("frozen")["status"]["state"], "exited")
    d.cli("rm", "frozen")
    empty(d)


@test
def outputs(d):
    """one that closes its output runs on; one that leaves the pipe open in the background still ends"""
    r = sh(d, "exec 0<&- 1>&- 2>&-; sleep 0.3; exit 9", check=False)
    equal((r.returncode, r.stdout, r.stderr), (9, "", ""))
    r = sh(d, "sleep 1000 & echo started; exit 4", check=False, timeout=60)
    equal((r.returncode, r.stdout), (4, "started\n"))
    d.cli("run", "-d", "--name", "bg", IMAGE, "sleep", "1000")
    r = d.cli("exec", "bg", "sh", "-c", "sleep 1000 & echo started; exit 4", check=False, timeout=60)
    equal((r.returncode, r.stdout), (4, "started\n"))
    d.cli("rm", "-f", "bg")
    r = sh(d, "printf 'no newline'; head -c 300000 /dev/zero | tr '\\0' x; printf '\\033[2J\\000\\377'", text=False)
    equal(len(r.stdout), 10 + 300000 + 6)
    empty(d)


@test
def a_flood_of_log(d):
    """a log without end stays within its limit, its tail is right, and the shim stays small"""
    size = (1 << 30) if LONG else (60 << 20)
    lines = size // 100
    d.cli("run", "-d", "--name", "flood", "--log-opt", "max-size=4m", "--log-opt", "max-file=3", IMAGE, "sh", "-c",
          f"yes {'x' * 80} | head -n {lines} | cat -n; echo the end")
    shim = wait_until(d.shims, 30, "the shim")[0]  # the worker becomes it just after it has answered
    peak, most = 0, 0
    where = f"{d.state}/agent/instances/{d.show('flood')['id']}/log"

    def ended():
        nonlocal peak, most
        try:
            peak = max(peak, sum(os.stat(f"{where}/{n}").st_size for n in os.listdir(where)))
        except FileNotFoundError:
            pass  # rotated away just now; the next look counts
        try:
            with open(f"/proc/{shim}/status") as f:
                most = max([most] + [int(line.split()[1]) for line in f if line.startswith("VmRSS:")])
        except OSError:
            pass
        return d.show("flood")["status"]["state"] == "exited"
    wait_until(ended, 1200, "the end of the flood")
    note(f"at most {peak >> 10} KiB of log, {most} KiB of shim")
    assert peak < (4 << 20) * 3 + (1 << 20), f"{peak} bytes of log"
    assert most < 4096 or "asan" in BUILD, f"the shim had {most} KiB"
    last = d.out("logs", "--tail", "2", "flood").split("\n")
    equal(last[1], "the end")
    equal(last[0].split()[0], str(lines))
    kept = d.out("logs", "flood").split("\n")[:-1]
    numbers = [int(line.split()[0]) for line in kept]
    equal(numbers, list(range(numbers[0], lines + 1)), "what is kept has no gap")
    d.cli("rm", "flood")
    empty(d)


# ---- the known ways out ----
@test
def executables_of_wabe(d):
    """overwriting /proc/self/exe and /proc/PID/exe of what enters the container reaches no file of wabe's"""
    programs = [WABE, *(f"{BUILD}/{name}" for name in ("wabed", "wabe-agent", "wabe-control", "wabe-shim"))]
    before = [open(p, "rb").read() for p in programs]
    with tempfile.TemporaryDirectory(dir=d.dir) as t:
        os.chmod(t, 0o755)
        # an image whose command is a link to the program that executes it, as in CVE-2019-5736
        subprocess.run(["tar", "-C", t, "-xf", d.dir + "/busybox.tar"], check=True)
        os.symlink("/proc/self/exe", t + "/bin/self")
        subprocess.run(["tar", "-C", t, "-cf", d.dir + "/self.tar", "."], check=True)
    d.cli("image", "import", d.dir + "/self.tar", "self:1")
    os.remove(d.dir + "/self.tar")
    for userns in ([], ["--userns", "host"]):
        for command in (["/bin/self"], ["/proc/self/exe"], ["/proc/self/fd/3"], ["/proc/1/exe"]):
            d.cli("run", "--rm", *userns, "self:1", *command, check=False)
        d.cli("run", "-d", "--name", "evil", *userns, IMAGE, "sh", "-c",
              "while :; do for p in /proc/[0-9]*; do (echo 'echo owned' > $p/exe) 2>/dev/null; "
              "for f in $p/fd/*; do (echo owned > $f) 2>/dev/null; done; done; done")
        for _ in range(10):
            d.cli("exec", "evil", "true", check=False)
            d.cli("exec", "evil", "/proc/self/exe", "true", check=False)
        d.cli("rm", "-f", "evil")
    d.cli("image", "rm", "self:1")
    for program, data in zip(programs, before):
        with open(program, "rb") as f:
            assert f.read() == data, f"{program} was changed"
    equal(d.pids(), d.roles)
    empty(d)


@test
def working_directories(d):
    """a working directory of /proc/self/fd/N, of run, exec or image, never lies on the host"""
    d.cli("run", "-d", "--name", "w", IMAGE, "sleep", "1000")
    for userns in ([], ["--userns", "host"]):
        for n in range(3, 24):
            for path in (f"/proc/self/fd/{n}", f"/proc/self/fd/{n}/..", f"/proc/1/fd/{n}", f"/proc/self/fd/{n}/../../.."):
                script = "cat etc/passwd ../etc/passwd ../../etc/passwd ../../../../../../etc/passwd; ls"
                r = d.cli("run", "--rm", *userns, "-w", path, IMAGE, "sh", "-c", script, check=False) if n < 12 else None
                e = d.cli("exec", "-w", path, "w", "sh", "-c", script, check=False) if not userns else None
                for got in (r, e):
                    assert not got or "daemon:" not in got.stdout, f"{path}: the host's /etc/passwd was read"
    d.cli("rm", "-f", "w")
    empty(d)


# ---- the host is out of reach ----
@test
def nothing_of_the_host(d):
    """descriptors, mounts, processes, devices, sysctls, firmware, kernel memory, sysfs: nothing that is not meant"""
    text = sh(d, """
        echo "fds $(ls /proc/self/fd | tr '\\n' ' ')"
        echo "pids $(ls -d /proc/[0-9]* | wc -l)"
        cat /proc/self/mountinfo | sed 's/^/mount /'
        for f in /proc/sys/kernel/panic /proc/sys/kernel/core_pattern /proc/sys/vm/swappiness /proc/sysrq-trigger \
                 /proc/irq/0/smp_affinity /sys/kernel/uevent_helper /sys/class/net/lo/mtu /sys/fs/cgroup/release_agent \
                 /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/memory.limit_in_bytes \
                 /sys/fs/cgroup/memory.max /sys/fs/cgroup/devices/devices.allow; do
            (cat $f > /tmp/old && cat /tmp/old > $f) 2>/dev/null && echo "written $f"
            (echo 1 > $f) 2>/dev/null && echo "written $f"
        done
        for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/scsi /proc/acpi /sys/firmware /sys/devices/virtual/powercap; do
            [ -n "$(head -c 1 $f 2>/dev/null)" ] && echo "read $f"; [ -d $f ] && [ -n "$(ls $f)" ] && echo "read $f"
        done
        for dev in 'b 8 0' 'b 254 0' 'b 253 0' 'c 1 1' 'c 1 2' 'c 10 237' 'c 10 229' 'c 4 64'; do
            rm -f /tmp/dev; mknod /tmp/dev $dev 2>/dev/null && head -c 1 /tmp/dev 2>/dev/null | wc -c | grep -q 1 && echo "device $dev"
        done
        echo "dev $(ls /dev | tr '\\n' ' ')"
        mkdir /tmp/c; for t in cgroup cgroup2 proc sysfs tmpfs securityfs debugfs; do mount -t $t none /tmp/c 2>/dev/null && echo "mounted $t"; done
        chroot / true 2>/dev/null && ls /proc/1/root/ >/dev/null; ls -d /proc/1/cwd/../../../var/tmp/wabe-* 2>/dev/null && echo "host files"
        hostname changed 2>/dev/null && echo "hostname set"; grep -c . /proc/net/unix | sed 's/^/unix /'; ls /sys/class/net | tr '\\n' ' ' | sed 's/^/net /'
        echo; echo end""").stdout
    note(text)
    lines = text.split("\n")
    for line in lines:
        for bad in ("written", "read ", "device", "mounted", "host files", "hostname set"):
            assert not line.startswith(bad), line
    contains(text, "fds 0 1 2 3 \n")
    assert int([x for x in lines if x.startswith("pids")][0].split()[1]) < 8
    contains(text, "net lo")
    contains(text, "\nend")
    for line in lines:
        if line.startswith("mount "):
            root, target = line.split()[4:6]
            options = line.split(" - ")[1] + " " + line.split()[6]
            assert target == "/" or target.startswith(("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")), line
            assert not target.startswith("/sys") or "ro" in options.replace(",", " ").split() or "tmpfs" in options, line
    dev = [x for x in lines if x.startswith("dev ")][0].split()[1:]
    allowed = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
               "tty", "urandom", "zero"}
    assert set(dev) <= allowed, set(dev) - allowed
    equal(d.pids(), d.roles)
    empty(d)


@test
def system_calls(d):
    """kernel keyrings, abstract sockets, ptrace, bpf, modules, time, mounts, handles: refused inside"""
    import socket
    name = f"wabe-probe-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + name)
    listener.listen()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        os.chmod(t, 0o755)
        with open(t + "/probe.c", "w") as f:
            f.write(PROBE)
        r = subprocess.run(["gcc", "-static", "-o", t + "/probe", t + "/probe.c"], capture_output=True, text=True)
        need("a C compiler", r.returncode == 0)
        d.cli("run", "-d", "--name", "probe", "-v", f"{t}:/p:ro", IMAGE, "sleep", "1000")
        inside = d.out("run", "--rm", "-v", f"{t}:/p:ro", IMAGE, "/p/probe", name, os.getpid())
        entered = d.out("exec", "probe", "/p/probe", name, os.getpid())
        equal(entered, inside, "an exec is confined like the first process")
        note(inside)
        for line in inside.split("\n"):
            assert not line.startswith("descriptor"), line
            assert not line.endswith(" works"), line
        d.cli("rm", "-f", "probe")
    listener.close()
    empty(d)


@test
def cgroups_have_no_way_out(d):
    """a container sees only its own control group, cannot mount others, leave it or set a release agent"""
    text = sh(d, "cat /proc/self/cgroup; ls -A /sys/fs/cgroup; echo $$ > /sys/fs/cgroup/../cgroup.procs; "
              "for c in /sys/fs/cgroup/*; do (echo $$ > $c/cgroup.procs; mkdir $c/x; echo /x > $c/release_agent) 2>/dev/null && echo escaped $c; "
              "done; true").stdout
    note(text)
    for line in text.split("\n"):
        assert "wabe/" not in line and "escaped" not in line, line
        if line.count(":") == 2:
            equal(line.rsplit(":", 1)[1], "/", line)
    empty(d)


run(setup, lambda d: d and d.close(), clean)
