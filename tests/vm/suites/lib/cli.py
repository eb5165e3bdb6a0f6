"""undisk from a script's side: run a verb, read its JSON, find pids, open images, wait for states.

Owns the only spelling of `undisk --json` fields in the suites (docs/formats/json.md). Deliberately decides nothing about
right or wrong content, and reads no file of undisk's own.
"""

import contextlib
import datetime
import json
import os
import re

from machine import alive, is_block, program_of
from undisk_suite import Failure, need, poll, run, same

OK, FAILED, USAGE, DEGRADED, NOT_FOUND, REFUSED, UNREACHABLE, TIMED_OUT = range(8)
BIN = os.environ.get("UNDISK_BIN", "")
RUN = os.environ.get("UNDISK_RUN", "/run/undisk")
STATE = os.environ.get("UNDISK_STATE", "/var/lib/undisk")


def programs_first():
    """Puts the folder of the programs under test first in PATH."""
    if BIN:
        os.environ["PATH"] = BIN + ":" + os.environ["PATH"]


def undisk(*words, status=OK, timeout=120):
    """Runs the command line; returns how it ended."""
    return run("undisk", *words, status=status, timeout=timeout)


def ask(*words, status=OK, timeout=120):
    """Runs it with --json and returns what it printed."""
    done = undisk(*words, "--json", status=status, timeout=timeout)
    try:
        return json.loads(done.out)
    except json.JSONDecodeError as error:
        raise Failure(f"{done}: no JSON: {error}: {done.out[:200]!r}") from error


def ns_of(thing, name):
    """A time field, RFC 3339 in UTC, as nanoseconds since 1970."""
    text = thing[name]
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", text or "")
    need(match, f"{name} is {text!r}, not a time in RFC 3339 UTC")
    moment = datetime.datetime.fromisoformat(match[1] + "+00:00")
    return int(moment.timestamp()) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def rfc3339(ns):
    """Nanoseconds since 1970 as the command line takes them."""
    moment = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{ns % 1_000_000_000:09d}Z"


def up(status=OK, timeout=180):
    """Starts both daemons, or repairs."""
    return undisk("up", status=status, timeout=timeout)


def down(status=OK, timeout=180):
    """Stops both daemons."""
    return undisk("down", status=status, timeout=timeout)


def status(expect=(OK, DEGRADED)):
    """What `undisk status` says, whether or not all is well."""
    return ask("status", status=expect)


def splitter_pid():
    """The splitter's process id, once it answers and runs."""
    return daemon_pid("splitter", "ublk-splitter")


def appliance_pid():
    """The appliance's process id, once it answers and runs."""
    return daemon_pid("appliance", "journal-appliance")


def daemon_pid(which, program):
    """The id of a daemon that runs, by what `status` says of it."""
    part = status(expect=(OK, DEGRADED, UNREACHABLE)).get(which) or {}
    pid = part.get("pid") or 0
    if not pid or not alive(pid):
        raise Failure(f"{program} does not run")
    same(f"program of process {pid}", program_of(pid), program[:15])
    return pid


def restarted(which, old, timeout=120):
    """Waits until the supervisor has started a dead daemon again; returns its new id."""
    ask_pid = splitter_pid if which == "splitter" else appliance_pid
    return poll(f"the {which} runs again", lambda: (pid := ask_pid()) != old and pid, timeout=timeout)


def last_line(done):
    """The last line of what a verb printed."""
    lines = done.out.strip().splitlines()
    need(lines, lambda: f"{done}: printed nothing")
    return lines[-1].strip()


def create_volume(name, backing, size=None, group=None, **options):
    """Creates a volume and returns its device, which exists."""
    words = ["volume", "create", name, "--backing", backing]
    if size is not None:
        words += ["--create", "--size", size]
    if group is not None:
        words += ["--group", group]
    for key, value in options.items():
        words += [f"--{key.replace('_', '-')}", value]
    device = last_line(undisk(*words))
    need(is_block(device), f"volume create {name} said {device!r}, which is not a block device")
    return device


def volume(name):
    """What `volume status` says of one volume."""
    return ask("volume", "status", name)["volume"]


def volumes():
    """All volumes."""
    return ask("volume", "list")["volumes"]


def groups():
    """All groups as the appliance sees them."""
    return ask("group", "list")["groups"]


def group(name):
    """One group as the appliance sees it."""
    return ask("group", "status", name)["group"]


def health(name):
    """protected, synchronising, unlinked, needs-resync or trouble."""
    return group(name)["health"]


def protected(name):
    """Whether every write of the group is recorded and points can be chosen. The appliance cannot know that its splitter had
    to give up recording until the link has told it, so the splitter is asked as well, where it answers."""
    answer = ask("group", "status", name)
    ours = answer["splitter"]
    return answer["group"]["health"] == "protected" and (ours is None or ours["mode"] != "marking")


def wait_protected(name, timeout=120):
    """Waits until every write of the group is recorded and points can be chosen."""
    poll(f"group {name} is protected", lambda: protected(name), timeout=timeout)


