#!/usr/bin/env python3
"""Debian images made from the host's package sources: `wabe image bootstrap`, and what runs of them.

WABE_TEST_LONG=1 adds what takes minutes: further packages, and a whole system with systemd."""
import glob
import json
import os
import shutil
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import LONG, Skip, contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

MINUTES = 900  # a bootstrap beside other tests


def sources_answer():
    """Can the host's package sources be reached?"""
    addresses = set()
    for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
        if os.path.isfile(path):
            with open(path) as f:
                addresses |= {w.rstrip("/") for w in f.read().split() if w.startswith("http")}
    for address in addresses:
        try:
            urllib.request.urlopen(f"{address}/dists/bookworm/InRelease", timeout=20).close()
            return True
        except OSError:
            continue
    return not addresses  # only local ones


def setup():
    d = Daemon("debian", netspace="host").start()
    d.built = {}
    return d


def image(d, variant="minbase", *include):
    """The name of such an image, which is made once."""
    need("mmdebstrap", shutil.which("mmdebstrap"))
    if not d.built:
        need("apt", sources_answer())
    key = (variant, *include)
    if key not in d.built:
        more = ["--include", ",".join(include)] if include else []
        d.cli("image", "bootstrap", "--variant", variant, *more, "debian:bookworm", timeout=MINUTES)
        d.built[key] = f"debian:{len(d.built)}"
        d.cli("image", "tag", "debian:bookworm", d.built[key])
    return d.built[key]


def long_tests():
    if not LONG:
        raise Skip("takes minutes: WABE_TEST_LONG=1 runs it")


@test
def bootstrap(d):
    """a Debian of its own: apt and dpkg work, nothing of the building is left in it"""
    name = image(d)
    out = d.out("run", "--rm", name, "sh", "-c", "cat /etc/debian_version; apt-get --version | head -n 1; dpkg -l | grep -c ^ii")
    version, apt, packages = out.splitlines()
    assert version.startswith("12"), version
    contains(apt, "apt 2.")
    assert 60 < int(packages) < 200, packages
    config = json.loads(d.out("image", "ls", "--json"))[0]["config"]
    equal(config["command"], ["bash"])
    equal(d.out("run", "--rm", name, "sh", "-c", "ls /var/cache/apt/archives/*.deb /var/lib/apt/lists/*Packages 2>/dev/null | wc -l"), "0")
    equal(os.listdir(d.state + "/agent/tmp"), [], "what the building leaves on the host")


@test
def instances_share_the_layer(d):
    """two instances use the same files on disk, and each changes only its own"""
    name = image(d)
    for i in ("one", "two"):
        d.cli("run", "-d", "--name", i, name, "sleep", "1000")
    inodes = {d.out("exec", i, "stat", "-c", "%i", "/usr/bin/dpkg") for i in ("one", "two")}
    layers = [n for n in os.listdir(d.state + "/agent/layers") if len(n) == 64]
    on_host = {str(os.stat(f"{d.state}/agent/layers/{n}/fs/usr/bin/dpkg").st_ino) for n in layers}
    assert len(inodes) == 1 and inodes <= on_host, (inodes, on_host)
    d.cli("exec", "one", "sh", "-c", "echo changed > /etc/debian_version")
    contains(d.out("exec", "two", "cat", "/etc/debian_version"), "12")
    for instance in json.loads(d.out("ls", "--json")):
        [upper] = glob.glob(f"{d.state}/agent/storage/**/{instance['id']}/**/upper", recursive=True)
        size = sum(os.lstat(os.path.join(top, f)).st_size for top, _, files in os.walk(upper) for f in files)
        assert size < 1 << 20, f"{instance['id']} has {size} bytes of its own"
    d.cli("rm", "-f", "one", "two")


@test
def unknown_suites_and_packages(d):
    """a suite or package that does not exist: an error that names it, and no image"""
    image(d)
    before = d.out("image", "ls", "-q")
    r = d.cli("image", "bootstrap", "debian:no-such-suite", check=False, timeout=MINUTES)
    equal(r.returncode, 125)
    contains(r.stderr, "no-such-suite")
    r = d.cli("image", "bootstrap", "--include", "--evil", "debian:bookworm", check=False)
    contains(r.stderr, "not the name of a")
    equal(d.out("image", "ls", "-q"), before)


@test
def further_packages(d):
    """--include adds packages"""
    long_tests()
    contains(d.out("run", "--rm", image(d, "minbase", "tree"), "tree", "--version"), "tree v")


@test
def whole_system(d):
    """--variant system: systemd runs as the first process, without privileges, reaches its target, and stop shuts it down"""
    long_tests()
    name = image(d, "system")
    config = json.loads(d.out("image", "ls", "--json", name))[0]["config"]
    equal((config["command"], config["stop_signal"]), (["/sbin/init"], "SIGRTMIN+3"))
    d.cli("run", "-d", "-t", "--name", "sys", name)

    def state():
        return d.cli("exec", "sys", "systemctl", "is-system-running", check=False).stdout.strip()
    wait_until(lambda: state() in ("running", "degraded"), 120, "the start of the system")
    equal(state(), "running", d.out("exec", "sys", "systemctl", "--failed", check=False))
    equal(d.out("exec", "sys", "systemctl", "is-active", "multi-user.target"), "active")
    equal(d.out("exec", "sys", "cat", "/proc/self/uid_map").split()[2], "65536", "a user name space of its own")
    contains(d.out("exec", "sys", "cat", "/proc/1/comm"), "systemd")
    equal(d.out("exec", "sys", "systemctl", "is-active", "dbus.socket", "systemd-journald"), "active\nactive")
    d.cli("stop", "--timeout", "60s", "sys")
    equal(d.show("sys")["status"]["exit_code"], 0)
    d.cli("rm", "sys")


run(setup, Daemon.close)
