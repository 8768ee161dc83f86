#!/usr/bin/env python3
"""BuildKit's protocol: the docker client of Debian (20.10, which has BuildKit's client in it) builds on a private daemon."""
import os
import signal
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from building import Builder, client
from docker import docker_daemon
from registry import Image, Registry, layer
from tap import contains, equal, need, run, test
from wabe import wait_until

daemon = docker = None
build = inside = context = leftovers = line = environment = None  # of a Builder


@test
def a_build_through_a_session(_):
    shown = build("FROM busybox\nWORKDIR /w\nCOPY a.txt dir ./\nRUN cat a.txt b && echo to stderr >&2\nCMD [\"cat\", \"/w/b\"]\n",
                  {"a.txt": "from a\n", "dir/b": "from b\n", "dir/c/d": "deep\n"})
    for part in ["[internal] load build definition from Dockerfile", "[internal] load build context", "transferring context:",
                 "[1/4] FROM docker.io/library/busybox:latest", "[2/4] WORKDIR /w", "[3/4] COPY a.txt dir ./", "[4/4] RUN cat a.txt b",
                 "from a\n", "to stderr", "exporting to image", "writing image sha256:", "naming to docker.io/library/t"]:
        contains(shown, part, "the output")
    equal(inside(), "from b\n")
    equal(inside("cat", "c/d"), "deep\n")


@test
def a_client_takes_it_by_itself(_):
    need("docker 20.10", client())
    own = {k: v for k, v in docker.env.items() if k != "DOCKER_BUILDKIT"}
    r = subprocess.run([client(), "build", context("FROM busybox\n")], env=own, capture_output=True, text=True, timeout=120)
    equal(r.returncode, 0, r.stderr)
    contains(r.stderr, "[internal] load build definition")


@test
def a_client_without_buildkit_falls_back(_):
    """Newer clients need buildx for it, and say so where there is none"""
    need("docker newer than 20.10", docker.version() > 20)
    own = {k: v for k, v in docker.env.items() if k != "DOCKER_BUILDKIT"}
    r = subprocess.run(docker.line("build", "-t", "t", context("FROM busybox\nRUN echo classic\n")), env=own,
                       capture_output=True, text=True, timeout=120)
    equal(r.returncode, 0, r.stderr)
    if "buildx component is missing" in r.stderr:
        contains(r.stdout, "Successfully built")


@test
def nothing_changed_is_cached(_):
    files = {"a": "a\n"}
    build("FROM busybox\nCOPY a /a\nRUN echo ran > /ran\n", files)
    before = daemon.api("GET", "/v1/projects/default/images/t")[1]["id"]
    shown = build("FROM busybox\nCOPY a /a\nRUN echo ran > /ran\n", files)
    equal(shown.count("CACHED"), 2, "steps that are cached")
    equal(daemon.api("GET", "/v1/projects/default/images/t")[1]["id"], before)
    shown = build("FROM busybox\nCOPY a /a\nRUN echo ran > /ran\n", {"a": "b\n"})
    equal(shown.count("CACHED"), 0, "steps that are cached")


@test
def files_of_every_kind(_):
    """Modes, links, hard links, empty and large files, names that are not plain, what is ignored"""
    large = os.urandom(5_000_000)
    top = context("FROM busybox\nCOPY . /c/\n", {
        "large": large, "empty": "", "d/e": None, "exec": "#!/bin/sh\n", "link": ("link", "exec"), "dangling": ("link", "no/where"),
        "näme with space": "x", "skip/this": "x", "skip/but": "kept", ".dockerignore": "skip/*\n!skip/but\n# comment\nnä*x\n",
        **{f"many/{i}": f"{i}\n" for i in range(300)}})
    os.chmod(top + "/exec", 0o4755)
    os.link(top + "/exec", top + "/hard")
    build(None, None, where=top)
    equal(inside("sh", "-c", "cd /c && find . ! -path './many/*' | sort && readlink link && readlink dangling && stat -c %a exec hard && "
                 "ls many | wc -l && cat many/299 && stat -c %u:%g large && sha256sum large"), """.
./.dockerignore
./Dockerfile
./d
./d/e
./dangling
./empty
./exec
./hard
./large
./link
./many
./näme with space
./skip
./skip/but
exec
no/where
4755
4755
300
299
0:0
""" + __import__("hashlib").sha256(large).hexdigest() + "  large\n")


