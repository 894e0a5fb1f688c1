"""Attacks whose weapon is an upstream: it is silent, slow, absurd, or lies."""

import json
import socket
import time

from kit.content import (KIB, MIB, OCI_INDEX, OCI_MANIFEST, OCTETS, descriptor, digest_of, manifest,
                         noise)
from kit.hostile.attack import LAYER, LAYER_DIGEST, Attack, request_bytes
from kit.processes import bound
from kit.scripted_registry import ScriptedRegistry

BREAKER = "breaker of the upstream"
WAITING = "`limits.per_upstream.waiting`"
FLIGHTS = "`limits.per_upstream.flights`"
RETRY = "the rule of trying again"
DEADLINE = "the deadline of a request"
FIFO = "fifo"    # in the directory of the scene, which makes it


class UpstreamAttack(Attack):
    """An attack with an upstream."""

    has_upstream = True
    is_primed = True    # whether the image of its upstream is in the cache before it begins

    async def ask_for_everything(self, number):
        """One of the requests that clients make: the same tag, other tags, blobs, lists."""
        rest = ("manifests/1", "manifests/2", f"manifests/{number}", f"blobs/{LAYER_DIGEST}",
                f"blobs/{self.made_up(number)}", "tags/list", f"referrers/{self.made_up(1)}",
                f"manifests/{self.made_up(number)}")[number % 8]
        await self.ask(self.path(rest, f"org/app{number % 5 or ''}"))


class SilentUpstream(UpstreamAttack):
    """Takes every request and never answers, while thousands of clients ask for tags, blobs, lists
    and referrers."""

    bulkhead = f"{WAITING}, {FLIGHTS}, {BREAKER}"
    clients = 2100

    def misbehave(self):
        self.registry.fault(".", black_hole=True, method=None)

    async def act(self, number):
        if number % 100 == 0:
            await self.check_kept()
        else:
            await self.ask_for_everything(number)


class SilentForBlobs(UpstreamAttack):
    """Has manifests of hundreds of layers but never sends a blob, while hundreds of clients each
    want another one and tarn is told to prefetch them."""

    bulkhead = FLIGHTS
    clients = 520
    settings = {"prefetch": True}

    def misbehave(self):
        self.registry.fault("/blobs/", black_hole=True, method=None)
        layers = [descriptor(b"%d" % number, OCTETS) for number in range(300)]
        self.many = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
                                "config": descriptor(b"{}", OCTETS), "layers": layers}).encode()

    async def act(self, number):
        if number % 10 == 0:
            tag = f"t{number}"
            self.registry.repository("org/app").add_manifest(self.many, tag=tag)
            await self.ask(self.path(f"manifests/{tag}"))
        await self.ask(self.path(f"blobs/{self.made_up(number, self.chance.random())}"))


class UpstreamThatAcceptsNobody(UpstreamAttack):
    """Lets every new connection wait for ever, as a host behind a firewall does."""

    bulkhead = f"`connect_timeout`, {BREAKER}"
    clients = 200

    def misbehave(self):
        self.registry.refuse()
        self.listener = bound(self.registry.host, self.registry.port)
        self.listener.listen(0)
        self.queue = []
        for _ in range(2):  # these fill the queue of connections that wait to be accepted
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex((self.registry.host, self.registry.port))
            self.queue.append(waiting)

    async def act(self, number):
        await self.ask_for_everything(number)


class UpstreamThatRefuses(UpstreamAttack):
    """Refuses every connection."""

    bulkhead = BREAKER
    clients = 200

    def misbehave(self):
        self.registry.refuse()

    async def act(self, number):
        if number == 0:
            await self.check_kept()
        await self.ask_for_everything(number)


class UpstreamThatResets(UpstreamAttack):
    """Resets each connection, before a response or in the middle of a blob."""

    bulkhead = RETRY
    clients = 20

    def misbehave(self):
        self.registry.fault("/blobs/", reset_after=20 * KIB)
        self.registry.fault(".", reset=True, method=None)

    async def act(self, number):
        await self.ask_for_everything(number)


