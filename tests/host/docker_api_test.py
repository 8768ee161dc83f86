#!/usr/bin/env python3
"""The Docker Engine API as its description has it, field by field: headers of every kind of answer, members of bodies of the wrong
kind, names in another case, parameters that are not what they must be."""
import json
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from tap import contains, equal, run, test

SERVICE = {"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "busybox", "Command": ["sleep", "1000"]}}, "Mode": {"Replicated": {"Replicas": 0}}}
# a member of a body, and what it must not be
WRONG = {
    "/containers/create": ({"Image": "busybox", "Cmd": ["true"]}, {
        "Image": 3, "Env": "x", "Cmd": {}, "Labels": [], "Tty": "x", "StopTimeout": "x", "ExposedPorts": "x", "Volumes": 3, "Healthcheck.Test": 3,
        "Healthcheck.Interval": "x", "HostConfig": [], "HostConfig.Binds": "x", "HostConfig.PortBindings": [], "HostConfig.Memory": "x",
        "HostConfig.Mounts": {}, "HostConfig.Tmpfs": [], "HostConfig.ExtraHosts": "x", "HostConfig.RestartPolicy.Name": 3,
        "HostConfig.LogConfig.Config": [], "HostConfig.ConsoleSize": "x", "HostConfig.Ulimits": {}, "HostConfig.Privileged": 1,
        "NetworkingConfig": 3, "NetworkingConfig.EndpointsConfig": []}),
    "/containers/made/exec": ({"Cmd": ["true"]}, {"Cmd": "x", "Tty": 1, "ConsoleSize": [1], "Env": {}, "User": 0}),
    "/containers/made/update": ({}, {"Memory": "x", "RestartPolicy": [], "CpusetCpus": 1}),
    "/networks/create": ({"Name": "n"}, {"Name": 3, "Internal": "x", "IPAM": [], "IPAM.Config": {}, "Options": [], "Labels": "x"}),
    "/networks/bridge/connect": ({"Container": "made"}, {"Container": 3, "EndpointConfig": [], "EndpointConfig.Aliases": "x"}),
    "/volumes/create": ({"Name": "v"}, {"Name": [], "DriverOpts": "x", "Labels": []}),
    "/secrets/create": ({"Name": "x", "Data": "eA=="}, {"Name": 3, "Data": 3, "Labels": [], "Templating": "x"}),
    "/configs/create": ({"Name": "x", "Data": "eA=="}, {"Name": 3, "Data": [], "Labels": "x", "Templating": 3}),
    "/swarm/update?version=1": ({}, {
        "Name": 3, "Labels": [], "Orchestration": "x", "Orchestration.TaskHistoryRetentionLimit": "x", "Raft.SnapshotInterval": 1.5,
        "Dispatcher": 3, "CAConfig.NodeCertExpiry": "x", "CAConfig.ExternalCAs": ["x"], "EncryptionConfig.AutoLockManagers": 1}),
    "/services/create": (SERVICE, {
        "Labels": "x", "TaskTemplate": [], "TaskTemplate.ContainerSpec": "x", "TaskTemplate.ContainerSpec.Env": "x",
        "TaskTemplate.ContainerSpec.Mounts": "x", "TaskTemplate.ContainerSpec.Secrets": ["x"], "TaskTemplate.ContainerSpec.Hostname": 3,
        "TaskTemplate.ContainerSpec.Healthcheck.Interval": "x", "TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges": 3,
        "TaskTemplate.ContainerSpec.StopGracePeriod": 1.5, "TaskTemplate.Resources.Limits.MemoryBytes": "x",
        "TaskTemplate.RestartPolicy.Delay": "x", "TaskTemplate.Placement.Constraints": "x", "TaskTemplate.ForceUpdate": "x",
        "TaskTemplate.Networks": {}, "Mode": "x", "Mode.Replicated.Replicas": "x", "UpdateConfig.MaxFailureRatio": "x",
        "EndpointSpec.Ports": {}, "EndpointSpec.Ports.TargetPort": "x"}),
}


def platform(**kw):
    return urllib.parse.quote(json.dumps(kw))


def filters(**kw):
    return "filters=" + urllib.parse.quote(json.dumps(kw))


# "METHOD path": the status
PARAMETERS = {
    "GET /containers/json?limit=x": 400, "GET /containers/json?" + filters(nosuch=["x"]): 400,
    "GET /containers/json?" + filters(status=["x"]): 400, "GET /containers/made/logs": 400, "GET /containers/made/logs?stdout=1&since=x": 400,
    "GET /containers/made/archive": 400, "GET /containers/made/top": 409, "POST /containers/made/stop?t=x": 400,
    "POST /containers/made/stop?signal=X": 400, "POST /containers/made/restart?t=x": 400, "POST /containers/made/kill?signal=X": 400,
    "POST /containers/made/kill": 409, "POST /containers/made/wait?condition=x": 400, "POST /containers/made/resize?h=x&w=1": 400,
    "POST /containers/made/rename?name=": 400, "POST /containers/made/rename?name=made": 400,
    "POST /containers/made/attach?stdout=1&detachKeys=bad-keys": 400, "GET /images/busybox/json?platform=x": 400,
    "GET /images/busybox/json?platform=" + platform(os="linux", architecture="s390x"): 404,
    "GET /images/busybox/json?manifests=1&platform=" + platform(os="linux"): 400,
    "GET /images/busybox/history?platform=x": 400, "GET /images/busybox/get?platform=x": 400, "POST /images/busybox/push?platform=x": 400,
    "POST /images/load?platform=x": 400, "DELETE /images/busybox?platforms=x": 400, "GET /images/get": 400,
    "GET /images/search": 400, "GET /images/search?term=x&limit=1000": 400, "POST /images/busybox/tag?repo=UPPER": 400,
    "GET /images/json?" + filters(dangling=["x"]): 400, "POST /images/prune?" + filters(until=["x"]): 400,
    "POST /volumes/prune?" + filters(until=["1h"]): 400, "POST /build/prune?keep-storage=x": 400, "GET /system/df?type=x": 400,
    "GET /events?since=x&until=1": 400, "GET /networks/bridge?verbose=x": 400, "GET /networks/bridge?verbose=1": 200,
    "GET /networks/bridge?scope=x": 404, "GET /services/s?insertDefaults=x": 400, "GET /services/s?insertDefaults=1": 200,
    "GET /services/s/logs": 400, "POST /services/s/update?version=x": 400, "POST /services/s/update?version=1&rollback=x": 400,
    "POST /swarm/update?version=1&rotateWorkerToken=x": 400, "GET /nodes?" + filters(role=["x"]): 500, "PUT /containers/made/archive": 400,
    "POST /commit": 400, "POST /commit?container=made&repo=UPPER": 400, "GET /networks?" + filters(type=["x"]): 400,
}


def setup():
    d = docker_daemon("dockapi")
    try:
        equal(d.docker.api("POST", "/containers/create?name=made", {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}})[0], 201)
        equal(d.docker.api("POST", "/swarm/init", {"AdvertiseAddr": "127.0.0.1"})[0], 200)
        equal(d.docker.api("POST", "/services/create", SERVICE)[0], 201)
    except BaseException:
        d.close()
        raise
    return d


