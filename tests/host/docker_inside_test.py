#!/usr/bin/env python3
"""The Docker dialect, inside of containers: attach, exec, logs over raw connections and by the real docker client."""
import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pty
import select
import signal
import socket
import struct
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from tap import contains, equal, run, test
from wabe import wait_until

IMAGE = "busybox:latest"


class World:
    def __init__(self):
        self.d = docker_daemon("dockin")
        self.k = self.d.docker

    def create(self, name, *words, start=True, options=()):
        self.d.cli("create", "--name", name, *options, IMAGE, *words)
        if start:
            self.d.cli("start", name)
        return self.d.show(name)["id"]


class Raw:
    """One request over a raw socket; what comes behind the head of the answer is the stream."""

    def __init__(self, w, method, path, body=None, upgrade="tcp", headers=(), early=b""):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(30)
        self.s.connect(w.k.socket)
        data = json.dumps(body).encode() if body is not None else b""
        lines = [f"{method} {path} HTTP/1.1", "Host: docker", f"Content-Length: {len(data)}", *headers]
        if upgrade:
            lines += ["Connection: Upgrade", f"Upgrade: {upgrade}"]
        if data:
            lines.append("Content-Type: application/json")
        self.s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data + early)
        head = b""
        while b"\r\n\r\n" not in head:
            got = self.s.recv(65536)
            assert got, f"no answer but {head!r}"
            head += got
        head, self.rest = head.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}

    def read(self, n):
        while len(self.rest) < n:
            got = self.s.recv(65536)
            assert got, f"the stream ended; seen {self.rest!r}"
            self.rest += got
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def until(self, text):
        while text not in self.rest:
            got = self.s.recv(65536)
            assert got, f"the stream ended without {text!r}; seen {self.rest!r}"
            self.rest += got
        at = self.rest.index(text) + len(text)
        out, self.rest = self.rest[:at], self.rest[at:]
        return out

    def all(self):
        while True:
            got = self.s.recv(65536)
            if not got:
                break
            self.rest += got
        out, self.rest = self.rest, b""
        return out

    def frame(self):
        kind, size = struct.unpack(">BxxxI", self.read(8))
        return kind, self.read(size)

    def frames(self):
        """All output to the end, by stream."""
        data, out = self.all(), {1: b"", 2: b""}
        while data:
            kind, size = struct.unpack(">BxxxI", data[:8])
            out[kind] += data[8:8 + size]
            data = data[8 + size:]
        return out

    def half_close(self):
        self.s.shutdown(socket.SHUT_WR)

    def close(self):
        self.s.close()


class Terminal:
    """The docker client on a terminal of ours."""

    def __init__(self, w, *args):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execvpe("docker", ["docker", *args], w.k.env)
        self.seen = b""

    def expect(self, text):
        end = time.monotonic() + 30
        while text not in self.seen:
            assert select.select([self.fd], [], [], max(0, end - time.monotonic()))[0], f"no {text!r} in {self.seen!r}"
            try:
                self.seen += os.read(self.fd, 4096)
            except OSError:
                raise AssertionError(f"it ended without {text!r}: {self.seen!r}")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def type(self, data):
        os.write(self.fd, data)

    def end(self):
        while True:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def descriptors(w):
    return len(os.listdir(f"/proc/{w.d.pids()['control']}/fd"))


def threads(w):
    return len(os.listdir(f"/proc/{w.d.pids()['control']}/task"))


# ---- attach ----

@test
def attach_before_start_misses_nothing(w):
    """attach before the start gets every byte, in frames"""
    w.create("first", "sh", "-c", "echo out; echo err >&2; echo more", start=False)
    r = Raw(w, "POST", "/v1.44/containers/first/attach?stream=1&stdout=1&stderr=1")
    equal(r.status, 101)
    equal(r.headers["content-type"], "application/vnd.docker.multiplexed-stream")
    equal(r.headers["upgrade"], "tcp")
    w.d.cli("start", "first")
    equal(r.frames(), {1: b"out\nmore\n", 2: b"err\n"})


