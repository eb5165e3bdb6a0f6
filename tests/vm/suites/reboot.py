#!/usr/bin/python3
# vm: disks=2x1G,64M mem=2048 cpus=2 timeout=900 boots=3
"""What outlives a reboot. After a clean `down`: volumes at the same devices, groups, bookmarks, history. The backing alone,
without undisk, is a plain disk; written to behind our back, the next `up` says so and `group resync` heals. After a power
cut: the host is served at once, what was lost is said, points after it are refused until a resync, older ones are right."""

import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import (  # noqa: E402
    Aligned, fsck_clean, io_errors, is_block, lasting_disk, loop_device, mkfs, mount, mounted, opened, read_direct,
    same_content, size_of, umount,
)
from trees import differences, tree_digest  # noqa: E402
from undisk_suite import Suite, need, run, same  # noqa: E402

STORE = "/mnt/store"
NOTES = f"{STORE}/notes.json"
COUNTER_AT = 1 << 20


def put_files(folder, names, rng):
    """Writes files and makes them durable."""
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(rng.randbytes(rng.randint(1, 40000)))
    os.sync()


def write_counter(device, number):
    """A whole block that says a number, on disk."""
    with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
        Aligned(4096).write(fd, COUNTER_AT, struct.pack("<Q", number) * 512)
        os.fsync(fd)


def read_counter(device):
    """That number."""
    return struct.unpack_from("<Q", read_direct(device, COUNTER_AT, 4096))[0]


def look():
    """All that must be after a reboot as it was before."""
    return {
        "volumes": sorted([v["name"], v["group"], v["device"], v["backing"], v["bytes"], v["queues"]] for v in cli.volumes()),
        "groups": sorted([g["name"], sorted(m["name"] for m in g["volumes"])] for g in cli.groups()),
        "bookmarks": {g["name"]: cli.bookmarks(g["name"]) for g in cli.groups()},
        "oldest": {g["name"]: cli.timeline(g["name"])["window"]["oldest"] for g in cli.groups()},
        "gaps": {g["name"]: cli.gaps(g["name"]) for g in cli.groups()},
    }


