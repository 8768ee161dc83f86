#!/usr/bin/env python3
"""What a build by BuildKit's protocol takes from elsewhere: agents of ssh, files that were sent before, repositories."""
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from building import Builder, SshAgent
from docker import docker_daemon
from tap import contains, equal, run, test
from wabe import wait_until

daemon = docker = builder = build = inside = None


def program(path):
    """{name in the context: content} of a program of the host and what it is linked with, below root/."""
    lines = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout.split()
    files = {}
    for name in [path, *(w for w in lines if w.startswith("/"))]:
        with open(name, "rb") as f:
            files["root" + name] = f.read()
    return files


SSH = """FROM busybox
COPY --chmod=755 root /
RUN mkdir -p /keys
"""


@test
def agents_of_ssh(_):
    """Under their names, at their places, with their owners; several connections; nothing of them stays"""
    with SshAgent(daemon.dir, "one") as one, SshAgent(daemon.dir, "two") as two:
        files = program(shutil.which("ssh-add"))
        text = SSH + """RUN --mount=type=ssh ssh-add -L > /keys/default && echo $SSH_AUTH_SOCK > /keys/path && stat -c %a:%u:%F $SSH_AUTH_SOCK > /keys/kind
RUN --mount=type=ssh,id=two,target=/tmp/agent,mode=0660,uid=7,gid=8 stat -c %a:%u:%g /tmp/agent >> /keys/kind && SSH_AUTH_SOCK=/tmp/agent ssh-add -L > /keys/two
RUN --mount=type=ssh,id=none test -z "$SSH_AUTH_SOCK"
RUN --mount=type=ssh,required=true for i in $(seq 40); do ssh-add -L > /keys/$i & done; wait; cat /keys/[0-9]* | sort -u > /keys/many; rm /keys/[0-9]*
RUN test -z "$SSH_AUTH_SOCK" && test ! -S /run/buildkit/ssh_agent.0 && test ! -S /tmp/agent
"""
        env = {"SSH_AUTH_SOCK": one.path}
        build(text, files, "--ssh", "default", "--ssh", f"two={two.path}", env=env)
        equal(inside("cat", "/keys/path"), "/run/buildkit/ssh_agent.0\n")
        equal(inside("cat", "/keys/kind"), "600:0:socket\n660:7:8\n")
        equal(inside("cat", "/keys/default"), one.what)
        equal(inside("cat", "/keys/two"), two.what)
        equal(inside("cat", "/keys/many"), one.what)
        shown = build("FROM busybox\nRUN --mount=type=ssh,id=other,required=true true\n", None, "--ssh", "default", env=env, check=False)
        contains(shown, "unset ssh forward key other")
    shown = build("FROM busybox\nRUN --mount=type=ssh,required=true true\n", check=False)
    contains(shown, 'no SSH key "default" forwarded from the client')
    equal(builder.leftovers(), [])


@test
def an_agent_that_is_not_let_go(_):
    """Neither a command that keeps its connection nor an agent that does not answer keeps the build"""
    hold = "socket(S, 1, 1, 0); connect(S, pack(\"Sa*\", 1, $ENV{SSH_AUTH_SOCK})) or die; syswrite S, \"\\0\\0\\0\\1\\13\"; %s open(F, \">\", \"/held.%s\"); sleep 1000"
    wait = "for i in $(seq 3000); do test -e /held.{0} && break; usleep 10000; done; test -e /held.{0}"
    with SshAgent(daemon.dir, "gone") as agent:
        agent.process.send_signal(signal.SIGSTOP)
        for how, more in (("open", ""), ("half", "shutdown(S, 1);")):
            text = SSH + f"RUN --mount=type=ssh (perl -e '{hold % (more, how)}' &) ; {wait.format(how)}\n"
            build(text, program(os.path.realpath(shutil.which("perl"))), "--ssh", f"default={agent.path}")
    equal(builder.leftovers(), [])


@test
def a_socket_is_the_builders_alone(_):
    status, answer = daemon.api("POST", "/v1/projects/default/instances",
                                {"image": "busybox", "command": ["true"], "files": [{"kind": "socket", "source": "lent-0000", "target": "/s"}]})
    equal(status, 404)
    contains(str(answer), "nobody listens at socket lent-0000")


