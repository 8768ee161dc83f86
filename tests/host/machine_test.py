#!/usr/bin/env python3
"""Machines from the outside: the verbs of containers on a guest with a boot sector of its own (tests/lib/tiny-guest.s)."""
import os
import signal
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import Console, qemu_of, tiny_daemon  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import status_field, wait_until  # noqa: E402

IMAGE = "tiny:1"


def setup():
    return tiny_daemon("machine", IMAGE, lambda d: need("kvm", "kvm" not in os.environ.get("WABE_MUST_HAVE", "")
                                                         or d.json("info")["agent"]["engine"] == "kvm"))


def machine(d, *args, image=IMAGE):
    """A machine that has come up: its id."""
    id = d.out("run", "--vm", "-d", "-m", "64m", *args, image).strip()
    up(d, id)
    return id


def up(d, id, times=1):
    wait_until(lambda: d.out("logs", id).count("tiny guest is up") >= times, 30, "the guest's first words")


def clean(d):
    """What a failed test has left"""
    if d.process is None:
        d.start()
    for id in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", id)


def status(d, id):
    return d.json("show", id)["status"]


def remove(d, id):
    d.cli("rm", "-f", id)
    wait_until(lambda: not any(d.leftovers().values()), 20, f"removal of everything: {d.leftovers()}")


@test
def starts_and_powers_down(d):
    """its output is the log, the power button ends it, with status 0; a second start boots again"""
    id = machine(d, "--name", "one")
    equal(status(d, id)["state"], "running")
    contains(d.out("ls"), "one")
    d.cli("stop", "one")
    now = status(d, id)
    equal((now["state"], now["exit_code"]), ("exited", 0))
    contains(d.out("logs", id), "powering off")
    d.cli("start", "one")
    up(d, id, 2)
    remove(d, id)


@test
def console_and_disk(d):
    """the console takes input; what is written to the disk is there after the next start"""
    id = machine(d)
    with Console(d, id) as c:
        c.send("xyz")
        c.expect("xyz")
        c.send("wA")
        c.expect("W")
        c.send("r")
        c.expect("A")
    d.cli("stop", id)
    d.cli("start", id)
    up(d, id, 2)
    with Console(d, id) as c:
        c.send("r")
        c.expect("A")
    remove(d, id)


@test
def reboot_stays(d):
    """a reset is no end; the power button's end is one, which a restart policy answers"""
    id = machine(d, "--restart", "always")
    with Console(d, id) as c:
        c.send("b")
        c.expect("tiny guest is up")
    up(d, id, 2)
    equal(status(d, id)["restart_count"], 0)
    with Console(d, id) as c:
        c.send("p")
        c.expect("powering off")
    up(d, id, 3)
    equal(status(d, id)["restart_count"], 1)
    remove(d, id)


@test
def pause(d):
    """a machine that is paused does nothing; it goes on where it was, and can be stopped"""
    id = machine(d)
    d.cli("pause", id)
    equal(status(d, id)["state"], "paused")
    with Console(d, id) as c:
        c.send("hello")
        c.silent("hello", 0.5)
        d.cli("unpause", id)
        c.expect("hello")
    d.cli("pause", id)
    d.cli("stop", id)
    equal(status(d, id)["exit_code"], 0)
    remove(d, id)


@test
def without_an_agent(d):
    """what needs an agent in the guest says at once that there is none; what is of containers says so"""
    id = machine(d)
    for args in (["exec", id, "true"], ["exec", "-i", id, "true"], ["cp", f"{id}:/etc/passwd", d.dir], ["top", id], ["set-password", id, "root"]):
        r = d.cli(*args, check=False, input="x\n")
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, "no agent answers")
    contains(d.cli("exec", "-t", id, "true", check=False).stderr, "no terminal")
    for args in ["diff", id], ["export", "-o", d.dir + "/x.tar", id]:
        contains(d.cli(*args, check=False).stderr, "has a disk")
    assert "inside" not in d.json("show", id)
    d.cli("snapshot", "create", id, "s", check=False)
    with Console(d, id) as c:
        c.send("k")
        c.expect("k")
    remove(d, id)


@test
def deaf_guests(d):
    """a guest without a power button is ended after the time limit; kill is at once"""
    id = d.out("run", "--vm", "-d", "-m", "64m", "--root-size", "16m", "scratch").strip()
    d.cli("stop", "-t", "1", id)
    equal(status(d, id)["state"], "exited")
    d.cli("start", id)
    d.cli("kill", id)
    equal(wait_until(lambda: status(d, id)["state"] == "exited" and status(d, id), 20)["exit_code"], 137)
    remove(d, id)


@test
def survives_the_daemon(d):
    """SIGKILL of control and agent: the machine runs on, is found, listened to and obeys"""
    id = machine(d)
    pid = status(d, id)["pid"]
    d.kill()
    d.start()
    now = status(d, id)
    equal((now["state"], now["pid"]), ("running", pid))
    with Console(d, id) as c:
        c.send("q")
        c.expect("q")
    d.cli("stop", id)
    equal(status(d, id)["exit_code"], 0)
    remove(d, id)


