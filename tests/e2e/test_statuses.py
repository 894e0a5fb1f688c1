"""The table "Statuses" in docs/operations.md, row by row, as far as it concerns pulling."""

import http.client
import json
import socket

import pytest

from kit.client import Download, at_once, read_to_end
from kit.content import KIB, MIB, digest_of, manifest, noise
from kit.processes import wait_until
from kit.tokens import TokenService

LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)
MISSING = digest_of(b"missing")


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


def oci_error(code, message="of no use"):
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def is_error(reply, status, code, *words):
    """Asserts the status, the OCI error body with its code, and a message with these words."""
    assert (reply.status, reply.complete) == (status, True), reply
    assert reply["Content-Type"].startswith("application/json")
    errors = reply.json()["errors"]
    assert errors[0]["code"] == code, errors
    for word in words:
        assert word in errors[0]["message"], errors


@pytest.mark.parametrize("path,code", [
    ("/v2/org/app/manifests/nope", "MANIFEST_UNKNOWN"),
    (f"/v2/org/app/manifests/{MISSING}", "MANIFEST_UNKNOWN"),
    (f"/v2/org/app/blobs/{MISSING}", "BLOB_UNKNOWN"),
    ("/v2/org/nope/manifests/1", "NAME_UNKNOWN"),
    (f"/v2/org/nope/blobs/{MISSING}", "NAME_UNKNOWN"),
    ("/v2/org/nope/tags/list", "NAME_UNKNOWN"),
])
def test_404_is_404_with_upstreams_code(tarn, upstream, image, path, code):
    is_error(tarn.get(path), 404, code, "fake.test")


@pytest.mark.parametrize("path,code", [("manifests/1", "MANIFEST_UNKNOWN"),
                                       (f"blobs/{MISSING}", "BLOB_UNKNOWN"),
                                       ("tags/list", "NAME_UNKNOWN")])
def test_404_without_a_code_gets_the_one_that_fits(tarn, upstream, path, code):
    upstream.fault("/v2/", method=None, status=404, body=b"<html>not found</html>")
    is_error(tarn.get(f"/v2/org/app/{path}"), 404, code, "fake.test")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("path", ["manifests/1", f"blobs/{DIGEST}", "tags/list"])
def test_401_and_403_are_403_denied(tarn, upstream, image, status, path):
    upstream.fault("/v2/", method=None, status=status, body=oci_error("DENIED", "not for you"))
    reply = tarn.get(f"/v2/org/app/{path}")
    is_error(reply, 403, "DENIED", "fake.test", "not for you", "without credentials")
    assert reply["WWW-Authenticate"] is None


def test_denied_says_which_credentials_were_used(start_tarn, upstream, image, tmp_path):
    (tmp_path / "password").write_text("wrong")
    upstream.basic = ("robot", "right")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, "credentials": {
        "username": "robot", "password_file": str(tmp_path / "password")}}])
    reply = tarn.manifest("org/app", "1")
    is_error(reply, 403, "DENIED", "fake.test", "robot")
    assert "wrong" not in reply.message


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_service_that_refuses_is_403(tarn, upstream, image, status):
    upstream.tokens = TokenService(refuse=status)
    is_error(tarn.manifest("org/app", "1"), 403, "DENIED", "fake.test")


def test_a_token_service_that_fails_is_502(tarn, upstream, image):
    upstream.tokens = TokenService(refuse=500)
    is_error(tarn.manifest("org/app", "1"), 502, "UNAVAILABLE", "fake.test")


@pytest.mark.parametrize("path", ["manifests/1", f"blobs/{DIGEST}", "tags/list"])
def test_429_is_429_with_upstreams_retry_after(tarn, upstream, image, path):
    upstream.fault("/v2/", method=None, status=429, headers={"Retry-After": "77"},
                   body=oci_error("TOOMANYREQUESTS", "you have reached your limit"))
    reply = tarn.get(f"/v2/org/app/{path}")
    is_error(reply, 429, "TOOMANYREQUESTS", "fake.test", "you have reached your limit")
    assert 50 <= int(reply["Retry-After"]) <= 60  # then tarn asks again


