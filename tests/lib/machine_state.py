"""Machines of tests/lib/tiny-guest.s, which keep one character in memory and one on their disk; and what wabe keeps of them."""
import json
import os

from machine import Console
from wabe import wait_until


def machine(d, image, *args):
    """A machine that has come up: its id."""
    id = d.out("run", "--vm", "-d", "-m", "64m", *args, image).strip()
    wait_until(lambda: "tiny guest is up" in d.out("logs", id), 30, "the guest's first words")
    return id


def snapshots(d, id):
    return json.loads(d.out("snapshot", "ls", "--json", id))["snapshots"]


def status(d, id):
    return d.json("show", id)["status"]


def state(d, id):
    return status(d, id)["state"]


def put(d, id, memory=None, disk=None):
    with Console(d, id) as c:
        if memory:
            c.send("s" + memory)
        if disk:
            c.send("w" + disk)
            c.expect("W")
        c.send("g")
        c.expect(memory or "")


def get(d, id):
    """What it has in memory, and on its disk."""
    with Console(d, id) as c:
        c.send(".g")
        c.expect(".")
        while not c.seen:
            assert c.read(30)
        memory, c.seen = c.seen[0], c.seen[1:]
        c.send(".r")
        c.expect(".")
        while not c.seen:
            assert c.read(30)
        return memory, c.seen[0]


def boots(d, id):
    return d.out("logs", id).count("tiny guest is up")


def files(d, id):
    """What lies beneath its directory of saved memory."""
    top = f"{d.state}/agent/instances/{id}"
    found = [os.path.join(at, f)[len(top) + 1:] for at, _, names in os.walk(top) for f in names]
    return sorted(f for f in found if f.split("/")[0] in ("memory", "resume", "saving", "dropped"))


def remove(d, *ids):
    for id in ids:
        d.cli("rm", "-f", id)
    wait_until(lambda: not any(d.leftovers().values()), 20, f"removal of everything: {d.leftovers()}")
