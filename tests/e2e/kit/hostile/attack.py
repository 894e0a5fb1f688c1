"""
What every attack has: addresses of its own, clients, and often an upstream.

Each attack is a process (process.py), so that neither the ordinary clients nor another attack wait
for its work.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections import Counter
from dataclasses import dataclass

from kit.content import KIB, digest_of, noise
from kit.scripted_registry import ScriptedRegistry

ORDINARY = "127.0.0.9"   # the source of requests that any client might make
FEWEST = 12              # clients of an attack, unless it has fewer
PATIENCE = 40            # seconds after which a client goes away without an answer
FINDINGS = 5             # of one attack, at most

# Before an attack begins, its upstream is a good registry that holds this image as org/app:1.
LAYER = noise(64 * KIB, "bad neighbour")
LAYER_DIGEST = digest_of(LAYER)


@dataclass
class Target:
    """What is attacked: the ports of the tarns, and what they have cached."""

    ports: dict              # "open", "login", "tls"
    repository: str
    tag: str
    manifest_digest: str
    large: str               # the digest of a large blob
    large_size: int


@dataclass
class Answer:
    """A response, as far as it arrived."""

    status: int
    head: str
    body: bytes
    complete: bool

    def field(self, name):
        match = re.search(rf"^{name}:\s*(.*?)\s*$", self.head, re.IGNORECASE | re.MULTILINE)
        return match.group(1) if match else None


class Attack:
    """
    One bad neighbour. The first sentence of a subclass's docstring says what it does.

    `clients` of them run side by side; each calls act() again and again. The upstream, if there is
    one, has the host NAME.test and begins to misbehave() when the attack begins.
    """

    bulkhead = ""        # what protects the others from it
    clients = 1
    pause = 1.0          # seconds between two calls of act() by the same client
    has_upstream = is_primed = False
    settings = {}        # of its upstream's entry in the configuration
    registry_class = ScriptedRegistry

    def __init__(self, number, scale):
        self.number, self.scale = number, scale
        self.chance = random.Random(number)
        self.answers = Counter()    # statuses, or words where there was no status -> times
        self.findings = {}          # what no client should ever get -> times
        self.target, self.acted, self.is_ending = None, set(), False
        self.last_end = ""
        self.registry = self.registry_class() if self.has_upstream else None
        if self.registry:
            self.prepare()

    # ---- for subclasses

    def prepare(self):
        """The content of the upstream while it is still good."""
        self.registry.image("org/app", [LAYER], tag="1")

    def misbehave(self):
        """Called when the attack begins."""

    async def act(self, number):
        """What the client of this number does once."""

    # ---- names

    @classmethod
    def name(cls):
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def host(cls):
        return f"{cls.name()}.test"

    @classmethod
    def does(cls):
        """Its one sentence."""
        return " ".join(cls.__doc__.split(". ")[0].split()).rstrip(".")

    @classmethod
    def entries(cls, port, _directory):
        """The entries of its upstreams in the configuration of the open tarn."""
        if port is None:
            return []
        return [{"host": cls.host(), "url": f"http://127.0.0.1:{port}", **cls.settings}]

    def source(self, client=0):
        """The address of a client. Most attacks have one address."""
        return f"127.1.{self.number}.{1 + client}"

    def path(self, rest, repository="org/app"):
        """The target of a request to its own upstream."""
        return f"/v2/{self.host()}/{repository}/{rest}"

    def crowd(self):
        """How many clients there are: also in a small scene enough for each of their ways."""
        return max(min(self.clients, FEWEST), round(self.clients * self.scale))

    def scaled(self, count):
        """How often something is done: in a small scene less often."""
        return max(1, round(count * self.scale))

    def made_up(self, *parts):
        """A digest that nothing has."""
        return digest_of(" ".join(str(part) for part in (self.number, *parts)).encode())

    # ---- findings

    def wrong(self, what):
        if what in self.findings or len(self.findings) < FINDINGS:
            self.findings[what] = self.findings.get(what, 0) + 1

    def count(self, what):
        self.answers[str(what)] += 1

    # ---- connections

    @contextlib.asynccontextmanager
    async def connected(self, port=None, source=None, receive_buffer=None):
        """A connected socket, which is reset in the end."""
        with socket.socket() as connection:
            connection.setblocking(False)
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.bind((source or self.source(), 0))
            await asyncio.get_running_loop().sock_connect(
                connection, ("127.0.0.1", port or self.target.ports["open"]))
            try:
                yield connection
            finally:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @staticmethod
    async def send(connection, data):
        await asyncio.get_running_loop().sock_sendall(connection, data)

    @staticmethod
    async def receive(connection, size=1 << 16):
        return await asyncio.get_running_loop().sock_recv(connection, size)

    async def until_closed(self, connection, seconds):
        """Reads and drops what comes until the other side closes, for so many seconds at most;
        returns the first bytes."""
        first = b""
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                while piece := await self.receive(connection):
                    first = first or piece
        return first

    async def ask(self, target, headers="", method="GET", limit=1 << 20, **where):
        """One request on a connection of its own, with the answer counted; None without one, and
        `last_end` says why.
        `limit` is how much of the body is read."""
        request = request_bytes(target, headers, method, "close")
        try:
            async with asyncio.timeout(PATIENCE), self.connected(**where) as connection:
                await self.send(connection, request)
                answer = await self._read_answer(connection, method, limit)
        except asyncio.TimeoutError:
            self.count("silence")
            self.last_end = f"not answered within {PATIENCE} s"
            return None
        self.count(answer.status if answer else "closed")
        self.last_end = "answered" if answer else "closed without an answer"
        return answer

    async def _read_answer(self, connection, method, limit):
        got = b""
        while b"\r\n\r\n" not in got:
            piece = await self.receive(connection)
            if not piece:
                return None
            got += piece
        head, _, rest = got.partition(b"\r\n\r\n")
        answer = Answer(int(head.split(b" ", 2)[1]), head.decode("latin-1"), b"", False)
        length = 0 if method == "HEAD" else int(answer.field("Content-Length") or limit)
        body = bytearray(rest)
        with contextlib.suppress(ConnectionError):
            while len(body) < min(length, limit):
                piece = await self.receive(connection)
                if not piece:
                    break
                body += piece
        answer.body, answer.complete = bytes(body), len(body) == length
        return answer

    async def ask_as_anybody(self, target, headers="", **more):
        """The request of an ordinary client, who shares no address with the attack."""
        return await self.ask(target, headers, source=ORDINARY, **more)

    async def check_kept(self):
        """What was cached before the upstream turned bad is served all the same."""
        answer = await self.ask_as_anybody(self.path("manifests/1"), "Accept: */*\r\n")
        right = self.registry.repository("org/app")
        right = right.manifests[right.tags["1"]][0]
        if self.is_ending and (answer is None or answer.status == 503):
            return  # tarn ends
        if answer is None:
            self.wrong(f"a cached tag of the upstream that turned bad is {self.last_end}")
        elif answer.status != 200:
            self.wrong("a cached tag of the upstream that turned bad is "
                       f"{answer.status}: {answer.body[:200]}")
        elif answer.complete and answer.body != right:
            self.wrong(f"a cached tag has other bytes: {answer.body[:200]}")

    # ---- the process

    async def run(self, pipe):
        """Acts until it is told to end. Before that it is told when tarn is."""
        self.pipe, loop = pipe, asyncio.get_running_loop()
        clients = [asyncio.create_task(self._client(number))
                   for number in range(self.crowd())]
        with contextlib.suppress(EOFError):
            while await loop.run_in_executor(None, pipe.recv) == "tarn ends":
                self.is_ending = True
                pipe.send(("knows of the end", True))
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, number):
        while True:
            try:
                await self.act(number)
            except ConnectionRefusedError:
                pass  # tarn ends
            except OSError as error:
                self.count(type(error).__name__)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a defect of the attack is reported too
                self.wrong(f"{type(error).__name__}: {error}")
            if number not in self.acted:
                self.acted.add(number)
                if len(self.acted) == self.crowd():
                    self.pipe.send(("acted", True))
            if self.registry and number == 0:
                self.registry.forget_ended()
            await asyncio.sleep(self.pause)


def request_bytes(target, headers="", method="GET", connection="keep-alive"):
    """A request whose Host field names this machine, unless `headers` do."""
    if "Host:" not in headers:
        headers = f"Host: 127.0.0.1\r\n{headers}"
    return (f"{method} {target} HTTP/1.1\r\n{headers}Connection: {connection}\r\n\r\n"
            ).encode("latin-1")
