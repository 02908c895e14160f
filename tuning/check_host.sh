#!/usr/bin/env bash
# Says what of this host matters to the server: tuning/check_host.sh [DATA_DIR]. Changes nothing. Exit status 1 when something must be mended.
set -u
dir=${1:-.}
bad=0
ok() { printf 'ok    %s\n' "$*"; }
hint() { printf 'hint  %s\n' "$*"; }
must() { printf 'MUST  %s\n' "$*"; bad=1; }
value() { cat "$1" 2>/dev/null; }

release=$(uname -r)
IFS=.- read -r major minor _ <<<"$release"
if [ "$major" -gt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -ge 8 ]; }; then ok "kernel $release"; else must "kernel $release: io_uring needs 5.8 or newer"; fi

case $(value /proc/sys/kernel/io_uring_disabled) in
    '' | 0) ok "io_uring is allowed" ;;
    1) hint "io_uring is for privileged processes only (kernel.io_uring_disabled=1)" ;;
    *) must "io_uring is switched off (kernel.io_uring_disabled=2)" ;;
esac

memlock=$(ulimit -l)
if [ "$memlock" = unlimited ] || [ "$memlock" -ge 1024 ]; then
    ok "locked memory $memlock KiB (a reactor takes about 240)"
else
    must "locked memory $memlock KiB: a reactor takes about 240 (ulimit -l, LimitMEMLOCK=)"
fi

files=$(ulimit -Hn)
if [ "$files" = unlimited ] || [ "$files" -ge 65536 ]; then ok "open files $files"; else hint "open files $files: one for each client (ulimit -Hn, LimitNOFILE=)"; fi

ok "$(nproc) cores for this process"

kind=$(stat -f -c %T "$dir" 2>/dev/null)
case $kind in
    ext2/ext3 | xfs) ok "$dir is on $kind: log segments are mapped" ;;
    *) hint "$dir is on ${kind:-an unknown file system}: the log is written without maps" ;;
esac

source=$(df --output=source "$dir" 2>/dev/null | tail -n 1)
disk=$(lsblk -no pkname "$source" 2>/dev/null | head -n 1)
disk=${disk:-$(basename "$source")}
queue=/sys/block/$disk/queue
if [ -d "$queue" ]; then
    ok "disk $disk: write cache '$(value "$queue/write_cache")', fua $(value "$queue/fua"), scheduler $(value "$queue/scheduler")"
    [ "$(value "$queue/rotational")" = 1 ] && hint "disk $disk says it rotates: every group of writes waits for it"
fi

case $(value /sys/kernel/mm/transparent_hugepage/enabled) in
    *'[always]'*) hint "transparent huge pages are 'always': memory per znode may look larger than it is" ;;
    *) ok "transparent huge pages are not forced" ;;
esac
exit $bad
