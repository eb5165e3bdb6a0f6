#!/usr/bin/python3
"""The main job, told on the terminal: a disk full of files and a database is destroyed, and comes back as it was at the
moment before.

Runs as root with UNDISK_BIN (the folder of the programs) and UNDISK_DISKS (two empty disks; all on them is lost). Exits 0
only if the disaster destroyed something and every comparison held. Owns the story; the tools are those of the suites.
Deliberately tests no corner: the suites do.
"""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "suites", "lib"))

# Places of its own, so that the demonstration also runs beside an undisk that is in use.
PLACE = "/run/undisk-demo"
os.environ["UNDISK_STATE"] = f"{PLACE}/state"
os.environ["UNDISK_RUN"] = f"{PLACE}/run"
os.environ["UNDISK_CONFIG"] = f"{PLACE}/undisk.toml"

import cli  # noqa: E402
from machine import fsck_clean, fstrim, is_mounted, mkfs, mount, need_block, umount  # noqa: E402
from trees import differences, tree_digest  # noqa: E402
from undisk_suite import Failure, need, poll, run  # noqa: E402

VOLUME_SIZE = "1G"
FILES_WANTED = 5000
# Real trees with many small files; the first ones that add up to enough are taken.
SOURCES = ("/usr/share/zoneinfo", "/usr/share/mime", "/usr/share/perl", "/usr/share/man", "/usr/include",
           "/usr/lib/python3", "/usr/share/doc", "/usr/share", "/usr/lib")
LARGEST_FILE = 256 * 1024
LIVE, PAST, STORE = f"{PLACE}/live", f"{PLACE}/past", f"{PLACE}/store"
LEDGER = f"{PLACE}/ledger"
# The guest's clock and a record's label are two readings of one clock.
SLACK_NS = 20_000_000
STARTED = time.monotonic()


def say(text=""):
    """A line of the story."""
    for line in text.splitlines() or [""]:
        print(f"{time.monotonic() - STARTED:6.1f} s  {line}" if line else "", flush=True)


def chapter(title):
    """A new part of the story."""
    print(flush=True)
    say(f"== {title}")


def show(*words):
    """Runs undisk as a person would, and shows what it says."""
    say(f"   # undisk {' '.join(words)}")
    done = cli.undisk(*words, timeout=600)
    for line in done.out.rstrip().splitlines():
        say(f"   {line}")
    return done


def mib(size):
    """Bytes for people."""
    return f"{size / (1 << 20):.1f} MiB"


def when(ns):
    """A time for people, UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(ns // 10**9)) + f".{ns % 10**9 // 10**6:03d} UTC"


# --- the files ---------------------------------------------------------------------------------------------------------


def regular_files(root):
    """Regular files below `root`, in order; links and other file systems are left out."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield entry.path
        elif entry.is_dir(follow_symlinks=False) and not os.path.ismount(entry.path):
            yield from regular_files(entry.path)


def copy_tree(target):
    """Copies real files until there are enough; returns path below `target` -> SHA-256 of what was read."""
    expected, size = {}, 0
    for source in SOURCES:
        for path in regular_files(source):
            place = path.lstrip("/")
            if place in expected:
                continue
            with contextlib.suppress(PermissionError), open(path, "rb") as file:
                data = file.read(LARGEST_FILE + 1)
                if len(data) > LARGEST_FILE:
                    continue
                copy = os.path.join(target, place)
                os.makedirs(os.path.dirname(copy), exist_ok=True)
                with open(copy, "wb") as out:
                    out.write(data)
                expected[place] = hashlib.sha256(data).hexdigest()
                size += len(data)
                if len(expected) % 1000 == 0:
                    say(f"   {len(expected)} files, {mib(size)}")
            if len(expected) >= FILES_WANTED + 200:
                return expected, size
    raise Failure(f"only {len(expected)} files below /usr, {FILES_WANTED} are needed")


