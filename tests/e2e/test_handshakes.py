"""A TLS handshake has a deadline, whichever side stands still in it."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from kit.content import digest_of
from kit.processes import wait_until
from kit.tarn import TlsTarn, self_signed

DIGEST = digest_of(b"none")
SOON = 20  # seconds, on a slow machine


def client_hello():
    """The first message of a real handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


# ---- clients

@pytest.fixture
def tls_tarn(program, tmp_path):
    certificate, key = self_signed(tmp_path)
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "log": {"level": "info", "format": "json"}, "head_timeout": "2s",
        "tls": {"certificate": str(certificate), "key": str(key)}})
    tarn.context = ssl.create_default_context(cafile=certificate)
    yield tarn
    tarn.finish()


def is_served(tarn):
    with socket.create_connection(("127.0.0.1", tarn.port), 60) as plain, \
            tarn.context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return b" 200 " in connection.recv(4096)


def ends(connection):
    """Whether the other side closes the connection in time, whatever it says before."""
    connection.settimeout(SOON)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return True


@pytest.mark.parametrize("part", ["one byte", "half", "all but a byte", "all"])
def test_a_client_that_stands_still_in_its_handshake_is_cut(tls_tarn, part):
    """A connection that has sent nothing is idle: it holds no thread, and is not in a handshake."""
    hello = client_hello()
    length = {"one byte": 1, "half": len(hello) // 2,
              "all but a byte": len(hello) - 1, "all": len(hello)}[part]
    crowd = [socket.create_connection(("127.0.0.1", tls_tarn.port), 60) for _ in range(20)]
    for connection in crowd:
        connection.sendall(hello[:length])
    assert is_served(tls_tarn)
    for connection in crowd:
        assert ends(connection)
        connection.close()


def test_a_client_that_sends_its_handshake_byte_by_byte_is_cut(tls_tarn):
    """Each byte is progress, but the deadline is for all of them."""
    with socket.create_connection(("127.0.0.1", tls_tarn.port), 60) as connection:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in client_hello():
                connection.sendall(bytes([byte]))
                time.sleep(0.1)
                assert time.monotonic() - began < SOON
        assert ends(connection)
    assert is_served(tls_tarn)


# ---- upstreams

def say_nothing(connection):
    connection.recv(65536)


def send_half_a_record(connection):
    connection.recv(65536)
    connection.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03")


def drip(connection):
    """The length of a long record, and then a byte at a time."""
    connection.recv(65536)
    connection.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)


@contextlib.contextmanager
def tls_upstream(act):
    """A server that accepts connections, and then does that instead of a handshake."""
    opened = []
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    opened.append(listener.accept()[0])
                    threading.Thread(target=act, args=(opened[-1],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("act", [say_nothing, send_half_a_record, drip])
@pytest.mark.parametrize("target", ["manifests/1", "tags/list", f"blobs/{DIGEST}",
                                    f"referrers/{DIGEST}"])
def test_an_upstream_that_stands_still_in_its_handshake_is_a_failure_in_time(
        start_tarn, upstream, act, target):
    upstream.image("org/app", [b"layer"], tag="1")
    with tls_upstream(act) as url:
        tarn = start_tarn([
            {"host": "fake.test", "url": upstream.url, "default": True},
            {"host": "tls.test", "url": url, "connect_timeout": "1500ms",
             "first_byte_timeout": "4s", "stall_timeout": "1500ms"}])
        replies = []
        thread = threading.Thread(target=lambda: replies.append(
            tarn.get(f"/v2/tls.test/org/app/{target}", timeout=120)))
        thread.start()
        wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 1 or replies, "to wait", 60)
        assert tarn.manifest("org/app", "1").status == 200
        thread.join()
        assert replies[0].status == 504, replies[0]
        assert "tls.test" in replies[0].message
        assert replies[0].seconds < SOON
        assert tarn.metrics()["tarn_requests_waiting"] == 0
