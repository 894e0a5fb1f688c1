"""Streams that break the rules: requests and responses that are damaged by a seed."""

import random
import socket
import struct
import threading

from kit.processes import bound

JUNK = (b"", b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\xff\xfe", b"%00", b"..",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"A" * 9000, b"a: b\r\n" * 100, b"HTTP/1.1 ", b"18446744073709551616", b"-1", b"0x10", b"{}",
        b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n")


def mutated(chance, stream):
    """`stream` with up to four damages: bytes changed, removed, doubled, swapped, added."""
    stream = bytearray(stream)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 4))):
        at = chance.randrange(len(stream) + 1)
        length = chance.choice((1, 1, 2, 5, 30))
        kind = chance.randrange(6)
        if kind == 0 and at < len(stream):
            stream[at] = chance.randrange(256)
        elif kind == 1:
            del stream[at:at + length]
        elif kind == 2:
            stream[at:at] = stream[at:at + length]
        elif kind == 3:
            stream[at:at] = chance.choice(JUNK)
        elif kind == 4:
            stream[at:] = b""
        else:
            to = chance.randrange(len(stream) + 1)
            piece = stream[at:at + length]
            del stream[at:at + length]
            stream[to:to] = piece
    return bytes(stream)


def reset(connection):
    """Resets the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def send_oddly(chance, connection, stream):
    """Sends the bytes in pieces, large or single."""
    size = chance.choice((len(stream) or 1, len(stream) or 1, 100, 7, 1))
    if len(stream) > 2000:
        size = max(size, 1000)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(stream), size):
        connection.sendall(stream[at:at + size])


class ScriptedUpstream:
    """
    Sends for each request the bytes that `answer(method, target)` returns; None: resets. Closes the
    connection after that unless `keep` is set.
    """

    def __init__(self, answer):
        self.answer, self.keep, self.failures = answer, False, []
        self.chance = random.Random(0)
        self.listener = bound("127.0.0.1", 0)
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(20)
        try:
            with connection:
                while self._serve_one(connection):
                    pass
        except OSError:
            pass  # tarn may close the connection
        except Exception as failure:  # shown by the test
            self.failures.append(failure)

    def _serve_one(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(1 << 16)
            if not piece:
                return False
            head += piece
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        stream = self.answer(method, target)
        if stream is None:
            reset(connection)
            return False
        send_oddly(self.chance, connection, stream)
        return self.keep
