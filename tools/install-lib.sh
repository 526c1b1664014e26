# Shared by install-api-server and install-host; source it. Sets FROM, ROOT, PROGRAMS.
# shellcheck shell=bash

FROM=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ROOT='' PROGRAMS=$FROM/target/release START='' UNINSTALL='' PURGE=''

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit "${2:-1}"; }
usage() {
    sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0"
    exit "${1:-2}"
}

# option ARGUMENT VALUE: the options that both have; sets SHIFT to what was used, 0 if it is none of them.
option() {
    SHIFT=1
    case $1 in
        --root) [ -d "${2-}" ] || die "--root ${2-}: no such folder" 2; ROOT=${2%/} SHIFT=2 ;;
        --programs) [ -d "${2-}" ] || die "--programs ${2-}: no such folder" 2; PROGRAMS=$2 SHIFT=2 ;;
        --start) START=1 ;;
        --uninstall) UNINSTALL=1 ;;
        --purge) UNINSTALL=1 PURGE=1 ;;
        -h | --help) usage 0 ;;
        *) SHIFT=0 ;;
    esac
}

# Names and addresses end up in configurations of several kinds.
name_fits() { [[ $2 =~ ^[A-Za-z0-9]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?$ ]] || die "$1 $2: no name or address" 2; }

# Nothing below this is done to a running system unless ROOT is empty.
live() { [ -z "$ROOT" ]; }
need_root() { ! live || [ "$(id -u)" = 0 ] || die "this needs root (or --root DIR to prepare files)"; }
systemd_runs() { live && [ -d /run/systemd/system ]; }

program() {
    [ -x "$PROGRAMS/$1" ] || die "$PROGRAMS/$1 is missing: build with \`cargo build --release\`, or tell --programs"
    install -d -m 0755 "$ROOT/usr/bin"
    install -C -m 0755 "$PROGRAMS/$1" "$ROOT/usr/bin/$1"
}
# put MODE SOURCE TARGET
put() {
    install -d -m 0755 "$(dirname "$ROOT$3")"
    install -C -m "$1" "$2" "$ROOT$3"
}
unit() { put 0644 "$FROM/systemd/$1" "/usr/lib/systemd/system/$1"; }

# config EXAMPLE TARGET UNIT SED...: a configuration that is there is the operator's and stays; what this
# version would have written goes beside it when it differs.
config() {
    local example=$1 target=$ROOT$2 unit=$3 fresh
    shift 3
    fresh=$(mktemp)
    sed -e "s#/etc/vmmgr/pki/#/run/credentials/$unit.service/#" "$@" "$FROM/crates/$example/config.example.toml" >"$fresh"
    if [ ! -e "$target" ]; then
        install -D -m 0644 "$fresh" "$target"
    elif ! cmp -s "$fresh" "$target"; then
        install -m 0644 "$fresh" "$target.new"
        say "${target#"$ROOT"} is kept; compare it with ${target#"$ROOT"}.new"
    else
        rm -f "$target.new"
    fi
    rm -f "$fresh"
    # Settings of an older version that this one does not know are better found now than at the next start.
    "$PROGRAMS/$example" check-config --config "$target" || die "${target#"$ROOT"} is refused by the new $example"
}

# settings TARGET LINE...: written once.
settings() {
    local target=$ROOT$1
    shift
    [ -e "$target" ] || { install -d -m 0755 "$(dirname "$target")"; printf '%s\n' "$@" >"$target"; }
}

# remove PATH...: files of ours; absolute, never the root itself.
remove() {
    local path
    for path in "$@"; do
        [ "${#path}" -gt 5 ] || die "will not remove $path"
        rm -rf -- "$ROOT$path"
    done
}
