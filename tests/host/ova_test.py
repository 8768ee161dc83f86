#!/usr/bin/env python3
"""OVAs: as VirtualBox, VMware and oVirt write them, in; machines and images, out and read by others; what is wrong with one is said."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import ova  # noqa: E402
from machine import tiny_disk  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import Daemon, wait_until  # noqa: E402

MB = 1 << 20
SPACE = "{http://schemas.dmtf.org/ovf/envelope/1}"


class Place:
    def __init__(self):
        need("qemu-img", shutil.which("qemu-img"))
        self.daemon = Daemon("ova", network=None).start()
        self.dir = self.daemon.dir
        self.raw = tiny_disk(self.dir + "/tiny.raw")
        self.second = self.dir + "/second.raw"
        with open(self.second, "wb") as f:
            f.write(os.urandom(MB))
            f.truncate(8 * MB)
        self.vmdk = ova.disk(self.raw, self.dir + "/tiny.vmdk")
        self.vmdk2 = ova.disk(self.second, self.dir + "/second.vmdk")
        self.qcow2 = ova.disk(self.raw, self.dir + "/tiny.qcow2", "qcow2")

    def image(self, name):
        return json.loads(self.out("image", "show", "--json", name))

    def take(self, name, files, **kw):
        self.cli("image", "import", ova.archive(self.dir + "/in.ova", files, **kw), name)
        return self.image(name)

    def refused(self, text, files, *args, **kw):
        path = files if isinstance(files, str) else ova.archive(self.dir + "/bad.ova", files, **kw)
        r = self.cli("image", "import", *args, path, "bad", check=False)
        assert r.returncode != 0, f"should be refused for: {text}"
        contains(r.stderr, text)

    def same(self, raw, path, form):
        r = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", form, raw, path], capture_output=True, text=True)
        assert r.returncode == 0, f"{r.stdout}{r.stderr}"

    def create(self, name, image, *args):
        self.cli("create", "--vm", "--name", name, *args, image)
        return self.show(name)

    def clean(self):
        for instance in json.loads(self.out("ls", "-a", "--json")):
            self.cli("rm", "-f", instance["id"])
        self.cli("image", "prune", "-a")
        for network in json.loads(self.out("network", "ls", "--json")):
            self.cli("network", "rm", network["spec"]["name"])

    def __getattr__(self, name):
        return getattr(self.daemon, name)


@test
def virtualbox(p):
    """One of VirtualBox: its hardware is the machine's, which boots; flags of wabe run come first"""
    descriptor = ova.virtualbox().encode()
    files = [("box.ovf", descriptor), ("box-disk001.vmdk", p.vmdk)]
    image = p.take("vb:1", [*files, ("box.mf", ova.manifest("SHA1", files))])
    equal(image["machine"], {"cpus": 2, "memory": 64 * MB, "disk_bus": "sata", "drives": 1, "nic_model": "e1000", "networks": ["NAT"],
                             "usb": True, "audio": True})
    equal((image["kind"], image["virtual_size"], len(image["layers"])), ("disk", 16 * MB, 1))
    id = p.out("run", "--vm", "-d", "vb:1").strip()
    wait_until(lambda: "tiny guest is up" in p.out("logs", id), 60, "the guest's first words")
    made = p.show(id)
    spec = made["spec"]
    equal((spec["limits"]["cpus"], spec["limits"]["memory"]), (2, 64 * MB))
    equal((spec["machine"]["disk_bus"], spec["machine"]["nic_model"], spec["machine"]["drives"]), ("sata", "e1000", 1))
    equal([n["network"] for n in made["nics"]], ["default"])
    other = p.create("other", "vb:1", "-m", "96m", "--cpus", "1", "--disk-bus", "nvme", "--network", "none")["spec"]
    equal((other["limits"]["cpus"], other["limits"]["memory"], other["machine"]["disk_bus"]), (1, 96 * MB, "nvme"))
    p.cli("rm", "-f", id, "other")


@test
def virtualbox_two(p):
    """One of OVF 2.0, whose disk was on IDE: a board with IDE"""
    image = p.take("vb:2", [("box.ovf", ova.virtualbox2().encode()), ("./box-disk001.vmdk", p.vmdk)])
    equal(image["machine"], {"cpus": 1, "memory": 128 * MB, "disk_bus": "ide", "chipset": "pc", "nic_model": "e1000", "networks": ["NAT"]})


