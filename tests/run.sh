#!/usr/bin/env bash
# The one test command: tests/run.sh [--layer NAME]… [--budget MINUTES]
#
# Layers, in this order (all by default):
#   unit          unit, property, golden, tidy and (small) fuzz tests of the whole workspace
#   sim           whole ensembles in simulation, and the bugs planted for it to find
#   plain         the tree's tests on the naive store
#   loom          every interleaving of the lock-free parts
#   process       real server processes: sockets, disks, signals, kill -9
#   clients       every real client, unchanged
#   differential  the same requests to ours and to the reference server, answers compared
#   handover      data directories from one to the other and back
#   mixed         ensembles of our servers and reference servers
#
# It installs what it needs (apt-get when it may, Python and node packages below .cache/). A client or a reference server that cannot be had is
# skipped loudly and counted. The last line is `N passed, N failed, N skipped`; the exit status is 1 when something failed.
# The budget, 25 minutes by default, scales the randomised parts; a layer that hangs is killed at a multiple of its share.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
budget=25
layers=()
while [ $# -gt 0 ]; do
    case $1 in
        --layer) layers+=("$2"); shift 2 ;;
        --budget) budget=$2; shift 2 ;;
        *) sed -n '2,17p' "${BASH_SOURCE[0]}"; exit 2 ;;
    esac
done
[ ${#layers[@]} -gt 0 ] || layers=(unit sim plain loom process clients differential handover mixed)
case $budget in '' | *[!0-9]* | 0) echo "--budget wants minutes, not '$budget'"; exit 2 ;; esac

export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 RUST_BACKTRACE=1
export ZOO_BIN=$root/target/release/zoo
logs=$root/.cache/logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0

say() { printf '%s\n' "$*"; }
pass() { passed=$((passed + 1)); say "PASS $*"; }
fail() { failed=$((failed + 1)); say "FAIL $*"; }
skip() { skipped=$((skipped + 1)); say "SKIPPED $*"; }

# Seconds a layer should take with the default budget on two cores, builds included; it is killed at three times as much.
share() {
    case $1 in
        unit) echo 360 ;; sim) echo 300 ;; plain) echo 120 ;; loom) echo 180 ;; process) echo 120 ;;
        clients) echo 480 ;; differential) echo 150 ;; handover) echo 150 ;; mixed) echo 480 ;; build) echo 300 ;;
    esac
}

# A number that grows with the budget.
scaled() { echo $(($1 * budget / 25 > 0 ? $1 * budget / 25 : 1)); }

# part NAME SECONDS COMMAND…: runs it with a limit, shows its output only when it fails. Status 77 means skipped.
part() {
    local name=$1 limit=$2 started=$SECONDS log status
    shift 2
    log=$logs/${name//[^A-Za-z0-9]/-}.log
    timeout --kill-after=20 $((limit * 3)) "$@" >"$log" 2>&1 </dev/null
    status=$?
    local took="($((SECONDS - started)) s)"
    case $status in
        0) pass "$name $took" ;;
        77) skip "$name: $(tail -n 1 "$log")" ;;
        *)
            # All of it is in the log; the end of it is what one wants to see first.
            tail -n 400 "$log"
            [ $status = 124 ] && say "killed after $((limit * 3)) s"
            fail "$name $took"
            ;;
    esac
    if [ $((SECONDS - started)) -gt "$limit" ]; then say "note: $name took longer than its share of $limit s"; fi
    return $status
}

# said_skipped PART: a test that needs what this machine does not have says so in a line.
said_skipped() {
    local line
    while read -r line; do skip "${line#SKIPPED }"; done < <(grep '^SKIPPED ' "$logs/${1//[^A-Za-z0-9]/-}.log")
}

