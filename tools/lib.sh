# Shared by the scripts in this folder; source it.
# shellcheck shell=bash

# Debian gives users no way to the system's programs, and sudo may keep theirs.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VMMGR_RUN=${VMMGR_RUN:-$ROOT/run}
VMMGR_STATE=${VMMGR_STATE:-/var/lib/vmmgr}
VMMGR_CACHE=${VMMGR_CACHE:-/var/cache/vmmgr}
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
BIN=$TARGET_DIR/debug
PKI=$VMMGR_STATE/pki
HOST=host01
URL=https://localhost:8443

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "this needs root, and sudo is not installed"
    exec sudo --preserve-env=VMMGR_RUN,VMMGR_STATE,VMMGR_CACHE,VMMGR_LOG_FORMAT,CARGO_TARGET_DIR,PATH,HOME "$0" "$@"
}

# Under sudo a build is the caller's: the caller's Rust is found, and no file in target/ is root's.
as_caller() {
    local home
    if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ] && [ "$(stat -c %u "$ROOT")" = "$SUDO_UID" ]; then
        home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
        sudo -u "#$SUDO_UID" env HOME="$home" PATH="$home/.cargo/bin:$PATH" CARGO_TARGET_DIR="$TARGET_DIR" "$@"
    else
        "$@"
    fi
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

# A pid alone may belong to somebody else by now; with its start time it cannot.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# spawn NAME COMMAND...: in the background, log and pid file under run/.
spawn() {
    local name=$1
    shift
    # The file of one that was killed would say that this one is dead.
    rm -f "$VMMGR_RUN/pid/$name"
    setsid --fork bash -c '
        echo $$ $(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20) >"$0"
        exec "$@"' "$VMMGR_RUN/pid/$name" "$@" </dev/null >>"$VMMGR_RUN/log/$name.log" 2>&1
    wait_until 5 "the start of $name" test -s "$VMMGR_RUN/pid/$name"
}

# pid_of NAME: prints the pid if the process that spawn started still runs.
pid_of() {
    local pid when
    read -r pid when 2>/dev/null <"$VMMGR_RUN/pid/$1" || return 1
    [ -n "$when" ] && [ "$(started_at "$pid")" = "$when" ] && echo "$pid"
}

# halt NAME [SECONDS]: SIGTERM, SIGKILL when that does not help in time.
halt() {
    local pid
    if pid=$(pid_of "$1"); then
        kill "$pid"
        wait_until "${2:-15}" "the end of $1" not_running "$1" || kill -9 "$pid"
    fi
    rm -f "$VMMGR_RUN/pid/$1"
}
not_running() { ! pid_of "$1" >/dev/null; }

vmmctl() {
    VMMGR_URL=$URL VMMGR_CA=$PKI/ca.pem VMMGR_TOKEN=${VMMGR_TOKEN:-} "$BIN/vmmctl" "$@"
}
