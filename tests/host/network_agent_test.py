#!/usr/bin/env python3
"""Networks as the agent has them, from control's side of the socket: everything in a network name space of the test's
own, so that the host's interfaces, rules and resolvers are never touched."""
import concurrent.futures
import glob
import json
import os
import re
import shutil
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from agent import Gone, Refused
from networks import links, nic, private, sh, start, tables
from tap import contains, equal, note, run, test
from wabe import wait_until


def setup():
    private()
    return start()


def apart(fn):
    """A test after whose failure the next one finds things in order."""
    def wrapped(a):
        try:
            fn(a)
        except BaseException:
            note(a.log())
            a.restore()
            raise
    wrapped.__name__, wrapped.__doc__ = fn.__name__, fn.__doc__
    return test(wrapped)


def refused(kind, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except Refused as e:
        equal(e.kind, kind, f"kind of \"{e.message}\"")
        return e
    raise AssertionError(f"not refused ({kind} was wanted)")


# ---- networks ----

@apart
def life(a):
    """a network is made with an address range of its own, seen, made again, removed; nothing stays behind"""
    id, made = a.network("first")
    equal(made["status"]["state"], "up")
    subnet = made["subnets"][0]
    assert subnet["cidr"].endswith("/20") and subnet["gateway"], made
    bridge = links()[made["status"]["interface"]]
    contains(bridge["ifalias"], f"wabe {a.tag} {id}")
    contains(sh(f"ip -4 addr show {bridge['ifname']}"), subnet["gateway"])
    assert any(a.tag in t for t in tables()), tables()
    equal(a.call("network-list")["networks"], [made])
    _, again = a.network("first", id=id)
    equal(again, made)
    other, second = a.network("second")
    assert second["subnets"][0]["cidr"] != subnet["cidr"], second
    a.drop(id)
    equal([n["id"] for n in a.call("network-list")["networks"]], [other])
    a.drop(id)
    a.drop(other)
    a.no_traces()


@apart
def bad_networks(a):
    """subnets that overlap the host's or another network's, other settings for what is there: refused, nothing changed"""
    sh("ip link add wtdummy type veth peer name wtdummy2 && ip addr add 10.99.0.1/24 dev wtdummy && ip link set wtdummy up")
    before = sorted(links())
    try:
        contains(refused("conflict", a.network, subnets=[{"cidr": "10.99.0.0/16"}]).message, "10.99.0.0")
        refused("invalid", a.network, subnets=[{"cidr": "10.98.0.1/16"}])
        refused("invalid", a.network, "not a label")
        refused("invalid", a.network, driver="token-ring")
        refused("invalid", a.full, "network-create", {"id": "short", "spec": {"name": "x"}})
        equal((sorted(links()), a.call("network-list")), (before, {}))
        one = a.plain(1)
        refused("conflict", a.network, subnets=[{"cidr": "10.77.0.0/16"}])
        refused("conflict", a.network, "plain1", id=one, subnets=[{"cidr": "10.78.0.0/24"}])
        equal(a.state_of_network(one)["state"], "up")
        a.drop(one)
    finally:
        sh("ip link del wtdummy")
    a.no_traces()


@apart
def on_a_network(a):
    """two instances reach each other by address and by name; files, route and settings inside are right"""
    n = a.plain(2)
    one = a.sleeper(n, 2, 10, name="one", hostname="one")
    two = a.sleeper(n, 2, 11, name="two", more=[])
    assert a.pings(one, "10.77.2.11") and a.pings(two, "10.77.2.10"), "no answer"
    text, code = a.inside(one, "ip addr show eth0; ip route; cat /etc/hosts /etc/resolv.conf; cat /proc/sys/net/ipv4/ping_group_range")
    for part in ("10.77.2.10/24", "02:00:0a:4d:02:0a", "default via 10.77.2.1", "10.77.2.10\tone\n", "nameserver 10.77.2.1\n",
                 "search plain2.wabe\n", "0\t65535"):
        contains(text, part)
    equal(a.inside(one, "nslookup two.plain2.wabe 10.77.2.1 | grep -c 10.77.2.11")[0].strip(), "1")
    assert a.pings(one, "two"), a.inside(one, "nslookup two")
    assert a.pings(two, "one"), a.inside(two, "nslookup one")
    refused("conflict", a.drop, n)
    contains(refused("conflict", a.drop, n).message, one[:12])
    a.call("instance-stop", id=two, signal="SIGKILL")
    assert not a.pings(one, "10.77.2.11"), "an answer of one that is stopped"
    a.call("instance-start", id=two)
    assert a.pings(one, "two"), "no answer after a restart"
    a.delete(one, two)
    a.clean()
    a.drop(n)
    a.no_traces()


@apart
def refused_nics(a):
    """addresses that are not the network's to give, or taken, names and networks twice: refused with the reason"""
    n, m = a.plain(3), a.plain(4)
    one = a.sleeper(n, 3, 10, start=False)
    def bad(kind, field, text, *nics, **spec):
        e = refused(kind, a.create, command=["/bin/true"], nics=list(nics), **dict({"network": "private"}, **spec))
        equal(e.field, field, e.message)
        contains(e.message, text)
    at = "instance.nics[0]."
    bad("invalid", at + "ipv4", "not in 10.77.3.0/24", nic(n, 3, 11, ipv4="10.77.4.11"))
    bad("invalid", at + "ipv4", "gateway", nic(n, 3, 1))
    bad("invalid", at + "ipv4", "network's own", nic(n, 3, 0))
    bad("invalid", at + "ipv4", "broadcast", nic(n, 3, 255))
    bad("invalid", at + "ipv6", "no IPv6", nic(n, 3, 11, ipv6="fd00::5"))
    bad("conflict", at + "ipv4", one[:12], nic(n, 3, 11, ipv4="10.77.3.10"))
    bad("conflict", at + "mac", one[:12], nic(n, 3, 11, mac="02:00:0A:4D:03:0a"))
    bad("invalid", at + "mac", "required", nic(n, 3, 11, mac=None))
    bad("invalid", at + "interface", "other than lo", nic(n, 3, 11, interface="lo"))
    bad("not-found", at + "network_id", "no network", nic("0" * 64, 3, 11))
    bad("invalid", "instance.nics[1].network_id", "twice", nic(n, 3, 11), nic(n, 3, 12, "eth1"))
    bad("invalid", "instance.nics[1].interface", "eth0", nic(n, 3, 11), nic(m, 4, 12))
    bad("invalid", at + "rules", "no rule group", nic(n, 3, 11, rules=["1" * 64]))
    bad("invalid", "instance.nics", "private", nic(n, 3, 11), network="none")
    equal(len(a.call("instance-list")["instances"]), 1)
    a.delete(one)
    two = a.sleeper(n, 3, 10, start=False)  # what was taken is free again
    a.delete(two)
    a.drop(n, m)
    a.no_traces()


@apart
def live(a):
    """nic-set and nic-remove on a running instance: at once, in its files, and after the next start as well"""
    n, m = a.plain(5), a.plain(6)
    one, two = a.sleeper(n, 5, 10, name="one"), a.sleeper(m, 6, 11, name="two")
    a.call("nic-set", id=one, nic=nic(m, 6, 10, "eth1", aliases=["uno"]))
    assert a.pings(one, "10.77.6.11"), a.inside(one, "ip addr; ip route")
    assert a.pings(two, "uno"), a.inside(two, "nslookup uno")
    contains(a.inside(one, "cat /etc/resolv.conf")[0], "search plain5.wabe plain6.wabe")
    refused("conflict", a.call, "nic-set", id=two, nic=nic(n, 5, 12, "eth1", mac="02:00:0a:4d:05:0a"))
    refused("conflict", a.call, "nic-set", id=one, nic=nic(m, 6, 33, "eth1"))
    a.call("nic-set", id=one, nic=nic(m, 6, 10, "eth1", aliases=["eins"]))
    assert a.pings(two, "eins") and not a.pings(two, "uno"), a.inside(two, "nslookup eins; nslookup uno")
    refused("conflict", a.drop, m)
    for _ in range(2):
        assert a.pings(one, "two.plain6.wabe"), a.inside(one, "nslookup two.plain6.wabe")
        a.call("instance-stop", id=one, signal="SIGKILL")
        a.call("instance-start", id=one)
    a.call("nic-remove", id=one, network_id=m)
    a.call("nic-remove", id=one, network_id=m)
    assert not a.pings(two, "10.77.6.10") and "eth1" not in a.inside(one, "ip link")[0], "it is still there"
    equal(a.inside(one, "grep -c plain6 /etc/resolv.conf")[0].strip(), "0")
    a.call("nic-remove", id=one, network_id=n)
    a.call("nic-set", id=one, nic=nic(m, 6, 12))
    assert a.pings(two, "10.77.6.12"), a.inside(one, "ip addr; ip route")
    contains(a.inside(one, "ip route")[0], "default via 10.77.6.1")
    a.delete(one, two)
    a.clean()
    a.drop(n, m)
    a.no_traces()


@apart
def shared_netns(a):
    """an instance in another's network has its addresses; none and host have no nics"""
    n = a.plain(7)
    one = a.sleeper(n, 7, 10, name="one")
    two = a.create(command=["/bin/sleep", "1000"], network="instance:" + one)
    a.call("instance-start", id=two)
    contains(a.inside(two, "ip addr")[0], "10.77.7.10/24")
    contains(a.inside(two, "cat /etc/resolv.conf")[0], "10.77.7.1")
    refused("conflict", a.call, "nic-set", id=two, nic=nic(n, 7, 11))
    a.call("instance-stop", id=two, signal="SIGKILL")
    assert a.pings(one, "10.77.7.1"), "the gateway does not answer"
    a.delete(two, one)
    a.drop(n)
    a.no_traces()


@apart
def pause_and_kill(a):
    """pausing, killing from outside and restart policies leave networks as they should be"""
    n = a.plain(8)
    one = a.sleeper(n, 8, 10)
    a.call("instance-pause", id=one)
    a.call("instance-unpause", id=one)
    assert a.pings(one, "10.77.8.1"), "no answer after a pause"
    again = a.sleeper(n, 8, 11, restart={"policy": "always"})
    e = a.events()
    os.kill(a.status(again)["pid"], signal.SIGKILL)
    e.until(again, "die")
    e.until(again, "restart")
    e.close()
    assert a.pings(one, "10.77.8.11"), "no answer after a restart by policy"
    shim = json.load(open(a.run + f"/shim/{one}/state.json"))["shim"]
    os.kill(shim, signal.SIGKILL)
    a.wait_state(one, "exited")
    equal(glob.glob(a.run + f"/shim/{one}/network.json"), [])
    assert not any(one in l.get("ifalias", "") for l in links().values())
    a.delete(one, again)
    a.clean()
    a.drop(n)
    a.no_traces()


@apart
def parallel(a):
    """twenty instances start and end at once; each is reached, nothing stays"""
    n = a.plain(9)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda i: a.sleeper(n, 9, 10 + i), range(20)))
    for i in range(1, 20):
        assert a.pings(ids[0], f"10.77.9.{10 + i}"), i
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(a.delete, ids))
    a.clean()
    a.drop(n)
    a.no_traces()


