#!/usr/bin/env python3
"""The classic builder through the real docker client (DOCKER_BUILDKIT=0) on a private daemon: every instruction, the cache,
contexts of strangers, and what is left when a build is cut off."""
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon
from tap import contains, equal, run, test
from wabe import wait_until

daemon = docker = None


class Context:
    """A directory to build: files by name; a string is text, bytes are bytes, None a directory, ("link", x) a link."""

    def __init__(self, dockerfile, files=None):
        self.dir = tempfile.mkdtemp(prefix="context-", dir=daemon.dir)
        for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
            path = os.path.join(self.dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if content is None:
                os.makedirs(path)
            elif isinstance(content, tuple):
                os.symlink(content[1], path)
            else:
                with open(path, "wb") as f:
                    f.write(content if isinstance(content, bytes) else content.encode())


def build(dockerfile, files=None, *args, check=True, name="t"):
    """The finished client; its standard output is the build's."""
    return docker.run("build", "-t", name, *args, Context(dockerfile, files).dir, check=check)


def fails(dockerfile, *words, files=None, args=()):
    r = build(dockerfile, files, *args, check=False)
    assert r.returncode != 0, f"it built:\n{r.stdout}"
    for w in words:
        contains(r.stderr, w, "the error")
    return r


def image(name="t"):
    return daemon.api("GET", f"/v1/projects/default/images/{name}")[1]


def config(name="t"):
    return image(name)["config"]


def inside(*command, name="t"):
    """What the command writes in an instance of the image."""
    return daemon.cli("run", "--rm", "--network", "none", name, *command).stdout


def instances():
    return daemon.api("GET", "/v1/projects/default/instances?all=1")[1]["instances"]


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, content in files:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[content[0]], content[1]
                t.addfile(info)
            else:
                info.size = len(content)
                t.addfile(info, io.BytesIO(content))
    return out.getvalue()


def post(query, body, **headers):
    """(status, lines) of POST /build."""
    status, answer = docker.api("POST", "/v1.44/build" + query, body, {"Content-Type": "application/x-tar", **headers})
    return status, [json.loads(x) for x in answer.splitlines()] if isinstance(answer, str) else [answer]


def stream(lines):
    return "".join(x.get("stream", "") for x in lines)


# ---- instructions ----

@test
def every_config_instruction(_):
    build("""FROM busybox
MAINTAINER Some Body <some@body>
ENV A=1 B="two words" C=three\\ more
ENV OLD one two  three
ENV REF=${A}-$B-${NONE:-none}-${A:+set}-\\$A-'$A'
LABEL x=1 "y z"="a b" long="c
d"
EXPOSE 80 53/udp 8000-8002
VOLUME /data /more
VOLUME ["/with space"]
USER 1000:1001
WORKDIR /work/${A}
WORKDIR sub
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=2s --start-period=1m --retries=7 CMD test -e /ok
SHELL ["/bin/busybox", "sh", "-c"]
ENTRYPOINT exec /bin/echo
CMD ["a", "b"]
ONBUILD RUN echo triggered
""".replace("c\nd", "cd"))
    c = config()
    equal(c["env"][-5:], ["A=1", "B=two words", "C=three more", "OLD=one two  three", "REF=1-two words-none-set-$A-$A"])
    equal(c["labels"], {"x": "1", "y z": "a b", "long": "cd"})
    equal(c["exposed_ports"], ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"])
    equal(sorted(c["volumes"]), ["/data", "/more", "/with space"])
    equal((c["user"], c["workdir"], c["stop_signal"]), ("1000:1001", "/work/1/sub", "SIGUSR1"))
    equal(c["health"], {"command": ["CMD-SHELL", "test -e /ok"], "interval": "5s", "timeout": "2s", "start_period": "1m", "retries": 7})
    equal(c["shell"], ["/bin/busybox", "sh", "-c"])
    equal((c["entrypoint"], c["command"]), (["/bin/busybox", "sh", "-c", "exec /bin/echo"], ["a", "b"]))
    equal(c["on_build"], ["RUN echo triggered"])


@test
def checks_in_the_start_period(_):
    """HEALTHCHECK --start-interval, which counts for the cache, too"""
    line = "HEALTHCHECK --interval=1h --start-period=1h --start-interval={} CMD true"
    build("FROM busybox\n" + line.format("20ms"))
    equal(config()["health"], {"command": ["CMD-SHELL", "true"], "interval": "1h", "start_period": "1h", "start_interval": "20ms"})
    equal(json.loads(docker.out("image", "inspect", "t"))[0]["Config"]["Healthcheck"]["StartInterval"], 20_000_000)
    docker.run("run", "-d", "--name", "checked", "--network", "none", "t", "sleep", "1000")
    wait_until(lambda: docker.inspect("checked")["State"]["Health"]["Status"] == "healthy", 60, "the first check")
    docker.run("rm", "-f", "checked")
    equal(cached(build("FROM busybox\n" + line.format("20ms"))), 1)
    equal(cached(build("FROM busybox\n" + line.format("30ms"))), 0)


@test
def triggers_run_in_the_next_build(_):
    build("FROM busybox\nONBUILD COPY x /x\nONBUILD RUN echo triggered > /y\n", name="trigger")
    r = build("FROM trigger\n", {"x": "the context's"})
    contains(r.stdout, "# Executing 2 build triggers")
    equal(inside("cat", "/x", "/y"), "the context'striggered\n")
    assert not config().get("on_build")


@test
def triggers_run_in_later_stages(_):
    r = build("FROM busybox AS base\nONBUILD COPY x /x\nONBUILD ENV A=b\nFROM base AS one\nRUN cp /x /y\nFROM base\nCOPY --from=one /y /z\n",
              {"x": "the context's"})
    equal(r.stdout.count("# Executing 2 build triggers"), 2)
    equal(inside("cat", "/x", "/z"), "the context's" * 2)
    contains(config()["env"], "A=b")
    assert not config().get("on_build")


@test
def history_is_as_dockers(_):
    build("""FROM busybox
ENV A=b C=d
ARG X=1
RUN echo $X
COPY f /x
CMD ["a", "b c"]
ENTRYPOINT /bin/true
WORKDIR /
EXPOSE 80
VOLUME /a /b
LABEL k=v
""", {"f": ""})
    d = daemon.dir + "/save"
    shutil.rmtree(d, ignore_errors=True)
    os.mkdir(d)
    daemon.cli("image", "save", "t", "-o", d + "/x.tar")
    with tarfile.open(d + "/x.tar") as t:
        manifest = json.load(t.extractfile("manifest.json"))[0]
        history = json.load(t.extractfile(manifest["Config"]))["history"]
    by = [(h["created_by"], bool(h.get("empty_layer"))) for h in history[-10:]]
    equal(by[0], ("/bin/sh -c #(nop)  ENV A=b C=d", True))
    equal(by[1], ("/bin/sh -c #(nop)  ARG X=1", True))
    equal(by[2], ("|1 X=1 /bin/sh -c echo $X", False))
    assert by[3][0].startswith("/bin/sh -c #(nop) COPY file:") and by[3][0].endswith(" in /x "), by[3]
    equal(by[3][1], False)
    equal([x[0].split("#(nop) ")[1] for x in by[4:]],  # WORKDIR, a step with files, has one space
          [' CMD ["a" "b c"]', ' ENTRYPOINT ["/bin/sh" "-c" "/bin/true"]', "WORKDIR /", " EXPOSE 80", " VOLUME [/a /b]", " LABEL k=v"])


@test
def output_is_as_dockerds(_):
    r = build("ARG V=latest\nFROM busybox:$V\nRUN echo out; echo err >&2\n")
    lines = r.stdout.splitlines()
    at = lines.index("Step 1/3 : ARG V=latest")
    equal(lines[at + 1], "Step 2/3 : FROM busybox:$V")
    assert lines[at + 2].startswith(" ---> ") and len(lines[at + 2]) == 18, lines[at + 2]
    equal(lines[at + 3], "Step 3/3 : RUN echo out; echo err >&2")
    container = lines[at + 4].removeprefix(" ---> Running in ")
    equal(sorted(lines[at + 5:at + 7]), ["err", "out"])
    equal(lines[at + 7], "Removing intermediate container " + container)
    equal(lines[at + 9], "Successfully built " + lines[at + 8].removeprefix(" ---> "))
    equal(lines[at + 10], "Successfully tagged t:latest")
    equal(instances(), [])


@test
def run_forms_user_and_directory(_):
    build("""FROM busybox
WORKDIR /w
RUN ["/bin/busybox", "touch", "a b"]
RUN pwd > where
USER 7:8
RUN id > /tmp/who
""")
    equal(inside("cat", "/w/where", "/tmp/who"), "/w\nuid=7 gid=8 groups=8\n")
    equal(inside("ls", "/w"), "a b\nwhere\n")


@test
def a_command_that_fails(_):
    r = fails("FROM busybox\nRUN exit 3\nRUN echo never\n", "The command '/bin/sh -c exit 3' returned a non-zero code: 3")
    equal(r.returncode, 3)
    assert "never" not in r.stdout
    # to be looked at, as dockerd does
    wait_until(lambda: [i["status"]["exit_code"] for i in instances()] == [3], 20, "the end of the instance")
    daemon.cli("rm", instances()[0]["spec"]["name"])
    fails("FROM busybox\nRUN exit 4\n", "non-zero code: 4", args=["--force-rm"])
    equal(instances(), [])
    fails('FROM busybox\nRUN ["/no/such"]\n', args=["--force-rm"])
    equal(instances(), [])


@test
def instances_stay_when_asked(_):
    build("FROM busybox\nRUN true\n", None, "--rm=false", "--no-cache")
    left = instances()
    equal(len(left), 1)
    daemon.cli("rm", left[0]["spec"]["name"])


# ---- arguments ----

@test
def build_arguments(_):
    text = """ARG TOP=top
FROM busybox
ARG TOP
ARG A=default
ARG B=$A-more
ARG UNSET
ENV FROM_ARG=$A
RUN echo "$TOP $A $B ${UNSET-unset} $HTTP_PROXY" > /args
"""
    build(text, None, "--build-arg", "HTTP_PROXY=")
    equal(inside("cat", "/args"), "top default default-more unset \n")
    r = build(text, None, "--build-arg", "A=given", "--build-arg", "UNSET=x", "--build-arg", "HTTP_PROXY=http://p", "--build-arg", "ODD=1")
    equal(inside("cat", "/args"), "top given given-more x http://p\n")
    contains(r.stdout, "[Warning] One or more build-args [ODD] were not consumed")
    env = config()["env"]
    assert "FROM_ARG=given" in env and not any(e.startswith(("A=", "HTTP_PROXY")) for e in env), env


@test
def environment_goes_before_arguments(_):
    build("FROM busybox\nARG X=arg\nENV X=env\nRUN echo $X > /x\n", None, "--build-arg", "X=given")
    equal(inside("cat", "/x"), "env\n")


# ---- COPY and ADD ----

FILES = {"a.txt": "a", "b.txt": "b", "c.md": "c", "dir/d": "d", "dir/sub/e": "e", "dir/link": ("link", "d"), "run.sh": "#!"}


@test
def copy_to_all_sorts_of_places(_):
    build("""FROM busybox
RUN mkdir -p /there /real && ln -s real /alias && chmod 1777 /there
COPY a.txt /file
COPY a.txt /there
COPY a.txt /new/
COPY a.txt b.txt /two/
COPY dir /dir
COPY dir/ /there/
COPY *.txt ./rel/
COPY a.txt /alias/via
COPY ["c.md", "/a b/"]
WORKDIR /w
COPY a.txt .
COPY . all
COPY d?r/su[b] /glob
""", FILES)
    def found(path):
        return sorted(inside("find", path, "-type", "f").split())
    equal(inside("cat", "/file"), "a")
    equal(found("/there"), ["/there/a.txt", "/there/d", "/there/sub/e"])
    equal(inside("stat", "-c", "%a", "/there"), "1777\n")
    equal(found("/new"), ["/new/a.txt"])
    equal(found("/two"), ["/two/a.txt", "/two/b.txt"])
    equal(found("/dir"), ["/dir/d", "/dir/sub/e"])
    equal(inside("readlink", "/dir/link"), "d\n")
    equal(found("/rel"), ["/rel/a.txt", "/rel/b.txt"])
    equal(inside("cat", "/real/via"), "a")
    equal(inside("readlink", "/alias"), "real\n")
    equal(inside("ls", "/a b"), "c.md\n")
    equal(len(found("/w/all")), 7)
    equal(found("/glob"), ["/glob/e"])


@test
def copy_owners_and_modes(_):
    build("""FROM busybox
RUN echo "app:x:123:45:::" >> /etc/passwd && echo "grp:x:77:" >> /etc/group
COPY a.txt /plain
COPY --chown=5 a.txt /five
COPY --chown=5:6 dir /made/dir
COPY --chown=app a.txt /app
COPY --chown=app:grp --chmod=4750 a.txt /both
COPY --chmod=700 dir /tight
""", FILES)
    def owner(path):
        return inside("stat", "-c", "%u:%g %a", path).strip()
    equal(owner("/plain"), "0:0 644")
    equal(owner("/five"), "5:5 644")
    equal([owner(p) for p in ("/made", "/made/dir", "/made/dir/sub", "/made/dir/d")], ["5:6 755", "5:6 755", "5:6 755", "5:6 644"])
    equal(owner("/app"), "123:45 644")
    equal(owner("/both"), "123:77 4750")
    equal(owner("/tight/d"), "0:0 700")
    fails("FROM busybox\nCOPY --chown=nobody-here a.txt /\n", "can't find uid for user nobody-here", files=FILES)
    fails("FROM busybox\nCOPY --chmod=rw a.txt /\n", "invalid chmod parameter", files=FILES)


@test
def copy_what_is_not_there(_):
    fails("FROM busybox\nCOPY nothing /\n", "COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist")
    fails("FROM busybox\nCOPY *.none /\n", "COPY failed: no source files were specified")
    fails("FROM busybox\nCOPY a.txt b.txt /x\n", "the destination must be a directory and end with a /", files=FILES)
    fails("FROM busybox\nCOPY ../x /\n", "forbidden path outside the build context: ../x ()")
    fails("FROM busybox\nRUN touch /f\nCOPY a.txt /f/g\n", files=FILES)


@test
def ignored_files_stay_out(_):
    build("FROM busybox\nCOPY . /c\n", {**FILES, ".dockerignore": "*.txt\n!b.txt\ndir/sub\nDockerfile\n.dockerignore\n"})
    equal(sorted(inside("find", "/c", "-type", "f").split()), ["/c/b.txt", "/c/c.md", "/c/dir/d", "/c/run.sh"])


@test
def add_unpacks_archives(_):
    plain = tar_of([("x/y", b"content"), ("z", b"zz")])
    files = {"a.tar": plain, "b.tgz": gzip.compress(plain), "c.tar.xz": lzma.compress(plain), "d.tar": b"not an archive"}
    build("""FROM busybox
ADD a.tar /a
ADD b.tgz /b/
ADD c.tar.xz /c
ADD d.tar /d
COPY a.tar /kept
""", files)
    for at in "abc":
        equal(inside("cat", f"/{at}/x/y", f"/{at}/z"), "contentzz")
    equal(inside("cat", "/d"), "not an archive")
    equal(inside("sh", "-c", "wc -c < /kept").strip(), str(len(plain)))


class Web:
    """Files of a directory, served inside the daemon's network name space."""

    def __init__(self, files):
        self.dir = Context("", files).dir
        os.utime(self.dir + "/f", (784111777, 784111777))
        code = ("import http.server as h\n"
                f"s = h.ThreadingHTTPServer(('127.0.0.1', 0), lambda *a: h.SimpleHTTPRequestHandler(*a, directory={self.dir!r}))\n"
                "print(s.server_address[1], flush=True)\ns.serve_forever()\n")
        self.process = subprocess.Popen(daemon.space.command("python3", "-c", code), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@test
def add_from_urls(_):
    with Web({"f": "fetched", "sub/g.tar": tar_of([("x", b"")])}) as web:
        build(f"""FROM busybox
ADD {web.url}/f /named
ADD {web.url}/f {web.url}/sub/g.tar /dir/
ADD --chown=3:4 {web.url}/f?query=1 /q/
""")
        equal(inside("cat", "/named", "/dir/f", "/q/f"), "fetched" * 3)
        equal(inside("stat", "-c", "%u:%g %a %Y", "/named", "/q/f"), "0:0 600 784111777\n3:4 600 784111777\n")
        contains(inside("ls", "/dir"), "g.tar")  # not unpacked
        equal(cached(build(f"FROM busybox\nADD {web.url}/f /named\n")), 1)
        fails(f"FROM busybox\nADD {web.url}/none /x\n", "with status 404")
        fails("FROM busybox\nADD http://127.0.0.1:1/x /x\n", "ADD failed: Get \"http://127.0.0.1:1/x\"")


@test
def remote_contexts(_):
    with Web({"f": "FROM busybox\nLABEL from=text\n", "c.tgz": gzip.compress(tar_of([("Dockerfile", b"FROM busybox\nCOPY x /x\n"), ("x", b"far")]))}) as web:
        contains(stream(post("?t=t&remote=" + web.url + "/f", b"")[1]), "Successfully tagged")
        equal(config()["labels"]["from"], "text")
        post("?t=t&remote=" + web.url + "/c.tgz", b"")
        equal(inside("cat", "/x"), "far")
        status, lines = post("?remote=" + web.url + "/none", b"")
        contains(lines[0]["message"], "status 404")


# ---- stages ----

@test
def stages_and_targets(_):
    text = """FROM busybox AS base
RUN echo base > /base
FROM base AS left
RUN echo left > /side
FROM busybox AS right
RUN mkdir /r && echo right > /r/side && ln -s side /r/link
FROM busybox AS unused
RUN exit 9
FROM left
COPY --from=right /r /r
COPY --from=right /r/link /followed
COPY --from=2 /r/s* /wild/
COPY --from=base /base /copied
COPY --from=busybox /bin/busybox /bb
"""
    r = build(text)
    equal(inside("cat", "/base", "/side", "/r/side", "/followed", "/wild/side", "/copied"), "base\nleft\nright\nright\nright\nbase\n")
    equal(inside("readlink", "/r/link"), "side\n")
    assert "unused" not in r.stdout
    build(text, None, "--target", "base", name="target")
    equal(inside("cat", "/base", name="target"), "base\n")
    fails(text, "failed to reach build target nowhere in Dockerfile", args=["--target", "nowhere"])
    fails("FROM busybox\nCOPY --from=none-such/image /x /x\n", "invalid from flag value none-such/image")
    fails("FROM busybox AS a\nFROM busybox\nCOPY --from=a /nothing /x\n", "COPY failed: stat /nothing: file does not exist")


@test
def from_scratch(_):
    build("FROM scratch\nCOPY hello /hello\nCMD [\"/hello\"]\n", {"hello": open("/bin/busybox", "rb").read()})
    equal(config()["command"], ["/hello"])
    equal(len(image()["layers"]), 1)
    fails("FROM scratch\n", "No image was generated")


@test
def stages_run_side_by_side(_):
    """Each waits for the other: one after the other they would not end."""
    with_volume = "FROM busybox AS %s\nRUN for i in $(seq 600); do nc -w 1 127.0.0.1 %d </dev/null && exit 0; sleep 0.05; done; exit 1\n"
    a = "FROM busybox AS a\nRUN echo hi | timeout 60 nc -l -p 7001 >/dev/null\n"
    b = with_volume % ("b", 7001)
    build(a + b + "FROM busybox\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n", None, "--network", "host", "--no-cache")


# ---- the cache ----

def cached(r):
    return r.stdout.count("Using cache")


@test
def the_cache(_):
    text = "FROM busybox\nENV A=1\nCOPY f /f\nRUN echo $RANDOM > /r\nARG X=1\nRUN echo $X\n"
    build(text, {"f": "one"}, "--no-cache")
    first = image()["id"]
    equal(cached(build(text, {"f": "one"})), 5)
    equal(image()["id"], first)
    os.utime(Context(text, {"f": "one"}).dir)
    equal(cached(build(text, {"f": "two"})), 1)  # ENV alone: the file has changed
    equal(cached(build(text, {"f": "one"})), 5)
    equal(cached(build(text, {"f": "one"}, "--build-arg", "X=2")), 4)
    equal(cached(build(text.replace("A=1", "A=2"), {"f": "one"})), 0)
    equal(cached(build(text, {"f": "one"}, "--no-cache")), 0)
    context = Context(text, {"f": "one"})
    os.chmod(context.dir + "/f", 0o755)
    equal(docker.run("build", context.dir).stdout.count("Using cache"), 1)


@test
def cache_of_an_image_from_elsewhere(_):
    text = "FROM busybox\nENV FAR=1\nRUN echo $RANDOM > /r\nLABEL x=%s\n"
    build(text % 1, None, "--no-cache", name="far")
    layer, number = image("far")["layers"][-1]["diff_id"], inside("cat", "/r", name="far")
    archive = daemon.dir + "/far.tar"
    daemon.cli("image", "save", "far", "-o", archive)
    daemon.cli("image", "rm", "far")
    daemon.cli("image", "prune")
    daemon.cli("image", "load", "-i", archive)
    equal(cached(build(text % 2, None, "--cache-from", "none-such")), 0)
    daemon.cli("image", "rm", "t")
    daemon.cli("image", "prune")
    equal(cached(build(text % 2, None, "--cache-from", "far")), 2)
    equal((image()["layers"][-1]["diff_id"], inside("cat", "/r")), (layer, number))
    equal(config()["labels"]["x"], "2")


@test
def proxies_do_not_count(_):
    text = "FROM busybox\nRUN echo $http_proxy\n"
    build(text, None, "--build-arg", "http_proxy=http://a", "--no-cache")
    equal(cached(build(text, None, "--build-arg", "http_proxy=http://b")), 1)


@test
def steps_in_between_are_images(_):
    build("FROM busybox\nENV A=1\nENV B=2\n", None, "--no-cache")
    last = image()
    middle = image(last["parent"].removeprefix("sha256:"))
    equal(middle["config"]["env"][-1], "A=1")
    equal(middle.get("names", []), [])
    equal(middle["parent"], image("busybox")["id"])


# ---- what the request says ----

@test
def options_of_the_request(_):
    build("FROM busybox\nRUN grep -c 'marker 10.1.2.3\\|10.1.2.3.*marker' /etc/hosts > /h; cat /sys/class/net/*/operstate | wc -l > /n; ulimit -n >> /n\n", None,
          "--add-host", "marker:10.1.2.3", "--network", "none", "--label", "b=2", "--label", "a=1", "--memory", "100m",
          "--shm-size", "32m", "--ulimit", "nofile=123:456", "--cpu-shares", "512", "-t", "second:tag")
    equal(config()["labels"], {"a": "1", "b": "2"})
    equal(image("second:tag")["id"], image()["id"])
    equal(inside("cat", "/h", "/n"), "1\n1\n123\n")
    r = build("FROM busybox\nRUN echo loud\n", None, "-q")
    equal(r.stdout.strip(), image()["id"])
    context = Context("broken", {"other/File": "FROM busybox\nLABEL file=other\n"})
    docker.run("build", "-t", "t", "-f", context.dir + "/other/File", context.dir)
    equal(config()["labels"]["file"], "other")
    iid = context.dir + "/iid"
    docker.run("build", "--iidfile", iid, "-f", context.dir + "/other/File", context.dir)
    equal(open(iid).read(), image()["id"])


@test
def squashed_by_the_client(_):
    """which asks the engine for its experimental mode first"""
    build("FROM busybox\nRUN echo 1 > /a\nRUN rm /a; echo 2 > /b\n", None, "--squash", name="sq")
    equal(len(image("sq")["layers"]), len(image("busybox")["layers"]) + 1)
    equal(inside("cat", "/b", name="sq"), "2\n")


@test
def squashed(_):
    status, lines = post("?t=t&squash=1&nocache=1", tar_of([("Dockerfile", b"""FROM busybox
RUN mkdir /d && echo 1 > /d/one && echo 2 > /d/two && echo 3 > /top
RUN rm /d/one && rm -r /top && echo 22 > /d/two && rm /bin/yes
RUN rm -r /d && mkdir /d && echo 4 > /d/four
""")]))
    contains(stream(lines), "Successfully tagged")
    equal(len(image()["layers"]), len(image("busybox")["layers"]) + 1)
    equal(inside("sh", "-c", "find /d -type f; ls /top /bin/yes 2>/dev/null; cat /d/four"), "/d/four\n4\n")


@test
def a_dockerfile_from_standard_input(_):
    r = docker.run("build", "-t", "t", "-", input="FROM busybox\nLABEL from=stdin\n")
    equal(config()["labels"]["from"], "stdin")
    body = tar_of([("Dockerfile", b"FROM busybox\nCOPY f /f\n"), ("f", b"piped")])
    docker.run("build", "-t", "t", "-", input=gzip.compress(body), text=False)
    equal(inside("cat", "/f"), "piped")
    contains(r.stdout, "Successfully built")


@test
def contexts_in_every_compression(_):
    body = tar_of([("Dockerfile", b"FROM busybox\nLABEL x=y\n")])
    for data in (body, gzip.compress(body), lzma.compress(body), subprocess.run(["bzip2"], input=body, capture_output=True).stdout,
                 subprocess.run(["zstd", "-q"], input=body, capture_output=True).stdout):
        status, lines = post("", data)
        equal(status, 200)
        contains(stream(lines), "Successfully built")


# ---- what Dockerfiles of today have ----

def build_volumes():
    return [v for v in daemon.api("GET", "/v1/projects/default/volumes")[1]["volumes"]]


@test
def here_documents(_):
    """RUN's go to the shell, or are a script of its own; COPY's are files, with variables unless the name is quoted"""
    build("""# syntax=docker/dockerfile:1
FROM busybox
ARG WHO=you
RUN <<EOF
set -e
echo first > /a
echo "$WHO" >> /a
EOF
RUN cat <<ONE > /b && cat <<-'TWO' >> /b
one $WHO
ONE
	two $WHO
	TWO
RUN <<SCRIPT
#!/bin/busybox sh
echo "I am $0" > /c
SCRIPT
COPY <<conf <<'raw' /etc/made/
who=${WHO:-none} "quoted" \\$WHO
conf
who=$WHO
raw
COPY --chmod=755 --chown=3:4 <<EOF /tool
#!/bin/sh
echo tool
EOF
""")
    equal(inside("cat", "/a", "/b", "/c"), "first\nyou\none you\ntwo $WHO\nI am /dev/pipes/SCRIPT\n")
    equal(inside("cat", "/etc/made/conf", "/etc/made/raw"), 'who=you "quoted" $WHO\nwho=$WHO\n')
    equal(inside("/tool"), "tool\n")
    equal(inside("stat", "-c", "%u:%g %a", "/tool"), "3:4 755\n")
    equal([v for v in build_volumes() if "build" not in v["spec"]["name"]], [])


@test
def mounts_of_run(_):
    """a cache stays for later builds and in no image, a bind shows the context, a stage, one file; tmpfs; what comes in sessions"""
    text = """FROM busybox AS made
RUN mkdir /out && echo stage > /out/f
FROM busybox
WORKDIR /work
ARG N
RUN --mount=type=cache,target=/cache,id=mine,mode=0777,sharing=locked echo $N >> /cache/all; cat /cache/all > /seen
RUN --mount=target=/ctx --mount=from=made,source=/out,target=rel --mount=type=bind,source=one,target=/single cat /ctx/two rel/f /single > /bound
RUN --mount=type=bind,target=/ctx,rw echo new > /ctx/new && cat /ctx/new >> /bound
RUN --mount=type=bind,target=/ctx touch /ctx/x 2>/dev/null || echo read-only >> /bound
RUN --mount=type=tmpfs,target=/mem,size=1m df -k /mem | tail -1 | awk '{print $2}' >> /bound
RUN --mount=type=secret,id=key --mount=type=ssh test ! -e /run/secrets/key
RUN --network=none ip -o link | wc -l >> /bound
"""
    files = {"one": "1\n", "two": "2\n"}
    build(text, files, "--build-arg", "N=a")
    equal(inside("cat", "/seen", "/bound"), "a\n2\nstage\n1\nnew\nread-only\n1024\n1\n")
    contains(build(text, files, "--build-arg", "N=a").stdout, "Using cache")
    build(text, files, "--build-arg", "N=b")
    equal(inside("cat", "/seen"), "a\nb\n")
    equal(inside("sh", "-c", "ls -A /cache /ctx /mem 2>/dev/null | grep -v :", name="t").split(), [])
    build(text, {"one": "1\n", "two": "changed\n"}, "--build-arg", "N=b")
    equal(inside("head", "-1", "/bound"), "changed\n")
    caches = [v for v in build_volumes() if v["spec"]["labels"].get("wabe.build-cache") == "mine"]
    equal((len(caches), len(build_volumes())), (1, 1))
    equal(docker.api("GET", "/volumes")[1]["Volumes"], [])
    status, pruned = docker.api("POST", "/build/prune")
    equal((status, build_volumes()), (200, []))


@test
def platforms(_):
    """the variables of the platform are there at the top, and in stages that declare them"""
    arch = daemon.api("GET", "/v1/info")[1]["agent"]["architecture"]
    build("FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nARG TARGETPLATFORM\nRUN echo $TARGETARCH $TARGETPLATFORM [$TARGETOS] > /p\n")
    equal(inside("cat", "/p"), f"{arch} linux/{arch} []\n")
    build("FROM busybox\nARG TARGETARCH=mine\nRUN echo $TARGETARCH > /p\n", None, "--build-arg", "TARGETARCH=theirs")
    equal(inside("cat", "/p"), "theirs\n")


@test
def checked_downloads(_):
    """ADD --checksum takes what it was told to, and nothing else"""
    good = "sha256:" + hashlib.sha256(b"content").hexdigest()
    with Web({"f": "content"}) as web:
        build(f"FROM busybox\nADD --checksum={good} {web.url}/f /f\n")
        equal(inside("cat", "/f"), "content")
        fails(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {web.url}/f /f\n", "digest mismatch")
    fails(f"FROM busybox\nADD --checksum={good} Dockerfile /f\n", "checksum can't be specified for Dockerfile")


# ---- bad input ----

@test
def bad_dockerfiles(_):
    for text, why in (("FOO x", "dockerfile parse error line 1: unknown instruction: FOO"),
                      ("FROM busybox\n\nBAR y", "dockerfile parse error line 3: unknown instruction: BAR"),
                      ("FROM busybox\nRUN --mount=type=cache true", "a mount of type cache needs a target"),
                      ("FROM busybox\nRUN --mount=type=odd,target=/x true", 'unsupported mount type "odd"'),
                      ("FROM busybox\nRUN --mount=type=secret,id=key,required=true true", "secret key: not found"),
                      ("FROM busybox\nRUN --mount=type=bind,source=nosuch,target=/x true", "nosuch: file does not exist"),
                      ("FROM busybox\nRUN --mount=colour=red true", "unexpected key 'colour'"),
                      ("FROM busybox\nENV a", "ENV must have two arguments"),
                      ("FROM busybox\nEXPOSE x", "invalid containerPort: x"),
                      ("FROM busybox\nSTOPSIGNAL NONE", "Invalid signal: NONE"),
                      ("FROM busybox\nENV a=${b", "syntax error: missing '}'"),
                      ("FROM $NONE", "should not be blank"),
                      ("# only\n", "file with no instructions")):
        fails(text, why)
    status, lines = post("", tar_of([("Dockerfile", b"FOO")]))
    equal((status, lines), (400, [{"message": "dockerfile parse error line 1: unknown instruction: FOO"}]))
    status, lines = post("", tar_of([("other", b"")]))
    equal((status, lines), (500, [{"message": "Cannot locate specified Dockerfile: Dockerfile"}]))
    status, lines = post("", tar_of([("Dockerfile", b"")]))
    equal((status, lines), (500, [{"message": "the Dockerfile (Dockerfile) cannot be empty"}]))


@test
def bad_requests(_):
    body = tar_of([("Dockerfile", b"FROM busybox")])
    for query, status, why in (("?version=3", 400, "invalid version"), ("?buildargs={", 400, "error parsing buildargs"),
                               ("?buildargs=[1]", 400, "an object of strings"), ("?labels=[]", 400, "an object of strings"),
                               ("?cachefrom={}", 400, "a list of strings"), ("?memory=x", 400, "memory"),
                               ("?t=UPPER%20case", 400, "invalid reference format"), ("?remote=client-session", 400, "BuildKit"),
                               ("?remote=ftp://x/y", 400, "http or https"),
                               ("?remote=git://127.0.0.1:1/y", 500, "failed to fetch remote git://127.0.0.1:1/y"),
                               ("?outputs=[{\"Type\":\"local\"}]", 400, "BuildKit"), ("?platform=windows/amd64", 400, "windows"),
                               ("?target=x", 400, "failed to reach build target x")):
        got, lines = post(query, body)
        equal(got, status, query)
        contains(lines[0].get("message", lines[0]), why, query)
    equal(docker.api("POST", "/v1.44/build/cancel")[0], 400)
    equal(docker.api("POST", "/v1.44/build/cancel?id=none")[0], 200)


@test
def hostile_contexts(_):
    dockerfile = ("Dockerfile", b"FROM busybox\nCOPY . /c\n")
    outside = daemon.dir + "/secret"
    with open(outside, "w") as f:
        f.write("secret")
    for files, why in (([dockerfile, ("../up", b"x")], "leads out of it"),
                       ([dockerfile, ("a/../../up", b"x")], "leads out of it"),
                       ([dockerfile, ("h", ("hard", "/etc/passwd"))], "hard link"),
                       ([dockerfile, ("h", ("hard", "../x"))], "hard link")):
        status, lines = post("", tar_of(files))
        equal(status, 400)
        contains(lines[0]["message"], why)
    for junk in (b"x" * 10000, gzip.compress(b"y" * 1000), gzip.compress(tar_of([dockerfile]))[:-20], tar_of([dockerfile])[:700]):
        status, lines = post("", junk)
        assert status == 400, (status, lines)
    # links are links: what is read is inside the context, and nothing else
    for copy, why in ((b"l", "file does not exist"), (b"d/secret", "file does not exist"), (b"up", "file does not exist")):
        files = [("Dockerfile", b"FROM busybox\nCOPY " + copy + b" /c\n"), ("l", ("link", outside)), ("d", ("link", daemon.dir)),
                 ("up", ("link", "../../../../../.." + outside))]
        status, lines = post("", tar_of(files))
        contains(lines[-1]["error"], why)
    status, lines = post("?t=t", tar_of([dockerfile, ("l", ("link", outside)), ("in", b"x"), ("abs", ("link", "/in"))]))
    contains(stream(lines), "Successfully built")
    equal(inside("readlink", "/c/l").strip(), outside)
    # the last of several entries of one name counts, also where a directory was
    status, lines = post("?t=t", tar_of([("Dockerfile", b"FROM busybox\nCOPY a /a\n"), ("a", ("link", "/etc")), ("a/b", b"mine")]))
    contains(stream(lines), "Successfully built")
    equal(inside("cat", "/a/b"), "mine")


@test
def links_of_images_end_inside_them(_):
    build("FROM busybox AS evil\nRUN ln -s / /up && ln -s /proc/1/root /p && mkdir /x && ln -s ../../../etc /x/e\n"
          "FROM busybox\nCOPY --from=evil /x/e/passwd /pw\nCOPY --from=evil /up/etc/group /gr\n")
    contains(inside("cat", "/pw"), "root")
    fails("FROM busybox AS evil\nRUN ln -s /proc/1/root /p\nFROM busybox\nCOPY --from=evil /p/etc/passwd /pw\n", "file does not exist")
    build("FROM busybox\nRUN ln -s / /d && ln -s ../../../../tmp /t\nCOPY f /d/f\nCOPY f /t/f\n", {"f": "x"})
    equal(inside("cat", "/f", "/tmp/f"), "xx")


# ---- ends ----

SLEEPER = "FROM busybox\nRUN echo begun && sleep 1000\n"


def begun(process):
    for line in process.stdout:
        if line.strip() == b"begun":
            return
    raise AssertionError("the build ended")


def spools():
    """Files without a name that control has open."""
    found = 0
    pid = daemon.pids()["control"]
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += "(deleted)" in os.readlink(f"/proc/{pid}/fd/{fd}") and "state/control" in os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            pass
    return found


@test
def a_client_that_goes_away_ends_the_build(_):
    p = docker.start("build", "--no-cache", Context(SLEEPER).dir, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    begun(p)
    equal(len(instances()), 1)
    assert spools() > 0
    p.kill()
    p.wait()
    p.stdout.close()
    wait_until(lambda: not instances(), 30, "the end of the instance")
    wait_until(lambda: spools() == 0, 30, "the end of its files")


@test
def a_build_can_be_cancelled_by_its_id(_):
    body = tar_of([("Dockerfile", SLEEPER.encode())])
    got = []
    t = threading.Thread(target=lambda: got.append(post("?buildid=mine&nocache=1", body)))
    t.start()
    wait_until(lambda: any(i["status"]["state"] == "running" for i in instances()), 30, "the command")
    docker.api("POST", "/v1.44/build/cancel?id=mine")
    t.join(60)
    contains(got[0][1][-1]["error"], "build cancelled")
    equal(instances(), [])


@test
def killed_in_the_middle(_):
    text = "FROM busybox\nENV A=1\nRUN echo one > /one\nRUN --mount=target=/ctx test -e /none || { echo begun; sleep 1000; }\n"
    context = Context(text)
    p = docker.start("build", "--no-cache", context.dir, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    begun(p)
    os.kill(daemon.pids()["control"], signal.SIGKILL)
    p.wait()
    p.stdout.close()
    wait_until(lambda: "control" in daemon.pids() and docker.api("GET", "/_ping")[0] == 200, 30, "another control")
    wait_until(lambda: not instances(), 30, "the end of the instance")
    equal(daemon.shims(), [])
    wait_until(lambda: not build_volumes(), 30, "the end of what it had mounted")
    r = build(text.replace("sleep 1000", "true"))
    equal(cached(r), 2)
    equal(inside("cat", "/one"), "one\n")


@test
def both_killed_in_the_middle(_):
    p = docker.start("build", "--no-cache", Context(SLEEPER).dir, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    begun(p)
    daemon.kill()
    p.wait()
    p.stdout.close()
    daemon.start()
    wait_until(lambda: not instances(), 30, "the end of the instance")
    equal(os.listdir(daemon.state + "/agent/tmp"), [])
    build("FROM busybox\nRUN echo again\n")


@test
def faults_of_the_agent(_):
    """A worker that dies in the midst of a step is a step that failed; the next build succeeds."""
    daemon.stop()
    try:
        for point, text in (("layer-make.unpacked", "FROM busybox\nCOPY f /%s\n"), ("layer-file.renamed", "FROM busybox\nCOPY f /%s\n"),
                            ("commit.frozen", "FROM busybox\nRUN echo > /%s\n"), ("layer-file.renamed", "FROM busybox\nRUN echo > /%s\n")):
            name = point.replace(".", "-") + text[13]
            daemon.start(WABE_FAULT="worker:" + point)
            fails(text % name, files={"f": "x"}, args=["--force-rm"])
            equal(instances(), [])
            daemon.stop()
            daemon.start()
            build(text % name, {"f": "x"})
            equal(inside("ls", "/" + name), f"/{name}\n")
            equal(os.listdir(daemon.state + "/agent/tmp"), [])
            equal([x for x in os.listdir(daemon.state + "/agent/layers") if x.startswith(".")], [])
            daemon.stop()
    finally:
        if not daemon.process:
            daemon.start()


@test
def prune(_):
    build("FROM busybox\nENV PRUNE=1\nENV PRUNE=2\n", None, "--no-cache", name="gone")
    daemon.cli("image", "rm", "gone")
    status, answer = docker.api("POST", "/v1.44/build/prune")
    equal(status, 200)
    assert isinstance(answer["CachesDeleted"], list) and isinstance(answer["SpaceReclaimed"], int), answer


def setup():
    global daemon, docker
    daemon = docker_daemon("build")
    docker = daemon.docker
    return daemon


def clean(d):
    """What a test that failed has left does not make the next one fail."""
    for i in instances():
        d.cli("rm", "--force", i["spec"]["name"], check=False)


if __name__ == "__main__":
    run(setup, lambda d: d.close(), clean)
