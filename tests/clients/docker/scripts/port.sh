q docker run -d --name ca -p 8080:80 -p 127.0.0.1:8081:81/udp -p 9000-9002:9000-9002 busybox sh -c 'mkdir /www; echo served >/www/index.html; httpd -f -h /www'
t docker port ca
t docker port ca 80
t docker port ca 80/tcp
t docker port ca 81/udp
t docker port ca 82
t docker port nosuch
ts 'docker ps --format "{{.Ports}}"'
await 'host busybox wget -q -O - http://127.0.0.1:8080/'
ts 'host busybox wget -q -O - http://127.0.0.1:8080/'
t docker run --rm --name cd -p 8080:80 busybox true
t docker run -d --name cb -p 8080:80 busybox sleep 100
t docker inspect -f '{{.State.Status}}' cb
q docker stop -t 0 ca
t docker port ca
t docker start cb
t docker port cb
q docker run -d --name cc -P web:1 sleep 100
ts 'docker port cc | sed "s/:[0-9]*$/:PORT/"'
t docker run --rm -p 80:nosuch busybox true
t docker run --rm -p 0.0.0.0:99999:80 busybox true
t docker run --rm --name ce -p 1.2.3.4:80:80 busybox true
t docker run --rm -p 8000-8001:80 busybox true
