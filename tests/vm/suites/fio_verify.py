#!/usr/bin/python3
# vm: disks=2x2G,96M mem=2048 cpus=2 timeout=1200 boots=1
"""Everything that a host sends arrives, whatever its size and place: fio with checksums on two queues, trims mixed in,
single sectors at odd places, a file system with 1 KiB blocks, a partition table."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from fio import Fio, total  # noqa: E402
from machine import (  # noqa: E402
    Aligned, discard, fsck_clean, io_errors, is_block, lasting_disk, mkfs, mounted, opened, read_direct, same_content,
    size_of, sysfs, zero_out,
)
from sectors import Load  # noqa: E402
from trees import FileLoad, differences, tree_digest  # noqa: E402
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20


def queues_used(device, jobs):
    """How many hardware queues carried requests, by their own counters where the kernel shows them."""
    base = f"/sys/kernel/debug/block/{os.path.basename(device)}"
    busy = 0
    for queue in sorted(os.listdir(f"/sys/block/{os.path.basename(device)}/mq")):
        try:
            with open(f"{base}/hctx{queue}/run", encoding="ascii") as file:
                busy += int(file.read()) > 0
        except FileNotFoundError:
            return None
    return busy


def punches_between(device, suite):
    """Discards of every alignment at the edges of data: exactly the sectors asked for read zero, no other changes."""
    buffer = Aligned(64 * 512)
    base = 40 * MIB
    for first, count in ((1, 1), (3, 5), (7, 9), (8, 8), (5, 30), (17, 22), (0, 64), (63, 1)):
        for how in (discard, zero_out):
            filled = bytes([suite.rng.randint(1, 255)]) * (64 * 512)
            with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
                buffer.write(fd, base, filled)
                how(fd, base + first * 512, count * 512)
            expected = filled[: first * 512] + bytes(count * 512) + filled[(first + count) * 512 :]
            need(read_direct(device, base, 64 * 512) == expected,
                 f"{how.__name__} of {count} sectors at sector {first} did not zero exactly those")


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    lasting_disk("/dev/vda", cli.STATE, fresh=True)
    size = suite.rounds(12, 256)

    with suite.case("volume-on-a-file-comes-up-with-two-queues", fatal=True):
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("v", "/mnt/store/v.img", size="640M", queues=2)
        cli.wait_protected("v")
        same("queues", len(os.listdir(f"/sys/block/{os.path.basename(device)}/mq")), 2)
        same("logical block size", int(sysfs(device, "queue/logical_block_size")), 512)
        same("write cache", sysfs(device, "queue/write_cache"), "write back")
        same("fua", sysfs(device, "queue/fua"), "1")
        need(int(sysfs(device, "queue/discard_max_bytes")) > 0, "no discards")
        need(int(sysfs(device, "queue/write_zeroes_max_bytes")) > 0, "no write-zeroes")

    with suite.case("fio-crc32c-random-writes-with-trims-on-two-queues"):
        job = {"size": f"{size}M", "verify": "crc32c", "do_verify": 1, "iodepth": 16}
        # Each write follows a trim of its blocks, and a fifth of what was written is trimmed again: that must read zero.
        trims = {"rw": "randtrimwrite", "bs": "4k", "trim_percentage": 20, "trim_backlog": 64, "trim_verify_zero": 1}
        # Any number of sectors at any sector.
        odd = {"rw": "randwrite", "bssplit": "512/30:1536/20:4k/20:5k/20:64k/10", "blockalign": 512}
        jobs = Fio(
            device,
            [
                job | trims | {"offset": 0, "cpus_allowed": 0},
                job | odd | {"offset": "256M", "cpus_allowed": 1},
                {"rw": "randtrim", "bs": "64k", "offset": "520M", "size": f"{min(size, 96)}M", "iodepth": 16},
            ],
        ).finish(timeout=1200)
        suite.note(f"{total(jobs, 'write')} writes, {total(jobs, 'trim')} trims, {total(jobs, 'read')} reads to verify")
        need(total(jobs, "trim") > 100 and total(jobs, "write") > 1000, "too little happened")
        used = queues_used(device, jobs)
        need(used in (None, 2), f"{used} queue was used")

    with suite.case("discarded-sectors-read-zero-exactly-those"):
        punches_between(device, suite)

    with suite.case("single-sectors-at-odd-places-keep-what-was-written"):
        load = Load(device, suite.seed, suite.rng, streams=4, region_sectors=2048, first=65536 + 1, alignment=1,
                    longest=11, mix=(6, 3, 1))
        suite.later(load.stop)
        load.start()
        poll("enough operations", lambda: load.check_no_error() or load.count() > suite.rounds(600, 10000), timeout=300)
        position, label = cli.bookmark("v", "in-the-middle")
        poll("some more operations", lambda: load.check_no_error() or load.count() > suite.rounds(800, 12000), timeout=300)
        load.stop()
        load.judge(device, complete=True)
        with cli.image_of("v@#in-the-middle", "v") as image:
            same("position", image.position, position)
            load.judge(image.device, label_ns=image.time_ns)
        with cli.image_of("v@latest", "v") as image:
            load.judge(image.device, complete=True)

    with suite.case("image-at-latest-is-byte-identical-after-fio"):
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)

    with suite.case("ext4-with-1-KiB-blocks-and-discard"):
        mkfs("ext4", device, "-b", "1024")
        with mounted(device, "/mnt/live", "discard", "ext4"):
            files = FileLoad("/mnt/live", suite.rng)
            files.run(suite.rounds(300, 2000), trim_every=100)
            files.finish()
        fsck_clean("ext4", device)
        with mounted(device, "/mnt/live", "discard", "ext4"):
            live = tree_digest("/mnt/live")
        need(len(live) > 20, "no files")
        with cli.image_of("v@latest", "v") as image:
            fsck_clean("ext4", image.device)
            with mounted(image.device, "/mnt/past", "ro", "ext4"):
                same("files", differences(live, tree_digest("/mnt/past")), "")

    with suite.case("read-only-image-shows-the-partition-table", fatal=True):
        table = cli.create_volume("gpt", "/mnt/store/gpt.img", size="96M")
        cli.wait_protected("gpt")
        run("sgdisk", "-n1:0:+32M", "-n2:0:0", table)
        for number in (1, 2):
            poll(f"{table}p{number} is there", lambda number=number: is_block(f"{table}p{number}"))
        mkfs("ext4", f"{table}p1")
        with mounted(f"{table}p1", "/mnt/live", "discard", "ext4"):
            with open("/mnt/live/word", "w", encoding="ascii") as file:
                file.write("kept")
        with cli.image_of("gpt@latest", "gpt") as image:
            for number in (1, 2):
                poll(f"{image.device}p{number} is there", lambda number=number: is_block(f"{image.device}p{number}"))
                same("size", size_of(f"{image.device}p{number}"), size_of(f"{table}p{number}"))
            same("read-only", sysfs(image.device, "ro"), "1")
            with mounted(f"{image.device}p1", "/mnt/past", "ro", "ext4"):
                with open("/mnt/past/word", encoding="ascii") as file:
                    same("the file", file.read(), "kept")

    with suite.case("block-device-as-backing"):
        raw = cli.create_volume("raw", "/dev/vdc")
        cli.wait_protected("raw", timeout=300)
        jobs = Fio(raw, [job | trims | {"size": "8M"}]).finish()
        need(total(jobs, "trim") > 50, "no trims")
        with cli.image_of("raw@latest", "raw") as image:
            same_content(raw, image.device)

    with suite.case("the-host-saw-no-error"):
        same("errors in the kernel's log", io_errors(), [])
        for name in ("v", "gpt", "raw"):
            same(f"errors of {name}", cli.volume(name)["counts"]["errors"], 0)

    with suite.case("down-is-clean"):
        cli.down()


Suite().main(body)
