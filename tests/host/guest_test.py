#!/usr/bin/env python3
"""wabe-init in a real machine, under QEMU's translator: what a container image's process finds there, and what the host is told."""
import os
import shutil
import socket
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from guest import Guest, kernel_image  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402


class Place:
    def __init__(self):
        need("qemu-system-x86_64", shutil.which("qemu-system-x86_64") and os.path.exists("/usr/lib/qemu/virtiofsd"))
        self.dir = tempfile.mkdtemp(prefix="wabe-guest-kernel-")
        self.image = kernel_image(self.dir)
        self.guests = []

    def guest(self, script, **options):
        args = script if isinstance(script, list) else ["/bin/sh", "-c", script]
        g = Guest(self.image, args, **options)
        self.guests.append(g)
        return g

    def clean(self):
        while self.guests:
            self.guests.pop().close()

    def close(self):
        self.clean()
        shutil.rmtree(self.dir)


@test
def as_a_container(place):
    """The process has its user, environment, directory, limits and mounts; its output and status alone reach the host"""
    g = place.guest("echo one; echo two >&2; id -u; id -G; env | sort; pwd; hostname; ulimit -n; echo $$; cat /proc/1/comm; df -m /scratch | tail -1;"
                    "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start; ls -l /proc/self/fd/0; test -t 1 || echo no terminal; echo kept >/work/file; exit 42",
                    env=["PATH=/bin", "A=b  c"], user="bob", workdir="/work", hostname="web", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}],
                    sysctls={"kernel.msgmax": "9999", "net.ipv4.ip_unprivileged_port_start": "81"}, mounts=[{"type": "tmpfs", "target": "/scratch", "data": "size=3m"}])
    os.chown(g.dir + "/share/root/work", 1000, 1000)
    text, status = g.end()
    equal(status, 42)
    lines = text.split("\n")
    equal(lines[:4], ["one", "two", "1000", "1000 44"])
    contains(lines, "A=b  c")
    for line in "/work", "web", "77", "1", "sh", "9999", "81", "no terminal":
        contains(lines, line)
    contains(text, "/dev/null")
    contains(text, "3         0         3   0% /scratch")
    equal(lines[-1], "", "nothing of the kernel's comes after it")
    with open(g.dir + "/share/root/work/file") as f:
        equal(f.read(), "kept\n")
    equal(os.stat(g.dir + "/share/root/work/file").st_uid, 1000)


@test
def agent(place):
    """The agent runs commands, tells of interfaces and time, and ends the process by its stop signal"""
    g = place.guest("trap 'echo told; exit 5' USR1; echo up; while :; do sleep 0.1; done", stop_signal="SIGUSR1", user="bob", workdir="/work")
    g.until("up\n")
    g.connect()
    equal(g.call("guest-ping"), {"return": {}})
    names = [c["name"] for c in g.call("guest-info")["return"]["supported_commands"]]
    contains(names, "guest-exec")
    equal(g.exec("/bin/sh", "-c", "echo out; echo err >&2; id -u; pwd; exit 3"), (3, "out\n0\n/\n", "err\n"))
    equal(g.exec("/bin/cat", input_data="aGVsbG8=")[1], "hello")
    equal(g.exec("/bin/sh", "-c", "kill -9 $$")[0], "signal 9")
    equal(g.exec("/bin/sh", "-c", "cat /proc/1/comm")[1], "sh\n", "the same process name space")
    equal(len(g.exec("/bin/seq", "1", "200000")[1]), 1288895)
    many = [g.call("guest-exec", path="/bin/true")["return"]["pid"] for _ in range(20)]
    equal(len(set(many)), 20)
    error = g.call("guest-exec", path="/bin/none")["error"]
    contains(error["desc"], "/bin/none")
    contains(g.call("guest-exec-status", pid=1)["error"]["desc"], "no process 1")
    equal(g.call("no-such-command")["error"]["class"], "CommandNotFound")
    g.agent.sendall(b'{"execute": {}} {"execute": "guest-ping", "id": "}"}\n')
    contains(g.file.readline().decode(), "error")
    contains(g.file.readline().decode(), '"id":"}"')
    equal(g.call("guest-fsfreeze-freeze"), {"return": 0})
    equal(g.call("guest-fsfreeze-status"), {"return": "thawed"})
    equal(g.call("guest-set-time", time=1500000000 * 10**9), {"return": {}})
    equal(g.exec("/bin/date", "+%Y")[1], "2017\n")
    equal(g.call("guest-set-time"), {"return": {}})
    equal(g.exec("/bin/date", "+%Y")[1], time.strftime("%Y\n", time.gmtime()))
    equal([i["name"] for i in g.call("guest-network-get-interfaces")["return"]], ["lo"])
    g.send("guest-shutdown")
    text, status = g.end()
    contains(text, "told\n")
    equal(status, 5)


