#!/usr/bin/env python3
"""Devices of machines, as a guest (Linux with busybox, or tests/lib/tiny-guest.s) and QEMU see them."""
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import Console, Monitor, qemu_of  # noqa: E402
from machine_linux import daemon, guest, until  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

MIB = 1 << 20


def clean(d):
    """What a failed test has left"""
    if d.process is None:
        d.start()
    for id in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", id)


def remove(d, id):
    d.cli("rm", "-f", id)
    wait_until(lambda: not any(d.leftovers().values()), 20, f"removal of everything: {d.leftovers()}")


def refused(d, text, *args):
    r = d.cli(*args, check=False)
    equal(r.returncode, 125, r.stderr)
    contains(r.stderr, text)


def tiny(d, *args, image="tiny:1"):
    """A machine that has come up: its id."""
    id = d.out("run", "--vm", "-d", "-m", "64m", *args, image).strip()
    wait_until(lambda: "tiny guest is up" in d.out("logs", id), 30, "the guest's first words")
    return id


NODE = "/sys/devices/system/node/node"


@test
def numa_nodes(d):
    """the guest's kernel finds the nodes, their processors and memory, and what comes later; on the host the memory lies where it is to"""
    id, c = guest(d, "--cpus", "3", "--cpus-max", "4", "--memory-max", "384m", "--numa", "cpus=0,2,host-nodes=0,policy=bind",
                  "--numa", "cpus=1,3,memory=96m")
    with c:
        until(c, "test $(cat /sys/devices/system/node/online) = 0-1")
        until(c, f"test $(cat {NODE}0/cpulist) = 0,2 -a $(cat {NODE}1/cpulist) = 1")
        c.send("pages() { awk '/^Node/{n=$2} /spanned/&&n==\"'$1',\"{s+=$2} END{print s}' /proc/zoneinfo; }\n")
        until(c, "test $(pages 1) -le 24576 -a $(pages 1) -gt 24400 -a $(pages 0) -le 40960 -a $(pages 0) -gt 40800")
        d.cli("update", "--cpus", "4", id)
        until(c, "test -e /sys/devices/system/cpu/cpu3/online")
        c.send("echo 1 >/sys/devices/system/cpu/cpu3/online; before=$(pages 0)\n")
        until(c, f"test $(cat {NODE}1/cpulist) = 1,3")
        d.cli("update", "-m", "384m", id)
        until(c, "test $(pages 0) -ge $((before + 32768))")
    with open(f"/proc/{qemu_of(d, id)}/numa_maps") as f:
        assert any(line.split()[1].startswith("bind:0") for line in f), "no memory is bound"
    remove(d, id)
    id = tiny(d, "--numa", "memory=32m", "--numa", "memory=32m")
    refused(d, "NUMA", "snapshot", "create", "--memory", id, "s")
    refused(d, "NUMA", "suspend", id)
    refused(d, "machine.numa", "update", "-m", "32m", id)
    remove(d, id)


def tiny_floppy(d, name, kib):
    """A floppy that starts as the tiny disk does, as an image."""
    path = f"{d.dir}/{name}.img"
    shutil.copy(d.dir + "/tiny.raw", path)
    os.truncate(path, kib << 10)
    d.cli("image", "import", "--kind", "floppy", path, f"{name}:1")
    return kib << 10


