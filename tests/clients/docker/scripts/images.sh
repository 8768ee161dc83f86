t docker images
t docker images -q
t docker images --format '{{.Repository}} {{.Tag}} {{.CreatedAt}}'
t docker images --no-trunc --format '{{.ID}}' web
t docker images web
t docker images web:1 --format '{{.Repository}}:{{.Tag}}'
t docker images nosuch
t docker images --digests --format '{{.Digest}}'
t docker tag web:1 reg.example:5000/path/web:2
t docker tag web:1 web
t docker tag web:1 'Bad'
t docker tag nosuch x
t docker tag web:1 x:y:z
ts "docker images --format '{{.Repository}}:{{.Tag}}' | sort" # the client takes the repositories of one image as they fall
for f in dangling=true dangling=false label=role label=role=web label=x reference=web 'reference=*eb:*' reference=reg.example:5000/path/web before=web:1 since=busybox; do
	ts "docker images --filter $f --format '{{.Repository}}:{{.Tag}}' | sort"
done
t docker images --filter nosuch=1
t docker images --filter dangling=x
t docker images --filter before=nosuch
t docker rmi web
t docker rmi nosuch
t docker rmi web:1 reg.example:5000/path/web:2
t docker images --format '{{.Repository}}:{{.Tag}}'
q docker run -d --name user busybox sleep 1000
t docker rmi busybox
q docker stop -t 0 user
t docker rmi busybox
t docker rmi -f busybox
t docker images -a --format '{{.Repository}}:{{.Tag}}'
q docker rm user
t docker history nosuch
