q docker run -d --name ca -e V=container -w /tmp busybox sh -c 'trap exit TERM; sleep 1000 & wait'
t docker exec ca echo hello
t docker exec ca sh -c 'echo out; echo err >&2; exit 9'
ts 'echo fed | docker exec -i ca cat'
t docker exec ca cat
t docker exec ca pwd
t docker exec -w / ca pwd
t docker exec -w /nosuch ca pwd
t docker exec -e V=exec -e W=2 ca sh -c 'echo $V $W'
t docker exec ca sh -c 'echo $V'
t docker exec -u 1000 ca id
t docker exec -u alice:staff ca id
t docker exec -u nobody-here ca id
t docker exec ca nosuch
t docker exec ca /etc
t docker exec ca sh -c 'kill -9 $$'
t docker exec -t ca tty
t docker exec -t ca sh -c 'exit 4'
t docker exec -d ca sh -c 'echo $0 >/tmp/detached' name
await 'docker exec ca test -s /tmp/detached'
t docker exec ca cat /tmp/detached
t docker exec --privileged ca sh -c 'test $(sed -n s/CapEff:.*0000//p /proc/self/status) != a80425fb'
t docker exec nosuch true
q docker pause ca
t docker exec ca true
q docker unpause ca
q docker stop -t 1 ca
t docker exec ca true
q docker create --name cb busybox
t docker exec cb true
api POST /containers/nosuch/exec '{"Cmd":["true"]}'
api POST /containers/cb/exec '{"Cmd":["true"]}'
q docker start ca
api POST /containers/ca/exec '{}'
api POST /containers/ca/exec '{"Cmd":[]}'
api POST /containers/ca/exec '{"Cmd":"true"}'
api POST /exec/nosuch/start '{}'
api GET /exec/nosuch/json
api POST '/exec/nosuch/resize?h=1&w=1'
