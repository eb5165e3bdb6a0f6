#!/usr/bin/python3
# vm: disks=2x1G mem=2048 cpus=2 timeout=1000 boots=1
"""A resynchronisation reads what hosts are writing at that very moment: nothing that it read wins over a newer write, in no
image behind it, however often it is repeated."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import io_errors, lasting_disk, same_content  # noqa: E402
from sectors import Load  # noqa: E402
from undisk_suite import Suite, poll, same  # noqa: E402


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="16M")
        cli.wait_protected("v")
        # All of it is hot, and all of it fits into one read of the resynchronisation.
        load = Load(device, suite.seed, suite.rng, streams=6, region_sectors=128)
        suite.later(load.stop)
        load.start()
        poll("some operations", lambda: load.check_no_error() or load.count() > 100)

    for number in range(1, suite.rounds(8, 200) + 1):
        with suite.case(f"resynchronisation-{number}-loses-no-write", fatal=True):
            suite.later(load.stop)
            cli.undisk("group", "resync", "v", "--wait")
            position, label = cli.bookmark("v", f"after-{number}")
            with cli.image_of(f"v@#after-{number}", "v") as image:
                same("position", image.position, position)
                load.judge(image.device, label_ns=label)

    with suite.case("image-at-latest-is-byte-identical"):
        load.stop()
        load.judge(device, complete=True)
        cli.bookmark("v", "end")
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
