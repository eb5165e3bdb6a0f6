#!/usr/bin/python3
# vm: disks=3x1G mem=2048 cpus=2 timeout=1000 boots=1
"""How hosts are answered is a group's policy: `sync` answers when the record is durable, and does what `sync-loss` says when the
appliance is lost; `bounded-lag` delays hosts while the journal is too far behind; a paused group marks, and resumed it reads
what changed. In `async` nobody waits."""

import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import Aligned, io_errors, lasting_disk, opened, same_content, size_of, state_of  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
# Half of the outbox is 32 MiB, all of it 64: who writes no more than 16 MiB behind a look at this much fills the one and not the other.
BEHIND_MAX = 40 * MIB
# The journal lies on a disk that can be held: nothing gets through to it, and the appliance lives.
JOURNAL_DISK, JOURNAL = "journal", "/mnt/journal/v"


class Writer(threading.Thread):
    """Writes so many MiB, from now on, and remembers how that went."""

    def __init__(self, device, at, byte, count=1, paced=lambda: None):
        super().__init__(daemon=True)
        self.device, self.at, self.byte, self.count, self.paced = device, at, byte, count, paced
        self.written = 0
        self.error = None
        self.start()

    def run(self):
        try:
            buffer = Aligned(MIB)
            with opened(self.device, os.O_RDWR | os.O_DIRECT) as fd:
                for number in range(self.count):
                    if number % 8 == 0:
                        self.paced()
                    buffer.write(fd, (self.at + number) * MIB, bytes([self.byte]) * MIB)
                    self.written += 1
        except (OSError, Failure) as error:
            self.error = error

    def done(self):
        """Waits for it; it has not failed."""
        poll(f"the write at {self.at} MiB has ended", lambda: not self.is_alive(), timeout=120)
        same("error of the write", self.error, None)


def splitter_group(name):
    """A group as the splitter sees it."""
    groups = cli.status(expect=(cli.OK, cli.DEGRADED, cli.UNREACHABLE))["splitter"]["groups"]
    return next(group for group in groups if group["name"] == name)


def not_far_ahead():
    """Waits while the journal is far behind: an appliance that is merely slow would let the outbox fill, and that is a gap."""
    poll("the journal catches up", lambda: splitter_group("v")["lag"]["bytes"] < BEHIND_MAX, timeout=200)


class Held:
    """The journal's disk answers nobody for a while. (The appliance does: the link stays.)"""

    def __enter__(self):
        run("dmsetup", "suspend", "--noflush", "--nolockfs", "--noudevsync", JOURNAL_DISK)

    def __exit__(self, *_):
        run("dmsetup", "resume", "--noudevsync", "--verifyudev", JOURNAL_DISK)


