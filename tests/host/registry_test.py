#!/usr/bin/env python3
"""Pull, push, load, save and import against a registry that misbehaves, Debian's docker-registry and skopeo."""
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from registry import DOCKER, OCI, Authority, Image, Registry, debian_registry, digest, layer, noise, skopeo, tar, write_layout  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402

TOOL = sys.argv.pop(sys.argv.index("--tool") + 1)
sys.argv.remove("--tool")
BIG = 3 << 20


class Place:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="wabe-registry-")
        self.count = 0
        self.registries = []
        self.debian = None

    def content(self):
        self.count += 1
        return os.path.join(self.dir, f"content{self.count}")

    def registry(self, **options):
        r = Registry(**options)
        self.registries.append(r)
        return r

    def close(self):
        for r in self.registries:
            r.close()
        if self.debian:
            self.debian[0].terminate()
            self.debian[0].wait()
        shutil.rmtree(self.dir)


def tool(content, *args, stdin=b"", **env):
    """status, standard output as bytes, standard error as text"""
    env = {**os.environ, **{"TOOL_" + k.upper(): v for k, v in env.items()}}
    p = subprocess.run([TOOL, content, *args], input=stdin, capture_output=True, env=env, timeout=120)
    error = p.stderr.decode()
    assert "Sanitizer" not in error and p.returncode in (0, 1), (p.returncode, error)
    return p.returncode, p.stdout, error


def ok(content, *args, **more):
    status, out, error = tool(content, *args, **more)
    equal(status, 0, error)
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


def fails(content, kind, part, *args, **more):
    status, _, error = tool(content, *args, **more)
    equal(status, 1, f"status of {args} ({error})")
    last = error.strip().splitlines()[-1]
    assert last.startswith(kind + ":"), last
    contains(last, part)
    return error


def blobs(content):
    return {"sha256:" + name for name in os.listdir(os.path.join(content, "blobs/sha256"))}


def big_image(place):
    """A registry, an empty content store, the digest of the image's one layer of BIG bytes, its name."""
    r, image = place.registry(), Image([layer(BIG)])
    return r, place.content(), image.layers[0], r.add(image)


def partials(content):
    return os.listdir(os.path.join(content, "ingest"))


# --- a registry that behaves ---

