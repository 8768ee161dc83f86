#!/usr/bin/env python3
"""AppArmor, which Debian's kernel has: processes of bundles run under the profile that config.json names, under one like
Docker's default too, and not at all when it is not loaded. In a lab machine. SELinux is not there and says so."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, need, run, test

WABE = os.environ.get("WABE_BUILD", "build") + "/wabe"
# The rules of Docker's default profile in substance: everything but what reaches the kernel of the host.
PROFILE = """@{PROC}=/proc/
profile wabe-lab flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal,
  deny @{PROC}/* w,
  deny @{PROC}/sys/** wklx,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  ptrace (trace,read,tracedby,readby) peer=wabe-lab,
}
"""


def setup():
    need("apparmor_parser", shutil.which("apparmor_parser"))
    if not os.path.exists("/sys/kernel/security/apparmor"):
        subprocess.run(["mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"], check=True)
    need("AppArmor", os.path.exists("/sys/kernel/security/apparmor"))
    subprocess.run(["apparmor_parser", "-r", "-K"], input=PROFILE, text=True, check=True)
    d = tempfile.mkdtemp(dir="/var/tmp")
    os.makedirs(d + "/rootfs/bin")
    for name in ("proc", "dev", "sys", "mnt", "tmp"):
        os.mkdir(f"{d}/rootfs/{name}")
    shutil.copy("/bin/busybox", d + "/rootfs/bin/busybox")
    for name in "sh cat echo mount umount sleep true mkdir".split():
        os.symlink("busybox", f"{d}/rootfs/bin/{name}")
    subprocess.run([WABE, "oci", "spec", "-b", d], check=True)
    return d


def oci(d, *args, **kw):
    return subprocess.run([WABE, "oci", "--root", d + "/run", *args], capture_output=True, text=True, timeout=300, **kw)


def bundle(d, *command, user=False, **process):
    """With all capabilities, so that it is the profile which refuses."""
    with open(d + "/config.json") as f:
        c = json.load(f)
    for name in ("apparmorProfile", "selinuxLabel"):
        c["process"].pop(name, None)
    sets = ("bounding", "effective", "permitted", "inheritable")
    c["process"].update(terminal=False, args=list(command), noNewPrivileges=False,
                        capabilities={s: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL"] for s in sets}, **process)
    c["root"]["readonly"] = False
    c["linux"].pop("maskedPaths", None)
    c["linux"].pop("readonlyPaths", None)
    spaces = [n for n in c["linux"]["namespaces"] if n["type"] != "user"]
    c["linux"]["namespaces"] = spaces + ([{"type": "user"}] if user else [])
    maps = [{"containerID": 0, "hostID": 0 if not user else 100000, "size": 65536}]
    c["linux"].update(uidMappings=maps if user else [], gidMappings=maps if user else [])
    with open(d + "/config.json", "w") as f:
        json.dump(c, f)


TRIES = """cat /proc/self/attr/apparmor/current
echo h > /proc/sysrq-trigger && echo reached
echo 1 > /proc/sys/kernel/printk && echo reached
mount -t tmpfs none /mnt && echo reached
echo fine > /tmp/f && cat /tmp/f"""


@test
def without_a_profile_the_host_can_be_reached(d):
    bundle(d, "sh", "-c", TRIES)
    r = oci(d, "run", "-b", d, "free")
    equal(r.stdout.split()[0], "unconfined")
    contains(r.stdout, "reached")


@test
def the_profile_confines(d):
    bundle(d, "sh", "-c", TRIES, apparmorProfile="wabe-lab")
    r = oci(d, "run", "-b", d, "confined")
    equal((r.returncode, r.stdout), (0, "wabe-lab (enforce)\nfine\n"))


@test
def also_without_new_privileges(d):
    bundle(d, "sh", "-c", TRIES, apparmorProfile="wabe-lab")
    with open(d + "/config.json") as f:
        c = json.load(f)
    c["process"]["noNewPrivileges"] = True
    with open(d + "/config.json", "w") as f:
        json.dump(c, f)
    equal(oci(d, "run", "-b", d, "nnp").stdout, "wabe-lab (enforce)\nfine\n")


@test
def exec_enters_the_same_profile_or_another(d):
    bundle(d, "sleep", "100000", apparmorProfile="wabe-lab")
    log = open(d + "/log", "w+")
    subprocess.run([WABE, "oci", "--root", d + "/run", "run", "-d", "-b", d, "long"], stdin=subprocess.DEVNULL, stdout=log,
                   stderr=log, check=True)
    try:
        look = ("cat", "/proc/self/attr/apparmor/current")
        equal(oci(d, "exec", "long", *look).stdout, "wabe-lab (enforce)\n")
        equal(oci(d, "exec", "--apparmor", "unconfined", "long", *look).stdout, "unconfined\n")
        r = oci(d, "exec", "--apparmor", "nowhere", "long", *look)
        assert r.returncode != 0 and r.stdout == "", r
        contains(r.stderr, "nowhere")
    finally:
        oci(d, "delete", "-f", "long")


@test
def a_profile_that_is_not_loaded_is_refused(d):
    bundle(d, "true", apparmorProfile="nowhere")
    r = oci(d, "run", "-b", d, "unknown")
    assert r.returncode != 0, r
    contains(r.stderr, '"exec nowhere" (is the profile loaded?)')
    equal(json.loads(oci(d, "list", "-f", "json").stdout or "[]") or [], [])


@test
def selinux_is_not_there_and_says_so(d):
    bundle(d, "true", selinuxLabel="system_u:system_r:container_t:s0")
    r = oci(d, "run", "-b", d, "label")
    assert r.returncode != 0, r
    contains(r.stderr, "this kernel has no SELinux")


def close(d):
    if d:
        shutil.rmtree(d)


if __name__ == "__main__":
    run(setup, close)