# --- the database ------------------------------------------------------------------------------------------------------

ACCOUNTS, OPENING = 100, 1000


def bank(path, ledger):
    """The database's own process: transfers between accounts, one transaction after the other, each fully synced. A
    transaction that was acknowledged is noted outside: number, time when it began, time when it was acknowledged."""
    database = sqlite3.connect(path, isolation_level=None)
    # By default the journal is unlinked and its folder not synced: after a crash it may be back, and undo what was just
    # acknowledged. Truncated, with synchronous=FULL, it is synced before COMMIT returns.
    database.execute("PRAGMA journal_mode=TRUNCATE")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
    database.execute("CREATE TABLE transfer (n INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER, memo BLOB)")
    database.execute("BEGIN")
    database.executemany("INSERT INTO account VALUES (?, ?)", [(n, OPENING) for n in range(ACCOUNTS)])
    database.execute("COMMIT")
    number = 0
    with open(ledger, "w", encoding="ascii", buffering=1) as notes:
        while True:
            number += 1
            source, target, amount = number % ACCOUNTS, number * 7 % ACCOUNTS, number % 90 + 1
            began = time.time_ns()
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, source))
                database.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, target))
                database.execute("INSERT INTO transfer VALUES (?, ?, ?, ?, ?)",
                                 (number, source, target, amount, os.urandom(500 + number % 1500)))
                database.execute("COMMIT")
            except sqlite3.Error as error:
                notes.write(f"# {error}\n")
                return 0
            notes.write(f"{number} {began} {time.time_ns()}\n")


def ledger():
    """What the bank acknowledged: [(number, began, acknowledged)]."""
    with open(LEDGER, encoding="ascii") as file:
        lines = [line.split() for line in file if line.endswith("\n") and not line.startswith("#")]
    return [tuple(map(int, words)) for words in lines]


def check_database(path, moment):
    """The database at a moment: sound, its books balance, every transaction acknowledged before is in, none from after.
    """
    notes = ledger()
    acknowledged = max((n for n, _, at in notes if at <= moment - SLACK_NS), default=0)
    begun = max((n for n, at, _ in notes if at <= moment + SLACK_NS), default=0) + 1
    database = sqlite3.connect(path)
    try:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        last, count = database.execute("SELECT max(n), count(*) FROM transfer").fetchone()
        total = database.execute("SELECT sum(balance) FROM account").fetchone()[0]
    finally:
        database.close()
    say(f"   integrity_check: {verdict}; transactions 1 to {last}; acknowledged before that moment: {acknowledged}")
    need(verdict == "ok", f"integrity_check says {verdict}")
    need(count == last, f"{count} transactions, but the last is {last}")
    need(total == ACCOUNTS * OPENING, f"the books hold {total} instead of {ACCOUNTS * OPENING}")
    need(last >= acknowledged, f"transaction {acknowledged} was acknowledged before that moment and is missing")
    need(last <= begun, f"transaction {last} is there, but it began after that moment")
    return last


def check_files(folder, expected, what):
    """Every file's SHA-256 is what was copied."""
    found = tree_digest(folder)
    wrong = differences(expected, found)
    need(not wrong, f"{what}: {wrong}")
    say(f"   {len(found)} files compared by SHA-256: all as they were")


# --- the story ---------------------------------------------------------------------------------------------------------


