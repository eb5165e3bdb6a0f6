#!/usr/bin/python3
# vm: disks=2x1G mem=2048 cpus=2 timeout=1000 timeout-full=3600 boots=1
"""One block of 4 KiB is written, discarded and zeroed by four threads with 32 requests each in flight: the volume and the
head image are equal, always, and every moment in between is one that was."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from churn import Churn, judge  # noqa: E402
from fio import Fio  # noqa: E402
from machine import io_errors, lasting_disk, same_content  # noqa: E402
from undisk_suite import Suite, same  # noqa: E402

# Entries that a round's history has at least.
LEAST = 3000
MIXES = ("write=1", "write=6,discard=1,zero=1,punch=1", "write=8,fua=1,flush=1")


def one_round(suite, number, device):
    """Hammering from before the first bookmark until after the last, and everything that must hold."""
    log = f"/tmp/hammer-{number}.log"
    churn = Churn(device, log, suite.seed + number, threads=4, depth=32, hot_blocks=1, mix=MIXES[number % len(MIXES)])
    suite.later(churn.kill)
    moments = []
    for mark in ("early", "late"):
        churn.wait_entries(suite.rng.randint(100, 600))
        after = churn.entries()
        position, _ = cli.bookmark("v", f"{mark}-{number}")
        moments.append((mark, position, after, churn.entries()))
    # However fast the machine is, there is a history worth judging, and something behind the last bookmark.
    churn.wait_entries(suite.rng.randint(1, 300))
    churn.wait_until(LEAST)
    suite.note(f"round {number}: {churn.stop()}")
    judge(device, log, at_least="completed")
    end, _ = cli.bookmark("v", f"end-{number}")
    with cli.image_of("v@latest", "v") as image:
        same_content(device, image.device)
    for mark, position, after, before in moments:
        with cli.image_of(f"v@#{mark}-{number}", "v") as image:
            same("position", image.position, position)
            judge(image.device, log, after=after, before=before)
    for position in cli.random_positions(suite.rng, moments[0][1], end, suite.rounds(3, 10), cli.gaps("v")):
        with cli.image_of(f"v@seq:{position}", "v") as image:
            judge(image.device, log, label_ns=image.time_ns)
    os.unlink(log)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="8M")
        cli.wait_protected("v")
        gaps = cli.gaps("v")

    for number in suite.rounds_to_do(3, 50):
        with suite.case(f"every-moment-of-a-hammered-block-is-right-{number}", fatal=True):
            one_round(suite, number, device)

    with suite.case("fio-on-one-block-leaves-equal-content"):
        writes = suite.rounds(2000, 20000)
        job = {"rw": "randwrite", "bs": "4k", "size": "4k", "io_size": f"{4 * writes}k", "iodepth": 32}
        Fio(device, [job] * 4, norandommap=True).finish()
        cli.bookmark("v", "fio")
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("the-host-saw-no-error-and-there-is-no-gap"):
        same("errors in the kernel's log", io_errors(), [])
        same("gaps", cli.gaps("v"), gaps)
        same("findings", cli.findings("v"), [])
        cli.down()


Suite().main(body)
