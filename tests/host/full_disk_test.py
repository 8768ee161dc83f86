#!/usr/bin/env python3
"""A daemon whose disk is full: every operation says so, nothing half made stays, what runs goes on, and all works again
once there is room."""
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from consistent import consistent, empty, listing
from registry import Image, Registry
from tap import contains, equal, need, note, run, test
from wabe import Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"
SIZE = 96  # MiB of the disk


class SmallDaemon(Daemon):
    """Its state lies on a file system of its own."""

    def __init__(self):
        super().__init__("full", netspace="host")
        os.mkdir(self.state)
        self.disk = tempfile.mkstemp(prefix="wabe-disk-", dir="/var/tmp")[1]
        subprocess.run(["truncate", "-s", f"{SIZE}M", self.disk], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self.disk], check=True)
        r = subprocess.run(["mount", "-o", "loop", self.disk, self.state], capture_output=True, text=True)
        self.mounted = r.returncode == 0

    def fill(self, leave=0):
        """Takes all room but so many KiB."""
        with open(self.state + "/filler", "wb", buffering=0) as f:
            room = os.statvfs(self.state)
            free = room.f_bavail * room.f_frsize - leave * 1024
            try:
                if free > 0:
                    os.posix_fallocate(f.fileno(), 0, free)
                while not leave:
                    f.write(bytes(1024))
            except OSError as e:
                equal(e.errno, 28)
        return self

    def free(self):
        if os.path.exists(self.state + "/filler"):
            os.remove(self.state + "/filler")

    def used(self):
        room = os.statvfs(self.state)
        return (room.f_blocks - room.f_bfree) * room.f_frsize

    def leftovers(self):
        left = super().leftovers()
        left["mounts"] = [m for m in left["mounts"] if m != self.state]
        return left

    def close(self):
        try:
            self.free()
            super().close()
        finally:
            if self.mounted:
                subprocess.run(["umount", "-l", self.state], check=False)
            os.remove(self.disk)
            shutil.rmtree(self.dir, ignore_errors=True)


def setup():
    d = SmallDaemon()
    try:
        if d.mounted:
            d.start()
            d.tar = busybox_rootfs(d.dir + "/busybox.tar")
            d.cli("image", "import", d.tar, IMAGE)
            d.roles = d.pids()
    except BaseException:
        d.close()
        raise
    return d


def clean(d):
    if not d.mounted:
        return
    d.free()
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)
    for i in json.loads(d.out("image", "ls", "--json")):
        if not any("busybox" in n for n in i.get("names") or []):
            d.cli("image", "rm", "-f", i["id"], check=False)
    d.cli("image", "prune", check=False)


def no_space(d, *args, **kw):
    """The command fails and says why."""
    r = d.cli(*args, check=False, **kw)
    assert r.returncode == 125, f"wabe {' '.join(map(str, args))}: {r}"
    text = r.stderr.lower()
    assert "space" in text or "full" in text, f"wabe {' '.join(map(str, args))} does not say why: {r.stderr}"
    note(r.stderr.strip()[:200])
    return r


def big_tar(path, mib):
    with tarfile.open(path, "w") as t:
        for n in range(mib):
            info = tarfile.TarInfo(f"big{n}")
            info.size = 1 << 20
            t.addfile(info, io.BytesIO(random.randbytes(1 << 20)))
    return path


def whole(d):
    """Everything works, and the images that are shown can be used."""
    equal(d.pids(), d.roles, "processes")
    for i in json.loads(d.out("image", "ls", "--json")):
        equal(d.out("run", "--rm", i["id"], "echo", "works"), "works")
    consistent(d)


