#!/usr/bin/env python3
"""Images through the docker client and the Docker API: registries, archives, names, lists, what goes and what stays."""
import base64
import bz2
import gzip
import http.server
import json
import lzma
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import Docker, load_busybox  # noqa: E402
from registry import Authority, Image, Registry, debian_registry, digest, noise, tar  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402


class Place:
    def __init__(self):
        self.registries, self.debian = [], None
        self.mirror = Registry()
        self.certs = tempfile.mkdtemp(prefix="wabe-certs-")
        os.chmod(self.certs, 0o755)
        self.daemon = Daemon("dimages", netspace="host", args=("--mirror", f"http://{self.mirror.host}", "--certs", self.certs)).start()
        self.docker = Docker.of(self.daemon)
        self.dir = self.daemon.dir

    def registry(self, **options):
        self.registries.append(Registry(**options))
        return self.registries[-1]

    def debian_registry(self):
        need("docker-registry", shutil.which("docker-registry"))
        if not self.debian:
            self.debian = debian_registry(self.dir)
        return self.debian[1]

    def __getattr__(self, name):  # out, run, api
        return getattr(self.docker, name)

    def lines(self, method, path, **kw):
        """Status and the lines of an answer that is a stream of JSON."""
        c = self.docker.connection()
        c.request(method, path, kw.get("body"), kw.get("headers", {}))
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, [json.loads(line) for line in text.splitlines()]

    def pull(self, name, tag, **kw):
        return self.lines("POST", f"/v1.44/images/create?fromImage={name}&tag={tag}", **kw)

    def message(self, method, path, status, **kw):
        got, answer = self.api(method, path, **kw)
        equal(got, status, str(answer))
        return answer["message"] if answer else None

    def names(self, *args):
        return sorted(self.out("images", "--format", "{{.Repository}}:{{.Tag}}", *args).splitlines())

    def images(self, **filters):
        query = "&".join(["all=1"] * filters.pop("all", 0))
        text = json.dumps({k: v if isinstance(v, list) else [v] for k, v in filters.items()})
        status, answer = self.api("GET", f"/v1.44/images/json?filters={text.replace(' ', '')}&{query}")
        equal(status, 200, str(answer))
        return answer

    def clean(self):
        for i in json.loads(self.daemon.out("ls", "-a", "--json")):
            self.daemon.cli("rm", "-f", i["id"])
        self.daemon.cli("image", "prune", "-a")
        for r in self.registries:
            r.close()
        self.registries.clear()
        self.mirror.manifests.clear()

    def close(self):
        if self.debian:
            self.debian[0].kill()
            self.debian[0].wait()
        self.mirror.close()
        self.daemon.close()
        shutil.rmtree(self.certs)


def text_layer(text):
    return tar([("file", text.encode())])


def auth(**config):
    return base64.urlsafe_b64encode(json.dumps(config).encode()).decode()


# ---- pull ----
@test
def pull_lines(p):
    """each layer's steps, the digest and what came of it, as dockerd has them; a second pull finds all there"""
    r, image = p.registry(), Image([tar([("a", noise(3000000, 1))]), text_layer("b")])
    name, ids = r.add(image).rsplit(":", 1)[0], None
    ids = [layer[7:19] for layer in image.layers]
    status, lines = p.pull(name, "1")
    equal(status, 200)
    equal(lines[0], {"status": "Pulling from x", "id": "1"})
    equal([(x["status"], x["id"]) for x in lines[1:3]], [("Pulling fs layer", i) for i in ids])
    for i in ids:
        steps = [x["status"] for x in lines if x.get("id") == i]
        for a, b in (("Verifying Checksum", "Download complete"), ("Download complete", "Pull complete")):
            assert steps.index(a) < steps.index(b), steps
        equal(steps[-1], "Pull complete")
    for x in lines:
        if x["status"] in ("Downloading", "Extracting"):
            assert x["progressDetail"]["current"] <= x["progressDetail"]["total"] and x["progress"].startswith("["), x
    equal([x["status"] for x in lines[-2:]], [f"Digest: {image.digest}", f"Status: Downloaded newer image for {name}:1"])
    _, lines = p.pull(name, "1")
    equal([x["status"] for x in lines], ["Pulling from x", "Already exists", "Already exists", f"Digest: {image.digest}",
                                         f"Status: Image is up to date for {name}:1"])
    contains(p.out("pull", f"{name}:1"), "Image is up to date")


