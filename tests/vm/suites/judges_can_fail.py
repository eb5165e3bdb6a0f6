#!/usr/bin/python3
# vm: disks=2G mem=2048 cpus=2 timeout=1000 boots=1
"""The suites' own judges, without undisk: right on true moments of a disk, red on wrong ones.

A dm-thin volume stands in for undisk's: its snapshots under load are true past moments. Each judge must accept them, and
must refuse the same moment under a wrong time, from another place, or with one sector changed.
"""

import contextlib
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from churn import Churn, judge  # noqa: E402
from fio import Fio, total  # noqa: E402
from machine import (  # noqa: E402
    Aligned, dm, fsck_clean, mkfs, mounted, mount, opened, reads_eio, same_content, size_of, umount,
)
from sectors import Load, Stream, sector_bytes  # noqa: E402
from trees import FileLoad, differences, tree_digest  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, run, same  # noqa: E402

POOL, THIN = "/dev/mapper/pool", "/dev/mapper/thin"
SIZE = 256 << 20


def snapshot(number):
    """A true moment of the thin volume: its device and the guest's time of that moment."""
    run("dmsetup", "suspend", "--noflush", "--nolockfs", "--noudevsync", "thin")
    moment = time.time_ns()
    run("dmsetup", "message", POOL, "0", f"create_snap {number} 0")
    run("dmsetup", "resume", "--noudevsync", "thin")
    dm(f"snap{number}", f"0 {SIZE // 512} thin {POOL} {number}")
    return f"/dev/mapper/snap{number}", moment


def gone(number):
    """Gives the snapshot back."""
    run("dmsetup", "remove", "--noudevsync", f"snap{number}")
    run("dmsetup", "message", POOL, "0", f"delete {number}")


@contextlib.contextmanager
def red(what):
    """Fails unless the block fails."""
    try:
        yield
    except Failure:
        return
    raise Failure(f"the judge accepts {what}")


def middle_of_something_that_changed(files):
    """A time at which a file was sure to be other than it was in the end."""
    for path, claims in files.claims.items():
        for claim in claims:
            middle = (claim.since + (claim.until or 0)) // 2
            if claim.until and claim.content != files.files.get(path) and claim.covers(middle):
                return middle
    raise Failure("nothing that was durable ever changed")


