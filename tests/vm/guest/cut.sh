#!/bin/bash
# undisk-vm-cut [STATUS]: cuts the guest's power. Nothing is synced, nobody is told. The exit status handed back to the
# host is STATUS (0 without one). Where the disks can lose what was not flushed, the host cuts theirs and ours at once;
# until then everything in the guest runs on.
set -u
ctl=/run/undisk-vm
# What was printed so far shall not be lost: wait (two seconds at most) until both pumps have nothing left to read.
for pump in $(cat $ctl/pumps); do
    for _ in {1..200}; do
        [[ $(cat "/proc/$pump/wchan") == *pipe_read* ]] && break
        read -rt 0.01 <> <(:) || :
    done
done
echo "${1:-0}" > $ctl/status.new && mv $ctl/status.new $ctl/status
# shellcheck disable=SC1091
. $ctl/settings
if [[ ${POWER:-0} == 1 ]]; then
    : > $ctl/cut
    read -rt 30 <> <(:) || :
fi
echo 1 > /proc/sys/kernel/sysrq
echo b > /proc/sysrq-trigger