@test
def ports(place):
    """A port is a process: what it says is checked, it ends with the host's hanging up, and serves one"""
    path = place.dir + "/ports"
    devices = []
    for n in 0, 1, 2:
        devices += ["-chardev", f"socket,id=p{n},path={path}{n},server=on,wait=off", "-device", f"virtserialport,chardev=p{n},name=io.wabe.exec.{n}"]
    g = place.guest("echo up; sleep 1000", arguments=devices, user="bob", workdir="/work")

    def frame(s, type, data=b""):
        s.sendall(bytes([type, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)

    def opened(n):
        s = socket.socket(socket.AF_UNIX)
        s.connect(f"{path}{n}")
        return s, s.makefile("rb")

    def read(f):
        h = f.read(8)
        return h[0], f.read(int.from_bytes(h[4:], "big"))
    g.until("up\n")
    s, f = opened(0)
    equal(read(f), (34, b""))
    frame(s, 32, b'{"command": ["sh", "-c", "id -u; pwd; echo $X; cat; exit 4"], "env": ["X=y"], "stdin_open": true}')
    equal(read(f), (4, b""))
    frame(s, 0, b"input")
    frame(s, 0)
    out = b""
    while (got := read(f))[0] == 1:
        out += got[1]
    equal((out, got), (b"1000\n/work\ny\ninput", (3, b"\0\0\0\4")))
    s, f = opened(1)
    equal(read(f), (34, b""))
    frame(s, 0, b"not this")
    equal(read(f)[0], 33)
    s, f = opened(2)
    equal(read(f), (34, b""))
    frame(s, 32, b'{"command": ["sleep", "1002"]}')
    equal(read(f), (4, b""))
    g.connect()
    contains(g.exec("/bin/ps")[1], "sleep 1002")
    f.close()
    s.close()
    while "sleep 1002" in g.exec("/bin/ps")[1]:
        time.sleep(0.1)


@test
def a_host_that_comes_and_goes(place):
    """The agent serves one host after another, also one that left in the middle of a request"""
    g = place.guest("echo up; sleep 1000")
    g.until("up\n")
    for _ in range(3):
        g.connect()
        g.agent.sendall(b'{"execute": "guest-exec", "arguments": {"path": "')
        g.agent.close()
        g.file.close()
    g.connect()
    equal(g.call("guest-ping"), {"return": {}})


@test
def power_button(place):
    """The power button is the stop signal, and a process that dies of it has its status"""
    g = place.guest(["/bin/busybox", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"])
    g.until("up\n")
    g.connect()  # by now the button is watched
    g.press_power()
    equal(g.end()[1], 9)


@test
def terminal(place):
    """With a terminal the process has one, what is typed reaches it, and so do changes of its size"""
    g = place.guest("test -t 0 && test -t 1 && echo yes; read line; echo \"got $line\"; trap 'stty size' WINCH; echo set; while :; do sleep 0.1; done", tty=True)
    g.until("yes\r\n")
    g.type(b"words\n")
    g.until("got words\r\n")
    g.until("set\r\n")
    g.type(bytes([0, 44, 0, 88]), 16)
    g.until("44 88\r\n")
    g.type(b"\x03")
    equal(g.end()[1], 130)


@test
def input_and_its_end(place):
    """What is sent arrives whole, then its end"""
    g = place.guest("echo up; wc -c; exit 4", stdin_open=True)
    g.until("up\n")
    for _ in range(10):
        g.type(b"x" * 50000)
    g.type(b"")
    text, status = g.end()
    contains(text, "500000\n")
    equal(status, 4)


@test
def network_and_disk(place):
    """Interfaces have their names, addresses and routes; a block volume has its node"""
    disk = place.dir + "/disk"
    with open(disk, "wb") as f:
        f.write(b"content of the volume\n")
        f.truncate(1 << 20)
    devices = []
    for n in 0, 1:
        devices += ["-netdev", f"hubport,id=n{n},hubid={n}", "-device", f"virtio-net-pci,netdev=n{n},mac=02:00:00:00:00:0{n + 5},romfile="]
    devices += ["-drive", f"if=none,id=d,file={disk},format=raw", "-device", "virtio-blk-pci,drive=d,serial=data"]
    g = place.guest("ip -o addr; ip route; ip -6 route; head -n 1 /dev/data; ip link; echo done; sleep 1000", arguments=devices,
                    nics=[{"interface": "net7", "mac": "02:00:00:00:00:06", "addresses": ["10.84.0.5/20", "fd00:1::5/64", "10.84.0.6/20"],
                           "gateways": ["10.84.0.1", "fd00:1::1"], "mtu": 1400},
                          {"interface": "eth1", "mac": "02:00:00:00:00:05"}],
                    disks=[{"serial": "data", "target": "/dev/data"}])
    g.until("done\n")
    text = g.said.decode()
    for part in "10.84.0.5/20", "10.84.0.6/20", "fd00:1::5/64", "default via 10.84.0.1 dev net7", "default via fd00:1::1 dev net7", "mtu 1400", "eth1", "content of the volume":
        contains(text, part)
    g.connect()
    found = {i["name"]: i for i in g.call("guest-network-get-interfaces")["return"]}
    equal(found["net7"]["hardware-address"], "02:00:00:00:00:06")
    contains(found["net7"]["ip-addresses"], {"ip-address": "10.84.0.5", "ip-address-type": "ipv4", "prefix": 20})
    contains(found["net7"]["ip-addresses"], {"ip-address": "fd00:1::5", "ip-address-type": "ipv6", "prefix": 64})


@test
def failures(place):
    """What cannot be run says why, with the status that a container's start would have"""
    for args, config, status, words in (
            (["/bin/none"], {}, 127, "/bin/none"),
            (["/etc/passwd"], {}, 126, "passwd"),
            (["/bin/sh"], {"version": 99}, 125, "wabe image bootstrap --kernel"),
            (["/bin/sh"], {"user": "nobody-of-that-name"}, 125, "nobody-of-that-name"),
            (["/bin/sh"], {"disks": [{"serial": "none", "target": "/dev/x"}]}, 125, "/dev/x")):
        text, got = place.guest(args, **config).end()
        contains(text, words)
        equal(got, status, text)
        place.clean()


if __name__ == "__main__":
    run(Place, Place.close, Place.clean)
