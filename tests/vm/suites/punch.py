#!/usr/bin/python3
# vm: disks=12G,24G,1G mem=3072 cpus=2 timeout=2400 timeout-full=7200 soak
"""Discards that can be undone, with lazy and with eager distribution: everything deleted, trimmed and discarded comes back with the
space that it had, and goes again; a terabyte costs next to nothing; kill -9 in the middle of a capture loses no older point; any
backing will do; zeros cost no journal; a journal disk without room for a capture leaves the replica as it is."""

import hashlib
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import (  # noqa: E402
    allocated, content_digest, discard, fsck_clean, fstrim, io_errors, kill9, lasting_disk, loop_device, mkfs, mounted,
    opened, same_content, zero_out,
)
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
GRANULES = 64 * 4096


def replica_of(group):
    """Where its replica is."""
    return cli.journal(group)["replica"]


def settled(group, mode):
    """Waits until all is in the journal, and until an eager replica is there."""
    cli.wait_protected(group, timeout=600)
    if mode == "lazy":
        return
    head = cli.durable(group)

    def there():
        at = replica_of(group)["position"]
        return at is not None and at >= head
    poll(f"the replica of {group} is at the newest point", there, timeout=600)


def need_space(path, wanted, what):
    """A file takes about so much."""
    need(abs(allocated(path) - wanted) <= GRANULES, f"{what}: {path} takes {allocated(path)} bytes, not {wanted}")


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
        for number in range(size * 7 // 10 // 8):
            with open(f"/mnt/live/{number}", "wb") as file:
                file.write(suite.rng.randbytes(8 * MIB))
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
    same("the volume rolled forward", content_digest(backing), hashlib.sha256().hexdigest())
    if mode == "eager":
        need_space(replica, 0, "rolled forward")
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


def killed(suite):
    """Allocated data is discarded with eager distribution: it is captured in pieces, whatever is killed meanwhile."""
    rounds = suite.rounds(1, 8)
    name, size = "killed", 1024 * rounds if rounds > 1 else 512
    backing = f"/mnt/store/{name}.img"
    with open(backing, "wb") as file:
        for _ in range(size // 8):
            file.write(suite.rng.randbytes(8 * MIB))
    device = cli.create_volume(name, backing, replica=f"/mnt/store/{name}.replica")
    cli.wait_protected(name, timeout=1200)
    cli.bookmark(name, "old")
    old = content_digest(backing)
    cli.undisk("group", "set", name, "distribution=eager", "punch-split=1MiB")
    with opened(device, os.O_RDWR) as fd:
        discard(fd, 0, size * MIB)
    kills = 0
    for _ in range(10):
        # A write of a megabyte is journaled meanwhile.
        before = cli.durable(name)
        with opened(device, os.O_RDWR) as fd:
            os.pwrite(fd, suite.rng.randbytes(MIB), suite.rng.randrange(size) * MIB)
            os.fsync(fd)
        poll("it is journaled", lambda before=before: cli.durable(name) > before, timeout=60)
        pid = cli.appliance_pid()
        kill9(pid, "journal-appliance")
        cli.restarted("appliance", pid)
        cli.wait_protected(name, timeout=600)
        kills += replica_of(name)["position"] is None
    suite.note(f"{kills} of 10 kills met it on its way")
    with cli.image_of(f"{name}@#old", name) as image:
        same("the old point", content_digest(image.device), old)
    settled(name, "eager")
    same_content(backing, f"/mnt/store/{name}.replica")
    held = replica_of(name)
    need(held["undo_bytes"] >= size * MIB * 9 // 10, held)
    poll("it is counted", lambda: replica_of(name)["undo_discard_bytes"] >= size * MIB * 8 // 10, timeout=300)
    with cli.image_of(f"{name}@#old", name) as image:
        same("the old point", content_digest(image.device), old)
    cli.undisk("rollback", f"{name}@#old", "--yes", timeout=1200)
    settled(name, "eager")
    same("the replica rolled back", content_digest(f"/mnt/store/{name}.replica"), old)
    cli.undisk("volume", "remove", name)
    os.unlink(backing)


def backings(suite):
    """The same requests on every kind of backing: the same bytes, on the volume and in the past."""
    kinds = {}
    os.makedirs("/mnt/tmp", exist_ok=True)
    run("mount", "-t", "tmpfs", "none", "/mnt/tmp")
    kinds["tmpfs"] = "/mnt/tmp/b.img"
    kinds["ext4"] = "/mnt/store/b.img"
    run("truncate", "-s", "400M", "/mnt/store/xfs.disk")
    run("truncate", "-s", "32M", "/mnt/store/loop.disk")
    run("modprobe", "brd", "rd_nr=1", "rd_size=32768", status=None)
    with loop_device("/mnt/store/xfs.disk") as disk, loop_device("/mnt/store/loop.disk") as plain:
        mkfs("xfs", disk)
        with mounted(disk, "/mnt/xfs", fs="xfs"):
            kinds["xfs"] = "/mnt/xfs/b.img"
            kinds["loop"] = plain
            if os.path.exists("/dev/ram0"):
                kinds["brd"] = "/dev/ram0"
            devices = {}
            for kind, backing in kinds.items():
                size = None if backing.startswith("/dev/") else "32M"
                devices[kind] = cli.create_volume(f"b-{kind}", backing, size=size)
                cli.wait_protected(f"b-{kind}")
            script = []
            for _ in range(150):
                what = suite.rng.choice(("write", "write", "discard", "zero"))
                sector, sectors = suite.rng.randrange(65_000), suite.rng.randint(1, 500)
                script.append((what, sector, sectors, suite.rng.randrange(1 << 30)))
            for kind, device in devices.items():
                with opened(device, os.O_RDWR) as fd:
                    os.pwrite(fd, bytes(32 * MIB), 0)
                    os.fsync(fd)
                cli.bookmark(f"b-{kind}", "zeros")
            images = {}
            for kind, device in devices.items():
                for number, (what, sector, sectors, seed) in enumerate(script):
                    with opened(device, os.O_RDWR) as fd:
                        if what == "write":
                            os.pwrite(fd, hashlib.shake_128(str(seed).encode()).digest(sectors * 512), sector * 512)
                            os.fsync(fd)
                        elif what == "discard":
                            discard(fd, sector * 512, sectors * 512)
                        else:
                            zero_out(fd, sector * 512, sectors * 512)
                    if number == 75:
                        cli.bookmark(f"b-{kind}", "middle")
                settled(f"b-{kind}", "lazy")
                with cli.image_of(f"b-{kind}@#middle", f"b-{kind}") as image:
                    images[kind] = (content_digest(device), content_digest(image.device))
            first = images["ext4"]
            for kind, found in images.items():
                same(f"content over {kind}", found, first)
            for kind in devices:
                cli.undisk("rollback", f"b-{kind}@#middle", "--yes")
                settled(f"b-{kind}", "lazy")
                same(f"{kind} rolled back", content_digest(devices[kind]), first[1])
                cli.undisk("volume", "remove", f"b-{kind}")
    run("umount", "/mnt/tmp")
    suite.note(f"over {', '.join(kinds)}")


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        lasting_disk("/dev/vdc", "/mnt/small", fresh=True)
        cli.up()

    for fs in ("ext4", "xfs"):
        for mode in ("lazy", "eager"):
            with suite.case(f"{fs}-{mode}-everything-comes-back-and-goes-again"):
                file_system(suite, fs, mode)

    for mode in ("lazy", "eager"):
        with suite.case(f"a-terabyte-costs-next-to-nothing-{mode}"):
            terabyte(suite, mode)

    with suite.case("killed-while-capturing-no-older-point-is-lost"):
        killed(suite)

    with suite.case("every-backing-holds-the-same-bytes"):
        backings(suite)

    with suite.case("zeros-cost-no-journal"):
        device = cli.create_volume("z", "/mnt/store/z.img", size="1G")
        cli.wait_protected("z")
        used = cli.journal("z")["used_bytes"]
        with opened(device, os.O_RDWR) as fd:
            for number in range(128 * suite.rounds(1, 8)):
                os.pwrite(fd, bytes(MIB), number * MIB)
            os.fsync(fd)
        settled("z", "lazy")
        need(cli.journal("z")["used_bytes"] - used < MIB, f"{cli.journal('z')['used_bytes'] - used} bytes")

    with suite.case("without-room-for-a-capture-the-replica-stays-and-that-is-said"):
        with open("/mnt/store/n.img", "wb") as file:
            file.write(suite.rng.randbytes(96 * MIB))
        cli.undisk("group", "create", "n", "--journal", "/mnt/small/n")
        device = cli.create_volume("n", "/mnt/store/n.img", group="n", replica="/mnt/store/n.replica")
        cli.wait_protected("n")
        cli.bookmark("n", "joined")
        joined = content_digest("/mnt/store/n.img")
        status = os.statvfs("/mnt/small")
        room = status.f_bavail * status.f_frsize
        run("fallocate", "-l", str(room - 40 * MIB), "/mnt/small/filler")
        cli.undisk("group", "set", "n", "distribution=eager", "journal-full=stop")
        with opened(device, os.O_RDWR) as fd:
            discard(fd, 0, 96 * MIB)
        poll("it waits", lambda: replica_of("n")["held_back_by"] is not None, timeout=200)
        suite.note(str(replica_of("n")))
        need(any(event["kind"] == "alarm" for event in cli.ask("events", "-n", "100000")["events"]), "no alarm")
        with cli.image_of("n@#joined", "n") as image:
            same("the image", content_digest(image.device), joined)
        os.unlink("/mnt/small/filler")
        settled("n", "eager")
        same_content("/mnt/store/n.img", "/mnt/store/n.replica")
        with cli.image_of("n@#joined", "n") as image:
            same("the image", content_digest(image.device), joined)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down(status=(cli.OK, cli.DEGRADED))


Suite().main(body)
