#!/usr/bin/env python3
"""The agent from control's side of the socket: every request, hostile callers, and what a crash leaves."""
import concurrent.futures
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from agent import Agent, Connection, Events, Gone, Refused, Stream, frame, read_all, tar_of
from tap import contains, equal, need, note, run, test
from wabe import busybox_rootfs, children, wait_until


def apart(fn):
    """A test after whose failure the next one finds things in order."""
    def wrapped(a):
        try:
            fn(a)
        except BaseException:
            a.restore()
            raise
    wrapped.__name__, wrapped.__doc__ = fn.__name__, fn.__doc__
    return test(wrapped)


def setup():
    a = Agent()
    try:
        a.start()
        a.busybox()
    except BaseException:
        a.close()
        raise
    return a


def refused(kind, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except Refused as e:
        equal(e.kind, kind, f"kind of \"{e.message}\"")
        return e
    raise AssertionError(f"not refused ({kind} was wanted)")


def log_text(a, id):
    _, fds = a.full("instance-logs", {"id": id})
    return b"".join(read_all(fd) for fd in fds).decode()


# ---- the plain way ----

@apart
def hello(a):
    """says what it and its host are"""
    h = a.call("hello")
    assert h["cgroup_version"] in (1, 2) and h["cpus"] >= 1 and h["userns"], h


@apart
def life(a):
    """an instance is created, started, seen, stopped, started again, deleted; nothing stays behind"""
    id = a.create(command=["/bin/sleep", "1000"])
    equal(a.state_of(id), "created")
    started = a.call("instance-start", id=id)
    equal(started["status"]["state"], "running")
    assert started["status"]["pid"] > 0 and started["uid_base"] >= a.uid_pool, started
    refused("conflict", a.call, "instance-start", id=id)
    stopped = a.call("instance-stop", id=id, signal="SIGKILL")
    equal((stopped["status"]["state"], stopped["status"]["exit_code"]), ("exited", 137))
    equal(a.call("instance-stop", id=id)["status"]["state"], "exited", "a second stop")
    a.call("instance-start", id=id)
    refused("conflict", a.call, "instance-delete", id=id)
    a.call("instance-delete", id=id, force=True)
    equal(a.call("instance-delete", id=id), {}, "a second delete")
    a.clean()


@apart
def create_again(a):
    """creating the same instance again gives the same; uid ranges differ, are given back and used again"""
    one = a.create(command=["/bin/true"])
    a.create(id=one, command=["/bin/true"])
    two = a.create(command=["/bin/true"])
    bases = {i["id"]: i["uid_base"] for i in a.call("instance-list")["instances"]}
    equal(len(bases), 2)
    assert abs(bases[one] - bases[two]) >= 65536, bases
    a.delete(one)
    three = a.create(command=["/bin/true"])
    bases2 = {i["id"]: i["uid_base"] for i in a.call("instance-list")["instances"]}
    equal(bases2[three], bases[one], "the range that became free")
    a.delete(two, three)
    a.clean()


@apart
def confined(a):
    """root inside is nobody outside; the image's files are root's; its hostname, hosts and environment"""
    out, err, code = a.output_of("/bin/sh", "-c", "cat /proc/self/uid_map; stat -c %u /bin/busybox /etc/hosts; hostname; "
                                 "cat /etc/hostname; grep -c $(hostname) /etc/hosts; echo $PATH; touch /made && stat -c %u:%g /made",
                                 hostname="cell")
    lines = out.decode().split("\n")
    equal(code, 0, err)
    equal(lines[0].split()[0], "0")
    assert int(lines[0].split()[1]) >= a.uid_pool, lines
    equal(lines[1:6], ["0", "0", "cell", "cell", "1"])
    contains(lines[6], "/usr/local/sbin:")
    equal(lines[7], "0:0")


@apart
def process_merge(a):
    """entrypoint, command, environment, user and working directory merge with the image's as docker does"""
    config = {"entrypoint": ["/bin/echo", "entry"], "command": ["cmd"], "env": ["A=1", "B=2"]}
    def got(**spec):
        command = spec.pop("command", [])
        return a.output_of(*command, config=dict(config, **spec.pop("more", {})), **spec)[0].decode().split()
    id = a.create(config=config)
    s = a.attach(id)
    a.call("instance-start", id=id)
    equal(s.all()[0], b"entry cmd\n")
    a.delete(id)
    equal(got(command=["mine"]), ["entry", "mine"])
    equal(got(entrypoint=["/bin/echo"], command=["x"]), ["x"])
    equal(got(entrypoint=["/bin/sh", "-c", "echo $A $B $C"], command=["sh"], env=["B=9", "C=3"]), ["1", "9", "3"])
    equal(got(entrypoint=["/bin/sh", "-c", "echo [$A]"], command=["sh"], env=["A"]), ["[]"])
    equal(got(entrypoint=["/bin/sh", "-c", "pwd; id -u; id -g"], command=["sh"], user="alice", workdir="/not/there/yet"),
          ["/not/there/yet", "1000", "1000"])
    equal(got(entrypoint=["/bin/sh", "-c", "id -u"], command=["sh"], more={"user": "1234"}), ["1234"])
    e = refused("invalid", a.call, "instance-start", id=(id := a.create(config={})))
    equal(e.field, "spec.command")
    a.delete(id)
    a.clean()


@apart
def failing_start(a):
    """a missing command is 127, one that cannot be executed 126, an unknown user is told; all can be deleted"""
    for command, kind, code in ((["/not/there"], "no-command", 127), (["/etc/passwd"], "no-exec", 126)):
        id = a.create(command=command)
        refused(kind, a.call, "instance-start", id=id)
        s = a.status(id)
        equal((s["state"], s["exit_code"]), ("created", code))
        assert s["error"], s
        a.delete(id)
    id = a.create(command=["/bin/true"], user="nobody-here")
    contains(why(a, id), "nobody-here")
    a.delete(id)
    a.clean()


def why(a, id):
    try:
        a.call("instance-start", id=id)
    except Refused as e:
        return e.message
    raise AssertionError("it started")


@apart
def attach_before_start(a):
    """who attaches before the start sees the first byte and the last, of many, and the status"""
    n = 40
    def one(i):
        out, err, code = a.output_of("/bin/sh", "-c", f"echo first {i}; seq 1 2000; echo last {i}; echo e >&2; exit {i}")
        lines = out.decode().split("\n")
        equal((lines[0], lines[-2], len(lines), err, code), (f"first {i}", f"last {i}", 2003, b"e\n", i))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(n)))
    a.clean()


