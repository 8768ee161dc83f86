q docker run -d --name ca --health-cmd 'test -e /ok' --health-interval 200ms --health-retries 2 busybox sh -c 'touch /ok; sleep 1000'
await 'test "$(docker inspect -f "{{.State.Health.Status}}" ca)" = healthy'
ts 'docker ps --format "{{.Names}} {{.Status}}"'
t docker inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{(index .State.Health.Log 0).ExitCode}}' ca
t docker ps --filter health=healthy --format '{{.Names}}'
q docker exec ca rm /ok
await 'test "$(docker inspect -f "{{.State.Health.Status}}" ca)" = unhealthy'
ts 'docker ps --format "{{.Names}} {{.Status}}"'
t docker ps --filter health=unhealthy --format '{{.Names}}'
q docker stop -t 0 ca
t docker inspect -f '{{.State.Health.Status}}' ca
q docker run -d --name cb --health-cmd 'echo checking; exit 1' --health-interval 200ms --health-retries 1000 busybox sleep 1000
await 'docker inspect -f "{{.State.Health.FailingStreak}}" cb | grep -v 0'
t docker inspect -f '{{.State.Health.Status}} {{(index .State.Health.Log 0).Output}}' cb
t docker create --name cc --health-cmd x --health-interval 1us busybox
t docker create --name cd --health-retries=-1 --health-cmd x busybox