@apart
def names(a):
    """a new name is known at once; what the spec says of DNS wins over the networks; IPv6 has all that IPv4 has"""
    n = a.network("plain27", subnets=[{"cidr": "10.77.27.0/24"}, {"cidr": "fd77:27::/64"}])[0]
    one = a.sleeper(n, 27, 10, name="one")
    six = nic(n, 27, 11, ipv6="fd77:27::11")
    two = a.create(command=["/bin/sleep", "1000"], network="private", name="two", nics=[six], dns=["192.0.2.53"],
                   dns_search=["example.com"])
    a.call("instance-start", id=two)
    equal(a.inside(two, "cat /etc/resolv.conf")[0], "search example.com\nnameserver 192.0.2.53\n")
    contains(a.inside(two, "ip -6 addr show eth0; ip -6 route")[0], "fd77:27::11/64")
    contains(a.inside(two, "ip -6 route")[0], "default via fd77:27::1")
    busy = "busybox nslookup -type=aaaa two.plain27.wabe 10.77.27.1"
    contains(sh(busy), "fd77:27::11")
    spec = spec_of(a, two)
    spec["name"] = "deux"
    a.call("instance-update", id=two, spec=spec)
    assert a.pings(one, "deux") and not a.pings(one, "two"), a.inside(one, "nslookup deux; nslookup two")
    a.delete(one, two)
    a.drop(n)
    a.no_traces()


