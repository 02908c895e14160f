#!/usr/bin/env bash
# What of this host matters to the server: zoo server --check, by the name it once had. tuning/check_host.sh [--measure] [FILE or SETTING]...
# ZOO names the binary (default: zoo on the path, else target/release/zoo).
set -eu
options=(--check)
if [ "${1-}" = --measure ]; then
    options+=(--measure)
    shift
fi
exec "${ZOO:-$(command -v zoo || echo "$(dirname "$0")/../target/release/zoo")}" server "${options[@]}" "$@"
