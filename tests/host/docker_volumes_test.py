#!/usr/bin/env python3
"""Volumes and mounts as docker's clients see them."""
import io
import os
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon  # noqa: E402
from tap import contains, equal, run, test  # noqa: E402
from wabe import busybox_rootfs, kernel_since  # noqa: E402

d = k = None


def refused(status, part, method, path, body=None):
    got, answer = k.api(method, path, body)
    equal(got, status, f"{method} {path}: {answer}")
    contains(answer["message"], part, path)


def names(query=""):
    return sorted(v["Name"] for v in k.api("GET", "/volumes" + query)[1]["Volumes"])


@test
def made_and_found(_):
    """named and anonymous ones; the same name gives the same volume; bad names; filters"""
    equal(k.api("POST", "/volumes/create", {"Name": "v1", "Labels": {"l": "1"}})[1]["Labels"], {"l": "1"})
    equal(k.api("POST", "/volumes/create", {"Name": "v1"})[0], 201)
    anonymous = k.api("POST", "/volumes/create", {})[1]
    equal((len(anonymous["Name"]), anonymous["Labels"]), (64, {"com.docker.volume.anonymous": ""}))
    refused(400, "includes invalid characters for a local volume name", "POST", "/volumes/create", {"Name": "a/b"})
    refused(404, "create vx: error looking up volume plugin x: plugin \"x\" not found", "POST", "/volumes/create", {"Name": "vx", "Driver": "x"})
    refused(404, "get nope: no such volume", "GET", "/volumes/nope")
    refused(503, "cluster volumes", "PUT", "/volumes/v1", {})
    equal(names('?filters={"label":["l=1"]}'), ["v1"])
    equal(names('?filters={"dangling":["true"],"name":["v"]}'), ["v1"])
    equal(k.api("POST", "/volumes/prune")[1]["VolumesDeleted"], [anonymous["Name"]])
    equal(k.api("POST", "/v1.41/volumes/prune")[1]["VolumesDeleted"], ["v1"])
    equal(k.api("DELETE", "/volumes/v1")[0], 404)
    equal(k.api("DELETE", "/volumes/v1?force=1")[0], 204)


@test
def filled_as_it_is(_):
    """an empty volume gets what the image has there, with links, pipes and extended attributes as they are"""
    root = busybox_rootfs(d.dir + "/filled.tar")
    with tarfile.open(root, "a", format=tarfile.PAX_FORMAT) as t:
        def add(name, data=b"", **fields):
            entry = tarfile.TarInfo("data" + name)
            entry.size, entry.mode = len(data), 0o644
            for key, value in fields.items():
                setattr(entry, key, value)
            t.addfile(entry, io.BytesIO(data))
        add("", type=tarfile.DIRTYPE, mode=0o750, uid=7, gid=8, pax_headers={"SCHILY.xattr.user.top": "one"})
        add("/sub", type=tarfile.DIRTYPE, mode=0o755)
        add("/file", b"text\n", uid=5, gid=6, mode=0o640, pax_headers={"SCHILY.xattr.user.note": "two"})
        add("/sub/again", type=tarfile.LNKTYPE, linkname="data/file")
        add("/link", type=tarfile.SYMTYPE, linkname="file")
        add("/pipe", type=tarfile.FIFOTYPE, mode=0o600)
    d.cli("image", "import", root, "filled:1")
    equal(k.out("run", "--rm", "-v", "full:/data", "filled:1", "sh", "-c", "cd /data; echo *; readlink link; cat sub/again; test -p pipe && echo pipe"),
          "file link pipe sub\nfile\ntext\npipe")
    path = k.api("GET", "/volumes/full")[1]["Mountpoint"]
    file, again, top = (os.stat(path + name) for name in ("/file", "/sub/again", ""))
    equal((file.st_ino, file.st_nlink, file.st_uid, file.st_gid, oct(file.st_mode)), (again.st_ino, 2, 5, 6, "0o100640"))
    equal((top.st_uid, top.st_gid, oct(top.st_mode)), (7, 8, "0o40750"))
    equal(os.getxattr(path, "user.top"), b"one")
    equal(os.getxattr(path + "/file", "user.note"), b"two")
    k.run("volume", "rm", "full")
    k.run("rmi", "filled:1")