class DrippingUpstream(UpstreamAttack):
    """Sends a byte every two seconds of each manifest, list and blob."""

    bulkhead = DEADLINE
    clients = 60

    def misbehave(self):
        self.registry.fault(".", piece=1, bytes_per_second=0.5, method=None)

    async def act(self, number):
        await self.ask_for_everything(number)


class SilentTlsUpstream(UpstreamAttack):
    """Is said to speak TLS, and takes connections without a word of a handshake."""

    is_primed = False
    bulkhead = f"`connect_timeout`, {BREAKER}"
    clients = 100

    class Registry(ScriptedRegistry):
        """A registry that reads nothing."""

        def _serve(self, name, connection):
            with connection:
                self.stopping.wait()

    registry_class = Registry

    @classmethod
    def entries(cls, port, _directory):
        return [{"host": cls.host(), "url": f"https://127.0.0.1:{port}"}]

    async def act(self, number):
        await self.ask_for_everything(number)


class SilentTokenService(UpstreamAttack):
    """Wants a token from a service that never answers."""

    bulkhead = f"{WAITING}, {DEADLINE}"
    clients = 200

    def misbehave(self):
        self.registry.fault("^/token", black_hole=True)
        self.registry.fault(".", status=401, method=None, headers={"WWW-Authenticate": (
            f'Bearer realm="{self.registry.url}/token",service="fake"')})

    async def act(self, number):
        if number == 0:
            await self.check_kept()
        await self.ask_for_everything(number)


class FifoPassword(UpstreamAttack):
    """Has a FIFO as password file, so that whoever reads the password waits for ever."""

    is_primed = False
    bulkhead = "only regular files are read"
    clients = 50

    @classmethod
    def entries(cls, port, directory):
        return [{"host": cls.host(), "url": f"http://127.0.0.1:{port}", "credentials": {
            "username": "somebody", "password_file": str(directory / FIFO)}}]

    def misbehave(self):
        self.registry.basic = ("somebody", "secret")

    async def act(self, number):
        await self.ask_for_everything(number)


class RangeNotSatisfiable(UpstreamAttack):
    """Answers 416 to everything, also to a GET without a range."""

    bulkhead = RETRY
    clients = 30

    def misbehave(self):
        self.registry.fault(".", status=416, method=None)

    async def act(self, number):
        if number == 0:
            await self.check_kept()
        await self.ask_for_everything(number)


class NotModifiedForEverybody(UpstreamAttack):
    """Answers 304 or 206 to everything, whatever was asked."""

    bulkhead = RETRY
    clients = 20

    def misbehave(self):
        self.registry.fault("/manifests/|/tags/", status=304, method=None)
        self.registry.fault(".", status=206, method=None, body=b"x" * 100,
                            headers={"Content-Range": "bytes 5-104/1000"})

    async def act(self, number):
        await self.ask_for_everything(number)


class LaterInMidBlob(UpstreamAttack):
    """Cuts each blob in the middle and then answers 503 with `Retry-After: 3600`."""

    bulkhead = RETRY
    clients = 40

    def misbehave(self):
        repository = self.registry.repository("org/app")
        self.blobs = [repository.add_blob(noise(MIB, f"later {number}")) for number in range(40)]
        for digest in self.blobs:
            self.registry.fault(digest, cut_after=256 * KIB, times=1)
        self.registry.fault("/blobs/", status=503, headers={"Retry-After": "3600"}, method=None)

    async def act(self, number):
        await self.ask(self.path(f"blobs/{self.chance.choice(self.blobs)}"))


