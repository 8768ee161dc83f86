#!/usr/bin/env python3
"""Bad input from every side: images, archives, requests, messages. Each gets an answer that says what is wrong; nothing
is written where it must not be, nothing half made stays, and no process of the daemon ends."""
import gzip
import io
import json
import os
import random
import pwd
import socket
import struct
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from agent import Connection, Gone, frame
from consistent import empty, listing
from registry import OCI, Image, Registry, digest
from tap import contains, equal, note, run, test
from wabe import TOP, Daemon, busybox_rootfs, wait_until

IMAGE = "busybox:test"
P = "/v1/projects/default"


def setup():
    d = Daemon("hostile")
    try:
        d.start()
        d.tar = busybox_rootfs(d.dir + "/busybox.tar")
        d.cli("image", "import", d.tar, IMAGE)
        d.secret = d.dir + "/secret"
        with open(d.secret, "w") as f:
            f.write("untouched")
        d.roles = d.pids()
        d.images = d.out("image", "ls", "-q")
    except BaseException:
        d.close()
        raise
    return d


def serves(d):
    """The same processes as ever, and nothing changed that was not to change."""
    equal(d.pids(), d.roles, "processes")
    with open(d.secret) as f:
        equal(f.read(), "untouched", "a file of the host")
    equal(sorted(os.listdir(d.dir)), ["busybox.tar", "daemon.log", "run", "secret", "state"])


def clean(d):
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)
    for i in json.loads(d.out("image", "ls", "--json")):
        if not any("busybox" in n for n in i.get("names") or []):
            d.cli("image", "rm", "-f", i["id"], check=False)
    d.roles = d.pids()


def upload(d, method, path, data):
    c = d.connection()
    try:
        c.request(method, path, data, {"Content-Type": "application/x-tar"})
        r = c.getresponse()
        text = r.read()
        return r.status, json.loads(text) if text else None
    finally:
        c.close()


def refused(status, answer, *kinds):
    assert status >= 400, f"it was taken: {answer}"
    error = answer["error"]
    assert error["message"], answer
    if kinds:
        assert error["kind"] in kinds, answer
    return error


# ---- images ----
def oci_archive(image, **replace):
    """A layout as a tar, with blobs replaced by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [
            {"mediaType": OCI + "manifest.v1+json", "digest": image.digest, "size": len(image.manifest),
             "annotations": {"org.opencontainers.image.ref.name": "hostile:1"}}]}).encode())
        for name, data in {**image.blobs, image.digest: image.manifest}.items():
            add("blobs/sha256/" + name[7:], replace.get(name[7:], data))
    return out.getvalue()


def tar_of(*entries):
    """A tar of (name, type, link or content): what no tar program would write."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, kind, what in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                info.size = len(what)
                t.addfile(info, io.BytesIO(what))
            else:
                info.linkname = what or ""
                if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
                    info.devmajor, info.devminor = 1, 1
                t.addfile(info)
    return out.getvalue()


FILE, LINK, HARD, DIR, CHAR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE


