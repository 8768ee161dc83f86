#!/usr/bin/env python3
"""The Docker dialect about the host: ping, versions, info, disk usage."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from tap import contains, equal, run, test


def setup():
    return docker_daemon("docksys")


def request(d, method, path):
    c = d.docker.connection()
    c.request(method, path)
    r = c.getresponse()
    data = r.read()
    c.close()
    return r, data


@test
def ping(d):
    """_ping with GET and HEAD, with and without a version"""
    for path in ("/_ping", "/v1.24/_ping", "/v1.44/_ping"):
        r, data = request(d, "GET", path)
        equal((r.status, data, r.headers["Api-Version"], r.headers["Ostype"]), (200, b"OK", "1.51", "linux"))
        equal((r.headers["Docker-Experimental"], r.headers["Swarm"]), ("true", "inactive"))
        contains(r.headers["Cache-Control"], "no-cache")
        r, data = request(d, "HEAD", path)
        equal((r.status, data, r.headers["Api-Version"]), (200, b"", "1.51"))


@test
def versions(d):
    """versions that are not spoken are refused before anything else, in dockerd's words"""
    new = "client version {} is too new. Maximum supported API version is 1.51"
    old = ("client version {} is too old. Minimum supported API version is 1.24, please upgrade your client to a newer "
           "version")
    for version, text in (("1.52", new), ("1.99", new), ("1.100", new), ("2.0", new), ("1.23", old), ("1.12", old), ("1.2", old),
                          ("0.9", old), ("1", old)):
        equal(d.docker.api("GET", f"/v{version}/version"), (400, {"message": text.format(version)}))
        equal(d.docker.api("POST", f"/v{version}/containers/x/exec", {"Cmd": 3})[0], 400)
    for version in ("1.24", "1.30", "1.44", "1.44.0"):
        equal(d.docker.api("GET", f"/v{version}/version")[0], 200)
    equal(d.docker.api("GET", "/v1.44/nosuch")[0], 404)
    equal(d.docker.api("GET", "/vx/version")[0], 404)


@test
def version(d):
    """version says what runs, to the client too"""
    v = d.docker.api("GET", "/version")[1]
    equal((v["ApiVersion"], v["MinAPIVersion"], v["Os"]), ("1.51", "1.24", "linux"))
    equal(v["KernelVersion"], os.uname().release)
    equal(v["Components"][0]["Name"], "Engine")
    equal(v["Components"][0]["Version"], v["Version"])
    contains(d.docker.out("version"), v["Version"])
    equal(d.docker.out("version", "--format", "{{.Server.APIVersion}}"), "1.51")


@test
def info(d):
    """info counts, and names the host as it is"""
    d.cli("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    d.cli("create", "--name", "two", "busybox")
    i = d.docker.api("GET", "/v1.44/info")[1]
    equal([i[k] for k in ("Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images")], [2, 1, 0, 1, 1])
    equal((i["NCPU"], i["Name"], i["OSType"]), (os.cpu_count(), os.uname().nodename, "linux"))
    equal(i["MemTotal"], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    equal((i["Swarm"]["LocalNodeState"], i["DockerRootDir"]), ("inactive", d.state + "/control"))
    assert isinstance(i["Warnings"], list) and isinstance(i["Labels"], list) and i["ID"], i
    again = d.docker.api("GET", "/v1.44/info")[1]
    equal(again["ID"], i["ID"])
    contains(d.docker.out("info"), "Containers: 2")
    equal(json.loads(d.docker.out("info", "--format", "{{json .SecurityOptions}}")), i["SecurityOptions"])


@test
def disk_usage(d):
    """df adds up images, containers and volumes, and gives what was asked for"""
    d.docker.out("volume", "create", "data")
    d.docker.out("run", "--network", "none", "--name", "fill", "-v", "data:/data", "busybox", "sh", "-c",
                 "head -c 300000 /dev/zero >/f; head -c 200000 /dev/zero >/data/f")
    u = d.docker.api("GET", "/v1.44/system/df")[1]
    assert u["LayersSize"] > 0 and u["Images"][0]["Size"] == u["LayersSize"], u
    equal((len(u["Images"]), u["Images"][0]["Containers"], u["BuildCache"]), (1, 1, []))
    assert u["Containers"][0]["SizeRw"] >= 300000, u["Containers"]
    usage = next(v for v in u["Volumes"] if v["Name"] == "data")["UsageData"]
    assert usage["Size"] >= 200000 and usage["RefCount"] == 1, usage
    u = d.docker.api("GET", "/v1.44/system/df?type=volume")[1]
    equal((u["Images"], u["Containers"], len(u["Volumes"])), (None, None, 1))
    equal(d.docker.api("GET", "/v1.44/system/df?type=nosuch")[0], 400)
    equal(["BuilderSize" in d.docker.api("GET", v + "/system/df")[1] for v in ("/v1.41", "/v1.42")], [True, False])
    contains(d.docker.out("system", "df"), "Local Volumes")
    contains(d.docker.out("system", "df", "-v"), "data")


def clean(d):
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)


run(setup, lambda d: d.close(), clean)
