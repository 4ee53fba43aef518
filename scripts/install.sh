#!/usr/bin/env bash
# Builds the release binaries and puts them, the manual pages and the completions where distributions expect them.
# PREFIX is /usr/local if not set; DESTDIR is put in front of everything, for packages.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
set_target
cd "$repo"

prefix=${PREFIX:-/usr/local}
case $prefix in
    /*) ;;
    *) die "PREFIX: must be an absolute path, not $prefix" ;;
esac
to=${DESTDIR:-}$prefix

bash scripts/build.sh
for program in corten containerd-shim-corten-v2; do
    install -Dm755 "$bin/$program" "$to/bin/$program"
done
for page in runtime-cli/man/*.8; do
    install -Dm644 "$page" "$to/share/man/man8/${page##*/}"
done
install -Dm644 runtime-cli/completions/corten.bash "$to/share/bash-completion/completions/corten"
install -Dm644 runtime-cli/completions/_corten "$to/share/zsh/site-functions/_corten"
install -Dm644 runtime-cli/completions/corten.fish "$to/share/fish/vendor_completions.d/corten.fish"
echo "installed below $to"
