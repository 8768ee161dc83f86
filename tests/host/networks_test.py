#!/usr/bin/env python3
"""Networks of a whole daemon, in a network name space that stands for the host, with another that is outside of it."""
import json
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, NetworkSpace, busybox_rootfs, wait_until  # noqa: E402

IMAGE = "busybox:test"
P = "/v1/projects/default"
SERVE = "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www"


def asks(host, port, seconds):
    """A command that asks a web server (busybox's wget dies of a signal when it is static)."""
    return f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w {seconds} {host} {port}"


UDP = """import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b"ping")
print(s.recv(10).decode())"""
UDP_ECHO = """import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9000))
while True:
    s.sendto(*s.recvfrom(100))"""


def body(answer):
    head, blank, rest = answer.partition("\n\n")
    return rest.strip() if blank and " 200 " in head.split("\n")[0] else None


class Place(Daemon):
    """The daemon's host has 198.51.100.1, another machine beside it 198.51.100.2."""

    def __init__(self):
        super().__init__("nets", network=None)
        self.outside = NetworkSpace()
        self.space.run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", str(self.outside.holder.pid))
        self.space.run("ip", "addr", "add", "198.51.100.1/24", "dev", "out0")
        self.space.run("ip", "link", "set", "out0", "up")
        self.outside.run("ip", "addr", "add", "198.51.100.2/24", "dev", "in0")
        self.outside.run("ip", "link", "set", "in0", "up")
        self.space.run("ip", "route", "add", "default", "via", "198.51.100.2")

    def close(self):
        try:
            super().close()
        finally:
            self.outside.close()

    def spawn(self, name, *options, command=("sleep", "1000")):
        self.cli("run", "-d", "--stop-timeout", "0", "--name", name, *options, IMAGE, *command)
        return self.show(name)

    def serve(self, name, *options):
        """One with a web server, that listens when this returns."""
        shown = self.spawn(name, "--hostname", name, *options, command=("sh", "-c", SERVE))
        self.listens(name)
        return shown

    def listens(self, name, port=80):
        wait_until(lambda: f":{port:04X} " in self.inside(name, "cat", "/proc/net/tcp", "/proc/net/tcp6", check=False).stdout,
                   what=f"the server of {name}")

    def inside(self, name, *command, check=True):
        return self.cli("exec", name, *command, check=check)

    def fetch(self, name, host, port=80, seconds=20):
        """What an instance gets from a web server; None: nothing."""
        r = self.inside(name, "sh", "-c", asks(host, port, seconds), check=False)
        return body(r.stdout)

    def refused(self, *args, part=""):
        """A command that fails, saying why, and changes nothing."""
        before = self.picture()
        r = self.cli(*args, check=False)
        assert r.returncode == 125, f"{args}: status {r.returncode}\n{r.stdout}{r.stderr}"
        contains(r.stderr, part, f"the error of {args}")
        equal(self.picture(), before, f"what there is after {args}")
        return r.stderr

    def picture(self):
        """Objects of control, interfaces and rules of the host."""
        lists = {w: self.api("GET", f"{P}/{w}")[1][w] for w in ("networks", "rules", "balancers", "addresses")}
        instances = self.api("GET", P + "/instances?all=true")[1]["instances"]
        return {**lists, "instances": [(i["spec"]["name"], i.get("nics"), i.get("ports")) for i in instances],
                "links": sorted(line.split(": ")[1] for line in self.space.run("ip", "-o", "link").stdout.splitlines()),
                "rules of the host": self.space.run("nft", "list", "ruleset").stdout}


def get(space, address, port=80, seconds=20):
    """The same from a name space."""
    return body(space.run("busybox", "sh", "-c", asks(address, port, seconds).replace("nc ", "busybox nc "), check=False).stdout)


def reachable(space, address, port, wanted, what):
    wait_until(lambda: get(space, address, port, 5) == wanted, what=what)


def setup():
    d = Place()
    try:
        d.start()
        busybox_rootfs(d.dir + "/busybox.tar")
        d.cli("image", "import", d.dir + "/busybox.tar", IMAGE)
        d.clean = d.picture()
    except BaseException:
        d.close()
        raise
    return d


