#!/usr/bin/env python3
"""BuildKit's protocol: the docker client of Debian (20.10, which has BuildKit's client in it) builds on a private daemon."""
import base64
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import Docker, load_busybox
from tap import contains, equal, need, run, test
from wabe import Daemon, wait_until

daemon = docker = None


def client():
    """A docker client that speaks BuildKit's protocol by itself, without buildx."""
    for path in [shutil.which("docker"), "/usr/bin/docker"]:
        if path and os.path.exists(path):
            version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            if version.startswith("Docker version 20.10"):
                return path
    return None


def context(dockerfile, files=None):
    """A directory with files by name; None is a directory, ("link", x) a link."""
    top = tempfile.mkdtemp(prefix="context-", dir=daemon.dir)
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


def line(*args):
    need("docker 20.10", client())
    return [client(), "build", "--progress", "plain", *map(str, args)]


def environment():
    return {**docker.env, "DOCKER_BUILDKIT": "1"}


def build(dockerfile, files=None, *args, check=True, name="t", input=None, where=None):
    """What the client shows (it is on standard error)."""
    r = subprocess.run(line("-t", name, *args, where or context(dockerfile, files)), env=environment(), capture_output=True,
                       input=input, timeout=120, **({} if input is not None else {"stdin": subprocess.DEVNULL}))
    out = (r.stderr + r.stdout).decode(errors="replace")
    assert not check or r.returncode == 0, f"status {r.returncode}\n{out}"
    assert check or r.returncode != 0, f"it built:\n{out}"
    return out


def inside(*command, name="t"):
    return daemon.cli("run", "--rm", "--network", "none", name, *command).stdout


def leftovers():
    return [i["spec"]["name"] for i in daemon.api("GET", "/v1/projects/default/instances?all=1")[1]["instances"]]


@test
def a_build_through_a_session(_):
    shown = build("FROM busybox\nWORKDIR /w\nCOPY a.txt dir ./\nRUN cat a.txt b && echo to stderr >&2\nCMD [\"cat\", \"/w/b\"]\n",
                  {"a.txt": "from a\n", "dir/b": "from b\n", "dir/c/d": "deep\n"})
    for part in ["[internal] load build definition from Dockerfile", "[internal] load build context", "transferring context:",
                 "[1/4] FROM docker.io/library/busybox:latest", "[2/4] WORKDIR /w", "[3/4] COPY a.txt dir ./", "[4/4] RUN cat a.txt b",
                 "from a\n", "to stderr", "exporting to image", "writing image sha256:", "naming to docker.io/library/t"]:
        contains(shown, part, "the output")
    equal(inside(), "from b\n")
    equal(inside("cat", "c/d"), "deep\n")


def setup():
    global daemon, docker
    daemon = Daemon("buildkit")
    try:
        daemon.start()
        docker = Docker.of(daemon)
        load_busybox(daemon)
    except BaseException:
        daemon.close()
        raise
    return daemon


def clean(d):
    """What a test that failed has left does not make the next one fail."""
    for i in leftovers():
        d.cli("rm", "--force", i, check=False)


if __name__ == "__main__":
    run(setup, lambda d: d.close(), clean)
