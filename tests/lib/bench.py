"""Benchmarks: interleaved rounds, medians, one ratio a line. Peers come from Debian's packages and run on
directories of their own."""
import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from wabe import wait_until


def timed(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def medians(rounds, **contenders):
    """Runs each contender once a round, in turn, so that all see the same machine; medians in seconds."""
    for fn in contenders.values():
        fn()
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, fn in contenders.items():
            times[name].append(timed(fn))
    return {name: statistics.median(t) for name, t in times.items()}


def report(title, results, reference, target=None):
    """reference: what everything is divided by."""
    print(title)
    for name, seconds in results.items():
        print(f"  {name:<22} {seconds * 1000:9.2f} ms   {seconds / results[reference]:6.2f} x {reference}")
    if target:
        print(f"  target: {target}")


def pss(pids):
    """Proportional set size of processes, in KiB."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total


def tree(pid):
    """A process and all below it."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                for child in f.read().split():
                    found += tree(int(child))
    except FileNotFoundError:
        pass
    return found


def hide_unified():
    """For this process and its children: crun refuses hosts whose controllers sit in v1 while the v2 tree has one too."""
    libc = ctypes.CDLL(None, use_errno=True)
    private, new_mounts = 1 << 18 | 1 << 14, 0x20000
    tree = "/sys/fs/cgroup/unified"
    if os.path.exists(tree + "/cgroup.controllers") and (libc.unshare(new_mounts) or libc.mount(
            None, b"/", None, private, None) or libc.umount2(tree.encode(), 2)):
        raise OSError(ctypes.get_errno(), "cannot hide " + tree)


class Docker:
    """A private dockerd, without bridge and packet rules."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="wabe-dockerd-", dir="/var/tmp")
        self.socket = self.dir + "/docker.sock"
        self.log = open(self.dir + "/log", "wb")
        self.process = subprocess.Popen(
            ["dockerd", "--data-root", self.dir + "/data", "--exec-root", self.dir + "/exec", "--pidfile", self.dir + "/pid",
             "-H", "unix://" + self.socket, "--bridge=none", "--iptables=false", "--ip6tables=false"],
            stdout=self.log, stderr=self.log, start_new_session=True)
        wait_until(lambda: self.cli("version", check=False).returncode == 0, 60, "dockerd")

    def cli(self, *args, check=True, **kw):
        return subprocess.run(["docker", "-H", "unix://" + self.socket, *args], check=check, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)

    def close(self):
        ids = self.cli("ps", "-aq", check=False).stdout.decode().split()
        if ids:
            self.cli("rm", "-f", *ids, check=False)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
