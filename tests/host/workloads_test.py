#!/usr/bin/env python3
"""Workloads, secrets and configs through the native API and the command line."""
import glob
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from tap import contains, equal, run, test
from wabe import Daemon, busybox_rootfs, wait_until

IMAGE, OTHER = "busybox:one", "busybox:two"
TEMPLATE = {"image": IMAGE, "network": "none", "stop_timeout": "1s", "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]}


def setup():
    d = Daemon("workloads")
    try:
        d.start()
        tar = busybox_rootfs(d.dir + "/busybox.tar")
        d.cli("image", "import", tar, IMAGE)
        d.cli("image", "import", tar, OTHER)
    except BaseException:
        d.close()
        raise
    return d


def clean(d):
    if d.process is None:
        d.start()
    for kind in ("workload", "secret", "config"):
        for one in json.loads(d.out(kind, "ls", "--json")):
            d.cli(kind, "rm", one["id"])
    for i in d.out("ls", "-a", "-q").split():
        d.cli("rm", "-f", i, check=False)
    wait_until(lambda: not d.out("ls", "-a", "-q"), what="the end of all instances")


def create(d, name, template=None, **spec):
    body = {"name": name, "restart": {"delay": "10ms", "max_delay": "0s"}, **spec, "template": {**TEMPLATE, **(template or {})}}
    status, w = d.api("POST", "/v1/projects/default/workloads", body)
    assert status == 201, w
    return w


def patch(d, name, body, query=""):
    return d.api("PATCH", f"/v1/projects/default/workloads/{name}{query}", body)


def show(d, name):
    return json.loads(d.out("workload", "show", name))


def members(d, name, state=None):
    status, all_ = d.api("GET", f"/v1/projects/default/workloads/{name}/instances")
    equal(status, 200)
    return [i for i in all_["instances"] if state is None or i["status"]["state"] == state]


def slots(d, name):
    return sorted(i["spec"]["owner"]["slot"] for i in members(d, name, "running"))


def await_slots(d, name, wanted):
    wait_until(lambda: slots(d, name) == wanted, what=f"{name} in slots {wanted}")


def update_state(d, name):
    return show(d, name).get("update", {}).get("state")


@test
def scaling(d):
    """a workload has as many instances as it says, up and down, and none when it is gone"""
    equal(d.out("workload", "create", "--replicas", "3", "--network", "none", "web", IMAGE, "sleep", "1000"), "web")
    await_slots(d, "web", [1, 2, 3])
    one = members(d, "web")[0]
    contains(one["spec"]["name"], "web.")
    equal(one["spec"]["labels"]["wabe.workload"], show(d, "web")["id"])
    table = d.out("workload", "ls")
    contains(table, "3/3")
    contains(d.out("workload", "ps", "web"), one["spec"]["name"])
    d.cli("workload", "scale", "web=5")
    await_slots(d, "web", [1, 2, 3, 4, 5])
    d.cli("workload", "update", "--stop-timeout", "1s", "--update-parallelism", "0", "web")
    wait_until(lambda: update_state(d, "web") == "completed", what="the update")
    d.cli("workload", "scale", "web=1")
    wait_until(lambda: len(members(d, "web")) <= 2 and slots(d, "web") == [1], what="the end of four")
    d.cli("workload", "rm", "web")
    equal(d.cli("workload", "show", "web", check=False).returncode, 125)
    wait_until(lambda: not d.out("ls", "-a", "-q"), what="the end of the last")


@test
def replacing(d):
    """one that ends is replaced, its forerunners are kept for a while, and a removed one comes again"""
    create(d, "w", history=2, replicas=1)
    await_slots(d, "w", [1])
    seen = set()
    for _ in range(4):
        first = members(d, "w", "running")[0]
        seen.add(first["id"])
        os.kill(first["status"]["pid"], signal.SIGKILL)
        wait_until(lambda: [i for i in members(d, "w", "running") if i["id"] not in seen], what="another one")
    wait_until(lambda: len(members(d, "w", "exited")) == 2, what="a history of two")
    last = members(d, "w", "running")[0]
    equal(last["spec"]["owner"]["attempt"], 4)
    d.cli("rm", "-f", last["id"])
    wait_until(lambda: [i for i in members(d, "w", "running") if i["id"] != last["id"]], what="another one")


@test
def restart_policy(d):
    """conditions and attempts end what has no sense"""
    create(d, "never", {"command": ["false"]}, restart={"condition": "none"})
    create(d, "twice", {"command": ["false"]}, restart={"delay": "1ms", "max_attempts": 2})
    create(d, "well", {"command": ["true"]}, restart={"delay": "1ms", "condition": "on-failure"})
    wait_until(lambda: len(members(d, "twice", "exited")) == 3, what="two further attempts")
    wait_until(lambda: len(members(d, "never", "exited")) == 1 and len(members(d, "well", "exited")) == 1, what="the ends")
    # nothing more comes: something else that is asked for later is there before
    create(d, "later")
    await_slots(d, "later", [1])
    equal([len(members(d, n)) for n in ("never", "twice", "well")], [1, 3, 1])


@test
def what_cannot_be_made(d):
    """an image that is not there is told, and the workload comes to life once it is"""
    create(d, "w", {"image": "nowhere:1"}, history=3, never_pull=True)
    wait_until(lambda: len(show(d, "w").get("failures", [])) == 3, what="three records")
    contains(show(d, "w")["failures"][0]["error"], "nowhere:1")
    equal(members(d, "w"), [])
    d.cli("image", "tag", IMAGE, "nowhere:1")
    await_slots(d, "w", [1])
    create(d, "bad", {"command": ["/no/such/program"]})
    wait_until(lambda: [i for i in members(d, "bad") if i["status"].get("error")] or show(d, "bad").get("failures"),
               what="the reason")


def generations(d, name):
    return sorted((i["spec"]["owner"]["slot"], i["spec"]["owner"]["generation"]) for i in members(d, name, "running"))


@test
def rolling_update(d):
    """a new template reaches all instances, one at a time, and can be taken back"""
    create(d, "w", replicas=3, update={"monitor": "1ms"})
    await_slots(d, "w", [1, 2, 3])
    old = {i["id"] for i in members(d, "w")}
    d.cli("workload", "update", "--image", OTHER, "w")
    wait_until(lambda: update_state(d, "w") == "completed", what="the update")
    equal(generations(d, "w"), [(1, 2), (2, 2), (3, 2)])
    assert not old & {i["id"] for i in members(d, "w", "running")}
    equal({i["spec"]["image"] for i in members(d, "w", "running")}, {OTHER})
    equal({i["status"]["state"] for i in members(d, "w") if i["id"] in old}, {"exited"})
    d.cli("workload", "rollback", "w")
    wait_until(lambda: update_state(d, "w") == "rollback_completed", what="the way back")
    equal(generations(d, "w"), [(1, 1), (2, 1), (3, 1)])
    d.cli("workload", "update", "--force", "w")
    wait_until(lambda: update_state(d, "w") == "completed", what="the update")
    equal(generations(d, "w"), [(1, 3), (2, 3), (3, 3)])


@test
def start_first(d):
    """with start-first the new one runs before the old one ends"""
    create(d, "w", replicas=1, update={"order": "start-first", "monitor": "1ms"})
    await_slots(d, "w", [1])
    events = subprocess.Popen(d.line("events", "--type", "instance"), env=d.env, stdout=subprocess.PIPE, text=True)
    try:
        d.cli("workload", "update", "--env", "A=1", "w")
        wait_until(lambda: update_state(d, "w") == "completed", what="the update")
    finally:
        events.terminate()
    actions = [json.loads(line)["action"] for line in events.communicate()[0].splitlines() if line.startswith("{")]
    if actions:
        assert actions.index("start") < actions.index("die"), actions


@test
def failing_update(d):
    """an update whose instances fail pauses, or goes back by itself"""
    create(d, "w", replicas=2, update={"monitor": "10s", "delay": "10s"})
    await_slots(d, "w", [1, 2])
    patch(d, "w", {"template": {"command": ["false"]}})
    wait_until(lambda: update_state(d, "w") == "paused", what="the pause")
    contains(show(d, "w")["update"]["message"], "due to failure")
    equal([g for g in generations(d, "w") if g[0] == 2], [(2, 1)])
    patch(d, "w", {"template": {"command": TEMPLATE["command"]}, "update": {"monitor": "1ms", "delay": "0s", "on_failure": "rollback"}})
    wait_until(lambda: update_state(d, "w") == "completed", what="the update after the pause")
    good = show(d, "w")["generation"]
    patch(d, "w", {"template": {"command": ["false"]}, "update": {"monitor": "10s"}, "rollback": {"monitor": "1ms"}})
    wait_until(lambda: update_state(d, "w") == "rollback_completed", what="the way back")
    equal(generations(d, "w"), [(1, good), (2, good)])
    equal(show(d, "w")["spec"]["template"]["command"], TEMPLATE["command"])


@test
def jobs(d):
    """a job runs as often as it says, so many at a time, and tries again what fails"""
    d.cli("workload", "create", "--mode", "job", "--completions", "4", "--max-concurrent", "2", "--network", "none",
          "sum", IMAGE, "true")
    wait_until(lambda: len([i for i in members(d, "sum", "exited") if i["status"]["exit_code"] == 0]) == 4, what="four ends")
    create(d, "flaky", {"command": ["sh", "-c", "exit 3"]}, mode="job", restart={"condition": "on-failure", "delay": "1ms", "max_attempts": 1})
    wait_until(lambda: len(members(d, "flaky", "exited")) == 2, what="the second attempt")
    status, e = d.api("POST", "/v1/projects/default/workloads", {"name": "x", "mode": "job", "template": TEMPLATE})
    equal(status, 400)
    contains(e["error"]["message"], "on-failure")


@test
def files(d):
    """secrets and configs are files in memory, with owner and mode, and are seen nowhere else"""
    word = "swordfish-" + os.urandom(8).hex()
    d.cli("secret", "create", "-l", "a=b", "pass", input=word)
    d.cli("config", "create", "app.conf", input="threads = 4\n")
    equal(d.out("config", "cat", "app.conf"), "threads = 4")
    for text in (d.out("secret", "show", "pass"), d.out("secret", "ls", "--json"), d.out("config", "ls", "--json")):
        assert word not in text and "threads" not in text and "data" not in text, text
    d.cli("run", "-d", "--name", "c", "--stop-timeout", "1", "--secret", "pass,target=db,uid=7,gid=8,mode=0400", "--secret", "pass",
          "--config", "app.conf,target=/etc/app/app.conf", IMAGE, "sleep", "1000")
    equal(d.out("exec", "c", "cat", "/run/secrets/pass", "/run/secrets/db", "/etc/app/app.conf"), word + word + "threads = 4")
    equal(d.out("exec", "c", "stat", "-c", "%u %g %a", "/run/secrets/db", "/run/secrets/pass"), "7 8 400\n0 0 444")
    contains(d.out("exec", "c", "sh", "-c", "grep /run/secrets/pass /proc/mounts"), "tmpfs")
    equal(d.cli("exec", "c", "sh", "-c", "echo x > /etc/app/app.conf", check=False).returncode, 1)
    assert word not in d.out("show", "c") and word not in d.log()
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            assert word.encode() not in open(path, "rb").read(), path
        except OSError:
            pass
    for top, _, names in os.walk(d.state + "/agent"):
        for name in names:
            path = os.path.join(top, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < 1 << 20 and word.encode() in open(path, "rb").read():
                equal(os.stat(path).st_mode & 0o777, 0o600, path)
    r = d.cli("secret", "rm", "pass", check=False)
    assert r.returncode
    contains(r.stderr, "in use by instance c")
    d.cli("restart", "-t", "1", "c")
    equal(d.out("exec", "c", "cat", "/run/secrets/pass"), word)
    d.kill()
    d.start()
    d.cli("restart", "-t", "1", "c")
    equal(d.out("exec", "c", "cat", "/run/secrets/pass"), word)
    d.cli("rm", "-f", "c")
    d.cli("secret", "rm", "pass")
    r = d.cli("run", "--secret", "pass", IMAGE, "true", check=False)
    equal(r.returncode, 125)
    contains(r.stderr, "no secret is called pass")


@test
def files_of_a_workload(d):
    """a workload's instances get them too; who is in use cannot go"""
    d.cli("secret", "create", "pass", input="x1")
    d.cli("workload", "create", "--secret", "pass", "--network", "none", "w", IMAGE, "sleep", "1000")
    await_slots(d, "w", [1])
    equal(d.out("exec", members(d, "w")[0]["id"], "cat", "/run/secrets/pass"), "x1")
    contains(d.cli("secret", "rm", "pass", check=False).stderr, "in use by workload w")
    contains(d.cli("workload", "update", "--secret", "none", "w", check=False).stderr, "no secret is called none")


@test
def placeholders(d):
    """environment, host name, labels say which instance it is"""
    create(d, "w", {"env": ["A={{workload.name}}-{{slot}}-{{other}}"], "hostname": "{{workload.name}}-{{slot}}",
                    "labels": {"run": "{{instance.id}}"}}, replicas=2)
    await_slots(d, "w", [1, 2])
    for i in members(d, "w"):
        slot = i["spec"]["owner"]["slot"]
        equal(i["spec"]["env"], [f"A=w-{slot}-{{{{other}}}}"])
        equal(i["spec"]["hostname"], f"w-{slot}")
        equal(i["spec"]["labels"]["run"], i["spec"]["owner"]["run"])


@test
def versions_and_bad_input(d):
    """a change of what somebody else has changed is refused; so is nonsense, and nothing is changed"""
    w = create(d, "w", replicas=0)
    equal(w["version"], 1)
    status, w = patch(d, "w", {"replicas": 1}, "?version=1")
    equal((status, w["version"]), (200, 2))
    status, e = patch(d, "w", {"replicas": 2}, "?version=1")
    equal(status, 409)
    before = show(d, "w")["spec"]
    for body, text in (({"mode": "global"}, "cannot be changed"), ({"replicas": -1}, "replicas"), ({"template": {"name": "x"}}, "name"),
                       ({"nonsense": 1}, "nonsense"), ({"template": {"owner": {"slot": 1}}}, "owner"),
                       ({"constraints": ["node.x=1"]}, "=="), ({"template": {"auto_remove": True}}, "auto_remove"),
                       ({"rollback": {"on_failure": "rollback"}}, "on_failure"), ({"name": None}, "name")):
        status, e = patch(d, "w", body)
        assert 400 <= status < 500, (status, e)
        contains(json.dumps(e), text)
    equal(show(d, "w")["spec"], before)
    status, e = d.api("POST", "/v1/projects/default/workloads", {"name": "w", "template": TEMPLATE})
    equal(status, 409)
    status, e = d.api("POST", "/v1/projects/default/instances", {**TEMPLATE, "owner": {"workload": w["id"]}})
    equal(status, 400)
    for data in ("===", "a", None):
        status, e = d.api("POST", "/v1/projects/default/secrets", {"name": "s", "data": data})
        equal(status, 400)


@test
def killed_control(d):
    """killed at any time, control goes on where it was: nothing is lost, nothing comes twice"""
    create(d, "w", replicas=8, update={"parallelism": 3, "monitor": "1ms"})
    for round_ in range(3):
        wait_until(lambda: len(members(d, "w", "running")) >= 1 + 2 * round_, what="some")
        os.kill(d.pids()["control"], signal.SIGKILL)
        wait_until(lambda: d.cli("workload", "ls", check=False).returncode == 0, what="control again")
    await_slots(d, "w", list(range(1, 9)))
    patch(d, "w", {"template": {"env": ["B=1"]}})
    wait_until(lambda: [g for g in generations(d, "w") if g[1] == 2], what="the first new one")
    os.kill(d.pids()["control"], signal.SIGKILL)
    wait_until(lambda: d.cli("workload", "ls", check=False).returncode == 0, what="control again")
    wait_until(lambda: update_state(d, "w") == "completed", what="the update")
    equal(generations(d, "w"), [(n, 2) for n in range(1, 9)])
    d.kill()
    d.start()
    await_slots(d, "w", list(range(1, 9)))
    d.cli("workload", "rm", "w")
    os.kill(d.pids()["control"], signal.SIGKILL)
    wait_until(lambda: d.cli("ls", "-a", "-q", check=False).returncode == 0 and not d.out("ls", "-a", "-q"), 60, "the end of all")


if __name__ == "__main__":
    run(setup, Daemon.close, clean)
