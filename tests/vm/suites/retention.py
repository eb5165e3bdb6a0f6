#!/usr/bin/python3
# vm: disks=1536M,512M mem=2048 cpus=2 timeout=900 boots=1
"""A journal that may take only so much gives its oldest points up, early if it has to, and says so. What is kept is right,
whatever was given up behind it; a bookmark keeps its moment and everything behind it, until it is removed; kill -9 in the
middle changes nothing of that. Beside it another volume thins what it keeps: of what is older than its short window, the
newest point of each minute stays, is right, and is all that its journal goes on to pay for."""

import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import (  # noqa: E402
    Aligned, allocated, content_digest, discard, io_errors, kill9, lasting_disk, opened, same_content, size_of, zero_out,
)
from undisk_suite import Suite, need, poll, same  # noqa: E402

MIB = 1 << 20
SIZE = 12 * MIB
LIMIT = 96 * MIB
# Of a journal on a disk of 1.5 GiB.
SEGMENT = 16 * MIB
BACKING = "/mnt/store/v.img"
# What is on its way out, and files that wait to be written over, are beside the limit (docs/operating/retention.md).
BESIDE = 4 * SEGMENT


class Load:
    """Writes, discards and zeroes all of a volume again and again; remembers what it held at some positions."""

    def __init__(self, device, seed):
        self.device, self.rng = device, random.Random(seed)
        self.moments = {}
        self.names = 0

    def over(self, times):
        """All of the volume, so often."""
        buffer = Aligned(MIB)
        with opened(self.device, os.O_RDWR | os.O_DIRECT) as fd:
            for _ in range(times):
                for offset in range(0, SIZE, MIB):
                    buffer.write(fd, offset, self.rng.randbytes(MIB))
                for _ in range(40):
                    at = self.rng.randrange(0, SIZE // 4096 - 16) * 4096
                    size = self.rng.randint(1, 16) * 4096
                    self.rng.choice((discard, zero_out))(fd, at, size)
                os.fsync(fd)

    def moment(self):
        """Notes what the volume holds now, and at which position that is."""
        self.names += 1
        name = f"moment-{self.names}"
        digest = content_digest(self.device)
        position, _ = cli.bookmark("v", name)
        cli.undisk("bookmark", "remove", "v", name)
        self.moments[position] = digest


class Thinned:
    """A small volume whose window is short; what is older stays by the minute. It is written over much more often than there
    are minutes, however slow the machine: what the points show is far less than what was written."""

    SIZE = 2 * MIB
    PIECE = MIB // 4

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.device = cli.create_volume("t", "/mnt/store/t.img", size="2M")
        cli.wait_protected("t")
        cli.undisk("group", "set", "t", "window=10s", "keep=minute:1h")
        # The position behind everything, and what the volume held there.
        self.moments = [(cli.journal("t")["head"], content_digest(self.device))]
        self.written = 0

    def over(self):
        """Most of the volume, four times, and a moment that is remembered."""
        buffer = Aligned(self.PIECE)
        with opened(self.device, os.O_RDWR | os.O_DIRECT) as fd:
            for offset in 4 * list(range(0, self.SIZE, self.PIECE)):
                if self.rng.random() < 0.7:
                    buffer.write(fd, offset, self.rng.randbytes(self.PIECE))
                    self.written += self.PIECE
            discard(fd, self.rng.randrange(0, 256) * 4096, 64 * 4096)
            os.fsync(fd)
        digest = content_digest(self.device)
        position, _ = cli.bookmark("t", "moment")
        cli.undisk("bookmark", "remove", "t", "moment")
        self.moments.append((position, digest))

    @staticmethod
    def points():
        """The positions of grid points."""
        return [mark["position"] for mark in cli.timeline("t")["marks"] if mark["kind"] == "grid"]

    def checked(self):
        """The newest grid points hold what was written up to them, and others of their time are refused."""
        points = self.points()
        for position in points[-3:]:
            before = max((moment for moment in self.moments if moment[0] <= position), default=None)
            behind = min((moment for moment in self.moments if moment[0] > position), default=None)
            # Between a moment and the next one there is one stretch of writes: where that is whole, either is right.
            with cli.image_of(f"t@seq:{position}", "t") as image:
                digest = content_digest(image.device)
            if before is not None and before[0] == position:
                same(f"content at grid point seq:{position}", digest, before[1])
            elif digest not in [moment[1] for moment in (before, behind) if moment is not None]:
                # In the middle of that stretch: no older content, at least, and nobody else's.
                need(digest not in [m[1] for m in self.moments], f"seq:{position} shows another moment")
        oldest_point = cli.timeline("t")["window"]["oldest"]
        gone = [position for position, _ in self.moments if position < oldest_point and position not in points]
        for position in gone[-3:]:
            cli.refused_point(f"t@seq:{position}", status=cli.NOT_FOUND)
        return points


def space(group="v"):
    """What a journal takes, in bytes, on disk."""
    folder = cli.journal(group)["path"]
    found = [os.path.join(path, name) for path, _, names in os.walk(folder) for name in names if ".seg" in name]
    need(found, f"no segment under {folder}")
    # One that goes meanwhile takes nothing.
    return sum(allocated(path) for path in found if os.path.exists(path))


def oldest():
    """The oldest position that can be opened."""
    return cli.timeline("v")["window"]["oldest"]


def settled():
    """The oldest position that can be opened, once a few looks of the appliance have left it alone."""
    seen = []

    def still():
        seen.append(oldest())
        return len(seen) > 8 and len(set(seen[-8:])) == 1

    poll("the oldest point stays where it is", still, timeout=120, pause=0.5)
    return seen[-1]


def checked(load, kept=()):
    """Every moment that is remembered is right, or refused when it is older than the oldest point."""
    first, right = settled(), 0
    for position, digest in sorted(load.moments.items()):
        if position >= first or position in kept:
            with cli.image_of(f"v@seq:{position}", "v") as image:
                same(f"content at seq:{position}", content_digest(image.device), digest)
            right += 1
        else:
            cli.refused_point(f"v@seq:{position}", status=(cli.NOT_FOUND, cli.REFUSED))
    return right


def events(of=0):
    """The kinds of the newest events, without the oldest `of`."""
    return [event["kind"] for event in cli.ask("events", "-n", "1000")["events"]][of:]


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", BACKING, size="12M")
        same("size", size_of(device), SIZE)
        cli.wait_protected("v")
        cli.undisk("group", "set", "v", "journal-limit=96MiB", "journal-full=shrink")
        load = Load(device, suite.seed)
        load.over(1)
        load.moment()
        began = oldest()
        thinned = Thinned(suite.seed + 1)

    with suite.case("the-oldest-points-go-and-room-comes-free", fatal=True):
        for _ in range(6):
            for _ in range(2):
                load.over(1)
                # All of it is in the journal: on a slow machine the outbox must not be what is too small.
                cli.wait_whole("v")
            load.moment()
            thinned.over()
        poll("the oldest point is a newer one", lambda: oldest() > began, timeout=120)
        poll("the journal is as small as it may be", lambda: space() <= LIMIT + BESIDE, timeout=120)
        cli.wait_protected("v")
        same("gaps", cli.gaps("v"), [])
        need("window-shrunk" in events(), lambda: f"nobody was told: {events()}")
        suite.note(f"oldest seq:{oldest()}, {space() >> 20} MiB of segments, {cli.journal('v')}")

    with suite.case("what-is-kept-is-right", fatal=True):
        same_content(device, BACKING)
        right = checked(load)
        need(right >= 2, f"{right} moments of {len(load.moments)} are left")
        suite.note(f"{right} of {len(load.moments)} moments are left")

    with suite.case("killed-while-room-comes-free-nothing-else-changes", fatal=True):
        for _ in range(2):
            load.over(1)
            cli.wait_whole("v")
            load.over(1)
            old = cli.appliance_pid()
            kill9(old, "journal-appliance")
            cli.restarted("appliance", old)
            cli.wait_whole("v")
            load.moment()
            cli.wait_whole("t")
            thinned.over()
        same("gaps", cli.gaps("v"), [])
        need(checked(load) >= 1, "the newest moment is left")
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)
        same("findings", cli.findings("v"), [])

    with suite.case("a-bookmark-keeps-its-moment-and-says-that-it-is-in-the-way", fatal=True):
        digest = content_digest(device)
        kept, _ = cli.bookmark("v", "kept")
        load.moments[kept] = digest
        before = len(events())
        poll("hosts go on, and nothing can be given up", lambda: load.over(1) or "journal-stopped" in events(before), timeout=240)
        checked(load, kept=(kept,))
        with cli.image_of("v@#kept", "v") as image:
            same("content of the bookmark", content_digest(image.device), digest)
        cli.undisk("bookmark", "remove", "v", "kept")
        poll("the journal goes on", lambda: "journal-goes-on" in events(before), timeout=120)
        cli.wait_whole("v", timeout=240)
        load.moment()
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("points-are-given-up-by-hand", fatal=True):
        load.moment()
        newest = max(load.moments)
        cli.undisk("journal", "trim", "v", "--before", f"seq:{newest}", status=cli.REFUSED)
        cli.undisk("journal", "trim", "v", "--before", f"seq:{newest}", "--yes")
        same("the oldest point", oldest(), newest)
        need(checked(load) == 1, "only the newest moment is left")

    with suite.case("of-what-is-older-than-the-window-a-point-a-minute-stays", fatal=True):
        poll("two minutes have gone by", lambda: thinned.over() or len(thinned.points()) >= 2, timeout=200, pause=2)
        while thinned.written < 5 * SEGMENT:
            thinned.over()
            cli.wait_whole("t")
        poll("what no point shows is not kept", lambda: space("t") < thinned.written - SEGMENT, timeout=120)
        points = thinned.checked()
        suite.note(f"{len(points)} grid points, {thinned.written >> 20} MiB written, {space('t') >> 20} MiB kept")
        same("gaps", cli.gaps("t"), [])
        with cli.image_of("t@latest", "t") as image:
            same_content(thinned.device, image.device)

    with suite.case("down-is-clean-and-up-finds-it-as-it-was"):
        cli.down()
        cli.up()
        cli.wait_whole("v")
        need(set(points) & set(thinned.points()), "grid points are still there")
        same("the oldest point", oldest(), newest)
        checked(load)
        same("findings", cli.findings("v"), [])
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
