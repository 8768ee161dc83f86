#!/usr/bin/env python3
"""Images through a whole daemon: registries, archives, names, what is shared and what goes, how they are run."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from registry import Image, Registry, debian_registry, digest, noise, skopeo, tar, write_layout  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import WABE, Daemon, busybox_rootfs, wait_until  # noqa: E402

BIG = 3 << 20


class Place:
    def __init__(self):
        self.registries, self.debian = [], None
        self.daemon = Daemon("images", netspace="host").start()
        self.dir = self.daemon.dir
        with open(busybox_rootfs(self.dir + "/busybox.tar"), "rb") as f:
            self.busybox = f.read()

    def registry(self):
        self.registries.append(Registry())
        return self.registries[-1]

    def image(self, *layers, **config):
        """An image that runs: busybox and further layers."""
        more = {k: config.pop(k) for k in ("architecture", "gz") if k in config}
        return Image([self.busybox, *layers], config={"Cmd": ["cat", "/file"], **config}, **more)

    def debian_registry(self):
        need("docker-registry", shutil.which("docker-registry") and shutil.which("skopeo"))
        if not self.debian:
            self.debian = debian_registry(self.dir)
        return self.debian[1]

    def __getattr__(self, name):  # cli, out, show, …
        return getattr(self.daemon, name)

    def images(self):
        return json.loads(self.out("image", "ls", "--json"))

    def unpacked(self):
        return {n for n in os.listdir(self.daemon.state + "/agent/layers") if len(n) == 64}

    def blobs(self):
        return {"sha256:" + n for n in os.listdir(self.daemon.state + "/control/content/blobs/sha256")}

    def start_cli(self, *args):
        return subprocess.Popen(self.daemon.line(*args), env=self.daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def clean(self):
        """Nothing is left of the test before, so that each sees its own images alone."""
        for instance in json.loads(self.out("ls", "-a", "--json")):
            self.cli("rm", "-f", instance["id"])
        for task in json.loads(self.out("task", "ls", "--json")):
            if task["state"] == "running":
                self.cli("task", "cancel", task["id"])
        self.cli("image", "prune", "-a")
        for r in self.registries:
            r.close()
        self.registries.clear()

    def close(self):
        if self.debian:
            self.debian[0].kill()
            self.debian[0].wait()
        self.daemon.close()


def fails(p, text, *args, **kw):
    r = p.cli(*args, check=False, **kw)
    assert r.returncode != 0, f"{args} should fail: {r.stdout}"
    contains(r.stderr, text)
    return r


def text_layer(text):
    return tar([("file", text.encode())])


class Gate:
    """Blobs of the registry stop halfway until they are let through."""

    def __init__(self, registry, *blobs, trickle=False):
        self.registry, self.blobs, self.trickle = registry, blobs, trickle
        self.reached, self.open = threading.Event(), threading.Event()
        registry.fault = self.fault

    def fault(self, h, kind, name):
        if kind != "blob" or name not in self.blobs or self.open.is_set():
            return False
        data = self.registry.blobs[name]
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        sent = len(data) // 2
        h.wfile.write(data[:sent])
        h.wfile.flush()
        self.reached.set()
        try:
            while not self.open.wait(0.1 if self.trickle else 60) and self.trickle:
                h.wfile.write(data[sent:sent + 100])
                sent += 100
            h.wfile.write(data[sent:])
        except OSError:
            h.close_connection = True
        return True

    def wait(self):
        assert self.reached.wait(60), "nobody has asked for the blob"


# ---- registries ----
@test
def pull_and_run(p):
    """pull by tag and by digest; what was pulled runs; a name that is moved leaves the old image without one"""
    r, first, second = p.registry(), p.image(text_layer("one")), p.image(text_layer("two"))
    name = r.add(first)
    ident = p.out("image", "pull", name)
    equal(ident, digest(first.config))
    equal(p.out("run", "--rm", name), "one")
    shown = json.loads(p.out("image", "show", name))
    shown = shown[0] if isinstance(shown, list) else shown
    equal((shown["id"], shown["digest"], shown["names"]), (ident, first.digest, [name]))
    contains(p.out("image", "ls"), name)

    r.add(second)
    by_digest = f"{r.host}/x@{second.digest}"
    p.cli("image", "pull", by_digest)
    equal(p.out("run", "--rm", by_digest), "two")
    equal(p.out("run", "--rm", name), "one", "the tag here has not moved")
    equal(p.out("image", "pull", name), digest(second.config))
    equal(p.out("run", "--rm", name), "two")
    equal([i.get("names", []) for i in p.images() if i["id"] == ident], [[]])
    fails(p, "not found", "image", "pull", f"{r.host}/x:none")
    equal(p.out("run", "--rm", "--pull", "always", name), "two")


@test
def platforms(p):
    """of an index the host's platform is taken, or the one that is asked for"""
    r = p.registry()
    arm, here = p.image(text_layer("arm"), architecture="arm64"), p.image(text_layer("here"))
    name = r.add_index([arm, here])
    equal(p.out("image", "pull", name), digest(here.config))
    equal(p.out("run", "--rm", name), "here")
    equal(p.out("image", "pull", "--platform", "linux/arm64", name), digest(arm.config))
    contains(p.out("image", "ls", name), "linux/arm64")
    fails(p, "linux/s390x", "image", "pull", "--platform", "linux/s390x", name)
    fails(p, "OS/ARCH", "image", "pull", "--platform", "s390x", name)


