"""The frame of a suite: cases with one line each, rounds, the seed, waiting under a deadline, running programs.

Owns what every suite needs whatever it tests. Deliberately knows neither undisk (cli.py) nor devices and file systems
(machine.py), and judges no content (blocks.py, trees.py).
"""

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True

# Deadlines are for what hangs, never for what is slow: those that are written down are for an idle machine, and each is
# given this many times over.
PATIENCE = 4
# How far a soak has come.
ROUNDS_DONE = "/out/rounds-done"

# Whoever prints through a pipe shall be read while it runs.
sys.stdout.reconfigure(line_buffering=True)


class Failure(Exception):
    """What was expected did not happen; the text is the reason in one line."""


class Abort(Exception):
    """A case failed that all later ones stand on."""


def need(condition, reason):
    """Fails with `reason` unless `condition`; a callable reason is only made when needed."""
    if not condition:
        raise Failure(reason() if callable(reason) else reason)


def same(what, got, expected):
    """Fails unless both are equal."""
    need(got == expected, lambda: f"{what}: expected {expected!r}, got {got!r}")


class Done:
    """How a program ended: status (None: it was still running at the deadline), stdout and stderr as text."""

    def __init__(self, words, status, out, err):
        self.words, self.status, self.out, self.err = words, status, out, err

    def __str__(self):
        tail = " | ".join((self.err.strip() or self.out.strip()).splitlines()[-3:])
        how = "did not end in time" if self.status is None else f"exit status {self.status}"
        return f"`{shlex.join(self.words)}`: {how}: {tail[-500:]}"


def run(*words, status=0, timeout=120, env=None, user=None, stdin=None):
    """Runs a program and returns how it ended.

    `status`: the expected exit status, a tuple of them, or None for any. A program that outlives `timeout` (see PATIENCE) is
    killed and is a failure; nobody waits for it, since a program stuck in the kernel does not die.
    """
    words = [str(word) for word in words]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=out,
            stderr=err,
            env=env,
            user=user,
            group=None if user is None else user,
            extra_groups=None if user is None else [],
        )
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(stdin.encode())
            child.stdin.close()
        try:
            child.wait(timeout * PATIENCE)
            code = child.returncode
        except subprocess.TimeoutExpired:
            child.kill()
            code = None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    done = Done(words, code, *texts)
    expected = status if isinstance(status, tuple) else (status,)
    if code is None or (status is not None and code not in expected):
        raise Failure(str(done))
    return done


def poll(what, question, timeout=60, pause=0.05):
    """Asks again and again until the answer is true, and returns it; fails at the deadline.

    `question` may raise OSError or Failure: that means "not yet", and is quoted if the deadline passes.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    last = ""
    while True:
        try:
            answer = question()
            if answer:
                return answer
            last = ""
        except (OSError, Failure) as error:
            last = f" (last: {error})"
        if time.monotonic() > deadline:
            raise Failure(f"after {timeout} s still waiting until {what}{last}")
        time.sleep(pause)


class Suite:
    """One suite: prints `ok NAME` or `not ok NAME: reason` a case, and exits 0 only if every case was ok."""

    def __init__(self):
        self.boot = int(os.environ.get("UNDISK_BOOT", "1"))
        self.seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
        self.rng = random.Random(self.seed)
        self.failed = []
        self.passed = 0
        self.diagnostics = []
        self.laters = []
        self.began = time.monotonic()
        name = os.path.basename(sys.argv[0])
        print(f"# {name} boot {self.boot}: SEED={self.seed} UNDISK_ROUNDS={os.environ.get('UNDISK_ROUNDS', 'quick')}")
        # A suite that hangs shall say where before the guest is killed.
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(Abort("terminated")))

    def rounds(self, quick, full):
        """How often to repeat: UNDISK_ROUNDS is quick, full or a number of its own."""
        asked = os.environ.get("UNDISK_ROUNDS", "quick")
        return {"quick": quick, "full": full}.get(asked) or int(asked)

    def rounds_to_do(self, quick, full):
        """The numbers of the rounds that are still to be done, from 1 on: a soak that was interrupted goes on behind the
        last one that was well. (`/out` outlives a soak until that has passed.)"""
        total, done = self.rounds(quick, full), 0
        with contextlib.suppress(FileNotFoundError):
            with open(ROUNDS_DONE, encoding="ascii") as file:
                done = int(file.read())
        if 0 < done < total:
            self.note(f"{done} of {total} rounds were done before")
        for number in range(done + 1 if done < total else 1, total + 1):
            yield number
            if self.failed:
                return
            with open(ROUNDS_DONE + ".new", "w", encoding="ascii") as file:
                file.write(str(number))
            os.rename(ROUNDS_DONE + ".new", ROUNDS_DONE)

    def note(self, text):
        """A line for the reader that decides nothing."""
        print(f"# {time.monotonic() - self.began:6.1f} s  {text}")

    def later(self, undo):
        """Has `undo` called when the present case fails (a load stopped, say), so that later cases start in peace."""
        self.laters.append(undo)

    @contextlib.contextmanager
    def case(self, name, fatal=False):
        """One case. With `fatal`, the suite ends if it fails."""
        begun = time.monotonic()
        self.laters = []
        try:
            yield
        except Abort:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            if not isinstance(error, Failure):
                reason = f"{type(error).__name__}: {reason}"
            self.failed.append(name)
            print(f"not ok {name}: {' | '.join(reason.split(chr(10)))}")
            traceback.print_exc()
            for undo in reversed(self.laters):
                with contextlib.suppress(Exception):
                    undo()
            if fatal:
                raise Abort(name) from error
        else:
            self.passed += 1
            print(f"ok {name} ({time.monotonic() - begun:.1f} s)")

    def main(self, body):
        """Runs the suite's body and ends the process."""
        try:
            body(self)
        except Abort as error:
            print(f"# given up after: {error}")
            if not self.failed:
                self.failed.append(str(error))
        except Exception as error:
            self.failed.append("outside any case")
            print(f"not ok outside-any-case: {type(error).__name__}: {error}")
            traceback.print_exc()
        if not self.passed and not self.failed:
            print("not ok cases: none ran")
            self.failed.append("cases")
        if self.failed:
            for show in self.diagnostics:
                with contextlib.suppress(Exception):
                    show()
        print(f"# {self.passed} ok, {len(self.failed)} not ok, {time.monotonic() - self.began:.0f} s")
        sys.stdout.flush()
        # A thread stuck in a dead device must not keep the suite from ending.
        os._exit(1 if self.failed else 0)
