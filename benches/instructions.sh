#!/usr/bin/env bash
# Counts the instructions that requests cost the server's own code, beside what was recorded: times are of no use where others work on the same
# machine, instructions are the same every time. A count that has grown by more than the tolerance fails.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
Usage: benches/instructions.sh [--record] [--tolerance PERCENT]

  --record             write what is counted into the baseline of this kind of machine, benches/baseline/instructions-ARCHITECTURE.txt
  --tolerance PERCENT  what a count may be above its baseline (default: 2)

Needs valgrind. Counted is what benches/pipeline.rs does between the bytes of requests and those of replies, without what is the kernel's:
shard, replica, tree, framing of the log. Another compiler makes other code: the baseline names its own.
USAGE
}

record=no tolerance=2
while (($#)); do
    case $1 in
        --record) record=yes; shift ;;
        --tolerance) tolerance=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
done
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }

baseline=benches/baseline/instructions-$(uname -m).txt
compiler=$(rustc --version)
program=$(cargo bench --no-run --bench pipeline 2>&1 | sed -n 's/.*(\(.*pipeline-[0-9a-f]*\)).*/\1/p')
[[ -x $program ]] || { echo "benches/pipeline.rs cannot be built: cargo bench --no-run --bench pipeline" >&2; exit 1; }
if [[ -r $baseline ]] && ! grep -qxF "# $compiler" "$baseline"; then
    echo "the baseline is that of another compiler: $(head -n 1 "$baseline"), this is $compiler"
fi

# Instructions per request of a kind.
counted() { # KIND
    local requests log
    log=$(mktemp)
    if ! requests=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='pipeline::counted*' \
        "$program" --count "$1" 2>"$log"); then
        cat "$log" >&2
        exit 1
    fi
    awk -v requests="$requests" '/Collected/ { printf "%d\n", $4 / requests }' "$log"
    rm "$log"
}

failed=no
lines=("# $compiler")
while read -r kind; do
    now=$(counted "$kind")
    [[ -n $now && $now -gt 0 ]] || { echo "nothing was counted of $kind" >&2; exit 1; }
    lines+=("$now $kind")
    before=$(awk -v kind="$kind" '{ count = $1; $1 = ""; if (substr($0, 2) == kind) print count }' "$baseline" 2>/dev/null || true)
    if [[ -z $before ]]; then
        printf '%-24s %8d instructions a request, no baseline\n' "$kind" "$now"
        continue
    fi
    verdict=$(awk -v now="$now" -v before="$before" -v tolerance="$tolerance" 'BEGIN {
        change = 100 * (now / before - 1)
        printf "%+.1f %%%s", change, change > tolerance ? " WORSE" : "" }')
    printf '%-24s %8d instructions a request, %8d before: %s\n' "$kind" "$now" "$before" "$verdict"
    if [[ $verdict == *WORSE ]]; then failed=yes; fi
done < <("$program" --count)
if [[ $record == yes ]]; then
    mkdir -p "$(dirname "$baseline")"
    printf '%s\n' "${lines[@]}" >"$baseline"
    echo "recorded in $baseline"
elif [[ $failed == yes ]]; then
    exit 1
fi