def escapes(d):
    """{name: layers} that would write to, link or remove the secret if followed."""
    top, secret = d.dir, d.secret
    up = "../" * 30 + secret[1:]
    owned = b"owned"
    return {
        "dots": [tar_of((up, FILE, owned))],
        "dots inside": [tar_of(("a/b/../../" + up, FILE, owned))],
        "absolute": [tar_of((secret, FILE, owned))],
        "through a link": [tar_of(("l", LINK, top), ("l/secret", FILE, owned))],
        "through a relative link": [tar_of(("l", LINK, "../" * 30 + top[1:]), ("l/secret", FILE, owned))],
        "through two links": [tar_of(("a", LINK, "/"), ("b", LINK, "a" + top), ("b/secret", FILE, owned))],
        "over a link": [tar_of(("l", LINK, secret), ("l", FILE, owned))],
        "link of an earlier layer": [tar_of(("l", LINK, top)), tar_of(("l/secret", FILE, owned))],
        "directory over a link": [tar_of(("l", LINK, top)), tar_of(("l", DIR, None), ("l/secret", FILE, owned))],
        "hard link out": [tar_of(("h", HARD, up), ("h", FILE, owned))],
        "absolute hard link": [tar_of(("h", HARD, secret), ("h", FILE, owned))],
        "hard link through a link": [tar_of(("l", LINK, top), ("h", HARD, "l/secret"), ("h", FILE, owned))],
        "hard link to a link": [tar_of(("l", LINK, secret), ("h", HARD, "l"), ("h", FILE, owned))],
        "whiteout through a link": [tar_of(("l", LINK, top)), tar_of(("l/.wh.secret", FILE, b""))],
        "whiteout with dots": [tar_of(("../" * 30 + top[1:] + "/.wh.secret", FILE, b""))],
        "whiteout of dot dot": [tar_of(("a/.wh...", FILE, b"")), tar_of((".wh..", FILE, b""))],
        "opaque through a link": [tar_of(("l", LINK, top)), tar_of(("l/.wh..wh..opq", FILE, b""))],
        "device": [tar_of(("mem", CHAR, None))],
        "root as a link": [tar_of((".", LINK, top), ("secret", FILE, owned))],
        "root as a file": [tar_of(("./", FILE, owned))],
        "control characters": [tar_of(("a\nb\x1b[31m\x07", FILE, owned))],
        "long names": [tar_of(("x" * 300, FILE, owned))],
        "deep": [tar_of(("d/" * 5000 + "f", FILE, owned))],
    }


@test
def hostile_layers(d):
    """layers that reach out of the root by paths, links, whiteouts, devices: nothing outside changes, nothing half stays"""
    with open(d.tar, "rb") as f:
        base = f.read()
    taken = []
    for name, layers in escapes(d).items():
        status, answer = upload(d, "POST", P + "/images/load", oci_archive(Image([base, *layers])))
        if status < 300:
            r = d.cli("run", "--rm", "hostile:1", "sh", "-c", "head -c 1 /mem", check=False)
            if r.returncode == 0 and r.stdout:
                raise AssertionError(f"{name}: a device of the host was read")
            taken.append(name)
            d.cli("image", "rm", "hostile:1")
        else:
            refused(status, answer)
        try:
            serves(d)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e
    note("taken, harmlessly: " + ", ".join(taken))
    equal(d.out("image", "ls", "-q"), d.images)
    d.cli("image", "prune")
    empty(d)


