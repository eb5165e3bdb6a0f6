#!/usr/bin/python3
# vm: disks=3G mem=2048 timeout=1800 timeout-full=3600 icount
"""The host's random writes while the appliance is stopped, then dead, then its journal disk full: no error, and the same
throughput, within a fifth, as in alternating slices with a healthy appliance, by the instruction clock. The splitter's
memory is bounded. After each trouble the group is protected again by itself, only what was written is read back, and the
head image equals the volume, byte for byte."""

import os
import signal
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
import resynced  # noqa: E402
from fio import Fio  # noqa: E402
from machine import Aligned, io_errors, kill9, lasting_disk, opened, program_of, same_content, state_of  # noqa: E402
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
JOURNAL = "/mnt/journal/v"
# The part of the volume that is written: first byte, bytes.
FIRST, LENGTH, SIZE = 16 * MIB, 16 * MIB, 48 * MIB
# A short slice to get going, and the one that is measured.
WARM, WRITES = 1000, 4000
# What the splitter may take more in the end than after its first slice.
MEMORY = 16 * MIB
OUTBOX = 64 * MIB


def supervisor_pid():
    """The supervisor's process id, by its pid file."""
    with open(f"{cli.RUN}/supervisor.pid", encoding="ascii") as file:
        pid = int(file.read().split()[0])
    same(f"program of process {pid}", program_of(pid), "undisk")
    return pid


def most_memory(pid):
    """The most memory that the process ever had, bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def slice_of_writes(device, seed):
    """Writes a second by the guest's clock, which counts instructions. Fails if the host sees an error."""
    for count in (WARM, WRITES):
        job = {"rw": "randwrite", "bs": "4k", "offset": FIRST, "size": LENGTH, "iodepth": 16, "number_ios": count}
        jobs = Fio(device, [job], norandommap=True, randseed=seed + count).finish(timeout=1200)
    return jobs[0]["write"]["iops"]


def splitters_word(name):
    """What the splitter says of the group, whether or not the appliance answers."""
    told = cli.status(expect=(cli.OK, cli.DEGRADED, cli.UNREACHABLE, cli.TIMED_OUT))
    return next(group for group in told["splitter"]["groups"] if group["name"] == name)


def overflow(device, rng):
    """Writes until the outbox is full, so that a slice behind it meets a full one. (A journal without room has segments
    that it made before.)"""
    buffer = Aligned(MIB)
    for _ in range(6):
        with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
            for number in range(OUTBOX // MIB + 8):
                buffer.write(fd, FIRST + number * MIB % LENGTH, rng.randbytes(4096) * (MIB // 4096))
        if splitters_word("v")["mode"] == "marking":
            return
    need(False, "the outbox does not fill")


class Stopped:
    """The appliance does not run, and does not go away either."""

    name = "stopped"

    def begin(self):
        self.pid = cli.appliance_pid()
        os.kill(self.pid, signal.SIGSTOP)
        poll("it is stopped", lambda: state_of(self.pid) == "T")

    def end(self):
        os.kill(self.pid, signal.SIGCONT)


class Dead:
    """The appliance is gone, and nobody starts it."""

    name = "dead"

    def begin(self):
        self.pid, self.supervisor = cli.appliance_pid(), supervisor_pid()
        os.kill(self.supervisor, signal.SIGSTOP)
        kill9(self.pid, "journal-appliance")

    def end(self):
        os.kill(self.supervisor, signal.SIGCONT)
        cli.restarted("appliance", self.pid)


class Full:
    """The journal's disk has no room left."""

    name = "without-room"
    filler = "/mnt/journal/filler"

    def begin(self):
        free = os.statvfs("/mnt/journal")
        with open(self.filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, (free.f_bavail - 16) * free.f_frsize))

    def end(self):
        os.unlink(self.filler)
        os.sync()


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        # What the host waits for lies in memory: the instruction clock does not count how long a real disk takes.
        lasting_disk("/dev/ram1", cli.STATE, fresh=True)
        lasting_disk("/dev/vda", "/mnt/journal", fresh=True)
        table = f"0 {SIZE // 512} linear /dev/ram0 0"
        run("dmsetup", "create", "store", "--noudevsync", "--verifyudev", "--table", table)
        cli.up()
        cli.undisk("group", "create", "v", "--journal", JOURNAL)
        device = cli.create_volume("v", "/dev/mapper/store", group="v")
        cli.wait_protected("v")
        splitter = cli.splitter_pid()
        slice_of_writes(device, suite.rng.randrange(1 << 30))
        memory = most_memory(splitter)

    for trouble in (Stopped(), Dead(), Full()):
        healthy, sick = [], []
        with suite.case(f"appliance-{trouble.name}-the-host-does-not-feel-it", fatal=True):
            for _ in range(suite.rounds(1, 5)):
                position = cli.durable("v")
                healthy.append(slice_of_writes(device, suite.rng.randrange(1 << 30)))
                trouble.begin()
                suite.later(trouble.end)
                overflow(device, suite.rng)
                sick.append(slice_of_writes(device, suite.rng.randrange(1 << 30)))
                dirty = splitters_word("v")["dirty_bytes"]
                trouble.end()
                suite.laters.clear()
                cli.wait_whole("v")
                size = resynced.only_within(JOURNAL, position + 1, FIRST // 512, LENGTH // 512)
                count = resynced.sessions(JOURNAL, position + 1)
                need(size <= dirty * max(1, count), f"{size} bytes read back in {count} sessions, {dirty} were dirty")
                suite.note(
                    f"{trouble.name}: {healthy[-1]:.0f} and {sick[-1]:.0f} writes a second; {dirty >> 10} KiB dirty, "
                    f"{size >> 10} KiB read back in {count} sessions"
                )
            ratio = statistics.median(sick) / statistics.median(healthy)
            suite.note(f"{trouble.name}: {ratio:.2f} of the healthy throughput (median of {len(sick)})")
            need(ratio >= 0.8, f"the host writes at {ratio:.2f} of its healthy pace while the appliance is {trouble.name}")

        with suite.case(f"appliance-{trouble.name}-the-image-is-equal-afterwards", fatal=True):
            cli.bookmark("v", f"after-{trouble.name}")
            with cli.image_of("v@latest", "v") as image:
                same_content(device, image.device)
            need(all(end is not None for _, end in cli.gaps("v")), "a gap is still open")

    with suite.case("splitter-memory-is-bounded"):
        same("the splitter's process", cli.splitter_pid(), splitter)
        now = most_memory(splitter)
        suite.note(f"the splitter had {memory >> 20} MiB at most after its first slice, {now >> 20} MiB in the end")
        need(now <= memory + MEMORY, f"the splitter took {now - memory} bytes more")

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        same("errors of the volume", cli.volume("v")["counts"]["errors"], 0)
        cli.down()


Suite().main(body)
