q docker run --name ca busybox true
q docker run --name cb --label keep busybox true
q docker run -d --name cc -v used:/v busybox sleep 1000
q docker volume create unused
q docker network create unusednet
q docker tag busybox other:1
t docker container prune -f --filter label!=keep
t docker ps -a --format '{{.Names}}'
t docker container prune -f --filter until=1h
t docker container prune -f --filter nosuch=1
t docker container prune -f
t docker network prune -f
t docker image prune -f
ts 'docker image prune -a -f --filter label=role | grep -v Total'
t docker images --format '{{.Repository}}:{{.Tag}}'
t docker system prune -f
t docker system prune -f --volumes
t docker image prune -f --filter nosuch=1
t docker volume prune -f --filter nosuch=1
t docker network prune -f --filter nosuch=1
ts 'docker system df --format "{{.Type}} {{.TotalCount}} {{.Active}}"'
ts 'docker system df -v | grep -c .'
