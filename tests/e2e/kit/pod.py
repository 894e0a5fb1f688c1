"""
A network like a pod's, where a test may put servers at addresses that mean something: a network
namespace with the loopback device alone, which has those addresses too. Its only name server is at
NAME_SERVER, where nobody answers unless the test does.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile

import pytest

METADATA_ADDRESS = "169.254.169.254"
OTHER_METADATA_ADDRESS = "100.100.100.200"
PUBLIC_ADDRESSES = ("203.0.113.7", "198.51.100.7")
PRIVATE_ADDRESSES = ("10.77.0.7", "192.168.77.7")
NOT_ALLOWED = 77
INSIDE = "TARN_TEST_INSIDE_A_POD"
NAME_SERVER = "127.0.0.53"
RESOLVER = f"nameserver {NAME_SERVER}\noptions timeout:30 attempts:5\n"
NEW_MOUNTS, NEW_USER, NEW_NET = 0x00020000, 0x10000000, 0x40000000
BIND, PRIVATE_MOUNTS = 0x1000, 0x44000
SET_ADDRESS, SET_FLAGS, UP_AND_RUNNING = 0x8916, 0x8914, 0x41


def is_here(request):
    """Whether the test runs in a pod. If not, it runs the test again in one, and the test is done."""
    if INSIDE in os.environ:
        return True
    done = _run_inside(f"{request.node.path}::{request.node.name}")
    if done.returncode == NOT_ALLOWED:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0, done.stdout + done.stderr
    return False


def _enter():
    """Moves this process into a network of its own. False: the system does not let it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NET | NEW_MOUNTS) != 0 and \
            libc.unshare(NEW_USER | NEW_NET | NEW_MOUNTS) != 0:
        return False
    with tempfile.NamedTemporaryFile("w", delete=False) as resolver:
        resolver.write(RESOLVER)
    os.chmod(resolver.name, 0o644)
    if libc.mount(None, b"/", None, PRIVATE_MOUNTS, None) != 0 or \
            libc.mount(resolver.name.encode(), b"/etc/resolv.conf", None, BIND, None) != 0:
        return False
    os.unlink(resolver.name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))
        addresses = (METADATA_ADDRESS, OTHER_METADATA_ADDRESS, *PUBLIC_ADDRESSES,
                     *PRIVATE_ADDRESSES)
        for number, address in enumerate(addresses):
            fcntl.ioctl(one, SET_ADDRESS, struct.pack(
                "16sHH4s8x", f"lo:{number}".encode(), socket.AF_INET, 0,
                socket.inet_aton(address)))
    return True


def _run_inside(test):
    return subprocess.run([sys.executable, __file__, test], capture_output=True, text=True,
                          timeout=150, check=False, env={**os.environ, INSIDE: "1"})


if __name__ == "__main__":
    if not _enter():
        sys.exit(NOT_ALLOWED)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p",
                              "no:xdist", "-q", sys.argv[1]])
