"""
Who has gone is not waited for: a client that leaves while upstream is silent holds no worker, no
share of the upstream's and no place in its queue for longer than a second or so. What others wait
for goes on.
"""

import re
import socket
import ssl
import threading

import pytest

from kit.content import digest_of, noise
from kit.processes import wait_until
from kit.tarn import TlsTarn, self_signed
from kit.tokens import TokenService

LAYER = noise(300_000)
DIGEST = digest_of(LAYER)
OTHER = digest_of(b"other")
# Whatever ends by its own deadline ends after the test.
PATIENT = {"first_byte_timeout": "120s", "connect_timeout": "120s", "stall_timeout": "120s"}
GONE = r"the client has left"
SOON = 20  # seconds: a fraction of the deadline, on a slow machine

WAITS = {
    "a tag": ("GET", "manifests/1"),
    "the head of a tag": ("HEAD", "manifests/1"),
    "a manifest": ("GET", f"manifests/{OTHER}"),
    "the head of a manifest": ("HEAD", f"manifests/{OTHER}"),
    "the head of a blob": ("HEAD", f"blobs/{DIGEST}"),
    "a blob": ("GET", f"blobs/{DIGEST}"),
    "a range of a blob": ("GET", f"blobs/{DIGEST}", "Range: bytes=5-9\r\n"),
    "tags": ("GET", "tags/list"),
    "referrers": ("GET", f"referrers/{OTHER}"),
}


def connect(tarn, context=None):
    plain = socket.create_connection(("127.0.0.1", tarn.port), 60)
    return context.wrap_socket(plain) if context else plain


def send(connection, path, method="GET", fields=""):
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: tarn\r\n{fields}\r\n".encode())
    return connection


def ask(tarn, what, repository="org/app", context=None):
    method, path, *fields = WAITS[what]
    return send(connect(tarn, context), f"/v2/{repository}/{path}", method, "".join(fields))


def gone_lines(tarn):
    return len(re.findall(GONE, tarn.log()))


def wait_gone(tarn, number=1):
    wait_until(lambda: gone_lines(tarn) >= number, f"{number} clients to be noticed as gone", SOON)


def wait_free(tarn):
    """Nothing of tarn's is held for clients any more."""
    def is_free():
        metrics = tarn.metrics()
        return metrics["tarn_requests_waiting"] == 0 and metrics["tarn_workers_busy"] == 0
    wait_until(is_free, "no worker and no share to be held", SOON)


def wait_asked(upstream, number=1, path="org/"):
    wait_until(lambda: len(upstream.asked(path)) >= number, "the upstream to be asked", 60)


def silence(upstream, path="/v2/org/"):
    return upstream.fault(path, black_hole=True, method=None)


@pytest.fixture
def start(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    return lambda **more: start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                                       **PATIENT, **more}])


@pytest.mark.parametrize("what", WAITS)
def test_who_has_gone_holds_no_worker_and_no_share(start, upstream, what):
    tarn = start()
    silence(upstream)
    client = ask(tarn, what)
    wait_asked(upstream)
    wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 1, "the client to wait", 60)
    client.close()
    wait_gone(tarn)
    wait_free(tarn)
    tarn.kill()  # the request to upstream goes on


@pytest.mark.parametrize("how", ["reset", "half closed"])
def test_every_way_to_go_is_noticed(start, upstream, how):
    tarn = start()
    silence(upstream)
    with ask(tarn, "a tag") as client:
        wait_asked(upstream)
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
        wait_gone(tarn)
        wait_free(tarn)
    tarn.kill()


def test_a_client_that_asks_for_more_than_it_waits_for_is_noticed(start, upstream):
    """A second request on the connection does not hide that the client has closed it."""
    tarn = start()
    silence(upstream)
    client = ask(tarn, "a tag")
    send(client, "/v2/org/app/tags/list")
    wait_asked(upstream)
    client.close()
    wait_gone(tarn)
    wait_free(tarn)
    tarn.kill()


def test_a_confirmation_of_a_right_is_not_waited_for_by_nobody(start, upstream):
    """A cached manifest and a cached blob, whose links are to be confirmed."""
    tarn = start(link_ttl="1s", tag_ttl="1h")
    manifest = tarn.manifest("org/app", "1")
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    name = digest_of(manifest.body)
    silence(upstream)
    paths = [f"manifests/{name}", f"blobs/{DIGEST}"]
    clients = [send(connect(tarn), f"/v2/org/app/{path}") for path in paths]

    def both_wait():
        if tarn.metrics()["tarn_requests_waiting"] >= 2:
            return True
        for number, path in enumerate(paths):  # the links may still have been believed
            clients[number].close()
            clients[number] = send(connect(tarn), f"/v2/org/app/{path}")
        return False

    wait_until(both_wait, "both to wait for the confirmation", 60)
    for client in clients:
        client.close()
    wait_free(tarn)
    tarn.kill()


