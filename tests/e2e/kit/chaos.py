"""A proxy in front of a real registry. Whatever can go wrong on a network goes wrong, by a seed."""

import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass

from kit.content import KIB, MIB
from kit.origin import Origin

PIECE = 64 * KIB
HEAD_MAX = 64 * KIB


@dataclass(frozen=True)
class Weather:
    """What may go wrong with responses. The same seed and requests cause the same faults."""

    seed: str = ""
    share: float = 0.0       # of the responses with a fault
    corrupt: bool = False    # whether bytes of a blob may be wrong
    refusals: bool = False   # whether it refuses connections now and then


CALM = Weather()
KINDS = ("cut", "reset", "stall", "throttle", "delay")


class Misfortune:
    """The fault of one response with a body of `length` bytes."""

    def __init__(self, weather, request_key, is_blob, length):
        chance = random.Random(f"{weather.seed} {request_key}")
        kinds = KINDS + ("flip",) * (weather.corrupt and is_blob and length > 0)
        self.kind = chance.choice(kinds) if chance.random() < weather.share else None
        # Often early or late, because programs are most often wrong at the first and last bytes.
        self.place = chance.choice([0, max(0, length - 1), chance.randrange(max(1, length)),
                                    chance.randrange(max(1, length))])
        self.seconds = chance.choice([0.1, 0.4, 1.6, 2.5])
        self.rate = chance.choice([MIB // 2, 2 * MIB, 6 * MIB])


class ChaosProxy:
    """Forwards HTTP/1.1 requests without bodies to the origin. `weather` may change at any time."""

    def __init__(self, origin: Origin):
        self.origin = origin
        self.weather = CALM
        self.befallen = Counter()       # kind -> times
        self.corrupted = set()          # digests of which a wrong byte was sent
        self.times_asked = Counter()
        self.lock = threading.Lock()    # of the three above
        # Holds the port while nothing listens on it: this socket is bound and never listens.
        self.holder = self._bound(0)
        self.port = self.holder.getsockname()[1]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.stopping.set()
        self.thread.join(10)
        self.holder.close()

    # ---- accepting, or refusing

    @staticmethod
    def _bound(port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def _accept(self):
        chance, listener = random.Random(), None
        while not self.stopping.is_set():
            weather = self.weather
            chance.seed(f"{weather.seed} refusals")
            while weather is self.weather and not self.stopping.is_set():
                if listener is None:
                    listener = self._bound(self.port)
                    listener.listen(64)
                self._accept_for(listener, chance.uniform(0.2, 1.5), weather)
                if weather.refusals and weather is self.weather:
                    listener.close()
                    listener = None
                    with self.lock:
                        self.befallen["refuse"] += 1
                    self.stopping.wait(chance.uniform(0.05, 0.4))
        if listener:
            listener.close()

    def _accept_for(self, listener, seconds, weather):
        end = time.monotonic() + seconds
        while time.monotonic() < end and weather is self.weather and not self.stopping.is_set():
            if select.select([listener], [], [], 0.05)[0]:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    # ---- forwarding

    def _serve(self, client):
        with client, socket.socket() as upstream:
            for end in (client, upstream):
                end.settimeout(30)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                upstream.connect(("127.0.0.1", self.origin.port))
                while self._forward(client, upstream):
                    pass
            except OSError:
                pass  # one side has left, so the other connection is closed too

    def _forward(self, client, upstream):
        """Forwards one request and its response; False when the connection ends with it."""
        request, _ = read_head(client)
        if not request:
            return False
        upstream.sendall(request)
        answer, body = read_head(upstream)
        if not answer:
            return False
        method, target, _ = request.split(b"\r\n", 1)[0].decode().split(" ", 2)
        length = 0 if method == "HEAD" else int(field(answer, "content-length") or 0)
        misfortune = self._befall(target, field(request, "range"), length)
        if misfortune.kind == "delay":
            time.sleep(misfortune.seconds)
        client.sendall(answer)
        return self._send_body(client, upstream, body, length, misfortune)

    def _befall(self, target, byte_range, length):
        key = f"{target} {byte_range}"
        is_blob = "/blobs/" in target
        with self.lock:
            weather = self.weather
            self.times_asked[weather.seed, key] += 1
            misfortune = Misfortune(weather, f"{key} {self.times_asked[weather.seed, key]}",
                                    is_blob, length)
            if misfortune.kind:
                self.befallen[misfortune.kind] += 1
            if misfortune.kind == "flip":
                self.corrupted.add(target.rpartition("/")[2].partition("?")[0])
        return misfortune

    def _send_body(self, client, upstream, piece, length, misfortune):
        kind, place, sent = misfortune.kind, misfortune.place, 0
        if length == 0 and kind in ("cut", "reset"):
            return self._leave(client, kind)
        while sent < length:
            if not piece:
                piece = upstream.recv(min(PIECE, length - sent))
            if not piece:
                return False
            if sent <= place < sent + len(piece):
                before = piece[:place - sent]
                if kind in ("cut", "reset"):
                    client.sendall(before)
                    return self._leave(client, kind)
                if kind == "stall":
                    client.sendall(before)
                    time.sleep(misfortune.seconds)
                    piece, sent = piece[len(before):], place
                if kind == "flip":
                    piece = before + bytes([piece[place - sent] ^ 0x20]) + piece[place - sent + 1:]
            client.sendall(piece)
            sent += len(piece)
            if kind == "throttle":
                time.sleep(len(piece) / misfortune.rate)
            piece = b""
        return True

    @staticmethod
    def _leave(client, kind):
        if kind == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def read_head(connection):
    """The head of a message with its empty line, and the bytes after it; empty when it closed."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(PIECE)
        if not piece or len(got) > HEAD_MAX:
            return b"", b""
        got += piece
    head, end, rest = got.partition(b"\r\n\r\n")
    return head + end, rest


def field(head, name):
    """The value of a field in a head; None when it is not there."""
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None
