#!/usr/bin/env python3
"""Swarm mode on one node, with the real docker client: swarm, node, service, secret, config, stack."""
import base64
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from tap import contains, equal, run, test
from wabe import wait_until

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 1; done")
NO_MANAGER = "This node is not a swarm manager."


class World:
    def __init__(self):
        self.d = docker_daemon("swarm", "busybox:latest", "busybox:two")
        self.docker = self.d.docker

    def close(self):
        self.d.close()

    def init(self):
        if self.docker.out("info", "-f", "{{.Swarm.LocalNodeState}}", check=False) != "active":
            self.docker.run("swarm", "init", "--advertise-addr", "127.0.0.1")

    def service(self, name, *args, image="busybox:latest", command=SLEEP, **kw):
        return self.docker.out("service", "create", "-q", "--no-resolve-image", "--stop-grace-period", "1s", "--name", name,
                               *args, image, *command, **kw)

    def tasks(self, service, **filters):
        query = json.dumps({"service": [service], **{k.replace("_", "-"): [v] for k, v in filters.items()}})
        status, tasks = self.docker.api("GET", "/v1.44/tasks?filters=" + query.replace(" ", "").replace('"', "%22"))
        equal(status, 200, tasks)
        return tasks

    def running(self, service):
        return [t for t in self.tasks(service) if t["Status"]["State"] == "running"]

    def await_running(self, service, n):
        wait_until(lambda: len(self.running(service)) == n, 60, f"{n} running tasks of {service}")

    def inspect(self, kind, name):
        return json.loads(self.docker.out(kind, "inspect", name))[0]

    def refused(self, *args, text, **kw):
        r = self.docker.run(*args, check=False, **kw)
        assert r.returncode, f"{args} was not refused:\n{r.stdout}"
        contains(r.stderr, text)


def clean(w):
    if w.d.process is None:
        w.d.start()
    w.docker.run("swarm", "leave", "--force", check=False)
    wait_until(lambda: not w.d.out("ls", "-a", "-q"), 60, "the end of all instances")
    for name in w.docker.out("network", "ls", "-q", "-f", "type=custom", check=False).split():
        w.docker.run("network", "rm", name, check=False)


