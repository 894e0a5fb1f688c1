"""
A network like a pod's, where a test may put a metadata server at Google's own address: a network
namespace with the loopback device alone, which has that address too.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys

METADATA_ADDRESS = "169.254.169.254"
INSIDE = "TARN_TEST_INSIDE_A_POD"
NEW_USER, NEW_NET = 0x10000000, 0x40000000
SET_ADDRESS, SET_FLAGS, UP_AND_RUNNING = 0x8916, 0x8914, 0x41


def is_inside():
    return INSIDE in os.environ


def _enter():
    """Moves this process into a network of its own. False: the system does not let it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NET) != 0 and libc.unshare(NEW_USER | NEW_NET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))
        fcntl.ioctl(one, SET_ADDRESS, struct.pack(
            "16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(METADATA_ADDRESS)))
    return True


def run_inside(test):
    """Runs this one test (PATH::NAME) in a pod of its own; None where pods are not allowed."""
    done = subprocess.run([sys.executable, __file__, test], capture_output=True, text=True,
                          timeout=150, check=False, env={**os.environ, INSIDE: "1"})
    return None if done.returncode == 77 else done


if __name__ == "__main__":
    if not _enter():
        sys.exit(77)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p",
                              "no:xdist", "-q", sys.argv[1]])
