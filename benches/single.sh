# Single servers, each started from scratch on a free port: zoo, Apache ZooKeeper (java), etcd, and a bare glommio echo. To be sourced after servers.sh, by scripts that
# set `dir`. Processes are stopped by the ids they were started with.

declare -A pid=() port=()
starting=

stop() { # NAME
    local id=${pid[$1]-}
    # Without its 0 a return in a trap passes on what the script ends with, and ends the trap.
    if [[ -z $id ]]; then return 0; fi
    kill -TERM "$id" 2>/dev/null || true
    await_end "$id"
    unset "pid[$1]"
}
stop_all() { for name in "${!pid[@]}"; do stop "$name"; done; }
interrupted() {
    # One that was just being started is known by its file alone.
    [[ -n $starting && -f $dir/$starting/pid ]] && pid[$starting]=$(<"$dir/$starting/pid")
    stop_all
}
trap interrupted EXIT

write_cfg() { # NAME [LINE]...
    local name=$1
    shift
    port[$name]=${port[$name]-$(free_port)}
    write_cfg_file "$dir/$name" "${port[$name]}" "$@"
}

start() { # NAME: starts it with its zoo.cfg, waits for its first answer and prints how long that took
    local name=$1 command
    case $name in
        java) command=(java "-Xmx${heap:-2g}" -cp "$(classpath)" org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/java/zoo.cfg") ;;
        zoo) command=("$zoo" server "$dir/zoo/zoo.cfg") ;;
    esac
    rm -f "$dir/$name/pid"
    starting=$name
    "$loadgen" start --server "127.0.0.1:${port[$name]}" --log "$dir/$name/out.log" --pid-file "$dir/$name/pid" -- "${command[@]}" ||
        { tail "$dir/$name/out.log" >&2; exit 1; }
    pid[$name]=$(<"$dir/$name/pid")
    starting=
}

fresh() { # NAME [LINE]...: an empty server
    stop "$1"
    rm -rf "${dir:?}/$1"
    write_cfg "$@"
    start "$1" >/dev/null
}

at() { echo "127.0.0.1:${port[$1]},${pid[$1]},$1"; }

start_echo() { # [VALUE_SIZE]
    port[echo]=$(free_port)
    mkdir -p "$dir/echo"
    starting=echo
    "$loadgen" start --server "127.0.0.1:${port[echo]}" --pid-file "$dir/echo/pid" -- "$(floor echo)" --listen "127.0.0.1:${port[echo]}" \
        --value-size "${1:-100}" >/dev/null
    pid[echo]=$(<"$dir/echo/pid")
    starting=
}

start_etcd() { # a single member; every write of its log is flushed, as it is by default
    local peers deadline=$((SECONDS + 60))
    port[etcd]=$(free_port) peers=$(free_port)
    rm -rf "${dir:?}/etcd"
    mkdir -p "$dir/etcd"
    etcd --data-dir "$dir/etcd/data" --listen-client-urls "http://127.0.0.1:${port[etcd]}" --advertise-client-urls "http://127.0.0.1:${port[etcd]}" \
        --listen-peer-urls "http://127.0.0.1:$peers" --initial-advertise-peer-urls "http://127.0.0.1:$peers" --initial-cluster "default=http://127.0.0.1:$peers" \
        --log-level error --quota-backend-bytes 8000000000 >"$dir/etcd/out.log" 2>&1 &
    pid[etcd]=$!
    until { exec 3<>"/dev/tcp/127.0.0.1/${port[etcd]}"; } 2>/dev/null; do
        if ((SECONDS > deadline)) || ! kill -0 "${pid[etcd]}" 2>/dev/null; then
            echo "etcd does not serve:" >&2
            tail "$dir/etcd/out.log" >&2
            return 1
        fi
        sleep 0.1
    done
    exec 3>&-
}

# Many znodes, and what they weigh.
fill() { # NAME [ARGS]...
    local name=$1 collect=()
    shift
    [[ $name == java ]] && collect=(--settle-run "jcmd ${pid[java]} GC.run")
    "$loadgen" fill --server "127.0.0.1:${port[$name]}" --pid "${pid[$name]}" --label "$name" --znodes "$znodes" "${collect[@]}" "${conditions[@]}" "$@"
}
