#!/usr/bin/env python3
"""Crashes and full disks: whatever process ends wherever, a private daemon comes back consistent and leaks nothing.
With WABE_TEST_LONG=1 storms are longer."""
import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from consistent import consistent, control_killed, empty, listing, records
from tap import LONG, contains, equal, need, note, run, test
from wabe import WABE, Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"
STUBBORN = ("sh", "-c", "trap '' TERM; sleep 1000")

CREATE = ["create.dir", "create.filled", "create.record", "create.renamed", "create.reported"]
START = ["start.locked", "start.marked", "start.configured", "start.created", "start.written", "start.started",
         "start.recorded", "start.reported", "start.exec"]
STOP = ["stop.locked", "stop.signalled", "stop.killed", "reap.begin", "reap.killed", "reap.destroyed", "reap.recorded",
        "reap.removed", "stop.reaped"]
REMOVE = ["delete.locked", "reap.begin", "reap.killed", "reap.destroyed", "reap.recorded", "reap.removed",
          "delete.reaped", "delete.renamed", "delete.run"]


def setup():
    d = Daemon("faults")
    try:
        d.start()
        d.cli("image", "import", busybox_rootfs(d.dir + "/busybox.tar"), IMAGE)
    except BaseException:
        d.close()
        raise
    return d


def end(d):
    """Ends the daemon as an administrator does, whatever its roles are doing."""
    if d.process:
        d.stop()


def clean(d):
    if d.process is None or d.process.poll() is not None:
        d.process = None
        d.start()
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)


def quietly(d, *args):
    """A command that a crash may make fail; it must end by itself."""
    return d.cli(*args, check=False).returncode


def kill(d, role):
    try:
        os.kill(d.pids()[role], signal.SIGKILL)
    except (KeyError, ProcessLookupError):
        pass  # it is being started again


# ---- named places ----
def life_with_fault(d, fault, stages):
    """The last of the stages meets the fault. Then a daemon without it takes over."""
    end(d)
    d.start(WABE_FAULT=fault)
    for args in stages:
        quietly(d, *args)
    end(d)
    d.start()
    consistent(d)
    names = d.out("ls", "-a", "--json")
    for i in json.loads(names):
        if i["status"]["state"] not in ("running", "restarting"):
            d.cli("start", i["id"])
        equal(d.out("exec", i["id"], "echo", "alive"), "alive")
    equal(d.out("run", "--rm", IMAGE, "echo", "new"), "new")
    d.cli("create", "--name", "again", IMAGE, "true")  # also: no name stays taken
    d.cli("rm", "again")
    empty(d)


LIVES = {
    "create": (CREATE, [("create", "--name", "f", IMAGE, *STUBBORN)]),
    "start": (START, [("create", "--name", "f", IMAGE, *STUBBORN), ("start", "f")]),
    "stop": (STOP, [("run", "-d", "--name", "f", IMAGE, *STUBBORN), ("stop", "-t", "0", "f")]),
    "rm": (REMOVE, [("run", "-d", "--name", "f", IMAGE, *STUBBORN), ("rm", "-f", "f")]),
}


def fault_test(verb, who):
    points, stages = LIVES[verb]

    def faults(d):
        for point in points:
            try:
                life_with_fault(d, f"{who}:{point}", stages)
            except BaseException as e:
                raise AssertionError(f"{who}:{point}: {e}") from e
    faults.__name__ = f"{verb}_with_{who}_killed"
    faults.__doc__ = f"{verb}: SIGKILL of {'agent and worker' if who == 'both' else who} at each of its {len(points)} steps"
    test(faults)


for verb in LIVES:
    for who in ("worker", "agent", "both"):
        fault_test(verb, who)


@test
def a_restart_keeps_exit_statuses(d):
    """the exit status of a stop is right at once, also after kills of both roles"""
    for round in range(5):
        name = f"tough{round}"
        d.cli("run", "-d", "--name", name, IMAGE, "sh", "-c", "trap 'exit 11' TERM; echo up; while :; do sleep 0.05; done")
        wait_until(lambda: "up" in d.out("logs", name), 60, "the trap")
        for role in ("control", "agent", "control"):
            before = d.pids()[role]
            kill(d, role)
            wait_until(lambda: d.pids().get(role, before) != before, 60, f"a new {role}")
        d.cli("stop", name)
        status = d.show(name)["status"]
        equal((status["state"], status["exit_code"]), ("exited", 11), f"round {round}")
        d.cli("rm", name)
    empty(d)


@test
def mounts_with_control_killed(d):
    """a volume that comes to a running instance or leaves it while control is killed: instance, agent and store agree about it"""
    end(d)
    d.start()
    d.cli("volume", "create", "v")
    d.cli("run", "-d", "--name", "f", IMAGE, *STUBBORN)
    id = d.show("f")["id"]

    def seen():
        return (" /v " in d.out("exec", "f", "cat", "/proc/mounts"), bool(d.show("f")["spec"].get("mounts")),
                bool(records(d)[id]["spec"].get("mounts")))

    def agreed(point):
        wait_until(lambda: len(set(seen())) == 1, 60, f"agreement after {point}: {seen()}")
        return seen()[0]

    for verb, points in (("attach", ("attach.noted", "attach.mounted", "attach.done", "update.saved")),
                         ("detach", ("detach.noted", "detach.unmounted", "detach.forgotten", "update.saved"))):
        for point in points:
            if agreed(point) == (verb == "attach"):
                d.cli("volume", *(("detach", "v", "f") if verb == "attach" else ("attach", "v", "f", "/v")))
            control_killed(d, point, "volume", verb, "v", "f", *(["/v"] if verb == "attach" else []))
            agreed(f"{verb} at {point}")
    if agreed("all"):
        d.cli("volume", "detach", "v", "f")
    equal(seen(), (False, False, False))
    d.cli("rm", "-f", "f")
    d.cli("volume", "rm", "v")
    empty(d)


