#!/usr/bin/python3
# vm: disks=24G,40G,1G,1G mem=3072 cpus=2 timeout=1500 timeout-full=7200 soak
"""What may happen to a capture and to what is captured: kill -9 in the middle loses no older point; a journal disk without room for
it, or one that answers EIO, leaves the replica as it is and says so; any backing will do, one that cannot punch as well; zeros cost no
journal."""

import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from captures import replica_of, settled  # noqa: E402
from machine import (  # noqa: E402
    content_digest, discard, dm, dm_becomes, io_errors, kill9, lasting_disk, loop_device, mkfs, mount, mounted, opened,
    same_content, size_of, umount, zero_out,
)
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20


def killed(suite):
    """Allocated data is discarded with eager distribution: it is captured in pieces, whatever is killed meanwhile."""
    rounds = suite.rounds(1, 8)
    name, size = "killed", 1024 * rounds if rounds > 1 else 512
    backing = f"/mnt/store/{name}.img"
    base = suite.rng.randbytes(8 * MIB)
    with open(backing, "wb") as file:
        for _ in range(size // 8):
            # Turned by a random number of bytes: no two blocks of it are alike.
            turn = suite.rng.randrange(8 * MIB)
            file.write(base[turn:])
            file.write(base[:turn])
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
    need(kills == 10 or rounds == 1, f"only {kills} of 10 kills met it on its way")
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


def backings(suite, mode):
    """The same requests on every kind of backing: the same bytes, on the volume, in its replica and in the past."""
    kinds = {}

    def replica(kind):
        return f"/mnt/store/{mode}-{kind}.replica"

    os.makedirs("/mnt/tmp", exist_ok=True)
    run("mount", "-t", "tmpfs", "none", "/mnt/tmp")
    kinds["tmpfs"] = "/mnt/tmp/b.img"
    kinds["ext4"] = "/mnt/store/b.img"
    run("truncate", "-s", "400M", "/mnt/store/xfs.disk")
    run("truncate", "-s", "32M", "/mnt/store/loop.disk")
    # A loop device over it cannot punch.
    os.makedirs("/mnt/ram", exist_ok=True)
    run("mount", "-t", "ramfs", "none", "/mnt/ram")
    run("truncate", "-s", "32M", "/mnt/ram/dull.disk")
    run("truncate", "-s", "160M", "/mnt/store/pool.disk")
    run("modprobe", "brd", "rd_nr=1", "rd_size=32768", status=None)
    with loop_device("/mnt/store/xfs.disk") as disk, loop_device("/mnt/store/loop.disk") as plain, \
            loop_device("/mnt/store/pool.disk") as pool, loop_device("/mnt/ram/dull.disk") as dull:
        kinds["dull"] = dull
        mkfs("xfs", disk)
        dm("meta", f"0 65536 linear {pool} 0")
        dm("data", f"0 {size_of(pool) // 512 - 65536} linear {pool} 65536")
        dm("pool", f"0 {size_of(pool) // 512 - 65536} thin-pool /dev/mapper/meta /dev/mapper/data 128 0")
        run("dmsetup", "message", "/dev/mapper/pool", "0", "create_thin 0")
        kinds["thin"] = dm("thin", "0 65536 thin /dev/mapper/pool 0")
        with mounted(disk, "/mnt/xfs", fs="xfs"):
            kinds["xfs"] = "/mnt/xfs/b.img"
            kinds["loop"] = plain
            if os.path.exists("/dev/ram0"):
                kinds["brd"] = "/dev/ram0"
            devices = {}
            for kind, backing in kinds.items():
                size = None if backing.startswith("/dev/") else "32M"
                devices[kind] = cli.create_volume(f"{mode}-{kind}", backing, size=size, replica=replica(kind))
                cli.wait_protected(f"{mode}-{kind}")
                cli.undisk("group", "set", f"{mode}-{kind}", f"distribution={mode}")
            script = []
            for _ in range(150):
                what = suite.rng.choice(("write", "write", "discard", "zero"))
                sector, sectors = suite.rng.randrange(65_000), suite.rng.randint(1, 500)
                script.append((what, sector, sectors, suite.rng.randrange(1 << 30)))
            for kind, device in devices.items():
                with opened(device, os.O_RDWR) as fd:
                    os.pwrite(fd, bytes(32 * MIB), 0)
                    os.fsync(fd)
                cli.bookmark(f"{mode}-{kind}", "zeros")
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
                        cli.bookmark(f"{mode}-{kind}", "middle")
                settled(f"{mode}-{kind}", mode)
                with cli.image_of(f"{mode}-{kind}@#middle", f"{mode}-{kind}") as image:
                    images[kind] = (content_digest(device), content_digest(image.device))
                if mode == "eager":
                    same(f"replica of {kind}", content_digest(replica(kind)), images[kind][0])
            # Learned from the first that was refused.
            punches = {kind: cli.volume(f"{mode}-{kind}")["punches"] for kind in devices}
            suite.note(f"whether they punch: {punches}")
            for kind, wanted in (("tmpfs", True), ("ext4", True), ("xfs", True), ("loop", True), ("dull", False)):
                same(f"{kind} punches", punches[kind], wanted)
            first = images["ext4"]
            for kind, found in images.items():
                same(f"content over {kind}", found, first)
            for kind in devices:
                cli.undisk("rollback", f"{mode}-{kind}@#middle", "--yes")
                settled(f"{mode}-{kind}", mode)
                same(f"{kind} rolled back", content_digest(devices[kind]), first[1])
                if mode == "eager":
                    same(f"replica of {kind} rolled back", content_digest(replica(kind)), first[1])
                cli.undisk("volume", "remove", f"{mode}-{kind}")
        for name in ("thin", "pool", "data", "meta"):
            run("dmsetup", "remove", "--noudevsync", name)
    umount("/mnt/tmp")
    umount("/mnt/ram")
    for left in ("b.img", "xfs.disk", "loop.disk", "pool.disk"):
        os.unlink(f"/mnt/store/{left}")
    suite.note(f"over {', '.join(kinds)}")


def zeros(suite, mode):
    """A gigabyte of zeros from the host."""
    name, size = f"zeros-{mode}", 128 * suite.rounds(1, 8)
    device = cli.create_volume(name, f"/mnt/store/{name}.img", size="1G")
    cli.wait_protected(name)
    cli.undisk("group", "set", name, f"distribution={mode}")
    used = cli.journal(name)["used_bytes"]
    with opened(device, os.O_RDWR) as fd:
        for number in range(size):
            os.pwrite(fd, bytes(MIB), number * MIB)
        os.fsync(fd)
    settled(name, mode)
    grown = cli.journal(name)["used_bytes"] - used
    suite.note(f"{size} MiB of zeros: {grown} bytes")
    need(grown < MIB, f"{grown} bytes")
    cli.undisk("volume", "remove", name)


def alarms(group):
    """How many alarms there were of that group."""
    events = cli.ask("events", "-n", "100000")["events"]
    return sum(event["kind"] == "alarm" and event.get("group") == group for event in events)


def broken(suite):
    """What is captured goes to a disk of its own, which answers EIO to every write, and then no more."""
    backing, sectors = "/mnt/store/e.img", 512 * 2048
    with open(backing, "wb") as file:
        file.write(suite.rng.randbytes(96 * MIB))
    sound, broken = f"0 {sectors} linear /dev/vdd 0", f"0 {sectors} flakey /dev/vdd 0 0 1 1 error_writes"
    disk = dm("brittle", sound)
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", disk, timeout=300)
    cli.undisk("group", "create", "e", "--journal", "/mnt/store/e-journal")
    mount(disk, "/mnt/store/e-journal/undo", fs="ext4")
    device = cli.create_volume("e", backing, group="e", replica="/mnt/store/e.replica")
    cli.wait_protected("e")
    cli.bookmark("e", "joined")
    joined = content_digest(backing)
    cli.undisk("group", "set", "e", "distribution=eager")
    before = alarms("e")
    dm_becomes("brittle", broken)
    with opened(device, os.O_RDWR) as fd:
        discard(fd, 0, 96 * MIB)
    poll("it waits", lambda: replica_of("e")["held_back_by"] is not None, timeout=200)
    suite.note(replica_of("e")["held_back_by"])
    poll("there is an alarm", lambda: alarms("e") > before, timeout=60)
    same("the replica", content_digest("/mnt/store/e.replica"), joined)
    # Hosts and the journal know nothing of it.
    before = cli.durable("e")
    with opened(device, os.O_RDWR) as fd:
        os.pwrite(fd, suite.rng.randbytes(MIB), 5 * MIB)
        os.fsync(fd)
    poll("it is journaled", lambda: cli.durable("e") > before, timeout=60)
    with cli.image_of("e@#joined", "e") as image:
        same("the image", content_digest(image.device), joined)
    dm_becomes("brittle", sound)
    settled("e", "eager")
    same_content(backing, "/mnt/store/e.replica")
    with cli.image_of("e@#joined", "e") as image:
        same("the image", content_digest(image.device), joined)
    cli.undisk("rollback", "e@#joined", "--yes")
    settled("e", "eager")
    same("the replica rolled back", content_digest("/mnt/store/e.replica"), joined)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        lasting_disk("/dev/vdc", "/mnt/small", fresh=True)
        cli.up()

    with suite.case("killed-while-capturing-no-older-point-is-lost"):
        killed(suite)

    for mode in ("lazy", "eager"):
        with suite.case(f"every-backing-holds-the-same-bytes-{mode}"):
            backings(suite, mode)

    for mode in ("lazy", "eager"):
        with suite.case(f"zeros-cost-no-journal-{mode}"):
            zeros(suite, mode)

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
        poll("there is an alarm", lambda: alarms("n") > 0, timeout=60)
        with cli.image_of("n@#joined", "n") as image:
            same("the image", content_digest(image.device), joined)
        os.unlink("/mnt/small/filler")
        settled("n", "eager")
        same_content("/mnt/store/n.img", "/mnt/store/n.replica")
        with cli.image_of("n@#joined", "n") as image:
            same("the image", content_digest(image.device), joined)

    with suite.case("the-host-saw-no-error"):
        same("errors in the kernel's log", io_errors(), [])

    with suite.case("a-disk-that-fails-under-a-capture-leaves-the-replica-and-it-goes-on-when-it-does-not"):
        broken(suite)

    with suite.case("down-is-clean"):
        cli.down(status=(cli.OK, cli.DEGRADED))


Suite().main(body)
