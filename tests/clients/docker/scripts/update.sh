q docker run -d --name a --memory 64m busybox sleep 1000
t docker update --memory 32m --memory-swap 64m a
t docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' a
t docker exec a sh -c 'cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes'
t docker update --cpus 0.5 a
t docker inspect -f '{{.HostConfig.NanoCpus}}' a
t docker update --cpu-shares 512 --cpuset-cpus 0 --pids-limit 100 a
t docker inspect -f '{{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.PidsLimit}}' a
t docker update --restart on-failure:3 a
t docker inspect -f '{{json .HostConfig.RestartPolicy}}' a
t docker update --memory 1m a
t docker update --cpus 999 a
t docker update --restart sometimes a
t docker update --memory 32m nosuch
t docker update a
t docker update --memory 200m a
q docker create --name b busybox
t docker update --memory 16m b
t docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' b