# ---- ports ----

def answers(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port), 3) as s:
            s.settimeout(3)
            return s.recv(100).decode().strip()
    except OSError:
        return None


def server(a, network, n, address, port, word, **spec):
    id = a.create(command=["/bin/sh", "-c", f"while :; do echo {word} | nc -l -p {port}; done"], network="private",
                  nics=[nic(network, n, address)], **spec)
    return id


@apart
def published(a):
    """a published port is reached from the host; one that is taken is told at the start, with its owner; changed live"""
    n = a.plain(10)
    one = server(a, n, 10, 10, 80, "one", ports=[{"host_port": 18080, "port": 80}])
    a.call("instance-start", id=one)
    wait_until(lambda: answers(18080) == "one", 30, "the published port")
    two = server(a, n, 10, 11, 80, "two", ports=[{"host_port": 18080, "port": 80}])
    e = refused("conflict", a.call, "instance-start", id=two)
    contains(e.message, "18080")
    equal(a.state_of(two), "created")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 18081))
        taken.listen()
        refused("invalid", a.call, "instance-update", id=two, spec=spec_of(a, two), ports=[{"port": 80}])
        a.call("instance-update", id=two, spec=spec_of(a, two), ports=[{"host_port": 18081, "port": 80}])
        contains(refused("conflict", a.call, "instance-start", id=two).message, "18081")
        refused("conflict", a.call, "instance-update", id=one, spec=spec_of(a, one), ports=[{"host_port": 18081, "port": 80}])
        equal(answers(18080), "one")
    a.call("instance-start", id=two)
    wait_until(lambda: answers(18081) == "two", 30, "the second port")
    a.call("instance-update", id=two, spec=spec_of(a, two), ports=[{"host_port": 18082, "port": 80}])
    wait_until(lambda: answers(18082) == "two", 30, "the new port")
    equal(answers(18081), None)
    a.delete(one, two)
    equal((answers(18080), answers(18082)), (None, None))
    a.clean()
    a.drop(n)
    a.no_traces()


