"""
An HTTP server that a test scripts: it responds rightly, slowly, wrongly or not at all, as it is told.

It records every request and counts every byte of every body that it sends. Each connection has a
thread that works on the plain socket, so that a test decides about single bytes, resets and
silences. What a right response is, a class that inherits from it says: `_find()`.
"""

import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from urllib.parse import unquote

from kit.content import OCTETS
from kit.faults import Fault, Rule
from kit.processes import bound, free_port, wait_until

PIECE = 32 << 10
REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 307: "Temporary Redirect",
           401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 416: "Range Not Satisfiable",
           429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass
class Request:
    """One request as it arrived, and its response."""

    listener: str
    method: str
    target: str
    headers: dict
    path: str = ""
    query: str = ""
    status: int = 0
    sent: int = 0            # bytes of the body
    started: float = 0.0
    ended: float = 0.0       # 0: still in progress

    @property
    def range(self):
        """(first, last or None) of `Range: bytes=first-last`, or None."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", ""))
        if not match or not any(match.groups()):
            return None
        first, last = match.groups()
        return (int(first) if first else None, int(last) if last else None)


class Gone(Exception):
    """The connection has ended, on purpose or because the other side closed it."""


class ScriptedServer:
    """The server on `host:port`. More listeners may be added; each has a name."""

    main = "main"                       # the name of the first listener
    piece = PIECE                       # bytes that are sent at a time

    def __init__(self, host="127.0.0.1", tls=None, port=None):
        self.host = host
        self.tls = tls                  # an ssl.SSLContext: the first listener speaks TLS
        self.requests = []
        self.connections = 0            # accepted, on all listeners
        self.rules = []
        self.lock = threading.RLock()     # re-entrant, because a rule may look at the requests
        self.gates = []
        self.stopping = threading.Event()
        self.listeners = {}
        self.sockets = set()
        self.port = self._listen(self.main, host, port or free_port(host))

    # ---- for tests

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def fault(self, path, fault=None, method="GET", skip=0, times=None, when=None, **members):
        """Gives a fault to the requests whose target matches `path`; returns the Fault."""
        fault = fault or Fault(**members)
        return self._add(Rule(re.compile(path), fault, method, skip, times, when))

    def _add(self, rule):
        fault = rule.fault
        if fault.holds() and fault.gate is None:
            fault.gate = threading.Event()
        if fault.gate is not None:
            self.gates.append(fault.gate)
        with self.lock:
            self.rules.append(rule)
        return fault

    def heal(self):
        """Removes all faults; responses that were held go on."""
        with self.lock:
            self.rules.clear()
        for gate in self.gates:
            gate.set()

    def asked(self, path=".", method=None, listener=None):
        """The requests whose target matches, in the order of their arrival."""
        with self.lock:
            return [request for request in self.requests
                    if re.search(path, request.target)
                    and method in (None, request.method) and listener in (None, request.listener)]

    def sent(self, path="."):
        """Bytes of bodies sent to requests whose target matches."""
        return sum(request.sent for request in self.asked(path))

    def forget_requests(self):
        with self.lock:
            self.requests.clear()
            self.connections = 0

    def forget_ended(self, path="."):
        """Forgets the requests that match and have their whole response."""
        with self.lock:
            self.requests = [request for request in self.requests
                             if not request.ended or not re.search(path, request.target)]

    def most_at_once(self, path):
        """The largest number of responses to matching requests at the same time."""
        moments = []
        for request in self.asked(path):
            moments += [(request.started, 1), (request.ended or time.monotonic(), -1)]
        now = most = 0
        for _, step in sorted(moments):
            now += step
            most = max(most, now)
        return most

    def wait_idle(self, path="."):
        wait_until(lambda: all(request.ended for request in self.asked(path)),
                   "the responses of the scripted server to end")

    def refuse(self):
        """Stops listening on the first port, and resets all connections."""
        self._close(self.main)
        with self.lock:
            sockets = list(self.sockets)
            self.sockets.clear()
        for connection in sockets:
            self._reset(connection)

    def listen_again(self):
        self._listen(self.main, self.host, self.port)

    def stop(self):
        self.stopping.set()
        for gate in self.gates:
            gate.set()
        for name in list(self.listeners):
            self._close(name)
        with self.lock:
            sockets = list(self.sockets)
        for connection in sockets:
            self._reset(connection)

    # ---- listeners and connections

    def _listen(self, name, host, port):
        listener = bound(host, port)
        listener.listen(256)
        self.listeners[name] = listener
        threading.Thread(target=self._accept, args=(name, listener), daemon=True).start()
        return port

    def _close(self, name):
        listener = self.listeners.pop(name, None)
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()

    def _accept(self, name, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self._serve, args=(name, connection), daemon=True).start()

    @staticmethod
    def _reset(connection):
        """Resets the connection."""
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        connection.close()

    def _serve(self, name, connection):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls and name == self.main:
                connection = self.tls.wrap_socket(connection, server_side=True)
            elif connection.recv(1, socket.MSG_PEEK) == b"\x16":
                return  # a TLS hello: the client tries again without TLS
            with self.lock:
                if name not in self.listeners:  # accepted just before the listener was closed
                    return
                self.sockets.add(connection)
            stream = connection.makefile("rb")
            while not self.stopping.is_set() and self._one(name, connection, stream):
                pass
        except (Gone, OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.sockets.discard(connection)
            try:
                connection.close()
            except OSError:
                pass

    def _one(self, name, connection, stream):
        """Reads one request and responds; False when the connection ends with it."""
        line = stream.readline(65536).decode("latin-1").rstrip("\r\n")
        if not line:
            return False
        method, target, _ = line.split(" ", 2)
        fields = []
        while True:
            field_line = stream.readline(65536).decode("latin-1").rstrip("\r\n")
            if not field_line:
                break
            key, _, value = field_line.partition(":")
            fields.append((key.strip().lower(), value.strip()))
        request = self._request(name, method, target, fields)
        with self.lock:
            if connection not in self.sockets:  # the connection was reset meanwhile
                raise Gone
            self.requests.append(request)
            fault = next((rule.fault for rule in self.rules if rule.befalls(request)), Fault())
        try:
            body = self._receive(connection, stream, request, fault)
            return self._answer(connection, request, body, fault)
        finally:
            request.ended = request.ended or time.monotonic()

    def _request(self, listener, method, target, fields):
        path, _, query = target.partition("?")
        return Request(listener, method, target, dict(fields), unquote(path), query,
                       started=time.monotonic())

    def _receive(self, _connection, stream, request, _fault):
        """The body of the request."""
        return stream.read(int(request.headers.get("content-length", 0)))

    def _answer(self, connection, request, body, fault):
        if fault.black_hole:
            self.stopping.wait()
            raise Gone
        if fault.takeover:
            fault.takeover(connection, self.stopping.is_set)
            raise Gone
        if fault.hold_head:
            fault.gate.wait()
        if fault.delay:
            self.stopping.wait(fault.delay)
        if fault.drop:
            raise Gone
        if fault.reset:
            self._reset(connection)
            raise Gone
        if fault.status is not None:
            status, headers, content = fault.status, dict(fault.headers), fault.body
        else:
            status, headers, content = self._find(request, body)
            if content is not None and fault.content is not None and status == 200:
                content = fault.content
        return self._send(connection, request, status, headers, content or b"", fault)

    def _find(self, request, body):
        """(status, headers, content) of a response without faults and ranges."""
        raise NotImplementedError

    # ---- sending

    def _send(self, connection, request, status, headers, content, fault):
        if fault.flip is not None and status == 200:
            content = bytearray(content)
            content[fault.flip] ^= 0xff
            content = bytes(content)
        whole = len(content)
        if status == 200 and self._has_ranges(request, headers) and not fault.ignore_range:
            headers["Accept-Ranges"] = "bytes"
            status, content, headers = self._ranged(request, status, content, headers)
        if status == 206 and fault.content_range:
            headers["Content-Range"] = fault.content_range
        if fault.etag:
            headers["ETag"] = fault.etag
        length = len(content) if fault.content_length is None else fault.content_length
        if request.method == "HEAD":
            length = whole if fault.content_length is None else fault.content_length
        keep = True
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif fault.until_close:
            headers["Connection"], keep = "close", False
        else:
            headers["Content-Length"] = str(length)
        request.status = status
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n" + "".join(
            f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
        connection.sendall(head.encode("latin-1"))
        if request.method != "HEAD":
            if fault.extra:
                content = bytes(content) + fault.extra
            self._send_body(connection, request, content, fault)
            if fault.content_length is not None or fault.extra:
                keep = False
        if not keep:
            raise Gone
        return request.headers.get("connection", "").lower() != "close"

    def _has_ranges(self, _request, headers):
        """Whether the content may be asked for in ranges."""
        return headers.get("Content-Type") == OCTETS

    @staticmethod
    def _ranged(request, status, content, headers):
        wanted = request.range
        if wanted is None:
            return status, content, headers
        first, last = wanted
        if first is None:
            first, last = max(0, len(content) - last), len(content) - 1
        last = len(content) - 1 if last is None else min(last, len(content) - 1)
        if first > last:
            return 416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"}
        return 206, memoryview(content)[first:last + 1], {
            **headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}

    def _send_body(self, connection, request, content, fault):
        stops = {fault.cut_after, fault.reset_after, fault.hold_after} - {None}
        started, position, held = time.monotonic(), 0, False
        view = memoryview(content)
        while position < len(content):
            if position == fault.cut_after:
                raise Gone
            if position == fault.reset_after:
                time.sleep(0.05)  # otherwise the RST might overtake the bytes
                self._reset(connection)
                raise Gone
            if position == fault.hold_after and not held:
                fault.gate.wait()
                held = True
                if self.stopping.is_set():
                    raise Gone
            end = min([position + (fault.piece or self.piece), len(content)]
                      + [stop for stop in stops if stop > position])
            piece = view[position:end]
            if fault.bytes_per_second:
                due = started + end / fault.bytes_per_second
                self.stopping.wait(max(0.0, due - time.monotonic()))
            is_last = end == len(content)
            if is_last:  # counted before: at the last byte the client's test may look
                request.ended = time.monotonic()
                request.sent += len(piece)
            try:
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
                                   if fault.chunked else piece)
            except OSError:
                request.sent -= len(piece) if is_last else 0
                raise
            request.sent += 0 if is_last else len(piece)
            position = end
        if fault.chunked:
            connection.sendall(b"0\r\n\r\n")


def several(kind):
    """For a fixture: yields make(**options), and stops all servers of this kind that it made."""
    made = []

    def make(**options):
        made.append(kind(**options))
        return made[-1]

    yield make
    for one in made:
        one.stop()
