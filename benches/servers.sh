# What the scripts that measure servers share: options, ports, the reference server's jars and zoo.cfg. To be sourced.

only='' zoo=target/release/zoo build=yes alternations=5 duration=10 cases=()
loadgen=target/release/loadgen

# Takes an option that all scripts have, or a case. `shifts` says how many words that were.
common_option() { # WORD [VALUE]
    shifts=2
    case $1 in
        --only) only=$2 ;;
        --zoo) zoo=$2 ;;
        --loadgen) loadgen=$2 ;;
        --dir) dir=$2 ;;
        --alternations) alternations=$2 ;;
        --duration) duration=$2 ;;
        --no-build) build=no; shifts=1 ;;
        -h | --help) usage; exit 0 ;;
        -*) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
        *) cases+=("$1"); shifts=1 ;;
    esac
}

# Builds what is measured, unless it is to be taken as it is, and says what that is.
prepare() {
    local what=("$loadgen")
    [[ $only == java ]] || what+=("$zoo")
    [[ $only == zoo ]] || command -v java >/dev/null || { echo "java is not installed; --only zoo measures zoo alone" >&2; exit 1; }
    [[ $build == no ]] || cargo build -q --release -p zoo -p loadgen
    ls "${what[@]}" >/dev/null || { echo "missing: cargo build --release -p zoo -p loadgen" >&2; exit 1; }
    mkdir -p "$dir"
    [[ -w $dir ]] || { echo "$dir cannot be written" >&2; exit 1; }
    [[ $only == java ]] || "$zoo" --version
    date -u '+%Y-%m-%d %H:%M UTC'
}

# Which servers --only leaves, into `kinds`.
choose_kinds() {
    case $only in
        '') kinds=(zoo java) ;;
        java | zoo) kinds=("$only") ;;
        *) echo "--only takes java or zoo" >&2; exit 2 ;;
    esac
}

free_port() {
    local p hex
    while :; do
        p=$((20000 + RANDOM % 12000))
        hex=$(printf ':%04X ' "$p")
        grep -qs "$hex" /proc/net/tcp /proc/net/tcp6 || break
    done
    echo "$p"
}

classpath() {
    if [[ -n ${ORACLE_CLASSPATH-} ]]; then
        echo "$ORACLE_CLASSPATH"
    elif [[ -x tests/oracle.sh ]]; then
        tests/oracle.sh classpath
    else
        echo "no reference server: tests/oracle.sh is missing and ORACLE_CLASSPATH is not set" >&2
        exit 1
    fi
}

# Waits for a process that was told to end, and makes it when it does not.
await_end() { # PID
    timeout 60 tail --pid="$1" -f /dev/null || kill -KILL "$1"
}

write_cfg_file() { # DIR PORT [LINE]...: zoo.cfg of a server with its data in DIR/data
    local home=$1 client=$2
    shift 2
    mkdir -p "$home/data"
    {
        cat <<CFG
tickTime=2000
initLimit=10
syncLimit=5
dataDir=$(realpath "$home/data")
clientPort=$client
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
forceSync=yes
CFG
        printf '%s\n' "$@"
    } >"$home/zoo.cfg"
}

floor() { # NAME: path of a floor program
    cargo bench -q --bench "$1" --no-run --message-format=json 2>/dev/null | grep -F '"kind":["bench"]' | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}
