"""Looks from outside at what a tarn holds: memory, descriptors, threads, and the disk below its
root."""

import os
import statistics
import threading
import time

from kit.processes import run


def disk_use(root):
    """(bytes, inodes) below the folder, as du counts them. Files may come and go meanwhile."""
    words = [run(["nice", "du", "--summarize", *flags, root], check=False).stdout.split()
             for flags in (["--block-size=1"], ["--inodes"])]
    return int(words[0][0]), int(words[1][0])


class Watch:
    """Takes a sample every `pause` seconds, from start() to stop()."""

    def __init__(self, tarn, pause, most_bytes=None):
        self.tarn, self.pause, self.most_bytes = tarn, pause, most_bytes
        self.samples, self.failure = [], None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.started = time.monotonic()
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join(60)

    def _run(self):
        while not self.stopping.is_set():
            try:
                self.samples.append(self._sample())
            except (OSError, ValueError, IndexError) as error:
                self.failure = f"{type(error).__name__}: {error}"
                return
            self.stopping.wait(self.pause)

    def _sample(self):
        size, inodes = disk_use(self.tarn.root)
        # A file that moves while du walks is counted twice, so a size that is too large is
        # measured again.
        for _ in range(4):
            if self.most_bytes is None or size <= self.most_bytes:
                break
            size, inodes = min((size, inodes), disk_use(self.tarn.root))
        return {"at": time.monotonic() - self.started, **self.tarn.figures(),
                "bytes": size, "inodes": inodes}

    def halves(self, name):
        """The medians of both halves, without the first tenth, in which the attacks begin."""
        end = self.samples[-1]["at"]
        kept = [sample for sample in self.samples if sample["at"] >= end / 10]
        first = [sample[name] for sample in kept if sample["at"] < end * 0.55]
        second = [sample[name] for sample in kept if sample["at"] >= end * 0.55]
        return statistics.median(first), statistics.median(second)

    def most(self, name):
        return max(sample[name] for sample in self.samples)


class LogReader:
    """
    Reads the log of a tarn from a pipe into a file, and stands still for half of the time.

    A log that nobody reads must stop nothing. Only the last part of a long log is kept.
    """

    KEPT = 32 << 20

    def __init__(self, path, stands_still):
        self.path, self.stands_still = path, stands_still
        self.reading, self.writing = os.pipe()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with open(self.path, "ab") as file:
            until = time.monotonic() + self.stands_still
            while piece := os.read(self.reading, 1 << 16):
                if file.tell() > self.KEPT:
                    file.truncate(0)
                file.write(piece)
                file.flush()
                if time.monotonic() > until and not self.stopping.is_set():
                    self.stopping.wait(self.stands_still)
                    until = time.monotonic() + self.stands_still

    def go_on(self):
        """Reads to the end from now on."""
        self.stopping.set()

    def close(self):
        """For the time after tarn has ended: returns when the rest of the log is read."""
        self.go_on()
        os.close(self.writing)
        self.thread.join(20)
        os.close(self.reading)
