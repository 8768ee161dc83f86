#!/usr/bin/env python3
"""What buildx's docker driver speaks: BuildKit's Control and LLBBridge on /grpc, with a session on /session or within a call."""
import os
import secrets
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from buildkit import Connection, GrpcError, Tunnel, decode, encode, session_handlers, texts, upgrade
from docker import docker_daemon
from gitserver import Repository, Server
from tap import contains, equal, run, test

CONTROL, BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
daemon = docker = None


def control():
    return Connection(upgrade(docker.socket, "/grpc"))


class Session:
    def __init__(self, dockerfile, files=None, through=None, directories=None, **kw):
        self.id = secrets.token_hex(12)
        handlers = session_handlers({"dockerfile": {"Dockerfile": dockerfile.encode()}, "context": files or {}, **(directories or {})}, **kw)
        headers = [("X-Docker-Expose-Session-Uuid", self.id), ("X-Docker-Expose-Session-Name", "test")]
        if through:
            sock = Tunnel(through.call(CONTROL + "Session", headers=[(k.lower(), v) for k, v in headers], end=False))
        else:
            sock = upgrade(docker.socket, "/session", headers)
        self.connection = Connection(sock, handlers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def request(session, ref, frontend="dockerfile.v0", exporter="moby", attrs=None, **out):
    return encode([(1, ref), (3, exporter), *texts(4, out), (5, session.id if session else ""), (6, frontend), *texts(7, attrs or {})])


def follow(c, ref):
    """All that a solve says: ({digest: last vertex}, the bytes of its logs)."""
    call, vertexes, logs = c.call(CONTROL + "Status", encode([(1, ref)])), {}, b""
    while (m := call.receive()) is not None:
        m = decode(m)
        for v in m.get(1, []):
            v = decode(v)
            vertexes[v[1][0]] = v
        logs += b"".join(decode(x)[4][0] for x in m.get(3, []))
    return vertexes, logs


def names(vertexes):
    return [v[3][0].decode() for v in vertexes.values()]


def exporter_response(answer):
    return {decode(x)[1][0].decode(): decode(x)[2][0].decode() for x in answer.get(1, [])}


def image(name):
    return daemon.api("GET", f"/v1/projects/default/images/{name}")[1]


def refused(fn, code, part):
    try:
        fn()
    except GrpcError as e:
        equal(e.code, code, str(e))
        contains(e.message, part)
        return
    raise AssertionError("it was not refused")


@test
def what_there_is(_):
    c = control()
    worker = decode(c.ask(CONTROL + "ListWorkers")[1][0])
    contains(decode(worker[3][0])[2][0].decode(), "linux")
    equal(decode(c.ask(CONTROL + "Info")[1][0])[1], [b"wabe"])
    equal(c.ask(CONTROL + "DiskUsage"), {})
    refused(lambda: c.ask(CONTROL + "Nothing"), 12, "unknown method")
    c.close()


@test
def a_solve_and_what_it_says(_):
    c = control()
    large = os.urandom(3_000_000)
    with Session("FROM busybox\nCOPY . /c/\nRUN echo written && sha256sum /c/large\n", {"large": large, "d": None, "d/l": ("link", "../large")}) as s:
        ref, followed = secrets.token_hex(8), {}
        thread = threading.Thread(target=lambda: followed.update(got=follow(control(), ref)))
        thread.start()
        answer = exporter_response(c.ask(CONTROL + "Solve", request(s, ref, name="built:1,built:2")))
        thread.join(60)
    equal(answer["containerimage.digest"], image("built:1")["id"])
    equal(image("built:2")["id"], image("built:1")["id"])
    vertexes, logs = followed["got"]
    for name in ("[internal] load build definition from Dockerfile", "[1/3] FROM docker.io/library/busybox:latest", "[2/3] COPY . /c/",
                 "[internal] load build context", "exporting to image"):
        assert name in names(vertexes), (name, names(vertexes))
    assert all(6 in v for v in vertexes.values()), "a step has not ended"
    contains(logs.decode(), "written\n" + __import__("hashlib").sha256(large).hexdigest())
    c.close()


@test
def what_is_over_can_be_followed_still(_):
    c, ref = control(), secrets.token_hex(8)
    with Session("FROM busybox\nENV A=1\n") as s:
        c.ask(CONTROL + "Solve", request(s, ref, exporter=""))
    contains(names(follow(c, ref)[0]), "[1/1] FROM docker.io/library/busybox:latest")
    c.close()


@test
def a_session_within_a_call(_):
    c = control()
    with Session("FROM busybox\nCOPY f /f\nRUN --mount=type=secret,id=s,required=true sha256sum /run/secrets/s | cut -c1-8 > /sum\n",
                 {"f": b"x" * 300_000}, through=c, secrets={"s": b"abc"}) as s:
        c.ask(CONTROL + "Solve", request(s, secrets.token_hex(8), name="tunneled"))
    equal(daemon.cli("run", "--rm", "--network", "none", "tunneled", "sh", "-c", "cat /sum; wc -c < /f").stdout, "ba7816bf\n300000\n")
    c.close()


@test
def a_front_end_at_the_client(_):
    """As a newer buildx does it: a solve without a front end, which is asked of the bridge and returned"""
    c, ref = control(), secrets.token_hex(8)
    headers = [("buildkit-controlapi-buildid", ref)]
    with Session("FROM busybox\nRUN echo bridged > /b\n") as s:
        solve = c.call(CONTROL + "Solve", request(s, ref, frontend="", name="bridged"))
        caps = [decode(x)[1][0] for x in c.ask(BRIDGE + "Ping", headers=headers)[1]]
        assert b"return" in caps and b"solve.base" in caps, caps
        answer = c.ask(BRIDGE + "Solve", encode([(2, "dockerfile.v0"), *texts(3, {"label:l": "v"}), (5, 1)]), headers)
        made = decode(decode(answer[3][0])[3][0])[1][0]
        c.ask(BRIDGE + "Evaluate", encode([(1, made)]), headers)
        c.ask(BRIDGE + "Return", encode([(1, [(3, [(1, made)])])]), headers)
        equal(exporter_response(decode(solve.receive()))["containerimage.digest"], made.decode())
    equal(image("bridged")["config"]["labels"], {"l": "v"})
    with Session("FROM busybox\n") as s:
        ref = secrets.token_hex(8)
        solve = c.call(CONTROL + "Solve", request(s, ref, frontend=""))
        c.ask(BRIDGE + "Return", encode([(2, [(1, 2), (2, "the client has failed")])]), [("buildkit-controlapi-buildid", ref)])
        refused(solve.receive, 2, "the client has failed")
    c.close()


@test
def contexts_by_name(_):
    """Images and directories that stand for images and stages, in FROM, COPY --from and RUN --mount"""
    c = control()
    with Session("FROM busybox\nRUN echo replaced > /who\n") as s:
        c.ask(CONTROL + "Solve", request(s, secrets.token_hex(8), name="replacement"))
    text = """FROM no.such/image:1 AS base
FROM busybox AS stage
RUN false
FROM base
COPY --from=dir a sub/b /from/
COPY --from=stage /who /stage
COPY --from=elsewhere:latest /who /elsewhere
RUN --mount=type=bind,from=dir,target=/m cat /m/sub/b > /bound && ls /m > /listed
"""
    files = {"a": b"a\n", "sub": None, "sub/b": b"b\n", ".dockerignore": b"ignored\n", "ignored": b"x"}
    attrs = {"context:no.such/image:1": "docker-image://replacement", "context:stage": "docker-image://docker.io/library/replacement:latest",
             "context:elsewhere": "docker-image://replacement", "context:dir": "local:dir"}
    with Session(text, directories={"dir": files}) as s:
        c.ask(CONTROL + "Solve", request(s, secrets.token_hex(8), name="named", attrs=attrs))
    equal(daemon.cli("run", "--rm", "--network", "none", "named", "sh", "-c", "cat /who /from/a /from/b /stage /elsewhere /bound; grep -c . /listed").stdout,
          "replaced\na\nb\nreplaced\nreplaced\nb\n2\n")
    with Session("FROM dir\nRUN true\n", directories={"dir": files}) as s:
        refused(lambda: c.ask(CONTROL + "Solve", request(s, "r", attrs={"context:dir": "input:other"})), 12, "build context dir=input:other")
    c.close()


@test
def directories_that_stand_for_images(_):
    """FROM a directory: its files and nothing else, by their content in the cache"""
    c = control()
    with open("/bin/busybox", "rb") as f:
        files = {"bin": None, "bin/busybox": f.read(), "bin/sh": ("link", "busybox"), "f": b"1\n", ".dockerignore": b"ignored\n", "ignored": b"x"}
    text = """FROM base AS one
COPY --from=base --chmod=755 bin/busybox /bin/busybox
FROM one
COPY f /copied
RUN ["/bin/busybox", "cp", "/f", "/made"]
"""

    def built(**more):
        with Session(text, {"f": b"context's\n"}, directories={"base": {**files, **more}}) as s:
            c.ask(CONTROL + "Solve", request(s, secrets.token_hex(8), name="based", attrs={"context:base": "local:base"}))
        return image("based")
    first = built()
    equal(daemon.cli("run", "--rm", "--network", "none", "based", "/bin/busybox", "cat", "/f", "/copied", "/made").stdout, "1\ncontext's\n1\n")
    listed = daemon.cli("run", "--rm", "--network", "none", "based", "/bin/busybox", "ls", "/").stdout.split()
    assert "ignored" not in listed and {"bin", "f", "made", "copied"} <= {*listed}, listed
    equal(first["config"]["env"], ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
    equal(built()["id"], first["id"])
    assert built(f=b"2\n")["id"] != first["id"]
    equal(daemon.cli("run", "--rm", "--network", "none", "based", "/bin/busybox", "cat", "/made").stdout, "2\n")
    c.close()


@test
def contexts_from_elsewhere(_):
    """Repositories and files behind URLs that a name stands for"""
    c, top = control(), daemon.dir + "/served"
    repo = Repository(top + "/named.git", {"f": "1\n", "d/g": "g\n"})
    os.mkdir(top + "/files")
    with open(top + "/files/plain", "w") as f:
        f.write("plain\n")
    text = """FROM busybox
COPY --from=all . /all
COPY --from=part g /part/
COPY --from=file plain /plain
RUN --mount=type=bind,from=all,target=/m cat /m/d/g > /bound
FROM part AS files
FROM busybox
COPY --from=0 / /
COPY --from=files g /g
"""
    with Server(daemon.space, top) as server:
        attrs = {"context:all": server.git + "/named.git", "context:part": server.http + "/named.git#main:d", "context:file": server.http + "/files/plain"}
        with Session(text) as s:
            c.ask(CONTROL + "Solve", request(s, "elsewhere", name="elsewhere", attrs=attrs))
        shown = names(follow(c, "elsewhere")[0])
        for name in attrs:
            name = name.split(":")[1]
            contains(shown, f"[context {name}] {attrs['context:' + name]}")
        equal(daemon.cli("run", "--rm", "--network", "none", "elsewhere", "sh", "-c", "find /all | sort; cat /all/f /part/g /plain /bound /g").stdout.split(),
              ["/all", "/all/d", "/all/d/g", "/all/f", "1", "g", "plain", "g", "g"])
        repo.commit({"f": "2\n"})
        with Session(text) as s:
            c.ask(CONTROL + "Solve", request(s, "elsewhere-2", name="elsewhere", attrs=attrs))
            attrs["context:all"] = server.git + "/none.git"
            refused(lambda: c.ask(CONTROL + "Solve", request(s, "elsewhere-3", attrs=attrs)), 14, f"failed to fetch remote {server.git}/none.git")
        equal(daemon.cli("run", "--rm", "--network", "none", "elsewhere", "cat", "/all/f").stdout, "2\n")
    c.close()


@test
def caches_that_are_imported(_):
    """Images that are here, besides what was built before; others do no harm"""
    c, text = control(), "FROM busybox\nRUN date +%s%N > /when\n"

    def built(name, **attrs):
        with Session(text) as s:
            c.ask(CONTROL + "Solve", request(s, secrets.token_hex(8), name=name, attrs=attrs))
        return daemon.cli("run", "--rm", "--network", "none", name, "cat", "/when").stdout
    first = built("cached:1")
    imports = '[{"Type":"registry","Attrs":{"ref":"no.such/image:1"}},{"Type":"gha","Attrs":{}}]'
    equal(built("cached:2", **{"cache-imports": imports}), first)
    saved = docker.run("save", "cached:1", text=False).stdout
    docker.run("image", "rm", "cached:1", "cached:2")
    docker.run("image", "prune", "-f")
    docker.run("load", input=saved, text=False)
    equal(built("cached:3", **{"cache-imports": imports.replace("no.such/image", "cached")}), first)
    with Session(text) as s:
        refused(lambda: c.ask(CONTROL + "Solve", request(s, "r", attrs={"cache-imports": "{}"})), 3, "cache-imports: a list is wanted")
    c.close()


@test
def an_image_as_an_archive(_):
    """For others to load, with a name that the engine itself does not give it"""
    c = control()
    for kind in ("docker", "oci"):
        with Session(f"FROM busybox\nRUN echo {kind} > /kind\n", received=(received := [])) as s:
            c.ask(CONTROL + "Solve", request(s, secrets.token_hex(8), exporter=kind, name=f"archived-{kind}:1"))
            assert f"archived-{kind}" not in docker.out("image", "ls"), "it has got the name"
            refused(lambda: c.ask(CONTROL + "Solve", request(s, "r", exporter=kind, tar="false")), 12, "tar=false")
        contains(docker.run("load", input=b"".join(received), text=False).stdout.decode(), f"archived-{kind}:1")
        equal(daemon.cli("run", "--rm", "--network", "none", f"archived-{kind}:1", "cat", "/kind").stdout, kind + "\n")
    c.close()


@test
def what_is_refused(_):
    c = control()
    with Session("FROM busybox\nRUN exit 4\n") as s:
        for message, code, part in (
                (request(s, "r"), 3, "exit code: 4"),
                (request(s, "r") + encode([(2, [(1, b"llb")])]), 12, "LLB definitions"),
                (request(s, "r", frontend="other"), 12, "front end other"),
                (request(s, "r", exporter="other"), 12, 'exporter "other"'),
                (request(s, "r", name="UPPER case"), 3, "invalid reference format"),
                (request(s, "r", push="true"), 12, "push"),
                (request(s, "r", attrs={"attest:sbom": "x"}), 12, "attest:sbom"),
                (request(s, ""), 3, "reference"),
                (b"\xff\xff", 3, "no such message")):
            refused(lambda: c.ask(CONTROL + "Solve", message), code, part)
    refused(lambda: c.ask(CONTROL + "Status", encode([(1, "none")])), 5, "no such job")
    c.close()


@test
def clients_that_go_away(_):
    """In the middle of a solve: nothing stays of it"""
    from wabe import wait_until
    for who in ("control", "session"):
        c, ref = control(), secrets.token_hex(8)
        with Session("FROM busybox\nRUN echo begun && sleep 1000\n") as s:
            c.call(CONTROL + "Solve", request(s, ref))
            status = (other := control()).call(CONTROL + "Status", encode([(1, ref)]))
            while b"begun\n" not in b"".join(decode(x)[4][0] for x in decode(status.receive()).get(3, [])):
                pass
            refused(lambda: other.ask(CONTROL + "Solve", request(s, ref)), 2, "exists")
            (c if who == "control" else s.connection).close()
            wait_until(lambda: not daemon.api("GET", "/v1/projects/default/instances?all=1")[1]["instances"], 60, "the instance to go")
        other.close()
        c.close()


@test
def prune(_):
    c = control()
    call = c.call(CONTROL + "Prune", b"")
    while call.receive() is not None:
        pass
    refused(lambda: c.ask(CONTROL + "Prune", encode([(1, "x")])), 12, "filters")
    c.close()


def setup():
    global daemon, docker
    daemon = docker_daemon("buildx")
    docker = daemon.docker
    return daemon


if __name__ == "__main__":
    run(setup, lambda d: d.close())
