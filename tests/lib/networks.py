"""An agent with networks, in a network name space of the test's own, so that the host's interfaces, rules and resolvers are
never touched."""
import ctypes
import glob
import hashlib
import json
import os
import signal
import subprocess

from agent import Agent, Gone, Refused
from wabe import wait_until
from tap import equal

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x20000


def sh(command, check=True):
    r = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not check or r.returncode == 0, f"{command}: {r.stdout}"
    return r.stdout


def links():
    return {l["ifname"]: l for l in json.loads(sh("ip -d -j link show"))}


def tables():
    return sorted(sh("nft list tables").split("\n"))[1:]


class Networks(Agent):
    """An agent with networks, and a look for what they leave behind."""

    def __init__(self):
        super().__init__("netagent")
        self.count = 0

    @property
    def tag(self):
        return hashlib.sha256(os.path.realpath(self.state).encode()).hexdigest()[:8]

    def network(self, name=None, id=None, **spec):
        """A network; (id, reply)."""
        self.count += 1
        id = id or os.urandom(32).hex()
        spec["name"] = name or f"net{self.count}"
        return id, self.full("network-create", {"id": id, "spec": spec})[0]

    def plain(self, n, **spec):
        """A network 10.77.N.0/24; its id."""
        return self.network(f"plain{n}", subnets=[{"cidr": f"10.77.{n}.0/24"}], **spec)[0]

    def state_of_network(self, id):
        for n in self.call("network-list").get("networks", []):
            if n["id"] == id:
                return n["status"]
        return None

    def drop(self, *ids):
        for id in ids:
            self.call("network-delete", id=id)

    def traces(self):
        """What there is on the host's network."""
        return {
            "links": sorted(n for n, l in links().items() if self.tag in l.get("ifalias", "")),
            "tables": [t for t in tables() if self.tag in t],
            "resolvers": [p for p in self.resolvers()],
            "wirings": glob.glob(self.run + "/shim/*/network.json"),
        }

    def resolvers(self):
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as f:
                    line = f.read()
            except OSError:
                continue
            if line.startswith(b"dnsmasq") or b"/dnsmasq" in line.split(b"\0")[0]:
                if self.run.encode() in line:
                    found.append(int(path.split("/")[2]))
        return found

    def processes(self):
        return [p for p in super().processes() if p not in self.resolvers()]

    def no_traces(self):
        def nothing():
            return not any(self.traces().values())
        try:
            wait_until(nothing, 40, "no traces")
        except AssertionError:
            raise AssertionError(f"left on the network: {self.traces()}\n{self.log()}") from None
        equal(sorted(os.listdir(self.run + "/networks")), [])
        equal(sorted(os.listdir(self.state + "/agent/networks")), [])

    def restore(self):
        super().restore()
        for n in self.call("network-list").get("networks", []):
            try:
                self.drop(n["id"])
            except (Refused, Gone):
                pass

    def close(self):
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            for i in self.call("instance-list").get("instances", []):
                try:
                    self.delete(i["id"])
                except (Refused, Gone):
                    pass
            self.call("shutdown")
            self.process.wait(60)
        finally:
            for pid in self.resolvers():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            super().close()

    def sleeper(self, network, n, address, start=True, **spec):
        """An instance that runs, at 10.77.N.ADDRESS."""
        spec.setdefault("network", "private")
        nics = [nic(network, n, address)] + spec.pop("more", [])
        id = self.create(command=["/bin/sleep", "100000"], nics=nics, **spec)
        if start:
            self.call("instance-start", id=id)
        return id

    def inside(self, id, command):
        out, err, code = self.exec_output(id, "/bin/sh", "-c", command)
        return out.decode() + err.decode(), code

    def pings(self, id, whom):
        return self.inside(id, f"ping -c 1 -W 2 {whom}")[1] == 0


def nic(network, n, address, interface="eth0", **more):
    return dict({"network_id": network, "network": f"plain{n}", "interface": interface,
                 "mac": f"02:00:0a:4d:{n:02x}:{address:02x}", "ipv4": f"10.77.{n}.{address}"}, **more)


def private():
    """This process, and what it starts, in a network name space of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    # /sys shows the interfaces of the name space that it was mounted in; the control groups beneath stay as they are
    sh("mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mkdir /mnt/cgroup && mount --rbind /sys/fs/cgroup /mnt/cgroup && "
       "mount -t sysfs sysfs /sys && mount --rbind /mnt/cgroup /sys/fs/cgroup && umount -l /mnt/cgroup && umount /mnt && "
       "ip link set lo up")


def start():
    """A running agent with an image."""
    a = Networks()
    try:
        a.start()
        a.busybox()
    except BaseException:
        a.close()
        raise
    return a