def spec_of(a, id):
    with open(a.state + f"/agent/instances/{id}/record.json") as f:
        return json.load(f)["instance"]["spec"]


# ---- rules ----

@apart
def rules(a):
    """groups, members and balancers are listed, outlive the agent, stop and let through; in use they are not removed"""
    n = a.plain(11)
    group = os.urandom(32).hex()
    body = {"id": group, "spec": {"name": "quiet", "rules": [{"direction": "ingress", "action": "deny", "protocol": "icmp"}]}}
    a.full("rules-set", body)
    one = a.sleeper(n, 11, 10)
    two = a.create(command=["/bin/sleep", "1000"], network="private", nics=[nic(n, 11, 11, rules=[group])])
    a.call("instance-start", id=two)
    assert not a.pings(one, "10.77.11.11"), "the rule does not hold"
    contains(refused("conflict", a.call, "rules-delete", id=group).message, two[:12])
    body["spec"]["rules"][0]["action"] = "allow"
    a.full("rules-set", body)
    assert a.pings(one, "10.77.11.11"), "the changed rule does not hold"
    body["spec"]["rules"][0].update(action="deny", source="label:role=evil")
    a.full("rules-set", body)
    assert a.pings(one, "10.77.11.11"), "it stops whom it does not mean"
    a.full("members-set", {"peer": "label:role=evil", "addresses": ["10.77.11.10"]})
    assert not a.pings(one, "10.77.11.11"), "members are not known"
    balancer = os.urandom(32).hex()
    a.full("balancer-set", {"id": balancer, "spec": {"name": "b", "target": "label:a=b", "host_port": 18090, "port": 80},
                            "backends": ["10.77.11.11"]})
    listed = a.call("firewall-list")
    equal((listed["groups"], listed["members"], listed["balancers"]), ([group], ["label:role=evil"], [balancer]))
    a.kill()
    sh("nft flush ruleset")
    a.start()
    equal(a.call("firewall-list"), listed)
    assert not a.pings(one, "10.77.11.11"), "rules are gone after the agent's restart"
    a.full("members-set", {"peer": "label:role=evil"})
    assert a.pings(one, "10.77.11.11"), "members are not forgotten"
    a.call("balancer-delete", id=balancer)
    a.call("balancer-delete", id=balancer)
    a.delete(one, two)
    a.call("rules-delete", id=group)
    a.call("rules-delete", id=group)
    equal(a.call("firewall-list"), {})
    a.drop(n)
    a.no_traces()


