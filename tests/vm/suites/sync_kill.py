#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 timeout-full=7200 boots=1
"""A `sync` group under kill -9: whatever a host was answered for is in the journal the moment it was, whichever daemon dies; no
host waits for ever, sees an error, or finds a gap behind it."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import io_errors, kill9, lasting_disk, state_of  # noqa: E402
from sectors import Load  # noqa: E402
from undisk_suite import Suite, need, poll, same  # noqa: E402


def goes_on(suite, load):
    """The load comes further: nobody waits for an answer that was forgotten."""
    for stream in load.streams:
        goal = len(stream.operations) + suite.rng.randint(20, 60)
        poll(f"{stream.name} goes on", lambda stream=stream, goal=goal: load.check_no_error() or len(stream.operations) >= goal)


def answered(load):
    """How many operations of each stream have been answered."""
    return [sum(1 for operation in stream.operations if operation.done is not None) for stream in load.streams]


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="64M", queues=2)
        cli.wait_protected("v")
        cli.undisk("group", "set", "v", "mode=sync", "sync-loss=stall")
        # Writes only: what an image holds then says how many of them are in.
        load = Load(device, suite.seed, suite.rng, streams=6, region_sectors=8192, mix=(1, 0, 0))
        suite.later(load.stop)
        load.start()
        goes_on(suite, load)

    for number in suite.rounds_to_do(2, 40):
        with suite.case(f"what-was-answered-is-in-the-journal-of-a-killed-appliance-{number}", fatal=True):
            splitter, old = cli.splitter_pid(), cli.appliance_pid()
            os.kill(splitter, signal.SIGSTOP)
            suite.later(lambda splitter=splitter: state_of(splitter) != "T" or os.kill(splitter, signal.SIGCONT))
            poll("the splitter stands still", lambda splitter=splitter: state_of(splitter) == "T")
            least = answered(load)
            kill9(old, "journal-appliance")
            cli.restarted("appliance", old)
            position = cli.durable("v")
            with cli.image_of(f"v@seq:{position}", "v") as image:
                found = load.judge(image.device)
            for stream, has, must in zip(load.streams, found, least):
                need(has >= must, f"{stream.name}: {must} were answered, {has} are in the journal")
            os.kill(splitter, signal.SIGCONT)
            goes_on(suite, load)

        with suite.case(f"a-killed-splitter-leaves-nobody-waiting-{number}", fatal=True):
            old = cli.splitter_pid()
            kill9(old, "ublk-splitter")
            cli.restarted("splitter", old)
            goes_on(suite, load)

        with suite.case(f"both-killed-leave-nobody-waiting-{number}", fatal=True):
            splitter, appliance = cli.splitter_pid(), cli.appliance_pid()
            kill9(appliance, "journal-appliance")
            kill9(splitter, "ublk-splitter")
            cli.restarted("appliance", appliance)
            cli.restarted("splitter", splitter)
            goes_on(suite, load)

    with suite.case("every-point-is-a-moment-and-there-is-no-gap"):
        load.stop()
        cli.wait_whole("v")
        load.judge(device, complete=True)
        last, _ = cli.bookmark("v", "end")
        same("gaps", cli.gaps("v"), [])
        with cli.image_of("v@latest", "v") as image:
            load.judge(image.device, complete=True)
        for position in cli.random_positions(suite.rng, last // 2, last, suite.rounds(5, 30)):
            with cli.image_of(f"v@seq:{position}", "v") as image:
                load.judge(image.device, label_ns=image.time_ns)
        same("findings", cli.findings("v"), [])

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        same("errors of the volume", cli.volume("v")["counts"]["errors"], 0)
        cli.down()


Suite().main(body)
