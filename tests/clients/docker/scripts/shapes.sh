# superset
q docker run -d --name ca --network bridge -p 8080:80 -v vol:/vol -v /tmp:/t --label l=v --health-cmd true --health-interval 200ms busybox sleep 1000
q docker network create net
q docker run -d --name cb --network net busybox sleep 1000
await 'test "$(docker inspect -f "{{.State.Health.Status}}" ca)" = healthy'
for path in /v1.41/info /v1.41/version '/v1.41/containers/json?all=1&size=1' '/v1.41/containers/ca/json?size=1' /v1.41/containers/cb/json /v1.41/images/json \
	/v1.41/images/busybox/json /v1.41/images/web:1/json /v1.41/images/busybox/history /v1.41/networks /v1.41/networks/bridge /v1.41/networks/net '/v1.41/networks/net?verbose=1' \
	/v1.41/volumes /v1.41/volumes/vol /v1.41/system/df '/v1.41/containers/ca/stats?stream=0' '/v1.41/containers/ca/top' /v1.24/containers/json \
	/v1.24/images/json /v1.24/containers/ca/json '/v1.41/events?since=1&until=2'; do
	api --shape GET "$path"
done
api --shape POST /v1.41/containers/prune
api --shape POST /v1.41/images/prune
api --shape POST /v1.41/volumes/prune
api --shape POST /v1.41/networks/prune
api --shape POST /v1.41/build/prune
api --shape POST /v1.41/containers/create '{"Image":"busybox"}'
api --shape POST /v1.41/volumes/create '{}'
api --shape POST /v1.41/networks/create '{"Name":"n3"}'
api --shape POST /v1.41/containers/ca/exec '{"Cmd":["true"]}'
api --shape POST /v1.41/containers/ca/update '{}'
api --shape POST '/v1.41/containers/ca/kill'
api --shape POST '/v1.41/containers/ca/wait'
api --shape DELETE /v1.41/images/web:1
