q docker run -d --name one --label tier=a busybox sleep 1000
q docker run -d --name two --label tier=b -p 8080:80 -p 127.0.0.1:8081:81/udp web:1 sleep 1000
q sh -c "docker run --name three --label tier=a --label x busybox sh -c 'exit 3'; true"
q docker create --name four -v data:/data busybox
q docker run -d --name five busybox sleep 1000
q docker pause five
q docker run --name six busybox true
t docker ps
t docker ps -a
t docker ps -aq
t docker ps -n 2 --format '{{.Names}}'
t docker ps -l --format '{{.Names}}'
t docker ps -a --format '{{.ID}} {{.Image}} {{.Command}} {{.Ports}} {{.Status}} {{.State}} {{.Names}} {{.Labels}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}'
t docker ps -s --format '{{.Names}} {{.Size}}'
t docker ps -a --no-trunc --format '{{.ID}} {{.Command}}'
for f in name=o name=^/one$ name=/t status=running status=exited status=created status=paused status=dead exited=3 exited=0 \
	label=tier label=tier=a label=tier=c label=x ancestor=busybox ancestor=web:1 ancestor=nosuch volume=data volume=/data volume=nosuch \
	network=bridge network=none publish=8080 publish=80/udp expose=80 expose=80/tcp before=three since=three health=none is-task=false \
	isolation=default; do
	t docker ps -a --filter $f --format '{{.Names}}'
done
t docker ps -a --filter name=one --filter name=six --format '{{.Names}}'
t docker ps -a --filter label=tier=a --filter status=exited --format '{{.Names}}'
t docker ps --filter nosuch=1
t docker ps --filter status=nosuch
t docker ps --filter exited=x
t docker ps --filter before=nosuch
t docker ps --filter health=nosuch
t docker ps --filter publish=x
t docker ps --format json --filter name=nosuch
t docker container ls -a --filter name=one --format '{{.Names}}'
