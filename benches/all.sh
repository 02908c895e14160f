#!/usr/bin/env bash
# The whole table, with one command: zoo beside Apache ZooKeeper 3.9.4, etcd, a bare glommio echo and a bare fdatasync loop, on this machine. Everything is started from
# scratch on free ports of loopback and stopped by the id it was started with; what is not installed is told of and left out.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/servers.sh
source benches/single.sh

usage() {
    cat <<'USAGE'
Usage: benches/all.sh [OPTION]... [PART]...

Parts (default: host floors loads watches sessions ensemble; with --full all of them):
  host       what of this host matters (zoo server --check)
  floors     a bare glommio echo and a bare fdatasync loop
  loads      the loads of benches/workloads: reads and writes, creates, listings, transactions, one hot znode, large values
  watches    changes that are watched
  sessions   sessions that come and go, idle ones, connection storms
  ensemble   three servers of each: the leader is killed, a follower catches up
  overload   three servers: twice what they can do, for a minute
  snapshot   1,000,000 znodes: p99.9 while snapshots are written
  fill       1,000,000 znodes: memory; one server at a time
  fill-10    10,000,000 znodes: memory; Java with a heap of 16 GB, only where there are 24 GB

Options:
  --full              every part and every load, longer and more turns (two hours; without it about ten minutes)
  --only LIST         of zoo,java,etcd,echo: measure these alone (default: all that are there)
  --zoo FILE          the server's binary (default: target/release/zoo)
  --loadgen FILE      the load generator's, built with the feature etcd (default: target/release/loadgen)
  --no-build          measure programs that are built already
  --dir DIR           where data and results go; its disk is what is measured (default: target/all)
  --alternations N    turns each server gets (default: 2, with --full 5)
  --duration S        measured seconds of each turn (default: 1, with --full 10)
  --no-floors-build   leave out what needs `cargo bench`: floors, and the echo server

Results in DIR/results: index.html (open it with a browser, it needs nothing else), table.txt, table.json, floors.txt, host.txt, and of every run its JSON and its
HdrHistogram log (.hlog).
USAGE
}

dir=target/all full=no wanted='' benches=yes alternations='' duration=''
while (($#)); do
    case $1 in
        --full) full=yes; shift ;;
        --only) wanted=$2; shift 2 ;;
        --no-floors-build) benches=no; shift ;;
        *) common_option "$@"; shift "$shifts" ;;
    esac
done
parts=("${cases[@]}")
if ((${#parts[@]} == 0)); then
    parts=(host floors loads watches sessions ensemble)
    [[ $full == yes ]] && parts+=(overload snapshot fill fill-10)
fi
# What a short run has of the loads, and how long each is warmed up: a JVM compiles its code first.
few=(--only 'reads 100,reads 50,reads 0,90/10,10 workers,list-heavy,multi-heavy,production,hot-node,1 KiB')
if [[ $full == yes ]]; then warm=10 kills=20 few=(); else warm=1.5 kills=3; fi
alternations=${alternations:-$([[ $full == yes ]] && echo 5 || echo 2)}
duration=${duration:-$([[ $full == yes ]] && echo 10 || echo 1)}

missing() { echo "left out: $*" | tee -a "$results/left-out.txt" >&2; }
is_wanted() { [[ -z $wanted || ,$wanted, == *,$1,* ]]; } # NAME

# Which servers there are, into `servers`; zoo is the one all others are compared with.
choose_servers() {
    servers=()
    is_wanted zoo && servers+=(zoo)
    if is_wanted java; then
        if ! command -v java >/dev/null; then
            missing 'Apache ZooKeeper: java is not installed (Debian: openjdk-17-jre-headless)'
        elif ! classpath >/dev/null; then
            missing 'Apache ZooKeeper: its jars could not be had (tests/oracle.sh, ORACLE_CLASSPATH)'
        else
            servers+=(java)
        fi
    fi
    if is_wanted etcd; then
        if ! command -v etcd >/dev/null; then
            missing 'etcd: not installed (Debian: etcd-server)'
        elif "$loadgen" suite --target 127.0.0.1:1,protocol=etcd --workload benches/workloads/mixes.workload --only none 2>&1 | grep -q 'without etcd'; then
            missing 'etcd: this loadgen was built without it (--features etcd)'
        else
            servers+=(etcd)
        fi
    fi
    if is_wanted echo; then
        if [[ $benches == yes ]]; then servers+=(echo); else missing 'the echo server and the floors (--no-floors-build)'; fi
    fi
}

has() { [[ " ${servers[*]} " == *" $1 "* ]]; } # NAME

durability='fdatasync or its equal before every acknowledgement; echo keeps nothing'
title() { printf '\n== %s ==\n\n' "$*"; }

start_one() { # NAME
    case $1 in
        etcd) start_etcd ;;
        echo) start_echo ;;
        *) fresh "$1" ;;
    esac
}

target_of() { # NAME
    case $1 in
        etcd) echo "$(at etcd),protocol=etcd" ;;
        # Its values are all of one size, and it keeps none.
        echo) echo "$(at echo),ops=watch" ;;
        *) at "$1" ;;
    esac
}

