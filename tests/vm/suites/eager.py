#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1500 boots=1
"""With `distribution=eager` the replica is a plain disk, the same as the volume, holes and all; every older point stays what it
was, through discards, rollbacks and kill -9 of the appliance in the middle; and back with `lazy` nothing is held any more."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from captures import arrived  # noqa: E402
from machine import (  # noqa: E402
    allocated, content_digest, discard, fsck_clean, fstrim, io_errors, kill9, lasting_disk, mkfs, mounted, opened,
    same_content,
)
from sectors import Load  # noqa: E402
from undisk_suite import Suite, need, poll, same  # noqa: E402

BACKING, REPLICA = "/mnt/store/v.img", "/mnt/store/v.replica"
MIB = 1 << 20
SIZE = 112 * MIB
# A file system's own bookkeeping may take a block more or less for the same extents.
GRANULES = 64 * 4096


def replica():
    """Where the replicas are."""
    return cli.journal("v")["replica"]


def same_space(left, right):
    """Both take as much room, but for what a file system's bookkeeping may differ by."""
    one, other = allocated(left), allocated(right)
    need(abs(one - other) <= GRANULES, f"{left} takes {one} bytes, {right} {other}")


def plain():
    """The replica is the volume, byte for byte and hole for hole."""
    arrived("v")
    same_content(BACKING, REPLICA)
    same_space(BACKING, REPLICA)


def digest_of(mark):
    """What a bookmark's image holds."""
    with cli.image_of(f"v@#{mark}", "v") as image:
        return content_digest(image.device)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", BACKING, size=f"{SIZE // MIB}M", replica=REPLICA)
        cli.wait_protected("v")
        same("position of a lazy replica", replica()["position"], None)
        cli.undisk("group", "set", "v", "distribution=eager")

    with suite.case("a-replica-is-a-plain-disk", fatal=True):
        mkfs("ext4", device)
        with mounted(device, "/mnt/v"):
            for number in range(10):
                with open(f"/mnt/v/file{number}", "wb") as file:
                    file.write(suite.rng.randbytes(4 * MIB))
        plain()
        fsck_clean("ext4", REPLICA)
        cli.bookmark("v", "full")
        full, space = content_digest(BACKING), allocated(BACKING)
        same("the image", digest_of("full"), full)

    with suite.case("discarding-everything-frees-the-replica-and-no-point-is-lost", fatal=True):
        with mounted(device, "/mnt/v"):
            for number in range(10):
                os.unlink(f"/mnt/v/file{number}")
            fstrim("/mnt/v")
        plain()
        cli.bookmark("v", "empty")
        with opened(device, os.O_RDWR) as fd:
            discard(fd, 0, SIZE)
        plain()
        need(allocated(REPLICA) <= GRANULES, f"the replica takes {allocated(REPLICA)} bytes")
        same("the image", digest_of("full"), full)

    with suite.case("a-rollback-brings-the-replica-back-and-forth", fatal=True):
        before = cli.ask("rollback", "v@#full", "--yes")["rollback"]["undo_bookmark"]
        poll("the backing is restored", lambda: cli.health("v") == "protected", timeout=300)
        plain()
        same("the replica", content_digest(REPLICA), full)
        need(abs(allocated(REPLICA) - space) <= GRANULES, f"{allocated(REPLICA)} bytes instead of {space}")
        cli.undisk("rollback", f"v@#{before}", "--yes")
        poll("the backing is restored", lambda: cli.health("v") == "protected", timeout=300)
        plain()
        need(allocated(REPLICA) <= GRANULES, f"the replica takes {allocated(REPLICA)} bytes")
        cli.undisk("rollback", "v@#full", "--yes")
        plain()

    with suite.case("killed-on-its-way-it-goes-on-and-no-point-is-lost", fatal=True):
        with opened(device, os.O_RDWR) as fd:
            discard(fd, 32 * MIB, 32 * MIB)
        load = Load(device, suite.seed, suite.rng, streams=4, region_sectors=16384, first=65536)
        suite.later(load.stop)
        load.start()
        for number in range(suite.rounds(2, 30)):
            goal = load.count() + suite.rng.randint(50, 400)
            poll("the load has gone on", lambda goal=goal: load.check_no_error() or load.count() >= goal)
            with opened(device, os.O_RDWR) as fd:
                # A large discard keeps it busy: the capture of what was there.
                discard(fd, (64 + 8 * (number % 6)) * MIB, 8 * MIB)
            old = cli.appliance_pid()
            kill9(old, "journal-appliance")
            cli.restarted("appliance", old)
            cli.wait_protected("v")
            same("the image", digest_of("full"), full)
        load.stop()
        plain()
        load.judge(REPLICA, complete=True)
        same("the image", digest_of("full"), full)
        position, _ = cli.bookmark("v", "end")
        for number in cli.random_positions(suite.rng, position // 2, position, suite.rounds(3, 30), cli.gaps("v")):
            with cli.image_of(f"v@seq:{number}", "v") as image:
                load.judge(image.device, label_ns=image.time_ns)
        same("findings", cli.findings("v"), [])

    with suite.case("a-limit-of-what-is-held-makes-it-wait-aloud-and-no-point-is-lost"):
        # What a volume joined with is in its replica only.
        with open("/mnt/store/w.img", "wb") as file:
            file.write(suite.rng.randbytes(48 * MIB))
        other = cli.create_volume("w", "/mnt/store/w.img", replica="/mnt/store/w.replica")
        cli.wait_protected("w")
        cli.bookmark("w", "joined")
        joined = content_digest("/mnt/store/w.img")
        cli.undisk("group", "set", "w", "distribution=eager", "undo-limit=16MiB")
        with opened(other, os.O_RDWR) as fd:
            os.pwrite(fd, suite.rng.randbytes(32 * MIB), 0)
            os.fsync(fd)
        # Each time it tries again it is said to be on its way, until it comes to what does not fit.
        poll("it waits", lambda: "may take" in (cli.journal("w")["replica"]["held_back_by"] or ""), timeout=120)
        need(any(event["kind"] == "alarm" for event in cli.ask("events", "-n", "100000")["events"]), "no alarm")
        with cli.image_of("w@#joined", "w") as image:
            same("the image", content_digest(image.device), joined)
        cli.undisk("group", "set", "w", "undo-limit=none")
        arrived("w")
        same_content("/mnt/store/w.img", "/mnt/store/w.replica")
        need(cli.journal("w")["replica"]["undo_bytes"] >= 32 * MIB, cli.journal("w")["replica"])
        poll("nothing is in the way", lambda: cli.journal("w")["replica"]["held_back_by"] is None)
        with cli.image_of("w@#joined", "w") as image:
            same("the image", content_digest(image.device), joined)
        cli.undisk("group", "set", "w", "distribution=lazy")
        poll("it went back", lambda: cli.journal("w")["replica"]["undo_bytes"] == 0, timeout=300)
        same("the replica", content_digest("/mnt/store/w.replica"), joined)

    with suite.case("lazy-again-nothing-is-held-and-every-point-is-there"):
        marks = {mark: digest_of(mark) for mark in ("full", "empty", "end")}
        cli.undisk("group", "set", "v", "distribution=lazy")
        poll("it went back", lambda: replica()["undo_bytes"] == 0 and replica()["position"] is None, timeout=300)
        for mark, digest in marks.items():
            same(f"the image of {mark}", digest_of(mark), digest)
        same("full", marks["full"], full)
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
