"""Machines for tests: a disk with a guest of one sector, and a console to talk to it."""
import json
import os
import pty
import select
import socket
import subprocess
import termios
import time

from wabe import Daemon

LIB = os.path.dirname(os.path.abspath(__file__))


def tiny_disk(path, size=16 << 20):
    """A raw disk that starts tiny-guest.s; its path."""
    subprocess.run(["as", "--32", "-o", path + ".o", os.path.join(LIB, "tiny-guest.s")], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", path, path + ".o"], check=True)
    os.unlink(path + ".o")
    os.truncate(path, size)
    os.chmod(path, 0o644)
    return path


def qemu_of(d, id):
    """The pid of a machine's QEMU: its first process, or a child of that."""
    first = d.json("show", id)["status"]["pid"]
    pids = [first]
    for pid in pids:
        with open(f"/proc/{pid}/comm") as f:
            if f.read().startswith("qemu"):
                return pid
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            pids += [int(p) for p in f.read().split()]
    raise AssertionError(f"machine {id} has no QEMU")


def tiny_daemon(name, image, check=lambda d: None):
    """A daemon with an image of tiny_disk; check(d) may skip before it is made."""
    d = Daemon(name)
    try:
        d.start()
        check(d)
        d.cli("image", "import", "--kind", "disk", "--format", "raw", tiny_disk(d.dir + "/tiny.raw"), image)
    except BaseException:
        d.close()
        raise
    return d


class Monitor:
    """QEMU's own, which nobody else has meanwhile."""

    def __init__(self, d, id):
        at = os.open(f"{d.run_dir}/shim/{id}", os.O_PATH)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        try:
            self.sock.connect(f"/proc/self/fd/{at}/qmp")  # its own path may be too long
        finally:
            os.close(at)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self.call("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def call(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        answer = json.loads(self.file.readline())
        while "event" in answer:
            answer = json.loads(self.file.readline())
        assert "return" in answer, answer
        return answer["return"]


class Console:
    """`wabe console` on a terminal."""

    def __init__(self, d, id):
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(d.line("console", id), env=d.env, stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True)
        end = time.monotonic() + 30  # what is typed before that is thrown away with the change
        while self.process.poll() is None and termios.tcgetattr(slave)[3] & termios.ECHO and time.monotonic() < end:
            time.sleep(0.01)
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def send(self, text):
        os.write(self.master, text.encode())

    def read(self, seconds):
        if not select.select([self.master], [], [], max(seconds, 0))[0]:
            return False
        try:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            return False
        return True

    def expect(self, text, seconds=30):
        """Waits for it; what came up to it is taken."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            if not self.read(end - time.monotonic()):
                raise AssertionError(f"{text!r} did not come; seen: {self.seen!r}")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def silent(self, text, seconds):
        """It does not come for so long."""
        end = time.monotonic() + seconds
        while self.read(end - time.monotonic()):
            pass
        assert text not in self.seen, self.seen