class LimitOfADay(UpstreamAttack):
    """Answers 429 with `Retry-After: 86400` for one repository; another one must still be asked."""

    bulkhead = "a 429 counts for what was asked"
    clients = 20

    def prepare(self):
        super().prepare()
        self.registry.image("org/other", [LAYER], tag="1")

    def misbehave(self):
        self.registry.fault("/org/app", status=429, headers={"Retry-After": "86400"}, method=None)

    async def act(self, number):
        if number:
            await self.ask_for_everything(number)
            return
        await self.check_kept()
        name = f"tag-{self.chance.random()}"
        other = self.registry.repository("org/other")
        text = manifest(b"{}", [LAYER], annotations={"tag": name})
        other.add_manifest(text, OCI_MANIFEST, name)
        answer = await self.ask_as_anybody(self.path(f"manifests/{name}", "org/other"),
                                           "Accept: */*\r\n")
        if answer and answer.status == 429:
            self.wrong("a 429 to one repository silences another one")


class ClaimedSizes(UpstreamAttack):
    """Announces terabytes, sends one byte and is silent, so that everything makes room for it."""

    bulkhead = "space is reserved as bytes arrive"
    clients = 10

    def misbehave(self):
        self.registry.fault("/blobs/", method="HEAD", content_length=1 << 40)
        self.registry.fault("/blobs/", content_length=1 << 40, hold_after=1, ignore_range=True)
        self.registry.fault("/manifests/huge", status=200, method=None, headers={
            "Content-Type": OCI_MANIFEST}, body=json.dumps({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCTETS, "digest": self.made_up("config"),
                           "size": 1 << 40},
                "layers": [{"mediaType": OCTETS, "digest": self.made_up("layer", number),
                            "size": 1 << 40} for number in range(1000)]}).encode())

    async def act(self, number):
        await self.ask(self.path("manifests/huge"))
        await self.ask(self.path(f"blobs/{LAYER_DIGEST}"))
        await self.ask(self.path(f"blobs/{self.made_up('layer', number)}"))


class RefusedBlobs(UpstreamAttack):
    """Refuses blob after blob, each with another digest: 403, 404, 500, or a wrong byte."""

    bulkhead = "no files for a blob without bytes"
    clients = 30
    pause = 0.1

    def misbehave(self):
        for last, status in (("[0-3]$", 403), ("[4-7]$", 500), ("[89]$", 503)):  # others: 404
            self.registry.fault(f"/blobs/.*{last}", method=None, status=status)

    async def act(self, number):
        digest = self.made_up(number, self.chance.random())
        if number % 3 == 0:
            blobs = self.registry.repository("org/app").blobs
            blobs.clear()
            blobs[digest] = b"these bytes have another digest" * 100
        answer = await self.ask(self.path(f"blobs/{digest}"))
        if answer and answer.status == 200 and answer.complete:
            self.wrong("a whole blob of wrong bytes")


class MadeUpHosts(UpstreamAttack):
    """Asks for hosts that nobody has and that a pattern of the configuration matches; real hosts of
    a pattern must still be reached."""

    is_primed = False
    bulkhead = "nothing lasts for a host that never answered"
    clients = 40
    pause = 0.2

    @classmethod
    def entries(cls, port, _directory):
        return [{"host": "*.made-up.invalid"},
                {"host": "*.wild.test", "url": f"http://127.0.0.1:{port}"}]

    async def act(self, number):
        host = f"h{self.chance.getrandbits(60):x}"
        if number == 0:
            answer = await self.ask_as_anybody("/v2/real.wild.test/org/app/manifests/1")
            if answer and answer.status == 404:
                self.wrong(f"a real host of a pattern is 404: {answer.body[:200]}")
        elif number % 4 == 1:
            await self.ask(f"/v2/{host}.wild.test/org/none/manifests/1")
        else:
            await self.ask(f"/v2/{host}.made-up.invalid/org/app/manifests/1")


