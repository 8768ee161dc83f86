#!/usr/bin/env python3
"""Images of machines: disks of every format in and out, hostile ones, archives and registries, and the disks that machines get."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from registry import debian_registry, skopeo  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon  # noqa: E402

MB = 1 << 20
FORMATS = ["qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx"]


class Place:
    def __init__(self):
        need("qemu-img", shutil.which("qemu-img"))
        self.debian = None
        self.daemon = Daemon("disks", netspace="host").start()
        self.dir = self.daemon.dir
        self.raw = self.dir + "/content.raw"
        with open(self.raw, "wb") as f:  # a boot sector, holes, and what cannot be compressed
            f.truncate(8 * MB)
            f.write(b"\xeb\xfe" + bytes(508) + b"\x55\xaa")
            f.seek(2 * MB)
            f.write(os.urandom(MB))
            f.seek(8 * MB - 512)
            f.write(b"the end".ljust(512))
        self.daemon.cli("pool", "create", "fs", "--driver", "btrfs", "--size", "1GiB") if shutil.which("mkfs.btrfs") else None

    def convert(self, to, *options, source=None, name=None):
        path = f"{self.dir}/{name or 'made'}.{to}"
        subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", to, *options, source or self.raw, path], check=True)
        return path

    def same(self, path, form):
        r = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", form, self.raw, path], capture_output=True, text=True)
        assert r.returncode == 0, f"{form}: {r.stdout}{r.stderr}"

    def images(self):
        return json.loads(self.out("image", "ls", "--json"))

    def image(self, name):
        return json.loads(self.out("image", "show", "--json", name))

    def volumes(self):
        """Templates and disks in the pool local: of each id, its files."""
        found = {}
        top = self.daemon.state + "/agent/storage"
        for folder, _, files in os.walk(top):
            for path in (os.path.join(folder, f) for f in files):
                for id in re.findall("[0-9a-f]{64}", path[len(top):])[:1]:
                    found.setdefault(id, []).append(path)
        return found

    def machine(self, image, **spec):
        status, made = self.daemon.api("POST", "/v1/projects/default/instances", {"kind": "machine", "image": image, **spec})
        equal(status, 201, made)
        return made

    def clean(self):
        for instance in json.loads(self.out("ls", "-a", "--json")):
            self.cli("rm", "-f", instance["id"])
        self.cli("image", "prune", "-a")

    def __getattr__(self, name):
        return getattr(self.daemon, name)

    def close(self):
        if self.debian:
            self.debian[0].kill()
            self.debian[0].wait()
        self.daemon.close()


def refused(p, text, *args):
    r = p.cli(*args, check=False)
    assert r.returncode != 0, f"{args} should fail: {r.stdout}"
    contains(r.stderr, text)
    return r.stderr


def patched(source, path, *changes):
    """A copy with other bytes at some places."""
    shutil.copy(source, path)
    with open(path, "r+b") as f:
        for at, data in changes:
            f.seek(at)
            f.write(data)
    return path


@test
def every_format_comes_in(p):
    """Disks as qemu-img writes them are recognised, and exported with the same content in each format"""
    for form in FORMATS:
        more = ["-o", "force_size=on"] if form == "vpc" else []
        p.cli("image", "import", p.convert(form, *more), "disk:" + form)
        image = p.image("disk:" + form)
        equal((image["kind"], image["virtual_size"]), ("disk", 8 * MB), form)
        equal(image["layers"][0]["media_type"], "application/vnd.wabe.disk.v1+" + form)
        p.cli("image", "export", "disk:" + form, p.dir + "/out")
        with open(p.dir + "/out", "rb") as out, open(f"{p.dir}/made.{form}", "rb") as made:
            equal(out.read(), made.read(), "what came, as it came")
    for form in FORMATS:
        p.cli("image", "export", "--format", form, "-o", p.dir + "/out", "disk:qcow2")
        p.same(p.dir + "/out", form)
        p.cli("image", "export", "--format", "raw", "disk:" + form, p.dir + "/out")
        p.same(p.dir + "/out", "raw")
    contains(p.out("image", "ls"), "disk 8.0 MiB")


@test
def what_is_told(p):
    """A format that is told is the one; what fits none asks for it"""
    with open(p.dir + "/odd", "wb") as f:
        f.write(b"what is this?".ljust(MB, b"."))
    refused(p, "is not a tar", "image", "import", p.dir + "/odd", "odd")
    refused(p, "say it", "image", "import", "--kind", "disk", p.dir + "/odd", "odd")
    p.cli("image", "import", "--format", "raw", p.dir + "/odd", "odd")
    refused(p, "it is no qcow2 image", "image", "import", "--format", "qcow2", p.dir + "/odd", "odd")
    refused(p, "is qcow2, raw, vmdk", "image", "import", "--kind", "disk", "--format", "iso", p.dir + "/odd", "odd")
    qcow2 = p.convert("qcow2")
    refused(p, "it is no vmdk image but looks like qcow2", "image", "import", "--format", "vmdk", qcow2, "odd")
    p.cli("image", "import", "--format", "raw", p.raw, "as-it-is")
    equal(len(p.images()), 2, "what failed has left nothing")


@test
def hostile_images(p):
    """Images that name other files, are cut off, or lie about their size are refused, and leave nothing"""
    secret, out = p.dir + "/secret", p.dir + "/hostile"
    with open(secret, "wb") as f:
        f.write(b"secret".ljust(MB))
    qcow2 = p.convert("qcow2")

    def no(text, path=out):
        refused(p, text, "image", "import", path, "hostile")

    def made(*args):
        if os.path.exists(out):
            os.unlink(out)
        subprocess.run(["qemu-img", "create", "-q", *args], check=True)

    made("-f", "qcow2", "-b", secret, "-F", "raw", out)
    no("a backing file")
    made("-f", "qcow2", "-u", "-b", p.dir + "/other", "-F", "qcow2", out, "1M")
    os.replace(out, p.dir + "/other")
    no("a backing file", p.dir + "/other")  # itself
    made("-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", out, "1M")
    no("a data file")
    made("-f", "vmdk", "-o", "subformat=monolithicFlat", out, "1M")
    no("the extents of a VMDK")
    made("-f", "vmdk", p.dir + "/parent.vmdk", "1M")
    made("-f", "vmdk", "-b", p.dir + "/parent.vmdk", "-F", "vmdk", out)
    no("the parent of a VMDK")
    patched(qcow2, out, (24, struct.pack(">Q", 1 << 60)))
    no("at most")
    patched(qcow2, out, (36, struct.pack(">I", 1 << 30)))
    no("a table of")
    patched(qcow2, out, (72, struct.pack(">Q", 1 << 40)))
    no("features that are not known")
    patched(qcow2, out, (20, struct.pack(">I", 63)))
    no("clusters of 2^63")
    patched(qcow2, out, (32, struct.pack(">I", 1)))
    no("encrypted")
    size = os.path.getsize(qcow2)
    for cut in (size - 65536 * 4, size // 2, 65536 * 2, 4096, 60, 5):
        shutil.copy(qcow2, out)
        os.truncate(out, cut)
        no("cut off")
    with open(qcow2, "rb") as f:
        f.seek(40)
        first = struct.unpack(">Q", f.read(8))[0]
    patched(qcow2, out, (first, struct.pack(">Q", first | 1 << 63)))  # a table that is its own second level
    no("damaged")
    for form, places in (("vmdk", (100, 600)), ("vdi", (100, 600, MB)), ("vhdx", (100, MB + 100)), ("vpc", (600, MB))):
        path = p.convert(form)
        for cut in places:
            shutil.copy(path, out)
            os.truncate(out, cut)
            r = p.cli("image", "import", "--format", form, out, "hostile", check=False)
            assert r.returncode != 0, f"{form} of {cut} bytes: {r.stdout}"
    equal(p.images(), [])
    equal(os.listdir(p.daemon.state + "/control/content/blobs/sha256"), [])


@test
def archives_and_registries(p):
    """save and load, push and pull bring the same image back; a disk is no container"""
    p.cli("image", "import", p.convert("qcow2"), "disk:1")
    before = p.image("disk:1")
    p.cli("image", "save", "-o", p.dir + "/saved.tar", "disk:1")
    p.cli("image", "rm", "disk:1")
    equal(os.listdir(p.daemon.state + "/control/content/blobs/sha256"), [])
    p.cli("image", "load", "-i", p.dir + "/saved.tar")

    def unchanged():
        after = p.image("disk:1")
        for key in ("id", "digest", "kind", "virtual_size", "layers"):
            equal(after[key], before[key], key)

    unchanged()
    refused(p, "is a machine's disk", "create", "disk:1", "true")
    need("docker-registry", shutil.which("docker-registry"))
    p.debian = p.debian or debian_registry(p.dir)
    name = p.debian[1] + "/some/disk:1"
    p.cli("image", "push", "--plain-http", "disk:1", name)
    p.cli("image", "rm", "disk:1")
    p.cli("image", "prune", "-a")
    p.cli("image", "pull", "--plain-http", name)
    p.cli("image", "tag", name, "disk:1")
    unchanged()
    p.cli("image", "export", "--format", "raw", "disk:1", p.dir + "/out")
    p.same(p.dir + "/out", "raw")


@test
def machines_get_disks(p):
    """A machine's disk begins as its image's; nothing is left when machine and image go"""
    equal(p.volumes(), {})
    p.cli("image", "import", p.convert("qcow2"), "disk:1")
    template = p.image("disk:1")["layers"][0]["digest"].split(":")[1]
    one = p.machine("disk:1", name="one")
    two = p.machine("disk:1", name="two", root_size=20 * MB)
    volumes = p.volumes()
    equal(set(volumes), {template, one["id"], two["id"]})
    p.same(volumes[one["id"]][0], "raw")
    equal(os.path.getsize(volumes[two["id"]][0]), 20 * MB)
    refused_api(p, "the disk that it begins as has 8388608", name="three", image="disk:1", root_size=4 * MB)
    blank = p.machine("scratch", name="blank")
    equal(os.path.getsize(p.volumes()[blank["id"]][0]), 10 << 30)
    equal(len(p.volumes()), 4)
    refused(p, "is used by instance", "image", "rm", "disk:1")
    p.cli("rm", "one", "two", "blank")
    equal(set(p.volumes()), {template}, "the template stays")
    p.cli("image", "rm", "disk:1")
    equal(p.volumes(), {}, "and goes with its image")


@test
def a_killed_daemon(p):
    """After SIGKILL the templates are known again, and go with their image"""
    p.cli("image", "import", p.convert("qcow2"), "disk:1")
    p.machine("disk:1", name="one")
    p.cli("rm", "one")
    p.daemon.kill()
    p.daemon.start()
    p.cli("image", "rm", "disk:1")
    equal(p.volumes(), {}, "known again after a start")


def refused_api(p, text, **spec):
    status, got = p.daemon.api("POST", "/v1/projects/default/instances", {"kind": "machine", **spec})
    assert status >= 400, got
    contains(json.dumps(got), text)


@test
def snapshots_and_copies(p):
    """Snapshots, copies and clones of machines' disks, in a pool of files and in one of btrfs"""
    p.cli("image", "import", p.convert("qcow2"), "disk:1")
    p.machine("disk:1", name="one", pool="fs")
    p.cli("snapshot", "create", "one", "first")
    p.cli("clone", "one", "two")
    p.cli("snapshot", "restore", "one", "first")
    p.cli("snapshot", "rm", "one", "first")
    p.cli("rm", "one", "two")
    p.cli("image", "rm", "disk:1")
    p.cli("pool", "rm", "fs")


run(setup=Place, teardown=Place.close, after=Place.clean)
