#!/bin/bash
# vm: mem=2000 cpus=2 timeout=1500
# Images and rollback on a real kernel: what only ublk can show of the appliance, with the real splitter and command.
# Each test is a function whose name says what must be so; the first thing that is not ends the run with exit status 1.
# Arguments choose tests.
set -u
BINARIES=${UNDISK_BIN:?the folder of the programs}
[ -e /dev/ublk-control ] || { echo "no ublk here: run it in a guest" >&2; exit 2; }
DIR=$(mktemp -d)
mount -t tmpfs tmpfs "$DIR"
mkdir "$DIR/disk" "$DIR/run" "$DIR/mnt" "$DIR/past"
# A file system of its own: journals need direct I/O.
# Less than the memory that a tmpfs may take: one that runs out of it fails in other ways than a disk.
# Nothing is reserved for root: the appliance runs as root, so a disk with a reserve would not be full when it shows none.
truncate -s 800M "$DIR/disk.img"
mkfs.ext4 -q -m 0 "$DIR/disk.img" && mount -o loop "$DIR/disk.img" "$DIR/disk" || exit 2
cp "$BINARIES"/{journal-appliance,ublk-splitter,undisk} "$DIR/"
export UNDISK_STATE=$DIR/disk/state UNDISK_RUN=$DIR/run UNDISK_CONFIG=$DIR/none.toml UNDISK_LOG=${UNDISK_LOG:-info,libublk=warn}
UNDISK=$DIR/undisk
APPLIANCE= SPLITTER=