def after(d):
    """Nothing of one test is there in the next."""
    names = [i["spec"]["name"] for i in d.api("GET", P + "/instances?all=true")[1]["instances"]]
    if names:
        d.cli("rm", "-f", *names)
    for balancer in d.api("GET", P + "/balancers")[1]["balancers"]:
        d.cli("network", "unpublish", balancer["spec"]["name"])
    for a in d.api("GET", P + "/addresses")[1]["addresses"]:
        d.cli("address", "release", a["network"], a["address"])
    networks = [n["spec"]["name"] for n in d.api("GET", P + "/networks")[1]["networks"]]
    for n in networks:
        d.cli("network", "update", "--no-rules", n)
    if networks:
        d.cli("network", "rm", *networks)
    for g in d.api("GET", P + "/rules")[1]["rules"]:
        d.cli("rule", "rm", g["spec"]["name"])


@test
def the_default_network(d):
    """an instance that asks for nothing is on the network default: names, the way out, published ports"""
    equal(d.out("network", "ls", "-q"), "")
    a = d.serve("a", "-p", "8080:80", "--network-alias", "first")
    equal(d.out("network", "ls", "-q"), "default")
    nic = a["nics"][0]
    equal((nic["network"], nic["interface"]), ("default", "eth0"))
    d.spawn("b")
    equal(d.fetch("b", "a"), "a")
    equal(d.fetch("b", "first"), "a")
    equal(d.fetch("b", f"{nic['ipv4']}"), "a")
    equal(d.fetch("b", "a.default.wabe"), "a")
    d.inside("b", "ping", "-c", "1", "-W", "2", "198.51.100.2")  # masqueraded: the other machine knows no way back
    for address in ("127.0.0.1", "198.51.100.1"):
        equal(get(d.space, address, 8080), "a", f"from the host by {address}")
    equal(get(d.outside, "198.51.100.1", 8080), "a", "from outside")
    equal(d.fetch("b", "198.51.100.1", 8080), "a")
    contains(d.out("ls"), "8080->80/tcp")


@test
def names_at_once(d):
    """a name is known as soon as its instance has started, and gone as soon as it has ended"""
    d.spawn("asks")
    for i in range(5):
        d.spawn(f"n{i}", "--network", f"default,alias=alias{i}")
        for name in (f"n{i}", f"alias{i}"):
            r = d.inside("asks", "nslookup", name, check=False)
            contains(r.stdout, d.show(f"n{i}")["nics"][0]["ipv4"], f"the answer for {name}")
    d.cli("stop", "n0")
    r = d.inside("asks", "nslookup", "n0.default.wabe", check=False)
    assert d.show("n0")["nics"][0]["ipv4"] not in r.stdout, r.stdout
    d.cli("start", "n0")
    contains(d.inside("asks", "nslookup", "n0.default.wabe").stdout, d.show("n0")["nics"][0]["ipv4"])


@test
def several_networks(d):
    """an instance on two networks meets the instances of both; those do not meet each other by name"""
    d.cli("network", "create", "front", "--subnet", "10.200.1.0/24", "--ipv6")
    d.cli("network", "create", "back", "--subnet", "10.200.2.0/24", "--internal")
    d.serve("web", "--network", "front")
    d.serve("db", "--network", "back")
    both = d.spawn("app", "--network", "front", "--network", "back,ip=10.200.2.77,interface=data")
    equal([(n["network"], n["interface"]) for n in both["nics"]], [("front", "eth0"), ("back", "data")])
    equal(both["nics"][1]["ipv4"], "10.200.2.77")
    equal((d.fetch("app", "web"), d.fetch("app", "db")), ("web", "db"))
    six = d.show("web")["nics"][0]["ipv6"]
    equal(d.fetch("app", f"[{six}]"), "web")
    assert d.fetch("web", "db", seconds=2) is None
    assert d.inside("db", "ping", "-c", "1", "-W", "1", "198.51.100.2", check=False).returncode, "an internal network leads outside"


@test
def connect_and_disconnect(d):
    """a running instance joins a network and leaves it; so does a stopped one"""
    d.cli("network", "create", "db")
    d.serve("redis", "--network", "db")
    d.spawn("web")
    assert d.fetch("web", "redis", seconds=2) is None
    d.cli("network", "connect", "--alias", "www", "db", "web")
    equal(d.fetch("web", "redis"), "redis")
    contains(d.inside("redis", "nslookup", "www").stdout, d.show("web")["nics"][1]["ipv4"])
    contains(d.inside("web", "ip", "link").stdout, "eth1")
    address = d.show("web")["nics"][1]["ipv4"]
    d.cli("network", "connect", "--alias", "other", "db", "web")
    d.refused("network", "connect", "--ip", "203.0.113.77", "db", "web", part="disconnect it first")
    equal(d.show("web")["nics"][1]["ipv4"], address)
    contains(d.inside("redis", "nslookup", "other").stdout, address)
    d.cli("restart", "-t", "0", "web")
    equal(d.show("web")["nics"][1]["ipv4"], address)
    equal(d.fetch("web", "redis"), "redis")
    d.refused("network", "rm", "db", part="redis")
    d.cli("network", "disconnect", "db", "web")
    assert "eth1" not in d.inside("web", "ip", "link").stdout
    assert d.fetch("web", "redis", seconds=2) is None
    d.refused("network", "disconnect", "db", "web", part="not on network")
    d.cli("stop", "-t", "0", "web")
    d.cli("network", "connect", "db", "web")
    d.cli("start", "web")
    equal(d.fetch("web", "redis"), "redis")


