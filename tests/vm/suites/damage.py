#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1500 boots=1
"""Journal bytes flipped and cut by hand, while the appliance runs and while it does not: the verifiers name segment, place
and the volume's extents, images answer EIO for exactly the sectors that need what is lost, everything else is right."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import Aligned, lasting_disk, opened, read_direct, reads_eio  # noqa: E402
from sectors import SECTOR, sector_bytes  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, run, same  # noqa: E402

BLOCK = 8
BLOCKS = 512
STREAM = 7
MARKS = ("one", "two", "three", "four")


def content(block, version, seed):
    """What version `version` of a block looks like: eight sectors that say what they are."""
    return b"".join(sector_bytes(STREAM, block * BLOCK + i, version, seed) for i in range(BLOCK))


class Volume:
    """A volume with a group and journal of its own, and the version that each block should show at each bookmark."""

    def __init__(self, name, seed, rng):
        self.name, self.seed = name, seed
        self.device = cli.create_volume(name, f"/mnt/store/{name}.img", size="16M")
        cli.wait_protected(name)
        self.now = {}
        self.at = {}
        for version, mark in enumerate(MARKS, 1):
            self.write(rng.sample(range(BLOCKS), 200), version)
            self.bookmark(mark)
        self.journal = cli.journal(name)["path"]
        same("findings before any damage", cli.findings(name), [])
        for mark in self.at:
            same(f"lost at {mark}", self.lost(mark), set())

    def write(self, blocks, version):
        """Writes a version of some blocks."""
        buffer = Aligned(BLOCK * SECTOR)
        with opened(self.device, os.O_RDWR | os.O_DIRECT) as fd:
            for block in blocks:
                buffer.write(fd, block * BLOCK * SECTOR, content(block, version, self.seed))
                self.now[block] = version
            os.fsync(fd)

    def bookmark(self, name):
        """Names the present moment and remembers what it holds."""
        cli.bookmark(self.name, name)
        self.at[name] = dict(self.now)

    def one_of(self, rng, version, overwritten_later):
        """A block whose version shows at the bookmark of its time, and is, or is not, overwritten later."""
        at = self.at[MARKS[version - 1]]
        return rng.choice([block for block in range(BLOCKS) if at.get(block) == version
                           and (self.at[MARKS[-1]][block] != version) == overwritten_later])

    def expected(self, name, block):
        """The block's bytes at that bookmark."""
        version = self.at[name].get(block)
        return content(block, version, self.seed) if version else bytes(BLOCK * SECTOR)

    def lost_in(self, name, device):
        """Reads every block of an image, each alone: those that answer EIO; fails if one that answers is wrong."""
        lost = set()
        buffer = Aligned(BLOCK * SECTOR)
        with opened(device, os.O_RDONLY | os.O_DIRECT) as fd:
            for block in range(BLOCKS):
                try:
                    data = buffer.read(fd, block * BLOCK * SECTOR, BLOCK * SECTOR)
                except OSError as error:
                    same(f"error of block {block}", error.strerror, os.strerror(5))
                    lost.add(block)
                    continue
                need(data == self.expected(name, block), f"block {block} of the image at {name} is served wrong")
        return lost

    def lost(self, name):
        """The same for an image opened for it."""
        with cli.image_of(f"{self.name}@#{name}", self.name) as image:
            return self.lost_in(name, image.device)


def segments(journal):
    """All files of the journal."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(journal) for name in names)


def find(journal, wanted):
    """(file, offset) of every place below the journal that holds these bytes."""
    found = []
    for path in segments(journal):
        with open(path, "rb") as file:
            data = file.read()
        at = data.find(wanted)
        while at >= 0:
            found.append((path, at))
            at = data.find(wanted, at + 1)
    return found


def flip(path, offset):
    """Flips one bit on disk."""
    with opened(path, os.O_RDWR) as fd:
        byte = os.pread(fd, 1, offset)[0]
        os.pwrite(fd, bytes([byte ^ 0x10]), offset)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def place_of(volume, block, version):
    """(file, offset) of one block's version in the journal."""
    places = find(volume.journal, content(block, version, volume.seed)[:SECTOR])
    same(f"places of block {block} version {version} in the journal", len(places), 1)
    return places[0]


