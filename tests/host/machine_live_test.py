#!/usr/bin/env python3
"""Changes of a machine that runs: processors, memory, disks, cards and CDs that come and go, with a guest that takes part (Linux with
busybox) and with one that is deaf to it (tests/lib/tiny-guest.s)."""
import json
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from machine import qemu_of  # noqa: E402
from machine_linux import daemon, guest, until  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402
from wabe import wait_until  # noqa: E402

MIB = 1 << 20


def remove(d, id):
    d.cli("rm", "-f", id)
    wait_until(lambda: not any(d.leftovers().values()), 20, f"removal of everything: {d.leftovers()}")


def refused(d, text, *args):
    r = d.cli(*args, check=False)
    equal(r.returncode, 125, r.stderr)
    contains(r.stderr, text)


def monitor(d, id, command, **arguments):
    """What QEMU itself says."""
    at = os.open(f"{d.run_dir}/shim/{id}", os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(f"/proc/self/fd/{at}/qmp")  # its own path may be too long
            f = s.makefile("rw")
            f.readline()
            for line in {"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}:
                f.write(json.dumps(line) + "\n")
                f.flush()
                answer = json.loads(f.readline())
                while "event" in answer:
                    answer = json.loads(f.readline())
            return answer["return"]
    finally:
        os.close(at)


def spec(d, id):
    return d.json("show", id)["spec"]


def group_memory(d, id):
    return d.json("stats", "--no-stream", id)[id]["memory_limit"]


@test
def processors_and_memory(d):
    """Linux gets processors and memory, and gives them back; the control group has room for it; what is changed stays over a restart"""
    id, c = guest(d, "--cpus", "1", "--cpus-max", "3", "--memory-max", "512m")
    with c:
        before = group_memory(d, id)
        d.cli("update", "--cpus", "3", id)
        until(c, "test -e /sys/devices/system/cpu/cpu2/online")
        c.send("echo 1 >/sys/devices/system/cpu/cpu1/online; echo 1 >/sys/devices/system/cpu/cpu2/online\n")
        until(c, "test $(nproc) = 3")
        if d.json("info")["agent"]["engine"] == "kvm":
            d.cli("update", "--cpus", "2", id)
            until(c, "test $(nproc) = 2")
        else:
            refused(d, "translator", "update", "--cpus", "2", id)
            until(c, "test $(nproc) = 3")
        c.send("has=$(awk '/MemTotal/{print $2}' /proc/meminfo)\n")
        d.cli("update", "-m", "384m", id)
        until(c, "test $(awk '/MemTotal/{print $2}' /proc/meminfo) -ge $((has + 120000))")
        assert group_memory(d, id) >= before + 128 * MIB
        d.cli("update", "-m", "192m", id)
        until(c, "test $(awk '/MemTotal/{print $2}' /proc/meminfo) -le $((has + 1000))")
        equal(monitor(d, id, "query-balloon")["actual"], 192 * MIB)
        d.cli("update", "-m", "320m", id)
        until(c, "test $(awk '/MemTotal/{print $2}' /proc/meminfo) -ge $((has + 60000))")
        refused(d, "cpus_max", "update", "--cpus", "4", id)
        refused(d, "memory_max", "update", "-m", "1g", id)
        equal(spec(d, id)["limits"]["memory"], 320 * MIB)
    d.cli("stop", "-t", "1", id)
    d.cli("start", id)
    wait_until(lambda: d.out("logs", id).count("linux is up") == 2, 240, "Linux again")
    equal(monitor(d, id, "query-memory-size-summary")["base-memory"], 320 * MIB)
    remove(d, id)


@test
def deaf(d):
    """a guest that takes no part is told so, and nothing has changed"""
    id = d.out("run", "--vm", "-d", "-m", "64m", "--cpus", "1", "--cpus-max", "2", "--memory-max", "128m", "tiny:1").strip()
    wait_until(lambda: "tiny guest is up" in d.out("logs", id), 30)
    d.cli("volume", "create", "--kind", "block", "--size", "8m", "deaf")
    before, room = spec(d, id), group_memory(d, id)
    refused(d, "virtio-mem", "update", "-m", "128m", id)
    refused(d, "balloon", "update", "-m", "32m", id)
    equal((spec(d, id), group_memory(d, id)), (before, room))
    equal([m["data"]["requested-size"] for m in monitor(d, id, "query-memory-devices")], [0])
    d.cli("update", "--cpus", "2", id)
    refused(d, "processor", "update", "--cpus", "1", id)
    equal(spec(d, id)["limits"]["cpus"], 2)
    d.cli("volume", "attach", "deaf", id, "/data")
    refused(d, "let go", "volume", "detach", "deaf", id)
    contains(monitor(d, id, "query-block")[-1]["qdev"], "volume")
    equal([m["source"] for m in spec(d, id)["mounts"]], ["deaf"])
    d.cli("rm", "-f", id)
    d.cli("volume", "rm", "deaf")
    wait_until(lambda: not any(d.leftovers().values()), 20, "removal")


def affinities(d, id):
    """The CPUs on which each thread of QEMU's may run, that are not all."""
    every, found = sorted(os.sched_getaffinity(0)), []
    for thread in os.listdir(f"/proc/{qemu_of(d, id)}/task"):
        try:
            found.append(sorted(os.sched_getaffinity(int(thread))))
        except ProcessLookupError:
            pass
    return sorted(cpus for cpus in found if cpus != every)


@test
def pinned(d):
    """processors run on the CPUs that they are to, also those that come later, and when that changes; what cannot be is refused, and nothing has changed"""
    first, *_, last = sorted(os.sched_getaffinity(0))
    need("two CPUs", first != last)
    id = d.out("run", "--vm", "-d", "-m", "64m", "--cpus", "1", "--cpus-max", "2", "--pin", str(last), "--pin", str(first), "tiny:1").strip()
    wait_until(lambda: "tiny guest is up" in d.out("logs", id), 30)
    equal(affinities(d, id), [[last]])
    d.cli("update", "--cpus", "2", id)
    equal(affinities(d, id), [[first], [last]])
    refused(d, "machine.pin", "update", "--pin", "1000", id)
    equal((affinities(d, id), spec(d, id)["machine"]["pin"]), ([[first], [last]], [str(last), str(first)]))
    d.cli("update", "--pin", str(first), id)
    equal(affinities(d, id), [[first]])
    refused(d, "machine.pin", "run", "--vm", "-d", "-m", "64m", "--pin", "1000", "tiny:1")
    for one in d.json("ls", "-a"):
        d.cli("rm", "-f", one["id"])
    wait_until(lambda: not any(d.leftovers().values()), 20, "removal")


@test
def disks(d):
    """a volume comes, grows and goes while Linux writes to it; the root's disk grows; a file system is refused"""
    d.cli("volume", "create", "--kind", "block", "--size", "8m", "disk")
    d.cli("volume", "create", "files")
    id, c = guest(d)
    with c:
        until(c, "test $(cat /sys/block/vda/size) = 32768")
        d.cli("update", "--root-size", "24m", id)
        until(c, "test $(cat /sys/block/vda/size) = 49152")
        d.cli("volume", "attach", "disk", id, "/data")
        until(c, "test -b /dev/vdb")
        c.send("echo from inside >/dev/vdb; sync; echo written\n")
        c.expect("written")
        d.cli("volume", "update", "--size", "12m", "disk")
        until(c, "test $(cat /sys/block/vdb/size) = 24576")
        d.cli("volume", "detach", "disk", id)
        until(c, "! test -e /sys/block/vdb")
        d.cli("volume", "attach", "disk", id, "/again")
        until(c, "test -b /dev/vdb")
        c.send("head -c 11 /dev/vdb; echo\n")
        c.expect("from inside")
        d.cli("volume", "detach", "disk", id)
        refused(d, "block volumes", "volume", "attach", "files", id, "/files")
    d.cli("rm", "-f", id)
    d.cli("volume", "rm", "disk", "files")
    wait_until(lambda: not any(d.leftovers().values()), 20, "removal")


@test
def cards(d):
    """a network is connected and disconnected: the card comes and goes, with its address by DHCP, and so again"""
    d.cli("network", "create", "one")
    d.cli("network", "create", "two")
    id, c = guest(d, "--network", "one")
    with c:
        until(c, "test -e /sys/class/net/eth0")
        for _ in range(2):
            d.cli("network", "connect", "two", id)
            nic = [n for n in d.json("show", id)["nics"] if n["network"] == "two"][0]
            until(c, "test -e /sys/class/net/eth1")
            until(c, f"grep -q {nic['mac']} /sys/class/net/eth1/address")
            c.send("ip link set eth1 up; udhcpc -i eth1 -n -q -f -s /bin/true >/dev/null && echo leased\n")
            c.expect("leased")
            d.cli("network", "disconnect", "two", id)
            until(c, "! test -e /sys/class/net/eth1")
    d.cli("rm", "-f", id)
    d.cli("network", "rm", "one", "two")
    wait_until(lambda: not any(d.leftovers().values()), 20, "removal")


@test
def discs(d):
    """CDs are changed and taken out while the machine runs; there is no more room than drives"""
    sizes = {}
    for name, size in ("a", 1 * MIB), ("b", 3 * MIB):
        os.makedirs(f"{d.dir}/{name}")
        with open(f"{d.dir}/{name}/file", "wb") as f:
            f.truncate(size)
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", f"{d.dir}/{name}.iso", f"{d.dir}/{name}"], check=True, capture_output=True)
        sizes[name] = os.path.getsize(f"{d.dir}/{name}.iso")
        d.cli("image", "import", "--kind", "iso", f"{d.dir}/{name}.iso", f"cd-{name}:1")
    id = d.out("run", "--vm", "-d", "-m", "64m", "--cdrom", "cd-a:1", "--drives", "2", "tiny:1").strip()
    wait_until(lambda: "tiny guest is up" in d.out("logs", id), 30)

    def inside():
        drives = {b["qdev"]: b.get("inserted", {}).get("image", {}).get("virtual-size") for b in monitor(d, id, "query-block")}
        return drives["cdrom0"], drives["cdrom1"]
    equal(inside(), (sizes["a"], None))
    d.cli("update", "--cdrom", "cd-b:1", "--cdrom", "cd-a:1", id)
    equal(inside(), (sizes["b"], sizes["a"]))
    d.cli("update", "--label", "a=b", id)
    equal(inside(), (sizes["b"], sizes["a"]))
    refused(d, "no drive", "update", "--cdrom", "cd-a:1", "--cdrom", "cd-a:1", "--cdrom", "cd-a:1", id)
    equal(inside(), (sizes["b"], sizes["a"]))
    equal(len(spec(d, id)["machine"]["cdroms"]), 2)
    d.api("PATCH", f"/v1/projects/default/instances/{id}", {"machine": {"cdroms": []}})
    equal(inside(), (None, None))
    remove(d, id)


if __name__ == "__main__":
    run(lambda: daemon("live"), lambda d: d.close())
