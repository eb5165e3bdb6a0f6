#!/bin/busybox sh
# The guest's first program: load modules, lay a throw-away overlay over the host's root, move into it and go on as run.sh.
#
# The host leaves in the control share (9p tag "ctl"): settings (sourced here and there) and command (a bash script).
set -u
# The mark that init begins: one byte to port 233, which QEMU keeps in a file. A guest that dies without it is booted again,
# so nothing that could reach a disk may come before it, and nothing may come after it when it fails.
echo | /bin/busybox dd of=/dev/port bs=1 seek=233 count=1 conv=notrunc status=none || { echo "init: cannot leave the mark"; exit 1; }
/bin/busybox mkdir -p /proc /sys /dev /bin /ctl /lower /upper /new /keep
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

say() { echo "init: $*" > /dev/console; }
# Without a status file the host knows that the guest died, and shows the console.
die() { say "$*"; poweroff -f -n; sleep 60; }

while read -r file parameters; do
    # shellcheck disable=SC2086  # several parameters are several words
    insmod "/modules/$file" $parameters || say "cannot load $file"
done < /modules/order

share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$2" "$1" "$3"; }
share ctl cache=none /ctl || die "cannot mount the control share"
. /ctl/settings

# The disks must be where the command was told to find them.
number=0
for disk in $DISKS; do
    found=$(cat "/sys/block/$disk/serial" 2>/dev/null)
    [ "$found" = "undisk$number" ] || die "disk $number should be /dev/$disk, but that is '$found'"
    number=$((number + 1))
done

share host ro,cache=loose /lower || die "cannot mount the host's root"
mount -t tmpfs -o mode=755 tmpfs /upper
mkdir /upper/up /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/up,workdir=/upper/work overlay /new || die "cannot mount the overlay"

# Folders that must be the guest's own; what the command needs below them (a checkout in /tmp, say) is carried over.
number=0
eval "set -- $KEEP"
for path in "$@"; do
    mkdir -p "/keep/$number" && mount --bind "/new$path" "/keep/$number" || die "cannot carry $path over"
    number=$((number + 1))
done
for folder in tmp run mnt var/lib/undisk etc/undisk; do
    mkdir -p "/new/$folder"
    mount -t tmpfs -o mode=755 tmpfs "/new/$folder"
done
chmod 1777 /new/tmp
# A host user who is not root cannot show us root's home.
ls /new/root > /dev/null 2>&1 || mount -t tmpfs -o mode=700 tmpfs /new/root
number=0
for path in "$@"; do
    mkdir -p "/new$path" && mount --move "/keep/$number" "/new$path" || die "cannot carry $path over"
    number=$((number + 1))
done
mkdir -p /new/run/lock /new/run/undisk-vm /new/out
share out cache=none /new/out || die "cannot mount the result folder"
mount --move /ctl /new/run/undisk-vm
mkdir -p "/new/lib/modules/$(uname -r)"
mount --bind "/lower$MODULES" "/new/lib/modules/$(uname -r)" || say "no modules beyond those loaded"
rm -f /new/etc/mtab && ln -s /proc/self/mounts /new/etc/mtab
echo "127.0.0.1 localhost undisk-vm" > /new/etc/hosts

# Our own busybox goes along: run.sh must work whatever a command does to the guest's programs.
mkdir -p /new/run/init/bin
cp /bin/busybox /run.sh /new/run/init/
cp /undisk-vm-cut /new/run/init/bin/
for folder in proc sys dev; do
    mount --move /$folder /new/$folder
done
exec switch_root /new /run/init/busybox sh /run/init/run.sh