@test
def archives_of_the_corpus(d):
    """every archive and layer of the fuzz corpus through image load and import: an answer each, and no harm"""
    top = TOP + "/tests/fuzz/corpus/"
    refusals = 0
    for room, path in (("archive", "/images/load"), ("archive", "/images/import?name=hostile:1"),
                       ("layer", "/images/import?name=hostile:1")):
        for name in sorted(os.listdir(top + room)):
            with open(top + room + "/" + name, "rb") as f:
                data = f.read()
            for cut in (data, data[:len(data) // 2], b"\0" + data):
                status, answer = upload(d, "POST", P + path, cut)
                if status >= 300:
                    refused(status, answer)
                    refusals += 1
            serves(d)
    note(f"{refusals} refusals")
    clean(d)
    equal(d.out("image", "ls", "-q"), d.images)
    empty(d)


@test
def wrong_blobs(d):
    """wrong digests, truncated and padded layers, lies about sizes and diff ids in an archive: refused, nothing stays"""
    base = tar_of(("own", FILE, random.randbytes(100000)))  # of a layer that is there already nothing would be read
    image = Image([base])
    blob = image.layers[0][7:]
    good = image.blobs[image.layers[0]]
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    other = json.loads(image.config)
    other["rootfs"]["diff_ids"] = ["sha256:" + "1" * 64]
    lying = Image([base])
    lying.blobs.pop(digest(lying.config))
    lying.config = json.dumps(other).encode()
    lying.blobs[digest(lying.config)] = lying.config
    lying.document["config"].update(digest=digest(lying.config), size=len(lying.config))
    lying.manifest = json.dumps(lying.document).encode()
    lying.digest = digest(lying.manifest)
    cut = Image([base])
    short = gzip.compress(base, 1)[:-100]  # its digest is right, its content is cut off
    cut.blobs.pop(cut.layers[0])
    cut.blobs[digest(short)] = short
    cut.document["layers"][0].update(digest=digest(short), size=len(short))
    cut.manifest = json.dumps(cut.document).encode()
    cut.digest = digest(cut.manifest)
    whole = oci_archive(image)
    cases = {
        "flipped": oci_archive(image, **{blob: bytes(flipped)}), "short": oci_archive(image, **{blob: good[:-1]}),
        "long": oci_archive(image, **{blob: good + b"x"}), "empty": oci_archive(image, **{blob: b""}),
        "another's": oci_archive(image, **{blob: image.config}), "diff id": oci_archive(lying), "cut gzip": oci_archive(cut),
        "no manifest": oci_archive(image, **{image.digest[7:]: b"{}"}), "nothing": b"", "cut archive": whole[:len(whole) // 2],
        "config": oci_archive(image, **{digest(image.config)[7:]: b'{"rootfs":{}}'}),
    }
    for name, data in cases.items():
        status, answer = upload(d, "POST", P + "/images/load", data)
        note(f"{name}: {refused(status, answer)['message']}")  # also without a start
        equal(d.out("image", "ls", "-q"), d.images, name)
    serves(d)
    status, answer = upload(d, "POST", P + "/images/load", whole)
    equal(status, 200, f"the whole one: {answer}")
    for name in ("cut gzip", "another's"):  # though its layer is unpacked already
        status, answer = upload(d, "POST", P + "/images/load", cases[name])
        note(f"{name}: {refused(status, answer)['message']}")
    equal(upload(d, "POST", P + "/images/load", oci_archive(Image([base], gz=False)))[0], 200, "another blob of the same layer")
    d.cli("image", "rm", "hostile:1")
    empty(d)


@test
def corrupt_blob_on_disk(d):
    """a blob that rots in the store is told of when it is needed, and a new load heals it"""
    with open(d.tar, "rb") as f:
        base = f.read()
    image = Image([base, tar_of(("rot", FILE, random.randbytes(100000)))])
    whole = oci_archive(image)
    equal(upload(d, "POST", P + "/images/load", whole)[0], 200)
    for n, name in enumerate(image.layers):
        path = f"{d.state}/control/content/blobs/sha256/{name[7:]}"
        assert os.path.exists(path), listing(d.state + "/control/content/blobs/sha256")
        with open(path, "r+b") as f:
            f.seek(50)
            f.write(b"rotten")
    with tempfile.TemporaryDirectory() as t:
        r = d.cli("image", "save", "-o", t + "/saved.tar", "hostile:1", check=False)
        assert r.returncode == 125, "a rotten image was saved"
        assert "corrupt on disk" in r.stderr and any(name in r.stderr for name in image.layers), r.stderr
        note(r.stderr.strip())
    equal(d.out("run", "--rm", "hostile:1", "echo", "unpacked"), "unpacked", "the unpacked layers are whole")
    d.cli("image", "rm", "hostile:1")
    equal(upload(d, "POST", P + "/images/load", whole)[0], 200)
    equal(d.out("run", "--rm", "hostile:1", "sh", "-c", "wc -c < /rot"), "100000")
    d.cli("image", "rm", "hostile:1")
    serves(d)
    empty(d)


@test
def config_of_an_image(d):
    """a config that cannot be is refused with the name of what is wrong; one that does not fit its files is told at the start"""
    with open(d.tar, "rb") as f:
        base = f.read()
    for config, said in (({"User": "nobody-here"}, "nobody-here"), ({"User": "0:no-such-group"}, "no-such-group"),
                         ({"User": "99999999999999"}, "99999999999999"), ({"User": "-1"}, "-1"),
                         ({"User": "a:b:c"}, "a:b:c"), ({"Cmd": ["/not/there"]}, "/not/there")):
        status, answer = upload(d, "POST", P + "/images/load", oci_archive(Image([base], config={"Cmd": ["true"], **config})))
        if status >= 300:
            contains(refused(status, answer)["message"], said)
            continue
        r = d.cli("run", "--rm", "hostile:1", check=False)
        assert r.returncode in (125, 126, 127), f"{config}: {r}"
        contains(r.stderr, said)
        r = d.cli("create", "--name", "u", "hostile:1")
        assert d.cli("start", "u", check=False).returncode != 0
        equal(d.show("u")["status"]["state"], "created")
        d.cli("rm", "u")
        d.cli("image", "rm", "hostile:1")
    for config, field in (({"WorkingDir": "../../../.."}, "workdir"), ({"WorkingDir": "srv"}, "workdir"), ({"Env": ["A=1", "=x"]}, "env"),
                          ({"StopSignal": "SIGNONSENSE"}, "stop_signal"), ({"Volumes": {"data": {}}}, "volumes"),
                          ({"Volumes": {"/": {}}}, "volumes"), ({"Volumes": {"/a/../..": {}}}, "volumes"), ({"User": "a:b:c"}, "user"),
                          ({"User": "0:99999999999"}, "user"), ({"Entrypoint": 5}, "Entrypoint"), ({"Env": "A=B"}, "Env")):
        status, answer = upload(d, "POST", P + "/images/load", oci_archive(Image([base], config={"Cmd": ["true"], **config})))
        assert status >= 300, f"{config} was taken"
        contains(refused(status, answer)["message"], field)
    for config in ({"WorkingDir": "/proc/self/fd/9"}, {"Env": ["NOVALUE", "A=\x01"]}, {"ExposedPorts": {"x" * 10000: {}}}):
        status, answer = upload(d, "POST", P + "/images/load", oci_archive(Image([base], config={"Cmd": ["true"], **config})))
        if status >= 300:
            refused(status, answer)
            continue
        r = d.cli("run", "--rm", "hostile:1", "pwd", check=False)
        assert r.returncode in (0, 125, 126), f"{config}: {r}"
        note(f"{str(config)[:60]}: {r.returncode} {r.stdout.strip()} {r.stderr.strip()}")
        d.cli("image", "rm", "hostile:1")
    serves(d)
    empty(d)


@test
def hostile_copies(d):
    """archives copied into an instance, also through links that are there: nothing outside changes"""
    d.cli("run", "-d", "--name", "jail", IMAGE, "sh", "-c", f"ln -s {d.dir} /out; ln -s / /top; ln -s /proc/self/root /me; sleep 1000")
    for name, layers in escapes(d).items():
        for path in ("/", "/tmp", "/out", "/top" + d.dir, "/me" + d.dir, "/../../.." + d.dir, "/proc/1/root" + d.dir, "/proc/self/cwd"):
            for data in layers:
                upload(d, "PUT", f"{P}/instances/jail/archive?path={path}", data)
        try:
            serves(d)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e
    for path in ("/out/secret", "/top" + d.secret, "/me" + d.secret, "/../../../.." + d.secret, "/proc/1/root" + d.secret,
                 "/proc/self/fd/5", "/proc/1/cwd" + d.secret):
        c = d.connection()
        c.request("GET", f"{P}/instances/jail/archive?path={path}")
        r = c.getresponse()
        data = r.read()
        c.close()
        assert b"untouched" not in data, f"{path}: read a file of the host"
    equal(d.api("GET", f"{P}/instances/jail/archive")[0], 400)
    for path in ("", "relative", "%00", "/%0a", "/" + "x" * 10000, "/" + "d/" * 2000):
        status, _ = d.api("GET", f"{P}/instances/jail/archive?path={path}")
        assert status >= 400, path
    d.cli("rm", "-f", "jail")
    serves(d)
    empty(d)


# ---- requests ----
BAD_NAMES = ["", "/", "a/b", "..", ".", "../x", "a\nb", "a\x00b", "a\x1b[31m", "a b", "x" * 10000, "-x", "é", "\u202e", "%2e%2e"]


@test
def bad_specs(d):
    """names, labels, paths and numbers that make no sense are refused with the field; nothing is created"""
    base = {"image": IMAGE, "command": ["true"]}
    cases = [("name", n) for n in BAD_NAMES if n] + [("image", n) for n in BAD_NAMES]
    cases += [("hostname", n) for n in ("a/b", "a\nb", "x" * 10000, "..")]
    cases += [("user", "a\nb"), ("user", "x" * 10000), ("stop_signal", "SIGNONSENSE"), ("env", ["a\x00b"]), ("env", "A"),
              ("command", "true"), ("command", ["a\x00b"]), ("command", [5]), ("workdir", "relative"), ("workdir", "a\x00"),
              ("limits", {"memory": -1}), ("limits", {"pids": "many"}), ("limits", {"cpus": 1e300}),
              ("restart", {"policy": "sometimes"}), ("mounts", [{"type": "bind", "source": "relative", "target": "/x"}]),
              ("mounts", [{"type": "bind", "source": "/etc", "target": "../x"}]), ("mounts", [{"type": "magic", "target": "/x"}]),
              ("mounts", [{"type": "bind", "source": "/etc", "target": "/x\x00y"}]), ("network", "none/../host"),
              ("pid_mode", "instance:../.."), ("sysctls", {"kernel.panic/../x": "1"}), ("userns", "maybe"), ("labels", ["x"])]
    wrong = []
    for field, value in cases:
        status, answer = d.api("POST", P + "/instances", {**base, field: value})
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        named = error.get("field", "").split(".")[0].split("[")[0] == field or "\0" in json.dumps(value) or "u0000" in json.dumps(value)
        plain = len(error.get("message", "")) < 2000 and not any(c in error.get("message", "") for c in "\x1b\n\0")
        if status not in (400, 404) or not named or not plain:
            wrong.append(f"{field}={str(value)[:40]!r}: {status} {str(answer)[:200]}")
    assert not wrong, "\n".join(wrong)
    d.cli("create", "--name", "good", IMAGE, "true")
    for name in BAD_NAMES:
        if name:
            status, answer = d.api("PATCH", P + "/instances/good", {"name": name})
            equal((status, answer["error"].get("field")), (400, None if "\0" in name else "name"), repr(name[:20]))
            status, answer = d.api("POST", P + "/images/busybox%3Atest/tag", {"name": "a//b" if name == "a/b" else name})
            assert status == 400, f"tag {name[:20]!r}: {status} {answer}"
    d.cli("rm", "good")
    equal(d.out("ls", "-a", "-q"), "")
    serves(d)
    empty(d)


def raw(d, data, seconds=60):
    """What comes back for these bytes until the server closes, or for so long (a part of a request has no answer)."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(seconds)
    s.connect(d.run_dir + "/wabe.sock")
    got = b""
    try:
        s.sendall(data)
        while more := s.recv(65536):
            got += more
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        pass
    finally:
        s.close()
    return got


@test
def bad_http(d):
    """deep JSON, oversized bodies, headers and paths, broken framing: a refusal each, and the server serves on"""
    post = f"POST {P}/instances HTTP/1.1\r\nHost: w\r\nConnection: close\r\n".encode()

    def body(data):
        return post + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data

    for data in (b"[" * 10000 + b"]" * 10000, b'{"a":' * 10000 + b"1" + b"}" * 10000, b"[" * 10000, b"", b"null", b'"x"', b"[]",
                 b'{"image":"a","image":"b"}', b"{} {}", b"\xff\xfe", b'{"name":"\\ud800"}', b'{"limits":{"memory":%d}}' % (1 << 70), b'{"limits":{"memory":1e999}}',
                 b"x" * (5 << 20), b'{"name":"' + b"x" * (3 << 20) + b'"}', b'{"command":[' + b'"x",' * 1000000 + b'"x"]}'):
        got = raw(d, body(data))
        status = int(got.split(b" ")[1]) if got else 0
        assert status in (400, 413, 507), f"{data[:30]!r}: {got[:200]!r}"
        if status == 400:
            assert b'"error"' in got, got
    for data in (post + b"X: " + b"y" * 1000000 + b"\r\n\r\n", post + b"X: y\r\n" * 100000 + b"\r\n",
                 b"GET /" + b"x" * 1000000 + b" HTTP/1.1\r\nHost: w\r\n\r\n", b"\0" * 1000, b"\r\n" * 10000, b"GET\r\n\r\n",
                 b"GET / HTTP/9.9\r\n\r\n", post + b"Content-Length: -1\r\n\r\n", post + b"Content-Length: 99999999999999999999\r\n\r\n{}",
                 post + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n{}", post + b"Content-Length: 100\r\n\r\n{}",
                 post + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
                 post + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"):
        got = raw(d, data, 0.5)
        assert not got or b" 2" not in got.split(b"\r\n")[0], f"{data[:60]!r}: {got[:200]!r}"
    for path in ("/v1/projects/../../etc/passwd", P + "/instances/..%2f..%2fx", P + "/instances/%00", P + "/instances/%zz",
                 P + "/instances/" + "x" * 10000, P + "/images/" + "%2e%2e%2f" * 100, "//", "/v1//projects", P + "/instances/a%0ab",
                 P + "/tasks/../x", P + "/instances?limit=-1", P + "/instances?limit=99999999999999999999", P + "/events?from=-5",
                 P + "/instances?state=nonsense", P + "/instances?state=" + "x" * 5000):
        got = raw(d, f"GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 "), f"{path[:60]}: {got[:100]}"
        assert got.split(b" ")[1] != b"500", f"{path[:60]}: {got[:300]}"
    idle = []
    for _ in range(200):  # who says nothing keeps nobody out
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.run_dir + "/wabe.sock")
        s.send(b"POST / HT")
        idle.append(s)
    equal(d.out("run", "--rm", IMAGE, "echo", "served"), "served")
    for s in idle:
        s.close()
    serves(d)
    empty(d)


# ---- messages to the agent ----
def as_user(name, fn):
    """Runs fn in a child with that user's ids; what it printed as JSON."""
    user = pwd.getpwnam(name)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            try:
                result = fn()
            except BaseException as e:
                result = repr(e)
            os.write(w, json.dumps(result).encode()[:60000])
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def say(path, data):
    """The type of the answer, kind and text of an error; "closed" for none."""
    try:
        c = Connection(path, 60)
    except OSError as e:
        return [type(e).__name__, None]
    try:
        try:
            c.send(data)
        except OSError:
            pass
        kind, body, fds = c.recv()
        for fd in fds:
            os.close(fd)
        return [kind, body.get("kind"), *([body["message"]] if kind == "error" else [])]
    except (Gone, ConnectionResetError):
        return ["closed", None]
    finally:
        c.close()


@test
def agent_refuses_other_users(d):
    """nobody cannot connect to the agent; where the mode lets it, and for root, the peer's uid decides"""
    path = d.run_dir + "/agent.sock"
    hello = frame({"type": "hello", "body": {}})
    equal(as_user("nobody", lambda: say(path, hello)), ["PermissionError", None])
    equal(as_user("wabe", lambda: say(path, hello)), ["ok", None])
    equal(say(path, hello), ["closed", None], "root is not control")
    mode = os.stat(path).st_mode
    os.chmod(path, 0o777)
    try:
        equal(as_user("nobody", lambda: say(path, hello)), ["closed", None])
        equal(as_user("nobody", lambda: [say(path, b"\xff" * 100000) for _ in range(50)]), [["closed", None]] * 50)
    finally:
        os.chmod(path, mode & 0o7777)
    equal(as_user("nobody", lambda: say(d.run_dir + "/wabe.sock", b"x")), ["PermissionError", None])
    serves(d)


@test
def agent_refuses_bad_messages(d):
    """from control's user: malformed, oversized, unknown, mistyped, out of state messages get an error; it serves on"""
    path = d.run_dir + "/agent.sock"
    id = d.out("create", "--name", "still", IMAGE, "sleep", "1000")
    record = d.show("still")

    def message(kind, **body):
        return frame({"type": kind, "body": body})

    def forged(layers=(), **change):
        return message("instance-create", instance={**record, "id": os.urandom(32).hex(), **change}, config={}, layers=list(layers))

    bad = {
        "empty": frame(b""), "no json": frame(b"x"), "list": frame([]), "null": frame(None), "no body": frame({"type": "hello"}),
        "unknown": message("format-disk"), "internal": message("-recover", id=id), "more": message("hello", x=1),
        "too long": struct.pack("<I", 0xffffffff) + b"x", "deep": frame(b'{"type":"hello","body":{"a":' + b"[" * 10000 + b"]" * 10000 + b"}}"),
        "deep objects": frame(b'{"type":"hello","body":' + b'{"a":' * 10000 + b"1" + b"}" * 10001), "nul": frame(b'{"type":"hel\0lo","body":{}}'),
        "id path": message("instance-start", id="../../../etc"), "id upper": message("instance-start", id="A" * 64),
        "id short": message("instance-delete", id="ab", force=True), "id number": message("instance-start", id=7), "id none": message("instance-start"),
        "unknown id": message("instance-start", id="e" * 64), "digest": message("layer-delete", diff_id="sha256:../../.."),
        "no descriptor": message("layer-unpack", diff_id="sha256:" + "0" * 64), "suite": message("bootstrap", suite="--help"),
        "pause of a stopped": message("instance-pause", id=id), "kill of a stopped": message("instance-kill", id=id, signal="KILL"),
        "exec in a stopped": message("exec-start", id=id, exec_id="b" * 64, command=["/bin/true"]),
        "exec id": message("exec-start", id=id, exec_id="../x", command=["/bin/true"]), "signal": message("instance-kill", id=id, signal="x" * 1000),
        "top of a stopped": message("instance-top", id=id), "archive path": message("archive-get", id=id, path="x\0y"),
        "create with a path": forged(id="../../x"), "create without a spec": message("instance-create", instance={"id": "c" * 64}),
        "create with a layer that is none": forged(["sha256:" + "9" * 64]),
        "create with a layer's path": forged(["../../.."]),
        "create with mode": forged(spec={**record["spec"], "userns": "mine"}),
        "create with a state's mount": forged(id="c" * 64, spec={**record["spec"], "name": "q", "mounts": [{"type": "bind", "source": d.state, "target": "/x"}]}),
    }
    answers = as_user("wabe", lambda: {name: say(path, data) for name, data in bad.items()})
    assert isinstance(answers, dict), answers
    for name, (kind, what, *text) in answers.items():
        if name == "create with a state's mount" and kind == "ok":
            started = as_user("wabe", lambda: say(path, message("instance-start", id="c" * 64)))
            equal(started[0], "error", "an instance with wabe's own directories in it")
            as_user("wabe", lambda: say(path, message("instance-delete", id="c" * 64, force=True)))
            continue
        equal(kind, "error", name)
        assert what in ("invalid", "not-found", "conflict", "unsupported", "too-large", "denied"), f"{name}: {what}: {text}"
    noise = as_user("wabe", lambda: [say(path, struct.pack("<I", n) + random.Random(n).randbytes(n))[0] for n in range(1, 200)])
    equal(set(noise), {"error"})
    d.cli("start", "still")
    equal(d.out("exec", "still", "echo", "fine"), "fine")
    d.cli("rm", "-f", "still")
    serves(d)
    empty(d)


run(setup, lambda d: d and d.close(), clean)
