#!/usr/bin/env bash
# Measures an ensemble of three zoo servers beside one of three Apache ZooKeeper 3.9.4 servers, both started from scratch on free ports of
# loopback with the same zoo.cfg and forceSync on. Processes are stopped by the ids they were started with.
set -euo pipefail
cd "$(dirname "$0")/.."
source benches/servers.sh

usage() {
    cat <<'USAGE'
Usage: benches/ensemble.sh [OPTION]... [CASE]...

Cases (default: set16 mixed16 single):
  set16      setData, 48 connections over the servers, 16 in flight
  mixed16    90 % getData, 10 % setData, 48 connections over the servers, 16 in flight
  single     setData, one connection to the leader, 1 in flight, beside bare echo and as many bare fdatasync loops at once as there are servers
  failover   setData while the leader is killed (-9) and clients go on elsewhere: longest gap without a write
  catch-up   a follower misses 10,000 writes and comes back: time until in sync, p99 of the others meanwhile
  snapshot   an empty server joins one of 1,000,000 znodes: time until in sync, p99 of the others meanwhile, RSS
  overload   twice what the servers can do, for a minute: memory, sessions, elections, acknowledged writes, recovery
  delay      one of two followers is 50 ms away in each direction: p50 of a write with and without that
  all        all of them

Options:
  --only java|zoo     measure one ensemble alone
  --servers N         servers of each ensemble (default: 3)
  --zoo FILE          the server's binary (default: target/release/zoo)
  --zoo-line LINE     a line for zoo's zoo.cfg alone; may be given again
  --no-build          measure programs that are built already
  --dir DIR           where data goes; its disk is what is measured (default: target/ensemble)
  --alternations N    turns each ensemble gets (default: 5)
  --duration S        measured seconds of each turn (default: 10)
  --kills N           failover: turns each ensemble gets (default: 20)
  --missed N          catch-up: writes that the follower misses (default: 10000)
  --znodes N          snapshot: znodes (default: 1000000)
  --overload S        overload: seconds of it (default: 60)
  --memory MIB        overload: most that all servers together may take (default: 2048)
  --rate OPS          catch-up, snapshot, delay: writes a second (default: 500)

The reference server's jars come from tests/oracle.sh, or from ORACLE_CLASSPATH.
USAGE
}

servers=3 dir=target/ensemble kills=20 missed=10000 znodes=1000000 rate=500 overload=60 memory=2048 zoo_lines=()
while (($#)); do
    case $1 in
        --servers) servers=$2; shift 2 ;;
        --zoo-line) zoo_lines+=("$2"); shift 2 ;;
        --kills) kills=$2; shift 2 ;;
        --missed) missed=$2; shift 2 ;;
        --znodes) znodes=$2; shift 2 ;;
        --rate) rate=$2; shift 2 ;;
        --overload) overload=$2; shift 2 ;;
        --memory) memory=$2; shift 2 ;;
        *) common_option "$@"; shift "$shifts" ;;
    esac
done
case ${cases[*]-} in
    '') cases=(set16 mixed16 single) ;;
    all) cases=(set16 mixed16 single failover catch-up snapshot overload delay) ;;
esac
choose_kinds

# Of each server, by KIND-N: its client port; its process id is in its directory, whoever started it. Of each kind's proxy: where it takes commands.
declare -A port=() proxy_of=() through=()
durability='fdatasync on a quorum before every acknowledgement (forceSync=yes)'
conditions=(--data-dir "$dir" --durability "$durability")

pid_of() { cat "$dir/$1-$2/pid" 2>/dev/null || true; } # KIND N

stop() { # KIND N
    local id
    id=$(pid_of "$1" "$2")
    # Without its 0 a return in a trap passes on what the script ends with, and ends the trap.
    if [[ -z $id ]]; then return 0; fi
    kill -TERM "$id" 2>/dev/null || true
    await_end "$id"
    rm -f "$dir/$1-$2/pid"
}

stop_all() {
    local kind n id fd
    for kind in zoo java; do
        for ((n = 1; n <= servers; n++)); do stop "$kind" "$n"; done
    done
    for kind in "${!proxy_of[@]}"; do
        # It ends with its input.
        fd=${proxy_of[$kind]}
        exec {fd}>&-
        await_end "$(<"$dir/$kind-proxy.pid")"
    done
    proxy_of=()
}
trap stop_all EXIT

