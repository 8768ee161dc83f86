#!/usr/bin/env python3
"""Copies of the disks of a machine that runs: whole, sound, of one moment; what has been written since a checkpoint joins them; cut off
at any step the guest goes on and QEMU has nothing of it."""
import json
import os
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import Monitor, tiny_daemon  # noqa: E402
from machine_state import boots, get, machine, put, remove, state  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"
MIB = 1 << 20


class Context:
    def __init__(self):
        self.d = tiny_daemon("mbackup", IMAGE)
        self.out = self.d.dir + "/out"
        os.mkdir(self.out)
        self.text = os.urandom(6 * MIB) + bytes(2 * MIB)
        with open(self.d.dir + "/data.raw", "wb") as f:
            f.write(self.text)
        self.d.cli("volume", "import", "--format", "raw", "--kind", "block", "--size", "8m", f.name, "data")

    def close(self):
        self.d.close()

    def machine(self):
        for left in self.d.json("ls", "-a"):
            self.d.cli("rm", "-f", left["id"])
        id = machine(self.d, IMAGE, "-v", "data:/data")
        put(self.d, id, "a", "A")
        return id


def setup():
    need("qemu-system-x86_64", shutil.which("qemu-system-x86_64"))
    need("qemu-img", shutil.which("qemu-img"))
    return Context()


def sound(path):
    """Its tables are; what the disk has, as raw."""
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, path + ".raw"], check=True)
    with open(path + ".raw", "rb") as f:
        text = f.read()
    os.unlink(path + ".raw")
    return text


def nodes(d, id):
    """What QEMU has of disks, jobs and descriptors."""
    with Monitor(d, id) as q:
        return (sorted(n["node-name"] for n in q.call("query-named-block-nodes", flat=True)), q.call("query-jobs"),
                len(q.call("query-fdsets")))


def checkpoints(d, id):
    return json.loads(d.out("backup", "checkpoints", "--json", id))


def refused(d, text, *args):
    r = d.cli(*args, check=False)
    equal(r.returncode, 125, r.stderr)
    contains(r.stderr, text)


@test
def all_disks(c):
    """A tar of all disks, and one alone to standard output: sound images with what was there; the guest goes on"""
    d, id = c.d, c.machine()
    before = nodes(d, id)
    d.cli("backup", "export", "-o", c.out + "/all.tar", id)
    with tarfile.open(c.out + "/all.tar") as t:
        equal(t.getnames(), ["root.qcow2", "data.qcow2"])
        t.extractall(c.out)
    equal(sound(c.out + "/root.qcow2")[512:1024], b"A" * 512)
    equal(sound(c.out + "/root.qcow2")[:512], open(d.dir + "/tiny.raw", "rb").read(512))
    assert sound(c.out + "/data.qcow2") == c.text
    with open(c.out + "/one.qcow2", "wb") as f:
        subprocess.run(d.line("backup", "export", "--disk", "data", id), env=d.env, stdout=f, check=True)
    assert sound(c.out + "/one.qcow2") == c.text
    equal((nodes(d, id), get(d, id), boots(d, id)), (before, ("a", "A"), 1))
    d.cli("rm", "-f", id)


@test
def since_a_checkpoint(c):
    """What has been written since a checkpoint is little, and joined with the earlier image it is the disk, also over a move of it"""
    d, id = c.d, c.machine()
    d.cli("backup", "export", "--disk", "root", "--checkpoint", "one", "-o", c.out + "/1.qcow2", id)
    put(d, id, disk="B")
    d.cli("pool", "create", "other")
    d.cli("move", id, "other")
    d.cli("backup", "export", "--disk", "root", "--since", "one", "--checkpoint", "two", "-o", c.out + "/2.qcow2", id)
    equal(sorted(checkpoints(d, id)), ["one", "two"])
    put(d, id, disk="C")
    d.cli("backup", "export", "--disk", "root", "--since", "two", "-o", c.out + "/3.qcow2", id)
    for n, letter in ((1, b"A"), (2, b"B"), (3, b"C")):
        if n > 1:
            assert os.path.getsize(f"{c.out}/{n}.qcow2") < MIB
            subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", f"{n - 1}.qcow2", f"{c.out}/{n}.qcow2"], check=True)
        text = sound(f"{c.out}/{n}.qcow2")
        equal((text[512:1024], text[510:512], len(text)), (letter * 512, b"\x55\xaa", 16 * MIB))
    refused(d, "has a checkpoint one already", "backup", "export", "--disk", "root", "--checkpoint", "one", "-o", c.out + "/x", id)
    refused(d, "no checkpoint three", "backup", "export", "--since", "three", "-o", c.out + "/x", id)
    refused(d, "no disk nothing", "backup", "export", "--disk", "nothing", "-o", c.out + "/x", id)
    assert not os.path.exists(c.out + "/x")
    d.cli("backup", "forget", id, "one")
    equal(checkpoints(d, id), ["two"])
    refused(d, "no checkpoint one", "backup", "forget", id, "one")
    d.cli("rm", "-f", id)


@test
def not_read_to_its_end(c):
    """A client that goes away: no checkpoint, and QEMU has nothing of it"""
    d, id = c.d, c.machine()
    before = nodes(d, id)
    client = subprocess.Popen(d.line("backup", "export", "--checkpoint", "half", id), env=d.env, stdout=subprocess.PIPE)
    assert client.stdout.read(512)
    client.stdout.close()
    client.kill()
    client.wait()
    wait_until(lambda: nodes(d, id) == before and checkpoints(d, id) == [], 30, "nothing of it")
    equal(get(d, id), ("a", "A"))
    d.cli("rm", "-f", id)


@test
def killed_at_each_step(c):
    """SIGKILL of agent and worker: the guest goes on, QEMU has nothing of it, and the next one succeeds"""
    d, id = c.d, c.machine()
    before = nodes(d, id)
    for point in "export.prepared", "export.held", "export.begun", "export.copied", "export.written":
        d.stop()
        d.start(WABE_FAULT=f"both:{point}")
        d.cli("backup", "export", "--checkpoint", "cut", "-o", c.out + "/cut.tar", id, check=False)
        d.stop()
        d.start()
        wait_until(lambda: nodes(d, id) == before and checkpoints(d, id) == [], 30, f"nothing of it after {point}")
        equal((state(d, id), get(d, id), boots(d, id)), ("running", ("a", "A"), 1))
        d.cli("backup", "export", "--disk", "data", "-o", c.out + "/again.qcow2", id)
        assert sound(c.out + "/again.qcow2") == c.text
    remove(d, id)


if __name__ == "__main__":
    run(setup, lambda c: c.close())
