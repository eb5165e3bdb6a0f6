"""A proxy on the link between splitter and appliance: drops, duplicates, delays, cuts.

Owns the bytes in between, and no opinion of what they mean: it knows that a frame begins with its length (of the body,
u32) and a checksum (u32), nothing more. The splitter finds it where the appliance listened; the appliance's own socket is
moved aside.
"""

import os
import socket
import struct
import threading
import time

from undisk_suite import need

HEAD = 8
LONGEST = 2 << 20


class Proxy:
    """Passes on everything, until a fault is set: then each frame may meet it.

    `fault`: None, "cut" (both ends, in the middle of a frame), "drop", "duplicate", "delay". `chance`: of a frame to meet
    the fault.
    """

    def __init__(self, path, rng):
        self.path, self.aside, self.rng = path, path + ".aside", rng
        os.rename(path, self.aside)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o600)
        self.listener.listen(16)
        self.fault, self.chance = None, 0.0
        self.met = {}
        self.connections = 0
        self.lock = threading.Lock()
        self.pairs = []
        threading.Thread(target=self.accept, name="proxy", daemon=True).start()

    def accept(self):
        """Takes splitters, each with a connection of its own to the appliance."""
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.aside)
            except OSError:
                near.close()
                continue
            with self.lock:
                self.connections += 1
                self.pairs.append((near, far))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(source, target), name="proxy-carry", daemon=True).start()

    def carry(self, source, target):
        """Carries frames one way until either end is gone."""
        try:
            while True:
                head = self.exactly(source, HEAD)
                length = struct.unpack_from("<I", head)[0]
                need(length <= LONGEST, f"a frame of {length} bytes")
                self.pass_on(target, head + self.exactly(source, length))
        except Exception:  # whatever it is, both ends learn that the link is gone
            pass
        finally:
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def pass_on(self, target, frame):
        """One frame, faithfully or not."""
        fault = self.fault if self.rng.random() < self.chance else None
        if fault:
            with self.lock:
                self.met[fault] = self.met.get(fault, 0) + 1
        if fault == "drop":
            return
        if fault == "delay":
            time.sleep(self.rng.uniform(0.01, 0.4))
        if fault == "cut":
            target.sendall(frame[: self.rng.randrange(len(frame))])
            raise ConnectionResetError
        target.sendall(frame)
        if fault == "duplicate":
            target.sendall(frame)

    @staticmethod
    def exactly(source, size):
        """So many bytes."""
        parts = []
        while size:
            part = source.recv(min(size, 1 << 16))
            if not part:
                raise ConnectionResetError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def sever(self):
        """Cuts every connection now."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        """Gives the appliance its place back."""
        self.listener.close()
        os.rename(self.aside, self.path)
        self.sever()
