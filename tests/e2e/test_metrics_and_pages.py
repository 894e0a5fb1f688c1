"""/livez, /readyz, /metrics, the page at / and the access log."""

import contextlib
import http.client
import json
import re
import socket

import pytest

from kit.cache_files import blob_file
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.processes import wait_until

LAYER = noise(100 * KIB)
DIGEST = digest_of(LAYER)


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes(tarn, path, method):
    assert tarn.get(path, method=method).status == 200


def test_probes_and_hits_are_answered_beyond_the_connection_limit(start_tarn, upstream, image):
    blob = upstream.repository("org/app").add_blob(noise(1 << 20, 7))
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_connections=2, range_fill=False)
    assert tarn.manifest("org/app", "1").status == 200
    held = upstream.fault("/blobs/", hold_after=1000)
    with contextlib.ExitStack() as clients:
        def takes_a_place():
            """Whether one more connection holds a place with a request that is in progress."""
            client = clients.enter_context(socket.create_connection(("127.0.0.1", tarn.port)))
            client.sendall(f"GET /v2/org/app/blobs/{blob} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            client.settimeout(30)
            return client.recv(100).startswith(b"HTTP/1.1 200")

        for _ in range(2):
            wait_until(takes_a_place, "a connection within the limit")
        for path in ("/livez", "/readyz", "/metrics", "/v2/", "/v2/org/app/manifests/1"):
            assert tarn.get(path).status == 200
        refused = tarn.get("/v2/org/app/tags/list")
        assert (refused.status, refused.code) == (503, "UNAVAILABLE")
        assert refused["Retry-After"] == "1"
        assert tarn.metrics()["tarn_client_connections"] == 2
        held.gate.set()


def test_metrics_are_prometheus_text(tarn, upstream, image):
    tarn.manifest("org/app", "1")
    reply = tarn.get("/metrics")
    assert reply["Content-Type"].startswith("text/plain")
    names, types = set(), {}
    for line in reply.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} is typed twice"
            types[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_:][a-z0-9_:]*)(\{([a-z_]+="[^"]*",?)*\})? [-+0-9.eE]+',
                                 line)
            assert match, line
            assert line.rpartition(" ")[0] not in names, f"{line} is there twice"
            names.add(line.rpartition(" ")[0])
            name = match.group(1)
            if name not in types:
                name = re.sub("_(bucket|sum|count)$", "", name)
                assert types.get(name) == "histogram", line


def test_the_names_that_dashboards_know(tarn, upstream, image):
    tarn.manifest("org/app", "1")
    tarn.blob("org/app", DIGEST)
    # A HEAD, as wait_cached() makes, would be one more request.
    wait_until(blob_file(tarn.root, DIGEST).exists, "the blob is cached")

    def counted(requests):
        """The metrics once so many requests for blobs are counted: tarn counts a request a moment
        after its last byte."""
        key = 'registry_proxy_requests_total{type="blob"}'
        return wait_until(lambda: (metrics := tarn.metrics())[key] == requests and metrics,
                          f"{requests} requests are counted")

    before = counted(1)
    tarn.manifest("org/app", image)
    tarn.blob("org/app", DIGEST)
    after = counted(2)

    def grew(name, kind):
        key = f'registry_proxy_{name}_total{{type="{kind}"}}'
        return after[key] - before[key]

    for kind in ("manifest", "blob"):
        assert grew("requests", kind) == 1
        assert grew("hits", kind) == 1
        assert grew("misses", kind) == 0
        assert grew("pulled_bytes", kind) == 0
    assert grew("pushed_bytes", "blob") == len(LAYER)
    assert before['registry_proxy_misses_total{type="blob"}'] >= 1
    assert before['registry_proxy_pulled_bytes_total{type="blob"}'] == len(LAYER)
    assert any(name.startswith("registry_http_requests_total") for name in after)


def test_metrics_name_upstreams_but_never_repositories_or_digests(tarn, upstream, image):
    tarn.manifest("org/app", "1")
    tarn.blob("org/app", DIGEST)
    text = tarn.get("/metrics").body.decode()
    assert 'upstream="fake.test"' in text
    assert "org/app" not in text
    assert "sha256:" not in text


def test_a_client_cannot_make_labels(tarn, upstream):
    for number in range(30):
        tarn.get(f"/v2/org/app/manifests/1?ns=host-{number}.test")
        tarn.get(f"/v2/host-{number}.test/app/manifests/1")
        tarn.get("/x", method=f"METHOD{number}")
    text = tarn.get("/metrics").body.decode()
    assert "host-" not in text
    assert "METHOD" not in text


def test_failures_of_an_upstream_are_counted(tarn, upstream, image):
    before = tarn.metrics()
    upstream.fault("/v2/", method=None, status=500)
    tarn.manifest("org/app", "1")
    after = tarn.metrics()
    assert [name for name in after if 'upstream="fake.test"' in name
            and after[name] > before.get(name, 0)]


@pytest.mark.parametrize("path", ["/", "/tarn/page.css", "/?image=x",
                                  "/livez", "/metrics", "/tarn/v1/flights", "/v2/", "/nothing",
                                  "/v2/_catalog", "/v2/org/app/manifests/1",
                                  "/v2/org/app/tags/list", "/v2/org/nope/manifests/1",
                                  f"/v2/org/app/blobs/{digest_of(LAYER)}", "/%zz"])
def test_no_browser_guesses_a_type(tarn, upstream, image, path):
    for method in ("GET", "GET", "HEAD", "PUT"):
        assert tarn.get(path, method=method)["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=utf-8", "image/svg+xml",
                                        "application/xhtml+xml", "text/plain", "TEXT/HTML"])
