command -v docker-compose >/dev/null || exit 0
mkdir project; cd project; mkdir conf; echo configured >conf/file
cat >docker-compose.yml <<'D'
version: "2.4"
services:
  db:
    image: busybox
    command: sh -c 'touch /ok; sleep 1000'
    healthcheck: {test: test -e /ok, interval: 1s, retries: 20}
    volumes: [data:/data]
    stop_signal: SIGKILL
  web:
    image: busybox
    command: sh -c 'ping -c 1 -W 5 -q db >/reached; sleep 1000'
    depends_on: {db: {condition: service_healthy}}
    environment: {A: b}
    ports: ["8080:80"]
    volumes: [./conf:/conf:ro]
    networks: {default: {aliases: [www]}}
    mem_limit: 64m
    ulimits: {nofile: {soft: 100, hard: 200}}
    extra_hosts: ["other:10.1.2.3"]
    stop_signal: SIGKILL
volumes: {data: {}}
D
c() { ts "docker-compose $* 2>&1 | tr -d '\\r' | sort -u"; }
c config -q
c up -d
ts 'docker ps --format "{{.Names}} {{.Status}}" | sort | sed "s/Up.*(/Up (/; s/Up [^(]*$/Up/"'
await 'docker exec project_web_1 test -s /reached'
t docker exec project_web_1 grep -c '1 packets received' /reached
t docker exec project_web_1 cat /conf/file
t docker exec project_web_1 grep other /etc/hosts
t docker exec project_db_1 ping -c 1 -W 5 -q www
c up -d
c ps -q
c ps
c exec -T web echo inside
c run --rm -T db echo once
sed -i 's/A: b/A: c/' docker-compose.yml
c up -d
t docker exec project_web_1 sh -c 'echo $A'
c up -d --scale db=2 --no-recreate
ts 'docker ps --format "{{.Names}}" | sort'
ts 'docker-compose logs db | grep -c Attaching'
c stop web
c start web
c restart web
c pause web
c unpause web
c port web 80
c kill web
c rm -f web
c down -v
ts 'docker ps -aq; docker volume ls -q; docker network ls --filter type=custom -q'