def test_429_without_retry_after_gets_one_second(tarn, upstream, image):
    upstream.fault("/v2/", method=None, status=429)
    reply = tarn.manifest("org/app", "1")
    is_error(reply, 429, "TOOMANYREQUESTS", "fake.test")
    assert reply["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["manifests/1", f"blobs/{DIGEST}", "tags/list"])
@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_other_5xx_are_502(tarn, upstream, image, path, status):
    upstream.fault("/v2/", method=None, status=status)
    is_error(tarn.get(f"/v2/org/app/{path}"), 502, "UNAVAILABLE", "fake.test", str(status))


def test_odd_statuses_are_502(tarn, upstream, image):
    for status in (204, 300, 304, 400, 405, 418):
        upstream.fault("/v2/", method=None, status=status)
        assert tarn.manifest("org/app", "1").status == 502, status
        assert tarn.blob("org/app", DIGEST).status == 502, status
        upstream.heal()


@pytest.mark.parametrize("path", ["manifests/1", f"blobs/{DIGEST}", "tags/list"])
def test_a_refused_connection_is_502(tarn, upstream, image, path):
    upstream.refuse()
    is_error(tarn.get(f"/v2/org/app/{path}"), 502, "UNAVAILABLE", "fake.test")


@pytest.mark.parametrize("path", ["manifests/1", f"blobs/{DIGEST}"])
def test_a_reset_connection_is_502(tarn, upstream, image, path):
    upstream.fault("/v2/", method=None, reset=True)
    is_error(tarn.get(f"/v2/org/app/{path}"), 502, "UNAVAILABLE", "fake.test")


def test_a_host_that_does_not_exist_is_502(start_tarn):
    tarn = start_tarn([{"host": "gone.test", "url": "http://does-not-exist.invalid",
                        "default": True}])
    is_error(tarn.manifest("org/app", "1"), 502, "UNAVAILABLE", "gone.test")


def test_an_answer_that_is_no_http_is_502(start_tarn, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as nonsense:
        tarn = start_tarn([{"host": "fake.test", "default": True,
                            "url": f"http://127.0.0.1:{nonsense.getsockname()[1]}"}])

        def answer():
            nonsense.settimeout(1)
            try:
                while True:
                    connection, _ = nonsense.accept()
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
                    connection.close()
            except OSError:
                pass

        _, reply = at_once(answer, lambda: tarn.manifest("org/app", "1"))
    is_error(reply, 502, "UNAVAILABLE", "fake.test")


def test_a_redirect_without_end_is_502(tarn, upstream, image):
    upstream.fault("/v2/", status=302, headers={"Location": f"/v2/org/app/blobs/{DIGEST}"})
    is_error(tarn.blob("org/app", DIGEST), 502, "UNAVAILABLE", "fake.test")
    assert len(upstream.asked()) <= 24


@pytest.mark.parametrize("location", [None, "", "ftp://127.0.0.1/x", "file:///etc/passwd",
                                      "http://", "x" * 40000])
def test_a_redirect_to_nowhere_is_502(tarn, upstream, image, location):
    upstream.fault("/v2/", status=302,
                   headers={} if location is None else {"Location": location})
    reply = tarn.blob("org/app", DIGEST)
    assert reply.status in (502, 404), reply
    assert b"root:" not in reply.body


def test_no_first_byte_in_time_is_504(tarn, upstream, image):
    upstream.fault("/v2/", method=None, black_hole=True)
    paths = ("manifests/1", f"blobs/{DIGEST}", "tags/list")
    for reply in at_once(*[lambda path=path: tarn.get(f"/v2/org/app/{path}", timeout=26)
                           for path in paths]):
        is_error(reply, 504, "UNAVAILABLE", "fake.test")
        assert reply.seconds < 10


def test_no_connection_in_time_is_504(start_tarn):
    """A listener whose queue is full takes no further connection, and does not refuse it."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        tarn = start_tarn([{"host": "fake.test", "url": f"http://127.0.0.1:{address[1]}",
                            "default": True}])
        reply = tarn.manifest("org/app", "1", timeout=26)
        is_error(reply, 504, "UNAVAILABLE", "fake.test")
        for filler in fillers:
            filler.close()


@pytest.mark.slow
def test_504_comes_within_25_seconds_by_default(start_tarn, upstream):
    """Waits as long as containerd would; one test does."""
    upstream.fault("/v2/", method=None, black_hole=True)
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "connect_timeout": "5s", "stall_timeout": "10s",
                        "first_byte_timeout": "25s"}])
    reply = tarn.blob("org/app", DIGEST, timeout=29)
    is_error(reply, 504, "UNAVAILABLE", "fake.test")
    assert reply.seconds < 26


def test_a_fault_after_the_first_byte_ends_in_a_cut(tarn, upstream):
    big = noise(8 * MIB)
    upstream.image("org/app", [big], tag="1")
    upstream.fault("/blobs/", flip=len(big) - 1)
    with Download(f"{tarn.url}/v2/org/app/blobs/{digest_of(big)}") as download:
        assert download.status == 200
        assert download.read_what_comes(10), "was to be cut"
        assert len(download.body) < len(big)
        assert download.body == big[:len(download.body)]


def test_no_such_upstream_is_404(tarn, upstream):
    is_error(tarn.get("/v2/org/app/manifests/1?ns=unknown.test"), 404, "NAME_UNKNOWN",
             "unknown.test")
    assert upstream.connections == 0


def test_outside_the_allow_list_is_403(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "repositories": ["mine/**"]}])
    is_error(tarn.manifest("org/app", "1"), 403, "DENIED", "org/app")


def test_malformed_names_are_400(tarn, upstream):
    is_error(tarn.get("/v2/Org/app/manifests/1"), 400, "NAME_INVALID")
    is_error(tarn.get("/v2/org/app/manifests/-x"), 404, "MANIFEST_UNKNOWN", "no valid tag")
    is_error(tarn.get("/v2/org/app/blobs/sha256:xyz"), 400, "DIGEST_INVALID")
    assert upstream.connections == 0


def test_an_unsatisfiable_range_is_416(tarn, upstream, image):
    reply = tarn.blob("org/app", DIGEST, {"Range": "bytes=999999999-"})
    assert (reply.status, reply["Content-Range"]) == (416, f"bytes */{len(LAYER)}")


def test_referrers_of_an_upstream_without_them_are_empty(tarn, upstream, image):
    upstream.referrers_api = False
    reply = tarn.get(f"/v2/org/app/referrers/{image}")
    assert (reply.status, reply.json()["manifests"]) == (200, [])


def test_a_tls_hello_is_refused_in_clear(tarn):
    """Clients then know that the server speaks plain HTTP, and try again so."""
    with socket.create_connection(("127.0.0.1", tarn.port), timeout=20) as connection:
        connection.sendall(bytes.fromhex("16030100c8010000c40303") + bytes(190))
        reply = read_to_end(connection)
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in reply
    assert b"this port speaks plain HTTP" in reply


@pytest.mark.parametrize("method,path", [
    ("POST", "/v2/org/app/blobs/uploads/"),
    ("PUT", f"/v2/org/app/blobs/uploads/x?digest={DIGEST}"),
    ("PATCH", "/v2/org/app/blobs/uploads/x"),
    ("PUT", "/v2/org/app/manifests/1"),
    ("DELETE", "/v2/org/app/manifests/1"),
    ("DELETE", f"/v2/org/app/blobs/{DIGEST}"),
])
def test_writing_is_405(tarn, upstream, image, method, path):
    reply = tarn.get(path, method=method, body=b"" if method != "DELETE" else None)
    is_error(reply, 405, "UNSUPPORTED")
    assert upstream.connections == 0


def test_too_many_busy_connections_are_503(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_connections=8,
                      limits={"per_client": {"connections": "100%", "requests": "100%"}})
    held = upstream.fault("/blobs/", hold_after=1000)
    digest = upstream.repository("org/app").add_blob(noise(MIB, 7))
    busy = []
    for _ in range(8):
        busy.append(socket.create_connection(("127.0.0.1", tarn.port)))
        busy[-1].sendall(f"GET /v2/org/app/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        busy[-1].settimeout(30)
        assert busy[-1].recv(100).startswith(b"HTTP/1.1 200")
    reply = tarn.manifest("org/app", "1")
    is_error(reply, 503, "UNAVAILABLE")
    assert int(reply["Retry-After"]) >= 1
    held.gate.set()
    for connection in busy:
        connection.close()
    wait_until(lambda: tarn.manifest("org/app", "1").status == 200, "room for another")


def test_too_many_flights_are_503(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_flights=2)
    blobs = [upstream.repository("org/app").add_blob(noise(MIB, seed)) for seed in range(3)]
    held = upstream.fault("/blobs/", hold_after=100 * KIB)
    downloads = [tarn.download(f"/v2/org/app/blobs/{digest}") for digest in blobs[:2]]
    reply = tarn.blob("org/app", blobs[2])
    is_error(reply, 503, "UNAVAILABLE")
    assert int(reply["Retry-After"]) >= 1
    held.gate.set()
    for download in downloads:
        assert len(download.read(MIB)) == MIB
        download.close()
    wait_until(lambda: tarn.blob("org/app", blobs[2]).status == 200, "room for another flight")


def test_answers_carry_what_clients_look_for(tarn, upstream, image):
    reply = tarn.manifest("org/app", "1")
    assert reply["Docker-Content-Digest"] == image
    assert reply["Content-Length"] == str(len(reply.body))
    assert image in reply["ETag"]
    assert reply["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert reply.cache_status.startswith("tarn; ")
    head = tarn.manifest("org/app", "1", method="HEAD")
    for name in ("Docker-Content-Digest", "Content-Length", "Content-Type", "ETag"):
        assert head[name] == reply[name]


@pytest.mark.parametrize("media_type", [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.cncf.oras.artifact.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.something.new.v7+json",
])
def test_every_media_type_passes_untouched(tarn, upstream, media_type):
    content = manifest(b"{}", [], media_type)
    digest = upstream.repository("org/app").add_manifest(content, media_type, tag="1")
    for reference in ("1", digest, "1"):
        reply = tarn.manifest("org/app", reference)
        assert (reply["Content-Type"], reply.body) == (media_type, content)
        assert reply["Docker-Content-Digest"] == digest
    tarn.restart()
    assert tarn.manifest("org/app", digest)["Content-Type"] == media_type


def test_upstream_is_asked_for_every_kind_of_manifest(tarn, upstream, image):
    """The Accept field of one client must not decide what another client gets."""
    tarn.get("/v2/org/app/manifests/1",
             {"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
    accept = upstream.asked("/manifests/")[0].headers["accept"]
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2",
                 "distribution.manifest.v2"):
        assert kind in accept


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_reason_phrase_names_the_upstream_and_the_failure(tarn, upstream, image, method):
    """kubectl describe shows no more of an answer to HEAD than its status line."""
    def status_line(path):
        connection = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=30)
        connection.request(method, path)
        answer = connection.getresponse()
        connection.close()
        return f"{answer.status} {answer.reason}"

    upstream.fault("/v2/", method=None, status=500, body=oci_error("UNKNOWN", "\u0001\u00e9 x"))
    assert status_line("/v2/org/app/manifests/1") == "502 upstream fake.test: status 500"
    upstream.heal()
    upstream.refuse()
    for path in ("manifests/2", f"blobs/{DIGEST}"):
        assert status_line(f"/v2/org/app/{path}") == "502 upstream fake.test: no connection"
    assert status_line("/v2/") == "200 OK"


# ---- connections that died without a word


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_kept_connection_that_died_costs_a_stall_and_no_failure(start_tarn, upstream, method):
    """A firewall dropped it, or a load balancer forgot it: the request is asked again on a new one."""
    upstream.image("org/app", [b"one"], tag="1")
    upstream.image("org/app", [b"two"], tag="2")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}])
    assert tarn.manifest("org/app", "1").status == 200
    upstream.fault("/manifests/2", method=method, black_hole=True, times=1)
    reply = tarn.manifest("org/app", "2", method=method)
    assert reply.status == 200, reply
    assert len(upstream.asked("/manifests/2", method=method)) == 2
