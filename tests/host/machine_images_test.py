#!/usr/bin/env python3
"""Container images as machines: wabe run --vm with an image of files gives what the container would have had."""
import contextlib
import fcntl
import glob
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import Docker  # noqa: E402
from guest import kernel_archive, kernel_image  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, busybox_rootfs, wait_until  # noqa: E402

BOOT = 240


def setup():
    need("qemu-system-x86_64", shutil.which("qemu-system-x86_64") and os.path.exists("/usr/lib/qemu/virtiofsd"))
    d = Daemon("mimage", network=None)
    try:
        d.start()
        busybox_rootfs(d.dir + "/root.tar")
        d.cli("image", "import", d.dir + "/root.tar", "busybox:1")
    except BaseException:
        d.close()
        raise
    return d


def kernel(d):
    if "kernel:test" not in d.out("image", "ls"):
        with tempfile.TemporaryDirectory() as folder:
            kernel_archive(folder + "/kernel.tar", *kernel_image(folder), "kernel:test")
            d.cli("image", "load", "-i", folder + "/kernel.tar")


def machine(d, *args, **kw):
    """(status, output) of a machine of busybox:1."""
    kernel(d)
    r = d.cli("run", "--vm", "-m", "256m", *args, check=False, timeout=BOOT, **kw)
    return r.returncode, r.stdout + r.stderr


def status(d, name):
    return d.show(name)["status"]


def said(d, name, text):
    wait_until(lambda: text in d.out("logs", name), BOOT, f"{text!r} of {name}")


def remove(d, *names):
    d.cli("rm", "-f", *names)
    wait_until(lambda: not any(d.leftovers().values()), 20, f"removal of everything: {d.leftovers()}")


def qemu_of(d, name):
    """QEMU's pid: wabe-machine is the first process."""
    with open(f"/proc/{status(d, name)['pid']}/task/{status(d, name)['pid']}/children") as f:
        for pid in map(int, f.read().split()):
            with open(f"/proc/{pid}/comm") as comm:
                if comm.read().startswith("qemu"):
                    return pid
    return None


def stand_ins(d, name):
    """Processes of the host that stand for one inside."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path) as f, open(os.path.dirname(path) + "/cgroup") as groups:
                if f.read() == "/wabe-machine\0exec\0" and d.show(name)["id"] in groups.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


@test
def without_a_kernel(d):
    """Without a kernel's image nothing is made, and the error says how to get one"""
    d.cli("image", "rm", "kernel:test", check=False)
    r = d.cli("run", "--vm", "busybox:1", "true", check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "wabe image bootstrap --kernel")
    r = d.cli("run", "--vm", "--kernel", "busybox:1", "busybox:1", "true", check=False)
    contains(r.stderr, "is of kind oci, not kernel")
    equal(d.leftovers()["instances"], [])


@test
def as_a_container(d):
    """Command, user, directory, environment, host name, network and status are the container's"""
    script = "echo one; id -un; pwd; echo \"$A\"; hostname; cat /etc/hostname; ip -o -4 addr show eth0; nslookup one.default.wabe | grep Address; exit 42"
    code, text = machine(d, "--name", "one", "-u", "alice", "-w", "/var/made", "-e", "A=b  c", "--hostname", "web", "busybox:1", "sh", "-c", script)
    equal(code, 42, text)
    lines = text.split("\n")
    equal(lines[:6], ["one", "alice", "/var/made", "b  c", "web", "web"])
    address = d.show("one")["nics"][0]["ipv4"]
    contains(lines[6], address)
    contains("\n".join(lines[7:]), address, "the resolver's answer")
    now = status(d, "one")
    equal((now["state"], now["exit_code"]), ("exited", 42))
    equal(d.out("logs", "one"), text.strip(), "the log holds nothing else")
    remove(d, "one")


