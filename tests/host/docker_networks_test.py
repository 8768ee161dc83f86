#!/usr/bin/env python3
"""Networks as docker's clients see them: routes, modes, endpoints, ports, names."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon  # noqa: E402
from tap import contains, equal, run, test  # noqa: E402

d = k = None


def refused(status, part, method, path, body=None):
    got, answer = k.api(method, path, body)
    equal(got, status, f"{method} {path}: {answer}")
    contains(answer["message"], part, path)


def sleeper(name, *args):
    k.out("run", "-d", "--name", name, "--stop-timeout", "0", *args, "busybox", "sleep", "1000")


def gone(*names):
    k.run("rm", "-f", *names)


@test
def predefined(_):
    """bridge, host and none are there, with ids that stay, and cannot be made or removed"""
    first = {n["Name"]: n["Id"] for n in k.api("GET", "/networks")[1]}
    equal({"bridge", "host", "none"} <= set(first), True, str(first))
    equal({n["Name"]: n["Id"] for n in k.api("GET", "/v1.24/networks")[1]}, first)
    for name in "bridge", "host", "none":
        refused(403, "pre-defined", "DELETE", "/networks/" + name)
        refused(403, "operation is not permitted on predefined", "POST", "/networks/create", {"Name": name})
    equal([n["Name"] for n in k.api("GET", '/networks?filters={"type":["custom"]}')[1]], [])
    refused(400, "invalid filter", "GET", '/networks?filters={"nonsense":["1"]}')


@test
def made_and_found(_):
    """what was given is shown; names, ids, beginnings of ids; conflicts"""
    status, made = k.api("POST", "/networks/create", {
        "Name": "my_net", "Labels": {"a": "b"}, "Options": {"com.docker.network.driver.mtu": "1400", "other": "kept"}, "Attachable": True,
        "IPAM": {"Config": [{"Subnet": "172.30.0.0/16", "IPRange": "172.30.5.0/24", "AuxiliaryAddresses": {"x": "172.30.5.1"}}]}})
    equal(status, 201, str(made))
    n = k.api("GET", "/networks/" + made["Id"][:5])[1]
    equal((n["Name"], n["Labels"], n["Attachable"], n["Options"]["other"]), ("my_net", {"a": "b"}, True, "kept"))
    equal(n["IPAM"]["Config"], [{"Subnet": "172.30.0.0/16", "IPRange": "172.30.5.0/24", "Gateway": "172.30.0.1",
                                 "AuxiliaryAddresses": {"x": "172.30.5.1"}}])
    refused(409, "network with name my_net already exists", "POST", "/networks/create", {"Name": "my_net"})
    refused(403, "Pool overlaps with other one on this address space", "POST", "/networks/create",
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "172.30.9.0/24"}]}})
    refused(400, "invalid name", "POST", "/networks/create", {"Name": ""})
    refused(404, "not found", "POST", "/networks/create", {"Name": "x", "Driver": "nonsense"})
    k.run("network", "create", "--subnet", "172.29.78.0/24", "net_172.29.78.0/24")
    sleeper("slash", "--network", "net_172.29.78.0/24")
    equal(k.inspect("slash")["NetworkSettings"]["Networks"]["net_172.29.78.0/24"]["IPAddress"], "172.29.78.2")
    k.run("network", "disconnect", "net_172.29.78.0/24", "slash")
    k.run("network", "connect", "--ip", "172.29.78.8", "net_172.29.78.0/24", "slash")
    k.run("stop", "slash")
    for _ in range(2):  # dockerd takes it as what the next start is to have
        k.run("network", "connect", "--ip", "172.29.78.9", "net_172.29.78.0/24", "slash")
    k.run("start", "slash")
    equal(k.inspect("net_172.29.78.0/24")["Containers"][k.inspect("slash")["Id"]]["IPv4Address"], "172.29.78.9/24")
    gone("slash")
    k.run("network", "rm", "net_172.29.78.0/24")
    for name in "/x", "a b", "a//\n":
        refused(400, "name", "POST", "/networks/create", {"Name": name})
    refused(503, "swarm", "POST", "/networks/create", {"Name": "x", "Driver": "overlay"})
    refused(404, "network nope not found", "GET", "/networks/nope")
    equal([x["Name"] for x in k.api("GET", '/networks?filters={"label":{"a=b":true}}')[1]], ["my_net"])
    equal(k.api("POST", "/networks/prune")[1], {"NetworksDeleted": ["my_net"]})
    equal(k.api("POST", "/networks/prune")[1], {"NetworksDeleted": None})


@test
def ids_go_before_names(_):
    """a network that is called as another one's id is not taken for that"""
    one = k.api("POST", "/networks/create", {"Name": "told"})[1]["Id"]
    made = [k.api("POST", "/networks/create", {"Name": name})[1]["Id"] for name in (one[:12], one)]
    equal(k.api("DELETE", "/networks/" + one[:12])[0], 204)
    equal(k.api("DELETE", "/networks/" + one)[0], 204)
    left = [n["Id"] for n in k.api("GET", "/networks")[1]]
    equal([i in left for i in (one, *made)], [False, False, True])
    equal(k.api("DELETE", "/networks/" + made[1])[0], 204)


