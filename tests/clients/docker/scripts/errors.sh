api GET /nosuch
api PUT /containers/json
api POST /containers/create '{'
api POST /containers/create '[]'
api POST /containers/create '{"Image":5}'
api POST /containers/create '{"Image":"busybox","Cmd":5}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"Memory":"x"}}'
api POST /containers/create '{"Image":"nosuch"}'
api POST /containers/create '{"Image":"Bad Image"}'
api POST /containers/create '{}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"Memory":1}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"Memory":-1}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"NetworkMode":"nosuch:x"}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"x"}}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":3}}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"Binds":["a:b:c:d"]}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"volume"}]}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"relative","Target":"/x"}]}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"PortBindings":{"80":[{"HostPort":"x"}]}}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"OomScoreAdj":9999}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"ShmSize":-1}}'
api POST /containers/create '{"Image":"busybox","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}'
api POST /containers/create '{"Image":"busybox","Healthcheck":{"Interval":1}}'
api POST /containers/create '{"Image":"busybox","StopSignal":"NOSUCH"}'
api POST '/containers/create?name=-bad' '{"Image":"busybox"}'
api GET '/containers/json?limit=x'
api GET '/containers/json?filters=x'
api GET '/containers/json?filters=%7B%22status%22%3A%5B%22x%22%5D%7D'
api GET '/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D'
api GET /containers/nosuch/json
api GET /containers/nosuch/top
api GET /containers/nosuch/changes
api GET /containers/nosuch/export
api POST '/containers/nosuch/resize?h=1&w=1'
api POST '/containers/nosuch/resize?h=x&w=1'
api POST /containers/nosuch/attach
api POST '/containers/nosuch/update' '{}'
api DELETE /containers/nosuch
api GET '/containers/nosuch/archive?path=/'
api GET /images/nosuch/json
api GET /images/nosuch/history
api DELETE /images/nosuch
api POST '/images/nosuch/tag?repo=x'
api POST '/images/busybox/tag?repo=Bad'
api POST '/images/create'
api POST '/images/create?fromImage=Bad%20Name'
api GET '/images/get?names=nosuch'
api GET '/images/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D'
api POST '/commit?container=nosuch'
api GET /volumes/nosuch
api DELETE /volumes/nosuch
api POST /volumes/create '{"Name":"a/b"}'
api POST /volumes/create '{"Name":5}'
api POST /volumes/create '{"Driver":"nosuch"}'
api GET '/volumes?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D'
api GET /networks/nosuch
api DELETE /networks/nosuch
api DELETE /networks/bridge
api POST /networks/create '{}'
api POST /networks/create '{"Name":"bridge"}'
api POST /networks/create '{"Name":"x","Driver":"nosuch"}'
api POST /networks/create '{"Name":"x","IPAM":{"Config":[{"Subnet":"bad"}]}}'
api POST /networks/nosuch/connect '{"Container":"x"}'
api POST /networks/bridge/connect '{"Container":"nosuch"}'
api POST /networks/bridge/disconnect '{"Container":"nosuch"}'
api GET '/networks?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D'
api GET /plugins
api GET /plugins/x/json
api DELETE /plugins/x
api POST '/plugins/x/enable?timeout=1'
api POST /plugins/x/disable
api GET /swarm
api GET /services
api GET /tasks
api GET /nodes
api GET /secrets
api GET /configs
api POST /swarm/leave
