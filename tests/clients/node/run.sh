#!/usr/bin/env bash
# node-zookeeper-client, as npm has it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
command -v npm >/dev/null || { echo "no npm"; exit 77; }
export NODE_CLIENT_DIR=$root/.cache/node
if ! cmp -s "$here/package-lock.json" "$NODE_CLIENT_DIR/package-lock.json" || [ ! -d "$NODE_CLIENT_DIR/node_modules" ]; then
    mkdir -p "$NODE_CLIENT_DIR"
    cp "$here/package.json" "$here/package-lock.json" "$NODE_CLIENT_DIR"
    (cd "$NODE_CLIENT_DIR" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) || { rm -rf "$NODE_CLIENT_DIR"; echo "npm cannot install node-zookeeper-client"; exit 77; }
fi
timeout 240 node "$here/check.js"
