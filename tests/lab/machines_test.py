#!/usr/bin/env python3
"""The lab itself: what its machines promise to tests."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from lab import Lab
from tap import contains, equal, run, test


@test
def debians_kernel_with_pure_cgroup_v2():
    with Lab() as lab:
        status, out = lab.machines[0].run("uname -r; cat /sys/fs/cgroup/cgroup.controllers; touch /etc/x /tmp/x /var/tmp/x; exit 7")
        equal(status, 7)
        contains(out, "cloud-amd64")
        for controller in ("cpu", "memory", "io", "pids", "hugetlb"):
            contains(out.split(), controller)
        equal(lab.machines[0].run("echo again")[:2], (0, "again\n"))


@test
def systemd_is_the_first_process():
    with Lab(systemd=True) as lab:
        status, out = lab.machines[0].run("cat /proc/1/comm; cat /proc/self/cgroup")
        equal(status, 0)
        equal(out.splitlines()[0], "systemd")
        contains(out, ".scope")


run()
