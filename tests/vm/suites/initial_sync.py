#!/usr/bin/python3
# vm: disks=2x2G,128M mem=2048 cpus=2 timeout=1000 boots=1
"""A backing that already holds data becomes a volume, while the host writes to it from the first moment: the image at the
end is the volume byte for byte, every image before is a moment that was, and zeros stay holes in the replica."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import allocated, io_errors, lasting_disk, opened, read_direct, same_content  # noqa: E402
from sectors import Load  # noqa: E402
from undisk_suite import Suite, need, poll, same  # noqa: E402

MIB = 1 << 20


def prepare(path, rng, size, data, first):
    """Fills pieces of a file or device with data, leaves the rest as holes or zeros; returns {offset: content}.

    Nothing below `first`, where the host will write."""
    pieces = {}
    places = rng.sample(range(first // MIB, size // MIB), data)
    # A device is not sparse: what was there before must be zeros, or it is data.
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        if path.startswith("/dev/"):
            for offset in range(0, size, MIB):
                os.pwrite(fd, bytes(MIB), offset)
        else:
            os.ftruncate(fd, size)
        for place in places:
            # Not only whole MiB: pieces begin and end at any sector.
            start, length = place * MIB + 512 * rng.randrange(8), MIB - 512 * rng.randrange(8, 16)
            pieces[start] = rng.randbytes(length)
            os.pwrite(fd, pieces[start], start)
        # Allocated zeros: blocks that a file has, but that read zero.
        for place in rng.sample([place for place in range(first // MIB, size // MIB) if place not in places], 8):
            os.pwrite(fd, bytes(MIB), place * MIB)
        os.fsync(fd)
    return pieces


def check_pieces(device, pieces):
    """Every piece that was there before is there."""
    for start, content in pieces.items():
        begin, end = start // 4096 * 4096, -(-(start + len(content)) // 4096) * 4096
        found = read_direct(device, begin, end - begin)
        need(found[start - begin : start - begin + len(content)] == content, f"{device}: data at {start} is not what was")


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("daemons-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()

    before = {}
    for name, backing, size, data in (("file", "/mnt/store/old.img", 512 * MIB, 60), ("disk", "/dev/vdc", 128 * MIB, 20)):
        with suite.case(f"{name}-with-data-becomes-a-volume-while-the-host-writes", fatal=True):
            pieces = before[name] = prepare(backing, suite.rng, size, data, first=16 * MIB)
            same("size", os.stat(backing).st_size if name == "file" else size, size)
            device = cli.create_volume(name, backing)
            load = Load(device, suite.seed, suite.rng, streams=4, region_sectors=4096)
            suite.later(load.stop)
            load.start()
            check_pieces(device, pieces)
            running = cli.volume(name)["sync"]
            cli.wait_protected(name, timeout=400)
            position, label = cli.bookmark(name, "joined")
            suite.note(f"{load.count()} operations of the host meanwhile; while it ran: {running}")
            goal = load.count() + suite.rounds(200, 2000)
            poll("the host writes on", lambda: load.check_no_error() or load.count() >= goal)
            load.stop()
            end, _ = cli.bookmark(name, "end")

        with suite.case(f"{name}-image-at-latest-is-byte-identical"):
            load.judge(device, complete=True)
            with cli.image_of(f"{name}@latest", name) as image:
                same_content(device, image.device)
                check_pieces(image.device, pieces)

        with suite.case(f"{name}-images-since-the-joining-are-moments-that-were"):
            oldest = cli.timeline(name)["window"]["oldest"]
            need(oldest <= position, f"the bookmark at {position} is before the window, which begins at {oldest}")
            for point in [position] + cli.random_positions(suite.rng, position, end, suite.rounds(2, 20), cli.gaps(name)):
                with cli.image_of(f"{name}@seq:{point}", name) as image:
                    load.judge(image.device, label_ns=image.time_ns)
                    check_pieces(image.device, pieces)

        with suite.case(f"{name}-zeros-stay-holes-in-the-replica"):
            replica = next(m["replica"] for m in cli.group(name)["volumes"] if m["name"] == name)
            taken = allocated(replica)
            # The host's regions are 8 MiB; every piece of data is at most a MiB and a block at either end.
            most = (data + 8 + 4) * MIB
            suite.note(f"replica {replica} takes {taken / MIB:.1f} MiB of {size // MIB}")
            need(taken <= most, f"the replica takes {taken} bytes, more than {most}")
            need(taken >= data * MIB * 9 // 10, f"the replica takes only {taken} bytes: where is the data?")

    with suite.case("data-of-before-survives-a-rollback-to-the-joining"):
        cli.undisk("rollback", "file@#joined", "--yes")
        poll("the volume is served", lambda: cli.volume("file")["state"] == "live", timeout=120)
        check_pieces(cli.volume("file")["device"], before["file"])
        with cli.image_of("file@latest", "file") as image:
            same_content(cli.volume("file")["device"], image.device)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