@test
def published_ports(d):
    """TCP and UDP, ranges, one address, free ones; they change while the instance runs"""
    d.spawn("a", "-p", "127.0.0.1:8000-8002:90-92", "-p", "9000:9000/udp", "-p", "80", command=("sh", "-c", SERVE))
    ports = {(p["port"], p["protocol"]): p for p in d.show("a")["ports"]}
    picked = ports[80, "tcp"]["host_port"]
    assert 32768 <= picked <= 60999, picked
    name = d.inside("a", "hostname").stdout.strip()
    d.listens("a")
    equal(get(d.outside, "198.51.100.1", picked), name)
    d.cli("exec", "-d", "a", "sh", "-c", "hostname > /www/x; httpd -p 91 -h /www")
    reachable(d.space, "127.0.0.1", 8001, name, "the middle of a range")
    equal(get(d.outside, "198.51.100.1", 8001, 1), None, "a port of 127.0.0.1 from outside")
    echo = subprocess.Popen(["nsenter", f"--net=/proc/{d.show('a')['status']['pid']}/ns/net", "python3", "-c", UDP_ECHO])
    try:
        wait_until(lambda: d.outside.run("python3", "-c", UDP, "198.51.100.1", "9000", check=False).stdout == "ping\n",
                   what="an answer by UDP")
    finally:
        echo.kill()
        echo.wait()
    d.cli("update", "-p", "8088:80", "a")
    reachable(d.outside, "198.51.100.1", 8088, name, "a port of a running instance")
    equal(get(d.space, "127.0.0.1", 8001, 1), None, "a port that is not published any more")
    d.cli("stop", "-t", "0", "a")
    equal(get(d.space, "127.0.0.1", 8088, 1), None, "a port of a stopped instance")


@test
def the_hosts_own_rules(d):
    """published ports pass the host's input rules, unless the network says open; what others made stays"""
    d.space.run("nft", "add table inet admin; add chain inet admin input { type filter hook input priority 0; policy accept; };"
                "add rule inet admin input iifname out0 tcp dport 8080 drop")
    before = d.space.run("nft", "list", "table", "inet", "admin").stdout
    try:
        d.serve("a", "-p", "8080:80")
        equal(get(d.outside, "198.51.100.1", 8080, 1), None, "a port that the host's rules drop")
        equal(get(d.space, "127.0.0.1", 8080), "a")
        d.cli("network", "update", "--publish-policy", "open", "default")
        reachable(d.outside, "198.51.100.1", 8080, "a", "an open port")
        d.cli("network", "update", "--publish-policy", "host", "default")
        wait_until(lambda: get(d.outside, "198.51.100.1", 8080, 1) is None, what="the host's rule again")
        equal(d.space.run("nft", "list", "table", "inet", "admin").stdout, before)
    finally:
        d.space.run("nft", "delete", "table", "inet", "admin")


@test
def rules(d):
    """groups on instances and networks, by port, label and address; changes take effect for what runs"""
    d.cli("rule", "create", "strict")
    d.cli("rule", "add", "strict", "allow", "--ports", "80", "--from", "label=role=proxy")
    d.cli("rule", "add", "strict", "reject")
    d.serve("web", "--network", "default,rules=strict")
    d.spawn("proxy", "-l", "role=proxy")
    d.spawn("other")
    equal(d.fetch("proxy", "web"), "web")
    equal(d.fetch("other", "web", seconds=2), None)
    d.cli("update", "-l", "role=proxy", "other")
    equal(d.fetch("other", "web"), "web")
    address = d.show("proxy")["nics"][0]["ipv4"]
    d.cli("rule", "add", "strict", "deny", "--number", "1", "--from", address)
    equal(d.fetch("proxy", "web", seconds=2), None)
    equal([r["action"] for r in json.loads(d.out("rule", "show", "--json", "strict"))["spec"]["rules"]], ["deny", "allow", "reject"])
    contains(d.out("rule", "show", "strict"), address)
    d.cli("rule", "remove", "strict", "1")
    equal(d.fetch("proxy", "web"), "web")
    d.refused("rule", "rm", "strict", part="instance web")
    d.cli("network", "connect", "default", "web")  # without the group
    d.spawn("stranger")
    equal(d.fetch("stranger", "web"), "web")
    d.cli("network", "update", "--rules", "strict", "default")
    equal(d.fetch("stranger", "web", seconds=2), None)
    d.cli("network", "update", "--no-rules", "--ingress", "deny", "default")
    equal(d.fetch("proxy", "web", seconds=2), None)


