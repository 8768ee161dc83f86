q docker run --name ca busybox sh -c 'echo x >/new; mkdir -p /dir/sub; rm /etc/group; echo y >>/etc/passwd; rm -r /var; mkdir /tmp/d'
ts 'docker diff ca | sort'
t docker commit -m message -a author -c 'CMD ["echo","committed"]' -c 'ENV X=1' -c 'LABEL l=v' ca made:1
t docker run --rm made:1
t docker run --rm made:1 sh -c 'echo $X; cat /new; ls /etc'
t docker inspect -f '{{.Comment}} {{.Author}} {{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.Labels}}' made:1
ts 'docker history --format "{{.CreatedBy}} {{.Comment}}" made:1'
t docker commit ca
t docker commit nosuch x
t docker commit -c 'NOSUCH x' ca x
t docker commit ca 'Bad Name'
q docker create --name cb busybox
t docker diff cb
t docker diff nosuch
ts 'docker export ca | tar xO new'
t docker export nosuch
t docker export -o out.tar ca
ts 'tar tf out.tar | grep -x new'
t docker import out.tar imported:1
ts 'docker import -c "CMD echo imported" -m why - imported:2 <out.tar'
t docker run --rm imported:2
t docker inspect -f '{{json .Config.Cmd}} {{.Comment}}' imported:2
t docker import nosuch.tar x