class Stopped:
    """The appliance and who watches over it, stopped for a while."""

    def __init__(self):
        self.pids = []

    def __enter__(self):
        with open(f"{cli.RUN}/supervisor.pid", encoding="ascii") as file:
            supervisor = int(file.read().split()[0])
        for pid in (supervisor, cli.appliance_pid()):
            os.kill(pid, signal.SIGSTOP)
            self.pids.append(pid)
            poll("it is stopped", lambda pid=pid: state_of(pid) == "T")

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        table = f"0 {size_of('/dev/vdc') // 512} linear /dev/vdc 0"
        run("dmsetup", "create", JOURNAL_DISK, "--noudevsync", "--verifyudev", "--table", table)
        lasting_disk(f"/dev/mapper/{JOURNAL_DISK}", "/mnt/journal", fresh=True)
        cli.up()
        cli.undisk("group", "create", "v", "--journal", JOURNAL)
        device = cli.create_volume("v", "/mnt/store/v.img", size="128M", group="v")
        cli.wait_protected("v")

    with suite.case("sync-needs-a-word-on-what-a-lost-appliance-leads-to"):
        cli.undisk("group", "set", "v", "mode=sync", status=cli.USAGE)
        same("mode", splitter_group("v")["policy"]["mode"], "async")

    with suite.case("sync-answers-when-the-record-is-durable"):
        cli.undisk("group", "set", "v", "mode=sync", "sync-loss=degrade")
        for number in range(5):
            Writer(device, number, number + 1).done()
            group = splitter_group("v")
            same("records that are not durable once the host was answered", group["laid"] - group["durable"], 0)

    with suite.case("sync-with-degrade-goes-on-without-the-appliance-and-says-so"):
        with Stopped():
            writer = Writer(device, 10, 7)
            writer.done()
            need(splitter_group("v")["degraded"], "nothing says that hosts are answered without the journal")
        cli.wait_protected("v", timeout=200)
        Writer(device, 11, 8).done()
        poll("sync again", lambda: not splitter_group("v")["degraded"])

    with suite.case("sync-with-stall-waits-for-the-appliance"):
        cli.undisk("group", "set", "v", "sync-loss=stall")
        with Stopped():
            writer = Writer(device, 12, 9)
            poll("the link counts as lost", lambda: not splitter_group("v")["linked"])
            need(writer.is_alive(), "a host was answered without the journal")
        writer.done()
        cli.wait_protected("v", timeout=200)

    with suite.case("bounded-lag-delays-hosts-while-the-journal-is-behind"):
        cli.undisk("group", "set", "v", "mode=bounded-lag", "lag-bytes=8MiB", "lag-seconds=1h")
        with Held():
            writer = Writer(device, 20, 5, count=30)
            poll("hosts are delayed", lambda: splitter_group("v")["delaying"])
            lag = splitter_group("v")["lag"]
            need(8 * MIB <= lag["bytes"] <= 10 * MIB, f"the lag is {lag}")
            need(lag["writes"] > 0 and lag["ms"] > 0, f"the lag is {lag}")
            need(writer.is_alive(), "nobody was delayed")
        # As soon as the journal catches up, hosts go on.
        writer.done()
        poll("nobody is delayed", lambda: not splitter_group("v")["delaying"])
        same("link", splitter_group("v")["linked"], True)

    with suite.case("bounded-lag-without-a-link-lets-hosts-go-on"):
        with Stopped():
            # More than the bound: there is nothing to wait for.
            Writer(device, 20, 6, count=30).done()
        cli.wait_protected("v", timeout=200)

    with suite.case("paused-marks-and-resumed-reads-what-changed"):
        cli.undisk("group", "set", "v", "mode=async")
        before = len(cli.gaps("v"))
        cli.undisk("group", "pause", "v")
        same("mode", splitter_group("v")["mode"], "paused")
        cli.status(expect=(cli.DEGRADED,))
        Writer(device, 40, 3).done()
        cli.down()
        cli.up(status=(cli.OK, cli.DEGRADED))
        same("mode after a restart", splitter_group("v")["mode"], "paused")
        Writer(device, 41, 3).done()
        cli.undisk("group", "resume", "v")
        cli.wait_protected("v", timeout=200)
        poll("the gap is closed", lambda: cli.gaps("v")[-1][1] is not None)
        need(len(cli.gaps("v")) > before, "the pause is no gap")
        need(splitter_group("v")["resynced_bytes"] <= 64 * MIB, "more was read than what changed")
        cli.status(expect=(cli.OK,))

    with suite.case("a-full-journal-that-blocks-holds-hosts-and-gets-no-gap"):
        gaps = len(cli.gaps("v"))
        limit = cli.journal("v")["disk_bytes"] // MIB + 80
        cli.undisk("group", "set", "v", "journal-full=block", f"journal-limit={limit}MiB")
        writer = Writer(device, 0, 11, count=128, paced=not_far_ahead)
        again = Writer(device, 0, 12, count=128, paced=not_far_ahead)
        poll("hosts wait for room", lambda: splitter_group("v")["full"], timeout=200)
        # It says so, it is no gap, and whoever reads goes on.
        cli.status(expect=(cli.DEGRADED,))
        need(splitter_group("v")["mode"] == "active" and splitter_group("v")["linked"], splitter_group("v"))
        with opened(device, os.O_RDONLY) as fd:
            os.pread(fd, MIB, 100 * MIB)
        need(writer.is_alive() or again.is_alive(), "nobody was held")
        cli.undisk("group", "set", "v", "journal-full=shrink", "journal-limit=none")
        writer.done()
        again.done()
        same("gaps", len(cli.gaps("v")), gaps)
        poll("nobody waits", lambda: not splitter_group("v")["full"])
        cli.wait_whole("v", timeout=200)

    with suite.case("image-at-latest-is-byte-identical"):
        cli.bookmark("v", "end")
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
