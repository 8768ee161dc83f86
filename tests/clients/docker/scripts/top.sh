q docker run -d --name a busybox sh -c 'sleep 1001 & sleep 1002'
await 'docker top a | grep 1002'
ts 'docker top a | awk "NR == 1 || /sleep/ {print \$1, \$8, \$9}" | sed "s/[0-9]:[0-9:]* //"'
ts 'docker top a -o comm,args | sort'
ts 'docker top a -eo args | sort'
t docker top a -o nosuchcolumn
t docker top nosuch
ts 'docker stats --no-stream --format "{{.Name}} {{.Container}} {{.CPUPerc}} {{.MemPerc}} {{.PIDs}}" a'
ts 'docker stats --no-stream --format "{{.Name}}"'
t docker stats --no-stream nosuch
q docker stop -t 0 a
t docker top a
ts 'docker stats --no-stream --format "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}" a'
api GET '/containers/nosuch/stats?stream=false'
