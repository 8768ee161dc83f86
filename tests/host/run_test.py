#!/usr/bin/env python3
"""`wabe run` and its kin, from the outside: what a user sees of streams, statuses, terminals, faults."""
import concurrent.futures
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, need, note, run, test
from wabe import WABE, Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"


def setup():
    d = Daemon("run")
    try:
        d.start()
        tar = busybox_rootfs(d.dir + "/busybox.tar")
        d.cli("image", "import", tar, IMAGE)
    except BaseException:
        d.close()
        raise
    return d


def nothing_left(d):
    try:
        wait_until(lambda: not any(d.leftovers().values()), 10, "removal of everything")
    except AssertionError:
        raise AssertionError(f"left behind: {d.leftovers()}")


class Terminal:
    """A CLI command on a pseudo-terminal of ours."""

    def __init__(self, d, *args, rows=33, columns=101):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(d.line(*args), env=d.env, stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True,
                                        preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = ""

    def expect(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"{text!r} did not come; seen: {self.seen!r}")
            try:
                got = os.read(self.master, 65536)
            except OSError:
                raise AssertionError(f"{text!r} did not come before the end; seen: {self.seen!r}")
            self.seen += got.decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def send(self, text):
        os.write(self.master, text.encode())

    def wait(self, seconds=20):
        end = time.monotonic() + seconds
        while self.process.poll() is None:  # keeps the terminal drained, or the command could not end
            if time.monotonic() > end:
                raise AssertionError(f"the command did not end; seen: {self.seen!r}")
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


# ---- what can be seen inside ----
@test
def the_host_is_not_seen_in_a_command_line(d):
    """the first process of --init, and one that waits for its start, do not show the agent's arguments"""
    r = d.out("run", "--rm", "--init", IMAGE, "sh", "-c", "cat /proc/1/cmdline /proc/1/comm; ps -o pid,args")
    assert r.startswith("wabe-init"), r
    assert d.state not in r and d.run_dir not in r, r
    d.cli("run", "-d", "--name", "shared", IMAGE, "sleep", "1000")
    d.cli("create", "--name", "waits", "--pid", "container:shared", IMAGE, "sleep", "1000")
    d.cli("start", "waits")
    seen = d.out("exec", "shared", "ps", "-o", "args")
    assert d.state not in seen, seen
    d.cli("rm", "-f", "waits", "shared")


# ---- streams and statuses ----
@test
def output_and_status(d):
    """run passes output, errors and the exit status on, and --rm leaves nothing"""
    r = d.cli("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    equal((r.returncode, r.stdout, r.stderr), (7, "out\n", "err\n"))
    nothing_left(d)


@test
def statuses_of_failures(d):
    """127 for a missing command, 126 for one that cannot run, 125 for wabe's own failures"""
    r = d.cli("run", "--rm", IMAGE, "no-such-command", check=False)
    equal(r.returncode, 127, r.stderr)
    contains(r.stderr, "no-such-command")
    r = d.cli("run", "--rm", IMAGE, "/etc", check=False)
    equal(r.returncode, 126, r.stderr)
    r = d.cli("run", "--rm", IMAGE, "/etc/passwd", check=False)
    equal(r.returncode, 126, r.stderr)
    r = d.cli("run", "--rm", "--memory", "lots", IMAGE, "true", check=False)
    equal(r.returncode, 125, r.stderr)
    contains(r.stderr, "memory")
    r = d.cli("run", "--rm", "--pull", "never", "no/such:image", "true", check=False)
    equal(r.returncode, 125, r.stderr)
    contains(r.stderr, "no/such")
    r = d.cli("run", "--rm", "--user", "nobody-here", IMAGE, "true", check=False)
    assert r.returncode in (125, 126), r
    contains(r.stderr, "nobody-here")
    # a first process cannot kill itself from inside its namespace; one below an init can
    r = d.cli("run", "--rm", "--init", IMAGE, "sh", "-c", "kill -9 $$", check=False)
    equal(r.returncode, 137)
    nothing_left(d)


@test
def stdin_round_trip(d):
    """-i carries binary input to the end, and back"""
    data = os.urandom(3 << 20)
    r = subprocess.run(d.line("run", "-i", "--rm", IMAGE, "cat"), env=d.env, input=data, capture_output=True, timeout=60)
    equal(r.returncode, 0, r.stderr)
    assert r.stdout == data, f"{len(r.stdout)} bytes came back of {len(data)}"


@test
def large_output_is_complete(d):
    """20 MB of output arrive whole, whatever the speed of the reader"""
    r = d.cli("run", "--rm", IMAGE, "sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null | tr '\\0' x", text=True)
    equal(len(r.stdout), 20 << 20)


@test
def no_stdin_is_end_of_file(d):
    """without -i the command reads end of file"""
    equal(d.out("run", "--rm", IMAGE, "sh", "-c", "cat; echo end"), "end")


@test
def signals_are_forwarded(d):
    """SIGTERM to the client reaches the command, whose status comes back"""
    p = subprocess.Popen(d.line("run", "--rm", IMAGE, "sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.1; done"),
                         env=d.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    equal(p.stdout.readline(), b"up\n")
    p.terminate()
    equal(p.wait(30), 42)
    p.stdout.close()


# ---- terminals ----
@test
def terminal(d):
    """-it gives a terminal of the right size, and the client's own is restored"""
    t = Terminal(d, "run", "-it", "--rm", IMAGE, "sh")
    try:
        t.send("tty; stty size; echo mark\n")
        t.expect("/dev/")
        t.expect("33 101")
        t.send("echo after $((40+2))\n")
        t.expect("after 42")
        termios.tcsetwinsize(t.slave, (20, 60))
        os.kill(t.process.pid, signal.SIGWINCH)
        t.send("sleep 0.2; stty size\n")
        t.expect("20 60")
        t.send("exit 5\n")
        equal(t.wait(), 5)
        equal(termios.tcgetattr(t.slave), t.before, "terminal settings")
    finally:
        t.close()


@test
def interrupt(d):
    """Ctrl-C on a terminal interrupts the command"""
    # no interactive shell: those drop what is typed while they change the terminal's settings
    t = Terminal(d, "run", "-it", "--rm", IMAGE, "sh", "-c",
                 "trap 'echo caught; exit 42' INT; echo up; while :; do sleep 0.1; done")
    try:
        t.expect("up\r\n")
        t.send("\x03")
        t.expect("caught\r\n")
        equal(t.wait(), 42)
    finally:
        t.close()


@test
def detach_and_attach(d):
    """the detach keys leave the command running; attach takes it up again"""
    t = Terminal(d, "run", "-it", "--name", "det", IMAGE, "sh")
    try:
        t.send("x=remembered; echo g''o\n")
        t.expect("go\r\n")
        t.send("\x10\x11")
        equal(t.wait(), 0)
    finally:
        t.close()
    equal(d.show("det")["status"]["state"], "running")
    t = Terminal(d, "attach", "det")
    try:
        t.send("echo $x\n")
        t.expect("remembered\r\n")
        t.send("exit 3\n")
        equal(t.wait(), 3)
    finally:
        t.close()
    d.cli("rm", "det")


# ---- life ----
@test
def life_of_an_instance(d):
    """create, start, exec, pause, stop, restart, rename, kill, wait, rm"""
    ident = d.out("create", "--name", "life", IMAGE, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
    equal(len(ident), 64)
    equal(d.show("life")["status"]["state"], "created")
    d.cli("start", "life")
    equal(d.out("exec", "-e", "A=b", "-w", "/tmp", "-u", "alice", "life", "sh", "-c", "echo $A $PWD $(id -u)"), "b /tmp 1000")
    equal(d.cli("exec", "life", "sh", "-c", "exit 4", check=False).returncode, 4)
    equal(d.cli("exec", "life", "nothing", check=False).returncode, 127)
    d.cli("pause", "life")
    equal(d.show("life")["status"]["state"], "paused")
    assert d.cli("exec", "life", "true", check=False).returncode != 0
    d.cli("unpause", "life")
    d.cli("rename", "life", "second")
    d.cli("stop", "second")
    status = d.show("second")["status"]
    equal((status["state"], status["exit_code"]), ("exited", 9))
    d.cli("restart", "second")
    equal(d.show("second")["status"]["state"], "running")
    assert d.cli("rm", "second", check=False).returncode != 0, "rm of a running instance needs --force"
    d.cli("kill", "second")
    equal(d.out("wait", "second"), "137")
    d.cli("rm", ident[:12])
    nothing_left(d)


@test
def logs_keep_everything(d):
    """logs: both streams, tail, timestamps, follow until the end"""
    d.cli("run", "-d", "--name", "logger", IMAGE, "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; sleep 1; echo last")
    d.cli("logs", "-f", "logger")
    r = d.cli("logs", "logger")
    equal((r.stdout, r.stderr), ("".join(f"line {i}\n" for i in range(1, 6)) + "last\n", "oops\n"))
    equal(d.out("logs", "--tail", "1", "logger"), "last")
    contains(d.out("logs", "-t", "--tail", "1", "logger"), "Z last")
    d.cli("rm", "logger")


INIT = """#!/bin/sh
# what systemd does with its control groups: moves away, then hands the controllers on
cd /sys/fs/cgroup
mkdir init.scope && echo 1 > init.scope/cgroup.procs
for c in $(cat cgroup.controllers); do echo "+$c" > cgroup.subtree_control; done
echo "controllers $(cat cgroup.subtree_control) container=$container"
for f in memory.max pids.max cgroup.freeze cgroup.kill cgroup.max.descendants ../cgroup.procs; do
    [ -e $f ] && (echo 1 > $f) 2>/dev/null && echo "written $f"
done
grep -c ' /run \\| /run/lock \\| /tmp ' /proc/mounts
trap 'echo bye; exit 7' 37
echo up
while :; do sleep 1000 & wait $!; done
"""


@test
def first_process_is_an_init(d):
    """/sbin/init gets a part of the control groups of its own to divide, tmpfs, and its signal to stop; exec enters"""
    need("a tree of cgroup v2", subprocess.run(["grep", "-q", "cgroup2", "/proc/mounts"]).returncode == 0)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        os.chmod(t, 0o755)
        with open(t + "/init", "w") as f:
            f.write(INIT)
        os.chmod(t + "/init", 0o755)
        options = ["-v", t + "/init:/sbin/init:ro", "--pids-limit", "100", "--memory", "64m"]
        d.cli("run", "-d", "--name", "system", *options, IMAGE, "/sbin/init")
        wait_until(lambda: "up\n" in d.cli("logs", "system").stdout, 60, "the start")
        text = d.cli("logs", "system").stdout
        assert "written" not in text, text
        contains(text, "container=wabe\n3\n")
        if "controllers  " not in text:  # pure cgroup v2
            contains(text, "memory")
        contains(d.out("exec", "system", "cat", "/proc/1/cgroup"), "0::/init.scope")
        equal(d.out("exec", "system", "sh", "-c", "mkdir /sys/fs/cgroup/mine && echo $$ > /sys/fs/cgroup/mine/cgroup.procs && "
                    "grep ^0: /proc/self/cgroup"), "0::/mine")
        assert "sleep" in d.out("top", "system")
        assert float(d.api("GET", "/v1/projects/default/instances/system/stats")[1]["memory"]) >= 0
        d.cli("pause", "system")
        d.cli("unpause", "system")
        d.cli("stop", "-t", "60", "system")
        equal(d.show("system")["status"]["exit_code"], 7)
        d.cli("rm", "system")
        # what is no init gets nothing of this
        equal(d.out("run", "--rm", *options, IMAGE, "sh", "-c", "mkdir /sys/fs/cgroup/x 2>/dev/null; echo $container$?"), "1")


@test
def many_changes(d):
    """diff lists 100,000 paths, and one whose name is no text"""
    d.cli("run", "--name", "many", IMAGE, "sh", "-c",
          "mkdir /some-directory-with-a-name && cd /some-directory-with-a-name && seq 1 100000 | xargs touch && "
          "touch $(printf 'no\\377text')", timeout=600)
    lines = d.out("diff", "many", timeout=600).split("\n")
    for n in (1, 54321, 100000):
        assert f"A /some-directory-with-a-name/{n}" in lines, f"{n} is missing in {len(lines)} lines"
    assert "A /some-directory-with-a-name/no\ufffdtext" in lines
    equal(len([x for x in lines if x.startswith("A /some-directory-with-a-name/")]), 100001)
    contains(d.out("cp", "many:/some-directory-with-a-name/54321", "-", text=False).decode(errors="replace"), "54321")
    d.cli("rm", "many")


@test
def files(d):
    """cp in and out, diff, commit, export, save and load"""
    d.cli("run", "--name", "files", IMAGE, "sh", "-c", "echo new > /tmp/new; rm /etc/group; chown alice /tmp/new")
    out = d.out("diff", "files")
    assert "/etc/hosts" not in out, out
    contains(out, "A /tmp/new")
    contains(out, "D /etc/group")
    with tempfile.TemporaryDirectory() as t:
        d.cli("cp", "files:/tmp/new", t + "/got")
        equal(open(t + "/got").read(), "new\n")
        os.makedirs(t + "/dir/sub")
        open(t + "/dir/sub/f", "w").write("deep")
        d.cli("cp", t + "/dir", "files:/root/")
        d.cli("commit", "files", "committed:1")
        equal(d.out("run", "--rm", "committed:1", "sh", "-c", "cat /root/dir/sub/f; stat -c %u /tmp/new; test -e /etc/group || echo gone"),
              "deep1000\ngone")
        d.cli("image", "save", "-o", t + "/saved.tar", "committed:1")
        d.cli("rm", "files")
        d.cli("image", "rm", "committed:1")
        contains(d.out("image", "load", "-i", t + "/saved.tar"), "committed:1")
        equal(d.out("run", "--rm", "committed:1", "cat", "/root/dir/sub/f"), "deep")
        d.cli("image", "rm", "committed:1")


@test
def copies_do_not_leave_the_root(d):
    """cp through links and .. stays inside the instance"""
    d.cli("create", "--name", "jail", IMAGE, "true")
    with tempfile.TemporaryDirectory() as t:
        open(t + "/f", "w").write("x")
        d.cli("run", "--rm", IMAGE, "true")
        d.cli("cp", t + "/f", "jail:/../../../tmp/inside")
        d.cli("cp", "jail:/tmp/inside", t + "/back")
        equal(open(t + "/back").read(), "x")
        assert not os.path.exists("/tmp/inside")
        os.symlink("/", t + "/link")
        d.cli("cp", t + "/link", "jail:/tmp/link")
        d.cli("cp", t + "/f", "jail:/tmp/link/etc/wabe-escape", check=False)
        assert not os.path.exists("/etc/wabe-escape")
    d.cli("rm", "jail")


# ---- confinement ----
@test
def user_namespaces(d):
    """each instance has its own range of ids; bind mounts keep owners; --userns=host shares"""
    ranges = []
    for _ in range(2):
        ranges.append(d.out("run", "-d", IMAGE, "sleep", "1000"))
    maps = [d.out("exec", i, "cat", "/proc/self/uid_map").split() for i in ranges]
    for m in maps:
        equal((m[0], m[2]), ("0", "65536"))
        assert int(m[1]) >= 65536, m
    assert maps[0] != maps[1]
    for i in ranges:
        d.cli("rm", "-f", i)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        os.chmod(t, 0o755)
        open(t + "/f", "w").close()
        os.chown(t + "/f", 1000, 50)
        equal(d.out("run", "--rm", "-v", f"{t}:/mnt", IMAGE, "sh", "-c", "stat -c %u:%g /mnt/f; touch /mnt/new"), "1000:50")
        equal(os.stat(t + "/new").st_uid, 0)
    contains(d.out("run", "--rm", "--userns", "host", IMAGE, "cat", "/proc/self/uid_map"), "4294967295")


@test
def trees_of_the_host(d):
    """what the kernel shows of itself, and what is mounted beneath a directory, come along; wabe's own does not, but for its sockets"""
    see = lambda source, script: d.out("run", "--rm", "-v", f"{source}:/host:ro", IMAGE, "sh", "-c", script)
    equal(see("/proc", "cat /host/1/comm /host/sys/kernel/ostype"), open("/proc/1/comm").read() + "Linux")
    equal(see("/sys", "touch /host/fs/cgroup/x 2>/dev/null || ls /host/fs/cgroup"), "\n".join(sorted(os.listdir("/sys/fs/cgroup"))))
    equal(see("/dev/null", "cat /host; echo x > /host && echo written"), "written")
    for name in ("wabe.sock", "docker.sock"):
        equal(see(f"{d.run_dir}/{name}", "test -S /host && test -w /host && stat -c %u /host"), "0")
    for source in (d.dir + "/run", d.run_dir + "/agent.sock", d.state):
        r = d.cli("run", "--rm", "-v", source + ":/host", IMAGE, "true", check=False)
        equal(r.returncode, 125)
        contains(r.stderr, "belongs to wabe itself")
    d.cli("run", "-d", "--name", "stays", IMAGE, "sleep", "1000")
    r = d.cli("run", "--rm", "-v", "/:/host:ro", IMAGE, "true", check=False)
    need("a root directory that can be mounted idmapped", "--userns=host" not in r.stderr)
    equal((r.returncode, r.stderr), (0, ""))
    mounts = see("/", "cut -d' ' -f5 /proc/self/mountinfo | grep ^/host")
    contains(mounts, "/host/proc")
    assert "/host" + d.dir not in mounts, mounts
    equal(see("/", "cat /host/etc/hostname"), open("/etc/hostname").read().strip())


@test
def default_confinement(d):
    """capabilities, seccomp, masked paths, descriptors, devices are what they should be"""
    text = d.out("run", "--rm", IMAGE, "sh", "-c", """
        grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status
        echo fds $(ls /proc/self/fd | tr '\\n' ' ')
        echo kcore $(wc -c < /proc/kcore 2>&1)
        echo sysrq; echo h > /proc/sysrq-trigger
        echo sysctl; echo 1 > /proc/sys/kernel/panic
        ls /sys/firmware | wc -l
        mount -t tmpfs none /tmp; unshare -U true
        mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem
        cat /proc/keys | wc -l
        ls /dev | sort | tr '\\n' ' '
        """ + "2>&1 || true")
    note(text)
    contains(text, "CapBnd:\t00000000a80425fb")
    contains(text, "Seccomp:\t2")
    contains(text, "fds 0 1 2 3\n", "only the standard descriptors, and that of ls itself")


@test
def limits_hold(d):
    """memory, pids: the kernel enforces them, and OOM is said"""
    r = d.cli("run", "--name", "oom", "--memory", "32m", IMAGE, "sh", "-c", "tail /dev/zero", check=False)
    equal(r.returncode, 137)
    status = d.show("oom")["status"]
    equal(status.get("oom_killed"), True)
    d.cli("rm", "oom")
    r = d.cli("run", "--rm", "--pids-limit", "20", IMAGE, "sh", "-c",
              "for i in $(seq 60); do sleep 5 & done; echo $(ls -d /proc/[0-9]* | wc -l)", check=False)
    assert r.returncode != 0 or int(r.stdout or 99) <= 20, r
    d.cli("run", "-d", "--name", "bomb", "--pids-limit", "50", IMAGE, "sh", "-c", "f() { f | f & f; }; f", check=False)
    d.cli("rm", "-f", "bomb")
    nothing_left(d)


@test
def live_update(d):
    """update changes the limits of a running instance"""
    d.cli("run", "-d", "--name", "upd", "--memory", "64m", IMAGE, "sleep", "1000")
    d.cli("update", "--memory", "96m", "--memory-swap", "-1", "--pids-limit", "33", "upd")
    spec = d.show("upd")["spec"]["limits"]
    equal((spec["memory"], spec["pids"]), (96 << 20, 33))
    d.cli("rm", "-f", "upd")


# ---- restarts of wabe itself ----
def killed(d, role):
    before = d.pids()[role]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: d.pids().get(role, before) != before, 20, f"a new {role}")
    wait_until(lambda: d.cli("info", check=False).returncode == 0, 20, "an answer")


@test
def survives_kills_of_its_processes(d):
    """SIGKILL of control and agent: instances, logs, exit statuses, exec and stop go on"""
    d.cli("run", "-d", "--name", "tough", IMAGE, "sh", "-c", "trap 'exit 11' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done")
    d.cli("run", "-d", "--name", "short", IMAGE, "sh", "-c", "sleep 2; exit 21")
    pid = d.show("tough")["status"]["pid"]
    for role in ("control", "agent", "control"):
        killed(d, role)
        equal(d.show("tough")["status"]["pid"], pid)
        equal(d.out("exec", "tough", "echo", "alive"), "alive")
    equal(d.out("wait", "short"), "21")
    d.cli("stop", "tough")
    equal(d.show("tough")["status"]["exit_code"], 11)
    lines = [int(x) for x in d.out("logs", "tough").split()]
    equal(lines, list(range(len(lines))))
    d.cli("rm", "tough", "short")
    nothing_left(d)


@test
def whole_daemon_restart(d):
    """stopping the daemon leaves instances running; starting it finds them"""
    d.cli("run", "-d", "--name", "stay", IMAGE, "sleep", "1000")
    d.cli("run", "-d", "--name", "gone", IMAGE, "sh", "-c", "sleep 0.5; exit 31")
    pid = d.show("stay")["status"]["pid"]
    gone = d.show("gone")["status"]["pid"]
    equal(d.stop(), 0)
    assert os.path.exists(f"/proc/{pid}")
    wait_until(lambda: not os.path.exists(f"/proc/{gone}"), 10, "the end of the short one")
    d.start()
    equal(d.show("stay")["status"]["pid"], pid)
    equal(d.show("gone")["status"]["exit_code"], 31)
    d.cli("rm", "-f", "stay", "gone")
    nothing_left(d)


@test
def restart_policies(d):
    """on-failure and always bring an instance back; a stop by the user ends it"""
    d.cli("run", "-d", "--name", "again", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 1")
    wait_until(lambda: d.show("again")["status"]["state"] == "exited" and d.out("logs", "again").count("run") == 3, 20, "three runs")
    d.cli("run", "-d", "--name", "forever", "--restart", "always", IMAGE, "sh", "-c", "echo x; sleep 1000")
    os.kill(d.show("forever")["status"]["pid"], signal.SIGKILL)
    wait_until(lambda: d.out("logs", "forever").count("x") == 2, 20, "the second run")
    d.cli("stop", "-t", "0", "forever")
    equal(d.show("forever")["status"]["state"], "exited")
    d.cli("rm", "again", "forever")


# ---- bad input ----
@test
def bad_names(d):
    """names with slashes, dots, control characters or without end are refused, and change nothing"""
    before = d.out("ls", "-a", "-q")
    for name in ("a/b", "..", ".x", "a\nb", "a b", "x" * 10000, "-x", "é"):
        r = d.cli("create", f"--name={name}", IMAGE, "true", check=False)
        equal(r.returncode, 125, f"{name[:20]!r}")
        contains(r.stderr, "name")
    d.cli("create", "--name", "taken", IMAGE, "true")
    r = d.cli("create", "--name", "taken", IMAGE, "true", check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "taken")
    d.cli("rm", "taken")
    equal(d.out("ls", "-a", "-q"), before)


@test
def bad_requests(d):
    """the API says what is wrong, where, and stays up"""
    p = "/v1/projects/default/instances"
    status, answer = d.api("POST", p, {"image": IMAGE, "limits": {"memory": -5}})
    equal((status, answer["error"]["kind"], answer["error"]["field"]), (400, "invalid", "limits.memory"))
    status, answer = d.api("POST", p, {"image": IMAGE, "colour": "blue"})
    equal((status, answer["error"]["field"]), (400, "colour"))
    c = d.connection()
    c.request("POST", p, "[" * 10000)
    equal(c.getresponse().status, 400)
    c.close()
    equal(d.api("GET", p + "/nobody")[0], 404)
    equal(d.api("GET", "/v1/projects/other/instances")[0], 404)
    equal(d.api("DELETE", "/v1/nothing")[0], 404)


@test
def many_at_once(d):
    """thirty runs at once all work, and leave nothing"""
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        results = list(pool.map(lambda i: d.out("run", "--rm", IMAGE, "echo", i), range(30)))
    equal(results, [str(i) for i in range(30)])
    nothing_left(d)


@test
def own_executable_is_out_of_reach(d):
    """a command that overwrites /proc/self/exe of a later exec does not reach wabe's file"""
    with open(WABE, "rb") as f:
        before = f.read()
    d.cli("run", "-d", "--name", "evil", IMAGE, "sh", "-c",
          "while :; do for p in /proc/[0-9]*; do (echo '#!/bin/true' > $p/exe) 2>/dev/null; done; done")
    for _ in range(5):
        d.cli("exec", "evil", "true")
    d.cli("rm", "-f", "evil")
    with open(WABE, "rb") as f:
        assert f.read() == before
    where = os.statvfs(f"/proc/{d.pids()['agent']}/exe")
    assert where.f_flag & os.ST_RDONLY, "the agent's executable lies on a mount that can be written"
    r = d.cli("run", "--rm", "-w", "/proc/self/fd/7", IMAGE, "pwd", check=False)
    assert r.returncode != 0 and "/" != r.stdout.strip(), r


def clean(d):
    """What a failed test left does not fail the next one."""
    if d.process is None:
        d.start()
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)


run(setup, lambda d: d and d.close(), clean)
