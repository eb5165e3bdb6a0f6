#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 boots=1
"""kill -9 of the appliance in the middle of a write load: the host sees no error, the appliance comes back, the splitter
sends again, nothing that was durable is missing, there is no gap, and every image is a moment that was."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import io_errors, kill9, lasting_disk, same_content  # noqa: E402
from sectors import Load  # noqa: E402
from undisk_suite import Suite, need, poll, same  # noqa: E402


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    kills = suite.rounds(3, 20)

    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="64M")
        cli.wait_protected("v")
        first, _ = cli.bookmark("v", "start")
        gaps = cli.gaps("v")

    load = Load(device, suite.seed, suite.rng, streams=6, region_sectors=4096)
    marks = []
    with suite.case("appliance-killed-under-load-comes-back", fatal=True):
        suite.later(load.stop)
        load.start()
        for number in range(1, kills + 1):
            goal = load.count() + suite.rng.randint(50, 300)
            poll("the load has gone on", lambda: load.check_no_error() or load.count() >= goal)
            old, durable = cli.appliance_pid(), cli.durable("v")
            kill9(old, "journal-appliance")
            goal = load.count() + 100
            poll("the host writes on without the appliance", lambda: load.check_no_error() or load.count() >= goal)
            new = cli.restarted("appliance", old)
            cli.wait_protected("v")
            held = cli.durable("v")
            need(held >= durable, f"position {durable} was durable, after the kill only {held} is")
            position, label = cli.bookmark("v", f"after-kill-{number}")
            marks.append((position, label))
            suite.note(f"kill {number}: {old} -> {new}, durable {durable} -> {held}, bookmark {position}")
        load.stop()

    with suite.case("nothing-is-missing-at-latest"):
        load.judge(device, complete=True)
        cli.bookmark("v", "end")
        with cli.image_of("v@latest", "v") as image:
            load.judge(image.device, complete=True)
            same_content(device, image.device)

    with suite.case("no-gap"):
        same("gaps", cli.gaps("v"), gaps)

    with suite.case("bookmarks-are-moments-that-were"):
        for number, (position, label) in enumerate(marks, 1):
            with cli.image_of(f"v@#after-kill-{number}", "v") as image:
                same("position", image.position, position)
                load.judge(image.device, label_ns=label)

    with suite.case("random-points-are-moments-that-were"):
        newest = cli.timeline("v")["window"]["newest"]
        for position in cli.random_positions(suite.rng, first, newest, suite.rounds(3, 50), cli.gaps("v")):
            with cli.image_of(f"v@seq:{position}", "v") as image:
                load.judge(image.device, label_ns=image.time_ns)

    with suite.case("journal-verifies"):
        same("findings", cli.findings("v"), [])

    with suite.case("the-host-saw-no-error"):
        same("errors in the kernel's log", io_errors(), [])
        same("errors of the volume", cli.volume("v")["counts"]["errors"], 0)

    with suite.case("down-is-clean"):
        cli.down()


Suite().main(body)
