"""Attacks whose weapon is a client: it holds, floods, walks, pretends or never ends."""

import asyncio
import base64
import contextlib

from kit.content import KIB, MIB, noise
from kit.hostile.attack import Attack, request_bytes
from kit.hostile.bad_upstreams import UpstreamAttack
from kit.malformed import mutated

CONNECTIONS = "`limits.per_client.connections`, the longest idle is closed"
REQUESTS = "`limits.per_client.requests`"
RATE = "a full socket goes back to its loop; `limits.per_client.least_rate`"
HEADS = "`head_timeout`, bounds of heads"


class SlowReaders(Attack):
    """Reads large cached blobs over thousands of connections, a few bytes a second."""

    bulkhead = RATE
    clients = 2400

    async def act(self, number):
        path = f"/v2/{self.target.repository}/blobs/{self.target.large}"
        async with self.connected(receive_buffer=4 * KIB) as connection:
            await self.send(connection, request_bytes(path))
            for _ in range(self.scaled(60)):
                if not await self.receive(connection, 500):
                    break
                await asyncio.sleep(1)
        self.count("left in the middle")


class SlowReadersOfColdBlobs(UpstreamAttack):
    """Reads blobs that are still arriving, a few bytes a second, over hundreds of connections."""

    bulkhead = RATE
    clients = 300

    def misbehave(self):
        repository = self.registry.repository("org/app")
        self.blobs = [repository.add_blob(noise(2 * MIB, f"slow {number}")) for number in range(8)]
        self.registry.fault("/blobs/", bytes_per_second=200 * KIB)

    async def act(self, number):
        async with self.connected(receive_buffer=4 * KIB) as connection:
            await self.send(connection, request_bytes(self.path(f"blobs/{self.blobs[number % 8]}")))
            for _ in range(self.scaled(30)):
                if not await self.receive(connection, 500):
                    break
                await asyncio.sleep(1)
        self.count("left in the middle")


class ConnectionHoarders(Attack):
    """Opens as many connections as there may be, from three addresses, and sends nothing or one
    request."""

    bulkhead = CONNECTIONS
    clients = 10500

    async def act(self, number):
        async with self.connected(source=self.source(number % 3)) as connection:
            if number % 4 == 0:
                await self.send(connection, request_bytes("/v2/"))
            await self.until_closed(connection, 2 + 58 * self.scale)
        self.count("held")


class Pipeliners(Attack):
    """Sends a thousand requests in one go and reads slowly, or not at all."""

    bulkhead = f"one request a connection at a time; {RATE}"
    clients = 20

    async def act(self, number):
        path = (f"/v2/{self.target.repository}/manifests/{self.target.tag}", "/metrics", "/v2/",
                "/v2/nowhere.test/a/manifests/1")[number % 4]
        crowd = request_bytes(path) * 1000
        async with self.connected(receive_buffer=4 * KIB) as connection:
            sending = asyncio.create_task(self.send(connection, crowd))
            try:
                for _ in range(self.scaled(200)):
                    if number % 5 and not await self.receive(connection, 8 * KIB):
                        break
                    await asyncio.sleep(0.05)
            finally:
                sending.cancel()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await sending
        self.count("left in the middle")


class HalfHeads(Attack):
    """Sends a head a byte at a time, and never its end."""

    bulkhead = HEADS
    clients = 500

    async def act(self, number):
        async with self.connected() as connection:
            for byte in request_bytes("/v2/")[:-2][:self.scaled(40)]:
                await self.send(connection, bytes([byte]))
                await asyncio.sleep(1)
        self.count("left")


class HeaderFloods(Attack):
    """Sends heads of thousands of fields, of megabytes, or with a target of megabytes."""

    bulkhead = HEADS
    clients = 20
    pause = 0.2

    async def act(self, number):
        flood = (b"GET /v2/ HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
                 b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + b"x" * MIB + b"\r\n\r\n",
                 b"GET /" + b"y" * MIB + b" HTTP/1.1\r\n\r\n",
                 b"GET /v2/ HTTP/1.1\r\n" + b"Range: bytes=0-1\r\n" * 90 + b"\r\n",
                 b"\r\n" * 100_000)[number % 5]
        async with self.connected() as connection:
            with contextlib.suppress(ConnectionError):
                await self.send(connection, flood)
            first = await self.until_closed(connection, 20)
        self.count(first[9:12].decode("latin-1") or "closed")