# ---- what others do ----

@apart
def flushed(a):
    """after somebody's flush the table is there again, also when it happens again and again"""
    n = a.plain(12)
    one = server(a, n, 12, 10, 80, "one", ports=[{"host_port": 18083, "port": 80}])
    a.call("instance-start", id=one)
    wait_until(lambda: answers(18083) == "one", 30, "the published port")
    sh("nft add table inet foreign")
    mine = sh("nft list ruleset")
    for _ in range(3):
        sh("nft flush ruleset")
        wait_until(lambda: len([t for t in tables() if a.tag in t]) == mine.count(f"table ") - 1, 60, "the table")
        wait_until(lambda: answers(18083) == "one", 30, "the published port after a flush")
    sh("nft flush ruleset")
    two = a.sleeper(n, 12, 11)  # in between
    assert a.pings(one, "10.77.12.11"), "no answer"
    a.delete(one, two)
    a.drop(n)
    a.no_traces()


@apart
def resolver_killed(a):
    """a resolver that is killed comes back and knows everybody; a restarted agent watches it as well"""
    n = a.plain(13)
    one, two = a.sleeper(n, 13, 10, name="one"), a.sleeper(n, 13, 11, name="two")
    for restart in (False, True):
        if restart:
            a.kill()
            a.start()
        was = a.resolvers()
        assert was, "there is no resolver"
        for pid in was:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: a.resolvers() and not set(a.resolvers()) & set(was), 60, "the new resolver")
        wait_until(lambda: a.pings(one, "two"), 30, "names after the resolver's death")
    a.delete(one, two)
    a.drop(n)
    a.no_traces()


@apart
def agent_restarts(a):
    """SIGTERM and SIGKILL of the agent leave instances on their networks; shutdown takes all away, the next start makes it again"""
    n = a.plain(14)
    one, two = a.sleeper(n, 14, 10, name="one"), a.sleeper(n, 14, 11, name="two")
    for way in (signal.SIGTERM, signal.SIGKILL):
        before = links()
        a.process.send_signal(way)
        a.process.wait()
        sh("busybox ping -c 1 -W 2 10.77.14.10")
        a.start()
        equal({k: v["ifindex"] for k, v in links().items()}, {k: v["ifindex"] for k, v in before.items()})
        assert a.pings(one, "two"), "no answer after a restart"
        refused("conflict", a.drop, n)
        refused("conflict", a.create, command=["/bin/true"], network="private", nics=[nic(n, 14, 10)])
    a.call("shutdown")
    a.process.wait(60)
    equal({k: v for k, v in a.traces().items() if v}, {})
    equal([l for l in links() if l != "lo"], [])
    a.start()
    wait_until(lambda: a.state_of_network(n)["state"] == "up", 30, "the network")
    for id in (one, two):
        a.call("instance-start", id=id)
    assert a.pings(one, "two"), "no answer after a shutdown"
    a.delete(one, two)
    a.drop(n)
    a.no_traces()