@test
def balancers(d):
    """connections go to all that run and are well, and to no other"""
    for name in ("w1", "w2", "w3"):
        d.serve(name, "-l", "app=web", "--health-cmd", "test ! -e /sick", "--health-interval", "1s", "--health-retries", "1")
    equal(d.out("network", "publish", "--to", "label=app=web", "--port", "80", "--host-port", "8081", "--name", "shop"), "shop")

    def seen(n=30):
        return {get(d.outside, "198.51.100.1", 8081) for _ in range(n)}

    wait_until(lambda: seen() == {"w1", "w2", "w3"}, what="all three")
    d.inside("w2", "touch", "/sick")
    wait_until(lambda: len(d.api("GET", P + "/balancers/shop")[1]["backends"]) == 2, what="the end of the unhealthy one")
    wait_until(lambda: seen() == {"w1", "w3"}, what="connections to the others alone")
    d.cli("kill", "w3")
    wait_until(lambda: seen(10) == {"w1"}, what="the end of the killed one")
    d.inside("w2", "rm", "/sick")
    wait_until(lambda: seen(10) == {"w1", "w2"}, what="the return of the one that is well again")
    contains(d.out("network", "published"), "label:app=web")
    d.refused("network", "publish", "--to", "label:x", "--port", "8081", part="balancer shop")
    d.cli("network", "unpublish", "shop")
    equal(get(d.outside, "198.51.100.1", 8081, 1), None)


@test
def a_macvlan(d):
    """instances of a macvlan are neighbours of the machines beside the host"""
    d.cli("network", "create", "-d", "macvlan", "--parent", "out0",
          "--subnet", "198.51.100.0/24,gateway=198.51.100.2,range=198.51.100.128/25", "lan")
    a, b = d.serve("a", "--network", "lan"), d.serve("b", "--network", "lan")
    assert a["nics"][0]["ipv4"].startswith("198.51.100.1"), a["nics"]
    equal(get(d.outside, a["nics"][0]["ipv4"]), "a")
    equal(d.fetch("a", b["nics"][0]["ipv4"]), "b")
    contains(d.outside.run("ip", "neighbour", "show", a["nics"][0]["ipv4"]).stdout, a["nics"][0]["mac"])
    d.inside("a", "ping", "-c", "1", "-W", "2", "198.51.100.2")
    d.refused("create", "--network", "lan", "-p", "80", IMAGE, part="publish")
    d.cli("network", "disconnect", "lan", "a")
    equal(get(d.outside, a["nics"][0]["ipv4"], seconds=1), None)
    d.cli("network", "connect", "lan", "a")
    reachable(d.outside, d.show("a")["nics"][0]["ipv4"], 80, "a", "the instance that has come back")


def makes(d, *link):
    """Whether the kernel has this kind of interface."""
    made = d.space.run("ip", "link", "add", "try0", "link", "out0", "type", *link, check=False).returncode == 0
    if made:
        d.space.run("ip", "link", "del", "try0")
    return made


@test
def an_ipvlan(d):
    """instances of an ipvlan have the parent's MAC and addresses of their own"""
    need("ipvlan", makes(d, "ipvlan"))
    d.cli("network", "create", "-d", "ipvlan", "--parent", "out0",
          "--subnet", "198.51.100.0/24,gateway=198.51.100.2,range=198.51.100.192/26", "lan")
    a, b = d.serve("a", "--network", "lan"), d.serve("b", "--network", "lan")
    equal(get(d.outside, a["nics"][0]["ipv4"]), "a")
    equal(d.fetch("a", b["nics"][0]["ipv4"]), "b")
    parent = json.loads(d.space.run("ip", "-j", "link", "show", "out0").stdout)[0]["address"]
    contains(d.inside("a", "ip", "link", "show", "eth0").stdout, parent)


