q docker run -d --name ca busybox sh -c 'echo early; while [ ! -e /go ]; do sleep 0.1; done; sleep 2; echo late; exit 6'
await 'docker logs ca | grep early'
ts 'docker exec -d ca touch /go; docker attach ca || echo $?'
t docker attach ca
t docker attach nosuch
q docker run -di --name cb busybox sh -c 'read x; echo got $x'
q sh -c 'echo through | docker attach cb; true'
await 'docker inspect -f "{{.State.Status}}" cb | grep exited'
t docker logs cb
q docker run -di --name cc busybox cat
t docker attach --no-stdin --sig-proxy=false nosuch
q docker pause cc
t docker attach cc
q docker unpause cc
api POST '/containers/cc/resize?h=24&w=80'
api POST '/containers/cc/resize?h=a&w=80'
api POST '/containers/cc/resize'
api GET '/containers/cc/attach/ws'
