"""A registry that misbehaves on demand, and images to fill it with."""
import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import socket
import subprocess
import tarfile
import threading
import urllib.parse

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                t.addfile(info)
            else:
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def layer(size=100, seed=1):
    """A plain layer with one file of so many bytes that do not compress."""
    return tar([("file", noise(size, seed))])


class Image:
    """One made of plain layers; blobs by digest, manifest as text."""

    def __init__(self, layers=None, architecture="amd64", variant=None, config=None, gz=True, **edit):
        self.plain = layers or [layer()]
        stored = [gzip.compress(p, 1, mtime=0) if gz else p for p in self.plain]
        document = {"architecture": architecture, "os": "linux", "created": "2024-05-06T07:08:09Z",
                    "config": config or {"Cmd": ["/bin/true"], "Env": ["A=1"]},
                    "rootfs": {"type": "layers", "diff_ids": [digest(p) for p in self.plain]},
                    "history": [{"created_by": "test"} for _ in self.plain]}
        if variant:
            document["variant"] = variant
        self.config = json.dumps(document).encode()
        self.blobs = {digest(b): b for b in stored + [self.config]}
        kind = "layer.v1.tar+gzip" if gz else "layer.v1.tar"
        self.document = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
                         "config": {"mediaType": OCI + "config.v1+json", "digest": digest(self.config),
                                    "size": len(self.config)},
                         "layers": [{"mediaType": OCI + kind, "digest": digest(b), "size": len(b)} for b in stored]}
        self.document.update(edit)
        self.manifest = json.dumps(self.document).encode()
        self.digest = digest(self.manifest)
        self.layers = [digest(b) for b in stored]
        self.platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}


class Registry:
    """Serves images on 127.0.0.1. fault(handler, kind, name) may answer a request itself and return True;
    kind is manifest, blob, token or upload."""

    def __init__(self, address="127.0.0.1", tls=None):
        self.blobs, self.manifests, self.requests = {}, {}, []
        self.served, self.lock = {}, threading.Lock()
        self.fault = self.auth = self.realm = None
        self.users, self.tokens, self.issued = {}, set(), 0
        self.tags_page, self.tags_next = 0, None  # tags of a page, 0: all; where the next page is said to be instead of here
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                registry.get(self)

            do_HEAD = do_PUT = do_POST = do_GET

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server((address, 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.host = f"{address}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def add(self, image, name="x", tag="1"):
        self.blobs.update(image.blobs)
        for reference in (tag, image.digest):
            self.manifests[name, reference] = (image.document.get("mediaType"), image.manifest)
        return f"{self.host}/{name}:{tag}"

    def add_index(self, images, name="x", tag="1", **edit):
        for image in images:
            self.add(image, name, image.digest)
        text = json.dumps({"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [
            {"mediaType": OCI + "manifest.v1+json", "digest": i.digest, "size": len(i.manifest),
             "platform": i.platform, **edit} for i in images]}).encode()
        self.manifests[name, tag] = self.manifests[name, digest(text)] = (OCI + "index.v1+json", text)
        return f"{self.host}/{name}:{tag}"

    def asked(self, part):
        return [r for r in self.requests if part in r[1]]

    # --- answering ---

    def reply(self, h, status, body=b"", **headers):
        h.send_response(status)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(body)

    def error(self, h, status, code, message, **headers):
        self.reply(h, status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def allowed(self, h):
        given = h.headers.get("Authorization", "")
        if self.auth == "basic":
            user, _, password = base64.b64decode(given[6:]).decode().partition(":")
            if given.startswith("Basic ") and self.users.get(user) == password:
                return True
            self.error(h, 401, "UNAUTHORIZED", "who are you", WWW_Authenticate='Basic realm="test"')
            return False
        if self.auth == "bearer":
            if given.startswith("Bearer ") and given[7:] in self.tokens:
                return True
            realm = self.realm or f"http://{self.host}/token"
            self.error(h, 401, "UNAUTHORIZED", "authentication required",
                       WWW_Authenticate=f'Bearer realm="{realm}",service="test service"')
            return False
        return True

    def token(self, h):
        given = h.headers.get("Authorization", "")
        query = urllib.parse.parse_qs(urllib.parse.urlparse(h.path).query)
        if h.command == "POST":
            form = urllib.parse.parse_qs(h.rfile.read(int(h.headers["Content-Length"])).decode())
            good = form.get("grant_type") == ["refresh_token"] and form.get("refresh_token") == [self.users.get("<token>")]
        elif given:
            user, _, password = base64.b64decode(given[6:]).decode().partition(":")
            good = self.users.get(user) == password and query.get("service") == ["test service"]
        else:
            good = not self.users
        if not good:
            return self.error(h, 401, "UNAUTHORIZED", "incorrect username or password")
        self.issued += 1
        token = f"token-{self.issued}"
        self.tokens.add(token)
        name = "access_token" if h.command == "POST" else "token"
        self.reply(h, 200, json.dumps({name: token}).encode())

    def get(self, h):
        path = urllib.parse.urlparse(h.path).path
        with self.lock:
            self.requests.append((h.command, h.path, dict(h.headers)))
        if path == "/token":
            return self.fault and self.fault(h, "token", "") or self.token(h)
        parts = path.split("/")
        kind = {"manifests": "manifest", "blobs": "blob", "upload": "upload", "uploads": "upload"}.get(parts[-2])
        if kind and self.fault and self.fault(h, kind, parts[-1]):
            return None
        if not self.allowed(h):
            return None
        if kind == "manifest" and h.command == "PUT":
            data = h.rfile.read(int(h.headers["Content-Length"]))
            self.manifests["/".join(parts[2:-2]), parts[-1]] = (h.headers["Content-Type"], data)
            return self.reply(h, 201, Docker_Content_Digest=digest(data))
        if kind == "manifest":
            found = self.manifests.get(("/".join(parts[2:-2]), parts[-1]))
            if not found:
                return self.error(h, 404, "MANIFEST_UNKNOWN", "manifest unknown")
            return self.reply(h, 200, found[1], Content_Type=found[0] or "application/json",
                              Docker_Content_Digest=digest(found[1]))
        if parts[-2:] == ["tags", "list"]:
            return self.tags(h, "/".join(parts[2:-2]))
        if kind == "blob":
            return self.blob(h, parts[-1])
        if kind == "upload":
            return self.upload(h)
        return self.reply(h, 200, b"{}")

    def tags(self, h, name):
        last = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(h.path).query)).get("last", "")
        left = sorted(t for n, t in self.manifests if n == name and ":" not in t and t > last)
        page = left[:self.tags_page] if self.tags_page else left
        more = {"Link": f'<{self.tags_next or f"/v2/{name}/tags/list?last={page[-1]}"}>; rel="next"'} if len(page) < len(left) else {}
        self.reply(h, 200, json.dumps({"name": name, "tags": page}).encode(), Content_Type="application/json", **more)

    def upload(self, h):
        """POST NAME/blobs/uploads/ answers with a relative Location; PUT there ends it."""
        if h.command == "POST":
            return self.reply(h, 202, Location="../upload/1?state=a%2Fb")
        query = urllib.parse.parse_qs(urllib.parse.urlparse(h.path).query)
        data = h.rfile.read(int(h.headers["Content-Length"]))
        if query.get("state") != ["a/b"] or query.get("digest") != [digest(data)]:
            return self.error(h, 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs[digest(data)] = data
        return self.reply(h, 201)

    def blob(self, h, name, ranges=True, cut=None):
        """Sends the blob or the range asked for; cut: close the connection after so many bytes."""
        data = self.blobs.get(name)
        if data is None:
            return self.error(h, 404, "BLOB_UNKNOWN", "blob unknown")
        start = 0
        asked = h.headers.get("Range")
        if asked and ranges:
            start = int(asked[len("bytes="):-1])
            if start >= len(data):
                return self.error(h, 416, "RANGE", "no such range")
            h.send_response(206)
            h.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            h.send_response(200)
        body = data[start:]
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if cut is not None:
            body = body[:cut]
            h.close_connection = True
        with self.lock:
            self.served[name] = self.served.get(name, 0) + len(body)
        if h.command != "HEAD":
            h.wfile.write(body)
        return True


# --- Debian's registry and skopeo ---

class Authority:
    """A certificate authority of the test's own, in a directory: ca.crt, and what it signs."""

    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory)
        self.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
        self.cert = os.path.join(directory, "ca.crt")

    def run(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=self.dir)

    def sign(self, name, subject):
        """(certificate, key): paths. subject: "IP:127.0.0.1", "DNS:x" …"""
        self.run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        with open(os.path.join(self.dir, name + ".ext"), "w") as f:
            f.write(f"subjectAltName={subject}\n")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
                 "-extfile", f"{name}.ext", "-out", f"{name}.cert")
        return os.path.join(self.dir, name + ".cert"), os.path.join(self.dir, name + ".key")


