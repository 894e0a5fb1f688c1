"""
Memory stays within what docs/operations.md ("Memory") says: for each idle connection, each request,
each transfer, and after a busy time. The tests measure the resident memory of the release build.
"""

import itertools
import os
import re
import socket
import ssl

import pytest

from kit.client import read_to_end
from kit.content import KIB, MIB, digest_of, noise
from kit.processes import wait_until
from kit.release import release_build
from kit.tarn import Tarn, TlsTarn, self_signed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_descriptors")]

CROWD = 1000

# The numbers of docs/operations.md. SLACK is what the C library's pools and the stacks of ended
# threads may hold in all: a leak of one buffer a connection would be several times that.
START = 20 * MIB          # a tarn that has nothing to do
IDLE = 1 * KIB            # a connection between two requests
TLS_IDLE = 16 * KIB       # the same with TLS
DOWNLOAD = 8 * KIB        # a response whose client takes no more for the moment
UNREAD = 48 * KIB         # the same, when the client goes on sending requests
REQUEST = 24 * KIB        # a request that a worker carries
HEAD = 16 * KIB           # what a connection may take more while a head arrives
FLIGHT = 960 * KIB        # a blob being fetched, with its connection
SLACK = 4 * MIB

BLOB = noise(8 * MIB)
DIGEST = digest_of(BLOB)


@pytest.fixture
def tarn(program, tmp_path, upstream):
    """A release build, quiet, with the blob's repository upstream."""
    upstream.image("org/app", [BLOB], tag="1")
    one = Tarn(release_build(program), tmp_path / "tarn", {
        "log": {"level": "warn", "format": "text"}, "head_timeout": "4s",
        "manifest_memory": "64KiB",  # upstream's 404s are kept there too
        "upstreams": [{"host": "fake.test", "url": upstream.url, "default": True,
                       "credentials": "anonymous"}]})
    yield one
    one.finish()


@pytest.fixture
def connect(tarn):
    """Opens connections; a `stalled` one has a small receive buffer, which stalls its download."""
    opened = []

    def open_one(stalled=False):
        connection = socket.socket()
        opened.append(connection)
        if stalled:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", tarn.port))
        return connection

    def close_all():
        while opened:
            opened.pop().close()

    open_one.close_all = close_all
    yield open_one
    close_all()


def memory(tarn, what="VmRSS"):
    """Resident bytes."""
    with open(f"/proc/{tarn.process.pid}/status", encoding="ascii") as file:
        return int(re.search(rf"{what}:\s+(\d+) kB", file.read()).group(1)) * KIB


def threads(tarn):
    return len(os.listdir(f"/proc/{tarn.process.pid}/task"))


def request(target):
    return f"GET {target} HTTP/1.1\r\nHost: tarn\r\n\r\n".encode()


def asks(connection, target="/livez"):
    connection.sendall(request(target))
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def wait_below(tarn, limit, what, seconds=60):
    wait_until(lambda: memory(tarn) <= limit,
               f"{what}: {memory(tarn) // KIB} KiB, not {limit // KIB}", seconds, pause=0.5)


def test_a_tarn_with_nothing_to_do(tarn):
    assert memory(tarn) <= START, f"{memory(tarn) // KIB} KiB"


def test_nine_thousand_idle_connections(tarn, connect):
    count = 9 * CROWD
    asks(connect())
    start = memory(tarn)
    crowd = [connect() for _ in range(count)]
    for connection in crowd:
        asks(connection)
    wait_below(tarn, start + count * IDLE + 1 * MIB, "9,000 idle connections", 45)
    for connection in crowd[::100]:  # tarn has not closed them
        asks(connection)
    assert tarn.metrics()["tarn_client_connections"] >= count


def test_four_hundred_idle_connections_with_tls(program, tmp_path):
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    tarn = TlsTarn(release_build(program), tmp_path / "tarn", {
        "log": {"level": "warn", "format": "text"},
        "tls": {"certificate": str(certificate), "key": str(key)}})
    crowd = []
    try:
        start = memory(tarn)
        for _ in range(400):
            plain = socket.create_connection(("127.0.0.1", tarn.port), 20)
            crowd.append(context.wrap_socket(plain))
            asks(crowd[-1])
        wait_below(tarn, start + len(crowd) * TLS_IDLE + SLACK, "idle connections with TLS", 45)
        for connection in crowd:
            asks(connection)
    finally:
        for connection in crowd:
            connection.close()
        tarn.finish()


def test_a_thousand_downloads_at_once_and_their_memory_comes_back(tarn, connect):
    assert tarn.blob("org/app", DIGEST).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    start = memory(tarn)
    for _ in range(CROWD):
        connect(stalled=True).sendall(request(f"/v2/org/app/blobs/{DIGEST}"))
    wait_until(lambda: tarn.metrics()["tarn_responses_waiting"] >= CROWD, "1,000 downloads", 120)
    wait_below(tarn, start + CROWD * DOWNLOAD + SLACK, "1,000 downloads without workers")
    assert memory(tarn, "VmHWM") <= 40 * MIB, "the design's figure"
    connect.close_all()
    wait_below(tarn, start + 2 * SLACK, "after the downloads")