def flip_block(volume, block, version):
    """Flips a bit in the middle of one block's journaled version; returns (file, offset of the bit)."""
    path, offset = place_of(volume, block, version)
    offset += 3 * SECTOR + 77
    flip(path, offset)
    return path, offset


def descriptors_before(path, offset):
    """Where the record descriptors begin of the chunk that holds this payload (docs/formats/chunk.md)."""
    with opened(path, os.O_RDONLY) as fd:
        for at in range(offset // 4096 * 4096, -1, -4096):
            if os.pread(fd, 4, at) == b"UDJC" and os.pread(fd, 4, at + 4096) == b"UDCB":
                return at + 4096 + 128
    raise Failure(f"no chunk header before {path} offset {offset}")


def footer_of(path):
    """Where the footer of a segment begins, which holds its headers once more (docs/formats/segment.md)."""
    with open(path, "rb") as file:
        trailer = file.seek(-512, os.SEEK_END)
        data = file.read(512)
    same(f"magic of the footer of {path}", data[:4], b"UDSF")
    return trailer + 512 - int.from_bytes(data[32:36], "little")


def need_named(findings, path, offset, blocks, volume="v"):
    """Fails unless a finding names that segment, a range with that offset, and extents that cover those blocks."""
    for finding in findings:
        inside = finding["offset"] <= offset < finding["offset"] + max(finding["bytes"], 1)
        if os.path.basename(finding["segment"]) != os.path.basename(path) or not inside:
            continue
        covered = [(e["sector"], e["sector"] + e["sectors"]) for e in finding["extents"] if e["volume"] == volume]
        for block in blocks:
            need(any(a <= block * BLOCK and block * BLOCK + BLOCK <= b for a, b in covered),
                 f"the finding at {path} offset {offset} does not name block {block}: {finding['extents']}")
        return finding
    raise Failure(f"nothing names {path} offset {offset}: {findings}")


def offline_findings(journal):
    """What `inspect verify` finds with no daemon; its exit status must say that something is wrong."""
    done = run("inspect", "verify", journal, "--json", status=1, timeout=300)
    found = [entry for entry in json.loads(done.out)["findings"] if entry["severity"] == "damage"]
    text = run("inspect", "verify", journal, status=1, timeout=300).out
    for entry in found:
        entry["segment"] = entry["file"]
        need(os.path.basename(entry["file"]) in text, f"the text does not name {entry['file']}")
    return found


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)

    with suite.case("three-histories-of-four-bookmarks", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        volume, headless, cut = (Volume(name, suite.seed, suite.rng) for name in ("v", "headless", "cut"))

    # A block whose version 2 later versions cover: only images between need it.
    first = volume.one_of(suite.rng, 2, overwritten_later=True)
    with suite.case("bit-flipped-while-running-is-named-and-confined", fatal=True):
        path, offset = flip_block(volume, first, 2)
        suite.note(f"block {first}: {path} offset {offset}")
        need_named(cli.findings("v", status=cli.FAILED), path, offset, [first])
        damage = {mark: {first} if at.get(first) == 2 else set() for mark, at in volume.at.items()}
        for mark, expected in damage.items():
            same(f"lost at {mark}", volume.lost(mark), expected)
        same("exit status of status", cli.undisk("status", status=None).status, cli.DEGRADED)
        volume.write([volume.one_of(suite.rng, 4, overwritten_later=False)], 5)
        volume.bookmark("five")
        same("lost at five", volume.lost("five"), set())

    with suite.case("single-sectors-beside-the-damage-are-right"):
        with cli.image_of("v@#two", "v") as image:
            for block in (first - 1, first + 1):
                if 0 <= block < BLOCKS:
                    data = read_direct(image.device, block * BLOCK * SECTOR, SECTOR)
                    need(data == volume.expected("two", block)[:SECTOR], f"block {block} beside the damage is wrong")
            need(reads_eio(image.device, first * BLOCK * SECTOR + 3 * SECTOR, SECTOR), "the damaged sector is served")

    second = volume.one_of(suite.rng, 3, overwritten_later=False)
    with suite.case("bit-flipped-while-down-is-named-and-confined", fatal=True):
        # The volume holds something newer there, so nobody has it any more.
        volume.write([second], 6)
        cli.down()
        path2, offset2 = flip_block(volume, second, 3)
        found = offline_findings(volume.journal)
        need_named(found, path2, offset2, [second])
        need_named(found, path, offset, [first])
        cli.up(status=(cli.OK, cli.DEGRADED))
        findings = cli.findings("v", status=cli.FAILED)
        need_named(findings, path2, offset2, [second])
        need_named(findings, path, offset, [first])
        for mark, at in volume.at.items():
            expected = {block for block, version in ((first, 2), (second, 3)) if at.get(block) == version}
            same(f"lost at {mark}", volume.lost(mark), expected)

    with suite.case("what-the-volume-still-holds-is-put-back-and-told", fatal=True):
        third = next(block for block in range(BLOCKS) if volume.now.get(block) == 4)
        flip_block(volume, third, 4)
        # Whoever reads it finds it out, or it is whole again already.
        volume.lost("four")
        poll("it is put back", lambda: third not in volume.lost("four"), timeout=120)
        need(any(event["kind"] == "healed" for event in cli.ask("events", "-n", "1000")["events"]), "nobody was told")
        same("lost at four", volume.lost("four"), {second} if volume.at["four"].get(second) == 3 else set())

    place, at = place_of(headless, headless.one_of(suite.rng, 2, overwritten_later=False), 2)
    start = descriptors_before(place, at)
    with suite.case("flipped-descriptor-is-named-and-replaced-by-its-copy"):
        cli.down()
        flip(place, start + 21)
        need_named(offline_findings(headless.journal), place, start + 21, [])
        cli.up(status=(cli.OK, cli.DEGRADED))
        need_named(cli.findings("headless", status=cli.FAILED), place, start + 21, [])
        for mark in headless.at:
            same(f"lost at {mark}", headless.lost(mark), set())

    with suite.case("descriptor-and-copy-flipped-are-named-and-nothing-wrong-is-served"):
        cli.down()
        flip(place, footer_of(place) + 21)
        need_named(offline_findings(headless.journal), place, start + 21, [])
        cli.up(status=(cli.OK, cli.DEGRADED))
        need_named(cli.findings("headless", status=cli.FAILED), place, start + 21, [])
        served_or_refused(suite, headless)

    with suite.case("truncated-segment-is-named-and-nothing-wrong-is-served"):
        cli.down()
        place, at = place_of(cut, cut.one_of(suite.rng, 2, overwritten_later=False), 2)
        with opened(place, os.O_RDWR) as fd:
            os.ftruncate(fd, at // 4096 * 4096)
            os.fsync(fd)
        found = offline_findings(cut.journal)
        need(any(os.path.basename(f["file"]) == os.path.basename(place) for f in found), f"not named: {found}")
        cli.up(status=(cli.OK, cli.DEGRADED))
        findings = cli.findings("cut", status=cli.FAILED)
        need(any(os.path.basename(f["segment"]) == os.path.basename(place) for f in findings),
             f"no finding names {os.path.basename(place)}: {findings}")
        served_or_refused(suite, cut)

    with suite.case("undamaged-bookmarks-of-other-groups-stay-right"):
        for mark in ("one", "five"):
            same(f"lost at {mark}", volume.lost(mark), set() if mark == "one" else {second})

    with suite.case("host-writes-on-through-all-of-it"):
        volume.write(range(0, 32), 9)
        need(read_direct(volume.device, 0, BLOCK * SECTOR) == content(0, 9, volume.seed), "a write is lost")
        cli.down(status=(cli.OK, cli.DEGRADED))


def served_or_refused(suite, volume):
    """Every bookmark's image is right, answers EIO where it cannot be, or is refused as a whole; never wrong."""
    said = []
    for name in volume.at:
        done = cli.undisk("image", "open", f"{volume.name}@#{name}", status=None)
        if done.status != 0:
            cli.one_line(done)
            said.append(f"{name} refused")
            continue
        device = cli.last_line(done)
        said.append(f"{name}: {len(volume.lost_in(name, device))} of {BLOCKS} blocks lost")
        cli.undisk("image", "close", device)
    suite.note("; ".join(said))
    need(any("lost" in word and ": 0 of" not in word or "refused" in word for word in said), "nothing is lost anywhere")
    same("the first bookmark", said[0], f"one: 0 of {BLOCKS} blocks lost")


Suite().main(body)
