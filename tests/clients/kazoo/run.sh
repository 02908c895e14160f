#!/usr/bin/env bash
# kazoo's own test-suite against single servers that it starts and stops itself (ours through the `java` beside this file).
# SASL tests skip themselves (no JAAS configuration), the gevent and eventlet ones too (not installed: other loops, same wire).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=$root/.cache/kazoo
mkdir -p "$root/.cache"
# Several of these may run at a time: one installs, the others wait for it.
exec 9>"$venv.lock"
flock 9
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    # Without dependencies: pyjks wants twofish, which is only needed for a kind of store nobody writes here and has to be compiled.
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --no-deps --no-binary kazoo -r "$here/requirements.txt"; }; then
        rm -rf "$venv"
        echo "kazoo cannot be installed"
        exit 77
    fi
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
exec 9>&-
suite=$("$venv/bin/python" -c 'import os, kazoo.tests; print(os.path.dirname(kazoo.tests.__file__))')
deselect=()
while read -r name; do
    case $name in '' | '#'*) ;; *) deselect+=(--deselect "$name") ;; esac
done <"$here/deselected.txt"
if [ "${ZOO_SERVER_KIND:-zoo}" = java ]; then
    ZOOKEEPER_CLASSPATH=$(bash "$root/tests/oracle.sh" classpath)
    export ZOOKEEPER_CLASSPATH
else
    export ZOOKEEPER_CLASSPATH=unused PATH=$here:$PATH
fi
export ZOOKEEPER_VERSION=3.9.4 ZOOKEEPER_CLUSTER_SIZE=${ZOOKEEPER_CLUSTER_SIZE:-1} ZOOKEEPER_PORT_OFFSET=${ZOOKEEPER_PORT_OFFSET:-$((21000 + RANDOM % 8000))}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# A test that fails is run once more by itself: many of kazoo's wait a fixed few seconds, which a busy machine exceeds.
pytest=("$venv/bin/python" -m pytest -q --timeout 120 --tb=short -o cache_dir="$work/cache" -W ignore)
status=0
timeout "${KAZOO_MAX:-900}" "${pytest[@]}" --rootdir "$suite" "${deselect[@]}" "$suite" "$@" >first.log 2>&1 || status=$?
tail -n 12 first.log
if [ "$status" = 1 ]; then
    echo "once more, by themselves:"
    status=0
    timeout 600 "${pytest[@]}" --rootdir "$suite" --last-failed --last-failed-no-failures none "${deselect[@]}" "$suite" >again.log 2>&1 || status=$?
    [ "$status" = 0 ] || cat first.log
    tail -n 60 again.log
fi
exit $status
