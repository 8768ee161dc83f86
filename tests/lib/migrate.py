"""Two daemons, between which machines move."""
import glob

from machine import tiny_daemon
from wabe import Daemon, wait_until


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


def qemu_below(d):
    """The pid of its only QEMU, of a machine that need not run yet."""
    for path in glob.glob(f"/sys/fs/cgroup/**/wabe/{d.group()}/*/cgroup.procs", recursive=True):
        with open(path) as f:
            for pid in f.read().split():
                with open(f"/proc/{pid}/comm") as comm:
                    if comm.read().startswith("qemu"):
                        return int(pid)
    raise AssertionError("no QEMU runs")


def gone(d):
    wait_until(lambda: not listed(d) and not any(d.leftovers().values()), 30, f"removal of everything: {d.leftovers()}")


def clean(p):
    for d in p:
        for id, _, _ in listed(d):
            d.cli("rm", "-f", id)
        gone(d)
