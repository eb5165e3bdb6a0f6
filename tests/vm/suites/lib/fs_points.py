"""What ext4_points.py and xfs_points.py share: a file system lives on a volume, and past moments of it are opened.

Goal: files that were fsynced before a moment are there in every image of that moment, whatever was deleted, trimmed or
overwritten later, and looking at the past changes neither the volume nor the journal.
"""

import os

import cli
from machine import content_digest, fsck_clean, lasting_disk, mkfs, mount, mounted, same_content, size_of, umount
from trees import FileLoad
from undisk_suite import need, same


def body(fs, size, mount_options="discard"):
    """The suite for one file system."""

    def run(suite):
        cli.programs_first()
        suite.diagnostics.append(cli.diagnose)
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        backing, live = "/mnt/store/v.img", "/mnt/live"
        points = suite.rounds(4, 20)
        files = FileLoad(live, suite.rng)

        with suite.case("volume-comes-up", fatal=True):
            cli.up()
            device = cli.create_volume("v", backing, size=size)
            cli.wait_protected("v")
            mkfs(fs, device)
            start, _ = cli.bookmark("v", "fresh")

        with suite.case("2000-file-operations-with-deletes-and-fstrim", fatal=True):
            mount(device, live, mount_options, fs)
            files.run(2000)
            umount(live)
            files.finish()
            suite.note(f"{files.counts}, {files.trimmed} bytes trimmed")
            need(files.counts["delete"] >= 200 and files.trimmed > 0, "the load deleted or trimmed nothing")
            need(cli.volume("v")["counts"]["punches"] > 0, "no discard reached the volume")

        with suite.case("live-volume-checks-clean"):
            fsck_clean(fs, device)

        with suite.case("image-at-latest-is-byte-identical"):
            with cli.image_of("v@latest", "v") as image:
                same_content(device, image.device)

        before_backing, before_journal = content_digest(backing), cli.journal("v")["head"]
        line = cli.timeline("v")
        newest = line["window"]["newest"]
        holes = [(gap["begin"], gap["end"]) for gap in line["gaps"]]
        chosen = cli.random_positions(suite.rng, start, newest, points, holes)
        need(len(chosen) == points, f"only {len(chosen)} points to choose from")
        compared = gone = 0
        for position in chosen:
            with suite.case(f"point-{position}-mounts-and-has-every-fsynced-file"):
                with cli.image_of(f"v@seq:{position}", "v", rw=True) as image:
                    same("position of the image", image.position, position)
                    same("size of the image", size_of(image.device), size_of(device))
                    # nouuid: xfs refuses a second file system with the identity of a mounted one, or one just seen.
                    options = "nouuid" if fs == "xfs" else ""
                    with mounted(image.device, "/mnt/past", options, fs) as folder:
                        here = files.judge(folder, image.time_ns)
                    fsck_clean(fs, image.device)
                    compared, gone = compared + here[0], gone + here[1]
        with suite.case("points-had-something-to-compare"):
            suite.note(f"{compared} files compared, {gone} rightly gone, over {points} points")
            # Early points have few files, and chance may choose several of those.
            need(compared > 10 * points and gone > 0, f"{compared} files compared, {gone} gone: the judge sleeps")

        with suite.case("volume-and-journal-unchanged-by-images"):
            same("backing", content_digest(backing), before_backing)
            same("journal head", cli.journal("v")["head"], before_journal)

        with suite.case("down-is-clean"):
            cli.down()
            need(not os.path.exists(device), f"{device} is still there")

    return run
