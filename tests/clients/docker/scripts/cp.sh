q docker create --name ca busybox
mkdir -p tree/sub; echo one >tree/one; echo two >tree/sub/two; ln -s one tree/link; echo file >file
t docker cp file ca:/tmp/
t docker cp file ca:/tmp/other
t docker cp tree ca:/tmp
t docker cp tree/. ca:/tmp/flat
t docker cp tree/. ca:/tmp
t docker cp nosuch ca:/tmp
t docker cp file ca:/nosuch/
t docker cp file ca:/nosuch/x
t docker cp file nosuch:/tmp
t docker cp ca:/nosuch .
t docker cp ca:/tmp/other back
t cat back
t docker cp ca:/tmp/tree back-tree
ts 'cd back-tree; find . | sort; cat link'
ts 'docker cp ca:/tmp/tree - | tar t | sort'
ts 'tar c file | docker cp - ca:/var'
ts 'docker cp ca:/var/file - | tar t'
t docker cp file ca:/tmp/tree
t docker cp tree ca:/tmp/other
t docker cp ca:/tmp/tree/one/x .
t docker cp ca:/tmp ca:/var
t docker cp file file
q docker run -d --name cb -v data:/data busybox sh -c 'ln -s /etc/passwd /pw; ln -s ../../../../../../etc /up; touch /ready; sleep 1000'
await 'docker exec cb test -e /ready'
t docker cp file cb:/data/in-volume
t docker exec cb cat /data/in-volume
t docker cp cb:/pw pw
t docker cp -L cb:/pw pw2
ts 'readlink pw; cat pw2'
ts 'docker cp cb:/up/passwd - | tar xO'
t docker cp file cb:/proc/nosuch
t docker exec cb stat -c '%u %g %a' /data/in-volume
ts 'chown 1000:1000 file; docker cp -a file cb:/data/archived; docker exec cb stat -c "%u %g" /data/archived'
q docker run -d --name cc --read-only busybox sleep 1000
t docker cp file cc:/tmp/x
api GET '/containers/ca/archive'
api GET '/containers/ca/archive?path=/nosuch'
api PUT '/containers/ca/archive?path=/nosuch'
api PUT '/containers/ca/archive?path=/tmp/other'
