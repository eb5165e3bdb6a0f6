#!/usr/bin/python3
# vm: power=2G,1G,6G cuts=2,20 mem=2048 cpus=2 timeout=900 timeout-full=900
"""The power is cut in the middle of a discard-heavy load, with disks under everything that lose what was not flushed: state,
backing and journal on one each. At the next boot no flushed write is missing from the volume, nothing that was durable is
missing from the journal, points are moments that were, and the group is protected again by itself: only what the load
wrote is read back."""

import contextlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
import resynced  # noqa: E402
from churn import Churn, judge  # noqa: E402
from machine import is_block, lasting_disk, same_content  # noqa: E402
from undisk_suite import Suite, need, same  # noqa: E402

# The load's part of the volume, in sectors.
FIRST, SECTORS = 16384, 16384
# Few flushes, so that there is something to lose.
MIX = "write=70,fua=1,discard=15,zero=6,punch=6,flush=1"
JOURNAL = "/mnt/journal/v"


def notes(boot):
    """Where a boot leaves what the next one has to know; on the host, so that no cut reaches it."""
    return f"/out/boot-{boot}.json"


def log_of(boot):
    """The history of a boot's load."""
    return f"/out/churn-{boot}.log"


def remember(boot, known):
    """Replaces a boot's notes at once."""
    path = notes(boot)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(known, file)
    os.rename(path + ".new", path)


def after_the_cut(suite, known, log):
    """What must hold at the boot after a cut; nothing has been written yet."""
    with suite.case(f"boot-{suite.boot}-serves-the-host", fatal=True):
        cli.up(status=(cli.OK, cli.DEGRADED))
        device = cli.volume("v")["device"]
        need(is_block(device), f"{device} is not there")

    with suite.case(f"boot-{suite.boot}-no-flushed-write-is-missing-from-the-volume"):
        told = judge(device, log, at_least="flushed")
        suite.note(f"{told['data']} sectors of data, {told['zeros']} of zeros, {told['foreign']} of another time; "
                   f"{told['operations']} operations")

    with suite.case(f"boot-{suite.boot}-nothing-durable-is-missing-from-the-journal", fatal=True):
        held = cli.durable("v")
        need(held >= known["durable"], f"position {known['durable']} was durable, now only {held} is")
        marks = cli.bookmarks("v")
        for mark in known["marks"]:
            same(f"position of bookmark {mark['name']}", marks.get(mark["name"]), mark["position"])

    with suite.case(f"boot-{suite.boot}-group-is-protected-again-by-itself", fatal=True):
        cli.wait_protected("v", timeout=200)
        cli.status(expect=(cli.OK,))
        for begin, end in cli.gaps("v"):
            need(end is not None, f"the gap from {begin} is still open")

    with suite.case(f"boot-{suite.boot}-only-what-was-written-was-read-back"):
        size = resynced.only_within(JOURNAL, known["durable"], FIRST, SECTORS)
        count = resynced.sessions(JOURNAL, known["durable"])
        need(size <= 2 * SECTORS * 512 * max(1, count), f"{size} bytes were read back in {count} sessions")
        suite.note(f"{size >> 10} KiB were read back in {count} sessions")

    with suite.case(f"boot-{suite.boot}-images-are-right"):
        with cli.image_of("v@latest", "v") as image:
            same_content(device, image.device)
        for mark in known["marks"]:
            with cli.image_of(f"v@#{mark['name']}", "v") as image:
                judge(image.device, log, after=mark["after"], before=mark["before"])
        positions = [mark["position"] for mark in known["marks"]]
        for position in cli.random_positions(suite.rng, positions[0], known["durable"], suite.rounds(4, 20), cli.gaps("v")):
            with cli.image_of(f"v@seq:{position}", "v") as image:
                judge(image.device, log, label_ns=image.time_ns)
        same("findings", cli.findings("v"), [])
    return device


def load_until_the_cut(suite, device):
    """A load with bookmarks, and what the next boot has to know of it; ends in the dark."""
    with suite.case(f"boot-{suite.boot}-load-runs-until-the-cut", fatal=True):
        # A soak that was interrupted begins anew, with fresh disks.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log_of(suite.boot))
        churn = Churn(device, log_of(suite.boot), suite.seed + suite.boot, threads=4, depth=4, rate=800,
                      region=f"{FIRST}+{SECTORS}", longest_discard=8192, mix=MIX)
        known = {"marks": [], "durable": 0}
        for number in range(1, 4):
            churn.wait_entries(suite.rng.randint(50, 700))
            after = churn.entries()
            name = f"boot{suite.boot}-{number}"
            position, _ = cli.bookmark("v", name)
            known["marks"].append({"name": name, "position": position, "after": after, "before": churn.entries()})
            known["durable"] = max(cli.durable("v"), position)
            remember(suite.boot, known)
        # The last word about what is durable, and then some more that nobody has noted.
        churn.wait_entries(suite.rng.randint(1, 400))
        known["durable"] = max(known["durable"], cli.durable("v"))
        remember(suite.boot, known)
        churn.wait_entries(suite.rng.randint(1, 600))
        suite.note(f"{churn.entries()} entries, durable {known['durable']}: now the power is cut")
    if suite.failed:
        return
    print(f"# {suite.passed} ok, 0 not ok")
    sys.stdout.flush()
    # The load goes on until everything is dark.
    os.execvp("undisk-vm-cut", ["undisk-vm-cut", "0"])


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    first = suite.boot == 1
    for disk, folder in (("/dev/vda", cli.STATE), ("/dev/vdb", "/mnt/store"), ("/dev/vdc", "/mnt/journal")):
        lasting_disk(disk, folder, fresh=first)
    if first:
        with suite.case("volume-comes-up", fatal=True):
            cli.up()
            cli.undisk("group", "create", "v", "--journal", JOURNAL)
            device = cli.create_volume("v", "/mnt/store/v.img", size="32M", group="v")
            cli.wait_protected("v")
    else:
        with open(notes(suite.boot - 1), encoding="utf-8") as file:
            known = json.load(file)
        device = after_the_cut(suite, known, log_of(suite.boot - 1))
    if suite.boot < int(os.environ["UNDISK_BOOTS"]):
        load_until_the_cut(suite, device)
        return
    with suite.case("down-is-clean"):
        cli.down()


Suite().main(body)
