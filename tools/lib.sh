# Shared by the scripts in this folder; source it.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VMMGR_RUN=${VMMGR_RUN:-$ROOT/run}
VMMGR_STATE=${VMMGR_STATE:-/var/lib/vmmgr}
VMMGR_CACHE=${VMMGR_CACHE:-/var/cache/vmmgr}
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
BIN=$TARGET_DIR/debug

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "this needs root, and sudo is not installed"
    exec sudo --preserve-env=VMMGR_RUN,VMMGR_STATE,VMMGR_CACHE,CARGO_TARGET_DIR,PATH,HOME "$0" "$@"
}

# wait_until SECONDS WHAT COMMAND...: until the command succeeds.
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { printf 'error: %s did not happen in time\n' "$what" >&2; return 1; }
        sleep 0.2
    done
}
