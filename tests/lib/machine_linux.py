"""A guest with Linux and busybox, which runs the lines that it is sent on its console."""
import os
import shutil
import subprocess

from guest import kernel_archive, kernel_image
from machine import Console, tiny_daemon
from tap import need
from wabe import wait_until

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r name files; do for f in $files; do insmod /modules/$f.ko; done; done </modules/list 2>/dev/null
exec 0<>/dev/ttyS0 1>&0 2>&0
stty -echo
echo linux is up
until false; do read -r line && eval "$line"; done
"""


def linux(folder, programs=None):
    """A kernel image whose initramfs reads commands on its console. programs: names and files, beside busybox's."""
    kernel, initrd = kernel_image(folder)
    root = folder + "/root"
    os.makedirs(root + "/bin")
    for d in "proc sys dev".split():
        os.makedirs(f"{root}/{d}")
    for name, file in {"busybox": "/bin/busybox", **(programs or {})}.items():
        shutil.copy(file, f"{root}/bin/{name}")
    with open(root + "/init", "w") as f:
        f.write(INIT)
    os.chmod(root + "/init", 0o755)
    names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
    more = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, check=True, capture_output=True).stdout
    with open(initrd, "ab") as f: # what comes later replaces what has the same name
        f.write(b"\0" * (-f.tell() % 4) + more)
    kernel_archive(folder + "/kernel.tar", kernel, initrd, "linux:1")
    return folder + "/kernel.tar"


def daemon(name):
    """One that has this guest's kernel, and the disk of tiny-guest.s as tiny:1."""
    d = tiny_daemon(name, "tiny:1", lambda _: need("qemu-system-x86_64", shutil.which("qemu-system-x86_64")))
    try:
        os.makedirs(d.dir + "/linux")
        d.cli("image", "load", "-i", linux(d.dir + "/linux"))
    except BaseException:
        d.close()
        raise
    return d


def guest(d, *args):
    """A machine with Linux, and its console."""
    id = d.out("run", "--vm", "-d", "-t", "-m", "256m", "--root-size", "16m", "--kernel", "linux:1", "--kernel-args",
               "console=ttyS0 quiet cryptomgr.notests memhp_default_state=online_movable", *args, "scratch").strip()
    c = Console(d, id)
    wait_until(lambda: "linux is up" in d.out("logs", id), 240, "Linux")
    return id, c


def until(c, condition, seconds=120):
    """The guest sees that it is so."""
    c.send(f"until {condition}; do sleep 0.1; done; echo it is so\n")
    c.expect("it is so", seconds)
