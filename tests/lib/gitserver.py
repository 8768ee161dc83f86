"""Repositories of git for tests, and their servers inside a Daemon's network name space: git's own protocol and HTTP, by the real
git. As a program: those servers, see serve()."""
import base64
import http.server
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
       "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "LANG": "C.UTF-8"}
LOGIN = ("me", "p@ss")
TOKEN = "a-token-of-builds"


class Repository:
    """One of git. files: as for commit()."""

    def __init__(self, path, files=None, branch="main"):
        self.path = path
        os.makedirs(path)
        self.git("init", "--quiet", f"--initial-branch={branch}")
        self.first = self.commit(files) if files else None

    def git(self, *words):
        # a submodule of a test comes from a directory
        words = ["git", "-c", "safe.directory=*", "-c", "protocol.file.allow=always", "-C", self.path, *words]
        r = subprocess.run(words, env=ENV, capture_output=True, text=True)
        assert r.returncode == 0, f"{words}: {r.stderr}"
        return r.stdout.strip()

    def commit(self, files, *flags):
        """{name: text, ("link", target) or None to remove}; gives the commit."""
        for name, content in files.items():
            path = os.path.join(self.path, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if content is None:
                os.unlink(path)
            elif isinstance(content, tuple):
                os.symlink(content[1], path)
            else:
                with open(path, "w") as f:
                    f.write(content)
                os.chmod(path, 0o755 if content.startswith("#!") else 0o644)
        self.git("add", "--all", *flags)
        self.git("commit", "--quiet", "--allow-empty", "-m", "c")
        return self.git("rev-parse", "HEAD")


class Server:
    """Serves a directory's repositories. git, http, https, silent: the beginnings of URLs; the last one's server never answers.
    Beneath those of HTTP, private/ wants LOGIN and token/ TOKEN, and files/ has files as they are. certificate: for https, a file with
    a key, too (Authority). At port 22 of 127.0.0.1 the user git is let in by keys: authorize()."""

    def __init__(self, space, directory, certificate=""):
        self.directory = directory
        os.makedirs(directory + "/home/.ssh", 0o700)
        with open(directory + "/home/passwd", "w") as f:
            f.write("root:x:0:0::/root:/bin/sh\ngit:x:0:0::/root:/bin/sh\n")
        if self.has_ssh():
            subprocess.run(["dropbearkey", "-t", "ed25519", "-f", directory + "/home/host-key"], check=True, capture_output=True)
        self.process = subprocess.Popen(space.command(sys.executable, os.path.abspath(__file__), directory, certificate), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        ports = self.process.stdout.readline().split()
        self.git, self.http, self.https, self.silent = (f"{s}://127.0.0.1:{p}" for s, p in zip(("git", "http", "https", "git"), ports))

    @staticmethod
    def has_ssh():
        return shutil.which("dropbear") and shutil.which("dropbearkey")

    def authorize(self, public):
        with open(self.directory + "/home/.ssh/authorized_keys", "w") as f:
            f.write(public)

    def await_silent(self):
        """Until somebody has connected to the one that never answers."""
        assert self.process.stdout.readline() == "connected\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Authority:
    """A space for a Daemon in which one certificate, that of 127.0.0.1, is all that is trusted."""

    def __init__(self, space, directory):
        self.space, self.path, self.directory = space, directory + "/server.pem", directory + "/trusted"
        os.mkdir(self.directory)
        trusted = self.directory + "/ca-certificates.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.path, "-out", trusted], check=True, capture_output=True)
        with open(trusted) as certificate, open(self.path, "a") as f:
            f.write(certificate.read())

    def command(self, *words):
        return self.space.command("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/ssl/certs && exec "$@"', self.directory, *words)


class Git(socketserver.BaseRequestHandler):
    def handle(self):
        subprocess.run(["git", "-c", "safe.directory=*", "daemon", "--inetd", "--export-all", f"--base-path={self.server.directory}"],
                       stdin=self.request, stdout=self.request, stderr=subprocess.DEVNULL, env=ENV)


class Ssh(socketserver.BaseRequestHandler):
    """Whose user and home are not the host's."""

    def handle(self):
        script = 'mount --bind "$0/home" /root && mount --bind /root/passwd /etc/passwd && exec dropbear -i -s -r /root/host-key'
        subprocess.run(["unshare", "--mount", "sh", "-c", script, self.server.directory], stdin=self.request, stdout=self.request,
                       stderr=subprocess.DEVNULL)


class Http(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def allowed(self):
        wanted = {"private": LOGIN, "token": ("x-access-token", TOKEN)}.get(self.path.split("/")[1])
        return not wanted or self.headers.get("Authorization") == "Basic " + base64.b64encode(":".join(wanted).encode()).decode()

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while n := int(self.rfile.readline(), 16):
            data += self.rfile.read(n)
            self.rfile.readline()
        return data

    def answer(self):
        body = self.body()
        if not self.allowed():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        if self.path.startswith("/files/"):
            with open(self.server.directory + self.path, "rb") as f:
                content = f.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        path, _, query = self.path.partition("?")
        env = {**ENV, "GIT_PROJECT_ROOT": self.server.directory, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
               "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        out = subprocess.run(["git", "-c", "safe.directory=*", "http-backend"], input=body, capture_output=True, env=env).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer


class GitServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


def keep_silent(listener):
    held = []
    while True:
        held.append(listener.accept())
        print("connected", flush=True)


def serve(directory, certificate):
    """Prints the four ports, then a line for each connection to the silent one; ends when standard input does."""
    servers = [GitServer(("127.0.0.1", 0), Git), *(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http) for _ in range(2))]
    servers += [GitServer(("127.0.0.1", 22), Ssh)] if Server.has_ssh() else []
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        servers[2].socket = tls.wrap_socket(servers[2].socket, server_side=True)
    silent = socket.create_server(("127.0.0.1", 0))
    for s in servers:
        s.directory = directory
        threading.Thread(target=s.serve_forever, daemon=True).start()
    threading.Thread(target=keep_silent, args=(silent,), daemon=True).start()
    print(*(s.server_address[1] for s in servers[:3]), silent.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(*sys.argv[1:])