@test
def whole_indexes(p):
    """--platform all: the index stays whole, is pushed and saved under its digest, loaded again; it goes with its image"""
    host, r = p.debian_registry(), p.registry()
    arm, here = p.image(text_layer("arm"), architecture="arm64"), p.image(text_layer("here"))
    name = r.add_index([arm, here])
    index = digest(r.manifests["x", "1"][1])
    parts = {index, arm.digest, here.digest, *(digest(i.config) for i in (arm, here)), *arm.layers, *here.layers}
    equal(p.out("image", "pull", "--platform", "all", name), digest(here.config))
    equal((p.out("run", "--rm", name), json.loads(p.out("image", "show", name))["index"]), ("here", index))
    p.cli("image", "prune")
    equal(p.blobs(), parts)

    p.cli("image", "tag", name, f"{host}/all:1")
    p.cli("image", "push", f"{host}/all:1")
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/all:1"], check=True,
                         capture_output=True).stdout
    equal(digest(raw), index)
    equal(json.loads(skopeo("inspect", "--tls-verify=false", "--override-arch=arm64", f"docker://{host}/all:1"))["Layers"],
          arm.layers)
    contains(p.out("image", "show", name), f"{host}/all@{index}")

    archive = p.dir + "/all.tar"
    p.cli("image", "save", "-o", archive, name)
    p.cli("image", "rm", "-f", digest(here.config))
    p.cli("image", "prune", "-a")
    equal((p.images(), p.blobs()), ([], set()))
    p.cli("image", "load", "-i", archive)
    equal((p.out("run", "--rm", name), json.loads(p.out("image", "show", name))["index"]), ("here", index))
    equal(p.blobs(), parts)

    other = r.add_index([here])  # the tag leads elsewhere now
    p.cli("image", "pull", other)
    assert "index" not in json.loads(p.out("image", "show", name))
    p.cli("image", "prune", "-a")
    equal(p.blobs() & {index, arm.digest}, set())


@test
def push_and_read_back(p):
    """push to a real registry: skopeo reads the same image, under the same digest; tag names it before"""
    host, r = p.debian_registry(), p.registry()
    image = p.image(text_layer("pushed"))
    p.cli("image", "pull", r.add(image))
    p.cli("image", "tag", f"{r.host}/x:1", f"{host}/team/app:2")
    p.cli("image", "push", f"{host}/team/app:2")
    p.cli("image", "push", f"{host}/team/app:2", f"{host}/other:3")
    for name in ("team/app:2", "other:3"):
        seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{host}/{name}"))
        equal((seen["Digest"], seen["Layers"]), (image.digest, image.layers))
    p.cli("image", "prune", "-a")
    equal(p.out("run", "--rm", f"{host}/other:3"), "pushed", "run fetches what is missing")
    fails(p, "no image is called", "image", "push", "never/was:1")


