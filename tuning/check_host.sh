#!/usr/bin/env bash
# Says what of this host matters to the server: tuning/check_host.sh [--measure] [DIR]... The directories are those of dataDir and dataLogDir (default:
# the current one). Changes nothing; --measure writes and removes a file of 4 KiB in each to time the disk. Exit status 1 when something must be mended.
set -u
measure=no bad=0 dirs=()
for word in "$@"; do
    case $word in
        --measure) measure=yes ;;
        -*) sed -n '2,3s/^# //p' "$0"; exit 2 ;;
        *) dirs+=("$word") ;;
    esac
done
ok() { printf 'ok    %s\n' "$*"; }
hint() { printf 'hint  %s\n' "$*"; }
must() { printf 'MUST  %s\n' "$*"; bad=1; }
value() { cat "$1" 2>/dev/null; }

check_kernel() {
    local release major minor
    release=$(uname -r)
    IFS=.- read -r major minor _ <<<"$release"
    if [ "$major" -gt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -ge 8 ]; }; then ok "kernel $release"; else must "kernel $release: io_uring needs 5.8 or newer"; fi
    case $(value /proc/sys/kernel/io_uring_disabled) in
        '' | 0) ok "io_uring is allowed" ;;
        1) hint "io_uring is for privileged processes and group $(value /proc/sys/kernel/io_uring_group) only (kernel.io_uring_disabled=1)" ;;
        *) must "io_uring is switched off (kernel.io_uring_disabled=2)" ;;
    esac
    # In a container a seccomp profile may forbid it all the same: only the server's start tells.
    local clock
    clock=$(value /sys/devices/system/clocksource/clocksource0/current_clocksource)
    case $clock in
        tsc | kvm-clock | hyperv_clocksource_tsc_page | arch_sys_counter) ok "clock source $clock" ;;
        *) hint "clock source ${clock:-unknown}: reading the clock may be a system call, and every turn of a core reads it" ;;
    esac
}

check_limits() {
    local memlock files
    memlock=$(ulimit -l)
    if [ "$memlock" = unlimited ] || [ "$memlock" -ge 1024 ]; then
        ok "locked memory $memlock KiB (a reactor takes about 240)"
    else
        must "locked memory $memlock KiB: a reactor takes about 240 (ulimit -l, LimitMEMLOCK=)"
    fi
    files=$(ulimit -Hn)
    if [ "$files" = unlimited ] || [ "$files" -ge 65536 ]; then ok "open files $files"; else hint "open files $files: one for each client (ulimit -Hn, LimitNOFILE=)"; fi
}

# Of this process, in either version of control groups: quota and period, or nothing.
cpu_quota() {
    local group quota period
    group=$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null)
    read -r quota period <<<"$(value "/sys/fs/cgroup$group/cpu.max" || value /sys/fs/cgroup/cpu.max)"
    [ -n "$quota" ] || { quota=$(value /sys/fs/cgroup/cpu/cpu.cfs_quota_us) period=$(value /sys/fs/cgroup/cpu/cpu.cfs_period_us); }
    case $quota in '' | max | -1) ;; *) echo "$quota $period" ;; esac
}

check_cores() {
    local quota governors slow
    case $(nproc) in
        1 | 2) ok "$(nproc) cores for this process: one shard, the rest for flushes and the kernel" ;;
        *) ok "$(nproc) cores for this process: a shard each" ;;
    esac
    quota=$(cpu_quota)
    [ -n "$quota" ] && hint "a CPU quota ($quota us): who has used it up stands still until the period ends, which is p99; shares or whole cores do not do that"
    governors=$(cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor 2>/dev/null | sort -u | tr '\n' ' ')
    slow=$(grep -o -w -e powersave -e conservative <<<"$governors")
    [ -n "$slow" ] && hint "frequency governor $slow: a server that mostly waits runs at low frequency ('performance' where latency counts)"
    return 0
}