class TlsHellosOnThePlainPort(Attack):
    """Begins a TLS handshake on the port that speaks plain HTTP."""

    bulkhead = "answered in clear and closed"
    clients = 50
    pause = 0.2

    async def act(self, number):
        async with self.connected() as connection:
            await self.send(connection, CLIENT_HELLO)
            first = await self.until_closed(connection, 20)
        self.count(first[9:12].decode("latin-1") or "closed")


class StalledHandshakes(Attack):
    """Begins TLS handshakes and stops in the middle, or speaks plain HTTP on the TLS port."""

    bulkhead = "handshakes have workers and a deadline of their own"
    clients = 1000

    async def act(self, number):
        start = (CLIENT_HELLO[:number % len(CLIENT_HELLO)], b"", request_bytes("/v2/"))[number % 3]
        async with self.connected(self.target.ports["tls"]) as connection:
            await self.send(connection, start)
            await self.until_closed(connection, 1 + 29 * self.scale)
        self.count("held")


class WrongPasswords(Attack):
    """Tries thousands of wrong passwords, and goes away before they are checked."""

    bulkhead = "`limits.logins`"
    clients = 2048

    async def act(self, number):
        password = base64.b64encode(b"user:%d %d" % (number, self.chance.getrandbits(60))).decode()
        headers = f"Authorization: Basic {password}\r\n"
        if number % 4:
            async with self.connected(self.target.ports["login"]) as connection:
                await self.send(connection, request_bytes("/v2/", headers))
                await self.until_closed(connection, 0.2)
            self.count("left")
            return
        answer = await self.ask("/v2/", headers, port=self.target.ports["login"])
        if answer and answer.status == 200:
            self.wrong("a wrong password is accepted")


class RangeStorms(UpstreamAttack):
    """Asks for random ranges, many at once, of blobs that are cached and of blobs that are not."""

    bulkhead = REQUESTS
    clients = 60
    pause = 0.2
    SIZE = 2 * MIB

    def misbehave(self):
        self.contents = {}

    def _blob(self):
        if self.chance.random() < 0.02 or not self.contents:
            content = noise(self.SIZE, self.chance.random())
            repository = self.registry.repository("org/app")
            if len(self.contents) > 4:
                repository.blobs.clear()
                self.contents.clear()
            self.contents[repository.add_blob(content)] = content
        return self.chance.choice(list(self.contents.items()))

    async def act(self, number):
        digest, content = self._blob()
        first = self.chance.randrange(self.SIZE)
        last = min(self.SIZE - 1, first + self.chance.choice((0, 10, 1000, 100_000)))
        several = ", ".join(f"{at}-{at}" for at in range(0, 4000, 2))
        text = (f"{first}-{last}", f"{first}-{last}", several, "0-0")[number % 4]
        answer = await self.ask(self.path(f"blobs/{digest}"), f"Range: bytes={text}\r\n",
                                limit=4 * MIB)
        if answer and answer.status == 206 and answer.complete and text == f"{first}-{last}" \
                and answer.body != content[first:last + 1]:
            self.wrong(f"wrong bytes for the range {text}")


class EmptyRanges(UpstreamAttack):
    """Asks for no byte or for one byte of blob after blob, in every way in which that can be said,
    so that each starts a transfer."""

    bulkhead = "`limits.per_upstream.flights`, `limits.per_client.requests`"
    clients = 30
    RANGES = ("bytes=0-0", "bytes=-0", "bytes=1-0", "bytes=-1", "bytes=999999999999999999999-",
              "bytes=18446744073709551615-18446744073709551616", "bytes=,,,,0-0", "bytes=", "x=0-0",
              "bytes=0-0,0-0,0-0", "bytes=5-2,0-0", "bytes=-")

    async def act(self, number):
        repository = self.registry.repository("org/app")
        digest = repository.add_blob(b"x" * 1000 + b"%d" % self.chance.getrandbits(60))
        await self.ask(self.path(f"blobs/{digest}"),
                       f"Range: {self.chance.choice(self.RANGES)}\r\n")
        repository.blobs.pop(digest, None)


