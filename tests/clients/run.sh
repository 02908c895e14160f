#!/usr/bin/env bash
# Every real client against one kind of server: tests/clients/run.sh java|zoo [NAME…]
# Prints PASS, FAIL or SKIP for each; exits with 1 when one failed, with 77 when none failed and one was skipped.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kind=$1
shift
[ $# -gt 0 ] || set -- zkcli shell c node rust curator kazoo
export ZOO_SERVER_KIND=$kind
result=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for name in "$@"; do
    started=$SECONDS
    case $name in
        # These start their servers themselves.
        kazoo | curator) bash "$here/$name/run.sh" >"$log" 2>&1 ;;
        *) bash "$here/with_server.sh" "$kind" extendedTypesEnabled=true -- bash "$here/$name/run.sh" >"$log" 2>&1 ;;
    esac
    case $? in
        0) echo "PASS client $name ($((SECONDS - started)) s)" ;;
        77) echo "SKIP client $name: $(tail -n 1 "$log")"; [ $result = 1 ] || result=77 ;;
        *) cat "$log"; echo "FAIL client $name ($((SECONDS - started)) s)"; result=1 ;;
    esac
done
exit $result
