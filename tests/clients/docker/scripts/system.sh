t docker version --format '{{.Server.Os}} {{.Server.Arch}}'
ts 'docker version >/dev/null'
for f in .OSType .Architecture .Containers .ContainersRunning .Images .Swarm.LocalNodeState .DefaultRuntime .LoggingDriver \
	.Plugins.Volume .MemoryLimit .SwapLimit .PidsLimit .CPUSet .Isolation .ExperimentalBuild .Debug .IndexServerAddress; do
	t docker info -f "{{json $f}}"
done
ts 'docker info >/dev/null'
t docker plugin ls
t docker plugin inspect nosuch
t docker plugin rm nosuch
t docker plugin enable nosuch
t docker node ls
t docker service ls
t docker stack ls
t docker secret ls
t docker config ls
t docker swarm leave
t docker swarm ca
t docker swarm unlock-key
t docker service create busybox
t docker service inspect nosuch
t docker node inspect self
t docker secret inspect nosuch
ts 'docker login -u u -p p 127.0.0.1:1 2>&1 | grep -v WARNING'
t docker pull 127.0.0.1:1/x
t docker push 127.0.0.1:1/nosuch
t docker manifest inspect 127.0.0.1:1/x
t docker checkpoint ls nosuch
t docker context ls --format '{{.Name}}'