# ---- random moments ----
def storm(d, work, seconds, threads=3, roles=("agent", "control")):
    """Runs work(number, random) on threads while roles are killed at random."""
    stop = threading.Event()
    begun = []

    def one(n):
        chance = random.Random(n)
        while not stop.is_set():
            begun.append(n)
            work(f"{n}-{len(begun)}", chance)

    kills = 0
    until = time.monotonic() + seconds * (5 if LONG else 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(one, n) for n in range(threads)]
        try:
            while time.monotonic() < until and not any(r.done() for r in running):
                time.sleep(random.uniform(0.05, 0.8))
                kill(d, random.choice(roles))
                kills += 1
                wait_until(lambda: len(d.pids()) == 2, 60, "both roles")
                if kills % 3:  # else amid what they do first
                    d.cli("info", check=False)
        finally:
            stop.set()
        for r in running:
            r.result(300)
    note(f"{len(begun)} rounds, {kills} kills")
    assert len(begun) > threads, "nothing went on"
    wait_until(lambda: d.cli("ls", check=False).returncode == 0, 60, "an answer")


@test
def storm_of_instances(d):
    """agent and control killed at random amid run, create, start, exec, stop, rm: consistent, nothing leaks"""
    steady = d.out("run", "-d", "--name", "steady", IMAGE, "sh", "-c",
                   "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done")
    pid = d.show(steady)["status"]["pid"]

    def work(n, chance):
        name = "s" + n
        if chance.random() < 0.5:
            quietly(d, "run", "--rm", "--name", name, IMAGE, "true")
            return
        quietly(d, "create", "--name", name, IMAGE, "sleep", "1000")
        quietly(d, "start", name)
        quietly(d, "exec", name, "true")
        quietly(d, "stop", "-t", "0", name)
        quietly(d, "rm", "-f", name)

    storm(d, work, 12)
    consistent(d)
    equal(d.show(steady)["status"]["pid"], pid)
    lines = [int(x) for x in d.out("logs", steady).split()]
    equal(lines, list(range(len(lines))), "the log of the one that ran all the time")
    equal(d.out("run", "--rm", IMAGE, "echo", "works"), "works")
    empty(d)


@test
def storm_of_whole_daemons(d):
    """agent, control and their parent killed together amid a storm: the next daemon puts all in order"""
    for _ in range(10 if LONG else 3):
        workers = [subprocess.Popen(d.line("run", "-d", "--name", f"w{i}", IMAGE, "sleep", "1000"), env=d.env,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for i in range(5)]
        time.sleep(random.uniform(0.05, 0.5))
        for pid in [d.process.pid, *d.pids().values()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        d.process.wait()
        d.process.stdout.close()
        for w in workers:
            w.wait(60)
        d.start()
        consistent(d)
        empty(d)


@test
def storm_of_images(d):
    """control and agent killed at random amid pull, load, commit, rm of images: no half image, no litter"""
    d.cli("create", "--name", "src", IMAGE, "sleep", "1000")
    with tempfile.TemporaryDirectory(dir=d.dir) as t:
        d.cli("image", "save", "-o", t + "/saved.tar", IMAGE)

        def work(n, chance):
            what = chance.randrange(3)
            if what == 0:
                quietly(d, "commit", "src", f"committed:{n}")
                quietly(d, "image", "rm", f"committed:{n}")
            elif what == 1:
                quietly(d, "image", "load", "-i", t + "/saved.tar")
            else:
                quietly(d, "image", "import", d.dir + "/busybox.tar", f"imported:{n}")
                quietly(d, "image", "rm", f"imported:{n}")

        storm(d, work, 12)
    usable(d)
    d.cli("rm", "src")
    d.cli("image", "prune")
    empty(d)


def usable(d):
    """Every image that is shown can be run."""
    images = json.loads(d.out("image", "ls", "--json"))
    assert images
    for i in images:
        equal(d.out("run", "--rm", i["id"], "echo", "whole"), "whole", i["id"])


# ---- leaks over time ----
def measures(d):
    """{role: (descriptors, resident KiB, zombies)}"""
    found = {}
    for role, pid in d.pids().items():
        with open(f"/proc/{pid}/status") as f:
            rss = [int(line.split()[1]) for line in f if line.startswith("VmRSS:")][0]
        zombies = 0
        for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
            try:
                zombies += open(f"/proc/{child}/stat").read().rsplit(") ", 1)[1][0] == "Z"
            except FileNotFoundError:
                pass
        found[role] = (len(os.listdir(f"/proc/{pid}/fd")), rss, zombies)
    return found


@test
def many_runs_leak_nothing(d):
    """after 200 run --rm descriptors and memory of agent and control are what they were, and nobody is a zombie"""
    def runs(n):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for r in pool.map(lambda _: d.out("run", "--rm", IMAGE, "echo", "x"), range(n)):
                equal(r, "x")
        empty(d)

    end(d)  # what earlier tests have left in memory is not this one's matter
    d.start()
    runs(100)
    before = measures(d)
    runs(1000 if LONG else 200)

    def flat():
        now = measures(d)
        return all(now[role][0] <= before[role][0] + 2 and not now[role][2] for role in before)

    try:
        wait_until(flat, 30, "as many descriptors as before")
    finally:
        now = measures(d)
        note(f"before {before}, after {now}")
    for role in before:
        if "build-asan" not in WABE:  # sanitizers keep freed memory in quarantine
            assert now[role][1] < before[role][1] * 1.25 + 1024, f"memory of {role}: {before[role]}, {now[role]}"


run(setup, lambda d: d and d.close(), clean)
