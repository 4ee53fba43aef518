# What the other scripts share; sourced, never run. Sets $repo, $target_dir, $triple and $bin, puts cargo on the PATH.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# rustup's own set-up only reaches login shells.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Runs a command as root, by sudo where we are not.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this step needs root, and there is no sudo here"
    fi
}

is_cgroup2() {
    [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]
}

# A busybox without a dynamic section, to make a root file system from.
static_busybox() {
    local file
    for file in "${CORTEN_BUSYBOX:-}" /bin/busybox /usr/bin/busybox; do
        # An interpreter in the program headers means that it needs a loader.
        if [ -x "$file" ] && ! readelf -lW "$file" | grep -q INTERP; then
            echo "$file"
            return
        fi
    done
    return 1
}

# Rust's target that links with musl, which it brings along: on the machine, or to be had from rustup.
musl_target() {
    local target
    target=$(uname -m)-unknown-linux-musl
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
        command -v rustup >/dev/null && rustup -q target add "$target" >&2 || return
    fi
    echo "$target"
}

set_target() {
    command -v cargo >/dev/null || die "no cargo: install Rust first (https://rustup.rs)"
    target_dir=${CARGO_TARGET_DIR:-$repo/target}
    # .cargo/config.toml builds for the host by name, which adds a folder.
    triple=$(cd "$repo" && rustc -vV | sed -n 's/^host: //p')
    # What scripts/build.sh has built for use.
    bin=$target_dir/bin
    # Read by the scripts that source this one.
    export target_dir triple bin
}

# The first of this machine's Debian archives that is not the security archive.
debian_mirror() {
    local mirror
    # shellcheck disable=SC2016  # apt expands these
    mirror=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "main" && $2 !~ /security/ && !found++ { print $2 }')
    # So on cloud images: a file with archives, the best first. See apt-transport-mirror(1).
    if [[ $mirror = mirror+file:* ]]; then
        mirror=${mirror#mirror+file:}
        mirror=$(awk '/^[^#]/ && !found++ { print $1 }' "${mirror%/}")
    fi
    echo "$mirror"
}
