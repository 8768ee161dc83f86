#!/usr/bin/env python3
"""Drives the real wabe-shim with pipes, terminals and sockets; prints TAP. WABE_SHIM is the program."""
import fcntl, glob, os, pty, re, select, shutil, signal, socket, struct, subprocess, sys, tempfile, termios, time, traceback

SHIM = os.path.abspath(os.environ.get("WABE_SHIM", "build-asan/wabe-shim"))
STDIN, RESIZE, ATTACH, STATUS, ROTATE = 0, 16, 17, 18, 19
STDOUT, STDERR, EXIT, READY, STATE = 1, 2, 3, 4, 18
WANT_IN, WANT_OUT, WANT_ERR = 1, 2, 4
LINE = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)$", re.S)
LIMIT = 60  # for any single wait


class Shim:
    """A process under a shim, as a starting worker of the agent makes it."""

    def __init__(self, argv, *options, log=True, tty=False, stdin=True, folder=None):
        self.dir = tempfile.mkdtemp(prefix="wabe-test-shim-")
        self.log = os.path.join(folder or self.dir, "log") if log else None
        self.socket = os.path.join(self.dir, "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket)
        listener.listen(16)
        ready_read, ready_write = os.pipe()
        fds = {3: listener.fileno(), 7: ready_write}
        if tty:
            master, slave = pty.openpty()
            fds[4] = master
            child = {0: slave, 1: slave, 2: slave}
            options += ("--tty",)
        else:
            pipes = [os.pipe() for _ in range(3)]
            if stdin:
                fds[4] = pipes[0][1]
            fds[5], fds[6] = pipes[1][0], pipes[2][0]
            child = {0: pipes[0][0], 1: pipes[1][1], 2: pipes[2][1]}
        pid_read, pid_write = os.pipe()
        self.worker = os.fork()
        if self.worker == 0:
            try:
                self.become(argv, options, fds, child, pid_write, tty)
            finally:
                os._exit(99)
        os.close(pid_write)
        os.close(ready_write)
        for fd in set(fds.values()) - {3, ready_write, listener.fileno()} | set(child.values()):
            os.close(fd)
        if not tty and not stdin:
            os.close(pipes[0][1])
        listener.close()
        self.pid = int(os.read(pid_read, 20))
        os.close(pid_read)
        self.ready = os.read(ready_read, 1) != b""
        os.close(ready_read)

    def become(self, argv, options, fds, child, pid_write, tty):
        pid = os.fork()
        if pid == 0:
            place(child)
            if tty:
                os.setsid()
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.closerange(3, 256)
            os.execvp(argv[0], argv)
        os.write(pid_write, str(pid).encode())
        place(fds)
        args = [SHIM, "--id", "test", "--pid", str(pid), "--dir", self.dir, "--log", self.log or "none"]
        os.execv(SHIM, args + list(options))

    def attach(self, wants=WANT_IN | WANT_OUT | WANT_ERR):
        client = Client(self.socket)
        client.send(ATTACH, bytes([wants]))
        kind, _ = client.frame()
        assert kind == READY, kind
        return client

    def wait(self):
        """The exit status of the shim."""
        end = time.monotonic() + LIMIT
        pidfd = os.pidfd_open(self.worker)
        readable, _, _ = select.select([pidfd], [], [], LIMIT)
        os.close(pidfd)
        assert readable, "the shim does not end"
        return os.waitstatus_to_exitcode(os.waitpid(self.worker, 0)[1])

    def exit_file(self):
        status, signo, when = open(os.path.join(self.dir, "exit")).read().split()
        assert abs(int(when) / 1e9 - time.time()) < 3600
        return int(status), int(signo)

    def entries(self, path=None):
        found = []
        for line in open(path or self.log, "rb").read().split(b"\n")[:-1]:
            m = LINE.match(line)
            assert m, line[:100]
            found.append((m.group(1).decode(), m.group(2).decode(), m.group(3)))
        return found

    def text(self, stream="stdout"):
        paths = sorted(glob.glob(self.log + ".*"), key=lambda p: -int(p.rsplit(".", 1)[1])) + [self.log]
        return b"".join(t + (b"\n" if tag == "F" else b"") for p in paths for s, tag, t in self.entries(p) if s == stream)

    def close(self):
        for pid in (self.pid, self.worker):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(self.worker, 0)
        except ChildProcessError:
            pass
        shutil.rmtree(self.dir)


def place(fds):
    high = {to: fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for to, fd in fds.items()}
    for fd in range(3, 10):
        if fd not in high:
            try:
                os.close(fd)
            except OSError:
                pass
    for to, fd in high.items():
        os.dup2(fd, to, inheritable=True)
        os.close(fd)


class Client:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.settimeout(LIMIT)
        self.seen = {STDOUT: bytearray(), STDERR: bytearray()}

    def send(self, kind, data=b""):
        self.sock.sendall(struct.pack(">B3xI", kind, len(data)) + data)

    def exactly(self, n):
        data = bytearray()
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError(f"closed after {len(data)} of {n} bytes")
            data += piece
        return data

    def frame(self):
        kind, length = struct.unpack(">B3xI", self.exactly(8))
        data = self.exactly(length)
        if kind in self.seen:
            self.seen[kind] += data
        return kind, data

    def until(self, text, kind=STDOUT):
        while text not in self.seen[kind]:
            self.frame()

    def until_exit(self):
        while True:
            kind, data = self.frame()
            if kind == EXIT:
                assert self.sock.recv(1) == b""
                return struct.unpack(">I", data)[0]

    def is_dropped(self):
        try:
            while self.sock.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()


def sh(script):
    return ["/bin/sh", "-c", script]


def test_log_format(start):
    s = start(sh("echo one; echo two >&2; printf 'no end'"))
    assert s.ready and s.wait() == 0
    assert s.exit_file() == (0, 0)
    assert s.text() == b"one\nno end" and s.text("stderr") == b"two\n"
    assert s.entries()[-1] == ("stdout", "P", b"no end") or ("stdout", "P", b"no end") in s.entries()


def test_partial_lines(start):
    s = start([sys.executable, "-c", "print('x' * 50000); print('end')"])
    assert s.wait() == 0
    assert all(len(t) <= 16384 for _, _, t in s.entries())
    assert s.entries()[0][1] == "P"
    assert s.text() == b"x" * 50000 + b"\nend\n"


def test_every_byte(start):
    s = start([sys.executable, "-c", "import os\nfor i in range(256): os.write(1, bytes([i]) * 3 + b'\\n')"])
    assert s.wait() == 0
    assert s.text() == b"".join(bytes([i]) * 3 + b"\n" for i in range(256))


def test_rotation(start):
    s = start(sh("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done"), "--log-max-size", "5000", "--log-max-files", "3")
    assert s.wait() == 0
    names = sorted(os.path.basename(p) for p in glob.glob(s.log + "*"))
    assert names == ["log", "log.1", "log.2"], names
    assert all(os.path.getsize(p) <= 5000 for p in glob.glob(s.log + "*"))
    text = s.text().splitlines()
    assert text[-1] == b"line 999" and text == [b"line %d" % i for i in range(1000 - len(text), 1000)]


def test_one_file(start):
    s = start(sh("seq 1 1000"), "--log-max-size", "5000", "--log-max-files", "1")
    assert s.wait() == 0
    assert glob.glob(s.log + "*") == [s.log] and os.path.getsize(s.log) <= 5000
    assert s.text().endswith(b"1000\n")


def test_reopen(start):
    s = start(["cat"], "--stdin-once")
    c = s.attach()
    c.send(STDIN, b"before\n")
    c.until(b"before\n")
    os.rename(s.log, s.log + ".moved")
    c.send(ROTATE)
    c.send(STDIN, b"after\n")
    c.send(STDIN)
    assert c.until_exit() == 0
    assert s.entries() == [("stdout", "F", b"after")]


def test_much_output(start):
    """50 MB under log limits, to an attached client as well."""
    s = start(sh("head -c 50000000 /dev/zero | tr '\\0' 'a' | fold -w 99"), "--wait-attach", "--log-max-size", "1000000", "--log-max-files", "3")
    c = s.attach(WANT_OUT)
    total = 0
    while True:
        kind, data = c.frame()
        if kind == EXIT:
            break
        c.seen[STDOUT].clear()
        total += len(data)
    assert total >= 50000000 + 50000000 // 99 - 1, total
    assert s.wait() == 0
    assert sum(os.path.getsize(p) for p in glob.glob(s.log + "*")) <= 3000000


def test_status(start):
    for script, status, signo in (("exit 42", 42, 0), ("kill -9 $$", 137, 9), ("kill -15 $$", 143, 15), ("exit 0", 0, 0)):
        s = start(sh(script))
        assert s.wait() == 0
        assert s.exit_file() == (status, signo)
        s.close()


def test_attach(start):
    s = start(sh("read a; echo got $a; echo err >&2; read b; exit 7"))
    c = s.attach()
    c.send(STDIN, b"hello\n")
    c.until(b"got hello\n")
    c.until(b"err\n", STDERR)
    c.close()  # detach
    d = Client(s.socket)
    d.send(STATUS)
    assert d.frame() == (STATE, b"running %d" % s.pid)
    d.close()
    c = s.attach()
    c.send(STDIN, b"\n")
    assert c.until_exit() == 7
    assert s.wait() == 0


def test_two_clients(start):
    s = start(["cat"], "--stdin-once")
    a, b, quiet = s.attach(), s.attach(WANT_OUT), s.attach(WANT_ERR)
    a.send(STDIN, b"for all\n")
    for c in (a, b):
        c.until(b"for all\n")
    a.send(STDIN)
    assert [c.until_exit() for c in (a, b, quiet)] == [0, 0, 0]
    assert quiet.seen[STDOUT] == b""


def test_wait_attach(start):
    s = start(sh("echo early; echo more"), "--wait-attach")
    while not os.path.exists(os.path.join(s.dir, "exit")):  # it has ended, its output has not been read
        os.sched_yield()
    c = s.attach()
    assert c.until_exit() == 0
    assert c.seen[STDOUT] == b"early\nmore\n" == s.text()


def test_stdin(start):
    data = os.urandom(300000)
    s = start(["cat"], "--stdin-once", "--wait-attach", log=False)
    c = s.attach()
    if os.fork() == 0:
        for i in range(0, len(data), 65536):
            c.send(STDIN, data[i:i + 65536])
        c.send(STDIN)
        os._exit(0)
    assert c.until_exit() == 0
    assert c.seen[STDOUT] == data
    os.wait()


def test_stdin_stays(start):
    """Without --stdin-once the end of a client's input is not the end of the process's."""
    s = start(sh("read a; read b; echo $a $b"))
    c = s.attach()
    c.send(STDIN, b"one\n")
    c.send(STDIN)
    c.close()
    c = s.attach()
    c.send(STDIN, b"two\n")
    assert c.until_exit() == 0
    assert c.seen[STDOUT] == b"one two\n"


def test_stdin_closed(start):
    """Input for a process that has closed its own is dropped, and harms nobody."""
    s = start(sh("exec <&-; echo closed; read x <%s/go; exit 3" % fifo_folder))
    c = s.attach()
    c.until(b"closed\n") if b"closed\n" not in s.text() else None
    for _ in range(5):
        c.send(STDIN, b"x" * 65536)
    c.send(STATUS)
    while c.frame()[0] != STATE:
        pass
    open(fifo_folder + "/go", "w").write("\n")
    assert c.until_exit() == 3


def test_no_stdin(start):
    s = start(sh("cat; echo end"), stdin=False)
    assert s.wait() == 0 and s.text() == b"end\n"


def test_back_pressure(start):
    """A full input queue stops the client, not the shim."""
    s = start(sh("read x <%s/go; wc -c" % fifo_folder), "--stdin-once")
    c = s.attach()
    c.sock.setblocking(False)
    sent = 0
    frame = struct.pack(">B3xI", STDIN, 65536) + b"y" * 65536
    pending = b""
    while True:  # until nothing is taken any more
        pending = pending or frame
        try:
            n = c.sock.send(pending)
        except BlockingIOError:
            if not select.select([], [c.sock], [], 0.3)[1]:
                break
            continue
        sent += n
        pending = pending[n:]
    assert sent < 2 << 20, sent
    other = Client(s.socket)
    other.send(STATUS)
    assert other.frame()[0] == STATE
    open(fifo_folder + "/go", "w").write("\n")
    c.sock.settimeout(LIMIT)
    c.sock.sendall(pending)
    c.send(STDIN)
    assert c.until_exit() == 0
    assert int(c.seen[STDOUT]) == (sent + len(pending)) // 65544 * 65536


def test_terminal(start):
    s = start(sh("stty size; read x; stty size; test -t 0 && test -t 2 && echo tty; exit 5"), "--wait-attach", tty=True)
    c = s.attach()
    c.until(b"0 0\r\n")
    c.send(RESIZE, struct.pack(">HH", 33, 99))
    c.send(STDIN, b"\n")
    assert c.until_exit() == 5
    assert b"33 99\r\n" in c.seen[STDOUT] and b"tty\r\n" in c.seen[STDOUT]
    assert s.wait() == 0
    assert b"33 99\r\n" in s.text()


def test_terminal_reopened(start):
    """The terminal outlives a moment in which nobody has it open."""
    s = start(sh("exec 3<&0; t=$(tty); exec >/dev/null 2>&1 </dev/null 3<&-; read x <%s/go; exec >$t; echo back" % fifo_folder), tty=True)
    c = s.attach()
    open(fifo_folder + "/go", "w").write("\n")
    assert c.until_exit() == 0
    assert b"back\r\n" in c.seen[STDOUT]


def test_left_behind(start):
    """A process that stays and holds the output open does not keep the shim."""
    s = start(sh("sleep 1000 & echo $!; exit 4"))
    assert s.wait() == 0 and s.exit_file() == (4, 0)
    os.kill(int(s.text()), signal.SIGKILL)


def test_slow_client(start):
    """One that reads nothing is sent a bounded amount; the rest waits for it, and it loses nothing."""
    text = b"".join(b"%d\n" % i for i in range(1000000, 2000000))
    s = start(["seq", "1000000", "1999999"])
    slow = s.attach(WANT_OUT)
    before, now = -1, os.path.getsize(s.log)
    while before != now:  # until the log stands still
        time.sleep(0.3)
        before, now = now, os.path.getsize(s.log)
    assert os.path.getsize(s.log) < len(text) * 5, "nothing has been held back"
    assert slow.until_exit() == 0
    got = slow.seen[STDOUT]
    assert len(got) > 1 << 20 and text.endswith(got)
    assert s.wait() == 0
    assert s.text() == text


def test_dead_client(start):
    """One that is killed in the middle of much output."""
    s = start(sh("head -c 20000000 /dev/zero; exit 6"), "--wait-attach", log=False)
    c = s.attach(WANT_OUT)
    c.frame()
    c.close()
    assert s.wait() == 0 and s.exit_file() == (6, 0)


def test_malformed(start):
    s = start(sh("read x; echo $x"))
    good = s.attach()
    for bad in (b"\xff" * 64, struct.pack(">B3xI", 99, 0), struct.pack(">B3xI", STDIN, 70000), b"\0\1\0\0\0\0\0\0",
                struct.pack(">B3xI", RESIZE, 3) + b"abc", struct.pack(">B3xI", ATTACH, 0),
                struct.pack(">B3xI", STDIN, 4) + b"evil",  # not attached for input
                struct.pack(">B3xI", ATTACH, 4294967295)):
        c = Client(s.socket)
        c.sock.sendall(bad)
        assert c.is_dropped(), bad
        c.close()
    half = Client(s.socket)
    half.sock.sendall(b"\0\0\0")
    many = [Client(s.socket) for _ in range(80)]
    for c in many:
        c.close()
    good.send(STDIN, b"fine\n")
    assert good.until_exit() == 0 and good.seen[STDOUT] == b"fine\n"


def test_signals(start):
    s = start(sh("read x; exit 9"))
    for signo in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGQUIT):
        os.kill(s.worker, signo)
    c = s.attach()
    c.send(STDIN, b"\n")
    assert c.until_exit() == 9


