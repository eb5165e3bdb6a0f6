#!/usr/bin/python3
# vm: mem=5000 timeout=3000 timeout-full=7200 icount soak
"""The path of a request beside all that a user would pick instead, by the instruction clock: `cargo xtask bench vm` prints the
table and the ratios. One virtual CPU does all of it, fio, the kernel and both ends of each; a second of its clock is a billion
instructions, whatever the machine does. What is still being worked off when fio ends (a journal, a peer) counts as well."""

import contextlib
import glob
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from fio import Fio  # noqa: E402
from machine import dm, is_block, lasting_disk, mount, opened  # noqa: E402
from undisk_suite import Suite, need, poll, run, same  # noqa: E402

MIB = 1 << 20
SIZE = 256 * MIB
# Below what is measured; a journal; whatever else something needs: a log, a pool, a peer.
BELOW, JOURNAL, OTHER, META = "/dev/ram0", "/dev/ram1", "/dev/ram2", "/dev/ram3"
TARGET = "/dev/ublkb40"
FIGURES, TABLE = "/out/figures", "/out/table"

# Kind of I/O, size, iodepth, how many.
JOBS = {
    "w4k_qd1": ("randwrite", 4096, 1, 6000),
    "w4k_qd16": ("randwrite", 4096, 16, 12000),
    "w1m_qd4": ("write", MIB, 4, 150),
    "r4k_qd1": ("randread", 4096, 1, 6000),
    "r4k_qd16": ("randread", 4096, 16, 12000),
    "t4k_qd16": ("randtrim", 4096, 16, 2000),
}
# By the host's clock: few, since what counts is how long each took.
WALL = {job: JOBS[job] for job in ("w4k_qd1", "w4k_qd16", "r4k_qd1", "r4k_qd16")}
WALL_COUNT, PERCENTILES = 4000, ("50.000000", "99.000000", "99.900000")
# A device whose thread works off so few requests at once, and so differently many from one start to the next, that what they cost
# varies by a tenth: made anew so often, with what is measured before each time, and all of them count.
VARIES, STARTS, VARYING = "rublk_loop", 5, ("w4k_qd1", "w4k_qd16")
# What cannot be trimmed, and what is undisk.
NO_TRIM, SPLITS = ("rublk_loop",), ("async", "sync")


def said(path):
    """What a file says; nothing if it is gone."""
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
        return file.read()
    return ""


def worked(pids):
    """Nanoseconds of processor time of processes, with all the threads that they had: their clocks (`clock_getcpuclockid`)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns((~int(pid) << 3) | 2)
    return total


def threads(pids):
    """Nanoseconds of processor time by thread, of those that live."""
    found = {}
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            with contextlib.suppress(OSError):
                name = said(path.replace("schedstat", "comm")).strip()
                found[name] = found.get(name, 0) + int(said(path).split()[0])
    return found


def worked_off(pids):
    """Nanoseconds that processes still work from now on, until they rest."""
    begun = last = worked(pids)
    resting = 0
    while pids and resting < 3:
        time.sleep(0.1)
        now = worked(pids)
        # Timers and the like; a chunk that is journaled is more.
        resting = resting + 1 if now - last < 500_000 else 0
        last = now
    return last - begun


def handed(pids):
    """Bytes that processes handed to disks."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("write_bytes"))
    return total


