"""The upstream of the measurements: a registry that counts, limits its rate and breaks off.

    paced_registry.py PORT CONTENT

CONTENT holds `blobs/HEX` and `manifests/REFERENCE`. The registry is a process of its own, so that
its CPU time is not counted as a server's. `GET /_/set?rate=BYTES&cuts=N&over=SIZE` sets the bytes a
second of each connection (0: no limit) and the number of responses that break off, evenly spread
over the next SIZE bytes of blobs. It also sets the counters to zero. `GET /_/counters` sends the
counters.

It takes pushes: of a blob it keeps the digest and the size, and checks neither unless it is told to
(`check=1`). `upload_rate` limits what each connection sends, `upload_link` what all of them send
together, `upload_cuts` is the number of uploads that break off, over the next SIZE bytes of them.
`GET /_/forget` forgets what was pushed.

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
import uuid

SLICE = 64 << 10  # bytes sent at once when the rate is limited
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
BLOB_PATH = re.compile(r"^/v2/.+/blobs/sha256:([0-9a-f]{64})$")
MANIFEST_PATH = re.compile(r"^/v2/.+/manifests/([^/]+)$")
RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
UPLOAD_PATH = re.compile(r"^(/v2/.+/blobs/uploads)/([^/]*)$")
SETTINGS = ("rate", "cuts", "over", "upload_rate", "upload_link", "upload_cuts", "check")


class Pace:
    """So many bytes a second, for one connection or for several."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next = 0.0

    def wait(self, amount, rate):
        if rate:
            with self.lock:
                now = time.monotonic()
                self.next = max(self.next, now) + amount / rate
                wait = self.next - now
            time.sleep(max(0.0, wait))


class Upload:
    """A session: what has come of its blob."""

    def __init__(self):
        self.size = 0
        self.hasher = hashlib.sha256()


class State:
    """What all connections share."""

    def __init__(self):
        self.lock = threading.Lock()
        self.link = Pace()
        self.forget()
        self.set(dict.fromkeys(SETTINGS, 0))

    def forget(self):
        with self.lock:
            self.uploads, self.blobs, self.manifests = {}, {}, {}

    def set(self, settings):
        with self.lock:
            self.settings = settings
            self.cut_at = {counter: [(2 * index + 1) * settings["over"] // (2 * settings[cuts])
                                     for index in range(settings[cuts])]
                           for counter, cuts in (("blob_bytes", "cuts"),
                                                 ("upload_bytes", "upload_cuts"))}
            self.counters = {"blob_bytes": 0, "blob_gets": 0, "blob_heads": 0, "manifest_gets": 0,
                             "manifest_heads": 0, "cuts_made": 0, "upload_bytes": 0, "uploads": 0,
                             "manifest_puts": 0}

    def count(self, name, amount=1):
        with self.lock:
            self.counters[name] += amount

    def count_bytes(self, name, amount):
        """Counts bytes of blobs. True: they have to break off here."""
        with self.lock:
            self.counters[name] += amount
            if not self.cut_at[name] or self.counters[name] < self.cut_at[name][0]:
                return False
            self.cut_at[name].pop(0)
            self.counters["cuts_made"] += 1
            return True


