t docker create --name a busybox echo created
t docker ps
t docker ps -a --format '{{.Names}} {{.Status}} {{.Command}}'
t docker start a
t docker start -a a
t docker start a
t docker wait a
t docker logs a
t docker start nosuch
ts 'docker create --name b -i busybox cat >/dev/null; echo fed | docker start -ai b'
t docker create --name c --entrypoint nosuch busybox
t docker start c
t docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' c
t docker create --name c busybox
t docker create busybox /bin/true --name x extra
t docker create --name d --stop-signal USR1 --stop-timeout 3 busybox sleep 100
t docker inspect -f '{{.Config.StopSignal}} {{.Config.StopTimeout}}' d
t docker create --name e --health-cmd 'exit 0' --health-interval 1m --health-retries 2 --health-timeout 3s --health-start-period 4s busybox
t docker inspect -f '{{json .Config.Healthcheck}}' e
t docker create --name f --no-healthcheck busybox
t docker inspect -f '{{json .Config.Healthcheck}}' f
t docker create --name g -p 8080:80 -p 127.0.0.1:8081:81/udp -p 90 --expose 100-102 busybox
t docker inspect -f '{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}' g
t docker create --name h -p 99999:80 busybox
t docker create --name i -v vol:/v -v /tmp:/t:ro --mount type=tmpfs,dst=/m --tmpfs /u busybox
t docker inspect -f '{{json .HostConfig.Binds}} {{json .HostConfig.Mounts}} {{json .HostConfig.Tmpfs}}' i
t docker create --name j --mount type=bind,src=/nosuch-dir,dst=/x busybox
t docker create --name k --restart on-failure:3 busybox
t docker inspect -f '{{json .HostConfig.RestartPolicy}}' k
t docker create --name l --restart sometimes busybox
t docker create --name m --memory 100m --memory-swap 50m busybox
t docker create --name n --log-driver nosuch busybox
t docker create --name o --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 busybox
t docker inspect -f '{{json .HostConfig.LogConfig}}' o
t docker create --name p --log-opt nosuch=1 busybox
t docker create --name q --network nosuch busybox
t docker start q
t docker create --name r --network container:nosuch busybox
t docker create --name s --ipc nosuch busybox
t docker create --name u --pid container:nosuch busybox
t docker create --name v --runtime nosuch busybox
t docker create --name w --platform linux/arm64 busybox
t docker create --name x1 -h 'bad host' busybox
t docker create --name y --device-cgroup-rule 'bad' busybox
t docker create --name z -w relative busybox
t docker create --name aa --cpuset-cpus 0 --cpu-shares 512 --blkio-weight 300 busybox
t docker inspect -f '{{.HostConfig.CpusetCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.BlkioWeight}}' aa
t docker create --name bb --cpuset-cpus 999 busybox
t docker create --name cc --ulimit nosuch=1 busybox
t docker create --name dd --privileged busybox
t docker inspect -f '{{.HostConfig.Privileged}} {{json .HostConfig.SecurityOpt}}' dd
t docker rm a b c nosuch
