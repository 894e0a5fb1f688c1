"""Promise 10: one client address takes from the others no more than its share."""

import contextlib
import json
import socket

import pytest

from kit.client import read_to_end
from kit.content import KIB, MIB, digest_of, noise
from kit.crowd import silent_registry
from kit.processes import wait_until

pytestmark = pytest.mark.usefixtures("enough_descriptors")

GREEDY, OTHER = "127.0.0.2", "127.0.0.3"
HALF = 1024  # of the workers

LAYER = noise(MIB)
DIGEST = digest_of(LAYER)


@pytest.fixture
def silent():
    with silent_registry() as url:
        yield url


@pytest.fixture
def start(start_tarn, upstream, silent):
    def start_it(**settings):
        upstream.image("org/app", [LAYER], tag="1")
        tarn = start_tarn([
            {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "1h"},
            {"host": "silent.test", "url": silent, "first_byte_timeout": "25s",
             "connect_timeout": "25s", "max_connections": 10000}], **settings)
        assert tarn.manifest("org/app", "1").status == 200
        assert tarn.blob("org/app", DIGEST).body == LAYER
        tarn.wait_cached("org/app", DIGEST)
        assert tarn.blob("org/app", DIGEST, method="HEAD").status == 200
        return tarn
    return start_it


def connect(tarn, address, receive_buffer=None):
    """A connection from another client address."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(20)
    client.bind((address, 0))
    client.connect(("127.0.0.1", tarn.port))
    return client


def head_of(target, method="GET", connection="close"):
    return f"{method} {target} HTTP/1.1\r\nHost: tarn\r\nConnection: {connection}\r\n\r\n".encode()


class Response:
    def __init__(self, got):
        head, _, self.body = got.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = dict(line.split(": ", 1) for line in lines[1:])


def ask(tarn, address, target, method="GET"):
    with connect(tarn, address) as client:
        client.sendall(head_of(target, method))
        return Response(read_to_end(client))


def check_refused(response):
    """429 as distribution-spec has it, and soon to be tried again."""
    assert response.status == 429
    assert json.loads(response.body)["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert int(response.fields["Retry-After"]) >= 1


@contextlib.contextmanager
def hanging(tarn, address, count, first=0):
    """So many requests that wait for the silent upstream."""
    with contextlib.ExitStack() as opened:
        for number in range(first, first + count):
            client = opened.enter_context(connect(tarn, address))
            client.sendall(head_of(f"/v2/silent.test/a/{number}/manifests/1"))
        yield


def refused(tarn, reason):
    return tarn.metrics()[f'tarn_refused_total{{reason="{reason}"}}']


def check_hits(tarn, address):
    for target in ("/livez", "/readyz", "/metrics", "/v2/", "/v2/org/app/manifests/1"):
        assert ask(tarn, address, target).status == 200, target
    assert ask(tarn, address, f"/v2/org/app/blobs/{DIGEST}", "HEAD").status == 200


@pytest.mark.slow
def test_an_address_over_its_share_of_requests_is_429_at_once_and_others_are_served(start):
    # A share of the silent upstream would end these requests first.
    tarn = start(limits={"per_upstream": {"waiting": 100000}})
    with hanging(tarn, GREEDY, HALF + 1):
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] > HALF, "half the workers", 60)
        for _ in range(5):
            check_refused(ask(tarn, GREEDY, f"/v2/org/app/blobs/{DIGEST}"))
            check_refused(ask(tarn, GREEDY, "/v2/silent.test/b/manifests/1"))
        assert refused(tarn, "client_requests") >= 10
        check_hits(tarn, GREEDY)
        check_hits(tarn, OTHER)
        assert ask(tarn, OTHER, f"/v2/org/app/blobs/{DIGEST}").body == LAYER
        tarn.logged(rf'client={GREEDY}\S* .*status=429 .*error="[^"]*address')
        counted = tarn.metrics()
        key = 'registry_http_requests_total{handler="blob",method="get",code="429"}'
        assert counted[key] >= 5
    wait_until(lambda: tarn.metrics()["tarn_workers_busy"] == 0, "no worker busy", 60)
    assert ask(tarn, GREEDY, f"/v2/org/app/blobs/{DIGEST}").body == LAYER


@pytest.mark.slow
def test_a_thousand_downloads_from_one_address_are_nobodys_loss(start):
    """Nobody else wants the workers."""
    tarn = start(send_timeout="10m")  # a slow machine takes a while to read all of them
    with contextlib.ExitStack() as opened:
        clients = []
        for _ in range(1000):
            client = opened.enter_context(connect(tarn, GREEDY, receive_buffer=64 * KIB))
            client.sendall(head_of(f"/v2/org/app/blobs/{DIGEST}"))
            clients.append(client)
        for client in clients:
            assert Response(read_to_end(client)).body == LAYER
    assert refused(tarn, "client_requests") == refused(tarn, "client_connections") == 0


@pytest.mark.slow
def test_the_share_of_requests_can_be_set(start):
    tarn = start(limits={"per_upstream": {"waiting": 100000}, "per_client": {"requests": "100%"}})
    with hanging(tarn, GREEDY, HALF + 50):
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] >= HALF + 50, "the workers", 60)
        assert ask(tarn, GREEDY, f"/v2/org/app/blobs/{DIGEST}").body == LAYER
    wait_until(lambda: tarn.metrics()["tarn_workers_busy"] == 0, "no worker busy", 60)


def test_an_address_over_its_share_of_connections_is_429_and_others_are_served(start):
    tarn = start(max_connections=40)
    with hanging(tarn, GREEDY, 20):
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] >= 20, "half of the connections")
        assert ask(tarn, GREEDY, f"/v2/org/app/blobs/{DIGEST}").body == LAYER
        with hanging(tarn, OTHER, 10, 1000):  # they are wanted now
            wait_until(lambda: tarn.metrics()["tarn_workers_busy"] >= 30, "the other's")
            for _ in range(5):
                check_refused(ask(tarn, GREEDY, f"/v2/org/app/blobs/{DIGEST}"))
            assert refused(tarn, "client_connections") >= 5
            check_hits(tarn, GREEDY)
            check_hits(tarn, OTHER)
            for address in (OTHER, "127.0.0.4"):
                assert ask(tarn, address, f"/v2/org/app/blobs/{DIGEST}").body == LAYER


def test_idle_connections_of_one_address_cost_nobody_else_a_connection(start):
    tarn = start(max_connections=40)
    with contextlib.ExitStack() as opened:
        kept = [opened.enter_context(connect(tarn, OTHER)) for _ in range(5)]
        for client in kept:
            client.sendall(head_of("/v2/", connection="keep-alive"))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        for _ in range(200):
            opened.enter_context(connect(tarn, GREEDY))
        assert ask(tarn, "127.0.0.4", f"/v2/org/app/blobs/{DIGEST}").body == LAYER
        assert ask(tarn, GREEDY, f"/v2/org/app/blobs/{DIGEST}").body == LAYER
        for client in kept:
            client.sendall(head_of("/v2/", connection="keep-alive"))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_what_the_server_itself_refuses_is_logged_and_counted(start):
    tarn = start()

    def send(request):
        with connect(tarn, OTHER) as client:
            client.sendall(request)
            return Response(read_to_end(client)).status

    assert send(b"NO REQUEST\r\n\r\n") == 400
    assert send(b"GET /v2/ HTTP/1.1\r\nHost: tarn\r\nContent-Length: 1\r\n\r\nx") == 400
    assert send(b"POST /v2/ HTTP/1.1\r\nHost: tarn\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n"
                ) == 417
    assert send(b"GET /v2/ HTTP/1.1\r\nHost: tarn\r\n" + b"a: b\r\n" * 70 + b"\r\n") == 431
    assert send(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: tarn\r\n\r\n") == 414
    assert send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == 400
    counted = tarn.metrics()

    def requests(handler, method, code):
        return counted['registry_http_requests_total'
                       f'{{handler="{handler}",method="{method}",code="{code}"}}']

    assert requests("none", "other", 400) == 2
    assert requests("base", "get", 400) == 1
    assert requests("base", "other", 417) == 1
    assert requests("none", "other", 431) == 1
    assert requests("none", "other", 414) == 1
    for status, why in ((400, "body"), (417, "100-continue"), (400, "TLS")):
        tarn.logged(rf'client={OTHER}:\d+ .*status={status} .*error="[^"]*{why}')