class Connection(threading.Thread):
    """One client, from its first request to its last."""

    def __init__(self, sock, state, content):
        super().__init__(daemon=True)
        self.sock, self.state, self.content = sock, state, content
        self.stream = sock.makefile("rb", 1 << 18)
        self.pace = Pace()

    def run(self):
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while line := self.stream.readline().decode("latin-1"):
                method, target, _ = line.split(" ", 2)
                fields = {}
                while line := self.stream.readline().decode("latin-1").rstrip("\r\n"):
                    name, value = line.split(":", 1)
                    fields[name.lower()] = value.strip()
                if not self.respond(method, target, fields):
                    return
        except OSError:
            pass
        finally:
            self.stream.close()
            self.sock.close()

    def respond(self, method, target, fields):
        url = urllib.parse.urlsplit(target)
        if url.path == "/_/set":
            asked = dict(urllib.parse.parse_qsl(url.query))
            self.state.set({name: int(asked.get(name, 0)) for name in SETTINGS})
            return self.respond_with(200, b"{}")
        if url.path == "/_/forget":
            self.state.forget()
            return self.respond_with(200, b"{}")
        if url.path == "/_/counters":
            with self.state.lock:
                return self.respond_with(200, json.dumps(self.state.counters).encode())
        if url.path in ("/v2", "/v2/"):
            return self.respond_with(200, b"{}")
        match = UPLOAD_PATH.match(url.path)
        if match:
            return self.upload(method, match[1], match[2], url.query, fields)
        match = BLOB_PATH.match(url.path)
        if match:
            return self.blob(method, match[1], fields)
        if method == "PUT":
            return self.put_manifest(url.path, fields)
        match = MANIFEST_PATH.match(urllib.parse.unquote(url.path))
        if match:
            return self.manifest(method, url.path, match[1].replace("sha256:", ""))
        return self.refuse("NAME_UNKNOWN")

    def respond_with(self, status, body, fields="", head_only=False):
        kind = "" if "Content-Type" in fields else "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 {status} X\r\n{kind}{fields}Content-Length: {len(body)}\r\n\r\n".encode()
        self.sock.sendall(head if head_only else head + body)
        return True

    def refuse(self, code, head_only=False):
        error = {"errors": [{"code": code, "message": "not in the content of this registry"}]}
        return self.respond_with(404, json.dumps(error).encode(), head_only=head_only)

    def manifest(self, method, path, reference):
        self.state.count("manifest_heads" if method == "HEAD" else "manifest_gets")
        body = self.state.manifests.get(path)
        try:
            if body is None:
                with open(os.path.join(self.content, "manifests", reference), "rb") as file:
                    body = file.read()
        except FileNotFoundError:
            return self.refuse("MANIFEST_UNKNOWN", method == "HEAD")
        digest = hashlib.sha256(body).hexdigest()
        return self.respond_with(200, body, f"Content-Type: {MANIFEST_TYPE}\r\n"
                          f"Docker-Content-Digest: sha256:{digest}\r\n", method == "HEAD")

    def blob(self, method, name, fields):
        self.state.count("blob_heads" if method == "HEAD" else "blob_gets")
        try:
            file = open(os.path.join(self.content, "blobs", name), "rb")
        except FileNotFoundError:
            return self.pushed_blob(method, name)
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
            rate = self.state.settings["rate"]
            sent = os.sendfile(self.sock.fileno(), fd, offset,
                               min(SLICE if rate else 8 << 20, end - offset))
            offset += sent
            if self.state.count_bytes("blob_bytes", sent):
                return self.reset()
            self.pace.wait(sent, rate)
        return True

    def reset(self):
        """Breaks off, as a load balancer does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    # ---- pushes

    def pushed_blob(self, method, name):
        """Its bytes were not kept."""
        size = self.state.blobs.get(name)
        if size is None or method != "HEAD":
            return self.refuse("BLOB_UNKNOWN", method == "HEAD")
        self.sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n"
                          f"Docker-Content-Digest: sha256:{name}\r\n\r\n".encode())
        return True

    def pieces(self, fields):
        """The body as it comes."""
        if fields.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.get("transfer-encoding") == "chunked":
            while size := int(self.stream.readline(), 16):
                yield from self.bytes_of(size)
                self.stream.readline()
            self.stream.readline()
        else:
            yield from self.bytes_of(int(fields.get("content-length", 0)))

    def bytes_of(self, size):
        while size:
            piece = self.stream.read1(min(size, SLICE))
            if not piece:
                raise ConnectionError
            size -= len(piece)
            yield piece

    def put_manifest(self, path, fields):
        self.state.count("manifest_puts")
        body = b"".join(self.pieces(fields))
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        for one in (path, f"{path.rpartition('/')[0]}/{digest}"):
            self.state.manifests[one] = body
        return self.respond_with(201, b"", f"Docker-Content-Digest: {digest}\r\n")

    def upload(self, method, place, name, query, fields):
        state = self.state
        if method == "POST":
            name = uuid.uuid4().hex
            state.uploads[name] = Upload()
            state.count("uploads")
            return self.stand(202, place, name)
        upload = state.uploads.get(name)
        if upload is None:
            list(self.pieces(fields))
            return self.refuse("BLOB_UPLOAD_UNKNOWN")
        for piece in self.pieces(fields):
            if state.settings["check"]:
                upload.hasher.update(piece)
            upload.size += len(piece)
            if state.count_bytes("upload_bytes", len(piece)):
                return self.reset()
            self.pace.wait(len(piece), state.settings["upload_rate"])
            state.link.wait(len(piece), state.settings["upload_link"])
        if method in ("PATCH", "GET"):
            return self.stand(202 if method == "PATCH" else 204, place, name)
        del state.uploads[name]
        if method == "PUT":
            return self.finish(upload, urllib.parse.unquote(query).rpartition("digest=sha256:")[2])
        return self.respond_with(204, b"")

    def stand(self, status, place, name):
        size = self.state.uploads[name].size
        return self.respond_with(status, b"", f"Location: {place}/{name}?state=1\r\n"
                                 f"Range: 0-{max(0, size - 1)}\r\nDocker-Upload-UUID: {name}\r\n")

    def finish(self, upload, name):
        if self.state.settings["check"] and upload.hasher.hexdigest() != name:
            return self.respond_with(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        self.state.blobs[name] = upload.size
        return self.respond_with(201, b"", f"Docker-Content-Digest: sha256:{name}\r\n")


def main():
    port, content = int(sys.argv[1]), sys.argv[2]
    state = State()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    while True:
        Connection(listener.accept()[0], state, content).start()


if __name__ == "__main__":
    main()