def test_full_disk(start):
    """A log that cannot be written loses entries and says so; the process and its clients notice nothing."""
    folder = tempfile.mkdtemp(prefix="wabe-test-shim-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "wabe-test", folder], check=True)
    try:
        filler = os.path.join(folder, "filler")
        with open(filler, "wb") as f:
            try:
                f.write(b"x" * 60000)
            except OSError:
                pass
        s = start(["cat"], "--stdin-once", folder=folder)
        c = s.attach()
        for i in range(2000):
            c.send(STDIN, b"line %04d\n" % i)
        c.until(b"line 1999\n")
        os.unlink(filler)
        c.send(STDIN, b"space again\n")
        c.until(b"space again\n")
        c.send(STDIN)
        assert c.until_exit() == 0 and s.wait() == 0
        assert len(c.seen[STDOUT]) == 2000 * 10 + 12
        entries = s.entries()
        notes = [t for stream, _, t in entries if stream == "stderr"]
        assert notes and all(re.match(rb"wabe: \d+ bytes of output are missing here", t) for t in notes), notes
        lost = sum(int(t.split()[1]) for t in notes)
        assert len(s.text()) + lost == 2000 * 10 + 12
        assert entries[-1] == ("stdout", "F", b"space again")
    finally:
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)


def test_no_child(start):
    s = start(["true"])
    assert s.wait() == 0
    r = subprocess.run([SHIM, "--id", "x", "--pid", "1", "--dir", s.dir], pass_fds=[], capture_output=True, close_fds=True)
    assert r.returncode == 1 and b"wabe-shim: " in r.stderr
    for args in (["--what"], ["--pid", "x"], ["--dir"], []):
        assert subprocess.run([SHIM, *args], capture_output=True).returncode == 1