@test
def vlans(d):
    """networks with a tag on one interface: each meets the outside in its own VLAN and no other network"""
    need("802.1q", makes(d, "vlan", "id", "5"))
    for n, driver in ((10, "macvlan"), (20, "bridge")):
        d.outside.run("ip", "link", "add", f"in0.{n}", "link", "in0", "type", "vlan", "id", n)
        d.outside.run("ip", "addr", "add", f"10.202.{n}.1/24", "dev", f"in0.{n}")
        d.outside.run("ip", "link", "set", f"in0.{n}", "up")
        d.cli("network", "create", "-d", driver, "--parent", "out0", "--vlan", n, "--subnet",
              f"10.202.{n}.0/24,gateway=10.202.{n}.{1 if driver == 'macvlan' else 254},range=10.202.{n}.128/26", f"tag{n}")
        d.serve(f"i{n}", "--network", f"tag{n}")
    try:
        for n in (10, 20):
            address = d.show(f"i{n}")["nics"][0]["ipv4"]
            equal(get(d.outside, address), f"i{n}")
            d.inside(f"i{n}", "ping", "-c", "1", "-W", "2", f"10.202.{n}.1")
        d.outside.run("ip", "link", "del", "in0.20")
        d.outside.run("ip", "addr", "add", "10.202.20.1/24", "dev", "in0.10")
        equal(get(d.outside, d.show("i20")["nics"][0]["ipv4"], seconds=1), None, "an instance of another VLAN")
    finally:
        for n in (10, 20):
            d.outside.run("ip", "link", "del", f"in0.{n}", check=False)


@test
def a_physical_interface(d):
    """an interface of the host is one instance's, with what it had; it comes back when the instance leaves the network"""
    d.space.run("ip", "link", "add", "lent0", "type", "veth", "peer", "name", "far0", "netns", str(d.outside.holder.pid))
    try:
        d.outside.run("ip", "addr", "add", "192.0.2.2/24", "dev", "far0")
        d.outside.run("ip", "link", "set", "far0", "up")
        mac = json.loads(d.space.run("ip", "-j", "link", "show", "lent0").stdout)[0]["address"]
        d.cli("network", "create", "-d", "physical", "--parent", "lent0", "--subnet", "192.0.2.0/24,gateway=192.0.2.2", "wire")
        a = d.serve("a", "--network", "default", "--network", "wire,interface=wire0")
        contains(d.inside("a", "ip", "link", "show", "wire0").stdout, mac)
        equal(get(d.outside, a["nics"][1]["ipv4"]), "a")
        d.inside("a", "ping", "-c", "1", "-W", "2", "192.0.2.2")
        assert "lent0" not in d.picture()["links"]
        d.cli("create", "--name", "b", "--network", "wire", IMAGE, "sleep", "1000")
        r = d.cli("start", "b", check=False)
        equal(r.returncode, 125)
        contains(r.stderr, "lent0")
        d.cli("network", "disconnect", "wire", "a")
        equal(json.loads(d.space.run("ip", "-j", "link", "show", "lent0").stdout)[0]["address"], mac)
        d.cli("start", "b")
        contains(d.inside("b", "ip", "link", "show", "eth0").stdout, mac)
        d.cli("network", "disconnect", "wire", "b")
    finally:
        d.outside.run("ip", "link", "del", "far0", check=False)


@test
def two_hosts_and_a_vxlan(d):
    """two daemons on two hosts share a network by a tunnel: their instances reach each other"""
    e = Daemon("nets2", netspace=d.outside, network=None)
    try:
        e.start()
        e.cli("image", "import", d.dir + "/busybox.tar", IMAGE)
        for here, own, other, subnet in ((d, 1, 2, "gateway=10.201.0.1,range=10.201.0.0/25"),
                                         (e, 2, 1, "gateway=10.201.0.254,range=10.201.0.128/25")):
            here.cli("network", "create", "-d", "vxlan", "--vni", "7", "--local", f"198.51.100.{own}",
                     "--peer", f"198.51.100.{other}", "--subnet", "10.201.0.0/24," + subnet, "far")
        d.serve("one", "--network", "far")
        e.cli("run", "-d", "--stop-timeout", "0", "--name", "two", "--hostname", "two", "--network", "far", IMAGE, "sh", "-c", SERVE)
        one, two = d.show("one")["nics"][0]["ipv4"], e.show("two")["nics"][0]["ipv4"]
        wait_until(lambda: d.fetch("one", two) == "two", what="an answer from the other host")
        equal(body(e.cli("exec", "two", "sh", "-c", asks(one, 80, 20), check=False).stdout), "one")
        contains(d.inside("one", "ip", "neigh").stdout, e.show("two")["nics"][0]["mac"])
        equal(json.loads(d.space.run("ip", "-j", "link", "show", "type", "vxlan").stdout)[0]["mtu"], 1450)
        e.cli("shutdown", "-t", "0")
        equal(d.fetch("one", two, seconds=2), None)
        equal(d.outside.run("ip", "-j", "link", "show", "type", "vxlan").stdout.strip() in ("", "[]", "[{}]"), True)
    finally:
        e.close()