@apart
def attach_again(a):
    """attach to a running instance, input, two clients, resize-free terminal; logs have it all"""
    id = a.create(command=["/bin/cat"], stdin_open=True, stdin_once=True)
    one = a.attach(id, stdin=True)
    a.call("instance-start", id=id)
    one.write(b"hello\n")
    one.until(b"hello")
    two = a.attach(id)
    two.read()
    one.write(b"again\n")
    two.until(b"again")
    one.write(b"")
    equal(one.all()[2], 0)
    equal(two.all()[2], 0)
    a.wait_state(id, "exited")
    contains(log_text(a, id), "stdout F hello")
    a.delete(id)
    tty = a.create(command=["/bin/sh", "-c", "test -t 0 && test -t 1 && echo is a tty; echo $TERM"], tty=True)
    s = a.attach(tty)
    a.call("instance-start", id=tty)
    contains(s.all()[0], b"is a tty\r\nxterm\r\n")
    a.delete(tty)


@apart
def closes_output(a):
    """a container that closes its output runs on, and its status is kept"""
    id = a.create(command=["/bin/sh", "-c", "exec 1>&- 2>&- 0<&-; sleep 0.3; exit 5"])
    s = a.attach(id)
    a.call("instance-start", id=id)
    equal(s.all(), (b"", b"", 5))
    a.wait_state(id, "exited")
    equal(a.status(id)["exit_code"], 5)
    a.delete(id)


