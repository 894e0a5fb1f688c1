"""link_ttl: after a time, upstream confirms that a repository's readers may have what is cached."""

import os

import pytest

from kit.content import KIB, digest_of, noise
from kit.processes import wait_until

LAYER = noise(30 * KIB, "linked")
DIGEST = digest_of(LAYER)
DENIED = {"status": 403, "body": b'{"errors":[{"code":"DENIED","message":"no more"}]}'}
KINDS = ("tag", "manifest", "manifest HEAD", "blob", "blob HEAD")


@pytest.fixture
def pulled(start_tarn, upstream):
    """A tarn through which the image of org/app was pulled."""
    def start(**settings):
        upstream.image("org/app", [LAYER], tag="1")
        tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                            "tag_ttl": "1h", **settings}])
        tarn.digest = tarn.manifest("org/app", "1")["Docker-Content-Digest"]
        for kind in KINDS:
            assert ask(tarn, kind).status == 200
        tarn.wait_cached("org/app", DIGEST)
        upstream.forget_requests()
        return tarn
    return start


def ask(tarn, kind):
    what, _, method = kind.partition(" ")
    if what == "blob":
        return (tarn.head if method else tarn.get)(f"/v2/org/app/blobs/{DIGEST}")
    return tarn.manifest("org/app", "1" if what == "tag" else tarn.digest, method=method or "GET")


def links(tarn):
    return [path for path in (tarn.root / "repositories").rglob("*")
            if path.is_file() and path.parent.name == "sha256"]


def expire(tarn, hours=2):
    """Restarts tarn, so many hours after upstream has confirmed its links."""
    tarn.stop()
    found = links(tarn)
    assert found
    for path in found:
        then = path.stat().st_mtime - hours * 3600
        os.utime(path, (then, then))
    tarn.start()


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_nothing_is_asked_again(pulled, upstream, kind):
    tarn = pulled()
    upstream.fault(".", method=None, **DENIED)
    expire(tarn, hours=10000)
    reply = ask(tarn, kind)
    assert reply.status == 200
    assert not [request for request in upstream.asked() if "/1" not in request.path]


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_is_confirmed_once(pulled, upstream, kind):
    tarn = pulled(link_ttl="1h")
    expire(tarn, hours=0)
    assert ask(tarn, kind).cache_status.startswith("tarn; hit")
    assert upstream.asked() == []
    expire(tarn)
    for _ in range(3):
        reply = ask(tarn, kind)
        assert (reply.status, reply.complete) == (200, True)
        assert reply.cache_status.startswith("tarn; hit")
    assert [request.method for request in upstream.asked()] == ["HEAD"]
    expire(tarn, hours=0)  # the confirmation survives a restart
    upstream.forget_requests()
    assert ask(tarn, kind).status == 200
    assert upstream.asked() == []


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_ends_it(pulled, upstream, kind, status):
    tarn = pulled(link_ttl="1h")
    expire(tarn)
    upstream.fault(".", method=None, **{**DENIED, "status": status})
    for _ in range(2):
        assert ask(tarn, kind).status == (404 if status == 404 else 403)
    # It is gone for good: that upstream fails changes nothing.
    upstream.heal()
    upstream.fault(".", method=None, status=500)
    assert ask(tarn, kind).status != 200
    expire(tarn, hours=0)
    assert ask(tarn, kind).status != 200
    upstream.heal()
    assert ask(tarn, kind).status == 200


def test_a_refusal_is_for_one_repository(start_tarn, upstream):
    for name in ("org/app", "org/other"):
        upstream.image(name, [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "link_ttl": "1h"}])
    for name in ("org/app", "org/other"):
        assert tarn.manifest(name, "1").status == 200
        assert tarn.blob(name, DIGEST).body == LAYER
        tarn.wait_cached(name, DIGEST)
    expire(tarn)
    upstream.fault("/org/app/", method=None, **DENIED)
    assert tarn.blob("org/app", DIGEST).status == 403
    assert tarn.blob("org/other", DIGEST).body == LAYER
    assert tarn.blob("org/app", DIGEST).status == 403


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 403, "body": b"<html>portal</html>"},
                                   {"status": 404, "body": b"default backend - 404"},
                                   {"drop": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_while_upstream_fails_it_is_served_stale(pulled, upstream, kind, fault):
    tarn = pulled(link_ttl="1h", first_byte_timeout="3s")
    expire(tarn)
    upstream.fault(".", method=None, **fault)
    for _ in range(2):
        reply = ask(tarn, kind)
        assert reply.status == 200
        assert "stale" in reply.cache_status, reply
        if kind == "blob":
            assert reply.body == LAYER
    upstream.heal()
    # An upstream that did not respond is left alone for a moment.
    wait_until(lambda: ask(tarn, kind).cache_status.startswith("tarn; hit"), "it is confirmed")


def test_a_registry_that_refuses_every_head_confirms_by_get(pulled, upstream):
    tarn = pulled(link_ttl="1h")
    for status in (405, 403, 404):
        expire(tarn)
        upstream.forget_requests()
        upstream.fault(".", method="HEAD", **{**DENIED, "status": status})
        for kind in ("manifest", "blob"):
            assert ask(tarn, kind).status == 200
        assert upstream.blob_bytes() <= 1
        upstream.heal()
