#!/usr/bin/env python3
"""Disks of machines that run move into other pools: the guest writes on, and reads what it wrote. Cut off at each step, cancelled, and
by the machine's end they are in one place, whole, and nothing is left in the other. WABE_TEST_LONG=1 adds more steps,
the deaths of one of agent and worker alone, and a guest with Linux that writes all the time."""
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import qemu_of, tiny_daemon  # noqa: E402
from machine_linux import guest, linux, until  # noqa: E402
from machine_state import boots, get, machine, put, state  # noqa: E402
from tap import LONG, contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"
MIB = 1 << 20
BEGIN = ["diskmove.begun", "copy.created", "diskmove.made", "volume.opened", "diskmove.copying", "diskmove.progress"]
PIVOT = ["diskmove.halted", "diskmove.switched", "moved.marked", "diskmove.moved", "diskmove.continued"]
END = ["diskmove.done", "diskmove.ended", "diskmove.noted", "volume.closed", "volume.undone", "moved.cleared"]


class Context:
    def __init__(self):
        self.d = tiny_daemon("mmove", IMAGE)
        self.d.cli("pool", "create", "other")
        self.text = os.urandom(6 * MIB)
        with open(self.d.dir + "/data.raw", "wb") as f:
            f.write(self.text + bytes(2 * MIB))

    def close(self):
        self.d.close()

    def clear(self):
        """What a test that failed has left goes first."""
        for left in self.d.json("ls", "-a"):
            self.d.cli("rm", "-f", left["id"])
        self.d.cli("volume", "rm", "data", check=False)

    def machine(self):
        """With a volume of known content."""
        self.clear()
        self.d.cli("volume", "import", "--format", "raw", "--kind", "block", "--size", "8m", self.d.dir + "/data.raw", "data")
        id = machine(self.d, IMAGE, "-v", "data:/data")
        put(self.d, id, "a", "A")
        return id

    def remove(self, id):
        self.d.cli("rm", "-f", id)
        self.d.cli("volume", "rm", "data")
        wait_until(lambda: not any(self.d.leftovers().values()), 20, f"removal of everything: {self.d.leftovers()}")


def setup():
    need("qemu-system-x86_64", shutil.which("qemu-system-x86_64"))
    return Context()


def volume(d):
    return json.loads(d.out("volume", "show", "data"))


def pool_of(d, what, id):
    return d.json("show", id)["spec"]["pool"] if what == "root" else volume(d)["spec"]["pool"]


def places(d, volume_id):
    """The pools in which there is anything of that id: files, records, marks, but for locks."""
    names = {p["id"]: p["spec"]["name"] for p in json.loads(d.out("pool", "ls", "--json"))}
    found = set()
    for top, pool in [(f"{d.state}/agent/storage", "local"), *((f"{d.state}/agent/pools/{i}", n) for i, n in names.items())]:
        for at, dirs, files in os.walk(top):
            if not at.endswith(("/locks", "/open")) and any(volume_id in n for n in dirs + files):
                found.add(pool)
    return found


def move(d, what, id, pool, **kw):
    return d.cli(*(("move", id) if what == "root" else ("volume", "move", "data")), pool, **kw)


def volume_id(d, what, id):
    return id if what == "root" else volume(d)["id"]


def in_one_place(d, what, id):
    """Where it is: the store, and what lies on disk, come to agree."""
    which = volume_id(d, what, id)
    wait_until(lambda: places(d, which) == {pool_of(d, what, id)}, 30,
               f"{what} in one place: {places(d, which)}, {pool_of(d, what, id)}")
    return pool_of(d, what, id)


def content(d):
    return subprocess.run(d.line("volume", "export", "--format", "raw", "data"), env=d.env, check=True, capture_output=True).stdout


def check(c, id, disk):
    equal((state(c.d, id), get(c.d, id), boots(c.d, id)), ("running", ("a", disk), 1))
    assert content(c.d) == c.text + bytes(2 * MIB), "the volume is damaged"


