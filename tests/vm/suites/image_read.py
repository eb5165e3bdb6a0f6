#!/usr/bin/python3
# vm: disks=4G mem=2048 cpus=2 timeout=1800 timeout-full=3600 soak
"""Reads of an image beside the same reads of a plain ublk device that serves a file with the same content from the same
disk: `cargo xtask bench engine` reports the ratios. Slices of both alternate; each figure is the median over pairs. The
image is of a moment in the middle of a history of random 4 KiB writes, so what it shows lies all over the journal."""

import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from fio import Fio  # noqa: E402
from machine import is_block, lasting_disk, same_content, size_of  # noqa: E402
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
SIZE = 256 * MIB
# Random writes before the image's moment, and behind it.
BEFORE, BEHIND = 60_000, 20_000
# Reads of a slice, by iodepth.
READS = {1: 3000, 16: 6000}
TARGET = "/dev/ublkb40"
FIGURES = "/out/figures"


def write(device, count, seed):
    """Random writes of 4 KiB all over the volume, and all of them in the journal."""
    job = {"rw": "randwrite", "bs": "4k", "size": SIZE, "iodepth": 16, "number_ios": count}
    Fio(device, [job], norandommap=True, randseed=seed).finish(timeout=600)
    cli.wait_whole("v", timeout=600)


def served(path, size):
    """A plain ublk device that serves the file at `path`."""
    program = f"{os.environ['UNDISK_BIN']}/examples/passthrough"
    words = [program, "add", "--id", "40", "--file", path, "--size", str(size), "--queues", "1", "--depth", "128"]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    poll("the plain device is there", lambda: need(child.poll() is None, "it ended") or is_block(TARGET))
    return child


def reads(device, depth, seed, **what):
    """Reads a second."""
    job = {"rw": "randread", "bs": "4k", "size": SIZE, "iodepth": depth, "number_ios": READS.get(depth, 0)} | what
    return Fio(device, [job], norandommap=True, randseed=seed).finish(timeout=600)[0]["read"]["iops"]


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("a-history-is-made", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        cli.up()
        device = cli.create_volume("v", f"{cli.STATE}/v.img", size=f"{SIZE // MIB}M")
        same("size", size_of(device), SIZE)
        cli.wait_protected("v")
        Fio(device, [{"rw": "write", "bs": "256k", "size": SIZE, "iodepth": 4}], randseed=suite.seed).finish(timeout=600)
        write(device, BEFORE, suite.seed + 1)
        position, _ = cli.bookmark("v", "moment")
        run("dd", f"if={device}", f"of={cli.STATE}/target.img", "bs=1M", "iflag=direct", "oflag=direct", timeout=300)
        write(device, BEHIND, suite.seed + 2)
        child = served(f"{cli.STATE}/target.img", SIZE)
        suite.later(child.kill)
        suite.note(f"{cli.journal('v')}")

    with suite.case("an-image-is-read-beside-a-plain-device"):
        loads = {
            "image_read_vs_target": {"depth": 16},
            "image_read_vs_target_qd1": {"depth": 1},
            "image_sequential_read_vs_target": {"depth": 4, "rw": "read", "bs": "64k", "number_ios": 1000},
        }
        with cli.image_of(f"v@seq:{position}", "v") as image:
            same_content(TARGET, image.device)
            ratios = {name: [] for name in loads}
            for number in range(suite.rounds(7, 21)):
                for name, load in loads.items():
                    devices = [TARGET, image.device]
                    if number % 2:
                        devices.reverse()
                    speed = {of: reads(of, seed=suite.seed + number, **load) for of in devices}
                    ratios[name].append(speed[image.device] / speed[TARGET])
                    suite.note(f"{name}: image {speed[image.device]:.0f}, target {speed[TARGET]:.0f} a second")
        with open(FIGURES, "w", encoding="ascii") as file:
            for name, found in ratios.items():
                line = f"RATIO {name} {statistics.median(found):.3f}"
                suite.note(line)
                print(line, file=file)

    with suite.case("down-is-clean"):
        child.terminate()
        child.wait(60)
        cli.down()


Suite().main(body)
