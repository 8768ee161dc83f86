q docker run --name ca busybox sh -c 'for i in 1 2 3 4 5; do echo line $i; done; sleep 1; echo error >&2; sleep 1; printf unended'
t docker logs ca
t docker logs --tail 2 ca
t docker logs -n 0 ca
t docker logs --tail all ca
t docker logs --tail x ca
t docker logs -t --tail 1 ca
t docker logs --since 1h ca
t docker logs --until 1h ca
t docker logs --since 2000-01-01T00:00:00Z --until 2000-01-02T00:00:00Z ca
t docker logs -f ca
t docker logs nosuch
ts 'docker logs ca >/dev/null'
q docker run -t --name cb busybox sh -c 'echo tty; echo err >&2'
ts 'docker logs cb | od -c | head -3'
q docker run -d --name cc busybox sh -c 'echo begin; while [ ! -e /go ]; do sleep 0.1; done; echo end'
await 'docker logs cc | grep begin'
ts 'docker exec -d cc touch /go; docker logs -f cc'
t docker logs --details ca
q docker run --name cd --log-driver none busybox echo unseen
t docker logs cd
q docker create --name ce busybox
t docker logs ce
api GET /containers/ca/logs
api GET '/containers/ca/logs?stdout=0&stderr=0'
api GET '/containers/nosuch/logs?stdout=1'
api GET '/containers/ca/logs?stdout=1&since=bad'