class RebindingHosts(Attack):
    """Is a web page whose name resolves to this machine: its Host field names a foreign host."""

    bulkhead = "Host is checked on loopback addresses (421)"
    clients = 20
    pause = 0.2
    HOSTS = ("evil.example", "evil.example:5000", "127.0.0.1.evil.example",
             "localhost.evil.example", "127.0.0.1@evil.example", "evil.example.",
             "[::1].evil.example", "\xe9vil.example")

    async def act(self, number):
        path = f"/v2/{self.target.repository}/manifests/{self.target.tag}"
        host = self.chance.choice(self.HOSTS)
        answer = await self.ask(path, f"Host: {host}\r\nOrigin: http://{host}\r\n")
        if answer and answer.status < 400:
            self.wrong(f"a page of {host} reads an image: {answer.status}")


class Writers(Attack):
    """Uploads without end to a cache that takes no uploads, with and without a length."""

    bulkhead = "405 and closed"
    clients = 30

    async def act(self, number):
        method = ("POST", "PUT", "PATCH", "DELETE")[number % 4]
        kind = ("Content-Length: 1099511627776", "Transfer-Encoding: chunked",
                "Content-Length: 5\r\nExpect: 100-continue")[number % 3]
        head = (f"{method} /v2/{self.target.repository}/blobs/uploads/ HTTP/1.1\r\n"
                f"Host: 127.0.0.1\r\n{kind}\r\n\r\n").encode()
        async with self.connected() as connection:
            sending = asyncio.create_task(self._upload(connection, head))
            first = await self.until_closed(connection, 10)
            sending.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await sending
        self.count(first[9:12].decode("latin-1") or "closed")

    async def _upload(self, connection, head):
        await self.send(connection, head)
        while True:
            await self.send(connection, b"1000\r\n" + b"z" * 4096 + b"\r\n")
            await asyncio.sleep(0.01)


class BrokenRequests(Attack):
    """Sends requests whose bytes are damaged at random."""

    bulkhead = "a strict parser"
    clients = 30
    pause = 0.1

    async def act(self, number):
        path = f"/v2/{self.target.repository}/manifests/{self.target.tag}"
        async with self.connected() as connection:
            with contextlib.suppress(ConnectionError):
                await self.send(connection, mutated(self.chance, request_bytes(path)))
            first = await self.until_closed(connection, 0.5)
        self.count(first[9:12].decode("latin-1") or "closed")


class Walkers(Attack):
    """Asks again and again for what costs the most: the catalog, all metrics, the page for people,
    names of C1 controls that end in the log."""

    bulkhead = "pages and lists are bounded"
    clients = 20
    pause = 0.1
    PATHS = ("/v2/_catalog?n=1&last=m", "/v2/_catalog?n=1", "/v2/_catalog", "/metrics", "/",
             "/readyz?verbose", "/tarn/v1/flights", "/v2/%C2%9B31m/app/manifests/1",
             "/v2/" + "a/" * 200)

    async def act(self, number):
        await self.ask(self.PATHS[number % len(self.PATHS)])


class LeavingClients(UpstreamAttack):
    """Asks for cold blobs and resets the connection at once, over and over."""

    bulkhead = "a request whose client has gone is dropped"
    clients = 100
    pause = 0.1

    async def act(self, number):
        repository = self.registry.repository("org/app")
        digest = repository.add_blob(noise(100 * KIB, self.chance.random()))
        async with self.connected() as connection:
            await self.send(connection, request_bytes(self.path(f"blobs/{digest}")))
            await asyncio.sleep(self.chance.choice((0, 0.01, 0.1)))
        await asyncio.sleep(0.5)
        repository.blobs.pop(digest, None)
        self.count("left")


class BusyNeighbour(Attack):
    """Asks for what is cached as fast as it can over 256 connections, as a node does that starts
    all its pods."""

    bulkhead = REQUESTS
    clients = 256
    pause = 0.02

    async def act(self, number):
        path = f"/v2/{self.target.repository}/"
        if number % 32 == 0:
            await self.ask(f"{path}blobs/{self.target.large}", limit=self.target.large_size)
        else:
            await self.ask(f"{path}manifests/{self.target.manifest_digest}")


# The start of a handshake of TLS 1.3, as OpenSSL sends it: what follows does not matter here.
CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(237))

ATTACKS = [SlowReaders, SlowReadersOfColdBlobs, ConnectionHoarders, Pipeliners, HalfHeads,
           HeaderFloods, TlsHellosOnThePlainPort, StalledHandshakes, WrongPasswords, RangeStorms,
           EmptyRanges, RebindingHosts, Writers, BrokenRequests, Walkers, LeavingClients,
           BusyNeighbour]
