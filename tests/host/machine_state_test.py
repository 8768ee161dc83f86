#!/usr/bin/env python3
"""The state of machines: snapshots with memory, suspend, clones that go on where their original was. On a guest of one sector
(tests/lib/tiny-guest.s), which keeps one character in memory and one on its disk."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import Console, tiny_daemon  # noqa: E402
from machine_state import boots, files, get, machine, put, remove, snapshots, state, status  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"


def setup():
    return tiny_daemon("mstate", IMAGE)


def snapshot(d, id):
    """A disk of A, a memory of a; afterwards both are others."""
    put(d, id, "a", "A")
    d.cli("snapshot", "create", "--memory", id, "then")
    put(d, id, "b", "B")


@test
def snapshot_and_restore(d):
    """memory and disk go back to the same moment, and the guest goes on from there"""
    id = machine(d, IMAGE)
    snapshot(d, id)
    equal(get(d, id), ("b", "B"))
    one = snapshots(d, id)[0]
    equal((one["name"], one["memory"]), ("then", True))
    for _ in range(2):
        d.cli("kill", id)
        d.cli("snapshot", "restore", id, "then")
        equal(state(d, id), "running")
        equal(get(d, id), ("a", "A"))
        equal(boots(d, id), 1)
        equal(files(d, id), ["memory/then/machine.json", "memory/then/memory", "memory/then/state"])
        put(d, id, "c", "C")
    d.cli("stop", id)
    equal(status(d, id)["exit_code"], 0)
    d.cli("snapshot", "rm", id, "then")
    equal(files(d, id), [])
    remove(d, id)


@test
def restore_of_a_running_one(d):
    """is refused, and changes nothing"""
    id = machine(d, IMAGE)
    snapshot(d, id)
    r = d.cli("snapshot", "restore", id, "then", check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "stop it first")
    equal(get(d, id), ("b", "B"))
    remove(d, id)


@test
def tree(d):
    """snapshots with memory of machines that came of snapshots with memory"""
    id = machine(d, IMAGE)
    snapshot(d, id)
    d.cli("snapshot", "create", "--memory", id, "later")
    d.cli("kill", id)
    d.cli("snapshot", "restore", id, "then")
    put(d, id, "d")
    d.cli("snapshot", "create", "--memory", id, "aside")
    tree = {s["name"]: s.get("parent") for s in snapshots(d, id)}
    equal(tree, {"then": None, "later": "then", "aside": "then"})
    d.cli("snapshot", "rm", id, "then")
    for name, expected in (("later", ("b", "B")), ("aside", ("d", "A"))):
        d.cli("kill", id)
        d.cli("snapshot", "restore", id, name)
        equal(get(d, id), expected)
    equal(boots(d, id), 1)
    remove(d, id)


@test
def suspend_and_resume(d):
    """the memory is on disk meanwhile, and is used once"""
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    d.cli("suspend", id)
    equal(state(d, id), "suspended")
    equal(status(d, id)["pid"], 0)
    equal(files(d, id), ["resume/machine.json", "resume/memory", "resume/state"])
    d.cli("start", id)
    equal(get(d, id), ("a", "A"))
    equal((boots(d, id), files(d, id)), (1, []))
    d.cli("kill", id)
    wait_until(lambda: state(d, id) == "exited", 20, "the end")
    d.cli("start", id)
    wait_until(lambda: boots(d, id) == 2, 30, "a start from the beginning")
    equal(get(d, id), ("-", "A"))
    remove(d, id)


@test
def suspended(d):
    """outlives the daemon; stop gives the memory up; a restore of its disk does as well; a policy leaves it alone"""
    id = machine(d, IMAGE, "--restart", "always")
    put(d, id, "a", "A")
    d.cli("snapshot", "create", id, "disk")
    d.cli("suspend", id)
    d.kill()
    d.start()
    equal(state(d, id), "suspended")
    d.cli("start", id)
    equal(get(d, id), ("a", "A"))
    d.cli("suspend", id)
    d.cli("stop", id)
    equal((state(d, id), files(d, id)), ("exited", []))
    d.cli("start", id)
    wait_until(lambda: boots(d, id) == 2, 30, "a start from the beginning")
    put(d, id, "b", "B")
    d.cli("suspend", id)
    d.cli("snapshot", "restore", id, "disk")
    equal((state(d, id), files(d, id)), ("exited", []))
    d.cli("start", id)
    wait_until(lambda: boots(d, id) == 3, 30, "a start from the beginning")
    equal(get(d, id), ("-", "A"))
    remove(d, id)


@test
def paused(d):
    """one that is paused can be saved, stays paused, and runs when it comes back"""
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    d.cli("pause", id)
    d.cli("snapshot", "create", "--memory", id, "then")
    equal(state(d, id), "paused")
    with Console(d, id) as c:
        c.send("x")
        c.silent("x", 0.3)
        d.cli("unpause", id)
        c.expect("x")
    d.cli("pause", id)
    d.cli("suspend", id)
    d.cli("start", id)
    equal((state(d, id), get(d, id)), ("running", ("a", "A")))
    remove(d, id)


@test
def changed_meanwhile(d):
    """a machine that is another one by now does not go on, and says what has changed; nothing is lost"""
    id = machine(d, IMAGE)
    put(d, id, "a")
    d.cli("suspend", id)
    d.cli("update", "-m", "128m", id)
    r = d.cli("start", id, check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "size=131080K now, size=65544K then")
    equal(state(d, id), "suspended")
    d.cli("update", "-m", "64m", id)
    d.cli("start", id)
    equal(get(d, id)[0], "a")
    remove(d, id)


@test
def clones(d):
    """of a running machine, of a snapshot, of one that is suspended: each goes on by itself"""
    id = machine(d, IMAGE, "--name", "first")
    put(d, id, "a", "A")
    one = d.out("clone", "--memory", "first", "second").strip()
    equal((state(d, one), get(d, one), get(d, id)), ("running", ("a", "A"), ("a", "A")))
    put(d, one, "c", "C")
    equal(get(d, id), ("a", "A"))
    d.cli("snapshot", "create", "--memory", id, "then")
    put(d, id, "b", "B")
    for name in ("third", "fourth"):
        d.cli("clone", "--memory", "--snapshot", "then", "first", name)
        equal(get(d, name), ("a", "A"))
        put(d, name, "x", "X")
    d.cli("suspend", "first")
    d.cli("clone", "--memory", "first", "fifth")
    equal(get(d, "fifth"), ("b", "B"))
    d.cli("start", "first")
    equal(get(d, id), ("b", "B"))
    equal([boots(d, n) for n in ("second", "third", "fourth", "fifth")], [0, 0, 0, 0])
    d.cli("suspend", "third")
    d.cli("start", "third")
    equal(get(d, "third"), ("x", "X"))
    ids = [i["id"] for i in d.json("ls", "-a")]
    equal([files(d, i) for i in ids if i != id], [[]] * 4)
    remove(d, *ids)


@test
def clones_with_disks(d):
    """further disks that it writes to are copied with it, and are the clone's own; what is read alone is shared; killed on the way nothing is left"""
    def names():
        return d.out("volume", "ls", "-q").split()

    content = os.urandom(1 << 20)
    for name in "data", "tools":
        d.cli("volume", "import", "--format", "raw", "--kind", "block", "--size", "1m", "-", name, input=content, text=False)
    id = d.out("create", "--vm", "--name", "first", "-m", "64m", "-v", "data:/data", "-v", "tools:/tools:ro", IMAGE)
    before = 2
    one = d.out("clone", "first", "second")
    mine, shared = (m["source"] for m in d.show(one)["spec"]["mounts"])
    equal((mine == "data", shared), (False, "tools"))
    equal(d.cli("volume", "export", "--format", "raw", mine, text=False).stdout, content)
    d.cli("start", id, one)
    for name in "first", "second":
        r = d.cli("clone", name, "third", check=False)
        equal(r.returncode, 125)
        contains(r.stderr, "would not be of one moment")
    d.cli("rm", "-f", one)
    d.cli("kill", id)
    wait_until(lambda: state(d, id) == "exited", 20, "the end")
    equal(sorted(names()), ["data", "tools"])
    for point in "copy.written", "create.filled", "create.reported":
        d.stop()
        d.start(WABE_FAULT=f"both:{point}")
        d.cli("clone", "first", "third", check=False)
        d.kill()
        d.start()
        wait_until(lambda: [len(names()) - before, len(d.json("ls", "-a"))] in ([0, 1], [1, 2]), 60, f"order after {point}")
        d.cli("rm", "-f", *[i["id"] for i in d.json("ls", "-a") if i["id"] != id], check=False)
        wait_until(lambda: (len(names()), len(d.json("ls", "-a"))) == (before, 1), 60, f"nothing left after {point}")
    remove(d, id)
    d.cli("volume", "rm", "data", "tools")


