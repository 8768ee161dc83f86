#!/usr/bin/env python3
"""The native API on a private daemon: every route, what survives a kill, what bad input gets."""
import http.client
import io
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, run, test
from wabe import BUILD, Daemon, busybox_rootfs, status_field, wait_until

WABED = os.path.join(BUILD, "wabed")
P = "/v1/projects/default"
IMAGE = "busybox:test"


class ApiDaemon(Daemon):
    """The daemon itself, without the CLI before it."""

    def start(self, seconds=60, **env):
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen([WABED, "--state", self.state, "--run", self.run_dir], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=log, env=dict(self.env, **env), start_new_session=True)
        log.close()
        if not select.select([self.process.stdout], [], [], seconds)[0] or self.process.stdout.readline() != b"ready\n":
            raise AssertionError("the daemon is not ready:\n" + self.log())
        return self

    def close(self):
        try:
            if self.process:
                self.api("POST", "/v1/shutdown", {"timeout": "1s"})
                self.process.wait(60)
                self.process.stdout.close()
        finally:
            self.process = None
            if os.environ.get("WABE_KEEP"):
                print("# kept:", self.dir)
            else:
                shutil.rmtree(self.dir, ignore_errors=True)

    def ok(self, method, path, body=None, status=200):
        got, answer = self.api(method, path, body)
        assert got == status, f"{method} {path}: status {got}, wanted {status}: {answer}"
        return answer

    def error(self, method, path, body=None, status=400, kind="invalid"):
        got, answer = self.api(method, path, body)
        equal((got, answer["error"]["kind"] if got >= 400 else answer), (status, kind), f"{method} {path}")
        return answer["error"]

    def send(self, method, path, data, status=200):
        c = self.connection()
        c.request(method, path, data)
        r = c.getresponse()
        text = r.read()
        equal(r.status, status, f"{method} {path}: {text[:300]}")
        return json.loads(text) if text else None

    def raw(self, path, method="GET", status=200):
        c = self.connection()
        c.request(method, path)
        r = c.getresponse()
        data = r.read()
        equal(r.status, status, path)
        return data, r

    def create(self, name, *command, **spec):
        return self.ok("POST", P + "/instances", dict(spec, name=name, image=IMAGE, command=list(command)), 201)

    def run(self, name, *command, **spec):
        self.create(name, *command, **spec)
        return self.ok("POST", f"{P}/instances/{name}/start")

    def wait(self, name, condition="not-running"):
        return self.ok("POST", f"{P}/instances/{name}/wait?condition={condition}")

    def remove(self, name):
        return self.ok("DELETE", f"{P}/instances/{name}?force=true", status=204)

    def logs(self, name, query=""):
        return frames(self.raw(f"{P}/instances/{name}/logs?{query}")[0])

    def upgrade(self, path, body=None):
        """(socket, headers) of an upgraded stream."""
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.run_dir + "/wabe.sock")
        text = json.dumps(body or {})
        s.sendall((f"POST {path} HTTP/1.1\r\nHost: wabe\r\nConnection: Upgrade\r\nUpgrade: wabe-stream\r\n"
                   f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            got = s.recv(1)
            assert got, f"{path}: closed: {head}"
            head += got
        contains(head.decode(), "101", path)
        return s, dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)


def frames(data):
    out = []
    while data:
        kind, length = data[0], struct.unpack(">I", data[4:8])[0]
        out.append((kind, data[8:8 + length].decode()))
        data = data[8 + length:]
    return out


def text_of(found, kind=None):
    return "".join(t for k, t in found if kind in (None, k))


def read_frames(s):
    """Frames up to the exit: ({type: text}, status)."""
    seen, data = {}, b""
    while True:
        got = s.recv(65536)
        if not got:
            return seen, None
        data += got
        while len(data) >= 8 and len(data) >= 8 + struct.unpack(">I", data[4:8])[0]:
            kind, length = data[0], struct.unpack(">I", data[4:8])[0]
            body, data = data[8:8 + length], data[8 + length:]
            if kind == 3:
                return seen, struct.unpack(">I", body)[0]
            seen[kind] = seen.get(kind, b"") + body


def frame(kind, body=b""):
    return struct.pack(">B3xI", kind, len(body)) + body


def setup():
    d = ApiDaemon("api", netspace="host")
    try:
        d.start()
        d.tar = busybox_rootfs(d.dir + "/busybox.tar")
        with open(d.tar, "rb") as f:
            d.image = d.send("POST", f"{P}/images/import?name={IMAGE}", f)
    except BaseException:
        d.close()
        raise
    return d


@test
def version_and_info(d):
    """version, info, and a description whose references all lead somewhere"""
    equal(d.ok("GET", "/v1")["api"], ["v1"])
    info = d.ok("GET", "/v1/info")
    assert info["agent"]["connected"] and info["images"] == 1, info
    doc = d.ok("GET", "/v1/openapi.json")
    text = json.dumps(doc)
    for part in text.split('"$ref": "#/')[1:]:
        node = doc
        for key in part.split('"')[0].split("/"):
            node = node[key]
    for path in ("/instances/{name}/exec", "/images/pull", "/events"):
        contains(text, path)
    contains(doc["components"]["schemas"]["instance_spec"]["properties"], "image")


@test
def errors_have_one_shape(d):
    """errors have a fitting status, a kind, a message, a field"""
    d.error("GET", P + "/instances/nowhere", status=404, kind="not-found")
    d.error("GET", "/v1/projects/other/instances", status=404, kind="not-found")
    d.error("GET", "/v1/nonsense", status=404, kind="not-found")
    equal(d.error("POST", P + "/instances", {"image": "nowhere:1"}, 404, "not-found")["field"], "image")
    contains(d.error("POST", P + "/instances", {"image": IMAGE, "limits": {"memory": "lots"}})["field"], "limits.memory")
    d.error("POST", P + "/instances", {"image": IMAGE, "nonsense": 1})
    d.error("POST", P + "/instances", {})
    d.error("GET", P + "/instances?limit=-1")
    d.error("GET", P + "/events?since=soon")


@test
def bad_input(d):
    """names, bodies and JSON that mean no good"""
    for name in ("a/b", "..", "a\nb", "x" * 10000, "-a", "a b"):
        d.error("POST", P + "/instances", {"image": IMAGE, "name": name})
        status, _ = d.api("GET", P + "/instances/" + urllib.parse.quote(name, safe="")[:4000])
        assert status in (400, 404, 414), status
    for body in ("[" * 10000, "{", "nonsense", '{"a":1,"a":2}', "\x00", '"text"', "[]"):
        c = d.connection()
        c.request("POST", P + "/instances", body)
        r = c.getresponse()
        equal(r.status, 400, body[:20])
        equal(json.loads(r.read())["error"]["kind"], "invalid")
    c = d.connection()
    c.request("POST", P + "/instances", b"{" + b" " * (5 << 20) + b"}")
    equal(c.getresponse().status, 413)
    equal(d.ok("GET", P + "/instances?all=true")["instances"], [])


@test
def a_container_runs(d):
    """create, start, wait, logs, exit status, remove"""
    made = d.create("one", "sh", "-c", "echo out; echo err >&2; exit 7")
    equal((made["status"]["state"], len(made["id"])), ("created", 64))
    d.ok("POST", P + "/instances/" + made["id"][:8] + "/start")
    equal(d.wait("one")["exit_code"], 7)
    now = d.ok("GET", P + "/instances/" + made["id"][:12])
    equal((now["status"]["state"], now["status"]["exit_code"], now["status"]["pid"]), ("exited", 7, 0))
    found = d.logs("one")
    equal((text_of(found, 1), text_of(found, 2)), ("out\n", "err\n"))
    equal(text_of(d.logs("one", "stderr=false")), "out\n")
    assert not any(i["id"] == made["id"] for i in d.ok("GET", P + "/instances")["instances"])
    assert any(i["id"] == made["id"] for i in d.ok("GET", P + "/instances?all=true")["instances"])
    d.error("DELETE", P + "/images/" + urllib.parse.quote(IMAGE, safe=""), status=409, kind="conflict")
    d.ok("DELETE", P + "/instances/one", status=204)
    d.error("GET", P + "/instances/one", status=404, kind="not-found")


@test
def a_command_that_is_not_there(d):
    """a start that fails says why; with auto_remove nothing stays"""
    d.create("none", "/no/such/thing")
    d.error("POST", P + "/instances/none/start", status=422, kind="no-command")
    d.remove("none")
    d.create("none", "/etc/passwd", auto_remove=True)
    d.error("POST", P + "/instances/none/start", status=422, kind="no-exec")
    d.error("GET", P + "/instances/none", status=404, kind="not-found")


@test
def names(d):
    """made up, taken, changed"""
    free = d.ok("POST", P + "/instances", {"image": IMAGE}, 201)
    assert free["spec"]["name"]
    d.create("taken")
    equal(d.error("POST", P + "/instances", {"image": IMAGE, "name": "taken"}, 409, "exists")["field"], "name")
    equal(d.ok("PATCH", P + "/instances/taken", {"name": "moved"})["spec"]["name"], "moved")
    d.error("GET", P + "/instances/taken", status=404, kind="not-found")
    d.error("PATCH", P + "/instances/moved", {"name": free["spec"]["name"]}, 409, "exists")
    equal(d.ok("PATCH", P + "/instances/moved", {"labels": {"a": "b"}})["spec"]["labels"], {"a": "b"})
    equal(len(d.ok("GET", P + "/instances?all=true&label=a%3Db")["instances"]), 1)
    equal(len(d.ok("GET", P + "/instances?all=true&label=a%3Dc")["instances"]), 0)
    d.error("PATCH", P + "/instances/moved", {"image": "other"})
    d.create("taken")
    for name in ("taken", "moved", free["id"]):
        d.remove(name)


@test
def stopping(d):
    """stop, its signal and its timeout, kill, restart, pause"""
    d.run("s", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    equal(d.ok("POST", P + "/instances/s/start")["status"]["state"], "running")
    stopped = d.ok("POST", P + "/instances/s/stop")
    equal((stopped["status"]["state"], stopped["status"]["exit_code"]), ("exited", 5))
    equal(d.ok("POST", P + "/instances/s/stop")["status"]["state"], "exited")
    again = d.ok("POST", P + "/instances/s/restart")
    equal(again["status"]["state"], "running")
    d.error("DELETE", P + "/instances/s", status=409, kind="conflict")
    equal(d.ok("POST", P + "/instances/s/pause")["status"]["state"], "paused")
    equal(d.ok("POST", P + "/instances/s/unpause")["status"]["state"], "running")
    d.error("POST", P + "/instances/s/kill", {"signal": "NONSENSE"})
    d.ok("POST", P + "/instances/s/kill", {"signal": "KILL"}, 204)
    equal(d.wait("s")["exit_code"], 137)
    d.remove("s")
    d.run("deaf", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    equal(d.ok("POST", P + "/instances/deaf/stop", {"timeout": "200ms"})["status"]["exit_code"], 137)
    d.remove("deaf")


@test
def waiting(d):
    """next-exit sees an exit to come, removed sees auto_remove"""
    d.create("w", "sh", "-c", "exit 9", auto_remove=True)
    got = {}
    threads = [threading.Thread(target=lambda c=c: got.update({c: d.wait("w", c)})) for c in ("next-exit", "removed")]
    c = d.connection()
    c.request("POST", P + "/instances/w/wait?condition=next-exit")
    r = c.getresponse()  # the headers come at once: from here on nothing is missed
    for t in threads:
        t.start()
    d.ok("POST", P + "/instances/w/start")
    for t in threads:
        t.join(60)
    equal(json.loads(r.read())["exit_code"], 9)
    equal(got["removed"]["exit_code"], 9)
    d.error("GET", P + "/instances/w", status=404, kind="not-found")
    d.error("POST", P + "/instances/w/wait", status=404, kind="not-found")


@test
def exec_in_it(d):
    """exec: streams, status, detached, commands that are not there"""
    d.run("e", "sleep", "1000")
    s, headers = d.upgrade(P + "/instances/e/exec", {"command": ["sh", "-c", "cat; echo err >&2; exit 4"], "stdin_open": True})
    s.sendall(frame(0, b"hello\n") + frame(0))
    seen, status = read_frames(s)
    equal((seen.get(1), seen.get(2), status), (b"hello\n", b"err\n", 4))
    assert headers.get("Wabe-Exec"), headers
    made = d.ok("POST", P + "/instances/e/exec", {"command": ["sleep", "1000"], "detach": True}, 201)
    assert d.ok("GET", f"{P}/instances/e/exec/{made['id']}")["running"]
    s, _ = d.upgrade(P + "/instances/e/exec", {"command": ["tty"], "tty": True, "rows": 33, "columns": 99})
    seen, status = read_frames(s)
    contains(seen[1].decode(), "/dev/pts/")
    d.error("POST", P + "/instances/e/exec", {"command": ["/no/such"]}, 422, "no-command")
    d.error("POST", P + "/instances/e/exec", {"command": []})
    top = d.ok("GET", P + "/instances/e/top")["processes"]
    assert len(top) >= 2, top
    assert d.ok("GET", P + "/instances/e/stats")["pids"] >= 2
    d.remove("e")
    d.create("e")
    d.error("POST", P + "/instances/e/exec", {"command": ["true"]}, 409, "conflict")
    d.remove("e")


@test
def attach(d):
    """attach before the start sees all output, and gives input"""
    d.create("at", "sh", "-c", "echo first; read line; echo got $line", stdin_open=True)
    s, _ = d.upgrade(P + "/instances/at/attach?stdin=true")
    d.ok("POST", P + "/instances/at/start")
    s.sendall(frame(0, b"word\n"))
    seen, status = read_frames(s)
    equal((seen.get(1), status), (b"first\ngot word\n", 0))
    d.remove("at")


@test
def files(d):
    """archives in and out, changes, export, commit"""
    d.run("f", "sleep", "1000")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as t:
        info = tarfile.TarInfo("note")
        info.size = 5
        t.addfile(info, io.BytesIO(b"hello"))
    d.send("PUT", P + "/instances/f/archive?path=/root", tar.getvalue(), 204)
    data, r = d.raw(P + "/instances/f/archive?path=/root/note")
    equal(tarfile.open(fileobj=io.BytesIO(data)).extractfile("note").read(), b"hello")
    equal(json.loads(r.headers["Wabe-File"])["size"], 5)
    _, r = d.raw(P + "/instances/f/archive?path=/root/note", "HEAD")
    equal(json.loads(r.headers["Wabe-File"])["name"], "note")
    d.error("GET", P + "/instances/f/archive?path=/nowhere", status=404, kind="not-found")
    _, r = d.raw(P + "/instances/f/archive?path=/nowhere", "HEAD", 404)
    equal(json.loads(r.headers["Wabe-Error"])["error"]["kind"], "not-found")
    d.error("GET", P + "/instances/f/archive")
    changes = d.ok("GET", P + "/instances/f/changes")["changes"]
    contains([(c["kind"], c["path"]) for c in changes], ("added", "/root/note"))
    names_in = tarfile.open(fileobj=io.BytesIO(d.raw(P + "/instances/f/export")[0])).getnames()
    assert any(n.endswith("root/note") for n in names_in), names_in[:20]
    image = d.ok("POST", P + "/instances/f/commit", {"name": "made:1", "config": {"command": ["cat", "/root/note"]}})
    equal((len(image["layers"]), image["config"]["command"]), (2, ["cat", "/root/note"]))
    d.remove("f")
    d.ok("POST", P + "/instances", {"name": "g", "image": "made:1"}, 201)
    d.ok("POST", P + "/instances/g/start")
    d.wait("g")
    equal(text_of(d.logs("g")), "hello")
    d.remove("g")
    gone = d.ok("DELETE", P + "/images/made:1")
    equal(gone["deleted"], [image["id"]])


@test
def logs(d):
    """tail, timestamps, since; follow over rotations to the end"""
    d.run("l", "sh", "-c", "for i in $(seq 1 50); do echo line $i; done")
    d.wait("l")
    equal(text_of(d.logs("l", "tail=3")), "line 48\nline 49\nline 50\n")
    equal(d.logs("l", "tail=0"), [])
    stamp = text_of(d.logs("l", "tail=1&timestamps=true")).split(" ")[0]
    equal(text_of(d.logs("l", "since=" + stamp))[-8:], "line 50\n")
    equal(d.logs("l", "since=2099-01-01T00:00:00Z"), [])
    d.remove("l")
    d.create("r", "sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; sleep 0.2; echo end",
             log={"max_size": 16384, "max_files": 15})
    d.ok("POST", P + "/instances/r/start")
    seen = text_of(d.logs("r", "follow=true"))
    equal(seen.split("\n")[-2], "end")
    numbers = [int(line.split()[1]) for line in seen.split("\n") if line.startswith("line")]
    equal(numbers, sorted(numbers), "order")
    equal(numbers[-1], 3000)
    d.remove("r")


@test
def events(d):
    """a stream that goes on from a revision"""
    start = d.ok("GET", P + "/instances")["revision"]
    c = d.connection()
    c.request("GET", f"{P}/events?follow=true&from={start + 1}&type=instance")
    live = c.getresponse()
    made = d.run("ev", "true", auto_remove=True)
    seen = []
    while not seen or seen[-1]["action"] != "destroy":
        seen.append(json.loads(live.readline()))
    equal([e["action"] for e in seen], ["create", "start", "die", "destroy"])
    equal({e["id"] for e in seen}, {made["id"]})
    equal(seen[2]["attributes"]["exit_code"], "0")
    live.close()
    past = [json.loads(x) for x in d.raw(f"{P}/events?from={seen[1]['revision']}&instance=ev")[0].splitlines()]
    equal([e["action"] for e in past], ["start", "die", "destroy"])


@test
def images(d):
    """names, save and load, prune"""
    quoted = urllib.parse.quote(IMAGE, safe="")
    equal(d.ok("GET", f"{P}/images/{d.image['id'][7:19]}")["id"], d.image["id"])
    both = d.ok("POST", f"{P}/images/{quoted}/tag", {"name": "second:1"})
    equal(len(both["names"]), 2)
    d.error("DELETE", f"{P}/images/{d.image['id']}", status=409, kind="conflict")
    archive = d.raw(f"{P}/images/save?name=second:1")[0]
    equal(d.ok("DELETE", f"{P}/images/second:1")["deleted"], [])
    equal(d.ok("GET", P + "/images?name=second")["images"], [])
    loaded = d.send("POST", P + "/images/load", archive)["images"]
    equal((loaded[0]["id"], "docker.io/library/second:1" in loaded[0]["names"]), (d.image["id"], True))
    d.ok("DELETE", f"{P}/images/second:1")
    c = d.connection()
    c.request("POST", P + "/images/load", archive[:len(archive) // 2])
    assert c.getresponse().status >= 400
    d.error("GET", f"{P}/images/save?name=nowhere", status=404, kind="not-found")
    d.error("POST", f"{P}/images/{quoted}/tag", {"name": "Bad Name"})
    equal(d.ok("POST", P + "/images/prune", {})["deleted"], [])
    equal(len(d.ok("GET", P + "/images")["images"]), 1)


class SlowRegistry(threading.Thread):
    """Accepts, and answers nothing until it is told."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.accepted = []
        self.start()

    def run(self):
        try:
            while True:
                self.accepted.append(self.socket.accept()[0])
        except OSError:
            pass

    def end(self):
        self.socket.close()
        for s in self.accepted:
            s.close()


@test
def tasks(d):
    """two pulls of one image are one task, which can be cancelled; a failure is told"""
    registry = SlowRegistry()
    name = f"127.0.0.1:{registry.port}/slow:1"
    one = d.ok("POST", P + "/images/pull", {"name": name}, 202)
    two = d.ok("POST", P + "/images/pull", {"name": name}, 202)
    equal((one["id"], one["state"]), (two["id"], "running"))
    d.ok("POST", f"{P}/tasks/{one['id']}/cancel")
    registry.end()
    last = json.loads(d.raw(f"{P}/tasks/{one['id']}/wait")[0].splitlines()[-1])
    equal((last["state"], last["id"]), ("cancelled", one["id"]))
    failed = d.ok("POST", P + "/images/pull", {"name": "127.0.0.1:1/no:1"}, 202)
    last = json.loads(d.raw(f"{P}/tasks/{failed['id']}/wait")[0].splitlines()[-1])
    equal((last["state"], last["error_kind"]), ("failed", "unavailable"))
    assert last["error"], last
    contains([t["id"] for t in d.ok("GET", P + "/tasks")["tasks"]], failed["id"])
    d.error("GET", P + "/tasks/nowhere", status=404, kind="not-found")
    d.error("POST", P + "/images/pull", {"name": "Bad Name"})


@test
def confinement(d):
    """control has no capabilities, a seccomp filter, its own user; the socket is closed to others"""
    control = d.pids()["control"]
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        equal(int(status_field(control, field), 16), 0, field)
    equal((status_field(control, "NoNewPrivs"), status_field(control, "Seccomp")), ("1", "2"))
    assert "0" not in status_field(control, "Uid").split(), status_field(control, "Uid")
    equal(status_field(control, "Groups"), "")
    for name in ("wabe.sock", "agent.sock"):
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                socket.socket(socket.AF_UNIX).connect(f"{d.run_dir}/{name}")
            except PermissionError:
                os._exit(0)
            os._exit(1)
        equal(os.waitpid(pid, 0)[1], 0, name)


@test
def a_second_daemon(d):
    """is refused while one works in the same directories"""
    r = subprocess.run([WABED, "--state", d.state, "--run", d.run_dir], capture_output=True, text=True, timeout=60)
    equal(r.returncode, 1)
    contains(r.stderr, "another wabe daemon")
    r = subprocess.run([WABED, "--listen", "0.0.0.0:1"], capture_output=True, text=True, timeout=60)
    contains(r.stderr, "--listen")


@test
def kill_9(d):
    """SIGKILL of control and of the agent: instances go on, and all is known again"""
    made = d.run("k", "sh", "-c", "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 6")
    pid = d.ok("GET", P + "/instances/k")["status"]["pid"]
    for role in ("control", "agent", "control"):
        os.kill(d.pids()[role], signal.SIGKILL)
        now = wait_until(lambda: (lambda s: s[1] if s[0] == 200 else None)(try_api(d, "GET", P + "/instances/k")), 30, role)
        equal((now["id"], now["status"]["state"], now["status"]["pid"]), (made["id"], "running", pid), role)
        wait_until(lambda: (try_api(d, "GET", "/v1/info")[1] or {}).get("agent", {}).get("connected"), 30, "connection")
    s, _ = d.upgrade(P + "/instances/k/exec", {"command": ["touch", "/stop"]})
    equal(read_frames(s)[1], 0)
    equal(d.wait("k")["exit_code"], 6)
    numbers = [int(x) for x in text_of(d.logs("k")).split()]
    equal(numbers, list(range(1, len(numbers) + 1)), "every line is in the log")
    d.remove("k")


def try_api(d, *args):
    try:
        return d.api(*args)
    except (OSError, http.client.HTTPException):
        return 0, None


@test
def an_exit_while_control_is_away(d):
    """is known afterwards, and auto_remove happens"""
    d.run("gone", "sh", "-c", "sleep 0.5; exit 8")
    d.run("auto", "sh", "-c", "sleep 0.5", auto_remove=True)
    os.kill(d.pids()["control"], signal.SIGKILL)
    wait_until(lambda: try_api(d, "GET", "/v1")[0] == 200, 30, "control")
    equal(d.wait("gone")["exit_code"], 8)
    wait_until(lambda: d.api("GET", P + "/instances/auto")[0] == 404, 30, "auto_remove")
    d.remove("gone")


@test
def stop_and_start_again(d):
    """SIGTERM ends the daemon, instances go on and are known to the next one"""
    made = d.run("stay", "sleep", "1000")
    equal(d.stop(), 0)
    assert os.path.exists(f"/proc/{made['status']['pid']}")
    d.start()
    equal(d.ok("GET", P + "/instances/stay")["status"]["pid"], made["status"]["pid"])
    equal(d.ok("GET", P + "/images")["images"][0]["id"], d.image["id"])
    d.remove("stay")


@test
def at_once(d):
    """many requests at the same time; a long list on one connection"""
    errors = []

    def one(n):
        try:
            d.run(f"m{n}", "sh", "-c", f"exit {n}")
            equal(d.wait(f"m{n}")["exit_code"], n)
            d.ok("DELETE", f"{P}/instances/m{n}", status=204)
        except BaseException as e:
            errors.append(repr(e))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    equal(errors, [])
    c = d.connection()
    for _ in range(50):
        c.request("GET", P + "/instances?all=true")
        equal(json.loads(c.getresponse().read())["instances"], [])


@test
def nothing_is_left(d):
    """no mount, group, directory or shim stays of instances that are gone"""
    wait_until(lambda: not any(d.leftovers().values()), 15, f"an empty daemon: {d.leftovers()}")


@test
def shutdown(d):
    """stops the instances, then the daemon; nobody thinks that a role has failed"""
    d.run("last", "sleep", "1000")
    before = os.path.getsize(d.log_path)
    d.ok("POST", "/v1/shutdown", {"timeout": "1s"})
    equal(d.shims(), [])
    equal(d.process.wait(60), 0)
    with open(d.log_path) as f:
        f.seek(before)
        text = f.read()
    for bad in ("starting it again", "error", "warning", "cannot"):
        assert bad not in text, text
    d.process.stdout.close()
    d.process = None
    equal(d.shims(), [])
    d.start()
    equal(d.ok("GET", P + "/instances/last")["status"]["state"], "exited")
    d.remove("last")


if __name__ == "__main__":
    run(setup, lambda d: d.close())
