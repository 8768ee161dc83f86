#!/usr/bin/env python3
"""Pools, volumes, snapshots and roots from control's side of the agent's socket: what they do on a directory, on btrfs and
in memory, what hostile input meets, and what a crash at any step leaves: nothing."""
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from agent import LOCAL, Agent, Gone, Refused, read_all
from tap import Skip, contains, equal, run, test
from wabe import wait_until

MIB = 1 << 20


class Storage(Agent):
    """With what the tests about storage say often."""

    def pool(self, driver, **spec):
        id = os.urandom(32).hex()
        self.call("pool-create", id=id, spec=dict({"name": f"{driver}-{id[:8]}", "driver": driver}, **spec))
        return id

    def volume(self, pool=LOCAL, id=None, progress=None, **spec):
        more = {k: spec.pop(k) for k in ("from_", "linked", "snapshots") if k in spec}
        id = id or os.urandom(32).hex()
        body = {"pool_id": pool, "volume": {"id": id, "spec": dict({"name": "v" + id[:8]}, **spec)}}
        if "from_" in more:
            body["from"] = more["from_"]
        body.update({k: more[k] for k in ("linked", "snapshots") if k in more})
        self.full("volume-create", body, progress=progress)
        return id

    def remove(self, *ids, pool=LOCAL):
        for id in ids:
            self.call("volume-delete", pool_id=pool, id=id)

    def volumes(self, pool=LOCAL):
        return self.call("volume-list", id=pool).get("ids", [])

    def with_volumes(self, command, mounts, **spec):
        """An instance with mounts (volume id, target, more)."""
        mounts = [(*m[:2], dict(m[2]) if len(m) > 2 else {}) for m in mounts]
        uses = {m[0]: m[2].pop("pool", LOCAL) for m in mounts}
        kinds = {m[0]: m[2].pop("kind", "filesystem") for m in mounts}
        spec["mounts"] = [dict({"type": "volume", "source": "v" + m[0][:8], "target": m[1]}, **m[2]) for m in mounts]
        object = spec.pop("object", {})
        object["volumes"] = [{"name": "v" + v[:8], "volume_id": v, "pool_id": p, "kind": kinds[v]} for v, p in uses.items()]
        return self.create(command=list(command), object=object, **spec)

    def sh(self, id, script):
        out, err, code = self.exec_output(id, "/bin/sh", "-c", script)
        equal(code, 0, f"status of {script!r}: {out!r} {err!r}")
        return out.decode()

    def used(self, mounts, script, **spec):
        """Output of a script in an instance of its own."""
        id = self.with_volumes(["/bin/sh", "-c", script], mounts, **spec)
        try:
            s = self.attach(id)
            self.call("instance-start", id=id)
            out, err, code = s.all()
            equal(code, 0, f"status of {script!r}: {out!r} {err!r}")
            return out.decode()
        finally:
            self.call("instance-delete", id=id, force=True)

    def sweep(self):
        """Instances, volumes and pools away, after a test that failed."""
        self.restore()
        for pool in [p["id"] for p in self.call("pool-list")["pools"]]:
            try:
                for id in self.volumes(pool):
                    self.remove(id, pool=pool)
                if pool != LOCAL:
                    self.call("pool-delete", id=pool)
            except (Refused, Gone):
                pass


def apart(fn):
    def wrapped(a):
        try:
            fn(a)
        except Skip:
            raise
        except BaseException:
            a.sweep()
            raise
    wrapped.__name__, wrapped.__doc__ = fn.__name__, fn.__doc__
    return test(wrapped)


def setup():
    a = Storage("storage")
    try:
        a.start()
        a.busybox()
    except BaseException:
        a.close()
        raise
    return a


