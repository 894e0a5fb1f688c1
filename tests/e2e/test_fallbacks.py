"""
`fallbacks:` of an upstream. A fallback may hold a part of the registry, as mirror.gcr.io holds a
part of Docker Hub, so what it lacks says nothing about the registry.
"""

import pytest

from kit.content import KIB, digest_of, manifest, noise
from kit.processes import wait_until

LAYER = noise(KIB)
BUSY = {"status": 429, "headers": {"Retry-After": "1"}}
FAILURES = {"429": (BUSY, 429), "503": ({"status": 503}, 502), "500": ({"status": 500}, 502),
            "reset": ({"reset": True}, 502), "garbage": ({"status": 200, "body": b"<html>"}, 502)}
failing = pytest.mark.parametrize("fault,status", FAILURES.values(), ids=FAILURES.keys())
refusing = pytest.mark.parametrize("refusal", [404, 403, 401])


@pytest.fixture
def first(make_upstream):
    """The registry."""
    registry = make_upstream()
    registry.image("org/app", [LAYER], tag="1")
    return registry


@pytest.fixture
def mirror(make_upstream):
    """Holds nothing."""
    return make_upstream()


@pytest.fixture
def start(start_tarn, first, mirror):
    def start(**settings):
        return start_tarn([{"host": "fake.test", "url": first.url, "fallbacks": [mirror.url],
                            "default": True, "tag_ttl": "0", **settings}], negative_ttl="1m")
    return start


@refusing
@failing
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_cached_tag_stays_when_the_first_fails_and_the_mirror_has_none(
        start, first, mirror, fault, status, refusal, method):
    tarn = start()
    before = tarn.manifest("org/app", "1")
    assert before.status == 200
    mirror.fault(".", method=None, status=refusal)
    first.fault("/manifests/", method=None, **fault)
    stale = tarn.manifest("org/app", "1", method=method)
    assert (stale.status, stale["Docker-Content-Digest"]) == (200, before["Docker-Content-Digest"])
    assert "fwd=stale" in stale.cache_status
    first.heal()
    moved = first.repositories["org/app"].add_manifest(manifest(b"{}", [b"new"]), tag="1")
    wait_until(lambda: tarn.manifest("org/app", "1")["Docker-Content-Digest"] == moved,
               "the tag to be asked for again")


@refusing
@failing
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_cold_name_gets_the_status_of_the_first(start, first, mirror, fault, status, refusal,
                                                  method):
    tarn = start()
    mirror.fault(".", method=None, status=refusal)
    first.fault("/manifests/", method=None, **fault)
    if method == "HEAD" and "body" in fault:
        pytest.skip("a HEAD has no body")
    assert tarn.manifest("org/app", "1", method=method).status == status
    first.heal()
    wait_until(lambda: tarn.manifest("org/app", "1").status == 200,
               "the tag, which was not remembered as absent")


@pytest.mark.parametrize("what", ["tags/list", f"referrers/{digest_of(b'subject')}"])
@failing
def test_a_list_of_a_failing_registry_is_not_the_mirrors_404(start, first, mirror, fault, status,
                                                             what):
    tarn = start()
    first.fault("/tags/|/referrers/|/manifests/", method=None, **fault)
    assert tarn.get(f"/v2/org/app/{what}").status == status
    first.heal()
    wait_until(lambda: tarn.get(f"/v2/org/app/{what}").status == 200, "the list")


@refusing
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_of_a_failing_registry_is_not_absent(start, first, mirror, refusal, method):
    tarn = start()
    path = f"/v2/org/app/blobs/{digest_of(LAYER)}"
    mirror.fault(".", method=None, status=refusal)
    first.fault("/blobs/", method=None, status=503)
    assert tarn.get(path).status == 502
    assert tarn.head(path).status == 502
    first.heal()
    wait_until(lambda: tarn.get(path).body == LAYER, "the blob")


def test_a_second_mirror_is_asked_for_what_the_first_mirror_lacks(start_tarn, first, mirror,
                                                                  make_upstream):
    second = make_upstream()
    second.image("org/app", [LAYER], tag="1")
    first.refuse()
    tarn = start_tarn([{"host": "fake.test", "url": first.url, "default": True,
                        "fallbacks": [mirror.url, second.url]}])
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", digest_of(LAYER)).body == LAYER
    assert mirror.asked("/manifests/") and mirror.asked("/blobs/")


def test_a_404_of_the_registry_itself_is_final(start, first, mirror):
    tarn = start()
    mirror.image("org/app", [LAYER], tag="2")
    assert tarn.manifest("org/app", "2").status == 404
    assert mirror.asked() == []