@test
def endpoints(_):
    """addresses, names, aliases and links on a network; connecting and leaving"""
    k.run("network", "create", "--subnet", "172.31.0.0/24", "a_net")
    sleeper("one", "--network", "a_net", "--ip", "172.31.0.77", "--network-alias", "al_ias", "--mac-address", "02:42:ac:1f:00:4d")
    sleeper("two", "--network", "a_net", "--link", "one:linked", "--add-host", "far:1.2.3.4", "--add-host", "h:host-gateway")
    n = k.inspect("one")["NetworkSettings"]["Networks"]["a_net"]
    equal((n["IPAddress"], n["IPPrefixLen"], n["Gateway"], n["MacAddress"]), ("172.31.0.77", 24, "172.31.0.1", "02:42:ac:1f:00:4d"))
    one = k.inspect("one")["Id"]
    equal((n["Aliases"], n["DNSNames"]), (["al_ias"], ["one", "al_ias", one[:12]]))
    equal(k.api("GET", "/v1.44/containers/one/json")[1]["NetworkSettings"]["Networks"]["a_net"]["Aliases"], ["al_ias", one[:12]])
    inside = k.api("GET", "/networks/a_net")[1]["Containers"][one]
    equal((inside["IPv4Address"], inside["EndpointID"]), ("172.31.0.77/24", n["EndpointID"]))
    for name in "one", "al_ias", "linked", one[:12]:
        contains(k.out("exec", "two", "ping", "-c1", "-W5", name), "172.31.0.77")
    hosts = k.out("exec", "two", "cat", "/etc/hosts")
    contains(hosts, "1.2.3.4\tfar")
    contains(hosts, "172.31.0.1\th")
    refused(403, "already exists in network", "POST", "/networks/a_net/connect", {"Container": "one"})
    refused(403, "has active endpoints", "DELETE", "/networks/a_net")
    k.run("network", "disconnect", "a_net", "two")
    equal(list(k.inspect("two")["NetworkSettings"]["Networks"]), [])
    k.run("network", "connect", "--ip", "172.31.0.78", "--alias", "zwei", "a_net", "two")
    contains(k.out("exec", "one", "ping", "-c1", "-W5", "zwei"), "172.31.0.78")
    refused(404, "No such container", "POST", "/networks/a_net/connect", {"Container": "nobody"})
    gone("one", "two")
    k.run("network", "rm", "a_net")


@test
def links_that_go(_):
    """rm --link takes the name away from a container that does not run, and neither of the two"""
    sleeper("target")
    sleeper("linker", "--link", "target:called", "--link", "target")
    equal(sorted(k.inspect("linker")["HostConfig"]["Links"]), ["/target:/linker/called", "/target:/linker/target"])
    refused(404, "No such container: linker/nobody", "DELETE", "/containers/linker/nobody?link=1")
    refused(404, "No such container: linker/called", "DELETE", "/containers/linker/called")
    refused(409, "links: cannot be changed while the instance runs", "DELETE", "/containers/linker/called?link=1")
    k.run("stop", "linker")
    k.run("rm", "--link", "linker/called")
    equal(k.inspect("linker")["HostConfig"]["Links"], ["/target:/linker/target"])
    k.run("rm", "--link", "/linker/target")
    equal(k.inspect("linker")["HostConfig"]["Links"], None)
    k.run("start", "linker")
    equal(k.run("exec", "linker", "grep", "target", "/etc/hosts", check=False).returncode, 1)
    equal([k.inspect(name)["State"]["Running"] for name in ("target", "linker")], [True, True])
    gone("target", "linker")