@test
def images_do_not_fit(d):
    """import, load, commit and pull of what does not fit: the room is given back, the images are as before"""
    need("loop mounts", d.mounted)
    images = d.out("image", "ls", "-q")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as t:
        big = big_tar(t + "/big.tar", 120)
        before = d.used()
        no_space(d, "image", "import", big, "big:1")
        registry = Registry()
        try:
            with open(big, "rb") as f:
                image = Image([f.read()])
            no_space(d, "image", "pull", "-q", registry.add(image))
        finally:
            registry.close()
        layout = t + "/docker.tar"
        with tarfile.open(layout, "w") as tar:
            for name, data in (("config.json", image.config), ("layer.tar", None),
                               ("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["big:1"], "Layers": ["layer.tar"]}]).encode())):
                if data is None:
                    tar.add(big, "layer.tar")
                    continue
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        no_space(d, "image", "load", "-i", layout)
    equal(d.out("image", "ls", "-q"), images)
    d.cli("image", "prune")
    wait_until(lambda: d.used() < before + (1 << 20), 30, "the room")
    note(f"{(d.used() - before) >> 10} KiB more in use")
    whole(d)


@test
def unpacking_does_not_fit(d):
    """a layer whose blob fits but not what it unpacks to"""
    need("loop mounts", d.mounted)
    images = d.out("image", "ls", "-q")
    before = d.used()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("pattern")
        info.size = 200 << 20
        t.addfile(info, io.BytesIO(b"pattern." * (200 << 17)))
    with tempfile.NamedTemporaryFile(dir="/var/tmp", suffix=".tar.gz") as f:
        f.write(gzip.compress(out.getvalue(), 1))
        f.flush()
        no_space(d, "image", "import", f.name, "pattern:1")
    equal(d.out("image", "ls", "-q"), images)
    equal([n for n in listing(d.state + "/agent/layers") if n.startswith(".")], [])
    d.cli("image", "prune")
    wait_until(lambda: d.used() < before + (1 << 20), 30, "the room")
    whole(d)


@test
def instances_do_not_fit(d):
    """create, run, start, commit, update on a full disk: clear errors; list, show, logs, exec, stop and rm still work"""
    need("loop mounts", d.mounted)
    d.cli("run", "-d", "--name", "runs", IMAGE, "sh", "-c", "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i > /dev/shm/i; sleep 0.05; done")
    d.cli("create", "--name", "made", IMAGE, "sleep", "1000")
    d.cli("run", "--name", "changed", IMAGE, "sh", "-c", "head -c 4000000 /dev/urandom > /data")
    d.fill()
    no_space(d, "create", "--name", "new", IMAGE, "true")
    no_space(d, "run", "--rm", "--name", "new", IMAGE, "true")
    no_space(d, "commit", "changed", "changed:1")
    r = d.cli("start", "made", check=False)
    note(f"start: {r.returncode} {r.stderr.strip()}")
    assert r.returncode in (0, 125), r
    r = d.cli("rename", "made", "renamed", check=False)
    note(f"rename: {r.returncode} {r.stderr.strip()}")
    names = {i["spec"]["name"] for i in json.loads(d.out("ls", "-a", "--json"))}
    equal(names, {"runs", "changed", "renamed" if r.returncode == 0 else "made"})
    equal(d.show("runs")["status"]["state"], "running")
    one = int(d.out("exec", "runs", "cat", "/dev/shm/i"))
    wait_until(lambda: int(d.out("exec", "runs", "cat", "/dev/shm/i") or 0) > one, 60, "that it goes on")
    d.cli("stop", "runs")
    status = d.show("runs")["status"]
    equal((status["state"], status["exit_code"]), ("exited", 5))
    d.cli("rm", "changed")  # what makes room must need none
    d.fill()
    d.cli("rm", "-f", "made")
    d.free()
    equal(d.show("runs")["status"], status)
    equal(d.out("image", "ls", "-q", "changed:1"), "")
    whole(d)
    d.cli("create", "--name", "new", IMAGE, "true")
    empty(d)


@test
def a_restart_on_a_full_disk(d):
    """a daemon that is killed and started on a full disk serves what there is, and loses nothing"""
    need("loop mounts", d.mounted)
    d.cli("run", "-d", "--name", "runs", IMAGE, "sleep", "1000")
    d.cli("create", "--name", "made", IMAGE, "true")
    pid = d.show("runs")["status"]["pid"]
    d.fill()
    d.stop()
    starts = threading.Thread(target=d.start)
    starts.start()
    # control cannot open its store; it says so, and is tried again until there is room
    wait_until(lambda: "no space" in d.log() or not starts.is_alive(), 60, "a start or its failure")
    d.free()
    starts.join(60)
    d.roles = d.pids()
    equal(d.show("runs")["status"]["pid"], pid)
    equal(d.out("exec", "runs", "echo", "works"), "works")
    equal(d.show("made")["status"]["state"], "created")
    whole(d)
    empty(d)


@test
def logs_do_not_fit(d):
    """an instance whose log cannot be written runs on, and its output still reaches who is attached"""
    need("loop mounts", d.mounted)
    d.fill()
    d.free()
    d.cli("create", "--name", "talks", IMAGE, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 3")
    d.fill(leave=64)
    r = d.cli("start", "-a", "talks", check=False, timeout=120)
    if r.returncode == 125:
        note(r.stderr)
    equal(r.returncode, 3, r.stderr[-300:])
    equal(r.stdout.count("line"), 20000)
    equal(d.show("talks")["status"]["exit_code"], 3, "on the full disk")
    d.free()
    wait_until(lambda: d.show("talks")["status"]["state"] == "exited", 60, "its end")
    equal(d.show("talks")["status"]["exit_code"], 3)
    lines = d.out("logs", "talks").split("\n")
    note(f"{len(lines)} lines in the log")
    for line in lines[:-1]:
        assert line.startswith("line "), f"a torn line: {line[:80]!r}"
    whole(d)
    empty(d)


run(setup, lambda d: d and d.close(), clean)