fail() {
    echo "not ok ${test:-start}: $*"
    for log in appliance splitter; do echo "-- $log"; tail -n 40 "$DIR/$log.log"; done
    dmesg | tail -n 20
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

appliance() {
    "$DIR/journal-appliance" >>"$DIR/appliance.log" 2>&1 &
    APPLIANCE=$!
    # A killed one leaves its socket behind: only an answer shows that this one is up.
    until_true 300 '"$UNDISK" group list >/dev/null 2>&1'
}
splitter() {
    "$DIR/ublk-splitter" >>"$DIR/splitter.log" 2>&1 &
    SPLITTER=$!
    until_true 300 '"$UNDISK" volume list >/dev/null 2>&1'
}
sum() { (cd "$1" && find . -xdev -type f ! -path './lost+found/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum); }
joined() { "$UNDISK" group status g --json | grep -q '"joined": *true'; }
device_sum() { dd if="$1" bs=1M iflag=direct status=none | sha256sum; }

a_volume_joins_and_a_moment_opens_read_only_and_writable() {
    "$UNDISK" group create g || fail "group create"
    DEV=$("$UNDISK" volume create v --backing "$DIR/disk/v.img" --create --size 256M --group g | tail -1)
    [ -b "$DEV" ] || fail "no device: $DEV"
    until_true 600 joined
    mkfs.ext4 -q "$DEV" && mount -o discard "$DEV" "$DIR/mnt" || fail mount
    cp -r /usr/share/doc/[a-c]* "$DIR/mnt/" 2>/dev/null
    sync
    GOOD=$(sum "$DIR/mnt")
    "$UNDISK" bookmark add g good || fail bookmark
    rm -rf "$DIR/mnt"/a* "$DIR/mnt"/b*
    fstrim "$DIR/mnt"
    dd if=/dev/urandom of="$DIR/mnt/junk" bs=1M count=20 conv=fsync status=none
    BAD=$(sum "$DIR/mnt")
    [ "$GOOD" != "$BAD" ] || fail "the disaster changed nothing"
    RO=$("$UNDISK" image open 'g@#good' | tail -1)
    [ -b "$RO" ] || fail "no read-only image: $RO"
    case $RO in /dev/ublkb12[89]|/dev/ublkb1[3-9]?) ;; *) fail "image number: $RO" ;; esac
    grep -q UNDISK_KIND=image "$UNDISK_RUN/dev/${RO#/dev/}.env" || fail "no word for udev"
    ! dd if=/dev/zero of="$RO" bs=4k count=1 oflag=direct status=none 2>/dev/null || fail "a read-only image took a write"
    RW=$("$UNDISK" image open 'g@#good' --rw | tail -1)
    mount "$RW" "$DIR/past" || fail "mount the image"
    [ "$(sum "$DIR/past")" = "$GOOD" ] || fail "the image is not what was"
    dd if=/dev/urandom of="$DIR/past/new" bs=1M count=5 conv=fsync status=none || fail "write into the image"
    fstrim "$DIR/past" || fail "trim the image"
    rm "$DIR/past/new"
    "$UNDISK" image close "$RW" 2>/dev/null
    [ $? = 5 ] || fail "an image in use was closed"
    umount "$DIR/past"
    e2fsck -fn "$RW" >"$DIR/fsck" || fail "e2fsck: $(cat "$DIR/fsck")"
    [ "$(device_sum "$RO")" != "$(device_sum "$RW")" ] || fail "the overlay took nothing"
    "$UNDISK" image list
    "$UNDISK" image close "$RW" || fail close
    [ ! -e "$RW" ] && [ ! -e "$UNDISK_RUN/dev/${RW#/dev/}.env" ] || fail "something of the image stays"
    "$UNDISK" image close 'g@#good' || fail "close by name"
    [ ! -e "$RO" ] || fail "the other one stays"
    [ "$(sum "$DIR/mnt")" = "$BAD" ] || fail "the live volume was touched"
}

sectors_written_trimmed_and_zeroed_in_an_image_read_back_exactly() {
    local image before
    image=$("$UNDISK" image open 'g@#good' --rw | tail -1)
    dd if="$image" of="$DIR/copy" bs=1M iflag=direct status=none
    for at in 3 1001 40000 77777; do
        dd if=/dev/urandom of="$DIR/junk" bs=512 count=11 status=none
        dd if="$DIR/junk" of="$image" bs=512 seek=$at oflag=direct status=none || fail write
        dd if="$DIR/junk" of="$DIR/copy" bs=512 seek=$at conv=notrunc status=none
        blkdiscard -o $(((at + 3) * 512)) -l $((5 * 512)) "$image" || fail discard
        dd if=/dev/zero of="$DIR/copy" bs=512 seek=$((at + 3)) count=5 conv=notrunc status=none
        blkdiscard -z -o $(((at + 9) * 512)) -l 512 "$image" || fail zeroes
        dd if=/dev/zero of="$DIR/copy" bs=512 seek=$((at + 9)) count=1 conv=notrunc status=none
    done
    blkdiscard -o $((64 << 20)) -l $((32 << 20)) "$image"
    dd if=/dev/zero of="$DIR/copy" bs=1M seek=64 count=32 conv=notrunc status=none
    cmp "$DIR/copy" "$image" || fail "the image differs from a plain copy"
    "$UNDISK" image close "$image" || fail close
}

a_rollback_brings_the_volume_back_and_can_be_undone() {
    "$UNDISK" rollback 'g@#good' --yes 2>/dev/null
    [ $? = 5 ] || fail "a mounted volume was rolled back"
    umount "$DIR/mnt"
    BEFORE=$(device_sum "$DEV")
    "$UNDISK" rollback 'g@#good' --yes >"$DIR/out" || fail "rollback: $(cat "$DIR/out")"
    cat "$DIR/out"
    mount -o discard "$DEV" "$DIR/mnt" || fail mount
    [ "$(sum "$DIR/mnt")" = "$GOOD" ] || fail "the volume is not what it was"
    umount "$DIR/mnt"
    e2fsck -fn "$DEV" >"$DIR/fsck" || fail "e2fsck: $(cat "$DIR/fsck")"
    UNDO=$("$UNDISK" bookmark list g | grep -o 'before-rollback-[^ ]*' | head -1)
    "$UNDISK" rollback "g@#$UNDO" --yes >"$DIR/out" || fail "undo: $(cat "$DIR/out")"
    [ "$(device_sum "$DEV")" = "$BEFORE" ] || fail "undoing brought back something else"
}

killed_in_the_middle_of_writes_the_appliance_loses_nothing() {
    fio --name=w --filename="$DEV" --rw=randwrite --bs=4k-64k --size=200M --io_size=60M --direct=1 --ioengine=libaio \
        --iodepth=16 --verify=crc32c --do_verify=1 --output="$DIR/fio" &
    local fio=$! n
    for n in 1 2 3; do
        # (fio may be through before the third kill; it is not when the first one comes.)
        until_true 600 '[ "$(awk "{print \$1 + \$2}" "/sys/block/${DEV#/dev/}/inflight")" -ge 4 ] || ! kill -0 '$fio' 2>/dev/null'
        [ $n -gt 1 ] || kill -0 $fio 2>/dev/null || fail "fio ended before the first kill"
        kill -9 $APPLIANCE
        wait $APPLIANCE 2>/dev/null
        appliance
    done
    wait $fio || fail "fio: $(cat "$DIR/fio")"
    until_true 300 '"$UNDISK" group status g --json | grep -q protected'
    "$UNDISK" bookmark add g after || fail bookmark
    local image
    image=$("$UNDISK" image open 'g@#after' | tail -1)
    cmp "$DEV" "$image" || fail "the image at the head is not the volume"
    # The image's device of a killed appliance does not stay.
    kill -9 $APPLIANCE
    wait $APPLIANCE 2>/dev/null
    appliance
    [ ! -e "$image" ] && [ ! -e "/dev/ublkc${image#/dev/ublkb}" ] || fail "a dead appliance's image device stays"
    "$UNDISK" journal verify g || fail "verify"
}

a_full_disk_is_a_trouble_until_there_is_room() {
    umount "$DIR/mnt" 2>/dev/null
    # All but what a few segments need; the volume's own backing is written in place. (Blocks freed a moment ago are
    # counted as free before they can be had.)
    dd if=/dev/zero of="$DEV" bs=1M count=60 oflag=direct status=none
    sync
    local left=1
    until fallocate -l $(($(stat -f -c '%a * %S' "$UNDISK_STATE") - (left << 20))) "$DIR/disk/ballast" 2>/dev/null; do
        left=$((left + 1))
        [ $left -le 16 ] || fail ballast
    done
    dd if=/dev/urandom of="$DEV" bs=1M count=40 oflag=direct status=none || fail "the host was not served"
    until_true 100 '"$UNDISK" group status g | grep -q "no space"'
    "$UNDISK" status >/dev/null
    [ $? = 3 ] || fail "status says that all is well"
    rm "$DIR/disk/ballast"
    until_true 300 '"$UNDISK" group status g --json | grep -q protected'
    "$UNDISK" bookmark add g roomy || fail bookmark
    local image
    image=$("$UNDISK" image open 'g@#roomy' | tail -1)
    cmp "$DEV" "$image" || fail "something was lost while the disk was full"
    "$UNDISK" image close "$image" || fail close
}

stopped_and_started_again_everything_is_as_before() {
    "$UNDISK" bookmark list g >"$DIR/before"
    kill -TERM $APPLIANCE
    wait $APPLIANCE || fail "the appliance ended with $?"
    [ ! -e "$UNDISK_RUN/appliance.sock" ] || fail "its socket stays"
    appliance
    "$UNDISK" bookmark list g | cmp - "$DIR/before" || fail "other bookmarks"
    local image
    image=$("$UNDISK" image open 'g@#good' | tail -1)
    [ -b "$image" ] || fail "no image"
    "$UNDISK" image close || "$UNDISK" image close "$image" || fail close
}

appliance
splitter
ALL="a_volume_joins_and_a_moment_opens_read_only_and_writable
sectors_written_trimmed_and_zeroed_in_an_image_read_back_exactly
a_rollback_brings_the_volume_back_and_can_be_undone
killed_in_the_middle_of_writes_the_appliance_loses_nothing
a_full_disk_is_a_trouble_until_there_is_room
stopped_and_started_again_everything_is_as_before"
for test in ${*:-$ALL}; do
    $test
    echo "ok $test"
done
kill -TERM $SPLITTER $APPLIANCE
wait