def whole_again(name):
    """Whether the splitter records every write of the group, all of it is durable, and points can be chosen."""
    answer = ask("group", "status", name)
    ours, theirs = answer["splitter"] or {}, answer["group"]
    recorded = ours.get("mode") == "active" and ours.get("linked") and ours["laid"] == ours["durable"]
    if not recorded or theirs["health"] != "protected":
        raise Failure(f"{theirs['health']}; splitter: {ours}")
    return True


def wait_whole(name, timeout=120):
    """Waits, while no host writes, until nothing of a trouble is left: a stopped appliance says of itself what it last
    knew, so its word alone is not enough."""
    poll(f"group {name} is whole again", lambda: whole_again(name), timeout=timeout)


def timeline(name):
    """The group's timeline."""
    return ask("point", "list", name)["timeline"]


def gaps(name):
    """The group's gaps as (begin, end) positions."""
    return [(gap["begin"], gap["end"]) for gap in timeline(name)["gaps"]]


def bookmark(name, mark):
    """Names the present moment; returns (position, time in ns)."""
    made = ask("bookmark", "add", name, mark)["bookmark"]
    return made["position"], ns_of(made, "time")


def bookmarks(name):
    """All bookmarks of a group: name -> position."""
    return {mark["name"]: mark["position"] for mark in ask("bookmark", "list", name)["bookmarks"]}


def journal(name):
    """What `journal status` says of one group."""
    return next(entry for entry in ask("journal", "status", name)["journals"] if entry["group"] == name)


def findings(name, status=OK):
    """What `journal verify` finds damaged in the group's journal."""
    return ask("journal", "verify", name, status=status, timeout=300)["verified"]["findings"]


def durable(name):
    """The newest position on the journal's disk."""
    return journal(name)["durable"]


class Image:
    """One open image device."""

    def __init__(self, answer):
        self.device = answer["device"]
        self.position = answer["position"]
        self.time_ns = ns_of(answer, "time")
        self.volume = answer["volume"]
        self.open_ms = answer["open_ms"]
        self.id = answer["id"]


def open_images(point, rw=False, only=None):
    """Opens GROUP@POINT; returns the images by volume name."""
    words = ["image", "open", point] + (["--rw"] if rw else []) + (["--volume", only] if only else [])
    images = [Image(entry) for entry in ask(*words)["images"]]
    for image in images:
        need(is_block(image.device), f"image open {point} said {image.device}, which is not a block device")
    return {image.volume: image for image in images}


@contextlib.contextmanager
def image_of(point, volume_name, rw=False):
    """One volume's image for the length of a block."""
    image = open_images(point, rw=rw, only=volume_name)[volume_name]
    try:
        yield image
    finally:
        undisk("image", "close", image.device)
    need(not is_block(image.device), f"{image.device} is still there after `image close`")


def refused_point(point, status=REFUSED):
    """Fails unless `image open` refuses this point, with one clear line; returns the line."""
    done = undisk("image", "open", point, status=(status if isinstance(status, tuple) else (status,)))
    return one_line(done)


def one_line(done):
    """Fails unless stderr is one line for a person, `undisk: ...`, perhaps followed by hints; returns that line."""
    lines = [line for line in done.err.strip().splitlines() if line.strip()]
    need(lines, lambda: f"{done}: says nothing on stderr")
    need(lines[0].startswith("undisk: "), lambda: f"{done}: not undisk's own word: {lines[0]!r}")
    rest = [line for line in lines[1:] if not line.startswith(("hint: ", "try "))]
    need(not rest, lambda: f"{done}: more than one line: {rest[0]!r}")
    odd = re.search(r"panicked|RUST_BACKTRACE|\w+Error\b|Some\(|\{ ", lines[0])
    need(not odd, lambda: f"not for a person: {lines[0]!r}")
    return lines[0]


def random_positions(rng, first, last, count, holes=()):
    """So many different positions of [first, last] (or all, if fewer) outside the holes, ascending.

    A hole is (begin, end): positions from begin to before end; an open end reaches to the last.
    """
    def free(position):
        return all(position < begin or (end is not None and position >= end) for begin, end in holes)

    span = range(first, last + 1)
    if len(span) <= 4 * count:
        choice = [position for position in span if free(position)]
        return sorted(rng.sample(choice, min(count, len(choice))))
    found = set()
    for _ in range(100 * count):
        position = rng.randint(first, last)
        if free(position):
            found.add(position)
        if len(found) == count:
            break
    return sorted(found)


def diagnose():
    """What a reader of a failed run wants to see: status, the end of the daemons' logs, the kernel's."""
    from machine import dmesg_tail

    print("# --- undisk status ---")
    print(run("undisk", "status", status=None, timeout=30).out)
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(f"{RUN}/log")):
            print(f"# --- {name} ---")
            print(run("tail", "-n", "30", f"{RUN}/log/{name}", status=None).out)
    print("# --- dmesg ---")
    print(dmesg_tail())