@test
def between_networks(_):
    """a container that is not started may leave its only network though it publishes ports, and come back to it, as compose has it do"""
    k.run("network", "create", "b_net")
    k.run("create", "--name", "moves", "--network", "b_net", "-p", "127.0.0.1:18901:80", "--stop-timeout", "0", "busybox", "sleep", "1000")
    k.run("network", "disconnect", "b_net", "moves")
    k.run("network", "connect", "--alias", "other", "b_net", "moves")
    k.run("start", "moves")
    contains(k.out("port", "moves"), "127.0.0.1:18901")
    equal(k.inspect("moves")["NetworkSettings"]["Networks"]["b_net"]["Aliases"], ["other"])
    gone("moves")
    k.run("network", "rm", "b_net")


@test
def gateways(_):
    """the network with the highest GwPriority has the default route; nobody takes it from a container that runs"""
    for name in "g_one", "g_two":
        k.run("network", "create", name)
    gateway = {n: k.api("GET", "/networks/" + n)[1]["IPAM"]["Config"][0]["Gateway"] for n in ("g_one", "g_two")}
    route = ("exec", "way", "ip", "route", "show", "default")
    sleeper("way", "--network", "name=g_one,gw-priority=1", "--network", "name=g_two,gw-priority=5")
    contains(k.out(*route), gateway["g_two"])
    equal(k.inspect("way")["NetworkSettings"]["Networks"]["g_two"]["GwPriority"], 5)
    k.run("network", "disconnect", "g_one", "way")
    refused(501, "GwPriority", "POST", "/networks/g_one/connect", {"Container": "way", "EndpointConfig": {"GwPriority": 9}})
    gone("way")
    sleeper("way", "--network", "g_one", "--network", "g_two")
    contains(k.out(*route), gateway["g_one"])
    gone("way")
    k.run("network", "rm", "g_one", "g_two")
    refused(501, "EnableIPv4", "POST", "/networks/create", {"Name": "six", "EnableIPv4": False})


@test
def interfaces(_):
    """the names of a network's bridge, and of interfaces on it, can be chosen"""
    bridge = "br-chosen"  # in the daemon's own name space
    k.run("network", "create", "-o", "com.docker.network.bridge.name=" + bridge, "-o", "com.docker.network.container_iface_prefix=net",
          "-o", "com.docker.network.bridge.gateway_mode_ipv4=nat", "i_net")
    equal(k.api("GET", "/networks/i_net")[1]["Options"]["com.docker.network.bridge.name"], bridge)
    contains(d.space.run("ip", "-d", "link", "show", bridge).stdout, "bridge")
    sleeper("first", "--network", "i_net")
    sleeper("second", "--network", "name=i_net,driver-opt=com.docker.network.endpoint.ifname=up5")
    equal(len(d.space.run("ip", "-o", "link", "show", "master", bridge).stdout.splitlines()), 2)
    equal(k.inspect("second")["NetworkSettings"]["Networks"]["i_net"]["DriverOpts"], {"com.docker.network.endpoint.ifname": "up5"})
    contains(k.out("exec", "first", "ip", "addr", "show", "net0"), "inet ")
    contains(k.out("exec", "second", "ip", "addr", "show", "up5"), "inet ")
    contains(k.out("exec", "second", "ping", "-c1", "-W5", "first"), "1 packets received")
    refused(409, bridge, "POST", "/networks/create", {"Name": "j_net", "Options": {"com.docker.network.bridge.name": bridge}})
    refused(400, "interface", "POST", "/networks/create", {"Name": "j_net", "Options": {"com.docker.network.bridge.name": "no/name"}})
    refused(501, "gateway_mode_ipv4", "POST", "/networks/create",
            {"Name": "j_net", "Options": {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}})
    refused(501, "endpoint.nosuch", "POST", "/networks/bridge/connect",
            {"Container": "first", "EndpointConfig": {"DriverOpts": {"com.docker.network.endpoint.nosuch": "x"}}})
    gone("first", "second")
    k.run("network", "rm", "i_net")
    equal(d.space.run("ip", "link", "show", bridge, check=False).returncode, 1)


