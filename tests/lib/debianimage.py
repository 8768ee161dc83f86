"""A disk image of Debian, made of Debian's packages: GRUB in its first sectors, one ext4 partition, cloud-init and QEMU's guest
agent. Built once (some minutes), then kept; its name says of what."""
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile

CACHE = os.environ.get("WABE_IMAGES", "/var/cache/wabe-images")
PACKAGES = ("systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,grub-common,grub-pc-bin,e2fsprogs,iproute2,ifupdown,net-tools,"
            "procps,passwd,sudo,kmod,cloud-init,qemu-guest-agent")
SECTOR = 512
PARTITION = 2048  # its first sector: GRUB's core lies before it
SIZE = 2 << 30
MODULES = "biosdisk part_msdos ext2 linux normal configfile serial terminal echo boot"
GRUB_CONFIG = """serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
echo GRUB starts Debian
linux /vmlinuz root=/dev/vda1 ro console=ttyS0 quiet mitigations=off
initrd /initrd.img
boot
"""
# What a machine of some minutes does not need, and what would make its start longer.
SETUP = """set -e
rm -f "$1"/etc/hostname "$1"/etc/resolv.conf
echo '/dev/vda1 / ext4 defaults 0 0' >"$1"/etc/fstab
: >"$1"/etc/machine-id
for t in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer; do
	ln -sf /dev/null "$1"/etc/systemd/system/$t
done
for s in systemd-binfmt systemd-update-utmp; do
	ln -sf /dev/null "$1"/etc/systemd/system/$s.service
done
printf '%s\\n' 'datasource_list: [NoCloud, ConfigDrive, None]' 'locale: false' 'apt_preserve_sources_list: true' \\
	>"$1"/etc/cloud/cloud.cfg.d/99_short.cfg
printf '%s\\n' virtio_pci virtio_blk ext4 >>"$1"/etc/initramfs-tools/modules
sed -i 's/^MODULES=.*/MODULES=list/' "$1"/etc/initramfs-tools/initramfs.conf
chroot "$1" update-initramfs -u
mkdir -p "$1"/boot/grub
chroot "$1" grub-mkimage -O i386-pc -o /boot/grub/core.img -p '(hd0,msdos1)/boot/grub' """ + MODULES


def _sh(*argv, **kw):
    subprocess.run(argv, check=True, **kw)


def _partitions(f):
    """The table of a disk with one partition, to boot from."""
    entry = bytes([0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]) + PARTITION.to_bytes(4, "little") + ((SIZE // SECTOR) - PARTITION).to_bytes(4, "little")
    f.seek(446)
    f.write(entry + bytes(48) + b"\x55\xaa")


def _build(path):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as work:
        root, grub = work + "/root", work + "/root/boot/grub"
        _sh("mmdebstrap", "--quiet", "--variant=minbase", "--include=" + PACKAGES, "--customize-hook=" + SETUP, "bookworm", root)
        with open(grub + "/grub.cfg", "w") as f:
            f.write(GRUB_CONFIG)
        with open(root + "/usr/lib/grub/i386-pc/boot.img", "rb") as f:
            first = f.read()
        with open(grub + "/core.img", "rb") as f:
            core = f.read()
        assert len(core) < (PARTITION - 1) * SECTOR, "GRUB's core is too large"
        with open(path, "wb") as f:
            f.truncate(SIZE)
            f.write(first[:446])
            _partitions(f)
            f.seek(SECTOR)
            f.write(core)
        blocks = (SIZE - PARTITION * SECTOR) // 4096
        _sh("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root", "-E", f"offset={PARTITION * SECTOR}", "-d", root, path, str(blocks))


def debian_image():
    """The path of a raw disk."""
    key = hashlib.sha256((PACKAGES + SETUP + GRUB_CONFIG + str(SIZE)).encode()).hexdigest()[:16]
    path = f"{CACHE}/debian-{key}.raw"
    os.makedirs(CACHE, exist_ok=True)
    with open(CACHE + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            for old in os.listdir(CACHE):
                if old != "lock":
                    shutil.rmtree(f"{CACHE}/{old}") if os.path.isdir(f"{CACHE}/{old}") else os.unlink(f"{CACHE}/{old}")
            _build(path + ".making")
            os.rename(path + ".making", path)
    return path


if __name__ == "__main__":
    print(debian_image())