class EndlessLists(UpstreamAttack):
    """Lists tags without end, 15 MiB a page, and so do its referrers and its catalog."""

    bulkhead = "bound of a list"
    clients = 6

    class Registry(ScriptedRegistry):
        """A registry whose every page is large and names a next one."""

        pages = 0

        def _tags(self, request, repository):
            if not self.pages:
                return super()._tags(request, repository)
            self.pages += 1
            names = ",".join(f'"t{self.pages:06}-{number:06}-{"x" * 110}"'
                             for number in range(120_000))
            return 200, {"Content-Type": "application/json",
                         "Link": f'</v2/{repository.name}/tags/list?last=p{self.pages}>; '
                                 'rel="next"'}, \
                f'{{"name":"{repository.name}","tags":[{names}]}}'.encode()

        def _referrers(self, request, repository, digest):
            page = [{"mediaType": OCI_MANIFEST, "digest": digest_of(b"%d" % number),
                     "size": number} for number in range(50_000)]
            return 200, {"Content-Type": OCI_INDEX}, json.dumps(
                {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page}).encode()

    registry_class = Registry

    def misbehave(self):
        self.registry.pages = 1

    async def act(self, number):
        rest = ("tags/list", "tags/list?n=1", f"referrers/{self.made_up(number)}")[number % 3]
        await self.ask(self.path(rest, "org/app"), limit=64 * MIB)


class Portal(UpstreamAttack):
    """Answers 200 with a page or with JSON of its own to everything, as the login page of a network
    does."""

    bulkhead = "an answer counts when it looks like the registry's"
    clients = 10

    def misbehave(self):
        self.registry.fault("/manifests/", status=200, method=None, body=b'{"login":"required"}',
                            headers={"Content-Type": "application/json"},
                            when=lambda request: time.monotonic() % 2 < 1)
        self.registry.fault(".", status=200, method=None,
                            body=b"<html><script>alert(document.domain)</script></html>",
                            headers={"Content-Type": "text/html"})

    async def act(self, number):
        if number == 0:
            await self.check_kept()
            return
        answer = await self.ask(self.path("manifests/1" if number % 2 else f"manifests/{number}"),
                                "Accept: */*\r\n")
        if answer and answer.status == 200 and b"login" in answer.body + b"script":
            if b'"login"' in answer.body or b"<script>" in answer.body:
                self.wrong(f"the page of a portal is served as a manifest: {answer.body[:100]}")


class DefaultBackend(UpstreamAttack):
    """Answers `404 default backend` to everything, as a load balancer without a registry does."""

    bulkhead = "a 404 counts when it looks like the registry's"
    clients = 10

    def misbehave(self):
        self.registry.fault(".", status=404, body=b"default backend - 404", method=None,
                            headers={"Content-Type": "text/plain"})

    async def act(self, number):
        if number == 0:
            await self.check_kept()
        else:
            await self.ask_for_everything(number)


