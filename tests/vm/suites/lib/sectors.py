"""Sectors that say what they are, streams of operations that are remembered, and the judge of what an image holds.

A stream is a region of a device that one thread changes, one operation after the other, each waited for. So every
moment of the device is, for each stream, the state after some number of its operations: its *prefix*. The judge finds
that number and asks
  - is the region exactly that state (nothing torn, nothing half, nothing that was never there)?
  - are the prefixes of all streams one cut: if an operation is in, so is everything that had completed before it was
    submitted?
  - does the cut lie where the image's time label says?
Deliberately knows neither undisk nor file systems.
"""

import array
import bisect
import os
import struct
import threading
import time
import zlib

from machine import Aligned, discard, opened, read_direct, zero_out
from undisk_suite import PATIENCE, Failure, need

SECTOR = 512
# magic, stream, sector of the device, operation (1 is the stream's first), seed; then 8 words of filler and the checksum.
HEAD = struct.Struct("<8sIIQQQ")
MAGIC = b"undiskT1"
WRITE, DISCARD, ZERO = "write", "discard", "zero"
# What a decoded sector can be besides an operation's number.
EMPTY = 0
ALIEN = (1 << 64) - 1


def sector_bytes(stream, sector, operation, seed):
    """The 512 bytes that operation writes into that sector."""
    head = HEAD.pack(MAGIC, stream, 0, sector, operation, seed)
    word = struct.pack("<Q", (operation * 0x9E3779B97F4A7C15 + sector * 0xC2B2AE3D27D4EB4F + seed) & ((1 << 64) - 1))
    body = head + word * ((SECTOR - 4 - HEAD.size) // 8)
    body = body.ljust(SECTOR - 4, b"\xa5")
    return body + struct.pack("<I", zlib.crc32(body))


def decode(data, first_sector, seed):
    """The (stream, operation) of every sector of `data`, as two arrays; EMPTY for zeros, ALIEN for anything else."""
    count = len(data) // SECTOR
    streams = array.array("I", bytes(4 * count))
    operations = array.array("Q", bytes(8 * count))
    zeros = bytes(SECTOR)
    for index in range(count):
        sector = data[index * SECTOR : (index + 1) * SECTOR]
        if sector == zeros:
            continue
        magic, stream, _, place, operation, of = HEAD.unpack_from(sector)
        right = magic == MAGIC and place == first_sector + index and of == seed
        if right and struct.unpack_from("<I", sector, SECTOR - 4)[0] == zlib.crc32(sector[: SECTOR - 4]):
            streams[index], operations[index] = stream, operation
        else:
            operations[index] = ALIEN
    return streams, operations


class Operation:
    """One operation of a stream, with the guest's times (ns) around it. `done` is None while it has not come back."""

    __slots__ = ("kind", "sector", "sectors", "submitted", "done")

    def __init__(self, kind, sector, sectors):
        self.kind, self.sector, self.sectors = kind, sector, sectors
        self.submitted = self.done = None


class Stream(threading.Thread):
    """A thread that changes sectors [first, first + sectors) of a device until told to stop.

    `alignment`: every operation starts and ends at a multiple of so many sectors. `mix`: weights of write, discard and
    zero. `sync_every`: an fsync (flush) after each so many operations. An error of the host ends the stream and is kept.
    """

    def __init__(self, device, number, first, sectors, seed, rng, alignment=8, longest=16, mix=(8, 1, 1), sync_every=16):
        super().__init__(name=f"stream-{number}", daemon=True)
        self.device, self.number, self.first, self.sectors, self.seed = device, number, first, sectors, seed
        self.rng, self.alignment, self.longest, self.mix, self.sync_every = rng, alignment, longest, mix, sync_every
        self.operations = []
        self.error = None
        self.halt = threading.Event()
        # Called in this thread with the number of each operation that came back; for whoever needs them in step.
        self.after = None

    def choose(self):
        """The next operation: most are short, half fall into a hot eighth of the region."""
        unit = self.alignment
        units = self.rng.randint(1, max(1, self.longest // unit))
        room = self.sectors // unit - units
        start = self.rng.randint(0, room if self.rng.random() < 0.5 else max(0, room // 8))
        kind = self.rng.choices((WRITE, DISCARD, ZERO), self.mix)[0]
        return Operation(kind, self.first + start * unit, units * unit)

    def perform(self, fd, buffer, operation):
        """Does one operation and notes it with its times."""
        number = len(self.operations) + 1
        if operation.kind == WRITE:
            places = range(operation.sector, operation.sector + operation.sectors)
            data = b"".join(sector_bytes(self.number, place, number, self.seed) for place in places)
        at, size = operation.sector * SECTOR, operation.sectors * SECTOR
        operation.submitted = time.time_ns()
        self.operations.append(operation)
        if operation.kind == WRITE:
            buffer.write(fd, at, data)
        elif operation.kind == DISCARD:
            discard(fd, at, size)
        else:
            zero_out(fd, at, size)
        operation.done = time.time_ns()
        if number % self.sync_every == 0:
            os.fsync(fd)
        if self.after:
            self.after(number)

    def run(self):
        try:
            buffer = Aligned(self.longest * SECTOR)
            with opened(self.device, os.O_RDWR | os.O_DIRECT) as fd:
                while not self.halt.is_set():
                    self.perform(fd, buffer, self.choose())
        except Exception as error:  # the suite's own thread reports it
            self.error = error

    def state_after(self, prefix):
        """The operation number in every sector once the first `prefix` operations were done."""
        state = array.array("Q", bytes(8 * self.sectors))
        for number, operation in enumerate(self.operations[:prefix], 1):
            start = operation.sector - self.first
            value = number if operation.kind == WRITE else EMPTY
            state[start : start + operation.sectors] = array.array("Q", [value]) * operation.sectors
        return state


class Load:
    """Several streams side by side on one device, each in a region of its own."""

    def __init__(self, device, seed, rng, streams=4, region_sectors=4096, first=0, **shape):
        self.device, self.seed = device, seed
        self.streams = [
            Stream(device, number + 1, first + number * region_sectors, region_sectors, seed, rng_of(rng), **shape)
            for number in range(streams)
        ]

    def start(self):
        """Starts every stream."""
        for stream in self.streams:
            stream.start()
        return self

    def count(self):
        """Operations that came back so far."""
        return sum(len(stream.operations) - 1 for stream in self.streams if stream.operations)

    def check_no_error(self):
        """Fails if the host saw an error on any stream."""
        for stream in self.streams:
            need(stream.error is None, lambda stream=stream: f"the host saw an error on {stream.device}: {stream.error}")

    def stop(self, timeout=120):
        """Stops every stream, waits for the last operations, fails if the host saw an error."""
        for stream in self.streams:
            stream.halt.set()
        deadline = time.monotonic() + timeout * PATIENCE
        for stream in self.streams:
            stream.join(max(0.1, deadline - time.monotonic()))
            need(not stream.is_alive(), lambda stream=stream: f"{stream.name} on {stream.device} hangs in an operation")
        self.check_no_error()

    def read(self, device):
        """The regions of all streams, read from that device."""
        first, last = self.streams[0], self.streams[-1]
        size = (last.first + last.sectors - first.first) * SECTOR
        return read_direct(device, first.first * SECTOR, size)

    def judge(self, device, complete=False, label_ns=None, slack_ns=20_000_000):
        """Fails unless `device` shows one moment of this load; returns the prefix of each stream.

        `complete`: it must be the present moment, after everything. `label_ns`: the moment's time label; what had
        completed `slack_ns` before it must be in, what was submitted as long after it must not.
        """
        return judge(self.streams, self.read(device), self.seed, complete, label_ns, slack_ns)


def rng_of(rng):
    """A generator of its own for one thread, drawn from the suite's."""
    return type(rng)(rng.randrange(1 << 62))


def judge(streams, data, seed, complete=False, label_ns=None, slack_ns=20_000_000):
    """See `Load.judge`; `data` starts at the first stream's first sector."""
    base = streams[0].first
    owners, numbers = decode(data, base, seed)
    choices = []
    for stream in streams:
        start = stream.first - base
        found = numbers[start : start + stream.sectors]
        for index, number in enumerate(found):
            if number == ALIEN or (number != EMPTY and owners[start + index] != stream.number):
                raise Failure(f"sector {stream.first + index} holds what no operation of {stream.name} ever wrote there")
        choices.append(prefixes_of(stream, found, complete, label_ns, slack_ns))
    return one_cut(streams, choices)


def prefixes_of(stream, found, complete, label_ns, slack_ns):
    """The numbers of operations of the stream after which its region looked like `found`, ascending; never none."""
    operations = stream.operations[:]
    # In any case: the highest number seen is in.
    low, high = max(found, default=0), len(operations)
    if complete:
        low = high
    if label_ns is not None:
        ended = [op.done if op.done is not None else 1 << 63 for op in operations]
        begun = [op.submitted for op in operations]
        # Up to `label - slack` everything is in; from `label + slack` on nothing is.
        in_by_label = bisect.bisect_right(ended, label_ns - slack_ns)
        out_by_label = bisect.bisect_right(begun, label_ns + slack_ns)
        if low > out_by_label:
            raise Failure(
                f"{stream.name}: operation {low} is in, but it was submitted "
                f"{(begun[low - 1] - label_ns) / 1e6:.0f} ms after the point's time"
            )
        low, high = max(low, in_by_label), min(high, out_by_label)
    state = stream.state_after(low)
    matching, first_wrong = [], None
    for prefix in range(low, high + 1):
        if prefix > low:
            operation = operations[prefix - 1]
            start = operation.sector - stream.first
            value = prefix if operation.kind == WRITE else EMPTY
            state[start : start + operation.sectors] = array.array("Q", [value]) * operation.sectors
        if state == found:
            matching.append(prefix)
        elif first_wrong is None:
            index = next(i for i in range(len(found)) if found[i] != state[i])
            first_wrong = (
                f"sector {stream.first + index} has operation {found[index]}, "
                f"after {prefix} operations it had {state[index]}"
            )
    if not matching:
        raise Failure(f"{stream.name}: no moment between operations {low} and {high} looked like this: {first_wrong}")
    return matching


def one_cut(streams, choices):
    """The smallest prefixes among the choices that are one cut; fails if none are.

    Discards of what is empty already change nothing, so a stream may have several prefixes to choose from.
    """
    at = [0] * len(streams)
    while True:
        prefixes = [choice[index] for choice, index in zip(choices, at)]
        latest, of = 0, None
        for stream, prefix in zip(streams, prefixes):
            if prefix and stream.operations[prefix - 1].submitted > latest:
                latest, of = stream.operations[prefix - 1].submitted, (stream, prefix)
        moved = False
        for place, (stream, prefix) in enumerate(zip(streams, prefixes)):
            if prefix == len(stream.operations):
                continue
            missing = stream.operations[prefix]
            # An equal time decides nothing.
            if missing.done is None or missing.done >= latest:
                continue
            if at[place] + 1 == len(choices[place]):
                raise Failure(
                    f"{of[0].name}'s operation {of[1]} is in, but {stream.name}'s operation {prefix + 1}, which had "
                    f"completed before that was submitted, is missing"
                )
            at[place] += 1
            moved = True
        if not moved:
            return prefixes
