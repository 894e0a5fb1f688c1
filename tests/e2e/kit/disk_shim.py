"""
Makes calls to the disk fail, and records every change of files, by a library that is loaded before
libc (disk_shim.c). Only for programs without sanitizers, because their libraries have to be first.
"""

import errno
import mmap
import pathlib
import struct

from kit.processes import run

KINDS = ("write", "sync", "read", "create", "rename", "sendfile")
SOURCE = pathlib.Path(__file__).with_name("disk_shim.c")


class DiskShim:
    """Make it before the program starts, with `environment` for it; use it at any time."""

    def __init__(self, directory, root, trace=False):
        directory.mkdir(parents=True, exist_ok=True)
        library, control = directory / "disk_shim.so", directory / "control"
        run(["cc", "-std=gnu17", "-O1", "-shared", "-fPIC", "-o", library, SOURCE])
        self.root, self.trace_path = pathlib.Path(root), directory / "trace"
        control.write_bytes(bytes(1024) + str(root).encode().ljust(3072, b"\0"))
        with open(control, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)
        self.environment = {"LD_PRELOAD": str(library), "DISK_SHIM_CONTROL": str(control)}
        if trace:
            self.environment["DISK_SHIM_TRACE"] = str(self.trace_path)

    def fail(self, *kinds, error=errno.EIO, after=0):
        """Makes calls of these kinds fail from now on, after so many that still succeed."""
        for kind in kinds:
            struct.pack_into("ii", self.page, 16 * KINDS.index(kind), 0, after)
            struct.pack_into("i", self.page, 16 * KINDS.index(kind), error)

    def heal(self):
        for number in range(len(KINDS)):
            struct.pack_into("i", self.page, 16 * number, 0)

    def failed(self, *kinds):
        """How many calls of these kinds have failed."""
        return sum(struct.unpack_from("iiii", self.page, 16 * KINDS.index(kind))[3]
                   for kind in kinds or KINDS)

    def trace(self):
        """(what, path[, new path]) of each change, in order; paths relative to the root."""
        below = f"{self.root}/"
        events = []
        for line in self.trace_path.read_text().splitlines():
            what, *paths = line.split("\t")
            event = (what, *(path.removeprefix(below) if path != str(self.root) else "."
                             for path in paths))
            if not events or events[-1] != event:
                events.append(event)
        return events