@test
def mounts(d):
    """Volumes, directories of the host, memory and block volumes are where the container would have them"""
    os.mkdir(d.dir + "/shared")
    with open(d.dir + "/shared/file", "w") as f:
        f.write("of the host\n")
    script = ("cat /host/file; touch /host/new 2>&1; echo kept >/data/file; df -m /mem | tail -1 | awk '{print $2}'; "
              "test -b /dev/block && echo written | dd of=/dev/block 2>/dev/null; ls -ld /etc/evil; ls -l /usr-bin 2>&1 | head -n 1; echo done")
    with tempfile.TemporaryDirectory() as extra:
        # a link in the image that leads a mount out of its root, to a directory of QEMU's own
        os.makedirs(extra + "/etc")
        os.makedirs(extra + "/usr/bin")
        os.symlink("/usr/bin", extra + "/etc/evil")
        subprocess.run(["tar", "-C", extra, "-rf", d.dir + "/root.tar", "./etc/evil", "./usr/bin"], check=True)
        d.cli("image", "import", d.dir + "/root.tar", "busybox:evil")
    d.cli("volume", "create", "data")
    d.cli("volume", "create", "evil")
    d.cli("volume", "create", "--kind", "block", "--size", "16m", "blocks")
    code, text = machine(d, "--name", "m", "-v", d.dir + "/shared:/host:ro", "-v", "data:/data", "--tmpfs", "/mem:size=3m", "-v", "evil:/etc/evil",
                         "--mount", "type=volume,source=blocks,target=/dev/block", "busybox:evil", "sh", "-c", script)
    equal(code, 0, text)
    for part in "of the host\n", "Read-only file system", "\n3\n", "done\n":
        contains(text, part)
    code, text = machine(d, "--rm", "-v", "data:/data", "--mount", "type=volume,source=blocks,target=/dev/block", "busybox:1", "sh", "-c", "cat /data/file; head -n 1 /dev/block")
    equal((code, text), (0, "kept\nwritten\n"))
    remove(d, "m")
    d.cli("volume", "rm", "data", "blocks", "evil")


@test
def its_root_lasts(d):
    """What was written is there at the next start, for wabe diff, and in its clone as a container"""
    code, text = machine(d, "--name", "r", "busybox:1", "sh", "-c", "cat /etc/mark 2>/dev/null; echo once >>/etc/mark; chown alice /etc/mark")
    equal((code, text), (0, ""))
    contains(d.out("diff", "r"), "/etc/mark")
    d.cli("start", "r")
    wait_until(lambda: status(d, "r")["state"] == "exited", BOOT, "the second end")
    equal(d.out("logs", "r"), "once")
    remove(d, "r")


