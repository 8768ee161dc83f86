q docker run --name a busybox sh -c 'for i in 1 2 3 4 5; do echo line $i; done; echo error >&2; printf unended'
t docker logs a
t docker logs --tail 2 a
t docker logs -n 0 a
t docker logs --tail all a
t docker logs --tail x a
t docker logs -t --tail 1 a
t docker logs --since 1h a
t docker logs --until 1h a
t docker logs --since 2000-01-01T00:00:00Z --until 2000-01-02T00:00:00Z a
t docker logs -f a
t docker logs nosuch
ts 'docker logs a >/dev/null'
q docker run -t --name b busybox sh -c 'echo tty; echo err >&2'
ts 'docker logs b | od -c | head -3'
q docker run -d --name c busybox sh -c 'echo begin; while [ ! -e /go ]; do sleep 0.1; done; echo end'
await 'docker logs c | grep begin'
ts 'docker exec -d c touch /go; docker logs -f c'
t docker logs --details a
q docker run --name d --log-driver none busybox echo unseen
t docker logs d
q docker create --name e busybox
t docker logs e
api GET /containers/a/logs
api GET '/containers/a/logs?stdout=0&stderr=0'
api GET '/containers/nosuch/logs?stdout=1'
api GET '/containers/a/logs?stdout=1&since=bad'
