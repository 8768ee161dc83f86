#!/usr/bin/env python3
"""podman with `wabe oci` as its runtime: what podman and conmon ask of one, from the first start to the last removal. Its storage, run
directory and images are its own; no network of the host is touched."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bench import hide_unified  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import busybox_rootfs, wait_until  # noqa: E402

WABE = os.path.join(os.path.abspath(os.environ.get("WABE_BUILD", "build")), "wabe")
IMAGE = "localhost/busybox:1"


class Podman:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="wabe-podman-", dir="/var/tmp")
        self.runtime = self.dir + "/wabe-oci"  # podman wants one program, without words behind it
        with open(self.runtime, "w") as f:
            f.write(f'#!/bin/sh\nexec {WABE} oci "$@"\n')
        os.chmod(self.runtime, 0o755)
        self.ready = False

    def line(self, *args):
        return ["podman", "--root", self.dir + "/root", "--runroot", self.dir + "/run", "--tmpdir", self.dir + "/tmp", "--cgroup-manager",
                "cgroupfs", "--events-backend", "file", "--runtime", self.runtime, *args]

    def begin(self):
        need("podman", shutil.which("podman") and shutil.which("conmon"))
        if self.ready:
            return
        hide_unified()  # for all that follows: what is mounted stays seen from one command to the next
        self.call("import", busybox_rootfs(self.dir + "/busybox.tar"), "busybox:1")
        self.ready = True

    def call(self, *args, check=True, **kw):
        r = subprocess.run(self.line(*args), capture_output=True, text=True, timeout=180,
                           **({} if "input" in kw else {"stdin": subprocess.DEVNULL}), **kw)
        assert not check or r.returncode == 0, f"podman {' '.join(args)}: status {r.returncode}\n{r.stderr}\n{r.stdout}"
        return r

    def out(self, *args, **kw):
        return self.call(*args, **kw).stdout.strip()

    def run(self, *args, **kw):
        """podman's own limits may be above this process's, and raising them takes a capability that not every host gives."""
        return self.call("run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none", *args, **kw)

    def sleeper(self, name, *args):
        self.run("-d", "--name", name, *args, IMAGE, "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 1; done")
        wait_until(lambda: "up" in self.out("logs", name), what="the first line of " + name)

    def inspect(self, name, what):
        return self.out("inspect", name, "--format", "{{" + what + "}}")

    def close(self):
        if self.ready:
            self.call("rm", "-fa", "-t", "0", check=False)
            subprocess.run(["umount", self.dir + "/root/overlay"], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)


@test
def statuses(p):
    """runs end with the status, and the error, that they have with any runtime"""
    p.begin()
    contains(p.out("info", "--format", "{{.Host.OCIRuntime.Version}}"), "wabe oci version")
    equal(p.run("--rm", IMAGE, "echo", "hello").stdout, "hello\n")
    equal(p.run("--rm", "-i", IMAGE, "cat", input="a text\n").stdout, "a text\n")
    equal(p.run("--rm", IMAGE, "sh", "-c", "echo wrong >&2; exit 7", check=False).returncode, 7)
    equal(p.run("--rm", IMAGE, "/nonesuch", check=False).returncode, 127)
    equal(p.run("--rm", IMAGE, "/etc", check=False).returncode, 126)
    equal(p.out("ps", "-aq"), "")


@test
def life(p):
    """start, signals, pause, limits, stop, start again, restart, removal"""
    p.begin()
    p.sleeper("a", "--memory", "64m", "--pids-limit", "50")
    equal(p.inspect("a", ".State.Status"), "running")
    contains(p.out("top", "a"), "sleep")
    equal(p.out("stats", "--no-stream", "--format", "{{.Name}}", "a"), "a")
    p.call("pause", "a")
    equal(p.inspect("a", ".State.Status"), "paused")
    p.call("unpause", "a")
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    equal(p.out("exec", "a", "sh", "-c", limit), str(64 << 20))
    p.call("update", "--memory", "128m", "a")
    equal(p.out("exec", "a", "sh", "-c", limit), str(128 << 20))
    p.call("stop", "-t", "60", "a")
    equal((p.inspect("a", ".State.Status"), p.inspect("a", ".State.ExitCode")), ("exited", "9"))
    p.call("start", "a")
    pid = p.inspect("a", ".State.Pid")
    p.call("restart", "-t", "0", "a")
    assert p.inspect("a", ".State.Pid") != pid
    p.call("kill", "--signal", "KILL", "a")
    equal(p.out("wait", "a"), "137")
    p.call("rm", "a")
    p.sleeper("b")
    p.call("rm", "-f", "-t", "0", "b")
    equal(p.out("ps", "-aq"), "")


@test
def processes(p):
    """further processes: with input, a terminal, another user, in the background; their statuses"""
    p.begin()
    p.sleeper("a", "--env", "X=y")
    equal(p.call("exec", "a", "sh", "-c", "echo $X; exit 3", check=False).returncode, 3)
    equal(p.out("exec", "-i", "a", "cat", input="text"), "text")
    equal(p.out("exec", "-u", "1000:1001", "-w", "/tmp", "a", "sh", "-c", "id -u; id -g; pwd").split(), ["1000", "1001", "/tmp"])
    equal(p.call("exec", "a", "/nonesuch", check=False).returncode, 127)
    p.call("exec", "-d", "a", "touch", "/tmp/there")
    wait_until(lambda: p.call("exec", "a", "test", "-e", "/tmp/there", check=False).returncode == 0, what="what is done in the background")
    contains(p.out("exec", "-t", "a", "tty"), "/dev/pts/")
    contains(p.run("--rm", "-t", IMAGE, "sh", "-c", "tty; stty size").stdout, "/dev/pts/")
    p.call("rm", "-f", "-t", "0", "a")


@test
def confinement(p):
    """mounts, capabilities, seccomp, ranges of users, privileges"""
    p.begin()
    with open(p.dir + "/seen", "w") as f:
        f.write("seen\n")
    r = p.run("--rm", "--read-only", "--tmpfs", "/tmp", "-v", p.dir + "/seen:/seen:ro", IMAGE, "sh", "-c",
              "cat /seen; touch /tmp/x && echo tmp; touch /x || echo read-only")
    equal(r.stdout.split(), ["seen", "tmp", "read-only"])
    status = p.run("--rm", "--cap-drop", "all", "--cap-add", "chown", IMAGE, "cat", "/proc/self/status").stdout
    equal(re.search(r"CapEff:\s*(\w+)", status)[1], "0000000000000001")
    equal(re.search(r"Seccomp:\s*(\d)", status)[1], "2")
    status = p.run("--rm", "--security-opt", "seccomp=unconfined", IMAGE, "cat", "/proc/self/status").stdout
    equal(re.search(r"Seccomp:\s*(\d)", status)[1], "0")
    equal(p.run("--rm", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", IMAGE, "cat", "/proc/self/uid_map").stdout.split(),
          ["0", "100000", "65536"])
    p.run("--rm", "--privileged", IMAGE, "true")
    equal(p.run("--rm", "--hostname", "other", "--sysctl", "net.ipv4.ip_forward=1", IMAGE, "sh", "-c",
                "hostname; cat /proc/sys/net/ipv4/ip_forward").stdout.split(), ["other", "1"])


@test
def together(p):
    """containers that share name spaces, and a pod"""
    p.begin()
    p.sleeper("a")
    shared = ("--rm", "--pid", "container:a", "--ipc", "container:a", IMAGE, "sh", "-c", "ps | grep -c trap")
    equal(p.call("run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "container:a", *shared).returncode, 0)
    p.call("rm", "-f", "-t", "0", "a")
    p.call("pod", "create", "--name", "pod", "--infra=false")
    equal(p.run("--rm", "--pod", "pod", IMAGE, "echo", "in a pod").stdout, "in a pod\n")
    p.call("pod", "rm", "-f", "pod")


if __name__ == "__main__":
    run(Podman, Podman.close)