def test_a_manifest_never_has_the_type_of_a_page(tarn, upstream, media_type):
    """Else upstream's scripts would run on tarn's origin."""
    repository = upstream.repository("org/app")
    content = manifest(b"<script>alert(1)</script>", [])
    digest = repository.add_manifest(content, media_type, tag="1")
    for reference in ("1", digest, "1"):
        reply = tarn.manifest("org/app", reference)
        assert (reply.status, reply.body, reply["Content-Type"]) == (200, content, OCI_MANIFEST)
    head = tarn.manifest("org/app", digest, method="HEAD")
    assert head["Content-Type"] == OCI_MANIFEST
    tarn.restart()
    assert tarn.manifest("org/app", digest)["Content-Type"] == OCI_MANIFEST


def test_the_head_of_a_manifest_never_has_the_type_of_a_page(tarn, upstream):
    repository = upstream.repository("org/app")
    repository.add_manifest(manifest(b"{}", []), "text/html", tag="1")
    head = tarn.manifest("org/app", "1", method="HEAD")
    assert head.status == 200
    assert "html" not in (head["Content-Type"] or "")


def test_the_flights_show_a_blob_under_way(tarn, upstream):
    big = noise(8 * MIB)
    upstream.image("org/app", [big], tag="1")
    assert tarn.get("/tarn/v1/flights").status == 200
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(f"/v2/org/app/blobs/{digest_of(big)}") as download:
        download.read(100)
        text = json.dumps(tarn.get("/tarn/v1/flights").json())
        for word in (digest_of(big), "org/app", "fake.test", str(len(big))):
            assert word in text
        held.gate.set()
    tarn.wait_cached("org/app", digest_of(big))
    wait_until(lambda: digest_of(big) not in str(tarn.get("/tarn/v1/flights").json()),
               "the flight to end")


def access_lines(tarn, word):
    wait_until(lambda: any(word in line for line in tarn.log().splitlines()), f"a line on {word}")
    return [json.loads(line) for line in tarn.log().splitlines() if word in line]


def test_the_access_log_says_who_got_what_and_how(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      log={"level": "info", "format": "json"})
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    tarn.blob("org/app", DIGEST)
    wait_until(lambda: len([line for line in access_lines(tarn, DIGEST)
                            if line.get("bytes") == len(LAYER)]) >= 2, "two lines")
    served = [line for line in access_lines(tarn, DIGEST) if line.get("bytes") == len(LAYER)]
    for line in served:
        values = [str(value) for value in line.values()]
        for word in ("fake.test", "org/app", "200"):
            assert any(word in value for value in values), line
        assert any(value.startswith("127.0.0.1") for value in values), line
        assert isinstance(line["seconds"], (int, float))
    assert "miss" in str(served[0])
    assert "hit" in str(served[-1])


def test_a_log_line_cannot_be_forged(tarn):
    tarn.get("/v2/a%0aforged-line%1b[31m/manifests/1")
    tarn.get("/v2/a/manifests/1?ns=%0aforged-line", {"User-Agent": "x\tforged"})
    tarn.get("/readyz")
    tarn.restart()
    assert not [line for line in tarn.log().splitlines() if line.startswith("forged-line")]
    assert "\x1b" not in tarn.log()