@test
def basic_authentication(p):
    """a password comes from WABE_PASSWORD; without it, or with a wrong one, pull and push say what is missing"""
    r, image = p.registry(), p.image(text_layer("secret"))
    name = r.add(image)
    r.auth, r.users = "basic", {"joe": "pa:ss word"}

    def tried(password, *args):
        return subprocess.run([WABE, *args], env=dict(p.daemon.env, WABE_PASSWORD=password), capture_output=True, text=True,
                              timeout=60)
    for wrong in (("x", "image", "pull", name), ("x", "image", "pull", "-u", "joe", name)):
        got = tried(*wrong)
        equal(got.returncode, 125)
        contains(got.stderr, r.host)
    equal(p.images(), [])
    got = tried("pa:ss word", "image", "pull", "--username", "joe", name)
    equal(got.returncode, 0, got.stderr)
    equal(tried("no", "image", "push", "-u", "joe", name).returncode, 125)
    got = tried("pa:ss word", "image", "push", "-u", "joe", name, f"{r.host}/copy:1")
    equal(got.returncode, 0, got.stderr)
    assert ("copy", "1") in r.manifests
    assert "pa:ss" not in p.out("task", "ls", "--json")
    assert "pa:ss" not in p.daemon.log()


@test
def mirrors(p):
    """--mirror: images of docker.io come from the first mirror that has them, under their own name"""
    empty, full = p.registry(), p.registry()
    full.add(p.image(text_layer("mirrored")), "library/thing", "latest")
    d = Daemon("mirror", netspace="host", args=["--mirror", f"http://{empty.host}", "--mirror", f"http://{full.host}/"])
    try:
        d.start()
        equal(d.out("run", "--rm", "thing"), "mirrored")
        equal(json.loads(d.out("image", "ls", "--json"))[0]["names"], ["docker.io/library/thing:latest"])
        assert empty.asked("library/thing/manifests")
    finally:
        d.close()
    r = subprocess.run([WABE, "daemon", "--mirror", "mirror.example"], capture_output=True, text=True, timeout=20)
    equal(r.returncode, 1)
    contains(r.stderr, "http://")


# ---- what goes on at once, and what breaks ----
@test
def each_blob_is_fetched_once(p):
    """four pulls at once, of one image and of another that shares its layers, fetch each blob once"""
    r, shared = p.registry(), tar([("big", noise(BIG))])
    one, two = p.image(shared, text_layer("1")), p.image(shared, text_layer("2"))
    names = [r.add(one, "one"), r.add(two, "two")]
    gate = Gate(r, one.layers[1])
    pulls = [p.start_cli("image", "pull", n) for n in names * 2]
    gate.wait()
    wait_until(lambda: len(r.asked("/two/manifests/")) > 0 or pulls[1].poll() is not None, 60, "the second pull")
    gate.open.set()
    for pull in pulls:
        out, err = pull.communicate(timeout=60)
        equal(pull.returncode, 0, err)
    for blob in set(one.blobs) | set(two.blobs):
        asked = r.asked("/blobs/" + blob)
        equal(len([q for q in asked if q[0] == "GET"]), 1, f"requests of {blob}")
    equal([p.out("run", "--rm", n) for n in names], ["1", "2"])
    equal(len(p.unpacked()), 4, "layers on disk")