def board(d, id, name=""):
    """What the board remembers, or remembered with a snapshot: variables of UEFI, state of the TPM"""
    found = {}
    for file in "uefi", "tpm/tpm2-00.permall", "tpm/note":
        with open(os.path.join(d.state, "agent/instances", id, name, file), "rb") as f:
            found[file] = f.read()
    return found


def scribble(d, id, text):
    """Over the variables' beginning, which UEFI then makes anew, and beside the TPM's state, which swtpm checks"""
    for file, mode in ("uefi", "r+b"), ("tpm/note", "wb"):
        with open(os.path.join(d.state, "agent/instances", id, file), mode) as f:
            f.write(text)


@test
def what_the_board_remembers(d):
    """Variables of UEFI and the TPM's state go with snapshots, restores and clones, each machine with its own from there on"""
    need("swtpm", shutil.which("swtpm"))
    need("OVMF", os.path.exists("/usr/share/OVMF/OVMF_VARS_4M.fd"))
    id = d.out("run", "--vm", "-d", "-m", "64m", "--firmware", "uefi", "--tpm", "--name", "first", IMAGE).strip()
    tpm = f"{d.state}/agent/instances/{id}/tpm/tpm2-00.permall"
    wait_until(lambda: os.path.exists(tpm) and os.path.getsize(tpm), 60, "the TPM's first state")
    d.cli("kill", id)
    scribble(d, id, b"then")
    then = board(d, id)
    d.cli("snapshot", "create", id, "then")
    equal(board(d, id, "boards/then"), then)
    scribble(d, id, b"now.")
    now = board(d, id)
    d.cli("clone", "first", "second")
    d.cli("clone", "--snapshot", "then", "first", "third")
    one, two = d.show("second")["id"], d.show("third")["id"]
    equal((board(d, one), board(d, two)), (now, then))
    for _ in range(2):
        d.cli("snapshot", "restore", id, "then")
        equal((board(d, id), board(d, one)), (then, now))
    scribble(d, two, b"else")
    d.cli("start", two)
    owner = d.show(two)["uid_base"]
    equal([os.stat(f"{d.state}/agent/instances/{two}/{f}").st_uid for f in ("tpm", "tpm/tpm2-00.permall")], [owner] * 2)
    d.cli("kill", two)
    equal(board(d, id), then)
    d.cli("snapshot", "rm", id, "then")
    assert not os.listdir(f"{d.state}/agent/instances/{id}/boards"), "it goes with its snapshot"
    remove(d, id, one, two)


