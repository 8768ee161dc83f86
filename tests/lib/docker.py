"""The real docker client, and plain requests, against a Daemon's Docker socket (or any other engine's)."""
import json
import os
import shutil
import subprocess

from tap import need
from wabe import UnixConnection, busybox_rootfs


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