@test
def attach_chooses_streams(w):
    """only the streams that were asked for come; older versions have the older type"""
    w.create("choose", "sh", "-c", "echo out; echo err >&2", start=False)
    r = Raw(w, "POST", "/v1.41/containers/choose/attach?stream=1&stderr=1")
    equal(r.headers["content-type"], "application/vnd.docker.raw-stream")
    w.d.cli("start", "choose")
    equal(r.frames(), {1: b"", 2: b"err\n"})


@test
def attach_without_upgrade(w):
    """who asks for no upgrade gets 200 and the same raw stream, input too, also what comes early"""
    w.create("plain", "cat", start=False, options=["-i"])
    r = Raw(w, "POST", "/containers/plain/attach?stream=1&stdin=1&stdout=1&stderr=1", upgrade=None, early=b"early\n")
    equal(r.status, 200)
    equal(r.headers["content-type"], "application/vnd.docker.raw-stream")
    assert "transfer-encoding" not in r.headers and "content-length" not in r.headers, r.headers
    w.d.cli("start", "plain")
    equal(r.frame(), (1, b"early\n"))
    r.s.sendall(b"late\n")
    equal(r.frame(), (1, b"late\n"))
    r.close()
    equal(w.d.show("plain")["status"]["state"], "running")


@test
def attach_goes_on_after_half_close(w):
    """a client that half-closes still gets output; its end of input reaches a process with stdin-once"""
    w.d.api("POST", "/v1/projects/default/instances", {"name": "half", "image": IMAGE, "stdin_open": True, "stdin_once": True,
                                                      "command": ["sh", "-c", "cat; echo done"]})
    r = Raw(w, "POST", "/containers/half/attach?stream=1&stdin=1&stdout=1&stderr=1")
    w.d.cli("start", "half")
    r.s.sendall(b"one\n")
    equal(r.frame(), (1, b"one\n"))
    r.half_close()
    equal(r.frames(), {1: b"done\n", 2: b""})


@test
def attach_to_what_runs(w):
    """what a running container writes after the answer comes; logs=1 sends the past first"""
    w.create("runs", "sh", "-c", "echo past; read x; echo $x; read x", options=["-i"])
    wait_until(lambda: "past" in w.d.out("logs", "runs"), what="the first line")
    r = Raw(w, "POST", "/containers/runs/attach?logs=1&stream=1&stdin=1&stdout=1&stderr=1")
    equal(r.frame(), (1, b"past\n"))
    r.s.sendall(b"now\n")
    equal(r.frame(), (1, b"now\n"))
    only = Raw(w, "POST", "/containers/runs/attach?logs=1&stdout=1&stderr=1")
    equal(only.frames(), {1: b"past\nnow\n", 2: b""})
    r.close()


@test
def attach_terminal_and_detach_keys(w):
    """a terminal's output is raw; detach keys end the attachment, not the container; bad ones are 400"""
    w.create("term", "sh", options=["-i", "-t"])
    r = Raw(w, "POST", "/containers/term/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-a,x")
    equal(r.headers["content-type"], "application/vnd.docker.raw-stream")
    r.s.sendall(b"echo $((40+2))\n")
    r.until(b"42")
    r.s.sendall(b"echo \x01b\x01")
    r.s.sendall(b"x")
    r.all()
    equal(w.d.show("term")["status"]["state"], "running")
    equal(w.k.api("POST", "/containers/term/attach?stream=1&stdin=1&detachKeys=ctrl-,x")[0], 400)
    r = Raw(w, "POST", "/containers/term/attach?stream=1&stdin=1&stdout=1")
    r.s.sendall(b"\x10\x11")
    r.all()
    equal(w.d.show("term")["status"]["state"], "running")


@test
def attach_errors(w):
    """unknown and paused containers are refused in Docker's words"""
    equal(w.k.api("POST", "/containers/nosuch/attach?stream=1"), (404, {"message": "No such container: nosuch"}))
    id = w.create("paused", "sleep", "1000")
    w.d.cli("pause", "paused")
    status, answer = w.k.api("POST", "/containers/paused/attach?stream=1&stdout=1")
    equal((status, answer["message"]), (409, f"container {id} is paused, unpause the container before attach"))


