"""Machines of tests/lib/tiny-guest.s, which keep one character in memory and one on their disk; and what wabe keeps of them."""
import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile

from guest import kernel_archive, kernel_image
from machine import Console
from wabe import wait_until


def machine(d, image, *args):
    """A machine that has come up: its id."""
    id = d.out("run", "--vm", "-d", "-m", "64m", *args, image).strip()
    wait_until(lambda: "tiny guest is up" in d.out("logs", id), 120, "the guest's first words")
    return id


def snapshots(d, id):
    return json.loads(d.out("snapshot", "ls", "--json", id))["snapshots"]


def status(d, id):
    return d.json("show", id)["status"]


def state(d, id):
    return status(d, id)["state"]


def put(d, id, memory=None, disk=None):
    with Console(d, id) as c:
        if memory:
            c.send("s" + memory)
        if disk:
            c.send("w" + disk)
            c.expect("W")
        c.send("g")
        c.expect(memory or "")


def get(d, id):
    """What it has in memory, and on its disk."""
    with Console(d, id) as c:
        c.send(".g")
        c.expect(".")
        while not c.seen:
            assert c.read(30)
        memory, c.seen = c.seen[0], c.seen[1:]
        c.send(".r")
        c.expect(".")
        while not c.seen:
            assert c.read(30)
        return memory, c.seen[0]


def boots(d, id):
    return d.out("logs", id).count("tiny guest is up")


def files(d, id):
    """What lies beneath its directory of saved memory."""
    top = f"{d.state}/agent/instances/{id}"
    found = [os.path.join(at, f)[len(top) + 1:] for at, _, names in os.walk(top) for f in names]
    return sorted(f for f in found if f.split("/")[0] in ("memory", "resume", "saving", "dropped"))


def remove(d, *ids):
    for id in ids:
        d.cli("rm", "-f", id)
    wait_until(lambda: not any(d.leftovers().values()), 20, f"removal of everything: {d.leftovers()}")


# ---- a guest with an agent ----

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
cut -d' ' -f2- /modules/list | tr ' ' '\\n' | while read m; do [ -z "$m" ] || insmod /modules/$m.ko 2>/dev/null; done
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
echo original >/proc/sys/kernel/hostname
ip link set eth0 up
for p in /dev/vport*; do qemu-ga -m virtio-serial -p $p -t /run -f /run/ga.pid & done
while :; do sleep 1000; done
"""
APPLETS = "sh ls cat echo mount ip sleep cut tr insmod mkdir sed rm date hwclock"


def agent_guest(d, name):
    """An image of kind kernel whose initramfs is a system with qemu-ga: it answers after a few seconds."""
    work = tempfile.mkdtemp(dir=d.dir)
    kernel, initrd = kernel_image(work)
    root = work + "/root"
    for folder in "bin proc sys dev run etc lib lib64 tmp var/lib".split():
        os.makedirs(f"{root}/{folder}")
    shutil.copy("/bin/busybox", root + "/bin/busybox")
    for applet in APPLETS.split():
        os.symlink("busybox", f"{root}/bin/{applet}")
    shutil.copy("/usr/sbin/qemu-ga", root + "/bin/qemu-ga")
    for word in subprocess.run(["ldd", "/usr/sbin/qemu-ga"], check=True, capture_output=True, text=True).stdout.split():
        if word.startswith("/lib"):
            os.makedirs(root + os.path.dirname(word), exist_ok=True)
            shutil.copy(word, root + word)
    for file, text in (("init", INIT), ("etc/machine-id", "0" * 32 + "\n"), ("etc/hostname", "original\n"),
                       ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 original.example original\n")):
        with open(f"{root}/{file}", "w") as f:
            f.write(text)
    os.chmod(root + "/init", 0o755)
    names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
    with open(initrd, "ab") as out:
        out.write(b"\0" * (-os.path.getsize(initrd) % 512))
        out.flush()
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=out, check=True)
    kernel_archive(work + "/kernel.tar", kernel, initrd, name)
    d.cli("image", "load", "-i", work + "/kernel.tar")
    shutil.rmtree(work)


class Inside:
    """The agent in a guest, without wabe in between."""

    def __init__(self, d, id, seconds=240):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(seconds)
        os.chdir(f"{d.run_dir}/shim/{id}")  # the path may be too long for a socket
        self.sock.connect("guest")
        os.chdir("/")
        self.file = self.sock.makefile("rb")
        self.sock.sendall(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":7}}\n')
        while True:
            line = self.file.readline()
            assert line, "the machine has ended"
            if b"\xff" in line and json.loads(line.split(b"\xff")[-1]).get("return") == 7:
                return

    def call(self, command, **arguments):
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        answer = json.loads(self.file.readline())
        assert "return" in answer, answer
        return answer["return"]

    def run(self, *argv):
        pid = self.call("guest-exec", path=argv[0], arg=list(argv[1:]), **{"capture-output": True})["pid"]
        done = wait_until(lambda: (r := self.call("guest-exec-status", pid=pid))["exited"] and r, 60, "the end of " + argv[0])
        return base64.b64decode(done.get("out-data", "")).decode()

    def close(self):
        self.file.close()
        self.sock.close()


def inside(d, id, *argv):
    """What a command in the guest says."""
    agent = Inside(d, id)
    try:
        return agent.run(*argv)
    finally:
        agent.close()
