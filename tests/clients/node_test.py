#!/usr/bin/env python3
"""Two libraries for Node.js, fetched from npm, against a private daemon: dockerode, and testcontainers, with which other projects run
their tests."""
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../lib")
from docker import Docker, load_busybox  # noqa: E402
from tap import need, run, test  # noqa: E402
from wabe import Daemon  # noqa: E402


class Node:
    def __init__(self):
        self.daemon = None

    def begin(self):
        need("node and npm", shutil.which("node") and shutil.which("npm"))
        if self.daemon:
            return
        self.daemon = Daemon("node", network=None)
        self.daemon.start()
        load_busybox(self.daemon)
        shutil.copytree(HERE + "/node", self.daemon.dir + "/node")
        self.env = dict(Docker.of(self.daemon).env, HOME=self.daemon.dir, TESTCONTAINERS_RYUK_DISABLED="true", TESTCONTAINERS_HOST_OVERRIDE="127.0.0.1")
        r = subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=self.daemon.dir + "/node",
                           env=self.env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        need("the npm registry", r.returncode == 0)

    def script(self, name):
        self.begin()
        r = subprocess.run(self.daemon.space.command("node", name), cwd=self.daemon.dir + "/node", env=self.env, capture_output=True, text=True,
                           timeout=300, stdin=subprocess.DEVNULL)
        assert r.returncode == 0, f"{name}: status {r.returncode}\n{r.stderr}\n{r.stdout}"

    def close(self):
        if self.daemon:
            self.daemon.close()


@test
def dockerode(n):
    """builds, classic and with BuildKit, attach, exec, logs, events, statistics"""
    n.script("dockerode.js")


@test
def testcontainers(n):
    """a network with aliases, every way to wait, files copied in, an image built"""
    n.script("testcontainers.js")


if __name__ == "__main__":
    run(Node, Node.close)
