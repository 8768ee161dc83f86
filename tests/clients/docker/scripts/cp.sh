q docker create --name a busybox
mkdir -p tree/sub; echo one >tree/one; echo two >tree/sub/two; ln -s one tree/link; echo file >file
t docker cp file a:/tmp/
t docker cp file a:/tmp/other
t docker cp tree a:/tmp
t docker cp tree/. a:/tmp/flat
t docker cp tree/. a:/tmp
t docker cp nosuch a:/tmp
t docker cp file a:/nosuch/
t docker cp file a:/nosuch/x
t docker cp file nosuch:/tmp
t docker cp a:/nosuch .
t docker cp a:/tmp/other back
t cat back
t docker cp a:/tmp/tree back-tree
ts 'cd back-tree; find . | sort; cat link'
ts 'docker cp a:/tmp/tree - | tar t | sort'
ts 'tar c file | docker cp - a:/var'
t docker cp a:/var/file -
t docker cp file a:/tmp/tree
t docker cp tree a:/tmp/other
t docker cp a:/tmp/tree/one/x .
t docker cp a:/tmp a:/var
t docker cp file file
q docker run -d --name b -v data:/data busybox sh -c 'ln -s /etc/passwd /pw; ln -s ../../../../../../etc /up; touch /ready; sleep 1000'
await 'docker exec b test -e /ready'
t docker cp file b:/data/in-volume
t docker exec b cat /data/in-volume
t docker cp b:/pw pw
t docker cp -L b:/pw pw2
ts 'readlink pw; cat pw2'
ts 'docker cp b:/up/passwd - | tar xO'
t docker cp file b:/proc/nosuch
t docker exec b stat -c '%u %g %a' /data/in-volume
ts 'chown 1000:1000 file; docker cp -a file b:/data/archived; docker exec b stat -c "%u %g" /data/archived'
q docker run -d --name c --read-only busybox sleep 1000
t docker cp file c:/tmp/x
api GET '/containers/a/archive'
api GET '/containers/a/archive?path=/nosuch'
api PUT '/containers/a/archive?path=/nosuch'
api PUT '/containers/a/archive?path=/tmp/other'
