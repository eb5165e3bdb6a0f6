#!/usr/bin/python3
# vm: disks=12G,24G mem=3072 cpus=2 timeout=2400 timeout-full=7200 soak
"""Discards that can be undone, with lazy and with eager distribution: everything deleted, trimmed and discarded comes back with the
space that it had, and goes again; a terabyte costs next to nothing."""

import hashlib
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from captures import replica_of, settled  # noqa: E402
from machine import (  # noqa: E402
    allocated, content_digest, discard, fsck_clean, fstrim, io_errors, lasting_disk, mkfs, mounted, nothing_digest, opened,
    same_content, zero_out,
)
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
GRANULES = 64 * 4096


def need_space(path, wanted, what):
    """A file takes about so much."""
    need(abs(allocated(path) - wanted) <= GRANULES, f"{what}: {path} takes {allocated(path)} bytes, not {wanted}")


def used(folder):
    """How much of a mounted file system is used, from 0 to 1."""
    now = os.statvfs(folder)
    return 1 - now.f_bfree / now.f_blocks


def sums(folder):
    """SHA-256 of every file."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
                    else hashlib.sha256(file.read()).hexdigest()
    return found


def file_system(suite, fs, mode):
    """Fill, bookmark, delete, trim, discard; back, and forth again."""
    name = f"{fs}-{mode}"
    backing, replica = f"/mnt/store/{name}.img", f"/mnt/store/{name}.replica"
    size = 320 + 100 * (suite.rounds(1, 8) - 1)
    device = cli.create_volume(name, backing, size=f"{size}M", replica=replica)
    cli.wait_protected(name)
    cli.undisk("group", "set", name, f"distribution={mode}")
    mkfs(fs, device)
    with mounted(device, "/mnt/live", fs=fs):
        number = 0
        while used("/mnt/live") < 0.8:
            with open(f"/mnt/live/{number}", "wb") as file:
                file.write(suite.rng.randbytes(2 * MIB))
                file.flush()
                os.fsync(file.fileno())
            number += 1
        os.sync()
        files = sums("/mnt/live")
    settled(name, mode)
    cli.bookmark(name, "full")
    full, space = content_digest(backing), allocated(backing)
    with mounted(device, "/mnt/live", fs=fs):
        for number in files:
            os.unlink(f"/mnt/live/{number}")
        os.sync()
        fstrim("/mnt/live")
    with opened(device, os.O_RDWR) as fd:
        discard(fd, 0, size * MIB)
    settled(name, mode)
    need_space(backing, 0, "everything was discarded")
    with cli.image_of(f"{name}@#full", name, rw=True) as image:
        with mounted(image.device, "/mnt/past", "nouuid" if fs == "xfs" else "", fs) as folder:
            same("files of the image", sums(folder), files)
        fsck_clean(fs, image.device)
    if mode == "eager":
        need_space(replica, 0, "everything was discarded")
        need(replica_of(name)["undo_bytes"] <= 64 * MIB, f"{replica_of(name)}: what the log has is held twice")
    undo = cli.ask("rollback", f"{name}@#full", "--yes", timeout=600)["rollback"]["undo_bookmark"]
    settled(name, mode)
    same("the volume rolled back", content_digest(backing), full)
    need_space(backing, space, "rolled back")
    if mode == "eager":
        same_content(backing, replica)
        need_space(replica, space, "rolled back")
    cli.undisk("rollback", f"{name}@#{undo}", "--yes", timeout=600)
    settled(name, mode)
    need_space(backing, 0, "rolled forward")
    same("the volume rolled forward", content_digest(backing), nothing_digest())
    if mode == "eager":
        need_space(replica, 0, "rolled forward")
    cli.undisk("volume", "remove", name)
    os.unlink(backing)


def taken(suite, mode):
    """Space that was taken and holds zeros is no hole: it is there again after a discard was undone."""
    name = f"taken-{mode}"
    backing, replica = f"/mnt/store/{name}.img", f"/mnt/store/{name}.replica"
    size, thick = 64, 40
    with open(backing, "wb") as file:
        file.write(suite.rng.randbytes(4 * MIB))
        # Written zeros, space that was never written, and holes behind it.
        file.write(bytes(6 * MIB))
        os.posix_fallocate(file.fileno(), 10 * MIB, (thick - 10) * MIB)
        file.truncate(size * MIB)
    device = cli.create_volume(name, backing, replica=replica)
    cli.wait_protected(name)
    need_space(replica, thick * MIB, "joined")
    cli.undisk("group", "set", name, f"distribution={mode}")
    with opened(device, os.O_RDWR) as fd:
        zero_out(fd, 50 * MIB, 2 * MIB)
        os.fsync(fd)
    settled(name, mode)
    need_space(backing, (thick + 2) * MIB, "zeros were written")
    cli.bookmark(name, "thick")
    with opened(device, os.O_RDWR) as fd:
        discard(fd, 0, size * MIB)
    settled(name, mode)
    need_space(backing, 0, "everything was discarded")
    if mode == "eager":
        need_space(replica, 0, "everything was discarded")
    undo = cli.ask("rollback", f"{name}@#thick", "--yes", timeout=600)["rollback"]["undo_bookmark"]
    settled(name, mode)
    need_space(backing, (thick + 2) * MIB, "rolled back")
    if mode == "eager":
        need_space(replica, (thick + 2) * MIB, "rolled back")
    cli.undisk("rollback", f"{name}@#{undo}", "--yes", timeout=600)
    settled(name, mode)
    need_space(backing, 0, "rolled forward")
    cli.undisk("volume", "remove", name)
    os.unlink(backing)


def resident(pid):
    """Bytes of memory that a process has."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def terabyte(suite, mode):
    """All of a sparse terabyte is discarded, and is back at once."""
    name = f"tib-{mode}"
    device = cli.create_volume(name, f"/mnt/store/{name}.img", size="1T", replica=f"/mnt/store/{name}.replica")
    cli.wait_protected(name)
    cli.undisk("group", "set", name, f"distribution={mode}")
    places = [suite.rng.randrange(1 << 18) << 22 for _ in range(20)]
    data = suite.rng.randbytes(4096)
    with opened(device, os.O_RDWR) as fd:
        for place in places:
            os.pwrite(fd, data, place)
        os.fsync(fd)
    settled(name, mode)
    cli.bookmark(name, "before")
    settled(name, mode)
    memory, used = resident(cli.appliance_pid()), cli.journal(name)["used_bytes"]
    peak = memory
    began = time.monotonic()
    with opened(device, os.O_RDWR) as fd:
        discard(fd, 0, 1 << 40)
    took = time.monotonic() - began
    for _ in range(20):
        peak = max(peak, resident(cli.appliance_pid()))
        cli.wait_protected(name)
    settled(name, mode)
    peak = max(peak, resident(cli.appliance_pid()))
    suite.note(f"{mode}: {took:.3f} s, {cli.journal(name)['used_bytes'] - used} bytes of journal, {(peak - memory) >> 10} KiB of memory")
    need(cli.journal(name)["used_bytes"] - used < MIB, "it took a megabyte of the journal")
    need(peak - memory <= 64 * MIB, f"it took {peak - memory} bytes of memory")
    need_space(f"/mnt/store/{name}.img", 0, "a terabyte was discarded")
    with cli.image_of(f"{name}@#before", name) as image, opened(image.device, os.O_RDONLY) as fd:
        for place in places:
            same(f"the image at {place}", os.pread(fd, 4096, place), data)
    cli.undisk("rollback", f"{name}@#before", "--yes")
    settled(name, mode)
    with opened(device, os.O_RDONLY) as fd:
        for place in places:
            same(f"the volume at {place}", os.pread(fd, 4096, place), data)
    cli.undisk("volume", "remove", name)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()

    for fs in ("ext4", "xfs"):
        for mode in ("lazy", "eager"):
            with suite.case(f"{fs}-{mode}-everything-comes-back-and-goes-again"):
                file_system(suite, fs, mode)

    for mode in ("lazy", "eager"):
        with suite.case(f"space-that-was-taken-comes-back-{mode}"):
            taken(suite, mode)

    for mode in ("lazy", "eager"):
        with suite.case(f"a-terabyte-costs-next-to-nothing-{mode}"):
            terabyte(suite, mode)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down(status=(cli.OK, cli.DEGRADED))


Suite().main(body)
