"""Trees of files as programs see them, to compare an image's mount with its unpacking."""

import hashlib
import os
import stat


def look(folder):
    """path (bytes) -> what is there: type and mode, owner, time, attributes, links, content."""
    folder = os.fsencode(folder)
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in [b"", *files] + [one for one in folders
                                     if os.path.islink(os.path.join(parent, one))]:
            path = os.path.join(parent, name) if name else parent
            found[os.path.relpath(path, folder)] = one(path)
    return found


def one(path):
    state = os.lstat(path)
    kind = stat.S_IFMT(state.st_mode)
    more = {}
    if kind == stat.S_IFLNK:
        more["link"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        more["device"] = state.st_rdev
    elif kind == stat.S_IFREG:
        with open(path, "rb") as file:
            more["content"] = hashlib.file_digest(file, "sha256").hexdigest()
        more["size"] = state.st_size
    if kind != stat.S_IFDIR:  # file systems count the links of folders in their own ways
        more["links"] = state.st_nlink
    return {"mode": oct(state.st_mode), "owner": (state.st_uid, state.st_gid),
            "time": state.st_mtime_ns,
            "attributes": {name: os.getxattr(path, name, follow_symlinks=False)
                           for name in os.listxattr(path, follow_symlinks=False)
                           if not name.startswith("trusted.overlay.")}, **more}


def groups(folder):
    """The hard links of each file that has several: a set of frozen sets of paths."""
    together = {}
    folder = os.fsencode(folder)
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            state = os.lstat(path)
            if state.st_nlink > 1:
                together.setdefault(state.st_ino, set()).add(os.path.relpath(path, folder))
    return {frozenset(paths) for paths in together.values()}


def differences(left, right):
    """Lines that say what differs, path by path."""
    lines = []
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right:
            lines.append(f"{path!r} is only on the {'left' if path in left else 'right'}")
        elif left[path] != right[path]:
            lines += [f"{path!r}: {key}: {left[path].get(key)!r} != {right[path].get(key)!r}"
                      for key in left[path].keys() | right[path].keys()
                      if left[path].get(key) != right[path].get(key)]
    return lines
