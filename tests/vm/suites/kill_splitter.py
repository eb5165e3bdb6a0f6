#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 boots=1
"""kill -9 of the splitter with requests in flight, twice in a row: the supervisor brings it back, the host sees no error,
fio's checksums hold, there is no gap, images are moments that were; a volume mounted all along can be unmounted and taken
down afterwards."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from fio import Fio, total  # noqa: E402
from machine import (  # noqa: E402
    discard, fsck_clean, io_errors, kill9, lasting_disk, mkfs, mount, opened, same_content, size_of, umount,
)
from sectors import Load  # noqa: E402
from trees import FileLoad, differences, tree_digest  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, same  # noqa: E402


class Verified:
    """fio that checks what it wrote, once more whenever it is through before the suite is."""

    def __init__(self, device):
        self.device, self.jobs = device, []
        self.fio = self.another()

    def another(self):
        return Fio(self.device, [{"rw": "randwrite", "bs": "4k", "size": "16M", "offset": f"{32 * cpu}M", "iodepth": 16,
                                  "verify": "crc32c", "do_verify": 1, "cpus_allowed": cpu} for cpu in (0, 1)])

    def wait_until_busy(self, requests):
        """Waits until so many requests are in flight."""
        while True:
            try:
                self.fio.wait_until_busy(requests)
                return
            except Failure:
                need(not self.fio.running(), "fio hangs")
                self.jobs += self.fio.finish()
                self.fio = self.another()

    def finish(self):
        """All jobs; fails unless every one of them found what it had written."""
        return self.jobs + self.fio.finish(timeout=400)

    def kill(self):
        """Ends it, whatever it was doing."""
        self.fio.kill()


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)

    with suite.case("three-volumes-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        noisy = cli.create_volume("noisy", "/mnt/store/noisy.img", size="64M", queues=2)
        told = cli.create_volume("told", "/mnt/store/told.img", size="32M")
        held = cli.create_volume("held", "/mnt/store/held.img", size="128M")
        for name in ("noisy", "told", "held"):
            cli.wait_protected(name)
        mkfs("ext4", held)
        mount(held, "/mnt/held", "discard", "ext4")
        files = FileLoad("/mnt/held", suite.rng)
        files.run(100)
        gaps = {name: cli.gaps(name) for name in ("noisy", "told", "held")}

    for number in range(1, suite.rounds(1, 5) + 1):
        with suite.case(f"two-kills-in-a-row-with-requests-in-flight-{number}", fatal=True):
            with opened(told, os.O_RDWR | os.O_DIRECT) as fd:
                discard(fd, 0, size_of(told))
            start, _ = cli.bookmark("told", f"start-{number}")
            load = Load(told, suite.seed + number, suite.rng, streams=4, region_sectors=4096)
            suite.later(load.stop)
            load.start()
            fios = Verified(noisy)
            suite.later(fios.kill)
            for kill in (1, 2):
                old = cli.splitter_pid()
                fios.wait_until_busy(4)
                kill9(old, "ublk-splitter")
                if kill == 1:
                    new = cli.restarted("splitter", old)
                else:
                    # While it is down, files on the mounted volume wait; then they go on.
                    files.run(20)
                    new = cli.restarted("splitter", old)
                suite.note(f"kill {kill}: {old} -> {new}")
            jobs = fios.finish()
            need(total(jobs, "read") >= total(jobs, "write") > 1000, "fio verified too little")
            goal = load.count() + 50
            poll("the load goes on", lambda: load.check_no_error() or load.count() >= goal)
            load.stop()
            load.judge(told, complete=True)

        with suite.case(f"images-are-moments-that-were-{number}"):
            end, _ = cli.bookmark("told", f"end-{number}")
            with cli.image_of("told@latest", "told") as image:
                load.judge(image.device, complete=True)
            for position in cli.random_positions(suite.rng, start, end, suite.rounds(5, 20), cli.gaps("told")):
                with cli.image_of(f"told@seq:{position}", "told") as image:
                    load.judge(image.device, label_ns=image.time_ns)

    with suite.case("image-at-latest-is-byte-identical"):
        cli.bookmark("noisy", "end")
        with cli.image_of("noisy@latest", "noisy") as image:
            same_content(noisy, image.device)

    with suite.case("no-gap"):
        for name, before in gaps.items():
            same(f"gaps of {name}", cli.gaps(name), before)
            cli.wait_protected(name)

    with suite.case("volume-mounted-all-along-can-be-unmounted-and-taken-down", fatal=True):
        before = tree_digest("/mnt/held")
        files.run(100)
        files.finish()
        umount("/mnt/held")
        fsck_clean("ext4", held)
        mount(held, "/mnt/held", "discard", "ext4")
        after = tree_digest("/mnt/held")
        umount("/mnt/held")
        need(differences(before, after), "the load changed nothing")
        # On the file system's own word: every file's last state is what the load knows of it.
        mount(held, "/mnt/held", "ro", "ext4")
        present, gone = files.judge("/mnt/held", 1 << 62)
        umount("/mnt/held")
        suite.note(f"{present} files compared, {gone} gone")

    with suite.case("the-host-saw-no-error"):
        same("errors in the kernel's log", io_errors(), [])

    with suite.case("down-is-clean"):
        cli.down()


Suite().main(body)