@test
def parameters_of_interfaces(_):
    """endpoint.sysctls are of the one interface, at the start and when a running container is connected"""
    option = "com.docker.network.endpoint.sysctls"
    sysctls = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.gc_stale_time=77"
    k.run("network", "create", "s_net")
    sleeper("first", "--network", f'"name=s_net","driver-opt={option}={sysctls.split(",")[0]}"')
    equal(k.out("exec", "first", "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians"), "1")
    equal(k.inspect("first")["NetworkSettings"]["Networks"]["s_net"]["DriverOpts"], {option: sysctls.split(",")[0]})
    k.run("restart", "first")
    equal(k.out("exec", "first", "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians"), "1")
    connect = lambda text: ("POST", "/networks/bridge/connect", {"Container": "first", "EndpointConfig": {"DriverOpts": {option: text}}})
    for bad in "x", "net.ipv4.conf.eth0.log_martians=1", "net.core.IFNAME.x=1", "net.ipv4.conf.IFNAME.a/b=1", "net.ipv4.conf.IFNAME.a.b=1":
        refused(400, "unrecognised network interface sysctl", *connect(bad))
    refused(400, "name=value", *connect("net.ipv4.conf.IFNAME.log_martians"))
    got, answer = k.api(*connect("net.ipv4.conf.IFNAME.nosuch=1"))
    assert got >= 400 and "net.ipv4.conf.IFNAME.nosuch" in answer["message"], answer
    equal(list(k.inspect("first")["NetworkSettings"]["Networks"]), ["s_net"])
    k.run("exec", "first", "sh", "-c", "! ls /proc/sys/net/ipv4/conf/eth1")
    equal(k.api(*connect(sysctls))[0], 200)
    equal(k.out("exec", "first", "sh", "-c", "cd /proc/sys/net/ipv4; cat conf/eth1/log_martians neigh/eth1/gc_stale_time"), "1\n77")
    gone("first")
    k.run("network", "rm", "s_net")


@test
def modes(_):
    """host, none and another one's"""
    sleeper("base", "--network", "none")
    equal(list(k.inspect("base")["NetworkSettings"]["Networks"]), ["none"])
    equal(k.out("run", "--rm", "--network", "container:base", "busybox", "hostname") == "", False)
    equal(list(k.api("GET", "/networks/none")[1]["Containers"]), [k.inspect("base")["Id"]])
    r = k.run("create", "--network", "container:base", "-p", "80", "busybox", "true", check=False)
    contains(r.stderr, "port publishing and the container type network mode")
    r = k.run("create", "--network", "nowhere", "busybox", "true", check=False)
    contains(r.stderr, "network nowhere not found")
    refused(403, "private (none) mode", "POST", "/networks/bridge/connect", {"Container": "base"})
    gone("base")


@test
def published(_):
    """ports: shown in all places; two may want the same, of which one runs with it; a successor has a static address, too"""
    k.run("network", "create", "--subnet", "172.29.0.0/24", "p_net")
    args = ("--network", "p_net", "--ip", "172.29.0.9", "-p", "18080:80", "-p", "127.0.0.1:19000-19002:90-92/udp", "--expose", "77")
    sleeper("p1", *args)
    settings = k.inspect("p1")["NetworkSettings"]["Ports"]
    equal(settings["80/tcp"], [{"HostIp": "0.0.0.0", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}])
    equal(settings["92/udp"], [{"HostIp": "127.0.0.1", "HostPort": "19002"}])
    equal(settings["77/tcp"], None)
    contains(k.out("port", "p1"), "80/tcp -> 0.0.0.0:18080")
    r = k.run("run", "-d", "--name", "p2", "--network", "p_net", "-p", "18080:80", "busybox", "sleep", "1000", check=False)
    equal(r.returncode, 125, r.stderr)
    contains(r.stderr, "18080")
    k.run("stop", "-t", "0", "p1")
    k.run("rename", "p1", "old")
    sleeper("p1", *args)
    equal(k.inspect("p1")["NetworkSettings"]["Networks"]["p_net"]["IPAddress"], "172.29.0.9")
    gone("p1", "p2", "old")
    k.run("network", "rm", "p_net")


def setup():
    global d, k
    d = docker_daemon("docker-net", network=None)
    k = d.docker
    return d


if __name__ == "__main__":
    run(setup, lambda _: d.close())
