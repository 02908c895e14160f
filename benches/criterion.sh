#!/usr/bin/env bash
# The criterion suite beside a baseline of this machine: `record` keeps one, `compare` measures again and fails when something is slower.
set -euo pipefail
cd "$(dirname "$0")/.."

SUITE=(codec handoff pipeline tree tree_store)

usage() {
    cat <<USAGE
Usage: benches/criterion.sh record|compare [--name NAME] [--home DIR] [BENCH...] [-- OPTIONS OF CRITERION]

  record       measure, and keep the figures as the baseline NAME of this machine
  compare      measure, and tell what has changed since; exit status 1 when criterion is sure that something is slower
  --name NAME  the baseline (default: main)
  --home DIR   where baselines are kept (default: \$ZOO_BASELINES, or ~/.cache/zoo-benches), a directory for each kind of machine
  BENCH        of ${SUITE[*]} (default: all)

Sizes: ZOO_BENCH_ZNODES (default 1000000). A busy machine makes other figures: record and compare on a quiet one.
USAGE
}

command=${1:-}
case $command in
    record) option=--save-baseline ;;
    compare) option=--baseline ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
shift
name=main home=${ZOO_BASELINES:-$HOME/.cache/zoo-benches} benches=() more=()
while (($#)); do
    case $1 in
        --name) name=$2; shift 2 ;;
        --home) home=$2; shift 2 ;;
        --) shift; more=("$@"); break ;;
        -*) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
        *) benches+=("$1"); shift ;;
    esac
done
((${#benches[@]})) || benches=("${SUITE[@]}")

# Figures of one processor say nothing about another.
machine=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1 | tr -cs 'A-Za-z0-9\n' '-' | sed 's/-*$//')
export CRITERION_HOME=$home/${machine:-$(uname -m)}-$(nproc)
mkdir -p "$CRITERION_HOME"
slower=$(mktemp)
trap 'rm -f "$slower"' EXIT
for bench in "${benches[@]}"; do
    [[ " ${SUITE[*]} " == *" $bench "* ]] || { echo "no such bench: $bench (of ${SUITE[*]})" >&2; exit 2; }
    cargo bench --bench "$bench" -- "$option" "$name" "${more[@]}" | tee /dev/stderr |
        awk '/time:/ { if ($1 != "time:") { name = $0; sub(/ *time:.*/, "", name) } } !/time:/ && /^[^ ]/ { name = $0 }
             /Performance has regressed/ { print name }' >>"$slower"
done
if [[ $command == record ]]; then
    echo "recorded as $name in $CRITERION_HOME"
elif [[ -s $slower ]]; then
    echo "slower than $name:"
    sed 's/^/  /' "$slower"
    exit 1
else
    echo "nothing is slower than $name"
fi
