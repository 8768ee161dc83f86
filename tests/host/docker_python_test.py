#!/usr/bin/env python3
"""python3-docker, Debian's library for Docker's API, over all of its surface against a private daemon."""
import io
import os
import sys
import tarfile
import threading

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)
import docker as own
from networks import private
from registry import debian_registry
from tap import contains, equal, need, run, test
from wabe import Daemon, wait_until

# tests/lib has a module of the same name
sys.path = [p for p in sys.path if os.path.realpath(p) != os.path.realpath(LIB)]
del sys.modules["docker"]
try:
    import docker
    import docker.errors
    import docker.types
except ImportError:
    docker = None


def refused(kind, fn, *args, **kw):
    """The message of the error of that kind, which fn must raise."""
    try:
        fn(*args, **kw)
    except kind as e:
        return str(getattr(e, "explanation", None) or e)
    raise AssertionError(f"{fn} is not refused")


def sleeper(d, **kw):
    return d.client.containers.run("busybox", "sleep 1000", detach=True, **kw)


def tar_of(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            t.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@test
def the_host(d):
    c = d.client
    equal(c.ping(), True)
    equal(c.version()["Os"], "linux")
    equal(c.info()["OSType"], "linux")
    equal(sorted(k for k in c.df() if k in ("Containers", "Images", "LayersSize", "Volumes", "BuildCache")),
          ["BuildCache", "Containers", "Images", "LayersSize", "Volumes"])
    equal(c.plugins.list(), [])
    contains(refused(docker.errors.NotFound, c.plugins.get, "nosuch"), 'plugin "nosuch" not found')


@test
def run_gives_output_or_the_error(d):
    c = d.client.containers
    equal(c.run("busybox", "echo hello", remove=True), b"hello\n")
    equal(c.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True, stdout=False), b"err\n")
    try:
        c.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
        raise AssertionError("status 3 is no error")
    except docker.errors.ContainerError as e:
        equal((e.exit_status, e.stderr), (3, b"bad\n"))
    contains(refused(docker.errors.ImageNotFound, d.client.api.create_container, "nosuchimage", "true"), "No such image: nosuchimage")
    contains(refused(docker.errors.APIError, c.run, "busybox", "nosuchcommand"), "executable file not found")
    equal(b"".join(c.run("busybox", ["sh", "-c", "echo 1; echo 2"], remove=True, stream=True)), b"1\n2\n")


@test
def the_life_of_a_container(d):
    x = sleeper(d, name="life", labels={"a": "b"}, environment={"E": "f"}, hostname="h", working_dir="/tmp", user="1000:50")
    equal((x.name, x.status, x.labels["a"], x.attrs["Config"]["Hostname"]), ("life", "created", "b", "h"))
    x.reload()
    equal(x.status, "running")
    equal(d.client.containers.get("life").id, x.id)
    equal(d.client.containers.get(x.short_id).id, x.id)
    x.pause()
    x.reload()
    equal(x.status, "paused")
    x.unpause()
    x.rename("other")
    equal(d.client.containers.get("other").id, x.id)
    refused(docker.errors.NotFound, d.client.containers.get, "life")
    x.restart(timeout=0)
    x.update(mem_limit="64m", memswap_limit="128m")
    x.reload()
    equal(x.attrs["HostConfig"]["Memory"], 64 << 20)
    equal([row[-1] for row in x.top()["Processes"]], ["sleep 1000"])
    equal(x.stats(stream=False)["pids_stats"]["current"], 1)
    contains(refused(docker.errors.APIError, x.remove), "You cannot remove a running container")
    x.kill("KILL")
    equal(x.wait()["StatusCode"], 137)
    x.start()
    x.stop(timeout=0)
    x.remove(v=True)
    contains(refused(docker.errors.NotFound, x.reload), "No such container")


@test
def lists_and_filters(d):
    one, two = sleeper(d, name="one", labels=["x"]), sleeper(d, name="two")
    two.kill()
    two.wait()
    names = lambda **kw: sorted(c.name for c in d.client.containers.list(**kw))
    equal(names(), ["one"])
    equal(names(all=True), ["one", "two"])
    equal(names(all=True, filters={"label": "x"}), ["one"])
    equal(names(filters={"status": "exited"}), ["two"])
    equal(names(all=True, filters={"exited": 137}), ["two"])
    equal(names(all=True, filters={"ancestor": "busybox", "name": "t"}), ["two"])
    equal(names(all=True, limit=1), ["two"])
    equal(names(all=True, filters={"before": "two"}), ["one"])
    equal(names(all=True, filters={"since": "one"}), ["two"])
    contains(refused(docker.errors.APIError, names, filters={"nosuch": "x"}), "nvalid filter 'nosuch'")
    equal([c["Names"] for c in d.client.api.containers(quiet=False, size=True)], [["/one"]])


