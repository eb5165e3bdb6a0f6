#!/bin/bash
# vm: disks=64M,32M mem=1024 cpus=2 timeout=600 boots=2
# The guest itself keeps its promises to the other suites. Boot 1 writes and has its power cut, boot 2 reads.
set -u
failed=0
check() { # NAME COMMAND...: one case
    local name=$1
    shift
    if "$@" > /tmp/said 2>&1; then
        echo "ok boot $UNDISK_BOOT: $name"
    else
        echo "not ok boot $UNDISK_BOOT: $name: $(tail -n 1 /tmp/said)"
        failed=1
    fi
}
is() { [[ $1 == "$2" ]] || { echo "$1, not $2"; return 1; }; }

check "the kernel is a 6.12" is "$(uname -r | cut -d . -f 1,2)" 6.12
check "ublk is there" test -c /dev/ublk-control
for name in ext4 xfs; do check "$name is there" grep -qw "$name" /proc/filesystems; done
check "other modules can be loaded" modprobe null_blk nr_devices=1 gb=1
check "the programs under test are there" test -d "$UNDISK_BIN"
check "the first disk has its size" is "$(blockdev --getsize64 /dev/vda)" $((64 << 20))
check "the second disk has its size" is "$(blockdev --getsize64 /dev/vdb)" $((32 << 20))
check "a flush reaches the disk" is "$(cat /sys/block/vda/queue/write_cache)" "write back"
check "discards are passed on" test "$(cat /sys/block/vda/queue/discard_max_bytes)" -gt 0
for folder in /tmp /run /mnt /dev/shm /var/lib/undisk /etc/undisk; do
    check "$folder is the guest's own" is "$(stat -f -c %T $folder)" tmpfs
done
check "the host's root cannot be written" bash -c '! touch /lib/modules/$(uname -r)/x'
check "the root is as the host has it" test ! -e /usr/written
check "the root can be written, in memory" touch /usr/written
check "lo is up" grep -q 1 /sys/class/net/lo/carrier
check "mounts propagate as on a real host" bash -c 'grep -q " / / .* shared:" /proc/self/mountinfo'

if [[ $UNDISK_BOOT == 1 ]]; then
    check "results can be written" bash -c 'echo one > /out/note'
    # However long the rest takes, nothing is written back by itself.
    mkfs.ext4 -q /dev/vda && mount -o commit=36000 /dev/vda /mnt
    echo 0 > /proc/sys/vm/dirty_writeback_centisecs
    echo kept > /mnt/kept && sync -f /mnt
    echo lost > /mnt/lost
    undisk-vm-cut $failed
fi
check "results of the boot before are there" grep -q one /out/note
check "a file system survives the cut" mount /dev/vda /mnt
check "what was synced is there" grep -q kept /mnt/kept
check "what was not synced is gone" test ! -e /mnt/lost
umount /mnt
exit $failed
