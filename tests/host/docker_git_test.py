#!/usr/bin/env python3
"""Git repositories as contexts of builds and as sources of ADD, for both builders: real repositories behind real servers, and what
strangers may write where a repository is named."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from building import Builder, SshAgent
from docker import docker_daemon
from gitserver import LOGIN, TOKEN, Authority, Repository, Server
from tap import contains, equal, need, run, test
from wabe import NetworkSpace, status_field, wait_until

daemon = docker = builder = server = top = None
DOCKERFILE = "FROM busybox\nCOPY . /c\n"
TEMPORARY = "/state/agent/tmp"


def classic(url, *, name="t", **query):
    """(status, text or error) of POST /build with remote=."""
    query = urllib.parse.urlencode({"t": name, "remote": url, **query})
    status, answer = docker.api("POST", "/v1.41/build?" + query, b"", {"Content-Type": "application/x-tar"})
    lines = [json.loads(x) for x in answer.splitlines()] if isinstance(answer, str) else [answer]
    return status, "".join(x.get("stream", "") or x.get("error", "") or x.get("message", "") for x in lines)


def buildkit(url, *args, **how):
    return builder.build(None, None, *args, where=url, **how)


def both(url, name="t"):
    """Builds it by both builders; they agree."""
    status, text = classic(url)
    assert status == 200 and "Successfully tagged" in text, text
    first = builder.inside("find", "/c")
    buildkit(url, name=name)
    equal(builder.inside("find", "/c"), first)
    return sorted(first.split())


def workers():
    """Processes of git that the agent has begun."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            space = os.readlink(f"/proc/{pid}/ns/pid")
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read()
        except OSError:
            continue
        if b"git\0-C\0/work/tree" in line and space != os.readlink("/proc/self/ns/pid"):
            found.append(int(pid))
    return found


def left():
    return os.listdir(daemon.dir + TEMPORARY) + [str(p) for p in workers()]


def settled():
    wait_until(lambda: not left(), 30, "nothing of git's to be left")


# ---- contexts ----

@test
def what_is_fetched(_):
    """HEAD, a branch, tags of both sorts, any ref, a commit by its id; directories; no .git"""
    repo = Repository(top + "/refs.git", {"Dockerfile": DOCKERFILE, "v": "1\n", "d/Dockerfile": DOCKERFILE, "d/in/f": "f\n",
                                          "x": "#!/bin/sh\n", "l": ("link", "d/in")})
    first = repo.git("rev-parse", "HEAD")
    repo.git("tag", "light")
    repo.commit({"v": "2\n"})
    repo.git("tag", "-a", "-m", "t", "heavy")
    repo.git("update-ref", "refs/pull/7/head", repo.commit({"v": "3\n"}))
    repo.git("branch", "feature/x")
    repo.commit({"v": "4\n"})
    repo.git("tag", "same", first)
    repo.git("branch", "same")
    for url in (server.git + "/refs.git", server.http + "/refs.git"):
        equal(both(url), ["/c", "/c/Dockerfile", "/c/d", "/c/d/Dockerfile", "/c/d/in", "/c/d/in/f", "/c/l", "/c/v", "/c/x"])
        equal(builder.inside("sh", "-c", "cat /c/v; readlink /c/l; stat -c %a:%u /c/v /c/x /c/d"), "4\nd/in\n644:0\n755:0\n755:0\n")
        for ref, wanted in (("main", "4"), ("light", "1"), ("heavy", "2"), ("refs/tags/heavy", "2"), ("refs/pull/7/head", "3"),
                            ("feature/x", "3"), (first, "1"), ("same", "4"), ("tags/same", "1")):
            both(f"{url}#{ref}")
            equal(builder.inside("cat", "/c/v"), wanted + "\n", ref)
        equal(both(url + "#:d"), ["/c", "/c/Dockerfile", "/c/in", "/c/in/f"])
        equal(both(url + "#light:/d/./"), ["/c", "/c/Dockerfile", "/c/in", "/c/in/f"])
    settled()


