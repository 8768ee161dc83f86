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
        equal(lab.machines[0].run("unshare -Ur id -u"), (0, "0\n"))


@test
def systemd_is_the_first_process():
    with Lab(systemd=True) as lab:
        status, out = lab.machines[0].run("cat /proc/1/comm; cat /proc/self/cgroup")
        equal(status, 0)
        equal(out.splitlines()[0], "systemd")
        contains(out, ".scope")
        equal(lab.machines[0].run("unshare -Ur id -u"), (0, "0\n"))


@test
def several_machines_have_a_network():
    """machines reach each other by name, and what one leaves in the background goes on"""
    with Lab(2) as lab:
        one, two = lab.machines
        equal(one.run("mkdir /srv/www; hostname >/srv/www/index.html; (busybox httpd -f -p 8080 -h /srv/www &)"), (0, ""))
        equal(one.run("echo again"), (0, "again\n"))
        ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&5; tail -n 1 <&5"
        status, out = two.run(f"for i in {{1..500}}; do if {{ exec 5<>/dev/tcp/lab1/8080; }} 2>/dev/null; then {ask}; exit; fi; done; exit 1")
        equal((status, out), (0, "lab1\n"))
        equal(one.run("busybox ping -c 1 -W 5 lab2 >/dev/null; busybox pidof busybox >/dev/null && echo both")[1], "both\n")


run()