@apart
def reboot(a):
    """after a loss of everything but the disk, networks are there before instances come back by their policy"""
    n = a.plain(15)
    one = a.sleeper(n, 15, 10, name="one", restart={"policy": "always"})
    two = a.sleeper(n, 15, 11, name="two", restart={"policy": "always"})
    pids = [a.status(i)["pid"] for i in (one, two)]
    shims = [json.load(open(f"{a.run}/shim/{i}/state.json"))["shim"] for i in (one, two)]
    a.kill()
    for pid in shims + pids + a.resolvers():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    sh("nft flush ruleset")
    for name in links():
        if name != "lo":
            sh(f"ip link del {name}", check=False)
    shutil.rmtree(a.run)
    a.start()
    for i in (one, two):
        a.wait_state(i, "running")
    wait_until(lambda: a.pings(one, "two"), 30, "names after a reboot")
    a.delete(one, two)
    a.drop(n)
    a.no_traces()


@apart
def damaged(a):
    """a network whose record is damaged is seen as failed and can be removed, or made again; the rest goes on"""
    n, m = a.plain(16), a.plain(17)
    one, two = a.sleeper(n, 16, 10), a.sleeper(m, 17, 10)
    path = f"{a.state}/agent/networks/{n}/network.json"
    a.kill()
    whole = open(path).read()
    with open(path, "w") as f:
        f.write(whole[:40])
    a.start()
    equal(a.state_of_network(n)["state"], "failed")
    equal(a.state_of_network(m)["state"], "up")
    assert a.pings(two, "10.77.17.1"), "the other network has suffered"
    assert a.pings(one, "10.77.16.10"), "it does not run any more"
    a.call("instance-stop", id=one, signal="SIGKILL")
    contains(refused("corrupt", a.call, "instance-start", id=one).message, "network")
    a.network("plain16", id=n, subnets=[{"cidr": "10.77.16.0/24"}])
    a.call("instance-start", id=one)
    assert a.pings(one, "10.77.16.1"), "it was not mended"
    a.delete(one, two)
    a.kill()
    with open(path, "w") as f:
        f.write("{}")
    a.start()
    a.drop(n, m)
    a.no_traces()


@apart
def removed_bridge(a):
    """a bridge that somebody removes is made again by the next start that needs it"""
    n, made = a.network("plain18", subnets=[{"cidr": "10.77.18.0/24"}])
    two = a.sleeper(n, 18, 11)
    sh(f"ip link del {made['status']['interface']}")
    one = a.sleeper(n, 18, 10)
    assert a.pings(one, "10.77.18.1"), "no gateway"
    assert a.pings(two, "10.77.18.10"), "one that ran before is not on it any more"
    a.delete(one, two)
    a.drop(n)
    a.no_traces()


# ---- faults ----

ATTACH = ["start.marked", "net.attach.reserved", "net.attach.wired", "start.configured", "start.created", "net.attach.links",
          "net.attach.rules", "net.attach.names", "start.written", "start.started", "start.recorded", "start.reported",
          "start.exec"]
DETACH = ["reap.begin", "reap.killed", "net.detach.begin", "net.detach.names", "net.detach.links", "net.detach.rules",
          "net.detach.done", "reap.destroyed", "reap.recorded", "reap.removed"]
CHANGE = ["net.nic.saved", "net.sync.wired", "net.sync.removed", "net.sync.links", "net.sync.rules", "net.nic.reported"]
CREATE = ["net.create.settled", "net.create.saved", "net.create.up", "net.create.named", "net.create.rules", "net.create.reported"]
DELETE = ["net.delete.begin", "net.delete.named", "net.delete.rules", "net.delete.down", "net.delete.renamed"]


def crash(a, who, point, fn):
    """fn under a fault; afterwards an agent without one runs."""
    a.process.terminate()
    a.process.wait()
    a.start(fault=f"{who}:{point}")
    try:
        fn()
        answered = True
    except (Gone, Refused, OSError):
        answered = False
    if who != "worker":
        a.ended()
        a.start()
    else:
        a.process.terminate()
        a.process.wait()
        a.start()
    return answered


def on_host(a, id):
    return (os.path.exists(f"{a.run}/shim/{id}/network.json"), any(id in l.get("ifalias", "") for l in links().values()))


