#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 boots=1
"""Two volumes of one group are written in turn, each write waiting for the one before it: at every position of the
group's history the counter on A is that on B, or one ahead. Every position is asked through `inspect`, the same reader
offline; random ones through image devices."""

import json
import os
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import Aligned, lasting_disk, opened, read_direct  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, run, same  # noqa: E402

SECTOR = 2048
BLOCK = 4096


def block(counter):
    """A block that begins with the counter."""
    return struct.pack("<Q", counter) * (BLOCK // 8)


def counter_of(data):
    """The counter of a block; fails if the block is not one whole counter."""
    counter = struct.unpack_from("<Q", data)[0]
    need(data == block(counter), "a torn block")
    return counter


def write_in_turn(a, b, pairs, noise):
    """Counter 1 on A, on B, 2 on A, on B, ...; a few other writes run beside it and are not waited for."""
    buffer = Aligned(BLOCK)
    with opened(a, os.O_RDWR | os.O_DIRECT) as fa, opened(b, os.O_RDWR | os.O_DIRECT) as fb:
        for counter in range(1, pairs + 1):
            for fd in (fa, fb):
                buffer.write(fd, SECTOR * 512, block(counter))
            if counter % 16 == 0:
                noise.set()


def beside(device, first, tick, done):
    """Writes elsewhere on the device whenever told to, so that the two volumes' records do not simply alternate."""
    buffer = Aligned(BLOCK)
    with opened(device, os.O_RDWR | os.O_DIRECT) as fd:
        place = first
        while not done.is_set():
            if tick.wait(0.2):
                tick.clear()
                buffer.write(fd, place * 512, block(place))
                place += 8


def every_position(journal, start, end, replicas):
    """What `inspect trace` says of both counters at every position: [(position, a, b)]."""
    words = ["trace", journal, "--volume", "a", "--volume", "b", "--sector", SECTOR, "--sectors", BLOCK // 512]
    words += ["--from", start, "--to", end, "--every", "--json"]
    for name, path in replicas.items():
        words += ["--replica", f"{name}={path}"]
    found = []
    for line in run("inspect", *words, timeout=300).out.splitlines():
        entry = json.loads(line)
        held = entry["volumes"]
        for name in ("a", "b"):
            need("first" in (held[name] or {}), lambda name=name: f"position {entry['position']}: {name} is {held[name]}")
        # A counter has one content, whoever holds it: a torn block has another checksum.
        for name in ("a", "b"):
            whole = CHECKSUMS.setdefault(held[name]["first"], held[name]["crc32c"])
            need(whole == held[name]["crc32c"], f"position {entry['position']}: a torn block on {name}")
        found.append((entry["position"], held["a"]["first"], held["b"]["first"]))
    return found


CHECKSUMS = {}


def a_leads_by_at_most_one(found):
    """Fails unless at every position A = B or A = B + 1."""
    for position, a, b in found:
        if a not in (b, b + 1):
            raise Failure(f"at position {position} A is {a} and B is {b}")


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    pairs = suite.rounds(1000, 1000)

    with suite.case("the-judge-can-fail"):
        a_leads_by_at_most_one([(1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 1, 1)])
        for wrong in ([(1, 0, 1)], [(1, 1, 0), (2, 2, 0)]):
            try:
                a_leads_by_at_most_one(wrong)
            except Failure:
                continue
            raise Failure(f"accepted {wrong}")

    with suite.case("two-volumes-in-one-group-come-up", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        lasting_disk("/dev/vdb", "/mnt/store", fresh=True)
        cli.up()
        cli.undisk("group", "create", "pair")
        a = cli.create_volume("a", "/mnt/store/a.img", size="64M", group="pair")
        b = cli.create_volume("b", "/mnt/store/b.img", size="64M", group="pair")
        cli.wait_protected("pair")
        start, _ = cli.bookmark("pair", "start")

    with suite.case("2000-writes-in-turn", fatal=True):
        noise, done = threading.Event(), threading.Event()
        others = [threading.Thread(target=beside, args=(device, 8192, noise, done), daemon=True) for device in (a, b)]
        for other in others:
            other.start()
        write_in_turn(a, b, pairs, noise)
        done.set()
        for other in others:
            poll("the writes beside have ended", lambda other=other: not other.is_alive())
        end, _ = cli.bookmark("pair", "end")
        need(end - start >= 2 * pairs, f"{end - start} positions for {2 * pairs} writes")

    with suite.case("random-points-through-devices"):
        seen = set()
        for position in cli.random_positions(suite.rng, start, end, suite.rounds(8, 50), cli.gaps("pair")):
            images = cli.open_images(f"pair@seq:{position}")
            same("volumes of the image", sorted(images), ["a", "b"])
            got = {name: counter_of(read_direct(image.device, SECTOR * 512, BLOCK)) for name, image in images.items()}
            cli.undisk("image", "close", f"pair@seq:{position}")
            need(got["a"] in (got["b"], got["b"] + 1), f"at position {position} A is {got['a']} and B is {got['b']}")
            seen.add(got["a"])
        need(len(seen) > 4, f"only counters {seen} were seen")

    with suite.case("every-position-through-inspect"):
        journal = cli.journal("pair")["path"]
        replicas = {member["name"]: member["replica"] for member in cli.group("pair")["volumes"]}
        cli.down()
        found = every_position(journal, start, end, replicas)
        same("positions", [position for position, _, _ in found], list(range(start, end + 1)))
        a_leads_by_at_most_one(found)
        same("counters of A", sorted({a for _, a, _ in found}), list(range(pairs + 1)))
        same("counters of B", sorted({b for _, _, b in found}), list(range(pairs + 1)))
        suite.note(f"{len(found)} positions, {start} to {end}")


Suite().main(body)
