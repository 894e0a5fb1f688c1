"""SIGTERM ends tarn within `grace` and a second, whatever hangs."""

import os
import resource
import signal
import socket
import time

import pytest

from kit.content import MIB, digest_of, noise
from kit.processes import wait_until
from kit.tarn import is_sanitized
from kit.tokens import TokenService

TIMEOUTS = {}  # tarn's defaults: it would wait for 25 s
BIG = noise(48 * MIB)
DIGEST = digest_of(BIG)
REQUESTS = 1000


def connect(tarn, path, buffer=None):
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", tarn.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def silent(start, upstream, _):
    upstream.fault("/v2/", method=None, black_hole=True)
    tarn = start({})
    return tarn, [connect(tarn, f"/v2/org/app/manifests/{number}" if number % 2 else
                          f"/v2/org/app/blobs/{digest_of(str(number).encode())}")
                  for number in range(REQUESTS)]


def dripping(start, upstream, _):
    upstream.image("org/app", [b"layer"], tag="1")
    upstream.fault("/v2/", piece=1, bytes_per_second=1)
    tarn = start({})
    return tarn, [connect(tarn, f"/v2/org/app/{path}")
                  for path in ("manifests/1", "tags/list", f"referrers/{DIGEST}")]


def silent_token_service(start, upstream, _):
    upstream.tokens = TokenService()
    upstream.fault("/token", method=None, black_hole=True)
    tarn = start({})
    return tarn, [connect(tarn, f"/v2/org/app{number}/manifests/1") for number in range(40)]


def silent_metadata_server(start, upstream, _):
    upstream.basic = ("someone", "else")
    upstream.fault("/computeMetadata/", method=None, black_hole=True)
    tarn = start({"credentials": "google"}, {"GCE_METADATA_HOST": f"{upstream.host}:{upstream.port}",
                                             "NO_GCE_CHECK": "false"})
    return tarn, [connect(tarn, "/v2/org/app/manifests/1")]


def helper_that_hangs(start, upstream, tmp_path):
    upstream.basic = ("someone", "else")
    programs = tmp_path / "programs"
    programs.mkdir()
    helper = programs / "docker-credential-lake"
    helper.write_text("#!/bin/sh\nexec sleep 60\n")
    helper.chmod(0o755)
    tarn = start({"credentials": {"helper": "lake"}},
                 {"PATH": f"{programs}:{os.environ['PATH']}"})
    return tarn, [connect(tarn, "/v2/org/app/manifests/1")]


def readers_that_do_not_read(start, upstream, _):
    upstream.repository("org/app").add_blob(BIG)
    tarn = start({})
    assert tarn.blob("org/app", DIGEST).body == BIG
    tarn.wait_cached("org/app", DIGEST)
    return tarn, [connect(tarn, f"/v2/org/app/blobs/{DIGEST}", 4096) for _ in range(40)]


@pytest.mark.serial
@pytest.mark.parametrize("grace", [0, 2])
@pytest.mark.parametrize("hangs", [silent, dripping, silent_token_service, silent_metadata_server,
                                   helper_that_hangs, readers_that_do_not_read])
def test_sigterm_ends_it_in_time(program, start_tarn, upstream, tmp_path, hangs, grace):
    def start(members, environment=None):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, **members}],
                          environment, grace=f"{grace}s")

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tarn, connections = hangs(start, upstream, tmp_path)
    try:
        wait_until(lambda: tarn.get("/livez").status == 200, "tarn to answer")
        time.sleep(1)  # the requests are where they hang
        started = time.monotonic()
        tarn.process.send_signal(signal.SIGTERM)
        assert tarn.process.child.wait(grace + 10) == 0
        spare = 2.5 if is_sanitized(program) else 1  # a sanitizer's memory goes back slowly
        assert time.monotonic() - started < grace + spare
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
