"""With replicas, SIGTERM leaves the listener open until the last flight has ended."""

import http.client
import signal
import time

import pytest

from kit.client import fetch
from kit.content import MIB, digest_of, noise
from kit.processes import free_port, wait_until
from kit.replica_signature import new_secret, signed, write_secrets

BLOB = noise(4 * MIB)
DIGEST = digest_of(BLOB)
BLOB_PATH = f"/v2/fake.test/org/app/blobs/{DIGEST}"
TAG_PATH = "/v2/fake.test/org/app/manifests/1"
TIMEOUTS = {}


@pytest.fixture
def secret():
    return new_secret()


@pytest.fixture
def start(start_tarn, upstream, tmp_path, secret):
    upstream.image("org/app", [BLOB], tag="1")

    def run(**settings):
        port = free_port()
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          listen=[f"127.0.0.1:{port}"],
                          replicas={"peers": [f"127.0.0.1:{port}"],
                                    "secret_file": str(write_secrets(tmp_path / "s", secret))},
                          **settings)
    return run


def terminate(tarn):
    tarn.process.child.send_signal(signal.SIGTERM)
    wait_until(lambda: tarn.get("/readyz").status == 503, "/readyz is 503")


def ended(tarn, seconds):
    code = tarn.process.child.wait(seconds)
    tarn.check_log()
    tarn.process.child.returncode = code
    return code


def test_replicas_are_served_until_the_last_flight_has_ended(start, upstream, secret):
    tarn = start(grace="60s")
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(BLOB_PATH) as client, \
            tarn.download(BLOB_PATH, signed(secret, BLOB_PATH)) as replica:
        assert replica.status == 200
        terminate(tarn)
        for path in ("/readyz", "/livez", "/debug/health", "/v2/", TAG_PATH, BLOB_PATH, "/"):
            refused = tarn.get(path)
            assert (refused.status, refused["Connection"]) == (503, "close"), path
        assert tarn.get("/metrics").status == 200
        assert tarn.get(TAG_PATH, signed(new_secret(), TAG_PATH)).status == 401
        assert tarn.get(TAG_PATH, signed(secret, TAG_PATH)).status == 200
        with tarn.download(BLOB_PATH, signed(secret, BLOB_PATH)) as late:
            assert late.status == 200
            held.gate.set()
            for download in (client, replica, late):
                assert download.read(len(BLOB)) == download.body
                assert digest_of(download.body) == DIGEST
    assert ended(tarn, 30) == 0


def test_an_open_connection_is_told_too(start, upstream):
    tarn = start(grace="60s")
    held = upstream.fault("/blobs/", hold_after=MIB)
    probe = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=30)
    probe.request("GET", "/readyz")
    assert probe.getresponse().read() == b"ok\n"
    with tarn.download(BLOB_PATH) as client:
        tarn.process.child.send_signal(signal.SIGTERM)
        tarn.logged("stopping")

        def is_refused():
            probe.request("GET", "/readyz")
            answer = probe.getresponse()
            answer.read()
            return answer.status == 503
        wait_until(is_refused, "/readyz is 503")
        probe.close()
        held.gate.set()
        client.read(len(BLOB))
        assert digest_of(client.body) == DIGEST
    assert ended(tarn, 30) == 0


def test_it_ends_at_once_without_a_flight(start):
    tarn = start(grace="60s")
    assert tarn.get(TAG_PATH).status == 200
    began = time.monotonic()
    tarn.process.child.send_signal(signal.SIGTERM)
    assert ended(tarn, 30) == 0
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_it_ends_after_grace_at_the_latest(start, upstream, secret):
    tarn = start(grace="3s")
    upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(BLOB_PATH, signed(secret, BLOB_PATH)) as replica:
        began = time.monotonic()
        terminate(tarn)
        assert ended(tarn, 30) == 0
        assert 2.5 < time.monotonic() - began < 20
        with pytest.raises(ConnectionResetError):
            replica.read(len(BLOB))


def test_without_replicas_the_listener_closes(start_tarn, upstream):
    upstream.image("org/app", [BLOB], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}], grace="60s")
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(BLOB_PATH) as client:
        tarn.process.child.send_signal(signal.SIGTERM)

        def is_closed():
            try:
                fetch(f"{tarn.url}/readyz", timeout=5)
            except OSError:
                return True
            return False
        wait_until(is_closed, "the listener is closed")
        held.gate.set()
        client.read(len(BLOB))
        assert digest_of(client.body) == DIGEST
    assert ended(tarn, 30) == 0
