#!/usr/bin/env bash
# kazoo's own test-suite against servers of one, two and four shards at the same time: most of it is waiting.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
shards=(1 2 4) runs=() result=0
for i in "${!shards[@]}"; do
    # Ranges of ports that do not touch.
    SERVER_JVMFLAGS=-Dzoo.shards=${shards[i]} ZOOKEEPER_PORT_OFFSET=$((21000 + i * 2600 + RANDOM % 2000)) bash "$here/run.sh" >"$logs/$i" 2>&1 &
    runs+=($!)
done
for i in "${!shards[@]}"; do
    wait "${runs[i]}"
    status=$?
    echo "kazoo, ${shards[i]} shards: status $status"
    tail -n 40 "$logs/$i"
    case $status in 0) ;; 77) [ $result = 1 ] || result=77 ;; *) result=1 ;; esac
done
exit $result