@test
def there_and_back(c):
    """Root and volume move while the machine runs; what it writes later is there; the next start has them there"""
    d, id = c.d, c.machine()
    for pool in "other", "local", "other":
        move(d, "root", id, pool)
        equal((pool_of(d, "root", id), in_one_place(d, "root", id)), (pool, pool))
        put(d, id, disk=pool[0])
        move(d, "volume", id, pool)
        equal(in_one_place(d, "volume", id), pool)
        check(c, id, pool[0])
    move(d, "root", id, "other")  # there already: nothing happens
    d.cli("update", "--root-size", "32m", id)
    d.cli("kill", id)
    d.cli("start", id)
    wait_until(lambda: boots(d, id) == 2, 30, "a start from the new place")
    equal(get(d, id)[1], "o")
    d.cli("volume", "detach", "data", id, check=False)
    c.remove(id)


WRITER = """i=0; while [ ! -e /stop ]; do i=$((i + 1)); head -c 65536 /dev/urandom >/block
for f in /dev/vdb /reference; do dd if=/block of=$f bs=64k seek=$((i % 96)) conv=notrunc 2>/dev/null; sync; done; echo $i >/count; done; touch /done"""


def under_a_writer(c):
    """Linux writes on and on while the disk moves to and fro and is copied: what it reads in the end is what it wrote"""
    d = c.d
    c.clear()
    os.makedirs(d.dir + "/linux")
    d.cli("image", "load", "-i", linux(d.dir + "/linux"))
    d.cli("volume", "create", "--kind", "block", "--size", "8m", "data")
    id, console = guest(d, "-v", "data:/data")
    with console as g:
        until(g, "test -b /dev/vdb")
        g.send("dd if=/dev/vdb of=/reference bs=1M 2>/dev/null; echo 0 >/count\n")
        g.send(f"({'; '.join(WRITER.splitlines())}) &\n")
        for pool in "other", "local", "other":
            g.send("was=$(cat /count)\n")
            until(g, "test $(cat /count) -gt $((was + 2))")
            move(d, "volume", id, pool)
            equal(in_one_place(d, "volume", id), pool)
            d.cli("backup", "export", "--disk", "data", "-o", d.dir + "/copy.qcow2", id)
            subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", d.dir + "/copy.qcow2"], check=True)
        g.send("was=$(cat /count)\n")
        until(g, "test $(cat /count) -gt $((was + 2))")
        g.send("touch /stop\n")
        until(g, "test -e /done")
        g.send("sync; echo 3 >/proc/sys/vm/drop_caches\n")
        until(g, "cmp -s /reference /dev/vdb", 30)
    c.remove(id)


@test
def with_snapshots(c):
    """Snapshots of a root come along, and can be gone back to"""
    d, id = c.d, c.machine()
    d.cli("snapshot", "create", id, "then")
    put(d, id, disk="B")
    move(d, "root", id, "other")
    equal((in_one_place(d, "root", id), get(d, id)[1]), ("other", "B"))
    d.cli("kill", id)
    d.cli("snapshot", "restore", id, "then")
    d.cli("start", id)
    wait_until(lambda: boots(d, id) == 2, 30, "a start")
    equal(get(d, id)[1], "A")
    c.remove(id)


@test
def what_cannot_be(c):
    """Errors say what is not there, and change nothing"""
    d, id = c.d, c.machine()
    for args, text in (
        (("move", id, "nowhere"), "nowhere"),
        (("volume", "move", "data", "nowhere"), "nowhere"),
        (("move", "nobody", "other"), "nobody"),
    ):
        r = d.cli(*args, check=False)
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, text)
    check(c, id, "A")
    d.cli("kill", id)
    r = d.cli("move", id, "other", check=False)
    contains(r.stderr, "its root moves while it runs")
    r = d.cli("volume", "move", "data", "other", check=False)
    contains(r.stderr, "detach it first")
    c.remove(id)


