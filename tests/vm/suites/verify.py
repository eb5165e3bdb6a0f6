#!/usr/bin/python3
# vm: disks=2x1G mem=2048 cpus=2 timeout=1200 boots=1
"""A volume is compared with its newest image while hosts write: the same while nobody meddles, exactly what was changed behind
our back when somebody does, and whole again once that was repaired. A group that is paused is not compared. Both daemons
remember what happened."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import io_errors, lasting_disk, opened, same_content  # noqa: E402
from sectors import Load  # noqa: E402
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

BACKING = "/mnt/store/v.img"
MIB = 1 << 20


def compared(*options, status):
    """What a comparison says."""
    return cli.ask("volume", "verify", "v", *options, status=status)["verified"]


def damage(sector, sectors):
    """Other content in the backing, behind everybody's back."""
    run("dd", "if=/dev/urandom", f"of={BACKING}", "bs=512", f"seek={sector}", f"count={sectors}", "conv=notrunc,fsync")


def events():
    """Every event that is kept, oldest first."""
    return cli.ask("events", "-n", "100000")["events"]


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", BACKING, size="64M")
        cli.wait_protected("v")
        with opened(device, os.O_RDWR) as fd:
            os.pwrite(fd, bytes(range(256)) * (16 * MIB // 256), 32 * MIB)
            os.fsync(fd)
        # In the lower half hosts write all the time; the upper half is left alone.
        load = Load(device, suite.seed, suite.rng, streams=4, region_sectors=8192)
        suite.later(load.stop)
        load.start()
        poll("some operations", lambda: load.check_no_error() or load.count() > 100)

    with suite.case("a-volume-that-is-written-is-the-same-as-its-image"):
        for _ in range(suite.rounds(2, 30)):
            before = load.count()
            found = compared(status=cli.OK)
            same("bytes compared", found["bytes"], 64 * MIB)
            same("differences", (found["differing"], found["unreadable"]), ([], []))
            need(load.count() > before, "the host did not go on meanwhile")

    with suite.case("what-was-changed-behind-our-back-is-found-exactly"):
        for sector, sectors in ((70_000, 8), (80_000, 24), (98_296, 8)):
            damage(sector, sectors)
        wrong = [{"sector": 70_000, "sectors": 8}, {"sector": 80_000, "sectors": 24}, {"sector": 98_296, "sectors": 8}]
        found = compared(status=cli.DEGRADED)
        same("differences", found["differing"], wrong)
        same("bytes that differ", found["differing_bytes"], 40 * 512)
        need(not found["repaired"], "repaired without being asked")
        said = cli.undisk("volume", "verify", "v", status=cli.DEGRADED)
        need("sectors 80000+24 differ" in said.out.splitlines(), said.out)

    with suite.case("repair-records-the-volume-and-then-they-are-the-same"):
        before = cli.bookmark("v", "before-the-repair")[0]
        found = compared("--repair", status=cli.DEGRADED)
        need(found["repaired"], "not repaired")
        same("differences", found["differing"], wrong)
        same("differences once repaired", compared(status=cli.OK)["differing"], [])
        need(cli.durable("v") > before, "the repair is no record")
        load.stop()
        cli.bookmark("v", "repaired")
        with cli.image_of("v@#repaired", "v") as image:
            same_content(device, image.device)
        with cli.image_of("v@#before-the-repair", "v") as image, opened(image.device, os.O_RDONLY) as fd:
            same("the image before it", os.pread(fd, 4096, 70_000 * 512), (bytes(range(256)) * 16))

    with suite.case("a-paused-group-is-not-compared-and-says-why"):
        cli.undisk("group", "pause", "v")
        done = cli.undisk("volume", "verify", "v", status=cli.REFUSED)
        need("paused" in done.err, done.err)
        same("state", cli.ask("group", "status", "v")["splitter"]["mode"], "paused")
        cli.undisk("group", "resume", "v")
        cli.wait_protected("v")

    with suite.case("events-of-both-daemons-tell-all-of-it-in-order"):
        wanted = ["device-up", "verified", "bookmark", "verified", "paused", "marking-begun", "gap-begun", "resumed",
                  "resync-begun", "resync-ended", "gap-closed"]
        poll("the end of the gap", lambda: "gap-closed" in [event["kind"] for event in events()])
        told = events()
        missing = list(wanted)
        for event in told:
            if missing and event["kind"] == missing[0]:
                missing.pop(0)
        # What two daemons see at the same moment may stand either way round.
        need(set(missing) <= {"gap-begun", "resumed", "resync-begun", "resync-ended", "gap-closed"},
             f"{missing} of {[event['kind'] for event in told]}")
        kinds = {event["kind"] for event in told}
        need(kinds >= set(wanted), f"{set(wanted) - kinds} are missing")
        need({event["daemon"] for event in told} == {"splitter", "appliance"}, "one daemon is silent")
        times = [event["time"] for event in told]
        same("order", times, sorted(times))
        for daemon in ("splitter", "appliance"):
            numbers = [event["number"] for event in told if event["daemon"] == daemon]
            same(f"numbers of the {daemon}", numbers, list(range(numbers[0], numbers[0] + len(numbers))))

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
