q docker run -d --name a -e V=container -w /tmp busybox sh -c 'trap exit TERM; sleep 1000 & wait'
t docker exec a echo hello
t docker exec a sh -c 'echo out; echo err >&2; exit 9'
ts 'echo fed | docker exec -i a cat'
t docker exec a cat
t docker exec a pwd
t docker exec -w / a pwd
t docker exec -w /nosuch a pwd
t docker exec -e V=exec -e W=2 a sh -c 'echo $V $W'
t docker exec a sh -c 'echo $V'
t docker exec -u 1000 a id
t docker exec -u alice:staff a id
t docker exec -u nobody-here a id
t docker exec a nosuch
t docker exec a /etc
t docker exec a sh -c 'kill -9 $$'
t docker exec -t a tty
t docker exec -t a sh -c 'exit 4'
t docker exec -d a sh -c 'echo $0 >/tmp/detached' name
await 'docker exec a test -s /tmp/detached'
t docker exec a cat /tmp/detached
t docker exec --privileged a sh -c 'test $(sed -n s/CapEff:.*0000//p /proc/self/status) != a80425fb'
t docker exec nosuch true
q docker pause a
t docker exec a true
q docker unpause a
q docker stop -t 1 a
t docker exec a true
q docker create --name b busybox
t docker exec b true
api POST /containers/nosuch/exec '{"Cmd":["true"]}'
api POST /containers/b/exec '{"Cmd":["true"]}'
q docker start a
api POST /containers/a/exec '{}'
api POST /containers/a/exec '{"Cmd":[]}'
api POST /containers/a/exec '{"Cmd":"true"}'
api POST /exec/nosuch/start '{}'
api GET /exec/nosuch/json
api POST '/exec/nosuch/resize?h=1&w=1'
