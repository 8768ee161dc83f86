export DOCKER_BUILDKIT=0
cat >Dockerfile <<'D'
FROM busybox AS base
ARG WHO=nobody
ENV GREETING=hello PLACE=$WHO
LABEL a=1 b="two words"
RUN echo $GREETING $PLACE >/greeting
WORKDIR /work/here
COPY file .
COPY --chown=1000:50 tree/ /tree/
ADD archive.tar /unpacked/
USER alice
EXPOSE 80 81/udp
VOLUME /data
STOPSIGNAL SIGUSR1
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=1m --retries=2 CMD true
ENTRYPOINT ["cat"]
CMD ["/greeting"]
FROM base AS last
USER root
RUN rm /greeting && echo last >/greeting
ONBUILD RUN echo triggered >/triggered
D
mkdir tree; echo f >file; echo t >tree/t; echo ignored >tree/skip; tar cf archive.tar file; echo tree/skip >.dockerignore
t docker build -t built:1 --build-arg WHO=world .
t docker run --rm built:1
t docker build -q -t built:1 --build-arg WHO=world .
t docker build -t built:1 --build-arg WHO=world .
t docker build -t built:base --target base --build-arg WHO=you .
t docker run --rm built:base
t docker run --rm --entrypoint sh built:base -c 'pwd; ls -ln /tree | awk "{print \$3, \$4, \$9}"; ls /unpacked; id -u; cat file'
t docker inspect -f '{{json .Config.Env}} {{json .Config.Labels}} {{.Config.WorkingDir}} {{.Config.User}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.StopSignal}} {{json .Config.Shell}} {{json .Config.Healthcheck}} {{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.OnBuild}}' built:1
ts 'docker history --format "{{.CreatedBy}}" --no-trunc built:base'
ts 'printf "FROM built:1\nCMD /triggered\n" | docker build -t built:2 -'
t docker run --rm --entrypoint cat built:2 /triggered
ts 'printf "FROM busybox\nRUN exit 3\n" | docker build -'
ts 'printf "FROM busybox\nNOSUCH x\n" | docker build -'
ts 'printf "FROM busybox\nCOPY nosuch /\n" | docker build -'
ts 'printf "FROM 127.0.0.1:1/nosuch\n" | docker build -'
ts 'printf "RUN x\n" | docker build -'
ts 'printf "" | docker build -'
ts 'printf "FROM busybox\nCOPY --from=127.0.0.1:1/nosuch /x /\n" | docker build -'
ts 'printf "FROM busybox AS a\nRUN echo a >/a\nFROM busybox\nCOPY --from=a /a /b\nCOPY --from=0 /a /c\nCOPY --from=busybox /etc/passwd /d\nRUN cat /b /c; wc -l </d\n" | docker build -t multi -'
ts 'printf "FROM scratch\nLABEL x=y\n" | docker build -t scratched -'
ts 'printf "ARG BASE=busybox\nFROM \$BASE\nARG X=1\nRUN echo X is \$X\n" | docker build --no-cache --build-arg X=2 --build-arg UNUSED=1 -'
t docker build -f nosuch .
t docker build -t 'Bad:Name' .
t docker build --target nosuch .
ts 'printf "FROM busybox\nRUN cat /proc/self/status | grep CapEff\n" | docker build --memory 64m --network none -'
ts 'printf "FROM busybox\nRUN ls /sys/class/net\n" | docker build --no-cache --network none -'
echo changed >file
ts 'docker build -t built:3 --build-arg WHO=world . | grep -c "Using cache"'
ts 'tar c . | docker build -t fromtar - | tail -1'
t docker images --format '{{.Repository}}:{{.Tag}}' --filter dangling=false
t docker build --label extra=1 -t labelled -q .
t docker inspect -f '{{.Config.Labels.extra}}' labelled
ts 'printf "FROM busybox\n# comment\nRUN echo one \\\\\n  two\n" | docker build -'
ts 'printf "# escape=\`\nFROM busybox\nRUN echo one \`\n two\n" | docker build -'
ts 'printf "FROM busybox\nADD http://127.0.0.1:1/x /\n" | docker build -'