def debian_registry(directory, tls=None):
    """(process, address) of a docker-registry that keeps its files in a directory; tls: an Authority, whose certificate it has and
    by which clients must show one"""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        host = "127.0.0.1:%d" % s.getsockname()[1]
    config = os.path.join(directory, "registry.yml")
    cert, key = tls.sign("registry", "IP:127.0.0.1") if tls else (None, None)
    secure = f", tls: {{certificate: {cert}, key: {key}, clientcas: [{tls.cert}]}}" if tls else ""
    with open(config, "w") as f:
        f.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/registry}}}}\n"
                f"http: {{addr: '{host}', secret: x{secure}}}\n")
    p = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None:
        try:
            socket.create_connection(host.split(":"), timeout=1).close()
            return p, host
        except OSError:
            threading.Event().wait(0.05)
    raise AssertionError("docker-registry does not start")


def skopeo(*args):
    p = subprocess.run(["skopeo", *args], capture_output=True, text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    return p.stdout


def write_layout(path, images):
    """An OCI layout directory with (image, ref name) pairs."""
    os.makedirs(os.path.join(path, "blobs/sha256"))
    files = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')]
    index = {"schemaVersion": 2, "manifests": []}
    for image, name in images:
        files += [("blobs/sha256/" + d[7:], b) for d, b in {**image.blobs, image.digest: image.manifest}.items()]
        index["manifests"].append({"mediaType": OCI + "manifest.v1+json", "digest": image.digest, "size": len(image.manifest),
                                   "annotations": {"org.opencontainers.image.ref.name": name}})
    files.append(("index.json", json.dumps(index).encode()))
    for name, data in files:
        with open(os.path.join(path, name), "wb") as f:
            f.write(data)
    return files