def measure(suite, name, device, rounds, pids=(), jobs=tuple(JOBS)):
    """What each load costs: I/Os a second of the instruction clock."""
    found = {}
    for job in jobs:
        rw, size, depth, count = JOBS[job]
        if rw == "randtrim" and name in NO_TRIM:
            continue
        options = {"rw": rw, "bs": size, "size": SIZE, "iodepth": depth, "number_ios": count * rounds, "ioengine": "io_uring"}
        # What is needed for the first time (memory, threads, a segment) is not what a request costs.
        Fio(device, [{**options, "number_ios": count // 5}], randseed=suite.seed).finish(timeout=900)
        worked_off(pids)
        bytes_before = handed(pids) if name in SPLITS else 0
        before = threads(pids)
        load = Fio(device, [options], randseed=suite.seed)
        load.child.wait(900)
        # What it leaves to others; it is not in what fio measured.
        late = worked_off(pids)
        done = load.finish()[0]
        kind = {"randread": "read", "randtrim": "trim"}.get(rw, "write")
        same("I/Os", done[kind]["total_ios"], count * rounds)
        nanoseconds = done[kind]["runtime"] * 1e6 + late
        speed = count * rounds * 1e9 / nanoseconds
        found[job] = speed
        if name in SPLITS and kind == "write":
            found[f"bytes_{job}"] = (handed(pids) - bytes_before) / (count * rounds * size)
        if name in SPLITS:
            spent = {thread: (ns - before.get(thread, 0)) / (count * rounds) for thread, ns in threads(pids).items()}
            parts = [f"{thread} {each:.0f}" for thread, each in sorted(spent.items(), key=lambda item: -item[1]) if each >= 100]
            suite.note(f"{name} {job}, instructions each by thread: {', '.join(parts)}")
        suite.note(f"{name} {job}: {speed:.0f} a second, {1e9 / speed:.0f} instructions each, {late / 1e6:.0f} ms of them late")
    return found


def latencies(suite, name, device):
    """How long requests take by the host's clock, which is shared with whatever else the machine does: I/Os a second, and
    microseconds that half, 99 and 99.9 % of them took at most."""
    found = {}
    for job, (rw, size, depth, _) in WALL.items():
        options = {"rw": rw, "bs": size, "size": SIZE, "iodepth": depth, "number_ios": WALL_COUNT, "ioengine": "io_uring"}
        Fio(device, [{**options, "number_ios": WALL_COUNT // 5}], randseed=suite.seed).finish(timeout=900)
        done = Fio(device, [options], randseed=suite.seed).finish(timeout=900)[0]["read" if rw == "randread" else "write"]
        times = [done["clat_ns"]["percentile"][percentile] / 1000 for percentile in PERCENTILES]
        found[job] = (WALL_COUNT * 1000 / max(1, done["runtime"]), *times)
        suite.note(f"{name} {job}: {found[job][0]:.0f} a second; microseconds " + ", ".join(f"{time:.0f}" for time in times))
    return found


def wall(suite):
    """Latencies, layer by layer."""
    found = {}
    for name, layer in LAYERS.items():
        with suite.case(f"{name}-is-measured"), layer() as (device, _):
            found[name] = latencies(suite, name, device)
    with suite.case("figures"):
        with open(FIGURES, "w", encoding="ascii") as file:
            for name, jobs in found.items():
                for job, (_, *times) in jobs.items():
                    for percentile, value in zip(("p50", "p99", "p999"), times):
                        print(f"RATIO wall_{name}_{job}_{percentile}_us {value:.1f}", file=file)
        with open(TABLE, "w", encoding="ascii") as file:
            print("NOISY: by the clock of a machine that does other things too. Microseconds: half, 99 % and 99.9 % took at most", file=file)
            print(f"{'':<20}" + "".join(f"{job:>26}" for job in WALL), file=file)
            for name, jobs in found.items():
                cells = "".join(f"{' / '.join(f'{time:.0f}' for time in times):>26}" for _, *times in jobs.values())
                print(f"{name:<20}{cells}", file=file)


@contextlib.contextmanager
def raw():
    """The disk itself."""
    yield BELOW, ()


@contextlib.contextmanager
def served(program, *words):
    """A program that serves a ublk device in the foreground."""
    # In a session of its own, as a daemon is: the scheduler groups processes by it.
    child = subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    poll("the device is there", lambda: need(child.poll() is None, "it ended") or is_block(TARGET), timeout=120)
    try:
        yield TARGET, ()
    finally:
        child.terminate()
        child.wait(120)
        poll("the device is gone", lambda: not is_block(TARGET), timeout=60)


def empty():
    """A ublk device of ours that splits nothing."""
    program = f"{os.environ['UNDISK_BIN']}/examples/passthrough"
    return served(program, "add", "--id", "40", "--file", BELOW, "--size", str(SIZE), "--queues", "1", "--depth", "128")


@contextlib.contextmanager
def undisk(mode):
    """A volume of undisk, its journal on a disk of its own."""
    group = f"bench-{mode}"
    cli.undisk("group", "create", group, "--journal", f"/mnt/journal/{group}")
    device = cli.create_volume(group, BELOW, group=group, queues=1, replica=f"/mnt/journal/{group}.replica")
    cli.wait_protected(group, timeout=600)
    cli.undisk("group", "set", group, f"mode={mode}", *(["sync-loss=degrade"] if mode == "sync" else []))
    try:
        yield device, (cli.splitter_pid(), cli.appliance_pid())
        same("gaps", cli.gaps(group), [])
    finally:
        cli.undisk("volume", "remove", group)


@contextlib.contextmanager
def mapped(name, table, *others):
    """A device-mapper device, and those below it."""
    for below, its in others:
        dm(below, its)
    dm(name, table)
    try:
        yield f"/dev/mapper/{name}", ()
    finally:
        for gone in (name, *(below for below, _ in reversed(others))):
            run("dmsetup", "remove", "--noudevsync", gone)


def log_writes():
    """dm-log-writes: what was written is in a log as well."""
    return mapped("logged", f"0 {SIZE // 512} log-writes {BELOW} {OTHER}")


@contextlib.contextmanager
def thin():
    """A dm-thin volume of which a snapshot was taken."""
    for disk in (META, OTHER):
        with opened(disk, os.O_RDWR) as fd:
            os.write(fd, bytes(MIB))
    sectors = 2 * SIZE // 512
    pool = "/dev/mapper/pool"
    dm("pool", f"0 {sectors} thin-pool {META} {OTHER} 128 0")
    try:
        run("dmsetup", "message", pool, "0", "create_thin 0")
        dm("thin", f"0 {SIZE // 512} thin {pool} 0")
        Fio("/dev/mapper/thin", [{"rw": "write", "bs": "1M", "size": SIZE}]).finish(timeout=600)
        run("dmsetup", "suspend", "--noflush", "--nolockfs", "--noudevsync", "thin")
        run("dmsetup", "message", pool, "0", "create_snap 1 0")
        run("dmsetup", "resume", "--noudevsync", "thin")
        yield "/dev/mapper/thin", ()
    finally:
        run("dmsetup", "remove", "--noudevsync", "thin", status=None)
        run("dmsetup", "remove", "--noudevsync", "pool")


@contextlib.contextmanager
def drbd(protocol):
    """DRBD 8.4: two resources that are each other's peer, over the loopback interface."""
    setup = ["/usr/lib/drbd/drbdsetup-84"]
    ends = (("here", "0", BELOW, "7788", "7789"), ("there", "1", OTHER, "7789", "7788"))
    run("ip", "link", "set", "lo", "up", status=None)
    try:
        for name, minor, disk, _, _ in ends:
            run("drbdmeta", "--force", minor, "v08", disk, "internal", "create-md")
            run(*setup, "new-resource", name)
            run(*setup, "new-minor", name, minor, "0")
            run(*setup, "attach", minor, disk, disk, "internal")
        for name, _, _, mine, other in ends:
            run(*setup, "connect", name, f"ipv4:127.0.0.1:{mine}", f"ipv4:127.0.0.1:{other}", f"--protocol={protocol}")
        poll("they are connected", lambda: said("/proc/drbd").count("cs:Connected") == 2, timeout=30)
        run(*setup, "new-current-uuid", "0", "--clear-bitmap")
        run(*setup, "primary", "0")
        yield "/dev/drbd0", [path.split("/")[2] for path in glob.glob("/proc/[0-9]*/comm") if "drbd" in said(path)]
        need(said("/proc/drbd").count("ds:UpToDate/UpToDate") == 2, said("/proc/drbd"))
    finally:
        run(*setup, "secondary", "0", status=None)
        for name, _, _, _, _ in ends:
            run(*setup, "down", name, status=None)


@contextlib.contextmanager
def rublk():
    """rublk's loop target."""
    program = f"{os.environ['UNDISK_BIN']}/../vm/tools/bin/rublk"
    try:
        with served(program, "add", "loop", "-n", "40", "-q", "1", "-d", "128", "-f", BELOW, "--foreground") as target:
            yield target
    finally:
        # Its number stays taken otherwise.
        run(program, "del", "-n", "40", status=None)


LAYERS = {
    "raw": raw, "empty": empty, "async": lambda: undisk("async"), "sync": lambda: undisk("sync"), "dm_log_writes": log_writes,
    "dm_thin_snapshot": thin, "drbd_a": lambda: drbd("A"), "drbd_c": lambda: drbd("C"), "rublk_loop": rublk,
}


def ratios(found):
    """The figures of the issue, by name."""
    def of(job, one, other):
        return found[one][job] / found[other][job] if one in found and other in found else None
    out = {
        "async_w4k_qd16": of("w4k_qd16", "async", "empty"), "async_w4k_qd1": of("w4k_qd1", "async", "empty"),
        "drbd_a_qd16": of("w4k_qd16", "async", "drbd_a"), "drbd_a_qd1": of("w4k_qd1", "async", "drbd_a"),
        "w1m_vs_dm_log_writes": of("w1m_qd4", "async", "dm_log_writes"), "read_4k_qd16": of("r4k_qd16", "async", "empty"),
        "read_4k_qd1": of("r4k_qd1", "async", "empty"),
        "sync_vs_drbd_c_qd16": of("w4k_qd16", "sync", "drbd_c"), "sync_vs_drbd_c_qd1": of("w4k_qd1", "sync", "drbd_c"),
        "empty_vs_rublk": of("w4k_qd16", "empty", "rublk_loop"),
        "bytes_per_byte_qd16": found.get("async", {}).get("bytes_w4k_qd16"),
    }
    return {name: value for name, value in out.items() if value is not None}


def table(found):
    """All of it, a layer a line."""
    lines = [f"{'I/Os a second of 10^9 instructions':<36}" + "".join(f"{job:>12}" for job in JOBS)]
    for name, speeds in found.items():
        lines.append(f"{name:<36}" + "".join(f"{speeds[job]:>12.0f}" if job in speeds else f"{'-':>12}" for job in JOBS))
    lines.append("")
    lines.append(f"{'instructions each':<36}" + "".join(f"{job:>12}" for job in JOBS))
    for name, speeds in found.items():
        lines.append(f"{name:<36}" + "".join(f"{1e9 / speeds[job]:>12.0f}" if job in speeds else f"{'-':>12}" for job in JOBS))
    return "\n".join(lines)


def disks_in_memory():
    """The disks that all layers use, written once, and the daemons over one of them."""
    # The guest has no udev, which loads it wherever the processor has the instruction: file systems checksum with it.
    run("modprobe", "crc32c-intel")
    run("rmmod", "brd")
    run("modprobe", "brd", "rd_nr=5", f"rd_size={1800 * 1024}")
    # Room for all that is written: a journal that must make room works for that, too.
    for disk, mib in ((BELOW, 260), (JOURNAL, 1800), (OTHER, 1024), (META, 64)):
        run("dd", "if=/dev/zero", f"of={disk}", "bs=1M", f"count={mib}", "oflag=direct", timeout=600)
    lasting_disk(JOURNAL, "/mnt/journal", fresh=True)
    mount("tmpfs", cli.STATE, fs="tmpfs")
    cli.up()


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("disks-in-memory", fatal=True):
        disks_in_memory()

    if os.environ.get("UNDISK_CLOCK") == "host":
        wall(suite)
        with suite.case("down-is-clean"):
            cli.down()
        return

    found = {}
    for name, layer in LAYERS.items():
        with suite.case(f"{name}-is-measured"):
            with layer() as (device, pids):
                found[name] = measure(suite, name, device, suite.rounds(1, 5), pids)
            if name == VARIES:
                starts = [found[name]]
                while len(starts) < STARTS:
                    with layer() as (device, pids):
                        starts.append(measure(suite, name, device, suite.rounds(1, 5), pids, VARYING))
                found[name] |= {job: statistics.harmonic_mean(start[job] for start in starts) for job in VARYING}

    with suite.case("figures"):
        with open(FIGURES, "w", encoding="ascii") as file:
            for name, value in ratios(found).items():
                print(f"RATIO {name} {value:.3f}", file=file)
                suite.note(f"RATIO {name} {value:.3f}")
        with open(TABLE, "w", encoding="ascii") as file:
            print(table(found), file=file)

    with suite.case("down-is-clean"):
        cli.down()


if __name__ == "__main__":
    Suite().main(body)
