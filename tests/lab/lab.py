"""Lab machines: Debian's own cloud kernel with pure cgroup v2 under QEMU's translator, restored from a snapshot.

A machine is booted once for each kind and kept as a snapshot below WABE_LAB (default /var/cache/wabe-lab), keyed by
what it is made of. Later ones start from it in a second or two. Kinds:

    plain    a shell is the first process, cgroup v2 is mounted, nothing else runs
    systemd  a small Debian with systemd as the first process; commands run in a scope with Delegate=yes

The tree of this host is seen read-only below a tmpfs (virtiofs), with an empty ext4 on /var/tmp and /tmp; a file that
shall reach the machine must not lie there. Several machines of one Lab have a private network with each other: eth0, 10.99.0.1,
10.99.0.2 and so on, names lab1, lab2 …

What serves them may run on this host, at its own speed instead of a translated processor's: a command in the network's name
space, where it has 10.99.0.254, and in a process name space with which it ends.

    with Lab() as lab:
        status = lab.machines[0].run("uname -r", print)
"""
import base64
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

CACHE = os.environ.get("WABE_LAB", "/var/cache/wabe-lab")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY = 3072  # MiB
DISK = 8 << 30
OWN = ("/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys")  # where a machine sees nothing of its host
SHM = "/dev/shm"  # the memory of machines: a file on a disk would be written back all the time
MODULES = "virtio_pci virtio_console virtiofs virtio_blk virtio_net overlay ext4".split()
SYSTEMD_PACKAGES = "systemd,systemd-sysv,dbus,kmod,udev"
BOOT_SECONDS, RESTORE_SECONDS = 240, 60


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=dict(os.environ, PATH=PATH), **kw).stdout


def die_with_parent():
    """For what this process starts: a test that is killed leaves no machine."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# ---- what a machine is made of ----

def kernel():
    """(version, image, directory with lib/modules), fetched once."""
    mark = CACHE + "/version"
    if not os.path.exists(mark):
        depends = sh("apt-cache", "depends", "linux-image-cloud-amd64")
        package = next(line.split()[-1] for line in depends.splitlines() if "Depends:" in line)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            sh("chmod", "777", work)
            sh("apt-get", "download", "-qq", package, cwd=work)
            sh("dpkg", "-x", next(e.path for e in os.scandir(work)), CACHE + "/kernel")
        version = os.listdir(CACHE + "/kernel/lib/modules")[0]
        sh("depmod", "-b", CACHE + "/kernel", version)
        with open(mark, "w") as f:
            f.write(version + "\n")
    with open(mark) as f:
        version = f.read().strip()
    return version, f"{CACHE}/kernel/boot/vmlinuz-{version}", CACHE + "/kernel"


# The first process of both kinds: modules, then the agent, or the switch to systemd.
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in /modules/*; do $b insmod $m; done
$b mkdir -p /newroot
if [ -e /systemd ]; then
	$b mount -t ext4 -o ro /dev/vda /lower
	$b mount -t tmpfs tmpfs /rw; $b mkdir /rw/upper /rw/work
	$b mount -t overlay overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work /newroot
	$b mkdir -p /newroot/etc/systemd/system/multi-user.target.wants /newroot/lab
	$b cp /bin/busybox /agent /newroot/lab/
	$b cp /lab.service /newroot/etc/systemd/system/
	$b ln -s ../lab.service /newroot/etc/systemd/system/multi-user.target.wants/
	for d in proc sys dev; do $b mount --move /$d /newroot/$d; done
	exec $b switch_root /newroot /lib/systemd/systemd
fi
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
$b mkdir -p /dev/pts /dev/shm /run /tmp
$b mount -t devpts devpts /dev/pts; $b mount -t tmpfs tmpfs /dev/shm; $b mount -t tmpfs tmpfs /run
$b ln -sfn /proc/self/fd /dev/fd
exec $b sh /agent
"""

# Takes scripts from the first port and runs them; what they write goes to the second one, which can be opened once only
# and so is handed on: what a script leaves in the background may keep it.
AGENT = """b=/bin/busybox; [ -e $b ] || b=/lab/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
cd /
until [ -e /dev/vport*p1 ] && [ -e /dev/vport*p2 ]; do $b usleep 20000; done
$b ln -s /dev/vport*p1 /dev/lab1; $b ln -s /dev/vport*p2 /dev/lab2
exec 3<>/dev/lab1 4>/dev/lab2
echo lab-agent >&3
while IFS= read -r line <&3; do eval "$line"; done
"""

