#!/usr/bin/env python3
"""Pools, volumes, snapshots and clones, as a user meets them."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, need, run, test
from wabe import Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def setup():
    need("btrfs", subprocess.run(["which", "mkfs.btrfs"], capture_output=True).returncode == 0)
    d = Daemon("storage")
    try:
        d.start()
        d.cli("image", "import", busybox_rootfs(d.dir + "/busybox.tar"), IMAGE)
        d.cli("pool", "create", "fast", "-d", "btrfs", "--size", "512m")
        d.cli("pool", "create", "ram", "-d", "tmpfs", "--size", "64m")
    except BaseException:
        d.close()
        raise
    return d


POOLS = ("local", "fast", "ram")


def clean(d):
    if d.process is None:
        d.start()
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)
    for v in json.loads(d.out("volume", "ls", "--json")):
        d.cli("volume", "rm", v["id"], check=False)
    for p in json.loads(d.out("pool", "ls", "--json")):
        if p["spec"]["name"] not in POOLS:
            d.cli("pool", "rm", p["spec"]["name"], check=False)


def sh(d, name, script, **kw):
    return d.out("exec", name, "sh", "-c", script, **kw)


def cell(d, *args, name="cell"):
    d.cli("run", "-d", "--network", "none", "--stop-timeout", "1", "--name", name, *args, IMAGE, "sleep", "1000")
    return name


def refused(d, *args, text):
    r = d.cli(*args, check=False)
    assert r.returncode == 125, f"{args}: status {r.returncode}\n{r.stdout}{r.stderr}"
    contains(r.stderr, text)


@test
def pools_say_what_they_can(d):
    pools = {p["spec"]["name"]: p for p in json.loads(d.out("pool", "ls", "--json"))}
    equal(sorted(pools), sorted(POOLS))
    for name in POOLS:
        shown = json.loads(d.out("pool", "show", name, "--json"))
        equal(shown["status"]["state"], "ready")
        assert shown["status"]["total"] > 0 and shown["status"]["capabilities"]["filesystems"], shown
    contains(d.out("pool", "show", "fast"), "instant_snapshots")
    equal(json.loads(d.out("pool", "show", "ram", "--json"))["status"]["capabilities"]["persistent"], False)


@test
def a_volume_outlives_its_instances(d):
    for pool in POOLS:
        d.cli("volume", "create", "--pool", pool, f"v-{pool}")
        d.cli("run", "--rm", "--network", "none", "-v", f"v-{pool}:/data", IMAGE, "sh", "-c", "echo kept > /data/f; chown 7:8 /data/f")
        equal(d.out("run", "--rm", "--network", "none", "-v", f"v-{pool}:/data:ro", IMAGE, "sh", "-c",
                    "stat -c '%u:%g' /data/f; cat /data/f; touch /data/g 2>/dev/null || echo readonly"),
              "7:8\nkept\nreadonly")


@test
def a_named_volume_comes_by_itself(d):
    d.cli("run", "--rm", "--network", "none", "-v", "fresh:/data", IMAGE, "touch", "/data/x")
    contains(d.out("volume", "ls"), "fresh")
    equal(d.out("run", "--rm", "--network", "none", "-v", "fresh:/data", IMAGE, "ls", "/data"), "x")


@test
def an_anonymous_volume_goes_with_its_instance(d):
    before = d.out("volume", "ls", "-q")
    d.cli("run", "--rm", "--network", "none", "--mount", "type=volume,target=/data", IMAGE, "touch", "/data/x")
    wait_until(lambda: d.out("volume", "ls", "-q") == before, 10, "removal of the volume")


@test
def volumes_are_shared_with_the_same_owners(d):
    d.cli("volume", "create", "common")
    cell(d, "-v", "common:/c", name="one")
    cell(d, "-v", "common:/c", name="two")
    cell(d, "-v", "common:/c:ro", name="reader")
    sh(d, "one", "echo from one > /c/f; chown 1000:1000 /c/f")
    equal(sh(d, "two", "stat -c '%u:%g' /c/f; cat /c/f"), "1000:1000\nfrom one")
    equal(sh(d, "reader", "cat /c/f; rm /c/f 2>/dev/null || echo no"), "from one\nno")
    uids = {d.show(n)["uid_base"] for n in ("one", "two", "reader")}
    equal(len(uids), 3)


@test
def a_volume_in_use_stays(d):
    d.cli("volume", "create", "busy")
    cell(d, "-v", "busy:/b")
    refused(d, "volume", "rm", "busy", text="cell")
    refused(d, "volume", "rename", "busy", "other", text="cell")
    d.cli("stop", "cell")
    refused(d, "volume", "rm", "busy", text="cell")
    d.cli("rm", "cell")
    d.cli("volume", "rm", "busy")


@test
def attach_and_detach_while_it_runs(d):
    d.cli("volume", "create", "live")
    cell(d)
    d.cli("volume", "attach", "live", "cell", "/mnt/live")
    sh(d, "cell", "echo now > /mnt/live/f")
    d.cli("restart", "cell")
    equal(sh(d, "cell", "cat /mnt/live/f"), "now")
    d.cli("volume", "detach", "live", "cell")
    equal(sh(d, "cell", "ls /mnt/live"), "")
    d.cli("volume", "rm", "live")
    refused(d, "volume", "attach", "nowhere", "cell", "/mnt/x", text="nowhere")
    equal(d.show("cell")["spec"].get("mounts", []), [])


@test
def block_volumes(d):
    for pool in ("local", "fast"):
        name = f"disk-{pool}"
        refused(d, "volume", "create", "--kind", "block", "--pool", pool, name, text="size")
        d.cli("volume", "create", "--kind", "block", "--size", "8m", "--pool", pool, name)
        raw = os.urandom(1 << 20) + bytes(7 << 20)
        d.cli("volume", "rm", name)
        r = d.cli("volume", "import", "--format", "raw", "--kind", "block", "--size", "8m", "--pool", pool, "-", name,
                  input=raw, text=False)
        out = d.cli("volume", "export", "--format", "raw", name, text=False).stdout
        assert out == raw, f"{pool}: {len(out)} bytes came back"


@test
def tar_in_and_out(d):
    src = d.dir + "/tree"
    os.makedirs(src + "/sub", exist_ok=True)
    with open(src + "/sub/file", "w") as f:
        f.write("hello")
    tar = d.dir + "/tree.tar"

    def owned(info):
        info.uid, info.gid, info.uname, info.gname = 5, 6, "", ""
        return info

    with tarfile.open(tar, "w") as t:
        t.add(src, ".", filter=owned)
    d.cli("volume", "import", tar, "taken")
    equal(d.out("run", "--rm", "--network", "none", "-v", "taken:/t", IMAGE, "sh", "-c", "cat /t/sub/file; stat -c ' %u:%g' /t/sub/file"),
          "hello 5:6")
    d.cli("volume", "export", "-o", d.dir + "/back.tar", "taken")
    with tarfile.open(d.dir + "/back.tar") as t:
        one = [m for m in t.getmembers() if m.name.endswith("sub/file")][0]
        equal((t.extractfile(one).read(), one.uid, one.gid), (b"hello", 5, 6))


@test
def snapshots_of_volumes(d):
    for pool in POOLS:
        v = f"s-{pool}"
        d.cli("volume", "create", "--pool", pool, v)
        use = lambda script: d.out("run", "--rm", "--network", "none", "-v", f"{v}:/d", IMAGE, "sh", "-c", script)
        use("echo 1 > /d/f")
        d.cli("snapshot", "create", "--volume", v, "one", "--description", "the first")
        use("echo 2 > /d/f; touch /d/more")
        d.cli("snapshot", "create", "--volume", v, "two")
        use("rm /d/f")
        d.cli("snapshot", "restore", "--volume", v, "one")
        equal(use("cat /d/f; ls /d"), "1\nf")
        d.cli("snapshot", "restore", "--volume", v, "two")
        equal(use("cat /d/f; ls /d"), "2\nf\nmore")
        d.cli("snapshot", "restore", "--volume", v, "one")
        d.cli("snapshot", "create", "--volume", v, "branch")
        tree = json.loads(d.out("snapshot", "ls", "--volume", v, "--json"))
        equal({s["name"]: s.get("parent") for s in tree["snapshots"]}, {"one": None, "two": "one", "branch": "one"})
        equal(tree["current"], "branch")
        contains(d.out("snapshot", "ls", "--volume", v), "the first")
        refused(d, "snapshot", "create", "--volume", v, "one", text="one")
        d.cli("snapshot", "rm", "--volume", v, "one")
        tree = json.loads(d.out("snapshot", "ls", "--volume", v, "--json"))
        equal({s["name"]: s.get("parent") for s in tree["snapshots"]}, {"two": None, "branch": None})
        d.cli("volume", "copy", "--snapshot", "two", v, f"c-{pool}")
        equal(d.out("run", "--rm", "--network", "none", "-v", f"c-{pool}:/d", IMAGE, "cat", "/d/f"), "2")
        cell(d, "-v", f"{v}:/d", name=f"user-{pool}")
        refused(d, "snapshot", "restore", "--volume", v, "two", text="stop")
        d.cli("rm", "-f", f"user-{pool}")


@test
def copies_and_moves_between_pools(d):
    d.cli("volume", "create", "src")
    d.cli("run", "--rm", "--network", "none", "-v", "src:/d", IMAGE, "sh", "-c",
          "mkdir /d/a; echo text > /d/a/f; ln /d/a/f /d/a/hard; ln -s f /d/a/soft; chown -R 9:9 /d/a; dd if=/dev/zero of=/d/big bs=1M count=8")
    look = "cd /d; stat -c '%u %h %s' a/f; readlink a/soft; cat a/hard; stat -c %s big"
    want = "9 2 5\nf\ntext\n8388608"
    for pool in ("fast", "ram"):
        d.cli("volume", "copy", "--pool", pool, "src", f"to-{pool}")
        equal(d.out("run", "--rm", "--network", "none", "-v", f"to-{pool}:/d", IMAGE, "sh", "-c", look), want)
    before = json.loads(d.out("volume", "show", "src"))["id"]
    d.cli("volume", "move", "src", "fast")
    moved = json.loads(d.out("volume", "show", "src"))
    equal((moved["id"], moved["spec"]["pool"]), (before, "fast"))
    equal(d.out("run", "--rm", "--network", "none", "-v", "src:/d", IMAGE, "sh", "-c", look), want)
    d.cli("volume", "copy", "--linked", "src", "linked")
    equal(d.out("run", "--rm", "--network", "none", "-v", "linked:/d", IMAGE, "sh", "-c", look), want)
    refused(d, "volume", "copy", "src", "linked", text="linked")
    refused(d, "volume", "move", "src", "nowhere", text="nowhere")


@test
def quotas_hold(d):
    d.cli("volume", "create", "--pool", "fast", "--size", "16m", "small")
    cell(d, "-v", "small:/d")
    r = d.cli("exec", "cell", "dd", "if=/dev/zero", "of=/d/fill", "bs=1M", "count=32", "conv=fsync", check=False)
    assert r.returncode != 0, "32 MiB went into a volume of 16 MiB"
    sh(d, "cell", "rm -f /d/fill; sync")
    d.cli("volume", "update", "--size", "64m", "small")
    sh(d, "cell", "dd if=/dev/zero of=/d/fill bs=1M count=32 conv=fsync")


@test
def a_full_pool_recovers(d):
    d.cli("pool", "create", "tiny", "-d", "tmpfs", "--size", "8m")
    safe = json.loads(d.out("pool", "show", "--json", "tiny"))["status"]["capabilities"]["full_safe"]
    if not safe:
        d.cli("pool", "rm", "tiny")
    need("a tmpfs that can be mounted idmapped", safe)
    d.cli("volume", "create", "--pool", "tiny", "a")
    cell(d, "-v", "a:/d")
    r = d.cli("exec", "cell", "dd", "if=/dev/zero", "of=/d/fill", "bs=1M", "count=32", check=False)
    assert r.returncode != 0
    contains(r.stderr, "No space left")
    sh(d, "cell", "rm /d/fill; echo ok > /d/f")
    refused(d, "pool", "rm", "tiny", text="a")
    d.cli("rm", "-f", "cell")
    d.cli("volume", "rm", "a")
    d.cli("pool", "rm", "tiny")


@test
def an_instance_goes_back_in_time(d):
    for pool in ("local", "fast"):
        name = cell(d, "--pool", pool, name=f"root-{pool}")
        sh(d, name, "echo before > /f")
        d.cli("snapshot", "create", name, "good")
        sh(d, name, "echo after > /f; mkdir /new; mv /root /new/")
        refused(d, "snapshot", "restore", name, "good", text="runs")
        d.cli("stop", name)
        d.cli("snapshot", "restore", name, "good")
        d.cli("start", name)
        equal(sh(d, name, "cat /f; ls -d /root; ls -d /new 2>/dev/null || echo gone"), "before\n/root\ngone")


@test
def clones_live_their_own_life(d):
    for pool, linked in (("local", False), ("fast", True)):
        name = cell(d, "--pool", pool, "-e", "WHO=me", name=f"origin-{pool}")
        sh(d, name, "echo shared > /f; chown 33:33 /f")
        d.cli("snapshot", "create", name, "base")
        sh(d, name, "echo changed > /f")
        twin = f"twin-{pool}"
        d.cli("clone", "--snapshot", "base", *(["--linked"] if linked else []), name, twin)
        d.cli("start", twin)
        equal(sh(d, twin, "cat /f; stat -c %u:%g /f; echo $WHO"), "shared\n33:33\nme")
        sh(d, twin, "echo twin > /f")
        equal(sh(d, name, "cat /f"), "changed")
        assert d.show(name)["uid_base"] != d.show(twin)["uid_base"]


@test
def schedules_take_and_keep(d):
    d.cli("volume", "create", "--keep-hourly", "2", "clocked")
    names = lambda: [s for s in json.loads(d.out("snapshot", "ls", "--volume", "clocked", "--json"))["snapshots"]]
    wait_until(names, 90, "the first snapshot of the schedule")
    one = names()
    equal((len(one), one[0]["scheduled"], one[0]["kept_as"]), (1, True, "hourly"))


@test
def bad_wishes_change_nothing(d):
    before = d.out("volume", "ls", "--json"), d.out("pool", "ls", "--json")
    for args, text in (
            (("volume", "create", "a/b"), "name"),
            (("volume", "create", ".."), "name"),
            (("volume", "create", "--pool", "nowhere", "v"), "nowhere"),
            (("volume", "create", "--size", "-1", "v"), "size"),
            (("pool", "create", "-d", "floppy", "p"), "floppy"),
            (("pool", "create", "-d", "nfs", "p"), "source"),
            (("pool", "create", "-d", "dir", "--source", "/proc/1/root", "p"), ""),
            (("pool", "create", "-d", "dir", "--source", "relative", "p"), ""),
            (("pool", "create", "-d", "tmpfs", "ram"), "ram"),
            (("pool", "rm", "local"), "local"),
            (("snapshot", "create", "--volume", "nowhere"), "nowhere"),
            (("run", "--rm", "--pool", "nowhere", IMAGE, "true"), "nowhere"),
            (("run", "--rm", "-v", "bad/name:/x", IMAGE, "true"), "")):
        refused(d, *args, text=text)
    equal((d.out("volume", "ls", "--json"), d.out("pool", "ls", "--json")), before)


@test
def what_the_host_lacks_is_named(d):
    before = d.out("pool", "ls", "--json")
    lacking = [("zfs", "tank", "zfsutils-linux (contrib)")] if not shutil.which("zfs", path=PATH) else []
    if not shutil.which("thin_check", path=PATH):
        lacking.append(("lvm-thin", "vg/thin", "install"))
    elif not os.path.exists("/dev/mapper/control") and subprocess.run(["modprobe", "-nq", "dm_thin_pool"]).returncode:
        lacking.append(("lvm-thin", "vg/thin", "device mapper"))
    need("a kind of pool that this host lacks", lacking)
    for driver, source, text in lacking:
        refused(d, "pool", "create", "-d", driver, "--source", source, "p", text=text)
    equal(d.out("pool", "ls", "--json"), before)


@test
def a_pool_on_a_device(d):
    file = d.dir + "/device.img"
    with open(file, "wb") as f:
        f.truncate(256 << 20)
    device = subprocess.run(["losetup", "-f", "--show", file], capture_output=True, text=True, check=True).stdout.strip()
    try:
        d.cli("pool", "create", "-d", "btrfs", "--source", device, "disk")
        d.cli("volume", "create", "--pool", "disk", "v")
        d.cli("run", "--rm", "--network", "none", "--pool", "disk", "-v", "v:/d", IMAGE, "sh", "-c", "echo there > /d/f")
        refused(d, "pool", "create", "-d", "btrfs", "--source", device, "other", text=device)
        d.cli("volume", "rm", "v")
        d.cli("pool", "rm", "disk")
        equal(subprocess.run(["blkid", "-p", device], capture_output=True, text=True).stdout, "")
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        refused(d, "pool", "create", "-d", "btrfs", "--source", device, "disk", text="ext4")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@test
def snapshots_move_along(d):
    """between kinds of pools state by state, between two of btrfs as streams; the tree of snapshots stays as it was"""
    def used(script):
        return d.out("run", "--rm", "--network", "none", "-v", "v:/d", IMAGE, "sh", "-c", script)

    d.cli("pool", "create", "fast2", "-d", "btrfs", "--size", "256m")
    d.cli("volume", "create", "v")
    for s in ("s1", "s2"):
        used(f"echo {s} > /d/f; touch /d/{s}; chown 7:8 /d/{s}")
        d.cli("snapshot", "create", "--volume", "v", s)
    d.cli("snapshot", "restore", "--volume", "v", "s1")
    used("echo branch > /d/f")
    d.cli("snapshot", "create", "--volume", "v", "branch")
    used("echo now > /d/f; rm /d/s1")
    before = d.out("snapshot", "ls", "--volume", "v", "--json")
    for pool in ("ram", "fast", "fast2", "local"):
        d.cli("volume", "move", "v", pool)
        equal(json.loads(d.out("volume", "show", "v"))["spec"]["pool"], pool)
        equal(d.out("snapshot", "ls", "--volume", "v", "--json"), before)
        equal(used("cat /d/f; ls /d"), "now\nf")
        d.cli("volume", "copy", "--snapshot", "s2", "v", "old")
        equal(d.out("run", "--rm", "--network", "none", "-v", "old:/d", IMAGE, "sh", "-c", "cat /d/f; stat -c %u:%g /d/s1 /d/s2"),
              "s2\n7:8\n7:8")
        d.cli("volume", "rm", "old")
    d.cli("snapshot", "restore", "--volume", "v", "branch")
    equal(used("cat /d/f; ls /d"), "branch\nf\ns1")
    d.cli("volume", "rm", "v")
    d.cli("pool", "rm", "fast2")


@test
def blocks_move_with_snapshots(d):
    d.cli("volume", "create", "--kind", "block", "--size", "16m", "disk")
    write = "printf {} | dd of=/dev/disk bs=1 seek={} conv=notrunc 2>/dev/null; sync"
    for s, at in (("s1", 0), ("s2", 8 << 20)):
        d.cli("run", "--rm", "--network", "none", "-v", "disk:/dev/disk", IMAGE, "sh", "-c", write.format(s, at))
        d.cli("snapshot", "create", "--volume", "disk", s)
    d.cli("run", "--rm", "--network", "none", "-v", "disk:/dev/disk", IMAGE, "sh", "-c", write.format("s3", 0))
    read = "for i in 0 8388608; do dd if=/dev/disk bs=1 skip=$i count=2 2>/dev/null | tr '\\0' -; echo; done"
    for pool in ("fast", "local"):
        d.cli("volume", "move", "disk", pool)
        for s, want in ((None, "s3\ns2"), ("s2", "s1\ns2"), ("s1", "s1\n--")):
            d.cli("volume", "copy", *(["--snapshot", s] if s else []), "disk", "look")
            equal(d.out("run", "--rm", "--network", "none", "-v", "look:/dev/disk", IMAGE, "sh", "-c", read), want)
            d.cli("volume", "rm", "look")
    d.cli("volume", "rm", "disk")


@test
def everything_is_there_after_a_crash(d):
    d.cli("volume", "create", "--pool", "fast", "kept")
    cell(d, "--pool", "fast", "-v", "kept:/d", "--restart", "always")
    sh(d, "cell", "echo root > /f; echo volume > /d/f; sync")
    d.cli("snapshot", "create", "--volume", "kept", "s")
    d.kill()
    d.start()
    equal(sh(d, "cell", "cat /f /d/f"), "root\nvolume")
    os.kill(d.pids()["agent"], signal.SIGKILL)
    wait_until(lambda: d.cli("exec", "cell", "true", check=False).returncode == 0, 30, "an exec after the agent's end")
    equal([s["name"] for s in json.loads(d.out("snapshot", "ls", "--volume", "kept", "--json"))["snapshots"]], ["s"])
    d.cli("rm", "-f", "cell")
    equal(d.out("run", "--rm", "--network", "none", "-v", "kept:/d", IMAGE, "cat", "/d/f"), "volume")


@test
def nothing_is_left_of_the_host(d):
    """The last one: after a shutdown no mount and no loop device is ours."""
    clean(d)
    d.cli("pool", "rm", "ram")  # what lives in memory alone outlives a shutdown
    d.cli("shutdown")
    d.process.wait(60)
    d.process.stdout.close()
    d.process = None
    with open("/proc/self/mountinfo") as f:
        equal([line for line in f if d.dir in line], [])
    loops = subprocess.run(["losetup", "-n", "-O", "BACK-FILE"], capture_output=True, text=True).stdout
    assert d.dir not in loops, loops
    d.start()
    equal(json.loads(d.out("pool", "show", "fast", "--json"))["status"]["state"], "ready")


def close(d):
    if d:
        if d.process:
            clean(d)
            for pool in POOLS[1:]:
                d.cli("pool", "rm", pool, check=False)
        d.close()


run(setup, close, clean)
