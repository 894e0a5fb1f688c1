"""Many clients at once, from many addresses, and an upstream that never says a word."""

import contextlib
import socket

# Of this machine: all of 127.0.0.0/8 is. Each client address has a share of its own.
ADDRESSES = [f"127.0.1.{last}" for last in range(1, 101)]


def request(target, connection="keep-alive"):
    return f"GET {target} HTTP/1.1\r\nHost: tarn\r\nConnection: {connection}\r\n\r\n".encode()


@contextlib.contextmanager
def crowd(tarn, targets, receive_buffer=None, addresses=("127.0.0.1",)):
    """One connection for each target, with the request sent; gives the list of them."""
    with contextlib.ExitStack() as opened:
        clients = []
        for number, target in enumerate(targets):
            client = opened.enter_context(socket.socket())
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.bind((addresses[number % len(addresses)], 0))
            client.connect(("127.0.0.1", tarn.port))
            client.sendall(request(target))
            clients.append(client)
        yield clients


@contextlib.contextmanager
def silent_registry():
    """An upstream that takes connections and never says a word; gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
