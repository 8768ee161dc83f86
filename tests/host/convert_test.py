#!/usr/bin/env python3
"""A machine's disk as a container: found in its partition table, read without the kernel; what cannot be read, or is made to harm, is told."""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon  # noqa: E402

MB = 1 << 20
SIZE = 20 * MB
PART = MB  # where the partition begins


class Place(Daemon):
    def __init__(self):
        need("mke2fs", shutil.which("mke2fs"))
        super().__init__("convert")
        self.tree = self.dir + "/tree"
        make_tree(self.tree)
        self.start()

    def clean(self):
        for instance in json.loads(self.out("ls", "-a", "--json")):
            self.cli("rm", "-f", instance["id"])
        self.cli("image", "prune", "-a")

    def machine(self, disk):
        """A machine, made and not started, whose disk is that file"""
        self.cli("image", "import", "--kind", "disk", "--format", "raw", disk, "disk:1")
        self.cli("create", "--vm", "--name", "m", "disk:1")

    def refused(self, text, disk):
        self.machine(disk)
        r = self.cli("convert", "m", "none", check=False)
        assert r.returncode != 0, f"should be refused: {text}"
        contains(r.stderr, text)
        self.clean()
        equal(os.listdir(self.state + "/agent/tmp"), [])


def make_tree(top):
    for name in "bin", "sbin", "etc", "dev", "proc", "deep/er/est", "lib":
        os.makedirs(f"{top}/{name}")
    shutil.copy(shutil.which("busybox"), top + "/bin/busybox")
    os.symlink("busybox", top + "/bin/sh")
    os.symlink("/bin/busybox", top + "/sbin/init")
    for name, text in ("etc/os-release", "ID=test\n"), ("etc/passwd", "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n"), ("proc/stale", "x"):
        with open(f"{top}/{name}", "w") as f:
            f.write(text)
    with open(top + "/deep/er/est/big", "wb") as f:
        f.write(os.urandom(5 * MB + 17))
    with open(top + "/deep/holes", "wb") as f:
        f.truncate(3 * MB)
        f.seek(2 * MB)
        f.write(b"in the middle")
        f.seek(3 * MB - 1)
        f.write(b"e")
    os.link(top + "/deep/er/est/big", top + "/deep/another name")
    os.symlink("x" * 200, top + "/deep/long-link")
    os.chown(top + "/deep", 1000, 1000)
    os.chmod(top + "/bin/busybox", 0o4755)
    os.chmod(top + "/deep", 0o1750)
    os.setxattr(top + "/etc/os-release", "user.note", b"kept")


