#!/usr/bin/env python3
"""Machines that boot over a network: DHCP names the file, TFTP has it; with the suite long Debian's installer."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import tiny_disk  # noqa: E402
from tap import LONG, Skip, contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

INSTALLER = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
BOOT = 120
MENU = """serial 0 115200
default install
label install
  kernel linux
  append initrd=initrd.gz console=ttyS0,115200n8 priority=critical ---
"""


class Place(Daemon):
    def __init__(self):
        need("qemu-system-x86_64", shutil.which("qemu-system-x86_64"))
        super().__init__("netboot", network=None)
        self.boot = self.dir + "/boot"
        os.mkdir(self.boot)
        os.chmod(self.boot, 0o755)
        self.start()

    def boots(self, network, *args):
        return self.out("run", "--vm", "-d", "-m", "64m", "--boot", "network", "--network", network, "--root-size", "1m", *args, "scratch").strip()

    def says(self, id, text, seconds=BOOT):
        wait_until(lambda: text in self.out("logs", id), seconds, f"{text}: {self.out('logs', id)[-2000:]}")

    def clean(self):
        for instance in json.loads(self.out("ls", "-a", "--json")):
            self.cli("rm", "-f", instance["id"])
        for network in json.loads(self.out("network", "ls", "--json")):
            self.cli("network", "rm", network["spec"]["name"])


def refused(d, text, *args):
    r = d.cli("network", *args, check=False)
    assert r.returncode != 0, f"{args} should be refused: {text}"
    contains(r.stderr, text)


@test
def boots_from_the_network(d):
    """A machine with an empty disk gets the network's file and runs it; another file is the next start's"""
    tiny_disk(d.boot + "/tiny.0", 512)
    d.cli("network", "create", "--boot-dir", d.boot, "--boot-file", "none.0", "install", check=False)
    equal(json.loads(d.out("network", "ls", "--json")), [], "a file that is not there makes no network")
    d.cli("network", "create", "--boot-dir", d.boot, "--boot-file", "tiny.0", "--boot-file-uefi", "tiny.0", "install")
    id = d.boots("install", "--nic-model", "e1000")
    d.says(id, "tiny guest is up")
    d.cli("rm", "-f", id)
    os.rename(d.boot + "/tiny.0", d.boot + "/other.0")
    d.cli("network", "update", "--boot-file", "other.0", "--boot-file-uefi", "other.0", "install")
    d.kill()
    d.start()
    id = d.boots("install")
    d.says(id, "tiny guest is up")


@test
def bad_input(d):
    """What could not be booted from is refused, and what would reach into the resolver's configuration"""
    tiny_disk(d.boot + "/tiny.0", 512)
    with open(d.boot + "/secret", "w"):
        pass
    os.chmod(d.boot + "/secret", 0o600)
    refused(d, "none.0", "create", "--boot-dir", d.boot, "--boot-file", "none.0", "n")
    refused(d, "everybody may read", "create", "--boot-dir", d.boot, "--boot-file", "secret", "n")
    refused(d, "absolute path", "create", "--boot-dir", "boot", "--boot-file", "tiny.0", "n")
    refused(d, "name of a file or a URL", "create", "--boot-dir", d.boot, "--boot-file", "../tiny.0", "n")
    refused(d, "name of a file or a URL", "create", "--boot-dir", d.boot, "--boot-file", "tiny.0,1.2.3.4", "n")
    refused(d, "name of a file or a URL", "create", "--boot-file", "a\nuser=root", "n")
    refused(d, "without a boot file", "create", "--boot-dir", d.boot, "n")
    refused(d, "told by DHCP", "create", "--dhcp=false", "--boot-file", "tiny.0", "n")
    equal(json.loads(d.out("network", "ls", "--json")), [])


@test
def debian_installer(d):
    """Debian's netboot installer comes up to its first question"""
    if not LONG:
        raise Skip("takes minutes: WABE_TEST_LONG=1")
    need("debian-installer-12-netboot-amd64", os.path.isdir(INSTALLER))
    top = d.dir + "/installer"
    os.makedirs(top + "/pxelinux.cfg")
    for name in "pxelinux.0", "boot-screens/ldlinux.c32", "linux", "initrd.gz":
        shutil.copy(f"{INSTALLER}/{name}", top)
    with open(top + "/pxelinux.cfg/default", "w") as f:
        f.write(MENU)
    subprocess.run(["chmod", "-R", "a+rX", top], check=True)
    d.cli("network", "create", "--boot-dir", top, "--boot-file", "pxelinux.0", "debian")
    id = d.boots("debian", "-m", "512m")
    d.says(id, "Linux version", 600)
    d.says(id, "Run /init as init process", 900)


run(setup=Place, teardown=Place.close, after=Place.clean)
