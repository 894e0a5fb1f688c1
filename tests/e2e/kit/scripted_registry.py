"""
A registry that a test scripts: it responds rightly, slowly, wrongly or not at all, as it is told.

It keeps repositories in memory, records every request and counts every byte of every body that it
sends. Each connection has a thread that works on the plain socket, so that a test decides about
single bytes, resets and silences.
"""

import json
import re
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from kit.content import OCI_INDEX, OCI_MANIFEST, OCTETS, digest_of, manifest
from kit.faults import Fault, Rule
from kit.processes import bound, free_port, wait_until
from kit.tokens import basic

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


@dataclass
class Repository:
    """The content of one repository."""

    name: str
    blobs: dict = field(default_factory=dict)      # digest -> bytes
    manifests: dict = field(default_factory=dict)  # digest -> (bytes, media type)
    tags: dict = field(default_factory=dict)       # tag -> digest
    referrers: dict = field(default_factory=dict)  # digest -> list of descriptors

    def add_blob(self, content, algorithm="sha256"):
        digest = digest_of(content, algorithm)
        self.blobs[digest] = content
        return digest

    def add_manifest(self, content, media_type=OCI_MANIFEST, tag=None, algorithm="sha256"):
        digest = digest_of(content, algorithm)
        self.manifests[digest] = (content, media_type)
        if tag:
            self.tags[tag] = digest
        return digest


class _Gone(Exception):
    """The connection has ended, on purpose or because the other side closed it."""


