#!/usr/bin/env python3
"""Ansible's modules of community.docker against a private daemon: each task does what it says, says so, and the second time
has nothing to do."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import Docker, load_busybox
from tap import equal, need, run, test
from wabe import Daemon


class Ansible:
    def __init__(self, daemon):
        self.daemon, self.docker = daemon, Docker.of(daemon)
        self.dir = daemon.dir + "/ansible"
        os.mkdir(self.dir)

    def play(self, *tasks):
        """What each task gave: [{"changed":…}]; a failure is an error."""
        need("ansible", shutil.which("ansible-playbook"))
        host = "unix://" + self.docker.socket
        tasks = [{module: {**args, "docker_host": host}} for module, args in tasks]
        path = self.dir + "/play.yml"
        with open(path, "w") as f:
            json.dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks,
                        "vars": {"ansible_python_interpreter": "/usr/bin/python3"}}], f)
        env = dict(os.environ, ANSIBLE_STDOUT_CALLBACK="json", ANSIBLE_LOCALHOST_WARNING="False", HOME=self.dir,
                   ANSIBLE_LOCAL_TEMP=self.dir + "/tmp", ANSIBLE_DEPRECATION_WARNINGS="False")
        r = subprocess.run(["ansible-playbook", "-i", "localhost,", path], env=env, capture_output=True, text=True, timeout=300,
                           stdin=subprocess.DEVNULL)
        assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
        answer = json.loads(r.stdout[r.stdout.index("{"):])
        return [t["hosts"]["localhost"] for t in answer["plays"][0]["tasks"]]

    def twice(self, module, **args):
        """Changed the first time and not the second; gives the first answer."""
        first, second = self.play((module, args), (module, args))
        equal((first["changed"], second["changed"]), (True, False), module)
        return first


@test
def a_container(a):
    spec = {"name": "web", "image": "busybox", "command": ["sleep", "1000"], "env": {"A": "b"}, "labels": {"l": "v"}, "memory": "64M",
            "published_ports": ["127.0.0.1:8080:80"], "volumes": ["data:/data"], "restart_policy": "on-failure", "restart_retries": 2,
            "stop_signal": "SIGKILL"}
    made = a.twice("community.docker.docker_container", **spec)
    equal(made["container"]["State"]["Status"], "running")
    equal(a.docker.out("exec", "web", "sh", "-c", "echo $A"), "b")
    changed = a.play(("community.docker.docker_container", {**spec, "env": {"A": "c"}}))[0]
    equal((changed["changed"], a.docker.out("exec", "web", "sh", "-c", "echo $A")), (True, "c"))
    result = a.play(("community.docker.docker_container_exec", {"container": "web", "argv": ["sh", "-c", "echo out; echo err >&2"]}),
                    ("community.docker.docker_container_info", {"name": "web"}))
    equal((result[0]["stdout"], result[0]["stderr"], result[0]["rc"]), ("out", "err", 0))
    equal(result[1]["container"]["Config"]["Labels"]["l"], "v")
    a.twice("community.docker.docker_container", name="web", state="stopped", comparisons={"*": "ignore"}, image="busybox")
    a.twice("community.docker.docker_container", name="web", state="absent", keep_volumes=False)


@test
def networks_and_volumes(a):
    a.twice("community.docker.docker_network", name="net", ipam_config=[{"subnet": "10.139.0.0/24"}], labels={"l": "v"})
    a.twice("community.docker.docker_volume", volume_name="vol", labels={"l": "v"})
    a.play(("community.docker.docker_container", {"name": "member", "image": "busybox", "command": "sleep 1000", "stop_signal": "SIGKILL",
                                                  "networks": [{"name": "net", "aliases": ["nick"], "ipv4_address": "10.139.0.9"}], "networks_cli_compatible": True}))
    info = a.play(("community.docker.docker_network_info", {"name": "net"}), ("community.docker.docker_volume_info", {"name": "vol"}))
    equal([c["Name"] for c in info[0]["network"]["Containers"].values()], ["member"])
    equal(info[1]["volume"]["Labels"], {"l": "v"})
    a.twice("community.docker.docker_container", name="member", state="absent")
    a.twice("community.docker.docker_network", name="net", state="absent")
    a.twice("community.docker.docker_volume", volume_name="vol", state="absent")


@test
def images(a):
    context = a.dir + "/context"
    os.mkdir(context)
    with open(context + "/Dockerfile", "w") as f:
        f.write("FROM busybox\nRUN echo built >/built\n")
    a.twice("community.docker.docker_image", name="made:1", source="build", build={"path": context})
    equal(a.docker.out("run", "--rm", "made:1", "cat", "/built"), "built")
    info = a.play(("community.docker.docker_image_info", {"name": "made:1"}))[0]
    equal(info["images"][0]["RepoTags"], ["made:1"])
    a.twice("community.docker.docker_image", name="made:1", state="absent")


@test
def the_host(a):
    info = a.play(("community.docker.docker_host_info", {"containers": True, "disk_usage": True}))[0]
    equal(info["host_info"]["OSType"], "linux")
    a.play(("community.docker.docker_prune", {"containers": True, "images": True, "networks": True, "volumes": True}))


def start():
    daemon = Daemon("ansible", network=None)
    try:
        daemon.start()
        load_busybox(daemon)
        return Ansible(daemon)
    except BaseException:
        daemon.close()
        raise


if __name__ == "__main__":
    run(start, lambda a: a.daemon.close())
