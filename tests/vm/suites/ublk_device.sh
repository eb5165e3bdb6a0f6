#!/bin/bash
# vm: mem=3000 cpus=2 timeout=1500
# A file behind a real /dev/ublkbN: what only a kernel with ublk can show of the crate ublk-device.
# Each test is a function whose name says what must be so; the first thing that is not ends the run with exit status 1.
# Arguments choose tests. The backing is a file on tmpfs, so that the kernel and the crate are looked at, not a disk.
set -u
BINARY=${UNDISK_BIN:?the folder of the programs}/examples/passthrough
[ -e /dev/ublk-control ] || { echo "no ublk here: run it in a guest" >&2; exit 2; }
DIR=$(mktemp -d)
mount -t tmpfs tmpfs "$DIR"
# Run from memory: a start over the host's file system takes seconds.
cp "$BINARY" "$DIR/passthrough"
P=$DIR/passthrough
FILE=$DIR/backing
DEV=/dev/ublkb0
SYS=/sys/block/ublkb0
SIZE=$((256 << 20))
FIO="fio --allow_file_create=0 --filename=$DEV --ioengine=libaio --direct=1 --minimal --output=$DIR/fio"
PID=

fail() {
    echo "not ok ${test:-start}: $*"
    cat "$DIR"/log "$DIR"/fio 2>/dev/null
    dmesg | tail -20
    exit 1
}

# until_true TENTHS CONDITION: polls under a deadline, which is for what hangs: a slow machine has four times as long.
until_true() {
    local left=$(($1 * 4))
    until eval "$2"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "not within the time: $2"
        sleep 0.1
    done
}

# serve VERB OPTIONS...: starts the pass-through and waits until its device is live.
serve() {
    "$P" "$@" >"$DIR/log" 2>&1 &
    PID=$!
    until_true 900 "grep -q '^live' $DIR/log || ! kill -0 $PID 2>/dev/null"
    grep -q '^live' "$DIR/log" || fail "passthrough $* did not come up"
    [ -b "$(sed -n 's/^live //p' "$DIR/log")" ] || fail "no block device"
}

add() { serve add --id 0 --file "$FILE" --size $SIZE "$@"; }
recover() { serve recover --id 0 --file "$FILE" --size $SIZE "$@"; }
fresh() { rm -f "$FILE"; truncate -s $SIZE "$FILE"; }
stop() { kill -TERM $PID; wait $PID || fail "stop: $?"; grep -q "^ended Stopped" "$DIR/log" || fail "not stopped"; }
murder() { kill -9 $PID; wait $PID 2>/dev/null; }
gone() { [ ! -e /dev/ublkb0 ] && [ -z "$("$P" list)" ]; }
in_flight() { awk '{print $1 + $2}' $SYS/inflight; }
written() { awk '{print $5}' $SYS/stat; }
io_errors() { dmesg | grep -c "I/O error, dev ublkb"; }
# load SIZE: two writers that check what they wrote, 16 requests deep each, so much each.
load() {
    $FIO --name=load --rw=randwrite --bs=4k --iodepth=16 --size="$1" --offset_increment="$1" --numjobs=2 \
        --verify=crc32c --verify_fatal=1 --verify_backlog=1024 &
    LOAD=$!
    until_true 600 '[ "$(in_flight)" -ge 8 ]'
}

