q docker run -d --name ca busybox sh -c 'sleep 1001 & sleep 1002'
await 'docker top ca | grep 1002'
ts 'docker top ca | awk "NR == 1 || /sleep/ {print \$1, \$8, \$9}" | sort'
ts 'docker top ca -o pid,comm,args | sed "s/^[0-9]* *//" | sort'
ts 'docker top ca -eo pid,args | sed "s/^[0-9]* *//" | sort'
t docker top ca -o nosuchcolumn
t docker top nosuch
ts 'docker stats --no-stream --format "{{.Name}} {{.Container}} {{.CPUPerc}} {{.MemPerc}} {{.PIDs}}" ca'
ts 'docker stats --no-stream --format "{{.Name}}"'
t docker stats --no-stream nosuch
q docker stop -t 0 ca
t docker top ca
ts 'docker stats --no-stream --format "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}" ca'
api GET '/containers/nosuch/stats?stream=false'
