"""What resynchronisations read back, by the journal's own word: the records that carry RESYNC.

Owns the question "which sectors, how many bytes, between which positions"; asks `inspect`, which needs no daemon.
"""

import json

from undisk_suite import need, run

SECTOR = 512
# A region of the dirty map, and how far ahead of a host that writes in sequence regions are marked.
REGION_SECTORS = 512
AHEAD_SECTORS = 8 << 11


def records(journal, first, last=None):
    """The records from position `first` to `last`, as `inspect dump --json` tells them."""
    words = ["inspect", "dump", journal, "--json", "--from", first] + (["--to", last] if last else [])
    lines = run(*words, timeout=300).out.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def extents(journal, first, last=None):
    """(volume, sector, sectors) of everything that was read back."""
    return [
        (entry.get("volume"), entry["sector"], entry["sectors"])
        for entry in records(journal, first, last)
        if "RESYNC" in entry.get("flags", ()) and "sector" in entry
    ]


def sessions(journal, first, last=None):
    """How many sessions began a resynchronisation."""
    return len({entry["session"] for entry in records(journal, first, last) if entry.get("op") == "RESYNC_BEGIN"})


def only_within(journal, first, sector, sectors, last=None):
    """Fails if a resynchronisation read back anything but the regions of these sectors, and those that are marked ahead of
    them; returns the bytes read back."""
    begin = sector // REGION_SECTORS * REGION_SECTORS
    end = -(-(sector + sectors + AHEAD_SECTORS) // REGION_SECTORS) * REGION_SECTORS
    found = extents(journal, first, last)
    for volume, at, count in found:
        need(
            begin <= at and at + count <= end,
            lambda volume=volume, at=at, count=count: f"sectors {at}+{count} of {volume} were read back, but only "
            f"{begin}+{end - begin} had been written",
        )
    return sum(count for _, _, count in found) * SECTOR
