#!/usr/bin/python3
# vm: disks=2x2G mem=2048 cpus=2 timeout=1000 boots=1
"""ext4 with -o discard on a volume: every past moment mounts, checks clean and has every file fsynced before it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

from fs_points import body  # noqa: E402
from undisk_suite import Suite  # noqa: E402

Suite().main(body("ext4", "256M"))
