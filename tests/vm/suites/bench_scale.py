#!/usr/bin/python3
# vm: mem=10000 timeout=3000 timeout-full=7200 icount soak
"""What more queues, volumes and groups cost, by the instruction clock, and what volumes cost that nobody uses: `cargo xtask bench
scale` prints a table, and a line for each figure. All of it on disks in memory and one virtual CPU: that threads wait for each
other is not seen here, that they work for each other is."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from fio import Fio  # noqa: E402
from machine import lasting_disk, mount  # noqa: E402
from undisk_suite import Suite, run, same  # noqa: E402

MIB = 1 << 20
SIZE = 16 * MIB
FIGURES, TABLE = "/out/figures", "/out/table"
# Writes in all, and how many of them are under way, whatever they are spread over.
WRITES, DEPTH = 8000, 16
VOLUMES, GROUPS = 64, 16
# Of a queue: tags, and the largest request of each. They are there from the first moment, whatever is done.
BUFFERS = 64 * (512 << 10)
IDLE_SECONDS = 20


def daemons():
    """Both, by name."""
    return {"splitter": cli.splitter_pid(), "appliance": cli.appliance_pid()}


def resident(pid):
    """Bytes of memory that a process has, without what it shares: the outboxes, which are as large as they are set to be."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        kinds = dict(line.split(":", 1) for line in file)
    return sum(int(kinds[kind].split()[0]) * 1024 for kind in ("RssAnon", "RssFile"))


def worked(pid):
    """Nanoseconds of processor time of a process."""
    return time.clock_gettime_ns((~int(pid) << 3) | 2)


def cost(devices, seed):
    """Instructions of a 4k write, spread evenly over devices, with all that the daemons do of it."""
    each = {"rw": "randwrite", "bs": 4096, "size": SIZE, "norandommap": True, "ioengine": "io_uring",
            "iodepth": max(1, DEPTH // len(devices))}
    jobs = [{**each, "filename": device, "number_ios": WRITES // len(devices)} for device in devices]
    spent = []
    # The first time is not measured: memory is taken and threads are made in it.
    for _ in range(2):
        before = sum(worked(pid) for pid in daemons().values())
        Fio(devices[0], jobs, randseed=seed, thread=True).finish(timeout=900)
        cli.wait_whole("scale-0", timeout=300)
        spent.append((sum(worked(pid) for pid in daemons().values()) - before) / WRITES)
    return spent[-1]


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    figures, rows = {}, []
    with suite.case("disks-in-memory", fatal=True):
        run("modprobe", "crc32c-intel")
        run("rmmod", "brd")
        run("modprobe", "brd", "rd_nr=2", f"rd_size={2000 * 1024}")
        for disk, path in (("/dev/ram0", "/mnt/journal"), ("/dev/ram1", "/mnt/store")):
            run("dd", "if=/dev/zero", f"of={disk}", "bs=1M", "count=1900", "oflag=direct", timeout=900)
            lasting_disk(disk, path, fresh=True)
        mount("tmpfs", cli.STATE, fs="tmpfs")
        cli.up()

    devices, groups, number = {}, {}, 0

    def volume(group, queues=1):
        """One more of that group."""
        nonlocal number
        name, number = f"s{number}", number + 1
        groups[name] = group
        devices[name] = cli.create_volume(name, f"/mnt/store/{name}.img", size="16M", group=group, queues=queues,
                                          replica=f"/mnt/journal/{name}.replica")
        return name

    def more(group):
        """One more group."""
        cli.undisk("group", "create", group, "--journal", f"/mnt/journal/{group}")

    with suite.case("queues"):
        more("scale-0")
        for queues in (1, 2, 4, 8):
            name = volume("scale-0", queues)
            cli.wait_protected("scale-0", timeout=300)
            figures[f"queues_{queues}"] = cost([devices[name]], suite.seed)
            rows.append((f"one volume, {queues} queues", figures[f"queues_{queues}"]))

    with suite.case("volumes-and-groups"):
        memory, made = {name: resident(pid) for name, pid in daemons().items()}, number
        for group in range(1, GROUPS):
            more(f"scale-{group}")
        while number < VOLUMES:
            volume(f"scale-{number % GROUPS}")
        for group in range(GROUPS):
            cli.wait_whole(f"scale-{group}", timeout=600)
        for name, pid in daemons().items():
            buffers = BUFFERS if name == "splitter" else 0
            figures[f"idle_{name}_mib_each"] = ((resident(pid) - memory[name]) / (number - made) - buffers) / MIB
            rows.append((f"{name}, MiB for each of {VOLUMES} volumes, buffers left out", figures[f"idle_{name}_mib_each"]))
        before = {name: worked(pid) for name, pid in daemons().items()}
        time.sleep(IDLE_SECONDS)
        for name, pid in daemons().items():
            used = (worked(pid) - before[name]) / (IDLE_SECONDS * 1e9)
            figures[f"idle_{name}_percent"] = 100 * used
            rows.append((f"{name}, % of a processor while {VOLUMES} volumes are idle", figures[f"idle_{name}_percent"]))
        for count in (1, 4, 16, 64):
            # The newest, of as many groups as there can be.
            chosen = list(devices)[-count:]
            figures[f"volumes_{count}"] = cost([devices[name] for name in chosen], suite.seed)
            rows.append((f"{count} volumes of {len({groups[name] for name in chosen})} groups", figures[f"volumes_{count}"]))

    with suite.case("figures"):
        same("volumes", number, VOLUMES)
        with open(FIGURES, "w", encoding="ascii") as file:
            for name, value in figures.items():
                print(f"RATIO {name} {value:.3f}", file=file)
                suite.note(f"RATIO {name} {value:.3f}")
        with open(TABLE, "w", encoding="ascii") as file:
            print("Instructions of both daemons for a 4k write, and what idle volumes cost", file=file)
            for what, value in rows:
                print(f"{what:<60}{value:>12.2f}", file=file)

    with suite.case("down-is-clean"):
        cli.down()


Suite().main(body)
