#!/usr/bin/env bash
# Measures an ensemble of three zoo servers beside one of three Apache ZooKeeper 3.9.4 servers, both started from scratch on free ports of
# loopback with the same zoo.cfg and forceSync on. Processes are stopped by the ids they were started with.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/servers.sh

usage() {
    cat <<'USAGE'
Usage: benches/ensemble.sh [OPTION]... [CASE]...

Cases (default: all):
  set16      setData, 48 connections over the servers, 16 in flight
  mixed16    90 % getData, 10 % setData, 48 connections over the servers, 16 in flight
  single     setData, one connection, 1 in flight

Options:
  --only java|zoo     measure one ensemble alone
  --servers N         servers of each ensemble (default: 3)
  --zoo FILE          the server's binary (default: target/release/zoo)
  --dir DIR           where data goes; its disk is what is measured (default: target/ensemble)
  --alternations N    turns each ensemble gets (default: 5)
  --duration S        measured seconds of each turn (default: 10)

The reference server's jars come from tests/oracle.sh, or from ORACLE_CLASSPATH.
USAGE
}

servers=3 dir=target/ensemble
while (($#)); do
    case $1 in
        --servers) servers=$2; shift 2 ;;
        *) common_option "$@"; shift "$shifts" ;;
    esac
done
((${#cases[@]})) || cases=(set16 mixed16 single)
choose_kinds

declare -A pids=() ports=()
running=()
stop_all() {
    ((${#running[@]})) || return 0
    kill -TERM "${running[@]}" 2>/dev/null || true
    local id
    for id in "${running[@]}"; do
        await_end "$id"
    done
    running=()
}
trap stop_all EXIT

write_cfgs() { # KIND
    local kind=$1 n members=() client
    ports[$kind]=
    for ((n = 1; n <= servers; n++)); do
        members+=("server.$n=127.0.0.1:$(free_port):$(free_port)")
    done
    for ((n = 1; n <= servers; n++)); do
        rm -rf "${dir:?}/$kind-$n"
        mkdir -p "$dir/$kind-$n/data"
        echo "$n" >"$dir/$kind-$n/data/myid"
        client=$(free_port)
        ports[$kind]+=" $client"
        write_cfg_file "$dir/$kind-$n" "$client" "${members[@]}"
    done
}

serves() { # PORT
    local answer
    answer=$(exec 3<>"/dev/tcp/127.0.0.1/$1" && printf srvr >&3 && timeout 5 cat <&3) 2>/dev/null || return 1
    [[ $answer == *Mode:* ]]
}

start() { # KIND
    local kind=$1 n command port deadline
    write_cfgs "$kind"
    pids[$kind]=
    for ((n = 1; n <= servers; n++)); do
        case $kind in
            java) command=(java -Xmx1g -cp "$(classpath)" org.apache.zookeeper.server.quorum.QuorumPeerMain) ;;
            zoo) command=("$zoo" server) ;;
        esac
        "${command[@]}" "$dir/$kind-$n/zoo.cfg" >"$dir/$kind-$n/out.log" 2>&1 &
        pids[$kind]+=" $!"
        running+=("$!")
    done
    deadline=$((SECONDS + 120))
    for port in ${ports[$kind]}; do
        until serves "$port"; do
            if ((SECONDS > deadline)); then
                echo "$kind does not serve on $port" >&2
                tail "$dir/$kind"-*/out.log >&2
                exit 1
            fi
            sleep 0.2
        done
    done
}

target() { # KIND
    local kind=$1 text=
    for port in ${ports[$kind]}; do text+="127.0.0.1:$port,"; done
    for id in ${pids[$kind]}; do text+="$id,"; done
    echo "$text$kind"
}

compare() { # ARGS
    local a=${kinds[0]} b=${kinds[-1]} label=
    # An ensemble compared with itself shows its own spread.
    if [[ $a == "$b" ]]; then label=-again; fi
    printf '\n== %s servers each: %s ==\n\n' "$servers" "$*"
    "$loadgen" compare --a "$(target "$a")" --b "$(target "$b")$label" --alternations "$alternations" --duration "$duration" --data-dir "$dir" \
        --durability 'fdatasync on a quorum before every acknowledgement (forceSync=yes)' "$@"
}

cargo build -q --release -p zoo -p loadgen
for kind in "${kinds[@]}"; do start "$kind"; done
for case in "${cases[@]}"; do
    case $case in
        set16) compare --mix set --connections 48 --in-flight 16 ;;
        mixed16) compare --mix get=90,set=10 --connections 48 --in-flight 16 ;;
        single) compare --mix set --connections 1 --in-flight 1 --open-share 0 ;;
        *) echo "unknown case $case" >&2; exit 2 ;;
    esac
done