def ws_frame(opcode, data, fin=True):
    mask = b"\x01\x02\x03\x04"
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return bytes([(0x80 if fin else 0) | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def ws_read(r):
    first, size = r.read(2)
    if size == 126:
        size = struct.unpack(">H", r.read(2))[0]
    return first, r.read(size)


@test
def attach_over_a_websocket(w):
    """a websocket carries input and output as binary messages, answers pings, and closes at the end"""
    w.d.api("POST", "/v1/projects/default/instances", {"name": "ws", "image": IMAGE, "stdin_open": True, "stdin_once": True,
                                                      "command": ["cat"]})
    key = base64.b64encode(os.urandom(16)).decode()
    handshake = [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    r = Raw(w, "GET", "/containers/ws/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", upgrade="websocket", headers=handshake)
    equal(r.status, 101)
    wanted = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    equal(r.headers["sec-websocket-accept"], base64.b64encode(wanted).decode())
    w.d.cli("start", "ws")
    r.s.sendall(ws_frame(2, b"hel", fin=False) + ws_frame(9, b"are you there") + ws_frame(0, b"lo\n"))
    equal(ws_read(r), (0x8a, b"are you there"))
    seen = b""
    while seen != b"hello\n":
        opcode, data = ws_read(r)
        equal(opcode, 0x82)
        seen += data
    r.s.sendall(ws_frame(2, b"x" * 1000 + b"\n"))
    seen = b""
    while len(seen) < 1001:
        seen += ws_read(r)[1]
    r.s.sendall(ws_frame(8, struct.pack(">H", 1000)))
    equal(ws_read(r), (0x88, struct.pack(">H", 1000)))
    wait_until(lambda: w.d.show("ws")["status"]["state"] == "exited", what="the end of cat after its input")
    w.d.cli("start", "ws")
    r = Raw(w, "GET", "/containers/ws/attach/ws?stream=1&stdout=1", upgrade="websocket", headers=handshake)
    r.s.sendall(b"\x82\x01x")  # not masked
    equal(ws_read(r), (0x88, struct.pack(">H", 1002)))
    equal(w.k.api("GET", "/containers/ws/attach/ws?stream=1")[0], 400)


@test
def details_of_logs(w):
    """logs --details shows the labels, variables and the tag that the log options name; a tag that cannot be had is refused"""
    w.k.run(*["run", "--name", "said", "--network", "none", "--label", "app=a b", "--label", "app.kind=k", "--label", "other=o", "-e", "VERSION=1", "-e", "SECRET=s",
                                           "--log-opt", "labels=app", "--log-opt", "labels-regex=^app\\.", "--log-opt", "env=VERSION",
                                           "--log-opt", "tag={{.Name}}/{{.ID}}"], IMAGE, "echo", "x")
    id = w.k.inspect("said")["Id"][:12]
    equal(w.k.api("GET", "/containers/said/logs?stdout=1&details=1")[1][8:], f"VERSION=1,app=a+b,app.kind=k,tag=said%2F{id} x\n")
    contains(w.k.run("logs", "--details", "said").stdout, "app=a+b,app.kind=k")
    equal(w.k.out("logs", "said"), "x")
    equal(w.k.inspect("said")["HostConfig"]["LogConfig"]["Config"]["labels"], "app")
    w.k.run("run", "--name", "without", "--network", "none", IMAGE, "echo", "x")
    equal(w.k.out("logs", "--details", "without"), "x")
    r = w.k.run("create", "--log-opt", "tag={{.Nothing}}", IMAGE, check=False)
    contains(r.stderr, "tag={{.Nothing}}: {{.ID}}")


@test
def vanished_clients_leave_nothing(w):
    """clients that vanish in attach, exec and logs -f leave no descriptor and no thread; the container goes on"""
    w.create("busy", "sh", "-c", "while true; do echo x; done", options=["--log-opt", "max-size=1m"])
    open_all = lambda: [Raw(w, "POST", "/containers/busy/attach?stream=1&stdout=1&stderr=1"),
                        Raw(w, "GET", "/containers/busy/logs?follow=1&stdout=1&tail=1", upgrade=None),
                        Raw(w, "POST", f"/exec/{exec_id(w, 'busy', 'sleep', '1000')}/start", {"Detach": False})]
    for r in open_all():
        r.close()
    before = wait_until(lambda: steady(w), what="a steady number of descriptors")
    for _ in range(15):
        for r in open_all():
            r.close()
    # an exec goes on without its client, and so does its connection as long as the exec is silent: end them
    w.d.cli("kill", "busy")
    w.d.cli("start", "busy")
    wait_until(lambda: descriptors(w) <= before, 60, f"{before} descriptors again")
    equal(w.d.show("busy")["status"]["state"], "running")
    w.d.cli("rm", "-f", "busy")


def steady(w):
    n = descriptors(w)
    time.sleep(0.2)
    return n if descriptors(w) == n else 0


@test
def control_dies_while_clients_are_attached(w):
    """kill -9 of control during attach and logs -f: the container goes on, and both can be done again"""
    w.create("lives", "sh", "-c", "i=0; while read x; do i=$((i+1)); echo $i; done", options=["-i"])
    a = Raw(w, "POST", "/containers/lives/attach?stream=1&stdin=1&stdout=1&stderr=1")
    follow = Raw(w, "GET", "/containers/lives/logs?follow=1&stdout=1", upgrade=None)
    a.s.sendall(b"\n")
    equal(a.frame(), (1, b"1\n"))
    control = w.d.pids()["control"]
    os.kill(control, signal.SIGKILL)
    a.all()
    follow.all()
    wait_until(lambda: w.d.pids().get("control") not in (None, control) and
               w.d.cli("ls", check=False).returncode == 0, what="a new control")
    wait_until(lambda: w.d.show("lives")["status"]["state"] == "running", what="its state")
    a = Raw(w, "POST", "/containers/lives/attach?stream=1&stdin=1&stdout=1&stderr=1")
    a.s.sendall(b"\n")
    equal(a.frame(), (1, b"2\n"))
    a.close()


# ---- exec ----

def exec_id(w, name, *command, **more):
    status, answer = w.k.api("POST", f"/containers/{name}/exec",
                             {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command), **more})
    equal(status, 201)
    return answer["Id"]


@test
def exec_streams_and_status(w):
    """exec: frames, exit code, its description; a second start is refused"""
    id = w.create("box", "sleep", "1000")
    x = exec_id(w, "box", "sh", "-c", "echo out; echo err >&2; exit 7", Env=["A=b"])
    status, info = w.k.api("GET", f"/exec/{x}/json")
    equal((status, info["Running"], info["ExitCode"], info["ContainerID"]), (200, False, None, id))
    equal(info["ProcessConfig"], {"tty": False, "entrypoint": "sh", "arguments": ["-c", "echo out; echo err >&2; exit 7"],
                                  "privileged": False})
    r = Raw(w, "POST", f"/exec/{x}/start", {"Detach": False, "Tty": False})
    equal((r.status, r.headers["content-type"]), (101, "application/vnd.docker.multiplexed-stream"))
    equal(r.frames(), {1: b"out\n", 2: b"err\n"})
    info = w.k.api("GET", f"/exec/{x}/json")[1]
    equal((info["Running"], info["ExitCode"], info["Pid"]), (False, 7, 0))
    equal(w.k.api("POST", f"/exec/{x}/start", {})[0], 409)
    equal(w.k.api("GET", "/exec/nosuch/json"), (404, {"message": "No such exec instance: nosuch"}))
    equal(w.k.api("POST", "/exec/nosuch/start", {})[0], 404)


@test
def exec_detached(w):
    """a detached exec runs by itself"""
    x = exec_id(w, "box", "sh", "-c", "sleep 1000", AttachStdout=False, AttachStderr=False)
    equal(w.k.api("POST", f"/exec/{x}/start", {"Detach": True}), (200, None))
    info = w.k.api("GET", f"/exec/{x}/json")[1]
    assert info["Running"] and info["Pid"] > 0, info
    os.kill(info["Pid"], signal.SIGKILL)
    wait_until(lambda: w.k.api("GET", f"/exec/{x}/json")[1]["ExitCode"] == 137, what="its exit code")


@test
def exec_terminal_and_resize(w):
    """the size of an exec's terminal may be set before it exists and while it runs"""
    x = exec_id(w, "box", "sh", "-c", "stty size; read x; stty size", Tty=True, AttachStdin=True)
    equal(w.k.api("POST", f"/exec/{x}/resize?h=31&w=97")[0], 200)
    r = Raw(w, "POST", f"/exec/{x}/start", {"Tty": True})
    equal(r.headers["content-type"], "application/vnd.docker.raw-stream")
    r.until(b"31 97")
    equal(w.k.api("POST", f"/exec/{x}/resize?h=41&w=98")[0], 200)
    r.s.sendall(b"\n")
    r.until(b"41 98")
    r.all()
    x = exec_id(w, "box", "stty", "size", Tty=True, ConsoleSize=[22, 66])
    contains(Raw(w, "POST", f"/exec/{x}/start", {"Tty": True}).all(), b"22 66")
    equal(w.k.api("POST", f"/exec/{x}/resize?h=1&w=x")[0], 400)


@test
def exec_errors(w):
    """what cannot be executed is told on the stream, as dockerd does, with 127 and 126; other mistakes are statuses"""
    for command, code, text in (("nosuch", 127, b'exec: "nosuch": executable file not found in $PATH: unknown\r\n'),
                                ("/nosuch", 127, b"no such file or directory"), ("/etc/passwd", 126, b"permission denied")):
        x = exec_id(w, "box", command)
        contains(Raw(w, "POST", f"/exec/{x}/start", {}).frames()[1], text)
        equal(w.k.api("GET", f"/exec/{x}/json")[1]["ExitCode"], code)
        x = exec_id(w, "box", command)
        equal(w.k.api("POST", f"/exec/{x}/start", {"Detach": True})[0], 400)
    equal(w.k.api("POST", "/containers/box/exec", {"Cmd": []}), (400, {"message": "No exec command specified"}))
    equal(w.k.api("POST", "/containers/nosuch/exec", {"Cmd": ["true"]})[0], 404)
    equal(w.k.api("POST", "/containers/box/exec", b"{]", {"Content-Type": "application/json"})[0], 400)
    equal(w.k.api("POST", "/containers/box/exec", {"Cmd": 5})[0], 400)
    id = w.create("still", "true", start=False)
    equal(w.k.api("POST", "/containers/still/exec", {"Cmd": ["true"]}),
          (409, {"message": f"Container {id} is not running"}))
    equal(w.k.api("POST", "/containers/still/resize?h=1&w=1"), (409, {"message": f"Container {id} is not running"}))


@test
def exec_of_an_earlier_run(w):
    """what was not started in the run that it was created in is not there in the next one"""
    w.create("again", "sleep", "1000")
    left = exec_id(w, "again", "true")
    w.d.cli("stop", "-t", "0", "again")
    equal(w.k.api("POST", f"/exec/{left}/start", {"Detach": True})[0], 409)
    w.d.cli("start", "again")
    equal(w.k.api("POST", f"/exec/{left}/start", {"Detach": True}), (404, {"message": f"No such exec instance: {left}"}))
    equal(w.k.api("GET", f"/exec/{left}/json")[0], 404)


@test
def execs_are_forgotten(w):
    """of many execs the newest are remembered; with their container all go"""
    w.create("many", "sleep", "1000")
    ids = []
    for _ in range(270):
        x = exec_id(w, "many", "true")
        equal(w.k.api("POST", f"/exec/{x}/start", {"Detach": True})[0], 200)
        ids.append(x)
    known = lambda x: w.k.api("GET", f"/exec/{x}/json")[0] == 200
    wait_until(lambda: not known(ids[0]), what="the first to be forgotten")
    assert known(ids[-1])
    folder = f"{w.d.run_dir}/shim/{w.d.show('many')['id']}/exec"
    wait_until(lambda: len(os.listdir(folder)) <= 257, what="the agent to forget them too")
    w.d.cli("rm", "-f", "many")
    equal(known(ids[-1]), False)


@test
def resize_of_a_container(w):
    """a container's terminal gets a new size"""
    w.create("sized", "sh", "-c", "read x; stty size", options=["-i", "-t"])
    r = Raw(w, "POST", "/containers/sized/attach?stream=1&stdin=1&stdout=1&stderr=1")
    equal(w.k.api("POST", "/containers/sized/resize?h=37&w=111")[0], 200)
    r.s.sendall(b"\n")
    r.until(b"37 111")


# ---- logs ----

def log_frames(data):
    out = []
    while data:
        kind, size = struct.unpack(">BxxxI", data[:8])
        out.append((kind, data[8:8 + size]))
        data = data[8 + size:]
    return out


def logs(w, name, query):
    c = w.k.connection()
    c.request("GET", f"/v1.44/containers/{name}/logs?{query}")
    r = c.getresponse()
    data = r.read()
    c.close()
    return r, data


@test
def logs_in_frames(w):
    """logs: frames, streams, tail, timestamps, since and until"""
    w.create("talk", "sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three; printf four")
    w.d.cli("wait", "talk")
    r, data = logs(w, "talk", "stdout=1&stderr=1")
    equal((r.status, r.headers["content-type"]), (200, "application/vnd.docker.multiplexed-stream"))
    seen = log_frames(data)
    equal(b"".join(t for k, t in seen if k == 1), b"one\nthree\nfour")
    equal(b"".join(t for k, t in seen if k == 2), b"two\n")
    equal(log_frames(logs(w, "talk", "stdout=1&tail=2")[1]), [(1, b"three\n"), (1, b"four")])
    equal(logs(w, "talk", "stdout=1&tail=0")[1], b"")
    stamped = log_frames(logs(w, "talk", "stdout=1&timestamps=1")[1])
    when = [t.split(b" ")[0].decode() for _, t in stamped]
    equal([len(t) for t in when], [30] * 3)
    equal(log_frames(logs(w, "talk", f"stdout=1&since={when[1]}")[1]), [(1, b"three\n"), (1, b"four")])
    equal(log_frames(logs(w, "talk", f"stdout=1&until={when[0]}")[1]), [(1, b"one\n")])
    seconds = time.strptime(when[1][:19], "%Y-%m-%dT%H:%M:%S")
    exact = f"{int(__import__('calendar').timegm(seconds))}.{when[1][20:29]}"
    equal(log_frames(logs(w, "talk", f"stdout=1&since={exact}")[1]), [(1, b"three\n"), (1, b"four")])
    equal(logs(w, "talk", "")[0].status, 400)
    equal(json.loads(logs(w, "talk", "")[1])["message"], "Bad parameters: you must choose at least one stream")
    equal(logs(w, "talk", "stdout=1&since=yesterday")[0].status, 400)
    equal(logs(w, "nosuch", "stdout=1")[0].status, 404)


@test
def logs_of_a_terminal_and_none(w):
    """a terminal's log is raw; no log, no logs"""
    w.create("tty", "echo", "hi", options=["-t"])
    w.d.cli("wait", "tty")
    r, data = logs(w, "tty", "stdout=1")
    equal((r.headers["content-type"], data), ("application/vnd.docker.raw-stream", b"hi\r\n"))
    w.create("mute", "echo", "hi", options=["--log-driver", "none"])
    r, data = logs(w, "mute", "stdout=1")
    equal((r.status, json.loads(data)["message"]), (501, "configured logging driver does not support reading"))


@test
def logs_follow_to_the_end(w):
    """following gives what comes, and ends with the container"""
    w.create("speaks", "sh", "-c", "echo a; read x; echo b", options=["-i"])
    p = w.k.start("logs", "-f", "speaks", stdout=-1)
    equal(p.stdout.readline(), b"a\n")
    r = Raw(w, "POST", "/containers/speaks/attach?stream=1&stdin=1&stdout=1")
    r.s.sendall(b"\n")
    equal(p.stdout.read(), b"b\n")
    equal(p.wait(30), 0)


# ---- files ----

def path_stat(headers):
    return json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))


