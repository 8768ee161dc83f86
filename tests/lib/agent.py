"""The agent alone, driven over its socket with frames of our own: own directories, uids and control groups,
and a look for everything that an agent could leave behind."""
import array
import glob
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wabe import busybox_rootfs, wait_until

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WABE_BUILD", os.path.join(TOP, "build-asan"))

LOCAL = hashlib.sha256(b"wabe pool local").hexdigest()  # id of the pool that is always there
STDIN, STDOUT, STDERR, EXIT, READY, ATTACH = 0, 1, 2, 3, 4, 17


class Refused(Exception):
    """An error answer."""

    def __init__(self, body):
        super().__init__(f"{body.get('kind')}: {body.get('message')} [{body.get('field', '')}]")
        self.kind, self.message, self.field = body.get("kind"), body.get("message"), body.get("field")


class Gone(Exception):
    """The connection closed without an answer."""


def frame(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<I", len(data)) + data


class Connection:
    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)

    def send(self, data, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([data], ancillary)
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def recv(self):
        """(type, body, descriptors) of one frame."""
        data, fds = b"", []
        while len(data) < 4 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
            want = 4 - len(data) if len(data) < 4 else 4 + struct.unpack("<I", data[:4])[0] - len(data)
            try:
                got, more, _, _ = socket.recv_fds(self.sock, want, 16)
            except ConnectionResetError:
                got, more = b"", []
            fds += more
            if not got:
                raise Gone(f"closed after {len(data)} bytes")
            data += got
        answer = json.loads(data[4:])
        return answer["type"], answer["body"], fds

    def close(self):
        self.sock.close()


class Stream:
    """A connection to a shim."""

    def __init__(self, fd):
        self.sock = socket.socket(fileno=fd)
        self.sock.settimeout(60)

    def exact(self, n):
        data = b""
        while len(data) < n:
            got = self.sock.recv(n - len(data))
            if not got:
                return None
            data += got
        return data

    def read(self):
        head = self.exact(8)
        if head is None:
            return None, b""
        return head[0], self.exact(struct.unpack(">I", head[4:])[0])

    def all(self):
        """(stdout, stderr, exit status or None) until the end."""
        out = {STDOUT: b"", STDERR: b""}
        code = None
        while True:
            kind, data = self.read()
            if kind is None:
                return out[STDOUT], out[STDERR], code
            if kind == EXIT:
                code = struct.unpack(">i", data)[0]
            elif kind in out:
                out[kind] += data

    def until(self, text):
        seen = b""
        while text not in seen:
            kind, data = self.read()
            assert kind is not None, f"ended before {text!r}: {seen!r}"
            if kind in (STDOUT, STDERR):
                seen += data
        return seen

    def write(self, data):
        self.sock.sendall(struct.pack(">B3xI", STDIN, len(data)) + data)

    def close(self):
        self.sock.close()


class Events:
    """Listens to events from its making on."""

    def __init__(self, path):
        self.connection = Connection(path)
        self.connection.send(frame({"type": "events", "body": {}}))
        kind, body, _ = self.connection.recv()
        assert (kind, body) == ("ok", {}), (kind, body)
        self.seen = []

    def until(self, id, action, seconds=60):
        """The next event of that kind; what comes before it is kept in .seen."""
        end = time.monotonic() + seconds
        while True:
            self.connection.sock.settimeout(max(end - time.monotonic(), 0.01))
            _, body, _ = self.connection.recv()
            self.seen.append((body["id"], body["action"]))
            if body["id"] == id and body["action"] == action:
                return body

    def close(self):
        self.connection.close()


class Agent:
    def __init__(self, name="agent", uid=0):
        self.dir = tempfile.mkdtemp(prefix=f"wabe-{name}-", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.state, self.run = self.dir + "/state", self.dir + "/run"
        self.uid = uid
        self.log_path = self.dir + "/agent.log"
        self.path = self.run + "/agent.sock"
        self.process = None
        self.layer = None
        self.uid_pool = 0x40000000 + (os.getpid() % 4096) * 0x40000

    def start(self, fault=None):
        env = dict(os.environ, WABE_UID_POOL=str(self.uid_pool))
        env.pop("WABE_FAULT", None)
        if fault:
            env["WABE_FAULT"] = fault
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BUILD + "/tests/host/agent_run", self.state, self.run, str(self.uid),
                 os.environ.get("WABE_SHIM", BUILD + "/wabe-shim")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=env, start_new_session=True)
        wait_until(self.answers, 60, "the agent's readiness")
        return self

    def answers(self):
        assert self.process.poll() is None, f"the agent ended with {self.process.returncode}:\n{self.log()}"
        try:
            return self.call("hello")
        except (OSError, Gone):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ended(self):
        """Waits until a fault has killed the agent."""
        self.process.wait(60)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()[-6000:]

    # ---- requests ----
    def request(self, name, body=None, fds=()):
        c = Connection(self.path)
        c.send(frame({"type": name, "body": body or {}}), fds)
        return c

    def full(self, name, body=None, fds=(), progress=None):
        c = self.request(name, body, fds)
        try:
            while True:
                kind, answer, got = c.recv()
                if kind == "error":
                    raise Refused(answer)
                if kind == "ok":
                    return answer, got
                if progress is not None:
                    progress.append(answer)
        finally:
            c.close()

    def call(self, name, /, **body):
        answer, fds = self.full(name, body)
        for fd in fds:
            os.close(fd)
        return answer

    def changes(self, id):
        """The records of instance-diff: kind and path."""
        _, fds = self.full("instance-diff", {"id": id})
        return set(read_all(fds[0]).split(b"\0")[:-1])

    def create(self, **spec):
        config = spec.pop("config", {})
        layers = spec.pop("layers", None)
        more = spec.pop("more", {})      # of the message
        object = spec.pop("object", {})  # of the instance beside its spec
        id = spec.pop("id", None) or os.urandom(32).hex()
        spec.setdefault("name", "t" + id[:8])
        spec.setdefault("network", "none")
        spec.setdefault("image", "busybox:test")
        resolved = {k: spec.pop(k) for k in ("nics", "ports") if k in spec}
        instance = dict({"id": id, "image_id": "sha256:" + "0" * 64, "spec": spec}, **resolved, **object)
        self.full("instance-create", dict({"instance": instance, "config": config,
                                           "layers": [self.layer] if layers is None else layers}, **more))
        return id

    def run_it(self, *command, **spec):
        """Creates and starts; the id."""
        id = self.create(command=list(command), **spec)
        self.call("instance-start", id=id)
        return id

    def output_of(self, *command, **spec):
        """(stdout, stderr, status) of a run, attached before its start; the instance is removed."""
        id = self.create(command=list(command), **spec)
        try:
            s = self.attach(id)
            self.call("instance-start", id=id)
            return s.all()
        finally:
            self.call("instance-delete", id=id, force=True)

    def attach(self, id, stdin=False):
        _, fds = self.full("attach", {"id": id, "stdin": stdin, "stdout": True, "stderr": True})
        return Stream(fds[0])

    def execute(self, id, *command, **spec):
        """(stream, exec id)"""
        exec_id = os.urandom(32).hex()
        _, fds = self.full("exec-start", dict({"id": id, "exec_id": exec_id, "command": list(command)}, **spec))
        return (Stream(fds[0]) if fds else None), exec_id

    def exec_output(self, id, *command, **spec):
        s, _ = self.execute(id, *command, **spec)
        return s.all()

    def status(self, id):
        for i in self.call("instance-list").get("instances", []):
            if i["id"] == id:
                return i["status"]
        return None

    def state_of(self, id):
        s = self.status(id)
        return s and s["state"]

    def wait_state(self, id, *states, seconds=60):
        return wait_until(lambda: self.state_of(id) in states, seconds, f"{id[:12]} in state {states}")

    def events(self):
        return Events(self.path)

    def delete(self, *ids):
        for id in ids:
            self.call("instance-delete", id=id, force=True)

    def unpack(self, data):
        """A plain tar as a layer; its diff_id."""
        diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
        with tempfile.TemporaryFile() as f:
            f.write(data)
            f.seek(0)
            self.full("layer-unpack", {"diff_id": diff_id, "media_type": "application/vnd.oci.image.layer.v1.tar"},
                      [f.fileno()])
        return diff_id

    def busybox(self):
        path = busybox_rootfs(self.dir + "/busybox.tar")
        with open(path, "rb") as f:
            self.layer = self.unpack(f.read())
        return self.layer

    # ---- what must not leak ----
    def group(self):
        return hashlib.sha256(self.state.encode()).hexdigest()[:12]

    def groups(self):
        found = glob.glob(f"/sys/fs/cgroup/*/wabe/{self.group()}/*") + glob.glob(f"/sys/fs/cgroup/wabe/{self.group()}/*")
        return [g for g in found if os.path.isdir(g)]

    def processes(self):
        """Shims and workers of this agent, and whoever runs in its control groups."""
        found = set()
        for g in self.groups():
            try:
                with open(g + "/cgroup.procs") as f:
                    found.update(int(p) for p in f.read().split())
            except OSError:
                pass
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            pid = int(path.split("/")[2])
            try:
                with open(path, "rb") as f:
                    line = f.read()
            except OSError:
                continue
            if self.dir.encode() in line and (not self.process or pid != self.process.pid):
                found.add(pid)
        return sorted(found)

    def leftovers(self):
        with open("/proc/self/mountinfo") as f:
            mounts = [line.split()[4] for line in f if self.dir in line]

        def listing(path):
            return sorted(os.listdir(path)) if os.path.isdir(path) else []

        return {
            "mounts": mounts,
            "groups": self.groups(),
            "instances": listing(self.state + "/agent/instances"),
            "tmp": listing(self.state + "/agent/tmp"),
            "layers": [n for n in listing(self.state + "/agent/layers") if n.startswith(".")],
            "run": listing(self.run + "/shim"),
            "processes": self.processes(),
            "storage": self.stored(),
        }

    def stored(self):
        """Roots and volumes in the local pool, what records and marks of any pool say, pools beside local, loop devices."""
        def listing(path):
            return [f"{path[len(self.dir) + 1:]}/{n}" for n in os.listdir(path)] if os.path.isdir(path) else []
        storage, found = self.state + "/agent/storage", []
        found += listing(storage + "/volumes")
        for path in glob.glob(storage + "/tmp-*"):
            found += listing(path)
        for pool in glob.glob(self.state + "/agent/pools/*"):
            found += listing(pool + "/volumes") + listing(pool + "/open")
            found += [n for n in listing(pool + "/locks") if not n.endswith("/pool.busy")]
            if not pool.endswith(LOCAL):
                found.append(pool)
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            try:
                with open(path) as f:
                    if self.dir in (file := f.read().strip()):
                        found.append(path.split("/")[3] + " on " + file)
            except OSError:
                pass
        return sorted(found)

    def clean(self):
        """Nothing is left, once what is under way has ended."""
        def nothing():
            return not any(self.leftovers().values())
        try:
            wait_until(nothing, 40, "cleanliness")
        except AssertionError:
            raise AssertionError(f"left over: {self.leftovers()}\n{self.log()}") from None

    def restore(self):
        """A running agent without instances."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.start()
        for i in self.call("instance-list").get("instances", []):
            try:
                self.delete(i["id"])
            except (Refused, Gone):
                pass

    def close(self):
        """Ends everything, whatever state it is in."""
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            for i in self.call("instance-list").get("instances", []):
                try:
                    self.delete(i["id"])
                except (Refused, Gone):
                    pass
            self.process.terminate()
            self.process.wait(60)
        finally:
            for pid in self.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            shutil.rmtree(self.dir, ignore_errors=True)


def tar_of(**files):
    """A tar of plain files, as bytes: tar_of(a="text")."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, text in files.items():
            data = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read_all(fd):
    with os.fdopen(fd, "rb") as f:
        return f.read()
