q docker run -d --name ca --memory 64m busybox sleep 1000
t docker update --memory 32m --memory-swap 64m ca
t docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' ca
t docker exec ca sh -c 'cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes'
t docker update --cpus 0.5 ca
t docker inspect -f '{{.HostConfig.NanoCpus}}' ca
t docker update --cpu-shares 512 --cpuset-cpus 0 --pids-limit 100 ca
t docker inspect -f '{{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.PidsLimit}}' ca
t docker update --restart on-failure:3 ca
t docker inspect -f '{{json .HostConfig.RestartPolicy}}' ca
t docker update --memory 1m ca
t docker update --cpus 999 ca
t docker update --restart sometimes ca
t docker update --memory 32m nosuch
t docker update ca
t docker update --memory 200m ca
q docker create --name cb busybox
t docker update --memory 16m cb
t docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' cb
