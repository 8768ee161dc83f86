#!/usr/bin/env python3
"""Limits that need cgroup v2 with all its controllers, a real block device and reserved huge pages: a lab machine's.

    tests/lab/run 'WABE_BUILD=$PWD/build python3 tests/lab/test_limits.py'"""
import glob
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from consistent import empty
from tap import contains, equal, need, note, run, test
from wabe import Daemon, busybox_rootfs

IMAGE = "busybox:test"
DISK = "/dev/vda"
MIB = 1 << 20
HUGE = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

# Touches as many huge pages as it is told; killed by SIGBUS where the limit is.
PAGES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int main(int argc, char **argv) {
	for (int i = 0; i < atoi(argv[1]); i++) {
		char *p = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (p == MAP_FAILED)
			return perror("mmap"), 9;
		*p = 1;
	}
	return puts("touched"), 0;
}
"""


def controllers():
    try:
        with open("/sys/fs/cgroup/cgroup.controllers") as f:
            return f.read().split()
    except OSError:
        return []


def setup():
    d = Daemon("limits")
    try:
        d.start()
        d.cli("image", "import", busybox_rootfs(d.dir + "/busybox.tar"), IMAGE)
    except BaseException:
        d.close()
        raise
    d.io = d.dir + "/io"
    os.mkdir(d.io)
    os.chmod(d.io, 0o777)
    return d


def group_file(d, name, file):
    found = glob.glob(f"/sys/fs/cgroup/wabe/*/{d.show(name)['id']}/{file}")
    equal(len(found), 1, f"files {file} of {name}")
    with open(found[0]) as f:
        return f.read()


def seconds(d, name, script):
    """How long it takes in the container, its start not counted."""
    began = time.monotonic()
    d.cli("exec", name, "sh", "-c", script)
    return time.monotonic() - began


@test
def block_io(d):
    """direct reads and writes take at least as long as the limits of bytes and of operations say"""
    need("the io controller", "io" in controllers())
    need(f"the disk {DISK} below {d.io}", os.path.exists(DISK) and os.stat(DISK).st_rdev == os.stat(d.io).st_dev)
    write = "dd if=/dev/zero of=/io/f bs=64k count=64 oflag=direct 2>&1"
    read = "dd if=/io/f of=/dev/null bs=64k count=64 iflag=direct 2>&1"
    cases = [("--device-write-bps", MIB, write, "wbps"), ("--device-read-bps", MIB, read, "rbps"),
             ("--device-write-iops", 16, write, "wiops"), ("--device-read-iops", 16, read, "riops")]
    for option, rate, script, key in cases:  # each lets through what dd wants in about 4 s
        d.cli("run", "-d", "--name", "io", option, f"{DISK}:{rate}", "-v", d.io + ":/io", IMAGE, "sleep", "1000")
        contains(group_file(d, "io", "io.max"), f"{key}={rate}")
        took = seconds(d, "io", script)
        note(f"{option}: {took:.1f} s; {group_file(d, 'io', 'io.stat').strip()}")
        # the kernel lets through what one slice of time, and one of what was saved up, hold
        assert took > 2.5, f"{option} {rate} did not bind: {took} s"
        d.cli("rm", "-f", "io")
    empty(d)


@test
def io_weight(d):
    """a weight reaches the kernel"""
    need("the io controller", "io" in controllers())
    d.cli("run", "-d", "--name", "io", "--blkio-weight", "500", IMAGE, "sleep", "1000")
    weights = [group_file(d, "io", os.path.basename(f)) for f in
               glob.glob(f"/sys/fs/cgroup/wabe/*/{d.show('io')['id']}/io*.weight")]
    need("a scheduler with weights", weights)
    assert any("500" in w or "4950" in w for w in weights), weights
    d.cli("rm", "-f", "io")
    empty(d)


@test
def huge_pages(d):
    """a container gets as many huge pages as its limit, and not one more"""
    need("the hugetlb controller", "hugetlb" in controllers())
    with open(HUGE) as f:
        before = f.read()
    with open(d.io + "/pages.c", "w") as f:
        f.write(PAGES)
    r = subprocess.run(["gcc", "-static", "-o", d.io + "/pages", d.io + "/pages.c"], capture_output=True, text=True)
    need("a C compiler", r.returncode == 0)
    try:
        with open(HUGE, "w") as f:
            f.write("16")
        with open(HUGE) as f:
            need("free huge pages", int(f.read()) >= 8)
        options = ["--rm", "--hugepages", "2MB=8m", "-v", d.io + ":/io:ro", IMAGE, "/io/pages"]
        equal(d.out("run", *options, "4"), "touched")
        r = d.cli("run", *options, "5", check=False)
        assert r.returncode in (9, 135), f"five pages under a limit of four: {r}"
        equal(d.out("run", "--rm", "-v", d.io + ":/io:ro", IMAGE, "/io/pages", "5"), "touched", "without a limit")
    finally:
        with open(HUGE, "w") as f:
            f.write(before)
    empty(d)


run(setup, lambda d: d and d.close())
