t docker volume create va
t docker volume create va
t docker volume create --label l=v --label x vb
t docker volume create --driver nosuch vc
t docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=1m tmp
t docker volume create --opt nosuch=1 vc
t docker volume create 'bad name'
t docker volume create x
t docker volume ls
t docker volume ls -q
for f in name=va name=tm driver=local driver=x label=l label=l=v label=y dangling=true dangling=false; do
	t docker volume ls -q --filter $f
done
t docker volume ls --filter nosuch=1
t docker volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}' va vb tmp
t docker run --rm -v va:/a busybox sh -c 'echo kept >/a/f'
t docker run --rm -v va:/a:ro busybox sh -c 'cat /a/f; touch /a/g'
t docker run --rm -v tmp:/t busybox sh -c 'df -k /t | tail -1 | awk "{print \$2}"'
t docker run --rm -v fresh:/etc busybox cat /etc/group
t docker run --rm -v fresh2:/etc:nocopy busybox ls /etc/group
t docker run --rm --mount type=volume,src=va,dst=/a,readonly busybox touch /a/x
t docker run --rm --mount type=bind,src=/nosuch-dir,dst=/a busybox true
t docker run --rm --mount type=nosuch,dst=/a busybox true
t docker run --rm --mount type=tmpfs,dst=/a,tmpfs-size=65536,tmpfs-mode=1770 busybox sh -c 'df -k /a | tail -1 | awk "{print \$2}"; stat -c %a /a'
t docker run --rm --mount type=volume,dst=/anon busybox touch /anon/x
q docker run -d --name cu -v va:/a -v /anonymous busybox sleep 1000
t docker volume rm va
t docker run --rm --volumes-from cu busybox cat /a/f
t docker run --rm --volumes-from cu:ro busybox touch /a/f
t docker run --rm --volumes-from nosuch busybox true
ts 'docker volume ls -q --filter dangling=false | sed "s/^[0-9a-f]\{64\}$/anonymous/" | sort'
t docker rm -f -v cu
t docker volume ls -q
t docker volume rm va nosuch
t docker volume rm -f nosuch
t docker volume prune -f
t docker volume inspect nosuch
mkdir dir; echo host >dir/f
t docker run --rm -v "$PWD/dir:/d" busybox sh -c 'cat /d/f; echo inside >/d/g'
t cat dir/g
t docker run --rm -v "$PWD/dir:/d:ro" busybox touch /d/h
t docker run --rm -v "$PWD/dir/f:/file" busybox cat /file
t docker run --rm -v "$PWD/made:/d" busybox true
t ls -d made
t docker run --rm -v va:/x -v vb:/x busybox true
t docker run --rm -v va:/ busybox true
t docker run --rm -v 'bad name:/x' busybox true
t docker run --rm -v va:/x:zzz busybox true
