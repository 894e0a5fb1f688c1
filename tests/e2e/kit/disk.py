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
            # Nothing is reserved for root, so the disk is full for root too.
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
        """Unmounts at once, even while a process has a file open there."""
        run(["umount", "--lazy", self.mount], check=False)

    def attach_again(self):
        """Mounts again, as an operator does after errors made the file system read-only."""
        run(["umount", self.mount])
        if self.kind == "ext4":
            run(["e2fsck", "-fy", self.image], check=False)
        self.attach()

    # ---- read-only

    def make_read_only(self, read_only=True):
        """Remounts read-only, as an operator does; no file may be open for writing."""
        self._mount("-o", f"remount,{'ro' if read_only else 'rw'}", self.mount)

    def fail(self):
        """
        Causes an error after which the file system is read-only, while processes use it and
        whatever they have open (ext4 only).
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
        """Writes ballast until only so many bytes are free."""
        with open(self.ballast, "ab", buffering=0) as file:
            for piece in (MIB, 64 << 10, 4096, 1024):
                while self.free() - piece >= leave:
                    try:
                        file.write(bytes(piece))
                        os.fsync(file.fileno())  # space counts as used only once it is written
                    except OSError:
                        break
                    if self.free() == 0:
                        return

    def make_room(self):
        self.ballast.unlink(missing_ok=True)


class CannotMount(Exception):
    """This process may not mount: it is not root, or its container forbids it."""


def why_no_disk(directory):
    """Why no small disk can be mounted here; None when it can."""
    try:
        SmallDisk(directory / "probe", mebibytes=1).detach()
    except (CannotMount, subprocess.SubprocessError, OSError) as reason:
        return str(reason)
    return None


def small_disk_or_skip(directory, kind, mebibytes):
    """For fixtures: skips where mounting is impossible, and says why."""
    try:
        return SmallDisk(directory, kind, mebibytes)
    except CannotMount as reason:
        return pytest.skip(f"no {kind} can be mounted here: {reason}")