def refused(error, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except Refused as e:
        equal(e.kind, error, f"kind of \"{e.message}\"")
        return e
    raise AssertionError(f"not refused ({error} was wanted)")


def capabilities(a, pool):
    return a.call("pool-status", id=pool)["status"]["capabilities"]


# ---- pools ----

@apart
def local(a):
    """the pool local is there, ready, and stays"""
    pools = {p["id"]: p["status"] for p in a.call("pool-list")["pools"]}
    equal(list(pools), [LOCAL])
    equal(pools[LOCAL]["state"], "ready")
    status = a.call("pool-status", id=LOCAL)["status"]
    assert status["total"] > 0 and status["capabilities"]["filesystems"], status
    refused("conflict", a.call, "pool-delete", id=LOCAL)
    refused("not-found", a.call, "pool-status", id="0" * 64)
    a.clean()


@apart
def pools(a):
    """a pool of each kind is made, seen, made again, found again after a restart, removed when it is empty"""
    source = a.dir + "/source"
    os.mkdir(source, 0o700)
    made = [a.pool("dir", source=source), a.pool("tmpfs", size=8 * MIB), a.pool("btrfs", size=256 * MIB)]
    refused("invalid", a.call, "pool-create", id=made[0], spec={"name": "x", "driver": "tmpfs"})
    refused("exists", a.call, "pool-create", id="1" * 64, spec={"name": "local", "driver": "dir", "source": source})
    e = refused("conflict", a.pool, "dir", source=source)
    contains(e.message, source)
    v = a.volume(made[2])
    a.kill()
    a.start()
    wait_until(lambda: all(p["status"]["state"] == "ready" for p in a.call("pool-list")["pools"]), 60, "all pools")
    e = refused("conflict", a.call, "pool-delete", id=made[2])
    contains(e.message, v[:12])
    a.remove(v, pool=made[2])
    for id in made:
        a.call("pool-delete", id=id)
        equal(a.call("pool-delete", id=id), {}, "a second delete")
    os.rmdir(source)
    a.clean()


@apart
def pool_away(a):
    """a pool that is not there any more says so; what needs it fails and all else goes on; it comes back by itself"""
    source = a.dir + "/away"
    os.mkdir(source, 0o700)
    pool = a.pool("dir", source=source)
    v = a.volume(pool)
    id = a.create(command=["/bin/sleep", "100"], object={"pool_id": pool})
    other = a.with_volumes(["/bin/sleep", "100"], [(v, "/data", {"pool": pool})])
    os.rename(source, source + "-gone")
    equal(a.call("pool-status", id=pool)["status"]["state"] == "ready", False, "it is ready")
    for i in (id, other):
        e = refused("unavailable", a.call, "instance-start", id=i)
        equal(a.state_of(i), "created")
    refused("unavailable", a.volume, pool)
    a.delete(a.run_it("/bin/sleep", "100"))
    os.rename(source + "-gone", source)
    equal(a.call("pool-status", id=pool)["status"]["state"], "ready")
    for i in (id, other):
        a.call("instance-start", id=i)
    a.delete(id, other)
    a.remove(v, pool=pool)
    a.call("pool-delete", id=pool)
    os.rmdir(source)
    a.clean()


# ---- volumes ----

@apart
def volume_life(a):
    """a volume is made, made again, listed, measured, removed, removed again; bad wishes are refused and change nothing"""
    v = a.volume()
    a.volume(id=v)
    equal(a.volumes(), [v])
    assert "used" in a.call("volume-usage", pool_id=LOCAL, id=v), "usage"
    refused("conflict", a.volume, id=v, kind="block", size=MIB)
    refused("invalid", a.volume, kind="block", size=1000)
    refused("not-found", a.volume, "2" * 64)
    refused("not-found", a.call, "volume-usage", pool_id=LOCAL, id="3" * 64)
    refused("not-found", a.call, "volume-resize", pool_id=LOCAL, id="3" * 64, size=MIB)
    refused("invalid", a.call, "volume-delete", pool_id=LOCAL, id="../../etc")
    i = a.create(command=["/bin/true"])
    refused("invalid", a.volume, id=i)
    a.delete(i)
    a.remove(v)
    a.remove(v)
    a.clean()


@apart
def mounted(a):
    """a volume is in the instance with the owner and mode that it has been given, shared between instances of other ids,
    read-only where asked, a path of it alone where asked; nobody removes it meanwhile, and anybody afterwards"""
    v = a.volume(uid=33, gid=44, mode=0o2770)
    one = a.with_volumes(["/bin/sleep", "1000"], [(v, "/data")])
    a.call("instance-start", id=one)
    equal(a.sh(one, "stat -c '%u:%g %a' /data; echo hello >/data/f; mkdir -p /data/sub/deep; chown 5:6 /data/f"), "33:44 2770\n")
    two = a.with_volumes(["/bin/sleep", "1000"], [(v, "/mnt/a/b", {"read_only": True}), (v, "/sub", {"subpath": "sub"})])
    a.call("instance-start", id=two)
    equal(a.sh(two, "cat /mnt/a/b/f; stat -c %u:%g /mnt/a/b/f; ls /sub; ! touch /mnt/a/b/x 2>/dev/null && touch /sub/y && echo done"),
          "hello\n5:6\ndeep\ndone\n")
    equal(a.sh(one, "ls /data/sub"), "deep\ny\n")
    e = refused("conflict", a.remove, v)
    assert one[:12] in e.message or two[:12] in e.message, e.message
    a.call("instance-stop", id=one, signal="SIGKILL")
    contains(refused("conflict", a.remove, v).message, two[:12])
    a.kill()
    a.start()
    contains(refused("conflict", a.remove, v).message, two[:12])
    a.call("instance-stop", id=two, signal="SIGKILL")
    equal(a.used([(v, "/data")], "cat /data/f", privileged=True), "hello\n")
    a.remove(v)
    refused("not-found", a.call, "instance-start", id=one)
    a.delete(one, two)
    a.clean()


@apart
def no_way_out(a):
    """a path that leaves the volume is refused, also through a link that an instance has made"""
    v = a.volume()
    a.used([(v, "/data")], "ln -s / /data/root; ln -s ../../../.. /data/up")
    refused("invalid", a.with_volumes, ["/bin/ls"], [(v, "/x", {"subpath": "../.."})])
    for path in ("root", "up", "root/etc"):
        id = a.with_volumes(["/bin/ls", "/x"], [(v, "/x", {"subpath": path})])
        try:
            a.call("instance-start", id=id)
        except Refused as e:
            assert e.kind != "internal", e
        else:
            raise AssertionError(f"{path} was mounted")
        a.delete(id)
    a.remove(v)
    a.clean()


@apart
def copied_up(a):
    """a new volume gets what the image has at its place, with owners, once; not with nocopy, not when it holds something"""
    layer = tar_with({"data/": (0o750, 7, 8), "data/a": (0o640, 9, 10), "data/d/": (0o700, 1, 2)})
    layers = [a.layer, a.unpack(layer)]
    v, w, x = a.volume(), a.volume(), a.volume()
    seen = "stat -c '%n %u:%g %a' /data /data/* 2>/dev/null; true"
    equal(a.used([(v, "/data", {"read_only": True})], seen, layers=layers),
          "/data 7:8 750\n/data/a 9:10 640\n/data/d 1:2 700\n")
    equal(a.used([(v, "/data")], "rm /data/a; ls /data", layers=layers), "d\n")
    equal(a.used([(v, "/data")], "rmdir /data/d; ls /data", layers=layers), "")
    equal(a.used([(w, "/data", {"options": ["nocopy"]})], "ls /data", layers=layers), "")
    a.used([(x, "/other")], "touch /other/mine", layers=layers)
    equal(a.used([(x, "/data")], "ls /data", layers=layers), "mine\n")
    a.remove(v, w, x)
    for d in layers[1:]:
        a.call("layer-delete", diff_id=d)
    a.clean()


def tar_with(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, (mode, uid, gid) in entries.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode, info.uid, info.gid = mode, uid, gid
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            t.addfile(info)
    return out.getvalue()


@apart
def attach(a):
    """a volume comes into a running instance and goes again, also a path of it, also through a restart of the agent"""
    v = a.volume()
    id = a.run_it("/bin/sleep", "1000")
    body = {"id": id, "pool_id": LOCAL, "volume_id": v}
    a.call("volume-attach", target="/new/place", **body)
    a.call("volume-attach", target="/new/place", **body)
    equal(a.sh(id, "echo x >/new/place/f; stat -c %u /new/place/f; mkdir /new/place/sub"), "0\n")
    a.call("volume-attach", target="/ro", subpath="sub", read_only=True, **body)
    a.sh(id, "! touch /ro/x 2>/dev/null")
    refused("conflict", a.remove, v)
    refused("conflict", a.call, "volume-attach", id=id, pool_id=LOCAL, volume_id=(w := a.volume()), target="/ro")
    refused("not-found", a.call, "volume-attach", id=id, pool_id=LOCAL, volume_id="4" * 64, target="/nope")
    refused("invalid", a.call, "volume-attach", id=id, pool_id=LOCAL, volume_id=w, target="/../x")
    a.kill()
    a.start()
    a.call("volume-detach", id=id, target="/new/place")
    refused("conflict", a.remove, v)
    a.call("volume-detach", id=id, target="/ro")
    a.call("volume-detach", id=id, target="/ro")
    equal(a.sh(id, "ls /new/place /ro; grep -c -e /new/place -e ' /ro ' /proc/mounts || true").split()[-1], "0")
    a.remove(v, w)
    a.delete(id)
    a.clean()


@apart
def detach_is_not_tricked(a):
    """who puts a link in the place of a mount point does not get another mount taken away"""
    v = a.volume()
    id = a.run_it("/bin/sleep", "1000")
    a.call("volume-attach", id=id, pool_id=LOCAL, volume_id=v, target="/a/b")
    a.sh(id, "mv /a /c; mkdir /a; ln -s /proc/kcore /a/b")
    before = a.sh(id, "grep -c . /proc/mounts")
    a.call("volume-detach", id=id, target="/a/b")
    equal(a.sh(id, "grep -c . /proc/mounts"), before)
    a.delete(id)
    a.remove(v)
    a.clean()


def gone(a, request, **body):
    """A request in which the agent is killed."""
    try:
        a.call(request, **body)
    except (Gone, OSError):
        return
    raise AssertionError(f"{request} has got an answer")


@apart
def block_volume_live(a):
    """a block volume comes to an instance that runs and leaves it, with the right to use it; also when a worker is killed"""
    v, w = a.volume(kind="block", size=4 * MIB), a.volume(kind="block", size=4 * MIB)
    id = a.with_volumes(["/bin/sleep", "1000"], [(w, "/dev/first", {"kind": "block"})])
    a.call("instance-start", id=id)
    body = {"id": id, "pool_id": LOCAL}
    write = "echo hello | dd of={0} conv=sync,fsync bs=512 2>/dev/null && dd if={0} bs=512 count=1 2>/dev/null | head -c 5"
    a.call("volume-attach", volume_id=v, target="/dev/disk", **body)
    a.call("volume-attach", volume_id=v, target="/dev/disk", **body)
    equal(a.sh(id, write.format("/dev/disk")), "hello")
    numbers = a.sh(id, "stat -c '%t %T' /dev/disk").split()
    refused("conflict", a.call, "volume-attach", volume_id=v, target="/dev/again", **body)
    refused("conflict", a.remove, v)
    node = "mknod /tmp/n b 0x{} 0x{} 2>/dev/null; dd if=/tmp/n bs=512 count=1 2>/dev/null | head -c 5".format(*numbers)
    a.call("volume-detach", volume_id=v, target="/dev/disk", **body)
    equal(a.sh(id, "test -b /dev/disk || echo gone; " + node), "gone\n")
    a.call("volume-attach", volume_id=v, target="/dev/disk", read_only=True, **body)
    equal(a.sh(id, "dd if=/dev/disk bs=512 count=1 2>/dev/null | head -c 5; ! dd if=/dev/zero of=/dev/disk count=1 2>/dev/null"), "hello")
    equal(a.sh(id, write.format("/dev/first")), "hello", "the other device")
    a.call("volume-detach", volume_id=v, target="/dev/disk", **body)
    for point in ("attach.opened", "attach.mounted", "detach.noted", "detach.unmounted", "detach.forgotten"):
        if point.startswith("detach"):
            a.call("volume-attach", volume_id=v, target="/dev/disk", **body)
        a.process.terminate()
        a.process.wait(60)
        a.start(fault="both:" + point)
        gone(a, "volume-" + point.split(".")[0], volume_id=v, target="/dev/disk", **body)
        a.ended()
        a.start()
        equal(a.sh(id, "test -b /dev/disk || echo gone; " + node), "gone\n", point)
        wait_until(lambda: len([x for x in subprocess.run(["losetup", "-n", "-O", "BACK-FILE"], capture_output=True, text=True)
                                .stdout.splitlines() if a.dir in x]) == 1, 20, f"the end of its loop device after {point}")
    a.call("volume-detach", volume_id=w, target="/dev/first", **body)
    equal(a.sh(id, "test -b /dev/first || echo gone"), "gone\n")
    a.delete(id)
    equal([x for x in a.stored() if x.startswith("loop")], [])
    a.remove(v)
    a.remove(w)


@apart
def block_volume(a):
    """a block volume is a device in the instance, whose root may use it, for one as for two; its loop device goes with them"""
    v = a.volume(kind="block", size=4 * MIB)
    ids = [a.with_volumes(["/bin/sleep", "1000"], [(v, "/dev/disk", {"kind": "block", "read_only": i == 1})]) for i in range(2)]
    for id in ids:
        a.call("instance-start", id=id)
    equal(a.sh(ids[0], "test -b /dev/disk && echo hello | dd of=/dev/disk conv=sync,fsync bs=512 2>/dev/null; "
                       "dd if=/dev/disk bs=512 count=1 2>/dev/null | head -c 5"), "hello")
    equal(a.sh(ids[1], "dd if=/dev/disk bs=512 count=1 2>/dev/null | head -c 5; ! dd if=/dev/zero of=/dev/disk count=1 2>/dev/null"),
          "hello")
    a.sh(ids[0], "echo other | dd of=/dev/disk conv=sync bs=512 2>/dev/null")
    equal(exported(a, v, "raw")[:6], b"other\n", "what has been written a moment ago")
    a.call("volume-resize", pool_id=LOCAL, id=v, size=6 * MIB)
    equal(a.sh(ids[0], "dd if=/dev/disk bs=1M 2>/dev/null | wc -c").strip(), str(6 * MIB))
    refused("unsupported", a.call, "volume-resize", pool_id=LOCAL, id=v, size=5 * MIB)
    refused("conflict", a.call, "volume-attach", id=ids[0], pool_id=LOCAL, volume_id=v, target="/dev/other")
    refused("conflict", a.remove, v)
    a.delete(*ids)
    equal([x for x in a.stored() if x.startswith("loop")], [])
    a.remove(v)
    a.clean()


# ---- in each kind of pool ----

def in_pools(fn):
    def each(a):
        for driver, spec in (("dir", {"source": a.dir + "/each"}), ("btrfs", {"size": 256 * MIB}), ("tmpfs", {"size": 64 * MIB})):
            if driver == "dir":
                os.makedirs(spec["source"], 0o700, exist_ok=True)
            pool = a.pool(driver, **spec)
            try:
                fn(a, pool, capabilities(a, pool))
            except BaseException as e:
                e.args = (f"{driver}: {e}",) + e.args[1:] if not isinstance(e, Refused) else e.args
                raise
            a.call("pool-delete", id=pool)
        a.clean()
    each.__name__, each.__doc__ = fn.__name__, fn.__doc__
    return apart(each)


@in_pools
def roots(a, pool, can):
    """an instance's root lives in the pool: written, stopped, copied in and out, committed, removed"""
    id = a.create(command=["/bin/sleep", "1000"], object={"pool_id": pool})
    a.call("instance-start", id=id)
    a.sh(id, "echo x >/file; chown 3:4 /file; rm /etc/passwd")
    a.call("instance-stop", id=id, signal="SIGKILL")
    equal(a.call("archive-stat", id=id, path="/file")["size"], 2)
    changes = a.changes(id)
    assert {b"A/file", b"D/etc/passwd"} <= changes, changes
    _, fds = a.full("instance-commit", {"id": id})
    with tarfile.open(fileobj=io.BytesIO(read_all(fds[0]))) as t:
        m = t.getmember("file")
        equal((m.uid, m.gid), (3, 4))
    e = refused("conflict", a.call, "pool-delete", id=pool)
    contains(e.message, id[:12])
    a.call("instance-start", id=id)
    equal(a.sh(id, "cat /file"), "x\n")
    a.delete(id)


@in_pools
def snapshots(a, pool, can):
    """of a volume in use: taken, listed, gone back to, newer ones stay; removed; refused while somebody uses it"""
    if not can.get("snapshots"):
        return
    v = a.volume(pool)
    id = a.with_volumes(["/bin/sleep", "1000"], [(v, "/data", {"pool": pool})])
    a.call("instance-start", id=id)
    body = {"pool_id": pool, "id": v}
    for n in (1, 2, 3):
        a.sh(id, f"echo {n} >/data/f")
        a.call("snapshot-create", name=f"s{n}", **body)
    a.call("snapshot-create", name="s3", **body)
    equal(sorted(s["name"] for s in a.call("volume-usage", **body)["snapshots"]), ["s1", "s2", "s3"])
    refused("conflict", a.call, "snapshot-restore", name="s1", **body)
    a.call("instance-stop", id=id, signal="SIGKILL")
    for n in (1, 3, 2):
        a.call("snapshot-restore", name=f"s{n}", **body)
        equal(a.used([(v, "/data", {"pool": pool})], "cat /data/f"), f"{n}\n")
    refused("not-found", a.call, "snapshot-restore", name="nope", **body)
    refused("not-found", a.call, "snapshot-create", pool_id=pool, id="5" * 64, name="x")
    a.call("snapshot-delete", name="s2", **body)
    a.call("snapshot-delete", name="s2", **body)
    copy = a.volume(pool, from_={"pool_id": pool, "id": v, "snapshot": "s1"})
    equal(a.used([(copy, "/data", {"pool": pool})], "cat /data/f"), "1\n")
    a.delete(id)
    a.remove(v, copy, pool=pool)


@in_pools
def root_snapshots(a, pool, can):
    """of an instance that runs, which is held still meanwhile; gone back to when it is stopped; an instance made of one"""
    if not can.get("snapshots"):
        return
    id = a.create(command=["/bin/sleep", "1000"], object={"pool_id": pool})
    a.call("instance-start", id=id)
    a.sh(id, "echo one >/f; chown 11:12 /f")
    body = {"pool_id": pool, "id": id, "instance": True}
    a.call("snapshot-create", name="first", **body)
    equal(a.state_of(id), "running")
    a.sh(id, "echo two >/f")
    refused("conflict", a.call, "snapshot-restore", name="first", **body)
    made = a.create(command=["/bin/sleep", "1000"], object={"pool_id": pool},
                    more={"root": {"pool_id": pool, "id": id, "snapshot": "first"}})
    now = a.create(command=["/bin/sleep", "1000"], more={"root": {"pool_id": pool, "id": id}})
    if can.get("linked_clones"):
        linked = a.create(command=["/bin/sleep", "1000"], object={"pool_id": pool},
                          more={"root": {"pool_id": pool, "id": id, "snapshot": "first"}, "linked": True})
        a.call("instance-start", id=linked)
        equal(a.sh(linked, "cat /f; stat -c %u:%g /f"), "one\n11:12\n")
        a.delete(linked)
    else:
        refused("unsupported", a.create, command=["/bin/true"], object={"pool_id": pool},
                more={"root": {"pool_id": pool, "id": id, "snapshot": "first"}, "linked": True})
    for i, text in ((made, "one"), (now, "two")):
        a.call("instance-start", id=i)
        equal(a.sh(i, "cat /f; stat -c %u:%g /f; echo mine >/f"), f"{text}\n11:12\n")
    a.call("instance-stop", id=id, signal="SIGKILL")
    a.call("snapshot-restore", name="first", **body)
    a.call("instance-start", id=id)
    equal(a.sh(id, "cat /f; stat -c %u:%g /f"), "one\n11:12\n")
    refused("conflict", a.create, layers=[], more={"root": {"pool_id": pool, "id": id}})
    refused("not-found", a.create, more={"root": {"pool_id": pool, "id": "6" * 64}})
    a.call("snapshot-delete", name="first", **body)
    a.delete(id, made, now)


@in_pools
def copies(a, pool, can):
    """a volume is copied within the pool and to another one, also while it is used; block volumes too"""
    v = a.volume(pool)
    id = a.with_volumes(["/bin/sleep", "1000"], [(v, "/data", {"pool": pool})])
    a.call("instance-start", id=id)
    a.sh(id, "cd /data; echo x >f; chown 7:8 f; ln f g; mkfifo p; mkdir d; dd if=/dev/zero of=d/z bs=1M count=3 2>/dev/null")
    progress = []
    copy = a.volume(pool, from_={"pool_id": pool, "id": v})
    other = a.volume(LOCAL, from_={"pool_id": pool, "id": v}, progress=progress)
    equal(a.state_of(id), "running")
    a.delete(id)
    for p, c in ((pool, copy), (LOCAL, other)):
        equal(a.used([(c, "/data", {"pool": p})], "cd /data; stat -c '%n %u:%g %h' f; test -p p; wc -c <d/z"),
              f"f 7:8 2\n{3 * MIB}\n")
    a.remove(v, copy, pool=pool)
    a.remove(other)
    if not can.get("blocks"):
        refused("unsupported", a.volume, pool, kind="block", size=MIB)
        return
    b = a.volume(pool, kind="block", size=2 * MIB)
    refused("invalid", a.volume, kind="block", size=MIB, from_={"pool_id": pool, "id": b})
    refused("invalid", a.volume, from_={"pool_id": pool, "id": b})
    c = a.volume(kind="block", size=3 * MIB, from_={"pool_id": pool, "id": b})
    a.remove(b, pool=pool)
    a.remove(c)


@in_pools
def quota(a, pool, can):
    """a size is kept to where the pool can, and can be changed; else it is refused"""
    size = 40 * MIB
    if not can.get("quotas"):
        refused("unsupported", a.volume, pool, size=size)
        refused("unsupported", a.create, root_size=size, object={"pool_id": pool})
        return
    v = a.volume(pool, size=size)
    fill = "dd if=/dev/urandom of={0}/f bs=1M count=60 2>/dev/null; sync; r=$(wc -c <{0}/f); rm {0}/f; echo $r"
    mount = [(v, "/data", {"pool": pool})]
    got = int(a.used(mount, fill.format("/data")))
    assert 20 * MIB <= got <= size, f"{got} bytes fit"
    a.call("volume-resize", pool_id=pool, id=v, size=100 * MIB)
    equal(int(a.used(mount, fill.format("/data"))), 60 * MIB)
    id = a.create(command=["/bin/sleep", "1000"], root_size=size, object={"pool_id": pool})
    a.call("instance-start", id=id)
    got = int(a.sh(id, fill.format("/tmp")))
    assert 20 * MIB <= got <= size, f"{got} bytes fit"
    a.delete(id)
    a.remove(v, pool=pool)


@apart
def full_pool(a):
    """in a full pool instances and requests are told so; with room again all goes on"""
    pool = a.pool("tmpfs", size=8 * MIB)
    v = a.volume(pool)
    id = a.with_volumes(["/bin/sleep", "1000"], [(v, "/data", {"pool": pool})], object={"pool_id": pool})
    a.call("instance-start", id=id)
    equal(a.sh(id, "dd if=/dev/zero of=/data/big bs=64k count=80 2>/dev/null; echo kept >/data/k; cat /data/k"), "kept\n")
    refused("no-space", a.volume, pool, from_={"pool_id": pool, "id": v})
    refused("no-space", a.call, "snapshot-create", pool_id=pool, id=v, name="s")
    contains(a.sh(id, "dd if=/dev/zero of=/fill bs=64k 2>&1; cat /data/k"), "No space left on device")
    refused("no-space", a.create, object={"pool_id": pool}, more={"root": {"pool_id": pool, "id": id}})
    equal(set(a.volumes(pool)), {v, id})
    equal(a.sh(id, "cat /data/k; rm /fill /data/big; echo more >/data/m; cat /data/m").split(), ["kept", "more"])
    x = a.volume(pool, from_={"pool_id": pool, "id": v})
    a.call("snapshot-create", pool_id=pool, id=v, name="s")
    a.delete(id)
    a.remove(v, x, pool=pool)
    a.call("pool-delete", id=pool)
    a.clean()


@apart
def streamed(a):
    """from one btrfs pool to another a snapshot goes as a stream, whole"""
    pools = [a.pool("btrfs", size=256 * MIB) for _ in range(2)]
    if not all(capabilities(a, p).get("send") for p in pools):
        raise Skip("btrfs pools cannot send here")
    v = a.volume(pools[0])
    a.used([(v, "/data", {"pool": pools[0]})], "cd /data; echo x >f; chown 7:8 f; ln f g; mkdir d; mkfifo d/p")
    a.call("snapshot-create", pool_id=pools[0], id=v, name="s")
    w = a.volume(pools[1], from_={"pool_id": pools[0], "id": v, "snapshot": "s"})
    equal(a.used([(w, "/data", {"pool": pools[1]})], "cd /data; stat -c '%u:%g %h' f; test -p d/p; echo y >f; cat f"), "7:8 2\ny\n")
    equal(a.call("volume-usage", pool_id=pools[1], id=w).get("snapshots", []), [])
    for pool, volume in zip(pools, (v, w)):
        a.remove(volume, pool=pool)
        a.call("pool-delete", id=pool)
    a.clean()


# ---- data in and out ----

def exported(a, v, format, pool=LOCAL, **more):
    _, fds = a.full("volume-export", dict({"pool_id": pool, "volume": {"id": v, "spec": {"name": "x"}}, "format": format}, **more))
    return read_all(fds[0])


def imported(a, data, format, pool=LOCAL, id=None, **spec):
    id = id or os.urandom(32).hex()
    with tempfile.TemporaryFile() as f:
        f.write(data)
        f.seek(0)
        a.full("volume-import", {"pool_id": pool, "format": format,
                                 "volume": {"id": id, "spec": dict({"name": "i" + id[:8]}, **spec)}}, [f.fileno()])
    return id


@apart
def tars(a):
    """a file system goes out as a tar and comes in as the same; one that wants out of its directory does not get there"""
    v = a.volume()
    a.used([(v, "/data")], "cd /data; mkdir d; echo x >d/f; chown 1000:1001 d/f; ln -s f d/l; chmod 4750 d/f")
    data = exported(a, v, "tar")
    w = imported(a, data, "tar")
    equal(a.used([(w, "/data")], "cd /data; stat -c '%u:%g %a' d/f; readlink d/l; cat d/f"), "1000:1001 4750\nf\nx\n")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("../../evil")
        t.addfile(info)
    before = a.volumes()
    refused("invalid", imported, a, out.getvalue(), "tar")
    refused("invalid", imported, a, data, "raw")
    refused("invalid", imported, a, data, "tar", kind="block", size=MIB)
    equal(sorted(a.volumes()), sorted(before))
    a.remove(v, w)
    a.clean()


@apart
def disks(a):
    """a block volume goes out and comes in raw and as qcow2, whole; too large a one is refused; and one that names a file
    of the host gets nothing of it"""
    content = os.urandom(MIB) + bytes(MIB) + b"end" + bytes(MIB - 3)
    v = imported(a, content, "raw", kind="block", size=4 * MIB)
    equal(hashlib.sha256(exported(a, v, "raw")).digest(), hashlib.sha256(content + bytes(MIB)).digest())
    refused("too-large", imported, a, content, "raw", kind="block", size=2 * MIB)
    made = [v]
    if os.path.exists("/usr/bin/qemu-img"):
        image = exported(a, v, "qcow2")
        assert image[:4] == b"QFI\xfb", image[:4]
        made.append(w := imported(a, image, "qcow2", kind="block", size=4 * MIB))
        equal(exported(a, w, "raw"), content + bytes(MIB))
        secret = a.dir + "/secret"
        with open(secret, "wb") as f:
            f.write(b"secret" * 100000)
        evil = a.dir + "/evil.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", evil], check=True)
        with open(evil, "rb") as f:
            refused("invalid", imported, a, f.read(), "qcow2", kind="block", size=4 * MIB)
        refused("invalid", imported, a, b"garbage" * 1000, "qcow2", kind="block", size=4 * MIB)
        refused("invalid", imported, a, image, "qcow2", kind="block", size=2 * MIB)
    equal(sorted(a.volumes()), sorted(made))
    a.remove(*made)
    a.clean()


