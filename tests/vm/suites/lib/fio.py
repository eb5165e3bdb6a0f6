"""fio on a block device: started, watched, and its verdict.

Owns the options that keep fio honest: it never makes a file where a device should be, and stops at the first error.
Deliberately decides nothing beyond fio's own verdict.
"""

import json
import subprocess
import tempfile

from machine import inflight, need_block
from undisk_suite import PATIENCE, need, poll


class Fio:
    """fio jobs on one device, running in the background. Each job is a dict of options; `common` goes before all."""

    def __init__(self, device, jobs, **common):
        need_block(device)
        lines = ["[global]", f"filename={device}", "allow_file_create=0", "ioengine=libaio", "direct=1"]
        lines += ["continue_on_error=none", "verify_fatal=1", "randrepeat=0", "group_reporting=0"]
        lines += self.options(common)
        for number, job in enumerate(jobs):
            lines += [f"[job{number}]"] + self.options(job)
        self.device = device
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        with tempfile.NamedTemporaryFile("w", suffix=".fio", delete=False) as file:
            file.write("\n".join(lines) + "\n")
        self.child = subprocess.Popen(
            ["fio", "--output-format=json", file.name], stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err
        )

    @staticmethod
    def options(given):
        return [key if value is True else f"{key}={value}" for key, value in given.items()]

    def wait_until_busy(self, requests=1, timeout=60):
        """Waits until so many requests are in flight at the device."""
        def busy():
            need(self.child.poll() is None, lambda: f"fio ended too early: {self.text(self.err)}")
            return inflight(self.device) >= requests
        poll(f"fio has {requests} requests in flight", busy, timeout=timeout, pause=0.002)

    def running(self):
        """Whether it still runs."""
        return self.child.poll() is None

    @staticmethod
    def text(file):
        file.seek(0)
        return file.read().decode(errors="replace")[-600:]

    def kill(self):
        """Ends it, whatever it was doing."""
        self.child.kill()

    def finish(self, timeout=300):
        """Waits for the end; fails unless fio says that all was right. Returns its jobs."""
        try:
            self.child.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            need(False, f"fio on {self.device} did not end within {timeout * PATIENCE} s")
        said = f"{self.text(self.err)}"
        need(self.child.returncode == 0, lambda: f"fio on {self.device}: exit status {self.child.returncode}: {said}")
        self.out.seek(0)
        answer = self.out.read().decode()
        jobs = json.loads(answer[answer.index("{") :])["jobs"]
        for job in jobs:
            need(job["error"] == 0, lambda job=job: f"fio {job['jobname']}: error {job['error']}: {said}")
        return jobs


def total(jobs, kind, what="total_ios"):
    """The sum of one figure over all jobs: kind is read, write or trim."""
    return sum(job[kind][what] for job in jobs)
