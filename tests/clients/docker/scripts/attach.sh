q docker run -d --name a busybox sh -c 'echo early; while [ ! -e /go ]; do sleep 0.1; done; echo late; exit 6'
await 'docker logs a | grep early'
ts 'docker exec -d a touch /go; docker attach a || echo $?'
t docker attach a
t docker attach nosuch
q docker run -di --name b busybox cat
ts 'echo through | docker attach b'
await 'docker inspect -f "{{.State.Status}}" b | grep exited'
t docker logs b
q docker run -di --name c busybox cat
t docker attach --no-stdin --sig-proxy=false nosuch
q docker pause c
t docker attach c
q docker unpause c
api POST '/containers/c/resize?h=24&w=80'
api POST '/containers/c/resize?h=a&w=80'
api POST '/containers/c/resize'
api GET '/containers/c/attach/ws'