@test
def vmware(p):
    """One of VMware: the default of its sizes, UEFI, disks by their places, networks by their names"""
    files = [("appliance.ovf", ova.vmware().encode()), ("appliance-disk1.vmdk", p.vmdk), ("appliance-disk2.vmdk", p.vmdk2),
             ("appliance-file1.nvram", b"settings")]
    image = p.take("vmw:1", [files[0], ("appliance.mf", ova.manifest("SHA256", files)), ("appliance.cert", b"signed"), *files[1:]])
    equal(image["machine"], {"cpus": 2, "memory": 256 * MB, "firmware": "uefi", "secure_boot": True, "disk_bus": "sata", "drives": 1,
                             "nic_model": "e1000e", "networks": ["lan", "VM Network"], "video": "vga"})
    equal([hashlib.sha256(d).hexdigest() for d in (p.vmdk, p.vmdk2)], [l["digest"].split(":")[1] for l in image["layers"]])
    r = p.cli("create", "--vm", "vmw:1", check=False)
    contains(r.stderr, "say with --network")
    p.cli("network", "create", "lan")
    made = p.create("two", "vmw:1")
    equal(sorted(n["network"] for n in made["nics"]), ["default", "lan"])
    equal([(m["target"], m.get("anonymous")) for m in made["spec"]["mounts"]], [("/disk2", True)])
    volume = made["volumes"][0]["name"]
    p.cli("volume", "export", "--format", "raw", "-o", p.dir + "/out.raw", volume)
    p.same(p.second, p.dir + "/out.raw", "raw")
    p.daemon.kill()
    p.daemon.start()
    contains(p.out("volume", "ls"), volume)
    p.cli("rm", "two")
    assert volume not in p.out("volume", "ls"), "it goes with its machine"


@test
def ovirt(p):
    """One of oVirt: a qcow2 file, and a raw one that only its word tells"""
    disk = "c0b6eaf6-8a4c-4c4d-bd6a-b9a4a40f4a9e"
    image = p.take("ov:1", [("vm.ovf", ova.ovirt().encode()), (disk, p.qcow2)], form=tarfile.GNU_FORMAT)
    equal(image["machine"], {"cpus": 3, "memory": 96 * MB, "disk_bus": "scsi", "nic_model": "virtio", "networks": ["ovirtmgmt"], "video": "vga"})
    equal(image["layers"][0]["media_type"], "application/vnd.wabe.disk.v1+qcow2")
    with open(p.second, "rb") as f:
        raw = f.read()
    image = p.take("ov:2", [("vm.ovf", ova.ovirt(form="RAW", bios=4).encode()), (disk, raw)])
    equal((image["layers"][0]["media_type"], image["machine"]["firmware"], image["machine"]["secure_boot"]),
          ("application/vnd.wabe.disk.v1+raw", "uefi", True))