@test
def killed_in_the_midst(p):
    """SIGKILL of the daemon halfway through a pull: no half image, and the next pull goes on where it was"""
    r, image = p.registry(), p.image(tar([("file", b"whole"), ("big", noise(BIG))]))
    name, blob = r.add(image), image.layers[1]
    gate = Gate(r, blob)
    pull = p.start_cli("image", "pull", name)
    gate.wait()
    partial = p.daemon.state + "/control/content/ingest/" + blob[7:]
    wait_until(lambda: os.path.exists(partial) and os.stat(partial).st_size >= 1 << 20, 30, "half of the blob")
    p.daemon.kill()
    assert pull.wait(60) != 0
    pull.communicate()
    gate.open.set()
    p.daemon.start()
    equal(p.images(), [])
    equal(json.loads(p.out("task", "ls", "--json")), [])
    fails(p, "no image is called", "run", "--rm", "--pull", "never", name)
    p.cli("image", "pull", name)
    assert [q for q in r.asked(blob) if q[2].get("Range", "").startswith("bytes=")], "the second pull asks for the rest alone"
    equal(p.out("run", "--rm", name), "whole")


@test
def wrong_content_is_refused(p):
    """a blob, a manifest or a layer that is not what its digest says: an error, and no image"""
    r, image = p.registry(), p.image(text_layer("right"))
    name = r.add(image)
    good = dict(r.blobs)
    r.blobs[image.layers[1]] = noise(len(good[image.layers[1]]), 7)
    fails(p, image.layers[1], "image", "pull", name)
    r.blobs.update(good)
    r.manifests["x", image.digest] = (r.manifests["x", "1"][0], image.manifest + b" ")
    fails(p, "corrupt", "image", "pull", f"{r.host}/x@{image.digest}")
    lying = p.image(text_layer("a"))
    document = json.loads(lying.config)
    document["rootfs"]["diff_ids"][1] = digest(b"something else")
    config = json.dumps(document).encode()
    lying.blobs[digest(config)] = config
    lying.document["config"].update(digest=digest(config), size=len(config))
    lying.manifest = json.dumps(lying.document).encode()
    lying.digest = digest(lying.manifest)
    fails(p, "layer", "image", "pull", r.add(lying, "lying"))
    equal(p.images(), [])
    equal(p.out("run", "--rm", name), "right", "the right one afterwards")


@test
def progress_and_tasks(p):
    """progress comes as lines when there is no terminal; -q is silent; tasks are listed, shown and cancelled"""
    r, image = p.registry(), p.image(tar([("file", b"slow"), ("big", noise(BIG))]))
    name, gate = r.add(image), Gate(r, image.layers[1], trickle=True)
    pull, quiet = p.start_cli("image", "pull", name), p.start_cli("image", "pull", "-q", name)
    gate.wait()
    tasks = json.loads(p.out("task", "ls", "--json"))
    running = [t for t in tasks if t["state"] == "running"]
    equal([(t["kind"], t["target"]) for t in running], [("image-pull", name)], "one task for both")
    ident = running[0]["id"]
    contains(p.out("task", "ls"), name)
    line = first_line(pull)
    contains(line, "downloading: ")
    contains(line, " of ")
    assert "\r" not in line and "\033" not in line, line
    p.cli("task", "cancel", ident)
    gate.open.set()
    for process, silent in ((pull, False), (quiet, True)):
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        contains(err, "cancelled")
        if silent:
            assert "downloading" not in err, err
    shown = json.loads(p.out("task", "show", ident))
    equal((shown[0] if isinstance(shown, list) else shown)["state"], "cancelled")
    equal(p.images(), [])
    fails(p, "no task is called", "task", "show", "deadbeef")
    p.cli("image", "pull", name)
    equal(p.out("run", "--rm", name), "slow")


def first_line(pull):
    got = []
    reader = threading.Thread(target=lambda: got.append(pull.stderr.readline()), daemon=True)
    reader.start()
    reader.join(60)
    assert got, "no progress was shown"
    return got[0]