def test_a_thousand_clients_of_one_transfer(tarn, upstream, connect):
    start = memory(tarn)
    held = upstream.fault("/blobs/", hold_after=1 * MIB)
    for _ in range(CROWD):
        connect().sendall(request(f"/v2/org/app/blobs/{DIGEST}"))
    wait_until(lambda: sum(tarn.metrics()[name] for name in (
        "tarn_workers_busy", "tarn_responses_waiting")) >= CROWD, "1,000 downloads", 120)
    assert memory(tarn, "VmHWM") <= start + CROWD * REQUEST + FLIGHT + SLACK
    held.gate.set()


def test_sixty_transfers_at_once(tarn, upstream, connect):
    blobs = [noise(6 * MIB, number) for number in range(60)]
    for blob in blobs:
        upstream.repository("org/app").add_blob(blob)
    start = memory(tarn)
    held = upstream.fault("/blobs/", hold_after=300 * KIB)
    for blob in blobs:
        connect().sendall(request(f"/v2/org/app/blobs/{digest_of(blob)}"))
    wait_until(lambda: tarn.metrics()["tarn_flights"] == len(blobs), "60 flights", 120)
    held.gate.set()
    wait_until(lambda: tarn.metrics()["tarn_flights"] == 0, "the flights' end", 120)
    assert memory(tarn, "VmHWM") <= start + len(blobs) * (FLIGHT + REQUEST) + SLACK
    connect.close_all()
    idle_upstream = 32 * 160 * KIB
    wait_below(tarn, start + 2 * SLACK + idle_upstream, "after the transfers")


def test_heads_that_never_end_take_no_more_than_a_head_and_are_cut(tarn, connect):
    start = memory(tarn)
    crowd = [connect() for _ in range(CROWD)]
    for connection in crowd:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: tarn\r\nX-Slow: ")
    for piece in range(14):
        for connection in crowd:
            try:
                connection.sendall(b"a" * KIB)
            except OSError:
                assert piece, "cut at once"
    assert memory(tarn, "VmHWM") <= start + CROWD * (IDLE + REQUEST + HEAD) + SLACK
    wait_until(lambda: tarn.metrics()["tarn_client_connections"] < 10, "the slow ones' end", 30)
    wait_below(tarn, start + 2 * SLACK, "after the slow heads")


def test_clients_that_send_requests_and_read_nothing(tarn, connect):
    assert tarn.manifest("org/app", "1").status == 200
    start = memory(tarn)
    crowd = [connect(stalled=True) for _ in range(CROWD)]
    requests = request("/v2/org/app/manifests/1") * 200
    for _ in range(60):
        for connection in crowd:
            connection.settimeout(0)
            try:
                connection.send(requests)
            except BlockingIOError:
                pass
    wait_until(lambda: tarn.metrics()["tarn_responses_waiting"] >= CROWD, "unread responses", 120)
    assert memory(tarn, "VmHWM") <= start + CROWD * (IDLE + UNREAD) + SLACK
    assert tarn.metrics()["tarn_workers_busy"] == 0


def test_ten_thousand_junk_heads_grow_nothing(tarn, connect):
    """Each head is refused and its connection closed; every fifth is cut in the middle instead."""
    kinds = [b"\x16\x03\x01" + noise(200), b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
             b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n",
             b"GET /" + b"a" * 20000]

    def junk(count):
        for number in range(count):
            with connect() as connection:
                try:
                    connection.sendall(kinds[number % len(kinds)])
                    if number % 5:
                        connection.shutdown(socket.SHUT_WR)
                        read_to_end(connection)
                except OSError:
                    pass  # refused before all of it was sent
        connect.close_all()

    junk(1000)
    before = memory(tarn)
    junk(9000)
    assert memory(tarn) <= before + 1 * MIB, (before // KIB, memory(tarn) // KIB)


def stream_of(connection, requests, pause_at):
    """Sends requests in pieces that end inside heads; yields once after `pause_at` responses."""
    stream, answers, sent, paused = b"".join(requests), 0, 0, False
    ends = list(itertools.accumulate(map(len, requests)))
    while answers < len(requests):
        if sent < ends[min(answers + 40, len(ends) - 1)]:
            sent += connection.send(stream[sent:sent + 777])
            continue
        piece = connection.recv(1 << 16)
        assert piece, f"closed after {answers} answers"
        answers += piece.count(b"HTTP/1.1 ")
        if not paused and answers >= pause_at:
            paused = True
            yield


def junk_requests(count, target):
    return [f"GET {target.format(number)} HTTP/1.1\r\nHost: tarn\r\nRange: bytes={number}-\r\n"
            f"X-{number}: {'j' * (number % 900)}\r\n\r\n".encode() for number in range(count)]


@pytest.mark.parametrize("count,target", [
    (10000, "/v2/no-such-name/UPPER{0:05}/blobs/sha256:{0:064x}"),
    (3000, "/v2/no/{0:05}/blobs/sha256:{0:064x}"),  # upstream is asked for each of these
], ids=["refused here", "refused upstream"])
def test_a_stream_of_junk_requests_on_one_connection_grows_nothing(tarn, connect, count, target):
    connection = connect()
    for _ in stream_of(connection, junk_requests(count, target), count // 3):
        before = memory(tarn)
    assert memory(tarn) <= before + 1 * MIB, (before // KIB, memory(tarn) // KIB)
