#!/usr/bin/env bash
# Runs a command against a fresh server: tests/clients/with_server.sh java|zoo [K=V | -DNAME=VALUE]… -- COMMAND…
#
# The command finds the server at $ZOO_ADDR (host:port), can restart it with "$ZOO_RESTART" [SIGNAL] (same port, same data, returns when
# it serves again; KILL for a crash), and has the exit status. The server runs in a directory of its own that goes away afterwards.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tests=$(dirname "$here")
root=$(dirname "$tests")

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Answers to a four-letter word; empty when nobody listens.
word() { { exec 3<>"/dev/tcp/127.0.0.1/$1" && printf %s "$2" >&3 && timeout 1 cat <&3; } 2>/dev/null || true; }

start_zoo() {
    local port=$1 dir=$2 binary=${ZOO_BIN:-$root/target/release/zoo}
    shift 2
    [ -x "$binary" ] || { echo "no $binary: build it or set ZOO_BIN" >&2; exit 1; }
    mkdir -p "$dir/data"
    local defines=() line
    {
        printf '%s\n' "dataDir=$dir/data" "clientPort=$port" "clientPortAddress=127.0.0.1" "tickTime=1000" "4lw.commands.whitelist=*"
        for line in "$@"; do
            case $line in -D*) ;; *) echo "$line" ;; esac
        done
    } >"$dir/zoo.cfg"
    for line in "$@"; do
        case $line in -D*) defines+=("$line") ;; esac
    done
    (cd "$dir" && exec "$binary" server zoo.cfg "${defines[@]}" >>server.log 2>&1 </dev/null) &
    local pid=$! i
    echo "$pid" >"$dir/pid"
    disown
    for i in $(seq 600); do
        case $(word "$port" srvr) in *Mode:*) return ;; esac
        kill -0 "$pid" 2>/dev/null || { tail -n 30 "$dir/server.log" >&2; echo "the server ended while starting" >&2; exit 1; }
        sleep 0.1
    done
    kill -9 "$pid"
    echo "the server did not serve within 60 s" >&2
    exit 1
}

start() {
    case $kind in
        java) bash "$tests/oracle.sh" start "$port" "$dir" "${settings[@]}" >/dev/null ;;
        zoo) start_zoo "$port" "$dir" "${settings[@]}" ;;
        *) echo "java or zoo, not $kind" >&2; exit 2 ;;
    esac
}

if [ "${1:-}" = --restart ]; then
    # As "$ZOO_RESTART" [SIGNAL].
    dir=$ZOO_SERVER_DIR
    readarray -t saved <"$dir/settings"
    kind=${saved[0]} port=${saved[1]} settings=("${saved[@]:2}")
    bash "$tests/oracle.sh" stop "$dir" "${2:-TERM}"
    start
    exit
fi

kind=$1
shift
settings=()
while [ "${1:---}" != -- ]; do
    settings+=("$1")
    shift
done
shift || true
port=$(free_port)
dir=$(mktemp -d "${TMPDIR:-/tmp}/zoo-clients.XXXXXX")
restart=$dir/restart
printf '%s\n' "$kind" "$port" "${settings[@]}" >"$dir/settings"
printf '#!/bin/sh\nexec bash "%s" --restart "$@"\n' "$here/with_server.sh" >"$restart"
chmod +x "$restart"
finish() {
    status=$?
    [ -e "$dir/pid" ] && kill -9 "$(cat "$dir/pid")" 2>/dev/null
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        echo "---- the server's last words:" >&2
        tail -n 20 "$dir/server.log" >&2
    fi
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
start
export ZOO_ADDR=127.0.0.1:$port ZOO_RESTART=$restart ZOO_SERVER_DIR=$dir ZOO_SERVER_KIND=$kind
"$@"
