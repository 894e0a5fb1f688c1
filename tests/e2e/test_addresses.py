"""Addresses for health and metrics alone, a prefix of all paths, and fields that the operator adds."""

import re

import pytest

from kit.client import fetch
from kit.content import OCI_MANIFEST, noise
from kit.processes import free_port
from kit.tarn import TlsTarn, self_signed

LAYER = noise(200_000)
ACCEPT = {"Accept": OCI_MANIFEST}
FIELD = "Strict-Transport-Security: max-age=63072000"


@pytest.fixture
def digest(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


@pytest.fixture
def start(start_tarn, upstream, digest):
    def start(**settings):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          **settings)
    return start


def check_only_health_and_metrics(port):
    side = f"http://127.0.0.1:{port}"
    for path in ("/livez", "/readyz", "/readyz?verbose", "/debug/health", "/metrics"):
        assert fetch(side + path).status == 200, path
    assert b"tarn_" in fetch(f"{side}/metrics").body
    for path in ("/", "/v2/", "/v2/org/app/manifests/1", "/v2/_catalog", "/tarn/v1/flights",
                 "/v2/org/app/tags/list", "/nothing"):
        assert fetch(side + path).status == 404, path
    assert fetch(f"{side}/v2/org/app/blobs/uploads/", method="POST").status == 404


def test_an_address_for_metrics_serves_nothing_else(start, tmp_path):
    port = free_port()
    users = tmp_path / "htpasswd"
    users.write_text("alice:$2y$04$" + "a" * 53 + "\n")
    tarn = start(metrics_listen=[f"127.0.0.1:{port}"], clients={"htpasswd": str(users)})
    check_only_health_and_metrics(port)
    assert tarn.get("/v2/").status == 401
    assert tarn.get("/metrics").status == 200


def test_the_address_for_metrics_is_without_tls(program, tmp_path, upstream, digest):
    certificate, key = self_signed(tmp_path)
    port = free_port()
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "tls": {"certificate": str(certificate), "key": str(key)},
        "metrics_listen": f"127.0.0.1:{port}",
        "upstreams": [{"host": "fake.test", "url": upstream.url, "default": True}]})
    try:
        check_only_health_and_metrics(port)
    finally:
        tarn.finish()


def test_every_response_has_the_operators_fields(start, digest):
    tarn = start(headers=[FIELD, "X-Lake: deep, and still"])
    manifest = f"/v2/org/app/manifests/{digest}"
    layer = re.search(rb'"layers":\[.*?"digest": ?"([^"]+)"',
                      tarn.get(manifest, ACCEPT).body.replace(b'": ', b'":'))[1].decode()
    etag = tarn.get(manifest, ACCEPT)["ETag"]
    for path, headers, status in [
            ("/v2/", {}, 200), (manifest, ACCEPT, 200), ("/v2/org/app/manifests/1", ACCEPT, 200),
            (manifest, {**ACCEPT, "If-None-Match": etag}, 304),
            (f"/v2/org/app/blobs/{layer}", {}, 200),
            (f"/v2/org/app/blobs/{layer}", {"Range": "bytes=5-9"}, 206),
            ("/v2/org/app/tags/list", {}, 200), ("/v2/org/nothing/manifests/1", ACCEPT, 404),
            ("/nothing", {}, 404), ("/metrics", {}, 200), ("/", {}, 200)]:
        reply = tarn.get(path, headers)
        assert reply.status == status, (path, reply)
        assert reply["Strict-Transport-Security"] == "max-age=63072000", path
        assert reply["X-Lake"] == "deep, and still", path


def test_a_prefix_may_stand_in_front_of_every_path(start, upstream, digest):
    for tag in ("2", "3", "4"):
        upstream.image("org/app", [LAYER], tag=tag)
    tarn = start(path_prefix="/my/images")
    for prefix in ("", "/my/images"):
        assert tarn.get(f"{prefix}/v2/").status == 200
        assert tarn.get(f"{prefix}/v2/org/app/manifests/{digest}", ACCEPT).status == 200
        assert tarn.get(f"{prefix}/readyz").status == 200
        page = tarn.get(f"{prefix}/v2/org/app/tags/list?n=2")
        assert page["Link"].startswith(f"<{prefix}/v2/"), page["Link"]
        following = tarn.get(page["Link"].partition(">")[0][1:])
        assert following.status == 200 and b'"3"' in following.body
    for path in ("/my/imagesv2/", "/my/images", "/my/images/nothing"):
        assert tarn.get(path).status == 404, path
