#!/usr/bin/env python3
"""SIGKILL at each step of a machine's move from one daemon to another, on either side: afterwards one of them has it, whole, and the
other one nothing. WABE_TEST_LONG=1 adds
the deaths of one process alone, of QEMU, and all steps."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import qemu_of  # noqa: E402
from machine_state import boots, get, machine, put, state, status  # noqa: E402
from migrate import Pair, between, clean, gone, listed, page_faults, qemu_below, volumes  # noqa: E402
from tap import LONG, contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"
SOURCE = ["migrate.noted-begin", "migrate.ready", "migrate.secure", "migrate.disk", "migrate.copied", "migrate.halted", "migrate.drained",
          "migrate.sent", "migrate.told", "migrate.noted", "migrate.ended"]
TARGET = ["start.marked", "start.created", "receive.serving", "receive.ready", "receive.loaded"]
USED = ["start.recorded", "memory.gone", "receive.told"]
REST = ["migrate.follows", "migrate.noted", "migrate.ended", "migrate.noted-rest", "migrate.told"]
REST_TARGET = ["receive.loaded", "arrival.whole"]
SHORT = ["migrate.sent", "migrate.told", "receive.loaded", "memory.gone"]


def setup():
    return Pair(IMAGE)


def settled(p):
    """One has it, and nothing is under way."""
    def look():
        all = [listed(d) for d in p]
        if sum(map(len, all)) != 1:
            return None
        d = list(p)[0 if all[0] else 1]
        return d if state(d, all[0 if all[0] else 1][0][0]) in ("running", "exited") and \
            not {"moves_to", "arriving"} & {k for k, v in status(d, (all[0] or all[1])[0][0]).items() if v} else None
    return wait_until(look, 90, f"an end: {[listed(d) for d in p]}")


def killed(d):
    """How many of its workers so far."""
    with open(d.log_path, errors="replace") as f:
        return f.read().count("was ended by signal 9")


def life(p, side, fault, post_copy=False, volume=False):
    a, b = p
    if volume:
        a.cli("volume", "create", "--kind", "block", "--size", "1m", "v")
    had = volumes(a)
    id = machine(a, IMAGE, *(["-v", "v:/v"] if volume else []))
    put(a, id, "a", "A")
    d = a if side == "source" else b
    d.stop()
    d.start(WABE_FAULT=fault)
    if post_copy:
        before = killed(d)
        mover = between(p, id, False)
        wait_until(lambda: killed(d) > before, 300, "the fault")
    else:
        a.cli("migrate", "--to", p.url(b), "--with-disks", id, check=False)
    d.stop()
    d.start()
    if post_copy:
        mover.communicate(timeout=300)
    where = settled(p)
    wait_until(lambda: volumes(where) == had and not volumes(a if where is b else b), 30, f"its volumes alone: {list(map(volumes, p))}")
    if state(where, id) == "running":
        wait_until(lambda: boots(where, id) <= (where is a), 5, "no start from the beginning")
        equal(get(where, id), ("a", "A"))
    else:  # from the record on that it runs there its end is that of any run
        equal((where is b, fault.split(":")[1] in USED), (True, True))
        where.cli("start", id)
        wait_until(lambda: boots(where, id) == 1, 30, "a start from the beginning")
        equal(get(where, id)[1], "A")
    clean(p)
    if volume:
        where.cli("volume", "rm", "v")


def fault_test(side, points, who):
    def faults(p):
        for point in points:
            try:
                life(p, side, f"{who}:{point}")
            except BaseException as e:
                raise AssertionError(f"{who}:{point}: {e}\n{[d.log()[-1500:] for d in p]}") from e
    faults.__name__ = f"{side}_{who}"
    faults.__doc__ = f"SIGKILL of {'agent and worker' if who == 'both' else who} of the {side} at {len(points)} steps"
    test(faults)


def begun(p):
    """A machine whose memory is on its way, and the process that moves it."""
    a, b = p
    id = machine(a, IMAGE)
    put(a, id, "a", "A")
    mover = subprocess.Popen(a.line("migrate", "--to", p.url(b), "--with-disks", "--bandwidth", "16k", id), env=a.env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: [t for t in a.api("GET", "/v1/projects/default/tasks")[1]["tasks"]
                        if t["state"] == "running" and "memory" in t.get("message", "")], 60, "its memory")
    return id, mover


@test
def deaths_of_roles(p):
    """SIGKILL of control or agent on either side while the memory is sent: the guest goes on where it was"""
    a, b = p
    all = [(d, role) for d in p for role in ("control", "agent")]
    for d, role in all if LONG else all[::3]:
        id, mover = begun(p)
        os.kill(d.pids()[role], signal.SIGKILL)
        mover.wait(90)
        wait_until(lambda: [listed(b), listed(a)] == [[], [(id, listed(a)[0][1], "running")]] and
                   not status(a, id).get("moves_to"), 90, f"an end after the death of {role}")
        equal((get(a, id), boots(a, id)), (("a", "A"), 1))
        clean(p)


def deaths_of_machines(p):
    """SIGKILL of QEMU on either side while the memory is sent: an end as any other, or none at all"""
    a, b = p
    id, mover = begun(p)
    os.kill(qemu_below(b), signal.SIGKILL)
    equal(mover.wait(90), 125)
    wait_until(lambda: not listed(b) and not status(a, id).get("moves_to"), 90, "an end")
    equal((state(a, id), get(a, id), boots(a, id)), ("running", ("a", "A"), 1))
    clean(p)
    id, mover = begun(p)
    os.kill(qemu_of(a, id), signal.SIGKILL)
    equal(mover.wait(90), 125)
    wait_until(lambda: not listed(b) and state(a, id) == "exited" and not status(a, id).get("moves_to"), 90, "an end")
    equal(status(a, id)["exit_code"], 137)
    a.cli("start", id)
    wait_until(lambda: boots(a, id) == 2, 30, "a start from the beginning")
    equal(get(a, id)[1], "A")
    clean(p)


@test
def with_a_volume(p):
    """SIGKILL of agent and worker at some of the steps of one that has a volume: that is where the machine is, and nowhere else"""
    steps = ("source", "migrate.copied"), ("target", "receive.serving"), ("target", "start.recorded"), ("source", "migrate.ended")
    for side, point in steps:
        try:
            life(p, side, f"both:{point}", volume=True)
        except BaseException as e:
            raise AssertionError(f"{point}: {e}\n{[d.log()[-1500:] for d in p]}") from e


def post_copy(p):
    """SIGKILL at each of its steps, of the one that takes it"""
    need("userfaultfd", page_faults())
    a, b = p
    for side, points in (("source", REST), ("target", REST_TARGET)):
        for point in points:
            try:
                life(p, side, f"worker:{point}", True)
            except BaseException as e:
                raise AssertionError(f"{point}: {e}\n{[d.log()[-1500:] for d in p]}") from e


def post_copy_roles(p):
    """SIGKILL of all roles of both while the rest of the memory follows"""
    need("userfaultfd", page_faults())
    a, b = p
    id = machine(a, IMAGE)
    put(a, id, "a", "A")
    mover = between(p, id)
    for d in p:
        for role in ("agent", "control"):
            os.kill(d.pids()[role], signal.SIGKILL)
    mover.wait(90)
    equal(settled(p), b)
    equal((get(b, id), boots(b, id)), (("a", "A"), 0))
    gone(a)
    clean(p)


def post_copy_deaths(p):
    """of QEMU on either side while the rest of the memory follows: the guest has ended where the machine went, and says why"""
    need("userfaultfd", page_faults())
    a, b = p
    for d in p:
        id = machine(a, IMAGE)
        put(a, id, "a", "A")
        mover = between(p, id)
        wait_until(lambda: state(b, id) == "running", 120, "a start there")
        os.kill(qemu_of(d, id), signal.SIGKILL)
        contains(mover.communicate(timeout=90)[1], "was lost")
        equal(mover.returncode, 125)
        gone(a)
        wait_until(lambda: state(b, id) == "exited", 90, "its end")
        contains(status(b, id)["error"], "before the rest of its memory had come")
        equal(status(b, id).get("arriving", False), False)
        b.cli("start", id)
        wait_until(lambda: boots(b, id) == 1, 90, "a start from the beginning")
        equal(get(b, id)[1], "A")
        clean(p)


if page_faults() or LONG:
    test(post_copy)
    test(post_copy_roles)
    test(post_copy_deaths)
if LONG:
    test(deaths_of_machines)
for side, points in (("source", SOURCE), ("target", TARGET + USED)):
    for who in ("worker", "agent", "both") if LONG else ("worker",):
        fault_test(side, [x for x in points if LONG or x in SHORT], who)


if __name__ == "__main__":
    run(setup, lambda p: p.close())