@test
def pull_what_is_not_there(p):
    """404 with dockerd's words, whatever the registry lacks; nothing changes"""
    r = p.registry()
    name = r.add(Image()).rsplit(":", 1)[0]
    path = "/v1.44/images/create?fromImage="
    equal(p.message("POST", f"{path}{name}&tag=2", 404), f"manifest for {name}:2 not found: manifest unknown: manifest unknown")
    contains(p.run("pull", f"{name}:2", check=False).stderr, "not found: manifest unknown: manifest unknown")
    r.fault = lambda h, *_: r.error(h, 403, "DENIED", "requested access to the resource is denied") or True
    equal(p.message("POST", f"{path}{name}&tag=1", 404), f"pull access denied for {name}, repository does not exist or may "
          "require 'docker login': denied: requested access to the resource is denied")
    equal(p.message("POST", f"{path}team/UP&tag=1", 400)[:24], "invalid reference format")
    assert p.message("POST", f"{path}127.0.0.1:1/x&tag=1", 500)
    equal(p.images(), [])


@test
def pull_of_all_tags(p):
    """-a: every tag of the repository"""
    host = p.debian_registry()
    load_busybox(p.daemon, f"{host}/all:1", f"{host}/all:2")
    p.run("tag", f"{host}/all:2", f"{host}/all:three")
    p.run("push", "-a", f"{host}/all")
    p.run("rmi", f"{host}/all:1", f"{host}/all:2", f"{host}/all:three")
    out = p.out("pull", "-a", f"{host}/all")
    for tag in ("1", "2", "three"):
        contains(out, f"{tag}: Pulling from all")
    equal(p.names(), [f"{host}/all:1", f"{host}/all:2", f"{host}/all:three"])


@test
def tags_on_many_pages(p):
    """-a takes the pages of a long list one after the other, and none from somebody else's place"""
    r = p.registry()
    image = Image()
    for n in range(7):
        r.add(image, "many", f"t{n}")
    r.tags_page = 2
    p.out("pull", "-a", f"{r.host}/many")
    equal(sorted(n for n in p.names() if "/many:" in n), [f"{r.host}/many:t{n}" for n in range(7)])
    equal(len(r.asked("/tags/list")), 4)
    p.run("rmi", *[f"{r.host}/many:t{n}" for n in range(7)])
    other = p.registry()
    r.tags_next = f"http://{other.host}/v2/many/tags/list?last=t1"
    p.out("pull", "-a", f"{r.host}/many")
    equal(other.requests, [])
    equal(sorted(n for n in p.names() if "/many:" in n), [f"{r.host}/many:t{n}" for n in range(2)])


@test
def digests(p):
    """RepoDigests is what the registry says, of an index too; pull, inspect and removal by it; it lasts, and goes with the name"""
    r = p.registry()
    images = [Image([text_layer(a)], architecture=a) for a in ("amd64", "arm64", "s390x")]
    name = r.add_index(images)
    index = digest(r.manifests["x", "1"][1])
    repository = name.rsplit(":", 1)[0]
    p.run("pull", name)
    equal(p.inspect(name)["RepoDigests"], [f"{repository}@{index}"])
    contains(p.out("images", "--digests"), index)
    p.daemon.stop()
    p.daemon.start()
    equal(p.inspect(name)["RepoDigests"], [f"{repository}@{index}"], "after a restart")
    equal(p.out("rmi", name).splitlines()[:2], [f"Untagged: {name}", f"Untagged: {repository}@{index}"])
    p.run("pull", f"{repository}@{index}")
    equal((p.images()[0]["RepoTags"], p.images()[0]["RepoDigests"]), ([], [f"{repository}@{index}"]))
    equal(p.inspect(f"{repository}@{index}")["Id"], p.images()[0]["Id"])
    contains(p.out("rmi", f"{repository}@{index}"), "Deleted: ")
    p.run("pull", "--platform", "linux/s390x", name)
    equal(p.inspect(name)["Architecture"], "s390x")


@test
def a_moved_name_leaves_a_dangling_image(p):
    """the older image keeps its digest alone, is dangling, and is pruned"""
    r = p.registry()
    first, second = Image([text_layer("1")]), Image([text_layer("2")])
    name = r.add(first)
    p.run("pull", name)
    r.add(second)
    contains(p.out("pull", name), "Downloaded newer image")
    old = p.images(dangling="true")
    equal([(x["Id"], x["RepoTags"]) for x in old], [(digest(first.config), [])])
    status, answer = p.api("POST", "/v1.44/images/prune")
    contains(answer["ImagesDeleted"], {"Deleted": digest(first.config)})
    assert answer["SpaceReclaimed"] > 0
    equal([x["Id"] for x in p.images()], [digest(second.config)])