def headers(d, method, path, body=None, more=None):
    c = d.docker.connection()
    try:
        c.request(method, path, body, more or {})
        r = c.getresponse()
        return r.status, r.headers
    finally:
        c.close()


@test
def every_answer_says_whose_it_is(d):
    """JSON, errors, pages that are not there, versions that are not spoken, streams, archives and upgrades"""
    upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
    for status, method, path, more in ((200, "GET", "/info", None), (404, "GET", "/containers/x/json", None), (404, "GET", "/nosuch", None),
                                       (400, "GET", "/v1.99/info", None), (200, "GET", "/events?since=1&until=2", None),
                                       (200, "GET", "/containers/made/archive?path=/etc", None), (200, "HEAD", "/_ping", None),
                                       (200, "GET", "/containers/made/logs?stdout=1", None),
                                       (101, "POST", "/containers/made/attach?logs=1&stdout=1&stream=0", upgrade)):
        got, h = headers(d, method, path, None, more)
        equal(got, status, f"{method} {path}")
        equal([h.get_all(k) for k in ("Api-Version", "Ostype", "Docker-Experimental")], [["1.51"], ["linux"], ["true"]], f"{method} {path}")
        contains(h["Server"], " (linux)", f"{method} {path}")


def put(body, path, value):
    body = json.loads(json.dumps(body))
    *parts, last = path.split(".")
    at = body
    for part in parts:
        if part == "Ports":
            at[part] = [{}]
            at = at[part][0]
        else:
            at = at.setdefault(part, {})
    at[last] = value
    return body


@test
def members_of_the_wrong_kind(d):
    """a member that is not of its kind is refused by name, and nothing is made"""
    before = [d.docker.api("GET", path)[1] for path in ("/containers/json?all=1", "/networks", "/volumes", "/services", "/secrets")]
    for path, (body, members) in WRONG.items():
        for member, value in members.items():
            status, answer = d.docker.api("POST", path, put(body, member, value))
            equal(status, 400, f"{path} {member}={value!r}: {answer}")
            contains(answer["message"], member.split(".")[-1], f"{path} {member}={value!r}")
    after = [d.docker.api("GET", path)[1] for path in ("/containers/json?all=1", "/networks", "/volumes", "/services", "/secrets")]
    equal(after, before)


