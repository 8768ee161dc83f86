q docker create --name ca -h host1 --domainname example.org -e X=1 --label l=v -p 8080:80 --memory 64m --cpus 1.5 --user 1:2 -w /w -it \
	--restart unless-stopped --cap-add NET_ADMIN --cap-drop MKNOD --dns 1.2.3.4 --add-host h:1.2.3.4 --read-only --tmpfs /t:size=1m \
	--ulimit nofile=10:20 --sysctl net.ipv4.ip_forward=1 --shm-size 1m --init --group-add 5 --security-opt no-new-privileges \
	--mount type=volume,src=vv,dst=/v -v /tmp:/tmp:ro web:1 run this
t docker inspect -f '{{.Name}} {{.Path}} {{json .Args}} {{.Image}} {{.RestartCount}} {{.Driver}} {{.Platform}}' ca
for f in .State .Config.Hostname .Config.Domainname .Config.User .Config.ExposedPorts .Config.Tty .Config.OpenStdin .Config.StdinOnce \
	.Config.AttachStdin .Config.AttachStdout .Config.Env .Config.Cmd .Config.Image .Config.Volumes .Config.WorkingDir .Config.Entrypoint \
	.Config.Labels .Config.StopSignal .Config.OnBuild .HostConfig.Binds .HostConfig.Memory .HostConfig.MemorySwap .HostConfig.NanoCpus \
	.HostConfig.NetworkMode .HostConfig.PortBindings .HostConfig.RestartPolicy .HostConfig.AutoRemove .HostConfig.CapAdd .HostConfig.CapDrop \
	.HostConfig.Dns .HostConfig.DnsSearch .HostConfig.DnsOptions .HostConfig.ExtraHosts .HostConfig.GroupAdd .HostConfig.IpcMode \
	.HostConfig.PidMode .HostConfig.UTSMode .HostConfig.UsernsMode .HostConfig.Privileged .HostConfig.PublishAllPorts .HostConfig.ReadonlyRootfs \
	.HostConfig.SecurityOpt .HostConfig.ShmSize .HostConfig.Sysctls .HostConfig.Tmpfs .HostConfig.Ulimits .HostConfig.Init .HostConfig.Runtime \
	.HostConfig.Mounts .HostConfig.MaskedPaths .HostConfig.ReadonlyPaths .HostConfig.ConsoleSize .HostConfig.Isolation .HostConfig.VolumesFrom \
	.HostConfig.CgroupParent .HostConfig.Devices .HostConfig.PidsLimit .HostConfig.OomKillDisable .HostConfig.OomScoreAdj .HostConfig.LogConfig \
	.NetworkSettings.Ports .NetworkSettings.SandboxKey .NetworkSettings.IPAddress .ExecIDs .AppArmorProfile .MountLabel; do
	t docker inspect -f "{{json $f}}" ca
done
t docker inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}} {{.Propagation}}
{{end}}' ca
q docker network create inet
q docker run -d --name cb --network inet --network-alias x busybox sleep 1000
t docker inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.Restarting}} {{.State.OOMKilled}} {{.State.Dead}} {{.State.ExitCode}} {{.State.FinishedAt}}' cb
t docker inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}} {{$e.Gateway}} {{$e.IPPrefixLen}} {{$e.MacAddress}} {{json $e.Aliases}} {{json $e.Links}} {{json $e.IPAMConfig}}{{end}}' cb
t docker run -d --name cc busybox sleep 1000
t docker inspect -f '{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}} {{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Bridge}} {{json .NetworkSettings.Ports}} {{.HostConfig.NetworkMode}}' cc
t docker inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.Env}} {{json .HostConfig.Binds}} {{json .HostConfig.CapAdd}} {{json .Mounts}} {{json .HostConfig.Ulimits}} {{json .HostConfig.Dns}}' cc
t docker inspect -s -f '{{.SizeRw}}' cc
t docker inspect --type image -f '{{json .RepoTags}} {{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.StopSignal}} {{json .Config.Labels}} {{.Os}} {{.Architecture}} {{.RootFS.Type}} {{len .RootFS.Layers}} {{.Created}} {{.Parent}}' web:1
t docker inspect --type network -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.Ingress}} {{.EnableIPv6}} {{.IPAM.Driver}}' bridge
t docker inspect --type volume -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}' vv
t docker inspect vv -f '{{.Name}}'
t docker inspect nosuch
t docker inspect --type container web:1
t docker inspect --type nosuch web:1
t docker inspect ca nosuch cc -f '{{.Name}}'
t docker inspect -f '{{.Nosuch}}' ca
t docker container inspect nosuch
t docker image inspect nosuch
t docker network inspect nosuch
t docker volume inspect nosuch
