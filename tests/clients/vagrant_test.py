#!/usr/bin/env python3
"""Vagrant with its docker provider against a private daemon: a machine that is a container, from an image and from a Dockerfile, through
all of its life. No box is fetched."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import Docker, load_busybox  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

LOOP = 'trap "exit 0" TERM; echo up; while :; do sleep 1; done'


class Vagrant:
    def __init__(self):
        self.daemon = None

    def begin(self):
        need("vagrant", shutil.which("vagrant"))
        if self.daemon:
            return
        self.daemon = Daemon("vagrant").start()
        load_busybox(self.daemon)
        self.docker = Docker.of(self.daemon)
        self.env = dict(self.docker.env, VAGRANT_HOME=self.daemon.dir + "/vagrant", HOME=self.daemon.dir, VAGRANT_CHECKPOINT_DISABLE="1",
                        VAGRANT_DEFAULT_PROVIDER="docker")

    def project(self, name, text):
        self.dir = f"{self.daemon.dir}/{name}"
        os.mkdir(self.dir)
        with open(self.dir + "/Vagrantfile", "w") as f:
            f.write(text)

    def call(self, *args, check=True):
        r = subprocess.run(["vagrant", *args], env=self.env, cwd=self.dir, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        assert not check or r.returncode == 0, f"vagrant {' '.join(args)}: status {r.returncode}\n{r.stderr}\n{r.stdout}"
        return r.stdout

    def state(self):
        return re.search(r",default,state,(\S+)", self.call("status", "--machine-readable"))[1]

    def close(self):
        if self.daemon:
            self.daemon.close()


@test
def from_an_image(v):
    """up, status, commands inside, logs, halt, up again, reload, destroy"""
    v.begin()
    v.project("image", f"""
Vagrant.configure("2") do |config|
  config.vm.network "private_network", type: "static", ip: "172.29.77.5", netmask: 24
  config.vm.provider "docker" do |d|
    d.image = "busybox"
    d.name = "vagrant-one"
    d.cmd = ["sh", "-c", '{LOOP}']
    d.env = {{"A" => "b"}}
    d.ports = ["127.0.0.1:18080:80"]
    d.stop_timeout = 5
    d.create_args = ["--memory", "64m"]
  end
end
""")
    equal(v.state(), "not_created")
    v.call("up")
    equal(v.state(), "running")
    c = v.docker.inspect("vagrant-one")
    equal((c["State"]["Running"], c["HostConfig"]["Memory"], "A=b" in c["Config"]["Env"]), (True, 64 << 20, True))
    equal(c["HostConfig"]["PortBindings"], {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]})
    contains([n["IPAddress"] for n in c["NetworkSettings"]["Networks"].values()], "172.29.77.5")
    contains([m["Source"] for m in c["Mounts"]], v.dir)
    # Debian's own docker-exec, docker-run and docker-logs end in an error of Ruby before they ask anybody
    contains(v.docker.out("exec", "vagrant-one", "ls", "/vagrant"), "Vagrantfile")
    wait_until(lambda: "up" in v.docker.out("logs", "vagrant-one"), what="the first line of the log")
    v.call("halt")
    equal(v.state(), "stopped")
    v.call("up")
    equal((v.state(), v.docker.inspect("vagrant-one")["Id"] == c["Id"]), ("running", True))
    v.call("reload")
    equal(v.state(), "running")
    v.call("destroy", "-f")
    equal(v.state(), "not_created")
    equal(v.docker.out("ps", "-aq"), "")


@test
def from_a_dockerfile(v):
    """an image is built of a directory"""
    v.begin()
    v.project("build", """
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider "docker" do |d|
    d.build_dir = "."
    d.build_args = ["--build-arg", "WORD=built"]
    d.has_ssh = false
  end
end
""")
    with open(v.dir + "/Dockerfile", "w") as f:
        f.write(f"FROM busybox\nARG WORD\nRUN echo $WORD >/word\nCMD [\"sh\", \"-c\", {LOOP!r}]\n".replace("'", '"').replace('"exit 0"', "'exit 0'"))
    v.call("up")
    equal(v.state(), "running")
    equal(v.docker.out("exec", v.docker.out("ps", "-q"), "cat", "/word"), "built")
    v.call("destroy", "-f")
    equal(v.docker.out("ps", "-aq"), "")


if __name__ == "__main__":
    run(Vagrant, Vagrant.close)