def archive(w, method, name, path, body=None, query=""):
    c = w.k.connection()
    c.request(method, f"/v1.44/containers/{name}/archive?path={path}{query}", body, {"Content-Type": "application/x-tar"})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r, data


def tar_of(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(text), 1000, 50
            t.addfile(info, io.BytesIO(text))
    return out.getvalue()


@test
def archive_stat(w):
    """what is at a path, as Go's FileMode has it; links are not followed at the end"""
    w.create("files", "sh", "-c", "mkdir -p /a/b; echo hi >/a/f; ln -s ../tmp /a/l; chmod 4755 /a/f; sleep 1000")
    wait_until(lambda: archive(w, "HEAD", "files", "/a/l")[0].status == 200, what="the files")
    stat = lambda path: path_stat(archive(w, "HEAD", "files", path)[0].headers)
    s = wait_until(lambda: (lambda s: s["mode"] == 0o755 | 1 << 23 and s)(stat("/a/f")), what="its mode")
    equal((s["name"], s["size"], s["linkTarget"]), ("f", 3, ""))
    equal(stat("a/b")["mode"] & ~0o777, 1 << 31)
    s = stat("/a/l")
    equal((s["name"], s["mode"] >> 27, s["linkTarget"]), ("l", 1, "/tmp"))
    equal(stat("/tmp")["mode"], 1 << 31 | 1 << 20 | 0o777)
    r, data = archive(w, "GET", "files", "/a/")
    equal((r.status, r.headers["content-type"], path_stat(r.headers)["name"]), (200, "application/x-tar", "a"))
    equal(sorted(tarfile.open(fileobj=io.BytesIO(data)).getnames()), ["a", "a/b", "a/f", "a/l"])
    r, data = archive(w, "GET", "files", "/nosuch")
    equal((r.status, json.loads(data)["message"]), (404, "Could not find the file /nosuch in container files"))
    equal(archive(w, "GET", "nosuch", "/a")[0].status, 404)
    equal(archive(w, "GET", "files", "")[0].status, 400)


@test
def archive_put(w):
    """an archive is unpacked into a directory, compressed too; what cannot be is refused and changes nothing"""
    equal(archive(w, "PUT", "files", "/a", tar_of(one=b"1"))[0].status, 200)
    equal(archive(w, "PUT", "files", "/a", gzip.compress(tar_of(two=b"2")))[0].status, 200)
    equal(w.d.out("exec", "files", "cat", "/a/one", "/a/two"), "12")
    equal(w.d.out("exec", "files", "stat", "-c", "%u:%g", "/a/one"), "1000:50")
    r, data = archive(w, "PUT", "files", "/nosuch", tar_of(x=b"x"))
    equal((r.status, json.loads(data)["message"]), (404, "Could not find the file /nosuch in container files"))
    r, data = archive(w, "PUT", "files", "/a/one", tar_of(x=b"x"))
    equal((r.status, json.loads(data)["message"]), (400, "extraction point is not a directory"))
    assert archive(w, "PUT", "files", "/a", tar_of(b=b"x"), "&noOverwriteDirNonDir=true")[0].status >= 400
    equal(w.d.out("exec", "files", "stat", "-c", "%F", "/a/b"), "directory")
    assert archive(w, "PUT", "files", "/a", b"no tar at all" * 100)[0].status >= 400
    w.create("sealed", "true", start=False, options=["--read-only"])
    r, data = archive(w, "PUT", "sealed", "/tmp", tar_of(x=b"x"))
    equal((r.status, json.loads(data)["message"]), (403, "container rootfs is marked read-only"))


@test
def archive_put_compressed(w):
    """bzip2 and xz, also of several streams and in tiny pieces; half of one changes nothing"""
    w.create("packed", "true", start=False)
    big = bytes(range(256)) * 4000
    for name, pack in (("bz2", bz2.compress), ("xz", lzma.compress)):
        plain = tar_of(**{name: name.encode(), name + "2": big})
        packed = pack(plain)
        for n, body in enumerate((packed, pack(plain[:3000]) + pack(plain[3000:]), (packed[i:i + 1] for i in range(len(packed))))):
            r, data = archive(w, "PUT", "packed", "/etc", body)
            equal(r.status, 200, f"{name} {n} {data}")
            equal(tarfile.open(fileobj=io.BytesIO(archive(w, "GET", "packed", f"/etc/{name}2")[1])).extractfile(name + "2").read(), big)
        for bad in (pack(tar_of(bad=big))[:-9], pack(tar_of(bad=big))[:200] + b"x" * 500):
            assert archive(w, "PUT", "packed", "/etc", bad)[0].status >= 400
            equal(archive(w, "HEAD", "packed", "/etc/bad")[0].status, 404)


@test
def client_cp(w):
    """docker cp in both directions, of files, directories and streams, of a running and a stopped container"""
    here = tempfile.mkdtemp(dir=w.d.dir)
    os.makedirs(here + "/tree/sub")
    for path, text in (("/tree/f", "f"), ("/tree/sub/g", "g")):
        with open(here + path, "w") as f:
            f.write(text)
    w.k.out("cp", here + "/tree", "files:/root")
    equal(w.d.out("exec", "files", "cat", "/root/tree/f", "/root/tree/sub/g"), "fg")
    w.k.out("cp", "files:/root/tree/.", here + "/back")
    equal(sorted(os.listdir(here + "/back")), ["f", "sub"])
    w.k.out("cp", "files:/root/tree/f", here + "/single")
    equal(open(here + "/single").read(), "f")
    contains(w.k.run("cp", "files:/a/f", "-", text=False).stdout, b"hi\n")
    w.k.run("cp", "-", "files:/root", input=tar_of(streamed=b"s"), text=False)
    equal(w.d.out("exec", "files", "cat", "/root/streamed"), "s")
    w.d.cli("kill", "files")
    w.k.out("cp", here + "/single", "files:/root/late")
    w.k.out("cp", "files:/root/late", here + "/later")
    equal(open(here + "/later").read(), "f")
    r = w.k.run("cp", "files:/nosuch", here, check=False)
    equal(r.returncode, 1)
    contains(r.stderr, "Could not find the file /nosuch in container files" if w.k.version() > 20 else "No such container:path")


# ---- the client ----

@test
def client_exec(w):
    """docker exec: output, input, status, directory, user, 126 and 127"""
    equal(w.k.out("exec", "box", "echo", "hi"), "hi")
    equal(w.k.run("exec", "-i", "box", "cat", input="from me").stdout, "from me")
    equal(w.k.run("exec", "box", "sh", "-c", "exit 3", check=False).returncode, 3)
    equal(w.k.out("exec", "-w", "/tmp", "-e", "A=b", "-u", "alice", "box", "sh", "-c", "pwd; echo $A; id -u"), "/tmp\nb\n1000")
    r = w.k.run("exec", "box", "nosuch", check=False)
    equal(r.returncode, 127)
    contains(r.stdout, 'exec: "nosuch": executable file not found in $PATH')
    equal(w.k.run("exec", "box", "/etc/passwd", check=False).returncode, 126)
    data = os.urandom(3 << 20)
    equal(w.k.run("exec", "-i", "box", "cat", input=data, text=False).stdout, data)


@test
def client_terminal(w):
    """docker exec -it and its size; detaching leaves the command running"""
    t = Terminal(w, "exec", "-it", "box", "sh")
    t.expect(b"# ")
    t.type(b"echo $((6*7)); tty\n")
    t.expect(b"42")
    t.type(b"exit 5\n")
    equal(t.end(), 5)
    t = Terminal(w, "exec", "-it", "--detach-keys", "ctrl-e,d", "box", "sh", "-c", "echo here; sleep 999")
    t.expect(b"here")
    t.type(b"\x05d")
    equal(t.end(), 1)  # "read escape sequence"
    contains(w.d.out("top", "box"), "sleep 999")


@test
def client_logs(w):
    """docker logs prints both streams where they belong"""
    r = w.k.run("logs", "talk")
    equal((r.stdout, r.stderr), ("one\nthree\nfour", "two\n"))
    equal(w.k.run("logs", "-n", "1", "talk").stdout, "four")


def clean(w):
    if w.d.process is None:
        w.d.start()


run(World, lambda w: w.d.close(), clean)
