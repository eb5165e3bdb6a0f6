#!/usr/bin/python3
# vm: mem=3000 timeout=1200 timeout-full=3600 icount
"""Steady random writes over a hot set: its regions stay marked, so that each write costs at most 5 % more instructions than
one that knew no dirty map, and than one in a single region; the store is not flushed and the map is not written for them.
Where the hot set has gone cold, it becomes clean."""

import contextlib
import glob
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from fio import Fio  # noqa: E402
from machine import completed, flushes, io_errors, lasting_disk, mount  # noqa: E402
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
SIZE, FIRST, REGION, HOT = 48 * MIB, 16 * MIB, 256 << 10, 16 * MIB
# At a pace at which no region of the set is left alone for long enough to become clean (10 s). What was marked ahead when the
# load began does become so, within two rounds of clearing; what counts is what comes behind that.
RATE, SETTLED, SECONDS = 150, 24, 40


def memory_disk(name, size):
    """A disk in memory that says that it has a cache."""
    path = f"/mnt/memory/{name}"
    with open(path, "wb") as file:
        file.truncate(size)
    return run("losetup", "--find", "--show", path).out.strip()


def cpu_ns(pid):
    """Nanoseconds of processor time of a process, with all its threads; by this guest's clock they are instructions."""
    total = 0
    for thread in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(thread, encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


def steady(device, pid, length, seed, store=None):
    """Writes at a steady pace; returns the splitter's instructions for each. Fails if `store` is flushed or the map is written
    meanwhile. Only the middle counts: between two loads regions may well become cold."""
    total, first, last = RATE * SECONDS, RATE * SETTLED, RATE * (SECONDS - 2)
    job = {"rw": "randwrite", "bs": "4k", "offset": FIRST, "size": length, "iodepth": 4, "rate_iops": RATE,
           "io_size": total * 4096}
    start = completed(device)
    load = Fio(device, [job], norandommap=True, randseed=seed)
    poll("the load is under way", lambda: load.running() and completed(device) - start >= first, timeout=600, pause=0.1)
    with flushes(store) if store else contextlib.nullcontext(lambda: []) as seen:
        before, count, map_before, began = cpu_ns(pid), completed(device), written(), time.monotonic()
        poll("the load is nearly over", lambda: completed(device) - start >= last, timeout=600, pause=0.5)
        spent, count = cpu_ns(pid) - before, completed(device) - count
        map_after, pace = written(), count / (time.monotonic() - began)
    same("loads that run", load.running(), True)
    load.finish(timeout=600)
    need(pace >= RATE / 2, f"the load wrote at {pace:.0f} a second, not at {RATE}")
    if store:
        same("flushes of the store", seen(), [])
        same("the map's last write", map_after, map_before)
    return spent / count


def map_file():
    """The volume's dirty map."""
    files = glob.glob(f"{cli.STATE}/**/maps/*.map", recursive=True)
    same("dirty maps", len(files), 1)
    return files[0]


def marked():
    """Bytes of regions that are marked, by the map's first sector of bits (docs/formats/dirty-map.md)."""
    with open(map_file(), "rb") as file:
        file.seek(2 * 4096)
        bits = file.read(504)
    return sum(byte.bit_count() for byte in bits) * REGION


def written():
    """When the map was last written."""
    return os.stat(map_file()).st_mtime_ns


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("volume-comes-up", fatal=True):
        lasting_disk("/dev/ram1", cli.STATE, fresh=True)
        # Everything lies in memory, since this guest's clock runs ahead while it waits for a real disk: regions would be
        # cold before their next write. Loop devices, since the kernel sends no flush to a disk without a cache.
        mount("tmpfs", "/mnt/memory", fs="tmpfs")
        loop = memory_disk("store", SIZE)
        lasting_disk(memory_disk("journal", 768 * MIB), "/mnt/journal", fresh=True)
        table = f"0 {SIZE // 512} linear {loop} 0"
        run("dmsetup", "create", "store", "--noudevsync", "--verifyudev", "--table", table)
        cli.up()
        cli.undisk("group", "create", "v", "--journal", "/mnt/journal/v")
        device = cli.create_volume("v", "/dev/mapper/store", group="v")
        cli.wait_protected("v")
        splitter = cli.splitter_pid()

    spread, single = [], []
    with suite.case("a-hot-set-stays-marked-and-nothing-is-flushed-or-written-for-it"):
        for _ in range(suite.rounds(1, 5)):
            single.append(steady(device, splitter, REGION, suite.rng.randrange(1 << 30)))
            spread.append(steady(device, splitter, HOT, suite.rng.randrange(1 << 30), "/dev/mapper/store"))
            need(marked() >= HOT, f"{marked()} bytes are marked of a hot set of {HOT}")

    with suite.case("a-write-costs-no-more-over-a-hot-set-than-in-one-region"):
        ratio = statistics.median(spread) / statistics.median(single)
        suite.note(f"{statistics.median(spread):.0f} instructions a write over the hot set, "
                   f"{statistics.median(single):.0f} in one region: {ratio:.3f}")
        need(ratio <= 1.05, f"{ratio:.3f} of what a write in one region costs")

    with suite.case("the-dirty-map-costs-a-write-no-more-than-a-twentieth"):
        program = f"{os.environ['UNDISK_BIN']}/examples/dirty_map_cost"
        told = subprocess.run([program, "/tmp", "200000"], check=True, stdout=subprocess.PIPE, timeout=600)
        cost, rest = int(told.stdout), statistics.median(spread)
        share = cost / (rest - cost)
        suite.note(f"the map takes {cost} of {rest:.0f} instructions: {share:.3f} more")
        need(share <= 0.05, f"the map makes a write {share:.3f} dearer")

    with suite.case("what-has-gone-cold-becomes-clean"):
        with flushes("/dev/mapper/store") as seen:
            poll("nothing is marked", lambda: marked() == 0, timeout=120)
        need(seen(), "regions became clean and the store was not flushed")

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