@test
def names_in_any_case(d):
    """as dockerd takes them: also HealthCheck of a service, which the description itself has"""
    equal(d.docker.api("POST", "/containers/create?name=case", {
        "image": "busybox", "CMD": ["sleep", "7"], "env": ["A=b"],
        "hostconfig": {"memory": 64 << 20, "networkmode": "none", "binds": ["/tmp:/t"]}})[0], 201)
    i = d.docker.api("GET", "/containers/case/json")[1]
    equal((i["Config"]["Cmd"], i["HostConfig"]["Memory"], i["HostConfig"]["NetworkMode"], i["Mounts"][0]["Destination"]),
          (["sleep", "7"], 64 << 20, "none", "/t"))
    contains(i["Config"]["Env"], "A=b")
    service = put(dict(SERVICE, Name="case"), "TaskTemplate.ContainerSpec.HealthCheck", {"Test": ["CMD", "true"], "interval": 7000000000})
    equal(d.docker.api("POST", "/services/create", service)[0], 201)
    equal(d.docker.api("GET", "/services/case")[1]["Spec"]["TaskTemplate"]["ContainerSpec"]["Healthcheck"],
          {"Test": ["CMD", "true"], "Interval": 7000000000})


@test
def parameters(d):
    """what a parameter cannot be is refused with the status that is documented"""
    bad = []
    for request, wanted in PARAMETERS.items():
        method, path = request.split(" ")
        body = b"" if method == "PUT" else None
        status, answer = d.docker.api(method, path, body)
        if status != wanted or (status >= 400 and not (isinstance(answer, dict) and answer.get("message"))):
            bad.append(f"{request}: {status} {answer}, not {wanted}")
    assert not bad, "\n".join(bad)


def posted(d, path, data, kind="application/json"):
    c = d.docker.connection()
    try:
        c.request("POST", path, data, {"Content-Type": kind} if kind else {})
        r = c.getresponse()
        return r.status, json.loads(r.read() or "null")
    finally:
        c.close()


@test
def bodies_that_are_no_json(d):
    """another type, half of an object, more than one: each is said"""
    for path in ("/containers/create", "/containers/made/exec", "/containers/made/update", "/networks/create", "/networks/bridge/connect",
                 "/networks/bridge/disconnect", "/volumes/create", "/auth", "/commit?container=made", "/services/create", "/secrets/create"):
        equal(posted(d, path, b"{}", "text/plain"),
              (400, {"message": "unsupported Content-Type header (text/plain): must be 'application/json'"}), path)
        status, answer = posted(d, path, b"{half")
        equal((status, answer["message"].split(":")[0]), (400, "invalid JSON"), path)
        equal(posted(d, path, b"{} more"), (400, {"message": "unexpected content after JSON"}), path)


@test
def paths_of_old(d):
    """/networks/ is the list; an upgrade is asked for after the container"""
    equal(d.docker.api("GET", "/v1.30/networks/"), d.docker.api("GET", "/v1.30/networks"))
    equal(d.docker.api("GET", "/containers/nosuch/attach/ws"), (404, {"message": "No such container: nosuch"}))
    equal(d.docker.api("GET", "/containers/made/archive?path=/etc/passwd/"), (400, {"message": "/etc/passwd/ in container made: not a directory"}))
    equal(d.docker.api("PUT", "/containers/made/archive?path=/etc/passwd/", b""),
          (400, {"message": "/etc/passwd/ in container made: not a directory"}))


HEALTH = {"Interval": -10000000, "Timeout": -1, "StartPeriod": 1000, "StartInterval": 1000}
OPTIONS = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}


def creation(d, host, version="", **config):
    return d.docker.api("POST", version + "/containers/create", {"Image": "busybox", "Cmd": ["true"], "HostConfig": host, **config})


def created(d, host, version="", **config):
    """HostConfig and Mounts of what is made of it."""
    status, answer = creation(d, host, version, **config)
    equal(status, 201, answer)
    seen = d.docker.api("GET", f"/containers/{answer['Id']}/json")[1]
    equal(d.docker.api("DELETE", f"/containers/{answer['Id']}?v=1")[0], 204)
    return seen["HostConfig"], seen["Mounts"], seen["Config"]


