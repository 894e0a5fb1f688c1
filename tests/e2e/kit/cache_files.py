"""Looks at the files of a cache from outside, while tarn works."""

import os
import pathlib
import threading
import time

from kit.processes import wait_until


def blob_file(root, digest):
    algorithm, _, name = digest.partition(":")
    return pathlib.Path(root) / "blobs" / algorithm / name[:2] / name


def is_held(root, digest):
    """Whether a verified copy of it is on disk."""
    return blob_file(root, digest).exists()


def held(root, digests):
    """The digests that are on disk, in the same order."""
    return [digest for digest in digests if is_held(root, digest)]


def files_below(folder):
    """(path, inode) -> stat of each file, without files that vanish meanwhile."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                state = os.stat(path, follow_symlinks=False)
            except OSError:
                continue
            found[path, state.st_ino] = state
    return found


def bytes_below(folder):
    return sum(state.st_size for state in files_below(folder).values())


def allocated_below(folder):
    """Bytes that are allocated on disk; a partial file may have holes."""
    return sum(state.st_blocks * 512 for state in files_below(folder).values())


def set_last_use(root, digest, seconds_ago):
    """Sets the last use of a blob so long ago. For a tarn that is stopped."""
    moment = time.time() - seconds_ago
    os.utime(blob_file(root, digest), (moment, moment))


class SizeWatch:
    """
    Measures again and again how many bytes are below ROOT/blobs and in total, while it is entered.

    Files come and go during a walk over the folders, so a single walk may count files that were
    never there at the same time. So a sample counts only the files that two walks in a row have
    seen. All of them were there between the two walks, so that no sample is too large.
    """

    def __init__(self, root, pause=0.003):
        self.root, self.pause = pathlib.Path(root), pause
        self.most_blobs = self.most_total = self.samples = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(20)

    def _sample(self):
        before = {}
        while not self.stopping.is_set():
            blobs = files_below(self.root / "blobs")
            both = {**blobs, **files_below(self.root / "partial")}
            stayed = [key for key in both if key in before]
            self.most_blobs = max(self.most_blobs, sum(both[key].st_size for key in stayed
                                                       if key in blobs))
            # A partial may have grown between the walks, so its earlier size counts.
            self.most_total = max(self.most_total, sum(
                both[key].st_size if key in blobs else before[key].st_blocks * 512
                for key in stayed))
            self.samples += 1
            before = both
            self.stopping.wait(self.pause)


def wait_settled(root, limit, seconds=10):
    """Waits until blobs and partials together are within the limit."""
    root = pathlib.Path(root)

    def total():
        return bytes_below(root / "blobs") + allocated_below(root / "partial")

    try:
        wait_until(lambda: total() <= limit, "the cache to be within its limit", seconds)
    except AssertionError:
        raise AssertionError(f"{total()} bytes in the cache, {limit} allowed") from None