@test
def images(_):
    """the files of an image are mounted, to be read, with those of all its layers; it stays as long as somebody mounts it"""
    os.mkdir(d.dir + "/context")
    with open(d.dir + "/context/Dockerfile", "w") as f:
        f.write("FROM busybox\nRUN echo one > /one && echo gone > /gone\nRUN rm /gone && echo two > /two\n")
    k.run("build", "-t", "layered", d.dir + "/context")
    k.run("tag", "busybox", "plain")

    def mount(source, **more):
        return {"Image": "busybox", "Cmd": ["sh", "-c", "cd /m; cat one two; ls gone; touch /m/x; ls -dn bin; bin/busybox echo runs"],
                "HostConfig": {"Mounts": [{"Type": "image", "Source": source, "Target": "/m", **more}]}}
    equal(k.api("POST", "/containers/create?name=im", mount("layered"))[0], 201)
    k.run("rmi", "plain")
    refused(409, "layered", "DELETE", "/images/layered")
    refused(409, "being used", "DELETE", "/images/" + k.inspect("layered")["Id"] + "?force=1")
    r = k.run("start", "-a", "im", check=False)
    equal((r.stdout.split()[:2], r.stdout.split()[-1]), (["one", "two"], "runs"))
    contains(r.stdout, " 0 ")
    for part in "gone: No such file", "touch: /m/x: Read-only file system":
        contains(r.stderr, part)
    m = k.inspect("im")["Mounts"][0]
    equal((m["Type"], m["Source"], m["RW"]), ("image", "layered", False))
    refused(404, "nowhere", "POST", "/containers/create", mount("nowhere"))
    refused(501, "ImageOptions.Subpath", "POST", "/containers/create", mount("layered", ImageOptions={"Subpath": "bin"}))
    out = k.out("run", "--rm", "--mount", "type=image,source=busybox,target=/m", "busybox", "sh", "-c", "ls -dn /m/bin/busybox; touch /m/x 2>&1 || :")
    contains(out, "Read-only")
    k.run("rm", "im")
    k.run("rmi", "layered")


@test
def mounted(_):
    """binds, volumes, tmpfs in their forms; what is not there is made, or refused with its name"""
    host = d.dir + "/host"
    k.run("run", "--name", "mm", "-v", f"{host}/made:/b:ro,z", "-v", "data:/v", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
          "--tmpfs", "/u:size=2m,uid=5", "busybox", "sh", "-c", "echo hello > /v/file; mount > /v/mounts; stat -c %u:%a /u /t > /v/owners")
    equal(os.path.isdir(host + "/made"), True)
    mounts = {m["Destination"]: m for m in k.inspect("mm")["Mounts"]}
    equal((mounts["/b"]["Source"], mounts["/b"]["RW"], mounts["/b"]["Propagation"]), (host + "/made", False, "rprivate"))
    equal((mounts["/v"]["Type"], mounts["/v"]["Name"], mounts["/v"]["Driver"]), ("volume", "data", "local"))
    out = k.out("run", "--rm", "--volumes-from", "mm:ro", "busybox", "cat", "/v/file", "/v/mounts", "/v/owners")
    contains(out, "hello\n")
    contains(out, "size=1024k,mode=700")
    contains(out, "5:1777\n0:700")
    r = k.run("run", "--rm", "--volumes-from", "mm:ro", "busybox", "touch", "/v/x", check=False)
    contains(r.stderr, "Read-only")
    refused(409, "volume is in use - [" + k.inspect("mm")["Id"], "DELETE", "/volumes/data")
    for args, part in [
        (("--mount", f"type=bind,src={host}/nope,dst=/x"), f'bind source path does not exist: {host}/nope'),
        (("-v", "rel/path:/x"), "includes invalid characters for a local volume name"),
        (("-v", "a1:b"), "mount path must be absolute"), (("-v", "a1:/"), "destination can't be '/'"),
        (("-v", "a1:/x:nonsense"), "nonsense"), (("-v", "a1:/x", "-v", "a2:/x"), "Duplicate mount point: /x"),
    ]:
        contains(k.run("create", *args, "busybox", "true", check=False).stderr, part, str(args))
    k.run("rm", "mm")
    k.run("volume", "rm", "data")


