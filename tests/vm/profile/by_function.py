#!/usr/bin/python3
"""Whose the instructions were that executed.c counted: `by_function.py OUT BINARIES`, with what the suite `bench_profile` left in OUT.

Writes OUT/folded-LAYER-JOB, a line for each place in the code: `program;function;inlined function... instructions`, instructions a
request in thousandths, which is what flame graph tools read; and prints the first functions of each. The guest's kernel
is not moved (nokaslr): its symbols name its addresses. The daemons' line tables name theirs."""

import bisect
import collections
import os
import subprocess
import sys

# Lines of each table.
SHOWN = 45
KERNEL = 1 << 63


def counts(path):
    """How often each block ran, by address and length."""
    with open(path, encoding="ascii") as file:
        return {(int(at, 16), int(n)): int(times) for at, n, times in (line.split() for line in file)}


def symbols(path):
    """The kernel's functions: addresses, in order, and the name of each."""
    found = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            at, kind, name = line.split()[:3]
            if kind in "tTwW":
                found.setdefault(int(at, 16), name)
    addresses = sorted(found)
    return addresses, [found[at] for at in addresses]


def mapped(out, layer):
    """Where the daemons' code lies: from, to, offset in the file, program."""
    places = []
    for name in os.listdir(out):
        if name.startswith(f"maps-{layer}-"):
            with open(f"{out}/{name}", encoding="ascii") as file:
                for line in file:
                    words = line.split()
                    if len(words) > 5 and "x" in words[1]:
                        begin, end = (int(word, 16) for word in words[0].split("-"))
                        places.append((begin, end, int(words[2], 16), words[5]))
    return places


def loaded(binary):
    """A program's segments: offset in the file, length, address."""
    found = []
    for line in subprocess.run(["readelf", "-lW", binary], capture_output=True, text=True, check=True).stdout.splitlines():
        words = line.split()
        if words and words[0] == "LOAD":
            found.append((int(words[1], 16), int(words[4], 16), int(words[2], 16)))
    return found


def stacks(binary, offsets):
    """For each offset in a program's file the functions there, the outermost first."""
    segments, asked = loaded(binary), []
    for offset in offsets:
        asked.append(next((at + offset - begin for begin, length, at in segments if begin <= offset < begin + length), offset))
    answer = subprocess.run(["addr2line", "-Cfia", "-e", binary], input="\n".join(f"{at:#x}" for at in asked),
                            capture_output=True, text=True, check=True).stdout.splitlines()
    found, frames = [], None
    for number, line in enumerate(answer):
        if line.startswith("0x") and (number == 0 or not answer[number - 1].startswith("0x")):
            frames = []
            found.append(frames)
            names = True
        elif names:
            frames.append(line.replace(";", ","))
            names = False
        else:
            names = True
    return {offset: tuple(reversed(frames)) for offset, frames in zip(offsets, found)}


def main(out, binaries):
    """All cases of a run."""
    kernel, names = symbols(f"{out}/kallsyms")
    with open(f"{out}/cases", encoding="ascii") as file:
        cases = [line.split() for line in file]
    for layer, job, requests in cases:
        requests = int(requests)
        before, behind = (counts(f"{out}/prof-{layer}-{job}-{when}") for when in ("before", "behind"))
        places, folded, own = mapped(out, layer), collections.Counter(), collections.defaultdict(collections.Counter)
        for (at, length), times in behind.items():
            spent = length * (times - before.get((at, length), 0))
            if not spent:
                continue
            if at >= KERNEL:
                folded[("kernel", names[max(0, bisect.bisect_right(kernel, at) - 1)])] += spent
                continue
            for begin, end, offset, program in places:
                if begin <= at < end:
                    own[program][at - begin + offset] += spent
                    break
            else:
                folded[("other programs",)] += spent
        for program, spent in own.items():
            binary = f"{binaries}/{os.path.basename(program)}"
            if not os.path.exists(binary):
                binary = program
            if not os.path.exists(binary):
                folded[(os.path.basename(program),)] += sum(spent.values())
                continue
            found = stacks(binary, list(spent))
            for offset, count in spent.items():
                folded[(os.path.basename(program), *found.get(offset, ()))] += count
        total = sum(folded.values())
        with open(f"{out}/folded-{layer}-{job}", "w", encoding="utf-8") as file:
            for stack, count in sorted(folded.items()):
                print(";".join(stack), round(1000 * count / requests), file=file)
        print(f"\n{layer} {job}: {total / requests:.0f} instructions a request")
        by_program, by_function = collections.Counter(), collections.Counter()
        for stack, count in folded.items():
            by_program[stack[0]] += count
            by_function[stack[:2]] += count
        for program, count in by_program.most_common(8):
            print(f"  {count / requests:9.0f}  {program}")
        for (program, *function), count in by_function.most_common(SHOWN):
            print(f"  {count / requests:9.0f}  {program:<20} {' '.join(function)[:110]}")


main(sys.argv[1], sys.argv[2])
