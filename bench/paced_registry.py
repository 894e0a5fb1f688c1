"""The upstream of the measurements: a registry that counts, limits its rate and breaks off.

    paced_registry.py PORT CONTENT

CONTENT holds `blobs/HEX` and `manifests/REFERENCE`. The registry is a process of its own, so that
its CPU time is not counted as a server's. `GET /_/set?rate=BYTES&cuts=N&over=SIZE` sets the bytes a
second of each connection (0: no limit) and the number of responses that break off, evenly spread
over the next SIZE bytes of blobs. It also sets the counters to zero. `GET /_/counters` sends the
counters.

nginx's limit_rate cannot replace it, because nginx lets each request send the bytes of a second at
once, so that it does not slow small ranges at all. Here the limit belongs to the connection.
"""
import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse

SLICE = 64 << 10  # bytes sent at once when the rate is limited
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
BLOB_PATH = re.compile(r"^/v2/.+/blobs/sha256:([0-9a-f]{64})$")
MANIFEST_PATH = re.compile(r"^/v2/.+/manifests/([^/]+)$")
RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


class State:
    """What all connections share."""

    def __init__(self):
        self.lock = threading.Lock()
        self.set(0, 0, 0)

    def set(self, rate, cuts, over):
        with self.lock:
            self.rate = rate
            self.cut_at = [(2 * index + 1) * over // (2 * cuts) for index in range(cuts)]
            self._clear()

    def _clear(self):
        self.counters = {"blob_bytes": 0, "blob_gets": 0, "blob_heads": 0, "manifest_gets": 0,
                         "manifest_heads": 0, "cuts_made": 0}

    def count(self, name, amount=1):
        with self.lock:
            self.counters[name] += amount

    def count_blob(self, amount):
        """Counts bytes of a blob. True: their response has to break off here."""
        with self.lock:
            self.counters["blob_bytes"] += amount
            if not self.cut_at or self.counters["blob_bytes"] < self.cut_at[0]:
                return False
            self.cut_at.pop(0)
            self.counters["cuts_made"] += 1
            return True


class Connection(threading.Thread):
    """One client, from its first request to its last."""

    def __init__(self, sock, state, content):
        super().__init__(daemon=True)
        self.sock, self.state, self.content = sock, state, content
        self.next_send = 0.0

    def run(self):
        kept = b""
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                while b"\r\n\r\n" not in kept:
                    more = self.sock.recv(16 << 10)
                    if not more:
                        return
                    kept += more
                head, kept = kept.split(b"\r\n\r\n", 1)
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                fields = {}
                for line in lines[1:]:
                    name, value = line.split(":", 1)
                    fields[name.lower()] = value.strip()
                if not self.respond(method, target, fields):
                    return
        except OSError:
            pass
        finally:
            self.sock.close()

    def respond(self, method, target, fields):
        url = urllib.parse.urlsplit(target)
        if url.path == "/_/set":
            asked = dict(urllib.parse.parse_qsl(url.query))
            self.state.set(*(int(asked.get(name, 0)) for name in ("rate", "cuts", "over")))
            return self.respond_with(200, b"{}")
        if url.path == "/_/counters":
            with self.state.lock:
                return self.respond_with(200, json.dumps(self.state.counters).encode())
        if url.path in ("/v2", "/v2/"):
            return self.respond_with(200, b"{}")
        match = BLOB_PATH.match(url.path)
        if match:
            return self.blob(method, match[1], fields)
        match = MANIFEST_PATH.match(urllib.parse.unquote(url.path))
        if match:
            return self.manifest(method, match[1].replace("sha256:", ""))
        return self.refuse("NAME_UNKNOWN")

    def respond_with(self, status, body, fields="", head_only=False):
        kind = "" if "Content-Type" in fields else "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 {status} X\r\n{kind}{fields}Content-Length: {len(body)}\r\n\r\n".encode()
        self.sock.sendall(head if head_only else head + body)
        return True

    def refuse(self, code):
        error = {"errors": [{"code": code, "message": "not in the content of this registry"}]}
        return self.respond_with(404, json.dumps(error).encode())

    def manifest(self, method, reference):
        self.state.count("manifest_heads" if method == "HEAD" else "manifest_gets")
        try:
            with open(os.path.join(self.content, "manifests", reference), "rb") as file:
                body = file.read()
        except FileNotFoundError:
            return self.refuse("MANIFEST_UNKNOWN")
        digest = hashlib.sha256(body).hexdigest()
        return self.respond_with(200, body, f"Content-Type: {MANIFEST_TYPE}\r\n"
                          f"Docker-Content-Digest: sha256:{digest}\r\n", method == "HEAD")

    def blob(self, method, name, fields):
        self.state.count("blob_heads" if method == "HEAD" else "blob_gets")
        try:
            file = open(os.path.join(self.content, "blobs", name), "rb")
        except FileNotFoundError:
            return self.refuse("BLOB_UNKNOWN")
        with file:
            size = os.fstat(file.fileno()).st_size
            first, last, status = 0, size - 1, "200 OK"
            match = RANGE.match(fields.get("range", ""))
            if match and method == "GET":
                if match[1]:
                    first, last = int(match[1]), min(int(match[2] or size), size - 1)
                else:
                    first = max(0, size - int(match[2]))
                status = "206 Partial Content"
            length = last - first + 1
            head = (f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n"
                    f"Content-Length: {length}\r\nAccept-Ranges: bytes\r\n"
                    f'ETag: "{name[:32]}"\r\nDocker-Content-Digest: sha256:{name}\r\n')
            if status.startswith("206"):
                head += f"Content-Range: bytes {first}-{last}/{size}\r\n"
            self.sock.sendall((head + "\r\n").encode())
            return method == "HEAD" or self.send(file.fileno(), first, length)

    def send(self, fd, offset, length):
        end = offset + length
        while offset < end:
            rate = self.state.rate
            sent = os.sendfile(self.sock.fileno(), fd, offset,
                               min(SLICE if rate else 8 << 20, end - offset))
            offset += sent
            if self.state.count_blob(sent):  # a reset, as a load balancer sends
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if rate:
                now = time.monotonic()
                self.next_send = max(self.next_send, now) + sent / rate
                time.sleep(max(0.0, self.next_send - now))
        return True


def main():
    port, content = int(sys.argv[1]), sys.argv[2]
    state = State()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    while True:
        Connection(listener.accept()[0], state, content).start()


if __name__ == "__main__":
    main()
