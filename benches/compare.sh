#!/usr/bin/env bash
# Measures zoo beside Apache ZooKeeper 3.9.4, both started from scratch on free ports, with the same zoo.cfg and forceSync on.
# Every figure of benches/README.md comes from here. Processes are stopped by the ids they were started with.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/servers.sh
source benches/single.sh

usage() {
    cat <<'USAGE'
Usage: benches/compare.sh [OPTION]... [CASE]...

Cases (default: get16 get1 set16 set1 single echo fan-out sessions):
  get16      getData, 50 connections, 16 in flight, 1,000 keys of 100 B
  get1       getData, 50 connections, 1 in flight
  set16      setData, 50 connections, 16 in flight
  set1       setData, 50 connections, 1 in flight
  single     setData, one connection, 1 in flight, beside bare fdatasync and bare echo
  echo       getData beside a bare glommio echo server with the same frames
  fan-out    1,000 connections that watch one znode, beside a bare glommio server that sends as many events
  sessions   50 clients that connect and close
  memory     1,000,000 znodes: RSS, bytes per znode (minutes; one server at a time)
  restart    1,000,000 znodes: time to first answer, from snapshot + 1,000 transactions and from the log alone
  snapshot   1,000,000 znodes: p99.9 while a snapshot is written
  all        all of them

Options:
  --only java|zoo     measure one server alone
  --zoo FILE          the server's binary (default: target/release/zoo)
  --no-build          measure programs that are built already
  --dir DIR           where data goes; its disk is what is measured (default: target/compare)
  --alternations N    turns each server gets (default: 5)
  --duration S        measured seconds of each turn (default: 10)
  --znodes N          for memory, restart and snapshot (default: 1000000)
  --settle S          quiet seconds before memory is read (default: 60)

The reference server's jars come from tests/oracle.sh, or from ORACLE_CLASSPATH.
USAGE
}

dir=target/compare znodes=1000000 settle=60
while (($#)); do
    case $1 in
        --znodes) znodes=$2; shift 2 ;;
        --settle) settle=$2; shift 2 ;;
        *) common_option "$@"; shift "$shifts" ;;
    esac
done
quick=(get16 get1 set16 set1 single echo fan-out sessions)
slow=(memory restart snapshot)
case ${cases[*]-} in
    '') cases=("${quick[@]}") ;;
    all) cases=("${quick[@]}" "${slow[@]}") ;;
esac
choose_kinds

durability='fdatasync before every acknowledgement (forceSync=yes)'
both_fresh() { for name in "${kinds[@]}"; do fresh "$name"; done; }
title() { printf '\n== %s ==\n\n' "$*"; }
conditions=(--data-dir "$dir" --durability "$durability")

