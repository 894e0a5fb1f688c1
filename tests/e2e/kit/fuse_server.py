"""
A file system that shows a folder, and hangs or fails when it is told to (fuse_disk.py starts it).

    fuse_server.py FOLDER MOUNT CONTROL

While CONTROL/hang exists, no call is answered. While CONTROL/fail exists, every call fails with EIO.
Nothing is cached by the kernel, so that each call of a program comes here.
"""

import errno
import os
import sys
import time

from fusepy import FUSE, FuseOSError, Operations

# Calls that the kernel makes on its own account, when the file system comes and goes.
QUIET = ("init", "destroy")


class Mirror(Operations):
    """The folder, as it is."""

    def __init__(self, folder, control):
        self.folder = folder
        self.hang, self.fail = (os.path.join(control, name) for name in ("hang", "fail"))

    def __call__(self, operation, *arguments):
        if operation in QUIET:
            return super().__call__(operation, *arguments)
        while os.path.exists(self.hang):
            time.sleep(0.005)
        if os.path.exists(self.fail):
            raise FuseOSError(errno.EIO)
        try:
            return super().__call__(operation, *arguments)
        except OSError as error:
            raise FuseOSError(error.errno) from error

    def _at(self, path):
        return self.folder + path

    # ---- looking

    def access(self, path, amode):
        if not os.access(self._at(path), amode):
            raise FuseOSError(errno.EACCES)

    def getattr(self, path, fh=None):
        state = os.fstat(fh) if fh else os.lstat(self._at(path))
        return {name: getattr(state, name) for name in (
            "st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size",
            "st_uid", "st_ino", "st_blocks")}

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self._at(path))]

    def readlink(self, path):
        return os.readlink(self._at(path))

    def statfs(self, path):
        state = os.statvfs(self._at(path))
        return {name: getattr(state, name) for name in (
            "f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files",
            "f_flag", "f_frsize", "f_namemax")}

    # ---- files

    def open(self, path, flags):
        return os.open(self._at(path), flags)

    def create(self, path, mode, fi=None):
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(fh or self._at(path), length)

    def flush(self, path, fh):
        pass

    def fsync(self, path, datasync, fh):
        os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)

    # ---- names

    def chmod(self, path, mode):
        os.chmod(self._at(path), mode)

    def chown(self, path, uid, gid):
        os.chown(self._at(path), uid, gid)

    def utimens(self, path, times=None):
        os.utime(self._at(path), times)

    def mkdir(self, path, mode):
        os.mkdir(self._at(path), mode)

    def rmdir(self, path):
        os.rmdir(self._at(path))

    def unlink(self, path):
        os.unlink(self._at(path))

    def rename(self, old, new):
        os.rename(self._at(old), self._at(new))

    def symlink(self, target, source):
        os.symlink(source, self._at(target))

    def link(self, target, source):
        os.link(self._at(source), self._at(target))


if __name__ == "__main__":
    FUSE(Mirror(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, allow_other=True,
         attr_timeout=0, entry_timeout=0, negative_timeout=0, fsname="tarn-test")