@test
def qemu_dies(d):
    """its end is the machine's, reported as such"""
    id = machine(d)
    os.kill(qemu_of(d, id), signal.SIGKILL)  # as the first process of its name space it is deaf to others of ours
    wait_until(lambda: status(d, id)["state"] == "exited", 20, "the end")
    equal(status(d, id)["exit_code"], 137)
    remove(d, id)


@test
def confined(d):
    """QEMU has a user of its own, no power, no network, no files but its own"""
    one, two = machine(d), machine(d)
    pids = [qemu_of(d, id) for id in (one, two)]
    uids = {status_field(p, "Uid").split()[0] for p in pids}
    assert len(uids) == 2 and "0" not in uids, uids
    for p in pids:
        equal(int(status_field(p, "CapEff"), 16), 0)
        equal(status_field(p, "NoNewPrivs"), "1")
        assert int(status_field(p, "Seccomp")) == 2
        equal([f for f in os.listdir(f"/proc/{p}/root") if f in ("home", "root", "var", "etc", "boot")], [])
        for ns in ("net", "mnt", "pid", "ipc", "user"):
            assert os.readlink(f"/proc/{p}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}"), ns
        equal([a for a in open(f"/proc/{p}/cmdline").read().split("\0") if d.dir in a], [])
    d.cli("rm", "-f", one)
    remove(d, two)


@test
def bad_input(d):
    """errors that name the field; nothing is left"""
    for args, text in ((["--chipset", "microvm", "--tpm"], "chipset"), (["--disk-bus", "ide"], "disk_bus"),
                       (["--secure-boot"], "secure_boot"), (["--privileged"], "privileged"),
                       (["--root-size", "1m"], "root_size"), (["--cpu-model", "no such"], "cpu-model")):
        r = d.cli("create", "--vm", *args, IMAGE, check=False)
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, text)
    r = d.cli("create", "--chipset", "pc", "x", check=False)
    contains(r.stderr, "machine")
    r = d.cli("run", "--vm", "-d", "--accel", "kvm", IMAGE, check=False)
    if d.json("info")["agent"]["engine"] != "kvm":
        equal(r.returncode, 125)
        contains(r.stderr, "kvm")
    for one in d.json("ls", "-a"):
        d.cli("rm", "-f", one["id"])
    equal(d.json("ls", "-a"), [])


@test
def hugepages(d):
    """memory of huge pages where the host has them, which come back; where it has too few it says so; what cannot be is refused"""
    def free():
        try:
            with open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") as f:
                return int(f.read())
        except FileNotFoundError:
            return -1

    def refused(text, *args):
        r = d.cli(*args, check=False)
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, text)

    refused("memory_max", "create", "--vm", "--page-size", "2m", "--memory-max", "1g", IMAGE)
    before = free()
    if before < 32:
        refused("huge pages", "run", "--vm", "-d", "--page-size", "2m", "-m", "64m", IMAGE)
    else:
        refused("multiple of the 2 MiB", "run", "--vm", "-d", "--page-size", "2m", "-m", "63m", IMAGE)
        clean(d)
        id = machine(d, "--page-size", "2m")
        assert free() < before, "none of them is in use"
        refused("neither saved nor moved", "suspend", id)
        refused("huge pages", "update", "-m", "32m", id)
        remove(d, id)
        wait_until(lambda: free() == before, 20, "their return")
    clean(d)


@test
def variants(d):
    """every bus, board and firmware starts the disk"""
    for args in (["--disk-bus", "scsi"], ["--disk-bus", "sata"], ["--disk-bus", "nvme"], ["--chipset", "pc", "--disk-bus", "ide"],
                 ["--cpus", "2"], ["--sockets", "1", "--cores", "2", "--threads", "1"], ["--video", "vga"], ["--usb"],
                 ["--watchdog", "reset"], ["--cpu-model", "qemu64"], ["--video", "virtio", "--audio"], ["--video", "qxl"],
                 *(["--network", "private", "--nic-model", model] for model in ("virtio", "e1000e", "e1000", "rtl8139"))):
        id = machine(d, *args)
        remove(d, id)