def test_memory(start):
    s = start(["cat"], "--stdin-once")
    c = s.attach()
    c.send(STDIN, b"some output\n" * 100)
    while len(c.seen[STDOUT]) < 1200:
        c.frame()
    rollup = open(f"/proc/{s.worker}/smaps_rollup").read()
    print("# PSS of %s: %s kB, name %s" % (SHIM, re.search(r"Pss: +(\d+)", rollup).group(1), open(f"/proc/{s.worker}/comm").read().strip()))
    c.send(STDIN)
    assert c.until_exit() == 0


def main():
    global fifo_folder
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    wanted = sys.argv[1:]
    tests = [(n, f) for n, f in tests if not wanted or n in wanted]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        shims = []

        def start(*args, **kw):
            shims.append(Shim(*args, **kw))
            return shims[-1]

        fifo_folder = tempfile.mkdtemp(prefix="wabe-test-shim-")
        os.mkfifo(fifo_folder + "/go")
        begin = time.monotonic()
        try:
            test(start)
            result = "ok"
        except Exception:
            failed += 1
            result = "not ok"
            for line in traceback.format_exc().splitlines():
                print("# " + line)
        finally:
            for s in shims:
                if os.path.isdir(s.dir):
                    s.close()
            shutil.rmtree(fifo_folder)
        print(f"{result} {number} - {name} # {time.monotonic() - begin:.2f} s", flush=True)
    sys.exit(1 if failed else 0)


main()
