#!/usr/bin/env python3
"""SIGKILL at each step of saving and taking up the memory of machines: finished or undone, the guest goes on, nothing is left.
WABE_TEST_LONG=1 adds the deaths of one of them alone."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import tiny_daemon  # noqa: E402
from machine_state import boots, files, get, machine, put, remove, snapshots, state  # noqa: E402
from tap import LONG, equal, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"
SAVE = ["memory.opened", "memory.begun", "memory.split"]
KEEP = ["memory.written", "memory.kept"]
LOAD = ["start.marked", "start.configured", "start.created", "start.started", "memory.loaded"]


def setup():
    return tiny_daemon("mfault", IMAGE)


def with_fault(d, fault, *args):
    """The daemon of that fault does it, and another one takes over."""
    d.stop()
    d.start(WABE_FAULT=fault)
    d.cli(*args, check=False)
    d.stop()
    d.start()


def settled(d, id):
    return wait_until(lambda: state(d, id) in ("running", "suspended", "exited") and state(d, id), 30, "a state")


def snapshot_life(d, fault):
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    with_fault(d, fault, "snapshot", "create", "--memory", id, "then")
    equal((settled(d, id), get(d, id), boots(d, id)), ("running", ("a", "A"), 1))
    if not snapshots(d, id):
        equal(files(d, id), [])
        d.cli("snapshot", "create", "--memory", id, "then")
    put(d, id, "b", "B")
    d.cli("kill", id)
    d.cli("snapshot", "restore", id, "then")
    equal((get(d, id), boots(d, id)), (("a", "A"), 1))
    remove(d, id)


def suspend_life(d, fault):
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    with_fault(d, fault, "suspend", id)
    if settled(d, id) == "running":
        equal(files(d, id), [])
    else:
        equal(state(d, id), "suspended")
        d.cli("start", id)
    equal((get(d, id), boots(d, id), files(d, id)), (("a", "A"), 1, []))
    remove(d, id)


def resume_life(d, fault):
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    d.cli("suspend", id)
    with_fault(d, fault, "start", id)
    if settled(d, id) == "suspended":
        d.cli("start", id)
    equal((get(d, id), boots(d, id), files(d, id)), (("a", "A"), 1, []))
    remove(d, id)


def used_life(d, fault):
    """From there on the memory is used: the end is that of any run."""
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    d.cli("suspend", id)
    with_fault(d, fault, "start", id)
    if settled(d, id) == "exited":
        d.cli("start", id)
        wait_until(lambda: boots(d, id) == 2, 30, "a start from the beginning")
    equal((get(d, id)[1], files(d, id)), ("A", []))
    remove(d, id)


def restore_life(d, fault):
    id = machine(d, IMAGE)
    put(d, id, "a", "A")
    d.cli("snapshot", "create", "--memory", id, "then")
    put(d, id, "b", "B")
    d.cli("kill", id)
    with_fault(d, fault, "snapshot", "restore", id, "then")
    if settled(d, id) != "running":
        d.cli("snapshot", "restore", id, "then")
    equal((get(d, id), boots(d, id)), (("a", "A"), 1))
    remove(d, id)


def clone_life(d, fault):
    id = machine(d, IMAGE, "--name", "first")
    put(d, id, "a", "A")
    with_fault(d, fault, "clone", "--memory", "first", "second")
    equal((settled(d, id), get(d, id), boots(d, id), files(d, id)), ("running", ("a", "A"), 1, []))
    names = [i["spec"]["name"] for i in d.json("ls", "-a")]
    if "second" in names:
        d.cli("rm", "-f", "second")
    d.cli("clone", "--memory", "first", "second")
    equal(get(d, "second"), ("a", "A"))
    remove(d, "first", "second")


LIVES = {
    "snapshot": (snapshot_life, [*SAVE, "snapshot.synced", "snapshot.taken", *KEEP]),
    "suspend": (suspend_life, [*SAVE, *KEEP, "suspend.ended", "reap.begin", "reap.destroyed", "reap.recorded", "reap.removed"]),
    "resume": (resume_life, LOAD),
    "used": (used_life, ["start.recorded", "memory.gone", "memory.dropped", "start.reported"]),
    "restore": (restore_life, ["restore.closed", "restore.done", "restore.memory"]),
    "clone": (clone_life, [*SAVE, "root.made", *KEEP, "create.root", "create.renamed"]),
}


def fault_test(name, who):
    life, points = LIVES[name]

    def faults(d):
        for point in points:
            try:
                life(d, f"{who}:{point}")
            except BaseException as e:
                raise AssertionError(f"{who}:{point}: {e}") from e
    faults.__name__ = f"{name}_with_{who}_killed"
    faults.__doc__ = f"{name}: SIGKILL of {'agent and worker' if who == 'both' else who} at each of its {len(points)} steps"
    test(faults)


for name in LIVES:
    for who in ("worker", "agent", "both") if LONG else ("both",):
        fault_test(name, who)


if __name__ == "__main__":
    run(setup, lambda d: d.close())