@test
def interrupted_pull_is_cancelled(p):
    """SIGINT to a pulling client cancels the task"""
    r, image = p.registry(), p.image(tar([("big", noise(BIG))]))
    name, gate = r.add(image), Gate(r, image.layers[1])
    pull = p.start_cli("image", "pull", name)
    gate.wait()
    pull.send_signal(signal.SIGINT)
    pull.communicate(timeout=60)
    assert pull.returncode != 0
    gate.open.set()

    def state():
        return [t["state"] for t in json.loads(p.out("task", "ls", "--json")) if t["target"] == name]
    wait_until(lambda: state() == ["cancelled"], 30, "the end of the task")
    equal(p.images(), [])


# ---- what goes ----
@test
def removal_and_disk(p):
    """an image in use stays; shared layers are unpacked once and go with their last image, blobs too"""
    r, shared = p.registry(), tar([("big", noise(BIG))])
    one, two = p.image(shared, text_layer("1")), p.image(shared, text_layer("2"))
    names = [r.add(one, "one"), r.add(two, "two")]
    p.cli("image", "pull", *names)
    equal(len(p.unpacked()), 4)
    layer_files = {os.stat(f"{p.daemon.state}/agent/layers/{digest(shared)[7:]}/fs/big").st_ino}
    equal(len(layer_files), 1)
    p.cli("run", "--name", "user", names[0])
    fails(p, "user", "image", "rm", names[0])
    p.cli("image", "tag", names[0], "second:name")
    out = p.out("image", "rm", names[0])
    equal(out, f"untagged {names[0]}")
    fails(p, "user", "image", "rm", "second:name")
    p.cli("rm", "user")
    fails(p, "no image is called", "image", "rm", names[0])
    out = p.out("image", "rm", "second:name")
    contains(out, f"deleted {digest(one.config)}")
    wait_until(lambda: len(p.unpacked()) == 3, 20, "the layer of the first image alone to go")
    equal(p.blobs(), set(two.blobs) | {two.digest})
    equal(p.out("run", "--rm", names[1]), "2")
    out = p.out("image", "prune")
    equal(out, "freed 0 B", "prune leaves what has a name")
    out = p.out("image", "prune", "--all")
    contains(out, digest(two.config))
    equal((p.unpacked(), p.blobs(), p.images()), (set(), set(), []))
    assert "freed 0 B" not in out, out


@test
def names_and_ids(p):
    """rm by id wants force when there are several names; an image without a name is pruned"""
    r, image = p.registry(), p.image(text_layer("x"))
    name = r.add(image)
    ident = p.out("image", "pull", name)
    p.cli("image", "tag", ident[7:19], "b:1")
    equal(sorted(json.loads(p.out("image", "ls", "--json"))[0]["names"]), sorted([name, "docker.io/library/b:1"]))
    fails(p, "2 names", "image", "rm", ident)
    r.add(p.image(text_layer("y")))
    p.cli("image", "pull", name)
    p.cli("image", "rm", "b:1")
    equal(len(p.images()), 1)
    p.cli("image", "tag", name, "b:1")
    p.cli("image", "rm", "-f", p.images()[0]["id"])
    equal(p.images(), [])
    fails(p, "no image is called", "image", "show", name)
    p.cli("image", "pull", name)
    fails(p, "Not A Name", "image", "tag", name, "Not A Name")


@test
def prune_beside_a_pull(p):
    """a prune while an image is being pulled frees the rest, and takes nothing that the pull counts on"""
    r, shared = p.registry(), tar([("big", noise(BIG))])
    old, new = p.image(shared, text_layer("old")), p.image(shared, tar([("file", b"new"), ("more", noise(BIG, 2))]))
    name = r.add(old, "old")
    p.cli("image", "pull", name)
    gate = Gate(r, new.layers[2])
    pull = p.start_cli("image", "pull", r.add(new, "new"))
    gate.wait()
    p.cli("image", "rm", name)
    p.cli("image", "prune", "-a")
    assert old.layers[2] not in p.blobs(), "the old image's own layer goes at once"
    gate.open.set()
    _, err = pull.communicate(timeout=60)
    equal(pull.returncode, 0, err)
    equal(p.blobs(), set(new.blobs) | {new.digest})
    equal(p.unpacked(), {digest(x)[7:] for x in new.plain})
    equal(p.out("run", "--rm", f"{r.host}/new:1"), "new")


