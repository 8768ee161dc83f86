q docker run -d --name a busybox sh -c 'trap "echo term; exit 5" TERM; trap "echo usr1" USR1; echo up; while :; do sleep 0.1; done'
await 'docker logs a | grep up'
t docker kill -s USR1 a
await 'docker logs a | grep usr1'
t docker stop a
t docker wait a
t docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' a
t docker stop a
t docker kill a
t docker pause a
t docker restart -t 5 a
t docker kill a
t docker wait a
t docker wait nosuch
t docker stop nosuch
t docker kill -s NOSUCH a
q docker start a
t docker kill -s NOSUCH a
t docker kill -s 0 a
t docker kill -s 99 a
t docker pause a
t docker pause a
t docker inspect -f '{{.State.Status}} {{.State.Paused}} {{.State.Running}}' a
t docker stop -t 1 a
t docker unpause a
q docker start a
t docker rm a
t docker unpause a
t docker rename a b
t docker rename b b
t docker rename nosuch c
q docker create --name c busybox
t docker rename c b
t docker rename c 'bad name'
t docker rename c ''
t docker rm -f b
t docker rm -f nosuch
t docker rm nosuch
t docker restart nosuch
t docker pause nosuch
q docker run -d --name hang busybox sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
await 'docker logs hang | grep up'
t docker stop -t 1 hang
t docker inspect -f '{{.State.ExitCode}}' hang
q docker run -d --name r --restart on-failure:2 busybox sh -c 'exit 4'
await 'test "$(docker inspect -f "{{.RestartCount}} {{.State.Status}}" r)" = "2 exited"'
t docker inspect -f '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' r
q docker run -d --name always --restart always busybox sh -c 'echo x >>/f; test $(wc -l </f) -lt 3 || sleep 1000'
await 'test "$(docker inspect -f "{{.RestartCount}}" always)" = 2'
t docker inspect -f '{{.RestartCount}} {{.State.Status}}' always
t docker stop -t 0 always
t docker inspect -f '{{.State.Status}}' always
t docker update --restart no always
t docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' always
api POST /containers/c/stop
api POST /containers/nosuch/start
q docker start always
api POST /containers/always/start
api POST '/containers/always/stop?t=x'
api POST '/containers/always/kill?signal=BAD'
api POST '/containers/always/wait?condition=bad'