def ext(path, tree, *options, at=PART, size=SIZE, kind="ext4"):
    """A disk with a file system of the tree"""
    with open(path, "wb") as f:
        f.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", kind, "-E", f"offset={at}", "-d", tree, *options, path, f"{(size - at - MB) // 1024}k"], check=True)
    return path


def mbr(path, *parts):
    """parts: (type, first sector, sectors)"""
    with open(path, "r+b") as f:
        for i, (kind, first, n) in enumerate(parts):
            f.seek(446 + 16 * i)
            f.write(bytes([0, 0, 0, 0, kind, 0, 0, 0]) + struct.pack("<II", first, n))
        f.seek(510)
        f.write(b"\x55\xaa")
    return path


def gpt(path, first, last):
    mbr(path, (0xee, 1, 0xffffffff))
    with open(path, "r+b") as f:
        f.seek(512)
        f.write(b"EFI PART" + bytes(64) + struct.pack("<QII", 2, 128, 128))
        f.seek(1024 + 128)  # the second entry
        f.write(bytes(range(1, 33)) + struct.pack("<QQ", first, last))
    return path


LOOK = """cat /etc/os-release; stat -c '%a %u %g %F' /bin/busybox /deep; readlink /deep/long-link | wc -c; md5sum </deep/er/est/big;
md5sum <'/deep/another name'; stat -c '%h' /deep/er/est/big; tail -c +2097153 /deep/holes | head -c 13; echo; stat -c %s /deep/holes; test -e /proc/stale || echo gone"""


def looks_right(d, image):
    with open(d.tree + "/deep/er/est/big", "rb") as f:
        sum = hashlib.md5(f.read()).hexdigest()
    got = d.out("run", "--rm", image, "/bin/busybox", "sh", "-c", LOOK.replace("\n", " ")).split("\n")
    equal(got, ["ID=test", "4755 0 0 regular file", "1750 1000 1000 directory", "201", sum + "  -", sum + "  -", "2", "in the middle", str(3 * MB), "gone"])


@test
def partitions(d):
    """Of a whole disk, a primary and a logical partition, and one of GPT the system becomes an image that runs"""
    sectors = (SIZE - 2 * MB) // 512
    disks = [ext(d.dir + "/whole", d.tree, at=0),
             mbr(ext(d.dir + "/mbr", d.tree), (0x82, 34, 100), (0x83, PART // 512, sectors)),
             gpt(ext(d.dir + "/gpt", d.tree), PART // 512, PART // 512 + sectors - 1)]
    logical = mbr(ext(d.dir + "/logical", d.tree, at=2 * MB, size=SIZE + MB), (0x05, 2048, sectors))
    with open(logical, "r+b") as f:  # the chain's first table
        f.seek(2048 * 512 + 446)
        f.write(bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + struct.pack("<II", 2048, sectors - 2048))
        f.seek(2048 * 512 + 510)
        f.write(b"\x55\xaa")
    for disk in (*disks, logical):
        d.machine(disk)
        d.cli("convert", "m", "-m", "from " + disk, "files:1")
        looks_right(d, "files:1")
        equal(json.loads(d.out("image", "show", "--json", "files:1"))["config"]["command"], ["/sbin/init"])
        d.clean()
    equal(os.listdir(d.state + "/agent/tmp"), [])


@test
def kinds_of_file_systems(d):
    """ext2 and ext3, small blocks, and data in inodes are read; xfs and others are named"""
    for kind, *options in ("ext2",), ("ext3", "-b", "1024"), ("ext4", "-O", "inline_data"):
        d.machine(ext(d.dir + "/kind", d.tree, *options, at=0, kind=kind))
        d.cli("convert", "m", "files:1")
        looks_right(d, "files:1")
        d.clean()
    for at, mark, name in (0, b"XFSB", "xfs"), (65536 + 64, b"_BHRfS_M", "btrfs"), (0, b"LUKS\xba\xbe", "LUKS"), (512, b"LABELONE", "LVM"):
        with open(d.dir + "/other", "wb") as f:
            f.truncate(4 * MB)
            f.seek(at)
            f.write(mark)
        d.refused(name, d.dir + "/other")


@test
def what_is_wrong(d):
    """No system, one that was not put away, hostile ones: told, and nothing stays"""
    with open(d.dir + "/empty", "wb") as f:
        f.truncate(4 * MB)
    d.refused("no Linux system", d.dir + "/empty")
    bare = d.dir + "/bare"
    os.makedirs(bare)
    d.refused("no Linux system", ext(d.dir + "/none", bare, at=0))
    dirty = ext(d.dir + "/dirty", d.tree, at=0)
    subprocess.run(["debugfs", "-w", "-R", "feature needs_recovery", dirty], check=True, capture_output=True)
    d.refused("not put away cleanly", dirty)
    loop = ext(d.dir + "/loop", d.tree, at=0)
    subprocess.run(["debugfs", "-w", "-R", "ln / /deep/er/up", loop], check=True, capture_output=True)
    d.refused("within each other", loop)
    huge = ext(d.dir + "/huge", d.tree, at=0)
    subprocess.run(["debugfs", "-w", "-R", "sif /deep/holes size 0x1000000000000", huge], check=True, capture_output=True)
    d.refused("claim to have more", huge)
    cut = mbr(ext(d.dir + "/cut", d.tree), (0x83, PART // 512, SIZE))
    os.truncate(cut, 8 * MB)
    d.refused("no Linux system", cut)
    cut = ext(d.dir + "/cut", d.tree, at=0)
    os.truncate(cut, 8 * MB)
    d.machine(cut)
    assert d.cli("convert", "m", "none", check=False).returncode != 0
    d.cli("start", "m")
    contains(d.cli("convert", "m", "none", check=False).stderr, "running")
    d.clean()
    chain = mbr(ext(d.dir + "/chain", bare, at=2 * MB), (0x05, 64, 64))
    with open(chain, "r+b") as f:  # a chain of tables that leads to itself
        f.seek(64 * 512 + 446 + 16)
        f.write(bytes([0, 0, 0, 0, 0x05, 0, 0, 0]) + struct.pack("<II", 0, 64) + bytes(32) + b"\x55\xaa")
    d.refused("no Linux system", chain)


run(setup=Place, teardown=Place.close, after=Place.clean)
