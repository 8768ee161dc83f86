"""A private wabe daemon for tests: own state and run directories, removed with all that it started."""
import glob
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WABE_BUILD", os.path.join(TOP, "build-asan"))
WABE = os.path.join(BUILD, "wabe")


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except FileNotFoundError:
        return []


def status_field(pid, name):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()
    return None


def has_ended(pid):
    """It is gone, or waits to be waited for."""
    try:
        return status_field(pid, "State").startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def kernel_since(*version):
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= version


def wait_until(condition, seconds=30, what="the condition"):
    """For states that nothing announces; polls, and fails loudly."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("wabe")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class NetworkSpace:
    """A network name space that lasts until closed, or until this process ends."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; read end"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.path = f"/proc/{self.holder.pid}/ns/net"

    def command(self, *words):
        return ["nsenter", f"--net={self.path}", *map(str, words)]

    def run(self, *words, check=True, **kw):
        r = subprocess.run(self.command(*words), capture_output=True, text=True, **{"timeout": 60, **kw})
        if check and r.returncode:
            raise AssertionError(f"{words}: status {r.returncode}\n{r.stderr}{r.stdout}")
        return r

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait(20)


class Daemon:
    """netspace: "private" (nothing of the host's network is touched), "host" (for who needs a server of the test's, or
    the world), or a NetworkSpace. network: what instances get that are not given another; None: wabe's own default.
    run: where RUN is made, the directory of all else where it is None."""

    def __init__(self, name="test", env=None, args=(), netspace="private", network="none", run=None):
        self.args = list(args)  # of `wabe daemon`
        self.network = network
        self.own_space = netspace == "private"
        self.space = NetworkSpace() if self.own_space else None if netspace == "host" else netspace
        # short: a unix socket's path holds 107 bytes
        self.dir = tempfile.mkdtemp(prefix=f"wabe-{name}-", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.state, self.run_dir = self.dir + "/state", self.dir + "/run"
        if run:
            self.run_dir = tempfile.mkdtemp(prefix=f"wabe-{name}-", dir=run)
            os.chmod(self.run_dir, 0o755)
        self.log_path = self.dir + "/daemon.log"
        self.env = dict(os.environ, WABE_STATE=self.state, WABE_RUN=self.run_dir, **(env or {}))
        self.process = None

    def start(self, seconds=60, **env):
        log = open(self.log_path, "ab")
        words = [WABE, "daemon", "--state", self.state, "--run", self.run_dir, *self.args]
        self.process = subprocess.Popen(self.space.command(*words) if self.space else words,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                        env=dict(self.env, **env), start_new_session=True)
        log.close()
        end, seen = time.monotonic() + seconds, b""
        while b"ready" not in seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"the daemon was not ready within {seconds} s:\n{self.log()}")
            got = os.read(self.process.stdout.fileno(), 4096)
            if not got:
                raise AssertionError(f"the daemon ended with {self.process.wait()}:\n{self.log()}")
            seen += got
        return self

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()[-8000:]

    def stop(self):
        """SIGTERM: the daemon ends, instances stay."""
        self.process.terminate()
        status = self.process.wait(60)
        self.process.stdout.close()
        self.process = None
        return status

    def kill(self):
        """SIGKILL to all of the daemon at once: instances stay."""
        pids = [self.process.pid, *self.pids().values()]
        for pid in set(pids):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.process = None
        for pid in pids:
            wait_until(lambda: has_ended(pid), 20, f"the end of {pid}")

    def pids(self):
        """{"agent": pid, "control": pid} of the running daemon, by uid; without what is just being started again."""
        found = {}
        for pid in children(self.process.pid):
            try:
                uid = status_field(pid, "Uid").split()[0]
            except (OSError, AttributeError):
                continue
            found["agent" if uid == "0" else "control"] = pid
        return found

    def close(self):
        """Ends the daemon and every instance, and removes the directories."""
        try:
            if self.process is None and os.path.exists(self.state):
                self.start()
            if self.process:
                subprocess.run([WABE, "shutdown"], env=self.env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=120)
                try:
                    self.process.wait(30)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                self.process.stdout.close()
        finally:
            for pid in self.shims():
                os.kill(pid, signal.SIGKILL)
            if self.own_space:
                self.space.close()
            shutil.rmtree(self.dir, ignore_errors=True)
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def shims(self):
        """Pids of shims that work for this daemon."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as f:
                    line = f.read()
            except OSError:
                continue
            if b"wabe-shim" in line and self.dir.encode() in line:
                found.append(int(path.split("/")[2]))
        return found

    # ---- clients ----
    def line(self, *args):
        """A command line of the CLI."""
        words = [WABE, *map(str, args)]
        if self.network and words[1] in ("run", "create"):
            words[2:2] = ["--network", self.network]
        return words

    def cli(self, *args, check=True, input=None, timeout=120, text=True, **kw):
        """Runs the CLI; gives the finished process. check: a status other than 0 is an error."""
        r = subprocess.run(self.line(*args), env=self.env, input=input, capture_output=True, text=text,
                           timeout=timeout, **({"stdin": subprocess.DEVNULL} if input is None else {}), **kw)
        if check and r.returncode:
            raise AssertionError(f"wabe {' '.join(map(str, args))}: status {r.returncode}\n{r.stderr}\n{r.stdout}")
        return r

    def out(self, *args, **kw):
        return self.cli(*args, **kw).stdout.strip()

    def json(self, command, *args):
        """What a listing command prints for programs."""
        return json.loads(self.out(command, "--json", *args))

    def show(self, name):
        return self.json("show", name)

    def connection(self):
        return UnixConnection(self.run_dir + "/wabe.sock")

    def api(self, method, path, body=None):
        """(status, JSON or text) of one request to the native API."""
        if self.network and method == "POST" and path.endswith("/instances") and isinstance(body, dict):
            body = {"network": self.network, **body}
        c = self.connection()
        try:
            c.request(method, path, None if body is None else json.dumps(body),
                      {"Content-Type": "application/json"} if body is not None else {})
            r = c.getresponse()
            data = r.read()
            try:
                return r.status, json.loads(data) if data else None
            except ValueError:
                return r.status, data.decode(errors="replace")
        finally:
            c.close()

    # ---- what must not leak ----
    def leftovers(self):
        """Mounts, control groups, instance directories and shims that belong to this daemon."""
        with open("/proc/self/mountinfo") as f:
            mounts = [line.split()[4] for line in f if self.dir in line]
        groups = [g for g in glob.glob("/sys/fs/cgroup/*/wabe/*/*") + glob.glob("/sys/fs/cgroup/wabe/*/*")
                  if os.path.basename(os.path.dirname(g)) == self.group() and os.path.isdir(g)]
        return {
            "mounts": mounts,
            "groups": groups,
            "instances": sorted(os.listdir(self.state + "/agent/instances"))
            if os.path.isdir(self.state + "/agent/instances") else [],
            "run": sorted(os.listdir(self.run_dir + "/shim")) if os.path.isdir(self.run_dir + "/shim") else [],
            "shims": self.shims(),
        }

    def group(self):
        """The daemon's own part of the control groups' path."""
        import hashlib
        return hashlib.sha256(self.state.encode()).hexdigest()[:12]


def busybox_rootfs(path):
    """A small root file system from Debian's busybox-static, as a tar."""
    with tempfile.TemporaryDirectory() as d:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "var"):
            os.mkdir(f"{d}/{name}")
        os.chmod(d + "/tmp", 0o1777)
        os.chmod(d, 0o755)
        shutil.copy("/bin/busybox", d + "/bin/busybox")
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                os.symlink("busybox", f"{d}/bin/{applet}")
        with open(d + "/etc/passwd", "w") as f:
            f.write("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n")
        with open(d + "/etc/group", "w") as f:
            f.write("root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n")
        subprocess.run(["tar", "-C", d, "--numeric-owner", "--owner=0", "--group=0", "-cf", path, "."], check=True)
    return path