apt_updated=
# apt PACKAGE…: installs what is missing, if this machine lets us.
apt() {
    local missing=() package sudo=
    command -v apt-get >/dev/null || return 0
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || { say "note: may not install ${missing[*]}"; return 0; }
        sudo="sudo -n"
    fi
    if [ -z "$apt_updated" ]; then
        $sudo apt-get -qq update >"$logs/apt.log" 2>&1 || true
        apt_updated=1
    fi
    # One by one when not all of them can be had together.
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >>"$logs/apt.log" 2>&1 && return 0
    for package in "${missing[@]}"; do
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$package" >>"$logs/apt.log" 2>&1 ||
            say "note: cannot install $package"
    done
}

# The tests below tests/ by what they need; whatever is not named here is a unit test.
process_tests=(crash server_basic embed faults cluster histories reconfig recipes)
reference_tests=(differential handover mixed)
unit_tests() {
    local file name
    for file in tests/*.rs tests/*/main.rs; do
        [ -e "$file" ] || continue
        name=$(basename "${file%.rs}")
        [ "$name" = main ] && name=$(basename "$(dirname "$file")")
        case " ${process_tests[*]} ${reference_tests[*]} " in *" $name "*) continue ;; esac
        case $name in loom_*) continue ;; esac
        printf -- '--test\n%s\n' "$name"
    done
}

built=
release_binary() {
    [ -n "$built" ] && return 0
    part "build of the release binary" "$(share build)" cargo build --release --locked --bin zoo || return 1
    built=1
}

# 0 when the reference server can be started, loudly not otherwise.
oracle=
reference_server() {
    [ "$oracle" = yes ] && return 0
    [ "$oracle" = no ] && return 1
    apt default-jre-headless python3-pip
    if bash tests/oracle.sh classpath >/dev/null; then oracle=yes; return 0; fi
    oracle=no
    say "NO REFERENCE SERVER: nothing is compared with ZooKeeper 3.9.4 in this run"
    return 1
}

layer_unit() {
    local tests
    readarray -t tests < <(unit_tests)
    PROPTEST_CASES=$(scaled 64) part "unit tests of the library" "$(share unit)" cargo test --locked -p zoo --lib --bins
    PROPTEST_CASES=$(scaled 64) part "unit tests across modules" "$(share unit)" cargo test --locked -p zoo --no-fail-fast "${tests[@]}"
    part "examples in the documents" "$(share unit)" cargo test --locked -p zoo --doc
    part "other packages" "$(share unit)" cargo test --locked --no-fail-fast --workspace --exclude zoo
}

layer_sim() {
    local name="simulated ensembles and planted bugs"
    part "$name" "$(share sim)" cargo test --locked -p zoo --features planted-bugs --test sim -- --seeds "$(scaled 1000)" --hours "$(scaled 50)" \
        --members --planted
    grep -E '^([0-9]+ (seeds|violations|planted bugs)|faults: |reached: )' "$logs/${name// /-}.log"
}

layer_plain() {
    PROPTEST_CASES=$(scaled 64) part "tree tests on the naive store" "$(share plain)" cargo test --locked -p zoo --lib --features plain-store tree::
}

layer_loom() {
    local file found=
    for file in tests/loom_*.rs; do
        [ -e "$file" ] || continue
        found=1
        part "loom $(basename "${file%.rs}")" "$(share loom)" cargo test --locked -p zoo --test "$(basename "${file%.rs}")"
    done
    if grep -rqs '^fn loom_' src; then
        found=1
        # The flag changes every crate, hence a target directory of its own.
        part "loom in the library" "$(share loom)" env CARGO_TARGET_DIR="$root/.cache/loom" RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off \
            CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=false cargo test --locked -p zoo --release --lib loom_
    fi
    [ -n "$found" ] || skip "loom: there are no loom tests"
}

