"""The guest's disks, file systems, devices and processes.

Owns mkfs, mount, fsck, loop devices, direct I/O, sysfs and signals to daemons by their id. Deliberately knows nothing of
undisk: every function works on any block device.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import signal
import stat
import struct
import time

from undisk_suite import Failure, need, poll, run, same

BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F
BLKGETSIZE64 = 0x80081272
BLKSSZGET = 0x1268
BLKFLSBUF = 0x1261
FITRIM = 0xC0185879


def is_block(path):
    """Whether there is a block device at this path. (A tool that finds none may well make a file of that name.)"""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def need_block(path):
    """Fails unless `path` is a block device."""
    need(is_block(path), f"{path} is not a block device")
    return path


def size_of(path):
    """Size in bytes of a block device or file."""
    if not is_block(path):
        return os.stat(path).st_size
    fd = os.open(path, os.O_RDONLY)
    try:
        return struct.unpack("Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0]
    finally:
        os.close(fd)


def sysfs(device, name):
    """What /sys/block/DEVICE/NAME says."""
    with open(f"/sys/block/{os.path.basename(device)}/{name}", encoding="ascii") as file:
        return file.read().strip()


def completed(device):
    """Writes that the device has answered since it is there."""
    return int(sysfs(device, "stat").split()[4])


def inflight(device):
    """Requests that the kernel has given to the device and not got back."""
    return sum(int(word) for word in sysfs(device, "inflight").split())


def mkfs(fs, device, *options):
    """Makes a file system, with the usual discard of the whole device."""
    need_block(device)
    if fs == "xfs":
        run("mkfs.xfs", "-q", "-f", *options, device, timeout=300)
    else:
        run("mkfs.ext4", "-q", "-F", *options, device, timeout=300)


def mount(device, folder, options="", fs=None):
    """Mounts, making the folder if need be."""
    os.makedirs(folder, exist_ok=True)
    words = ["mount"]
    if fs:
        words += ["-t", fs]
    if options:
        words += ["-o", options]
    run(*words, device, folder)


def umount(folder):
    """Unmounts; a folder that is busy for a moment gets a few more."""
    poll(f"{folder} can be unmounted", lambda: run("umount", folder, timeout=120) and True, timeout=30)


def is_mounted(folder):
    """Whether something is mounted there."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return any(line.split()[1] == folder for line in file)


def fsck_clean(fs, device):
    """Fails unless the file system checks clean, without repairing anything."""
    if fs == "xfs":
        run("xfs_repair", "-n", device, timeout=300)
    else:
        run("e2fsck", "-f", "-n", device, timeout=300)


def fstrim(folder):
    """Discards all free space of a mounted file system; returns the bytes."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        done = fcntl.ioctl(fd, FITRIM, struct.pack("QQQ", 0, (1 << 64) - 1, 0))
        return struct.unpack("QQQ", done)[1]
    finally:
        os.close(fd)


def lasting_disk(device, folder, fresh):
    """Mounts a disk that lives on from boot to boot; makes its file system first if `fresh`. Nothing of it is reserved for
    root: the programs run as root, and a disk that shows no room shall have none."""
    need_block(device)
    if fresh:
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", device, timeout=300)
    mount(device, folder, fs="ext4")


def slow_table(below, mib, ms):
    """The device mapper's table of a disk of which writes take so long; reads do not."""
    return f"0 {mib * 2048} delay {below} 0 0 {below} 0 {ms}"


def dm(name, table):
    """Makes a device-mapper device; without udev dmsetup makes the node itself."""
    run("dmsetup", "create", name, "--noudevsync", "--verifyudev", "--table", table)
    return f"/dev/mapper/{name}"


def dm_becomes(name, table):
    """Gives a device-mapper device another table, whatever it is busy with."""
    run("dmsetup", "suspend", "--noflush", "--nolockfs", "--noudevsync", name, timeout=120)
    run("dmsetup", "reload", name, "--table", table)
    run("dmsetup", "resume", "--noudevsync", name)


def slow_disk(name, below, mib, ms):
    """A disk of which writes take so long, on top of another one."""
    return dm(name, slow_table(below, mib, ms))


@contextlib.contextmanager
def flushes(device):
    """Watches the flushes that are submitted to a device; gives a function that tells them, as the kernel does."""
    trace = "/sys/kernel/tracing"
    if not os.path.isdir(f"{trace}/events"):
        mount("tracefs", trace, fs="tracefs")
    event, number = f"{trace}/events/block/block_bio_queue", os.stat(device).st_rdev

    def tell(path, text):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    kernel = os.major(number) << 20 | os.minor(number)
    tell(f"{trace}/trace", "")
    tell(f"{event}/filter", f'dev == {kernel} && rwbs ~ "F*"')
    tell(f"{event}/enable", "1")
    seen = []
    try:
        yield lambda: seen
    finally:
        tell(f"{event}/enable", "0")
        with open(f"{trace}/trace", encoding="utf-8", errors="replace") as file:
            seen.extend(line.strip() for line in file if "block_bio_queue" in line)


@contextlib.contextmanager
def loop_device(path, read_only=False):
    """The file as a loop device."""
    words = ["losetup", "--find", "--show"] + (["--read-only"] if read_only else [])
    device = run(*words, path).out.strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(device, folder, options="", fs=None):
    """Mounted for the length of a block."""
    mount(device, folder, options, fs)
    try:
        yield folder
    finally:
        umount(folder)


