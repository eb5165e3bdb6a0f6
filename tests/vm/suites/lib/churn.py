"""churn from a suite's side: a load that remembers itself, and the judge of devices and images against it.

Owns how churn is started, watched, ended and asked. Deliberately knows neither undisk nor what a point is: whoever takes
an image says between which entries of the log its moment lies.
"""

import json
import os
import signal
import subprocess
import tempfile

from machine import need_block
from undisk_suite import PATIENCE, Failure, need, poll, run

HEADER, ENTRY = 128, 40


class Churn:
    """One run of churn on one device, in the background. Options are those of the command line, `_` for `-`."""

    def __init__(self, device, log, seed, **options):
        need_block(device)
        self.device, self.log = device, log
        words = ["churn", "run", device, "--log", log, "--seed", str(seed)]
        for key, value in options.items():
            words.append(f"--{key.replace('_', '-')}")
            if value is not True:
                words.append(str(value))
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)
        # Its first operation clears the region; the second one's beginning says that it came back.
        poll(f"churn on {device} has cleared its region", lambda: self.going() and self.entries() > 2)

    def entries(self):
        """Entries in the log: the present moment of the run."""
        try:
            return max(0, os.stat(self.log).st_size - HEADER) // ENTRY
        except FileNotFoundError:
            return 0

    def said(self):
        """The end of what it said on stderr."""
        self.err.seek(0)
        return self.err.read().decode(errors="replace")[-600:]

    def going(self):
        """Fails unless it still runs: it ends at the first error."""
        need(self.child.poll() is None, lambda: f"churn on {self.device} ended: {self.child.returncode}: {self.said()}")
        return True

    def wait_entries(self, more, timeout=120):
        """Waits until so many entries were made from now on."""
        self.wait_until(self.entries() + more, timeout)

    def wait_until(self, entries, timeout=120):
        """Waits until its log has so many entries."""
        poll(f"churn has made {entries} entries", lambda: self.going() and self.entries() >= entries, timeout=timeout)

    def kill(self):
        """Ends it, whatever it was doing; its log stays right."""
        self.child.kill()

    def stop(self, timeout=120):
        """Ends it in order; fails if the host saw an error. Returns how many operations of each kind came back."""
        self.child.send_signal(signal.SIGTERM)
        return self.finish(timeout)

    def finish(self, timeout=300):
        """Waits until it ends by itself; as `stop`."""
        try:
            self.child.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"churn on {self.device} did not end within {timeout * PATIENCE} s") from None
        need(self.child.returncode == 0, lambda: f"churn on {self.device}: {self.child.returncode}: {self.said()}")
        self.out.seek(0)
        return json.loads(self.out.read())["counts"]


def judge(image, log, at_least="nothing", after=None, before=None, label_ns=None, slack_ms=50):
    """Fails unless `image` is a moment of that log; returns what churn says of it.

    `after`, `before`: entries between which the moment lies. `label_ns`: the image's time, instead of them.
    """
    words = ["churn", "check", image, "--log", log, "--at-least", at_least, "--json", "--slack", slack_ms]
    if label_ns is not None:
        after = before = f"@{label_ns}"
    for name, value in (("--after", after), ("--before", before)):
        if value is not None:
            words += [name, value]
    told = json.loads(run(*words, status=(0, 1), timeout=300).out)
    need(told["right"], lambda: f"{image} is no moment of {log}: {' | '.join(told['violations'])}")
    return told
