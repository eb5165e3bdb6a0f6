#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=600 boots=1
"""A killed process's I/O goes on without it. On a disk whose writes take seconds: the next splitter serves nothing before the
last write of the one before has landed, so an old write never comes behind a newer one; the next appliance opens a journal
only once nothing of the one before is on its way."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import (  # noqa: E402
    Aligned, inflight, io_errors, kill9, lasting_disk, mkfs, mount, opened, read_direct, same_content,
    slow_disk, slow_table,
)
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

BLOCK = 4096
WRITES = 8
MIB = 1 << 20
# How long a write takes: far longer than it takes to ask how the volume is.
DELAY_MS = 8000


def set_delay(name, below, mib, ms):
    """From now on writes take so long."""
    table = slow_table(below, mib, ms)
    run("dmsetup", "suspend", "--noflush", name, timeout=120)
    run("dmsetup", "reload", name, "--table", table)
    run("dmsetup", "resume", "--noudevsync", name)


def streamed(name):
    """How far the group's stream is: the numbers behind the last record laid and behind the last durable one."""
    ours = cli.ask("group", "status", name)["splitter"]
    return ours["laid"], ours["durable"]


def pattern(number, version):
    """The block that a writer writes at its place."""
    return bytes([version * 16 + number]) * BLOCK


def landed(below, version):
    """How many of the writers' blocks are on the disk below."""
    blocks = (read_direct(below, MIB + number * BLOCK, BLOCK) for number in range(WRITES))
    return sum(block == pattern(number, version) for number, block in enumerate(blocks))


def write_all(device, version):
    """A thread for each writer; each writes one block and ends."""
    def one(number):
        with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
            Aligned(BLOCK).write(fd, MIB + number * BLOCK, pattern(number, version))

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(WRITES)]
    for thread in threads:
        thread.start()
    return threads


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)

    with suite.case("volumes-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        slow = slow_disk("slow", "/dev/ram0", 64, 0)
        device = cli.create_volume("v", slow)
        cli.wait_protected("v", timeout=300)
        gaps = cli.gaps("v")

    for version in range(1, suite.rounds(1, 5) + 1):
        with suite.case(f"a-splitter-serves-nothing-before-the-last-write-of-the-one-before-has-landed-{version}"):
            set_delay("slow", "/dev/ram0", 64, DELAY_MS)
            before, _ = streamed("v")
            threads = write_all(device, version)
            # A record is laid, then its write goes to the disk: by the time that somebody has asked, it has.
            poll("all writes are on their way to the disk", lambda: streamed("v")[0] >= before + WRITES, pause=0.01)
            same("requests that the host waits for", inflight(device), WRITES)
            same("blocks on the disk", landed("/dev/ram0", version), 0)
            old = cli.splitter_pid()
            killed = time.monotonic()
            kill9(old, "ublk-splitter")

            def served():
                asked = time.monotonic()
                told = cli.status(expect=(cli.OK, cli.DEGRADED, cli.UNREACHABLE))["splitter"]
                live = told and told["pid"] != old and all(v["state"] == "live" for v in told["volumes"])
                return (asked, told["pid"]) if live else None

            asked, _ = poll("the volume is served again", served, timeout=180)
            there = landed("/dev/ram0", version)
            answered = time.monotonic()
            # What comes again is written again, and could only have landed so much later.
            need(answered - asked < DELAY_MS / 1000, f"it took {answered - asked:.1f} s to look: this proves nothing")
            same("blocks of the process before that had landed when the next one served", there, WRITES)
            suite.note(f"served {asked - killed:.1f} s after the kill, writes take {DELAY_MS / 1000} s")
            set_delay("slow", "/dev/ram0", 64, 0)
            for thread in threads:
                thread.join(120)
                need(not thread.is_alive(), "a host's write hangs")
            # A newer write of the same blocks is not undone by an old one.
            for thread in write_all(device, version + 8):
                thread.join(120)
            same("newer blocks", landed("/dev/ram0", version + 8), WRITES)
            cli.wait_whole("v")
            cli.bookmark("v", f"round-{version}")
            with cli.image_of(f"v@#round-{version}", "v") as image:
                same_content(device, image.device)
            same("gaps", cli.gaps("v"), gaps)

    with suite.case("an-appliance-opens-a-journal-once-nothing-of-the-one-before-is-on-its-way"):
        below = "/dev/ram1"
        disk = slow_disk("slowj", below, 512, 0)
        mkfs("ext4", disk, "-O", "^has_journal")
        mount(disk, "/mnt/slowj", fs="ext4")
        cli.undisk("group", "create", "w", "--journal", "/mnt/slowj/w")
        other = cli.create_volume("w", "/mnt/store/w.img", size="64M", group="w")
        cli.wait_protected("w")
        gaps = cli.gaps("w")
        set_delay("slowj", below, 512, 1000)
        done, errors = threading.Event(), []

        def write_on():
            version = 0
            while not done.is_set() and not errors:
                version = version % 8 + 1
                for thread in write_all(other, version):
                    thread.join(60)
                    if thread.is_alive():
                        errors.append("a host waits for the journal")

        writer = threading.Thread(target=write_on, daemon=True)
        suite.later(done.set)
        writer.start()
        for _ in range(suite.rounds(1, 10)):
            poll("a write of the journal is on its way", lambda: (now := streamed("w"))[0] > now[1])
            kill9(poll("the appliance answers", cli.appliance_pid, timeout=120), "journal-appliance")
            cli.wait_protected("w", timeout=300)
        done.set()
        writer.join(120)
        same("what the writer met", errors, [])
        set_delay("slowj", below, 512, 0)
        cli.wait_whole("w", timeout=300)
        cli.bookmark("w", "end")
        with cli.image_of("w@#end", "w") as image:
            same_content(other, image.device)
        same("gaps", cli.gaps("w"), gaps)
        same("findings", cli.findings("w"), [])

    with suite.case("the-host-saw-no-error-and-down-is-clean"):
        same("errors in the kernel's log", io_errors(), [])
        cli.down()


Suite().main(body)
