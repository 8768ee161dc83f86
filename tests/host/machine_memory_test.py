#!/usr/bin/env python3
"""A Linux guest that writes into its memory on and on, and looks whether it finds again what it wrote: while its memory is saved, after
it went on with what was saved, and when it moves to another daemon."""
import os
import re
import subprocess
import sys
import tempfile

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)
from machine import Console  # noqa: E402
from machine_linux import guest, linux  # noqa: E402
from tap import equal, note, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

RATE, REGION = 10, 32  # MB/s, MiB
TELL, TOLD = "until [ -s /status ]; do :; done; echo it is $(cat /status) of it\n", re.compile(r"it is (\d+) (\d+) of it")


class Two:
    """Two daemons with the same image."""

    def __init__(self):
        self.daemons = []
        try:
            with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
                subprocess.run(["gcc", "-O2", "-static", "-o", folder + "/writer", LIB + "/memory-writer.c"], check=True)
                image = linux(folder, {"memory-writer": folder + "/writer"})
                for name in ("mema", "memb"):
                    self.daemons.append(Daemon(name))
                    self.daemons[-1].start()
                    self.daemons[-1].cli("image", "load", "-i", image)
        except BaseException:
            self.close()
            raise

    def close(self):
        for d in self.daemons:
            d.close()


def writer(d, *args):
    id, c = guest(d, *args)
    with c:
        c.send(f"memory-writer {RATE} {REGION} /status & echo it writes\n")
        c.expect("it writes")
    goes_round(d, id)
    return id


def told(d, id):
    """Pages written so far, and those found damaged."""
    with Console(d, id) as c:
        c.send(TELL)
        wait_until(lambda: c.read(0.2) and TOLD.search(c.seen), 120, "the writer's status")
        return tuple(map(int, TOLD.search(c.seen).groups()))


def goes_round(d, id):
    """It writes all of its region once more, and has found none damaged."""
    before = told(d, id)[0]
    wait_until(lambda: told(d, id)[0] > before + 2 * REGION * 256, 240, "two rounds of the writer")
    written, damaged = told(d, id)
    note(f"{written} pages written")
    equal(damaged, 0, "pages that are not what was written")


@test
def suspended(two):
    d = two.daemons[0]
    id = writer(d)
    for _ in range(2):
        d.cli("suspend", id)
        d.cli("start", id)
        goes_round(d, id)
    d.cli("rm", "-f", id)


def saved_and_restored(d, id):
    d.cli("snapshot", "create", "--memory", id, "then")
    goes_round(d, id)
    d.cli("kill", id)
    d.cli("snapshot", "restore", id, "then")
    goes_round(d, id)


@test
def snapshots_and_clones(two):
    """the guest writes on while its memory is saved"""
    d = two.daemons[0]
    id = writer(d, "--name", "original")
    saved_and_restored(d, id)
    d.cli("clone", "--memory", "original", "copy")
    goes_round(d, d.json("show", "copy")["id"])
    goes_round(d, id)
    d.cli("rm", "-f", "original", "copy")


@test
def moved(two):
    a, b = two.daemons
    id = writer(a)
    for source, target in ((a, b), (b, a)):
        source.cli("migrate", "--to", f"unix://{target.run_dir}/wabe.sock", "--with-disks", id, timeout=600)
        goes_round(target, id)
    a.cli("rm", "-f", id)


@test
def with_room_to_grow(two):
    """one that can be given more memory is halted meanwhile"""
    d = two.daemons[0]
    id = writer(d, "--memory-max", "512m")
    saved_and_restored(d, id)
    d.cli("rm", "-f", id)


if __name__ == "__main__":
    run(Two, Two.close)
