#!/bin/busybox sh
# PID 1 of the guest once the overlay is its root: run one command, hand back its exit status as a file, switch off.
# What the command prints goes through virtio-serial ports, never through the console.
#
# Left in /run/undisk-vm for the host: booted (uptime at the command's start), status (its exit status), dmesg.
set -u
/run/init/busybox --install -s /run/init
export PATH=/run/init
ctl=/run/undisk-vm
say() { echo "run: $*" > /dev/console; }
die() { say "$*"; poweroff -f -n; sleep 60; }
. $ctl/settings

port() {
    for entry in /sys/class/virtio-ports/*; do
        [ "$(cat "$entry/name" 2>/dev/null)" = "$1" ] && { echo "/dev/${entry##*/}"; return; }
    done
}
out_port=$(port out)
err_port=$(port err)
[ -c "$out_port" ] && [ -c "$err_port" ] || die "the ports for output are missing"

mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname undisk-vm
ip link set lo up
# As systemd has it on a real host; daemons with a mount namespace of their own depend on it.
mount --make-rshared /
# Warnings reach the console from now on, for the day when the guest dies without a word.
echo 5 > /proc/sys/kernel/printk

if [ "$UDEV" = 1 ]; then
    for daemon in /usr/lib/systemd/systemd-udevd /lib/systemd/systemd-udevd; do
        [ -x $daemon ] && { $daemon --daemon; break; }
    done
    /usr/bin/udevadm trigger --type=devices --action=add --subsystem-match=block
    /usr/bin/udevadm settle --timeout=60 || say "udev does not settle"
fi

# Just before the host's patience ends: who is stuck, and where?
if [ "$PATIENCE" -gt 0 ]; then
    (sleep "$PATIENCE"; echo 8 > /proc/sys/kernel/printk; echo w > /proc/sysrq-trigger) > /dev/null 2>&1 &
fi

mkfifo /run/init/out /run/init/err
cat /run/init/out > "$out_port" &
out_pump=$!
cat /run/init/err > "$err_port" &
err_pump=$!
echo "$out_pump $err_pump" > $ctl/pumps
cut -d ' ' -f 1 /proc/uptime > $ctl/booted

/bin/bash $ctl/command > /run/init/out 2> /run/init/err < /dev/null
status=$?

wait_for() { # SECONDS PID: until the process is gone
    tries=$(($1 * 20))
    while kill -0 "$2" 2>/dev/null && [ $tries -gt 0 ]; do usleep 50000; tries=$((tries - 1)); done
}

# Whoever still runs has a minute of disks that answer (most need a moment, a busy host more): what file systems hold in memory reaches the disks.
# (A test of a power cut ends with undisk-vm-cut instead.) A dead ublk device makes sync hang, so nobody waits for it.
sync &
wait_for 60 $!
for entry in /proc/[0-9]*; do
    pid=${entry##*/}
    case $pid in 1 | "$out_pump" | "$err_pump") continue ;; esac
    # Kernel threads have no program.
    readlink "$entry/exe" > /dev/null 2>&1 && kill -9 "$pid" 2>/dev/null
done
wait_for 20 $out_pump
wait_for 20 $err_pump
dmesg > $ctl/dmesg
echo "$status" > $ctl/status.new && mv $ctl/status.new $ctl/status
poweroff -f -n
sleep 60