@test
def who_leaves_cancels(p):
    """the last client that goes away ends the pull; one that stays gets it all"""
    r, image = p.registry(), Image([tar([("a", noise(3000000, 1))])])
    name = r.add(image)
    reached, go = threading.Event(), threading.Event()

    def fault(h, kind, what):
        if kind != "blob" or what != image.layers[0] or go.is_set():
            return False
        data = r.blobs[what]
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:100000])
        h.wfile.flush()
        reached.set()
        h.close_connection = True
        while not go.wait(0.1):
            try:
                h.wfile.write(b"")
            except OSError:
                return True
        try:
            h.wfile.write(data[100000:])
        except OSError:
            pass
        return True
    r.fault = fault
    clients = [p.start("pull", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert reached.wait(60)
    for c in clients:
        contains(c.stdout.readline(), "Pulling from")  # both take part
    tasks = lambda: [t for t in json.loads(p.daemon.out("task", "ls", "--json")) if t["target"] == name]  # noqa: E731
    clients[0].kill()
    clients[0].wait()
    equal([t["state"] for t in tasks()], ["running"])
    clients[1].kill()
    clients[1].wait()
    wait_until(lambda: [t["state"] for t in tasks()] == ["cancelled"])
    go.set()
    contains(p.out("pull", name), "Downloaded newer image")


@test
def registries_that_lie(p):
    """a wrong digest, an endless blob, a redirect loop, 429, a cut transfer: an error that says so, and nothing new"""
    r, image = p.registry(), Image([tar([("a", noise(200000, 1))])])
    name, layer = r.add(image), image.layers[0]
    good = r.blobs[layer]

    def endless(h, kind, what):
        if kind != "blob" or what != layer:
            return False
        h.send_response(200)
        h.end_headers()
        h.close_connection = True
        try:
            while True:
                h.wfile.write(bytes(len(good)))
        except OSError:
            return True
    cases = {
        "corrupt": lambda h, kind, what: what == layer and (r.reply(h, 200, bytes(len(good))) or True),
        "longer": endless,
        "redirects without end": lambda h, kind, what: kind == "blob" and (r.reply(h, 307, Location=h.path) or True),
        "too many requests": lambda h, kind, what: kind == "blob" and
        (r.error(h, 429, "TOOMANYREQUESTS", "slow down", Retry_After="1") or True),
        "ends after": lambda h, kind, what: what == layer and (r.reply(h, 200, good[:1000]) or True),
    }
    for text, fault in cases.items():
        r.fault = fault
        status, lines = p.pull(name.rsplit(":", 1)[0], "1")
        message = lines[-1].get("message") or lines[-1]["error"]
        if status == 200:
            equal(lines[-1]["errorDetail"]["message"], message)
        assert text in message or (text == "corrupt" and "digest" in message), (text, message)
        equal(p.images(), [], text)
    r.fault = None
    equal(p.pull(name.rsplit(":", 1)[0], "1")[1][-1]["status"], f"Status: Downloaded newer image for {name}")


# ---- push ----
@test
def push(p):
    """lines as dockerd has them, the digest that the registry has, kept by the image; what is there is not sent again"""
    host = p.debian_registry()
    load_busybox(p.daemon, "busybox:latest")
    p.run("tag", "busybox", f"{host}/team/bb:1")
    status, lines = p.lines("POST", f"/v1.44/images/{host}/team/bb/push?tag=1", headers={"X-Registry-Auth": "e30="})
    equal(lines[0], {"status": f"The push refers to repository [{host}/team/bb]"})
    layer = p.inspect("busybox")["RootFS"]["Layers"][0][7:19]
    steps = [x["status"] for x in lines if x.get("id") == layer]
    equal((steps[0], steps[-1]), ("Preparing", "Pushed"))
    aux = lines[-1]["aux"]
    equal(lines[-2]["status"], f"1: digest: {aux['Digest']} size: {aux['Size']}")
    equal(aux["Tag"], "1")
    equal(p.inspect("busybox")["RepoDigests"], [f"{host}/team/bb@{aux['Digest']}"])
    contains(p.out("push", f"{host}/team/bb:1"), "Layer already exists")
    p.run("rmi", "busybox", f"{host}/team/bb:1")
    contains(p.out("pull", f"{host}/team/bb:1"), f"Digest: {aux['Digest']}")
    for name, tag, text in ((f"{host}/none", "1", f"An image does not exist locally with the tag: {host}/none"),
                            (f"{host}/team/bb", "9", f"tag does not exist: {host}/team/bb:9")):
        status, lines = p.lines("POST", f"/v1.44/images/{name}/push?tag={tag}")
        equal((status, lines[-1]), (200, {"errorDetail": {"message": text}, "error": text}))


# ---- credentials ----
@test
def login_and_credentials(p):
    """basic and token registries: login is checked, pulls and pushes carry it; without it there is dockerd's error"""
    for kind in ("basic", "bearer"):
        r = p.registry()
        name = r.add(Image([text_layer(kind)]))
        r.auth, r.users = kind, {"me": "secret", "<token>": "identity"}
        assert p.run("pull", name, check=False).returncode
        good = {"username": "me", "password": "secret", "serveraddress": r.host}
        equal(p.api("POST", "/v1.44/auth", good), (200, {"IdentityToken": "", "Status": "Login Succeeded"}))
        assert p.message("POST", "/v1.44/auth", 401, body={**good, "password": "bad"})
        contains(p.run("login", "-u", "me", "-p", "secret", r.host).stdout, "Login Succeeded")
        contains(p.out("pull", name), "Downloaded newer image")
        p.run("tag", name, f"{r.host}/y:2")
        p.run("push", f"{r.host}/y:2")
        p.run("logout", r.host)
        text = auth(**good)
        for header in (text, text.rstrip("="), auth(auth=base64.b64encode(b"me:secret").decode())):
            status, _ = p.pull(f"{r.host}/x", "1", headers={"X-Registry-Auth": header})
            equal(status, 200, header)
        if kind == "bearer":
            equal(p.pull(f"{r.host}/x", "1", headers={"X-Registry-Auth": auth(identitytoken="identity")})[0], 200)
        status, lines = p.pull(f"{r.host}/x", "1", headers={"X-Registry-Auth": auth(username="me", password="bad")})
        assert status in (401, 404, 500) and "message" in lines[0], (status, lines)


@test
def search(p):
    """through the mirror: filters and limits"""
    found = [{"name": "busybox", "description": "small", "star_count": 30, "is_official": True},
             {"name": "me/busybox", "description": "", "star_count": 3, "is_official": False}]

    def answer(h, *_):
        return False
    p.mirror.fault = answer
    original = p.mirror.get
    p.mirror.get = lambda h: p.mirror.reply(h, 200, json.dumps({"results": found}).encode()) if "/v1/search" in h.path else original(h)
    equal([x["name"] for x in p.api("GET", "/v1.44/images/search?term=busybox")[1]], ["busybox", "me/busybox"])
    contains(p.out("search", "--filter", "is-official=true", "busybox"), "small")
    equal([x["name"] for x in p.api("GET", '/v1.44/images/search?term=b&filters={"stars":["10"]}')[1]], ["busybox"])
    equal(p.message("GET", "/v1.44/images/search?term=b&limit=101", 400), "limit 101 is outside the range of [1, 100]")
    assert p.message("GET", f"/v1.44/images/search?term={p.registry().host}/x", 500)
    p.mirror.get = original


@test
def distribution(p):
    """what a registry has, without fetching it"""
    r = p.registry()
    images = [Image([text_layer(a)], architecture=a) for a in ("amd64", "arm64")]
    name = r.add_index(images)
    status, answer = p.api("GET", f"/v1.44/distribution/{name}/json")
    equal((status, answer["Descriptor"]["digest"]), (200, digest(r.manifests["x", "1"][1])))
    equal([x["architecture"] for x in answer["Platforms"]], ["amd64", "arm64"])
    single = r.add(images[1], tag="2")
    status, answer = p.api("GET", f"/v1.44/distribution/{single}/json")
    equal((answer["Descriptor"]["digest"], answer["Platforms"]), (images[1].digest, [{"architecture": "arm64", "os": "linux"}]))
    equal(p.message("GET", f"/v1.44/distribution/{r.host}/x:none/json", 404), "manifest unknown: manifest unknown")
    equal(p.images(), [])


# ---- lists ----
@test
def lists(p):
    """every filter; newest first; fields of older versions"""
    r = p.registry()
    made = {}
    for i, name in enumerate(("a", "b", "c"), 1):
        image = Image([text_layer("common"), text_layer(name)], config={"Labels": {"which": name, f"only-{name}": ""}})
        document = json.loads(image.config)
        document["created"] = f"2024-05-0{i}T00:00:00Z"
        old = digest(image.config)
        image.config = json.dumps(document).encode()
        image.blobs.pop(old)
        image.blobs[digest(image.config)] = image.config
        image.document["config"].update(digest=digest(image.config), size=len(image.config))
        image.manifest = json.dumps(image.document).encode()
        image.digest = digest(image.manifest)
        made[name] = r.add(image, f"team/{name}", "1")
        p.run("pull", made[name])
    order = [made["c"], made["b"], made["a"]]
    tags = lambda **f: [x["RepoTags"][0] for x in p.images(**f)]  # noqa: E731
    equal(tags(), order)
    equal(tags(before=made["b"]), [made["a"]])
    equal(tags(since=made["b"]), [made["c"]])
    equal(tags(label="which=b"), [made["b"]])
    equal(tags(label=["only-a", "which=a"]), [made["a"]])
    equal(tags(until="2024-05-02T00:00:00Z"), [made["b"], made["a"]])
    equal(tags(reference=f"{r.host}/team/*"), order)
    equal(tags(reference=f"{r.host}/*"), [])
    equal(tags(reference=f"{r.host}/team/[ab]:1"), [made["b"], made["a"]])
    equal(tags(dangling="true"), [])
    equal(tags(dangling="false"), order)
    equal(p.names("--filter", "label=which=c"), [made["c"]])
    contains(p.message("GET", '/v1.44/images/json?filters={"nothing":["x"]}', 400), "invalid filter 'nothing'")
    equal(p.message("GET", '/v1.44/images/json?filters={"before":["nope"]}', 404), "No such image: nope:latest")
    equal(p.message("GET", '/v1.44/images/json?filters={"dangling":["perhaps"]}', 400)[:14], "invalid filter")
    one = p.images(label="which=a")[0]
    equal((one["Containers"], one["SharedSize"], one["ParentId"], one["Size"]), (-1, -1, "", 7))
    assert "VirtualSize" not in one
    shared = p.api("GET", "/v1.43/images/json?shared-size=1")[1][0]
    equal((shared["SharedSize"], shared["VirtualSize"]), (6, 7))
    p.run("rmi", made["a"], made["b"], made["c"])
    equal(p.api("GET", "/v1.44/images/json"), (200, []))


@test
def inspect_and_history(p):
    """the image's own configuration, all of it; history with its layers' sizes"""
    r = p.registry()
    config = {"User": "1:1", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": ["c"], "Volumes": {"/v": {}},
              "WorkingDir": "/w", "Labels": {"k": "v"}, "StopSignal": "SIGINT", "OnBuild": ["RUN x"], "Shell": ["/bin/sh"],
              "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5000000000}}
    image = Image([text_layer("12345"), text_layer("1")], config=config)
    name = r.add(image)
    p.run("pull", name)
    got = p.inspect(name)
    equal({k: got["Config"][k] for k in config}, config)
    old = p.api("GET", f"/v1.49/images/{name}/json")[1]["Config"]
    equal((old["Hostname"], old["Tty"], "Hostname" in got["Config"]), ("", False, False))
    here, other = (urllib.parse.quote(json.dumps({"os": "linux", "architecture": a})) for a in ("amd64", "s390x"))
    for path in f"{name}/json", f"{name}/history", f"{name}/get":
        contains(p.message("GET", f"/v1.51/images/{path}?platform={other}", 404), "does not provide the specified platform (linux/s390x)")
        contains(p.message("GET", f"/v1.51/images/{path}?platform=linux", 400), "failed to parse platform")
    equal(p.api("GET", f"/v1.51/images/{name}/json?platform={here}")[0], 200)
    contains(p.message("DELETE", f"/v1.51/images/{name}?platforms={other}", 404), "s390x")
    equal([i["Containers"] for i in p.api("GET", "/v1.51/images/json")[1]], [0])
    equal((got["Id"], got["Created"], got["Architecture"], got["Os"], got["Parent"]),
          (digest(image.config), "2024-05-06T07:08:09Z", "amd64", "linux", ""))
    equal(got["RootFS"], {"Type": "layers", "Layers": [digest(x) for x in image.plain]})
    equal((got["Size"], got["RepoTags"]), (6, [name]))
    assert got["Metadata"]["LastTagTime"].startswith("20")
    assert "VirtualSize" not in p.api("GET", f"/v1.44/images/{name}/json")[1]
    short = digest(image.config)[7:19]
    for by in (short, "sha256:" + short, digest(image.config), name):
        equal(p.api("GET", f"/v1.44/images/{by}/json")[1]["Id"], digest(image.config), by)
    equal([x.split() for x in p.out("history", "--format", "{{.ID}} {{.Size}} {{.CreatedBy}}", name).splitlines()],
          [[short, "1B", "test"], ["<missing>", "5B", "test"]])
    equal(p.message("GET", "/v1.44/images/nope/json", 404), "No such image: nope:latest")
    equal(p.message("GET", "/v1.44/images/nope/history", 404), "No such image: nope:latest")
    equal(p.message("GET", "/v1.44/images/team/nope:3/json", 404), "No such image: team/nope:3")
    equal(p.message("GET", f"/v1.44/images/sha256:{'0' * 64}/json", 404), f"No such image: sha256:{'0' * 64}")


# ---- certificates ----
@test
def certificates(p):
    """certs.d: an authority and a client certificate for Debian's docker-registry, seen without a restart; what is wrong is named"""
    need("docker-registry", shutil.which("docker-registry"))
    own = Authority(p.daemon.dir + "/authority")
    process, host = debian_registry(own.dir, tls=own)
    there = os.path.join(p.certs, host)
    try:
        load_busybox(p.daemon, f"{host}/team/bb:1")

        def refused():
            r = p.run("push", f"{host}/team/bb:1", check=False)
            equal(r.returncode, 1, r.stdout)
            return r.stderr

        refused()
        os.mkdir(there)
        shutil.copy(own.cert, there)
        assert "verification" not in refused()  # the client's is missing
        cert, key = own.sign("client", "DNS:client")
        shutil.copy(cert, there)
        contains(refused(), f"missing key client.key for client certificate {there}/client.cert")
        shutil.copy(key, there)
        os.chmod(there + "/client.key", 0o600)
        contains(refused(), f"cannot read {there}/client.key: Permission denied (the user wabe must be able to")
        os.chown(there + "/client.key", 0, pwd.getpwnam("wabe").pw_gid)
        os.chmod(there + "/client.key", 0o640)
        p.run("push", f"{host}/team/bb:1")
        p.run("rmi", f"{host}/team/bb:1")
        p.run("pull", f"{host}/team/bb:1")
        equal(p.out("run", "--rm", f"{host}/team/bb:1", "echo", "secure"), "secure")
        p.run("login", "-u", "x", "-p", "y", host)
        with open(there + "/ca.crt", "w") as f:
            f.write("nonsense")
        contains(refused(), f"{there}/ca.crt holds no certificate in PEM")
    finally:
        process.kill()
        process.wait()


# ---- names ----
@test
def tags(p):
    """tag, and what is no name"""
    load_busybox(p.daemon, "busybox:latest")
    equal(p.api("POST", "/v1.44/images/busybox/tag?repo=mine&tag=2")[0], 201)
    equal(p.names(), ["busybox:latest", "mine:2"])
    equal(p.message("POST", "/v1.44/images/busybox/tag?repo=UP&tag=2", 400), "invalid reference format: repository name must be lowercase")
    equal(p.message("POST", "/v1.44/images/busybox/tag?repo=a..b&tag=1", 400), "invalid reference format")
    equal(p.message("POST", "/v1.44/images/nope/tag?repo=a&tag=1", 404), "No such image: nope:latest")
    equal(p.message("POST", "/v1.44/images/busybox/tag?repo=sha256&tag=2", 400), "refusing to create an ambiguous tag using digest algorithm as name")
    p.run("tag", "busybox", "docker.io/library/again")
    contains(p.names(), "again:latest")


@test
def removal(p):
    """names, ids, several repositories, images that containers have: dockerd's rules and words"""
    load_busybox(p.daemon, "busybox:latest")
    ident = p.inspect("busybox")["Id"]
    short = ident[7:19]
    p.run("tag", "busybox", "other:1")
    equal(p.message("DELETE", f"/v1.44/images/{short}", 409),
          f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    equal(p.api("DELETE", "/v1.44/images/other:1"), (200, [{"Untagged": "other:1"}]))
    p.daemon.cli("create", "--name", "box", "busybox", "sleep", "100")
    box = json.loads(p.daemon.out("show", "box"))
    box = (box[0] if isinstance(box, list) else box)["id"][:12]
    equal(p.message("DELETE", "/v1.44/images/busybox", 409), 'conflict: unable to remove repository reference "busybox" (must force)'
          f" - container {box} is using its referenced image {short}")
    equal(p.message("DELETE", f"/v1.44/images/{short}", 409),
          f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container {box}")
    p.daemon.cli("start", "box")
    equal(p.message("DELETE", f"/v1.44/images/{short}?force=1", 409),
          f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container {box}")
    equal(p.api("DELETE", "/v1.44/images/busybox?force=1"), (200, [{"Untagged": "busybox:latest"}]))
    equal([i["Id"] for i in p.images()], [ident])
    p.daemon.cli("rm", "-f", "box")
    equal(p.api("DELETE", f"/v1.44/images/{short}"), (200, [{"Deleted": ident}]))
    equal(p.message("DELETE", "/v1.44/images/busybox", 404), "No such image: busybox:latest")
    contains(p.run("rmi", "nope", check=False).stderr, "No such image: nope:latest")


@test
def removal_by_force(p):
    """rmi -f of an image that a stopped container has: the image goes, the container keeps what it needs, the last one ends that"""
    layers = os.path.join(p.daemon.state, "agent/layers")
    load_busybox(p.daemon, "busybox:latest")
    ident = p.inspect("busybox")["Id"]
    unpacked, archive = sorted(os.listdir(layers)), p.run("save", "busybox", text=False).stdout
    for name in ("one", "two"):
        p.run("create", "--name", name, "busybox", "cat", "/etc/own")
    p.run("cp", "-", "one:/etc", input=tar([("own", b"kept\n")]), text=False)
    equal(p.api("DELETE", f"/v1.44/images/{ident[7:19]}?force=1"), (200, [{"Untagged": "busybox:latest"}, {"Deleted": ident}]))
    equal(p.images(), [])
    for name in ("busybox", ident):
        equal(p.api("GET", f"/v1.44/images/{name}/json")[0], 404)
    equal(p.api("POST", "/v1.44/containers/create", {"Image": ident})[0], 404)
    p.run("image", "prune", "-af")
    p.daemon.kill()
    p.daemon.start()
    equal(p.out("start", "-a", "one"), "kept")
    equal(p.inspect("one")["Image"], ident)
    equal(p.inspect("one")["Config"]["Image"], "busybox")
    equal(p.out("ps", "-a", "--no-trunc", "--format", "{{.Image}}").splitlines(), [ident, ident])
    p.run("commit", "one", "copy:1")
    equal(p.out("run", "--rm", "copy:1"), "kept")
    p.run("rmi", "copy:1")
    p.run("load", input=archive, text=False)  # the same again is another matter
    equal(p.inspect("busybox")["Id"], ident)
    p.run("rmi", "-f", "busybox")
    p.run("rm", "one")
    wait_until(lambda: sorted(os.listdir(layers)) == unpacked, 60, "the layers that `two` needs, and no others")
    p.run("rm", "two")
    wait_until(lambda: not os.listdir(layers), 60, "the layers to go")
    load_busybox(p.daemon, "busybox:latest")
    equal(p.out("run", "--rm", "busybox", "echo", "new"), "new")


@test
def prune(p):
    """by label and time; all, or what has no name"""
    r = p.registry()
    for label in ("keep", "go"):
        p.run("pull", r.add(Image([text_layer(label)], config={"Labels": {label: "1"}}), label))
    prune = lambda **f: p.api("POST", "/v1.44/images/prune?filters=" + json.dumps(f).replace(" ", ""))  # noqa: E731
    equal(prune()[1], {"ImagesDeleted": None, "SpaceReclaimed": 0})
    equal(prune(dangling=["false"], until=["2020-01-01"])[1]["ImagesDeleted"], None)
    prune(dangling=["false"], label=["go"])
    equal(p.names(), [f"{r.host}/keep:1"])
    prune(dangling=["false"], **{"label!": ["keep"]})
    equal(p.names(), [f"{r.host}/keep:1"])
    equal(prune(nothing=["x"])[0], 400)
    contains(p.out("image", "prune", "-af"), "untagged: ")
    equal(p.images(), [])


# ---- archives ----
@test
def save_and_load(p):
    """save | load: names and ids stay; compressed archives; nonsense is an error line"""
    load_busybox(p.daemon, "busybox:latest", "busybox:2")
    before = {n: p.inspect(n)["Id"] for n in ("busybox:latest", "busybox:2")}
    archive = p.run("save", "busybox", text=False).stdout
    p.run("rmi", "busybox:latest", "busybox:2")
    out = p.run("load", input=gzip.compress(archive, 1), text=False).stdout.decode()
    equal(sorted(out.splitlines()), ["Loaded image: busybox:2", "Loaded image: busybox:latest"])
    equal({n: p.inspect(n)["Id"] for n in before}, before)
    for pack in (bz2.compress, lzma.compress):
        contains(p.run("load", input=pack(archive), text=False).stdout, b"Loaded image: busybox:2")
    ident = before["busybox:2"]
    archive = p.run("save", ident, text=False).stdout
    contains(p.run("load", input=archive, text=False).stdout, b"Loaded image")
    status, lines = p.lines("POST", "/v1.44/images/load?quiet=1", body=b"nonsense" * 100)
    equal((status, lines[0]["error"]), (200, lines[0]["errorDetail"]["message"]))
    equal(p.message("GET", "/v1.44/images/get?names=busybox&names=nope", 404), "No such image: nope:latest")
    equal(p.message("GET", "/v1.44/images/nope/get", 404), "No such image: nope:latest")


@test
def imports(p):
    """a tree becomes an image, with instructions applied"""
    data = tar([("file", b"hello")])
    ident = p.run("import", "--change", "CMD [\"/x\"]", "--change", "ENV A=1", "--message", "mine", "-", "tree:1", input=data,
                  text=False).stdout.decode().strip()
    got = p.inspect("tree:1")
    equal((got["Id"], got["Config"]["Cmd"], got["Config"]["Env"], got["Comment"]), (ident, ["/x"], ["A=1"], "mine"))
    status, lines = p.lines("POST", "/v1.44/images/create?fromSrc=-", body=data)
    equal((status, lines[0]["status"][:7]), (200, "sha256:"))
    contains(p.message("POST", "/v1.44/images/create?fromSrc=-&repo=BAD", 400, body=data), "invalid reference format")
    equal(p.api("POST", "/v1.44/images/create?fromSrc=-&repo=bad&changes=RUN%20x", body=data)[0], 400)
    equal(p.names(), ["<none>:<none>", "tree:1"])
    unknown = '"foobar": unknown operating system or architecture: invalid argument'
    for source in ("fromSrc=-", "fromImage=some"):
        equal(p.message("POST", f"/v1.44/images/create?{source}&platform=foobar", 400, body=data), unknown)
    for given, has in (("linux/arm/v6", ("linux", "arm", "v6")), ("aarch64", ("linux", "arm64", None))):
        equal(p.lines("POST", f"/v1.44/images/create?fromSrc=-&repo=other&tag=1&platform={given}", body=data)[0], 200)
        i = p.inspect("other:1")
        equal((i["Os"], i["Architecture"], i.get("Variant")), has)
    equal([len(p.api("GET", f"/{v}/images/json?filter=tree")[1]) for v in ("v1.40", "v1.41")], [1, len(p.api("GET", "/images/json")[1])])


@test
def imports_of_urls(p):
    """a tree comes from a server as well; what it refuses, and what is no URL, makes no image"""
    data = gzip.compress(tar([("file", b"hello")]))

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/root.tar.gz" else 404)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"127.0.0.1:{server.server_port}"
        p.run("import", f"http://{at}/root.tar.gz", "tree:2")
        equal(p.inspect("tree:2")["Comment"], f"Imported from http://{at}/root.tar.gz")
        equal(p.lines("POST", f"/v1.44/images/create?fromSrc={at}/root.tar.gz&repo=tree&tag=3")[0], 200)
        contains(p.run("import", f"http://{at}/none", check=False).stderr, "404")
        server.shutdown()
    contains(p.message("POST", "/v1.44/images/create?fromSrc=file:///etc/passwd", 400), "a URL of http or https is wanted")
    equal(p.names(), ["tree:2", "tree:3"])


if __name__ == "__main__":
    run(Place, Place.close, Place.clean)
