"""A plain client that reports exactly which bytes it got."""

import http.client
import json
import socket
import ssl
import struct
import threading
import time
from urllib.parse import urlsplit


class Reply:
    """A response. `complete` says whether the body was as long as announced."""

    def __init__(self, status, headers, body, complete, seconds):
        self.status, self.headers, self.body = status, headers, body
        self.complete, self.seconds = complete, seconds

    def __getitem__(self, name):
        return self.headers.get(name)

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The OCI error code in the body."""
        return self.json()["errors"][0]["code"]

    @property
    def message(self):
        return self.json()["errors"][0]["message"]

    @property
    def cache_status(self):
        return self["Cache-Status"] or ""

    def __repr__(self):
        return (f"<{self.status} {dict(self.headers)} {len(self.body)} bytes "
                f"{'whole' if self.complete else 'CUT'} {self.body[:300]!r}>")


class Download:
    """A GET whose body is read piece by piece, to look at a response that is still arriving."""

    def __init__(self, url, headers=None, method="GET", timeout=20, receive_buffer=None):
        parts = urlsplit(url)
        self.started = time.monotonic()
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        if receive_buffer:
            self._connect_small(parts, timeout, receive_buffer)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.connection.request(method, target, headers=headers or {})
        self.socket = self.connection.sock  # http.client drops it after `Connection: close`
        self.answer = self.connection.getresponse()
        self.status, self.headers = self.answer.status, self.answer.headers
        self.head_seconds = time.monotonic() - self.started
        self.body = b""

    def _connect_small(self, parts, timeout, receive_buffer):
        """Connects with a small window, as a slow client on a long route has."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        small.settimeout(timeout)
        small.connect((parts.hostname, parts.port))
        self.connection.sock = small

    @property
    def length(self):
        return int(self.headers["Content-Length"])

    def read(self, size):
        """Exactly `size` more bytes, or fewer when the body ends or is cut."""
        got = b""
        while len(got) < size:
            piece = self.answer.read1(size - len(got))
            if not piece:
                break
            got += piece
        self.body += got
        return got

    def read_what_comes(self, seconds):
        """Reads what arrives within so many seconds; True when the body ended or was cut."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.socket.settimeout(left)
            try:
                piece = self.answer.read1(1 << 16)
            except (socket.timeout, TimeoutError):
                return False
            except (OSError, http.client.HTTPException):
                return True
            if not piece:
                return True
            self.body += piece

    def close(self):
        """Resets the connection."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # closed already
        self.answer.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_body(answer):
    """The bytes of a response's body that arrive, and whether they are the whole body."""
    content = bytearray()
    try:
        while piece := answer.read1(1 << 18):
            content += piece
    except http.client.IncompleteRead as cut:
        return bytes(content + cut.partial), False
    except (OSError, http.client.HTTPException):
        return bytes(content), False
    # After a connection that ended early, read1() says only by `length` that bytes are missing.
    return bytes(content), not answer.length


def fetch(url, headers=None, method="GET", timeout=40, body=None):
    """
    Makes one request on a connection of its own. A response that is cut short raises nothing; a
    response that is cut before its status arrives has the status 0. Any certificate is accepted.
    """
    parts = urlsplit(url)
    secure = {"context": ssl._create_unverified_context()} if parts.scheme == "https" else {}
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout, **secure)
    started = time.monotonic()
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""),
                           body=body, headers=headers or {})
        try:
            answer = connection.getresponse()
        except (ConnectionResetError, http.client.RemoteDisconnected):
            return Reply(0, {}, b"", False, time.monotonic() - started)
        content, complete = read_body(answer)
        return Reply(answer.status, answer.headers, content, complete,
                     time.monotonic() - started)
    finally:
        connection.close()


def at_once(*calls, timeout=60):
    """Runs the calls in threads that start together; returns their results in order."""
    results, errors = [None] * len(calls), []
    barrier = threading.Barrier(len(calls))

    def work(number, call):
        try:
            barrier.wait(10)
            results[number] = call()
        except BaseException as error:  # raised again below, in the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=item, daemon=True)
               for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), f"a client is not done after {timeout} s"
    if errors:
        raise errors[0]
    return results


def raw(port, request, timeout=10, host="127.0.0.1"):
    """Sends these bytes; returns what arrives until the other side closes or resets."""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(request)
        return read_to_end(connection)


def read_to_end(connection):
    got = b""
    while True:
        try:
            piece = connection.recv(1 << 16)
        except ConnectionResetError:
            return got
        if not piece:
            return got
        got += piece