@test
def before_init(w):
    """before init everything says that this node is no manager"""
    for method, path in (("GET", "/swarm"), ("GET", "/services"), ("GET", "/services/x"), ("GET", "/tasks"), ("GET", "/nodes"),
                         ("GET", "/secrets"), ("GET", "/configs"), ("POST", "/services/create"), ("POST", "/secrets/create"),
                         ("DELETE", "/configs/x"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/update?version=1")):
        status, e = w.docker.api(method, "/v1.44" + path, {} if method == "POST" else None)
        equal(status, 503, (path, e))
        contains(e["message"], NO_MANAGER)
    equal(w.docker.api("POST", "/v1.44/swarm/leave")[0], 503)
    equal(w.docker.api("POST", "/v1.44/swarm/unlock", {})[0], 503)


@test
def swarm(w):
    """init, tokens that rotate, update, leave; joining says what it is waiting for"""
    contains(w.docker.out("swarm", "init", "--advertise-addr", "127.0.0.1"), "Swarm initialized: current node")
    worker, manager = (w.docker.out("swarm", "join-token", "-q", role) for role in ("worker", "manager"))
    for token in (worker, manager):
        parts = token.split("-")
        equal((parts[0], parts[1], len(parts[2]), len(parts[3])), ("SWMTKN", "1", 50, 25))
    equal(worker.split("-")[2], manager.split("-")[2])
    rotated = w.docker.out("swarm", "join-token", "-q", "--rotate", "worker")
    assert rotated != worker
    equal(w.docker.out("swarm", "join-token", "-q", "manager"), manager)
    w.docker.run("swarm", "update", "--task-history-limit", "2")
    status, s = w.docker.api("GET", "/v1.44/swarm")
    equal((status, s["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"]), (200, 2))
    w.refused("swarm", "init", text="already part of a swarm")
    w.refused("swarm", "join", "--token", worker, "127.0.0.1:2377", text="already part of a swarm")
    w.refused("swarm", "leave", text="--force")
    w.refused("swarm", "update", "--autolock", text="AutoLockManagers")
    equal(w.docker.api("POST", "/v1.44/swarm/update?version=1", s["Spec"])[0], 500)
    w.docker.run("swarm", "leave", "--force")
    w.refused("swarm", "join", "--token", worker, "127.0.0.1:2377", text="comes with wabe's cluster")
    w.refused("service", "ls", text=NO_MANAGER)


@test
def node(w):
    """one node, with labels and availability, which constraints look at"""
    w.init()
    n = w.inspect("node", "self")
    equal((n["Spec"]["Role"], n["Status"]["State"], n["ManagerStatus"]["Leader"]), ("manager", "ready", True))
    contains(w.docker.out("node", "ls"), n["Description"]["Hostname"])
    w.docker.run("node", "update", "--label-add", "disk=ssd", "self")
    w.service("a", "--constraint", "node.labels.disk==ssd")
    w.await_running("a", 1)
    w.service("b", "-d", "--constraint", "node.labels.disk!=ssd")
    wait_until(lambda: [t for t in w.tasks("b") if t["Status"]["State"] == "pending"], what="a waiting task")
    contains(w.tasks("b")[0]["Status"]["Err"], "no suitable node")
    w.docker.run("node", "update", "--label-rm", "disk", "self")
    w.await_running("b", 1)
    w.await_running("a", 0)
    w.docker.run("node", "update", "--availability", "drain", "self")
    w.await_running("b", 0)
    w.docker.run("node", "update", "--availability", "active", "self")
    w.await_running("b", 1)
    w.refused("node", "demote", "self", text="last manager")
    w.refused("node", "rm", "-f", "self", text="cluster manager")
    contains(w.docker.out("node", "ps", "self"), "b.1")


@test
def services(w):
    """create, ls, ps, inspect, scale, logs and rm"""
    w.init()
    id_ = w.service("web", "--replicas", "2", "-l", "tier=front", "--container-label", "c=1", "-e", "WHO={{.Service.Name}}-{{.Task.Slot}}",
                    "--hostname", "{{.Node.Hostname}}-{{.Task.Slot}}", "--limit-memory", "64m", "--restart-delay", "100ms")
    equal(len(id_), 25)
    w.await_running("web", 2)
    contains(w.docker.out("service", "ls"), "2/2")
    contains(w.docker.out("service", "ls", "-f", "label=tier=front", "-q"), id_[:12])
    equal(w.docker.out("service", "ls", "-f", "name=nothing", "-q"), "")
    contains(w.docker.out("service", "ps", "web"), "web.1")
    s = w.inspect("service", "web")
    equal((s["ID"], s["Spec"]["Mode"], s["Spec"]["Labels"]), (id_, {"Replicated": {"Replicas": 2}}, {"tier": "front"}))
    contains(w.docker.out("service", "inspect", "--pretty", "web"), "busybox:latest")
    task = w.running("web")[0]
    container = w.docker.inspect(task["Status"]["ContainerStatus"]["ContainerID"])
    labels = container["Config"]["Labels"]
    equal((labels["com.docker.swarm.service.id"], labels["com.docker.swarm.task.id"], labels["c"]), (s["ID"], task["ID"], "1"))
    equal(container["Name"], f"/web.{task['Slot']}.{task['ID']}")
    contains(" ".join(container["Config"]["Env"]), f"WHO=web-{task['Slot']}")
    equal(container["HostConfig"]["Memory"], 64 << 20)
    equal(json.loads(w.docker.out("inspect", "--type", "task", task["ID"]))[0]["ID"], task["ID"])
    wait_until(lambda: w.docker.out("service", "logs", "web").count("up") == 2, what="two lines")
    contains(w.docker.out("service", "logs", "web"), "web.1.")
    equal(w.docker.out("service", "logs", "--raw", task["ID"]), "up")
    w.docker.run("service", "scale", "web=3")
    w.await_running("web", 3)
    w.docker.run("service", "scale", "-d", "web=1")
    wait_until(lambda: len(w.tasks("web")) == 1, what="one task")
    w.docker.run("rm", "-f", w.running("web")[0]["Status"]["ContainerStatus"]["ContainerID"])
    w.await_running("web", 1)
    w.refused("service", "create", "--name", "web", "busybox:latest", text="name conflicts with an existing object")
    w.refused("service", "inspect", "nothing", text="nothing")
    equal(w.docker.out("service", "rm", "web"), "web")
    equal(w.docker.out("service", "ls", "-q"), "")
    w.service("web")
    w.await_running("web", 1)


@test
def specs_are_completed(w):
    """networks are kept by their ids, ports with what they are by default; a limit may be less than a container's least"""
    w.init()
    network = w.docker.out("network", "create", "-d", "overlay", "over")
    container = {"Image": "busybox:latest", "Command": ["true"], "Privileges": {"SELinuxContext": {"Disable": True}}}
    for member in ("Networks", "TaskTemplate.Networks"):
        task = {"ContainerSpec": container, "Resources": {"Limits": {"NanoCPUs": 4000000}}}
        spec = {"Name": "whole", "TaskTemplate": task, "Mode": {"Replicated": {"Replicas": 0}}, "EndpointSpec": {"Ports": [{"TargetPort": 80}]}}
        (task if "." in member else spec)["Networks"] = [{"Target": "over"}, {"Target": network}][:1]
        status, made = w.docker.api("POST", "/v1.44/services/create", spec)
        equal(status, 201, made)
        seen = w.docker.api("GET", "/v1.44/services/whole")[1]
        equal((seen["Spec"]["TaskTemplate"] if "." in member else seen["Spec"])["Networks"], [{"Target": network}])
        equal(seen["Spec"]["EndpointSpec"]["Ports"], [{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"}])
        equal(seen["Spec"]["TaskTemplate"]["Resources"], {"Limits": {"NanoCPUs": 4000000}})
        equal(seen["Spec"]["TaskTemplate"]["ContainerSpec"]["Privileges"], {"SELinuxContext": {"Disable": True}})
        equal(w.docker.api("POST", f"/v1.44/services/whole/update?version={seen['Version']['Index']}", seen["Spec"])[0], 200)
        w.docker.run("service", "rm", "whole")
    w.docker.run("network", "rm", "over")


@test
def updates(w):
    """update, rollback by hand and by itself, versions, force"""
    w.init()
    w.service("web", "--replicas", "2", "--update-monitor", "100ms", "--rollback-monitor", "100ms")
    w.await_running("web", 2)
    version = w.inspect("service", "web")["Version"]["Index"]
    w.docker.run("service", "update", "-q", "--no-resolve-image", "--image", "busybox:two", "web")
    s = w.inspect("service", "web")
    equal(s["UpdateStatus"]["State"], "completed")
    equal(s["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "busybox:latest")
    equal({t["Spec"]["ContainerSpec"]["Image"] for t in w.running("web")}, {"busybox:two"})
    contains(w.docker.out("service", "ps", "web"), "Shutdown")
    status, e = w.docker.api("POST", f"/v1.44/services/web/update?version={version}", s["Spec"])
    equal((status, e["message"]), (500, "rpc error: code = Unknown desc = update out of sequence"))
    equal(w.docker.api("POST", "/v1.44/services/web/update?version=x", s["Spec"])[0], 400)
    w.docker.run("service", "rollback", "-q", "web")
    equal(w.inspect("service", "web")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"], "busybox:latest")
    equal(w.inspect("service", "web")["UpdateStatus"]["State"], "rollback_completed")
    before = {t["ID"] for t in w.running("web")}
    w.docker.run("service", "update", "-q", "--force", "web")
    assert not before & {t["ID"] for t in w.running("web")}
    r = w.docker.run("service", "update", "-q", "--update-failure-action", "rollback", "--update-monitor", "20s", "--args", "false", "web", check=False)
    wait_until(lambda: w.inspect("service", "web").get("UpdateStatus", {}).get("State") == "rollback_completed", 60, "the way back")
    w.await_running("web", 2)
    r = w.docker.api("POST", f"/v1.44/services/web/update?version={w.inspect('service', 'web')['Version']['Index']}",
                     {**w.inspect("service", "web")["Spec"], "Name": "other"})
    equal(r[0], 501)


@test
def modes(w):
    """global services and jobs"""
    w.init()
    w.service("everywhere", "--mode", "global")
    w.await_running("everywhere", 1)
    assert "Slot" not in w.running("everywhere")[0]
    contains(w.docker.out("service", "ls"), "global")
    w.service("job", "-d", "--mode", "replicated-job", "--replicas", "3", "--max-concurrent", "2", "--restart-condition", "none", command=("true",))
    wait_until(lambda: len([t for t in w.tasks("job") if t["Status"]["State"] == "complete"]) == 3, what="three ends")
    contains(w.docker.out("service", "ls"), "3/3 completed")
    s = w.inspect("service", "job")
    equal(s["JobStatus"]["JobIteration"].get("Index", 0), 0)
    w.docker.run("service", "update", "-d", "-q", "--force", "job")
    wait_until(lambda: len([t for t in w.tasks("job") if t["JobIteration"]["Index"] == 1 and t["Status"]["State"] == "complete"]) == 3,
               what="three more")
    w.service("failing", "-d", "--restart-max-attempts", "1", "--restart-delay", "1ms", command=("sh", "-c", "exit 3"))
    wait_until(lambda: len([t for t in w.tasks("failing") if t["Status"]["State"] == "failed"]) == 2, what="two failures")
    contains(w.tasks("failing")[0]["Status"]["Err"], "non-zero exit (3)")
    w.service("nowhere", "-d", "--restart-max-attempts", "1", "--restart-delay", "1ms", image="localhost:1/no/such:image")
    wait_until(lambda: [t for t in w.tasks("nowhere") if t["Status"]["State"] == "rejected"], what="a rejected task")


@test
def secrets_and_configs(w):
    """secrets and configs: made, listed, shown, relabelled, in use, inside"""
    w.init()
    docker = w.docker
    id_ = docker.out("secret", "create", "-l", "a=b", "pass", "-", input="hunter2")
    equal(len(id_), 25)
    s = w.inspect("secret", "pass")
    equal((s["ID"], s["Spec"]), (id_, {"Name": "pass", "Labels": {"a": "b"}}))
    contains(docker.out("secret", "ls"), "pass")
    equal(docker.out("secret", "ls", "-q", "-f", "label=a=c"), "")
    docker.run("config", "create", "conf", "-", input="x = 1\n")
    equal(base64.b64decode(w.inspect("config", "conf")["Spec"]["Data"]), b"x = 1\n")
    w.refused("secret", "create", "pass", "-", input="z", text="already exists")
    status, e = docker.api("POST", "/v1.44/secrets/create", {"Name": "empty", "Data": ""})
    equal(status, 400)
    contains(e["message"], "must be larger than 0")
    w.refused("secret", "inspect", "nothing", text="nothing")
    status, _ = docker.api("POST", f"/v1.44/secrets/pass/update?version={s['Version']['Index']}", {"Name": "pass", "Labels": {"c": "d"}})
    equal(status, 200)
    equal(w.inspect("secret", "pass")["Spec"]["Labels"], {"c": "d"})
    status, e = docker.api("POST", f"/v1.44/secrets/pass/update?version={s['Version']['Index']}", {"Name": "pass", "Labels": {}})
    equal(status, 500)
    w.service("web", "--secret", "source=pass,target=key,uid=5,mode=0400", "--config", "source=conf,target=/etc/app.conf")
    w.await_running("web", 1)
    container = w.running("web")[0]["Status"]["ContainerStatus"]["ContainerID"]
    equal(docker.out("exec", container, "cat", "/run/secrets/key", "/etc/app.conf"), "hunter2x = 1")
    equal(docker.out("exec", container, "stat", "-c", "%u %a", "/run/secrets/key"), "5 400")
    w.refused("secret", "rm", "pass", text="is in use by the following service: web")
    docker.run("service", "update", "-q", "--secret-rm", "pass", "--config-rm", "conf", "web")
    docker.run("secret", "rm", "pass")
    docker.run("config", "rm", "conf")
    w.refused("service", "create", "--name", "x", "--secret", "pass", "busybox", text="secret not found")


@test
def published(w):
    """names of services lead to their tasks, published ports to those that are well"""
    w.init()
    docker = w.docker
    docker.run("network", "create", "-d", "overlay", "--attachable", "back")
    w.service("web", "--network", "name=back,alias=www", "--replicas", "2", "-p", "18080:80",
              command=("sh", "-c", "hostname > /tmp/index.html; httpd -f -h /tmp & trap 'exit 0' TERM; wait"))
    w.await_running("web", 2)
    s = w.inspect("service", "web")
    equal(s["Endpoint"]["Ports"], [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 18080, "PublishMode": "ingress"}])
    w.service("probe", "--network", "back")
    w.await_running("probe", 1)
    probe = w.running("probe")[0]["Status"]["ContainerStatus"]["ContainerID"]
    names = {docker.inspect(t["Status"]["ContainerStatus"]["ContainerID"])["Config"]["Hostname"] for t in w.running("web")}
    wait_until(lambda: docker.out("exec", probe, "nslookup", "tasks.web", check=False).count("\nAddress") >= 3,
               what="the server's and two addresses of tasks.web")
    seen = set()
    get = ("python3", "-c", "import urllib.request as u; print(u.urlopen('http://127.0.0.1:18080/', timeout=5).read().decode())")

    def ask():
        seen.add(w.d.space.run(*get, check=False).stdout.strip())
        return names <= seen
    wait_until(ask, what="an answer of each task")
    w.refused("service", "create", "-d", "--name", "other", "-p", "18080:80", "busybox", text="18080")
    docker.run("service", "update", "-q", "--publish-rm", "80", "web")
    wait_until(lambda: w.d.space.run(*get, check=False).returncode, what="the end of the port")
    docker.run("service", "rm", "web", "probe")
    docker.run("network", "rm", "back")


@test
def virtual(w):
    """a service's name is one address, which leads to its tasks; who talks to one of them goes on when another changes"""
    w.init()
    docker = w.docker
    docker.run("network", "create", "-d", "overlay", "--attachable", "back")
    w.service("echo", "--network", "name=back,alias=ec", "--replicas", "2",
              command=("sh", "-c", "nc -ll -p 7 -e sh -c 'hostname; exec cat' & trap 'exit 0' TERM; wait"))
    w.service("probe", "--network", "back")
    w.service("plain", "--network", "back", "--endpoint-mode", "dnsrr")
    for name, n in (("echo", 2), ("probe", 1), ("plain", 1)):
        w.await_running(name, n)

    def container(name, k=0):
        return w.running(name)[k]["Status"]["ContainerStatus"]["ContainerID"]

    def found(name):
        text = docker.out("exec", probe, "nslookup", name, check=False).partition("Name:")[2]
        return {line.split()[-1] for line in text.splitlines() if line.startswith("Address")}
    probe = container("probe")
    wait_until(lambda: w.inspect("service", "echo")["Endpoint"].get("VirtualIPs"), what="a virtual IP")
    vip = w.inspect("service", "echo")["Endpoint"]["VirtualIPs"]
    equal([v["NetworkID"] for v in vip], [w.inspect("network", "back")["Id"]])
    address = vip[0]["Addr"].split("/")[0]
    for name in ("echo", "ec"):
        wait_until(lambda: found(name) == {address}, what=f"the one address of {name}")
    equal("VirtualIPs" in w.inspect("service", "plain")["Endpoint"], False)
    wait_until(lambda: len(found("plain") & found("tasks.plain")) == 1, what="the task's address of plain")

    def ask():
        return docker.out("exec", probe, "sh", "-c", "nc -w 5 echo 7 </dev/null", check=False)
    tasks = {docker.inspect(container("echo", k))["Config"]["Hostname"]: container("echo", k) for k in (0, 1)}
    seen = set()
    wait_until(lambda: seen.add(ask()) or set(tasks) <= seen, what="an answer of each task")
    client = docker.start("exec", "-i", probe, "nc", "echo", "7", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    mine = client.stdout.readline().decode().strip()
    docker.run("rm", "-f", next(c for name, c in tasks.items() if name != mine))
    w.await_running("echo", 2)
    docker.run("service", "scale", "-d", "echo=3")
    w.await_running("echo", 3)
    client.stdin.write(b"still there\n")
    client.stdin.flush()
    equal(client.stdout.readline(), b"still there\n")
    client.stdin.close()
    client.wait(60)
    client.stdout.close()
    docker.run("service", "scale", "-d", "echo=0")
    wait_until(lambda: not w.running("echo") and not ask(), what="nobody to answer")
    equal(found("echo"), {address})
    docker.run("service", "scale", "-d", "echo=1")
    w.await_running("echo", 1)
    wait_until(ask, what="an answer of the new task")
    line = next(line for line in w.d.space.run("ip", "-o", "addr").stdout.splitlines() if address + "/32" in line)
    w.d.kill()
    w.d.space.run("ip", "link", "del", line.split()[1])
    w.d.space.run("nft", "flush", "ruleset")
    w.d.start()
    wait_until(ask, what="an answer after a crash of the daemon, without anything that it had made")
    equal(found("echo"), {address})
    docker.run("service", "rm", "echo", "probe", "plain")
    wait_until(lambda: address + "/32" not in w.d.space.run("ip", "addr").stdout, what="the end of the address")
    docker.run("network", "rm", "back")


STACK = """
version: "3.8"
services:
  web:
    image: busybox:latest
    command: ["sh", "-c", "cat /run/secrets/key /etc/app.conf; trap 'exit 0' TERM; while :; do sleep 1; done"]
    stop_grace_period: 1s
    networks: [back]
    secrets: [key]
    configs:
      - source: app
        target: /etc/app.conf
    deploy:
      replicas: 2
      labels: {tier: front}
      update_config: {parallelism: 2, monitor: 100ms}
  db:
    image: busybox:latest
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
    stop_grace_period: 1s
    networks: [back]
    volumes: ["data:/data"]
networks:
  back: {}
volumes:
  data: {}
secrets:
  key: {file: ./key}
configs:
  app: {file: ./app.conf}
"""


@test
def logs_of_later_tasks(w):
    """service logs -f goes on with tasks that come later, and ends with the service"""
    w.init()
    w.service("talk", "-e", "SLOT={{.Task.Slot}}", command=("sh", "-c", "echo from $SLOT $X; trap 'exit 0' TERM; sleep 1000 & wait"))
    w.await_running("talk", 1)
    path = w.d.dir + "/later.log"

    def said(*lines):
        def fits():
            with open(path) as f:
                return sorted(f.read().splitlines()) == sorted(lines)
        wait_until(fits, 60, f"{lines}")

    with open(path, "w") as out:
        p = subprocess.Popen(w.docker.line("service", "logs", "-f", "--raw", "talk"), env=w.docker.env, stdout=out,
                             stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        said("from 1")
        w.docker.run("service", "scale", "-d", "talk=2")
        said("from 1", "from 2")
        w.docker.run("service", "update", "-q", "--env-add", "X=new", "talk")
        said("from 1", "from 2", "from 1 new", "from 2 new")
        w.docker.run("service", "rm", "talk")
        equal(p.wait(60), 0)
    finally:
        p.kill()
        p.wait()


@test
def stack(w):
    """a stack is deployed, changed and removed"""
    w.init()
    top = w.d.dir + "/stack"
    os.makedirs(top, exist_ok=True)
    for name, text in (("key", "word "), ("app.conf", "y = 2"), ("stack.yml", STACK)):
        with open(f"{top}/{name}", "w") as f:
            f.write(text)
    w.docker.run("stack", "deploy", "-d", "--resolve-image", "never", "-c", "stack.yml", "app", cwd=top)
    w.await_running("app_web", 2)
    w.await_running("app_db", 1)
    contains(w.docker.out("stack", "ls"), "app")
    contains(w.docker.out("stack", "services", "app"), "2/2")
    contains(w.docker.out("stack", "ps", "app"), "app_web.2")
    wait_until(lambda: "word y = 2" in w.docker.out("service", "logs", "--raw", "app_web"), what="what is in the files")
    db = w.running("app_db")[0]["Status"]["ContainerStatus"]["ContainerID"]
    for name, n in (("web", 2), ("tasks.app_web", 3)):  # with the server's own
        wait_until(lambda: w.docker.out("exec", db, "nslookup", name, check=False).count("\nAddress") == n, what="addresses of " + name)
    with open(f"{top}/stack.yml", "w") as f:
        f.write(STACK.replace("replicas: 2", "replicas: 1"))
    w.docker.run("stack", "deploy", "-d", "--resolve-image", "never", "-c", "stack.yml", "app", cwd=top)
    w.await_running("app_web", 1)
    w.docker.run("stack", "rm", "app")
    equal(w.docker.out("service", "ls", "-q"), "")
    equal(w.docker.out("secret", "ls", "-q"), "")
    equal(w.docker.out("network", "ls", "-q", "-f", "name=app_back"), "")


@test
def bad_input(w):
    """what cannot be is refused by name, and changes nothing"""
    w.init()
    good = {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}}

    def create(**kw):
        return w.docker.api("POST", "/v1.44/services/create", {**good, **kw})
    container = {"Image": "busybox"}
    for body, status, text in (
            ({"Name": ""}, 400, "name must be provided"), ({"Name": "a b"}, 400, "DNS name"), ({"TaskTemplate": {}}, 400, "missing runtime"),
            ({"TaskTemplate": {"ContainerSpec": {}}}, 400, "image reference must be provided"),
            ({"Mode": {"Replicated": {"Replicas": 1}, "Global": {}}}, 400, "only one service mode"),
            ({"TaskTemplate": {"ContainerSpec": {**container, "Privileges": {"CredentialSpec": {"File": "x"}}}}}, 501, "CredentialSpec"),
            ({"TaskTemplate": {"ContainerSpec": {**container, "Env": ["A={{.Nothing}}"]}}}, 501, "placeholder"),
            ({"TaskTemplate": {"ContainerSpec": {**container, "Mounts": [{"Type": "nonsense", "Target": "/x"}]}}}, 400, "nonsense"),
            ({"TaskTemplate": {"ContainerSpec": container, "Runtime": "plugin"}}, 501, "Runtime"),
            ({"TaskTemplate": {"ContainerSpec": container, "RestartPolicy": {"Condition": "often"}}}, 400, "often"),
            ({"TaskTemplate": {"ContainerSpec": container, "Networks": [{"Target": "nowhere"}]}}, 404, "network nowhere not found"),
            ({"EndpointSpec": {"Ports": [{"TargetPort": 70000}]}}, 400, "1 to 65535"),
            ({"TaskTemplate": {"ContainerSpec": {**container, "Image": 5}}}, 400, "")):
        got, e = create(**body)
        equal(got, status, (body, e))
        contains(json.dumps(e), text)
    for body in (b"", b"[", b"[]", b"5"):
        got, e = w.docker.api("POST", "/v1.44/services/create", body, {"Content-Type": "application/json"})
        equal(got, 400, (body, e))
    equal(w.docker.api("GET", "/v1.44/tasks?filters={%22nonsense%22:[%22x%22]}")[0], 400)
    equal(w.docker.out("service", "ls", "-q"), "")


@test
def killed(w):
    """control is killed in the midst of an update: it goes on"""
    w.init()
    w.service("web", "--replicas", "4", "--update-monitor", "1ms")
    w.await_running("web", 4)
    w.docker.run("service", "update", "-d", "-q", "--env-add", "B=1", "web")
    wait_until(lambda: len(w.tasks("web")) > 4, what="the first change")
    os.kill(w.d.pids()["control"], signal.SIGKILL)
    wait_until(lambda: w.docker.run("service", "ls", check=False).returncode == 0, what="control again")
    wait_until(lambda: w.inspect("service", "web")["UpdateStatus"]["State"] == "completed", 60, "the update")
    w.await_running("web", 4)
    for t in w.running("web"):
        contains(json.dumps(t["Spec"]["ContainerSpec"]["Env"]), "B=1")


if __name__ == "__main__":
    run(World, World.close, clean)