SCTP = """import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
s.settimeout(2)
s.connect((sys.argv[1], int(sys.argv[2])))
print(s.recv(10).decode())"""
SCTP_SERVER = """import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
s.bind(("0.0.0.0", 9000))
s.listen(5)
while True:
    c = s.accept()[0]
    c.send(b"sctp")
    c.close()"""


@test
def sctp(d):
    """a published port of SCTP carries traffic from outside and from the host"""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
        present = True
    except OSError:
        present = False
    need("sctp", present)
    d.spawn("a", "-p", "9000:9000/sctp")
    server = subprocess.Popen(["nsenter", f"--net=/proc/{d.show('a')['status']['pid']}/ns/net", "python3", "-c", SCTP_SERVER])
    try:
        for space, address in ((d.outside, "198.51.100.1"), (d.space, "127.0.0.1"), (d.space, d.show("a")["nics"][0]["ipv4"])):
            wait_until(lambda: space.run("python3", "-c", SCTP, address, "9000", check=False).stdout == "sctp\n",
                       what=f"an answer by SCTP from {address}")
    finally:
        server.kill()
        server.wait()


@test
def addresses(d):
    """reserved addresses are for who asks for them; an instance keeps what it has"""
    d.cli("network", "create", "web", "--subnet", "10.200.3.0/29")
    equal(d.out("address", "reserve", "--description", "the database", "web"), "10.200.3.2")
    a = d.spawn("a", "--network", "web")
    equal(a["nics"][0]["ipv4"], "10.200.3.3")
    db = d.spawn("db", "--network", "web", "--ip", "10.200.3.2", "--mac-address", "02:00:00:00:AB:01")
    equal((db["nics"][0]["ipv4"], db["nics"][0]["mac"]), ("10.200.3.2", "02:00:00:00:ab:01"))
    contains(d.inside("db", "ip", "link", "show", "eth0").stdout, "02:00:00:00:ab:01")
    listed = {a["address"]: a for a in json.loads(d.out("address", "ls", "--json", "web"))}
    equal((listed["10.200.3.2"]["instance"], listed["10.200.3.2"]["description"]), ("db", "the database"))
    contains(d.out("address", "ls"), "the database")
    d.cli("rm", "-f", "db", "a")
    equal([a["address"] for a in json.loads(d.out("address", "ls", "--json", "web"))], ["10.200.3.2"])
    d.cli("address", "release", "web", "10.200.3.2")
    equal(json.loads(d.out("address", "ls", "--json")), [])


