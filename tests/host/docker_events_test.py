#!/usr/bin/env python3
"""The Docker dialect's events: their order, shape and filters; and statistics."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from urllib.parse import quote
from docker import docker_daemon
from tap import contains, equal, run, test
from wabe import wait_until


def setup():
    return docker_daemon("dockev")


class Watch:
    """The events since now, as they come."""

    def __init__(self, d, query="", version="/v1.44"):
        self.c = d.docker.connection()
        self.c.request("GET", version + "/events" + query)
        self.r = self.c.getresponse()
        self.seen = []
        self.c.sock.settimeout(30)

    def until(self, action):
        while not self.seen or self.seen[-1]["Action"] != action:
            line = self.r.readline()
            assert line, f"the events ended; seen {[e['Action'] for e in self.seen]}"
            self.seen.append(json.loads(line))
        return self.seen

    def rest(self):
        self.seen += [json.loads(line) for line in self.r]
        return self.seen

    def close(self):
        self.c.close()


def actions(events, kind="container"):
    return [e["Action"] for e in events if e["Type"] == kind]


def filters(**f):
    return "filters=" + quote(json.dumps({k: [v] if isinstance(v, str) else v for k, v in f.items()}))


@test
def life_of_a_container(d):
    """the events of a life come in dockerd's order, with its attributes"""
    w = Watch(d)
    d.docker.out("create", "--network", "none", "--name", "life", "-l", "color=red", "busybox", "sh", "-c", "trap 'exit 3' TERM; while true; do sleep 0.1; done")
    d.docker.out("start", "life")
    d.docker.out("pause", "life")
    d.docker.out("unpause", "life")
    d.docker.run("exec", "life", "sh", "-c", "exit 4", check=False)
    w.until("exec_die")
    d.docker.out("rename", "life", "living")
    d.docker.out("top", "living")
    d.docker.out("stop", "living")
    d.docker.out("start", "living")
    d.docker.out("restart", "-t", "0", "living")
    d.docker.out("kill", "-s", "USR1", "living")
    d.docker.out("rm", "-f", "living")
    seen = w.until("destroy")
    w.close()
    own = [e for e in seen if e["Type"] == "container"]
    told = [e["Action"] for e in own]
    again = told.index("start", told.index("stop"))
    if told[again + 1:again + 3] == ["kill", "die"]:
        told.insert(again + 1, "kill")  # it ended before the second signal, that of restart's 0 seconds
    equal(told,
          ["create", "start", "pause", "unpause", "exec_create: sh -c exit 4", "exec_start: sh -c exit 4", "exec_die", "rename",
           "top", "kill", "die", "stop", "start", "kill", "kill", "die", "stop", "start", "restart", "kill", "kill", "die", "destroy"])
    first = own[0]
    equal((first["status"], first["from"], first["scope"]), ("create", "busybox", "local"))
    equal(first["id"], first["Actor"]["ID"])
    equal(first["Actor"]["Attributes"], {"color": "red", "image": "busybox", "name": "life"})
    equal(first["timeNano"] // 10**9, first["time"])
    by = lambda action: next(e["Actor"]["Attributes"] for e in own if e["Action"] == action)
    equal(by("exec_die")["exitCode"], "4")
    equal(len(by("exec_die")["execID"]), 64)
    equal((by("rename")["oldName"], by("rename")["name"]), ("/life", "living"))
    equal((by("kill")["signal"], by("die")["exitCode"]), ("15", "3"))
    assert all("color" in e["Actor"]["Attributes"] for e in own), own


@test
def ends_by_force(d):
    """removing by force, --rm and detaching say what happened on the way"""
    w = Watch(d)
    d.docker.out("run", "-d", "--network", "none", "--name", "forced", "busybox", "sleep", "1000")
    d.docker.out("rm", "-f", "forced")
    equal(actions(w.until("destroy")), ["create", "start", "kill", "die", "destroy"])
    equal(w.seen[-3]["Actor"]["Attributes"]["signal"], "9")
    w.seen = []
    d.docker.run("run", "--network", "none", "--rm", "--name", "gone", "busybox", "sh", "-c", "exit 9", check=False)
    equal(actions(w.until("destroy")), ["create", "attach", "start", "die", "destroy"])
    w.close()


@test
def images_that_are_built(d):
    """create, since 1.46, before what names them; older clients hear of the names alone"""
    new, old = Watch(d, version="/v1.46"), Watch(d, version="/v1.45")
    where = d.dir + "/context"
    os.makedirs(where, exist_ok=True)
    with open(where + "/Dockerfile", "w") as f:
        f.write("FROM busybox\nLABEL made=here\n")
    d.docker.out("build", "-t", "made:one", where)
    built = d.docker.inspect("made:one")["Id"]
    for w, expected in (new, ["create", "tag"]), (old, ["tag"]):
        seen = w.until("tag")
        w.close()
        equal(actions(seen, "image"), expected)
        equal({e["Actor"]["ID"] for e in seen if e["Type"] == "image"}, {built})
    equal(next(e for e in new.seen if e["Action"] == "create")["Actor"]["Attributes"]["name"], built)
    d.docker.out("rmi", "made:one")


@test
def volumes_and_images(d):
    """volumes are mounted and unmounted with their container; images are named"""
    w = Watch(d)
    d.docker.out("volume", "create", "data")
    d.docker.out("run", "--network", "none", "--rm", "-v", "data:/data", "busybox", "true")
    d.docker.out("volume", "rm", "data")
    d.docker.out("tag", "busybox", "other:one")
    d.docker.out("rmi", "other:one")
    seen = w.until("untag")
    w.close()
    volumes = [e for e in seen if e["Type"] == "volume"]
    equal([e["Action"] for e in volumes], ["create", "mount", "unmount", "destroy"])
    equal(volumes[0]["Actor"], {"ID": "data", "Attributes": {"driver": "local"}})
    mount = volumes[1]["Actor"]["Attributes"]
    equal((mount["destination"], mount["read/write"], len(mount["container"])), ("/data", "true", 64))
    equal(actions(seen, "image"), ["tag", "untag"])
    tag = next(e for e in seen if e["Action"] == "tag")
    equal(tag["Actor"]["Attributes"]["name"], "other:one")
    assert tag["Actor"]["ID"].startswith("sha256:") and tag["status"] == "tag", tag


@test
def filters_and_times(d):
    """since, until and filters choose; what is wrong is refused"""
    begin = f"{time.time():.6f}"
    for name in ("one", "two"):
        d.docker.out("run", "-d", "--network", "none", "--name", name, "-l", f"which={name}", "busybox", "true")
        d.docker.out("wait", name)
        d.docker.out("rm", name)
    end = f"{time.time() + 0.001:.6f}"
    get = lambda **f: Watch(d, f"?since={begin}&until={end}&{filters(**f)}").rest()
    equal(actions(get(container="two")), ["create", "start", "die", "destroy"])
    equal([e["Actor"]["Attributes"]["which"] for e in get(event=["die", "destroy"])], ["one", "one", "two", "two"])
    equal(actions(get(label="which=one", event="start")), ["start"])
    equal(len(get(label="which", event="start")), 2)
    equal(len(get(image="busybox", event="start")), 2)
    equal(get(image="nosuch"), [])
    equal(get(type="network"), [])
    equal(get(network="one"), [])
    equal(len(get(type="container", scope="local", event="create")), 2)
    equal(get(scope="swarm"), [])
    equal(len(Watch(d, f"?since={end}&until={end}").rest()), 0)
    equal(d.docker.api("GET", "/events?since=never")[0], 400)
    equal(d.docker.api("GET", "/events?since=2000000000&until=1000000000")[0], 400)
    equal(d.docker.api("GET", "/events?" + filters(nosuch="x")), (400, {"message": "invalid filter 'nosuch'"}))
    equal(d.docker.api("GET", "/events?filters={]")[0], 400)
    out = d.docker.out("events", "--since", begin, "--until", end, "--filter", "event=die", "--format",
                       "{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}")
    equal(out, "one 0\ntwo 0")


@test
def health(d):
    """a health check's state is an event"""
    w = Watch(d)
    d.docker.out("run", "-d", "--network", "none", "--name", "well", "--health-cmd", "true", "--health-interval", "1s", "busybox",
                 "sleep", "1000")
    w.until("health_status: healthy")
    w.close()
    d.docker.out("rm", "-f", "well")


# ---- statistics ----

@test
def statistics(d):
    """one record with the one before it, one at once, and one each second; nothing of what does not run"""
    d.docker.out("run", "-d", "--network", "none", "--name", "work", "busybox", "sh", "-c", "while true; do :; done")
    s = d.docker.api("GET", "/v1.44/containers/work/stats?stream=0")[1]
    used = s["cpu_stats"]["cpu_usage"]["total_usage"] - s["precpu_stats"]["cpu_usage"]["total_usage"]
    assert used > 0 and s["precpu_stats"]["system_cpu_usage"] < s["cpu_stats"]["system_cpu_usage"], s
    equal((s["name"], s["cpu_stats"]["online_cpus"]), ("/work", os.cpu_count()))
    assert s["memory_stats"]["usage"] > 0 and s["memory_stats"]["limit"] > 0 and s["pids_stats"]["current"] >= 1, s
    assert s["preread"] < s["read"], s
    s = d.docker.api("GET", "/v1.44/containers/work/stats?stream=0&one-shot=1")[1]
    equal((s["precpu_stats"]["cpu_usage"]["total_usage"], s["preread"]), (0, "0001-01-01T00:00:00Z"))
    equal(d.docker.api("GET", "/v1.44/containers/work/stats?stream=1&one-shot=1")[0], 400)
    c = d.docker.connection()
    c.request("GET", "/v1.44/containers/work/stats")
    r = c.getresponse()
    one, two = json.loads(r.readline()), json.loads(r.readline())
    equal(two["precpu_stats"]["cpu_usage"], one["cpu_stats"]["cpu_usage"])
    equal(two["preread"], one["read"])
    c.close()
    contains(d.docker.out("stats", "--no-stream", "--format", "{{.Name}}"), "work")
    d.docker.out("kill", "work")
    s = d.docker.api("GET", "/v1.44/containers/work/stats?stream=0")[1]
    equal((s["read"], s["cpu_stats"]["cpu_usage"]["total_usage"], s["memory_stats"]), ("0001-01-01T00:00:00Z", 0, {}))
    equal(d.docker.api("GET", "/v1.44/containers/nosuch/stats?stream=0")[0], 404)


@test
def statistics_of_a_network(d):
    """what goes over an interface is counted"""
    d.docker.out("network", "create", "--subnet", "10.213.7.0/24", "lan")
    d.docker.out("run", "-d", "--network", "lan", "--name", "net", "busybox", "sh", "-c", "ping -c 3 -i 0.2 10.213.7.1; sleep 1000")
    sent = lambda: d.docker.api("GET", "/containers/net/stats?stream=0&one-shot=1")[1].get("networks", {}).get("eth0", {}).get(
        "tx_packets", 0)
    wait_until(lambda: sent() >= 3, what="three packets")
    d.docker.out("rm", "-f", "net")
    d.docker.out("network", "rm", "lan")


@test
def many_statistics(d):
    """following many costs no thread each, and clients that vanish leave nothing"""
    d.docker.out("run", "-d", "--network", "none", "--name", "calm", "busybox", "sleep", "1000")
    control = d.pids()["control"]
    count = lambda what: len(os.listdir(f"/proc/{control}/{what}"))
    before = count("fd")
    open_now = []
    for _ in range(40):
        c = d.docker.connection()
        c.request("GET", "/v1.44/containers/calm/stats")
        r = c.getresponse()
        r.readline()
        open_now.append((c, r))
    threads = count("task")
    assert threads < 40, f"{threads} threads"
    for c, r in open_now:
        r.readline()
        c.sock.close() if c.sock else None
        r.close()
        c.close()
    wait_until(lambda: count("fd") <= before + 2, 30, "the descriptors to be closed")


def clean(d):
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)


run(setup, lambda d: d.close(), clean)