@test
def floppies(d):
    """a machine boots from a floppy on either board; it is write-protected, changed and taken out while the machine runs"""
    sizes = [tiny_floppy(d, "floppy-a", 1440), tiny_floppy(d, "floppy-b", 720)]

    def inside(id):
        with Monitor(d, id) as q:
            (drive,) = [b for b in q.call("query-block") if b["qdev"] == "floppy0"]
        return drive.get("inserted", {}).get("image", {}).get("virtual-size")

    for chipset in "q35", "pc":
        id = tiny(d, "--root-size", "16m", "--chipset", chipset, "--floppy", "floppy-a:1", "--boot", "floppy", image="scratch")
        with Console(d, id) as c:
            c.send("r")
            c.expect("\0")
            c.send("wx")
            c.expect("E")  # it cannot be written to
        equal(inside(id), sizes[0])
        d.cli("update", "--floppy", "floppy-b:1", id)
        equal(inside(id), sizes[1])
        d.api("PATCH", f"/v1/projects/default/instances/{id}", {"machine": {"floppy": None}})
        equal(inside(id), None)
        d.cli("update", "--floppy", "floppy-a:1", id)
        equal(inside(id), sizes[0])
        remove(d, id)
    id = tiny(d, "--floppy-drive")
    equal(inside(id), None)
    d.cli("update", "--floppy", "floppy-b:1", id)
    equal(inside(id), sizes[1])
    remove(d, id)
    id = tiny(d)
    refused(d, "no drive", "update", "--floppy", "floppy-b:1", id)
    refused(d, "of kind disk, not floppy", "create", "--vm", "--floppy", "tiny:1", "tiny:1")
    refused(d, "1440", "image", "import", "--kind", "floppy", d.dir + "/tiny.raw", "none:1")
    remove(d, id)


