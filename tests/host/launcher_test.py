#!/usr/bin/env python3
"""Drives the real wabe-machine as the first process of a name space, with programs of our own in place of QEMU and its companions;
prints TAP. WABE_MACHINE is the program."""
import os, shutil, signal, subprocess, sys, tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, run, test

MACHINE = os.path.abspath(os.environ.get("WABE_MACHINE", "build-asan/wabe-machine"))
LIMIT = 60
PYTHON = sys.executable
TALK = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'ping'); s.shutdown(1); print(s.recv(99).decode(), flush=True)"
SERVE = "import socket,sys; c=socket.socket(fileno=3).accept()[0]; print('noise', flush=True); c.sendall(b'got '+c.recv(99)); c.close(); sys.exit(%d)"
CAPS = "import re,sys; print(re.search('CapEff:\\t(.*)', open('/proc/self/status').read())[1], file=open(sys.argv[1], 'w'))"


class World:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="wabe-test-machine-")

    def socket(self, name):
        return os.path.join(self.dir, name)

    def start(self, *args, **more):
        # --kill-child: nothing stays if we end
        return subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", MACHINE, *args], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **more)

    def run(self, *args, **more):
        p = self.start(*args, **more)
        out, err = p.communicate(timeout=LIMIT)
        return p.returncode, out, err


def clear(world):
    for name in os.listdir(world.dir):
        os.unlink(os.path.join(world.dir, name))


@test
def status(world):
    """its status is QEMU's"""
    equal(world.run("--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7"), (7, "out\n", "err\n"))
    equal(world.run("--", "/bin/sh", "-c", "kill -9 $$"), (137, "", ""))


@test
def activation(world):
    """a companion finds its socket as descriptor 3, and QEMU need not wait for it"""
    s = world.socket("s")
    equal(world.run("+", s, PYTHON, "-c", "import time; time.sleep(0.2); " + SERVE % 0, "--", PYTHON, "-c", TALK, s), (0, "got ping\n", ""))


@test
def several(world):
    """several companions, each with arguments of its own"""
    a, b = world.socket("a"), world.socket("b")
    answer = world.run("+", a, PYTHON, "-c", SERVE % 0, "--more", "++", b, PYTHON, "-c", SERVE % 0, "--", "/bin/sh", "-c",
                       f"{PYTHON} -c \"$1\" {b}; {PYTHON} -c \"$1\" {a}; exit 3", "x", TALK)
    equal(answer[:2], (3, "got ping\ngot ping\n"))
    equal(sorted(answer[2].split()), ["noise", "noise"], "what they said, since it ended badly")


@test
def powers(world):
    """no capability for QEMU, and for a companion only after ++"""
    for mark in ("--", "+", "++"):
        s, out = world.socket("s"), world.socket("out")
        asks = [PYTHON, "-c", CAPS, out]
        waits = ["/bin/sh", "-c", f"while ! [ -s {out} ]; do sleep 0.05; done"]
        r = world.run("--", *asks) if mark == "--" else world.run(mark, s, *asks, "--", *waits)
        equal(r[0], 0, r[2])
        equal(open(out).read().strip() == "0" * 16, mark != "++", mark)
        clear(world)


@test
def descriptors(world):
    """further descriptors are QEMU's alone"""
    s, fd = world.socket("s"), os.open(os.path.join(world.dir, "file"), os.O_RDWR | os.O_CREAT)
    show = "import os; n = sorted(int(x) for x in os.listdir('/proc/self/fd')); print(n[:-1] if len(n) > 1 else n, flush=True)"
    os.set_inheritable(fd, True)
    p = subprocess.Popen([PYTHON, "-c", "import os,sys; os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])", str(fd),
                          "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", MACHINE, "+", s, PYTHON, "-c",
                          show + f"; {SERVE % 1}", "--", "/bin/sh", "-c", f"{PYTHON} -c \"$1\"; {PYTHON} -c \"$2\" {s}; exit 1", "x", show, TALK],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[fd])
    out, err = p.communicate(timeout=LIMIT)
    os.close(fd)
    contains(out, "[0, 1, 2, 3")
    contains(err, "[0, 1, 2, 3]")


@test
def signals(world):
    """what ends a process is passed on to QEMU"""
    p = world.start("--", "/bin/sh", "-c", "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    equal(p.stdout.readline(), "ready\n")
    first = open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()[0]
    os.kill(int(first), signal.SIGTERM)
    out, err = p.communicate(timeout=LIMIT)
    equal((p.returncode, out, err), (5, "told\n", ""))


@test
def killed(world):
    """a companion that is killed takes all with it, and what it said is told"""
    code, out, err = world.run("+", world.socket("s"), "/bin/sh", "-c", "echo woe; kill -9 $$", "--", "/bin/sleep", "1000")
    equal((code, out), (125, ""))
    equal(err, "woe\nwabe-machine: what QEMU needs was killed: so is the machine\n")


@test
def deserted(world):
    """a companion that ends while QEMU goes on ends the machine after a while"""
    code, _, err = world.run("+", world.socket("s"), "/bin/sh", "-c", "exit 1", "--", "/bin/sleep", "1000")
    equal((code, err), (125, "wabe-machine: what QEMU needs has ended, but QEMU has not\n"))


@test
def refused(world):
    """what cannot be begun is said, and nothing is left"""
    s = world.socket("s")
    for args, words in ((["--", "/no/such"], "cannot execute: /no/such"), ([], "usage"), (["+", s], "usage"), (["+", s, "/bin/true"], "usage"),
                        (["+", "x" * 200, "/bin/true", "--", "/bin/true"], "too long"),
                        (["+", "/no/such", "/bin/true", "--", "/bin/true"], "cannot make the socket: /no/such")):
        code, out, err = world.run(*args)
        equal((code, out), (125, ""))
        contains(err, words)
        clear(world)


run(World, lambda w: shutil.rmtree(w.dir), clear)
