"""What is counted of pushes, and the trace that upstream's write requests carry."""

import pytest

from kit.client import fetch
from kit.content import KIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.processes import wait_until
from kit.scripted_server import several
from kit.tokens import basic
from kit.writable_registry import WritableRegistry, refusal

ALICE = {"Authorization": basic("alice", "secret")}
CONTENT = noise(300 * KIB)
UPLOADS = "/v2/org/app/blobs/uploads/"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def registry():
    for make in several(WritableRegistry):
        one = make()
        one.repository("org/app").add_blob(b"{}")
        yield one


@pytest.fixture
def tarn(start_tarn, users, registry):
    return start_tarn([{"host": "push.test", "url": registry.url, "push": True, "default": True,
                        "delete": True, "push_patience": "2s"}],
                      clients={"htpasswd": str(users)})


def ask(tarn, method, path, body=None, headers=None):
    return fetch(tarn.url + path, {**ALICE, **(headers or {})}, method=method, body=body)


def push(tarn, content=CONTENT, headers=None):
    place = ask(tarn, "POST", UPLOADS, headers=headers)["Location"]
    sent = ask(tarn, "PATCH", place, content, headers)
    assert sent.status == 202, sent
    return ask(tarn, "PUT", f"{sent['Location']}&digest={digest_of(content)}", headers=headers)


def put(tarn, reference, document, headers=None):
    return ask(tarn, "PUT", f"/v2/org/app/manifests/{reference}", document,
               {"Content-Type": OCI_MANIFEST, **(headers or {})})


def counted(tarn, kind, outcome, number):
    """Waits, because a response is counted a moment after it was sent."""
    name = f'tarn_push_requests_total{{upstream="push.test",type="{kind}",outcome="{outcome}"}}'
    wait_until(lambda: tarn.metrics().get(name) == number, f"{name} to be {number}")


def test_pushes_are_counted(tarn, registry):
    document = manifest(b"{}", [CONTENT])
    assert push(tarn).status == 201 and put(tarn, "1", document).status == 201
    counted(tarn, "blob", "stored", 1)
    counted(tarn, "manifest", "stored", 1)
    metrics, label = tarn.metrics(), '{upstream="push.test"}'
    assert metrics["tarn_push_received_bytes_total" + label] == len(CONTENT) + len(document)
    assert metrics["tarn_push_sent_bytes_total" + label] == len(CONTENT) + len(document)
    assert metrics["tarn_push_mended_total" + label] == 0
    assert metrics["tarn_push_sessions"] == 0
    assert ask(tarn, "POST", f"{UPLOADS}?digest={digest_of(b'x')}", b"y").status == 400
    counted(tarn, "blob", "refused", 1)
    assert put(tarn, "1", b"[]").status == 400
    counted(tarn, "manifest", "refused", 1)
    registry.fail("POST", times=None, **refusal(503))
    assert ask(tarn, "POST", UPLOADS).status == 502
    counted(tarn, "blob", "failed", 1)
    registry.heal()
    ask(tarn, "POST", UPLOADS)
    assert tarn.metrics()["tarn_push_sessions"] == 1


def test_what_was_mended_is_counted(tarn, registry):
    registry.fail("PATCH", upload_reset_after=50000)
    retries = tarn.metrics()['tarn_upstream_retries_total{upstream="push.test"}']
    assert push(tarn).status == 201
    metrics = tarn.metrics()
    assert metrics['tarn_push_mended_total{upstream="push.test"}'] >= 1
    assert metrics['tarn_push_sent_bytes_total{upstream="push.test"}'] >= len(CONTENT)
    assert metrics['tarn_upstream_retries_total{upstream="push.test"}'] > retries


def test_refusals_before_a_push_are_none(tarn):
    assert fetch(tarn.url + UPLOADS, method="POST").status == 401
    assert not [name for name in tarn.metrics() if name.startswith("tarn_push_requests_total{")]


def test_upstreams_write_requests_carry_the_trace(tarn, registry):
    trace = {"traceparent": TRACE, "tracestate": "a=b"}
    document = manifest(b"{}", [CONTENT])
    assert push(tarn, headers=trace).status == 201 and put(tarn, "1", document, trace).status == 201
    ask(tarn, "DELETE", "/v2/org/app/manifests/1", headers=trace)
    asked = registry.asked("/v2/org")
    assert {request.method for request in asked} >= {"POST", "PATCH", "PUT", "DELETE"}
    for request in asked:
        assert request.headers.get("traceparent") == TRACE, request
        assert request.headers.get("tracestate") == "a=b", request


def test_without_a_trace_there_is_none(tarn, registry):
    assert push(tarn, headers={"traceparent": "none"}).status == 201
    assert not any("traceparent" in request.headers for request in registry.asked())