@apart
def attach_faults(a):
    """SIGKILL of worker, agent or both at each step of a start: the instance runs and is reached, or nothing of it is there"""
    n = a.plain(20)
    for who in ("worker", "both", "agent"):
        for point in ATTACH:
            one = a.sleeper(n, 20, 10, start=False, ports=[{"host_port": 18100, "port": 80}])
            crash(a, who, point, lambda: a.call("instance-start", id=one))
            wait_until(lambda: a.state_of(one) in ("created", "exited", "running"), 60, f"a settled state after {who}:{point}")
            if a.state_of(one) == "running":
                equal(on_host(a, one), (True, True), f"{who}:{point}")
                sh("busybox ping -c 1 -W 2 10.77.20.10")
            else:
                wait_until(lambda: on_host(a, one) == (False, False), 30, f"nothing after {who}:{point}")
                a.call("instance-start", id=one)
                sh("busybox ping -c 1 -W 2 10.77.20.10")
            a.delete(one)
            assert "10.77.20.10" not in sh("nft list ruleset"), f"{who}:{point}: rules are left"
            equal(on_host(a, one), (False, False), f"{who}:{point}")
    a.clean()
    a.drop(n)
    a.no_traces()


@apart
def detach_faults(a):
    """SIGKILL at each step of an end: all of it is away in the end, and it can start again"""
    n = a.plain(21)
    for who in ("worker", "both", "agent"):
        for point in DETACH:
            one = a.sleeper(n, 21, 10)
            crash(a, who, point, lambda: a.call("instance-stop", id=one, signal="SIGKILL"))
            a.wait_state(one, "exited")
            wait_until(lambda: on_host(a, one) == (False, False), 30, f"nothing after {who}:{point}")
            wait_until(lambda: "10.77.21.10" not in sh("nft list ruleset"), 30, f"no rules after {who}:{point}")
            a.call("instance-start", id=one)
            sh("busybox ping -c 1 -W 2 10.77.21.10")
            a.delete(one)
    a.clean()
    a.drop(n)
    a.no_traces()


@apart
def change_faults(a):
    """SIGKILL at each step of nic-set and nic-remove: the host follows the record"""
    n, m = a.plain(22), a.plain(23)
    one = a.sleeper(n, 22, 10)
    def nics():
        return [x["network_id"] for x in json.load(open(f"{a.state}/agent/instances/{one}/record.json"))["instance"].get("nics", [])]
    def in_line():
        wired = [x["network_id"] for x in json.load(open(f"{a.run}/shim/{one}/network.json")).get("nics", [])]
        linked = {l["ifalias"].split()[2] for l in links().values() if one in l.get("ifalias", "")}
        ruled = "10.77.23.10" in sh("nft list ruleset")
        return wired == nics() and linked == set(nics()) and ruled == (m in nics())
    for who in ("worker", "both", "agent"):
        for point in CHANGE:
            for verb in (lambda: a.call("nic-set", id=one, nic=nic(m, 23, 10, "eth1")),
                         lambda: a.call("nic-remove", id=one, network_id=m)):
                crash(a, who, point, verb)
                wait_until(in_line, 60, f"what the record says after {who}:{point}")
                try:
                    verb()
                except Refused:
                    raise AssertionError(f"refused after {who}:{point}") from None
                assert in_line(), f"{who}:{point}"
    a.delete(one)
    a.clean()
    a.drop(n, m)
    a.no_traces()


@apart
def network_faults(a):
    """SIGKILL at each step of making and removing a network: it is whole, or gone"""
    for who in ("worker", "both", "agent"):
        for point in CREATE:
            id = os.urandom(32).hex()
            crash(a, who, point, lambda: a.network("plain24", id=id, subnets=[{"cidr": "10.77.24.0/24"}]))
            state = a.state_of_network(id)
            if state:
                equal(state["state"], "up", f"{who}:{point}")
            a.network("plain24", id=id, subnets=[{"cidr": "10.77.24.0/24"}])
            one = a.sleeper(id, 24, 10)
            sh("busybox ping -c 1 -W 2 10.77.24.10")
            a.delete(one)
            a.drop(id)
            a.no_traces()
        for point in DELETE:
            id = a.plain(25)
            crash(a, who, point, lambda: a.drop(id))
            a.drop(id)
            a.no_traces()