check_memory() {
    case $(value /sys/kernel/mm/transparent_hugepage/enabled) in
        *'[always]'*) hint "transparent huge pages are 'always': memory per znode may look larger than it is" ;;
        *) ok "transparent huge pages are not forced" ;;
    esac
    if [ "$(wc -l </proc/swaps)" -gt 1 ]; then
        hint "there is swap: a tree that is paged out answers late, and sessions end; leave room in memory, vm.swappiness is $(value /proc/sys/vm/swappiness)"
    else
        ok "no swap"
    fi
}

disk_of() { # DIR: the name of its block device
    local source disk
    source=$(df --output=source "$1" 2>/dev/null | tail -n 1)
    disk=$(lsblk -no pkname "$source" 2>/dev/null | head -n 1)
    echo "${disk:-$(basename "$source")}"
}

check_disk() { # DIR
    local dir=$1 kind disk queue room
    kind=$(stat -f -c %T "$dir" 2>/dev/null)
    case $kind in
        '') must "$dir is not there"; return ;;
        ext2/ext3 | xfs) ok "$dir is on $kind" ;;
        tmpfs | ramfs) must "$dir is on $kind: nothing there survives the machine" ;;
        nfs* | cifs | smb*) hint "$dir is on $kind: durable is what the other machine says is durable, and a lock may not hold" ;;
        *) hint "$dir is on $kind: nothing was measured there" ;;
    esac
    room=$(df --output=avail -m "$dir" | tail -n 1)
    [ "$room" -ge 1024 ] || hint "$dir has $room MiB left: a full disk stops the server"
    disk=$(disk_of "$dir") queue=/sys/block/$(disk_of "$dir")/queue
    [ -d "$queue" ] || return 0
    ok "disk $disk: write cache '$(value "$queue/write_cache")', fua $(value "$queue/fua"), scheduler $(value "$queue/scheduler")"
    [ "$(value "$queue/write_cache")" = "write back" ] && [ "$(value "$queue/fua")" = 0 ] &&
        hint "disk $disk has a write cache and no FUA: every group of writes takes two turns to the disk, the write and the flush of its cache"
    [ "$(value "$queue/rotational")" = 1 ] && hint "disk $disk says it rotates: every group of writes waits for it"
    case $(value "$queue/scheduler") in *'[bfq]'*) hint "disk $disk is scheduled by bfq, which idles on purpose between writes that wait for each other: 'none' or 'mq-deadline'" ;; esac
    return 0
}

measure_disk() { # DIR: what one durable write of 4 KiB takes
    local file times
    file=$(mktemp "$1/.check_host.XXXXXX") || return
    # Of a file that is there already, as segments are.
    dd if=/dev/zero of="$file" bs=4096 count=1 conv=fsync status=none
    times=$(for _ in $(seq 50); do
        dd if=/dev/zero of="$file" bs=4096 count=1 oflag=direct,dsync conv=notrunc 2>&1 | sed -n 's/.* copied, \([0-9.e-]*\) s.*/\1/p'
    done | sort -g)
    rm -f "$file"
    [ "$(wc -l <<<"$times")" -ge 50 ] || { hint "$1 does not take direct writes: the log goes through the page cache"; return; }
    ok "$1: a durable write of 4 KiB takes $(sed -n 25p <<<"$times" | awk '{printf "%.2f", $1 * 1000}') ms (p50), $(sed -n 49p <<<"$times" | awk '{printf "%.2f", $1 * 1000}') ms (p98): the latency of a lone client"
}

check_kernel
check_limits
check_cores
check_memory
[ ${#dirs[@]} -gt 0 ] || dirs=(.)
for dir in "${dirs[@]}"; do
    check_disk "$dir"
    [ "$measure" = no ] || measure_disk "$dir"
done
[ ${#dirs[@]} -lt 2 ] || [ "$(disk_of "${dirs[0]}")" != "$(disk_of "${dirs[1]}")" ] || hint "${dirs[0]} and ${dirs[1]} share a disk: snapshots and the log's flushes wait for each other"
exit $bad
