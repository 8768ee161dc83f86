"""The real docker client, and plain requests, against a Daemon's Docker socket (or any other engine's); and Debian's dockerd,
for what is compared with it."""
import glob
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile

from tap import need
from wabe import Daemon, NetworkSpace, UnixConnection, busybox_rootfs, wait_until


class Docker:
    """socket: the engine's. directory: for the client's own configuration, which must not be the user's."""

    def __init__(self, socket, directory):
        self.socket = socket
        self.config = directory + "/docker-config"
        os.makedirs(self.config, exist_ok=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        self.env.update(DOCKER_HOST="unix://" + socket, DOCKER_CONFIG=self.config, DOCKER_BUILDKIT="0")

    @classmethod
    def of(cls, daemon):
        return cls(daemon.run_dir + "/docker.sock", daemon.dir)

    def line(self, *args):
        need("docker", shutil.which("docker"))
        return ["docker", *map(str, args)]

    def run(self, *args, check=True, input=None, timeout=120, text=True, **kw):
        """Runs the docker client; gives the finished process. check: a status other than 0 is an error."""
        r = subprocess.run(self.line(*args), env=self.env, input=input, capture_output=True, text=text, timeout=timeout,
                           **({"stdin": subprocess.DEVNULL} if input is None else {}), **kw)
        if check and r.returncode:
            raise AssertionError(f"docker {' '.join(map(str, args))}: status {r.returncode}\n{r.stderr}\n{r.stdout}")
        return r

    def out(self, *args, **kw):
        return self.run(*args, **kw).stdout.strip()

    def version(self):
        """The major version of the client."""
        return int(self.out("version", "--format", "{{.Client.Version}}").split(".")[0])

    def inspect(self, name):
        return json.loads(self.out("inspect", name))[0]

    def start(self, *args, **kw):
        """The client in the background: a Popen."""
        return subprocess.Popen(self.line(*args), env=self.env, start_new_session=True, **kw)

    def connection(self):
        return UnixConnection(self.socket)

    def api(self, method, path, body=None, headers=None):
        """(status, JSON or text) of one request; body: JSON, or bytes as they are."""
        c = self.connection()
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        try:
            c.request(method, path, body, headers)
            r = c.getresponse()
            data = r.read()
            try:
                return r.status, json.loads(data) if data else None
            except ValueError:
                return r.status, data.decode(errors="replace")
        finally:
            c.close()


def load_busybox(daemon, *names):
    """Makes a busybox image under the given names (default busybox:latest)."""
    tar = daemon.dir + "/busybox.tar"
    if not os.path.exists(tar):
        busybox_rootfs(tar)
    for name in names or ("busybox:latest",):
        daemon.cli("image", "import", tar, name)


def docker_daemon(name, *images, **options):
    """A Daemon that runs, with busybox under these names, and its docker client as .docker."""
    daemon = Daemon(name, **options)
    try:
        daemon.start()
        daemon.docker = Docker.of(daemon)
        load_busybox(daemon, *images)
    except BaseException:
        daemon.close()
        raise
    return daemon


def image_archive(path, rootfs, images):
    """An archive for `docker load`: images, a {name: configuration} ("Cmd", "Env" …), all of the one layer rootfs (a tar)."""
    with open(rootfs, "rb") as f:
        layer = f.read()
    files, manifest = {"layer.tar": layer}, []
    for number, (name, config) in enumerate(images.items()):
        data = json.dumps({
            "architecture": "amd64", "os": "linux", "created": f"2024-01-02T03:04:{number:02}Z", "config": config,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "a root file system"}]}).encode()
        config_name = hashlib.sha256(data).hexdigest() + ".json"
        files[config_name] = data
        manifest.append({"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]})
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as t:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            t.addfile(entry, io.BytesIO(data))
    return path


class Dockerd:
    """Debian's dockerd with directories, containerd, network name space, bridge and packet rules of its own."""

    def __init__(self, *args):
        need("dockerd", shutil.which("dockerd"))
        self.dir = tempfile.mkdtemp(prefix="wabe-dockerd-", dir="/var/tmp")
        self.space = NetworkSpace()
        self.socket = self.dir + "/docker.sock"
        with open(self.dir + "/daemon.json", "w") as f:
            f.write("{}")
        self.log = open(self.dir + "/log", "wb")
        self.process = subprocess.Popen(
            self.space.command("dockerd", "--config-file", self.dir + "/daemon.json", "--data-root", self.dir + "/data",
                               "--exec-root", self.dir + "/exec", "--pidfile", self.dir + "/pid", "-H", "unix://" + self.socket, *args),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            wait_until(self.answers, 90, "dockerd")
        except BaseException:
            self.close()
            raise

    def answers(self):
        if self.process.poll() is not None:
            with open(self.dir + "/log", errors="replace") as f:
                raise AssertionError("dockerd ended: " + f.read()[-2000:])
        try:
            return Docker(self.socket, self.dir).api("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def pids(self):
        """Of dockerd, its containerd, the shims and proxies, without what runs in containers."""
        found = [self.process.pid]
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            pid = int(path.split("/")[2])
            try:
                with open(path, "rb") as f:
                    line = f.read()
                ours = self.dir.encode() in line or os.path.samefile(f"/proc/{pid}/ns/net", self.space.path)
            except OSError:
                continue
            if ours and os.path.basename(line.split(b"\0")[0]) in (b"containerd", b"containerd-shim-runc-v2", b"docker-proxy"):
                found.append(pid)
        return found

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pid in self.pids()[1:]:
            os.kill(pid, signal.SIGKILL)
        self.space.close()
        self.log.close()
        with open("/proc/self/mountinfo") as f:
            for mount in sorted((line.split()[4] for line in f if self.dir in line), reverse=True):
                subprocess.run(["umount", "-l", mount], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)
