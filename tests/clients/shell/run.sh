#!/usr/bin/env bash
# `zoo cli` against ZooKeeper's own shell, on the same server: the same scripts and single commands have to print the same, apart from times, ids and
# what docs/cli.md names. The Java side is that of the reference server (3.9.4).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tests=$(dirname "$(dirname "$here")")
zoo=${ZOO_BIN:-$(dirname "$tests")/target/release/zoo}
classpath=$(bash "$tests/oracle.sh" classpath) || { echo "no Java shell of ZooKeeper 3.9.4"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

java_shell() { java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$classpath" org.apache.zookeeper.ZooKeeperMain "$@"; }
zoo_shell() { "$zoo" cli "$@"; }

# What the scripts leave behind.
clean() {
    printf 'delete /secret\ndeleteall /a\ndeleteall /n\nquit\n' | zoo_shell -server "$ZOO_ADDR" >/dev/null 2>&1 || true
}

masked() {
    sed -E -e 's/^([cm]time) = .*/\1 = TIME/' -e 's/^([cmp]Zxid) = .*/\1 = ZXID/' -e 's/ zxid: -?[0-9]+$//' \
        -e 's/ephemeralOwner = 0x[0-9a-f]{4,}/ephemeralOwner = ID/' -e 's/^org\.apache\.commons\.cli\.[A-Za-z]+: //' \
        -e '/^(Connecting to|Welcome to|JLine support|WATCHER::|SLF4J|zoo cli|ZooKeeper -server|\t|$)/d' -e '/^[0-9]{4}-[0-9]{2}-[0-9]{2}T/d' "$1"
}

# Results, events (which come when they come) and remarks, each by themselves.
ordered() {
    masked "$1.out" >"$1.masked"
    grep -v '^WatchedEvent' "$1.masked" || true
    echo "---- events"
    grep '^WatchedEvent' "$1.masked" || true
    echo "---- remarks"
    masked "$1.err"
}

script() {
    local side
    for side in java zoo; do
        clean
        "${side}_shell" -waitforconnection -server "$ZOO_ADDR" <"$1" >"$work/$side.out" 2>"$work/$side.err" || true
        ordered "$work/$side" >"$work/$side.all"
    done
    diff -u --label "Java, $(basename "$1")" --label "ours, $(basename "$1")" "$work/java.all" "$work/zoo.all"
}

single() {
    local side
    for side in java zoo; do
        [ "$1" != create ] || clean
        local status=0
        "${side}_shell" -server "$ZOO_ADDR" "$@" >"$work/$side.out" 2>"$work/$side.err" </dev/null || status=$?
        # Nobody is there to be told of events.
        { ordered "$work/$side" | grep -v '^WatchedEvent'; echo "exit $status"; } >"$work/$side.all"
    done
    diff -u --label "Java, $*" --label "ours, $*" "$work/java.all" "$work/zoo.all"
}

result=0
script "$tests/clients/zkcli/session.txt" || result=1
script "$here/more.txt" || result=1
clean
single create /n one || result=1
single get -s /n || result=1
single get /none || result=1
single nonsense || result=1
single ls || result=1
exit $result
