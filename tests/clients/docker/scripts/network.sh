t docker network ls
t docker network create --subnet 10.123.0.0/24 --gateway 10.123.0.1 --label l=v n1
t docker network create n1
t docker network create --internal n2
t docker network create --driver nosuch n3
t docker network create --subnet bad n3
t docker network create --subnet 10.123.0.0/25 n3
t docker network create --subnet 10.124.0.0/24 --ip-range 10.124.0.128/25 --gateway 10.125.0.1 n3
t docker network create --attachable --opt com.docker.network.bridge.name=dproof0 n4
t docker network create bridge
t docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.IPv6}} {{.Labels}}'
for f in name=n1 driver=bridge driver=null type=custom type=builtin label=l label=l=v label=x scope=local dangling=true; do
	ts "docker network ls --filter $f --format '{{.Name}}' | sort"
done
t docker network ls --filter nosuch=1
t docker network ls --filter type=x
t docker network inspect -f '{{.Name}} {{.Internal}} {{.Attachable}} {{json .IPAM.Config}} {{json .Labels}} {{json .Containers}} {{json .Options}}' n1
q docker run -d --name ca --network n1 --ip 10.123.0.77 --network-alias first busybox sleep 1000
q docker run -d --name cb --network n1 busybox sleep 1000
t docker inspect -f '{{(index .NetworkSettings.Networks "n1").IPAMConfig.IPv4Address}}' ca
t docker exec cb ping -c 1 -W 2 -q ca
t docker exec cb nslookup -type=a first
ts 'docker exec cb ping -c 1 -W 2 nosuch'
t docker exec cb cat /etc/resolv.conf
ts "docker network inspect -f '{{range .Containers}}{{.Name}} {{end}}' n1 | tr ' ' '\n' | sort"
t docker network connect n1 ca
t docker network connect --alias second --ip 10.123.0.88 n2 ca
t docker network connect --alias second n2 ca
t docker network connect n2 nosuch
t docker network connect nosuch ca
t docker exec ca ls /sys/class/net
t docker network disconnect n1 cb
t docker network disconnect n1 cb
t docker network disconnect n1 nosuch
t docker exec cb ls /sys/class/net
t docker network rm n1
t docker run --rm --network n1 --ip 10.99.0.1 busybox true
t docker run --rm --network n1 --ip 10.123.0.77 busybox true
t docker run --rm --ip 172.17.0.99 busybox true
t docker run --rm --network none -p 80:80 busybox true
t docker run --rm --network container:ca busybox ls /sys/class/net
t docker run --rm --network container:ca --hostname x busybox true
t docker run --rm --network container:ca -p 80:80 busybox true
t docker run --rm --link ca:linked busybox grep linked /etc/hosts
t docker run --rm --network n1 --link ca:linked busybox ping -q -c 1 -W 2 linked
t docker run --rm --network host --ip 1.2.3.4 busybox true
t docker network disconnect -f n2 ca
t docker rm -f ca cb
t docker network rm n1 n2 nosuch
t docker network prune -f
t docker network rm bridge
t docker network inspect nosuch
t docker network create --ipv6 --subnet fd00:123::/64 n6
t docker run --rm --network n6 busybox sh -c 'ip -6 addr show eth0 | grep -c fd00:123'