@test
def anonymous(_):
    """a volume without a name goes with its container, by --rm and rm -v, and by nothing else"""
    before = names()
    k.run("run", "--rm", "-v", "/a", "busybox", "touch", "/a/x")
    equal(names(), before)
    k.run("run", "--name", "keeps", "-v", "/a", "busybox", "true")
    k.run("rm", "keeps")
    equal(len(names()), len(before) + 1)
    k.run("run", "--name", "drops", "-v", "/a", "-v", "named:/b", "busybox", "true")
    k.run("rm", "-v", "drops")
    equal(len(names()), len(before) + 2)
    equal("named" in names(), True)
    mine = k.api("POST", "/volumes/create", {})[1]["Name"]
    k.run("run", "--rm", "-v", mine + ":/c", "busybox", "true")
    equal(mine in names(), True)


@test
def filled(_):
    """a new volume has what the image has there, with owners; nocopy leaves it empty; a part of a volume"""
    equal("sh" in k.out("run", "--rm", "-v", "fresh:/bin", "busybox", "ls", "/bin").split(), True)
    equal(k.run("run", "--rm", "-v", "empty:/bin:nocopy", "busybox", "ls", check=False).returncode, 127)
    k.run("run", "--rm", "-v", "parts:/p", "busybox", "sh", "-c", "mkdir -p /p/sub; echo in > /p/sub/f")
    if k.version() > 25:
        equal(k.out("run", "--rm", "--mount", "type=volume,src=parts,dst=/p,volume-subpath=sub", "busybox", "cat", "/p/f"), "in")


@test
def parts_through_links(_):
    """a link in the path of a part is followed as long as it stays in the volume"""
    k.run("run", "--rm", "-v", "linked:/p", "busybox", "sh", "-c", "mkdir -p /p/sub /p/a; echo in > /p/sub/f; echo file > /p/file; "
          "ln -s ../sub /p/a/in; ln -s / /p/a/root; ln -s root /p/a/twice")

    def start(part, *command):
        status, made = k.api("POST", "/containers/create", {"Image": "busybox", "Cmd": command, "HostConfig": {
            "NetworkMode": "none", "Mounts": [{"Type": "volume", "Source": "linked", "Target": "/p", "VolumeOptions": {"Subpath": part}}]}})
        equal(status, 201, made)
        answer = k.api("POST", f"/containers/{made['Id']}/start")
        if answer[0] == 204:
            k.run("wait", made["Id"])
            answer = k.out("logs", made["Id"])
        equal(k.api("DELETE", f"/containers/{made['Id']}?force=1")[0], 204)
        return answer

    equal(start("a/in", "cat", "/p/f"), "in")
    equal(start("file", "cat", "/p"), "file")
    for part in ("a/root", "a/twice"):
        equal(start(part, "ls", "/p"), (400, {"message": f"{part} leads out of what is mounted on /p"}))
    equal(start("nosuch", "ls", "/p")[0], 404)
    contains(start("nosuch", "ls", "/p")[1]["message"], "cannot access path nosuch of what is mounted on /p")


def volume(name, **options):
    return k.api("POST", "/volumes/create", {"Name": name, "DriverOpts": options})


