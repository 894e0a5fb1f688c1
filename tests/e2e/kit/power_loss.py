"""
Makes what a power loss may leave of a cache, from the trace of its changes (kit/disk_shim.py).

A file system guarantees only what was synced: the bytes of a file after fsync or fdatasync of the
file, and a name after fsync of its directory. Everything else may be there, or not, or be zeros.
"""

import pathlib
import shutil
from dataclasses import dataclass, field


@dataclass
class File:
    """An inode."""

    synced: bool = True      # whether every write to it is synced
    durable: set = field(default_factory=set)  # names that are synced


class Replay:
    """Reads a trace to its end: the file of each name, and which of the names are synced."""

    def __init__(self, events):
        self.names = {}          # path -> File
        self.folders = set()     # made in this trace, and their own name is not synced
        self.mistakes = []       # a blob got its name before its bytes were synced
        self.renamed = 0
        for event in events:
            getattr(self, f"_{event[0]}")(*event[1:])

    def _create(self, path):
        self.names[path] = File()

    def _write(self, path):
        self.names.setdefault(path, File()).synced = False

    def _mkdir(self, path):
        self.folders.add(path)

    def _sync(self, path):
        if path in self.names:
            self.names[path].synced = True
            return
        for name, file in self.names.items():
            if str(pathlib.PurePosixPath(name).parent) == path:
                file.durable.add(name)
        for folder in list(self.folders):
            if str(pathlib.PurePosixPath(folder).parent) == path:
                self.folders.discard(folder)
        for file in self.names.values():  # the removal of names is synced too
            file.durable -= {name for name in file.durable
                             if str(pathlib.PurePosixPath(name).parent) == path
                             and self.names.get(name) is not file}

    def _rename(self, path, to):
        file = self.names.pop(path, None) or File()
        self.names[to] = file
        if to.startswith("blobs/"):
            self.renamed += 1
            if not file.synced:
                self.mistakes.append(f"{to} got its name before its bytes were synced")

    def _unlink(self, path):
        self.names.pop(path, None)

    # ---- what is synced

    def is_durable(self, path):
        """Whether this name survives a power loss with these bytes."""
        file = self.names.get(path)
        above = {str(parent) for parent in pathlib.PurePosixPath(path).parents}
        return bool(file and file.synced and path in file.durable and not above & self.folders)

    def lose_power(self, root, copy, chance):
        """Copies the root in one of the worst states that the file system may leave."""
        root, copy = pathlib.Path(root), pathlib.Path(copy)
        for path in sorted(item for item in root.rglob("*") if item.is_file()):
            name = path.relative_to(root).as_posix()
            file = self.names.get(name)
            if file is None and name.startswith("blobs/"):
                continue  # killed before the record was written, so it counts as never renamed
            places = {name}
            if file and name not in file.durable:
                places = chance.choice([{name}, file.durable or set()])
            for place in places:
                (copy / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy / place)
                if file and not file.synced:
                    size = path.stat().st_size
                    (copy / place).write_bytes(bytes(chance.choice([0, size // 2, size])))