@test
def cancelled(c):
    """A move that is cancelled is undone, and can be done again"""
    d, id = c.d, c.machine()
    for what in "root", "volume":
        which = volume_id(d, what, id)
        local = next(p["id"] for p in json.loads(d.out("pool", "ls", "--json")) if p["spec"]["name"] == "local")
        with open(f"{d.state}/agent/pools/{local}/locks/{which}", "a") as lock:  # it waits for this
            fcntl.flock(lock, fcntl.LOCK_EX)
            status, task = d.api("POST", f"/v1/projects/default/{'instances' if what == 'root' else 'volumes'}/{which}/move",
                                 {"pool": "other"})
            equal(status, 202, task)
            d.cli("task", "cancel", task["id"])
        wait_until(lambda: d.api("GET", f"/v1/projects/default/tasks/{task['id']}")[1]["state"] != "running", 60, "the task's end")
        equal((d.api("GET", f"/v1/projects/default/tasks/{task['id']}")[1]["state"], in_one_place(d, what, id)), ("cancelled", "local"))
        check(c, id, "A")
        move(d, what, id, "other")
        equal(in_one_place(d, what, id), "other")
    check(c, id, "A")
    c.remove(id)


@test
def without_the_machine(c):
    """The machine is killed while its disks move: each is in one place, with what was written"""
    d, id = c.d, c.machine()
    for n, what in enumerate(("root", "volume"), 2):
        mover = subprocess.Popen(d.line(*(("move", id) if what == "root" else ("volume", "move", "data")), "other"), env=d.env,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state_file = f"{d.run_dir}/shim/{id}/state.json"
        wait_until(lambda: mover.poll() is not None or '"place"' in open(state_file).read(), 30, "a copy that goes on")
        os.kill(qemu_of(d, id), signal.SIGKILL)
        mover.wait(60)
        wait_until(lambda: state(d, id) == "exited", 30, "the end")
        in_one_place(d, what, id)
        d.cli("start", id)
        wait_until(lambda: boots(d, id) == n, 30, "a start")
    equal(get(d, id)[1], "A")
    assert content(d) == c.text + bytes(2 * MIB), "the volume is damaged"
    c.remove(id)


def cut_off(d, fault, what, id, pool, killed):
    """What brings a move to its end may come by the same place again, and again: then the daemon is no more."""
    qemu = qemu_of(d, id)
    d.stop()
    d.start(WABE_FAULT=fault)
    agent = d.pids()["agent"]
    mover = subprocess.Popen(d.line(*(("move", id) if what == "root" else ("volume", "move", "data")), pool), env=d.env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: mover.poll() is not None or d.pids().get("agent") != agent, 60, "the fault")
    if killed:
        os.kill(qemu, signal.SIGKILL)
    d.kill()
    mover.wait(60)
    d.start()


def fault_test(what, who, points, killed):
    def faults(c):
        d, id = c.d, c.machine()
        at, starts, disk = "local", 1, "A"
        for n, point in enumerate(points):
            try:
                disk = "BCDEFGHIJKLMNOPQ"[n % 16]
                put(d, id, "a" if not killed else None, disk)
                cut_off(d, f"{who}:{point}", what, id, "other" if at == "local" else "local", killed)
                at = in_one_place(d, what, id)
                if killed:
                    wait_until(lambda: state(d, id) == "exited", 30, "the end")
                    d.cli("start", id)
                    starts += 1
                    wait_until(lambda: boots(d, id) == starts, 30, "a start")
                wait_until(lambda: state(d, id) == "running", 30, "a machine that runs")
                equal((get(d, id)[1], boots(d, id)), (disk, starts))
                assert content(d) == c.text + bytes(2 * MIB), "the volume is damaged"
                move(d, what, id, "other" if at == "local" else "local")  # it goes again
                at = in_one_place(d, what, id)
            except BaseException as e:
                raise AssertionError(f"{who}:{point}: {e}") from e
        c.remove(id)
    faults.__name__ = f"{what}_with_{who}_killed" + ("_and_the_machine" if killed else "")
    faults.__doc__ = (f"{what}: SIGKILL of {'agent and worker' if who == 'both' else who}{' and QEMU' if killed else ''} at each of "
                      f"{len(points)} steps")
    test(faults)


for who in ("worker", "agent", "both") if LONG else ("both",):
    for what in "root", "volume":
        fault_test(what, who, BEGIN + PIVOT + END if LONG else ["diskmove.copying", *PIVOT[1:3], "diskmove.noted"], False)
        fault_test(what, who, BEGIN + PIVOT + END if LONG else PIVOT[1:3], True)
if LONG:
    test(under_a_writer)


if __name__ == "__main__":
    run(setup, lambda c: c.close())