def story(disks):
    """Tells it; any Failure ends it."""
    chapter("A volume")
    for disk, folder in zip(disks, (STORE, os.environ["UNDISK_STATE"])):
        need_block(disk)
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", disk, timeout=300)
        mount(disk, folder, fs="ext4")
    show("up")
    done = show("volume", "create", "office", "--backing", f"{STORE}/office.img", "--create", "--size", VOLUME_SIZE)
    device = cli.last_line(done)
    need_block(device)
    cli.wait_protected("office")
    mkfs("ext4", device)
    mount(device, LIVE, "discard", "ext4")
    say(f"{device} is a 1 GiB ext4 now, mounted with -o discard.")

    chapter("Work")
    os.makedirs(f"{LIVE}/db")
    clerk = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--bank", f"{LIVE}/db/bank.sqlite", LEDGER],
                             stdin=subprocess.DEVNULL)
    say("A database (SQLite, synchronous=FULL) takes transactions from now on; each one acknowledged is noted outside.")
    say("Real files are copied from /usr.")
    expected, size = copy_tree(f"{LIVE}/files")
    os.sync()
    say(f"{len(expected)} files, {mib(size)}.")
    show("bookmark", "add", "office", "noon")
    say("After the bookmark people work on: 100 new files, 50 changed.")
    for number in range(100):
        data = f"minutes of meeting {number}\n".encode() * (number + 1)
        os.makedirs(f"{LIVE}/files/minutes", exist_ok=True)
        with open(f"{LIVE}/files/minutes/{number}.txt", "wb") as file:
            file.write(data)
        expected[f"minutes/{number}.txt"] = hashlib.sha256(data).hexdigest()
    for place in sorted(expected)[::len(expected) // 50][:50]:
        with open(f"{LIVE}/files/{place}", "ab") as file:
            file.write(b"\nchanged in the afternoon\n")
        with open(f"{LIVE}/files/{place}", "rb") as file:
            expected[place] = hashlib.sha256(file.read()).hexdigest()
    os.sync()
    before = len(ledger())
    poll("20 more transactions", lambda: len(ledger()) >= before + 20, timeout=120)

    chapter("Disaster")
    moment = time.time_ns()
    say(f"At {when(moment)}: rm -rf files; fstrim; and half of the database is overwritten.")
    trimmed = disaster(clerk)
    left = tree_digest(LIVE)
    need(not any(place.startswith("files/") for place in left), "the disaster left files")
    broken = why_broken(f"{LIVE}/db/bank.sqlite")
    need(broken, "the disaster left the database sound")
    say(f"{len(expected)} files are gone, {mib(trimmed)} trimmed, and the database says: {broken}.")
    os.sync()

    chapter("The timeline")
    show("point", "list", "office")
    counts, journal = cli.volume("office")["counts"], cli.journal("office")

    chapter("The moment before, beside the living")
    point = f"office@{cli.rfc3339(moment)}"
    say(f"Not the bookmark: the last write before {when(moment)}.")
    say(f"   # undisk image open {point} --rw")
    image = cli.open_images(point, rw=True)["office"]
    say(f"   {image.device}: position {image.position}, open in {image.open_ms} ms; {device} stays mounted.")
    need(is_mounted(LIVE), "the live volume is not mounted any more")
    mount(image.device, PAST, fs="ext4")
    check_files(f"{PAST}/files", expected, "files of the image")
    last = check_database(f"{PAST}/db/bank.sqlite", moment)
    umount(PAST)
    fsck_clean("ext4", image.device)
    show("image", "close", image.device)

    chapter("Rollback")
    umount(LIVE)
    show("rollback", point, "--dry-run")
    rolled = cli.ask("rollback", point, "--yes", timeout=600)["rollback"]
    undo = rolled["undo_bookmark"]
    say(f"   # undisk rollback {point} --yes")
    say(f"   {mib(rolled['restored_bytes'])} restored, {mib(rolled['punched_bytes'])} punched; undone by #{undo}")
    mount(device, LIVE, "discard", "ext4")
    check_files(f"{LIVE}/files", expected, "files of the rolled back volume")
    need(check_database(f"{LIVE}/db/bank.sqlite", moment) == last, "the image had another last transaction")
    umount(LIVE)
    fsck_clean("ext4", device)
    say("   e2fsck: clean")

    chapter("And the rollback undone")
    show("rollback", f"office@#{undo}", "--yes")
    mount(device, LIVE, "discard", "ext4")
    again = differences(left, tree_digest(LIVE))
    need(not again, f"the undone rollback is not the state after the disaster: {again}")
    need(why_broken(f"{LIVE}/db/bank.sqlite"), "the database is sound after the undo")
    umount(LIVE)
    fsck_clean("ext4", device)
    say(f"The disaster is back, file by file; #{undo} and {point} can both be opened.")
    images = cli.open_images(point, only="office")
    say(f"   the moment before, once more: open in {images['office'].open_ms} ms")
    cli.undisk("image", "close", images["office"].device)
    show("down")

    chapter("Figures")
    written, holds = counts["written_bytes"], journal["used_bytes"]
    say(f"files               {len(expected)} ({mib(size)}), all restored twice; {len(ledger())} transactions acknowledged")
    say(f"writes              {counts['writes']} ({mib(written)}), {counts['flushes']} flushes")
    say(f"discards            {counts['punches']} ({mib(counts['punched_bytes'])}), "
        f"{counts['zeroes']} write-zeroes ({mib(counts['zeroed_bytes'])})")
    say(f"image open          {image.open_ms} ms at {journal['head']} positions of history")
    say(f"journal             {mib(holds)} for all of it: {holds / written:.3f} bytes for each byte written")


def disaster(clerk):
    """Destroys files and database; returns the bytes trimmed."""
    shutil.rmtree(f"{LIVE}/files")
    os.sync()
    trimmed = fstrim(LIVE)
    path = f"{LIVE}/db/bank.sqlite"
    half = os.path.getsize(path) // 2
    with open(path, "r+b") as file:
        file.write(os.urandom(half))
        file.flush()
        os.fsync(file.fileno())
    # It may not have noticed yet: what it needs most it has in memory.
    clerk.kill()
    clerk.wait(60)
    os.sync()
    return trimmed


def why_broken(path):
    """What is wrong with the database; empty if nothing is."""
    # A copy: looking may change the file.
    copy = f"{PLACE}/look.sqlite"
    shutil.copyfile(path, copy)
    try:
        database = sqlite3.connect(copy)
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        database.close()
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        os.unlink(copy)
    return "" if verdict == "ok" else verdict


def main():
    if sys.argv[1:2] == ["--bank"]:
        return bank(*sys.argv[2:4])
    disks = os.environ.get("UNDISK_DISKS", "/dev/vda /dev/vdb").split()
    need(os.geteuid() == 0 and len(disks) == 2, "run me by `cargo xtask demo`")
    cli.programs_first()
    os.makedirs(PLACE, exist_ok=True)
    print("undisk: undo for block devices. Everything below happens on a real kernel with real file systems.", flush=True)
    failed = None
    try:
        story(disks)
    except Failure as failure:
        failed = str(failure)
    except Exception as error:  # the story must not end without its last line
        failed = f"{type(error).__name__}: {error}"
        raise
    finally:
        if failed:
            with contextlib.suppress(Exception):
                cli.diagnose()
            print(f"\ndemo FAILED: {failed}", flush=True)
        clean_up()
    if failed:
        return 1
    print(f"\ndemo ok: all comparisons held ({time.monotonic() - STARTED:.0f} s)", flush=True)
    return 0


def clean_up():
    """Leaves nothing behind: daemons, mounts, folders."""
    for folder in (PAST, LIVE):
        if is_mounted(folder):
            with contextlib.suppress(Failure):
                run("umount", folder, status=None, timeout=60)
    with contextlib.suppress(Failure):
        cli.undisk("down", "--force", status=None, timeout=120)
    for folder in (os.environ["UNDISK_STATE"], STORE):
        if is_mounted(folder):
            with contextlib.suppress(Failure):
                run("umount", folder, status=None, timeout=60)
    if not any(is_mounted(folder) for folder in (PAST, LIVE, STORE, os.environ["UNDISK_STATE"])):
        shutil.rmtree(PLACE, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
