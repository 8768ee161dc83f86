"""Two daemons, between which machines move."""
import glob
import json
import subprocess

from machine import Console, tiny_daemon
from wabe import wait_until


class Pair:
    """Both have the same image."""

    def __init__(self, image):
        self.daemons = []
        try:
            self.daemons.append(tiny_daemon("mva", image))
            self.daemons.append(tiny_daemon("mvb", image))
        except BaseException:
            self.close()
            raise

    def __iter__(self):
        return iter(self.daemons)

    def url(self, d):
        return f"unix://{d.run_dir}/wabe.sock"

    def close(self):
        for d in self.daemons:
            d.close()


def listed(d):
    """Its machines: id, name, state."""
    return sorted((i["id"], i["spec"]["name"], i["status"]["state"]) for i in d.json("ls", "-a"))


def volumes(d):
    return sorted((v["id"], v["spec"]["name"], v["spec"]["size"]) for v in json.loads(d.out("volume", "ls", "--json")))


def qemu_below(d):
    """The pid of its only QEMU, of a machine that need not run yet."""
    for path in glob.glob(f"/sys/fs/cgroup/**/wabe/{d.group()}/*/cgroup.procs", recursive=True):
        with open(path) as f:
            for pid in f.read().split():
                with open(f"/proc/{pid}/comm") as comm:
                    if comm.read().startswith("qemu"):
                        return int(pid)
    raise AssertionError("no QEMU runs")


def page_faults():
    """Whether QEMU 7.2 may serve those of its guest, which post-copy needs."""
    with open("/proc/sys/vm/unprivileged_userfaultfd") as f:
        return f.read().strip() == "1"


def tasks(d):
    return d.api("GET", "/v1/projects/default/tasks")[1]["tasks"]


def under_way(d, words):
    """The task of its that runs and says so; None."""
    return next((t for t in tasks(d) if t["state"] == "running" and words in t.get("message", "")), None)


def between(p, id, switch=True):
    """By post-copy it goes from a to b, and (switch) has begun to run there: what it has changed during the first pass follows slowly.
    Gives the process that moves it."""
    a, b = p
    line = a.line("migrate", "--to", p.url(b), "--with-disks", "--post-copy", "--bandwidth", "32k", "--downtime", "1ms", id)
    mover = subprocess.Popen(line, env=a.env, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: under_way(a, "memory"), 120, "its memory")
    with Console(a, id) as c:
        c.send("f")
        c.expect("F")
    if switch:
        wait_until(lambda: under_way(a, "follows"), 300, "the switch")
    return mover


def gone(d):
    wait_until(lambda: not listed(d) and not any(d.leftovers().values()), 120, f"removal of everything: {d.leftovers()}")


def clean(p):
    for d in p:
        for id, _, _ in listed(d):
            d.cli("rm", "-f", id)
        gone(d)
