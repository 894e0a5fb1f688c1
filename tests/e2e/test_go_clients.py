"""
Clients in Go (containerd, crane, helm, the Docker CLI) ask a registry on another port than 443 by
https first. What they read from a server that speaks plain HTTP decides whether they ask by http.
"""

import os
import pathlib
import tempfile

import pytest

from kit.client import raw
from kit.containers import needs, search_path
from kit.processes import run
from kit.tarn import TlsTarn, self_signed

# Kept between runs, because Go builds its own library first.
CACHE = f"{tempfile.gettempdir()}/tarn-go-{os.getuid()}"
SOURCE = pathlib.Path(__file__).parent / "go" / "fallback.go"
pytestmark = [needs("go"), pytest.mark.slow, pytest.mark.xdist_group("go")]


@pytest.fixture(scope="module")
def fallback(tmp_path_factory):
    """The Go client, built without a network: fallback("HOST:PORT/PATH") -> what it prints."""
    folder = tmp_path_factory.mktemp("go")
    program = folder / "fallback"
    run(["go", "build", "-o", program, SOURCE], environment={
        "PATH": search_path(), "HOME": str(folder), "GOCACHE": CACHE,
        "GOPATH": str(folder / "path"), "GO111MODULE": "off", "GOPROXY": "off", "GOFLAGS": "",
        "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}, seconds=300)
    return lambda where: run([program, where]).stdout.strip()


def test_a_go_client_falls_back_to_http(tarn, fallback):
    for _ in range(3):
        assert fallback(f"{tarn.address}/v2/") == "http 200"


def test_a_go_client_stays_with_https(program, tmp_path, fallback):
    certificate, key = self_signed(tmp_path)
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "tls": {"certificate": str(certificate), "key": str(key)}})
    try:
        assert fallback(f"{tarn.address}/v2/") == "https 200"
        plain = raw(tarn.port, b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert plain.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    finally:
        tarn.finish()
