start=$(date +%s.%N)
q docker create --name ca --label l=v busybox true
q docker start ca
q docker wait ca
q docker rm ca
q docker volume create vol
q docker volume rm vol
q docker network create n
q docker network rm n
q docker tag busybox t:1
q docker rmi t:1
q docker run -d --name cb busybox sleep 1000
q docker exec cb true
q docker pause cb
q docker unpause cb
q docker rename cb cc
q docker kill -s USR1 cc
q docker restart -t 0 cc
q docker stop -t 0 cc
q docker rm cc
end=$(date +%s.%N)
t_events() {
	printf '$ docker events %s\n' "$*"
	docker events --since "$start" --until "$end" "$@" 2>&1
}
t_events --format '{{.Type}} {{.Action}}'
t_events --filter type=container --format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.image}} {{.Actor.Attributes.l}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.signal}}'
t_events --filter event=die --format '{{.Status}} {{.From}}'
t_events --filter container=cc --format '{{.Action}}'
t_events --filter label=l --format '{{.Action}}'
t_events --filter image=busybox --filter event=create --format '{{.Action}}'
t_events --filter type=volume --format '{{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}'
t_events --filter type=network --format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}'
t_events --filter type=image --format '{{.Action}} {{.Actor.Attributes.name}}'
t_events --filter type=nosuch --format '{{.Action}}'
t_events --filter nosuch=x
t docker events --since bad
api GET '/events?since=abc&until=1'
api GET '/events?since=2&until=1'