@contextlib.contextmanager
def opened(path, flags):
    """An open file description for the length of a block."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


class Aligned:
    """A buffer that O_DIRECT takes."""

    def __init__(self, size):
        self.map = mmap.mmap(-1, max(size, mmap.PAGESIZE))

    def read(self, fd, offset, size):
        """Reads exactly `size` bytes."""
        got = os.preadv(fd, [memoryview(self.map)[:size]], offset)
        need(got == size, f"read {got} of {size} bytes at {offset}")
        return self.map[:size]

    def write(self, fd, offset, data):
        """Writes all of `data`."""
        self.map[: len(data)] = data
        put = os.pwritev(fd, [memoryview(self.map)[: len(data)]], offset)
        need(put == len(data), f"wrote {put} of {len(data)} bytes at {offset}")


def discard(fd, offset, size):
    """BLKDISCARD."""
    fcntl.ioctl(fd, BLKDISCARD, struct.pack("QQ", offset, size))


def zero_out(fd, offset, size):
    """BLKZEROOUT: zeros, and the blocks stay allocated."""
    fcntl.ioctl(fd, BLKZEROOUT, struct.pack("QQ", offset, size))


def flush_buffers(device):
    """Writes back and forgets what the kernel has cached of a block device."""
    with opened(device, os.O_RDONLY) as fd:
        os.fsync(fd)
        fcntl.ioctl(fd, BLKFLSBUF, 0)


def read_direct(device, offset, size, piece=1 << 20):
    """Reads past every cache, a piece at a time."""
    buffer = Aligned(min(size, piece))
    parts = []
    with opened(device, os.O_RDONLY | os.O_DIRECT) as fd:
        while size:
            now = min(size, piece)
            parts.append(buffer.read(fd, offset, now))
            offset += now
            size -= now
    return b"".join(parts)


def reads_eio(device, offset, size):
    """Whether a direct read of exactly these bytes fails with EIO; any other error is a failure."""
    try:
        read_direct(device, offset, size)
    except OSError as error:
        need(error.errno == errno.EIO, f"read of {device} at {offset}: {error}, expected EIO")
        return True
    return False


def same_content(left, right):
    """Fails unless two devices or files are byte-identical over their whole length."""
    same(f"size of {right}", size_of(right), size_of(left))
    for path in (left, right):
        if is_block(path):
            flush_buffers(path)
    size = size_of(left)
    buffers = (Aligned(1 << 20), Aligned(1 << 20))
    direct = [os.O_DIRECT if is_block(path) else 0 for path in (left, right)]
    with opened(left, os.O_RDONLY | direct[0]) as a, opened(right, os.O_RDONLY | direct[1]) as b:
        for offset in range(0, size, 1 << 20):
            now = min(1 << 20, size - offset)
            one, two = buffers[0].read(a, offset, now), buffers[1].read(b, offset, now)
            if one != two:
                at = next(i for i in range(0, now, 512) if one[i : i + 512] != two[i : i + 512])
                differing = sum(one[i : i + 512] != two[i : i + 512] for i in range(0, now, 512))
                raise Failure(
                    f"{left} and {right} differ from sector {(offset + at) // 512} on "
                    f"({differing} sectors of that MiB): {one[at : at + 16].hex()} != {two[at : at + 16].hex()}"
                )


def content_digest(path, piece=1 << 20):
    """BLAKE2 over all of a file or device that is not zero, with its place; the same whatever is a hole."""
    total, zeros, size, offset = hashlib.blake2b(), bytes(piece), size_of(path), 0
    with opened(path, os.O_RDONLY) as fd:
        while offset < size:
            if not is_block(path):
                try:
                    offset = os.lseek(fd, offset, os.SEEK_DATA) // piece * piece
                except OSError as error:
                    if error.errno == errno.ENXIO:
                        break
                    raise
            data = os.pread(fd, min(piece, size - offset), offset)
            if data != zeros[: len(data)]:
                total.update(struct.pack("QQ", offset, len(data)))
                total.update(data)
            offset += len(data)
    return total.hexdigest()


def nothing_digest():
    """`content_digest` of what holds nothing but zeros."""
    return hashlib.blake2b().hexdigest()


def allocated(path):
    """Bytes that a file really takes."""
    return os.stat(path).st_blocks * 512


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_of(pid):
    """The kernel's letter for what the process does (R, S, D, T, Z)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def program_of(pid):
    """The name of the program that the process runs."""
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
        return file.read().strip()


def kill9(pid, program):
    """kill -9 of one daemon by its id, after a look whether it is that daemon."""
    need(pid > 1 and program_of(pid) == program[:15], f"process {pid} is {program_of(pid)!r}, not {program!r}")
    os.kill(pid, signal.SIGKILL)
    poll(f"{program} {pid} is gone", lambda: not alive(pid), timeout=90)


def dmesg_tail(lines=40):
    """The end of the kernel's log."""
    return "\n".join(run("dmesg", status=None).out.splitlines()[-lines:])


def io_errors():
    """Lines of the kernel's log that tell of a failed request."""
    words = ("I/O error", "lost async page write", "lost sync page write", "Buffer I/O error", "metadata I/O error")
    return [line for line in run("dmesg", status=None).out.splitlines() if any(word in line for word in words)]


def now_ns():
    """The guest's wall clock."""
    return time.time_ns()