# ---- archives ----
@test
def archives_of_others(p):
    """load: docker-archive, oci-archive and layout directories as skopeo writes them, plain and compressed"""
    need("skopeo", shutil.which("skopeo"))
    image = p.image(text_layer("loaded"), User="1000")
    with tempfile.TemporaryDirectory() as t:
        write_layout(t + "/made", [(image, "docker.io/library/l:1")])
        skopeo("copy", f"oci:{t}/made", f"oci:{t}/layout:docker.io/library/l:1")
        subprocess.run(["tar", "-C", t + "/layout", "-cf", t + "/layout.tar", "."], check=True)
        for kind in ("docker-archive", "oci-archive"):
            skopeo("copy", f"oci:{t}/made", f"{kind}:{t}/{kind}.tar:docker.io/library/l:1")
        for kind in ("docker-archive", "oci-archive", "layout"):
            contains(p.out("image", "load", f"{t}/{kind}.tar"), "l:1", kind)
            equal(p.out("run", "--rm", "l:1", "sh", "-c", "cat /file; id -u"), "loaded1000", kind)
            p.cli("image", "rm", "l:1")
            subprocess.run(["gzip", f"{t}/{kind}.tar"], check=True)
            with open(f"{t}/{kind}.tar.gz", "rb") as f:
                r = p.cli("image", "load", input=f.read(), text=False)
            contains(r.stdout.decode(), "l:1", kind)
            p.cli("image", "rm", "l:1")
        fails(p, "directory", "image", "load", t + "/layout")
        with open(t + "/junk", "wb") as f:
            f.write(noise(10000))
        fails(p, "archive", "image", "load", t + "/junk")
    equal(p.images(), [])


@test
def save_for_others(p):
    """save: skopeo reads what is written, of several images; a name of none is said"""
    need("skopeo", shutil.which("skopeo"))
    r = p.registry()
    one, two = p.image(text_layer("1")), p.image(text_layer("2"))
    p.cli("image", "pull", r.add(one, "one"), r.add(two, "two"))
    p.cli("image", "tag", f"{r.host}/one:1", "one:1")
    with tempfile.TemporaryDirectory() as t:
        p.cli("image", "save", "-o", t + "/both.tar", "one:1", f"{r.host}/two:1")
        equal(json.loads(skopeo("inspect", f"docker-archive:{t}/both.tar:one:1"))["Architecture"], "amd64")
        fails(p, "no image is called", "image", "save", "-o", t + "/none.tar", "none")
        assert not os.path.exists(t + "/none.tar")
        p.cli("image", "prune", "-a")
        p.cli("image", "load", "-i", t + "/both.tar")
        equal({n for i in p.images() for n in i["names"]}, {"docker.io/library/one:1", f"{r.host}/two:1"})
        equal(p.out("run", "--rm", "one:1"), "1")


@test
def import_commit_export(p):
    """a plain tar becomes an image; a commit lies on top of its layers; export gives the files back"""
    with tempfile.TemporaryDirectory() as t:
        ident = p.out("image", "import", "-m", "by hand", p.dir + "/busybox.tar", "base:1")
        equal(p.images()[0]["id"], ident)
        p.cli("run", "--name", "changed", "base:1", "sh", "-c", "echo text > /added; rm /etc/group")
        p.cli("commit", "changed", "top:1")
        p.cli("rm", "changed")
        layers = {i["names"][0]: [x["diff_id"] for x in i["layers"]] for i in p.images()}
        base, top = layers["docker.io/library/base:1"], layers["docker.io/library/top:1"]
        equal((len(base), len(top), top[:1]), (1, 2, base))
        equal(p.out("run", "--rm", "top:1", "sh", "-c", "cat /added; test -e /etc/group || echo gone"), "text\ngone")
        equal(p.unpacked(), {d[7:] for d in top})
        p.cli("image", "export", "-o", t + "/root.tar", "top:1")
        names = subprocess.run(["tar", "-tf", t + "/root.tar"], capture_output=True, text=True, check=True).stdout.split("\n")
        names = {n.removeprefix("./") for n in names}
        assert "added" in names and "etc/group" not in names and "bin/busybox" in names, sorted(names)[:20]
        equal(json.loads(p.out("ls", "-a", "--json")), [], "instances that the export leaves")
        p.cli("image", "import", "-", "again:1", input=open(t + "/root.tar", "rb").read(), text=False)
        equal(p.out("run", "--rm", "again:1", "cat", "/added"), "text")
        p.cli("image", "rm", "base:1")
        equal(p.out("run", "--rm", "top:1", "cat", "/added"), "text", "the base's layer stays for the one on top")