@test
def copies_with_their_directories(_):
    """--parents: from the top or from a part ".", with patterns that go deep, with --exclude, of the context and of a stage"""
    top = builder.context("""FROM busybox AS other
RUN mkdir -p /o/p/q && echo q > /o/p/q/f && chmod 700 /o/p
FROM busybox
COPY --parents a/b/one.txt a/c /named/
COPY --parents a/**/*.txt /deep
COPY --parents a/./b/one.txt a/./c/d /pivot/
COPY --parents --exclude=a/c/d --exclude=**/*.md a /without/
COPY --parents --from=other /o/p/./q/f /o/p/q /staged/
COPY --parents --chown=3:4 a/b/one.txt /owned/
COPY --parents . /all/
""", {"a/b/one.txt": "1\n", "a/b/two.md": "2\n", "a/c/three.txt": "3\n", "a/c/d/four.txt": "4\n", "a/link": ("link", "b"), "z": "z\n"})
    os.chmod(top + "/a/b", 0o711)
    build(None, None, where=top)
    files = inside("sh", "-c", "for i in named deep pivot without staged owned; do cd /$i; find . ! -type d | sort; done; cd /all; ls")
    equal(files.split(), ["./a/b/one.txt", "./a/c/d/four.txt", "./a/c/three.txt",  # named
                          "./a/b/one.txt", "./a/c/d/four.txt", "./a/c/three.txt",  # deep
                          "./b/one.txt", "./c/d/four.txt",
                          "./a/b/one.txt", "./a/c/three.txt", "./a/link",
                          "./o/p/q/f", "./q/f",
                          "./a/b/one.txt", "Dockerfile", "a", "z"])
    equal(inside("stat", "-c", "%a:%u:%g", "/named/a/b", "/owned/a/b", "/owned/a/b/one.txt"), "711:0:0\n711:3:4\n644:3:4\n")
    equal(build(None, None, where=top).count("CACHED"), 8)
    os.chmod(top + "/a/b", 0o755)
    contains(build(None, None, where=top), "transferring context")
    equal(inside("stat", "-c", "%a", "/named/a/b"), "755\n")
    contains(build("FROM busybox\nCOPY --parents no/such /x/\n", check=False), 'not found')


@test
def modes_as_people_write_them(_):
    """Symbolic, from variables, which count for the cache; patterns that nothing fits"""
    top = builder.context("""FROM busybox
ARG M=640
COPY --chmod=u=rwX,go=rX d /a
COPY --chmod=go-r,u+x d/f /b/
COPY --chmod=$M d/f /c/
COPY none* d/x?z /e/
""", {"d/f": "f", "d/g/x": "x"})
    os.chmod(top + "/d/g/x", 0o711)

    def modes(*paths):
        return inside("stat", "-c", "%a", *paths).split()
    build(None, None, where=top)
    equal(modes("/a/f", "/a/g", "/a/g/x", "/b/f", "/c/f"), ["644", "755", "755", "700", "640"])
    equal(inside("sh", "-c", "test -e /e || echo none"), "none\n")
    build(None, None, "--build-arg", "M=a+w", where=top)
    equal(modes("/c/f"), ["666"])
    contains(build("FROM busybox\nCOPY --chmod=u=q d /d\n", {"d": "d"}, check=False), "invalid chmod parameter: 'u=q'")
    contains(build("FROM busybox\nRUN --mount=type=secret,id=s,env=TOKEN true\n", check=False), "env=TOKEN")


@test
def caches_that_do_not_begin_empty(_):
    """With what a stage has, once; with something else there it is another one"""
    def text(n, seed="seed", more=""):
        return f"""FROM busybox AS s
RUN mkdir -p /s/d && echo {seed} > /s/d/f && chown -R 5:6 /s/d
FROM busybox
RUN --mount=type=cache,id=begun,target=/c,from=s,source=/s echo {n} >> /c/d/f; cat /c/d/f > /x; stat -c %u:%g /c/d/f >> /x{more}
"""
    build(text(1))
    equal(inside("cat", "/x"), "seed\n1\n5:6\n")
    build(text(2))
    equal(inside("cat", "/x"), "seed\n1\n2\n5:6\n")
    build(text(3, "other"))
    equal(inside("cat", "/x"), "other\n3\n5:6\n")
    contains(build("FROM busybox\nRUN --mount=type=cache,target=/c,source=/s true\n", check=False), "from is wanted")
    contains(build("FROM busybox\nRUN --mount=type=cache,target=/c,from=busybox,source=/none true\n", check=False), "/none")


