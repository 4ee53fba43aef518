#!/usr/bin/env bash
# Everything everywhere: what scripts/test.sh does, with all checks in every lane and on every kernel that there is.
# Takes three times as long.
set -euo pipefail
exec bash "$(dirname "$0")/test.sh" full
