#!/usr/bin/env python3
"""Checkpoints of a machine's disks outlive its stops: what has been written since joins the earlier copy, whatever ended the machine and
started it. Where that is not sure (QEMU killed, the disk changed by others) there is no checkpoint any more, and the error says so."""
import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import Console, Monitor, qemu_of, tiny_daemon  # noqa: E402
from machine_state import boots, get, machine, put, remove, state  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"
MIB = 1 << 20
GONE = "has no checkpoint"


class Context:
    def __init__(self):
        self.d = tiny_daemon("mcheckp", IMAGE)
        self.out = self.d.dir + "/out"
        os.mkdir(self.out)
        with open(self.d.dir + "/data.raw", "wb") as f:
            f.write(os.urandom(2 * MIB))
        self.d.cli("volume", "import", "--format", "raw", "--kind", "block", "--size", "2m", f.name, "data")

    def close(self):
        self.d.close()

    def machine(self, *args):
        """With a checkpoint "one", and A on its disk."""
        for left in self.d.json("ls", "-a"):
            self.d.cli("rm", "-f", left["id"])
        id = machine(self.d, IMAGE, *args)
        put(self.d, id, "a", "A")
        self.export(id, "1", "--checkpoint", "one")
        return id

    def export(self, id, name, *args, disk="root"):
        path = f"{self.out}/{name}.qcow2"
        self.d.cli("backup", "export", "--disk", disk, "-o", path, *args, id)
        return path

    def joined(self, id, since="one"):
        """What has been written since, upon the first copy, is the disk as it is now; and it is little."""
        all, part = self.export(id, "all"), self.export(id, "part", "--since", since)
        subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "1.qcow2", part], check=True)
        assert os.path.getsize(part) < MIB
        subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", "-s", all, part], check=True, capture_output=True)

    def refused(self, text, id, *args):
        r = self.d.cli("backup", "export", "--disk", "root", *args, "-o", self.out + "/x", id, check=False)
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, text)
        assert not os.path.exists(self.out + "/x")


def setup():
    need("qemu-system-x86_64", shutil.which("qemu-system-x86_64"))
    need("qemu-img", shutil.which("qemu-img"))
    return Context()


def checkpoints(d, id):
    return sorted(json.loads(d.out("backup", "checkpoints", "--json", id)))


def kept(d):
    try:
        return sorted(os.listdir(d.state + "/agent/checkpoints"))
    except FileNotFoundError:
        return []


def ended(d, id):
    wait_until(lambda: state(d, id) == "exited", 60, "the machine's end")


def power_off(d, id):
    with Console(d, id) as console:
        console.send("p")
        console.expect("powering off")


def up(d, id, n):
    wait_until(lambda: boots(d, id) == n and state(d, id) == "running", 60, f"start {n}")


@test
def over_stops(c):
    """The power button, the guest's own power-off, the end of its time, suspend and resume: each time the next run goes on with them"""
    d, id = c.d, c.machine()
    d.cli("stop", id)
    equal((kept(d), d.json("show", id)["status"]["exit_code"]), ([id + ".qcow2"], 0))
    d.cli("start", id)
    up(d, id, 2)
    equal((kept(d), checkpoints(d, id)), ([], ["one"]))
    put(d, id, disk="B")
    power_off(d, id)
    ended(d, id)
    d.cli("start", id)
    up(d, id, 3)
    c.joined(id)
    c.export(id, "2", "--checkpoint", "two")
    d.cli("stop", "-t", "0", id)
    d.cli("start", id)
    up(d, id, 4)
    put(d, id, "s", "C")
    d.cli("suspend", id)
    equal(kept(d), [id + ".qcow2"])
    d.cli("start", id)
    equal((get(d, id), kept(d), checkpoints(d, id)), (("s", "C"), [], ["one", "two"]))
    c.joined(id)
    d.cli("backup", "forget", id, "one")
    d.cli("restart", id)
    up(d, id, 5)
    equal(checkpoints(d, id), ["two"])
    d.cli("backup", "forget", id, "two")
    d.cli("stop", id)
    equal(kept(d), [])
    remove(d, id)


@test
def by_policy(c):
    """A restart policy's next run goes on with them"""
    d, id = c.d, c.machine("--restart", "always")
    power_off(d, id)
    up(d, id, 2)
    put(d, id, disk="B")
    c.joined(id)
    remove(d, id)
    equal(kept(d), [])


@test
def killed(c):
    """SIGKILL of QEMU: there is none any more, and the next copy is of all"""
    d, id = c.d, c.machine()
    os.kill(qemu_of(d, id), signal.SIGKILL)
    ended(d, id)
    d.cli("start", id)
    up(d, id, 2)
    equal((kept(d), checkpoints(d, id)), ([], []))
    c.refused(GONE, id, "--since", "one")
    c.export(id, "1", "--checkpoint", "one")
    put(d, id, disk="B")
    c.joined(id)
    remove(d, id)


