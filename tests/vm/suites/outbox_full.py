#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 boots=1
"""The appliance is stopped, or gone, until the outbox is full: the host goes on without an error, `status` says so. When
the appliance is back the group reads what changed, and nothing else, by itself; points within the loss are refused, older
and later ones are right."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import (  # noqa: E402
    Aligned, io_errors, kill9, lasting_disk, opened, program_of, same_content, state_of,
)
from sectors import Load  # noqa: E402
from undisk_suite import Suite, need, poll, same  # noqa: E402

MIB = 1 << 20


def overflow(device, rng, first, mib):
    """Writes more than any outbox holds."""
    buffer = Aligned(MIB)
    with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
        for number in range(mib):
            buffer.write(fd, (first + number % 64) * MIB, rng.randbytes(MIB))
        os.fsync(fd)


def supervisor_pid():
    """The supervisor's process id, by its pid file."""
    with open(f"{cli.RUN}/supervisor.pid", encoding="ascii") as file:
        pid = int(file.read().split()[0])
    same(f"program of process {pid}", program_of(pid), "undisk")
    return pid


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="128M")
        cli.wait_protected("v")
        load = Load(device, suite.seed, suite.rng, streams=4, region_sectors=4096)
        suite.later(load.stop)
        load.start()
        poll("some operations", lambda: load.check_no_error() or load.count() > 300)
        kept = [("before", *cli.bookmark("v", "before"))]

    def past_is_right():
        for mark, position, label in kept:
            with cli.image_of(f"v@#{mark}", "v") as image:
                same(f"position of {mark}", image.position, position)
                load.judge(image.device, label_ns=label)

    for how in ("stopped", "gone"):
        with suite.case(f"appliance-{how}-for-long-the-host-goes-on", fatal=True):
            suite.later(load.stop)
            before = len(cli.gaps("v"))
            old = cli.appliance_pid()
            supervisor = supervisor_pid()
            os.kill(supervisor, signal.SIGSTOP)
            if how == "stopped":
                os.kill(old, signal.SIGSTOP)
                poll("it is stopped", lambda: state_of(old) == "T")
            else:
                kill9(old, "journal-appliance")
            overflow(device, suite.rng, 32, suite.rounds(100, 1000))
            goal = load.count() + 200
            poll("the load goes on", lambda: load.check_no_error() or load.count() >= goal, timeout=120)
            done = cli.undisk("status", status=(cli.DEGRADED, cli.UNREACHABLE), timeout=120)
            suite.note(f"status without appliance: {done.status}: {done.err.strip()[:120]}")

        with suite.case(f"appliance-back-after-it-was-{how}-the-group-heals-by-itself-under-load", fatal=True):
            suite.later(load.stop)
            if how == "stopped":
                os.kill(old, signal.SIGCONT)
            os.kill(supervisor, signal.SIGCONT)
            if how == "gone":
                cli.restarted("appliance", old)
            poll("the loss is known", lambda: len(cli.gaps("v")) > before, timeout=120)
            cli.wait_protected("v", timeout=300)
            poll("the gap is closed", lambda: cli.gaps("v")[-1][1] is not None, timeout=120)
            goal = load.count() + 20
            poll("the load goes on", lambda: load.check_no_error() or load.count() >= goal)
            cli.status(expect=(cli.OK,))
            begin, end = cli.gaps("v")[-1]
            if end - begin > 1:
                line = cli.refused_point(f"v@seq:{(begin + end) // 2}")
                need("gap" in line, f"does not say that it is in a gap: {line!r}")
            kept.append((f"after-{how}", *cli.bookmark("v", f"after-{how}")))
            past_is_right()
            with cli.image_of(f"v@seq:{begin - 1}", "v") as image:
                same("the last moment before the loss", image.position, begin - 1)
                load.judge(image.device, label_ns=image.time_ns)

    with suite.case("image-at-latest-is-byte-identical"):
        load.stop()
        load.judge(device, complete=True)
        cli.bookmark("v", "end")
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)
            load.judge(image.device, complete=True)
        past_is_right()

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        same("errors of the volume", cli.volume("v")["counts"]["errors"], 0)
        cli.down()


Suite().main(body)
