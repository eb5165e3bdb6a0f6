#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1200 boots=1
"""Rollback of production volumes: said before it is done, refused while mounted, undone by the bookmark it makes itself;
killed in the middle, at any instant, it leaves the old line or the new one; what it abandoned can still be opened."""

import hashlib
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import (  # noqa: E402
    Aligned, content_digest, discard, fsck_clean, fstrim, io_errors, kill9, lasting_disk, mkfs, mount, mounted, opened,
    read_direct, same_content, sysfs, umount,
)
from trees import differences, tree_digest  # noqa: E402
from undisk_suite import PATIENCE, Failure, Suite, need, poll, same  # noqa: E402

MIB = 1 << 20


def digests(devices):
    """What each device holds now, read past the cache."""
    found = {}
    for name, device in devices.items():
        size = int(sysfs(device, "size")) * 512
        found[name] = hashlib.sha256(read_direct(device, 0, size)).hexdigest()
    return found


def fill(device, rng, mib, start=0):
    """Random data over so many MiB, with a few discards in it."""
    buffer = Aligned(MIB)
    with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
        for number in range(start, start + mib):
            buffer.write(fd, number * MIB, rng.randbytes(MIB))
        for _ in range(mib // 4):
            discard(fd, (start * MIB) + rng.randrange(mib * 16) * 65536, 65536)
        os.fsync(fd)


def rolled_back(group):
    """Waits until no volume of the group is being restored and all are served."""
    def settled():
        return all(v["state"] == "live" for v in cli.volumes() if v["group"] == group)
    poll(f"group {group} is settled", settled, timeout=180)


class Writer(threading.Thread):
    """A host that writes one block, a higher number each time, and knows the last one that it was told is written."""

    AT = 5 << 20

    def __init__(self, device):
        super().__init__(name="writer", daemon=True)
        self.device, self.acknowledged, self.error = device, 0, None
        self.halt = threading.Event()

    def run(self):
        try:
            buffer = Aligned(4096)
            with opened(self.device, os.O_RDWR | os.O_DIRECT) as fd:
                while not self.halt.is_set():
                    number = self.acknowledged + 1
                    buffer.write(fd, self.AT, number.to_bytes(8, "little") * 512)
                    self.acknowledged = number
        except OSError as error:
            self.error = error

    def go_on(self, count):
        """Waits until it has written so many times more."""
        goal = self.acknowledged + count
        poll("the host writes on", lambda: self.error or self.acknowledged >= goal, timeout=120)
        need(self.error is None, f"the host saw {self.error}")

    def stop(self):
        """Ends it."""
        self.halt.set()
        poll("the last write has ended", lambda: not self.is_alive())
        need(self.error is None, f"the host saw {self.error}")

    def on_disk(self):
        """The number in the block now."""
        return int.from_bytes(read_direct(self.device, self.AT, 4096)[:8], "little")


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)

    with suite.case("a-group-with-files-and-a-group-of-two-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        device = cli.create_volume("files", "/mnt/store/files.img", size="128M")
        cli.wait_protected("files")
        mkfs("ext4", device)
        mount(device, "/mnt/live", "discard", "ext4")
        for number in range(80):
            with open(f"/mnt/live/f{number}", "wb") as file:
                file.write(suite.rng.randbytes(suite.rng.randint(1, 60000)))
        os.sync()
        cli.bookmark("files", "good")
        good = tree_digest("/mnt/live")
        for number in range(0, 80, 2):
            os.unlink(f"/mnt/live/f{number}")
        with open("/mnt/live/f1", "wb") as file:
            file.write(b"overwritten")
        os.sync()
        fstrim("/mnt/live")
        bad = tree_digest("/mnt/live")
        need(differences(good, bad), "the disaster changed nothing")

    with suite.case("refused-while-mounted"):
        before = cli.bookmarks("files")
        done = cli.undisk("rollback", "files@#good", "--yes", status=cli.REFUSED)
        need("mount" in cli.one_line(done), f"does not say why: {done}")
        same("files", differences(bad, tree_digest("/mnt/live")), "")
        same("bookmarks", cli.bookmarks("files"), before)
        umount("/mnt/live")

    with suite.case("dry-run-says-what-it-would-do-and-does-nothing"):
        backing, head = content_digest("/mnt/store/files.img"), cli.journal("files")["head"]
        plan = cli.ask("rollback", "files@#good", "--dry-run")["plan"]
        same("target", plan["target"], cli.bookmarks("files")["good"])
        need(plan["writes_given_up"] > 0 and plan["punches_given_up"] > 0 and plan["changed_bytes"] > 0, f"{plan}")
        same("journal head", cli.journal("files")["head"], head)
        same("backing", content_digest("/mnt/store/files.img"), backing)
        said = cli.undisk("rollback", "files@#good", "--dry-run").out
        need("before-rollback" in said or str(plan["writes_given_up"]) in said, f"says too little: {said!r}")

    with suite.case("rollback-brings-the-files-back", fatal=True):
        abandoned = cli.journal("files")["head"]
        undo = cli.ask("rollback", "files@#good", "--yes")["rollback"]["undo_bookmark"]
        need(undo.startswith("before-rollback-") and undo in cli.bookmarks("files"), f"the undo bookmark is {undo!r}")
        with mounted(device, "/mnt/live", "discard", "ext4"):
            same("files", differences(good, tree_digest("/mnt/live")), "")
        fsck_clean("ext4", device)
        with cli.image_of("files@latest", "files") as image:
            same_content(device, image.device)

    with suite.case("abandoned-line-can-still-be-opened-by-seq"):
        with cli.image_of(f"files@seq:{abandoned}", "files", rw=True) as image:
            with mounted(image.device, "/mnt/past", fs="ext4"):
                same("files", differences(bad, tree_digest("/mnt/past")), "")

    with suite.case("host-goes-on-after-a-rollback"):
        with mounted(device, "/mnt/live", "discard", "ext4"):
            with open("/mnt/live/after", "wb") as file:
                file.write(b"life goes on")
        cli.bookmark("files", "after")
        with cli.image_of("files@#after", "files", rw=True) as image:
            with mounted(image.device, "/mnt/past", fs="ext4"):
                same("differences", differences(good, tree_digest("/mnt/past")), "1 extra (after)")

    with suite.case("rollback-is-undone-by-its-own-bookmark", fatal=True):
        cli.undisk("rollback", f"files@#{undo}", "--yes")
        with mounted(device, "/mnt/live", "discard", "ext4"):
            same("files", differences(bad, tree_digest("/mnt/live")), "")
        fsck_clean("ext4", device)
        with cli.image_of("files@#good", "files", rw=True) as image:
            with mounted(image.device, "/mnt/past", fs="ext4"):
                same("files at the bookmark", differences(good, tree_digest("/mnt/past")), "")

    size = suite.rounds(24, 96)
    with suite.case("a-group-of-two-is-rolled-back-as-one", fatal=True):
        cli.undisk("group", "create", "pair")
        pair = {name: cli.create_volume(name, f"/mnt/store/{name}.img", size=f"{size}M", group="pair")
                for name in ("one", "two")}
        cli.wait_protected("pair")
        for target in pair.values():
            fill(target, suite.rng, size // 2)
        cli.bookmark("pair", "early")
        early = digests(pair)
        for target in pair.values():
            fill(target, suite.rng, size * 3 // 4, start=size // 4)
        cli.bookmark("pair", "late")
        late = digests(pair)
        need(all(early[name] != late[name] for name in pair), "nothing changed")
        began = time.monotonic()
        cli.undisk("rollback", "pair@#early", "--yes")
        rolled_back("pair")
        span = time.monotonic() - began
        suite.note(f"a rollback of {2 * size} MiB took {span:.1f} s")
        need(digests(pair) == early, "the volumes are not as they were at early")
        cli.undisk("rollback", "pair@#late", "--yes")
        rolled_back("pair")
        need(digests(pair) == late, "the volumes are not as they were at late")

    states, now = {"early": early, "late": late}, "late"
    rounds, number, middle = suite.rounds(2, 40), 0, 0
    # Where a kill falls is chance; a few more rounds if none of them has come in the middle.
    while number < rounds or (not middle and number < 24):
        which = ("splitter", "appliance")[number % 2]
        with suite.case(f"kill-of-{which}-in-the-middle-leaves-one-line-or-the-other-{number}", fatal=True):
            target = "early" if now == "late" else "late"
            program = {"splitter": "ublk-splitter", "appliance": "journal-appliance"}[which]
            old = cli.splitter_pid() if which == "splitter" else cli.appliance_pid()
            command = subprocess.Popen(["undisk", "rollback", f"pair@#{target}", "--yes"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            # Any instant of the span that a rollback takes is as good as any other.
            instant = suite.rng.uniform(0, span)
            time.sleep(instant)
            was_running = command.poll() is None
            kill9(old, program)
            try:
                out, err = command.communicate(timeout=180 * PATIENCE)
            except subprocess.TimeoutExpired:
                command.kill()
                raise Failure("the rollback command hangs after the kill") from None
            middle += was_running
            cli.restarted(which, old)
            cli.wait_protected("pair", timeout=180)
            rolled_back("pair")
            found = digests(pair)
            same("volumes", sorted(name for name in states if states[name] == found) != [], True)
            shown = next(name for name in states if states[name] == found)
            if command.returncode == 0:
                same("line after a rollback that said it was done", shown, target)
            suite.note(f"{which} killed {'in the middle' if was_running else 'after the end'}: status "
                       f"{command.returncode}, now {shown}; {err.strip()[:100]}")
            with cli.image_of("pair@latest", "one") as image:
                same_content(pair["one"], image.device)
            # The same command can be repeated.
            cli.undisk("rollback", f"pair@#{target}", "--yes")
            rolled_back("pair")
            same("content after the repeated rollback", digests(pair) == states[target], True)
            now = target
            if not was_running:
                # It took less than the one that was measured.
                span = instant
        number += 1
    with suite.case("some-kills-came-in-the-middle"):
        need(middle, "every rollback had ended before its kill")

    for number in range(suite.rounds(1, 20)):
        with suite.case(f"what-a-host-writes-when-it-goes-on-stays-though-the-appliance-is-killed-{number}", fatal=True):
            old = cli.appliance_pid()
            writer = Writer(pair["one"])
            suite.later(writer.stop)
            writer.start()
            writer.go_on(5)
            target = "early" if number % 2 else "late"
            command = subprocess.Popen(["undisk", "rollback", f"pair@#{target}", "--yes", "--force"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            # Around the end, as far as one can tell: that is where the hosts go on.
            time.sleep(suite.rng.uniform(0.6 * span, 1.4 * span))
            kill9(old, "journal-appliance")
            command.communicate(timeout=180 * PATIENCE)
            cli.restarted("appliance", old)
            cli.wait_protected("pair", timeout=180)
            rolled_back("pair")
            writer.go_on(20)
            writer.stop()
            same("the last write that the host was told of", writer.on_disk(), writer.acknowledged)
            cli.bookmark("pair", f"after-force-{number}")
            with cli.image_of("pair@latest", "one") as image:
                same_content(pair["one"], image.device)

    with suite.case("bookmarks-are-right-after-all-of-it"):
        for mark, expected in states.items():
            images = cli.open_images(f"pair@#{mark}")
            same(f"content at {mark}", digests({name: image.device for name, image in images.items()}) == expected, True)
            cli.undisk("image", "close", f"pair@#{mark}")
        same("findings", cli.findings("pair"), [])
        same("errors in the kernel's log", io_errors(), [])

    with suite.case("down-is-clean"):
        cli.down()


Suite().main(body)
