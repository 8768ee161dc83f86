#!/usr/bin/python3
"""Media for cloud-init, as cloud-init itself reads them: what a guest's configuration would become."""
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from guestconfig import CloudInit  # noqa: E402
from tap import contains, equal, run, test  # noqa: E402

TOOL = sys.argv.pop(sys.argv.index("--tool") + 1)
sys.argv.remove("--tool")
KEYS = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me: \"there\" # {{ no jinja }}", "ssh-rsa AAAAB3 ä€😀\u0085\u2028"]


class Place:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="wabe-seed-")
        self.count = 0
        self.reader = CloudInit(self.dir)

    def files(self, **config):
        """The directory with the files of a medium, read by xorriso."""
        self.count += 1
        path = f"{self.dir}/{self.count}"
        r = subprocess.run([TOOL, path + ".iso"], input=json.dumps(config), text=True, capture_output=True)
        assert r.returncode == 0, r.stderr
        subprocess.run(["xorriso", "-osirrox", "on", "-indev", path + ".iso", "-extract", "/", path], check=True, capture_output=True)
        return path

    def read(self, **config):
        return self.reader.read(self.files(**config), config.get("datasource") == "config-drive")


def checked(user, password):
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    equal(crypt(password.encode(), user["hashed_passwd"].encode()).decode(), user["hashed_passwd"], "hash of the password")
    assert user["hashed_passwd"].startswith("$y$") and user["lock_passwd"] is False, user


@test
def fields_reach_the_configuration(place):
    """User, password, keys and packages arrive as they are, by both kinds of media"""
    for kind in "nocloud", "config-drive":
        meta, _, config, _, _ = place.read(datasource=kind, user="alice", password="ö: 'x'", ssh_keys=KEYS, packages=["vim", "g++"], upgrade=True)
        equal(config["user"]["name"], "alice")
        checked(config["user"], "ö: 'x'")
        equal(config["ssh_authorized_keys"], KEYS)
        equal(config["packages"], ["vim", "g++"])
        assert config["package_upgrade"] is True and config["package_update"] is True, config
        contains(meta["instance-id"], "wabe-001122334455-")
        equal(meta.get("local-hostname"), "web.example", kind)
        place.reader.check({k: v for k, v in config.items() if k != "merge_how"})


@test
def joined_with_user_data(place):
    """What user data says stays, lists are joined, whatever it is: a configuration, a script, a template, MIME, an archive"""
    mine = {"datasource": "nocloud", "user": "alice", "ssh_keys": KEYS[:1], "packages": ["vim"]}
    theirs = {"packages": ["git"], "ssh_authorized_keys": ["ssh-rsa BBBB"], "timezone": "Europe/Berlin", "user": {"shell": "/bin/zsh"}}
    text = "#cloud-config\n" + json.dumps(theirs)
    mime = ("Content-Type: multipart/mixed; boundary=\"==x==\"\nMIME-Version: 1.0\n\n--==x==\nContent-Type: text/cloud-config\n\n"
            + text + "\n--==x==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho two\n--==x==--\n")
    for data in text, "## template: jinja\n" + text, mime, "#cloud-config-archive\n" + json.dumps([{"type": "text/cloud-config", "content": text}]):
        _, _, config, _, scripts = place.read(**mine, user_data=data)
        if "jinja" in data:  # rendered later, with what cloud-init then knows of the host
            equal(config["packages"], ["vim"])
            continue
        equal(config["packages"], ["git", "vim"], data)
        equal(config["ssh_authorized_keys"], ["ssh-rsa BBBB", KEYS[0]])
        equal(config["timezone"], "Europe/Berlin")
        equal(config["user"], {"name": "alice", "shell": "/bin/zsh"})
        equal(len(scripts), 1 if data is mime else 0, "scripts")
    _, _, config, _, scripts = place.read(**mine, user_data="#!/bin/sh\necho 'ä'\n")
    equal(scripts, ["#!/bin/sh\necho 'ä'\n"])
    equal(config["packages"], ["vim"])


@test
def alone(place):
    """User data alone is handed on as it is, and vendor data"""
    for kind in "nocloud", "config-drive":
        _, _, config, vendor, _ = place.read(datasource=kind, user_data="#cloud-config\nlocale: de_DE\n", vendor_data="#cloud-config\ntimezone: UTC\n")
        equal(config["locale"], "de_DE")
        equal(vendor["timezone"], "UTC")


@test
def networks(place):
    """Every renderer of cloud-init makes the static addresses, routes, resolvers and DHCP of the interfaces"""
    for kind, name in ("nocloud", "network-config"), ("config-drive", "openstack/latest/network_data.json"):
        path = f"{place.files(datasource=kind)}/{name}"
        for renderer in "eni", "netplan", "networkd", "sysconfig":
            text = place.reader.render(path, kind == "config-drive", renderer)
            for part in "10.84.0.5", "fd00:1::5", "10.84.0.1", "fd00:1::1", "1400", "eth1":
                contains(text, part, f"{kind}, {renderer}")
            contains(text.lower(), "dhcp", f"{kind}, {renderer}")


@test
def network_given(place):
    """A network configuration of version 1 or 2 is handed on"""
    one = "version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n  - {type: static, address: 192.0.2.7/24}\n"
    two = "version: 2\nethernets:\n  eth0:\n    addresses: [192.0.2.7/24]\n"
    for text in one, two:
        contains(place.reader.render(place.files(network_config=text) + "/network-config", False, "eni"), "192.0.2.7")


if __name__ == "__main__":
    run(Place, lambda place: shutil.rmtree(place.dir))