class UsbClient:
    """A device at `wabe usb-redirect`, in the words of usbredir 0.7 with what XHCI wants: sizes of packets, long
    numbers and packets."""
    HELLO, CONNECT, INTERFACES, ENDPOINTS, CONTROL = 0, 1, 4, 5, 100

    def __init__(self, d, id):
        self.process = subprocess.Popen(d.line("usb-redirect", id), env=d.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.head = "<III"
        self.send(self.HELLO, struct.pack("<64sI", b"test", 1 << 4 | 1 << 5 | 1 << 6))
        assert self.expect(self.HELLO).startswith(b"qemu")
        self.head = "<IIQ"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def send(self, kind, body, number=0):
        self.process.stdin.write(struct.pack(self.head, kind, len(body), number) + body)
        self.process.stdin.flush()

    def expect(self, kind):
        """The next message of that kind; others are passed over."""
        while True:
            got, size, _ = struct.unpack(self.head, self.process.stdout.read(struct.calcsize(self.head)))
            body = self.process.stdout.read(size)
            if got == kind:
                return body

    def plug_in(self, vendor, product):
        types = b"\0" + b"\xff" * 15  # of the ends of one direction: the first is for control, others are not there
        self.send(self.INTERFACES, struct.pack("<I32s32s32s32s", 1, b"", b"\xff", b"", b""))
        self.send(self.ENDPOINTS, types + types + b"\0" * 64 + b"\x40\0" * 32)
        self.send(self.CONNECT, struct.pack("<BBBBHH", 2, 0xff, 0, 0, vendor, product))


def attached(d, id, device):
    with Monitor(d, id) as q:
        return q.call("qom-get", path=f"/machine/peripheral/{device}", property="attached")


@test
def redirected_usb(d):
    """a device of a client is plugged in, the guest asks it what it is, and it goes with the stream; one place takes one"""
    id = tiny(d, "--usb-redirect", "1")
    with UsbClient(d, id) as usb:
        usb.plug_in(0x046d, 0xc52b)
        wait_until(lambda: attached(d, id, "redirect0"), 20, "the device")
        refused(d, "has one", "usb-redirect", id)
        with Console(d, id) as c:
            c.send("b")  # its BIOS looks at all devices once more
            endpoint, request, kind, _, value, _, _ = struct.unpack_from("<BBBBHHH", usb.expect(UsbClient.CONTROL))
            equal((endpoint, request, kind, value), (0x80, 6, 0x80, 0x100))  # GET_DESCRIPTOR of the device
    wait_until(lambda: not attached(d, id, "redirect0"), 20, "its end")
    with UsbClient(d, id):
        pass
    refused(d, "neither saved nor moved", "suspend", id)
    remove(d, id)
    id = tiny(d)
    refused(d, "--usb-redirect 1", "usb-redirect", id)
    remove(d, id)


@test
def usb_of_the_host(d):
    """what the host has not is named, and what is no device refused"""
    for text, device in (("046d:c52b", "046d:c52b"), ("9-9", "9-9")):
        refused(d, text, "run", "--vm", "-d", "-m", "64m", "--usb-device", device, "tiny:1")
    clean(d)
    for device in "046d", "1-", "1-.4", "1-4.", "../1-4", "1-4:1.0", "046d:c52b5":
        refused(d, "BUS-PORT", "create", "--vm", "--usb-device", device, "tiny:1")
    refused(d, "microvm", "create", "--vm", "--chipset", "microvm", "--usb-device", "1-4", "tiny:1")
    equal(d.json("ls", "-a"), [])


@test
def sockets_to_the_host(d):
    """where the host has them: a number of its own, which no other machine gets; else that is said"""
    refused(d, "vsock_cid", "create", "--vm", "--vsock-cid", "9", "tiny:1")
    refused(d, "vsock_cid", "create", "--vm", "--vsock", "--vsock-cid", "2", "tiny:1")
    if not os.path.exists("/dev/vhost-vsock"):
        need("vsock", "vsock" not in os.environ.get("WABE_MUST_HAVE", ""))
        refused(d, "vhost_vsock", "run", "--vm", "-d", "-m", "64m", "--vsock", "tiny:1")
        equal(d.json("ls", "-a")[0]["status"].get("vsock_cid", 0), 0)
        return clean(d)
    one, two = (d.json("show", tiny(d, "--vsock")) for _ in range(2))
    assert one["status"]["vsock_cid"] != two["status"]["vsock_cid"]
    cid = one["status"]["vsock_cid"]
    refused(d, one["id"][:12], "run", "--vm", "-d", "-m", "64m", "--vsock", "--vsock-cid", str(cid), "tiny:1")
    refused(d, "neither saved nor moved", "suspend", one["id"])
    d.cli("stop", one["id"])
    equal(d.json("show", one["id"])["status"].get("vsock_cid", 0), 0)
    tiny(d, "--vsock", "--vsock-cid", str(cid))
    clean(d)


@test
def pci_of_the_host(d):
    """what the host has not is named; without an IOMMU that is said; nothing stays"""
    refused(d, "0000:ff:1f.7", "run", "--vm", "-d", "-m", "64m", "--pci", "0000:ff:1f.7", "tiny:1")
    there = sorted(os.listdir("/sys/bus/pci/devices")) if os.path.exists("/sys/bus/pci/devices") else []
    if there and not os.path.exists(f"/sys/bus/pci/devices/{there[0]}/iommu_group"):
        refused(d, "IOMMU", "run", "--vm", "-d", "-m", "64m", "--pci", there[0], "tiny:1")
    clean(d)
    for address in "01:00.0", "0000:01:00.8", "0000:01:00.0/..", "0000:01:00,0":
        refused(d, "no address", "create", "--vm", "--pci", address, "tiny:1")
    refused(d, "microvm", "create", "--vm", "--chipset", "microvm", "--pci", "0000:01:00.0", "tiny:1")
    equal(d.json("ls", "-a"), [])


@test
def bad_nodes(d):
    """errors that name the field, before anything is made where that can be known"""
    for text, *args in (("unknown key", "--numa", "disks=1"), ("not a size", "--numa", "memory=x"), ("0-3,6", "--numa", "cpus=x"),
                        ("host_nodes", "--numa", "policy=bind"), ("256 MiB of memory together", "--numa", "memory=256m"),
                        ("microvm", "--chipset", "microvm", "--numa", "cpus=0")):
        refused(d, text, "create", "--vm", "-m", "64m", *args, "tiny:1")
    equal(d.json("ls", "-a"), [])
    for text, *args in (("processor 1 is in 0 nodes", "--numa", "cpus=0"), ("no node 500", "--numa", "host-nodes=500")):
        refused(d, text, "run", "--vm", "-d", "-m", "64m", "--cpus", "2", *args, "tiny:1")
    clean(d)


if __name__ == "__main__":
    run(lambda: daemon("devices"), lambda d: d.close(), clean)
