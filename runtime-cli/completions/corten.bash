# Completion of corten for bash. Made from the table of flags; do not edit.
# shellcheck shell=bash disable=SC2207,SC2034

_corten() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' flags='--debug --log --log-format --root --systemd-cgroup --cgroup-manager --rootless --version -v --help -h' ids='' index root=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
            --root) root=(--root "${COMP_WORDS[++index]}") ;;
            --log | --log-format | --cgroup-manager | --rootless) ((index++)) ;;
            -*) ;;
            *) command=${COMP_WORDS[index]} && break ;;
        esac
    done
    case $before in
        --cgroup | --console-socket | --log | --pid-file | --pidfd-socket | --process | --resources | --trace | -p | -r) COMPREPLY=($(compgen -f -- "$word")) && return ;;
        --bundle | --cwd | --root | -b) COMPREPLY=($(compgen -d -- "$word")) && return ;;
        --additional-gids | --apparmor | --blkio-weight | --cap | --cgroup-manager | --cpu-burst | --cpu-idle | --cpu-period | --cpu-quota | --cpu-rt-period | --cpu-rt-runtime | --cpu-share | --cpuset-cpus | --cpuset-mems | --env | --format | --interval | --l3-cache-schema | --log-format | --mem-bw-schema | --memory | --memory-reservation | --memory-swap | --pids-limit | --preserve-fds | --process-label | --rootless | --user | -c | -e | -f | -g | -u) return ;;
    esac
    case $command in
        '') COMPREPLY=($(compgen -W "$flags check create delete events exec features kill list pause plan ps resume run spec start state update help" -- "$word")) && return ;;
        help) COMPREPLY=($(compgen -W 'check create delete events exec features kill list pause plan ps resume run spec start state update' -- "$word")) && return ;;
        check) flags='--bundle -b --format --help -h' ids= ;;
        create) flags='--bundle -b --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds --trace --help -h' ids= ;;
        delete) flags='--force -f --help -h' ids=yes ;;
        events) flags='--interval --stats --help -h' ids=yes ;;
        exec) flags='--console-socket --pidfd-socket --cwd --env -e --tty -t --user -u --additional-gids -g --process -p --detach -d --pid-file --process-label --apparmor --no-new-privs --cap -c --preserve-fds --trace --cgroup --ignore-paused --help -h' ids=yes ;;
        features) flags='--help -h' ids= ;;
        kill) flags='--help -h' ids=yes ;;
        list) flags='--format -f --quiet -q --help -h' ids= ;;
        pause) flags='--help -h' ids=yes ;;
        plan) flags='--bundle -b --format --run --help -h' ids= ;;
        ps) flags='--format -f --help -h' ids=yes ;;
        resume) flags='--help -h' ids=yes ;;
        run) flags='--bundle -b --console-socket --pidfd-socket --detach -d --keep --pid-file --no-subreaper --no-pivot --no-new-keyring --preserve-fds --trace --help -h' ids= ;;
        spec) flags='--bundle -b --rootless --help -h' ids= ;;
        start) flags='--help -h' ids=yes ;;
        state) flags='--help -h' ids=yes ;;
        update) flags='--resources -r --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpu-idle --cpuset-cpus --cpuset-mems --memory --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema --help -h' ids=yes ;;
        *) return ;;
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
        *)
            [ -z "$ids" ] ||
                COMPREPLY=($(compgen -W "$(corten "${root[@]}" list -q 2>/dev/null)" -- "$word"))
            ;;
    esac
}
complete -F _corten corten