@test
def bad_input(d):
    """what cannot be is refused with its reason, and nothing has changed"""
    d.cli("network", "create", "web", "--subnet", "10.200.4.0/24")
    d.spawn("a", "--network", "web,mac=02:00:00:00:00:aa", "-p", "8080:80")
    for args, part in [
        (("--subnet", "10.200.5.1/24", "x"), "subnet"),
        (("--subnet", "10.200.5.0/40", "x"), "subnet"),
        (("--subnet", "nonsense", "x"), "subnet"),
        (("--subnet", "127.0.0.0/8", "x"), "loopback"),
        (("--subnet", "10.200.5.0/24,gateway=10.200.6.1", "x"), "10.200.6.1"),
        (("--subnet", "10.200.4.128/25", "x"), "network web"),
        (("--subnet", "198.51.100.0/25", "x"), "198.51.100.0"),
        (("--subnet", "10.200.5.0/24", "--subnet", "10.200.6.0/24", "x"), "family"),
        (("a space",), "not a name"), (("-lead",), ""), (("a" * 129,), ""), (("web",), "web"),
        (("--driver", "macvlan", "x"), "parent"), (("--driver", "vxlan", "x"), "vni"), (("--driver", "token-ring", "x"), "bridge"),
        (("--vlan", "5000", "x"), "vlan"), (("--mtu", "10", "x"), "mtu"), (("--rules", "nowhere", "x"), "nowhere"),
    ]:
        d.refused("network", "create", *args, part=part)
    for args, part in [
        (("--network", "nowhere"), "nowhere"), (("--network", "web,ip=10.9.9.9"), "10.200.4.0/24"),
        (("--network", "web,ip=10.200.4.2"), "instance a"), (("--network", "web,ip=10.200.4.1"), "gateway"),
        (("--network", "web,mac=02:00:00:00:00:aa"), "instance a"), (("--network", "web,mac=01:00:00:00:00:01"), "unicast"),
        (("--network", "web,alias=no label"), "not a name"), (("--network", "web,wrong=1"), "ip=IP"),
        (("--network", "web", "--network", "web"), "twice"),
        (("--network", "web", "-p", "99999:80"), "HOSTPORT"),
        (("--network", "web", "-p", "1-3:5-6"), "as many"), (("--network", "none", "-p", "80"), "none"),
        (("--network", "web,rules=nowhere"), "nowhere"),
    ]:
        d.refused("create", *args, IMAGE, part=part)
    d.cli("create", "--name", "b", "--network", "web", "-p", "127.0.0.1:8080:80", IMAGE)
    d.refused("start", "b", part="instance a")  # who starts first has it
    d.cli("rm", "b")
    d.cli("rule", "create", "g")
    for args, part in [
        (("rule", "add", "g", "maybe"), "allow"), (("rule", "add", "g", "allow", "--ports", "0"), "port"),
        (("rule", "add", "g", "allow", "--from", "999.1.1.1"), "address"), (("rule", "add", "g", "allow", "--from", "group=no"), "group:no"),
        (("rule", "add", "g", "allow", "-p", "icmp", "--ports", "5"), "tcp"), (("rule", "remove", "g", "1"), "0 rules"),
        (("rule", "add", "g", "allow", "--number", "7"), "0 rules"),
        (("network", "publish", "--to", "nonsense", "--port", "80"), "label"), (("network", "publish", "--port", "80"), "--to"),
        (("network", "publish", "--to", "instance=nobody", "--port", "80"), "nobody"),
        (("network", "publish", "--to", "label=x", "--port", "0"), "port"),
        (("address", "reserve", "web", "10.9.9.9"), "10.200.4.0/24"), (("address", "reserve", "web", "10.200.4.2"), "instance a"),
        (("network", "connect", "nowhere", "a"), "nowhere"), (("network", "connect", "web", "nobody"), "nobody"),
        (("network", "update", "--mtu", "3", "web"), "mtu"), (("network", "update", "--subnet", "10.7.0.0/24", "web"), "subnets"),
    ]:
        d.refused(*args, part=part)


@test
def a_port_of_the_host(d):
    """a port that a program of the host has: the start says so, and who has it; the instance is there for another try"""
    p = subprocess.Popen(d.space.command("busybox", "nc", "-l", "-p", "8090"), stdin=subprocess.PIPE)
    try:
        wait_until(lambda: ":1F9A " in d.space.run("cat", "/proc/net/tcp").stdout + d.space.run("cat", "/proc/net/tcp6").stdout,
                   what="the listener")
        d.cli("create", "--name", "a", "-p", "8090:80", IMAGE, "sh", "-c", SERVE)
        r = d.cli("start", "a", check=False)
        equal(r.returncode, 125)
        contains(r.stderr, "8090")
    finally:
        p.kill()
        p.wait()
        p.stdin.close()
    d.cli("start", "a")
    d.listens("a")
    assert get(d.space, "127.0.0.1", 8090)


