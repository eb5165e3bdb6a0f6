"""Where a group's replica is, and waiting for it."""

import cli
from undisk_suite import poll


def replica_of(group):
    """Where its replica is."""
    return cli.journal(group)["replica"]


def arrived(group, timeout=300):
    """Waits until an eager replica is the volume as it is now; nobody writes. First until all is in the journal: what a host
    wrote last is on its way when the host has its answer."""
    cli.wait_whole(group, timeout=timeout)
    head = cli.durable(group)

    def there():
        at = replica_of(group)["position"]
        return at is not None and at >= head
    poll(f"the replica of {group} is at the newest point", there, timeout=timeout)


def settled(group, mode):
    """Waits until all is in the journal, and until an eager replica is there; nobody writes."""
    if mode == "lazy":
        cli.wait_whole(group, timeout=600)
    else:
        arrived(group, timeout=600)
