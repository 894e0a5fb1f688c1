"""A web page whose name resolves to 127.0.0.1 reads nothing through a tarn on loopback."""

import pytest

from kit.content import KIB, digest_of, noise
from kit.processes import free_port

LAYER = noise(10 * KIB)


@pytest.fixture
def listen_on(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")

    def start(address="127.0.0.1", **settings):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True},
                           {"host": "*.mirror.test"}, {"host": "docker.io"},
                           {"host": "other.test:5000"}],
                          listen=[f"{address}:{free_port()}"], **settings)
    return start


PATHS = ["/", "/v2/", "/v2/_catalog", "/metrics", "/livez", "/tarn/v1/flights", "/nothing",
         "/v2/org/app/manifests/1", f"/v2/org/app/blobs/{digest_of(LAYER)}"]


@pytest.mark.parametrize("host", ["evil.test", "evil.test:5000", "localhost.evil.test",
                                  "127.0.0.1.evil.test", "1.evil", "fake.test.evil.test",
                                  "afake.test", "mirror.test", "a.b.mirror.test", "tarn",
                                  "127.1", "0x7f000001", "2130706433", "::1", "[::1", "[evil]",
                                  "localhost:evil", "", "."])
def test_a_name_that_is_not_tarns_is_421(listen_on, upstream, host):
    tarn = listen_on(server_names=["cache.example"])
    for path in PATHS:
        reply = tarn.get(path, {"Host": host})
        assert (reply.status, reply.code) == (421, "DENIED"), path
        assert "server_names" in reply.message
        assert tarn.head(path, {"Host": host}).status == 421
    assert upstream.connections == 0
    assert tarn.metrics()['registry_http_requests_total{handler="manifest",method="get",'
                          'code="421"}'] == 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1", "10.1.2.3",
                                  "10.1.2.3:80", "[::1]", "[::1]:5000", "[2001:db8::1]",
                                  "fake.test", "FAKE.test:5000", "a.mirror.test:5000",
                                  "docker.io", "registry-1.docker.io", "other.test",
                                  "other.test:1", "cache.example", "Cache.Example.:5000",
                                  "node"])
def test_tarns_own_names_are_served(listen_on, host):
    tarn = listen_on(server_names=["cache.example:443", "node"])
    for path in PATHS:
        assert tarn.get(path, {"Host": host}).status in (200, 404), path


def test_by_default_there_are_no_further_names(listen_on):
    tarn = listen_on(server_names="localhost")
    assert tarn.get("/v2/", {"Host": "cache.example"}).status == 421


def test_an_address_that_others_reach_takes_every_name(listen_on):
    tarn = listen_on("0.0.0.0")
    for host in ("evil.test", "cache.example:5000", ""):
        assert tarn.get("/v2/", {"Host": host}).status == 200


def test_names_may_come_from_a_flag(listen_on):
    tarn = listen_on(server_names=["one.example"])
    tarn.flags += ["--server-names", "two.example"]
    tarn.stop()
    tarn.start()
    assert tarn.get("/v2/", {"Host": "two.example"}).status == 200
