#!/usr/bin/python3
# vm: disks=2x1G mem=2048 cpus=2 timeout=1000 boots=1
"""Bad input, every kind that the issue names: one clear line on stderr (hints may follow), the documented exit status, and
nothing half made."""

import os
import shutil
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import cli  # noqa: E402
from machine import alive, is_block, lasting_disk, loop_device, mkfs, mount, need_block, opened, umount  # noqa: E402
from undisk_suite import Failure, Suite, need, poll, run, same  # noqa: E402

STORE = "/mnt/store"
NOBODY = 65534

# Every verb with arguments that make no sense: too few, too many, unknown, ill-formed.
NONSENSE = """
frobnicate
--frobnicate
volume
volume frobnicate
volume create
volume create name
volume create name --backing
volume create 1name --backing {store}/x.img --create --size 8M
volume create na/me --backing {store}/x.img --create --size 8M
volume create name --backing {store}/x.img --create
volume create name --backing {store}/x.img --create --size lots
volume create name --backing {store}/x.img --create --size 8gb
volume create name --backing {store}/x.img --create --size 0
volume create name --backing {store}/x.img --create --size 4097
volume create name --backing {store}/x.img --create --size 8M --queues none
volume create name --backing {store}/x.img --create --size 8M --dev-id minus
volume create name --backing {store}/x.img --create --size 8M --frobnicate
volume list extra
volume list -o nocolumn
volume status a b
volume remove
volume verify
volume verify a b
group
group create
group create 9lives
group create good --frobnicate
group list extra
group status a b
group resync
group set
group set base
group set base mode
group set base mode=fast
group set base mode=sync
group set base sync-loss=pray
group set base colour=red
group set base keep=24h
group set base window=0
group set base journal-limit=lots
group set base journal-full=pray
group set base lag-bytes=lots
group set base lag-seconds=2w
group set base outbox=1K
group set base mode=bounded-lag lag-bytes=40MiB
group pause
group resume a b
bookmark
bookmark add
bookmark add base
bookmark add base 1st
bookmark add base before-rollback-x
bookmark add base now --hold-until soon
bookmark hold base now
bookmark list
bookmark remove base
point
point list
point list a b
image
image open
image open base
image open base@
image open @latest
image open base@yesterday
image open base@seq:
image open base@seq:x
image open base@-5parsecs
image open base@2026-13-01T00:00
image open base@#
image open base@@x
image open base@latest --frobnicate
image list extra
image close a b c
rollback
rollback base
rollback base@sometime
journal
journal verify
journal trim
journal trim base --before yesterday
journal trim base --to-size lots
journal frobnicate
events -n many
events -o nocolumn
up --frobnicate
down --frobnicate
status --frobnicate
"""


class Nothing:
    """What must stay as it is whatever is asked for in vain."""

    def __init__(self):
        self.before = self.look()

    @staticmethod
    def look():
        volumes = [(v["name"], v["device"]) for v in cli.volumes()]
        groups = [(g["name"], sorted(m["name"] for m in g["volumes"]), sorted(cli.bookmarks(g["name"])))
                  for g in cli.groups()]
        files = sorted((os.path.join(folder, name), os.stat(os.path.join(folder, name)).st_size)
                       for folder, _, names in os.walk(STORE) for name in names)
        devices = sorted(name for name in os.listdir("/dev") if name.startswith("ublk"))
        journals = sorted(os.listdir(f"{cli.STATE}/appliance")) if os.path.isdir(f"{cli.STATE}/appliance") else []
        # The first image ever opened makes the folder of overlays, which stays.
        inner = sorted(folder for folder, _, _ in os.walk(cli.STATE) if folder != f"{cli.STATE}/overlays")
        return volumes, groups, files, devices, journals, inner

    def check(self):
        """Fails unless all is as it was."""
        for what, was, now in zip(("volumes", "groups", "files", "devices", "journals", "folders"), self.before,
                                  self.look()):
            same(f"{what} after a refusal", now, was)