write_cfgs() { # KIND [LINE]...
    local kind=$1 n quorum=() election=()
    shift
    [[ $kind == zoo ]] && set -- "$@" "${zoo_lines[@]}"
    for ((n = 1; n <= servers; n++)); do
        rm -rf "${dir:?}/$kind-$n"
        quorum[n]=$(free_port) election[n]=$(free_port)
        port[$kind-$n]=$(free_port)
    done
    for ((n = 1; n <= servers; n++)); do
        blank_data "$kind" "$n"
        write_cfg_file "$dir/$kind-$n" "${port[$kind-$n]}" "$@" "$(server_lines "$kind" "$n")"
    done
}

blank_data() { # KIND N
    rm -rf "${dir:?}/$1-$2/data"
    mkdir -p "$dir/$1-$2/data"
    echo "$2" >"$dir/$1-$2/data/myid"
}

# The list of servers as server N is told it: with proxies, it sees each of the others through one of its own. Uses `quorum` and `election`.
server_lines() { # KIND N
    local other
    for ((other = 1; other <= servers; other++)); do
        if [[ -n ${through[$2-$other]-} ]]; then
            echo "server.$other=127.0.0.1:${through[$2-$other]}"
        else
            echo "server.$other=127.0.0.1:${quorum[other]}:${election[other]}"
        fi
    done
}

command_of() { # KIND N
    case $1 in
        java) echo "java -Xmx${heap:-1g} -cp $(classpath) org.apache.zookeeper.server.quorum.QuorumPeerMain $dir/$1-$2/zoo.cfg" ;;
        zoo) echo "$zoo server $dir/$1-$2/zoo.cfg" ;;
    esac
}

launch() { # KIND N
    local words
    read -ra words <<<"$(command_of "$@")"
    "${words[@]}" >>"$dir/$1-$2/out.log" 2>&1 &
    echo $! >"$dir/$1-$2/pid"
    # Nobody needs to be told that it was killed.
    disown
}

mode_of() { # KIND N
    local answer
    answer=$({ exec 3<>"/dev/tcp/127.0.0.1/${port[$1-$2]}" && printf srvr >&3 && timeout 5 cat <&3; } 2>/dev/null) || return 1
    [[ $answer =~ Mode:\ ([a-z]+) ]] && echo "${BASH_REMATCH[1]}"
}

await_all() { # KIND
    local n deadline=$((SECONDS + 120))
    for ((n = 1; n <= servers; n++)); do
        until mode_of "$1" "$n" >/dev/null; do
            if ((SECONDS > deadline)); then
                echo "$1 does not serve on ${port[$1-$n]}" >&2
                tail "$dir/$1"-*/out.log >&2
                exit 1
            fi
            sleep 0.2
        done
    done
}

start() { # KIND [LINE]...: a fresh ensemble
    local n
    write_cfgs "$@"
    for ((n = 1; n <= servers; n++)); do launch "$1" "$n"; done
    await_all "$1"
}

leader_of() { # KIND
    local n
    for ((n = 1; n <= servers; n++)); do
        if [[ $(mode_of "$1" "$n") == leader ]]; then
            echo "$n"
            return
        fi
    done
    echo "$1 has no leader" >&2
    return 1
}

# A follower that clients of this case stay away from.
victim_of() { # KIND
    local leader
    leader=$(leader_of "$1")
    echo $((leader % servers + 1))
}

addresses() { # KIND [N]: of all servers but N
    local n list=()
    for ((n = 1; n <= servers; n++)); do
        [[ $n == "${2-}" ]] || list+=("127.0.0.1:${port[$1-$n]}")
    done
    (IFS=,; echo "${list[*]}")
}

pids() { # KIND [N]: of all servers but N
    local n list=()
    for ((n = 1; n <= servers; n++)); do
        [[ $n == "${2-}" ]] || list+=("$(pid_of "$1" "$n")")
    done
    (IFS=,; echo "${list[*]}")
}

target() { echo "$(addresses "$1"),$(pids "$1"),$1"; } # KIND

title() { printf '\n== %s servers each: %s ==\n\n' "$servers" "$*"; }

