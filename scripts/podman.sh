#!/usr/bin/env bash
# A real podman in the native lane with the command `corten` as its runtime, of root and of another user.
#
# Usage: conformance native -- scripts/podman.sh PROGRAMS ROOT
#
# PROGRAMS has corten, ROOT is from scripts/engines.sh. Ends with `N passed, N failed, N skipped`.
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
[ "$here" = /host/scripts ] || exec "$here/in-root.sh" "$2" "$1" /host/scripts/podman.sh
# shellcheck source=scripts/tried.sh
. "$here/tried.sh"

# There is no systemd, no journal and no controller in the lane. A machine may not give out CAP_SYS_RESOURCE, which what
# buildah wants of itself needs.
mkdir -p /etc/containers
cat >/etc/containers/containers.conf <<'CONFIG'
[containers]
pids_limit = 0
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:4096", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/box:latest"
runtime = "corten"
runtime_supports_json = ["corten", "crun", "runc"]
[engine.runtimes]
corten = ["/host/bin/corten"]
CONFIG
cat >/etc/containers/policy.json <<'CONFIG'
{"default": [{"type": "insecureAcceptAnything"}]}
CONFIG

"$here/oci-image.py" /tmp/image.tar "$(command -v busybox)" --root

# As root, or as the user that `who` names.
who=root
p() {
    if [ "$who" = root ]; then
        podman "$@"
    else
        as_user podman "$@"
    fi
}
as_user() {
    # shellcheck disable=SC2016  # the inner shell expands it
    sh -c 'echo $$ >/sys/fs/cgroup/tester/session/cgroup.procs; exec "$@"' sh \
        setpriv --reuid tester --regid tester --init-groups --inh-caps=-all \
        env HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000 "$@"
}

runs() {
    expect "import" "$(code p import --change 'ENV PATH=/bin' /tmp/image.tar box)" 0
    expect "the runtime" "$(p info --format '{{.Host.OCIRuntime.Name}}')" corten
    expect "run" "$(p run --rm box echo hello)" hello
    expect "exit code" "$(code p run --rm box sh -c 'exit 7')" 7
    expect "no such program" "$(code p run --rm box /nothing)" 127
    expect "run -i" "$(echo through | p run --rm -i box cat)" through
    expect "a user, read-only, no capabilities" \
        "$(p run --rm --user 1000:1000 --read-only --cap-drop all --security-opt no-new-privileges box id -u)" 1000
    expect "a volume" "$(p run --rm -v data:/data box touch /data/file && p run --rm -v data:/x:ro box ls /x)" file
    p volume rm data >/dev/null
}

lives() {
    p run -d --name long box sh -c 'echo started; echo complaint >&2; exec sleep 1000' >/dev/null
    expect "exec" "$(p exec long echo hi)" hi
    expect "exec code" "$(code p exec long sh -c 'exit 9')" 9
    expect "exec of another user" "$(p exec -u 1000 long id -u)" 1000
    expect "logs" "$(p logs long 2>/dev/null) $(p logs long 2>&1 >/dev/null)" "started complaint"
    expect "top" "$(p top long args | grep -c sleep)" 1
    expect "stop" "$(code p stop -t 1 long)" 0
    expect "its exit code" "$(p inspect -f '{{.State.ExitCode}}' long)" 137
    expect "start again" "$(code p start long)" 0
    p rm -f -t 0 long >/dev/null
    p run -d --name killed box sleep 1000 >/dev/null
    p kill killed >/dev/null
    expect "kill" "$(p wait killed)" 137
    p rm killed >/dev/null
}

# Two containers that share what a pod shares.
pods() {
    if [ "$who" = root ] && [[ $version == *" 4.3."* ]]; then
        skip "a pod" "podman 4.3 forbids all devices to a pod's cgroup that systemd does not make, with runc too"
        return
    fi
    p pod create --name pod --infra-command 'sleep 1000' >/dev/null
    p run -d --pod pod --name server box sh -c 'echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp' >/dev/null
    fetches() { p run --rm --pod pod box wget -q -O - http://127.0.0.1/; }
    expect "a pod of two" "$(soon fetches)" page
    p pod rm -f -t 0 pod >/dev/null
}

builds() {
    local context=/tmp/context
    mkdir -p $context
    printf '%s\n' 'FROM localhost/box' 'RUN echo one >/one' 'RUN test -f /one; echo two >/two' \
        'RUN cat /one /two >/three' 'CMD ["cat", "/three"]' >$context/Containerfile
    expect "build" "$(code p build --layers --no-cache -t built $context)" 0
    expect "of three layers" "$(p history --format '{{.CreatedBy}}' built | grep -c '/bin/sh -c [^#]')" 3
    expect "what was built" "$(p run --rm built | tr '\n' ' ')" "one two "
    p rmi built >/dev/null
}

version=$(podman --version)
echo "-- $version, of root"
runs
expect "run -it" "$("$here/on-terminal.py" podman run --rm -it box tty)" /dev/pts/0
podman run -d --name tty -t box sleep 1000 >/dev/null
expect "exec -it" "$("$here/on-terminal.py" podman exec -it tty tty)" /dev/pts/1
podman pause tty >/dev/null
expect "pause" "$(podman inspect -f '{{.State.Status}}' tty)" paused
podman unpause tty >/dev/null
expect "stats" "$(podman stats --no-stream --format '{{.Name}} {{.CPUPerc}}' tty | grep -c '^tty .*%')" 1
podman rm -f -t 0 tty >/dev/null
podman run -d --name web -p 8080:80 box sh -c 'echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp' >/dev/null
expect "a published port" "$(soon curl -sf http://127.0.0.1:8080/)" page
podman rm -f -t 0 web >/dev/null
expect "user namespace" "$(podman run --rm --uidmap 0:100000:65536 box cat /proc/self/uid_map | tr -s ' ')" " 0 100000 65536"
lives
pods
builds
expect "no container is left" "$(podman ps -aq)" ""
expect "no state is left" "$(ls /run/corten 2>&1)" ""

echo "-- of another user"
who=tester
install -d -m 0700 -o tester -g tester /run/user/1000
# As systemd hands them over.
mkdir -p /sys/fs/cgroup/tester/session
chown tester: /sys/fs/cgroup/tester{,/session}{,/cgroup.procs,/cgroup.subtree_control,/cgroup.threads}
runs
expect "who it is outside" "$(p run --rm box cat /proc/self/uid_map | tr -s ' ' | head -n1)" " 0 1000 1"
lives
pods
builds
expect "no container is left" "$(p ps -aq)" ""