# ---- cancelled, killed ----

@apart
def cancelled(a):
    """a copy whose client goes away is undone"""
    v = a.volume()
    a.used([(v, "/data")], "dd if=/dev/urandom of=/data/f bs=1M count=60 2>/dev/null")
    w = os.urandom(32).hex()
    c = a.request("volume-create", {"pool_id": LOCAL, "volume": {"id": w, "spec": {"name": "w"}}, "from": {"pool_id": LOCAL, "id": v}})
    kind, _, _ = c.recv()
    equal(kind, "progress")
    c.close()
    wait_until(lambda: not any(w in x for x in a.stored()), 60, "its removal")
    equal(a.volumes(), [v])
    a.remove(v)
    a.clean()


def snapshots_of(a, pool, volume):
    return [s["name"] for s in a.call("volume-usage", pool_id=pool, id=volume).get("snapshots", [])]


POINTS = {
    "pool": ["pool.begun", "pool.created", "pool.activated", "pool.reported", "pool.renamed", "pool.deactivated", "pool.removed"],
    "volume": ["volume.begun", "volume.made", "volume.finished", "volume.renamed", "volume.undone"],
    "copy": ["volume.begun", "copy.created", "volume.marked", "volume.opened", "copy.progress", "copy.written", "volume.made",
             "volume.finished", "volume.closed"],
    "use": ["volume.marked", "volume.opened", "start.volumes", "start.created", "start.started", "reap.recorded", "volume.closed",
            "reap.closed"],
    "attach": ["attach.noted", "attach.opened", "attach.mounted", "attach.done", "detach.noted", "detach.unmounted",
               "detach.forgotten", "volume.closed"],
    "snapshot": ["freeze.frozen", "snapshot.synced", "snapshot.taken", "restore.closed", "restore.done", "snapshot.removed"],
    "root": ["create.filled", "create.record", "root.made", "root.filled", "create.root", "create.renamed", "delete.renamed",
             "root.removed", "volume.closed"],
    "clone": ["freeze.frozen", "copy.cloned", "copy.created", "copy.written", "root.made", "root.filled", "create.root"],
    "import": ["volume.begun", "import.progress", "import.written", "volume.made", "volume.finished"],
    "disk": ["disk.copied", "volume.begun", "template.progress", "template.written", "volume.made", "volume.finished", "copy.created",
             "copy.written", "root.made", "root.filled", "create.root", "snapshot.taken", "restore.done", "root.removed",
             "volume.renamed", "volume.undone"],
    "disk_clone": ["template.written", "copy.cloned", "root.made", "create.root", "snapshot.taken", "root.removed", "volume.undone"],
    "move": ["volume.begun", "copy.created", "move.copied", "volume.made", "volume.finished", "volume.undone", "volume.closed"],
    "block": ["volume.looped", "volume.closed", "volume.resized", "export.written"],
}