@test
def a_dockerfile_from_elsewhere(_):
    top = context(..., {"x": "x\n", "y": "y\n"})
    other = context(..., {"Own.file": "FROM busybox\nCOPY . /c\n", "Own.file.dockerignore": "y\n"})
    build(None, None, "-f", other + "/Own.file", where=top)
    equal(inside("ls", "/c"), "x\n")
    build(None, None, "-f", "-", where=top, input=b"FROM busybox\nCOPY y /\n")
    equal(inside("cat", "/y"), "y\n")
    build(None, None, where="-", input=b"FROM busybox\nRUN echo alone > /alone\n")
    equal(inside("cat", "/alone"), "alone\n")


@test
def a_context_as_an_archive(_):
    top = context("FROM busybox\nCOPY x /from-tar\n", {"x": "in a tar\n"})
    tar = subprocess.run(["tar", "-C", top, "-c", "."], capture_output=True, check=True).stdout
    build(None, None, where="-", input=tar)
    equal(inside("cat", "/from-tar"), "in a tar\n")


@test
def no_context_is_sent_that_nobody_needs(_):
    shown = build("FROM busybox\nENV UNUSED=1\n", {"large": b"x" * 1_000_000})
    assert "load build context" not in shown, shown


@test
def only_what_is_named_is_sent(_):
    """Of the context; all of it where that cannot be told before"""
    files = {"a/x": "x\n", "a/link": ("link", "../b/target"), "b/target": "behind a link\n", "large": os.urandom(3_000_000), "c1": "1", "c2": "2"}

    def sent(shown):
        lines = [x for x in shown.splitlines() if "transferring context: " in x and "B" in x.split("context: ")[1][:9]]
        return any("MB" in x for x in lines)
    shown = build("FROM busybox\nCOPY a/x a/link /d/\nCOPY c? /\nRUN --mount=type=bind,source=b,target=/m cat /m/target\n", files)
    contains(shown, "behind a link")
    equal(sent(shown), False, shown)
    equal(inside("cat", "/d/x", "/d/link", "/c1", "/c2"), "x\nbehind a link\n12")
    shown = build("FROM busybox\nARG F=c1\nCOPY $F /\n", files)
    equal(sent(shown), True, shown)
    build("FROM busybox\nONBUILD COPY c2 /on-build\n", name="trigger")
    shown = build("FROM trigger\nCOPY c1 /\n", files)
    equal(inside("cat", "/c1", "/on-build"), "12")


@test
def images_of_a_registry_that_wants_to_know_who(_):
    """Credentials come from the client, and what is pulled is told"""
    for kind in ("basic", "bearer"):
        r = Registry()
        try:
            name = r.add(Image([layer(200_000, seed=len(kind))]), name=kind)
            r.auth, r.users = kind, {"me": "secret"}
            text = f"FROM {name}\nENV A=2\n"
            contains(build(text, check=False), name.rsplit(":", 1)[0])
            docker.run("login", "-u", "me", "-p", "secret", r.host)
            shown = build(text)
            contains(shown, f"FROM {name}")
            contains(shown, "sha256:")
        finally:
            r.close()


