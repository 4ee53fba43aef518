#!/usr/bin/env bash
# Fetches the seccomp profiles that Docker and podman give to containers by default, to test against.
#
# Usage: scripts/profiles.sh
#
# Prints two paths: docker.json and podman.json, in the engines' own form. They are taken out of this Debian's packages
# by the machine's own apt, without installing these, and kept in the cache directory; `rm -r` of that starts afresh.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/corten/profiles
sources=(
    "docker golang-github-docker-docker-dev */profiles/seccomp/default.json"
    "podman golang-github-containers-common */share/containers/seccomp.json"
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache"
for source in "${sources[@]}"; do
    read -r engine package pattern <<<"$source"
    if [ ! -s "$cache/$engine.json" ]; then
        echo "profiles: fetching $package" >&2
        (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2)
        dpkg-deb -x "$work/$package"_*.deb "$work/$engine"
        found=$(find "$work/$engine" -path "$pattern" -type f -print -quit)
        [ -n "$found" ] || { echo "profiles: $package has no profile" >&2; exit 1; }
        install -m 644 "$found" "$cache/$engine.json.new.$$"
        mv -T "$cache/$engine.json.new.$$" "$cache/$engine.json"
    fi
    echo "$cache/$engine.json"
done