@test
def hostile(p):
    """Whatever is wrong, the message names what and where, and nothing stays"""
    box, name = ova.virtualbox(), "box-disk001.vmdk"
    ovf, disk = ("box.ovf", box.encode()), (name, p.vmdk)

    def changed(text, *pairs):
        xml = box
        for old, new in pairs:
            assert old in xml, old
            xml = xml.replace(old, new)
        p.refused(text, [("box.ovf", xml.encode()), disk])

    p.refused(f"has no file {name}", [ovf])
    p.refused("is not the one of its manifest", [ovf, ("box.mf", ova.manifest("SHA256", [ovf, (name, b"other")])), disk])
    p.refused("names the file else.vmdk", [ovf, disk, ("box.mf", ova.manifest("SHA256", [("else.vmdk", b"")]))])
    p.refused(f"no digest of its file {name}", [ovf, disk, ("box.mf", ova.manifest("SHA256", [ovf]))])
    p.refused("digests that are not known", [ovf, disk, ("box.mf", ova.manifest("SHA256", [ovf, disk]).replace(b"SHA256", b"CRC32"))])
    p.refused("has a line that is none", [ovf, disk, ("box.mf", b"nothing\n")])
    for bad in ("../box-disk001.vmdk", "/etc/passwd", "a/../../b", "x\ny"):
        p.refused("which is none for a file within it", [ovf, (bad, b"x"), disk])
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "/etc/shadow"
        p.refused("is no file but a link", [ovf, link])
    p.refused("two files", [ovf, disk, disk])
    p.refused("two descriptors", [ovf, ("other.ovf", b"<x/>"), disk])
    p.refused("must be its descriptor", [disk, ovf], "--format", "ova")
    p.refused("more than 64 files", [ovf, *((f"f{i}", b"") for i in range(70)), disk])
    p.refused("more than 4194304 bytes", [("box.ovf", b" " * (5 * MB)), disk])
    p.refused("DOCTYPE", [("box.ovf", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Envelope>&a;</Envelope>'), disk])
    p.refused("too many elements", [("box.ovf", b"<a>" * 100 + b"</a>" * 100), disk])
    p.refused("line 1", [("box.ovf", b"<Envelope"), disk])
    p.refused("Envelope", [("box.ovf", b"<html/>"), disk])
    changed("no VirtualSystem", ("VirtualSystem ", "SomethingElse "), ("/VirtualSystem>", "/SomethingElse>"))
    changed("several machines", ("<VirtualSystem ", '<VirtualSystemCollection ovf:id="c"/><VirtualSystem '))
    changed("section Machine that must be understood", ('<vbox:Machine ovf:required="false"', "<vbox:Machine"))
    changed("section EncryptionSection", ("<NetworkSection>", "<EncryptionSection><Info/></EncryptionSection><NetworkSection>"))
    changed("no disk /disk/vmdisk9", ("/disk/vmdisk1", "/disk/vmdisk9"))
    changed("no file file9", ('ovf:fileRef="file1"', 'ovf:fileRef="file9"'))
    changed("it has no file", ('ovf:fileRef="file1"', ""))
    changed("compressed", ('ovf:href="box', 'ovf:compression="gzip" ovf:href="box'))
    changed("what differs", ('ovf:fileRef="file1"', 'ovf:fileRef="file1" ovf:parentRef="other"'))
    changed("which is no size", ("MegaBytes", "bushels"))
    changed("which is no size", ('<rasd:VirtualQuantity>64<', "<rasd:VirtualQuantity>99999999999999999<"))
    changed("processors", ("<rasd:VirtualQuantity>2<", "<rasd:VirtualQuantity>100000<"))
    changed("of the kind 8", ("<rasd:ResourceType>35<", "<rasd:ResourceType>8<"))
    changed("no disk, so", ("<rasd:ResourceType>17<", "<rasd:ResourceType>21<"))
    p.refused("disk box-disk001.vmdk of the OVA", [ovf, (name, p.vmdk2[:len(p.vmdk2) // 2])])
    p.refused("of no format that is known", [ovf, (name, b"nothing known".ljust(MB))])
    backing = p.dir + "/backing.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", p.raw, "-F", "raw", backing], check=True)
    with open(backing, "rb") as f:
        p.refused("a backing file", [ovf, (name, f.read())])
    whole = ova.archive(p.dir + "/whole.ova", [ovf, disk])
    for cut in (600, 4096, 20000):
        with open(whole, "rb") as f, open(p.dir + "/cut.ova", "wb") as out:
            out.write(f.read(cut))
        r = p.cli("image", "import", p.dir + "/cut.ova", "bad", check=False)
        assert r.returncode != 0, f"{cut}: {r.stdout}"
    equal(json.loads(p.out("image", "ls", "--json")), [])
    equal(os.listdir(p.daemon.state + "/control/content/blobs/sha256"), [])


def look_at(p, path):
    """What others see in it: its descriptor's root; its disks are unpacked into p.dir/x."""
    shutil.rmtree(p.dir + "/x", ignore_errors=True)
    subprocess.run(["mkdir", p.dir + "/x"], check=True)
    subprocess.run(["tar", "-C", p.dir + "/x", "-xf", path], check=True)
    names = subprocess.run(["tar", "-tf", path], check=True, capture_output=True, text=True).stdout.split()
    assert names[0].endswith(".ovf") and names[1].endswith(".mf"), names
    with open(f"{p.dir}/x/{names[1]}") as f:
        lines = f.read().splitlines()
    equal(len(lines), len(names) - 1)
    for line in lines:
        name, digest = line[len("SHA256("):].split(")= ")
        with open(f"{p.dir}/x/{name}", "rb") as f:
            equal(hashlib.sha256(f.read()).hexdigest(), digest, name)
    if shutil.which("xmllint"):
        subprocess.run(["xmllint", "--noout", "--nonet", f"{p.dir}/x/{names[0]}"], check=True)
    root = xml.etree.ElementTree.parse(f"{p.dir}/x/{names[0]}").getroot()
    equal(root.tag, SPACE + "Envelope")
    for file in root.iter(SPACE + "File"):
        equal(os.path.getsize(f"{p.dir}/x/{file.get(SPACE + 'href')}"), int(file.get(SPACE + "size")))
    for disk in root.iter(SPACE + "Disk"):
        assert any(f.get(SPACE + "id") == disk.get(SPACE + "fileRef") for f in root.iter(SPACE + "File")), "each disk has its file"
    for path in (f"{p.dir}/x/{n}" for n in names[2:]):
        said = json.loads(subprocess.run(["qemu-img", "info", "-f", "vmdk", "--output", "json", path], check=True, capture_output=True).stdout)
        equal(said["format-specific"]["data"]["create-type"], "streamOptimized")
    return root


@test
def images_out(p):
    """An image goes out as an OVA that others read, and comes back as it was"""
    files = [("a.ovf", ova.vmware().encode()), ("appliance-disk1.vmdk", p.vmdk), ("appliance-disk2.vmdk", p.vmdk2)]
    before = p.take("vmw:1", files)
    p.cli("image", "export", "--format", "ova", "vmw:1", p.dir + "/out.ova")
    look_at(p, p.dir + "/out.ova")
    p.same(p.raw, p.dir + "/x/vmw-disk1.vmdk", "vmdk")
    p.same(p.second, p.dir + "/x/vmw-disk2.vmdk", "vmdk")
    p.cli("image", "import", p.dir + "/out.ova", "back:1")
    equal(p.image("back:1")["machine"], before["machine"])
    p.cli("image", "import", "--kind", "disk", "--format", "raw", p.raw, "plain:1")
    p.cli("image", "export", "--format", "ova", "-o", p.dir + "/out.ova", "plain:1")
    look_at(p, p.dir + "/out.ova")
    r = p.cli("image", "export", "--format", "ovf", "plain:1", p.dir + "/none", check=False)
    contains(r.stderr, "not ovf")


@test
def machines_out(p):
    """A machine goes out with its hardware and volumes, when it does not run"""
    p.cli("image", "import", "--kind", "disk", "--format", "raw", p.raw, "plain:1")
    p.cli("volume", "create", "--kind", "block", "--size", "8MiB", "data")
    p.cli("network", "create", "lan")
    p.create("m", "plain:1", "-m", "80m", "--cpus", "3", "--network", "lan", "--nic-model", "e1000e", "--disk-bus", "scsi", "--firmware", "uefi", "-v", "data:/data")
    p.cli("export", "--format", "ova", "-o", p.dir + "/m.ova", "m")
    look_at(p, p.dir + "/m.ova")
    p.same(p.raw, p.dir + "/x/m-disk1.vmdk", "vmdk")
    p.cli("image", "import", p.dir + "/m.ova", "m:1")
    equal(p.image("m:1")["machine"], {"cpus": 3, "memory": 80 * MB, "firmware": "uefi", "disk_bus": "scsi", "nic_model": "e1000e", "networks": ["lan"]})
    equal(len(p.image("m:1")["layers"]), 2)
    p.cli("rm", "m")
    id = p.out("run", "--vm", "-d", "-m", "64m", "--network", "none", "plain:1").strip()
    r = p.cli("export", "--format", "ova", "-o", p.dir + "/no.ova", id, check=False)
    assert r.returncode != 0
    contains(r.stderr, "running")
    r = p.cli("export", "--format", "zip", id, check=False)
    contains(r.stderr, "must be tar or ova")
    p.cli("rm", "-f", id)
    p.cli("volume", "rm", "data")


run(setup=Place, teardown=lambda p: p.daemon.close(), after=Place.clean)
