#!/usr/bin/python3
# vm: disks=16G,4G mem=2048 cpus=2 timeout=1500 timeout-full=7200 boots=1 soak
"""A discard-heavy load on two volumes, one of them with eager distribution, for minutes, while either daemon is killed every 20
seconds. Then random points of all of it are opened: each is a legal moment, the newest is the volume, and the eager replica is it too."""

import concurrent.futures
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from captures import arrived  # noqa: E402
from churn import Churn, judge  # noqa: E402
from machine import io_errors, kill9, lasting_disk, same_content  # noqa: E402
from undisk_suite import Suite, same  # noqa: E402

DAEMONS = (("splitter", "ublk-splitter", cli.splitter_pid), ("appliance", "journal-appliance", cli.appliance_pid))
# Between two kills, in seconds.
PAUSE = 20
VOLUMES = ("lazy", "eager")
# Images that are judged at once.
JUDGES = 3


def is_moment(name, position, log):
    """The image of that position is a moment of that log, at its time."""
    image = cli.open_images(f"{name}@seq:{position}", only=name)[name]
    try:
        judge(image.device, log, label_ns=image.time_ns)
    finally:
        cli.undisk("image", "close", image.device)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    devices, logs, loads, starts, gaps = {}, {}, {}, {}, {}
    with suite.case("volumes-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        for name in VOLUMES:
            devices[name] = cli.create_volume(name, f"/mnt/store/{name}.img", size="16M", queues=2,
                                              replica=f"/mnt/store/{name}.replica")
            cli.wait_protected(name)
            cli.undisk("group", "set", name, f"distribution={name}")
            gaps[name] = cli.gaps(name)
            logs[name] = f"/mnt/store/{name}.log"

    with suite.case("killed-again-and-again-hosts-go-on", fatal=True):
        for number, name in enumerate(VOLUMES):
            loads[name] = Churn(devices[name], logs[name], suite.seed + number, threads=4, depth=8, rate=150,
                                longest_write=64)
            suite.later(loads[name].kill)
            starts[name], _ = cli.bookmark(name, "start")
        for number in range(suite.rounds(4, 30)):
            until = time.monotonic() + PAUSE
            while time.monotonic() < until:
                for load in loads.values():
                    load.wait_entries(1)
            which, program, pid = suite.rng.choice(DAEMONS)
            old = pid()
            kill9(old, program)
            cli.restarted(which, old)
            for name in VOLUMES:
                cli.wait_protected(name)
            suite.note(f"kill {number + 1}: {which}; {', '.join(str(load.entries()) for load in loads.values())} entries")
        for name in VOLUMES:
            loads[name].stop()

    for name in VOLUMES:
        with suite.case(f"every-point-of-{name}-is-legal"):
            judge(devices[name], logs[name], at_least="completed")
            end, _ = cli.bookmark(name, "end")
            with cli.image_of(f"{name}@latest", name) as image:
                same_content(devices[name], image.device)
            positions = cli.random_positions(suite.rng, starts[name], end, suite.rounds(10, 100))
            with concurrent.futures.ThreadPoolExecutor(JUDGES) as judges:
                for judged in [judges.submit(is_moment, name, position, logs[name]) for position in positions]:
                    judged.result()
            same("gaps", cli.gaps(name), gaps[name])
            same("findings", cli.findings(name), [])
            same("errors of the volume", cli.volume(name)["counts"]["errors"], 0)

    with suite.case("the-eager-replica-is-the-volume"):
        arrived("eager")
        same_content("/mnt/store/eager.img", "/mnt/store/eager.replica")

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
