#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 timeout-full=7200 boots=1
"""Somebody stands on the link between splitter and appliance, and drops frames, sends them twice, holds them back, or cuts the
connection at any byte. The journal ends up with what the volume holds, in the same session or in a new one; there is never
a hole, and every point that is offered is a moment that was."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from churn import Churn, judge  # noqa: E402
from machine import io_errors, lasting_disk, same_content  # noqa: E402
from proxy import Proxy  # noqa: E402
from undisk_suite import Suite, need, poll, same  # noqa: E402

FAULTS = (("cut", 0.05), ("duplicate", 0.2), ("delay", 0.3), ("drop", 0.05))


def one_round(suite, proxy, device, number, fault, chance):
    """A load under one fault, then an honest link, then everything that must hold."""
    log = f"/mnt/store/churn-{number}.log"
    churn = Churn(device, log, suite.seed + number, threads=4, depth=4, rate=600)
    suite.later(churn.kill)
    start, _ = cli.bookmark("v", f"start-{number}")
    before, linked = proxy.met.get(fault, 0), proxy.connections
    proxy.fault, proxy.chance = fault, chance
    # So long that the fault has been met often enough, whatever the pace of the link.
    poll(f"some frames have met {fault}", lambda: churn.going() and proxy.met.get(fault, 0) >= before + 8, timeout=120)
    proxy.fault = None
    if fault in ("drop", "delay"):
        proxy.sever()
    churn.wait_entries(suite.rng.randint(50, 300))
    cli.wait_protected("v", timeout=200)
    churn.stop()
    # The load went on after the link was honest again: where the link carries less than it writes, the outbox filled once
    # more, and no moment can be named until what it held has been carried over.
    cli.wait_protected("v", timeout=200)
    judge(device, log, at_least="completed")
    end, _ = cli.bookmark("v", f"end-{number}")
    with cli.image_of("v@latest", "v") as image:
        same_content(device, image.device)
        judge(image.device, log, at_least="completed")
    gaps = cli.gaps("v")
    need(all(closed is not None for _, closed in gaps), f"a gap is still open: {gaps}")
    for position in cli.random_positions(suite.rng, start, end, suite.rounds(5, 20), gaps):
        with cli.image_of(f"v@seq:{position}", "v") as image:
            judge(image.device, log, label_ns=image.time_ns)
    suite.note(f"{fault}: met {proxy.met.get(fault, 0) - before} times, {proxy.connections - linked} new connections, gaps {gaps}")
    os.unlink(log)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up-behind-the-proxy", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        proxy = Proxy(f"{cli.RUN}/link.sock", suite.rng)
        device = cli.create_volume("v", "/mnt/store/v.img", size="16M")
        cli.wait_protected("v")
        need(proxy.connections, "the splitter does not go through the proxy")

    for turn in suite.rounds_to_do(1, 15):
        for number, (fault, chance) in enumerate(FAULTS, (turn - 1) * len(FAULTS) + 1):
            with suite.case(f"{fault}-leaves-no-hole-{number}", fatal=True):
                one_round(suite, proxy, device, number, fault, chance)

    with suite.case("journal-verifies"):
        same("findings", cli.findings("v"), [])

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        proxy.close()
        same("errors in the kernel's log", io_errors(), [])
        same("errors of the volume", cli.volume("v")["counts"]["errors"], 0)
        cli.down()


Suite().main(body)
