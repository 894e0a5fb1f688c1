"""Small disks that can be filled and broken: a tmpfs, or an ext4 in a file. Needs root."""

import os
import subprocess

import pytest

from kit.content import MIB
from kit.processes import run

KINDS = ("tmpfs", "ext4")
BALLAST = "ballast"


class SmallDisk:
    """A file system of so many MiB at `mount`; what tarn has on it is below `root`."""

    def __init__(self, directory, kind="tmpfs", mebibytes=64):
        directory.mkdir(parents=True, exist_ok=True)
        self.kind, self.mebibytes = kind, mebibytes
        self.image, self.mount = directory / "disk.img", directory / "disk"
        self.mount.mkdir(exist_ok=True)
        self.root = self.mount / "root"
        if kind == "ext4":
            with open(self.image, "wb") as file:
                file.truncate(mebibytes * MIB)
            # Nothing reserved for root: full is full for everybody.
            run(["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", self.image])
        self.attach()

    # ---- attached or not

    def attach(self):
        if self.kind == "tmpfs":
            self._mount("-t", "tmpfs", "-o", f"size={self.mebibytes}m", "tmpfs", self.mount)
        else:
            self._mount("-o", "loop", self.image, self.mount)

    @staticmethod
    def _mount(*arguments):
        done = run(["mount", *arguments], check=False)
        if done.returncode != 0:
            raise CannotMount(done.stderr.strip())

    def detach(self):
        """At once, even when somebody still has something open there."""
        run(["umount", "--lazy", self.mount], check=False)

    def attach_again(self):
        """What an operator does with a file system that has gone read-only on errors."""
        run(["umount", self.mount])
        if self.kind == "ext4":
            run(["e2fsck", "-fy", self.image], check=False)
        self.attach()

    # ---- read-only

    def make_read_only(self, read_only=True):
        """As the operator does it; nobody may have a file open for writing."""
        self._mount("-o", f"remount,{'ro' if read_only else 'rw'}", self.mount)

    def fail(self):
        """
        The file system meets with an error and goes read-only under whoever uses it, whatever is
        open (ext4 only).
        """
        self._mount("-o", "remount,abort", self.mount)

    # ---- full

    @property
    def ballast(self):
        return self.mount / BALLAST

    def free(self):
        state = os.statvfs(self.mount)
        return state.f_bavail * state.f_frsize

    def fill(self, leave=0):
        """Puts ballast there until so many bytes are left."""
        with open(self.ballast, "ab", buffering=0) as file:
            for piece in (MIB, 64 << 10, 4096, 1024):
                while self.free() - piece >= leave:
                    try:
                        file.write(bytes(piece))
                        os.fsync(file.fileno())  # space that is only promised is not seen as used
                    except OSError:
                        break
                    if self.free() == 0:
                        return

    def make_room(self):
        self.ballast.unlink(missing_ok=True)


class CannotMount(Exception):
    """Not root, or in a container that may not."""


def why_no_disk(directory):
    """None when a small disk can be mounted here, else the reason."""
    try:
        SmallDisk(directory / "probe", mebibytes=1).detach()
    except (CannotMount, subprocess.SubprocessError, OSError) as reason:
        return str(reason)
    return None


def small_disk_or_skip(directory, kind, mebibytes):
    """For fixtures: skips only where mounting is impossible, and says why."""
    try:
        return SmallDisk(directory, kind, mebibytes)
    except CannotMount as reason:
        return pytest.skip(f"no {kind} can be mounted here: {reason}")