class ScriptedRegistry:
    """The registry on `host:port`, and a second host to which blobs may be redirected."""

    def __init__(self, host="127.0.0.1", elsewhere="127.0.0.2", tls=None):
        self.host, self.elsewhere = host, elsewhere
        self.tls = tls                  # an ssl.SSLContext: the registry speaks TLS
        self.repositories = {}
        self.requests = []
        self.connections = 0            # accepted, on all listeners
        self.rules = []
        self.basic = None               # (username, password): Basic authentication
        self.tokens = None              # a TokenService: Bearer authentication
        self.realm = None               # the URL of the token service; default: our own /token
        self.challenge = None           # the whole WWW-Authenticate, in place of ours
        self.redirect = None            # None, "relative", "elsewhere" or "same host"
        self.redirect_uses = None       # a target works so often, then it is 403
        self.referrers_api = True
        self.page_size = None           # of tags/list, when the client names none
        self.lock = threading.RLock()     # re-entrant, because a rule may look at the requests
        self.targets = {}               # opaque part -> [repository, digest, uses]
        self.gates = []
        self.stopping = threading.Event()
        self.listeners = {}
        self.sockets = set()
        self.port = self._listen("registry", host, free_port(host))
        self.elsewhere_port = self._listen("elsewhere", elsewhere, free_port(elsewhere))

    # ---- for tests

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def elsewhere_url(self):
        return f"http://{self.elsewhere}:{self.elsewhere_port}"

    def repository(self, name):
        return self.repositories.setdefault(name, Repository(name))

    def image(self, name, layers, tag="latest", config=b"{}", media_type=OCI_MANIFEST):
        """Adds an image of these layers; returns its manifest's digest."""
        repository = self.repository(name)
        for blob in [config, *layers]:
            repository.add_blob(blob)
        return repository.add_manifest(manifest(config, layers, media_type), media_type, tag)

    def fault(self, path, fault=None, method="GET", skip=0, times=None, when=None, **members):
        """Gives a fault to the requests whose target matches `path`; returns the Fault."""
        fault = fault or Fault(**members)
        if (fault.hold_head or fault.hold_after is not None) and fault.gate is None:
            fault.gate = threading.Event()
        if fault.gate is not None:
            self.gates.append(fault.gate)
        with self.lock:
            self.rules.append(Rule(re.compile(path), fault, method, skip, times, when))
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

    def blob_bytes(self):
        """Bytes of blobs that were sent, directly or after a redirect."""
        return sum(request.sent for request in self.asked(r"/blobs/|/downloads/")
                   if request.status in (200, 206))

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
                   "the responses of the scripted registry to end")

    def refuse(self):
        """Stops listening on the registry's port, and resets all connections."""
        self._close("registry")
        with self.lock:
            sockets = list(self.sockets)
            self.sockets.clear()
        for connection in sockets:
            self._reset(connection)

    def listen_again(self):
        self._listen("registry", self.host, self.port)

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
            if self.tls and name == "registry":
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
        except (_Gone, OSError, ValueError):
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
        headers = {}
        while True:
            field_line = stream.readline(65536).decode("latin-1").rstrip("\r\n")
            if not field_line:
                break
            key, _, value = field_line.partition(":")
            headers[key.strip().lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        path, _, query = target.partition("?")
        request = Request(name, method, target, headers, unquote(path), query,
                          started=time.monotonic())
        with self.lock:
            if connection not in self.sockets:  # the connection was reset meanwhile
                raise _Gone
            self.requests.append(request)
            fault = next((rule.fault for rule in self.rules if rule.befalls(request)), Fault())
        try:
            return self._answer(connection, request, body, fault)
        finally:
            request.ended = request.ended or time.monotonic()

    def _answer(self, connection, request, body, fault):
        if fault.black_hole:
            self.stopping.wait()
            raise _Gone
        if fault.takeover:
            fault.takeover(connection, self.stopping.is_set)
            raise _Gone
        if fault.hold_head:
            fault.gate.wait()
        if fault.delay:
            self.stopping.wait(fault.delay)
        if fault.drop:
            raise _Gone
        if fault.reset:
            self._reset(connection)
            raise _Gone
        if fault.status is not None:
            status, headers, content = fault.status, dict(fault.headers), fault.body
        else:
            status, headers, content = self._find(request, body)
            if content is not None and fault.content is not None and status == 200:
                content = fault.content
        return self._send(connection, request, status, headers, content or b"", fault)

    # ---- the registry

    def _find(self, request, body):
        """(status, headers, content) of a response without faults and ranges."""
        if request.path == "/token" and self.tokens:
            return self.tokens.answer(request, body)
        if "/downloads/" in request.path:
            return self._download(request)
        if request.listener != "registry" or not request.path.startswith("/v2/"):
            return 404, {}, b"no such page"
        match = re.fullmatch(r"/v2/(.+?)/(blobs|manifests|tags|referrers)/([^/]+)", request.path)
        repository_name = match.group(1) if match else None
        refusal = self._refusal(request, repository_name)
        if refusal:
            return refusal
        if request.path == "/v2/":
            return 200, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"{}"
        repository = self.repositories.get(repository_name)
        if repository is None:
            return self._error(404, "NAME_UNKNOWN", "repository name not known to registry")
        kind, reference = match.group(2), match.group(3)
        if kind == "blobs":
            return self._blob(request, repository, reference)
        if kind == "manifests":
            return self._manifest(repository, reference)
        if kind == "tags":
            return self._tags(request, repository)
        return self._referrers(request, repository, reference)

    def _refusal(self, request, repository):
        authorization = request.headers.get("authorization")
        if self.basic and authorization != basic(*self.basic):
            challenge = self.challenge or 'Basic realm="fake"'
        elif self.tokens and not self.tokens.opens(authorization, repository):
            realm = self.realm or f"{self.url}/token"
            challenge = self.challenge or f'Bearer realm="{realm}",service="fake"' + (
                f',scope="repository:{repository}:pull"' if repository else "")
        else:
            return None
        status, headers, content = self._error(401, "UNAUTHORIZED", "authentication required")
        return status, {**headers, "WWW-Authenticate": challenge}, content

    @staticmethod
    def _error(status, code, message):
        return status, {"Content-Type": "application/json"}, json.dumps(
            {"errors": [{"code": code, "message": message, "detail": {}}]}).encode()

    def _blob(self, request, repository, digest):
        content = repository.blobs.get(digest)
        if content is None:
            return self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.redirect:
            opaque = secrets.token_hex(700)
            with self.lock:
                self.targets[opaque] = [repository, digest, 0]
            start = {"relative": "", "same host": self.url,
                     "elsewhere": self.elsewhere_url}[self.redirect]
            return 302, {"Location": f"{start}/artifacts-downloads/namespaces/project/"
                                     f"repositories/repo/downloads/{opaque}"}, b"<a>Found</a>"
        return 200, {"Content-Type": OCTETS, "Docker-Content-Digest": digest,
                     "ETag": f'"{digest}"'}, content

    def _download(self, request):
        with self.lock:
            target = self.targets.get(request.path.rpartition("/")[2])
            if target is None or (self.redirect_uses is not None
                                  and target[2] >= self.redirect_uses):
                return 403, {"Content-Type": "application/xml"}, b"<Error>expired</Error>"
            target[2] += 1
            repository, digest, _ = target
        return 200, {"Content-Type": OCTETS, "ETag": f'"{digest}"'}, repository.blobs[digest]

    def _manifest(self, repository, reference):
        digest = repository.tags.get(reference, reference)
        if digest not in repository.manifests:
            return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        content, media_type = repository.manifests[digest]
        return 200, {"Content-Type": media_type, "Docker-Content-Digest": digest,
                     "ETag": f'"{digest}"'}, content

    def _tags(self, request, repository):
        query = parse_qs(request.query)
        names = sorted(repository.tags)
        last = query.get("last", [""])[0]
        names = [name for name in names if name > last]
        size = int(query.get("n", [self.page_size or len(names)])[0])
        if self.page_size:
            size = min(size, self.page_size)
        headers = {"Content-Type": "application/json"}
        if size < len(names):
            headers["Link"] = (f'</v2/{repository.name}/tags/list?n={size}'
                               f'&last={names[size - 1]}>; rel="next"')
        return 200, headers, json.dumps({"name": repository.name, "tags": names[:size]}).encode()

    def _referrers(self, request, repository, digest):
        if not self.referrers_api:
            return 404, {}, b"404 page not found"
        entries = repository.referrers.get(digest, [])
        return 200, {"Content-Type": OCI_INDEX}, json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()

    # ---- sending

    def _send(self, connection, request, status, headers, content, fault):
        if fault.flip is not None and status == 200:
            content = bytearray(content)
            content[fault.flip] ^= 0xff
            content = bytes(content)
        whole = len(content)
        if status == 200 and headers.get("Content-Type") == OCTETS and not fault.ignore_range:
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
            self._send_body(connection, request, content + fault.extra, fault)
            if fault.content_length is not None or fault.extra:
                keep = False
        if not keep:
            raise _Gone
        return request.headers.get("connection", "").lower() != "close"

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
        return 206, content[first:last + 1], {
            **headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}

    def _send_body(self, connection, request, content, fault):
        stops = {fault.cut_after, fault.reset_after, fault.hold_after} - {None}
        started, position, held = time.monotonic(), 0, False
        view = memoryview(content)
        while position < len(content):
            if position == fault.cut_after:
                raise _Gone
            if position == fault.reset_after:
                time.sleep(0.05)  # otherwise the RST might overtake the bytes
                self._reset(connection)
                raise _Gone
            if position == fault.hold_after and not held:
                fault.gate.wait()
                held = True
                if self.stopping.is_set():
                    raise _Gone
            end = min([position + (fault.piece or PIECE), len(content)]
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