def body(suite):
    cli.programs_first()
    with suite.case("thin-volume", fatal=True):
        with opened("/dev/vda", os.O_RDWR) as fd:
            os.write(fd, bytes(1 << 20))
        dm("meta", "0 65536 linear /dev/vda 0")
        dm("data", f"0 {size_of('/dev/vda') // 512 - 65536} linear /dev/vda 65536")
        sectors = size_of("/dev/mapper/data") // 512
        dm("pool", f"0 {sectors} thin-pool /dev/mapper/meta /dev/mapper/data 128 0")
        run("dmsetup", "message", POOL, "0", "create_thin 0")
        dm("thin", f"0 {SIZE // 512} thin {POOL} 0")

    with suite.case("sector-judge-accepts-true-moments-and-refuses-wrong-ones"):
        # dm-thin drops discards of less than a block of its own (64 KiB), so there are none here. It cuts requests at those
        # blocks, and a snapshot may fall between the parts; so each operation is one aligned 8 KiB and crosses none.
        load = Load(THIN, suite.seed, suite.rng, streams=4, region_sectors=2048, alignment=16, mix=(8, 0, 1))
        load.start()
        suite.later(load.stop)
        for number in range(1, suite.rounds(3, 20) + 1):
            goal = load.count() + 150
            poll("the load has gone on", lambda: load.count() >= goal)
            device, moment = snapshot(number)
            prefixes = load.judge(device, label_ns=moment)
            suite.note(f"moment {number}: prefixes {prefixes}")
            with red("a moment under a time 3 s too early"):
                load.judge(device, label_ns=moment - 3_000_000_000)
            poll("later operations", lambda: load.count() >= goal + 100)
            time.sleep(0.1)
            with red("a moment under a time that is too late"):
                load.judge(device, label_ns=time.time_ns())
            with red("an old moment as the present"):
                load.judge(device, complete=True)
            gone(number)
        load.stop()
        load.judge(THIN, complete=True)
        need(all(sum(op.kind == kind for op in load.streams[0].operations) for kind in ("write", "zero")),
             "some kind of operation never came")
        buffer = Aligned(4096)
        with opened(THIN, os.O_RDWR | os.O_DIRECT) as fd:
            held = load.streams[1].state_after(len(load.streams[1].operations))
            place = next(2048 + index for index, number in enumerate(held) if number > 3)
            original = buffer.read(fd, place * 512, 512)
            for what, wrong in (
                ("a flipped bit", bytes([original[0] ^ 1]) + original[1:]),
                ("zeros where data was", bytes(512)),
                ("an older operation's data", sector_bytes(2, place, held[place - 2048] - 1, suite.seed)),
                ("another sector's data", sector_bytes(2, place + 1, held[place - 2048], suite.seed)),
            ):
                buffer.write(fd, place * 512, wrong)
                with red(what):
                    load.judge(THIN, complete=True)
            buffer.write(fd, place * 512, original)
        load.judge(THIN, complete=True)

    with suite.case("sector-judge-refuses-a-cut-that-is-no-moment"):
        load = Load(THIN, suite.seed + 1, suite.rng, streams=2, region_sectors=256, first=65536, mix=(1, 0, 0))
        fd_buffer = Aligned(16 * 512)
        with opened(THIN, os.O_RDWR | os.O_DIRECT) as fd:
            for stream in load.streams * 3:
                Stream.perform(stream, fd, fd_buffer, stream.choose())
        whole = load.judge(THIN, complete=True)
        same("prefixes", whole, [3, 3])
        # Undo the first stream's last operation: the second's last one had been submitted after it.
        last = load.streams[0].operations[-1]
        before = load.streams[0].state_after(2)
        with opened(THIN, os.O_RDWR | os.O_DIRECT) as fd:
            for place in range(last.sector, last.sector + last.sectors):
                number = before[place - 65536]
                fd_buffer.write(fd, place * 512, sector_bytes(1, place, number, suite.seed + 1) if number else bytes(512))
        with red("a cut without an operation that had completed earlier"):
            load.judge(THIN)

    with suite.case("churn-accepts-true-moments-of-a-device-and-refuses-wrong-ones"):
        # dm-thin keeps what is discarded in less than a block of its own.
        log = "/tmp/churn.log"
        # Those blocks of 64 KiB cut requests in a way that sysfs does not tell, so no write crosses one.
        churn = Churn(THIN, log, suite.seed, threads=4, depth=4, rate=800, region="262144+32768", longest_write=1,
                      discards_may_keep=True)
        suite.later(churn.kill)
        for number in (300, 301):
            churn.wait_entries(600)
            after = churn.entries()
            device, _ = snapshot(number)
            before = churn.entries()
            told = judge(device, log, after=after, before=before)
            suite.note(f"moment {told['moment']} between {after} and {before}: {told['data']} sectors of data")
            churn.wait_entries(400)
            with red("an old moment as a later one"):
                judge(device, log, after=churn.entries() - 100)
            with red("a moment as an earlier one"):
                judge(device, log, before=after - 400)
            gone(number)
        churn.stop()
        judge(THIN, log, at_least="completed")
        judge(THIN, log, at_least="flushed")
        buffer = Aligned(512)
        with opened(THIN, os.O_RDWR | os.O_DIRECT) as fd:
            place = next(at for at in range(262144, 294912) if buffer.read(fd, at * 512, 512).startswith(b"undchurn"))
            original = bytes(buffer.read(fd, place * 512, 512))
            for what, wrong in (("a flipped bit", original[:300] + bytes([original[300] ^ 8]) + original[301:]),
                                ("foreign data", b"x" * 512)):
                buffer.write(fd, place * 512, wrong)
                with red(what):
                    judge(THIN, log, at_least="completed")
            buffer.write(fd, place * 512, original)
        judge(THIN, log, at_least="completed")

    with suite.case("comparison-names-the-differing-sector"):
        device, _ = snapshot(100)
        same_content(THIN, device)
        with opened(device, os.O_RDWR) as fd:
            os.pwrite(fd, b"x", 123456 * 512 + 7)
        try:
            same_content(THIN, device)
        except Failure as error:
            need("123456" in str(error), f"differently: {error}")
        else:
            raise Failure("the comparison accepts a changed byte")
        gone(100)
        need(not reads_eio(THIN, 0, 4096), "a good sector reads as EIO")
        # Three sectors in the middle that fail.
        dm("bad", f"0 8 linear {THIN} 0\n8 8 error\n16 8 linear {THIN} 16")
        need(reads_eio("/dev/mapper/bad", 4096, 4096) and not reads_eio("/dev/mapper/bad", 8192, 4096), "EIO is not seen")
        run("dmsetup", "remove", "--noudevsync", "bad")

    with suite.case("fio-verdict-is-red-on-a-changed-byte-and-on-a-missing-device"):
        job = {"rw": "randwrite", "bs": "4k", "size": "4M", "iodepth": 16, "verify": "crc32c", "randseed": 7}
        jobs = Fio("/dev/ram0", [job | {"do_verify": 0}]).finish()
        need(total(jobs, "write") == 1024, "fio wrote something else")
        Fio("/dev/ram0", [job | {"verify_only": True}]).finish()
        with opened("/dev/ram0", os.O_RDWR) as fd:
            byte = os.pread(fd, 1, 1234567)
            os.pwrite(fd, bytes([byte[0] ^ 1]), 1234567)
            os.fsync(fd)
        with red("a changed byte"):
            Fio("/dev/ram0", [job | {"verify_only": True}]).finish()
        with red("a device that is not there"):
            Fio("/dev/nosuch", [job]).finish()
        need(not os.path.exists("/dev/nosuch"), "a file was made where a device should be")

    for fs in ("ext4", "xfs"):
        with suite.case(f"{fs}-file-judge-accepts-true-moments-and-refuses-wrong-ones"):
            device = THIN
            if fs == "xfs":
                run("dmsetup", "message", POOL, "0", "create_thin 500")
                dm("big", f"0 {(320 << 20) // 512} thin {POOL} 500")
                device = "/dev/mapper/big"
            mkfs(fs, device)
            mount(device, "/mnt/live", "discard", fs)
            files = FileLoad("/mnt/live", suite.rng)
            moments = []
            for number in range(200, 200 + suite.rounds(2, 10)):
                files.run(200)
                if fs == "ext4":
                    moments.append((number, *snapshot(number)))
            began = time.monotonic()
            files.run(suite.rounds(500, 2000))
            suite.note(f"{fs}: operations in {time.monotonic() - began:.1f} s: {files.counts}")
            umount("/mnt/live")
            files.finish()
            fsck_clean(fs, device)
            with mounted(device, "/mnt/past", fs=fs):
                end = time.time_ns()
                present, missing = files.judge("/mnt/past", end)
                need(present == len(files.files) and missing, f"{present} of {len(files.files)} compared, {missing} gone")
                with red("the end as the middle"):
                    files.judge("/mnt/past", middle_of_something_that_changed(files))
                victim = next(iter(files.files)).replace("/mnt/live", "/mnt/past")
                with open(victim, "r+b") as file:
                    byte = file.read(1)
                    file.seek(0)
                    file.write(bytes([byte[0] ^ 1]))
                with red("a flipped bit in a file"):
                    files.judge("/mnt/past", end)
            for number, image, moment in moments:
                with mounted(image, "/mnt/past", fs=fs):
                    suite.note(f"moment {number}: compared, gone: {files.judge('/mnt/past', moment)}")
                    with red("a moment under the time of the end"):
                        files.judge("/mnt/past", end)
                fsck_clean(fs, image)
                gone(number)

    with suite.case("tree-comparison-names-what-differs"):
        os.makedirs("/mnt/tree/a")
        for name in ("one", "two", "a/three"):
            with open(f"/mnt/tree/{name}", "w", encoding="utf-8") as file:
                file.write(name)
        before = tree_digest("/mnt/tree")
        same("differences", differences(before, tree_digest("/mnt/tree")), "")
        os.unlink("/mnt/tree/one")
        with open("/mnt/tree/a/three", "w", encoding="utf-8") as file:
            file.write("other")
        said = differences(before, tree_digest("/mnt/tree"))
        need("1 missing (one)" in said and "1 changed (a/three)" in said, said)


Suite().main(body)