@test
def bad_input(d):
    """what has no memory to be saved says so, and nothing is left"""
    id = machine(d, IMAGE)
    d.cli("snapshot", "create", id, "disk")
    for args, text in ((["clone", "--memory", "--snapshot", "disk", id], "memory"),
                       (["clone", "--memory", "--snapshot", "none", id], "none"),
                       (["snapshot", "restore", id, "none"], "none")):
        r = d.cli(*args, check=False)
        equal(r.returncode, 125, r.stderr)
        contains(r.stderr, text)
    d.cli("kill", id)
    wait_until(lambda: state(d, id) == "exited", 20, "the end")
    for args in (["snapshot", "create", "--memory", id], ["suspend", id], ["clone", "--memory", id]):
        r = d.cli(*args, check=False)
        equal(r.returncode, 125, r.stderr)
    equal(len(d.json("ls", "-a")), 1)
    equal([s["name"] for s in snapshots(d, id)], ["disk"])
    equal(files(d, id), [])
    d.cli("volume", "create", "v")
    r = d.cli("snapshot", "create", "--memory", "--volume", "v", check=False)
    contains(r.stderr, "memory")
    d.cli("volume", "rm", "v")
    remove(d, id)


if __name__ == "__main__":
    run(setup, lambda d: d.close())