@apart
def repair_faults(a):
    """SIGKILL at each step of changed rules, of a shutdown and of bringing all up: the next start has all in order"""
    n, m = a.plain(28), a.plain(29)
    one, two = a.sleeper(n, 28, 10), a.sleeper(m, 29, 10)
    group = os.urandom(32).hex()
    for who in ("worker", "both", "agent"):
        for point in ("rules.saved", "rules.applied"):
            body = {"id": group, "spec": {"name": "g", "rules": [{"protocol": "tcp", "ports": "80"}]}}
            crash(a, who, point, lambda: a.full("rules-set", body))
            a.full("rules-set", body)
            equal(a.call("firewall-list"), {"groups": [group]})
            crash(a, who, point, lambda: a.call("rules-delete", id=group))
            a.call("rules-delete", id=group)
            equal(a.call("firewall-list"), {})
            assert group not in sh("nft list ruleset"), f"{who}:{point}"
        for point in ("net.boot.begin", "net.boot.one", "net.boot.rules"):
            a.kill()
            for l in a.traces()["links"]:
                if l.startswith("wb"):
                    sh(f"ip link del {l}")
            sh("nft flush ruleset")
            try:
                a.start(fault=f"{who}:{point}")
            except AssertionError:
                assert who != "worker", f"no start after {who}:{point}\n{a.log()}"
            a.kill()
            a.start()
            wait_until(lambda: all((a.state_of_network(i) or {}).get("state") == "up" for i in (n, m)), 60, "the networks")
            sh("busybox ping -c 1 -W 2 10.77.28.10")
            sh("busybox ping -c 1 -W 2 10.77.29.10")
            assert any(a.tag in t for t in tables())
    a.delete(one, two)
    for point in ("net.down.one",):
        crash(a, "both", point, lambda: a.call("shutdown"))
        wait_until(lambda: all((a.state_of_network(i) or {}).get("state") == "up" for i in (n, m)), 60, "the networks")
    a.clean()
    a.drop(n, m)
    a.no_traces()


@apart
def leftovers(a):
    """what a crash has left under our tag goes at the next start; what is others' stays, byte for byte"""
    n = a.plain(26)
    one = a.sleeper(n, 26, 10)
    sh("ip link add wtforeign type bridge && ip link set wtforeign alias 'wabe deadbeef 0123' && nft add table inet wtforeign && "
       "nft add chain inet wtforeign c '{ type filter hook input priority 0; }' && nft add rule inet wtforeign c counter accept")
    foreign = sh("ip -d link show wtforeign"), sh("nft list table inet wtforeign")
    a.kill()
    for i in range(3):
        sh(f"ip link add wvleft{i} type veth peer name wvpeer{i} && ip link set wvleft{i} alias 'wabe {a.tag} {n} {os.urandom(32).hex()}'")
    sh(f"ip link add wbleft type bridge && ip link set wbleft alias 'wabe {a.tag} {os.urandom(32).hex()}'")
    gone = os.urandom(32).hex()
    hosts = f"{a.run}/networks/{n}/hosts"
    if os.path.isdir(hosts):
        shutil.copy(glob.glob(hosts + "/*")[0], f"{hosts}/{gone}")
    a.start()
    wait_until(lambda: not [l for l in links() if "left" in l], 30, "the removal of what is left")
    wait_until(lambda: not os.path.exists(f"{hosts}/{gone}"), 30, "the removal of a host's file")
    equal((sh("ip -d link show wtforeign"), re.sub("packets [0-9]+ bytes [0-9]+", "", sh("nft list table inet wtforeign"))),
          (foreign[0], re.sub("packets [0-9]+ bytes [0-9]+", "", foreign[1])))
    assert sh("busybox ping -c 1 -W 2 10.77.26.10")
    a.delete(one)
    a.drop(n)
    sh("ip link del wtforeign; nft delete table inet wtforeign")
    a.no_traces()


run(setup, lambda a: a.close())