class LesserMirror(UpstreamAttack):
    """Fails with 503 or 429, while its mirror answers 404 to everything."""

    bulkhead = "a mirror's 404 outweighs no failure"
    clients = 10

    @classmethod
    def entries(cls, port, _directory):
        return [{"host": cls.host(), "url": f"http://127.0.0.1:{port}",
                 "fallbacks": [f"http://127.0.0.1:{port}/mirror"]}]

    def misbehave(self):
        self.registry.fault("^/mirror", status=404, method=None, body=json.dumps(
            {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode(),
            headers={"Content-Type": "application/json"})
        self.registry.fault("/manifests/[0-4]", status=429, method=None)
        self.registry.fault(".", status=503, method=None)

    async def act(self, number):
        if number == 0:
            await self.check_kept()
        else:
            await self.ask_for_everything(number)


class OddMediaTypes(UpstreamAttack):
    """Gives its manifests media types with bytes that are no ASCII, or those of a web page."""

    bulkhead = "media types are checked; `nosniff`"
    clients = 10
    TYPES = ("application/vnd.oci.image.manifest.v1+json\xe9", "text/html", "image/svg+xml",
             "text/html; charset=utf-7", "x" * 8000, "", "application/\x9bjson", '"', "text/\tx")

    def misbehave(self):
        self.registry.repository("org/app").tags.clear()

    async def act(self, number):
        repository = self.registry.repository("org/app")
        tag = f"t{number}-{self.chance.getrandbits(40):x}"
        text = manifest(b"{}", [LAYER], annotations={"tag": tag, "page": "<script>1</script>"})
        repository.add_manifest(text, self.chance.choice(self.TYPES), tag)
        answer = await self.ask(self.path(f"manifests/{tag}"), "Accept: */*\r\n")
        if answer and answer.status == 200:
            media_type = (answer.field("Content-Type") or "").lower()
            if media_type.startswith(("text/html", "image/svg")):
                self.wrong(f"a manifest with Content-Type {media_type!r} is handed on")
            if answer.field("X-Content-Type-Options") != "nosniff":
                self.wrong("a manifest without nosniff")
        if len(repository.tags) > 200:
            repository.tags.clear()
            repository.manifests.clear()


class InnerRedirects(UpstreamAttack):
    """Redirects blobs to addresses inside: metadata servers, other schemes, files of this
    machine."""

    bulkhead = "redirects are checked by address"
    clients = 10
    PLACES = ("http://169.254.169.254/computeMetadata/v1/", "http://[fd20:ce::254]/",
              "http://[fd00:ec2::254]/latest/", "http://100.100.100.200/latest/meta-data/",
              "http://168.63.129.16/", "http://192.0.0.192/", "http://metadata.google.internal/",
              "http://[::ffff:169.254.169.254]/", "http://2852039166/", "file:///etc/passwd",
              "gopher://127.0.0.1:11211/x", "ftp://127.0.0.1/", "dict://127.0.0.1:11211/",
              "http://0x7f.1:1/", "//", "http://", "http://user:pass@127.0.0.1:1/", "a" * 9000)

    def misbehave(self):
        for number, place in enumerate(self.PLACES):
            self.registry.fault(f"/blobs/sha256:{number:02x}", status=(301, 302, 303, 307, 308)
                                [number % 5], method=None, headers={"Location": place})

    async def act(self, number):
        which = self.chance.randrange(len(self.PLACES))
        digest = f"sha256:{which:02x}{self.made_up(number, self.chance.random())[9:]}"
        where = self.chance.choice(("", "Range: bytes=0-0\r\n", "Range: bytes=5-\r\n"))
        answer = await self.ask(self.path(f"blobs/{digest}"), where)
        if answer and answer.status in (200, 206):
            self.wrong(f"a redirect to {self.PLACES[which]} is followed: {answer.body[:100]}")


class RedirectLoops(UpstreamAttack):
    """Redirects everything to itself, each time to another path."""

    bulkhead = "bound of redirects"
    clients = 10

    class Registry(ScriptedRegistry):
        """A registry that never stops to redirect."""

        bad, turns = False, 0

        def _find(self, request, body):
            if not self.bad:
                return super()._find(request, body)
            self.turns += 1
            return 307, {"Location": f"{self.url}{request.path}?turn={self.turns}"}, b""

    registry_class = Registry

    def misbehave(self):
        self.registry.bad = True

    async def act(self, number):
        await self.ask_for_everything(number)


class EndlessResponses(UpstreamAttack):
    """Sends heads, interim responses or manifests that never end."""

    bulkhead = "bounds of heads and small bodies"
    clients = 24

    def misbehave(self):
        for path, start, again in (
                ("/manifests/", b"HTTP/1.1 200 OK\r\n", b"X-More: %s\r\n" % (b"x" * 1000)),
                ("/tags/", b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
                ("/referrers/", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[",
                 b"[" * 1000),
                ("/blobs/", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                 b"1;%s\r\nx\r\n" % (b"x" * 2000))):
            self.registry.fault(path, method=None, takeover=lambda connection, stopped, start=start,
                                again=again: send_endlessly(connection, stopped, start, again))

    async def act(self, number):
        await self.ask_for_everything(number)


def send_endlessly(connection, stopped, start, again):
    connection.sendall(start)
    while not stopped():
        connection.sendall(again)
        time.sleep(0.01)


class ManyManifests(UpstreamAttack):
    """Has a small manifest for every tag, while clients pull tag after tag: many files, few
    bytes."""

    bulkhead = "`max_size` counts what the disk says"
    clients = 20
    pause = 0.05

    class Registry(ScriptedRegistry):
        """A registry that has every tag."""

        def _manifest(self, repository, reference):
            text = manifest(b"{}", [], annotations={"tag": reference})
            return 200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest_of(text)}, \
                text

    registry_class = Registry

    def misbehave(self):
        for number in range(200):
            self.registry.repository(f"org/app-{number}")

    async def act(self, number):
        repository = f"org/app-{self.chance.randrange(200)}"
        await self.ask(self.path(f"manifests/t{self.chance.getrandbits(60):x}", repository))


class ManySmallBlobs(UpstreamAttack):
    """Has a blob of a few bytes for every digest that clients ask for, again and again."""

    bulkhead = "`max_size` counts what the disk says"
    clients = 10
    pause = 0.05

    async def act(self, number):
        content = b"%d %x" % (number, self.chance.getrandbits(60))
        repository = self.registry.repository("org/app")
        digest = repository.add_blob(content)
        answer = await self.ask(self.path(f"blobs/{digest}"))
        if answer and answer.status == 200 and answer.complete and answer.body != content:
            self.wrong(f"other bytes for {digest}: {answer.body}")
        repository.blobs.pop(digest, None)


class LyingUpstream(UpstreamAttack):
    """Sends blobs with a wrong byte, a wrong length or a wrong range."""

    bulkhead = "no last byte before the digest is right"
    clients = 20

    def misbehave(self):
        repository = self.registry.repository("org/app")
        self.contents = [noise(300 * KIB, f"lie {number}") for number in range(12)]
        lies = [{"flip": 299 * KIB}, {"flip": 0}, {"extra": b"more"}, {"content_length": 10 * MIB},
                {"cut_after": 100}, {"content_range": "bytes 0-0/1"}, {"etag": '"other"'},
                {"content": b"short"}, {"chunked": True, "flip": 5}, {"until_close": True},
                {"content_length": 5}, {"ignore_range": True, "flip": 70_000}]
        for content, lie in zip(self.contents, lies):
            self.registry.fault(repository.add_blob(content), **lie)

    async def act(self, number):
        content = self.chance.choice(self.contents)
        answer = await self.ask(self.path(f"blobs/{digest_of(content)}"))
        if answer and answer.status == 200 and answer.complete and answer.body != content:
            self.wrong("a whole blob of wrong bytes")


class SlowUpstreamWithImpatientClients(UpstreamAttack):
    """Takes a second for each answer, while its clients ask, leave at once and ask again."""

    bulkhead = "a request whose client has gone is dropped"
    clients = 300

    def misbehave(self):
        self.registry.fault(".", delay=1, method=None)

    async def act(self, number):
        target = self.path(f"manifests/t{self.chance.getrandbits(60):x}")
        async with self.connected() as connection:
            await self.send(connection, request_bytes(target))
            await self.until_closed(connection, 0.1)
        self.count("left")


ATTACKS = [
    SilentUpstream, SilentForBlobs, UpstreamThatAcceptsNobody, UpstreamThatRefuses,
    UpstreamThatResets, DrippingUpstream, SilentTlsUpstream, SilentTokenService, FifoPassword,
    RangeNotSatisfiable, NotModifiedForEverybody, LaterInMidBlob, LimitOfADay, ClaimedSizes,
    RefusedBlobs, MadeUpHosts, EndlessLists, Portal, DefaultBackend, LesserMirror, OddMediaTypes,
    InnerRedirects, RedirectLoops, EndlessResponses, ManyManifests, ManySmallBlobs, LyingUpstream,
    SlowUpstreamWithImpatientClients]