compare() { # ARGS
    local a=${kinds[0]} b=${kinds[-1]} label= kind
    # An ensemble compared with itself shows its own spread.
    if [[ $a == "$b" ]]; then label=-again; fi
    for kind in "${kinds[@]}"; do start "$kind"; done
    "$loadgen" compare --target "$(target "$a")" --target "$(target "$b")$label" --alternations "$alternations" --duration "$duration" "${conditions[@]}" "$@"
    stop_all
}

# The ensembles in turns, each going first every other time: calls COMMAND KIND TURN.
in_turns() { # TURNS COMMAND
    local turn kind order
    for ((turn = 1; turn <= $1; turn++)); do
        order=("${kinds[@]}")
        ((turn % 2)) || order=("${kinds[-1]}" "${kinds[@]:0:${#kinds[@]}-1}")
        for kind in "${order[@]}"; do "$2" "$kind" "$turn"; done
    done
}

# One saved run: what is printed is its report.
run() { # FILE ARGS
    local file=$1
    shift
    "$loadgen" run --json "${conditions[@]}" "$@" >"$file" || { grep -s failure "$file" >&2 || true; exit 1; }
}

# One saved run of a workload's file.
workload() { # FILE WORKLOAD TARGET ARGS
    local file=$1 name=$2 target=$3
    shift 3
    "$loadgen" suite --workload "benches/workloads/$name.workload" --dir "$dir" --target "$target" --alternations 1 --warm-run 0 --open-share 0 --duration "$duration" \
        --save "$results/one" "${conditions[@]}" "$@" >"$results/one.log" || { tail -n 3 "$results/one.log" >&2; exit 1; }
    mv "$results/one/01-00-0.json" "$file"
}

# What a workload runs in its middle.
script() { # KIND NAME COMMAND
    mkdir -p "$dir/$1"
    printf '#!/bin/sh\n%s\n' "$3" >"$dir/$1/$2"
    chmod +x "$dir/$1/$2"
}

# Writes that do not count: a JVM compiles its code first, and an ensemble has a history. They leave the keys for the runs that count.
warm() { # KIND
    "$loadgen" run --server "$(addresses "$1")" --mix set --connections 12 --in-flight 4 --duration "$duration" --keep >/dev/null
}

saved() { # PATTERN: the runs of this case, those of the first kind first
    local kind
    for kind in "${kinds[@]}"; do ls -v "$results"/"$kind"-*$1.json; done
}