DISK = bytes(range(256)) * (2 * MIB // 256)


def scenario(a, name, pool):
    """Uses storage in one way, all of it again after each crash. Every step can be taken twice."""
    ids = [hashlib.sha256(f"{name} {n}".encode()).hexdigest() for n in range(4)]

    def step(request, /, tolerate=(), **body):
        try:
            return a.call(request, **body)
        except Refused as e:
            if e.kind not in tolerate:
                raise

    def delete(*instances):
        for i in instances:
            step("instance-delete", id=i, force=True)

    def remove(*volumes):
        for v in volumes:
            step("volume-delete", pool_id=pool, id=v)

    def create(id, mounts=(), **kw):
        a.with_volumes(["/bin/sleep", "1000"], [(m[0], m[1], dict({"pool": pool}, **(m[2] if len(m) > 2 else {}))) for m in mounts],
                       id=id, object={"pool_id": pool}, **kw)

    def start(id):
        step("instance-start", id=id, tolerate=("conflict",))

    def used(pool_id, script):
        """Output of a script with the first volume."""
        delete(*(i["id"] for i in a.call("instance-list").get("instances", [])))  # left of a crash
        return a.used([(ids[0], "/data", {"pool": pool_id})], script)

    if name == "pool":
        step("pool-create", id=ids[0], spec={"name": "faulty", "driver": "btrfs", "size": 128 * MIB})
        step("pool-delete", id=ids[0])
    elif name == "volume":
        a.volume(pool, id=ids[0])
        remove(ids[0])
    elif name in ("copy", "import"):
        a.volume(pool, id=ids[0])
        if name == "copy":
            create(ids[2], [(ids[0], "/data")])
            start(ids[2])
            a.sh(ids[2], "echo x >/data/f")
            a.volume(pool, id=ids[1], from_={"pool_id": pool, "id": ids[0]})
            delete(ids[2])
        else:
            imported(a, b"x" * MIB, "raw", id=ids[1], kind="block", size=MIB)
        remove(*ids[:2])
    elif name == "use":
        a.volume(pool, id=ids[0])
        for i in ids[1:3]:
            create(i, [(ids[0], "/data")])
            start(i)
        step("instance-stop", id=ids[1], signal="SIGKILL")
        delete(*ids[1:3])
        remove(ids[0])
    elif name == "attach":
        a.volume(pool, id=ids[0])
        create(ids[1])
        start(ids[1])
        step("volume-attach", id=ids[1], pool_id=pool, volume_id=ids[0], target="/x")
        equal(a.sh(ids[1], "touch /x/y; grep -c ' /x ' /proc/mounts"), "1\n")
        step("volume-detach", id=ids[1], target="/x")
        equal(a.sh(ids[1], "grep -c ' /x ' /proc/mounts || true"), "0\n")
        delete(ids[1])
        remove(ids[0])
    elif name == "snapshot":
        create(ids[1])
        start(ids[1])
        equal(a.sh(ids[1], "cat /f 2>/dev/null || echo kept >/f; cat /f").split()[-1], "kept")
        for _ in range(2):
            step("snapshot-create", pool_id=pool, id=ids[1], name="s", instance=True)
        equal(a.sh(ids[1], "cat /f"), "kept\n")
        step("instance-stop", id=ids[1], signal="SIGKILL")
        step("snapshot-restore", pool_id=pool, id=ids[1], name="s", instance=True)
        step("snapshot-delete", pool_id=pool, id=ids[1], name="s", instance=True)
        delete(ids[1])
    elif name == "root":
        create(ids[1])
        delete(ids[1])
    elif name == "clone":
        create(ids[1])
        start(ids[1])
        a.sh(ids[1], "echo kept >/f")
        create(ids[2], more={"root": {"pool_id": pool, "id": ids[1]}})
        create(ids[3], more={"root": {"pool_id": pool, "id": ids[1]}, "linked": True})
        equal(a.sh(ids[1], "cat /f"), "kept\n")
        for i in ids[2:]:
            start(i)
            equal(a.sh(i, "cat /f"), "kept\n")
        delete(*ids[1:])
    elif name in ("disk", "disk_clone"):
        digest = hashlib.sha256(DISK).hexdigest()
        with tempfile.TemporaryFile() as f:
            f.write(DISK)
            f.flush()
            os.lseek(f.fileno(), 0, os.SEEK_SET)
            a.full("template-make", {"pool_id": pool, "digest": "sha256:" + digest, "format": "raw", "size": len(DISK)}, [f.fileno()])
        a.create(id=ids[1], kind="machine", layers=[], object={"pool_id": pool}, more={"disk": "sha256:" + digest})
        for _ in range(2):
            step("snapshot-create", pool_id=pool, id=ids[1], name="s", instance=True)
        step("snapshot-restore", pool_id=pool, id=ids[1], name="s", instance=True)
        equal(step("volume-usage", pool_id=pool, id=ids[1])["size"], len(DISK))
        delete(ids[1])
        remove(digest)
    elif name == "move":
        other = "btrfs" if pool != LOCAL else "tmpfs"
        step("pool-create", id=ids[3], spec={"name": "target", "driver": other, "size": 128 * MIB})
        if ids[0] in a.volumes(pool):
            assert set(snapshots_of(a, pool, ids[0])) <= {"s1", "s2"}, snapshots_of(a, pool, ids[0])
        a.volume(pool, id=ids[0])
        for s in ("s1", "s2"):
            if s not in snapshots_of(a, pool, ids[0]):
                used(pool, f"echo {s} >/data/f; touch /data/{s}")
                step("snapshot-create", pool_id=pool, id=ids[0], name=s)
        used(pool, "echo now >/data/f; rm -f /data/s1")
        a.volume(ids[3], id=ids[0], from_={"pool_id": pool, "id": ids[0]}, snapshots=["s1", "s2"])
        equal((sorted(snapshots_of(a, pool, ids[0])), sorted(snapshots_of(a, ids[3], ids[0]))), (["s1", "s2"],) * 2)
        look = "cat /data/f; ls /data"
        equal(used(ids[3], look), "now\nf\ns2\n")
        remove(ids[0])
        for s, there in (("s2", "f\ns1\ns2"), ("s1", "f\ns1")):
            step("snapshot-restore", pool_id=ids[3], id=ids[0], name=s)
            equal(used(ids[3], look), f"{s}\n{there}\n")
        step("volume-delete", pool_id=ids[3], id=ids[0])
        step("pool-delete", id=ids[3])
    elif name == "block":
        a.volume(pool, id=ids[0], kind="block", size=MIB)
        create(ids[1], [(ids[0], "/dev/disk", {"kind": "block"})])
        start(ids[1])
        step("volume-resize", pool_id=pool, id=ids[0], size=2 * MIB)
        exported(a, ids[0], "raw", pool=pool)
        delete(ids[1])
        remove(ids[0])


def killed_at(a, name, who, point, pool):
    """Runs the scenario with that fault, and again without it until it goes through. Was anybody killed?"""
    if a.process.poll() is None:
        a.process.terminate()
        a.process.wait(60)
    a.start(fault=f"{who}:{point}")
    hit = False
    for _ in range(6):
        try:
            scenario(a, name, pool)
            break
        except (Gone, OSError):
            hit = True
            if who != "worker":
                a.ended()
            if a.process.poll() is None:
                a.process.terminate()
                a.process.wait(60)
            a.start()
    else:
        raise AssertionError(f"{name} does not go through after a crash at {point}\n{a.log()}")
    if not hit and who == "agent":
        a.ended()  # at the last step of all, which the worker has finished
        a.start()
        hit = True
    return hit


# A pool of its own kind takes a stream.
STREAMED = ["volume.begun", "copy.received", "move.marked", "volume.made", "volume.finished", "volume.undone", "volume.closed"]


def faults(name, driver=None):
    def killed(a):
        """placeholder"""
        pool = LOCAL if not driver else a.pool(driver, size=256 * MIB)
        for point in STREAMED if driver and name == "move" else POINTS[name]:
            for who in ("worker", "both", "agent"):
                try:
                    before = os.path.getsize(a.log_path)
                    hit = killed_at(a, name, who, point, pool)
                    with open(a.log_path, errors="replace") as f:
                        f.seek(before)
                        hit |= "was ended by signal 9" in f.read()
                    assert hit, f"nobody came by {point}"
                    if not driver:
                        a.clean()
                except BaseException as e:
                    print(f"# {name} at {who}:{point}: {e!r}")
                    raise
        if driver:
            a.process.terminate()
            a.process.wait(60)
            a.start()
            a.call("pool-delete", id=pool)
            a.clean()
    killed.__name__ = f"killed_{name}" + (f"_{driver}" if driver else "")
    killed.__doc__ = f"{name}{' on ' + driver if driver else ''}: killed at every step, then repeated: done, and nothing is left"
    apart(killed)


for name in POINTS:
    if not name.endswith("clone"):
        faults(name)
for name in ("volume", "snapshot", "root", "clone", "disk_clone", "move"):
    faults(name, "btrfs")


@apart
def half_filled(a):
    """a volume that was being filled from the image when everything died gets all of it at the next start"""
    layer = tar_with({f"data/{n:03}": (0o644, 0, 0) for n in range(300)})
    layers = [a.layer, a.unpack(layer)]
    v = a.volume()
    id = a.with_volumes(["/bin/sleep", "1000"], [(v, "/data")], layers=layers)
    a.kill()
    a.start(fault="both:start.created")
    try:
        a.call("instance-start", id=id)
    except Gone:
        pass
    a.ended()
    os.unlink(f"{a.state}/agent/storage/volumes/{v}/tree/000")  # as if it had come no further
    a.start()
    a.call("instance-start", id=id)
    equal(a.sh(id, "ls /data | wc -l").strip(), "300")
    a.delete(id)
    a.remove(v)
    a.call("layer-delete", diff_id=layers[1])
    a.clean()


@apart
def shutdown(a):
    """a shutdown puts pools away; the next start brings them back with what they hold"""
    pool = a.pool("btrfs", size=256 * MIB)
    v = a.volume(pool)
    a.used([(v, "/data", {"pool": pool})], "echo kept >/data/f")
    id = a.with_volumes(["/bin/sleep", "1000"], [(v, "/data", {"pool": pool})], restart={"policy": "always"})
    a.call("instance-start", id=id)
    a.call("shutdown", timeout="100ms")
    a.process.wait(60)
    equal(a.leftovers()["mounts"], [])
    equal([x for x in a.stored() if x.startswith("loop")], [])
    a.start()
    a.wait_state(id, "running")
    equal(a.sh(id, "cat /data/f"), "kept\n")
    a.delete(id)
    a.remove(v, pool=pool)
    a.call("pool-delete", id=pool)
    a.clean()


run(setup, lambda a: a.close())