# Workloads on these servers, fresh ones, in turns.
suite() { # RESULTS SERVERS ARGS...
    local into=$1 list=$2 name targets=()
    shift 2
    for name in $list; do
        start_one "$name"
        targets+=(--target "$(target_of "$name")")
    done
    "$loadgen" suite "${targets[@]}" --alternations "$alternations" --dir "$dir" --save "$results/$into" "${conditions[@]}" "$@" >"$results/$into.txt" ||
        missing "$into: $(grep -c FAILED "$results/$into.txt") runs failed, see $results/$into.txt"
    cat "$results/$into.txt"
    stop_all
}

workload() { for name in "$@"; do printf -- '--workload\nbenches/workloads/%s.workload\n' "$name"; done; } # NAME...

real() { for name in "${servers[@]}"; do [[ $name == zoo || $name == java ]] && printf '%s ' "$name"; done; }
others() { for name in "${servers[@]}"; do [[ $name == "$1" ]] || printf '%s ' "$name"; done; } # NAME: all but that

part_host() { "$zoo" server --check --measure --dataDir="$dir" | tee "$results/host.txt" || true; }

part_floors() {
    [[ $benches == yes ]] || return 0
    { "$(floor fdatasync)" --bench --dir "$dir" && "$(floor echo)" --bench; } | tee "$results/floors.txt"
    # How far a read is from a server that does nothing but answer.
    has echo || return 0
    local name
    fresh zoo
    start_echo
    "$loadgen" compare --target "$(at zoo)" --target "$(at echo)" --alternations "$alternations" --duration "$duration" --warm-run 0 --open-share 0 --mix get \
        --connections 50 --in-flight 16 --save "$results/echo" "${conditions[@]}" | tee "$results/echo.txt"
    # Saved without a workload's name, which the table needs.
    for name in "$results"/echo/*.json; do sed -i 's/"workload": ""/"workload": "reads beside a bare echo"/' "$name"; done
    stop_all
}

part_loads() {
    local files list
    mapfile -t files < <(workload read-ratio mixes create-latency list-heavy multi-heavy production hot-node large-values)
    list=$(others echo)
    suite loads "$list" "${files[@]}" "${few[@]}" --duration "$duration" --warmup 1 --warm-run "$warm" --open-share 0.5
}

part_watches() {
    local files
    mapfile -t files < <(workload watch)
    suite watches "$(others etcd)" "${files[@]}"
}

part_sessions() {
    local files
    mapfile -t files < <(workload sessions)
    [[ $full == yes ]] || files+=(--only storm)
    suite sessions "$(real)" "${files[@]}" --duration "$duration" --alternations 1
}

in_ensemble() { # ARGS
    local only=()
    has java || only=(--only zoo)
    has zoo || only=(--only java)
    benches/ensemble.sh --no-build --zoo "$zoo" --loadgen "$loadgen" --dir "$dir/ensemble" "${only[@]}" "$@"
}

part_ensemble() {
    in_ensemble --kills "$kills" --alternations "$alternations" --duration $((duration > 6 ? duration : 6)) failover catch-up | tee "$results/ensemble.txt"
    mkdir -p "$results/ensemble"
    for case in failover catch-up; do
        for run in "$dir/ensemble/results-$case"/*[0-9].json; do cp "$run" "$results/ensemble/$case-$(basename "$run")"; done
    done
}

part_overload() { in_ensemble overload | tee "$results/overload.txt"; }

part_snapshot() {
    local name znodes=1000000 files
    mapfile -t files < <(workload snapshot)
    for name in $(real); do
        fresh "$name"
        fill "$name" --settle 0 >/dev/null
        stop "$name"
        write_cfg "$name" snapCount=20000
        start "$name" >/dev/null
        "$loadgen" suite "${files[@]}" --target "$(at "$name")" --alternations 1 --warm-run 0 --dir "$dir" --save "$results/snapshot-$name" "${conditions[@]}"
        stop_all
    done | tee "$results/snapshot.txt"
}

fill_each() { # ONLY
    local name files
    mapfile -t files < <(workload fill)
    for name in $(real); do
        fresh "$name"
        "$loadgen" suite "${files[@]}" --only "$1" --target "$(at "$name")" --alternations 1 --save "$results/fill-$1-$name" "${conditions[@]}"
        stop_all
    done | tee "$results/fill-$1.txt"
}

part_fill() { fill_each 1,000,000; }

part_fill-10() {
    local heap=16g
    if (($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) < 24000000)); then
        missing '10,000,000 znodes: that wants 24 GB of memory'
        return
    fi
    fill_each 10,000,000
}

results=$dir/results
rm -rf "$results"
mkdir -p "$results"
conditions=(--data-dir "$dir" --durability "$durability")
only=zoo
if [[ $build == yes ]]; then
    cargo build -q --release -p zoo -p loadgen --features loadgen/etcd
    build=no
fi
prepare
choose_servers
((${#servers[@]})) || { echo 'no server is left to be measured' >&2; exit 1; }
echo "measured: ${servers[*]}; parts: ${parts[*]}"
for part in "${parts[@]}"; do
    declare -F "part_$part" >/dev/null || { echo "unknown part $part" >&2; usage >&2; exit 2; }
    title "$part"
    "part_$part"
done
mapfile -t runs < <(find "$results" -mindepth 2 -name '*.json' | sort -V)
if ((${#runs[@]})); then
    "$loadgen" report --html "$results/index.html" "${runs[@]}" >"$results/table.txt" || true
    "$loadgen" report --json "${runs[@]}" >"$results/table.json" || true
    echo
    echo "Open $results/index.html; the same as text: $results/table.txt"
fi
