"""Builds by the docker client of Debian (20.10, which has BuildKit's client in it) on a private daemon."""
import os
import shutil
import subprocess
import tempfile

from tap import need
from wabe import wait_until


def client():
    """A docker client that speaks BuildKit's protocol by itself, without buildx."""
    for path in [shutil.which("docker"), "/usr/bin/docker"]:
        if path and os.path.exists(path):
            version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            if version.startswith("Docker version 20.10"):
                return path
    return None


class SshAgent:
    """One with a key of its own. what: its public half."""

    def __init__(self, directory, name):
        need("ssh-agent", shutil.which("ssh-agent") and shutil.which("ssh-keygen"))
        self.path, key = f"{directory}/{name}.sock", f"{directory}/{name}-key"
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", self.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(self.path), 30, "the agent's socket")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"key of {name}", "-f", key], check=True)
        subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": self.path}, check=True, capture_output=True)
        with open(key + ".pub") as f:
            self.what = f.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Builder:
    def __init__(self, daemon, docker):
        self.daemon, self.docker = daemon, docker

    def context(self, dockerfile, files=None):
        """A directory with files by name; None is a directory, ("link", x) a link."""
        top = tempfile.mkdtemp(prefix="context-", dir=self.daemon.dir)
        for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
            path = os.path.join(top, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if content is None:
                os.makedirs(path)
            elif isinstance(content, tuple):
                os.symlink(content[1], path)
            elif content is not ...:
                with open(path, "wb") as f:
                    f.write(content if isinstance(content, bytes) else content.encode())
        return top

    def line(self, *args):
        need("docker 20.10", client())
        return [client(), "build", "--progress", "plain", *map(str, args)]

    def environment(self):
        return {**self.docker.env, "DOCKER_BUILDKIT": "1"}

    def build(self, dockerfile, files=None, *args, check=True, name="t", input=None, where=None, env=None):
        """What the client shows (it is on standard error)."""
        r = subprocess.run(self.line("-t", name, *args, where or self.context(dockerfile, files)),
                           env={**self.environment(), **(env or {})}, capture_output=True, input=input, timeout=120,
                           **({} if input is not None else {"stdin": subprocess.DEVNULL}))
        out = (r.stderr + r.stdout).decode(errors="replace")
        assert not check or r.returncode == 0, f"status {r.returncode}\n{out}"
        assert check or r.returncode != 0, f"it built:\n{out}"
        return out

    def inside(self, *command, name="t"):
        return self.daemon.cli("run", "--rm", "--network", "none", name, *command).stdout

    def leftovers(self):
        return [i["spec"]["name"] for i in self.daemon.api("GET", "/v1/projects/default/instances?all=1")[1]["instances"]]
