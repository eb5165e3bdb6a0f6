#!/usr/bin/python3
# vm: disks=16G,2G mem=2048 cpus=2 timeout=1500 timeout-full=28800 boots=1
"""kill -9 of splitter, appliance or both, at any moment of a discard-heavy load. After each: the volume holds all that
completed, the head image equals it, the oldest point is what it always was, the newest and random ones are moments that
were, and there is no gap. Killed with every tag of every queue in flight, requests go on within seconds."""

import concurrent.futures
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from churn import Churn, judge  # noqa: E402
from machine import (  # noqa: E402
    completed, content_digest, inflight, io_errors, kill9, lasting_disk, same_content, size_of, slow_disk, sysfs,
)
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

SPLITTER, APPLIANCE = ("splitter", "ublk-splitter"), ("appliance", "journal-appliance")
PIDS = {"splitter": cli.splitter_pid, "appliance": cli.appliance_pid}
# From the kill to the first request that comes back. The kernel's own net, if no tag were idle, is 30 s; a guest that is
# interpreted, on a host that has more to do, takes seconds where a machine takes tenths.
RESUMED_WITHIN = 25
# Images that are judged at once.
JUDGES = 3


def kill(victims):
    """Kills them at once; returns their old ids."""
    old = {which: PIDS[which]() for which, _ in victims}
    for which, program in victims:
        kill9(old[which], program)
    return old


def is_moment(position, log):
    """The image of that position is a moment of that log, at its time."""
    image = cli.open_images(f"v@seq:{position}", only="v")["v"]
    try:
        judge(image.device, log, label_ns=image.time_ns)
    finally:
        # Its number may be another's by the time that this is answered.
        cli.undisk("image", "close", image.device)


def one_round(suite, number, device, oldest):
    """A load, a kill in the middle of it, and everything that must hold then."""
    log = f"/mnt/store/churn-{number}.log"
    churn = Churn(device, log, suite.seed + number, threads=4, depth=8, rate=1500, longest_write=64)
    suite.later(churn.kill)
    start, _ = cli.bookmark("v", f"start-{number}")
    churn.wait_entries(suite.rng.randint(50, 1500))
    victims = suite.rng.choice(([SPLITTER], [APPLIANCE], [SPLITTER, APPLIANCE], [APPLIANCE, SPLITTER]))
    old = kill(victims)
    began = time.monotonic()
    if suite.rng.random() < 0.3:
        # Once more while it recovers.
        which, program = suite.rng.choice(victims)
        again = cli.restarted(which, old[which])
        old[which] = again
        kill9(again, program)
    for which, _ in victims:
        cli.restarted(which, old[which])
    churn.wait_entries(suite.rng.randint(50, 800))
    suite.note(f"round {number}: killed {' and '.join(which for which, _ in victims)}; on again after {time.monotonic() - began:.1f} s")
    cli.wait_protected("v")
    churn.wait_entries(suite.rng.randint(1, 300))
    counts = churn.stop()
    entries = churn.entries()

    judge(device, log, at_least="completed")
    end, _ = cli.bookmark("v", f"end-{number}")
    with cli.image_of("v@latest", "v") as image:
        same_content(device, image.device)
        judge(image.device, log, at_least="completed")
    with cli.image_of("v@oldest", "v") as image:
        same("content of the oldest point", content_digest(image.device), oldest)
    # Side by side: an image must not mind others, and one alone leaves half of the guest idle.
    with concurrent.futures.ThreadPoolExecutor(JUDGES) as judges:
        positions = cli.random_positions(suite.rng, start, end, suite.rounds(2, 20))
        for judged in [judges.submit(is_moment, position, log) for position in positions]:
            judged.result()
    same("errors of the volume", cli.volume("v")["counts"]["errors"], 0)
    suite.note(f"round {number}: {entries} entries, {counts}")
    for mark in ("start", "end"):
        cli.undisk("bookmark", "remove", "v", f"{mark}-{number}")
    os.unlink(log)


def all_tags(suite, device):
    """Kills the splitter with every tag in flight; returns the seconds until a request came back."""
    log = "/mnt/store/churn-tags.log"
    queues = len(os.listdir(f"/sys/block/{os.path.basename(device)}/mq"))
    tags = queues * int(sysfs(device, "queue/nr_requests"))
    churn = Churn(device, log, suite.seed, threads=8, depth=32, mix="write=1")
    suite.later(churn.kill)
    poll(f"{tags} requests are in flight", lambda: churn.going() and inflight(device) >= tags, timeout=60, pause=0.002)
    old = cli.splitter_pid()
    poll(f"{tags} requests are in flight", lambda: churn.going() and inflight(device) >= tags, timeout=60, pause=0.002)
    began = time.monotonic()
    kill9(old, "ublk-splitter")
    # Nothing answers requests now: what the kernel counts from here on, the next process has answered.
    before = completed(device)
    poll("requests go on", lambda: churn.going() and completed(device) > before, timeout=60, pause=0.01)
    resumed = time.monotonic() - began
    cli.restarted("splitter", old)
    live = time.monotonic() - began
    churn.stop()
    judge(device, log, at_least="completed")
    os.unlink(log)
    suite.note(f"{tags} tags in flight: the splitter answered after {live:.2f} s, requests went on after {resumed:.2f} s")
    return resumed


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volumes-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="16M", queues=2)
        slow = cli.create_volume("slow", slow_disk("slow", "/dev/ram0", 64, 300), queues=2)
        for name in ("v", "slow"):
            cli.wait_protected(name, timeout=300)
        gaps = {name: cli.gaps(name) for name in ("v", "slow")}
        with cli.image_of("v@oldest", "v") as image:
            oldest = content_digest(image.device)

    for number in suite.rounds_to_do(5, 200):
        with suite.case(f"killed-under-load-{number}", fatal=True):
            one_round(suite, number, device, oldest)
            same("gaps", cli.gaps("v"), gaps["v"])

    for number in range(1, suite.rounds(1, 10) + 1):
        with suite.case(f"killed-with-every-tag-in-flight-{number}", fatal=True):
            # A host that has more to do may hold up one or two of them; the kernel's own net holds up every one.
            for _ in range(3):
                resumed = all_tags(suite, slow)
                if resumed < RESUMED_WITHIN:
                    break
                cli.wait_protected("slow")
            need(resumed < RESUMED_WITHIN, f"requests went on only after {resumed:.1f} s")
            cli.wait_protected("slow")
            cli.bookmark("slow", f"tags-{number}")
            with cli.image_of("slow@latest", "slow") as image:
                same_content(slow, image.device)
            same("gaps", cli.gaps("slow"), gaps["slow"])

    with suite.case("journals-verify"):
        for name in ("v", "slow"):
            same(f"findings in {name}", cli.findings(name), [])
            suite.note(f"{name}: {size_of(cli.volume(name)['device']) >> 20} MiB, journal {cli.journal(name)['used_bytes'] >> 20} MiB")

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