case_set16() { compare --mix set --connections 48 --in-flight 16; }
case_mixed16() { compare --mix get=90,set=10 --connections 48 --in-flight 16; }
case_single() {
    local kind targets=()
    for kind in "${kinds[@]}"; do
        start "$kind"
        targets+=(--target "127.0.0.1:${port[$kind-$(leader_of "$kind")]},$(pids "$kind"),$kind")
    done
    ((${#kinds[@]} == 2)) || targets+=(--target "${targets[1]}-again")
    # Floors first and last, since the disk's moods change: what counts lies between them.
    floors
    "$loadgen" compare "${targets[@]}" --alternations "$alternations" --duration "$duration" "${conditions[@]}" --mix set --connections 1 --in-flight 1 --open-share 0
    floors
    stop_all
}

floors() {
    "$(floor fdatasync)" --bench --dir "$dir" --loops "$servers"
    "$(floor echo)" --bench
}

case_failover() {
    local kind
    for kind in "${kinds[@]}"; do
        start "$kind"
        warm "$kind"
    done
    in_turns "$kills" kill_leader
    stop_all
    saved '' | xargs "$loadgen" report --only longest,throughput,moves,move
}

kill_leader() { # KIND TURN
    local leader
    leader=$(leader_of "$1")
    script "$1" kill-leader "kill -KILL $(pid_of "$1" "$leader")"
    workload "$results/$1-$2.json" leader-kill "$(addresses "$1"),$1"
    launch "$1" "$leader"
    await_all "$1"
}

# Has server N started in the middle of a run of the others, and measures both.
rejoin() { # KIND TURN N ARGS
    local kind=$1 turn=$2 n=$3 home="$dir/$1-$3" words command
    shift 3
    read -ra words <<<"$(command_of "$kind" "$n")"
    # A class path has a star in it, which is the server's.
    printf -v command '%q ' "${words[@]}"
    script "$kind" rejoin "$loadgen start --sync --json --label $kind --server 127.0.0.1:${port[$kind-$n]} --pid-file $home/pid \
        --log $home/out.log -- $command >$results/$kind-$turn-joined.json"
    workload "$results/$kind-$turn.json" catch-up "$(addresses "$kind" "$n"),$(pids "$kind" "$n"),$kind" --set "rate=$rate" \
        --set "during-at=$((duration / 2))" "$@"
}

report_rejoins() {
    echo 'The server that joined, from its start on'
    saved -joined | xargs "$loadgen" report
    echo 'The others'
    saved '[0-9]' | xargs "$loadgen" report --only longest,p99,before,during,after,ops,server,send
}

case_catch-up() {
    local kind
    # Enough for a DIFF from memory in both.
    for kind in "${kinds[@]}"; do
        start "$kind" "commitLogCount=$((missed * 4))"
        warm "$kind"
    done
    in_turns "$alternations" miss_writes
    stop_all
    report_rejoins
}

miss_writes() { # KIND TURN
    local n
    n=$(victim_of "$1")
    stop "$1" "$n"
    "$loadgen" fill --server "$(addresses "$1" "$n")" --root "/missed-$2" --znodes "$missed" --connections 1 --in-flight 64 --settle 0 >/dev/null
    rejoin "$1" "$2" "$n" --duration $((duration * 3))
}

case_snapshot() {
    local kind heap=2g
    for kind in "${kinds[@]}"; do
        start "$kind"
        warm "$kind"
        "$loadgen" fill --server "$(addresses "$kind")" --znodes "$znodes" --settle 0 >/dev/null
    done
    in_turns "$alternations" join_empty
    stop_all
    report_rejoins
}

join_empty() { # KIND TURN
    local n
    n=$(victim_of "$1")
    stop "$1" "$n"
    blank_data "$1" "$n"
    rejoin "$1" "$2" "$n" --duration $((duration * 6))
}

# What an open loop does to servers that cannot keep up; a figure that breaks a promise fails the case.
case_overload() {
    local kind
    for kind in "${kinds[@]}"; do
        start "$kind"
        warm "$kind"
        overload_of "$kind"
        stop_all
    done
}

figure() { "$loadgen" report --json "$1" | sed -n "/^ *\"$2\": {/,/\"unit\"/s/.*\"median\": \([0-9.]*\).*/\1/p" | head -n 1; } # FILE NAME

epoch_of() { # KIND N: of the last transaction it has
    local answer
    answer=$({ exec 3<>"/dev/tcp/127.0.0.1/${port[$1-$2]}" && printf srvr >&3 && timeout 5 cat <&3; } 2>/dev/null) || return 1
    [[ $answer =~ Zxid:\ 0x([0-9a-f]+) ]] && echo $((16#${BASH_REMATCH[1]} >> 32))
}

overload_of() { # KIND
    local kind=$1 leader epoch most bystanders peak broken=()
    run "$results/$kind-closed.json" --server "$(addresses "$kind")" --label "$kind" --mix set=70,get=20,create=5,delete=5 --connections 64 --in-flight 16 \
        --duration 5
    most=$(figure "$results/$kind-closed.json" throughput)
    leader=$(leader_of "$kind")
    epoch=$(epoch_of "$kind" "$leader")
    echo "$kind: ${most%.*} requests a second are all there is; twice as many for $overload s"
    # Sessions that do nothing but ping, and have to live through it.
    "$loadgen" idle --server "$(addresses "$kind")" --sessions 300 --quiet "$overload" --storms 0 --session-timeout 10 >"$results/$kind-idle.txt" 2>&1 &
    bystanders=$!
    workload "$results/$kind-overload.json" overload "$(target "$kind")" --duration "$overload" --set "rate=$((2 * ${most%.*}))"
    # Recovery: what a client that comes now sees.
    run "$results/$kind-after.json" --server "$(addresses "$kind")" --pid "$(pids "$kind")" --label "$kind" --mix set --connections 8 --rate 200 --warmup 0 --duration 5
    wait "$bystanders" || broken+=("a session that kept pinging was lost: $(tail -n 1 "$results/$kind-idle.txt")")
    peak=$(figure "$results/$kind-overload.json" 'server peak RSS')
    [[ $(leader_of "$kind") == "$leader" && $(epoch_of "$kind" "$leader") == "$epoch" ]] || broken+=("there was an election")
    ((${peak%.*} <= memory)) || broken+=("all servers together took $peak MiB, more than $memory")
    grep -q '"sessions lost"' "$results/$kind-overload.json" && broken+=("sessions of the load were lost")
    "$loadgen" report --only throughput,p50,p99,max,server,send,moves "$results/$kind-overload.json"
    echo 'Afterwards'
    "$loadgen" report --only throughput,p50,p99,max "$results/$kind-after.json"
    ((${#broken[@]} == 0)) || { printf 'BROKEN: %s\n' "${broken[@]}" >&2; exit 1; }
    echo "$kind: no election, no session lost, every acknowledged create there, $peak MiB at most"
}

case_delay() {
    local kind
    for kind in "${kinds[@]}"; do
        start_behind_proxies "$kind"
        warm "$kind"
    done
    in_turns "$alternations" delay_follower
    stop_all
    for kind in "${kinds[@]}"; do
        echo "Proof of the delay, a client of the far server itself: p50 of $(far_p50 "$kind") ms"
        ls -v "$results/$kind-"*-delayed.json "$results/$kind-"*-plain.json | xargs "$loadgen" report --only throughput,p50,p99,send
    done
}

far_p50() { # KIND
    "$loadgen" report --only p50 "$results/$1-1-far.json" | awk '$1 == "p50" { printf "%.0f", $3 / 1000 }'
}

# Every server sees each of the others through links of its own, FROM-TO, so that those of one server alone can be made slow.
start_behind_proxies() { # KIND
    local kind=$1 n other links=() quorum=() election=() fd
    local -A through=()
    write_cfgs "$kind"
    for ((n = 1; n <= servers; n++)); do
        IFS=: read -r _ quorum[n] election[n] < <(grep "^server.$n=" "$dir/$kind-$n/zoo.cfg")
    done
    for ((n = 1; n <= servers; n++)); do
        for ((other = 1; other <= servers; other++)); do
            if ((n == other)); then continue; fi
            through[$n-$other]=$(free_port):$(free_port)
            links+=(--link "$n-$other=127.0.0.1:${through[$n-$other]%:*}=127.0.0.1:${quorum[other]}")
            links+=(--link "$n-$other=127.0.0.1:${through[$n-$other]#*:}=127.0.0.1:${election[other]}")
        done
        write_cfg_file "$dir/$kind-$n" "${port[$kind-$n]}" "$(server_lines "$kind" "$n")"
    done
    rm -f "$dir/$kind-proxy"
    mkfifo "$dir/$kind-proxy"
    "$loadgen" proxy "${links[@]}" <"$dir/$kind-proxy" &
    echo $! >"$dir/$kind-proxy.pid"
    disown
    exec {fd}>"$dir/$kind-proxy"
    proxy_of[$kind]=$fd
    for ((n = 1; n <= servers; n++)); do launch "$kind" "$n"; done
    await_all "$kind"
}

delay_follower() { # KIND TURN
    local n order=(plain delayed) how
    n=$(victim_of "$1")
    ((($2 + 1) / 2 % 2)) || order=(delayed plain)
    for how in "${order[@]}"; do
        set_delay "$1" "$n" $([[ $how == delayed ]] && echo 50 || echo 0)
        run "$results/$1-$2-$how.json" --server "$(addresses "$1" "$n")" --label "$1 $how" --mix set --connections 8 --keep --rate "$rate" --duration "$duration"
        if [[ $how == delayed ]]; then
            run "$results/$1-$2-far.json" --server "127.0.0.1:${port[$1-$n]}" --label "$1 far" --mix set --connections 1 --keep --warmup 0 --duration 2
        fi
    done
    set_delay "$1" "$n" 0
}

set_delay() { # KIND N MS: of all links from and to server N
    local other
    for ((other = 1; other <= servers; other++)); do
        if ((other == $2)); then continue; fi
        printf 'delay %s %s\ndelay %s %s\n' "$2-$other" "$3" "$other-$2" "$3" >&"${proxy_of[$1]}"
    done
}

prepare
for case in "${cases[@]}"; do
    declare -F "case_$case" >/dev/null || { echo "unknown case $case" >&2; usage >&2; exit 2; }
    title "$case"
    results=$dir/results-$case
    rm -rf "$results"
    mkdir -p "$results"
    "case_$case"
done
