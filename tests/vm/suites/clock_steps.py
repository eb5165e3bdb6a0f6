#!/usr/bin/python3
# vm: disks=2x1G mem=2048 cpus=2 timeout=1000 boots=1
"""The wall clock is stepped by a day, forward and backward, while a host writes and while both daemons are started again:
order, labels and images do not care. A label never goes back, and a record's label is not before that of a record that was
laid earlier."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import Aligned, content_digest, io_errors, kill9, lasting_disk, opened, same_content  # noqa: E402
from undisk_suite import Suite, need, same  # noqa: E402

DAY = 86_400
BLOCK = 4096


def step_clock(seconds):
    """Sets the wall clock so many seconds forward, or backward."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def write_some(device, rng, count=40):
    """Writes random blocks at random places of the first MiB."""
    buffer = Aligned(BLOCK)
    with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
        for _ in range(count):
            buffer.write(fd, rng.randrange(256) * BLOCK, rng.randbytes(BLOCK))
        os.fsync(fd)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    marks = []

    def mark(name):
        write_some(device, suite.rng)
        position, label = cli.bookmark("v", name)
        marks.append((name, position, label, content_digest(device)))
        write_some(device, suite.rng, count=5)

    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="16M")
        cli.wait_protected("v")
        mark("before")

    with suite.case("steps-of-the-clock-change-no-order", fatal=True):
        for name, seconds in (("a-day-later", DAY), ("a-day-earlier", -2 * DAY), ("back", DAY)):
            step_clock(seconds)
            mark(name)

    with suite.case("steps-of-the-clock-while-daemons-die-change-no-order", fatal=True):
        old = cli.splitter_pid()
        kill9(old, "ublk-splitter")
        step_clock(-DAY)
        cli.restarted("splitter", old)
        mark("splitter-killed-and-a-day-earlier")
        old = cli.appliance_pid()
        kill9(old, "journal-appliance")
        step_clock(2 * DAY)
        cli.restarted("appliance", old)
        cli.wait_protected("v")
        mark("appliance-killed-and-two-days-later")
        step_clock(-DAY)
        cli.down()
        cli.up()
        cli.wait_protected("v")
        mark("taken-down-and-a-day-earlier")

    with suite.case("positions-and-labels-only-rise"):
        positions = [position for _, position, _, _ in marks]
        labels = [label for _, _, label, _ in marks]
        same("positions", positions, sorted(positions))
        need(labels == sorted(set(labels)), f"labels do not rise: {labels}")
        same("gaps", cli.gaps("v"), [])

    with suite.case("every-image-is-as-it-was"):
        for name, position, _, digest in marks:
            with cli.image_of(f"v@#{name}", "v") as image:
                same(f"position of {name}", image.position, position)
                same(f"content at {name}", content_digest(image.device), digest)
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
