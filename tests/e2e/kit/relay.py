"""Bytes between two sockets, as a proxy passes them on after CONNECT."""

import socket
import threading


def relay(one, other):
    """Passes bytes on in both directions; returns when `one` sends no more."""
    threading.Thread(target=_copy, args=(other, one), daemon=True).start()
    _copy(one, other)


def _copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