def test_who_has_gone_from_the_queue_is_not_asked_for(start, upstream):
    """One connection: all but the first wait in the upstream's queue."""
    tarn = start(max_connections=1)
    hold = upstream.fault("/v2/org/first/", hold_head=True)
    upstream.image("org/first", [LAYER], tag="1")
    first = ask(tarn, "a tag", "org/first")
    wait_asked(upstream, path="org/first")
    waiting = [ask(tarn, what, f"org/{number}") for number, what in enumerate(WAITS)]
    wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= len(WAITS) + 1, "the queue", 60)
    for client in waiting:
        client.close()
    wait_gone(tarn, len(WAITS))
    wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] == 1, "the first alone to wait", SOON)
    hold.gate.set()
    assert b" 200 " in first.recv(1000)
    # The next one has the connection at once, and nobody else was asked for.
    assert tarn.manifest("org/app", "1", timeout=60).status == 200
    assert not [request for request in upstream.asked("/v2/org/[0-9]")]
    first.close()


def test_who_has_gone_gives_up_the_connection_to_those_who_wait(start, upstream):
    """The request was sent, and its client is gone: another one needs the only connection."""
    tarn = start(max_connections=1, tag_ttl="0")
    silence(upstream, "/v2/org/silent/")
    for number, what in enumerate(WAITS):
        client = ask(tarn, what, "org/silent")
        wait_asked(upstream, number + 1, "org/silent")
        client.close()
        wait_gone(tarn, number + 1)
        reply = tarn.manifest("org/app", "1", timeout=60)
        assert reply.status == 200 and reply.seconds < SOON, what


def test_a_request_that_was_sent_is_kept_for_the_next_client(start, upstream):
    """Nobody waits for its connection, so it goes on, and the next client joins it or has a hit."""
    tarn = start()
    hold = upstream.fault("/manifests/1", hold_head=True)
    client = ask(tarn, "a tag")
    wait_asked(upstream)
    client.close()
    wait_gone(tarn)
    hold.gate.set()
    assert tarn.manifest("org/app", "1", timeout=60).status == 200
    assert len(upstream.asked("/manifests/1")) == 1


@pytest.mark.parametrize("what", WAITS)
def test_those_who_wait_for_the_same_get_it(start, upstream, what):
    tarn = start()
    method, target = WAITS[what][:2]
    upstream.fault("/v2/org/app/", hold_head=True, method=None)
    client = ask(tarn, what)
    wait_asked(upstream)
    replies = []
    asks = tarn.get if method == "GET" else tarn.head
    stays = threading.Thread(
        target=lambda: replies.append(asks(f"/v2/org/app/{target}", timeout=100)))
    stays.start()
    wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 2, "both clients to wait", 60)
    client.close()
    wait_gone(tarn)
    upstream.heal()
    stays.join(100)
    expected = 404 if OTHER in target and "referrers" not in target else 200
    assert replies[0].status == expected, replies[0]


def test_a_token_is_waited_for_by_those_who_stay(start, upstream):
    """Two questions about one repository share the request for a token. Who asked for it goes."""
    upstream.tokens = TokenService()
    hold = upstream.fault("/token", hold_head=True)
    tarn = start()
    client = ask(tarn, "a tag")
    wait_asked(upstream, path="/token")
    replies = []
    stays = threading.Thread(
        target=lambda: replies.append(tarn.get("/v2/org/app/tags/list", timeout=100)))
    stays.start()
    wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 2, "both clients to wait", 60)
    client.close()
    wait_gone(tarn)
    hold.gate.set()
    stays.join(100)
    assert replies[0].status == 200, replies[0]


def test_over_tls_too(program, tmp_path, upstream):
    silence(upstream)
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "log": {"level": "info", "format": "json"},
        "tls": {"certificate": str(certificate), "key": str(key)},
        "upstreams": [{"host": "fake.test", "url": upstream.url, "default": True, **PATIENT}]})
    try:
        clients = [ask(tarn, what, f"org/{number}", context) for number, what in enumerate(WAITS)]
        wait_asked(upstream, len(WAITS))
        for client in clients:
            client.close()
        wait_gone(tarn, len(WAITS))
    finally:
        tarn.kill()
        tarn.finish()
