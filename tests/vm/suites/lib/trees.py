"""File operations on a mounted file system that are remembered, and the judge of what a past moment of it must hold.

Every path has a history of *claims*: from this time to that time this file had exactly this content (or was gone), and
that was on disk, because an fsync, a directory fsync or a sync had returned. Between claims nothing is known: the host
had promised nothing. A moment is judged by its time label: every claim that covers it must hold.
Deliberately knows neither undisk nor how the moment was opened.
"""

import hashlib
import os
import time

from machine import fstrim
from undisk_suite import need

GONE = None
# The label of a record and the guest's clock around an fsync come from two readings of the same clock.
SLACK_NS = 20_000_000


class Claim:
    """`content` (a SHA-256, or GONE) from `since` to `until` (ns; None: still so)."""

    __slots__ = ("content", "since", "until")

    def __init__(self, content, since):
        self.content, self.since, self.until = content, since, None

    def covers(self, label_ns):
        """Whether it is sure to hold at that time."""
        return self.since + SLACK_NS <= label_ns and (self.until is None or label_ns <= self.until - SLACK_NS)


class FileLoad:
    """A seeded run of file operations below `root`."""

    def __init__(self, root, rng):
        self.root, self.rng = root, rng
        self.claims = {}
        # What is there now: path -> SHA-256; and the paths whose present state no claim covers.
        self.files, self.loose = {}, set()
        self.counts = {}
        self.trimmed = 0
        self.number = 0
        self.folders = [root]

    def run(self, operations, trim_every=250, sync_every=400):
        """Does so many operations."""
        for number in range(1, operations + 1):
            self.one()
            if number % trim_every == 0:
                self.trimmed += fstrim(self.root)
                self.count("fstrim")
            if number % sync_every == 0:
                os.sync()
                done = time.time_ns()
                for path in list(self.loose):
                    self.claim(path, done)
                self.count("sync")

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def one(self):
        """One operation."""
        choice = self.rng.random()
        if choice < 0.02 and len(self.folders) < 40:
            self.make_folder()
        elif choice < 0.45 or len(self.files) < 20:
            self.create()
        elif choice < 0.60:
            self.change()
        elif choice < 0.68:
            self.rename()
        else:
            self.delete()

    def content(self, most=None):
        """Fresh content: mostly small, sometimes large enough for extents of their own."""
        size = self.rng.choice((700, 3000, 9000, 20000, 60000)) if self.rng.random() < 0.96 else 400_000
        size = self.rng.randint(1, min(size, most or size))
        return self.rng.randbytes(size)

    def end(self, path):
        """From now on no claim about the path covers the present."""
        claims = self.claims.setdefault(path, [])
        if claims and claims[-1].until is None:
            claims[-1].until = time.time_ns()
        self.loose.add(path)

    def claim(self, path, since):
        """The present state of the path is on disk since then."""
        self.claims.setdefault(path, []).append(Claim(self.files.get(path, GONE), since))
        self.loose.discard(path)

    def settle(self, path, chance, folder=False):
        """Makes the path's present state durable, by chance, and claims it."""
        if self.rng.random() >= chance:
            return
        fd = os.open(os.path.dirname(path) if folder else path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.claim(path, time.time_ns())
        self.count("fsync")

    def make_folder(self):
        path = os.path.join(self.rng.choice(self.folders), f"d{len(self.folders)}")
        os.mkdir(path)
        self.folders.append(path)
        self.count("mkdir")

    def create(self):
        self.number += 1
        path = os.path.join(self.rng.choice(self.folders), f"f{self.number}")
        self.end(path)
        data = self.content()
        with open(path, "wb") as file:
            file.write(data)
        self.files[path] = hashlib.sha256(data).hexdigest()
        self.settle(path, 0.2)
        self.count("create")

    def change(self):
        """Overwrites a part, appends or cuts short."""
        path = self.rng.choice(list(self.files))
        self.end(path)
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            kind = self.rng.randrange(3)
            if kind == 0:
                file.seek(self.rng.randrange(size) if size else 0)
                file.write(self.content(20000))
            elif kind == 1:
                file.seek(0, os.SEEK_END)
                file.write(self.content(20000))
            else:
                file.truncate(self.rng.randint(0, size))
            file.seek(0)
            self.files[path] = hashlib.sha256(file.read()).hexdigest()
        self.settle(path, 0.25)
        self.count(("overwrite", "append", "truncate")[kind])

    def rename(self):
        old = self.rng.choice(list(self.files))
        self.number += 1
        new = os.path.join(os.path.dirname(old), f"r{self.number}")
        was_durable = old not in self.loose
        self.end(old)
        self.end(new)
        os.rename(old, new)
        self.files[new] = self.files.pop(old)
        if self.rng.random() < 0.3:
            for path in (os.path.dirname(new),) if was_durable else (new, os.path.dirname(new)):
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            done = time.time_ns()
            self.claim(old, done)
            self.claim(new, done)
            self.count("fsync")
        self.count("rename")

    def delete(self):
        path = self.rng.choice(list(self.files))
        self.end(path)
        os.unlink(path)
        del self.files[path]
        self.settle(path, 0.12, folder=True)
        self.count("delete")

    def finish(self):
        """After the file system is unmounted (and with that on disk): everything is claimed."""
        done = time.time_ns()
        for path in list(self.loose):
            self.claim(path, done)

    def judge(self, root, label_ns):
        """Checks every claim that covers that time below `root`; returns how many files were compared, and how many
        were rightly gone."""
        present = gone = 0
        for path, claims in self.claims.items():
            for claim in reversed(claims):
                if not claim.covers(label_ns):
                    continue
                there = root + path[len(self.root) :]
                if claim.content is GONE:
                    need(not os.path.lexists(there), f"{there} is there, but its deletion had been made durable")
                    gone += 1
                else:
                    try:
                        with open(there, "rb") as file:
                            found = hashlib.sha256(file.read()).hexdigest()
                    except FileNotFoundError:
                        found = "missing"
                    need(
                        found == claim.content,
                        lambda there=there, found=found, claim=claim: f"{there} is {found[:16]}, but had been made "
                        f"durable as {claim.content[:16]} {(label_ns - claim.since) / 1e9:.3f} s before this point",
                    )
                    present += 1
                break
        return present, gone


def tree_digest(root):
    """SHA-256 of every regular file below `root`, by its path from there; links by their target."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in names + [f for f in folders if os.path.islink(os.path.join(folder, f))]:
            path = os.path.join(folder, name)
            place = os.path.relpath(path, root)
            if os.path.islink(path):
                found[place] = "-> " + os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[place] = hashlib.sha256(file.read()).hexdigest()
    return found


def differences(expected, found):
    """One line that names what differs between two such digests; empty if nothing."""
    missing = [path for path in expected if path not in found]
    extra = [path for path in found if path not in expected]
    changed = [path for path in expected if path in found and expected[path] != found[path]]
    parts = []
    for what, paths in (("missing", missing), ("extra", extra), ("changed", changed)):
        if paths:
            parts.append(f"{len(paths)} {what} ({', '.join(sorted(paths)[:3])}{', ...' if len(paths) > 3 else ''})")
    return "; ".join(parts)