SERVICE = """[Unit]
Description=Agent of the lab
[Service]
ExecStart=/lab/busybox sh /lab/agent
Delegate=yes
KillMode=process
"""


def initrd(path, systemd):
    version, _, tree = kernel()
    with tempfile.TemporaryDirectory() as root:
        for d in "bin proc sys dev lower rw newroot modules run tmp".split():
            os.mkdir(f"{root}/{d}")
        shutil.copy("/bin/busybox", root + "/bin/busybox")
        files = []
        for module in MODULES:
            for line in sh("modprobe", "-d", tree, "-S", version, "--show-depends", module).splitlines():
                kind, file = line.split()[:2]
                if kind == "insmod" and file not in files:
                    files.append(file)
        for n, file in enumerate(files):
            shutil.copy(file, f"{root}/modules/{100 + n}-{os.path.basename(file)}")
        for name, text in (("init", INIT), ("agent", AGENT), *([("systemd", ""), ("lab.service", SERVICE)] if systemd else [])):
            with open(f"{root}/{name}", "w") as f:
                f.write(text)
        os.chmod(root + "/init", 0o755)
        subprocess.run(f"find . | cpio -o -H newc --quiet | gzip -1 >{shlex.quote(path)}", shell=True, check=True, cwd=root)


def system_image(path):
    """An ext4 with a small Debian that has systemd."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=" + SYSTEMD_PACKAGES, "bookworm", work + "/root"],
                       check=True, stdout=subprocess.DEVNULL)
        for gone in ("/root/.dockerenv", "/root/etc/machine-id"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(work + gone)
        for masked in ("getty.target", "systemd-networkd-wait-online.service", "apt-daily.timer", "apt-daily-upgrade.timer",
                       "systemd-timesyncd.service"):
            os.symlink("/dev/null", f"{work}/root/etc/systemd/system/{masked}")
        sh("truncate", "-s", "1G", path)
        sh("mkfs.ext4", "-q", "-d", work + "/root", path)


# ---- QEMU ----

class Qmp:
    def __init__(self, path):
        self.sock = connect(path)
        self.file = self.sock.makefile("rw")
        self.read()
        self.call("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise RuntimeError("QEMU has ended")
        return json.loads(line)

    def call(self, name, **arguments):
        self.file.write(json.dumps({"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}) + "\n")
        self.file.flush()
        while True:
            reply = self.read()
            if "error" in reply:
                raise RuntimeError(f"QEMU: {name}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def migrated(self):
        end = time.monotonic() + RESTORE_SECONDS
        while time.monotonic() < end:
            status = self.call("query-migrate").get("status")
            if status == "completed":
                return
            if status == "failed":
                break
            time.sleep(0.02)
        raise RuntimeError("the snapshot cannot be taken or restored")


def connect(path, seconds=20):
    end = time.monotonic() + seconds
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Qemu:
    """One process, with sockets in a directory of its own."""

    def __init__(self, directory, ram, initrd_path, disk, incoming, log):
        version, image, _ = kernel()
        self.dir = directory
        argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=256", "-machine", "q35", "-cpu", "max", "-smp", "2",
                "-m", str(MEMORY), "-nodefaults", "-display", "none", "-no-reboot",
                "-kernel", image, "-initrd", initrd_path,
                "-append", "console=ttyS0 panic=-1 quiet loglevel=0 mitigations=off random.trust_cpu=on",
                "-object", f"memory-backend-file,id=mem,size={MEMORY}M,share=on,mem-path={ram}", "-numa", "node,memdev=mem",
                "-serial", f"file:{directory}/console",
                "-qmp", f"unix:{directory}/qmp,server=on,wait=off",
                "-chardev", f"socket,id=c1,path={directory}/control,server=on,wait=off",
                "-chardev", f"socket,id=c2,path={directory}/output,server=on,wait=off",
                "-device", "virtio-serial-pci,id=serial,max_ports=4",
                "-device", "virtserialport,chardev=c1,nr=1", "-device", "virtserialport,chardev=c2,nr=2"]
        for n in range(4):
            argv += ["-device", f"pcie-root-port,id=slot{n},chassis={n + 1},slot={n + 1}"]
        if disk:
            argv += ["-drive", f"file={disk},if=virtio,format=raw,readonly=on"]
        if incoming:
            argv += ["-incoming", "defer"]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=die_with_parent)
        self.qmp = Qmp(directory + "/qmp")
        self.control, self.output = connect(directory + "/control"), connect(directory + "/output")

    def close(self):
        self.process.kill()
        self.process.wait()
        for s in (self.control, self.output, self.qmp.sock):
            s.close()


def read_until(sock, text, seconds, what):
    seen, end = b"", time.monotonic() + seconds
    while text not in seen:
        left = end - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            raise RuntimeError(f"{what} did not happen within {seconds} s; seen: {seen[-500:]!r}")
        got = sock.recv(65536)
        if not got:
            raise RuntimeError(f"{what}: the machine has ended")
        seen += got
    return seen


# ---- snapshots ----

def key(systemd):
    h = hashlib.sha256()
    with open(__file__, "rb") as f:
        h.update(f.read())
    h.update(repr((kernel()[0], systemd, sh("qemu-system-x86_64", "--version"))).encode())
    return h.hexdigest()[:16]


def snapshot(systemd):
    """The directory of a snapshot: ram, state, initrd, disk. Made if need be, by one at a time."""
    os.makedirs(CACHE, exist_ok=True)
    with open(CACHE + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kind = "systemd" if systemd else "plain"
        done = f"{CACHE}/{kind}-{key(systemd)}"
        if not os.path.exists(done):
            for e in os.scandir(CACHE):
                if e.name.startswith(kind + "-"):
                    shutil.rmtree(e.path)
            making = tempfile.mkdtemp(prefix="making-", dir=CACHE)
            try:
                make_snapshot(making, systemd)
                os.rename(making, done)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return done


def make_snapshot(directory, systemd):
    initrd(directory + "/initrd", systemd)
    disk = None
    if systemd:
        disk = CACHE + "/system.ext4"
        if not os.path.exists(disk):
            system_image(disk + ".new")
            os.rename(disk + ".new", disk)
    with tempfile.TemporaryDirectory(prefix="wabe-lab-", dir=SHM) as work, open(work + "/log", "w+") as log:
        qemu = Qemu(work, work + "/ram", directory + "/initrd", disk, False, log)
        try:
            try:
                read_until(qemu.control, b"lab-agent", BOOT_SECONDS, "the boot")
            except RuntimeError as e:
                with open(work + "/console", errors="replace") as f:
                    raise RuntimeError(f"{e}\n{f.read()[-2000:]}") from None
            if systemd:
                qemu.control.sendall(b"systemctl is-system-running --wait >&3\n")
                read_until(qemu.control, b"\n", BOOT_SECONDS, "systemd's start")
            qemu.qmp.call("stop")
            qemu.qmp.call("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
            qemu.qmp.call("migrate", uri=f"exec:cat >{directory}/state")
            qemu.qmp.migrated()
        finally:
            qemu.close()
        sh("cp", "--sparse=always", work + "/ram", directory + "/ram")


# ---- machines ----

# What a machine does first with its host's tree and its disk.
SETUP = """set -e
date -s @{now} >/dev/null
hostname {name}
if [ -d /lab ]; then t=/lab/t; else t=/t; fi
$b mkdir -p $t/lower $t/rw $t/root
n=0; until $b mount -t virtiofs host $t/lower -o ro 2>/dev/null; do n=$((n+1)); [ $n -lt 500 ] || exit 1; $b usleep 10000; done
$b mount -t tmpfs tmpfs $t/rw; $b mkdir $t/rw/upper $t/rw/work
$b mount -t overlay overlay -o lowerdir=$t/lower,upperdir=$t/rw/upper,workdir=$t/rw/work $t/root
for d in proc sys dev run; do $b mount --rbind /$d $t/root/$d; done
n=0; until [ -b /dev/{disk} ]; do n=$((n+1)); [ $n -lt 500 ] || exit 1; $b usleep 10000; done
$b mount -t ext4 /dev/{disk} $t/root/var/tmp
$b mkdir -m 1777 $t/root/var/tmp/.tmp; $b mount --bind $t/root/var/tmp/.tmp $t/root/tmp
$b chmod 1777 $t/root/var/tmp
$b mkdir -p $t/root/lib/modules; $b mount --bind $t/root{modules} $t/root/lib/modules
m=${{b%busybox}}lab-modprobe
printf '#!%s sh\nexec %s chroot %s /sbin/modprobe "$@"\n' $b $b $t/root >$m; $b chmod 755 $m
echo $m >/proc/sys/kernel/modprobe
$b rm -f $t/root/.dockerenv
$b ip link set lo up
{network}
"""
NETWORK = """n=0; until [ -e /sys/class/net/eth0 ] || [ -e /sys/class/net/enp*s0 ]; do n=$((n+1)); [ $n -lt 500 ] || exit 1; $b usleep 10000; done
for i in /sys/class/net/en*; do [ ! -e $i ] || {{ $b ip link set ${{i##*/}} down; $b ip link set ${{i##*/}} name eth0; }}; done
$b ip addr add 10.99.0.{number}/24 dev eth0; $b ip link set eth0 up
for m in {numbers}; do echo 10.99.0.$m lab$m; done >>$t/root/etc/hosts
"""


# From a mount name space of the command's own, whose root the tree is: in a mere chroot the kernel makes no user name space.
ENTER = """cd "$0" && "$2" mount --move . / && exec "$2" chroot . /usr/bin/setsid -w /bin/bash -c "$1\""""


class Machine:
    def __init__(self, lab, number):
        self.lab, self.number = lab, number
        self.dir = f"{lab.dir}/{number}"
        self.ram = f"{SHM}/{os.path.basename(lab.dir)}-{number}"
        os.mkdir(self.dir)
        self.log = open(self.dir + "/log", "w+")
        self.helper = self.qemu = None
        self.output = b""

    def start(self):
        snap = self.lab.snapshot
        sh("cp", "--sparse=always", snap + "/ram", self.ram)
        self.helper = subprocess.Popen(["/usr/lib/qemu/virtiofsd", f"--socket-path={self.dir}/fs", "-o", "source=/", "-o",
                                        "sandbox=chroot", "-o", "cache=always"], stdout=self.log, stderr=self.log,
                                       preexec_fn=die_with_parent)
        disk = CACHE + "/system.ext4" if self.lab.systemd else None
        self.qemu = Qemu(self.dir, self.ram, snap + "/initrd", disk, True, self.log)
        qmp = self.qemu.qmp
        qmp.call("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        qmp.call("migrate-incoming", uri=f"exec:cat {snap}/state")
        qmp.migrated()
        end = time.monotonic() + 20
        while not os.path.exists(self.dir + "/fs"):
            if self.helper.poll() is not None or time.monotonic() > end:
                raise RuntimeError("virtiofsd does not start")
            time.sleep(0.01)
        qmp.call("chardev-add", id="fs", backend={"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": self.dir + "/fs"}}, "server": False}})
        qmp.call("device_add", driver="vhost-user-fs-pci", chardev="fs", tag="host", bus="slot0")
        sh("truncate", "-s", str(DISK), self.dir + "/disk")
        sh("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", self.dir + "/disk")
        qmp.call("blockdev-add", node_name="disk", driver="raw",
                 file={"driver": "file", "filename": self.dir + "/disk", "cache": {"no-flush": True}})
        qmp.call("device_add", driver="virtio-blk-pci", drive="disk", bus="slot1")
        if self.lab.bridge:
            self.plug_network(qmp)
        qmp.call("cont")
        self.qemu.control.sendall(b"\n")
        network = NETWORK.format(number=self.number, numbers=" ".join(map(str, range(1, self.lab.count + 1)))) if self.lab.bridge else ""
        text = SETUP.format(now=int(time.time()), name=f"lab{self.number}", disk="vdb" if self.lab.systemd else "vda",
                            modules=kernel()[2] + "/lib/modules", network=network)
        status, out = self.script(text, 60)
        if status:
            raise RuntimeError(f"the machine's set-up failed: {out.decode(errors='replace')}")

    def plug_network(self, qmp):
        fd = self.lab.bridge.tap(self.number)
        try:
            socket.send_fds(qmp.sock, [json.dumps({"execute": "getfd", "arguments": {"fdname": "tap"}}).encode() + b"\n"], [fd])
            while "return" not in qmp.read():
                pass
        finally:
            os.close(fd)
        qmp.call("netdev_add", type="tap", id="net", fd="tap")
        qmp.call("device_add", driver="virtio-net-pci", netdev="net", bus="slot2", mac=f"52:54:00:99:00:{self.number:02x}")

    def send(self, text):
        """Has the agent run a script in a process of its own; its end is marked in the output."""
        mark = os.urandom(8).hex()
        encoded = base64.b64encode(text.encode()).decode()
        script = f"$b sh -c \"b=$b; $(echo {encoded} | $b base64 -d)\" </dev/null >&4 2>&1 3<&- 4>&-; echo \"lab-end-{mark} $?\" >&4\n"
        self.qemu.control.sendall(script.encode())
        return b"lab-end-" + mark.encode() + b" "

    def follow(self, mark, seconds, sink):
        """Gives the output to sink until the mark; the status."""
        end = time.monotonic() + seconds
        while True:
            at = self.output.find(mark)
            if at >= 0 and (line := self.output.find(b"\n", at)) >= 0:
                sink(self.output[:at])
                status = int(self.output[at + len(mark):line])
                self.output = self.output[line + 1:]
                return status
            keep = len(mark) + 8  # the mark may come in pieces
            if at < 0 and len(self.output) > keep:
                sink(self.output[:-keep])
                self.output = self.output[-keep:]
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the command did not end within {seconds} s")
            if not select.select([self.qemu.output], [], [], left)[0]:
                continue
            got = self.qemu.output.recv(65536)
            if not got:
                raise RuntimeError("the machine has ended")
            self.output += got.replace(b"\r\n", b"\n")

    def script(self, text, seconds):
        out = []
        return self.follow(self.send(text), seconds, out.append), b"".join(out)

    def begin(self, command):
        """Starts a command in the host's tree, with mounts of its own; follow gives its output and status. What something in
        the background writes later is part of the next one's output."""
        inner = f"cd {shlex.quote(os.getcwd())}; export TMPDIR=/var/tmp; {command}"
        run = f"$b unshare -m $b sh -c {shlex.quote(ENTER)} $t/root {shlex.quote(inner)} $b"
        if self.lab.systemd:
            run = "systemd-run -q --scope -p Delegate=yes " + run
        return self.send(f"[ -d /lab ] && t=/lab/t || t=/t; {run}")

    def run(self, command, seconds=600):
        """(status, output) of a command."""
        out = []
        return self.follow(self.begin(command), seconds, out.append), b"".join(out).decode(errors="replace")

    def close(self):
        if self.qemu:
            self.qemu.close()
        if self.helper:
            self.helper.kill()
            self.helper.wait()
        self.log.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ram)


class Bridge:
    """A bridge in a network name space of its own, and taps on it: descriptors outlive the look into it."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && ip link add lab0 type bridge mcast_snooping 0 && "
                                        "ip addr add 10.99.0.254/24 dev lab0 && ip link set lab0 up && echo up && exec sleep 86400"], stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        if self.holder.stdout.readline().strip() != "up":
            raise RuntimeError("a network for the machines cannot be made")

    def tap(self, number):
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            if libc.setns(there, 0x40000000):
                raise OSError("setns")
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", f"tap{number}".encode(), 0x0002 | 0x1000 | 0x4000))
            sh("ip", "link", "set", f"tap{number}", "master", "lab0", "up")
            return fd
        finally:
            libc.setns(here, 0x40000000)
            os.close(here)
            os.close(there)

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class Server:
    """A command of this host on the machines' network, in a directory of its own. It says "ready" in a line of its own."""

    def __init__(self, bridge, command, directory):
        os.mkdir(directory)
        self.log = open(directory + "/log", "w")
        self.process = subprocess.Popen(["nsenter", f"--net=/proc/{bridge.holder.pid}/ns/net", "unshare", "--fork", "--pid",
                                         "--kill-child", "--mount-proc", "bash", "-c", command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=directory, preexec_fn=die_with_parent)
        if not any(line.strip() == "ready" for line in self.process.stdout):
            with open(self.log.name) as f:
                raise RuntimeError(f"what shall serve the machines ends with {self.process.wait()}: {f.read()[-2000:]}")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Lab:
    def __init__(self, count=1, systemd=False, server=None):
        self.count, self.systemd, self.command = count, systemd, server
        self.machines, self.bridge, self.server, self.dir = [], None, None, None

    def __enter__(self):
        hidden = [d for d in OWN if (os.getcwd() + "/").startswith(d + "/")]
        if hidden:
            raise RuntimeError(f"a lab machine has a {hidden[0]} of its own and does not see {os.getcwd()}: move the tree")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(125))  # the memory of machines is given back
        self.snapshot = snapshot(self.systemd)
        self.dir = tempfile.mkdtemp(prefix="wabe-lab-", dir="/var/tmp")
        try:
            self.bridge = Bridge() if self.count > 1 or self.command else None
            if self.command:
                self.server = Server(self.bridge, self.command, self.dir + "/server")
            for n in range(self.count):
                self.machines.append(Machine(self, n + 1))
                self.machines[-1].start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for m in self.machines:
            m.close()
        if self.server:
            self.server.close()
        if self.bridge:
            self.bridge.close()
        shutil.rmtree(self.dir, ignore_errors=True)
