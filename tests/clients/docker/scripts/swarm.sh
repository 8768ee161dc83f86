# services, tasks, nodes, secrets, configs and stacks of a swarm of one node
t docker service ls
t docker node ls
t docker secret ls
t docker swarm leave
q docker swarm init --advertise-addr 127.0.0.1
t docker swarm init
t docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Managers}} {{.Swarm.Nodes}}'
t docker node ls --format '{{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}}'
t docker node ls --filter role=worker -q
t docker node ls --filter role=x
t docker node ls --filter nosuch=x
t docker node inspect nosuch
t docker node inspect self -f '{{.Spec.Role}} {{.Spec.Availability}} {{json .Spec.Labels}} {{.ManagerStatus.Leader}} {{.ManagerStatus.Reachability}} {{.Status.State}}'
node=$(docker node ls -q)
ts 'docker node update --label-add disk=ssd $(docker node ls -q) >/dev/null; docker node inspect self -f "{{json .Spec.Labels}}"'
ts 'docker node demote $(docker node ls -q)'
ts 'docker node rm $(docker node ls -q)'
ts 'echo word | docker secret create -l a=b word -'
ts 'echo word | docker secret create word -'
ts 'echo word | docker secret create bad/name -'
t docker secret ls --format '{{.Name}} {{.Driver}} {{.Labels}}'
t docker secret ls --filter name=wo --filter label=a -q
t docker secret ls --filter nosuch=x
t docker secret inspect word -f '{{.Spec.Name}} {{json .Spec.Labels}} {{json .Spec.Data}}'
t docker secret inspect nosuch
ts 'echo text | docker config create text -'
ts 'echo text | docker config create text -'
t docker config ls --format '{{.Name}} {{.Labels}}'
t docker config inspect text -f '{{.Spec.Name}} {{printf "%s" .Spec.Data}}'
t docker config inspect --pretty nosuch
t docker config rm nosuch
q docker service create -d --no-resolve-image --update-monitor 1s --update-parallelism 0 --rollback-monitor 1s --rollback-parallelism 0 --stop-grace-period 1s --name web --replicas 2 --secret word --config source=text,target=/text --label a=b --env X=y busybox sleep 1000
await '[ "$(docker service ls --filter name=web --format "{{.Replicas}}")" = 2/2 ]'
t docker service ls --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}'
t docker service ls --filter mode=global -q
t docker service ls --filter mode=x
t docker service ls --filter nosuch=x
t docker service ls --filter label=a=b --format '{{.Name}}'
ts 'docker service ps web --format "{{.Name}} {{.Image}} {{.DesiredState}} {{.Error}} {{.Ports}}" | sort'
t docker service ps nosuch
t docker service ps web --filter desired-state=shutdown -q
t docker service ps web --filter nosuch=x
t docker service inspect web -f '{{.Spec.Name}} {{json .Spec.Labels}} {{json .Spec.Mode}} {{json .Spec.TaskTemplate.ContainerSpec.Env}} {{json .Spec.TaskTemplate.ContainerSpec.Args}} {{.Version.Index | len}}'
t docker service inspect web -f '{{json .Spec.TaskTemplate.RestartPolicy}} {{json .Spec.UpdateConfig}} {{json .Spec.RollbackConfig}} {{json .Spec.EndpointSpec}} {{json .Spec.TaskTemplate.Placement}} {{json .Spec.TaskTemplate.Resources}}'
ts 'docker exec $(docker ps -q --filter label=com.docker.swarm.service.name=web | head -1) cat /run/secrets/word /text'
ts 'docker inspect $(docker ps -q --filter label=com.docker.swarm.service.name=web | head -1) -f "{{range \$k, \$v := .Config.Labels}}{{\$k}} {{end}}"'
t docker service inspect nosuch
t docker service inspect --pretty nosuch
t docker secret rm word
t docker config rm text
t docker service create -d --name web busybox
t docker service create -d --name bad --secret nosuch busybox
t docker service create -d --name bad --network nosuch busybox
t docker service create -d --name bad_name! busybox
t docker service create -d --name bad --mode x busybox
t docker service create -d --name bad --mode global --replicas 2 busybox
t docker service create -d --name bad --restart-condition x busybox
t docker service create -d --name bad -p 80:80 -p 80:81 busybox
t docker service create -d --name bad --mount type=bind,src=/nosuch busybox
t docker service create -d --name bad --limit-memory x busybox
t docker service create -d --name bad --constraint x busybox
t docker service update -d nosuch
t docker service update -d --args 'sleep 999' --no-resolve-image --update-delay 0s --update-monitor 1s web
await '[ "$(docker service inspect web -f "{{.UpdateStatus.State}}")" = completed ]'
t docker service inspect web -f '{{json .Spec.TaskTemplate.ContainerSpec.Args}} {{json .PreviousSpec.TaskTemplate.ContainerSpec.Args}} {{.UpdateStatus.State}} {{.UpdateStatus.Message}}'
t docker service rollback -d web
await '[ "$(docker service inspect web -f "{{.UpdateStatus.State}}")" = rollback_completed ]'
t docker service inspect web -f '{{json .Spec.TaskTemplate.ContainerSpec.Args}} {{.UpdateStatus.State}} {{.UpdateStatus.Message}}'
t docker service scale -d web=1 nosuch=2
t docker service scale -d web=x
await '[ "$(docker service ls --filter name=web --format "{{.Replicas}}")" = 1/1 ]'
t docker service rm web nosuch
await '[ -z "$(docker ps -q --filter label=com.docker.swarm.service.name=web)" ]'
t docker secret rm word nosuch
t docker config rm text
mkdir stack; cat >stack/c.yml <<'Y'
version: "3.7"
services:
  one:
    image: busybox
    command: sleep 1000
    labels: {on: container}
    deploy: {replicas: 1, labels: {on: service}}
    configs: [{source: file, target: /file}]
configs:
  file: {file: ./c.yml}
Y
q docker stack deploy --resolve-image never -c stack/c.yml st
await '[ "$(docker service ls --filter name=st_one --format "{{.Replicas}}")" = 1/1 ]'
t docker stack ls --format '{{.Name}} {{.Services}}'
t docker stack services st --format '{{.Name}} {{.Replicas}}'
t docker stack ps st --format '{{.Name}} {{.DesiredState}}'
t docker stack ps nosuch
t docker stack services nosuch
t docker network ls --filter name=st_ --format '{{.Name}} {{.Scope}}'
t docker stack rm st
t docker stack rm nosuch
t docker swarm leave
q docker swarm leave -f
await '[ -z "$(docker ps -aq)" ]'
t docker node inspect self
t docker stack deploy -c stack/c.yml st
