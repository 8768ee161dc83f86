#!/usr/bin/env python3
"""The command line against a server that answers as docs/API.md says: requests, streams, terminals, signals,
exit statuses, texts."""
import contextlib, fcntl, io, json, os, pty, re, select, shutil, signal, socket, socketserver, struct, subprocess, sys
import tarfile, tempfile, termios, threading, time, traceback, urllib.parse
from http.server import BaseHTTPRequestHandler

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import equal as eq, run, test
from wabe import WABE

LIMIT = 60  # seconds until a test that hangs has failed
ID = "0123456789abcdef" * 4
STDIN, STDOUT, STDERR, EXIT, READY, RESIZE = 0, 1, 2, 3, 4, 16


def frame(kind, data=b""):
    return struct.pack(">BxxxI", kind, len(data)) + data


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False

    def setup(self):
        super().setup()
        self.server.connections += 1

    def address_string(self):
        return "client"

    def log_message(self, *args):
        pass

    def read_body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while n := int(self.rfile.readline(), 16):
                body += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(url.query)
        path = url.path.removeprefix("/v1/projects/default")
        for method, pattern, fn, streamed in self.server.routes:
            m = re.fullmatch(pattern, path)
            if method == self.command and m:
                break
        else:
            self.read_body()
            self.server.seen.append((self.command, path, None))
            return self.error(404, "not-found", f"no route {self.command} {path}")
        self.body = None if streamed else self.read_body()
        with contextlib.suppress(ValueError):
            self.json = json.loads(self.body) if self.body else None
        self.server.seen.append((self.command, path, getattr(self, "json", None)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            fn(self, *m.groups())
        self.json = None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

    def reply(self, value=None, status=200, headers={}):
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(204 if value is None and status == 200 else status)
        for k, v in headers.items():
            self.send_header(k, v)
        if data or status != 200:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, kind, message, field=None):
        e = {"kind": kind, "message": message}
        if field:
            e["field"] = field
        self.reply({"error": e}, status)

    def chunks(self, content_type="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        return self

    def chunk(self, data):
        data = data if isinstance(data, bytes) else (json.dumps(data) + "\n").encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def upgrade(self):
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "wabe-stream")
        self.end_headers()
        self.close_connection = True
        return self

    def frame(self, kind, data=b""):
        self.wfile.write(frame(kind, data))

    def read_frame(self):
        head = self.rfile.read(8)
        if len(head) < 8:
            return None, b""
        kind, n = struct.unpack(">BxxxI", head)
        return kind, self.rfile.read(n)

    def read_input(self):
        """The next frame that is no resize."""
        while True:
            kind, data = self.read_frame()
            if kind != RESIZE:
                return kind, data

    def end(self, status):
        self.frame(EXIT, struct.pack(">I", status))


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ConnectionResetError)):
            traceback.print_exc()