a_device_has_the_limits_that_were_asked_for() {
    fresh
    add --trace "$DIR/trace"
    for setting in scheduler:'[none] mq-deadline ' nr_requests:60 io_timeout:2000 max_sectors_kb:512 fua:1 \
        "write_cache:write back" logical_block_size:512 discard_granularity:4096 \
        discard_max_bytes:2199023251456 write_zeroes_max_bytes:2199023251456; do
        [ "$(cat $SYS/queue/${setting%%:*})" = "${setting#*:}" ] || fail "$setting: $(cat $SYS/queue/${setting%%:*})"
    done
    [ "$(ls $SYS/mq | wc -l)" = 2 ] || fail "not two queues"
    # PF_MEMALLOC_NOIO: the queue threads are I/O flushers.
    for stat in $(grep -l 'ublk0-q' /proc/$PID/task/*/comm); do
        flags=$(awk '{print $9}' "${stat%comm}stat")
        [ $((flags & 0x80000)) -ne 0 ] || fail "no I/O flusher: $stat"
    done
    stop
    gone || fail "something is left"
    [ ! -e /run/ublksrvd ] || fail "libublk wrote its files"
}

every_operation_arrives_with_its_flags() {
    fresh
    add --trace "$DIR/trace"
    : >"$DIR/trace"
    dd if=/dev/zero of=$DEV bs=4k count=1 seek=1 oflag=direct,dsync status=none
    blkdiscard -z -o 8M -l 8M $DEV
    fallocate -p -o 16M -l 8M $DEV
    blkdiscard -o 24M -l 64M $DEV
    dd if=$DEV of=/dev/null bs=512 count=3 skip=7 iflag=direct status=none
    for line in "write-fua 8 4096" "flush 0 0" "zeroes-nounmap 16384 8388608" "zeroes 32768 8388608" \
        "discard 49152 67108864" "read 7 "; do
        tr -d '\0' <"$DIR/trace" | grep -q "^$line" || fail "no '$line' arrived"
    done
    stop
}

odd_sectors_are_written_discarded_and_read_exactly() {
    fresh
    dd if=/dev/urandom of="$DIR/model" bs=1M count=16 status=none
    add
    dd if="$DIR/model" of=$DEV bs=1M oflag=direct status=none
    dd if="$DIR/model" of=$DEV bs=512 count=3 seek=7 skip=100 oflag=direct status=none
    dd if="$DIR/model" of="$DIR/model" bs=512 count=3 seek=7 skip=100 conv=notrunc status=none
    blkdiscard -o 512 -l 1536 $DEV
    blkdiscard -o $((1048576 + 1536)) -l 9216 $DEV
    dd if=/dev/zero of="$DIR/model" bs=512 seek=1 count=3 conv=notrunc status=none
    dd if=/dev/zero of="$DIR/model" bs=512 seek=2051 count=18 conv=notrunc status=none
    cmp -n $((16 << 20)) "$DIR/model" $DEV || fail "the device differs"
    cmp -n $((16 << 20)) "$DIR/model" "$FILE" || fail "the file differs"
    stop
}

random_writes_and_trims_verify_also_when_other_threads_answer() {
    fresh
    dd if=/dev/urandom of="$FILE" bs=1M seek=128 count=64 conv=notrunc status=none
    add --delay-thread
    $FIO --name=odd --rw=randwrite --bsrange=512-64k --blockalign=512 --iodepth=16 --size=64M --verify=crc32c \
        --verify_fatal=1 || fail "fio"
    $FIO --name=verify --rw=randwrite --bs=4k --iodepth=16 --size=48M --verify=crc32c --verify_fatal=1 \
        --verify_backlog=1024 --name=trim --rw=randtrim --bsrange=4k-1M --iodepth=16 --offset=128M --size=64M ||
        fail "fio"
    cmp -n $((64 << 20)) -i $((128 << 20)):0 $DEV /dev/zero || fail "trimmed sectors do not read zero"
    stop
}

hosts_see_no_error_when_the_process_is_killed_twice_and_then_abandons() {
    fresh
    add
    local before round base
    before=$(io_errors)
    load 96M
    for round in 1 2; do
        murder
        recover
        echo "  recovered $(tail -1 "$DIR/log")"
        base=$(written)
        until_true 600 "[ \$(written) -gt $((base + 300)) ]"
    done
    kill -0 $LOAD 2>/dev/null || fail "the load ended before the kills"
    kill -USR1 $PID
    wait $PID || fail "abandon: $?"
    grep -q "^ended Abandoned" "$DIR/log" || fail "not abandoned"
    "$P" list | grep -q Quiesced || fail "not left to a successor: $("$P" list)"
    recover
    wait $LOAD || fail "fio verify"
    [ "$(io_errors)" = "$before" ] || fail "the host saw errors"
    [ "$(cat $SYS/queue/nr_requests)" = 60 ] || fail "nr_requests is lost"
    stop
}

a_recovery_that_fails_can_be_tried_again() {
    fresh
    add
    murder
    "$P" recover --id 0 --file "$DIR/other" --size $((SIZE * 2)) 2>&1 | grep -q "is not the device of" || fail "wrong size"
    "$P" recover --id 0 --file "$FILE" --size $SIZE --fail-queue 1 2>&1 | grep -q "queue 1 of .* asked to fail" ||
        fail "queue 1"
    # The driver has begun a recovery that nobody ended.
    recover
    dd if=$DEV of=/dev/null bs=4k count=1 iflag=direct status=none || fail "read"
    stop
}

a_process_may_be_killed_at_any_instant_of_a_recovery() {
    fresh
    add
    local before began span step pause lines left=20000 tried=0 steps=${SWEEP_STEPS:-40}
    before=$(io_errors)
    load 32M
    # A sleep that starts no process: on a slow machine that alone takes longer than a recovery.
    mkfifo "$DIR/never"
    exec 9<>"$DIR/never"
    # How long a recovery takes, in microseconds, is the machine's business: the shorter one of two.
    for step in 1 2; do
        murder
        : >"$DIR/log"
        began=${EPOCHREALTIME/./}
        "$P" recover --id 0 --file "$FILE" --size $SIZE >"$DIR/log" 2>&1 &
        PID=$!
        until mapfile -t lines <"$DIR/log" && [[ " ${lines[*]}" == *" live /dev/"* ]]; do
            left=$((left - 1))
            [ "$left" -gt 0 ] || fail "no recovery"
            read -rt 0.002 -u 9
        done
        began=$((${EPOCHREALTIME/./} - began))
        [ "${span:-$began}" -lt "$began" ] || span=$began
    done
    : >"$DIR/logs"
    # Instants that none of them hits the middle of a recovery are tried again, a few times.
    until [ "$tried" -ge $((4 * steps)) ] || grep -q "gave up" "$DIR/logs"; do
        for step in $(seq 1 "$steps"); do
            murder
            cat "$DIR/log" >>"$DIR/logs"
            "$P" recover --id 0 --file "$FILE" --size $SIZE >"$DIR/log" 2>&1 &
            PID=$!
            # Not a guess: the instants are what is tried.
            pause=$((span * step * 3 / (2 * steps)))
            printf -v pause '%d.%06d' $((pause / 1000000)) $((pause % 1000000))
            read -rt "$pause" -u 9
            tried=$((tried + 1))
        done
    done
    exec 9>&-
    echo "  a recovery takes $((span / 1000)) ms; killed before it was live: $((tried - $(grep -c ^live "$DIR/logs")))," \
        "queues given up: $(grep -c "gave up" "$DIR/logs")"
    [ "$(grep -c "gave up" "$DIR/logs")" -gt 0 ] || fail "no kill hit the middle of a recovery"
    murder
    recover
    wait $LOAD || fail "fio verify"
    [ "$(io_errors)" = "$before" ] || fail "the host saw errors"
    stop
}

a_start_that_fails_leaves_nothing_and_takes_nothing() {
    fresh
    "$P" add --id 0 --file "$FILE" --size $SIZE --fail-queue 1 2>&1 | grep -q "queue 1 of .* asked to fail" ||
        fail "queue 1"
    gone || fail "something is left"
    add
    "$P" add --id 0 --file "$DIR/other" --size $SIZE 2>&1 | grep -q "exists already" || fail "taken"
    "$P" recover --id 7 --file "$DIR/other" --size $SIZE 2>&1 | grep -q "does not exist" || fail "missing"
    dd if=$DEV of=/dev/null bs=4k count=1 iflag=direct status=none || fail "the first one is gone"
    stop
}

a_panic_ends_the_process_and_the_host_waits_until_the_device_is_deleted() {
    fresh
    add --panic-at 8000
    dd if=$DEV of=/dev/null bs=4k skip=1000 count=1 iflag=direct 2>/dev/null &
    local reader=$!
    wait $PID 2>/dev/null
    [ $? = 134 ] || fail "no abort"
    until_true 100 '"$P" list | grep -q Quiesced'
    kill -0 $reader || fail "the reader did not wait"
    "$P" delete --id 0 || fail "delete"
    wait $reader && fail "the reader got data"
    gone || fail "something is left"
    "$P" delete --id 0 2>&1 | grep -q "does not exist" || fail "deleted twice"
}

stopping_and_deleting_under_load_ends_promptly() {
    fresh
    add
    $FIO --name=s --rw=randwrite --bs=4k --iodepth=16 --time_based --runtime=600 2>/dev/null &
    local writer=$!
    until_true 600 '[ "$(in_flight)" -ge 8 ]'
    stop
    wait $writer && fail "the writer saw nothing"
    add
    $FIO --name=s --rw=randwrite --bs=4k --iodepth=16 --time_based --runtime=600 2>/dev/null &
    writer=$!
    until_true 600 '[ "$(in_flight)" -ge 8 ]'
    "$P" delete --id 0 || fail "delete"
    wait $PID || fail "the process did not end well"
    grep -q "^ended StoppedByOthers" "$DIR/log" || fail "it does not know why"
    wait $writer && fail "the writer saw nothing"
    gone || fail "something is left"
}

file_systems_live_through_discards_a_kill_and_an_unmount() {
    local fs dir=$DIR/mnt
    mkdir -p "$dir"
    mount --make-rshared /
    for fs in "ext4 -q -F -b 1024" "xfs -q -f"; do
        rm -f "$FILE"
        SIZE=$((512 << 20)) fresh
        serve add --id 0 --file "$FILE" --size $((512 << 20)) --own-namespace --lock-memory --trace "$DIR/trace"
        # shellcheck disable=SC2086
        mkfs.$fs $DEV 2>/dev/null || fail "mkfs $fs"
        mount -o discard $DEV "$dir" || fail "mount"
        churn "$dir"
        fstrim "$dir" || fail "fstrim"
        murder
        serve recover --id 0 --file "$FILE" --size $((512 << 20)) --own-namespace --trace "$DIR/trace2"
        [ "$(grep -c ublkb /proc/$PID/mountinfo)" = 0 ] || fail "mounted in the server's own view"
        (cd "$dir" && sha256sum --quiet -c "$DIR/sums") || fail "files differ"
        churn "$dir"
        umount "$dir" || fail "umount"
        case $fs in
        ext4*) e2fsck -fn $DEV >/dev/null 2>&1 || fail "e2fsck" ;;
        xfs*) xfs_repair -n $DEV >/dev/null 2>&1 || fail "xfs_repair" ;;
        esac
        # A mount that came later is seen by the server, and goes with the host's.
        mount $DEV "$dir" && umount "$dir" || fail "mount again"
        [ "$(grep -c ublkb /proc/$PID/mountinfo)" = 0 ] || fail "the server keeps a mount"
        stop
        mount -o loop,ro "$FILE" "$dir" || fail "the file alone does not mount"
        (cd "$dir" && sha256sum --quiet -c "$DIR/sums") || fail "files differ in the file alone"
        umount "$dir"
    done
}

churn() {
    local i
    mkdir -p "$1/churn"
    for i in $(seq 1 36); do head -c $((i * 1327 % 40000 + 1)) /dev/urandom >"$1/churn/$i"; done
    sync
    for i in $(seq 1 3 36); do rm "$1/churn/$i"; done
    (cd "$1" && sha256sum churn/*) >"$DIR/sums"
}

a_terabyte_is_discarded_in_few_requests() {
    rm -f "$FILE"
    truncate -s 1T "$FILE"
    serve add --id 0 --file "$FILE" --size $((1 << 40)) --trace "$DIR/trace"
    : >"$DIR/trace"
    blkdiscard $DEV || fail "blkdiscard"
    [ "$(tr -d '\0' <"$DIR/trace" | grep -c '^discard')" = 257 ] || fail "not 257 requests"
    stop
}

partitions_show_on_volumes_and_on_read_only_images() {
    fresh
    add
    printf 'label: gpt\n,64M\n,\n' | sfdisk -q $DEV || fail "sfdisk"
    [ -b ${DEV}p2 ] || fail "no partition"
    # A private root: what is mounted before the server starts must be detached by it.
    mount --make-rprivate /
    mkdir -p "$DIR/a b"
    mkfs.ext4 -q -F ${DEV}p2 && mount ${DEV}p2 "$DIR/a b" && echo hello >"$DIR/a b/x" || fail "mkfs on a partition"
    murder
    recover --own-namespace
    [ "$(grep -c ublkb /proc/$PID/mountinfo)" = 0 ] || fail "mounted in the server's own view"
    [ "$(cat "$DIR/a b/x")" = hello ] || fail "read"
    umount "$DIR/a b" || fail "umount"
    e2fsck -fn ${DEV}p2 >/dev/null 2>&1 || fail "e2fsck"
    stop
    add --image --read-only --queues 1
    [ -b ${DEV}p2 ] && [ "$(blockdev --getro ${DEV}p2)" = 1 ] || fail "the image's partitions"
    [ "$(cat $SYS/queue/nr_requests)" = 60 ] || fail "nr_requests of one queue"
    dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct status=none 2>/dev/null && fail "written"
    # An image is not left to anybody: it goes with its process.
    murder
    until_true 100 '[ ! -e /dev/ublkb0 ]'
    "$P" delete --id 0 || fail "delete"
}

large_blocks_and_large_requests_work() {
    fresh
    add --block 4096 --io 4194304 --trace "$DIR/trace"
    [ "$(cat $SYS/queue/logical_block_size)" = 4096 ] && [ "$(cat $SYS/queue/max_sectors_kb)" = 4096 ] || fail "limits"
    dd if=/dev/zero of=$DEV bs=512 count=1 oflag=direct status=none 2>/dev/null && fail "half a block was written"
    dd if=/dev/urandom of=$DEV bs=4M count=2 oflag=direct status=none
    grep -q "^write 8192 4194304" "$DIR/trace" || fail "a large write was split"
    stop
}

TESTS=$(sed -n 's/^\([a-z_]*\)() {$/\1/p' "$0" | grep '_.*_.*_')
for test in ${*:-$TESTS}; do
    began=$(cut -d. -f1 /proc/uptime)
    $test
    echo "ok $test ($(($(cut -d. -f1 /proc/uptime) - began)) s)"
done
test=the_kernel_has_nothing_to_complain_of
dmesg | grep -E "BUG|WARNING|hung task|blocked for more" && fail "see above"
echo "ok $test"
