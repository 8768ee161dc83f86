"""Whether a daemon's three pictures of its instances agree, and whether anything is there that none of them knows."""
import glob
import json
import os
import signal
import sqlite3
import subprocess

from wabe import wait_until


def listing(path):
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def store_ids(d):
    """Ids of instances in the store's file."""
    db = sqlite3.connect(f"file:{d.state}/control/store.db?mode=ro", uri=True)
    try:
        return {key.rsplit("/", 1)[1] for (key,) in db.execute("SELECT key FROM items WHERE key LIKE 'instances/%'")}
    finally:
        db.close()


def records(d):
    """{id: record} of the agent."""
    found = {}
    for path in glob.glob(d.state + "/agent/instances/[0-9a-f]*/record.json"):
        with open(path) as f:
            found[path.split("/")[-2]] = json.load(f)["instance"]
    return found


def processes_of(d):
    """{instance id: pids in its control groups}"""
    found = {}
    for g in d.leftovers()["groups"]:
        try:
            with open(g + "/cgroup.procs") as f:
                found.setdefault(os.path.basename(g), set()).update(f.read().split())
        except OSError:
            pass
    return found


def workers(d):
    """Children of the agent that are no shims."""
    found = []
    agent = d.pids()["agent"]
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                pid, rest = f.read().split(" (", 1)
        except OSError:
            continue
        name, rest = rest.rsplit(") ", 1)
        if int(rest.split()[1]) == agent and name != "wabe-shim":
            found.append((int(pid), name, rest.split()[0]))
    return found


def control_killed(d, point, *command):
    """SIGKILL of control while a worker of the command's is at that place; the worker goes on to its end. Then another daemon, without faults."""
    d.stop()
    d.start(WABE_FAULT=f"hold:{point}")
    client = subprocess.Popen(d.line(*command), env=d.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    held = wait_until(lambda: client.poll() is not None or [p for p, _, state in workers(d) if state == "T"], 120, f"a worker at {point}")
    assert held is not True, f"{command} did not come by {point}"
    control = d.pids()["control"]
    os.kill(d.process.pid, signal.SIGSTOP)  # else another control comes, and its workers to the same place
    os.kill(control, signal.SIGKILL)
    client.wait(60)
    for pid in held:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not any(pid in held for pid, _, _ in workers(d)), 60, f"the end of what was at {point}")
    d.kill()
    d.start()


def problems(d):
    """What does not fit together, as texts; nothing when all is well."""
    wrong = []
    shown = {i["id"]: i for i in json.loads(d.out("ls", "-a", "--json"))}
    have, stored = records(d), store_ids(d)
    if not shown.keys() == have.keys() == stored:
        wrong.append(f"instances: shown {sorted(i[:12] for i in shown)}, agent {sorted(i[:12] for i in have)}, "
                     f"store {sorted(i[:12] for i in stored)}")
    for id in shown.keys() & have.keys():
        a, b = shown[id]["status"], have[id]["status"]
        if a != b:
            wrong.append(f"status of {id[:12]}: shown {a}, agent {b}")
    up = {id for id, i in have.items() if i["status"]["state"] in ("running", "paused")}
    left = d.leftovers()
    if left["mounts"]:
        wrong.append(f"mounts {left['mounts']}")
    groups = {os.path.basename(g) for g in left["groups"]}
    if groups != up:
        wrong.append(f"control groups of {sorted(groups)}, running are {sorted(up)}")
    if set(left["instances"]) != have.keys():
        wrong.append(f"directories {left['instances']}")
    if not set(left["run"]) <= have.keys():
        wrong.append(f"run directories {left['run']}")
    if len(left["shims"]) != len(up):
        wrong.append(f"{len(left['shims'])} shims, running are {len(up)}")
    for place, name in (("layers", "."), ("tmp", "")):
        rest = [n for n in listing(f"{d.state}/agent/{place}") if n.startswith(name)]
        if rest:
            wrong.append(f"in {place}: {rest}")
    bases = [i["uid_base"] for i in have.values() if i.get("uid_base")]
    if len(set(bases)) != len(bases):
        wrong.append(f"user id ranges {sorted(bases)}")
    if workers(d):
        wrong.append(f"processes of the agent {workers(d)}")
    return wrong


def consistent(d, seconds=60):
    """Waits until all agrees: what a crash has left is put away in the background."""
    try:
        wait_until(lambda: not problems(d), seconds, "agreement")
    except AssertionError:
        raise AssertionError("\n".join(problems(d)) + "\n" + d.log()) from None


def empty(d, seconds=60):
    """As consistent, with no instance at all."""
    for id in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", id)
    consistent(d, seconds)
    assert not any(d.leftovers().values()), d.leftovers()