layer_process() {
    release_binary || return
    local name
    for name in "${process_tests[@]}"; do
        [ -e "tests/$name.rs" ] || [ -e "tests/$name/main.rs" ] || continue
        ZOO_CRASH_SECONDS=$(scaled 20) ZOO_HISTORY_SECONDS=$(scaled 15) part "process tests: $name" "$(share process)" cargo test --locked -p zoo --test "$name"
        said_skipped "process tests: $name"
    done
    # What does not vary the number of shards by itself.
    local shards
    for shards in 2 4; do
        ZOO_TEST_SHARDS=$shards part "process tests: faults, $shards shards" "$(share process)" cargo test --locked -p zoo --test faults -- damage:: disks:: hostile::
        said_skipped "process tests: faults, $shards shards"
    done
}

layer_clients() {
    release_binary || return
    apt default-jdk-headless zookeeper zookeeper-bin libzookeeper-mt-dev libcurator-client-java libcurator-framework-java libcurator-recipes-java \
        gcc libc6-dev python3 python3-venv python3-pip
    command -v npm >/dev/null || apt nodejs npm
    # Curator's newer version comes with the reference server.
    reference_server || true
    local name shards
    for name in zkcli shell c node rust curator; do
        part "client $name" "$(share clients)" bash tests/clients/run.sh zoo "$name"
    done
    # The same over several cores' connections.
    for shards in 2 4; do
        for name in zkcli c node rust curator; do
            SERVER_JVMFLAGS=-Dzoo.shards=$shards part "client $name, $shards shards" "$(share clients)" bash tests/clients/run.sh zoo "$name"
        done
    done
    part "client kazoo, 1, 2 and 4 shards" "$(share clients)" bash tests/clients/kazoo/shards.sh
    part "recipes shared with kazoo and Curator" "$(share clients)" cargo test --locked -p zoo --test recipes -- --ignored --nocapture
    said_skipped "recipes shared with kazoo and Curator"
}

layer_differential() {
    release_binary || return
    reference_server || { skip "differential tests: no reference server"; return; }
    ZOO_DIFF_STEPS=$(scaled 6000) part "the reference server answers like itself" "$(share differential)" \
        cargo test --locked -p zoo --test differential -- --ignored --nocapture java_answers_like_java
    ZOO_DIFF_STEPS=$(scaled 6000) part "ours answers like the reference server" "$(share differential)" \
        cargo test --locked -p zoo --test differential -- --ignored --nocapture zoo_
    ZOO_DIFF_STEPS=$(scaled 1500) part "an ensemble of ours answers like one of the reference server" "$(share differential)" \
        cargo test --locked -p zoo --test differential -- --ignored --nocapture --exact ensembles_answer_like_java_ensembles
    local shards
    for shards in 2 4; do
        ZOO_DIFF_STEPS=$(scaled 3000) SERVER_JVMFLAGS=-Dzoo.shards=$shards part "ours answers alike with $shards shards" "$(share differential)" \
            cargo test --locked -p zoo --test differential -- --ignored --nocapture zoo_answers
    done
}

layer_handover() {
    release_binary || return
    reference_server || { skip "hand-over of data directories: no reference server"; return; }
    part "hand-over of data directories" "$(share handover)" cargo test --locked -p zoo --test handover -- --ignored --nocapture --test-threads 2
}

layer_mixed() {
    release_binary || return
    reference_server || { skip "mixed ensembles: no reference server"; return; }
    part "mixed ensembles" "$(share mixed)" cargo test --locked -p zoo --test mixed -- --ignored --nocapture --test-threads 1
    said_skipped "mixed ensembles"
}

started=$SECONDS
for layer in "${layers[@]}"; do
    case $layer in
        unit | sim | plain | loom | process | clients | differential | handover | mixed) ;;
        *) fail "there is no layer '$layer'"; continue ;;
    esac
    say "== $layer"
    layer_started=$SECONDS failed_before=$failed
    "layer_$layer"
    if [ "$failed" = "$failed_before" ]; then verdict=PASS; else verdict=FAIL; fi
    say "== $layer: $verdict in $((SECONDS - layer_started)) s"
done
say "all layers: $((SECONDS - started)) s"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