@test
def exec_as_in_a_container(d):
    """wabe exec: streams, input and its end, user, environment, directory, terminal and status are the container's"""
    kernel(d)
    d.cli("run", "--vm", "-m", "256m", "-d", "--name", "x", "-u", "alice", "-e", "A=b", "busybox:1", "sh", "-c", "echo up; sleep 1000")

    def run_in(*args, **kw):
        r = d.cli("exec", *args, check=False, timeout=BOOT, **kw)
        return r.returncode, r.stdout, r.stderr
    # at once: it waits for the machine
    equal(run_in("x", "sh", "-c", "echo out; echo err >&2; id -un; echo $A; exit 7"), (7, "out\nalice\nb\n", "err\n"))
    equal(run_in("-u", "root", "-w", "/etc", "-e", "A=c", "-e", "B=d e", "x", "sh", "-c", 'id -un; pwd; echo "$A $B"'), (0, "root\n/etc\nc d e\n", ""))
    equal(run_in("-i", "x", "wc", "-c", input="x" * 3000000), (0, "3000000\n", ""))
    equal(run_in("-i", "x", "cat", input="words\n" * 300000), (0, "words\n" * 300000, ""))
    equal(run_in("x", "cat"), (0, "", ""))
    equal(run_in("x", "sh", "-c", "kill -9 $$")[0], 137)
    code, _, text = run_in("x", "/bin/none")
    equal(code, 127)
    contains(text, "/bin/none")
    equal(run_in("x", "/etc/passwd")[0], 126)
    equal(run_in("-u", "nobody-such", "x", "true")[0], 125)
    equal(run_in("x", "sh", "-c", "cat /proc/1/comm")[1], "sleep\n", "the same process name space")
    both = [subprocess.Popen(d.line("exec", "-i", "x", "cat"), env=d.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for n, p in enumerate(both):
        equal(p.communicate(b"%d\n" % n, BOOT)[0], b"%d\n" % n)
    r = subprocess.run(["script", "-qec", "stty rows 33 cols 99; " + " ".join(d.line("exec", "-it", "x", "sh", "-c", "'stty size; tty; echo $TERM; read l; echo got $l; exit 3'")), "/dev/null"],
                       env=d.env, input=b"some\n", stdout=subprocess.PIPE, timeout=BOOT)
    equal(r.returncode, 3, r.stdout)
    for part in b"33 99", b"/dev/pts/", b"xterm", b"got some":
        contains(r.stdout, part)
    d.cli("exec", "-d", "x", "sleep", "1001")
    wait_until(lambda: "sleep 1001" in run_in("x", "ps")[1], BOOT, "the process")
    for pid in stand_ins(d, "x"):
        with contextlib.suppress(ProcessLookupError):  # that of ps
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "sleep 1001" not in run_in("x", "ps")[1], BOOT, "its end, with that of the process that stands for it")
    remove(d, "x")


@test
def copies_and_processes(d):
    """wabe cp, top, stats and diff of one that runs are of what is inside"""
    kernel(d)
    d.cli("run", "--vm", "-m", "256m", "-d", "--name", "c", "--tmpfs", "/mem", "busybox:1", "sh", "-c", "echo there >/tmp/one; chown alice /tmp/one; echo up; sleep 1003")
    said(d, "c", "up")
    with tempfile.TemporaryDirectory() as folder:
        d.cli("cp", "c:/tmp/one", folder + "/got")
        with open(folder + "/got") as f:
            equal(f.read(), "there\n")
        os.makedirs(folder + "/dir/sub")
        with open(folder + "/dir/sub/file", "w") as f:
            f.write("brought\n" * 100000)
        d.cli("cp", folder + "/dir", "c:/tmp")
        equal(d.out("exec", "c", "wc", "-c", "/tmp/dir/sub/file").split()[0], "800000")
        equal(d.out("exec", "c", "stat", "-c", "%u", "/tmp/dir/sub/file"), "0")
        contains(d.cli("cp", folder + "/dir", "c:/mem", check=False).stderr, "in the memory of machine")
        contains(d.cli("cp", "c:/none", folder, check=False).stderr, "/none")
    rows = d.out("top", "c")
    contains(rows, "sleep 1003")
    assert "qemu" not in rows and "wabe-init" not in rows, rows
    contains(d.out("diff", "c"), "/tmp/dir/sub/file")
    inside = d.show("c")["inside"]
    contains(" ".join(next(i for i in inside["interfaces"] if i["name"] == "eth0")["addresses"]), d.show("c")["nics"][0]["ipv4"])
    contains(d.cli("set-password", "c", "root", input="x\n", check=False).stderr, "does not do guest-set-user-password")
    equal([i["name"] for i in d.json("stats", "--no-stream", "c")["c"]["interfaces"]], ["eth0"])
    remove(d, "c")


@test
def health_check(d):
    """A health check runs inside"""
    kernel(d)
    d.cli("run", "--vm", "-m", "256m", "-d", "--name", "h", "--health-cmd", "test $(cat /proc/1/comm) = sleep && cat /mark", "--health-interval", "1s",
          "busybox:1", "sh", "-c", "echo well >/mark; exec sleep 1000")
    wait_until(lambda: status(d, "h").get("health") == "healthy", BOOT, "health")
    remove(d, "h")


@test
def stopping(d):
    """wabe stop is the container's stop signal; one that does not listen is ended after its time"""
    kernel(d)
    d.cli("run", "--vm", "-m", "256m", "-d", "--name", "s", "busybox:1", "sh", "-c", "trap 'echo told; exit 9' TERM; echo up; while :; do sleep 0.1; done")
    said(d, "s", "up")
    # the button is watched only after the first words
    d.cli("stop", "-t", "120", "s", timeout=BOOT)
    equal(status(d, "s")["exit_code"], 9)
    contains(d.out("logs", "s"), "told")
    remove(d, "s")
    d.cli("run", "--vm", "-m", "256m", "-d", "--name", "deaf", "busybox:1", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    said(d, "deaf", "up")
    d.cli("stop", "-t", "1", "deaf", timeout=BOOT)
    equal(status(d, "deaf")["state"], "exited")
    remove(d, "deaf")


@test
def crashes(d):
    """QEMU killed is an end with 137; the daemon killed finds the machine again"""
    kernel(d)
    d.cli("run", "--vm", "-m", "256m", "-d", "--name", "c", "busybox:1", "sh", "-c", "echo up; sleep 1000")
    said(d, "c", "up")
    d.kill()
    d.start()
    equal(status(d, "c")["state"], "running")
    os.kill(qemu_of(d, "c"), signal.SIGKILL)
    wait_until(lambda: status(d, "c")["state"] == "exited", 20, "its end")
    equal(status(d, "c")["exit_code"], 137)
    remove(d, "c")


@test
def terminal(d):
    """With -t there is a terminal of the client's size, which is told its changes, with -i an input"""
    kernel(d)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 99))
    p = subprocess.Popen(d.line("run", "--name", "t", "--vm", "-m", "256m", "-it", "busybox:1", "sh", "-c",
                                "tty; stty size; read -r line; echo got $line; trap 'stty size; exit 3' WINCH; echo set; while :; do sleep 0.1; done"),
                         env=d.env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    text = b""

    def until(part):
        nonlocal text
        while part not in text:
            assert select.select([master], [], [], 60)[0], text
            text += os.read(master, 4096)
    until(b"/dev/")
    until(b"33 99")
    os.write(master, b"words\n")
    until(b"got words")
    until(b"set")
    termios.tcsetwinsize(master, (44, 88))
    os.kill(p.pid, signal.SIGWINCH)
    until(b"44 88")
    equal(p.wait(BOOT), 3)
    os.close(master)
    remove(d, "t")


@test
def input_and_its_end(d):
    """What is piped in arrives whole, and so does its end"""
    kernel(d)
    code, text = machine(d, "--rm", "-i", "busybox:1", "sh", "-c", "wc -c; echo over", input="x" * 500000)
    equal((code, text), (0, "500000\nover\n"))


@test
def by_docker(d):
    """docker run --runtime machine is the same; a container's fields that a machine has no use for are refused by name"""
    kernel(d)
    docker = Docker.of(d)
    d.cli("image", "tag", "busybox:1", "busybox:latest")
    r = docker.run("run", "--runtime", "machine", "--name", "dm", "-m", "256m", "-e", "A=b", "busybox", "sh", "-c", "echo $A; cat /proc/1/comm; exit 7",
                   check=False, timeout=BOOT)
    equal((r.returncode, r.stdout), (7, "b\nsh\n"), r.stderr)
    shown = docker.inspect("dm")
    equal((shown["HostConfig"]["Runtime"], shown["State"]["ExitCode"]), ("machine", 7))
    equal(d.show("dm")["spec"]["kind"], "machine")
    contains(docker.out("info", "--format", "{{json .Runtimes}}"), "machine")
    r = docker.run("run", "--runtime", "machine", "--privileged", "busybox", "true", check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "privileged")
    r = docker.run("create", "--runtime", "nosuch", "busybox", check=False)
    contains(r.stderr, "unknown or invalid runtime name: nosuch")
    remove(d, "dm")


@test
def numa(d):
    """Its memory, which virtiofsd sees as well, lies in nodes, and is theirs together where nothing else is said"""
    kernel(d)
    node = "/sys/devices/system/node/node"
    out = d.out("run", "--vm", "--rm", "--cpus", "2", "--numa", "memory=128m", "--numa", "memory=160m", "busybox:1", "sh", "-c",
                f"cat {node}0/cpulist {node}1/cpulist; ls /", timeout=BOOT)
    equal(out.split()[:2], ["0", "1"])
    contains(out.split(), "proc")


@test
def media_of_cloud_init(d):
    """A machine's medium for cloud-init is made with it, changes with it, and is told apart by its instance-id"""
    with open(d.dir + "/disk.raw", "wb") as f:
        f.truncate(1 << 20)
    d.cli("image", "import", "--kind", "disk", "--format", "raw", d.dir + "/disk.raw", "disk:1")
    d.cli("create", "--vm", "--name", "ci", "--cloud-user", "alice", "--ssh-key", "ssh-ed25519 AAAA", "disk:1")
    path = glob.glob(d.state + "/agent/instances/*/media/seed")[0]

    def read(name):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["xorriso", "-osirrox", "on", "-indev", path, "-extract", "/" + name, folder + "/file"], check=True, capture_output=True)
            with open(folder + "/file") as f:
                return f.read()
    first = read("meta-data")
    contains(first, '"local-hostname":"ci"')
    contains(read("user-data"), "ssh-ed25519 AAAA")
    contains(read("network-config"), d.show("ci")["nics"][0]["ipv4"])
    d.cli("update", "--cloud-user", "bob", "ci")
    contains(read("user-data"), '"bob"')
    second = read("meta-data")
    assert second != first, second
    d.cli("rename", "ci", "other")
    contains(read("meta-data"), '"local-hostname":"other"')
    equal(os.listdir(os.path.dirname(path)), ["seed"])
    status_, answer = d.api("PATCH", "/v1/projects/default/instances/other", {"machine": {"cloud_init": {"datasource": "none", "user": None, "ssh_keys": None}}})
    equal(status_, 200, answer)
    equal(os.listdir(os.path.dirname(path)), [])
    remove(d, "other")
    r = d.cli("create", "--vm", "--cloud-user", "alice", "busybox:1", check=False)
    contains(r.stderr, "neither cloud-init, CDs nor floppies")


def after(d):
    left = [i["id"] for i in d.json("ls", "-a")]
    if left:
        d.cli("rm", "-f", *left)


if __name__ == "__main__":
    run(setup, Daemon.close, after)
