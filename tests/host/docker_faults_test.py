#!/usr/bin/env python3
"""Docker's API and those who misuse it: clients that vanish, bodies and filters that are garbage, users that may not, and a
control that is killed. Whatever comes, containers go on, nothing leaks, and the next request is served."""
import glob
import grp
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from networks import private
from registry import Image, Registry
from tap import contains, equal, run, test
from wabe import wait_until

JSON = {"Content-Type": "application/json"}
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def raw(d, method, path, headers="", body=b""):
    """A connection on which this was sent, as it is."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(d.socket)
    s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + body)
    return s


def read_until(s, text):
    seen = b""
    while text not in seen:
        got = s.recv(65536)
        assert got, f"the end came before {text!r}, after {seen[-500:]!r}"
        seen += got
    return seen


def vanish(s):
    """Closes as a client does that is killed: what is on the way is lost."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def sleeper(d, name, command="echo begun; exec sleep 1000"):
    d.run("run", "-d", "--name", name, "busybox", "sh", "-c", command)
    return name


def runs(d, name):
    equal(d.out("inspect", "-f", "{{.State.Status}}", name), "running", name)


def descriptors(d):
    """What control has open, by kind, without what comes and goes with the store."""
    pid, found = d.daemon.pids()["control"], {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        kind = target.split(":")[0] if ":" in target else os.path.dirname(target)
        found[kind] = found.get(kind, 0) + 1
    return sum(n for kind, n in found.items() if kind in ("socket", "pipe", "anon_inode"))


class Unchanged:
    """Control has in the end as much open as before, and nothing half-fetched lies about."""

    def __init__(self, d):
        self.d = d

    def __enter__(self):
        equal(self.d.api("GET", "/_ping")[0], 200)
        self.before = descriptors(self.d)

    def __exit__(self, kind, *_):
        if kind:
            return
        try:
            wait_until(lambda: descriptors(self.d) <= self.before, 60, "the end of what was opened")
        except AssertionError:
            raise AssertionError(f"open: {descriptors(self.d)}, before {self.before}") from None
        equal(glob.glob(self.d.daemon.state + "/control/content/ingest/*"), [])


# ---- bad input ----
BODIES = [
    (b"{", "a body that is cut"), (b"[]", "a list"), (b'"x"', "a string"), (b"5", "a number"), (b"{}}", "more than one value"),
    (b'{"Image":5}', "Image"), (b'{"Image":"busybox","Cmd":5}', "Cmd"), (b'{"Image":"busybox","Cmd":[5]}', "Cmd"),
    (b'{"Image":"busybox","Env":"A=1"}', "Env"), (b'{"Image":"busybox","Labels":["a"]}', "Labels"),
    (b'{"Image":"busybox","Tty":"yes"}', "Tty"), (b'{"Image":"busybox","HostConfig":[]}', "HostConfig"),
    (b'{"Image":"busybox","HostConfig":{"Memory":"1g"}}', "Memory"), (b'{"Image":"busybox","HostConfig":{"Memory":1.5}}', "Memory"),
    (b'{"Image":"busybox","HostConfig":{"Memory":1e400}}', "Memory"), (b'{"Image":"busybox","HostConfig":{"Binds":{}}}', "Binds"),
    (b'{"Image":"busybox","HostConfig":{"PortBindings":[]}}', "PortBindings"),
    (b'{"Image":"busybox","NetworkingConfig":5}', "NetworkingConfig"),
    (b"\xff\xfe", "no text"), (b'{"Image":"\xff"}', "no UTF-8"), (b'{"Image":"busy\\u0000box"}', "a NUL"), (b"[" * 10000, "nested lists"),
    (b'{"a":' * 10000, "nested objects"), (b"[" * 10000 + b"]" * 10000, "nested lists that are whole"),
]


@test
def bodies_that_are_garbage(d):
    for body, what in BODIES:
        status, answer = d.api("POST", "/containers/create?name=garbage", body, JSON)
        equal(status, 400, f"{what}: {answer}")
        assert answer["message"], what
    equal(d.api("POST", "/containers/create?name=fine", {"Image": "busybox", "NoSuchField": {"x": [1]}, "Cmd": ["true"], "Env": None})[0], 201)
    equal(d.out("ps", "-aq", "--filter", "name=garbage"), "")
    for path in ("/networks/create", "/volumes/create", "/containers/fine/exec", "/containers/fine/update", "/networks/bridge/connect"):
        for body in (b"{", b"[]", b"[" * 10000):
            status, answer = d.api("POST", path, body, JSON)
            equal(status, 400, f"{path} {body[:9]!r}: {answer}")


@test
def a_body_that_is_no_json(d):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        status, answer = d.api("POST", "/containers/create", b'{"Image":"busybox"}', {"Content-Type": kind})
        equal(status, 400, kind)
        contains(answer["message"], "application/json")
    equal(d.api("POST", "/containers/create?name=charset", b'{"Image":"busybox","Cmd":["true"]}', {"Content-Type": "application/json; charset=utf-8"})[0], 201)


@test
def a_hundred_megabytes(d):
    pid = d.daemon.pids()["control"]
    s = raw(d, "POST", "/containers/create", "Content-Type: application/json\r\nContent-Length: 104857600\r\n")
    try:
        for _ in range(100):
            s.sendall(b" " * (1 << 20))
    except OSError:
        pass  # the answer came first
    contains(s.recv(4096), b"413")
    s.close()
    equal(d.daemon.pids()["control"], pid)
    s = raw(d, "POST", "/containers/create", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
    try:
        for _ in range(100):
            s.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        s.sendall(b"0\r\n\r\n")
    except OSError:
        pass
    try:
        contains(s.recv(4096), b"413")
    except ConnectionResetError:
        pass  # the rest of the body was on its way
    s.close()
    equal(d.daemon.pids()["control"], pid)


@test
def headers_and_paths(d):
    for path, headers in (("/info", "X: " + "a" * 300000 + "\r\n"), ("/info", "".join(f"X{n}: y\r\n" for n in range(20000))),
                          ("/containers/" + "a" * 200000 + "/json", ""), ("/containers/json?x=" + "a" * 200000, "")):
        try:
            s = raw(d, "GET", path, headers)
            answer = s.recv(4096)
            s.close()
        except (ConnectionResetError, BrokenPipeError):
            continue  # refused before all of it was sent
        status = int(answer.split()[1]) if answer else 0
        assert status == 0 or 200 <= status < 500, f"{path[:40]} {headers[:40]!r}: {answer[:200]}"
    for path in ("/containers/%00/json", "/containers/%zz/json", "/containers/%ff%fe/json", "/containers/../json", "/containers//json",
                 "/containers/%2e%2e%2f/json", "/v1.44", "/v1.44/", "/v1.x/info", "//info", "/images/%20/json", "/images/a//b/json"):
        status, answer = d.api("GET", path)
        assert 300 <= status < 500, f"{path}: {status} {answer}"
    equal(d.api("GET", "/_ping")[0], 200)


@test
def filters_that_are_garbage(d):
    garbage = ["x", "[]", "5", '"x"', '{"label":5}', '{"label":[5]}', '{"label":{"a":5}}', '{"nosuch":["x"]}', "{" * 10000, '{"label":["a"]',
               '{"\u0001":["x"]}']
    for path in ("/containers/json", "/images/json", "/networks", "/volumes", "/events"):
        for text in garbage:
            status, answer = d.api("GET", f"{path}?until=1&filters={urllib.parse.quote(text)}")
            equal(status, 400, f"{path} {text[:20]}: {answer}")
    for path in ("/containers/prune", "/images/prune", "/networks/prune", "/volumes/prune"):
        equal(d.api("POST", f"{path}?filters=x")[0], 400, path)
    for path in ("/containers/json?limit=x", "/containers/json?filters=%7B%22status%22%3A%5B%22x%22%5D%7D",
                 "/images/json?filters=%7B%22dangling%22%3A%5B%22x%22%5D%7D", "/events?since=x&until=1"):
        equal(d.api("GET", path)[0], 400, path)


@test
def archives_that_are_garbage(d):
    sleeper(d, "into")
    for path, method in (("/containers/into/archive?path=/tmp", "PUT"), ("/images/load", "POST"), ("/build", "POST"),
                         ("/images/create?fromSrc=-&repo=x", "POST")):
        for body in (b"garbage" * 1000, b"\0" * 511, b"\x1f\x8bgarbage"):
            status, answer = d.api(method, path, body, {"Content-Type": "application/x-tar"})
            assert 400 <= status < 600 or "error" in json.dumps(answer), f"{method} {path} {body[:9]!r}: {status} {answer}"
    runs(d, "into")
    equal(d.api("GET", "/_ping")[0], 200)


# ---- clients that vanish ----
def vanish_after(d, name, method, path, headers, text, body=b""):
    s = raw(d, method, path, headers, body)
    if text:
        read_until(s, text)
    vanish(s)


@test
def vanishing_from_streams(d):
    name = sleeper(d, "stream", "while :; do echo begun; sleep 0.01; done")
    with Unchanged(d):
        for _ in range(5):
            vanish_after(d, name, "POST", f"/containers/{name}/attach?stream=1&stdout=1&stdin=1&logs=1", UPGRADE, b"begun")
            vanish_after(d, name, "GET", f"/containers/{name}/logs?follow=1&stdout=1", "", b"begun")
            vanish_after(d, name, "GET", f"/containers/{name}/stats", "", b"read")
            vanish_after(d, name, "GET", "/events", "", b"\r\n\r\n")
            vanish_after(d, name, "POST", f"/containers/{name}/wait", "", b"\r\n\r\n")
            vanish_after(d, name, "GET", f"/containers/{name}/export", "", b"\r\n\r\n")
            vanish_after(d, name, "GET", f"/containers/{name}/archive?path=/bin", "", b"\r\n\r\n")
            vanish_after(d, name, "GET", "/images/busybox/get", "", b"\r\n\r\n")
    runs(d, name)
    contains(d.out("logs", "--tail", "1", name), "begun")


@test
def vanishing_from_an_exec(d):
    name = sleeper(d, "execd")
    with Unchanged(d):
        for _ in range(5):
            status, made = d.api("POST", f"/containers/{name}/exec", {"Cmd": ["sh", "-c", "echo begun; cat; echo over >>/over"],
                                                                       "AttachStdin": True, "AttachStdout": True})
            equal(status, 201)
            body = b'{"Detach":false}'
            vanish_after(d, name, "POST", f"/exec/{made['Id']}/start",
                         f"{UPGRADE}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n", b"begun", body)
            wait_until(lambda: not d.api("GET", f"/exec/{made['Id']}/json")[1]["Running"], 30, "the end of its input")
    runs(d, name)
    equal(d.out("exec", name, "wc", "-l", "/over"), "5 /over")


@test
def vanishing_in_the_middle_of_a_body(d):
    name = sleeper(d, "body")
    with Unchanged(d):
        for path, method in (("/build", "POST"), ("/images/load", "POST"), (f"/containers/{name}/archive?path=/tmp", "PUT"),
                             ("/images/create?fromSrc=-&repo=half", "POST")):
            for _ in range(3):
                s = raw(d, method, path, "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n")
                s.sendall(b"10000\r\n" + b"\0" * 0x10000 + b"\r\n10000\r\n" + b"x" * 100)
                vanish(s)
            s = raw(d, "POST", "/containers/create?name=half", "Content-Type: application/json\r\nContent-Length: 1000\r\n", b'{"Image":')
            vanish(s)
    runs(d, name)
    equal(d.out("ps", "-aq", "--filter", "name=half") + d.out("images", "-q", "half"), "")


class Stall:
    """A fault of a registry: what is asked for it keeps until it is told to go on."""

    def __init__(self, kind, method):
        self.kind, self.method = kind, method
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, h, kind, name):
        if kind == self.kind and h.command == self.method:
            self.reached.set()
            self.go.wait(60)
        return False


@test
def vanishing_from_a_pull_and_a_push(d):
    registry = Registry()
    image = Image()
    registry.add(image, "some/thing", "1")
    host = registry.host
    # what is kept for the next time is there before
    blobs = dict(registry.blobs)
    d.run("pull", f"{host}/some/thing:1")
    d.run("tag", "busybox", f"{host}/before:1")
    d.run("push", f"{host}/before:1")
    d.run("rmi", f"{host}/before:1", f"{host}/some/thing:1")
    registry.blobs = blobs
    with Unchanged(d):
        registry.fault = stall = Stall("blob", "GET")
        s = raw(d, "POST", f"/images/create?fromImage={host}/some/thing&tag=1", "Content-Length: 0\r\n")
        assert stall.reached.wait(30), "no blob was asked for"
        vanish(s)
        stall.go.set()
        registry.fault = None
        # the same again succeeds
        status, answer = d.api("POST", f"/images/create?fromImage={host}/some/thing&tag=1")
        equal(status, 200)
        contains(answer, "Status: ")
        d.run("tag", "busybox", f"{host}/pushed:1")
        registry.fault = stall = Stall("upload", "POST")
        s = raw(d, "POST", f"/images/{host}/pushed/push?tag=1", "Content-Length: 0\r\nX-Registry-Auth: e30=\r\n")
        assert stall.reached.wait(30), "no upload was begun"
        vanish(s)
        stall.go.set()
        registry.fault = None
        d.run("push", f"{host}/pushed:1")
    d.run("rmi", f"{host}/pushed:1", f"{host}/some/thing:1")


@test
def vanishing_from_a_build(d):
    with Unchanged(d):
        p = d.start("build", "-t", "vanished", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        p.stdin.write(b"FROM busybox\nRUN echo begun; sleep 1000\n")
        p.stdin.close()
        seen = b""
        while b"begun\n" not in seen:
            got = os.read(p.stdout.fileno(), 65536)
            assert got, f"the build ended: {seen}"
            seen += got
        p.kill()
        p.wait()
        p.stdout.close()
        wait_until(lambda: d.out("ps", "-aq", "--filter", "ancestor=busybox") == "", 60, "the end of what the build ran")
    equal(d.out("images", "-q", "vanished"), "")


# ---- a control that is killed ----
@test
def control_is_killed(d):
    name = sleeper(d, "survivor", "echo begun; while [ ! -e /go ]; do sleep 0.05; done; echo over; exit 7")
    with open(f"{d.daemon.dir}/out", "w+") as out:
        clients = [d.start(*args, stdin=subprocess.DEVNULL, stdout=out, stderr=out) for args in (
            ("attach", name), ("logs", "-f", name), ("wait", name), ("exec", name, "sleep", "1000"), ("events",), ("stats", name))]
        wait_until(lambda: os.path.getsize(out.name) > 0, 30, "the first output")
        os.kill(d.daemon.pids()["control"], signal.SIGKILL)
        wait_until(lambda: answers(d), 60, "control")
        for p in clients:  # who was too slow follows the new one
            p.kill()
            p.wait(60)
    runs(d, name)
    contains(d.out("logs", name), "begun")
    wait = d.start("wait", name, stdout=subprocess.PIPE)
    equal(d.out("exec", name, "echo", "again"), "again")
    d.run("exec", name, "touch", "/go")
    equal(wait.communicate(timeout=60)[0].strip(), b"7")
    contains(d.out("logs", name), "over")
    equal(d.out("inspect", "-f", "{{.State.ExitCode}}", name), "7")


def answers(d):
    try:
        return d.api("GET", "/_ping")[0] == 200
    except OSError:
        return False


# ---- who may ----
def connect_as(d, uid, groups):
    code = f"import os, socket; os.setgroups({groups}); os.setgid({uid}); os.setuid({uid}); socket.socket(socket.AF_UNIX).connect({d.socket!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@test
def only_its_group_reaches_the_socket(d):
    st = os.stat(d.socket)
    equal((oct(st.st_mode & 0o777), st.st_uid, grp.getgrgid(st.st_gid).gr_name), ("0o660", 0, "wabe-docker"))
    contains(connect_as(d, 65534, []).stderr, "PermissionError")
    equal(connect_as(d, 65534, [st.st_gid]).stderr, "")


def start():
    private()  # with the registries: all of this process
    daemon = docker_daemon("dockfaults", netspace="host", network=None)
    d = daemon.docker
    d.daemon = daemon
    return d


def clean(d):
    ids = d.run("ps", "-aq", check=False).stdout.split()
    if ids:
        d.run("rm", "-f", "-v", *ids, check=False)


if __name__ == "__main__":
    run(start, lambda d: d.daemon.close(), clean)