load() { # ARGS: closed loops, then open ones at half of the slower server's throughput
    both_fresh
    local args=(--duration "$duration" "${conditions[@]}" "$@") name
    if ((${#kinds[@]} == 2)); then
        "$loadgen" compare --target "$(at "${kinds[0]}")" --target "$(at "${kinds[1]}")" --alternations "$alternations" "${args[@]}"
    else
        # A server compared with itself shows its own spread.
        name=${kinds[0]}
        "$loadgen" compare --target "$(at "$name")" --target "$(at "$name")-again" --alternations "$alternations" "${args[@]}"
    fi
    stop_all
}

case_get16() { load --mix get --connections 50 --in-flight 16; }
case_get1() { load --mix get --connections 50 --in-flight 1; }
case_set16() { load --mix set --connections 50 --in-flight 16; }
case_set1() { load --mix set --connections 50 --in-flight 1; }
case_fan-out() {
    load --case fan-out
    # The floor: the same frames to the same sockets by a server that does nothing else.
    [[ $only == java ]] && return
    fresh zoo
    start_echo
    "$loadgen" compare --target "$(at zoo)" --target "$(at echo)" --alternations "$alternations" --duration "$duration" --case fan-out --open-share 0 "${conditions[@]}"
    stop_all
}
case_sessions() { load --case sessions; }

case_single() {
    # Floors first and last, since the disk's moods change: what counts lies between them.
    "$(floor fdatasync)" --bench --dir "$dir"
    "$(floor echo)" --bench
    load --mix set --connections 1 --in-flight 1 --open-share 0
    "$(floor fdatasync)" --bench --dir "$dir"
}

case_echo() {
    local name
    for name in "${kinds[@]}"; do
        fresh "$name"
        start_echo
        "$loadgen" compare --target "$(at "$name")" --target "$(at echo)" --alternations "$alternations" --duration "$duration" --mix get --connections 50 \
            --in-flight 16 --open-share 0 "${conditions[@]}"
        stop_all
    done
}

case_memory() {
    local name
    for name in "${kinds[@]}"; do
        fresh "$name"
        title "memory: $name"
        fill "$name" --settle "$settle"
        [[ $name == java ]] && jcmd "${pid[java]}" GC.heap_info
        stop_all
    done
}

snapshot_sizes() { stat -c '%n %s' "$dir/$1"/data/version-2/*snap* 2>/dev/null || true; }

# Starts the server so that a few thousand writes make it snapshot, and stops it when it has.
make_snapshot() { # NAME
    local name=$1 before now turn
    write_cfg "$name" snapCount=1000
    start "$name" >/dev/null
    before=$(snapshot_sizes "$name")
    for ((turn = 0; turn < 50; turn++)); do
        touch_1000 "$name"
        # It may still be counting what it has to write; looking too early costs another thousand writes, no more.
        [[ $(snapshot_sizes "$name") == "$before" ]] || break
    done
    # Writing one takes seconds, and a stop gives up what is being written: it is there when nothing has changed for a while.
    for ((turn = 0; turn < 60; turn++)); do
        now=$(snapshot_sizes "$name")
        sleep 2
        if [[ $now != "$before" && $now == "$(snapshot_sizes "$name")" ]]; then
            stop "$name"
            return
        fi
    done
    echo "$name wrote no snapshot" >&2
    exit 1
}

# A thousand writes that end up behind the newest snapshot.
touch_1000() { "$loadgen" run --server "127.0.0.1:${port[$1]}" --mix set --connections 1 --in-flight 16 --keys 998 --warmup 0 --duration 0.01 --keep >/dev/null; }

case_restart() {
    local name turn
    for name in "${kinds[@]}"; do
        title "restart from the log alone: $name"
        # No snapshot is due while filling; one written at the very start is of an empty tree.
        fresh "$name" snapCount=1000000000
        fill "$name" --settle 0 >/dev/null
        stop "$name"
        mkdir "$dir/$name/log-only"
        cp -r "$dir/$name/data" "$dir/$name/log-only/"
        for ((turn = 0; turn < alternations; turn++)); do
            # Starting may write a snapshot, which would make the next start another case.
            rm -rf "$dir/$name/data"
            cp -r "$dir/$name/log-only/data" "$dir/$name/data"
            # Otherwise a server that syncs what it recovered would pay for the copy.
            sync -f "$dir/$name/data"
            start "$name"
            stop "$name"
        done
        title "restart from a snapshot and 1,000 transactions: $name"
        make_snapshot "$name"
        write_cfg "$name" snapCount=1000000000
        start "$name" >/dev/null
        touch_1000 "$name"
        stop "$name"
        rm -rf "$dir/$name/log-only"
        ls -l "$dir/$name/data/version-2"
        mv "$dir/$name/data" "$dir/$name/prepared"
        for ((turn = 0; turn < alternations; turn++)); do
            rm -rf "$dir/$name/data"
            cp -r "$dir/$name/prepared" "$dir/$name/data"
            sync -f "$dir/$name/data"
            start "$name"
            stop "$name"
        done
    done
}

case_snapshot() {
    local name
    for name in "${kinds[@]}"; do
        title "snapshots under load: $name"
        fresh "$name"
        fill "$name" --settle 0 >/dev/null
        stop "$name"
        # A snapshot every 10,000 to 20,000 writes: several within the run.
        write_cfg "$name" snapCount=20000
        start "$name" >/dev/null
        "$loadgen" run --server "127.0.0.1:${port[$name]}" --pid "${pid[$name]}" --mix get=50,set=50 --connections 50 --rate 2000 --warmup 10 \
            --duration 60 --snapshot-dir "$dir/$name/data" "${conditions[@]}"
        stop_all
    done
}

prepare
for name in "${cases[@]}"; do
    declare -F "case_$name" >/dev/null || { echo "unknown case $name" >&2; usage >&2; exit 2; }
    [[ " ${slow[*]} " == *" $name "* ]] || title "$name"
    "case_$name"
done