@test
def exec_in_its_ways(d):
    x = sleeper(d)
    equal(tuple(x.exec_run("echo hi")), (0, b"hi\n"))
    equal(tuple(x.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)), (4, (b"o\n", b"e\n")))
    equal(x.exec_run("sh -c 'echo $V; pwd; id -u'", environment={"V": "v"}, workdir="/tmp", user="alice").output, b"v\n/tmp\n1000\n")
    equal(b"".join(x.exec_run("sh -c 'echo 1; echo 2'", stream=True).output), b"1\n2\n")
    equal(x.exec_run("tty", tty=True).output, b"/dev/pts/0\r\n")
    equal(x.exec_run("nosuch").exit_code, 127)
    api = d.client.api
    e = api.exec_create(x.id, ["sh", "-c", "read x; echo got $x; exit 5"], stdin=True)
    s = api.exec_start(e["Id"], socket=True)
    raw = getattr(s, "_sock", s)
    equal(api.exec_inspect(e["Id"])["Running"], True)
    raw.sendall(b"typed\n")
    data = b""
    while b"got typed\n" not in data:
        got = raw.recv(4096)
        assert got, f"the end came after {data!r}"
        data += got
    s.close()
    wait_until(lambda: not api.exec_inspect(e["Id"])["Running"], 20, "the end of the exec")
    equal(api.exec_inspect(e["Id"])["ExitCode"], 5)
    e = api.exec_create(x.id, "sleep 1000", tty=True)
    api.exec_start(e["Id"], detach=True)
    api.exec_resize(e["Id"], 30, 100)
    contains(refused(docker.errors.NotFound, api.exec_inspect, "nosuch"), "No such exec instance: nosuch")


@test
def logs_attach_and_terminals(d):
    x = d.client.containers.run("busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; done"], detach=True)
    x.wait()
    equal(x.logs(), b"1\n2\n3\n")
    equal(x.logs(stdout=False), b"")
    equal(x.logs(stderr=False), b"1\n2\n3\n")
    equal(x.logs(stderr=False, tail=1), b"3\n")
    equal(list(x.logs(stream=True, follow=True, stderr=False))[-1][-2:], b"3\n")
    contains(x.logs(timestamps=True, stderr=False, tail=1), b"Z 3\n")
    equal(x.logs(since=2**31), b"")
    y = d.client.containers.create("busybox", "cat", stdin_open=True, tty=False)
    s = y.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    y.start()
    raw = getattr(s, "_sock", s)
    raw.sendall(b"through\n")
    data = b""
    while len(data) < 16:
        got = raw.recv(64)
        assert got, f"the end came after {data!r}"
        data += got
    equal(data, b"\x01\0\0\0\0\0\0\x08through\n")
    s.close()
    z = d.client.containers.run("busybox", "sh", stdin_open=True, tty=True, detach=True)
    z.resize(33, 101)
    wait_until(lambda: z.exec_run("sh -c 'stty size </proc/1/fd/0'").output == b"33 101\n", 20, "the size of the terminal")


@test
def files_in_and_out(d):
    x = sleeper(d)
    assert x.put_archive("/tmp", tar_of(a=b"aaa", b=b"bb"))
    equal(x.exec_run("cat /tmp/a /tmp/b").output, b"aaabb")
    stream, stat = x.get_archive("/tmp/a")
    equal((stat["name"], stat["size"]), ("a", 3))
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as t:
        equal(t.extractfile("a").read(), b"aaa")
    contains(refused(docker.errors.NotFound, x.get_archive, "/nosuch"), "Could not find the file /nosuch in container")
    equal({(c["Kind"], c["Path"]) for c in x.diff()}, {(0, "/tmp"), (1, "/tmp/a"), (1, "/tmp/b")})
    with tarfile.open(fileobj=io.BytesIO(b"".join(x.export()))) as t:
        contains([n.lstrip("./") for n in t.getnames()], "tmp/a")


