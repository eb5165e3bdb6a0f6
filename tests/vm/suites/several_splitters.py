#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=600 boots=1
"""One group, two splitter processes, a volume each, written in turn by one host: the counter on A is that on B, or one
ahead, at every barrier; other moments are refused without an explicit override. A splitter that does not hold its hosts
fails the barrier and nobody else; kills of any daemon lose nothing; a rollback holds all hosts, and can be undone."""

import os
import signal
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import Aligned, alive, io_errors, kill9, lasting_disk, opened, program_of, read_direct  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, run, same  # noqa: E402

SECTOR = 2048
BLOCK = 4096
EAST = ("--splitter", "east")


def block(counter):
    """A block that begins with the counter."""
    return struct.pack("<Q", counter) * (BLOCK // 8)


def counter_of(device):
    """The counter on a device; fails if the block is not one whole counter."""
    data = read_direct(device, SECTOR * 512, BLOCK)
    counter = struct.unpack_from("<Q", data)[0]
    need(data == block(counter), "a torn block")
    return counter


class Turns:
    """Writes counters on A, on B, on A, ... until it is stopped, each waiting for the one before."""

    def __init__(self, a, b, first):
        self.devices, self.counter, self.error = (a, b), first, None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            buffer = Aligned(BLOCK)
            with opened(self.devices[0], os.O_RDWR | os.O_DIRECT) as fa:
                with opened(self.devices[1], os.O_RDWR | os.O_DIRECT) as fb:
                    while not self.stopping.is_set():
                        for fd in (fa, fb):
                            buffer.write(fd, SECTOR * 512, block(self.counter))
                        self.counter += 1
        except OSError as error:
            self.error = error

    def reaches(self, more):
        """Waits until so many more counters are written."""
        goal = self.counter + more
        poll(f"the host has written counter {goal}", lambda: self.counter >= goal or self.error, timeout=120)
        need(self.error is None, lambda: f"the host got {self.error}")

    def stop(self):
        """Ends it; the next counter."""
        self.stopping.set()
        self.thread.join(60)
        need(not self.thread.is_alive(), "the host hangs")
        need(self.error is None, lambda: f"the host got {self.error}")
        return self.counter


def a_leads_by_at_most_one(a, b):
    """Fails unless A = B or A = B + 1."""
    need(a in (b, b + 1), f"A is {a} and B is {b}")


def shown_at(point, *options):
    """Both counters of an image."""
    answer = cli.ask("image", "open", point, *options)["images"]
    try:
        counters = {image["volume"]: counter_of(image["device"]) for image in answer}
    finally:
        for image in answer:
            cli.undisk("image", "close", image["device"])
    same("volumes of the image", sorted(counters), ["a", "b"])
    return counters["a"], counters["b"]


def east_pid():
    """The process id of the splitter named east."""
    answer = cli.ask(*EAST, "status", status=(cli.OK, cli.DEGRADED, cli.UNREACHABLE))["splitter"]
    pid = answer and answer["pid"]
    need(pid and alive(pid), "it does not run")
    same(f"program of process {pid}", program_of(pid), "ublk-splitter")
    return pid


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)

    with suite.case("a-splitter-without-an-appliance-is-refused"):
        done = cli.undisk(*EAST, "up", status=cli.UNREACHABLE)
        cli.one_line(done)
        done = cli.undisk("--splitter", "main", "volume", "list", status=cli.USAGE)
        cli.one_line(done)

    with suite.case("two-splitters-serve-one-group", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        cli.undisk(*EAST, "up", "--appliance", f"{cli.RUN}/appliance.sock")
        done = cli.undisk(*EAST, "up")
        need("already up" in done.out, done.out)
        cli.undisk("group", "create", "pair")
        a = cli.create_volume("a", "/mnt/store/a.img", size="64M", group="pair")
        b = cli.last_line(cli.undisk(
            *EAST, "volume", "create", "b", "--backing", "/mnt/store/b.img", "--create", "--size", "64M", "--group", "pair"
        ))
        cli.wait_protected("pair")
        need(cli.group("pair")["barriers_only"], "the group does not know that two splitters serve it")
        same("who serves what", {v["name"]: v["splitter"] for v in cli.group("pair")["volumes"]}, {"a": "main", "b": "east"})
        need("east" in cli.undisk("status").out, "status does not tell of the other splitter")

    bookmarks = {}
    turns = Turns(a, b, 1)

    with suite.case("every-barrier-is-one-moment", fatal=True):
        for number in range(suite.rounds(4, 50)):
            turns.reaches(5)
            position, _ = cli.bookmark("pair", f"at-{number}")
            held = shown_at(f"pair@#at-{number}")
            a_leads_by_at_most_one(*held)
            bookmarks[f"at-{number}"] = (position, held)
        turns.reaches(5)
        seen = {held[0] for _, held in bookmarks.values()}
        same("different moments", len(seen), len(bookmarks))
        same("latest", shown_at("pair@latest"), bookmarks[max(bookmarks, key=lambda name: bookmarks[name][0])][1])

    with suite.case("no-other-moment-is-offered-without-an-override"):
        first, last = bookmarks["at-0"][0], bookmarks["at-1"][0]
        for position in range(first + 1, min(first + 6, last)):
            line = cli.refused_point(f"pair@seq:{position}")
            need("barrier" in line, line)
        cli.one_line(cli.undisk("rollback", f"pair@seq:{first + 1}", "--dry-run", status=cli.REFUSED))
        shown_at(f"pair@seq:{first + 1}", "--any-point")
        # By time, the last barrier before it is meant.
        marks = [mark for mark in cli.timeline("pair")["marks"] if mark["kind"] == "barrier"]
        need(len(marks) >= len(bookmarks), f"{len(marks)} barriers in the timeline")

    with suite.case("a-splitter-that-stands-still-fails-the-barrier-and-no-host-waits-for-long"):
        pid = poll("east answers", east_pid, timeout=120)
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            done = cli.undisk("bookmark", "add", "pair", "broken", status=cli.FAILED)
            need("east" in cli.one_line(done), done.err)
            suite.note(f"told after {time.monotonic() - began:.1f} s")
            # The other splitter's hosts were let go: this write ends while east is still stopped.
            with opened(a, os.O_RDWR | os.O_DIRECT) as fd:
                Aligned(BLOCK).write(fd, 4096 * 512, block(7))
            need("broken" not in cli.bookmarks("pair"), "a bookmark was made of it")
        finally:
            os.kill(pid, signal.SIGCONT)
        turns.reaches(5)
        poll("a barrier can be made again", lambda: cli.bookmark("pair", "after-the-stop"), timeout=120)
        a_leads_by_at_most_one(*shown_at("pair@#after-the-stop"))
        same("gaps", cli.gaps("pair"), [])

    with suite.case("killed-daemons-come-back-without-a-gap-and-barriers-hold"):
        for number in range(suite.rounds(3, 20)):
            victim = ("east", "main", "appliance")[number % 3]
            old = {"east": east_pid, "main": cli.splitter_pid, "appliance": cli.appliance_pid}[victim]
            program = "journal-appliance" if victim == "appliance" else "ublk-splitter"
            before = poll(f"{victim} answers", old, timeout=120)
            # In the middle of a barrier, as often as chance will have it.
            asker = threading.Thread(
                target=lambda n=number: run("undisk", "bookmark", "add", "pair", f"racing-{n}", status=None), daemon=True
            )
            asker.start()
            time.sleep(suite.rng.random() * 0.2)
            kill9(before, program)
            poll(f"{victim} runs again", lambda: (pid := old()) != before and pid, timeout=120)
            asker.join(180)
            turns.reaches(5)
            cli.wait_protected("pair")
            poll("a barrier can be made again", lambda n=number: cli.bookmark("pair", f"killed-{n}"), timeout=120)
            for name in cli.bookmarks("pair"):
                if name in (f"racing-{number}", f"killed-{number}"):
                    a_leads_by_at_most_one(*shown_at(f"pair@#{name}"))
        same("gaps", cli.gaps("pair"), [])
        same("I/O errors", io_errors(), [])

    with suite.case("a-rollback-takes-all-volumes-to-one-moment-and-back"):
        counter = turns.stop()
        cli.wait_whole("pair")
        position, held = bookmarks["at-2"]
        now = counter_of(a), counter_of(b)
        same("the newest counter", now, (counter - 1, counter - 1))
        done = cli.ask("rollback", "pair@#at-2", "--yes", timeout=300)["rollback"]
        same("target", done["plan"]["target"], position)
        same("rolled back", (counter_of(a), counter_of(b)), held)
        same("the image behind it", shown_at("pair@latest"), held)
        cli.ask("rollback", f"pair@#{done['undo_bookmark']}", "--yes", timeout=300)
        same("undone", (counter_of(a), counter_of(b)), now)
        # Hosts go on behind it.
        turns = Turns(a, b, counter)
        turns.reaches(5)
        turns.stop()

    with suite.case("a-rollback-is-refused-whole-when-one-splitter-is-away"):
        cli.undisk(*EAST, "down")
        line = cli.one_line(cli.undisk("rollback", "pair@#at-1", "--yes", status=(cli.FAILED, cli.REFUSED, cli.UNREACHABLE)))
        suite.note(line)
        need(counter_of(a) > bookmarks["at-1"][1][0], "a volume was changed")
        cli.undisk(*EAST, "up")
        cli.wait_protected("pair")

    with suite.case("once-one-splitter-is-left-every-write-is-a-point"):
        cli.undisk(*EAST, "volume", "remove", "b")
        need(not cli.group("pair")["barriers_only"], "the group still offers only barriers")
        with opened(a, os.O_RDWR | os.O_DIRECT) as fd:
            Aligned(BLOCK).write(fd, SECTOR * 512, block(1 << 40))
        position, _ = cli.bookmark("pair", "alone")
        with cli.image_of(f"pair@seq:{position - 1}", "a"):
            pass

    with suite.case("down-takes-both-splitters"):
        cli.down()
        need(not os.path.exists(a) and not os.path.exists(b), "a device is left")
        same("daemons that still run", run("pgrep", "-x", "ublk-splitter", status=(0, 1)).out, "")


Suite().main(body)