def refused(status, *words, mentions=(), silent=True):
    """Runs a command that must fail with that exit status, one line, all the words mentioned, and nothing on stdout
    (unless not `silent`: a plan may be told before the question)."""
    done = cli.undisk(*words, status=None)
    line = cli.one_line(done)
    expected = status if isinstance(status, tuple) else (status,)
    need(done.status in expected, f"{done}: expected exit status {' or '.join(map(str, expected))}")
    need(not silent or not done.out.strip(), f"{done}: prints on stdout: {done.out.strip()[:100]!r}")
    for word in mentions:
        need(word in done.err, f"{done}: does not mention {word!r}")
    return line


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    os.makedirs(STORE, exist_ok=True)

    with suite.case("no-daemon-runs"):
        for words in (("volume", "list"), ("group", "list"), ("bookmark", "list", "g"), ("point", "list", "g"),
                      ("image", "list"), ("image", "open", "g@latest"), ("rollback", "g@latest", "--yes"),
                      ("journal", "status"), ("journal", "verify", "g"), ("group", "create", "g"),
                      ("volume", "create", "x", "--backing", f"{STORE}/x.img", "--create", "--size", "8M")):
            refused(cli.UNREACHABLE, *words)
        need(not os.listdir(STORE), "a file was made")

    with suite.case("no-ublk-in-the-kernel"):
        run("rmmod", "ublk_drv")
        need(not os.path.exists("/dev/ublk-control"), "ublk is still there")
        # `up` may load the module itself; it must not get the chance.
        os.makedirs("/etc/modprobe.d", exist_ok=True)
        with open("/etc/modprobe.d/no-ublk.conf", "w", encoding="ascii") as file:
            file.write("install ublk_drv /bin/false\nblacklist ublk_drv\n")
        refused((cli.FAILED, cli.REFUSED, cli.DEGRADED), "up", mentions=("ublk",))
        os.unlink("/etc/modprobe.d/no-ublk.conf")
        cli.undisk("down", status=None)
        run("modprobe", "ublk_drv")
        poll("/dev/ublk-control is there", lambda: os.path.exists("/dev/ublk-control"))

    with suite.case("stale-sockets-do-not-matter", fatal=True):
        lasting_disk("/dev/vda", cli.STATE, fresh=True)
        os.makedirs(cli.RUN, mode=0o700, exist_ok=True)
        for name in ("splitter.sock", "appliance.sock", "link.sock"):
            path = f"{cli.RUN}/{name}"
            if os.path.exists(path):
                os.unlink(path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
                stale.bind(path)
        # Nobody listens there.
        refused(cli.UNREACHABLE, "volume", "list")
        cli.up()
        same("volumes", cli.volumes(), [])

    with suite.case("a-volume-to-be-left-alone", fatal=True):
        base = cli.create_volume("base", f"{STORE}/base.img", size="16M")
        cli.wait_protected("base")
        cli.bookmark("base", "kept")
        nothing = Nothing()

    def create(name, backing, *more):
        return ("volume", "create", name, "--backing", backing, *more)

    with suite.case("backing-missing"):
        refused((cli.FAILED, cli.NOT_FOUND), *create("x", f"{STORE}/missing.img"), mentions=("missing.img",))
        refused((cli.FAILED, cli.NOT_FOUND), *create("x", f"{STORE}/no/such/x.img", "--create", "--size", "8M"),
                mentions=("/no/such",))
        refused((cli.FAILED, cli.NOT_FOUND), *create("x", "/dev/nosuch"), mentions=("/dev/nosuch",))
        nothing.check()

    with suite.case("backing-too-small-or-odd"):
        with open(f"{STORE}/empty.img", "wb"):
            pass
        with open(f"{STORE}/odd.img", "wb") as file:
            file.truncate(5000)
        nothing = Nothing()
        refused((cli.REFUSED, cli.FAILED, cli.USAGE), *create("x", f"{STORE}/empty.img"), mentions=("empty.img",))
        refused((cli.REFUSED, cli.FAILED, cli.USAGE), *create("x", f"{STORE}/odd.img"), mentions=("odd.img",))
        refused((cli.REFUSED, cli.FAILED, cli.USAGE), *create("x", STORE), mentions=(STORE,))
        refused((cli.REFUSED, cli.FAILED, cli.USAGE), *create("x", "/dev/null"), mentions=("/dev/null",))
        nothing.check()
        same("size of the odd file", os.stat(f"{STORE}/odd.img").st_size, 5000)

    with suite.case("backing-exists-already-and-create-is-asked"):
        with open(f"{STORE}/there.img", "wb") as file:
            file.write(b"precious" * 1024)
        nothing = Nothing()
        refused((cli.REFUSED, cli.FAILED), *create("x", f"{STORE}/there.img", "--create", "--size", "8M"),
                mentions=("there.img",))
        nothing.check()
        with open(f"{STORE}/there.img", "rb") as file:
            need(file.read() == b"precious" * 1024, "the file that was there has changed")

    with suite.case("backing-in-use"):
        refused((cli.REFUSED, cli.FAILED), *create("x", f"{STORE}/base.img"), mentions=("base.img",))
        os.symlink(f"{STORE}/base.img", f"{STORE}/link.img")
        os.link(f"{STORE}/base.img", f"{STORE}/hard.img")
        nothing = Nothing()
        for name in ("link.img", "hard.img"):
            refused((cli.REFUSED, cli.FAILED), *create("x", f"{STORE}/{name}"), mentions=(name,))
        nothing.check()
        os.unlink(f"{STORE}/link.img")
        os.unlink(f"{STORE}/hard.img")
        with open(f"{STORE}/looped.img", "wb") as file:
            file.truncate(8 << 20)
        nothing = Nothing()
        with loop_device(f"{STORE}/looped.img"):
            refused((cli.REFUSED, cli.FAILED), *create("x", f"{STORE}/looped.img"), mentions=("looped.img",))
        nothing.check()
        refused((cli.REFUSED, cli.FAILED), *create("x", base), mentions=(base,))

    with suite.case("backing-mounted"):
        mkfs("ext4", "/dev/vdb")
        mount("/dev/vdb", "/mnt/used", fs="ext4")
        nothing = Nothing()
        refused((cli.REFUSED, cli.FAILED), *create("x", "/dev/vdb"), mentions=("/dev/vdb", "mounted"))
        umount("/mnt/used")
        run("sgdisk", "--zap-all", "/dev/vdb")
        run("sgdisk", "-n1:0:+64M", "/dev/vdb")
        poll("/dev/vdb1 is there", lambda: is_block("/dev/vdb1"))
        mkfs("ext4", "/dev/vdb1")
        mount("/dev/vdb1", "/mnt/used", fs="ext4")
        refused((cli.REFUSED, cli.FAILED), *create("x", "/dev/vdb"), mentions=("/dev/vdb",))
        umount("/mnt/used")
        with opened("/dev/vdb1", os.O_RDWR | os.O_EXCL):
            refused((cli.REFUSED, cli.FAILED), *create("x", "/dev/vdb1"), mentions=("/dev/vdb1",))
        nothing.check()

    with suite.case("name-taken"):
        refused((cli.REFUSED, cli.FAILED), *create("base", f"{STORE}/new.img", "--create", "--size", "8M"),
                mentions=("base",))
        nothing = Nothing()
        refused((cli.REFUSED, cli.FAILED), "bookmark", "add", "base", "kept", mentions=("kept",))
        nothing.check()
        need(not os.path.exists(f"{STORE}/new.img"), "the backing file was made all the same")

    with suite.case("device-number-taken"):
        number = base.removeprefix("/dev/ublkb")
        refused((cli.REFUSED, cli.FAILED), *create("x", f"{STORE}/new.img", "--create", "--size", "8M", "--dev-id",
                                                   number), mentions=(number,))
        nothing.check()

    with suite.case("dry-run-makes-nothing"):
        done = cli.undisk(*create("x", f"{STORE}/new.img", "--create", "--size", "8M", "--dry-run"))
        need("new.img" in done.out or "x" in done.out, f"{done}: says nothing")
        nothing.check()

    with suite.case("unknown-names"):
        for words in (("volume", "status", "nosuch"), ("volume", "remove", "nosuch"), ("group", "status", "nosuch"),
                      ("group", "resync", "nosuch"), ("group", "set", "nosuch", "mode=async"), ("group", "pause", "nosuch"),
                      ("group", "resume", "nosuch"), ("volume", "verify", "nosuch"), ("bookmark", "add", "nosuch", "x"),
                      ("bookmark", "list", "nosuch"),
                      ("bookmark", "remove", "base", "nosuch"), ("point", "list", "nosuch"),
                      ("image", "open", "nosuch@latest"), ("image", "open", "base@latest", "--volume", "nosuch"),
                      ("image", "close", "/dev/ublkb77"), ("rollback", "nosuch@latest", "--yes"),
                      ("journal", "status", "nosuch"), ("journal", "verify", "nosuch"),
                      ("image", "open", "base@#nosuch"), ("rollback", "base@#nosuch", "--yes")):
            refused(cli.NOT_FOUND, *words, mentions=("ublkb77" if "/dev/ublkb77" in words else "nosuch",))
        nothing.check()

    with suite.case("point-outside-the-window-and-the-answer-names-it"):
        window = cli.timeline("base")["window"]
        for point in (f"seq:{window['newest'] + 1000}", "1999-12-31T23:59:59Z", "@1000000"):
            line = refused(cli.NOT_FOUND, "image", "open", f"base@{point}")
            need(str(window["oldest"]) in line and str(window["newest"]) in line,
                 f"{point}: the answer does not name the window {window['oldest']}..{window['newest']}: {line!r}")
            refused(cli.NOT_FOUND, "rollback", f"base@{point}", "--yes", silent=False)
        nothing.check()

    with suite.case("not-root"):
        # Where everybody may run it: the folder of the programs under test may be closed to others.
        open_to_all = "/mnt/everybody/undisk"
        os.makedirs(os.path.dirname(open_to_all))
        shutil.copy(shutil.which("undisk"), open_to_all)
        os.chmod(open_to_all, 0o755)
        for words in (("status",), ("volume", "list"), ("up",), ("down",), ("group", "create", "mine"),
                      create("x", f"{STORE}/new.img", "--create", "--size", "8M"), ("image", "open", "base@latest"),
                      ("rollback", "base@latest", "--yes")):
            done = run(open_to_all, *words, status=(cli.FAILED, cli.REFUSED, cli.UNREACHABLE), user=NOBODY)
            line = cli.one_line(done)
            need("root" in line or "permission" in line.lower(), f"does not say that root is needed: {line!r}")
        nothing.check()

    with suite.case("rollback-without-yes-and-without-a-terminal"):
        refused(cli.REFUSED, "rollback", "base@#kept", mentions=("--yes",), silent=False)
        nothing.check()

    with suite.case("volume-mounted-or-open"):
        mkfs("ext4", base)
        mount(base, "/mnt/live", "discard", "ext4")
        nothing = Nothing()
        for words in (("down",), ("volume", "remove", "base"), ("rollback", "base@#kept", "--yes")):
            refused(cli.REFUSED, *words, mentions=("/mnt/live" if words[0] != "rollback" else "mount",))
        umount("/mnt/live")
        with opened(base, os.O_RDONLY):
            for words in (("down",), ("volume", "remove", "base")):
                refused(cli.REFUSED, *words, mentions=(base,))
        nothing.check()
        need_block(base)

    with suite.case("wrong-arguments-of-every-command"):
        wrong = []
        for line in NONSENSE.strip().splitlines():
            words = line.format(store=STORE).split()
            done = cli.undisk(*words, status=None)
            try:
                same("exit status", done.status, cli.USAGE)
                cli.one_line(done)
                need(not done.out.strip(), f"{done}: prints on stdout: {done.out.strip()[:100]!r}")
            except Failure as failure:
                wrong.append(f"`undisk {line}`: {failure} {done.err.strip()[:120]!r}")
        need(not wrong, f"{len(wrong)} of {len(NONSENSE.split(chr(10))) - 2}: " + "; ".join(wrong))
        nothing.check()

    with suite.case("daemons-and-volume-are-as-well-as-before"):
        cli.status(expect=(cli.OK,))
        same("health", cli.health("base"), "protected")
        for ask_pid in (cli.splitter_pid, cli.appliance_pid):
            need(alive(ask_pid()), "a daemon died")

    with suite.case("image-open-while-down-is-asked"):
        image = cli.open_images("base@#kept", rw=True)["base"]
        mount(base, "/mnt/live", "discard", "ext4")
        refused(cli.REFUSED, "down", mentions=("/mnt/live",))
        umount("/mnt/live")
        with opened(image.device, os.O_RDONLY):
            refused(cli.REFUSED, "image", "close", image.device, mentions=(image.device,))
        cli.undisk("image", "close", image.device)

    with suite.case("damaged-configuration"):
        cli.down()
        os.makedirs("/etc/undisk", exist_ok=True)
        with open("/etc/undisk/undisk.toml", "w", encoding="ascii") as file:
            file.write("this is [not toml")
        refused((cli.FAILED, cli.USAGE), "up", mentions=("undisk.toml",))
        os.unlink("/etc/undisk/undisk.toml")
        cli.up()
        nothing.check()
        cli.down()
        shutil.rmtree("/mnt/used", ignore_errors=True)


Suite().main(body)
