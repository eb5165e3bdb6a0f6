#!/usr/bin/python3
# vm: mem=5000 timeout=1800 icount soak
"""Where the instructions of a request go: the loads of `bench_vm` over a few of its layers, with the counts of what was executed
taken around each. `cargo xtask bench profile` runs it with QEMU's plugin of `tests/vm/profile` and reads the counts."""

import os
import shutil

import bench_vm
import cli
from fio import Fio
from undisk_suite import Suite, poll

OUT = "/out"
# A layer, and its loads; UNDISK_LAYERS=async,sync picks some of them.
CASES = {
    "empty": ("w4k_qd16", "w4k_qd1", "r4k_qd1"), "async": ("w4k_qd16", "w4k_qd1", "r4k_qd1", "w1m_qd4"), "sync": ("w4k_qd1",),
}


def counted(name):
    """The counts until now, written by the plugin outside the guest."""
    # Under its name only once it is there: the plugin takes it away as soon as it sees it, and opening it would fail.
    with open(f"{OUT}/asked", "w", encoding="ascii"):
        pass
    os.rename(f"{OUT}/asked", f"{OUT}/snap-{name}")
    poll("the counts are written", lambda: os.path.exists(f"{OUT}/prof-{name}"), timeout=120)


def body(suite):
    cli.programs_first()
    suite.diagnostics.append(cli.diagnose)
    with suite.case("disks-in-memory", fatal=True):
        bench_vm.disks_in_memory()
    shutil.copyfile("/proc/kallsyms", f"{OUT}/kallsyms")
    with open(f"{OUT}/cases", "w", encoding="ascii") as cases:
        wanted = os.environ.get("UNDISK_LAYERS", ",".join(CASES)).split(",")
        for layer, jobs in ((layer, jobs) for layer, jobs in CASES.items() if layer in wanted):
            with suite.case(f"{layer}-is-counted"), bench_vm.LAYERS[layer]() as (device, pids):
                for pid in pids:
                    shutil.copyfile(f"/proc/{pid}/maps", f"{OUT}/maps-{layer}-{pid}")
                for job in jobs:
                    rw, size, depth, count = bench_vm.JOBS[job]
                    options = {"rw": rw, "bs": size, "size": bench_vm.SIZE, "iodepth": depth, "ioengine": "io_uring",
                               "number_ios": count}
                    Fio(device, [{**options, "number_ios": count // 5}], randseed=suite.seed).finish(timeout=900)
                    bench_vm.worked_off(pids)
                    counted(f"{layer}-{job}-before")
                    Fio(device, [options], randseed=suite.seed).finish(timeout=900)
                    bench_vm.worked_off(pids)
                    counted(f"{layer}-{job}-behind")
                    print(layer, job, count, file=cases)
    with suite.case("down-is-clean"):
        cli.down()


if __name__ == "__main__":
    Suite().main(body)
