t docker save -o all.tar busybox web:1
ts 'tar xOf all.tar manifest.json | tr , "\n" | grep -o "RepoTags.*"'
ts 'tar tf all.tar | grep -x manifest.json'
q docker rmi web:1
t docker load -i all.tar
t docker run --rm web:1 pwd
t docker load -q -i all.tar
ts 'docker save busybox | docker load'
t docker save nosuch
t docker save busybox nosuch -o x
ts 'echo garbage | docker load'
ts 'docker load </dev/null'
ts 'head -c 1000 all.tar | docker load'
t docker history busybox
t docker history --format '{{.CreatedBy}} {{.CreatedSince}}' -H=false busybox
t docker history -q busybox