@test
def pulls(place):
    """an image is pulled once: config, layers, manifest; a second pull fetches no blob"""
    r, content = place.registry(), place.content()
    config = {"User": "1000:1000", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1", "B"], "Entrypoint": ["/e"], "Cmd": ["c"],
              "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"k": "v"}, "StopSignal": "SIGINT",
              "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5000000000, "Retries": 2}}
    image = Image([layer(100, 1), layer(200, 2), layer(100, 1)], config=config)
    ref = r.add(image)
    status, out, error = tool(content, "pull", ref)
    equal(status, 0, error)
    lines = out.decode().splitlines()
    equal(len([x for x in lines if x.startswith("ready ")]), 2, "layers reported")
    got = json.loads(lines[-1])
    equal(got["id"], digest(image.config))
    equal(got["digest"], image.digest)
    equal(got["names"], [ref])
    equal([x["diff_id"] for x in got["layers"]], [digest(p) for p in image.plain])
    c = got["config"]
    equal((c["user"], c["workdir"], c["stop_signal"]), ("1000:1000", "/w", "SIGINT"))
    equal((c["entrypoint"], c["command"], c["env"]), (["/e"], ["c"], ["A=1", "B"]))
    equal((c["volumes"], c["exposed_ports"], c["labels"]), (["/v"], ["80/tcp"], {"k": "v"}))
    equal((c["health"]["command"], c["health"]["interval"], c["health"]["retries"]), (["CMD", "x"], "5s", 2))
    equal(blobs(content), set(image.blobs) | {image.digest})
    equal(partials(content), [])
    asked = len(r.asked("/blobs/"))
    ok(content, "pull", ref)
    equal(len(r.asked("/blobs/")), asked, "requests for blobs")
    equal(r.requests[-1][2]["User-Agent"].split("/")[0], "wabe")
    ok(content, "pull", f"{r.host}/x@{image.digest}")


@test
def pulls_together(place):
    """two pulls at once of the same image do the work once"""
    r, content = place.registry(), place.content()
    image = Image([layer(BIG, 1), layer(BIG, 2)])
    equal(len(ok(content, "pull", r.add(image), twice="1")), 2)
    for name in image.blobs:
        equal(r.served[name], len(image.blobs[name]), "bytes served")


@test
def chooses_platform(place):
    """an index: the platform's image, the best variant, else an error that names those there are"""
    r, content = place.registry(), place.content()
    images = {k: Image([layer(50, i)], *k) for i, k in
              enumerate([("amd64",), ("arm", "v5"), ("arm", "v6"), ("arm", "v7"), ("arm64", "v8"), ("s390x",)])}
    ref = r.add_index(list(images.values()))
    for architecture, variant, wanted in (("amd64", "", ("amd64",)), ("arm", "v6", ("arm", "v6")), ("arm", "v7", ("arm", "v7")),
                                          ("arm64", "", ("arm64", "v8")), ("s390x", "", ("s390x",))):
        options = {"architecture": architecture, **({"variant": variant} if variant else {})}
        equal(ok(content, "pull", ref, **options)[0]["digest"], images[wanted].digest, str(wanted))
    error = fails(content, "not-found", "riscv64", "pull", ref, architecture="riscv64")
    contains(error, "linux/amd64, linux/arm/v5")
    fails(content, "not-found", "is for the platform linux/amd64", "pull", r.add(images["amd64",], "single"), architecture="arm64")


# --- one that does not ---

@test
def wrong_digest(place):
    """a blob with other content than its digest says is refused and leaves nothing"""
    r, content = place.registry(), place.content()
    image = Image()
    ref = r.add(image)
    r.blobs[image.layers[0]] = bytes(len(r.blobs[image.layers[0]]))
    fails(content, "corrupt", image.layers[0], "pull", ref)
    equal(blobs(content), {digest(image.config)})
    equal(partials(content), [])


@test
def wrong_manifest_digest(place):
    """a manifest that is not what was asked for by digest, or what the header says, is refused"""
    r, content = place.registry(), place.content()
    image, other = Image(), Image([layer(7, 7)])
    r.add(image), r.add(other)
    r.manifests["x", image.digest] = r.manifests["x", other.digest]
    fails(content, "corrupt", image.digest, "pull", f"{r.host}/x@{image.digest}")

    def lie(h, kind, name):
        if kind == "manifest":
            r.reply(h, 200, image.manifest, Content_Type=OCI + "manifest.v1+json", Docker_Content_Digest=other.digest)
            return True
    r.fault = lie
    fails(content, "corrupt", "manifest", "pull", f"{r.host}/x:1")


@test
def broken_connections(place):
    """a connection that breaks is resumed where it broke: no byte is fetched twice"""
    r, content, big, ref = big_image(place)
    r.fault = lambda h, kind, name: name == big and r.blob(h, name, cut=700000)
    equal(len(ok(content, "pull", ref)), 1)
    equal(r.served[big], len(r.blobs[big]), "bytes served")
    assert len(r.asked(big)) > 3


@test
def ranges_ignored(place):
    """a server that ignores ranges, or sends another one, makes it start over"""
    r, _, big, ref = big_image(place)
    tries = []

    def ignore(h, kind, name):
        if name == big:
            tries.append(h.headers.get("Range"))
            return r.blob(h, name, ranges=False, cut=1000000 if len(tries) == 1 else None)

    def wrong(h, kind, name):
        if name != big:
            return False
        tries.append(h.headers.get("Range"))
        if len(tries) == 2:
            r.reply(h, 206, r.blobs[big][:100], Content_Range=f"bytes 0-99/{len(r.blobs[big])}")
            return True
        return r.blob(h, name, cut=1000000 if len(tries) == 1 else None)

    for fault in (ignore, wrong):
        tries.clear()
        r.fault = fault
        ok(place.content(), "pull", ref)
        assert tries[0] is None and tries[1] == "bytes=1000000-", tries


@test
def always_truncated(place):
    """a blob that never comes whole fails, and says so; its beginning is kept for the next time"""
    r, content, big, ref = big_image(place)
    whole = r.blobs[big]
    r.fault = lambda h, kind, name: name == big and (r.reply(h, 200, whole[:500000]) or True)
    fails(content, "corrupt", "ends after 500000", "pull", ref)
    equal(partials(content), [big[7:]])
    r.fault = None
    ok(content, "pull", ref)
    equal(r.served[big], len(whole) - 500000, "bytes served")


@test
def passing_errors(place):
    """500, 503 and 429 are tried again, 403 and 404 are not"""
    r, content = place.registry(), place.content()
    image = Image()
    ref = r.add(image)
    left = {}

    def shaky(h, kind, name):
        n = left[name] = left.get(name, 0) + 1
        if n <= 3:
            r.error(h, (500, 503, 429)[n - 1], "TOOMANYREQUESTS", "slow down")
            return True
    r.fault = shaky
    ok(content, "pull", ref)
    r.fault = lambda h, *_: r.error(h, 500, "X", "on\x1b[31mfire") or True
    error = fails(place.content(), "unavailable", "on [31mfire", "pull", ref)
    assert "\x1b" not in error
    r.fault = lambda h, *_: r.error(h, 403, "DENIED", "not yours") or True
    before = len(r.requests)
    fails(place.content(), "denied", "not yours", "pull", ref)
    assert len(r.asked("/manifests/")) and len(r.requests) - before <= 2, "403 was tried again"
    r.fault = None
    fails(place.content(), "not-found", f"{r.host}/x:none not found", "pull", f"{r.host}/x:none")


@test
def stalls(place):
    """a server that stalls is left, and the rest fetched anew"""
    r, content, big, ref = big_image(place)
    done = threading.Event()

    def stall(h, kind, name):
        if name != big or h.headers.get("Range"):
            return False
        h.send_response(200)
        h.send_header("Content-Length", str(len(r.blobs[big])))
        h.end_headers()
        h.wfile.write(r.blobs[big][:1000000])
        h.wfile.flush()
        done.wait(60)
        return True
    r.fault = stall
    ok(content, "pull", ref)
    done.set()
    equal(r.served[big], len(r.blobs[big]) - 1000000, "bytes served after the stall")


@test
def too_large(place):
    """manifests and layers that are larger than allowed or announced are cut off"""
    r, content = place.registry(), place.content()
    r.manifests["x", "big"] = (OCI + "manifest.v1+json", b" " * (5 << 20))
    fails(content, "too-large", "4194304", "pull", f"{r.host}/x:big")
    image = Image()
    ref = r.add(image)
    r.blobs[image.layers[0]] += b"more"
    fails(content, "corrupt", "longer than", "pull", ref)
    image = Image(config={"Labels": {"x": "y"}})
    image.document["config"]["size"] = 9 << 20
    image.manifest = json.dumps(image.document).encode()
    image.digest = digest(image.manifest)
    fails(content, "too-large", "config", "pull", r.add(image))


@test
def bad_documents(place):
    """manifests and configs that are wrong or not supported have errors that say why"""
    r, content = place.registry(), place.content()

    def manifest(text, kind, part, media_type=OCI + "manifest.v1+json"):
        r.manifests["x", "bad"] = (media_type, text if isinstance(text, bytes) else json.dumps(text).encode())
        fails(content, kind, part, "pull", f"{r.host}/x:bad")

    manifest(b'{"a":' * 100000, "invalid", "JSON")
    manifest(b"<html>", "invalid", "JSON")
    manifest({"schemaVersion": 1, "fsLayers": []}, "unsupported", "schema 1", DOCKER + "distribution.manifest.v1+prettyjws")
    manifest({"schemaVersion": 2, "manifests": [], "layers": [], "config": {}}, "invalid", "both")
    
    good = Image().document
    manifest({**good, "layers": [{"mediaType": DOCKER + "image.rootfs.foreign.diff.tar.gzip", "digest": digest(b""), "size": 1,
                                  "urls": ["http://x/"]}]}, "unsupported", "distributed")
    manifest({**good, "layers": [{"mediaType": OCI + "layer.v1.tar+gzip", "digest": "sha512:" + "0" * 128, "size": 1}]},
             "unsupported", "sha512")
    manifest({**good, "layers": [{"mediaType": OCI + "layer.v1.tar+gzip", "digest": "../../x", "size": 1}]}, "invalid", "digest")
    manifest({**good, "layers": [{"mediaType": OCI + "layer.v1.tar", "digest": digest(b""), "size": -1}]}, "invalid", "size")
    manifest({**good, "layers": good["layers"] * 600}, "too-large", "layers")
    manifest({**good, "config": {**good["config"], "mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "unsupported", "helm")
    for config, part in (({"Cmd": "text"}, "Cmd"), ({"Env": [1]}, "Env"), ({"Labels": []}, "Labels"),
                         ({"Healthcheck": {"Interval": "1s"}}, "Interval"), ({"Volumes": 1}, "Volumes")):
        fails(content, "invalid", part, "pull", r.add(Image(config=config), "bad"))
    image = Image([layer(), layer()])
    image.document["layers"].pop()
    image.manifest = json.dumps(image.document).encode()
    image.digest = digest(image.manifest)
    fails(content, "invalid", "1 layers, its config 2", "pull", r.add(image))


@test
def full_disk(place):
    """a full disk is an error of its own, and leaves no half blob"""
    need("root", os.geteuid() == 0)
    small = os.path.join(place.dir, "small")
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "wabe-test", small]).returncode:
        need("mount", False)
    try:
        r, content = place.registry(), os.path.join(small, "content")
        image = Image([layer(BIG)])
        fails(content, "no-space", "No space left", "pull", r.add(image))
        equal(blobs(content), {digest(image.config)})
        equal(partials(content), [])
    finally:
        subprocess.run(["umount", small], check=True)


@test
def killed_halfway(place):
    """a pull killed by SIGKILL shows nothing, and the next one goes on from where it was"""
    r, content = place.registry(), place.content()
    image = Image([layer(BIG)])
    big = image.layers[0]
    ref = r.add(image)
    half, sent, released = len(r.blobs[big]) // 2, threading.Event(), threading.Event()

    def pause(h, kind, name):
        if name != big or h.headers.get("Range"):
            return False
        h.send_response(200)
        h.send_header("Content-Length", str(len(r.blobs[big])))
        h.end_headers()
        h.wfile.write(r.blobs[big][:half])
        h.wfile.flush()
        sent.set()
        released.wait(60)
        h.close_connection = True
        return True
    r.fault = pause
    p = subprocess.Popen([TOOL, content, "pull", ref], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         env={**os.environ, "TOOL_VERBOSE": "1"}, text=True)
    for line in p.stderr:
        if line.startswith("downloading " + big) and int(line.split()[2].split("/")[0]) >= half:
            break
    p.send_signal(signal.SIGKILL)
    p.wait()
    p.stderr.close()
    released.set()
    equal(blobs(content), {digest(image.config)})
    ok(content, "pull", ref)
    equal(r.asked(big)[-1][2].get("Range"), f"bytes={half}-")
    equal(r.served[big], len(r.blobs[big]) - half, "bytes served the second time")


@test
def damaged_partial(place):
    """what an earlier try left broken is found out, dropped and fetched again"""
    r, content, big, ref = big_image(place)
    fails(content, "cancelled", "", "pull", ref, cancel_after="1500000", parallel="1")
    with open(os.path.join(content, "ingest", big[7:]), "r+b") as f:
        f.seek(1000)
        f.write(bytes(100))
    ok(content, "pull", ref)


@test
def plain_http_unasked(place):
    """a redirect to plain HTTP on another host is refused; so are other schemes"""
    r = place.registry()
    ref = r.add(Image())
    for target, part in (("http://registry.invalid/x", "plain HTTP on registry.invalid"), ("ftp://127.0.0.1/x", "neither"),
                         ("file:///etc/passwd", ""), ("http://user:pass@127.0.0.1/", "not valid")):
        r.fault = lambda h, kind, name: kind == "blob" and (r.reply(h, 307, Location=target) or True)
        status, _, error = tool(place.content(), "pull", ref)
        equal(status, 1)
        contains(error, part)
        assert error.startswith(("denied", "corrupt")), error
    r.fault = lambda h, kind, name: kind == "blob" and (r.reply(h, 307, Location=h.path) or True)
    fails(place.content(), "unavailable", "redirects without end", "pull", ref)


# --- credentials ---

@test
def basic(place):
    """basic authentication; wrong and missing passwords; never shown"""
    r = place.registry()
    ref = r.add(Image())
    r.auth, r.users = "basic", {"joe": "secret:word"}
    ok(place.content(), "pull", ref, username="joe", password="secret:word")
    error = fails(place.content(), "unauthorized", "who are you", "pull", ref, username="joe", password="hunter2")
    assert "hunter2" not in error and "aG" not in error
    fails(place.content(), "unauthorized", "who are you", "pull", ref)


@test
def bearer(place):
    """tokens: anonymous, with a password, with an identity token, renewed when they expire"""
    r = place.registry()
    ref = r.add(Image([layer(10, 1), layer(10, 2), layer(10, 3)]), "team/x")
    r.auth = "bearer"
    ok(place.content(), "pull", ref)
    contains(r.asked("/token")[0][1], "scope=repository%3Ateam%2Fx%3Apull")
    equal(len(r.asked("/token")), 1, "tokens fetched")
    r.users = {"joe": "secret", "<token>": "identity"}
    ok(place.content(), "pull", ref, username="joe", password="secret")
    ok(place.content(), "pull", ref, username="<token>", password="identity")
    error = fails(place.content(), "unauthorized", "incorrect username or password", "pull", ref, username="joe", password="hunter2")
    assert "hunter2" not in error
    uses = {}

    def expire(h, kind, name):
        token = h.headers.get("Authorization", "")[7:]
        uses[token] = uses.get(token, 0) + 1
        if uses[token] > 2:
            r.tokens.discard(token)
    r.users, r.fault = {}, expire
    ok(place.content(), "pull", ref, parallel="1")
    r.fault = lambda h, kind, name: kind == "token" and (r.reply(h, 200, b'{"token":"a\\r\\nX: y"}') or True)
    fails(place.content(), "corrupt", "token", "pull", ref)
    r.fault, r.realm = None, "http://registry.invalid/token"
    fails(place.content(), "denied", "plain HTTP", "pull", ref)


@test
def redirects_keep_secrets(place):
    """blobs that lie on another host are fetched there without the registry's credentials"""
    r, cdn = place.registry(), place.registry(address="127.0.0.2")
    image = Image()
    ref = r.add(image)
    cdn.add(image)
    for auth in ("basic", "bearer"):
        r.auth, r.users = auth, {"joe": "secret"}
        cdn.requests.clear()

        def away(h, kind, name):
            if kind == "blob" and r.allowed(h):
                r.reply(h, 307, Location=f"http://{cdn.host}/v2/x/blobs/{name}?signature=1")
                return True
            return kind == "blob"
        r.fault = away
        ok(place.content(), "pull", ref, username="joe", password="secret")
        equal(len(cdn.requests), 2)
        for _, _, headers in cdn.requests:
            assert "Authorization" not in headers, headers
        cdn.auth = "bearer"  # asks for a token of its own, to get at the password
        error = fails(place.content(), "unauthorized", "", "pull", ref, username="joe", password="secret")
        assert not cdn.asked("/token"), error
        cdn.auth = None
    r.fault = lambda h, kind, name: kind == "blob" and r.allowed(h) and \
        not h.path.endswith("?here") and (r.reply(h, 302, Location=f"/v2/x/blobs/{name}?here") or True)
    ok(place.content(), "pull", ref, username="joe", password="secret")
    assert all("Authorization" in x[2] for x in r.asked("?here")), "the same host keeps them"


@test
def mirrors(place):
    """mirrors of docker.io are tried in order, anonymously"""
    dead, empty, mirror = "http://127.0.0.1:1", place.registry(), place.registry()
    image = Image()
    mirror.add(image, "library/x")
    got = ok(place.content(), "pull", "x:1", mirrors=f"{dead},http://{empty.host},http://{mirror.host}/",
             username="joe", password="secret")[0]
    equal(got["names"], ["docker.io/library/x:1"])
    assert empty.requests and not any("Authorization" in x[2] for x in empty.requests + mirror.requests)


@test
def tls(place):
    """certificates are checked; a registry on loopback may speak TLS"""
    key, cert = os.path.join(place.dir, "key"), os.path.join(place.dir, "cert")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    r = place.registry(tls=context)
    ref = r.add(Image())
    fails(place.content(), "unavailable", "certificate", "pull", ref)
    ok(place.content(), "pull", ref, insecure="1")


@test
def certificates(place):
    """authorities and a client certificate that are laid down for a host: who is shown it, what is refused"""
    own, certs = Authority(os.path.join(place.dir, "authority")), os.path.join(place.dir, "certs")
    shown = {}

    def secure(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*own.sign(name, "IP:127.0.0.1"))
        context.load_verify_locations(own.cert)
        context.verify_mode = ssl.CERT_OPTIONAL
        return place.registry(tls=context)

    first, second = secure("first"), secure("second")

    def note(h, name):
        shown[name] = bool(h.connection.getpeercert())

    def away(h, kind, name):
        note(h, "first")
        if kind == "blob":
            first.reply(h, 307, Location=f"https://{second.host}{h.path}")
        return kind == "blob"

    first.fault, second.fault = away, lambda h, *_: note(h, "second")
    image = Image()
    ref = first.add(image)
    second.add(image)
    there = os.path.join(certs, first.host)
    os.makedirs(there)
    fails(place.content(), "unavailable", "certificate", "pull", ref, certs=certs)
    shutil.copy(own.cert, there)
    ok(place.content(), "pull", ref, certs=certs)
    equal(shown, {"first": False, "second": False})
    for path in own.sign("client", "DNS:client"):
        shutil.copy(path, there)
    ok(place.content(), "pull", ref, certs=certs)
    equal(shown, {"first": True, "second": False})
    for path in own.sign("other", "DNS:other"):
        shutil.copy(path, there)
    fails(place.content(), "unavailable", "other.cert is a second client certificate", "pull", ref, certs=certs)
    os.unlink(os.path.join(there, "other.cert"))
    fails(place.content(), "unavailable", "missing client certificate other.cert for key", "pull", ref, certs=certs)


# --- pushing ---

@test
def pushes(place):
    """push with a token of its scope, through relative locations, errors and broken connections"""
    r, content = place.registry(), place.content()
    image = Image([layer(BIG, 1), layer(BIG, 2)])
    name = r.add(image)
    ok(content, "pull", name)
    target = place.registry()
    target.auth, target.users = "bearer", {"joe": "secret"}
    fails(content, "unauthorized", "incorrect", "push", image.digest, f"{target.host}/team/y:2")
    left = {}

    def shaky(h, kind, name):
        if kind == "token" or h.command not in ("PUT", "POST"):
            return False
        n = left[h.command, kind] = left.get((h.command, kind), 0) + 1
        if n == 1:
            h.close_connection = True
            target.error(h, 503, "UNAVAILABLE", "in a moment", Connection="close")
        elif n == 2 and h.command == "PUT":
            h.close_connection = True  # not a word
        return n == 1 or n == 2 and h.command == "PUT"
    target.fault = shaky
    ok(content, "push", image.digest, f"{target.host}/team/y:2", username="joe", password="secret")
    contains(target.asked("/token")[-1][1], "scope=repository%3Ateam%2Fy%3Apull%2Cpush")
    equal(target.manifests["team/y", "2"], (OCI + "manifest.v1+json", image.manifest))
    equal(target.blobs, image.blobs)
    sent = len([x for x in target.requests if x[0] == "POST"])
    ok(content, "push", image.digest, f"{target.host}/team/y:3", username="joe", password="secret")
    equal(len([x for x in target.requests if x[0] == "POST"]), sent, "uploads")
    with open(os.path.join(content, "blobs/sha256", image.layers[0][7:]), "r+b") as f:
        f.write(b"broken")
    target.blobs.clear()
    fails(content, "invalid", "did not match", "push", image.digest, f"{target.host}/team/y:4", username="joe", password="secret")


@test
def pushes_not_to_strangers(place):
    """an upload that leads to another host goes there without the credentials"""
    r, other, content = place.registry(), place.registry(address="127.0.0.2"), place.content()
    image = Image()
    ok(content, "pull", r.add(image))
    target = place.registry()
    target.auth, target.users = "basic", {"joe": "secret"}
    target.fault = lambda h, kind, name: kind == "upload" and h.headers.get("Authorization") and \
        (target.reply(h, 202, Location=f"http://{other.host}/v2/x/blobs/upload/1?state=a%2Fb") or True)
    ok(content, "push", image.digest, f"{target.host}/x:1", username="joe", password="secret")
    equal(other.blobs, image.blobs)
    assert not any("Authorization" in x[2] for x in other.requests)


# --- Debian's registry and skopeo ---

def debian(place):
    """address of a docker-registry of our own"""
    need("docker-registry", shutil.which("docker-registry") and shutil.which("skopeo"))
    if not place.debian:
        place.debian = debian_registry(place.dir)
    return place.debian[1]


@test
def round_trips(place):
    """skopeo fills a real registry; pull, save, push; skopeo sees the same image everywhere"""
    host = debian(place)
    image = Image([layer(BIG, 1), layer(1000, 2)])
    layout = os.path.join(place.dir, "layout")
    write_layout(layout, [(image, "docker.io/library/x:1")])
    skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{host}/first:1")
    content = place.content()
    got = ok(content, "pull", f"{host}/first:1")[0]
    equal(got["digest"], image.digest)

    ok(content, "push", got["digest"], f"{host}/team/second:2")
    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{host}/team/second:2"))
    equal((seen["Digest"], seen["Layers"]), (image.digest, image.layers))
    ok(content, "push", got["digest"], f"{host}/team/second:3", verbose="1")
    fails(content, "invalid", "another digest", "push", got["digest"], f"{host}/a@{digest(b'')}")

    _, saved, _ = tool(content, "save", got["digest"], "docker.io/library/x:1")
    equal(tool(content, "save", got["digest"], "docker.io/library/x:1")[1], saved, "a second save")
    path = os.path.join(place.dir, "saved.tar")
    with open(path, "wb") as f:
        f.write(saved)
    equal(json.loads(skopeo("inspect", f"oci-archive:{path}"))["Digest"], image.digest)
    seen = json.loads(skopeo("inspect", f"docker-archive:{path}:x:1"))
    equal(seen["Env"], ["A=1"])
    skopeo("copy", "--dest-tls-verify=false", f"docker-archive:{path}", f"docker://{host}/third:1")
    equal(ok(content, "pull", f"{host}/third:1")[0]["layers"][0]["diff_id"], digest(image.plain[0]))

    again = place.content()
    loaded = ok(again, "load", stdin=saved)
    equal([(x["digest"], x["names"]) for x in loaded], [(image.digest, ["docker.io/library/x:1"])])
    equal(blobs(again), set(image.blobs) | {image.digest})
    equal(ok(place.content(), "load", layout)[0]["digest"], image.digest)


@test
def loads_others(place):
    """archives that skopeo writes, plain and compressed"""
    host = debian(place)
    image = Image([layer(5000, 3), layer(10, 4)])
    layout = os.path.join(place.dir, "layout2")
    write_layout(layout, [(image, "x")])
    for kind in ("docker-archive", "oci-archive"):
        path = os.path.join(place.dir, kind)
        skopeo("copy", f"oci:{layout}", f"{kind}:{path}:docker.io/library/other:5")
        with open(path, "rb") as f:
            data = f.read()
        for packed in (data, gzip.compress(data)):
            content = place.content()
            got = ok(content, "load", stdin=packed)[0]
            equal(got["names"], ["docker.io/library/other:5"], kind)
            equal([x["diff_id"] for x in got["layers"]], [digest(p) for p in image.plain], kind)
            equal(ok(content, "show", got["digest"])[0]["id"], got["id"])
        ok(content, "push", got["digest"], f"{host}/from-{kind}:1")
        skopeo("inspect", "--tls-verify=false", f"docker://{host}/from-{kind}:1")


# --- archives that lie ---

@test
def hostile_archives(place):
    """archives that are incomplete, damaged or strange: an error each, and no image"""
    image = Image([layer(BIG)], gz=False)
    config = image.config
    layout = write_layout(os.path.join(place.dir, "layout3"), [(image, "x:1")])
    entry = {"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l/layer.tar"]}
    good = [("c.json", config), ("l/layer.tar", image.plain[0]), ("manifest.json", json.dumps([entry]).encode())]

    def docker(**edit):
        return good[:2] + [("manifest.json", json.dumps([{**entry, **edit}]).encode())]

    def without(files, part):
        return tar([f for f in files if part not in f[0]])

    equal(len(ok(place.content(), "load", stdin=tar(good))), 1)
    linked = [("x/layer.tar", image.plain[0]), ("l/layer.tar", "../x/layer.tar")] + [good[0], good[2]]
    equal(len(ok(place.content(), "load", stdin=tar(linked))), 1)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as t:
        info = tarfile.TarInfo("a" * 2000)
        t.addfile(info)
    cases = [
        (b"", "invalid", ""), (b"hello", "invalid", "not a tar"), (tar([("a", b"b")]), "invalid", "no image"),
        (tar(good)[:BIG // 2], "corrupt", "damaged"), (gzip.compress(tar(good))[:BIG // 2], "corrupt", "damaged"),
        (without(good, "c.json"), "corrupt", "config c.json is missing"),
        (without(good, "layer.tar"), "corrupt", "layer l/layer.tar is missing"),
        (tar(docker(Layers=[])), "invalid", "0 layers"), (tar(docker(Layers=[1])), "invalid", "must be a string"),
        (tar(docker(Config=None)), "corrupt", "config"), (tar(docker(RepoTags=["UPPER CASE"])), "invalid", "UPPER"),
        (tar(docker(Config="../../../../etc/passwd")), "corrupt", "missing"),
        (tar([good[0], ("l/layer.tar", layer(5, 5)), good[2]]), "corrupt", "layer l/layer.tar is corrupt"),
        (tar([("c.json", "d.json"), ("d.json", "c.json"), good[2]]), "corrupt", "missing"),
        (tar(good[:2] + [("manifest.json", b"[" * 10000)]), "invalid", "JSON"),
        (tar(good[:2] + [("manifest.json", b" " * (17 << 20))]), "too-large", "manifest.json"),
        (without(layout, image.layers[0][7:]), "corrupt", image.layers[0]),
        (without(layout, image.digest[7:]), "corrupt", image.digest),
        (tar([(n, b"x" if n.endswith(image.layers[0][7:]) else b) for n, b in layout]), "corrupt", image.layers[0]),
        (data.getvalue(), "invalid", "name"),
    ]
    for number, (archive, kind, part) in enumerate(cases):
        content = place.content()
        try:
            fails(content, kind, part, "load", stdin=archive)
        except AssertionError as e:
            raise AssertionError(f"case {number}: {e}") from e
        equal(partials(content), [], f"left by case {number}")
    # bytes that are in the store already do not count as the archive's
    content = place.content()
    ok(content, "load", stdin=tar(good))
    fails(content, "corrupt", image.layers[0], "load", stdin=without(layout, image.layers[0][7:]))
    lying = tar([(n, b"" if n.endswith(image.layers[0][7:]) else b) for n, b in layout])
    fails(content, "corrupt", image.layers[0], "load", stdin=lying)


@test
def hostile_layouts(place):
    """a layout directory is not left through links"""
    image = Image()
    path = os.path.join(place.dir, "layout4")
    write_layout(path, [(image, "x:1")])
    blob = os.path.join(path, "blobs/sha256", image.layers[0][7:])
    outside = os.path.join(place.dir, "outside")
    os.rename(blob, outside)
    os.symlink(outside, blob)
    fails(place.content(), "invalid", "cannot open", "load", path)
    os.unlink(blob)
    fails(place.content(), "not-found", "cannot open", "load", path)
    os.mkfifo(blob)
    fails(place.content(), "invalid", "not a regular file", "load", path)


# --- images from a tar ---

def stored_layer(content, image):
    with open(os.path.join(content, "blobs/sha256", image["layers"][-1]["digest"][7:]), "rb") as f:
        return f.read()


@test
def imports(place):
    """a tar becomes an image, whole and compressed as asked; another layer goes on top"""
    plain = tar([("a", noise(BIG)), ("zeros", bytes(BIG)), ("text", b"hello " * 300000)])
    zstd = subprocess.run(["zstd", "-c"], input=plain, capture_output=True).stdout if shutil.which("zstd") else None
    results = []
    for data, compression, unpack in ((plain, "gzip", gzip.decompress), (plain, "none", bytes), (plain, "zstd", None),
                                      (gzip.compress(plain[:BIG]) + gzip.compress(plain[BIG:]), "gzip", gzip.decompress),
                                      (bz2.compress(plain), "gzip", gzip.decompress), (lzma.compress(plain), "none", bytes),
                                      (zstd, "gzip", None)):
        if data is None:
            continue
        content = place.content()
        image = ok(content, "import", stdin=data, compression=compression)[0]
        equal(image["layers"][0]["diff_id"], digest(plain))
        stored = stored_layer(content, image)
        equal(image["layers"][0]["digest"], digest(stored))
        if unpack:
            assert unpack(stored) == plain
        elif shutil.which("zstd"):
            assert subprocess.run(["zstd", "-dc"], input=stored, capture_output=True).stdout == plain
        results.append((content, image))
    content, image = results[0]
    equal((image["config"]["command"], image["config"]["env"]), (["/bin/sh"], ["A=1"]))
    second = ok(content, "import", image["digest"], stdin=layer(10, 9))[0]
    equal(len(second["layers"]), 2)
    equal(second["layers"][0], image["layers"][0])
    equal(second["config"], image["config"])
    with open(os.path.join(content, "blobs/sha256", second["id"][7:])) as f:
        config = json.load(f)
    equal(len(config["history"]), 2)
    equal(config["history"][1]["comment"], "imported")
    if shutil.which("skopeo"):
        path = os.path.join(place.dir, "imported.tar")
        with open(path, "wb") as f:
            f.write(tool(content, "save", second["digest"], "docker.io/library/imported:1")[1])
        skopeo("copy", f"docker-archive:{path}", f"dir:{path}.dir")
        skopeo("copy", f"oci-archive:{path}", f"dir:{path}.dir2")


@test
def imports_nothing_else(place):
    """what is no tar, or half of one, does not become an image"""
    plain = layer(BIG)
    for data, kind, part in ((b"", "invalid", "not a tar"), (b"hello" * 1000, "invalid", "not a tar"),
                             (plain[:BIG // 2], "corrupt", "cut off"), (gzip.compress(plain)[:-9], "corrupt", "cut off"),
                             (gzip.compress(plain)[:BIG // 2] + bytes(5000), "corrupt", ""),
                             (b"\xfd7zXZ\0" + bytes(600), "corrupt", "xz"), (bz2.compress(plain)[:-9], "corrupt", "cut off"), (b"\x28\xb5\x2f\xfd" + b"x" * 600, "corrupt", "zstd")):
        content = place.content()
        fails(content, kind, part, "import", stdin=data)
        equal((blobs(content), partials(content)), (set(), []))
    fails(place.content(), "invalid", "compression", "import", stdin=plain, compression="lzma")


run(Place, Place.close)