@test
def a_picked_port_of_the_host(d):
    """a port that was picked, and that a program of the host has taken since: another one takes its place"""
    d.cli("create", "--name", "a", "-p", "80", "-p", "127.0.0.1::81/udp", IMAGE, "sh", "-c", SERVE)
    before = [p["host_port"] for p in d.show("a")["ports"]]
    taker = ("import socket, sys\ns = [socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]\n"
             "for one, port in zip(s, sys.argv[1:]): one.bind(('', int(port)))\nprint('taken', flush=True)\nsys.stdin.read()")
    p = subprocess.Popen(d.space.command("python3", "-c", taker, *before), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        equal(p.stdout.readline(), b"taken\n")
        d.cli("start", "a")
        after = [p["host_port"] for p in d.show("a")["ports"]]
        assert not set(before) & set(after), (before, after)
        d.listens("a")
        equal(get(d.outside, "198.51.100.1", after[0]), d.inside("a", "hostname").stdout.strip())
    finally:
        p.stdin.close()
        p.wait(20)
        p.stdout.close()
    d.cli("restart", "-t", "0", "a")
    equal([p["host_port"] for p in d.show("a")["ports"]], after)


@test
def restarts(d):
    """control and agent are killed and come back, the daemon stops and starts: traffic, names and rules go on"""
    d.cli("network", "create", "web", "--subnet", "10.200.8.0/24")
    d.cli("rule", "create", "g")
    d.cli("rule", "add", "g", "allow", "--from", "label=good")
    d.cli("rule", "add", "g", "deny")
    d.serve("a", "--network", "web,rules=g", "-p", "8080:80")
    d.spawn("b", "--network", "web", "-l", "good=1")
    d.spawn("c", "--network", "web")
    d.cli("network", "publish", "--to", "instance=a", "--port", "80", "--host-port", "8085", "--name", "l")

    def works(what):
        equal(d.fetch("b", "a"), "a", what)
        equal(d.fetch("c", "a", seconds=2), None, what)

    works("at first")
    before = d.picture()
    for role in ("control", "agent"):
        pid = d.pids()[role]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: d.pids().get(role, pid) != pid, what=f"another {role}")
        wait_until(lambda: d.api("GET", "/v1/info")[1]["agent"]["connected"] if os.path.exists(d.run_dir + "/wabe.sock") else False,
                   what="the connection to the agent")
        works(f"after the end of {role}")
        d.spawn("late", "--network", "web", "-l", "good=1")
        equal(d.fetch("late", "a"), "a")
        d.cli("rm", "-f", "late")
    d.stop()
    d.start()
    works("after the daemon was stopped and started")
    d.kill()
    d.start()
    works("after the daemon was killed and started")
    now = d.picture()
    wait_until(lambda: d.picture()["balancers"] == before["balancers"], what="the balancer's backends")
    for key in ("networks", "rules", "addresses", "links"):
        equal(now[key], before[key], key)


@test
def a_reload_of_the_firewall(d):
    """another program flushes all rules: wabe's come back by themselves"""
    d.serve("a", "-p", "8080:80")
    d.spawn("b")
    d.space.run("nft", "flush", "ruleset")
    reachable(d.outside, "198.51.100.1", 8080, "a", "the published port")
    equal(d.fetch("b", "a"), "a")


@test
def two_daemons(d):
    """two daemons on one host: other subnets, other tables; a port that the other has is refused when it is to be used"""
    d.serve("a", "-p", "8080:80")
    e = Daemon("nets2", netspace=d.space, network=None)
    try:
        e.start()
        e.cli("image", "import", d.dir + "/busybox.tar", IMAGE)
        e.cli("run", "-d", "--stop-timeout", "0", "--name", "a", IMAGE, "sh", "-c", SERVE)
        one, two = d.show("a")["nics"][0], e.show("a")["nics"][0]
        assert one["ipv4"] != two["ipv4"], one
        contains(e.cli("exec", "a", "nslookup", "a").stdout, two["ipv4"])
        e.cli("create", "--name", "b", "-p", "8080:80", IMAGE, "sh", "-c", SERVE)
        r = e.cli("start", "b", check=False)
        equal(r.returncode, 125)
        contains(r.stderr, "8080")
        e.cli("shutdown", "-t", "0")
        e.process.wait(60)
        equal(get(d.outside, "198.51.100.1", 8080), "a")
    finally:
        e.close()
    equal(get(d.outside, "198.51.100.1", 8080), "a")


@test
def a_shutdown(d):
    """a shutdown takes interfaces and rules of the host away; the next start makes them again"""
    d.serve("a", "-p", "8080:80")
    address = d.show("a")["nics"][0]["ipv4"]
    d.cli("shutdown", "-t", "1")
    # all of it is gone when the command returns
    equal(d.shims(), [])
    links = sorted(line.split(": ")[1] for line in d.space.run("ip", "-o", "link").stdout.splitlines())
    equal((links, d.space.run("nft", "list", "ruleset").stdout), (d.clean["links"], ""))
    equal(d.process.wait(60), 0)
    d.process.stdout.close()
    d.start()
    d.cli("start", "a")
    d.listens("a")
    equal(d.show("a")["nics"][0]["ipv4"], address)
    equal(get(d.outside, "198.51.100.1", 8080), "a")


@test
def nothing_is_left(d):
    """after the last instance and network are gone, the host is as it was"""
    d.spawn("a", "-p", "8080:80")
    d.cli("rm", "-f", "a")
    equal(d.out("network", "prune"), "default")
    equal(d.picture()["links"], d.clean["links"])


if __name__ == "__main__":
    run(setup, lambda d: d.close(), after)
