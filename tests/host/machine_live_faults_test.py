#!/usr/bin/env python3
"""SIGKILL of agent and worker at each step of a change of a machine that runs: it runs on, wabe's pictures of it agree, and the same change
again succeeds."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from consistent import control_killed, records  # noqa: E402
from machine import Monitor  # noqa: E402
from machine_linux import guest, linux  # noqa: E402
from machine_state import state  # noqa: E402
from tap import equal, need, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

MIB = 1 << 20


class Context:
    def __init__(self):
        self.d = Daemon("livefaults")
        try:
            self.d.start()
            os.makedirs(self.d.dir + "/linux")
            self.d.cli("image", "load", "-i", linux(self.d.dir + "/linux"))
            for name in "one", "two":
                self.d.cli("network", "create", name)
            for name in "a", "b":
                with open(f"{self.d.dir}/{name}.txt", "w") as f:
                    f.write(name)
                subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", f"{self.d.dir}/{name}.iso", f.name], check=True, capture_output=True)
                self.d.cli("image", "import", "--kind", "iso", f"{self.d.dir}/{name}.iso", f"cd-{name}:1")
            self.id, console = guest(self.d, "--cpus", "1", "--cpus-max", "4", "--memory-max", "512m", "--network", "one", "--cdrom", "cd-a:1",
                                     "--disk-bus", "virtio")
            console.__exit__()
        except BaseException:
            self.d.close()
            raise

    def close(self):
        self.d.close()

    def cut(self, point, *change):
        """The change, cut off there, and what is to be true afterwards in any case."""
        d, id = self.d, self.id
        d.stop()
        d.start(WABE_FAULT=f"both:{point}")
        deaths = d.log().count("the agent was killed")
        client = subprocess.Popen(d.line(*change), env=d.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: client.poll() is not None or d.log().count("the agent was killed") > deaths, 120, f"the cut at {point}")
        d.stop()  # else recovery may be cut off there as well, again and again
        client.kill()
        client.wait()
        d.start()
        equal(state(d, id), "running", point)
        equal(d.out("logs", id).count("linux is up"), 1)
        wait_until(self.agree, 60, f"agreement after {point}")

    def agree(self):
        """The agent's record is what the store says."""
        return records(self.d)[self.id]["spec"]["limits"] == self.d.json("show", self.id)["spec"]["limits"]

    def asks(self, command, **arguments):
        with Monitor(self.d, self.id) as q:
            return q.call(command, **arguments)

    def control_killed(self, point, *change):
        control_killed(self.d, point, *change)
        equal(state(self.d, self.id), "running", point)

    def volumes(self):
        """In QEMU, and in the store."""
        nodes = {n["node-name"] for n in self.asks("query-named-block-nodes")}
        return any(n.startswith("volume") for n in nodes), bool(self.d.json("show", self.id)["spec"].get("mounts"))

    def one_disk(self, point):
        """Both say the same: whether it is there."""
        wait_until(lambda: len(set(self.volumes())) == 1, 60, f"agreement about the disk after {point}")
        equal(bool(records(self.d)[self.id]["spec"].get("mounts")), self.volumes()[1], point)
        return self.volumes()[0]

    def cards(self):
        return len(self.asks("query-rx-filter"))


def setup():
    need("qemu-system-x86_64", shutil.which("qemu-system-x86_64"))
    need("xorriso", shutil.which("xorriso"))
    return Context()


@test
def processors(c):
    """more processors"""
    for n, point in enumerate(("live.cpus", "update.saved"), 2):
        c.cut(point, "update", "--cpus", str(n), c.id)
        c.d.cli("update", "--cpus", str(n), c.id)
        equal((len(c.asks("query-cpus-fast")), c.d.json("show", c.id)["spec"]["limits"]["cpus"]), (n, n))
        equal(c.agree(), True)


@test
def memory(c):
    """more memory, and less: what was cut off is undone, with the room of its control group"""
    for point, size in (("live.memory", 384), ("update.saved", 320)):
        c.cut(point, "update", "-m", f"{size}m", c.id)
        wanted = c.d.json("show", c.id)["spec"]["limits"]["memory"]
        wait_until(lambda: 256 * MIB + c.asks("query-memory-devices")[0]["data"]["size"] == wanted, 120, f"its memory after {point}")
        c.d.cli("update", "-m", f"{size}m", c.id)
        equal(256 * MIB + c.asks("query-memory-devices")[0]["data"]["size"], size * MIB)
        equal(c.agree(), True)


@test
def cards(c):
    """a network that is connected and disconnected"""
    for point in "live.nic", "net.sync.links":
        c.cut(point, "network", "connect", "two", c.id)
        there = len(c.d.json("show", c.id)["nics"])
        wait_until(lambda: c.cards() == there, 60, f"the card after {point}")
        if there == 1:
            c.d.cli("network", "connect", "two", c.id)
        equal(c.cards(), 2)
        c.cut("live.nic.unplugged", "network", "disconnect", "two", c.id)
        if len(c.d.json("show", c.id)["nics"]) == 2:
            c.d.cli("network", "disconnect", "two", c.id)
        wait_until(lambda: c.cards() == 1, 60, "no card")


@test
def disks(c):
    """a volume that comes and goes, cut off anywhere: QEMU has it, or nobody"""
    d = c.d
    d.cli("volume", "create", "--kind", "block", "--size", "8m", "disk")
    cuts = {"attach": [(c.cut, "live.disk"), (c.cut, "update.saved"), (c.control_killed, "attach.done")],
            "detach": [(c.cut, "live.unplugged"), (c.control_killed, "detach.noted"), (c.control_killed, "update.saved")]}
    for verb, ways in cuts.items():
        for cut, point in ways:
            if c.one_disk(point) == (verb == "attach"):
                d.cli("volume", *(("detach", "disk", c.id) if verb == "attach" else ("attach", "disk", c.id, "/data")))
            cut(point, "volume", verb, "disk", c.id, *(["/data"] if verb == "attach" else []))
            c.one_disk(f"{verb} cut off at {point}")
    if not c.one_disk("all"):
        d.cli("volume", "attach", "disk", c.id, "/data")
    equal(c.volumes(), (True, True))
    d.cli("volume", "detach", "disk", c.id)
    equal(c.volumes(), (False, False))
    d.cli("volume", "rm", "disk")


@test
def media(c):
    """another CD"""
    for n, point in enumerate(("live.medium", "media.changed")):
        wanted = "ba"[n]
        c.cut(point, "update", "--cdrom", f"cd-{wanted}:1", c.id)
        c.d.cli("update", "--cdrom", f"cd-{wanted}:1", c.id)
        equal(c.d.json("show", c.id)["spec"]["machine"]["cdroms"], [f"cd-{wanted}:1"])


@test
def the_end(c):
    """nothing is left"""
    c.d.cli("rm", "-f", c.id)
    c.d.cli("network", "rm", "one", "two")
    wait_until(lambda: not any(c.d.leftovers().values()), 60, f"removal of everything: {c.d.leftovers()}")


if __name__ == "__main__":
    run(setup, lambda c: c.close())