@apart
def stop_stubborn(a):
    """a container that ignores SIGTERM is killed after its time; its own stop signal is used; an init forwards"""
    id = a.create(command=["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    s = a.attach(id)
    a.call("instance-start", id=id)
    s.until(b"ready")
    got = a.call("instance-stop", id=id, timeout="200ms")
    equal((got["status"]["state"], got["status"]["exit_code"], got["status"].get("stopped_by_user")), ("exited", 137, True))
    a.delete(id)
    id = a.create(command=["/bin/sh", "-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done"], stop_signal="SIGUSR1")
    s = a.attach(id)
    a.call("instance-start", id=id)
    s.until(b"ready")
    equal(a.call("instance-stop", id=id)["status"]["exit_code"], 7)
    a.delete(id)
    id = a.run_it("/bin/sleep", "1000", init=True)
    equal(a.call("instance-stop", id=id)["status"]["exit_code"], 143)
    a.delete(id)
    a.clean()


@apart
def kill_and_wait(a):
    """kill sends any signal; events tell the end; an unknown signal is refused"""
    e = a.events()
    id = a.run_it("/bin/sh", "-c", "trap 'exit 9' HUP; while :; do sleep 0.05; done")
    refused("invalid", a.call, "instance-kill", id=id, signal="SIGNONSENSE")
    time.sleep(0.2)
    a.call("instance-kill", id=id, signal="HUP")
    died = e.until(id, "die")
    equal((died["exit_code"], died["status"]["state"]), (9, "exited"))
    actions = [x for i, x in e.seen if i == id]
    equal(actions, ["create", "start", "kill", "die"])
    refused("conflict", a.call, "instance-kill", id=id, signal="KILL")
    a.delete(id)
    e.until(id, "destroy")
    e.close()


@apart
def pause(a):
    """frozen and thawed; nothing runs meanwhile; exec waits for nobody; stop of a frozen one works"""
    id = a.run_it("/bin/sh", "-c", "while :; do echo x; sleep 0.02; done")
    equal(a.call("instance-pause", id=id)["status"]["state"], "paused")
    size = len(log_text(a, id))
    time.sleep(0.3)
    equal(len(log_text(a, id)), size, "log while frozen")
    refused("conflict", a.call, "exec-start", id=id, exec_id="a" * 64, command=["/bin/true"])
    refused("conflict", a.call, "instance-pause", id=id)
    equal(a.call("instance-unpause", id=id)["status"]["state"], "running")
    wait_until(lambda: len(log_text(a, id)) > size, 30, "output after the thaw")
    a.call("instance-pause", id=id)
    equal(a.call("instance-stop", id=id, timeout="100ms")["status"]["state"], "exited")
    a.call("instance-start", id=id)
    a.call("instance-pause", id=id)
    a.call("instance-delete", id=id, force=True)
    a.clean()


@apart
def executes(a):
    """exec: output, status, user, environment, directory, tty, detach, state, delete; unknown commands"""
    id = a.run_it("/bin/sleep", "1000", env=["FROM=spec"], workdir="/tmp")
    out, err, code = a.exec_output(id, "/bin/sh", "-c", "echo $FROM $MORE; pwd; id -u; echo e >&2; exit 4",
                                   env=["MORE=exec"], user="1000")
    equal((out, err, code), (b"spec exec\n/tmp\n1000\n", b"e\n", 4))
    out, _, _ = a.exec_output(id, "/bin/sh", "-c", "cat /proc/self/uid_map; pwd; grep Seccomp: /proc/self/status", workdir="/etc")
    contains(out, b"/etc\n")
    contains(out, b"Seccomp:\t2")
    contains(a.exec_output(id, "/bin/sh", "-c", "test -t 1 && stty size", tty=True, rows=33, columns=77)[0], b"33 77")
    s, x = a.execute(id, "/bin/cat", stdin_open=True)
    s.write(b"echoed\n")
    s.until(b"echoed")
    state = a.call("exec-state", id=id, exec_id=x)
    assert state["running"] and state["pid"] > 0, state
    _, fds = a.full("exec-attach", {"id": id, "exec_id": x, "stdout": True})
    second = Stream(fds[0])
    s.write(b"both\n")
    second.until(b"both")
    a.call("exec-delete", id=id, exec_id=x)
    equal(s.all()[2], 137)
    refused("not-found", a.call, "exec-state", id=id, exec_id=x)
    e = a.events()
    nothing, x = a.execute(id, "/bin/sh", "-c", "exit 6", detach=True)
    equal(nothing, None)
    equal(e.until(id, "exec_die")["exit_code"], 6)
    equal(a.call("exec-state", id=id, exec_id=x), {"running": False, "pid": 0, "exit_code": 6})
    refused("exists", a.call, "exec-start", id=id, exec_id=x, command=["/bin/true"])
    refused("no-command", a.execute, id, "/not/there")
    refused("no-exec", a.execute, id, "/etc/passwd")
    e.close()
    s, x = a.execute(id, "/bin/sleep", "1000")
    a.call("instance-stop", id=id, timeout="0s")
    equal(s.all()[2], 137, "an exec's end with its instance")
    equal(a.call("exec-state", id=id, exec_id=x)["running"], False)
    a.delete(id)
    a.clean()


@apart
def limits_and_stats(a):
    """limits hold, change live, and stats and top show them"""
    id = a.run_it("/bin/sh", "-c", "sleep 1000 & sleep 1000", limits={"memory": "64MiB", "pids": 20, "cpus": 0.5})
    s = a.call("instance-stats", id=id)
    equal((s["memory_limit"], s["pids_limit"]), (64 << 20, 20))
    assert s["pids"] >= 2 and s["cpu_ns"] > 0 and s["online_cpus"] >= 1, s
    spec = {"name": "t" + id[:8], "image": "busybox:test", "network": "none",
            "command": ["/bin/sh", "-c", "sleep 1000 & sleep 1000"], "limits": {"memory": "128MiB", "pids": 30}}
    a.call("instance-update", id=id, spec=spec)
    s = a.call("instance-stats", id=id)
    equal((s["memory_limit"], s["pids_limit"]), (128 << 20, 30))
    e = refused("invalid", a.call, "instance-update", id=id, spec=dict(spec, privileged=True))
    equal(e.field, "spec.userns")
    rows = a.call("instance-top", id=id)["processes"]
    contains([r["command"] for r in rows], "sleep 1000")
    equal({r["user"] for r in rows}, {"0"})
    a.delete(id)


@apart
def fork_bomb(a):
    """a container that forks without end stays under its limit, answers, and can be stopped"""
    id = a.run_it("/bin/sleep", "1000", limits={"pids": 40})
    for _ in range(3):
        try:
            a.execute(id, "/bin/sh", "-c", "while :; do (while :; do sleep 1000 & done); done", detach=True)
        except Refused as e:
            equal(e.kind, "busy")  # there is no room for one more
    wait_until(lambda: a.call("instance-stats", id=id)["pids"] >= 38, 30, "the bomb")
    assert a.call("instance-stats", id=id)["pids"] <= 40
    a.delete(id)
    a.clean()


@apart
def out_of_memory(a):
    """a container killed for want of memory is reported as such"""
    e = a.events()
    id = a.run_it("/bin/sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' a); echo $x | wc -c", limits={"memory": "16MiB", "memory_swap": "16MiB"})
    e.until(id, "oom")
    died = e.until(id, "die")
    assert died["status"]["oom_killed"], died
    e.close()
    a.delete(id)


# ---- mounts, devices, modes ----

@apart
def mounts(a):
    """bind mounts keep owners, read-only holds, sub-paths, tmpfs; missing sources name the field; wabe's own are refused"""
    there = a.dir + "/bound"
    os.makedirs(there + "/sub")
    with open(there + "/file", "w") as f:
        f.write("text\n")
    os.chown(there + "/file", 1000, 1000)
    ms = [{"type": "bind", "source": there, "target": "/m"},
          {"type": "bind", "source": there, "target": "/ro", "read_only": True},
          {"type": "bind", "source": there, "subpath": "sub", "target": "/s"},
          {"type": "tmpfs", "target": "/t", "size": "1MiB"}]
    out, err, code = a.output_of("/bin/sh", "-c", "stat -c %u /m/file; echo > /ro/x && echo written; touch /s/made; "
                                 "dd if=/dev/zero of=/t/big bs=1M count=3; ls -l /t/big | awk '{print $5}'", mounts=ms)
    lines = out.decode().split()
    equal(lines[0], "1000", err)
    assert "written" not in lines, lines
    equal(lines[-1], str(1 << 20))
    equal(os.stat(there + "/sub/made").st_uid, 0, "owner outside of what root made inside")

    def refusal(m, before_start=lambda: None):
        id = a.create(command=["/bin/true"], mounts=[m])
        try:
            before_start()
            a.call("instance-start", id=id)
        except Refused as e:
            return e.kind, e.field
        finally:
            a.delete(id)
        return None
    try:
        a.create(command=["/bin/true"], mounts=[{"type": "bind", "source": "/not/there", "target": "/m"}])
        raise AssertionError("a source that is not there was taken")
    except Refused as e:
        equal((e.kind, e.field), ("invalid", "instance.spec.mounts.source"))
    os.mkdir(there + "/gone")
    equal(refusal({"type": "bind", "source": there + "/gone", "target": "/m"}, lambda: os.rmdir(there + "/gone")),
          ("not-found", "spec.mounts.source"))
    equal(refusal({"type": "bind", "source": a.state + "/agent", "target": "/m"}), ("denied", "spec.mounts.source"))
    equal(refusal({"type": "bind", "source": a.run, "target": "/m"}), ("denied", "spec.mounts.source"))
    os.symlink(a.state, there + "/link")
    equal(refusal({"type": "bind", "source": there + "/link", "target": "/m"}), ("denied", "spec.mounts.source"))
    a.clean()


@apart
def modes(a):
    """host and shared name spaces, privileged, devices, capabilities, read-only root, ulimits, sysctls"""
    sh = ("/bin/sh", "-c")
    equal(a.output_of(*sh, "cat /proc/self/uid_map", userns="host")[0].split(), b"0 0 4294967295".split())
    out = a.output_of(*sh, "cat /proc/self/uid_map; grep CapEff /proc/self/status; ls /dev | wc -l", privileged=True)[0].decode()
    contains(out, "4294967295")
    own = os.readlink("/proc/self/ns/net")
    equal(a.output_of(*sh, "readlink /proc/self/ns/net", network="host")[0].decode().strip(), own)
    assert a.output_of(*sh, "readlink /proc/self/ns/net")[0].decode().strip() != own
    contains(a.output_of(*sh, "ip link show lo")[0], b"UP")
    equal(a.output_of(*sh, "readlink /proc/self/ns/uts", uts_mode="host")[0].decode().strip(), os.readlink("/proc/self/ns/uts"))
    contains(a.output_of(*sh, "touch /x", read_only=True)[1], b"Read-only")
    equal(a.output_of(*sh, "ulimit -n", ulimits=[{"name": "nofile", "soft": 777, "hard": 888}])[0], b"777\n")
    equal(a.output_of(*sh, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", sysctls={"net.ipv4.ip_unprivileged_port_start": "7"})[0], b"7\n")
    equal(a.output_of(*sh, "chown 1:1 /tmp; echo $?", cap_drop=["ALL"])[0], b"1\n")
    contains(a.output_of(*sh, "ls -l /dev/full2", devices=[{"path": "/dev/full", "target": "/dev/full2"}])[0], b"1,   7")
    contains(a.output_of(*sh, "grep Seccomp: /proc/self/status", seccomp="unconfined")[0], b"\t0")
    equal(a.output_of(*sh, "df -k /dev/shm | tail -1 | awk '{print $2}'", limits={"shm_size": "1MiB"})[0], b"1024\n")
    a.clean()


@apart
def shared_namespaces(a):
    """an instance shares name spaces with another that runs, and not with one that does not"""
    first = a.run_it("/bin/sleep", "1000", hostname="first")
    ns = lambda id, n: a.exec_output(id, "/bin/readlink", "/proc/self/ns/" + n)[0]
    second = a.run_it("/bin/sleep", "1000", network="instance:" + first, pid_mode="instance:" + first, ipc_mode="instance:" + first)
    for n in ("net", "pid", "ipc", "user"):
        equal(ns(second, n), ns(first, n), n)
    equal(a.exec_output(second, "/bin/cat", "/etc/hostname")[0], b"first\n")
    assert a.exec_output(second, "/bin/sh", "-c", "touch /mine && stat -c %u /mine")[0] == b"0\n"
    a.call("instance-stop", id=second, timeout="0s")
    a.call("instance-stop", id=first, timeout="0s")
    refused("conflict", a.call, "instance-start", id=second)
    e = refused("invalid", a.create, command=["/bin/true"], network="instance:" + "f" * 64)
    equal(e.field, "network")
    a.delete(second, first)
    a.clean()


# ---- files ----

@apart
def archives(a):
    """files go in and out of running and stopped instances; owners, links, errors; nothing leaves the root"""
    import io
    id = a.create(command=["/bin/sleep", "1000"])
    for running in (False, True):
        if running:
            a.call("instance-start", id=id)
        path = a.dir + "/in.tar"
        with open(path, "wb") as f:
            f.write(tar_of(**{f"file{running}": "content\n"}))
        with open(path, "rb") as f:
            a.full("archive-put", {"id": id, "path": "/tmp"}, [f.fileno()])
        st = a.call("archive-stat", id=id, path=f"/tmp/file{running}")
        equal((st["name"], st["size"]), (f"file{running}", 8))
        answer, fds = a.full("archive-get", {"id": id, "path": "/tmp"})
        equal(answer["name"], "tmp")
        with tarfile.open(fileobj=io.BytesIO(read_all(fds[0]))) as t:
            member = t.getmember(f"tmp/file{running}")
            equal((member.uid, t.extractfile(member).read()), (0, b"content\n"))
        refused("not-found", a.call, "archive-stat", id=id, path="/not/there")
        equal(a.call("archive-stat", id=id, path="/bin/sh").get("link_target"), "busybox")
        contains(a.call("archive-stat", id=id, path="/../../../../etc/passwd")["name"], "passwd")
    equal(a.exec_output(id, "/bin/stat", "-c", "%u", "/tmp/fileTrue")[0], b"0\n")
    a.exec_output(id, "/bin/ln", "-s", "/", "/tmp/rootlink")
    answer, fds = a.full("archive-get", {"id": id, "path": "/tmp/rootlink/etc/passwd"})
    contains(read_all(fds[0]), b"alice")
    refused("invalid", a.full, "archive-put", {"id": id, "path": "/tmp"}, [])
    changes = a.changes(id)
    assert b"A/tmp/fileTrue" in changes and b"C/tmp" in changes, changes
    a.delete(id)
    a.clean()


@apart
def export_and_commit(a):
    """export and commit give whole tars; a commit is a layer that a new instance can use"""
    import io
    id = a.run_it("/bin/sh", "-c", "echo new > /made; rm /etc/group; sleep 1000")
    wait_until(lambda: b"D/etc/group" in a.changes(id), 30, "the change")
    _, fds = a.full("instance-export", {"id": id})
    with tarfile.open(fileobj=io.BytesIO(read_all(fds[0]))) as t:
        names = {n.removeprefix("./") for n in t.getnames()}
    assert "made" in names and "bin/busybox" in names and "etc/group" not in names, sorted(names)[:50]
    _, fds = a.full("instance-commit", {"id": id, "pause": True})
    layer = read_all(fds[0])
    equal(a.state_of(id), "running")
    wait_until(lambda: a.exec_output(id, "/bin/echo", "thawed")[0] == b"thawed\n", 30, "the thaw")
    a.delete(id)
    top = a.unpack(layer)
    out, err, code = a.output_of("/bin/sh", "-c", "cat /made; ls /etc", layers=[a.layer, top])
    contains(out, b"new\n")
    assert b"group" not in out, out
    a.full("layer-delete", {"diff_id": top})
    a.clean()


@apart
def broken_stream(a):
    """an export whose worker dies is seen as broken, not as short; one whose reader goes is ended"""
    id = a.run_it("/bin/sleep", "1000")
    a.exec_output(id, "/bin/dd", "if=/dev/zero", "of=/big", "bs=1M", "count=8")
    wait_until(lambda: not [p for p in children(a.process.pid) if _comm(p) == "wabe-worker"], 30, "the end of other workers")
    _, fds = a.full("instance-export", {"id": id})
    worker = wait_until(lambda: [p for p in children(a.process.pid) if _comm(p) == "wabe-worker"], 30, "the worker")
    os.kill(worker[0], signal.SIGKILL)
    try:
        read_all(fds[0])
        raise AssertionError("the broken export looked whole")
    except ConnectionResetError:
        pass
    _, fds = a.full("instance-export", {"id": id})
    os.read(fds[0], 100)
    os.close(fds[0])
    wait_until(lambda: not [p for p in children(a.process.pid) if _comm(p) == "wabe-worker"], 30, "the worker's end")
    a.delete(id)
    a.clean()


def _comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


@apart
def layers(a):
    """layers: unpacked once by two at once, checked, listed, kept while in use, deleted"""
    data = tar_of(one="1" * 300000, two="2")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(lambda _: a.unpack(data), range(4)))
    equal(len(ids), 1)
    diff_id = ids.pop()
    contains(a.call("layer-list")["diff_ids"], diff_id)
    id = a.create(layers=[a.layer, diff_id], command=["/bin/true"])
    refused("conflict", a.call, "layer-delete", diff_id=diff_id)
    a.delete(id)
    a.call("layer-delete", diff_id=diff_id)
    a.call("layer-delete", diff_id=diff_id)
    assert diff_id not in a.call("layer-list")["diff_ids"]
    e = refused("not-found", a.create, layers=[diff_id], command=["/bin/true"])
    equal(e.field, "layers")
    path = a.dir + "/layer.tar"
    for content, wrong in ((data, "0" * 64), (data[:1000], hashlib.sha256(data).hexdigest()), (b"no tar at all" * 99, "1" * 64)):
        with open(path, "wb") as f:
            f.write(content)
        with open(path, "rb") as f:
            try:
                a.full("layer-unpack", {"diff_id": "sha256:" + wrong}, [f.fileno()])
                raise AssertionError("a wrong layer was taken")
            except Refused as e:
                assert e.kind in ("corrupt", "invalid"), e
    a.clean()


# ---- hostile callers ----

@apart
def wrong_uid(a):
    """a connection of any other user is closed at once; the socket's mode keeps it out in the first place"""
    def child():
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                c = Connection(a.path, 10)
            except PermissionError:
                return 42
            try:
                c.send(frame({"type": "hello", "body": {}}))
                c.recv()
            except (Gone, BrokenPipeError, ConnectionResetError):
                return 43
            return 1
        except BaseException:
            return 2
    def status():
        pid = os.fork()
        if pid == 0:
            os._exit(child())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    equal(status(), 42, "by mode")
    os.chmod(a.path, 0o777)
    equal(status(), 43, "by credentials")
    os.chmod(a.path, 0o600)
    a.call("hello")


@apart
def malformed(a):
    """malformed, oversized, unknown, wrongly typed requests get an error; the agent runs on"""
    deep = b'{"type":"hello","body":' + b'{"a":' * 10000 + b"1" + b"}" * 10000 + b"}"
    nested = b'{"type":"hello","body":{"a":' + b"[" * 10000 + b"]" * 10000 + b"}}"
    good = frame({"type": "hello", "body": {}})
    cases = {
        "no json": frame(b"hello"), "empty": frame(b""), "array": frame([]), "null": frame(None),
        "no body": frame({"type": "hello"}), "body is text": frame({"type": "hello", "body": "x"}),
        "type is number": frame({"type": 3, "body": {}}), "more keys": frame({"type": "hello", "body": {}, "x": 1}),
        "unknown": frame({"type": "format-disk", "body": {}}), "unknown field": frame({"type": "hello", "body": {"x": 1}}),
        "deep": frame(deep), "nested": frame(nested), "two": good + good,
        "oversized": struct.pack("<I", 1 << 30) + b"x", "max": struct.pack("<I", 0xffffffff),
        "id": frame({"type": "instance-start", "body": {"id": "../../etc"}}),
        "id number": frame({"type": "instance-start", "body": {"id": 5}}),
        "no id": frame({"type": "instance-start", "body": {}}),
        "internal": frame({"type": "-recover", "body": {}}),
        "digest": frame({"type": "layer-delete", "body": {"diff_id": "sha256:../../../x"}}),
        "control characters": frame({"type": "a\nb\x1b[31m", "body": {}}),
        "long": frame({"type": "x" * 100000, "body": {}}),
        "suite": frame({"type": "bootstrap", "body": {"suite": "--help"}}),
        "package": frame({"type": "bootstrap", "body": {"suite": "bookworm", "include": ["a,b;rm"]}}),
        "path": frame({"type": "archive-stat", "body": {"id": "0" * 64, "path": "relative"}}),
    }
    for name, data in cases.items():
        c = Connection(a.path, 30)
        try:
            c.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        kind, body, _ = c.recv()
        equal(kind, "error", name)
        assert body["message"], name
        try:
            c.recv()
            raise AssertionError(f"{name}: not closed")
        except Gone:
            pass
        c.close()
    c = Connection(a.path)  # a descriptor where none is wanted, and none where one is
    fd = os.open("/dev/null", os.O_RDONLY)
    refused("invalid", a.full, "hello", {}, [fd])
    refused("invalid", a.full, "layer-unpack", {"diff_id": "sha256:" + "0" * 64})
    broken = Connection(a.path)
    broken.send(frame(b"hello"), [fd])
    equal(broken.recv()[::2], ("error", []), "what came along does not come back")
    broken.close()
    c.send(good[:3])
    c.close()  # in the midst of a frame
    for piece in (1, 3, 7):  # byte by byte is slow, not wrong
        c = Connection(a.path)
        for at in range(0, len(good), piece):
            c.send(good[at:at + piece])
        equal(c.recv()[0], "ok")
        c.close()
    os.close(fd)
    a.call("hello")


@apart
def out_of_state(a):
    """what the state does not permit is refused with that state; unknown instances are not found"""
    id = a.create(command=["/bin/sleep", "1000"])
    for name, more in (("instance-pause", {}), ("instance-unpause", {}), ("instance-kill", {"signal": "KILL"}), ("instance-top", {}),
                       ("exec-start", {"exec_id": "b" * 64, "command": ["/bin/true"]})):
        contains(refused("conflict", a.call, name, id=id, **more).message, "created")
    for name, more in (("instance-start", {}), ("instance-stop", {}), ("instance-stats", {}), ("attach", {}), ("instance-logs", {})):
        refused("not-found", a.call, name, id="e" * 64, **more)
    a.delete(id)


@apart
def flood(a):
    """many idle connections, and many requests at once, do not keep others out"""
    idle = [Connection(a.path) for _ in range(300)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for h in pool.map(lambda _: a.call("hello"), range(200)):
            assert h["cpus"]
    for c in idle:
        c.close()
    e = Connection(a.path)  # a listener that never reads
    e.send(frame({"type": "events", "body": {}}))
    ids = [a.create(command=["/bin/true"]) for _ in range(5)]
    a.delete(*ids)
    e.close()
    a.clean()


@apart
def at_once(a):
    """20 instances started and deleted at the same time"""
    def one(i):
        id = a.run_it("/bin/sleep", "1000")
        a.delete(id)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(one, range(20)))
    a.clean()


@apart
def same_at_once(a):
    """start, stop and delete of one instance at once: one wins, the others are told, nothing breaks"""
    for _ in range(4):
        id = a.create(command=["/bin/sleep", "1000"])
        def act(what):
            try:
                a.call(what, id=id, **({"force": True} if what == "instance-delete" else {"timeout": "0s"} if what == "instance-stop" else {}))
                return "ok"
            except Refused as e:
                return e.kind
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(act, ["instance-start"] * 3 + ["instance-stop"] * 2 + ["instance-delete"] * 2))
        assert set(results) <= {"ok", "conflict", "not-found", "busy"}, results
        a.delete(id)
    a.clean()


# ---- policies ----

@apart
def restart_policies(a):
    """always, on-failure with a maximum, unless stopped; a stop by the user is respected"""
    e = a.events()
    id = a.run_it("/bin/sh", "-c", "exit 3", restart={"policy": "on-failure", "max_retries": 2})
    for _ in range(2):
        e.until(id, "restart")
    a.wait_state(id, "exited")
    s = a.status(id)
    equal((s["exit_code"], s["restart_count"]), (3, 2))
    a.delete(id)
    id = a.run_it("/bin/true", restart={"policy": "on-failure"})
    a.wait_state(id, "exited")
    a.delete(id)
    id = a.run_it("/bin/sh", "-c", "sleep 0.05", restart={"policy": "always"})
    for _ in range(3):
        e.until(id, "restart")
    stopped = a.call("instance-stop", id=id, timeout="0s")
    equal(stopped["status"]["state"], "exited")
    time.sleep(1.5)
    equal(a.state_of(id), "exited", "after the stop")
    a.delete(id)
    id = a.run_it("/bin/sh", "-c", "exit 1", restart={"policy": "always"})
    e.until(id, "restart")
    a.wait_state(id, "restarting")
    a.delete(id)
    e.close()
    a.clean()


@apart
def health(a):
    """a health check goes from starting to healthy to unhealthy, with events"""
    e = a.events()
    check = {"command": ["CMD-SHELL", "test -e /tmp/well"], "interval": "100ms", "retries": 2, "timeout": "5s"}
    id = a.run_it("/bin/sh", "-c", "touch /tmp/well; while :; do sleep 1; done", health=check)
    equal(a.status(id)["health"], "starting")
    equal(e.until(id, "health")["status"]["health"], "healthy")
    equal(a.status(id)["health"], "healthy")
    a.exec_output(id, "/bin/rm", "/tmp/well")
    equal(e.until(id, "health")["status"]["health"], "unhealthy")
    a.delete(id)
    hangs = {"command": ["CMD", "/bin/sleep", "100"], "interval": "50ms", "timeout": "100ms", "retries": 1}
    id = a.run_it("/bin/sleep", "1000", health=hangs)
    equal(e.until(id, "health")["status"]["health"], "unhealthy")
    a.delete(id)
    e.close()
    a.clean()


# ---- crashes of the agent ----

@apart
def agent_killed(a):
    """killed with -9 and started again: instances run on, output flows, statuses and exits are kept"""
    lives = a.run_it("/bin/sh", "-c", "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done")
    ends = a.run_it("/bin/sh", "-c", "sleep 0.5; exit 11")
    always = a.run_it("/bin/sh", "-c", "sleep 0.3", restart={"policy": "always"})
    made = a.create(command=["/bin/true"])
    s = a.attach(lives)
    x, x_id = a.execute(lives, "/bin/sh", "-c", "sleep 0.6; exit 12")
    before = a.status(lives)
    a.kill()
    s.until(b"tick")  # an attached stream does not go through the agent
    time.sleep(1)
    a.start()
    equal(a.status(lives)["pid"], before["pid"])
    equal((a.state_of(ends), a.status(ends)["exit_code"]), ("exited", 11))
    equal(a.state_of(made), "created")
    equal(a.call("exec-state", id=lives, exec_id=x_id)["exit_code"], 12)
    wait_until(lambda: a.status(always)["restart_count"] > 0, 30, "a restart by policy")
    size = len(log_text(a, lives))
    wait_until(lambda: len(log_text(a, lives)) > size, 30, "more output")
    equal(a.exec_output(lives, "/bin/echo", "works")[0], b"works\n")
    a.attach(lives).until(b"tick")
    e = a.events()
    a.call("instance-stop", id=lives, timeout="0s")
    equal(e.until(lives, "die")["exit_code"], 137)
    a.delete(lives, ends, always, made)
    e.close()
    a.clean()


@apart
def agent_killed_at_any_time(a):
    """killed again and again amid starts, stops and deletes: consistent, and nothing leaks"""
    stop = threading.Event()
    ids, lock = [], threading.Lock()
    def worker():
        while not stop.is_set():
            try:
                id = a.create(command=["/bin/sleep", "1000"])
                with lock:
                    ids.append(id)
                a.call("instance-start", id=id)
                a.call("instance-stop", id=id, timeout="0s")
                a.delete(id)
            except (OSError, Gone, Refused):
                time.sleep(0.02)
    threads = [threading.Thread(target=worker) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in range(6):
        time.sleep(0.4)
        a.kill()
        a.start()
    stop.set()
    for t in threads:
        t.join(120)
    for i in a.call("instance-list").get("instances", []):
        a.delete(i["id"])
    note(f"{len(ids)} instances were begun")
    a.clean()


@apart
def host_down(a):
    """a host that went down: what ran is exited, or started again by its policy; what was stopped stays so"""
    plain = a.run_it("/bin/sleep", "1000")
    always = a.run_it("/bin/sleep", "1000", restart={"policy": "unless-stopped"})
    stopped = a.run_it("/bin/sleep", "1000", restart={"policy": "always"})
    a.call("instance-stop", id=stopped, timeout="0s")
    a.kill()
    for pid in a.processes():
        os.kill(pid, signal.SIGKILL)
    import shutil
    wait_until(lambda: not [p for p in a.processes() if _comm(p)], 30, "the end of all")
    shutil.rmtree(a.run)
    a.start()
    a.wait_state(plain, "exited")
    contains(a.status(plain)["error"], "host")
    a.wait_state(always, "running")
    equal(a.state_of(stopped), "exited")
    a.delete(plain, always, stopped)
    a.clean()


@apart
def damaged_record(a):
    """an instance whose record is damaged is seen as dead, keeps its uid range, and can be removed by force"""
    id = a.create(command=["/bin/true"])
    base = [i["uid_base"] for i in a.call("instance-list")["instances"] if i["id"] == id][0]
    with open(f"{a.state}/agent/instances/{id}/record.json", "w") as f:
        f.write("{ half")
    a.kill()
    a.start()
    equal(a.state_of(id), "dead")
    other = a.create(command=["/bin/true"])
    bases = {i["id"]: i["uid_base"] for i in a.call("instance-list")["instances"]}
    assert bases[id] == base and abs(bases[other] - base) >= 65536, bases
    a.delete(id, other)
    a.clean()


@apart
def shim_killed(a):
    """a shim that is killed takes its container along; that is told, and it can be started again"""
    e = a.events()
    id = a.run_it("/bin/sleep", "1000")
    shim = wait_until(lambda: [p for p in children(a.process.pid) if _comm(p) == "wabe-shim"], 30, "the shim")
    os.kill(shim[0], signal.SIGKILL)
    died = e.until(id, "die")
    equal(died["exit_code"], 137)
    contains(died["status"]["error"], "shim")
    a.call("instance-start", id=id)
    equal(a.state_of(id), "running")
    a.delete(id)
    e.close()
    a.clean()


CREATE = ["create.dir", "create.filled", "create.record", "create.renamed", "create.reported"]
START = ["start.locked", "start.marked", "start.configured", "start.created", "start.written", "start.started", "start.recorded",
         "start.reported", "start.exec"]
STOP = ["stop.locked", "stop.signalled", "stop.killed", "reap.begin", "reap.killed", "reap.destroyed", "reap.recorded", "reap.removed",
        "stop.reaped"]
DELETE = ["delete.locked", "reap.begin", "reap.killed", "reap.destroyed", "reap.recorded", "reap.removed", "delete.reaped",
          "delete.renamed", "delete.run"]


def with_fault(a, who, point):
    """One life of an instance with a crash at `point`; the agent comes back, and everything can go on."""
    a.process.terminate()
    a.process.wait(60)
    a.start(fault=f"{who}:{point}")
    id = os.urandom(32).hex()
    stages = [lambda: a.create(id=id, command=["/bin/sh", "-c", "trap '' TERM; sleep 1000"]),
              lambda: a.call("instance-start", id=id),
              lambda: a.call("instance-stop", id=id, timeout="100ms"),
              lambda: a.call("instance-start", id=id),
              lambda: a.call("instance-delete", id=id, force=True)]
    failed = 0
    for stage in stages:
        try:
            stage()
        except (Gone, Refused, OSError):
            failed += 1
            break
    if who == "worker":
        assert a.process.poll() is None, "the agent ended"
        a.process.terminate()
    a.process.wait(60)
    if who != "agent" and point != "start.exec":  # there the answer has been given
        assert failed, f"{point} was not met"
    a.start()
    state = a.state_of(id)
    if state is None:
        a.create(id=id, command=["/bin/sleep", "1000"])
    state = a.wait_state(id, "created", "running", "exited") and a.state_of(id)
    if state != "running":
        a.call("instance-start", id=id)
    equal(a.exec_output(id, "/bin/echo", "alive")[0], b"alive\n", f"after {who}:{point}")
    a.delete(id)
    a.clean()


def fault_test(title, who, points):
    def faults(a):
        for point in points:
            try:
                with_fault(a, who, point)
            except BaseException as e:
                raise AssertionError(f"{who}:{point}: {e}") from e
    faults.__doc__ = title
    faults.__name__ = title.split()[0] + "_faults_" + who
    apart(faults)


for points, name in ((CREATE, "create"), (START, "start"), (STOP, "stop"), (DELETE, "delete")):
    for who in ("worker", "agent", "both"):
        fault_test(f"{name} with {who} killed: at every step, consistent and clean afterwards", who, points)


@apart
def unpack_killed(a):
    """an unpack that is killed, or whose caller goes away, leaves nothing and can be done again"""
    for point in ("unpack.begin", "unpack.done", "unpack.synced"):
        a.process.terminate()
        a.process.wait(60)
        a.start(fault="both:" + point)
        data = tar_of(x=point)
        try:
            a.unpack(data)
            raise AssertionError("it worked")
        except (Gone, OSError):
            pass
        a.process.wait(60)
        a.start()
        a.clean()
        a.call("layer-delete", diff_id=a.unpack(data))
    r, w = os.pipe()
    c = a.request("layer-unpack", {"diff_id": "sha256:" + "5" * 64}, [r])
    os.close(r)
    wait_until(lambda: any(".tmp" in n for n in os.listdir(a.state + "/agent/layers")), 30, "the unpack")
    c.close()
    a.clean()
    os.close(w)


@apart
def bootstrap(a):
    """bad names are refused; a bootstrap reports progress, gives a tar, and ends with its caller"""
    for body in ({"suite": "../x"}, {"suite": "Bookworm"}, {"suite": "bookworm", "include": ["-x"]},
                 {"suite": "bookworm", "include": ["?essential"]}, {"suite": "bookworm", "variant": "huge"}):
        refused("invalid", a.full, "bootstrap", body)
    need("mmdebstrap", os.path.exists("/usr/bin/mmdebstrap"))
    try:
        a.full("bootstrap", {"suite": "no-such-suite"})
        raise AssertionError("it worked")
    except Refused as e:
        contains(e.message, "mmdebstrap")
    c = a.request("bootstrap", {"suite": "bookworm", "variant": "minbase"})
    kind, body, _ = c.recv()
    equal(kind, "progress")
    c.close()
    a.clean()


@apart
def bootstrap_debian(a):
    """a real Debian is made from the host's sources and runs"""
    need("debian-mirror", os.environ.get("WABE_SLOW"))
    progress = []
    _, fds = a.full("bootstrap", {"suite": "bookworm", "variant": "minbase"}, progress=progress)
    data = read_all(fds[0])
    assert progress
    top = a.unpack(data)
    contains(a.output_of("/bin/cat", "/etc/debian_version", layers=[top])[0], b"12")
    a.full("layer-delete", {"diff_id": top})
    a.clean()


@apart
def shutdown(a):
    """a shutdown stops every instance and ends the agent; policies bring them back with it"""
    plain = a.run_it("/bin/sleep", "1000")
    always = a.run_it("/bin/sleep", "1000", restart={"policy": "always"})
    equal(a.call("shutdown", timeout="100ms"), {})
    equal(a.process.wait(60), 0, a.log())
    equal(a.groups(), [])
    a.start()
    equal(a.state_of(plain), "exited")
    a.wait_state(always, "running")
    a.delete(plain, always)
    a.clean()


@apart
def idle_memory(a):
    """the idle agent is small"""
    with open(f"/proc/{a.process.pid}/smaps_rollup") as f:
        pss = [int(line.split()[1]) for line in f if line.startswith("Pss:")][0]
    note(f"PSS {pss} KiB")


run(setup, lambda a: a.close())
