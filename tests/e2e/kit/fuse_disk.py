"""A file system that hangs or fails when a test wants it. Needs root and /dev/fuse."""

import os
import pathlib
import subprocess
import sys

import pytest

from kit.processes import Program, run, wait_until

SERVER = pathlib.Path(__file__).with_name("fuse_server.py")


class FuseDisk:
    """Shows the files of `folder` at `mount`."""

    def __init__(self, directory):
        self.folder, self.mount, self.control = (directory / name for name in
                                                 ("behind", "mount", "control"))
        for each in (self.folder, self.mount, self.control):
            each.mkdir(parents=True)
        self.server = Program([sys.executable, SERVER, self.folder, self.mount, self.control],
                              directory / "fuse.log")
        wait_until(self._is_there, "the file system to be mounted, or its server's end")
        if not self.server.runs():
            raise CannotMount(self.server.log().strip()[-500:])

    def _is_there(self):
        return os.path.ismount(self.mount) or not self.server.runs()

    def hang(self):
        """From now on no call is answered."""
        (self.control / "hang").touch()

    def fail(self):
        """From now on every call fails with EIO."""
        (self.control / "fail").touch()

    def mend(self):
        for name in ("hang", "fail"):
            (self.control / name).unlink(missing_ok=True)

    def end(self):
        self.mend()
        run(["umount", "--lazy", self.mount], check=False)
        self.server.kill()


class CannotMount(Exception):
    """This process may not mount: it is not root, or its container has no /dev/fuse."""


def fuse_disk_or_skip(directory):
    """For fixtures: skips where mounting is impossible, and says why."""
    try:
        return FuseDisk(directory)
    except (CannotMount, subprocess.SubprocessError, OSError) as reason:
        return pytest.skip(f"no FUSE can be mounted here: {reason}")
