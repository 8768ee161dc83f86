#!/usr/bin/env python3
"""docker-compose 1.29 on projects as people write them."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from docker import docker_daemon  # noqa: E402
from tap import contains, equal, need, run, test  # noqa: E402

d = k = None
IDLE = "    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n"


def compose(name, text, *args, check=True):
    """Runs docker-compose on a project of that name; text None: as it was."""
    need("docker-compose", shutil.which("docker-compose"))
    where = f"{d.dir}/{name}"
    os.makedirs(where, exist_ok=True)
    if text:
        with open(where + "/docker-compose.yml", "w") as f:
            f.write(text)
    r = subprocess.run(["docker-compose", "--no-ansi", "-p", name, *args], cwd=where, env=k.env, capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=200)
    if check and r.returncode:
        raise AssertionError(f"docker-compose {args}: {r.returncode}\n{r.stdout}\n{r.stderr}")
    return r


@test
def two_services(_):
    """names, aliases, static addresses, volumes, hosts; exec, run, logs; down takes all away"""
    text = f"""
version: "2.4"
services:
  web:
{IDLE}    networks:
      back: {{aliases: [front], ipv4_address: 172.27.0.9}}
    volumes: ["data:/data", "/anonymous"]
    extra_hosts: ["far:1.2.3.4"]
    ports: ["127.0.0.1:18900:80"]
    ulimits: {{nofile: 333}}
  job:
{IDLE}    depends_on: [web]
    networks: [back]
networks:
  back: {{ipam: {{config: [{{subnet: 172.27.0.0/24}}]}}}}
volumes:
  data: {{labels: {{a: b}}}}
"""
    compose("pair", text, "up", "-d")
    contains(compose("pair", None, "ps").stdout, "127.0.0.1:18900->80/tcp")
    contains(compose("pair", None, "exec", "-T", "job", "ping", "-c1", "-W5", "front").stdout, "172.27.0.9")
    equal(compose("pair", None, "exec", "-T", "web", "sh", "-c", "ulimit -n; grep -c far /etc/hosts; echo kept > /data/f").stdout, "333\n1\n")
    equal(compose("pair", None, "run", "--rm", "-T", "job", "echo", "once").stdout, "once\n")
    before = k.inspect("pair_web_1")["Id"]
    compose("pair", text.replace("nofile: 333", "nofile: 444"), "up", "-d")
    equal(k.inspect("pair_web_1")["Id"] == before, False)
    equal(compose("pair", None, "exec", "-T", "web", "sh", "-c", "ulimit -n; cat /data/f").stdout, "444\nkept\n")
    compose("pair", None, "restart", "-t", "0", "job")
    compose("pair", None, "down", "-v")
    equal(k.out("ps", "-aq"), "")
    equal([n["Name"] for n in k.api("GET", '/networks?filters={"type":["custom"]}')[1]], [])
    # one without a name was handed to its container's successor by its id: it is nobody's any more, as with dockerd
    equal([v for v in k.out("volume", "ls", "-q").split() if len(v) < 64], [])


@test
def many(_):
    """scale, health, profiles"""
    text = f"""
version: "2.4"
services:
  db:
{IDLE}    healthcheck: {{test: ["CMD", "true"], interval: 1s, retries: 5}}
  app:
{IDLE}    depends_on: {{db: {{condition: service_healthy}}}}
  extra:
{IDLE}    profiles: [more]
"""
    compose("many", text, "up", "-d", "--scale", "app=3")
    equal(len(k.out("ps", "-q").split()), 4)
    equal(k.inspect("many_db_1")["State"]["Health"]["Status"], "healthy")
    compose("many", None, "up", "-d", "--scale", "app=1")
    equal(len(k.out("ps", "-q").split()), 2)
    compose("many", None, "--profile", "more", "up", "-d")
    equal(len(k.out("ps", "-q").split()), 3)
    compose("many", None, "--profile", "more", "down")
    equal(k.out("ps", "-aq"), "")


def setup():
    global d, k
    d = docker_daemon("docker-compose", network=None)
    k = d.docker
    return d


if __name__ == "__main__":
    run(setup, lambda _: d.close())
