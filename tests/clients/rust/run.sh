#!/usr/bin/env bash
# The zookeeper-client crate.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
export CARGO_TARGET_DIR=$root/.cache/clients-rust
nice cargo build --quiet --locked --manifest-path "$here/Cargo.toml"
timeout 300 "$CARGO_TARGET_DIR/debug/zookeeper-client-check"