# ---- how an image is run ----
@test
def config_of_an_image(p):
    """User, Env, WorkingDir, Entrypoint, Cmd and Volumes hold, and each can be said otherwise"""
    r = p.registry()
    name = r.add(p.image(text_layer("x"), User="alice", Env=["A=1", "B=two words"], WorkingDir="/made/for it",
                         Entrypoint=["sh", "-c", "echo \"$0|$A|$B|$PWD|$(id -un)|$*\""], Cmd=["zero", "more"],
                         Volumes={"/data": {}}))
    equal(p.out("run", "--rm", name), "zero|1|two words|/made/for it|alice|more")
    equal(p.out("run", "--rm", "-e", "A=9", "-w", "/tmp", "-u", "0", name, "own"), "own|9|two words|/tmp|root|")
    equal(p.out("run", "--rm", "--entrypoint", "echo", name, "plain"), "plain")
    equal(p.out("run", "--rm", "-e", "A", name), "zero||two words|/made/for it|alice|more", "-e A removes it")
    p.cli("run", "--name", "vol", "--entrypoint", "sh", "-u", "0", name, "-c", "echo kept > /data/f; echo x > /other")
    assert "/data/f" not in p.out("diff", "vol"), "a volume is no part of the instance's own files"
    contains(p.out("diff", "vol"), "/other")


@test
def stop_signal_of_an_image(p):
    """stop sends the image's StopSignal"""
    r = p.registry()
    name = r.add(p.image(StopSignal="SIGUSR1", Cmd=["sh", "-c",
                         "trap 'exit 33' USR1; echo up; while :; do sleep 0.1; done"]))
    p.cli("run", "-d", "--name", "sig", name)
    wait_until(lambda: p.out("logs", "sig") == "up", 20, "the trap")
    p.cli("stop", "sig")
    equal(p.show("sig")["status"]["exit_code"], 33)


@test
def health_of_an_image(p):
    """Healthcheck: starting, healthy, unhealthy after so many failures, as show and ls tell"""
    r = p.registry()
    check = {"Test": ["CMD-SHELL", "test ! -e /tmp/sick"], "Interval": 200_000_000, "Timeout": 10_000_000_000, "Retries": 2}
    name = r.add(p.image(Cmd=["sleep", "1000"], Healthcheck=check))
    p.cli("run", "-d", "--name", "patient", name)

    def health():
        return p.show("patient")["status"].get("health")
    assert health() in ("starting", "healthy"), health()
    wait_until(lambda: health() == "healthy", 30, "health")
    contains(p.out("ls"), "healthy")
    p.cli("exec", "patient", "touch", "/tmp/sick")
    wait_until(lambda: health() == "unhealthy", 30, "sickness")
    p.cli("exec", "patient", "rm", "/tmp/sick")
    wait_until(lambda: health() == "healthy", 30, "recovery")
    p.cli("rm", "-f", "patient")
    p.cli("run", "-d", "--name", "unasked", "--no-healthcheck", name)
    equal(p.show("unasked")["status"].get("health"), None)


run(Place, Place.close, Place.clean)
