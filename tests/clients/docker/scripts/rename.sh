q docker create --name ra busybox
q docker create --name rb busybox
t docker rename ra rc
t docker inspect -f '{{.Name}}' rc
t docker rename ra rd
t docker rename rc rb
t docker rename rc rc
t docker rename rc 'bad name'
t docker rename rc ''
t docker rename rc /re
t docker inspect -f '{{.Name}}' re
t docker rename re r
t docker rename re "$(printf 'long%0100d' 1)"
ts 'docker ps -a --format "{{.Names}}" | sort'
t docker context ls --format '{{.Name}} {{.Current}}'
q docker context create far --docker host=unix:///nosuch.sock
t docker --context far ps
t docker context inspect nosuch
t docker context rm far
t docker inspect nosuch
t docker inspect --type volume nosuch
t docker inspect --type x rb
t docker inspect -f '{{.Nosuch}}' rb
t docker inspect -s -f '{{.SizeRootFs}}' nosuch
t docker container inspect busybox
t docker image inspect rb