@test
def images(d):
    c = d.client.images
    image = c.get("busybox")
    contains(image.tags, "busybox:latest")
    equal(c.get(image.id).id, image.id)
    equal(c.get(image.short_id).id, image.id)
    assert image.tag("other", "1") and "other:1" in c.get("busybox").tags
    contains([i.id for i in c.list("other")], image.id)
    contains([i.id for i in c.list(filters={"reference": "oth*"})], image.id)
    equal(len(image.history()), 1)
    image.reload()
    saved = b"".join(image.save(named="other:1"))
    c.remove("other:1")
    refused(docker.errors.ImageNotFound, c.get, "other:1")
    equal([i.tags for i in c.load(saved)], [c.get("busybox").tags])
    contains(c.get("busybox").tags, "other:1")
    c.remove("other:1")
    x = d.client.containers.run("busybox", ["touch", "/made"], detach=True)
    x.wait()
    made = x.commit("made", "1", message="m", author="a", changes="CMD echo made", conf={"Env": ["Q=r"]})
    equal(d.client.containers.run("made:1", remove=True), b"made\n")
    equal(made.attrs["Comment"], "m")
    c.remove("made:1")
    equal(c.prune(filters={"dangling": True})["SpaceReclaimed"] >= 0, True)
    contains(refused(docker.errors.ImageNotFound, c.remove, "nosuch"), "No such image: nosuch")
    equal(d.client.api.import_image_from_data(tar_of(x=b"y"), repository="imported", tag="2")[:1], "{")
    c.remove("imported:2")


@test
def builds(d):
    files = tar_of(**{"Dockerfile": b"FROM busybox\nARG A\nRUN echo built $A >/built\nCOPY f /f\nCMD cat /built /f\n", "f": b"file\n"})
    image, log = d.client.images.build(fileobj=io.BytesIO(files), custom_context=True, tag="py:1", buildargs={"A": "arg"},
                                       labels={"l": "v"}, rm=True)
    assert any(" : FROM busybox" in line.get("stream", "") for line in log)
    equal(image.labels, {"l": "v"})
    equal(d.client.containers.run("py:1", remove=True), b"built arg\nfile\n")
    bad = io.BytesIO(b"FROM busybox\nRUN exit 9\n")
    try:
        d.client.images.build(fileobj=bad)
        raise AssertionError("a failing step is no error")
    except docker.errors.BuildError as e:
        contains(str(e), "returned a non-zero code: 9")
    equal("SpaceReclaimed" in d.client.api.prune_builds(), True)
    d.client.images.remove("py:1", force=True)


@test
def a_registry(d):
    need("docker-registry", any(os.access(p + "/docker-registry", os.X_OK) for p in os.environ["PATH"].split(":")))
    process, host = debian_registry(d.dir)
    try:
        image = d.client.images.get("busybox")
        image.tag(f"{host}/path/busybox", "1")
        lines = list(d.client.images.push(f"{host}/path/busybox", "1", stream=True, decode=True))
        digest = next(line["aux"]["Digest"] for line in lines if "aux" in line)
        d.client.images.remove(f"{host}/path/busybox:1")
        pulled = d.client.images.pull(f"{host}/path/busybox", "1")
        equal(pulled.attrs["RepoDigests"], [f"{host}/path/busybox@{digest}"])
        data = d.client.images.get_registry_data(f"{host}/path/busybox:1")
        equal(data.id, digest)
        d.client.images.pull(f"{host}/path/busybox@{digest}")
        contains(refused(docker.errors.APIError, d.client.images.pull, f"{host}/nosuch", "1"), "not found")
        d.client.images.remove(f"{host}/path/busybox:1", force=True)
    finally:
        process.terminate()
        process.wait()


@test
def networks(d):
    c = d.client.networks
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.137.0.0/24", gateway="10.137.0.1")])
    n = c.create("pynet", driver="bridge", ipam=ipam, labels={"l": "v"}, internal=True, check_duplicate=True)
    equal(n.attrs["IPAM"]["Config"], [{"Subnet": "10.137.0.0/24", "Gateway": "10.137.0.1"}])
    equal([x.name for x in c.list(names=["pynet"])], ["pynet"])
    equal([x.name for x in c.list(filters={"label": "l=v"})], ["pynet"])
    x = sleeper(d, name="member")
    n.connect(x, aliases=["nick"], ipv4_address="10.137.0.9")
    n.reload()
    equal([m.name for m in n.containers], ["member"])
    x.reload()
    ours = x.attrs["NetworkSettings"]["Networks"]["pynet"]
    equal((ours["IPAddress"], "nick" in ours["Aliases"]), ("10.137.0.9", True))
    contains(refused(docker.errors.APIError, n.remove), "has active endpoints")
    n.disconnect(x)
    n.remove()
    refused(docker.errors.NotFound, c.get, "pynet")
    contains(refused(docker.errors.APIError, c.create, "bridge"), "bridge")
    c.create("pruned")
    contains(c.prune()["NetworksDeleted"], "pruned")