@test
def another_platform(_):
    """Is built where nothing of it runs; a command says what is missing"""
    elf = b"\x7fELF\2\1\1" + bytes(9) + (2).to_bytes(2, "little") + (183 if os.uname().machine == "x86_64" else 62).to_bytes(2, "little")
    other = "arm64" if os.uname().machine == "x86_64" else "amd64"
    files = {"program": elf + bytes(44)}
    build("FROM scratch\nARG TARGETARCH\nCOPY --chmod=755 program /bin/sh\nLABEL for=$TARGETARCH\n", files, "--platform", f"linux/{other}")
    equal(docker.out("image", "inspect", "t", "--format", "{{.Architecture}} {{.Config.Labels.for}}"), f"{other} {other}")
    shown = build("FROM scratch\nCOPY --chmod=755 program /bin/sh\nRUN true\n", files, "--platform", f"linux/{other}", check=False)
    emulated = "did not complete successfully" in shown  # and found to be no real program
    assert emulated or f"a command for linux/{other}, which this host runs with binfmt_misc and an emulator only" in shown, shown


@test
def archives_are_unpacked_as_asked(_):
    import io
    import tarfile
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("in/it")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"it\n"))
    build("FROM busybox\nADD a.tgz /by-itself/\nADD --unpack=false a.tgz /kept/\nADD --unpack a.tgz /asked/\n", {"a.tgz": out.getvalue()})
    equal(inside("sh", "-c", "cat /by-itself/in/it /asked/in/it; ls /kept"), "it\nit\na.tgz\n")


def sent(shown):
    """Bytes of the context that a build has sent."""
    units = {"B": 1, "kB": 1000, "MB": 1_000_000}
    lines = [x.split("context: ")[1].split()[0] for x in shown.splitlines() if "transferring context: " in x and "B" in x]
    return max((float(x.rstrip("kMB")) * units[x.lstrip("0123456789.")] for x in lines), default=0)


@test
def files_that_have_not_changed_are_not_sent_again(_):
    large = os.urandom(2_500_000)
    top = builder.context("FROM busybox\nCOPY . /c\n", {"large": large, "d/small": "1\n", "mode": "m", "gone": "g"})
    os.link(top + "/large", top + "/hard")

    def content():
        return inside("sh", "-c", "cd /c && sha256sum large hard | cut -c 1-64 | uniq | wc -l && cat d/small && stat -c %a mode && ls")
    shown = build(None, None, where=top)
    assert sent(shown) > 2_000_000, shown
    equal(content(), "1\n1\n644\nDockerfile\nd\ngone\nhard\nlarge\nmode\n")
    with open(top + "/d/small", "w") as f:
        f.write("2\n")  # as large, and within the second
    os.chmod(top + "/mode", 0o600)
    os.unlink(top + "/gone")
    before = sent(build(None, None, where=top))
    assert 0 < before < 1000, before
    equal(content(), "1\n2\n600\nDockerfile\nd\nhard\nlarge\nmode\n")
    equal(inside("sha256sum", "/c/large").split()[0], __import__("hashlib").sha256(large).hexdigest())
    # another file of the same size in its place, and a link where a directory was
    shutil.rmtree(top + "/d")
    os.mkdir(top + "/other")
    with open(top + "/other/small", "w") as f:
        f.write("3\n")
    os.symlink("other", top + "/d")
    build(None, None, where=top)
    equal(inside("cat", "/c/d/small"), "3\n")
    # a build that fails keeps what it was sent
    with open(daemon.dir + "/failing", "w") as f:
        f.write("FROM busybox\nCOPY . /c\nRUN false\n")
    build(None, None, "-f", daemon.dir + "/failing", where=top, check=False)
    assert sent(build(None, None, where=top)) < 1000
    # prune, and another process, have none of it
    status, answer = docker.api("POST", "/v1.41/build/prune")
    assert answer["SpaceReclaimed"] > 2_000_000 and answer["CachesDeleted"], answer
    assert sent(build(None, None, where=top)) > 2_000_000
    os.kill(daemon.pids()["control"], signal.SIGKILL)
    wait_until(lambda: "control" in daemon.pids() and docker.api("GET", "/_ping")[0] == 200, 60, "another control")
    assert sent(build(None, None, where=top)) > 2_000_000
    equal(content(), "1\n3\n600\nDockerfile\nd\nhard\nlarge\nmode\nother\n")


def setup():
    global daemon, docker, builder, build, inside
    daemon = docker_daemon("bksources", netspace="host")
    docker = daemon.docker
    builder = Builder(daemon, docker)
    build, inside = builder.build, builder.inside
    return daemon


if __name__ == "__main__":
    run(setup, lambda d: d.close())
