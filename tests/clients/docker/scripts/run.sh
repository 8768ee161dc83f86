t docker run --rm busybox echo hello
t docker run --rm busybox sh -c 'echo out; echo err >&2; exit 7'
t docker run --rm busybox nosuch
t docker run --rm busybox /etc
t docker run --rm busybox /etc/passwd
t docker run --rm busybox sh -c 'sleep 9 & kill -9 $!; wait $!'
ts 'echo input | docker run -i --rm busybox cat'
ts 'printf "a\nb\n" | docker run -i --rm busybox wc -l'
t docker run --rm -e A=1 -e B -e C= --env-file /dev/null busybox sh -c 'echo $A-$B-$C-$PATH'
t docker run --rm -w /a/b busybox pwd
t docker run --rm -u 1000:50 busybox id
t docker run --rm -u alice busybox id
t docker run --rm -u nobody-here busybox id
t docker run --rm -h myhost busybox hostname
t docker run --rm -h myhost --domainname example.org busybox cat /etc/hostname
t docker run --rm --entrypoint echo busybox from entrypoint
t docker run --rm --entrypoint '' busybox echo no entrypoint
t docker run --rm --read-only busybox touch /x
t docker run --rm --read-only --tmpfs /x busybox touch /x/y
t docker run --rm --tmpfs /x:size=64k,mode=700 busybox sh -c 'df /x | tail -1 | awk "{print \$2}"; stat -c %a /x'
t docker run --rm --cap-drop ALL busybox sh -c 'grep CapEff /proc/self/status'
t docker run --rm --cap-drop ALL --cap-add CHOWN busybox sh -c 'grep CapEff /proc/self/status'
t docker run --rm busybox sh -c 'grep CapEff /proc/self/status'
t docker run --rm --cap-add NOSUCH busybox true
t docker run --rm --ulimit nofile=64:128 busybox sh -c 'ulimit -n; ulimit -Hn'
t docker run --rm --pids-limit 20 busybox true
t docker run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward
t docker run --rm --shm-size 8m busybox sh -c 'df -m /dev/shm | tail -1 | awk "{print \$2}"'
t docker run --rm --memory 64m busybox sh -c 'cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes'
t docker run --rm --memory 1m busybox true
t docker run --rm --cpus 0.5 busybox sh -c 'cd /sys/fs/cgroup; cut -d" " -f1 cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us'
t docker run --rm --cpus 99 busybox true
t docker run --rm --init busybox sh -c 'ps | head -2'
t docker run --rm --network none busybox ls /sys/class/net
t docker run --rm --network none busybox cat /etc/hosts
t docker run --rm --add-host a.example:10.1.2.3 --network none busybox cat /etc/hosts
t docker run --rm --network host busybox sh -c 'ls -d /sys/class/net/lo'
t docker run --rm --dns 10.9.8.7 --dns-search example.org --dns-option ndots:3 busybox cat /etc/resolv.conf
t docker run --rm --group-add 50 --group-add 60 busybox id
t docker run --rm --device /dev/null:/dev/mine busybox stat -c '%F %t,%T' /dev/mine
t docker run --rm --device /dev/nosuch busybox true
t docker run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
t docker run --rm --pid host busybox sh -c 'test $$ -gt 1'
t docker run --rm -t busybox tty
t docker run --rm -t busybox sh -c 'echo a; exit 3'
t docker run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj
t docker run -d --name web busybox sleep 1000
t docker run -d --name web busybox true
t docker run --rm 127.0.0.1:1/nosuchimage:1 true
t docker run --rm -v /nosuch/relative:relative busybox true
t docker run --rm --pull never nosuchimage:1 true
t docker run --rm --name 'bad name' busybox true
t docker run --rm --restart always busybox true
t docker run --rm --label a=b --label c busybox true
t docker run --cidfile id --name withid busybox true
ts 'wc -c <id'
t docker run --cidfile id busybox true
t docker run -d --rm --name gone busybox sleep 1000
t docker stop -t 0 gone
await '! docker inspect gone'
t docker inspect -f x gone