@test
def what_the_clients_say(_):
    """The steps and the Dockerfile of BuildKit; the client of the classic builder clones by itself"""
    repo = Repository(top + "/client.git", {"Dockerfile": DOCKERFILE, "other": "FROM busybox\nCOPY other /other\n"})
    contains(buildkit(server.git + "/client.git#main", "-f", "other"), f"[internal] load git source {server.git}/client.git#main")
    contains(builder.inside("cat", "/other"), "COPY other")
    repo.commit({"new": "new\n"})
    buildkit(server.git + "/client.git")
    equal(builder.inside("cat", "/c/new"), "new\n")
    need("git", shutil.which("git"))
    r = subprocess.run(daemon.space.space.command(*docker.line("build", "-t", "t", server.git + "/client.git#main")), env=docker.env, capture_output=True,
                       text=True, timeout=120)
    equal(r.returncode, 0, r.stderr)


@test
def with_git_itself(_):
    """BUILDKIT_CONTEXT_KEEP_GIT_DIR"""
    repo = Repository(top + "/kept.git", {"Dockerfile": "FROM busybox\nCOPY .git /c/.git\n"})
    url = server.http + "/kept.git"
    buildkit(url, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    equal(builder.inside("cat", "/c/.git/HEAD").strip(), repo.first)
    contains(builder.inside("cat", "/c/.git/config"), f"url = {url}\n")
    equal(classic(url, buildargs='{"BUILDKIT_CONTEXT_KEEP_GIT_DIR":"true"}')[0], 200)
    contains(buildkit(url, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=0", check=False), "not found")


@test
def submodules(_):
    """One in the other, by relative URLs, at commits that no ref is at"""
    inner = Repository(top + "/inner.git", {"f": "inner 1\n"})
    middle = Repository(top + "/middle.git", {"f": "middle\n"})
    middle.git("submodule", "--quiet", "add", "../inner.git", "sub/inner")
    middle.commit({})
    outer = Repository(top + "/outer.git", {"Dockerfile": DOCKERFILE})
    outer.git("submodule", "--quiet", "add", "../middle.git", "middle")
    outer.commit({})
    inner.git("checkout", "--quiet", "--orphan", "other")
    inner.commit({"f": "inner 2\n"})
    inner.git("branch", "--quiet", "-D", "main")
    for base in (server.git, server.http):
        equal([x for x in both(base + "/outer.git") if x.endswith("/f") or ".git" in x],
              ["/c/.gitmodules", "/c/middle/.gitmodules", "/c/middle/f", "/c/middle/sub/inner/f"])
        equal(builder.inside("cat", "/c/middle/sub/inner/f"), "inner 1\n")
    outer.git("config", "--file", ".gitmodules", "submodule.middle.url", "file:///work/tree")
    outer.commit({})
    contains(classic(server.git + "/outer.git")[1], "transport 'file' not allowed")
    settled()


@test
def servers_that_give_no_part(_):
    """What a server of the first protocol refuses, a commit that no ref is at, is found in the whole history"""
    repo = Repository(top + "/old.git", {"Dockerfile": DOCKERFILE, "v": "1\n"})
    repo.commit({"v": "2\n"})
    repo.git("config", "protocol.version", "0")
    repo.git("config", "uploadpack.advertiseRefs", "false")
    both(server.git + "/old.git#" + repo.first)
    equal(builder.inside("cat", "/c/v"), "1\n")
    status, text = classic(server.git + "/old.git#" + "0" * 40)
    contains(text, "repository does not contain commit " + "0" * 40)


@test
def logins(_):
    """Those of a URL go to its server, and are shown nowhere"""
    os.mkdir(top + "/private")
    Repository(top + "/private/p.git", {"Dockerfile": DOCKERFILE, "f": "private\n"})
    url = server.http + "/private/p.git"
    secret = url.replace("http://", f"http://{LOGIN[0]}:{urllib.parse.quote(LOGIN[1])}@")
    contains(classic(url)[1], "could not read Username")
    status, text = classic(secret)
    equal(status, 200, text)
    shown = buildkit(secret + "#main")
    equal(builder.inside("cat", "/c/f"), "private\n")
    shown += buildkit(secret + "#none", check=False) + classic(secret + "#none")[1]
    contains(shown, f"[internal] load git source {url}#none")
    # the client shows what it was called with in no line
    assert "p%40ss" not in shown and LOGIN[1] not in shown, shown
    buildkit(secret, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    equal(builder.inside("sh", "-c", "grep -rE 'p@ss|p%40ss|Basic' /c/.git || true"), "")
    assert LOGIN[1] not in daemon.log() and "p%40ss" not in daemon.log()


@test
def tokens(_):
    """A build's secret GIT_AUTH_TOKEN goes to the repository's server, over https alone; whose certificate counts"""
    os.mkdir(top + "/token")
    repo = Repository(top + "/token/t.git", {"Dockerfile": DOCKERFILE, "f": "f\n"})
    inner = Repository(top + "/token/inner.git", {"f": "f\n"})
    url = server.https + "/token/t.git"
    environment = {"TOKEN": TOKEN}
    secret = ("--secret", "id=GIT_AUTH_TOKEN,env=TOKEN")
    contains(buildkit(url, check=False), "could not read Username")
    contains(buildkit(url, "--secret", "id=GIT_AUTH_TOKEN.example.org,env=TOKEN", env=environment, check=False), "could not read Username")
    shown = buildkit(url, *secret, env=environment)
    shown += buildkit(url, "--secret", "id=GIT_AUTH_TOKEN.127.0.0.1,env=TOKEN", env=environment)
    shown += builder.build(text_of(f"ADD --keep-git-dir {url} /a"), None, *secret, env=environment)
    equal(builder.inside("sh", "-c", f"cat /a/f; grep -rE '{TOKEN}|Basic' /a || true"), "f\n")
    assert TOKEN not in shown + daemon.log(), shown
    contains(buildkit(server.http + "/token/t.git", *secret, env=environment, check=False), "could not read Username")
    # what is another repository's it has no part in
    repo.git("config", "--file", ".gitmodules", "submodule.in.url", server.https + "/token/inner.git")
    repo.git("config", "--file", ".gitmodules", "submodule.in.path", "in")
    repo.git("add", ".gitmodules")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{inner.first},in")
    repo.git("commit", "--quiet", "-m", "c")
    contains(buildkit(url, *secret, env=environment, check=False), "could not read Username")
    other = server.https.replace("127.0.0.1", "localhost") + "/plain.git"
    contains(classic(other)[1], "does not match target host name")


@test
def keys_of_ssh(_):
    """The client's agent of ssh opens what no other key does: a context, its submodule, ADD; it stays the client's"""
    need("dropbear", Server.has_ssh())
    inner = Repository(top + "/by-key-inner.git", {"i": "i\n"})
    repo = Repository(top + "/by-key.git", {"Dockerfile": DOCKERFILE, "f": "f\n"})
    repo.git("config", "--file", ".gitmodules", "submodule.in.url", "../by-key-inner.git")
    repo.git("config", "--file", ".gitmodules", "submodule.in.path", "in")
    repo.git("add", ".gitmodules")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{inner.first},in")
    repo.git("commit", "--quiet", "-m", "c")
    urls = f"git@127.0.0.1:{top}/by-key.git", f"ssh://git@127.0.0.1:22{top}/by-key.git#main"
    with SshAgent(daemon.dir, "good") as good, SshAgent(daemon.dir, "bad") as bad:
        server.authorize(good.what)
        buildkit(urls[0], "--ssh", "default", env={"SSH_AUTH_SOCK": good.path})
        equal(builder.inside("cat", "/c/f", "/c/in/i"), "f\ni\n")
        contains(buildkit(urls[0], "--ssh", "default", env={"SSH_AUTH_SOCK": bad.path}, check=False), "Permission denied (publickey)")
        contains(buildkit(urls[0], check=False), "Permission denied (publickey)")
        for url in urls:
            text = text_of(f"ADD --keep-git-dir {url} /a", "RUN test ! -e /work/agent")
            builder.build(text, None, "--ssh", "default", env={"SSH_AUTH_SOCK": good.path})
            equal(builder.inside("cat", "/a/f", "/a/in/i"), "f\ni\n")
            equal(builder.build(text, None, "--ssh", "default", env={"SSH_AUTH_SOCK": good.path}).count("CACHED"), 2)
        good.process.send_signal(signal.SIGSTOP)  # it answers no more: who gives up is not kept
        process = subprocess.Popen(builder.line("--ssh", "default", urls[0]), env={**builder.environment(), "SSH_AUTH_SOCK": good.path},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(workers, 30, "git at work")
        process.send_signal(signal.SIGINT)
        process.wait(60)
    settled()


# ---- ADD ----

def text_of(*lines):
    return "FROM busybox\n" + "".join(line + "\n" for line in lines)


def fails(why, *lines):
    contains(builder.build(text_of(*lines), check=False), why)


@test
def added(_):
    """A repository's files or a directory's, with owners and modes, beside others; by commit in the cache"""
    repo = Repository(top + "/added.git", {"f": "1\n", "d/g": "g\n", "d/h.md": "h\n", "x": "#!/bin/sh\n"})
    repo.git("tag", "-a", "-m", "t", "v1")
    url, http = server.git + "/added.git", server.http + "/added.git"
    lines = (f"ADD {url} /all", f"ARG REF=v1\nADD --chown=3:4 --chmod=600 {http}#$REF:d /d/", f"ADD --exclude=*.md {url}#main:d {url}#main:d /two/",
             "WORKDIR /w", f"ADD {url}#refs/heads/main:d .")
    shown = builder.build(text_of(*lines))
    contains(shown, f"ADD {url} /all")
    equal(builder.inside("sh", "-c", "cd /; find all d two w | sort").split(),
          ["all", "all/d", "all/d/g", "all/d/h.md", "all/f", "all/x", "d", "d/g", "d/h.md", "two", "two/g", "w", "w/g", "w/h.md"])
    equal(builder.inside("stat", "-c", "%a:%u:%g", "/all/x", "/all/f", "/d/g"), "755:0:0\n644:0:0\n600:3:4\n")
    equal(builder.build(text_of(*lines)).count("CACHED"), 5)
    # the same commit under another name, from another server: the same step
    equal(builder.build(text_of(f"ADD {http}#main /all")).count("CACHED"), 1)
    # what else counts
    equal(builder.build(text_of(f"ADD --exclude=f {url} /all")).count("CACHED"), 0)
    equal(builder.build(text_of(f"ADD {url}#:d /all")).count("CACHED"), 0)
    repo.commit({"f": "2\n"})
    equal(builder.build(text_of(*lines)).count("CACHED"), 0)
    equal(builder.inside("cat", "/all/f"), "2\n")
    # a commit by its id is asked for once
    shown = text_of(f"ADD {url}#{repo.first} /one")
    builder.build(shown)
    os.rename(repo.path, repo.path + ".away")
    equal(builder.build(shown).count("CACHED"), 1)
    fails("failed to fetch remote", f"ADD {url}#main /one")
    os.rename(repo.path + ".away", repo.path)
    # the classic builder is the same one
    r = docker.run("build", "-t", "t", builder.context(text_of(f"ADD {url}#v1 /classic")))
    equal(builder.inside("cat", "/classic/f"), "1\n")
    contains(docker.run("build", "-t", "t", builder.context(text_of(f"ADD {url}#v1 /classic"))).stdout, "Using cache")
    assert "Using cache" not in r.stdout, r.stdout
    settled()


@test
def added_with_git_and_checked(_):
    """--keep-git-dir, --checksum"""
    repo = Repository(top + "/checked.git", {"f": "f\n", "d/g": "g\n"})
    url = server.http + "/checked.git"
    builder.build(text_of(f"ADD --keep-git-dir {url}#main /k", f"ADD --keep-git-dir=false {url} /n", f"ADD --keep-git-dir=true {url}#main:d /d",
                          f"ADD --checksum={repo.first} {url}#main /c", f"ADD --checksum={repo.first[:12]} {url} /s"))
    equal(builder.inside("cat", "/k/.git/HEAD").strip(), repo.first)
    equal(builder.inside("ls", "-A", "/n", "/d", "/c", "/s").split(), ["/c:", "d", "f", "/d:", "g", "/n:", "d", "f", "/s:", "d", "f"])
    fails(f"expected checksum to match {'0' * 40}, got {repo.first}", f"ADD --checksum={'0' * 40} {url} /c")
    fails("of a git repository it is the id of a commit", f"ADD --checksum=sha256:{'0' * 64} {url} /c")
    fails("invalid refspec: --upload-pack=x", f"ADD {url}#--upload-pack=x /c")
    fails("is not a directory beneath the repository", f"ADD {url}#main:../.. /c")
    fails("the repository has no directory f", f"ADD {url}#main:f /c")
    fails("repository does not contain ref none", f"ADD {url}#none /c")
    fails("not found", "ADD github.com/a/b /c")  # is a path
    fails("not found", "ADD ext::sh -c /c")
    settled()


# ---- strangers ----

@test
def what_is_no_repository(_):
    Repository(top + "/plain.git", {"Dockerfile": DOCKERFILE, "f": "f"})
    url = server.git + "/plain.git"
    for bad, why in (("ext::sh -c 'touch /tmp/owned' /x.git", "a URL of http or https, or of a git repository, is wanted"),
                     ("file:///etc/x.git", "a URL of http or https, or of a git repository, is wanted"),
                     ("/etc", "a URL of http or https, or of a git repository, is wanted"),
                     ("git@-oProxyCommand=touch:x", "a URL of http or https, or of a git repository, is wanted"),
                     ("ssh://-oProxyCommand=touch/x.git", "is not the URL of a git repository"),
                     ("git://127.0.0.1/x y", "is not the URL of a git repository"),
                     (url + "#--upload-pack=x", "invalid refspec: --upload-pack=x"),
                     (url + "#a..b", "invalid refspec"),
                     (url + "#main:../..", "is not a directory beneath the repository"),
                     (url + "#main:a/../../x", "is not a directory beneath the repository")):
        status, text = classic(bad)
        equal((status, why in text), (400, True), f"{bad}: {text}")
    for bad, why in ((url + "#none", "repository does not contain ref none"), (url + "#main:f", "the repository has no directory f"),
                     (url + "#main:none", "the repository has no directory none"), (url + "#main:.git", "has no directory .git"),
                     (server.git + "/none.git", f"failed to fetch remote {server.git}/none.git"),
                     (server.http + "/none.git", "not found"), ("git://127.0.0.1:1/x", "Connection refused")):
        status, text = classic(bad)
        assert status != 200 and why in text, f"{bad}: {text}"
        contains(buildkit(bad, check=False), why)
    settled()


@test
def links_lead_nowhere_else(_):
    """A directory that is a link is looked for in the repository"""
    Repository(top + "/links.git", {"real/Dockerfile": DOCKERFILE, "real/f": "f\n", "in": ("link", "real"), "top": ("link", "/real"),
                                    "out": ("link", "/usr"), "up": ("link", "../../../../../../../../etc"), "loop": ("link", "loop"),
                                    "git": ("link", ".git")})
    url = server.git + "/links.git#main:"
    for name in ("in", "top"):
        equal(both(url + name), ["/c", "/c/Dockerfile", "/c/f"])
    for name in ("out", "up", "loop", "git", "up/ssl"):
        contains(classic(url + name)[1], f"the repository has no directory {name}")
    settled()


@test
def nothing_of_the_host(_):
    """Neither hooks nor filters nor credentials of the host count; who runs is nobody in particular"""
    Repository(top + "/tame.git", {"Dockerfile": DOCKERFILE, ".gitattributes": "* filter=run\n", "f": "f\n"})
    home = daemon.dir + "/home"
    os.makedirs(home + "/hooks")
    with open(home + "/.gitconfig", "w") as f:
        f.write(f"[filter \"run\"]\nsmudge = touch {home}/owned; cat\n[core]\nhooksPath = {home}/hooks\n")
    with open(home + "/hooks/post-checkout", "w") as f:
        f.write(f"#!/bin/sh\ntouch {home}/owned\n")
    os.chmod(home + "/hooks/post-checkout", 0o755)
    daemon.stop()
    daemon.start(HOME=home, GIT_CONFIG_GLOBAL=home + "/.gitconfig", GIT_TRACE=home + "/owned")
    both(server.git + "/tame.git")
    assert not os.path.exists(home + "/owned")


def silent_build():
    """A build of a repository whose server never answers, and a process of git that waits for it."""
    process = subprocess.Popen(builder.line(server.silent + "/x.git"), env=builder.environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    server.await_silent()
    pids = workers()
    assert pids, "no git runs"
    return process, pids


@test
def confinement(_):
    """git runs as control's user, without powers, in a tree of its own, and reaches nobody"""
    process, pids = silent_build()
    try:
        wabe = status_field(daemon.pids()["control"], "Uid").split()
        for pid in pids:
            equal(status_field(pid, "Uid").split(), wabe)
            equal({status_field(pid, f"Cap{x}") for x in ("Inh", "Prm", "Eff", "Bnd", "Amb")}, {"0" * 16})
            equal((status_field(pid, "NoNewPrivs"), status_field(pid, "Seccomp"), status_field(pid, "Groups")), ("1", "2", ""))
            root = f"/proc/{pid}/root"
            equal(sorted(os.listdir(root)), ["bin", "dev", "etc", "home", "lib", "lib64", "usr", "work"])
            equal(sorted(os.listdir(root + "/etc")), sorted({"hosts", "nsswitch.conf", "passwd", "resolv.conf", "ssl"} & {*os.listdir("/etc")}))
            equal((sorted(os.listdir(root + "/dev")), os.listdir(root + "/home"), os.listdir(root + "/etc/ssl")), (["null", "urandom"], [], ["certs"]))
            with open(f"/proc/{pid}/mountinfo") as f:
                mounts = {line.split()[4]: line.split()[5].split(",") for line in f}
            equal({m: o[0] for m, o in mounts.items() if m != "/etc/ssl/certs"}, {"/": "ro", "/usr": "ro", "/work": "rw", "/dev/null": "rw", "/dev/urandom": "rw"})
            assert {"nosuid", "nodev", "noexec"} <= {*mounts["/work"]}, mounts
            with open(f"/proc/{pid}/environ", "rb") as f:
                names = {x.split(b"=")[0].decode() for x in f.read().split(b"\0") if x}
            assert not {x for x in names if x.startswith(("WABE", "DOCKER", "SSH", "GIT_TRACE"))}, names
            descriptors = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            assert not [d for d in descriptors if daemon.dir in d and "/git-" not in d], descriptors
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    settled()


@test
def a_server_that_never_answers(_):
    """Who gives the build up ends git; so does a control that is killed, and the agent's end leaves nothing"""
    process, pids = silent_build()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    settled()

    process, pids = silent_build()
    os.kill(pids[0], signal.SIGKILL)
    contains(process.communicate(timeout=60)[1], "failed to fetch remote")
    settled()

    process, pids = silent_build()
    os.kill(daemon.pids()["control"], signal.SIGKILL)
    process.communicate(timeout=60)
    settled()
    wait_until(lambda: {"agent", "control"} <= {*daemon.pids()} and docker.api("GET", "/_ping")[0] == 200, 60, "another control")

    # the first process of the name space, and the worker itself
    process, pids = silent_build()
    worker = int(status_field(int(status_field(pids[0], "PPid")), "PPid"))
    os.kill(worker, signal.SIGKILL)
    contains(process.communicate(timeout=60)[1], "failed to fetch remote")
    settled()

    # the agent: its worker goes on, and gives up with the one who waits
    process, pids = silent_build()
    agent = daemon.pids()["agent"]
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: daemon.pids().get("agent", agent) != agent, 60, "another agent")
    process.kill()
    process.communicate(timeout=60)
    settled()


@test
def cut_off_when_all_is_here(_):
    """A worker that is killed before it sends anything leaves a directory, which goes"""
    Repository(top + "/cut.git", {"Dockerfile": DOCKERFILE})
    daemon.stop()
    daemon.start(WABE_FAULT="worker:git.done")
    contains(classic(server.git + "/cut.git")[1], "failed to fetch remote")
    settled()
    daemon.stop()
    daemon.start(WABE_FAULT="both:git.done")
    try:
        classic(server.git + "/cut.git")
    except (OSError, AssertionError):
        pass
    daemon.stop()
    daemon.start()
    settled()
    both(server.git + "/cut.git")


def setup():
    global daemon, docker, builder, server, top
    need("git", shutil.which("git"))
    need("openssl", shutil.which("openssl"))
    space = NetworkSpace()
    top = tempfile.mkdtemp(prefix="wabe-git-", dir="/var/tmp")
    authority = Authority(space, top)
    daemon = docker_daemon("git", netspace=authority)
    docker = daemon.docker
    builder = Builder(daemon, docker)
    server = Server(space, top, authority.path)
    return daemon


def teardown(d):
    server.__exit__()
    d.close()
    d.space.space.close()
    shutil.rmtree(top)


if __name__ == "__main__":
    run(setup, teardown)
