"""The clients: wrk for many small responses, plain sockets for large ones."""
import concurrent.futures
import hashlib
import os
import re
import select
import selectors
import socket
import ssl
import subprocess
import threading
import time
from typing import NamedTuple

REPOSITORY = "bench/app"
ACCEPT = "application/vnd.oci.image.manifest.v1+json, */*"


def manifest_path(reference, repository=REPOSITORY):
    return f"/v2/{repository}/manifests/{reference}"


def blob_path(hex_digest, repository=REPOSITORY):
    return f"/v2/{repository}/blobs/sha256:{hex_digest}"


class Download:
    """The result of one GET."""

    def __init__(self):
        self.status = 0
        self.announced = None  # Content-Length
        self.received = 0
        self.first_byte = None  # seconds from before connecting to the body's first byte
        self.seconds = 0.0
        self.digest = None

    @property
    def is_whole(self):
        return self.status == 200 and self.announced is not None \
            and self.received == self.announced


def request(port, path, method="GET", fields=""):
    return (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\n"
            f"Accept: {ACCEPT}\r\n{fields}\r\n").encode()


def connect_and_ask(port, path, method="GET", receive_buffer=0):
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(120)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request(port, path, method, "Connection: close\r\n"))
    return sock


def read_head(sock):
    """Returns the status, Content-Length (or None), and the first bytes of the body."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = sock.recv(16 << 10)
        if not more:
            raise ConnectionError("closed before the end of the head")
        head += more
    head, rest = head.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
    return int(head.split(b" ", 2)[1]), int(length[1]) if length else None, rest


def download(port, path, hashed=False):
    """Fetches a body. Unless it is hashed, the kernel throws its bytes away, so that the client
    needs little CPU time on the machine that it shares with the server."""
    result, begin = Download(), time.monotonic()
    hasher = hashlib.sha256() if hashed else None
    flags = 0 if hashed else socket.MSG_TRUNC
    buffer = memoryview(bytearray(1 << 20))
    with connect_and_ask(port, path) as sock:
        result.status, result.announced, rest = read_head(sock)
        try:
            while True:
                if not rest:
                    count = sock.recv_into(buffer, 0, 0 if result.first_byte is None else flags)
                    if count == 0:
                        break
                    rest = buffer[:count]
                if result.first_byte is None:
                    result.first_byte = time.monotonic() - begin
                if hasher:
                    hasher.update(rest)
                result.received += len(rest)
                rest = b""
                if result.received == result.announced:
                    break
        except ConnectionError:
            pass
    result.seconds = time.monotonic() - begin
    result.digest = hasher.hexdigest() if hasher else None
    return result


def download_together(port, path, count):
    """Downloads with `count` clients at once; the result of a client that failed is None."""
    results = [None] * count

    def fetch(index):
        try:
            results[index] = download(port, path)
        except OSError:
            pass
    threads = [threading.Thread(target=fetch, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class SlowCrowd:
    """Many downloads in progress at once. Each client reads a little and then waits."""

    def __init__(self, port, path, count):
        self.sockets, self.fed = [], 0
        selector = selectors.DefaultSelector()
        for _ in range(count):
            sock = connect_and_ask(port, path, receive_buffer=16 << 10)
            self.sockets.append(sock)
            selector.register(sock, selectors.EVENT_READ)
        end = time.monotonic() + 60
        waiting = count
        while waiting and time.monotonic() < end:
            for key, _ in selector.select(1):
                selector.unregister(key.fileobj)
                waiting -= 1
                try:
                    self.fed += key.fileobj.recv(4096).startswith(b"HTTP/1.1 200")
                except OSError:
                    pass

    def read_on(self, seconds):
        """Each client reads 4 KiB in turn, for so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for sock in self.sockets:
                sock.setblocking(False)
                try:
                    sock.recv(4096)
                except OSError:
                    pass
            time.sleep(0.05)

    def close(self):
        for sock in self.sockets:
            sock.close()


class IdleCrowd:
    """Connections that have each had one response and send nothing more."""

    PER_ADDRESS = 5000  # connections from each of 127.0.0.2, 127.0.0.3, ...: ports are finite

    def __init__(self, server, path, count):
        self.server, self.path = server, path
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        # A handshake takes the client about two milliseconds, so they share the processors.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            self.sockets = list(pool.map(self._open, range(count)))

    def _open(self, index):
        source = f"127.0.0.{2 + index // self.PER_ADDRESS}"
        sock = socket.create_connection(("127.0.0.1", self.server.port), 20, (source, 0))
        if self.server.scheme == "https":
            sock = self.context.wrap_socket(sock)
        sock.sendall(request(self.server.port, self.path))
        _, length, body = read_head(sock)
        while len(body) < length:
            piece = sock.recv(length - len(body))
            if not piece:
                raise ConnectionError("closed before the end of the body")
            body += piece
        return sock

    def closed(self):
        """How many the server has closed."""
        poll = select.poll()
        for sock in self.sockets:
            poll.register(sock.fileno(), select.POLLIN)
        return len(poll.poll(0))

    def close(self):
        for sock in self.sockets:
            sock.close()


class Load(NamedTuple):
    """What wrk measured."""
    requests: int
    per_second: float


def load(url, connections, seconds):
    """Loads a server by wrk with keep-alive. A response other than 2xx is an error, because it
    would falsify the figure."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s",
               "-H", f"Accept: {ACCEPT}", url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"{' '.join(command)}:\n{out}")
    return Load(int(re.search(r"(\d+) requests in", out)[1]),
                float(re.search(r"Requests/sec: +([\d.]+)", out)[1]))


def curl_seconds(port, path):
    """The time that one plain curl needs."""
    begin = time.monotonic()
    subprocess.run(["curl", "-sf", "--noproxy", "*", "-o", os.devnull,
                    f"http://127.0.0.1:{port}{path}"], check=True)
    return time.monotonic() - begin