class Fake:
    """A daemon in a directory of its own, with routes that a test adds."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="wabe-cli-")
        self.server = Server(self.dir + "/wabe.sock", Handler)
        self.server.routes, self.server.seen, self.server.connections = [], [], 0
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.dir)

    def on(self, method, pattern, fn, streamed=False):
        self.server.routes.insert(0, (method, pattern, fn, streamed))
        return self

    def seen(self):
        return [(m, p) for m, p, _ in self.server.seen]

    def body(self, method, path):
        return [b for m, p, b in self.server.seen if (m, p) == (method, path)][-1]

    def env(self, **more):
        return {"WABE_RUN": self.dir, "PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8", **SANITIZER, **more}

    def wabe(self, *args, input=None, env={}, cwd=None):
        return subprocess.run([WABE, *args], input=input, capture_output=True, env=self.env(**env), timeout=LIMIT,
                              stdin=subprocess.DEVNULL if input is None else None, cwd=cwd)

    def start(self, *args, **kw):
        return subprocess.Popen([WABE, *args], env=self.env(), **kw)

    def runnable(self, attach, start=lambda h: h.reply(INSTANCE)):
        """Routes of create, attach and start; attach begins once start was called."""
        started = threading.Event()

        def on_start(h):
            started.set()
            start(h)

        def on_attach(h):
            h.upgrade()
            h.frame(READY)
            assert started.wait(LIMIT)
            attach(h)

        self.on("POST", "/instances", lambda h: h.reply(INSTANCE, 201))
        self.on("POST", f"/instances/{ID}/attach", on_attach)
        return self.on("POST", f"/instances/{ID}/start", on_start)


SANITIZER = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
INSTANCE = {"id": ID, "project": "default", "created_at": "2026-01-01T00:00:00Z",
            "spec": {"name": "web", "image": "debian", "command": ["sleep", "1\x1b[31m"]},
            "status": {"state": "running", "pid": 7, "started_at": "2026-01-01T00:00:00Z"}}


def ok(p, status=0):
    assert p.returncode == status, f"status {p.returncode}, not {status}: {p.stderr!r}"
    return p


class Terminal:
    """wabe on a pseudo terminal."""

    def __init__(self, fake, *args, rows=24, columns=80):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = fake.start(*args, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def expect(self, text):
        while text not in self.seen:
            assert select.select([self.master], [], [], LIMIT)[0], f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.master, 65536)

    def type(self, data):
        os.write(self.master, data)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self):
        status = self.process.wait(LIMIT)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal was not restored"
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        os.close(self.slave)
        os.close(self.master)
        return status


@test
def test_run_output_and_status():
    def attach(h):
        h.frame(STDOUT, b"out\n")
        h.frame(STDERR, b"err\n")
        h.frame(99, b"from the future")
        h.frame(STDOUT, b"x" * 65536)
        h.end(42)
    with Fake() as f:
        f.runnable(attach)
        p = ok(f.wabe("run", "--rm", "--name", "web", "-e", "A=1", "-m", "64m", "debian", "sh", "-c", "exit 42"), 42)
        eq((p.stdout, p.stderr), (b"out\n" + b"x" * 65536, b"err\n"))
        eq(f.seen(), [("POST", "/instances"), ("POST", f"/instances/{ID}/attach"), ("POST", f"/instances/{ID}/start"),
                      ("POST", f"/instances/{ID}/wait")])
        eq(f.server.connections, 2)
        spec = f.body("POST", "/instances")
        eq((spec["name"], spec["env"], spec["command"], spec["auto_remove"], spec["limits"]["memory"], spec["image"]),
           ("web", ["A=1"], ["sh", "-c", "exit 42"], True, 64 << 20, "debian"))


@test
def test_run_input():
    def attach(h):
        eq(h.read_input(), (STDIN, b"hello"))
        eq(h.read_input(), (STDIN, b""))
        h.frame(STDOUT, b"bye")
        h.end(0)
    with Fake() as f:
        f.runnable(attach)
        eq(ok(f.wabe("run", "-i", "debian", "cat", input=b"hello")).stdout, b"bye")
        spec = f.body("POST", "/instances")
        eq((spec["stdin_open"], spec["stdin_once"]), (True, True))


@test
def test_run_much_input_and_output():
    def attach(h):
        while (data := h.read_input()[1]):
            h.frame(STDOUT, data)
        h.end(0)
    with Fake() as f:
        data = os.urandom(1 << 16) * 100
        f.runnable(attach)
        assert ok(f.wabe("run", "-i", "debian", "cat", input=data)).stdout == data


@test
def test_run_without_input_sends_none():
    def attach(h):
        h.connection.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            assert not h.connection.recv(1)
        eq(h.query["stdin"], ["false"])
        h.end(0)
    with Fake() as f:
        f.runnable(attach)
        ok(f.wabe("run", "debian", "cat", input=b"not for it"))


@test
def test_run_detached():
    with Fake() as f:
        f.runnable(None)
        eq(ok(f.wabe("run", "-d", "debian")).stdout, ID.encode() + b"\n")
        eq(f.seen(), [("POST", "/instances"), ("POST", f"/instances/{ID}/start")])
        eq(f.server.connections, 1)


@test
def test_run_start_fails():
    for kind, status in ("no-command", 127), ("no-exec", 126), ("conflict", 125):
        with Fake() as f:
            f.runnable(lambda h: None, lambda h: h.error(422, kind, "nothing called nope"))
            f.on("DELETE", f"/instances/{ID}", lambda h: h.reply())
            p = ok(f.wabe("run", "--rm", "debian", "nope"), status)
            eq(p.stderr, b"wabe: nothing called nope\n")
            eq(f.seen()[-1], ("DELETE", f"/instances/{ID}"))


@test
def test_run_pulls():
    def create(h):
        if any(p == "/tasks/5/wait" for _, p, _ in h.server.seen):
            return h.reply(INSTANCE, 201)
        h.error(404, "not-found", "no image debian", "image")

    def wait(h):
        h.chunks().chunk({"id": "5", "state": "running", "message": "fetching"})
        h.chunk({"id": "5", "state": "done", "result": "sha256:1"})
        h.wfile.write(b"0\r\n\r\n")
    with Fake() as f:
        f.runnable(lambda h: h.end(0)).on("POST", "/instances", create)
        f.on("POST", "/images/pull", lambda h: h.reply({"id": "5"}, 202)).on("GET", "/tasks/5/wait", wait)
        ok(f.wabe("run", "--platform", "linux/arm64", "debian"))
        eq(f.body("POST", "/images/pull"), {"name": "debian", "platform": "linux/arm64"})
        eq(f.server.connections, 2)
    with Fake() as f:
        f.on("POST", "/instances", create)
        p = ok(f.wabe("run", "--pull", "never", "debian"), 125)
        eq(p.stderr, b"wabe: image: no image debian\n")
        eq(len(f.seen()), 1)
        ok(f.wabe("run", "--pull", "perhaps", "debian"), 125)


@test
def test_run_stream_breaks():
    with Fake() as f:
        f.runnable(lambda h: h.frame(STDOUT, b"half"))
        f.on("POST", f"/instances/{ID}/wait", lambda h: h.reply({"exit_code": 9}))
        eq(ok(f.wabe("run", "debian"), 9).stdout, b"half")
    with Fake() as f:
        f.runnable(lambda h: h.frame(STDOUT, b"half"))
        assert b"broke off" in ok(f.wabe("run", "debian"), 125).stderr


@test
def test_run_hostile_frames():
    for data in struct.pack(">BxxxI", 1, 1 << 30), frame(EXIT, b"x"), frame(STDOUT, b"x")[:-1]:
        with Fake() as f:
            f.runnable(lambda h: h.wfile.write(data))
            ok(f.wabe("run", "debian"), 125)


@test
def test_run_signals():
    ends = threading.Event()

    def attach(h):
        h.frame(STDOUT, b"up\n")
        assert ends.wait(LIMIT)
        h.end(143)

    def kill(h):
        eq(h.json, {"signal": "SIGTERM"})
        h.reply()
        ends.set()
    with Fake() as f:
        f.runnable(attach).on("POST", f"/instances/{ID}/kill", kill)
        p = f.start("run", "debian", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        eq(p.stdout.readline(), b"up\n")
        p.send_signal(signal.SIGTERM)
        eq(p.wait(LIMIT), 143)
        p.stdout.close()
    stop = threading.Event()
    with Fake() as f:
        f.runnable(lambda h: (h.frame(STDOUT, b"up\n"), stop.wait(LIMIT)))
        p = f.start("run", "--sig-proxy=false", "debian", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        eq(p.stdout.readline(), b"up\n")
        p.send_signal(signal.SIGINT)
        eq(p.wait(LIMIT), 130)
        p.stdout.close()
        stop.set()


@test
def test_terminal():
    sizes = []

    def attach(h):
        h.frame(STDOUT, b"prompt")
        while True:
            kind, data = h.read_frame()
            if kind == RESIZE:
                sizes.append(struct.unpack(">HH", data))
                if sizes[-1] == (30, 90):
                    h.frame(STDOUT, b"resized")
            elif data == b"\x03":  # raw: as a byte, not as a signal
                h.frame(STDOUT, b"interrupted")
            elif data == b"q":
                return h.end(5)
    with Fake() as f:
        f.runnable(attach)
        t = Terminal(f, "run", "-it", "debian", "bash")
        t.expect(b"prompt")
        t.resize(30, 90)
        t.expect(b"resized")
        t.type(b"\x03")
        t.expect(b"interrupted")
        t.type(b"q")
        eq(t.end(), 5)
        eq(sizes[0], (24, 80))
        spec = f.body("POST", "/instances")
        eq((spec["tty"], spec["stdin_open"]), (True, True))


@test
def test_detach_keys():
    for keys, typed, arrives in (None, b"ab\x10c\x10\x11z", b"ab\x10c"), ("ctrl-x,y", b"\x18z\x18y", b"\x18z"):
        got = []

        def attach(h):
            h.frame(STDOUT, b"prompt")
            while (f := h.read_input())[0] is not None:
                got.append(f[1])
            done.set()
        done = threading.Event()
        with Fake() as f:
            f.runnable(attach)
            t = Terminal(f, "run", "-it", *(["--detach-keys", keys] if keys else []), "debian")
            t.expect(b"prompt")
            t.type(typed)
            t.expect(b"detached")
            eq(t.end(), 0)
            assert done.wait(LIMIT)
            eq(b"".join(got), arrives)
    with Fake() as f:
        f.runnable(None)
        assert b"are not keys" in ok(f.wabe("run", "--detach-keys", "meta-x", "debian"), 125).stderr
        eq(f.seen(), [])


@test
def test_terminal_restored_on_signal():
    stop = threading.Event()
    with Fake() as f:
        f.runnable(lambda h: (h.frame(STDOUT, b"prompt"), stop.wait(LIMIT)))
        t = Terminal(f, "run", "-it", "--sig-proxy=false", "debian")
        t.expect(b"prompt")
        t.process.send_signal(signal.SIGHUP)
        eq(t.end(), 129)
        stop.set()


@test
def test_terminal_needs_one():
    with Fake() as f:
        f.runnable(lambda h: None)
        assert b"no terminal" in ok(f.wabe("run", "-it", "debian"), 125).stderr
        eq(f.seen(), [])


@test
def test_create_start_attach():
    with Fake() as f:
        f.on("POST", "/instances", lambda h: h.reply(INSTANCE, 201))
        path = f.dir + "/cid"
        eq(ok(f.wabe("create", "--cidfile", path, "debian")).stdout, ID.encode() + b"\n")
        eq(open(path).read(), ID)
        assert b"exists already" in ok(f.wabe("create", "--cidfile", path, "debian"), 125).stderr
        f.on("GET", "/instances/web", lambda h: h.reply(INSTANCE))
        f.on("POST", "/instances/web/attach", lambda h: (h.upgrade(), h.frame(STDOUT, b"hi"), h.end(3)))
        f.on("POST", "/instances/(?:web|db)/start", lambda h: h.reply(INSTANCE))
        eq(ok(f.wabe("start", "-a", "web"), 3).stdout, b"hi")
        eq(ok(f.wabe("attach", "web"), 3).stdout, b"hi")
        eq(ok(f.wabe("start", "web", "db")).stdout, b"web\ndb\n")
        f.on("GET", "/instances/web", lambda h: h.reply({**INSTANCE, "status": {"state": "exited"}}))
        assert b"does not run" in ok(f.wabe("attach", "web"), 125).stderr


@test
def test_exec():
    def attach(h):
        h.upgrade()
        eq(h.read_input(), (STDIN, b"in"))
        h.frame(STDOUT, b"out")
        h.end(7)
    with Fake() as f:
        f.on("POST", "/instances/web/exec", attach)
        eq(ok(f.wabe("exec", "-i", "-u", "1:2", "-e", "A=1", "-w", "/x", "--privileged", "web", "ls", "-l", input=b"in"),
              7).stdout, b"out")
        eq(f.body("POST", "/instances/web/exec"), {"command": ["ls", "-l"], "env": ["A=1"], "workdir": "/x",
                                                   "user": "1:2", "stdin_open": True, "privileged": True})
        eq(f.server.connections, 1)
        for kind, status in ("no-command", 127), ("no-exec", 126), ("conflict", 125):
            f.on("POST", "/instances/web/exec", lambda h: h.error(422, kind, "no"))
            eq(ok(f.wabe("exec", "web", "nope"), status).stderr, b"wabe: no\n")
        f.on("POST", "/instances/web/exec", lambda h: h.reply({"id": "e1"}, 201))
        eq(ok(f.wabe("exec", "-d", "web", "true")).stdout, b"e1\n")


@test
def test_spec_from_files():
    with Fake() as f:
        f.on("POST", "/instances", lambda h: h.reply(INSTANCE, 201))
        for name, text in (("env", "# no\nA=file\nB=file\nHOME\n"), ("labels", "a=1\nb\n"), ("seccomp", '{"x":1}')):
            open(f"{f.dir}/{name}", "w").write(text)
        os.mkdir(f.dir + "/src")
        ok(f.wabe("create", "--env-file", f.dir + "/env", "-eB=flag", "-e", "PATH", "-e", "NOTHING", "--label-file", f.dir + "/labels",
                  "-l", "b=2", "--security-opt", f"seccomp={f.dir}/seccomp", "-v", "./src:/src:ro", "debian", cwd=f.dir))
        spec = f.body("POST", "/instances")
        eq(spec["env"], ["A=file", "B=flag", "HOME=/", "PATH=" + os.environ["PATH"], "NOTHING"])
        eq(spec["labels"], {"b": "2", "a": "1"})
        eq(spec["seccomp"], '{"x":1}')
        eq(spec["mounts"], [{"type": "bind", "source": f.dir + "/src", "target": "/src", "read_only": True, "recursive": True}])
        assert b"cannot mount ./none" in ok(f.wabe("create", "-v", "./none:/x", "debian"), 125).stderr
        assert b"cannot read" in ok(f.wabe("create", "--env-file", "/none", "debian"), 125).stderr


@test
def test_ls():
    other = {**INSTANCE, "id": "f" * 64, "spec": {"name": "db", "image": "x" * 100},
             "status": {"state": "exited", "exit_code": 3, "finished_at": "2026-01-01T00:00:00Z"}}
    with Fake() as f:
        f.on("GET", "/instances", lambda h: h.reply({"revision": 1, "instances": [INSTANCE, other]}))
        lines = ok(f.wabe("ls", "-a")).stdout.decode().splitlines()
        assert lines[0].split() == ["NAME", "ID", "IMAGE", "COMMAND", "STATE", "PORTS", "CREATED"]
        assert lines[1].startswith("web   0123456789ab  debian") and "\x1b" not in lines[1] and "running" in lines[1]
        assert "exited (3)" in lines[2] and "x" * 100 in lines[2]
        eq(ok(f.wabe("ls", "-q")).stdout, b"0123456789ab\nffffffffffff\n")
        eq(json.loads(ok(f.wabe("ls", "--json")).stdout), [INSTANCE, other])
        t = Terminal(f, "ls", "-a", columns=70)
        eq(t.end(), 0)
        lines = t.seen.decode().replace("\r", "").splitlines()
        assert all(len(l) <= 70 for l in lines) and "…" in lines[2], lines
        ok(f.wabe("ls", "--filter", "label=a=b", "-f", "status=exited", "-n", "5"))
        assert b"--filter" in ok(f.wabe("ls", "--filter", "colour=red"), 125).stderr
        queries = []
        f.on("GET", "/instances", lambda h: (queries.append(h.query), h.reply({"instances": []})))
        eq(len(ok(f.wabe("ls", "--filter", "label=a=b&c", "-n", "5")).stdout.splitlines()), 1)
        eq(queries, [{"all": ["true"], "limit": ["5"], "label": ["a=b&c"]}])


@test
def test_many_at_once():
    with Fake() as f:
        f.on("POST", "/instances/(a|c)/stop", lambda h, n: h.reply(INSTANCE))
        f.on("POST", "/instances/b/stop", lambda h: h.error(404, "not-found", "no instance is called b"))
        p = ok(f.wabe("stop", "-t", "5s", "-s", "INT", "a", "b", "c"), 125)
        eq((p.stdout, p.stderr), (b"a\nc\n", b"wabe: no instance is called b\n"))
        eq(f.body("POST", "/instances/a/stop"), {"timeout": "5s", "signal": "INT"})
        eq(f.server.connections, 1)
        f.on("DELETE", "/instances/a%2F..%2Fb", lambda h: h.reply())
        ok(f.wabe("rm", "a/../b"))


@test
def test_update_and_rename():
    with Fake() as f:
        f.on("PATCH", "/instances/web", lambda h: h.reply(INSTANCE))
        ok(f.wabe("update", "-m", "512m", "--cpus", "1.5", "--pids-limit", "0", "--restart", "always", "web"))
        eq(f.body("PATCH", "/instances/web"), {"limits": {"memory": 512 << 20, "cpus": 1.5, "pids": None},
                                              "restart": {"policy": "always"}})
        ok(f.wabe("update", "--restart", "no", "web"))
        eq(f.body("PATCH", "/instances/web"), {"restart": None})
        ok(f.wabe("update", "-l", "a=b", "web"))
        eq(f.body("PATCH", "/instances/web"), {"labels": {"a": "b"}})
        ok(f.wabe("rename", "web", "new"))
        eq(f.body("PATCH", "/instances/web"), {"name": "new"})
        assert b"nothing to change" in ok(f.wabe("update", "web"), 125).stderr


@test
def test_logs():
    queries = []

    def logs(h):
        queries.append(h.query)
        h.chunks("application/vnd.wabe.stream")
        data = frame(STDOUT, b"one\n") + frame(STDERR, b"two\n") + frame(STDOUT, b"three\n")
        for i in range(len(data)):  # frames need not come whole
            h.chunk(data[i:i + 1])
        h.wfile.write(b"0\r\n\r\n")
    with Fake() as f:
        f.on("GET", "/instances/web/logs", logs)
        p = ok(f.wabe("logs", "-f", "-t", "--tail", "5", "--since", "10m", "--until", "2026-01-01T00:00:00Z", "web"))
        eq((p.stdout, p.stderr), (b"one\nthree\n", b"two\n"))
        assert re.fullmatch(r"20\d\d-.*Z", queries[0].pop("since")[0])
        eq(queries[0], {"stdout": ["true"], "stderr": ["true"], "follow": ["true"], "timestamps": ["true"], "tail": ["5"],
                        "until": ["2026-01-01T00:00:00.000000000Z"]})
        assert b"neither a time" in ok(f.wabe("logs", "--since", "soon", "web"), 125).stderr


@test
def test_small_commands():
    with Fake() as f:
        f.on("POST", "/instances/web/wait", lambda h: h.reply({"exit_code": 4}))
        eq(ok(f.wabe("wait", "web")).stdout, b"4\n")
        f.on("GET", "/instances/web", lambda h: h.reply(INSTANCE))
        eq(json.loads(ok(f.wabe("show", "web")).stdout), INSTANCE)
        f.on("GET", "/instances/web/changes", lambda h: h.reply({"changes": [{"kind": "added", "path": "/a"},
                                                                          {"kind": "deleted", "path": "/b"}]}))
        eq(ok(f.wabe("diff", "web")).stdout, b"A /a\nD /b\n")
        f.on("GET", "/instances/web/top", lambda h: h.reply({"processes": [
            {"pid": 7, "parent": 1, "user": "0", "state": "S", "command": "sh", "memory": 2048, "cpu_ns": 61 * 10**9}]}))
        assert re.search(rb"0 +7 +1 +S +2.0 KiB +0:01:01 +sh", ok(f.wabe("top", "web")).stdout)
        f.on("GET", "/instances/web/stats", lambda h: h.reply({"cpu_ns": 0, "memory": 1 << 20, "memory_limit": 2 << 20, "pids": 3}))
        assert re.search(rb"web +0.0% +1.0 MiB / 2.0 MiB +50.0%", ok(f.wabe("stats", "--no-stream", "web")).stdout)
        f.on("POST", "/instances/web/commit", lambda h: h.reply({"id": "sha256:1"}))
        eq(ok(f.wabe("commit", "-m", "x", "web", "my/web")).stdout, b"sha256:1\n")
        eq(f.body("POST", "/instances/web/commit"), {"name": "my/web", "comment": "x", "pause": True})
        f.on("GET", "/v1", lambda h: h.reply({"version": "9"})).on("GET", "/v1/info", lambda h: h.reply({"a": {"b": 1}, "c": "d"}))
        eq(ok(f.wabe("info")).stdout, b"a:\n  b: 1\nc: d\n")
        assert b"daemon 9" in ok(f.wabe("version")).stdout
        f.on("GET", "/tasks", lambda h: h.reply({"tasks": [{"id": "5", "kind": "image-pull", "state": "done"}]}))
        assert b"image-pull" in ok(f.wabe("task", "ls")).stdout
        f.on("GET", "/instances/web/export", lambda h: (h.chunks(), h.chunk(b"tar"), h.wfile.write(b"0\r\n\r\n")))
        eq(ok(f.wabe("export", "web")).stdout, b"tar")


@test
def test_events():
    def events(h):
        eq(h.query["follow"], ["true"])
        h.chunks().chunk({"time": "T", "type": "instance", "action": "die", "name": "web", "attributes": {"exit_code": "1"}})
        h.chunk(b'{"time":"U","type":"image",')
        h.chunk(b'"action":"pull","id":"x\\u001b"}')
        h.wfile.write(b"0\r\n\r\n")
    with Fake() as f:
        f.on("GET", "/events", events)
        eq(ok(f.wabe("events")).stdout, b"T instance die web (exit_code=1)\nU image pull x?\n")
        eq(len([json.loads(l) for l in ok(f.wabe("events", "--json")).stdout.splitlines()]), 2)


@test
def test_images():
    image = {"id": "sha256:" + ID, "names": ["docker.io/library/debian:bookworm", "ghcr.io/a/b:1"], "os": "linux",
             "architecture": "amd64", "size": 5 << 20, "created_at": "2026-01-01T00:00:00Z"}
    with Fake() as f:
        f.on("GET", "/images", lambda h: h.reply({"images": [image]}))
        out = ok(f.wabe("image", "ls")).stdout
        assert re.search(rb"debian:bookworm +0123456789ab +oci +linux/amd64 .* 5.0 MiB", out) and b"ghcr.io/a/b:1" in out
        f.on("GET", "/images/debian%3Abookworm", lambda h: h.reply(image))
        eq(json.loads(ok(f.wabe("image", "show", "debian:bookworm")).stdout), image)
        f.on("DELETE", "/images/x", lambda h: h.reply({"untagged": ["x:latest"], "deleted": ["sha256:1"]}))
        eq(ok(f.wabe("image", "rm", "x")).stdout, b"untagged x:latest\ndeleted sha256:1\n")
        f.on("POST", "/images/prune", lambda h: h.reply({"deleted": [], "freed": 1 << 20}))
        eq(ok(f.wabe("image", "prune")).stdout, b"freed 1.0 MiB\n")
        f.on("POST", "/images/x/tag", lambda h: h.reply(image))
        ok(f.wabe("image", "tag", "x", "y"))
        f.on("POST", "/images/bootstrap", lambda h: h.reply({"id": "6"}, 202))
        f.on("GET", "/tasks/6/wait", lambda h: (h.chunks(), h.chunk({"id": "6", "state": "failed", "error": "no suite", "error_kind": "not-found"}),
                                              h.wfile.write(b"0\r\n\r\n")))
        eq(ok(f.wabe("image", "bootstrap", "--include", "vim,curl", "--include", "jq", "debian:none"), 125).stderr, b"wabe: no suite\n")
        eq(f.body("POST", "/images/bootstrap"), {"name": "debian:none", "variant": "minbase", "include": ["vim", "curl", "jq"]})
        f.on("GET", "/images/save", lambda h: (eq(h.query["name"], ["a", "b"]), h.chunks(), h.chunk(b"tar"), h.wfile.write(b"0\r\n\r\n")))
        ok(f.wabe("image", "save", "-o", f.dir + "/out", "a", "b"))
        eq(open(f.dir + "/out").read(), "tar")


@test
def test_uploads():
    got = []
    with Fake() as f:
        f.on("POST", "/images/load", lambda h: (got.append(h.body), h.reply({"images": [{"id": "i", "names": ["n"]}]})))
        data = os.urandom(1 << 20)
        eq(ok(f.wabe("image", "load", input=data)).stdout, b"n\n")
        open(f.dir + "/in", "wb").write(data)
        ok(f.wabe("image", "load", f.dir + "/in"))
        f.on("POST", "/images/import", lambda h: (got.append(h.body), h.reply({"id": "sha256:1"})))
        ok(f.wabe("image", "import", f.dir + "/in", "my/root:1"))
        assert got == [data] * 3
        # an answer before the end of the body is the answer
        def refuse(h):
            h.error(413, "too-large", "too much")
            h.close_connection = True
        f.on("POST", "/images/load", refuse, streamed=True)
        with open("/dev/zero") as zero:
            p = subprocess.run([WABE, "image", "load"], stdin=zero, capture_output=True, env=f.env(), timeout=LIMIT)
        eq((p.returncode, p.stderr), (125, b"wabe: too much\n"))


@test
def test_progress():
    """Appears once a second has passed: tasks go on until it has."""
    stop = threading.Event()

    def wait(h):
        h.chunks()
        n = 0
        while not stop.wait(0.02):
            n += 1
            h.chunk({"id": "5", "state": "running", "message": "fetching\x1b[2J layers", "done": n << 20, "total": 1 << 40})
        h.chunk({"id": "5", "state": "done", "result": "sha256:1"})
        h.wfile.write(b"0\r\n\r\n")
    with Fake() as f:
        f.on("POST", "/images/pull", lambda h: h.reply({"id": "5"}, 202)).on("GET", "/tasks/5/wait", wait)
        p = f.start("image", "pull", "debian", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = p.stderr.readline()
        assert re.fullmatch(rb"fetching\?\[2J layers: \d+ MiB of 1.0 TiB\n", line), line
        stop.set()
        eq(p.communicate(timeout=LIMIT)[0], b"sha256:1\n")
        stop.clear()
        t = Terminal(f, "image", "pull", "debian")
        t.expect(b"[")
        t.expect(b"MiB of 1.0 TiB")
        stop.set()
        eq(t.end(), 0)


@test
def test_interrupt_cancels_task():
    cancelled, waiting = threading.Event(), threading.Event()

    def wait(h):
        h.chunks().chunk({"id": "5", "state": "running"})
        waiting.set()
        cancelled.wait(LIMIT)

    def cancel(h):
        cancelled.set()
        h.reply({"id": "5"})
    with Fake() as f:
        f.on("POST", "/images/pull", lambda h: h.reply({"id": "5"}, 202)).on("GET", "/tasks/5/wait", wait)
        f.on("POST", "/tasks/5/cancel", cancel)
        p = f.start("image", "pull", "debian", stderr=subprocess.PIPE)
        assert waiting.wait(LIMIT)
        p.send_signal(signal.SIGINT)
        assert b"interrupted" in p.communicate(timeout=LIMIT)[1]
        eq(p.returncode, 125)
        assert cancelled.is_set()


def tar_of(entries):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(data)
            t.addfile(info, io.BytesIO(data or b""))
    return b.getvalue()


@test
def test_cp_out():
    def serve(data):
        return lambda h: (h.chunks("application/x-tar"), h.chunk(data), h.wfile.write(b"0\r\n\r\n"))
    with Fake() as f:
        f.on("GET", "/instances/web/archive", serve(tar_of([("hosts", b"h")])))
        d = f.dir + "/d"
        os.mkdir(d)
        ok(f.wabe("cp", "web:/etc/hosts", d))
        eq(open(d + "/hosts").read(), "h")
        ok(f.wabe("cp", "web:etc/hosts", d + "/new"))
        eq(open(d + "/new").read(), "h")
        ok(f.wabe("cp", "web:/etc/hosts", d + "/new"))
        eq(sorted(os.listdir(d)), ["hosts", "new"])
        assert b"not a directory" in ok(f.wabe("cp", "web:/etc/hosts", d + "/none/"), 125).stderr
        assert ok(f.wabe("cp", "web:/etc/hosts", "-")).stdout == tar_of([("hosts", b"h")])
        f.on("GET", "/instances/web/archive", serve(tar_of([("src", None), ("src/a", b"1"), ("src/b", b"2")])))
        ok(f.wabe("cp", "web:/src", d + "/copy"))
        ok(f.wabe("cp", "web:/src/.", d + "/content"))
        eq((sorted(os.listdir(d + "/copy")), sorted(os.listdir(d + "/content"))), (["a", "b"], ["a", "b"]))
        f.on("GET", "/instances/web/archive", serve(tar_of([("../out", b"x")])))
        ok(f.wabe("cp", "web:/x", d + "/bad"), 125)
        assert not os.path.exists(f.dir + "/out") and not os.path.exists(d + "/bad")
        f.on("GET", "/instances/web/archive", lambda h: h.error(404, "not-found", "no such file"))
        eq(ok(f.wabe("cp", "web:/x", d + "/y"), 125).stderr.splitlines()[-1], b"wabe: no such file")
        assert b"one of the two" in ok(f.wabe("cp", "a", "b"), 125).stderr


@test
def test_cp_in():
    got = []

    def put(h):
        with tarfile.open(fileobj=io.BytesIO(h.body)) as t:
            got.append((h.query["path"], sorted(m.name for m in t)))
        h.reply()

    def stat(h):
        path = h.query["path"][0]
        mode = {"/srv": 0o40755, "/srv/file": 0o100644}.get(path)
        if path == "/paused":
            h.send_response(409)
            h.send_header("Wabe-Error", json.dumps({"error": {"kind": "conflict", "message": "it is paused"}}))
            h.send_header("Content-Length", "0")
            return h.end_headers()
        if not mode:
            return h.reply(status=404)
        h.send_response(200)
        h.send_header("Wabe-File", json.dumps({"name": "x", "size": 1, "mode": mode}))
        h.send_header("Content-Length", "0")
        h.end_headers()
    with Fake() as f:
        f.on("PUT", "/instances/web/archive", put).on("HEAD", "/instances/web/archive", stat)
        os.mkdir(f.dir + "/s.c")
        open(f.dir + "/s.c/a", "w").write("1")
        ok(f.wabe("cp", f.dir + "/s.c", "web:/srv"))
        ok(f.wabe("cp", f.dir + "/s.c", "web:/srv/new"))
        ok(f.wabe("cp", f.dir + "/s.c/.", "web:/srv"))
        ok(f.wabe("cp", f.dir + "/s.c/a", "web:/srv/file"))
        ok(f.wabe("cp", "-", "web:/srv", input=tar_of([("z", b"")])))
        assert b"it is paused" in ok(f.wabe("cp", f.dir + "/s.c", "web:/paused"), 125).stderr
        eq(got, [(["/srv"], ["s.c", "s.c/a"]), (["/srv"], ["new", "new/a"]), (["/srv"], [".", "./a"]), (["/srv"], ["file"]),
                 (["/srv"], ["z"])])
        assert b"cannot read" in ok(f.wabe("cp", f.dir + "/none", "web:/srv"), 125).stderr


@test
def test_errors():
    with Fake() as f:
        f.on("POST", "/instances", lambda h: h.error(400, "invalid", "must be\x1b less", "limits.memory"))
        eq(ok(f.wabe("create", "debian"), 125).stderr, b"wabe: limits.memory: must be? less\n")
        f.on("GET", "/instances/web", lambda h: h.reply({"what": 1}, 500))
        eq(ok(f.wabe("show", "web"), 125).stderr, b"wabe: the daemon answered with status 500\n")
        for args, text in ((["nope"], b"no command nope"), (["image", "nope"], b"no command image nope"), (["run"], b"usage: wabe run"),
                           (["ls", "x"], b"too many"), (["run", "--nope", "x"], b"no option --nope"), (["run", "-Z", "x"], b"no option -Z"),
                           (["run", "--name"], b"--name needs a value"), (["run", "-m", "5x", "y"], b"-m: \"5x\" is not a size"),
                           (["run", "--name", "a/b", "y"], b"--name: \"a/b\" is not a name"), (["--nope"], b"no option --nope"),
                           (["create", "--cpus", "1", "--cpu-quota", "5000", "x"], b"limits.cpus: excludes"),
                           (["create", "BAD/Name:::"], b"")):
            assert text in ok(f.wabe(*args), 125).stderr, args
    p = subprocess.run([WABE, "--run", "/nonexistent", "ls"], capture_output=True)
    eq(p.returncode, 125)
    assert b'is "wabe daemon" running?' in p.stderr


@test
def test_answers_that_make_no_sense():
    """A listener that says something else than HTTP, or breaks off at any place."""
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n"
    answers = [whole[:n] for n in range(0, len(whole), 7)] + [
        b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", b"x" * 200000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[[[", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]
    d = tempfile.mkdtemp(prefix="wabe-cli-")
    s = socket.socket(socket.AF_UNIX)
    s.bind(d + "/wabe.sock")
    s.listen()
    try:
        for a in answers:
            p = subprocess.Popen([WABE, "info"], env={"WABE_RUN": d, **SANITIZER}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            c, _ = s.accept()
            with contextlib.suppress(OSError):
                c.recv(65536)
                c.sendall(a)
                c.shutdown(socket.SHUT_WR)
            err = p.communicate(timeout=LIMIT)[1]
            c.close()
            assert p.returncode == 125 and err.startswith(b"wabe: "), (a[:60], p.returncode, err)
    finally:
        s.close()
        shutil.rmtree(d)


@test
def test_shutdown():
    def last_answer(h):
        f.server.shutdown()  # nobody else is served
        stopped.set()
        h.reply({})

    stopped = threading.Event()
    with Fake() as f:
        f.on("POST", "/v1/shutdown", lambda h: h.reply({"error": {"kind": "conflict", "message": "one is under way"}}, 409))
        assert b"under way" in ok(f.wabe("shutdown"), 125).stderr
        f.on("POST", "/v1/shutdown", last_answer)
        p = f.start("shutdown", "-t", "3s")
        assert stopped.wait(LIMIT)
        waiting, _ = f.server.socket.accept()  # it waits for the end of who listens
        eq(p.poll(), None)
        eq(f.body("POST", "/v1/shutdown"), {"timeout": "3s"})
        f.server.socket.close()
        waiting.close()
        eq(p.wait(LIMIT), 0)


@test
def test_help():
    with Fake() as f:
        out = ok(f.wabe("--help")).stdout.decode()
        commands = re.findall(r"^  (\w+(?: \w+)?)  ", out, re.M)
        assert len(commands) > 40, commands
        for c in commands:
            text = ok(f.wabe(*c.split(), "--help")).stdout.decode()
            assert f"usage: wabe {c}" in text and "\nExamples\n" in text, c
        assert b"image pull" in ok(f.wabe("image")).stdout
        eq(f.seen(), [])


@test
def test_completion():
    image = {"id": "i", "names": ["docker.io/library/debian:bookworm"]}
    with Fake() as f:
        f.on("GET", "/instances", lambda h: h.reply({"instances": [INSTANCE]}))
        f.on("GET", "/images", lambda h: h.reply({"images": [image]}))

        def words(*line):
            return ok(f.wabe("completion", "words", str(len(line) - 1), *line)).stdout.decode().split()
        assert {"run", "image", "ls"} <= set(words("wabe", ""))
        eq(words("wabe", "unp"), ["unpause"])
        eq(words("wabe", "image", "pu"), ["pull", "push"])
        eq(words("wabe", "stop", "w"), ["web"])
        eq(words("wabe", "--run", f.dir, "stop", "w"), ["web"])
        eq(words("wabe", "run", "deb"), ["debian:bookworm"])
        eq(words("wabe", "run", "--memory-"), ["--memory-swap", "--memory-reservation", "--memory-max"])
        eq(words("wabe", "run", "--name", "we"), [])
        assert "--json" in words("wabe", "ls", "--")
        script = 'source <("$1" completion bash); COMP_WORDS=("$1" stop w); COMP_CWORD=2; _wabe; echo "${COMPREPLY[@]}"'
        p = subprocess.run(["bash", "-c", script, "bash", WABE], capture_output=True, env=f.env(), timeout=LIMIT)
        eq(p.stdout, b"web\n")


run()