@test
def copies_that_leave_something_out(_):
    files = {"d/a.txt": "a", "d/b.md": "b", "d/sub/c.txt": "c", "d/sub/d.md": "d", "x.txt": "x", "x.md": "m"}
    text = "FROM busybox\nARG P=sub\nCOPY --exclude=*.txt d /top\nCOPY --exclude=**/*.txt --exclude=$P/d.* d /deep\nCOPY --exclude=*.md x.* /named/\n"
    build(text, files)
    equal(inside("sh", "-c", "cd / && find top deep named -type f | sort"), "deep/b.md\nnamed/x.txt\ntop/b.md\ntop/sub/c.txt\ntop/sub/d.md\n")
    shown = build(text, {**files, "d/a.txt": "changed", "x.md": "changed"})
    equal(shown.count("CACHED"), 3, shown)
    contains(build("FROM busybox\nCOPY --exclude=a.txt d/a.txt /\n", files, check=False), "no source files were specified")


@test
def control_is_killed(_):
    """In the middle of a build: what it had made goes, and the same build works"""
    text = "FROM busybox\nRUN echo one > /one\nRUN test -e /none || { echo begun; sleep 1000; }\n"
    p = subprocess.Popen(line("--no-cache", context(text)), env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    for shown in p.stderr:
        if " begun" in shown and "RUN" not in shown:
            break
    os.kill(daemon.pids()["control"], signal.SIGKILL)
    p.stderr.close()
    assert p.wait(60)
    wait_until(lambda: "control" in daemon.pids() and docker.api("GET", "/_ping")[0] == 200, 60, "another control")
    wait_until(lambda: not leftovers(), 60, "the build's instance to go")
    equal(daemon.shims(), [])
    equal(build(text.replace("sleep 1000", "true")).count("CACHED"), 1)


@test
def secrets(_):
    secret = daemon.dir + "/a-secret"
    with open(secret, "w") as f:
        f.write("very secret\n")
    top = context("""FROM busybox
RUN --mount=type=secret,id=s,required=true tr a-z A-Z < /run/secrets/s > /read && stat -c %a:%u /run/secrets/s >> /read
RUN --mount=type=secret,id=s,target=/etc/own,mode=0440,uid=5 stat -c %a:%u /etc/own >> /read
RUN --mount=type=secret,id=other test ! -e /run/secrets/other
RUN test ! -s /run/secrets/s && test ! -s /etc/own
""")
    build(None, None, "--secret", f"id=s,src={secret}", where=top)
    equal(inside("cat", "/read"), "VERY SECRET\n400:0\n440:5\n")
    shown = build("FROM busybox\nRUN --mount=type=secret,id=no,required=true true\n", None, "--secret", f"id=s,src={secret}", check=False)
    contains(shown, "secret no: not found")
    shown = build("FROM busybox\nRUN --mount=type=secret,id=no,required=true true\n", check=False)
    contains(shown, "secret no: not found")
    found = subprocess.run(["grep", "-rl", "very secret", daemon.dir + "/state"], capture_output=True, text=True).stdout.split()
    equal(found, [], "files that have the secret")


@test
def output_to_a_directory_and_an_archive(_):
    out = daemon.dir + "/out"
    text = "FROM busybox AS b\nRUN mkdir -p /r/d && echo hello > /r/d/f && chmod 4711 /r/d/f && ln -s d/f /r/l && ln /r/d/f /r/h\nFROM scratch\nCOPY --from=b /r /\n"
    build(text, None, "--output", f"type=local,dest={out}")
    equal(sorted(os.listdir(out)), ["d", "h", "l"])
    equal(open(out + "/d/f").read(), "hello\n")
    equal(os.stat(out + "/d/f").st_mode & 0o7777, 0o4711)
    equal(os.readlink(out + "/l"), "d/f")
    build(text, None, "--output", f"type=tar,dest={out}.tar")
    with tarfile.open(out + ".tar") as t:
        equal(sorted(n.lstrip("./") for n in t.getnames() if n.strip("./")), ["d", "d/f", "h", "l"])
        equal(t.extractfile([m for m in t if m.name.endswith("d/f")][0]).read(), b"hello\n")


@test
def errors(_):
    for text, part in (("FROM busybox\nRUN echo out; exit 3\n", 'process "/bin/sh -c echo out; exit 3" did not complete successfully: exit code: 3'),
                       ("FROM busybox\nNONSENSE x\n", "dockerfile parse error line 2: unknown instruction: NONSENSE"),
                       ("FROM busybox\nCOPY nothing /\n", 'failed to compute cache key: "/nothing": not found'),
                       ("", "cannot be empty")):
        contains(build(text, check=False), part)
    contains(build("FROM busybox\n", None, "--target", "none", check=False), "failed to reach build target none in Dockerfile")
    contains(build("FROM busybox\n", None, "--network", "some", check=False), 'network mode "some" not supported by buildkit')
    contains(build("FROM busybox\n", None, "--output", "type=other", check=False), 'exporter "other" could not be found')
    contains(build(None, None, "-f", "none", where=context("FROM busybox\n"), check=False), "none")


@test
def a_quiet_build_says_the_id_alone(_):
    need("docker 20.10", client())
    r = subprocess.run([client(), "build", "-q", "-t", "t", context("FROM busybox\nRUN echo quiet\n")], env=environment(),
                       capture_output=True, text=True, timeout=120)
    equal((r.returncode, r.stderr), (0, ""))
    equal(r.stdout.strip(), daemon.api("GET", "/v1/projects/default/images/t")[1]["id"])


@test
def arguments_labels_and_limits(_):
    build("FROM busybox\nARG A=1\nARG TARGETPLATFORM\nRUN echo $A $TARGETPLATFORM > /a && grep -q 'named' /etc/hosts && ulimit -n > /n\n", None,
          "--build-arg", "A=given", "--label", "l=v", "--add-host", "named:10.1.2.3", "--network", "none")
    equal(inside("cat", "/a"), "given linux/amd64\n")
    equal(daemon.api("GET", "/v1/projects/default/images/t")[1]["config"]["labels"], {"l": "v"})


@test
def a_client_that_is_killed(_):
    """Nothing stays of the build, and the next one works"""
    for how in (signal.SIGKILL, signal.SIGINT):
        p = subprocess.Popen(line(context("FROM busybox\nRUN echo begun && sleep 1000\n")), env=environment(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for text in p.stderr:
            if " begun" in text and "RUN" not in text:
                break
        p.send_signal(how)
        p.stderr.close()
        p.wait(60)
        wait_until(lambda: not leftovers(), 60, "the build's instance to go")
    build("FROM busybox\n")


@test
def requests_that_are_wrong(_):
    status, answer = docker.api("POST", "/v1.41/session")
    equal((status, "id" in answer["message"]), (400, True))
    status, answer = docker.api("POST", "/v1.41/build?version=2&remote=client-session&session=none")
    equal((status, answer["message"]), (500, "no active session for none"))
    for query, part in (("buildargs=[]", "buildargs"), ("labels={\"a\":1}", "labels"), ("ulimits={}", "ulimits"), ("outputs=x", "outputs"),
                        ("outputs=[{},{}]", "multiple outputs"), ("extrahosts=x", "invalid host")):
        status, answer = docker.api("POST", "/v1.41/build?version=2&" + query.replace('"', "%22").replace("{", "%7B"))
        assert status in (400, 500), (query, status)
        contains(answer["message"], part)


def setup():
    global daemon, docker, build, inside, context, leftovers, line, environment
    daemon = docker_daemon("buildkit", netspace="host")
    docker = daemon.docker
    b = Builder(daemon, docker)
    build, inside, context, leftovers, line, environment = b.build, b.inside, b.context, b.leftovers, b.line, b.environment
    return daemon


def clean(d):
    """What a test that failed has left does not make the next one fail."""
    for i in leftovers():
        d.cli("rm", "--force", i, check=False)


if __name__ == "__main__":
    run(setup, lambda d: d.close(), clean)