@test
def options_of_the_driver(_):
    """type, device and o: a directory of the host, a tmpfs that lasts as long as it is used; what cannot be mounted is said"""
    host = d.dir + "/exported"
    os.makedirs(host + "/below")
    with open(host + "/file", "w") as f:
        f.write("of the host\n")
    equal(volume("hostdir", type="none", o="bind", device=host)[0], 201)
    equal(k.out("run", "--rm", "-v", "hostdir:/h", "busybox", "cat", "/h/file"), "of the host")
    k.run("run", "--rm", "-v", "hostdir:/h", "busybox", "sh", "-c", "echo back > /h/new")
    with open(host + "/new") as f:
        equal(f.read(), "back\n")
    equal(volume("readonly", type="none", o="bind,ro", device=host)[0], 201)
    contains(k.run("run", "--rm", "-v", "readonly:/h", "busybox", "touch", "/h/x", check=False).stderr, "Read-only")
    v = volume("memory", type="tmpfs", device="tmpfs", o="size=1m,mode=0700,noexec")[1]
    equal(v["Options"], {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700,noexec"})
    maps = []
    if not kernel_since(6, 3):
        maps = ["--userns", "host"]
        contains(k.run("run", "--rm", "-v", "memory:/t", "busybox", "true", check=False).stderr, "--userns=host")
    k.run("run", "-d", "--name", "keeps-it", *maps, "-v", "memory:/t", "busybox", "sh", "-c", "echo kept > /t/f; sleep 1000")
    contains(k.out("run", "--rm", *maps, "-v", "memory:/t", "busybox", "sh", "-c", "until [ -s /t/f ]; do :; done; cat /t/f; mount | grep ' /t '"),
             "kept\n")
    contains(k.out("exec", "keeps-it", "grep", " /t ", "/proc/mounts"), "size=1024k")
    where = k.inspect("keeps-it")["Mounts"][0]["Source"]
    equal((where, os.path.exists(where + "/f")), (k.api("GET", "/volumes/memory")[1]["Mountpoint"], True))
    d.kill()  # what was mounted for a run is unmounted at its end, whoever sees to that
    d.start()
    k.run("rm", "-f", "keeps-it")
    equal(os.path.exists(where), False)
    equal(k.out("run", "--rm", *maps, "-v", "memory:/t", "busybox", "ls", "/t"), "")
    volume("nowhere", type="none", o="bind", device=host + "/nope")
    r = k.run("run", "--rm", "-v", "nowhere:/h", "busybox", "true", check=False)
    contains(r.stderr, f"failed to mount local volume: mount {host}/nope:")
    contains(r.stderr, "no such file or directory")
    volume("odd", type="tmpfs", device="tmpfs", o="colour=red")
    contains(k.run("run", "--rm", "-v", "odd:/h", "busybox", "true", check=False).stderr, "colour")
    volume("served", type="nfs", o="addr=127.0.0.1,rw", device=":/nothing")
    equal(k.run("run", "--rm", "-v", "served:/h", "busybox", "true", check=False).returncode, 125)
    refused(400, "missing required option: \"device\"", "POST", "/volumes/create", {"Name": "nn", "DriverOpts": {"type": "nfs"}})
    refused(400, "DriverOpts", "POST", "/volumes/create", {"Name": "nn", "DriverOpts": {"type": "ext4", "device": "/dev/null"}})
    for name in "hostdir", "readonly", "memory", "nowhere", "odd", "served":
        k.run("volume", "rm", name)
    equal(sorted(os.listdir(host)), ["below", "file", "new"])


@test
def found_on_the_host(_):
    """Mountpoint of a volume and Source of a mount say where its files lie"""
    k.run("run", "--name", "writes", "-v", "placed:/v", "busybox", "sh", "-c", "echo x > /v/f")
    where = k.api("GET", "/volumes/placed")[1]["Mountpoint"]
    equal(where, k.inspect("writes")["Mounts"][0]["Source"])
    equal(where, [v["Mountpoint"] for v in k.api("GET", "/volumes")[1]["Volumes"] if v["Name"] == "placed"][0])
    with open(where + "/f") as f:
        equal(f.read(), "x\n")
    k.run("rm", "writes")
    k.run("volume", "rm", "placed")


def setup():
    global d, k
    d = docker_daemon("docker-vol")
    k = d.docker
    return d


if __name__ == "__main__":
    run(setup, lambda _: d.close())
