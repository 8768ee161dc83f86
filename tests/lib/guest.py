"""Machines whose root is a container image's, without wabe around them: a kernel image made by tests/host/kernel_tool, QEMU by
hand, virtiofsd."""
import base64
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import lab  # noqa: E402

BUILD = os.environ.get("WABE_BUILD", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build-asan"))
APPLETS = "sh ls cat echo id mount ps ip sleep hostname env kill stty readlink wc seq date df blockdev true pwd ping head tail tr".split()
BOOT_SECONDS = 240


def kernel_image(folder):
    """Files of Debian's cloud kernel, as `wabe image bootstrap --kernel` makes them."""
    os.makedirs(lab.CACHE, exist_ok=True)
    with open(lab.CACHE + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = lab.kernel()[2]
    kernel, initrd = folder + "/kernel", folder + "/initrd"
    tar = subprocess.Popen(["tar", "-C", tree, "-c", "./boot", "./lib"], stdout=subprocess.PIPE)
    made = subprocess.run([BUILD + "/tests/host/kernel_tool", BUILD + "/wabe-init", kernel, initrd], stdin=tar.stdout, capture_output=True, text=True)
    tar.stdout.close()
    tar.wait()
    assert made.returncode == 0, made.stderr
    return kernel, initrd


def busybox_root(path):
    for d in "bin proc sys dev etc tmp work".split():
        os.makedirs(f"{path}/{d}")
    shutil.copy("/bin/busybox", path + "/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{path}/bin/{applet}")
    for name, text in (("passwd", "root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n"), ("group", "root:x:0:\nbob:x:1000:\nmore:x:44:bob\n")):
        with open(f"{path}/etc/{name}", "w") as f:
            f.write(text)


class Guest:
    def __init__(self, image, args, arguments=(), append="", **config):
        self.dir = tempfile.mkdtemp(prefix="wabe-guest-")
        os.makedirs(self.dir + "/share/root")
        busybox_root(self.dir + "/share/root")
        config = {"version": 2, "id": "test", "args": args, "env": ["PATH=/bin"], **config}
        with open(self.dir + "/share/config", "w") as f:
            json.dump(config, f)
        self.processes = []
        self.agent = self.qmp = None
        self.said = b""
        fs = f"{self.dir}/fs"
        self.run(["/usr/lib/qemu/virtiofsd", "--socket-path=" + fs, "-o", f"source={self.dir}/share,sandbox=chroot,xattr,announce_submounts"],
                 stderr=subprocess.DEVNULL)
        self.wait(lambda: os.path.exists(fs), "virtiofsd")
        self.started = time.monotonic()
        self.qemu = self.run([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512",
            "-machine", "q35,memory-backend=memory", "-object", "memory-backend-memfd,id=memory,size=512M,share=on",
            "-kernel", image[0], "-initrd", image[1], "-append", "console=ttyS0 loglevel=1 panic=-1 " + append, "-no-reboot",
            "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
            "-chardev", f"socket,id=fs,path={fs}", "-device", "vhost-user-fs-pci,chardev=fs,tag=guest", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={self.dir}/agent,server=on,wait=off", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            "-chardev", f"socket,id=input,path={self.dir}/input,server=on,wait=off", "-device", "virtserialport,chardev=input,name=io.wabe.input",
            "-chardev", f"socket,id=qmp,path={self.dir}/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.input = None

    def run(self, argv, **kw):
        p = subprocess.Popen(argv, preexec_fn=lab.die_with_parent, **kw)
        self.processes.append(p)
        return p

    @staticmethod
    def wait(condition, what):
        end = time.monotonic() + BOOT_SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what} does not come"
            time.sleep(0.005)

    def until(self, text):
        """Reads the console until it has said text."""
        os.set_blocking(self.qemu.stdout.fileno(), True)
        while text.encode() not in self.said:
            chunk = os.read(self.qemu.stdout.fileno(), 65536)
            assert chunk, f"{text!r} is not in {self.said!r}"
            self.said += chunk
        return time.monotonic() - self.started

    def end(self):
        """What it said, and its status as it told the host (None: it did not)."""
        self.said += self.qemu.stdout.read()
        self.qemu.wait(BOOT_SECONDS)
        path = self.dir + "/share/exit"
        status = None
        if os.path.exists(path):
            with open(path) as f:
                status = int(f.read())
        return self.said.decode(), status

    def press_power(self):
        qmp = lab.Qmp(self.dir + "/qmp")
        qmp.call("system_powerdown")

    def type(self, data, kind=0):
        """A frame for the first process: what it reads (nothing: the end), or with kind 16 the size of its terminal."""
        if not self.input:
            self.input = socket.socket(socket.AF_UNIX)
            self.input.connect(self.dir + "/input")
        self.input.sendall(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)

    # ---- the agent ----

    def connect(self):
        self.agent = socket.socket(socket.AF_UNIX)
        self.agent.settimeout(BOOT_SECONDS)
        self.agent.connect(self.dir + "/agent")
        self.file = self.agent.makefile("rb")
        self.agent.sendall(b"\xff" + json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": 4711}}).encode() + b"\n")
        line = self.file.readline()
        assert line.startswith(b"\xff"), line
        assert json.loads(line[1:]) == {"return": 4711}, line

    def send(self, name, **arguments):
        self.agent.sendall(json.dumps({"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}).encode() + b"\n")

    def call(self, name, **arguments):
        self.send(name, **arguments)
        return json.loads(self.file.readline())

    def exec(self, *command, **arguments):
        """(exit code or signal, output, errors) of a process inside."""
        reply = self.call("guest-exec", path=command[0], arg=list(command[1:]), capture_output=True, **arguments)
        assert "return" in reply, reply
        while True:
            status = self.call("guest-exec-status", pid=reply["return"]["pid"])["return"]
            if status["exited"]:
                break
            time.sleep(0.01)
        texts = [base64.b64decode(status.get(k, "")).decode() for k in ("out-data", "err-data")]
        return (status.get("exitcode", f"signal {status.get('signal')}"), *texts)

    def close(self):
        for p in self.processes:
            p.kill()
            p.wait()
            if p.stdout:
                p.stdout.close()
        for s in self.agent, self.input:
            if s:
                s.close()
        shutil.rmtree(self.dir)


def kernel_archive(path, kernel, initrd, name):
    """The two as an image of kind kernel, for `wabe image load`."""
    blobs = {}

    def add(data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    def document(o):
        return add(json.dumps(o).encode())
    files = []
    for file in kernel, initrd:
        with open(file, "rb") as f:
            files.append(add(f.read()))
    config = document({"created": "2026-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
                       "rootfs": {"type": "layers", "diff_ids": [f["digest"] for f in files]}})
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = document({"schemaVersion": 2, "mediaType": manifest_type, "config": {"mediaType": "application/vnd.wabe.image.config.v1+json", **config},
                         "layers": [{"mediaType": f"application/vnd.wabe.{kind}.v1", **f} for kind, f in zip(("kernel", "initrd"), files)]})
    index = {"schemaVersion": 2, "manifests": [{"mediaType": manifest_type, **manifest, "annotations": {
        "org.opencontainers.image.ref.name": name, "io.containerd.image.name": "docker.io/library/" + name}}]}
    with tarfile.open(path, "w") as t:
        for member, data in (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", json.dumps(index).encode()),
                             *((f"blobs/sha256/{d[7:]}", data) for d, data in blobs.items())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