@test
def volumes(d):
    c = d.client.volumes
    v = c.create("pyvol", driver="local", labels={"k": "v"})
    equal((v.name, v.attrs["Labels"], c.get("pyvol").id), ("pyvol", {"k": "v"}, v.id))
    equal([x.name for x in c.list(filters={"label": "k"})], ["pyvol"])
    d.client.containers.run("busybox", "touch /v/x", volumes={"pyvol": {"bind": "/v", "mode": "rw"}}, remove=True)
    equal(d.client.containers.run("busybox", "ls /v", mounts=[docker.types.Mount("/v", "pyvol", read_only=True)], remove=True), b"x\n")
    x = sleeper(d, volumes=["pyvol:/v"])
    contains(refused(docker.errors.APIError, v.remove), "volume is in use")
    x.remove(force=True)
    v.remove()
    refused(docker.errors.NotFound, c.get, "pyvol")
    equal("VolumesDeleted" in c.prune(), True)


@test
def host_configurations(d):
    x = sleeper(d, cap_add=["NET_ADMIN"], cap_drop=["MKNOD"], cpu_shares=512, cpu_period=100000, cpu_quota=50000, cpuset_cpus="0",
                dns=["1.2.3.4"], dns_search=["s"], dns_opt=["ndots:2"], extra_hosts={"h": "1.2.3.4"}, group_add=["50"], init=True,
                mem_limit="128m", mem_reservation="64m", memswap_limit="256m", oom_score_adj=100, pids_limit=50, ports={"80/tcp": None, "81/udp": ("127.0.0.1", 18081)},
                read_only=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}, security_opt=["no-new-privileges"],
                shm_size="8m", stop_signal="SIGINT", sysctls={"net.ipv4.ip_forward": "0"}, tmpfs={"/t": "size=1m"},
                ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)], log_config=docker.types.LogConfig(type="json-file", config={"max-size": "1m"}),
                healthcheck={"test": ["CMD", "true"], "interval": 10**9})
    h = d.client.containers.get(x.id).attrs["HostConfig"]
    for key, wanted in (("CapAdd", ["NET_ADMIN"]), ("CpuShares", 512), ("CpuQuota", 50000), ("CpusetCpus", "0"), ("Dns", ["1.2.3.4"]),
                        ("DnsSearch", ["s"]), ("GroupAdd", ["50"]), ("Memory", 128 << 20), ("MemorySwap", 256 << 20), ("MemoryReservation", 64 << 20),
                        ("PidsLimit", 50), ("ReadonlyRootfs", True), ("ShmSize", 8 << 20), ("Tmpfs", {"/t": "size=1m"}), ("Init", True),
                        ("OomScoreAdj", 100), ("RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 2}),
                        ("Ulimits", [{"Name": "nofile", "Soft": 100, "Hard": 200}]), ("LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}})):
        equal(h[key] if key != "CapAdd" else [c.replace("CAP_", "") for c in h[key]], wanted, key)
    wait_until(lambda: d.client.containers.get(x.id).attrs["State"]["Health"]["Status"] == "healthy", 20, "health")


@test
def events_as_they_happen(d):
    seen, ready = [], threading.Event()
    events = d.client.events(decode=True, filters={"type": "container"})

    def follow():
        ready.set()
        for e in events:
            seen.append((e["Action"], e["Actor"]["Attributes"].get("name")))
            if e["Action"] == "destroy":
                return

    t = threading.Thread(target=follow)
    t.start()
    ready.wait()
    d.client.containers.run("busybox", "true", name="noisy", remove=True)
    t.join(30)
    events.close()
    assert not t.is_alive(), f"no destroy: {seen}"
    equal([a for a, name in seen if name == "noisy" and a in ("create", "start", "die", "destroy")], ["create", "start", "die", "destroy"])


@test
def prunes(d):
    d.client.containers.run("busybox", "true", name="done")
    equal(len(d.client.containers.prune()["ContainersDeleted"]), 1)
    equal(d.client.containers.prune(), {"ContainersDeleted": None, "SpaceReclaimed": 0})


@test
def no_swarm(d):
    for fn in (d.client.services.list, d.client.nodes.list, d.client.secrets.list, d.client.configs.list, d.client.swarm.leave):
        contains(refused(docker.errors.APIError, fn), "his node is not ")


def start():
    private()  # with the registry: all of this process
    daemon = Daemon("dockpy", netspace="host", network=None)
    try:
        daemon.start()
        d = own.Docker.of(daemon)
        d.daemon, d.dir = daemon, daemon.dir
        own.load_busybox(daemon)
        if docker:
            d.client = docker.DockerClient(base_url="unix://" + d.socket, version="auto", timeout=60)
    except BaseException:
        daemon.close()
        raise
    return d


def clean(d):
    if docker:
        for c in d.client.api.containers(all=True, quiet=True):
            d.client.api.remove_container(c["Id"], force=True, v=True)


def close(d):
    if docker:
        d.client.close()
    d.daemon.close()


if __name__ == "__main__":
    if not docker:
        print("1..0 # SKIP python3-docker is missing")
        sys.exit(0)
    run(start, close, clean)
