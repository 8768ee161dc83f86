#!/usr/bin/env python3
"""Containers through the Docker dialect: the real client, and plain requests to every route."""
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from tap import contains, equal, need, run, test
from wabe import wait_until

V = "/v1.44"
SLEEP = ["sleep", "1000"]


def setup():
    return docker_daemon("dcont")


def api(d, method, path, body=None, status=None, version=V):
    got, answer = d.docker.api(method, version + path, body)
    if status is not None:
        assert got == status, f"{method} {path}: {got} {answer!r}, wanted {status}"
    return answer


def make(d, name=None, start=False, host=None, **config):
    body = {"Image": "busybox", "Cmd": SLEEP, **config, "HostConfig": {"NetworkMode": "none", **(host or {})}}
    answer = api(d, "POST", "/containers/create" + (f"?name={name}" if name else ""), body, 201)
    if start:
        api(d, "POST", f"/containers/{answer['Id']}/start", status=204)
    return answer["Id"]


def remove_all(d):
    for c in api(d, "GET", "/containers/json?all=1", status=200):
        d.docker.api("DELETE", f"{V}/containers/{c['Id']}?force=1&v=1")


def message(answer):
    return answer["message"]


@test
def life(d):
    """create, start, stop, restart, kill, pause, rename, remove; 304 and 409 where dockerd has them"""
    i = make(d, "web")
    equal(api(d, "GET", "/containers/web/json", status=200)["State"]["Status"], "created")
    contains(message(api(d, "POST", "/containers/web/kill", status=409)), "is not running")
    contains(message(api(d, "POST", "/containers/web/pause", status=409)), "is not running")
    api(d, "POST", "/containers/web/stop", status=304)
    api(d, "POST", "/containers/web/start", status=204)
    api(d, "POST", "/containers/web/start", status=304)
    equal(message(api(d, "DELETE", "/containers/web", status=409)),
          f"You cannot remove a running container {i}. Stop the container before attempting removal or force remove")
    api(d, "POST", "/containers/web/pause", status=204)
    equal(message(api(d, "POST", "/containers/web/start", status=409)), "cannot start a paused container, try unpause instead")
    equal(message(api(d, "POST", "/containers/web/pause", status=409)), f"Container {i} is already paused")
    api(d, "POST", "/containers/web/unpause", status=204)
    equal(message(api(d, "POST", "/containers/web/unpause", status=500)), f"Container {i} is not paused")
    api(d, "POST", "/containers/web/restart?t=0", status=204)
    api(d, "POST", "/containers/web/kill?signal=BLA", status=400)
    api(d, "POST", "/containers/web/stop?t=soon", status=400)
    api(d, "POST", "/containers/web/kill", status=204)
    state = api(d, "GET", "/containers/web/json", status=200)["State"]
    equal((state["Status"], state["ExitCode"], state["Running"]), ("exited", 137, False))
    api(d, "POST", "/containers/web/rename?name=", status=400)
    contains(message(api(d, "POST", "/containers/web/rename?name=a%20b", status=400)), "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    contains(message(api(d, "POST", "/containers/web/rename?name=web", status=400)), "same name as its current name")
    make(d, "other")
    contains(message(api(d, "POST", "/containers/web/rename?name=other", status=409)), 'The container name "/other" is already in use')
    api(d, "POST", "/containers/web/rename?name=web2", status=204)
    api(d, "GET", "/containers/web/json", status=404)
    api(d, "DELETE", f"/containers/{i[:2]}x", status=404)
    api(d, "DELETE", f"/containers/{i[:12]}", status=204)
    equal(message(api(d, "DELETE", f"/containers/{i}", status=404)), f"No such container: {i}"[:len("No such container: ") + 64])


@test
def names(d):
    """names in conflict, invalid and far too long ones, ids by any beginning"""
    first = make(d, "taken")
    body = {"Image": "busybox"}
    equal(message(api(d, "POST", "/containers/create?name=taken", body, 409)),
          f'Conflict. The container name "/taken" is already in use by container "{first}". You have to remove (or rename) '
          "that container to be able to reuse that name.")
    for bad in "-x", "a", "a%2Fb", "n" * 10000:
        contains(message(api(d, "POST", f"/containers/create?name={bad}", body, 400)), "Invalid container name")
    api(d, "GET", f"/containers/{'n' * 10000}/json", status=404)
    equal(api(d, "GET", f"/containers/{first[:1]}/json", status=200)["Id"], first)
    equal(api(d, "GET", f"/containers/{first[:3]}/json", status=200)["Name"], "/taken")


@test
def bad_creation(d):
    """what is wrong with a body is said, and nothing is made"""
    def refused(body, status, text):
        got, answer = d.docker.api("POST", V + "/containers/create", body, {"Content-Type": "application/json"})
        assert got == status and text in answer["message"], f"{body}: {got} {answer}"

    refused(b"", 400, "config cannot be empty")
    refused(b"{", 400, "")
    refused(b"[]", 400, "object")
    refused({"Image": 7}, 400, "Image")
    refused({"Image": "busybox", "Env": "A=1"}, 400, "Env")
    refused({"Image": "busybox", "Labels": {"a": 1}}, 400, "Labels")
    refused({"Image": "busybox", "HostConfig": []}, 400, "HostConfig")
    refused({"Image": "nosuch"}, 404, "No such image: nosuch:latest")
    refused({"Image": "UPPER"}, 400, "invalid reference format")
    refused({"Image": "busybox", "Env": ["=x"]}, 400, "invalid environment variable: =x")
    refused({"Image": "busybox", "WorkingDir": "x"}, 400, "the working directory 'x' is invalid, it needs to be an absolute path")
    refused({"Image": "busybox", "StopSignal": "BLA"}, 400, "BLA")
    refused({"Image": "busybox", "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}}, 400, "Interval in Healthcheck cannot be less than 1ms")
    for member, value, text in (
            ("Memory", 100, "Minimum memory limit allowed is 6MB"),
            ("MemorySwap", 9000000, "You should always set the Memory limit"),
            ("NanoCpus", 10**15, "Range of CPUs is from 0.01"),
            ("CpuPeriod", 5, "CPU cfs period"), ("CpuQuota", 5, "CPU cfs quota"), ("CpuShares", -1, "invalid CPU shares"),
            ("CpusetCpus", "x", "Invalid value x for cpuset cpus"), ("CpusetCpus", "3-1", "Invalid value 3-1 for cpuset cpus"),
            ("CpusetCpus", "0,8000", "Requested CPUs are not available - requested 0,8000, available: "),
            ("CpusetMems", "1000", "Requested memory nodes are not available - requested 1000, available: "), ("BlkioWeight", 5, "Range of blkio weight"),
            ("BlkioWeightDevice", [{"Path": "/dev/x", "Weight": 5}], "Range of blkio weight"),
            ("CgroupParent", "/x", "HostConfig.CgroupParent"), ("CpuRealtimeRuntime", 5, "HostConfig.CpuRealtimeRuntime"),
            ("DeviceRequests", [{"Capabilities": [["gpu"]]}], 'could not select device driver "" with capabilities: [[gpu]]'),
            ("Runtime", "nosuch", "unknown or invalid runtime name: nosuch"), ("Isolation", "hyperv", "isolation"),
            ("LogConfig", {"Type": "syslog"}, "logger: no log driver named 'syslog' is registered"),
            ("LogConfig", {"Type": "json-file", "Config": {"x": "y"}}, "unknown log opt 'x' for json-file log driver"),
            ("RestartPolicy", {"Name": "sometimes"}, "invalid restart policy 'sometimes'"),
            ("RestartPolicy", {"Name": "always", "MaximumRetryCount": 3}, "maximum retry count cannot be used"),
            ("PidMode", "container:nosuch", "No such container: nosuch"), ("PidMode", "x", "invalid PID mode: x"),
            ("IpcMode", "x", "invalid IPC mode: x"), ("UTSMode", "container:x", "invalid UTS mode"),
            ("SecurityOpt", ["x"], "invalid --security-opt 1"), ("SecurityOpt", ["x=y"], "invalid --security-opt 2"),
            ("SecurityOpt", ["apparmor=mine"], "AppArmor"), ("SecurityOpt", ["seccomp={"], ""),
            ("CapAdd", ["x-y"], "invalid CapAdd"), ("OomScoreAdj", 5000, "range for oom score adj"),
            ("Annotations", {"docker.x": "y"}, "HostConfig.Annotations"), ("Sysctls", {"kernel.panic": "1"}, "kernel.panic"),
            ("StorageOpt", {"colour": "red"}, "HostConfig.StorageOpt"), ("MaskedPaths", ["/x"], "HostConfig.MaskedPaths")):
        refused({"Image": "busybox", "Cmd": SLEEP, "HostConfig": {member: value}}, 404 if "nosuch" in str(value) and member == "PidMode" else 400, text)
    refused({"Image": "busybox", "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}, 400,
            "can't create 'AutoRemove' container with restart policy")
    refused({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Runtime": "machine"}}, 404, "wabe image bootstrap --kernel")
    api(d, "POST", "/containers/create?platform=linux/s390x", {"Image": "busybox"}, 404)
    equal(api(d, "GET", "/containers/json?all=1", status=200), [])


@test
def inspected(d):
    """an inspect gives back what the creation said"""
    host = {"Memory": 64 << 20, "NanoCpus": 500000000, "PidsLimit": 50, "CapAdd": ["NET_ADMIN"], "CapDrop": "ALL",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "ReadonlyRootfs": True, "Init": True,
            "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "Annotations": {"a": "b"}, "OomScoreAdj": 100,
            "SecurityOpt": ["no-new-privileges"], "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "Sysctls": {"net.ipv4.ip_forward": "1"}, "ShmSize": 1 << 20, "ConsoleSize": [24, 80], "GroupAdd": ["7"]}
    i = make(d, "full", host=host, Env=["A=1"], Labels={"l": "v"}, WorkingDir="/tmp", User="1:2", Hostname="hh",
             Domainname="example", Tty=True, OpenStdin=True, StopSignal="SIGINT", StopTimeout=3, AttachStdout=True,
             ExposedPorts={"80/tcp": {}}, Entrypoint=["sh", "-c"], Cmd=["echo a b"],
             Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9, "StartInterval": 10**7})
    c = api(d, "GET", f"/containers/{i}/json", status=200)
    equal((c["Path"], c["Args"], c["Name"], c["Driver"], c["Platform"]), ("sh", ["-c", "echo a b"], "/full", "overlay2", "linux"))
    listed = {v: api(d, "GET", "/containers/json?all=1", status=200, version=v)[0]["HostConfig"] for v in ("/v1.45", "/v1.46")}
    equal((listed["/v1.45"].get("Annotations"), listed["/v1.46"]["Annotations"]), (None, {"a": "b"}))
    h = c["HostConfig"]
    for key in ("Memory", "NanoCpus", "PidsLimit", "CapAdd", "RestartPolicy", "ReadonlyRootfs", "Init", "Annotations", "SecurityOpt",
                "LogConfig", "Sysctls", "ShmSize", "OomScoreAdj", "ConsoleSize", "GroupAdd"):
        equal(h[key], host[key], key)
    equal(h["CapDrop"], ["ALL"])
    equal(h["MemorySwap"], 128 << 20)
    equal(h["Ulimits"], [{"Name": "nofile", "Hard": 200, "Soft": 100}])
    k = c["Config"]
    equal((k["Hostname"], k["Domainname"], k["User"], k["WorkingDir"], k["Tty"], k["OpenStdin"], k["StdinOnce"], k["StopSignal"],
           k["StopTimeout"], k["AttachStdout"], k["AttachStderr"]),
          ("hh", "example", "1:2", "/tmp", True, True, False, "SIGINT", 3, True, False))
    equal((k["Entrypoint"], k["Cmd"], k["Image"], k["Labels"], k["ExposedPorts"]),
          (["sh", "-c"], ["echo a b"], "busybox", {"l": "v"}, {"80/tcp": {}}))
    equal(k["Healthcheck"], {"Test": ["CMD", "true"], "Interval": 10**9, "StartInterval": 10**7})
    equal(k["Env"][0], "A=1")
    sized = api(d, "GET", f"/containers/{i}/json?size=1", status=200)
    assert sized["SizeRootFs"] >= sized["SizeRw"] >= 0 and "SizeRw" not in c
    own = json.loads(d.cli("show", "--json", "full").stdout)
    equal(own["spec"]["annotations"]["a"], "b")


@test
def others(d):
    """instances of wabe's own are containers, and the other way round"""
    d.cli("create", "--name", "own", "--network", "none", "-m", "64m", "--label", "x=y", "busybox", "sleep", "9")
    c = api(d, "GET", "/containers/own/json", status=200)
    equal((c["Path"], c["Args"], c["Config"]["Cmd"], c["HostConfig"]["Memory"], c["HostConfig"]["NetworkMode"]),
          ("sleep", ["9"], ["sleep", "9"], 64 << 20, "none"))
    make(d, "theirs")
    contains(d.cli("ls", "-a").stdout, "theirs")
    equal(sorted(c["Names"][0] for c in api(d, "GET", "/containers/json?all=1", status=200)), ["/own", "/theirs"])


@test
def listed(d):
    """every filter of a list; limits; sizes"""
    a = make(d, "aa", start=True, Labels={"k": "1", "z": ""}, ExposedPorts={"80/tcp": {}})
    b = make(d, "bb", start=True, Labels={"k": "2"}, Cmd=["sh", "-c", "exit 3"])
    c = make(d, "cc")
    api(d, "POST", "/containers/bb/wait", status=200)

    def ids(**filters):
        text = json.dumps(filters).replace(" ", "")
        got, answer = d.docker.api("GET", f"{V}/containers/json?all=1&filters=" + urllib.parse.quote(text))
        assert got == 200, answer
        return [x["Names"][0][1:] for x in answer]

    equal([x["Id"] for x in api(d, "GET", "/containers/json", status=200)], [a])
    equal([x["Id"] for x in api(d, "GET", "/containers/json?limit=2", status=200)], [c, b])
    equal(len(api(d, "GET", "/containers/json?limit=-1", status=200)), 1)
    api(d, "GET", "/containers/json?limit=x", status=400)
    equal(ids(), ["cc", "bb", "aa"])
    equal(ids(name=["a"]), ["aa"])
    equal(ids(name={"^/bb$": True}), ["bb"])
    equal(ids(name=["^cc"]), ["cc"])
    equal(ids(id=[a[:5]]), ["aa"])
    equal(ids(label=["k"]), ["bb", "aa"])
    equal(ids(label=["k=2"]), ["bb"])
    equal(ids(label=["k", "z"]), ["aa"])
    equal(ids(status=["exited"]), ["bb"])
    equal(ids(status=["created", "running"]), ["cc", "aa"])
    equal(ids(exited=["3"]), ["bb"])
    equal(ids(exited=["0"]), [])
    equal(ids(before=["bb"]), ["aa"])
    equal(ids(since=["bb"]), ["cc"])
    equal(ids(ancestor=["busybox"]), ["cc", "bb", "aa"])
    equal(ids(ancestor=["nosuch"]), [])
    equal(ids(health=["none"]), ["cc", "bb", "aa"])
    equal(ids(health=["healthy"]), [])
    equal(ids(expose=["80"]), ["aa"])
    equal(ids(expose=["70-90/tcp"]), ["aa"])
    equal(ids(publish=["80"]), [])
    equal(ids(**{"is-task": ["false"]}), ["cc", "bb", "aa"])
    equal(ids(**{"is-task": ["true"]}), [])
    equal(ids(volume=["x"]), [])
    for bad in '{"colour":["red"]}', '{"status":["odd"]}', '{"exited":["x"]}', '{"publish":["x"]}', "{", '{"name":5}', "[]":
        got, answer = d.docker.api("GET", f"{V}/containers/json?filters=" + urllib.parse.quote(bad))
        equal(got, 400, bad)
    api(d, "GET", '/containers/json?filters={"before":["nosuch"]}', status=404)
    line = api(d, "GET", "/containers/json?all=1&size=1", status=200)[1]
    equal((line["Command"], line["Image"], line["State"], line["Labels"]), ("sh -c 'exit 3'", "busybox", "exited", {"k": "2"}))
    contains(line["Status"], "Exited (3)")
    assert line["SizeRootFs"] >= line["SizeRw"] >= 0


@test
def patterns(d):
    """names fit regular expressions, references globs; patterns that could cost much cost nothing"""
    make(d, "a-1")
    make(d, "b-2")

    def listed(path, **filters):
        text = urllib.parse.quote(json.dumps(filters))
        return api(d, "GET", f"{path}filters={text}", status=200)

    def names(*patterns):
        return sorted(c["Names"][0][1:] for c in listed("/containers/json?all=1&", name=list(patterns)))

    equal(names("^/a-[0-9]$"), ["a-1"])
    equal(names("(a|b)-."), ["a-1", "b-2"])
    for costly in "(a{1,255}){1,255}{1,255}", "(.*)\\1(.*)\\2(.*)\\3x", "(a*)*" * 200, "[":
        equal(names(costly), [], costly)
    for pattern, fits in (("busy*", True), ("busybox:lat?st", True), ("b[a-u]*x", True), ("b[^u]*", False), ("*", True), ("busy", False),
                          ("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b" * 20, False), ("[a", False), ("a/*", False), ("bus\\ybox", True)):
        equal(bool(listed("/images/json?", reference=[pattern])), fits, pattern)


@test
def as_dockerd_has_it(d):
    """small things that scripts look at: Mounts without Tmpfs, addresses on the host's network, the kill behind a time limit"""
    i = make(d, host={"Tmpfs": {"/t": "size=1m"}, "Mounts": [{"Type": "tmpfs", "Target": "/m"}]})
    c = api(d, "GET", f"/containers/{i}/json", status=200)
    equal([m["Destination"] for m in c["Mounts"]], ["/m"])
    equal(c["HostConfig"]["Tmpfs"], {"/t": "size=1m"})
    for mode in "host", "none":
        body = {"Image": "busybox", "Cmd": SLEEP, "HostConfig": {"NetworkMode": mode},
                "NetworkingConfig": {"EndpointsConfig": {mode: {"IPAMConfig": {"IPv4Address": "10.9.8.7"}}}}}
        contains(message(api(d, "POST", "/containers/create", body, 400)),
                 "user specified IP address is supported on user defined networks only")
    make(d, "away")
    contains(message(api(d, "POST", "/containers/create", {"Image": "busybox", "Cmd": SLEEP, "HostConfig": {"NetworkMode": "default", "Links": ["away:x"]}}, 400)),
             "Cannot link to /away, as it does not belong to the default network")
    contains(message(api(d, "POST", "/containers/create", {"Image": "busybox", "Cmd": SLEEP, "HostConfig": {"VolumesFrom": ["nosuch"]}}, 400)),
             "No such container: nosuch")
    since = time.time()
    make(d, "deaf", start=True, Cmd=["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"])
    api(d, "POST", "/containers/deaf/stop?t=0", status=204)
    text = d.docker.run("events", "--since", str(since), "--until", str(time.time()), "--filter", "container=deaf", "--filter", "event=kill",
                        "--format", "{{.Actor.Attributes.signal}}").stdout
    equal(text.split(), ["15", "9"])


@test
def health_outlives_the_run(d):
    """what the checks found is shown after a stop, as unhealthy"""
    make(d, "checked", start=True, Healthcheck={"Test": ["CMD-SHELL", "echo fine"], "Interval": 10**8})
    wait_until(lambda: api(d, "GET", "/containers/checked/json", status=200)["State"]["Health"]["Status"] == "healthy", 20, "health")
    api(d, "POST", "/containers/checked/kill", status=204)
    health = api(d, "GET", "/containers/checked/json", status=200)["State"]["Health"]
    equal((health["Status"], health["Log"][0]["Output"]), ("unhealthy", "fine\n"))
    make(d, "fresh", Healthcheck={"Test": ["CMD-SHELL", "true"]})
    assert "Health" not in api(d, "GET", "/containers/fresh/json", status=200)["State"]


@test
def waited(d):
    """the three conditions of wait; its headers come at once"""
    i = make(d, "w1", start=True)
    equal(message(api(d, "POST", "/containers/w1/wait?condition=x", status=400)), 'invalid condition: "x"')
    waits = []
    for condition in "not-running", "next-exit", "removed":
        c = d.docker.connection()
        c.request("POST", f"{V}/containers/w1/wait?condition={condition}")
        waits.append((c, c.getresponse()))  # the headers
    api(d, "POST", "/containers/w1/kill?signal=KILL", status=204)
    equal([json.loads(r.read()) for _, r in waits[:2]], [{"StatusCode": 137}] * 2)
    equal(api(d, "POST", "/containers/w1/wait", status=200), {"StatusCode": 137})
    api(d, "DELETE", f"/containers/{i}", status=204)
    equal(json.loads(waits[2][1].read()), {"StatusCode": 137})
    for c, _ in waits:
        c.close()


@test
def start_errors(d):
    """a start that fails: statuses 127, 126 and 128 of the container, and messages that clients know"""
    for command, text, code in ((["nosuch"], "executable file not found in $PATH", 127),
                                (["/nosuch"], "no such file or directory", 127),
                                (["/etc/hosts"], "permission denied", 126), (["/etc"], "permission denied", 126)):
        i = make(d, Cmd=command)
        got, answer = d.docker.api("POST", f"{V}/containers/{i}/start")
        equal(got, 400)
        contains(answer["message"], text)
        equal(d.docker.run("run", "--rm", "--network", "none", "busybox", *command, check=False).returncode, code)
        state = api(d, "GET", f"/containers/{i}/json", status=200)["State"]
        equal((state["Status"], state["ExitCode"]), ("created", code))
        assert state["Error"]
    i = make(d, host={"Devices": [{"PathOnHost": "/dev/nosuch", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]})
    got, answer = d.docker.api("POST", f"{V}/containers/{i}/start")
    assert got >= 400 and "/dev/nosuch" in answer["message"], answer
    equal(api(d, "GET", f"/containers/{i}/json", status=200)["State"]["ExitCode"], 128)
    i = make(d, host={"AutoRemove": True}, Cmd=["nosuch"])
    api(d, "POST", f"/containers/{i}/start", status=400)
    wait_until(lambda: d.docker.api("GET", f"{V}/containers/{i}/json")[0] == 404, 10, "removal")


@test
def updated(d):
    """limits of a running container and its restart policy"""
    i = make(d, "u1", start=True, host={"Memory": 64 << 20, "CpuShares": 512})
    equal(api(d, "POST", "/containers/u1/update", {"Memory": 128 << 20, "PidsLimit": 77, "CpuPeriod": 50000, "CpuQuota": 25000,
                                                  "RestartPolicy": {"Name": "always"}}, 200)["Warnings"], None)
    h = api(d, "GET", "/containers/u1/json", status=200)["HostConfig"]
    equal((h["Memory"], h["PidsLimit"], h["CpuPeriod"], h["CpuQuota"], h["CpuShares"], h["RestartPolicy"]["Name"]),
          (128 << 20, 77, 50000, 25000, 512, "always"))
    equal(json.loads(d.cli("show", "--json", "u1").stdout)["spec"]["limits"]["memory"], 128 << 20)
    for bad, text in (({"Memory": 5}, "Minimum memory limit"), ({"NanoCpus": 10**9}, "Nano CPUs cannot be updated"),
                      ({"RestartPolicy": {"Name": "x"}}, "invalid restart policy"), ({"Memory": "x"}, "Memory"),
                      ({"Devices": [{"PathOnHost": "/dev/null"}]}, "Devices")):
        contains(message(api(d, "POST", "/containers/u1/update", bad, 400)), text)
    api(d, "POST", "/containers/nosuch/update", {}, 404)
    make(d, "r1", start=True, host={"AutoRemove": True})
    contains(message(api(d, "POST", "/containers/r1/update", {"RestartPolicy": {"Name": "always"}}, 409)), "AutoRemove is enabled")
    equal(i, api(d, "GET", "/containers/u1/json", status=200)["Id"])


@test
def limits_of_processes(d):
    """0 and less are without a limit; before 1.40 an update had no such member"""
    i = make(d, host={"PidsLimit": 32})
    seen = lambda: api(d, "GET", f"/containers/{i}/json", status=200)["HostConfig"]["PidsLimit"]
    api(d, "POST", f"/containers/{i}/update", {"PidsLimit": 16}, 200, version="/v1.39")
    equal(seen(), 32)
    for given, shown in ((16, 16), (0, 0), (17, 17), (-2, 0)):
        api(d, "POST", f"/containers/{i}/update", {"PidsLimit": given}, 200)
        equal(seen(), shown)
    i = make(d, host={"PidsLimit": -1})
    equal(seen(), None)


@test
def committed(d):
    """commit with changes and a body; export; changes"""
    make(d, "src", Cmd=["sh", "-c", "echo hi > /new; rm /etc/group; sleep 1000"], start=True, Env=["A=1"], Labels={"l": "1"})
    wait_until(lambda: any(c["Path"] == "/new" for c in api(d, "GET", "/containers/src/changes", status=200) or []), 10, "the file")
    kinds = {c["Path"]: c["Kind"] for c in api(d, "GET", "/containers/src/changes", status=200)}
    equal(kinds["/new"], 1)
    query = "&".join("changes=" + urllib.parse.quote(c) for c in (
        'CMD ["echo","two words"]', "ENV B=2 C='x y'", "ENV D e f", "EXPOSE 80 53/udp", "LABEL a=b", "WORKDIR /tmp", "WORKDIR x",
        "USER 7", 'VOLUME ["/data"]', "STOPSIGNAL SIGINT", "HEALTHCHECK --interval=5s --retries=2 CMD true", 'ENTRYPOINT ["env"]'))
    answer = api(d, "POST", f"/commit?container=src&repo=mine&tag=one&comment=c&author=me&{query}", {"Labels": {"b": "c"}}, 201)
    assert answer["Id"].startswith("sha256:")
    i = api(d, "POST", "/containers/create", {"Image": "mine:one", "HostConfig": {"NetworkMode": "none"}}, 201)["Id"]
    c = api(d, "GET", f"/containers/{i}/json", status=200)["Config"]
    equal((c["Entrypoint"], c["Cmd"], c["WorkingDir"], c["User"], c["StopSignal"]), (["env"], ["echo", "two words"], "/tmp/x", "7", "SIGINT"))
    assert {"A=1", "B=2", "C=x y", "D=e f"} <= set(c["Env"]), c["Env"]
    equal(api(d, "GET", "/images/mine:one/json", status=200)["Parent"], api(d, "GET", "/images/busybox/json", status=200)["Id"])
    equal(c["Labels"], {"l": "1", "a": "b", "b": "c"})
    query = "&".join("changes=" + urllib.parse.quote(c) for c in (
        "ENV B=$B-${A}:$NONE S='$A' E=\\$A", "ENV D of $B", "LABEL c=$A", "USER u$A", "WORKDIR $A", 'CMD ["$A"]'))
    made = api(d, "POST", f"/commit?container={i}&{query}", {}, 201)["Id"]
    later = api(d, "GET", f"/images/{made}/json", status=200)["Config"]
    assert {"B=2-1:", "S=$A", "E=$A", "D=of 2-1:"} <= set(later["Env"]), later["Env"]
    equal((later["Labels"]["c"], later["User"], later["WorkingDir"], later["Cmd"]), ("1", "u1", "/tmp/x/1", ["$A"]))
    equal(sorted(c["ExposedPorts"]), ["53/udp", "80/tcp"])
    equal((c["Volumes"], c["Healthcheck"]), ({"/data": {}}, {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}))
    for bad, text in (("changes=RUN%20x", "RUN is not a valid change command"), ("changes=ENV", "ENV"), ("changes=USER%20", "USER"),
                      ("changes=ENV%20%22x", "quotation"), ("repo=UPPER", "invalid reference format")):
        contains(message(api(d, "POST", f"/commit?container=src&{bad}", status=400)), text)
    api(d, "POST", "/commit?container=nosuch", status=404)
    api(d, "POST", "/commit", status=400)
    tar = d.docker.run("export", "src", text=False).stdout
    assert b"busybox" in tar and len(tar) % 512 == 0
    api(d, "GET", "/containers/nosuch/export", status=404)
    api(d, "GET", "/containers/nosuch/changes", status=404)


@test
def topped(d):
    """top in ps's columns"""
    make(d, "t1")
    contains(message(api(d, "GET", "/containers/t1/top", status=409)), "is not running")
    api(d, "POST", "/containers/t1/start", status=204)
    top = api(d, "GET", "/containers/t1/top", status=200)
    equal(top["Titles"], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
    equal((top["Processes"][0][0], top["Processes"][0][-1]), ("root", "sleep 1000"))
    top = api(d, "GET", "/containers/t1/top?ps_args=-o%20pid,comm", status=200)
    equal((top["Titles"], top["Processes"][0][1]), (["PID", "COMMAND"], "sleep"))
    contains(api(d, "GET", "/containers/t1/top?ps_args=aux", status=200)["Titles"], "%CPU")
    contains(message(api(d, "GET", "/containers/t1/top?ps_args=-o%20comm", status=500)), "PID field")
    contains(message(api(d, "GET", "/containers/t1/top?ps_args=-o%20colour", status=400)), "colour")
    contains(message(api(d, "GET", "/containers/t1/top?ps_args=-Z", status=400)), "ps_args")
    contains(d.docker.out("top", "t1"), "sleep 1000")


@test
def pruned(d):
    """prune takes what does not run and fits"""
    api(d, "POST", '/containers/prune?filters={"colour":["x"]}', status=400)
    api(d, "POST", '/containers/prune?filters={"until":["soonish"]}', status=400)
    a = make(d, "keep", start=True)
    b = make(d, "gone", Labels={"x": "y"})
    equal(api(d, "POST", '/containers/prune?filters={"label":["q"]}', status=200), {"ContainersDeleted": None, "SpaceReclaimed": 0})
    equal(api(d, "POST", '/containers/prune?filters={"until":["10h"]}', status=200)["ContainersDeleted"], None)
    equal(api(d, "POST", '/containers/prune?filters={"label":["x=y"]}', status=200)["ContainersDeleted"], [b])
    equal([c["Id"] for c in api(d, "GET", "/containers/json?all=1", status=200)], [a])


@test
def healthy(d):
    """health checks: state, streak, log with output"""
    make(d, "h1", start=True, Healthcheck={"Test": ["CMD-SHELL", "echo well; test ! -e /sick"], "Interval": 10**8, "Retries": 2})
    health = lambda: api(d, "GET", "/containers/h1/json", status=200)["State"]["Health"]
    wait_until(lambda: health()["Status"] == "healthy", 20, "health")
    equal((health()["Log"][0]["Output"], health()["Log"][0]["ExitCode"], health()["FailingStreak"]), ("well\n", 0, 0))
    contains(api(d, "GET", "/containers/json", status=200)[0]["Status"], "(healthy)")
    d.cli("exec", "h1", "touch", "/sick")
    wait_until(lambda: health()["Status"] == "unhealthy", 20, "sickness")
    assert health()["FailingStreak"] >= 2 and len(health()["Log"]) <= 5 and health()["Log"][-1]["ExitCode"] == 1
    make(d, "slow", start=True, Healthcheck={"Test": ["CMD", "sleep", "50"], "Interval": 10**8, "Timeout": 10**8, "Retries": 1})
    slow = lambda: api(d, "GET", "/containers/slow/json", status=200)["State"]["Health"]
    wait_until(lambda: slow()["Status"] == "unhealthy", 20, "timeout")
    contains(slow()["Log"][0]["Output"], "exceeded timeout")
    equal(slow()["Log"][0]["ExitCode"], -1)


@test
def client(d):
    """the real client: create, ps, inspect, start, stop, rename, update, wait, rm"""
    docker = d.docker
    i = docker.out("create", "--name", "cli", "--network", "none", "-e", "A=b", "--memory", "64m", "--entrypoint", "", "--init",
                   "--security-opt", "no-new-privileges", "--ulimit", "nofile=100:200", "--health-cmd", "true", "busybox", "sleep", "1000")
    contains(docker.out("ps", "-a"), "Created")
    equal(docker.out("start", "cli"), "cli")
    contains(docker.out("ps", "--no-trunc"), i)
    equal(docker.inspect("cli")["Config"]["Entrypoint"], None)
    docker.run("update", "--memory", "128m", "--memory-swap", "-1", "cli")
    docker.run("rename", "cli", "cli2")
    docker.run("pause", "cli2")
    contains(docker.out("ps"), "(Paused)")
    docker.run("unpause", "cli2")
    docker.run("stop", "-t", "0", "cli2")
    contains(("137", "143"), docker.out("wait", "cli2"))  # --init forwards the signal
    r = docker.run("rm", "nosuch", check=False)
    assert r.returncode == 1 and "No such container: nosuch" in r.stderr
    docker.run("rm", "cli2")
    r = docker.run("start", "cli2", check=False)
    contains(r.stderr, "No such container: cli2")
    profile = d.dir + "/profile.json"
    with open(profile, "w") as f:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}, f)
    docker.run("create", "--name", "sec", "--network", "none", "--security-opt", "seccomp=" + profile, "busybox", "mkdir", "/x")
    docker.run("start", "sec")
    equal(docker.out("wait", "sec"), "1")
    contains(docker.inspect("sec")["HostConfig"]["SecurityOpt"][0], "SCMP_ACT_ERRNO")


@test
def shared(d):
    """pid, ipc and network of another container; user name space of the host"""
    first = make(d, "first", start=True, host={"IpcMode": "shareable"})
    make(d, "second", start=True, host={"PidMode": "container:first", "IpcMode": "container:first"})
    h = api(d, "GET", "/containers/second/json", status=200)["HostConfig"]
    equal((h["PidMode"], h["IpcMode"]), (f"container:{first}", f"container:{first}"))
    equal(api(d, "GET", "/containers/first/json", status=200)["HostConfig"]["IpcMode"], "shareable")
    make(d, "hosted", start=True, host={"UsernsMode": "host", "PidMode": "host", "UTSMode": "host", "CgroupnsMode": "host"})
    h = api(d, "GET", "/containers/hosted/json", status=200)["HostConfig"]
    equal((h["PidMode"], h["UTSMode"], h["UsernsMode"], h["CgroupnsMode"]), ("host", "host", "host", "host"))


@test
def removed_with_the_end(d):
    """--rm, also when the daemon was away at the end"""
    i = make(d, "short", start=True, host={"AutoRemove": True}, Cmd=["sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done"])
    d.cli("exec", "short", "touch", "/go")
    wait_until(lambda: d.docker.api("GET", f"{V}/containers/{i}/json")[0] == 404, 20, "removal")


@test
def removed_while_away(d):
    """--rm of a container that ended while the daemon was away; the others are as they were"""
    i = make(d, "away", start=True, host={"AutoRemove": True})
    make(d, "stays", start=True, host={"RestartPolicy": {"Name": "unless-stopped"}})
    pid = api(d, "GET", "/containers/away/json", status=200)["State"]["Pid"]
    stays = api(d, "GET", "/containers/stays/json", status=200)["State"]["Pid"]
    d.stop()
    os.kill(pid, 9)
    d.start()
    wait_until(lambda: d.docker.api("GET", f"{V}/containers/{i}/json")[0] == 404, 20, "removal")
    equal(api(d, "GET", "/containers/stays/json", status=200)["State"]["Pid"], stays)


@test
def restarted(d):
    """restart policies: always comes back, on-failure as often as it may, a kill by the user is for good"""
    make(d, "always", start=True, host={"RestartPolicy": {"Name": "always"}})
    pid = api(d, "GET", "/containers/always/json", status=200)["State"]["Pid"]
    os.kill(pid, 9)
    state = lambda name: api(d, "GET", f"/containers/{name}/json", status=200)
    wait_until(lambda: state("always")["State"]["Pid"] not in (0, pid), 20, "the restart")
    equal(state("always")["RestartCount"], 1)
    api(d, "POST", "/containers/always/kill", status=204)
    equal(state("always")["State"]["Status"], "exited")
    make(d, "fails", start=True, Cmd=["false"], host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}})
    wait_until(lambda: state("fails")["State"]["Status"] == "exited", 20, "the last end")
    equal((state("fails")["RestartCount"], state("fails")["State"]["ExitCode"]), (2, 1))


# Asks the engine at a socket, with what perl has built in.
ASK = 'socket(S, 1, 1, 0); connect(S, pack("Sa108", 1, "/var/run/docker.sock")) or die "$!"; ' \
      'syswrite(S, "GET /_ping HTTP/1.0\\r\\n\\r\\n"); print while <S>'


@test
def restarted_though_it_goes_when_it_ends(d):
    """a restart of one with --rm is no end of it: the same container runs on, and goes with the next stop or kill"""
    for verb in ("kill", "stop?t=0"):
        i = make(d, start=True, host={"AutoRemove": True})
        first = api(d, "GET", f"/containers/{i}/json", status=200)["State"]["StartedAt"]
        api(d, "POST", f"/containers/{i}/restart?t=0", status=204)
        state = api(d, "GET", f"/containers/{i}/json", status=200)["State"]
        equal((state["Status"], state["StartedAt"] > first), ("running", True))
        api(d, "POST", f"/containers/{i}/{verb}", status=204)
        wait_until(lambda: d.docker.api("GET", f"{V}/containers/{i}/json")[0] == 404, what="its removal")
    i = make(d, start=True, host={"AutoRemove": True}, Cmd=["sh", "-c", "rm -f /bin/sh; sleep 1000"])
    wait_until(lambda: d.docker.api("HEAD", f"{V}/containers/{i}/archive?path=/bin/sh")[0] == 404, what="the command's work")
    api(d, "POST", f"/containers/{i}/restart?t=0", status=400)
    wait_until(lambda: d.docker.api("GET", f"{V}/containers/{i}/json")[0] == 404, what="the removal of what did not start again")


@test
def killed_by_another_signal(d):
    """the restart policy counts unless it is the stop signal, or KILL, that has ended it"""
    for stop_signal, comes_back in (("CONT", True), ("TERM", False)):
        i = make(d, start=True, host={"RestartPolicy": {"Name": "always"}}, Cmd=["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
                 StopSignal=stop_signal)
        api(d, "POST", f"/containers/{i}/kill?signal=TERM", status=204)
        wait_until(lambda: (lambda c: c["RestartCount"] > 0 and c["State"]["Running"] if comes_back else c["State"]["Status"] == "exited")(
            api(d, "GET", f"/containers/{i}/json", status=200)), what=f"what follows with {stop_signal}")


@test
def the_engine_from_within(_):
    """docker.sock mounted into a container is spoken to by its root, also where RUN is a tmpfs"""
    need("/usr/bin/perl", os.path.exists("/usr/bin/perl"))
    d = docker_daemon("dockwithin", run="/dev/shm")
    docker = d.docker
    try:
        socket = os.path.realpath(docker.socket)
        equal(socket, d.state + "/sockets/docker.sock")
        docker.run("create", "--name", "asks", "--network", "none", "-v", docker.socket + ":/var/run/docker.sock", "busybox", "/perl", "-e", ASK)
        libraries = subprocess.run(["ldd", "/usr/bin/perl"], capture_output=True, text=True, check=True).stdout
        rootfs = d.dir + "/perl.tar"
        with tarfile.open(rootfs, "w", dereference=True) as t:
            for path in re.findall(r"(/lib\S+)", libraries):
                t.add(path, path[1:])
            t.add("/usr/bin/perl", "perl")
        with open(rootfs, "rb") as f:
            docker.run("cp", "-", "asks:/", input=f.read(), text=False)
        out = docker.out("start", "-a", "asks")
        contains(out, "200 OK")
        contains(out, "Api-Version: 1.51")
        d.kill()
        d.start()
        contains(docker.out("start", "-a", "asks"), "200 OK")  # it is looked up anew
    finally:
        d.close()


@test
def checkpoints(d):
    """none are there, and none can be made"""
    make(d, "c1")
    equal(api(d, "GET", "/containers/c1/checkpoints", status=200), [])
    contains(message(api(d, "POST", "/containers/c1/checkpoints", {"CheckpointID": "x"}, 501)), "CRIU")
    contains(message(api(d, "DELETE", "/containers/c1/checkpoints/x", status=404)), "checkpoint x does not exist for container c1")
    contains(message(api(d, "POST", "/containers/c1/start?checkpoint=x", status=404)), "checkpoint x does not exist")
    api(d, "GET", "/containers/none/checkpoints", status=404)


if __name__ == "__main__":
    run(setup, lambda d: d.close(), remove_all)
