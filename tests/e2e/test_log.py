"""The log: standard error may stand still, the service may not."""

import http.client
import os
import time

import pytest

from kit.client import at_once
from kit.content import KIB, digest_of, noise

BLOB = noise(300 * KIB)
CLIENTS, ROUNDS = 8, 50


@pytest.fixture
def log_pipe():
    """A pipe for tarn's log: its ends to read from and to write to."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def fill(writing):
    """Writes to the pipe until it is full; what tarn has in hand still blocks."""
    own = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        for size in (4096, 1):
            try:
                while True:
                    os.write(own, b"x" * size)
            except BlockingIOError:
                pass
    finally:
        os.close(own)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_that_nobody_reads_stops_nothing(start_tarn, upstream, repository, log_pipe,
                                               log_format):
    reading, writing = log_pipe
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      stderr=writing, log={"level": "info", "format": log_format})
    digest = digest_of(BLOB)
    assert tarn.blob("org/app", digest).body == BLOB
    tarn.wait_cached("org/app", digest)
    fill(writing)

    cold = [noise(KIB, f"cold {number}") for number in range(CLIENTS)]
    cold = {repository.add_blob(content): content for content in cold}

    def ask(number):
        connection = http.client.HTTPConnection(tarn.address, timeout=20)

        def get(name):
            connection.request("GET", f"/v2/org/app/blobs/{name}")
            response = connection.getresponse()
            return response.status, response.read()

        for turn in range(ROUNDS):
            assert get(digest_of(b"missing %d %d" % (number, turn)))[0] == 404
            assert get(digest) == (200, BLOB)
        name = list(cold)[number]
        assert get(name) == (200, cold[name])
        connection.close()

    at_once(*[lambda number=number: ask(number) for number in range(CLIENTS)])
    assert tarn.get("/readyz").status == 200
    began = time.monotonic()
    tarn.stop()
    assert time.monotonic() - began < 12
    assert os.read(reading, 200)  # it was full to the end


def test_what_clients_ask_for_in_vain_is_no_warning(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      log={"level": "warn", "format": "text"})
    assert tarn.blob("org/app", digest_of(b"missing")).status == 404
    assert tarn.manifest("org/app", "missing").status == 404
    assert tarn.get("/none").status == 404
    tarn.stop()
    assert tarn.log() == ""
