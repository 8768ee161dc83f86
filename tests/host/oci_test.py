#!/usr/bin/env python3
"""The OCI runtime from outside: bundles on a small root file system of busybox-static.

WABE_OCI is the command ("build/wabe oci"). Needs root. Output is TAP."""
import array
import contextlib
import copy
import ctypes
import json
import os
import pty
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

WABE = shlex.split(os.environ.get("WABE_OCI", "build/wabe oci"))
TOP = tempfile.mkdtemp(prefix="wabe-oci-test-")
ROOT = TOP + "/state"
BASE = TOP + "/base"
SERIAL = 0
TESTS = []
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}


def test(f):
    TESTS.append(f)
    return f


def race(f):
    """A test that a container may lose to us: it says something only when it won. For ./test --all."""
    f.race = True
    return test(f)


def make_root(path):
    for d in ("bin", "proc", "dev", "sys", "tmp", "etc", "root", "home/bob", "data"):
        os.makedirs(f"{path}/{d}")
    busybox = next(b for b in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(b))
    shutil.copy(busybox, path + "/bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            os.symlink("busybox", f"{path}/bin/{applet}")
    with open(path + "/etc/passwd", "w") as f:
        f.write("root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n")
    with open(path + "/etc/group", "w") as f:
        f.write("root:x:0:\nbob:x:1000:\nwheel:x:10:bob\n")
    os.chown(path + "/home/bob", 1000, 1000)
    with open(path + "/bin/notexec", "w") as f:
        f.write("#!/bin/sh\n")


def on_terminal(*args, typed=b""):
    """Its output and status, when it is run from a terminal."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(WABE[0], [*WABE, "--root", ROOT, *args])
    os.write(master, typed)
    out = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 1000):
            out += chunk
    os.close(master)
    return out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def oci(*args, **more):
    return subprocess.run([*WABE, "--root", ROOT, *args], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, **more)


def quiet(*args):
    """For what stays in the background: it would hold the pipes of oci() open."""
    subprocess.run([*WABE, "--root", ROOT, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=True, timeout=60)


class Bundle:
    """A bundle of its own, with the default config.json to change; gone with all its containers at the end."""

    def __init__(self, *command, **process):
        global SERIAL
        SERIAL += 1
        self.id = f"wabe-test-{os.getpid()}-{SERIAL}"
        self.dir = f"{TOP}/{self.id}"
        os.mkdir(self.dir)
        oci("spec", "-b", self.dir)
        with open(self.dir + "/config.json") as f:
            self.config = json.load(f)
        self.config["root"] = {"path": BASE, "readonly": True}
        self.process = self.config["process"]
        self.process.update({"terminal": False, "args": list(command) or ["true"]}, **process)
        self.linux = self.config["linux"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        oci("delete", "-f", self.id)

    def own_root(self):
        path = self.dir + "/rootfs"
        shutil.copytree(BASE, path, symlinks=True)
        self.config["root"] = {"path": "rootfs"}
        return path

    def write(self):
        with open(self.dir + "/config.json", "w") as f:
            json.dump(self.config, f)
        return self

    def run(self, *options, **more):
        self.write()
        return oci("run", "-b", self.dir, *options, self.id, **more)

    def output(self):
        r = self.run()
        assert r.returncode == 0, (r.returncode, r.stderr)
        return r.stdout

    def fails(self, text, status=125):
        r = self.run()
        assert r.returncode == status and text in r.stderr, (r.returncode, r.stderr, r.stdout)
        self.leaves_nothing()

    def leaves_nothing(self):
        assert not os.path.exists(f"{ROOT}/{self.id}"), "state"
        for top, dirs, _ in os.walk("/sys/fs/cgroup"):
            assert self.id not in dirs, f"cgroup in {top}"
        with open("/proc/self/mountinfo") as f:
            assert self.id not in f.read(), "mount"

    def start(self, *command):
        """Runs it in the background; gives its pid."""
        if command:
            self.process["args"] = list(command)
        self.write()
        out = self.dir + "/output"
        with open(out, "w") as f:
            r = subprocess.run([*WABE, "--root", ROOT, "run", "-d", "-b", self.dir, self.id], stdin=subprocess.DEVNULL,
                               stdout=f, stderr=f, timeout=60)
        with open(out) as f:
            assert r.returncode == 0, f.read()
        return self.state()["pid"]

    def state(self):
        return json.loads(oci("state", self.id).stdout)

    def exec(self, *args, **more):
        return oci("exec", *args[:-1], self.id, *(args[-1] if isinstance(args[-1], list) else [args[-1]]), **more)

    def stopped(self):
        deadline = time.monotonic() + 20
        while self.state()["status"] != "stopped":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def sh(script, **process):
    return Bundle("sh", "-c", script, **process)


def user_ns(b, base=100000):
    b.linux["namespaces"].append({"type": "user"})
    ids = [{"containerID": 0, "hostID": base, "size": 65536}]
    b.linux["uidMappings"] = b.linux["gidMappings"] = ids
    return b


# --- exit statuses ---

@test
def exit_status_is_the_commands():
    with sh("exit 42") as b:
        assert b.run().returncode == 42
        b.leaves_nothing()
    with sh("kill -9 $$") as b:
        # the first process of a pid namespace is not killed by itself
        assert b.run().returncode in (0, 137)


@test
def command_not_found_is_127():
    with Bundle("no-such-command") as b:
        b.fails('exec: "no-such-command": executable file not found in $PATH', 127)
    with Bundle("/no/such/command") as b:
        b.fails("No such file", 127)


@test
def command_not_executable_is_126():
    with Bundle("/bin/notexec") as b:
        b.fails("Permission denied", 126)
    with Bundle("/etc") as b:
        b.fails("Is a directory", 126)
    with Bundle("notexec") as b:
        b.fails("Permission denied", 126)


@test
def runtime_errors_are_125():
    with Bundle() as b:
        b.config["root"]["path"] = "/no/such/root"
        b.fails("/no/such/root")
    with Bundle() as b:
        b.process["args"] = []
        b.fails("no command")
    with Bundle() as b:
        b.write()
        with open(b.dir + "/config.json", "w") as f:
            f.write("{")
        r = oci("run", "-b", b.dir, b.id)
        assert r.returncode == 125 and "JSON" in r.stderr


@test
def ids_are_checked():
    with Bundle().write() as b:
        for bad in ("", "..", "a/b", "a b", "x" * 2000, "\n"):
            r = oci("run", "-b", b.dir, bad)
            assert r.returncode == 125 and "id" in r.stderr, (bad, r.stderr)


# --- namespaces ---

@test
def namespaces_are_private():
    with sh("for n in /proc/self/ns/*; do readlink $n; done") as b:
        inside = set(b.output().split())
        outside = {os.readlink(f"/proc/self/ns/{n}") for n in os.listdir("/proc/self/ns")}
        shared = {s.split(":")[0] for s in inside & outside}
        assert shared == {"user", "time", "time_for_children"} or shared == {"user", "time"}, shared


@test
def user_namespace_maps_ids():
    with user_ns(sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/x; stat -c %u /tmp/x")) as b:
        b.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
        out = b.output().split()
        assert out == ["0", "100000", "65536"] * 2 + ["0", "0"], out


@test
def time_namespace_has_offsets():
    with sh("cat /proc/uptime") as b:
        b.linux["namespaces"].append({"type": "time"})
        b.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5}}
        assert float(b.output().split()[0]) > 1000000


@test
def hostname_and_domainname():
    with sh("hostname; cat /proc/sys/kernel/domainname") as b:
        b.config.update(hostname="cell", domainname="comb.example")
        assert b.output().split() == ["cell", "comb.example"]


@test
def namespaces_are_shared_by_path():
    with Bundle() as first:
        pid = first.start("sleep", "1000")
        with sh("readlink /proc/self/ns/net; readlink /proc/self/ns/pid; ps") as b:
            for n in b.linux["namespaces"]:
                if n["type"] in ("network", "pid"):
                    n["path"] = f"/proc/{pid}/ns/" + {"network": "net", "pid": "pid"}[n["type"]]
            out = b.output()
            assert os.readlink(f"/proc/{pid}/ns/net") in out and os.readlink(f"/proc/{pid}/ns/pid") in out
            assert "sleep 1000" in out


@test
def user_namespace_is_shared_by_path():
    with user_ns(Bundle()) as first:
        pid = first.start("sleep", "1000")
        with sh("cat /proc/self/uid_map; readlink /proc/self/ns/net") as b:
            b.linux["namespaces"] = [n for n in b.linux["namespaces"] if n["type"] != "network"] + [
                {"type": "user", "path": f"/proc/{pid}/ns/user"}, {"type": "network", "path": f"/proc/{pid}/ns/net"}]
            out = b.output()
            assert "100000" in out and os.readlink(f"/proc/{pid}/ns/net") in out, out


# --- file systems ---

def mount_options(text, target):
    found = None
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[4] == target:
            found = set(fields[5].split(",")) | set(fields[fields.index("-") + 3].split(","))
    return found


@test
def mounts_have_their_flags():
    with sh("cat /proc/self/mountinfo; touch /data/x && cat /file") as b:
        os.mkdir(b.dir + "/src")
        with open(b.dir + "/one", "w") as f:
            f.write("content")
        b.config["root"] = {"path": b.own_root() and "rootfs"}
        b.config["mounts"] += [
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "noexec", "ro", "size=1m"]},
            {"destination": "/data", "type": "bind", "source": b.dir + "/src", "options": ["rbind", "nosuid", "noexec"]},
            {"destination": "/file", "source": b.dir + "/one", "options": ["bind", "ro"]},
            {"destination": "/made/for/it", "source": b.dir + "/src", "options": ["bind", "ro"]}]
        out = b.output()
        assert {"nosuid", "nodev", "noexec", "ro", "size=1024k"} <= mount_options(out, "/tmp"), out
        assert {"nosuid", "noexec", "rw"} <= mount_options(out, "/data"), out
        assert "ro" in mount_options(out, "/file") and "ro" in mount_options(out, "/made/for/it")
        assert "nosuid" in mount_options(out, "/proc") and "ro" in mount_options(out, "/sys")
        assert out.endswith("content") and os.path.exists(b.dir + "/src/x")


@test
def recursive_readonly_reaches_submounts():
    with sh("touch /data/sub/x 2>&1; cat /proc/self/mountinfo") as b:
        b.own_root()
        os.makedirs(b.dir + "/src/sub")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", b.dir + "/src/sub"], check=True)
        try:
            b.config["mounts"].append({"destination": "/data", "type": "bind", "source": b.dir + "/src", "options": ["rbind", "rro"]})
            out = b.output()
            assert "Read-only" in out and "ro" in mount_options(out, "/data/sub")
        finally:
            subprocess.run(["umount", b.dir + "/src/sub"], check=True)


@test
def bind_shows_owners_when_idmapped():
    with user_ns(sh("stat -c %u:%g /data/f; touch /data/new")) as b:
        root = b.own_root()
        for top, dirs, files in os.walk(root):
            for name in dirs + files:
                os.chown(os.path.join(top, name), 100000, 100000, follow_symlinks=False)
        os.mkdir(b.dir + "/src")
        os.chown(b.dir + "/src", 0, 0)
        open(b.dir + "/src/f", "w").close()
        os.chown(b.dir + "/src/f", 1000, 10)
        b.config["mounts"].append({"destination": "/data", "type": "bind", "source": b.dir + "/src", "options": ["rbind", "idmap"]})
        assert b.output().strip() == "1000:10"
        st = os.stat(b.dir + "/src/new")
        assert (st.st_uid, st.st_gid) == (0, 0)


@test
def propagation_is_private_unless_asked_for():
    with sh("grep -E ' /data | / ' /proc/self/mountinfo") as b:
        b.own_root()
        os.mkdir(b.dir + "/src")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", b.dir + "/src"], check=True)
        try:
            subprocess.run(["mount", "--make-shared", b.dir + "/src"], check=True)
            entry = {"destination": "/data", "type": "bind", "source": b.dir + "/src", "options": ["rbind"]}
            b.config["mounts"].append(entry)
            out = b.output()
            assert "shared:" not in out and "master:" not in out, out
            entry["options"] = ["rbind", "rslave"]
            assert "master:" in b.output()
            entry["options"] = ["rbind", "rshared"]
            assert "shared:" in b.output()
            b.process["args"] = ["sh", "-c", "grep ' /data' /proc/self/mountinfo"]
            os.mkdir(b.dir + "/src/sub")
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", b.dir + "/src/sub"], check=True)
            for option in ("private", "slave"): # not recursive: what lies inside is no peer of the host's either
                entry["options"] = ["rbind", option]
                out = b.output()
                assert "/data/sub" in out and "shared:" not in out, (option, out)
        finally:
            subprocess.run(["umount", "-R", b.dir + "/src"], check=True)


@test
def masked_and_readonly_paths():
    with sh("cat /proc/keys /proc/timer_list; ls /sys/firmware; echo 1 > /proc/sys/kernel/panic || echo refused") as b:
        r = b.run()
        assert r.stdout.split() == ["refused"], r.stdout


@test
def readonly_root_and_tmpfs_copy_up():
    with sh("touch /x 2>&1; cat /etc/passwd; touch /etc/y && echo written; stat -c %h:%s:%b /etc/hole; stat -c %a:%u /home") as b:
        root = b.own_root()
        os.chmod(root + "/home", 0o751)
        with open(root + "/etc/hole", "w") as f:
            f.truncate(8 << 20)
        os.link(root + "/etc/hole", root + "/etc/hole2")
        b.config["root"]["readonly"] = True
        for target in ("/etc", "/home"):
            b.config["mounts"].append({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
        out = b.output()
        assert "Read-only" in out and "bob" in out and "written" in out and out.strip().endswith("2:8388608:0\n751:0"), out


@test
def devices_are_made_and_confined():
    with sh("echo x > /dev/null && head -c 4 /dev/urandom | wc -c; ls -l /dev/mine; mknod /dev/mem2 c 1 1 && cat /dev/mem2 2>&1") as b:
        b.process["capabilities"] = {k: ["CAP_MKNOD"] for k in ("bounding", "effective", "permitted")}
        b.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 7, "fileMode": 0o640, "uid": 3, "gid": 4}]
        r = b.run()
        assert r.stdout.startswith("4\n") and "crw-r-----" in r.stdout and "3" in r.stdout, r.stdout
        assert "not permitted" in r.stdout, r.stdout


@test
def devices_work_in_a_user_namespace():
    with user_ns(sh("echo x > /dev/null; head -c 4 /dev/zero | wc -c; stat -c '%t:%T %u %a' /dev/mine")) as b:
        b.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600, "uid": 0, "gid": 0}]
        assert b.output().split("\n")[:2] == ["4", "1:7 0 600"]


@test
def links_in_the_image_cannot_lead_a_mount_out():
    with sh("cat /proc/self/mountinfo; ls -d /data/esc /abs/x 2>&1") as b:
        root = b.own_root()
        victim = TOP + "/victim"
        os.makedirs(victim + "/sub", exist_ok=True)
        os.makedirs(root + victim)
        os.rmdir(root + "/data")
        os.symlink("../../../../../../../../.." + victim, root + "/data")
        os.symlink(victim, root + "/abs")
        os.mkdir(b.dir + "/src")
        for target in ("/data/esc", "/abs/x"):
            b.config["mounts"].append({"destination": target, "type": "bind", "source": b.dir + "/src", "options": ["bind"]})
        out = b.output()
        assert sorted(os.listdir(victim)) == ["sub"], os.listdir(victim)
        assert victim + "/esc" in out, "inside the root the link leads to the same name: " + out


@test
def proc_behind_a_link_does_not_unmask():
    with sh("cat /real/keys 2>&1 | wc -c") as b:
        root = b.own_root()
        os.rmdir(root + "/proc")
        os.mkdir(root + "/real")
        os.symlink("/real", root + "/proc")
        assert b.output().strip() == "0"


@test
def mounts_inside_proc_are_refused():
    with Bundle() as b:
        os.mkdir(b.dir + "/src")
        b.config["mounts"].append({"destination": "/proc/sys", "type": "bind", "source": b.dir + "/src", "options": ["bind"]})
        b.fails("inside /proc")


@test
def missing_sources_fail_cleanly():
    with Bundle() as b:
        b.config["mounts"].append({"destination": "/data", "type": "bind", "source": "/no/such/dir", "options": ["bind"]})
        b.fails("/no/such/dir")
    with Bundle() as b:
        b.config["mounts"].append({"destination": "/data", "type": "nofs", "source": "x"})
        b.fails("nofs")
    with Bundle() as b:
        b.config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "x", "options": ["nonsense=1"]})
        b.fails("nonsense")


# --- the process ---

@test
def capabilities_are_what_is_asked_for():
    with sh("grep ^Cap /proc/self/status") as b:
        b.process["capabilities"] = {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"],
                                     "permitted": ["CAP_CHOWN", "CAP_KILL"], "inheritable": [], "ambient": []}
        out = dict(line.split(":\t") for line in b.output().splitlines())
        assert int(out["CapBnd"], 16) == 0x21 and int(out["CapPrm"], 16) == 0x21, out
    with sh("grep ^Cap /proc/self/status") as b:
        sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
        b.process["capabilities"] = {s: ["CAP_NET_RAW"] for s in sets}
        b.process["user"] = {"uid": 1000, "gid": 1000}
        out = dict(line.split(":\t") for line in b.output().splitlines())
        assert {int(v, 16) for v in out.values()} == {1 << 13}, out


@test
def no_new_privs_and_seccomp():
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
    for nnp in (False, True):
        with sh("grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status; mkdir /tmp/d 2>&1") as b:
            b.process["noNewPrivileges"] = nnp
            b.linux["seccomp"] = profile
            r = b.run()
            assert f"NoNewPrivs:\t{int(nnp)}" in r.stdout and "Seccomp:\t2" in r.stdout, (r.stdout, r.stderr)
            assert "not supported" in r.stdout and "0000000020000420" in r.stdout, r.stdout


@test
def rlimits_apply_and_fail_clearly():
    with sh("ulimit -n; ulimit -Hn") as b:
        b.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
        assert b.output().split() == ["100", "200"]
    with Bundle() as b:
        b.process["rlimits"] = [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]
        b.fails("RLIMIT_NONSENSE")
    with open("/proc/self/status") as f:
        caps = next(int(line.split()[1], 16) for line in f if line.startswith("CapEff"))
    if not caps & 1 << 24:
        with Bundle() as b:
            b.process["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 18446744073709551615, "hard": 18446744073709551615}]
            r = b.run()
            assert r.returncode == 0 or "CAP_SYS_RESOURCE" in r.stderr, r.stderr


@test
def identity_home_umask_and_groups():
    with sh("id -u; id -g; id -G; echo $HOME; umask; pwd") as b:
        b.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [10, 20], "umask": 0o27}
        b.process["cwd"] = "/home/bob"
        out = b.output().split("\n")
        assert out[:6] == ["1000", "1000", "1000 10 20", "/home/bob", "0027", "/home/bob"], out


@test
def unmapped_user_is_an_error():
    with user_ns(Bundle()) as b:
        b.process["user"] = {"uid": 70000, "gid": 0}
        b.fails("70000")


@test
def oom_score_is_set():
    with sh("cat /proc/self/oom_score_adj") as b:
        b.process["oomScoreAdj"] = 500
        assert b.output().strip() == "500"


@test
def sysctls_of_own_namespaces_alone():
    with sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced") as b:
        b.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
        assert b.output().split() == ["1", "1"]
    for name in ("kernel.panic", "vm.swappiness", "net.ipv4/../../kernel.panic"):
        with Bundle() as b:
            b.linux["sysctl"] = {name: "1"}
            b.fails("")
    with Bundle() as b:
        b.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
        b.linux["namespaces"] = [n for n in b.linux["namespaces"] if n["type"] != "network"]
        b.fails("not private")


@test
def working_directory_is_made():
    with sh("pwd") as b:
        b.own_root()
        b.process["cwd"] = "/made/here"
        assert b.output().strip() == "/made/here"


@test
def descriptors_do_not_leak():
    with sh("ls /proc/self/fd; ls -l /proc/1/fd") as b:
        b.write()
        extra = [os.open("/", os.O_RDONLY), os.open("/etc", os.O_RDONLY)]
        for fd in extra:
            os.set_inheritable(fd, True)
        r = b.run(pass_fds=extra)
        for fd in extra:
            os.close(fd)
        assert r.stdout.split("\n")[0:4] == ["0", "1", "2", "3"], r.stdout
        assert " /etc" not in r.stdout and "-> /\n" not in r.stdout.replace("-> /proc", ""), r.stdout


@test
def the_hosts_null_device_stays_outside():
    look = "stat -L -c %d /dev/null /proc/self/fd/0"
    with sh(look) as b:
        mine, given = b.output().split()
        assert mine == given, "the descriptor is of the host's /dev"
        oci("delete", "-f", b.id)
        b.start("sleep", "1000")
        mine, given = b.exec(["sh", "-c", look]).stdout.split()
        assert mine == given, "the descriptor of an exec is of the host's /dev"


@test
def preserved_descriptors_arrive():
    with sh("cat <&3") as b:
        b.write()
        r, w = os.pipe()
        os.write(w, b"hello")
        os.close(w)
        p = subprocess.run(["sh", "-c", f"exec 3<&{r}; exec \"$@\"", "sh", *WABE, "--root", ROOT, "run", "--preserve-fds", "1",
                            "-b", b.dir, b.id], pass_fds=[r], capture_output=True, text=True, timeout=60)
        os.close(r)
        assert p.stdout == "hello", (p.stdout, p.stderr)


@test
def cwd_of_a_descriptor_is_refused():
    for n in range(0, 16):
        with Bundle("cat", "etc/hostname") as b:
            b.process["cwd"] = f"/proc/self/fd/{n}"
            r = b.run(pass_fds=[])
            assert r.returncode == 125, (n, r.stdout, r.stderr)
        with Bundle(f"/proc/self/fd/{n}/../../../../../bin/true") as b:
            assert b.run().returncode in (126, 127)


@test
def own_program_cannot_be_overwritten():
    program = os.path.realpath(shutil.which(WABE[0]) or WABE[0])
    with open(program, "rb") as f:
        before = f.read()
    with Bundle("/entry") as b:
        root = b.own_root()
        with open(root + "/entry", "w") as f:
            f.write("#!/proc/self/exe\n")
        os.chmod(root + "/entry", 0o755)
        caps = ["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]
        b.process["capabilities"] = {k: caps for k in ("bounding", "effective", "permitted")}
        assert b.run().returncode != 0  # the runtime itself, with arguments that it does not know
    # a process that waits in the container while the runtime executes /proc/self/exe by way of exec
    with Bundle() as b:
        root = b.own_root()
        with open(root + "/grab", "w") as f:
            f.write("#!/bin/sh\nwhile :; do for p in /proc/[0-9]*; do\n"
                    "case $(readlink $p/exe) in */busybox|'') ;; *) exec 7<$p/exe && echo got >> /grabbed\n"
                    "(echo pwned > /proc/self/fd/7) 2>> /errors && echo yes > /overwritten;; esac; done; done\n")
        os.chmod(root + "/grab", 0o755)
        caps = ["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]
        b.process["capabilities"] = {k: caps for k in ("bounding", "effective", "permitted")}
        b.start("/grab")
        for _ in range(20):
            oci("exec", b.id, "/proc/self/exe", "list")
        oci("kill", "-a", b.id, "KILL")
        assert not os.path.exists(root + "/overwritten")
    with open(program, "rb") as f:
        assert f.read() == before


@test
def keyring_is_its_own():
    with sh("cat /proc/self/status | head -1; wc -c < /proc/keys") as b:
        b.linux["maskedPaths"] = []
        assert b.run().returncode == 0


def with_secret_key():
    """In a session keyring of its own: a key that only who possesses that keyring can see."""
    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    add_key, keyctl, session = 248, 250, ctypes.c_int(-3)
    libc.syscall(keyctl, 1, None)
    key = libc.syscall(add_key, b"user", b"wabe-test-secret", b"x", ctypes.c_size_t(1), session)
    assert key > 0 and libc.syscall(keyctl, 5, ctypes.c_int(key), 0x3f000000) == 0


@test
def the_callers_keyring_is_not_handed_on():
    if os.uname().machine != "x86_64":
        return
    with Bundle("cat", "/proc/keys") as b:
        b.linux["maskedPaths"] = []
        assert "wabe-test-secret" in subprocess.run(["cat", "/proc/keys"], capture_output=True, text=True,
                                                    preexec_fn=with_secret_key).stdout
        assert "wabe-test-secret" not in b.run(preexec_fn=with_secret_key).stdout
        oci("delete", "-f", b.id)
        b.start("sleep", "1000")
        r = b.exec(["cat", "/proc/keys"], preexec_fn=with_secret_key)
        assert r.returncode == 0 and "wabe-test-secret" not in r.stdout, r.stdout


# --- terminals ---

@test
def terminal_is_the_containers():
    with sh("tty; ls -l /dev/console | cut -c1; stty size; test -t 0 && echo is-tty", terminal=True,
            consoleSize={"height": 30, "width": 90}) as b:
        b.write()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(b.dir + "/console")
        listener.listen()
        r = oci("run", "-d", "--console-socket", b.dir + "/console", "-b", b.dir, b.id)
        assert r.returncode == 0, r.stderr
        connection = listener.accept()[0]
        fds = array.array("i")
        _, control, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
        fds.frombytes(control[0][2][:4])
        out = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(fds[0], 1000):
                out += chunk
        os.close(fds[0])
        assert out.decode().split() == ["/dev/pts/0", "c", "30", "90", "is-tty"], out


@test
def terminal_is_relayed_in_the_foreground():
    with sh("read x; echo got $x; exit 7", terminal=True) as b:
        b.write()
        out, status = on_terminal("run", "-b", b.dir, b.id, typed=b"words\n")
        assert b"got words" in out and status == 7, (out, status)


# --- life ---

@test
def create_start_state_kill_delete():
    with Bundle("sleep", "1000") as b:
        b.write()
        quiet("create", "-b", b.dir, "--pid-file", b.dir + "/pid", b.id)
        state = b.state()
        with open(b.dir + "/pid") as f:
            assert state["status"] == "created" and state["pid"] == int(f.read())
        assert state["bundle"] == b.dir and state["ociVersion"].startswith("1.")
        assert oci("create", "-b", b.dir, b.id).returncode == 125
        assert oci("start", b.id).returncode == 0
        assert b.state()["status"] == "running"
        assert oci("start", b.id).returncode == 125
        assert oci("delete", b.id).returncode == 125
        assert b.id in oci("list", "-q").stdout.split()
        assert oci("kill", b.id, "KILL").returncode == 0
        b.stopped()
        assert oci("kill", b.id).returncode == 125
        assert oci("delete", b.id).returncode == 0
        b.leaves_nothing()
        assert oci("state", b.id).returncode == 125


@test
def a_start_that_comes_twice_touches_no_descriptor_of_the_containers():
    with sh("for n in 3 4 5 6 7 8 9; do eval \"exec $n<>/tmp/f\"; done; touch /tmp/open; sleep 1000") as b:
        b.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        pid = b.start()
        deadline = time.monotonic() + 20
        while not os.path.exists(f"/proc/{pid}/root/tmp/open"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        path = f"{ROOT}/{b.id}/state.json"
        with open(path) as f:
            state = json.load(f)
        state["status"] = "created"  # as if a crash had come before it was written down
        assert all(3 <= n <= 9 for n in state["container"]["gate"][:2]), state
        with open(path, "w") as f:
            json.dump(state, f)
        r = oci("start", b.id)
        assert r.returncode == 125 and "started already" in r.stderr, r.stderr
        assert os.path.getsize(f"/proc/{pid}/root/tmp/f") == 0


@test
def create_reports_a_missing_command_and_start_one_that_went():
    with Bundle("nonesuch") as b:
        b.write()
        r = oci("create", "-b", b.dir, b.id)
        assert r.returncode == 127 and "not found" in r.stderr
        b.leaves_nothing()
    with Bundle("/tool") as b:
        root = b.own_root()
        shutil.copy(root + "/bin/busybox", root + "/tool")
        b.write()
        quiet("create", "-b", b.dir, b.id)
        os.unlink(root + "/tool")
        r = oci("start", b.id)
        assert r.returncode == 127 and "No such file" in r.stderr


@test
def created_container_dies_with_a_killed_create():
    with Bundle("sleep", "1000") as b:
        hook = b.dir + "/hook"
        os.mkfifo(b.dir + "/fifo")
        with open(hook, "w") as f:
            f.write(f"#!/bin/sh\necho reached > {b.dir}/fifo\nsleep 1000\n")
        os.chmod(hook, 0o755)
        b.config["hooks"] = {"createRuntime": [{"path": hook}]}
        b.write()
        p = subprocess.Popen([*WABE, "--root", ROOT, "create", "-b", b.dir, b.id], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(b.dir + "/fifo") as f:
            assert f.read() == "reached\n"
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            children = [int(c) for c in f.read().split()]
        p.kill()
        p.wait()
        deadline = time.monotonic() + 20
        first = children[0]
        while os.path.exists(f"/proc/{first}") and "Z" not in open(f"/proc/{first}/stat").read().rsplit(")", 1)[1].split()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for c in children[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(c, signal.SIGKILL)
        # the id can be used again, and nothing of the first attempt is in the way
        b.config["hooks"] = {}
        b.process["args"] = ["true"]
        r = b.run()
        assert r.returncode == 0, r.stderr
        b.leaves_nothing()


@test
def signals_pass_through_run():
    with sh("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done") as b:
        b.write()
        p = subprocess.Popen([*WABE, "--root", ROOT, "run", "-b", b.dir, b.id], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert p.stdout.readline() == b"ready\n"
        p.terminate()
        assert p.wait(60) == 9


@test
def exec_enters_the_same_confinement():
    with user_ns(Bundle()) as b:
        b.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                              "syscalls": [{"names": ["sync"], "action": "SCMP_ACT_ERRNO"}]}
        b.process["noNewPrivileges"] = False
        pid = b.start("sleep", "1000")
        script = ("for n in /proc/self/ns/*; do readlink $n; done; grep -E '^(Seccomp|CapEff|CapBnd|NoNewPrivs):' /proc/self/status;"
                  "cat /proc/self/uid_map /proc/self/cgroup; pwd; ls /proc/self/fd | wc -l")
        r = b.exec(["sh", "-c", script])
        assert r.returncode == 0, r.stderr
        with open(f"/proc/{pid}/status") as f:
            lines = [line.strip() for line in f if line.startswith(("Seccomp:", "CapEff:", "CapBnd:", "NoNewPrivs:"))]
        for line in lines:
            assert line in r.stdout, (line, r.stdout)
        for n in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{n}") in r.stdout, n
        assert "100000" in r.stdout and ":/\n" in r.stdout, r.stdout
        assert r.stdout.strip().endswith("\n4"), r.stdout


@test
def exec_options_and_statuses():
    with Bundle() as b:
        b.start("sleep", "1000")
        r = b.exec("-u", "1000:10", "--cwd", "/home/bob", "-e", "A=b", ["sh", "-c", "id -u; id -g; pwd; echo $A; exit 3"])
        assert r.returncode == 3 and r.stdout.split() == ["1000", "10", "/home/bob", "b"], (r.stdout, r.stderr)
        assert b.exec(["nonesuch"]).returncode == 127
        r = b.exec("--preserve-fds", "1", ["ls", "/proc/self/fd"])  # it is not open: nothing of the runtime's goes in its place
        assert r.returncode == 125 and "descriptor 3 is not open" in r.stderr, (r.stdout, r.stderr)
        assert b.exec(["/bin/notexec"]).returncode == 126
        r = b.exec("--cwd", "/proc/self/fd/3", ["true"])
        assert r.returncode == 125, r.stderr
        process = copy.deepcopy(b.process)
        process.update(args=["sh", "-c", "echo from file"], cwd="/")
        with open(b.dir + "/process.json", "w") as f:
            json.dump(process, f)
        r = oci("exec", "-p", b.dir + "/process.json", b.id)
        assert r.stdout == "from file\n", r.stderr
        quiet("exec", "-d", "--pid-file", b.dir + "/exec.pid", b.id, "sleep", "100")
        with open(b.dir + "/exec.pid") as f:
            assert os.readlink(f"/proc/{int(f.read())}/exe").endswith("busybox")
        assert "sleep 100\n" in oci("ps", b.id).stdout + "\n"


@test
def exec_with_a_terminal():
    with Bundle() as b:
        b.start("sleep", "1000")
        out, status = on_terminal("exec", "-t", b.id, "sh", "-c", "tty; exit 5")
        assert b"/dev/pts/0" in out and status == 5, (out, status)


@test
def exec_into_what_does_not_run_fails():
    with Bundle("true") as b:
        b.start()
        b.stopped()
        r = b.exec(["true"])
        assert r.returncode == 125 and "not running" in r.stderr


@race
def exec_that_the_container_stops_is_given_up():
    with user_ns(Bundle()) as b:
        b.start("sh", "-c", "while :; do kill -STOP -1; done")
        r = b.exec(["true"])
        assert r.returncode == 125 and "in time" in r.stderr, r.stderr
        assert oci("ps", b.id).stdout.count("\n") == 2, oci("ps", b.id).stdout


@race
def exec_inherits_nothing_of_its_caller():
    with user_ns(Bundle()) as b:
        b.start("sh", "-c", "while :; do kill -STOP -1; done")
        holder = os.open(TOP, os.O_RDONLY | os.O_DIRECTORY)
        child = subprocess.Popen([*WABE, "--root", ROOT, "exec", b.id, "true"], pass_fds=[holder],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            links = None
            deadline = time.monotonic() + 20
            while links is None:
                assert time.monotonic() < deadline
                pids = json.loads(oci("ps", "-f", "json", b.id).stdout)
                with contextlib.suppress(FileNotFoundError):  # who makes the joining process goes again
                    joined = max(pids, key=lambda pid: os.stat(f"/proc/{pid}").st_ctime_ns)
                    if len(pids) > 1:
                        links = [os.readlink(f"/proc/{joined}/fd/{n}") for n in os.listdir(f"/proc/{joined}/fd")]
            assert not any(TOP in link for link in links), links
        finally:
            child.wait()
            os.close(holder)


@test
def pause_and_resume():
    with sh("while :; do echo x; sleep 0.01; done") as b:
        b.start()
        assert oci("pause", b.id).returncode == 0
        assert b.state()["status"] == "paused"
        size = os.path.getsize(b.dir + "/output")
        assert b.exec(["true"]).returncode == 125
        time.sleep(0.1)
        assert os.path.getsize(b.dir + "/output") == size
        assert oci("resume", b.id).returncode == 0 and b.state()["status"] == "running"
        assert oci("resume", b.id).returncode == 125
        assert oci("pause", b.id).returncode == 0
        assert oci("delete", "-f", b.id).returncode == 0
        b.leaves_nothing()


@test
def a_reused_pid_is_not_the_container():
    with Bundle("sleep", "1000") as b:
        b.start()
        file = f"{ROOT}/{b.id}/state.json"
        with open(file) as f:
            state = json.load(f)
        other = subprocess.Popen(["sleep", "1000"])
        real = state["container"]["pid"]
        state["container"]["pid"] = other.pid
        with open(file, "w") as f:
            json.dump(state, f)
        assert b.state()["status"] == "stopped"
        assert oci("kill", b.id, "KILL").returncode == 125
        assert b.exec(["true"]).returncode == 125
        assert oci("delete", "-f", b.id).returncode == 0
        assert other.poll() is None
        other.kill()
        other.wait()
        deadline = time.monotonic() + 20  # the cgroup was killed with the container
        while os.path.exists(f"/proc/{real}") and time.monotonic() < deadline:
            if open(f"/proc/{real}/stat").read().rsplit(")", 1)[1].split()[0] == "Z":
                break
            time.sleep(0.01)
        b.leaves_nothing()


@test
def update_changes_limits():
    with Bundle("sleep", "1000") as b:
        pid = b.start()
        r = oci("update", "--pids-limit", "77", "--memory", "100000000", b.id)
        assert r.returncode == 0, r.stderr
        for line in open(f"/proc/{pid}/cgroup"):
            _, controllers, path = line.strip().split(":", 2)
            if "pids" in controllers.split(","):
                assert open(f"/sys/fs/cgroup/pids{path}/pids.max").read().strip() == "77"


@test
def hooks_run_in_order_with_the_state():
    with sh("echo command >> /data/log") as b:
        b.own_root()
        os.mkdir(b.dir + "/data")
        b.config["mounts"].append({"destination": "/data", "type": "bind", "source": b.dir + "/data", "options": ["bind"]})
        b.config["hooks"] = {}
        for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
            hook = f"{b.dir}/{kind}"
            with open(hook, "w") as f:
                f.write(f"#!/bin/sh\ncat > {b.dir}/{kind}.json\necho {kind} $1 >> {b.dir}/data/log\n")
            os.chmod(hook, 0o755)
            b.config["hooks"][kind] = [{"path": hook, "args": [kind, "arg"], "env": ["PATH=/bin"], "timeout": 10}]
        inside = b.dir + "/rootfs/hook"
        with open(inside, "w") as f:
            f.write("#!/bin/sh\ncat > /data/start.json\necho startContainer >> /data/log\n")
        os.chmod(inside, 0o755)
        b.config["hooks"]["startContainer"] = [{"path": "/hook", "env": ["PATH=/bin"]}]
        r = b.run()
        assert r.returncode == 0, r.stderr
        with open(b.dir + "/data/log") as f:
            lines = f.read().split("\n")[:-1]
        expected = ["prestart arg", "createRuntime arg", "createContainer arg", "startContainer", "command", "poststart arg",
                    "poststop arg"]
        assert sorted(lines) == sorted(expected) and lines[:4] == expected[:4] and lines[-1] == expected[-1], lines
        with open(b.dir + "/createRuntime.json") as f:
            state = json.load(f)
        assert state["id"] == b.id and state["status"] == "creating" and state["pid"] > 1 and state["bundle"] == b.dir


@test
def a_failing_hook_undoes_all():
    with Bundle() as b:
        b.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
        b.fails("/bin/false")
    with Bundle() as b:
        b.config["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}
        b.fails("in time")


@test
def unsupported_is_an_error_and_unknown_is_not():
    with Bundle() as b:
        b.linux["intelRdt"] = {"closID": "x"}
        b.fails("intelRdt")
    with Bundle() as b:
        b.config["futureField"] = {"a": 1}
        assert b.run().returncode == 0
    with Bundle() as b:
        b.process["apparmorProfile"] = "x"
        if not os.path.exists("/sys/kernel/security/apparmor"):
            b.fails("AppArmor")


@test
def descriptions():
    assert "wabe oci version" in oci("--version").stdout
    assert "pid" in json.loads(oci("features").stdout)["linux"]["namespaces"]
    r = oci("nonesuch")
    assert r.returncode == 125 and "nonesuch" in r.stderr


def main():
    make_root(BASE)
    print(f"1..{len(TESTS)}", flush=True)
    failed = 0
    only = sys.argv[1:]
    for n, f in enumerate(TESTS, 1):
        name = f.__name__.replace("_", " ")
        if only and f.__name__ not in only:
            print(f"ok {n} - {name} # SKIP not asked for")
            continue
        if getattr(f, "race", False) and not only:
            print(f"ok {n} - {name} # SKIP a race, run by ./test --all")
            continue
        try:
            f()
            print(f"ok {n} - {name}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {n} - {name}")
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end="", flush=True)
    return failed > 0


if __name__ == "__main__":
    try:
        status = main()
    finally:
        shutil.rmtree(TOP, ignore_errors=True)
    sys.exit(status)
