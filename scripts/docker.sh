#!/usr/bin/env bash
# A real Docker in the native lane, with the shim and with the command `corten` as its runtime.
#
# Usage: conformance native -- scripts/docker.sh PROGRAMS ROOT
#
# PROGRAMS has containerd-shim-corten-v2 and corten, ROOT is from scripts/engines.sh. Bridge, ports and everything that is
# written are the lane's own. Ends with `N passed, N failed, N skipped`.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
[ "$here" = /host/scripts ] || exec "$here/in-root.sh" "$2" "$1" /host/scripts/docker.sh
# shellcheck source=scripts/tried.sh
. "$here/tried.sh"
engine=

# start DEFAULT: dockerd with both runtimes.
start() {
    mkdir -p /etc/docker
    cat >/etc/docker/daemon.json <<CONFIG
{"runtimes": {
    "shim": {"runtimeType": "io.containerd.corten.v2"},
    "command": {"path": "/host/bin/corten"}},
 "default-runtime": "$1"}
CONFIG
    # BuildKit takes whatever is called runc.
    mkdir -p /tmp/runc
    ln -sf /host/bin/corten /tmp/runc/runc
    PATH=/tmp/runc:$PATH dockerd >>"$log" 2>&1 &
    engine=$!
    soon docker version >/dev/null
    expect "the default runtime" "$(docker info --format '{{.DefaultRuntime}}')" "$1"
}

# Stops dockerd, and with it its containerd.
stop() {
    kill "$engine"
    wait "$engine" || true
}

make_image() {
    "$here/oci-image.py" /tmp/image.tar "$(command -v busybox)" --root
    docker import --change 'ENV PATH=/bin' /tmp/image.tar box >/dev/null
}

# Of a container that ends at once the Go shim loses the output now and then, whatever the runtime (runc: 2 of 45).
for_the_go_shim() {
    [ "$runtime" = shim ] && echo 0 || echo 1
}
input() {
    echo through
    sleep "$(for_the_go_shim)"
}

runs() {
    expect "run" "$(docker run --rm box echo hello)" hello
    expect "exit code" "$(code docker run --rm box sh -c 'exit 7')" 7
    expect "no such program" "$(code docker run --rm box /nothing)" 127
    expect "run -it" "$("$here/on-terminal.py" docker run --rm -it box tty)" /dev/pts/0
    expect "run -i" "$(input | docker run --rm -i box cat)" through
    expect "a user, read-only, no capabilities" \
        "$(docker run --rm --user 1000:1000 --read-only --cap-drop all --security-opt no-new-privileges box id -u)" 1000
    expect "a hostname and a variable" "$(docker run --rm -h there -e A=b box sh -c 'hostname; echo $A' | tr '\n' ' ')" "there b "
}

# A server with a published port, a volume, an exec, logs: what a long-lived container has.
serves() {
    docker run -d --name web -p 8080:80 -v data:/data box \
        sh -c 'echo page >/data/index.html; echo started; echo complaint >&2; exec httpd -f -p 80 -h /data' >/dev/null
    expect "a published port" "$(soon curl -sf http://127.0.0.1:8080/)" page
    expect "the bridge" "$(docker run --rm --link web:web box wget -q -O - http://web/)" page
    expect "a network of its own" "$(code docker network create apart)" 0
    # Debian 12's `wget -T` crashes.
    expect "no way there" \
        "$(docker run --rm --network apart box sh -c "timeout 2 wget -q -O - http://$(address web)/ || echo none")" none
    docker network rm apart >/dev/null
    expect "a volume" "$(docker run --rm -v data:/x:ro box cat /x/index.html)" page
    expect "exec" "$(docker exec web echo hi)" hi
    expect "exec code" "$(code docker exec web sh -c 'exit 9')" 9
    expect "exec -it" "$("$here/on-terminal.py" docker exec -it web tty)" /dev/pts/0
    expect "exec of another user" "$(docker exec -u 1000 web id -u)" 1000
    expect "logs" "$(docker logs web 2>/dev/null) $(docker logs web 2>&1 >/dev/null)" "started complaint"
    expect "top" "$(docker top web | grep -c httpd)" 1
    expect "stats" "$(docker stats --no-stream --format '{{.Name}} {{.NetIO}}' web | grep -c '^web .*B / .*B')" 1
    docker pause web >/dev/null
    expect "pause" "$(docker inspect -f '{{.State.Status}}' web)" paused
    docker unpause web >/dev/null
    expect "cp" "$(docker cp web:/data/index.html - | tar -xO)" page
    expect "stop" "$(code docker stop -t 1 web)" 0
    expect "its exit code" "$(docker inspect -f '{{.State.ExitCode}}' web)" 137
    docker start web >/dev/null
    expect "start again" "$(soon curl -sf http://127.0.0.1:8080/)" page
    docker rm -f web >/dev/null
    docker volume rm data >/dev/null
}
address() { docker inspect -f '{{.NetworkSettings.IPAddress}}' "$1"; }

restarts() {
    docker run -d --name again --restart on-failure:2 box sh -c "echo x; sleep $(for_the_go_shim); exit 3" >/dev/null
    has_restarted() { [ "$(docker inspect -f '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}' again)" = "exited 2 3" ]; }
    expect "--restart" "$(soon has_restarted)$(docker logs again | tr -d '\n')" xxx
    docker rm again >/dev/null
}

# The builder without BuildKit makes each step's container by the default runtime.
builds() {
    local context=/tmp/context
    mkdir -p $context
    printf '%s\n' 'FROM box' 'RUN echo one >/one' 'RUN test -f /one; echo two >/two' 'RUN cat /one /two >/three' \
        'CMD ["cat", "/three"]' >$context/Dockerfile
    expect "build" "$(DOCKER_BUILDKIT=0 code docker build --no-cache -t built $context)" 0
    expect "of three layers" "$(docker history --format '{{.CreatedBy}}' built | grep -c '/bin/sh -c [^#]')" 3
    expect "what was built" "$(docker run --rm built | tr '\n' ' ')" "one two "
    docker rmi built >/dev/null
    expect "build with BuildKit" "$(DOCKER_BUILDKIT=1 code docker build --no-cache -t built $context)" 0
    expect "what BuildKit built" "$(docker run --rm built | tr '\n' ' ')" "one two "
    docker rmi built >/dev/null
}

kills() {
    docker run -d --name long box sleep 1000 >/dev/null
    docker kill -s KILL long >/dev/null
    expect "kill" "$(docker wait long)" 137
    docker rm long >/dev/null
}

echo "-- $(dockerd --version)"
for runtime in shim command; do
    echo "-- the runtime: $runtime"
    start "$runtime"
    [ "$runtime" = command ] || make_image
    runs
    serves
    restarts
    builds
    kills
    expect "no container is left" "$(docker ps -aq)" ""
    stop
    no_shims() { ! pgrep -f 'containerd-shim-[a-z-]*v2 .*-id' >/dev/null; }
    expect "no shim is left" "$(soon no_shims)" ""
    expect "no mount is left" "$(grep -c ' /var/lib/docker/.*overlay' /proc/mounts || true)" 0
done
expect "the shim's state" "$(find /run/containerd /run/docker -path '*corten*' -mindepth 2 -name '[0-9a-f]*' -not -path '*/.seccomp:filters/*' 2>/dev/null | wc -l)" 0
expect "the command's state" "$(find /run/docker/runtime-* -mindepth 2 -not -path '*/.seccomp:filters*' 2>&1)" ""
