t docker create --name ca busybox echo created
t docker ps
t docker ps -a --format '{{.Names}} {{.Status}} {{.Command}}'
t docker start ca
t docker start -a ca
t docker start ca
t docker wait ca
t docker logs ca
t docker start nosuch
ts 'docker create --name cb -i busybox cat >/dev/null; echo fed | docker start -ai cb'
t docker create --name cc --entrypoint nosuch busybox
t docker start cc
t docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' cc
t docker create --name cc busybox
t docker create busybox /bin/true --name cx extra
t docker create --name cd --stop-signal USR1 --stop-timeout 3 busybox sleep 100
t docker inspect -f '{{.Config.StopSignal}} {{.Config.StopTimeout}}' cd
t docker create --name ce --health-cmd 'exit 0' --health-interval 1m --health-retries 2 --health-timeout 3s --health-start-period 4s busybox
t docker inspect -f '{{json .Config.Healthcheck}}' ce
t docker create --name cf --no-healthcheck busybox
t docker inspect -f '{{json .Config.Healthcheck}}' cf
t docker create --name cg -p 8080:80 -p 127.0.0.1:8081:81/udp -p 90 --expose 100-102 busybox
t docker inspect -f '{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}' cg
t docker create --name ch -p 99999:80 busybox
t docker create --name ci -v vol:/v -v /tmp:/t:ro --mount type=tmpfs,dst=/m --tmpfs /u busybox
t docker inspect -f '{{json .HostConfig.Binds}} {{json .HostConfig.Mounts}} {{json .HostConfig.Tmpfs}}' ci
t docker create --name cj --mount type=bind,src=/nosuch-dir,dst=/x busybox
t docker create --name ck --restart on-failure:3 busybox
t docker inspect -f '{{json .HostConfig.RestartPolicy}}' ck
t docker create --name cl --restart sometimes busybox
t docker create --name cm --memory 100m --memory-swap 50m busybox
t docker create --name cn --log-driver nosuch busybox
t docker create --name co --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 busybox
t docker inspect -f '{{json .HostConfig.LogConfig}}' co
t docker create --name cp --log-opt nosuch=1 busybox
t docker create --name cq --network nosuch busybox
t docker start cq
t docker create --name cr --network container:nosuch busybox
t docker create --name cs --ipc nosuch busybox
t docker create --name cu --pid container:nosuch busybox
t docker create --name cv --runtime nosuch busybox
t docker create --name x1 -h 'bad host' busybox
t docker create --name cy --device-cgroup-rule 'bad' busybox
t docker create --name cz -w relative busybox
t docker create --name aa --cpuset-cpus 0 --cpu-shares 512 --blkio-weight 300 busybox
t docker inspect -f '{{.HostConfig.CpusetCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.BlkioWeight}}' aa
t docker create --name bb --cpuset-cpus 999 busybox
t docker create --name ulimited --ulimit nosuch=1 busybox
t docker create --name dd --privileged busybox
t docker inspect -f '{{.HostConfig.Privileged}} {{json .HostConfig.SecurityOpt}}' dd
t docker rm ca cb cc nosuch
