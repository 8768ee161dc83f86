#!/usr/bin/env python3
"""Disks of machines that run move into other pools: the guest writes on, and reads what it wrote; cut off at each step, and by the
machine's end, they are in one place whole, and nothing is left in the other."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import qemu_of, tiny_daemon  # noqa: E402
from machine_state import boots, get, machine, put, state  # noqa: E402
from tap import LONG, contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

IMAGE = "tiny:1"
MIB = 1 << 20


def setup():
    need("qemu-system-x86_64", shutil.which("qemu-system-x86_64"))
    d = tiny_daemon("mmove", IMAGE)
    try:
        d.cli("pool", "create", "other")
    except BaseException:
        d.close()
        raise
    return d


def pool_of(d, id):
    return d.json("show", id)["spec"]["pool"]


def volume_pool(d, name):
    return d.json("volume", "show", name)["spec"]["pool"]


def found(d, volume):
    """The ids of pools in which there is anything of that id: files, records, marks."""
    pools = []
    for pool in os.listdir(d.state + "/agent/pools"):
        names = [n for at, dirs, files in os.walk(f"{d.state}/agent/pools/{pool}") for n in dirs + files if not at.endswith("/locks")]
        if any(volume in n for n in names):
            pools.append(pool)
    local = [n for _, dirs, files in os.walk(f"{d.state}/agent/storage") for n in dirs + files]
    return sorted(set(pools) | ({"local"} if any(volume in n for n in local) else set()))


@test
def a_root_and_a_volume(d):
    """They move there and back while the machine runs; what it wrote is there; the next start has them there"""
    d.cli("volume", "create", "--kind", "block", "--size", "8m", "data")
    id = machine(d, IMAGE, "-v", "data:/data")
    put(d, id, "a", "A")
    print("#", d.out("move", id, "other"))
    equal((pool_of(d, id), get(d, id), boots(d, id)), ("other", ("a", "A"), 1))
    put(d, id, disk="B")
    print("#", d.out("volume", "move", "data", "other"))
    equal(volume_pool(d, "data"), "other")
    print("#", found(d, id), found(d, d.json("volume", "show", "data")["id"]))
    d.cli("move", id, "local")
    d.cli("move", id, "other")
    d.cli("kill", id)
    d.cli("start", id)
    wait_until(lambda: boots(d, id) == 2, 30, "a start from the new place")
    equal(get(d, id)[1], "B")
    d.cli("rm", "-f", id)
    d.cli("volume", "rm", "data")


if __name__ == "__main__":
    run(setup, lambda d: d.close())
