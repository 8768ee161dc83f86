#!/usr/bin/env python3
"""A whole Debian as a machine: from a disk image that its own boot loader starts, set up by cloud-init, reached by Debian's
qemu-guest-agent. Takes minutes under the translator: suite "long"."""
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from debianimage import debian_image  # noqa: E402
from tap import contains, equal, need, note, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

BOOT = 1500  # on a busy host; 60 s on an idle one
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFsaWNlIG9mIHRoZSB0ZXN0IG9mIG1hY2hpbmVzIHRvZGF5 alice"


class Place:
    """One daemon and one machine for all tests: a boot takes a minute."""

    def __init__(self):
        need("mmdebstrap", shutil.which("mmdebstrap"))
        need("mkfs.btrfs", shutil.which("mkfs.btrfs"))
        self.disk = debian_image()
        self.d = d = Daemon("mdebian", network=None)
        try:
            d.start()
            d.cli("pool", "create", "fs", "--driver", "btrfs", "--size", "6GiB")
            d.cli("image", "import", "--kind", "disk", "--format", "raw", self.disk, "debian:12", timeout=BOOT)
            d.cli("run", "--vm", "-d", "--name", "deb", "--hostname", "deb.example", "--pool", "fs", "-m", "768m", "--cloud-user", "alice",
                  "--ssh-key", KEY, "--user-data", "#cloud-config\nruncmd:\n- echo run >/root/mark\n", "debian:12", timeout=BOOT)
            started = time.monotonic()
            wait_until(lambda: self.exec("true")[0] == 0, BOOT, "the guest's agent")
            note(f"the agent answers after {time.monotonic() - started:.0f} s")
            equal(self.exec("cloud-init", "status", "--wait")[0], 0, "cloud-init")
        except BaseException:
            print("# " + d.cli("logs", "deb", check=False).stdout[-3000:].replace("\n", "\n# "))
            self.close()
            raise

    def exec(self, *args, **kw):
        r = self.d.cli("exec", *kw.pop("options", ()), "deb", *args, check=False, timeout=BOOT, **kw)
        return r.returncode, r.stdout, r.stderr

    def sh(self, script):
        code, out, err = self.exec("sh", "-c", script)
        equal(code, 0, err)
        return out

    def close(self):
        note("last on the console: " + self.d.cli("logs", "deb", check=False).stdout[-1500:])
        self.d.cli("rm", "-f", "deb", check=False)
        self.d.close()


@test
def boots_by_its_own_loader(p):
    """GRUB's and the system's words are on the console"""
    text = p.d.out("logs", "deb")
    contains(text, "GRUB starts Debian")
    contains(text, "login:")


@test
def seed(p):
    """cloud-init has made user, key, host name and network of the medium, and run what it was told"""
    equal(p.sh("hostname").strip(), "deb")
    contains(p.sh("cat /home/alice/.ssh/authorized_keys"), KEY)
    equal(p.sh("cat /root/mark"), "run\n")
    address = p.d.show("deb")["nics"][0]["ipv4"]
    contains(p.sh("ip -o -4 addr"), address)
    contains(p.sh("ip route"), "default via")


@test
def execs(p):
    """Commands have their output, input, user, environment, directory and status"""
    equal(p.exec("sh", "-c", "echo out; echo err >&2; exit 7"), (7, "out\n", "err\n"))
    equal(p.exec("cat", options=["-i"], input="words\n" * 10000), (0, "words\n" * 10000, ""))
    equal(p.exec("sh", "-c", 'id -un; pwd; echo "$A"', options=["-u", "alice", "-w", "/etc", "-e", "A=b c"]), (0, "alice\n/etc\nb c\n", ""))
    code, _, err = p.exec("/bin/none")
    equal(code, 127, err)
    equal(p.exec("sh", "-c", "kill -9 $$")[0], 137)
    code, _, err = p.exec("true", options=["-t"])
    equal(code, 125)
    contains(err, "no terminal")


@test
def what_it_tells(p):
    """wabe show has the guest's system and addresses; wabe set-password changes one inside"""
    shown = p.d.show("deb")
    nic, inside = shown["nics"][0], shown["inside"]
    equal(inside["hostname"], "deb")
    contains(inside["os"], "Debian GNU/Linux 12")
    own = [i for i in inside["interfaces"] if i.get("mac") == nic["mac"]]
    contains(" ".join(own[0]["addresses"]), nic["ipv4"] + "/")
    p.d.cli("set-password", "deb", "alice", input="new word\n")
    line = next(x for x in p.sh("cat /etc/shadow").split() if x.startswith("alice:"))
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    equal(crypt(b"new word", line.split(":")[1].encode()).decode(), line.split(":")[1])
    contains(p.d.cli("set-password", "deb", "nobody-such", input="x\n", check=False).stderr, "guest-set-user-password")


@test
def copies(p):
    """wabe cp brings files and trees, and fetches them"""
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(folder + "/tree/sub")
        with open(folder + "/tree/sub/data", "wb") as f:
            f.write(os.urandom(1500000))
        os.symlink("sub/data", folder + "/tree/link")
        p.d.cli("cp", folder + "/tree", "deb:/root", timeout=BOOT)
        with open(folder + "/tree/sub/data", "rb") as f:
            sum = hashlib.sha256(f.read()).hexdigest()
        contains(p.sh("sha256sum /root/tree/sub/data; readlink /root/tree/link; stat -c %u /root/tree"), sum)
        p.d.cli("cp", "deb:/root/tree", folder + "/back", timeout=BOOT)
        with open(folder + "/back/sub/data", "rb") as f:
            equal(hashlib.sha256(f.read()).hexdigest(), sum)
        equal(os.readlink(folder + "/back/link"), "sub/data")
        p.d.cli("cp", "deb:/etc/hostname", folder + "/name", timeout=BOOT)
        with open(folder + "/name") as f:
            equal(f.read(), "deb\n")
        contains(p.d.cli("cp", "deb:/none", folder, check=False).stderr, "/none")
    equal(p.sh("ls /var/tmp | grep -c ^tmp || :").strip(), "0", "nothing is left in the guest")
    contains(p.d.cli("diff", "deb", check=False).stderr, "has a disk")


@test
def processes(p):
    """wabe top shows the guest's, wabe stats counts its packets once"""
    rows = p.d.out("top", "deb")
    contains(rows, "qemu-ga")
    contains(rows, "systemd")
    equal([i["name"] for i in p.d.json("stats", "--no-stream", "deb")["deb"]["interfaces"]], ["eth0"])


@test
def snapshot_of_a_frozen_guest(p):
    """A snapshot has what the guest had written last, in a file system that needs no repair; restored it is there"""
    p.sh("echo before >/root/state")  # not synced: the freeze has to
    p.d.cli("snapshot", "create", "deb", "s1", timeout=BOOT)
    equal(p.sh("echo after >/root/state; cat /root/state"), "after\n", "it has thawed")
    started = time.monotonic()
    p.d.cli("stop", "-t", "300", "deb", timeout=BOOT)
    note(f"stopped after {time.monotonic() - started:.0f} s")
    equal(p.d.show("deb")["status"]["exit_code"], 0)
    p.d.cli("snapshot", "restore", "deb", "s1", timeout=BOOT)
    p.d.cli("start", "deb")
    wait_until(lambda: p.exec("true")[0] == 0, BOOT, "the guest's agent")
    equal(p.sh("cat /root/state"), "before\n")
    assert "recovering journal" not in p.sh("journalctl -b -o cat | cat"), "the file system was not quiet"


if __name__ == "__main__":
    run(Place, Place.close)
