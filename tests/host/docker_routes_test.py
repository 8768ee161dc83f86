#!/usr/bin/env python3
"""Every published operation of the Docker Engine API against a running daemon: none is a page that is not there, and
what is asked for something that does not exist says so in Docker's way. And plugins, which are never there."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import Docker
from tap import contains, equal, run, test
from wabe import TOP, Daemon

NOWHERE = "0123456789abcdef"
# what an operation on nothing needs so that it ends by itself
BODIES = {"/containers/{id}/exec": b'{"Cmd": ["true"]}'}
QUERIES = {
    "/events": "?since=1&until=2",
    "/images/search": "?term=x&limit=1",
    "/images/create": "",
    "/services/{id}/logs": "?stdout=1",
    "/tasks/{id}/logs": "?stdout=1",
    "/containers/{id}/stats": "?stream=false",
    "/containers/{id}/archive": "?path=/",
    "/containers/{id}/resize": "?h=1&w=1",
    "/exec/{id}/resize": "?h=1&w=1",
    "/containers/{id}/rename": "?name=other",
    "/containers/{id}/logs": "?stdout=1",
    "/images/{name}/tag": "?repo=other",
    "/commit": f"?container={NOWHERE}",
    "/images/get": f"?names={NOWHERE}",
    "/plugins/{name}/enable": "?timeout=1",
    "/services/{id}/update": "?version=1",
    "/nodes/{id}/update": "?version=1",
    "/secrets/{id}/update": "?version=1",
    "/configs/{id}/update": "?version=1",
}
# changes the whole host, or needs the world: only that the page is there is looked at, with a body that is refused
REFUSED_BODY = {"/swarm/init", "/swarm/join", "/swarm/update", "/swarm/unlock", "/auth", "/build", "/images/load"}


def published():
    with open(os.path.join(TOP, "tests/clients/docker-routes.txt")) as f:
        return [line.split() for line in f if not line.startswith("#")]


def ask(d, method, path, version=""):
    """(status, the error's message or None, headers), without the body of what goes well."""
    c = d.connection()
    url = version + re.sub(r"\{[^}]*\}", NOWHERE, path) + QUERIES.get(path, "")
    body = b"[" if path in REFUSED_BODY else BODIES.get(path, b"{}") if method == "POST" else None
    try:
        c.request(method, url, body, {"Content-Type": "application/json"} if body else {})
        r = c.getresponse()
        if r.status < 400 or method == "HEAD":
            return r.status, None, r.headers
        data = r.read().decode()
        contains(r.headers["Content-Type"], "application/json", f"{method} {url}: {r.status} {data!r}: type")
        return r.status, json.loads(data)["message"], r.headers
    finally:
        c.close()


@test
def every_operation_is_there(d):
    missing, bad = [], []
    for method, path in published():
        status, message, headers = ask(d, method, path)
        if message == "page not found" or (method == "HEAD" and status == 404 and "Content-Type" not in headers):
            missing.append(f"{method} {path}")
        elif status == 405 or (status == 500 and "cannot talk to" not in message) or (status >= 400 and method != "HEAD" and not message):
            bad.append(f"{method} {path}: {status} {message}")
    assert not missing, "not there: " + ", ".join(missing)
    assert not bad, "\n".join(bad)


@test
def what_is_not_there_has_dockers_words(d):
    words = {"containers": f"No such container: {NOWHERE}", "images": f"No such image: {NOWHERE}:latest",
             "networks": f"network {NOWHERE} not found", "volumes": f"get {NOWHERE}: no such volume",
             "exec": f"No such exec instance: {NOWHERE}", "plugins": f'plugin "{NOWHERE}" not found'}
    for method, path in published():
        noun = path.split("/")[1]
        if "{" not in path or noun not in words or method == "HEAD" or path.endswith("/ws"):
            continue
        if (method, path) == ("PUT", "/volumes/{name}"):
            continue  # cluster volumes alone
        status, message, _ = ask(d, method, path)
        if path in ("/plugins/{name}/upgrade", "/images/{name}/push"):
            continue  # its remote is looked at first; the answer has begun by then
        equal((status, message), (404, words[noun]), f"{method} {path}")


@test
def a_node_without_a_swarm_says_so(d):
    for method, path in published():
        noun = path.split("/")[1]
        if noun not in ("nodes", "services", "tasks", "secrets", "configs") and path not in (
                "/swarm", "/swarm/update", "/swarm/unlockkey", "/swarm/leave"):
            continue
        if path == "/swarm/update":
            continue  # its version is looked at first
        status, message, _ = ask(d, method, path)
        equal(status, 503, f"{method} {path}: {message}")
        contains(message, "his node is not ", f"{method} {path}")


@test
def versions_in_paths(d):
    for version in ("", "/v1.24", "/v1.30", "/v1.41", "/v1.44"):
        equal(d.api("GET", version + "/containers/json"), (200, []), version)
        equal(d.api("GET", version + "/nosuch"), (404, {"message": "page not found"}), version)
    equal(d.api("GET", "/v1.99/info"),
          (400, {"message": "client version 1.99 is too new. Maximum supported API version is 1.51"}))
    status, answer = d.api("GET", "/v1.12/info")
    equal(status, 400)
    contains(answer["message"], "client version 1.12 is too old. Minimum supported API version is 1.24")


@test
def another_method_is_no_page(d):
    for method, path in (("PUT", "/containers/json"), ("POST", "/info"), ("DELETE", "/version"), ("GET", "/containers/create"),
                         ("PATCH", "/containers/x")):
        equal(d.api(method, path), (404, {"message": "page not found"}), f"{method} {path}")


@test
def plugins_are_none(d):
    equal(d.api("GET", "/plugins"), (200, []))
    equal(d.api("GET", "/plugins?filters=%7B%22enabled%22%3A%5B%22true%22%5D%7D"), (200, []))
    equal(d.api("GET", "/plugins?filters=%7B%22x%22%3A%5B%22y%22%5D%7D"), (400, {"message": "invalid filter 'x'"}))
    equal(d.api("GET", "/plugins/privileges"), (400, {"message": "invalid reference format"}))
    equal(d.api("POST", "/plugins/pull?remote=%3A%3A", []), (400, {"message": "invalid reference format"}))
    status, answer = d.api("POST", "/plugins/pull?remote=vieux/sshfs", [])
    equal(status, 501)
    contains(answer["message"], "plugin vieux/sshfs: wabe has no managed plugins")
    equal(d.api("GET", "/plugins/vieux/sshfs/json"), (404, {"message": 'plugin "vieux/sshfs" not found'}))
    equal(d.api("POST", "/plugins/x/enable?timeout=no")[0], 400)
    status, answer = d.api("POST", "/plugins/create?name=x", b"tar" * 100000, {"Content-Type": "application/x-tar"})
    equal((status, "no managed plugins" in answer["message"]), (501, True))


def start():
    daemon = Daemon("dockroutes")
    try:
        daemon.start()
    except BaseException:
        daemon.close()
        raise
    d = Docker.of(daemon)
    d.daemon = daemon
    return d


if __name__ == "__main__":
    run(start, lambda d: d.daemon.close())
