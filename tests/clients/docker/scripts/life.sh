q docker run -d --name ca busybox sh -c 'trap "echo term; exit 5" TERM; trap "echo usr1" USR1; echo up; while :; do sleep 0.1; done'
await 'docker logs ca | grep up'
t docker kill -s USR1 ca
await 'docker logs ca | grep usr1'
t docker stop ca
t docker wait ca
t docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' ca
t docker stop ca
t docker kill ca
t docker pause ca
t docker restart -t 5 ca
t docker kill ca
t docker wait ca
t docker wait nosuch
t docker stop nosuch
t docker kill -s NOSUCH ca
q docker start ca
t docker kill -s NOSUCH ca
t docker kill -s 0 ca
t docker kill -s 99 ca
t docker pause ca
t docker pause ca
t docker inspect -f '{{.State.Status}} {{.State.Paused}} {{.State.Running}}' ca
t docker stop -t 1 ca
t docker unpause ca
q docker start ca
t docker rm ca
t docker unpause ca
t docker rename ca cb
t docker rename cb cb
t docker rename nosuch cc
q docker create --name cc busybox
t docker rename cc cb
t docker rename cc 'bad name'
t docker rename cc ''
t docker rm -f cb
t docker rm -f nosuch
t docker rm nosuch
t docker restart nosuch
t docker pause nosuch
q docker run -d --name hang busybox sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
await 'docker logs hang | grep up'
t docker stop -t 1 hang
t docker inspect -f '{{.State.ExitCode}}' hang
q docker run -d --name cr --restart on-failure:2 busybox sh -c 'exit 4'
await 'test "$(docker inspect -f "{{.RestartCount}} {{.State.Status}}" cr)" = "2 exited"'
t docker inspect -f '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' cr
q docker run -d --name always --restart always busybox sh -c 'echo x >>/f; test $(wc -l </f) -lt 3 || sleep 1000'
await 'test "$(docker inspect -f "{{.RestartCount}}" always)" = 2'
t docker inspect -f '{{.RestartCount}} {{.State.Status}}' always
t docker stop -t 0 always
t docker inspect -f '{{.State.Status}}' always
t docker update --restart no always
t docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' always
api POST /containers/cc/stop
api POST /containers/nosuch/start
q docker start always
api POST /containers/always/start
api POST '/containers/always/stop?t=x'
api POST '/containers/always/kill?signal=BAD'
