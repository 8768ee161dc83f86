q docker run -d --name a --health-cmd 'test -e /ok' --health-interval 200ms --health-retries 2 busybox sh -c 'touch /ok; sleep 1000'
await 'test "$(docker inspect -f "{{.State.Health.Status}}" a)" = healthy'
ts 'docker ps --format "{{.Names}} {{.Status}}"'
t docker inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{(index .State.Health.Log 0).ExitCode}}' a
t docker ps --filter health=healthy --format '{{.Names}}'
q docker exec a rm /ok
await 'test "$(docker inspect -f "{{.State.Health.Status}}" a)" = unhealthy'
ts 'docker ps --format "{{.Names}} {{.Status}}"'
t docker ps --filter health=unhealthy --format '{{.Names}}'
q docker stop -t 0 a
t docker inspect -f '{{.State.Health.Status}}' a
q docker run -d --name b --health-cmd 'echo checking; exit 1' --health-interval 200ms --health-retries 1000 busybox sleep 1000
await 'docker inspect -f "{{.State.Health.FailingStreak}}" b | grep -v 0'
t docker inspect -f '{{.State.Health.Status}} {{(index .State.Health.Log 0).Output}}' b
t docker create --name c --health-cmd x --health-interval 1us busybox
t docker create --name d --health-retries=-1 --health-cmd x busybox