def remember(**notes):
    """Adds to what later boots know."""
    known = recall()
    known.update(notes)
    with open(NOTES + ".new", "w", encoding="utf-8") as file:
        json.dump(known, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(NOTES + ".new", NOTES)
    os.sync()


def recall():
    """What earlier boots noted."""
    if not os.path.exists(NOTES):
        return {}
    with open(NOTES, encoding="utf-8") as file:
        return json.load(file)


def check_past(point, expected):
    """The files volume at that point holds exactly these files."""
    with cli.image_of(f"files@{point}", "files", rw=True) as image:
        with mounted(image.device, "/mnt/past", fs="ext4"):
            same(f"files at {point}", differences(expected, tree_digest("/mnt/past")), "")
        fsck_clean("ext4", image.device)


def check_counters(marks):
    """Every counter bookmark shows its number on both volumes of the pair."""
    for name, number in marks.items():
        images = cli.open_images(f"pair@#{name}")
        for image in images.values():
            same(f"counter of {image.volume} at {name}", read_counter(image.device), number)
        cli.undisk("image", "close", f"pair@#{name}")


def first_boot(suite):
    with suite.case("volumes-groups-bookmarks-are-made", fatal=True):
        cli.up()
        device = cli.create_volume("files", f"{STORE}/files.img", size="128M")
        cli.undisk("group", "create", "pair")
        left = cli.create_volume("left", f"{STORE}/left.img", size="32M", group="pair")
        right = cli.create_volume("right", "/dev/vdc", group="pair", dev_id=7, queues=2)
        same("device of right", right, "/dev/ublkb7")
        for name in ("files", "pair"):
            cli.wait_protected(name, timeout=300)
        mkfs("ext4", device)
        mount(device, "/mnt/live", "discard", "ext4")
        put_files("/mnt/live", [f"first{i}" for i in range(60)], suite.rng)
        cli.bookmark("files", "first")
        first = tree_digest("/mnt/live")
        for name in list(first)[:30]:
            os.unlink(os.path.join("/mnt/live", name))
        put_files("/mnt/live", [f"second{i}" for i in range(40)], suite.rng)
        os.unlink("/mnt/live/second0")
        second = tree_digest("/mnt/live")
        umount("/mnt/live")
        cli.bookmark("files", "second")
        for number in (1, 2, 3):
            for target in (left, right):
                write_counter(target, number)
            cli.bookmark("pair", f"count{number}")

    with suite.case("down-is-clean", fatal=True):
        remember(look=look(), first=first, second=second, counters={f"count{n}": n for n in (1, 2, 3)})
        cli.down()
        need(not any(is_block(path) for path in (device, left, right)), "a device is still there")
        same("errors in the kernel's log", io_errors(), [])


def second_boot(suite):
    known = recall()
    with suite.case("after-a-reboot-all-is-as-before", fatal=True):
        cli.up()
        for name in ("files", "pair"):
            cli.wait_protected(name)
        cli.status(expect=(cli.OK,))
        now = json.loads(json.dumps(look()))
        for what, was in known["look"].items():
            same(what, now[what], was)
        device = cli.volume("files")["device"]

    with suite.case("old-points-are-right-after-a-reboot"):
        check_past("#first", known["first"])
        check_past("#second", known["second"])
        check_counters(known["counters"])
        with cli.image_of("files@latest", "files") as image:
            same_content(device, image.device)

    with suite.case("history-goes-on-after-a-reboot"):
        with mounted(device, "/mnt/live", "discard", "ext4"):
            put_files("/mnt/live", ["third"], suite.rng)
        with mounted(device, "/mnt/live", "ro", "ext4"):
            third = tree_digest("/mnt/live")
        need("third" in third, "the file is missing")
        cli.bookmark("files", "third")
        check_past("#third", third)
        check_past("#first", known["first"])

    with suite.case("backing-alone-is-a-plain-disk"):
        cli.down()
        with loop_device(f"{STORE}/files.img", read_only=True) as loop:
            with mounted(loop, "/mnt/plain", "ro", "ext4"):
                same("files of the backing", differences(third, tree_digest("/mnt/plain")), "")
            fsck_clean("ext4", loop)
        cli.up()
        cli.status(expect=(cli.OK,))
        cli.down()

    with suite.case("written-behind-our-back-is-said", fatal=True):
        with loop_device(f"{STORE}/files.img") as loop:
            with mounted(loop, "/mnt/plain", fs="ext4"):
                put_files("/mnt/plain", ["behind"], suite.rng)
        cli.up(status=(cli.DEGRADED,))
        told = cli.undisk("status", status=cli.DEGRADED)
        need("files" in told.out + told.err and "resync" in told.out + told.err, f"{told}: does not say what to do")
        # The other group is not concerned, and the host is served.
        cli.wait_protected("pair")
        with mounted(device, "/mnt/live", "discard", "ext4"):
            behind = tree_digest("/mnt/live")
        need("behind" in behind, "the volume does not show what its backing holds")
        need(cli.health("files") == "needs-resync", f"health is {cli.health('files')}")

    with suite.case("resync-heals-and-older-points-stay-right", fatal=True):
        cli.undisk("group", "resync", "files")
        cli.wait_protected("files", timeout=300)
        cli.status(expect=(cli.OK,))
        with cli.image_of("files@latest", "files") as image:
            same_content(device, image.device)
        cli.bookmark("files", "healed")
        check_past("#healed", behind)
        check_past("#first", known["first"])
        check_past("#third", third)

    with suite.case("running-when-the-power-is-cut", fatal=True):
        left, right = (cli.volume(name)["device"] for name in ("left", "right"))
        for number in (4, 5):
            for target in (left, right):
                write_counter(target, number)
            cli.bookmark("pair", f"count{number}")
        position = cli.bookmarks("pair")["count5"]
        need(cli.durable("pair") >= position, "the bookmark is not durable")
        counters = known["counters"] | {"count4": 4, "count5": 5}
        remember(third=third, behind=behind, counters=counters, last=position)
        mount(device, "/mnt/live", "discard", "ext4")
        put_files("/mnt/live", ["cut"], suite.rng)
        for target in (left, right):
            write_counter(target, 6)
    if suite.failed:
        return
    print(f"# {suite.passed} ok, 0 not ok; now the power is cut")
    sys.stdout.flush()
    # Nothing is closed, nobody is told.
    os.execvp("undisk-vm-cut", ["undisk-vm-cut", "0"])


def third_boot(suite):
    known = recall()
    with suite.case("after-a-power-cut-the-host-is-served-and-the-group-heals-by-itself", fatal=True):
        cli.up(status=(cli.OK, cli.DEGRADED))
        devices = {name: cli.volume(name)["device"] for name in ("files", "left", "right")}
        for name in ("left", "right"):
            same(f"counter of {name}", read_counter(devices[name]), 6)
        with mounted(devices["files"], "/mnt/live", "discard", "ext4"):
            cut = tree_digest("/mnt/live")
        same("files on the live volume", differences(known["behind"], {k: v for k, v in cut.items() if k != "cut"}), "")
        need("cut" in cut, "a file that was synced is missing")
        for name in ("files", "pair"):
            cli.wait_protected(name, timeout=300)
        cli.status(expect=(cli.OK,))
        need(cli.gaps("pair"), "the loss does not show in the timeline")
        newest = cli.gaps("pair")[-1][0] - 1
        need(newest >= known["last"], f"the last point before the gap is {newest}, before {known['last']}, which was durable")
        for name, volume in (("files", "files"), ("pair", "left"), ("pair", "right")):
            with cli.image_of(f"{name}@latest", volume) as image:
                same_content(devices[volume], image.device)
        check_counters(known["counters"])
        check_past("#first", known["first"])
        check_past("#healed", known["behind"])

    with suite.case("points-inside-the-gap-are-refused-those-after-it-are-right"):
        for begin, end in cli.gaps("pair"):
            need(end is not None, "the gap is still open")
            if end - begin > 1:
                cli.refused_point(f"pair@seq:{(begin + end) // 2}")
        for target in ("left", "right"):
            write_counter(devices[target], 8)
        cli.bookmark("pair", "count8")
        check_counters({"count8": 8})

    with suite.case("down-is-clean"):
        cli.down()
        same("size of the block-device backing", size_of("/dev/vdc"), 64 << 20)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    lasting_disk("/dev/vda", cli.STATE, fresh=suite.boot == 1)
    lasting_disk("/dev/vdb", STORE, fresh=suite.boot == 1)
    (first_boot, second_boot, third_boot)[suite.boot - 1](suite)
    run("umount", STORE, status=None)


Suite().main(body)