@test
def creations_that_cannot_be(d):
    """in dockerd's words"""
    for member, value in HEALTH.items():
        equal(creation(d, {}, Healthcheck={"Test": ["CMD", "true"], member: value}),
              (400, {"message": f"{member} in Healthcheck cannot be less than 1ms"}))
    equal(creation(d, {}, Healthcheck={"Retries": -10}), (400, {"message": "Retries in Healthcheck cannot be negative"}))
    for kind in OPTIONS:
        mount = {"Type": kind, "Target": "/m", **({} if kind == "tmpfs" else {"Source": "/tmp" if kind == "bind" else "some"})}
        for other in OPTIONS.values():
            status, answer = creation(d, {"Mounts": [{**mount, other: {}}]})
            if other == OPTIONS[kind]:
                equal(status, 201, answer)
            else:
                equal((status, answer["message"]), (400, f'invalid mount config for type "{kind}": field {other} must not be specified'))


@test
def creations_as_they_are_shown(d):
    """[] hides nothing; what came as a member of Mounts has no mode"""
    host = created(d, {"MaskedPaths": [], "ReadonlyPaths": []})[0]
    equal((host["MaskedPaths"], host["ReadonlyPaths"]), ([], []))
    equal(created(d, {"Privileged": True})[0]["MaskedPaths"], None)
    listed = [{"Type": "volume", "Target": "/a/"}, {"Type": "volume", "Source": "named", "Target": "/b", "ReadOnly": True},
              {"Type": "bind", "Source": "/tmp", "Target": "/c", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"}}]
    mounts = {m["Destination"]: (m["Mode"], m["RW"], m["Propagation"]) for m in created(d, {"Mounts": listed, "Binds": ["/tmp:/d:ro"]})[1]}
    equal(mounts, {"/a": ("z", True, ""), "/b": ("z", False, ""), "/c": ("", False, "rslave"), "/d": ("ro", False, "rprivate")})


@test
def creations_of_older_versions(d):
    """what came later has no effect, what was lenient is"""
    equal([created(d, {}, v)[0]["IpcMode"] for v in ("/v1.39", "/v1.40", "")], ["shareable", "private", "private"])
    equal([created(d, {"AutoRemove": True}, v)[0]["AutoRemove"] for v in ("/v1.24", "/v1.25")], [False, True])
    equal([created(d, {"CgroupnsMode": "host"}, v)[0]["CgroupnsMode"] for v in ("/v1.40", "/v1.41")], ["private", "host"])
    equal([created(d, {"Annotations": {"a": "b"}}, v)[0].get("Annotations") for v in ("/v1.42", "/v1.43")], [None, {"a": "b"}])
    tmpfs = {"Mounts": [{"Type": "tmpfs", "Target": "/t", "VolumeOptions": {"NoCopy": True}}]}
    equal([creation(d, tmpfs, v)[0] for v in ("/v1.41", "/v1.42")], [201, 400])
    early = {"Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 5000000000}}
    equal([created(d, {}, v, **early)[2]["Healthcheck"].get("StartInterval") for v in ("/v1.43", "/v1.44")], [None, 5000000000])
    for name in ("one", "two"):
        equal(d.docker.api("POST", "/networks/create", {"Name": name})[0], 201)
    both = {"NetworkingConfig": {"EndpointsConfig": {"one": {}, "two": {}}}}
    equal(creation(d, {}, "/v1.43", **both), (400, {"message": "Container cannot be created with multiple network endpoints"}))
    created(d, {}, "/v1.44", **both)
    body = {"Image": "busybox", "Cmd": ["true"]}
    equal([d.docker.api("POST", v + "/containers/create?platform=linux/s390x", body)[0] for v in ("/v1.40", "/v1.41")], [201, 404])


@test
def nothing_is_copied_to_where_nothing_may_be_written(d):
    """read-only mounts and roots are 403; the innermost mount counts"""
    status, answer = d.docker.api("POST", "/containers/create?name=closed", {"Image": "busybox", "Cmd": ["true"], "HostConfig": {
        "NetworkMode": "none", "ReadonlyRootfs": True, "Binds": ["outer:/ro:ro", "inner:/ro/rw"]}})
    equal(status, 201, answer)
    for path, message in (("/etc", "container rootfs is marked read-only"), ("/ro", "mounted volume is marked read-only"),
                          ("/ro/x", "mounted volume is marked read-only")):
        equal(d.docker.api("PUT", "/containers/closed/archive?path=" + path, b""), (403, {"message": message}), path)
    equal(d.docker.api("PUT", "/containers/closed/archive?path=/ro/rw", b"")[0] == 403, False)


run(setup, lambda d: d.close())