def picture(path):
    """Width, height and the colours of a PNG as QEMU writes it: eight bits of RGB, each line behind its filter."""
    with open(path, "rb") as f:
        data = f.read()
    equal(data[:8], b"\x89PNG\r\n\x1a\n")
    at, packed, head = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        head = data[at + 8:at + 8 + size] if kind == b"IHDR" else head
        packed += data[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    width, height, depth, colour = struct.unpack(">IIBB", head[:10])
    equal((depth, colour), (8, 2))
    raw, line, before = zlib.decompress(packed), bytearray(3 * width), bytearray(3 * width)
    colours = set()
    for y in range(height):
        kind, row = raw[y * (3 * width + 1)], raw[y * (3 * width + 1) + 1:(y + 1) * (3 * width + 1)]
        for x, value in enumerate(row):
            left, up, corner = (line[x - 3], before[x], before[x - 3]) if x >= 3 else (0, before[x], 0)
            paeth = min((left, up, corner), key=lambda p: abs(left + up - corner - p))
            line[x] = (value + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        colours |= {bytes(line[x:x + 3]) for x in range(0, 3 * width, 3)}
        line, before = bytearray(3 * width), line
    return width, height, colours


@test
def screen(d):
    """a picture shows what the guest shows, by the command and to a pipe; without a graphics card that is said"""
    id = machine(d, "--video", "vga")
    d.cli("screenshot", id, d.dir + "/words.png")
    width, height, colours = picture(d.dir + "/words.png")
    assert width >= 640 and height >= 400 and len(colours) > 1, (width, height, colours)
    with Console(d, id) as c:
        c.send("v")
        c.expect("V")
    r = subprocess.run(d.line("screenshot", id), env=d.env, stdout=subprocess.PIPE, check=True)
    with open(d.dir + "/red.png", "wb") as f:
        f.write(r.stdout)
    width, height, colours = picture(d.dir + "/red.png")
    equal((width / height, colours), (1.6, {b"\xa8\0\0"}))  # the VGA has six bits of each colour: 42 of 63
    remove(d, id)
    id = machine(d)
    r = d.cli("screenshot", id, d.dir + "/none.png", check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "graphics card")
    assert not os.path.exists(d.dir + "/none.png")
    remove(d, id)


@test
def keys_and_pointer(d):
    """keys reach the guest, text as it is typed, ctrl-alt-delete resets it; what is none of it is refused and nothing of it done"""
    id = machine(d, "--video", "vga")
    with Console(d, id) as c:
        d.cli("send-key", id, "x", "shift-y")
        c.expect("kx")
        c.expect("kY")
        d.cli("send-key", "--text", "Az 09!~\\{", id)
        c.expect("".join("k" + k for k in "Az 09!~\\{"))
        for args, text in ((["q", "nokey"], "nokey"), (["--text", "q\u00e9"], "text")):
            r = d.cli("send-key", id, *args, check=False)
            equal(r.returncode, 125)
            contains(r.stderr, text)
        d.cli("send-key", id, "ctrl-alt-delete")
        c.expect("tiny guest is up")
        assert "kq" not in c.seen, c.seen
    d.cli("mouse", id, "100", "100")
    d.cli("mouse", "--by", "--click", "left", "-n", "2", id, "--", "-5", "3")
    contains(d.cli("mouse", id, "99999", "1", check=False).stderr, "x")
    contains(d.cli("mouse", id, "1", "2000", check=False).stderr, "points")
    contains(d.cli("mouse", "--click", "nose", id, check=False).stderr, "click")
    d.cli("pause", id)
    contains(d.cli("send-key", id, "x", check=False).stderr, "paused")
    remove(d, id)
    box = d.out("run", "--vm", "-d", "-m", "64m", "--root-size", "16m", "--chipset", "microvm", "scratch").strip()
    contains(d.cli("send-key", box, "x", check=False).stderr, "microvm")
    remove(d, box)


@test
def uefi(d):
    """UEFI comes up to its shell on the console, finds the TPM where it belongs, and keeps a variable over a stop"""
    id = d.out("run", "--vm", "-d", "-t", "-m", "256m", "--root-size", "16m", "--firmware", "uefi", "--tpm", "scratch").strip()
    with Console(d, id) as c:
        c.expect("Shell>", 300)
        c.send("set kept yes-it-is\r")
        c.expect("Shell>")
        c.send("mm FED40030 -w 4 -MMIO -n\r")  # the interface's own id: of a TPM 2.0 with command response buffers
        c.expect("FED40030 : 0x00025811")
        c.expect("Shell>")
    d.cli("stop", "-t", "1", id)
    assert os.path.getsize(f"{d.state}/agent/instances/{id}/tpm/tpm2-00.permall"), "the TPM keeps nothing"
    d.cli("start", id)
    with Console(d, id) as c:
        c.expect("Shell>", 300)
        c.send("set kept\r")
        c.expect("yes-it-is")
    remove(d, id)


@test
def secure_boot(d):
    """with Secure Boot a shell that nobody has signed is not started"""
    id = d.out("run", "--vm", "-d", "-t", "-m", "256m", "--root-size", "16m", "--firmware", "uefi", "--secure-boot", "scratch").strip()
    wait_until(lambda: "Security Violation" in d.out("logs", id), 120, "the refusal")
    remove(d, id)


@test
def limits(d):
    """the guest's memory is its own; the control group has room for QEMU besides"""
    id = machine(d, "--cpus", "1")
    s = d.json("stats", "--no-stream", id)[id]
    assert s["memory_limit"] > 64 << 20, s
    remove(d, id)


if __name__ == "__main__":
    run(setup, lambda d: d.close(), clean)
