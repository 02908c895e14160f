#!/usr/bin/env bash
# The reference server that every comparison is made against: Apache ZooKeeper 3.9.4, from the jars inside PyPI's pyspark 4.1.4.
#
#   tests/oracle.sh classpath               fetch the jars if needed, print the class path; exit 3 when they cannot be had
#   tests/oracle.sh start PORT DIR [K=V…]   start a server on 127.0.0.1:PORT with its data in DIR/data; prints its pid when it
#                                           serves. K=V lines go to its zoo.cfg, -DNAME=VALUE arguments to the JVM.
#   tests/oracle.sh stop DIR [SIGNAL]       stop it (TERM unless told otherwise) and wait until it is gone
#
# Only the jars that the server and Curator need are kept, in .cache/oracle/jars.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
jars=$root/.cache/oracle/jars
sdist=pyspark-4.1.4
sdist_sha256=bcbd5e18690cf79d438e97210ad06fb8d451a251bb77becc2b0418868d2acd73
wanted='/jars/((zookeeper|zookeeper-jute|curator-[a-z]+|commons-io|commons-cli|metrics-core|snappy-java|slf4j-api|log4j-api|log4j-core|log4j-slf4j2-impl|guava|failureaccess)-[0-9.]+(-jre)?|netty-(buffer|codec|codec-base|common|handler|resolver|transport|transport-native-unix-common|transport-classes-epoll)-[0-9A-Za-z.]+)\.jar$'

die() { echo "oracle: $*" >&2; exit "${code:-1}"; }

java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'; }

fetch() {
    [ -e "$jars/.complete" ] && return
    local work=$root/.cache/oracle/download
    rm -rf "$work" && mkdir -p "$work/tmp" "$jars"
    local archive=${ZOO_ORACLE_SDIST:-}
    if [ -z "$archive" ]; then
        echo "oracle: fetching $sdist (455 MB, once; only its jars are kept)" >&2
        printf '%s --hash=sha256:%s\n' "${sdist/-/==}" "$sdist_sha256" >"$work/requirements.txt"
        # pip asks the archive for its metadata before it hands it over, so it unpacks it below TMPDIR; it compiles nothing.
        local attempt
        for attempt in 1 2 3; do
            TMPDIR=$work/tmp python3 -m pip download --quiet --no-deps --no-cache-dir --require-hashes --dest "$work" \
                -r "$work/requirements.txt" >&2 && break
            [ "$attempt" = 3 ] && { rm -rf "$work"; code=3 die "cannot download $sdist"; }
        done
        archive=$work/$sdist.tar.gz
    fi
    echo "$sdist_sha256  $archive" | sha256sum --check --quiet >&2 || code=3 die "$archive is not $sdist"
    tar -tzf "$archive" | grep -E "$wanted" >"$work/members"
    tar -xzf "$archive" -C "$jars" --strip-components=3 -T "$work/members"
    rm -rf "$work"
    [ -e "$jars/zookeeper-3.9.4.jar" ] || code=3 die "no zookeeper-3.9.4.jar in $sdist"
    cat >"$jars/log4j2.properties" <<'LOG'
status = error
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p [%t] %c{1} - %m%n
LOG
    touch "$jars/.complete"
}

classpath() {
    command -v java >/dev/null || code=3 die "no java"
    [ "$(java_major)" -ge 11 ] || code=3 die "java $(java_major) is too old"
    fetch
    echo "$jars:$jars/*"
}

# Answers to a four-letter word; empty when nobody listens.
word() { { exec 3<>"/dev/tcp/127.0.0.1/$1" && printf %s "$2" >&3 && timeout 1 cat <&3; } 2>/dev/null || true; }

start() {
    local port=$1 dir=$2 cp
    shift 2
    cp=$(classpath)
    mkdir -p "$dir/data"
    local defines=() line
    {
        echo "dataDir=$dir/data"
        echo "clientPort=$port"
        echo "clientPortAddress=127.0.0.1"
        echo "tickTime=1000"
        echo "4lw.commands.whitelist=*"
        for line in "$@"; do
            case $line in -D*) ;; *) echo "$line" ;; esac
        done
    } >"$dir/zoo.cfg"
    for line in "$@"; do
        case $line in -D*) defines+=("$line") ;; esac
    done
    java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$cp" -Dzookeeper.admin.enableServer=false -Dzookeeper.4lw.commands.whitelist='*' \
        "${defines[@]}" org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/zoo.cfg" >>"$dir/server.log" 2>&1 </dev/null &
    local pid=$! i
    echo "$pid" >"$dir/pid"
    disown
    for i in $(seq 600); do
        case $(word "$port" srvr) in *Mode:*) echo "$pid"; return ;; esac
        kill -0 "$pid" 2>/dev/null || { tail -n 30 "$dir/server.log" >&2; die "the server ended while starting"; }
        sleep 0.1
    done
    kill -9 "$pid"
    die "the server did not serve within 60 s"
}

stop() {
    local pid i
    pid=$(cat "$1/pid")
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    for i in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || { rm -f "$1/pid"; return; }
        sleep 0.1
    done
    kill -9 "$pid"
    die "pid $pid did not stop within 30 s"
}

case ${1:-} in
    classpath) classpath ;;
    start) shift; start "$@" ;;
    stop) shift; stop "$@" ;;
    *) sed -n '2,11p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
