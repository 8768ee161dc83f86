#!/usr/bin/env python3
"""Who a clone is that goes on with its original's memory: a guest with an agent learns it, one without stays off the network."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine_state import agent_guest, inside, remove  # noqa: E402
from tap import contains, equal, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

KERNEL = "agent:1"
ARGS = "console=ttyS0 quiet panic=-1 random.trust_cpu=off"


def setup():
    d = Daemon("mclone", network=None)
    try:
        d.start()
        agent_guest(d, KERNEL)
    except BaseException:
        d.close()
        raise
    return d


def nic(d, id):
    return d.json("show", id)["nics"][0]


def identity_file(d, id):
    return os.path.exists(f"{d.state}/agent/instances/{id}/identity")


@test
def identity(d):
    """host name, machine id, address of the card, random numbers: the clone's own; the original keeps its"""
    one = d.out("run", "--vm", "-d", "-m", "256m", "--root-size", "16m", "--kernel", KERNEL, "--kernel-args", ARGS, "--name", "first",
                "scratch").strip()
    contains(inside(d, one, "/bin/cat", "/sys/class/net/eth0/address"), nic(d, one)["mac"])
    d.cli("clone", "--memory", "first", "second")
    two = d.json("show", "second")["id"]
    wait_until(lambda: not identity_file(d, two), 120, "the clone's identity")
    assert nic(d, two)["mac"] != nic(d, one)["mac"]
    for id, host, machine_id in ((one, "original", "0" * 32), (two, "second", two[:32])):
        told = inside(d, id, "/bin/cat", "/proc/sys/kernel/hostname", "/etc/hostname", "/etc/machine-id")
        equal(told.split(), [host, host, machine_id])
        equal(inside(d, id, "/bin/cat", "/sys/class/net/eth0/address").strip(), nic(d, id)["mac"])
        wait_until(lambda: inside(d, id, "/bin/cat", "/sys/class/net/eth0/carrier").strip() == "1", 30, "the card's carrier")
    contains(inside(d, two, "/bin/cat", "/etc/hosts"), "second.example second")
    random = [inside(d, id, "/bin/cat", "/proc/sys/kernel/random/uuid") for id in (one, two)]
    assert random[0] != random[1], random
    remove(d, "first", "second")


if __name__ == "__main__":
    run(setup, lambda d: d.close())