@test
def changed_meanwhile(c):
    """A disk that goes back to a snapshot, or gets another size, while it is stopped has none any more"""
    d = c.d
    for change in ("snapshot", "restore", "web", "then"), ("update", "--root-size", "32m", "web"):
        id = c.machine("--name", "web")
        d.cli("snapshot", "create", id, "then")
        d.cli("stop", id)
        equal(kept(d), [id + ".qcow2"])
        d.cli(*change)
        equal(kept(d), [])
        d.cli("start", id)
        up(d, id, 2)
        c.refused(GONE, id, "--since", "one")
    remove(d, id)


@test
def volumes(c):
    """A volume keeps its own, for whoever starts with it; not while another instance runs with it as well, nor when one has"""
    d, id = c.d, c.machine("-v", "data:/data")
    c.export(id, "d", "--checkpoint", "disk", disk="data")
    d.cli("stop", id)
    volume = json.loads(d.out("volume", "ls", "--json"))[0]["id"]
    equal(kept(d), sorted([id + ".qcow2", volume + ".qcow2"]))
    other = machine(d, IMAGE, "-v", "data:/data")
    equal((checkpoints(d, other), kept(d)), (["disk"], [id + ".qcow2"]))
    d.cli("start", id)
    up(d, id, 2)
    for m in id, other:
        r = d.cli("backup", "export", "--disk", "data", "--since", "disk", "-o", c.out + "/x", m, check=False)
        equal((r.returncode, "another instance as well" in r.stderr), (125, True), r.stderr)
    d.cli("stop", other)
    r = d.cli("backup", "export", "--disk", "data", "--checkpoint", "more", "-o", c.out + "/x", id, check=False)
    equal((r.returncode, "another instance as well" in r.stderr), (0, False), r.stderr)  # it came when the other one was there
    remove(d, id, other)
    d.cli("volume", "rm", "data")
    equal(kept(d), [])


@test
def ends_alone(c):
    """A guest that powers off while no daemon runs waits for one, and keeps them"""
    d, id = c.d, c.machine()
    put(d, id, disk="B")
    d.kill()
    with Monitor(d, id) as q:
        q.call("system_powerdown")
        wait_until(lambda: q.call("query-status")["status"] == "shutdown", 60, "the guest's end")
    d.start()
    ended(d, id)
    d.cli("start", id)
    up(d, id, 2)
    c.joined(id)
    remove(d, id)


@test
def of_a_stopped_one(c):
    """Of a machine that does not run: what has been written since, a new checkpoint, forgetting one; a worker that is killed leaves nothing"""
    d, id = c.d, c.machine()
    put(d, id, disk="B")
    d.cli("stop", id)
    equal((checkpoints(d, id), state(d, id)), (["one"], "exited"))
    c.joined(id)
    equal(kept(d), [id + ".qcow2"])
    for point in "export.begun", "idle.kept", "export.copied", "export.written":
        d.stop()
        d.start(WABE_FAULT=f"both:{point}")
        d.cli("backup", "export", "--checkpoint", "cut", "-o", c.out + "/cut.tar", id, check=False)
        d.stop()
        d.start()
        wait_until(lambda: kept(d) == [id + ".qcow2"] and not opened(d), 60, f"nothing of it after {point}")
        equal(checkpoints(d, id), ["one"], point)
    c.export(id, "1", "--checkpoint", "two")
    c.refused("has a checkpoint two already", id, "--checkpoint", "two")
    c.refused(GONE, id, "--since", "three")
    d.cli("backup", "forget", id, "one")
    equal(checkpoints(d, id), ["two"])
    d.cli("start", id)
    up(d, id, 2)
    put(d, id, disk="C")
    equal(checkpoints(d, id), ["two"])
    c.joined(id, "two")
    d.cli("stop", id)
    d.cli("backup", "forget", id, "two")
    equal((checkpoints(d, id), kept(d), opened(d)), ([], [], []))
    remove(d, id)


def opened(d):
    """Volumes that are open."""
    top = d.state + "/agent/pools"
    return [name for pool in os.listdir(top) for name in os.listdir(f"{top}/{pool}/open")]


@test
def cut_off(c):
    """SIGKILL of agent and worker at each step: either they are right, or there are none, and the machine ends or starts all the same"""
    d = c.d
    for point in "checkpoints.end", "checkpoints.written", "checkpoints.dropped", "checkpoints.saved":
        id = c.machine()
        put(d, id, disk="B")
        d.stop()
        d.start(WABE_FAULT=f"both:{point}")
        d.cli("stop", "-t", "0", id, check=False)
        d.stop()
        d.start()
        ended(d, id)
        d.cli("start", id)
        up(d, id, 2)
        equal((kept(d), checkpoints(d, id)), ([], ["one"]), point)
        c.joined(id)
    d.cli("stop", id)
    d.stop()
    d.start(WABE_FAULT="both:checkpoints.loaded")
    d.cli("start", id, check=False)
    d.stop()
    d.start()
    wait_until(lambda: state(d, id) == "exited", 60, "the cut start's end")
    d.cli("start", id)
    up(d, id, 3)
    c.joined(id)
    remove(d, id)


if __name__ == "__main__":
    run(setup, lambda c: c.close())
