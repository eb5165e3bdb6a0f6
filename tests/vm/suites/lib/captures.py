"""Where a group's replica is, and waiting for it."""

import cli
from undisk_suite import poll


def replica_of(group):
    """Where its replica is."""
    return cli.journal(group)["replica"]


def settled(group, mode):
    """Waits until all is in the journal, and until an eager replica is there."""
    cli.wait_protected(group, timeout=600)
    if mode == "lazy":
        return
    head = cli.durable(group)

    def there():
        at = replica_of(group)["position"]
        return at is not None and at >= head
    poll(f"the replica of {group} is at the newest point", there, timeout=600)
