#!/usr/bin/env bash
# The C client of Debian's libzookeeper-mt-dev, and its shell cli_mt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -e /usr/include/zookeeper/zookeeper.h ] || { echo "no zookeeper.h (Debian package libzookeeper-mt-dev)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -DTHREADED -Wall -Wextra -O1 -o "$work/check" "$here/check.c" -lzookeeper_mt -lpthread
timeout 300 "$work/check"
cli=/usr/lib/zookeeper/bin/cli_mt
[ -x "$cli" ] || { echo "no $cli (Debian package zookeeper-bin)"; exit 77; }
timeout 120 python3 "$here/cli.py" "$cli"
