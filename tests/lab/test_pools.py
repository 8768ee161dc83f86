#!/usr/bin/env python3
"""A whole daemon with a pool on a server, or of devices: what a user does with it. In a lab machine, where tests/lab/storage has
set the server up: test_pools.py DRIVER SOURCE [SERVER]; WABE_TEST_USER and WABE_TEST_SECRET."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, need, run, test
from wabe import Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"
DRIVER, SOURCE, SERVER = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
USER, SECRET = os.environ.get("WABE_TEST_USER"), os.environ.get("WABE_TEST_SECRET")
SIZES = ["-o", "volume-size=64MiB"]
sys.argv[1:] = []


def setup():
    d = Daemon("pools", netspace="host", env={"WABE_PASSWORD": SECRET} if SECRET else None)
    try:
        d.start()
        d.cli("image", "import", busybox_rootfs(d.dir + "/busybox.tar"), IMAGE)
        options = [*SIZES, *(["--server", SERVER] if SERVER else []), *(["--user", USER] if USER else [])]
        d.cli("pool", "create", "far", "-d", DRIVER, "--source", SOURCE, *options, timeout=300)
        d.can = shown(d)["status"]["capabilities"]
    except BaseException:
        print("# " + d.log().replace("\n", "\n# "))
        d.close()
        raise
    return d


def shown(d):
    return json.loads(d.out("pool", "show", "far", "--json"))


def sh(d, name, script):
    return d.out("exec", name, "sh", "-c", script)


def cell(d, name, *args):
    d.cli("run", "-d", "--stop-timeout", "0", "--name", name, *args, IMAGE, "sleep", "100000", timeout=300)


def after(d):
    if d.process is None:
        d.start()
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, timeout=300)
    for v in json.loads(d.out("volume", "ls", "--json")):
        d.cli("volume", "rm", v["id"], timeout=300)


def close(d):
    if not d:
        return
    try:
        d.cli("pool", "rm", "far", timeout=300)
    finally:
        d.close()


@test
def the_pool_is_ready_and_keeps_its_secret(d):
    pool = shown(d)
    equal((pool["status"]["state"], pool["spec"].get("user")), ("ready", USER))
    assert pool["status"]["total"] > 0, pool
    if SECRET:
        for text in (json.dumps(pool), d.out("pool", "ls", "--json"), d.out("pool", "show", "far"), d.log()):
            assert SECRET not in text, text


@test
def an_instance_with_its_root_and_a_volume_there(d):
    d.cli("volume", "create", "--pool", "far", "--size", "64MiB", "data", timeout=300)
    cell(d, "a", "--pool", "far", "-v", "data:/data")
    sh(d, "a", "echo root > /root.txt; chown 7:8 /root.txt; echo kept > /data/f")
    d.cli("restart", "-t", "0", "a", timeout=300)
    equal(sh(d, "a", "stat -c %u:%g /root.txt; cat /root.txt /data/f"), "7:8\nroot\nkept")
    d.cli("rm", "-f", "a", timeout=300)
    cell(d, "b", "-v", "data:/data:ro")
    equal(sh(d, "b", "cat /data/f; touch /data/g 2>/dev/null || echo readonly"), "kept\nreadonly")


@test
def it_is_all_there_after_the_daemon_was_killed(d):
    cell(d, "a", "--pool", "far")
    sh(d, "a", "echo root > /root.txt; sync")
    os.kill(d.pids()["agent"], signal.SIGKILL)
    wait_until(lambda: d.cli("exec", "a", "true", check=False).returncode == 0, 60, "the agent's return")
    equal(sh(d, "a", "cat /root.txt"), "root")
    d.cli("shutdown", "-t", "0", timeout=300)
    d.process.wait(60)
    d.process.stdout.close()
    d.process = None
    with open("/proc/self/mountinfo") as f:
        equal([line for line in f if d.dir in line], [])
    d.start()
    equal(shown(d)["status"]["state"], "ready")
    d.cli("start", "a", timeout=300)
    equal(sh(d, "a", "cat /root.txt"), "root")


@test
def snapshots_and_clones(d):
    need("snapshots", d.can["snapshots"])
    cell(d, "a", "--pool", "far")
    sh(d, "a", "echo one > /f")
    d.cli("snapshot", "create", "a", "s1", timeout=300)
    sh(d, "a", "echo two > /f")
    d.cli("clone", *(["--linked"] if d.can["linked_clones"] else []), "--snapshot", "s1", "a", "c", timeout=300)
    d.cli("start", "c", timeout=300)
    equal((sh(d, "c", "cat /f"), sh(d, "a", "cat /f")), ("one", "two"))
    d.cli("stop", "-t", "0", "a", timeout=300)
    d.cli("snapshot", "restore", "a", "s1", timeout=300)
    d.cli("start", "a", timeout=300)
    equal(sh(d, "a", "cat /f"), "one")


@test
def what_it_cannot_is_refused(d):
    if d.can["snapshots"]:
        return
    cell(d, "a", "--pool", "far")
    r = d.cli("snapshot", "create", "a", "s1", check=False, timeout=300)
    equal(r.returncode, 125)
    contains(r.stderr, "snapshot")


@test
def a_copy_between_pools(d):
    d.cli("volume", "create", "--size", "48MiB", "here")
    d.cli("run", "--rm", "-v", "here:/d", IMAGE, "sh", "-c", "echo moved > /d/f; chown 5:6 /d/f")
    d.cli("volume", "move", "here", "far", timeout=300)
    equal(json.loads(d.out("volume", "show", "here", "--json"))["spec"]["pool"], "far")
    equal(d.out("run", "--rm", "-v", "here:/d", IMAGE, "sh", "-c", "stat -c %u:%g /d/f; cat /d/f"), "5:6\nmoved")


if __name__ == "__main__":
    run(setup, close, after)
