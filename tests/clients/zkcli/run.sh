#!/usr/bin/env bash
# ZooKeeper's own shell, Debian's package: one scripted session, compared with what it prints against the reference server.
# `run.sh --record` writes the expectation anew.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cli=/usr/share/zookeeper/bin/zkCli.sh
[ -x "$cli" ] || { echo "no $cli (Debian package zookeeper)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cli" -waitforconnection -server "$ZOO_ADDR" <"$here/session.txt" >"$work/out" 2>"$work/err" || true
# Events arrive when they arrive: they are listed after everything else. Times are masked, banners dropped, lists that have no order
# sorted.
sed -E -e 's/^([cm]time) = .*/\1 = TIME/' -e 's/sessionid:0x[0-9a-f]+/sessionid:ID/' -e 's/ephemeralOwner = 0x[0-9a-f]{4,}/ephemeralOwner = ID/' \
    -e '/^(Connecting to|Welcome to|JLine support|SLF4J|WATCHER::|$)/d' "$work/out" |
    python3 -c '
import itertools, sys
for kind, lines in itertools.groupby(sys.stdin.read().splitlines(), lambda l: l[:1]):
    lines = list(lines)
    if kind == "[":
        lines = ["[" + ", ".join(sorted(l.strip("[]").split(", "))) + "]" for l in lines]
    print("\n".join(sorted(lines) if kind == "/" else lines))' >"$work/lines"
{
    grep -v '^WatchedEvent' "$work/lines" || true
    echo "---- events"
    grep '^WatchedEvent' "$work/lines" || true
    echo "---- errors"
    grep -vE '^(SLF4J|Exiting JVM|$)' "$work/err" || true
} >"$work/got"
if [ "${1:-}" = --record ]; then
    cp "$work/got" "$here/expected.txt"
else
    diff -u "$here/expected.txt" "$work/got"
fi
