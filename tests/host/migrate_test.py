#!/usr/bin/env python3
"""Machines that move from one daemon to another while they run. On a guest of one sector (tests/lib/tiny-guest.s), which keeps one
character in memory and one on its disk."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine_state import boots, get, machine, put, state, status  # noqa: E402
from migrate import Pair, between, clean, gone, listed, page_faults, tasks, under_way, volumes  # noqa: E402
from tap import Skip, contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"


def setup():
    return Pair(IMAGE)


@test
def there_and_back(p):
    """memory, disk, id and name come along; what was here is gone; and the same back again"""
    a, b = p
    id = machine(a, IMAGE, "--name", "traveller")
    put(a, id, "a", "A")
    for source, target in ((a, b), (b, a)):
        source.cli("migrate", "--to", p.url(target), "--with-disks", "traveller")
        gone(source)
        equal(listed(target), [(id, "traveller", "running")])
        equal((get(target, id), boots(target, id)), (("a", "A"), 0))
        assert "conflict" not in target.out("logs", id), "QEMU's complaints stand in the log of the serial port"
    clean(p)


@test
def with_nodes(p):
    """a machine whose memory lies in NUMA nodes moves as well"""
    a, b = p
    id = machine(a, IMAGE, "--cpus", "2", "--numa", "cpus=0,memory=16m", "--numa", "cpus=1,host-nodes=0")
    put(a, id, "n", "N")
    a.cli("migrate", "--to", p.url(b), "--with-disks", id)
    gone(a)
    equal((get(b, id), boots(b, id)), (("n", "N"), 0))
    clean(p)


@test
def kept(p):
    """--keep leaves the machine where it was, stopped, and --name gives it another name there"""
    a, b = p
    id = machine(a, IMAGE, "--name", "original", "--restart", "always")
    put(a, id, "a", "A")
    a.cli("migrate", "--to", p.url(b), "--with-disks", "--keep", "--name", "other", id)
    equal(listed(a), [(id, "original", "exited")])
    equal(listed(b), [(id, "other", "running")])
    equal(get(b, id), ("a", "A"))
    clean(p)


@test
def cancelled(p):
    """while its memory is sent: the guest goes on, the other daemon has nothing, and it can move later"""
    a, b = p
    id = machine(a, IMAGE)
    put(a, id, "a", "A")
    for how in ("signal", "task"):
        mover = subprocess.Popen(a.line("migrate", "--to", p.url(b), "--with-disks", "--bandwidth", "16k", id), env=a.env,
                                 stderr=subprocess.PIPE, text=True)
        task = wait_until(lambda: [t for t in tasks(a) if t["state"] == "running" and "memory" in t.get("message", "")], 60, "its memory")
        assert task[0]["total"] >= task[0]["done"] > 0, task
        if how == "signal":
            mover.send_signal(signal.SIGINT)
        else:
            a.cli("task", "cancel", task[0]["id"])
        contains(mover.communicate(timeout=60)[1], "interrupted" if how == "signal" else "cancelled")
        wait_until(lambda: not status(a, id).get("moves_to"), 60, "its end")
        gone(b)
        equal((state(a, id), get(a, id), boots(a, id)), ("running", ("a", "A"), 1))
    a.cli("snapshot", "create", "--memory", id, "then")  # QEMU has no settings of the migration any more
    a.cli("snapshot", "rm", id, "then")
    a.cli("migrate", "--to", p.url(b), "--with-disks", id)
    equal(get(b, id), ("a", "A"))
    clean(p)


@test
def afterwards(p):
    """one that has come can be suspended, saved and cloned as any other"""
    a, b = p
    id = machine(a, IMAGE)
    put(a, id, "a", "A")
    a.cli("migrate", "--to", p.url(b), "--with-disks", id)
    b.cli("suspend", id)
    b.cli("start", id)
    equal(get(b, id), ("a", "A"))
    b.cli("snapshot", "create", "--memory", id, "then")
    r = b.cli("migrate", "--to", p.url(a), "--with-disks", id, check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "has snapshots")
    equal(get(b, id), ("a", "A"))
    clean(p)


@test
def refused(p):
    """what cannot move says why, beforehand, and nothing changes"""
    a, b = p
    id = machine(a, IMAGE, "--name", "here")
    b.cli("volume", "create", "--kind", "block", "--size", "1m", "v", check=False)
    for args, text in ((["--to", p.url(b)], "with_disks"),
                       (["--to", "tcp://x", "--with-disks"], "must be unix:///DIRECTORY/wabe.sock"),
                       (["--with-disks"], "--to is needed"),
                       (["--to", "unix:///nowhere/wabe.sock", "--with-disks"], "cannot reach the daemon"),
                       (["--to", p.url(a), "--with-disks"], "taken"),
                       (["--to", p.url(a), "--with-disks", "--name", "again"], "here already")):
        r = a.cli("migrate", *args, "here", check=False)
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, text)
    b.cli("volume", "rm", "v", check=False)
    b.cli("image", "rm", IMAGE)
    try:
        r = a.cli("migrate", "--to", p.url(b), "--with-disks", "here", check=False)
        equal(r.returncode, 125)
        contains(r.stderr, "tiny:1 is not on that daemon")
    finally:
        b.cli("image", "import", "--kind", "disk", "--format", "raw", b.dir + "/tiny.raw", IMAGE)
    a.cli("pause", "here")
    r = a.cli("migrate", "--to", p.url(b), "--with-disks", "here", check=False)
    contains(r.stderr, "is paused")
    equal(listed(b), [])
    equal(listed(a), [(id, "here", "paused")])
    clean(p)


def content(d, volume):
    """Of a volume that nobody writes to."""
    with open(d.dir + "/volume", "w+b") as f:
        d.cli("volume", "export", "--format", "raw", "-o", f.name, volume)
        return f.read()


@test
def with_volumes(p):
    """its block volumes move with it, under their names and ids, and are gone where they were; back again they are what they were"""
    a, b = p
    data = {"one": os.urandom(1 << 20), "two": os.urandom(2 << 20)}
    for name, content_ in data.items():
        with open(a.dir + "/" + name, "wb") as f:
            f.write(content_)
        a.cli("volume", "import", "--kind", "block", "--size", f"{len(content_)}", "--format", "raw", f.name, name)
    had = volumes(a)
    id = machine(a, IMAGE, "-v", "one:/one", "-v", "two:/two")
    put(a, id, "a", "A")
    a.cli("migrate", "--to", p.url(b), "--with-disks", id)
    gone(a)
    equal((volumes(a), volumes(b)), ([], had))
    equal((get(b, id), boots(b, id)), (("a", "A"), 0))
    for d in p:
        d.stop()
        d.start()
    equal((volumes(a), volumes(b)), ([], had), "volumes after a restart of both daemons")
    b.cli("migrate", "--to", p.url(a), "--with-disks", "--keep", id)
    equal((volumes(a), volumes(b)), (had, had), "kept")
    equal((get(a, id), boots(a, id)), (("a", "A"), 0))
    r = a.cli("migrate", "--to", p.url(b), "--with-disks", "--name", "else", id, check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "here already")
    equal((volumes(b), state(a, id)), (had, "running"))
    a.cli("rm", "-f", id)
    b.cli("rm", id)
    for d in p:
        for name, content_ in data.items():
            equal(content(d, name) == content_, True, f"what is on {name}")
            d.cli("volume", "rm", name)
    clean(p)


@test
def volumes_refused(p):
    """a volume that others have, that has snapshots, that is only read, or whose name is taken there: nothing changes"""
    a, b = p
    a.cli("volume", "create", "--kind", "block", "--size", "1m", "v")
    id = machine(a, IMAGE, "-v", "v:/v")
    other = a.out("create", "--vm", "-v", "v:/v", IMAGE).strip()
    put(a, id, "a", "A")

    def refused_with(text):
        r = a.cli("migrate", "--to", p.url(b), "--with-disks", id, check=False)
        equal(r.returncode, 125)
        contains(r.stderr, text)
        wait_until(lambda: not listed(b), 30, "nothing there")

    refused_with("as well: it cannot move along")
    a.cli("rm", other)
    a.cli("volume", "create", "--kind", "block", "--size", "1m", "w")
    a.cli("snapshot", "create", "--volume", "v", "then")
    refused_with("volume v has snapshots")
    a.cli("snapshot", "rm", "--volume", "v", "then")
    b.cli("volume", "create", "--kind", "block", "--size", "1m", "v")
    refused_with("v")
    equal([v[1] for v in volumes(b)], ["v"])
    b.cli("volume", "rm", "v")
    equal((get(a, id), boots(a, id)), (("a", "A"), 1))
    a.cli("rm", "-f", id)
    id = machine(a, IMAGE, "-v", "v:/v:ro")
    refused_with("only block volumes that it writes to")
    a.cli("rm", "-f", id)
    equal(sorted(v[1] for v in volumes(a)), ["v", "w"])
    equal(volumes(b), [])
    for name in ("v", "w"):
        a.cli("volume", "rm", name)
    clean(p)


@test
def post_copy_refused(p):
    """where QEMU may not serve page faults --post-copy says so before anything has moved"""
    a, b = p
    if page_faults():
        raise Skip("QEMU may serve page faults here (vm.unprivileged_userfaultfd)")
    id = machine(a, IMAGE)
    put(a, id, "a", "A")
    r = a.cli("migrate", "--to", p.url(b), "--with-disks", "--post-copy", id, check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "vm.unprivileged_userfaultfd=1")
    gone(b)
    equal((state(a, id), get(a, id), boots(a, id), status(a, id).get("moves_to")), ("running", ("a", "A"), 1, None))
    a.cli("migrate", "--to", p.url(b), "--with-disks", id)
    equal(get(b, id), ("a", "A"))
    clean(p)


@test
def post_copy(p):
    """the guest runs there before all of its memory does; from then on a cancel is refused; afterwards it is a machine as any other"""
    a, b = p
    need("userfaultfd", page_faults())
    id = machine(a, IMAGE, "--name", "traveller")
    put(a, id, "a", "A")
    mover = between(p, id)
    wait_until(lambda: state(b, id) == "running", 120, "a start there")
    equal(status(b, id).get("arriving"), True)
    r = a.cli("task", "cancel", under_way(a, "follows")["id"], check=False)
    contains(r.stderr, "cannot be called off any more: its guest runs there")
    r = b.cli("suspend", id, check=False)
    contains(r.stderr, "still comes from another daemon")
    mover.send_signal(signal.SIGINT)
    contains(mover.communicate(timeout=300)[1], "cannot be called off any more")
    gone(a)
    wait_until(lambda: not status(b, id).get("arriving"), 60, "its memory")
    equal(listed(b), [(id, "traveller", "running")])
    equal((get(b, id), boots(b, id)), (("a", "A"), 0))
    b.cli("migrate", "--to", p.url(a), "--with-disks", id)  # QEMU has no settings of the first one any more
    equal((get(a, id), boots(a, id)), (("a", "A"), 0))
    clean(p)


@test
def networks(p):
    """its addresses come along, to the network of the same name; without one, or where they are taken, it does not go"""
    a, b = p
    for d in p:
        d.cli("network", "create", "--subnet", "10.91.7.0/24", "lan")
    id = machine(a, IMAGE, "--network", "lan")
    nic = {k: v for k, v in a.show(id)["nics"][0].items() if k != "network_id"}
    put(a, id, "a", "A")
    taken = b.out("create", "--vm", "--network", "lan", "--ip", nic["ipv4"], IMAGE)
    r = a.cli("migrate", "--to", p.url(b), "--with-disks", id, check=False)
    equal(r.returncode, 125)
    contains(r.stderr, nic["ipv4"])
    b.cli("rm", taken)
    b.cli("network", "rm", "lan")
    r = a.cli("migrate", "--to", p.url(b), "--with-disks", id, check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "lan")
    b.cli("network", "create", "--subnet", "10.91.7.0/24", "lan")
    equal((get(a, id), listed(b)), (("a", "A"), []))
    a.cli("migrate", "--to", p.url(b), "--with-disks", id)
    equal({k: v for k, v in b.show(id)["nics"][0].items() if k != "network_id"}, nic)
    equal(get(b, id), ("a", "A"))
    clean(p)
    for d in p:
        d.cli("network", "rm", "lan")


@test
def tickets(p):
    """without a ticket's secret nothing comes, and it is good once"""
    a, b = p
    status_, ticket = b.api("POST", "/v1/projects/default/migrations", {})
    equal(status_, 201)
    path = f"/v1/projects/default/migrations/{ticket['id']}"
    body = {"secret": "0" * 64, "id": "1" * 64, "spec": {"kind": "machine", "image": IMAGE, "root_size": 16 << 20}}
    equal(b.api("POST", path, body)[0], 403)
    equal(b.api("POST", path + "/connect", {"secret": "0" * 64, "channel": "memory"})[0], 403)
    equal(b.api("POST", path + "/connect", {"secret": ticket["secret"], "channel": "memory"})[0], 409)
    body["secret"] = ticket["secret"]
    body["spec"]["root_size"] = 0
    equal(b.api("POST", path, body)[0], 400)
    body["spec"]["root_size"] = 16 << 20
    equal(b.api("POST", path, body)[0], 403)  # it was used
    assert ticket["secret"] not in b.log() and ticket["secret"] not in b.out("task", "ls", "--json")
    equal(listed(b), [])


if __name__ == "__main__":
    run(setup, lambda p: p.close())
